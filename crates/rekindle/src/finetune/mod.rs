//! A run from configuration to tuned model: open, plan, train, evaluate, save, report. The same for every task.

mod drive;
mod files;
mod opening;
mod planning;
mod save;

pub(crate) use drive::best_model;
pub(crate) use files::clear;
pub(crate) use opening::{find_model, open};
pub(crate) use planning::train_config;

use crate::{
    Error, Observer, Plan, RunConfig,
    backend::{OnBackend, on_device},
    config::{self, Override},
    figures::Figures,
    fingerprint::Fingerprint,
    inputs::Prepared,
    length::{self, Longer},
    log,
    plan::Memory,
    processes,
    recipe::Recipe,
    runs,
    task::Task,
    trial::{Cost, Evaluations},
};
use burn::tensor::backend::BackendTypes;
use files::{write_json, write_text};
use planning::make_plan;
use rekindle_hub::Resolved;
use rekindle_models::{HeadSpec, LoadReport, Pretrained, Problem};
use rekindle_nn::TuneAutodiff;
use rekindle_peft::LoraConfig;
use rekindle_train::{
    Checkpoint, Collective, Job, RunDir, TrainConfig, TrainError, truncate_metrics,
};
use std::{
    path::{Path, PathBuf},
    time::Instant,
};

/// Steps of a run of which metrics.jsonl and the report have every one.
const ALL_STEPS: u64 = 200;
/// The final figures, for programs.
pub(crate) const RESULTS: &str = "results.json";
/// The report's page.
const REPORT: &str = "report.html";
/// What happened, for people.
pub(crate) const LOG: &str = "log.txt";

/// A finished run.
#[derive(Debug, Clone)]
pub struct FinishedRun {
    /// What was learned.
    pub task: Task,
    /// The run directory.
    pub dir: PathBuf,
    /// The tuned model: an HF model directory, or a PEFT adapter directory.
    pub final_dir: PathBuf,
    /// The report's page.
    pub report_html: PathBuf,
    /// The figures of the best checkpoint on `split`.
    pub figures: Figures,
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
    /// What to change where it learned nothing.
    pub advice: Option<String>,
    /// Seconds in all; of a run that was resumed, with those of its steps before.
    pub seconds: f64,
    /// Peak memory of the process in bytes, where the system tells.
    pub peak_memory: Option<u64>,
}

/// Fine-tunes by a configuration, in a new run directory.
///
/// # Errors
/// Any mistake in configuration, data or model, each with its place; [`Error::Interrupted`] after an orderly stop.
pub fn finetune(config: &RunConfig, observer: &dyn Observer) -> Result<FinishedRun, Error> {
    finetune_into(config, Occupied::Refuse, observer)
}

/// What to do where the run directory holds a run already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Occupied {
    /// Nothing: the new run is refused.
    Refuse,
    /// A run of ours that was never finished is removed, once data and model of the new one are read and its plan is made.
    ReplaceUnfinished,
}

/// As [`finetune`], in a directory that may hold a run already.
///
/// # Errors
/// As [`finetune`]; and for a directory that holds a finished run, or what is not of a run.
pub fn finetune_into(
    config: &RunConfig,
    occupied: Occupied,
    observer: &dyn Observer,
) -> Result<FinishedRun, Error> {
    finetune_together(config, occupied, observer, &Collective::alone())?
        .ok_or_else(|| Error::Internal("a run without a result".into()))
}

/// As [`finetune_into`], by several processes that call it alike ([`Launch::join`](rekindle_train::Launch::join) finds them). The
/// first of them writes, and has the result; the others have `None`.
///
/// # Errors
/// As [`finetune_into`]. What went wrong in one process is an error in all; see [`Error::is_told_elsewhere`]. A process whose
/// error is not told elsewhere ends the others by [`Collective::abort`]: they may be waiting for it.
pub fn finetune_together(
    config: &RunConfig,
    occupied: Occupied,
    observer: &dyn Observer,
    processes: &Collective,
) -> Result<Option<FinishedRun>, Error> {
    start(config, Mode::New(occupied), observer, processes)
}

/// What [`finetune`] would do; nothing is written.
///
/// # Errors
/// As [`finetune`].
pub fn plan(config: &RunConfig, observer: &dyn Observer) -> Result<(), Error> {
    start(config, Mode::PlanOnly, observer, &Collective::alone()).map(drop)
}

fn start(
    config: &RunConfig,
    mode: Mode,
    observer: &dyn Observer,
    processes: &Collective,
) -> Result<Option<FinishedRun>, Error> {
    processes.agree(config.validate().map_err(Error::from))?;
    let config = with_the_day(with_absolute_paths(config.resolved()));
    let config = &processes::settings(config, processes)?;
    let dir = &config.output_dir();
    let run = Run {
        config,
        dir,
        mode,
        before: Vec::new(),
        observer,
        processes,
    };
    on_device(processes::device(config, processes), run)
}

