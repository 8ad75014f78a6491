//! Which column holds the text, which the label: as named, or guessed from well-known names.

use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::path::{Path, PathBuf};

use super::{Cell, Format, ReadOptions, Table, raw_value};
use crate::image::{PATH_COLUMNS, is_picture_name, part_name, picture_near};
use crate::targets::canonical::{flag, number};
use crate::{DataError, Input, TargetKind, choices::AnswerForm};
use rekindle_base::{near::near_misses, words::counted};
use serde::{Deserialize, Serialize};

/// A column, by name or by its number counted from 0.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Column {
    /// The name in the header (or the field of the JSON objects), exactly.
    Name(String),
    /// The number, counted from 0, for a file without header. A header field that reads like the number wins.
    Index(usize),
}

impl From<&str> for Column {
    /// Digits are a number, everything else a name.
    fn from(column: &str) -> Self {
        column
            .parse()
            .map_or_else(|_| Self::Name(column.to_owned()), Self::Index)
    }
}

impl fmt::Display for Column {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Index(index) => write!(f, "{index}"),
        }
    }
}

/// What a column is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Role {
    /// The text.
    Text,
    /// The second text of a pair.
    TextPair,
    /// The label.
    Label,
}

impl Role {
    /// The argument that names its column.
    #[must_use]
    pub fn flag(self) -> &'static str {
        match self {
            Self::Text => "--text",
            Self::TextPair => "--text-pair",
            Self::Label => "--label",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Text => "text",
            Self::TextPair => "text_pair",
            Self::Label => "label",
        })
    }
}

/// A column and why it was taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResolvedColumn {
    /// Number in the file, counted from 0.
    pub index: usize,
    /// Its name; the number where there is no header.
    pub name: String,
    /// Why this one, for the user.
    pub reason: String,
}

/// The columns that the examples were read from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResolvedColumns {
    /// The file's format.
    pub format: Format,
    /// Whether the first row of a CSV or TSV file is a header; true for the other formats.
    pub header: bool,
    /// All columns of the file.
    pub names: Vec<String>,
    /// The text.
    pub text: ResolvedColumn,
    /// The second text, for pairs.
    pub text_pair: Option<ResolvedColumn>,
    /// The label columns: none, one, or several for several numbers or labels.
    pub labels: Vec<ResolvedColumn>,
}

impl ResolvedColumns {
    /// Numbers of the columns that are read, in the order text, second text, labels.
    pub(crate) fn wanted(&self) -> Vec<usize> {
        [Some(&self.text), self.text_pair.as_ref()]
            .into_iter()
            .flatten()
            .chain(&self.labels)
            .map(|column| column.index)
            .collect()
    }

    /// What to say where the texts are not in the column that is usual, or may be in another, and nobody named one.
    pub(crate) fn unusual(&self, options: &ReadOptions) -> Option<String> {
        if self.text.reason == LONGEST {
            return Some(format!(
                "column {} is read as the text: it holds the longest ones; --text names another",
                self.text.name
            ));
        }
        let Some(Column::Name(usual)) = options
            .usual
            .text
            .as_ref()
            .filter(|_| options.text.is_none())
        else {
            return None;
        };
        (*usual != self.text.name).then(|| {
            format!(
                "warning: there is no column `{usual}`, on which the model was tuned: `{}` is read as the text",
                self.text.name
            )
        })
    }

    /// Names of the label columns.
    pub(crate) fn label_names(&self) -> Vec<String> {
        self.labels
            .iter()
            .map(|column| column.name.clone())
            .collect()
    }
}

/// Columns by which a file was read before, for files of the same kind.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UsualColumns {
    /// The text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<Column>,
    /// The second text of a pair.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text_pair: Option<Column>,
    /// The label columns.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub label: Vec<Column>,
    /// The column of all choices of a question, or one for each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub choices: Vec<Column>,
    /// How the file says which choice is right.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answers: Option<AnswerForm>,
}

impl UsualColumns {
    /// The columns that a file was read by.
    #[must_use]
    pub fn of(columns: &ResolvedColumns) -> Self {
        let column = |column: &ResolvedColumn| match columns.header {
            true => Column::Name(column.name.clone()),
            false => Column::Index(column.index),
        };
        Self {
            text: Some(column(&columns.text)),
            text_pair: columns.text_pair.as_ref().map(column),
            label: columns.labels.iter().map(column).collect(),
            ..Self::default()
        }
    }

