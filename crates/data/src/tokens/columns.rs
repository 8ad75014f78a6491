//! Columns of words and tags, as CoNLL's shared tasks write them.

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;

use super::TagReason;
use super::read::{Found, Sentence, TaggedOptions};
use crate::chat::Reader;
use crate::tables::utf8;
use crate::{BadReason, Column, DataError, Place, Role};
use rekindle_base::near::near_misses;

/// So many columns are read.
const MOST: usize = 10;
/// The line between documents.
const DOCUMENT: &str = "-DOCSTART-";
/// What a comment of CoNLL-U Plus names the columns with.
const NAMES: &str = "# global.columns =";
/// What the first and the last column of a header are called.
const WORDS: [&str; 6] = ["word", "words", "token", "tokens", "form", "text"];
const TAGS: [&str; 8] = [
    "tag", "tags", "label", "labels", "ner", "ner_tag", "ner_tags", "iob",
];

/// How the lines of a file are divided.
struct Layout {
    by_tabs: bool,
    columns: usize,
    word: usize,
    /// None where the file has no tags.
    tag: Option<usize>,
    /// The line of the header; 0 where there is none.
    header: u64,
    /// The words are counted in the first column: `1-2` and `1.1` there are not words.
    counted: bool,
    /// The tags of lines that are no comment.
    tags: HashSet<String>,
}

/// Reads the sentences of a file.
pub(super) fn read(
    bytes: &[u8],
    path: &Path,
    options: &TaggedOptions,
    reader: &mut Reader<Found>,
) -> Result<(), DataError> {
    // Old Macs end lines with a carriage return alone.
    let end = match bytes.contains(&b'\n') {
        true => b'\n',
        false => b'\r',
    };
    let lines = || (1u64..).zip(bytes.split(move |&byte| byte == end));
    let shared: Arc<Path> = path.into();
    let Some(layout) = Layout::of(lines(), &shared, options)? else {
        return Ok(());
    };
    let place = |line| Place {
        path: Arc::clone(&shared),
        line,
    };
    let mut sentence = Rows::default();
    for (line, bytes) in lines().chain([(0, &b""[..])]) {
        let fields = utf8(bytes, line).map_err(|(_, reason)| reason);
        let fields = fields.map(|text| layout.fields(text));
        match fields {
            Ok(fields) if fields.is_empty() || fields[0].starts_with(DOCUMENT) => {
                if let Some((line, made)) = std::mem::take(&mut sentence).finish(&layout, place) {
                    reader.add(place(line), made);
                }
            }
            Ok(_) if line == layout.header => {}
            Ok(fields) if layout.is_passed_over(&fields) => {}
            Ok(fields) => sentence.add(line, layout.row(&fields)),
            Err(reason) => sentence.add(line, Err(reason)),
        }
    }
    Ok(())
}

/// The lines of a sentence.
#[derive(Default)]
struct Rows {
    words: Vec<String>,
    tags: Vec<String>,
    lines: Vec<u64>,
    bad: Option<(u64, BadReason)>,
}

impl Rows {
    fn add(&mut self, line: u64, row: Result<(String, Option<String>), BadReason>) {
        match row {
            Ok((word, tag)) => {
                self.words.push(word);
                self.tags.extend(tag);
                self.lines.push(line);
            }
            Err(reason) => {
                self.bad.get_or_insert((line, reason));
            }
        }
    }

    /// The sentence, or what is wrong with a line of it, with its line; none where there are no lines.
    fn finish(
        self,
        layout: &Layout,
        place: impl Fn(u64) -> Place,
    ) -> Option<(u64, Result<Found, BadReason>)> {
        if let Some((line, reason)) = self.bad {
            return Some((line, Err(reason)));
        }
        let first = *self.lines.first()?;
        let sentence = Sentence {
            words: self.words,
            tags: layout.tag.map(|_| self.tags),
            lines: self.lines,
            tags_in: format!("column {}", layout.tag.unwrap_or_default() + 1),
            place: place(first),
        };
        Some((first, Ok(Found::Words(sentence))))
    }
}

