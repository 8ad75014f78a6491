//! From a finished run to the report's page: its history, where it came from, and paths as people read them.

use crate::{
    Error, FinishedRun, Plan, RunConfig, data_summary,
    inputs::Prepared,
    provenance::Provenance,
    report::{Answered, EvalPoint, Mistake, Report, TrainPoint},
};
use rekindle_base::words::bytes;
use rekindle_base::{shell_words, thousands};
use rekindle_models::Pretrained;
use rekindle_train::{Event, RunDir, TrainConfig, read_metrics};
use std::path::Path;

/// The history of a run as the report charts it.
#[derive(Default)]
pub(crate) struct History {
    train: Vec<TrainPoint>,
    evaluations: Vec<EvalPoint>,
    warnings: Vec<String>,
    resumed_at: Vec<u64>,
}

impl History {
    /// From `metrics.jsonl`.
    ///
    /// # Errors
    /// When it cannot be read.
    pub(crate) fn of(run: &RunDir) -> Result<Self, Error> {
        let mut history = Self::default();
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
                } => history.train.push(TrainPoint {
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
                } => history.evaluations.push(EvalPoint {
                    step,
                    epoch,
                    split: "validation".into(),
                    figures: evaluation.metrics,
                }),
                // A run that was stopped twice may say a thing twice.
                Event::Warning { message } if !history.warnings.contains(&message) => {
                    history.warnings.push(message);
                }
                Event::Resumed { step } => history.resumed_at.push(step),
                _ => {}
            }
        }
        history.resumed_at.dedup();
        Ok(history)
    }

    /// The evaluation after a step.
    pub(crate) fn evaluation(&self, step: u64) -> Option<&EvalPoint> {
        self.evaluations.iter().find(|point| point.step == step)
    }
}

/// What the page shows beside the history.
pub(crate) struct Finished<'a> {
    pub run: &'a FinishedRun,
    pub config: &'a RunConfig,
    pub train_config: &'a TrainConfig,
    pub plan: &'a Plan,
    pub provenance: &'a Provenance,
    pub prepared: &'a Prepared,
    pub pretrained: &'a Pretrained,
    /// Wrong answers; where there are none, right ones that were unsure.
    pub mistakes: Vec<Mistake>,
    pub doubtful: Vec<Mistake>,
    /// Of a language model, answers to fixed prompts, and the worst at the end.
    pub samples: Vec<Answered>,
    pub worst_answers: Vec<Answered>,
    /// What was said after training.
    pub remarks: Vec<String>,
    pub timings: Vec<(String, f64)>,
}

impl Finished<'_> {
    pub(crate) fn report(self, history: History) -> Report {
        let (config, plan, run) = (self.config, self.plan, self.run);
        let machine = &self.provenance.machine;
        let name = run.dir.file_name();
        let schedule = schedule(self.train_config, plan.steps, run.steps);
        let mut report = Report {
            title: name.map_or_else(String::new, |name| name.to_string_lossy().into_owned()),
            task: config.task.name().to_owned(),
            model: plan.model.clone(),
            method: plan.method.clone(),
            dataset: plan.dataset.clone(),
            facts: self.facts(),
            command: command(),
            seconds: run.seconds,
            warnings: history.warnings,
            notes: plan.notes.clone(),
            train: history.train,
            schedule,
            lifted_by: self.lifted_by(),
            evaluations: history.evaluations,
            best_step: run.best_step,
            resumed_at: history.resumed_at,
            watched: plan.watched.clone(),
            final_split: run.split.clone(),
            figures: run.figures.clone(),
            data: Some(self.data()),
            mistakes: self.mistakes,
            doubtful: self.doubtful,
            samples: self.samples,
            worst_answers: self.worst_answers,
            config_toml: config.to_toml(),
            timings: self.timings,
            parameters: (plan.parameters as u64, plan.trainable as u64),
            environment: Vec::new(),
        };
        report.environment = vec![
            ("rekindle".to_owned(), env!("CARGO_PKG_VERSION").to_owned()),
            ("device".into(), plan.device.clone()),
            ("threads".into(), machine.threads.to_string()),
            ("memory, estimated".into(), bytes(plan.memory)),
        ];
        let known = [
            ("memory, peak", run.peak_memory.map(bytes)),
            ("CPU", machine.cpu.clone()),
            ("CPU features", Some(machine.cpu_features.join(", "))),
        ];
        let known = known.into_iter().filter_map(|(name, value)| {
            let value = value.filter(|value| !value.is_empty())?;
            Some((name.to_owned(), value))
        });
        report.environment.extend(known);
        report.notes.extend(self.remarks);
        report.notes.extend(run.advice.clone());
        if let Ok(here) = std::env::current_dir() {
            report.make_relative(&here);
        }
        report
    }

    /// What tells this run from others.
    fn facts(&self) -> Vec<(String, String)> {
        let [train, validation, test] = self.plan.examples.map(|n| thousands(n as u64));
        let mut facts = vec![
            ("date", crate::config::Date::today().to_string()),
            ("seed", self.config.seed.to_string()),
            ("model revision", self.provenance.model.short()),
            (
                "examples",
                format!("{train} train, {validation} validation, {test} test"),
            ),
        ];
        facts.extend(self.provenance.machine.cpu.clone().map(|cpu| ("CPU", cpu)));
        let owned = facts.into_iter();
        owned
            .map(|(name, value)| (name.to_owned(), value))
            .collect()
    }

    fn data(&self) -> crate::report::DataSummary {
        let mut data = data_summary::summary(self.prepared);
        let files = self.provenance.data.iter();
        data.files = files
            .map(|file| {
                let path = file.path.display().to_string();
                let hash = file.sha256.clone().unwrap_or_default();
                (file.split.to_owned(), path, hash)
            })
            .collect();
        data
    }

    /// What makes the loss in training greater than that of the same model in evaluation.
    fn lifted_by(&self) -> Vec<String> {
        let train = &self.config.train;
        let mut causes = Vec::new();
        if train.label_smoothing > 0.0 {
            causes.push(format!("label smoothing {}", train.label_smoothing));
        }
        if drops_out(self.config, self.pretrained) {
            causes.push("dropout".to_owned());
        }
        if self.config.images.mixup + self.config.images.cutmix > 0.0 {
            causes.push("mixed pictures".to_owned());
        }
        causes
    }
}

