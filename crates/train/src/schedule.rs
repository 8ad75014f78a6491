//! Learning-rate schedules: as transformers defines them (`get_linear_schedule_with_warmup` and its siblings), but for the
//! warmup, whose first step has a rate above 0, and which is never longer than half the run.

use serde::{Deserialize, Serialize};

/// What the rate does after the warmup.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Schedule {
    /// Falls in a line to 0 at the last step.
    Linear,
    /// Falls along half a cosine to 0 at the last step.
    Cosine,
    /// Stays.
    Constant,
}

/// How long the rate rises.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Warmup {
    /// A share of all steps in [0, 1], rounded up.
    Ratio(f64),
    /// A number of steps.
    Steps(u64),
}

impl Warmup {
    /// In steps, of which at most half the run are.
    #[must_use]
    pub fn steps(self, total: u64) -> u64 {
        self.wanted(total).min(total / 2)
    }

    /// In steps, as they are asked for.
    #[must_use]
    pub fn wanted(self, total: u64) -> u64 {
        match self {
            Self::Ratio(ratio) => (ratio * total as f64).ceil() as u64,
            Self::Steps(steps) => steps,
        }
    }
}

impl Schedule {
    /// The factor on the learning rate for the step that follows `done` finished ones, of `total`.
    #[must_use]
    pub fn factor(self, done: u64, warmup: u64, total: u64) -> f64 {
        if done < warmup {
            return (done + 1) as f64 / (warmup + 1) as f64;
        }
        let progress = (done - warmup) as f64 / total.saturating_sub(warmup).max(1) as f64;
        match self {
            Self::Linear => (1.0 - progress).max(0.0),
            Self::Cosine => {
                (0.5 * (1.0 + (std::f64::consts::PI * progress.min(1.0)).cos())).max(0.0)
            }
            Self::Constant => 1.0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Schedule, Warmup};

    #[test]
    fn factors_after_the_warmup_are_those_of_transformers() {
        // get_{linear,cosine,constant}_schedule_with_warmup(num_warmup_steps = 2, num_training_steps = 10), whose first two
        // factors are 0 and 1/2.
        let (first, second) = (1.0 / 3.0, 2.0 / 3.0);
        for (schedule, expected) in [
            (Schedule::Linear, [first, second, 1.0, 0.875, 0.5, 0.125]),
            (
                Schedule::Cosine,
                [first, second, 1.0, 0.961_939_766, 0.5, 0.038_060_233],
            ),
            (Schedule::Constant, [first, second, 1.0, 1.0, 1.0, 1.0]),
        ] {
            for (step, expected) in [0, 1, 2, 3, 6, 9].into_iter().zip(expected) {
                let factor = schedule.factor(step, 2, 10);
                assert!(
                    (factor - expected).abs() < 1e-8,
                    "{schedule:?} at {step}: {factor}"
                );
            }
        }
    }

    #[test]
    fn a_share_is_rounded_up_as_transformers_does() {
        let steps = |total| Warmup::Ratio(0.06).steps(total);
        assert_eq!((steps(250), steps(251)), (15, 16));
    }

    #[test]
    fn a_warmup_never_spans_the_run_and_every_step_of_it_moves() {
        for warmup in [Warmup::Ratio(0.06), Warmup::Ratio(1.0), Warmup::Steps(100)] {
            for total in 1..50 {
                let steps = warmup.steps(total);
                assert!(2 * steps <= total, "{warmup:?} of {total}: {steps}");
                let factors: Vec<f64> = (0..total)
                    .map(|done| Schedule::Linear.factor(done, steps, total))
                    .collect();
                assert!(factors.iter().all(|&factor| factor > 0.0), "{factors:?}");
                assert!(factors.contains(&1.0), "{factors:?}");
            }
        }
    }
}
