//! Entities against seqeval's, in its default mode and its strict one.

use crate::{cases, check, check_all};
use rekindle_metrics::{Entities, EntitySpan, TagScheme, entity_spans};
use serde_json::{Value, json};
use std::collections::BTreeMap;

fn scheme(name: &str) -> TagScheme {
    match name {
        "default" => TagScheme::Lenient,
        "IOB1" => TagScheme::Iob1,
        "IOB2" => TagScheme::Iob2,
        "IOE1" => TagScheme::Ioe1,
        "IOE2" => TagScheme::Ioe2,
        "IOBES" => TagScheme::Iobes,
        "BILOU" => TagScheme::Bilou,
        other => panic!("no scheme {other}"),
    }
}

/// The tags of each sequence, expected and predicted.
fn sequences(case: &Value) -> Vec<[Vec<&str>; 2]> {
    let sequences = case["sequences"].as_array().unwrap().iter();
    sequences
        .map(|pair| [0, 1].map(|side| pair[side].as_str().unwrap().split_whitespace().collect()))
        .collect()
}

fn check_figures(place: &str, found: &Entities, expected: &Value) {
    let found = serde_json::to_value(found.report()).unwrap();
    for average in ["micro", "macro", "weighted"] {
        for (i, figure) in ["precision", "recall", "f1"].into_iter().enumerate() {
            let name = format!("{average}_{figure}");
            let expected = Value::from_iter([(name, expected[average][i].clone())]);
            check_all(place, &found, &expected);
        }
    }
    let rows = expected["per_label"].as_array().unwrap();
    assert_eq!(
        found["per_label"].as_array().unwrap().len(),
        rows.len(),
        "{place}"
    );
    for (i, row) in rows.iter().enumerate() {
        let found = &found["per_label"][i];
        let place = format!("{place}, label {}", row[0]);
        let expected = json!({
            "name": row[0], "precision": row[1], "recall": row[2], "f1": row[3], "support": row[4],
        });
        check_all(&place, found, &expected);
        let correct = found["correct"].as_f64().unwrap();
        let predicted = found["predicted"].as_f64().unwrap();
        check(
            &place,
            correct / predicted.max(1.0),
            found["precision"].as_f64().unwrap(),
        );
    }
}

#[test]
fn entities_equal_seqeval() {
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    for (i, case) in cases(include_str!("cases.json")).iter().enumerate() {
        let mode = case["mode"].as_str().unwrap();
        *seen.entry(mode.to_owned()).or_default() += 1;
        let place = format!("case {i} ({mode})");
        let mut entities = Entities::new();
        for [expected, predicted] in sequences(case) {
            entities
                .update_tags(&predicted, &expected, scheme(mode))
                .unwrap();
        }
        check_figures(&place, &entities, &case["expected"]);
    }
    assert_eq!(seen.len(), 7);
    assert!(seen.values().all(|&cases| cases == 50), "{seen:?}");
}

#[test]
fn spans_equal_seqeval() {
    let cases = cases(include_str!("cases.json"));
    let with_spans = cases.iter().filter(|case| case["spans"].is_array());
    let mut seen = 0;
    for (i, case) in with_spans.enumerate() {
        let mut entities = Entities::new();
        for (j, tags) in sequences(case).iter().enumerate() {
            let sides = [0, 1].map(|side| spans(&case["spans"][j][side]));
            for (tags, spans) in tags.iter().zip(&sides) {
                let found = entity_spans(tags, TagScheme::Lenient).unwrap();
                assert_eq!(&found, spans, "case {i}, sequence {j}");
            }
            entities.update(&sides[1], &sides[0]);
        }
        check_figures(&format!("case {i}"), &entities, &case["expected"]);
        seen += 1;
    }
    assert_eq!(seen, 50);
}

/// seqeval names the last tag, not the one behind it.
fn spans(value: &Value) -> Vec<EntitySpan<'_>> {
    let span = |span: &'_ Value| -> (usize, usize) {
        serde_json::from_value(json!([span[1], span[2]])).unwrap()
    };
    let spans = value.as_array().unwrap().iter();
    spans
        .map(|value| {
            let (start, last) = span(value);
            let label = value[0].as_str().unwrap();
            EntitySpan {
                start,
                end: last + 1,
                label,
            }
        })
        .collect()
}
