//! Lists of pictures with their classes: a folder a class, or a table of paths. A list costs the length of its paths and a
//! few bytes each; no picture is kept.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rayon::prelude::*;

use super::decode::picture_size;
use crate::{
    Column, DataError, Fractions, LabelMap, OnBad, Place, RawLabel, ReadOptions, read_examples,
    split::parts,
};

/// Extensions of pictures; other files of a folder are no examples.
const EXTENSIONS: [&str; 8] = ["jpg", "jpeg", "jpe", "jfif", "png", "webp", "gif", "bmp"];
/// Pictures of other kinds, which are named rather than passed over.
const OTHER: [&str; 7] = ["tif", "tiff", "heic", "heif", "avif", "jp2", "svg"];

/// Pictures with their classes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageSet {
    root: Arc<Path>,
    /// All paths below the root, one after the other.
    paths: String,
    /// Where each ends.
    ends: Vec<usize>,
    /// Class of each, as an index into `classes`.
    class_of: Vec<u32>,
    /// Class names, sorted.
    classes: Vec<String>,
}

/// A set as it was read.
#[derive(Debug)]
pub struct ImageRead {
    /// The pictures.
    pub set: ImageSet,
    /// What was left out: path and reason.
    pub skipped: Vec<(PathBuf, String)>,
    /// Remarks, a line each.
    pub notes: Vec<String>,
}

/// The folders of a dataset's parts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageParts {
    /// What is trained on.
    pub train: PathBuf,
    /// `val`, `valid`, `validation` or `dev`.
    pub validation: Option<PathBuf>,
    /// `test`.
    pub test: Option<PathBuf>,
}

/// The parts of a folder: those named train, val and test, or the folder itself.
#[must_use]
pub fn image_parts(root: &Path) -> ImageParts {
    let part = |names: &[&str]| {
        names
            .iter()
            .map(|name| root.join(name))
            .find(|path| path.is_dir())
    };
    match part(&["train", "training"]) {
        Some(train) => ImageParts {
            train,
            validation: part(&["val", "valid", "validation", "dev"]),
            test: part(&["test", "testing"]),
        },
        None => ImageParts {
            train: root.to_owned(),
            validation: None,
            test: None,
        },
    }
}

/// Reads a folder in which each folder is a class, or a table with a column of paths (relative to the table) and one of
/// labels. Every file's header is looked at: what is no whole picture is an error that names it, or is left out.
///
/// # Errors
/// When there is nothing to read, and with [`OnBad::Error`] when a file is no picture.
pub fn read_images(path: &Path, options: &ReadOptions) -> Result<ImageRead, DataError> {
    if !path.exists() {
        return Err(DataError::NoSuchFile {
            path: path.to_owned(),
            near: Vec::new(),
        });
    }
    let (set, mut notes) = match path.is_dir() {
        true => read_folder(path)?,
        false => (read_table(path, options)?, Vec::new()),
    };
    let set = set.limited(options.limit);
    let bad = set.bad();
    if bad.is_empty() {
        return Ok(ImageRead {
            set,
            skipped: Vec::new(),
            notes,
        });
    }
    let named = |bad: &[(usize, String)]| -> String {
        const NAMED: usize = 5;
        let mut text: Vec<String> = bad
            .iter()
            .take(NAMED)
            .map(|(index, reason)| format!("{}: {reason}", set.path(*index).display()))
            .collect();
        if bad.len() > NAMED {
            text.push(format!("and {} more", bad.len() - NAMED));
        }
        text.join("\n  ")
    };
    if options.on_bad_example == OnBad::Error {
        return Err(DataError::BadPictures {
            path: path.to_owned(),
            count: bad.len(),
            of: set.len(),
            named: named(&bad),
        });
    }
    notes.push(format!(
        "{} of {} pictures left out: {}",
        bad.len(),
        set.len(),
        named(&bad).replace("\n  ", "; ")
    ));
    let mut good = vec![true; set.len()];
    bad.iter().for_each(|(index, _)| good[*index] = false);
    let skipped = bad
        .into_iter()
        .map(|(index, reason)| (set.path(index), reason))
        .collect();
    let kept: Vec<usize> = (0..set.len()).filter(|&index| good[index]).collect();
    if kept.is_empty() {
        return Err(DataError::NoPictures {
            path: path.to_owned(),
        });
    }
    Ok(ImageRead {
        set: set.of(&kept),
        skipped,
        notes,
    })
}

