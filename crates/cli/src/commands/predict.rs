//! `rekindle predict`

use super::{Columns, device, overrides};
use crate::{
    output::{Output, OutputError, spelt_out},
    printer::Printer,
    target::{self, Form},
    terminal,
};
use anyhow::bail;
use clap::Args;
use rekindle::{
    Kind, LabelledSpan, Prediction, Predictor, Query, RatedChoice, RunConfig, Task,
    config::OnBadExample, find_pictures, text_of_file, text_of_line,
};
use serde_json::{Map, Value};
use std::{
    ffi::{OsStr, OsString},
    io::{self, BufRead, IsTerminal},
    path::{Path, PathBuf},
    sync::mpsc,
};

/// Label texts or pictures, answer questions, or choose among answers: those named, those of a file, or those that come in.
///
/// In a terminal the most probable answers with bars, or the text with its spans marked; elsewhere a JSON object a line: where it stands, the text (or the picture's file) and the answer with its probabilities.
/// What cannot be labelled, such as an empty field or a damaged picture, gets a line with `error`; the others are labelled, and the exit code is 1, or 0 with --set data.on_bad_example=skip.
#[derive(Args)]
#[command(
    after_help = "Examples:\n  rekindle predict runs/minilm-tickets \"my parcel never came\"\n  rekindle predict runs/minilm-tickets --file new.csv --output answers.jsonl\n  tail -f chat.log | rekindle predict runs/minilm-tickets --brief\n  rekindle predict runs/resnet50-flowers holiday/ --top 3\n  rekindle predict runs/minilm-manuals --context manual.txt \"how long is the warranty?\"\n  rekindle predict runs/minilm-quiz \"what do bees make?\" --choice honey --choice milk"
)]
pub struct Predict {
    /// Run directory, model or adapter directory, or Hugging Face name
    model: PathBuf,
    /// Texts, or for an image model files and folders of pictures; without any and without --file, or for -, lines of standard input,
    /// which --set data.format=csv, tsv or jsonl reads as a table
    texts: Vec<OsString>,
    /// File of texts: CSV, TSV, JSONL or Parquet by its columns (those of the training file, where it has them), anything else a text a line
    #[arg(long, value_name = "FILE", conflicts_with = "texts")]
    file: Option<PathBuf>,
    /// What the texts are asked about, of a model that answers questions; the second text of every pair, of one that was tuned on
    /// pairs. The name of a file stands for the text in it
    #[arg(long, value_name = "TEXT")]
    context: Option<OsString>,
    /// A choice of every question that has none of its own, of a model that was tuned on multiple choice; once for each
    #[arg(long, value_name = "TEXT")]
    choice: Vec<String>,
    #[command(flatten)]
    columns: Columns,
    /// auto, cpu, wgpu, wgpu:N, cuda or cuda:N
    #[arg(long)]
    device: Option<String>,
    /// Only the N most probable labels of each
    #[arg(long, value_name = "N")]
    top: Option<usize>,
    /// Write the answers to this file, a JSON object a line
    #[arg(long, value_name = "FILE", conflicts_with = "brief")]
    output: Option<PathBuf>,
    /// Only the answer, its probability and the text, separated by tabs; several labels, and their probabilities, by commas
    #[arg(long, conflicts_with_all = ["json", "top"])]
    brief: bool,
    /// A JSON object a line, in a terminal too
    #[arg(long)]
    json: bool,
    /// A setting of how data is read, as section.key=value
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
}

/// What is labelled together at most.
pub(super) const CHUNK: usize = 256;
/// Labels shown in a terminal.
const SHOWN: usize = 3;

