//! A language model judged by what it answers: the same prompts before training, at each evaluation and at the end, greedily, beside
//! the right answers. What was said is kept in `answers.jsonl`.

use crate::{
    Error, RunConfig, Shots,
    config::AnswerCount,
    evaluation::fitting,
    figures::Figures,
    generation::{Answer, Sampling, Session, Writer},
    report::{Answered, Said},
};
use rekindle_base::{rng, thousands, write_atomically};
use rekindle_data::chat::{ChatEncoder, ChatKind, ChatRole, Conversation, Message};
use rekindle_metrics::{Answers, AnswersReport, rouge_l};
use serde::{Deserialize, Serialize};
use std::{
    fs::{File, OpenOptions},
    io::Write,
    path::Path,
};

/// The file in a run directory.
pub(crate) const FILE: &str = "answers.jsonl";
/// The stream of random numbers that chooses conversations.
const STREAM: u64 = 0x616e_7377;
/// Prompts answered together: a pass reads all weights, however many there are, and keeps the keys and values of each.
const TOGETHER: usize = 32;
/// The longest answer where the configuration does not say, in tokens.
const LONGEST: usize = 256;
/// The shortest limit of an answer's tokens that is taken from the right answers.
const SHORTEST: usize = 16;

/// A prompt with its right answer.
pub(crate) struct Asked {
    tokens: Vec<u32>,
    /// As people read it.
    pub prompt: String,
    pub reference: String,
    pub place: String,
}

/// What a model is asked, and how.
pub(crate) struct Answering {
    encoder: ChatEncoder,
    /// The longest sequence.
    positions: usize,
    pub max_new_tokens: usize,
    /// Whether the base model answers what is asked at the end, too.
    pub baseline: bool,
    /// Answered at the end, of the set that the final figures are of.
    pub last: Vec<Asked>,
    /// Answered at each evaluation, of the validation set.
    pub samples: Vec<Asked>,
    /// Conversations that were drawn and cannot be asked.
    pub left_out: usize,
}

impl Answering {
    /// Draws what is asked. `None` where nothing is: the configuration wants none, or there are no answers in the sets.
    pub(crate) fn new(
        config: &RunConfig,
        encoder: &ChatEncoder,
        positions: usize,
        last: &[Conversation],
        samples: &[Conversation],
    ) -> Option<Self> {
        let mut answering = Self {
            encoder: encoder.clone(),
            positions,
            max_new_tokens: 0,
            baseline: config.eval.baseline,
            last: Vec::new(),
            samples: Vec::new(),
            left_out: 0,
        };
        let most = match config.eval.answers {
            AnswerCount::All => usize::MAX,
            AnswerCount::Some(n) => n,
        };
        answering.last = answering.draw(last, most, config.seed);
        answering.samples = answering.draw(samples, config.eval.samples, config.seed);
        let asked = answering.last.iter().chain(&answering.samples);
        let tokens = |asked: &Asked| {
            let tokens = encoder.text_prompt(&asked.reference);
            tokens.map_or(0, |tokens| tokens.len())
        };
        let longest = asked.map(tokens).max()?;
        answering.max_new_tokens = config
            .eval
            .max_new_tokens
            .unwrap_or((longest + longest / 4).clamp(SHORTEST, LONGEST));
        Some(answering)
    }

    /// At most so many of the rows that have an answer, in their order.
    fn draw(&mut self, rows: &[Conversation], most: usize, seed: u64) -> Vec<Asked> {
        let mut order: Vec<usize> = (0..rows.len()).collect();
        rng::shuffle(&mut order, seed, STREAM, 0);
        let mut drawn: Vec<(usize, Asked)> = Vec::new();
        for at in order {
            if drawn.len() >= most {
                break;
            }
            let Some((turns, reference)) = asked(&rows[at]) else {
                continue;
            };
            match self.encoder.prompt(turns, rows[at].tools.as_ref()) {
                Ok(tokens) if !tokens.is_empty() && tokens.len() < self.positions => drawn.push((
                    at,
                    Asked {
                        tokens,
                        prompt: shown(turns),
                        reference: reference.to_owned(),
                        place: rows[at].place.to_string(),
                    },
                )),
                _ => self.left_out += 1,
            }
        }
        drawn.sort_by_key(|(at, _)| *at);
        drawn.into_iter().map(|(_, asked)| asked).collect()
    }

