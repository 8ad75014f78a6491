//! The loop.

use crate::{
    Average, BatchStream, Best, Checkpoint, Collective, Evaluation, Event, Job, Optimizer,
    OptimizerConfig, RunDir, Schedule, Shards, Sink, Traffic, TrainError, TrainState, Warmup,
    checkpoint::{self, AVERAGE, OPTIMIZER, TRAINABLE},
    sharded::{Place, Sharded},
    step::step,
};
use burn::module::AutodiffModule;
use rekindle_nn::TuneAutodiff;
use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

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

/// Which evaluated model is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Choose {
    /// The one with the best figure.
    Best,
    /// The latest with a finite figure: the examples are too few to tell which is better.
    Last,
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
    /// Shards of a micro-batch, whose gradients are added in an order that does not depend on the number of processes. Unset:
    /// one a process; for a process that is alone, no shards.
    pub shards: Option<usize>,
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
    /// When to write a checkpoint too, besides those with an evaluation.
    pub checkpoint_every: Option<Between>,
    /// Newest checkpoints to keep, besides what is best to each of them.
    pub keep: usize,
    /// What is best.
    pub best: BestMetric,
    /// Whether that is what is kept.
    pub choose: Choose,
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
        let per_epoch = self.steps_an_epoch(batches);
        self.max_steps
            .unwrap_or((self.epochs * per_epoch).ceil() as u64)
            .max(1)
    }

    /// Optimizer steps in an epoch of so many micro-batches.
    #[must_use]
    pub fn steps_an_epoch(&self, batches: usize) -> f64 {
        batches.div_ceil(self.gradient_accumulation_steps.max(1)) as f64
    }
}

/// What lies between two checkpoints.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Between {
    /// Optimizer steps.
    Steps(u64),
    /// At least so much time; more where writing takes longer than a fiftieth of it. Only of a process that trains alone: several
    /// would not agree on the time.
    Time(Duration),
}

impl Between {
    /// How many times as long as it takes to write a checkpoint there is none.
    const RARELY: u32 = 50;
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

/// Where the best model of a run is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BestModel {
    /// In memory: it is the one of the last step, or of the average there.
    Last {
        /// That step.
        step: u64,
    },
    /// In a checkpoint, whose every byte has been checked.
    Checkpoint {
        /// Its step.
        step: u64,
        /// Its directory, for [`crate::restore_best`].
        path: PathBuf,
    },
}

impl BestModel {
    /// The step that the model is from.
    #[must_use]
    pub const fn step(&self) -> u64 {
        match self {
            Self::Last { step } | Self::Checkpoint { step, .. } => *step,
        }
    }
}

/// What the loop leaves.
pub struct Outcome<B: TuneAutodiff, M> {
    /// The model after the last step.
    pub model: M,
    /// The average of its weights, where one was kept.
    pub average: Option<Average<B>>,
    /// The model to save. Without evaluations it is that of the last step. Where a better one is gone,
    /// [`TrainState::lost`] says so.
    pub best: BestModel,
    /// Where it ended.
    pub state: TrainState,
    /// Why.
    pub stopped: Stopped,
    /// What its steps said to other processes, and how many steps these were.
    pub traffic: (Traffic, u64),
}

