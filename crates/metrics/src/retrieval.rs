//! Search: accuracy, precision, recall, MRR, nDCG and MAP among the best `k` documents, as sentence-transformers'
//! `InformationRetrievalEvaluator` computes them. A document is relevant or not; there are no grades.
//!
//! Correlations of similarities with human scores (its `EmbeddingSimilarityEvaluator`) are `pearson` and `spearman` of
//! [`Regression`](crate::Regression).

use crate::{Mean, MetricsError};
use serde::{Deserialize, Serialize};
use std::cmp::Ordering;
use std::collections::BTreeSet;

/// The `k` most similar documents, best first: indices into `similarities`.
///
/// Equal ones stand in the order of their indices. (sentence-transformers orders equal ones by document id; the figures are
/// the same where ids sort as documents do here.) NaN is never found, so there may be fewer.
#[must_use]
pub fn top_k(similarities: &[f32], k: usize) -> Vec<usize> {
    let better = |&a: &usize, &b: &usize| {
        let by_similarity = similarities[b].partial_cmp(&similarities[a]);
        by_similarity.unwrap_or(Ordering::Equal).then(a.cmp(&b))
    };
    let mut found: Vec<usize> = (0..similarities.len()).collect();
    found.retain(|&i| !similarities[i].is_nan());
    if k < found.len() {
        found.select_nth_unstable_by(k, better);
        found.truncate(k);
    }
    found.sort_unstable_by(better);
    found
}

/// Adds up searches, query by query.
#[derive(Debug, Clone, PartialEq)]
pub struct Retrieval {
    /// Ascending.
    cutoffs: Vec<usize>,
    /// Of each cut-off, a mean of each figure over queries, in the order of [`figures`].
    means: Vec<[Mean; 6]>,
    n: u64,
    skipped: u64,
    nan: u64,
}

/// The figures of all queries.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RetrievalReport {
    /// Queries counted.
    pub n: u64,
    /// Queries left out because no document is relevant to them.
    pub skipped: u64,
    /// Queries with a similarity that was NaN. Any makes every figure NaN.
    pub nan: u64,
    /// One entry a cut-off, ascending.
    pub at_k: Vec<RetrievalAt>,
}

/// The figures among the best `k` documents: means over queries, in `0..=1`. NaN without queries; JSON's `null` stands for
/// NaN.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct RetrievalAt {
    /// How many documents are looked at.
    pub k: usize,
    /// Share of queries with a relevant document among them (a hit).
    #[serde(with = "crate::nan_as_null")]
    pub accuracy: f64,
    /// Relevant ones among them, divided by `k`, also where there are fewer than `k` documents.
    #[serde(with = "crate::nan_as_null")]
    pub precision: f64,
    /// Relevant ones among them, divided by all relevant ones.
    #[serde(with = "crate::nan_as_null")]
    pub recall: f64,
    /// Mean reciprocal rank: 1 divided by the rank of the first relevant one; 0 where there is none.
    #[serde(with = "crate::nan_as_null")]
    pub mrr: f64,
    /// Normalized discounted cumulative gain: relevant ones count `1 / log2(rank + 1)`, divided by the most possible.
    #[serde(with = "crate::nan_as_null")]
    pub ndcg: f64,
    /// Mean average precision: the precision at the rank of each relevant one, summed and divided by the number of relevant
    /// ones, or by `k` if there are more.
    #[serde(with = "crate::nan_as_null")]
    pub map: f64,
}

impl Default for Retrieval {
    /// At 1, 3, 5, 10 and 100 documents.
    fn default() -> Self {
        Self::new(&[1, 3, 5, 10, 100])
    }
}