/// Reads files and folders of pictures without labels, in order of their names.
///
/// # Errors
/// When a path does not exist, or there is no picture at all.
pub fn find_pictures(path: &Path) -> Result<Vec<PathBuf>, DataError> {
    if !path.exists() {
        return Err(DataError::NoSuchFile {
            path: path.to_owned(),
            near: Vec::new(),
        });
    }
    if path.is_file() {
        return Ok(vec![path.to_owned()]);
    }
    let (mut found, mut others) = (Vec::new(), 0);
    walk(path, &mut found, &mut others)?;
    if found.is_empty() {
        return Err(DataError::NoPictures {
            path: path.to_owned(),
        });
    }
    Ok(found)
}

fn io(path: &Path) -> impl Fn(std::io::Error) -> DataError {
    let path = path.to_owned();
    move |source| DataError::Io {
        path: path.clone(),
        source,
    }
}

/// The entries of a folder that are not hidden, sorted.
fn entries(folder: &Path) -> Result<Vec<PathBuf>, DataError> {
    let mut paths = Vec::new();
    for entry in fs::read_dir(folder).map_err(io(folder))? {
        let entry = entry.map_err(io(folder))?;
        if !entry.file_name().to_string_lossy().starts_with('.') {
            paths.push(entry.path());
        }
    }
    paths.sort();
    Ok(paths)
}

fn has_extension(path: &Path, of: &[&str]) -> bool {
    path.extension()
        .and_then(|e| e.to_str())
        .is_some_and(|e| of.contains(&e.to_lowercase().as_str()))
}

/// All pictures below a folder, and the number of other files.
fn walk(folder: &Path, found: &mut Vec<PathBuf>, others: &mut usize) -> Result<(), DataError> {
    for path in entries(folder)? {
        if path.is_dir() {
            walk(&path, found, others)?;
        } else if has_extension(&path, &EXTENSIONS) || has_extension(&path, &OTHER) {
            found.push(path);
        } else {
            *others += 1;
        }
    }
    Ok(())
}

fn read_folder(root: &Path) -> Result<(ImageSet, Vec<String>), DataError> {
    let mut set = ImageSet::empty(root);
    let mut others = 0;
    let mut loose = 0;
    for path in entries(root)? {
        if !path.is_dir() {
            loose += usize::from(has_extension(&path, &EXTENSIONS));
            continue;
        }
        let name = path
            .file_name()
            .map_or_else(String::new, |name| name.to_string_lossy().into_owned());
        let mut found = Vec::new();
        walk(&path, &mut found, &mut others)?;
        if found.is_empty() {
            return Err(DataError::EmptyClass { path });
        }
        let class = set.classes.len() as u32;
        set.classes.push(name);
        for path in found {
            set.push(&path, class)?;
        }
    }
    match &set.classes[..] {
        [] => Err(DataError::NoClasses {
            path: root.to_owned(),
            loose,
        }),
        [only] => Err(DataError::OneClass {
            path: root.to_owned(),
            label: only.clone(),
            examples: set.len(),
        }),
        _ => {
            let mut notes = Vec::new();
            if others + loose > 0 {
                notes.push(format!(
                    "{}: {} files beside the pictures, or in no class, were passed over",
                    root.display(),
                    others + loose
                ));
            }
            Ok((set, notes))
        }
    }
}

fn read_table(path: &Path, options: &ReadOptions) -> Result<ImageSet, DataError> {
    let mut last = None;
    // The column of paths by the names it usually has, where none is given.
    let names = [
        "image",
        "path",
        "file",
        "filename",
        "image_path",
        "file_name",
    ];
    let tries: Vec<Option<Column>> = match &options.text {
        Some(column) => vec![Some(column.clone())],
        None => names
            .iter()
            .map(|name| Some(Column::Name((*name).into())))
            .chain([None])
            .collect(),
    };
    for text in tries {
        let options = ReadOptions {
            text,
            limit: None,
            ..options.clone()
        };
        match read_examples(path, &options) {
            Ok(read) => {
                let labels = LabelMap::from_examples(&read.examples)?;
                let ids = labels.encode_all(&read.examples)?;
                let folder = path.parent().unwrap_or(Path::new(""));
                let mut set = ImageSet::empty(folder);
                set.classes = labels.names().to_vec();
                for (example, class) in read.examples.iter().zip(ids) {
                    set.push(&folder.join(example.text.trim()), class)?;
                }
                return Ok(set);
            }
            Err(error @ DataError::MissingColumn { .. }) => last = Some(error),
            Err(error) => return Err(error),
        }
    }
    Err(last.unwrap_or(DataError::NoPictures {
        path: path.to_owned(),
    }))
}

/// Whether a file's name says that it stands for a picture that could not be had.
fn is_placeholder(path: &Path) -> bool {
    let name: String = path
        .file_stem()
        .map_or_else(String::new, |name| name.to_string_lossy().to_lowercase())
        .chars()
        .filter(char::is_ascii_alphanumeric)
        .collect();
    [
        "notfound",
        "noimage",
        "imagemissing",
        "placeholder",
        "imageunavailable",
    ]
    .iter()
    .any(|part| name.contains(part))
}