/// Trains `job` from `model`, or from `resume` on. `stop` is asked after every step.
///
/// # Errors
/// A loss or gradient that is not finite, a failed evaluation, a checkpoint that cannot be read or is not of this run, a job
/// without batches. A checkpoint that cannot be written is a warning while training goes on, and an error only at an
/// interrupt, when it would lose the run.
///
/// All processes of [`Job::collective`] call it alike; the one that leads writes, and the others' `sink` and `dir` are not written
/// to. They stop where any is asked to.
#[allow(clippy::too_many_arguments)] // each is one thing the loop needs; a struct of them would have no meaning
pub fn train<B: TuneAutodiff, J: Job<B>>(
    job: &J,
    model: J::Model,
    config: &TrainConfig,
    dir: &RunDir,
    resume: Option<&Checkpoint>,
    sink: &mut dyn Sink,
    stop: &dyn Fn() -> bool,
    device: &B::Device,
) -> Result<Outcome<B, J::Model>, TrainError> {
    let mut run = Run::<B, J>::new(job, config, dir, sink)?;
    let mut model = run.begin(model, resume, device)?;
    while !run.is_over() {
        model = job.at_epoch(model, run.state.epoch);
        let mut batches = job.stream(run.state.epoch, run.state.batch, &run.shards)?;
        loop {
            model = run.step(model, &mut batches)?;
            if run.evaluation_is_due() {
                run.evaluate(&model)?;
            }
            let interrupted = run.collective.any(stop())? && !run.is_finished();
            if run.checkpoint_is_due() || interrupted {
                run.write_checkpoint(&model, interrupted)?;
            }
            if interrupted {
                return run.end(model, Stopped::Interrupted);
            }
            if run.is_over() || run.at_start_of_epoch() {
                break;
            }
        }
    }
    let stopped = match run.is_finished() {
        true => Stopped::Finished,
        false => Stopped::Early,
    };
    run.end(model, stopped)
}

/// Who takes the steps.
enum Stepper<B: TuneAutodiff> {
    /// This process, on whole batches.
    Alone(Optimizer<B>),
    /// All processes, on shards of batches.
    Together(Box<Sharded<B>>),
}

impl<B: TuneAutodiff> Stepper<B> {
    fn traffic(&self) -> Traffic {
        match self {
            Self::Alone(_) => Traffic::default(),
            Self::Together(sharded) => sharded.traffic(),
        }
    }
}

/// A run on its way: all but the model, which the steps hand on.
struct Run<'a, B: TuneAutodiff, J: Job<B>> {
    job: &'a J,
    config: &'a TrainConfig,
    dir: &'a RunDir,
    sink: &'a mut dyn Sink,
    collective: Collective,
    shards: Shards,
    optimizer: Stepper<B>,
    average: Option<Average<B>>,
    state: TrainState,
    /// Steps done here, and not before a checkpoint.
    steps: u64,
    /// The best evaluation whose checkpoint is on disk.
    best_on_disk: Option<Best>,
    /// The step of the newest checkpoint, 0 if none.
    saved_at: u64,
    /// When it was written, and how long that took; or when the run began.
    saved_when: (Instant, Duration),
}

impl<'a, B: TuneAutodiff, J: Job<B>> Run<'a, B, J> {
    fn new(
        job: &'a J,
        config: &'a TrainConfig,
        dir: &'a RunDir,
        sink: &'a mut dyn Sink,
    ) -> Result<Self, TrainError> {
        let batches = job.batches(0);
        if batches == 0 {
            return Err(TrainError::Batches {
                epoch: 0,
                expected: 0,
                found: 0,
            });
        }
        let collective = job.collective();
        let (rank, world) = (collective.rank(), collective.world());
        Ok(Self {
            job,
            config,
            dir,
            sink,
            shards: Shards::of(config.shards.unwrap_or(world), rank, world),
            collective,
            optimizer: Stepper::Alone(Optimizer::new(config.optimizer)),
            steps: 0,
            average: config.average_decay.map(Average::new),
            state: TrainState {
                total_steps: config.total_steps(batches),
                fingerprint: config.fingerprint.clone(),
                ..TrainState::default()
            },
            best_on_disk: None,
            saved_at: 0,
            saved_when: (Instant::now(), Duration::ZERO),
        })
    }