impl Predict {
    pub fn run(self) -> anyhow::Result<()> {
        if self.top == Some(0) {
            bail!("--top is 0, expected how many labels are wanted, 1 or more");
        }
        // Standard output is `-`.
        let output = self.output.as_ref().filter(|path| path.as_os_str() != "-");
        if let Some(path) = output {
            let inputs = self.file.iter().map(PathBuf::as_path);
            let inputs: Vec<&Path> = inputs.chain(self.texts.iter().map(Path::new)).collect();
            target::check(path, Form::Answers, &inputs)?;
        }
        let device = device(self.device.as_ref())?;
        let printer = Printer::new();
        let mut predictor = Predictor::open(&self.model, device, &printer)?;
        printer.clear();
        predictor.check_predicts()?;
        let config = predictor.configure(&overrides(self.columns.overrides(), &self.set))?;
        let context = match &self.context {
            Some(_) if !predictor.reads_pairs() => bail!(
                "--context is for models that answer questions or compare two texts; this one takes one text\nhint: leave it out"
            ),
            Some(named) => Some(context(named)?),
            None => None,
        };
        if !self.choice.is_empty() && predictor.task() != Task::MultipleChoice {
            bail!(
                "--choice is for models that were tuned on multiple choice; this one was tuned for {}\nhint: leave it out",
                predictor.task()
            );
        }
        if self.choice.iter().any(|choice| choice.trim().is_empty()) {
            bail!(
                "--choice is empty, expected a text\nhint: give each choice a text, or leave it out"
            );
        }
        let mut answers = Answers {
            predictor: &predictor,
            context,
            choices: self.choice.clone(),
            out: match output {
                Some(path) => Output::to_file(path)?,
                None => Output::new(),
            },
            style: self.style(),
            name: self.file.clone(),
            asked: 0,
            failed: Vec::new(),
            alone: 0,
            own: 0,
            own_choices: 0,
        };
        match self.named(&predictor, &config, &printer)? {
            Some(queries) => {
                let mut left = queries.as_slice();
                let progress = printer.counter(queries.len(), CHUNK);
                while !left.is_empty() {
                    let (chunk, rest) = left.split_at(CHUNK.min(left.len()));
                    answers.label(chunk)?;
                    progress.inc(chunk.len() as u64);
                    left = rest;
                }
                progress.finish_and_clear();
            }
            None => {
                if io::stdin().is_terminal() {
                    let kind = match predictor.takes_pictures() {
                        true => "files of pictures",
                        false => "texts",
                    };
                    printer.say(&format!(
                        "reading {kind} from the terminal, one a line; end with Ctrl-D"
                    ));
                }
                let lines = lines_of_stdin();
                let mut first = true;
                while let Some(queries) = ready(&lines, predictor.takes_pictures())? {
                    if std::mem::take(&mut first) && queries.iter().take(1).any(is_object) {
                        printer.say("warning: the first line is a JSON object, and labelled as it stands\nhint: --set data.format=jsonl reads its fields");
                    }
                    answers.label(&queries)?;
                }
            }
        }
        answers.out.finish()?;
        if answers.own > 0 && answers.context.is_some() {
            printer.say(&format!(
                "warning: {} of {} rows have a text of their own to be asked about: --context was for the others",
                answers.own, answers.asked
            ));
        }
        if answers.own_choices > 0 && !answers.choices.is_empty() {
            printer.say(&format!(
                "warning: {} of {} questions have choices of their own: --choice was for the others",
                answers.own_choices, answers.asked
            ));
        }
        let needs_none = [Task::QuestionAnswering, Task::MultipleChoice];
        if answers.alone > 0 && !needs_none.contains(&predictor.task()) {
            printer.say(&format!("warning: the model was tuned on pairs of texts, and {} of {} texts had no second one: --context gives it, or a table with both columns, --file and --text-pair", answers.alone, answers.asked));
        }
        say_failed(&answers.failed, answers.asked, "labelled", &config)
    }

    /// What the arguments and the file ask for; `None` for standard input.
    fn named(
        &self,
        predictor: &Predictor,
        config: &RunConfig,
        printer: &Printer,
    ) -> anyhow::Result<Option<Vec<Query>>> {
        let dash = OsStr::new("-");
        match &self.file {
            Some(path) if path.as_os_str() != dash => {
                return Ok(Some(predictor.read_queries(path, config, printer)?));
            }
            None if !self.texts.is_empty() && self.texts != [dash] => {}
            // Standard input is a table where its format is named, else lines as they come.
            _ if config.data.format.is_some() => {
                let stdin = Path::new("/dev/stdin");
                return Ok(Some(predictor.read_queries(stdin, config, printer)?));
            }
            _ => return Ok(None),
        }
        if predictor.takes_pictures() {
            let mut queries = Vec::new();
            for name in &self.texts {
                // Of a single one it is said at once, with what lies beside it.
                if self.texts.len() == 1 {
                    find_pictures(name.as_ref())?;
                }
                queries.extend(Query::pictures(name.as_ref()));
            }
            return Ok(Some(queries));
        }
        let mut texts = Vec::new();
        for text in &self.texts {
            match text.to_str() {
                Some(text) => texts.push(text.to_owned()),
                None => bail!(
                    "`{}` is not UTF-8\nhint: convert the text, for example with `iconv -f latin1 -t utf-8`",
                    text.to_string_lossy()
                ),
            }
        }
        let read = |path: &Path| Ok(predictor.read_queries(path, config, printer)?);
        let queries = of_arguments(&texts, ("labelled", "labels"), read, printer)?;
        Ok(Some(queries))
    }

