//! Labels that may be wrong, found without a model: of a training text the ten texts that share most of its rare words
//! (cosine of tf-idf weights) nearly all have one other label, and none or hardly any its own.
//!
//! That is a guess. A text can differ from its neighbours in the one word that matters. So it is a list to read through, not
//! one to delete by.

use super::findings::{Row, TRAIN};
use std::collections::HashMap;

/// Neighbours that are asked.
const NEIGHBOURS: usize = 10;
/// So many must be near enough to say anything.
const FEWEST: usize = 5;
/// What texts at least have in common to be neighbours.
const NEAR: f32 = 0.3;
/// The share of the neighbours that must have the same other label.
const AGREE: f64 = 0.8;
/// The rarest words of a text, by which its neighbours are looked for.
const SOUGHT: usize = 10;
/// A word of more texts than this leads to no neighbours.
const MOST_TEXTS: usize = 400;
/// Candidates that are compared word by word.
const COMPARED: usize = 50;
/// Texts that are asked for their neighbours; of more, every second, third and so on.
const MOST_ROWS: usize = 50_000;

/// A text whose neighbours have another label.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Suspicious {
    pub row: usize,
    /// The neighbours' label.
    pub label: String,
    /// Neighbours with that label, the nearest first.
    pub neighbours: Vec<usize>,
    /// How many neighbours there were.
    pub of: usize,
    score: f32,
}

/// What was found.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Labels {
    /// The most striking first.
    pub found: Vec<Suspicious>,
    /// Texts that were asked.
    pub asked: usize,
    /// Texts that might have been.
    pub of: usize,
}

/// A text as its words, with their weights.
struct Words {
    /// Numbers of the words, ascending, each once.
    ids: Vec<u32>,
    /// Length of the vector of their weights.
    norm: f32,
}

/// Training texts whose labels their neighbours do not share. Of copies the first is looked at.
pub(super) fn labels(rows: &[Row], copies: &[Vec<usize>]) -> Labels {
    let mut is_copy = vec![false; rows.len()];
    for group in copies {
        let mut train = group.iter().filter(|&&row| rows[row].part == TRAIN);
        train.next();
        train.for_each(|&row| is_copy[row] = true);
    }
    let texts: Vec<usize> = (0..rows.len())
        .filter(|&row| rows[row].part == TRAIN && !is_copy[row] && rows[row].label.is_some())
        .collect();

    let mut numbers: HashMap<&str, u32> = HashMap::new();
    let mut postings: Vec<Vec<u32>> = Vec::new();
    let mut words: Vec<Words> = Vec::with_capacity(texts.len());
    for (at, &row) in texts.iter().enumerate() {
        let pieces = rows[row].text.split(|c: char| !c.is_alphanumeric());
        let mut ids: Vec<u32> = pieces
            .filter(|word| !word.is_empty())
            .map(|word| {
                let next = numbers.len() as u32;
                *numbers.entry(word).or_insert(next)
            })
            .collect();
        ids.sort_unstable();
        ids.dedup();
        postings.resize_with(numbers.len(), Vec::new);
        ids.iter()
            .for_each(|&id| postings[id as usize].push(at as u32));
        words.push(Words { ids, norm: 0.0 });
    }
    // A word of one text alone weighs as one of two: it tells nothing of what others have in common with it.
    let weight = |id: u32| {
        let texts_with = postings[id as usize].len().max(2);
        (texts.len() as f32 / texts_with as f32).ln().max(0.0)
    };
    for text in &mut words {
        let squares = text.ids.iter().map(|&id| weight(id) * weight(id));
        text.norm = squares.sum::<f32>().sqrt();
    }

    let step = texts.len().div_ceil(MOST_ROWS).max(1);
    let mut result = Labels {
        asked: texts.len().div_ceil(step),
        of: texts.len(),
        ..Labels::default()
    };
    let mut scores = vec![0.0_f32; texts.len()];
    for at in (0..texts.len()).step_by(step) {
        let near = neighbours(at, &words, &postings, &weight, &mut scores);
        if near.len() < FEWEST {
            continue;
        }
        let label = |at: usize| rows[texts[at]].label.as_deref().unwrap_or_default();
        let mut votes: HashMap<&str, (usize, f32)> = HashMap::new();
        for &(other, cosine) in &near {
            let vote = votes.entry(label(other)).or_default();
            vote.0 += 1;
            vote.1 += cosine;
        }
        let own = votes.get(label(at)).copied().unwrap_or_default();
        let best = votes
            .iter()
            .filter(|(name, _)| **name != label(at))
            .max_by(|a, b| a.1.0.cmp(&b.1.0).then(b.0.cmp(a.0)));
        let Some((&name, &(count, sum))) = best else {
            continue;
        };
        if (count as f64) < AGREE * near.len() as f64 {
            continue;
        }
        let agreeing = near.iter().filter(|(other, _)| label(*other) == name);
        result.found.push(Suspicious {
            row: texts[at],
            label: name.to_owned(),
            neighbours: agreeing.map(|(other, _)| texts[*other]).collect(),
            of: near.len(),
            score: sum - own.1,
        });
    }
    result
        .found
        .sort_by(|a, b| b.score.total_cmp(&a.score).then(a.row.cmp(&b.row)));
    result
}

