//! Faults that users met, one test a kind, on the tiny BERT and the real binary.
#![allow(clippy::unwrap_used)]

#[path = "regressions/first_hour.rs"]
mod first_hour;
#[path = "regressions/second_look.rs"]
mod second_look;
mod support;

use serde_json::{Value, json};
use std::{
    fs::{self, File},
    path::Path,
    process::Output,
};
use support::{Dir, examples};

/// Runs `rekindle`, which must refuse with all of these words.
fn refused_with(dir: &Dir, arguments: &str, words: &[&str]) {
    let said = dir.refused(arguments);
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
        ("tiny_modernbert", "on 3 layers (Wqkv)"),
        ("tiny_albert", "on 2 layers (query, value)"),
        ("tiny_mpnet", "on 4 layers (q, v)"),
        ("tiny_deberta", "on 4 layers (query_proj, value_proj)"),
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

/// A table of the texts of the examples with these labels, by row.
fn table(header: &str, label: impl Fn(usize) -> String) -> String {
    let rows = (0..40).map(|i| format!("thanks very good card {i},{}\n", label(i)));
    format!("{header}\n{}", rows.collect::<String>())
}

/// Columns of several numbers were taken by their place, and the run's own training file was refused.
#[test]
fn numbers_are_evaluated_by_their_names() {
    let dir = Dir::new();
    let both = |i: usize| format!("{}.5,{}.25", i % 7, 100 * (i % 11));
    dir.write("two.csv", table("text,clarity,tone", both));
    let swapped = |i: usize| format!("{}.25,{}.5", 100 * (i % 11), i % 7);
    dir.write("swapped.csv", table("text,tone,clarity", swapped));
    dir.write("more.csv", table("text,clarity,other", both));
    let tune = dir
        .command(env!("CARGO_BIN_EXE_rekindle"))
        .args(
            "finetune --model model --train two.csv --task text-regression --epochs 1 -o run"
                .split(' '),
        )
        .args(["--set", "data.label=[\"clarity\", \"tone\"]"])
        .output()
        .unwrap();
    assert!(tune.status.success(), "{}", dir.plain(&tune.stderr));
    let evaluated = dir.ok("evaluate run two.csv --json");
    assert_eq!(dir.ok("evaluate run swapped.csv --json"), evaluated);
    for labels in [r#"["clarity","tone"]"#, r#"["tone","clarity"]"#] {
        let again = dir.ok(&format!(
            "evaluate run two.csv --json --set data.label={labels}"
        ));
        assert_eq!(again, evaluated, "{labels}");
    }
    refused_with(
        &dir,
        r#"evaluate run more.csv --set data.label=["other","clarity"]"#,
        &["other, clarity; the model puts out clarity, tone"],
    );
}

/// What a column holds was learned as classes, or refused without the task that it is for.
#[test]
fn labels_of_another_task_name_the_task() {
    let json = |label: &dyn Fn(usize) -> Value| -> String {
        let row = |i| json!({"text": format!("thanks card {i}"), "label": label(i)});
        (0..40).map(|i| format!("{}\n", row(i))).collect()
    };
    const SETS: &str = "--task text-multi-label";
    const NUMBERS: &str = "--task text-regression";
    let sets = [
        "late|broken",
        "late",
        "broken|dear",
        "dear|late",
        "dear",
        "broken",
    ];
    let some_empty = [
        "late|broken",
        "",
        "broken|dear",
        "dear|late",
        "late",
        "broken",
    ];
    let price = |i: usize| format!("{}.{}", i % 23, i % 7);
    let with = move |odd: &'static str| {
        move |i: usize| match i {
            5 => odd.to_owned(),
            i => price(i),
        }
    };
    let hot = |i: usize| json!([i % 2, 1, u8::from(i.is_multiple_of(3))]);
    for (name, file, task, words) in [
        (
            "sets.csv",
            table("text,label", |i| sets[i % 6].into()),
            " --task text-classification",
            &[SETS, "separated by `|`"][..],
        ),
        (
            "empty.csv",
            table("text,label", |i| some_empty[i % 6].into()),
            " --task text-classification",
            &[SETS, "empty.csv:3"],
        ),
        (
            "empty.jsonl",
            json(&|i| {
                if i == 3 {
                    Value::Null
                } else {
                    json!(["a", "b"][..i % 3])
                }
            }),
            " --task text-classification",
            &[SETS],
        ),
        (
            "odd.csv",
            table("text,label", with("nan")),
            " --task text-classification",
            &[NUMBERS, "odd.csv:7", "`nan`"],
        ),
        (
            "comma.csv",
            table("text,label", with("\"3,75\"")),
            " --task text-classification",
            &[NUMBERS, "comma.csv:7", "write 3.75"],
        ),
        (
            "commas.csv",
            table("text,label", |i| {
                format!("\"{}\"", price(i).replace('.', ","))
            }),
            " --task text-classification",
            &[NUMBERS, "commas.csv:2"],
        ),
        (
            "gap.csv",
            table("text,label", with("")),
            " --task text-classification",
            &[NUMBERS, "gap.csv:7"],
        ),
        (
            "hot.jsonl",
            json(&hot),
            " --task text-classification",
            &["lists of 3 times 0 or 1", "the labels' names"],
        ),
        (
            "hot.jsonl",
            json(&hot),
            " --task text-multi-label",
            &["lists of 3 times 0 or 1", "the labels' names"],
        ),
        (
            "float.csv",
            table("text,label", price),
            " --task text-multi-label",
            &[NUMBERS],
        ),
        (
            "names.csv",
            table("text,label", |i| ["praise", "refund"][i % 2].into()),
            " --task text-regression",
            &["--task text-classification", "names.csv:2"],
        ),
        (
            "lists.jsonl",
            json(&|i| json!(["a", "b"][..1 + i % 2])),
            " --task text-regression",
            &[SETS, "lists.jsonl:1"],
        ),
    ] {
        let dir = Dir::new();
        dir.write(name, file);
        refused_with(
            &dir,
            &format!("finetune --model model --train {name}{task} -o run"),
            words,
        );
    }
    // A number with a mistake in it stays a number: the row is named, not another task.
    let dir = Dir::new();
    dir.write("odd.csv", table("text,label", with("much")));
    let said = dir.refused("finetune --model model --train odd.csv --task text-regression");
    assert!(
        said.contains("odd.csv:7: expected a number") && !said.contains("set task"),
        "{said}"
    );
    // And classes with a blank stay classes.
    dir.write(
        "blank.csv",
        table("text,label", |i| ["praise", "refund", ""][i % 3].into()),
    );
    let said = dir.refused("finetune --model model --train blank.csv --task text-classification");
    assert!(
        said.contains("blank.csv:4") && !said.contains("set task"),
        "{said}"
    );
}

