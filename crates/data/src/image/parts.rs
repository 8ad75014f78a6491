//! The parts of a dataset of pictures: which folders are the training, the validation and the test part.
//!
//! A folder is a part by its name, in any case: `train` or `training`; `val`, `valid`, `validation`, `dev`, `eval` or
//! `evaluation`; `test` or `testing`. Beside that word may stand numbers and words such as `set`, `data`, `images` and
//! `seg`, apart or not: `Train`, `training_set`, `seg_train`, `TestImages`, `val2017`.
//!
//! A folder has parts if it has a training part, and that has folders itself, or nothing but parts stand beside it: there is a
//! class `train` among vehicles. Otherwise the folder's only folder, or the one called `images` or `data`, is looked into. A
//! part that holds nothing but a part of the same name, or `images`, is that folder.

use std::path::{Path, PathBuf};

use super::set::entries;
use crate::DataError;

/// The folders of a dataset's parts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageParts {
    /// What is trained on.
    pub train: PathBuf,
    /// The validation part.
    pub validation: Option<PathBuf>,
    /// The test part.
    pub test: Option<PathBuf>,
}

/// How deep parts may lie.
const DEPTH: usize = 3;
/// Words of a part: each folder's name has one of them.
const WORDS: [(&str, Part); 10] = [
    ("training", Part::Train),
    ("train", Part::Train),
    ("validation", Part::Validation),
    ("valid", Part::Validation),
    ("val", Part::Validation),
    ("dev", Part::Validation),
    ("evaluation", Part::Validation),
    ("eval", Part::Validation),
    ("testing", Part::Test),
    ("test", Part::Test),
];
/// Words that say nothing.
const FILLERS: [&str; 14] = [
    "datasets", "dataset", "data", "sets", "set", "images", "image", "imgs", "img", "pictures",
    "photos", "split", "folder", "seg",
];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Train,
    Validation,
    Test,
}

impl Part {
    fn name(self) -> &'static str {
        match self {
            Self::Train => "training",
            Self::Validation => "validation",
            Self::Test => "test",
        }
    }
}

/// What a folder's name says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Says {
    Part(Part),
    /// Only words that say nothing.
    Nothing,
    Other,
}

fn says(path: &Path) -> Says {
    let name = path
        .file_name()
        .map_or_else(String::new, |name| name.to_string_lossy().to_lowercase());
    let mut found = Says::Nothing;
    for token in name.split(|c: char| !c.is_alphabetic()) {
        let mut rest = token;
        while !rest.is_empty() {
            if let Some(after) = FILLERS.iter().find_map(|filler| rest.strip_prefix(filler)) {
                rest = after;
                continue;
            }
            let word = WORDS
                .iter()
                .find_map(|(word, part)| Some((rest.strip_prefix(word)?, *part)));
            match (word, found) {
                (Some((after, part)), Says::Nothing) => {
                    found = Says::Part(part);
                    rest = after;
                }
                _ => return Says::Other,
            }
        }
    }
    found
}

/// The parts of a folder, or the folder itself as the training part.
///
/// # Errors
/// [`DataError::Io`]; [`DataError::TwoParts`] where two folders could be a part; [`DataError::NoTrainPart`] where nothing
/// but other parts is there.
pub fn image_parts(root: &Path) -> Result<ImageParts, DataError> {
    let none = || ImageParts {
        train: root.to_owned(),
        validation: None,
        test: None,
    };
    match root.is_dir() {
        true => Ok(find(root, DEPTH)?.unwrap_or_else(none)),
        false => Ok(none()),
    }
}

fn folders(path: &Path) -> Result<Vec<PathBuf>, DataError> {
    let mut paths = entries(path)?;
    // What macOS leaves in archives.
    paths.retain(|path| path.is_dir() && path.file_name().is_none_or(|name| name != "__MACOSX"));
    Ok(paths)
}

fn find(folder: &Path, depth: usize) -> Result<Option<ImageParts>, DataError> {
    let below = folders(folder)?;
    let part = |part: Part| -> Result<Option<PathBuf>, DataError> {
        let mut named = below.iter().filter(|path| says(path) == Says::Part(part));
        match (named.next(), named.next()) {
            (Some(first), Some(second)) => Err(DataError::TwoParts {
                path: folder.to_owned(),
                part: part.name(),
                folders: [first, second]
                    .map(|path| path.display().to_string())
                    .to_vec(),
            }),
            (Some(only), None) => Ok(Some(inner(only.clone(), part)?)),
            (None, _) => Ok(None),
        }
    };
    let others = below
        .iter()
        .any(|path| !matches!(says(path), Says::Part(_)));
    let any = below.iter().any(|path| matches!(says(path), Says::Part(_)));
    let train = below
        .iter()
        .filter(|path| says(path) == Says::Part(Part::Train));
    let mut has_folders = false;
    for path in train {
        has_folders |= !folders(path)?.is_empty();
    }
    if any && (has_folders || !others) {
        let Some(train) = part(Part::Train)? else {
            return Err(DataError::NoTrainPart {
                path: folder.to_owned(),
                folders: below
                    .iter()
                    .map(|path| path.display().to_string())
                    .collect(),
            });
        };
        return Ok(Some(ImageParts {
            train,
            validation: part(Part::Validation)?,
            test: part(Part::Test)?,
        }));
    }
    if any || depth == 0 {
        return Ok(None);
    }
    for path in &below {
        if (below.len() == 1 || says(path) == Says::Nothing)
            && let Some(parts) = find(path, depth - 1)?
        {
            return Ok(Some(parts));
        }
    }
    Ok(None)
}

/// The folder of a part that lies alone in a folder of the same name, or in `images`.
fn inner(mut path: PathBuf, part: Part) -> Result<PathBuf, DataError> {
    for _ in 0..DEPTH {
        match entries(&path)?.as_slice() {
            [only] if only.is_dir() && [Says::Nothing, Says::Part(part)].contains(&says(only)) => {
                path.clone_from(only);
            }
            _ => break,
        }
    }
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_told_by_their_names() {
        use Part::{Test, Train, Validation};
        for (name, expect) in [
            ("train", Says::Part(Train)),
            ("TRAIN", Says::Part(Train)),
            ("training_set", Says::Part(Train)),
            ("TrainImages", Says::Part(Train)),
            ("seg_train", Says::Part(Train)),
            ("train2017", Says::Part(Train)),
            ("val", Says::Part(Validation)),
            ("Valid", Says::Part(Validation)),
            ("validation data", Says::Part(Validation)),
            ("dev-set", Says::Part(Validation)),
            ("testing", Says::Part(Test)),
            ("test_set", Says::Part(Test)),
            ("images", Says::Nothing),
            ("data", Says::Nothing),
            ("trains", Says::Other),
            ("tester", Says::Other),
            ("cat", Says::Other),
            ("train_test", Says::Other),
            ("devil", Says::Other),
        ] {
            assert_eq!(says(Path::new(name)), expect, "{name}");
        }
    }
}