impl Retrieval {
    /// Figures of nothing, at these cut-offs `k`. Their order, those given twice, and 0 do not count.
    #[must_use]
    pub fn new(cutoffs: &[usize]) -> Self {
        let cutoffs: BTreeSet<usize> = cutoffs.iter().copied().filter(|&k| k > 0).collect();
        let cutoffs: Vec<usize> = cutoffs.into_iter().collect();
        Self {
            means: vec![[Mean::new(); 6]; cutoffs.len()],
            cutoffs,
            n: 0,
            skipped: 0,
            nan: 0,
        }
    }

    /// The largest cut-off: as many documents of a query matter. 0 without cut-offs.
    #[must_use]
    pub fn max_k(&self) -> usize {
        self.cutoffs.last().copied().unwrap_or(0)
    }

    /// Adds a query by its similarity to each document, in the order of [`top_k`], and the indices of the documents that are
    /// relevant to it. One that is no index counts as a document that cannot be found.
    pub fn update(&mut self, similarities: &[f32], relevant: &BTreeSet<usize>) {
        if similarities.iter().any(|similarity| similarity.is_nan()) {
            self.nan += 1;
            self.n += 1;
            for mean in self.means.iter_mut().flatten() {
                mean.add(f64::NAN);
            }
        } else {
            self.update_ranked(&top_k(similarities, self.max_k()), relevant);
        }
    }

    /// Adds a query by the documents found, each once, best first. Those behind the largest cut-off do not count.
    pub fn update_ranked(&mut self, ranked: &[usize], relevant: &BTreeSet<usize>) {
        if relevant.is_empty() {
            self.skipped += 1;
            return;
        }
        self.n += 1;
        let ranked = ranked.iter().take(self.max_k());
        let hits: Vec<bool> = ranked.map(|document| relevant.contains(document)).collect();
        for (&k, means) in self.cutoffs.iter().zip(&mut self.means) {
            let figures = figures(k, &hits[..k.min(hits.len())], relevant.len());
            for (mean, figure) in means.iter_mut().zip(figures) {
                mean.add(figure);
            }
        }
    }

    /// Adds everything `other` has seen. Commutative.
    ///
    /// # Errors
    /// `other` has other cut-offs.
    pub fn merge(&mut self, other: &Self) -> Result<(), MetricsError> {
        if self.cutoffs != other.cutoffs {
            return Err(MetricsError::CutoffMismatch {
                expected: self.cutoffs.clone(),
                found: other.cutoffs.clone(),
            });
        }
        let means = self.means.iter_mut().flatten();
        for (mean, other) in means.zip(other.means.iter().flatten()) {
            mean.merge(other);
        }
        self.n += other.n;
        self.skipped += other.skipped;
        self.nan += other.nan;
        Ok(())
    }

    /// All figures of what was added so far.
    #[must_use]
    pub fn report(&self) -> RetrievalReport {
        let at = |(&k, means): (&usize, &[Mean; 6])| {
            let [accuracy, precision, recall, mrr, ndcg, map] = means.map(|mean| mean.mean());
            RetrievalAt {
                k,
                accuracy,
                precision,
                recall,
                mrr,
                ndcg,
                map,
            }
        };
        RetrievalReport {
            n: self.n,
            skipped: self.skipped,
            nan: self.nan,
            at_k: self.cutoffs.iter().zip(&self.means).map(at).collect(),
        }
    }
}

