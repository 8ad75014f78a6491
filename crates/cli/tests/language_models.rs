//! A language model from a file of prompts to answers: on a tiny Llama whose tokens are words.
#![allow(clippy::unwrap_used)]

#[path = "language_models/new_tokens.rs"]
mod new_tokens;
#[path = "language_models/preferences.rs"]
mod preferences;
mod support;

use serde_json::{Value, json};
use std::{fs, path::Path};
use support::Dir;

/// A vocabulary of 37 words, as many as the tiny model has embeddings.
const WORDS: [&str; 37] = [
    "[UNK]",
    "<|im_start|>",
    "<|im_end|>",
    "user",
    "assistant",
    "system",
    "\n",
    "lamp",
    "on",
    "off",
    "door",
    "open",
    "shut",
    "please",
    "turn",
    "the",
    "now",
    "red",
    "blue",
    "green",
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "ten",
    "hall",
    "bath",
    "bed",
    "room",
    "yes",
    "no",
    "ok",
];

/// A ChatML template, as many models have it.
const TEMPLATE: &str = "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>' + '\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}";

/// A directory with the model `llm` and the file `chats.jsonl`.
fn dir() -> Dir {
    let dir = Dir::new();
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/tiny_decoders");
    fs::create_dir(dir.path("llm")).unwrap();
    for file in ["config.json", "model.safetensors"] {
        fs::copy(
            golden.join("llama/model").join(file),
            dir.path("llm").join(file),
        )
        .unwrap();
    }
    let special = |id: usize| {
        json!({"id": id, "content": WORDS[id], "single_word": false, "lstrip": false, "rstrip": false,
            "normalized": false, "special": true})
    };
    let vocabulary: serde_json::Map<String, Value> = WORDS
        .iter()
        .enumerate()
        .map(|(id, word)| ((*word).to_owned(), id.into()))
        .collect();
    let tokenizer = json!({
        "version": "1.0", "truncation": null, "padding": null,
        "added_tokens": [special(0), special(1), special(2)],
        "normalizer": null,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
            {"type": "Split", "pattern": {"String": " "}, "behavior": "Removed", "invert": false},
            {"type": "Split", "pattern": {"String": "\n"}, "behavior": "Isolated", "invert": false},
        ]},
        "post_processor": null, "decoder": null,
        "model": {"type": "WordLevel", "vocab": vocabulary, "unk_token": "[UNK]"},
    });
    fs::write(dir.path("llm/tokenizer.json"), tokenizer.to_string()).unwrap();
    let settings = json!({"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "<|im_end|>",
        "unk_token": "[UNK]", "chat_template": TEMPLATE});
    fs::write(dir.path("llm/tokenizer_config.json"), settings.to_string()).unwrap();
    let rooms = ["hall", "bath", "bed"];
    let rows = (0..48).map(|i| {
        let (room, on) = (rooms[i % 3], if i % 2 == 0 { "on" } else { "off" });
        let polite = if i % 5 == 0 { "please " } else { "" };
        let prompt = format!("{polite}turn {on} the {room} lamp");
        json!({"prompt": prompt, "completion": format!("{room} {on}")}).to_string() + "\n"
    });
    fs::write(dir.path("chats.jsonl"), rows.collect::<String>()).unwrap();
    dir
}

const TUNE: &str = "finetune --task text-generation --model llm --train chats.jsonl --set data.validation_fraction=0.25 --set train.learning_rate=1e-2";

fn results(dir: &Dir, run: &str) -> Value {
    serde_json::from_str(&fs::read_to_string(dir.path(run).join("results.json")).unwrap()).unwrap()
}

#[test]
fn from_prompts_to_answers() {
    for (method, weights) in [
        ("lora", "adapter_model.safetensors"),
        ("full", "model.safetensors"),
    ] {
        let dir = dir();
        dir.ok(&format!(
            "{TUNE} --epochs 20 -o run --method {method} --set train.batch_size=8"
        ));
        assert!(dir.path("run/final").join(weights).is_file(), "{method}");
        let figures = results(&dir, "run");
        let accuracy = figures["figures"]["token_accuracy"].as_f64().unwrap();
        assert!(accuracy > 0.9, "{method}: token accuracy {accuracy}");
        let said = dir.ok("generate run --file chats.jsonl --max-new-tokens 8");
        let right = said.lines().filter(|line| {
            let row: Value = serde_json::from_str(line).unwrap();
            let answer = row["answer"].as_str().unwrap();
            answer
                .split_whitespace()
                .eq(row["reference"].as_str().unwrap().split_whitespace())
        });
        let (right, all) = (right.count(), said.lines().count());
        assert_eq!(all, 48);
        assert!(
            right > 40,
            "{method}: {right} of {all} answers are right\n{said}"
        );
        let report: Value =
            serde_json::from_str(&dir.ok("evaluate run chats.jsonl --json")).unwrap();
        assert_eq!(report["n"], 48);
        // Sampling is a function of its seed.
        let sample =
            "generate run --file chats.jsonl --brief --temperature 3 --max-new-tokens 6 --seed";
        assert_eq!(
            dir.ok(&format!("{sample} 5")),
            dir.ok(&format!("{sample} 5 --batch-size 7"))
        );
        assert_ne!(
            dir.ok(&format!("{sample} 5")),
            dir.ok(&format!("{sample} 6"))
        );
        if method == "lora" {
            dir.ok("merge run --to merged");
            let questions = "--file chats.jsonl --max-new-tokens 8";
            assert_eq!(
                dir.ok(&format!("generate run {questions}")),
                dir.ok(&format!("generate merged {questions}"))
            );
        }
    }
}