    /// The columns in words, such as "text `body`, label `kind`"; `None` where nothing is known.
    #[must_use]
    pub fn words(&self) -> Option<String> {
        let named = |column: &Column| match column {
            Column::Name(name) => format!("`{name}`"),
            Column::Index(index) => index.to_string(),
        };
        let texts = self.text.iter().chain(&self.text_pair).map(named);
        let labels = self.label.iter().map(named);
        let choices = self.choices.iter().map(named);
        let list = |one: &str, several: &str, names: Vec<String>| {
            let name = if names.len() == 1 { one } else { several };
            let between = if names.len() > 2 { ", " } else { " and " };
            (!names.is_empty()).then(|| format!("{name} {}", names.join(between)))
        };
        let parts = [
            list("text", "texts", texts.collect()),
            list("choices", "choices", choices.collect()),
            list("label", "labels", labels.collect()),
        ];
        let parts: Vec<String> = parts.into_iter().flatten().collect();
        (!parts.is_empty()).then(|| parts.join(", "))
    }

    /// Whether nothing is known.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Whether a first row names the texts, or the labels.
    pub(super) fn is_header(&self, row: &[String]) -> bool {
        let is_there = |column: &Column| matches!(column, Column::Name(name) if row.contains(name));
        let texts: Vec<&Column> = [&self.text, &self.text_pair]
            .into_iter()
            .flatten()
            .collect();
        !texts.is_empty() && texts.into_iter().all(is_there)
    }

    /// Whether the file that they are of had no header.
    pub(super) fn is_numbered(&self) -> bool {
        matches!(self.text, Some(Column::Index(_)))
    }

    /// Of these, what `options` leave open and a table has: the texts together or not at all, so the labels. Of a table
    /// without header all must be there, since an unlabelled one may count its columns otherwise.
    pub(crate) fn in_table(&self, table: &dyn Table, options: &ReadOptions) -> Self {
        let named: Vec<&Column> = [&options.text, &options.text_pair]
            .into_iter()
            .flatten()
            .chain(&options.labels)
            .collect();
        let is_there = |column: &Column| {
            let of_table = match column {
                Column::Name(name) => {
                    table
                        .columns()
                        .iter()
                        .filter(|found| *found == name)
                        .count()
                        == 1
                }
                Column::Index(index) => !table.has_header() && *index < table.columns().len(),
            };
            of_table && !named.contains(&column)
        };
        let texts: Vec<&Column> = [&self.text, &self.text_pair]
            .into_iter()
            .flatten()
            .collect();
        let texts_are = texts.iter().all(|column| is_there(column));
        let labels_are = self.label.iter().all(is_there);
        let all_are = texts_are && labels_are;
        if !table.has_header() && !all_are {
            return Self::default();
        }
        let open = options.text.is_none() && options.text_pair.is_none();
        let (text, text_pair) = match texts_are && open {
            true => (self.text.clone(), self.text_pair.clone()),
            false => (None, None),
        };
        Self {
            text,
            text_pair,
            label: match labels_are && options.labels.is_empty() {
                true => self.label.clone(),
                false => Vec::new(),
            },
            ..Self::default()
        }
    }
}

/// Names of the two texts of a pair, as in GLUE and its kin.
const PAIRS: [(&str, &str); 9] = [
    ("sentence1", "sentence2"),
    ("premise", "hypothesis"),
    ("question1", "question2"),
    ("question", "sentence"),
    ("question", "passage"),
    ("query", "passage"),
    ("text1", "text2"),
    ("text_a", "text_b"),
    ("text", "text_pair"),
];
/// Names of a text column: any of the first list before any of the second.
const TEXTS: [&[&str]; 2] = [
    &["text", "sentence", "utterance"],
    &[
        "sentence1",
        "review",
        "content",
        "comment",
        "tweet",
        "message",
        "document",
        "query",
        "question",
        "body",
        "description",
        "headline",
        "title",
        "premise",
        "phrase",
        "input",
    ],
];
/// Names of a column of classes, likewise.
const CLASSES: [&[&str]; 2] = [
    &["label", "labels", "target", "class"],
    &[
        "category",
        "intent",
        "sentiment",
        "topic",
        "emotion",
        "tag",
        "type",
        "label_text",
        "y",
    ],
];
/// Names of a column of sets of labels, likewise.
const LABEL_SETS: [&[&str]; 2] = [
    &[
        "labels",
        "tags",
        "genres",
        "categories",
        "topics",
        "keywords",
    ],
    &[
        "label", "tag", "genre", "category", "topic", "emotions", "intents", "target", "targets",
    ],
];
/// Names of a column of numbers to predict, likewise.
const NUMBERS: [&[&str]; 2] = [
    &["score", "rating", "similarity", "similarity_score", "stars"],
    &["label", "labels", "target", "value", "y", "price"],
];
/// Names of columns that are neither.
const IDS: &[&str] = &[
    "",
    "id",
    "idx",
    "index",
    "guid",
    "uid",
    "uuid",
    "unnamed: 0",
    "__index_level_0__",
];

