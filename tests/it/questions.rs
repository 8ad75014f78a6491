//! Extractive question answering: two logits a token, the best answers, and whole runs through the public interface whose 20 losses,
//! gradient norms and final logits are those of transformers.
#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};

use rekindle::config::Device;
use rekindle::{Prediction, Predictor, Query, RunConfig, Silent, Task};
use rekindle_data::TextEncoder;
use rekindle_data::questions::{QuestionFile, QuestionOptions, QuestionSet, read_questions};
use rekindle_metrics::{SquadVersion, extractive_score};
use rekindle_models::{HeadSpec, Model, Pretrained, Problem, TextInput};
use rekindle_nn::{Pass, Sequences};
use serde_json::{Value, json};

use crate::support::{
    Cpu, ENCODERS, FORWARD, LOGITS_AFTER, WholeRun, assert_close, batch_order, centred, golden,
    ids, json as fixture_file, numbers, whole_run,
};

fn fixture(model: &str, file: &str) -> Value {
    fixture_file(&format!("tiny_questions/{model}/{file}"))
}

fn model_dir(model: &str) -> PathBuf {
    golden("tiny_questions").join(model).join("model")
}

/// The questions of a fixture in this order, as JSON lines.
fn write_questions(path: &Path, cases: &Value, order: impl IntoIterator<Item = usize>) {
    let row = |index: usize| {
        let case = &cases[index];
        json!({ "question": case["question"], "context": case["context"], "answers": case["answers"] })
            .to_string()
    };
    let rows: Vec<String> = order.into_iter().map(row).collect();
    std::fs::write(path, rows.join("\n")).unwrap();
}

fn all(cases: &Value) -> std::ops::Range<usize> {
    0..cases.as_array().unwrap().len()
}

fn encoded(dir: &Path, cases: &Value) -> QuestionSet {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("cases.jsonl");
    write_questions(&path, cases, all(cases));
    let read = read_questions(&path, QuestionFile::default()).unwrap();
    let encoder = TextEncoder::from_dir(dir, None).unwrap();
    let options = QuestionOptions {
        overlap: 0,
        ..QuestionOptions::default()
    };
    encoder.encode_questions(&read.rows, options).unwrap()
}

/// Logits of the tokens of all questions, one after the other.
fn logits(dir: &Path, cases: &Value) -> Vec<f32> {
    let pretrained = Pretrained::open(dir).unwrap();
    let config = pretrained.config();
    assert_eq!(config.problem, Some(Problem::Span));
    let set = encoded(dir, cases);
    let head = HeadSpec {
        outputs: 2,
        labels: config.labels.clone(),
        problem: Problem::Span,
        reads: None,
        seed: 0,
        require: true,
    };
    let device = Default::default();
    let (model, _) = Model::<Cpu>::from_pretrained(&pretrained, &head, &device).unwrap();
    let windows: Vec<usize> = (0..set.windows.len()).collect();
    let batch = set.pack(&windows);
    let input = TextInput::new(
        batch.text.ids.clone(),
        batch.text.type_ids.clone(),
        Sequences::new(batch.text.offsets.clone()),
        &device,
    );
    rekindle_nn::host::values(model.forward(input.into(), Pass::evaluation())).unwrap()
}

#[test]
fn logits_of_tokens_and_token_ids() {
    for name in ENCODERS {
        let expected = fixture(name, "expected.json");
        let cases = &expected["cases"];
        let right = cases.as_array().unwrap().iter();
        let right: Vec<f32> = right.flat_map(|case| numbers(&case["logits"])).collect();
        let largest = assert_close(name, &logits(&model_dir(name), cases), &right, FORWARD);
        println!("{name}: logits within {largest:.1e}");
        let set = encoded(&model_dir(name), cases);
        for (case, item) in cases.as_array().unwrap().iter().zip(&set.set.items) {
            assert_eq!(item.ids, ids(&case["input_ids"]), "{name}: {case}");
        }
    }
}

