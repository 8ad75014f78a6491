//! Multiple choice: one logit a choice, chosen answers, and whole runs through the public interface whose 20 losses, gradient norms and final
//! logits are those of transformers.
#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};

use rekindle::config::Device;
use rekindle::{Prediction, Predictor, Query, Silent, Task};
use rekindle_data::choices::{ChoiceSet, read_choices};
use rekindle_data::{ReadOptions, TextEncoder};
use rekindle_models::{HeadSpec, LoadReport, Model, Pretrained, Problem};
use rekindle_nn::Pass;
use serde_json::{Value, json};

use crate::support::{
    Cpu, ENCODERS, FORWARD, LOGITS_AFTER, WholeRun, assert_close, batch_order, centred, golden,
    ids, json as fixture_file, numbers, packed, values, whole_run,
};

fn fixture(model: &str, file: &str) -> Value {
    fixture_file(&format!("tiny_choices/{model}/{file}"))
}

fn model_dir(model: &str) -> PathBuf {
    golden("tiny_choices").join(model).join("model")
}

/// The questions of a fixture in this order, as JSON lines.
fn write_questions(path: &Path, cases: &Value, order: impl IntoIterator<Item = usize>) {
    let row = |index: usize| {
        let mut row = cases[index].clone();
        let keys = row.as_object_mut().unwrap();
        keys.retain(|key, _| ["context", "question", "choices", "answer"].contains(&key.as_str()));
        row.to_string()
    };
    let rows: Vec<String> = order.into_iter().map(row).collect();
    std::fs::write(path, rows.join("\n")).unwrap();
}

fn all(cases: &Value) -> std::ops::Range<usize> {
    0..cases.as_array().unwrap().len()
}

fn counts(cases: &Value) -> Vec<usize> {
    let cases = cases.as_array().unwrap().iter();
    let count = |case: &Value| case["choices"].as_array().unwrap().len();
    cases.map(count).collect()
}

fn encoded(dir: &Path, cases: &Value) -> ChoiceSet {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("cases.jsonl");
    write_questions(&path, cases, all(cases));
    let read = read_choices(&path, &ReadOptions::default()).unwrap();
    let limits = Pretrained::open(dir)
        .unwrap()
        .config()
        .text
        .clone()
        .unwrap();
    let mut encoder = TextEncoder::from_dir(dir, None).unwrap();
    encoder
        .check_model(limits.vocab_size, limits.type_vocab_size)
        .unwrap();
    encoder.encode_choices(&read.rows).unwrap()
}

fn load(dir: &Path, require: bool) -> (Model<Cpu>, LoadReport) {
    let head = HeadSpec {
        outputs: 1,
        labels: vec!["score".into()],
        problem: Problem::Choice,
        reads: None,
        seed: 0,
        require,
    };
    let pretrained = Pretrained::open(dir).unwrap();
    Model::from_pretrained(&pretrained, &head, &Default::default()).unwrap()
}

/// Logits of the choices of all questions, one after the other, as one batch.
fn logits(dir: &Path, cases: &Value) -> Vec<f32> {
    let (model, _) = load(dir, true);
    let input = packed(&encoded(dir, cases).set, &Default::default());
    values(model.forward(input.into(), Pass::evaluation()))
}

#[test]
fn logits_of_choices_and_token_ids() {
    for name in ENCODERS {
        let expected = fixture(name, "expected.json");
        let cases = &expected["cases"];
        let config = Pretrained::open(&model_dir(name)).unwrap();
        assert_eq!(config.config().problem, Some(Problem::Choice));
        let right = cases.as_array().unwrap().iter();
        let right: Vec<f32> = right.flat_map(|case| numbers(&case["logits"])).collect();
        let largest = assert_close(name, &logits(&model_dir(name), cases), &right, FORWARD);
        println!("{name}: logits within {largest:.1e}");
        let set = encoded(&model_dir(name), cases);
        for (question, case) in cases.as_array().unwrap().iter().enumerate() {
            let items = &set.set.items[set.choices_of(question)];
            let of_case = case["input_ids"].as_array().unwrap();
            assert_eq!(items.len(), of_case.len());
            for (item, right) in items.iter().zip(of_case) {
                assert_eq!(item.ids, ids(right), "{name}: {case}");
            }
        }
    }
}

