//! What a token classifier puts out: `O`, and `B-x` and `I-x` for every label x.

use std::collections::{BTreeSet, HashMap};
use std::ops::Range;

use super::scheme::{self, Detector, NAMELESS, OUTSIDE, Part};
use super::{Scheme, Tagged, TaggedText};
use crate::{DataError, LabelMap, Place};
use rekindle_base::near::near_misses;

/// The outputs of a token classifier: id to name and name to id.
///
/// Those of [`fit`](Self::fit) stand in the order of `run_ner.py`: all names sorted by their characters. Differences: both `B-x`
/// and `I-x` are there for every x, also where the file lacks one; and a file of another scheme is learned as BIO.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TagLabels {
    map: LabelMap,
    scheme: Scheme,
    /// Part and label of each output.
    parts: Vec<(Part, String)>,
    /// The output of a part and label.
    ids: HashMap<(u8, String), u32>,
}

impl TagLabels {
    /// The outputs for what a training file holds.
    ///
    /// # Errors
    /// [`DataError::NoLabels`] where nothing is labelled.
    pub fn fit(read: &Tagged) -> Result<Self, DataError> {
        let spans = read.rows.iter().filter_map(|row| row.spans.as_ref());
        let labels: BTreeSet<&str> = spans.flatten().map(|span| span.label.as_str()).collect();
        if labels.is_empty() {
            let path = read.rows.first().map(|row| row.place.path.to_path_buf());
            return Err(DataError::NoLabels {
                path: path.unwrap_or_default(),
                examples: read.rows.len(),
            });
        }
        let names: BTreeSet<String> = match read.scheme {
            Scheme::PerWord => labels.into_iter().map(str::to_owned).collect(),
            _ => {
                let tags = labels.into_iter().flat_map(|label| match label {
                    NAMELESS => ["B".to_owned(), "I".to_owned()],
                    label => [format!("B-{label}"), format!("I-{label}")],
                });
                tags.chain([OUTSIDE.to_owned()]).collect()
            }
        };
        Self::from_names(names.into_iter().collect())
    }

    /// The outputs in the order given, such as a model's `id2label`, of any scheme.
    ///
    /// # Errors
    /// [`DataError::EmptyLabels`] for an empty list, [`DataError::DuplicateLabel`] for a repeated name.
    pub fn from_names(names: Vec<String>) -> Result<Self, DataError> {
        let map = LabelMap::from_names(names)?;
        let names = map.names();
        let mut detector = Detector::default();
        detector.look(names);
        // One name of each says less than a file of tags: `I-x` stands before `B-x` in many lists.
        let scheme = match detector.scheme() {
            Scheme::Iob1 | Scheme::Bio | Scheme::Io => {
                let begins = names.iter().filter_map(|name| scheme::parse(name));
                match begins.into_iter().any(|(part, _)| part == Part::Begin) {
                    true => Scheme::Bio,
                    false => Scheme::Io,
                }
            }
            other => other,
        };
        let parts: Vec<(Part, String)> = names
            .iter()
            .map(|name| match scheme {
                _ if name == OUTSIDE => (Part::Outside, NAMELESS.to_owned()),
                Scheme::Plain => (Part::Inside, name.clone()),
                Scheme::PerWord => (Part::Single, name.clone()),
                // A name without prefix among others is a class of words.
                _ => scheme::parse(name).map_or((Part::Single, name.clone()), |(part, label)| {
                    (part, label.to_owned())
                }),
            })
            .collect();
        let ids = parts
            .iter()
            .zip(0..)
            .map(|((part, label), id)| ((*part as u8, label.clone()), id))
            .collect();
        Ok(Self {
            map,
            scheme,
            parts,
            ids,
        })
    }

    /// The names of the outputs, in the order of their ids.
    pub fn names(&self) -> &[String] {
        self.map.names()
    }

