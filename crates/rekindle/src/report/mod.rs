//! The report of a run as one HTML file: no script, no external resource, readable in light, in dark and on paper.
//!
//! [`render`] is a pure function of [`Report`]. Everything that comes from the user's data is escaped, and the page
//! carries a content security policy that forbids scripts and requests.

mod answers;
mod calibration;
mod chart;
mod choices;
mod classes;
mod compare;
mod confusion;
mod data;
mod embeddings;
mod entities;
mod extracted;
mod label_table;
mod labels;
mod mistakes;
mod numbers;
pub(crate) mod text;
mod training;
mod verdict;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::figures::{Figures, Section, Tile, Watched};
pub(crate) use compare::html as comparison;
use rekindle_base::{counted, words::duration};
use text::{count, escape, percent, short_count};

/// Everything the page shows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// The run's name.
    pub title: String,
    /// What was learned, such as `text classification`.
    pub task: String,
    /// The pretrained model.
    pub model: String,
    /// How it was tuned, such as `LoRA r 8` or `full fine-tuning`.
    pub method: String,
    /// The dataset.
    pub dataset: String,
    /// What tells the run from others: date, seed, sizes of the splits. Name and value.
    pub facts: Vec<(String, String)>,
    /// The command that made the run.
    pub command: String,
    /// Wall time of the whole run in seconds.
    pub seconds: f64,
    /// What a reader must know before trusting the figures.
    pub warnings: Vec<String>,
    /// Remarks worth keeping.
    pub notes: Vec<String>,
    /// The training history, by step; empty for a run that only evaluated.
    pub train: Vec<TrainPoint>,
    /// The learning rate by step, as the schedule has it: every step, or enough of them to draw it.
    pub schedule: Vec<(u64, f64)>,
    /// What makes the training loss greater than that of the same model in evaluation: `dropout`, `label smoothing 0.1`.
    pub lifted_by: Vec<String>,
    /// Evaluations, by step.
    pub evaluations: Vec<EvalPoint>,
    /// The step whose checkpoint was kept as the best.
    pub best_step: Option<u64>,
    /// Steps at which the run was resumed from a checkpoint.
    pub resumed_at: Vec<u64>,
    /// The figures that are charted over the run, the loss first.
    pub watched: Vec<Watched>,
    /// The set that `figures` are of.
    pub final_split: String,
    /// The figures of the kept model.
    pub figures: Figures,
    /// The examples themselves.
    pub data: Option<DataSummary>,
    /// The examples of `final_split` that the model got most wrong, worst first.
    pub mistakes: Vec<Mistake>,
    /// Where there is no mistake: the right answers that it was least sure of.
    pub doubtful: Vec<Mistake>,
    /// What a language model answered to fixed prompts, before training and at each evaluation.
    pub samples: Vec<Answered>,
    /// Its final answers that are furthest from the right ones, the furthest first.
    pub worst_answers: Vec<Answered>,
    /// The resolved configuration.
    pub config_toml: String,
    /// Phases of the run and their wall time in seconds.
    pub timings: Vec<(String, f64)>,
    /// Parameters: all, and those trained.
    pub parameters: (u64, u64),
    /// Versions, device, threads: name and value.
    pub environment: Vec<(String, String)>,
}

/// The examples of a run in a few numbers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DataSummary {
    /// The splits, the training examples first.
    pub splits: Vec<SplitSize>,
    /// One example in words: `text`, `picture`.
    pub noun: String,
    /// Their size in words: `35.7 tokens each`.
    pub sizes: String,
    /// How many examples have each label; empty where there are no labels.
    pub labels: Vec<LabelCounts>,
    /// The numbers that are learned; empty where there are none.
    pub numbers: Vec<NumberSpread>,
    /// Lengths of the training examples in tokens; `None` where all are alike.
    pub lengths: Option<Lengths>,
    /// Longer examples are cut to this many tokens; 0 where nothing is cut.
    pub max_length: u64,
    /// Split, file, and its sha256, which may be empty.
    pub files: Vec<(String, String, String)>,
}

