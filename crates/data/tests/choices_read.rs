//! Files of questions with choices: every shape, every form of answers, every mistake with its place and remedy, and no panic on any bytes.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::Path;

use rekindle_data::choices::{AnswerForm, ChoiceQuestion, ChoiceQuestions, read_choices};
use rekindle_data::{Column, DataError, Examples, Fractions, OnBad, ReadOptions, UsualColumns};

fn strict() -> ReadOptions {
    ReadOptions {
        require_label: true,
        ..ReadOptions::default()
    }
}

fn try_read(
    name: &str,
    bytes: impl AsRef<[u8]>,
    options: &ReadOptions,
) -> Result<ChoiceQuestions, String> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(name);
    fs::write(&path, bytes).unwrap();
    let plain = |text: String| text.replace(&path.display().to_string(), name);
    let read = read_choices(&path, options);
    read.map_err(|error: DataError| plain(error.to_string()))
        .map(|read| ChoiceQuestions {
            notes: read.notes.into_iter().map(plain).collect(),
            ..read
        })
}

fn read(name: &str, text: &str) -> ChoiceQuestions {
    try_read(name, text, &strict()).unwrap()
}

/// What a model reads of every choice, and the right one.
fn pairs(row: &ChoiceQuestion) -> (Vec<(String, String)>, Option<usize>) {
    let choices = 0..row.choices.len();
    let pair = |choice| {
        let (first, second) = row.pair(choice);
        (first.to_owned(), second.into_owned())
    };
    (choices.map(pair).collect(), row.answer)
}

fn owned(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    let pair = |(a, b): &(&str, &str)| ((*a).to_owned(), (*b).to_owned());
    pairs.iter().map(pair).collect()
}

/// The same two choices, in every shape that files have.
#[test]
fn published_shapes_are_read() {
    let swag = [("Zoë sits.", "She naps."), ("Zoë sits.", "She sings.")];
    let race = [("A text.", "Who naps? Zoë"), ("A text.", "Who naps? Ada")];
    let alone = [("Who naps?", "Zoë"), ("Who naps?", "Ada")];
    use AnswerForm::{Index, Label, Letter, Text};
    for (name, text, expected, form) in [
        // SWAG, whose columns the `datasets` library has more of.
        (
            "swag.csv",
            "video-id,sent1,sent2,ending0,ending1,label\nv,Zoë sits.,She,naps.,sings.,1\n",
            swag,
            Index,
        ),
        (
            "hellaswag.jsonl",
            r#"{"ctx": "Zoë sits.", "endings": ["She naps.", "She sings."], "label": "1"}"#,
            swag,
            Index,
        ),
        (
            "race.jsonl",
            r#"{"article": "A text.", "question": "Who naps?", "options": ["Zoë", "Ada"], "answer": "B", "example_id": "x"}"#,
            race,
            Letter,
        ),
        (
            "qa.tsv",
            "context\tquestion\tA\tB\tanswer\nA text.\tWho naps?\tZoë\tAda\tb\n",
            race,
            Letter,
        ),
        (
            "commonsense.jsonl",
            r#"{"question": "Who naps?", "choices": {"label": ["A", "B"], "text": ["Zoë", "Ada"]}, "answerKey": "B"}"#,
            alone,
            Label,
        ),
        // ARC has numbers from 1 as labels of some questions, and was published nested.
        (
            "arc.jsonl",
            r#"{"question": {"stem": "Who naps?", "choices": [{"text": "Zoë", "label": "1"}, {"text": "Ada", "label": "2"}]}, "answerKey": "2"}"#,
            alone,
            Label,
        ),
        (
            "letters.json",
            r#"[{"question": "Who naps?", "options": {"A": "Zoë", "B": "Ada"}, "answer": "B"}]"#,
            alone,
            Label,
        ),
        (
            "text.csv",
            "question,choices,answer\nWho naps?,\"[\"\"Zoë\"\", \"\"Ada\"\"]\",Ada\n",
            alone,
            Text,
        ),
        (
            "columns.csv",
            "question,choice1,choice2,label\nWho naps?,Zoë,Ada,2.0\n",
            alone,
            AnswerForm::Number,
        ),
        (
            "letters.csv",
            "question,Option_A,Option_B,label\nWho naps?,Zoë,Ada,1\n",
            alone,
            Index,
        ),
    ] {
        let read = read(name, text);
        assert_eq!(pairs(&read.rows[0]), (owned(&expected), Some(1)), "{name}");
        assert_eq!(read.columns.answers, Some(form), "{name}");
        let said = format!("{name}: answers are read as {}", form.words());
        assert_eq!(read.notes, [said], "{name}");
    }
}

