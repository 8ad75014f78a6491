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
                object.insert("probability".into(), json!(probability));
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
                    object.insert(name.clone(), json!(value));
                }
            }
        }
        object
    }

    /// The answer alone, its parts separated by tabs.
    #[must_use]
    pub fn brief(&self) -> String {
        match self {
            Self::Class {
                label, probability, ..
            } => format!("{label}\t{probability:.4}"),
            Self::Labels { labels, .. } => labels.join(","),
            Self::Numbers { values } => {
                let values: Vec<String> = values.iter().map(|(_, v)| format!("{v:.4}")).collect();
                values.join("\t")
            }
        }
    }
}

/// Names to numbers, in order.
fn by_name(numbers: &[(String, f64)]) -> Value {
    let pairs = numbers.iter();
    Value::Object(pairs.map(|(name, n)| (name.clone(), json!(n))).collect())
}