/// How many examples a split has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SplitSize {
    /// `train`, `validation` or `test`.
    pub name: String,
    /// Its examples.
    pub examples: u64,
    /// Those that lost tokens to the longest length.
    pub cut: u64,
}

/// How many examples of each split have a label.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LabelCounts {
    /// The label.
    pub name: String,
    /// Examples, by split.
    pub counts: Vec<u64>,
}

/// The values of a number that is learned.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NumberSpread {
    /// Its name.
    pub name: String,
    /// Least, mean and greatest value, by split.
    pub spreads: Vec<[f64; 3]>,
}

/// A histogram of lengths.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lengths {
    /// Lengths in a bar: the first has those from 0 to one less.
    pub width: u64,
    /// Examples in each bar.
    pub bars: Vec<u64>,
    /// Half of the examples are no longer.
    pub median: u64,
    /// The longest.
    pub longest: u64,
}

/// One logged optimizer step.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct TrainPoint {
    /// Optimizer step, from 1.
    pub step: u64,
    /// Epochs done, with fraction.
    pub epoch: f64,
    /// Mean loss of the step in nats; `null` in JSON where not finite.
    #[serde(with = "rekindle_metrics::nan_as_null")]
    pub loss: f64,
    /// Learning rate of the step.
    pub learning_rate: f64,
    /// Global gradient norm before clipping.
    pub grad_norm: Option<f64>,
    /// Throughput.
    pub examples_per_second: f64,
}

/// One evaluation of a split.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EvalPoint {
    /// Optimizer step, 0 before the first.
    pub step: u64,
    /// Epochs done, with fraction.
    pub epoch: f64,
    /// The split's name.
    pub split: String,
    /// Its figures by key; one that is not a number is missing.
    pub figures: BTreeMap<String, f64>,
}

/// A span of a text: right, predicted, or both.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MarkedSpan {
    /// The first character, counted from 0.
    pub start: usize,
    /// The character behind the last.
    pub end: usize,
    /// What it is.
    pub label: String,
    /// Whether it is right.
    pub right: bool,
    /// Whether it was predicted.
    pub said: bool,
}

/// An example the model got wrong.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Mistake {
    /// The text.
    pub text: String,
    /// The second text of a pair.
    pub text_pair: Option<String>,
    /// Where the example stands, such as `test.csv:17`.
    pub place: String,
    /// What is right; empty where `predicted` tells.
    pub label: String,
    /// What was predicted.
    pub predicted: String,
    /// What is marked in the text: the right spans and those that were predicted; empty where that is no answer.
    #[serde(default)]
    pub spans: Vec<MarkedSpan>,
    /// Probability given to `predicted`, in `0..=1`, where the model gives one.
    pub probability: Option<f64>,
    /// Loss of the example; `null` in JSON where not finite.
    #[serde(with = "rekindle_metrics::nan_as_null")]
    pub loss: f64,
    /// The most probable labels, the most probable first; empty where the model gives no probabilities.
    #[serde(default)]
    pub top: Vec<(String, f64)>,
    /// The picture as a JPEG file, where the example is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub picture: Option<Vec<u8>>,
}

/// A prompt with its right answer and what was answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answered {
    /// Where it stands, such as `test.jsonl:17`.
    pub place: String,
    /// The turns before the answer.
    pub prompt: String,
    /// The right answer.
    pub reference: String,
    /// What was answered, by step.
    pub said: Vec<Said>,
}

/// An answer of a run's model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Said {
    /// Steps that the model had done; 0 for the base model.
    pub step: u64,
    /// The answer.
    pub text: String,
}

