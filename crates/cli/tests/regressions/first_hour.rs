//! What people ran into in their first hour with the program.

use crate::{refused_with, support::Dir};
use serde_json::Value;
use std::{
    fs,
    process::{Child, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

const RUN: &str = "finetune --model model --train train.csv --epochs 1 -o run";

/// Starts the program and leaves it running.
fn started(dir: &Dir, arguments: &str) -> Child {
    dir.command(env!("CARGO_BIN_EXE_rekindle"))
        .args(arguments.split_whitespace())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

/// Waits until something is so.
fn wait_for(what: &str, is_so: impl Fn() -> bool) {
    let clock = Instant::now();
    while !is_so() {
        assert!(clock.elapsed() < Duration::from_secs(60), "no {what}");
        sleep(Duration::from_millis(20));
    }
}

/// A run that was made longer and interrupted had neither results nor a report until it ended.
#[test]
fn a_run_that_is_made_longer_keeps_its_results_until_it_has_others() {
    let dir = Dir::new();
    dir.ok(RUN);
    let before = fs::read(dir.path("run/results.json")).unwrap();
    let mut longer = started(&dir, "finetune --resume run --epochs 100000");
    let steps = || fs::read_to_string(dir.path("run/metrics.jsonl")).unwrap_or_default();
    wait_for("step of the longer run", || steps().lines().count() > 20);
    longer.kill().unwrap();
    longer.wait().unwrap();
    assert_eq!(fs::read(dir.path("run/results.json")).unwrap(), before);
    assert!(dir.path("run/report.html").is_file());
    let listed: Value = serde_json::from_str(&dir.ok("runs run --json")).unwrap();
    assert_eq!(listed[0]["state"]["is"], "stopped", "{listed}");
    // It goes on, and ends with results of its own.
    let max = steps().lines().count() + 2000;
    dir.ok(&format!("finetune --resume run --set max_steps={max}"));
    let listed: Value = serde_json::from_str(&dir.ok("runs run --json")).unwrap();
    assert_eq!(listed[0]["state"]["is"], "finished", "{listed}");
    assert_ne!(fs::read(dir.path("run/results.json")).unwrap(), before);
    assert!(!dir.path("run/.longer").exists());
}

/// A few rows with several labels were learned as classes of their own.
#[test]
fn labels_with_a_separator_in_a_few_rows_are_sets() {
    let dir = Dir::new();
    let label = |i: usize| match i % 10 {
        0 => "red|blue",
        i if i % 2 == 1 => "red",
        _ => "blue",
    };
    let row = |i| format!("thanks card {i},{}\n", label(i));
    let rows: String = (0..40).map(row).collect();
    dir.write("few.csv", format!("text,labels\n{rows}"));
    let said = dir.output("finetune few.csv --model model --dry-run");
    for words in [
        "learning text-multi-label",
        "column `labels` is read as sets of labels, separated by `|`: 4 of 40 rows have several",
        "2: blue, red",
    ] {
        assert!(said.contains(words), "{words}\n{said}");
    }
    // Who says that each value is a class is taken at their word.
    let classes = "finetune few.csv --model model --dry-run --task text-classification";
    assert!(dir.output(classes).contains("3: blue, red, red|blue"));
    // Lists are sets, also where each holds one label.
    let row = |i| format!("{{\"text\": \"card {i}\", \"labels\": [\"{}\"]}}\n", i % 2);
    dir.write("lists.jsonl", (0..30).map(row).collect::<String>());
    let said = dir.output("finetune lists.jsonl --model model --dry-run");
    assert!(said.contains("learning text-multi-label"), "{said}");
}

/// One picture that is not there stopped the answers about all others.
#[test]
fn every_picture_that_is_named_gets_an_answer_or_a_reason() {
    let dir = Dir::new();
    dir.pictures();
    dir.ok("finetune --task image-classification --model resnet --train pictures --epochs 1 -o run --set train.batch_size=4");
    let output =
        dir.rekindle("predict run pictures/red/00.png missing.png pictures/blue/01.png --json");
    assert_eq!(output.status.code(), Some(1));
    let lines: Vec<Value> = dir
        .plain(&output.stdout)
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(lines.len(), 3);
    assert!(lines[0]["label"].is_string() && lines[2]["label"].is_string());
    assert_eq!(lines[1]["file"], "missing.png");
    assert!(lines[1]["error"].is_string(), "{}", lines[1]);
    let said = dir.plain(&output.stderr);
    assert!(said.contains("1 of 3 not labelled"), "{said}");
    refused_with(&dir, "predict run missing.png", &["missing.png"]);
}

/// A picture whose name is not UTF-8 was told of by another name, or stopped the answers about all others.
#[cfg(target_os = "linux")]
#[test]
fn names_that_are_not_utf8_are_told_of() {
    use std::{ffi::OsStr, os::unix::ffi::OsStrExt, path::Path};
    let dir = Dir::new();
    dir.pictures();
    let tune = "finetune --task image-classification --model resnet --train pictures --epochs 1 -o run --set train.batch_size=4";
    dir.ok(tune);
    let name = Path::new(OsStr::from_bytes(b"caf\xe9.png"));
    let odd = dir.path("pictures/red").join(name);
    fs::copy(dir.path("pictures/red/00.png"), &odd).unwrap();
    for (argument, labelled) in [(odd.as_os_str(), 0), (OsStr::new("pictures/red"), 12)] {
        let output = dir
            .command(env!("CARGO_BIN_EXE_rekindle"))
            .args(["predict", "run", "--json"])
            .arg(argument)
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(1));
        let said = dir.plain(&output.stderr);
        assert!(
            said.contains("caf\u{fffd}.png: its name is not UTF-8"),
            "{said}"
        );
        let answers = dir.plain(&output.stdout);
        assert_eq!(answers.matches("\"label\"").count(), labelled, "{answers}");
    }
    refused_with(
        &dir,
        &tune.replace("-o run", "-o again"),
        &["caf\u{fffd}.png: its name is not UTF-8"],
    );
    let texts = dir
        .command(env!("CARGO_BIN_EXE_rekindle"))
        .args(["predict", "model"])
        .arg(OsStr::from_bytes(b"caf\xe9"))
        .output()
        .unwrap();
    let said = dir.plain(&texts.stderr);
    assert!(said.contains("hint: "), "{said}");
}

/// What is to be labelled needs no label column.
#[test]
fn a_file_without_a_header_is_labelled_whatever_its_other_column_is() {
    let dir = Dir::new();
    dir.ok(RUN);
    dir.write(
        "new.csv",
        "7,my card never came\n8,how can i open an account\n9,thanks very good card\n",
    );
    let output = dir.output("predict run --file new.csv --set data.header=false");
    assert!(
        output.contains("column 1 is read as the text")
            && output.contains("\"my card never came\""),
        "{output}"
    );
}

/// Bad rows were told one after the other, a run for each.
#[test]
fn bad_rows_are_told_together() {
    let dir = Dir::new();
    let label = |i: usize| match i {
        3 | 9 => "",
        _ if i.is_multiple_of(2) => "yes",
        _ => "no",
    };
    let text = |i: usize| if i == 5 { "" } else { "good card" };
    let row = |i| format!("{},{}\n", text(i), label(i));
    let rows: String = (0..20).map(row).collect();
    dir.write("bad.csv", format!("text,label\n{rows}"));
    refused_with(
        &dir,
        "finetune bad.csv --model model",
        &[
            "3 rows cannot be used:",
            "bad.csv:5: the label in column `label` is missing",
            "bad.csv:7: ",
            "bad.csv:11: ",
            "--set data.on_bad_example=skip",
        ],
    );
}

/// Notes stood in the plan again, and every evaluation was the best so far.
#[test]
fn a_run_says_everything_once() {
    let dir = Dir::new();
    let said = dir.output(&RUN.replace("--epochs 1", "--epochs 4 --set eval.choose=best"));
    for line in said.lines().filter(|line| line.len() > 40) {
        let text = line.trim_start_matches("note").trim();
        assert_eq!(said.matches(text).count(), 1, "{line}\n{said}");
    }
    assert_eq!(said.matches("best accuracy so far").count(), 1, "{said}");
    dir.write(
        "alike.csv",
        "text,label\n".to_owned()
            + &(0..40)
                .map(|i| format!("card {i},{}\n", ["Yes", "yes", "no"][i % 3]))
                .collect::<String>(),
    );
    let said = dir.output("finetune alike.csv --model model --epochs 1 -o alike");
    assert_eq!(said.matches("labels that look alike").count(), 1, "{said}");
}

/// A table with a name twice in its header was taken for texts to write.
#[test]
fn a_column_that_is_there_twice_is_told_of() {
    let dir = Dir::new();
    let rows = (0..12).map(|i| format!("card {i},again {i},{}\n", ["yes", "no"][i % 2]));
    dir.write(
        "twice.csv",
        "text,text,label\n".to_owned() + &rows.collect::<String>(),
    );
    refused_with(
        &dir,
        "finetune twice.csv --model model",
        &["named `text`", "by its number"],
    );
    dir.ok("finetune twice.csv --model model --text 1 --dry-run");
}

/// The list of runs was wider than any terminal.
#[test]
fn the_list_of_runs_fits() {
    let dir = Dir::new();
    let name = "a-name-of-a-run-that-is-rather-long-as-they-often-are-2";
    dir.ok(&RUN.replace("-o run", &format!("-o runs/{name}")));
    let listed = dir.ok("runs");
    assert!(
        listed.lines().all(|line| line.chars().count() <= 100),
        "{listed}"
    );
    assert!(
        listed.contains(name) && listed.lines().count() == 2,
        "{listed}"
    );
    assert!(dir.output("runs").contains("--json has everything"));
    let all: Value = serde_json::from_str(&dir.ok("runs --json")).unwrap();
    assert!(all[0]["method"].is_string());
}

/// `--lr` was a flag, and `--set lr=` unknown.
#[test]
fn settings_go_by_the_names_of_options_and_without_their_section() {
    let dir = Dir::new();
    let plan = dir.output("finetune train.csv --model model --dry-run --set lr=2e-3 --set max_length=32 --set batch_size=4 --set output=there");
    for words in ["2e-3, linear", "of 4 examples each", "there: config.toml"] {
        assert!(plan.contains(words), "{words}\n{plan}");
    }
}

/// What a model was and what came out of it stood below all its evaluations.
#[test]
fn inspect_says_first_what_matters() {
    let dir = Dir::new();
    dir.ok(&RUN.replace("--epochs 1", "--epochs 3 --set eval.choose=best"));
    let said = dir.ok("inspect run");
    let at = |words: &str| {
        said.find(words)
            .unwrap_or_else(|| panic!("{words}\n{said}"))
    };
    let order = [
        "state",
        "task",
        "data",
        "result",
        "adapter",
        "checkpoints",
        "step 1",
    ];
    assert!(order.map(at).is_sorted(), "{said}");
    assert_eq!(said.matches("(best accuracy)").count(), 1, "{said}");
}

/// A run that ended with an adapter was no complete model directory, with a hint about something else.
#[test]
fn tuning_an_adapter_further_names_the_way() {
    let dir = Dir::new();
    dir.ok(RUN);
    for (model, merged) in [("run", "run-merged"), ("run/final", "final-merged")] {
        refused_with(
            &dir,
            &format!("finetune train.csv --model {model}"),
            &[
                "a whole model",
                &format!("/{model} --to {merged}; then name it: --model {merged}"),
            ],
        );
    }
    dir.ok("merge run --to run-merged");
    dir.ok("finetune train.csv --model run-merged --epochs 1 -o next --method full");
    // A run that ended with a whole model is a model.
    dir.ok("finetune train.csv --model next --epochs 1 -o after");
}

/// Cards told where the base model lay on somebody's machine; what was merged had none.
#[test]
fn cards_hold_no_paths() {
    let dir = Dir::new();
    dir.ok(RUN);
    dir.ok("merge run --to merged");
    let root = dir.path("");
    for card in ["run/final/README.md", "merged/README.md"] {
        let text = fs::read_to_string(dir.path(card)).unwrap();
        assert!(!text.contains(root.to_str().unwrap()), "{card}\n{text}");
        assert!(text.contains("a local model `model`"), "{card}\n{text}");
        assert!(
            text.contains("## Figures") && text.contains("## How to load it"),
            "{text}"
        );
    }
    let merged = fs::read_to_string(dir.path("merged/README.md")).unwrap();
    assert!(
        merged.contains("library_name: transformers") && !merged.contains("peft"),
        "{merged}"
    );
}

/// The last step may break a model as any other does.
#[test]
fn a_model_that_the_last_step_broke_is_an_error() {
    let dir = Dir::new();
    for every in ["epoch", "never"] {
        refused_with(
            &dir,
            &format!(
                "finetune train.csv --model model --method full --lr 1e38 --set max_steps=1 --set warmup_steps=0 --set eval.every={every} -o {every}"
            ),
            &["step 1: the loss after it is", "lower train.learning_rate"],
        );
        assert!(!dir.path(&format!("{every}/final")).exists());
    }
}

/// A run file that comes through a pipe could not be waited for and left.
#[cfg(unix)]
#[test]
fn a_signal_ends_the_wait_for_a_run_file() {
    let dir = Dir::new();
    let made = std::process::Command::new("mkfifo")
        .arg(dir.path("pipe.toml"))
        .status()
        .unwrap();
    assert!(made.success());
    let mut waiting = started(&dir, "finetune --config pipe.toml");
    sleep(Duration::from_millis(500));
    assert!(waiting.try_wait().unwrap().is_none());
    let sent = std::process::Command::new("kill")
        .args(["-TERM", &waiting.id().to_string()])
        .status()
        .unwrap();
    assert!(sent.success());
    let clock = Instant::now();
    while waiting.try_wait().unwrap().is_none() {
        if clock.elapsed() > Duration::from_secs(20) {
            waiting.kill().unwrap();
            panic!("it did not end");
        }
        sleep(Duration::from_millis(20));
    }
}
