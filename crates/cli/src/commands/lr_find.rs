//! `rekindle lr-find`

use super::run_args::RunArgs;
use crate::{
    chart::{Curve, chart},
    output,
    printer::Printer,
};
use clap::Args;
use rekindle::Rates;
use std::{fmt::Write as _, path::PathBuf};

/// Find a learning rate: it rises from step to step, and the loss tells which rates teach.
///
/// Takes what `finetune` takes. The model learns on its own examples for so many steps, and nothing of it is kept.
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
    pub fn run(self) -> anyhow::Result<()> {
        let printer = Printer::new();
        let config = self.run.configuration(&printer)?;
        let rates = rekindle::find_rate(&config, self.steps, &printer)?;
        printer.clear();
        if let Some(path) = &self.html {
            rekindle::write_rates_page(&rates, path)?;
        }
        if self.json {
            let json = serde_json::to_string_pretty(&rates)?;
            return Ok(output::print(format_args!("{json}\n"))?);
        }
        Ok(output::print(shown(&rates))?)
    }
}

/// The curve over the logarithm of the rate, and what follows from it.
fn shown(rates: &Rates) -> String {
    let points = rates.points.iter();
    let curve = Curve {
        name: "loss".into(),
        points: points.map(|point| (point.rate.log10(), point.loss)).collect(),
    };
    let mut out = chart(&[curve], &|x| format!("1e{x:.0}"));
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
        let _ = writeln!(out, "astray      from {astray:.1e} on the loss rises past three times its least");
    }
    out
}