    /// Clears away what a kill left, and takes up the checkpoint, if there is one.
    fn begin(
        &mut self,
        mut model: J::Model,
        resume: Option<&Checkpoint>,
        device: &B::Device,
    ) -> Result<J::Model, TrainError> {
        let cleared = match self.collective.leads() {
            true => self.dir.clear_checkpoints(),
            false => Ok(()),
        };
        self.collective.agree(cleared)?;
        let mut optimizer = Optimizer::new(self.config.optimizer);
        if let Some(checkpoint) = resume {
            let taken_up = self.take_up(checkpoint, model, &mut optimizer, device);
            model = self.collective.agree(taken_up)?;
        }
        self.optimizer = match self.config.shards.is_some() || !self.collective.is_alone() {
            false => Stepper::Alone(optimizer),
            true => {
                let shards = self.shards.clone();
                let sharded = Sharded::new(self.job, &model, shards, optimizer, device);
                Stepper::Together(Box::new(self.collective.agree(sharded)?))
            }
        };
        self.sink.event(&Event::Started {
            step: self.state.step,
            total_steps: self.state.total_steps,
        });
        if let Some(checkpoint) = resume {
            self.sink.event(&Event::Resumed {
                step: checkpoint.state.step,
            });
            self.find_best()?;
        }
        self.tidy();
        Ok(model)
    }

    fn take_up(
        &mut self,
        checkpoint: &Checkpoint,
        model: J::Model,
        optimizer: &mut Optimizer<B>,
        device: &B::Device,
    ) -> Result<J::Model, TrainError> {
        let (job, names) = (self.job, self.job.names());
        checkpoint.belongs_to(self.config)?;
        checkpoint.check_state(self.config, |epoch| job.batches(epoch))?;
        let state = checkpoint.state.clone();
        let model = checkpoint.model(model, names, device)?;
        let model = job.at_epoch(model, state.epoch_of_last_step());
        checkpoint.moments(optimizer, &model, names, device)?;
        if let Some(decay) = self.config.average_decay {
            self.average = Some(checkpoint.average(decay, &model, names, device)?);
        }
        self.saved_at = state.step;
        self.state = state;
        Ok(model)
    }

    /// After resuming: the best checkpoint must still be there and whole.
    fn find_best(&mut self) -> Result<(), TrainError> {
        self.best_on_disk = self.state.best;
        if let Some(best) = self.state.best.filter(|best| best.step != self.state.step)
            && let Err(reason) = self.look_for(best.step)?
        {
            self.best_on_disk = None;
            self.lose(best, &reason);
        }
        Ok(())
    }

    /// The checkpoint of a step, or why it cannot be used. What the process that leads finds counts for all.
    fn look_for(&self, step: u64) -> Result<Result<PathBuf, String>, TrainError> {
        let found = match self.collective.leads() {
            true => Checkpoint::of_step(self.dir, step).map(|checkpoint| checkpoint.path),
            false => Ok(checkpoint::path_of(self.dir, step)),
        };
        let failed = self.collective.any(found.is_err())?;
        Ok(match found {
            Ok(path) if !failed => Ok(path),
            Ok(_) => Err(String::new()),
            Err(error) => Err(error.to_string()),
        })
    }

    /// How many micro-batches the next step has.
    fn window_size(&self) -> usize {
        let left = self.job.batches(self.state.epoch) - self.state.batch;
        self.config.gradient_accumulation_steps.max(1).min(left)
    }

    /// The micro-batches of the next step, of each the own shards.
    fn window(&self, batches: &mut BatchStream<'_, J::Batch>) -> Result<Vec<J::Batch>, TrainError> {
        let (size, own) = (self.window_size(), self.shards.own().len());
        let window: Vec<J::Batch> = batches.take(size * own).collect::<Result<_, _>>()?;
        match window.len() == size * own && size > 0 {
            true => Ok(window),
            false => Err(TrainError::Batches {
                epoch: self.state.epoch,
                expected: self.job.batches(self.state.epoch),
                found: self.state.batch + window.len() / own.max(1),
            }),
        }
    }

