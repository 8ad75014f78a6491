//! What a second round of strangers ran into: other people's models and tables, and what a run says of itself.

use crate::{
    refused_with,
    support::{Dir, examples},
};
use serde_json::{Value, json};
use std::{fs, io::Write, process::Stdio};

/// Runs the program with standard input, which must succeed; all that it printed.
fn with_input(dir: &Dir, arguments: &str, input: &str) -> String {
    let mut child = dir
        .command(env!("CARGO_BIN_EXE_rekindle"))
        .args(arguments.split_whitespace())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(input.as_bytes())
        .unwrap();
    let output = child.wait_with_output().unwrap();
    let said = dir.plain(&output.stderr) + &dir.plain(&output.stdout);
    assert!(output.status.success(), "rekindle {arguments}\n{said}");
    said
}

/// A run of one pass, in `run`.
fn tuned() -> Dir {
    let dir = Dir::new();
    dir.ok("finetune train.csv --model model --epochs 1 -o run");
    dir
}

/// Fields of a line were labelled with their names and quotes.
#[cfg(unix)]
#[test]
fn standard_input_is_a_table_where_its_format_is_named() {
    let dir = tuned();
    let table = "id,text\n7,thanks very good card\n8,open an account\n";
    for arguments in [
        "predict run --set data.format=csv",
        "predict run - --set data.format=csv",
        "predict run --file - --set data.format=csv",
        "predict run --output - --set data.format=csv",
    ] {
        let said = with_input(&dir, arguments, table);
        assert!(
            said.contains("\"text\":\"thanks very good card\""),
            "{arguments}\n{said}"
        );
        assert!(!said.contains("id,text"), "{arguments}\n{said}");
    }
    let lines = "{\"text\": \"thanks\"}\n{\"text\": \"open\"}\n";
    let said = with_input(&dir, "predict run --set data.format=jsonl", lines);
    assert!(said.contains("\"text\":\"thanks\""), "{said}");
    let said = with_input(&dir, "predict run -", lines);
    assert!(
        said.contains("--set data.format=jsonl reads its fields"),
        "{said}"
    );
    assert!(!dir.path("-").exists());
    refused_with(
        &dir,
        "evaluate run train.csv --predictions -",
        &["name a file"],
    );
}

/// A pipe or a device was replaced by a file.
#[cfg(unix)]
#[test]
fn predictions_into_a_device_leave_it_there() {
    let dir = tuned();
    std::os::unix::fs::symlink("/dev/null", dir.path("null")).unwrap();
    dir.ok("evaluate run train.csv --predictions null");
    assert!(!dir.path("null").metadata().unwrap().is_file());
}

/// The first of them ended the run, and leaving out bad rows did not leave them out.
#[test]
fn labels_that_the_model_does_not_know_are_told_together_and_can_be_left_out() {
    let dir = Dir::new();
    let test = format!(
        "{}free gift,spam\ncall me,spam\nthe sun,weather\n",
        examples()
    );
    dir.write("test.csv", &test);
    let run = "finetune train.csv --test test.csv --model model --epochs 1 -o run";
    refused_with(
        &dir,
        run,
        &[
            "test.csv: 3 rows have labels that the model does not know: `spam` (2 rows), `weather` (1 row), the first in line 32",
            "--set data.on_bad_example=skip",
        ],
    );
    let said = dir.output(&format!("{run} --set data.on_bad_example=skip"));
    assert!(
        said.contains("left out 3 rows: labels that the model does not know"),
        "{said}"
    );
    assert!(said.contains("(30 examples)"), "{said}");
    let said = dir.output("evaluate run test.csv --set data.on_bad_example=skip");
    assert!(said.contains("(30 examples)"), "{said}");
    // One that is nearly right is told with the label that was meant.
    dir.write("slip.csv", "text,label\nthanks,priase\n");
    refused_with(&dir, "evaluate run slip.csv", &["did you mean `praise`?"]);
}

