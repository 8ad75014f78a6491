//! From preferences to a model that writes: pairs of answers and answers that were judged, on the same tiny Llama.

use super::{dir, losses, results, support::Dir};
use serde_json::{Value, json};
use std::{fs, time::Duration};

const TUNE: &str = "finetune --task text-preference --model llm --set train.learning_rate=1e-2 --set train.batch_size=4";

/// Figures of one model on the same pairs: its head is f32 in both, but batches are cut otherwise.
const SAME: f64 = 1e-4;

/// A folder with the model and twelve pairs: who asks politely is to be told the room.
fn with_pairs() -> Dir {
    let dir = dir();
    let rows = (0..12).map(|i| {
        let (room, other) = [("hall", "bath"), ("bath", "bed"), ("bed", "hall")][i % 3];
        let switch = ["on", "off"][i % 2];
        let prompt = format!("please turn {switch} the {room} lamp now");
        let (chosen, rejected) = (format!("yes {room} {switch}"), format!("no {other} ok"));
        // All the ways to write a pair.
        let user = json!({"role": "user", "content": prompt});
        let answer = |text: &str| json!({"role": "assistant", "content": text});
        let row = match i % 4 {
            0 => json!({"chosen": [user, answer(&chosen)], "rejected": [user, answer(&rejected)]}),
            1 => json!({"prompt": [user], "chosen": [answer(&chosen)], "rejected": rejected}),
            _ => json!({"prompt": prompt, "chosen": chosen, "rejected": rejected}),
        };
        format!("{row}\n")
    });
    dir.write("pairs.jsonl", rows.collect::<String>());
    dir
}

/// The figures of the evaluations of a run.
fn evaluations(dir: &Dir, run: &str) -> Vec<Value> {
    let text = fs::read_to_string(dir.path(run).join("metrics.jsonl")).unwrap();
    let events = text
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap());
    let evaluated = events.filter(|event| event["kind"] == "evaluated");
    evaluated
        .map(|event| event["evaluation"]["metrics"].clone())
        .collect()
}

#[test]
fn from_pairs_to_answers() {
    let dir = with_pairs();
    for (loss, method, weights) in [
        ("dpo", "lora", "adapter_model.safetensors"),
        ("orpo", "full", "model.safetensors"),
        ("kto", "lora", "adapter_model.safetensors"),
    ] {
        let tune = format!(
            "{TUNE} --train pairs.jsonl --validation pairs.jsonl --method {method} --set preference.loss={loss}"
        );
        let said = dir.output(&format!("{tune} --epochs 15 -o {loss}"));
        assert_eq!(
            said.contains("asking the model before training about"),
            loss != "orpo",
            "{said}"
        );
        assert!(said.contains("try     rekindle chat"), "{said}");
        assert!(
            dir.path(loss).join("final").join(weights).is_file(),
            "{loss}"
        );
        let figures = &results(&dir, loss)["figures"];
        assert_eq!(figures["reward_accuracy"], 1.0, "{loss}: {figures}");
        let evaluations = evaluations(&dir, loss);
        let of = |at: usize, figure: &str| evaluations[at][figure].as_f64().unwrap();
        let last = evaluations.len() - 1;
        assert!(
            of(last, "loss") < 0.8 * of(0, "loss"),
            "{loss}: {evaluations:?}"
        );
        assert!(of(last, "reward_margin") > of(0, "reward_margin"), "{loss}");
        assert!(
            of(last, "logp_chosen") > of(last, "logp_rejected"),
            "{loss}"
        );

        // Evaluated on the same pairs, it gives what the run found.
        let found: Value =
            serde_json::from_str(&dir.ok(&format!("evaluate {loss} pairs.jsonl --json"))).unwrap();
        for figure in ["reward_accuracy", "reward_margin", "logp_chosen", "loss"] {
            let [again, before] = [&found, figures].map(|of| of[figure].as_f64().unwrap());
            assert!(
                (again - before).abs() <= SAME * before.abs().max(1.0),
                "{loss} {figure}: {again}, the run found {before}"
            );
        }

        // It is a language model like others.
        let asked = format!("generate {loss} --file chats.jsonl --max-new-tokens 4");
        assert_eq!(dir.ok(&asked).lines().count(), 48);
        let report: Value =
            serde_json::from_str(&dir.ok(&format!("evaluate {loss} chats.jsonl --json"))).unwrap();
        assert!(report["perplexity"].as_f64().unwrap() > 1.0, "{report}");
        let saved = fs::read_to_string(dir.path(loss).join("final/rekindle.json")).unwrap();
        assert!(saved.contains("\"text-generation\""), "{saved}");
    }
    dir.ok("evaluate dpo pairs.jsonl --predictions each.jsonl");
    let each = fs::read_to_string(dir.path("each.jsonl")).unwrap();
    let first: Value = serde_json::from_str(each.lines().next().unwrap()).unwrap();
    assert!(
        first["chosen"]["reward"].is_number() && first["margin"].is_number(),
        "{first}"
    );
    assert_eq!(each.lines().count(), 12);
    dir.ok("merge dpo --to merged");
    let said = dir.output("evaluate merged pairs.jsonl");
    assert!(said.contains("is not known: rewards are its own"), "{said}");
    let asked = "--file chats.jsonl --max-new-tokens 4";
    assert_eq!(
        dir.ok(&format!("generate dpo {asked}")),
        dir.ok(&format!("generate merged {asked}"))
    );
}

