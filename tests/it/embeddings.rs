//! Sentence embeddings: vectors, and whole runs whose 20 losses, gradient norms and final vectors are those of sentence-transformers;
//! adapters that are read back and merged; few-shot classification.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use rekindle::config::{Device, Method, Override};
use rekindle::{Embedder, FinishedRun, Predictor, RunConfig, Section, Silent, Task, merge};
use rekindle_tests::{Need, need};
use rekindle_weights::WeightFiles;
use serde_json::{Value, json};

use crate::support::{
    Events, assert_close, golden, json as fixture_file, minilm, numbers, run_difference, steps,
};

const MODELS: [&str; 2] = ["bert", "distilbert"];

/// Absolute, on vectors that the fixtures have in float64; those of length 1 and those as they are, which are below 10.
const VECTORS: f32 = 1e-5;
/// Absolute, on losses of 20 steps. Leaving out the hard negatives moves them by more than 1e-1.
const LOSS: f64 = 5e-5;
/// Relative, on gradient norms.
const GRAD_NORM: f64 = 1e-4;
/// Relative: the schedules are the same formula in f64.
const LEARNING_RATE: f64 = 1e-12;
/// Absolute, on vectors after 20 steps at a rate of 2e-3, by their largest number.
const VECTORS_AFTER: f32 = 2e-3;

fn fixture(model: &str, file: &str) -> Value {
    fixture_file(&format!("tiny_embeddings/{model}/{file}"))
}

fn model_dir(model: &str) -> PathBuf {
    golden("tiny_embeddings").join(model).join("model")
}

fn texts(value: &Value) -> Vec<String> {
    let texts = value.as_array().unwrap().iter();
    texts
        .map(|text| text.as_str().unwrap().to_owned())
        .collect()
}

fn vectors(model: &Path, texts: &[String]) -> Vec<f32> {
    let embedder = Embedder::open(model, Device::Cpu, &Silent).unwrap();
    embedder.embed(texts).unwrap().concat()
}

/// A run file with what all runs here have.
fn config(model: &Path, dir: &Path, train: &Path, more: &[&str]) -> RunConfig {
    let validation = dir.join("validation.jsonl");
    let set = [
        "task=\"text-embedding\"".to_owned(),
        format!("output_dir={:?}", dir.join("run")),
        format!("model.name={model:?}"),
        format!("data.train={train:?}"),
        format!(
            "data.validation={:?}",
            if validation.exists() {
                &validation
            } else {
                train
            }
        ),
        "data.max_length=30".into(),
    ];
    let set = set.iter().map(String::as_str).chain(more.iter().copied());
    let overrides: Vec<Override> = set.map(Override::set).collect();
    RunConfig::load(None, &overrides).unwrap()
}

/// The rows of a fixture as a training file.
fn write_rows(path: &Path, training: &Value, loss: &str) {
    let rows = training["rows"].as_array().unwrap().iter();
    let line = |row: &Value| {
        let texts = &row["texts"];
        match loss {
            "cosine" => {
                json!({"sentence1": texts[0], "sentence2": texts[1], "score": row["score"]})
            }
            _ => json!({"anchor": texts[0], "positive": texts[1], "negative": texts[2]}),
        }
        .to_string()
    };
    std::fs::write(path, rows.map(line).collect::<Vec<_>>().join("\n")).unwrap();
}

fn train(model: &str, loss: &str, folder: &Path, more: &[&str]) -> (FinishedRun, Events) {
    let training = fixture(model, &format!("{loss}.json"));
    let path = folder.join("train.jsonl");
    write_rows(&path, &training, loss);
    let number = |key: &str| format!("{}", training[key].as_f64().unwrap());
    let mut set = vec![
        "model.dropout=0".to_owned(),
        "peft.method=\"full\"".into(),
        "train.epochs=1".into(),
        "train.batch_size=4".into(),
        "train.shuffle=false".into(),
        "train.group_by_length=false".into(),
        "train.log_every_steps=1".into(),
        "eval.choose=\"last\"".into(),
        format!("train.learning_rate={}", number("learning_rate")),
        format!("train.weight_decay={}", number("weight_decay")),
        format!("train.max_grad_norm={}", number("max_grad_norm")),
        format!("train.warmup_steps={}", number("warmup_steps")),
    ];
    if loss == "matryoshka" {
        set.push(format!("embedding.matryoshka_dims={}", training["dims"]));
    }
    set.extend(more.iter().map(|more| (*more).to_owned()));
    let set: Vec<&str> = set.iter().map(String::as_str).collect();
    let config = config(&model_dir(model), folder, &path, &set);
    let events = Events::default();
    let finished = rekindle::finetune(&config, &events).unwrap();
    (finished, events)
}

