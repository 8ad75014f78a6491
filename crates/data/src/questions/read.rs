//! Files of questions. What a file is shows in its content, see [`read_questions`].

use std::path::Path;
use std::sync::Arc;

use serde_json::Value;

use super::{Question, rows, squad};
use crate::chat::Reader;
use crate::tables::{
    Opened, bad_json, each_json, each_object, each_object_by, is_cut_off, open, utf8,
};
use crate::{BadReason, DataError, Format, OnBad, Place, ReadOptions, Skipped};

/// What the columns of a table of questions are called, where not `question`, `context` and `answers` or `answer`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct QuestionColumns {
    /// The questions.
    pub question: Option<String>,
    /// The texts that they are about.
    pub context: Option<String>,
    /// The answers.
    pub answers: Option<String>,
}

/// How to read questions. The default stops at the first bad one.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct QuestionFile {
    /// The columns of rows.
    pub columns: QuestionColumns,
    /// What the file is, where its name does not say it.
    pub format: Option<Format>,
    /// A question without answers is an error, unless the file says that there is none.
    pub require_answers: bool,
    /// The questions are to be asked: one may come without a context, which is then the empty text, and answers are of no interest.
    pub asks: bool,
    /// What to do with bad questions.
    pub on_bad_example: OnBad,
}

/// What [`read_questions`] found.
#[derive(Debug, Clone, PartialEq)]
pub struct Questions {
    /// The good questions, in file order.
    pub rows: Vec<Question>,
    /// The bad ones; empty unless [`OnBad::Skip`].
    pub skipped: Vec<Skipped>,
}

impl Questions {
    /// How many questions have no answer in their context: where there are any, a model must be able to say so.
    pub fn impossible(&self) -> usize {
        let answers = self.rows.iter().filter_map(|row| row.answers.as_ref());
        answers.filter(|answers| answers.is_empty()).count()
    }
}

/// Reads questions about texts.
///
/// | content | what it is |
/// |---|---|
/// | one JSON object with `data` -> `paragraphs` -> `qas` | SQuAD 1.1 or 2.0; `is_impossible` is a question without answer |
/// | rows of `question`, `context`, `answers` | JSON lines, a JSON array, `{"data": [rows]}` or Parquet; answers as `{"text": [...], "answer_start": [...]}` or a list of such |
/// | rows of `question`, `context`, `answer` | the same or CSV; the answer's text, which must stand once in the context unless `answer_start` is there |
///
/// # Errors
/// [`DataError::NoSuchFile`] and the like for the file, [`DataError::BadExample`] with the place of a bad question,
/// [`DataError::AllBad`] where none is good.
///
/// ```
/// use rekindle_data::questions::{QuestionFile, read_questions};
///
/// # let dir = tempfile::tempdir()?;
/// # let path = dir.path().join("train.jsonl");
/// std::fs::write(&path, r#"{"question": "Who naps?", "context": "Zoë naps.", "answer": "Zoë"}"#)?;
/// let read = read_questions(&path, QuestionFile::default())?;
/// let answers = read.rows[0].answers.as_ref().ok_or("no answers")?;
/// assert_eq!((answers[0].start, answers[0].end()), (0, 3));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn read_questions(path: &Path, options: QuestionFile) -> Result<Questions, DataError> {
    let mut reader = Reader::new(options.on_bad_example);
    let shared: Arc<Path> = path.into();
    let place = |line| Place {
        path: Arc::clone(&shared),
        line,
    };
    let mut each = |line, row: Result<_, BadReason>| {
        let row = row.and_then(|row| rows::question(row, &options, place(line)));
        reader.add(place(line), row);
        Ok(())
    };
    match options.format.or_else(|| Format::from_path(path)) {
        Some(format @ (Format::Csv | Format::Tsv)) => {
            let table = ReadOptions {
                format: Some(format),
                ..ReadOptions::default()
            };
            each_object_by(path, &table, each)?;
        }
        _ => match open(path)? {
            Opened::Parquet => each_object(path, each)?,
            Opened::Text(bytes) => match document(&bytes) {
                Document::Data(data, source) => {
                    squad::read(&data, source, path, &options, &mut reader);
                }
                Document::Rows => each_json(&bytes, each)?,
                Document::Damaged(line, reason) => each(line, Err(reason))?,
            },
        },
    }
    let (rows, skipped) = reader.finish(path)?;
    Ok(Questions { rows, skipped })
}

/// What a JSON text is.
enum Document<'a> {
    /// One object with a list `data`, and its source.
    Data(Vec<Value>, &'a str),
    /// Objects on lines, or an array.
    Rows,
    /// Neither: one object over many lines that cannot be read.
    Damaged(u64, BadReason),
}

fn document(bytes: &[u8]) -> Document<'_> {
    let start = bytes.trim_ascii_start();
    if !start.starts_with(b"{") {
        return Document::Rows;
    }
    let first = start
        .split(|&byte| byte == b'\n')
        .next()
        .unwrap_or_default();
    let has_more = first.len() < start.trim_ascii_end().len();
    let is_line = serde_json::from_slice::<serde::de::IgnoredAny>(first).is_ok();
    if has_more && is_line {
        return Document::Rows;
    }
    let source = match utf8(bytes, 1) {
        Ok(source) => source,
        Err((line, reason)) => return Document::Damaged(line, reason),
    };
    match serde_json::from_str::<Value>(source) {
        Ok(Value::Object(mut object)) => match object.remove("data") {
            Some(Value::Array(data)) => Document::Data(data, source),
            // One row, perhaps over many lines.
            data => {
                object.extend(data.map(|data| ("data".to_owned(), data)));
                Document::Data(vec![Value::Object(object)], source)
            }
        },
        Ok(_) => Document::Rows,
        Err(_) if !has_more || !is_cut_off(first) => Document::Rows,
        Err(error) => Document::Damaged(error.line() as u64, bad_json(&error)),
    }
}
