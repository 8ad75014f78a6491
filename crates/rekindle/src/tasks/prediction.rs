//! What a model answers about one example.

use crate::inputs::ExampleOf;
use rekindle_data::{
    questions::FoundAnswer,
    tokens::{WordTag, slice},
};
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
    /// The answer to a question about a text.
    Answer {
        /// The text.
        context: String,
        /// The piece of it that answers; `None` where none does.
        answer: Option<ExtractedAnswer>,
        /// The probability of that, in [0, 1], among what was considered.
        probability: f64,
        /// The next best pieces, the best first.
        others: Vec<ExtractedAnswer>,
    },
    /// One of the choices that a question has.
    Choice {
        /// The one with the highest probability.
        chosen: RatedChoice,
        /// All of them, in the order of the question.
        choices: Vec<RatedChoice>,
    },
    /// Spans of a text.
    Spans {
        /// The text.
        text: String,
        /// The spans, in order; none overlaps another.
        spans: Vec<LabelledSpan>,
    },
}

/// A piece of a text that answers a question.
#[derive(Debug, Clone, PartialEq)]
pub struct ExtractedAnswer {
    /// The piece, as in the text.
    pub text: String,
    /// The first character, a Unicode code point, counted from 0.
    pub start: usize,
    /// The character behind the last.
    pub end: usize,
    /// Its probability, in [0, 1], among what was considered.
    pub probability: f64,
}

impl ExtractedAnswer {
    pub(crate) fn of(found: &FoundAnswer) -> Self {
        Self {
            text: found.text.clone(),
            start: found.start,
            end: found.end,
            probability: f64::from(found.probability),
        }
    }

    fn to_json(&self) -> Value {
        json!({
            "answer": self.text,
            "start": self.start,
            "end": self.end,
            "probability": shortest(self.probability),
        })
    }
}

/// A choice that a question has.
#[derive(Debug, Clone, PartialEq)]
pub struct RatedChoice {
    /// Its number, from 0.
    pub index: usize,
    /// The choice, as in the question.
    pub text: String,
    /// Its probability, in [0, 1], among the choices of the question.
    pub probability: f64,
}

impl RatedChoice {
    fn to_json(&self) -> Map<String, Value> {
        let mut object = Map::new();
        object.insert("index".into(), self.index.into());
        object.insert("choice".into(), self.text.as_str().into());
        object.insert("probability".into(), json!(shortest(self.probability)));
        object
    }
}

/// A span of a text that has a label.
#[derive(Debug, Clone, PartialEq)]
pub struct LabelledSpan {
    /// The first character, a Unicode code point, counted from 0.
    pub start: usize,
    /// The character behind the last.
    pub end: usize,
    /// What it is.
    pub label: String,
    /// The mean probability of its words' tags, in [0, 1].
    pub score: f64,
    /// The text of the span.
    pub text: String,
}

impl LabelledSpan {
    /// The spans that tags of the words of an example make.
    pub(crate) fn of_example(of: ExampleOf<'_>, tags: &[WordTag]) -> Vec<Self> {
        let text = of.set.show(of.index).text;
        let found = of.set.spans(of.index, tags).into_iter();
        found
            .map(|found| Self {
                start: found.span.start,
                end: found.span.end,
                text: slice(&text, found.span.start..found.span.end).to_owned(),
                label: found.span.label,
                score: f64::from(found.score),
            })
            .collect()
    }

    /// As JSON; what is right has no score.
    pub(crate) fn to_json(&self, scored: bool) -> Value {
        let mut object = Map::new();
        object.insert("start".into(), self.start.into());
        object.insert("end".into(), self.end.into());
        object.insert("label".into(), self.label.as_str().into());
        if scored {
            object.insert("score".into(), json!(shortest(self.score)));
        }
        object.insert("text".into(), self.text.as_str().into());
        object.into()
    }
}