/// The hint named an option that `evaluate` does not have.
#[test]
fn an_evaluation_of_other_labels_says_what_the_model_answers_with() {
    let dir = Dir::new();
    let rows: String = (0..30)
        .map(|i| format!("good card {i},{}.{}\n", i % 5, i))
        .collect();
    dir.write("numbers.csv", format!("text,score\n{rows}"));
    dir.ok("finetune numbers.csv --model model --epochs 1 -o numbers");
    let said = dir.refused("evaluate numbers train.csv --label label");
    assert!(said.contains("this model answers with numbers"), "{said}");
    assert!(!said.contains("--task"), "{said}");
}

/// A setting that another one makes meaningless was taken without a word.
#[test]
fn settings_of_the_command_that_say_nothing_are_refused() {
    let dir = Dir::new();
    for (arguments, words) in [
        ("--method full --set peft.r=4", "`peft.r` says nothing here"),
        (
            "--method head --set peft.lora_alpha=99",
            "`peft.lora_alpha` says nothing here",
        ),
        (
            "--validation train.csv --set data.validation_fraction=0.5",
            "`data.validation_fraction` says nothing here",
        ),
    ] {
        let run = format!("finetune train.csv --model model --dry-run {arguments}");
        refused_with(&dir, &run, &[words]);
    }
    // A run file may hold settings for another method than the one that is tried now.
    dir.write(
        "rekindle.toml",
        "[model]\nname = \"model\"\n[data]\ntrain = \"train.csv\"\n[peft]\nr = 4\n",
    );
    dir.ok("finetune --method full --dry-run");
}

/// Columns that were found by their place alone were not named, and ratings became classes without a word.
#[test]
fn the_plan_names_columns_and_ratings() {
    let dir = Dir::new();
    dir.write("odd.csv", examples().replacen("text,label", "body,kind", 1));
    let said = dir.output("finetune odd.csv --model model --dry-run");
    assert!(said.contains("text `body`, label `kind`"), "{said}");
    let rows: String = (0..40)
        .map(|i| format!("good card {i},{}\n", i % 5 + 1))
        .collect();
    dir.write("ratings.csv", format!("text,label\n{rows}"));
    let said = dir.output("finetune ratings.csv --model model --dry-run");
    assert!(
        said.contains("1 to 5 are learned as classes; --task text-regression"),
        "{said}"
    );
}

/// The end of a run that was resumed told of its last part alone.
#[test]
fn a_resumed_run_counts_all_its_time_and_keeps_its_commands() {
    let dir = Dir::new();
    dir.ok("finetune train.csv --model model --epochs 30 -o run");
    let results = |dir: &Dir| -> Value {
        serde_json::from_slice(&fs::read(dir.path("run/results.json")).unwrap()).unwrap()
    };
    let steps: f64 = fs::read_to_string(dir.path("run/metrics.jsonl"))
        .unwrap()
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).unwrap()["seconds"].as_f64())
        .sum();
    dir.ok("finetune --resume run --epochs 31");
    assert!(results(&dir)["seconds"].as_f64().unwrap() > steps);
    let page = fs::read_to_string(dir.path("run/report.html")).unwrap();
    for command in [
        "rekindle finetune train.csv --model model --epochs 30 -o run",
        "rekindle finetune --resume run --epochs 31",
    ] {
        assert!(page.contains(command), "{command}");
    }
}

/// Fewer examples than a guess can be held against had no verdict, and nothing said so.
#[test]
fn a_verdict_that_is_missing_is_explained() {
    let dir = Dir::new();
    dir.write("test.csv", "text,label\nthanks,praise\nmoney back,refund\n");
    let said = dir.ok("finetune train.csv --test test.csv --model model --epochs 1 -o run");
    assert!(
        said.contains("guess   2 examples are too few to compare with guessing"),
        "{said}"
    );
    let page = fs::read_to_string(dir.path("run/report.html")).unwrap();
    assert!(page.contains("2 examples are too few"), "{page}");
}

