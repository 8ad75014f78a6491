//! Token ids and segments equal those of transformers' fast tokenizers, character for character.
#![allow(clippy::unwrap_used)]

use std::path::Path;

use rekindle_data::TextEncoder;
use serde_json::Value;

use crate::support::{encoded, json, minilm, tiny};

/// Encodes every case with its limit and lists those that differ.
fn differing(dir: &Path, cases: &Value, limit: impl Fn(&Value) -> usize) -> (usize, String) {
    let (mut count, mut faults) = (0, String::new());
    for case in cases.as_array().unwrap() {
        let max_length = limit(case);
        let (text, pair) = (case["text"].as_str().unwrap(), case["text_pair"].as_str());
        let encoder = TextEncoder::from_dir(dir, Some(max_length)).unwrap();
        let found = encoder.encode(text, pair).unwrap();
        let expected = encoded(case);
        if (&found.ids, &found.type_ids) != (&expected.ids, &expected.type_ids) {
            faults += &format!(
                "{text:?} and {pair:?} at {max_length}:\n  found    {:?} {:?}\n  expected {:?} {:?}\n",
                found.ids, found.type_ids, expected.ids, expected.type_ids
            );
        }
        count += 1;
    }
    (count, faults)
}

#[test]
#[ignore = "needs MiniLM: cargo xtask run fetch minilm"]
fn minilm_tokens_are_those_of_transformers() {
    let Some(dir) = minilm() else { return };
    let fixture = json("minilm_tokens/tokens.json");
    let (count, faults) = differing(&dir, &fixture["cases"], |case| {
        case["max_length"].as_u64().unwrap() as usize
    });
    assert!(faults.is_empty(), "\n{faults}");
    assert!(count >= 200, "only {count} cases");
    println!("minilm_tokens: all {count} cases equal");
}

#[test]
fn tiny_tokens_are_those_of_transformers() {
    let fixture = json("tiny_bert/expected.json");
    let limit = |_: &Value| fixture["max_length"].as_u64().unwrap() as usize;
    let (_, faults) = differing(&tiny(), &fixture["cases"], limit);
    assert!(faults.is_empty(), "\n{faults}");

    // The same from vocab.txt, as older model directories have it.
    let older = tempfile::tempdir().unwrap();
    for file in ["vocab.txt", "tokenizer_config.json"] {
        std::fs::copy(tiny().join(file), older.path().join(file)).unwrap();
    }
    let (_, faults) = differing(older.path(), &fixture["cases"], limit);
    assert!(faults.is_empty(), "from vocab.txt:\n{faults}");
}