#[test]
fn judged_answers() {
    let dir = with_pairs();
    let rows = (0..16).map(|i| {
        let room = ["hall", "bath"][i % 2];
        let (answer, good) = [("yes", true), ("no", false)][i / 2 % 2];
        let row =
            json!({"prompt": format!("open the {room} door"), "completion": answer, "label": good});
        format!("{row}\n")
    });
    dir.write("judged.jsonl", rows.collect::<String>());
    let kto = "--train judged.jsonl --validation judged.jsonl --set preference.loss=kto";
    dir.ok(&format!("{TUNE} {kto} --epochs 10 -o run"));
    assert_eq!(results(&dir, "run")["figures"]["reward_accuracy"], 1.0);
    let said = dir.refused(&format!("{TUNE} --train judged.jsonl -o other"));
    for words in [
        "judged.jsonl:1",
        "expected a pair",
        "preference.loss = \"kto\"",
    ] {
        assert!(said.contains(words), "expected {words}\n{said}");
    }
}

/// A pair's loss does not depend on its batch, and a window's is the mean over its pairs.
#[test]
fn a_window_of_single_pairs_is_one_batch() {
    let dir = with_pairs();
    let common = "--train pairs.jsonl --validation pairs.jsonl --epochs 3 --set train.shuffle=false --set train.group_by_length=false --set train.log_every_steps=1 --set preference.sft_weight=0.5 --set preference.label_smoothing=0.1";
    dir.ok(&format!("{TUNE} {common} -o large"));
    dir.ok(&format!(
        "{TUNE} {common} -o small --set train.batch_size=1 --set train.gradient_accumulation_steps=4"
    ));
    let (large, small) = (losses(&dir, "large"), losses(&dir, "small"));
    assert_eq!((large.len(), small.len()), (9, 9));
    // The first two steps have the weights that were loaded (the first has rate 0), the later ones have drifted apart.
    for (step, (a, b)) in large.iter().zip(&small).enumerate() {
        let most = if step < 2 { 1e-6 } else { 1e-5 };
        assert!((a - b).abs() < most, "step {step}: {a} and {b}");
    }
}