    /// Answers prompts in sessions that `begin` opens. `None` if `stop` says so between two batches.
    pub(crate) fn answer<'s>(
        &self,
        begin: &dyn Fn(usize) -> Box<dyn Session + 's>,
        asked: &[Asked],
        stop: &dyn Fn() -> bool,
    ) -> Result<Option<Vec<Answer>>, Error> {
        let sampling = Sampling {
            max_new_tokens: self.max_new_tokens,
            ..Sampling::default()
        };
        let writer = Writer {
            encoder: &self.encoder,
            positions: self.positions,
            sampling: &sampling,
            constrained: None,
        };
        let mut answers = Vec::new();
        let longest = asked.iter().map(|asked| asked.tokens.len()).max();
        let longest = longest.unwrap_or(0) + self.max_new_tokens;
        for batch in asked.chunks(fitting(TOGETHER, longest)) {
            if stop() {
                return Ok(None);
            }
            let prompts: Vec<Vec<u32>> = batch.iter().map(|asked| asked.tokens.clone()).collect();
            let mut session = begin(prompts.len());
            answers.extend(writer.write(session.as_mut(), prompts, 0, &mut |_, _| {})?);
        }
        Ok(Some(answers))
    }

    /// What the base model is asked.
    pub(crate) fn asked_of_base(&self) -> [(Set, &[Asked]); 2] {
        let last = match self.baseline {
            true => &self.last[..],
            false => &[],
        };
        [(Set::Sample, &self.samples), (Set::Last, last)]
    }

    /// Adds what the answers to the prompts of the end are worth, beside those of the base model.
    pub(crate) fn add_to(
        &self,
        figures: &mut Figures,
        answers: &[Answer],
        base: Option<AnswersReport>,
    ) {
        let texts = answers.iter().map(|answer| answer.text.as_str());
        figures.add_answers(self::figures(&self.last, texts), base);
        let n = answers.len();
        let cut = answers.iter().filter(|answer| !answer.finished).count();
        if cut > 0 {
            figures.warnings.push(format!(
                "{cut} of {n} answers did not end within {} tokens (eval.max_new_tokens).",
                self.max_new_tokens
            ));
        }
        let wordless = |asked: &&Asked| {
            !asked
                .reference
                .contains(|c: char| c.is_ascii_alphanumeric())
        };
        let wordless = self.last.iter().filter(wordless).count();
        if 4 * wordless > n {
            figures.warnings.push(format!(
                "ROUGE-L knows words of the letters a to z and of digits only: {wordless} of {n} right answers have none."
            ));
        }
    }

    /// What a user should know before the run, a line each.
    pub(crate) fn notes(&self) -> Vec<String> {
        const MANY: usize = 20_000;
        let mut notes = Vec::new();
        if self.left_out > 0 {
            notes.push(format!(
                "{} conversations cannot be asked (the template refuses them without their answer, or they leave no room for one): others are",
                self.left_out
            ));
        }
        let times = if self.baseline { 2 } else { 1 };
        let tokens = times * self.last.len() * self.max_new_tokens;
        if tokens > MANY {
            notes.push(format!(
                "{} prompts are answered{} in up to {} tokens each, which takes its time: eval.answers, eval.baseline and eval.max_new_tokens change that",
                thousands(self.last.len() as u64),
                if self.baseline { " before and after training," } else { "," },
                self.max_new_tokens
            ));
        }
        notes
    }
}

