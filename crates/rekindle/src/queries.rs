//! What a model is asked to label: rows of a table, lines, pictures; and its answers, in the same order.

use crate::{
    Error, Observer, Prediction, Predictor, RunConfig,
    examples::read_options,
    inputs::{Pictures, Texts},
};
use rekindle_data::{
    Format, OnBad, ReadOptions, ReadOutcome, Targets,
    image::{ImageSet, find_pictures, pictures_of_table},
    read_examples, read_text,
};
use rekindle_hub::Columns;
use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

/// A text, a pair of texts or a picture that is to be labelled; or why it cannot be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Query {
    /// Where it stands: the line in its file, counted from 1; of Parquet, the row.
    pub line: Option<u64>,
    /// The text, or the name of the picture's file.
    pub text: String,
    /// The second text of a pair.
    pub text_pair: Option<String>,
    /// What is wrong with it.
    pub problem: Option<String>,
}

impl Query {
    /// A text, or a picture by its file. A blank one cannot be labelled.
    pub fn new(line: Option<u64>, text: impl Into<String>) -> Self {
        let text = text.into();
        let problem = text
            .trim()
            .is_empty()
            .then(|| "the text is empty".to_owned());
        Self {
            line,
            text,
            text_pair: None,
            problem,
        }
    }

    /// What cannot be labelled.
    pub fn bad(line: Option<u64>, text: impl Into<String>, problem: impl ToString) -> Self {
        Self {
            problem: Some(problem.to_string()),
            ..Self::new(line, text)
        }
    }

    /// A line of text, or the pictures that it names: a file, or those of a folder.
    #[must_use]
    pub fn of_line(line: u64, text: Result<String, String>, are_pictures: bool) -> Vec<Self> {
        let line = Some(line);
        let text = match text {
            Ok(text) => text,
            Err(problem) => return vec![Self::bad(line, "", problem)],
        };
        if !are_pictures {
            return vec![Self::new(line, text)];
        }
        let name = text.trim();
        if name.is_empty() {
            return Vec::new();
        }
        match find_pictures(name.as_ref()) {
            Ok(files) => files.iter().map(|file| Self::picture(line, file)).collect(),
            Err(error) => vec![Self::bad(line, name, first_line(&error.to_string()))],
        }
    }

    /// The pictures that an argument names: a file, or those of a folder. What is not there is a query without an answer.
    #[must_use]
    pub fn pictures(path: &Path) -> Vec<Self> {
        match find_pictures(path) {
            Ok(files) => files.iter().map(|file| Self::picture(None, file)).collect(),
            Err(error) => {
                let problem = first_line(&error.to_string()).to_owned();
                vec![Self::bad(None, path.to_string_lossy(), problem)]
            }
        }
    }

    fn picture(line: Option<u64>, file: &Path) -> Self {
        match file.to_str() {
            Some(name) => Self::new(line, name),
            None => Self::bad(
                line,
                file.to_string_lossy(),
                "its name is not UTF-8; rename the file",
            ),
        }
    }
}