/// Names of a column that says which part of the data a row is of.
const PARTS: [&str; 7] = [
    "split",
    "set",
    "subset",
    "fold",
    "partition",
    "part",
    "usage",
];

/// Why a column is read as the text where it could be another one.
const LONGEST: &str = "the longest texts";

/// Rows looked at to tell a label from text.
pub(super) const SAMPLE: usize = 10_000;

/// Names of a label column for a kind of target.
fn label_tiers(kind: TargetKind) -> [&'static [&'static str]; 2] {
    match kind {
        TargetKind::Class => CLASSES,
        TargetKind::Classes => LABEL_SETS,
        TargetKind::Real => NUMBERS,
        TargetKind::Next
        | TargetKind::Tags
        | TargetKind::Answer
        | TargetKind::Choice
        | TargetKind::Related => [&[], &[]],
    }
}

/// What a well-known name is the name of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Known {
    /// A text, or the path of a picture.
    Text,
    /// A label of any kind.
    Label,
    /// Neither.
    Id,
}

/// What a header name is, if it is one we know.
pub(super) fn known(name: &str) -> Option<Known> {
    let name = normal(name);
    let is_in = |tiers: &[&[&str]]| tiers.iter().any(|tier| tier.contains(&name.as_str()));
    if name.is_empty() {
        return None;
    }
    let is_pair = PAIRS.iter().any(|&(a, b)| name == a || name == b);
    if is_pair || is_in(&TEXTS) || PATH_COLUMNS.contains(&name.as_str()) {
        return Some(Known::Text);
    }
    if is_in(&CLASSES) || is_in(&LABEL_SETS) || is_in(&NUMBERS) {
        return Some(Known::Label);
    }
    is_id(&name).then_some(Known::Id)
}

/// Whether a column of this name says which row it is, and nothing else.
pub(crate) fn is_id(name: &str) -> bool {
    IDS.contains(&normal(name).as_str())
}

/// Whether a name is one of a label column's, or has the word in it, as `label_0` and `coarse-label`.
#[must_use]
pub fn is_label_name(name: &str) -> bool {
    let name = normal(name);
    let mut words = name.split(|c: char| !c.is_alphanumeric());
    known(&name) == Some(Known::Label) || words.any(|word| CLASSES[0].contains(&word))
}

/// Whether a column of this name usually holds sets of labels.
pub(crate) fn is_set_name(name: &str) -> bool {
    const PLURALS: [&str; 3] = ["emotions", "intents", "targets"];
    let name = normal(name);
    LABEL_SETS[0].contains(&name.as_str()) || PLURALS.contains(&name.as_str())
}

pub(crate) fn normal(name: &str) -> String {
    name.trim().to_lowercase()
}

/// Whether there is a column for each name that a model puts out; classes are no columns.
pub(super) fn all_there(options: &ReadOptions, names: &[String]) -> bool {
    let known = &options.known_labels;
    options.target != TargetKind::Class
        && !known.is_empty()
        && known.iter().all(|name| names.contains(name))
}