    /// Number of outputs, C.
    #[allow(
        clippy::len_without_is_empty,
        reason = "there is no empty list of outputs"
    )]
    pub fn len(&self) -> usize {
        self.map.len()
    }

    /// The labels that a span can have, sorted.
    pub fn labels(&self) -> Vec<&str> {
        let inside = self.parts.iter().filter(|(part, _)| *part != Part::Outside);
        let labels: BTreeSet<&str> = inside.map(|(_, label)| label.as_str()).collect();
        labels.into_iter().collect()
    }

    /// The spans that the outputs of a row of words tell, as ranges of these, with their labels: by the lenient rule of seqeval.
    pub fn entities(&self, ids: &[u32]) -> Vec<(Range<usize>, &str)> {
        let tags: Vec<scheme::Tag<'_>> = ids.iter().map(|&id| self.part(id)).collect();
        scheme::entities(&tags)
    }

    /// Part and label of an output; outside for an id that there is not.
    pub(super) fn part(&self, id: u32) -> (Part, &str) {
        let part = self.parts.get(id as usize);
        part.map_or((Part::Outside, NAMELESS), |(part, label)| (*part, label))
    }

    fn id(&self, part: Part, label: &str) -> Option<u32> {
        self.ids.get(&(part as u8, label.to_owned())).copied()
    }

    /// The output for the word `at` of the `of` words of a span.
    ///
    /// # Errors
    /// [`DataError::UnknownLabel`] with near misses.
    pub(super) fn in_span(
        &self,
        label: &str,
        at: usize,
        of: usize,
        place: &Place,
    ) -> Result<u32, DataError> {
        use Part::{Begin, End, Inside, Single};
        let wanted = match (self.scheme, at) {
            (Scheme::PerWord, _) => [Single, Single],
            (Scheme::Plain | Scheme::Io, _) => [Inside, Begin],
            (Scheme::Iobes | Scheme::Bilou, _) if of == 1 => [Single, Begin],
            (Scheme::Iobes | Scheme::Bilou, at) if at + 1 == of => [End, Inside],
            (_, 0) => [Begin, Inside],
            _ => [Inside, Begin],
        };
        let id = wanted.into_iter().find_map(|part| self.id(part, label));
        id.ok_or_else(|| {
            let known: Vec<String> = self.labels().into_iter().map(str::to_owned).collect();
            DataError::UnknownLabel {
                place: place.clone(),
                label: label.to_owned(),
                near: near_misses(label, known.iter().map(String::as_str)),
                known,
            }
        })
    }

    /// The output for a word that belongs to nothing, if there is one.
    pub(super) fn outside(&self) -> Option<u32> {
        self.id(Part::Outside, NAMELESS)
    }

    /// The output that goes on with what an output begins, as `b_to_i_label` of `run_ner.py`.
    pub(super) fn going_on(&self, id: u32) -> u32 {
        match self.part(id) {
            (Part::Begin, label) => self.id(Part::Inside, label).unwrap_or(id),
            _ => id,
        }
    }

    /// The output of each word of a text; `None` for a word that belongs to nothing where the model has no `O`, or for all
    /// words of a text without spans.
    ///
    /// A word belongs to the span that has most of its characters.
    pub(super) fn of_words(&self, text: &TaggedText) -> Result<Vec<Option<u32>>, DataError> {
        let Some(spans) = &text.spans else {
            return Ok(vec![None; text.words.len()]);
        };
        let span_of: Vec<Option<usize>> = text
            .words
            .iter()
            .map(|word| {
                let first = spans.partition_point(|span| span.end <= word.start);
                let touched = spans[first..]
                    .iter()
                    .take_while(|span| span.start < word.end)
                    .map(|span| span.end.min(word.end) - span.start.max(word.start));
                // Of equal ones the first.
                let most = touched
                    .zip(first..)
                    .max_by_key(|&(shared, at)| (shared, std::cmp::Reverse(at)));
                most.map(|(_, at)| at)
            })
            .collect();
        let mut outputs = Vec::with_capacity(span_of.len());
        for words in span_of.chunk_by(|a, b| a == b) {
            for at in 0..words.len() {
                outputs.push(match words[0] {
                    None => self.outside(),
                    Some(span) => {
                        let label = &spans[span].label;
                        Some(self.in_span(label, at, words.len(), &text.place)?)
                    }
                });
            }
        }
        Ok(outputs)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn named(names: &str) -> TagLabels {
        TagLabels::from_names(names.split(' ').map(str::to_owned).collect()).unwrap()
    }

    #[test]
    fn outputs_of_any_scheme_are_understood() {
        let place = Place {
            path: std::path::Path::new("f").into(),
            line: 1,
        };
        for (names, scheme, one, three) in [
            ("B-a I-a O", Scheme::Bio, vec![0], vec![0, 1, 1]),
            ("O I-a B-a", Scheme::Bio, vec![2], vec![2, 1, 1]),
            ("I-a O", Scheme::Io, vec![0], vec![0, 0, 0]),
            ("O a b", Scheme::Plain, vec![1], vec![1, 1, 1]),
            ("a b", Scheme::PerWord, vec![0], vec![0, 0, 0]),
            ("B-a E-a I-a O S-a", Scheme::Iobes, vec![4], vec![0, 2, 1]),
            ("B-a I-a L-a O U-a", Scheme::Bilou, vec![4], vec![0, 1, 2]),
            // BIO without an I-a: every word begins.
            ("B-a O", Scheme::Bio, vec![0], vec![0, 0, 0]),
        ] {
            let labels = named(names);
            assert_eq!(labels.scheme, scheme, "{names}");
            for expect in [one, three] {
                let found: Vec<u32> = (0..expect.len())
                    .map(|at| labels.in_span("a", at, expect.len(), &place).unwrap())
                    .collect();
                assert_eq!(found, expect, "{names}");
            }
        }
        let unknown = named("B-PER I-PER O")
            .in_span("PRE", 0, 1, &place)
            .unwrap_err();
        assert_eq!(
            unknown.to_string(),
            "f:1: unknown label `PRE`; expected one of `PER`\nhint: did you mean `PER`?"
        );
    }
}
