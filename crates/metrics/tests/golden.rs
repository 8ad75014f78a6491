//! Every figure against scikit-learn's and SciPy's, and those of answers against `rouge_score`'s and sacrebleu's;
//! `golden/make.py` and the `make.py` in each folder there make the fixtures.
#![allow(clippy::unwrap_used)]

#[path = "golden/entities/test.rs"]
mod entities;
#[path = "golden/extractive/test.rs"]
mod extractive;
#[path = "golden/retrieval/test.rs"]
mod retrieval;

use rekindle_metrics::{
    Answers, Classification, MultiLabel, PerClass, Regression, rouge_l, wilson_95,
};
use serde_json::Value;

/// Both sides compute in `f64` from the same counts; only the order of a few operations differs.
const TOLERANCE: f64 = 1e-12;
/// Relative, or absolute for figures below 1. The fixtures keep 12 digits; sums of squares in another order lose some of
/// the 16 that `f64` has where values are far from zero.
const TWELVE_DIGITS: f64 = 1e-9;

fn ids(value: &Value) -> Vec<u32> {
    serde_json::from_value(value.clone()).unwrap()
}

fn cases(json: &str) -> Vec<Value> {
    serde_json::from_str(json).unwrap()
}

#[test]
fn classification_equals_scikit_learn() {
    for case in cases(include_str!("golden/classification.json")) {
        let (predicted, target) = (ids(&case["predicted"]), ids(&case["target"]));
        let mut metrics = Classification::new(case["classes"].as_u64().unwrap() as usize);
        metrics
            .update(&predicted, &target, 0.0, target.len() as u64)
            .unwrap();
        let report = metrics.report();

        let expected = &case["expected"];
        let found = serde_json::to_value(&report).unwrap();
        for name in [
            "accuracy",
            "balanced_accuracy",
            "mcc",
            "macro_precision",
            "macro_recall",
            "macro_f1",
            "micro_precision",
            "micro_recall",
            "micro_f1",
            "weighted_precision",
            "weighted_recall",
            "weighted_f1",
        ] {
            check(
                &format!("{}: {name}", case["name"]),
                found[name].as_f64().unwrap(),
                expected[name].as_f64().unwrap(),
            );
        }
        assert_eq!(
            found["confusion"], expected["confusion"],
            "{}",
            case["name"]
        );
        let classes: Vec<PerClass> = serde_json::from_value(expected["per_class"].clone()).unwrap();
        assert_eq!(report.per_class.len(), classes.len(), "{}", case["name"]);
        for (class, (found, expected)) in report.per_class.iter().zip(&classes).enumerate() {
            let place = |name| format!("{}: {name} of class {class}", case["name"]);
            check(&place("precision"), found.precision, expected.precision);
            check(&place("recall"), found.recall, expected.recall);
            check(&place("f1"), found.f1, expected.f1);
            assert_eq!(found.support, expected.support, "{}", place("support"));
        }
    }
}

#[test]
fn wilson_interval_equals_scipy() {
    for case in cases(include_str!("golden/wilson.json")) {
        let (low, high) = wilson_95(
            case["successes"].as_u64().unwrap(),
            case["trials"].as_u64().unwrap(),
        );
        check(
            &format!("low of {case}"),
            low,
            case["low"].as_f64().unwrap(),
        );
        check(
            &format!("high of {case}"),
            high,
            case["high"].as_f64().unwrap(),
        );
    }
    assert_eq!(wilson_95(0, 0), (0.0, 1.0));
}

#[test]
fn regression_equals_scikit_learn_and_scipy() {
    let cases = cases(include_str!("golden/regression.json"));
    assert_eq!(cases.len(), 50);
    for (i, case) in cases.iter().enumerate() {
        let mut metrics = Regression::with_training_means(&floats(&case["training_means"]));
        let (predicted, target) = (rows(&case["predicted"]), rows(&case["target"]));
        assert_eq!(predicted.len(), target.len());
        for (predicted, target) in predicted.iter().zip(&target) {
            metrics.update(predicted, target).unwrap();
        }
        let found = serde_json::to_value(metrics.report()).unwrap();
        assert_eq!(found["n"], target.len());
        check_all(&format!("case {i}"), &found, &case["overall"]);
        check_each(
            &format!("case {i}, target"),
            &found["per_target"],
            &case["per_target"],
        );
    }
}