    /// One optimizer step.
    fn step(
        &mut self,
        model: J::Model,
        batches: &mut BatchStream<'_, J::Batch>,
    ) -> Result<J::Model, TrainError> {
        self.leave_last_evaluation();
        let (job, config, started) = (self.job, self.config, Instant::now());
        let (size, learning_rate, passes) =
            (self.window_size(), self.learning_rate(), self.state.passes);
        let window = self.window(batches);
        let (model, stepped, window) = match &mut self.optimizer {
            Stepper::Alone(optimizer) => {
                let window = window?;
                let (model, stepped) = step(
                    job,
                    model,
                    &window,
                    config,
                    optimizer,
                    learning_rate,
                    passes,
                )?;
                (model, stepped, window)
            }
            Stepper::Together(sharded) => {
                let window = self.collective.agree(window)?;
                let own: usize = window.iter().map(|batch| job.count(batch)).sum();
                let examples = self.collective.numbers(own as u64)?.iter().sum();
                let at = Place {
                    examples,
                    learning_rate,
                    first_pass: passes,
                };
                let (model, stepped) = sharded.step(job, model, &window, config, at)?;
                (model, stepped, window)
            }
        };
        if let Some((what, value)) = stepped.fault() {
            return Err(self.not_finite(what, value, &window));
        }
        self.steps += 1;
        self.advance(size);
        if let Some(average) = &mut self.average {
            average.update(&model, self.state.step, job.names());
        }
        self.sink.event(&Event::Step {
            step: self.state.step,
            epoch: self.epochs_done(),
            loss: stepped.loss,
            learning_rate,
            grad_norm: stepped.grad_norm,
            examples: stepped.examples,
            seconds: started.elapsed().as_secs_f64(),
        });
        Ok(model)
    }

    /// The rate of the next step.
    fn learning_rate(&self) -> f64 {
        let total = self.state.total_steps;
        let warmup = self.config.warmup.steps(total);
        self.config.learning_rate * self.config.schedule.factor(self.state.step, warmup, total)
    }

    fn not_finite(&self, what: &'static str, value: f64, window: &[J::Batch]) -> TrainError {
        let batch: Vec<String> = window.iter().map(|b| self.job.describe(b)).collect();
        // The examples may be another process's.
        let batch = match self.collective.gather(batch.join("; ").into_bytes()) {
            Ok(all) => all,
            Err(error) => return error,
        };
        if !self.collective.leads() {
            return TrainError::Elsewhere { rank: 0 };
        }
        let batch: Vec<String> = batch
            .iter()
            .map(|bytes| String::from_utf8_lossy(bytes).into_owned())
            .filter(|described| !described.is_empty())
            .collect();
        TrainError::NotFinite {
            step: self.state.step + 1,
            what,
            value,
            last_checkpoint: self.saved_at,
            learning_rate: self.learning_rate(),
            batch: batch.join("; "),
        }
    }

    /// Counts a step of so many micro-batches. The place after an epoch's last batch is the next epoch's first, so that a
    /// resumed run starts there.
    fn advance(&mut self, micro_batches: usize) {
        let state = &mut self.state;
        state.step += 1;
        state.passes += micro_batches as u64;
        state.batch += micro_batches;
        if state.batch >= self.job.batches(state.epoch) {
            state.epoch += 1;
            state.batch = 0;
        }
    }

    /// Epochs done, with the fraction of the current one.
    fn epochs_done(&self) -> f64 {
        let of = self.job.batches(self.state.epoch).max(1);
        self.state.epoch as f64 + self.state.batch as f64 / of as f64
    }

    fn at_start_of_epoch(&self) -> bool {
        self.state.batch == 0
    }

    /// Whether all steps are done.
    fn is_finished(&self) -> bool {
        self.state.step >= self.state.total_steps
    }

    /// Whether all steps are done, or nothing has improved for long enough.
    fn is_over(&self) -> bool {
        let without = self.state.without_improvement;
        let patience = self.config.early_stopping.map(|e| e.patience.max(1));
        self.is_finished() || patience.is_some_and(|patience| without >= patience)
    }

