//! A run from configuration to tuned model: open, plan, train, evaluate, save, report. The same for every task.

use crate::{
    Error, Observer, Plan, RunConfig,
    answers::{self, AnswerLog, Set},
    backend::{OnBackend, described, free_memory, on_device},
    config::{self, DataSource, Override},
    figures::{Figures, Watched},
    fingerprint::Fingerprint,
    gguf,
    inputs::{self, Prepared},
    length::{self, Longer},
    located::{end_of_run, find_on_hub},
    log::{self, Log, Sampled, Sinks},
    memory,
    model_card::{self, Card},
    observer::Watching,
    plan::{Memory, Sizes},
    provenance::Provenance,
    recipe::{FinalEvaluation, Recipe},
    report::{self, Answered},
    results::Results,
    run_report::{Finished, History},
    runs,
    saved::{KeptSettings, Saved, SavedModel},
    task::{Modality, Task},
    tasks,
    tensorboard::EventFile,
    trial::{Cost, Evaluations},
    tuning::{self, Tuned},
};
use burn::{module::AutodiffModule, tensor::backend::BackendTypes};
use rekindle_base::write_atomically;
use rekindle_hub::{Hub, Resolved, Source};
use rekindle_models::{HeadSpec, LoadReport, Model, Pretrained, Problem, Reads};
use rekindle_nn::{TuneAutodiff, ops::Precision, params};
use rekindle_peft::LoraConfig;
use rekindle_train::{
    BestMetric, BestModel, Checkpoint, EarlyStopping, Event, Every, Job, Metrics, OptimizerConfig,
    Outcome, RunDir, Schedule, Sink, Stopped, TrainConfig, TrainError, Warmup, truncate_metrics,
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
    start(config, Mode::New(occupied), observer)?
        .ok_or_else(|| Error::Internal("a run without a result".into()))
}

/// What [`finetune`] would do; nothing is written.
///
/// # Errors
/// As [`finetune`].
pub fn plan(config: &RunConfig, observer: &dyn Observer) -> Result<(), Error> {
    start(config, Mode::PlanOnly, observer).map(drop)
}

fn start(
    config: &RunConfig,
    mode: Mode,
    observer: &dyn Observer,
) -> Result<Option<FinishedRun>, Error> {
    config.validate()?;
    let config = &with_the_day(with_absolute_paths(config.resolved()));
    let dir = &config.output_dir();
    let run = Run {
        config,
        dir,
        mode,
        before: Vec::new(),
        observer,
    };
    on_device(config.device, run)
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
    let path = dir.join("config.toml");
    if !path.is_file() {
        return Err(Error::ModelDir {
            path: dir.to_owned(),
            reason: "not a run directory: it holds no config.toml".into(),
            hint: "name the directory that `rekindle finetune` printed, runs/<name>".into(),
        });
    }
    let nothing_to_do = || {
        observer.note(&format!(
            "{} is already finished: its figures are in {RESULTS} and {REPORT}, its model in final/; to train it further, add --epochs N",
            dir.display()
        ));
        Ok(None)
    };
    // Whatever settings it has: an older version may have written them.
    if longer.is_empty() && is_finished(dir) {
        return nothing_to_do();
    }
    let was = RunConfig::load(Some(&path), &[])?;
    let config = &length::changed(&was, longer)?;
    if *config == was && is_finished(dir) {
        return nothing_to_do();
    }
    let run = Run {
        config,
        dir,
        mode: Mode::Resumed,
        before: length::before(dir, was, config)?,
        observer,
    };
    on_device(config.device, run)
}

