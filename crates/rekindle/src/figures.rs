//! What a model is worth on a set of examples: one headline, named scalars, and sections that the terminal and the report
//! both show. Every task fills the same places.

use crate::{
    guess::{FEW, Guess},
    report::text::percent,
};
use rekindle_base::counted;
use rekindle_metrics::{
    AnswersReport, CalibrationReport, ClassificationReport, EntityReport, ExtractiveReport,
    ExtractiveShare, MultiLabelReport, PerEntityLabel, RegressionFigures, RegressionReport,
    wilson_95,
};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use std::fmt::Write;

/// Where a scalar is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Shown {
    /// Wherever figures are summed up in a line.
    Always,
    /// In an evaluation's own output.
    InFull,
    /// In an evaluation's own output, behind its sections.
    Behind,
    /// In a section, and in files.
    InSection,
}

/// A figure with its name.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Scalar {
    /// Its name in files and settings: `macro_f1`.
    pub key: String,
    /// Its name for people: `macro F1`.
    pub name: String,
    /// The value; `null` in JSON where it is not a number.
    #[serde(with = "rekindle_metrics::nan_as_null")]
    pub value: f64,
    /// Where it is shown.
    pub shown: Shown,
}

impl Scalar {
    /// A scalar of this key; `name` is what people read.
    #[must_use]
    pub fn new(key: &str, name: &str, value: f64, shown: Shown) -> Self {
        Self {
            key: key.to_owned(),
            name: name.to_owned(),
            value,
            shown,
        }
    }
}

/// A figure, and what it was before tuning.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Compared {
    /// Its name in files.
    pub key: String,
    /// Its name for people.
    pub name: String,
    /// The value; `null` in JSON where it is not a number.
    #[serde(with = "rekindle_metrics::nan_as_null")]
    pub value: f64,
    /// That of the model before tuning, where it is known.
    pub base: Option<f64>,
}

impl Compared {
    /// A scalar, of which nothing is known before tuning.
    pub(crate) fn of(scalar: &Scalar) -> Self {
        Self {
            key: scalar.key.clone(),
            name: scalar.name.clone(),
            value: scalar.value,
            base: None,
        }
    }
}

/// A figure that is watched during training.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Watched {
    /// Its key in an evaluation.
    pub key: String,
    /// Its name for people.
    pub name: String,
    /// Whether it is a share of 1.
    pub share: bool,
}

impl Watched {
    pub(crate) fn new(key: &str, name: &str, share: bool) -> Self {
        Self {
            key: key.to_owned(),
            name: name.to_owned(),
            share,
        }
    }
}

/// A headline figure as the report shows it, with a remark below.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tile {
    /// What it is, such as `macro F1`.
    pub name: String,
    /// The value with its unit.
    pub value: String,
    /// The remark; may be empty.
    pub detail: String,
}

impl Tile {
    /// A tile of these texts.
    #[must_use]
    pub fn new(name: &str, value: String, detail: String) -> Self {
        Self {
            name: name.to_owned(),
            value,
            detail,
        }
    }
}

/// The questions that have so many choices.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct OfChoices {
    /// Choices of each.
    pub choices: usize,
    /// How many questions.
    pub n: u64,
    /// How many of them were answered right.
    pub right: u64,
}

impl OfChoices {
    /// Share of right answers.
    pub(crate) fn accuracy(&self) -> f64 {
        self.right as f64 / self.n as f64
    }

    /// What choosing at random gives.
    pub(crate) fn chance(&self) -> f64 {
        1.0 / self.choices as f64
    }
}

