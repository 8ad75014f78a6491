//! Texts that belong together, to learn embeddings from: pairs with or without what does not belong to them, pairs with a number
//! that says how alike they are, and labelled texts, of which those with the same label belong together.
//!
//! The columns are those of the data sets of sentence-transformers: `anchor` and `positive`, `query` and `document`, `sentence1`,
//! `sentence2` and `score`, with `negative` or `negative_1`, `negative_2` and so on; also lists, as `pos` and `neg` of FlagEmbedding.

use std::borrow::Cow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::chat::Reader;
use crate::split::deal;
use crate::tables::{
    Cell, Chooser, Row, Source, Table, check_distinct, is_id, normal, raw_value, read_source,
    text_of,
};
use crate::targets::canonical;
use crate::{
    BadReason, DataError, Examples, Place, ReadOptions, ResolvedColumn, ResolvedColumns, Role,
    Skipped, TargetKind,
};

/// A row of texts that have something to do with each other.
#[derive(Debug, Clone, PartialEq)]
pub struct RelatedTexts {
    /// The anchor, what it is compared with, and then texts that do not belong to it. A labelled text stands alone.
    pub texts: Vec<String>,
    /// What they have to do with each other.
    pub relation: Relation,
    /// Where the row starts.
    pub place: Place,
}

/// What the texts of a row have to do with each other.
#[derive(Debug, Clone, PartialEq)]
pub enum Relation {
    /// The first two belong together, more so than the first and any of the others.
    Positive,
    /// So alike are the two.
    Score(f64),
    /// The text belongs to the others with this label.
    Label(String),
}

/// What [`read_related`] found.
#[derive(Debug, Clone)]
pub struct RelatedRead {
    /// The good rows, in file order. All are related in the same way.
    pub rows: Vec<RelatedTexts>,
    /// The bad rows; empty unless [`OnBad::Skip`](crate::OnBad::Skip).
    pub skipped: Vec<Skipped>,
    /// Which columns were read, and why those: the anchor is the text, what it is compared with the second text, the score or label
    /// the label.
    pub columns: ResolvedColumns,
    /// The columns of texts that do not belong to the anchor.
    pub negatives: Vec<String>,
    /// What was done to the file or stands out in it, a line each.
    pub notes: Vec<String>,
}

/// Names of an anchor's column and of what it is compared with.
const PAIRS: [(&str, &str); 20] = [
    ("anchor", "positive"),
    ("query", "positive"),
    ("query", "pos"),
    ("query", "document"),
    ("query", "passage"),
    ("query", "answer"),
    ("question", "positive"),
    ("question", "answer"),
    ("question", "passage"),
    ("question", "context"),
    ("sentence1", "sentence2"),
    ("sentence_1", "sentence_2"),
    ("sentence_a", "sentence_b"),
    ("question1", "question2"),
    ("text1", "text2"),
    ("text_a", "text_b"),
    ("premise", "hypothesis"),
    ("text", "text_pair"),
    ("title", "abstract"),
    ("title", "body"),
];
/// Names of columns that say how alike two texts are.
const SCORES: [&str; 7] = [
    "score",
    "similarity",
    "similarity_score",
    "relatedness_score",
    "label",
    "labels",
    "is_duplicate",
];
/// Names of columns of texts that do not belong to the anchor; also with a number behind them.
const NEGATIVES: [&str; 5] = [
    "negative",
    "negatives",
    "neg",
    "hard_negative",
    "hard_negatives",
];

fn is_negative(name: &str) -> bool {
    let name = normal(name);
    let stem = name.trim_end_matches(|c: char| c.is_ascii_digit());
    NEGATIVES.contains(&stem.trim_end_matches('_'))
}

/// The well-known pair of columns among `names`, by their numbers.
fn known_pair(names: &[String]) -> Option<(usize, usize)> {
    let names: Vec<String> = names.iter().map(|name| normal(name)).collect();
    let place = |wanted: &str| names.iter().position(|name| name == wanted);
    PAIRS
        .iter()
        .find_map(|(first, second)| place(first).zip(place(second)))
}

