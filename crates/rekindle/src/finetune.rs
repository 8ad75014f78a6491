//! A run from configuration to tuned model: prepare, plan, train, evaluate, save, report.

use crate::{
    Error, Observer, Plan, RunConfig,
    backend::{OnBackend, on_device},
    config, images,
    observer::Watched,
    report::{self, EvalPoint, Report, TrainPoint},
    task::{Facts, Judged, Task},
    text,
};
use burn::{module::AutodiffModule, tensor::backend::BackendTypes};
use rekindle_base::write_atomically;
use rekindle_hub::Source;
use rekindle_metrics::{CalibrationReport, ClassificationReport};
use rekindle_nn::{TuneAutodiff, params};
use rekindle_train::{
    BestMetric, BestModel, Checkpoint, EarlyStopping, Event, Every, Metrics, OptimizerConfig,
    RunDir, Schedule, Sink, Stopped, TrainConfig, Warmup, read_metrics, truncate_metrics,
};
use std::{
    fs::{File, OpenOptions},
    io::Write,
    path::{Path, PathBuf},
    time::Instant,
};

/// A finished run.
#[derive(Debug, Clone)]
pub struct FinishedRun {
    /// What was learned.
    pub task: config::Task,
    /// The run directory.
    pub dir: PathBuf,
    /// The tuned model: an HF model directory, or a PEFT adapter directory.
    pub final_dir: PathBuf,
    /// The report's page.
    pub report_html: PathBuf,
    /// The figures of the best checkpoint on `split`.
    pub report: ClassificationReport,
    /// `test`, or `validation` where there is no test set, or `train` where there is neither.
    pub split: String,
    /// The step whose model was the best and is saved; `None` without evaluations.
    pub best_step: Option<u64>,
    /// The step of a better model that is not saved, because its checkpoint could not be written or is gone.
    pub lost_best: Option<u64>,
    /// Steps done.
    pub steps: u64,
    /// Whether it ended early for want of improvement.
    pub stopped_early: bool,
    /// Seconds in all.
    pub seconds: f64,
    /// Peak memory of the process in bytes, where the system tells.
    pub peak_memory: Option<u64>,
}

/// Fine-tunes by a configuration, in a new run directory.
///
/// # Errors
/// Any mistake in configuration, data or model, each with its place; [`Error::Interrupted`] after an orderly stop.
pub fn finetune(config: &RunConfig, observer: &dyn Observer) -> Result<FinishedRun, Error> {
    config.validate()?;
    let config = anchored(config.resolved());
    let dir = config.output_dir();
    on_device(
        config.device,
        Run {
            config: &config,
            dir: &dir,
            resume: false,
            dry: false,
            observer,
        },
    )?
    .ok_or_else(|| Error::Internal("a run without a result".into()))
}

/// What [`finetune`] would do; nothing is written.
///
/// # Errors
/// As [`finetune`].
pub fn plan(config: &RunConfig, observer: &dyn Observer) -> Result<(), Error> {
    config.validate()?;
    let config = anchored(config.resolved());
    let dir = config.output_dir();
    on_device(
        config.device,
        Run {
            config: &config,
            dir: &dir,
            resume: false,
            dry: true,
            observer,
        },
    )
    .map(drop)
}

/// Continues a run from its newest checkpoint, or from its start if it was stopped before the first, as if it had never
/// stopped.
///
/// # Errors
/// As [`finetune`]; and when all checkpoints are broken, or data or model are not what they were.
pub fn resume(dir: &Path, observer: &dyn Observer) -> Result<FinishedRun, Error> {
    let path = dir.join("config.toml");
    if !path.is_file() {
        return Err(Error::ModelDir {
            path: dir.to_owned(),
            reason: "not a run directory: it holds no config.toml".into(),
            hint: "name the directory that `rekindle finetune` printed, runs/<name>".into(),
        });
    }
    let config = RunConfig::load(Some(&path), &[])?;
    on_device(
        config.device,
        Run {
            config: &config,
            dir,
            resume: true,
            dry: false,
            observer,
        },
    )?
    .ok_or_else(|| Error::Internal("a run without a result".into()))
}