/// A part of an evaluation, by what it shows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Section {
    /// Precision, recall and F1 of each class, and which classes are taken for which.
    Classes {
        /// The figures.
        report: ClassificationReport,
        /// Class names by id.
        labels: Vec<String>,
        /// How confidence and what came true agree.
        calibration: CalibrationReport,
    },
    /// Precision, recall, F1 and threshold of each label.
    Labels {
        /// The figures.
        report: MultiLabelReport,
        /// Label names by id.
        labels: Vec<String>,
    },
    /// Errors and correlations of each number, and predicted against right numbers.
    Numbers {
        /// The figures.
        report: RegressionReport,
        /// Names of the numbers.
        names: Vec<String>,
    },
    /// Precision, recall and F1 of the entities of each label.
    Entities {
        /// The figures.
        report: EntityReport,
    },
    /// Answers that are pieces of texts, of the questions with an answer and of those without.
    Extracted {
        /// The figures.
        report: ExtractiveReport,
    },
    /// Questions with choices, by how many they have.
    Choices {
        /// The questions of each number of choices, the fewest first.
        rows: Vec<OfChoices>,
        /// How confidence and what came true agree.
        calibration: CalibrationReport,
    },
    /// Embeddings: each figure beside that of the model before tuning.
    Embeddings {
        /// The figures.
        rows: Vec<Compared>,
    },
    /// Answers in words against the right ones.
    Answers {
        /// The figures.
        report: AnswersReport,
        /// Those of the base model on the same prompts.
        base: Option<AnswersReport>,
    },
}

/// The figures of one evaluation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Figures {
    /// Number of examples.
    pub n: u64,
    /// Key of the scalar that sums it up.
    pub headline: String,
    /// All scalars.
    pub scalars: Vec<Scalar>,
    /// Headline figures for the report, the first one leading.
    pub tiles: Vec<Tile>,
    /// What a reader must know before trusting the figures.
    pub warnings: Vec<String>,
    /// What a guess is worth, where there is one to compare with.
    pub guess: Option<Guess>,
    /// Tables and charts.
    pub sections: Vec<Section>,
}

impl Figures {
    /// The figures of nothing.
    pub(crate) fn none() -> Self {
        Self {
            n: 0,
            headline: String::new(),
            scalars: Vec::new(),
            tiles: Vec::new(),
            warnings: Vec::new(),
            guess: None,
            sections: Vec::new(),
        }
    }

    /// Adds what answers in words are worth, and what those of the base model were.
    pub(crate) fn add_answers(&mut self, report: AnswersReport, base: Option<AnswersReport>) {
        let rows = answer_rows(&report);
        let of_base = base.as_ref().map(answer_rows).unwrap_or_default();
        for row in rows.iter().filter(|row| row.key.is_some()) {
            let (key, name) = (row.key.unwrap_or_default(), row.name.as_str());
            if row.leads {
                let base = of_base.iter().find(|base| base.key == row.key);
                let base = base.map(|base| format!("base model {}", base.shown()));
                self.tiles
                    .push(Tile::new(name, row.shown(), base.unwrap_or_default()));
            }
            let shown = if row.leads {
                Shown::Always
            } else {
                Shown::InSection
            };
            self.scalars.push(Scalar::new(key, name, row.value, shown));
        }
        self.guess = base.as_ref().map(|base| Guess::of_answers(&report, base));
        self.sections.push(Section::Answers { report, base });
    }

    /// The 95 % intervals of those figures that are shares of the examples, by key.
    pub(crate) fn intervals(&self) -> Map<String, Value> {
        let known = self.sections.iter().filter_map(|section| match section {
            Section::Classes { report, .. } => {
                let rows = report.confusion.iter().enumerate();
                let right = rows.filter_map(|(class, row)| row.get(class)).sum();
                Some(("accuracy", wilson_95(right, report.n)))
            }
            Section::Answers { report, .. } => {
                let right = (report.exact_match * report.n as f64).round() as u64;
                Some(("exact_match", wilson_95(right, report.n)))
            }
            Section::Extracted { report } => {
                let all = report.overall;
                let right = (all.exact_match * all.n as f64).round() as u64;
                Some(("exact_match", wilson_95(right, all.n)))
            }
            Section::Choices { rows, .. } => {
                let right = rows.iter().map(|row| row.right).sum();
                let n = rows.iter().map(|row| row.n).sum();
                Some(("accuracy", wilson_95(right, n)))
            }
            Section::Labels { .. }
            | Section::Numbers { .. }
            | Section::Entities { .. }
            | Section::Embeddings { .. } => None,
        });
        known
            .map(|(key, (low, high))| (key.to_owned(), json!([low, high])))
            .collect()
    }