/// A model that transformers saved says by its class what it is for, and gives the best pair of tokens as its answer.
#[test]
fn answers_are_the_best_pieces() {
    let folder = tempfile::tempdir().unwrap();
    for name in ENCODERS {
        let expected = fixture(name, "expected.json");
        let cases = &expected["cases"];
        let mut predictor = Predictor::open(&model_dir(name), Device::Cpu, &Silent).unwrap();
        assert_eq!(predictor.task(), Task::QuestionAnswering);
        let config = predictor.configure(&[]).unwrap();
        let rows = cases.as_array().unwrap();
        let text = |case: &Value, key: &str| case[key].as_str().unwrap().to_owned();
        let mut queries: Vec<Query> = rows
            .iter()
            .map(|case| {
                let mut query = Query::new(None, text(case, "question"));
                query.text_pair = Some(text(case, "context"));
                query
            })
            .collect();
        // One without a text in their midst gets a reason, and the others their own answers.
        queries.insert(1, Query::new(None, "why?"));
        let mut answers = predictor.answer(&queries).unwrap();
        assert!(answers.remove(1).unwrap_err().contains("no text"));
        for (case, answer) in rows.iter().zip(answers) {
            let Prediction::Answer { answer, .. } = answer.unwrap() else {
                panic!("no answer to a question");
            };
            let found = answer.unwrap();
            assert_eq!(found.text, case["best"], "{name}: {case}");
            let context: Vec<char> = case["context"].as_str().unwrap().chars().collect();
            let stands: String = context[found.start..found.end].iter().collect();
            assert_eq!(stands, found.text);
        }

        let path = folder.path().join(format!("{name}.jsonl"));
        write_questions(&path, cases, all(cases));
        let evaluated = predictor.evaluate_each(&path, None, &config, &Silent);
        let evaluated = evaluated.unwrap();
        let right = rows.iter().filter(|case| {
            let answers = case["answers"]["text"].as_array().unwrap().iter();
            let answers: Vec<&str> = answers.map(|answer| answer.as_str().unwrap()).collect();
            let best = case["best"].as_str().unwrap();
            extractive_score(best, &answers, SquadVersion::V2).exact
        });
        let exact = right.count() as f64 / rows.len() as f64;
        assert_eq!(evaluated.figures.get("exact_match"), Some(exact), "{name}");
        assert!(evaluated.figures.get("answer_f1").unwrap() >= exact);
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
            task: "question-answering",
            model: &model_dir(name),
            dir: &dir,
            extension: "jsonl",
            training: &training,
            data: "max_length = 30\n",
            train: "",
        });
        apart.hold_for_a_head(name);

        // What was saved is a model of the same problem, with the same answers.
        let after = training["logits_after"].as_array().unwrap();
        let lengths: Vec<usize> = after
            .iter()
            .map(|case| case.as_array().unwrap().len())
            .collect();
        let right = centred(numbers(&training["logits_after"]), 2, &lengths);
        let found = centred(logits(&finished.final_dir, cases), 2, &lengths);
        let largest = assert_close(name, &found, &right, LOGITS_AFTER);
        println!("{name}: logits after 20 steps within {largest:.1e}");
    }
}

/// Long texts are read in windows, some of which hold no answer; the answer is found in whichever window has it.
#[test]
fn windows_are_of_one_question() {
    let folder = tempfile::tempdir().unwrap();
    let context = format!(
        "{} two cafe {}",
        "the card ".repeat(20),
        "money back ".repeat(20)
    );
    let row = |question: &str, answer: &str| {
        json!({ "question": question, "context": context.trim(), "answer": answer }).to_string()
    };
    let path = folder.path().join("long.jsonl");
    let none = json!({ "question": "great day", "context": "I lost it", "is_impossible": true });
    let rows = [
        row("help", "two cafe"),
        none.to_string(),
        row("please", "two"),
    ];
    std::fs::write(&path, rows.join("\n")).unwrap();
    let run_file = format!(
        "task = \"question-answering\"\noutput_dir = {:?}\n[model]\nname = {:?}\n\
         [data]\ntrain = {path:?}\nvalidation = {path:?}\nmax_length = 24\n[train]\nepochs = 1\n",
        folder.path().join("run"),
        model_dir("bert"),
    );
    std::fs::write(folder.path().join("run.toml"), run_file).unwrap();
    let config = RunConfig::load(Some(&folder.path().join("run.toml")), &[]).unwrap();
    let finished = rekindle::finetune(&config, &Silent).unwrap();
    assert_eq!(finished.figures.n, 3);
    assert!(finished.figures.get("loss").unwrap().is_finite());
    // There are questions without an answer: a threshold was chosen and is kept.
    assert!(finished.figures.get("no_answer").is_some());
    let kept = std::fs::read_to_string(finished.final_dir.join("rekindle.json")).unwrap();
    let kept: Value = serde_json::from_str(&kept).unwrap();
    assert_eq!(kept["thresholds"].as_array().unwrap().len(), 1, "{kept}");
    let mut predictor = Predictor::open(&finished.final_dir, Device::Cpu, &Silent).unwrap();
    let config = predictor.configure(&[]).unwrap();
    let again = predictor.evaluate(&path, &config, &Silent).unwrap();
    assert_eq!(
        again.figures.get("answer_f1"),
        finished.figures.get("answer_f1")
    );
}
