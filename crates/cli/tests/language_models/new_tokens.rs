//! Special tokens that a model gets with `model.add_tokens`: learned, saved, and there again.

use super::{dir, results, support::Dir};
use serde_json::{Value, json};
use std::fs;

const TUNE: &str = "finetune --task text-generation --model llm --train calls.jsonl --validation calls.jsonl --set train.learning_rate=1e-2 --set train.batch_size=8 --epochs 15";
const ADD: &str = "--set model.add_tokens=[\"<|call|>\",\"<|done|>\"]";

/// A folder with the model and conversations whose answers are wrapped in tokens that it does not know.
fn with_calls() -> Dir {
    let dir = dir();
    let rows = (0..24).map(|i| {
        let room = ["hall", "bath", "bed"][i % 3];
        let row = json!({"prompt": format!("turn on the {room} lamp"), "completion": format!("<|call|> {room} on <|done|>")});
        format!("{row}\n")
    });
    dir.write("calls.jsonl", rows.collect::<String>());
    dir
}

fn read(dir: &Dir, file: &str) -> Value {
    serde_json::from_str(&fs::read_to_string(dir.path(file)).unwrap()).unwrap()
}

#[test]
fn new_tokens_are_learned_and_saved() {
    let dir = with_calls();
    for method in ["full", "lora"] {
        dir.ok(&format!("{TUNE} {ADD} --method {method} -o {method}"));
        let figures = results(&dir, method)["figures"].clone();
        let accuracy = figures["token_accuracy"].as_f64().unwrap();
        assert!(accuracy > 0.95, "{method}: token accuracy {accuracy}");

        // transformers finds them there.
        let tokenizer = read(&dir, &format!("{method}/final/tokenizer.json"));
        let added = tokenizer["added_tokens"].as_array().unwrap();
        let ids = added
            .iter()
            .map(|token| (token["content"].clone(), token["id"].clone()));
        let ids: Vec<_> = ids.collect();
        for (token, id) in [("<|call|>", 37), ("<|done|>", 38)] {
            assert!(ids.contains(&(json!(token), json!(id))), "{ids:?}");
        }
        // Who leaves special tokens out still sees them.
        let is_new = |token: &&Value| token["id"].as_u64() >= Some(37);
        let special: Vec<_> = added
            .iter()
            .filter(is_new)
            .map(|token| &token["special"])
            .collect();
        assert_eq!(special, [false, false]);
        let figures = &results(&dir, method)["figures"];
        let exact = figures["exact_match"].as_f64().unwrap();
        assert!(exact > 0.9, "{method}: exact match {exact}");

        // The saved model is the one that was evaluated.
        let report: Value =
            serde_json::from_str(&dir.ok(&format!("evaluate {method} calls.jsonl --json")))
                .unwrap();
        let apart = report["loss"].as_f64().unwrap() - figures["loss"].as_f64().unwrap();
        assert!(apart.abs() < 1e-5, "{method}: losses {apart} apart");
    }
    assert_eq!(read(&dir, "full/final/config.json")["vocab_size"], 39);
    let adapter = read(&dir, "lora/final/adapter_config.json");
    assert_eq!(adapter["modules_to_save"], json!(["model.embed_tokens"]));
    assert_eq!(adapter["ensure_weight_tying"], true);
    dir.ok("merge lora --to merged");
    assert_eq!(read(&dir, "merged/config.json")["vocab_size"], 39);
    let asked = "--file calls.jsonl --max-new-tokens 6";
    let said = dir.ok(&format!("generate lora {asked}"));
    assert_eq!(said, dir.ok(&format!("generate merged {asked}")));
    // An added token is content; those that end a turn are not.
    for line in said.lines() {
        let row: Value = serde_json::from_str(line).unwrap();
        let answer = row["answer"].as_str().unwrap();
        assert!(
            answer.contains("<|call|>") && answer.contains("<|done|>"),
            "{line}"
        );
        assert!(!answer.contains("<|im_end|>"), "{line}");
    }
}

/// Where only the last layers train, new rows train too.
#[test]
fn new_rows_train_below_the_last_layers() {
    let dir = with_calls();
    for method in ["full", "lora"] {
        let run = format!("{method}-last");
        let said = dir.output(&format!(
            "{TUNE} {ADD} --method {method} --set peft.train_last=1 -o {run}"
        ));
        assert!(said.contains("embeddings"), "{said}");
        let accuracy = results(&dir, &run)["figures"]["token_accuracy"].as_f64();
        assert!(
            accuracy.unwrap() > 0.9,
            "{method}: token accuracy {accuracy:?}"
        );
    }
}

#[test]
fn tokens_that_are_there_or_of_no_use_are_refused() {
    let dir = with_calls();
    let said = dir.refused(&format!(
        "{TUNE} --set model.add_tokens=[\"<|im_end|>\"] -o run"
    ));
    assert!(said.contains("has all the tokens"), "{said}");
    for (tokens, words) in [
        (
            "[\"lamp\",\"<|call|>\"]",
            "\"lamp\", which is one token of the model's vocabulary already",
        ),
        ("[\"\\u0020\"]", "holds \" \", which is blank"),
        ("[\"<|call|>\",\"<|call|>\"]", "names \"<|call|>\" twice"),
    ] {
        let said = dir.refused(&format!("{TUNE} --set model.add_tokens={tokens} -o run"));
        assert!(said.contains(words), "{said}");
    }
    let output = dir.rekindle(&format!("{TUNE} --set model.add_tokens=[\"\"] -o run"));
    let said = dir.plain(&output.stderr);
    assert!(
        said.contains("expected a list of texts, none of them empty"),
        "{said}"
    );
    let output = dir.rekindle(&format!(
        "finetune --train train.csv --model model {ADD} -o run"
    ));
    let said = dir.plain(&output.stderr);
    assert!(
        !output.status.success() && said.contains("is for language models"),
        "{said}"
    );
}
