//! What a language model answers: figures beside the base model's, fixed prompts over the run, the worst answers.

use super::{
    Answered, Report, Said,
    mistakes::in_parts,
    text::{count, cut, escape},
};
use crate::figures::answer_rows;
use rekindle_metrics::AnswersReport;

/// Prompts shown before the rest is folded away.
const SHOWN: usize = 5;
/// Characters of a text that are shown.
const KEPT: usize = 2_000;

/// The table of figures.
pub fn table(report: &AnswersReport, base: Option<&AnswersReport>) -> String {
    let of_base = base.map(answer_rows);
    let rows: String = answer_rows(report)
        .iter()
        .enumerate()
        .map(|(i, row)| {
            let base = of_base.as_ref().map(|base| {
                let base = base.get(i).map(|base| base.shown());
                format!("<td class=\"number\">{}</td>", base.unwrap_or_default())
            });
            format!(
                "<tr><th scope=\"row\"><bdi>{}</bdi></th>{}<td class=\"number\">{}</td></tr>",
                escape(&row.name),
                base.unwrap_or_default(),
                row.shown()
            )
        })
        .collect();
    let heading = match base {
        Some(_) => "<th class=\"number\">base model</th><th class=\"number\">tuned</th>",
        None => "<th class=\"number\">tuned</th>",
    };
    format!(
        "<p class=\"lede\">{} prompts, the most probable token each time.</p>\
         <table class=\"answers\"><thead><tr><th></th>{heading}</tr></thead><tbody>{rows}</tbody></table>\n",
        count(report.n)
    )
}

/// Fixed prompts with what was answered at each evaluation.
pub fn samples(report: &Report) -> String {
    if report.samples.is_empty() {
        return String::new();
    }
    format!(
        "<p class=\"lede\">Of the validation split, answered before training and at each evaluation.</p>{}\n",
        list(&report.samples)
    )
}

/// The final answers furthest from the right ones.
pub fn worst(report: &Report) -> String {
    if report.worst_answers.is_empty() {
        return String::new();
    }
    let lede = format!(
        "The {} split, lowest ROUGE-L first.",
        escape(&report.final_split)
    );
    in_parts(&lede, &report.worst_answers, SHOWN, list)
}

fn list(answered: &[Answered]) -> String {
    let items: String = answered.iter().map(item).collect();
    format!("<ol class=\"mistakes\">{items}</ol>")
}

fn item(answered: &Answered) -> String {
    let said: String = answered.said.iter().map(row).collect();
    format!(
        "<li><blockquote dir=\"auto\">{}</blockquote>\
         <table class=\"said-by\"><tbody><tr class=\"truth\"><th scope=\"row\">right</th><td dir=\"auto\">{}</td></tr>{said}</tbody></table>\
         <p class=\"verdict\"><span class=\"where\"><bdi>{}</bdi></span></p></li>",
        shortened(&answered.prompt),
        shortened(&answered.reference),
        escape(&answered.place),
    )
}

fn row(said: &Said) -> String {
    let by = match said.step {
        0 => "base model".to_owned(),
        step => format!("step {}", count(step)),
    };
    format!(
        "<tr><th scope=\"row\">{by}</th><td dir=\"auto\">{}</td></tr>",
        shortened(&said.text)
    )
}

/// A text escaped; of a long one the beginning.
fn shortened(text: &str) -> String {
    if text.trim().is_empty() {
        return "<span class=\"absent\">(nothing)</span>".to_owned();
    }
    match cut(text, KEPT) {
        None => escape(text),
        Some(kept) => {
            let left = text.chars().count() - kept.chars().count();
            format!(
                "{} … ({} more characters)",
                escape(kept),
                count(left as u64)
            )
        }
    }
}
