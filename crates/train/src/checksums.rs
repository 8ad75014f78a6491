//! `SHA256SUMS`: what the bytes of a folder's files must be, as `sha256sum` writes it (and `sha256sum -c` checks it).

use crate::TrainError;
use rekindle_base::write_atomically;
use sha2::{Digest, Sha256};
use std::{
    collections::BTreeMap,
    fmt::Write,
    fs::File,
    io::{self, Read},
    path::Path,
};

/// The file of checksums.
pub const NAME: &str = "SHA256SUMS";

/// Writes the checksums of these files of a folder, beside them.
///
/// # Errors
/// When one cannot be read, or the list not be written.
pub fn write(folder: &Path, files: &[&str]) -> Result<(), TrainError> {
    let mut sums = BTreeMap::new();
    for &name in files {
        let path = folder.join(name);
        sums.insert(name, digest(&path).map_err(TrainError::io(&path))?);
    }
    let path = folder.join(NAME);
    write_atomically(&path, text(&sums).as_bytes()).map_err(TrainError::io(&path))
}

/// Checks every byte of a checkpoint: that all of `required` are listed, as are those of `optional` that are there, and that
/// every listed file has the bytes it was written with.
///
/// # Errors
/// The first file that is missing, not listed or changed.
pub fn check(folder: &Path, required: &[&str], optional: &[&str]) -> Result<(), TrainError> {
    let list = folder.join(NAME);
    let bytes = std::fs::read(&list).map_err(|e| match e.kind() {
        io::ErrorKind::NotFound => broken(&list, "the file is missing".into()),
        _ => TrainError::io(&list)(e),
    })?;
    let bytes = String::from_utf8_lossy(&bytes);
    let sums: BTreeMap<&str, String> = bytes
        .lines()
        .filter_map(|line| line.split_once("  "))
        .map(|(sum, name)| (name, sum.to_owned()))
        .collect();
    // As strict as can be: one way to write it.
    if text(&sums) != bytes {
        return Err(broken(&list, "not a list of checksums".into()));
    }
    let there = optional.iter().filter(|name| folder.join(name).exists());
    if let Some(name) = required
        .iter()
        .chain(there)
        .find(|name| !sums.contains_key(**name))
    {
        return Err(broken(&list, format!("the file `{name}` is not listed")));
    }
    for (name, expected) in sums {
        let path = folder.join(name);
        let found = digest(&path).map_err(|e| match e.kind() {
            io::ErrorKind::NotFound => broken(&path, "the file is missing".into()),
            _ => TrainError::io(&path)(e),
        })?;
        if found != expected {
            let reason =
                "the file has changed since it was written: its SHA-256 is not the recorded one";
            return Err(broken(&path, reason.into()));
        }
    }
    Ok(())
}

/// A file of a checkpoint that cannot be used.
pub fn broken(path: &Path, reason: String) -> TrainError {
    TrainError::Checkpoint {
        path: path.to_owned(),
        reason,
        hint: "delete this checkpoint's folder; the run then resumes from the one before",
    }
}

fn text(sums: &BTreeMap<&str, String>) -> String {
    sums.iter()
        .map(|(name, sum)| format!("{sum}  {name}\n"))
        .collect()
}

fn digest(path: &Path) -> io::Result<String> {
    let mut file = File::open(path)?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 16];
    loop {
        match file.read(&mut buffer)? {
            0 => break,
            n => hash.update(&buffer[..n]),
        }
    }
    let mut hex = String::new();
    for byte in hash.finalize() {
        // Writing to a string does not fail.
        let _ = write!(hex, "{byte:02x}");
    }
    Ok(hex)
}
