//! A data file's bytes: opened, unpacked and decoded; and files that are something else, told by their first bytes.
//!
//! 1. A folder is refused with what it holds.
//! 2. A pipe is read to its end, into memory.
//! 3. What begins as gzip does is unpacked, whatever its name, as far as [`UNPACKED`] and [`MOST`] go.
//! 4. What begins as another kind of file does is refused by the kind's name: archives, spreadsheets, Git LFS
//!    pointers, pictures and so on.
//! 5. UTF-16 with a byte order mark becomes UTF-8. A web page is refused; carriage returns without line feeds end lines.
//! 6. The format is the one that was set; else the name's, `.gz` dropped; else, for a file without a known name, what its
//!    first bytes show (Parquet's mark, or an object or array of JSON). Content that contradicts it is refused.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fs;
use std::io::Read;
use std::path::Path;

use flate2::bufread::GzDecoder;
use rekindle_base::{folder_of, near::near_misses};

use super::{Format, ReadOptions, Table, delimited, jsonl, parquet};
use crate::DataError;

/// A pipe, or a file that was unpacked, takes at most so many bytes of memory unless [`ReadOptions::max_unpacked`] says
/// otherwise.
const MOST: u64 = 4 << 30;
/// A file that was unpacked takes at most so many bytes, or so many for each byte of it, unless
/// [`ReadOptions::max_unpacked`] says otherwise: text becomes a tenth, and hardly ever less than a fiftieth.
const UNPACKED: (u64, u64) = (256 << 20, 100);
/// Bytes that tell whether a pipe or a device gives text.
const LOOKED_AT: u64 = 1 << 16;
/// What Parquet files begin with.
pub(super) const PARQUET: &[u8] = b"PAR1";
/// What gzip files begin with.
const GZIP: &[u8] = b"\x1F\x8B";

/// A data file, ready to be read as a table.
pub(crate) struct Source {
    pub(super) format: Format,
    pub(super) content: Content,
    /// What was done to it on the way, a line each.
    pub notes: Vec<String>,
}

/// What a table is read from.
pub(super) enum Content {
    /// UTF-8, as far as it is text at all, without a byte order mark.
    Bytes(Vec<u8>),
    /// An open Parquet file.
    File(fs::File),
}

