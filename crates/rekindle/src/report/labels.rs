//! The table of labels, worst first.

use rekindle_metrics::MultiLabelReport;

use super::{
    label,
    label_table::{self, cell, row, three},
    text::count,
};

/// Precision, recall, F1, average precision and threshold of each label.
pub fn html(report: &MultiLabelReport, labels: &[String]) -> String {
    if report.n == 0 {
        return String::new();
    }
    let mut order: Vec<usize> = (0..report.per_label.len()).collect();
    let key = |&label: &usize| {
        let figures = &report.per_label[label];
        (figures.support == 0, figures.f1)
    };
    order.sort_by(|a, b| {
        let ((absent_a, f1_a), (absent_b, f1_b)) = (key(a), key(b));
        absent_a.cmp(&absent_b).then(f1_a.total_cmp(&f1_b))
    });
    let shares = |shares: [f64; 2]| shares.map(|share| cell(&three(share))).concat();
    let rows = order.into_iter().map(|of| {
        let figures = &report.per_label[of];
        let ranked = match figures.support {
            0 => "<td class=\"number absent\">no examples</td>".to_owned(),
            _ => cell(&three(figures.average_precision)),
        };
        let cells = [
            shares([figures.precision, figures.recall]),
            ranked,
            cell(&three(figures.threshold)),
            cell(&count(figures.support)),
        ];
        row(&label(labels, of), figures.f1, true, &cells.concat())
    });
    let averages = [
        (
            "micro average",
            report.micro_f1,
            report.micro_precision,
            report.micro_recall,
        ),
        (
            "macro average",
            report.macro_f1,
            report.macro_precision,
            report.macro_recall,
        ),
        (
            "weighted average",
            report.weighted_f1,
            report.weighted_precision,
            report.weighted_recall,
        ),
        (
            "average over examples",
            report.samples_f1,
            report.samples_precision,
            report.samples_recall,
        ),
    ]
    .map(|(name, f1, precision, recall)| {
        row(
            name,
            f1,
            false,
            &(shares([precision, recall]) + &"<td></td>".repeat(3)),
        )
    });
    label_table::html(
        "Lowest F1 first. A label is given from its threshold on.",
        (
            "label",
            "F1",
            ["precision", "recall", "AP", "threshold", "examples"],
        ),
        &rows.collect::<Vec<_>>(),
        &averages,
    )
}
