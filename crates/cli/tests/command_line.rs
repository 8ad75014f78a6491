//! The command line itself: options that every verb takes, JSON of every verb, lists, and runs as a whole.
#![allow(clippy::unwrap_used)]

mod support;

use serde_json::Value;
use std::{collections::BTreeSet, fs, process::Output};
use support::Dir;

const TUNE: &str = "finetune --model model --train train.csv";

/// Every verb, with arguments that make it succeed in [`ready`].
const VERBS: [(&str, &str); 17] = [
    (
        "finetune",
        "--model model --train train.csv --epochs 1 -o fresh",
    ),
    ("evaluate", "run train.csv"),
    ("predict", "run thanks"),
    ("look", "--model model --data train.csv"),
    ("inspect", "run"),
    ("merge", "run --to merged"),
    ("runs", "."),
    ("runs compare", "run run"),
    ("fetch", "intents --dataset"),
    ("init", "train.csv --force"),
    ("models", ""),
    ("datasets", ""),
    ("devices", ""),
    ("config", ""),
    ("config", "train.learning_rate"),
    ("completions", "bash"),
    ("man", ""),
];

/// A folder with a finished run in it.
fn ready() -> Dir {
    let dir = Dir::new();
    dir.ok(&format!("{TUNE} --epochs 1 -o run"));
    dir
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn run_with(dir: &Dir, variables: &[(&str, &str)], arguments: &str) -> Output {
    dir.command(env!("CARGO_BIN_EXE_rekindle"))
        .envs(variables.iter().copied())
        .args(arguments.split_whitespace())
        .output()
        .unwrap()
}

#[test]
fn every_verb_takes_the_global_options_on_either_side_and_quiet_says_nothing() {
    let dir = ready();
    for (verb, arguments) in VERBS {
        for line in [
            format!("--quiet --color never --no-progress {verb} {arguments}"),
            format!("{verb} {arguments} -q --color=never --no-progress"),
        ] {
            let _ = fs::remove_dir_all(dir.path("fresh"));
            let _ = fs::remove_dir_all(dir.path("merged"));
            let output = dir.rekindle(&line);
            let said = text(&output.stderr);
            assert!(output.status.success(), "{line}\n{said}");
            assert_eq!(said, "", "{line}");
            assert!(!output.stdout.is_empty(), "{line}");
            assert!(!output.stdout.contains(&0x1b), "{line}");
        }
    }
}

#[test]
fn verbose_says_what_was_found_and_how_long_it_took() {
    let dir = ready();
    for (line, expected) in [
        (
            "finetune --model model --train train.csv --epochs 1 -o fresh -v",
            &[
                "model /",
                "(local files)",
                "examples of ",
                "load model: ",
                "save model: ",
                " s in all",
            ][..],
        ),
        ("-v predict run thanks", &["model ", " s in all"]),
        (
            "look --model model --data train.csv --verbose",
            &["model model: "],
        ),
        (
            "-v init train.csv --force",
            &["rekindle 0.1.0", " s in all"],
        ),
    ] {
        let said = text(&dir.rekindle(line).stderr);
        for expected in expected {
            assert!(
                said.contains(expected),
                "{line}: expected {expected}\n{said}"
            );
        }
        let without = line
            .replace(" --verbose", "")
            .replace("-v", "")
            .replace("fresh", "other");
        let said = text(&dir.rekindle(&without).stderr);
        assert!(!said.contains("s in all"), "{without}\n{said}");
    }
}

#[test]
fn no_progress_leaves_steps_out_and_nothing_else() {
    let dir = Dir::new();
    let usual = dir.output(&format!("{TUNE} --epochs 1 -o usual"));
    let without = dir.output(&format!("{TUNE} --epochs 1 -o without --no-progress"));
    assert!(usual.contains("step 1/"), "{usual}");
    assert!(!without.contains("step 1/"), "{without}");
    assert!(without.contains("validation accuracy"), "{without}");
}

#[test]
fn colours_are_used_as_asked() {
    let dir = Dir::new();
    let is_coloured = |variables: &[(&str, &str)], line: &str| {
        let output = run_with(&dir, variables, line);
        [output.stdout, output.stderr].concat().contains(&0x1b)
    };
    for line in [
        "--help",
        "finetune --nope",
        "finetune --model model --train nothing.csv",
        "look --model model --data train.csv",
    ] {
        // Here nothing is a terminal.
        assert!(!is_coloured(&[], line), "{line}");
        assert!(is_coloured(&[("CLICOLOR_FORCE", "1")], line), "{line}");
        let both = [("CLICOLOR_FORCE", "1"), ("NO_COLOR", "1")];
        assert!(!is_coloured(&both, line), "{line}");
        assert!(
            is_coloured(&both, &format!("--color always {line}")),
            "{line}"
        );
        let never = format!("{line} --color never");
        assert!(!is_coloured(&[("CLICOLOR_FORCE", "1")], &never), "{line}");
    }
    let said = run_with(&dir, &[], "--color always evaluate nothing train.csv");
    let said = text(&said.stderr);
    assert!(said.contains("\x1b[1;91merror:\x1b[0m"), "{said:?}");
    assert!(said.contains("\n\x1b[1;96mhint:\x1b[0m"), "{said:?}");
}

#[test]
fn every_verb_that_prints_prints_json() {
    let dir = ready();
    for (line, keys) in [
        (
            format!("{TUNE} --epochs 1 -o other"),
            &["dir", "final", "report", "figures", "seconds"][..],
        ),
        (
            format!("{TUNE} --epochs 1 --dry-run"),
            &["model", "steps", "writes"],
        ),
        ("finetune --resume run".into(), &["dir", "final", "figures"]),
        ("evaluate run train.csv".into(), &["n", "accuracy"]),
        ("inspect run".into(), &["run", "checkpoints", "tensors"]),
        (
            "inspect model/model.safetensors --tensors".into(),
            &["tensors"],
        ),
        (
            "look --model model --data train.csv".into(),
            &["examples", "summary", "notes"],
        ),
        (
            "merge run --to merged".into(),
            &["dir", "largest_difference", "texts"],
        ),
        (
            "fetch --dataset intents".into(),
            &["name", "files", "source"],
        ),
        ("fetch ./model".into(), &["name", "dir", "source"]),
        (
            "init train.csv".into(),
            &["written", "task", "about", "settings", "run_file"],
        ),
        (
            "runs compare run other".into(),
            &["runs", "settings", "figures", "curves"],
        ),
        (
            "config train.epochs".into(),
            &["path", "docs", "accepts", "other_names"],
        ),
    ] {
        let said = dir.ok(&format!("{line} --json"));
        let value: Value =
            serde_json::from_str(&said).unwrap_or_else(|e| panic!("{line}: {e}\n{said}"));
        for key in keys {
            assert!(
                value.get(key).is_some_and(|v| !v.is_null()),
                "{line}: no {key}\n{said}"
            );
        }
    }
    for line in [
        "runs .",
        "models",
        "datasets",
        "devices",
        "config",
        "config train",
    ] {
        let said = dir.ok(&format!("{line} --json"));
        let value: Value = serde_json::from_str(&said).unwrap();
        assert!(
            value.as_array().is_some_and(|list| !list.is_empty()),
            "{line}\n{said}"
        );
    }
    // What was decided stands in the file, and the file is what it says.
    let said = dir.ok("init train.csv -o - --json");
    let decided: Value = serde_json::from_str(&said).unwrap();
    assert_eq!(decided["settings"]["data"]["label"], "label");
    assert_eq!(decided["written"], Value::Null);
    let about = decided["about"][0].as_str().unwrap();
    assert!(about.starts_with("Written for "), "{about}");
}

#[test]
fn the_version_names_commit_backends_and_cpu() {
    let dir = Dir::new();
    let (short, long) = (dir.ok("-V"), dir.ok("--version"));
    assert_eq!(short.lines().count(), 1, "{short}");
    assert!(short.starts_with("rekindle 0.1.0"), "{short}");
    assert_eq!(long.lines().next(), short.lines().next());
    assert!(long.contains("\nbackends    cpu"), "{long}");
    assert!(
        long.contains(&format!("\nCPU         {}", std::env::consts::ARCH)),
        "{long}"
    );
    let in_checkout = std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../.git")
        .exists();
    assert_eq!(short.contains("(commit "), in_checkout, "{short}");
}

#[test]
fn completions_and_manual_know_every_verb() {
    let dir = Dir::new();
    let verbs: BTreeSet<&str> = VERBS
        .iter()
        .map(|(verb, _)| verb.split(' ').next().unwrap())
        .collect();
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        let script = dir.ok(&format!("completions {shell}"));
        for verb in &verbs {
            assert!(script.contains(verb), "{shell}: {verb}");
        }
        assert!(script.contains("batch-size"), "{shell}");
    }
    let whole = dir.ok("man");
    assert!(whole.contains(".TH rekindle 1"), "{}", &whole[..200]);
    dir.ok("man --to pages");
    for verb in verbs {
        let page = fs::read_to_string(dir.path(&format!("pages/rekindle-{verb}.1"))).unwrap();
        assert!(page.contains(".SH OPTIONS"), "{verb}");
        assert!(whole.contains(&format!("rekindle\\-{verb}")), "{verb}");
    }
    assert!(dir.path("pages/rekindle-runs-compare.1").is_file());
    assert!(dir.path("pages/rekindle.1").is_file());
}