    /// Puts beside the figures of embeddings those of the model before tuning, on the same set.
    pub(crate) fn compare(&mut self, base: &Self) {
        for section in &mut self.sections {
            if let Section::Embeddings { rows } = section {
                for row in rows {
                    row.base = base.get(&row.key);
                }
            }
        }
        let before = base.get(&self.headline).unwrap_or(f64::NAN);
        let scalar = self
            .scalars
            .iter()
            .find(|scalar| scalar.key == self.headline);
        if let Some(Scalar { name, value, .. }) = scalar {
            self.guess = Some(Guess::of_base(name, before, *value));
            if let Some(tile) = self.tiles.first_mut() {
                let all = [tile.detail.clone(), format!("{before:.3} before tuning")];
                let all = all.into_iter().filter(|part| !part.is_empty());
                tile.detail = all.collect::<Vec<_>>().join(", ");
            }
        }
    }

    /// The figures of the base model by key: of its answers, or of its embeddings; none where it was not asked.
    pub(crate) fn base_scalars(&self) -> Option<Map<String, Value>> {
        self.sections.iter().find_map(|section| match section {
            Section::Answers { base, .. } => {
                let rows = answer_rows(base.as_ref()?).into_iter();
                let named = rows.filter_map(|row| Some((row.key?.to_owned(), json!(row.value))));
                Some(named.collect())
            }
            Section::Embeddings { rows } => {
                let known = |row: &Compared| Some((row.key.clone(), json!(row.base?)));
                let known: Map<String, Value> = rows.iter().filter_map(known).collect();
                (!known.is_empty()).then_some(known)
            }
            _ => None,
        })
    }

