//! Texts of the other parts that are nearly training texts: changed in a word, a sign, or the end.
//!
//! Each text is the set of its runs of five characters. Two texts are alike by the share that their sets have in common
//! (Jaccard). Of a long text the 128 runs with the smallest hashes stand for all ("bottom-k sketch", Broder 1997), so that
//! the share is an estimate. Pairs are found by the prefix filter (Bayardo, Ma and Srikant 2007, "Scaling up all pairs similarity search"): texts
//! that have 80 % in common share one of the rarest fifth of their runs. Nothing is missed by that; what is not compared, for
//! time, is counted.

use super::findings::{Row, TRAIN};
use rekindle_base::rng::mix64;

/// Characters in a run.
const RUN: usize = 5;
/// Fewer runs than this say too little.
const FEWEST: usize = 16;
/// Runs that stand for a long text.
const SKETCH: usize = 128;
/// Texts that have at least this share in common are told.
pub(super) const ALIKE: f64 = 0.8;
/// Training texts that are compared, and texts that are compared with them.
const MOST_ROWS: usize = 200_000;
/// Training texts that one text is compared with.
const MOST_CANDIDATES: usize = 500;
/// Counters of how often runs occur; several runs may share one.
const COUNTERS: usize = 1 << 20;

/// A text and the training text that is most like it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Near {
    pub row: usize,
    pub like: usize,
    /// The share that they have in common.
    pub share: f64,
}

/// What was found.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Neighbours {
    /// By row.
    pub pairs: Vec<Near>,
    /// Texts that were not compared with all that they might be like.
    pub in_part: usize,
}

/// The texts of other parts that are nearly training texts, but not copies of one.
pub(super) fn near(rows: &[Row]) -> Neighbours {
    let (train, others): (Vec<usize>, Vec<usize>) =
        (0..rows.len()).partition(|&row| rows[row].part == TRAIN);
    if train.is_empty() || others.is_empty() {
        return Neighbours::default();
    }
    let all_trained = train.len() <= MOST_ROWS;
    let train = &train[..train.len().min(MOST_ROWS)];
    let compared = &others[..others.len().min(MOST_ROWS)];
    let sketches: Vec<Vec<u32>> = train.iter().map(|&row| sketch(&rows[row].text)).collect();
    let mut counters = vec![0_u32; COUNTERS];
    for run in sketches.iter().flatten() {
        counters[counter(*run)] += 1;
    }
    // Rare runs first: any order will do that is the same for all.
    let prefix = |sketch: &[u32]| -> Vec<u32> {
        let mut runs = sketch.to_vec();
        runs.sort_unstable_by_key(|&run| (counters[counter(run)], run));
        runs.truncate(sketch.len() - needed(sketch.len()) + 1);
        runs
    };
    let mut index: Vec<(u32, u32)> = Vec::new();
    for (at, sketch) in sketches
        .iter()
        .enumerate()
        .filter(|(_, sketch)| !sketch.is_empty())
    {
        index.extend(prefix(sketch).into_iter().map(|run| (run, at as u32)));
    }
    index.sort_unstable();

    let mut found = Neighbours {
        in_part: others.len() - compared.len(),
        ..Neighbours::default()
    };
    let mut candidates: Vec<u32> = Vec::new();
    for &row in compared {
        let own = sketch(&rows[row].text);
        if own.is_empty() {
            continue;
        }
        candidates.clear();
        for run in prefix(&own) {
            let start = index.partition_point(|&(other, _)| other < run);
            let same = index[start..]
                .iter()
                .take_while(|&&(other, _)| other == run);
            // One more than is compared shows that there are more.
            candidates.extend(same.take(MOST_CANDIDATES + 1).map(|&(_, at)| at));
        }
        candidates.sort_unstable();
        candidates.dedup();
        found.in_part += usize::from(candidates.len() > MOST_CANDIDATES || !all_trained);
        let mut best: Option<Near> = None;
        let mut copy = false;
        for &at in candidates.iter().take(MOST_CANDIDATES) {
            let like = train[at as usize];
            if rows[like].context != rows[row].context {
                continue;
            }
            let share = common(&own, &sketches[at as usize]);
            copy |= rows[like].text == rows[row].text;
            if share >= ALIKE && best.as_ref().is_none_or(|best| share > best.share) {
                best = Some(Near { row, like, share });
            }
        }
        // A text that is a copy is told elsewhere.
        found.pairs.extend(best.filter(|_| !copy));
    }
    found
}

