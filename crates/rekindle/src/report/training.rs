//! The curves of a run: loss, accuracy, learning rate, gradient norm, throughput.

use super::{
    Report, TrainPoint, Watched,
    chart::{Chart, Dots, Line, Mark, smooth},
    text::{count, figure, percent, scientific},
};

/// Epoch boundaries are marked up to this many epochs.
const MARKED_EPOCHS: f64 = 12.0;
/// A curve is smoothed over this part of its points to either side.
const SMOOTHED_PART: usize = 40;
/// Colour classes of the evaluated splits: for values, and for a second value of the same split.
const SPLIT_CLASSES: [(&str, &str); 3] = [
    ("second", "second dashed"),
    ("third", "third dashed"),
    ("fourth", "fourth dashed"),
];

/// A value an axis, a tooltip or a description shows.
type Format = fn(f64) -> String;

/// All charts; a sentence when nothing was trained or evaluated on the way.
pub fn html(report: &Report) -> String {
    if report.train.is_empty() && report.evaluations.is_empty() {
        return "<p class=\"empty\">No training was recorded in this run.</p>".to_owned();
    }
    let mut charts = loss(report);
    if !report.evaluations.is_empty() {
        charts += &watched(report);
    }
    if !report.train.is_empty() {
        let rates = match report.schedule.is_empty() {
            true => trained(report, |point| Some(point.learning_rate)),
            false => (report.schedule.iter())
                .map(|&(step, rate)| (step as f64, rate))
                .collect(),
        };
        let rate = Line::new("", "first", rates);
        charts += &small("Learning rate", "", vec![rate], |rate| scientific(rate, 2)).html();
        let norms = trained(report, |point| point.grad_norm);
        if !norms.is_empty() {
            charts += &small(
                "Gradient norm",
                "before clipping",
                unnamed(curve(norms)),
                figure,
            )
            .html();
        }
        let speed = trained(report, |point| Some(point.examples_per_second));
        charts += &small(
            "Throughput",
            match per_token(report) {
                true => "learned tokens per second",
                false => "examples per second",
            },
            unnamed(curve(speed)),
            figure,
        )
        .html();
    }
    format!("<div class=\"charts\">{charts}</div>\n")
}

/// Whether what is counted are tokens: of a language model.
fn per_token(report: &Report) -> bool {
    let mut watched = report.watched.iter();
    watched.any(|figure| figure.key == "perplexity")
}

fn loss(report: &Report) -> String {
    let mut marks = epochs(&report.train);
    marks.extend(
        report
            .resumed_at
            .iter()
            .map(|&step| Mark::new(step as f64, "resumed", "resumed")),
    );
    marks.extend(best(report, true));
    let dots = splits(report).into_iter().map(|(split, (class, _))| Dots {
        name: split.to_owned(),
        class,
        points: evaluated(report, split, "loss"),
    });
    Chart {
        title: "Loss",
        unit: match per_token(report) {
            true => "per token",
            false => "per example",
        },
        size: "tall",
        lines: curve(trained(report, |point| Some(point.loss))),
        dots: dots.collect(),
        marks,
        format: figure,
        from_zero: false,
        ceiling: None,
        note: lifted(report),
    }
    .html()
}

/// Why the training loss lies above that of validation, where it does and the run says why it might.
fn lifted(report: &Report) -> String {
    /// The part of the run whose training loss is compared.
    const END: usize = 10;
    let last = report.evaluations.last();
    let Some(validation) = last.and_then(|point| point.figures.get("loss").copied()) else {
        return String::new();
    };
    let end = report.train.len() - report.train.len().div_ceil(END);
    let losses: Vec<f64> = report.train[end..].iter().map(|point| point.loss).collect();
    let training = losses.iter().sum::<f64>() / losses.len() as f64;
    match report.lifted_by.as_slice() {
        [] => String::new(),
        causes if training > validation => format!(
            "The training loss is measured with {}, the validation loss without: that lifts it above.",
            causes.join(" and ")
        ),
        _ => String::new(),
    }
}

/// The watched figures behind the loss: shares in one chart, each other one in a chart of its own. What no evaluation has, such as the
/// correlation with scores where there are none, has no chart.
fn watched(report: &Report) -> String {
    let is_there = |figure: &&Watched| {
        let mut evaluations = report.evaluations.iter();
        report.evaluations.is_empty()
            || evaluations.any(|evaluated| evaluated.figures.contains_key(&figure.key))
    };
    let others = report.watched.iter().filter(|figure| figure.key != "loss");
    let others = others.filter(is_there);
    let (shares, numbers): (Vec<_>, Vec<_>) = others.partition(|figure| figure.share);
    let mut charts = String::new();
    if let Some((first, rest)) = shares.split_first() {
        charts += &figures(report, first, rest, percent, Some(1.0));
    }
    for number in numbers {
        charts += &figures(report, number, &[], figure, None);
    }
    charts
}

