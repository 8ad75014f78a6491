//! A model directory's tokenizer files, read as transformers 5 reads them (`TokenizersBackend` in
//! `tokenization_utils_tokenizers.py`, `BertTokenizer` in `models/bert/tokenization_bert.py`).
//!
//! What we take over from there:
//! - truncation and padding stored in `tokenizer.json` do not count, but the truncation's side does, unless
//!   `tokenizer_config.json` has `truncation_side`;
//! - BERT's tokenizers take lower-casing, accents and the spacing of Chinese characters from `tokenizer_config.json`
//!   (or their defaults), whatever `tokenizer.json` says;
//! - without `tokenizer.json`, BERT's tokenizer is made from `vocab.txt`.

use std::fs;
use std::path::Path;

use serde_json::{Map, Value, json};
use tokenizers::normalizers::BertNormalizer;
use tokenizers::{NormalizerWrapper, Tokenizer, TruncationDirection};

use crate::DataError;

/// Model types and tokenizer classes (less `Tokenizer`, `TokenizerFast`) that are BERT's tokenizer.
const BERT_MODEL_TYPES: &[&str] = &[
    "bert",
    "distilbert",
    "electra",
    "mobilebert",
    "squeezebert",
    "convbert",
    "megatron-bert",
    "nomic_bert",
    "retribert",
];
const BERT_CLASSES: &[&str] = &[
    "Bert",
    "DistilBert",
    "Electra",
    "MobileBert",
    "SqueezeBert",
    "ConvBert",
    "Retribert",
];

/// transformers' mark for "no limit" is 1e30; anything above this is none.
const LARGE: f64 = 1e20;

pub(super) struct TokenizerFiles {
    pub tokenizer: Tokenizer,
    pub model_max_length: Option<usize>,
    pub truncation_side: TruncationDirection,
}

pub(super) fn load(dir: &Path) -> Result<TokenizerFiles, DataError> {
    let config = object(&dir.join("tokenizer_config.json"))?.unwrap_or_default();
    let tokenizer_json = dir.join("tokenizer.json");
    let vocab_txt = dir.join("vocab.txt");
    let (path, json) = match (read(&tokenizer_json)?, read(&vocab_txt)?) {
        (Some(json), _) => (tokenizer_json, json),
        (None, Some(vocab)) => {
            let special = object(&dir.join("special_tokens_map.json"))?.unwrap_or_default();
            let added = object(&dir.join("added_tokens.json"))?.unwrap_or_default();
            let json = from_vocab(&vocab_txt, &vocab, &config, &special, &added)?;
            (vocab_txt, json.to_string())
        }
        (None, None) => {
            return Err(DataError::NoTokenizer {
                dir: dir.to_owned(),
            });
        }
    };
    let failed = |error: tokenizers::Error| DataError::Tokenizer {
        path: path.clone(),
        message: error.to_string(),
    };
    let mut tokenizer = Tokenizer::from_bytes(json).map_err(failed)?;

    let truncation_side = match config.get("truncation_side").and_then(Value::as_str) {
        Some("left") => TruncationDirection::Left,
        Some(_) => TruncationDirection::Right,
        None => tokenizer
            .get_truncation()
            .map_or(TruncationDirection::Right, |stored| stored.direction),
    };
    tokenizer.with_truncation(None).map_err(failed)?;
    tokenizer.with_padding(None);
    if matches!(
        tokenizer.get_normalizer(),
        Some(NormalizerWrapper::BertNormalizer(_))
    ) && is_bert(dir, &config)?
    {
        tokenizer
            .with_normalizer(Some(bert_normalizer(&config)))
            .map_err(failed)?;
    }

    let model_max_length = config
        .get("model_max_length")
        .and_then(Value::as_f64)
        .filter(|&length| (1.0..LARGE).contains(&length))
        .map(|length| length as usize);
    Ok(TokenizerFiles {
        tokenizer,
        model_max_length,
        truncation_side,
    })
}

