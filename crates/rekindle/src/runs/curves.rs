//! Curves over each other in a terminal: a letter for each run.

use crate::report::text::figure;
use std::fmt::Write;

const WIDTH: usize = 60;
const HEIGHT: usize = 14;
/// What stands where two runs are at the same place.
const BOTH: char = '*';

/// The letter of the run of this index: A to Z, then again.
pub(super) fn letter(run: usize) -> char {
    char::from(b'A' + (run % 26) as u8)
}

/// Draws curves of places and values, which are finite; nothing where there are none. `end` tells what stands below the first and the
/// last place.
pub(crate) fn draw(curves: &[Vec<(f64, f64)>], end: impl Fn(f64) -> String) -> String {
    let points = || curves.iter().flatten();
    let bounds = |of: fn(&(f64, f64)) -> f64| {
        let least = points().map(of).fold(f64::INFINITY, f64::min);
        let most = points().map(of).fold(f64::NEG_INFINITY, f64::max);
        (least, most)
    };
    if points().next().is_none() {
        return String::new();
    }
    let ((left, right), (low, high)) = (bounds(|point| point.0), bounds(|point| point.1));
    let mut grid = vec![[' '; WIDTH]; HEIGHT];
    for (run, curve) in curves.iter().enumerate() {
        for (column, value) in columns(curve, left, right) {
            let share = (value - low) / (high - low).max(f64::MIN_POSITIVE);
            let row = ((1.0 - share) * (HEIGHT - 1) as f64).round() as usize;
            let place = &mut grid[row.min(HEIGHT - 1)][column];
            *place = match *place {
                ' ' => letter(run),
                _ => BOTH,
            };
        }
    }
    let mut out = String::new();
    for (row, line) in grid.iter().enumerate() {
        let label = match row {
            0 => figure(high),
            row if row == HEIGHT - 1 => figure(low),
            _ => String::new(),
        };
        let line: String = line.iter().collect();
        // Writing to a string does not fail.
        let _ = writeln!(out, "{label:>10} |{}", line.trim_end());
    }
    let _ = writeln!(out, "{:>10} +{}", "", "-".repeat(WIDTH));
    let (left, right) = (end(left), end(right));
    let _ = writeln!(out, "{:>12}{left}{right:>1$}", "", WIDTH - left.len());
    out
}

/// The value of a curve in each column that it covers, in a line from point to point.
fn columns(curve: &[(f64, f64)], left: f64, right: f64) -> Vec<(usize, f64)> {
    let column = |step: f64| {
        let share = (step - left) / (right - left).max(f64::MIN_POSITIVE);
        (share * (WIDTH - 1) as f64).round() as usize
    };
    let mut values: Vec<(usize, f64)> = Vec::new();
    for &(step, value) in curve {
        let to = column(step);
        if let Some(&(from, before)) = values.last() {
            let between = (from + 1..to).map(|at| {
                let share = (at - from) as f64 / (to - from) as f64;
                (at, before + share * (value - before))
            });
            values.extend(between.collect::<Vec<_>>());
        }
        match values.last_mut() {
            Some(last) if last.0 >= to => last.1 = value,
            _ => values.push((to, value)),
        }
    }
    values
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn curves_lie_over_each_other() {
        let step = |x: f64| format!("step {x}");
        let curves = [
            vec![(10.0, 0.0), (20.0, 1.0)],
            vec![(10.0, 0.0), (20.0, 0.5)],
            vec![],
        ];
        let drawn = draw(&curves, step);
        let lines: Vec<&str> = drawn.lines().collect();
        assert_eq!(lines.len(), HEIGHT + 2);
        assert!(lines[0].starts_with("     1.000 |") && lines[0].ends_with('A'));
        assert!(lines[HEIGHT - 1].starts_with("         0 |*"), "{drawn}");
        assert!(lines[HEIGHT + 1].contains("step 10") && lines[HEIGHT + 1].ends_with(" step 20"));
        assert!(drawn.contains('B'));
        assert_eq!(draw(&[vec![], vec![]], step), "");
        // One evaluation is a point.
        assert_eq!(draw(&[vec![(5.0, 0.25)]], step).matches('A').count(), 1);
    }
}
