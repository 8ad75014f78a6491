//! `rekindle predict`

use super::{Columns, device, overrides, read_line, read_lines};
use crate::{
    output::{Output, OutputError},
    printer::Printer,
};
use clap::Args;
use rekindle::{Error, Prediction, Predictor, RunConfig};
use serde_json::{Map, Value};
use std::{
    io::{self, IsTerminal},
    path::{Path, PathBuf},
};

/// Label texts or pictures from arguments, a file or standard input.
///
/// Prints a JSON object a line: the text (or file) and the answer with its probabilities.
#[derive(Args)]
pub struct Predict {
    /// Run directory, model or adapter directory, or Hugging Face name
    model: PathBuf,
    /// Texts, or for an image model files and folders of pictures; without any and without --file, lines of standard input
    texts: Vec<String>,
    /// File of texts: CSV, TSV, JSONL or Parquet by its columns, anything else a text a line
    #[arg(long, value_name = "FILE", conflicts_with = "texts")]
    file: Option<PathBuf>,
    #[command(flatten)]
    columns: Columns,
    /// cpu, wgpu, cuda or cuda:N
    #[arg(long)]
    device: Option<String>,
    /// Only the answer, its probability and the text, separated by tabs; several labels, and their probabilities, by commas
    #[arg(long)]
    brief: bool,
    /// A setting of how data is read, as section.key=value
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
}

/// Texts of standard input that are labelled together.
const CHUNK: usize = 256;

impl Predict {
    pub fn run(self) -> anyhow::Result<()> {
        let device = device(self.device.as_ref())?;
        let printer = Printer::new();
        let mut predictor = Predictor::open(&self.model, device, &printer)?;
        printer.clear();
        predictor.check_predicts()?;
        let config = predictor.configure(&overrides(self.columns.overrides(), &self.set))?;
        let mut out = Output::new();
        if predictor.takes_pictures() {
            return self.pictures(&predictor, &config, &mut out);
        }
        if !self.texts.is_empty() {
            return self.lines(&predictor, &self.texts, &mut out);
        }
        match &self.file {
            Some(path) if is_table(path) => {
                let (examples, predictions) = predictor.predict_file(path, &config, &printer)?;
                for (example, prediction) in examples.iter().zip(&predictions) {
                    self.write(
                        &mut out,
                        "text",
                        &example.text,
                        example.text_pair.as_deref(),
                        prediction,
                    )?;
                }
                Ok(out.flush()?)
            }
            Some(path) => {
                let text = read_text(path)?;
                self.lines(&predictor, &text.lines().collect::<Vec<_>>(), &mut out)
            }
            None => {
                let stdin = io::stdin();
                if stdin.is_terminal() {
                    printer.say("reading texts from the terminal, one a line; end with Ctrl-D");
                }
                let mut input = stdin.lock();
                let together = if stdin.is_terminal() { 1 } else { CHUNK };
                loop {
                    let lines = std::iter::from_fn(|| read_line(&mut input).transpose());
                    let chunk: Vec<String> = lines.take(together).collect::<Result<_, _>>()?;
                    if chunk.is_empty() {
                        return Ok(());
                    }
                    self.lines(&predictor, &chunk, &mut out)?;
                }
            }
        }
    }

    /// Labels the pictures that the arguments, the table, or the lines of the file or of standard input, name.
    fn pictures(
        &self,
        predictor: &Predictor,
        config: &RunConfig,
        out: &mut Output,
    ) -> anyhow::Result<()> {
        if let Some(path) = self.file.as_ref().filter(|path| is_table(path)) {
            let (files, predictions) = predictor.predict_picture_table(path, config)?;
            for (file, prediction) in files.iter().zip(&predictions) {
                self.write(out, "file", &file.to_string_lossy(), None, prediction)?;
            }
            return Ok(out.flush()?);
        }
        let mut names = self.texts.clone();
        if let Some(path) = &self.file {
            names.extend(read_text(path)?.lines().map(str::to_owned));
        } else if names.is_empty() {
            names = read_lines(&mut io::stdin().lock())?;
        }
        let mut paths = Vec::new();
        for name in names.iter().filter(|name| !name.trim().is_empty()) {
            paths.extend(rekindle::find_pictures(name.trim().as_ref())?);
        }
        for chunk in paths.chunks(CHUNK) {
            for (path, prediction) in chunk.iter().zip(predictor.predict_pictures(chunk)?) {
                self.write(out, "file", &path.to_string_lossy(), None, &prediction)?;
            }
        }
        Ok(out.flush()?)
    }

    fn lines<S: AsRef<str>>(
        &self,
        predictor: &Predictor,
        texts: &[S],
        out: &mut Output,
    ) -> anyhow::Result<()> {
        for chunk in texts.chunks(CHUNK) {
            for (text, prediction) in chunk.iter().zip(predictor.predict(chunk)?) {
                self.write(out, "text", text.as_ref(), None, &prediction)?;
            }
        }
        Ok(out.flush()?)
    }

    fn write(
        &self,
        out: &mut Output,
        kind: &str,
        text: &str,
        pair: Option<&str>,
        prediction: &Prediction,
    ) -> Result<(), OutputError> {
        if self.brief {
            // A text of several lines must not look like several answers.
            let text = match text.contains(['\n', '\r']) {
                true => Value::from(text).to_string(),
                false => text.to_owned(),
            };
            return out.line(format_args!("{}\t{text}", prediction.brief()));
        }
        let mut object = Map::new();
        object.insert(kind.into(), text.into());
        if let Some(pair) = pair {
            object.insert("text_pair".into(), pair.into());
        }
        object.extend(prediction.to_json());
        out.line(Value::Object(object))
    }
}

/// The text of a file.
fn read_text(path: &Path) -> anyhow::Result<String> {
    let bytes = std::fs::read(path).map_err(|source| Error::Io {
        path: path.to_owned(),
        source,
    })?;
    String::from_utf8(bytes).map_err(|error| {
        let before = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        let line = 1 + before.iter().filter(|&&byte| byte == b'\n').count();
        anyhow::anyhow!(
            "{}:{line}: not UTF-8 text\nhint: convert the file, for example with `iconv -f latin1 -t utf-8`",
            path.display()
        )
    })
}

fn is_table(path: &Path) -> bool {
    const TABLES: [&str; 7] = ["csv", "tsv", "tab", "jsonl", "ndjson", "parquet", "pq"];
    path.extension()
        .and_then(|e| e.to_str())
        .is_some_and(|e| TABLES.contains(&e.to_lowercase().as_str()))
}
