//! `rekindle evaluate`

use super::{Columns, device, overrides};
use crate::{
    output,
    printer::{Printer, mistakes, worst_answers},
    target::{self, Form},
};
use anyhow::bail;
use clap::Args;
use rekindle::{Error, Observer, Predictor, Shots, config::Override};
use serde_json::{Map, Value};
use std::{
    io::Write,
    path::{Path, PathBuf},
};

/// Score a tuned model on a labelled file, or an image model on a folder.
///
/// The settings that the run had of reading and cutting texts hold here too, unless --set says otherwise.
/// A language model also answers prompts of the file (eval.answers of them) and its answers are compared with the right ones.
#[derive(Args)]
#[command(
    after_help = "Examples:\n  rekindle evaluate runs/minilm-tickets test.csv\n  rekindle evaluate runs/minilm-tickets test.csv --predictions predictions.jsonl\n  rekindle evaluate runs/smollm2-chats test.jsonl --set eval.answers=all\n  rekindle evaluate smollm2 test.jsonl --shots 5 --shots-from train.jsonl"
)]
pub struct Evaluate {
    /// Run directory, model or adapter directory, or Hugging Face name
    model: PathBuf,
    /// Labelled file (CSV, TSV, JSONL, Parquet), or a folder with a folder of pictures for each label
    data: PathBuf,
    #[command(flatten)]
    columns: Columns,
    /// auto, cpu, wgpu, wgpu:N, cuda or cuda:N
    #[arg(long)]
    device: Option<String>,
    /// Show so many of the worst mistakes
    #[arg(long, default_value_t = 5, value_name = "N")]
    mistakes: usize,
    /// Write a line of JSON for each example: its text or file, label, prediction, probabilities and loss
    #[arg(long, value_name = "FILE")]
    predictions: Option<PathBuf>,
    /// Print all figures as JSON
    #[arg(long)]
    json: bool,
    /// Of a language model: show so many conversations of --shots-from before each prompt
    #[arg(long, value_name = "N", requires = "shots_from")]
    shots: Option<usize>,
    /// File of conversations to draw --shots from
    #[arg(long, value_name = "FILE", requires = "shots")]
    shots_from: Option<PathBuf>,
    /// A setting of how data is read or of the section eval, as section.key=value
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
}

impl Evaluate {
    pub fn run(self) -> anyhow::Result<()> {
        let printer = Printer::new();
        if let Some(file) = &self.predictions {
            if file.as_os_str() == "-" {
                bail!("--predictions - : the figures go to standard output\nhint: name a file");
            }
            target::check(file, Form::Answers, &[&self.data, &self.model])?;
        }
        let device = device(self.device.as_ref())?;
        let mut predictor = Predictor::open(&self.model, device, &printer)?;
        let mut flags = self.columns.overrides();
        flags.push(Override::flag(
            "--mistakes",
            "report.mistakes",
            &self.mistakes.to_string(),
        ));
        let config = predictor.configure(&overrides(flags, &self.set))?;
        let shots = self.shots.zip(self.shots_from);
        let shots = shots.map(|(count, from)| Shots { count, from });
        let evaluated = match (&self.predictions, &shots) {
            (Some(_), shots) => {
                predictor.evaluate_each(&self.data, shots.as_ref(), &config, &printer)?
            }
            (None, Some(shots)) => {
                predictor.evaluate_few_shot(&self.data, shots, &config, &printer)?
            }
            (None, None) => predictor.evaluate(&self.data, &config, &printer)?,
        };
        printer.clear();
        if let Some(file) = &self.predictions {
            write_lines(file, &evaluated.predictions)?;
            let examples = evaluated.predictions.len();
            printer.note(&format!("wrote {examples} lines to {}", file.display()));
        }
        if self.json {
            output::json(&evaluated.figures.to_json())?;
        } else {
            let (figures, mistakes) = (evaluated.figures.text(), mistakes(&evaluated.mistakes));
            let answers = worst_answers(&evaluated.worst_answers);
            output::print(format_args!("{figures}{mistakes}{answers}"))?;
        }
        Ok(())
    }
}

/// A line of JSON for each object, the file whole or absent.
fn write_lines(file: &Path, objects: &[Map<String, Value>]) -> Result<(), Error> {
    let written = rekindle::write_atomically_with(file, |out| {
        for object in objects {
            serde_json::to_writer(&mut *out, object)?;
            out.write_all(b"\n")?;
        }
        Ok(())
    });
    written.map_err(|source| Error::Io {
        path: file.to_owned(),
        source,
    })
}