    fn style(&self) -> Style {
        let is_shown = self.output.is_none() && !self.json && io::stdout().is_terminal();
        match (self.brief, is_shown) {
            (true, _) => Style::Brief,
            (false, true) => Style::Bars(self.top.unwrap_or(SHOWN)),
            (false, false) => Style::Json(self.top),
        }
    }
}

/// Texts that are arguments, or the rows of the file that a single one names; with what is `done` to them ("labelled", "labels").
pub(super) fn of_arguments(
    texts: &[String],
    (done, does): (&str, &str),
    read: impl Fn(&Path) -> anyhow::Result<Vec<Query>>,
    printer: &Printer,
) -> anyhow::Result<Vec<Query>> {
    // A pipe is one too.
    let is_file = |text: &&String| {
        let path = Path::new(text.as_str());
        path.exists() && !path.is_dir()
    };
    match texts {
        [only] if !is_file(&only) && is_table_name(only) => {
            printer.say(&format!(
                "warning: there is no file `{only}`: it is {done} as a text"
            ));
        }
        [only] if is_file(&only) => {
            printer.say(&format!(
                "`{only}` is a file: its rows are {done}, as with --file"
            ));
            return read(only.as_ref());
        }
        several => {
            for file in several.iter().filter(is_file) {
                printer.say(&format!(
                    "warning: `{file}` is a file, and {done} as a text\nhint: --file {file} {does} its rows"
                ));
            }
        }
    }
    Ok(texts.iter().map(|text| Query::new(None, text)).collect())
}

/// A problem with its place: a line of a file, or of what comes in.
pub(super) fn placed(file: Option<&Path>, line: Option<u64>, problem: &str) -> String {
    match (file, line) {
        (Some(path), Some(line)) => format!("{}:{line}: {problem}", path.display()),
        (None, Some(line)) => format!("line {line}: {problem}"),
        (_, None) => problem.to_owned(),
    }
}

/// Whether a line is a JSON object.
fn is_object(query: &Query) -> bool {
    serde_json::from_str::<Map<String, Value>>(&query.text).is_ok()
}

/// Whether a text reads like the name of a table.
fn is_table_name(text: &str) -> bool {
    const TABLES: [&str; 6] = [".csv", ".tsv", ".jsonl", ".json", ".parquet", ".txt"];
    !text.contains(char::is_whitespace) && TABLES.iter().any(|ending| text.ends_with(ending))
}

/// How answers are written.
enum Style {
    /// With the most probable labels, where not all are wanted.
    Json(Option<usize>),
    Brief,
    /// So many labels.
    Bars(usize),
}

/// Answers on their way out.
struct Answers<'a> {
    predictor: &'a Predictor,
    /// The second text of what has none.
    context: Option<String>,
    /// The choices of what has none.
    choices: Vec<String>,
    out: Output,
    style: Style,
    /// The file that is labelled.
    name: Option<PathBuf>,
    asked: usize,
    /// What was not labelled: its place and why.
    failed: Vec<String>,
    /// Texts without a second one, of a model of pairs.
    alone: usize,
    /// Texts that brought their second one.
    own: usize,
    /// Questions that brought their choices.
    own_choices: usize,
}