    /// A scalar by key.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<f64> {
        let scalar = self.scalars.iter().find(|scalar| scalar.key == key)?;
        Some(scalar.value)
    }

    /// Everything as one JSON object: the number of examples, each scalar by its key, each section.
    #[must_use]
    pub fn to_json(&self) -> Map<String, Value> {
        let mut object = Map::new();
        object.insert("n".into(), self.n.into());
        for scalar in &self.scalars {
            object.insert(scalar.key.clone(), json!(scalar.value));
        }
        if let Some(guess) = &self.guess {
            object.insert("guess".into(), json!(guess));
        }
        for section in &self.sections {
            match section {
                Section::Classes {
                    report,
                    labels,
                    calibration,
                } => {
                    object.insert("labels".into(), json!(labels));
                    object.insert("per_class".into(), json!(report.per_class));
                    object.insert("confusion".into(), json!(report.confusion));
                    object.insert("calibration".into(), json!(calibration));
                }
                Section::Labels { report, labels } => {
                    object.insert("labels".into(), json!(labels));
                    object.insert("per_label".into(), json!(report.per_label));
                }
                Section::Numbers { report, names } => {
                    object.insert("names".into(), json!(names));
                    object.insert("per_target".into(), json!(report.per_target));
                }
                Section::Entities { report } => {
                    object.insert("support".into(), report.support.into());
                    object.insert("predicted".into(), report.predicted.into());
                    object.insert("correct".into(), report.correct.into());
                    object.insert("per_label".into(), json!(report.per_label));
                }
                Section::Extracted { report } => {
                    object.insert("has_answer".into(), json!(report.has_answer));
                    object.insert("no_answer_share".into(), json!(report.no_answer));
                }
                Section::Choices { rows, calibration } => {
                    object.insert("by_choices".into(), json!(rows));
                    object.insert("calibration".into(), json!(calibration));
                }
                Section::Embeddings { .. } => {
                    object.insert("base".into(), json!(self.base_scalars()));
                }
                Section::Answers { report, base } => {
                    object.insert("answers".into(), json!(report));
                    object.insert("base_answers".into(), json!(base));
                }
            }
        }
        object
    }

    /// The scalars that are summed up in a line.
    fn line(&self, shown: impl Fn(Shown) -> bool) -> String {
        let scalars = self.scalars.iter().filter(|scalar| shown(scalar.shown));
        let parts: Vec<String> = scalars
            .map(|scalar| format!("{} {:.4}", scalar.name, scalar.value))
            .collect();
        parts.join("  ")
    }

    /// The warnings, before them that the model is no better than a guess.
    #[must_use]
    pub fn all_warnings(&self) -> Vec<String> {
        let guess = self.guess.as_ref().and_then(Guess::warning);
        guess.into_iter().chain(self.warnings.clone()).collect()
    }

    /// That there are too few examples to hold the model against guessing, where that is so.
    #[must_use]
    pub fn too_few(&self) -> Option<String> {
        let compared = |section: &Section| match section {
            Section::Classes { .. }
            | Section::Labels { .. }
            | Section::Numbers { .. }
            | Section::Choices { .. } => true,
            Section::Entities { .. }
            | Section::Extracted { .. }
            | Section::Embeddings { .. }
            | Section::Answers { .. } => false,
        };
        let few = self.guess.is_none() && self.n < FEW && self.sections.iter().any(compared);
        let are = if self.n == 1 { "is" } else { "are" };
        few.then(|| format!("{} {are} too few to compare with guessing", self.count()))
    }

    /// How many examples these figures are of.
    fn count(&self) -> String {
        let examples = counted(self.n as usize, "example", "examples");
        let answered = self.sections.iter().find_map(|section| match section {
            Section::Answers { report, .. } if report.n != self.n => Some(report.n),
            _ => None,
        });
        match answered {
            Some(n) => format!("{examples}, {n} of them answered"),
            None => examples,
        }
    }

    /// One line: the main scalars and the number of examples.
    #[must_use]
    pub fn summary(&self) -> String {
        let scalars = self.line(|shown| shown == Shown::Always);
        format!("{scalars}  ({})", self.count())
    }

    /// Everything as text for a terminal.
    #[must_use]
    pub fn text(&self) -> String {
        let first = self.line(|shown| matches!(shown, Shown::Always | Shown::InFull));
        let mut out = format!("{first}  ({})\n\n", self.count());
        for section in &self.sections {
            out += &section.text();
        }
        let behind = self.line(|shown| shown == Shown::Behind);
        if !behind.is_empty() {
            out += &format!("\n{behind}\n");
        }
        for warning in self.all_warnings() {
            out += &format!("\nwarning: {warning}\n");
        }
        out
    }
}

impl Section {
    /// The section as text for a terminal.
    #[must_use]
    pub fn text(&self) -> String {
        match self {
            Self::Classes { report, labels, .. } => classes(report, labels),
            Self::Labels { report, labels } => labels_of(report, labels),
            Self::Numbers { report, names } => numbers(report, names),
            Self::Entities { report } => entities(report),
            Self::Extracted { report } => extracted(report),
            Self::Choices { rows, .. } => by_choices(rows),
            Self::Embeddings { rows } => embeddings(rows),
            Self::Answers { report, base } => answers(report, base.as_ref()),
        }
    }
}

/// Figures of the questions with an answer and of those without, where there are both.
fn extracted(report: &ExtractiveReport) -> String {
    let (Some(answered), Some(none)) = (&report.has_answer, &report.no_answer) else {
        return String::new();
    };
    let row = |name: &str, share: &ExtractiveShare| {
        format!(
            "{name:<14}  F1 {:.4}  exact match {:.4}  {}\n",
            share.f1,
            share.exact_match,
            counted(share.n as usize, "question", "questions")
        )
    };
    row("with an answer", answered) + &row("without one", none)
}

