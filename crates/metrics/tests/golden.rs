//! Every figure against scikit-learn's and SciPy's; `golden/make.py` makes the fixtures.
#![allow(clippy::unwrap_used)]

use rekindle_metrics::{Classification, PerClass, wilson_95};
use serde_json::Value;

/// Both sides compute in `f64` from the same counts; only the order of a few operations differs.
const TOLERANCE: f64 = 1e-12;

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

fn check(place: &str, found: f64, expected: f64) {
    assert!(
        (found - expected).abs() <= TOLERANCE,
        "{place}: found {found}, expected {expected}"
    );
}
