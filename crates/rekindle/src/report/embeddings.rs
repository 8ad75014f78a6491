//! The figures of embeddings, each beside that of the model before tuning.

use super::{
    label_table::{cell, three},
    text::escape,
};
use crate::figures::Compared;

/// A table with a row a figure.
pub fn html(rows: &[Compared]) -> String {
    let has_base = rows.iter().any(|row| row.base.is_some());
    let head = |name: &str| format!("<th scope=\"col\" class=\"number\">{name}</th>");
    let (heads, lede) = match has_base {
        true => (
            head("tuned") + &head("before") + &head("change"),
            "Of the same texts: the tuned model, and the model before tuning.",
        ),
        false => (head("value"), "Of the texts of this set."),
    };
    let line = |row: &Compared| {
        let base = row.base.map_or_else(String::new, |base| {
            cell(&three(base)) + &cell(&format!("{:+.3}", row.value - base))
        });
        format!(
            "<tr><th scope=\"row\">{}</th>{}{base}</tr>",
            escape(&row.name),
            cell(&three(row.value))
        )
    };
    let lines: String = rows.iter().map(line).collect();
    format!(
        "<p class=\"lede\">{lede}</p><div class=\"scroll\" tabindex=\"0\"><table class=\"classes\"><thead><tr><th scope=\"col\">figure</th>{heads}</tr></thead><tbody>{lines}</tbody></table></div>\n"
    )
}
