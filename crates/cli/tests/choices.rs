//! Multiple choice from the command line, on the tiny BERT: files of several shapes, answers, what a run leaves, mistakes.
#![allow(clippy::unwrap_used)]

mod support;

use serde_json::{Value, json};
use std::fs;
use support::Dir;

/// Sentences of which the last word is asked for.
const TEXTS: [(&str, &str, &str); 6] = [
    ("refund the card please", "card", "money"),
    ("the money came back on monday", "money", "card"),
    ("thanks for the card", "card", "money"),
    ("no help on friday, no money", "money", "card"),
    ("I lost the card", "card", "money"),
    ("monday or friday, my money", "money", "card"),
];

/// Eight times over, the right one in turn at every place; every third has a third choice.
fn rows() -> impl Iterator<Item = (usize, &'static str, Vec<&'static str>, usize)> {
    let all = TEXTS.repeat(8).into_iter().enumerate();
    all.map(|(i, (text, right, wrong))| {
        let mut choices = vec![wrong; 1 + usize::from(i % 3 == 0)];
        let answer = i % (choices.len() + 1);
        choices.insert(answer, right);
        (i, text, choices, answer)
    })
}

/// As RACE has it.
fn race() -> String {
    let row = |(i, text, choices, answer): (usize, _, _, usize)| {
        let letter = char::from(b'A' + answer as u8).to_string();
        json!({ "example_id": i, "article": text, "question": "which thing?", "options": choices, "answer": letter })
            .to_string()
    };
    rows().map(row).collect::<Vec<_>>().join("\n")
}

/// A column for each choice.
fn csv() -> String {
    let mut out = "context,question,choice0,choice1,choice2,label\n".to_owned();
    for (_, text, choices, answer) in rows() {
        let third = choices.get(2).unwrap_or(&"");
        let [first, second] = [choices[0], choices[1]];
        out += &format!("\"{text}\",which thing?,{first},{second},{third},{answer}\n");
    }
    out
}

