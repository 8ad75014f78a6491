//! Answers that have to be JSON, or of another form.

use super::support::Dir;
use serde_json::{Value, json};

/// Tokens behind the three special ones, each a character; `Ġ` is a space and `Ċ` a new line.
const CHARACTERS: &str = "{}[]\":,-.0123456789aeflnrstuo\\ĠĊ";

/// A directory with the model `json`: a tiny Llama of random weights whose tokens are what JSON is made of.
fn dir() -> Dir {
    let dir = super::dir();
    let mut tokenizer = super::letters();
    let special = ["<unk>", "<|im_start|>", "<|im_end|>"].map(String::from);
    let tokens = special
        .into_iter()
        .chain(CHARACTERS.chars().map(String::from));
    let vocabulary: serde_json::Map<String, Value> = tokens
        .chain(["true".into(), "null".into()])
        .enumerate()
        .map(|(id, token)| (token, id.into()))
        .collect();
    assert_eq!(vocabulary.len(), 37);
    tokenizer["model"]["vocab"] = Value::Object(vocabulary);
    dir.write("json/tokenizer.json", tokenizer.to_string());
    for file in ["config.json", "model.safetensors", "tokenizer_config.json"] {
        dir.write(
            &format!("json/{file}"),
            std::fs::read(dir.path("llm").join(file)).unwrap(),
        );
    }
    dir.json("json/config.json", |config| {
        drop(config.insert("max_position_embeddings".into(), 500.into()))
    });
    let schema = json!({"type": "object", "properties": {"on": {"type": "boolean"}, "at": {"type": "integer", "minimum": 0, "maximum": 59}},
        "required": ["on", "at"], "additionalProperties": false});
    dir.write("schema.json", schema.to_string());
    dir
}

#[test]
fn answers_are_of_the_form_asked_for() {
    let dir = dir();
    let ask = "generate json aeb tor sun --temperature 1 --seed";
    for seed in 0..3 {
        let said = dir.ok(&format!("{ask} {seed} --json-schema schema.json"));
        assert_eq!(said.lines().count(), 3);
        for line in said.lines() {
            let line: Value = serde_json::from_str(line).unwrap();
            assert!(line.get("finished").is_none(), "{line}");
            let answer: Value = serde_json::from_str(line["answer"].as_str().unwrap()).unwrap();
            assert!(
                answer["on"].is_boolean() && answer["at"].as_u64().unwrap() < 60,
                "{answer}"
            );
        }
        assert_eq!(
            said,
            dir.ok(&format!(
                "{ask} {seed} --json-schema schema.json --batch-size 1"
            ))
        );
        let said = dir.ok(&format!("{ask} {seed} --brief --regex (no|yes)\\x20[0-5]"));
        for line in said.lines() {
            let (word, digit) = line.split_once(' ').unwrap_or_else(|| panic!("{line}"));
            assert!(["no"].contains(&word) && "012345".contains(digit), "{line}");
        }
        dir.write("sum.lark", "start: n (\"-\" n)+\nn: /[0-9]/\n");
        let said = dir.ok(&format!("{ask} {seed} --brief --grammar sum.lark"));
        for line in said.lines() {
            let mut parts = line.split('-');
            assert!(
                parts.clone().count() > 1 && parts.all(|part| part.len() == 1),
                "{line}"
            );
        }
    }
    // What is cut is said to be, in the line and behind all.
    let said = dir.output(&format!("{ask} 1 --json --max-new-tokens 1"));
    assert_eq!(
        said.matches("\"answer\":\"{\",\"finished\":false").count(),
        3,
        "{said}"
    );
    assert!(said.contains("3 answers were cut before the end"), "{said}");
    let said = dir.output(&format!("{ask} 1 --max-new-tokens 1"));
    assert!(!said.contains("were cut"), "{said}");
}

#[test]
fn a_chat_answers_in_json() {
    use std::{io::Write, process::Stdio};
    let dir = dir();
    let mut child = dir
        .command(env!("CARGO_BIN_EXE_rekindle"))
        .args("chat json --json-schema schema.json --temperature 1".split(' '))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(b"aeb\nsun\n\ntor\n")
        .unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    let said = String::from_utf8(output.stdout).unwrap();
    let mut answers = serde_json::Deserializer::from_str(&said).into_iter::<Value>();
    assert!(
        answers
            .by_ref()
            .take(3)
            .all(|answer| answer.unwrap()["on"].is_boolean()),
        "{said}"
    );
    assert!(answers.next().is_none(), "{said}");
}

#[test]
fn forms_that_cannot_be_followed_are_refused() {
    let dir = dir();
    dir.write(
        "if.json",
        r#"{"properties": {"a": {"if": {"type": "string"}}}}"#,
    );
    dir.write(
        "none.json",
        r#"{"type": "integer", "minimum": 2, "maximum": 1}"#,
    );
    dir.write("cut.json", "{\"type\": \"object\"");
    dir.write(
        "lenient.json",
        r#"{"type": "string", "maxLength": 3, "format": "moon", "x-guidance": {"lenient": true}}"#,
    );
    for (arguments, part) in [
        (
            "json a --json-schema skema.json",
            "no such file: skema.json\nhint: did you mean `schema.json`?",
        ),
        (
            "json a --json-schema cut.json",
            "cut.json: not valid JSON: EOF",
        ),
        (
            "json a --json-schema if.json",
            "if.json at /properties/a/if: Unimplemented keys: [\"if\"]",
        ),
        (
            "json a --json-schema none.json",
            "none.json: Unsatisfiable schema: minimum (2) is greater than maximum (1)",
        ),
        ("json a --regex a(b", "the regular expression: "),
        ("json a --grammar chats.jsonl", "chats.jsonl: "),
        // Words instead of bytes, and no language model at all.
        ("llm a --json", "cannot be held to JSON"),
        ("model a --json", "not to write"),
    ] {
        let said = dir.refused(&format!("generate {arguments}"));
        assert!(said.contains(part), "{arguments}: {said}");
    }
    let said = dir.output("generate json a --json-schema lenient.json");
    assert!(
        said.contains("not followed: Unknown format: moon"),
        "{said}"
    );
    for both in [
        "--json --regex a",
        "--json --stop a",
        "--json-schema schema.json --grammar schema.json",
    ] {
        let output = dir.rekindle(&format!("generate json a {both}"));
        assert_eq!(output.status.code(), Some(1), "{both}");
        let said = dir.plain(&output.stderr);
        assert!(said.contains("cannot be used with"), "{both}: {said}");
    }
}