/// The command line, the program by its name alone.
fn command() -> String {
    let mut words: Vec<String> = std::env::args().collect();
    if let Some(program) = words.first_mut()
        && let Some(name) = Path::new(program.as_str()).file_name()
    {
        *program = name.to_string_lossy().into_owned();
    }
    shell_words(words)
}

/// Whether anything is dropped out in training.
fn drops_out(config: &RunConfig, pretrained: &Pretrained) -> bool {
    /// Rates in a `config.json` of transformers.
    const RATES: [&str; 8] = [
        "hidden_dropout_prob",
        "attention_probs_dropout_prob",
        "dropout",
        "attention_dropout",
        "resid_pdrop",
        "embd_pdrop",
        "attn_pdrop",
        "classifier_dropout",
    ];
    let model = pretrained.config();
    if model.text.is_none() {
        return false;
    }
    let of_adapter =
        config.peft.lora_dropout > 0.0 && config.peft.method == crate::config::Method::Lora;
    let positive = |key: &&str| model.raw().get(*key).and_then(|rate| rate.as_f64()) > Some(0.0);
    let of_model = match config.model.dropout {
        Some(rate) => rate > 0.0,
        None => RATES.iter().any(positive),
    };
    // A frozen encoder runs as in evaluation.
    of_adapter || of_model && config.peft.method != crate::config::Method::Head
}

/// The learning rate of every step that was done, or of as many as a chart can show, with those where its course changes.
fn schedule(train: &TrainConfig, planned: u64, done: u64) -> Vec<(u64, f64)> {
    const MOST: u64 = 400;
    let warmup = train.warmup.steps(planned);
    let every = done.div_ceil(MOST).max(1);
    let mut steps: Vec<u64> = (1..=done)
        .step_by(every as usize)
        .chain([warmup, warmup + 1, done])
        .filter(|step| (1..=done).contains(step))
        .collect();
    steps.sort_unstable();
    steps.dedup();
    let rate = |step: u64| train.learning_rate * train.schedule.factor(step - 1, warmup, planned);
    steps.into_iter().map(|step| (step, rate(step))).collect()
}

impl Report {
    /// Paths below a folder as they are seen from there.
    fn make_relative(&mut self, here: &Path) {
        if here.parent().is_none() {
            return;
        }
        let here = format!("{}{}", here.display(), std::path::MAIN_SEPARATOR);
        let shorten = |text: &mut String| *text = text.replace(&here, "");
        let places = self.mistakes.iter_mut().chain(&mut self.doubtful);
        places.for_each(|mistake| shorten(&mut mistake.place));
        let answers = self.samples.iter_mut().chain(&mut self.worst_answers);
        answers.for_each(|answered| shorten(&mut answered.place));
        let texts = self.notes.iter_mut().chain(&mut self.warnings);
        texts.for_each(&shorten);
        [&mut self.model, &mut self.dataset, &mut self.command]
            .into_iter()
            .for_each(&shorten);
        let files = self.data.iter_mut().flat_map(|data| &mut data.files);
        files.for_each(|(_, path, _)| shorten(path));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rekindle_train::{BestMetric, Every, OptimizerConfig, Schedule, Warmup};

    fn train_config(warmup: u64) -> TrainConfig {
        TrainConfig {
            epochs: 1.0,
            max_steps: None,
            gradient_accumulation_steps: 1,
            shards: None,
            learning_rate: 2e-3,
            schedule: Schedule::Linear,
            warmup: Warmup::Steps(warmup),
            optimizer: OptimizerConfig {
                beta1: 0.9,
                beta2: 0.999,
                epsilon: 1e-8,
                weight_decay: 0.0,
            },
            max_grad_norm: 1.0,
            seed: 0,
            evaluate: Every::Never,
            checkpoint_every: None,
            keep: 1,
            best: BestMetric {
                name: "loss".into(),
                higher_is_better: false,
            },
            choose: rekindle_train::Choose::Best,
            early_stopping: None,
            average_decay: None,
            fingerprint: String::new(),
        }
    }

    #[test]
    fn the_schedule_has_every_step_of_a_short_run_and_the_corners_of_a_long_one() {
        let short = schedule(&train_config(2), 10, 10);
        let steps: Vec<u64> = short.iter().map(|(step, _)| *step).collect();
        assert_eq!(steps, (1..=10).collect::<Vec<_>>());
        assert!((short[0].1 - 2e-3 / 3.0).abs() < 1e-12);
        assert_eq!(short[2], (3, 2e-3));
        let long = schedule(&train_config(377), 100_000, 50_000);
        assert!(long.len() < 500, "{}", long.len());
        assert!(long.contains(&(378, 2e-3)), "the peak is missing");
        assert_eq!(long.last().map(|(step, _)| *step), Some(50_000));
        assert!(long.windows(2).all(|pair| pair[0].0 < pair[1].0));
    }
}