/// Figures of the questions of each number of choices.
fn by_choices(rows: &[OfChoices]) -> String {
    let row = |row: &OfChoices| {
        format!(
            "{:>2} choices  accuracy {:.4}  by chance {:.4}  {}\n",
            row.choices,
            row.accuracy(),
            row.chance(),
            counted(row.n as usize, "question", "questions")
        )
    };
    rows.iter().map(row).collect()
}

/// Figures with what they were before tuning, where that is known.
fn embeddings(rows: &[Compared]) -> String {
    let mut out = String::new();
    if rows.iter().all(|row| row.base.is_none()) {
        return out;
    }
    // Writing to a string does not fail.
    let _ = writeln!(
        out,
        "{:<14} {:>9} {:>9} {:>9}",
        "", "tuned", "before", "change"
    );
    for row in rows {
        let base = row.base.unwrap_or(f64::NAN);
        let _ = writeln!(
            out,
            "{:<14} {:>9.4} {base:>9.4} {:>+9.4}",
            row.name,
            row.value,
            row.value - base
        );
    }
    out
}

/// A figure of answers in words.
pub(crate) struct AnswerRow {
    /// Its name in files; `None` for that of a field.
    pub key: Option<&'static str>,
    /// Its name for people.
    pub name: String,
    pub value: f64,
    /// Whether it sums up the others.
    leads: bool,
    /// Whether it is a share of 1.
    share: bool,
}

impl AnswerRow {
    /// The value as people read it.
    pub(crate) fn shown(&self) -> String {
        match self.share {
            true => percent(self.value),
            false => format!("{:.1}", self.value),
        }
    }
}

/// The figures of answers in words, one after the other.
pub(crate) fn answer_rows(report: &AnswersReport) -> Vec<AnswerRow> {
    /// Fields shown, those that occur most often.
    const FIELDS: usize = 8;
    let row = |key, name: &str, value, leads| AnswerRow {
        key: Some(key),
        name: name.to_owned(),
        value,
        leads,
        share: key != "bleu",
    };
    let is_json = report.json.is_some();
    let mut rows = vec![
        row("exact_match", "exact match", report.exact_match, !is_json),
        row(
            "normalized_match",
            "match but for case and spacing",
            report.normalized_match,
            false,
        ),
        row("rouge_l", "ROUGE-L", report.rouge_l, !is_json),
        row("bleu", "BLEU", report.bleu, false),
    ];
    let Some(json) = &report.json else {
        return rows;
    };
    rows.extend([
        row("json_valid", "valid JSON", json.valid, true),
        row("json_exact", "JSON exactly right", json.exact, true),
        row(
            "field_precision",
            "precision of fields",
            json.field_precision,
            false,
        ),
        row("field_recall", "recall of fields", json.field_recall, false),
        row("field_f1", "F1 of fields", json.field_f1, true),
    ]);
    let mut fields: Vec<_> = json.fields.iter().collect();
    fields.sort_by_key(|field| std::cmp::Reverse(field.support));
    fields.truncate(FIELDS);
    rows.extend(fields.into_iter().map(|field| AnswerRow {
        key: None,
        name: format!("{} right ({} of {})", field.name, field.support, report.n),
        value: field.accuracy,
        leads: false,
        share: true,
    }));
    rows
}

/// A table of the figures of answers, beside those of the base model.
fn answers(report: &AnswersReport, base: Option<&AnswersReport>) -> String {
    let rows = answer_rows(report);
    let of_base = base.map(answer_rows);
    let width = rows.iter().map(|row| row.name.chars().count()).max();
    let width = width.unwrap_or(0).max(24);
    let prompts = format!("answers to {} prompts", report.n);
    let mut out = match of_base {
        Some(_) => format!("{prompts:<width$}    base   tuned\n"),
        None => format!("{prompts}\n"),
    };
    for (i, row) in rows.iter().enumerate() {
        let base = match of_base.as_ref().map(|base| base.get(i)) {
            Some(Some(base)) => format!("  {:>6}", terminal(base)),
            Some(None) => format!("  {:>6}", ""),
            None => String::new(),
        };
        // Writing to a string does not fail.
        let _ = writeln!(out, "{:<width$}{base}  {:>6}", row.name, terminal(row));
    }
    out
}