/// Accuracy, precision, recall, reciprocal rank, nDCG and average precision of one query, from whether each of the first `k`
/// documents is relevant, and how many are in all, at least one.
fn figures(k: usize, hits: &[bool], relevant: usize) -> [f64; 6] {
    let discount = |rank: usize| 1.0 / ((rank + 1) as f64).log2();
    let (mut correct, mut first, mut gain, mut precisions) = (0_u64, 0.0, 0.0, 0.0);
    for (i, _) in hits.iter().enumerate().filter(|(_, hit)| **hit) {
        let rank = i + 1;
        if correct == 0 {
            first = 1.0 / rank as f64;
        }
        correct += 1;
        gain += discount(rank);
        precisions += correct as f64 / rank as f64;
    }
    let possible = k.min(relevant);
    let most: f64 = (1..=possible).map(discount).sum();
    [
        f64::from(correct > 0),
        correct as f64 / k as f64,
        correct as f64 / relevant as f64,
        first,
        gain / most,
        precisions / possible as f64,
    ]
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn set(documents: &[usize]) -> BTreeSet<usize> {
        documents.iter().copied().collect()
    }

    #[test]
    fn the_best_come_first_and_ties_by_index() {
        let similarities = [0.5, 0.9, 0.5, f32::NAN, -0.0, 0.0, f32::NEG_INFINITY];
        assert_eq!(top_k(&similarities, 10), [1, 0, 2, 4, 5, 6]);
        assert_eq!(top_k(&similarities, 2), [1, 0]);
        assert_eq!(top_k(&similarities, 4), [1, 0, 2, 4]);
        assert!(top_k(&similarities, 0).is_empty());
        assert!(top_k(&[], 3).is_empty());
    }

    #[test]
    fn figures_by_hand() {
        let mut retrieval = Retrieval::new(&[4, 1, 4, 0]);
        // Ranks 2 and 4 of three relevant ones, one of which is no document.
        retrieval.update(&[0.9, 0.8, 0.7, 0.6, 0.1], &set(&[1, 3, 99]));
        let report = retrieval.report();
        let [at_1, at_4] = report.at_k[..] else {
            panic!("{report:?}");
        };
        assert_eq!((at_1.k, at_1.accuracy, at_1.map), (1, 0.0, 0.0));
        assert_eq!((at_4.k, at_4.accuracy, at_4.precision), (4, 1.0, 0.5));
        assert_eq!((at_4.recall, at_4.mrr), (2.0 / 3.0, 0.5));
        assert_eq!(at_4.map, (1.0 / 2.0 + 2.0 / 4.0) / 3.0);
        let most = 1.0 + 1.0 / 3_f64.log2() + 0.5;
        assert_eq!(at_4.ndcg, (1.0 / 3_f64.log2() + 1.0 / 5_f64.log2()) / most);
    }

    #[test]
    fn no_queries_have_no_figures_and_nan_shows() {
        let mut retrieval = Retrieval::default();
        retrieval.update(&[0.5], &set(&[]));
        retrieval.update(&[], &set(&[]));
        let report = retrieval.report();
        assert_eq!((report.n, report.skipped, report.at_k.len()), (0, 2, 5));
        assert!(report.at_k[0].mrr.is_nan());
        assert!(serde_json::to_value(&report).unwrap()["at_k"][0]["mrr"].is_null());
        retrieval.update(&[], &set(&[0]));
        assert_eq!(retrieval.report().at_k[0].accuracy, 0.0);
        retrieval.update(&[0.5, f32::NAN], &set(&[0]));
        let report = retrieval.report();
        assert_eq!((report.n, report.nan), (2, 1));
        assert!(report.at_k.iter().all(|at| at.accuracy.is_nan()));
        assert_eq!(Retrieval::new(&[]).report().at_k, []);
    }

    #[test]
    fn merging_equals_seeing_everything() {
        let queries = [
            ([0.1, 0.2, 0.3], set(&[0])),
            ([0.3, 0.2, 0.1], set(&[0, 1])),
        ];
        let mut all = Retrieval::default();
        let mut parts = [Retrieval::default(), Retrieval::default()];
        for (part, (similarities, relevant)) in parts.iter_mut().zip(&queries) {
            part.update(similarities, relevant);
            all.update(similarities, relevant);
        }
        let [mut a, b] = parts;
        a.merge(&b).unwrap();
        assert_eq!(a.report(), all.report());
        let error = a.merge(&Retrieval::new(&[2])).unwrap_err();
        assert_eq!(
            error.to_string(),
            "expected to merge figures at the cut-offs [1, 3, 5, 10, 100], found [2]\n\
             hint: build both with the same cut-offs"
        );
    }
}
