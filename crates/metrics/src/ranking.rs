//! Decisions in the order of their scores: what each threshold would accept, and average precision.

use crate::counts::ratio;

/// The decisions of a threshold at `score`: all examples that score at least as much.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cut {
    pub(crate) score: f64,
    pub(crate) predicted: u64,
    /// Of those predicted, how many are true.
    pub(crate) both: u64,
}

/// The cuts at each distinct score, highest first. The last one predicts everything.
pub(crate) fn rank(decisions: impl Iterator<Item = (f64, bool)>) -> Vec<Cut> {
    let mut decisions: Vec<(f64, bool)> = decisions.collect();
    decisions.sort_unstable_by(|a, b| b.0.total_cmp(&a.0));
    let (mut predicted, mut both) = (0, 0);
    decisions
        .chunk_by(|a, b| a.0 == b.0)
        .map(|tied| {
            predicted += tied.len() as u64;
            both += tied.iter().filter(|(_, truth)| *truth).count() as u64;
            let score = tied[0].0;
            Cut {
                score,
                predicted,
                both,
            }
        })
        .collect()
}

/// The sum over cuts of precision times the recall gained; NaN without positives.
pub(crate) fn average_precision(cuts: &[Cut]) -> f64 {
    let support = cuts.last().map_or(0, |cut| cut.both);
    let mut before = 0;
    let sum: f64 = cuts
        .iter()
        .map(|cut| {
            let gained = cut.both - before;
            before = cut.both;
            gained as f64 * ratio(cut.both, cut.predicted)
        })
        .sum();
    if support == 0 {
        f64::NAN
    } else {
        sum / support as f64
    }
}
