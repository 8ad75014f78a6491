//! What a run leaves for other programs: `results.json`, predictions line by line, TensorBoard's event files, the model's card.
#![allow(clippy::unwrap_used)]

mod support;

use serde_json::{Map, Value};
use std::{collections::BTreeSet, fs};
use support::{Dir, examples, python};

const TUNE: &str = "finetune --model model --train train.csv --epochs 2";
const TUNE_PICTURES: &str = "finetune --task image-classification --model resnet --train pictures --epochs 2 --set train.batch_size=4";

fn results(dir: &Dir, run: &str) -> Map<String, Value> {
    let text = fs::read_to_string(dir.path(run).join("results.json")).unwrap();
    serde_json::from_str(&text).unwrap()
}

fn keys(object: &Map<String, Value>) -> BTreeSet<&str> {
    object.keys().map(String::as_str).collect()
}

/// The keys of every run, whatever its task. Programs read them: none may vanish.
const KEYS: [&str; 24] = [
    "task",
    "split",
    "examples",
    "headline",
    "figures",
    "intervals",
    "base",
    "guess",
    "advice",
    "best_step",
    "lost_best_step",
    "steps",
    "stopped_early",
    "seconds",
    "peak_memory_bytes",
    "validation",
    "examples_by_split",
    "parameters",
    "timings",
    "method",
    "model",
    "data",
    "seed",
    "rekindle",
];

#[test]
fn results_tell_programs_what_a_run_was_and_what_it_gave() {
    let dir = Dir::new();
    dir.ok(&format!("{TUNE} -o run --seed 7"));
    let of_classes = results(&dir, "run");
    let own = ["machine", "labels", "per_label", "confusion", "calibration"];
    let expected: BTreeSet<&str> = KEYS.into_iter().chain(own).collect();
    assert_eq!(keys(&of_classes), expected);

    assert_eq!(of_classes["seed"], 7);
    assert_eq!(of_classes["rekindle"], env!("CARGO_PKG_VERSION"));
    let labels = ["refund", "praise", "question"];
    let of_label = |object: &Value| object["label"].as_str().unwrap().to_owned();
    let per_label = of_classes["per_label"].as_array().unwrap();
    let mut named: Vec<String> = per_label.iter().map(of_label).collect();
    assert_eq!(Value::from(named.clone()), of_classes["labels"]);
    named.sort();
    assert_eq!(named, ["praise", "question", "refund"]);
    for label in per_label {
        let support = label["support"].as_u64().unwrap();
        assert!(support > 0 && label["f1"].is_f64(), "{label}");
    }
    let n = of_classes["examples"].as_u64().unwrap();
    let matrix = of_classes["confusion"].as_array().unwrap();
    assert_eq!(matrix.len(), labels.len());
    let cells = matrix.iter().flat_map(|row| row.as_array().unwrap());
    assert_eq!(cells.map(|cell| cell.as_u64().unwrap()).sum::<u64>(), n);
    let calibration = &of_classes["calibration"];
    assert_eq!(calibration["ece"], of_classes["figures"]["ece"]);
    let bins = calibration["bins"].as_array().unwrap();
    let counted = bins.iter().map(|bin| bin["examples"].as_u64().unwrap());
    assert_eq!(counted.sum::<u64>(), n);

    // The figures are of the validation set, which is too small to choose by: the last evaluation gave the same.
    assert_eq!(of_classes["best_step"], Value::Null);
    assert_eq!(of_classes["validation"]["step"], of_classes["steps"]);
    for (key, value) in of_classes["figures"].as_object().unwrap() {
        assert_eq!(&of_classes["validation"]["figures"][key], value, "{key}");
    }
    assert_eq!(
        of_classes["examples_by_split"],
        serde_json::json!({"train": 30 - n, "validation": n, "test": 0})
    );
    let timings = of_classes["timings"].as_object().unwrap();
    assert!(timings["train, with evaluations"].as_f64().unwrap() > 0.0);
    let sum: f64 = timings
        .values()
        .map(|seconds| seconds.as_f64().unwrap())
        .sum();
    assert!(
        sum <= of_classes["seconds"].as_f64().unwrap(),
        "{timings:?}"
    );

    // Hashes as sha256sum gives them.
    let file = &of_classes["data"]["files"][0];
    assert_eq!(file["split"], "train");
    assert!(file["path"].as_str().unwrap().ends_with("train.csv"));
    assert_eq!(
        file["sha256"],
        rekindle_hub::sha256_of_bytes(examples().as_bytes())
    );
    let weights = fs::read(dir.path("model/model.safetensors")).unwrap();
    assert_eq!(of_classes["model"]["revision"], Value::Null);
    assert_eq!(
        of_classes["model"]["sha256"]["model.safetensors"],
        rekindle_hub::sha256_of_bytes(&weights)
    );
    assert_eq!(of_classes["machine"]["device"], "cpu");
    assert!(of_classes["machine"]["threads"].as_u64().unwrap() > 0);
    let parameters = &of_classes["parameters"];
    assert!(parameters["trained"].as_u64() < parameters["all"].as_u64());
}

