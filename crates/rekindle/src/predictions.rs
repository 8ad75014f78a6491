//! A line of JSON for each example that was evaluated: what it is, what is right, what was answered.

use crate::{
    answers::Asked, evaluation::Scored, generation::Answer, inputs::Inputs, tasks::Objective,
};
use rekindle_data::Targets;
use rekindle_metrics::{exact_match, rouge_l};
use serde_json::{Map, Value, json};
use std::collections::HashMap;

/// The lines of all examples that could be read, in the order of their set.
pub(crate) fn lines(
    scored: &Scored,
    set: &dyn Inputs,
    objective: &dyn Objective,
    targets: &Targets,
) -> Vec<Map<String, Value>> {
    let line = |(row, &example): (usize, &usize)| {
        let mut line = Map::new();
        line.insert("place".into(), set.full_place(example).into());
        if let Some(number) = set.line(example) {
            line.insert("line".into(), number.into());
        }
        line.extend(set.described(example));
        let of = scored.example(set, row);
        line.extend(objective.scored(&scored.logits, targets, row, of));
        line
    };
    scored.examples.iter().enumerate().map(line).collect()
}

/// Adds to the lines of the conversations that were asked what was answered, beside the right answer.
pub(crate) fn add_answers(lines: &mut [Map<String, Value>], asked: &[Asked], answers: &[Answer]) {
    let mut answered = HashMap::new();
    for (asked, answer) in asked.iter().zip(answers) {
        answered.insert(asked.place.as_str(), (asked, answer));
    }
    for line in lines {
        let place = line["place"].as_str().unwrap_or_default();
        let Some((asked, answer)) = answered.remove(place) else {
            continue;
        };
        let (said, right) = (answer.text.as_str(), asked.reference.as_str());
        line.insert("prompt".into(), asked.prompt.as_str().into());
        line.insert("reference".into(), right.into());
        line.insert("answer".into(), said.into());
        line.insert("finished".into(), answer.finished.into());
        line.insert("rouge_l".into(), json!(rouge_l(said, right)));
        line.insert("correct".into(), exact_match(said, right).into());
    }
}
