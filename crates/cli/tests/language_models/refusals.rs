//! What a user gets to read who gives a language model what it cannot take.

use super::{TUNE, dir, support::Dir};
use serde_json::json;
use std::{fs, process::Output};

/// Runs `rekindle` on these bytes as its standard input.
fn fed(dir: &Dir, arguments: &str, input: &[u8]) -> Output {
    dir.write("input", input);
    let mut command = dir.command(env!("CARGO_BIN_EXE_rekindle"));
    command
        .args(arguments.split_whitespace())
        .stdin(fs::File::open(dir.path("input")).unwrap());
    command.output().unwrap()
}

#[test]
fn bytes_that_are_no_text_are_refused_with_a_hint() {
    let dir = dir();
    for arguments in [
        "chat llm --max-new-tokens 2",
        "generate llm --max-new-tokens 2",
    ] {
        let output = fed(&dir, arguments, b"lamp on\ncaf\xe9\n");
        let said = dir.plain(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{arguments}: {said}");
        assert!(
            said.contains("not UTF-8") && said.contains("hint: convert it"),
            "{arguments}: {said}"
        );
    }
    dir.write(
        "latin.jsonl",
        b"{\"prompt\": \"caf\xe9\", \"completion\": \"ok\"}\n",
    );
    let said = dir.refused("finetune --task text-generation --model llm --train latin.jsonl -o no");
    assert!(
        said.contains("latin.jsonl:1") && said.contains("UTF-8"),
        "{said}"
    );

    let mut command = dir.command(env!("CARGO_BIN_EXE_rekindle"));
    let output = command
        .args(["generate", "llm", "--raw", ""])
        .output()
        .unwrap();
    let said = dir.plain(&output.stderr);
    assert!(
        said.contains("prompt 1 has 0 tokens") && said.contains("hint: write the beginning"),
        "{said}"
    );
}

#[test]
fn a_file_that_is_not_there_is_not_looked_for_on_the_hub() {
    let dir = dir();
    dir.write("models/tiny-q8_0.gguf", "");
    for (name, words) in [
        (
            "models/tiny-q4_0.gguf",
            ["no such file", "did you mean `models/tiny-q8_0.gguf`?"],
        ),
        ("tiny.gguf", ["no such file", "hint: this folder holds"]),
        (
            "model/model.safetensor.bin",
            ["no such file", "`model/model.safetensors`"],
        ),
        (
            "models/nowhere/deep/tiny",
            ["no such model directory", "models holds tiny-q8_0.gguf"],
        ),
        (
            "./lmm",
            ["no such model directory", "did you mean `./llm`?"],
        ),
    ] {
        for arguments in [
            format!("generate {name} hello"),
            format!("look --model {name} --data chats.jsonl"),
        ] {
            let said = dir.refused(&arguments);
            for word in words {
                assert!(said.contains(word), "{arguments}: expected {word}\n{said}");
            }
            assert!(
                !said.contains("hub") || said.contains("@main"),
                "{arguments}: {said}"
            );
        }
    }
    // A folder of that beginning may also be an organisation's.
    fs::create_dir(dir.path("runs")).unwrap();
    fs::create_dir(dir.path("runs/tickets")).unwrap();
    let said = dir.refused("generate runs/tikets hello");
    assert!(
        said.contains("did you mean `runs/tickets`?") && said.contains("`runs/tikets@main`"),
        "{said}"
    );
}

#[test]
fn methods_that_train_nothing_name_those_that_do() {
    let dir = dir();
    for (method, words) in [("head", "no head of its own"), ("bitfit", "has no biases")] {
        let said = dir.refused(&format!("{TUNE} -o no --method {method}"));
        assert!(
            said.contains(words) && said.contains("use \"lora\" (the default) or \"full\""),
            "{said}"
        );
    }
}

#[test]
fn the_plan_tells_of_a_warmup_that_is_cut_and_of_layers_that_train() {
    let dir = dir();
    let plan = |set: &str| dir.output(&format!("{TUNE} -o no --dry-run {set}"));
    let said = plan("--set train.max_steps=4 --set train.warmup_ratio=0.99");
    assert!(
        said.contains("4 steps of warmup were asked for; of 4 steps 2 are, half the run"),
        "{said}"
    );
    for set in ["--set train.max_steps=1", "--set train.max_steps=2"] {
        assert!(!plan(set).contains("asked for"), "{set}");
    }
    let said = plan("--set peft.train_last=1");
    let method = said.lines().find(|line| line.contains("  method")).unwrap();
    assert!(
        method.contains("LoRA r 8") && method.contains("of that the last 1 of"),
        "{method}"
    );
}

#[test]
fn preferences_that_are_no_texts_have_their_place() {
    let dir = dir();
    let user = json!([{"role": "user", "content": "lamp"}]);
    let whole =
        json!([{"role": "user", "content": "lamp"}, {"role": "assistant", "content": "on"}]);
    for (row, words) in [
        (
            json!({"prompt": "lamp", "chosen": 1, "rejected": 2}),
            "`chosen`",
        ),
        (
            json!({"prompt": user, "chosen": whole, "rejected": "off"}),
            "`chosen` begins with the turns of `prompt`, `rejected` does not",
        ),
    ] {
        dir.write("bad.jsonl", format!("{row}\n"));
        let said = dir.refused(
            "finetune --task text-preference --model llm --train bad.jsonl --set eval.every=never --set data.validation_fraction=0 -o no",
        );
        assert!(
            said.contains("bad.jsonl:1") && said.contains(words),
            "{said}"
        );
    }
}
