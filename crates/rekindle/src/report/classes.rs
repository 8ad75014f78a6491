//! The table of classes, worst first.

use rekindle_metrics::ClassificationReport;

use super::{label, text::count};

/// Classes shown before the rest is folded away.
const SHOWN: usize = 20;

/// Precision, recall and F1 a class, and what it is most taken for.
pub fn html(report: &ClassificationReport, labels: &[String]) -> String {
    if report.n == 0 {
        return String::new();
    }
    let mut order: Vec<usize> = (0..report.per_class.len()).collect();
    let key = |class: usize| {
        (
            report.per_class[class].support == 0,
            report.per_class[class].f1,
        )
    };
    order.sort_by(|&a, &b| {
        let ((absent_a, f1_a), (absent_b, f1_b)) = (key(a), key(b));
        absent_a.cmp(&absent_b).then(f1_a.total_cmp(&f1_b))
    });
    let most = report
        .per_class
        .iter()
        .map(|class| class.support)
        .max()
        .unwrap_or(0)
        .max(1);
    let rows = |classes: &[usize]| -> String {
        classes
            .iter()
            .map(|&class| row(report, labels, class, most))
            .collect()
    };
    let head = "<thead><tr><th scope=\"col\">class</th><th scope=\"col\" class=\"wide\">F1</th>\
                <th scope=\"col\" class=\"number\">precision</th><th scope=\"col\" class=\"number\">recall</th>\
                <th scope=\"col\" class=\"support\">examples</th>\
                <th scope=\"col\" class=\"taken\">most taken for</th></tr></thead>";
    let averages = format!(
        "<tfoot>{}{}</tfoot>",
        average(
            "macro average",
            report.macro_f1,
            report.macro_precision,
            report.macro_recall,
            report.n
        ),
        average(
            "weighted average",
            report.weighted_f1,
            report.weighted_precision,
            report.weighted_recall,
            report.n
        ),
    );
    let shown = if order.len() > SHOWN + 2 {
        SHOWN
    } else {
        order.len()
    };
    let (first, rest) = order.split_at(shown);
    let mut out = format!(
        "<p class=\"lede\">Lowest F1 first.</p>\
         <table class=\"classes\">{head}<tbody>{}</tbody>{averages}</table>\n",
        rows(first)
    );
    if !rest.is_empty() {
        out += &format!(
            "<details><summary>{} more classes</summary><table class=\"classes\">{head}<tbody>{}</tbody></table></details>\n",
            count(rest.len() as u64),
            rows(rest)
        );
    }
    out
}

fn row(report: &ClassificationReport, labels: &[String], class: usize, most: u64) -> String {
    let figures = &report.per_class[class];
    let confused = report.confusion[class]
        .iter()
        .enumerate()
        .filter(|&(other, &n)| other != class && n > 0);
    let taken = match confused.max_by_key(|&(other, &n)| (n, usize::MAX - other)) {
        Some((other, n)) => format!(
            "{} <span class=\"times\">{}</span>",
            label(labels, other),
            count(*n)
        ),
        None => String::new(),
    };
    let f1 = if figures.support == 0 {
        "<span class=\"absent\">no examples</span>".to_owned()
    } else {
        format!("{}<b>{:.3}</b>", bar("", figures.f1), figures.f1)
    };
    format!(
        "<tr><th scope=\"row\">{}</th><td class=\"wide\">{f1}</td><td class=\"number\">{:.3}</td>\
         <td class=\"number\">{:.3}</td><td class=\"support\">{}<b>{}</b></td><td class=\"taken\">{taken}</td></tr>",
        label(labels, class),
        figures.precision,
        figures.recall,
        bar("quiet", figures.support as f64 / most as f64),
        count(figures.support),
    )
}

fn average(name: &str, f1: f64, precision: f64, recall: f64, n: u64) -> String {
    format!(
        "<tr><th scope=\"row\">{name}</th><td class=\"wide\">{}<b>{f1:.3}</b></td>\
         <td class=\"number\">{precision:.3}</td><td class=\"number\">{recall:.3}</td>\
         <td class=\"support\">{}<b>{}</b></td><td class=\"taken\"></td></tr>",
        bar("", f1),
        bar("quiet", 0.0),
        count(n)
    )
}

fn bar(class: &str, share: f64) -> String {
    format!(
        "<span class=\"track\"><i class=\"bar {class}\" style=\"width:{:.1}%\"></i></span>",
        share.clamp(0.0, 1.0) * 100.0
    )
}
