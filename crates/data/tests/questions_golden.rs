//! Windows of questions and chosen answers against transformers' `run_qa.py` and `utils_qa.py` (`golden/tokens/questions.json`,
//! made by `golden/tokens/make.py`).
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::{Path, PathBuf};

use rekindle_data::questions::{
    AnswerOptions, Question, QuestionFile, QuestionOptions, QuestionSet, read_questions,
};
use rekindle_data::tokens::slice;
use rekindle_data::{OnBad, TextEncoder};
use serde_json::{Value, json};

const WINDOW: usize = 80;
const STRIDE: usize = 16;
const KINDS: [&str; 3] = ["bert", "roberta-class", "xlm-roberta"];
/// Rounding of a sum of up to 21 exponentials in f32, and of the fixture to seven digits.
const PROBABILITY: f64 = 1e-6;

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden")
}

fn cases() -> Value {
    let text = fs::read_to_string(golden().join("tokens/questions.json")).unwrap();
    serde_json::from_str(&text).unwrap()
}

fn list(value: &Value) -> &[Value] {
    value.as_array().unwrap()
}

fn read(cases: &Value) -> Vec<Question> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("train.jsonl");
    let lines: Vec<String> = list(&cases["questions"])
        .iter()
        .map(Value::to_string)
        .collect();
    fs::write(&path, lines.join("\n")).unwrap();
    let read = read_questions(&path, QuestionFile::default()).unwrap();
    assert_eq!((read.rows.len(), read.impossible()), (20, 4));
    read.rows
}

fn encode(kind: &str, questions: &[Question]) -> QuestionSet {
    let encoder = TextEncoder::from_dir(&golden().join(kind), Some(WINDOW)).unwrap();
    let options = QuestionOptions {
        overlap: STRIDE,
        ..QuestionOptions::default()
    };
    encoder.encode_questions(questions, options).unwrap()
}

#[test]
fn windows_equal_those_of_run_qa() {
    let cases = cases();
    let questions = read(&cases);
    let mut past_the_end = 0;
    for kind in KINDS {
        let set = encode(kind, &questions);
        let expect = list(&cases[kind]["windows"]);
        assert_eq!(set.windows.len(), expect.len(), "{kind}");
        for (at, (window, expect)) in set.windows.iter().zip(expect).enumerate() {
            assert_eq!(json!(window.example), expect["question"], "{kind} {at}");
            assert_eq!(json!(set.set.items[at].ids), expect["ids"], "{kind} {at}");
            assert_eq!(json!(window.offsets), expect["offsets"], "{kind} {at}");
            let (start, end) = window.answer.unwrap();
            assert_eq!(json!(end), expect["end"], "{kind} {at}");
            // The one difference: transformers runs past the last token of the context.
            if expect["start"].as_u64() > expect["end"].as_u64() {
                let last = window.offsets.iter().rposition(Option::is_some).unwrap() as u32;
                assert_eq!((start, end), (last, last), "{kind} {at}");
                past_the_end += 1;
            } else {
                assert_eq!(json!(start), expect["start"], "{kind} {at}");
            }
        }
    }
    assert!(past_the_end > 0, "the difference is not looked at");
}

/// The positions hold the answer: the text from the first token to the last has it inside.
#[test]
fn positions_hold_the_answer_or_are_the_first_token() {
    let questions = read(&cases());
    for kind in KINDS {
        let set = encode(kind, &questions);
        let mut lost = 0;
        for (example, question) in questions.iter().enumerate() {
            let answers = question.answers.as_ref().unwrap();
            let windows = &set.windows[set.windows_of(example)];
            let held: Vec<_> = windows
                .iter()
                .filter(|window| window.answer != Some((0, 0)))
                .collect();
            assert!(held.is_empty() || !answers.is_empty(), "{kind} {example}");
            // An answer can be longer than what windows share: then none has all of it.
            lost += usize::from(held.is_empty() && !answers.is_empty());
            for window in held {
                let (start, end) = window.answer.unwrap();
                let from = window.offsets[start as usize].unwrap().0 as usize;
                let to = window.offsets[end as usize].unwrap().1 as usize;
                let text = slice(&question.context, from..to);
                assert!(
                    text.contains(&answers[0].text),
                    "{kind} {example}: {text:?}"
                );
            }
        }
        assert!(lost <= 2, "{kind}: {lost} answers are in no window");
        let batch = set.pack(&[1, 0]);
        assert_eq!((batch.starts.len(), batch.text.len()), (2, 2));
        assert_eq!(batch.starts[1], set.windows[0].answer.unwrap().0 as i32);
    }
}

/// A mark that the tokenizer drops belongs to its letter, so that the answer learned is the answer given.
#[test]
fn answers_keep_their_combining_marks() {
    let row = r#"{"question": "Where?", "context": "In the Cafe\u0301, near the Se\u0301.", "answer": "TEXT"}"#;
    for answer in ["Cafe\u{301}", "the Se\u{301}"] {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.jsonl");
        fs::write(&path, row.replace("TEXT", answer)).unwrap();
        let read = read_questions(&path, QuestionFile::default()).unwrap();
        for kind in KINDS {
            let set = encode(kind, &read.rows);
            let window = &set.windows[0];
            let (start, end) = window.answer.unwrap();
            let tokens = window.offsets.len();
            let sure = |at: u32| {
                let mut logits = vec![0.0; tokens];
                logits[at as usize] = 9.0;
                logits
            };
            let (starts, ends) = (sure(start), sure(end));
            let options = AnswerOptions::default();
            let found = set.answer(0, &read.rows[0], &options, |_| (&starts, &ends));
            assert_eq!(found.answer.unwrap().text, answer, "{kind}");
        }
    }
}