/// Whether everything that a run leaves is there. The report is written last.
pub(crate) fn is_finished(dir: &Path) -> bool {
    dir.join("final").is_dir() && dir.join(RESULTS).is_file() && dir.join(REPORT).is_file()
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
    units: usize,
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
        let held = self.look_at_directory()?;
        let (opened, model) = open::<B>(self.config, self.observer, device)?;
        let examples = opened.prepared.train.len();
        let fingerprint = opened.fingerprint.of(self.config);
        let train_config = train_config(self.config, examples, &fingerprint);
        let mut plan = make_plan(self.config, self.dir, &opened, &train_config);
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
            plan.cost = Some(cost.with_saved(saved));
            self.observer.plan(&plan);
            return Ok(None);
        }
        self.observer.plan(&plan);
        let (run, checkpoint) = match (held, self.mode) {
            (Some(held), _) => held,
            (None, Mode::New(Occupied::ReplaceUnfinished)) => (self.replace()?, None),
            (None, _) => (RunDir::create(self.dir)?, None),
        };
        let (checkpoint, longer) = match checkpoint {
            Some(checkpoint) => self.taken_up(checkpoint, &opened, &train_config)?,
            None => (None, None),
        };
        self.begin(&run, checkpoint.as_ref(), longer.as_ref(), &plan)?;
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
        let examples = opened.prepared.train.len();
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
            let was = train_config(was, examples, &fingerprint);
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
            // Without them the run is no longer finished.
            [REPORT, RESULTS]
                .iter()
                .try_for_each(|name| remove_file(&self.dir.join(name)))?;
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

    /// Trains, evaluates, saves, reports.
    fn drive<B: TuneAutodiff>(
        &self,
        mut opened: Opened<B>,
        model: Model<B>,
        planned: Planned<'_>,
        train_config: &TrainConfig,
        checkpoint: Option<&Checkpoint>,
        device: &B::Device,
    ) -> Result<FinishedRun, Error> {
        let (config, observer) = (self.config, self.observer);
        let Planned {
            plan,
            run,
            longer,
            started,
        } = planned;
        let clock = Instant::now();
        let done = checkpoint.map_or(0, |checkpoint| checkpoint.state.step);
        let mut timings = std::mem::take(&mut opened.timings);
        let mut log = self.answers_of_base(&opened.recipe, &model, done)?;
        if log.is_some() {
            timed(&mut timings, observer, "answers of the base model", clock);
        }

        // A checkpoint is taken up later: a resumed run compares with the same model.
        let clock = Instant::now();
        let compared = opened.recipe.compared();
        if compared > 0 {
            let noun = opened.prepared.noun;
            observer.note(&format!(
                "asking the model before training about {compared} {noun}s"
            ));
            opened.recipe.take_reference(&model.valid())?;
            let phase = "log-probabilities before training";
            timed(&mut timings, observer, phase, clock);
        }
        let clock = Instant::now();
        let provenance = Provenance::of(
            config,
            &opened.base,
            &opened.pretrained,
            &plan.model,
            &opened.prepared.files,
        )?;
        timed(&mut timings, observer, "hash model and data", clock);
        let every = config.train.log_every_steps as u64;
        // A short run is drawn step by step.
        let drawn = if plan.steps <= ALL_STEPS { 1 } else { every };
        let mut sinks = Sinks {
            metrics: Metrics::open(&run.metrics(), drawn)?,
            log: Log::open(&self.dir.join(LOG), every, &plan.best_by)?,
            observer: Watching(observer),
            answers: match (&mut log, opened.recipe.answering()) {
                (Some(log), Some(answering)) => Some(Sampled {
                    log,
                    answering,
                    take: &|| opened.recipe.take_sampled(),
                }),
                _ => None,
            },
            tensorboard: match config.report.tensorboard {
                true => Some(EventFile::make(self.dir, &run.metrics())?),
                false => None,
            },
        };
        sinks.log.line(&format!("{plan}"));
        if let Some(longer) = longer {
            sinks.event(&Event::Warning {
                message: longer.words(plan.steps),
            });
        }
        let clock = Instant::now();
        let outcome = rekindle_train::train(
            &opened.recipe,
            model,
            train_config,
            run,
            checkpoint,
            &mut sinks,
            &|| observer.stop(),
            device,
        )?;
        if outcome.stopped == Stopped::Interrupted {
            return Err(self.interrupted(outcome.state.step));
        }
        timed(&mut timings, observer, "train, with evaluations", clock);
        let mut events = sinks.tensorboard.take();

        let clock = Instant::now();
        let (steps, stopped) = (outcome.state.step, outcome.stopped);
        let best_step = outcome.state.best.map(|best| best.step);
        let lost_best = outcome.state.lost.map(|best| best.step);
        let unjudged = best_step.or(lost_best).is_none() && outcome.state.without_improvement > 0;
        let model = best_model(outcome, &opened.recipe, device)?;
        observer.note(match best_step {
            Some(_) => "evaluating the best checkpoint",
            None => "evaluating the model of the last step",
        });
        let evaluated = best_step == Some(steps);
        let FinalEvaluation {
            split,
            mut figures,
            mistakes,
            doubtful,
        } = opened.recipe.evaluate_finally(&model, evaluated)?;
        let mut remarks = opened.recipe.remarks(opened.units);
        if unjudged {
            let metric = &train_config.best.name;
            remarks.push(format!(
                "warning: {metric} was not a finite number in any evaluation, so that no checkpoint is the best by it: the model of the last step, {steps}, is saved; another eval.metric can tell, such as loss"
            ));
        }
        if opened.adapter.is_some() && gguf::is_unpacked(&opened.base.dir) {
            remarks.push(format!(
                "for PEFT, the base model of this adapter is AutoModelForCausalLM.from_pretrained(\"{}\", gguf_file=\"{}\"), as adapter_config.json says; what `rekindle merge` writes needs no base",
                opened.base.dir.display(),
                gguf::WEIGHTS
            ));
        }
        timed(
            &mut timings,
            observer,
            format!("evaluate on {split}"),
            clock,
        );

        let clock = Instant::now();
        let mut shown = ShownAnswers::default();
        if let Some(log) = &mut log {
            let step = best_step.unwrap_or(steps);
            shown = self.answers_of_tuned(&opened.recipe, &model, step, log, &mut figures)?;
            timed(
                &mut timings,
                observer,
                format!("answer prompts of {split}"),
                clock,
            );
        }

        remarks.iter().for_each(|remark| observer.note(remark));
        let clock = Instant::now();
        if let Some(events) = &mut events {
            events.figures(best_step.unwrap_or(steps), &figures);
        }
        let final_dir = run.final_dir();
        let ended = Ended {
            plan,
            provenance: &provenance,
            figures: &figures,
            split,
            steps,
            best_step,
        };
        self.save(&opened, &model, &ended, &final_dir)?;
        timed(&mut timings, observer, "save model", clock);

        let learned = figures.guess.as_ref().is_none_or(|guess| guess.beaten);
        let advice = (!learned).then(|| advice(config, steps, train_config.epochs));
        let finished = FinishedRun {
            task: config.task,
            dir: self.dir.to_owned(),
            final_dir,
            report_html: self.dir.join(REPORT),
            figures,
            split: split.to_owned(),
            best_step,
            lost_best,
            steps,
            stopped_early: stopped == Stopped::Early,
            advice,
            seconds: started.elapsed().as_secs_f64(),
            peak_memory: memory::peak(),
        };
        let history = History::of(run)?;
        let results = Results {
            run: &finished,
            config,
            plan,
            provenance: &provenance,
            validation: best_step.and_then(|step| history.evaluation(step)),
            timings: &timings,
        };
        write_json(&self.dir.join(RESULTS), &results.to_json())?;
        let page = Finished {
            run: &finished,
            config,
            train_config,
            plan,
            provenance: &provenance,
            prepared: &opened.prepared,
            pretrained: &opened.pretrained,
            mistakes,
            doubtful,
            samples: shown.samples,
            worst_answers: shown.worst,
            remarks,
            timings,
        };
        let page = report::render(&page.report(history));
        write_text(&finished.report_html, &page)?;
        Ok(finished)
    }

    /// What the base model answers, before the first step; from the file where an earlier try has it. `None` where nothing is
    /// asked.
    fn answers_of_base<B: TuneAutodiff>(
        &self,
        recipe: &Recipe<B>,
        model: &Model<B>,
        done: u64,
    ) -> Result<Option<AnswerLog>, Error> {
        let Some(answering) = recipe.answering() else {
            return Ok(None);
        };
        let mut log = AnswerLog::open(&self.dir.join(answers::FILE), done, answering)?;
        if log.base_is_there {
            return Ok(Some(log));
        }
        self.observer
            .note("the base model answers, to compare with it");
        let base = model.valid();
        let begin = recipe.sessions(&base);
        for (set, asked) in answering.asked_of_base() {
            let answers = answering.answer(&begin, asked, &|| self.observer.stop())?;
            let answers = answers.ok_or_else(|| self.interrupted(done))?;
            log.add(0, set, asked, &answers);
        }
        Ok(Some(log))
    }

    /// What the tuned model answers, added to its figures beside what the base model did.
    fn answers_of_tuned<B: TuneAutodiff>(
        &self,
        recipe: &Recipe<B>,
        model: &Model<B::InnerBackend>,
        step: u64,
        log: &mut AnswerLog,
        figures: &mut Figures,
    ) -> Result<ShownAnswers, Error> {
        let Some(answering) = recipe.answering() else {
            return Ok(ShownAnswers::default());
        };
        let asked = &answering.last;
        let base = log.said(Set::Last, asked.len());
        let base: Vec<&str> = base
            .iter()
            .flatten()
            .map(|said| said.text.as_str())
            .collect();
        let base = (!base.is_empty()).then(|| answers::figures(asked, base));
        if !asked.is_empty() {
            self.observer.note("answering prompts");
            let begin = recipe.sessions(model);
            let answers = answering.answer(&begin, asked, &|| self.observer.stop())?;
            let answers = answers.ok_or_else(|| self.interrupted(step))?;
            log.add(step, Set::Last, asked, &answers);
            answering.add_to(figures, &answers, base);
        }
        let samples = answering.samples.iter();
        let said = log.said(Set::Sample, answering.samples.len());
        Ok(ShownAnswers {
            samples: samples
                .zip(said)
                .map(|(asked, said)| answers::answered(asked, said))
                .collect(),
            worst: answers::worst(
                asked,
                &log.said(Set::Last, asked.len()),
                self.config.report.mistakes,
            ),
        })
    }

    /// The card of the model that lies in `folder`.
    fn card<B: TuneAutodiff>(
        &self,
        opened: &Opened<B>,
        ended: &Ended<'_>,
        mean_pooling: bool,
        folder: &Path,
    ) -> String {
        let base = opened.adapter.as_ref().map(|(lora, _)| lora);
        let tokenizer = std::fs::read_to_string(folder.join("tokenizer_config.json"));
        let card = Card {
            config: self.config,
            plan: ended.plan,
            provenance: ended.provenance,
            base: &opened.base,
            base_of_adapter: base.and_then(|lora| lora.base_model_name_or_path.as_deref()),
            gguf: gguf::is_unpacked(&opened.base.dir).then_some(gguf::WEIGHTS),
            mean_pooling,
            chat_template: folder.join("chat_template.jinja").is_file()
                || tokenizer.is_ok_and(|text| text.contains("\"chat_template\"")),
            max_length: opened.prepared.max_length,
            figures: ended.figures,
            split: ended.split,
            steps: ended.steps,
            best_step: ended.best_step,
        };
        card.text()
    }

    fn interrupted(&self, step: u64) -> Error {
        Error::Interrupted {
            dir: self.dir.to_owned(),
            step,
        }
    }

    /// Saves the model aside first: a full disk must not leave half a model under the name of a whole one.
    fn save<B: TuneAutodiff>(
        &self,
        opened: &Opened<B>,
        model: &Model<B::InnerBackend>,
        ended: &Ended<'_>,
        final_dir: &Path,
    ) -> Result<(), Error> {
        let aside = self.dir.join(".final");
        let scaled;
        let model = match opened.recipe.objective().scale() {
            None => model,
            Some(scale) => {
                scaled = model
                    .clone()
                    .with_scaled_output(&scale.factors, &scale.offsets);
                &scaled
            }
        };
        let what = SavedModel {
            config: opened.pretrained.config(),
            dir: opened.pretrained.dir(),
            head: &opened.head,
            adapter: opened.adapter.as_ref().map(|(lora, _)| lora),
            picture_size: opened.prepared.picture_size,
            added_tokens: &self.config.model.add_tokens,
        };
        let adapter = opened.adapter.is_some();
        let saved = Saved {
            rekindle: env!("CARGO_PKG_VERSION").into(),
            task: self.config.task.when_tuned().name().to_owned(),
            labels: opened.head.labels.clone(),
            max_length: opened.prepared.max_length,
            pooling: crate::saved::pooling_name(model.reads()),
            thresholds: opened.recipe.objective().thresholds().to_vec(),
            base_model: adapter.then(|| self.config.model.name.clone()),
            kept: KeptSettings::of(self.config, opened.prepared.columns.clone()),
        };
        let written = clear(&aside)
            .and_then(|()| std::fs::create_dir_all(&aside).map_err(Error::io(&aside)))
            .and_then(|()| what.write(model, &aside))
            .and_then(|()| saved.write(&aside))
            .and_then(|()| {
                let mean_pooling = self.config.task.modality() == Modality::Text
                    && self.config.task.kind().problem() != Problem::NextToken
                    && saved.pooling != crate::saved::pooling_name(Reads::First);
                let card = self.card(opened, ended, mean_pooling, &aside);
                write_text(&aside.join(model_card::FILE), &card)
            })
            .and_then(|()| clear(final_dir))
            .and_then(|()| std::fs::rename(&aside, final_dir).map_err(Error::io(final_dir)));
        if written.is_err() {
            let _ = clear(&aside);
        }
        written
    }
}