#[test]
fn every_verb_has_two_examples() {
    let dir = Dir::new();
    let verbs: BTreeSet<&str> = VERBS.iter().map(|(verb, _)| *verb).collect();
    for verb in verbs.into_iter().chain(["generate", "chat", "export"]) {
        let help = dir.ok(&format!("{verb} --help"));
        let (_, examples) = help
            .split_once("Examples:")
            .unwrap_or_else(|| panic!("{verb}\n{help}"));
        assert!(
            examples.matches("\n  rekindle ").count() >= 2 || verb == "export",
            "{verb}\n{help}"
        );
        assert!(help.contains("Global options"), "{verb}\n{help}");
    }
}

#[test]
fn lists_say_what_is_here() {
    let dir = Dir::new();
    let models = dir.ok("models");
    let row = |list: &str, name: &str| {
        let line = list
            .lines()
            .find(|line| line.starts_with(name))
            .map(str::to_owned);
        line.unwrap_or_else(|| panic!("no {name}\n{list}"))
    };
    // The cache of these tests is empty.
    assert!(row(&models, "minilm").contains(" no "), "{models}");
    assert!(row(&models, "smollm2").contains("Apache-2.0"), "{models}");
    let datasets = dir.ok("datasets");
    let intents = row(&datasets, "intents");
    assert!(
        intents.contains(" yes ") && intents.contains("text-classification"),
        "{intents}"
    );
    assert!(
        datasets.contains("\nintents is in [DIR]/cache/datasets/intents-"),
        "{datasets}"
    );
    assert!(row(&datasets, "icons").contains(" no "), "{datasets}");
    // A broken card is a row that says so.
    dir.write("datasets/mine/card.toml", "name = 3");
    dir.write("datasets/ours/card.toml", "name = \"ours\"\ntask = \"text-classification\"\ndescription = \"Ours\"\nlicence = \"MIT\"\n[files]\ntrain = \"train.csv\"\n");
    dir.write("datasets/ours/train.csv", support::examples());
    let datasets = dir.ok("datasets");
    assert!(row(&datasets, "mine").contains("card.toml"), "{datasets}");
    assert!(row(&datasets, "ours").contains(" yes "), "{datasets}");

    let devices = dir.ok("devices");
    assert!(row(&devices, "cpu").contains(" yes "), "{devices}");
    assert!(row(&devices, "cpu").contains("threads"), "{devices}");
}

