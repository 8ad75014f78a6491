//! Development tasks, run as `cargo xtask TASK`: build the CLI and hand over to it, run every check, check a GPU, make the golden
//! fixtures anew.
//!
//! Depends on nothing of this workspace and not on Burn, so that it builds in seconds on a clean clone.

mod args;
mod bench;
mod checks;
mod dataset;
mod device_check;
mod goldens;
mod handover;
mod proc;

use std::process::ExitCode;

use args::Task;

const HELP: &str = include_str!("help.txt");

fn main() -> ExitCode {
    let done = args::parse(std::env::args_os().skip(1)).and_then(|task| match task {
        Task::Help => {
            print!("{HELP}");
            Ok(ExitCode::SUCCESS)
        }
        Task::Run(run) => handover::run(&run),
        Task::Test(test) => checks::run(&test),
        Task::Dataset { name } => dataset::run(&name),
        Task::DeviceCheck(check) => device_check::run(&check).map(|()| ExitCode::SUCCESS),
        Task::Bench(bench) => bench::run(&bench).map(|()| ExitCode::SUCCESS),
        Task::Goldens { python } => goldens::run(&python).map(|()| ExitCode::SUCCESS),
    });
    done.unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::FAILURE
    })
}
