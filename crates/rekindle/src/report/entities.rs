//! The table of the labels of entities, worst first.

use rekindle_metrics::{EntityReport, PerEntityLabel};

use super::{
    label_table::{self, cell, row, three},
    name,
    text::count,
};

/// Precision, recall and F1 of the entities of each label.
pub fn html(report: &EntityReport) -> String {
    if report.n == 0 {
        return String::new();
    }
    let mut labels: Vec<&PerEntityLabel> = report.per_label.iter().collect();
    labels.sort_by(|a, b| {
        let absent = (a.support == 0).cmp(&(b.support == 0));
        absent.then(a.f1.total_cmp(&b.f1))
    });
    let shares = |shares: [f64; 2]| shares.map(|share| cell(&three(share))).concat();
    let counts = |counts: [u64; 3]| counts.map(|n| cell(&count(n))).concat();
    let rows = labels.into_iter().map(|label| {
        let cells = shares([label.precision, label.recall])
            + &counts([label.support, label.predicted, label.correct]);
        row(&name(&label.name), label.f1, true, &cells)
    });
    let all = counts([report.support, report.predicted, report.correct]);
    let none = "<td></td>".repeat(3);
    let averages = [
        (
            "all entities",
            report.micro_f1,
            report.micro_precision,
            report.micro_recall,
            &all,
        ),
        (
            "macro average",
            report.macro_f1,
            report.macro_precision,
            report.macro_recall,
            &none,
        ),
        (
            "weighted average",
            report.weighted_f1,
            report.weighted_precision,
            report.weighted_recall,
            &none,
        ),
    ]
    .map(|(name, f1, precision, recall, counts)| {
        row(name, f1, false, &(shares([precision, recall]) + counts))
    });
    label_table::html(
        "Lowest F1 first. An entity is right if its beginning, its end and its label are.",
        (
            "label",
            "F1",
            ["precision", "recall", "expected", "found", "right"],
        ),
        &rows.collect::<Vec<_>>(),
        &averages,
    )
}
