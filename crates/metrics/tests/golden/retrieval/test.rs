//! Search, similarities and pairs against sentence-transformers' evaluators.

use crate::{cases, check_all, floats, ids};
use rekindle_metrics::{PairClassification, Regression, Retrieval};
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// Names of the figures of a cut-off, in the order of the fixture.
const FIGURES: [&str; 7] = ["k", "accuracy", "precision", "recall", "mrr", "ndcg", "map"];

#[test]
fn search_equals_sentence_transformers() {
    let cases = cases(include_str!("retrieval.json"));
    assert_eq!(cases.len(), 50);
    for (i, case) in cases.iter().enumerate() {
        let similarities: Vec<Vec<f32>> =
            serde_json::from_value(case["similarities"].clone()).unwrap();
        let relevant: Vec<BTreeSet<usize>> =
            serde_json::from_value(case["relevant"].clone()).unwrap();
        assert_eq!(similarities.len(), relevant.len());
        let mut retrieval = Retrieval::new(&[1, 3, 10, 100]);
        for (similarities, relevant) in similarities.iter().zip(&relevant) {
            retrieval.update(similarities, relevant);
        }
        let report = retrieval.report();
        let skipped = relevant
            .iter()
            .filter(|relevant| relevant.is_empty())
            .count();
        assert_eq!(report.skipped, skipped as u64);
        assert_eq!(report.n + report.skipped, relevant.len() as u64);
        let found = serde_json::to_value(&report.at_k).unwrap();
        for (j, expected) in case["expected"].as_array().unwrap().iter().enumerate() {
            let expected = FIGURES.iter().zip(expected.as_array().unwrap().clone());
            let expected = Value::from_iter(expected.map(|(&name, figure)| (name, figure)));
            check_all(&format!("case {i}"), &found[j], &expected);
        }
    }
}

#[test]
fn similarities_correlate_as_in_sentence_transformers() {
    let cases = cases(include_str!("similarity.json"));
    assert_eq!(cases.len(), 50);
    for (i, case) in cases.iter().enumerate() {
        let mut metrics = Regression::new(1);
        let scores = floats(&case["scores"]);
        for (similarity, score) in floats(&case["similarities"]).into_iter().zip(scores) {
            metrics.update(&[similarity], &[score]).unwrap();
        }
        let found = serde_json::to_value(metrics.report()).unwrap();
        check_all(&format!("case {i}"), &found, &case["expected"]);
    }
}

#[test]
fn pairs_equal_sentence_transformers() {
    let cases = cases(include_str!("pairs.json"));
    assert_eq!(cases.len(), 50);
    for (i, case) in cases.iter().enumerate() {
        let mut metrics = PairClassification::new();
        let labels = ids(&case["labels"]);
        for (&similarity, &label) in floats(&case["similarities"]).iter().zip(&labels) {
            metrics.update(similarity, label == 1);
        }
        let mut found = serde_json::to_value(metrics.report()).unwrap();
        assert_eq!(found["n"], labels.len());
        assert_eq!(found["support"], labels.iter().sum::<u32>());
        found["ap"] = json!(found["average_precision"]);
        check_all(&format!("case {i}"), &found, &case["expected"]);
    }
}
