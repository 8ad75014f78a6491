//! The table of questions with choices, by how many they have.

use crate::figures::OfChoices;

use super::{
    label_table::{self, cell, row, three},
    text::count,
};

/// How often the right choice was made, and what chance gives.
pub fn html(rows: &[OfChoices]) -> String {
    let of = |of: &OfChoices| {
        let cells = cell(&three(of.chance())) + &cell(&count(of.n));
        row(&of.choices.to_string(), of.accuracy(), true, &cells)
    };
    label_table::html(
        "How often the right choice was made, and how often it would be at random.",
        ("choices", "accuracy", ["by chance", "questions"]),
        &rows.iter().map(of).collect::<Vec<_>>(),
        &[],
    )
}
