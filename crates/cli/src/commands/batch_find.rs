//! `rekindle batch-find`

use super::run_args::RunArgs;
use crate::{output, printer::Printer};
use anyhow::{Context, bail};
use clap::Args;
use rekindle::{BatchFound, Modality, words};
use std::fmt::Write as _;

/// Find the largest batch that fits into memory, by real steps on the longest examples.
///
/// Takes what `finetune` takes. Nothing is written.
#[derive(Args)]
#[command(
    after_help = "Examples:\n  rekindle batch-find tickets.csv --memory 2GB\n  rekindle batch-find chats.jsonl --model smollm2 --method full"
)]
pub struct BatchFind {
    #[command(flatten)]
    run: RunArgs,
    /// Memory for the whole process, such as 4GB or 800MB; by default nine tenths of what is free
    #[arg(long, value_name = "SIZE")]
    memory: Option<String>,
    /// Print what was found as JSON
    #[arg(long)]
    json: bool,
}

impl BatchFind {
    pub fn run(mut self) -> anyhow::Result<()> {
        let printer = Printer::new();
        let budget = self.memory.as_deref().map(size).transpose()?;
        let config = self.run.configuration(&printer)?;
        let found = rekindle::find_batch(&config, budget, &printer)?;
        printer.clear();
        if self.json {
            return output::json(&found);
        }
        if found.batch_size == 0 {
            let less = match config.task.modality() {
                Modality::Text => {
                    "a smaller data.max_length, --method lora, or --set train.gradient_checkpointing=true"
                }
                Modality::Images => "a smaller images.size, or --method head,",
            };
            bail!(
                "a step on one example takes {}, more than {}\nhint: {less} take less",
                words::bytes(found.tried.last().map_or(0, |tried| tried.bytes)),
                words::bytes(found.budget)
            );
        }
        Ok(output::print(shown(&found))?)
    }
}

fn shown(found: &BatchFound) -> String {
    let mut out = String::new();
    for tried in &found.tried {
        // Writing to a string does not fail.
        let _ = writeln!(
            out,
            "  {:>6}  {:>9}",
            tried.batch_size,
            words::bytes(tried.bytes)
        );
    }
    let _ = writeln!(
        out,
        "largest     --batch-size {} within {}{}",
        found.batch_size,
        words::bytes(found.budget),
        if found.all_examples {
            ", all examples there are"
        } else {
            ""
        }
    );
    let _ = writeln!(out, "configured  {}", found.configured);
    if found.batch_size < found.configured {
        let windows = found.configured.div_ceil(found.batch_size);
        let _ = writeln!(
            out,
            "the same    --batch-size {} --set train.gradient_accumulation_steps={windows}",
            found.configured.div_ceil(windows)
        );
    }
    out
}

/// A size with its unit, in bytes.
fn size(text: &str) -> anyhow::Result<u64> {
    let trimmed = text.trim().to_ascii_uppercase();
    let digits = trimmed
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(trimmed.len());
    let (number, unit) = trimmed.split_at(digits);
    let scale = match unit.trim() {
        "GB" | "G" => 1e9,
        "GIB" => f64::from(1 << 30),
        "MB" | "M" => 1e6,
        "MIB" => f64::from(1 << 20),
        _ => bail!("--memory is `{text}`, expected a size such as 4GB or 800MB"),
    };
    let number: f64 = number
        .parse()
        .with_context(|| format!("--memory is `{text}`, expected a size such as 4GB or 800MB"))?;
    Ok((number * scale) as u64)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use rekindle::BatchPoint;

    #[test]
    fn sizes_have_units() {
        for (text, expected) in [
            ("4GB", 4_000_000_000),
            ("800 mb", 800_000_000),
            ("1.5GiB", 1_610_612_736),
        ] {
            assert_eq!(size(text).unwrap(), expected, "{text}");
        }
        for text in ["4", "GB", "4TBB", "-1GB", ""] {
            assert!(size(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_batch_that_is_too_large_is_split() {
        let found = BatchFound {
            batch_size: 12,
            all_examples: false,
            budget: 1_000_000_000,
            tried: vec![BatchPoint {
                batch_size: 12,
                bytes: 900_000_000,
            }],
            configured: 32,
        };
        let said = shown(&found);
        assert!(
            said.contains("--batch-size 11 --set train.gradient_accumulation_steps=3"),
            "{said}"
        );
    }
}
