//! Damaged tokenizer and Parquet files: errors that name the file and say what to do, never a panic that reaches the
//! process's hook, and no minutes of work. In a process of its own, since it watches that hook.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use rekindle_data::{Example, Place, ReadOptions, TextEncoder, read_examples, sniff};
use serde_json::{Value, json};

/// A good tokenizer of five words.
fn good() -> Value {
    let special = |id: &str, ids: u32| json!({ "id": id, "ids": [ids], "tokens": [id] });
    json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": [],
        "normalizer": { "type": "Lowercase" },
        "pre_tokenizer": { "type": "Whitespace" },
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [
                { "SpecialToken": { "id": "<c>", "type_id": 0 } },
                { "Sequence": { "id": "A", "type_id": 0 } },
            ],
            "pair": [
                { "SpecialToken": { "id": "<c>", "type_id": 0 } },
                { "Sequence": { "id": "A", "type_id": 0 } },
                { "Sequence": { "id": "B", "type_id": 1 } },
            ],
            "special_tokens": { "<c>": special("<c>", 0) },
        },
        "decoder": null,
        "model": { "type": "WordLevel", "vocab": { "<c>": 0, "<u>": 1, "good": 2, "bad": 3, "film": 4 }, "unk_token": "<u>" },
    })
}

/// The good tokenizer with one part changed.
fn with(pointer: &str, value: Value) -> String {
    let mut json = good();
    *json.pointer_mut(pointer).unwrap() = value;
    json.to_string()
}

/// Writes a file anew: overwriting thousands of times would wait for the disk each time.
fn write(path: &Path, bytes: &[u8]) {
    let _ = fs::remove_file(path);
    fs::write(path, bytes).unwrap();
}

/// What comes of a `tokenizer.json`: loading, fitting a model of 5 tokens and 2 types, encoding.
fn tried(dir: &Path, json: &str) -> String {
    write(&dir.join("tokenizer.json"), json.as_bytes());
    let names = br#"{"model_input_names": ["input_ids", "token_type_ids"]}"#;
    write(&dir.join("tokenizer_config.json"), names);
    let result = TextEncoder::from_dir(dir, Some(16)).and_then(|mut encoder| {
        encoder.check_model(5, 2)?;
        let example = Example {
            text: "a good film".to_owned(),
            text_pair: None,
            label: None,
            place: Place {
                path: Path::new("train.csv").into(),
                line: 7,
            },
        };
        encoder.encode_examples(&[example], None)
    });
    match result {
        Ok(set) => format!("{:?}", set.items[0].ids),
        Err(error) => error.to_string().replace(&dir.display().to_string(), "DIR"),
    }
}

/// The hint of a damaged tokenizer.
const HINT: &str = "file is damaged or of a kind that is not known; fetch the model again";

