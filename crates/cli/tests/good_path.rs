//! What the program does when all is well, on the tiny BERT: every verb, what a run leaves, and Ctrl-C.
#![allow(clippy::unwrap_used)]

mod support;

use serde_json::Value;
use std::{
    fs,
    io::{BufRead, BufReader},
    ops::ControlFlow,
    process::{Child, Command, Stdio},
    time::Duration,
};
use support::Dir;

const TUNE: &str = "finetune --model model --train train.csv";

#[test]
fn from_a_table_to_predictions() {
    for (method, weights) in [
        ("lora", "adapter_model.safetensors"),
        ("full", "model.safetensors"),
    ] {
        let dir = Dir::new();
        let said = dir.ok(&format!("{TUNE} --epochs 2 -o run --method {method}"));
        assert!(said.contains("validation accuracy"), "{said}");
        for name in [
            "config.toml",
            "plan.json",
            "metrics.jsonl",
            "log.txt",
            "report.html",
            "best/state.json",
            "final/tokenizer.json",
        ] {
            assert!(dir.path("run").join(name).is_file(), "{method}: no {name}");
        }
        assert!(
            dir.path("run/final").join(weights).is_file(),
            "{method}: no {weights}"
        );

        let lines = dir.ok("predict run thanks money");
        let rows: Vec<Value> = lines
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        assert_eq!(rows.len(), 2);
        for row in rows {
            let sum: f64 = row["probabilities"]
                .as_object()
                .unwrap()
                .values()
                .map(|p| p.as_f64().unwrap())
                .sum();
            assert!((sum - 1.0).abs() < 1e-6, "{row}");
            assert_eq!(
                row["probability"],
                row["probabilities"][row["label"].as_str().unwrap()]
            );
        }
        let report: Value = serde_json::from_str(&dir.ok("evaluate run train.csv --json")).unwrap();
        assert_eq!(report["n"], 30);

        for (path, expected) in [
            ("run", "checkpoints      step-"),
            (
                "run/final",
                if method == "lora" {
                    "LoRA r 8"
                } else {
                    "bert ("
                },
            ),
            ("run/best", "after step"),
            ("model", "2 layers, width 32, 4 heads"),
            ("model/model.safetensors", "tensors          41, "),
        ] {
            let said = dir.ok(&format!("inspect {path}"));
            assert!(
                said.contains(expected),
                "{path}: expected {expected}\n{said}"
            );
        }
        if method == "lora" {
            let said = dir.ok("merge run --to merged");
            let (_, rest) = said.split_once("largest difference of a logit: ").unwrap();
            let difference: f64 = rest.split_once(',').unwrap().0.parse().unwrap();
            assert!(difference < 1e-4, "{said}");
            assert_eq!(
                dir.ok("predict merged thanks --brief")[..5],
                dir.ok("predict run thanks --brief")[..5]
            );
        }
    }
}

#[test]
fn a_dry_run_writes_nothing_and_help_lists_the_verbs() {
    let dir = Dir::new();
    let names = || {
        let mut names: Vec<_> = fs::read_dir(dir.path(""))
            .unwrap()
            .map(|e| e.unwrap().file_name())
            .collect();
        names.sort();
        names
    };
    let before = names();
    dir.ok(&format!("{TUNE} --dry-run"));
    assert_eq!(names(), before);
    for wrong in ["finetune --nope", "", "finetune --epochs"] {
        assert_eq!(dir.rekindle(wrong).status.code(), Some(1), "{wrong}");
    }
    let help = dir.ok("--help");
    for verb in [
        "finetune", "evaluate", "predict", "inspect", "merge", "fetch", "init",
    ] {
        assert!(
            help.lines()
                .any(|line| line.trim_start().starts_with(&format!("{verb} "))),
            "{verb}\n{help}"
        );
    }
}

