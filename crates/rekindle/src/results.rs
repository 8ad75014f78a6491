//! `results.json`: what a run ended with, for programs. docs/results-json.md says what each key holds.

use crate::{
    FinishedRun, Plan, RunConfig,
    figures::{Figures, Section},
    processes::Communication,
    provenance::Provenance,
    report::EvalPoint,
};
use serde::Serialize;
use serde_json::{Map, Value, json};

/// What the file tells beside the finished run.
pub(crate) struct Results<'a> {
    pub run: &'a FinishedRun,
    pub config: &'a RunConfig,
    pub plan: &'a Plan,
    pub provenance: &'a Provenance,
    /// The evaluation that made the saved model the best.
    pub validation: Option<&'a EvalPoint>,
    /// Phases and their seconds.
    pub timings: &'a [(String, f64)],
    /// Of a run by several processes.
    pub communication: Option<Communication>,
}

impl Results<'_> {
    pub(crate) fn to_json(&self) -> Value {
        let (run, plan) = (self.run, self.plan);
        let scalars = run.figures.scalars.iter();
        let scalars: Map<String, Value> = scalars
            .map(|scalar| (scalar.key.clone(), json!(scalar.value)))
            .collect();
        let timings = self.timings.iter();
        let timings: Map<String, Value> = timings
            .map(|(phase, seconds)| (phase.clone(), json!(seconds)))
            .collect();
        let [train, validation, test] = plan.examples;
        let Provenance {
            model,
            data,
            machine,
        } = self.provenance;
        let mut results = object(json!({
            "task": run.task.name(),
            "split": run.split,
            "examples": run.figures.n,
            "headline": run.figures.headline,
            "figures": scalars,
            "intervals": run.figures.intervals(),
            "base": run.figures.base_scalars(),
            "guess": run.figures.guess,
            "advice": run.advice,
            "best_step": run.best_step,
            "lost_best_step": run.lost_best,
            "steps": run.steps,
            "stopped_early": run.stopped_early,
            "seconds": run.seconds,
            "peak_memory_bytes": run.peak_memory,
            "validation": self.validation.map(|point| json!({
                "step": point.step,
                "epoch": point.epoch,
                "figures": point.figures,
            })),
        }));
        results.extend(by_label(&run.figures));
        results.extend(object(json!({
            "examples_by_split": { "train": train, "validation": validation, "test": test },
            "parameters": { "all": plan.parameters, "trained": plan.trainable },
            "timings": timings,
            "method": plan.method,
            "model": model,
            "data": { "name": plan.dataset, "files": data },
            "seed": self.config.seed,
            "rekindle": env!("CARGO_PKG_VERSION"),
            "machine": machine,
        })));
        if let Some(communication) = self.communication {
            results.insert("communication".into(), json!(communication));
        }
        results.into()
    }
}

fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(object) => object,
        _ => Map::new(),
    }
}

/// The figures of each label or number, by name, and what belongs to all of them.
fn by_label(figures: &Figures) -> Map<String, Value> {
    let mut object = Map::new();
    for section in &figures.sections {
        match section {
            Section::Classes {
                report,
                labels,
                calibration,
            } => {
                object.insert("labels".into(), json!(labels));
                let per_label = named(labels, &report.per_class);
                object.insert("per_label".into(), per_label);
                object.insert("confusion".into(), json!(report.confusion));
                object.insert("calibration".into(), json!(calibration));
            }
            Section::Labels { report, labels } => {
                let threshold = report.per_label.iter().map(|label| json!(label.threshold));
                let thresholds: Map<String, Value> =
                    labels.iter().cloned().zip(threshold).collect();
                object.insert("labels".into(), json!(labels));
                let per_label = named(labels, &report.per_label);
                object.insert("per_label".into(), per_label);
                object.insert("thresholds".into(), thresholds.into());
            }
            Section::Numbers { report, names } => {
                object.insert("labels".into(), json!(names));
                let per_number = named(names, &report.per_target);
                object.insert("per_label".into(), per_number);
            }
            Section::Entities { report } => {
                let names: Vec<String> = report.per_label.iter().map(|l| l.name.clone()).collect();
                let per_label = named(&names, &report.per_label);
                object.insert("labels".into(), json!(names));
                object.insert("per_label".into(), per_label);
            }
            Section::Extracted { report } => {
                object.insert("has_answer".into(), json!(report.has_answer));
                object.insert("no_answer_share".into(), json!(report.no_answer));
            }
            Section::Choices { rows, calibration } => {
                object.insert("by_choices".into(), json!(rows));
                object.insert("calibration".into(), json!(calibration));
            }
            // What they were before tuning stands in `base`.
            Section::Embeddings { .. } => {}
            Section::Answers { report, .. } => {
                object.insert("answers".into(), json!(report));
            }
        }
    }
    object
}

/// A list of figures, each with its name before it.
fn named(names: &[String], figures: &[impl Serialize]) -> Value {
    let rows = names.iter().zip(figures).map(|(name, figures)| {
        let mut row = Map::new();
        row.insert("label".into(), json!(name));
        row.extend(object(json!(figures)));
        Value::from(row)
    });
    rows.collect()
}
