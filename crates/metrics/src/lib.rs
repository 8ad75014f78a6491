//! Streaming metrics that equal scikit-learn's, with no tensors kept; and of answers in words, `rouge_score`'s and sacrebleu's;
//! of entities, seqeval's; of extracted answers, SQuAD's; of search and pairs, sentence-transformers'.
//!
//! Every accumulator adds integers or masked sums and divides once, when it is asked for its figures. Some keep numbers:
//! [`Regression`] for ranks; [`MultiLabel`], [`PairClassification`] and [`ExtractiveAnswers`] for thresholds that are chosen
//! afterwards. So a batch split in two gives the
//! same metric, and two accumulators that saw different shards merge into the one that saw everything. An update is all
//! or nothing: one that returns an error has changed nothing.
//!
//! [`rekindle_train`](../rekindle_train/index.html) asks for figures during training, [`rekindle`](../rekindle/index.html) at its end.
//!
//! ```
//! use rekindle_metrics::Classification;
//!
//! let mut metrics = Classification::new(3);
//! metrics.update(&[0, 2, 1], &[0, 1, 1], 1.5, 3)?; // predicted, target, summed loss, examples
//! metrics.update(&[2], &[2], 0.5, 1)?;
//! let report = metrics.report();
//! assert_eq!(report.accuracy, 0.75);
//! assert_eq!(report.loss, 0.5);
//! # Ok::<(), rekindle_metrics::MetricsError>(())
//! ```

mod answers;
mod calibration;
mod classification;
mod confusion;
mod counts;
mod entities;
mod error;
mod extractive;
mod interval;
mod mean;
mod multi_label;
pub mod nan_as_null;
mod pairs;
mod ranking;
mod regression;
mod retrieval;

pub use answers::{
    Answers, AnswersReport, Bleu, JsonAnswers, JsonReport, PerField, exact_match, normalized_match,
    rouge_l,
};
pub use calibration::{Calibration, CalibrationBin, CalibrationReport};
pub use classification::{Classification, ClassificationReport, PerClass};
pub use confusion::ConfusionMatrix;
pub use entities::{Entities, EntityReport, EntitySpan, PerEntityLabel, TagScheme, entity_spans};
pub use error::MetricsError;
pub use extractive::{
    BestThresholds, ExtractiveAnswers, ExtractiveReport, ExtractiveScore, ExtractiveShare,
    SquadVersion, extractive_score,
};
pub use interval::wilson_95;
pub use mean::Mean;
pub use multi_label::{MultiLabel, MultiLabelReport, PerLabel};
pub use pairs::{PairClassification, PairReport};
pub use regression::{Regression, RegressionFigures, RegressionReport};
pub use retrieval::{Retrieval, RetrievalAt, RetrievalReport, top_k};
