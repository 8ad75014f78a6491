//! `rekindle look`

use super::{Columns, configuration, sets_task, told_task};
use crate::{
    looked::{coloured_bars, told},
    output::{self, Output},
    printer::Printer,
    terminal::{self, painted},
};
use clap::Args;
use rekindle::{Kind, Looked, LookedToken, RunConfig, Task, config::Override};
use std::path::{Path, PathBuf};

/// Show the first examples of a file as a model will see them, and what is striking about all of them, before training.
///
/// The examples are split as a run would split them. Shown are how many there are of each label, how long they are, and what
/// data.max_length cuts; copies, and copies with different labels; examples of validation and test that stand in training too, or
/// nearly; labels that those of similar texts contradict; pictures of odd sizes, and pictures that look the same. Of each at most
/// ten are named. Nothing is changed.
///
/// Tokens that are learned (of preferences: compared) are green on a terminal, and in [brackets] elsewhere.
#[derive(Args)]
#[command(
    after_help = "Examples:\n  rekindle look reviews.csv --model minilm --rows 0\n  rekindle look chats.jsonl --model smollm2 --rows 2\n  rekindle look --model smollm2 --data pairs.jsonl --task text-preference\n  rekindle look --config runs/smollm2-chats"
)]
pub struct Look {
    /// File of examples, folder of pictures, or a dataset's name: the same as --data
    #[arg(value_name = "DATA", conflicts_with = "data", required_unless_present_any = ["config", "data"])]
    examples: Option<String>,
    /// Run file or run directory, whose model and training examples are shown
    #[arg(long, short, value_name = "FILE")]
    config: Option<PathBuf>,
    /// What to learn; by default what the model is for
    #[arg(long, value_name = "NAME")]
    task: Option<String>,
    /// Model name, Hugging Face name, directory or GGUF file
    #[arg(long, value_name = "NAME")]
    model: Option<String>,
    /// File of examples, folder of pictures, or a dataset's name
    #[arg(long, value_name = "PATH")]
    data: Option<String>,
    #[command(flatten)]
    columns: Columns,
    /// So many examples; 0 for what is said of all of them only
    #[arg(long, value_name = "N", default_value_t = 3)]
    rows: usize,
    /// Any setting, as section.key=value; may be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Print the examples and what is said of the whole file as JSON
    #[arg(long)]
    json: bool,
}

impl Look {
    pub fn run(mut self) -> anyhow::Result<()> {
        self.data = self.data.or(self.examples.take());
        let printer = Printer::new();
        let config = self.configuration(&printer)?;
        let looked = rekindle::look(&config, self.rows, &printer)?;
        printer.clear();
        match self.json {
            true => output::json(&looked),
            false => print(&looked, config.task.kind()),
        }
    }

    /// The settings of a run on this model and file.
    fn configuration(&self, printer: &Printer) -> anyhow::Result<RunConfig> {
        // A name has neither folders nor an extension.
        let is_path = |data: &str| Path::new(data).exists() || data.contains(['/', '\\', '.']);
        let data = self.data.as_ref().map(|data| match is_path(data) {
            true => ("--data", "data.train", data),
            false => ("--data", "data.dataset", data),
        });
        let named = [
            self.task.as_ref().map(|name| ("--task", "task", name)),
            self.model
                .as_ref()
                .map(|name| ("--model", "model.name", name)),
            data,
        ];
        let named = named.into_iter().flatten();
        let mut flags: Vec<Override> = named
            .map(|(flag, key, value)| Override::flag(flag, key, value))
            .collect();
        flags.extend(self.columns.overrides());
        let says_task = self.config.is_some() || self.task.is_some() || sets_task(&self.set);
        if let (false, Some(model)) = (says_task, &self.model) {
            let task = rekindle::task_of_model(model, printer)?;
            // Of language models it is the rows that tell.
            let rows = self.data.as_ref().map(Path::new);
            let task = match rows.and_then(rekindle::language_task) {
                Some(of_rows) if task == Task::TextGeneration => of_rows,
                _ if task == Task::TextGeneration => task,
                // Of others it is the labels, which classes, sets of labels or numbers they are.
                _ => rows
                    .and_then(|rows| told_task(rows, &flags, &self.set))
                    .filter(|told| told.modality() == task.modality() && is_labelled(*told))
                    .unwrap_or(task),
            };
            flags.push(Override::flag("--model", "task", task.name()));
        } else if let (false, Some(data)) = (says_task, &self.data)
            && let Some(task) = told_task(Path::new(data), &flags, &self.set)
        {
            flags.push(Override::flag("--data", "task", task.name()));
        }
        let run = self.config.as_ref().map(|path| match path.is_dir() {
            true => path.join("config.toml"),
            false => path.clone(),
        });
        Ok(configuration(run.as_ref(), flags, &self.set)?)
    }
}

