//! `rekindle predict`: every input has an answer or a reason, as it comes.
#![allow(clippy::unwrap_used)]

mod support;

use serde_json::Value;
use std::{
    fs,
    io::{BufRead, BufReader, Write},
    process::{Output, Stdio},
};
use support::{Dir, examples, find};

fn rows(output: &[u8]) -> Vec<Value> {
    let text = String::from_utf8(output.to_vec()).unwrap();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// Runs `rekindle` with this on standard input.
fn with_input(dir: &Dir, arguments: &str, input: &[u8]) -> Output {
    let mut command = dir.command(env!("CARGO_BIN_EXE_rekindle"));
    command.args(arguments.split_whitespace());
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(input).unwrap();
    child.wait_with_output().unwrap()
}

/// A row that could not be used cost the answers of all others.
#[test]
fn a_bad_row_costs_no_other_its_answer() {
    let dir = Dir::new();
    dir.write(
        "new.csv",
        "text,label\ngood,refund\n,refund\nbad,\nfine,7\n",
    );
    let output = dir.rekindle("predict model --file new.csv");
    let said = dir.plain(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(
        said.contains("1 of 4 not labelled")
            && said.contains("new.csv:3: the text in column `text` is empty"),
        "{said}"
    );
    let answers = rows(&output.stdout);
    let lines: Vec<u64> = answers
        .iter()
        .map(|row| row["line"].as_u64().unwrap())
        .collect();
    assert_eq!(lines, [2, 3, 4, 5]);
    assert!(
        answers[1]["error"].as_str().unwrap().contains("empty")
            && answers[1].get("label").is_none()
    );
    assert!([0, 2, 3].iter().all(|&i| answers[i]["label"].is_string()));

    let output =
        dir.rekindle("predict model --file new.csv --brief --set data.on_bad_example=skip");
    assert!(output.status.success());
    let text = dir.plain(&output.stdout);
    let fields: Vec<Vec<&str>> = text
        .lines()
        .map(|line| line.split('\t').collect())
        .collect();
    assert!(fields.iter().all(|fields| fields.len() == 3), "{text}");
    assert_eq!(fields[1], ["", "", ""]);
    assert!(
        dir.plain(&output.stderr)
            .contains("warning: 1 of 4 not labelled")
    );
}

/// A file was read by its ending here, otherwise than by the verbs that train.
#[test]
fn files_are_read_as_the_other_verbs_read_them() {
    let dir = Dir::new();
    let json = "{\"text\": \"good\"}\n{\"text\": \"bad\"}\n";
    let mut expected = None;
    for name in ["t.jsonl", "t.json", "t.ndjson"] {
        dir.write(name, json);
        let answers = dir.ok(&format!("predict model --file {name}"));
        assert_eq!(&answers, expected.get_or_insert(answers.clone()), "{name}");
    }
    // A file as the argument is a file.
    let output = dir.rekindle("predict model t.json");
    assert_eq!(Some(dir.plain(&output.stdout)), expected);
    assert!(dir.plain(&output.stderr).contains("`t.json` is a file"));
    // Several arguments are texts.
    let output = dir.rekindle("predict model t.json good");
    assert_eq!(rows(&output.stdout)[0]["text"], "t.json");
    assert!(
        dir.plain(&output.stderr)
            .contains("hint: --file t.json labels its rows")
    );
    // Lines: an empty one keeps its place, the end of the last is no line.
    dir.write("t.txt", "good\r\n\nbad\n");
    let output = dir.rekindle("predict model --file t.txt");
    assert_eq!(output.status.code(), Some(1));
    let answers = rows(&output.stdout);
    assert_eq!(answers[1]["error"], "the text is empty");
    let texts: Vec<&str> = answers
        .iter()
        .map(|row| row["text"].as_str().unwrap_or_default())
        .collect();
    assert_eq!(texts, ["good", "", "bad"]);
}

/// A program that writes a line and waits for its answer waited for ever.
#[test]
fn a_line_is_answered_before_the_next_comes() {
    let dir = Dir::new();
    let mut command = dir.command(env!("CARGO_BIN_EXE_rekindle"));
    command
        .args(["predict", "model"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    let mut answers = BufReader::new(child.stdout.take().unwrap());
    for (i, text) in ["good", "bad", "fine"].into_iter().enumerate() {
        writeln!(input, "{text}").unwrap();
        let mut line = String::new();
        answers.read_line(&mut line).unwrap();
        let answer: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(
            (answer["text"].as_str(), answer["line"].as_u64()),
            (Some(text), Some(i as u64 + 1))
        );
    }
    drop(input);
    assert!(child.wait().unwrap().success());
}

#[test]
fn a_line_that_is_no_text_is_named_and_the_others_answered() {
    let dir = Dir::new();
    let output = with_input(&dir, "predict model", b"good\ncaf\xe9\nbad");
    assert_eq!(output.status.code(), Some(1));
    let answers = rows(&output.stdout);
    assert_eq!(answers.len(), 3);
    assert_eq!(answers[1]["error"], "byte 4 of the line is not UTF-8");
    assert!(dir.plain(&output.stderr).contains("line 2: byte 4"));
}

/// The columns that a run was tuned on had to be named again.
#[test]
fn the_columns_of_a_run_are_remembered() {
    let dir = Dir::new();
    let table = examples().replacen("text,label", "beschreibung,kat", 1);
    assert!(table.starts_with("beschreibung,kat"), "{table}");
    // A column that is usually the text stands beside it.
    let table: String = table
        .lines()
        .enumerate()
        .map(|(i, line)| match i {
            0 => format!("text,{line}\n"),
            _ => format!("x{i},{line}\n"),
        })
        .collect();
    dir.write("t.csv", &table);
    dir.ok(
        "finetune --model model --train t.csv --text beschreibung --label kat --epochs 1 -o run",
    );
    for command in [
        "evaluate run t.csv --json",
        "evaluate run/final t.csv --json",
    ] {
        let plain = dir.ok(command);
        assert_eq!(
            plain,
            dir.ok(&format!("{command} --text beschreibung --label kat")),
            "{command}"
        );
    }
    let answers = rows(dir.ok("predict run --file t.csv").as_bytes());
    assert!(
        answers
            .iter()
            .all(|row| !row["text"].as_str().unwrap().starts_with('x')),
        "{}",
        answers[0]
    );
    // Another column is another wish; a file of other columns is read as any.
    let answers = rows(dir.ok("predict run --file t.csv --text text").as_bytes());
    assert_eq!(answers[0]["text"], "x1");
    dir.write("other.csv", "text\ngood\n");
    assert_eq!(
        rows(dir.ok("predict run --file other.csv").as_bytes())[0]["text"],
        "good"
    );
    // Without a header, by place.
    let bare: String = examples()
        .lines()
        .skip(1)
        .map(|line| format!("7,{line}\n"))
        .collect();
    dir.write("bare.csv", &bare);
    dir.ok("finetune --model model --train bare.csv --set data.header=false --text 1 --label 2 --epochs 1 -o bare");
    assert_eq!(
        dir.ok("evaluate bare bare.csv --set data.header=false --json"),
        dir.ok("evaluate bare bare.csv --set data.header=false --text 1 --label 2 --json")
    );
}

#[test]
fn the_most_probable_labels_and_a_file_of_answers() {
    let dir = Dir::new();
    let all = &rows(dir.ok("predict model good").as_bytes())[0];
    let top = &rows(dir.ok("predict model good --top 1").as_bytes())[0];
    let probabilities = top["probabilities"].as_object().unwrap();
    assert_eq!(probabilities.len(), 1);
    assert_eq!(
        probabilities[all["label"].as_str().unwrap()],
        all["probability"]
    );
    assert!(dir.rekindle("predict model good --top 0").status.code() == Some(1));

    let printed = dir.ok("predict model --file train.csv");
    assert_eq!(
        dir.ok("predict model --file train.csv --output answers.jsonl"),
        ""
    );
    assert_eq!(
        fs::read_to_string(dir.path("answers.jsonl")).unwrap(),
        printed
    );
    assert!(!dir.path("answers.jsonl.part").exists());
    // What stood there stays until all is answered.
    dir.refused("predict model --file nowhere.csv --output answers.jsonl");
    assert_eq!(
        fs::read_to_string(dir.path("answers.jsonl")).unwrap(),
        printed
    );
    dir.refused("predict model good --output nowhere/answers.jsonl");
}

/// One damaged picture cost the answers of all others.
#[test]
fn a_bad_picture_costs_no_other_its_answer() {
    let dir = Dir::new();
    dir.pictures();
    dir.cut("pictures/red/03.png", 60);
    let output = dir.rekindle("predict resnet pictures");
    assert_eq!(output.status.code(), Some(1));
    let answers = rows(&output.stdout);
    assert_eq!(answers.len(), 24);
    let failed: Vec<&Value> = answers
        .iter()
        .filter(|row| row.get("error").is_some())
        .collect();
    assert_eq!(failed.len(), 1);
    assert!(failed[0]["file"].as_str().unwrap().ends_with("red/03.png"));
    let said = dir.plain(&output.stderr);
    assert!(
        said.contains("1 of 24 not labelled") && said.contains("red/03.png"),
        "{said}"
    );
    let whole: Vec<&Value> = answers
        .iter()
        .filter(|row| row.get("error").is_none())
        .collect();
    dir.remove("pictures/red/03.png");
    assert_eq!(
        rows(dir.ok("predict resnet pictures").as_bytes())
            .iter()
            .collect::<Vec<_>>(),
        whole
    );

    // Names that come in: a file that is not there is one of them.
    let output = with_input(
        &dir,
        "predict resnet",
        b"pictures/red/01.png\nnowhere.png\n\npictures/blue/01.png\n",
    );
    let answers = rows(&output.stdout);
    assert_eq!(answers.len(), 3);
    assert_eq!(answers[1]["file"], "nowhere.png");
    assert!(answers[1]["error"].is_string() && answers[2]["label"].is_string());
    // A table of pictures.
    dir.write(
        "t.csv",
        "file,label\npictures/red/01.png,red\n,red\nnowhere.png,blue\n",
    );
    let output = dir.rekindle("predict resnet --file t.csv --set data.on_bad_example=skip");
    assert!(output.status.success(), "{}", dir.plain(&output.stderr));
    let answers = rows(&output.stdout);
    assert_eq!(answers.len(), 3);
    assert!(
        answers[0]["label"].is_string()
            && answers[1]["error"].is_string()
            && answers[2]["error"].is_string()
    );
}

/// Probabilities of NaN were printed as `null`, beside a label.
#[test]
fn a_model_that_puts_out_no_numbers_gives_no_labels() {
    let dir = Dir::new();
    dir.tensors("model/model.safetensors", |tensors| {
        let weight = find(tensors, "classifier.weight");
        weight.bytes = f32::MAX.to_le_bytes().repeat(weight.bytes.len() / 4);
    });
    let output = dir.rekindle("predict model good");
    assert_eq!(output.status.code(), Some(1));
    let answer = &rows(&output.stdout)[0];
    assert!(
        answer["error"].as_str().unwrap().contains("no number") && answer.get("label").is_none(),
        "{answer}"
    );
}

/// `--output` and its kin replaced whatever stood there: the input, a picture, the model.
#[test]
#[cfg(unix)]
fn results_replace_nothing_but_results() {
    let dir = Dir::new();
    dir.write("t.txt", "good\nbad\n");
    dir.write(
        "notes.jsonl",
        "{\"text\": \"good\", \"label\": \"praise\"}\n",
    );
    dir.write("page.html", "<html>mine</html>");
    let taken = |name: &str| fs::read(dir.path(name)).unwrap();
    for (arguments, name) in [
        ("predict model --file t.txt --output t.txt", "t.txt"),
        (
            "predict model --file t.txt --output notes.jsonl",
            "notes.jsonl",
        ),
        (
            "predict model good --output model/config.json",
            "model/config.json",
        ),
        (
            "evaluate model train.csv --predictions notes.jsonl",
            "notes.jsonl",
        ),
        (
            "evaluate model train.csv --predictions train.csv",
            "train.csv",
        ),
        (
            "lr-find train.csv --model model --html train.csv",
            "train.csv",
        ),
        (
            "lr-find train.csv --model model --html page.html",
            "page.html",
        ),
    ] {
        let before = taken(name);
        dir.refused(arguments);
        assert_eq!(taken(name), before, "{arguments}");
    }
    // Answers replace answers; a link stays one, and so does who may read the file.
    use std::os::unix::fs::{PermissionsExt, symlink};
    dir.ok("predict model good --output a.jsonl");
    fs::set_permissions(dir.path("a.jsonl"), fs::Permissions::from_mode(0o600)).unwrap();
    symlink("a.jsonl", dir.path("link.jsonl")).unwrap();
    dir.ok("predict model --file t.txt --output link.jsonl");
    assert_eq!(rows(&taken("a.jsonl")).len(), 2);
    assert!(
        fs::symlink_metadata(dir.path("link.jsonl"))
            .unwrap()
            .is_symlink()
    );
    assert_eq!(
        fs::metadata(dir.path("a.jsonl"))
            .unwrap()
            .permissions()
            .mode()
            & 0o777,
        0o600
    );
    // What is no file is written into.
    let output = dir.rekindle("predict model good --output /dev/stdout");
    assert_eq!(rows(&output.stdout).len(), 1);
    // Nothing is left of what was not finished.
    dir.refused("predict model good --output nowhere/a.jsonl");
    let left = fs::read_dir(dir.path("")).unwrap();
    let left: Vec<_> = left.map(|entry| entry.unwrap().file_name()).collect();
    assert!(
        left.iter()
            .all(|name| !name.to_string_lossy().starts_with('.')),
        "{left:?}"
    );
}

/// The names of a run's columns were not known as a header, and a run without header asked for it again.
#[test]
fn a_header_of_the_runs_columns_is_one() {
    let dir = Dir::new();
    let table = examples().replacen("text,label", "satz,kat", 1);
    dir.write("t.csv", &table);
    dir.ok("finetune --model model --train t.csv --text satz --label kat --epochs 1 -o run");
    dir.write("new.txt.csv", "satz\ngood\n");
    let answers = rows(dir.ok("predict run --file new.txt.csv").as_bytes());
    assert_eq!(
        (answers.len(), answers[0]["text"].as_str()),
        (1, Some("good"))
    );
    // Another column than that of the labels is not taken for them.
    dir.write("other.csv", "satz,nr\ngood,1\nbad,2\n");
    assert!(
        dir.refused("evaluate run other.csv")
            .contains("no column looks like the label")
    );
    let bare: String = examples()
        .lines()
        .skip(1)
        .map(|line| format!("{line}\n"))
        .collect();
    dir.write("bare.csv", &bare);
    dir.ok("finetune --model model --train bare.csv --set data.header=false --epochs 1 -o bare");
    dir.write("two.csv", "great film,praise\nbad film,refund\n");
    assert!(dir.ok("evaluate bare two.csv").contains("(2 examples)"));
}

/// A list of objects on one line has one line for all of them: its order is all there is.
#[test]
fn answers_to_a_json_array_are_in_its_order() {
    let dir = Dir::new();
    dir.write(
        "a.json",
        r#"[{"text": "good"}, {"text": null}, {"text": "bad"}]"#,
    );
    let output = dir.rekindle("predict model --file a.json");
    let answers = rows(&output.stdout);
    assert_eq!(answers[0]["text"], "good");
    assert!(answers[1]["error"].is_string());
    assert_eq!(answers[2]["text"], "bad");
}