#[test]
fn vectors_are_those_of_sentence_transformers() {
    for name in MODELS {
        let expected = fixture(name, "expected.json");
        let cases = expected["vectors"].as_array().unwrap();
        let sentences: Vec<String> = cases
            .iter()
            .map(|case| case["text"].as_str().unwrap().to_owned())
            .collect();
        let right: Vec<f32> = cases
            .iter()
            .flat_map(|case| numbers(&case["vector"]))
            .collect();
        let found = vectors(&model_dir(name), &sentences);
        let largest = assert_close(name, &found, &right, VECTORS);
        println!("{name}: vectors within {largest:.1e}");
    }
}

/// Also where a batch goes through the model in parts, which do not divide it, and where each layer is computed again.
#[test]
fn whole_runs_have_the_losses_of_sentence_transformers() {
    let ways: [&[&str]; 3] = [
        &[],
        &["embedding.mini_batch_size=5"],
        &[
            "embedding.mini_batch_size=3",
            "train.gradient_checkpointing=true",
        ],
    ];
    for name in MODELS {
        for loss in ["mnrl", "cosine", "matryoshka"] {
            for (way, more) in ways.iter().enumerate() {
                if way == 2 && loss != "mnrl" {
                    continue;
                }
                let folder = tempfile::tempdir().unwrap();
                let (finished, events) = train(name, loss, folder.path(), more);
                let training = fixture(name, &format!("{loss}.json"));
                let found = steps(&events.0.into_inner().unwrap());
                let apart = run_difference(&found, &training["steps"]);
                println!("{name} {loss} {more:?}: {apart}");
                let what = format!("{name} {loss} {more:?}: {apart:?}");
                assert!(apart.loss <= LOSS, "{what}");
                assert!(apart.learning_rate <= LEARNING_RATE, "{what}");
                assert!(apart.grad_norm <= GRAD_NORM, "{what}");
                let right: Vec<f32> = training["vectors_after"]
                    .as_array()
                    .unwrap()
                    .iter()
                    .flat_map(numbers)
                    .collect();
                let found = vectors(&finished.final_dir, &texts(&training["sentences"]));
                assert_close(&what, &found, &right, VECTORS_AFTER);
            }
        }
    }
}

/// What sentence-transformers needs is there, the weights have the names of the encoder alone, and the report knows the base.
#[test]
fn what_is_saved_is_whole() {
    let folder = tempfile::tempdir().unwrap();
    let (finished, _) = train("bert", "mnrl", folder.path(), &[]);
    let dir = &finished.final_dir;
    let read = |file: &str| -> Value {
        serde_json::from_str(&std::fs::read_to_string(dir.join(file)).unwrap()).unwrap()
    };
    assert_eq!(read("config.json")["architectures"], json!(["BertModel"]));
    assert!(read("config.json").get("id2label").is_none());
    assert_eq!(read("modules.json").as_array().unwrap().len(), 3);
    assert_eq!(
        read("1_Pooling/config.json")["pooling_mode_mean_tokens"],
        true
    );
    assert_eq!(read("sentence_bert_config.json")["max_seq_length"], 30);
    let names: BTreeSet<String> = WeightFiles::open(&dir.join("model.safetensors"))
        .unwrap()
        .names()
        .map(str::to_owned)
        .collect();
    assert!(
        names.contains("embeddings.word_embeddings.weight"),
        "{names:?}"
    );
    assert!(
        names
            .iter()
            .all(|name| !name.starts_with("bert.") && !name.contains("classifier"))
    );
    let card = std::fs::read_to_string(dir.join("README.md")).unwrap();
    assert!(card.contains("SentenceTransformer(folder)"), "{card}");

    let Some(Section::Embeddings { rows }) = finished.figures.sections.first() else {
        panic!("{:?}", finished.figures.sections);
    };
    let tuned = rows.iter().find(|row| row.key == "ndcg_at_10").unwrap();
    assert!(
        tuned
            .base
            .is_some_and(|base| base.is_finite() && base != tuned.value)
    );
    assert!(
        finished
            .figures
            .guess
            .as_ref()
            .is_some_and(|guess| guess.is_base())
    );
    let report = std::fs::read_to_string(&finished.report_html).unwrap();
    assert!(report.contains("Embeddings") && report.contains("nDCG@10"));

    // It is evaluated on a file as in its run, is no classifier, and is tuned further.
    let mut predictor = Predictor::open(dir, Device::Cpu, &Silent).unwrap();
    assert_eq!(predictor.task(), Task::TextEmbedding);
    assert!(predictor.check_predicts().is_err());
    let settings = predictor.configure(&[]).unwrap();
    let train_file = folder.path().join("train.jsonl");
    let again = predictor.evaluate(&train_file, &settings, &Silent).unwrap();
    let ndcg = again.figures.get("ndcg_at_10").unwrap();
    assert!(
        (ndcg - tuned.value).abs() < 1e-6,
        "{ndcg} is not {}",
        tuned.value
    );
    let further = tempfile::tempdir().unwrap();
    let more = ["train.max_steps=1", "train.epochs=1"];
    rekindle::finetune(&config(dir, further.path(), &train_file, &more), &Silent).unwrap();
}