/// Whether a row holds the two names of a well-known pair of columns.
pub(crate) fn names_a_pair(row: &[String]) -> bool {
    known_pair(row).is_some()
}

/// Whether the columns are those of texts to learn embeddings from, and of nothing else: an `anchor`, or a column of texts that do
/// not belong to another.
#[must_use]
pub fn names_relations(columns: &[String]) -> bool {
    let has = |wanted: &str| columns.iter().any(|name| normal(name) == wanted);
    let negatives = columns.iter().any(|name| is_negative(name));
    known_pair(columns).is_some() && (has("anchor") || has("positive") || negatives)
}

/// Whether the columns, but for those that number rows, are a well-known pair of texts: what stands in the second may be a label.
#[must_use]
pub fn names_only_a_pair(columns: &[String]) -> bool {
    let others = columns.iter().filter(|name| !is_id(name));
    known_pair(columns).is_some() && others.count() == 2
}

/// Reads rows of texts that belong together. Without a column for a second text the file is read as labelled texts, as classification
/// reads it. Of the options `text` names the anchor, `text_pair` what it is compared with, `labels` the score or the label.
///
/// # Errors
/// As [`read_examples`](crate::read_examples). A file without a single good row is an error too.
///
/// ```
/// use rekindle_data::{ReadOptions, related::{Relation, read_related}};
///
/// # let dir = tempfile::tempdir()?;
/// # let path = dir.path().join("train.jsonl");
/// std::fs::write(&path, r#"{"query": "late parcel", "document": "Where is my order?", "negatives": ["Refunds"]}"#)?;
/// let read = read_related(&path, &ReadOptions::default())?;
/// assert_eq!(read.rows[0].texts, ["late parcel", "Where is my order?", "Refunds"]);
/// assert_eq!(read.rows[0].relation, Relation::Positive);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn read_related(path: &Path, options: &ReadOptions) -> Result<RelatedRead, DataError> {
    let source = Source::load(path, options)?;
    let table = source.table(path, options)?;
    match Pair::find(path, table.as_ref(), options)? {
        Some(pair) => read_pairs(path, table.as_ref(), pair, &source.notes, options),
        None => read_labelled(path, &source, options),
    }
}

/// The columns of a table of pairs.
struct Pair {
    anchor: ResolvedColumn,
    other: ResolvedColumn,
    score: Option<ResolvedColumn>,
    negatives: Vec<ResolvedColumn>,
}

