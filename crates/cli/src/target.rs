//! Files that results are written to: what stands there already is replaced only if it is such a result.

use anyhow::{Context, bail};
use rekindle::Aside;
use serde_json::{Map, Value};
use std::{
    ffi::OsStr,
    fs::{self, File},
    io::{BufRead, BufReader, Read},
    path::Path,
};

/// What is written.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// Answers, a JSON object a line.
    Answers,
    /// A page.
    Page,
    /// An array of numbers.
    Vectors,
}

/// Refuses a file that could not be written, or that would replace one of `inputs` or what is no result of this form: before any
/// work is done.
pub fn check(path: &Path, form: Form, inputs: &[&Path]) -> anyhow::Result<()> {
    let refused = |reason: &str| -> anyhow::Result<()> {
        bail!(
            "{}: {reason}\nhint: name a new file in a folder that is there",
            path.display()
        )
    };
    let folder = path.parent().filter(|folder| *folder != Path::new(""));
    if folder.is_some_and(|folder| !folder.is_dir()) {
        return refused("there is no folder to write it in");
    }
    let Ok(found) = fs::metadata(path) else {
        let ending = path.extension().and_then(OsStr::to_str).unwrap_or_default();
        let of_tables = ["csv", "tsv", "parquet", "xlsx", "npz", "pt"];
        if form == Form::Answers && of_tables.contains(&ending.to_ascii_lowercase().as_str()) {
            bail!(
                "{}: what is written there is JSON lines\nhint: name a file that ends in .jsonl",
                path.display()
            );
        }
        return Ok(());
    };
    if found.is_dir() {
        return refused("it is a folder");
    }
    // A device or a pipe is written into.
    if !found.is_file() {
        return Ok(());
    }
    let same = |input: &&Path| input.canonicalize().ok() == path.canonicalize().ok();
    if inputs.iter().any(same) {
        return refused("it is read here, and would be overwritten");
    }
    let is_result = found.len() == 0
        || match form {
            Form::Answers => begins_with_answer(path),
            Form::Page => is_page(path),
            Form::Vectors => is_array(path),
        };
    match is_result {
        true => Ok(()),
        false => refused("it is there already, and holds something else"),
    }
}

/// Whether the first line is one of `predict`, `embed` or of `evaluate --predictions`.
fn begins_with_answer(path: &Path) -> bool {
    const MOST: u64 = 1 << 20;
    let Ok(file) = File::open(path) else {
        return false;
    };
    let mut line = String::new();
    if BufReader::new(file.take(MOST))
        .read_line(&mut line)
        .is_err()
    {
        return false;
    }
    let first: Map<String, Value> = serde_json::from_str(&line).unwrap_or_default();
    let begins = first
        .keys()
        .next()
        .is_some_and(|key| key == "line" || key == "place");
    let has = |key: &str| first.contains_key(key);
    // A question's answer or choice has a probability, a span a score: what somebody labelled has neither.
    let of_question = has("probability") && (has("choices") || has("start"));
    let span = first.get("spans").and_then(|spans| spans.get(0));
    let of_spans = span.is_some_and(|span| span.get("score").is_some());
    let of_ours = ["probabilities", "embedding", "error"];
    begins || of_question || of_spans || of_ours.iter().any(|key| has(key))
}

/// Whether a file is an array of NumPy's, or of safetensors with embeddings alone.
fn is_array(path: &Path) -> bool {
    let mut first = Vec::new();
    let read = File::open(path).and_then(|file| file.take(128).read_to_end(&mut first));
    // Behind the length of the header, and perhaps what is said of the file.
    let header = String::from_utf8_lossy(first.get(8..).unwrap_or_default());
    let of_safetensors = header.starts_with('{') && header.contains("\"embeddings\":");
    read.is_ok() && (first.starts_with(b"\x93NUMPY") || of_safetensors)
}

/// Whether a file is a page of ours.
fn is_page(path: &Path) -> bool {
    let mut beginning = String::new();
    let read = File::open(path).and_then(|file| file.take(1 << 16).read_to_string(&mut beginning));
    read.is_ok() && beginning.contains("\u{b7} Rekindle</title>")
}

/// Begins a file that is whole or as it was: it is named when it is finished. What is no regular file, such as a device, is written
/// into as it is.
pub fn create(path: &Path) -> anyhow::Result<(File, Option<Aside>)> {
    let cannot = || {
        format!(
            "cannot write {}\nhint: name a file in a folder that is there and can be written to",
            path.display()
        )
    };
    if fs::metadata(path).is_ok_and(|found| !found.is_file()) {
        let file = File::options().write(true).open(path);
        return Ok((file.with_context(cannot)?, None));
    }
    let aside = Aside::create(path).with_context(cannot)?;
    Ok((aside.writer().with_context(cannot)?, Some(aside)))
}
