//! Faults that users met, one test a kind, on the tiny BERT and the real binary.
#![allow(clippy::unwrap_used)]

mod support;

use serde_json::{Value, json};
use std::{
    fs::{self, File},
    path::Path,
    process::Output,
};
use support::{Dir, examples};

/// Runs `rekindle`, which must refuse with exit code 1, and returns what it said.
fn refused(dir: &Dir, arguments: &str) -> String {
    let output = dir.rekindle(arguments);
    let said = dir.plain(&output.stderr);
    assert_eq!(
        output.status.code(),
        Some(1),
        "rekindle {arguments}\n{said}"
    );
    assert!(said.contains("hint: "), "rekindle {arguments}\n{said}");
    said
}

/// Runs `rekindle`, which must refuse with all of these words.
fn refused_with(dir: &Dir, arguments: &str, words: &[&str]) {
    let said = refused(dir, arguments);
    for word in words {
        assert!(
            said.contains(word),
            "rekindle {arguments}: no `{word}`\n{said}"
        );
    }
}

/// A folder of the golden data for tests.
fn golden(name: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../tests/golden")
        .join(name)
}

/// Every verb panicked, and with standard error full too it aborted.
#[test]
#[cfg(target_os = "linux")]
fn a_full_or_closed_standard_output_is_no_fault_of_ours() {
    let dir = Dir::new();
    dir.adapter();
    let run = |arguments: &str, stdout: File, stderr: Option<File>| -> Output {
        let mut command = dir.command(env!("CARGO_BIN_EXE_rekindle"));
        command.args(arguments.split_whitespace()).stdout(stdout);
        match stderr {
            Some(file) => command.stderr(file),
            None => command.stderr(std::process::Stdio::piped()),
        };
        command.spawn().unwrap().wait_with_output().unwrap()
    };
    let full = || File::options().write(true).open("/dev/full").unwrap();
    dir.write("known.csv", examples().replace("refund", "complaint"));
    for arguments in [
        "--help",
        "evaluate model known.csv",
        "evaluate model known.csv --json",
        "inspect model --tensors",
        "init train.csv -o -",
        "init train.csv --force",
        "merge adapter --to MERGED",
        "fetch ./model",
        "predict model good",
        "predict model --file train.csv",
        "finetune --model model --train train.csv --epochs 1 -o RUN",
    ] {
        let fresh = |name: &str| arguments.replace("MERGED", name).replace("RUN", name);
        let output = run(&fresh("full"), full(), None);
        let said = dir.plain(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{arguments}: {said}");
        assert!(
            said.contains("error: cannot write to standard output: No space left on device"),
            "{arguments}: {said}"
        );
        let _ = fs::remove_dir_all(dir.path("full"));
        let output = run(&fresh("full"), full(), Some(full()));
        assert_eq!(output.status.code(), Some(1), "{arguments}: both full");

        // A pipe that nobody reads any more.
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let writer = File::from(std::os::fd::OwnedFd::from(writer));
        let output = run(&fresh("closed"), writer, None);
        let said = dir.plain(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "{arguments}: {said}");
        assert!(!said.contains("error"), "{arguments}: {said}");
    }
}

/// `finetune` refused models that `predict` and `inspect` loaded.
#[test]
fn a_model_is_one_by_whatever_name_its_weights_have() {
    let pickle = golden("tiny_bert/variants/pickle/pytorch_model.bin");
    let map = |shard: &str| {
        let index = json!({"weight_map": {"classifier.weight": shard}});
        index.to_string()
    };
    for (weights, index) in [
        ("pytorch_model.bin", None),
        (
            "pytorch_model-00001-of-00001.bin",
            Some("pytorch_model.bin.index.json"),
        ),
        ("tiny.pth", None),
        (
            "model-00001-of-00001.safetensors",
            Some("model.safetensors.index.json"),
        ),
        ("tiny.safetensors", None),
    ] {
        let dir = Dir::new();
        if weights.ends_with(".safetensors") {
            let from = dir.path("model/model.safetensors");
            fs::rename(from, dir.path("model").join(weights)).unwrap();
        } else {
            dir.remove("model/model.safetensors");
            dir.write(&format!("model/{weights}"), fs::read(&pickle).unwrap());
        }
        if let Some(index) = index {
            dir.write(&format!("model/{index}"), map(weights));
        }
        dir.ok("predict model good");
        dir.ok("inspect model");
        dir.ok("finetune --model model --train train.csv --dry-run");
    }
}

/// The default adapters matched no layer of a DistilBERT.
#[test]
fn default_adapters_suit_the_family_and_the_plan_names_them() {
    for (family, layers) in [
        ("tiny_bert", "on 4 layers (query, value)"),
        ("tiny_distilbert", "on 4 layers (q_lin, v_lin)"),
    ] {
        let dir = Dir::new();
        for entry in fs::read_dir(golden(family).join("model")).unwrap() {
            let entry = entry.unwrap();
            let name = entry.file_name().into_string().unwrap();
            dir.write(&format!("model/{name}"), fs::read(entry.path()).unwrap());
        }
        let output = dir.rekindle("finetune --model model --train train.csv --epochs 1 -o run");
        let said = dir.plain(&output.stderr);
        assert!(output.status.success(), "{family}: {said}");
        assert!(said.contains(layers), "{family}: {said}");
        dir.ok("predict run good");
    }
}

/// Names of outputs were lost, or refused without a word of where they stand.
#[test]
fn names_of_outputs_in_every_form_of_config_json() {
    let labels_of =
        |change: fn(&mut serde_json::Map<String, Value>)| -> Result<Vec<String>, String> {
            let dir = Dir::new();
            dir.json("model/config.json", |config| {
                config.remove("id2label");
                config.remove("label2id");
                change(config);
            });
            let output = dir.rekindle("predict model good");
            match output.status.success() {
                true => {
                    let line: Value = serde_json::from_slice(&output.stdout).unwrap();
                    let names = line["probabilities"].as_object().unwrap().keys();
                    Ok(names.cloned().collect())
                }
                false => Err(dir.plain(&output.stderr)),
            }
        };
    let names = |names: [&str; 3]| Ok(names.map(str::to_owned).to_vec());
    assert_eq!(labels_of(|_| ()), names(["LABEL_0", "LABEL_1", "LABEL_2"]));
    assert_eq!(
        labels_of(|c| drop(c.insert("id2label".into(), json!({"0": 3, "1": 1, "2": 2})))),
        names(["3", "1", "2"])
    );
    assert_eq!(
        labels_of(|c| drop(c.insert(
            "label2id".into(),
            json!({"praise": 1, "other": 0, "question": 2})
        ))),
        names(["other", "praise", "question"])
    );
    assert_eq!(
        labels_of(|c| drop(c.insert("id2label".into(), json!({"0": "x", "1": "x", "2": "y"})))),
        names(["x", "x (1)", "y"])
    );
    for (wrong, said) in [
        (
            labels_of(|c| drop(c.insert("id2label".into(), json!({"0": "a", "1": "b"})))),
            "config.json: it names 2 labels (a, b), but the head in the weights has 3 outputs",
        ),
        (
            labels_of(|c| drop(c.insert("label2id".into(), json!({"a": "0"})))),
            "config.json: `label2id` maps `a` to \"0\", expected a number and a name",
        ),
    ] {
        let error = wrong.unwrap_err();
        assert!(error.contains(said) && error.contains("hint: "), "{error}");
    }
}

/// Thresholds of another model were dropped without a word.
#[test]
fn thresholds_must_be_as_many_as_labels() {
    let dir = Dir::new();
    dir.write(
        "model/rekindle.json",
        json!({
            "rekindle": "0.1.0", "task": "text-multi-label", "labels": ["a", "b", "c"],
            "max_length": 32, "pooling": "cls", "thresholds": [0.5, 0.25],
        })
        .to_string(),
    );
    refused_with(
        &dir,
        "predict model good",
        &["model/rekindle.json: it holds 2 thresholds, but the model has 3 labels"],
    );
}
