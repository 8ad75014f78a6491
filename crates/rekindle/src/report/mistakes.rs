//! The worst mistakes with their text or picture.

use base64::{Engine, engine::general_purpose::STANDARD};

use rekindle_data::tokens::slice;

use super::{
    MarkedSpan, Mistake, Report, Section,
    text::{count, cut, escape, figure, percent},
};

/// Mistakes shown before the rest is folded away.
const SHOWN: usize = 10;
/// Pictures shown before the rest is folded away.
const SHOWN_PICTURES: usize = 12;
/// Characters of a text shown before the rest is folded away.
const EXCERPT: usize = 280;
/// Characters of a text kept at all; a report must not carry whole books.
const KEPT: usize = 10_000;

/// What the list is called.
pub fn heading(report: &Report) -> &'static str {
    match report.mistakes.is_empty() && !report.doubtful.is_empty() {
        true => "Least sure",
        false => "Worst mistakes",
    }
}

/// The list of mistakes, worst first; where there are none, the right answers that were least sure.
pub fn html(report: &Report) -> String {
    if report.figures.n == 0 {
        return String::new();
    }
    let items = |mistakes: &[Mistake]| -> String {
        let pictures = mistakes.iter().all(|mistake| mistake.picture.is_some());
        format!(
            "<ol class=\"mistakes{}\">{}</ol>",
            if pictures { " grid" } else { "" },
            mistakes.iter().map(item).collect::<String>()
        )
    };
    let split = escape(&report.final_split);
    if report.mistakes.is_empty() && report.doubtful.is_empty() {
        return format!("<p class=\"empty\">No mistake on the {split} split.</p>\n");
    }
    if report.mistakes.is_empty() {
        let lede = format!("No mistake on the {split} split. Right, but with the least certainty:");
        return in_parts(&lede, &report.doubtful, SHOWN_PICTURES, items);
    }
    let labelled = |section: &Section| {
        matches!(
            section,
            Section::Classes { .. } | Section::Labels { .. } | Section::Entities { .. }
        )
    };
    let advice = match report.figures.sections.iter().any(labelled) {
        true => " A confident mistake is often a wrong label.",
        false => "",
    };
    let lede = format!("The {split} split, highest loss first.{advice}");
    let pictures = report
        .mistakes
        .iter()
        .all(|mistake| mistake.picture.is_some());
    let shown = if pictures { SHOWN_PICTURES } else { SHOWN };
    in_parts(&lede, &report.mistakes, shown, items)
}

/// A list under a sentence: the first so many items, and the rest folded away.
pub(super) fn in_parts<T>(
    lede: &str,
    all: &[T],
    shown: usize,
    list: impl Fn(&[T]) -> String,
) -> String {
    let (first, rest) = all.split_at(all.len().min(shown));
    let mut out = format!("<p class=\"lede\">{lede}</p>{}\n", list(first));
    if !rest.is_empty() {
        out += &format!(
            "<details><summary>{} more</summary>{}</details>\n",
            count(rest.len() as u64),
            list(rest)
        );
    }
    out
}

fn item(mistake: &Mistake) -> String {
    let pair = mistake
        .text_pair
        .as_deref()
        .map(excerpt)
        .unwrap_or_default();
    let picture = mistake.picture.as_ref().map(|bytes| {
        format!(
            "<img alt=\"\" src=\"data:image/jpeg;base64,{}\">",
            STANDARD.encode(bytes)
        )
    });
    let probability = mistake
        .probability
        .map_or_else(String::new, |p| format!(" {}", percent(p)));
    let right = match mistake.label.is_empty() {
        true => String::new(),
        false => format!(
            "<span class=\"truth\">right: <bdi>{}</bdi></span>",
            escape(&mistake.label)
        ),
    };
    let said = match mistake.predicted == mistake.label {
        true => "truth",
        false => "said",
    };
    let right = match mistake.predicted == mistake.label {
        true => String::new(),
        false => right,
    };
    format!(
        "<li>{}{}{pair}<p class=\"verdict\"><span class=\"{said}\"><bdi>{}</bdi>{}</span>\
         {right}<span class=\"where\">loss {} · <bdi>{}</bdi></span></p>{}</li>",
        picture.unwrap_or_default(),
        match mistake.spans.is_empty() {
            true => excerpt(&mistake.text),
            false => marked(&mistake.text, &mistake.spans),
        },
        escape(&mistake.predicted),
        probability,
        figure(mistake.loss),
        escape(&mistake.place),
        top(mistake),
    )
}

