//! Token ids against transformers' (`golden/cases.json`, made by `golden/make.py`), and the encoder's errors.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::{Path, PathBuf};

use rekindle_data::{
    DataError, Example, LabelMap, Place, RawTarget, TargetEncoder, TargetRow, Targets, TextEncoder,
};
use serde_json::Value;

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden")
}

fn numbers(value: &Value) -> Vec<u32> {
    value
        .as_array()
        .unwrap()
        .iter()
        .map(|number| number.as_u64().unwrap() as u32)
        .collect()
}

#[test]
fn ids_equal_those_of_transformers() {
    let text = fs::read_to_string(golden().join("cases.json")).unwrap();
    let cases: Value = serde_json::from_str(&text).unwrap();
    let cases = cases["cases"].as_array().unwrap();
    assert!(cases.len() > 1000);
    let mut wrong = Vec::new();
    for case in cases {
        let max_length = case["max_length"].as_u64().map(|length| length as usize);
        let encoder = TextEncoder::from_dir(
            &golden().join(case["tokenizer"].as_str().unwrap()),
            max_length,
        )
        .unwrap();
        let encoded = encoder
            .encode(case["text"].as_str().unwrap(), case["pair"].as_str())
            .unwrap();
        let (ids, type_ids) = (numbers(&case["ids"]), numbers(&case["type_ids"]));
        let truncated = ids.len() as u64 != case["full"].as_u64().unwrap();
        if (&encoded.ids, &encoded.type_ids, encoded.truncated) != (&ids, &type_ids, truncated) {
            wrong.push(format!("{case}\n  found {encoded:?}"));
        }
    }
    assert!(
        wrong.is_empty(),
        "{} of {} differ:\n{}",
        wrong.len(),
        cases.len(),
        wrong.join("\n")
    );
}