/// The report as a whole HTML document.
pub fn render(report: &Report) -> String {
    let mut sections = vec![("Training", training::html(report))];
    if let Some(data) = &report.data {
        sections.push(("Data", data::html(data)));
    }
    if report.figures.n > 0 {
        sections.extend(report.figures.sections.iter().flat_map(section));
    }
    sections.extend([
        ("Fixed prompts", answers::samples(report)),
        ("Worst answers", answers::worst(report)),
        (mistakes::heading(report), mistakes::html(report)),
        ("Time", timings(report)),
        ("Configuration", configuration(report)),
        ("Environment", pairs("pairs", &report.environment)),
    ]);
    let sections: String = sections
        .into_iter()
        .filter(|(_, body)| !body.is_empty())
        .map(|(heading, body)| format!("<section><h2>{heading}</h2>\n{body}</section>\n"))
        .collect();
    let title = format!("{}{}", report.title, date(report));
    page(&title, &format!("{}{sections}", header(report)))
}

/// A whole HTML document of this title.
fn page(title: &str, body: &str) -> String {
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; img-src data:; style-src 'unsafe-inline'\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n\
         <title>{title} · Rekindle</title>\n<style>\n{style}</style>\n</head>\n<body>\n<main>\n{body}\
         <footer>Rekindle {version}. This page is one file: it runs no script and loads nothing.</footer>\n\
         </main>\n</body>\n</html>\n",
        style = include_str!("style.css"),
        title = escape(title),
        version = env!("CARGO_PKG_VERSION"),
    )
}

/// The day of the run behind its name.
fn date(report: &Report) -> String {
    let date = report.facts.iter().find(|(name, _)| name == "date");
    date.map_or_else(String::new, |(_, date)| format!(" · {date}"))
}

/// A part of the figures, under one heading or several.
fn section(section: &Section) -> Vec<(&'static str, String)> {
    match section {
        Section::Classes {
            report,
            labels,
            calibration,
        } => vec![
            ("Classes", classes::html(report, labels)),
            ("Confusion", confusion::html(report, labels)),
            ("Confidence", calibration::html(calibration)),
        ],
        Section::Labels { report, labels } => vec![("Labels", labels::html(report, labels))],
        Section::Numbers { report, names } => {
            vec![("Predictions", numbers::html(report, names))]
        }
        Section::Entities { report } => vec![("Entities", entities::html(report))],
        Section::Extracted { report } => vec![("Answers", extracted::html(report))],
        Section::Choices { rows, calibration } => vec![
            ("Choices", choices::html(rows)),
            ("Confidence", calibration::html(calibration)),
        ],
        Section::Embeddings { rows } => vec![("Embeddings", embeddings::html(rows))],
        Section::Answers { report, base } => {
            vec![("Answers", answers::table(report, base.as_ref()))]
        }
    }
}

/// Title, what was tuned on what, headline figures, warnings.
fn header(report: &Report) -> String {
    let figures = &report.figures;
    let share = match report.parameters {
        (0, _) => String::new(),
        (total, trained) => format!(
            "{} of {}",
            percent(trained as f64 / total as f64),
            short_count(total)
        ),
    };
    let mut tiles = String::new();
    let lead = format!("lead {}", verdict::class(figures.guess.as_ref()));
    if figures.n > 0 {
        for (index, shown) in figures.tiles.iter().enumerate() {
            let Tile {
                name,
                value,
                detail,
            } = shown;
            let (class, name) = match index {
                0 => (lead.as_str(), format!("{} {name}", report.final_split)),
                _ => ("", name.clone()),
            };
            tiles += &tile(class, &escape(&name), &escape(value), &escape(detail));
        }
    }
    tiles += &tile("", "time", &duration(report.seconds), &last_step(report));
    if report.parameters.0 > 0 {
        tiles += &tile(
            "",
            "parameters trained",
            &short_count(report.parameters.1),
            &share,
        );
    }
    let origin: Vec<String> = [&report.task, &report.model, &report.method, &report.dataset]
        .into_iter()
        .filter(|part| !part.is_empty())
        .map(|part| format!("<span>{}</span>", escape(part)))
        .collect();
    let mut warnings = report.warnings.clone();
    warnings.extend(figures.warnings.clone());
    let broken: Vec<u64> = report
        .train
        .iter()
        .filter(|p| !p.loss.is_finite())
        .map(|p| p.step)
        .collect();
    if let Some(&first) = broken.first() {
        warnings.push(format!(
            "The training loss was not finite in {} logged {}, first at step {}.",
            broken.len(),
            if broken.len() == 1 { "step" } else { "steps" },
            count(first)
        ));
    }
    let warnings = list("warnings", &warnings);
    format!(
        "<header>\n<h1>{}</h1>\n<p class=\"origin\">{}</p>\n{facts}<dl class=\"tiles\">{tiles}</dl>\n{verdict}{warnings}{notes}\
         <pre class=\"command\" tabindex=\"0\">{}</pre>\n</header>\n",
        escape(&report.title),
        origin.join(""),
        escape(&report.command),
        facts = pairs("facts", &report.facts),
        verdict = verdict::html(figures.guess.as_ref(), figures.too_few().as_deref()),
        notes = list("notes", &report.notes),
    )
}