/// A conversation up to its assistant's last turn, and what that says. `None` where it says nothing in words.
fn asked(row: &Conversation) -> Option<(&[Message], &str)> {
    if matches!(row.kind, ChatKind::Text(_)) {
        return None;
    }
    let is_answer = |turn: &Message| turn.role == ChatRole::Assistant;
    let last = row.messages.iter().rposition(is_answer)?;
    let reference = row.messages[last].content.as_deref()?;
    let in_words = !reference.trim().is_empty();
    in_words.then_some((&row.messages[..last], reference))
}

/// Conversations with examples drawn from others as earlier turns, behind what the system says. No row gets an example that
/// asks what the row itself asks: that would tell the answer.
///
/// # Errors
/// Where there are fewer such examples than asked for.
pub(crate) fn after_examples(
    rows: Vec<Conversation>,
    from: &[Conversation],
    shots: &Shots,
    seed: u64,
) -> Result<Vec<Conversation>, Error> {
    let mut order: Vec<usize> = (0..from.len()).collect();
    rng::shuffle(&mut order, seed, STREAM, 1);
    let is_system = |turn: &&Message| matches!(turn.role, ChatRole::System | ChatRole::Developer);
    let said = |turns: &[Message]| -> Vec<Message> {
        let others = turns.iter().filter(|turn| !is_system(turn));
        others.cloned().collect()
    };
    // Of each example what is asked, and that with its answer.
    let examples: Vec<(Vec<Message>, Vec<Message>)> = order
        .into_iter()
        .filter_map(|at| {
            let (before, _) = asked(&from[at])?;
            let messages = &from[at].messages;
            Some((said(before), said(&messages[..=before.len()])))
        })
        .collect();
    let after = |mut row: Conversation| {
        if matches!(row.kind, ChatKind::Text(_)) {
            return Ok(row);
        }
        let is_answer = |turn: &Message| turn.role == ChatRole::Assistant;
        let last = row.messages.iter().rposition(is_answer);
        let own = said(&row.messages[..last.unwrap_or(row.messages.len())]);
        let others = examples.iter().filter(|(prompt, _)| *prompt != own);
        let drawn: Vec<&Vec<Message>> = others.map(|(_, turns)| turns).take(shots.count).collect();
        if drawn.len() < shots.count {
            return Err(Error::Setting {
                reason: format!(
                    "{} examples are asked for before each prompt, but {} holds {} conversations with an answer that ask something else than {}",
                    shots.count,
                    shots.from.display(),
                    drawn.len(),
                    row.place
                ),
                hint: "ask for fewer, or draw them from a larger file".into(),
            });
        }
        let at = row.messages.iter().take_while(is_system).count();
        let turns = drawn.into_iter().flatten().cloned();
        row.messages.splice(at..at, turns.collect::<Vec<_>>());
        row.kind = ChatKind::Chat;
        Ok(row)
    };
    rows.into_iter().map(after).collect()
}

/// Turns as people read them: one of the user by itself, others with their roles.
fn shown(turns: &[Message]) -> String {
    let content = |turn: &Message| turn.content.clone().unwrap_or_default();
    match turns {
        [only] if only.role == ChatRole::User => content(only),
        _ => {
            let lines = turns.iter();
            let lines = lines.map(|turn| format!("{}: {}", turn.role, content(turn)));
            lines.collect::<Vec<_>>().join("\n")
        }
    }
}

/// The figures of answers.
pub(crate) fn figures<'a>(
    asked: &[Asked],
    answers: impl IntoIterator<Item = &'a str>,
) -> AnswersReport {
    let mut figures = Answers::new();
    for (asked, answer) in asked.iter().zip(answers) {
        figures.update(answer, &asked.reference);
    }
    figures.report()
}

/// The answers furthest from the right ones, the furthest first; none that are right. `said` are the answers, each with its step, of
/// which the last counts.
pub(crate) fn worst(asked: &[Asked], said: &[Vec<Said>], most: usize) -> Vec<Answered> {
    let mut worst: Vec<(f64, Answered)> = Vec::new();
    for (asked, said) in asked.iter().zip(said) {
        let Some(last) = said.last() else { continue };
        let score = rouge_l(&last.text, &asked.reference);
        if !rekindle_metrics::exact_match(&last.text, &asked.reference) {
            worst.push((score, answered(asked, said.clone())));
        }
    }
    worst.sort_by(|a, b| a.0.total_cmp(&b.0));
    worst.truncate(most);
    worst.into_iter().map(|(_, answered)| answered).collect()
}

