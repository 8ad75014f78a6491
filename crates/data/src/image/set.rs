//! Lists of pictures with their classes: a folder a class, or a table of paths. A list costs the length of its paths and a
//! few bytes each; no picture is kept.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rayon::prelude::*;
use rekindle_base::folder_of;

use super::decode::{MOST_BYTES, Picture, check_picture, read_within};
use crate::targets::canonical::{count_labels, look_alikes};
use crate::{
    Column, DataError, Examples, Input, LabelMap, OnBad, Place, RawTarget, ReadOptions,
    ReadOutcome, ResolvedColumns, TargetEncoder, TargetHint, TargetKind, Targets, read_examples,
};

/// Extensions of pictures; other files of a folder are no examples.
const EXTENSIONS: [&str; 8] = ["jpg", "jpeg", "jpe", "jfif", "png", "webp", "gif", "bmp"];
/// Pictures of other kinds, which are named rather than passed over.
const OTHER: [&str; 7] = ["tif", "tiff", "heic", "heif", "avif", "jp2", "svg"];

/// Bad pictures that a message names.
const NAMED: usize = 5;

/// What is learned of the pictures of a set.
#[derive(Debug, Clone, PartialEq)]
enum Labels {
    /// Nothing.
    None,
    /// One class each.
    Classes {
        /// Class of each, as an index into `names`.
        of: Vec<u32>,
        /// Class names, sorted.
        names: Vec<String>,
    },
    /// Numbers, or sets of labels; with their place in the table.
    Raw(Vec<(RawTarget, Place)>),
}

/// Pictures with what is learned of them.
#[derive(Debug, Clone, PartialEq)]
pub struct ImageSet {
    root: Arc<Path>,
    /// All paths below the root, one after the other.
    paths: String,
    /// Where each ends.
    ends: Vec<usize>,
    labels: Labels,
    /// Bytes that a picture may take while it is decoded.
    max_bytes: u64,
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
    /// What the labels look like, before a limit was drawn.
    pub hint: TargetHint,
    /// Names of what is learned, for [`ImageSet::encoder`]; empty for classes.
    pub label_names: Vec<String>,
    /// The columns of a table; none for folders.
    pub columns: Option<ResolvedColumns>,
}

