//! Files of questions: every shape, every mistake with its place and remedy, and no panic on any bytes.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::Path;

use rekindle_data::OnBad;
use rekindle_data::questions::{Question, QuestionColumns, QuestionFile, read_questions};
use rekindle_data::tokens::slice;

const STRICT: QuestionFile = QuestionFile {
    columns: QuestionColumns {
        question: None,
        context: None,
        answers: None,
    },
    format: None,
    require_answers: true,
    asks: false,
    on_bad_example: OnBad::Error,
};

const SQUAD: &str = r#"{
 "version": "v2.0",
 "data": [
  {"title": "Naps", "paragraphs": [
   {"context": "Zoë naps. Ada works in Paris.",
    "qas": [
     {"id": "a1", "question": "Who naps?",
      "answers": [{"text": "Zoë", "answer_start": 0}, {"text": "Zoë naps", "answer_start": 0}], "is_impossible": false},
     {"id": "a2", "question": "Who sings?", "answers": [], "is_impossible": true,
      "plausible_answers": [{"text": "Ada", "answer_start": 10}]}
    ]},
   {"context": "The fox jumps.",
    "qas": [{"id": "b1", "question": "What jumps?", "answers": [{"text": "fox", "answer_start": 4}]}]}
  ]}
 ]
}
"#;

fn message(name: &str, text: &str, options: QuestionFile) -> String {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(name);
    fs::write(&path, text).unwrap();
    match read_questions(&path, options) {
        Ok(read) => format!("no error: {:?}", read.rows),
        Err(error) => error
            .to_string()
            .replace(&path.display().to_string(), "FILE"),
    }
}

fn read(name: &str, text: &str, options: QuestionFile) -> Vec<Question> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(name);
    fs::write(&path, text).unwrap();
    read_questions(&path, options).unwrap().rows
}

/// The answers of a question, which stand where they say.
fn answers(row: &Question) -> Vec<(&str, usize)> {
    let answers = row.answers.as_ref().unwrap().iter();
    answers
        .map(|answer| {
            assert_eq!(slice(&row.context, answer.start..answer.end()), answer.text);
            (answer.text.as_str(), answer.start)
        })
        .collect()
}

#[test]
fn squad_is_read_with_its_lines() {
    for name in ["dev.json", "dev", "dev.jsonl"] {
        let rows = read(name, SQUAD, STRICT);
        let lines: Vec<u64> = rows.iter().map(|row| row.place.line).collect();
        assert_eq!(lines, [7, 9, 13], "{name}");
        assert_eq!(answers(&rows[0]), [("Zoë", 0), ("Zoë naps", 0)]);
        assert_eq!(answers(&rows[1]), []);
        assert_eq!(answers(&rows[2]), [("fox", 4)]);
        assert_eq!(
            (rows[2].id.as_deref(), &*rows[2].context),
            (Some("b1"), "The fox jumps.")
        );
        // The questions of a paragraph share its text.
        assert!(std::sync::Arc::ptr_eq(&rows[0].context, &rows[1].context));
    }
    // On one line, as it is published.
    let rows = read("dev.json", &SQUAD.replace('\n', ""), STRICT);
    assert_eq!((rows.len(), rows[2].place.line), (3, 1));
}