impl Pair {
    /// `None` of a table of single texts.
    fn find(
        path: &Path,
        table: &dyn Table,
        options: &ReadOptions,
    ) -> Result<Option<Self>, DataError> {
        let names = table.columns();
        let chooser = Chooser { path, table, names };
        let column = |index: usize, reason: &str| chooser.column(index, reason);
        let at = |found: &Option<ResolvedColumn>| found.as_ref().map(|column| column.index);
        let anchor = chooser.named(Role::Text, options.text.as_ref())?;
        let other = chooser.named(Role::TextPair, options.text_pair.as_ref())?;
        let usual = options.usual.in_table(table, options);
        let usual_anchor = chooser.named(Role::Text, usual.text.as_ref())?;
        let usual_other = chooser.named(Role::TextPair, usual.text_pair.as_ref())?;
        let known = known_pair(names).filter(|_| table.has_header());
        let (anchor, other) = match (anchor, other, known) {
            (Some(anchor), Some(other), _) => (anchor, other),
            (Some(anchor), None, Some((first, second))) if anchor.index == first => {
                let beside = "the usual name beside it";
                (anchor, chooser.only(Role::TextPair, second, beside)?)
            }
            (None, Some(other), Some((first, second))) if other.index == second => {
                let beside = "the usual name beside it";
                (chooser.only(Role::Text, first, beside)?, other)
            }
            (None, Some(_), _) => {
                return Err(DataError::NoColumn {
                    path: path.to_owned(),
                    role: Role::Text,
                    found: names.to_vec(),
                    hint: Some("name the first text's column too: --text COLUMN".into()),
                });
            }
            (None, None, known) => {
                let usual = at(&usual_anchor).zip(at(&usual_other));
                let (found, reason) = match usual {
                    Some(usual) => (Some(usual), "as in training"),
                    None => (known, "a usual name"),
                };
                let Some((first, second)) = found else {
                    return Ok(None);
                };
                let first = chooser.only(Role::Text, first, reason)?;
                (first, chooser.only(Role::TextPair, second, reason)?)
            }
            (Some(_), None, _) => return Ok(None),
        };
        let is_text = |index: usize| index == anchor.index || index == other.index;
        let negatives: Vec<ResolvedColumn> = names
            .iter()
            .enumerate()
            .filter(|(index, name)| table.has_header() && !is_text(*index) && is_negative(name))
            .map(|(index, _)| column(index, "a usual name"))
            .collect();
        let score = match options.labels.as_slice() {
            [only] => chooser.named(Role::Label, Some(only))?,
            [] => {
                let by_name =
                    |wanted: &&str| names.iter().position(|name| normal(name) == **wanted);
                let usual = chooser.named(Role::Label, usual.label.first())?;
                let known = SCORES.iter().find_map(by_name);
                let found = at(&usual).or(known.filter(|_| table.has_header()));
                let found = found.filter(|index| !is_text(*index) && negatives.is_empty());
                found
                    .map(|index| chooser.only(Role::Label, index, "a usual name"))
                    .transpose()?
            }
            several => {
                return Err(DataError::SeveralLabels {
                    path: path.to_owned(),
                    columns: several.iter().map(ToString::to_string).collect(),
                });
            }
        };
        check_distinct(path, Some(&anchor), Some(&other), score.as_slice())?;
        Ok(Some(Self {
            anchor,
            other,
            score,
            negatives,
        }))
    }
}

fn read_pairs(
    path: &Path,
    table: &dyn Table,
    pair: Pair,
    notes: &[String],
    options: &ReadOptions,
) -> Result<RelatedRead, DataError> {
    let mut wanted = vec![pair.anchor.index, pair.other.index];
    wanted.extend(pair.score.iter().chain(&pair.negatives).map(|c| c.index));
    let shared: Arc<Path> = path.into();
    let first_rows = options.limit.filter(|limit| !limit.stratify);
    let first_rows = first_rows.map_or(usize::MAX, |limit| limit.examples);
    let mut reader = Reader::new(options.on_bad_example);
    for row in table.rows(&wanted).take(first_rows) {
        let Row { line, cells } = row?;
        let place = Place {
            path: Arc::clone(&shared),
            line,
        };
        let made = cells.and_then(|cells| of_cells(cells, &pair, &place));
        reader.add(place, made);
    }
    let (rows, skipped) = reader.finish(path)?;
    let rows: Vec<RelatedTexts> = rows.into_iter().flatten().collect();
    let mut notes = notes.to_vec();
    let of_table = table.notes();
    notes.extend(
        of_table
            .iter()
            .map(|note| format!("{}: {note}", path.display())),
    );
    Ok(RelatedRead {
        rows: rows.limited(options.limit.as_ref()),
        skipped,
        negatives: pair.negatives.into_iter().map(|c| c.name).collect(),
        columns: ResolvedColumns {
            format: table.format(),
            header: table.has_header(),
            names: table.columns().to_vec(),
            text: pair.anchor,
            text_pair: Some(pair.other),
            labels: pair.score.into_iter().collect(),
        },
        notes,
    })
}