#[test]
fn settings_are_listed_and_explained() {
    let dir = Dir::new();
    let all = dir.ok("config");
    assert!(all.contains("\n[train]  The training loop."), "{all}");
    assert!(
        all.contains(
            "  batch_size = 32; 16 for question-answering, 16 for multiple-choice, 16 for text-generation, 8 for text-preference, 64 for text-embedding, 16 for image-classification, 16 for image-multi-label  (a whole number of at least 1)\n      Examples in a batch"
        ),
        "{all}"
    );
    let section = dir.ok("config eval");
    assert!(
        section.contains("[eval]") && !section.contains("[train]"),
        "{section}"
    );
    let one = dir.ok("config train.batch_size");
    assert!(one.contains("per_device_train_batch_size"), "{one}");
    assert!(one.contains("8 for text-preference"), "{one}");
    assert!(
        one.contains("set it       --set train.batch_size=VALUE"),
        "{one}"
    );
    for (wrong, near) in [
        ("train.lr", "did you mean `train.learning_rate`?"),
        ("train.epoch", "did you mean `train.epochs`?"),
        ("batch_sise", "train.batch_size"),
    ] {
        let said = dir.refused(&format!("config {wrong}"));
        assert!(said.contains(near), "{wrong}\n{said}");
    }
}

