//! The binary `rekindle`: arguments, printing, exit codes. Logic lives in the libraries.
//!
//! Exit codes: 0 done, 1 a mistake in the input, 2 a fault of ours, 130 stopped by Ctrl-C, 143 by
//! SIGTERM, 129 by SIGHUP.
#![recursion_limit = "256"]
// They panic where nothing can be written.
#![deny(clippy::print_stdout, clippy::print_stderr)]

mod commands;
mod looked;
mod memory;
mod output;
mod printer;
mod signals;
mod table;
mod target;
mod terminal;
mod version;

use clap::{CommandFactory, FromArgMatches};
use output::OutputError;
use std::process::ExitCode;

fn main() -> ExitCode {
    memory::keep_pages();
    report_panics();
    let mut command = commands::Arguments::command()
        .color(terminal::asked_colours(std::env::args_os()))
        .styles(terminal::STYLES);
    let parsed = command
        .try_get_matches_from_mut(std::env::args_os())
        .and_then(|found| commands::Arguments::from_arg_matches(&found))
        .map_err(|error| error.format(&mut command));
    let arguments = match parsed {
        Ok(arguments) => arguments,
        // The first of several processes has the same arguments, says it for all and fails for all. A launcher ends all once one
        // fails: this one must not, or nothing may be said.
        Err(_) if commands::follows(std::env::args_os()) => return ExitCode::SUCCESS,
        Err(said) => {
            // Help and the version are no mistakes, and go to standard output.
            return match said.print().map_err(OutputError::from) {
                _ if said.use_stderr() => ExitCode::from(1),
                Err(error) => failed(&error.into()),
                Ok(()) => ExitCode::SUCCESS,
            };
        }
    };
    match commands::run(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failed(&error),
    }
}

/// Says what went wrong, for an exit code. Whoever closed the pipe that we write to is told nothing.
fn failed(error: &anyhow::Error) -> ExitCode {
    if let Some(OutputError::Closed) = error.downcast_ref() {
        return ExitCode::SUCCESS;
    }
    printer::error(error);
    ExitCode::from(commands::exit_code(error))
}

/// A panic is a fault of ours, whatever thread it comes from.
fn report_panics() {
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        hook(info);
        printer::to_stderr(
            "internal error\nhint: this is a bug; please report it with the command and the message above",
        );
        std::process::exit(2);
    }));
}
