//! The examples: how many of each label in each split, how long they are, and the files that they come from.

use std::fmt::Write;

use super::{
    DataSummary, LabelCounts, Lengths,
    text::{count, escape, figure, percent},
};

/// Labels shown before the rest is folded away.
const SHOWN: usize = 20;
/// Digits of a hash that are shown; the whole one stands in `results.json`.
const DIGITS: usize = 12;

/// The whole section.
pub fn html(data: &DataSummary) -> String {
    let noun = escape(&data.noun);
    let sizes: Vec<String> = (data.splits.iter())
        .map(|split| format!("{} {}", count(split.examples), escape(&split.name)))
        .collect();
    // Lengths have a chart, which says more.
    let each = match &data.lengths {
        Some(_) => String::new(),
        None => format!("; {}", escape(&data.sizes)),
    };
    let mut out = format!(
        "<p class=\"lede\">{} {noun}s{each}.{}</p>",
        sizes.join(", "),
        cut(data)
    );
    let parts = [labels(data), lengths(data.lengths.as_ref())].concat();
    if !parts.is_empty() {
        let _ = write!(out, "<div class=\"data\">{parts}</div>");
    }
    out += &numbers(data);
    out += &files(data);
    out + "\n"
}

/// How many examples were cut.
fn cut(data: &DataSummary) -> String {
    let all: u64 = data.splits.iter().map(|split| split.examples).sum();
    let cut: u64 = data.splits.iter().map(|split| split.cut).sum();
    match (data.max_length, cut) {
        (0, _) => String::new(),
        (most, 0) => format!(" None is longer than {} tokens.", count(most)),
        (most, cut) => format!(
            " {} ({}) lost their end: they are cut to {} tokens.",
            count(cut),
            percent(cut as f64 / all as f64),
            count(most)
        ),
    }
}

/// Counts of labels, the most frequent of the first split first.
fn labels(data: &DataSummary) -> String {
    if data.labels.is_empty() {
        return String::new();
    }
    let mut order: Vec<&LabelCounts> = data.labels.iter().collect();
    order.sort_by_key(|label| std::cmp::Reverse(label.counts.first().copied()));
    let most = order
        .first()
        .and_then(|label| label.counts.first())
        .copied();
    let most = most.unwrap_or(0).max(1) as f64;
    let heads: String = data
        .splits
        .iter()
        .map(|split| {
            format!(
                "<th scope=\"col\" class=\"number\">{}</th>",
                escape(&split.name)
            )
        })
        .collect();
    let head = format!(
        "<thead><tr><th scope=\"col\">label</th><th class=\"wide\"></th>{heads}</tr></thead>"
    );
    let rows = |labels: &[&LabelCounts]| -> String {
        let row = |label: &&LabelCounts| {
            let share = label
                .counts
                .first()
                .map_or(0.0, |&n| n as f64 / most * 100.0);
            let cells: String = (label.counts.iter())
                .map(|&n| format!("<td class=\"number\">{}</td>", count(n)))
                .collect();
            format!(
                "<tr><th scope=\"row\"><bdi>{}</bdi></th><td class=\"wide\"><i class=\"bar quiet\" style=\"width:{share:.1}%\"></i></td>{cells}</tr>",
                escape(&label.name).replace('_', "_<wbr>")
            )
        };
        labels.iter().map(row).collect()
    };
    let table = |labels: &[&LabelCounts]| {
        format!(
            "<table class=\"counts\">{head}<tbody>{}</tbody></table>",
            rows(labels)
        )
    };
    let shown = if order.len() > SHOWN + 2 {
        SHOWN
    } else {
        order.len()
    };
    let (first, rest) = order.split_at(shown);
    let mut out = table(first);
    if !rest.is_empty() {
        let _ = write!(
            out,
            "<details><summary>{} more labels</summary>{}</details>",
            count(rest.len() as u64),
            table(rest)
        );
    }
    format!("<div class=\"labels-of\">{out}</div>")
}

/// The histogram of lengths.
fn lengths(lengths: Option<&Lengths>) -> String {
    let Some(lengths) = lengths.filter(|lengths| !lengths.bars.is_empty()) else {
        return String::new();
    };
    let most = lengths.bars.iter().copied().max().unwrap_or(0).max(1) as f64;
    let bars = lengths.bars.len() as f64;
    let mut inner = String::new();
    for (at, &n) in lengths.bars.iter().enumerate() {
        let (from, to) = (
            at as u64 * lengths.width,
            (at as u64 + 1) * lengths.width - 1,
        );
        let range = match from == to {
            true => count(from),
            false => format!("{} to {}", count(from), count(to)),
        };
        // Writing to a string does not fail.
        let _ = write!(
            inner,
            "<i class=\"bar\" style=\"left:{:.2}%;width:{:.2}%;height:{:.1}%\"></i>\
             <i class=\"hover{}\" style=\"left:{:.2}%;width:{:.2}%\" data-t=\"{range} tokens: {}\"></i>",
            at as f64 / bars * 100.0 + 0.3,
            100.0 / bars - 0.6,
            n as f64 / most * 100.0,
            if at as f64 > bars / 2.0 { " left" } else { "" },
            at as f64 / bars * 100.0,
            100.0 / bars,
            count(n),
        );
    }
    format!(
        "<figure class=\"chart lengths\"><figcaption><b>Length</b> <span class=\"unit\">of training examples, in tokens</span></figcaption>\
         <div class=\"shares tall\" role=\"img\" aria-label=\"Histogram of lengths: half have at most {median} tokens, the longest {longest}\">{inner}</div>\
         <p class=\"ends\"><span>0</span><span>{end}</span></p><p class=\"remark\">Half have at most {median} tokens, the longest {longest}.</p></figure>",
        median = count(lengths.median),
        longest = count(lengths.longest),
        end = count(lengths.width * lengths.bars.len() as u64 - 1),
    )
}

/// Least, mean and greatest value of each number in each split.
fn numbers(data: &DataSummary) -> String {
    if data.numbers.is_empty() {
        return String::new();
    }
    let mut rows = String::new();
    for number in &data.numbers {
        for (split, [least, mean, most]) in data.splits.iter().zip(&number.spreads) {
            let _ = write!(
                rows,
                "<tr><th scope=\"row\"><bdi>{}</bdi></th><td>{}</td><td class=\"number\">{}</td><td class=\"number\">{}</td><td class=\"number\">{}</td></tr>",
                escape(&number.name),
                escape(&split.name),
                figure(*least),
                figure(*mean),
                figure(*most)
            );
        }
    }
    format!(
        "<table class=\"counts\"><thead><tr><th scope=\"col\">number</th><th scope=\"col\">split</th><th scope=\"col\" class=\"number\">least</th>\
         <th scope=\"col\" class=\"number\">mean</th><th scope=\"col\" class=\"number\">greatest</th></tr></thead><tbody>{rows}</tbody></table>"
    )
}

/// The files, with the beginnings of their hashes.
fn files(data: &DataSummary) -> String {
    if data.files.is_empty() {
        return String::new();
    }
    let file = |(split, path, hash): &(String, String, String)| {
        let short: String = hash.chars().take(DIGITS).collect();
        let hash = match short.is_empty() {
            true => String::new(),
            false => format!(" <span class=\"times\">sha256 {}</span>", escape(&short)),
        };
        format!(
            "<div><dt>{}</dt><dd><bdi>{}</bdi>{hash}</dd></div>",
            escape(split),
            escape(path)
        )
    };
    let files: String = data.files.iter().map(file).collect();
    format!("<dl class=\"pairs files\">{files}</dl>")
}
