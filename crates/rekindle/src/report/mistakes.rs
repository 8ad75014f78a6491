//! The worst mistakes with their text or picture.

use base64::{Engine, engine::general_purpose::STANDARD};

use super::{
    Mistake, Report, Section,
    text::{count, cut, escape, figure, percent},
};

/// Mistakes shown before the rest is folded away.
const SHOWN: usize = 10;
/// Characters of a text shown before the rest is folded away.
const EXCERPT: usize = 280;
/// Characters of a text kept at all; a report must not carry whole books.
const KEPT: usize = 10_000;

/// The list of mistakes, worst first.
pub fn html(report: &Report) -> String {
    if report.figures.n == 0 {
        return String::new();
    }
    if report.mistakes.is_empty() {
        return format!(
            "<p class=\"empty\">No mistake on the {} split.</p>\n",
            escape(&report.final_split)
        );
    }
    let items = |mistakes: &[Mistake]| -> String {
        format!(
            "<ol class=\"mistakes\">{}</ol>",
            mistakes.iter().map(item).collect::<String>()
        )
    };
    let labelled =
        |section: &Section| matches!(section, Section::Classes { .. } | Section::Labels { .. });
    let advice = match report.figures.sections.iter().any(labelled) {
        true => " A confident mistake is often a wrong label.",
        false => "",
    };
    let lede = format!(
        "The {} split, highest loss first.{advice}",
        escape(&report.final_split)
    );
    in_parts(&lede, &report.mistakes, SHOWN, items)
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
    format!(
        "<li>{}{}{pair}<p class=\"verdict\"><span class=\"said\"><bdi>{}</bdi>{}</span>\
         {right}<span class=\"where\">loss {} · <bdi>{}</bdi></span></p></li>",
        picture.unwrap_or_default(),
        excerpt(&mistake.text),
        escape(&mistake.predicted),
        probability,
        figure(mistake.loss),
        escape(&mistake.place),
    )
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
