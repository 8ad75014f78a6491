//! The examples of a run in a few numbers, for its report.

use crate::{
    inputs::{Inputs, Prepared},
    report::{DataSummary, LabelCounts, Lengths, NumberSpread, SplitSize},
    spread,
};
use rekindle_data::{TargetEncoder, TargetKind, TargetRow, Targets};
use std::collections::BTreeMap;

/// Bars of the histogram of lengths.
const BARS: usize = 24;

/// Sizes, labels and lengths of the sets of a run.
pub(crate) fn summary(prepared: &Prepared) -> DataSummary {
    let sets = [
        ("train", Some(&prepared.train)),
        ("validation", prepared.validation.as_ref()),
        ("test", prepared.test.as_ref()),
    ];
    let sets = sets
        .into_iter()
        .filter_map(|(name, set)| Some((name, set?.as_ref())));
    let sets: Vec<(&str, &dyn Inputs)> = sets.collect();
    DataSummary {
        sizes: prepared.sizes.clone(),
        max_length: prepared.max_length as u64,
        ..of_sets(&sets, &prepared.encoder, prepared.noun)
    }
}

/// The same of these sets, the training examples first; without what a run alone knows.
pub(crate) fn of_sets(
    sets: &[(&str, &dyn Inputs)],
    encoder: &TargetEncoder,
    noun: &str,
) -> DataSummary {
    let names = encoder.names();
    let labels = match encoder.kind() {
        TargetKind::Class | TargetKind::Classes => {
            let counts: Vec<Vec<u64>> = (sets.iter())
                .map(|(_, set)| counts(set.targets(), names.len()))
                .collect();
            let of = |(label, name): (usize, &String)| LabelCounts {
                name: name.clone(),
                counts: counts.iter().map(|counts| counts[label]).collect(),
            };
            names.iter().enumerate().map(of).collect()
        }
        TargetKind::Tags => entities(sets, encoder),
        TargetKind::Answer => answers(sets),
        _ => Vec::new(),
    };
    let numbers = match encoder.kind() {
        TargetKind::Real => {
            let of = |(column, name): (usize, &String)| NumberSpread {
                name: name.clone(),
                spreads: (sets.iter())
                    .map(|(_, set)| spread(set.targets(), column))
                    .collect(),
            };
            names.iter().enumerate().map(of).collect()
        }
        _ => Vec::new(),
    };
    let size = |(name, set): &(&str, &dyn Inputs)| SplitSize {
        name: (*name).to_owned(),
        examples: set.len() as u64,
        cut: set.cut() as u64,
    };
    DataSummary {
        splits: sets.iter().map(size).collect(),
        noun: noun.to_owned(),
        sizes: String::new(),
        labels,
        numbers,
        lengths: sets
            .first()
            .and_then(|(_, train)| train.lengths())
            .and_then(|all| lengths(&all)),
        max_length: 0,
        files: Vec::new(),
    }
}

/// How many spans have each label.
fn entities(sets: &[(&str, &dyn Inputs)], encoder: &TargetEncoder) -> Vec<LabelCounts> {
    let TargetEncoder::Tags(tags) = encoder else {
        return Vec::new();
    };
    let counts: Vec<BTreeMap<&str, u64>> = (sets.iter())
        .map(|(_, set)| {
            let mut counts = BTreeMap::new();
            let targets = set.targets();
            for row in 0..targets.len() {
                let TargetRow::Tags(ids) = targets.row(row) else {
                    continue;
                };
                let ids: Vec<u32> = ids.iter().filter_map(|&id| id.try_into().ok()).collect();
                for (_, label) in tags.entities(&ids) {
                    *counts.entry(label).or_default() += 1;
                }
            }
            counts
        })
        .collect();
    let of = |label: &str| LabelCounts {
        name: label.to_owned(),
        counts: (counts.iter())
            .map(|counts| counts.get(label).copied().unwrap_or(0))
            .collect(),
    };
    tags.labels().into_iter().map(of).collect()
}