#[test]
fn damaged_files_are_errors_with_their_name() {
    static PANICS: AtomicUsize = AtomicUsize::new(0);
    let standing = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        PANICS.fetch_add(1, Ordering::SeqCst);
        standing(info);
    }));

    let dir = tempfile::tempdir().unwrap();
    let clock = Instant::now();
    assert_eq!(tried(dir.path(), &good().to_string()), "[0, 1, 2, 4]");
    let twice = json!({ "type": "Replace", "pattern": { "Regex": "." }, "content": "gg" });
    let bpe = json!({
        "type": "BPE", "continuing_subword_prefix": "@@@@", "vocab": { "a": 0, "b": 1, "ab": 2 }, "merges": ["a b"],
    });
    for (json, expect) in [
        (
            with("/post_processor/single/0/SpecialToken/id", json!("<zzz>")),
            "DIR/tokenizer.json: not a readable tokenizer file: ",
        ),
        (
            with(
                "/post_processor/special_tokens/<c>/ids",
                json!([4_000_000_000u32]),
            ),
            "DIR/tokenizer.json: the tokenizer does not fit the model: token `<c>` has id 4000000000, the model has 5 embeddings\n",
        ),
        (
            with("/post_processor/pair/2/Sequence/type_id", json!(2)),
            "DIR/tokenizer.json: the tokenizer does not fit the model: it gives tokens the type 2, the model has 2 types\n",
        ),
        (
            with(
                "/normalizer",
                json!({ "type": "Precompiled", "precompiled_charsmap": "AAAA" }),
            ),
            "DIR/tokenizer.json: not a readable tokenizer file: ",
        ),
        (
            with(
                "/normalizer",
                json!({ "type": "Sequence", "normalizers": vec![twice; 30] }),
            ),
            "DIR/tokenizer.json: not a readable tokenizer file: its normaliser makes a text more than 64 times as long\n",
        ),
        (
            with("/model", bpe),
            "DIR/tokenizer.json: not a readable tokenizer file: the second token of the merge \"a b\" does not start with `@@@@`, the prefix of tokens that continue a word\n",
        ),
        (
            with("/model/vocab/film", json!(9)),
            "DIR: the tokenizer does not fit the model: token `film` has id 9, the model has 5 embeddings\n",
        ),
        (
            with("/model/unk_token", json!("<none>")),
            "cannot tokenize the text at train.csv:7 with DIR/tokenizer.json: ",
        ),
        (
            good().to_string().replace("\"model\"", "\"mo"),
            "DIR/tokenizer.json: not a readable tokenizer file: ",
        ),
    ] {
        let found = tried(dir.path(), &json);
        assert!(
            found.starts_with(expect),
            "expected {expect:?}, found {found:?}"
        );
        assert!(found.contains("\nhint: "), "{found}");
        assert!(
            found.contains("fit the model") || found.ends_with(HINT),
            "{found}"
        );
    }
    // Whatever byte of a file is changed, it is an error or a tokenizer.
    let json = good().to_string();
    for at in (0..json.len()).step_by(3) {
        for byte in [b'0', b'"', b']', b'{'] {
            let mut bytes = json.clone().into_bytes();
            bytes[at] = byte;
            if let Ok(json) = String::from_utf8(bytes) {
                tried(dir.path(), &json);
            }
        }
    }
    assert!(
        clock.elapsed() < Duration::from_secs(60),
        "{:?}",
        clock.elapsed()
    );

    sentencepiece_bytes();
    parquet_bytes(dir.path());

    assert_eq!(PANICS.load(Ordering::SeqCst), 0, "panics reached the hook");
    // Those of other threads still do, also while this one is guarded.
    let other = std::thread::spawn(|| panic!("seen"));
    assert!(other.join().is_err());
    assert_eq!(
        PANICS.load(Ordering::SeqCst),
        1,
        "another thread's panic was swallowed"
    );
}

/// A SentencePiece model with any byte changed, or cut anywhere.
fn sentencepiece_bytes() {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/xlm-roberta-pieces");
    let dir = tempfile::tempdir().unwrap();
    let config = "tokenizer_config.json";
    fs::copy(golden.join(config), dir.path().join(config)).unwrap();
    let path = dir.path().join("sentencepiece.bpe.model");
    let bytes = fs::read(golden.join("sentencepiece.bpe.model")).unwrap();
    let mut refused = 0;
    for at in (0..bytes.len()).step_by(7) {
        let mut changed = bytes.clone();
        changed[at] ^= 0x55;
        for file in [&changed[..], &bytes[..at]] {
            write(&path, file);
            match TextEncoder::from_dir(dir.path(), None) {
                Ok(encoder) => drop(encoder.encode("a text ﬁ", None)),
                Err(error) => {
                    refused += 1;
                    assert!(
                        error.to_string().contains("sentencepiece.bpe.model: "),
                        "{error}"
                    );
                }
            }
        }
    }
    assert!(refused > 100, "only {refused} refused");
}

/// A Parquet file with any byte changed, or cut anywhere.
fn parquet_bytes(dir: &Path) {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/labels.parquet");
    let path = dir.join("a.parquet");
    let bytes = fs::read(golden).unwrap();
    let mut refused = 0;
    for at in 0..bytes.len() {
        for flip in [0x01, 0x55, 0xFF] {
            let mut changed = bytes.clone();
            changed[at] ^= flip;
            write(&path, &changed);
            // Looks at every column, the lists too.
            let _ = sniff(&path, &ReadOptions::default());
            if let Err(error) = read_examples(&path, &ReadOptions::default()) {
                refused += 1;
                assert!(error.to_string().contains("a.parquet"), "{error}");
            }
        }
    }
    assert!(refused > 100, "only {refused} refused");
}
