//! Tokens, labels and entities against transformers' `run_ner.py` and seqeval (`golden/tokens/tags.json`, made by
//! `golden/tokens/make.py`), and what must hold for windows and for spans whatever the tokenizer.
#![allow(clippy::unwrap_used)]

use std::collections::HashMap;
use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};

use rekindle_data::tokens::{
    IGNORED, Said, Span, TagLabels, TagOptions, Tagged, TaggedOptions, TaggedText, TokenSet,
    WordTag, read_tagged, slice, tagged_spans,
};
use rekindle_data::{Place, TextEncoder};
use serde_json::{Value, json};

const SHORT: usize = 16;
const OVERLAP: usize = 4;

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden")
}

fn cases() -> Value {
    let text = fs::read_to_string(golden().join("tokens/tags.json")).unwrap();
    serde_json::from_str(&text).unwrap()
}

fn list(value: &Value) -> &[Value] {
    value.as_array().unwrap()
}

fn numbers(value: &Value) -> Vec<i64> {
    list(value)
        .iter()
        .map(|number| number.as_i64().unwrap())
        .collect()
}

/// Rows as a file of JSON lines, read.
fn read(rows: &[Value], options: &TaggedOptions) -> Tagged {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("train.jsonl");
    let lines: Vec<String> = rows.iter().map(Value::to_string).collect();
    fs::write(&path, lines.join("\n")).unwrap();
    read_tagged(&path, options).unwrap()
}

fn encoder(kind: &str, max_length: usize) -> TextEncoder {
    TextEncoder::for_words(&golden().join(kind), Some(max_length)).unwrap()
}

