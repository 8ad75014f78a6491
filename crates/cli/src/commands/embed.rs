//! `rekindle embed`

use super::{
    Columns, device, overrides,
    predict::{CHUNK, lines_of_stdin, of_arguments, placed, ready, say_failed},
};
use crate::{
    output::Output,
    printer::Printer,
    target::{self, Form},
};
use clap::Args;
use rekindle::{Embedder, Query, RunConfig, write_vectors};
use serde_json::{Map, Value};
use std::{
    ffi::OsStr,
    io::{self, IsTerminal},
    path::{Path, PathBuf},
};

/// Vectors of texts: of those named, those of a file, or those that come in.
///
/// A JSON object a line: where the text stands, the text, and `embedding`. With --output FILE.npy or FILE.safetensors one array [texts, numbers].
/// What cannot be embedded, such as an empty field, gets a line with `error`, in an array a row of NaN; the exit code then is 1, or 0 with --set data.on_bad_example=skip.
#[derive(Args)]
#[command(
    after_help = "Examples:\n  rekindle embed minilm \"my parcel never came\"\n  rekindle embed runs/minilm-faq --file articles.csv --text title --output articles.npy\n  cat questions.txt | rekindle embed runs/minilm-faq > questions.jsonl"
)]
pub struct Embed {
    /// Run directory, model or adapter directory, or Hugging Face name: any encoder
    model: PathBuf,
    /// Texts; without any and without --file, or for -, lines of standard input
    texts: Vec<String>,
    /// File of texts: CSV, TSV, JSONL or Parquet by its column of texts, anything else a text a line
    #[arg(long, value_name = "FILE", conflicts_with = "texts")]
    file: Option<PathBuf>,
    #[command(flatten)]
    columns: Columns,
    /// auto, cpu, wgpu, wgpu:N, cuda or cuda:N
    #[arg(long)]
    device: Option<String>,
    /// Write to this file: JSON lines, or one array where it ends in .npy or .safetensors
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// One JSON array of all objects instead of a line each
    #[arg(long)]
    json: bool,
    /// A setting of how data is read, as section.key=value
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
}

impl Embed {
    pub fn run(self) -> anyhow::Result<()> {
        let output = self.output.as_ref().filter(|path| path.as_os_str() != "-");
        let array = output.filter(|path| is_array(path));
        if let Some(path) = output {
            let form = match array {
                Some(_) => Form::Vectors,
                None => Form::Answers,
            };
            let inputs = self.file.iter().map(PathBuf::as_path);
            let inputs: Vec<&Path> = inputs.chain(self.texts.iter().map(Path::new)).collect();
            target::check(path, form, &inputs)?;
        }
        let device = device(self.device.as_ref())?;
        let printer = Printer::new();
        let mut embedder = Embedder::open(&self.model, device, &printer)?;
        printer.clear();
        let config = embedder.configure(&overrides(self.columns.overrides(), &self.set))?;
        let mut vectors = Vectors {
            embedder: &embedder,
            name: self.file.as_deref(),
            out: match output {
                Some(path) if array.is_none() => Out::Lines(Output::to_file(path)?),
                Some(_) => Out::Array(Vec::new()),
                None if self.json => Out::Objects(Vec::new()),
                None => Out::Lines(Output::new()),
            },
            asked: 0,
            failed: Vec::new(),
        };
        match self.named(&embedder, &config, &printer)? {
            Some(queries) => {
                let progress = printer.counter(queries.len(), CHUNK);
                for chunk in queries.chunks(CHUNK) {
                    vectors.take(chunk)?;
                    progress.inc(chunk.len() as u64);
                }
                progress.finish_and_clear();
            }
            None => {
                if io::stdin().is_terminal() {
                    printer.say("reading texts from the terminal, one a line; end with Ctrl-D");
                }
                let lines = lines_of_stdin();
                while let Some(queries) = ready(&lines, false)? {
                    vectors.take(&queries)?;
                }
            }
        }
        let Vectors {
            out, asked, failed, ..
        } = vectors;
        match (out, array) {
            (Out::Lines(mut out), _) => out.finish()?,
            (Out::Objects(objects), _) => crate::output::json(&objects)?,
            (Out::Array(rows), Some(path)) => {
                let width = rows.iter().flatten().map(Vec::len).next().unwrap_or(0);
                let rows = rows.into_iter();
                let rows: Vec<Vec<f32>> = rows
                    .map(|row| row.unwrap_or_else(|| vec![f32::NAN; width]))
                    .collect();
                write_vectors(path, &rows)?;
                if !failed.is_empty() {
                    printer.say(&format!(
                        "warning: in {} the rows of what could not be embedded are NaN",
                        path.display()
                    ));
                }
            }
            (Out::Array(_), None) => {}
        }
        say_failed(&failed, asked, "embedded", &config)
    }