impl Predictor {
    /// What a file asks: the rows of a table, by the columns that the configuration's `[data]` names or that the model was
    /// tuned on; of any other file, its lines. Rows that cannot be used are among them, with what is wrong.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn read_queries(
        &self,
        path: &Path,
        config: &RunConfig,
        observer: &dyn Observer,
    ) -> Result<Vec<Query>, Error> {
        if Format::from_path(path).is_none() && !path.is_dir() {
            let bytes = read_text(path)?;
            return Ok(lines(&bytes)
                .flat_map(|(line, text)| Query::of_line(line, text, self.takes_pictures()))
                .collect());
        }
        let options = ReadOptions {
            require_label: false,
            without_labels: true,
            on_bad_example: OnBad::Skip,
            usual: self.usual_columns().clone(),
            ..read_options(&self.with_task(config), &Columns::default(), None)
        };
        let read = match self.takes_pictures() {
            true => pictures_of_table(path, &options)?,
            false => read_examples(path, &options)?,
        };
        read.notes.iter().for_each(|note| observer.note(note));
        Ok(rows(read))
    }

    /// Answers, in order, or why there is none.
    ///
    /// # Errors
    /// When the model fails.
    pub fn answer(&self, queries: &[Query]) -> Result<Vec<Result<Prediction, String>>, Error> {
        let asked: Vec<&Query> = queries
            .iter()
            .filter(|query| query.problem.is_none())
            .collect();
        let mut answers = match self.takes_pictures() {
            true => self.answer_pictures(&asked)?,
            false => self.answer_texts(&asked)?,
        }
        .into_iter();
        let missing = || Err("the model gave no answer".to_owned());
        let answer = |query: &Query| match &query.problem {
            Some(problem) => Err(problem.clone()),
            None => answers.next().unwrap_or_else(missing),
        };
        Ok(queries.iter().map(answer).collect())
    }

    fn answer_texts(&self, asked: &[&Query]) -> Result<Vec<Result<Prediction, String>>, Error> {
        let line = |query: &&Query| {
            let (text, pair) = (query.text.clone(), query.text_pair.clone());
            (query.line.unwrap_or(0), text, pair)
        };
        let texts = Texts::of_lines(asked.iter().map(line), self.text_encoder()?)?;
        let answers = self.answers(Arc::new(texts))?.into_iter();
        Ok(answers.map(|(_, answer)| answer).collect())
    }

    fn answer_pictures(&self, asked: &[&Query]) -> Result<Vec<Result<Prediction, String>>, Error> {
        let files: Vec<PathBuf> = asked
            .iter()
            .map(|query| PathBuf::from(&query.text))
            .collect();
        let set = ImageSet::of_files(&files)?;
        let pictures = Arc::new(Pictures::to_evaluate(
            set,
            Targets::None,
            self.preprocess()?,
            OnBad::Skip,
        ));
        let mut answered = self.answers(pictures.clone())?.into_iter().peekable();
        let broken = pictures.broken();
        let answer = |(i, file): (usize, &PathBuf)| {
            if let Some((_, answer)) = answered.next_if(|(example, _)| *example == i) {
                return answer;
            }
            let reason = broken
                .get(file)
                .map_or("not read", |reason| first_line(reason));
            // The file stands beside it.
            let own = format!("{}: ", file.display());
            Err(reason.strip_prefix(&own).unwrap_or(reason).to_owned())
        };
        Ok(files.iter().enumerate().map(answer).collect())
    }
}

/// The good rows of a table and the bad ones, in its order.
fn rows(read: ReadOutcome) -> Vec<Query> {
    let good = read.examples.into_iter().map(|row| Query {
        text_pair: row.text_pair,
        ..Query::new(Some(row.place.line), row.text)
    });
    let bad = read.skipped.into_iter();
    let bad = bad.map(|row| Query::bad(Some(row.place.line), "", row.reason));
    let (mut good, mut bad) = (good, bad);
    let row = |is_good: bool| match is_good {
        true => good.next(),
        false => bad.next(),
    };
    read.good.into_iter().filter_map(row).collect()
}

/// The lines of a text, counted from 1; of one that is no text, why.
fn lines(bytes: &[u8]) -> impl Iterator<Item = (u64, Result<String, String>)> {
    let bytes = bytes.strip_suffix(b"\n").unwrap_or(bytes);
    let lines = (!bytes.is_empty()).then(|| bytes.split(|&byte| byte == b'\n'));
    (1..).zip(lines.into_iter().flatten().map(text_of_line))
}

/// A line without its end as text.
///
/// # Errors
/// In words, where it is not UTF-8.
pub fn text_of_line(line: &[u8]) -> Result<String, String> {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let text = String::from_utf8(line.to_vec());
    text.map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        format!("byte {} of the line is not UTF-8", at + 1)
    })
}

fn first_line(text: &str) -> &str {
    text.lines().next().unwrap_or_default()
}