#[test]
fn multi_label_equals_scikit_learn() {
    let cases = cases(include_str!("golden/multi_label.json"));
    assert_eq!(cases.len(), 50);
    for (i, case) in cases.iter().enumerate() {
        let thresholds = floats(&case["thresholds"]);
        let scores = rows(&case["scores"]);
        let truth: Vec<String> = serde_json::from_value(case["truth"].clone()).unwrap();
        assert_eq!(scores.len(), truth.len());
        let mut metrics = MultiLabel::new(thresholds.len());
        for (scores, truth) in scores.iter().zip(&truth) {
            let truth: Vec<bool> = truth.bytes().map(|digit| digit == b'1').collect();
            metrics.update(scores, &truth, 0.0).unwrap();
        }
        let found = serde_json::to_value(metrics.report(&thresholds).unwrap()).unwrap();
        let expected = &case["expected"];
        check_all(&format!("case {i}"), &found, expected);
        check_each(
            &format!("case {i}, label"),
            &found["per_label"],
            &expected["per_label"],
        );

        // The best F1 of all thresholds is reached, unless all examples agree and nothing is chosen.
        let best = metrics.best_thresholds();
        let report = metrics.report(&best).unwrap();
        for (label, expected) in floats(&case["best_f1"]).into_iter().enumerate() {
            let found = report.per_label[label];
            let place = format!("case {i}, label {label}: best F1");
            if found.support == 0 || found.support == report.n {
                assert_eq!(found.threshold, 0.5, "{place}");
            } else {
                check_within(TWELVE_DIGITS, &place, found.f1, expected);
            }
        }
    }
}

#[test]
fn answers_score_as_in_python() {
    let texts = |value: &Value| -> Vec<String> { serde_json::from_value(value.clone()).unwrap() };
    for case in cases(include_str!("golden/answers/cases.json")) {
        let (answers, references) = (texts(&case["answers"]), texts(&case["references"]));
        let mut all = Answers::new();
        let mut sum = 0.0;
        for ((answer, reference), expected) in answers
            .iter()
            .zip(&references)
            .zip(floats(&case["rouge_l"]))
        {
            let place = format!("{}: {answer:?}", case["name"]);
            check(&place, rouge_l(answer, reference), expected);
            all.update(answer, reference);
            sum += expected;
        }
        let report = all.report();
        check("rouge_l", report.rouge_l, sum / answers.len() as f64);
        let place = format!("{}: BLEU", case["name"]);
        check_within(
            TWELVE_DIGITS,
            &place,
            report.bleu,
            case["bleu"].as_f64().unwrap(),
        );
    }
}

fn floats(value: &Value) -> Vec<f64> {
    serde_json::from_value(value.clone()).unwrap()
}

fn rows(value: &Value) -> Vec<Vec<f64>> {
    serde_json::from_value(value.clone()).unwrap()
}

fn check_each(place: &str, found: &Value, expected: &Value) {
    let (found, expected) = (found.as_array().unwrap(), expected.as_array().unwrap());
    assert_eq!(found.len(), expected.len(), "{place}");
    for (i, (found, expected)) in found.iter().zip(expected).enumerate() {
        check_all(&format!("{place} {i}"), found, expected);
    }
}

/// Every number and every `null` of `expected`.
fn check_all(place: &str, found: &Value, expected: &Value) {
    let figures = expected.as_object().unwrap().iter();
    for (name, expected) in figures.filter(|(_, expected)| !expected.is_array()) {
        let place = format!("{place}: {name}");
        match (found[name].as_f64(), expected.as_f64()) {
            (Some(found), Some(expected)) => {
                check_within(TWELVE_DIGITS, &place, found, expected);
            }
            _ => assert_eq!(&found[name], expected, "{place}"),
        }
    }
}

fn check_within(tolerance: f64, place: &str, found: f64, expected: f64) {
    assert!(
        (found - expected).abs() <= tolerance * expected.abs().max(1.0),
        "{place}: found {found}, expected {expected}"
    );
}

fn check(place: &str, found: f64, expected: f64) {
    assert!(
        (found - expected).abs() <= TOLERANCE,
        "{place}: found {found}, expected {expected}"
    );
}
