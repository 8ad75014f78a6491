//! Trains, evaluates, saves and reports: what is done once a run has its plan and its directory.

use super::{
    ALL_STEPS, FinishedRun, LOG, Opened, Planned, REPORT, RESULTS, Run,
    files::{remove_file, write_json, write_text},
    save::Ended,
    timed,
};
use crate::{
    Error, Plan, RunConfig,
    answers::{self, AnswerLog, Set},
    config,
    figures::Figures,
    gguf, length,
    log::{Log, Sampled, Sinks},
    memory,
    observer::Watching,
    processes::Communication,
    provenance::Provenance,
    recipe::{FinalEvaluation, Recipe},
    report::{self, Answered},
    results::Results,
    run_report::{COMMAND, Finished, History, command},
    tensorboard::EventFile,
};
use burn::module::AutodiffModule;
use rekindle_base::counted;
use rekindle_models::Model;
use rekindle_nn::TuneAutodiff;
use rekindle_train::{
    BestModel, Checkpoint, Choose, Event, Job, Metrics, Outcome, Sink, Stopped, TrainConfig,
    TrainError,
};
use std::time::Instant;

impl Run<'_> {
    /// Trains, evaluates, saves, reports.
    pub(super) fn drive<B: TuneAutodiff>(
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
        let seconds_before = match checkpoint {
            Some(_) => History::of(run).map_or(0.0, |history| history.seconds()),
            None => 0.0,
        };
        let mut timings = std::mem::take(&mut opened.timings);
        let log = self.answers_of_base(&opened.recipe, &model, done);
        let mut log = self.processes.agree(log)?;
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
        if opened.recipe.compares_with_base() {
            let clock = Instant::now();
            observer.note("evaluating the model before training, to compare with it");
            opened.recipe.take_base(&model.valid())?;
            timed(&mut timings, observer, "figures before training", clock);
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
        sinks.log.line(&format!("{COMMAND}{}", command()));
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
        let communication = Communication::of(self.processes, config, outcome.traffic);
        if let Some(communication) = &communication {
            observer.detail(&communication.words());
        }
        let mut events = sinks.tensorboard.take();

        let clock = Instant::now();
        let (steps, stopped) = (outcome.state.step, outcome.stopped);
        let saved_step = outcome.state.best.map(|best| best.step);
        let lost_best = outcome.state.lost.map(|best| best.step);
        let unjudged = saved_step.or(lost_best).is_none() && outcome.state.without_improvement > 0;
        let evaluated = saved_step == Some(steps);
        // The last is none that was chosen.
        let last = train_config.choose == Choose::Last && evaluated;
        let best_step = saved_step.filter(|_| !last);
        let model = best_model(outcome, &opened.recipe, device)?;
        let model = match opened.recipe.with_fitted_head(&model)? {
            Some(fitted) => fitted,
            None => model,
        };
        observer.note(match best_step {
            Some(_) => "evaluating the best checkpoint",
            None => "evaluating the model of the last step",
        });
        let FinalEvaluation {
            split,
            mut figures,
            mistakes,
            doubtful,
        } = opened.recipe.evaluate_finally(&model, evaluated)?;
        let loss = figures.scalars.iter().find(|scalar| scalar.key == "loss");
        if let Some(loss) = loss.filter(|loss| saved_step.is_none() && !loss.value.is_finite()) {
            // Without evaluations nobody has seen it before.
            return Err(Error::from(TrainError::NotFinite {
                step: steps,
                what: "loss after it",
                value: loss.value,
                last_checkpoint: Checkpoint::find(run)?.map_or(0, |newest| newest.state.step),
                learning_rate: train_config.learning_rate,
                batch: format!("the {split} set"),
            }));
        }
        let mut remarks = opened.recipe.remarks(opened.units)?;
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

        let unlearned = figures.guess.as_ref().filter(|guess| !guess.beaten);
        let advice = unlearned.map(|guess| match guess.is_perfect(config.task) {
            true => "the base model makes no mistake there: a larger or harder validation set would show more".into(),
            false => advice(config, plan, steps, train_config.epochs),
        });
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
            seconds: seconds_before + started.elapsed().as_secs_f64(),
            peak_memory: memory::peak(),
        };
        let history = History::of(run)?;
        let results = Results {
            run: &finished,
            config,
            plan,
            provenance: &provenance,
            validation: saved_step.and_then(|step| history.evaluation(step)),
            timings: &timings,
            communication,
        };
        let untold = |source: Error| Error::Untold {
            source: Box::new(source),
            run: self.dir.to_owned(),
            model: finished.final_dir.clone(),
        };
        write_json(&self.dir.join(RESULTS), &results.to_json()).map_err(untold)?;
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
        write_text(&finished.report_html, &page).map_err(untold)?;
        remove_file(&self.dir.join(length::ONGOING))?;
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

    fn interrupted(&self, step: u64) -> Error {
        Error::Interrupted {
            dir: self.dir.to_owned(),
            step,
        }
    }
}

/// Answers that the report shows.
#[derive(Default)]
struct ShownAnswers {
    /// To fixed prompts, at each evaluation.
    samples: Vec<Answered>,
    /// At the end, the furthest from the right ones.
    worst: Vec<Answered>,
}

/// The model that is evaluated and saved: of the best checkpoint, or as it is after the last step.
pub(crate) fn best_model<B: TuneAutodiff>(
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

/// What to change where a run learned nothing.
fn advice(config: &RunConfig, plan: &Plan, steps: u64, epochs: f64) -> String {
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
    let trained = counted(steps as usize, "step was", "steps were");
    if steps < ENOUGH && config.train.max_steps.is_some() {
        return format!("only {trained} trained: raise train.max_steps");
    }
    let usual_epochs = config.usual_epochs(plan.examples[0], plan.labels.len());
    if steps < ENOUGH && epochs < usual_epochs {
        return format!(
            "only {trained} trained: leave out --epochs; for so few examples {usual_epochs} epochs are the default"
        );
    }
    if rate < usual / 4.0 {
        return format!("the learning rate {rate:e} is low: try {usual:e} (train.learning_rate)");
    }
    if rate > usual * 4.0 {
        return format!("the learning rate {rate:e} is high: try {usual:e} (train.learning_rate)");
    }
    "see whether the examples say what the labels ask: are text and label the right columns, are labels mixed up? Then try another model or method".into()
}