/// Whether the task learns labels or numbers.
fn is_labelled(task: Task) -> bool {
    !matches!(task.kind(), Kind::Generation | Kind::Preference)
}

/// Examples, then what there is of labels and lengths, then what is striking.
fn print(looked: &Looked, kind: Kind) -> anyhow::Result<()> {
    // Of a language model they are text as it goes on, of an encoder pieces of words.
    let pieces = !matches!(kind, Kind::Generation | Kind::Preference);
    let colours = terminal::get().colours_out;
    let mut out = Output::new();
    for example in &looked.examples {
        out.line(format_args!("{}  ({})", example.place, example.size))?;
        if !example.tokens.is_empty() {
            // It is coloured, and shows control characters itself.
            out.piece(format_args!(
                "{}\n",
                shown(&example.tokens, pieces, colours)
            ))?;
        }
        out.line("")?;
    }
    let told = told(looked);
    let told = output::harmless(&told);
    out.piece(coloured_bars(&painted(&told, colours), colours))?;
    Ok(())
}

/// Tokens one after the other. Pieces of words are separated by bars, and so is all where no token is learned.
fn shown(tokens: &[LookedToken], pieces: bool, colours: bool) -> String {
    const LEARNED: [&str; 2] = ["\x1b[1;32m", "\x1b[1;92m"];
    const OTHERS: [&str; 2] = ["\x1b[0m", "\x1b[2m"];
    let bars = pieces || !tokens.iter().any(|token| token.learned);
    let mut out = String::new();
    for (i, token) in tokens.iter().enumerate() {
        let (text, learned) = (visible(&token.text), token.learned);
        if colours {
            // Two shades in turn show where a token ends.
            let shades = if learned { LEARNED } else { OTHERS };
            out += &format!("{}{text}\x1b[0m", shades[i % 2]);
        } else {
            let bar = if bars && i > 0 { "|" } else { "" };
            match learned {
                true => out += &format!("{bar}[{text}]"),
                false => out += &format!("{bar}{text}"),
            }
        }
    }
    out
}

/// Text that shows its line ends and does nothing to a terminal.
fn visible(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        match c {
            '\n' => out.push_str("⏎\n"),
            '\t' => out.push('→'),
            c if c.is_control() => out.extend(c.escape_default()),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_learned_is_marked() {
        let token = |(text, learned): (&str, bool)| LookedToken {
            text: text.to_owned(),
            learned,
        };
        let tokens = [
            ("Hi", false),
            ("\n\x1b[2J", false),
            (" you", true),
            ("</s>", true),
        ]
        .map(token);
        assert_eq!(shown(&tokens, false, false), "Hi⏎\n\\u{1b}[2J[ you][</s>]");
        assert_eq!(shown(&tokens[..2], false, false), "Hi|⏎\n\\u{1b}[2J");
        let pieces = shown(&tokens, true, false);
        assert_eq!(pieces, "Hi|⏎\n\\u{1b}[2J|[ you]|[</s>]");
        let coloured = shown(&tokens, false, true);
        assert_eq!(coloured.matches("\x1b[0m").count(), 5);
        assert!(coloured.contains("\x1b[1;32m you\x1b[0m"), "{coloured:?}");
    }
}