/// Paths made absolute, so that the run can be resumed from any directory.
fn anchored(mut config: RunConfig) -> RunConfig {
    let absolute = |path: &Path| std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    for path in [
        &mut config.data.train,
        &mut config.data.validation,
        &mut config.data.test,
    ]
    .into_iter()
    .flatten()
    {
        *path = absolute(path);
    }
    if Path::new(&config.model.name).is_dir() {
        config.model.name = absolute(Path::new(&config.model.name))
            .to_string_lossy()
            .into_owned();
    }
    if let Some(dataset) = &mut config.data.dataset
        && Path::new(dataset.as_str()).is_file()
    {
        *dataset = absolute(Path::new(dataset.as_str()))
            .to_string_lossy()
            .into_owned();
    }
    config
}

struct Run<'a> {
    config: &'a RunConfig,
    dir: &'a Path,
    resume: bool,
    dry: bool,
    observer: &'a dyn Observer,
}

impl OnBackend for Run<'_> {
    type Output = Option<FinishedRun>;

    fn run<B: TuneAutodiff>(
        self,
        device: &<B as BackendTypes>::Device,
    ) -> Result<Self::Output, Error> {
        let started = Instant::now();
        // What is wrong with the run directory is said before anything is read.
        let held = match (self.dry, self.resume) {
            (true, _) => {
                if let Err(error) = RunDir::check_vacant(self.dir) {
                    let refused = format!("the run itself would be refused: {error}");
                    self.observer.note(&refused);
                }
                None
            }
            (false, true) => {
                let run = RunDir::open(self.dir)?;
                let checkpoint = Checkpoint::find(&run)?;
                Some((run, checkpoint))
            }
            (false, false) => {
                RunDir::check_vacant(self.dir)?;
                None
            }
        };
        match self.config.task {
            config::Task::TextClassification => {
                let (job, model) = text::open::<B>(self.config, self.observer, device)?;
                self.drive(&job, model, held, started, device)
            }
            config::Task::ImageClassification => {
                let (job, model) = images::open::<B>(self.config, self.observer, device)?;
                self.drive(&job, model, held, started, device)
            }
        }
    }
}