/// How many questions have an answer and how many none; nothing where all have one. Of training examples, windows count.
fn answers(sets: &[(&str, &dyn Inputs)]) -> Vec<LabelCounts> {
    let of_set = |set: &dyn Inputs| {
        let mut counts = [0u64; 2];
        for row in 0..set.targets().len() {
            if let TargetRow::Answer(question) = set.targets().row(row) {
                let none = question.answers.as_ref().is_some_and(Vec::is_empty);
                counts[usize::from(none)] += 1;
            }
        }
        counts
    };
    let counts: Vec<[u64; 2]> = sets.iter().map(|(_, set)| of_set(*set)).collect();
    if counts.iter().all(|[_, none]| *none == 0) {
        return Vec::new();
    }
    let names = ["with an answer", "without one"];
    let of = |(which, name): (usize, &&str)| LabelCounts {
        name: (*name).to_owned(),
        counts: counts.iter().map(|counts| counts[which]).collect(),
    };
    names.iter().enumerate().map(of).collect()
}

/// How many examples have each label.
fn counts(targets: &Targets, labels: usize) -> Vec<u64> {
    let mut counts = vec![0; labels];
    for row in 0..targets.len() {
        match targets.row(row) {
            TargetRow::Class(class) => counts[class as usize] += 1,
            TargetRow::Classes(truth) => {
                let given = counts.iter_mut().zip(truth);
                given.for_each(|(count, &given)| *count += u64::from(given));
            }
            _ => {}
        }
    }
    counts
}

/// The numbers of a column; none where targets are no numbers.
pub(crate) fn column_of(targets: &Targets, column: usize) -> Vec<f64> {
    let value = |row| match targets.row(row) {
        TargetRow::Real(values) => values.get(column).map(|&value| f64::from(value)),
        _ => None,
    };
    (0..targets.len()).filter_map(value).collect()
}

/// Least, mean and greatest value of a column; NaN where there is none.
fn spread(targets: &Targets, column: usize) -> [f64; 3] {
    let values = column_of(targets, column);
    let mean = values.iter().sum::<f64>() / values.len() as f64;
    // `min` and `max` of a NaN are the other operand.
    let least = values.iter().copied().fold(f64::NAN, f64::min);
    [least, mean, values.iter().copied().fold(f64::NAN, f64::max)]
}

/// A histogram of lengths; `None` of nothing.
fn lengths(all: &[u32]) -> Option<Lengths> {
    let longest = all.iter().copied().max()?;
    let width = (longest as usize + 1).div_ceil(BARS).max(1) as u32;
    let bars = spread::bars(
        all.iter().map(|&length| f64::from(length)),
        0.0,
        f64::from(width),
        (longest / width) as usize + 1,
    );
    let mut sorted = all.to_vec();
    sorted.sort_unstable();
    Some(Lengths {
        width: u64::from(width),
        bars,
        median: u64::from(sorted[sorted.len() / 2]),
        longest: u64::from(longest),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_histogram_counts_every_length_once() {
        let all: Vec<u32> = (1..=100).chain([7, 7]).collect();
        let lengths = lengths(&all).unwrap();
        assert_eq!((lengths.width, lengths.longest), (5, 100));
        assert_eq!(lengths.bars.iter().sum::<u64>(), 102);
        // 5, 6, 7 three times, 8 and 9.
        assert_eq!(lengths.bars[1], 7);
        assert_eq!(lengths.bars[20], 1);
        let alike = super::lengths(&[3, 3]).unwrap();
        assert_eq!((alike.bars, alike.median), (vec![0, 0, 0, 2], 3));
        assert!(super::lengths(&[]).is_none());
    }

    #[test]
    fn labels_and_numbers_are_summed_up() {
        assert_eq!(counts(&Targets::Class(vec![2, 0, 2]), 3), [1, 0, 2]);
        let sets = Targets::Classes {
            width: 2,
            rows: vec![true, false, true, true],
        };
        assert_eq!(counts(&sets, 2), [2, 1]);
        let numbers = Targets::Real {
            width: 2,
            values: vec![1.0, 5.0, 3.0, -7.0],
        };
        assert_eq!(spread(&numbers, 0), [1.0, 2.0, 3.0]);
        assert_eq!(spread(&numbers, 1), [-7.0, -1.0, 5.0]);
    }
}
