//! `rekindle lr-find`

use super::run_args::RunArgs;
use crate::{
    output,
    printer::Printer,
    target::{self, Form},
};
use clap::Args;
use rekindle::Rates;
use std::{fmt::Write as _, path::PathBuf};

/// Find a learning rate: it rises from step to step, and the loss tells which rates work.
///
/// Takes what `finetune` takes. The model learns on its own examples for --steps steps, and nothing of it is kept.
#[derive(Args)]
#[command(
    after_help = "Examples:\n  rekindle lr-find tickets.csv\n  rekindle lr-find photos --method full --html rates.html"
)]
pub struct LrFind {
    #[command(flatten)]
    run: RunArgs,
    /// Steps, one rate each
    #[arg(long, value_name = "N", default_value_t = 100)]
    steps: usize,
    /// Write the curve as a page too
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Print the curve and the rate as JSON
    #[arg(long)]
    json: bool,
}

impl LrFind {
    pub fn run(mut self) -> anyhow::Result<()> {
        let printer = Printer::new();
        if let Some(path) = &self.html {
            target::check(path, Form::Page, &[])?;
        }
        let config = self.run.configuration(&printer)?;
        let rates = rekindle::find_rate(&config, self.steps, &printer)?;
        printer.clear();
        if let Some(path) = &self.html {
            rekindle::write_rates_page(&rates, path)?;
        }
        if self.json {
            return output::json(&rates);
        }
        Ok(output::print(shown(&rates))?)
    }
}

/// The curve, and what follows from it.
fn shown(rates: &Rates) -> String {
    let mut out = rates.chart();
    // Writing to a string does not fail.
    let _ = match rates.suggested {
        Some(rate) => writeln!(out, "suggested   --lr {rate:e}"),
        None => writeln!(
            out,
            "suggested   none: the loss never fell; more --steps or a larger --batch-size may tell more"
        ),
    };
    let _ = writeln!(out, "configured  {:e}", rates.configured);
    if let Some(astray) = rates.astray {
        let _ = writeln!(
            out,
            "too high    from {astray:.1e} on the loss is more than three times its least"
        );
    }
    out
}