/// The rows of a row's cells: one for each text that belongs to the anchor.
fn of_cells(cells: Vec<Cell>, pair: &Pair, place: &Place) -> Result<Vec<RelatedTexts>, BadReason> {
    let mut cells = cells.into_iter();
    let mut next = || cells.next().unwrap_or(Cell::Missing);
    let anchor = text_of(next(), &pair.anchor)?;
    let others = match next() {
        Cell::List(texts) if !texts.is_empty() => {
            let texts = texts.into_iter().map(Cell::Text);
            texts
                .map(|text| text_of(text, &pair.other))
                .collect::<Result<_, _>>()?
        }
        cell => vec![text_of(cell, &pair.other)?],
    };
    let relation = match &pair.score {
        None => Relation::Positive,
        Some(column) => {
            let score = match next() {
                Cell::Bool(alike) => f64::from(u8::from(alike)),
                cell => canonical::number(&raw_value(cell), &column.name)?,
            };
            Relation::Score(score)
        }
    };
    let mut negatives = Vec::new();
    for column in &pair.negatives {
        match next() {
            // A row may have fewer than others.
            Cell::Missing => {}
            Cell::Text(text) if text.trim().is_empty() => {}
            Cell::List(texts) => negatives.extend(
                texts
                    .into_iter()
                    .map(|text| text_of(Cell::Text(text), column))
                    .collect::<Result<Vec<_>, _>>()?,
            ),
            cell => negatives.push(text_of(cell, column)?),
        }
    }
    let row = |other: String| RelatedTexts {
        texts: [vec![anchor.clone(), other], negatives.clone()].concat(),
        relation: relation.clone(),
        place: place.clone(),
    };
    Ok(others.into_iter().map(row).collect())
}

/// Labelled texts, as classification reads them.
fn read_labelled(
    path: &Path,
    source: &Source,
    options: &ReadOptions,
) -> Result<RelatedRead, DataError> {
    const HINT: &str = "pairs are columns such as `anchor` and `positive`, or any two: --text COLUMN --text-pair COLUMN; labelled texts a text and its label: --text COLUMN --label COLUMN";
    let options = ReadOptions {
        target: TargetKind::Class,
        require_label: true,
        without_labels: false,
        ..options.clone()
    };
    let read = read_source(path, source, &options).map_err(|error| match error {
        DataError::NoColumn {
            path, role, found, ..
        } => DataError::NoColumn {
            path,
            role,
            found,
            hint: Some(HINT.to_owned()),
        },
        DataError::AmbiguousColumn {
            path,
            role,
            candidates,
            ..
        } => DataError::AmbiguousColumn {
            path,
            role,
            candidates,
            instead: "; of pairs two: --text COLUMN --text-pair COLUMN",
        },
        other => other,
    })?;
    let rows = read.examples.into_iter().filter_map(|example| {
        let label = example.label.as_ref()?.class()?.into_owned();
        Some(RelatedTexts {
            texts: vec![example.text],
            relation: Relation::Label(label),
            place: example.place,
        })
    });
    Ok(RelatedRead {
        rows: rows.collect(),
        skipped: read.skipped,
        columns: read.columns,
        negatives: Vec::new(),
        notes: read.notes,
    })
}

impl Examples for Vec<RelatedTexts> {
    fn count(&self) -> usize {
        self.len()
    }