impl Run<'_> {
    /// Plan, train, judge, save, report: the same for every task.
    fn drive<B: TuneAutodiff, T: Task<B>>(
        self,
        job: &T,
        model: T::Model,
        held: Option<(RunDir, Option<Checkpoint>)>,
        started: Instant,
        device: &B::Device,
    ) -> Result<Option<FinishedRun>, Error> {
        let Self {
            config,
            dir,
            observer,
            ..
        } = self;
        let facts = job.facts();
        let mut timings = facts.timings.clone();
        let train_config = train_config(config, facts);
        let (parameters, trainable) = params::count(&model);
        let plan = make_plan(
            config,
            dir,
            facts,
            (parameters, trainable),
            job.batches(0),
            &train_config,
        );
        observer.plan(&plan);
        if self.dry {
            return Ok(None);
        }

        let resumed = held.is_some();
        let (run, checkpoint) = match held {
            Some(held) => held,
            None => (RunDir::create(dir)?, None),
        };
        if let Some(checkpoint) = &checkpoint {
            checkpoint.belongs_to(&train_config)?;
            for broken in &checkpoint.passed_over {
                observer.note(&format!("passed over a broken checkpoint: {broken}"));
            }
            observer.note(&format!(
                "resuming after step {} of {}",
                checkpoint.state.step, checkpoint.state.total_steps
            ));
        } else {
            if resumed {
                observer.note(
                    "the run was stopped before its first checkpoint: starting from its first step",
                );
            } else {
                write_text(&run.config(), &config.to_toml())?;
            }
            let json =
                serde_json::to_string_pretty(&plan).map_err(|e| Error::Internal(e.to_string()))?;
            write_text(&dir.join("plan.json"), &json)?;
        }
        let done = checkpoint.as_ref().map_or(0, |c| c.state.step);
        truncate_metrics(&run.metrics(), done)?;

        let clock = Instant::now();
        let mut sinks = Sinks {
            metrics: Metrics::open(&run.metrics(), config.train.log_every_steps as u64)?,
            log: Log::open(&dir.join("log.txt"), config.train.log_every_steps as u64)?,
            observer: Watched(observer),
        };
        sinks.log.line(&format!("{plan}"));
        let stop = || observer.stop();
        let outcome = rekindle_train::train(
            job,
            model,
            &train_config,
            &run,
            checkpoint.as_ref(),
            &mut sinks,
            &stop,
            device,
        )?;
        if outcome.stopped == Stopped::Interrupted {
            return Err(Error::Interrupted {
                dir: dir.to_owned(),
                step: outcome.state.step,
            });
        }
        timings.push((
            "train, with evaluations".into(),
            clock.elapsed().as_secs_f64(),
        ));

        let clock = Instant::now();
        let best_step = outcome.state.best.map(|best| best.step);
        // The last step ended with an evaluation, and it was the best.
        let evaluated = best_step == Some(outcome.state.step);
        let model = match (&outcome.best, &outcome.average) {
            (BestModel::Checkpoint { path, .. }, _) => {
                rekindle_train::restore_best(outcome.model, path, job.names(), device)?.valid()
            }
            (BestModel::Last { .. }, Some(average)) => average.model(&outcome.model, job.names()),
            (BestModel::Last { .. }, None) => outcome.model.valid(),
        };
        observer.note("evaluating the best checkpoint");
        let Judged {
            split,
            report: figures,
            mistakes,
            calibration,
        } = job.judge(&model, evaluated)?;
        let remarks = job.remarks();
        remarks.iter().for_each(|remark| observer.note(remark));
        timings.push((
            format!("evaluate on {split}"),
            clock.elapsed().as_secs_f64(),
        ));

        let clock = Instant::now();
        let final_dir = run.final_dir();
        // Aside first: a full disk must not leave half a model under the name of a whole one.
        let aside = dir.join(".final");
        let saved = clear(&aside)
            .and_then(|()| std::fs::create_dir_all(&aside).map_err(Error::io(&aside)))
            .and_then(|()| job.save(&model, &aside))
            .and_then(|()| clear(&final_dir))
            .and_then(|()| std::fs::rename(&aside, &final_dir).map_err(Error::io(&final_dir)));
        if let Err(error) = saved {
            let _ = clear(&aside);
            return Err(error);
        }
        timings.push(("save model".into(), clock.elapsed().as_secs_f64()));

        let finished = FinishedRun {
            task: config.task,
            dir: dir.to_owned(),
            final_dir,
            report_html: dir.join("report.html"),
            report: figures,
            split: split.to_owned(),
            best_step,
            lost_best: outcome.state.lost.map(|best| best.step),
            steps: outcome.state.step,
            stopped_early: outcome.stopped == Stopped::Early,
            seconds: started.elapsed().as_secs_f64(),
            peak_memory: peak_memory(),
        };
        let mut page = make_report(config, &plan, &run, &finished, mistakes, timings)?;
        page.notes.extend(remarks);
        page.summary = summary(&calibration, facts.labels.len());
        write_text(&finished.report_html, &report::render(&page))?;
        Ok(Some(finished))
    }
}

fn train_config(config: &RunConfig, facts: &Facts) -> TrainConfig {
    let train = &config.train;
    TrainConfig {
        epochs: train.epochs,
        max_steps: train.max_steps.map(|n| n as u64),
        gradient_accumulation_steps: train.gradient_accumulation_steps,
        learning_rate: config.learning_rate(),
        schedule: match train.schedule {
            config::Schedule::Linear => Schedule::Linear,
            config::Schedule::Cosine => Schedule::Cosine,
            config::Schedule::Constant => Schedule::Constant,
        },
        warmup: match train.warmup_steps {
            Some(steps) => Warmup::Steps(steps as u64),
            None => Warmup::Ratio(train.warmup_ratio.unwrap_or(config::DEFAULT_WARMUP_RATIO)),
        },
        optimizer: OptimizerConfig {
            beta1: train.beta1,
            beta2: train.beta2,
            epsilon: train.epsilon,
            weight_decay: train.weight_decay,
        },
        max_grad_norm: train.max_grad_norm,
        seed: config.seed,
        evaluate: match config.eval.every {
            config::EvalEvery::Epoch => Every::Epoch,
            config::EvalEvery::Steps(n) => Every::Steps(n as u64),
            config::EvalEvery::Never => Every::Never,
        },
        checkpoint_every: config.checkpoint.every_steps.map(|n| n as u64),
        keep: config.checkpoint.keep,
        best: BestMetric {
            name: config.eval.metric.name().to_owned(),
            higher_is_better: config.eval.metric.higher_is_better(),
        },
        early_stopping: config
            .eval
            .early_stopping_patience
            .map(|patience| EarlyStopping {
                patience: patience as u32,
                min_delta: config.eval.early_stopping_min_delta,
            }),
        average_decay: train.ema_decay,
        fingerprint: facts.fingerprint.clone(),
    }
}

