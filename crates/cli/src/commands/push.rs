//! `rekindle push`

use crate::{output, printer::Printer};
use clap::Args;
use rekindle::{Error, Hub, Observer, Push as Pushing};
use serde_json::json;
use std::path::PathBuf;

/// Send a tuned model to a repository of the Hugging Face hub.
///
/// The token is that of HF_TOKEN, or the one that `hf auth login` stored; it must be one that may write.
#[derive(Args)]
#[command(
    after_help = "Examples:\n  rekindle push runs/minilm-tickets me/minilm-tickets\n  rekindle push merged me/minilm-merged --public --message \"First version\""
)]
pub struct Push {
    /// Run directory (its final/ is sent), or a folder with a model
    dir: PathBuf,
    /// Repository, as owner/name; it is made where it is not there
    repo: String,
    /// Let everyone see a repository that is made; else it is private
    #[arg(long)]
    public: bool,
    /// First line of the commit
    #[arg(long, default_value = "Upload with Rekindle")]
    message: String,
    /// Branch
    #[arg(long, default_value = "main")]
    revision: String,
    /// What was pushed, as JSON
    #[arg(long)]
    json: bool,
}

impl Push {
    pub fn run(self) -> anyhow::Result<()> {
        let printer = Printer::new();
        let is_run = self.dir.join("config.toml").is_file();
        let dir = match is_run {
            true => self.dir.join("final"),
            false => self.dir.clone(),
        };
        if !dir.is_dir() {
            return Err(Error::ModelDir {
                reason: match is_run {
                    true => "the run is not finished: it has no final/ yet".into(),
                    false => "no such folder".into(),
                },
                path: self.dir,
                hint: "name a run directory, or a folder with a model".into(),
            }
            .into());
        }
        let what = Pushing {
            dir: &dir,
            repo: &self.repo,
            revision: &self.revision,
            private: !self.public,
            message: &self.message,
        };
        let pushed = Hub::from_env().push(&what, printer.downloads());
        printer.clear();
        let pushed = pushed.map_err(Error::from)?;
        Observer::note(
            &printer,
            &format!(
                "{} files in commit {}, {:.1} MB sent",
                pushed.files,
                pushed.commit,
                pushed.sent as f64 / 1e6
            ),
        );
        match self.json {
            true => output::json(&json!({
                "url": pushed.url,
                "commit": pushed.commit,
                "files": pushed.files,
                "bytes_sent": pushed.sent,
            })),
            false => Ok(output::print(format_args!("{}\n", pushed.url))?),
        }
    }
}