    fn class(&self, index: usize) -> Option<Cow<'_, str>> {
        match &self[index].relation {
            Relation::Label(label) => Some(Cow::Borrowed(label)),
            _ => None,
        }
    }

    fn labels(&self, _: usize) -> &[String] {
        &[]
    }

    fn source(&self) -> PathBuf {
        self.first()
            .map_or_else(PathBuf::new, |row| row.place.path.to_path_buf())
    }

    fn into_parts(self, to: &[u8]) -> [Self; 3] {
        deal(self, to)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::OnBad;

    fn read(name: &str, text: &str, options: &ReadOptions) -> Result<RelatedRead, DataError> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        read_related(&path, options)
    }

    fn rows(name: &str, text: &str) -> Vec<RelatedTexts> {
        read(name, text, &ReadOptions::default()).unwrap().rows
    }

    #[test]
    fn pairs_with_and_without_negatives() {
        let plain = rows("a.csv", "id,Anchor,positive\n1,a,b\n2,c,d\n");
        assert_eq!(plain[1].texts, ["c", "d"]);
        assert_eq!(plain[1].relation, Relation::Positive);
        assert_eq!(plain[1].place.line, 3);
        // Columns with numbers, and a row that has fewer.
        let hard = rows(
            "a.csv",
            "query,document,negative_1,negative_2\nq,d,n,m\nr,e,,o\n",
        );
        assert_eq!(hard[0].texts, ["q", "d", "n", "m"]);
        assert_eq!(hard[1].texts, ["r", "e", "o"]);
        // Every positive is a row.
        let lists = rows(
            "a.jsonl",
            r#"{"query": "q", "pos": ["a", "b"], "neg": ["n"]}"#,
        );
        let texts: Vec<_> = lists.iter().map(|row| row.texts.join(" ")).collect();
        assert_eq!(texts, ["q a n", "q b n"]);
    }

    #[test]
    fn scores_and_labels() {
        let scored = rows("a.csv", "sentence1,sentence2,score\na,b,0.5\nc,d,5\n");
        assert_eq!(scored[0].relation, Relation::Score(0.5));
        assert_eq!(scored[1].relation, Relation::Score(5.0));
        let labelled = rows("a.csv", "text,label\nit broke,bad\nnice,good\n");
        assert_eq!(labelled[0].texts, ["it broke"]);
        assert_eq!(labelled[0].relation, Relation::Label("bad".into()));
        assert_eq!(labelled.class(1).unwrap(), "good");
    }

    #[test]
    fn columns_that_are_named() {
        let options = ReadOptions {
            text: Some("b".into()),
            text_pair: Some("a".into()),
            ..ReadOptions::default()
        };
        let found = read("a.csv", "a,b\nx,y\n", &options).unwrap();
        assert_eq!(found.rows[0].texts, ["y", "x"]);
        assert_eq!(found.columns.text.name, "b");
        let missing = ReadOptions {
            text: Some("bb".into()),
            ..options
        };
        let error = read("a.csv", "a,b\nx,y\n", &missing).unwrap_err();
        assert!(error.to_string().contains("bb"), "{error}");
    }

    #[test]
    fn what_cannot_be_used_is_named() {
        let text = "premise,hypothesis,label\na,b,entailment\n";
        let error = read("a.csv", text, &ReadOptions::default()).unwrap_err();
        assert!(error.to_string().contains("a.csv:2"), "{error}");
        assert!(error.to_string().contains("entailment"), "{error}");
        let text = "anchor,positive\na,b\n,c\n";
        let error = read("a.csv", text, &ReadOptions::default()).unwrap_err();
        assert!(error.to_string().contains("a.csv:3"), "{error}");
        let skip = ReadOptions {
            on_bad_example: OnBad::Skip,
            ..ReadOptions::default()
        };
        let left = read("a.csv", text, &skip).unwrap();
        assert_eq!((left.rows.len(), left.skipped.len()), (1, 1));
        let error = read("a.jsonl", r#"{"left": "a b", "right": "c d"}"#, &skip).unwrap_err();
        assert!(error.to_string().contains("--text left"), "{error}");
    }

    #[test]
    fn names_that_tell() {
        let names = |names: &[&str]| {
            names
                .iter()
                .map(|name| (*name).to_owned())
                .collect::<Vec<_>>()
        };
        for (columns, told) in [
            (["anchor", "positive"], true),
            (["query", "pos"], false),
            (["text", "label"], false),
            (["sentence1", "sentence2"], false),
        ] {
            assert_eq!(names_relations(&names(&columns)), told, "{columns:?}");
        }
        assert!(names_relations(&names(&["query", "answer", "negative"])));
        assert!(names_only_a_pair(&names(&["id", "Question", "answer"])));
        assert!(!names_only_a_pair(&names(&[
            "sentence1",
            "sentence2",
            "label"
        ])));
        assert!(is_negative("Negative_12") && !is_negative("positive"));
    }
}