/// The most probable labels as bars, the right one marked.
fn top(mistake: &Mistake) -> String {
    let row = |(label, probability): &(String, f64)| {
        let right = *label == mistake.label;
        format!(
            "<tr{}><th scope=\"row\"><bdi>{}</bdi>{}</th><td class=\"wide\"><i class=\"bar\" style=\"width:{:.1}%\"></i></td><td class=\"number\">{}</td></tr>",
            if right { " class=\"truth\"" } else { "" },
            escape(label).replace('_', "_<wbr>"),
            if right { " ✓" } else { "" },
            probability.max(0.0) * 100.0,
            percent(*probability)
        )
    };
    match mistake.top.is_empty() {
        true => String::new(),
        false => {
            let rows: String = mistake.top.iter().map(row).collect();
            format!("<table class=\"top\"><tbody>{rows}</tbody></table>")
        }
    }
}

/// A text with what is labelled in it: right and predicted, right and missed, or predicted and wrong.
fn marked(text: &str, spans: &[MarkedSpan]) -> String {
    let length = text.chars().count();
    let mut ends: Vec<usize> = spans
        .iter()
        .flat_map(|span| [span.start, span.end])
        .collect();
    ends.extend([0, length.min(KEPT)]);
    ends.retain(|&end| end <= length.min(KEPT));
    ends.sort_unstable();
    ends.dedup();
    let mut html = String::new();
    for piece in ends.windows(2) {
        let (start, end) = (piece[0], piece[1]);
        let stands = escape(slice(text, start..end));
        let covers = |span: &&MarkedSpan| span.start <= start && span.end >= end;
        let of: Vec<&MarkedSpan> = spans.iter().filter(covers).collect();
        let class = match (
            of.iter().any(|span| span.right),
            of.iter().any(|span| span.said),
        ) {
            (false, false) => {
                html += &stands;
                continue;
            }
            (true, true) if of.len() == 1 => "hit",
            (true, _) => "missed",
            (false, true) => "extra",
        };
        // The label stands where its span ends.
        let names: String = (of.iter().filter(|span| span.end == end))
            .map(|span| {
                let class = if span.right { "truth" } else { "said" };
                format!("<sub class=\"{class}\">{}</sub>", escape(&span.label))
            })
            .collect();
        html += &format!("<mark class=\"{class}\">{stands}{names}</mark>");
    }
    if length > KEPT {
        let left = count((length - KEPT) as u64);
        html += &format!(" … ({left} more characters)");
    }
    match cut(text, EXCERPT) {
        None => format!("<blockquote dir=\"auto\">{html}</blockquote>"),
        Some(start) => format!(
            "<details class=\"long\"><summary dir=\"auto\">{} …</summary><blockquote dir=\"auto\">{html}</blockquote></details>",
            escape(start)
        ),
    }
}

/// A text in its own direction, long ones folded.
fn excerpt(text: &str) -> String {
    if text.trim().is_empty() {
        return "<blockquote class=\"empty\">(empty text)</blockquote>".to_owned();
    }
    let Some(start) = cut(text, EXCERPT) else {
        return format!("<blockquote dir=\"auto\">{}</blockquote>", escape(text));
    };
    let whole = match cut(text, KEPT) {
        None => escape(text),
        Some(kept) => {
            let left = text.chars().count() - kept.chars().count();
            format!(
                "{} … ({} more characters)",
                escape(kept),
                count(left as u64)
            )
        }
    };
    format!(
        "<details class=\"long\"><summary dir=\"auto\">{} …</summary><blockquote dir=\"auto\">{whole}</blockquote></details>",
        escape(start)
    )
}