/// Continues a run from its newest checkpoint, or from its start if it was stopped before the first, as if it had never
/// stopped. `None`, and nothing is changed, for a run that has been finished.
///
/// # Errors
/// As [`finetune`]; and when all checkpoints are broken, or data or model are not what they were.
pub fn resume(dir: &Path, observer: &dyn Observer) -> Result<Option<FinishedRun>, Error> {
    resume_longer(dir, &[], observer)
}

/// As [`resume`], with another number of epochs or steps: `longer` sets `train.epochs` or `train.max_steps`, and nothing
/// else. A finished run is trained on from its last checkpoint then. From there on the learning rate follows the schedule of the
/// new length.
///
/// # Errors
/// As [`resume`]; and for other settings, or a length that the run has behind it.
pub fn resume_longer(
    dir: &Path,
    longer: &[Override],
    observer: &dyn Observer,
) -> Result<Option<FinishedRun>, Error> {
    resume_together(dir, longer, observer, &Collective::alone())
}

/// As [`resume_longer`], by several processes, which need not be as many as before; see [`finetune_together`].
///
/// # Errors
/// As [`resume_longer`] and [`finetune_together`].
pub fn resume_together(
    dir: &Path,
    longer: &[Override],
    observer: &dyn Observer,
    processes: &Collective,
) -> Result<Option<FinishedRun>, Error> {
    let path = dir.join("config.toml");
    let there = path.is_file().then_some(()).ok_or_else(|| Error::ModelDir {
        path: dir.to_owned(),
        reason: "not a run directory: it holds no config.toml".into(),
        hint: "name the directory that `rekindle finetune` printed, runs/<name>".into(),
    });
    processes.agree(there)?;
    let nothing_to_do = || {
        observer.note(&format!(
            "{} is already finished: its figures are in {RESULTS} and {REPORT}, its model in final/; to train it further, add --epochs N",
            dir.display()
        ));
        Ok(None)
    };
    // Whatever settings it has: an older version may have written them.
    let finished = is_finished(dir);
    if processes.any(longer.is_empty() && finished)? {
        return nothing_to_do();
    }
    let settings = || {
        let was = RunConfig::load(Some(&path), &[])?;
        Ok::<_, Error>((length::changed(&was, longer)?, was))
    };
    let (config, was) = processes.agree(settings())?;
    if processes.any(config == was && finished)? {
        return nothing_to_do();
    }
    let before = length::before(dir, was, &config);
    let run = Run {
        before: processes.agree(before)?,
        config: &config,
        dir,
        mode: Mode::Resumed,
        observer,
        processes,
    };
    on_device(processes::device(&config, processes), run)
}

/// Whether everything that a run leaves is there, and is of its whole length. The report is written last.
pub(crate) fn is_finished(dir: &Path) -> bool {
    dir.join("final").is_dir()
        && dir.join(RESULTS).is_file()
        && dir.join(REPORT).is_file()
        && !dir.join(length::ONGOING).exists()
}

/// Paths made absolute, so that the run can be resumed from any directory.
fn with_absolute_paths(mut config: RunConfig) -> RunConfig {
    let absolute = |path: &Path| std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let data = &mut config.data;
    for path in [&mut data.train, &mut data.validation, &mut data.test]
        .into_iter()
        .flatten()
    {
        *path = absolute(path);
    }
    let named = |name: &str| absolute(Path::new(name)).to_string_lossy().into_owned();
    if Path::new(&config.model.name).exists() {
        config.model.name = named(&config.model.name);
    }
    if let Some(dataset) = &mut data.dataset
        && Path::new(dataset.as_str()).is_file()
    {
        *dataset = named(dataset);
    }
    config
}

/// The day on which the run begins, written down: a chat template may tell it, and a resumed run must render alike.
fn with_the_day(mut config: RunConfig) -> RunConfig {
    if config.task.kind().problem() == Problem::NextToken {
        config.data.date.get_or_insert_with(config::Date::today);
    }
    config
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Mode {
    New(Occupied),
    PlanOnly,
    Resumed,
}

struct Run<'a> {
    config: &'a RunConfig,
    dir: &'a Path,
    mode: Mode,
    /// What a run that was made longer may have been before, the likeliest first: its checkpoint is of one of these.
    before: Vec<RunConfig>,
    observer: &'a dyn Observer,
    /// Those that share the run.
    processes: &'a Collective,
}

/// A run that has its plan and its directory.
struct Planned<'a> {
    plan: &'a Plan,
    run: &'a RunDir,
    /// What is said of a run that is made longer.
    longer: Option<Longer>,
    started: Instant,
}

