//! `rekindle completions`

use super::Arguments;
use crate::output;
use clap::{Args, CommandFactory};
use clap_complete::Shell;

/// Print a script that completes commands and options in your shell.
#[derive(Args)]
#[command(
    after_help = "Examples:\n  rekindle completions bash > ~/.local/share/bash-completion/completions/rekindle\n  rekindle completions fish > ~/.config/fish/completions/rekindle.fish"
)]
pub struct Completions {
    /// The shell
    shell: Shell,
}

impl Completions {
    pub fn run(self) -> anyhow::Result<()> {
        let mut script = Vec::new();
        clap_complete::generate(
            self.shell,
            &mut Arguments::command(),
            "rekindle",
            &mut script,
        );
        Ok(output::raw(&script)?)
    }
}
