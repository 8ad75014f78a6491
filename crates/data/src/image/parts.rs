//! The parts of a dataset of pictures: which folders are the training, the validation and the test part.
//!
//! A folder is a part by its name, in any case: `train` or `training`; `val`, `valid`, `validation`, `dev`, `eval` or
//! `evaluation`; `test` or `testing`; `trn` and `tst`. Beside that word may stand numbers and words such as `set`, `data`,
//! `images` and `seg`, apart or not: `Train`, `training_set`, `seg_train`, `TestImages`, `val2017`, `train.v1`. Folders whose
//! names differ in that word alone are parts too: `flowers-train` and `flowers-test`.
//!
//! A folder has parts if it has a training part, and that has folders itself, or nothing but parts stand beside it: there is a
//! class `train` among vehicles. Otherwise the folder's only folder, or the one called `images` or `data`, is looked into. A
//! part that holds nothing but a part of the same name, or `images`, is that folder.
//!
//! Folders that are left out, and classes that look like parts, are named in a note. Parts inside of classes are refused.

use std::path::{Path, PathBuf};

use super::set::{entries, name_of};
use crate::DataError;
use rekindle_base::near::quoted_list;

/// The folders of a dataset's parts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageParts {
    /// What is trained on.
    pub train: PathBuf,
    /// The validation part.
    pub validation: Option<PathBuf>,
    /// The test part.
    pub test: Option<PathBuf>,
    /// Folders that were left out, and folders that may be something else than they are taken for, a line each.
    pub notes: Vec<String>,
}

/// Folders that a message names.
const NAMED: usize = 5;
/// How deep parts may lie.
const DEPTH: usize = 3;
/// Words of a part: each folder's name has one of them.
const WORDS: [(&str, Part); 12] = [
    ("training", Part::Train),
    ("train", Part::Train),
    ("trn", Part::Train),
    ("validation", Part::Validation),
    ("valid", Part::Validation),
    ("val", Part::Validation),
    ("dev", Part::Validation),
    ("evaluation", Part::Validation),
    ("eval", Part::Validation),
    ("testing", Part::Test),
    ("test", Part::Test),
    ("tst", Part::Test),
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

/// Whether a folder's name says that it is a part.
fn is_part(path: &Path) -> bool {
    matches!(says(path), Says::Part(_))
}

/// The part that a word names, such as a value in a column of parts.
pub(crate) fn part_name(word: &str) -> Option<&'static str> {
    match says(Path::new(word)) {
        Says::Part(part) => Some(part.name()),
        _ => None,
    }
}

/// What a name says beside the one word of a part in it, and the part.
fn stem(path: &Path) -> Option<(String, Part)> {
    let mut words = String::new();
    let mut before = ' ';
    for c in name_of(path).chars() {
        if before.is_lowercase() && c.is_uppercase() {
            words.push(' ');
        }
        match c.is_alphanumeric() {
            true => words.extend(c.to_lowercase()),
            false => words.push(' '),
        }
        before = c;
    }
    let part_of = |word: &str| {
        let known = WORDS.iter().find(|(known, _)| *known == word);
        known.map(|(_, part)| *part)
    };
    let mut parts = words.split_whitespace().filter_map(part_of);
    let part = parts.next().filter(|_| parts.next().is_none())?;
    let others = words
        .split_whitespace()
        .filter(|word| part_of(word).is_none());
    Some((others.collect::<Vec<_>>().join(" "), part))
}

