//! What `rekindle look` says of all examples, as text: labels, lengths, what is cut, findings.

use crate::table::table;
use rekindle::{Cut, Finding, Found, FoundRow, Looked, Spread, report::LabelCounts, thousands};
use std::fmt::Write;

/// Labels that are shown.
const LABELS: usize = 10;
/// Characters of the longest bar.
const WIDEST: usize = 30;
/// Characters of a label.
const LONGEST: usize = 40;
/// What bars are made of.
const BAR: char = '█';

/// All of it, each part after an empty line.
pub fn told(looked: &Looked) -> String {
    let parts: Vec<&str> = looked
        .data
        .splits
        .iter()
        .map(|split| split.name.as_str())
        .collect();
    let mut out = format!("{}\n", looked.summary);
    if !looked.data.labels.is_empty() {
        let _ = write!(out, "\n{}", labels(&parts, &looked.data.labels));
    }
    for spread in &looked.spreads {
        let _ = write!(out, "\n{}", histogram(spread));
    }
    if let Some(cut) = &looked.cut {
        let _ = write!(out, "\n{}\n", cut_words(cut));
    }
    for one in &looked.findings {
        let _ = write!(out, "\n{}", finding(one));
    }
    if !looked.notes.is_empty() {
        out.push('\n');
    }
    for note in &looked.notes {
        let _ = writeln!(out, "note: {note}");
    }
    out
}

/// Bars in colour.
pub fn coloured_bars(text: &str, colours: bool) -> String {
    if !colours {
        return text.to_owned();
    }
    let mut out = String::with_capacity(text.len());
    let mut in_bar = false;
    for c in text.chars() {
        if (c == BAR) != in_bar {
            in_bar = !in_bar;
            out += if in_bar { "\x1b[36m" } else { "\x1b[0m" };
        }
        out.push(c);
    }
    out
}

/// A bar for a number among others of which `most` is the greatest. What is not 0 has one.
fn bar(value: u64, most: u64) -> String {
    let length = value as f64 / most.max(1) as f64 * WIDEST as f64;
    let length = (length.round() as usize).max(usize::from(value > 0));
    BAR.to_string().repeat(length)
}

/// How many examples each part has of each label, the most frequent first.
fn labels(parts: &[&str], labels: &[LabelCounts]) -> String {
    let all = |label: &LabelCounts| label.counts.iter().sum::<u64>();
    let mut sorted: Vec<&LabelCounts> = labels.iter().collect();
    sorted.sort_by_key(|label| std::cmp::Reverse(all(label)));
    let most = sorted.first().map_or(0, |label| all(label));
    let header: Vec<&str> = std::iter::once("label")
        .chain(parts.iter().copied())
        .chain([""])
        .collect();
    let row = |label: &&LabelCounts| {
        let counts = label.counts.iter().map(|&count| thousands(count));
        std::iter::once(short(&label.name))
            .chain(counts)
            .chain([bar(all(label), most)])
            .collect()
    };
    let rows: Vec<Vec<String>> = sorted.iter().take(LABELS).map(row).collect();
    let mut out = table(&header, &rows);
    if let (true, Some(last)) = (sorted.len() > LABELS, sorted.last()) {
        let _ = writeln!(
            out,
            "and {} more; the fewest have {:?}: {}",
            thousands((sorted.len() - LABELS) as u64),
            short(&last.name),
            thousands(all(last))
        );
    }
    out
}

fn short(name: &str) -> String {
    match name.chars().count() > LONGEST {
        true => name.chars().take(LONGEST).chain(['…']).collect(),
        false => name.to_owned(),
    }
}

/// A number with at most four digits after the point.
fn plain(value: f64, whole: bool) -> String {
    if whole && value >= 0.0 {
        return thousands(value.round() as u64);
    }
    // Minus zero is zero.
    let value = (value * 1e4).round() / 1e4 + 0.0;
    format!("{value}")
}