pub(crate) fn answered(asked: &Asked, said: Vec<Said>) -> Answered {
    Answered {
        place: asked.place.clone(),
        prompt: asked.prompt.clone(),
        reference: asked.reference.clone(),
        said,
    }
}

/// Which of a run's prompts a line of the file is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Set {
    /// Those answered at each evaluation.
    Sample,
    /// Those answered at the end.
    Last,
}

/// A line of the file.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Line {
    /// Optimizer steps that the model has done; 0 for the base model.
    step: u64,
    set: Set,
    /// Number of the prompt in its set.
    index: usize,
    place: String,
    prompt: String,
    reference: String,
    answer: String,
    /// Whether it ended by itself.
    finished: bool,
}

/// `answers.jsonl`: everything that was answered in a run.
pub(crate) struct AnswerLog {
    file: File,
    lines: Vec<Line>,
    /// Whether the base model has answered all that it is asked.
    pub base_is_there: bool,
}

impl AnswerLog {
    /// Opens the file of a run that has done so many steps; what it says of later ones is dropped, as is everything where
    /// the base model's answers are not whole.
    ///
    /// # Errors
    /// When it cannot be read or written.
    pub(crate) fn open(path: &Path, step: u64, answering: &Answering) -> Result<Self, Error> {
        let bytes = match std::fs::read(path) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Vec::new(),
            other => other.map_err(Error::io(path))?,
        };
        let lines = bytes.split(|&byte| byte == b'\n');
        let mut lines: Vec<Line> = lines
            .filter_map(|line| serde_json::from_slice(line).ok())
            .filter(|line: &Line| line.step <= step && (line.set == Set::Sample || line.step == 0))
            .collect();
        let of_base = lines.iter().filter(|line| line.step == 0).count();
        let asked: usize = answering
            .asked_of_base()
            .map(|(_, asked)| asked.len())
            .iter()
            .sum();
        let base_is_there = of_base == asked;
        if !base_is_there {
            lines.retain(|line| line.step > 0);
        }
        let text: String = lines.iter().map(json).collect();
        write_atomically(path, text.as_bytes()).map_err(Error::io(path))?;
        let file = OpenOptions::new().append(true).open(path);
        Ok(Self {
            file: file.map_err(Error::io(path))?,
            lines,
            base_is_there,
        })
    }

    /// Adds answers of a model after so many steps.
    pub(crate) fn add(&mut self, step: u64, set: Set, asked: &[Asked], answers: &[Answer]) {
        let mut text = String::new();
        for (index, (asked, answer)) in asked.iter().zip(answers).enumerate() {
            let line = Line {
                step,
                set,
                index,
                place: asked.place.clone(),
                prompt: asked.prompt.clone(),
                reference: asked.reference.clone(),
                answer: answer.text.clone(),
                finished: answer.finished,
            };
            text += &json(&line);
            self.lines.push(line);
        }
        // A full disk must not end a run that can still train; the checkpoint will say so.
        let _ = self.file.write_all(text.as_bytes());
    }

    /// For each prompt of a set what was answered, in the order of the steps.
    pub(crate) fn said(&self, set: Set, prompts: usize) -> Vec<Vec<Said>> {
        let mut said = vec![Vec::new(); prompts];
        for line in self.lines.iter().filter(|line| line.set == set) {
            if let Some(said) = said.get_mut(line.index) {
                said.push(Said {
                    step: line.step,
                    text: line.answer.clone(),
                });
            }
        }
        said
    }
}

fn json(line: &Line) -> String {
    // Texts and numbers alone can always be written.
    serde_json::to_string(line).map_or_else(|_| String::new(), |text| text + "\n")
}