impl Source {
    /// Opens a file as the rules above say.
    ///
    /// # Errors
    /// [`DataError::NoSuchFile`], [`DataError::IsDirectory`], [`DataError::Io`], [`DataError::EmptyFile`],
    /// [`DataError::WrongKind`], [`DataError::Encoding`], [`DataError::UnknownFormat`], [`DataError::TooLarge`].
    pub fn load(path: &Path, options: &ReadOptions) -> Result<Self, DataError> {
        let io = |source| DataError::Io {
            path: path.to_owned(),
            source,
        };
        let metadata = metadata(path)?;
        let most = options.max_unpacked;
        let mut file = fs::File::open(path).map_err(io)?;
        let mut first = Vec::new();
        if metadata.is_file() {
            (&file)
                .take(PARQUET.len() as u64)
                .read_to_end(&mut first)
                .map_err(io)?;
        }
        if first == PARQUET {
            let is_named =
                options.format.or_else(|| Format::from_path(path)) == Some(Format::Parquet);
            let notes = match is_named {
                true => Vec::new(),
                false => vec![format!("{}: read as Parquet, which it is", path.display())],
            };
            return Ok(Self {
                format: Format::Parquet,
                content: Content::File(file),
                notes,
            });
        }
        let mut notes = Vec::new();
        let mut bytes = first;
        if metadata.is_file() {
            file.read_to_end(&mut bytes).map_err(io)?;
        } else {
            bytes = read_stream(file, path, most.unwrap_or(MOST))?;
        }
        let promised = options.format.or_else(|| Format::from_path(path));
        let expected = match promised {
            Some(Format::Parquet) => "a Parquet file",
            _ => "a table of examples",
        };
        let mut bytes = decoded(path, bytes, expected, most, &mut notes)?;
        if bytes.iter().all(u8::is_ascii_whitespace) {
            return Err(DataError::EmptyFile {
                path: path.to_owned(),
            });
        }
        if bytes.contains(&b'\r') && !bytes.contains(&b'\n') {
            bytes
                .iter_mut()
                .filter(|byte| **byte == b'\r')
                .for_each(|byte| *byte = b'\n');
            notes.push(format!(
                "{}: its lines end with carriage returns alone",
                path.display()
            ));
        }
        let wrong = |found: &str, hint: &str| DataError::WrongKind {
            path: path.to_owned(),
            expected,
            found: found.to_owned(),
            hint: hint.to_owned(),
        };
        if let Some((found, hint)) = markup(&bytes) {
            return Err(wrong(found, hint));
        }
        if bytes.starts_with(PARQUET) {
            return Err(wrong(
                "a Parquet file in gzip, or through a pipe",
                "name the unpacked file itself",
            ));
        }
        let format = promised.or_else(|| by_content(&bytes));
        let format = format.ok_or_else(|| DataError::UnknownFormat {
            path: path.to_owned(),
        })?;
        let has_names = |line: &str| line.contains(',') && !line.contains('{');
        let first_line = bytes
            .split(|&byte| byte == b'\n')
            .next()
            .unwrap_or_default();
        if format == Format::Jsonl
            && !matches!(bytes.trim_ascii_start().first(), Some(b'{' | b'['))
            && std::str::from_utf8(first_line).is_ok_and(has_names)
        {
            return Err(wrong(
                "a table with commas",
                "rename it to .csv, or --set data.format=csv",
            ));
        }
        match (format, by_content(&bytes)) {
            (Format::Parquet, _) => Err(wrong(
                match std::str::from_utf8(&bytes) {
                    Ok(_) => "text",
                    Err(_) => "another kind of file",
                },
                "rename it to .csv, .tsv or .jsonl, or set data.format to what it is",
            )),
            (Format::Csv | Format::Tsv, Some(Format::Jsonl)) => Err(wrong(
                "JSON",
                "rename it to .jsonl, or --set data.format=jsonl",
            )),
            _ => Ok(Self {
                format,
                content: Content::Bytes(bytes),
                notes,
            }),
        }
    }

    /// The file as a table.
    ///
    /// # Errors
    /// Those of the format.
    pub fn table<'a>(
        &'a self,
        path: &Path,
        options: &ReadOptions,
    ) -> Result<Box<dyn Table + 'a>, DataError> {
        Ok(match (&self.content, self.format) {
            (Content::File(file), _) => Box::new(parquet::Parquet::open(path, file, options)?),
            (Content::Bytes(bytes), Format::Jsonl) => Box::new(jsonl::Jsonl::open(path, bytes)?),
            (Content::Bytes(bytes), format) => {
                Box::new(delimited::Delimited::open(path, format, bytes, options)?)
            }
        })
    }
}

/// Reads to the end, but no more than `most` bytes.
fn read_most(from: impl Read, path: &Path, most: u64) -> Result<Vec<u8>, DataError> {
    let mut bytes = Vec::new();
    from.take(most.saturating_add(1))
        .read_to_end(&mut bytes)
        .map_err(|source| DataError::Io {
            path: path.to_owned(),
            source,
        })?;
    match bytes.len() as u64 > most {
        true => Err(DataError::TooLarge {
            path: path.to_owned(),
            most,
        }),
        false => Ok(bytes),
    }
}

/// Reads a pipe to its end. A device need not end; that it gives no text shows at once.
fn read_stream(mut from: impl Read, path: &Path, most: u64) -> Result<Vec<u8>, DataError> {
    let start = read_most((&mut from).take(LOOKED_AT), path, most)?;
    if is_no_text(&start) {
        return Err(DataError::WrongKind {
            path: path.to_owned(),
            expected: "text",
            found: "other bytes".to_owned(),
            hint: "name a file, or a pipe of text or gzip".to_owned(),
        });
    }
    read_most(start.as_slice().chain(from), path, most)
}