/// Finds the columns of `table`.
pub(crate) fn resolve(
    path: &Path,
    table: &dyn Table,
    options: &ReadOptions,
) -> Result<ResolvedColumns, DataError> {
    let chooser = Chooser {
        path,
        table,
        names: table.columns(),
    };
    let usual = options.usual.in_table(table, options);
    let or_usual = |named: &Option<Column>, usual: &Option<Column>| named.clone().or(usual.clone());
    let mut text = chooser.named(Role::Text, or_usual(&options.text, &usual.text).as_ref())?;
    let pair = or_usual(&options.text_pair, &usual.text_pair);
    let mut text_pair = chooser.named(Role::TextPair, pair.as_ref())?;
    let mut labels = Vec::with_capacity(options.labels.len());
    for label in options.labels.iter().chain(&usual.label) {
        labels.extend(chooser.named(Role::Label, Some(label))?);
    }
    if labels.is_empty() && table.has_header() && all_there(options, chooser.names) {
        for name in &options.known_labels {
            let column = chooser.named(Role::Label, Some(&Column::Name(name.clone())))?;
            labels.extend(column.map(|column| ResolvedColumn {
                reason: "named as what the model puts out".to_owned(),
                ..column
            }));
        }
    }
    check_distinct(path, text.as_ref(), text_pair.as_ref(), &labels)?;

    if table.has_header() {
        let taken = |index: usize, columns: &[&Option<ResolvedColumn>]| {
            columns
                .iter()
                .any(|column| column.as_ref().is_some_and(|column| column.index == index))
        };
        let is_label = |index: usize, labels: &[ResolvedColumn]| {
            labels.iter().any(|column| column.index == index)
        };
        if labels.is_empty() {
            let tiers = label_tiers(options.target);
            let guess = chooser.by_name(Role::Label, &tiers, |index| {
                taken(index, &[&text, &text_pair])
            })?;
            labels.extend(guess);
        }
        // A model of single texts reads no second one.
        let of_single = options.usual.text.is_some() && options.usual.text_pair.is_none();
        if text.is_none() && text_pair.is_none() && !of_single {
            (text, text_pair) = chooser.pair(|index| is_label(index, &labels));
        }
        if text.is_none() {
            text = chooser.by_name(Role::Text, &TEXTS, |index| {
                taken(index, &[&text_pair]) || is_label(index, &labels)
            })?;
        }
        if text.is_none() {
            text =
                chooser.paths(|index| taken(index, &[&text_pair]) || is_label(index, &labels))?;
            chooser.check_texts(text.as_ref(), options)?;
        }
        if text.is_none() {
            text = chooser.only_one_left(Role::Text, |index| {
                taken(index, &[&text_pair]) || is_label(index, &labels)
            })?;
        }
        if labels.is_empty() && options.require_label {
            let is_text = |index: usize| taken(index, &[&text, &text_pair]);
            labels = match options.target {
                TargetKind::Classes => chooser.flags_left(is_text)?,
                _ => Vec::new(),
            };
            // A model that was tuned on another column is not evaluated on any that happens to be there.
            if labels.is_empty() && options.usual.label.is_empty() {
                labels.extend(chooser.only_one_left(Role::Label, is_text)?);
            }
        }
    } else if text.is_none() && text_pair.is_none() {
        let several = labels.len() > 1;
        let (found, label) = match chooser.by_content(&labels, options.target) {
            // Which one is the label is of no interest.
            Err(DataError::AmbiguousColumn { .. }) if options.without_labels => {
                (chooser.longest()?, None)
            }
            other => other?,
        };
        text = found;
        if !several {
            labels = label.into_iter().collect();
        }
    } else if let (2, Some(only), None, true, true) = (
        chooser.names.len(),
        &text,
        &text_pair,
        labels.is_empty(),
        options.require_label,
    ) {
        labels.push(chooser.column(1 - only.index, "the only other column"));
    }

    let none = |role| DataError::NoColumn {
        path: path.to_owned(),
        role,
        found: chooser.names.to_vec(),
        hint: table.only_column(),
    };
    chooser.check_texts(text.as_ref(), options)?;
    let text = text.ok_or_else(|| none(Role::Text))?;
    if options.require_label && labels.is_empty() {
        return Err(none(Role::Label));
    }
    if options.target == TargetKind::Class && labels.len() > 1 {
        return Err(DataError::SeveralLabels {
            path: path.to_owned(),
            columns: labels.into_iter().map(|column| column.name).collect(),
        });
    }
    for (role, column) in [
        (Role::Text, Some(&text)),
        (Role::TextPair, text_pair.as_ref()),
    ]
    .into_iter()
    .chain(labels.iter().map(|label| (Role::Label, Some(label))))
    {
        if let Some(column) = column {
            table.check(column.index, role)?;
        }
    }
    Ok(ResolvedColumns {
        format: table.format(),
        header: table.has_header(),
        names: chooser.names.to_vec(),
        text,
        text_pair,
        labels,
    })
}

