//! Run files for conversations and preferences, and what a model sees of them.

use super::dir;
use serde_json::json;
use std::fs;

const TURNS: &str =
    r#"[{"role": "user", "content": "lamp on"}, {"role": "assistant", "content": "ok"}]"#;

#[test]
fn init_writes_run_files_for_language_models() {
    let dir = dir();
    let rows = |row: &str| format!("{row}\n").repeat(3);
    for (name, rows, task, words) in [
        (
            "a.jsonl",
            rows(&format!("{{\"messages\": {TURNS}}}")),
            "text-generation",
            "3 conversations",
        ),
        (
            "b.jsonl",
            rows(r#"{"prompt": "lamp", "completion": "on"}"#),
            "text-generation",
            "3 prompts with their completions",
        ),
        (
            "c.jsonl",
            rows(r#"{"instruction": "lamp", "input": "", "output": "on"}"#),
            "text-generation",
            "3 prompts with their completions",
        ),
        (
            "d.jsonl",
            rows(r#"{"text": "the lamp is on"}"#) + "{\"text\": \"\"}\n",
            "text-generation",
            "3 texts to continue",
        ),
        (
            "e.jsonl",
            rows(r#"{"prompt": "lamp", "chosen": "on", "rejected": "off"}"#),
            "text-preference",
            "3 pairs of answers",
        ),
        (
            "f.jsonl",
            rows(r#"{"prompt": "lamp", "completion": "on", "label": true}"#),
            "text-preference",
            "3 answers that were judged",
        ),
        (
            "g.csv",
            "prompt,completion\nlamp,on\ndoor,shut\nbed,red\n".to_owned(),
            "text-generation",
            "3 prompts with their completions",
        ),
        (
            "notes.md",
            "The lamp is on.\n".to_owned(),
            "text-generation",
            "1 text to continue",
        ),
    ] {
        dir.write(name, rows);
        let file = dir.ok(&format!("init {name} -o -"));
        assert!(file.contains(words), "{name}: {file}");
        assert!(
            file.contains(&format!("\ntask = \"{task}\"\n")),
            "{name}: {file}"
        );
        assert!(
            file.contains(&format!("\ntrain = \"{name}\"\n")),
            "{name}: {file}"
        );
        let kto = file.contains("\nloss = \"kto\"\n");
        assert_eq!(kto, name == "f.jsonl", "{file}");
        assert_eq!(
            file.contains("1 row cannot be used"),
            name == "d.jsonl",
            "{file}"
        );
    }
    // What is written can be run.
    dir.ok("init chats.jsonl -o chats.toml --set model.name=llm --set train.epochs=0.5");
    let file = fs::read_to_string(dir.path("chats.toml")).unwrap();
    assert!(file.contains("\nname = \"llm\"\n"), "{file}");
    let said = dir.output("finetune --config chats.toml --dry-run");
    assert!(said.contains("tokens each"), "{said}");
    // Rows with labels are no texts to continue.
    let file = dir.ok("init train.csv -o -");
    assert!(!file.contains("text-generation"), "{file}");
}

#[test]
fn look_shows_preferences_and_runs() {
    let dir = dir();
    let pair = json!({"prompt": "turn on the lamp", "chosen": "yes ok", "rejected": "no"});
    dir.write("pairs.jsonl", format!("{pair}\n").repeat(2));
    let said = dir.ok("look --model llm --data pairs.jsonl --rows 1");
    for part in [
        "pairs.jsonl:1 chosen  (",
        "3 compared",
        "[yes][ok][<|im_end|>]",
        "pairs.jsonl:1 rejected  (",
        "[no][<|im_end|>]",
        "2 rows with 4 answers",
    ] {
        assert!(said.contains(part), "{part}\n{said}");
    }
    assert!(!said.contains("pairs.jsonl:2"), "{said}");
    let judged = json!({"prompt": "lamp", "completion": "ok", "label": false});
    dir.write("judged.jsonl", format!("{judged}\n"));
    let said = dir.ok("look --model llm --data judged.jsonl");
    assert!(said.contains("judged.jsonl:1 not wanted  ("), "{said}");

    dir.ok(&format!(
        "{} --epochs 1 -o run --set eval.answers=0 --set eval.samples=0",
        super::TUNE
    ));
    let said = dir.ok("look --config run --rows 1");
    assert!(said.contains("chats.jsonl:1  ("), "{said}");
    let said = dir.refused("look --model run --data chats.jsonl");
    assert!(said.contains("rekindle look --config run"), "{said}");
}

/// The text of a verb's arguments is its help, whole.
#[test]
fn help_says_all_that_a_verb_does() {
    let dir = dir();
    for (verb, short, long) in [
        (
            "generate",
            "Answer prompts with a language model",
            "Prints a JSON object a line",
        ),
        (
            "predict",
            "Label texts or pictures",
            "elsewhere a JSON object a line",
        ),
        ("chat", "Talk with a language model", "A line is a turn"),
        ("look", "Show the first examples", "in [brackets] elsewhere"),
        ("evaluate", "Score a tuned model", "also answers prompts"),
        ("merge", "Merge an adapter", "largest difference"),
    ] {
        let line = |text: String| text.split_whitespace().collect::<Vec<_>>().join(" ");
        let help = line(dir.ok(&format!("{verb} --help")));
        assert!(
            help.contains(short) && help.contains(long),
            "{verb}: {help}"
        );
        let all = line(dir.ok("--help"));
        assert!(all.contains(short) && !all.contains(long), "{verb}: {all}");
    }
}