/// A run but for its model: what trains it, and what the plan, the report and the saved model say of it.
pub(crate) struct Opened<B: TuneAutodiff> {
    pub recipe: Recipe<B>,
    pub prepared: Prepared,
    pretrained: Pretrained,
    base: Resolved,
    /// What became of every tensor.
    loaded: LoadReport,
    head: HeadSpec,
    adapter: Option<(LoraConfig, Vec<String>)>,
    /// The method with its settings, in a line.
    method: String,
    /// Units of the backbone.
    pub units: usize,
    /// Parameters: all, and those that train.
    parameters: (usize, usize),
    /// Phases so far, in seconds.
    timings: Vec<(String, f64)>,
    /// Of examples and model: see [`rekindle_train::TrainState::fingerprint`].
    fingerprint: Fingerprint,
    /// Peak memory, estimated.
    memory: Memory,
}

impl OnBackend for Run<'_> {
    type Output = Option<FinishedRun>;

    fn run<B: TuneAutodiff>(
        self,
        device: &<B as BackendTypes>::Device,
    ) -> Result<Self::Output, Error> {
        let started = Instant::now();
        // What is wrong with the run directory is said before anything is read.
        let processes = self.processes;
        let held = match processes.leads() {
            true => self.look_at_directory(),
            false => Ok(None),
        };
        let held = processes.agree(held)?;
        let opened = open::<B>(self.config, self.observer, processes, device);
        let (opened, model) = processes.agree(opened)?;
        let fingerprint = opened.fingerprint.of(self.config);
        let train_config = train_config(self.config, &opened.prepared, &fingerprint);
        let mut plan = make_plan(self.config, self.dir, &opened, &train_config);
        plan.notes.extend(processes::note(processes, self.config));
        if self.mode == Mode::PlanOnly {
            let Opened {
                recipe, prepared, ..
            } = &opened;
            let evaluations = Evaluations {
                validation: prepared.validation.as_ref(),
                test: prepared.test.as_ref(),
                every: train_config.evaluate,
            };
            let cost = Cost::measure(recipe, &train_config, model, &prepared.train, &evaluations)?;
            // A whole model is there twice while it is saved.
            let saved = match opened.adapter {
                Some(_) => 0,
                None => opened.parameters.0 as u64,
            };
            let mut cost = cost.with_saved(saved);
            if recipe.keeps_features() {
                // A few steps do not decode all the pictures that are kept.
                cost.peak_memory = cost.peak_memory.map(|peak| peak.max(plan.memory));
            }
            plan.cost = Some(cost);
            self.observer.plan(&plan);
            return Ok(None);
        }
        self.observer.plan(&plan);
        let placed = match (held, self.mode) {
            (Some(held), _) => Ok(held),
            (None, Mode::New(Occupied::ReplaceUnfinished)) if processes.leads() => {
                self.replace().map(|run| (run, None))
            }
            (None, Mode::New(_)) if processes.leads() => {
                (RunDir::create(self.dir).map(|run| (run, None))).map_err(Error::from)
            }
            _ => self.follow_directory(),
        };
        let (run, checkpoint) = processes.agree(placed)?;
        let step = checkpoint
            .as_ref()
            .map_or(0, |checkpoint| checkpoint.state.step);
        processes::check_alike(processes, &fingerprint, step)?;
        let taken_up = match checkpoint {
            Some(checkpoint) => self.taken_up(checkpoint, &opened, &train_config),
            None => Ok((None, None)),
        };
        let (checkpoint, longer) = processes.agree(taken_up)?;
        if !processes.leads() {
            processes.agree(Ok::<_, Error>(()))?;
            let checkpoint = checkpoint.as_ref();
            let observer = self.observer;
            processes::follow(
                opened,
                model,
                &run,
                &train_config,
                checkpoint,
                observer,
                device,
            )?;
            return Ok(None);
        }
        let begun = self.begin(&run, checkpoint.as_ref(), longer.as_ref(), &plan);
        processes.agree(begun)?;
        let planned = Planned {
            plan: &plan,
            run: &run,
            longer,
            started,
        };
        let checkpoint = checkpoint.as_ref();
        let done = self.drive(opened, model, planned, &train_config, checkpoint, device);
        if let Err(error) = done.as_ref()
            && !matches!(error, Error::Interrupted { .. })
        {
            log::note_failure(&self.dir.join(LOG), error);
        }
        done.map(Some)
    }
}