/// Quartiles in a line, and a bar for each range of values.
fn histogram(spread: &Spread) -> String {
    let [least, quarter, half, three, most] =
        spread.quartiles.map(|value| plain(value, spread.whole));
    let unit = match spread.unit.as_str() {
        "" => String::new(),
        unit => format!(" in {unit}"),
    };
    if least == most {
        return format!("{}{unit}: {most} in all\n", spread.name);
    }
    let mut out = format!(
        "{}{unit}: {least} to {most}; a quarter up to {quarter}, half up to {half}, three quarters up to {three}\n",
        spread.name
    );
    let range = |at: usize| {
        let from = spread.from + spread.width * at as f64;
        let to = from + spread.width;
        match (spread.whole, spread.width <= 1.0) {
            (true, true) => plain(from, true),
            (true, false) => format!("{} to {}", plain(from, true), plain(to - 1.0, true)),
            (false, _) => format!("{} to {}", plain(from, false), plain(to, false)),
        }
    };
    let ranges: Vec<String> = (0..spread.bars.len()).map(range).collect();
    let width = ranges.iter().map(String::len).max().unwrap_or(0);
    let tallest = spread.bars.iter().copied().max().unwrap_or(0);
    for (range, &count) in ranges.iter().zip(&spread.bars) {
        let bar = bar(count, tallest);
        let line = format!("  {range:>width$}  {bar:<WIDEST$}  {}", thousands(count));
        let _ = writeln!(out, "{line}");
    }
    out
}

fn percent(part: u64, of: u64) -> String {
    let share = part as f64 / of.max(1) as f64 * 100.0;
    match part {
        0 => "0 %".to_owned(),
        _ if share < 0.1 => "under 0.1 %".to_owned(),
        _ => format!("{share:.1} %"),
    }
}

/// What the longest length costs.
fn cut_words(cut: &Cut) -> String {
    let at = format!("cut at {} tokens", thousands(cut.max_length));
    if cut.examples == 0 {
        return format!(
            "{at} (data.max_length): nothing is; the longest has {}",
            thousands(cut.enough)
        );
    }
    let more = match cut.enough > cut.model_takes {
        true => format!(
            "the longest has {}, but the model takes {} at most",
            thousands(cut.enough),
            thousands(cut.model_takes)
        ),
        false => format!("with data.max_length = {} nothing would be cut", cut.enough),
    };
    format!(
        "{at} (data.max_length): {} of {} rows ({}), and {} of all tokens are lost; {more}",
        thousands(cut.examples),
        thousands(cut.of),
        percent(cut.examples, cut.of),
        percent(cut.lost, cut.tokens)
    )
}

fn finding(finding: &Finding) -> String {
    let mark = if finding.warning { "warning" } else { "note" };
    let mut out = format!("{mark}: {}\n", finding.said);
    for found in &finding.found {
        let _ = writeln!(out, "  {}", places(found));
    }
    if finding.more > 0 {
        let _ = writeln!(out, "  and {} more", thousands(finding.more));
    }
    if !finding.hint.is_empty() {
        let _ = writeln!(out, "hint: {}", finding.hint);
    }
    out
}