fn lines(text: &str) -> Vec<Value> {
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

#[test]
fn from_a_file_to_answers() {
    let dir = Dir::new();
    dir.write("race.jsonl", race());
    dir.write("quiz.csv", csv());
    for (data, method, weights) in [
        ("race.jsonl", "lora", "adapter_model.safetensors"),
        ("quiz.csv", "full", "model.safetensors"),
        ("race.jsonl", "head", "model.safetensors"),
        ("quiz.csv", "bitfit", "model.safetensors"),
    ] {
        let run = format!("{}-{method}", data.replace('.', "-"));
        let said = dir.output(&format!(
            "finetune {data} --model model --epochs 2 -o {run} --method {method}"
        ));
        assert!(said.contains("learning multiple-choice"), "{said}");
        let form = match data {
            "race.jsonl" => "answers are read as letters of choices, the first being A",
            _ => "answers are read as numbers of choices, the first being 0",
        };
        assert!(said.contains(form), "{said}");
        assert!(said.contains("accuracy"), "{said}");
        let end = dir.path(&run).join("final");
        assert!(end.join(weights).is_file(), "{run}");
        let card = fs::read_to_string(end.join("README.md")).unwrap();
        assert!(card.contains("AutoModelForMultipleChoice"), "{card}");
        assert!(card.contains("pipeline_tag: multiple-choice"), "{card}");

        let output = dir
            .command(env!("CARGO_BIN_EXE_rekindle"))
            .args(["predict", &run, "which thing?", "what else?"])
            .args(["--context", "thanks for the money", "--choice", "card"])
            .args(["--choice", "money", "--choice", "a long, long day"])
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", dir.plain(&output.stderr));
        let answers = lines(&String::from_utf8(output.stdout).unwrap());
        assert_eq!(answers.len(), 2);
        for answer in &answers {
            assert!(answer["question"].is_string() && answer.get("context").is_none());
            let choices = answer["choices"].as_array().unwrap();
            let chosen = answer["index"].as_u64().unwrap() as usize;
            assert_eq!(answer["choice"], choices[chosen]["choice"]);
            let probability = |choice: &Value| choice["probability"].as_f64().unwrap();
            let sum: f64 = choices.iter().map(probability).sum();
            assert!((sum - 1.0).abs() < 1e-5, "{answer}");
            assert!(
                choices
                    .iter()
                    .all(|c| probability(c) <= probability(answer))
            );
            assert_eq!(choices[2]["choice"], "a long, long day");
        }

        // A file of the other kind is evaluated too, and every question has its line.
        for other in ["race.jsonl", "quiz.csv"] {
            let report = dir.ok(&format!(
                "evaluate {run} {other} --json --predictions each.jsonl"
            ));
            let report: Value = serde_json::from_str(&report).unwrap();
            assert_eq!(report["n"], 48, "{other}");
            assert_eq!(report["by_choices"][0]["n"], 32, "{report}");
            let each = lines(&fs::read_to_string(dir.path("each.jsonl")).unwrap());
            let right = each.iter().filter(|row| row["correct"] == true).count();
            assert_eq!(report["accuracy"], right as f64 / 48.0);
            assert_eq!(each[0]["answer"], "card", "{}", each[0]);
            dir.remove("each.jsonl");
            let asked = lines(&dir.ok(&format!("predict {run} --file {other} --top 1")));
            for (row, scored) in asked.iter().zip(&each) {
                assert_eq!(row["choice"], scored["choice"]);
                assert_eq!(row["choices"].as_array().unwrap().len(), 1);
            }
            assert!(asked.len() == 48 && asked[0]["context"].is_string());
        }
        let report = fs::read_to_string(dir.path(&run).join("report.html")).unwrap();
        assert!(report.contains("by chance"), "no section");
        let results = fs::read_to_string(dir.path(&run).join("results.json")).unwrap();
        let results: Value = serde_json::from_str(&results).unwrap();
        assert_eq!(results["headline"], "accuracy");
        assert_eq!(results["task"], "multiple-choice");
    }
    dir.ok("merge race-jsonl-lora --to merged");
    let config = fs::read_to_string(dir.path("merged/config.json")).unwrap();
    assert!(config.contains("BertForMultipleChoice"), "{config}");
    let [before, after] = ["race-jsonl-lora", "merged"]
        .map(|model| dir.ok(&format!("predict {model} --file race.jsonl --brief")));
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
    dir.write("race.jsonl", race());
    let tune = "finetune race.jsonl --model model --epochs 2 --set checkpoint.every_steps=2 \
                --set train.batch_size=8 --set checkpoint.keep=40";
    dir.resumes_to_the_same_bytes(tune);
}

#[test]
fn a_run_file_is_written_for_choices() {
    let dir = Dir::new();
    dir.write("quiz.csv", csv());
    dir.ok("init quiz.csv --output quiz.toml");
    let text = fs::read_to_string(dir.path("quiz.toml")).unwrap();
    assert!(text.contains("task = \"multiple-choice\""), "{text}");
    assert!(
        text.contains("48 questions, 2 to 3 choices each, answers read as numbers of choices"),
        "{text}"
    );
    let plan = dir.output("finetune --config quiz.toml --model model --dry-run");
    assert!(
        plan.contains("choices `choice0`, `choice1`, `choice2`, label `label`")
            && !plan.contains("score"),
        "{plan}"
    );
    let looked = dir.ok("look --config quiz.toml --model model");
    assert!(looked.contains("48 questions, 112 choices"), "{looked}");
    // Pieces of words are told apart, the right choice from the others.
    assert!(
        looked.contains("[CLS]|") && looked.contains("|[card]"),
        "{looked}"
    );
    // Questions about one text stay in one part.
    assert!(!looked.contains("stands in training and in"), "{looked}");
}

/// Columns of other names, a validation file whose numbers could begin anywhere, and choices that are the same.
#[test]
fn odd_files_are_read_as_they_are_meant() {
    let dir = Dir::new();
    let table = |rows: &[&str]| format!("ask,yes,no,right\n{}\n", rows.join("\n"));
    let rows: Vec<String> = (0..24)
        .map(|i| format!("\"{} {i}\",card,money,{}", TEXTS[i % 6].0, 1 + i % 2))
        .collect();
    let rows: Vec<&str> = rows.iter().map(String::as_str).collect();
    dir.write("train.csv", table(&rows));
    // 1 is the first choice here as there.
    dir.write(
        "validation.csv",
        table(&["who?,card,money,1", "who?,card,money,1"]),
    );
    let named = "--text ask --label right --set data.choices=[\"yes\",\"no\"]";
    let tune = "finetune --task multiple-choice --model model --epochs 1";
    let said = dir.output(&format!(
        "{tune} {named} -o run --train train.csv --validation validation.csv"
    ));
    for file in ["train.csv", "validation.csv"] {
        let form = "answers are read as numbers of choices, the first being 1";
        assert!(said.contains(&format!("{file}: {form}")), "{said}");
    }
    assert!(
        said.contains("text `ask`, choices `yes` and `no`, label `right`"),
        "{said}"
    );
    // The run knows how its files are read.
    let each = dir.ok("evaluate run validation.csv --json --predictions each.jsonl");
    assert!(each.contains("\"n\": 2"), "{each}");
    let each = lines(&fs::read_to_string(dir.path("each.jsonl")).unwrap());
    assert_eq!(each[0]["answer"], "card");

    let same = "{\"question\": \"who?\", \"choices\": [\"card\", \"card\"], \"answer\": \"A\"}\n";
    dir.write("same.jsonl", race() + "\n" + same);
    let plan =
        dir.output("finetune same.jsonl --model model --dry-run --set eval.every=never --set data.validation_fraction=0");
    assert!(
        plan.contains("warning: 17 questions have choices that are the same to the model"),
        "{plan}"
    );
    assert!(plan.contains("same.jsonl:1\n"), "{plan}");

    // Of names that nobody knows it is told how to say it.
    let foreign = "Frage,Antwort1,Antwort2,Antwort3,Richtig\nwer?,Anna,Bert,Carla,1\nwann?,heute,nie,bald,3\n";
    dir.write(
        "fragen.csv",
        foreign.to_owned()
            + &foreign
                .lines()
                .skip(1)
                .map(|row| format!("{row}\n"))
                .collect::<String>(),
    );
    let said = dir.refused("finetune fragen.csv --text Frage --model model");
    assert!(
        said.contains("--task multiple-choice --text QUESTION"),
        "{said}"
    );
    let said = dir.output("finetune fragen.csv --text Frage --label Richtig --model model --dry-run --set data.validation_fraction=0.5");
    assert!(
        said.contains("--set 'data.choices=[\"Antwort1\", \"Antwort2\", \"Antwort3\"]'"),
        "{said}"
    );
    // A quiz is one by its choices, whatever else is wrong with it.
    let quiz = "question,A,B,which\nwho?,card,money,A\nwhere?,money,card,B\n";
    dir.write("quiz.csv", quiz);
    let said = dir.refused("finetune quiz.csv --model model");
    assert!(said.contains("learning multiple-choice"), "{said}");
    assert!(
        said.contains("no column says which choice is right") && said.contains("--label"),
        "{said}"
    );
    let said = dir.output("finetune quiz.csv --label which --model model --dry-run --set data.validation_fraction=0.5");
    assert!(said.contains("label `which`"), "{said}");
    dir.write(
        "latin.csv",
        b"text,label\nna\xefve,a\n\xe9t\xe9,b\n".as_slice(),
    );
    let said = dir.refused("init latin.csv");
    assert!(said.contains("UTF-8"), "{said}");

    let odd = format!(
        "{same}{}",
        "{\"question\": \"who?\", \"choices\": [\"card\"]}\n"
    );
    dir.write("odd.jsonl", odd.repeat(2) + same);
    let said = dir.output("init odd.jsonl --task multiple-choice -o odd.toml");
    assert!(
        said.contains("warning: odd.jsonl: 2 rows cannot be used as written"),
        "{said}"
    );
}

#[test]
fn mistakes_name_place_and_remedy() {
    let dir = Dir::new();
    dir.write("quiz.csv", csv());
    dir.write(
        "from-one.csv",
        "question,choice0,choice1,label\nwho?,card,money,0\nwho?,card,money,2\n",
    );
    dir.write("one.csv", "question,choice0,label\nwho?,card,0\n");
    dir.write("none.csv", "question,answer\nwho?,card\n");
    let tune = "finetune --task multiple-choice --model model -o run --train";
    for (data, expected) in [
        (
            "from-one.csv",
            "from-one.csv:3: the answer `2` is no number of a choice: the 2 choices are counted from 0 to 1",
        ),
        ("one.csv", "one.csv:2: expected at least 2 choices, found 1"),
        (
            "none.csv",
            "none.csv:2: no choices: found the columns `question` and `answer`",
        ),
    ] {
        let said = dir.refused(&format!("{tune} {data}"));
        assert!(said.contains(expected) && said.contains("hint: "), "{said}");
    }
    let skipped = dir.output(&format!(
        "{tune} from-one.csv --set data.on_bad_example=skip --set data.validation_fraction=0 \
         --set eval.every=never --epochs 1"
    ));
    assert!(skipped.contains("1 question left out"), "{skipped}");
    let said = dir.refused("predict run why --set data.on_bad_example=error");
    assert!(
        said.contains("there are no two choices; --choice"),
        "{said}"
    );
    // They may come from elsewhere than the file of questions.
    dir.write("alone.csv", "question\nwho?\nwhere?\n");
    let asked = dir.ok("predict run --file alone.csv --choice card --choice money");
    assert!(
        asked.lines().count() == 2 && asked.contains("\"probability\""),
        "{asked}"
    );
    let own =
        dir.output("predict run --file quiz.csv --choice card --choice money --output a.jsonl");
    assert!(
        own.contains("warning: 48 of 48 questions have choices of their own"),
        "{own}"
    );
    // Answers may be written over, questions not.
    dir.ok("predict run who? --choice card --choice money --output b.jsonl");
    dir.ok("predict run who? --choice card --choice money --output b.jsonl");
    dir.write("race.jsonl", race());
    let said = dir.refused("predict run who? --choice card --choice money --output race.jsonl");
    assert!(said.contains("holds something else"), "{said}");
    let said =
        dir.refused("finetune --task question-answering --train quiz.csv --model model -o no");
    assert!(
        said.contains("its rows look like those of multiple-choice: --task multiple-choice"),
        "{said}"
    );
    // Choices are for who chooses.
    dir.ok("finetune train.csv --model model --epochs 1 -o single");
    let said = dir.refused("predict single the-card --choice x");
    assert!(said.contains("--choice is for models"), "{said}");
}
