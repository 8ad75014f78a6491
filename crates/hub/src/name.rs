//! What a model's name means: a directory, an alias, or a repository id with a revision.

use std::path::{Path, PathBuf};

use crate::disk::is_safe_relative;
use crate::error::HubError;

/// Longest repository id the hub accepts, in bytes.
const MAX_ID: usize = 96;

/// A model name, taken apart.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum ModelName {
    /// An existing directory.
    Directory(PathBuf),
    /// An alias, or the bare name of an old hub model.
    Word {
        word: String,
        revision: Option<String>,
    },
    /// `org/name`.
    Repo {
        id: String,
        revision: Option<String>,
    },
}

impl ModelName {
    pub(crate) fn parse(name: &str) -> Result<Self, HubError> {
        let path = Path::new(name);
        if path.is_dir() {
            return Ok(Self::Directory(path.to_path_buf()));
        }
        if path.is_file() {
            return Err(HubError::NotADirectory {
                path: path.to_path_buf(),
            });
        }
        let looks_like_path = path.is_absolute()
            || name.starts_with(['.', '~'])
            || name.contains('\\')
            || name.matches('/').count() > 1 && !name.contains('@');
        if looks_like_path {
            return Err(HubError::PathNotFound {
                path: path.to_path_buf(),
                expected: "model directory",
            });
        }
        let (id, revision) = match name.split_once('@') {
            Some((id, revision)) => (id, Some(revision)),
            None => (name, None),
        };
        let invalid = |reason| HubError::InvalidName {
            name: name.to_string(),
            reason,
        };
        check_repo_id(id).map_err(invalid)?;
        if let Some(revision) = revision {
            check_revision(revision).map_err(invalid)?;
        }
        let revision = revision.map(String::from);
        Ok(match id.contains('/') {
            true => Self::Repo {
                id: id.to_string(),
                revision,
            },
            false => Self::Word {
                word: id.to_string(),
                revision,
            },
        })
    }
}

/// The hub's own rules. They also keep an id from leaving the cache folder: `org/name` becomes the folder `org--name`.
pub(crate) fn check_repo_id(id: &str) -> Result<(), &'static str> {
    if id.is_empty() {
        return Err("it is empty");
    }
    if id.len() > MAX_ID {
        return Err("a repository id has at most 96 characters");
    }
    if id.matches('/').count() > 1 {
        return Err("a repository id has one `/`");
    }
    for part in id.split('/') {
        if part.is_empty() {
            return Err("a part beside the `/` is empty");
        }
        if !part
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
        {
            return Err("only letters, digits, `-`, `_` and `.` are allowed");
        }
        if part.contains("..")
            || part.contains("--")
            || part.starts_with(['.', '-'])
            || part.ends_with(['.', '-'])
        {
            return Err("a part may not hold `..` or `--`, nor start or end with `.` or `-`");
        }
    }
    Ok(())
}

pub(crate) fn check_revision(revision: &str) -> Result<(), &'static str> {
    let allowed = revision
        .bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || b"-_./".contains(&byte));
    if allowed && is_safe_relative(revision) && !revision.ends_with('/') {
        Ok(())
    } else {
        Err("a revision is a branch, a tag or a commit: letters, digits, `-`, `_`, `.` and `/`")
    }
}

/// Known names close to `name`, closest first, at most three.
pub(crate) fn near<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Vec<String> {
    let name = name.to_lowercase();
    let mut scored: Vec<(usize, &str)> = known
        .map(|candidate| {
            (
                strsim::damerau_levenshtein(&name, &candidate.to_lowercase()),
                candidate,
            )
        })
        .filter(|(distance, candidate)| *distance <= 1 + candidate.len().min(name.len()) / 4)
        .collect();
    scored.sort();
    scored
        .into_iter()
        .take(3)
        .map(|(_, candidate)| candidate.to_string())
        .collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn names_are_taken_apart() {
        let repo = |id: &str, revision: Option<&str>| ModelName::Repo {
            id: id.into(),
            revision: revision.map(String::from),
        };
        assert_eq!(
            ModelName::parse("org/name").unwrap(),
            repo("org/name", None)
        );
        assert_eq!(
            ModelName::parse("org/name@v1.0").unwrap(),
            repo("org/name", Some("v1.0"))
        );
        assert_eq!(
            ModelName::parse("org/name@refs/pr/1").unwrap(),
            repo("org/name", Some("refs/pr/1"))
        );
        assert_eq!(
            ModelName::parse("minilm").unwrap(),
            ModelName::Word {
                word: "minilm".into(),
                revision: None
            }
        );
    }

    #[test]
    fn ids_that_could_leave_the_cache_are_rejected() {
        for bad in [
            "",
            "org/",
            "/name",
            "org/..",
            "o rg/name",
            "org/na?me",
            "org--x/name",
            "-org/name",
            "org/name@",
            "org/name@../x",
            "org/n%2e",
        ] {
            let error = ModelName::parse(bad).unwrap_err();
            assert!(
                matches!(
                    error,
                    HubError::InvalidName { .. } | HubError::PathNotFound { .. }
                ),
                "{bad}: {error}"
            );
        }
        assert!(matches!(
            ModelName::parse(&"a".repeat(97)),
            Err(HubError::InvalidName { .. })
        ));
    }

    #[test]
    fn near_misses_are_found_and_far_ones_are_not() {
        let known = ["minilm", "all-MiniLM-L6-v2"];
        assert_eq!(near("minilmm", known.into_iter()), ["minilm"]);
        assert_eq!(
            near("All-MiniLM-L12-v2", known.into_iter()),
            ["all-MiniLM-L6-v2"]
        );
        assert!(near("gpt2", known.into_iter()).is_empty());
    }
}
