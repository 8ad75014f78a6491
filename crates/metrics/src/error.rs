//! What can go wrong when figures are added up.

use thiserror::Error;

/// An update or a merge that does not fit the accumulator. The accumulator is as it was before the call.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum MetricsError {
    /// The two slices of one update differ in length.
    #[error(
        "expected one prediction per target, found {predicted} predictions for {target} targets\n\
         hint: leave masked positions out of both slices"
    )]
    LengthMismatch {
        /// Number of predictions given.
        predicted: usize,
        /// Number of targets given.
        target: usize,
    },
    /// A class id is not below the number of classes.
    #[error(
        "expected {role} class ids below {expected}, found {found} at position {index}\n\
         hint: build the metric with as many classes as the model's head has outputs; leave ignored labels \
         (such as -100) out of the update"
    )]
    ClassOutOfRange {
        /// `predicted` or `target`.
        role: &'static str,
        /// Position in the slice, from 0.
        index: usize,
        /// The number of classes of this metric.
        expected: usize,
        /// The class id that was given.
        found: u32,
    },
    /// Two accumulators over different label sets were merged.
    #[error(
        "expected to merge a metric over {expected} classes, found one over {found}\n\
         hint: merge only accumulators made for the same label set"
    )]
    ClassCountMismatch {
        /// Classes of the accumulator merged into.
        expected: usize,
        /// Classes of the other accumulator.
        found: usize,
    },
    /// A row of numbers has another number of columns than the accumulator.
    #[error(
        "expected {expected} {what}, found {found}\n\
         hint: build the metric with as many columns as the model's head has outputs"
    )]
    WidthMismatch {
        /// What was counted, such as `predictions` or `thresholds`.
        what: &'static str,
        /// Columns of the accumulator.
        expected: usize,
        /// Columns given.
        found: usize,
    },
    /// A tag of an entity that its scheme does not have.
    #[error(
        "expected tags of the scheme {scheme}, which begin with one of {expected}, found `{found}` at position {index}\n\
         hint: write a tag as its prefix, a dash and the label, such as `B-person`; or choose the scheme in which the \
         tags are written"
    )]
    UnknownTag {
        /// The name of the scheme.
        scheme: &'static str,
        /// Its prefixes.
        expected: &'static str,
        /// Position in the sequence, from 0.
        index: usize,
        /// The tag that was given.
        found: String,
    },
    /// Two accumulators with other cut-offs `k` were merged.
    #[error(
        "expected to merge figures at the cut-offs {expected:?}, found {found:?}\n\
         hint: build both with the same cut-offs"
    )]
    CutoffMismatch {
        /// Cut-offs of the accumulator merged into.
        expected: Vec<usize>,
        /// Cut-offs of the other accumulator.
        found: Vec<usize>,
    },
}

impl MetricsError {
    /// [`MetricsError::WidthMismatch`] unless the numbers are equal.
    pub(crate) fn check_width(
        what: &'static str,
        expected: usize,
        found: usize,
    ) -> Result<(), Self> {
        if expected == found {
            return Ok(());
        }
        Err(Self::WidthMismatch {
            what,
            expected,
            found,
        })
    }
}
