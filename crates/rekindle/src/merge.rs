//! An adapter merged into its base: a plain model directory, with the largest difference that it makes on real inputs.

use crate::{
    Error, Observer, RunConfig,
    backend::{OnBackend, on_device},
    classifier::{Located, load, locate},
    config::Device,
    data, evaluation, saved,
};
use burn::tensor::backend::{AutodiffBackend, BackendTypes};
use rekindle_data::EncodedSet;
use rekindle_models::bert::{BertConfig, Pooling};
use rekindle_nn::TuneAutodiff;
use std::path::{Path, PathBuf};

/// What a merge did.
#[derive(Debug, Clone)]
pub struct Merged {
    /// The model directory written.
    pub dir: PathBuf,
    /// The largest difference of any logit before and after.
    pub largest_difference: f32,
    /// On how many texts.
    pub texts: usize,
    /// Where those came from.
    pub source: String,
}

/// Texts of everyday length, for adapters that come without their data.
const SAMPLES: [&str; 4] = [
    "The package arrived two days late and the box was damaged, but the lamp itself works fine.",
    "how do i change my password",
    "Shares fell sharply on Tuesday after the company lowered its forecast for the second time this year.",
    "An unremarkable film, saved by one very good performance.",
];

/// Merges an adapter (a run directory or an adapter directory) into its base and writes a model directory. The difference
/// is measured on `inputs`, else on the run's own validation or training file, else on a few sample texts.
///
/// # Errors
/// When the directory holds no adapter, or the target exists and is not empty.
pub fn merge(
    path: &Path,
    to: &Path,
    inputs: Option<&Path>,
    device: Device,
    observer: &dyn Observer,
) -> Result<Merged, Error> {
    const MOST: usize = 256;
    let located = locate(path, observer)?;
    if located.adapter.is_none() {
        return Err(Error::ModelDir {
            path: path.to_owned(),
            reason: "there is no adapter to merge: this is a whole model already".into(),
            hint: "use it as it is".into(),
        });
    }
    if to
        .read_dir()
        .is_ok_and(|mut entries| entries.next().is_some())
    {
        return Err(Error::ModelDir {
            path: to.to_owned(),
            reason: "the target directory is not empty".into(),
            hint: "name a new one with --to".into(),
        });
    }
    let (encoder, _) = data::encoder(
        &located.tokenizer,
        located.max_length,
        located.config.max_position_embeddings,
        located.config.vocab_size,
    )?;
    let run_file = path.join("config.toml");
    let config = if run_file.is_file() {
        RunConfig::load(Some(&run_file), &[])?
    } else {
        RunConfig::default()
    };
    let own = config.data.validation.clone().or(config.data.train.clone());
    let (set, source) = match inputs.map(Path::to_owned).or(own) {
        Some(file) => {
            let (mut examples, _) = data::read_unlabelled(&file, &config, observer)?;
            examples.truncate(MOST);
            (
                encoder.encode_examples(&examples, None)?,
                file.display().to_string(),
            )
        }
        None => {
            let items = SAMPLES
                .iter()
                .map(|text| encoder.encode(text, None))
                .collect::<Result<_, _>>()?;
            (
                EncodedSet {
                    items,
                    labels: Vec::new(),
                },
                "sample texts".into(),
            )
        }
    };
    let largest_difference = on_device(
        device,
        Merge {
            located: &located,
            set: &set,
            to,
        },
    )?;
    saved::copy_tokenizer(&located.tokenizer, to)?;
    Ok(Merged {
        dir: to.to_owned(),
        largest_difference,
        texts: set.len(),
        source,
    })
}

struct Merge<'a> {
    located: &'a Located,
    set: &'a EncodedSet,
    to: &'a Path,
}

impl OnBackend for Merge<'_> {
    type Output = f32;

    fn run<B: TuneAutodiff>(self, device: &<B as BackendTypes>::Device) -> Result<f32, Error> {
        const BATCH: usize = 32;
        let model = load::<<B as AutodiffBackend>::InnerBackend>(self.located, device)?;
        let before = evaluation::logits(&model, self.set, BATCH, device)?;
        let model = rekindle_peft::merge(model);
        let after = evaluation::logits(&model, self.set, BATCH, device)?;
        let config = BertConfig {
            labels: self.located.labels.clone(),
            mean_pooling: model.pooling() == Pooling::Mean,
            ..self.located.config.clone()
        };
        model.save_pretrained(self.to, &config)?;
        Ok(before.largest_difference(&after))
    }
}