impl Answers<'_> {
    /// Labels what is asked, and sends the answers out.
    fn label(&mut self, asked: &[Query]) -> anyhow::Result<()> {
        let completed: Vec<Query>;
        let queries = match self.context.is_none() && self.choices.is_empty() {
            true => asked,
            false => {
                completed = asked.iter().map(|query| self.completed(query)).collect();
                &completed
            }
        };
        let answers = self.predictor.answer(queries)?;
        let pairs = self.predictor.reads_pairs();
        for ((query, answer), asked) in queries.iter().zip(answers).zip(asked) {
            self.asked += 1;
            self.own += usize::from(asked.text_pair.is_some());
            self.own_choices += usize::from(!asked.choices.is_empty());
            self.alone +=
                usize::from(pairs && query.text_pair.is_none() && query.problem.is_none());
            if let Err(problem) = &answer {
                self.failed.push(self.failure(query, problem));
            }
            self.write(query, asked, answer)?;
        }
        Ok(self.out.flush()?)
    }

    /// A query with what is the same for all where it has nothing of its own.
    fn completed(&self, query: &Query) -> Query {
        let mut query = query.clone();
        query.text_pair = query.text_pair.or_else(|| self.context.clone());
        if query.choices.is_empty() {
            query.choices.clone_from(&self.choices);
        }
        query
    }

    fn failure(&self, query: &Query, problem: &str) -> String {
        let picture = match self.predictor.takes_pictures() {
            true => query.text.as_str(),
            false => "",
        };
        let problem = match picture.is_empty() || problem.contains(picture) {
            true => problem.to_owned(),
            false => format!("{picture}: {problem}"),
        };
        placed(self.name.as_deref(), query.line, &problem)
    }

    /// Sends an answer out, with what was `asked` before --context was put beside it.
    fn write(
        &mut self,
        query: &Query,
        asked: &Query,
        answer: Result<Prediction, String>,
    ) -> Result<(), OutputError> {
        match &self.style {
            Style::Json(top) => {
                let mut object = Map::new();
                if let Some(line) = query.line {
                    object.insert("line".into(), line.into());
                }
                if let Some(id) = &query.id {
                    object.insert("id".into(), id.as_str().into());
                }
                let (kind, second) = match self.predictor.task().kind() {
                    _ if self.predictor.takes_pictures() => ("file", "text_pair"),
                    Kind::Extraction | Kind::Choice => ("question", "context"),
                    _ => ("text", "text_pair"),
                };
                if !query.text.is_empty() || query.problem.is_none() {
                    object.insert(kind.into(), query.text.as_str().into());
                }
                // What is the same for all was given by whoever asks.
                if let Some(pair) = &asked.text_pair {
                    object.insert(second.into(), pair.as_str().into());
                }
                match answer {
                    Ok(answer) => object.extend(answer.most_probable(*top).to_json()),
                    Err(problem) => {
                        object.insert("error".into(), problem.into());
                    }
                }
                self.out.line(Value::Object(object))
            }
            Style::Brief => {
                // A text of several lines must not look like several answers.
                let text = match query.text.contains(['\n', '\r']) {
                    true => Value::from(query.text.as_str()).to_string(),
                    false => query.text.clone(),
                };
                let answer = answer.map_or_else(
                    |_| self.predictor.brief_without_answer(),
                    |answer| answer.brief(),
                );
                self.out.line(format_args!("{answer}\t{text}"))
            }
            Style::Bars(top) => {
                if let Ok(Prediction::Spans { text, spans }) = &answer {
                    let colours = terminal::get().colours_out;
                    return self.out.piece(marked(text, spans, colours));
                }
                // Of a long text a question tells enough.
                let pair = query.text_pair.as_ref();
                let pair = pair.filter(|_| !matches!(answer, Ok(Prediction::Answer { .. })));
                for text in [Some(&query.text), pair].into_iter().flatten() {
                    self.out.line(text)?;
                }
                match answer {
                    Ok(answer) => self.out.line(bars(&answer.most_probable(Some(*top)))),
                    Err(problem) => self.out.line(format_args!("  not labelled: {problem}")),
                }
            }
        }
    }
}

/// What was not `done` ("labelled"), at the end.
pub(super) fn say_failed(
    failed: &[String],
    asked: usize,
    done: &str,
    config: &RunConfig,
) -> anyhow::Result<()> {
    const NAMED: usize = 10;
    if failed.is_empty() {
        return Ok(());
    }
    let named: Vec<&str> = failed.iter().take(NAMED).map(String::as_str).collect();
    let more = match failed.len().saturating_sub(NAMED) {
        0 => String::new(),
        more => format!("\n  and {more} more"),
    };
    let text = format!(
        "{} of {asked} not {done}:\n  {}{more}",
        failed.len(),
        named.join("\n  ")
    );
    if config.data.on_bad_example == OnBadExample::Skip {
        crate::printer::to_stderr(&format!("warning: {text}"));
        return Ok(());
    }
    let convert = match failed.iter().any(|failed| failed.contains("not UTF-8")) {
        true => "convert the text, for example with `iconv -f latin1 -t utf-8`; ",
        false => "",
    };
    bail!("{text}\nhint: {convert}--set data.on_bad_example=skip goes on without them")
}