#[test]
fn rows_have_as_many_choices_as_they_need() {
    let rows = read(
        "a.csv",
        "question,choice0,choice1,choice2,choice3,answer\na?,x,y,z,w,3\nb?,x,y,,,0\nc?,x,y,z,,2\n",
    )
    .rows;
    let counts: Vec<usize> = rows.iter().map(|row| row.choices.len()).collect();
    assert_eq!(counts, [4, 2, 3]);
    assert_eq!((rows[2].right(), rows[2].place.line), (Some("z"), 4));
}

/// Which choice a number or letter means is told by all answers of the file.
#[test]
fn the_form_of_answers_is_the_files() {
    // 3 is no number of the second row's choices.
    let numbers = r#"{"question": "1 + 1?", "choices": ["1", "2", "3"], "answer": "2"}
{"question": "1 + 2?", "choices": ["2", "3"], "answer": "3"}"#;
    let numbers = read("numbers.jsonl", numbers);
    assert_eq!(numbers.columns.answers, Some(AnswerForm::Text));
    let right: Vec<_> = numbers.rows.iter().map(ChoiceQuestion::right).collect();
    assert_eq!(right, [Some("2"), Some("3")]);
    // A grade is a letter, but no letter of a choice.
    let grades = r#"{"question": "which grade?", "choices": ["C", "D"], "answer": "C"}
{"question": "which grade?", "choices": ["C", "A"], "answer": "A"}"#;
    let grades = read("grades.jsonl", grades);
    assert_eq!(grades.columns.answers, Some(AnswerForm::Text));
    assert_eq!(grades.rows[1].answer, Some(1));
}

#[test]
fn numbers_and_letters_are_those_of_the_columns_where_these_have_some() {
    let table = |columns: &str, answers: &[&str]| {
        let rows = answers
            .iter()
            .map(|answer| format!("who?,a{answer},b{answer},c{answer},{answer}\n"));
        format!("question,{columns},answer\n{}", rows.collect::<String>())
    };
    for (columns, answers, form, right) in [
        (
            "option1,option2,option3",
            ["1", "2"],
            AnswerForm::Number,
            [0, 1],
        ),
        (
            "choice0,choice1,choice2",
            ["1", "2"],
            AnswerForm::Index,
            [1, 2],
        ),
        // Numbered from 1, and counted from 0 all the same.
        (
            "choice1,choice2,choice3",
            ["0", "1"],
            AnswerForm::Index,
            [0, 1],
        ),
        (
            "option_b,option_c,option_d",
            ["B", "(d)"],
            AnswerForm::Letter,
            [0, 2],
        ),
        (
            "answerA,answerB,answerC",
            ["1", "3"],
            AnswerForm::Number,
            [0, 2],
        ),
    ] {
        let read = read("a.csv", &table(columns, &answers));
        assert_eq!(read.columns.answers, Some(form), "{columns}");
        let found: Vec<Option<usize>> = read.rows.iter().map(|row| row.answer).collect();
        assert_eq!(found, right.map(Some), "{columns}");
    }
    // Texts that are digits are meant as texts where each answer is one, and numbers that may begin at 1 are told of.
    let digits = r#"{"question": "how many?", "choices": ["1", "2", "3"], "answer": "2"}"#;
    assert_eq!(read("a.jsonl", digits).rows[0].answer, Some(1));
    let row = r#"{"question": "who?", "choices": ["a", "b", "c", "d"], "answer": 1}"#;
    let read = read("a.jsonl", &[row; 10].join("\n"));
    assert_eq!(read.columns.answers, Some(AnswerForm::Index));
    assert!(read.notes[1].contains("no answer is 0"), "{:?}", read.notes);
    let labels =
        r#"{"question": "q", "choices": {"text": ["x", "y"], "label": ["B", "A"]}, "answer": "b"}"#;
    assert_eq!(read_one(labels).answer, Some(0));
    // A dialogue is what the question is about; a column that is named is not read twice.
    let talk = r#"{"dialogue": ["Tea?", "No, milk."], "question": "what?", "choices": ["tea", "milk"], "answer": "milk"}"#;
    assert_eq!(read_one(talk).context.as_deref(), Some("Tea?\nNo, milk."));
    let twice = "question,choice1,choice_1,answer\nwho?,a,b,0\n";
    let error = try_read("a.csv", twice, &strict()).unwrap_err();
    assert!(error.contains("columns of the same choice"), "{error}");
}

