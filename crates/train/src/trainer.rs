//! The loop.

use crate::{
    Average, Checkpoint, Event, Gradients, Job, Optimizer, OptimizerConfig, RunDir, Schedule, Sink,
    TrainError, TrainState, Warmup, optimizer::scalar,
};
use burn::module::AutodiffModule;
use rekindle_nn::{Pass, TuneAutodiff};
use std::time::Instant;

/// When to evaluate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Every {
    /// After each epoch, and at the end.
    Epoch,
    /// After so many steps, and at the end.
    Steps(u64),
    /// Never.
    Never,
}

/// Which figure says what is best.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BestMetric {
    /// Its name in [`crate::Evaluation`].
    pub name: String,
    /// Whether more is better.
    pub higher_is_better: bool,
}

/// When to give up.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct EarlyStopping {
    /// Evaluations without improvement.
    pub patience: u32,
    /// What counts as improvement.
    pub min_delta: f64,
}

/// Settings of the loop.
#[derive(Debug, Clone)]
pub struct TrainConfig {
    /// Epochs, also in part (0.5).
    pub epochs: f64,
    /// Exactly so many optimizer steps, whatever `epochs` says.
    pub max_steps: Option<u64>,
    /// Micro-batches a step.
    pub gradient_accumulation_steps: usize,
    /// The peak rate.
    pub learning_rate: f64,
    /// What it does over time.
    pub schedule: Schedule,
    /// How it starts.
    pub warmup: Warmup,
    /// AdamW's settings.
    pub optimizer: OptimizerConfig,
    /// Clip the global norm to this; 0: never.
    pub max_grad_norm: f64,
    /// Seed of dropout.
    pub seed: u64,
    /// When to evaluate.
    pub evaluate: Every,
    /// Write a checkpoint after so many steps too, besides those with an evaluation.
    pub checkpoint_every: Option<u64>,
    /// Newest checkpoints to keep, besides the best.
    pub keep: usize,
    /// What is best.
    pub best: BestMetric,
    /// When to give up.
    pub early_stopping: Option<EarlyStopping>,
    /// Decay of the average of the weights, which then is what is evaluated.
    pub average_decay: Option<f64>,
    /// See [`TrainState::fingerprint`].
    pub fingerprint: String,
}

impl TrainConfig {
    /// Optimizer steps in all, for epochs of so many micro-batches.
    #[must_use]
    pub fn total_steps(&self, batches: usize) -> u64 {
        let per_epoch = batches.div_ceil(self.gradient_accumulation_steps.max(1)) as f64;
        self.max_steps
            .unwrap_or((self.epochs * per_epoch).ceil() as u64)
            .max(1)
    }
}

/// Why the loop ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stopped {
    /// All steps are done.
    Finished,
    /// No improvement for long enough.
    Early,
    /// It was asked to stop; a checkpoint was written.
    Interrupted,
}

/// What the loop leaves.
pub struct Outcome<B: TuneAutodiff, M> {
    /// The model after the last step (the best one is in `best`).
    pub model: M,
    /// The average of its weights, where one was kept.
    pub average: Option<Average<B>>,
    /// Where it ended.
    pub state: TrainState,
    /// Why.
    pub stopped: Stopped,
}