    fn evaluation_is_due(&self) -> bool {
        match self.config.evaluate {
            Every::Never => false,
            Every::Epoch => self.at_start_of_epoch() || self.is_finished(),
            Every::Steps(n) => self.state.step.is_multiple_of(n.max(1)) || self.is_finished(),
        }
    }

    fn checkpoint_is_due(&self) -> bool {
        let step = self.state.step;
        let (when, took) = self.saved_when;
        self.is_finished()
            || self.state.evaluated_at == Some(step)
            || match self.config.checkpoint_every {
                None => false,
                Some(Between::Steps(n)) => step.is_multiple_of(n.max(1)),
                Some(Between::Time(time)) => {
                    self.collective.is_alone() && when.elapsed() >= time.max(took * Between::RARELY)
                }
            }
    }

    /// One evaluation, and what it says about best and patience.
    fn evaluate(&mut self, model: &J::Model) -> Result<(), TrainError> {
        let step = self.state.step;
        self.sink.event(&Event::Evaluating { step });
        let started = Instant::now();
        let model = match &self.average {
            Some(average) => average.model(model, self.job.names()),
            None => model.valid(),
        };
        let evaluation = self.job.evaluate(&model);
        let evaluation = self.same_for_all(self.collective.agree(evaluation)?)?;
        // What the last step broke, no step after it finds.
        if let Some(value) = evaluation.get("loss").filter(|loss| !loss.is_finite())
            && self.is_finished()
        {
            return Err(TrainError::NotFinite {
                step,
                what: "loss after it",
                value,
                last_checkpoint: self.saved_at,
                learning_rate: self.config.learning_rate,
                batch: "the validation set".to_owned(),
            });
        }
        let metric = &self.config.best;
        let value = evaluation
            .get(&metric.name)
            .ok_or_else(|| TrainError::Metric {
                name: metric.name.clone(),
                known: evaluation.metrics.keys().cloned().collect(),
            })?;
        let found = Best {
            step,
            value,
            loss: evaluation.get("loss").filter(|loss| loss.is_finite()),
        };
        let best = self.judge(found);
        self.state.evaluated_at = Some(step);
        self.sink.event(&Event::Evaluated {
            step,
            epoch: self.epochs_done(),
            evaluation,
            best,
            seconds: started.elapsed().as_secs_f64(),
        });
        Ok(())
    }

    /// What the process that leads found, so that all decide alike whatever their processors are.
    fn same_for_all(&self, own: Evaluation) -> Result<Evaluation, TrainError> {
        if self.collective.is_alone() {
            return Ok(own);
        }
        let json = serde_json::to_vec(&own).map_err(|e| TrainError::Job(e.into()))?;
        let json = self.collective.of_lead(json)?;
        serde_json::from_slice(&json).map_err(|e| TrainError::Job(e.into()))
    }

    /// Holds an evaluation against the best so far: whether it is the best, and whether patience begins anew. A figure
    /// that is not finite is neither; nothing is called the best where the last is kept.
    fn judge(&mut self, found: Best) -> bool {
        let higher_is_better = self.config.best.higher_is_better;
        let state = &mut self.state;
        let sign = if higher_is_better { 1.0 } else { -1.0 };
        let delta = self.config.early_stopping.map_or(0.0, |e| e.min_delta);
        let finite = found.value.is_finite();
        let improved = finite
            && state
                .best
                .is_none_or(|best| sign * (found.value - best.value) > delta);
        state.without_improvement = match improved {
            true => 0,
            false => state.without_improvement + 1,
        };
        let beats = |other: Best| found.beats(&other, higher_is_better);
        let chosen = match self.config.choose {
            Choose::Best => finite && state.best.is_none_or(beats),
            Choose::Last => finite,
        };
        if chosen {
            state.best = Some(found);
            state.lost = state
                .lost
                .filter(|&lost| self.config.choose == Choose::Best && !beats(lost));
        }
        chosen && self.config.choose == Choose::Best
    }