/// A build that trains in one process does not train n times into one directory.
#[test]
#[cfg(not(feature = "mpi"))]
fn one_of_several_processes_is_refused_by_a_build_without_mpi() {
    let dir = Dir::new();
    let run = |rank: &str, alone: &str| {
        let mut command = dir.command(env!("CARGO_BIN_EXE_rekindle"));
        command
            .args("finetune --model model --train train.csv --epochs 1 -o run".split(' '))
            .env("OMPI_COMM_WORLD_SIZE", "4")
            .env("OMPI_COMM_WORLD_RANK", rank)
            .env("REKINDLE_PROCESSES", alone);
        let output = command.output().unwrap();
        (output.status.code(), dir.plain(&output.stderr))
    };
    let (code, said) = run("0", "");
    assert_eq!(code, Some(1), "{said}");
    let refused =
        "error: mpirun started 4 processes, but this build trains in one\nhint: build with MPI";
    assert!(said.starts_with(refused), "{said}");
    assert_eq!(run("2", ""), (Some(1), String::new()));
    assert!(!dir.path("run").exists());
    // Each by itself, as it is asked to.
    assert_eq!(run("2", "1").0, Some(0));
}

/// `docs/settings.md` is what the program says.
#[test]
fn the_page_of_settings_is_up_to_date() {
    let page = Dir::new().ok("config --markdown");
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/settings.md");
    let kept = fs::read_to_string(path).unwrap_or_default();
    assert!(
        kept == page,
        "make it anew: cargo run -- config --markdown > docs/settings.md"
    );
}

#[test]
fn ten_mistakes_are_named_and_the_others_counted() {
    let dir = Dir::new();
    let keys: String = (0..2010).map(|i| format!("nonsense_{i} = 1\n")).collect();
    dir.write("many.toml", keys);
    let said = dir.refused("finetune --config many.toml");
    assert!(said.contains("2010 mistakes"), "{said}");
    assert!(said.contains("\n 10. many.toml:10:1"), "{said}");
    assert!(said.contains("\n     and 2,000 more"), "{said}");
    assert!(!said.contains("\n 11. "), "{said}");
    for i in 0..40 {
        dir.write(&format!("full/{i:02}.txt"), "x");
    }
    let said = dir.refused("inspect full");
    assert!(said.contains("09.txt and 30 more"), "{said}");
}

