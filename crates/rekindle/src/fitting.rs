//! The batch finder: the largest batch whose step stays within a memory budget, measured on the longest examples.

use crate::{
    Error, Observer, RunConfig,
    backend::{OnBackend, chosen, on_device},
    config::Device,
    finetune::{open, train_config},
    inputs::Draw,
    memory,
    plan::free_memory,
    trial::Trial,
};
use burn::tensor::backend::BackendTypes;
use rekindle_nn::TuneAutodiff;
use rekindle_train::Collective;
use serde::Serialize;

/// Share of the budget that is aimed at.
const AIM: f64 = 0.95;
/// Share of the free memory that is the budget where nobody names one.
const OF_FREE: f64 = 0.9;

/// What a batch took.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct BatchPoint {
    /// Examples in it.
    pub batch_size: usize,
    /// Peak memory of the process in its step, in bytes.
    pub bytes: u64,
}

/// What a batch finder saw.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct BatchFound {
    /// The largest batch that fits; 0 where one example is too much.
    pub batch_size: usize,
    /// Whether no larger batch was tried for want of examples.
    pub all_examples: bool,
    /// The budget in bytes.
    pub budget: u64,
    /// What was tried.
    pub tried: Vec<BatchPoint>,
    /// The batch that the run would take.
    pub configured: usize,
}

/// Finds the largest batch whose training step takes at most `budget` bytes, or nine tenths of what is free, on a CPU. Nothing
/// is written.
///
/// # Errors
/// As [`finetune`](crate::finetune()); [`Error::Setting`] on a device or system that does not tell its memory.
pub fn find_batch(
    config: &RunConfig,
    budget: Option<u64>,
    observer: &dyn Observer,
) -> Result<BatchFound, Error> {
    let unknown = |reason: &str| {
        Error::Setting {
        reason: reason.to_owned(),
        hint: "halve train.batch_size until the run fits, and double train.gradient_accumulation_steps".into(),
    }
    };
    if chosen(config.device) != Device::Cpu {
        return Err(unknown("the memory of a step is measured on a CPU only"));
    }
    if !memory::forget_peak() || memory::peak().is_none() {
        return Err(unknown(
            "this system does not tell the peak memory of a process",
        ));
    }
    let free = free_memory().map(|free| (OF_FREE * free as f64) as u64);
    let budget = budget
        .or(free)
        .ok_or_else(|| unknown("this system does not tell how much memory is free"))?;
    config.validate()?;
    let config = &config.resolved();
    let finder = Finder {
        config,
        budget,
        observer,
    };
    on_device(config.device, finder)
}

struct Finder<'a> {
    config: &'a RunConfig,
    budget: u64,
    observer: &'a dyn Observer,
}

impl OnBackend for Finder<'_> {
    type Output = BatchFound;

    fn run<B: TuneAutodiff>(
        self,
        device: &<B as BackendTypes>::Device,
    ) -> Result<BatchFound, Error> {
        let (opened, model) = open::<B>(self.config, self.observer, &Collective::alone(), device)?;
        let train = &opened.prepared.train;
        let config = train_config(self.config, &opened.prepared, "");
        let mut trial = Trial::new(&opened.recipe, &config, model);
        let mut longest: Vec<usize> = (0..train.len()).collect();
        if let Some(lengths) = train.lengths() {
            longest.sort_by_key(|&example| std::cmp::Reverse(lengths[example]));
        }
        let mut tried: Vec<BatchPoint> = Vec::new();
        let mut next = Some(1);
        while let Some(batch_size) = next.filter(|_| !self.observer.stop()) {
            memory::forget_peak();
            // The second step has the moments of the first.
            for batch in 0..2 {
                let draw = Draw {
                    view: 0,
                    epoch: 0,
                    batch,
                };
                let examples = train.batch(&longest[..batch_size], Some(draw))?;
                (trial, _) = trial.step(&[(examples, draw)], 0.0)?;
            }
            let bytes = memory::peak().unwrap_or(u64::MAX);
            self.observer.note(&format!(
                "batch of {batch_size}: {:.0} MB",
                bytes as f64 / 1e6
            ));
            tried.push(BatchPoint { batch_size, bytes });
            next = following(&tried, self.budget, train.len());
        }
        Ok(BatchFound {
            batch_size: fitting(&tried, self.budget),
            all_examples: tried
                .last()
                .is_some_and(|last| last.batch_size == train.len()),
            budget: self.budget,
            tried,
            configured: self.config.train.batch_size,
        })
    }
}

/// The largest batch that was tried and fits.
fn fitting(tried: &[BatchPoint], budget: u64) -> usize {
    let fits = tried.iter().filter(|point| point.bytes <= budget);
    fits.map(|point| point.batch_size).max().unwrap_or(0)
}

/// The batch to try next: twice the last, or what the last two promise to fit; `None` where no larger one does. Memory that was
/// asked for stays with the process, so that sizes only rise.
fn following(tried: &[BatchPoint], budget: u64, most: usize) -> Option<usize> {
    let last = tried.last()?;
    let aim = AIM * budget as f64;
    if last.bytes as f64 > aim {
        return None;
    }
    let doubled = 2 * last.batch_size;
    let promised = match tried {
        [.., before, last] => {
            let each = last.bytes.saturating_sub(before.bytes) as f64
                / (last.batch_size - before.batch_size) as f64;
            let room = (aim - last.bytes as f64) / each.max(1.0);
            last.batch_size.saturating_add(room as usize)
        }
        _ => doubled,
    };
    let next = doubled.min(promised).min(most);
    (next > last.batch_size).then_some(next)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The search in a world where a batch takes a linear amount of memory.
    fn search(base: u64, each: u64, budget: u64, most: usize) -> (usize, Vec<usize>) {
        let mut tried = Vec::new();
        let mut next = Some(1);
        while let Some(batch_size) = next {
            let bytes = base + each * batch_size as u64;
            tried.push(BatchPoint { batch_size, bytes });
            next = following(&tried, budget, most);
        }
        let sizes = tried.iter().map(|point| point.batch_size).collect();
        (fitting(&tried, budget), sizes)
    }

    #[test]
    fn the_largest_batch_that_fits_is_found_without_going_over() {
        for (base, each, budget) in [(100, 10, 1000), (500, 7, 4000), (1, 1, 1 << 20)] {
            let (found, tried) = search(base, each, budget, usize::MAX);
            let largest = (budget - base) / each;
            assert!(
                found as u64 <= largest && found as f64 >= 0.9 * largest as f64,
                "{found} of {largest}: {tried:?}"
            );
            assert_eq!(tried.last(), Some(&found), "went over the budget");
        }
    }

    #[test]
    fn no_more_than_there_are_and_none_where_one_is_too_much() {
        assert_eq!(search(100, 1, 1_000_000, 50).0, 50);
        assert_eq!(search(100, 10, 50, 50), (0, vec![1]));
    }
}