/// Files that people learn from, with names of their own.
#[test]
fn columns_of_known_sets_are_found() {
    let alone = [("Who naps?", "Zoë"), ("Who naps?", "Ada")];
    for (name, text, right, columns) in [
        (
            "piqa.jsonl",
            r#"{"goal": "Who naps?", "sol1": "Zoë", "sol2": "Ada", "label": 0}"#,
            0,
            "text `goal`, choices `sol1` and `sol2`, label `label`",
        ),
        (
            "winogrande.jsonl",
            r#"{"sentence": "Who naps?", "option1": "Zoë", "option2": "Ada", "answer": "2"}"#,
            1,
            "text `sentence`, choices `option1` and `option2`, label `answer`",
        ),
        (
            "medmcqa.csv",
            "id,question,opa,opb,cop,exp\nx,Who naps?,Zoë,Ada,1,because\n",
            1,
            "text `question`, choices `opa` and `opb`, label `cop`",
        ),
        (
            "sciq.jsonl",
            r#"{"question": "Who naps?", "distractor1": "Ada", "correct_answer": "Zoë", "support": ""}"#,
            0,
            "text `question`, choices `correct_answer` and `distractor1`, label `correct_answer`",
        ),
        (
            "dream.jsonl",
            r#"{"question": "Who naps?", "choice": ["Zoë", "Ada"], "answer": "Ada"}"#,
            1,
            "text `question`, choices `choice`, label `answer`",
        ),
    ] {
        let read = read(name, text);
        let expected = (owned(&alone), Some(right));
        assert_eq!(pairs(&read.rows[0]), expected, "{name}");
        assert_eq!(read.columns.words().as_deref(), Some(columns), "{name}");
    }
}

#[test]
fn columns_of_choices_can_be_named() {
    let text = "question,yes,no,perhaps,answer\nwho?,Zoë,Ada,Bo,no\nwhen?,now,then,,yes\n";
    let named = ReadOptions {
        choices: ["yes", "no", "perhaps"].map(Column::from).to_vec(),
        ..strict()
    };
    let found = try_read("a.csv", text, &named).unwrap();
    let right: Vec<_> = found.rows.iter().map(ChoiceQuestion::right).collect();
    assert_eq!(right, [Some("Ada"), Some("now")]);
    assert_eq!(found.columns.answers, Some(AnswerForm::Column));
    assert_eq!(found.rows[1].choices.len(), 2);
    // What a model was tuned on is taken where the file has it, else what is usual.
    let usual = ReadOptions {
        usual: found.columns,
        ..strict()
    };
    let again = try_read("a.csv", text, &usual).unwrap();
    assert_eq!(again.rows[0].right(), Some("Ada"));
    let other = "question,A,B,answer\nwho?,Zoë,Ada,B\n";
    let again = try_read("b.csv", other, &usual).unwrap();
    assert_eq!(again.rows[0].right(), Some("Ada"));

    let list = r#"{"question": "who?", "of": ["Zoë", "Ada"], "answer": 1}"#;
    let one = ReadOptions {
        choices: vec![Column::from("of")],
        ..strict()
    };
    let found = try_read("a.jsonl", list, &one).unwrap();
    assert_eq!(found.rows[0].right(), Some("Ada"));
    let error = try_read("b.csv", other, &one).unwrap_err();
    assert!(
        error.contains("b.csv:2: no `of`: found the columns"),
        "{error}"
    );
    let gap = "question,yes,no,perhaps,answer\nwho?,Zoë,,Bo,yes\n";
    let error = try_read("a.csv", gap, &named).unwrap_err();
    assert!(error.contains("the text in `no` is empty"), "{error}");
    let error = try_read(
        "a.csv",
        "question,first,second,answer\nwho?,a,b,first\n",
        &strict(),
    );
    let error = error.unwrap_err();
    assert!(error.contains("--set 'data.choices="), "{error}");
}