/// Whether the first bytes are none of text, nor of a kind of file that is told by name or unpacked.
fn is_no_text(start: &[u8]) -> bool {
    let is_known =
        kind_of(start).is_some() || start.starts_with(GZIP) || start.starts_with(PARQUET);
    let is_utf16 = start.starts_with(&[0xFF, 0xFE])
        || start.starts_with(&[0xFE, 0xFF])
        || is_bare_utf16(start);
    start.contains(&0) && !is_known && !is_utf16
}

/// The members of a gzip file, one behind the other. Zeros behind the last fill up a block, and are none.
fn unpacked(mut packed: &[u8], path: &Path, most: u64) -> Result<Vec<u8>, DataError> {
    let mut bytes = Vec::new();
    while packed.iter().any(|&byte| byte != 0) {
        let mut member = GzDecoder::new(packed);
        let room = (most - bytes.len() as u64).saturating_add(1);
        (&mut member)
            .take(room)
            .read_to_end(&mut bytes)
            .map_err(|source| DataError::Io {
                path: path.to_owned(),
                source,
            })?;
        if bytes.len() as u64 > most {
            return Err(DataError::TooLarge {
                path: path.to_owned(),
                most,
            });
        }
        packed = member.into_inner();
    }
    Ok(bytes)
}

/// A file's bytes unpacked and as UTF-8 without a byte order mark: steps 3 to 5 of the rules above.
///
/// # Errors
/// [`DataError::WrongKind`], [`DataError::Encoding`], [`DataError::TooLarge`].
fn decoded(
    path: &Path,
    mut bytes: Vec<u8>,
    expected: &'static str,
    most: Option<u64>,
    notes: &mut Vec<String>,
) -> Result<Vec<u8>, DataError> {
    let wrong = |found: String, hint: &str| DataError::WrongKind {
        path: path.to_owned(),
        expected,
        found,
        hint: hint.to_owned(),
    };
    if bytes.starts_with(GZIP) {
        let usual = (bytes.len() as u64).saturating_mul(UNPACKED.1);
        let most = most.unwrap_or(usual.clamp(UNPACKED.0, MOST));
        bytes = unpacked(&bytes, path, most).map_err(|error| match error {
            DataError::Io { source, .. } => wrong(
                format!("damaged gzip ({source})"),
                "it was probably cut off on its way; copy it again",
            ),
            other => other,
        })?;
        if bytes.starts_with(GZIP) {
            return Err(wrong(
                "gzip inside of gzip".to_owned(),
                "unpack it once: gunzip FILE.gz",
            ));
        }
        if !has_end(path, "gz") {
            notes.push(format!("{}: unpacked, for it is gzip", path.display()));
        }
    }
    match kind_of(&bytes) {
        Some((found, hint)) => Err(wrong(found.to_owned(), hint)),
        None => text(path, bytes, notes),
    }
}

/// A text file's bytes, as those of a table are made, and what was done to them.
///
/// # Errors
/// [`DataError::Io`], and those of a table's bytes.
pub fn read_text(path: &Path) -> Result<Vec<u8>, DataError> {
    let file = fs::File::open(path).map_err(|source| DataError::Io {
        path: path.to_owned(),
        source,
    })?;
    let bytes = match path.is_file() {
        true => read_most(file, path, u64::MAX)?,
        false => read_stream(file, path, MOST)?,
    };
    decoded(path, bytes, "a text", Some(MOST), &mut Vec::new())
}

