//! What a model is asked to label: rows of a table, lines, pictures; and its answers, in the same order.

use crate::{
    Error, Observer, Prediction, Predictor, RunConfig,
    examples::{read_asked, read_options},
    init::TAGGED,
    inputs::{Choices, Inputs, Pictures, QuestionReader, Questions},
    task::Kind,
};
use rekindle_data::{
    Column, Format, OnBad, Place, ReadOptions, ReadOutcome, Skipped, Targets, TextEncoder,
    choices::{ChoiceQuestion, read_choices},
    image::{ImageSet, find_pictures, pictures_of_table},
    questions::Question,
    read_examples, read_text,
    tokens::{TaggedOptions, read_tagged},
};
use rekindle_hub::Columns;
use std::{
    collections::HashMap,
    ops::Range,
    path::{Path, PathBuf},
    sync::Arc,
};

/// A text, a pair of texts or a picture that is to be labelled; or why it cannot be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Query {
    /// Where it stands: the line in its file, counted from 1; of Parquet, the row.
    pub line: Option<u64>,
    /// What its file calls it, of a question.
    pub id: Option<String>,
    /// The text, the question, or the name of the picture's file.
    pub text: String,
    /// The second text of a pair; what a question is about.
    pub text_pair: Option<String>,
    /// The choices that the question has, of a model that chooses.
    pub choices: Vec<String>,
    /// What is wrong with it.
    pub problem: Option<String>,
    /// Its words as ranges of characters, where its file divides it so; empty where it does not.
    pub(crate) words: Vec<Range<usize>>,
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
            id: None,
            text,
            text_pair: None,
            choices: Vec::new(),
            problem,
            words: Vec::new(),
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
        if self.task().kind() == Kind::Tags && has_words_or_spans(path) {
            return self.read_tagged(path, config, observer);
        }
        let is_table = config.data.format.is_some() || Format::from_path(path).is_some();
        if self.reads_questions().is_some() && (is_table || is_of_objects(path)) {
            return self.read_asked(path, config);
        }
        if self.reads_choices().is_some() && (is_table || is_of_objects(path)) {
            return self.read_choices(path, config, observer);
        }
        if !is_table && !path.is_dir() {
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

    /// The texts of a file of words or of JSON; what is labelled in it is of no interest.
    fn read_tagged(
        &self,
        path: &Path,
        config: &RunConfig,
        observer: &dyn Observer,
    ) -> Result<Vec<Query>, Error> {
        let columns = read_options(&self.with_task(config), &Columns::default(), None);
        let usual = self.usual_columns();
        let read = |text: Option<Column>, tags: Option<Column>| {
            let options = TaggedOptions {
                text,
                tags,
                names: self.labels().to_vec(),
                require_tags: false,
                on_bad_example: OnBad::Skip,
            };
            read_tagged(path, &options)
        };
        let named = (columns.text, columns.labels.into_iter().next());
        let with_usual = (
            named.0.clone().or_else(|| usual.text.clone()),
            named.1.clone().or_else(|| usual.label.first().cloned()),
        );
        let read = match read(with_usual.0.clone(), with_usual.1.clone()) {
            // A file of another kind than the training file.
            Err(_) if with_usual != named => read(named.0, named.1)?,
            other => other?,
        };
        read.notes.iter().for_each(|note| observer.note(note));
        let has_words = read.has_words;
        let good = read.rows.into_iter().map(|row| Query {
            words: if has_words { row.words } else { Vec::new() },
            ..Query::new(Some(row.place.line), row.text)
        });
        Ok(with_bad(good, read.skipped))
    }

    /// The questions of a file with what they are about; what answers them is of no interest.
    fn read_asked(&self, path: &Path, config: &RunConfig) -> Result<Vec<Query>, Error> {
        let options = ReadOptions {
            require_label: false,
            on_bad_example: OnBad::Skip,
            usual: self.usual_columns().clone(),
            ..read_options(&self.with_task(config), &Columns::default(), None)
        };
        let read = read_asked(path, &options)?;
        let good = read.rows.into_iter().map(|row| Query {
            id: row.id,
            text_pair: (!row.context.is_empty()).then(|| row.context.to_string()),
            ..Query::new(Some(row.place.line), row.question)
        });
        Ok(with_bad(good, read.skipped))
    }

    /// The questions of a file with their choices; which are right is of no interest.
    fn read_choices(
        &self,
        path: &Path,
        config: &RunConfig,
        observer: &dyn Observer,
    ) -> Result<Vec<Query>, Error> {
        let options = ReadOptions {
            without_labels: true,
            on_bad_example: OnBad::Skip,
            usual: self.usual_columns().clone(),
            ..read_options(&self.with_task(config), &Columns::default(), None)
        };
        let read = read_choices(path, &options)?;
        read.notes.iter().for_each(|note| observer.note(note));
        let good = read.rows.into_iter().map(|row| Query {
            text_pair: row.context,
            choices: row.choices,
            ..Query::new(Some(row.place.line), row.question)
        });
        Ok(with_bad(good, read.skipped))
    }

    /// Answers, in order, or why there is none.
    ///
    /// # Errors
    /// When the model fails.
    pub fn answer(&self, queries: &[Query]) -> Result<Vec<Result<Prediction, String>>, Error> {
        let missing = |query: &Query| {
            let no_text = query.text_pair.is_none() && self.reads_questions().is_some();
            let no_choice = query.choices.len() < 2 && self.reads_choices().is_some();
            match (no_text, no_choice) {
                (true, _) => Some("there is no text to find the answer in; --context gives one"),
                (_, true) => Some("there are no two choices; --choice gives one, and another"),
                _ => None,
            }
        };
        let problem = |query: &Query| match &query.problem {
            None => missing(query).map(str::to_owned),
            problem => problem.clone(),
        };
        let asked: Vec<&Query> = queries
            .iter()
            .filter(|query| problem(query).is_none())
            .collect();
        let mut answers = match (self.reads_questions(), self.reads_choices()) {
            _ if self.takes_pictures() => self.answer_pictures(&asked)?,
            (Some(reader), _) => self.answer_questions(&asked, reader)?,
            (_, Some(encoder)) => self.answer_choices(&asked, encoder)?,
            (None, None) => self.answer_texts(&asked)?,
        }
        .into_iter();
        let none = || Err("the model gave no answer".to_owned());
        let answer = |query: &Query| match problem(query) {
            Some(problem) => Err(problem),
            None => answers.next().unwrap_or_else(none),
        };
        Ok(queries.iter().map(answer).collect())
    }

    fn answer_texts(&self, asked: &[&Query]) -> Result<Vec<Result<Prediction, String>>, Error> {
        let answers = self.answers(self.set_of(asked)?)?.into_iter();
        Ok(answers.map(|(_, answer)| answer).collect())
    }

    fn answer_choices(
        &self,
        asked: &[&Query],
        encoder: &TextEncoder,
    ) -> Result<Vec<Result<Prediction, String>>, Error> {
        let path: Arc<Path> = Path::new("").into();
        let question = |(line, query): (u64, &&Query)| ChoiceQuestion {
            context: query.text_pair.clone(),
            question: query.text.clone(),
            choices: query.choices.clone(),
            answer: None,
            place: Place {
                path: Arc::clone(&path),
                line,
            },
        };
        let questions = (1..).zip(asked).map(question).collect();
        let answers = self.answers(Arc::new(Choices::encode(questions, encoder)?))?;
        Ok(answers.into_iter().map(|(_, answer)| answer).collect())
    }

    fn answer_questions(
        &self,
        asked: &[&Query],
        reader: &QuestionReader,
    ) -> Result<Vec<Result<Prediction, String>>, Error> {
        let path: Arc<Path> = Path::new("").into();
        // Many questions are about one text.
        let mut texts: HashMap<&str, Arc<str>> = HashMap::new();
        let mut questions: Vec<Question> = Vec::new();
        for (line, query) in (0..).zip(asked) {
            let context = query.text_pair.as_deref().unwrap_or_default();
            let context = texts.entry(context).or_insert_with(|| context.into());
            questions.push(Question {
                id: None,
                question: query.text.clone(),
                context: Arc::clone(context),
                answers: None,
                place: Place {
                    path: Arc::clone(&path),
                    line,
                },
            });
        }
        let set = Arc::new(Questions::encode(questions, &reader.leaving_out())?);
        let skipped = &set.asked().set().skipped;
        let mut answers: Vec<Result<Prediction, String>> = vec![Err(String::new()); asked.len()];
        for left_out in skipped {
            answers[left_out.place.line as usize] = Err(left_out.reason.to_string());
        }
        for (example, answer) in self.answers(Arc::clone(&set) as Arc<dyn Inputs>)? {
            answers[set.number(example)] = answer;
        }
        Ok(answers)
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

/// Good rows and bad ones, by their lines.
fn with_bad(good: impl Iterator<Item = Query>, skipped: Vec<Skipped>) -> Vec<Query> {
    let bad = skipped.into_iter();
    let bad = bad.map(|row| Query::bad(Some(row.place.line), "", row.reason));
    let mut queries: Vec<Query> = good.chain(bad).collect();
    queries.sort_by_key(|query| query.line);
    queries
}

/// Whether a file holds rows, by its name: anything else is lines.
fn is_of_objects(path: &Path) -> bool {
    let ending = path.extension().and_then(|ending| ending.to_str());
    Format::from_path(path).is_some()
        || ending.is_some_and(|ending| ending.eq_ignore_ascii_case("json"))
}

/// Whether a file is one of words, or of JSON, by its name.
fn has_words_or_spans(path: &Path) -> bool {
    let ending = path.extension().and_then(|ending| ending.to_str());
    let ending = ending.unwrap_or_default().to_lowercase();
    match Format::from_path(path) {
        Some(Format::Csv) => false,
        Some(_) => true,
        None => TAGGED.contains(&ending.as_str()),
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

/// The text of a file, which is UTF-8, or UTF-16 with a byte order mark.
///
/// # Errors
/// When it cannot be read, or is no text.
pub fn text_of_file(path: &Path) -> Result<String, Error> {
    String::from_utf8(read_text(path)?).map_err(|_| Error::ModelDir {
        path: path.to_owned(),
        reason: "not UTF-8".into(),
        hint: "convert it, for example with `iconv -f latin1 -t utf-8`".into(),
    })
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