#[test]
fn answers_are_names_of_columns_too() {
    let text = "question,option_a,option_b,answer\nwho?,Zoë,Ada,option_b\nwho?,Bo,Cy,option_a\n";
    let read = read("a.csv", text);
    assert_eq!(read.columns.answers, Some(AnswerForm::Column));
    assert_eq!(read.rows[0].right(), Some("Ada"));
}

/// A file of which two columns say which choice is right.
#[test]
fn the_column_that_names_choices_is_that_of_the_answers() {
    let row = |answer: &str, label: usize| {
        format!(
            r#"{{"question": "who?", "choices": ["Zoë", "Ada"], "answer": "{answer}", "label": {label}}}"#
        )
    };
    let explained = [row("It is Ada.", 1), row("Zoë, of course.", 0)].join("\n");
    let found = read("a.jsonl", &explained);
    assert_eq!(found.rows[0].right(), Some("Ada"));
    assert_eq!(found.columns.label, [Column::from("label")]);

    let agree = [row("Ada", 1), row("Zoë", 0)].join("\n");
    assert_eq!(read("a.jsonl", &agree).notes.len(), 1);
    let differ = [row("Ada", 1), row("Zoë", 1), row("Ada", 0)].join("\n");
    let notes = read("a.jsonl", &differ).notes;
    let expected = "warning: a.jsonl: `answer` and `label` name different choices in 2 of 3 rows, first in line 2: `answer` is taken; --label names the other";
    assert_eq!(notes[1], expected);
    // Nobody asks for what has been named.
    let named = ReadOptions {
        labels: vec![Column::from("label")],
        ..strict()
    };
    let found = try_read("a.jsonl", &differ, &named).unwrap();
    assert_eq!((found.rows[1].right(), found.notes.len()), (Some("Ada"), 1));
    // What cannot be read beside one that can.
    let odd = r#"{"question": "who?", "choices": ["Zoë", "Ada"], "answer": ["Ada"], "label": 1}"#;
    assert_eq!(read_one(odd).right(), Some("Ada"));
}

/// Numbers of a few rows may be counted from 0 or from 1: they are counted as those of the training file.
#[test]
fn the_form_of_another_file_is_kept_where_it_fits() {
    let row = r#"{"question": "who?", "choices": ["a", "b", "c"], "answer": 1}"#;
    let usual = |form| ReadOptions {
        usual: UsualColumns {
            answers: Some(form),
            ..UsualColumns::default()
        },
        ..strict()
    };
    let right = |row: &str, form| {
        let read = try_read("a.jsonl", row, &usual(form));
        read.map(|read| read.rows[0].right().map(str::to_owned))
    };
    let a = |text: &str| Ok(Some(text.to_owned()));
    assert_eq!(right(row, AnswerForm::Number), a("a"));
    assert_eq!(right(row, AnswerForm::Index), a("b"));
    assert_eq!(right(row, AnswerForm::Letter), a("b"));
    // Unless the file shows that it counts otherwise.
    let third = row.replace("1}", "3}");
    assert_eq!(right(&third, AnswerForm::Index), a("c"));
    let zero = row.replace("1}", "0}");
    assert_eq!(right(&zero, AnswerForm::Number), a("a"));
    let both = [zero.as_str(), third.as_str()].join("\n");
    let error = right(&both, AnswerForm::Index).unwrap_err();
    assert!(error.contains("`3` is no number of a choice"), "{error}");
    let letter = row.replace("1}", "\"C\"}");
    assert_eq!(right(&letter, AnswerForm::Index), a("c"));
}

