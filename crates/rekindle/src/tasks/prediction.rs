//! What a model answers about one example.

use serde_json::{Map, Value, json};

/// An answer.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Prediction {
    /// One of several classes.
    Class {
        /// The label with the highest probability.
        label: String,
        /// That probability, in [0, 1].
        probability: f64,
        /// Every label's probability, in the order of the model's labels.
        probabilities: Vec<(String, f64)>,
    },
    /// Any number of labels.
    Labels {
        /// Those whose probability reaches their threshold.
        labels: Vec<String>,
        /// Every label's probability, in the order of the model's labels.
        probabilities: Vec<(String, f64)>,
    },
    /// One or several numbers, by name.
    Numbers {
        /// Names and numbers, in the order of the model's outputs.
        values: Vec<(String, f64)>,
    },
}

impl Prediction {
    /// The label of an answer that is one.
    #[must_use]
    pub fn label(&self) -> Option<&str> {
        match self {
            Self::Class { label, .. } => Some(label),
            Self::Labels { .. } | Self::Numbers { .. } => None,
        }
    }

    /// The answer with so many of the most probable labels, the most probable first; unchanged where that is `None`.
    #[must_use]
    pub fn most_probable(mut self, labels: Option<usize>) -> Self {
        if let (
            Some(most),
            Self::Class { probabilities, .. } | Self::Labels { probabilities, .. },
        ) = (labels, &mut self)
        {
            probabilities.sort_by(|a, b| b.1.total_cmp(&a.1));
            probabilities.truncate(most);
        }
        self
    }

    /// The keys and values of a line of JSON.
    #[must_use]
    pub fn to_json(&self) -> Map<String, Value> {
        let mut object = Map::new();
        match self {
            Self::Class {
                label,
                probability,
                probabilities,
            } => {
                object.insert("label".into(), label.as_str().into());
                object.insert("probability".into(), json!(shortest(*probability)));
                object.insert("probabilities".into(), by_name(probabilities));
            }
            Self::Labels {
                labels,
                probabilities,
            } => {
                object.insert("labels".into(), json!(labels));
                object.insert("probabilities".into(), by_name(probabilities));
            }
            Self::Numbers { values } => {
                for (name, value) in values {
                    object.insert(name.clone(), json!(shortest(*value)));
                }
            }
        }
        object
    }

    /// The answer alone, its parts separated by tabs: a label and its probability, labels and their probabilities (both with
    /// commas between them), or numbers. A label that could be misread is in quotes, as JSON writes it.
    #[must_use]
    pub fn brief(&self) -> String {
        match self {
            Self::Class {
                label, probability, ..
            } => format!("{}\t{probability:.4}", quoted(label, &[])),
            Self::Labels {
                labels,
                probabilities,
            } => {
                let given = probabilities
                    .iter()
                    .filter(|(name, _)| labels.contains(name));
                let (names, numbers): (Vec<String>, Vec<String>) = given
                    .map(|(name, p)| (quoted(name, &[',']), format!("{p:.4}")))
                    .unzip();
                format!("{}\t{}", names.join(","), numbers.join(","))
            }
            Self::Numbers { values } => {
                let values: Vec<String> = values.iter().map(|(_, v)| format!("{v:.4}")).collect();
                values.join("\t")
            }
        }
    }
}

/// The number with the fewest digits that stands for the same f32, which is what models compute in. JSON gets it by this.
pub(crate) fn shortest(number: f64) -> f64 {
    let single = number as f32;
    single.to_string().parse().unwrap_or(number)
}

/// A name, in quotes where it holds one of these characters, a quote, a tab or a line end.
fn quoted(name: &str, special: &[char]) -> String {
    match name.contains(|c: char| c == '"' || c.is_control() || special.contains(&c)) {
        true => Value::from(name).to_string(),
        false => name.to_owned(),
    }
}

/// Names to numbers, in order.
fn by_name(numbers: &[(String, f64)]) -> Value {
    let pairs = numbers.iter();
    Value::Object(
        pairs
            .map(|(name, n)| (name.clone(), json!(shortest(*n))))
            .collect(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_no_more_digits_than_an_f32_tells() {
        let third = f64::from(1.0_f32 / 3.0);
        let answer = Prediction::Class {
            label: "a".into(),
            probability: third,
            probabilities: vec![("a".into(), third), ("b".into(), 2.0 / 3.0)],
        };
        assert_eq!(
            Value::Object(answer.to_json()).to_string(),
            r#"{"label":"a","probability":0.33333334,"probabilities":{"a":0.33333334,"b":0.6666667}}"#
        );
        for number in [0.0, 1e-12, -2.5, 123_456.0, 3.4e38] {
            assert_eq!(shortest(number) as f32, number as f32);
        }
        assert!(shortest(f64::NAN).is_nan());
    }

    #[test]
    fn a_brief_answer_is_one_line_that_can_be_taken_apart() {
        let labels = |names: &[&str]| Prediction::Labels {
            labels: names.iter().map(|&name| name.to_owned()).collect(),
            probabilities: [("late, again", 0.75), ("broken", 0.5), ("a\tb", 0.25)]
                .map(|(name, p)| (name.to_owned(), p))
                .to_vec(),
        };
        for (names, expect) in [
            (
                &["late, again", "broken"][..],
                "\"late, again\",broken\t0.7500,0.5000",
            ),
            (&["a\tb"], "\"a\\tb\"\t0.2500"),
            (&[], "\t"),
        ] {
            assert_eq!(labels(names).brief(), expect);
        }
        let class = |label: &str| Prediction::Class {
            label: label.to_owned(),
            probability: 0.5,
            probabilities: Vec::new(),
        };
        assert_eq!(class("late, again").brief(), "late, again\t0.5000");
        assert_eq!(class("two\nlines").brief(), "\"two\\nlines\"\t0.5000");
    }
}