/// A warning for rows of several parts of the data that are all read as one.
pub(super) fn several_parts(
    path: &Path,
    table: &dyn Table,
    columns: &ResolvedColumns,
) -> Result<Option<String>, DataError> {
    let chooser = Chooser {
        path,
        table,
        names: table.columns(),
    };
    let used = columns.wanted();
    for index in (0..chooser.names.len()).filter(|index| !used.contains(index)) {
        let parts = chooser.parts(index)?;
        if parts.len() > 1 {
            let counts = parts
                .iter()
                .map(|(part, rows)| format!("{} {part}", counted(*rows, "row is", "rows are")));
            return Ok(Some(format!(
                "warning: by column `{}` {}, and all are read as one set: write each part into a file of its own, and name them with --train, --validation and --test",
                chooser.names[index],
                counts.collect::<Vec<_>>().join(", ")
            )));
        }
    }
    Ok(None)
}

/// Columns of one name with numbers behind it, three or more, that are not among the `used`: `answer1`, `answer2`, `answer3`.
fn numbered(names: &[String], used: &[usize]) -> Vec<usize> {
    let mut of_stem: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for (index, name) in names.iter().enumerate() {
        let stem = name.trim_end_matches(|c: char| c.is_ascii_digit());
        if stem.len() < name.len() && stem.contains(char::is_alphabetic) && !used.contains(&index) {
            of_stem.entry(stem).or_default().push(index);
        }
    }
    let most = of_stem.into_values().max_by_key(Vec::len);
    most.filter(|columns| columns.len() > 2).unwrap_or_default()
}

/// What to say of columns that are not read and look like the choices of a question.
pub(super) fn unread_choices(
    table: &dyn Table,
    columns: &ResolvedColumns,
) -> Result<Option<String>, DataError> {
    let names = table.columns();
    let found = numbered(names, &columns.wanted());
    let Some(row) = table.rows(&found).next().filter(|_| !found.is_empty()) else {
        return Ok(None);
    };
    let is_text =
        |cell: &Cell| matches!(cell, Cell::Text(text) if text.contains(char::is_alphabetic));
    let texts = row?.cells.is_ok_and(|cells| cells.iter().all(is_text));
    let names: Vec<String> = found
        .iter()
        .map(|&index| format!("\"{}\"", names[index]))
        .collect();
    Ok(texts.then(|| {
        let names = names.join(", ");
        format!("the columns {names} are not read; where they are choices of a question, --task multiple-choice --set 'data.choices=[{names}]'")
    }))
}

/// No column can serve two purposes.
pub(crate) fn check_distinct(
    path: &Path,
    text: Option<&ResolvedColumn>,
    text_pair: Option<&ResolvedColumn>,
    labels: &[ResolvedColumn],
) -> Result<(), DataError> {
    let texts = [(Role::Text, text), (Role::TextPair, text_pair)];
    let texts = texts
        .into_iter()
        .filter_map(|(role, column)| Some((role, column?)));
    let roles: Vec<(Role, &ResolvedColumn)> = texts
        .chain(labels.iter().map(|label| (Role::Label, label)))
        .collect();
    for (i, (first, a)) in roles.iter().enumerate() {
        for (second, b) in &roles[i + 1..] {
            if a.index == b.index {
                return Err(DataError::SameColumn {
                    path: path.to_owned(),
                    column: a.name.clone(),
                    first: *first,
                    second: *second,
                });
            }
        }
    }
    Ok(())
}

/// A table whose columns are looked for.
pub(crate) struct Chooser<'a> {
    pub(crate) path: &'a Path,
    pub(crate) table: &'a dyn Table,
    pub(crate) names: &'a [String],
}

