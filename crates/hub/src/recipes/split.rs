//! A random split that anybody can compute again: rows in the order of a hash of their text, cut at given shares.

use std::collections::BTreeMap;

use sha2::{Digest, Sha256};

/// A row before it is known which split it is of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Row {
    /// Rows of each stratum are split by themselves, so that every split has its share of each.
    pub(super) stratum: &'static str,
    /// The text, which decides the row's place.
    pub(super) text: String,
    /// The row as it is written, without a line end.
    pub(super) line: String,
}

/// Lines by split. Within a stratum rows are sorted by the sha256 of `SEED:TEXT` and cut at the shares, in percent; rows with
/// equal texts stay together. A split's lines are in the order of that hash, so strata are mixed.
pub(super) fn split(
    rows: Vec<Row>,
    seed: u64,
    shares: &[(&'static str, usize)],
) -> BTreeMap<&'static str, Vec<String>> {
    let mut strata: BTreeMap<&str, Vec<([u8; 32], Row)>> = BTreeMap::new();
    for row in rows {
        let key = Sha256::digest(format!("{seed}:{}", row.text)).into();
        strata.entry(row.stratum).or_default().push((key, row));
    }
    let mut splits: BTreeMap<&str, Vec<([u8; 32], Row)>> = BTreeMap::new();
    for mut rows in strata.into_values() {
        // Stable: rows with equal texts keep the order of the source.
        rows.sort_by_key(|(key, _)| *key);
        let (all, mut share, mut from) = (rows.len(), 0, 0);
        for &(name, percent) in shares {
            share += percent;
            let mut to = ((all * share + 50) / 100).max(from);
            while to > from && to < all && rows[to].0 == rows[to - 1].0 {
                to += 1;
            }
            let part = splits.entry(name).or_default();
            part.extend_from_slice(&rows[from..to]);
            from = to;
        }
    }
    let lines = |mut rows: Vec<([u8; 32], Row)>| {
        rows.sort_by_key(|(key, _)| *key);
        rows.into_iter().map(|(_, row)| row.line).collect()
    };
    splits
        .into_iter()
        .map(|(name, rows)| (name, lines(rows)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(stratum: &'static str, text: &str, line: &str) -> Row {
        Row {
            stratum,
            text: text.into(),
            line: line.into(),
        }
    }

    #[test]
    fn every_stratum_is_cut_at_the_shares_and_no_row_is_lost() {
        let rows: Vec<Row> = (0..250)
            .map(|i| {
                let line = format!("{i}");
                row(if i < 200 { "a" } else { "b" }, &format!("text {i}"), &line)
            })
            .collect();
        let made = split(rows.clone(), 0, &[("train", 80), ("test", 20)]);
        let of_a = |name: &str| {
            made[name]
                .iter()
                .filter(|line| line.len() < 3 || line.as_str() < "200")
                .count()
        };
        assert_eq!((of_a("train"), of_a("test")), (160, 40));
        assert_eq!((made["train"].len(), made["test"].len()), (200, 50));
        let mut all: Vec<_> = made.values().flatten().cloned().collect();
        all.sort();
        let mut expect: Vec<_> = rows.iter().map(|row| row.line.clone()).collect();
        expect.sort();
        assert_eq!(all, expect);
        // Another order of the rows gives the same files, another seed others.
        let backwards = rows.iter().rev().cloned().collect();
        assert_eq!(split(backwards, 0, &[("train", 80), ("test", 20)]), made);
        assert_ne!(split(rows, 1, &[("train", 80), ("test", 20)]), made);
    }

    #[test]
    fn equal_texts_stay_together() {
        for copies in [2, 7] {
            let rows: Vec<Row> = (0..30 * copies)
                .map(|i| row("", &format!("text {}", i % 30), &format!("{}", i % 30)))
                .collect();
            let made = split(rows, 0, &[("train", 50), ("dev", 25), ("test", 25)]);
            for line in made.values().flatten() {
                let homes = made.values().filter(|lines| lines.contains(line)).count();
                assert_eq!(homes, 1, "{line}");
            }
            assert_eq!(made.values().flatten().count(), 30 * copies);
        }
    }
}