#[test]
fn rows_of_every_shape() {
    let head = r#""question": "Who works?", "context": "Zoë naps. Ada works, and Ada sings.""#;
    for (rest, expect) in [
        (
            r#""id": 7, "answers": {"text": ["Ada"], "answer_start": [10]}"#,
            vec![("Ada", 10)],
        ),
        (r#""answers": {"text": [], "answer_start": []}"#, vec![]),
        (
            r#""answers": [{"text": "Ada", "answer_start": 25}, {"text": "Ada works", "answer_start": 10}]"#,
            vec![("Ada", 25), ("Ada works", 10)],
        ),
        (
            r#""answers": ["Zoë", "Ada works"]"#,
            vec![("Zoë", 0), ("Ada works", 10)],
        ),
        (r#""answers": {"text": ["naps"]}"#, vec![("naps", 4)]),
        (r#""answer": "Ada works""#, vec![("Ada works", 10)]),
        (r#""answer": "Ada", "answer_start": 25"#, vec![("Ada", 25)]),
        (r#""is_impossible": true, "answers": null"#, vec![]),
        (r#""is_impossible": true, "answer": " ""#, vec![]),
        // The same twice is no contradiction, and lists may have become JSON in the cell of a table.
        (
            r#""answers": ["Zoë", "Ada works"], "answer": "Zoë""#,
            vec![("Zoë", 0), ("Ada works", 10)],
        ),
        (
            r#""answers": "{\"text\": [\"Ada\"], \"answer_start\": [25]}""#,
            vec![("Ada", 25)],
        ),
    ] {
        for (name, text) in [
            ("a.jsonl", format!("{{{head}, {rest}}}\n{{{head}, {rest}}}")),
            (
                "a.json",
                format!("[{{{head},\n {rest}}}, {{{head}, {rest}}}]"),
            ),
            (
                "a.json",
                format!("{{\"data\": [{{{head}, {rest}}},\n{{{head}, {rest}}}]}}"),
            ),
        ] {
            let rows = read(name, &text, STRICT);
            assert_eq!(rows.len(), 2, "{text}");
            assert_eq!(answers(&rows[1]), expect, "{text}");
        }
        // One row over many lines.
        let rows = read("a.json", &format!("{{\n{head},\n{rest}\n}}"), STRICT);
        assert_eq!(answers(&rows[0]), expect);
    }
    let rows = read(
        "a.csv",
        "question,context,answer,answer_start\nWho?,\"Ada, Bob\",Bob,\nWho?,Ada Ada,Ada,4\n",
        STRICT,
    );
    assert_eq!(
        (answers(&rows[0]), answers(&rows[1])),
        (vec![("Bob", 5)], vec![("Ada", 4)])
    );
    // Headers are spelt in many ways.
    let text = "Question, Context ,ANSWER\nWho?,Ada naps.,Ada\n";
    assert_eq!(answers(&read("a.csv", text, STRICT)[0]), [("Ada", 0)]);
    // Without a context, where it may come from elsewhere.
    let options = QuestionFile {
        asks: true,
        ..QuestionFile::default()
    };
    assert_eq!(&*read("a.csv", "question\nWho?\n", options)[0].context, "");
    // Without answers, where none are needed.
    let rows = read("a.jsonl", &format!("{{{head}}}"), QuestionFile::default());
    assert_eq!(rows[0].answers, None);
}

#[test]
fn mistakes_have_place_and_remedy() {
    let flat =
        |rest: &str| format!("{{\"question\": \"Who?\", \"context\": \"Zoë, Ada and Ada\"{rest}}}");
    for (text, expect) in [
        (
            flat(", \"answer\": \"Ada\""),
            "FILE:1: the answer `Ada` in `answer` stands 2 times in the context, first at the characters 5 and 13\nhint: say which with `answer_start`",
        ),
        (
            flat(", \"answer\": \"Bob\""),
            "FILE:1: the answer `Bob` in `answer` does not stand in the context\nhint: an answer must be a piece of the context, letter for letter",
        ),
        (
            flat(", \"answers\": {\"text\": [\"Zoë\", \"Ada\"], \"answer_start\": [0, 6]}"),
            "FILE:1: the answer `Ada` in `answers.text[1]` should begin at character 6 of the context, where `da ` stands\nhint: it stands at character 5: starts count characters (Unicode code points, not bytes) from 0",
        ),
        (
            flat(", \"answers\": {\"text\": [\"Ada\"], \"answer_start\": [99]}"),
            "FILE:1: the answer `Ada` in `answers.text[0]` should begin at character 99 of the context, where nothing stands\nhint: it stands at character 5",
        ),
        (
            flat(", \"answers\": {\"text\": [\"Ada\"], \"answer_start\": [-1]}"),
            "FILE:1: the answer `Ada` in `answers.text[0]` should begin at character -1 of the context, where nothing stands\nhint: ",
        ),
        (
            flat(", \"answers\": {\"text\": [\"Ada\"], \"answer_start\": [5, 13]}"),
            "FILE:1: `answers` has 1 texts and 2 starts\nhint: give every text of an answer its start",
        ),
        (
            flat(", \"answers\": 7"),
            "FILE:1: expected answers in `answers`, found a number\nhint: ",
        ),
        (
            flat(", \"answers\": {\"text\": [\" \"], \"answer_start\": [4]}"),
            "FILE:1: the text in `answers.text[0]` is empty\nhint: ",
        ),
        (
            flat(", \"answers\": {\"text\": [\"Ada\"], \"answer_start\": [1.5]}"),
            "FILE:1: expected a whole number as start in `answers.text[0]`, found a number\nhint: ",
        ),
        (
            flat(""),
            "FILE:1: the question in the row has no answers\nhint: give `answers`; where the context has none, empty lists, or is_impossible = true",
        ),
        (
            "{\"question\": \"Who?\", \"text\": \"x\"}".to_owned(),
            "FILE:1: no `context`: found the keys `question` and `text`\nhint: write `question`, `context` and `answers`",
        ),
        (
            "{\"question\": \"Who?\", \"context\": \" \"}".to_owned(),
            "FILE:1: the text in `context` is empty\nhint: ",
        ),
        (
            "{\"question\": 3, \"context\": \"x\"}".to_owned(),
            "FILE:1: expected text in `question`, found a number\nhint: ",
        ),
        (
            SQUAD.replace("\"answer_start\": 4", "\"answer_start\": 5"),
            "FILE:13: the answer `fox` in `data[0].paragraphs[1].qas[0].answers[0].text` should begin at character 5 of the context, where `ox ` stands\nhint: it stands at character 4",
        ),
        (
            SQUAD.replace("\"question\": \"Who sings?\"", "\"q\": 1"),
            "FILE:9: no `question` in `data[0].paragraphs[0].qas[1]`: found the keys `",
        ),
        (
            SQUAD.replace(
                "\"context\": \"The fox jumps.\"",
                "\"contxt\": \"The fox jumps.\"",
            ),
            "FILE:9: no `context` in `data[0].paragraphs[1]`: found the keys `contxt` and `qas`\nhint: ",
        ),
        (
            SQUAD.replace("\"qas\": [{", "\"qas\": 3, \"x\": [{"),
            "FILE:9: expected a list in `data[0].paragraphs[1].qas`, found a number\nhint: ",
        ),
        (
            SQUAD[..SQUAD.len() - 20].to_owned(),
            "FILE:13: not valid JSON at byte column ",
        ),
        (
            flat(", \"answers\": [\"Zoë\"], \"answer\": \"Bob\""),
            "FILE:1: the row has `answer` and `answers`, which say different things\nhint: leave out the one that is wrong",
        ),
        (
            flat(", \"answers\": [\"Zoë\"], \"is_impossible\": true"),
            "FILE:1: the row has an answer and `is_impossible` = true, which say different things\nhint: ",
        ),
        (" \n".to_owned(), "FILE: the file is empty\nhint: "),
        (
            "{\"data\": []}".to_owned(),
            "FILE: there are no rows\nhint: ",
        ),
        (
            "Who naps? Zoë.".to_owned(),
            "FILE:1: not valid JSON at byte column 1: ",
        ),
    ] {
        let found = message("a.json", &text, STRICT);
        assert!(
            found.starts_with(expect),
            "{text}\nexpected {expect}\nfound {found}"
        );
        assert!(found.contains("\nhint: "), "{found}");
    }
}

#[test]
fn a_column_that_is_there_twice_is_refused() {
    let text = "question,context,context,answer\nWho?,x,Ada naps.,Ada\n";
    assert_eq!(
        message("a.csv", text, STRICT),
        "FILE: 2 columns are named `context`: columns `1` and `2`, counted from 0\nhint: rename or remove all but one"
    );
}

#[test]
fn bad_questions_can_be_left_out() {
    let options = QuestionFile {
        on_bad_example: OnBad::Skip,
        ..STRICT
    };
    let text = SQUAD
        .replace("\"answer_start\": 4", "\"answer_start\": 5")
        .replace("\"question\": \"Who sings?\", ", "");
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.json");
    fs::write(&path, &text).unwrap();
    let read = read_questions(&path, options.clone()).unwrap();
    let lines: Vec<u64> = read.skipped.iter().map(|row| row.place.line).collect();
    assert_eq!((read.rows.len(), lines), (1, vec![9, 13]));
    let all = message("a.jsonl", "{}\nx", options);
    assert!(
        all.starts_with(
            "FILE: all 2 rows are bad; the first, line 1: no `context`: found the keys none\nhint: "
        ),
        "{all}"
    );
}

#[test]
fn columns_of_other_names_are_read_by_these() {
    let columns = |question: &str, context: &str, answers: &str| QuestionFile {
        columns: QuestionColumns {
            question: Some(question.into()),
            context: Some(context.into()),
            answers: Some(answers.into()),
        },
        ..STRICT
    };
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.csv");
    fs::write(&path, "q,passage,found\nWho naps?,Zoë naps.,Zoë\n").unwrap();
    let read = read_questions(&path, columns("q", "passage", "found")).unwrap();
    assert_eq!(read.rows[0].answers.as_ref().unwrap()[0].text, "Zoë");
    let error = read_questions(&path, columns("q", "text", "found")).unwrap_err();
    let error = error.to_string();
    assert!(error.contains("no `text`: found the keys"), "{error}");
}

/// Any bytes are questions or an error with a remedy.
#[test]
fn no_bytes_panic() {
    let flat = "{\"question\": \"Who?\", \"context\": \"Zoë, 日本 x\", \"answers\": {\"text\": [\"日本\"], \"answer_start\": [5]}}\n{\"question\": \"Who?\", \"context\": \"aaa a\", \"answer\": \"aa\"}\n";
    let array = "[{\"question\": \"Who?\", \"context\": \"Zoë x\", \"answers\": [{\"text\": \"x\", \"answer_start\": 4}, \"Zoë\"]},\n{\"data\": [1]}]";
    let inserted: [&[u8]; 12] = [
        b"",
        b"\n",
        b"[",
        b" ",
        b"\"",
        b"]",
        b"}",
        b"-1",
        b"99999999999999999999",
        b"\xFF",
        "\u{301}".as_bytes(),
        b"null",
    ];
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("data");
    let mut tried = 0;
    for (number, seed) in [SQUAD, flat, array].iter().enumerate() {
        for round in 0..1000u64 {
            let random =
                |stream| rekindle_base::rng::hash(12, number as u64, round, stream) as usize;
            let mut bytes = seed.as_bytes().to_vec();
            for change in 0..1 + random(0) as u64 % 3 {
                let at = random(1 + 4 * change) % bytes.len().max(1);
                let until = (at + random(2 + 4 * change) % 4).min(bytes.len());
                let new = inserted[random(3 + 4 * change) % inserted.len()];
                bytes.splice(at..until, new.iter().copied());
            }
            tried += usize::from(no_panic(&path, &bytes));
        }
        for cut in 0..seed.len() {
            no_panic(&path, &seed.as_bytes()[..cut]);
        }
    }
    assert!(tried > 300, "hardly anything was read: {tried}");
}

fn no_panic(path: &Path, bytes: &[u8]) -> bool {
    let _ = fs::remove_file(path);
    fs::write(path, bytes).unwrap();
    let mut good = false;
    for on_bad_example in [OnBad::Error, OnBad::Skip] {
        let options = QuestionFile {
            on_bad_example,
            ..QuestionFile::default()
        };
        match read_questions(path, options) {
            Ok(read) => {
                good = true;
                read.rows
                    .iter()
                    .filter(|row| row.answers.is_some())
                    .for_each(|row| {
                        answers(row);
                    });
            }
            Err(error) => assert!(error.to_string().contains("\nhint: "), "{error}"),
        }
    }
    good
}