impl Chooser<'_> {
    pub(crate) fn column(&self, index: usize, reason: impl Into<String>) -> ResolvedColumn {
        ResolvedColumn {
            index,
            name: self.names[index].clone(),
            reason: reason.into(),
        }
    }

    /// The column the user asked for.
    pub(crate) fn named(
        &self,
        role: Role,
        wanted: Option<&Column>,
    ) -> Result<Option<ResolvedColumn>, DataError> {
        let Some(wanted) = wanted else {
            return Ok(None);
        };
        let name = wanted.to_string();
        let matches: Vec<usize> = (0..self.names.len())
            .filter(|&index| self.names[index] == name)
            .collect();
        match (matches.as_slice(), wanted) {
            (&[index], _) => Ok(Some(self.column(index, "named in the settings"))),
            ([], &Column::Index(index))
                if index < self.names.len() && self.table.format() != Format::Jsonl =>
            {
                Ok(Some(
                    self.column(index, "given by its number in the settings"),
                ))
            }
            ([], _) => Err(DataError::MissingColumn {
                path: self.path.to_owned(),
                role,
                near: near_misses(&name, self.names.iter().map(String::as_str)),
                wanted: name,
                found: self.names.to_vec(),
            }),
            _ => Err(self.duplicate(role, &name)),
        }
    }

    /// A column by its number, the only one of its name.
    pub(crate) fn only(
        &self,
        role: Role,
        index: usize,
        reason: &str,
    ) -> Result<ResolvedColumn, DataError> {
        let name = &self.names[index];
        match self.names.iter().filter(|other| *other == name).count() {
            1 => Ok(self.column(index, reason)),
            _ => Err(self.duplicate(role, name)),
        }
    }

    /// The error for a name that stands for several columns.
    fn duplicate(&self, role: Role, name: &str) -> DataError {
        let places = (0..self.names.len()).filter(|&index| self.names[index] == name);
        DataError::DuplicateColumn {
            path: self.path.to_owned(),
            role,
            wanted: name.to_owned(),
            places: places.map(|index| index.to_string()).collect(),
        }
    }

    /// The one column whose name is in the first tier that has any.
    fn by_name(
        &self,
        role: Role,
        tiers: &[&[&str]],
        taken: impl Fn(usize) -> bool,
    ) -> Result<Option<ResolvedColumn>, DataError> {
        for tier in tiers {
            let matches: Vec<usize> = (0..self.names.len())
                .filter(|&index| {
                    !taken(index) && tier.contains(&normal(&self.names[index]).as_str())
                })
                .collect();
            match matches.as_slice() {
                [] => {}
                &[index] => return Ok(Some(self.column(index, "by its name"))),
                several => return Err(self.ambiguous(role, several)),
            }
        }
        Ok(None)
    }

    /// Both texts of a pair.
    fn pair(
        &self,
        taken: impl Fn(usize) -> bool,
    ) -> (Option<ResolvedColumn>, Option<ResolvedColumn>) {
        let find = |wanted: &str| {
            (0..self.names.len())
                .find(|&index| !taken(index) && normal(&self.names[index]) == wanted)
        };
        PAIRS
            .iter()
            .find_map(|&(first, second)| {
                let reason = "a well-known pair of names";
                Some((
                    Some(self.column(find(first)?, reason)),
                    Some(self.column(find(second)?, reason)),
                ))
            })
            .unwrap_or((None, None))
    }

    /// The first column that holds nothing but names of pictures.
    fn paths(&self, taken: impl Fn(usize) -> bool) -> Result<Option<ResolvedColumn>, DataError> {
        let mut left: Vec<usize> = (0..self.names.len())
            .filter(|&index| !taken(index))
            .collect();
        // The first row leaves few.
        for rows in [1, SAMPLE] {
            let holds = self.hold_pictures(&left, rows)?;
            let mut holds = holds.into_iter();
            left.retain(|_| holds.next() == Some(true));
        }
        let first = left.first();
        Ok(first.map(|&index| self.column(index, "names of pictures only")))
    }

    /// Of each of some columns, whether it holds names of pictures only, in so many rows.
    fn hold_pictures(&self, columns: &[usize], rows: usize) -> Result<Vec<bool>, DataError> {
        let (mut any, mut all) = (vec![false; columns.len()], vec![true; columns.len()]);
        for row in self.table.rows(columns).take(rows) {
            if !all.contains(&true) {
                break;
            }
            for (at, cell) in row?.cells.into_iter().flatten().enumerate() {
                match cell {
                    Cell::Text(text) if is_picture_name(&text) => any[at] = true,
                    Cell::Missing => {}
                    _ => all[at] = false,
                }
            }
        }
        Ok(any
            .into_iter()
            .zip(all)
            .map(|(any, all)| any && all)
            .collect())
    }

    /// A text and the picture of its name beside the table, where the first texts all name one.
    fn picture_of_id(&self, index: usize) -> Result<Option<(String, PathBuf)>, DataError> {
        const ROWS: usize = 3;
        let mut first = None;
        for row in self.table.rows(&[index]).take(ROWS) {
            let Ok(cells) = row?.cells else { continue };
            let picture = match cells.as_slice() {
                [Cell::Text(text)] if !text.trim().contains(char::is_whitespace) => {
                    picture_near(self.path, text).map(|picture| (text.clone(), picture))
                }
                _ => None,
            };
            let Some(picture) = picture else {
                return Ok(None);
            };
            first.get_or_insert(picture);
        }
        Ok(first)
    }

    /// Refuses paths of pictures where texts are learned from.
    fn check_texts(
        &self,
        text: Option<&ResolvedColumn>,
        options: &ReadOptions,
    ) -> Result<(), DataError> {
        match text.filter(|_| options.input == Input::Text) {
            Some(text) if self.hold_pictures(&[text.index], SAMPLE)? == [true] => {
                Err(DataError::TextsArePictures {
                    path: self.path.to_owned(),
                    column: text.name.clone(),
                    hint: Input::Image.task(options.target),
                })
            }
            Some(text) => match self.picture_of_id(text.index)? {
                Some((id, picture)) => Err(DataError::TextsArePictures {
                    path: self.path.to_owned(),
                    column: text.name.clone(),
                    hint: format!(
                        "`{id}` stands for {}: write the paths of the pictures into the column, from the table's folder on, and {}",
                        picture.display(),
                        Input::Image.task(options.target)
                    ),
                }),
                None => Ok(()),
            },
            None => Ok(()),
        }
    }

    /// The parts of the data that a column tells of, with their rows; none where it holds anything else.
    fn parts(&self, index: usize) -> Result<BTreeMap<&'static str, usize>, DataError> {
        let mut parts = BTreeMap::new();
        if !PARTS.contains(&normal(&self.names[index]).as_str()) {
            return Ok(parts);
        }
        for row in self.table.rows(&[index]) {
            let Ok(cells) = row?.cells else { continue };
            let part = match cells.as_slice() {
                [Cell::Text(text)] => part_name(text.trim()),
                _ => None,
            };
            match part {
                Some(part) => *parts.entry(part).or_default() += 1,
                None => return Ok(BTreeMap::new()),
            }
        }
        Ok(parts)
    }

    /// Columns that have no purpose yet, and tell neither which row it is nor of which part.
    fn left(&self, taken: impl Fn(usize) -> bool) -> Result<Vec<usize>, DataError> {
        let mut left = Vec::new();
        for index in 0..self.names.len() {
            if !taken(index) && !is_id(&self.names[index]) && self.parts(index)?.is_empty() {
                left.push(index);
            }
        }
        Ok(left)
    }

    /// The only column that has no purpose yet and does not look like an id.
    fn only_one_left(
        &self,
        role: Role,
        taken: impl Fn(usize) -> bool,
    ) -> Result<Option<ResolvedColumn>, DataError> {
        let left = self.left(taken)?;
        match left.as_slice() {
            [] => Ok(None),
            &[index] => Ok(Some(self.column(index, "the only column left"))),
            several => Err(self.ambiguous(role, several)),
        }
    }

    /// All columns that have no purpose yet and do not look like ids, if they are at least two and hold 0 and 1 only.
    fn flags_left(&self, taken: impl Fn(usize) -> bool) -> Result<Vec<ResolvedColumn>, DataError> {
        let left = self.left(taken)?;
        if left.len() < 2 {
            return Ok(Vec::new());
        }
        for row in self.table.rows(&left).take(SAMPLE) {
            let Ok(cells) = row?.cells else { continue };
            for cell in cells {
                let value = raw_value(cell);
                if value.is_missing() || flag(&value).is_none() {
                    return Ok(Vec::new());
                }
            }
        }
        let column = |index| self.column(index, "0 and 1 only, as all columns that are left");
        Ok(left.into_iter().map(column).collect())
    }

    /// Text and label of a file without header: of two columns, the label is the one with few distinct values, or the
    /// only one of numbers where numbers are learned.
    fn by_content(
        &self,
        labels: &[ResolvedColumn],
        kind: TargetKind,
    ) -> Result<(Option<ResolvedColumn>, Option<ResolvedColumn>), DataError> {
        match (self.names.len(), labels.first().cloned()) {
            (1, None) => Ok((Some(self.column(0, "the only column")), None)),
            (2, Some(label)) if labels.len() == 1 => Ok((
                Some(self.column(1 - label.index, "the only other column")),
                Some(label),
            )),
            (2, None) if kind == TargetKind::Real => {
                let label = match [self.is_numeric(0)?, self.is_numeric(1)?] {
                    [true, false] => 0,
                    [false, true] => 1,
                    _ => return Err(self.ambiguous(Role::Label, &[0, 1])),
                };
                Ok((
                    Some(self.column(1 - label, "the only other column")),
                    Some(self.column(label, "numbers only")),
                ))
            }
            (2, None) => {
                let [first, second] = [self.distinct(0)?, self.distinct(1)?];
                let (label, few, rows) = match first.0.cmp(&second.0) {
                    std::cmp::Ordering::Less => (0, first.0, first.1),
                    std::cmp::Ordering::Greater => (1, second.0, second.1),
                    std::cmp::Ordering::Equal => return Err(self.ambiguous(Role::Label, &[0, 1])),
                };
                // Two columns of free text are a pair or something else, but not a text and its label.
                if rows >= 20 && few * 2 > rows {
                    return Err(self.ambiguous(Role::Label, &[0, 1]));
                }
                let reason = format!("{few} distinct values in {rows} rows");
                Ok((
                    Some(self.column(1 - label, "the only other column")),
                    Some(self.column(label, reason)),
                ))
            }
            (_, label) => {
                let left: Vec<usize> = (0..self.names.len())
                    .filter(|&i| labels.iter().all(|label| label.index != i))
                    .collect();
                match left.as_slice() {
                    [] => Ok((None, label)),
                    &[only] if labels.len() > 1 => {
                        Ok((Some(self.column(only, "the only other column")), label))
                    }
                    left => Err(self.ambiguous(Role::Text, left)),
                }
            }
        }
    }

    /// The column of the longest texts, in the sample; `None` where two are alike.
    fn longest(&self) -> Result<Option<ResolvedColumn>, DataError> {
        let mut characters = vec![0; self.names.len()];
        let all: Vec<usize> = (0..self.names.len()).collect();
        for row in self.table.rows(&all).take(SAMPLE) {
            for (sum, cell) in characters.iter_mut().zip(row?.cells.into_iter().flatten()) {
                if let Cell::Text(text) = cell {
                    *sum += text.chars().count();
                }
            }
        }
        let most = characters.iter().copied().max().unwrap_or(0);
        let mut with_most = (0..characters.len()).filter(|&index| characters[index] == most);
        Ok(match (with_most.next(), with_most.next()) {
            (Some(index), None) => Some(self.column(index, LONGEST)),
            _ => None,
        })
    }

    /// Distinct values and rows of a column, in the sample.
    fn distinct(&self, index: usize) -> Result<(usize, usize), DataError> {
        let mut values = HashSet::new();
        let mut rows = 0;
        for row in self.table.rows(&[index]).take(SAMPLE) {
            if let Ok([Cell::Text(value)]) = row?.cells.as_deref() {
                values.insert(value.clone());
                rows += 1;
            }
        }
        Ok((values.len(), rows))
    }

    /// Whether a column holds numbers only, in the sample.
    fn is_numeric(&self, index: usize) -> Result<bool, DataError> {
        for row in self.table.rows(&[index]).take(SAMPLE) {
            if let Ok([cell]) = row?.cells.as_deref() {
                let value = raw_value(cell.clone());
                if !value.is_missing() && number(&value, "").is_err() {
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }

    fn ambiguous(&self, role: Role, candidates: &[usize]) -> DataError {
        let name = |index: usize| self.names[index].as_str();
        let twice = candidates.iter().find(|&&index| {
            (0..index).any(|other| candidates.contains(&other) && name(other) == name(index))
        });
        if let Some(&index) = twice {
            return self.duplicate(role, name(index));
        }
        DataError::AmbiguousColumn {
            path: self.path.to_owned(),
            role,
            candidates: candidates
                .iter()
                .map(|&index| self.names[index].clone())
                .collect(),
            instead: match role == Role::Label {
                true if self.names.iter().any(|name| name == "text") => {
                    "; or, to learn to write such texts, --task text-generation"
                }
                _ if !numbered(self.names, &[]).is_empty() => {
                    "; where columns with numbers are choices, --task multiple-choice --text QUESTION --label RIGHT --set 'data.choices=[\"...\", \"...\"]'"
                }
                _ => "",
            },
        }
    }
}
