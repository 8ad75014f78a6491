//! The table of the labels of entities, worst first.

use rekindle_metrics::{EntityReport, PerEntityLabel};

use super::text::{count, escape, figure};

/// Labels shown before the rest is folded away.
const SHOWN: usize = 20;

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
    let row = |label: &&PerEntityLabel| {
        let share = label.f1.clamp(0.0, 1.0) * 100.0;
        let shares = [label.precision, label.recall].map(|share| cell(&three(share)));
        let counts = [label.support, label.predicted, label.correct].map(|n| cell(&count(n)));
        format!(
            "<tr><th scope=\"row\"><bdi>{}</bdi></th><td class=\"wide\"><span class=\"track\"><i class=\"bar\" style=\"width:{share:.1}%\"></i></span>\
             <b>{}</b></td>{}{}</tr>",
            escape(&label.name).replace('_', "_<wbr>"),
            three(label.f1),
            shares.concat(),
            counts.concat(),
        )
    };
    let rows = |of: &[&PerEntityLabel]| of.iter().map(row).collect::<String>();
    let heads = ["precision", "recall", "expected", "found", "right"]
        .map(|head| format!("<th scope=\"col\" class=\"number\">{head}</th>"))
        .concat();
    let head = format!(
        "<thead><tr><th scope=\"col\">label</th><th scope=\"col\" class=\"wide\">F1</th>{heads}</tr></thead>"
    );
    let averages = [
        ("all entities", report.micro_f1, report.micro_precision, report.micro_recall),
        ("macro average", report.macro_f1, report.macro_precision, report.macro_recall),
        ("weighted average", report.weighted_f1, report.weighted_precision, report.weighted_recall),
    ]
    .map(|(name, f1, precision, recall)| {
        let of_all = [report.support, report.predicted, report.correct];
        let counts = match name {
            "all entities" => of_all.map(|n| cell(&count(n))).concat(),
            _ => "<td></td>".repeat(of_all.len()),
        };
        format!(
            "<tr><th scope=\"row\">{name}</th><td class=\"wide\"><span class=\"track\"></span><b>{}</b></td>{}{}{counts}</tr>",
            three(f1),
            cell(&three(precision)),
            cell(&three(recall)),
        )
    })
    .concat();
    let shown = if labels.len() > SHOWN + 2 {
        SHOWN
    } else {
        labels.len()
    };
    let (first, rest) = labels.split_at(shown);
    let mut out = format!(
        "<p class=\"lede\">Lowest F1 first. An entity is right if its beginning, its end and its label are.</p>\
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

fn cell(text: &str) -> String {
    format!("<td class=\"number\">{text}</td>")
}

/// A share with three decimals.
fn three(share: f64) -> String {
    match share.is_finite() {
        true => format!("{share:.3}"),
        false => figure(share),
    }
}
