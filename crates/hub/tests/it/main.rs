//! The hub against a local server that speaks the Hugging Face protocol, and against scripts that stand for pip.
#![allow(clippy::unwrap_used)]

mod built;
mod datasets;
mod models;
mod packages;
mod push;
mod real;
#[cfg(unix)]
mod recipes;
mod server;

use std::path::Path;
use std::sync::Mutex;
use std::time::Duration;

use rekindle_hub::{Hub, Progress};

/// A hub that sees nothing of the machine it runs on.
fn hub(dir: &Path, endpoint: &str) -> Hub {
    Hub::from_env()
        .endpoint(endpoint)
        .token(None)
        .offline(false)
        .hf_cache(dir.join("hf"))
        .cache(dir.join("rekindle"))
        .python(dir.join("no-python").to_str().unwrap())
        .dataset_dirs(vec![dir.join("datasets")])
        .backoff(Duration::from_millis(1))
}

/// An address that nobody listens at.
fn nobody() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    format!("http://{}", listener.local_addr().unwrap())
}

/// Remembers what it was told.
#[derive(Default)]
struct Recorder {
    notes: Mutex<Vec<String>>,
    bytes: Mutex<std::collections::BTreeMap<String, u64>>,
    finished: Mutex<Vec<String>>,
}

impl Progress for Recorder {
    fn start(&self, what: &str, _total: Option<u64>) {
        self.bytes.lock().unwrap().insert(what.to_string(), 0);
    }
    fn advance(&self, what: &str, bytes: u64) {
        *self.bytes.lock().unwrap().get_mut(what).unwrap() += bytes;
    }
    fn finish(&self, what: &str) {
        self.finished.lock().unwrap().push(what.to_string());
    }
    fn note(&self, message: &str) {
        self.notes.lock().unwrap().push(message.to_string());
    }
}

/// All files below a folder, relative, sorted; links are not followed.
fn tree(dir: &Path) -> Vec<String> {
    fn walk(dir: &Path, root: &Path, out: &mut Vec<String>) {
        for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
            let path = entry.path();
            match entry.file_type().unwrap().is_dir() {
                true => walk(&path, root, out),
                false => out.push(
                    path.strip_prefix(root)
                        .unwrap()
                        .to_str()
                        .unwrap()
                        .to_string(),
                ),
            }
        }
    }
    let mut out = Vec::new();
    walk(dir, dir, &mut out);
    out.sort();
    out
}
