//! What a person sees: notes, the plan, a progress bar, tables, errors.

use crate::{
    output::spelt_out,
    signals,
    terminal::{self, Progress as Shown, Terminal, Verbosity, painted},
};
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use rekindle::{
    Error, Evaluation, Event, FinishedRun, Guess, Kind, Modality, Observer, Plan, Progress,
    TrainError, Watched,
    report::{Answered, Mistake},
    shell_word, words,
};
use std::{
    collections::{HashMap, HashSet},
    fmt::Write as _,
    io::{IsTerminal, Write as _},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

/// Prints to standard error, so that standard output holds results only.
pub struct Printer {
    bars: MultiProgress,
    training: Mutex<Option<ProgressBar>>,
    /// The figures that sum up an evaluation.
    watched: Mutex<Vec<Watched>>,
    /// The figure that makes a checkpoint the best.
    best_by: Mutex<String>,
    /// Whether it was said what marks an evaluation that is the best so far.
    explained_best: AtomicBool,
    /// Notes that were printed.
    said: Mutex<HashSet<String>>,
    /// The plan, once it is known.
    plan: Mutex<Option<Plan>>,
    downloads: Mutex<HashMap<String, ProgressBar>>,
    terminal: &'static Terminal,
    stop: Arc<AtomicBool>,
}

impl Printer {
    pub fn new() -> Self {
        let terminal = terminal::get();
        Self {
            bars: MultiProgress::with_draw_target(match terminal.progress {
                Shown::Bars => ProgressDrawTarget::stderr(),
                Shown::Lines | Shown::Hidden => ProgressDrawTarget::hidden(),
            }),
            training: Mutex::new(None),
            watched: Mutex::default(),
            best_by: Mutex::default(),
            explained_best: AtomicBool::new(false),
            said: Mutex::default(),
            plan: Mutex::default(),
            downloads: Mutex::new(HashMap::new()),
            terminal,
            stop: Arc::new(AtomicBool::new(false)),
        }
    }

    /// The first signal asks the run to stop after its step; a second Ctrl-C ends the program at once. Where no terminal is
    /// left, a second signal is not somebody's wish but part of the first: a shell that closes sends SIGHUP twice.
    pub fn stop_on_signals(&self) -> anyhow::Result<()> {
        let stop = Arc::clone(&self.stop);
        let quiet = self.terminal.verbosity == Verbosity::Quiet;
        signals::on_stop(move || {
            let asked_before = stop.swap(true, Ordering::SeqCst);
            let terminal = std::io::stdin().is_terminal() || std::io::stderr().is_terminal();
            match (asked_before, terminal) {
                (true, true) => std::process::exit(130),
                (true, false) => {}
                (false, _) if quiet => {}
                (false, true) => to_stderr(
                    "\nfinishing this step, then saving; press Ctrl-C again to stop at once",
                ),
                (false, false) => to_stderr("\nfinishing this step, then saving"),
            }
        })?;
        Ok(())
    }

    /// A line above any bar; not where only the result is asked for.
    pub fn say(&self, line: &str) {
        if self.terminal.verbosity == Verbosity::Quiet {
            return;
        }
        match self.terminal.progress {
            // A terminal that is gone is no reason to stop.
            Shown::Bars => drop(
                self.bars
                    .println(painted(&spelt_out(line), self.terminal.colours_err)),
            ),
            Shown::Lines | Shown::Hidden => to_stderr(line),
        }
    }

    /// A line for who asked for more.
    pub fn detail(&self, line: &str) {
        if self.terminal.verbosity == Verbosity::Verbose {
            self.say(line);
        }
    }

    /// The plan of the run, once it is known.
    pub fn known_plan(&self) -> Option<Plan> {
        lock(&self.plan).clone()
    }

    /// Counts what is answered, where there is much of it and the answers go elsewhere.
    pub fn counter(&self, total: usize, few: usize) -> ProgressBar {
        if self.terminal.progress != Shown::Bars || total <= few || std::io::stdout().is_terminal()
        {
            return ProgressBar::hidden();
        }
        let bar = ProgressBar::new(total as u64);
        self.bars
            .add(bar.with_style(style_of("{bar:24} {pos}/{len} {per_sec} {elapsed} < {eta}")))
    }

    /// Whether only errors and results are wanted.
    pub fn is_quiet(&self) -> bool {
        self.terminal.verbosity == Verbosity::Quiet
    }

    /// Takes all bars off the screen.
    pub fn clear(&self) {
        let _ = self.bars.clear();
    }

    fn training(&self) -> MutexGuard<'_, Option<ProgressBar>> {
        lock(&self.training)
    }

    fn downloading(&self) -> MutexGuard<'_, HashMap<String, ProgressBar>> {
        lock(&self.downloads)
    }

    /// The figures that sum up an evaluation, in a line.
    fn watched(&self, evaluation: &Evaluation) -> String {
        let figures: Vec<String> = lock(&self.watched)
            .iter()
            .filter_map(|figure| {
                let value = evaluation.get(&figure.key)?;
                Some(format!("{} {value:.4}", figure.name))
            })
            .collect();
        figures.join("  ")
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Observer for Printer {
    fn note(&self, line: &str) {
        let planned = |plan: &Plan| plan.notes.iter().any(|note| note == line);
        if lock(&self.said).insert(line.to_owned())
            && !lock(&self.plan).as_ref().is_some_and(planned)
        {
            self.say(line);
        }
    }

    fn detail(&self, line: &str) {
        Printer::detail(self, line);
    }

    fn plan(&self, plan: &Plan) {
        *lock(&self.plan) = Some(plan.clone());
        *lock(&self.watched) = plan.watched.clone();
        *lock(&self.best_by) = plan.best_by.clone();
        // What was said on the way to the plan is not said again.
        let mut shown = plan.clone();
        let said = lock(&self.said);
        shown.notes.retain(|note| !said.contains(note));
        self.say(shown.to_string().trim_end());
    }

    fn event(&self, event: &Event) {
        match event {
            Event::Started { step, total_steps } => {
                let style = "{bar:24} {pos}/{len} {msg} {elapsed} < {eta}";
                let bar = self
                    .bars
                    .add(ProgressBar::new(*total_steps).with_style(style_of(style)));
                bar.set_position(*step);
                bar.reset_eta();
                *self.training() = Some(bar);
            }
            Event::Step {
                step,
                epoch,
                loss,
                learning_rate,
                examples,
                seconds,
                ..
            } => {
                let speed = *examples as f64 / seconds.max(1e-9);
                let rate = rate(*learning_rate);
                let counted = match lock(&self.watched).iter().any(|f| f.key == "perplexity") {
                    true => "tokens/s learned",
                    false => "examples/s",
                };
                let figures =
                    format!("epoch {epoch:.2} loss {loss:.4} lr {rate} {speed:.0} {counted}");
                if let Some(bar) = &*self.training() {
                    let lines = self.terminal.progress == Shown::Lines;
                    if lines && (*step == 1 || step.is_multiple_of(20)) {
                        let steps = bar.length().unwrap_or(0);
                        to_stderr(&format!("step {step}/{steps} {figures}"));
                    }
                    bar.set_message(figures);
                    bar.set_position(*step);
                }
            }
            Event::Evaluating { .. } => {
                if let Some(bar) = &*self.training() {
                    bar.set_message("evaluating");
                }
            }
            Event::Evaluated {
                step,
                epoch,
                evaluation,
                best,
                seconds,
            } => {
                let figures = self.watched(evaluation);
                // What the mark stands for is said once.
                let explained = &self.explained_best;
                let best = match best {
                    true if explained.swap(true, Ordering::Relaxed) => "  *".to_owned(),
                    true => format!("  * the best {} so far", lock(&self.best_by)),
                    false => String::new(),
                };
                self.say(&format!(
                    "epoch {epoch:<5.2} step {step:<6} validation {figures}  ({seconds:.1} s){best}"
                ));
            }
            Event::Warning { message } => self.say(&format!("warning: {message}")),
            _ => {}
        }
    }

    fn stop(&self) -> bool {
        self.stop.load(Ordering::SeqCst)
    }

    fn downloads(&self) -> &dyn Progress {
        self
    }
}

impl Progress for Printer {
    fn start(&self, what: &str, total: Option<u64>) {
        let bar = match total {
            Some(total) => ProgressBar::new(total).with_style(style_of(
                "{bar:24} {bytes}/{total_bytes} {bytes_per_sec} {msg} < {eta}",
            )),
            None => ProgressBar::new_spinner()
                .with_style(style_of("{spinner} {bytes} {bytes_per_sec} {msg}")),
        };
        let bar = self.bars.add(bar);
        bar.set_message(what.to_owned());
        if let Some(old) = self.downloading().insert(what.to_owned(), bar) {
            old.finish_and_clear();
        }
        if self.terminal.progress == Shown::Lines {
            to_stderr(&format!("fetching {what}"));
        }
    }

    fn advance(&self, what: &str, bytes: u64) {
        if let Some(bar) = self.downloading().get(what) {
            bar.inc(bytes);
        }
    }

    fn finish(&self, what: &str) {
        if let Some(bar) = self.downloading().remove(what) {
            bar.finish_and_clear();
        }
    }

    fn note(&self, message: &str) {
        self.say(message);
    }
}

/// A learning rate in few characters.
fn rate(rate: f64) -> String {
    match rate == 0.0 {
        true => "0".to_owned(),
        false => format!("{rate:.1e}"),
    }
}

fn style_of(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template)
        .unwrap_or_else(|_| ProgressStyle::default_bar())
        .progress_chars("█▉▊▋▌▍▎▏ ")
}

