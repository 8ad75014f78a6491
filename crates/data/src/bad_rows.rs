//! Rows that cannot be used, told of together: who mends a file wants to see all of them at once.

use crate::{DataError, Skipped};
use rekindle_base::{NAMED, counted, thousands};

impl DataError {
    /// The error for rows that cannot be used; `None` where there are none.
    #[must_use]
    pub fn of_bad_rows(mut rows: Vec<Skipped>) -> Option<Self> {
        match rows.len() {
            0 | 1 => rows
                .pop()
                .map(|Skipped { place, reason }| Self::BadExample { place, reason }),
            _ => Some(Self::BadExamples { rows }),
        }
    }
}

/// The first rows with their reasons, a line each; where all are bad for the same reason, that once.
pub(crate) fn listed(rows: &[Skipped]) -> String {
    let Some((first, others)) = rows.split_first() else {
        return String::new();
    };
    let reason = first.reason.to_string();
    let alike =
        |row: &Skipped| row.place.path == first.place.path && row.reason.to_string() == reason;
    if others.iter().all(alike) {
        let lines: Vec<String> = others
            .iter()
            .take(NAMED - 1)
            .map(|row| row.place.line.to_string())
            .collect();
        let more = match others.len() - lines.len() {
            0 => String::new(),
            more => format!(" and {} more", thousands(more as u64)),
        };
        let noun = if others.len() == 1 { "line" } else { "lines" };
        return format!(
            "{first}; the same in {}, {noun} {}{more}",
            counted(others.len(), "other row", "other rows"),
            lines.join(", ")
        );
    }
    let named: Vec<String> = rows.iter().take(NAMED).map(ToString::to_string).collect();
    let more = match rows.len() - named.len() {
        0 => String::new(),
        more => format!("\n  and {} more", thousands(more as u64)),
    };
    format!(
        "{} cannot be used:\n  {}{more}",
        counted(rows.len(), "row", "rows"),
        named.join("\n  ")
    )
}

/// What to do about the rows that are named, each advice once.
pub(crate) fn advice(rows: &[Skipped]) -> String {
    let mut advice: Vec<String> = Vec::new();
    for row in rows.iter().take(NAMED) {
        let hint = row.reason.hint().into_owned();
        if !advice.contains(&hint) {
            advice.push(hint);
        }
    }
    advice.join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{BadReason, Place};
    use std::path::Path;

    fn rows(reasons: impl IntoIterator<Item = BadReason>) -> Vec<Skipped> {
        let place = |line| Place {
            path: Path::new("a.csv").into(),
            line,
        };
        (2..)
            .zip(reasons)
            .map(|(line, reason)| Skipped {
                place: place(line),
                reason,
            })
            .collect()
    }

    fn said(reasons: impl IntoIterator<Item = BadReason>) -> String {
        DataError::of_bad_rows(rows(reasons)).map_or_else(String::new, |error| error.to_string())
    }

    #[test]
    fn up_to_ten_bad_rows_are_told_at_once() {
        let empty = || BadReason::EmptyText {
            column: "text".into(),
        };
        let missing = || BadReason::MissingLabel {
            column: "label".into(),
        };
        let leave = "or leave such rows out: --set data.on_bad_example=skip";
        assert_eq!(said([]), "");
        assert_eq!(
            said([empty()]),
            format!(
                "a.csv:2: {}\nhint: fill in or remove the row; {leave}",
                empty()
            )
        );
        assert_eq!(
            said([empty(), missing()]),
            format!(
                "2 rows cannot be used:\n  a.csv:2: {}\n  a.csv:3: {}\nhint: fill in or remove the row; label or remove the row; {leave}",
                empty(),
                missing()
            )
        );
        let many = (0..12).map(|i| if i == 5 { missing() } else { empty() });
        let many = said(many);
        assert!(many.starts_with("12 rows cannot be used:\n"), "{many}");
        assert!(
            many.contains("a.csv:11: ") && many.contains("\n  and 2 more\n"),
            "{many}"
        );
        assert_eq!(
            said((0..12).map(|_| empty())),
            format!(
                "a.csv:2: {}; the same in 11 other rows, lines 3, 4, 5, 6, 7, 8, 9, 10, 11 and 2 more\nhint: fill in or remove the row; {leave}",
                empty()
            )
        );
    }
}
