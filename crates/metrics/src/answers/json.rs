//! Answers that are JSON: whether they are, whether they say the same, and how many of their fields are right.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;

/// Adds up answers that should be JSON.
#[derive(Debug, Clone, Default)]
pub struct JsonAnswers {
    n: u64,
    valid: u64,
    exact: u64,
    /// Fields that are right, fields of the answers, fields of the references.
    right: u64,
    answered: u64,
    expected: u64,
    /// By top-level field of the references: how often it is right, and how often it is there.
    fields: BTreeMap<String, (u64, u64)>,
}

impl JsonAnswers {
    /// Adds an answer and the right one. False, and nothing is added, where the right one is no JSON object or array.
    pub fn update(&mut self, answer: &str, reference: &str) -> bool {
        let Some(reference) = parse(reference).filter(|v| v.is_object() || v.is_array()) else {
            return false;
        };
        let answer = parse(answer);
        self.n += 1;
        self.valid += u64::from(answer.is_some());
        let expected = flat(&reference);
        let found = answer.as_ref().map(flat).unwrap_or_default();
        self.exact += u64::from(
            answer
                .as_ref()
                .is_some_and(|answer| same(answer, &reference)),
        );
        self.expected += expected.len() as u64;
        self.answered += found.len() as u64;
        let is_right = |(path, value): &(&String, &&Value)| {
            found.get(*path).is_some_and(|other| same(value, other))
        };
        self.right += expected.iter().filter(is_right).count() as u64;
        for (name, value) in reference.as_object().into_iter().flatten() {
            let other = answer.as_ref().and_then(|answer| answer.get(name));
            let (right, there) = self.fields.entry(name.clone()).or_default();
            *right += u64::from(other.is_some_and(|other| same(value, other)));
            *there += 1;
        }
        true
    }

    /// The figures so far.
    #[must_use]
    pub fn report(&self) -> JsonReport {
        let share = |part: u64, of: u64| part as f64 / of as f64;
        let (answered, expected) = (self.answered, self.expected);
        // As scikit-learn: 0 where nothing was answered.
        let precision = share(self.right, answered.max(1));
        let recall = share(self.right, expected.max(1));
        let fields = self.fields.iter();
        JsonReport {
            valid: share(self.valid, self.n),
            exact: share(self.exact, self.n),
            field_precision: precision,
            field_recall: recall,
            field_f1: 2.0 * share(self.right, (answered + expected).max(1)),
            fields: fields
                .map(|(name, &(right, there))| PerField {
                    name: name.clone(),
                    accuracy: share(right, there),
                    support: there,
                })
                .collect(),
        }
    }
}

/// What is right of answers that should be JSON. Shares, in [0, 1].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct JsonReport {
    /// Answers that are JSON, and nothing else around it.
    #[serde(with = "crate::nan_as_null")]
    pub valid: f64,
    /// Answers that say the same as the right one: the order of keys, white space, and 1 or 1.0, do not matter.
    #[serde(with = "crate::nan_as_null")]
    pub exact: f64,
    /// Fields that are right, of those that the answers have. A field is a path with its value: `slots.area[0]` = "kitchen".
    pub field_precision: f64,
    /// Fields that are right, of those that the right answers have.
    pub field_recall: f64,
    /// The harmonic mean of both.
    pub field_f1: f64,
    /// Top-level fields of the right answers, by name.
    pub fields: Vec<PerField>,
}

/// How often a top-level field is right.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PerField {
    /// Its name.
    pub name: String,
    /// The share of right answers with this field whose answer has the same value, all below it included.
    pub accuracy: f64,
    /// Right answers that have it.
    pub support: u64,
}

fn parse(text: &str) -> Option<Value> {
    serde_json::from_str(text).ok()
}

/// Whether two values say the same. The order of keys does not matter; numbers are compared as numbers.
fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(x), Value::Number(y)) => {
            x == y || x.as_f64() == y.as_f64() && (x.is_f64() || y.is_f64())
        }
        (Value::Array(x), Value::Array(y)) => {
            x.len() == y.len() && x.iter().zip(y).all(|(x, y)| same(x, y))
        }
        (Value::Object(x), Value::Object(y)) => {
            let found = |(name, value)| y.get(name).is_some_and(|other| same(value, other));
            x.len() == y.len() && x.iter().all(found)
        }
        _ => a == b,
    }
}

/// The values at the ends of all paths, by path. What is empty is its own end.
fn flat(value: &Value) -> BTreeMap<String, &Value> {
    let mut fields = BTreeMap::new();
    let mut open = vec![(String::new(), value)];
    while let Some((path, value)) = open.pop() {
        match value {
            Value::Object(inner) if !inner.is_empty() => {
                // A dot within a name must not look like a path.
                let below = |name: &String| format!("{path}.{}", Value::from(name.as_str()));
                open.extend(inner.iter().map(|(name, value)| (below(name), value)));
            }
            Value::Array(inner) if !inner.is_empty() => {
                let elements = inner.iter().enumerate();
                open.extend(elements.map(|(i, value)| (format!("{path}[{i}]"), value)));
            }
            end => drop(fields.insert(path, end)),
        }
    }
    fields
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(answer: &str, reference: &str) -> JsonReport {
        let mut json = JsonAnswers::default();
        assert!(json.update(answer, reference), "{reference}");
        json.report()
    }

    #[test]
    fn what_is_json_and_what_says_the_same() {
        let reference = r#"{"intent": "on", "slots": {"area": "hall", "level": 5}, "n": [1, 2]}"#;
        for (answer, valid, exact) in [
            (
                r#"{"n": [1.0, 2], "slots": {"level": 5, "area": "hall"}, "intent": "on"}"#,
                1.0,
                1.0,
            ),
            (r#" {"intent": "on"}  "#, 1.0, 0.0),
            (r#"{"intent": "on"} of course"#, 0.0, 0.0),
            ("", 0.0, 0.0),
            (
                r#"{"intent": "on", "slots": {"area": "hall", "level": 5}, "n": [2, 1]}"#,
                1.0,
                0.0,
            ),
            ("5", 1.0, 0.0),
        ] {
            let found = of(answer, reference);
            assert_eq!((found.valid, found.exact), (valid, exact), "{answer}");
        }
        assert!(!JsonAnswers::default().update("5", "5"));
        assert!(!JsonAnswers::default().update("{}", "on"));
        // Two large integers that are one number as f64.
        assert_eq!(of("[9007199254740993]", "[9007199254740992]").exact, 0.0);
    }

    #[test]
    fn fields_are_counted_by_path_over_all_answers() {
        let mut json = JsonAnswers::default();
        // Two of three fields right, four answered.
        json.update(
            r#"{"a": 1, "b": {"c": "x", "d": 9}, "e": null}"#,
            r#"{"a": 1, "b": {"c": "x", "d": 2}}"#,
        );
        // No JSON: nothing answered, one expected.
        json.update("a", r#"{"a": []}"#);
        let report = json.report();
        assert_eq!(report.field_precision, 2.0 / 4.0);
        assert_eq!(report.field_recall, 2.0 / 4.0);
        assert_eq!(report.field_f1, 0.5);
        let fields: Vec<_> = report
            .fields
            .iter()
            .map(|field| (field.name.as_str(), field.accuracy, field.support))
            .collect();
        assert_eq!(fields, [("a", 0.5, 2), ("b", 0.0, 1)]);
        // A dot in a name is no path.
        assert_eq!(of(r#"{"a.b": 1}"#, r#"{"a": {"b": 1}}"#).field_f1, 0.0);
        assert_eq!(of("{}", "{}").field_f1, 1.0);
    }
}
