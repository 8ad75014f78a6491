//! Regression and multi-label classification: logits, and whole runs through the public interface whose 20 losses,
//! gradient norms and final logits are those of transformers.
#![allow(clippy::unwrap_used)]

use std::fmt::Write;
use std::path::{Path, PathBuf};

use rekindle_data::TextEncoder;
use rekindle_models::{HeadSpec, Model, Pretrained, Problem};
use serde_json::Value;

use crate::support::{
    Cpu, WholeRun, assert_close, batch_order, golden, json, logits_alone, numbers, set, whole_run,
};

/// A fixture: its folder, the task of its run, its problem, and the names of its outputs, which are its columns.
struct Case {
    folder: &'static str,
    task: &'static str,
    problem: Problem,
    columns: &'static [&'static str],
}

const TOPICS: &[&str] = &["billing", "delivery", "praise", "refund", "urgent"];

const CASES: [Case; 4] = [
    Case {
        folder: "regression",
        task: "text-regression",
        problem: Problem::Regression,
        columns: &["score"],
    },
    Case {
        folder: "regression_three",
        task: "text-regression",
        problem: Problem::Regression,
        columns: &["price", "share", "score"],
    },
    Case {
        folder: "multi_label",
        task: "text-multi-label",
        problem: Problem::MultiLabel,
        columns: TOPICS,
    },
    Case {
        folder: "distilbert_multi_label",
        task: "text-multi-label",
        problem: Problem::MultiLabel,
        columns: TOPICS,
    },
];

/// Absolute, on logits that the fixtures have in float64.
const FORWARD: f32 = 1e-5;

/// Relative to losses above 1, absolute below: a mean over examples instead of elements is wrong by a factor of the outputs.
const LOSS: f64 = 1e-4;

/// Relative, on gradient norms.
const GRAD_NORM: f64 = 1e-3;

/// Relative: the schedules are the same formula in f64.
const LEARNING_RATE: f64 = 1e-12;

/// Absolute, on logits after 20 steps at a rate of 2e-3.
const LOGITS_AFTER: f32 = 1e-3;

impl Case {
    fn fixture(&self, file: &str) -> Value {
        json(&format!("tiny_tasks/{}/{file}", self.folder))
    }

    fn model_dir(&self) -> PathBuf {
        golden("tiny_tasks").join(self.folder).join("model")
    }

    /// A model directory with the head it has.
    fn open(&self, dir: &Path) -> Model<Cpu> {
        let pretrained = Pretrained::open(dir).unwrap();
        let config = pretrained.config();
        assert_eq!(config.problem, Some(self.problem), "{}", self.folder);
        assert_eq!(config.outputs, self.columns.len(), "{}", self.folder);
        assert_eq!(config.labels, self.columns, "{}", self.folder);
        let head = HeadSpec {
            outputs: config.outputs,
            labels: config.labels.clone(),
            problem: self.problem,
            reads: None,
            seed: 0,
            require: true,
        };
        Model::from_pretrained(&pretrained, &head, &Default::default())
            .unwrap()
            .0
    }
}

#[test]
fn logits_and_token_ids() {
    for case in CASES {
        let fixture = case.fixture("expected.json");
        let cases = set(&fixture["cases"]);
        let expected: Vec<f32> = fixture["cases"]
            .as_array()
            .unwrap()
            .iter()
            .flat_map(|case| numbers(&case["logits"]))
            .collect();
        let found = logits_alone(&case.open(&case.model_dir()), &cases, &Default::default());
        let largest = assert_close(case.folder, &found, &expected, FORWARD);
        println!("{}: logits within {largest:.1e}", case.folder);

        let encoder = TextEncoder::from_dir(&case.model_dir(), Some(30)).unwrap();
        for (written, item) in fixture["cases"]
            .as_array()
            .unwrap()
            .iter()
            .zip(&cases.items)
        {
            let found = encoder
                .encode(written["text"].as_str().unwrap(), None)
                .unwrap();
            assert_eq!(found.ids, item.ids, "{}: {}", case.folder, written["text"]);
        }
    }
}

/// A table of these cases in this order: the text and a column for each output.
fn table(case: &Case, cases: &[Value], order: impl IntoIterator<Item = usize>) -> String {
    let mut out = format!("text\t{}\n", case.columns.join("\t"));
    for index in order {
        out += cases[index]["text"].as_str().unwrap();
        for target in cases[index]["targets"].as_array().unwrap() {
            let target = target.as_f64().unwrap();
            write!(out, "\t{target}").unwrap();
        }
        out.push('\n');
    }
    out
}

#[test]
fn whole_runs_have_the_losses_of_transformers() {
    let folder = tempfile::tempdir().unwrap();
    for case in CASES {
        let (expected, training) = (case.fixture("expected.json"), case.fixture("training.json"));
        let cases = expected["cases"].as_array().unwrap();
        let dir = folder.path().join(case.folder);
        std::fs::create_dir(&dir).unwrap();
        std::fs::write(
            dir.join("train.tsv"),
            table(&case, cases, batch_order(&training)),
        )
        .unwrap();
        std::fs::write(
            dir.join("validation.tsv"),
            table(&case, cases, 0..cases.len()),
        )
        .unwrap();
        let (finished, apart) = whole_run(&WholeRun {
            task: case.task,
            model: &case.model_dir(),
            dir: &dir,
            extension: "tsv",
            training: &training,
            data: &format!(
                "label = {:?}\nmax_length = {}\n",
                case.columns, expected["max_length"]
            ),
            // transformers learns the numbers as they are.
            train: match case.problem {
                Problem::Regression => "standardize_targets = false\n",
                _ => "",
            },
        });
        println!("{}: {apart}", case.folder);
        let largest = training["steps"].as_array().unwrap().iter();
        let largest = largest
            .map(|step| step["loss"].as_f64().unwrap())
            .fold(1.0, f64::max);
        assert!(apart.loss <= LOSS * largest, "{}: {apart:?}", case.folder);
        assert!(
            apart.learning_rate <= LEARNING_RATE,
            "{}: {apart:?}",
            case.folder
        );
        assert!(apart.grad_norm <= GRAD_NORM, "{}: {apart:?}", case.folder);

        // What was saved is a model of the same problem, with the same answers.
        let cases = set(&expected["cases"]);
        let found = logits_alone(&case.open(&finished.final_dir), &cases, &Default::default());
        let expected = numbers(&training["logits_after"]);
        let largest = assert_close(case.folder, &found, &expected, LOGITS_AFTER);
        println!(
            "{}: logits after 20 steps within {largest:.1e}",
            case.folder
        );
    }
}
