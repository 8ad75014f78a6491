//! Class names and their ids.

use std::borrow::Cow;
use std::collections::{BTreeSet, HashMap};

use super::canonical;
use crate::example::file_of;
use crate::example::number_name;
use crate::{DataError, Example, Place, RawTarget, RawValue};
use rekindle_base::near::near_misses;

/// The classes of a task: id to name and name to id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LabelMap {
    names: Vec<String>,
    ids: HashMap<String, u32>,
    any_numeric: bool,
}

impl LabelMap {
    /// The labels of a training set: by number if all are integers, else by name.
    ///
    /// # Errors
    /// [`DataError::NoLabels`] if no example has a label, [`DataError::Unlabelled`] if some have none,
    /// [`DataError::OneClass`] if there is nothing to tell apart.
    pub fn from_examples(examples: &[Example]) -> Result<Self, DataError> {
        if examples.is_empty() {
            return Err(DataError::EmptyLabels);
        }
        if examples.iter().all(|example| example.label.is_none()) {
            return Err(DataError::NoLabels {
                path: file_of(examples),
                examples: examples.len(),
            });
        }
        let mut distinct = BTreeSet::new();
        for example in examples {
            let label =
                example
                    .label
                    .as_ref()
                    .and_then(single)
                    .ok_or_else(|| DataError::Unlabelled {
                        place: example.place.clone(),
                    })?;
            if let RawValue::List(_) = label {
                return Err(DataError::ListLabel {
                    place: example.place.clone(),
                    found: label.to_string(),
                });
            }
            if let Some(name) = label.class_name() {
                distinct.insert(name);
            }
        }
        let mut names: Vec<String> = distinct.into_iter().map(Cow::into_owned).collect();
        // `1.0` and `0.0`, as data frames write integers of which some are missing.
        if let Some(whole) = names.iter().map(|name| whole_number(name)).collect() {
            let distinct: BTreeSet<String> = whole;
            names = distinct.into_iter().collect();
        }
        if let [label] = names.as_slice() {
            return Err(DataError::OneClass {
                path: file_of(examples),
                label: label.clone(),
                examples: examples.len(),
            });
        }
        Self::from_names(by_value(names))
    }

    /// The labels in the order given, such as a model's `id2label`.
    ///
    /// # Errors
    /// [`DataError::EmptyLabels`] for an empty list, [`DataError::DuplicateLabel`] for a repeated name.
    pub fn from_names(names: Vec<String>) -> Result<Self, DataError> {
        if names.is_empty() {
            return Err(DataError::EmptyLabels);
        }
        let mut ids = HashMap::with_capacity(names.len());
        for (id, name) in names.iter().enumerate() {
            if ids.insert(name.clone(), id as u32).is_some() {
                return Err(DataError::DuplicateLabel {
                    label: name.clone(),
                });
            }
        }
        let any_numeric = names.iter().any(|name| name.parse::<i64>().is_ok());
        Ok(Self {
            names,
            ids,
            any_numeric,
        })
    }

    /// Number of classes, C.
    #[allow(clippy::len_without_is_empty, reason = "there is no empty label map")]
    pub fn len(&self) -> usize {
        self.names.len()
    }

    /// The names, in the order of their ids.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// The name of a class, if there is a class of that id.
    pub fn name(&self, id: u32) -> Option<&str> {
        self.names.get(id as usize).map(String::as_str)
    }

    /// The id of a label read at `place`.
    ///
    /// Where no class name is a number, an integer in `0..C` stands for the class of that id: data sets often write
    /// `0` and `1` where the model's `id2label` says `NEGATIVE` and `POSITIVE`.
    ///
    /// # Errors
    /// [`DataError::UnknownLabel`] with the known labels and near misses.
    pub fn encode(&self, label: &RawValue, place: &Place) -> Result<u32, DataError> {
        match label.class_name() {
            Some(name) => self.encode_name(&name, place),
            None if label.is_missing() => Err(DataError::Unlabelled {
                place: place.clone(),
            }),
            None => self.encode_name(&label.to_string(), place),
        }
    }

