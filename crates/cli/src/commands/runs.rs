//! `rekindle runs`

use crate::{
    output::{self, Output},
    printer::Printer,
    table::{Narrower, narrow_table, table},
    target::{self, Form},
    terminal,
};
use anyhow::bail;
use clap::{Args, Subcommand};
use rekindle::{
    runs::{Comparison, RunSummary, compare, runs},
    words,
};
use std::{
    fmt::Write,
    path::{Path, PathBuf},
};

/// List runs and what became of them, or compare some.
#[derive(Args)]
#[command(
    after_help = "Examples:\n  rekindle runs\n  rekindle runs compare runs/minilm-tickets runs/minilm-tickets-2 --html compared.html"
)]
pub struct Runs {
    #[command(subcommand)]
    verb: Option<RunsVerb>,
    /// Directory that holds runs, or one run; by default runs
    #[arg(value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Print the list or the comparison as JSON
    #[arg(long, global = true)]
    json: bool,
}

/// Where runs are written to without `--output`.
const RUNS: &str = "runs";

#[derive(Subcommand)]
enum RunsVerb {
    Compare(Compare),
}

/// Set runs beside each other: settings that differ, final figures, validation curves.
#[derive(Args)]
#[command(
    after_help = "Examples:\n  rekindle runs compare runs/a runs/b\n  rekindle runs compare runs/a runs/b runs/c --html compared.html"
)]
struct Compare {
    /// Run directories, two or more
    #[arg(required = true, num_args = 2.., value_name = "RUN")]
    runs: Vec<PathBuf>,
    /// Write a page with the same to this file
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
}

impl Runs {
    pub fn run(self) -> anyhow::Result<()> {
        match (self.verb, &self.dir) {
            (Some(RunsVerb::Compare(verb)), None) => return verb.run(self.json),
            (Some(RunsVerb::Compare(_)), Some(dir)) => bail!(
                "{}: a directory of runs is not compared\nhint: name the runs themselves: rekindle runs compare RUN RUN",
                dir.display()
            ),
            (None, _) => {}
        }
        let dir = self.dir.as_deref().unwrap_or(Path::new(RUNS));
        let found = match dir.is_dir() {
            true => runs(dir)?,
            false if self.dir.is_none() => Vec::new(),
            false => bail!(
                "{}: no such directory\nhint: name the directory that your runs are in; without -o they are written to {RUNS}/",
                dir.display()
            ),
        };
        if self.json {
            return output::json(&found);
        }
        if found.is_empty() {
            let dir = dir.display();
            return Ok(output::print(format_args!(
                "no runs in {dir}; `rekindle finetune DATA` makes one\n"
            ))?);
        }
        let header = [
            "name",
            "task",
            "model",
            "data",
            "method",
            "began (UTC)",
            "state",
            "figure",
            "time",
        ];
        let rows: Vec<Vec<String>> = found.iter().map(row).collect();
        let (shown, left_out) = narrow_table(&header, &rows, terminal::width(), &NARROWER);
        if !left_out.is_empty() {
            Printer::new().say(&format!(
                "left out for want of room: {}; --json has everything",
                left_out.join(", ")
            ));
        }
        Ok(output::print(shown)?)
    }
}

/// What the list does without on a narrow terminal, the first first.
const NARROWER: [Narrower; 9] = [
    Narrower::Cut("state", 40),
    Narrower::Without("method"),
    Narrower::Without("task"),
    Narrower::Cut("data", 24),
    Narrower::Without("model"),
    Narrower::Without("data"),
    Narrower::Without("time"),
    Narrower::Without("began (UTC)"),
    Narrower::Cut("state", 24),
];

/// A run in the table.
fn row(run: &RunSummary) -> Vec<String> {
    let words = |text: &Option<String>| text.clone().unwrap_or_default();
    let figure = match (&run.headline, run.figure, &run.split) {
        (Some(name), Some(value), Some(split)) => {
            format!("{} {value:.4} ({split})", name.replace('_', " "))
        }
        _ => String::new(),
    };
    // In a row there is no room for a whole path, nor for all settings of a method.
    let model = run.model.as_deref().map(|model| match Path::new(model) {
        path if path.is_absolute() => path.file_name().unwrap_or_default().to_string_lossy(),
        _ => model.into(),
    });
    let method = run
        .method
        .as_deref()
        .and_then(|method| method.split(',').next());
    vec![
        run.name.clone(),
        words(&run.task),
        model.unwrap_or_default().into_owned(),
        words(&run.data),
        method.unwrap_or_default().to_owned(),
        run.began.map(minute).unwrap_or_default(),
        run.state.to_string(),
        figure,
        run.seconds.map(words::duration).unwrap_or_default(),
    ]
}

/// A time in seconds after 1970 as day, hour and minute.
fn minute(seconds: u64) -> String {
    let day = rekindle::config::Date::of(seconds);
    let minutes = seconds / 60 % (24 * 60);
    format!("{day} {:02}:{:02}", minutes / 60, minutes % 60)
}

impl Compare {
    fn run(self, json: bool) -> anyhow::Result<()> {
        let compared = compare(&self.runs)?;
        if let Some(path) = &self.html {
            target::check(path, Form::Page, &[])?;
            let mut file = Output::to_file(path)?;
            file.piece(compared.html())?;
            file.finish()?;
        }
        match json {
            true => output::json(&compared),
            false => Ok(output::print(shown(&compared))?),
        }
    }
}

/// The runs beside each other, each with a letter.
fn shown(compared: &Comparison) -> String {
    let mut out = String::new();
    let letters: Vec<String> = (0..compared.runs.len()).map(Comparison::letter).collect();
    for (letter, name) in letters.iter().zip(&compared.runs) {
        // Writing to a string does not fail.
        let _ = writeln!(out, "{letter}  {name}");
    }
    let beside = |name: &str| {
        let names = std::iter::once(name.to_owned()).chain(letters.iter().cloned());
        names.collect::<Vec<String>>()
    };
    let cells = |name: &str, values: Vec<Option<String>>| {
        let values = values.into_iter().map(Option::unwrap_or_default);
        std::iter::once(name.to_owned())
            .chain(values)
            .collect::<Vec<_>>()
    };
    let settings = compared.settings.iter();
    let settings: Vec<Vec<String>> = settings
        .map(|(name, values)| cells(name, values.clone()))
        .collect();
    match settings.is_empty() {
        true => out += "\nthe settings are the same\n",
        false => out += &format!("\n{}", table(&beside("settings that differ"), &settings)),
    }
    let figures = compared.figures.iter().map(|(name, values)| {
        let values = values
            .iter()
            .map(|value| value.map(|value| value.to_string()));
        cells(&name.replace('_', " "), values.collect())
    });
    let sets = std::iter::once(cells("set", compared.sets.clone()));
    let figures: Vec<Vec<String>> = sets.chain(figures).collect();
    out += &format!("\n{}", table(&beside("final figures"), &figures));
    let chart = compared.chart();
    if !chart.is_empty() {
        out += &format!(
            "\nvalidation {}, * where runs meet\n{chart}",
            compared.watched.replace('_', " ")
        );
    }
    for note in &compared.notes {
        out += &format!("\nnote: {note}\n");
    }
    out
}
