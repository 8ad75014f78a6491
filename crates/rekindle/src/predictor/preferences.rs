//! The evaluation of a language model on preferences: how often it prefers the chosen answer, as the run that learned them counts it.
//! What it was before it was tuned is compared with, where that is known: the base of an adapter, or the model that a run began with.

use super::{Evaluated, Predictor};
use crate::{
    Error, Observer, RunConfig,
    config::PreferenceLoss,
    examples::{on_bad, read_set},
    finetune::find_model,
    inputs::{Inputs, preferences::Preferences, with_added_tokens},
    loaded::{Loaded, load},
    located::locate,
    predictions,
    task::Task,
    tasks,
};
use rekindle_data::chat::{ChatEncoder, Preference};
use rekindle_hub::Hub;
use rekindle_models::Pretrained;
use std::{path::Path, sync::Arc};

/// What a run was told.
const RUN_FILE: &str = "config.toml";

impl Predictor {
    /// Evaluates on a file of preferences, by the settings `[preference]` of the run.
    pub(super) fn evaluate_preferences(
        &self,
        path: &Path,
        encoder: &ChatEncoder,
        each: bool,
        config: &RunConfig,
        observer: &dyn Observer,
    ) -> Result<Evaluated, Error> {
        let read = read_set::<Vec<Preference>>(path, config, &self.kept.columns, &[])?;
        let mut notes = read.notes;
        let own = self.run_settings()?;
        let mut settings = own
            .clone()
            .filter(|own| own.task == Task::TextPreference)
            .unwrap_or_else(|| RunConfig::for_task(Task::TextPreference));
        let judged = |row: &Preference| matches!(row, Preference::Judged { .. });
        if settings.preference.loss != PreferenceLoss::Kto && read.set.iter().all(judged) {
            settings.preference.loss = PreferenceLoss::Kto;
        }
        let loss = settings.preference.loss;
        let block = settings.train.batch_size;
        let pairs = Preferences::encode(read.set, encoder, loss, block, on_bad(config))?;
        notes.extend(pairs.left_out());
        let mut set: Arc<dyn Inputs> = Arc::new(pairs);
        if set.wants_reference() {
            match self.before_tuning(own.as_ref(), observer)? {
                Some(before) => {
                    observer.note("asking the model before tuning, to compare with it");
                    let scored = before.score(&set, config.eval.batch_size)?;
                    set = set.with_reference(&scored.logits).unwrap_or(set);
                }
                None => notes.push(
                    "warning: what this model was before it was tuned is not known: rewards are its own log-probabilities, not their change; a run or an adapter tells"
                        .to_owned(),
                ),
            }
        }
        notes.iter().for_each(|note| observer.note(note));
        let objective = tasks::preference(&settings);
        let scored = self.model.score(&set, config.eval.batch_size)?;
        if !scored.logits.are_numbers() {
            return Err(super::no_numbers());
        }
        let targets = scored.targets(set.as_ref());
        let objective = objective.as_ref();
        Ok(Evaluated {
            figures: objective.figures(&scored.logits, &targets),
            mistakes: scored.mistakes(set.as_ref(), objective, &targets, config.report.mistakes),
            worst_answers: Vec::new(),
            predictions: match each {
                true => predictions::lines(&scored, set.as_ref(), objective, &targets),
                false => Vec::new(),
            },
            notes,
        })
    }

    /// The settings of the run that the model is of; `None` of what is no run.
    fn run_settings(&self) -> Result<Option<RunConfig>, Error> {
        let file = self.origin.join(RUN_FILE);
        match file.is_file() {
            true => Ok(Some(RunConfig::load(Some(&file), &[])?)),
            false => Ok(None),
        }
    }

    /// The model before it was tuned.
    fn before_tuning(
        &self,
        run: Option<&RunConfig>,
        observer: &dyn Observer,
    ) -> Result<Option<Box<dyn Loaded>>, Error> {
        let mut located = locate(&self.origin, observer)?;
        if located.adapter.take().is_none() {
            let Some(run) = run else { return Ok(None) };
            let found = find_model(&run.model.name, &Hub::from_env(), observer)?;
            located.pretrained = with_added_tokens(run, Pretrained::open(&found.dir)?)?;
        }
        Ok(Some(load(
            &located.keeping_blocks(self.device),
            self.device,
        )?))
    }
}
