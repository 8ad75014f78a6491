//! Real steps on a run's own examples, of which nothing is kept: what the run will cost, which learning rate it bears, which
//! batch fits into memory. Nothing is written.

use crate::{
    Error,
    inputs::{Draw, HostBatch, Inputs},
    recipe::Recipe,
};
use burn::module::AutodiffModule;
use rekindle_base::words::duration;
use rekindle_models::Model;
use rekindle_nn::TuneAutodiff;
use rekindle_train::{Every, Job, Optimizer, Shards, Stepped, TrainConfig, step};
use serde::Serialize;
use std::{
    fmt,
    sync::Arc,
    time::{Duration, Instant},
};

/// Steps that are timed, after one that is not: the first one asks the system for its memory.
const TIMED: usize = 3;
/// Examples that an evaluation is timed on.
const EVALUATED: usize = 64;

/// A model that is tried out.
pub(crate) struct Trial<'a, B: TuneAutodiff> {
    job: &'a Recipe<B>,
    config: &'a TrainConfig,
    optimizer: Optimizer<B>,
    model: Model<B>,
    passes: u64,
}

impl<'a, B: TuneAutodiff> Trial<'a, B> {
    pub(crate) fn new(job: &'a Recipe<B>, config: &'a TrainConfig, model: Model<B>) -> Self {
        Self {
            job,
            config,
            optimizer: Optimizer::new(config.optimizer),
            model: job.at_epoch(model, 0),
            passes: 0,
        }
    }

    /// One step on these micro-batches.
    pub(crate) fn step(
        mut self,
        window: &[(HostBatch, Draw)],
        rate: f64,
    ) -> Result<(Self, Stepped), Error> {
        let (config, passes) = (self.config, self.passes);
        let optimizer = &mut self.optimizer;
        let (model, stepped) = step(
            self.job, self.model, window, config, optimizer, rate, passes,
        )?;
        (self.model, self.passes) = (model, passes + window.len() as u64);
        Ok((self, stepped))
    }

    /// The windows of micro-batches of one epoch after the other.
    pub(crate) fn windows(
        &self,
    ) -> impl Iterator<Item = Result<Vec<(HostBatch, Draw)>, Error>> + use<'a, B> {
        let job = self.job;
        let size = self.config.gradient_accumulation_steps.max(1);
        let mut batches =
            (0..).flat_map(move |epoch| match job.stream(epoch, 0, &Shards::whole()) {
                Ok(batches) => batches,
                Err(error) => Box::new(std::iter::once(Err(error))),
            });
        std::iter::from_fn(move || {
            let window: Result<Vec<_>, _> = batches.by_ref().take(size).collect();
            Some(window.map_err(Error::from))
        })
    }
}

/// What a run will take, measured on a few steps of it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Cost {
    /// Seconds from the first step to the end of the last evaluation.
    pub seconds: f64,
    /// Of those, a step's.
    pub seconds_per_step: f64,
    /// Peak memory so far in bytes, where the system tells.
    pub peak_memory: Option<u64>,
}

impl Cost {
    /// With what it takes to save a model of so many parameters of four bytes, as it is and as a file.
    pub(crate) fn with_saved(mut self, parameters: u64) -> Self {
        /// Of the program itself.
        const BASE: u64 = 120_000_000;
        self.peak_memory = self.peak_memory.map(|peak| peak.max(BASE + 8 * parameters));
        self
    }

    /// Tries the first steps of a run, and a part of an evaluation.
    pub(crate) fn measure<B: TuneAutodiff>(
        job: &Recipe<B>,
        config: &TrainConfig,
        model: Model<B>,
        train: &Arc<dyn Inputs>,
        evaluations: &Evaluations<'_>,
    ) -> Result<Self, Error> {
        let steps = config.total_steps(job.batches(0));
        let mut trial = Trial::new(job, config, model);
        let (mut spent, mut sizes, mut again) = (Duration::ZERO, 0, Duration::ZERO);
        let lengths = train.lengths();
        let size = |example: usize| {
            lengths
                .as_ref()
                .map_or(1, |lengths| u64::from(lengths[example]))
        };
        for (i, window) in trial.windows().take(TIMED + 1).enumerate() {
            let window = window?;
            let clock = Instant::now();
            (trial, _) = trial.step(&window, 0.0)?;
            if i > 0 {
                spent += clock.elapsed();
                if job.keeps_features() {
                    let clock = Instant::now();
                    (trial, _) = trial.step(&window, 0.0)?;
                    again += clock.elapsed();
                }
                let examples = window.iter().flat_map(|(batch, _)| &batch.examples);
                sizes += examples.map(|&example| size(example)).sum::<u64>();
            }
        }
        // Batches are of unequal lengths: time goes by what is in them.
        let all: u64 = (0..train.len()).map(size).sum();
        let steps_an_epoch = config.steps_an_epoch(job.batches(0));
        let a_step = all as f64 / steps_an_epoch;
        let per_step = |spent: Duration| spent.as_secs_f64() / (sizes.max(1)) as f64 * a_step;
        let seconds_per_step = per_step(spent);
        let mut seconds = seconds_per_step * steps as f64;
        if job.keeps_features() {
            // What a frozen beginning makes of an example is computed once.
            let first = steps_an_epoch.min(steps as f64);
            seconds = seconds_per_step * first + per_step(again) * (steps as f64 - first);
        }
        let model = trial.model.valid();
        for (set, times) in evaluations.of_steps(steps, steps_an_epoch) {
            let clock = Instant::now();
            let seen = job.try_evaluation(&model, set, EVALUATED)?;
            // Where features are kept, it is the first time that takes long.
            let times = if job.keeps_evaluated() { 1 } else { times };
            seconds +=
                clock.elapsed().as_secs_f64() / seen.max(1) as f64 * (set.len() * times) as f64;
        }
        Ok(Self {
            seconds,
            seconds_per_step,
            peak_memory: crate::memory::peak(),
        })
    }
}

/// The sets that a run evaluates on, and when.
pub(crate) struct Evaluations<'a> {
    pub validation: Option<&'a Arc<dyn Inputs>>,
    pub test: Option<&'a Arc<dyn Inputs>>,
    pub every: Every,
}

impl<'a> Evaluations<'a> {
    /// Each set with how often a run of so many steps evaluates it.
    fn of_steps(
        &self,
        steps: u64,
        steps_an_epoch: f64,
    ) -> impl Iterator<Item = (&'a Arc<dyn Inputs>, usize)> + use<'a> {
        let times = match self.every {
            Every::Never => 0,
            Every::Epoch => (steps as f64 / steps_an_epoch).ceil() as usize,
            Every::Steps(every) => steps.div_ceil(every.max(1)) as usize,
        };
        let sets = [(self.validation, times), (self.test, 1)];
        sets.into_iter()
            .filter_map(|(set, times)| Some((set?, times)))
    }
}

impl fmt::Display for Cost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "about {}", duration(self.seconds))?;
        write!(
            f,
            " ({} a step, measured in {TIMED})",
            duration(self.seconds_per_step)
        )
    }
}