#[test]
fn results_of_numbers_and_of_sets_of_labels_have_their_names() {
    let dir = Dir::new();
    let rows = |label: fn(usize) -> String| -> String {
        let rows = (0..30).map(|i| format!("text number {i},{}\n", label(i)));
        rows.collect()
    };
    dir.write(
        "scores.csv",
        format!("text,score\n{}", rows(|i| format!("{i}.5"))),
    );
    let tags = rows(|i| ["late|broken", "late", "broken", ""][i % 4].to_owned());
    dir.write("tags.csv", format!("text,tags\n{tags}"));
    let tune = |file: &str, task: &str| {
        dir.ok(&format!(
            "finetune --model model --train {file} --task {task} --epochs 1 -o {task}"
        ));
        results(&dir, task)
    };
    let numbers = tune("scores.csv", "text-regression");
    assert!(KEYS.iter().all(|key| numbers.contains_key(*key)));
    assert_eq!(numbers["per_label"][0]["label"], "score");
    assert!(numbers["per_label"][0]["mae"].is_f64());
    assert!(!numbers.contains_key("confusion"));

    let sets = tune("tags.csv", "text-multi-label");
    assert!(KEYS.iter().all(|key| sets.contains_key(*key)));
    for (at, label) in ["broken", "late"].into_iter().enumerate() {
        assert_eq!(sets["per_label"][at]["label"], label);
        assert_eq!(
            sets["per_label"][at]["threshold"],
            sets["thresholds"][label]
        );
        assert!(sets["thresholds"][label].is_f64());
    }

    // Line by line, what is right and what was answered.
    dir.ok("evaluate text-regression scores.csv --predictions numbers.jsonl");
    let lines = lines(&dir, "numbers.jsonl");
    assert_eq!(lines.len(), 30);
    assert_eq!(lines[4]["label"]["score"], 4.5);
    let error = lines[4]["predicted"]["score"].as_f64().unwrap() - 4.5;
    assert!((lines[4]["error"]["score"].as_f64().unwrap() - error).abs() < 1e-9);
    let figures: Value =
        serde_json::from_str(&dir.ok("evaluate text-regression scores.csv --json")).unwrap();
    let mean = lines
        .iter()
        .map(|line| line["error"]["score"].as_f64().unwrap().abs());
    let mean = mean.sum::<f64>() / 30.0;
    assert!(
        (figures["mae"].as_f64().unwrap() - mean).abs() < 1e-6,
        "{mean}"
    );

    dir.ok("evaluate text-multi-label tags.csv --predictions sets.jsonl");
    let lines = self::lines(&dir, "sets.jsonl");
    assert_eq!(lines[0]["labels"], serde_json::json!(["broken", "late"]));
    assert_eq!(lines[3]["labels"], serde_json::json!([]));
    for line in &lines {
        assert_eq!(
            line["correct"],
            Value::from(line["labels"] == line["predicted"])
        );
        for (label, probability) in line["probabilities"].as_object().unwrap() {
            let given = line["predicted"]
                .as_array()
                .unwrap()
                .contains(&label.as_str().into());
            let reached = probability.as_f64() >= sets["thresholds"][label].as_f64();
            assert_eq!(given, reached, "{label} {line:?}");
        }
    }
}