    /// What the arguments or the file ask for; `None` for standard input.
    fn named(
        &self,
        embedder: &Embedder,
        config: &RunConfig,
        printer: &Printer,
    ) -> anyhow::Result<Option<Vec<Query>>> {
        let read = |path: &Path| Ok(embedder.read_queries(path, config, printer)?);
        let queries = match (&self.file, self.texts.as_slice()) {
            (Some(path), _) if path.as_os_str() != OsStr::new("-") => read(path),
            (None, texts) if !texts.is_empty() && texts != ["-"] => {
                of_arguments(texts, ("embedded", "embeds"), read, printer)
            }
            // Standard input is a table where its format is named.
            _ if config.data.format.is_some() => read(Path::new("/dev/stdin")),
            _ => return Ok(None),
        };
        queries.map(Some)
    }
}

/// Vectors on their way out.
struct Vectors<'a> {
    embedder: &'a Embedder,
    /// The file that is read.
    name: Option<&'a Path>,
    out: Out,
    asked: usize,
    /// What was not embedded: its place and why.
    failed: Vec<String>,
}

enum Out {
    Lines(Output),
    Objects(Vec<Value>),
    /// `None` where there is no vector.
    Array(Vec<Option<Vec<f32>>>),
}

impl Vectors<'_> {
    fn take(&mut self, queries: &[Query]) -> anyhow::Result<()> {
        let vectors = self.embedder.embed_queries(queries)?;
        for (query, vector) in queries.iter().zip(vectors) {
            self.asked += 1;
            if let Err(problem) = &vector {
                self.failed.push(placed(self.name, query.line, problem));
            }
            match &mut self.out {
                Out::Lines(out) => out.line(object(query, vector))?,
                Out::Objects(objects) => objects.push(object(query, vector)),
                Out::Array(rows) => rows.push(vector.ok()),
            }
        }
        if let Out::Lines(out) = &mut self.out {
            out.flush()?;
        }
        Ok(())
    }
}

/// Whether a file is to hold one array.
fn is_array(path: &Path) -> bool {
    let ending = path.extension().and_then(OsStr::to_str);
    ending.is_some_and(|ending| {
        ["npy", "safetensors"].contains(&ending.to_ascii_lowercase().as_str())
    })
}

fn object(query: &Query, vector: Result<Vec<f32>, String>) -> Value {
    let mut object = Map::new();
    if let Some(line) = query.line {
        object.insert("line".into(), line.into());
    }
    object.insert("text".into(), query.text.as_str().into());
    match vector {
        Ok(vector) => object.insert("embedding".into(), numbers(&vector)),
        Err(problem) => object.insert("error".into(), problem.into()),
    };
    object.into()
}

/// Numbers in the fewest digits that give them back as f32.
fn numbers(vector: &[f32]) -> Value {
    let number = |value: &f32| {
        let shortest: f64 = value.to_string().parse().unwrap_or(f64::NAN);
        Value::from(shortest)
    };
    vector.iter().map(number).collect()
}