/// A text as a terminal shows it: its spans in brackets with what they are, then each span with its score. Control characters
/// are spelt out.
fn marked(text: &str, spans: &[LabelledSpan], colours: bool) -> String {
    let (bold, faint, plain) = match colours {
        true => ("\x1b[1;36m", "\x1b[2m", "\x1b[0m"),
        false => ("", "", ""),
    };
    let characters: Vec<char> = text.chars().collect();
    let piece = |start: usize, end: usize| {
        let piece: String = characters[start.min(end)..end].iter().collect();
        spelt_out(&piece).into_owned()
    };
    let (mut out, mut at) = (String::new(), 0);
    for span in spans {
        let (start, end) = (span.start, span.end.min(characters.len()));
        let label = spelt_out(&span.label);
        out += &piece(at, start);
        out += &format!(
            "{bold}[{}{plain} {faint}{label}{plain}{bold}]{plain}",
            piece(start, end)
        );
        at = end;
    }
    out += &piece(at, characters.len());
    let width = spans.iter().map(|span| span.label.chars().count()).max();
    let width = width.unwrap_or(0);
    let rows = spans.iter().map(|span| {
        let (label, text) = (spelt_out(&span.label), spelt_out(&span.text));
        format!(
            "  {label:width$}  {:5.1} %  {}\n",
            100.0 * span.score,
            text.replace('\n', " ")
        )
    });
    let rows: String = match spans {
        [] => "  nothing found\n".to_owned(),
        _ => rows.collect(),
    };
    format!("{out}\n{rows}\n")
}

/// The text that questions are asked about: the argument, or what stands in the file of its name.
fn context(named: &OsStr) -> anyhow::Result<String> {
    let path = Path::new(named);
    if path.is_dir() {
        bail!(
            "{}: a folder, expected a text or a file of text for --context\nhint: name one file",
            path.display()
        );
    }
    if path.exists() {
        let text = text_of_file(path)?;
        if text.trim().is_empty() {
            bail!("{}: the file is empty", path.display());
        }
        return Ok(text);
    }
    match named.to_str() {
        Some(text) if text.trim().is_empty() => {
            bail!("--context is empty, expected a text or a file")
        }
        Some(text) if is_file_name(text) => bail!(
            "{text}: no such file, named by --context\nhint: check the path; a text has several words"
        ),
        Some(text) => Ok(text.to_owned()),
        None => bail!("--context is not UTF-8, and no file is called so"),
    }
}

/// Whether a text reads like the name of a file of text: one word with an ending, or several with an ending that such files have.
fn is_file_name(text: &str) -> bool {
    const TEXTS: [&str; 7] = ["txt", "md", "html", "pdf", "docx", "rst", "log"];
    let ending = Path::new(text).extension().and_then(OsStr::to_str);
    ending.is_some_and(|ending| {
        let is_text = TEXTS.contains(&ending.to_ascii_lowercase().as_str());
        !text.contains(char::is_whitespace) || (is_text && !text.contains('\n'))
    })
}

/// An answer on a line of a terminal.
fn shortened(text: &str) -> String {
    const MOST: usize = 60;
    let line = spelt_out(text).replace('\n', " ");
    match line.char_indices().nth(MOST) {
        Some((end, _)) => format!("{} ...", &line[..end]),
        None => line,
    }
}

