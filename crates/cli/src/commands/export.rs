//! `rekindle export`

use crate::{output, printer::Printer, signals};
use clap::{Args, ValueEnum};
use rekindle::EXPORT_TYPES;
use serde_json::json;
use std::path::PathBuf;

/// Write a language model as a GGUF file, for llama.cpp and Ollama.
///
/// Its adapter is merged; tokenizer and chat template stand inside; a Modelfile is written beside it.
#[derive(Args)]
#[command(
    after_help = "Examples:\n  rekindle export runs/smollm2-chats --to gguf --dtype q8_0\n  ollama create mine -f runs/smollm2-chats/gguf/Modelfile"
)]
pub struct Export {
    /// Run directory, model or adapter directory, GGUF file, or Hugging Face name
    model: PathBuf,
    /// The kind of file
    #[arg(long, value_enum, default_value_t = Format::Gguf)]
    to: Format,
    /// The type of matrices; vectors stay f32
    #[arg(long, value_parser = EXPORT_TYPES, default_value = EXPORT_TYPES[0])]
    dtype: String,
    /// The file; by default gguf/NAME-DTYPE.gguf in the run's directory, or in NAME-gguf here
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Replace what is there
    #[arg(long)]
    force: bool,
    /// Print what was written as JSON
    #[arg(long)]
    json: bool,
}

/// What is written.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// For llama.cpp and what builds on it
    Gguf,
}

impl Export {
    pub fn run(self) -> anyhow::Result<()> {
        let printer = Printer::new();
        let Format::Gguf = self.to;
        signals::discard_on_stop()?;
        let output = self.output.as_deref();
        let exported = rekindle::export(&self.model, &self.dtype, output, self.force, &printer)?;
        printer.clear();
        if self.json {
            return output::json(&json!({
                "file": exported.file,
                "bytes": exported.bytes,
                "dtype": self.dtype,
                "modelfile": exported.modelfile,
                "stop": exported.stop,
            }));
        }
        Ok(output::print(format_args!(
            "wrote {} ({:.1} MB)\n      {}\nanswers end at {}\n",
            exported.file.display(),
            exported.bytes as f64 / 1e6,
            exported.modelfile.display(),
            exported.stop.join(" ")
        ))?)
    }
}