/// Names that people give the column of the right choice, columns by place, and lists that hold more than answers.
#[test]
fn the_right_choice_is_found_by_many_names() {
    for name in [
        "solution",
        "Correct Answer",
        "right",
        "key",
        "Correct answer(s)",
        "AnswerKey",
        "correct-option",
    ] {
        let text = format!("question,Option A,Option B,{name}\nwho?,Zoë,Ada,B\nwhen?,now,then,A\n");
        let read = read("a.csv", &text);
        assert_eq!(read.rows[0].right(), Some("Ada"), "{name}");
        assert_eq!(read.columns.label, [Column::from(name)]);
    }
    let text = "what,A,B,which\nwho?,Zoë,Ada,B\n";
    let by_place = ReadOptions {
        text: Some(Column::Index(0)),
        labels: vec![Column::Index(3)],
        choices: vec![Column::Index(1), Column::Index(2)],
        ..strict()
    };
    let found = try_read("a.csv", text, &by_place).unwrap();
    assert_eq!(found.rows[0].right(), Some("Ada"));
    let error = try_read("a.csv", "question,A,B,which\nwho?,Zoë,Ada,B\n", &strict()).unwrap_err();
    assert!(
        error.contains("no column says which choice is right: found the columns `question`, `A`, `B` and `which`\nhint: name the column with --label"),
        "{error}"
    );
    // ReClor and QuAIL.
    let reclor =
        r#"{"context": "A text.", "question": "who?", "answers": ["Zoë", "Ada"], "label": 1}"#;
    assert_eq!(read_one(reclor).right(), Some("Ada"));
    // A number is meant as one, whatever the texts.
    let digits = r#"{"question": "1 + 1?", "choices": ["1", "2", "0"], "answer": 1}"#;
    assert_eq!(read_one(digits).right(), Some("2"));
}

fn read_one(row: &str) -> ChoiceQuestion {
    read("a.jsonl", row).rows.remove(0)
}

#[test]
fn a_file_to_ask_needs_no_answers() {
    let ask = ReadOptions {
        without_labels: true,
        ..strict()
    };
    for text in [
        r#"{"question": "a?", "choices": ["x", "y"]}"#,
        r#"{"question": "a?", "choices": ["x", "y"], "label": -1}"#,
        r#"{"question": "a?", "choices": ["x", "y"], "answerKey": ""}"#,
        r#"{"question": "a?", "choices": ["x", "y"], "answer": "no such choice"}"#,
        r#"{"question": "a?", "choices": ["x", "y"], "answer": 1}"#,
    ] {
        let read = try_read("a.jsonl", text, &ask).unwrap();
        assert_eq!(
            (read.rows[0].answer, read.columns.answers),
            (None, None),
            "{text}"
        );
        assert!(read.notes.is_empty(), "{text}");
    }
}

#[test]
fn columns_can_be_named() {
    let text = "stem,about,option1,option2,key\nwho?,a text,Zoë,Ada,A\n";
    let named = ReadOptions {
        text: Some(Column::from("stem")),
        text_pair: Some(Column::from("about")),
        labels: vec![Column::from("key")],
        ..strict()
    };
    let rows = try_read("a.csv", text, &named).unwrap().rows;
    assert_eq!((rows[0].answer, rows[0].pair(1).0), (Some(0), "a text"));
    assert_eq!(rows[0].pair(1).1, "who? Ada");
    let usual = ReadOptions {
        usual: UsualColumns {
            text: named.text.clone(),
            text_pair: named.text_pair.clone(),
            label: named.labels.clone(),
            ..UsualColumns::default()
        },
        ..strict()
    };
    let again = try_read("a.csv", text, &usual).unwrap().rows;
    assert_eq!(pairs(&again[0]), pairs(&rows[0]));
    // A file that has other columns is read by those.
    let other = "question,option1,option2,answer\nwho?,Zoë,Ada,B\n";
    let rows = try_read("b.csv", other, &usual).unwrap().rows;
    assert_eq!(rows[0].answer, Some(1));
    let said = try_read("b.csv", other, &named).unwrap_err();
    assert!(
        said.contains("b.csv:2: no `stem`: found the columns"),
        "{said}"
    );
}

