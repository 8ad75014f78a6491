//! Files of questions with choices. What a row is shows in its columns, see [`read_choices`].

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use rekindle_base::counted;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::rows::{Draft, Named};
use super::{ChoiceQuestion, ChoiceReason};
use crate::chat::Reader;
use crate::tables::{Column, each_object_by};
use crate::{BadReason, DataError, Place, ReadOptions, Skipped, UsualColumns};

/// So many answers of which none is 0 may begin at 1.
const FEW: usize = 5;

/// A row by its columns, or what is wrong with it.
type Raw = Result<Map<String, Value>, BadReason>;

/// How a file says which choice is right.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
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
    /// By the name of its column.
    Column,
}

impl AnswerForm {
    /// All of them; of several that a file's answers can be, the first is meant. A text that is there is no accident.
    const ALL: [Self; 6] = [
        Self::Label,
        Self::Text,
        Self::Index,
        Self::Number,
        Self::Letter,
        Self::Column,
    ];

    /// What answers of this form are, in words.
    pub fn words(self) -> &'static str {
        match self {
            Self::Label => "labels of choices",
            Self::Index => "numbers of choices, the first being 0",
            Self::Number => "numbers of choices, the first being 1",
            Self::Letter => "letters of choices, the first being A",
            Self::Text => "the texts of choices",
            Self::Column => "names of the choices' columns",
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
    /// The columns that were read, by name, and how the file says which choice is right.
    pub columns: UsualColumns,
    /// How the file was read, a line each.
    pub notes: Vec<String>,
}

/// Reads questions with choices: rows of CSV, TSV, JSON lines, an array of JSON or Parquet.
///
/// | what | columns, of which a row has one |
/// |---|---|
/// | question | `question`, `question_stem`, `sent2`, `query`, `goal`, `sentence` |
/// | context, which need not be there; alone it is the question | `context`, `article`, `passage`, `sent1`, `ctx`, `premise`, `dialogue`, `paragraph`, `story`, `support` |
/// | choices | `choices`, `options` or `endings`: a list of texts, `{"text": [...], "label": [...]}`, a list of `{"text", "label"}`, or `{"A": ...}`; in CSV as JSON |
/// | | or a column each: `choice0`, `option1`, `ending_2`, `answerA`, `sol1`, `opa` and so on, or `A`, `B`, `C`; the last ones may be blank in some rows |
/// | | or `correct_answer` with `distractor1`, `distractor2` and so on |
/// | | or `answers`, where another column says which of them is right |
/// | answer | `answer`, `label`, `answerKey`, `correct_answer`, `correct_option`, `right`, `solution`, `key` and the like: the one in which most rows name a choice |
///
/// [`ReadOptions::text`] names the column of the question, [`text_pair`](ReadOptions::text_pair) that of the context,
/// [`choices`](ReadOptions::choices) the one of all choices or those of each, and [`labels`](ReadOptions::labels) that of the answer.
/// An answer is a number, a letter, the text of the choice, its label or the name of its column: the one of these
/// [forms](AnswerForm) that most answers of the file have, of several the one that [`ReadOptions::usual`] has.
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
/// assert_eq!((read.rows[0].right(), read.columns.answers), (Some("Zoë"), Some(AnswerForm::Letter)));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn read_choices(path: &Path, options: &ReadOptions) -> Result<ChoiceQuestions, DataError> {
    if options.labels.len() > 1 {
        return Err(DataError::SeveralLabels {
            path: path.to_owned(),
            columns: options.labels.iter().map(ToString::to_string).collect(),
        });
    }
    let raw = raw_rows(path, options)?;
    let first = raw.iter().find_map(|(_, row)| row.as_ref().ok());
    let columns: Vec<String> = first.into_iter().flat_map(Map::keys).cloned().collect();
    // A place is that of the first row.
    let one = |column: &Column| match column {
        Column::Index(place) if !columns.contains(&place.to_string()) => {
            (columns.get(*place)).map_or_else(|| place.to_string(), String::clone)
        }
        named => named.to_string(),
    };
    let name = |column: Option<&Column>| column.map(one);
    let names = |columns: &[Column]| columns.iter().map(one).collect::<Vec<_>>();
    let (text, pair) = (options.text.as_ref(), options.text_pair.as_ref());
    let usual = &options.usual;
    let named = [name(text), name(pair), name(options.labels.first())];
    let choices = [names(&options.choices), names(&usual.choices)];
    // Answers are of no interest where a file is to be asked.
    let wanted = named[..2 + usize::from(!options.without_labels)].iter();
    let wanted: Vec<&String> = wanted.flatten().chain(&choices[0]).collect();
    let raw = with_columns(raw, &wanted);
    let usual_names = [
        name(usual.text.as_ref()),
        name(usual.text_pair.as_ref()),
        name(usual.label.first()),
    ];
    let by = Named {
        question: &[&named[0], &usual_names[0]],
        context: &[&named[1], &usual_names[1]],
        answer: &[&named[2], &usual_names[2]],
        choices: &choices,
    };
    let drafts: Vec<(Place, Result<Draft, BadReason>)> = raw
        .into_iter()
        .map(|(place, row)| {
            let asks = options.without_labels;
            (place, row.and_then(|row| Draft::of(&row, &by, asks)))
        })
        .collect();
    let good: Vec<(&Place, &Draft)> = drafts
        .iter()
        .filter_map(|(place, draft)| Some((place, draft.as_ref().ok()?)))
        .collect();
    let answers = answers_of(&good, usual.answers);
    let told = answers
        .as_ref()
        .map(|(column, form)| (column.as_str(), *form));
    let notes_of = |(column, form)| notes_of(path, &good, drafts.len(), column, form);
    let mut notes = told.map_or_else(Vec::new, notes_of);
    // Of columns that are numbered, the first must be there in every row.
    let first = good
        .iter()
        .filter_map(|(_, draft)| Some(draft.first()?.number))
        .min();
    let mut used = used(&good);
    used.label = told
        .iter()
        .map(|(column, _)| Column::Name((*column).to_owned()))
        .collect();