/// An adapter whose base had changed answered otherwise without a word, and one whose base was gone listed the root directory.
#[test]
fn an_adapter_is_held_against_its_base() {
    let dir = Dir::new();
    let base = dir.path("model");
    let run = format!(
        "finetune train.csv --model {} --epochs 1 -o run",
        base.display()
    );
    dir.ok(&run);
    dir.tensors("model/model.safetensors", |tensors| {
        for tensor in tensors {
            let values = tensor.bytes.as_chunks_mut::<4>().0;
            values
                .iter_mut()
                .for_each(|v| *v = (f32::from_le_bytes(*v) * 1.01).to_le_bytes());
        }
    });
    let said = dir.output("predict run thanks");
    assert!(said.contains("are not those that the adapter"), "{said}");
    dir.remove("model");
    let said = dir.refused("predict run thanks");
    assert!(
        said.contains("its base model is not there: [DIR]/model"),
        "{said}"
    );
    assert!(said.contains("`base_model` of rekindle.json"), "{said}");
}

/// Added tokens were cut to pieces where tokenizer.json did not name them, or where there was none.
#[test]
fn tokens_that_the_configuration_adds_are_not_cut() {
    let dir = Dir::new();
    let tokenizer: Value =
        serde_json::from_slice(&fs::read(dir.path("model/tokenizer.json")).unwrap()).unwrap();
    let mut vocabulary: Vec<(String, u64)> = tokenizer["model"]["vocab"]
        .as_object()
        .unwrap()
        .iter()
        .map(|(token, id)| (token.clone(), id.as_u64().unwrap()))
        .collect();
    vocabulary.sort_by_key(|(_, id)| *id);
    // A word that the vocabulary holds in pieces alone gets the place of one that no text here has.
    let spare = vocabulary.len() - 1;
    vocabulary[spare].0 = "<name>".into();
    let words: String = vocabulary
        .iter()
        .map(|(token, _)| format!("{token}\n"))
        .collect();
    let shown = |dir: &Dir| {
        dir.write(
            "one.csv",
            "text,label\nthanks <name> card,praise\nmoney,refund\n",
        );
        dir.output("look one.csv --model model --rows 1")
    };
    dir.json("model/tokenizer_config.json", |config| {
        config.insert("tokenizer_class".into(), json!("BertTokenizer"));
        config.insert("additional_special_tokens".into(), json!(["<name>"]));
    });
    let mut of_words = tokenizer.clone();
    of_words["model"]["vocab"] = vocabulary.iter().cloned().collect();
    dir.write("model/tokenizer.json", of_words.to_string());
    assert!(shown(&dir).contains("<name>"), "{}", shown(&dir));
    dir.remove("model/tokenizer.json");
    dir.write("model/vocab.txt", words);
    assert!(shown(&dir).contains("<name>"), "{}", shown(&dir));
    // Other classes cut otherwise.
    dir.json("model/tokenizer_config.json", |config| {
        config.insert("tokenizer_class".into(), json!("BertJapaneseTokenizer"));
    });
    let run = "finetune train.csv --model model --dry-run";
    let said = dir.rekindle(run);
    let said = dir.plain(&said.stderr);
    assert!(said.contains("names the class `BertJapanese`"), "{said}");
}

/// A text was read to the end though the tokenizer cuts it, as transformers does.
#[test]
fn a_model_of_others_cuts_where_its_tokenizer_does() {
    let dir = Dir::new();
    let answer = |dir: &Dir, text: &str| {
        let output = dir
            .command(env!("CARGO_BIN_EXE_rekindle"))
            .args(["predict", "model", text])
            .output();
        let line: Value = serde_json::from_slice(&output.unwrap().stdout).unwrap();
        line["probabilities"].to_string()
    };
    let (long, short) = (
        "thanks very good card open account money",
        "thanks very good card",
    );
    assert_ne!(answer(&dir, long), answer(&dir, short));
    dir.json("model/tokenizer_config.json", |config| {
        config.insert("model_max_length".into(), json!(6));
    });
    assert_eq!(answer(&dir, long), answer(&dir, short));
}

/// A decoder's mask, and a class with a probability of 1, were passed over.
#[test]
fn models_that_compute_otherwise_are_refused() {
    let dir = Dir::new();
    dir.json("model/config.json", |config| {
        drop(config.insert("is_decoder".into(), json!(true)))
    });
    let said = dir.plain(&dir.rekindle("predict model thanks").stderr);
    assert!(said.contains("is_decoder is true"), "{said}");
}