/// Regression: a finished run that was resumed got results and a report with the seconds of the second start.
#[test]
fn resuming_a_finished_run_changes_nothing() {
    let dir = Dir::new();
    let said = dir.output(&format!("{TUNE} --epochs 2 --set eval.choose=best -o run"));
    assert!(said.contains("best accuracy so far"), "{said}");
    assert!(said.contains("best checkpoint: step "), "{said}");
    assert!(
        said.contains("lr 5.0e-4"),
        "the first step of a warmup: {said}"
    );
    let kept = || {
        let files = ["results.json", "report.html", "metrics.jsonl", "log.txt"];
        let of_final = fs::metadata(dir.path("run/final/rekindle.json")).unwrap();
        let texts = files.map(|name| fs::read(dir.path("run").join(name)).unwrap());
        (texts, of_final.modified().unwrap())
    };
    let before = kept();
    let said = dir.output("finetune --resume run");
    assert!(said.contains("run is already finished"), "{said}");
    assert!(before == kept(), "the finished run was changed");
    let results = fs::read_to_string(dir.path("run/results.json")).unwrap();
    assert!(!results.contains("top5"), "three classes: {results}");
    assert!(dir.ok("inspect run").contains("(best accuracy)"));

    // Killed between the figures and the report, it is not finished.
    fs::remove_file(dir.path("run/report.html")).unwrap();
    assert!(
        dir.output("finetune --resume run")
            .contains("resuming after step")
    );
    assert!(dir.path("run/report.html").is_file());
}

#[test]
fn help_names_every_task() {
    let help = Dir::new().ok("finetune --help");
    for task in rekindle::Task::ALL {
        assert!(help.contains(task.name()), "{task}\n{help}");
    }
}

/// Activations that are computed again are the same, the head's input and dropout among them.
#[test]
fn gradient_checkpointing_of_an_encoder_changes_nothing() {
    let dir = Dir::new();
    for (method, weights) in [
        ("lora", "adapter_model.safetensors"),
        ("full", "model.safetensors"),
        ("full --set peft.train_last=1", "model.safetensors"),
        ("full --set model.pooling=mean", "model.safetensors"),
    ] {
        let saved = |on: bool| {
            let run = format!("{}-{on}", method.replace([' ', '.'], "-"));
            dir.ok(&format!(
                "{TUNE} --method {method} --epochs 1 -o {run} --set train.gradient_checkpointing={on}"
            ));
            fs::read(dir.path(&run).join("final").join(weights)).unwrap()
        };
        assert!(saved(false) == saved(true), "{method}");
    }
}

/// In bf16 a run gives other weights, the same each time, and saves them in f32; on a CPU that cannot it is refused.
#[test]
fn a_run_in_bf16_is_repeatable_or_refused() {
    let dir = Dir::new();
    let tune = format!(
        "{TUNE} --method full --set train.max_steps=20 --set eval.every=20 --set train.precision=bf16"
    );
    let output = dir.rekindle(&format!("{tune} -o run"));
    if let Ok(cpu) = fs::read_to_string("/proc/cpuinfo") {
        let amd = cpu.contains("avx512_bf16") && !cpu.contains("GenuineIntel");
        assert_eq!(output.status.success(), amd || cpu.contains("amx_bf16"));
    }
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(
            said.contains("AMX") && said.contains("hint: set it to \"f32\""),
            "{said}"
        );
        return;
    }
    let plan = fs::read_to_string(dir.path("run/plan.json")).unwrap();
    assert!(plan.contains("cpu, trained in bf16"), "{plan}");
    dir.ok(&format!("{tune} --set train.precision=f32 -o exact"));
    dir.ok(&format!("{tune} -o again"));
    let weights = |run: &str| fs::read(dir.path(run).join("final/model.safetensors")).unwrap();
    assert_eq!(weights("run").len(), weights("exact").len());
    assert!(weights("run") != weights("exact"), "bf16 changes nothing");
    assert!(weights("run") == weights("again"), "a run is not repeated");
}