/// What a run ended with, for the card of its model.
struct Ended<'a> {
    plan: &'a Plan,
    provenance: &'a Provenance,
    figures: &'a Figures,
    split: &'a str,
    steps: u64,
    best_step: Option<u64>,
}

/// Answers that the report shows.
#[derive(Default)]
struct ShownAnswers {
    /// To fixed prompts, at each evaluation.
    samples: Vec<Answered>,
    /// At the end, the furthest from the right ones.
    worst: Vec<Answered>,
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

/// The model that is evaluated and saved: of the best checkpoint, or as it is after the last step.
fn best_model<B: TuneAutodiff>(
    outcome: Outcome<B, Model<B>>,
    recipe: &Recipe<B>,
    device: &B::Device,
) -> Result<Model<B::InnerBackend>, Error> {
    let names = recipe.names();
    Ok(match (&outcome.best, &outcome.average) {
        (BestModel::Checkpoint { path, .. }, _) => {
            rekindle_train::restore_best(outcome.model, path, names, device)?.valid()
        }
        (BestModel::Last { .. }, Some(average)) => average.model(&outcome.model, names),
        (BestModel::Last { .. }, None) => outcome.model.valid(),
    })
}

/// Finds and reads everything, and loads the model.
pub(crate) fn open<B: TuneAutodiff>(
    config: &RunConfig,
    observer: &dyn Observer,
    device: &B::Device,
) -> Result<(Opened<B>, Model<B>), Error> {
    let precision = precision::<B>(config)?;
    let hub = Hub::from_env();
    let mut timings = Vec::new();
    // Before anything is loaded.
    let free = free_memory(config.device);
    let clock = Instant::now();
    let base = find_model(&config.model.name, &hub, observer)?;
    let pretrained = inputs::with_added_tokens(config, Pretrained::open(&base.dir)?)?;
    let pretrained = match config.model.quantized {
        true => {
            let mut whole = config.peft.modules_to_save.clone();
            if !config.model.add_tokens.is_empty() {
                whole.extend(pretrained.vocabulary());
            }
            pretrained.keeping_blocks(whole)
        }
        false => pretrained,
    };
    timed(&mut timings, observer, "find model", clock);

    let clock = Instant::now();
    observer.detail(&match config.data_source() {
        DataSource::Dataset(name) => format!("examples of the dataset {name}"),
        DataSource::Files { train, .. } => format!("examples of {}", train.display()),
    });
    let prepared = inputs::prepare(config, &pretrained, &hub, observer)?;
    timed(&mut timings, observer, "read and encode data", clock);

    let clock = Instant::now();
    let encoder = prepared.encoder.clone();
    let objective = tasks::train::<B>(config, encoder, prepared.train.targets());
    let tuned = tuning::load::<B>(config, &base, &pretrained, objective.as_ref(), device)?;
    timed(&mut timings, observer, "load model", clock);

    let mut fingerprint = Fingerprint::new();
    let sets = [
        Some(&prepared.train),
        prepared.validation.as_ref(),
        prepared.test.as_ref(),
    ];
    for set in sets.into_iter().flatten() {
        set.add_to(&mut fingerprint);
    }
    fingerprint.add_model(&pretrained)?;
    let Tuned {
        model,
        loaded,
        head,
        adapter,
        method,
    } = tuned;
    let (parameters, trainable) = params::count(&model);
    let packed = loaded.packed;
    let (units, frozen) = (model.units(), model.frozen_units());
    let asked = config.train.gradient_checkpointing;
    // A packed map to the vocabulary is unpacked for each step.
    let output = model.output_weight();
    let sizes = Sizes {
        parameters,
        trainable,
        packed,
        unpacked: match output.parameter() {
            Some(_) => 0,
            None => output.dims().iter().product(),
        },
    };
    let memory = (prepared.footprint).memory(sizes, frozen, asked, free);
    let saves = memory.gradient_checkpointing;
    let recipe = Recipe::new(
        config, &prepared, objective, &model, precision, saves, device,
    );
    let opened = Opened {
        memory,
        fingerprint,
        recipe,
        prepared,
        pretrained,
        base,
        loaded,
        head,
        adapter,
        method,
        units,
        parameters: (parameters + packed, trainable),
        timings,
    };
    Ok((opened, model))
}

/// Finds a model's directory, or takes a file of weights as it is; a GGUF file is unpacked.
pub(crate) fn find_model(
    name: &str,
    hub: &Hub,
    observer: &dyn Observer,
) -> Result<Resolved, Error> {
    let path = Path::new(name);
    if path.is_file() {
        return Ok(Resolved {
            dir: gguf::unpacked(hub, path)?,
            source: Source::Path,
            name: name.to_owned(),
            revision: None,
        });
    }
    let mut found = find_on_hub(name, hub, observer)?;
    if found.source == Source::Path && found.dir.join("config.toml").is_file() {
        found.dir = of_run(&found.dir)?;
    }
    found.dir = gguf::unpacked(hub, &found.dir)?;
    observer.detail(&format!(
        "model {name}: {} ({})",
        found.dir.display(),
        found.source
    ));
    Ok(found)
}

/// The precision asked for.
///
/// # Errors
/// When it is not fast on this machine.
fn precision<B: TuneAutodiff>(config: &RunConfig) -> Result<Precision, Error> {
    let precision = match config.train.precision {
        config::Precision::F32 => Precision::F32,
        config::Precision::Bf16 => Precision::Bf16,
    };
    match B::tune_is_fast(precision) {
        true => Ok(precision),
        false => Err(Error::Setting {
            reason: format!(
                "train.precision = \"{}\", but this CPU has no instructions that are fast at it (AMX, or AMD's avx512_bf16)",
                config.train.precision
            ),
            hint: "set it to \"f32\", or leave it out".into(),
        }),
    }
}

pub(crate) fn train_config(config: &RunConfig, examples: usize, fingerprint: &str) -> TrainConfig {
    let train = &config.train;
    TrainConfig {
        epochs: config.epochs(examples),
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
            name: config.metric().name().to_owned(),
            higher_is_better: config.metric().higher_is_better(),
        },
        early_stopping: config
            .eval
            .early_stopping_patience
            .map(|patience| EarlyStopping {
                patience: patience as u32,
                min_delta: config.eval.early_stopping_min_delta,
            }),
        average_decay: train.ema_decay,
        fingerprint: fingerprint.to_owned(),
    }
}