/// Trains `job` from `model`, or from `resume` on. `stop` is asked after every step.
///
/// # Errors
/// A loss or gradient that is not finite, a failed evaluation, a checkpoint that cannot be read. A checkpoint that cannot
/// be written is a warning while training goes on, and an error only at an interrupt, when it would lose the run.
#[allow(clippy::too_many_arguments)] // each is one thing the loop needs; a struct of them would have no meaning
pub fn train<B: TuneAutodiff, J: Job<B>>(
    job: &J,
    mut model: J::Model,
    config: &TrainConfig,
    run: &RunDir,
    resume: Option<&Checkpoint>,
    sink: &mut dyn Sink,
    stop: &dyn Fn() -> bool,
    device: &B::Device,
) -> Result<Outcome<B, J::Model>, TrainError> {
    let mut optimizer = Optimizer::<B>::new(config.optimizer);
    let mut state = TrainState {
        total_steps: config.total_steps(job.batches(0)),
        fingerprint: config.fingerprint.clone(),
        ..TrainState::default()
    };
    if let Some(checkpoint) = resume {
        checkpoint.belongs_to(config)?;
        model = checkpoint.load(model, &mut optimizer, job.names(), device)?;
        state = checkpoint.state.clone();
    }
    let mut average = match (config.average_decay, resume) {
        (Some(decay), Some(checkpoint)) => Some(checkpoint.average(decay, device)?),
        (Some(decay), None) => Some(Average::new(decay)),
        (None, _) => None,
    };
    let warmup = config.warmup.steps(state.total_steps);
    let mut saved_at = state.step;
    sink.event(&Event::Started {
        step: state.step,
        total_steps: state.total_steps,
    });

    while state.step < state.total_steps {
        model = job.at_epoch(model, state.epoch);
        let batches = job.batches(state.epoch);
        let mut stream = job.stream(state.epoch, state.batch)?;
        while state.batch < batches && state.step < state.total_steps {
            let started = Instant::now();
            let window: Vec<J::Batch> = stream
                .by_ref()
                .take(config.gradient_accumulation_steps.max(1))
                .collect::<Result<_, _>>()?;
            if window.is_empty() {
                break;
            }
            let learning_rate = config.learning_rate
                * config
                    .schedule
                    .factor(state.step, warmup, state.total_steps);
            let not_finite = |what, value| TrainError::NotFinite {
                step: state.step + 1,
                what,
                value,
                last_checkpoint: saved_at,
                learning_rate,
                batch: window
                    .iter()
                    .map(|b| job.describe(b))
                    .collect::<Vec<_>>()
                    .join("; "),
            };

            // The mean over all examples of the window, whatever the sizes of its micro-batches.
            let examples: usize = window.iter().map(|batch| job.count(batch)).sum();
            let mut grads = Gradients::<B>::default();
            let mut loss = 0.0;
            for (i, batch) in window.iter().enumerate() {
                let pass = Pass::training(config.seed, state.passes + i as u64);
                let part = job.loss(&model, batch, pass)? / examples.max(1) as f64;
                loss += scalar(part.clone().inner())?;
                if !loss.is_finite() {
                    return Err(not_finite("loss", loss));
                }
                grads.backward(&part, &model, job.names());
            }
            let grad_norm = grads.norm()?;
            if !grad_norm.is_finite() {
                return Err(not_finite("gradient norm", grad_norm));
            }
            let clip = match config.max_grad_norm > 0.0 {
                true => (config.max_grad_norm / (grad_norm + 1e-6)).min(1.0),
                false => 1.0,
            };
            let rate = |name: &str| job.rate(name);
            model = optimizer.step(model, grads, learning_rate, clip, &rate, job.names());

            state.step += 1;
            if let Some(average) = &mut average {
                average.update(&model, state.step, job.names());
            }
            state.passes += window.len() as u64;
            state.batch += window.len();
            let epoch = state.epoch as f64 + state.batch as f64 / batches as f64;
            let seconds = started.elapsed().as_secs_f64();
            sink.event(&Event::Step {
                step: state.step,
                epoch,
                loss,
                learning_rate,
                grad_norm,
                examples,
                seconds,
            });

            let epoch_ends = state.batch >= batches;
            let run_ends = state.step >= state.total_steps;
            let evaluate = match config.evaluate {
                Every::Never => false,
                Every::Epoch => epoch_ends || run_ends,
                Every::Steps(n) => state.step.is_multiple_of(n.max(1)) || run_ends,
            };
            if epoch_ends {
                // The place after the last batch is the next epoch's first, so that a resumed run starts there.
                state.epoch += 1;
                state.batch = 0;
            }
            if evaluate {
                let model = match &average {
                    Some(average) => average.model(&model, job.names()),
                    None => model.valid(),
                };
                self::evaluate(job, &model, config, &mut state, epoch, sink)?;
            }
            let interrupted = stop();
            let due = config
                .checkpoint_every
                .is_some_and(|n| state.step.is_multiple_of(n.max(1)));
            if evaluate || due || interrupted || run_ends {
                let written = Checkpoint::write(
                    run,
                    &state,
                    &model,
                    &optimizer,
                    average.as_ref(),
                    &|name| job.will_train(name),
                    job.names(),
                    config.keep,
                );
                match written {
                    Ok(checkpoint) => {
                        saved_at = state.step;
                        sink.event(&Event::Checkpointed {
                            step: state.step,
                            path: checkpoint.path,
                        });
                    }
                    Err(error) if interrupted => return Err(error),
                    Err(error) => sink.event(&Event::Warning {
                        message: format!(
                            "the checkpoint of step {} was not written: {error}",
                            state.step
                        ),
                    }),
                }
            }
            let gave_up = config
                .early_stopping
                .is_some_and(|e| state.without_improvement >= e.patience);
            if interrupted && !run_ends {
                return Ok(Outcome {
                    model,
                    average,
                    state,
                    stopped: Stopped::Interrupted,
                });
            }
            if gave_up && !run_ends {
                return Ok(Outcome {
                    model,
                    average,
                    state,
                    stopped: Stopped::Early,
                });
            }
            if epoch_ends {
                break;
            }
        }
    }
    Ok(Outcome {
        model,
        average,
        state,
        stopped: Stopped::Finished,
    })
}

/// One evaluation, and what it says about best and patience.
fn evaluate<B: TuneAutodiff, J: Job<B>>(
    job: &J,
    model: &<J::Model as AutodiffModule<B>>::InnerModule,
    config: &TrainConfig,
    state: &mut TrainState,
    epoch: f64,
    sink: &mut dyn Sink,
) -> Result<(), TrainError> {
    sink.event(&Event::Evaluating { step: state.step });
    let started = Instant::now();
    let evaluation = job.evaluate(model)?;
    let value = evaluation.get(&config.best.name).unwrap_or(f64::NAN);
    let sign = if config.best.higher_is_better {
        1.0
    } else {
        -1.0
    };
    let delta = config.early_stopping.map_or(0.0, |e| e.min_delta);
    let gain = state
        .best
        .map_or(f64::INFINITY, |(_, best)| sign * (value - best));
    let best = gain > 0.0;
    state.without_improvement = if gain > delta {
        0
    } else {
        state.without_improvement + 1
    };
    if best {
        state.best = Some((state.step, value));
    }
    state.evaluated_at = Some(state.step);
    sink.event(&Event::Evaluated {
        step: state.step,
        epoch,
        evaluation,
        best,
        seconds: started.elapsed().as_secs_f64(),
    });
    Ok(())
}