/// `init` wrote a file for classes that then failed.
#[test]
fn init_sees_numbers_beside_a_bad_cell() {
    for odd in ["\"3,75\"", "nan", "much", ""] {
        let dir = Dir::new();
        let label = |i: usize| match i {
            5 => odd.to_owned(),
            i => format!("{}.{}", i % 23, i % 7),
        };
        dir.write("prices.csv", table("text,price", label));
        let file = dir.ok("init prices.csv -o -");
        assert!(
            file.contains("\ntask = \"text-regression\"\n"),
            "{odd}: {file}"
        );
        assert!(
            file.contains("1 row cannot be used as written"),
            "{odd}: {file}"
        );
    }
    let dir = Dir::new();
    dir.write(
        "hot.jsonl",
        "{\"text\": \"good\", \"label\": [0, 1, 1]}\n".repeat(4),
    );
    refused_with(&dir, "init hot.jsonl -o -", &["lists of 3 times 0 or 1"]);
}

/// Names of pictures were learned as texts, and read as lines where a table was given.
#[test]
fn tables_of_pictures_go_to_image_tasks() {
    let dir = Dir::new();
    dir.pictures();
    let rows = |label: fn(bool) -> &'static str| -> String {
        let row = |i: usize| {
            let red = i.is_multiple_of(2);
            let folder = if red { "red" } else { "blue" };
            format!("pictures/{folder}/{i:02}.png,{}\n", label(red))
        };
        (0..12).map(row).collect()
    };
    dir.write(
        "im.csv",
        format!(
            "image,label\n{}",
            rows(|red| if red { "warm" } else { "cold" })
        ),
    );
    dir.write(
        "im_bin.csv",
        format!(
            "image,red,blue\n{}",
            rows(|red| if red { "1,0" } else { "0,1" })
        ),
    );
    for (file, task) in [
        ("im.csv", "image-classification"),
        ("im_bin.csv", "image-multi-label"),
    ] {
        refused_with(
            &dir,
            &format!("finetune --model model --train {file} --task text-classification"),
            &[
                "the texts in `image` are names of pictures",
                "--task image-",
            ],
        );
        let run_file = dir.ok(&format!("init {file} -o -"));
        assert!(
            run_file.contains(&format!("\ntask = \"{task}\"\n")),
            "{run_file}"
        );
        dir.write("run.toml", run_file);
        let run = format!("run-{task}");
        dir.ok(&format!(
            "finetune --config run.toml --model resnet -o {run}"
        ));
        let lines = dir.ok(&format!("predict {run} --file {file} --brief"));
        assert_eq!(lines.lines().count(), 12, "{lines}");
        assert!(lines.lines().all(|line| line.ends_with(".png")), "{lines}");
    }
    let json: String = (0..3)
        .map(|i| format!("{{\"image\": \"pictures/red/{i:02}.png\"}}\n"))
        .collect();
    dir.write("im.jsonl", json);
    assert_eq!(dir.ok("predict resnet --file im.jsonl").lines().count(), 3);
}