fn make_plan(
    config: &RunConfig,
    dir: &Path,
    facts: &Facts,
    (parameters, trainable): (usize, usize),
    batches: usize,
    train: &TrainConfig,
) -> Plan {
    let steps = train.total_steps(batches);
    let writes = [
        "config.toml",
        "plan.json",
        "metrics.jsonl",
        "log.txt",
        "checkpoints/",
        facts.writes,
        "report.html",
    ];
    let epochs = if train.max_steps.is_some() {
        steps as f64 / batches.max(1) as f64
    } else {
        train.epochs
    };
    Plan {
        model: match &facts.base.source {
            Source::Path => config.model.name.clone(),
            _ => facts.base.name.clone(),
        },
        model_dir: facts.base.dir.clone(),
        loaded: facts.loaded.clone(),
        method: facts.method.clone(),
        adapted_layers: facts.adapted_layers.clone(),
        parameters,
        trainable,
        dataset: facts.dataset.clone(),
        labels: facts.labels.clone(),
        examples: facts.examples,
        inputs: facts.inputs.clone(),
        examples_per_step: config.train.batch_size * config.train.gradient_accumulation_steps,
        steps,
        warmup_steps: train.warmup.steps(steps),
        epochs: (epochs * 100.0).round() / 100.0,
        learning_rate: format!(
            "{:e}, {}",
            train.learning_rate,
            config.train.schedule.name()
        ),
        memory: facts.memory,
        device: match config.train.precision {
            config::Precision::F32 => config.device.to_string(),
            precision => format!("{}, trained in {precision}", config.device),
        },
        output_dir: dir.to_owned(),
        writes: writes.map(str::to_owned).to_vec(),
        notes: facts.notes.clone(),
    }
}

/// Removes a folder, if it is there.
fn clear(folder: &Path) -> Result<(), Error> {
    match std::fs::remove_dir_all(folder) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(Error::io(folder)(e)),
        _ => Ok(()),
    }
}

fn make_report(
    config: &RunConfig,
    plan: &Plan,
    run: &RunDir,
    finished: &FinishedRun,
    mistakes: Vec<report::Mistake>,
    timings: Vec<(String, f64)>,
) -> Result<Report, Error> {
    let mut train = Vec::new();
    let mut evaluations = Vec::new();
    let mut warnings = Vec::new();
    let mut resumed_at = Vec::new();
    for event in read_metrics(&run.metrics())? {
        match event {
            Event::Step {
                step,
                epoch,
                loss,
                learning_rate,
                grad_norm,
                examples,
                seconds,
            } => train.push(TrainPoint {
                step,
                epoch,
                loss,
                learning_rate,
                grad_norm: Some(grad_norm),
                examples_per_second: examples as f64 / seconds.max(1e-9),
            }),
            Event::Evaluated {
                step,
                epoch,
                evaluation,
                ..
            } => evaluations.push(EvalPoint {
                step,
                epoch,
                split: "validation".into(),
                loss: evaluation.get("loss").unwrap_or(f64::NAN),
                accuracy: evaluation.get("accuracy").unwrap_or(f64::NAN),
                macro_f1: evaluation.get("macro_f1").unwrap_or(f64::NAN),
            }),
            Event::Resumed { step } => resumed_at.push(step),
            Event::Warning { message } => warnings.push(message),
            _ => {}
        }
    }
    resumed_at.dedup();
    let mut environment = vec![
        ("rekindle".to_owned(), env!("CARGO_PKG_VERSION").to_owned()),
        ("device".into(), config.device.to_string()),
        (
            "threads".into(),
            std::thread::available_parallelism()
                .map_or(1, usize::from)
                .to_string(),
        ),
        (
            "memory, estimated".into(),
            format!("{:.0} MB", plan.memory as f64 / 1e6),
        ),
    ];
    if let Some(bytes) = finished.peak_memory {
        environment.push((
            "memory, peak".into(),
            format!("{:.0} MB", bytes as f64 / 1e6),
        ));
    }
    Ok(Report {
        title: format!("{} on {}", plan.model, plan.dataset),
        task: config.task.name().to_owned(),
        model: plan.model.clone(),
        method: plan.method.clone(),
        dataset: plan.dataset.clone(),
        command: std::env::args().collect::<Vec<_>>().join(" "),
        seconds: finished.seconds,
        summary: Vec::new(),
        warnings,
        notes: plan.notes.clone(),
        train,
        evaluations,
        best_step: finished.best_step,
        resumed_at,
        labels: plan.labels.clone(),
        final_split: finished.split.clone(),
        final_report: finished.report.clone(),
        mistakes,
        config_toml: config.to_toml(),
        timings,
        parameters: (plan.parameters as u64, plan.trainable as u64),
        environment,
    })
}

