//! What is learned: class ids, sets of labels, numbers; and the way there from what a file says.
//!
//! | step | type |
//! |---|---|
//! | a label cell as written | [`RawValue`] |
//! | what a column of them looks like | [`TargetHint`] |
//! | one form for each kind of target, checked row by row | [`RawTarget`], made by `read_examples` |
//! | names of classes, labels or numbers | [`TargetEncoder`]: [`LabelMap`], [`LabelSet`], [`RealTargets`] |
//! | what a loss reads | [`Targets`] |

pub(crate) mod canonical;
mod classes;
mod hint;
mod label_set;

use std::{collections::BTreeMap, fmt, sync::LazyLock};

use crate::choices::{ChoiceQuestion, Posed};
use crate::example::file_of;
use crate::questions::{Asked, Question};
use crate::tokens::TagLabels;
use crate::{BadReason, DataError, Example, Place, RawTarget, RawValue, ReadOutcome};

pub use classes::LabelMap;
pub(crate) use classes::by_value;
pub(crate) use hint::Looker;
pub use hint::{Input, TargetHint};
pub use label_set::LabelSet;

/// The kinds of targets. What [`read_examples`](crate::read_examples) makes of a row's label depends on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum TargetKind {
    /// One class of several. The label is one value, as written; blank is no label.
    #[default]
    Class,
    /// Any number of labels (multi-label). The label becomes one list of names, each once, blanks dropped. A file
    /// writes it as a list, as text with a separator, or as several columns of 0 and 1 that are named as the labels.
    /// An empty list is a row without any of the labels.
    Classes,
    /// One or several numbers (regression). The label becomes one finite `Real` for each column.
    Real,
    /// The next token (language models). There is no label: the text is what is learned.
    Next,
    /// A class for each word of a text (token classification). Its labels are spans of the text: [`crate::tokens`].
    Tags,
    /// The piece of a text that answers a question: [`crate::questions`].
    Answer,
    /// One of the choices that a question has: [`crate::choices`].
    Choice,
    /// Other texts, to which a text belongs (embeddings): [`crate::related`].
    Related,
}

impl TargetKind {
    /// Whether a model puts out several rows for an example, of its words, tokens, choices or texts, and examples differ in how many.
    #[must_use]
    pub const fn has_rows(self) -> bool {
        matches!(
            self,
            Self::Tags | Self::Answer | Self::Choice | Self::Related
        )
    }
}

impl fmt::Display for TargetKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Class => "classes",
            Self::Classes => "sets of labels",
            Self::Real => "numbers",
            Self::Next => "next tokens",
            Self::Tags => "labelled words",
            Self::Answer => "answers",
            Self::Choice => "choices",
            Self::Related => "texts that belong together",
        })
    }
}

/// The targets of N examples.
#[derive(Debug, Clone, PartialEq, Default)]
#[non_exhaustive]
pub enum Targets {
    /// An unlabelled set.
    #[default]
    None,
    /// Class ids, `[N]`, each below C.
    Class(Vec<u32>),
    /// Which of L labels each example has.
    Classes {
        /// Number of labels, L.
        width: usize,
        /// Row by row, `[N, L]`.
        rows: Vec<bool>,
    },
    /// K numbers for each example.
    Real {
        /// Numbers an example, K.
        width: usize,
        /// Row by row, `[N, K]`, all finite.
        values: Vec<f32>,
    },
    /// How many tokens of each example are learned, `[N]`; which they are stands beside the text.
    Next(Vec<u32>),
    /// The parts of each example whose probabilities are compared, such as two answers.
    Parts {
        /// Parts an example, P.
        width: usize,
        /// Row by row, `[N, P]`.
        rows: Vec<Part>,
    },
    /// What each word of each example should be.
    Tags {
        /// Words of each example, added up: example i has `ids[starts[i]..starts[i + 1]]`. `[N + 1]`
        starts: Vec<usize>,
        /// The outputs, each below C, or [`IGNORED`](crate::tokens::IGNORED).
        ids: Vec<i32>,
    },
    /// The questions, which know their answers where these are to be learned.
    Answers(Asked),
    /// The questions with their choices, which know the right ones where these are to be learned.
    Choices(Posed),
    /// What the texts of each example have to do with each other, `[N]`.
    Related(Vec<Related>),
}

