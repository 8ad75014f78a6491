//! Files that results are written to: what stands there already is replaced only if it is such a result.

use anyhow::{Context, bail};
use serde_json::{Map, Value};
use std::{
    fs::{self, File},
    io::{BufRead, BufReader, Read},
    path::{Path, PathBuf},
};

/// What is written.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// Answers, a JSON object a line.
    Answers,
    /// A page.
    Page,
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
        };
    match is_result {
        true => Ok(()),
        false => refused("it is there already, and holds something else"),
    }
}

/// Whether the first line is one of `predict` or of `evaluate --predictions`.
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
    begins || first.contains_key("probabilities") || first.contains_key("error")
}

/// Whether a file is a page of ours.
fn is_page(path: &Path) -> bool {
    let mut beginning = String::new();
    let read = File::open(path).and_then(|file| file.take(1 << 16).read_to_string(&mut beginning));
    read.is_ok() && beginning.contains("\u{b7} Rekindle</title>")
}

/// A file that is whole or as it was: it has another name until it is finished, and is gone if it never is.
pub struct Part {
    path: PathBuf,
    part: PathBuf,
    finished: bool,
}

impl Part {
    /// Begins a file. What is no regular file, such as a device, is written into as it is.
    pub fn create(path: &Path) -> anyhow::Result<(File, Option<Self>)> {
        let cannot = || {
            format!(
                "cannot write {}\nhint: name a file in a folder that is there and can be written to",
                path.display()
            )
        };
        let found = fs::metadata(path).ok();
        if found.as_ref().is_some_and(|found| !found.is_file()) {
            let file = File::options().write(true).open(path);
            return Ok((file.with_context(cannot)?, None));
        }
        // A link stays one.
        let path = path.canonicalize().unwrap_or_else(|_| path.to_owned());
        let mut name = std::ffi::OsString::from(".");
        name.push(path.file_name().unwrap_or_default());
        name.push(format!(".{}", std::process::id()));
        let part = path.with_file_name(name);
        let file = File::create_new(&part).with_context(cannot)?;
        if let Some(found) = found {
            // Who may read it stays as it was; where that cannot be, it is as of any new file.
            let _ = file.set_permissions(found.permissions());
        }
        let finished = false;
        Ok((
            file,
            Some(Self {
                path,
                part,
                finished,
            }),
        ))
    }

    /// Gives the file its name.
    pub fn finish(&mut self) -> std::io::Result<()> {
        fs::rename(&self.part, &self.path)?;
        self.finished = true;
        Ok(())
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        if !self.finished {
            let _ = fs::remove_file(&self.part);
        }
    }
}
