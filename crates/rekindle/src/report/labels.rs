//! The table of labels, worst first.

use rekindle_metrics::MultiLabelReport;

use super::{
    label,
    text::{count, figure},
};

/// Labels shown before the rest is folded away.
const SHOWN: usize = 20;

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
    let row = |&of: &usize| {
        let figures = &report.per_label[of];
        let share = figures.f1.clamp(0.0, 1.0) * 100.0;
        let mut numbers = [figures.precision, figures.recall]
            .map(|value| format!("<td class=\"number\">{}</td>", three(value)))
            .concat();
        numbers += &match figures.support {
            0 => "<td class=\"number absent\">no examples</td>".to_owned(),
            _ => format!(
                "<td class=\"number\">{}</td>",
                three(figures.average_precision)
            ),
        };
        format!(
            "<tr><th scope=\"row\">{}</th><td class=\"wide\"><span class=\"track\"><i class=\"bar\" style=\"width:{share:.1}%\"></i></span>\
             <b>{}</b></td>{numbers}<td class=\"number\">{}</td><td class=\"number\">{}</td></tr>",
            label(labels, of),
            three(figures.f1),
            three(figures.threshold),
            count(figures.support),
        )
    };
    let rows = |of: &[usize]| of.iter().map(row).collect::<String>();
    let heads = ["precision", "recall", "AP", "threshold", "examples"]
        .map(|head| format!("<th scope=\"col\" class=\"number\">{head}</th>"))
        .concat();
    let head = format!(
        "<thead><tr><th scope=\"col\">label</th><th scope=\"col\" class=\"wide\">F1</th>{heads}</tr></thead>"
    );
    let averages = [
        ("micro average", report.micro_f1, report.micro_precision, report.micro_recall),
        ("macro average", report.macro_f1, report.macro_precision, report.macro_recall),
        ("weighted average", report.weighted_f1, report.weighted_precision, report.weighted_recall),
        ("average over examples", report.samples_f1, report.samples_precision, report.samples_recall),
    ]
    .map(|(name, f1, precision, recall)| {
        format!(
            "<tr><th scope=\"row\">{name}</th><td class=\"wide\"><span class=\"track\"></span><b>{}</b></td>\
             <td class=\"number\">{}</td><td class=\"number\">{}</td><td></td><td></td><td></td></tr>",
            three(f1),
            three(precision),
            three(recall)
        )
    })
    .concat();
    let shown = if order.len() > SHOWN + 2 {
        SHOWN
    } else {
        order.len()
    };
    let (first, rest) = order.split_at(shown);
    let mut out = format!(
        "<p class=\"lede\">Lowest F1 first. A label is given from its threshold on.</p>\
         <div class=\"scroll\" tabindex=\"0\"><table class=\"classes labels\">{head}<tbody>{}</tbody><tfoot>{averages}</tfoot></table></div>\n",
        rows(first)
    );
    if !rest.is_empty() {
        out += &format!(
            "<details><summary>{} more labels</summary><div class=\"scroll\" tabindex=\"0\"><table class=\"classes labels\">{head}<tbody>{}</tbody></table></div></details>\n",
            count(rest.len() as u64),
            rows(rest)
        );
    }
    out
}

/// A share with three decimals.
fn three(share: f64) -> String {
    match share.is_finite() {
        true => format!("{share:.3}"),
        false => figure(share),
    }
}
