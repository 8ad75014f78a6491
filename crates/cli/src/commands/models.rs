//! `rekindle models`

use crate::{output, table::table};
use clap::Args;
use rekindle::words::bytes;
use rekindle::{Hub, ModelCard, NoProgress, model_cards};
use serde_json::{Value, json};
use std::path::PathBuf;

/// List the models that have a short name, and whether they are on this machine.
///
/// Other models go by their Hugging Face name (org/name), by a directory or by a file.
#[derive(Args)]
#[command(after_help = "Examples:\n  rekindle models\n  rekindle models --json")]
pub struct Models {
    /// Print the list as JSON
    #[arg(long)]
    json: bool,
}

/// A model that the program knows, and where it is.
struct Known {
    card: &'static ModelCard,
    local: Option<PathBuf>,
}

impl Models {
    pub fn run(self) -> anyhow::Result<()> {
        // Without requests, what is found is what is here.
        let hub = Hub::from_env().offline(true);
        let find = |card: &'static ModelCard| {
            let name = card.alias.first().unwrap_or(&card.repo);
            let found = hub.model(name, &NoProgress).ok();
            Known {
                card,
                local: found.map(|found| found.dir),
            }
        };
        let known: Vec<Known> = model_cards().iter().map(find).collect();
        if self.json {
            return output::json(&known.iter().map(Known::to_json).collect::<Vec<_>>());
        }
        let rows: Vec<Vec<String>> = known.iter().map(Known::row).collect();
        let header = ["name", "size", "licence", "here", "what it is"];
        let mut out = table(&header, &rows);
        for Known { card, local } in &known {
            if let Some(dir) = local {
                out += &format!("\n{} is in {}", card.alias[0], dir.display());
            }
        }
        Ok(output::print(format_args!("{}\n", out.trim_end()))?)
    }
}

impl Known {
    fn size(&self) -> u64 {
        self.card.files.iter().map(|file| file.size).sum()
    }

    fn row(&self) -> Vec<String> {
        vec![
            self.card.alias.join(", "),
            bytes(self.size()),
            self.card.licence.clone(),
            if self.local.is_some() { "yes" } else { "no" }.to_owned(),
            self.card.description.clone(),
        ]
    }

    fn to_json(&self) -> Value {
        json!({
            "names": self.card.alias,
            "repository": self.card.repo,
            "description": self.card.description,
            "licence": self.card.licence,
            "bytes": self.size(),
            "dir": self.local,
        })
    }
}