/// A line on standard error. That it is gone, as after a SIGHUP, is no reason to stop before the run is saved.
pub fn to_stderr(line: &str) {
    let line = match std::io::stderr().is_terminal() {
        true => spelt_out(line),
        false => line.into(),
    };
    let line = painted(&line, terminal::get().colours_err);
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// An error: what it says, then causes that it does not name itself, its hints on lines of their own. An orderly stop is
/// none, and only said; what another process says is not said again.
pub fn error(error: &anyhow::Error) {
    if is_told_elsewhere(error) {
        return;
    }
    match error.downcast_ref() {
        Some(stopped @ Error::Interrupted { .. }) => to_stderr(&stopped.to_string()),
        _ => to_stderr(&format!("error: {}", with_causes(error))),
    }
}

/// An error of one of several processes.
pub fn error_of(process: usize, error: &anyhow::Error) {
    match process {
        0 => to_stderr(&format!("error: {}", with_causes(error))),
        process => to_stderr(&format!("process {process}: error: {}", with_causes(error))),
    }
}

/// Whether another process of the run says what went wrong.
pub fn is_told_elsewhere(error: &anyhow::Error) -> bool {
    matches!(error.downcast_ref(), Some(TrainError::Elsewhere { .. }))
        || error
            .downcast_ref()
            .is_some_and(|error: &Error| error.is_told_elsewhere())
}

fn with_causes(error: &anyhow::Error) -> String {
    let mut text = error.to_string();
    for cause in error.chain().skip(1).map(ToString::to_string) {
        if !text.contains(&cause) {
            let end = text.find("\nhint: ").unwrap_or(text.len());
            text.insert_str(end, &format!(": {cause}"));
        }
    }
    text
}

/// The end of a run, as the person who waited for it reads it.
pub fn finished(run: &FinishedRun) -> String {
    let mut out = String::new();
    // Writing to a string does not fail.
    let early = if run.stopped_early {
        ", stopped early"
    } else {
        ""
    };
    let best = run
        .best_step
        .map(|step| format!(", best checkpoint: step {step}"))
        .unwrap_or_default();
    let memory = run
        .peak_memory
        .map(|peak| format!(", {} at the peak", words::bytes(peak)))
        .unwrap_or_default();
    let _ = writeln!(out, "{} {}", run.split, run.figures.summary());
    let guess = run.figures.guess.as_ref();
    let comparison = guess.and_then(Guess::comparison);
    if let Some(comparison) = comparison.or_else(|| run.figures.too_few()) {
        let before = guess.is_some_and(Guess::is_base);
        let name = if before { "before" } else { "guess" };
        let _ = writeln!(out, "{name:<7} {comparison}");
    }
    for warning in run.figures.all_warnings() {
        let _ = writeln!(out, "warning: {warning}");
    }
    if let Some(advice) = &run.advice {
        let _ = writeln!(out, "hint: {advice}");
    }
    let _ = writeln!(
        out,
        "{} {} in {}{memory}{best}{early}",
        run.steps,
        if run.steps == 1 { "step" } else { "steps" },
        words::duration(run.seconds)
    );
    if let (Some(lost), Some(saved)) = (run.lost_best, run.best_step) {
        let _ = writeln!(
            out,
            "warning: step {lost} was better than step {saved}, which is saved: its checkpoint could not be kept"
        );
    }
    let _ = writeln!(out, "model   {}", run.final_dir.display());
    let _ = writeln!(out, "report  {}", run.report_html.display());
    let example = match run.task.modality() {
        Modality::Text => "\"your text\"",
        Modality::Images => "picture.jpg",
    };
    let dir = shell_word(&run.dir.to_string_lossy());
    let _ = match run.task.kind() {
        Kind::Generation | Kind::Preference => writeln!(out, "try     rekindle chat {dir}"),
        Kind::Embedding => writeln!(out, "try     rekindle embed {dir} {example}"),
        Kind::Extraction => writeln!(
            out,
            "try     rekindle predict {dir} --context text.txt \"your question\""
        ),
        Kind::Choice => writeln!(
            out,
            "try     rekindle predict {dir} \"your question\" --choice \"one answer\" --choice \"another\""
        ),
        _ => writeln!(out, "try     rekindle predict {dir} {example}"),
    };
    out
}

/// The worst mistakes, with their places.
pub fn mistakes(mistakes: &[Mistake]) -> String {
    let mut out = String::new();
    if !mistakes.is_empty() {
        let _ = writeln!(out, "\nworst mistakes");
    }
    for m in mistakes {
        let probability = m
            .probability
            .map_or_else(String::new, |p| format!(" ({:.1} %)", 100.0 * p));
        let _ = match m.label.is_empty() {
            true => writeln!(out, "  {}: {}  {}", m.place, m.predicted, end(&m.text)),
            false => writeln!(
                out,
                "  {} is {}, predicted {}{probability}  {}",
                m.place,
                m.label,
                m.predicted,
                beginning(&m.text)
            ),
        };
    }
    out
}

/// Characters of a text in a line.
const WIDTH: usize = 100;

/// A text in a line; of a long one the beginning.
fn beginning(text: &str) -> String {
    let line = one_line(text);
    match line.chars().count() > WIDTH {
        true => line.chars().take(WIDTH).collect::<String>() + "...",
        false => line,
    }
}

/// A text in a line; of a long one the end, where a conversation asks.
fn end(text: &str) -> String {
    let line = one_line(text);
    match line.chars().count().checked_sub(WIDTH) {
        None | Some(0) => line,
        Some(before) => format!("...{}", line.chars().skip(before).collect::<String>()),
    }
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The answers in words that are furthest from the right ones, with their places.
pub fn worst_answers(answers: &[Answered]) -> String {
    let mut out = String::new();
    if !answers.is_empty() {
        let _ = writeln!(out, "\nworst answers");
    }
    for answered in answers {
        let said = answered.said.last().map_or("", |said| &said.text);
        let _ = writeln!(
            out,
            "  {}  {}\n    right  {}\n    said   {}",
            answered.place,
            end(&answered.prompt),
            beginning(&answered.reference),
            beginning(said)
        );
    }
    out
}
