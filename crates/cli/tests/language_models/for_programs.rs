//! What a language model's run leaves for other programs: predictions with answers, and a card whose program runs.

use super::{TUNE, dir, results};
use crate::support::{card_header, python, run_card};
use serde_json::{Map, Value};
use std::fs;

#[test]
fn lines_of_predictions_hold_the_answers_that_were_asked_for() {
    let dir = dir();
    dir.ok(&format!("{TUNE} --epochs 2 -o run"));
    dir.ok("evaluate run chats.jsonl --set eval.answers=5 --predictions predictions.jsonl");
    let text = fs::read_to_string(dir.path("predictions.jsonl")).unwrap();
    let lines: Vec<Map<String, Value>> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(lines.len(), 48);
    for (row, line) in lines.iter().enumerate() {
        assert_eq!(line["line"], row + 1);
        assert!(line["loss"].as_f64().unwrap() > 0.0);
        assert!(line["tokens_right"].as_u64() <= line["tokens"].as_u64());
    }
    let answered: Vec<_> = lines
        .iter()
        .filter(|line| line.contains_key("answer"))
        .collect();
    assert_eq!(answered.len(), 5);
    for line in answered {
        let reference = line["reference"].as_str().unwrap();
        assert!(
            line["text"].as_str().unwrap().ends_with(reference),
            "{line:?}"
        );
        assert_eq!(
            line["correct"],
            Value::from(line["answer"] == line["reference"])
        );
        assert!(line["prompt"].as_str().unwrap().contains("turn "));
    }
    let figures = results(&dir, "run");
    assert!(figures["answers"]["rouge_l"].is_number(), "{figures}");
    assert!(figures["base"]["rouge_l"].is_number());
}

#[test]
#[ignore = "needs Python with libraries: REKINDLE_TEST_PYTHON=path/to/python cargo xtask test"]
fn cards_of_language_models_run_as_they_stand() {
    let Some(python) = python() else { return };
    let dir = dir();
    for (method, more, library) in [
        ("lora", "", "peft"),
        ("full", "", "transformers"),
        (
            "lora-tokens",
            "--set model.add_tokens=[\"<|call|>\"]",
            "peft",
        ),
    ] {
        let of = method.split('-').next().unwrap();
        dir.ok(&format!(
            "{TUNE} {more} --epochs 1 -o {method} --method {of}"
        ));
        let header = card_header(&python, &dir, method);
        assert_eq!(header["library_name"], library);
        assert_eq!(header["pipeline_tag"], "text-generation");
        let perplexity = results(&dir, method)["figures"]["perplexity"].clone();
        let found = header["results"].as_array().unwrap();
        assert!(
            found
                .iter()
                .any(|found| found["type"] == "perplexity" && found["value"] == perplexity),
            "{header:?}"
        );
        run_card(&python, &dir, method);
    }
}