    /// The id of a label of this name, as [`encode`](Self::encode).
    ///
    /// # Errors
    /// [`DataError::UnknownLabel`] with the known labels and near misses.
    pub fn encode_name(&self, text: &str, place: &Place) -> Result<u32, DataError> {
        if let Some(&id) = self.ids.get(text) {
            return Ok(id);
        }
        let whole = whole_number(text);
        if let Some(&id) = whole.as_ref().and_then(|whole| self.ids.get(whole)) {
            return Ok(id);
        }
        let tidied = |name: &String| canonical::tidy(name) == canonical::tidy(text);
        if let Some(id) = self.names.iter().position(tidied) {
            return Ok(id as u32);
        }
        match whole.as_deref().unwrap_or(text).parse::<u32>() {
            Ok(id) if !self.any_numeric && (id as usize) < self.names.len() => Ok(id),
            _ => Err(DataError::UnknownLabel {
                place: place.clone(),
                label: text.to_owned(),
                known: self.names.clone(),
                near: near_misses(text, self.names.iter().map(String::as_str)),
            }),
        }
    }

    /// The ids of all examples' labels.
    ///
    /// # Errors
    /// As [`encode`](Self::encode); [`DataError::Unlabelled`] for an example without a label.
    pub fn encode_all(&self, examples: &[Example]) -> Result<Vec<u32>, DataError> {
        examples
            .iter()
            .map(|example| match example.label.as_ref().and_then(single) {
                Some(label) => self.encode(label, &example.place),
                None => Err(DataError::Unlabelled {
                    place: example.place.clone(),
                }),
            })
            .collect()
    }
}

/// Names by value, if all are integers; else as they are.
pub(crate) fn by_value(names: Vec<String>) -> Vec<String> {
    let numbers = names
        .iter()
        .map(|name| name.parse::<i64>().map(|number| (number, name.clone())))
        .collect::<Result<Vec<_>, _>>();
    match numbers {
        Ok(mut numbers) => {
            numbers.sort();
            numbers.into_iter().map(|(_, name)| name).collect()
        }
        Err(_) => names,
    }
}

/// The only value of a target.
fn single(target: &RawTarget) -> Option<&RawValue> {
    match target.0.as_slice() {
        [value] if !value.is_missing() => Some(value),
        _ => None,
    }
}

/// Up to here floats tell whole numbers apart.
pub(super) const EXACT: f64 = (1u64 << 53) as f64;