/// The nearest texts with their cosines, the nearest first. `scores` are zeros, and zeros again afterwards.
fn neighbours(
    at: usize,
    words: &[Words],
    postings: &[Vec<u32>],
    weight: &impl Fn(u32) -> f32,
    scores: &mut [f32],
) -> Vec<(usize, f32)> {
    let mut rare: Vec<u32> = words[at].ids.clone();
    rare.retain(|&id| (2..=MOST_TEXTS).contains(&postings[id as usize].len()));
    rare.sort_unstable_by_key(|&id| (postings[id as usize].len(), id));
    rare.truncate(SOUGHT);
    let mut touched: Vec<u32> = Vec::new();
    for &id in &rare {
        let square = weight(id) * weight(id);
        for &other in &postings[id as usize] {
            if scores[other as usize] == 0.0 {
                touched.push(other);
            }
            scores[other as usize] += square;
        }
    }
    let mut candidates: Vec<(u32, f32)> = touched
        .iter()
        .filter(|&&other| other as usize != at)
        .map(|&other| {
            (
                other,
                scores[other as usize] / words[other as usize].norm.max(1e-6),
            )
        })
        .collect();
    touched
        .iter()
        .for_each(|&other| scores[other as usize] = 0.0);
    candidates.sort_unstable_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
    candidates.truncate(COMPARED);
    let mut near: Vec<(usize, f32)> = candidates
        .into_iter()
        .map(|(other, _)| {
            (
                other as usize,
                cosine(&words[at], &words[other as usize], weight),
            )
        })
        .filter(|&(_, cosine)| cosine >= NEAR)
        .collect();
    near.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
    near.truncate(NEIGHBOURS);
    near
}

/// How much two texts have in common: 1 for the same words, 0 for none.
fn cosine(one: &Words, other: &Words, weight: &impl Fn(u32) -> f32) -> f32 {
    let (mut i, mut j, mut sum) = (0, 0, 0.0);
    while let (Some(&a), Some(&b)) = (one.ids.get(i), other.ids.get(j)) {
        match a.cmp(&b) {
            std::cmp::Ordering::Less => i += 1,
            std::cmp::Ordering::Greater => j += 1,
            std::cmp::Ordering::Equal => {
                sum += weight(a) * weight(a);
                i += 1;
                j += 1;
            }
        }
    }
    match one.norm * other.norm {
        0.0 => 0.0,
        norms => sum / norms,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::look::duplicates::{groups, tests::rows};

    #[test]
    fn a_label_that_no_neighbour_has_is_found() {
        let places = [
            "hall", "kitchen", "cellar", "attic", "garage", "garden", "porch",
        ];
        let mut texts: Vec<(String, &str)> = Vec::new();
        for (i, place) in places.iter().enumerate() {
            texts.push((format!("switch on the lamp in the {place}"), "light"));
            texts.push((format!("play music from the radio number {i}"), "sound"));
        }
        texts.push(("switch on the lamp in the shed".into(), "sound"));
        texts.push(("nothing like the others".into(), "light"));
        let of: Vec<_> = texts
            .iter()
            .map(|(text, label)| ("train", text.as_str(), *label))
            .collect();
        let mut rows = rows(&of);
        let found = labels(&rows, &groups(&rows));
        assert_eq!((found.asked, found.of), (16, 16));
        assert_eq!(found.found.len(), 1, "{found:?}");
        let first = &found.found[0];
        assert_eq!(
            (first.row, first.label.as_str(), first.of),
            (14, "light", 7)
        );
        assert_eq!(first.neighbours.len(), 7);
        // Other parts are not asked, and with its right label nothing is odd about it.
        rows[14].label = Some("light".into());
        assert!(labels(&rows, &[]).found.is_empty());
    }

    #[test]
    fn copies_do_not_vote() {
        let mut of = vec![("train", "the red lamp of the hall", "off"); 6];
        of.push(("train", "the red lamp of the attic", "on"));
        of.push(("train", "quite another thing", "on"));
        let rows = rows(&of);
        let found = labels(&rows, &groups(&rows));
        assert_eq!((found.of, found.found.len()), (3, 0));
    }
}