fn make_plan<B: TuneAutodiff>(
    config: &RunConfig,
    dir: &Path,
    opened: &Opened<B>,
    train: &TrainConfig,
) -> Plan {
    let Opened {
        recipe,
        prepared,
        base,
        ..
    } = opened;
    let (parameters, trainable) = opened.parameters;
    let batches = recipe.batches(0);
    let steps = train.total_steps(batches);
    let model_files = match (&opened.adapter, config.task.modality()) {
        (Some(_), _) => "final/ (an adapter for PEFT)",
        (None, Modality::Text) => "final/ (a model for transformers)",
        (None, Modality::Images) => "final/ (a model for timm)",
    };
    let writes = [
        "config.toml",
        "plan.json",
        "metrics.jsonl",
        "log.txt",
        answers::FILE,
        "checkpoints/",
        model_files,
        RESULTS,
        REPORT,
        "tensorboard/",
    ];
    let epochs = match train.max_steps {
        Some(_) => steps as f64 / batches.max(1) as f64,
        None => train.epochs,
    };
    let layers = opened.adapter.as_ref().map(|(_, layers)| layers.clone());
    let objective = recipe.objective();
    let examples = |set: Option<usize>| set.unwrap_or(0);
    Plan {
        model: match &base.source {
            Source::Path => config.model.name.clone(),
            _ => base.name.clone(),
        },
        model_dir: base.dir.clone(),
        loaded: opened.loaded.summary(),
        method: opened.method.clone(),
        adapted_layers: layers.unwrap_or_default(),
        parameters,
        trainable,
        dataset: prepared.name.clone(),
        answers: objective.described_as(),
        labels: opened.head.labels.clone(),
        examples: [
            prepared.train.len(),
            examples(prepared.validation.as_ref().map(|set| set.len())),
            examples(prepared.test.as_ref().map(|set| set.len())),
        ],
        inputs: prepared.sizes.clone(),
        examples_per_step: config.train.batch_size * config.train.gradient_accumulation_steps,
        steps,
        warmup_steps: train.warmup.steps(steps),
        epochs: (epochs * 100.0).round() / 100.0,
        learning_rate: format!(
            "{:e}, {}",
            train.learning_rate,
            config.train.schedule.name()
        ),
        memory: opened.memory.bytes,
        cost: None,
        gradient_checkpointing: opened.memory.gradient_checkpointing,
        device: match config.train.precision {
            config::Precision::F32 => described(config.device),
            precision => format!("{}, trained in {precision}", config.device),
        },
        output_dir: dir.to_owned(),
        writes: writes
            .into_iter()
            .filter(|&name| match name {
                answers::FILE => recipe.answering().is_some(),
                "tensorboard/" => config.report.tensorboard,
                _ => true,
            })
            .map(str::to_owned)
            .collect(),
        best_by: best_by(config, &objective.watched()),
        watched: objective.watched(),
        notes: (prepared.notes.iter().cloned())
            .chain(opened.memory.note())
            .chain(warmup_note(train, steps))
            .chain(new_tokens_note(config, steps))
            .collect(),
    }
}