impl Run<'_> {
    fn look_at_directory(&self) -> Result<Option<(RunDir, Option<Checkpoint>)>, Error> {
        match self.mode {
            Mode::PlanOnly => {
                if let Err(error) = RunDir::check_vacant(self.dir) {
                    let refused = format!("the run itself would be refused: {error}");
                    self.observer.note(&refused);
                }
                Ok(None)
            }
            Mode::New(occupied) => {
                match RunDir::check_vacant(self.dir) {
                    Err(TrainError::Exists { .. }) if occupied == Occupied::ReplaceUnfinished => {
                        RunDir::check_replaceable(self.dir)?;
                        match RunDir::is_held(self.dir) {
                            true => Err(TrainError::InUse {
                                path: self.dir.to_owned(),
                            }),
                            false => Ok(()),
                        }
                    }
                    other => other,
                }?;
                Ok(None)
            }
            Mode::Resumed => {
                let run = RunDir::open(self.dir)?;
                let checkpoint = Checkpoint::find(&run)?;
                Ok(Some((run, checkpoint)))
            }
        }
    }

    /// The directory that the process that leads holds, and the checkpoint in it.
    fn follow_directory(&self) -> Result<(RunDir, Option<Checkpoint>), Error> {
        let run = RunDir::follow(self.dir);
        let checkpoint = match self.mode {
            Mode::Resumed => Checkpoint::find(&run)?,
            _ => None,
        };
        Ok((run, checkpoint))
    }

    /// A new directory, in the place of a run that was never finished if there is one.
    fn replace(&self) -> Result<RunDir, Error> {
        if RunDir::check_vacant(self.dir).is_ok() {
            return Ok(RunDir::create(self.dir)?);
        }
        let state = runs::state_of(self.dir);
        self.observer.note(&format!(
            "replacing the run in {}, which is not finished ({state})",
            self.dir.display()
        ));
        Ok(RunDir::replace(self.dir)?)
    }

    /// The checkpoint as one of this run. If it is of the run before this was made longer, it gets the new length.
    fn taken_up<B: TuneAutodiff>(
        &self,
        checkpoint: Checkpoint,
        opened: &Opened<B>,
        now: &TrainConfig,
    ) -> Result<(Option<Checkpoint>, Option<Longer>), Error> {
        for was in &self.before {
            let fingerprint = opened.fingerprint.of(was);
            if fingerprint == now.fingerprint || checkpoint.state.fingerprint != fingerprint {
                continue;
            }
            let longer = Longer {
                was: was.clone(),
                steps: checkpoint.state.total_steps,
                done: checkpoint.state.step,
            };
            let was = train_config(was, &opened.prepared, &fingerprint);
            let batches = |epoch| opened.recipe.batches(epoch);
            let checkpoint = checkpoint.with_length(&was, now, batches)?;
            return Ok((Some(checkpoint), Some(longer)));
        }
        checkpoint.belongs_to(now)?;
        Ok((Some(checkpoint), None))
    }

    /// Writes what a new run begins with, or takes back what a resumed one will do again.
    fn begin(
        &self,
        run: &RunDir,
        checkpoint: Option<&Checkpoint>,
        longer: Option<&Longer>,
        plan: &Plan,
    ) -> Result<(), Error> {
        let done = checkpoint.map_or(0, |checkpoint| checkpoint.state.step);
        // The checkpoint is that of the run before: what that was is written first, so that none is without its settings.
        if let Some(longer) = longer {
            write_text(&self.dir.join(length::BEFORE), &longer.was.to_toml())?;
        }
        if !self.before.is_empty() {
            // With it the run is no longer finished; its results stay until there are others.
            write_text(&self.dir.join(length::ONGOING), "")?;
            write_text(&run.config(), &self.config.to_toml())?;
            write_json(&self.dir.join("plan.json"), plan)?;
        }
        if let Some(checkpoint) = checkpoint {
            for broken in &checkpoint.passed_over {
                let passed_over = format!("passed over a broken checkpoint: {broken}");
                self.observer.note(&passed_over);
            }
            self.observer.note(&format!(
                "resuming after step {done} of {}",
                checkpoint.state.total_steps
            ));
        } else {
            match self.mode {
                Mode::Resumed => self.observer.note(
                    "the run was stopped before its first checkpoint: starting from its first step",
                ),
                _ => write_text(&run.config(), &self.config.to_toml())?,
            }
            write_json(&self.dir.join("plan.json"), plan)?;
        }
        Ok(truncate_metrics(&run.metrics(), done)?)
    }
}

/// Notes how long a phase took, for the report and for who asks.
fn timed(
    timings: &mut Vec<(String, f64)>,
    observer: &dyn Observer,
    phase: impl Into<String>,
    clock: Instant,
) {
    let (phase, seconds) = (phase.into(), clock.elapsed().as_secs_f64());
    observer.detail(&format!("{phase}: {seconds:.2} s"));
    timings.push((phase, seconds));
}