/// Whether transformers would take BERT's tokenizer class for this directory.
fn is_bert(dir: &Path, config: &Map<String, Value>) -> Result<bool, DataError> {
    if let Some(class) = config.get("tokenizer_class").and_then(Value::as_str) {
        let class = class.trim_end_matches("Fast").trim_end_matches("Tokenizer");
        return Ok(BERT_CLASSES.contains(&class));
    }
    let model = object(&dir.join("config.json"))?.unwrap_or_default();
    let model_type = model.get("model_type").and_then(Value::as_str);
    Ok(model_type.is_some_and(|model_type| BERT_MODEL_TYPES.contains(&model_type)))
}

fn bert_normalizer(config: &Map<String, Value>) -> BertNormalizer {
    let flag = |name: &str| config.get(name).and_then(Value::as_bool);
    let clean_text = true;
    let handle_chinese_chars = flag("tokenize_chinese_chars").unwrap_or(true);
    let lowercase = flag("do_lower_case").unwrap_or(true);
    BertNormalizer::new(
        clean_text,
        handle_chinese_chars,
        flag("strip_accents"),
        lowercase,
    )
}

/// The `tokenizer.json` that BERT's tokenizer class would write for a `vocab.txt`.
fn from_vocab(
    path: &Path,
    vocab: &str,
    config: &Map<String, Value>,
    special: &Map<String, Value>,
    added: &Map<String, Value>,
) -> Result<Value, DataError> {
    let ids: Map<String, Value> = vocab
        .lines()
        .zip(0u32..)
        .map(|(token, id)| (token.to_owned(), id.into()))
        .collect();
    let token = |role: &str, default: &str| -> String {
        let named = config.get(role).or_else(|| special.get(role));
        let content =
            named.and_then(|token| token.as_str().or_else(|| token.get("content")?.as_str()));
        content.unwrap_or(default).to_owned()
    };
    let id = |token: &str| -> Result<Value, DataError> {
        ids.get(token).cloned().ok_or_else(|| DataError::Tokenizer {
            path: path.to_owned(),
            message: format!(
                "expected the special token `{token}` among its {} lines",
                ids.len()
            ),
        })
    };
    let [unk, cls, sep] = [
        token("unk_token", "[UNK]"),
        token("cls_token", "[CLS]"),
        token("sep_token", "[SEP]"),
    ];
    let mut added_tokens = Vec::new();
    for special in [
        &unk,
        &sep,
        &token("pad_token", "[PAD]"),
        &cls,
        &token("mask_token", "[MASK]"),
    ] {
        added_tokens.push(added_token(special, id(special)?, true));
    }
    added_tokens.extend(
        added
            .iter()
            .map(|(token, id)| added_token(token, id.clone(), false)),
    );
    added_tokens.sort_by_key(|token| token["id"].as_u64());
    Ok(json!({
        "version": "1.0",
        "added_tokens": added_tokens,
        "normalizer": bert_normalizer(config),
        "pre_tokenizer": { "type": "BertPreTokenizer" },
        "post_processor": {
            "type": "BertProcessing",
            "sep": [sep, id(&sep)?],
            "cls": [cls, id(&cls)?],
        },
        "decoder": { "type": "WordPiece", "prefix": "##", "cleanup": true },
        "model": {
            "type": "WordPiece",
            "unk_token": unk,
            "continuing_subword_prefix": "##",
            "max_input_chars_per_word": 100,
            "vocab": ids,
        },
    }))
}

fn added_token(content: &str, id: Value, special: bool) -> Value {
    json!({
        "id": id, "content": content, "special": special, "normalized": !special,
        "single_word": false, "lstrip": false, "rstrip": false,
    })
}

/// A JSON object file, if it is there.
fn object(path: &Path) -> Result<Option<Map<String, Value>>, DataError> {
    read(path)?
        .map(|text| {
            serde_json::from_str(&text).map_err(|error| DataError::Tokenizer {
                path: path.to_owned(),
                message: error.to_string(),
            })
        })
        .transpose()
}

fn read(path: &Path) -> Result<Option<String>, DataError> {
    match fs::read(path) {
        Ok(bytes) => String::from_utf8(bytes)
            .map(Some)
            .map_err(|error| DataError::Tokenizer {
                path: path.to_owned(),
                message: format!("byte {} is not UTF-8", error.utf8_error().valid_up_to()),
            }),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(DataError::Io {
            path: path.to_owned(),
            source,
        }),
    }
}