impl ImageSet {
    /// Files without classes, in this order.
    ///
    /// # Errors
    /// When a path is not UTF-8.
    pub fn of_files(paths: &[PathBuf]) -> Result<Self, DataError> {
        let mut set = Self::empty(Path::new(""));
        paths.iter().try_for_each(|path| set.push(path, 0))?;
        Ok(set)
    }

    fn empty(root: &Path) -> Self {
        Self {
            root: root.into(),
            paths: String::new(),
            ends: Vec::new(),
            class_of: Vec::new(),
            classes: Vec::new(),
        }
    }

    fn push(&mut self, path: &Path, class: u32) -> Result<(), DataError> {
        let below = path.strip_prefix(&self.root).unwrap_or(path);
        let Some(text) = below.to_str() else {
            return Err(DataError::Picture {
                path: path.to_owned(),
                reason: "its name is not UTF-8".into(),
            });
        };
        self.paths.push_str(text);
        self.ends.push(self.paths.len());
        self.class_of.push(class);
        Ok(())
    }

    /// Number of pictures.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// The file of a picture.
    ///
    /// # Panics
    /// If there are not so many.
    #[must_use]
    pub fn path(&self, index: usize) -> PathBuf {
        self.root.join(self.name(index))
    }

    /// Its path below the set's root.
    ///
    /// # Panics
    /// If there are not so many.
    #[must_use]
    pub fn name(&self, index: usize) -> &str {
        let start = index.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.paths[start..self.ends[index]]
    }

    /// Class names, sorted.
    #[must_use]
    pub fn classes(&self) -> &[String] {
        &self.classes
    }

    /// Class ids by a model's labels.
    ///
    /// # Errors
    /// [`DataError::UnknownLabel`] for a class that the labels lack.
    pub fn labels(&self, labels: &LabelMap) -> Result<Vec<u32>, DataError> {
        let mut ids = Vec::with_capacity(self.classes.len());
        for class in &self.classes {
            let place = Place {
                path: self.root.join(class).into(),
                line: 0,
            };
            ids.push(labels.encode(&RawLabel::from(class.as_str()), &place)?);
        }
        Ok(self
            .class_of
            .iter()
            .map(|&class| ids[class as usize])
            .collect())
    }

    /// The pictures at these places, in this order.
    #[must_use]
    pub fn of(&self, indices: &[usize]) -> Self {
        let mut set = Self {
            classes: self.classes.clone(),
            ..Self::empty(&self.root)
        };
        for &index in indices {
            set.paths.push_str(self.name(index));
            set.ends.push(set.paths.len());
            set.class_of.push(self.class_of[index]);
        }
        set
    }

    fn limited(self, limit: Option<usize>) -> Self {
        match limit {
            Some(limit) if limit < self.len() => self.of(&(0..limit).collect::<Vec<_>>()),
            _ => self,
        }
    }

    /// Files that are no whole picture as far as their headers show, or that stand for one that is missing.
    fn bad(&self) -> Vec<(usize, String)> {
        (0..self.len())
            .into_par_iter()
            .filter_map(|index| {
                let path = self.path(index);
                let reason = match picture_size(&path) {
                    Ok(_) if is_placeholder(&path) => {
                        "by its name it stands for a picture that could not be had".to_owned()
                    }
                    Ok((0, _) | (_, 0)) => "it has no pixels".to_owned(),
                    Ok(_) => return None,
                    Err(DataError::Picture { reason, .. }) => reason,
                    Err(DataError::Io { source, .. }) => source.to_string(),
                    Err(other) => other.to_string(),
                };
                Some((index, reason))
            })
            .collect()
    }

    /// Splits the set as [`split`](crate::split()) does examples: train, validation, test.
    ///
    /// # Errors
    /// As [`split`](crate::split()).
    pub fn split(
        &self,
        fractions: Fractions,
        stratify: bool,
        seed: u64,
    ) -> Result<[Self; 3], DataError> {
        let label = |index: usize| Some(self.classes[self.class_of[index] as usize].as_str());
        let to = parts(self.len(), label, &self.root, fractions, stratify, seed)?;
        Ok([0, 1, 2].map(|part| {
            let indices: Vec<usize> = (0..self.len()).filter(|&i| to[i] == part).collect();
            self.of(&indices)
        }))
    }

    /// Pictures of each class, by name.
    #[must_use]
    pub fn counts(&self) -> BTreeMap<&str, usize> {
        let mut counts = BTreeMap::new();
        for &class in &self.class_of {
            *counts
                .entry(self.classes[class as usize].as_str())
                .or_default() += 1;
        }
        counts
    }
}
