//! A page of runs beside each other.

use super::{
    chart::{Chart, Line},
    list, page,
    text::{escape, figure},
};
use crate::runs::Comparison;

/// Colours of runs, in turn.
const CLASSES: [&str; 4] = ["first", "second", "third", "fourth"];

/// The page as a whole HTML document.
pub fn html(runs: &Comparison) -> String {
    let names = runs.runs.iter().zip(CLASSES.into_iter().cycle());
    let lines = names.zip(&runs.curves);
    let lines = lines.map(|((name, class), points)| Line::new(name, class, points.clone()));
    let title = format!("validation {}", runs.watched.replace('_', " "));
    let chart = Chart {
        title: &title,
        unit: "",
        size: "tall",
        lines: lines.collect(),
        dots: vec![],
        marks: vec![],
        format: figure,
        from_zero: false,
        ceiling: None,
        note: String::new(),
    };
    let figures = runs.figures.iter().map(|(name, values)| {
        let shown = values
            .iter()
            .map(|value| value.map(|value| value.to_string()));
        (name.replace('_', " "), shown.collect())
    });
    let sets = std::iter::once(("set".to_owned(), runs.sets.clone()));
    let settings = runs.settings.iter().cloned();
    let title = format!("Runs compared: {}", runs.runs.join(", "));
    let sections = [
        (
            "Validation",
            format!("<div class=\"charts\">{}</div>\n", chart.html()),
        ),
        ("Figures", table(&runs.runs, sets.chain(figures))),
        ("Settings that differ", table(&runs.runs, settings)),
    ];
    let sections: String = sections
        .into_iter()
        .map(|(heading, body)| format!("<section><h2>{heading}</h2>\n{body}</section>\n"))
        .collect();
    let notes = list("notes", &runs.notes);
    page(
        &title,
        &format!("<h1>{}</h1>\n{notes}{sections}", escape(&title)),
    )
}

/// A row for each name, a column for each run.
fn table(runs: &[String], rows: impl Iterator<Item = (String, Vec<Option<String>>)>) -> String {
    let cell = |text: &str| format!("<td>{}</td>", escape(text));
    let rows: String = rows
        .map(|(name, values)| {
            let values = values
                .iter()
                .map(|value| cell(value.as_deref().unwrap_or("")));
            let values: String = values.collect();
            format!("<tr><th scope=\"row\">{}</th>{values}</tr>", escape(&name))
        })
        .collect();
    let heading = runs.iter().map(|run| format!("<th>{}</th>", escape(run)));
    let heading: String = heading.collect();
    match rows.is_empty() {
        true => "<p class=\"empty\">None.</p>\n".to_owned(),
        false => format!(
            "<table><thead><tr><th></th>{heading}</tr></thead><tbody>{rows}</tbody></table>\n"
        ),
    }
}