/// The digits of a whole number, however it is written; an integer stays as it is written. None for anything else.
pub(super) fn whole_number(text: &str) -> Option<String> {
    let digits = text.strip_prefix('-').unwrap_or(text);
    let is_integer = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    if is_integer || text.parse::<i64>().is_ok() {
        return Some(text.to_owned());
    }
    let is_decimal = text.bytes().any(|byte| byte.is_ascii_digit());
    let number: f64 = text.parse().ok().filter(|_| is_decimal)?;
    (number.fract() == 0.0 && number.abs() < EXACT).then(|| number_name(number))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::path::Path;

    fn place() -> Place {
        Place {
            path: Path::new("dev.csv").into(),
            line: 7,
        }
    }

    fn labelled(labels: &[&str]) -> Vec<Example> {
        labels
            .iter()
            .map(|&label| Example {
                text: "x".to_owned(),
                text_pair: None,
                label: (!label.is_empty()).then(|| RawTarget::from(label)),
                place: place(),
            })
            .collect()
    }

    #[test]
    fn names_are_sorted_and_numbers_by_value() {
        for (labels, expect) in [
            (vec!["b", "a", "b"], vec!["a", "b"]),
            (vec!["10", "9", "-1", "10"], vec!["-1", "9", "10"]),
            (vec!["10", "9", "x"], vec!["10", "9", "x"]),
            (vec!["true", "false"], vec!["false", "true"]),
            (vec!["1.0", "0.0", "10.0", "2.0"], vec!["0", "1", "2", "10"]),
            (vec!["1.0", "1.5"], vec!["1.0", "1.5"]),
            (vec!["1.0", "v2"], vec!["1.0", "v2"]),
            // Ids that are one as floats.
            (
                vec!["90071992547409931234", "90071992547409931235"],
                vec!["90071992547409931234", "90071992547409931235"],
            ),
        ] {
            let map = LabelMap::from_examples(&labelled(&labels)).unwrap();
            assert_eq!(map.names(), expect);
            for (id, name) in expect.iter().enumerate() {
                assert_eq!(
                    map.encode(&RawValue::from(*name), &place()).unwrap(),
                    id as u32
                );
                assert_eq!(map.name(id as u32), Some(*name));
            }
        }
    }

    #[test]
    fn bad_label_sets_say_what_is_wrong() {
        for (labels, expect) in [
            (
                vec!["", ""],
                "dev.csv: there are no labels: none of 2 examples has one\nhint: name the label column",
            ),
            (
                vec!["a", ""],
                "dev.csv:7: the example has no label\nhint: label or remove the row",
            ),
            (
                vec!["a", "a"],
                "dev.csv: all 2 examples have the label `a`; expected at least two classes\nhint: check the label column, or a limit that cuts a sorted file short",
            ),
        ] {
            assert_eq!(
                LabelMap::from_examples(&labelled(&labels))
                    .unwrap_err()
                    .to_string(),
                expect
            );
        }
        for none in [LabelMap::from_examples(&[]), LabelMap::from_names(vec![])] {
            assert_eq!(
                none.unwrap_err().to_string(),
                "the list of labels is empty\nhint: name at least two"
            );
        }
        let twice = LabelMap::from_names(vec!["a".into(), "a".into()]).unwrap_err();
        assert_eq!(
            twice.to_string(),
            "the list of labels names `a` twice\nhint: remove one of the two"
        );
    }

    #[test]
    fn an_unknown_label_names_its_place_the_known_ones_and_near_misses() {
        let map = LabelMap::from_names(vec!["positive".into(), "negative".into()]).unwrap();
        let error = map
            .encode(&RawValue::from("Postive"), &place())
            .unwrap_err();
        assert_eq!(
            error.to_string(),
            "dev.csv:7: unknown label `Postive`; expected one of `positive` and `negative`\nhint: did you mean `positive`?"
        );
    }

    #[test]
    fn whole_floats_are_the_integers_they_are_worth() {
        let map = LabelMap::from_examples(&labelled(&["1.0", "0.0"])).unwrap();
        for (value, id) in [
            (RawValue::from("0.0"), 0),
            (RawValue::from("1"), 1),
            (RawValue::Int(1), 1),
            (RawValue::Real(1.0), 1),
        ] {
            assert_eq!(map.encode(&value, &place()).unwrap(), id, "{value:?}");
        }
        // A model that was tuned on the names `0.0` and `1.0` keeps them.
        let map = LabelMap::from_names(vec!["0.0".into(), "1.0".into()]).unwrap();
        assert_eq!(map.encode(&RawValue::from("1.0"), &place()).unwrap(), 1);
    }

    #[test]
    fn a_list_is_no_class() {
        let mut examples = labelled(&["a", "b"]);
        examples[1].label = Some(RawTarget(vec![RawValue::List(vec![
            "a".into(),
            "b".into(),
        ])]));
        assert_eq!(
            LabelMap::from_examples(&examples).unwrap_err().to_string(),
            "dev.csv:7: expected one label, found the list [a, b]\nhint: several labels an example are a multi-label task"
        );
    }

    #[test]
    fn an_integer_is_an_id_only_where_no_name_is_a_number() {
        let named = LabelMap::from_names(vec!["NEGATIVE".into(), "POSITIVE".into()]).unwrap();
        assert_eq!(named.encode(&RawValue::from("1"), &place()).unwrap(), 1);
        assert!(named.encode(&RawValue::from("2"), &place()).is_err());
        let numeric = LabelMap::from_names(vec!["1".into(), "5".into()]).unwrap();
        assert_eq!(numeric.encode(&RawValue::from("5"), &place()).unwrap(), 1);
        assert!(numeric.encode(&RawValue::from("0"), &place()).is_err());
    }
}