    /// Writes a checkpoint. A failure is a warning, unless the run ends here and would be lost.
    fn write_checkpoint(&mut self, model: &J::Model, must: bool) -> Result<(), TrainError> {
        let (job, names, step) = (self.job, self.job.names(), self.state.step);
        let started = Instant::now();
        let gathered;
        let optimizer = match &self.optimizer {
            Stepper::Alone(optimizer) => Some(optimizer),
            Stepper::Together(sharded) => {
                gathered = self.collective.agree(sharded.gathered())?;
                gathered.as_ref()
            }
        };
        let written = match optimizer {
            // Another process writes.
            None => Ok(checkpoint::path_of(self.dir, step)),
            Some(optimizer) => {
                let trainable = checkpoint::trainable(model, &|name| job.will_train(name), names);
                let moments = optimizer.state(model, names);
                let mut files = vec![(TRAINABLE, trainable), (OPTIMIZER, moments)];
                let average = self.average.as_ref();
                files.extend(average.map(|average| (AVERAGE, average.state())));
                Checkpoint::write(self.dir, &self.state, files)
            }
        };
        let written = self.collective.agree(written);
        // One that failed is not tried again at the next step.
        self.saved_when = (Instant::now(), started.elapsed());
        match written {
            Ok(path) => {
                self.saved_at = step;
                self.best_on_disk = self.state.best;
                self.sink.event(&Event::Checkpointed { step, path });
                self.tidy();
            }
            Err(error) if must => return Err(error),
            Err(error) => self.warn(format!(
                "the checkpoint of step {step} was not written: {error}"
            )),
        }
        Ok(())
    }

    /// Sets the link to the best checkpoint and deletes old ones.
    fn tidy(&mut self) {
        if !self.collective.leads() {
            return;
        }
        let best = self.best_on_disk.map(|best| best.step);
        if let Err(error) = checkpoint::tidy(self.dir, self.saved_at, best, self.config.keep) {
            self.warn(format!("checkpoints could not be tidied up: {error}"));
        }
    }

    /// Training goes on from the model of the last evaluation: if that was the best and is not on disk, it is lost.
    fn leave_last_evaluation(&mut self) {
        if let Some(best) = self.state.best
            && self.state.best != self.best_on_disk
        {
            self.lose(best, "its checkpoint could not be written");
        }
    }

    /// The best model is gone; what is best on disk takes its place.
    fn lose(&mut self, best: Best, reason: &str) {
        let higher_is_better = self.config.best.higher_is_better;
        let lost_before = self.state.lost;
        if lost_before.is_none_or(|lost| best.beats(&lost, higher_is_better)) {
            self.state.lost = Some(best);
        }
        self.state.best = self.best_on_disk;
        let instead = match self.state.best {
            Some(other) => format!("step {} is the best that is left", other.step),
            None if self.is_over() => "the model of the last step takes its place".to_owned(),
            None => "the next evaluation takes its place".to_owned(),
        };
        self.warn(format!(
            "step {} was the best ({} {:.4}), but its model is lost: {reason}; {instead}",
            best.step, self.config.best.name, best.value
        ));
    }

    fn warn(&mut self, message: String) {
        self.sink.event(&Event::Warning { message });
    }

    /// The end: where the best model is, checked to the byte if it is on disk.
    fn end(
        mut self,
        model: J::Model,
        stopped: Stopped,
    ) -> Result<Outcome<B, J::Model>, TrainError> {
        let step = self.state.step;
        let mut best = BestModel::Last { step };
        if let Some(earlier) = self.state.best.filter(|best| best.step != step) {
            match self.look_for(earlier.step)? {
                Ok(path) => {
                    best = BestModel::Checkpoint {
                        step: earlier.step,
                        path,
                    };
                }
                Err(reason) => {
                    self.best_on_disk = None;
                    self.lose(earlier, &reason);
                    self.tidy();
                }
            }
        }
        Ok(Outcome {
            model,
            average: self.average,
            best,
            state: self.state,
            stopped,
            traffic: (self.optimizer.traffic(), self.steps),
        })
    }
}