/// A model that transformers saved says by its class what it is for, and chooses what has the largest logit.
#[test]
fn the_largest_logit_is_chosen() {
    let folder = tempfile::tempdir().unwrap();
    for name in ENCODERS {
        let expected = fixture(name, "expected.json");
        let cases = &expected["cases"];
        let mut predictor = Predictor::open(&model_dir(name), Device::Cpu, &Silent).unwrap();
        assert_eq!(predictor.task(), Task::MultipleChoice);
        let config = predictor.configure(&[]).unwrap();
        let path = folder.path().join(format!("{name}.jsonl"));
        write_questions(&path, cases, all(cases));
        let mut queries = predictor.read_queries(&path, &config, &Silent).unwrap();
        // One without choices in their midst gets a reason, and the others their own answers.
        queries.insert(1, Query::new(None, "why?"));
        let mut answers = predictor.answer(&queries).unwrap();
        assert!(answers.remove(1).unwrap_err().contains("no two choices"));
        let (mut right, rows) = (0, cases.as_array().unwrap());
        for (case, answer) in rows.iter().zip(answers) {
            let Prediction::Choice { chosen, choices } = answer.unwrap() else {
                panic!("no choice");
            };
            let logits = numbers(&case["logits"]);
            let best = (0..logits.len()).max_by(|&a, &b| logits[a].total_cmp(&logits[b]));
            assert_eq!(Some(chosen.index), best, "{name}: {case}");
            assert_eq!(json!(chosen.text), case["choices"][chosen.index]);
            right += usize::from(case["answer"] == chosen.index);
            let sum: f32 = logits.iter().map(|logit| logit.exp()).sum();
            let found: Vec<f32> = choices.iter().map(|c| c.probability as f32).collect();
            let softmax: Vec<f32> = logits.iter().map(|logit| logit.exp() / sum).collect();
            assert_close(name, &found, &softmax, FORWARD);
        }
        let evaluated = predictor.evaluate_each(&path, None, &config, &Silent);
        let evaluated = evaluated.unwrap();
        let accuracy = right as f64 / rows.len() as f64;
        assert_eq!(evaluated.figures.get("accuracy"), Some(accuracy), "{name}");
        assert_eq!(evaluated.predictions.len(), rows.len());
    }
}

#[test]
fn whole_runs_have_the_losses_of_transformers() {
    let folder = tempfile::tempdir().unwrap();
    for name in ENCODERS {
        let (expected, training) = (
            fixture(name, "expected.json"),
            fixture(name, "training.json"),
        );
        let cases = &expected["cases"];
        let dir = folder.path().join(name);
        std::fs::create_dir(&dir).unwrap();
        write_questions(&dir.join("train.jsonl"), cases, batch_order(&training));
        write_questions(&dir.join("validation.jsonl"), cases, all(cases));
        let (finished, apart) = whole_run(&WholeRun {
            task: "multiple-choice",
            model: &model_dir(name),
            dir: &dir,
            extension: "jsonl",
            training: &training,
            data: "max_length = 30\n",
            train: "",
        });
        apart.hold_for_a_head(name);

        // What was saved is a model of the same problem, with the same answers.
        let counts = counts(cases);
        let right = centred(numbers(&training["logits_after"]), 1, &counts);
        let found = centred(logits(&finished.final_dir, cases), 1, &counts);
        let largest = assert_close(name, &found, &right, LOGITS_AFTER);
        println!("{name}: logits after 20 steps within {largest:.1e}");
        let config = std::fs::read_to_string(finished.final_dir.join("config.json")).unwrap();
        assert!(config.contains("ForMultipleChoice") && !config.contains("id2label"));
    }
}

/// A base that has a head of another kind, or none, gets a new one: what transformers has too is loaded, the rest is new.
#[test]
fn heads_of_other_kinds_are_replaced() {
    for (base, fresh) in [
        ("tiny_bert/model", &["classifier"][..]),
        (
            "tiny_questions/bert/model",
            &["bert.pooler.dense", "classifier"],
        ),
        (
            "tiny_roberta/model",
            &["roberta.pooler.dense", "classifier"],
        ),
        (
            "tiny_tokens/mpnet/model",
            &["mpnet.pooler.dense", "classifier"],
        ),
        ("tiny_distilbert/model", &["pre_classifier", "classifier"]),
        (
            "tiny_electra/model",
            &["sequence_summary.summary", "classifier"],
        ),
        // This variant's base class is the one that is wanted.
        ("tiny_electra/variants/multiple_choice", &[]),
        ("tiny_deberta/model", &["pooler.dense", "classifier"]),
        ("tiny_modernbert/model", &["classifier"]),
    ] {
        let (_, report) = load(&golden(base), false);
        let mut new: Vec<&str> = report
            .initialised
            .iter()
            .map(|(name, _)| name.rsplit_once('.').unwrap().0)
            .collect();
        new.dedup();
        assert_eq!(new, fresh, "{base}: {report:?}");
    }
    // And the other way round: a classifier reads no pooler and no head for choices.
    let (_, report) = crate::support::classifier::<Cpu>(
        &model_dir("roberta"),
        crate::support::labels(3),
        None,
        &Default::default(),
    );
    let ignored: Vec<&str> = report
        .ignored
        .iter()
        .map(|(name, _)| name.as_str())
        .collect();
    for name in ["roberta.pooler.dense.weight", "classifier.weight"] {
        assert!(ignored.contains(&name), "{report:?}");
    }
}
