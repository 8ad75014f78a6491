//! Token classification from the command line, on the tiny BERT: files of every shape, answers, what a run leaves, mistakes.
#![allow(clippy::unwrap_used)]

mod support;

use serde_json::{Value, json};
use std::fs;
use support::Dir;

/// Texts of which the words between brackets are marked.
const TEXTS: [&str; 6] = [
    "refund the [card thing] please",
    "the [money thing] came back on [monday day]",
    "thanks for the [card thing]",
    "no help on [friday day], no [money thing]",
    "I lost it",
    "[monday day] or [friday day], please",
];

/// A text and its spans: start, end and label.
fn marked(text: &str) -> (String, Vec<(usize, usize, String)>) {
    let (mut plain, mut spans) = (String::new(), Vec::new());
    for part in text.split('[') {
        let Some((inside, after)) = part.split_once(']') else {
            plain += part;
            continue;
        };
        let (word, label) = inside.split_once(' ').unwrap();
        spans.push((plain.len(), plain.len() + word.len(), label.to_owned()));
        plain += word;
        plain += after;
    }
    (plain, spans)
}

/// The texts as JSON lines of spans, eight times over.
fn spans() -> String {
    let line = |text: &&str| {
        let (text, spans) = marked(text);
        json!({ "text": text, "spans": spans }).to_string() + "\n"
    };
    TEXTS.iter().map(line).collect::<String>().repeat(8)
}

/// The texts as columns of words and tags of BILOU.
fn columns() -> String {
    let mut out = String::new();
    for text in TEXTS {
        let (text, spans) = marked(&text.replace(',', " ,"));
        let mut at = 0;
        for word in text.split_whitespace() {
            at += text[at..].find(word).unwrap();
            let tag = spans.iter().find(|span| span.0 == at);
            let tag = tag.map_or("O".to_owned(), |span| format!("U-{}", span.2));
            out += &format!("{word} {tag}\n");
        }
        out += "\n";
    }
    out.repeat(8)
}

