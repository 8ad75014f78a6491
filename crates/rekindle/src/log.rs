//! Who hears of the loop's events: `metrics.jsonl`, `answers.jsonl`, the observer, and `log.txt`, which people read.

use crate::{
    Error,
    answers::{AnswerLog, Answering, Set},
    generation::Answer,
    observer::Watching,
    report::text::scientific,
    tensorboard::EventFile,
};
use rekindle_train::{Event, Metrics, Sink};
use std::{
    fs::{File, OpenOptions},
    io::Write,
    path::Path,
};

/// Everything that hears of the loop's events.
pub(crate) struct Sinks<'a> {
    pub metrics: Metrics,
    pub log: Log,
    pub observer: Watching<'a>,
    pub answers: Option<Sampled<'a>>,
    /// What `metrics.jsonl` gets, for TensorBoard.
    pub tensorboard: Option<EventFile>,
}

/// Keeps what a language model answers at each evaluation.
pub(crate) struct Sampled<'a> {
    pub log: &'a mut AnswerLog,
    pub answering: &'a Answering,
    /// Takes the answers of the newest evaluation.
    pub take: &'a dyn Fn() -> Vec<Answer>,
}

impl Sink for Sampled<'_> {
    fn event(&mut self, event: &Event) {
        if let Event::Evaluated { step, .. } = event {
            let answers = (self.take)();
            self.log
                .add(*step, Set::Sample, &self.answering.samples, &answers);
        }
    }
}

impl Sink for Sinks<'_> {
    fn event(&mut self, event: &Event) {
        self.metrics.event(event);
        if let Some(events) = &mut self.tensorboard
            && self.metrics.keeps(event)
        {
            events.event(event);
        }
        self.log.event(event);
        self.observer.event(event);
        if let Some(answers) = &mut self.answers {
            answers.event(event);
        }
    }
}

/// `log.txt`: what happened, a line each, for people.
pub(crate) struct Log {
    file: File,
    every: u64,
    /// The figure that makes a checkpoint the best.
    best_by: String,
    /// Whether it was said what marks an evaluation that is the best so far.
    explained: bool,
}

impl Log {
    pub(crate) fn open(path: &Path, every: u64, best_by: &str) -> Result<Self, Error> {
        let file = OpenOptions::new()
            .create(true)
            .append(true)
            .open(path)
            .map_err(Error::io(path))?;
        Ok(Self {
            file,
            every: every.max(1),
            best_by: best_by.to_owned(),
            explained: false,
        })
    }

    pub(crate) fn line(&mut self, text: &str) {
        // A full disk must not end a run that can still train.
        let _ = writeln!(self.file, "{}", text.trim_end());
    }
}

impl Sink for Log {
    fn event(&mut self, event: &Event) {
        match event {
            Event::Started { step, total_steps } => {
                self.line(&format!("training: steps {} to {total_steps}", step + 1))
            }
            Event::Step {
                step,
                loss,
                learning_rate,
                grad_norm,
                seconds,
                ..
            } if *step == 1 || step.is_multiple_of(self.every) => {
                self.line(&format!("step {step}: loss {loss:.6}, learning rate {}, gradient norm {grad_norm:.4}, {seconds:.3} s", scientific(*learning_rate, 3)));
            }
            Event::Evaluated {
                step,
                evaluation,
                best,
                ..
            } => {
                let figures: Vec<String> = evaluation
                    .metrics
                    .iter()
                    .map(|(name, value)| format!("{name} {value:.4}"))
                    .collect();
                let best = match best {
                    true if self.explained => " *".to_owned(),
                    true => format!(" * the best {} so far", self.best_by),
                    false => String::new(),
                };
                self.explained |= !best.is_empty();
                let figures = figures.join(", ");
                self.line(&format!("step {step}: validation {figures}{best}"));
            }
            Event::Checkpointed { step, path } => {
                self.line(&format!("step {step}: wrote {}", path.display()))
            }
            Event::Warning { message } => self.line(&format!("warning: {message}")),
            _ => {}
        }
    }
}

/// How the line begins that says why a run ended without a result.
const FAILED: &str = "failed: ";

/// Writes down why a run ended without a result.
pub(crate) fn note_failure(log: &Path, error: &Error) {
    let text = error.to_string();
    let first = text.lines().next().unwrap_or_default();
    if let Ok(mut log) = Log::open(log, 1, "") {
        log.line(&format!("{FAILED}{first}"));
    }
}

/// Why a run ended without a result, where that is the last that its log says.
pub(crate) fn failure(log: &Path) -> Option<String> {
    let text = std::fs::read(log).ok()?;
    let text = String::from_utf8_lossy(&text);
    let last = text.lines().rfind(|line| !line.trim().is_empty())?;
    last.strip_prefix(FAILED).map(str::to_owned)
}