/// Starts a run, and calls `then` on each line it says, until `then` has had enough; what it said.
#[cfg(unix)]
fn watch(
    dir: &Dir,
    arguments: &str,
    mut then: impl FnMut(&mut Child, &str) -> ControlFlow<()>,
) -> (Child, String) {
    let mut child = dir
        .command(env!("CARGO_BIN_EXE_rekindle"))
        .args(arguments.split_whitespace())
        .stderr(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let mut said = String::new();
    for line in BufReader::new(child.stderr.take().unwrap()).lines() {
        let line = line.unwrap();
        said += &format!("{line}\n");
        if then(&mut child, &line).is_break() {
            break;
        }
    }
    (child, said)
}

#[cfg(unix)]
fn signal(child: &Child, name: &str) {
    let id = child.id().to_string();
    let sent = Command::new("kill").args([name, &id]).status().unwrap();
    assert!(sent.success());
}

/// Ctrl-C, SIGTERM or SIGHUP after the first step: a checkpoint, how to go on, and in the end the bytes of a run that was
/// never stopped. With the terminal that hangs up goes standard error, and the signal comes twice.
#[test]
#[cfg(unix)]
fn a_stopped_run_resumes_to_the_same_bytes() {
    let dir = Dir::new();
    let tune = format!(
        "{TUNE} --set train.batch_size=2 --set train.max_steps=1000 --set eval.every=500 --set peft.lora_dropout=0.1"
    );
    dir.ok(&format!("{tune} -o whole"));
    let weights =
        |run: &str| fs::read(dir.path(run).join("final/adapter_model.safetensors")).unwrap();
    for (name, hangs_up, code) in [
        ("-INT", false, 130),
        ("-TERM", false, 143),
        ("-HUP", false, 129),
        ("-HUP", true, 129),
    ] {
        if name == "-HUP" && hangup_is_ignored() {
            // The tests themselves run under nohup, and so does the program.
            continue;
        }
        let run = format!("stopped{name}{hangs_up}");
        let (mut child, said) = watch(&dir, &format!("{tune} -o {run}"), |child, line| {
            if !line.starts_with("step 1/") {
                return ControlFlow::Continue(());
            }
            signal(child, name);
            match hangs_up {
                true => ControlFlow::Break(()),
                false => ControlFlow::Continue(()),
            }
        });
        if hangs_up {
            signal(&child, name);
        }
        assert_eq!(child.wait().unwrap().code(), Some(code), "{name}: {said}");
        let told = format!("continue with: rekindle finetune --resume {run}");
        assert!(hangs_up || said.contains(&told), "{name}: {said}");
        assert!(!said.contains("error:"), "a stop is no error: {said}");
        assert!(!dir.path(&run).join("final").exists());

        dir.ok(&format!("finetune --resume {run}"));
        assert!(
            weights("whole") == weights(&run),
            "{name}: the resumed run's weights differ"
        );
        // The report says where.
        let report = fs::read_to_string(dir.path(&run).join("report.html")).unwrap();
        assert!(report.contains("resumed"), "{name}");
    }
}

/// Whether this process, and what it starts, ignores SIGHUP. Known on Linux alone.
#[cfg(unix)]
fn hangup_is_ignored() -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    mask.is_some_and(|mask| mask & 1 == 1)
}

