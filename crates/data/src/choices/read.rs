//! Files of questions with choices. What a row is shows in its columns, see [`read_choices`].

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use serde_json::{Map, Value};

use super::rows::{Draft, Named};
use super::{ChoiceQuestion, ChoiceReason};
use crate::chat::Reader;
use crate::tables::{Column, each_object_by};
use crate::{BadReason, DataError, Place, ReadOptions, Skipped};

/// So many answers of which none is 0 may begin at 1.
const FEW: usize = 10;

/// A row by its columns, or what is wrong with it.
type Raw = Result<Map<String, Value>, BadReason>;

/// How a file says which choice is right.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AnswerForm {
    /// By a label that stands beside each choice.
    Label,
    /// By a number, the first choice being 0.
    Index,
    /// By a number, the first choice being 1, or by the number of its column.
    Number,
    /// By a letter, the first choice being A, or by the letter of its column.
    Letter,
    /// By the text of the choice.
    Text,
}

impl AnswerForm {
    /// All of them; of several that a file's answers can be, the first is meant. A text that is there is no accident.
    const ALL: [Self; 5] = [
        Self::Label,
        Self::Text,
        Self::Index,
        Self::Number,
        Self::Letter,
    ];

    /// What answers of this form are, in words.
    pub fn words(self) -> &'static str {
        match self {
            Self::Label => "labels of choices",
            Self::Index => "numbers of choices, the first being 0",
            Self::Number => "numbers of choices, the first being 1",
            Self::Letter => "letters of choices, the first being A",
            Self::Text => "the texts of choices",
        }
    }
}

/// What [`read_choices`] found.
#[derive(Debug, Clone, PartialEq)]
pub struct ChoiceQuestions {
    /// The good questions, in file order.
    pub rows: Vec<ChoiceQuestion>,
    /// The bad ones; empty unless [`OnBad::Skip`](crate::OnBad::Skip).
    pub skipped: Vec<Skipped>,
    /// How the file says which choice is right; `None` where it has no answers.
    pub form: Option<AnswerForm>,
    /// How the file was read, a line each.
    pub notes: Vec<String>,
}