impl Prediction {
    /// The label of an answer that is one.
    #[must_use]
    pub fn label(&self) -> Option<&str> {
        match self {
            Self::Class { label, .. } => Some(label),
            Self::Labels { .. }
            | Self::Numbers { .. }
            | Self::Spans { .. }
            | Self::Choice { .. }
            | Self::Answer { .. } => None,
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
        if let (Some(most), Self::Answer { others, .. }) = (labels, &mut self) {
            others.truncate(most.saturating_sub(1));
        }
        if let (Some(most), Self::Choice { choices, .. }) = (labels, &mut self) {
            choices.sort_by(|a, b| b.probability.total_cmp(&a.probability));
            choices.truncate(most);
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
            Self::Answer {
                answer,
                probability,
                others,
                ..
            } => {
                let place = |end: fn(&ExtractedAnswer) -> usize| answer.as_ref().map(end);
                object.insert("answer".into(), json!(answer.as_ref().map(|a| &a.text)));
                object.insert("start".into(), json!(place(|answer| answer.start)));
                object.insert("end".into(), json!(place(|answer| answer.end)));
                object.insert("probability".into(), json!(shortest(*probability)));
                object.insert(
                    "others".into(),
                    others.iter().map(ExtractedAnswer::to_json).collect(),
                );
            }
            Self::Choice { chosen, choices } => {
                object.extend(chosen.to_json());
                let choices = choices.iter().map(RatedChoice::to_json);
                object.insert("choices".into(), choices.map(Value::Object).collect());
            }
            Self::Spans { spans, .. } => {
                let spans = spans.iter().map(|span| span.to_json(true));
                object.insert("spans".into(), spans.collect());
            }
        }
        object
    }

    /// The answer alone, its parts separated by tabs: a label, a choice or a piece of a text (nothing where none answers) and its probability, labels and their probabilities (both with
    /// commas between them), numbers, or spans as `start:end:label` and their scores (with commas too). A label that could be
    /// misread is in quotes, as JSON writes it.
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
            Self::Answer {
                answer,
                probability,
                ..
            } => {
                let text = answer
                    .as_ref()
                    .map_or(String::new(), |answer| quoted(&answer.text, &[]));
                format!("{text}\t{probability:.4}")
            }
            Self::Choice { chosen, .. } => {
                format!("{}\t{:.4}", quoted(&chosen.text, &[]), chosen.probability)
            }
            Self::Spans { spans, .. } => {
                let spans = spans.iter().map(|span| {
                    let label = quoted(&span.label, &[',']);
                    let named = format!("{}:{}:{label}", span.start, span.end);
                    (named, format!("{:.4}", span.score))
                });
                let (spans, scores): (Vec<String>, Vec<String>) = spans.unzip();
                format!("{}\t{}", spans.join(","), scores.join(","))
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
    fn spans_are_counted_in_characters() {
        let span = |start, end, label: &str, text: &str| LabelledSpan {
            start,
            end,
            label: label.into(),
            score: 0.5,
            text: text.into(),
        };
        let answer = Prediction::Spans {
            text: "Zoë naps, Al too".into(),
            spans: vec![span(0, 3, "a,b", "Zoë"), span(10, 12, "c", "Al")],
        };
        assert_eq!(answer.brief(), "0:3:\"a,b\",10:12:c\t0.5000,0.5000");
        assert_eq!(
            Value::Object(answer.to_json()).to_string(),
            r#"{"spans":[{"start":0,"end":3,"label":"a,b","score":0.5,"text":"Zoë"},{"start":10,"end":12,"label":"c","score":0.5,"text":"Al"}]}"#
        );
    }

    /// Choices may be equal: they go by their numbers.
    #[test]
    fn choices_are_told_in_the_order_of_the_question() {
        let choice = |index, text: &str, probability| RatedChoice {
            index,
            text: text.into(),
            probability,
        };
        let choices = vec![
            choice(0, "a\tb", 0.25),
            choice(1, "c", 0.5),
            choice(2, "c", 0.25),
        ];
        let answer = Prediction::Choice {
            chosen: choices[1].clone(),
            choices,
        };
        assert_eq!(answer.brief(), "c\t0.5000");
        assert_eq!(
            Value::Object(answer.clone().to_json()).to_string(),
            r#"{"index":1,"choice":"c","probability":0.5,"choices":[{"index":0,"choice":"a\tb","probability":0.25},{"index":1,"choice":"c","probability":0.5},{"index":2,"choice":"c","probability":0.25}]}"#
        );
        let Prediction::Choice { choices, .. } = answer.most_probable(Some(1)) else {
            panic!("another kind of answer");
        };
        assert_eq!(choices, [choice(1, "c", 0.5)]);
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