/// Reads a folder in which each folder is a class, or a table with a column of paths (relative to the table) and one of
/// labels. Every file's structure is looked at: what is no whole picture is an error that names it, or is left out.
///
/// # Errors
/// When there is nothing to read, with [`OnBad::Error`] when a file is no picture, and for folders where other targets
/// than classes are learned.
pub fn read_images(path: &Path, options: &ReadOptions) -> Result<ImageRead, DataError> {
    if !path.exists() {
        return Err(DataError::NoSuchFile {
            path: path.to_owned(),
            near: Vec::new(),
        });
    }
    let mut read = match path.is_dir() {
        true if options.target != TargetKind::Class => {
            return Err(DataError::FolderTargets {
                path: path.to_owned(),
                kind: options.target,
            });
        }
        true => read_folder(path)?,
        false => read_table(path, options)?,
    };
    let mut set = read.set.limited(options.limit.as_ref());
    set.max_bytes = options.max_picture.unwrap_or(MOST_BYTES);
    let mut bad = set.bad();
    for (index, reason) in bad.iter_mut().take(NAMED) {
        let missing = set.path(*index);
        if !missing.exists() && !missing.is_symlink() {
            *reason = match picture_near(path, set.name(*index)) {
                Some(found) => format!("not there, but {} is", found.display()),
                None => format!("not there: paths count from {}", folder_of(path).display()),
            };
        }
    }
    if bad.is_empty() {
        return Ok(ImageRead { set, ..read });
    }
    let named = |bad: &[(usize, String)]| -> String {
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
    read.notes.push(format!(
        "{} of {} pictures left out: {}",
        bad.len(),
        set.len(),
        named(&bad).replace("\n  ", "; ")
    ));
    let mut good = vec![true; set.len()];
    bad.iter().for_each(|(index, _)| good[*index] = false);
    read.skipped.extend(
        bad.into_iter()
            .map(|(index, reason)| (set.path(index), reason)),
    );
    let kept: Vec<usize> = (0..set.len()).filter(|&index| good[index]).collect();
    if kept.is_empty() {
        return Err(DataError::NoPictures {
            path: path.to_owned(),
        });
    }
    Ok(ImageRead {
        set: set.of(&kept),
        ..read
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
    if !path.is_dir() {
        return Err(DataError::Picture {
            path: path.to_owned(),
            reason: "it is neither a file nor a folder".into(),
        });
    }
    let mut walk = Walk::new(path)?;
    walk.folder(path)?;
    let found = walk.found;
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

/// The last part of a path.
pub(super) fn name_of(path: &Path) -> String {
    path.file_name()
        .map_or_else(String::new, |name| name.to_string_lossy().into_owned())
}

/// The entries of a folder that are not hidden, sorted.
pub(super) fn entries(folder: &Path) -> Result<Vec<PathBuf>, DataError> {
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

/// Whether it is a pipe, a device or the like: reading it may never end.
fn is_special(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|found| !found.is_file())
}

fn has_extension(path: &Path, of: &[&str]) -> bool {
    path.extension()
        .and_then(|e| e.to_str())
        .is_some_and(|e| of.contains(&e.to_lowercase().as_str()))
}

/// A way through the folders below a root.
///
/// A link to a folder elsewhere is followed. A link into the root, or into a folder that another link led to, or to a folder
/// above one of them, is not: it would lead in a circle, or give the pictures of one class to another.
struct Walk {
    /// The root without links.
    root: PathBuf,
    /// Folders that links led to.
    followed: Vec<PathBuf>,
    /// Links that were not followed.
    passed: Vec<PathBuf>,
    /// Pictures, in order of their names.
    found: Vec<PathBuf>,
    /// Number of other files.
    others: usize,
}

impl Walk {
    fn new(root: &Path) -> Result<Self, DataError> {
        Ok(Self {
            root: fs::canonicalize(root).map_err(io(root))?,
            followed: Vec::new(),
            passed: Vec::new(),
            found: Vec::new(),
            others: 0,
        })
    }

    /// Whether a folder is to be looked into: a folder itself, or a link that may be followed.
    fn enters(&mut self, path: &Path) -> Result<bool, DataError> {
        if !path.is_symlink() {
            return Ok(true);
        }
        let to = fs::canonicalize(path).map_err(io(path))?;
        let hidden = |below: &Path| {
            let mut names = below.iter().map(|name| name.to_string_lossy());
            names.any(|name| name.starts_with('.'))
        };
        let overlaps = |base: &PathBuf| {
            base.starts_with(&to) || to.strip_prefix(base).is_ok_and(|below| !hidden(below))
        };
        let enters = !overlaps(&self.root) && !self.followed.iter().any(overlaps);
        match enters {
            true => self.followed.push(to),
            false => self.passed.push(path.to_owned()),
        }
        Ok(enters)
    }

    /// All pictures below a folder.
    fn folder(&mut self, folder: &Path) -> Result<(), DataError> {
        for path in entries(folder)? {
            if path.is_dir() {
                if self.enters(&path)? {
                    self.folder(&path)?;
                }
            } else if is_special(&path) {
                self.others += 1;
            } else if has_extension(&path, &EXTENSIONS) || has_extension(&path, &OTHER) {
                self.found.push(path);
            } else {
                check_link(&path)?;
                self.others += 1;
            }
        }
        Ok(())
    }
}

/// Refuses a link that leads nowhere: it may have been a folder of pictures.
fn check_link(path: &Path) -> Result<(), DataError> {
    match fs::read_link(path) {
        Ok(to) if !path.exists() => Err(DataError::DeadLink {
            path: path.to_owned(),
            to,
        }),
        _ => Ok(()),
    }
}

fn read_folder(root: &Path) -> Result<ImageRead, DataError> {
    let mut set = ImageSet::empty(root);
    let (mut of, mut names) = (Vec::new(), Vec::new());
    let mut loose = 0;
    let mut walk = Walk::new(root)?;
    for path in entries(root)? {
        if !path.is_dir() {
            check_link(&path)?;
            loose += usize::from(has_extension(&path, &EXTENSIONS));
            continue;
        }
        if !walk.enters(&path)? {
            continue;
        }
        let name = name_of(&path);
        walk.folder(&path)?;
        if walk.found.is_empty() {
            return Err(DataError::EmptyClass { path });
        }
        let class = names.len() as u32;
        names.push(name);
        for path in walk.found.drain(..) {
            set.push(&path)?;
            of.push(class);
        }
    }
    if names.is_empty() {
        return Err(DataError::NoClasses {
            path: root.to_owned(),
            loose,
        });
    }
    let mut notes = Vec::new();
    if walk.others + loose > 0 {
        notes.push(format!(
            "{}: {} files beside the pictures, or in no class, were passed over",
            root.display(),
            walk.others + loose
        ));
    }
    for link in &walk.passed {
        notes.push(format!(
            "{}: a link to another folder of {}, or to one above it, was not followed",
            link.display(),
            root.display()
        ));
    }
    set.labels = Labels::Classes { of, names };
    let counts = set.counts();
    let alike = look_alikes(&counts);
    notes.extend(alike.map(|note| format!("warning: {}: {note}", root.display())));
    Ok(ImageRead {
        hint: TargetHint::Classes { counts },
        set,
        skipped: Vec::new(),
        notes,
        label_names: Vec::new(),
        columns: None,
    })
}

/// The names that a column of paths usually has.
pub(crate) const PATH_COLUMNS: [&str; 6] = [
    "image",
    "path",
    "file",
    "filename",
    "image_path",
    "file_name",
];

/// Whether a text is the name of a picture's file, as far as its end tells.
pub(crate) fn is_picture_name(text: &str) -> bool {
    let path = Path::new(text.trim());
    has_extension(path, &EXTENSIONS) || has_extension(path, &OTHER)
}

/// A picture of this name, with its extension or without, beside a table or in a folder beside it.
pub(crate) fn picture_near(table: &Path, name: &str) -> Option<PathBuf> {
    const FOLDERS: usize = 50;
    let name = Path::new(name.trim()).file_name()?;
    let folder = folder_of(table);
    let below = entries(folder).ok()?;
    let below = below.into_iter().filter(|path| path.is_dir()).take(FOLDERS);
    let with_extension = |folder: &PathBuf| {
        let bare = folder.join(name);
        let extended = EXTENSIONS.iter().map(|extension| {
            let mut path = bare.clone().into_os_string();
            path.push(format!(".{extension}"));
            PathBuf::from(path)
        });
        let mut all = std::iter::once(bare.clone()).chain(extended);
        all.find(|path| has_extension(path, &EXTENSIONS) && path.is_file())
    };
    let found = std::iter::once(folder.to_owned()).chain(below);
    found.into_iter().find_map(|folder| with_extension(&folder))
}

/// The rows of a table of pictures, their files as the texts; paths in the table are relative to it.
///
/// # Errors
/// As [`read_examples`].
pub fn pictures_of_table(path: &Path, options: &ReadOptions) -> Result<ReadOutcome, DataError> {
    let folder = path.parent().unwrap_or(Path::new(""));
    let mut read = table_rows(path, options)?;
    for row in &mut read.examples {
        row.text = folder.join(row.text.trim()).to_string_lossy().into_owned();
    }
    Ok(read)
}

/// The rows of a table of pictures, with the paths as their texts.
fn table_rows(path: &Path, options: &ReadOptions) -> Result<ReadOutcome, DataError> {
    let mut last = None;
    let tries: Vec<Option<Column>> = match &options.text {
        Some(column) => vec![Some(column.clone())],
        None => {
            let usual = options.usual.text.iter().cloned();
            let known = PATH_COLUMNS.iter().map(|name| Column::Name((*name).into()));
            usual.chain(known).map(Some).chain([None]).collect()
        }
    };
    for text in tries {
        let options = ReadOptions {
            text,
            limit: None,
            input: Input::Image,
            ..options.clone()
        };
        match read_examples(path, &options) {
            Ok(read) => return Ok(read),
            Err(error @ DataError::MissingColumn { .. }) => last = Some(error),
            Err(error) => return Err(error),
        }
    }
    Err(last.unwrap_or(DataError::NoPictures {
        path: path.to_owned(),
    }))
}

fn read_table(path: &Path, options: &ReadOptions) -> Result<ImageRead, DataError> {
    let read = table_rows(path, options)?;
    let folder = path.parent().unwrap_or(Path::new(""));
    let mut set = ImageSet::empty(folder);
    for example in &read.examples {
        set.push(&folder.join(example.text.trim()))?;
    }
    set.labels = match options.target {
        TargetKind::Class => {
            match LabelMap::from_examples(&read.examples) {
                Ok(labels) => Labels::Classes {
                    of: labels.encode_all(&read.examples)?,
                    names: labels.names().to_vec(),
                },
                // Enough for an evaluation; `encoder` refuses it for training.
                Err(DataError::OneClass { label, .. }) => Labels::Classes {
                    of: vec![0; read.examples.len()],
                    names: vec![label],
                },
                Err(error) => return Err(error),
            }
        }
        _ => Labels::Raw(
            read.examples
                .into_iter()
                .map(|example| match example.label {
                    Some(label) => Ok((label, example.place)),
                    None => Err(DataError::Unlabelled {
                        place: example.place,
                    }),
                })
                .collect::<Result<_, _>>()?,
        ),
    };
    Ok(ImageRead {
        set,
        skipped: read
            .skipped
            .into_iter()
            .map(|row| (path.to_owned(), row.to_string()))
            .collect(),
        notes: read.notes,
        hint: read.hint,
        label_names: read.label_names,
        columns: Some(read.columns),
    })
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
    /// Files without labels, in this order.
    ///
    /// # Errors
    /// When a path is not UTF-8.
    pub fn of_files(paths: &[PathBuf]) -> Result<Self, DataError> {
        let mut set = Self::empty(Path::new(""));
        paths.iter().try_for_each(|path| set.push(path))?;
        Ok(set)
    }

    fn empty(root: &Path) -> Self {
        Self {
            root: root.into(),
            paths: String::new(),
            ends: Vec::new(),
            labels: Labels::None,
            max_bytes: MOST_BYTES,
        }
    }

    fn push(&mut self, path: &Path) -> Result<(), DataError> {
        let below = path.strip_prefix(&self.root).unwrap_or(path);
        let Some(text) = below.to_str() else {
            return Err(DataError::Picture {
                path: path.to_owned(),
                reason: "its name is not UTF-8".into(),
            });
        };
        self.paths.push_str(text);
        self.ends.push(self.paths.len());
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

    /// A picture, decoded.
    ///
    /// # Errors
    /// As [`read_picture`](super::read_picture), with the bound that the set was read with.
    ///
    /// # Panics
    /// If there are not so many.
    pub fn read(&self, index: usize) -> Result<Picture, DataError> {
        self.read_with(index, |picture| picture)
    }

    /// What is made of a picture, decoded. Of large ones, one at a time is decoded and made into something smaller, whatever the
    /// number of threads; `make` must not wait for other pictures.
    pub(super) fn read_with<T>(
        &self,
        index: usize,
        make: impl FnOnce(Picture) -> T,
    ) -> Result<T, DataError> {
        read_within(&self.path(index), self.max_bytes, make)
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

    /// Class names, sorted; empty where pictures have no classes.
    #[must_use]
    pub fn classes(&self) -> &[String] {
        match &self.labels {
            Labels::Classes { names, .. } => names,
            _ => &[],
        }
    }

    /// The encoder for the targets of a training set: its classes, or `names`, which are
    /// [`ImageRead::label_names`].
    ///
    /// # Errors
    /// [`DataError::EmptyLabels`] where there is nothing to learn, [`DataError::OneClass`] where nothing is to be told
    /// apart.
    pub fn encoder(&self, kind: TargetKind, names: &[String]) -> Result<TargetEncoder, DataError> {
        match kind {
            TargetKind::Class => match self.classes() {
                [only] => Err(DataError::OneClass {
                    path: self.root.to_path_buf(),
                    label: only.clone(),
                    examples: self.len(),
                }),
                classes => TargetEncoder::from_names(kind, classes.to_vec()),
            },
            _ => TargetEncoder::from_names(kind, names.to_vec()),
        }
    }

    /// The targets of all pictures; none for a set without labels.
    ///
    /// # Errors
    /// [`DataError::UnknownLabel`] for a class or label that the encoder does not know.
    pub fn targets(&self, encoder: &TargetEncoder) -> Result<Targets, DataError> {
        let (of, names) = match &self.labels {
            Labels::None => return Ok(Targets::None),
            Labels::Raw(rows) => {
                return encoder.encode_rows(rows.iter().map(|(raw, place)| (Some(raw), place)));
            }
            Labels::Classes { of, names } => (of, names),
        };
        let TargetEncoder::Class(labels) = encoder else {
            return Err(DataError::FolderTargets {
                path: self.root.to_path_buf(),
                kind: encoder.kind(),
            });
        };
        let mut ids = Vec::with_capacity(names.len());
        for name in names {
            let place = Place {
                path: self.root.join(name).into(),
                line: 0,
            };
            ids.push(labels.encode_name(name, &place)?);
        }
        Ok(Targets::Class(
            of.iter().map(|&class| ids[class as usize]).collect(),
        ))
    }

    /// The pictures at these places, in this order.
    #[must_use]
    pub fn of(&self, indices: &[usize]) -> Self {
        let mut set = Self {
            labels: match &self.labels {
                Labels::None => Labels::None,
                Labels::Classes { of, names } => Labels::Classes {
                    of: indices.iter().map(|&index| of[index]).collect(),
                    names: names.clone(),
                },
                Labels::Raw(rows) => {
                    Labels::Raw(indices.iter().map(|&index| rows[index].clone()).collect())
                }
            },
            max_bytes: self.max_bytes,
            ..Self::empty(&self.root)
        };
        for &index in indices {
            set.paths.push_str(self.name(index));
            set.ends.push(set.paths.len());
        }
        set
    }

    /// Files that are no whole picture as far as their structure shows, that are too large, or that stand for one that is missing.
    fn bad(&self) -> Vec<(usize, String)> {
        (0..self.len())
            .into_par_iter()
            .filter_map(|index| {
                let path = self.path(index);
                let reason = match check_picture(&path, self.max_bytes) {
                    Ok(_) if is_placeholder(&path) => {
                        "by its name it stands for a picture that could not be had".to_owned()
                    }
                    Ok((0, _) | (_, 0)) => "it has no pixels".to_owned(),
                    Ok(_) => return None,
                    Err(DataError::Picture { reason, .. }) => reason,
                    Err(_) if path.is_symlink() && !path.exists() => {
                        "a link to a file that is not there".to_owned()
                    }
                    Err(DataError::Io { source, .. }) => source.to_string(),
                    Err(other) => other.to_string(),
                };
                Some((index, reason))
            })
            .collect()
    }

    /// Pictures of each class or label, by name; empty where numbers are learned.
    #[must_use]
    pub fn counts(&self) -> BTreeMap<String, usize> {
        match &self.labels {
            Labels::None => BTreeMap::new(),
            Labels::Raw(rows) => count_labels(rows.iter().map(|(raw, _)| raw)).0,
            Labels::Classes { of, names } => {
                let mut counts = BTreeMap::new();
                for &class in of {
                    *counts.entry(names[class as usize].clone()).or_default() += 1;
                }
                counts
            }
        }
    }
}

impl Examples for ImageSet {
    fn count(&self) -> usize {
        self.len()
    }

    fn class(&self, index: usize) -> Option<Cow<'_, str>> {
        match &self.labels {
            Labels::Classes { of, names } => Some(Cow::Borrowed(&names[of[index] as usize])),
            _ => None,
        }
    }

    fn labels(&self, index: usize) -> &[String] {
        match &self.labels {
            Labels::Raw(targets) => targets[index].0.labels(),
            _ => &[],
        }
    }

    fn source(&self) -> PathBuf {
        self.root.to_path_buf()
    }

    fn into_parts(self, to: &[u8]) -> [Self; 3] {
        [0, 1, 2].map(|part| {
            let indices: Vec<usize> = (0..self.len()).filter(|&i| to[i] == part).collect();
            self.of(&indices)
        })
    }
}