#[test]
fn mistakes_name_place_and_remedy() {
    let good = r#"{"question": "a?", "choices": ["x", "y"], "answer": 1}"#;
    let zero = good.replace("1}", "0}");
    for (row, expected) in [
        (
            r#"{"question": "a?", "choices": ["x", "y"], "answer": 2}"#,
            "the answer `2` is no number of a choice: the 2 choices are counted from 0 to 1\nhint: numbers of choices begin at 0; if yours begin at 1, subtract 1, or write letters",
        ),
        (
            r#"{"question": "a?", "choices": ["x", "y"], "answer": "x"}"#,
            "the answer `x` is no number of a choice: the 2 choices are counted from 0 to 1\nhint: most answers of the file are numbers of choices, the first being 0: write this one so",
        ),
        (
            r#"{"question": "a?", "choices": ["x"], "answer": 0}"#,
            "expected at least 2 choices, found 1\nhint: give each row two choices",
        ),
        (
            r#"{"question": "a?", "choice0": "x", "answer": 0}"#,
            "expected at least 2 choices, found 1",
        ),
        (
            r#"{"question": "a?", "choices": ["x", "y"]}"#,
            "the question has no answer\nhint: give the right choice",
        ),
        (
            r#"{"question": "a?", "choices": ["x", " "], "answer": 0}"#,
            "the text in `choices[1]` is empty\nhint: fill in",
        ),
        (
            r#"{"question": "a?", "choices": ["x", {"text": null}], "answer": 0}"#,
            "the text in `choices[0].text` is empty",
        ),
        (
            r#"{"question": "a?", "choices": "x, y", "answer": 0}"#,
            "expected a list as JSON writes it in `choices`, found a string\nhint: write a list such as [\"...\", \"...\"]",
        ),
        (
            r#"{"question": "a?", "choices": {"text": ["x", "y"], "label": ["A"]}, "answer": 0}"#,
            "`choices` has 2 texts and 1 labels",
        ),
        (
            r#"{"question": "a?", "choices": {"text": ["x", "y"], "label": ["A", "A"]}, "answer": 0}"#,
            "two choices in `choices` have the label `A`\nhint: give each choice a label of its own",
        ),
        (
            r#"{"question": "a?", "choices": ["x", "y"], "answer": true}"#,
            "expected a number, a letter or a text in `answer`, found a boolean\nhint: write the right choice by its number from 0, its letter or its text",
        ),
        (
            r#"{"question": "a?", "choice0": "x", "choice2": "y", "answer": 0}"#,
            "the text in `choice1` is empty",
        ),
        (
            r#"{"question": "a?", "optionA": "x", "optionC": "y", "answer": 0}"#,
            "the text in `optionB` is empty",
        ),
        (
            r#"{"question": "a?", "replies": ["x", "y"], "answer": 0}"#,
            "no choices: found the columns `question`, `replies` and `answer`",
        ),
        (
            r#"{"text": "a?", "choices": ["x", "y"], "answer": 0}"#,
            "no question and no context: found the columns",
        ),
        (
            r#"{"question": 3, "choices": ["x", "y"], "answer": 0}"#,
            "expected text in `question`, found a number",
        ),
        (
            r#"{"question": "a?", "choices": ["x", "y"], "answer": [0]}"#,
            "expected a number, a letter or a text in `answer`, found an array",
        ),
    ] {
        let said = try_read("a.jsonl", format!("{good}\n{zero}\n{row}"), &strict()).unwrap_err();
        assert!(
            said.contains(&format!("a.jsonl:3: {expected}")),
            "{row}\n{said}"
        );
        assert!(said.contains("hint: "), "{said}");
        let skip = ReadOptions {
            on_bad_example: OnBad::Skip,
            ..strict()
        };
        let left = try_read("a.jsonl", format!("{good}\n{zero}\n{row}"), &skip).unwrap();
        assert_eq!((left.rows.len(), left.skipped.len()), (2, 1), "{row}");
    }
    // The first choice of a row cannot be the one that is left out: numbers would mean others.
    let said = try_read(
        "a.csv",
        "question,choice1,choice2,choice3,answer\na?,x,y,z,0\nb?,,y,z,0\n",
        &strict(),
    );
    assert!(
        said.unwrap_err()
            .contains("a.csv:3: the text in `choice1` is empty"),
    );
    let labels = vec![Column::from("a"), Column::from("b")];
    let said = try_read("a.jsonl", good, &ReadOptions { labels, ..strict() });
    assert!(said.is_err());
}