/// Reads questions with choices: rows of CSV, TSV, JSON lines, an array of JSON or Parquet.
///
/// | what | columns, of which a row has one |
/// |---|---|
/// | question | `question`, `question_stem`, `sent2`, `query` |
/// | context, which need not be there; alone it is the question | `context`, `article`, `passage`, `sent1`, `ctx`, `premise`, `dialogue`, `paragraph`, `story`, `support` |
/// | choices | `choices`, `options` or `endings`: a list of texts, `{"text": [...], "label": [...]}`, a list of `{"text", "label"}`, or `{"A": ...}`; in CSV as JSON |
/// | | or a column each: `choice0`, `option1`, `ending_2`, `answerA` and so on, or `A`, `B`, `C`; the last ones may be blank in some rows |
/// | answer | `answer`, `label`, `answerKey` |
///
/// [`ReadOptions::text`] names the column of the question, [`text_pair`](ReadOptions::text_pair) that of the context and
/// [`labels`](ReadOptions::labels) that of the answer. An answer is a number, a letter, the text of the choice or its label: the one
/// of these [forms](AnswerForm) that most answers of the file have.
///
/// # Errors
/// [`DataError::NoSuchFile`] and the like for the file, [`DataError::BadExample`] with the place of a bad question,
/// [`DataError::AllBad`] where none is good, [`DataError::SeveralLabels`] for more than one column of answers.
///
/// ```
/// use rekindle_data::{ReadOptions, choices::{AnswerForm, read_choices}};
///
/// # let dir = tempfile::tempdir()?;
/// # let path = dir.path().join("train.jsonl");
/// std::fs::write(&path, r#"{"question": "Who naps?", "choices": ["Ada", "Zoë"], "answer": "B"}"#)?;
/// let read = read_choices(&path, &ReadOptions::default())?;
/// assert_eq!((read.rows[0].right(), read.form), (Some("Zoë"), Some(AnswerForm::Letter)));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn read_choices(path: &Path, options: &ReadOptions) -> Result<ChoiceQuestions, DataError> {
    if options.labels.len() > 1 {
        return Err(DataError::SeveralLabels {
            path: path.to_owned(),
            columns: options.labels.iter().map(ToString::to_string).collect(),
        });
    }
    let name = |column: Option<&Column>| column.map(ToString::to_string);
    let (text, pair) = (options.text.as_ref(), options.text_pair.as_ref());
    let usual = &options.usual;
    let named = [name(text), name(pair), name(options.labels.first())];
    let usual = [
        name(usual.text.as_ref()),
        name(usual.text_pair.as_ref()),
        name(usual.label.first()),
    ];
    // Answers are of no interest where a file is to be asked.
    let wanted = &named[..2 + usize::from(!options.without_labels)];
    let raw = raw_rows(path, options, wanted)?;
    let columns = Named {
        question: &[&named[0], &usual[0]],
        context: &[&named[1], &usual[1]],
        answer: &[&named[2], &usual[2]],
    };
    let drafts: Vec<(Place, Result<Draft, BadReason>)> = raw
        .into_iter()
        .map(|(place, row)| {
            let asks = options.without_labels;
            (place, row.and_then(|row| Draft::of(&row, &columns, asks)))
        })
        .collect();
    let good = || drafts.iter().filter_map(|(_, draft)| draft.as_ref().ok());
    let form = form_of(good).filter(|_| !options.without_labels);
    // Of a few rows that says nothing.
    let may_begin_at_one = drafts.len() >= FEW
        && good().all(|draft| draft.answer.is_none() || draft.index(AnswerForm::Number).is_some());
    // Of columns that are numbered, the first must be there in every row.
    let first = good()
        .filter_map(|draft| Some(draft.first.as_ref()?.number))
        .min();

    let required = options.require_label && !options.without_labels;
    let mut reader = Reader::new(options.on_bad_example);
    for (place, draft) in drafts {
        let row = draft.and_then(|draft| draft.finish(form, first, required, place.clone()));
        reader.add(place, row);
    }
    let (rows, skipped) = reader.finish(path)?;
    let answered = rows.iter().any(|row| row.answer.is_some());
    let form = form.filter(|_| answered);
    let mut notes: Vec<String> = form
        .map(|form| format!("{}: answers are read as {}", path.display(), form.words()))
        .into_iter()
        .collect();
    if form == Some(AnswerForm::Index) && may_begin_at_one {
        notes.push(format!(
            "warning: {}: no answer is 0: if the first choice is 1 there, all are one off; write letters, or subtract 1",
            path.display()
        ));
    }
    Ok(ChoiceQuestions {
        rows,
        skipped,
        form,
        notes,
    })
}

/// Every row as the file has it. All are bad where none has one of the `wanted` columns.
fn raw_rows(
    path: &Path,
    options: &ReadOptions,
    wanted: &[Option<String>],
) -> Result<Vec<(Place, Raw)>, DataError> {
    let shared: Arc<Path> = path.into();
    let mut rows: Vec<(Place, Raw)> = Vec::new();
    each_object_by(path, options, |line, row| {
        let path = Arc::clone(&shared);
        rows.push((Place { path, line }, row));
        Ok(())
    })?;
    let known: BTreeSet<String> = rows
        .iter()
        .filter_map(|(_, row)| row.as_ref().ok())
        .flat_map(Map::keys)
        .cloned()
        .collect();
    let Some(column) = wanted.iter().flatten().find(|name| !known.contains(*name)) else {
        return Ok(rows);
    };
    let without = |row: Map<String, Value>| {
        Err(ChoiceReason::NoColumn {
            column: column.clone(),
            found: row.keys().cloned().collect(),
        }
        .into())
    };
    let rows = rows.into_iter();
    Ok(rows
        .map(|(place, row)| (place, row.and_then(without)))
        .collect())
}

/// The form that most answers have; `None` where there are none.
fn form_of<'a, I: Iterator<Item = &'a Draft>>(drafts: impl Fn() -> I) -> Option<AnswerForm> {
    drafts().find(|draft| draft.answer.is_some())?;
    let count = |form: AnswerForm| drafts().filter(|d| d.index(form).is_some()).count();
    // Of equals the last is taken.
    let mut forms = AnswerForm::ALL;
    if drafts().any(Draft::is_numbered) {
        forms.swap(2, 3);
    }
    let forms = forms.into_iter().rev();
    let most = forms
        .map(|form| (count(form), form))
        .max_by_key(|(count, _)| *count)?;
    Some(match most {
        (0, _) if drafts().any(Draft::has_labels) => AnswerForm::Label,
        (0, _) => AnswerForm::Text,
        (_, form) => form,
    })
}
