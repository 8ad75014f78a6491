//! `rekindle datasets`

use crate::{output, table::table};
use clap::Args;
use rekindle::words::bytes;
use rekindle::{Hub, NoProgress};
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

/// List the datasets that have a name, and whether they are on this machine.
///
/// These are the ones of the program and those with a card in ./datasets.
#[derive(Args)]
#[command(after_help = "Examples:\n  rekindle datasets\n  rekindle finetune --dataset intents")]
pub struct Datasets {
    /// Print the list as JSON
    #[arg(long)]
    json: bool,
}

/// A dataset and where it is.
struct Known {
    name: String,
    task: String,
    licence: String,
    description: String,
    files: Option<BTreeMap<String, PathBuf>>,
    bytes: Option<u64>,
}

impl Datasets {
    pub fn run(self) -> anyhow::Result<()> {
        // Without requests, what is found is what is here.
        let hub = Hub::from_env().offline(true);
        let names = hub.dataset_names();
        let known: Vec<Known> = names
            .into_iter()
            .map(|name| Known::find(&hub, name))
            .collect();
        if self.json {
            return output::json(&known.iter().map(Known::to_json).collect::<Vec<_>>());
        }
        let rows: Vec<Vec<String>> = known.iter().map(Known::row).collect();
        let header = ["name", "task", "size", "licence", "here", "what it is"];
        let mut out = table(&header, &rows);
        for (name, files) in known
            .iter()
            .filter_map(|one| Some((&one.name, one.files.as_ref()?)))
        {
            if let Some(dir) = files.values().next().and_then(|file| file.parent()) {
                out += &format!("\n{name} is in {}", dir.display());
            }
        }
        Ok(output::print(format_args!("{}\n", out.trim_end()))?)
    }
}

impl Known {
    fn find(hub: &Hub, name: String) -> Self {
        let card = match hub.dataset_card(&name) {
            Ok((card, _)) => card,
            // A broken card must not hide the others.
            Err(error) => {
                return Self {
                    name,
                    task: String::new(),
                    licence: String::new(),
                    description: first_line(&error.to_string()),
                    files: None,
                    bytes: None,
                };
            }
        };
        let files = hub
            .dataset(&name, &NoProgress)
            .ok()
            .map(|found| found.files);
        Self {
            name,
            task: card.task.unwrap_or_default(),
            licence: card.licence,
            description: card.description,
            bytes: files
                .as_ref()
                .map(|files| files.values().map(|file| size(file)).sum()),
            files,
        }
    }

    fn row(&self) -> Vec<String> {
        vec![
            self.name.clone(),
            self.task.clone(),
            self.bytes.map(bytes).unwrap_or_default(),
            self.licence.clone(),
            if self.files.is_some() { "yes" } else { "no" }.to_owned(),
            self.description.clone(),
        ]
    }

    fn to_json(&self) -> Value {
        json!({
            "name": self.name,
            "task": self.task,
            "description": self.description,
            "licence": self.licence,
            "bytes": self.bytes,
            "files": self.files,
        })
    }
}

fn first_line(text: &str) -> String {
    text.lines().next().unwrap_or_default().to_owned()
}

/// Bytes of a file, or of all files in a folder.
fn size(path: &Path) -> u64 {
    let entries = std::fs::read_dir(path).into_iter().flatten().flatten();
    match path.is_dir() {
        true => entries.map(|entry| size(&entry.path())).sum(),
        false => std::fs::metadata(path).map_or(0, |file| file.len()),
    }
}