#[test]
fn an_adapter_is_read_back_and_merged() {
    let folder = tempfile::tempdir().unwrap();
    let more = ["peft.method=\"lora\"", "peft.target_modules=\"all-linear\""];
    for name in MODELS {
        let dir = folder.path().join(name);
        std::fs::create_dir(&dir).unwrap();
        let (finished, _) = train(name, "mnrl", &dir, &more);
        let files =
            WeightFiles::open(&finished.final_dir.join("adapter_model.safetensors")).unwrap();
        let root = match name {
            "bert" => "base_model.model.encoder.layer.0.",
            _ => "base_model.model.transformer.layer.0.",
        };
        assert!(files.names().any(|tensor| tensor.starts_with(root)));
        let training = fixture(name, "mnrl.json");
        let sentences = texts(&training["sentences"]);
        let (before, tuned) = (
            vectors(&model_dir(name), &sentences),
            vectors(&finished.final_dir, &sentences),
        );
        assert!(before.iter().zip(&tuned).any(|(a, b)| (a - b).abs() > 1e-2));
        let merged = dir.join("merged");
        let done = merge(&finished.final_dir, &merged, None, Device::Cpu, &Silent).unwrap();
        assert!(
            done.largest_difference < 1e-4,
            "{}",
            done.largest_difference
        );
        assert_close(name, &vectors(&merged, &sentences), &tuned, 1e-4);
        assert!(merged.join("1_Pooling/config.json").is_file());
    }
}

/// Labelled texts learn too, and the figures are of neighbours.
#[test]
fn labelled_texts_are_drawn_in_pairs() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("train.csv");
    let rows: Vec<String> = (0..24)
        .map(|i| match i % 3 {
            0 => format!("refund money back {i},money"),
            1 => format!("lost the card {i},card"),
            _ => format!("change password account {i},account"),
        })
        .collect();
    std::fs::write(
        &path,
        format!("text,label\n{}\nalone,other\n", rows.join("\n")),
    )
    .unwrap();
    let more = [
        "peft.method=\"full\"",
        "train.learning_rate=1e-3",
        "train.epochs=6",
        "train.batch_size=6",
    ];
    let config = config(&model_dir("bert"), folder.path(), &path, &more);
    let finished = rekindle::finetune(&config, &Silent).unwrap();
    let nearest = finished.figures.get("accuracy_at_1").unwrap();
    assert!(nearest > 0.8, "{}", finished.figures.text());
}