fn lines(dir: &Dir, file: &str) -> Vec<Map<String, Value>> {
    let text = fs::read_to_string(dir.path(file)).unwrap();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

#[test]
fn every_prediction_has_its_line() {
    let dir = Dir::new();
    dir.ok(&format!("{TUNE} -o run"));
    let before: Value = serde_json::from_str(&dir.ok("evaluate run train.csv --json")).unwrap();
    let after: Value = serde_json::from_str(
        &dir.ok("evaluate run train.csv --json --predictions predictions.jsonl"),
    )
    .unwrap();
    assert_eq!(before, after);
    let lines = lines(&dir, "predictions.jsonl");
    assert_eq!(lines.len(), 30);
    let rows = examples();
    for (row, (line, text)) in lines.iter().zip(rows.lines().skip(1)).enumerate() {
        let (text, label) = text.rsplit_once(',').unwrap();
        assert_eq!(line["text"], text);
        assert_eq!(line["label"], label);
        assert_eq!(line["line"], row + 2);
        assert_eq!(line["place"], format!("train.csv:{}", row + 2));
        let probabilities = line["probabilities"].as_object().unwrap();
        let sum: f64 = probabilities.values().map(|p| p.as_f64().unwrap()).sum();
        assert!((sum - 1.0).abs() < 1e-6);
        let predicted = line["predicted"].as_str().unwrap();
        assert_eq!(line["probability"], probabilities[predicted]);
        assert_eq!(line["correct"], predicted == label);
        let loss = -probabilities[label].as_f64().unwrap().ln();
        assert!((line["loss"].as_f64().unwrap() - loss).abs() < 1e-6);
    }
    let right = lines.iter().filter(|line| line["correct"] == true).count();
    assert_eq!(after["accuracy"], right as f64 / 30.0);

    // What cannot be written, or must not be replaced, is refused before the work.
    for (file, said) in [
        ("missing/predictions.jsonl", "there is no folder"),
        ("train.csv", "it is read here"),
        ("run", "it is a folder"),
    ] {
        let refused = dir.refused(&format!("evaluate run train.csv --predictions {file}"));
        assert!(refused.contains(said), "{file}: {refused}");
    }
    assert_eq!(
        fs::read_to_string(dir.path("train.csv")).unwrap(),
        examples()
    );
    let refused = dir.refused("evaluate run train.csv --set report.tensorboard=true");
    assert!(refused.contains("says nothing to a model"), "{refused}");
}

#[test]
fn predictions_of_pictures_name_their_files() {
    let dir = Dir::new();
    dir.pictures();
    dir.ok(&format!("{TUNE_PICTURES} -o run"));
    dir.ok("evaluate run pictures --predictions predictions.jsonl");
    let lines = lines(&dir, "predictions.jsonl");
    assert_eq!(lines.len(), 24);
    for line in lines {
        let file = line["file"].as_str().unwrap();
        let folder = file.rsplit('/').nth(1).unwrap();
        assert_eq!(line["label"], folder);
        assert!(dir.path(file).is_file(), "{file}");
        assert!(!line.contains_key("text"));
    }
    let page = fs::read_to_string(dir.path("run/report.html")).unwrap();
    assert!(
        page.contains("<ol class=\"mistakes grid\">"),
        "mistakes, or the least sure answers, as a grid"
    );
    let root = dir.path("").to_string_lossy().into_owned();
    let (before, after) = page.split_once("<h2>Configuration</h2>").unwrap();
    assert!(after.contains(&root), "the run file has whole paths");
    assert!(!before.contains(&root), "paths are relative");
}

/// A run that was stopped and resumed gives the same results but for its times, and event files without a step twice.
#[test]
fn a_resumed_run_leaves_what_an_uninterrupted_one_does() {
    let dir = Dir::new();
    let tune = format!(
        "{TUNE} --set train.batch_size=4 --set checkpoint.every_steps=1 --set checkpoint.keep=100 --set report.tensorboard=true"
    );
    dir.ok(&format!("{tune} -o whole"));
    dir.ok(&format!("{tune} -o cut"));
    for entry in fs::read_dir(dir.path("cut/checkpoints")).unwrap() {
        let path = entry.unwrap().path();
        let step = path.to_string_lossy().rsplit('-').next().unwrap().parse();
        if step.is_ok_and(|step: u64| step > 3) {
            fs::remove_dir_all(path).unwrap();
        }
    }
    dir.remove("cut/final");
    let said = dir.output("finetune --resume cut");
    assert!(said.contains("resuming after step 3"), "{said}");
    let comparable = |run: &str| {
        let mut results = results(&dir, run);
        for time in ["timings", "seconds", "peak_memory_bytes"] {
            assert!(results.remove(time).is_some(), "{time}");
        }
        results
    };
    assert_eq!(comparable("whole"), comparable("cut"));
    // Of a short run every step is kept, once.
    let metrics = fs::read_to_string(dir.path("cut/metrics.jsonl")).unwrap();
    let steps = metrics
        .lines()
        .filter(|line| line.contains("\"kind\":\"step\""));
    assert_eq!(results(&dir, "cut")["steps"], steps.count());
    let card = |run: &str| {
        let text = fs::read_to_string(dir.path(run).join("final/README.md")).unwrap();
        text.replace(run, "RUN")
    };
    assert_eq!(card("whole"), card("cut"));
    let size = |run: &str| {
        let mut files = fs::read_dir(dir.path(run).join("tensorboard")).unwrap();
        let file = files.next().unwrap().unwrap();
        assert!(files.next().is_none(), "{run}: more than one file");
        file.metadata().unwrap().len()
    };
    assert_eq!(size("whole"), size("cut"));
    // Only where it is asked for.
    dir.ok(&format!("{TUNE} -o plain"));
    assert!(!dir.path("plain/tensorboard").exists());
}

/// TensorBoard's own reader finds every step once, in order, with the figures of `metrics.jsonl`.
#[test]
#[ignore = "needs Python with libraries: REKINDLE_TEST_PYTHON=path/to/python cargo xtask test"]
fn tensorboard_reads_its_event_files() {
    let Some(python) = python() else { return };
    let dir = Dir::new();
    let tune = format!(
        "{TUNE} --set train.batch_size=4 --set report.tensorboard=true --set checkpoint.every_steps=1 --set checkpoint.keep=100"
    );
    dir.ok(&format!("{tune} -o run"));
    let read = r#"
import json, sys
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
events = EventAccumulator("run/tensorboard", size_guidance={"scalars": 0, "tensors": 0}).Reload()
from tensorboard.util import tensor_util
found = {}
for tag in events.Tags()["scalars"]:
    found[tag] = [[e.step, e.value] for e in events.Scalars(tag)]
for tag in events.Tags()["tensors"]:
    found[tag] = [[e.step, float(tensor_util.make_ndarray(e.tensor_proto))] for e in events.Tensors(tag)]
json.dump(found, sys.stdout)
"#;
    let found: Map<String, Value> = serde_json::from_str(&python(&dir, "", read)).unwrap();
    let metrics = fs::read_to_string(dir.path("run/metrics.jsonl")).unwrap();
    let events: Vec<Value> = metrics
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let of = |kind: &str, pick: &dyn Fn(&Value) -> f64| -> Vec<(u64, f64)> {
        let events = events.iter().filter(|event| event["kind"] == kind);
        events
            .map(|event| (event["step"].as_u64().unwrap(), pick(event)))
            .collect()
    };
    let is = |tag: &str, expected: Vec<(u64, f64)>| {
        let points = found[tag].as_array().unwrap();
        assert_eq!(points.len(), expected.len(), "{tag}");
        for (point, (step, value)) in points.iter().zip(expected) {
            assert_eq!(point[0], step, "{tag}");
            let difference = (point[1].as_f64().unwrap() - value).abs();
            // Event files hold f32.
            assert!(
                difference <= 1e-6 * value.abs().max(1.0),
                "{tag} {point} {value}"
            );
        }
    };
    for name in ["loss", "learning_rate", "grad_norm"] {
        is(
            &format!("train/{name}"),
            of("step", &|event| event[name].as_f64().unwrap()),
        );
    }
    let accuracy = |event: &Value| event["evaluation"]["metrics"]["accuracy"].as_f64().unwrap();
    let evaluated = of(
        "evaluated",
        &|event| match &event["evaluation"]["accuracy"] {
            Value::Null => accuracy(event),
            value => value.as_f64().unwrap(),
        },
    );
    is("validation/accuracy", evaluated);
    let results = results(&dir, "run");
    let last = results["figures"]["accuracy"].as_f64().unwrap();
    is(
        "final/accuracy",
        vec![(results["best_step"].as_u64().unwrap(), last)],
    );
}

/// Makes a model that timm knows.
const RESNET_18: &str = r#"
import json, timm, torch
from safetensors.torch import save_file
torch.manual_seed(0)
model = timm.create_model("resnet18", num_classes=2)
save_file(model.state_dict(), "model.safetensors")
json.dump({"architecture": "resnet18", "num_classes": 2, "pretrained_cfg": dict(model.pretrained_cfg, num_classes=2)}, open("config.json", "w"), default=str)
"#;

/// The hub's own library reads the header, and the program on the card runs as it stands.
#[test]
#[ignore = "needs Python with libraries: REKINDLE_TEST_PYTHON=path/to/python cargo xtask test"]
fn cards_are_read_by_the_hubs_library_and_their_programs_run() {
    let Some(python) = python() else { return };
    let dir = Dir::new();
    dir.pictures();
    fs::create_dir(dir.path("resnet18")).unwrap();
    python(&dir, "resnet18", RESNET_18);
    dir.write("tags.csv", tags());
    dir.write(
        "scores.csv",
        "text,score\n".to_owned()
            + &(0..30)
                .map(|i| format!("text {i},{i}.5\n"))
                .collect::<String>(),
    );
    for (run, tune, library, pipeline, metric) in [
        (
            "lora",
            format!("{TUNE} --method lora"),
            "peft",
            "text-classification",
            "accuracy",
        ),
        (
            "full",
            format!("{TUNE} --method full"),
            "transformers",
            "text-classification",
            "accuracy",
        ),
        (
            "numbers",
            "finetune scores.csv --model model --task text-regression --epochs 1 --method full"
                .into(),
            "transformers",
            "text-classification",
            "mae",
        ),
        (
            "tags",
            "finetune tags.csv --model model --task text-multi-label --epochs 1".into(),
            "peft",
            "text-classification",
            "f1",
        ),
        (
            "pictures-run",
            "finetune --task image-classification --model resnet18 --train pictures --epochs 1 --set images.size=32 --method head"
                .into(),
            "timm",
            "image-classification",
            "accuracy",
        ),
    ] {
        dir.ok(&format!("{tune} -o {run}"));
        let header = support::card_header(&python, &dir, run);
        assert_eq!(header["library_name"], library);
        assert_eq!(header["pipeline_tag"], pipeline);
        let results = results(&dir, run);
        let found = header["results"].as_array().unwrap();
        let found = found.iter().find(|found| found["type"] == metric).unwrap();
        let figures = results["figures"].as_object().unwrap();
        assert!(
            figures.values().any(|value| *value == found["value"]),
            "{run}: {found} is not among {figures:?}"
        );
        fs::copy(
            dir.path("pictures/red/03.png"),
            dir.path(run).join("final/picture.jpg"),
        )
        .unwrap();
        let printed = support::run_card(&python, &dir, run);
        // What it prints is what rekindle answers.
        let asked = match library {
            "timm" => format!("predict {run} {run}/final/picture.jpg"),
            _ => format!("predict {run} --file question.txt"),
        };
        dir.write("question.txt", "a text\n");
        let answer: Value = serde_json::from_str(dir.ok(&asked).lines().next().unwrap()).unwrap();
        let number = |key: &str| answer[key].as_f64().unwrap();
        let (words, expected) = match run {
            "numbers" => ("{'score': ".to_owned(), number("score")),
            "tags" => {
                let given = answer["labels"].to_string();
                assert_eq!(printed.trim(), given.replace('"', "'").replace(',', ", "));
                continue;
            }
            _ => (
                answer["label"].as_str().unwrap().to_owned() + " ",
                number("probability"),
            ),
        };
        let found = printed.trim().strip_prefix(&words);
        let found = found.unwrap_or_else(|| panic!("{run}: no {words:?} in {printed:?}"));
        let found: f64 = found.trim_end_matches('}').parse().unwrap();
        // Pictures are decoded and scaled by other libraries.
        assert!((found - expected).abs() < 2e-3, "{run}: {found} {expected}");
    }
}

/// Nothing leaves this machine offline, without a token, or from a folder that is not there.
#[test]
fn what_cannot_be_pushed_is_refused() {
    let dir = Dir::new();
    for (folder, said) in [
        ("model", "offline mode forbids every request"),
        ("missing", "no such folder"),
    ] {
        let refused = dir.refused(&format!("push {folder} me/model"));
        assert!(refused.contains(said), "{refused}");
    }
    dir.write("unfinished/config.toml", "");
    let refused = dir.refused("push unfinished me/model");
    assert!(refused.contains("not finished"), "{refused}");
}

fn tags() -> String {
    let rows = (0..30).map(|i| {
        let tags = ["late|broken", "late", "broken", ""][i % 4];
        format!("text number {i},{tags}\n")
    });
    format!("text,tags\n{}", rows.collect::<String>())
}
