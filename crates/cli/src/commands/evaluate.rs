//! `rekindle evaluate`

use super::{Columns, configuration};
use crate::{
    output,
    printer::{Printer, mistakes},
};
use clap::Args;
use rekindle::{Predictor, config::Override};
use std::path::PathBuf;

/// Score a tuned model on a labelled file, or an image model on a folder.
#[derive(Args)]
pub struct Evaluate {
    /// Run directory, model or adapter directory, or Hugging Face name
    model: PathBuf,
    /// Labelled file (CSV, TSV, JSONL, Parquet), or a folder with a folder of pictures for each label
    data: PathBuf,
    #[command(flatten)]
    columns: Columns,
    /// cpu, wgpu, cuda or cuda:N
    #[arg(long)]
    device: Option<String>,
    /// Show so many of the worst mistakes
    #[arg(long, default_value_t = 5, value_name = "N")]
    mistakes: usize,
    /// Print all figures as JSON
    #[arg(long)]
    json: bool,
    /// Any setting of the sections data and eval, as section.key=value
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
}

impl Evaluate {
    pub fn run(self) -> anyhow::Result<()> {
        let mut flags = self.columns.overrides();
        flags.extend(
            self.device
                .as_ref()
                .map(|name| Override::flag("--device", "device", name)),
        );
        flags.push(Override::flag(
            "--mistakes",
            "report.mistakes",
            &self.mistakes.to_string(),
        ));
        let config = configuration(None, flags, &self.set)?;
        let printer = Printer::new();
        let predictor = Predictor::open(&self.model, config.device, &printer)?;
        let evaluated = predictor.evaluate(&self.data, &config, &printer)?;
        printer.clear();
        if self.json {
            let json = serde_json::to_string_pretty(&evaluated.figures.to_json())?;
            output::print(format_args!("{json}\n"))?;
        } else {
            let (figures, mistakes) = (evaluated.figures.text(), mistakes(&evaluated.mistakes));
            output::print(format_args!("{figures}{mistakes}"))?;
        }
        Ok(())
    }
}
