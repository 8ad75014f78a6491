//! Predicted against right numbers: a plot of points for each number, and their errors.

use std::fmt::Write;

use rekindle_metrics::{RegressionFigures, RegressionReport};

use super::{
    chart::{Axis, tick_label},
    text::{escape, figure},
};

/// The plots and the table of errors.
pub fn html(report: &RegressionReport, names: &[String]) -> String {
    if report.n == 0 {
        return String::new();
    }
    let plots: String = report
        .points
        .iter()
        .enumerate()
        .map(|(column, points)| plot(name(names, column), points))
        .collect();
    format!(
        "<p class=\"lede\">Each point is an example; on the line, the prediction is right.</p>\
         <div class=\"charts\">{plots}</div>{}\n",
        table(report, names)
    )
}

fn name(names: &[String], column: usize) -> &str {
    names.get(column).map_or("", String::as_str)
}

/// Right numbers to the right, predicted ones upwards, on one scale.
fn plot(name: &str, points: &[[f64; 2]]) -> String {
    let values = points.iter().flatten().copied();
    let (low, high) = values.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| {
        (low.min(value), high.max(value))
    });
    let title = escape(name);
    if low > high {
        return format!(
            "<figure class=\"chart scatter\"><figcaption><b>{title}</b></figcaption>\
             <p class=\"empty\">No finite value.</p></figure>"
        );
    }
    let axis = Axis::nice(low, high, 5, true);
    let (mut svg, mut labels) = (String::new(), String::new());
    // Writing to a string does not fail.
    for &tick in &axis.ticks {
        let at = axis.place(tick);
        let label = tick_label(tick, &axis.ticks);
        let (x, y) = (at * 1000.0, (1.0 - at) * 1000.0);
        let _ = write!(
            svg,
            "<path class=\"grid\" d=\"M0 {y:.1}H1000M{x:.1} 0V1000\"/>"
        );
        let _ = write!(
            labels,
            "<span class=\"y\" style=\"top:{:.2}%\">{label}</span><span class=\"x\" style=\"left:{:.2}%\">{label}</span>",
            (1.0 - at) * 100.0,
            at * 100.0
        );
    }
    let mut dots = String::new();
    for [right, predicted] in points {
        let x = axis.place(*right) * 1000.0;
        let y = (1.0 - axis.place(*predicted)) * 1000.0;
        let _ = write!(dots, "M{x:.0} {y:.0}h0");
    }
    format!(
        "<figure class=\"chart scatter\"><figcaption><b>{title}</b> <span class=\"unit\">predicted against right</span></figcaption>\
         <div class=\"plot\" role=\"img\" aria-label=\"{title}: predicted against right, from {} to {}\">\
         <svg viewBox=\"0 0 1000 1000\" preserveAspectRatio=\"none\" aria-hidden=\"true\">{svg}\
         <path class=\"diagonal\" d=\"M0 1000L1000 0\"/><path class=\"points\" d=\"{dots}\"/></svg>{labels}</div>\
         <p class=\"xlabel\">right</p></figure>",
        figure(low),
        figure(high),
    )
}

fn table(report: &RegressionReport, names: &[String]) -> String {
    let row = |name: &str, f: &RegressionFigures| {
        let cells: String = [f.pearson, f.spearman, f.r2, f.mae, f.rmse, f.target_std]
            .into_iter()
            .map(|value| format!("<td class=\"number\">{}</td>", figure(value)))
            .collect();
        format!(
            "<tr><th scope=\"row\"><bdi>{}</bdi></th>{cells}</tr>",
            escape(name)
        )
    };
    let columns = report.per_target.iter().enumerate();
    let rows: String = columns
        .map(|(column, figures)| row(name(names, column), figures))
        .collect();
    let mean = match report.per_target.len() {
        0 | 1 => String::new(),
        _ => format!("<tfoot>{}</tfoot>", row("mean", &report.overall)),
    };
    let heads: String = ["Pearson", "Spearman", "R²", "MAE", "RMSE", "spread"]
        .map(|head| format!("<th scope=\"col\" class=\"number\">{head}</th>"))
        .concat();
    format!(
        "<table class=\"numbers\"><thead><tr><th scope=\"col\">number</th>{heads}</tr></thead>\
         <tbody>{rows}</tbody>{mean}</table>"
    )
}