fn tile(class: &str, name: &str, value: &str, detail: &str) -> String {
    format!(
        "<div class=\"tile {class}\"><dt>{name}</dt><dd>{value}</dd><dd class=\"detail\">{detail}</dd></div>"
    )
}

fn last_step(report: &Report) -> String {
    match report.train.last() {
        Some(point) => {
            format!(
                "{}, {} epochs",
                counted(point.step as usize, "step", "steps"),
                text::trimmed(point.epoch, 2)
            )
        }
        None => String::new(),
    }
}

fn list(class: &str, items: &[String]) -> String {
    if items.is_empty() {
        return String::new();
    }
    let items: String = items
        .iter()
        .map(|item| format!("<li>{}</li>", escape(item)))
        .collect();
    format!("<ul class=\"{class}\">{items}</ul>\n")
}

fn timings(report: &Report) -> String {
    let longest = report
        .timings
        .iter()
        .map(|(_, seconds)| *seconds)
        .fold(0.0, f64::max);
    if longest <= 0.0 {
        return String::new();
    }
    let rows: String = report
        .timings
        .iter()
        .map(|(name, seconds)| {
            // `max` of a NaN is the other operand.
            let width = (seconds / longest * 100.0).max(0.0);
            format!(
                "<tr><th scope=\"row\">{}</th><td class=\"wide\"><i class=\"bar\" style=\"width:{width:.2}%\"></i></td>\
                 <td class=\"number\">{}</td></tr>",
                escape(name),
                duration(*seconds)
            )
        })
        .collect();
    format!("<table class=\"timings\"><tbody>{rows}</tbody></table>\n")
}

fn configuration(report: &Report) -> String {
    if report.config_toml.trim().is_empty() {
        return String::new();
    }
    format!(
        "<details><summary>The resolved run file</summary><pre tabindex=\"0\">{}</pre></details>\n",
        escape(report.config_toml.trim_end())
    )
}

fn pairs(class: &str, entries: &[(String, String)]) -> String {
    if entries.is_empty() {
        return String::new();
    }
    let entries: String = entries
        .iter()
        .map(|(name, value)| {
            format!(
                "<div><dt>{}</dt><dd>{}</dd></div>",
                escape(name),
                escape(value)
            )
        })
        .collect();
    format!("<dl class=\"{class}\">{entries}</dl>\n")
}

/// The name of a class, its id where the label set has none, isolated from the direction of the text around it and
/// free to wrap after underscores.
fn label(labels: &[String], class: usize) -> String {
    match labels.get(class) {
        Some(found) => name(found),
        None => format!("class {class}"),
    }
}

/// A label's name as HTML; a long one may break behind an underscore.
fn name(label: &str) -> String {
    format!("<bdi>{}</bdi>", escape(label).replace('_', "_<wbr>"))
}

#[cfg(test)]
mod tests;
