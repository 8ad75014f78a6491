//! `rekindle finetune`

use super::{overrides, run_args::RunArgs};
use crate::{
    output,
    printer::{self, Printer, finished},
};
use clap::Args;
use rekindle::{Collective, Error, Occupied, RunConfig, config::Override};
use std::path::PathBuf;

/// Tune a model on your examples; without any, MiniLM on the intents dataset.
///
/// Settings come from the run file, then from the flags, then from --set. Where no argument says what to tune on, the run file
/// is ./rekindle.toml, if it is there.
#[derive(Args)]
#[command(
    after_help = "Examples:\n  rekindle finetune tickets.csv\n  rekindle finetune chats.jsonl --model smollm2 --epochs 2\n  rekindle finetune photos --method head\n  rekindle finetune --resume runs/minilm-tickets --epochs 10"
)]
pub struct Finetune {
    #[command(flatten)]
    run: RunArgs,
    /// Continue a run from its newest checkpoint; with --epochs (or --set train.epochs=N, train.max_steps=N) train it longer
    /// than it was meant to be, also if it is finished
    #[arg(long, value_name = "RUN", conflicts_with_all = ["data", "config", "task", "model", "dataset", "train", "validation", "test", "text", "text_pair", "label", "method", "lr", "batch_size", "seed", "output", "device", "dry_run", "force"])]
    resume: Option<PathBuf>,
    /// Print the plan and stop
    #[arg(long)]
    dry_run: bool,
    /// Replace a run in the output directory that was never finished
    #[arg(long)]
    force: bool,
    /// Print the run's directory and figures as JSON at the end; with --dry-run, the plan
    #[arg(long)]
    json: bool,
}

impl Finetune {
    /// Runs in every process that a launcher started: the first prints and writes, the others do their part of the training.
    pub fn run(self) -> anyhow::Result<()> {
        let processes = rekindle_mpi::join()?;
        let done = self.run_in(&processes);
        match &done {
            // Other processes may be waiting for this one, which cannot go on.
            Err(error) if !processes.is_alone() && !is_orderly(error) => {
                printer::error_of(processes.rank(), error);
                let code = super::exit_code(error).into();
                processes.abort(code);
                std::process::exit(code);
            }
            _ => {}
        }
        done
    }

    fn run_in(mut self, processes: &Collective) -> anyhow::Result<()> {
        let printer = Printer::new();
        let run = match &self.resume {
            Some(dir) => {
                printer.stop_on_signals()?;
                let longer = self.longer();
                match rekindle::resume_together(dir, &longer, &printer, processes)? {
                    Some(run) => run,
                    None if self.json && processes.leads() => {
                        return output::json(&rekindle::results(dir)?);
                    }
                    None => return Ok(()),
                }
            }
            None => {
                // Until the settings are known there is nothing to save: a signal ends the program at once.
                let config = processes.agree(self.run.configuration(&printer))?;
                printer.stop_on_signals()?;
                if self.dry_run {
                    return match processes.leads() {
                        true => self.plan(&config, &printer),
                        false => Ok(()),
                    };
                }
                let occupied = match self.force {
                    true => Occupied::ReplaceUnfinished,
                    false => Occupied::Refuse,
                };
                match rekindle::finetune_together(&config, occupied, &printer, processes)? {
                    Some(run) => run,
                    None => return Ok(()),
                }
            }
        };
        printer.clear();
        if self.json {
            return output::json(&rekindle::results(&run.dir)?);
        }
        Ok(output::print(finished(&run))?)
    }

    /// The plan alone, made and measured in one process.
    fn plan(&self, config: &RunConfig, printer: &Printer) -> anyhow::Result<()> {
        rekindle::plan(config, printer)?;
        printer.say("dry run: nothing was written");
        match printer.known_plan() {
            Some(plan) if self.json => output::json(&plan),
            // Who wants nothing but the result gets the plan.
            Some(plan) if printer.is_quiet() => Ok(output::print(plan)?),
            _ => Ok(()),
        }
    }

    /// What a resumed run is to be longer by.
    fn longer(&self) -> Vec<Override> {
        let epochs = self.run.epochs.iter();
        let epochs = epochs.map(|epochs| Override::flag("--epochs", "train.epochs", epochs));
        overrides(epochs.collect(), &self.run.set)
    }
}

/// Whether all processes end alike: they were asked to stop, or another one says why.
fn is_orderly(error: &anyhow::Error) -> bool {
    matches!(error.downcast_ref(), Some(Error::Interrupted { .. }))
        || printer::is_told_elsewhere(error)
}
