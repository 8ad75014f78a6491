//! Examples that stand more than once: copies within a part, copies of training examples in the other parts, and copies that
//! have different labels.

use super::findings::{Finding, Row, TRAIN, beginning, named, percent, together};
use rekindle_base::thousands;
use std::collections::{BTreeSet, HashMap};

/// Rows with the same content: groups of two and more, each in the order of the rows, the groups by their first row.
pub(super) fn groups(rows: &[Row]) -> Vec<Vec<usize>> {
    let mut of: HashMap<(u64, &str), Vec<usize>> = HashMap::with_capacity(rows.len());
    for (index, row) in rows.iter().enumerate() {
        of.entry((row.context, &row.text)).or_default().push(index);
    }
    let mut groups: Vec<Vec<usize>> = of.into_values().filter(|group| group.len() > 1).collect();
    groups.sort_unstable_by_key(|group| group[0]);
    groups
}

/// What is told of copies. `noun` is one example in words, and its plural; `shown` whether contents are shown.
pub(super) fn findings(
    rows: &[Row],
    groups: &[Vec<usize>],
    (one, many): (&str, &str),
    shown: bool,
) -> Vec<Finding> {
    let remark = |group: &[&Row]| match shown {
        true => beginning(&group[0].text),
        false => String::new(),
    };
    let name = |count: usize| match count {
        1 => format!("1 {one}"),
        n => format!("{} {many}", thousands(n as u64)),
    };
    let groups: Vec<Vec<&Row>> = groups
        .iter()
        .map(|group| group.iter().map(|&index| &rows[index]).collect())
        .collect();
    let mut findings = Vec::new();

    let labels = |group: &[&Row]| -> usize {
        let labels = group.iter().filter_map(|row| row.label.as_ref());
        labels.collect::<BTreeSet<_>>().len()
    };
    let differ: Vec<&Vec<&Row>> = groups.iter().filter(|group| labels(group) > 1).collect();
    if !differ.is_empty() {
        let (found, more) = named(&differ, |group| {
            // Of each label its first row before more of them.
            let mut seen = BTreeSet::new();
            let (mut first, rest): (Vec<&Row>, Vec<&Row>) =
                group.iter().partition(|row| seen.insert(&row.label));
            first.extend(rest);
            together(&first, remark(group))
        });
        findings.push(Finding {
            kind: "contradictions",
            warning: true,
            said: format!(
                "{} {} more than once with different labels",
                name(differ.len()),
                if differ.len() == 1 { "stands" } else { "stand" }
            ),
            count: differ.len() as u64,
            found,
            more,
            hint: "decide which label is right, and drop the other rows: a model can learn one of them only",
        });
    }

    for part in ["validation", "test"] {
        let leaks = |group: &&Vec<&Row>| {
            let has = |part: &str| group.iter().any(|row| row.part == part);
            has(TRAIN) && has(part)
        };
        let of_part = |group: &[&Row]| group.iter().filter(|row| row.part == part).count();
        let leaked: Vec<&Vec<&Row>> = groups.iter().filter(leaks).collect();
        let count: usize = leaked.iter().map(|group| of_part(group)).sum();
        let all = rows.iter().filter(|row| row.part == part).count();
        if count > 0 {
            let (found, more) = named(&leaked, |group| {
                let (mut other, train): (Vec<&Row>, Vec<&Row>) = group
                    .iter()
                    .filter(|row| row.part == part || row.part == TRAIN)
                    .partition(|row| row.part == part);
                other.extend(train);
                together(&other, remark(group))
            });
            findings.push(Finding {
                kind: "leak",
                warning: true,
                said: format!(
                    "{} of {part} ({}) {} among the training examples too",
                    name(count),
                    percent(count as u64, all as u64),
                    if count == 1 { "stands" } else { "stand" }
                ),
                count: count as u64,
                found,
                more,
                hint: "drop them from one of the two: what a model has learned by heart says nothing of new examples",
            });
        }
    }

    let mut copies: Vec<Vec<&Row>> = Vec::new();
    for group in &groups {
        let train: Vec<&Row> = group
            .iter()
            .copied()
            .filter(|row| row.part == TRAIN)
            .collect();
        if train.len() > 1 {
            copies.push(train);
        }
    }
    copies.sort_by_key(|group| std::cmp::Reverse(group.len()));
    let count: usize = copies.iter().map(|group| group.len() - 1).sum();
    let all = rows.iter().filter(|row| row.part == TRAIN).count();
    if count > 0 {
        let (found, more) = named(&copies, |group| together(group, remark(group)));
        findings.push(Finding {
            kind: "duplicates",
            warning: false,
            said: format!(
                "{} for training ({}) {} of others",
                name(count),
                percent(count as u64, all as u64),
                if count == 1 { "is a copy" } else { "are copies" }
            ),
            count: count as u64,
            found,
            more,
            hint: "each copy counts as an example of its own; drop copies that do not mean that the example is frequent",
        });
    }
    findings
}