/// Under `nohup` a run outlives its terminal.
#[test]
#[cfg(unix)]
fn a_hangup_that_is_ignored_stays_ignored() {
    let dir = Dir::new();
    let tune = format!("{TUNE} --set train.batch_size=2 --set train.max_steps=200 -o run");
    let mut child = dir
        .command("sh")
        .args([
            "-c",
            "trap '' HUP; exec \"$0\" \"$@\"",
            env!("CARGO_BIN_EXE_rekindle"),
        ])
        .args(tune.split_whitespace())
        .stderr(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let mut said = String::new();
    for line in BufReader::new(child.stderr.take().unwrap()).lines() {
        let line = line.unwrap();
        if line.starts_with("step 1/") {
            signal(&child, "-HUP");
        }
        said += &format!("{line}\n");
    }
    assert_eq!(child.wait().unwrap().code(), Some(0), "{said}");
}

/// Killed outright, at several moments, again and again: the weights, the best checkpoint and the figures of a run that was
/// never stopped. Accuracy on six examples ties often. The first kill comes before the first checkpoint.
#[test]
#[cfg(unix)]
fn a_killed_run_resumes_to_the_same_bytes() {
    let dir = Dir::new();
    let rows = support::examples();
    let (header, rows) = rows.split_once('\n').unwrap();
    let validation: Vec<&str> = rows.lines().take(6).collect();
    dir.write(
        "validation.csv",
        format!("{header}\n{}\n", validation.join("\n")),
    );
    let tune = format!(
        "{TUNE} --validation validation.csv --method full --set train.batch_size=2 --set train.max_steps=240 --set train.learning_rate=5e-3 --set eval.every=12 --set eval.metric=accuracy"
    );
    dir.ok(&format!("{tune} -o whole"));

    let start = format!("{tune} -o killed");
    let resume = "finetune --resume killed";
    let mut evaluations = 0;
    for (life, (arguments, line_of_death, lines)) in [
        (start.as_str(), "step 1/", 1),
        (resume, "epoch ", 3),
        (resume, "epoch ", 1),
        (resume, "epoch ", 4),
        (resume, "epoch ", 5),
    ]
    .into_iter()
    .enumerate()
    {
        let mut left = lines;
        let (mut child, said) = watch(&dir, arguments, |child, line| {
            left -= usize::from(line.starts_with(line_of_death));
            if left > 0 {
                return ControlFlow::Continue(());
            }
            // While the checkpoint is written, or some steps later.
            std::thread::sleep(Duration::from_millis(3 * life as u64));
            child.kill().unwrap();
            ControlFlow::Break(())
        });
        assert!(
            !child.wait().unwrap().success(),
            "life {life} was not cut short: {said}"
        );
        evaluations += said.matches("validation loss").count();
        if life == 1 {
            assert!(
                said.contains("stopped before its first checkpoint"),
                "{said}"
            );
        }
    }
    assert!(evaluations > 5);
    dir.ok(resume);

    let bytes = |run: &str| fs::read(dir.path(run).join("final/model.safetensors")).unwrap();
    assert!(bytes("whole") == bytes("killed"), "the weights differ");
    let best = |run: &str| fs::read_link(dir.path(run).join("best")).unwrap();
    assert_eq!(best("killed"), best("whole"));
    let figures = |run: &str| {
        let text = fs::read_to_string(dir.path(run).join("metrics.jsonl")).unwrap();
        let events = text
            .lines()
            .map(|line| serde_json::from_str::<Value>(line).unwrap());
        let mut kept: Vec<Value> = events.filter(|event| event["kind"] != "resumed").collect();
        kept.iter_mut()
            .for_each(|event| event["seconds"] = Value::Null);
        kept
    };
    let (found, expected) = (figures("killed"), figures("whole"));
    assert_eq!(found.len(), expected.len());
    for (found, expected) in found.iter().zip(&expected) {
        assert_eq!(found, expected);
    }
    let left: Vec<_> = fs::read_dir(dir.path("killed"))
        .unwrap()
        .chain(fs::read_dir(dir.path("killed/checkpoints")).unwrap())
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.starts_with('.') && name != ".lock")
        .collect();
    assert!(left.is_empty(), "left behind: {left:?}");
}

const TUNE_PICTURES: &str = "finetune --model resnet --train pictures";

/// Adapters of convolutions: what is saved, merged and resumed computes the same.
#[test]
fn convolutions_take_adapters() {
    let dir = Dir::new();
    dir.pictures();
    let tune = format!("{TUNE_PICTURES} --method lora --epochs 20 -o run --set train.batch_size=4");
    let said = dir.output(&tune);
    assert!(
        said.contains("LoRA r 8") && said.contains("conv1"),
        "{said}"
    );
    let end = dir.path("run/final");
    assert!(end.join("adapter_model.safetensors").is_file());
    let report: Value = serde_json::from_str(&dir.ok("evaluate run pictures --json")).unwrap();
    assert!(report["accuracy"].as_f64().unwrap() > 0.9, "{report}");
    dir.ok("merge run --to merged");
    let rows = |model: &str| -> Vec<(Value, f64)> {
        let lines = dir.ok(&format!("predict {model} pictures"));
        let rows = lines
            .lines()
            .map(|line| serde_json::from_str(line).unwrap());
        rows.map(|row: Value| (row["label"].clone(), row["probability"].as_f64().unwrap()))
            .collect()
    };
    for (one, other) in rows("run").iter().zip(rows("merged")) {
        assert!(
            one.0 == other.0 && (one.1 - other.1).abs() < 1e-4,
            "{one:?} {other:?}"
        );
    }
    let said = dir.refused(&format!("{tune}-2 --set images.batch_norm=train"));
    assert!(said.contains("batch norms stay as they are"), "{said}");
}