fn counter(run: u32) -> usize {
    run as usize % COUNTERS
}

/// How many runs texts of so many runs must share.
fn needed(runs: usize) -> usize {
    ((runs as f64 * ALIKE).ceil() as usize).clamp(1, runs.max(1))
}

/// The smallest hashes of the runs of a text, sorted; none of a text that is too short.
fn sketch(text: &str) -> Vec<u32> {
    let chars: Vec<char> = text.chars().collect();
    let hash = |run: &[char]| {
        let key = run.iter().fold(0_u64, |key, &c| mix64(key ^ u64::from(c)));
        (key >> 32) as u32
    };
    let mut runs: Vec<u32> = chars.windows(RUN).map(hash).collect();
    runs.sort_unstable();
    runs.dedup();
    runs.truncate(SKETCH);
    match runs.len() < FEWEST {
        true => Vec::new(),
        false => runs,
    }
}

/// The share of all runs that both have.
fn common(one: &[u32], other: &[u32]) -> f64 {
    // Beyond the end of a sketch nothing is known.
    let limit = match one.len().max(other.len()) {
        SKETCH => SKETCH,
        _ => usize::MAX,
    };
    let (mut i, mut j, mut all, mut both) = (0, 0, 0, 0);
    while all < limit && (i < one.len() || j < other.len()) {
        let (a, b) = (one.get(i), other.get(j));
        all += 1;
        match (a, b) {
            (Some(a), Some(b)) if a == b => {
                both += 1;
                i += 1;
                j += 1;
            }
            (Some(a), Some(b)) if a > b => j += 1,
            (Some(_), _) => i += 1,
            (None, _) => j += 1,
        }
    }
    f64::from(both) / (all as f64).max(1.0)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::look::duplicates::tests::rows;

    const LONG: &str = "please switch off the lamp in the hall before you go to bed tonight, and lock the back door as well";

    #[test]
    fn a_text_with_another_end_is_found_and_a_copy_is_not() {
        let changed = LONG.replace("as well", "too");
        let other = LONG.replace("lamp in the hall", "radio in the kitchen");
        let rows = rows(&[
            (
                "train",
                "something else that is long enough to be compared",
                "",
            ),
            ("train", LONG, ""),
            ("test", &changed, ""),
            ("test", LONG, ""),
            ("test", &other, ""),
            ("test", "too short", ""),
        ]);
        let found = near(&rows);
        assert_eq!(found.in_part, 0);
        let pairs: Vec<_> = found
            .pairs
            .iter()
            .map(|near| (near.row, near.like))
            .collect();
        assert_eq!(pairs, [(2, 1)]);
        let share = found.pairs[0].share;
        assert!((ALIKE..1.0).contains(&share), "{share}");
        assert_eq!(near(&rows[..2]), Neighbours::default());
    }

    /// The prefix filter finds what comparing all pairs finds.
    #[test]
    fn nothing_is_missed() {
        let words = [
            "lamp", "door", "kitchen", "hall", "radio", "window", "garden", "light",
        ];
        let text = |seed: u64, words_of: usize| -> String {
            let word = |i: usize| words[(mix64(seed * 31 + i as u64) % 8) as usize];
            (0..words_of).map(word).collect::<Vec<_>>().join(" ")
        };
        let texts: Vec<String> = (0..160)
            .map(|i| {
                let base = text(i / 4, if i % 8 < 4 { 12 } else { 80 });
                format!("{base}{}", " end".repeat((i % 4) as usize))
            })
            .collect();
        let parts: Vec<_> = texts
            .iter()
            .enumerate()
            .map(|(i, text)| (if i % 2 == 0 { "train" } else { "test" }, text.as_str(), ""))
            .collect();
        let rows = rows(&parts);
        let sketches: Vec<_> = texts.iter().map(|text| sketch(text)).collect();
        let mut expected = Vec::new();
        for row in (1..160).step_by(2) {
            let shares = (0..160)
                .step_by(2)
                .map(|like| common(&sketches[row], &sketches[like]));
            let best = shares.fold(0.0, f64::max);
            let copy = texts.iter().step_by(2).any(|text| *text == texts[row]);
            if best >= ALIKE && !copy {
                expected.push((row, best));
            }
        }
        let found = near(&rows).pairs;
        let found: Vec<_> = found.iter().map(|near| (near.row, near.share)).collect();
        assert!(expected.len() > 20, "{}", expected.len());
        assert_eq!(found, expected);
    }
}