/// Headline figures beyond the usual ones.
fn summary(calibration: &CalibrationReport, classes: usize) -> Vec<(String, String)> {
    let percent = |share: f64| format!("{:.2} %", 100.0 * share);
    let mut figures = Vec::new();
    // Of five classes or fewer, the right one always is among the first five.
    if classes > calibration.k {
        let name = format!("Top-{} accuracy", calibration.k);
        figures.push((name, percent(calibration.top_k_accuracy)));
    }
    figures.push(("Calibration error".to_owned(), percent(calibration.ece)));
    figures
}

/// Everything that hears of the loop's events.
struct Sinks<'a> {
    metrics: Metrics,
    log: Log,
    observer: Watched<'a>,
}

impl Sink for Sinks<'_> {
    fn event(&mut self, event: &Event) {
        self.metrics.event(event);
        self.log.event(event);
        self.observer.event(event);
    }
}

/// `log.txt`: what happened, a line each, for people.
struct Log {
    file: File,
    every: u64,
}

impl Log {
    fn open(path: &Path, every: u64) -> Result<Self, Error> {
        let file = OpenOptions::new()
            .create(true)
            .append(true)
            .open(path)
            .map_err(Error::io(path))?;
        Ok(Self {
            file,
            every: every.max(1),
        })
    }

    fn line(&mut self, text: &str) {
        // A full disk must not end a run that can still train.
        let _ = writeln!(self.file, "{}", text.trim_end());
    }
}

impl Sink for Log {
    fn event(&mut self, event: &Event) {
        match event {
            Event::Started { step, total_steps } => {
                self.line(&format!("training: steps {} to {total_steps}", step + 1))
            }
            Event::Step {
                step,
                loss,
                learning_rate,
                grad_norm,
                seconds,
                ..
            } if *step == 1 || step.is_multiple_of(self.every) => {
                self.line(&format!("step {step}: loss {loss:.6}, learning rate {learning_rate:.3e}, gradient norm {grad_norm:.4}, {seconds:.3} s"));
            }
            Event::Evaluated {
                step,
                evaluation,
                best,
                ..
            } => {
                let figures: Vec<String> = evaluation
                    .metrics
                    .iter()
                    .map(|(name, value)| format!("{name} {value:.4}"))
                    .collect();
                self.line(&format!(
                    "step {step}: validation {}{}",
                    figures.join(", "),
                    if *best { " (best)" } else { "" }
                ));
            }
            Event::Checkpointed { step, path } => {
                self.line(&format!("step {step}: wrote {}", path.display()))
            }
            Event::Warning { message } => self.line(&format!("warning: {message}")),
            _ => {}
        }
    }
}

fn write_text(path: &Path, text: &str) -> Result<(), Error> {
    write_atomically(path, text.as_bytes()).map_err(Error::io(path))
}

/// The process's peak resident memory in bytes, on Linux.
fn peak_memory() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    line.split_whitespace()
        .nth(1)?
        .parse::<u64>()
        .ok()
        .map(|kib| kib * 1024)
}