#[test]
fn from_a_folder_of_pictures_to_predictions() {
    for method in [
        "peft.method=head",
        "peft.train_last=1",
        "peft.unfreeze_every=1",
        "peft.method=head --set images.views=2",
    ] {
        let dir = Dir::new();
        dir.pictures();
        let said = dir.ok(&format!(
            "{TUNE_PICTURES} --epochs 20 -o run --set {method} --set train.learning_rate=2e-2 --set train.batch_size=4"
        ));
        assert!(said.contains("validation accuracy"), "{method}: {said}");
        for name in [
            "final/model.safetensors",
            "final/config.json",
            "report.html",
        ] {
            assert!(dir.path("run").join(name).is_file(), "{method}: no {name}");
        }
        for features in [".features", ".features-validation"] {
            assert!(
                !dir.path("run").join(features).exists(),
                "{method}: {features}"
            );
        }
        // Whole folders, single pictures, and what is saved alone.
        let rows = |arguments: &str| -> Vec<Value> {
            let lines = dir.ok(arguments);
            lines
                .lines()
                .map(|line| serde_json::from_str(line).unwrap())
                .collect()
        };
        assert_eq!(rows("predict run pictures").len(), 24);
        let alone = rows("predict run/final pictures/red/03.png");
        assert_eq!(alone[0]["label"], "red", "{method}: {}", alone[0]);
        let report: Value = serde_json::from_str(&dir.ok("evaluate run pictures --json")).unwrap();
        assert_eq!(report["n"], 24);
        assert!(
            report["accuracy"].as_f64().unwrap() > 0.9,
            "{method}: {report}"
        );
        let kept = fs::read_to_string(dir.path("run/report.html")).unwrap();
        assert_eq!(
            kept.contains("was computed once"),
            method != "peft.unfreeze_every=1",
            "{method}"
        );
        assert!(dir.ok("inspect run/final").contains("resnet"), "{method}");
    }
}

/// As for text, with all that an image run keeps besides weights: running statistics, an average of the weights, the stages
/// freed so far, and which view of a picture comes next.
#[test]
#[cfg(unix)]
fn a_stopped_image_run_resumes_to_the_same_bytes() {
    let dir = Dir::new();
    dir.pictures();
    for (name, settings) in [
        (
            "average",
            "--set train.ema_decay=0.9 --set train.class_weights=true --set images.mixup=0.2 --set images.rand_augment=5",
        ),
        (
            "freed",
            "--set peft.unfreeze_every=2 --set train.layer_decay=0.7 --set train.weighted_sampling=true",
        ),
        ("kept", "--set peft.train_last=1 --set images.views=2"),
    ] {
        let tune = format!(
            "{TUNE_PICTURES} {settings} --epochs 6 --set train.batch_size=4 --set checkpoint.every_steps=1 --set checkpoint.keep=100"
        );
        dir.ok(&format!("{tune} -o {name}"));
        // What a run that was killed after its seventh step leaves: later checkpoints never came to be.
        let cut = format!("{name}-cut");
        dir.ok(&format!("{tune} -o {cut}"));
        for entry in fs::read_dir(dir.path(&cut).join("checkpoints")).unwrap() {
            let path = entry.unwrap().path();
            let step: String = path.to_string_lossy().rsplit('-').next().unwrap().into();
            if step.parse::<u64>().is_ok_and(|step| step > 7) {
                fs::remove_dir_all(path).unwrap();
            }
        }
        fs::remove_dir_all(dir.path(&cut).join("final")).unwrap();
        dir.ok(&format!("finetune --resume {cut}"));
        let weights = |run: &str| fs::read(dir.path(run).join("final/model.safetensors")).unwrap();
        assert!(weights(name) == weights(&cut), "{name}: the weights differ");
    }
}