    let required = options.require_label && !options.without_labels;
    let mut reader = Reader::new(options.on_bad_example);
    for (place, draft) in drafts {
        let row = draft.and_then(|draft| match told {
            None if required => Err(ChoiceReason::NoAnswerColumn {
                found: columns.clone(),
            }
            .into()),
            _ => draft.finish(told, first, required, place.clone()),
        });
        reader.add(place, row);
    }
    let (rows, skipped) = reader.finish(path)?;
    // None that could be read: nothing is known of them.
    match rows.iter().any(|row| row.answer.is_some()) {
        true => used.answers = told.map(|(_, form)| form),
        false => notes.clear(),
    }
    Ok(ChoiceQuestions {
        rows,
        skipped,
        columns: used,
        notes,
    })
}

/// Every row as the file has it.
fn raw_rows(path: &Path, options: &ReadOptions) -> Result<Vec<(Place, Raw)>, DataError> {
    let shared: Arc<Path> = path.into();
    let mut rows: Vec<(Place, Raw)> = Vec::new();
    each_object_by(path, options, |line, row| {
        let path = Arc::clone(&shared);
        rows.push((Place { path, line }, row));
        Ok(())
    })?;
    Ok(rows)
}

/// The rows; all are bad where none has one of the `wanted` columns.
fn with_columns(rows: Vec<(Place, Raw)>, wanted: &[&String]) -> Vec<(Place, Raw)> {
    let known: BTreeSet<String> = rows
        .iter()
        .filter_map(|(_, row)| row.as_ref().ok())
        .flat_map(Map::keys)
        .cloned()
        .collect();
    let Some(column) = wanted.iter().find(|name| !known.contains(**name)) else {
        return rows;
    };
    let without = |row: Map<String, Value>| {
        Err(ChoiceReason::NoColumn {
            column: (*column).clone(),
            found: row.keys().cloned().collect(),
        }
        .into())
    };
    let rows = rows.into_iter();
    rows.map(|(place, row)| (place, row.and_then(without)))
        .collect()
}

/// The column in which most rows name a choice, and how; `None` where there are no answers. Of forms that fit as well, that of
/// other files of the same kind is meant.
fn answers_of(
    good: &[(&Place, &Draft)],
    usual: Option<AnswerForm>,
) -> Option<(String, AnswerForm)> {
    let mut columns: Vec<&str> = Vec::new();
    for column in good.iter().flat_map(|(_, draft)| draft.answered_in()) {
        if !columns.contains(&column) {
            columns.push(column);
        }
    }
    // Of equals the last is taken.
    let columns = columns.into_iter().rev();
    let forms = columns.map(|column| (column, form_of(good, column, usual)));
    let (column, (_, form)) = forms.max_by_key(|(_, (count, _))| *count)?;
    Some((column.to_owned(), form))
}

