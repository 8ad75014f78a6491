//! Builds `rekindle` in release with the chosen backend, and becomes it.

use std::ffi::OsString;
use std::path::Path;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result};

use crate::args::Run;
use crate::dataset;
use crate::proc::build;

/// Makes the datasets that the arguments name and a tool makes, builds, then hands over: arguments, working directory, standard streams, signals and exit status are `rekindle`'s.
pub fn run(run: &Run) -> Result<ExitCode> {
    dataset::make_named_in(&run.args)?;
    let features = [
        "--no-default-features",
        "--features",
        run.backend.features(),
    ];
    let program = build(&["rekindle-cli"], &features)?;
    hand_over(&program, &run.args)
}

/// Replaces this process, so that Ctrl-C and every other signal reach `rekindle` itself.
#[cfg(unix)]
fn hand_over(program: &Path, args: &[OsString]) -> Result<ExitCode> {
    use std::os::unix::process::CommandExt;

    let error = Command::new(program).args(args).exec();
    Err(error).with_context(|| format!("cannot start {}", program.display()))
}

/// Runs the program and passes its exit status on. A console sends Ctrl-C to every process in it, the child included.
#[cfg(not(unix))]
fn hand_over(program: &Path, args: &[OsString]) -> Result<ExitCode> {
    let status = Command::new(program).args(args).status();
    let status = status.with_context(|| format!("cannot start {}", program.display()))?;
    Ok(status
        .code()
        .and_then(|code| u8::try_from(code).ok())
        .map_or(ExitCode::FAILURE, ExitCode::from))
}
