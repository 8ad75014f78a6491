//! A table with a row a label: its F1, or another share, as a bar, then numbers; the rows behind the first ones are folded away.

use super::text::{count, figure};

/// Labels shown before the rest is folded away.
const SHOWN: usize = 20;

/// The table, below a sentence. `heads` are what a row is of, what its bar is, then those of the numbers; `rows` and `averages` come from [`row`].
pub fn html<const N: usize>(
    lede: &str,
    (what, bar, heads): (&str, &str, [&str; N]),
    rows: &[String],
    averages: &[String],
) -> String {
    let heads = heads
        .map(|head| format!("<th scope=\"col\" class=\"number\">{head}</th>"))
        .concat();
    let head = format!(
        "<thead><tr><th scope=\"col\">{what}</th><th scope=\"col\" class=\"wide\">{bar}</th>{heads}</tr></thead>"
    );
    let shown = match rows.len() > SHOWN + 2 {
        true => SHOWN,
        false => rows.len(),
    };
    let (first, rest) = rows.split_at(shown);
    let table = |body: &[String], foot: &str| {
        format!(
            "<div class=\"scroll\" tabindex=\"0\"><table class=\"classes labels\">{head}<tbody>{}</tbody>{foot}</table></div>",
            body.concat()
        )
    };
    let foot = format!("<tfoot>{}</tfoot>", averages.concat());
    let mut out = format!("<p class=\"lede\">{lede}</p>{}\n", table(first, &foot));
    if !rest.is_empty() {
        out += &format!(
            "<details><summary>{} more labels</summary>{}</details>\n",
            count(rest.len() as u64),
            table(rest, "")
        );
    }
    out
}

/// A row: its name as HTML, its F1 or other share, and the cells of its numbers. An average has no bar.
pub fn row(name: &str, f1: f64, has_bar: bool, cells: &str) -> String {
    let bar = match has_bar {
        true => format!(
            "<i class=\"bar\" style=\"width:{:.1}%\"></i>",
            f1.clamp(0.0, 1.0) * 100.0
        ),
        false => String::new(),
    };
    format!(
        "<tr><th scope=\"row\">{name}</th><td class=\"wide\"><span class=\"track\">{bar}</span><b>{}</b></td>{cells}</tr>",
        three(f1)
    )
}

/// A cell with a number.
pub fn cell(number: &str) -> String {
    format!("<td class=\"number\">{number}</td>")
}

/// A share with three decimals.
pub fn three(share: f64) -> String {
    match share.is_finite() {
        true => format!("{share:.3}"),
        false => figure(share),
    }
}