#[cfg(test)]
pub(super) mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::look::findings::normalised;
    use rekindle_base::NAMED;

    /// Rows as (part, text, label), at lines 1, 2, 3 of their file.
    pub(in crate::look) fn rows(of: &[(&'static str, &str, &str)]) -> Vec<Row> {
        let row = |(line, (part, text, label)): (usize, &(&'static str, &str, &str))| Row {
            part,
            text: normalised(text),
            context: 0,
            label: (!label.is_empty()).then(|| (*label).to_owned()),
            place: format!("a.csv:{}", line + 1),
        };
        of.iter().enumerate().map(row).collect()
    }

    #[test]
    fn copies_leaks_and_contradictions_are_told_apart() {
        let rows = rows(&[
            ("train", "Lamp  on", "on"),
            ("train", "lamp on ", "on"),
            ("train", "door shut", "off"),
            ("test", "LAMP ON", "on"),
            ("validation", "door\tshut", "on"),
            ("train", "bed", "off"),
        ]);
        let groups = groups(&rows);
        assert_eq!(groups, [vec![0, 1, 3], vec![2, 4]]);
        let found = findings(&rows, &groups, ("text", "texts"), true);
        let said: Vec<&str> = found.iter().map(|finding| finding.said.as_str()).collect();
        assert_eq!(
            said,
            [
                "1 text stands more than once with different labels",
                "1 text of validation (100.0 %) stands among the training examples too",
                "1 text of test (100.0 %) stands among the training examples too",
                "1 text for training (25.0 %) is a copy of others",
            ]
        );
        let places = |finding: &Finding| -> Vec<String> {
            let rows = finding.found[0].rows.iter();
            rows.map(|row| format!("{} {}", row.place, row.label.as_deref().unwrap_or("")))
                .collect()
        };
        assert_eq!(places(&found[0]), ["a.csv:3 off", "a.csv:5 on"]);
        assert_eq!(places(&found[2])[0], "a.csv:4 on");
        assert_eq!(found[0].found[0].remark, "door shut");
        assert!(found[..3].iter().all(|finding| finding.warning));
        assert!(!found[3].warning);
    }

    #[test]
    fn ten_are_named_and_all_counted() {
        let texts: Vec<String> = (0..30).map(|i| format!("text {}", i % 15)).collect();
        let of: Vec<_> = texts
            .iter()
            .map(|text| ("train", text.as_str(), "x"))
            .collect();
        let all = rows(&of);
        let found = findings(&all, &groups(&all), ("text", "texts"), true);
        assert_eq!((found.len(), found[0].count), (1, 15));
        assert_eq!(found[0].found.len(), NAMED);
        let alike = rows(&vec![("train", "same", ""); 14]);
        let found = findings(&alike, &groups(&alike), ("text", "texts"), true);
        assert_eq!(
            (found[0].found[0].rows.len(), found[0].found[0].more),
            (10, 4)
        );
    }
}