/// The format that the first bytes show: JSON alone shows.
fn by_content(bytes: &[u8]) -> Option<Format> {
    let start = bytes.trim_ascii_start();
    let line = start
        .split(|&byte| byte == b'\n')
        .next()
        .unwrap_or_default();
    let is_object = serde_json::from_slice::<HashMap<String, serde::de::IgnoredAny>>;
    let is_json = match start {
        [b'{', ..] => is_object(line).is_ok(),
        // An array of objects, which may go over many lines.
        [b'[', rest @ ..] => rest.trim_ascii_start().starts_with(b"{\""),
        _ => false,
    };
    is_json.then_some(Format::Jsonl)
}

/// Text as UTF-8 without a byte order mark. Whether all of it is UTF-8 is looked at row by row.
fn text(path: &Path, bytes: Vec<u8>, notes: &mut Vec<String>) -> Result<Vec<u8>, DataError> {
    let wrong = |found| DataError::Encoding {
        path: path.to_owned(),
        found,
    };
    let utf16 = |bytes: &[u8], unit: fn([u8; 2]) -> u16| -> Result<Vec<u8>, DataError> {
        let (pairs, odd) = bytes.as_chunks::<2>();
        let units = pairs.iter().map(|&pair| unit(pair));
        let text: Result<String, _> = char::decode_utf16(units).collect();
        match text {
            Ok(text) if odd.is_empty() => Ok(text.into_bytes()),
            _ => Err(wrong("damaged UTF-16")),
        }
    };
    let decoded = match bytes.as_slice() {
        [0xEF, 0xBB, 0xBF, ..] => return Ok(bytes[3..].to_vec()),
        [0xFF, 0xFE, 0, 0, ..] | [0, 0, 0xFE, 0xFF, ..] => return Err(wrong("UTF-32")),
        [0xFF, 0xFE, rest @ ..] => utf16(rest, u16::from_le_bytes)?,
        [0xFE, 0xFF, rest @ ..] => utf16(rest, u16::from_be_bytes)?,
        bytes if is_bare_utf16(bytes) => return Err(wrong("UTF-16 without a byte order mark")),
        _ => return Ok(bytes),
    };
    notes.push(format!("{}: read as UTF-16", path.display()));
    Ok(decoded)
}

/// Whether nearly every other byte is zero, as in UTF-16 of Latin letters.
fn is_bare_utf16(bytes: &[u8]) -> bool {
    const LOOKED_AT: usize = 1000;
    let (pairs, _) = bytes[..bytes.len().min(LOOKED_AT)].as_chunks::<2>();
    let zeros = |at: usize| pairs.iter().filter(|pair| pair[at] == 0).count();
    let (even, odd) = (zeros(0), zeros(1));
    pairs.len() >= 4 && even.max(odd) * 10 >= pairs.len() * 8 && even.min(odd) == 0
}