/// A word where new tokens have little time to become something.
fn new_tokens_note(config: &RunConfig, steps: u64) -> Option<String> {
    const FEW: u64 = 100;
    let added = config.model.add_tokens.len();
    (added > 0 && steps < FEW).then(|| {
        format!(
            "new tokens begin as the mean of the others: {steps} steps may be too few to learn them; raise train.epochs where answers go astray"
        )
    })
}

/// A word where less is warmup than was asked for.
fn warmup_note(train: &TrainConfig, steps: u64) -> Option<String> {
    let (wanted, warmup) = (train.warmup.wanted(steps), train.warmup.steps(steps));
    // Of a run of a step or two that is nobody's wish.
    (warmup < wanted && wanted > 1).then(|| {
        format!(
            "{wanted} steps of warmup were asked for; of {steps} steps {warmup} are, half the run"
        )
    })
}

/// The figure that makes a checkpoint the best, as people read it.
fn best_by(config: &RunConfig, watched: &[Watched]) -> String {
    let key = config.metric().name();
    let named = watched.iter().find(|figure| figure.key == key);
    named.map_or_else(|| key.replace('_', " "), |figure| figure.name.clone())
}

/// What a run ended with, as a model to tune further.
fn of_run(run: &Path) -> Result<PathBuf, Error> {
    let last = end_of_run(run)?;
    match last.join("adapter_config.json").is_file() {
        false => Ok(last),
        true => Err(Error::ModelDir {
            path: run.to_owned(),
            reason: "a run that ended with an adapter".into(),
            hint: format!(
                "merge it first: rekindle merge {} --to DIR, then name DIR",
                run.display()
            ),
        }),
    }
}