/// The losses of a run's steps.
fn losses(dir: &Dir, run: &str) -> Vec<f64> {
    let text = fs::read_to_string(dir.path(run).join("metrics.jsonl")).unwrap();
    let events = text
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap());
    let steps = events.filter(|event| event["kind"] == "step");
    steps.map(|event| event["loss"].as_f64().unwrap()).collect()
}

/// The mean is over the tokens that count of the whole window, not a mean of means.
#[test]
fn a_window_of_small_batches_is_one_large_batch() {
    let dir = dir();
    let common = "--epochs 2 --set train.shuffle=false --set train.group_by_length=false --set train.log_every_steps=1";
    dir.ok(&format!(
        "{TUNE} {common} -o large --set train.batch_size=8"
    ));
    dir.ok(&format!(
        "{TUNE} {common} -o small --set train.batch_size=2 --set train.gradient_accumulation_steps=4"
    ));
    let (large, small) = (losses(&dir, "large"), losses(&dir, "small"));
    assert_eq!(large.len(), small.len());
    assert!(large.len() >= 8);
    for (step, (a, b)) in large.iter().zip(&small).enumerate() {
        assert!((a - b).abs() < 1e-5, "step {step}: {a} and {b}");
    }
}

/// Gradient checkpointing computes the same again: the model that is saved has the same bytes, dropout or not.
#[test]
fn gradient_checkpointing_changes_nothing() {
    let dir = dir();
    for (method, weights) in [
        (
            "lora --set peft.lora_dropout=0.2",
            "adapter_model.safetensors",
        ),
        ("full --set model.dropout=0.1", "model.safetensors"),
        ("full --set peft.train_last=2", "model.safetensors"),
    ] {
        let saved = |on: bool| {
            let run = format!("{}-{on}", method.replace([' ', '.'], "-"));
            dir.ok(&format!(
                "{TUNE} --epochs 2 -o {run} --method {method} --set train.gradient_checkpointing={on}"
            ));
            fs::read(dir.path(&run).join("final").join(weights)).unwrap()
        };
        assert!(saved(false) == saved(true), "{method}");
    }
}

/// Answers go through the one writer: a full disk is an error, a closed pipe is not.
#[test]
#[cfg(target_os = "linux")]
fn answers_that_cannot_be_written() {
    use std::process::Stdio;
    let dir = dir();
    let command = || {
        let mut command = dir.command(env!("CARGO_BIN_EXE_rekindle"));
        command.args([
            "generate",
            "llm",
            "--file",
            "chats.jsonl",
            "--max-new-tokens",
            "2",
        ]);
        command.stderr(Stdio::piped());
        command
    };
    let full = fs::File::options().write(true).open("/dev/full").unwrap();
    let output = command().stdout(full).output().unwrap();
    let said = dir.plain(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("cannot write to standard output"), "{said}");
    let mut child = command().stdout(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

#[test]
fn what_does_not_fit_is_refused_with_a_remedy() {
    let dir = dir();
    for (rows, words) in [
        (
            "{\"prompt\": \"turn on\", \"completion\": \"ok\"}\n{\"promt\": \"x\", \"completion\": \"y\"}\n",
            ["bad.jsonl:2", "prompt"],
        ),
        (
            "{\"messages\": [{\"role\": \"robot\", \"content\": \"on\"}]}\n",
            ["bad.jsonl:1", "robot"],
        ),
        (
            "{\"messages\": [{\"role\": \"user\", \"content\": \"on\"}]}\n",
            ["bad.jsonl:1", "assistant"],
        ),
    ] {
        fs::write(dir.path("bad.jsonl"), rows).unwrap();
        let said =
            dir.refused("finetune --task text-generation --model llm --train bad.jsonl -o run");
        for word in words {
            assert!(said.contains(word), "expected {word}\n{said}");
        }
    }
    let said =
        dir.refused("finetune --task text-generation --model model --train chats.jsonl -o run");
    assert!(said.contains("no language model"), "{said}");
    let said = dir.refused("predict llm hello");
    assert!(said.contains("rekindle generate"), "{said}");
    let said = dir.refused("generate model hello");
    assert!(said.contains("hint:"), "{said}");
}
