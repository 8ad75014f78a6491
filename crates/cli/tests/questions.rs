//! Question answering from the command line, on the tiny BERT: files of every shape, answers, what a run leaves, mistakes.
#![allow(clippy::unwrap_used)]

mod support;

use serde_json::{Value, json};
use std::fs;
use support::Dir;

/// Texts with two questions each: the second has no answer in every other text.
const TEXTS: [(&str, &str, Option<&str>); 6] = [
    ("refund the card please", "card", Some("refund")),
    ("the money came back on monday", "money", None),
    ("thanks for the card", "card", Some("thanks")),
    ("no help on friday, no money", "money", None),
    ("I lost it", "it", Some("lost")),
    ("monday or friday, please", "friday", None),
];

/// As SQuAD 2.0 has it, eight times over.
fn squad() -> String {
    let paragraph = |(text, thing, deed): &(&str, &str, Option<&str>)| {
        let place = |answer: &str| json!([{ "text": answer, "answer_start": text.find(answer) }]);
        let deed = deed.map_or(json!([]), place);
        json!({ "context": text, "qas": [
            { "id": "a", "question": "which thing?", "answers": place(thing) },
            { "id": "b", "question": "what was done?", "is_impossible": deed == json!([]), "answers": deed },
        ] })
    };
    let all: Vec<Value> = (0..8).flat_map(|_| TEXTS.iter().map(paragraph)).collect();
    json!({ "version": "v2.0", "data": [{ "title": "x", "paragraphs": all }] }).to_string()
}

/// As rows, each question with its text; those without an answer are left out.
fn csv() -> String {
    let mut out = "question,context,answer\n".to_owned();
    for (text, thing, _) in TEXTS.repeat(8) {
        out += &format!("which thing?,\"{text}\",{thing}\n");
    }
    out
}