#[test]
fn ids_and_labels_equal_those_of_run_ner() {
    let cases = cases();
    let read = read(list(&cases["sentences"]), &TaggedOptions::default());
    assert_eq!(read.rows.len(), 51);
    let labels = TagLabels::fit(&read).unwrap();
    let names: Vec<&str> = list(&cases["labels"])
        .iter()
        .filter_map(Value::as_str)
        .collect();
    assert_eq!(labels.names(), names);
    let mut sets: HashMap<String, TokenSet> = HashMap::new();
    let mut wrong = Vec::new();
    for case in list(&cases["cases"]) {
        let kind = case["tokenizer"].as_str().unwrap();
        let max_length = case["max_length"].as_u64().unwrap() as usize;
        let options = TagOptions {
            label_all_tokens: case["all"].as_bool().unwrap(),
            ..TagOptions::default()
        };
        let key = format!("{kind} {max_length} {options:?}");
        let set = sets.entry(key).or_insert_with(|| {
            encoder(kind, max_length)
                .encode_tagged(&read.rows, Some(&labels), options)
                .unwrap()
        });
        let sentence = case["sentence"].as_u64().unwrap() as usize;
        assert_eq!(set.windows_of(sentence).len(), 1);
        let window = set.windows_of(sentence).start;
        let ids: Vec<i64> = set.set.items[window]
            .ids
            .iter()
            .map(|&id| id.into())
            .collect();
        let found: Vec<i64> = set.windows[window]
            .labels
            .iter()
            .map(|&id| id.into())
            .collect();
        if (ids, found) != (numbers(&case["ids"]), numbers(&case["labels"])) {
            wrong.push(format!(
                "{case}\n  found {:?} {:?}",
                set.set.items[window].ids, set.windows[window].labels
            ));
        }
    }
    assert!(
        wrong.is_empty(),
        "{} differ:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
    assert_eq!(sets.len(), 12);
}

#[test]
fn windows_have_the_ids_of_transformers_and_each_word_speaks_once() {
    let cases = cases();
    let read = read(list(&cases["sentences"]), &TaggedOptions::default());
    let labels = TagLabels::fit(&read).unwrap();
    let options = TagOptions {
        overlap: Some(OVERLAP),
        ..TagOptions::default()
    };
    let mut sets: HashMap<&str, (TokenSet, TokenSet)> = HashMap::new();
    for case in list(&cases["windows"]) {
        let kind = case["tokenizer"].as_str().unwrap();
        let (set, whole) = sets.entry(kind).or_insert_with(|| {
            let encode = |length, options| {
                encoder(kind, length)
                    .encode_tagged(&read.rows, Some(&labels), options)
                    .unwrap()
            };
            (
                encode(SHORT, options),
                encode(10_000, TagOptions::default()),
            )
        });
        let sentence = case["sentence"].as_u64().unwrap() as usize;
        let windows = set.windows_of(sentence);
        let ids: Vec<Value> = set.set.items[windows.clone()]
            .iter()
            .map(|item| json!(item.ids))
            .collect();
        assert_eq!(json!(ids), case["ids"], "{kind} {sentence}");
        assert!(
            windows
                .clone()
                .all(|window| set.windows[window].example == sentence)
        );

        // Each word that has a token in the whole text speaks once in the windows, with the same label.
        let spoken = |set: &TokenSet, windows: Range<usize>| {
            let mut spoken: Vec<(u32, i32)> = Vec::new();
            for window in &set.windows[windows] {
                let pairs = window.words.iter().zip(&window.labels);
                spoken.extend(pairs.filter_map(|(word, &label)| Some(((*word)?, label))));
            }
            spoken.sort_unstable();
            spoken
        };
        let expect = spoken(whole, whole.windows_of(sentence));
        assert_eq!(spoken(set, windows), expect, "{kind} {sentence}");
        assert!(expect.iter().all(|&(_, label)| label != IGNORED));
    }
    assert!(
        sets.values()
            .all(|(set, _)| set.windows.len() > set.examples() + 20)
    );
}

#[test]
fn a_word_speaks_where_it_has_most_context() {
    let words: Vec<String> = (0..40).map(|number| format!("a{}", number % 2)).collect();
    let row = json!({ "tokens": words, "tags": vec!["O"; 40] });
    let read = read(&[row], &TaggedOptions::default());
    let encoder = encoder("bert-cased-config", 22);
    let options = TagOptions {
        overlap: Some(8),
        ..TagOptions::default()
    };
    let set = encoder.encode_tagged(&read.rows, None, options).unwrap();
    for (number, window) in set.windows.iter().enumerate() {
        let tokens = window.words.len();
        for (at, word) in window.words.iter().enumerate() {
            // Three tokens at least, less than half of the overlap, on either side that another window shares.
            let (first, last) = (number == 0, number + 1 == set.windows.len());
            let has_context = (first || at > 3) && (last || at + 4 < tokens);
            assert!(word.is_none() || has_context, "window {number}, token {at}");
        }
        assert!(window.labels.iter().all(|&label| label == IGNORED));
    }
    let batch = set.pack(&[1, 0]);
    assert_eq!(batch.labels.len(), batch.text.tokens());
    assert_eq!(batch.text.offsets[1], set.set.items[1].ids.len());
    // Asked for are the tokens that speak, each once.
    let speaks = |window: &usize| set.windows[*window].words.iter().flatten().count();
    let asked: Vec<usize> = [1, 0].iter().map(speaks).collect();
    assert_eq!(batch.asked_offsets, [0, asked[0], asked[0] + asked[1]]);
    assert_eq!(batch.asked.len(), asked[0] + asked[1]);
    assert!(batch.asked.windows(2).all(|pair| pair[0] < pair[1]));
}

#[test]
fn tags_of_mixed_schemes_are_the_entities_of_seqeval() {
    let cases = cases();
    for row in list(&cases["schemes"]) {
        let tags = list(&row["tags"]);
        let words: Vec<String> = (0..tags.len()).map(|at| format!("w{at}")).collect();
        let read = read(
            &[json!({ "tokens": words, "tags": tags })],
            &TaggedOptions::default(),
        );
        let text = &read.rows[0];
        let spans: Vec<Value> = text
            .spans
            .as_ref()
            .unwrap()
            .iter()
            .map(|span| {
                let start = text
                    .words
                    .iter()
                    .position(|word| word.start == span.start)
                    .unwrap();
                let end = text
                    .words
                    .iter()
                    .position(|word| word.end == span.end)
                    .unwrap();
                json!([span.label, start, end + 1])
            })
            .collect();
        assert_eq!(json!(spans), row["entities"], "{row}");
    }
}

fn place() -> Place {
    Place {
        path: Path::new("train.jsonl").into(),
        line: 1,
    }
}

/// A text with the pieces in brackets as spans: `[PER Ada King] sleeps`.
fn bracketed(marked: &str) -> TaggedText {
    let (mut text, mut spans, mut rest) = (String::new(), Vec::new(), marked);
    while let Some((before, inside)) = rest.split_once('[') {
        let (inside, after) = inside.split_once(']').unwrap();
        let (label, inside) = inside.split_once(' ').unwrap();
        text.push_str(before);
        let start = text.chars().count();
        text.push_str(inside);
        spans.push(Span {
            start,
            end: text.chars().count(),
            label: label.to_owned(),
        });
        rest = after;
    }
    text.push_str(rest);
    TaggedText {
        spans: Some(spans),
        ..TaggedText::of_text(text, place())
    }
}

fn labels_of(texts: &[TaggedText]) -> TagLabels {
    let mut names: Vec<String> = vec!["O".into()];
    for span in texts.iter().flat_map(|text| text.spans.iter().flatten()) {
        names.extend([format!("B-{}", span.label), format!("I-{}", span.label)]);
    }
    names.sort();
    names.dedup();
    TagLabels::from_names(names).unwrap()
}

/// The spans that a model would find that says exactly what it should.
fn found(set: &TokenSet, example: usize, text: &TaggedText, labels: &TagLabels) -> Vec<Span> {
    let windows = set.windows_of(example);
    let asked = set.windows[windows.clone()].iter().flat_map(|window| {
        let labels = window.asked().into_iter().map(|token| window.labels[token]);
        labels.collect::<Vec<_>>()
    });
    // What is ignored is asked for where no word speaks.
    let outputs: Vec<WordTag> = asked
        .map(|label| WordTag {
            label: u32::try_from(label).unwrap_or(u32::MAX),
            score: 0.5,
        })
        .collect();
    let words = set.said(windows, text.words.len(), &outputs);
    let spans = tagged_spans(text, labels, &words);
    assert!(
        spans
            .iter()
            .all(|span| span.score > 0.0 && span.score <= 0.5)
    );
    spans.into_iter().map(|found| found.span).collect()
}

#[test]
fn spans_come_back_from_labels_of_any_tokenizer() {
    let texts: Vec<TaggedText> = [
        "[PER Ada King] lives in [LOC Paris], ([LOC France]).",
        "[PER O'Brien]'s re-run cost [QTY $5m] at [QTY 3pm]!",
        "[LOC 日本]の[LOC 東京] and [LOC 서울]에서 [MISC 😀] Ångström [PER Zoë]",
        "no spans at all",
        "[A 5][B b] [A c]\u{a0}[A d]",
        "[PER e\u{301}te\u{301}] x [LOC New York]\n\tthe quick [LOC brown] fox jumps over [PER lazy dog]",
        "the quick brown fox jumps over the lazy dog. the quick brown fox jumps over [LOC the lazy dog]",
    ]
    .map(bracketed)
    .to_vec();
    let labels = labels_of(&texts);
    let spans: usize = texts
        .iter()
        .map(|text| text.spans.as_ref().unwrap().len())
        .sum();
    for kind in ["bert-cased-config", "roberta-class", "xlm-roberta"] {
        for words in [false, true] {
            for overlap in [None, Some(4)] {
                let length = overlap.map_or(4000, |_| SHORT);
                let encoder = match words {
                    true => TextEncoder::for_words(&golden().join(kind), Some(length)),
                    false => TextEncoder::from_dir(&golden().join(kind), Some(length)),
                }
                .unwrap();
                let options = TagOptions {
                    overlap,
                    ..TagOptions::default()
                };
                let set = encoder
                    .encode_tagged(&texts, Some(&labels), options)
                    .unwrap();
                assert_eq!(set.spans, spans);
                let mut lost: Vec<&str> = Vec::new();
                for (example, text) in texts.iter().enumerate() {
                    let back = found(&set, example, text, &labels);
                    let expect = text.spans.as_ref().unwrap();
                    let missed = expect.iter().filter(|span| !back.contains(span));
                    lost.extend(missed.map(|span| slice(&text.text, span.start..span.end)));
                }
                // What is not exact is counted, no more and no less.
                assert_eq!(set.inexact, lost.len(), "{kind} {words} {overlap:?}");
                // One token, which the tokenizer does not know, covers more than a span.
                let expect: &[&str] = match (kind, words) {
                    ("bert-cased-config", false) => &["日本", "東京", "서울"],
                    ("xlm-roberta", false) => &["서울"],
                    _ => &[],
                };
                assert_eq!(lost, expect, "{kind} {words} {overlap:?}");
            }
        }
    }
}

#[test]
fn a_span_that_ends_inside_a_word_is_learned_as_the_word() {
    let text = bracketed("the [LOC Berlin]er fox and [ORG Fo][PER xes]");
    let labels = labels_of(std::slice::from_ref(&text));
    let set = encoder("bert-cased-config", 64)
        .encode_tagged(
            std::slice::from_ref(&text),
            Some(&labels),
            TagOptions::default(),
        )
        .unwrap();
    assert_eq!((set.spans, set.inexact), (3, 3));
    let back = found(&set, 0, &text, &labels);
    let texts: Vec<(&str, &str)> = back
        .iter()
        .map(|span| (slice(&text.text, span.start..span.end), span.label.as_str()))
        .collect();
    // A word belongs to the span that has most of it.
    assert_eq!(texts, [("Berliner", "LOC"), ("Foxes", "PER")]);
}

/// A token over several words speaks for the first, and the others follow it.
#[test]
fn words_without_a_token_follow_the_token_that_covers_them() {
    let text = bracketed("a [X b-c] d");
    let labels = labels_of(std::slice::from_ref(&text));
    let tag = |name: &str| {
        let label = labels
            .names()
            .iter()
            .position(|known| known == name)
            .unwrap() as u32;
        Said::Tag(WordTag { label, score: 0.5 })
    };
    let words = [
        tag("O"),
        tag("B-X"),
        Said::Covered,
        Said::Covered,
        tag("I-X"),
    ];
    let back: Vec<(usize, usize)> = tagged_spans(&text, &labels, &words)
        .iter()
        .map(|found| (found.span.start, found.span.end))
        .collect();
    assert_eq!(back, [(2, 7)]);
    let words = [
        tag("I-X"),
        tag("B-X"),
        Said::Covered,
        Said::Nothing,
        tag("I-X"),
    ];
    let back: Vec<(usize, usize)> = tagged_spans(&text, &labels, &words)
        .iter()
        .map(|found| (found.span.start, found.span.end))
        .collect();
    assert_eq!(back, [(0, 1), (2, 4), (6, 7)]);
}

#[test]
fn errors_name_place_and_remedy() {
    let text = bracketed("the [PER fox]");
    let labels = labels_of(&[bracketed("[PERS x]")]);
    let encoder = encoder("bert", 8);
    let texts = std::slice::from_ref(&text);
    let unknown = encoder
        .encode_tagged(texts, Some(&labels), TagOptions::default())
        .unwrap_err();
    assert_eq!(
        unknown.to_string(),
        "train.jsonl:1: unknown label `PER`; expected one of `PERS`\nhint: did you mean `PERS`?"
    );
    let bare = TaggedText {
        spans: None,
        ..text.clone()
    };
    let unlabelled = encoder
        .encode_tagged(&[bare], Some(&labels), TagOptions::default())
        .unwrap_err();
    assert_eq!(
        unlabelled.to_string(),
        "train.jsonl:1: the example has no label\nhint: label or remove the row"
    );
    let options = TagOptions {
        overlap: Some(6),
        ..TagOptions::default()
    };
    let overlap = encoder.encode_tagged(texts, None, options).unwrap_err();
    assert_eq!(
        overlap.to_string(),
        "max_length = 8 leaves nothing new in a window that shares 6 tokens with the one before\n\
         hint: set max_length to 9 or more, or a smaller overlap"
    );
}