/// Where examples stand that belong together, and what is said of them.
fn places(found: &Found) -> String {
    let several = found.rows.iter().any(|row| row.part != found.rows[0].part);
    let mut out = String::new();
    for (at, row) in found.rows.iter().enumerate() {
        if at > 0 {
            out += ", ";
        }
        // The file is named once where several lines of it follow one another.
        let file = |row: &FoundRow| row.place.rsplit_once(':').map(|(file, _)| file.len());
        let same = at > 0
            && file(row)
                .is_some_and(|end| found.rows[at - 1].place.get(..=end) == row.place.get(..=end));
        out += match file(row).filter(|_| same) {
            Some(end) => &row.place[end..],
            None => &row.place,
        };
        let about = [several.then_some(row.part), row.label.as_deref()];
        let about: Vec<String> = about.into_iter().flatten().map(short).collect();
        if !about.is_empty() {
            let _ = write!(out, " ({})", about.join(", "));
        }
    }
    if found.more > 0 {
        let _ = write!(out, " and {} more", thousands(found.more));
    }
    if !found.remark.is_empty() {
        let _ = write!(out, ": {}", found.remark);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_counted_with_bars_and_the_rest_is_told() {
        let label = |(name, counts): (String, Vec<u64>)| LabelCounts { name, counts };
        let few = [
            ("on".to_owned(), vec![1500, 10]),
            ("off".to_owned(), vec![50, 1]),
        ]
        .map(label);
        assert_eq!(
            labels(&["train", "test"], &few),
            format!(
                "label  train  test\non     1,500  10    {}\noff    50     1     █\n",
                "█".repeat(30)
            )
        );
        let many: Vec<LabelCounts> = (0..13)
            .map(|i| label((format!("l{i}"), vec![20 - i])))
            .collect();
        let said = labels(&["train"], &many);
        assert!(
            said.ends_with("and 3 more; the fewest have \"l12\": 8\n"),
            "{said}"
        );
        assert_eq!(said.lines().count(), 12);
    }

    #[test]
    fn a_histogram_has_a_line_for_each_range() {
        let spread = Spread {
            name: "length".into(),
            unit: "tokens".into(),
            count: 4,
            quartiles: [3.0, 4.0, 5.0, 12.0, 1200.0],
            from: 0.0,
            width: 10.0,
            bars: vec![3, 1],
            whole: true,
        };
        assert_eq!(
            histogram(&spread),
            format!(
                "length in tokens: 3 to 1,200; a quarter up to 4, half up to 5, three quarters up to 12\n    0 to 9  {}  3\n  10 to 19  {:<30}  1\n",
                "█".repeat(30),
                "█".repeat(10)
            )
        );
        assert_eq!(plain(-0.000_01, false), "0");
        assert_eq!(plain(0.25, false), "0.25");
    }

    #[test]
    fn what_is_cut_is_told_with_what_would_cut_nothing() {
        let cut = Cut {
            max_length: 64,
            examples: 34,
            of: 1000,
            lost: 12,
            tokens: 1000,
            enough: 214,
            model_takes: 512,
        };
        assert_eq!(
            cut_words(&cut),
            "cut at 64 tokens (data.max_length): 34 of 1,000 rows (3.4 %), and 1.2 % of all tokens are lost; with data.max_length = 214 nothing would be cut"
        );
        let none = Cut { examples: 0, ..cut };
        assert!(cut_words(&none).ends_with("nothing is; the longest has 214"));
        let more = Cut { enough: 700, ..cut };
        assert!(cut_words(&more).ends_with("the model takes 512 at most"));
    }

    #[test]
    fn a_file_is_named_once() {
        let row = |place: &str, part: &'static str| FoundRow {
            place: place.into(),
            part,
            label: Some("x".into()),
        };
        let found = Found {
            rows: vec![
                row("a.csv:3", "train"),
                row("a.csv:17", "test"),
                row("b.csv:1", "test"),
            ],
            more: 2,
            remark: "so".into(),
        };
        assert_eq!(
            places(&found),
            "a.csv:3 (train, x), :17 (test, x), b.csv:1 (test, x) and 2 more: so"
        );
        let pictures = Found {
            rows: vec![row("a/1.png", "train"), row("a/2.png", "train")],
            more: 0,
            remark: String::new(),
        };
        assert_eq!(places(&pictures), "a/1.png (x), a/2.png (x)");
    }

    #[test]
    fn bars_are_coloured_on_a_terminal_only() {
        assert_eq!(coloured_bars("a ██ b\n", true), "a \x1b[36m██\x1b[0m b\n");
        assert_eq!(coloured_bars("a ██ b\n", false), "a ██ b\n");
    }
}
