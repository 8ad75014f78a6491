//! A saved model is evaluated by its run's own settings, `--set` over them; and examples before a prompt.

use super::{TUNE, dir, support::Dir};
use serde_json::{Value, json};
use std::fs;

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

/// A folder with a run that skips bad rows, learns all tokens and cuts at 12.
fn with_run() -> Dir {
    let dir = dir();
    let good = fs::read_to_string(dir.path("chats.jsonl")).unwrap();
    dir.write("some.jsonl", good.clone() + "{\"prompt\": \"lamp\"}\n");
    dir.ok(&format!(
        "{} --epochs 1 -o run --set eval.answers=0 --set eval.samples=0 --set data.on_bad_example=skip --set data.loss_on=all --set data.max_length=12 --set data.date=2024-02-03",
        TUNE.replace("chats.jsonl", "some.jsonl")
    ));
    dir
}

#[test]
fn a_saved_model_keeps_the_settings_of_its_run() {
    let dir = with_run();
    let saved = json(&fs::read_to_string(dir.path("run/final/rekindle.json")).unwrap());
    for (key, value) in [
        ("loss_on", json!("all")),
        ("max_length", json!(12)),
        ("date", json!("2024-02-03")),
        ("on_bad_example", json!("skip")),
    ] {
        assert_eq!(saved[key], value, "{saved}");
    }
    let evaluate = |set: &str| {
        json(&dir.ok(&format!(
            "evaluate run some.jsonl --json --set eval.answers=0 {set}"
        )))
    };
    // Every row is longer than 12 tokens.
    let own = evaluate("");
    assert_eq!((&own["n"], &own["tokens"]), (&json!(48), &json!(528.0)));
    let shorter = evaluate("--set data.max_length=8");
    assert_eq!(shorter["tokens"], 336.0);
    let answers = evaluate("--set data.loss_on=assistant --set data.max_length=64");
    assert_eq!(answers["tokens"], 144.0);
    let said = dir.refused("evaluate run some.jsonl --set data.on_bad_example=error");
    assert!(said.contains("some.jsonl:49"), "{said}");
    let said = dir.output("evaluate run some.jsonl --set eval.answers=0");
    assert!(said.contains("1 row left out: some.jsonl:49"), "{said}");
    for set in ["train.epochs=2", "data.train=x.jsonl", "task=regression"] {
        let said = dir.refused(&format!("evaluate run some.jsonl --set {set}"));
        assert!(said.contains("trained already"), "{set}: {said}");
    }
    let said = dir.refused("evaluate run some.jsonl --set device=cpu");
    assert!(said.contains("--device"), "{said}");

    let said = dir.output("merge run --to merged");
    assert!(said.contains("1 row left out: "), "{said}");
    let merged = json(&fs::read_to_string(dir.path("merged/rekindle.json")).unwrap());
    assert_eq!(merged["date"], saved["date"]);
    assert_eq!(merged["on_bad_example"], "skip");
}

/// A template that writes the day is told the run's own.
#[test]
fn an_evaluation_is_told_the_day_of_the_run() {
    let dir = dir();
    dir.json("llm/tokenizer_config.json", |config| {
        let template = config["chat_template"].as_str().unwrap();
        let template = format!(
            "{{% if strftime_now('%d') == '03' %}}{{{{ '<|im_start|>system\\nred<|im_end|>\\n' }}}}{{% endif %}}{template}"
        );
        config.insert("chat_template".into(), template.into());
    });
    dir.ok(&format!(
        "{TUNE} --epochs 1 -o run --set eval.answers=0 --set eval.samples=0 --set data.date=2024-02-03"
    ));
    let loss = |set: &str| {
        let said = dir.ok(&format!(
            "evaluate run chats.jsonl --json --set eval.answers=0 {set}"
        ));
        json(&said)["loss"].as_f64().unwrap()
    };
    let own = loss("");
    assert_eq!(own, loss("--set data.date=2024-02-03"));
    assert_ne!(own, loss("--set data.date=2024-02-04"));
}

/// A run on texts is cut as it was, and otherwise where that is asked for.
#[test]
fn predictions_hear_of_the_length() {
    let dir = dir();
    let long = "refund ".repeat(40);
    dir.write("long.txt", format!("{long}\n"));
    let ask = |set: &str| dir.ok(&format!("predict model --file long.txt {set}"));
    assert_ne!(ask(""), ask("--set data.max_length=5"));
    let said = dir.refused("predict model hello --set images.size=32");
    assert!(said.contains("trained already"), "{said}");
}

#[test]
fn examples_before_a_prompt_are_as_many_as_asked_for_and_never_the_row_itself() {
    let dir = dir();
    let row = |prompt: &str, answer: &str| {
        json!({"prompt": prompt, "completion": answer}).to_string() + "\n"
    };
    let three = row("lamp one", "yes") + &row("lamp two", "no") + &row("lamp three", "ok");
    dir.write("three.jsonl", three);
    let shots = |n: usize| {
        format!(
            "evaluate llm three.jsonl --shots {n} --shots-from three.jsonl --json --set eval.answers=0"
        )
    };
    dir.ok(&shots(2));
    // Of three rows two are left when one is asked.
    let said = dir.refused(&shots(3));
    assert!(
        said.contains("3 examples are asked for") && said.contains("three.jsonl holds 2"),
        "{said}"
    );
}
