//! A run that is made longer than it was meant to be: other epochs or steps, everything else as it was.

use crate::{Error, RunConfig, config::Override};
use std::path::Path;

/// What may be another when a run is resumed.
const CHANGEABLE: [&str; 2] = ["train.epochs", "train.max_steps"];

/// Where a run before it was made longer keeps its settings.
pub(crate) const BEFORE: &str = "config.before.toml";

/// Stands in a run from when it is made longer until it ends: its results and its report are those of the shorter run until then.
pub(crate) const ONGOING: &str = ".longer";

/// What is said of a run that was made longer.
pub(crate) struct Longer {
    /// The settings before.
    pub was: RunConfig,
    /// The steps that it had before.
    pub steps: u64,
    /// Those that were done.
    pub done: u64,
}

impl Longer {
    /// What the log and the report say; `total` are the steps it has now.
    pub(crate) fn words(&self, total: u64) -> String {
        format!(
            "this run was planned with {} steps and then given {total}: up to step {} the learning rate followed the schedule of {}, from there on that of {total}",
            self.steps, self.done, self.steps
        )
    }
}

/// The settings of a run that is resumed with another length.
///
/// # Errors
/// For any other setting, and for a value that is none.
pub(crate) fn changed(was: &RunConfig, longer: &[Override]) -> Result<RunConfig, Error> {
    let wanted = RunConfig::load(None, longer)?;
    let given = |key: &str| longer.iter().any(|one| one.key() == key);
    if let Some(other) = longer.iter().find(|one| !CHANGEABLE.contains(&one.key())) {
        return Err(Error::Setting {
            reason: format!(
                "`{}` cannot be changed in a run that is resumed",
                other.key()
            ),
            hint: format!(
                "only its length can, by {}; other settings are for a new run",
                CHANGEABLE.join(" and ")
            ),
        });
    }
    let mut config = was.clone();
    if given("train.epochs") {
        config.train.epochs = wanted.train.epochs;
        // Steps go before epochs, so that these would say nothing.
        config.train.max_steps = None;
    }
    if given("train.max_steps") {
        config.train.max_steps = wanted.train.max_steps;
    }
    config.validate()?;
    Ok(config)
}

/// What the run may have been before: as its run file says, if that is to change now, and as it was before it was made longer the
/// last time, of which no checkpoint may be left.
///
/// # Errors
/// For settings that cannot be read.
pub(crate) fn before(dir: &Path, was: RunConfig, now: &RunConfig) -> Result<Vec<RunConfig>, Error> {
    let path = dir.join(BEFORE);
    let earlier = match path.is_file() {
        true => Some(RunConfig::load(Some(&path), &[])?),
        false => None,
    };
    let changed = (was != *now).then_some(was);
    Ok(changed.into_iter().chain(earlier).collect())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn only_the_length_changes() {
        let was = RunConfig::default();
        let set = |text: &str| changed(&was, &[Override::set(text)]);
        let longer = set("train.epochs=7").unwrap();
        assert_eq!(longer.train.epochs, Some(7.0));
        assert_eq!(
            RunConfig {
                train: was.train.clone(),
                ..longer
            },
            was
        );
        let refused = set("train.batch_size=7").unwrap_err().to_string();
        assert!(
            refused.contains("`train.batch_size` cannot be changed"),
            "{refused}"
        );
        assert!(set("train.epochs=0").is_err());

        let mut by_steps = was.clone();
        by_steps.train.max_steps = Some(10);
        let longer = changed(&by_steps, &[Override::set("train.epochs=2")]).unwrap();
        assert_eq!(longer.train.max_steps, None);
    }
}