#[test]
fn runs_are_listed_whatever_became_of_them() {
    let dir = Dir::new();
    dir.ok(&format!("{TUNE} --epochs 2 -o runs/whole"));
    // Killed after a checkpoint: nothing of the end is there.
    dir.ok(&format!("{TUNE} --epochs 2 -o runs/stopped"));
    for name in ["final", "results.json", "report.html"] {
        dir.remove(&format!("runs/stopped/{name}"));
    }
    // A rate at which the loss is no number.
    let wild = format!(
        "{TUNE} -o runs/wild --lr 1e30 --method full --set train.warmup_steps=0 --set train.max_grad_norm=0 --set train.epochs=20"
    );
    assert!(!dir.rekindle(&wild).status.success());
    dir.write("runs/foreign/notes.txt", "mine");
    dir.write("runs/broken/config.toml", "task = = 3");
    dir.write("runs/begun/config.toml", "task = \"text-classification\"");

    let config = fs::File::options()
        .write(true)
        .open(dir.path("runs/begun/config.toml"))
        .unwrap();
    let noon = std::time::UNIX_EPOCH + std::time::Duration::from_secs(4_102_444_800 + 12 * 3600);
    config.set_modified(noon).unwrap();

    let list = dir.ok("runs");
    for (name, state) in [
        ("whole", "finished"),
        ("stopped", "stopped at step 2 of 2"),
        ("wild", "failed: "),
        ("foreign", "not a run"),
        ("broken", "damaged: config.toml"),
        ("begun", "stopped before its first checkpoint"),
    ] {
        let line = list
            .lines()
            .find(|line| line.starts_with(&format!("{name} ")));
        let line = line.unwrap_or_else(|| panic!("no {name}\n{list}"));
        assert!(line.contains(state), "{name}: expected {state}\n{line}");
    }
    let whole = list
        .lines()
        .find(|line| line.starts_with("whole "))
        .unwrap();
    assert!(whole.contains("accuracy "), "{whole}");
    dir.hold("runs/stopped");
    assert!(dir.ok("runs").contains("running, step "));
    // The newest is the last.
    let last = list.lines().last().unwrap();
    assert!(
        last.starts_with("begun ") && last.contains("2100-01-01 12:00"),
        "{list}"
    );

    assert!(dir.ok("runs runs/whole").lines().count() == 2);
    assert!(dir.refused("runs nothing").contains("no such directory"));
    dir.remove("runs");
    assert!(dir.ok("runs").contains("no runs in runs"));
}

#[test]
fn runs_are_compared() {
    let dir = Dir::new();
    dir.ok(&format!("{TUNE} --epochs 2 -o a"));
    dir.ok(&format!("{TUNE} --epochs 3 -o b --lr 0.002"));
    let said = dir.ok("runs compare a b --html both.html");
    for expected in [
        "A  a\nB  b\n",
        "train.epochs         ",
        "train.learning_rate       0.001  0.002",
        "accuracy ",
        " to ",
        "\nvalidation accuracy, * where runs meet\n",
    ] {
        assert!(said.contains(expected), "expected {expected:?}\n{said}");
    }
    assert!(!said.contains("output_dir"), "{said}");
    let page = fs::read_to_string(dir.path("both.html")).unwrap();
    assert!(
        page.contains("<svg") && page.contains("Settings that differ"),
        "{page}"
    );
    assert!(page.contains("train.learning_rate") && !page.contains("<script"));
    let refused = dir.refused("runs compare a model");
    assert!(
        refused.contains("model: not a run that can be compared"),
        "{refused}"
    );
    assert!(dir.rekindle("runs compare a").status.code() == Some(1));
}

#[test]
fn force_replaces_what_was_never_finished_and_nothing_else() {
    let dir = Dir::new();
    let tune = format!("{TUNE} --epochs 1 -o run");
    dir.ok(&tune);
    let said = dir.refused(&format!("{tune} --force"));
    assert!(said.contains("it holds a finished run"), "{said}");
    assert!(dir.path("run/final").is_dir());

    // Not finished: with a checkpoint, but no model.
    for name in ["final", "results.json", "report.html"] {
        dir.remove(&format!("run/{name}"));
    }
    let said = dir.refused(&tune);
    assert!(said.contains("--force"), "{said}");
    // What is not of a run is never removed.
    dir.write("run/thesis.txt", "mine");
    let said = dir.refused(&format!("{tune} --force"));
    assert!(said.contains("it holds `thesis.txt`"), "{said}");
    dir.remove("run/thesis.txt");
    // A mistake in the new run leaves the old one as it is.
    dir.refused("finetune --model model --train nothing.csv -o run --force");
    assert!(dir.path("run/checkpoints").is_dir());
    dir.hold("run");
    dir.refused(&format!("{tune} --force"));
    assert!(dir.path("run/checkpoints").is_dir());

    let dir = Dir::new();
    dir.write("run/config.toml", "task = \"text-classification\"");
    let said = dir.output(&format!("{tune} --force --seed 7"));
    assert!(said.contains("replacing the run in "), "{said}");
    let settings = fs::read_to_string(dir.path("run/config.toml")).unwrap();
    assert!(settings.contains("\nseed = 7"), "{settings}");
    assert!(dir.path("run/final").is_dir());
    // A folder that is not a run, and one that is not there.
    dir.write("notes/checkpoints/mine.txt", "mine");
    let said = dir.refused(&format!("{TUNE} --epochs 1 -o notes --force"));
    assert!(said.contains("it is no run"), "{said}");
    dir.ok(&format!("{TUNE} --epochs 1 -o new --force"));
}