/// Unicode of all kinds, emoji, control characters, long runs, combining marks, special tokens in the text: 200 of them
/// for each kind of tokenizer.
#[test]
fn hard_texts_have_the_ids_of_transformers() {
    let text = fs::read_to_string(golden().join("hard.json")).unwrap();
    let fixture: Value = serde_json::from_str(&text).unwrap();
    let texts = fixture["texts"].as_array().unwrap();
    let kinds = fixture["ids"].as_object().unwrap();
    assert_eq!((texts.len(), kinds.len()), (200, 20));
    let mut wrong = Vec::new();
    for (kind, expected) in kinds {
        // A length that cuts nothing: that of the files does not count here.
        let encoder = TextEncoder::from_dir(&golden().join(kind), Some(10_000)).unwrap();
        for (text, ids) in texts.iter().zip(expected.as_array().unwrap()) {
            let found = encoder.encode(text.as_str().unwrap(), None).unwrap();
            if found.ids != numbers(ids) {
                wrong.push(format!(
                    "{kind}: {text}\n  expected {ids}\n  found {:?}",
                    found.ids
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "{}:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn a_model_of_one_token_type_gets_type_zero() {
    let dir = golden().join("bert");
    let mut encoder = TextEncoder::from_dir(&dir, None).unwrap();
    let size = encoder.vocab_size();
    encoder.check_model(size, 2).unwrap();
    let pair = encoder.encode("dog", Some("fox")).unwrap();
    assert_eq!(pair.type_ids, [0, 0, 0, 1, 1]);
    for types in [0, 1] {
        encoder.check_model(size, types).unwrap();
        let same = encoder.encode("dog", Some("fox")).unwrap();
        assert_eq!((same.ids, same.type_ids), (pair.ids.clone(), vec![0; 5]));
    }
}

fn examples(n: usize) -> Vec<Example> {
    let path: std::sync::Arc<Path> = Path::new("train.csv").into();
    (0..n)
        .map(|i| Example {
            text: format!("the quick brown fox {i} jumps"),
            text_pair: (i % 3 == 0).then(|| "over the lazy dog".to_owned()),
            label: Some(RawTarget::from(if i % 2 == 0 { "even" } else { "odd" })),
            place: Place {
                path: path.clone(),
                line: i as u64 + 2,
            },
        })
        .collect()
}

#[test]
fn a_set_is_encoded_in_order_with_its_labels() {
    let encoder = TextEncoder::from_dir(&golden().join("bert"), Some(10)).unwrap();
    let examples = examples(500);
    let labels = LabelMap::from_examples(&examples).unwrap();
    let set = encoder
        .encode_examples(&examples, Some(&TargetEncoder::from(labels)))
        .unwrap();
    for (i, example) in examples.iter().enumerate() {
        assert_eq!(
            set.items[i],
            encoder
                .encode(&example.text, example.text_pair.as_deref())
                .unwrap()
        );
        assert_eq!(set.targets.row(i), TargetRow::Class(i as u32 % 2));
    }
    assert_eq!(set.lengths()[1], set.items[1].ids.len() as u32);
    assert!(set.truncated() > 0 && set.truncated() < set.len());
    let unlabelled = encoder.encode_examples(&examples, None).unwrap();
    assert_eq!(unlabelled.targets, Targets::None);
}

#[test]
fn the_files_decide_the_length_and_the_vocabulary() {
    let mut bert = TextEncoder::from_dir(&golden().join("bert"), None).unwrap();
    assert_eq!(
        (bert.max_length(), bert.model_max_length()),
        (Some(12), Some(12))
    );
    let unlimited = TextEncoder::from_dir(&golden().join("bert-cased-config"), None).unwrap();
    assert_eq!(
        (unlimited.max_length(), unlimited.model_max_length()),
        (None, None)
    );
    assert_eq!(
        unlimited
            .encode(&"dog ".repeat(700), None)
            .unwrap()
            .ids
            .len(),
        702
    );

    let vocab = fs::read_to_string(golden().join("bert-vocab-only/vocab.txt")).unwrap();
    assert_eq!(bert.vocab_size(), vocab.lines().count());
    assert!(bert.check_model(bert.vocab_size(), 2).is_ok());
    assert!(bert.check_model(30_522, 2).is_ok());
}

/// A long pair must not cost the product of its pieces.
#[test]
fn very_long_pairs_are_cut_in_linear_time() {
    let encoder = TextEncoder::from_dir(&golden().join("bert"), Some(8)).unwrap();
    let long = "dog fox ".repeat(20_000);
    let encoded = encoder.encode(&long, Some(&long)).unwrap();
    assert_eq!(encoded.ids.len(), 8);
    assert!(encoded.truncated);
}

#[test]
fn errors_name_file_and_remedy() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name).display().to_string();
    let message = |max_length| match TextEncoder::from_dir(dir.path(), max_length) {
        Ok(_) => "no error".to_owned(),
        Err(error) => error.to_string(),
    };
    assert_eq!(
        message(None),
        format!(
            "{}: no tokenizer here; expected tokenizer.json, vocab.txt, vocab.json with merges.txt, sentencepiece.bpe.model, or spm.model\nhint: copy the tokenizer files that came with the model there",
            dir.path().display()
        )
    );

    fs::write(dir.path().join("vocab.txt"), "[PAD]\n[UNK]\n[CLS]\nhello\n").unwrap();
    assert_eq!(
        message(None),
        format!(
            "{}: not a readable tokenizer file: expected the special token `[SEP]` among its 4 lines\nhint: the file is damaged or of a kind that is not known; fetch the model again",
            at("vocab.txt")
        )
    );

    fs::write(dir.path().join("tokenizer.json"), "{\"version\": \"1.0\"").unwrap();
    let cut = message(None);
    assert!(
        cut.starts_with(&format!(
            "{}: not a readable tokenizer file: ",
            at("tokenizer.json")
        )),
        "{cut}"
    );

    let bert = golden().join("bert");
    let short = TextEncoder::from_dir(&bert, Some(2)).unwrap_err();
    assert_eq!(
        short.to_string(),
        "max_length = 2 leaves no room for text: the tokenizer adds 2 special tokens\nhint: set max_length to 3 or more"
    );
    let pair = TextEncoder::from_dir(&bert, Some(3))
        .unwrap()
        .encode("a", Some("b"))
        .unwrap_err();
    assert_eq!(
        pair.to_string(),
        "max_length = 3 leaves no room for text: the tokenizer adds 3 special tokens to a pair\nhint: set max_length to 4 or more"
    );

    let mut encoder = TextEncoder::from_dir(&bert, None).unwrap();
    let wrong = encoder.check_model(100, 2).unwrap_err();
    assert!(matches!(
        &wrong,
        DataError::WrongTokenizer {
            vocab_size: 100,
            ..
        }
    ));
    assert_eq!(
        wrong.to_string(),
        format!(
            "{}: the tokenizer does not fit the model: token `##é` has id {}, the model has 100 embeddings\n\
             hint: use the tokenizer files that came with the model",
            bert.display(),
            encoder.vocab_size() - 1
        )
    );
}

/// A long text has the tokens of the whole, from either end, and costs what is kept of it.
#[test]
fn a_long_text_is_cut_before_it_is_tokenized() {
    const KEPT: usize = 64;
    let words = [
        "The",
        "phone's",
        "screen",
        "broke,",
        "again!",
        "3.50",
        "naïve",
        "日本語",
        "re-sent\n",
        "ok",
    ];
    let mut text = String::new();
    for index in 0..60_000u64 {
        let pick = rekindle_base::rng::hash(5, 6, 7, index) % words.len() as u64;
        text.push_str(words[pick as usize]);
        text.push(' ');
    }
    for kind in ["bert", "bert-left", "roberta", "xlm-roberta"] {
        let dir = golden().join(kind);
        let whole = TextEncoder::from_dir(&dir, Some(1 << 20))
            .unwrap()
            .encode(&text, None)
            .unwrap();
        let cut = TextEncoder::from_dir(&dir, Some(KEPT))
            .unwrap()
            .encode(&text, None)
            .unwrap();
        assert!(cut.truncated && cut.ids.len() == KEPT, "{kind}");
        // All but the token that ends, or begins, both.
        match kind {
            "bert-left" => assert_eq!(
                cut.ids[1..],
                whole.ids[whole.ids.len() + 1 - KEPT..],
                "{kind}"
            ),
            _ => assert_eq!(cut.ids[..KEPT - 1], whole.ids[..KEPT - 1], "{kind}"),
        }
        let pair = TextEncoder::from_dir(&dir, Some(KEPT))
            .unwrap()
            .encode("short", Some(&text))
            .unwrap();
        assert_eq!(pair.ids.len(), KEPT, "{kind}");
    }
    // Of spaces alone, and of one word, the start is enough.
    let encoder = TextEncoder::from_dir(&golden().join("bert"), Some(KEPT)).unwrap();
    for text in [" ".repeat(20 << 20), "a".repeat(20 << 20)] {
        assert!(encoder.encode(&text, None).is_ok());
    }
}
