//! Embeddings from the command line, on the tiny BERT: vectors in every form, what a run learns of pairs, mistakes.
#![allow(clippy::unwrap_used)]

mod support;

use serde_json::{Value, json};
use std::fs;
use std::io::Write;
use std::process::Stdio;
use support::Dir;

/// Numbers of an embedding of the tiny BERT.
const WIDTH: usize = 32;

fn lines(text: &str) -> Vec<Value> {
    let lines = text.lines();
    lines
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

fn vector(line: &Value) -> Vec<f32> {
    let numbers = line["embedding"].as_array().unwrap().iter();
    numbers
        .map(|number| number.as_f64().unwrap() as f32)
        .collect()
}

/// Pairs of a question and its answer, as JSON lines.
fn pairs() -> String {
    const ANSWERS: [&str; 3] = [
        "money back please",
        "change the account password",
        "I lost the card",
    ];
    let row = |i: usize| {
        json!({"anchor": format!("please help {} it {i}", ANSWERS[i % 3]), "positive": ANSWERS[i % 3]}).to_string()
    };
    (0..24).map(row).collect::<Vec<_>>().join("\n")
}

#[test]
fn vectors_as_lines_and_as_arrays() {
    let dir = Dir::new();
    dir.write("texts.txt", "lost card\n\nmoney back\n");
    let named = lines(&dir.ok("embed model card money"));
    assert_eq!(named.len(), 2);
    assert_eq!(
        (&named[0]["text"], vector(&named[0]).len()),
        (&json!("card"), WIDTH)
    );
    // The same from standard input and as one value.
    let mut child = dir
        .command(env!("CARGO_BIN_EXE_rekindle"))
        .args(["embed", "model"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(b"card\nmoney\n")
        .unwrap();
    let output = child.wait_with_output().unwrap();
    let piped = lines(&dir.plain(&output.stdout));
    assert_eq!(piped[1]["line"], 2);
    assert_eq!(vector(&piped[1]), vector(&named[1]));
    let one: Value = serde_json::from_str(&dir.ok("embed model card money --json")).unwrap();
    assert_eq!(vector(&one[1]), vector(&named[1]));

    // What cannot be embedded is named, and has its place all the same.
    let said = dir.refused("embed model --file texts.txt --output all.jsonl");
    assert!(
        said.contains("1 of 3 not embedded") && said.contains("texts.txt:2"),
        "{said}"
    );
    let written = lines(&fs::read_to_string(dir.path("all.jsonl")).unwrap());
    assert!(written.len() == 3 && written[1]["error"].is_string());
    let skip = "embed model --file texts.txt --set data.on_bad_example=skip --output";
    dir.ok(&format!("{skip} all.npy"));
    let array = fs::read(dir.path("all.npy")).unwrap();
    assert_eq!(array.len(), 128 + 4 * 3 * WIDTH);
    let number = |at: usize| f32::from_le_bytes(array[128 + 4 * at..][..4].try_into().unwrap());
    assert_eq!(number(2 * WIDTH), vector(&written[2])[0]);
    assert!(number(WIDTH).is_nan());
    dir.ok(&format!("{skip} all.safetensors"));
    // A result is replaced, and nothing else.
    dir.ok(&format!("{skip} all.safetensors"));
    dir.ok(&format!("{skip} all.npy"));
    dir.write("other.npy", "notes");
    let said = dir.refused(&format!("{skip} other.npy"));
    assert!(said.contains("holds something else"), "{said}");
}

#[test]
fn a_run_on_pairs_is_embedded_with_evaluated_and_merged() {
    let dir = Dir::new();
    dir.write("pairs.jsonl", pairs());
    let written = dir.ok("init pairs.jsonl --output run.toml");
    let settings = fs::read_to_string(dir.path("run.toml")).unwrap();
    assert!(
        settings.contains("task = \"text-embedding\""),
        "{written}{settings}"
    );
    let looked = dir.ok("look --config run.toml --model model");
    assert!(
        looked.contains("24 rows") && looked.contains("different texts"),
        "{looked}"
    );
    // Questions and answers that all differ are no texts with labels.
    let faq = (0..12).map(|row| format!("card {row}?,money {row}\n"));
    dir.write(
        "faq.csv",
        format!("Question,Answer\n{}", faq.collect::<String>()),
    );
    let guessed = dir.output("finetune faq.csv --model model --dry-run");
    assert!(guessed.contains("learning text-embedding"), "{guessed}");
    let tune = "finetune pairs.jsonl --model model --batch-size 8 -o run";
    let plan = dir.output(&format!("{tune} --dry-run"));
    assert!(
        plan.contains("text-embedding") && plan.contains("different texts"),
        "{plan}"
    );
    let said = dir.output(tune);
    assert!(
        said.contains("nDCG@10") && said.contains("rekindle embed run"),
        "{said}"
    );
    let found = lines(&dir.ok("embed run card"));
    assert_eq!(vector(&found[0]).len(), WIDTH);
    let scored = dir.ok("evaluate run pairs.jsonl --predictions each.jsonl");
    assert!(scored.contains("MRR@10"), "{scored}");
    let each = lines(&fs::read_to_string(dir.path("each.jsonl")).unwrap());
    assert!(each.len() == 24 && each[0]["similarity"].is_number());
    dir.ok("merge run --to whole");
    let merged = vector(&lines(&dir.ok("embed whole card"))[0]);
    let apart = merged
        .iter()
        .zip(vector(&found[0]))
        .map(|(a, b)| (a - b).abs());
    assert!(apart.fold(0.0, f32::max) < 1e-4);
    let said = dir.refused("predict run card");
    assert!(said.contains("rekindle embed"), "{said}");
}

#[test]
fn mistakes_are_told_with_the_remedy() {
    let dir = Dir::new();
    dir.write("pairs.jsonl", pairs());
    dir.write(
        "nli.csv",
        "premise,hypothesis,label\na card,some money,entailment\nthe card,a day,neutral\n",
    );
    let score = |row: usize, score: &str| format!("card {row},money {row},{score}\n");
    let scored = |of: &dyn Fn(usize) -> String| {
        let rows: String = (0..20).map(|row| score(row, &of(row))).collect();
        format!("sentence1,sentence2,score\n{rows}")
    };
    dir.write("alike.csv", scored(&|_| "0.5".into()));
    dir.write("scored.csv", scored(&|row| format!("0.{}", row % 10)));
    let labelled = |of: &dyn Fn(usize) -> usize| {
        let rows = (0..20).map(|row| format!("card number {row},l{}\n", of(row)));
        format!("text,label\n{}", rows.collect::<String>())
    };
    dir.write("one.csv", labelled(&|_| 0));
    dir.write("unique.csv", labelled(&|row| row));
    dir.write("twice.csv", "anchor,positive,positive\na,b,c\n");
    dir.ok("finetune pairs.jsonl --model model --epochs 1 -o run");
    let looked = dir.ok("look --task text-embedding --model model --data one.csv");
    assert!(looked.contains("have the same label"), "{looked}");
    for (command, expected) in [
        (
            "evaluate run one.csv",
            "every evaluation text has the same label",
        ),
        (
            "finetune alike.csv --task text-embedding --model model",
            "every training pair has the score 0.5",
        ),
        (
            "finetune scored.csv --task text-embedding --model model --set embedding.loss=mnrl",
            "scores from 0 to 0.9",
        ),
        (
            "finetune pairs.jsonl --model model --set embedding.loss=cosine",
            "has no scores",
        ),
        (
            "finetune one.csv --task text-embedding --model model",
            "have the same label",
        ),
        (
            "finetune pairs.jsonl --model model --batch-size 1",
            "no other text",
        ),
        (
            "finetune twice.csv --task text-embedding --model model",
            "2 columns are named `positive`",
        ),
        (
            "evaluate run unique.csv",
            "every evaluation text has a label of its own",
        ),
        ("embed run card --output v.csv", "ends in .jsonl"),
        (
            "finetune pairs.jsonl --model model --method head",
            "embeddings have no head",
        ),
        (
            "finetune pairs.jsonl --model model --set train.shards=2",
            "cuts batches",
        ),
        (
            "finetune nli.csv --task text-embedding --model model",
            "`entailment`",
        ),
        (
            "finetune train.csv --model model --method setfit --set train.class_weights=true",
            "says nothing",
        ),
        (
            "finetune train.csv --task text-regression --model model --method setfit",
            "is for classes of texts",
        ),
        (
            "finetune pairs.jsonl --model model --set embedding.matryoshka_dims=[64]",
            "have 32 numbers",
        ),
    ] {
        let said = dir.refused(command);
        assert!(said.contains(expected), "{command}\n{said}");
    }
}
