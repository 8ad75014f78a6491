//! Where a run stands, and whether that can be.

use crate::TrainConfig;
use serde::{Deserialize, Serialize};

/// Where a run stands; with the trainable parameters and the optimizer's moments, all there is to it.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct TrainState {
    /// Optimizer steps done.
    pub step: u64,
    /// Forward passes done, which number the dropout masks.
    pub passes: u64,
    /// The current epoch, from 0.
    pub epoch: u64,
    /// Micro-batches of it done.
    pub batch: usize,
    /// Steps in all, as planned at the start.
    pub total_steps: u64,
    /// The best evaluation so far whose model is there: in a checkpoint, or in memory if it is of this step.
    pub best: Option<Best>,
    /// A better evaluation than `best`, whose checkpoint could not be written or is gone.
    pub lost: Option<Best>,
    /// Evaluations in a row without improvement.
    pub without_improvement: u32,
    /// The step of the newest evaluation.
    pub evaluated_at: Option<u64>,
    /// What must be the same for the run to go on: a digest of configuration, data and model.
    pub fingerprint: String,
}

/// An evaluation that is or was the best.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Best {
    /// After this step.
    pub step: u64,
    /// The figure that says what is best; finite.
    pub value: f64,
    /// The validation loss, if the evaluation has a finite one.
    pub loss: Option<f64>,
}

impl Best {
    /// Whether this evaluation goes before another: by value, then by lower loss, then as the later one.
    pub(crate) fn beats(&self, other: &Self, higher_is_better: bool) -> bool {
        let sign = if higher_is_better { 1.0 } else { -1.0 };
        let rank = |best: &Self| {
            let loss = best.loss.unwrap_or(f64::INFINITY);
            // Adding 0 makes one zero of two.
            [sign * best.value + 0.0, -loss + 0.0]
        };
        let (own, others) = (rank(self), rank(other));
        own[0]
            .total_cmp(&others[0])
            .then(own[1].total_cmp(&others[1]))
            .then(self.step.cmp(&other.step))
            .is_gt()
    }
}

impl TrainState {
    /// The epoch of the last step; after an epoch's last micro-batch, `epoch` is the next one already.
    pub(crate) fn epoch_of_last_step(&self) -> u64 {
        match self.batch {
            0 => self.epoch.saturating_sub(1),
            _ => self.epoch,
        }
    }

    /// Holds every field against the run; `batches` is the number of micro-batches in an epoch.
    ///
    /// # Errors
    /// The first field that cannot be, with what was expected.
    pub(crate) fn check(
        &self,
        config: &TrainConfig,
        batches: impl Fn(u64) -> usize,
    ) -> Result<(), String> {
        let total = config.total_steps(batches(0));
        let equal = |name: &str, found: u64, expected: u64| match found == expected {
            true => Ok(()),
            false => Err(format!("`{name}` is {found}, expected {expected}")),
        };
        let at_most = |name: &str, found: u64, limit: u64, what: &str| match found <= limit {
            true => Ok(()),
            false => Err(format!(
                "`{name}` is {found}, expected at most {limit}, {what}"
            )),
        };
        equal("total_steps", self.total_steps, total)?;
        at_most("step", self.step, total, "the steps of the run")?;
        let place = place_after(self.step, batches, config.gradient_accumulation_steps);
        equal("epoch", self.epoch, place.epoch)?;
        equal("batch", self.batch as u64, place.batch as u64)?;
        equal("passes", self.passes, place.passes)?;
        let evaluated = self.evaluated_at.unwrap_or(0);
        at_most("evaluated_at", evaluated, self.step, "the steps done")?;
        for (name, best) in [("best", self.best), ("lost", self.lost)] {
            let Some(best) = best else { continue };
            let limit = "the step of the newest evaluation";
            at_most(&format!("{name}.step"), best.step, evaluated, limit)?;
            if best.step == 0 || !best.value.is_finite() {
                return Err(format!("`{name}` is {best:?}, expected an evaluation"));
            }
        }
        let bad = u64::from(self.without_improvement);
        at_most("without_improvement", bad, evaluated, "the evaluations")
    }
}

/// A place in the order of micro-batches.
#[derive(Debug, PartialEq)]
struct Place {
    epoch: u64,
    batch: usize,
    passes: u64,
}

/// Where so many steps lead, for epochs of `batches` micro-batches and steps of `accumulation` of them.
fn place_after(step: u64, batches: impl Fn(u64) -> usize, accumulation: usize) -> Place {
    let accumulation = accumulation.max(1);
    let (mut epoch, mut steps_left, mut passes) = (0, step, 0);
    loop {
        let in_epoch = batches(epoch);
        let steps = in_epoch.div_ceil(accumulation) as u64;
        // An epoch without batches is refused when the loop comes to it.
        if steps_left < steps || steps == 0 {
            let batch = steps_left as usize * accumulation;
            return Place {
                epoch,
                batch,
                passes: passes + batch as u64,
            };
        }
        steps_left -= steps;
        passes += in_epoch as u64;
        epoch += 1;
    }
}