/// What a file is that is no table, by its first bytes, and what to do with it.
fn kind_of(bytes: &[u8]) -> Option<(&'static str, &'static str)> {
    const UNPACK: &str = "unpack it, or compress it with gzip, which is read";
    const CONVERT: &str = "convert it to CSV, JSON lines or Parquet";
    const SHEET: &str = "save the sheet as CSV (UTF-8)";
    const NO_TABLE: &str = "check the path, and how the file was made";
    const KINDS: [(&[u8], &str, &str); 29] = [
        (b"PK\x05\x06", "an empty zip archive", NO_TABLE),
        (b"\xD0\xCF\x11\xE0", "an old Excel workbook (.xls)", SHEET),
        (b"\x28\xB5\x2F\xFD", "a file packed with zstd", UNPACK),
        (b"BZh9", "a file packed with bzip2", UNPACK),
        (b"\xFD7zXZ\0", "a file packed with xz", UNPACK),
        (b"\x04\x22\x4D\x18", "a file packed with lz4", UNPACK),
        (b"\x1F\x9D", "a file packed with compress", UNPACK),
        (b"7z\xBC\xAF\x27\x1C", "a 7z archive", UNPACK),
        (b"Rar!\x1A\x07", "a rar archive", UNPACK),
        (b"ARROW1", "an Arrow file (IPC, Feather)", CONVERT),
        (
            b"\xFF\xFF\xFF\xFF",
            "an Arrow stream, as `datasets` keeps it",
            "write it with `dataset.to_parquet(...)`",
        ),
        (b"FEA1", "a Feather file", CONVERT),
        (b"\x89HDF", "an HDF5 file", CONVERT),
        (b"\x93NUMPY", "a NumPy array", CONVERT),
        (b"SQLite format 3\0", "an SQLite database", CONVERT),
        (b"Obj\x01", "an Avro file", CONVERT),
        (b"\x80\x02", "a Python pickle", CONVERT),
        (b"\x80\x03", "a Python pickle", CONVERT),
        (b"\x80\x04", "a Python pickle", CONVERT),
        (b"\x80\x05", "a Python pickle", CONVERT),
        (b"%PDF", "a PDF document", NO_TABLE),
        (b"{\\rtf", "an RTF document", NO_TABLE),
        (b"\x89PNG", "a picture (PNG)", NO_TABLE),
        (b"\xFF\xD8\xFF", "a picture (JPEG)", NO_TABLE),
        (b"GIF89a", "a picture (GIF)", NO_TABLE),
        (b"\x7FELF", "a program (ELF)", NO_TABLE),
        (
            b"version https://git-lfs",
            "a Git LFS pointer, which stands for the file",
            "fetch the file itself with `git lfs pull`",
        ),
        (
            b"/annex/objects/",
            "a git-annex pointer, which stands for the file",
            "fetch the file itself with `git annex get`",
        ),
        (
            b"404: Not Found",
            "the answer of a web server that has no such file",
            "check the address, and load the file again",
        ),
    ];
    if bytes.starts_with(b"PK\x03\x04") {
        return Some(zip_kind(bytes));
    }
    if bytes.get(257..262) == Some(b"ustar") {
        return Some(("a tar archive", "unpack it, and name the file inside it"));
    }
    let known = KINDS.iter().find(|(start, ..)| bytes.starts_with(start));
    known.map(|(_, found, hint)| (*found, *hint))
}

/// What a zip archive is, by the names inside it.
fn zip_kind(bytes: &[u8]) -> (&'static str, &'static str) {
    const LOOKED_AT: usize = 1 << 16;
    let ends = [
        &bytes[..bytes.len().min(LOOKED_AT)],
        &bytes[bytes.len().saturating_sub(LOOKED_AT)..],
    ];
    let holds = |name: &[u8]| {
        ends.iter()
            .any(|end| end.windows(name.len()).any(|part| part == name))
    };
    if holds(b"xl/workbook") || holds(b"xl/worksheets") {
        return ("an Excel workbook (.xlsx)", "save the sheet as CSV (UTF-8)");
    }
    if holds(b"opendocument.spreadsheet") {
        return ("a spreadsheet (.ods)", "save the sheet as CSV (UTF-8)");
    }
    if holds(b"word/document") {
        return (
            "a Word document",
            "check the path, and how the file was made",
        );
    }
    if holds(b".npy") {
        return (
            "arrays of NumPy (.npz)",
            "convert it to CSV, JSON lines or Parquet",
        );
    }
    ("a zip archive", "unpack it, and name the file inside it")
}

fn markup(bytes: &[u8]) -> Option<(&'static str, &'static str)> {
    const LONGEST: usize = 32;
    let start = bytes.trim_ascii_start();
    let start = start[..start.len().min(LONGEST)].to_ascii_lowercase();
    if is_drawn(bytes) {
        return Some((
            "a table drawn with bars and dashes",
            "write it as CSV: without the line of dashes, and without bars at the edges",
        ));
    }
    let pages: [&[u8]; 4] = [b"<!doctype html", b"<html", b"<head", b"<body"];
    if pages.iter().any(|page| start.starts_with(page)) {
        return Some((
            "a web page",
            "the download link or a login was saved instead of the file; load the file itself",
        ));
    }
    start
        .starts_with(b"<?xml")
        .then_some(("XML", "convert it to CSV, JSON lines or Parquet"))
}

