//! The confusion matrix as a heat map, and the pairs most confused.

use std::fmt::Write;

use rekindle_metrics::ClassificationReport;

use super::{
    label,
    text::{count, percent, short_count},
};

/// Up to this many classes every cell has its count and every row its name.
const READABLE: usize = 30;
/// Pairs listed.
const PAIRS: usize = 15;

/// The heat map beside the list of confused pairs.
pub fn html(report: &ClassificationReport, labels: &[String]) -> String {
    let classes = report.confusion.len();
    if report.n == 0 || classes < 2 {
        return String::new();
    }
    let map = if classes <= READABLE {
        table(report, labels)
    } else {
        compact(report)
    };
    let layout = if classes <= READABLE {
        "stacked"
    } else {
        "beside"
    };
    // The matrix of two classes shows its only two kinds of mistake.
    let pairs = if classes == 2 {
        String::new()
    } else {
        pairs(report, labels)
    };
    format!(
        "<p class=\"lede\">Rows are the right classes, columns the predicted ones. \
         <span class=\"entry\"><i class=\"key square right\"></i>right</span> \
         <span class=\"entry\"><i class=\"key square wrong\"></i>wrong</span> \
         Colour is the share of the row.</p>\
         <div class=\"confusion {layout}\">{map}{pairs}</div>\n"
    )
}

/// The strength of a cell's colour: the square root of its share of the row, so that rare mistakes show.
fn strength(n: u64, row: u64) -> f64 {
    if row == 0 {
        0.0
    } else {
        (n as f64 / row as f64).sqrt()
    }
}

fn table(report: &ClassificationReport, labels: &[String]) -> String {
    let classes = report.confusion.len();
    let size = match classes {
        0..=4 => "large",
        5..=12 => "medium",
        13..=20 => "small",
        _ => "tiny",
    };
    let columns: String = (0..classes)
        .map(|class| {
            format!(
                "<th scope=\"col\"><span>{}</span></th>",
                label(labels, class)
            )
        })
        .collect();
    let mut rows = String::new();
    for (target, row) in report.confusion.iter().enumerate() {
        let total: u64 = row.iter().sum();
        let _ = write!(rows, "<tr><th scope=\"row\">{}</th>", label(labels, target));
        for (predicted, &n) in row.iter().enumerate() {
            let kind = if target == predicted {
                "right"
            } else {
                "wrong"
            };
            if n == 0 {
                let _ = write!(
                    rows,
                    "<td class=\"{}\"></td>",
                    if target == predicted { "zero" } else { "" }
                );
                continue;
            }
            let strength = strength(n, total);
            let share = match classes {
                0..=4 => format!("<small>{}</small>", percent(n as f64 / total as f64)),
                _ => String::new(),
            };
            let _ = write!(
                rows,
                "<td class=\"{kind}{}\" style=\"--s:{:.0}%\">{}{share}</td>",
                if strength > 0.82 { " strong" } else { "" },
                strength * 100.0,
                if classes > 4 {
                    short_count(n)
                } else {
                    count(n)
                },
            );
        }
        rows.push_str("</tr>");
    }
    format!(
        "<div class=\"scroll\" tabindex=\"0\"><table class=\"matrix {size}\"><thead><tr><td></td>{columns}</tr></thead>\
         <tbody>{rows}</tbody></table></div>"
    )
}

/// One square a cell without text; the names are in the list beside it.
fn compact(report: &ClassificationReport) -> String {
    let classes = report.confusion.len();
    let mut cells = String::new();
    for line in (10..classes).step_by(10) {
        let _ = write!(
            cells,
            "<path class=\"grid\" d=\"M{line} 0V{classes}M0 {line}H{classes}\"/>"
        );
    }
    for (target, row) in report.confusion.iter().enumerate() {
        let total = row.iter().sum();
        for (predicted, &n) in row.iter().enumerate().filter(|&(_, &n)| n > 0) {
            let kind = if target == predicted {
                "right"
            } else {
                "wrong"
            };
            let _ = write!(
                cells,
                "<path class=\"{kind}\" opacity=\"{:.2}\" d=\"M{predicted} {target}h1v1h-1z\"/>",
                0.15 + 0.85 * strength(n, total)
            );
        }
    }
    format!(
        "<figure class=\"map\"><svg viewBox=\"0 0 {classes} {classes}\" role=\"img\" \
         aria-label=\"Confusion matrix of {classes} classes\">{cells}</svg>\
         <figcaption>{classes} classes in the order of their ids, a line every ten</figcaption></figure>"
    )
}

fn pairs(report: &ClassificationReport, labels: &[String]) -> String {
    let mut wrong: Vec<(usize, usize, u64)> = Vec::new();
    for (target, row) in report.confusion.iter().enumerate() {
        let confused = row
            .iter()
            .enumerate()
            .filter(|&(predicted, &n)| predicted != target && n > 0);
        wrong.extend(confused.map(|(predicted, &n)| (target, predicted, n)));
    }
    if wrong.is_empty() {
        return "<p class=\"empty\">No class was taken for another.</p>".to_owned();
    }
    // Stable, so equal counts stay in the order of the class ids.
    wrong.sort_by_key(|&(_, _, n)| std::cmp::Reverse(n));
    let rows: String = wrong
        .iter()
        .take(PAIRS)
        .map(|&(target, predicted, n)| {
            format!(
                "<tr><td>{}</td><td>{}</td><td class=\"number\">{}</td><td class=\"number\">{}</td></tr>",
                label(labels, target),
                label(labels, predicted),
                count(n),
                percent(n as f64 / report.per_class[target].support.max(1) as f64)
            )
        })
        .collect();
    format!(
        "<table class=\"confused\"><caption>Most confused</caption><thead><tr><th scope=\"col\">right</th>\
         <th scope=\"col\">predicted</th><th scope=\"col\" class=\"number\">times</th>\
         <th scope=\"col\" class=\"number\">of the class</th></tr></thead><tbody>{rows}</tbody></table>"
    )
}