impl Layout {
    /// What the lines show; none where there are only comments.
    fn of<'a>(
        lines: impl Iterator<Item = (u64, &'a [u8])> + Clone,
        path: &Arc<Path>,
        options: &TaggedOptions,
    ) -> Result<Option<Self>, DataError> {
        let texts = lines.filter_map(|(line, bytes)| {
            let text = std::str::from_utf8(bytes).ok()?;
            (!text.trim().is_empty()).then_some((line, text))
        });
        let mut names: Option<Vec<String>> = texts
            .clone()
            .find_map(|(_, text)| text.strip_prefix(NAMES))
            .map(|names| names.split_whitespace().map(str::to_owned).collect());
        let mut data = texts
            .filter(|(_, text)| !text.starts_with('#') && !text.starts_with(DOCUMENT))
            .peekable();
        let Some(&(first, text)) = data.peek() else {
            return Ok(None);
        };
        let by_tabs = text.trim_end().contains('\t');
        let head = fields(text, by_tabs);
        let columns = head.len();
        let least = if options.require_tags { 2 } else { 1 };
        if !(least..=MOST).contains(&columns) {
            return Err(DataError::BadExample {
                place: Place {
                    path: Arc::clone(path),
                    line: first,
                },
                reason: TagReason::NotColumns { found: columns }.into(),
            });
        }
        let is_header = match &options.tags {
            Some(Column::Name(name)) if names.is_none() => head.contains(&name.as_str()),
            _ if names.is_none()
                && options.text.as_ref().is_some_and(
                    |column| matches!(column, Column::Name(name) if head.contains(&name.as_str())),
                ) =>
            {
                true
            }
            _ => {
                let is =
                    |field: &str, known: &[&str]| known.contains(&field.to_lowercase().as_str());
                is(head[0], &WORDS) && columns > 1 && is(head[columns - 1], &TAGS)
            }
        };
        let mut header = 0;
        if is_header {
            header = first;
            names = Some(head.iter().map(|name| (*name).to_owned()).collect());
            data.next();
        }
        let rest: Vec<Vec<&str>> = data.map(|(_, text)| fields(text, by_tabs)).collect();
        let counted = columns > 2 && !rest.is_empty() && rest.iter().all(|row| is_number(row[0]));
        let missing = |wanted: &Column, role: Role| {
            let found = names.clone();
            let found = found.unwrap_or_else(|| (0..columns).map(|at| at.to_string()).collect());
            DataError::MissingColumn {
                path: path.to_path_buf(),
                role,
                wanted: wanted.to_string(),
                near: near_misses(&wanted.to_string(), found.iter().map(String::as_str)),
                found,
            }
        };
        let place_of = |wanted: &Column, role: Role| {
            let at = match wanted {
                Column::Index(at) => Some(*at),
                Column::Name(name) => {
                    (names.as_ref()).and_then(|names| names.iter().position(|known| known == name))
                }
            };
            let at = at.filter(|at| *at < columns);
            at.ok_or_else(|| missing(wanted, role))
        };
        let word = match &options.text {
            Some(wanted) => place_of(wanted, Role::Text)?,
            None => usize::from(counted),
        };
        let tag = match &options.tags {
            Some(wanted) => Some(place_of(wanted, Role::Label)?),
            None => (columns > 1).then(|| columns - 1),
        };
        let tags = rest
            .iter()
            .filter_map(|row| Some((*row.get(tag?)?).to_owned()));
        Ok(Some(Self {
            by_tabs,
            columns,
            word,
            tag,
            header,
            counted,
            tags: tags.collect(),
        }))
    }

    fn fields<'a>(&self, text: &'a str) -> Vec<&'a str> {
        fields(text, self.by_tabs)
    }

    /// Whether a line is a comment, or counts something that is no word.
    fn is_passed_over(&self, fields: &[&str]) -> bool {
        let is_word = fields.len() == self.columns
            && self.tag.is_none_or(|tag| self.tags.contains(fields[tag]));
        (fields[0].starts_with('#') && !is_word)
            || (self.counted && fields[0].contains(['-', '.']) && is_number(fields[0]))
    }

    /// The word and the tag of a line.
    fn row(&self, fields: &[&str]) -> Result<(String, Option<String>), BadReason> {
        if fields.len() != self.columns {
            let (expected, found) = (self.columns, fields.len());
            return Err(TagReason::Columns { expected, found }.into());
        }
        let field = |at: usize, what: &'static str| match fields[at] {
            "" => Err(TagReason::Empty {
                what,
                at: format!("column {}", at + 1),
            }),
            field => Ok(field.to_owned()),
        };
        let word = field(self.word, "word")?;
        let tag = self.tag.map(|tag| field(tag, "tag")).transpose()?;
        Ok((word, tag))
    }
}

/// The fields of a line; none of a blank one.
fn fields(text: &str, by_tabs: bool) -> Vec<&str> {
    let text = text.trim_end_matches(['\r', '\n', ' ', '\t']);
    match by_tabs {
        _ if text.trim_start_matches([' ', '\t']).is_empty() => Vec::new(),
        true => text
            .split('\t')
            .map(|field| field.trim_matches(' '))
            .collect(),
        false => text
            .split([' ', '\t'])
            .filter(|field| !field.is_empty())
            .collect(),
    }
}

/// Whether a field counts words as CoNLL-U does: `7`, `7-8` or `7.1`.
fn is_number(field: &str) -> bool {
    let mut parts = field.splitn(2, ['-', '.']);
    parts.all(|part| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit()))
}