/// Numbers and sets of labels go the way of classes: `init` chooses the task, the run reports its own figures, and what is
/// saved answers as the run did.
#[test]
fn numbers_and_sets_of_labels_from_a_table_to_predictions() {
    let dir = Dir::new();
    let rows = support::examples();
    let texts: Vec<&str> = rows
        .lines()
        .skip(1)
        .map(|row| row.rsplit_once(',').unwrap().0)
        .collect();
    let lines = |label: fn(usize) -> String| -> String {
        let row = |(i, text): (usize, &&str)| format!("{text},{}\n", label(i));
        texts.iter().enumerate().map(row).collect()
    };
    let scores = lines(|i| format!("{}.{}", 100_000 + 1000 * i, i % 7));
    dir.write("scores.csv", format!("text,score\n{scores}"));
    let tags = lines(|i| ["late|broken", "late", "broken", ""][i % 4].to_owned());
    dir.write("tags.csv", format!("text,tags\n{tags}"));

    for (file, task, figure) in [
        ("scores.csv", "text-regression", "Pearson"),
        ("tags.csv", "text-multi-label", "micro F1"),
    ] {
        let run_file = dir.ok(&format!("init {file} -o -"));
        assert!(
            run_file.contains(&format!("\ntask = \"{task}\"\n")),
            "{run_file}"
        );
        let run = format!("run-{task}");
        let said = dir.ok(&format!(
            "finetune --model model --train {file} --task {task} --epochs 2 -o {run}"
        ));
        assert!(said.contains(figure), "{said}");
        let results = fs::read_to_string(dir.path(&run).join("results.json")).unwrap();
        let results: Value = serde_json::from_str(&results).unwrap();
        assert_eq!(results["task"], task);
        assert!(results["figures"]["loss"].as_f64().unwrap().is_finite());
        let config = dir.ok(&format!("inspect {run}"));
        assert!(config.contains(task), "{config}");
    }

    let line = dir.ok("predict run-text-regression thanks");
    let answer: Value = serde_json::from_str(&line).unwrap();
    let score = answer["score"].as_f64().unwrap();
    assert!((90_000.0..140_000.0).contains(&score), "{answer}");
    let evaluated = dir.ok("evaluate run-text-regression scores.csv --json");
    let evaluated: Value = serde_json::from_str(&evaluated).unwrap();
    assert_eq!(evaluated["n"], 30);
    assert!(evaluated["mae"].as_f64().unwrap() < 30_000.0, "{evaluated}");

    let line = dir.ok("predict run-text-multi-label thanks");
    let answer: Value = serde_json::from_str(&line).unwrap();
    let labels = answer["labels"].as_array().unwrap();
    let saved = fs::read_to_string(dir.path("run-text-multi-label/final/rekindle.json")).unwrap();
    let saved: Value = serde_json::from_str(&saved).unwrap();
    for (label, threshold) in [("broken", 0), ("late", 1)] {
        let probability = answer["probabilities"][label].as_f64().unwrap();
        let given = labels.iter().any(|given| given == label);
        let threshold = saved["thresholds"][threshold].as_f64().unwrap();
        assert_eq!(given, probability >= threshold, "{label} {answer} {saved}");
    }
    // What the thresholds were chosen on is said, in the terminal and in the report.
    let tune = "finetune --model model --train tags.csv --task text-multi-label --epochs 1";
    for (run, more, expected) in [
        ("flattered", "", "whose figures are shown"),
        (
            "tested",
            "--set data.test_fraction=0.2",
            "the figures are of the test examples",
        ),
    ] {
        let said = dir.output(&format!("{tune} {more} -o {run}"));
        let page = fs::read_to_string(dir.path(run).join("report.html")).unwrap();
        for said in [said, page] {
            assert!(
                said.contains("the thresholds were chosen on the validation examples"),
                "{said}"
            );
            assert!(said.contains(expected), "{said}");
        }
    }
    let said = dir.ok("evaluate run-text-multi-label tags.csv");
    assert!(said.contains("threshold"), "{said}");

    // A column that does not fit the task is refused with the one that does.
    let refused = dir.rekindle(
        "finetune --model model --train scores.csv --label score --task text-classification -o no",
    );
    let refused = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(
        refused.contains("looks like a number to predict")
            && refused.contains("--task text-regression"),
        "{refused}"
    );
    let said = dir.refused("init scores.csv -o scores.csv --force");
    assert!(said.contains("the file of examples"), "{said}");
    // What `init` wrote is used where nothing else is said.
    dir.ok("init scores.csv --label score --set model.name=model --set output_dir=by-file");
    let said = dir.output("finetune --dry-run");
    assert!(
        said.contains("using rekindle.toml") && said.contains("by-file"),
        "{said}"
    );
    fs::remove_file(dir.path("rekindle.toml")).unwrap();
    // Where nobody names the task, the column does.
    for (file, task) in [
        ("scores.csv", "text-regression"),
        ("tags.csv", "text-multi-label"),
    ] {
        let said = dir.output(&format!(
            "finetune {file} --model model --lr 2e-4 --batch-size 4 --seed 3 -o auto --dry-run"
        ));
        assert!(said.contains(&format!("learning {task}")), "{said}");
        assert!(
            said.contains("of 4 examples") && said.contains("2e-4"),
            "{said}"
        );
    }
}