/// "evaluating the best checkpoint" was said of a run that has none.
#[test]
fn a_metric_that_is_never_a_number_says_what_is_saved() {
    let dir = Dir::new();
    dir.write(
        "scores.csv",
        table("text,score", |i| format!("{}.5", i % 7)),
    );
    dir.write("same.csv", table("text,score", |_| "2.5".to_owned()));
    let output = dir.rekindle(
        "finetune --model model --train scores.csv --validation same.csv --task text-regression --epochs 2 -o run --set eval.metric=pearson",
    );
    let said = dir.plain(&output.stderr);
    assert!(output.status.success(), "{said}");
    assert!(
        said.contains("warning: pearson was not a finite number in any evaluation")
            && said.contains("the model of the last step")
            && !said.contains("best checkpoint"),
        "{said}"
    );
}

/// Messages that named neither file nor remedy.
#[test]
fn small_mistakes_name_their_file() {
    let dir = Dir::new();
    dir.write(
        "empty.jsonl",
        "{\"text\": \"good card\", \"labels\": []}\n".repeat(8),
    );
    refused_with(
        &dir,
        "finetune --model model --train empty.jsonl --task text-multi-label",
        &["empty.jsonl: there are no labels"],
    );
    dir.write(
        "prices.csv",
        table("text,price", |i| format!("{}.{}", i % 23, i % 7)),
    );
    let file = dir.ok("init prices.csv -o -");
    assert!(
        file.contains("# A number to predict, from 0 to 22.") && !file.contains("labels:"),
        "{file}"
    );
    dir.ok("finetune --model model --train train.csv --epochs 1 -o runs/tickets");
    refused_with(
        &dir,
        "inspect runs/tickets/final/rekindle.json",
        &[
            "it holds settings, not tensors",
            "inspect its directory, runs/tickets/final",
        ],
    );
    for verb in [
        "predict runs/tikets good",
        "finetune --train train.csv --model runs/tikets",
    ] {
        refused_with(
            &dir,
            verb,
            &[
                "runs/tikets: no such model directory",
                "did you mean `runs/tickets`?",
            ],
        );
    }
}