/// What the texts of an example have to do with each other.
#[derive(Debug, Clone, PartialEq)]
pub struct Related {
    /// The texts by their numbers: the anchor, what it is compared with, and what does not belong to it. A text has the same number
    /// wherever it stands in a set.
    pub texts: Vec<u32>,
    /// The class of the texts, where they have one: texts of one class belong together.
    pub class: Option<u32>,
    /// How alike the two texts are, in [-1, 1], where that is known.
    pub score: Option<f32>,
}

/// A part of an example that a language model gives a probability: an answer, say.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Part {
    /// How many tokens it has.
    pub tokens: u32,
    /// Whether such answers are wanted.
    pub wanted: bool,
    /// Its natural log-probability by the model before training; 0 until that is known.
    pub reference: f32,
}

/// The target of one example.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub enum TargetRow<'a> {
    /// None: the set is unlabelled.
    None,
    /// A class id.
    Class(u32),
    /// Which labels it has, `[L]`.
    Classes(&'a [bool]),
    /// Its numbers, `[K]`.
    Real(&'a [f32]),
    /// How many of its tokens are learned.
    Next(u32),
    /// Its parts, `[P]`.
    Parts(&'a [Part]),
    /// What its words should be.
    Tags(&'a [i32]),
    /// The question that it is of.
    Answer(&'a Question),
    /// The question with its choices.
    Choice(&'a ChoiceQuestion),
    /// What its texts have to do with each other.
    Related(&'a Related),
}

impl Targets {
    /// Number of examples, N; 0 for an unlabelled set.
    pub fn len(&self) -> usize {
        match self {
            Self::None => 0,
            Self::Class(ids) => ids.len(),
            Self::Next(counts) => counts.len(),
            Self::Classes { width, rows } => rows.len().checked_div(*width).unwrap_or(0),
            Self::Real { width, values } => values.len().checked_div(*width).unwrap_or(0),
            Self::Parts { width, rows } => rows.len().checked_div(*width).unwrap_or(0),
            Self::Tags { starts, .. } => starts.len().saturating_sub(1),
            Self::Answers(asked) => asked.len(),
            Self::Choices(posed) => posed.len(),
            Self::Related(rows) => rows.len(),
        }
    }

    /// Whether there are no targets.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What kind they are; `None` for an unlabelled set.
    pub fn kind(&self) -> Option<TargetKind> {
        match self {
            Self::None => None,
            Self::Class(_) => Some(TargetKind::Class),
            Self::Classes { .. } => Some(TargetKind::Classes),
            Self::Real { .. } => Some(TargetKind::Real),
            Self::Next(_) | Self::Parts { .. } => Some(TargetKind::Next),
            Self::Tags { .. } => Some(TargetKind::Tags),
            Self::Answers(_) => Some(TargetKind::Answer),
            Self::Choices(_) => Some(TargetKind::Choice),
            Self::Related(_) => Some(TargetKind::Related),
        }
    }

    /// Values an example: 1 for a class, L labels, K numbers, P parts, 0 for an unlabelled set and where examples differ.
    pub fn width(&self) -> usize {
        match self {
            Self::None
            | Self::Tags { .. }
            | Self::Answers(_)
            | Self::Choices(_)
            | Self::Related(_) => 0,
            Self::Class(_) | Self::Next(_) => 1,
            Self::Classes { width, .. } | Self::Real { width, .. } | Self::Parts { width, .. } => {
                *width
            }
        }
    }

    /// The targets of these examples, in this order: those of a batch. An unlabelled set stays one.
    ///
    /// # Panics
    /// Where an index is outside of the set.
    pub fn subset(&self, indices: &[usize]) -> Self {
        match self {
            Self::None => Self::None,
            Self::Class(ids) => Self::Class(indices.iter().map(|&i| ids[i]).collect()),
            Self::Next(counts) => Self::Next(indices.iter().map(|&i| counts[i]).collect()),
            Self::Classes { width, rows } => Self::Classes {
                width: *width,
                rows: gather(rows, *width, indices),
            },
            Self::Real { width, values } => Self::Real {
                width: *width,
                values: gather(values, *width, indices),
            },
            Self::Parts { width, rows } => Self::Parts {
                width: *width,
                rows: gather(rows, *width, indices),
            },
            Self::Tags { starts, ids } => {
                Self::tags(indices.iter().map(|&i| &ids[starts[i]..starts[i + 1]]))
            }
            Self::Answers(asked) => Self::Answers(asked.subset(indices)),
            Self::Choices(posed) => Self::Choices(posed.subset(indices)),
            Self::Related(rows) => {
                Self::Related(indices.iter().map(|&i| rows[i].clone()).collect())
            }
        }
    }

    /// What the words of examples should be.
    pub fn tags<'a>(examples: impl IntoIterator<Item = &'a [i32]>) -> Self {
        let (mut starts, mut ids) = (vec![0], Vec::new());
        for example in examples {
            ids.extend_from_slice(example);
            starts.push(ids.len());
        }
        Self::Tags { starts, ids }
    }

    /// The target of one example.
    ///
    /// # Panics
    /// Where `index` is outside of a labelled set.
    pub fn row(&self, index: usize) -> TargetRow<'_> {
        match self {
            Self::None => TargetRow::None,
            Self::Class(ids) => TargetRow::Class(ids[index]),
            Self::Next(counts) => TargetRow::Next(counts[index]),
            Self::Classes { width, rows } => TargetRow::Classes(&rows[index * width..][..*width]),
            Self::Real { width, values } => TargetRow::Real(&values[index * width..][..*width]),
            Self::Parts { width, rows } => TargetRow::Parts(&rows[index * width..][..*width]),
            Self::Tags { starts, ids } => TargetRow::Tags(&ids[starts[index]..starts[index + 1]]),
            Self::Answers(asked) => TargetRow::Answer(asked.question(index)),
            Self::Choices(posed) => TargetRow::Choice(posed.question(index)),
            Self::Related(rows) => TargetRow::Related(&rows[index]),
        }
    }

    /// Class ids, `[N]`; empty where the targets are not classes.
    pub fn class_ids(&self) -> &[u32] {
        match self {
            Self::Class(ids) => ids,
            _ => &[],
        }
    }

    /// Class ids as a tensor holds them, `[N]`; empty where the targets are not classes.
    pub fn to_i32(&self) -> Vec<i32> {
        // A class id is below the number of classes, which fits in 31 bits.
        self.class_ids().iter().map(|&id| id as i32).collect()
    }

    /// The targets as numbers, row by row, `[N, width]`: 1 for a label that is there and 0 for one that is not, numbers
    /// as they are, the ids of classes, the tokens of parts, what words should be, the first and last tokens of answers, the right choices, the numbers of
    /// texts and what else is known of them.
    pub fn to_f32(&self) -> Vec<f32> {
        match self {
            Self::None => Vec::new(),
            Self::Class(ids) | Self::Next(ids) => ids.iter().map(|&id| id as f32).collect(),
            Self::Classes { rows, .. } => rows.iter().map(|&on| f32::from(u8::from(on))).collect(),
            Self::Real { values, .. } => values.clone(),
            Self::Parts { rows, .. } => rows.iter().map(|part| part.tokens as f32).collect(),
            Self::Tags { ids, .. } => ids.iter().map(|&id| id as f32).collect(),
            Self::Answers(asked) => {
                let positions = asked.windows().filter_map(|window| window.answer);
                positions
                    .flat_map(|(first, last)| [first as f32, last as f32])
                    .collect()
            }
            Self::Choices(posed) => {
                let right = posed.questions().filter_map(|question| question.answer);
                right.map(|answer| answer as f32).collect()
            }
            Self::Related(rows) => rows.iter().flat_map(Related::values).collect(),
        }
    }
}

impl Related {
    fn values(&self) -> impl Iterator<Item = f32> + use<'_> {
        let texts = self.texts.iter().map(|&text| text as f32);
        let class = self.class.map(|class| class as f32);
        texts.chain(class).chain(self.score)
    }
}

fn gather<T: Copy>(values: &[T], width: usize, indices: &[usize]) -> Vec<T> {
    let rows = indices.iter().map(|&i| &values[i * width..][..width]);
    rows.flatten().copied().collect()
}

/// Names of the numbers that are learned, one a column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RealTargets {
    names: Vec<String>,
}

impl RealTargets {
    /// The numbers by the names of their columns.
    ///
    /// # Errors
    /// [`DataError::EmptyLabels`] for an empty list.
    pub fn from_names(names: Vec<String>) -> Result<Self, DataError> {
        match names.is_empty() {
            true => Err(DataError::EmptyLabels),
            false => Ok(Self { names }),
        }
    }

    /// Names of the columns.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// The numbers of one row, `[K]`.
    ///
    /// # Errors
    /// [`DataError::BadExample`] for what is no finite number, [`DataError::TargetWidth`] for more or fewer numbers.
    pub fn encode(&self, target: &RawTarget, place: &Place) -> Result<Vec<f32>, DataError> {
        if target.0.len() != self.names.len() {
            return Err(DataError::TargetWidth {
                place: place.clone(),
                expected: self.names.clone(),
                found: target.0.len(),
            });
        }
        let values = target.0.iter().zip(&self.names);
        values
            .map(|(value, name)| {
                canonical::number(value, name).map_err(|reason| DataError::BadExample {
                    place: place.clone(),
                    reason,
                })
            })
            // Checked to be in the range of f32.
            .map(|number| number.map(|number| number as f32))
            .collect()
    }
}

/// From raw targets to [`Targets`], with the names of what a model puts out.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum TargetEncoder {
    /// One class of these.
    Class(LabelMap),
    /// Any of these labels.
    Classes(LabelSet),
    /// These numbers.
    Real(RealTargets),
    /// The next token.
    Next,
    /// One of these for each word.
    Tags(TagLabels),
    /// The first and the last token of an answer.
    Answer,
    /// One of the choices that a question has.
    Choice,
    /// Texts that belong together.
    Related,
}

/// What the two logits of a token are of.
static ENDS: LazyLock<[String; 2]> = LazyLock::new(|| ["start", "end"].map(str::to_owned));
/// What the one logit of a choice is.
static SCORE: LazyLock<[String; 1]> = LazyLock::new(|| ["score of a choice".to_owned()]);

impl From<LabelMap> for TargetEncoder {
    fn from(labels: LabelMap) -> Self {
        Self::Class(labels)
    }
}

impl TargetEncoder {
    /// The encoder for a training file as it was read: classes and labels sorted by name (by value where all are
    /// integers), numbers in the order of their columns.
    ///
    /// # Errors
    /// As [`fit_examples`](Self::fit_examples).
    pub fn fit(kind: TargetKind, read: &ReadOutcome) -> Result<Self, DataError> {
        Self::fit_examples(kind, &read.examples, &read.label_names)
    }

    /// The encoder for training examples. `names` are [`ReadOutcome::label_names`].
    ///
    /// # Errors
    /// [`DataError::NoLabels`] or [`DataError::Unlabelled`] where labels are missing, [`DataError::OneClass`] for
    /// nothing to tell apart.
    pub fn fit_examples(
        kind: TargetKind,
        examples: &[Example],
        names: &[String],
    ) -> Result<Self, DataError> {
        if kind == TargetKind::Class {
            let found = LabelMap::from_examples(examples)?;
            // The file's own order, if it names all that it holds.
            let named = found.names().iter().all(|name| names.contains(name));
            return Ok(Self::Class(match named && !names.is_empty() {
                true => LabelMap::from_names(names.to_vec())?,
                false => found,
            }));
        }
        if examples.is_empty() {
            return Err(DataError::EmptyLabels);
        }
        if examples.iter().all(|example| example.label.is_none()) {
            return Err(DataError::NoLabels {
                path: file_of(examples),
                examples: examples.len(),
            });
        }
        let encoder = Self::from_names(kind, names.to_vec())?;
        // The rows' own labels must be among the names, or an error names the first that is not.
        encoder.encode_all(examples)?;
        Ok(encoder)
    }

    /// The encoder of a saved model, by its names in their order.
    ///
    /// # Errors
    /// [`DataError::EmptyLabels`] or [`DataError::DuplicateLabel`].
    pub fn from_names(kind: TargetKind, names: Vec<String>) -> Result<Self, DataError> {
        Ok(match kind {
            TargetKind::Class => Self::Class(LabelMap::from_names(names)?),
            TargetKind::Classes => Self::Classes(LabelSet::from_names(names)?),
            TargetKind::Real => Self::Real(RealTargets::from_names(names)?),
            TargetKind::Next => Self::Next,
            TargetKind::Tags => Self::Tags(TagLabels::from_names(names)?),
            TargetKind::Answer => Self::Answer,
            TargetKind::Choice => Self::Choice,
            TargetKind::Related => Self::Related,
        })
    }

    /// What kind of targets it makes.
    pub fn kind(&self) -> TargetKind {
        match self {
            Self::Class(_) => TargetKind::Class,
            Self::Classes(_) => TargetKind::Classes,
            Self::Real(_) => TargetKind::Real,
            Self::Next => TargetKind::Next,
            Self::Tags(_) => TargetKind::Tags,
            Self::Answer => TargetKind::Answer,
            Self::Choice => TargetKind::Choice,
            Self::Related => TargetKind::Related,
        }
    }

    /// Names of the classes, the labels, the numbers, the tags, the ends of answers or the score of a choice, in the order of a model's outputs.
    pub fn names(&self) -> &[String] {
        match self {
            Self::Class(labels) => labels.names(),
            Self::Classes(labels) => labels.names(),
            Self::Real(numbers) => numbers.names(),
            Self::Next | Self::Related => &[],
            Self::Tags(tags) => tags.names(),
            Self::Answer => ENDS.as_slice(),
            Self::Choice => SCORE.as_slice(),
        }
    }

    /// Number of a model's outputs: C classes or tags, L labels or K numbers, 2 for answers, 1 for choices; 0 for next tokens and for embeddings.
    pub fn outputs(&self) -> usize {
        self.names().len()
    }

    /// The examples without those that have a label which is not among the names, and the error that tells of these; labels of
    /// other mistakes stay.
    #[must_use]
    pub fn known_only(&self, examples: Vec<Example>) -> (Vec<Example>, Option<DataError>) {
        let (mut known, mut unknown) = (Vec::new(), Vec::new());
        for example in examples {
            match self.encode_rows([(example.label.as_ref(), &example.place)]) {
                Err(error @ DataError::UnknownLabel { .. }) => unknown.push(error),
                _ => known.push(example),
            }
        }
        let (rows, mut labels) = (unknown.len(), BTreeMap::new());
        for error in &unknown {
            if let DataError::UnknownLabel { label, .. } = error {
                *labels.entry(label.clone()).or_insert(0) += 1;
            }
        }
        let error = unknown.into_iter().next().map(|error| match error {
            DataError::UnknownLabel {
                place: first,
                near,
                known,
                ..
            } if rows > 1 || near.is_empty() => DataError::UnknownLabels {
                first,
                rows,
                labels,
                known,
            },
            // One that may be a slip is told with the label that was meant.
            other => other,
        });
        (known, error)
    }

    /// The targets of all examples.
    ///
    /// # Errors
    /// As [`encode_rows`](Self::encode_rows).
    pub fn encode_all(&self, examples: &[Example]) -> Result<Targets, DataError> {
        self.encode_rows(
            examples
                .iter()
                .map(|example| (example.label.as_ref(), &example.place)),
        )
    }

    /// The targets of rows with their places.
    ///
    /// # Errors
    /// [`DataError::Unlabelled`] for a row without a target, [`DataError::UnknownLabel`] for a label that is not among
    /// the names, [`DataError::BadExample`] for what is no number; each with its place.
    pub fn encode_rows<'a>(
        &self,
        rows: impl IntoIterator<Item = (Option<&'a RawTarget>, &'a Place)>,
    ) -> Result<Targets, DataError> {
        let mut targets = match self {
            Self::Class(_) => Targets::Class(Vec::new()),
            Self::Classes(_) => Targets::Classes {
                width: self.outputs(),
                rows: Vec::new(),
            },
            Self::Real(_) => Targets::Real {
                width: self.outputs(),
                values: Vec::new(),
            },
            // Texts have no label; what of their tokens is learned is known where they are encoded.
            Self::Next | Self::Tags(_) | Self::Answer | Self::Choice | Self::Related => {
                return Ok(Targets::None);
            }
        };
        for (target, place) in rows {
            let target = target.ok_or_else(|| DataError::Unlabelled {
                place: place.clone(),
            })?;
            match (self, &mut targets) {
                (Self::Class(labels), Targets::Class(ids)) => {
                    let value = target.0.first().unwrap_or(&RawValue::Missing);
                    ids.push(labels.encode(value, place)?);
                }
                (Self::Classes(labels), Targets::Classes { rows, .. }) => {
                    rows.extend(labels.encode(target, place)?);
                }
                (Self::Real(numbers), Targets::Real { values, .. }) => {
                    values.extend(numbers.encode(target, place)?);
                }
                _ => unreachable!("the targets were made for this encoder"),
            }
        }
        Ok(targets)
    }
}