fn says(path: &Path) -> Says {
    let name = name_of(path).to_lowercase();
    let mut found = Says::Nothing;
    // The number of a version says nothing.
    let tokens = name.split(|c: char| !c.is_alphabetic());
    for token in tokens.filter(|token| *token != "v") {
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
/// but other parts is there; [`DataError::PartsInClasses`].
pub fn image_parts(root: &Path) -> Result<ImageParts, DataError> {
    let none = || ImageParts {
        train: root.to_owned(),
        validation: None,
        test: None,
        notes: Vec::new(),
    };
    if !root.is_dir() {
        return Ok(none());
    }
    match find(root, DEPTH)? {
        Some(parts) => Ok(parts),
        None => Ok(ImageParts {
            notes: doubts(root)?,
            ..none()
        }),
    }
}

/// What may be wrong with a folder without parts, where its folders are read as classes.
fn doubts(root: &Path) -> Result<Vec<String>, DataError> {
    let classes = folders(root)?;
    let names_in = |path: &PathBuf| -> Result<Vec<String>, DataError> {
        Ok(folders(path)?.iter().map(|path| name_of(path)).collect())
    };
    let names: Vec<String> = classes.iter().map(|path| name_of(path)).collect();
    let first = classes.first().map(names_in).transpose()?;
    let first = first.unwrap_or_default();
    // Classes are listed as long as they may be alike: mostly the first one alone.
    let mut are_alike = classes.len() > 1 && first.len() > 1;
    for class in classes.iter().skip(1) {
        are_alike = are_alike && names_in(class)? == first;
    }
    if are_alike {
        let parts: Vec<&str> = first.iter().filter_map(|name| part_name(name)).collect();
        if parts.len() == first.len() && parts.contains(&Part::Train.name()) {
            return Err(DataError::PartsInClasses {
                path: root.to_owned(),
                class: names[0].clone(),
                parts: first,
            });
        }
        return Ok(vec![format!(
            "warning: {} are read as classes, and hold folders of the same names, {}: if they are parts of the data, name them with --train, --validation and --test",
            quoted_list(&names, NAMED),
            quoted_list(&first, NAMED)
        )]);
    }
    let parts: Vec<String> = classes
        .iter()
        .filter(|path| is_part(path))
        .map(|path| name_of(path))
        .collect();
    Ok(match parts.is_empty() {
        true => Vec::new(),
        false => vec![format!(
            "warning: {}: {} is read as a class, as what stands beside it: if it is a part of the data, name the parts with --train, --validation and --test",
            root.display(),
            quoted_list(&parts, NAMED)
        )],
    })
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
    let others = below.iter().any(|path| !is_part(path));
    let any = below.iter().any(|path| is_part(path));
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
        let left_out: Vec<String> = below
            .iter()
            .filter(|path| !is_part(path))
            .map(|path| name_of(path))
            .collect();
        let note = (!left_out.is_empty()).then(|| {
            format!(
                "warning: {}: left out, beside the training part: {}",
                folder.display(),
                quoted_list(&left_out, NAMED)
            )
        });
        return Ok(Some(ImageParts {
            train,
            validation: part(Part::Validation)?,
            test: part(Part::Test)?,
            notes: note.into_iter().collect(),
        }));
    }
    if let Some(parts) = of_one_stem(&below)? {
        return Ok(Some(parts));
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

/// Folders whose names differ in the word of the part alone.
fn of_one_stem(below: &[PathBuf]) -> Result<Option<ImageParts>, DataError> {
    let stems: Option<Vec<(String, Part)>> = below.iter().map(|path| stem(path)).collect();
    let Some(stems) = stems else { return Ok(None) };
    let find = |part: Part| {
        let mut found = below.iter().zip(&stems).filter(|(_, (_, of))| *of == part);
        let first = found.next().map(|(path, _)| path.clone());
        first.filter(|_| found.next().is_none())
    };
    let (train, validation, test) = (find(Part::Train), find(Part::Validation), find(Part::Test));
    let all = [&train, &validation, &test].into_iter().flatten().count() == below.len();
    let is_one = stems.iter().all(|(stem, _)| *stem == stems[0].0);
    match train {
        Some(train) if all && is_one && below.len() > 1 && !folders(&train)?.is_empty() => {
            Ok(Some(ImageParts {
                train,
                validation,
                test,
                notes: Vec::new(),
            }))
        }
        _ => Ok(None),
    }
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
            ("train.v1", Says::Part(Train)),
            ("trn", Says::Part(Train)),
            ("tst", Says::Part(Test)),
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
