//! Files of labelled texts. What a file is shows in its content, see [`read_tagged`].

use std::path::Path;
use std::sync::Arc;

use super::columns;
use super::rows::JsonRows;
use super::scheme::{Detector, spans_of};
use super::{Scheme, Span, TagReason, TaggedText};
use crate::chat::Reader;
use crate::tables::{Opened, each_json, each_object, looks_like_json, open};
use crate::{BadReason, Column, DataError, Format, OnBad, Place, Skipped};

/// How to read labelled texts. The default tells everything from the file and stops at the first bad row.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TaggedOptions {
    /// The column of the words, or the key of words or text. Default: the first column, the first of the usual keys.
    pub text: Option<Column>,
    /// The column of the tags, or the key of tags or spans. Default: the last column; the first of the usual keys.
    pub tags: Option<Column>,
    /// What numbers of tags mean, where the file does not say.
    pub names: Vec<String>,
    /// A file or a row without labels is an error.
    pub require_tags: bool,
    /// What to do with bad rows.
    pub on_bad_example: OnBad,
}

/// What [`read_tagged`] found.
#[derive(Debug, Clone, PartialEq)]
pub struct Tagged {
    /// The good texts, in file order.
    pub rows: Vec<TaggedText>,
    /// The bad ones; empty unless [`OnBad::Skip`].
    pub skipped: Vec<Skipped>,
    /// How the file writes its labels.
    pub scheme: Scheme,
    /// Whether the file divides its texts into words: then encode with [`TextEncoder::for_words`](crate::TextEncoder::for_words).
    pub has_words: bool,
    /// What stands out in the file, a line each.
    pub notes: Vec<String>,
}

/// Reads texts with labels on their words, or on ranges of their characters.
///
/// | content | what it is |
/// |---|---|
/// | lines of 2 to 10 columns, tabs or spaces between | CoNLL: a word on each line, its tag in the last column; an empty line or `-DOCSTART-` ends a sentence; `#` begins a comment |
/// | JSON with `tokens` or `words` and `tags`, `ner_tags`, `labels` | words with a tag each, by name or by number; `names` in the row or in a first row of its own says what numbers mean |
/// | JSON with `text` and `spans`, `entities`, `label`, `labels` | `[start, end, "label"]` of doccano, the same in `{"entities": [...]}` of spaCy, or `{"start", "end", "label"}` of prodigy and Label Studio |
///
/// JSON is one object on each line, or one array of objects, or the rows of a Parquet file. Where the first column counts the
/// words (CoNLL-U), they stand in the second. A line that begins with `#` is a word where its tag is one of the file's.
///
/// Tags may be BIO, IOB1, IOBES, BILOU, IO or bare labels: [`Scheme`]. They become spans, which is what a text holds. A span that
/// begins with `I-` is read as seqeval reads it.
///
/// # Errors
/// [`DataError::NoSuchFile`] and the like for the file, [`DataError::MissingColumn`], [`DataError::BadExample`] with the line of a
/// bad row, [`DataError::AllBad`] where no row is good.
///
/// ```
/// use rekindle_data::tokens::{TaggedOptions, read_tagged};
///
/// # let dir = tempfile::tempdir()?;
/// # let path = dir.path().join("train.conll");
/// std::fs::write(&path, "Ada B-PER\nKing I-PER\nsleeps O\n")?;
/// let read = read_tagged(&path, &TaggedOptions::default())?;
/// let spans = read.rows[0].spans.as_ref().ok_or("no spans")?;
/// assert_eq!((spans[0].start, spans[0].end, spans[0].label.as_str()), (0, 8, "PER"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn read_tagged(path: &Path, options: &TaggedOptions) -> Result<Tagged, DataError> {
    let mut reader = Reader::new(options.on_bad_example);
    let mut json = JsonRows::new(options);
    let shared: Arc<Path> = path.into();
    let each = |line, row: Result<_, BadReason>| {
        let place = Place {
            path: Arc::clone(&shared),
            line,
        };
        match row.and_then(|row| json.row(row, &place)) {
            Ok(None) => {}
            Ok(Some(row)) => reader.add(place, Ok(row)),
            Err(reason) => reader.add(place, Err(reason)),
        }
        Ok(())
    };
    match open(path)? {
        Opened::Parquet => each_object(path, each)?,
        Opened::Text(bytes)
            if looks_like_json(&bytes) || Format::from_path(path) == Some(Format::Jsonl) =>
        {
            each_json(&bytes, each)?;
        }
        Opened::Text(bytes) => columns::read(&bytes, path, options, &mut reader)?,
    }
    let rejected = json.rejected;
    let trimmed = json.trimmed;
    let (found, mut skipped) = reader.finish(path)?;

    let mut detector = Detector::default();
    for row in &found {
        if let Found::Words(words) = row {
            detector.look(words.tags.as_deref().unwrap_or_default());
        }
    }
    let has_words = matches!(found.first(), Some(Found::Words(_)));
    let scheme = match has_words {
        true => detector.scheme(),
        false => Scheme::Spans,
    };
    let mut reader = Reader::new(options.on_bad_example);
    for row in found {
        match row {
            Found::Text(text) => reader.add(text.place.clone(), Ok(text)),
            Found::Words(words) => {
                let (place, made) = words.text(scheme);
                reader.add(place, made);
            }
        }
    }
    let (rows, more) = reader.finish(path)?;
    skipped.extend(more);
    skipped.sort_by_key(|row| row.place.line);

    let note = |count: usize, text: &str| {
        (count > 0).then(|| format!("{}: {count} {text}", path.display()))
    };
    let notes = [
        note(
            detector.strays(),
            "spans begin with I- where BIO has B-: read as if they began with B-",
        ),
        note(
            trimmed,
            "spans had white space at their ends: it is left out",
        ),
        note(
            rejected,
            "rows were rejected or ignored by their annotator (`answer`): left out",
        ),
    ];
    Ok(Tagged {
        rows,
        skipped,
        scheme,
        has_words,
        notes: notes.into_iter().flatten().collect(),
    })
}

/// A row before the scheme of its tags is known.
pub(super) enum Found {
    Words(Sentence),
    Text(TaggedText),
}

/// Words with their tags.
pub(super) struct Sentence {
    pub words: Vec<String>,
    pub tags: Option<Vec<String>>,
    /// The line of each word, where each has one.
    pub lines: Vec<u64>,
    /// What the tags stand in: a column counted from 1, or a key.
    pub tags_in: String,
    pub place: Place,
}

impl Sentence {
    /// The text with spans; or what is wrong with a tag, and where.
    fn text(self, scheme: Scheme) -> (Place, Result<TaggedText, BadReason>) {
        let mut text = TaggedText::of_words(&self.words, self.place.clone());
        let Some(tags) = &self.tags else {
            return (self.place, Ok(text));
        };
        match spans_of(scheme, tags) {
            Ok(spans) => {
                let spans = spans.into_iter().map(|(words, label)| Span {
                    start: text.words[words.start].start,
                    end: text.words[words.end - 1].end,
                    label: label.to_owned(),
                });
                text.spans = Some(spans.collect());
                (self.place, Ok(text))
            }
            Err(at) => {
                let line = self.lines.get(at).copied().unwrap_or(self.place.line);
                let at_tag = match self.lines.is_empty() {
                    true => format!("`{}[{at}]`", self.tags_in),
                    false => self.tags_in.clone(),
                };
                let reason = TagReason::NoPrefix {
                    tag: tags[at].clone(),
                    at: at_tag,
                    scheme: scheme.to_string(),
                };
                (Place { line, ..self.place }, Err(reason.into()))
            }
        }
    }
}