/// The error of a row that has no label where one is needed.
fn missing(column: &str) -> BadReason {
    BadReason::MissingLabel {
        column: column.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::path::Path;

    fn place() -> Place {
        Place {
            path: Path::new("a.csv").into(),
            line: 3,
        }
    }

    fn list(names: &[&str]) -> RawTarget {
        RawTarget(vec![RawValue::List(
            names.iter().map(|&name| name.to_owned()).collect(),
        )])
    }

    fn encoder(kind: TargetKind, names: &[&str]) -> TargetEncoder {
        TargetEncoder::from_names(kind, names.iter().map(|&name| name.to_owned()).collect())
            .unwrap()
    }

    fn encode(encoder: &TargetEncoder, raw: &[RawTarget]) -> Result<Targets, String> {
        let place = place();
        encoder
            .encode_rows(raw.iter().map(|raw| (Some(raw), &place)))
            .map_err(|error| error.to_string())
    }

    #[test]
    fn each_kind_is_encoded_and_cut_into_batches() {
        let classes = encode(
            &encoder(TargetKind::Class, &["b", "a"]),
            &["a", "b", "a"].map(RawTarget::from),
        )
        .unwrap();
        assert_eq!(classes, Targets::Class(vec![1, 0, 1]));
        let sets = encode(
            &encoder(TargetKind::Classes, &["x", "y", "z"]),
            &[list(&["z", "x", "z"]), list(&[]), list(&["y"])],
        )
        .unwrap();
        assert_eq!(sets.to_f32(), [1.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0]);
        let numbers = encode(
            &encoder(TargetKind::Real, &["p", "q"]),
            &[
                RawTarget(vec![RawValue::Real(0.5), RawValue::Int(-1)]),
                RawTarget(vec![RawValue::from("2e2"), RawValue::Real(0.0)]),
                RawTarget(vec![RawValue::Real(1.0), RawValue::Real(2.0)]),
            ],
        )
        .unwrap();
        assert_eq!(numbers.to_f32(), [0.5, -1.0, 200.0, 0.0, 1.0, 2.0]);

        for (targets, width, kind) in [
            (&classes, 1, TargetKind::Class),
            (&sets, 3, TargetKind::Classes),
            (&numbers, 2, TargetKind::Real),
        ] {
            assert_eq!(
                (targets.len(), targets.width(), targets.kind()),
                (3, width, Some(kind))
            );
            let batch = targets.subset(&[2, 0, 2]);
            for (row, from) in [2, 0, 2].into_iter().enumerate() {
                assert_eq!(batch.row(row), targets.row(from));
            }
            assert!(targets.subset(&[]).is_empty());
        }
        assert_eq!(classes.to_i32(), [1, 0, 1]);
        assert_eq!(sets.class_ids(), [0u32; 0]);
        assert_eq!(Targets::None.subset(&[5]), Targets::None);
        assert_eq!(Targets::None.row(7), TargetRow::None);
    }

    #[test]
    fn what_does_not_fit_is_named_with_its_place() {
        let sets = encoder(TargetKind::Classes, &["comedy", "drama"]);
        let numbers = encoder(TargetKind::Real, &["p", "q"]);
        for (encoder, raw, expect) in [
            (
                &sets,
                list(&["drama", "comdy"]),
                "a.csv:3: unknown label `comdy`; expected one of `comedy` and `drama`\nhint: did you mean `comedy`?",
            ),
            (
                &sets,
                RawTarget::from("drama"),
                "a.csv:3: the example has no label\nhint: label or remove the row",
            ),
            (
                &numbers,
                RawTarget(vec![RawValue::Real(1.0)]),
                "a.csv:3: expected the numbers `p` and `q`, found 1\nhint: name as many label columns",
            ),
            (
                &numbers,
                RawTarget(vec![RawValue::Real(1.0), RawValue::Real(f64::INFINITY)]),
                "a.csv:3: expected a finite number in `q`, found inf\nhint: remove the row, or write a number of at most 3.4e38; or leave such rows out: --set data.on_bad_example=skip",
            ),
        ] {
            assert_eq!(encode(encoder, &[raw]).unwrap_err(), expect);
        }
        let none = sets.encode_rows([(None, &place())]).unwrap_err();
        assert_eq!(
            none.to_string(),
            "a.csv:3: the example has no label\nhint: label or remove the row"
        );
        assert!(TargetEncoder::from_names(TargetKind::Real, Vec::new()).is_err());
    }
}
