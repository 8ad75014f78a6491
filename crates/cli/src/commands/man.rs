//! `rekindle man`

use super::Arguments;
use crate::output;
use clap::{Args, Command, CommandFactory};
use clap_mangen::Man as Page;
use std::path::PathBuf;

/// Print the manual, in the format of man pages.
#[derive(Args)]
#[command(
    after_help = "Examples:\n  rekindle man | man -l -\n  rekindle man --to ~/.local/share/man/man1"
)]
pub struct Man {
    /// Write a page for the program and one for each verb into this directory instead
    #[arg(long, value_name = "DIR")]
    to: Option<PathBuf>,
}

impl Man {
    pub fn run(self) -> anyhow::Result<()> {
        let mut program = Arguments::command();
        program.build();
        let mut all = Vec::new();
        for page in pages(&program, program.get_name()) {
            let text = rendered(page.clone())?;
            match &self.to {
                None => all.extend(text),
                Some(dir) => {
                    let failed = |path: &std::path::Path| {
                        let path = path.to_owned();
                        move |source| rekindle::Error::Io { path, source }
                    };
                    std::fs::create_dir_all(dir).map_err(failed(dir))?;
                    let path = dir.join(format!("{}.1", page.get_name()));
                    std::fs::write(&path, text).map_err(failed(&path))?;
                    output::print(format_args!("{}\n", path.display()))?;
                }
            }
        }
        Ok(output::raw(&all)?)
    }
}

/// The program under its name, then each verb under its whole name. Names live as long as the program, as clap wants them.
fn pages(program: &Command, name: &str) -> Vec<Command> {
    let verbs = program
        .get_subcommands()
        .filter(|verb| verb.get_name() != "help");
    let of_verbs = verbs.flat_map(|verb| pages(verb, &format!("{name}-{}", verb.get_name())));
    std::iter::once(program.clone().name(name.to_owned().leak() as &str))
        .chain(of_verbs)
        .collect()
}

fn rendered(command: Command) -> std::io::Result<Vec<u8>> {
    let mut text = Vec::new();
    Page::new(command).render(&mut text)?;
    Ok(text)
}