fn terminal(row: &AnswerRow) -> String {
    match row.share {
        true => format!("{:.4}", row.value),
        false => format!("{:.2}", row.value),
    }
}

/// A table of classes, the worst first.
fn classes(report: &ClassificationReport, labels: &[String]) -> String {
    let mut out = String::new();
    let width = labels.iter().map(|label| label.chars().count()).max();
    let width = width.unwrap_or(0).max(5);
    // Writing to a string does not fail.
    let _ = writeln!(
        out,
        "{:<width$}  precision  recall      F1  support",
        "label"
    );
    let mut order: Vec<usize> = (0..labels.len()).collect();
    order.sort_by(|&a, &b| report.per_class[a].f1.total_cmp(&report.per_class[b].f1));
    for i in order {
        let c = &report.per_class[i];
        let _ = writeln!(
            out,
            "{:<width$}  {:>9.4}  {:>6.4}  {:>6.4}  {:>7}",
            labels[i], c.precision, c.recall, c.f1, c.support
        );
    }
    out
}

/// A table of labels, the worst first.
fn labels_of(report: &MultiLabelReport, labels: &[String]) -> String {
    let width = labels.iter().map(|label| label.chars().count()).max();
    let width = width.unwrap_or(0).max(5);
    let mut out = format!(
        "{:<width$}  precision  recall      F1      AP  threshold  support\n",
        "label"
    );
    let mut order: Vec<usize> = (0..labels.len()).collect();
    order.sort_by(|&a, &b| report.per_label[a].f1.total_cmp(&report.per_label[b].f1));
    for i in order {
        let l = &report.per_label[i];
        let precision = match l.support {
            0 => "none".to_owned(),
            _ => format!("{:.4}", l.average_precision),
        };
        // Writing to a string does not fail.
        let _ = writeln!(
            out,
            "{:<width$}  {:>9.4}  {:>6.4}  {:>6.4}  {precision:>6}  {:>9.4}  {:>7}",
            labels[i], l.precision, l.recall, l.f1, l.threshold, l.support
        );
    }
    out
}

/// A table of the labels of entities, the worst first.
fn entities(report: &EntityReport) -> String {
    let mut labels: Vec<&PerEntityLabel> = report.per_label.iter().collect();
    labels.sort_by(|a, b| a.f1.total_cmp(&b.f1));
    let width = labels.iter().map(|label| label.name.chars().count()).max();
    let width = width.unwrap_or(0).max(5);
    let mut out = format!(
        "{:<width$}  precision  recall      F1  expected  found  right\n",
        "label"
    );
    for l in labels {
        // Writing to a string does not fail.
        let _ = writeln!(
            out,
            "{:<width$}  {:>9.4}  {:>6.4}  {:>6.4}  {:>8}  {:>5}  {:>5}",
            l.name, l.precision, l.recall, l.f1, l.support, l.predicted, l.correct
        );
    }
    out
}

/// A table of numbers with their errors.
fn numbers(report: &RegressionReport, names: &[String]) -> String {
    let width = names.iter().map(|name| name.chars().count()).max();
    let width = width.unwrap_or(0).max(6);
    let mut out = format!(
        "{:<width$}   Pearson  Spearman        R²         MAE        RMSE      spread\n",
        "number"
    );
    for (name, f) in names.iter().zip(&report.per_target) {
        let RegressionFigures {
            pearson,
            spearman,
            r2,
            mae,
            rmse,
            target_std,
            ..
        } = f;
        // Writing to a string does not fail.
        let _ = writeln!(
            out,
            "{name:<width$}  {pearson:>8.4}  {spearman:>8.4}  {r2:>8.4}  {mae:>10.4}  {rmse:>10.4}  {target_std:>10.4}"
        );
    }
    out
}
