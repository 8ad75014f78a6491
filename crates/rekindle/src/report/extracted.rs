//! The table of answers that are pieces of texts: of all questions, of those with an answer, of those without.

use rekindle_metrics::{ExtractiveReport, ExtractiveShare};

use super::{
    label_table::{self, cell, row, three},
    text::count,
};

/// F1 and exact match of each kind of question.
pub fn html(report: &ExtractiveReport) -> String {
    if report.overall.n == 0 {
        return String::new();
    }
    let of = |name: &str, share: &ExtractiveShare, bar: bool| {
        let cells = cell(&three(share.exact_match)) + &cell(&count(share.n));
        row(name, share.f1, bar, &cells)
    };
    let kinds = [
        ("with an answer", &report.has_answer),
        ("without one", &report.no_answer),
    ];
    let rows = kinds.into_iter();
    let rows = rows.filter_map(|(name, share)| Some(of(name, share.as_ref()?, true)));
    label_table::html(
        "F1 of the words of an answer, and whether it is exactly a right one, without case, punctuation and articles, as SQuAD counts.",
        ("questions", "F1", ["exact match", "number"]),
        &rows.collect::<Vec<_>>(),
        &[of("all questions", &report.overall, false)],
    )
}