fn rows(lines: &str) -> Vec<Value> {
    lines
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

#[test]
fn from_a_file_to_spans() {
    let dir = Dir::new();
    dir.write("notes.jsonl", spans());
    dir.write("notes.conll", columns());
    // A text that fits the window, one that does not, one of nothing.
    let long = "the card came back on monday, thanks, ".repeat(30);
    for (data, method, weights) in [
        ("notes.jsonl", "lora", "adapter_model.safetensors"),
        ("notes.conll", "full", "model.safetensors"),
        ("notes.jsonl", "head", "model.safetensors"),
    ] {
        let run = format!("{}-{method}", data.replace('.', "-"));
        let said = dir.output(&format!(
            "finetune {data} --model model --epochs 2 -o {run} --method {method} --set data.max_length=24"
        ));
        assert!(said.contains("learning token-classification"), "{said}");
        assert!(said.contains("entity F1"), "{said}");
        assert!(
            dir.path(&run).join("final").join(weights).is_file(),
            "{run}"
        );

        dir.write("ask.txt", format!("the card\n{long}\n\n"));
        let output = dir.rekindle(&format!(
            "predict {run} --file ask.txt --set data.on_bad_example=skip"
        ));
        assert!(output.status.success());
        let answers = rows(&String::from_utf8(output.stdout).unwrap());
        assert_eq!(answers.len(), 3);
        assert!(answers[2]["error"].is_string());
        for answer in &answers[..2] {
            let text: Vec<char> = answer["text"].as_str().unwrap().chars().collect();
            for span in answer["spans"].as_array().unwrap() {
                let place = |key: &str| span[key].as_u64().unwrap() as usize;
                let stands: String = text[place("start")..place("end")].iter().collect();
                assert_eq!(span["text"], stands);
                assert!(["thing", "day"].contains(&span["label"].as_str().unwrap()));
                let score = span["score"].as_f64().unwrap();
                assert!((0.0..=1.0).contains(&score), "{span}");
            }
        }

        // A file of the other kind is evaluated too, and every text has its line.
        for other in ["notes.jsonl", "notes.conll"] {
            let report = dir.ok(&format!(
                "evaluate {run} {other} --json --predictions each.jsonl"
            ));
            let report: Value = serde_json::from_str(&report).unwrap();
            assert_eq!(report["n"], 48, "{other}");
            let labels = report["per_label"].as_array().unwrap();
            let names: Vec<&str> = labels.iter().map(|l| l["name"].as_str().unwrap()).collect();
            assert_eq!(names, ["day", "thing"], "{report}");
            let each = rows(&fs::read_to_string(dir.path("each.jsonl")).unwrap());
            assert_eq!(each.len(), 48);
            assert_eq!(each[1]["spans"][1]["label"], "day", "{}", each[1]);
            dir.remove("each.jsonl");
            let asked = dir.ok(&format!("predict {run} --file {other}"));
            assert_eq!(rows(&asked).len(), 48, "{other}");
        }
        let report = fs::read_to_string(dir.path(&run).join("report.html")).unwrap();
        assert!(
            report.contains(">Entities<") || report.contains("Entities</h2>"),
            "no section"
        );
        let results = fs::read_to_string(dir.path(&run).join("results.json")).unwrap();
        let results: Value = serde_json::from_str(&results).unwrap();
        assert_eq!(results["headline"], "entity_f1");
        assert_eq!(results["task"], "token-classification");
        let said = dir.ok(&format!("inspect {run}/final"));
        assert!(
            said.contains("token-classification") || method != "lora",
            "{said}"
        );
    }
    // Words with a space before each, and a whole model of an adapter.
    let kept = fs::read_to_string(dir.path("notes-conll-full/final/rekindle.json")).unwrap();
    assert!(kept.contains("\"by_words\": true"), "{kept}");
    dir.ok("merge notes-jsonl-lora --to merged");
    let config = fs::read_to_string(dir.path("merged/config.json")).unwrap();
    assert!(config.contains("BertForTokenClassification"), "{config}");
    let [before, after] = ["notes-jsonl-lora", "merged"]
        .map(|model| dir.ok(&format!("predict {model} --file notes.jsonl --brief")));
    let spans = |told: &str| -> Vec<String> {
        told.lines()
            .map(|line| line.split('\t').next().unwrap().to_owned())
            .collect()
    };
    assert_eq!(spans(&before), spans(&after));
}

/// A run that lost what came after its first checkpoint ends with the bytes of one that never stopped.
#[test]
fn a_resumed_run_has_the_same_bytes() {
    let dir = Dir::new();
    dir.write("notes.jsonl", spans());
    let tune = "finetune notes.jsonl --model model --epochs 2 --set checkpoint.every_steps=2 \
                --set train.batch_size=8 --set checkpoint.keep=20 --set data.max_length=16";
    dir.resumes_to_the_same_bytes(tune);
}

#[test]
fn a_run_file_is_written_for_marked_texts() {
    let dir = Dir::new();
    dir.write("notes.jsonl", spans());
    dir.write("notes.conll", columns());
    for (data, scheme) in [
        ("notes.jsonl", "spans of characters"),
        ("notes.conll", "BILOU"),
    ] {
        dir.ok(&format!("init {data} --output {data}.toml"));
        let text = fs::read_to_string(dir.path(&format!("{data}.toml"))).unwrap();
        assert!(text.contains("task = \"token-classification\""), "{text}");
        assert!(text.contains("48 texts, 64 labelled spans"), "{text}");
        assert!(
            text.contains(scheme) && text.contains("thing (32)"),
            "{text}"
        );
        let plan = dir.output(&format!(
            "finetune --config {data}.toml --model model --dry-run"
        ));
        assert!(plan.contains("B-day, B-thing, I-day, I-thing, O"), "{plan}");
        let looked = dir.ok(&format!("look --config {data}.toml --model model"));
        assert!(looked.contains("64 spans"), "{looked}");
    }
}

#[test]
fn mistakes_name_place_and_remedy() {
    let dir = Dir::new();
    dir.write(
        "overlap.jsonl",
        "{\"text\": \"the card\", \"spans\": [[0, 8, \"a\"], [4, 8, \"b\"]]}\n",
    );
    dir.write(
        "beyond.jsonl",
        "{\"text\": \"the card\", \"spans\": [[4, 99, \"a\"]]}\n",
    );
    dir.write("plain.conll", "the O\ncard B-thing\nlost thing\n");
    dir.write("known.jsonl", spans());
    dir.write(
        "unknown.jsonl",
        "{\"text\": \"the card\", \"spans\": [[4, 8, \"thin\"]]}\n",
    );
    let tune = "finetune --task token-classification --model model -o run --train";
    for (data, expected) in [
        (
            "overlap.jsonl",
            "overlap.jsonl:1: the spans 0 to 8 (`a`) and 4 to 8 (`b`) overlap",
        ),
        (
            "beyond.jsonl",
            "beyond.jsonl:1: the span 4 to 99 in `spans[0]` is not inside the text, which has 8 characters",
        ),
        (
            "plain.conll",
            "plain.conll:3: the tag `thing` in column 2 has no prefix, though the file's tags are BIO",
        ),
    ] {
        let said = dir.refused(&format!("{tune} {data}"));
        assert!(said.contains(expected) && said.contains("hint: "), "{said}");
    }
    let said = dir.refused(&format!("{tune} known.jsonl --test unknown.jsonl"));
    assert!(
        said.contains("unknown.jsonl:1: unknown label `thin`")
            && said.contains("did you mean `thing`?"),
        "{said}"
    );
    let said = dir.refused(&format!("{tune} known.jsonl --set model.pooling=mean"));
    assert!(said.contains("pooling"), "{said}");
    let said = dir.refused(&format!(
        "{tune} known.jsonl --set data.max_length=8 --set data.overlap=7"
    ));
    assert!(said.contains("shares 7 tokens"), "{said}");
}