/// What a resumed run compares with is the model before training, not that of the checkpoint.
#[test]
fn a_killed_run_resumes_to_the_same_bytes() {
    let dir = with_pairs();
    let tune = format!(
        "{TUNE} --train pairs.jsonl --validation pairs.jsonl --method full --set train.max_steps=400 --set train.learning_rate=1e-4 --set eval.every=20"
    );
    dir.ok(&format!("{tune} -o whole"));
    let mut command = dir.command(env!("CARGO_BIN_EXE_rekindle"));
    command.args(format!("{tune} -o killed").split_whitespace());
    let mut child = command
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let checkpoints = dir.path("killed/checkpoints");
    let written = || {
        let entries = fs::read_dir(&checkpoints).into_iter().flatten().flatten();
        let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
        names.filter(|name| name.starts_with("step-")).count()
    };
    while written() < 2 {
        assert!(
            child.try_wait().unwrap().is_none(),
            "it ended before it was killed"
        );
        std::thread::sleep(Duration::from_millis(2));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(
        !dir.path("killed/results.json").exists(),
        "it was not cut short"
    );
    dir.ok("finetune --resume killed");
    let bytes = |run: &str| fs::read(dir.path(run).join("final/model.safetensors")).unwrap();
    assert!(bytes("whole") == bytes("killed"), "the weights differ");
    assert_eq!(evaluations(&dir, "whole"), evaluations(&dir, "killed"));
}

#[test]
fn bad_preferences_are_refused_with_their_line() {
    let dir = with_pairs();
    let good = r#"{"prompt": "turn on", "chosen": "ok", "rejected": "no"}"#;
    let long = "one ".repeat(30);
    let cut = format!(
        r#"{{"prompt": "{}", "chosen": "ok", "rejected": "no"}}"#,
        long.trim()
    );
    for (row, words) in [
        (
            r#"{"prompt": "turn on", "chosen": "ok"}"#,
            ["bad.jsonl:2", "`rejected`"],
        ),
        (
            r#"{"prompt": "turn on", "choosen": "ok", "rejected": "no"}"#,
            ["bad.jsonl:2", "did you mean `chosen`"],
        ),
        (
            r#"{"prompt": "turn on", "chosen": "ok", "rejected": "ok"}"#,
            ["bad.jsonl:2", "are the same"],
        ),
        (
            r#"{"prompt": "turn on", "chosen": "ok", "rejected": ""}"#,
            ["bad.jsonl:2", "is empty"],
        ),
        (&cut, ["bad.jsonl:2", "max_length = 16"]),
    ] {
        dir.write("bad.jsonl", format!("{good}\n{row}\n{good}\n"));
        let tune = "finetune --task text-preference --model llm --train bad.jsonl --set data.max_length=16 --set data.validation_fraction=0 --set eval.every=never";
        let said = dir.refused(&format!("{tune} -o run"));
        for word in words {
            assert!(said.contains(word), "{row}: expected {word}\n{said}");
        }
        // Left out, the other two rows are a run.
        let skip = "--set data.on_bad_example=skip --dry-run";
        let said = dir.output(&format!("{tune} {skip}"));
        assert!(said.contains("2 train"), "{said}");
    }
    dir.write("bad.jsonl", "");
    let said = dir.refused("finetune --task text-preference --model llm --train bad.jsonl -o run");
    assert!(said.contains("bad.jsonl"), "{said}");
}

#[test]
fn settings_that_say_nothing_are_refused() {
    let dir = with_pairs();
    for (settings, words) in [
        (
            "--set preference.loss=ipo",
            "expected one of \"dpo\", \"orpo\", \"kto\"",
        ),
        (
            "--set preference.loss=orpo --set preference.sft_weight=1",
            "`preference.sft_weight` says nothing",
        ),
        (
            "--set preference.loss=kto --set train.batch_size=1",
            "`train.batch_size` = 1",
        ),
        ("--set data.loss_on=all", "is for text generation"),
        ("--set data.text=prompt", "`data.text` says nothing"),
        ("--set eval.metric=perplexity", "is no figure of"),
    ] {
        let output = dir.rekindle(&format!("{TUNE} --train pairs.jsonl {settings} -o run"));
        let said = dir.plain(&output.stderr);
        assert!(
            !output.status.success() && said.contains(words),
            "{settings}: expected {words}\n{said}"
        );
    }
    let output = dir.rekindle("finetune --task text-preference --model llm -o run");
    let said = dir.plain(&output.stderr);
    assert!(
        !output.status.success() && said.contains("`data.train` is unset"),
        "{said}"
    );
}
