//! `metrics.jsonl`: what is written is read, to the bit, whatever the figures are.

use rekindle_base::rng;
use rekindle_train::{Evaluation, Event, Metrics, Sink, read_metrics, truncate_metrics};
use std::{collections::BTreeMap, fs};

fn step(step: u64, loss: f64) -> Event {
    Event::Step {
        step,
        epoch: 0.5,
        loss,
        learning_rate: 1e-3,
        grad_norm: loss,
        examples: 3,
        seconds: 0.25,
    }
}

fn evaluated(step: u64, figures: &[(&str, f64)]) -> Event {
    let figures = figures
        .iter()
        .map(|&(name, value)| (name.to_owned(), value));
    Event::Evaluated {
        step,
        epoch: 1.0,
        evaluation: Evaluation {
            metrics: figures.collect::<BTreeMap<_, _>>(),
        },
        best: false,
        seconds: 0.25,
    }
}

/// A random finite number by its bits.
pub fn any_finite(key: u64, index: u64) -> f64 {
    (0..)
        .map(|i| f64::from_bits(rng::child(rng::child(key, index), i)))
        .find(|v| v.is_finite())
        .unwrap()
}

/// Regression: floats drifted by a unit in the last place through JSON.
#[test]
fn figures_come_back_with_the_same_bits() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("metrics.jsonl");
    let values: Vec<f64> = (0..2000)
        .map(|i| any_finite(7, i))
        // Numbers as losses are: one in ten of them drifted.
        .chain((0..2000).map(|i| rng::uniform(8, i)))
        .chain([-0.0, f64::MIN_POSITIVE, 5e-324, f64::MAX])
        .collect();
    let mut metrics = Metrics::open(&path, 1).unwrap();
    for (i, &value) in values.iter().enumerate() {
        metrics.event(&step(i as u64, value));
        metrics.event(&evaluated(i as u64, &[("loss", value)]));
    }
    let mut found = Vec::new();
    for event in read_metrics(&path).unwrap() {
        match event {
            Event::Step { loss, .. } => found.push(loss),
            Event::Evaluated { evaluation, .. } => found.push(evaluation.metrics["loss"]),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(found.len(), 2 * values.len());
    for (pair, value) in found.chunks(2).zip(&values) {
        assert_eq!(pair[0].to_bits(), value.to_bits(), "{value:e}");
        assert_eq!(pair[1].to_bits(), value.to_bits(), "{value:e}");
    }
}

/// Regression: a NaN became `null`, and its line was then passed over as unreadable.
#[test]
fn a_figure_that_is_no_number_is_read_back() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("metrics.jsonl");
    let mut metrics = Metrics::open(&path, 1).unwrap();
    let figures = [
        ("accuracy", f64::NAN),
        ("loss", f64::INFINITY),
        ("mcc", f64::NEG_INFINITY),
        ("n", 3.0),
    ];
    metrics.event(&evaluated(1, &figures));
    metrics.event(&step(2, f64::NAN));
    let events = read_metrics(&path).unwrap();
    assert_eq!(events.len(), 2, "{}", fs::read_to_string(&path).unwrap());
    let Event::Evaluated { evaluation, .. } = &events[0] else {
        panic!("{events:?}")
    };
    for (name, value) in figures {
        let found = evaluation.metrics[name];
        assert!(
            found == value || (found.is_nan() && value.is_nan()),
            "{name}: {found}"
        );
    }
    assert!(matches!(events[1], Event::Step { loss, .. } if loss.is_nan()));
}

/// Regression: dropping later steps re-encoded the earlier ones.
#[test]
fn truncation_keeps_the_bytes_of_what_it_keeps() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("metrics.jsonl");
    let kept = r#"{"kind":"step","step":2,"epoch":0.50,"loss":1.2e-5,"learning_rate":1e-3,"grad_norm":0.1,"examples":3,"seconds":0.25, "by":"hand"}
{"kind":"warning","message":"kept"}
"#;
    let later = serde_json::to_string(&step(3, 0.5)).unwrap();
    fs::write(&path, format!("{kept}{later}\n{}", &later[..20])).unwrap();
    truncate_metrics(&path, 2).unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap(), kept);
}