/// Whether nothing but dashes and bars stands below a first line with bars, as in Markdown and in what databases print.
fn is_drawn(bytes: &[u8]) -> bool {
    let mut lines = bytes.split(|&byte| byte == b'\n').map(<[u8]>::trim_ascii);
    let (Some(first), Some(dashes)) = (lines.next(), lines.next()) else {
        return false;
    };
    first.contains(&b'|')
        && dashes.windows(2).any(|pair| pair == b"--")
        && dashes.iter().all(|byte| b"|-+: ".contains(byte))
}

pub(super) fn has_end(path: &Path, end: &str) -> bool {
    path.extension()
        .is_some_and(|found| found.eq_ignore_ascii_case(end))
}

fn names_in(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(folder)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

/// Whether a file is a table by its name; `.json` is that of settings too.
fn is_table(name: &String) -> bool {
    Format::from_path(Path::new(name)).is_some() && !name.ends_with(".json")
}

/// Whether tables lie in a folder, or in one called `data` inside of it.
#[must_use]
pub fn holds_tables(folder: &Path) -> bool {
    let folders = [folder.to_owned(), folder.join("data")];
    folders
        .iter()
        .any(|folder| names_in(folder).iter().any(is_table))
}

/// The error for a folder where a file was expected.
fn folder(path: &Path) -> DataError {
    let names = names_in(path);
    // The shards of a dataset on the hub.
    let inside = path.join("data");
    if inside.is_dir() && !names.iter().any(is_table) {
        return folder(&inside);
    }
    let arrow = names.iter().any(|name| name.ends_with(".arrow"));
    let tables: Vec<&String> = names.iter().filter(|name| is_table(name)).collect();
    let parquet = tables
        .iter()
        .filter(|name| has_end(Path::new(name), "parquet"));
    let is_train = |name: &&&String| name.to_lowercase().contains("train");
    let first = tables.iter().find(is_train).or(tables.first());
    let first = first.map_or("", |name| name.as_str());
    let (holds, hint) = match (tables.as_slice(), parquet.count()) {
        _ if arrow => (
            " of Arrow files, as `save_to_disk` writes it".to_owned(),
            format!(
                "write it as one file: `load_from_disk(\"{}\").to_parquet(\"train.parquet\")`",
                path.display()
            ),
        ),
        ([only], _) => (
            String::new(),
            format!("name the file inside it: {}", path.join(only).display()),
        ),
        ([_, ..], n) if n > 1 => (
            format!(" of {n} Parquet files"),
            format!(
                "name one, such as {}; or, if they are parts of one table, join them: `pandas.read_parquet(\"{}\").to_parquet(\"train.parquet\")`",
                path.join(first).display(),
                path.display()
            ),
        ),
        ([_, ..], _) => (
            String::new(),
            format!(
                "name a file inside it, such as {}",
                path.join(first).display()
            ),
        ),
        ([], _) => (String::new(), "name the file inside it".to_owned()),
    };
    DataError::IsDirectory {
        path: path.to_owned(),
        holds,
        hint,
    }
}

/// What the system says of a file. A missing one is refused with near misses, a folder with what it holds.
pub(super) fn metadata(path: &Path) -> Result<fs::Metadata, DataError> {
    match fs::metadata(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Err(no_such_file(path)),
        Err(source) => Err(DataError::Io {
            path: path.to_owned(),
            source,
        }),
        Ok(metadata) if metadata.is_dir() => Err(folder(path)),
        Ok(metadata) => Ok(metadata),
    }
}

pub(crate) fn no_such_file(path: &Path) -> DataError {
    let name = path
        .file_name()
        .map_or(Cow::Borrowed(""), |name| name.to_string_lossy());
    let siblings = names_in(folder_of(path));
    DataError::NoSuchFile {
        path: path.to_owned(),
        near: near_misses(&name, siblings.iter().map(String::as_str)),
    }
}
