//! Tokens that a tokenizer gets beside its own, and the files that say so, as transformers reads them.

use std::path::Path;

use rekindle_base::write_atomically;
use serde_json::{Map, Value, json};
use tokenizers::{AddedToken, Tokenizer};

use crate::DataError;
use crate::text::files;

/// Adds tokens that are never cut; what is a token already stays what it is. They are content, not control tokens: texts of
/// answers hold them.
pub(super) fn add(tokenizer: &mut Tokenizer, tokens: &[String]) -> Result<(), String> {
    if tokens.is_empty() {
        return Ok(());
    }
    let new = tokens
        .iter()
        .filter(|token| tokenizer.token_to_id(token).is_none());
    let new: Vec<AddedToken> = new
        .map(|token| AddedToken::from(token.clone(), false).normalized(false))
        .collect();
    let added = tokenizer.add_tokens(new);
    added.map(drop).map_err(|error| error.to_string())
}

/// Writes `tokenizer.json` and `tokenizer_config.json` of the model directory `from`, with these tokens added, to
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
        // A control token that the model had stays one.
        let entry = decoder.entry(id.to_string());
        entry.or_insert_with(|| {
            json!({"content": token, "lstrip": false, "normalized": false, "rstrip": false, "single_word": false, "special": false})
        });
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
        // What the vocabulary has stays what it is.
        assert_eq!(ids, [(&json!("<|x|>"), &json!(2))]);
        // They are content: who skips special tokens still sees them.
        assert!(
            added
                .iter()
                .all(|token| token["special"] == false && token["normalized"] == false)
        );
        assert_eq!(config["added_tokens_decoder"]["2"]["content"], "<|x|>");
        assert_eq!(config["added_tokens_decoder"]["2"]["special"], false);

        // A control token stays one.
        let control = json!({"content": "b", "special": true});
        let (_, config) = written(json!({"added_tokens_decoder": {"1": control}}));
        assert_eq!(config["added_tokens_decoder"]["1"], control);
    }
}
