//! Tables in text: columns as wide as what stands in them.

/// Rows under a header, columns separated by two spaces; the last is not padded.
pub fn table(header: &[impl AsRef<str>], rows: &[Vec<String>]) -> String {
    let header = header.iter().map(|name| name.as_ref().to_owned());
    let header: Vec<String> = header.collect();
    let all = || std::iter::once(&header).chain(rows);
    let width = |column: usize| {
        let cells = all().filter_map(|row| row.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..header.len()).map(width).collect();
    let mut out = String::new();
    for row in all() {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            line += &format!("{cell:<width$}  ");
        }
        out += line.trim_end();
        out.push('\n');
    }
    out
}

/// What makes a table narrower.
#[derive(Debug, Clone, Copy)]
pub enum Narrower {
    /// Cells of this column are cut to so many characters.
    Cut(&'static str, usize),
    /// This column is left out.
    Without(&'static str),
}

/// A table of at most so many characters a line: `steps` are taken one after the other until it is, or none is left. The names of the
/// columns that were left out come with it.
pub fn narrow_table(
    header: &[&'static str],
    rows: &[Vec<String>],
    width: usize,
    steps: &[Narrower],
) -> (String, Vec<&'static str>) {
    let (mut header, mut rows) = (header.to_vec(), rows.to_vec());
    let mut left_out = Vec::new();
    let mut shown = table(&header, &rows);
    for step in steps {
        if shown.lines().all(|line| line.chars().count() <= width) {
            break;
        }
        let (Narrower::Cut(name, _) | Narrower::Without(name)) = *step;
        let Some(at) = header.iter().position(|column| *column == name) else {
            continue;
        };
        match *step {
            Narrower::Cut(_, most) => rows
                .iter_mut()
                .for_each(|row| row[at] = cut(&row[at], most)),
            Narrower::Without(name) => {
                header.remove(at);
                rows.iter_mut().for_each(|row| drop(row.remove(at)));
                left_out.push(name);
            }
        }
        shown = table(&header, &rows);
    }
    (shown, left_out)
}

/// A text of at most so many characters, with `…` where some are missing.
fn cut(text: &str, most: usize) -> String {
    match text.chars().count() > most {
        true => text
            .chars()
            .take(most.saturating_sub(1))
            .chain(['…'])
            .collect(),
        false => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_stand_under_their_names() {
        let rows = [
            vec!["a".into(), "x".into()],
            vec!["öö, long".into(), String::new()],
        ];
        assert_eq!(
            table(&["name", "b"], &rows),
            "name      b\na         x\nöö, long\n"
        );
    }

    #[test]
    fn a_wide_table_loses_what_matters_least() {
        let rows = [vec!["a".into(), "x".repeat(20), "12345678".into()]];
        let header = ["name", "method", "state"];
        let steps = [Narrower::Without("method"), Narrower::Cut("state", 6)];
        let narrow = |width| narrow_table(&header, &rows, width, &steps);
        let (whole, left_out) = narrow(80);
        assert_eq!((whole.lines().count(), left_out.len()), (2, 0));
        assert!(whole.contains("12345678"), "{whole}");
        assert_eq!(
            narrow(20),
            ("name  state\na     12345678\n".to_owned(), vec!["method"])
        );
        assert_eq!(
            narrow(12),
            ("name  state\na     12345…\n".to_owned(), vec!["method"])
        );
    }
}
