//! Entities, the labelled spans of a text: precision, recall and F1 as seqeval computes them, per label and in three averages.
//!
//! An entity is right if start, end and label are all as expected; there is no credit for a part. Spans come as such, or
//! from sequences of tags, see [`TagScheme`].

mod tags;

pub use tags::{TagScheme, entity_spans};

use crate::MetricsError;
use crate::counts::Counts;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// An entity: where it is, and what.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EntitySpan<'a> {
    /// The first word, token or character, counted from 0.
    pub start: usize,
    /// The one behind the last.
    pub end: usize,
    /// What it is, such as `person`.
    pub label: &'a str,
}

/// Adds up the entities of texts, text by text.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Entities {
    n: u64,
    labels: BTreeMap<String, Counts>,
}

/// The figures of a whole split. JSON's `null` stands for NaN.
///
/// Shares are in `0..=1`. As in seqeval, a share of nothing is 0, and the averages over labels are over those that occur,
/// expected or predicted; with none at all the macro averages are NaN.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EntityReport {
    /// Texts counted.
    pub n: u64,
    /// Entities expected.
    pub support: u64,
    /// Entities predicted.
    pub predicted: u64,
    /// Entities that are right: predicted where and as expected.
    pub correct: u64,
    /// Share of all predicted entities that are right.
    pub micro_precision: f64,
    /// Share of all expected entities that are found.
    pub micro_recall: f64,
    /// Harmonic mean of both: the usual figure of named entity recognition.
    pub micro_f1: f64,
    /// Mean precision over labels.
    #[serde(with = "crate::nan_as_null")]
    pub macro_precision: f64,
    /// Mean recall over labels.
    #[serde(with = "crate::nan_as_null")]
    pub macro_recall: f64,
    /// Mean F1 over labels.
    #[serde(with = "crate::nan_as_null")]
    pub macro_f1: f64,
    /// Mean precision over labels, weighted by support.
    pub weighted_precision: f64,
    /// Mean recall over labels, weighted by support.
    pub weighted_recall: f64,
    /// Mean F1 over labels, weighted by support.
    pub weighted_f1: f64,
    /// One entry a label that occurs, by name.
    pub per_label: Vec<PerEntityLabel>,
}

/// The figures of the entities of one label.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PerEntityLabel {
    /// The label.
    pub name: String,
    /// Share of the predicted entities that are right.
    pub precision: f64,
    /// Share of the expected entities that are found.
    pub recall: f64,
    /// Harmonic mean of precision and recall.
    pub f1: f64,
    /// Entities expected.
    pub support: u64,
    /// Entities predicted.
    pub predicted: u64,
    /// Entities that are right.
    pub correct: u64,
}

impl Entities {
    /// Figures of nothing.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a text: its predicted entities and those expected, in any order. They may overlap; one given twice counts once.
    pub fn update(&mut self, predicted: &[EntitySpan<'_>], expected: &[EntitySpan<'_>]) {
        self.n += 1;
        let predicted: BTreeSet<_> = predicted.iter().collect();
        let expected: BTreeSet<_> = expected.iter().collect();
        for span in predicted.union(&expected) {
            let counts = self.labels.entry(span.label.to_owned()).or_default();
            counts.add(predicted.contains(*span), expected.contains(*span));
        }
    }

    /// Adds a text of tags, one a word: those predicted and those expected.
    ///
    /// # Errors
    /// Slices of different lengths, or a tag that the scheme does not have. Nothing is added then.
    pub fn update_tags<P: AsRef<str>, T: AsRef<str>>(
        &mut self,
        predicted: &[P],
        expected: &[T],
        scheme: TagScheme,
    ) -> Result<(), MetricsError> {
        if predicted.len() != expected.len() {
            return Err(MetricsError::LengthMismatch {
                predicted: predicted.len(),
                target: expected.len(),
            });
        }
        let (predicted, expected) = (
            entity_spans(predicted, scheme)?,
            entity_spans(expected, scheme)?,
        );
        self.update(&predicted, &expected);
        Ok(())
    }

    /// Adds everything `other` has seen. Commutative.
    pub fn merge(&mut self, other: &Self) {
        self.n += other.n;
        for (label, counts) in &other.labels {
            let mine = self.labels.entry(label.clone()).or_default();
            *mine = mine.plus(counts);
        }
    }

