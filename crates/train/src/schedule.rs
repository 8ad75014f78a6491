//! Learning-rate schedules, as transformers defines them (`get_linear_schedule_with_warmup` and its siblings).

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

/// How long the rate rises from 0.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Warmup {
    /// A share of all steps in [0, 1], rounded up.
    Ratio(f64),
    /// A number of steps.
    Steps(u64),
}

impl Warmup {
    /// In steps.
    #[must_use]
    pub fn steps(self, total: u64) -> u64 {
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
            return done as f64 / warmup.max(1) as f64;
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
    use super::Schedule;

    #[test]
    fn factors_are_those_of_transformers() {
        // get_{linear,cosine,constant}_schedule_with_warmup(num_warmup_steps = 2, num_training_steps = 10)
        for (schedule, expected) in [
            (Schedule::Linear, [0.0, 0.5, 1.0, 0.875, 0.5, 0.125]),
            (
                Schedule::Cosine,
                [0.0, 0.5, 1.0, 0.961_939_766, 0.5, 0.038_060_233],
            ),
            (Schedule::Constant, [0.0, 0.5, 1.0, 1.0, 1.0, 1.0]),
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
}