/// With a rate that stays, a run that was made longer is the run that was as long from the start.
#[test]
fn a_run_that_is_made_longer_is_the_longer_run() {
    let dir = Dir::new();
    let tune = format!("{TUNE} --set train.schedule=constant --set train.warmup_steps=0");
    dir.ok(&format!("{tune} --epochs 2 -o short"));
    dir.ok(&format!("{tune} --epochs 5 -o long"));
    let weights =
        |run: &str| fs::read(dir.path(run).join("final/adapter_model.safetensors")).unwrap();
    assert!(weights("short") != weights("long"));

    let said = dir.output("finetune --resume short --epochs 5");
    assert!(said.contains("resuming after step 2 of 5"), "{said}");
    assert!(
        said.contains("up to step 2 the learning rate followed the schedule of 2"),
        "{said}"
    );
    let results: Value = serde_json::from_str(&dir.ok("finetune --resume short --json")).unwrap();
    assert_eq!(results["steps"], 5);
    assert!(weights("short") == weights("long"), "other weights");
    for name in ["log.txt", "report.html"] {
        let text = fs::read_to_string(dir.path("short").join(name)).unwrap();
        assert!(
            text.contains("planned with 2 steps and then given 5"),
            "{name}"
        );
    }
    let settings = fs::read_to_string(dir.path("short/config.toml")).unwrap();
    assert!(settings.contains("\nepochs = 5.0"), "{settings}");

    // As long as it is: nothing happens. Shorter than it is: refused. Other settings: refused.
    assert!(
        dir.output("finetune --resume short --epochs 5")
            .contains("already finished")
    );
    let said = dir.refused("finetune --resume short --epochs 3");
    assert!(said.contains("5 steps are done"), "{said}");
    assert!(dir.path("short/report.html").is_file());
    let said = dir.refused("finetune --resume short --set train.batch_size=8");
    assert!(
        said.contains("`train.batch_size` cannot be changed"),
        "{said}"
    );
    // By steps.
    dir.output("finetune --resume short --set train.max_steps=7");
    assert!(dir.ok("inspect short").contains("step-00000007"));
}

/// Killed after its settings were changed and before the first new checkpoint, it still is a run of the new length.
#[test]
fn a_longer_run_that_was_killed_at_once_is_resumed() {
    let dir = Dir::new();
    let tune = format!("{TUNE} --set train.schedule=constant --set train.warmup_steps=0");
    dir.ok(&format!("{tune} --epochs 2 -o short"));
    let before = fs::read_to_string(dir.path("short/config.toml")).unwrap();
    let checkpoint = dir.path("short/checkpoints/step-00000002");
    let kept = dir.path("kept");
    fs::create_dir(&kept).unwrap();
    let move_all = |from: &std::path::Path, to: &std::path::Path| {
        fs::create_dir_all(to).unwrap();
        for entry in fs::read_dir(from).unwrap() {
            let entry = entry.unwrap();
            fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
        }
    };
    move_all(&checkpoint, &kept);
    dir.ok("finetune --resume short --epochs 4");
    let longer = fs::read(dir.path("short/final/adapter_model.safetensors")).unwrap();
    assert_eq!(
        fs::read_to_string(dir.path("short/config.before.toml")).unwrap(),
        before
    );
    // As a kill would have left it.
    for name in ["results.json", "report.html", "checkpoints"] {
        dir.remove(&format!("short/{name}"));
    }
    move_all(&kept, &checkpoint);
    let said = dir.output("finetune --resume short");
    assert!(said.contains("resuming after step 2 of 4"), "{said}");
    assert!(fs::read(dir.path("short/final/adapter_model.safetensors")).unwrap() == longer);
}
