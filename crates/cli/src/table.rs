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

/// Bytes in the unit that is read most easily.
pub fn bytes(bytes: u64) -> String {
    match bytes as f64 {
        few if few < 1e3 => format!("{bytes} B"),
        some if some < 1e6 => format!("{:.0} kB", some / 1e3),
        many if many < 1e9 => format!("{:.1} MB", many / 1e6),
        most => format!("{:.1} GB", most / 1e9),
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
        assert_eq!(bytes(999), "999 B");
        assert_eq!(bytes(90_868_376), "90.9 MB");
    }
}