/// Few texts of each label: the encoder learns in pairs, the head is a logistic regression, and the result is a classifier as any.
#[test]
fn few_shot_classification() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, from: usize, to: usize| {
        let row = |i: usize| match i % 2 {
            0 => format!("please refund my money back now {i},refund"),
            _ => format!("I lost the card it was great {i},card"),
        };
        let rows: Vec<String> = (from..to).map(row).collect();
        let path = folder.path().join(name);
        std::fs::write(&path, format!("text,label\n{}\n", rows.join("\n"))).unwrap();
        path
    };
    let (train, validation) = (write("train.csv", 0, 8), write("validation.csv", 8, 40));
    let config = |more: &[&str]| {
        let set = [
            format!("output_dir={:?}", folder.path().join("run")),
            format!("model.name={:?}", model_dir("bert")),
            format!("data.train={train:?}"),
            format!("data.validation={validation:?}"),
            "peft.method=\"setfit\"".to_owned(),
            "train.learning_rate=1e-3".to_owned(),
        ];
        let set = set.iter().map(String::as_str).chain(more.iter().copied());
        RunConfig::load(None, &set.map(Override::set).collect::<Vec<_>>()).unwrap()
    };
    let run = config(&[]);
    assert_eq!(
        (run.peft.method, run.task),
        (Method::Setfit, Task::TextClassification)
    );
    let finished = rekindle::finetune(&run, &Silent).unwrap();
    // 8 texts and one of each label's name are one batch, of which all pairs are compared.
    assert_eq!(finished.steps, 30);
    assert_eq!(run.train.batch_size, 64);
    let accuracy = finished.figures.get("accuracy").unwrap();
    assert!(accuracy > 0.9, "{}", finished.figures.text());
    let mut predictor = Predictor::open(&finished.final_dir, Device::Cpu, &Silent).unwrap();
    let settings = predictor.configure(&[]).unwrap();
    let again = predictor.evaluate(&validation, &settings, &Silent).unwrap();
    assert_eq!(again.figures.get("accuracy"), Some(accuracy));
    let loss = |figures: &rekindle::Figures| figures.get("loss").unwrap();
    assert!((loss(&again.figures) - loss(&finished.figures)).abs() < 1e-5);

    // A head that is more than one map cannot be fitted so.
    let other = format!("model.name={:?}", model_dir("distilbert"));
    let elsewhere = format!("output_dir={:?}", folder.path().join("other"));
    let error = rekindle::finetune(&config(&[&other, &elsewhere]), &Silent).unwrap_err();
    assert!(error.to_string().contains("setfit"), "{error}");
}

/// AG News, 8 texts a class, 10 draws: SetFit with MiniLM beside a linear probe, on all other rows.
#[test]
#[ignore = "needs AG News as lines of text, tab, label, and an hour: REKINDLE_AGNEWS=path/to/train.tsv cargo xtask test"]
fn few_shot_on_ag_news() {
    /// SetFit's published accuracy is 0.83, and so is ours (0.8300): less what other instructions of a CPU may turn. And how much
    /// better than the probe it is, at least.
    const LEAST: f64 = 0.825;
    const GAIN: f64 = 0.05;
    let asked = std::env::var("REKINDLE_AGNEWS").map_err(|_| "REKINDLE_AGNEWS is not set");
    let (Some(file), Some(model)) = (need(Need::Shared, asked), minilm()) else {
        return;
    };
    let text = std::fs::read_to_string(file).unwrap();
    let lines: Vec<&str> = text.lines().filter(|line| line.contains('\t')).collect();
    let mut means = [0.0; 2];
    for draw in 0..10u64 {
        let mut order: Vec<usize> = (0..lines.len()).collect();
        rekindle_base::rng::shuffle(&mut order, draw, 500, 0);
        let mut count = std::collections::BTreeMap::new();
        let (few, rest): (Vec<usize>, Vec<usize>) = order.into_iter().partition(|&i| {
            let label = lines[i].rsplit('\t').next().unwrap();
            let seen: &mut usize = count.entry(label).or_default();
            *seen += 1;
            *seen <= 8
        });
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, rows: &[usize]| {
            let rows: Vec<&str> = rows.iter().map(|&i| lines[i]).collect();
            let path = folder.path().join(name);
            std::fs::write(&path, rows.join("\n")).unwrap();
            path
        };
        assert_eq!(few.len(), 32);
        let (train, test) = (write("train.tsv", &few), write("test.tsv", &rest));
        for (mean, method) in means.iter_mut().zip(["setfit", "head"]) {
            let set = [
                format!("output_dir={:?}", folder.path().join(method)),
                format!("model.name={model:?}"),
                format!("data.train={train:?}"),
                format!("data.validation={test:?}"),
                "data.header=false".into(),
                format!("peft.method={method:?}"),
                "model.pooling=\"mean\"".into(),
                format!("seed={draw}"),
            ];
            let overrides: Vec<Override> = set.iter().map(|set| Override::set(set)).collect();
            let config = RunConfig::load(None, &overrides).unwrap();
            let figures = rekindle::finetune(&config, &Silent).unwrap().figures;
            let accuracy = figures.get("accuracy").unwrap();
            println!("draw {draw} {method}: {accuracy:.4}");
            *mean += accuracy / 10.0;
        }
    }
    println!(
        "mean of 10 draws: SetFit {:.4}, linear probe {:.4}",
        means[0], means[1]
    );
    assert!(
        means[0] >= LEAST && means[0] >= means[1] + GAIN,
        "{means:?}"
    );
}
