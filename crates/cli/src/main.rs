//! The binary `rekindle`: arguments, printing, exit codes. Logic lives in the libraries.
//!
//! Exit codes: 0 done, 1 a mistake in the input, 2 a fault of ours, 130 stopped by Ctrl-C, SIGTERM or SIGHUP.
#![recursion_limit = "256"]

mod commands;
mod memory;
mod printer;
mod signals;

use clap::Parser;
use std::process::ExitCode;

fn main() -> ExitCode {
    memory::keep_pages();
    restore_pipe();
    let arguments = match commands::Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(said) => {
            // Help and the version are no mistakes; a closed pipe cannot be told of either.
            let _ = said.print();
            return ExitCode::from(u8::from(said.use_stderr()));
        }
    };
    match commands::run(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            printer::error(&error);
            ExitCode::from(commands::exit_code(&error))
        }
    }
}

/// A closed pipe (`rekindle predict ... | head`) ends the program quietly instead of with a panic message.
fn restore_pipe() {
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        let text = info
            .payload()
            .downcast_ref::<String>()
            .map(String::as_str)
            .unwrap_or_default();
        if text.contains("Broken pipe") {
            std::process::exit(0);
        }
        hook(info);
        eprintln!(
            "internal error\nhint: this is a bug; please report it with the command and the message above"
        );
        std::process::exit(2);
    }));
}