fn rows(lines: &str) -> Vec<Value> {
    lines
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

#[test]
fn from_a_file_to_answers() {
    let dir = Dir::new();
    dir.write("asked.json", squad());
    dir.write("asked.csv", csv());
    let long = "the card came back on monday, thanks, ".repeat(30);
    dir.write("manual.txt", &long);
    for (data, method, weights, n) in [
        ("asked.json", "lora", "adapter_model.safetensors", 96),
        ("asked.csv", "full", "model.safetensors", 48),
        ("asked.json", "head", "model.safetensors", 96),
    ] {
        let run = format!("{}-{method}", data.replace('.', "-"));
        let said = dir.output(&format!(
            "finetune {data} --model model --epochs 2 -o {run} --method {method} --set data.max_length=24"
        ));
        assert!(said.contains("learning question-answering"), "{said}");
        assert!(
            said.contains("answer F1") && said.contains("exact match"),
            "{said}"
        );
        let end = dir.path(&run).join("final");
        assert!(end.join(weights).is_file(), "{run}");
        // A threshold is kept where some questions have no answer.
        let kept = fs::read_to_string(end.join("rekindle.json")).unwrap();
        let kept: Value = serde_json::from_str(&kept).unwrap();
        let thresholds = kept["thresholds"].as_array().map_or(0, Vec::len);
        assert_eq!(thresholds, usize::from(data == "asked.json"), "{kept}");

        // A text of many windows, named or in a file.
        for context in ["manual.txt", "thanks for it"] {
            let output = dir
                .command(env!("CARGO_BIN_EXE_rekindle"))
                .args([
                    "predict",
                    &run,
                    "which thing?",
                    "when?",
                    "--context",
                    context,
                ])
                .output()
                .unwrap();
            assert!(output.status.success(), "{}", dir.plain(&output.stderr));
            let answers = rows(&String::from_utf8(output.stdout).unwrap());
            assert_eq!(answers.len(), 2);
            let text = if context == "manual.txt" {
                long.as_str()
            } else {
                context
            };
            let text: Vec<char> = text.chars().collect();
            for answer in &answers {
                assert!(answer["question"].is_string() && answer.get("context").is_none());
                let probability = answer["probability"].as_f64().unwrap();
                assert!((0.0..=1.0).contains(&probability), "{answer}");
                let others = answer["others"].as_array().unwrap().iter();
                for told in others
                    .chain([answer])
                    .filter(|told| told["answer"].is_string())
                {
                    let place = |key: &str| told[key].as_u64().unwrap() as usize;
                    let stands: String = text[place("start")..place("end")].iter().collect();
                    assert_eq!(told["answer"], stands);
                }
            }
        }
        // Without a text there is nothing to ask about.
        let said = dir.refused(&format!("predict {run} why"));
        assert!(said.contains("no text to find the answer in"), "{said}");
        let said = dir.refused(&format!("predict {run} why --context manaul.txt"));
        assert!(said.contains("manaul.txt: no such file"), "{said}");

        // A file of the other kind is evaluated too, and every question has its line.
        for (other, count) in [("asked.json", 96), ("asked.csv", 48)] {
            let report = dir.ok(&format!(
                "evaluate {run} {other} --json --predictions each.jsonl"
            ));
            let report: Value = serde_json::from_str(&report).unwrap();
            assert_eq!(report["n"], count, "{other}");
            let share = |key: &str| report[key].as_f64().unwrap();
            assert!(share("answer_f1") >= share("exact_match"), "{report}");
            let each = rows(&fs::read_to_string(dir.path("each.jsonl")).unwrap());
            assert_eq!(each.len(), count);
            assert_eq!(each[0]["answers"][0], "card", "{}", each[0]);
            dir.remove("each.jsonl");
            let asked = rows(&dir.ok(&format!("predict {run} --file {other}")));
            assert_eq!(asked.len(), count, "{other}");
            assert!(asked[0]["context"].is_string());
            let id = if other == "asked.json" {
                json!("a")
            } else {
                Value::Null
            };
            assert_eq!(asked[0].get("id").unwrap_or(&Value::Null), &id);
        }
        let report = fs::read_to_string(dir.path(&run).join("report.html")).unwrap();
        assert!(report.contains("exact match"), "no section");
        let results = fs::read_to_string(dir.path(&run).join("results.json")).unwrap();
        let results: Value = serde_json::from_str(&results).unwrap();
        assert_eq!(results["headline"], "answer_f1");
        assert_eq!(results["task"], "question-answering");
        assert!(results["final"]["n"].as_u64().unwrap_or(0) < n, "{results}");
    }
    // A file of questions alone is asked about --context; a row's own text comes before it.
    dir.write("alone.csv", "question\nwhich thing?\nwhen?\n");
    dir.write(
        "mixed.jsonl",
        "{\"question\": \"which thing?\", \"context\": \"the card\"}\n{\"question\": \"when?\"}\n",
    );
    let ask = "predict asked-csv-full --context manual.txt --file";
    assert_eq!(rows(&dir.ok(&format!("{ask} alone.csv"))).len(), 2);
    let mixed = dir.output(&format!("{ask} mixed.jsonl --output mixed.out"));
    assert!(
        mixed.contains("1 of 2 rows have a text of their own"),
        "{mixed}"
    );
    let mixed = rows(&fs::read_to_string(dir.path("mixed.out")).unwrap());
    assert_eq!(mixed[0]["context"], "the card");
    assert!(mixed[1].get("context").is_none() && mixed[1]["answer"].is_string());
    // A table that comes in is read as one that lies there.
    let piped = dir
        .command("sh")
        .args([
            "-c",
            "\"$0\" predict asked-csv-full --set data.format=csv < asked.csv",
            env!("CARGO_BIN_EXE_rekindle"),
        ])
        .output()
        .unwrap();
    let piped = rows(&String::from_utf8(piped.stdout).unwrap());
    assert!(piped.len() == 48 && piped.iter().all(|row| row["answer"].is_string()));
    // What the answers of a file are is of no interest where they are asked for.
    dir.write("wrong.csv", csv().replace(",card\n", ",nowhere\n"));
    assert_eq!(
        rows(&dir.ok("predict asked-csv-full --file wrong.csv")).len(),
        48
    );
    let said = dir.refused("embed asked-json-lora card");
    assert!(said.contains("was tuned for question-answering"), "{said}");
    let said = dir.refused("predict asked-csv-full --file alone.csv");
    assert!(said.contains("--context gives one"), "{said}");
    // What is no text is not taken for one.
    dir.write(
        "wide.txt",
        [
            &b"\xff\xfe"[..],
            &"the card"
                .encode_utf16()
                .flat_map(u16::to_le_bytes)
                .collect::<Vec<_>>(),
        ]
        .concat(),
    );
    let wide = rows(&dir.ok("predict asked-csv-full which? --context wide.txt"));
    assert!(wide[0]["end"].as_u64().unwrap() <= 8, "{wide:?}");
    let said = dir.refused("predict asked-csv-full which? --context model");
    assert!(said.contains("model: a folder"), "{said}");

    dir.ok("merge asked-json-lora --to merged");
    let config = fs::read_to_string(dir.path("merged/config.json")).unwrap();
    assert!(config.contains("BertForQuestionAnswering"), "{config}");
    let [before, after] = ["asked-json-lora", "merged"]
        .map(|model| dir.ok(&format!("predict {model} --file asked.json --brief")));
    let answers = |told: &str| -> Vec<String> {
        told.lines()
            .map(|line| line.split('\t').next().unwrap().to_owned())
            .collect()
    };
    assert_eq!(answers(&before), answers(&after));
}

/// A run that lost what came after its first checkpoint ends with the bytes of one that never stopped.
#[test]
fn a_resumed_run_has_the_same_bytes() {
    let dir = Dir::new();
    dir.write("asked.json", squad());
    let tune = "finetune asked.json --model model --epochs 2 --set checkpoint.every_steps=2 \
                --set train.batch_size=8 --set checkpoint.keep=40 --set data.max_length=24";
    dir.resumes_to_the_same_bytes(tune);
}

#[test]
fn a_run_file_is_written_for_questions() {
    let dir = Dir::new();
    dir.write("asked.json", squad());
    dir.ok("init asked.json --output asked.toml");
    let text = fs::read_to_string(dir.path("asked.toml")).unwrap();
    assert!(text.contains("task = \"question-answering\""), "{text}");
    assert!(
        text.contains("96 questions, 6 texts, 24 without an answer"),
        "{text}"
    );
    let plan = dir.output("finetune --config asked.toml --model model --dry-run");
    assert!(plan.contains("2: start, end"), "{plan}");
    let looked = dir.ok("look --config asked.toml --model model");
    assert!(looked.contains("96 questions"), "{looked}");
    // Questions about one text stay in one part: a text that was learned from says nothing of new ones.
    assert!(!looked.contains("stands in training and in"), "{looked}");
}

#[test]
fn mistakes_name_place_and_remedy() {
    let dir = Dir::new();
    dir.write("asked.csv", csv());
    dir.write(
        "absent.csv",
        "question,context,answer\nwho?,the card,money\n",
    );
    dir.write(
        "twice.csv",
        "question,context,answer\nwho?,the card or the card,card\n",
    );
    dir.write(
        "start.jsonl",
        "{\"question\": \"who?\", \"context\": \"the card\", \"answers\": {\"text\": [\"card\"], \"answer_start\": [3]}}\n",
    );
    // What a file is of shows though each of its rows has a mistake, and though it has no answers.
    dir.write("alone.csv", csv().replace(",answer", ",when"));
    for (data, expected) in [
        ("absent.csv", "does not stand in the context"),
        ("alone.csv", "the row has no answers"),
    ] {
        let said = dir.refused(&format!("finetune {data} --model model -o run"));
        assert!(said.contains(expected), "{said}");
    }
    let said = dir.refused("predict model why --output answers.csv");
    assert!(said.contains("ends in .jsonl"), "{said}");
    let tune = "finetune --task question-answering --model model -o run --train";
    for (data, expected) in [
        (
            "absent.csv",
            "absent.csv:2: the answer `money` in `answer` does not stand in the context",
        ),
        (
            "twice.csv",
            "twice.csv:2: the answer `card` in `answer` stands 2 times in the context",
        ),
        ("start.jsonl", "it stands at character 4"),
    ] {
        let said = dir.refused(&format!("{tune} {data}"));
        assert!(said.contains(expected) && said.contains("hint: "), "{said}");
    }
    let said = dir.refused(&format!("{tune} asked.csv --set model.pooling=mean"));
    assert!(said.contains("pooling"), "{said}");
    let said = dir.refused(&format!(
        "{tune} asked.csv --set data.max_length=8 --set data.overlap=7"
    ));
    assert!(said.contains("shares 7 tokens"), "{said}");
    // A context is for who takes two texts.
    dir.ok("finetune train.csv --model model --epochs 1 -o single");
    let said = dir.refused("predict single the-card --context x");
    assert!(said.contains("--context is for models"), "{said}");
}