    /// All figures of what was added so far.
    #[must_use]
    pub fn report(&self) -> EntityReport {
        let counts: Vec<Counts> = self.labels.values().copied().collect();
        let all = counts.iter().fold(Counts::default(), |a, b| a.plus(b));
        let macro_mean = |figure| match counts.is_empty() {
            true => f64::NAN,
            false => Counts::mean(figure, &counts, |_| 1),
        };
        let weighted_mean = |figure| Counts::mean(figure, &counts, |counts| counts.support);
        EntityReport {
            n: self.n,
            support: all.support,
            predicted: all.predicted,
            correct: all.both,
            micro_precision: all.precision(),
            micro_recall: all.recall(),
            micro_f1: all.f1(),
            macro_precision: macro_mean(Counts::precision),
            macro_recall: macro_mean(Counts::recall),
            macro_f1: macro_mean(Counts::f1),
            weighted_precision: weighted_mean(Counts::precision),
            weighted_recall: weighted_mean(Counts::recall),
            weighted_f1: weighted_mean(Counts::f1),
            per_label: self.labels.iter().map(PerEntityLabel::of).collect(),
        }
    }
}

impl PerEntityLabel {
    fn of((name, counts): (&String, &Counts)) -> Self {
        Self {
            name: name.clone(),
            precision: counts.precision(),
            recall: counts.recall(),
            f1: counts.f1(),
            support: counts.support,
            predicted: counts.predicted,
            correct: counts.both,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn span(start: usize, end: usize, label: &str) -> EntitySpan<'_> {
        EntitySpan { start, end, label }
    }

    #[test]
    fn spans_count_once_in_any_order_and_may_overlap() {
        let mut entities = Entities::new();
        let expected = [span(0, 9, "place"), span(3, 5, "person")];
        let predicted = [
            span(3, 5, "person"),
            span(0, 9, "place"),
            span(3, 5, "person"),
            // Right but for the label, right but for the end.
            span(3, 5, "place"),
            span(3, 6, "person"),
        ];
        entities.update(&predicted, &expected);
        let report = entities.report();
        assert_eq!((report.n, report.support, report.predicted), (1, 2, 4));
        assert_eq!((report.correct, report.micro_recall), (2, 1.0));
        assert_eq!(report.micro_precision, 0.5);
        let names: Vec<_> = report.per_label.iter().map(|l| l.name.as_str()).collect();
        assert_eq!(names, ["person", "place"]);
    }

    #[test]
    fn the_same_span_of_another_text_is_another() {
        let mut entities = Entities::new();
        entities.update(&[span(0, 1, "a")], &[]);
        entities.update(&[], &[span(0, 1, "a")]);
        assert_eq!(entities.report().correct, 0);
    }

    #[test]
    fn merging_equals_seeing_everything() {
        let (mut a, mut b, mut all) = (Entities::new(), Entities::new(), Entities::new());
        let (one, two) = ([span(0, 2, "x"), span(4, 5, "y")], [span(0, 2, "x")]);
        a.update(&one, &two);
        b.update(&two, &[span(1, 2, "z")]);
        all.update(&one, &two);
        all.update(&two, &[span(1, 2, "z")]);
        let mut other_way = b.clone();
        other_way.merge(&a);
        a.merge(&b);
        assert_eq!((&a, &other_way), (&all, &all));
    }

    #[test]
    fn nothing_gives_zeros_and_no_macro_average() {
        let mut entities = Entities::new();
        for texts in 0..2 {
            let report = entities.report();
            assert_eq!(
                (report.n, report.micro_f1, report.weighted_f1),
                (texts, 0.0, 0.0)
            );
            assert!(report.macro_f1.is_nan() && report.per_label.is_empty());
            let json = serde_json::to_string(&report).unwrap();
            assert!(json.contains("\"macro_f1\":null"), "{json}");
            let back: EntityReport = serde_json::from_str(&json).unwrap();
            assert!(back.macro_f1.is_nan());
            entities.update(&[], &[]);
        }
    }

    #[test]
    fn a_refused_text_adds_nothing() {
        let mut entities = Entities::new();
        let error = entities.update_tags(&["O"], &["O", "O"], TagScheme::Iob2);
        assert!(matches!(error, Err(MetricsError::LengthMismatch { .. })));
        let error = entities
            .update_tags(&["O", "O"], &["O", "X-a"], TagScheme::Iob2)
            .unwrap_err();
        assert_eq!(
            error.to_string(),
            "expected tags of the scheme IOB2, which begin with one of B, I, O, found `X-a` at position 1\n\
             hint: write a tag as its prefix, a dash and the label, such as `B-person`; or choose the scheme in which \
             the tags are written"
        );
        assert_eq!(entities, Entities::new());
    }
}