/// `logit` of make.py.
fn logit(window: usize, token: usize, end: usize, question: usize) -> f32 {
    let none = if token == 0 && question.is_multiple_of(3) {
        9.0
    } else {
        0.0
    };
    let place = (window * 131 + token * 17 + end * 401) * 7919 % 99991;
    (place as f64 / 99991.0 * 8.0 - 4.0 + none) as f32
}

#[test]
fn answers_equal_those_of_transformers() {
    let cases = cases();
    let questions = read(&cases);
    let mut none = 0;
    for kind in KINDS {
        let set = encode(kind, &questions);
        let logits: Vec<[Vec<f32>; 2]> = set
            .windows
            .iter()
            .enumerate()
            .map(|(window, of)| {
                let tokens = 0..of.offsets.len();
                [0, 1].map(|end| {
                    tokens
                        .clone()
                        .map(|token| logit(window, token, end, of.example))
                        .collect()
                })
            })
            .collect();
        for (may_have_none, expect) in [(false, "some"), (true, "none")] {
            let options = AnswerOptions {
                may_have_none,
                ..AnswerOptions::default()
            };
            for (example, question) in questions.iter().enumerate() {
                let expect = &cases[kind][expect][example];
                let found = set.answer(example, question, &options, |window| {
                    (&logits[window][0], &logits[window][1])
                });
                let text = found.answer.as_ref().map_or("", |answer| &answer.text);
                assert_eq!(json!(text), expect["answer"], "{kind} {example}");
                none += usize::from(found.answer.is_none());
                match (found.null_score_diff, expect["null"].as_f64()) {
                    (Some(found), Some(expect)) => {
                        assert!((f64::from(found) - expect).abs() < 1e-5)
                    }
                    (None, None) => {}
                    other => panic!("{kind} {example}: {other:?}"),
                }
                let best = list(&expect["best"]);
                assert_eq!(found.n_best.len(), best.len(), "{kind} {example}");
                for (found, expect) in found.n_best.iter().zip(best) {
                    assert_eq!(json!(found.text), expect[0], "{kind} {example}");
                    for (found, expect) in [
                        (found.start_logit, &expect[1]),
                        (found.end_logit, &expect[2]),
                    ] {
                        assert!((f64::from(found) - expect.as_f64().unwrap()).abs() < 1e-6);
                    }
                    let difference = f64::from(found.probability) - expect[3].as_f64().unwrap();
                    assert!(
                        difference.abs() < PROBABILITY,
                        "{kind} {example}: {difference}"
                    );
                    let stands = slice(&question.context, found.start..found.end);
                    assert_eq!(found.text, stands);
                }
            }
        }
    }
    assert!(none > 10, "no question without an answer");
}

#[test]
fn a_question_without_room_for_its_context_is_told() {
    let questions = read(&cases());
    let encoder = TextEncoder::from_dir(&golden().join("bert"), Some(20)).unwrap();
    let options = QuestionOptions {
        overlap: 10,
        ..QuestionOptions::default()
    };
    let error = encoder
        .encode_questions(&questions, options)
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("tokens: with max_length = 20 there is no room for more of the context than the 10 tokens that windows share\nhint: set max_length to "),
        "{error}"
    );
    // The length that the hint names is enough, and one less is not.
    let least: usize = error
        .split("set max_length to ")
        .nth(1)
        .unwrap()
        .split(' ')
        .next()
        .unwrap()
        .parse()
        .unwrap();
    let line = error.split(':').nth(1).unwrap().parse::<usize>().unwrap();
    for (length, is_enough) in [(least - 1, false), (least, true)] {
        let encoder = TextEncoder::from_dir(&golden().join("bert"), Some(length)).unwrap();
        let made = encoder.encode_questions(&questions[line - 1..line], options);
        assert_eq!(made.is_ok(), is_enough, "{length}");
    }
    let skipped = encoder
        .encode_questions(
            &questions,
            QuestionOptions {
                on_bad_example: OnBad::Skip,
                ..options
            },
        )
        .unwrap();
    assert!(!skipped.skipped.is_empty() && skipped.examples() == questions.len());
    let without = (0..skipped.examples())
        .filter(|&at| skipped.windows_of(at).is_empty())
        .count();
    assert_eq!(without, skipped.skipped.len());
    // Where nothing was read there is nothing to answer with.
    let at = (0..20)
        .find(|&at| skipped.windows_of(at).is_empty())
        .unwrap();
    let found = skipped.answer(at, &questions[at], &AnswerOptions::default(), |_| {
        (&[], &[])
    });
    assert_eq!((found.answer, found.n_best.len()), (None, 0));
}