/// The form that most answers of a column have, and how many have it.
fn form_of(
    good: &[(&Place, &Draft)],
    column: &str,
    usual: Option<AnswerForm>,
) -> (usize, AnswerForm) {
    let drafts = || good.iter().map(|(_, draft)| draft);
    let count = |form: AnswerForm| {
        let is = |draft: &&&Draft| {
            let index = |written| draft.index(written, form);
            draft.written(column).and_then(index).is_some()
        };
        drafts().filter(is).count()
    };
    // Of equals the last is taken.
    let mut forms = AnswerForm::ALL;
    let is_numbered = drafts().any(|draft| draft.is_numbered());
    if is_numbered {
        forms.swap(2, 3);
    }
    let most = forms.into_iter().rev();
    let most = most.map(|form| (count(form), form));
    let (most, form) = most
        .max_by_key(|(count, _)| *count)
        .unwrap_or((0, AnswerForm::Text));
    // Numbers are counted as those of the other file, but where they or their columns show that they are not.
    let is_number = |form| matches!(form, AnswerForm::Index | AnswerForm::Number);
    let numbers = || {
        let number =
            |draft: &&Draft| Some((Draft::number(draft.written(column)?)?, draft.choices()));
        good.iter().filter_map(move |(_, draft)| number(draft))
    };
    let of_index = numbers().any(|(number, _)| number == 0);
    let of_number = numbers().any(|(number, choices)| number == choices);
    let usual = usual.filter(|&usual| {
        let shown = match usual {
            AnswerForm::Index => of_number && !of_index,
            AnswerForm::Number => of_index && !of_number,
            _ => false,
        };
        let counts_so = is_number(usual) && is_number(form) && !is_numbered && !shown;
        most > 0 && (counts_so || (count(usual) == most && !shown))
    });
    match usual {
        Some(usual) => (count(usual), usual),
        None if most == 0 && drafts().any(|draft| draft.has_labels()) => (0, AnswerForm::Label),
        None if most == 0 => (0, AnswerForm::Text),
        None => (most, form),
    }
}

/// How the answers were read, and what may be wrong with that. `rows`: of the file, the bad ones too.
fn notes_of(
    path: &Path,
    good: &[(&Place, &Draft)],
    rows: usize,
    column: &str,
    form: AnswerForm,
) -> Vec<String> {
    let mut notes = vec![format!(
        "{}: answers are read as {}",
        path.display(),
        form.words()
    )];
    notes.extend(other_answers(path, good, column, form));
    // Of a few rows that says nothing.
    let may_begin_at_one = rows >= FEW
        && good.iter().all(|(_, draft)| {
            let written = draft.written(column);
            written.is_none_or(|answer| draft.index(answer, AnswerForm::Number).is_some())
        });
    if form == AnswerForm::Index && may_begin_at_one {
        notes.push(format!(
            "warning: {}: no answer is 0: if the first choice is 1 there, all are one off; write letters, or subtract 1",
            path.display()
        ));
    }
    notes
}

/// What to say where another column of answers names other choices.
fn other_answers(
    path: &Path,
    good: &[(&Place, &Draft)],
    column: &str,
    form: AnswerForm,
) -> Option<String> {
    let others = good.iter().flat_map(|(_, draft)| draft.answered_in());
    let others: BTreeSet<&str> = others.filter(|other| *other != column).collect();
    others.into_iter().find_map(|other| {
        let (_, of_other) = form_of(good, other, None);
        let choice = |draft: &Draft, column: &str, form| draft.index(draft.written(column)?, form);
        let pairs = good.iter().filter_map(|(place, draft)| {
            let (one, other) = (choice(draft, column, form)?, choice(draft, other, of_other)?);
            Some((place, one == other))
        });
        let pairs: Vec<_> = pairs.collect();
        let mut differ = pairs.iter().filter(|(_, same)| !same);
        let (place, _) = differ.next()?;
        Some(format!(
            "warning: {}: `{column}` and `{other}` name different choices in {} of {}, first in line {}: `{column}` is taken; --label names the other",
            path.display(),
            1 + differ.count(),
            counted(pairs.len(), "row", "rows"),
            place.line
        ))
    })
}

/// The columns of questions, contexts and choices: of the row that has the most.
fn used(good: &[(&Place, &Draft)]) -> UsualColumns {
    let text = |which: usize| {
        let mut found = good.iter().filter_map(|(_, d)| d.texts()[which].as_deref());
        found.next().map(|name| Column::Name(name.to_owned()))
    };
    let columns = good.iter().rev().map(|(_, draft)| draft.columns());
    let columns = columns.max_by_key(|columns| columns.len());
    UsualColumns {
        text: text(0),
        text_pair: text(1),
        choices: columns
            .unwrap_or_default()
            .iter()
            .map(|name| Column::Name(name.clone()))
            .collect(),
        ..UsualColumns::default()
    }
}
