//! Special tokens that a tokenizer gets beside its own, and the files that say so, as transformers reads them.

use std::path::Path;

use rekindle_base::write_atomically;
use serde_json::{Map, Value, json};
use tokenizers::{AddedToken, Tokenizer};

use crate::DataError;
use crate::text::files;

/// The list of special tokens without a role in `tokenizer_config.json`, as transformers 5 calls it, and as all versions do.
const LISTS: [&str; 2] = ["extra_special_tokens", "additional_special_tokens"];

/// Adds special tokens; those that are there already keep their ids.
pub(super) fn add(tokenizer: &mut Tokenizer, tokens: &[String]) -> Result<(), String> {
    if tokens.is_empty() {
        return Ok(());
    }
    let tokens = tokens
        .iter()
        .map(|token| AddedToken::from(token.clone(), true));
    let added = tokenizer.add_special_tokens(tokens.collect::<Vec<_>>());
    added.map(drop).map_err(|error| error.to_string())
}

/// Writes `tokenizer.json` and `tokenizer_config.json` of the model directory `from`, with these special tokens added, to
/// the directory `to`.
///
/// # Errors
/// As [`ChatEncoder::from_dir`](super::ChatEncoder::from_dir), and when a file cannot be written.
pub fn write_added_tokens(from: &Path, to: &Path, tokens: &[String]) -> Result<(), DataError> {
    let mut files = files::load(from)?;
    let failed = |message: String| DataError::Tokenizer {
        path: files.path.clone(),
        message,
    };
    add(&mut files.tokenizer, tokens).map_err(failed)?;
    let text = files
        .tokenizer
        .to_string(true)
        .map_err(|error| failed(error.to_string()))?;
    let write = |name: &str, text: &str| {
        let path = to.join(name);
        write_atomically(&path, text.as_bytes()).map_err(|source| DataError::Io { path, source })
    };
    write("tokenizer.json", &text)?;

    let name = "tokenizer_config.json";
    let mut config = files::object(&from.join(name))?.unwrap_or_default();
    let list = LISTS
        .iter()
        .find(|list| config.get(**list).is_some_and(Value::is_array));
    let list = config
        .entry(*list.unwrap_or(&LISTS[1]))
        .or_insert_with(|| json!([]));
    if let Some(list) = list.as_array_mut() {
        for token in tokens {
            let known = |entry: &Value| entry == token || entry["content"] == *token;
            if !list.iter().any(known) {
                list.push(token.as_str().into());
            }
        }
    }
    // Before version 5 every added token stood here too.
    if let Some(Value::Object(decoder)) = config.get_mut("added_tokens_decoder") {
        describe(&files.tokenizer, tokens, decoder);
    }
    write(name, &format!("{:#}\n", Value::Object(config)))
}

/// Adds tokens by their ids, as `added_tokens_decoder` has them.
fn describe(tokenizer: &Tokenizer, tokens: &[String], decoder: &mut Map<String, Value>) {
    for token in tokens {
        let Some(id) = tokenizer.token_to_id(token) else {
            continue;
        };
        decoder.insert(
            id.to_string(),
            json!({"content": token, "lstrip": false, "normalized": false, "rstrip": false, "single_word": false, "special": true}),
        );
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use std::fs;

    /// What is written, from a directory whose `tokenizer_config.json` is this.
    fn written(config: Value) -> (Value, Value) {
        let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let tokenizer = json!({
            "version": "1.0", "truncation": null, "padding": null, "added_tokens": [], "normalizer": null,
            "pre_tokenizer": {"type": "Whitespace"}, "post_processor": null, "decoder": null,
            "model": {"type": "WordLevel", "vocab": {"a": 0, "b": 1}, "unk_token": "a"},
        });
        fs::write(from.path().join("tokenizer.json"), tokenizer.to_string()).unwrap();
        fs::write(
            from.path().join("tokenizer_config.json"),
            config.to_string(),
        )
        .unwrap();
        let tokens = ["<|x|>", "b"].map(str::to_owned);
        write_added_tokens(from.path(), to.path(), &tokens).unwrap();
        let read = |name: &str| {
            serde_json::from_str(&fs::read_to_string(to.path().join(name)).unwrap()).unwrap()
        };
        (read("tokenizer.json"), read("tokenizer_config.json"))
    }

    #[test]
    fn new_tokens_stand_in_both_files() {
        let (tokenizer, config) = written(json!({"added_tokens_decoder": {}}));
        let added = tokenizer["added_tokens"].as_array().unwrap();
        let ids: Vec<_> = added
            .iter()
            .map(|token| (&token["content"], &token["id"]))
            .collect();
        // A token that the vocabulary has keeps its id.
        assert_eq!(
            ids,
            [(&json!("b"), &json!(1)), (&json!("<|x|>"), &json!(2))]
        );
        assert!(added.iter().all(|token| token["special"] == true));
        assert_eq!(config["additional_special_tokens"], json!(["<|x|>", "b"]));
        assert_eq!(config["added_tokens_decoder"]["2"]["content"], "<|x|>");

        let (_, config) = written(json!({"extra_special_tokens": ["<|x|>", "<|y|>"]}));
        assert_eq!(
            config["extra_special_tokens"],
            json!(["<|x|>", "<|y|>", "b"])
        );
        assert!(config.get("additional_special_tokens").is_none());
    }
}