#[test]
fn hard_input_is_read_or_refused() {
    let mut inputs: Vec<Vec<u8>> = vec![
        b"\xEF\xBB\xBFquestion,A,B,answer\r\n\"who, \"\"me\"\"?\",x,y,A\r\n".to_vec(),
        b"question,A,B,answer\nwho?,\xff,y,A\n".to_vec(),
        b"{".to_vec(),
        b"[]".to_vec(),
        Vec::new(),
        b"null\n3\n[1]\n".to_vec(),
        br#"{"question": {"stem": null, "choices": null}, "answerKey": null}"#.to_vec(),
        br#"{"question": {"stem": {"stem": 1}}, "choices": ["x", "y"]}"#.to_vec(),
        br#"{"question": "a", "choices": ["x", "y"], "answer": 99999999999999999999}"#.to_vec(),
        br#"{"question": "a", "choice18446744073709551615": "x", "choice0": "y", "answer": 0}"#
            .to_vec(),
        "{\"question\": \"a\", \"option\u{e9}\": \"x\", \"option_\": \"y\", \"choices\": \"[1\"}"
            .into(),
    ];
    let whole = r#"{"context": "c", "question": "a?", "choices": [{"text": "x", "label": "A"}, {"text": "y", "label": "B"}], "answer": "B"}"#;
    inputs.extend(
        (0..whole.len())
            .step_by(3)
            .map(|end| whole.as_bytes()[..end].to_vec()),
    );
    for bytes in inputs {
        for name in ["a.csv", "a.jsonl", "a.json", "a"] {
            let _ = try_read(name, &bytes, &strict());
        }
    }
    let rows = try_read(
        "a.csv",
        b"\xEF\xBB\xBFquestion,A,B,answer\r\n\"who, \"\"me\"\"?\",x,y,A\r\n",
        &strict(),
    );
    assert_eq!(rows.unwrap().rows[0].question, "who, \"me\"?");
    assert!(read_choices(Path::new("absent.csv"), &strict()).is_err());
}

/// A text that was learned from says nothing of new questions about it.
#[test]
fn questions_about_one_text_stay_in_one_part() {
    let rows: Vec<String> = (0..60)
        .map(|i| {
            let text = i / 3;
            format!(r#"{{"context": "text {text}", "question": "{i}?", "choices": ["x", "y"], "answer": 0}}"#)
        })
        .collect();
    let rows = read("a.jsonl", &rows.join("\n")).rows;
    let fractions = Fractions {
        validation: 0.2,
        test: 0.1,
    };
    let split = rows.split(fractions, true, 7).unwrap();
    let sizes = [&split.train, &split.validation, &split.test].map(Vec::len);
    assert_eq!(sizes, [42, 12, 6]);
    let held: Vec<&ChoiceQuestion> = split.validation.iter().chain(&split.test).collect();
    assert!(
        split
            .train
            .iter()
            .all(|row| held.iter().all(|other| other.context != row.context))
    );
}
