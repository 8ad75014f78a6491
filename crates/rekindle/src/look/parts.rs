//! The examples of a configuration, read and split as its run does.

use super::From;
use super::findings::{Finding, TRAIN};
use crate::{
    Error, Observer, RunConfig,
    config::OnBadExample,
    examples::{Source, read_splits, read_train},
};
use rekindle_data::TargetEncoder;
use rekindle_hub::Progress;

/// The parts that there are, the training examples first.
pub(super) struct Parts<S> {
    pub sets: Vec<(&'static str, S)>,
    /// Labels as targets; `None` where a run would refuse the examples.
    pub encoder: Option<TargetEncoder>,
    pub notes: Vec<String>,
    /// Why a run would refuse the examples.
    pub refused: Vec<Finding>,
}

/// An observer that hears of downloads alone: notes stand in what is shown.
struct Downloads<'a>(&'a dyn Observer);

impl Observer for Downloads<'_> {
    fn detail(&self, line: &str) {
        self.0.detail(line);
    }

    fn downloads(&self) -> &dyn Progress {
        self.0.downloads()
    }
}

/// Reads and splits the examples. Where a run would refuse them, those that can be read are the training examples.
///
/// # Errors
/// When nothing can be read: what a run would say.
pub(super) fn parts<S: Source>(from: &From<'_>) -> Result<Parts<S>, Error> {
    let observer = Downloads(from.observer);
    let read = |config: &RunConfig| -> Result<Parts<S>, Error> {
        let splits = read_splits::<S>(config, from.hub, &observer)?;
        let others = [("validation", splits.validation), ("test", splits.test)];
        let others = others
            .into_iter()
            .filter_map(|(part, set)| Some((part, set?)));
        Ok(Parts {
            sets: std::iter::once((TRAIN, splits.train))
                .chain(others)
                .collect(),
            encoder: Some(splits.encoder),
            notes: splits.notes,
            refused: Vec::new(),
        })
    };
    let error = match read(from.config) {
        Ok(parts) => return Ok(parts),
        Err(error) => error,
    };
    let refused = vec![refused(&error)];
    let mut lenient: RunConfig = from.config.clone();
    lenient.data.on_bad_example = OnBadExample::Skip;
    if let Ok(parts) = read(&lenient) {
        return Ok(Parts { refused, ..parts });
    }
    match read_train::<S>(&lenient, from.hub, &observer) {
        Ok(read) if read.set.count() > 0 => Ok(Parts {
            sets: vec![(TRAIN, read.set)],
            encoder: None,
            notes: read.notes,
            refused,
        }),
        _ => Err(error),
    }
}

/// Why a run would stop before it begins.
pub(super) fn refused(error: &dyn std::fmt::Display) -> Finding {
    Finding {
        kind: "refused",
        warning: true,
        said: format!("a run stops at these examples as they are: {error}"),
        count: 1,
        found: Vec::new(),
        more: 0,
        hint: "",
    }
}