/// Removes a file, if it is there.
fn remove_file(path: &Path) -> Result<(), Error> {
    match std::fs::remove_file(path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(Error::io(path)(e)),
        _ => Ok(()),
    }
}

/// Removes a folder, if it is there.
pub(crate) fn clear(folder: &Path) -> Result<(), Error> {
    match std::fs::remove_dir_all(folder) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(Error::io(folder)(e)),
        _ => Ok(()),
    }
}

/// What to change where a run learned nothing.
fn advice(config: &RunConfig, steps: u64, epochs: f64) -> String {
    /// Steps in which a small set is learned.
    const ENOUGH: u64 = 200;
    let usual = RunConfig {
        train: config::TrainConfig {
            learning_rate: None,
            ..config.train.clone()
        },
        ..config.clone()
    };
    let (rate, usual) = (config.learning_rate(), usual.learning_rate());
    if steps < ENOUGH && config.train.max_steps.is_some() {
        return format!("only {steps} steps were trained: raise train.max_steps");
    }
    if steps < ENOUGH {
        let epochs = (epochs * ENOUGH as f64 / steps.max(1) as f64).ceil();
        return format!("only {steps} steps were trained: try --epochs {epochs}");
    }
    if rate < usual / 4.0 {
        return format!("the learning rate {rate:e} is low: try {usual:e} (train.learning_rate)");
    }
    if rate > usual * 4.0 {
        return format!("the learning rate {rate:e} is high: try {usual:e} (train.learning_rate)");
    }
    "see whether the examples say what the labels ask: are text and label the right columns, are labels mixed up? Then try another model or method".into()
}

fn write_json(path: &Path, value: &impl serde::Serialize) -> Result<(), Error> {
    let json = serde_json::to_string_pretty(value).map_err(|e| Error::Internal(e.to_string()))?;
    write_text(path, &json)
}

fn write_text(path: &Path, text: &str) -> Result<(), Error> {
    write_atomically(path, text.as_bytes()).map_err(Error::io(path))
}