/// An answer as a terminal shows it: a bar for each label, the given ones marked.
fn bars(answer: &Prediction) -> String {
    const WIDTH: f64 = 24.0;
    const EIGHTHS: [&str; 8] = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"];
    let answers: Vec<(String, f64)>;
    let (rows, given): (&[(String, f64)], &[String]) = match answer {
        Prediction::Answer {
            answer,
            probability,
            others,
            ..
        } => {
            let best = answer.as_ref().map_or("no answer", |answer| &answer.text);
            let others = others.iter().map(|other| (&*other.text, other.probability));
            let all = std::iter::once((best, *probability)).chain(others);
            let shown = |(text, p): (&str, f64)| (shortened(text), p);
            answers = all.map(shown).collect();
            (&answers, &[])
        }
        Prediction::Choice { choices, .. } => {
            let shown = |choice: &RatedChoice| (shortened(&choice.text), choice.probability);
            answers = choices.iter().map(shown).collect();
            (&answers, &[])
        }
        Prediction::Class { probabilities, .. } => (probabilities, &[]),
        Prediction::Labels {
            probabilities,
            labels,
        } => (probabilities, labels),
        Prediction::Numbers { values } => {
            let lines = values
                .iter()
                .map(|(name, value)| format!("  {name}  {value:.4}\n"));
            return lines.collect();
        }
        _ => return format!("  {}\n", answer.brief()),
    };
    let width = rows
        .iter()
        .map(|(name, _)| name.chars().count())
        .max()
        .unwrap_or(0);
    let row = |(name, p): &(String, f64)| {
        let eighths = (p.clamp(0.0, 1.0) * WIDTH * 8.0).round() as usize;
        let bar = "█".repeat(eighths / 8) + EIGHTHS[eighths % 8];
        let mark = if given.contains(name) { "✓" } else { " " };
        format!("{mark} {name:width$}  {bar:24}  {:5.1} %\n", 100.0 * p)
    };
    rows.iter().map(row).collect()
}

/// Lines of standard input as they come in, each with its number: read by a thread, so that what has come can be answered
/// while nothing more comes.
pub(super) fn lines_of_stdin() -> mpsc::Receiver<io::Result<(u64, Result<String, String>)>> {
    let (sender, lines) = mpsc::sync_channel(4 * CHUNK);
    std::thread::spawn(move || {
        let mut input = io::stdin().lock();
        for number in 1.. {
            let mut bytes = Vec::new();
            let line = match input.read_until(b'\n', &mut bytes) {
                Ok(0) => return,
                Ok(_) => Ok((number, text_of_line(&bytes))),
                Err(error) => Err(error),
            };
            let is_last = line.is_err();
            if sender.send(line).is_err() || is_last {
                return;
            }
        }
    });
    lines
}

/// What has come in, at least a line, waiting for it; `None` at the end.
pub(super) fn ready(
    lines: &mpsc::Receiver<io::Result<(u64, Result<String, String>)>>,
    are_pictures: bool,
) -> anyhow::Result<Option<Vec<Query>>> {
    let Ok(first) = lines.recv() else {
        return Ok(None);
    };
    let mut queries = Vec::new();
    for line in std::iter::once(first).chain(lines.try_iter()).take(CHUNK) {
        let (number, text) = line?;
        queries.extend(Query::of_line(number, text, are_pictures));
    }
    Ok(Some(queries))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_marked_in_their_text() {
        let span = |start, end, label: &str, text: &str| LabelledSpan {
            start,
            end,
            label: label.into(),
            score: 0.5,
            text: text.into(),
        };
        let spans = [span(0, 3, "who", "Zoë"), span(9, 11, "place", "日本")];
        assert_eq!(
            marked("Zoë left 日本\u{7}", &spans, false),
            "[Zoë who] left [日本 place]\\u{7}\n  who     50.0 %  Zoë\n  place   50.0 %  日本\n\n"
        );
        assert!(marked("Zoë", &spans[..1], true).starts_with("\u{1b}[1;36m[Zoë\u{1b}[0m"));
        assert_eq!(marked("none", &[], false), "none\n  nothing found\n\n");
    }

    #[test]
    fn bars_are_as_long_as_probabilities() {
        let answer = Prediction::Labels {
            labels: vec!["late".into()],
            probabilities: vec![
                ("late".into(), 1.0),
                ("broken".into(), 0.0),
                ("ü".into(), 0.26),
            ],
        };
        let lines: Vec<String> = bars(&answer).lines().map(str::to_owned).collect();
        assert_eq!(lines[0], format!("✓ late    {}  100.0 %", "█".repeat(24)));
        assert_eq!(lines[1], format!("  broken  {}    0.0 %", " ".repeat(24)));
        assert_eq!(
            lines[2],
            format!("  ü       {}{}   26.0 %", "██████▎", " ".repeat(17))
        );
    }
}
