//! `final/`: the tuned model with its tokenizer and its card.

use super::{
    Opened, Run,
    files::{clear, write_text},
};
use crate::{
    Error, Plan,
    figures::Figures,
    fingerprint::weights_digest,
    model_card::{self, BaseName, Card, Loading, PicturesLoading},
    provenance::Provenance,
    saved::{KeptSettings, Saved, SavedModel},
    sentence::SentenceFiles,
    task::{Kind, Modality},
};
use rekindle_models::{Model, Problem, Reads};
use rekindle_nn::TuneAutodiff;
use std::path::Path;

impl Run<'_> {
    /// The card of the model that lies in `folder`.
    fn card<B: TuneAutodiff>(
        &self,
        opened: &Opened<B>,
        ended: &Ended<'_>,
        mean_pooling: bool,
        folder: &Path,
    ) -> String {
        let base = BaseName::of(&opened.base);
        let card = Card {
            loading: Loading {
                task: self.config.task,
                base_of_adapter: opened.adapter.as_ref().map(|_| &base),
                labels: opened.head.labels.len(),
                pairs: self.config.data.text_pair.is_some(),
                mean_pooling,
                chat_template: model_card::has_chat_template(folder),
                added_tokens: !self.config.model.add_tokens.is_empty(),
                max_length: opened.prepared.max_length,
                pictures: PicturesLoading::of(opened.pretrained.config()),
            },
            base: base.clone(),
            config: self.config,
            plan: ended.plan,
            provenance: ended.provenance,
            figures: ended.figures,
            split: ended.split,
            steps: ended.steps,
            best_step: ended.best_step,
        };
        card.text()
    }

    /// Saves the model aside first: a full disk must not leave half a model under the name of a whole one.
    pub(super) fn save<B: TuneAutodiff>(
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
            by_words: opened.prepared.by_words,
            sentence: match self.config.task.kind() {
                Kind::Embedding => Some(
                    SentenceFiles::read(opened.pretrained.dir())?
                        .with(model.reads(), opened.prepared.max_length),
                ),
                _ => None,
            },
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
            base_weights: match adapter {
                true => Some(weights_digest(&opened.pretrained)?),
                false => None,
            },
            kept: KeptSettings::of(
                self.config,
                opened.prepared.by_words,
                opened.prepared.columns.clone(),
                opened.prepared.picture_size.filter(|_| adapter),
            ),
        };
        let written = clear(&aside)
            .and_then(|()| std::fs::create_dir_all(&aside).map_err(Error::io(&aside)))
            .and_then(|()| what.write(model, &aside))
            .and_then(|()| saved.write(&aside))
            .and_then(|()| {
                let mean_pooling = self.config.task.modality() == Modality::Text
                    && !matches!(
                        self.config.task.kind().problem(),
                        Problem::NextToken | Problem::Embedding
                    )
                    && !opened.pretrained.config().transformers_reads_means()
                    && saved.pooling == crate::saved::pooling_name(Reads::Mean);
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
pub(super) struct Ended<'a> {
    pub plan: &'a Plan,
    pub provenance: &'a Provenance,
    pub figures: &'a Figures,
    pub split: &'a str,
    pub steps: u64,
    pub best_step: Option<u64>,
}