/// One figure as a line with dots, others of the same unit as dashed lines.
fn figures(
    report: &Report,
    first: &Watched,
    others: &[&Watched],
    format: Format,
    ceiling: Option<f64>,
) -> String {
    let splits = splits(report);
    let line = |split: &str, class, figure: &Watched| {
        let points = evaluated(report, split, &figure.key);
        Line::new(&format!("{split} {}", figure.name), class, points)
    };
    let mut lines = Vec::new();
    for figure in others {
        let dashed = splits
            .iter()
            .map(|&(split, (_, class))| line(split, class, figure));
        lines.extend(dashed);
    }
    lines.extend(
        splits
            .iter()
            .map(|&(split, (class, _))| line(split, class, first)),
    );
    let dots = splits.iter().map(|&(split, (class, _))| Dots {
        name: String::new(),
        class,
        points: evaluated(report, split, &first.key),
    });
    // Names with capitals of their own, such as mAP, stay as they are.
    let mut title = first.name.clone();
    if title.chars().all(|letter| !letter.is_uppercase()) {
        let mut letters = title.chars();
        let capital = letters.next().map(|letter| letter.to_ascii_uppercase());
        title = capital.into_iter().chain(letters).collect();
    }
    let unit = if first.share { "share" } else { "" };
    Chart {
        dots: dots.collect(),
        marks: best(report, false),
        from_zero: false,
        ceiling,
        ..small(&title, unit, lines, format)
    }
    .html()
}

fn small<'a>(title: &'a str, unit: &'a str, lines: Vec<Line>, format: Format) -> Chart<'a> {
    Chart {
        title,
        unit,
        size: "small",
        lines,
        dots: vec![],
        marks: vec![],
        format,
        from_zero: true,
        ceiling: None,
        note: String::new(),
    }
}

/// A noisy series, faint, under itself smoothed; a short one as it is.
///
/// The names stand in the loss chart's legend; the small charts look the same and need none.
fn curve(points: Vec<(f64, f64)>) -> Vec<Line> {
    let smoothed = smooth(&points, points.len() / SMOOTHED_PART);
    match points.len() {
        0 => vec![],
        n if n < SMOOTHED_PART => vec![Line::new("training", "first", points)],
        _ => vec![
            Line::new("each step", "raw", points),
            Line {
                derived: true,
                ..Line::new("smoothed", "first", smoothed)
            },
        ],
    }
}

fn unnamed(lines: Vec<Line>) -> Vec<Line> {
    let unnamed = lines.into_iter().map(|line| Line {
        name: String::new(),
        ..line
    });
    unnamed.collect()
}

fn trained(report: &Report, value: fn(&TrainPoint) -> Option<f64>) -> Vec<(f64, f64)> {
    report
        .train
        .iter()
        .filter_map(|point| Some((point.step as f64, value(point)?)))
        .collect()
}

fn evaluated(report: &Report, split: &str, key: &str) -> Vec<(f64, f64)> {
    let points = report
        .evaluations
        .iter()
        .filter(|point| point.split == split);
    points
        .map(|point| {
            let value = point.figures.get(key).copied();
            (point.step as f64, value.unwrap_or(f64::NAN))
        })
        .collect()
}

/// The evaluated splits in the order they appear, each with its colour classes.
fn splits(report: &Report) -> Vec<(&str, (&'static str, &'static str))> {
    let mut names: Vec<&str> = Vec::new();
    for point in &report.evaluations {
        if !names.contains(&point.split.as_str()) {
            names.push(&point.split);
        }
    }
    names
        .into_iter()
        .zip(SPLIT_CLASSES.into_iter().cycle())
        .collect()
}

fn best(report: &Report, named: bool) -> Vec<Mark> {
    let mark = |step: u64| {
        let label = if named {
            format!("best, step {}", count(step))
        } else {
            String::new()
        };
        Mark::new(step as f64, &label, "best")
    };
    report.best_step.map(mark).into_iter().collect()
}

/// A mark where each epoch after the first begins, interpolated between the logged steps.
fn epochs(train: &[TrainPoint]) -> Vec<Mark> {
    let boundaries = train.last().map_or(0.0, |last| last.epoch.ceil() - 1.0);
    if !(1.0..MARKED_EPOCHS).contains(&boundaries) {
        return vec![];
    }
    let boundary = |epoch: u32| {
        let epoch = f64::from(epoch);
        let after = train.iter().position(|point| point.epoch >= epoch)?;
        let end = &train[after];
        let (step, from) = match after {
            0 => (0.0, 0.0),
            _ => (train[after - 1].step as f64, train[after - 1].epoch),
        };
        let share = (epoch - from) / (end.epoch - from);
        Some(Mark::new(
            step + share * (end.step as f64 - step),
            "",
            "epoch",
        ))
    };
    (1..=boundaries as u32).filter_map(boundary).collect()
}
