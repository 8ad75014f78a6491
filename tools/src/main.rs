//! `rekindle-tools dataset NAME`: make a dataset, unless it lies there already, and print its directories.

use std::process::ExitCode;

use anyhow::{Result, bail};
use rekindle_hub::{Hub, Progress};

/// Says on standard error what is fetched.
struct Lines;

impl Progress for Lines {
    fn start(&self, what: &str, _total: Option<u64>) {
        eprintln!("fetching {what}");
    }
    fn advance(&self, _what: &str, _bytes: u64) {}
    fn finish(&self, _what: &str) {}
    fn note(&self, message: &str) {
        eprintln!("{message}");
    }
}

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match run(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &[String]) -> Result<()> {
    let [verb, name] = args else {
        bail!("expected `dataset NAME`\nhint: `cargo xtask dataset icons`");
    };
    if verb != "dataset" {
        bail!("unknown verb `{verb}`; expected `dataset NAME`");
    }
    for (split, dir) in rekindle_tools::make(&Hub::from_env(), name, &Lines)? {
        println!("{split}\t{}", dir.display());
    }
    Ok(())
}
