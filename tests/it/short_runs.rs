//! Short runs of each family of encoders: gradient checkpointing changes nothing, and what was saved is read by transformers and by
//! PEFT, with equal predictions.
#![allow(clippy::unwrap_used)]

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use rekindle::config::Device;
use rekindle::{Prediction, Predictor, RunConfig, Silent};
use rekindle_tests::{Need, need};
use serde_json::json;

use crate::families::FAMILIES;
use crate::support::{golden, json as fixture};

/// How a run tunes, and which layers get adapters where it does so by them.
const METHODS: [(&str, &str); 4] = [
    ("full", "auto"),
    ("head", "auto"),
    ("lora", "auto"),
    ("lora", "all-linear"),
];

/// The texts of a family's fixture that are not empty, alone.
fn texts(folder: &str) -> Vec<String> {
    let fixture = fixture(&format!("{folder}/expected.json"));
    let texts = fixture["texts"].as_array().unwrap().iter();
    let texts = texts.map(|case| case["text"].as_str().unwrap().to_owned());
    texts.filter(|text| !text.trim().is_empty()).collect()
}

/// A run of a few steps in `dir`, at a rate that moves everything, with `more` settings of `[train]`; its `final/`.
fn tuned(dir: &Path, folder: &str, (method, targets): (&str, &str), more: &str) -> PathBuf {
    let texts = texts(folder);
    let mut examples = String::new();
    for (i, text) in texts.iter().cycle().take(4 * texts.len()).enumerate() {
        let label = ["angry", "glad", "asking", "neither"][i % 4];
        writeln!(examples, "{}", json!({"text": text, "label": label})).unwrap();
    }
    std::fs::create_dir_all(dir).unwrap();
    std::fs::write(dir.join("train.jsonl"), examples).unwrap();
    let run_file = format!(
        "task = \"text-classification\"\noutput_dir = {:?}\n[model]\nname = {:?}\n\
         [data]\ntrain = {:?}\nvalidation = {:?}\nmax_length = 30\n\
         [peft]\nmethod = {method:?}\ntarget_modules = {targets:?}\n\
         [train]\nepochs = 3\nbatch_size = 8\nlearning_rate = 5e-3\nhead_learning_rate = 5e-3\n{more}",
        dir.join("run"),
        golden(folder).join("model"),
        dir.join("train.jsonl"),
        dir.join("train.jsonl"),
    );
    std::fs::write(dir.join("run.toml"), run_file).unwrap();
    let config = RunConfig::load(Some(&dir.join("run.toml")), &[]).unwrap();
    rekindle::finetune(&config, &Silent).unwrap().final_dir
}

/// A file in `dir` of what a model says of the texts, a line each.
fn predictions(dir: &Path, folder: &str, model: &Path) -> PathBuf {
    let texts = texts(folder);
    let predictor = Predictor::open(model, Device::Cpu, &Silent).unwrap();
    let mut lines = String::new();
    for (text, said) in texts.iter().zip(predictor.predict(&texts).unwrap()) {
        let Prediction::Class {
            label,
            probabilities,
            ..
        } = said
        else {
            panic!("{folder}: {said:?}")
        };
        let probabilities: serde_json::Map<_, _> = probabilities
            .into_iter()
            .map(|(label, probability)| (label, probability.into()))
            .collect();
        let line = json!({"text": text, "label": label, "probabilities": probabilities});
        writeln!(lines, "{line}").unwrap();
    }
    let said = dir.join("predictions.jsonl");
    std::fs::write(&said, lines).unwrap();
    said
}

/// Units that are computed again put out the same, also those that apply a layer several times.
#[test]
fn gradient_checkpointing_changes_nothing() {
    let all = tempfile::tempdir().unwrap();
    for (folder, _) in FAMILIES {
        for (method, weights) in [
            ("full", "model.safetensors"),
            ("lora", "adapter_model.safetensors"),
        ] {
            let saved = |on: bool| {
                let dir = all.path().join(format!("{folder}-{method}-{on}"));
                let more = format!("gradient_checkpointing = {on}\n");
                let model = tuned(&dir, folder, (method, "all-linear"), &more);
                std::fs::read(model.join(weights)).unwrap()
            };
            // DeBERTa's layers share a normed table, whose gradient is then added up in another order (`families.rs` compares what comes of it).
            if (folder, method) == ("tiny_deberta", "full") {
                continue;
            }
            assert!(saved(false) == saved(true), "{folder}, {method}");
        }
    }
}

#[test]
#[ignore = "needs Python with libraries: REKINDLE_TEST_PYTHON=path/to/python cargo xtask test"]
fn transformers_and_peft_predict_what_we_do() {
    let python = std::env::var("REKINDLE_TEST_PYTHON");
    let python = python.map_err(|_| "REKINDLE_TEST_PYTHON is not set");
    let Some(python) = need(Need::Libraries, python) else {
        return;
    };
    let all = tempfile::tempdir().unwrap();
    for (folder, family) in FAMILIES {
        for (n, method) in METHODS.into_iter().enumerate() {
            let dir = all.path().join(format!("{folder}-{n}"));
            let model = tuned(&dir, folder, method, "");
            let said = predictions(&dir, folder, &model);
            let mut check = Command::new(&python);
            match method.0 {
                "lora" => {
                    check.arg(golden("tools/check_peft.py")).arg(&model);
                    check.arg(golden(folder).join("model"))
                }
                _ => check.arg(golden("tools/check_full.py")).arg(&model),
            };
            check.arg(&said).args(["--max-length", "30"]);
            let output = check.output().unwrap();
            let told = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{family}, {method:?}: {told}");
            let last = told.lines().last().unwrap_or_default();
            println!("{family}, {method:?}: {last}");
        }
    }
}
