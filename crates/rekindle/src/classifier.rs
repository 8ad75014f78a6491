//! A tuned classifier, loaded back: from a run directory, a directory that transformers or PEFT wrote, or a hub name.

use crate::{
    Error, Observer, RunConfig,
    backend::{OnBackend, on_device},
    config::{Device, ImagesConfig},
    data,
    evaluation::{self, Logits, argmax, probabilities},
    images::{self, Pictures},
    report::Mistake,
    saved::Saved,
};
use burn::tensor::backend::{AutodiffBackend, BackendTypes};
use rekindle_data::{
    EncodedSet, Example, LabelMap, OnBad, TextEncoder,
    image::{Augment, ImageBatch, ImageLoader, ImageSet, Preprocess, read_images},
    prefetch,
};
use rekindle_hub::Hub;
use rekindle_metrics::{CalibrationReport, ClassificationReport};
use rekindle_models::{
    Checkpoint,
    bert::{BertClassifier, BertConfig, Head, NAMES, Pooling},
    image::{ImageClassifier, ImageConfig, ImageHead, read_image_config},
};
use rekindle_nn::{TuneAutodiff, TuneBackend, host::ReadError};
use rekindle_weights::WeightFiles;
use serde::Serialize;
use std::path::{Path, PathBuf};

/// Examples predicted together.
const BATCH: usize = 64;

/// What the classifier says of one text or picture.
#[derive(Debug, Clone, Serialize)]
pub struct Prediction {
    /// The label with the highest probability.
    pub label: String,
    /// That probability, in [0, 1].
    pub probability: f64,
    /// Every label's probability, in the order of the model's labels.
    pub probabilities: Vec<(String, f64)>,
}

/// An evaluation on a labelled file.
#[derive(Debug, Clone)]
pub struct Evaluated {
    /// All figures.
    pub report: ClassificationReport,
    /// Top-5 accuracy and calibration error.
    pub calibration: CalibrationReport,
    /// The wrong predictions with the highest loss.
    pub mistakes: Vec<Mistake>,
    /// Label names by id.
    pub labels: Vec<String>,
    /// Rows left out and the like.
    pub notes: Vec<String>,
}

/// A model with its labels and what makes its input, on a device.
pub struct Classifier {
    model: Model,
    labels: LabelMap,
    /// Whether the labels are numbers for want of names.
    nameless: bool,
    batch_size: usize,
}

/// What a classifier takes.
enum Model {
    Texts {
        model: Box<dyn Forward>,
        encoder: Box<TextEncoder>,
    },
    Pictures {
        model: Box<dyn ForwardPictures>,
        preprocess: Preprocess,
    },
}

/// An image model of any backend.
trait ForwardPictures {
    fn logits(&self, batch: &ImageBatch) -> Result<Vec<f32>, ReadError>;
}

impl<B: TuneBackend> ForwardPictures for Pictures<B> {
    fn logits(&self, batch: &ImageBatch) -> Result<Vec<f32>, ReadError> {
        self.logits(batch)
    }
}

/// A model of any backend.
trait Forward {
    fn logits(&self, set: &EncodedSet, batch_size: usize) -> Result<Logits, ReadError>;
}

struct OnDevice<B: TuneBackend> {
    model: BertClassifier<B>,
    device: B::Device,
}

impl<B: TuneBackend> Forward for OnDevice<B> {
    fn logits(&self, set: &EncodedSet, batch_size: usize) -> Result<Logits, ReadError> {
        evaluation::logits(&self.model, set, batch_size, &self.device)
    }
}

/// The parts of a saved classifier, found but not loaded.
pub(crate) struct Located {
    /// The directory of base weights and `config.json`.
    pub base: PathBuf,
    /// The adapter's directory, if it is one.
    pub adapter: Option<PathBuf>,
    /// Where tokenizer files lie.
    pub tokenizer: PathBuf,
    pub config: BertConfig,
    pub labels: Vec<String>,
    pub max_length: usize,
    pub pooling: Option<Pooling>,
}

/// The directory of a saved classifier (or its file of weights): of a run, what it ended with.
fn find(path: &Path, observer: &dyn Observer) -> Result<PathBuf, Error> {
    if path.is_file() {
        return Ok(path.to_owned());
    }
    Ok(if path.is_dir() {
        let last = path.join("final");
        if path.join("config.toml").is_file() && !last.is_dir() {
            return Err(Error::ModelDir {
                path: path.to_owned(),
                reason: "the run is not finished: it has no final/ yet".into(),
                hint: format!("continue it: rekindle finetune --resume {}", path.display()),
            });
        }
        if last.is_dir() { last } else { path.to_owned() }
    } else {
        Hub::from_env()
            .model(&path.to_string_lossy(), observer.downloads())?
            .dir
    })
}

/// Finds what belongs to a saved text classifier.
pub(crate) fn locate(path: &Path, observer: &dyn Observer) -> Result<Located, Error> {
    const DEFAULT_LENGTH: usize = 512;
    let hub = Hub::from_env();
    let dir = find(path, observer)?;
    let saved = Saved::read(&dir)?;
    let pooling = saved.as_ref().map(|s| {
        if s.pooling == "mean" {
            Pooling::Mean
        } else {
            Pooling::Cls
        }
    });
    let length = saved.as_ref().map_or(DEFAULT_LENGTH, |s| s.max_length);

    if dir.join("adapter_config.json").is_file() {
        let adapter = rekindle_peft::read_config(&dir)?;
        if !dir.join("adapter_model.safetensors").is_file() {
            return Err(Error::ModelDir {
                path: dir,
                reason: "the adapter's tensors are missing: expected adapter_model.safetensors".into(),
                hint: "copy the whole adapter directory; a .bin file becomes safetensors by PEFT's save_pretrained".into(),
            });
        }
        let name = saved
            .as_ref()
            .and_then(|s| s.base_model.clone())
            .or(adapter.base_model_name_or_path)
            .ok_or_else(|| Error::ModelDir {
                path: dir.clone(),
                reason: "the adapter does not say which base model it is for".into(),
                hint: "write base_model_name_or_path into its adapter_config.json".into(),
            })?;
        let base = hub.model(&name, observer.downloads())?.dir;
        let config = BertConfig::read(&base)?;
        let labels = match &saved {
            Some(saved) => saved.labels.clone(),
            None => head_labels(
                &WeightFiles::open(&dir.join("adapter_model.safetensors"))?,
                &dir,
                "base_model.model.classifier.weight",
                &config,
            )?,
        };
        let tokenizer = if has_tokenizer(&dir) {
            dir.clone()
        } else {
            base.clone()
        };
        return Ok(Located {
            base,
            adapter: Some(dir),
            tokenizer,
            config,
            labels,
            max_length: length,
            pooling,
        });
    }
    if !dir.join("config.json").is_file() {
        return Err(Error::ModelDir {
            path: dir,
            reason: "expected a run, model or adapter directory, found neither config.json nor adapter_config.json".into(),
            hint: "name the directory that `rekindle finetune` printed, or one that save_pretrained wrote".into(),
        });
    }
    let config = BertConfig::read(&dir)?;
    let labels = if !config.labels.is_empty() {
        config.labels.clone()
    } else {
        let weights = Checkpoint::open(&dir)?;
        head_labels(weights.files(), &dir, "classifier.weight", &config)?
    };
    Ok(Located {
        base: dir.clone(),
        adapter: None,
        tokenizer: dir,
        config,
        labels,
        max_length: length,
        pooling,
    })
}

/// Label names for a head that has none of its own: the configuration's if their number fits, else `LABEL_0` and so on, as
/// transformers names them.
fn head_labels(
    files: &WeightFiles,
    dir: &Path,
    tensor: &str,
    config: &BertConfig,
) -> Result<Vec<String>, Error> {
    let Some(classes) = files.shape(tensor).and_then(|shape| shape.first().copied()) else {
        return Err(Error::ModelDir {
            path: dir.to_owned(),
            reason: format!("there is no classification head: tensor `{tensor}` is missing"),
            hint: "this is a base model; tune it first: rekindle finetune --set model.name=..."
                .into(),
        });
    };
    if config.labels.len() == classes {
        return Ok(config.labels.clone());
    }
    Ok((0..classes).map(|i| format!("LABEL_{i}")).collect())
}

/// A model that lacks its head and nothing else is a base model.
fn headless(error: rekindle_models::ModelError) -> Error {
    match error {
        rekindle_models::ModelError::Missing { path, names }
            if names.iter().all(|name| name.starts_with("classifier.")) =>
        {
            Error::ModelDir {
                path,
                reason: format!(
                    "there is no classification head: tensor `{}` is missing",
                    names[0]
                ),
                hint: "this is a base model; tune it first: rekindle finetune --set model.name=..."
                    .into(),
            }
        }
        other => other.into(),
    }
}

fn has_tokenizer(dir: &Path) -> bool {
    dir.join("tokenizer.json").is_file() || dir.join("vocab.txt").is_file()
}

/// Loads a located classifier onto a backend.
pub(crate) fn load<B: TuneBackend>(
    located: &Located,
    device: &B::Device,
) -> Result<BertClassifier<B>, Error> {
    let head = Head {
        labels: located.labels.clone(),
        pooling: located.pooling,
        seed: 0,
        require: located.adapter.is_none(),
    };
    let (model, report) =
        BertClassifier::<B>::from_pretrained(&located.base, &located.config, &head, device)
            .map_err(headless)?;
    let Some(adapter) = &located.adapter else {
        return Ok(model);
    };
    let (model, config) =
        rekindle_peft::load(model, adapter, &["classifier", "score"], NAMES, device)?;
    // What the base lacks, the adapter must have brought.
    if let Some((name, _)) = report
        .initialised
        .iter()
        .find(|(name, _)| !rekindle_peft::is_saved(name, &config))
    {
        return Err(Error::ModelDir {
            path: adapter.clone(),
            reason: format!("neither the base model nor the adapter holds `{name}`"),
            hint: "the adapter was saved without its head; save it with modules_to_save = [\"classifier\"]".into(),
        });
    }
    Ok(model)
}

struct Open<'a>(&'a Located);

impl OnBackend for Open<'_> {
    type Output = Box<dyn Forward>;

    fn run<B: TuneAutodiff>(
        self,
        device: &<B as BackendTypes>::Device,
    ) -> Result<Self::Output, Error> {
        let model = load::<<B as AutodiffBackend>::InnerBackend>(self.0, device)?;
        Ok(Box::new(OnDevice {
            model,
            device: device.clone(),
        }))
    }
}

struct OpenPictures<'a> {
    dir: &'a Path,
    config: &'a ImageConfig,
    names: &'a [String],
}

impl OnBackend for OpenPictures<'_> {
    type Output = Box<dyn ForwardPictures>;

    fn run<B: TuneAutodiff>(
        self,
        device: &<B as BackendTypes>::Device,
    ) -> Result<Self::Output, Error> {
        let head = ImageHead {
            labels: self.names.to_vec(),
            seed: 0,
            require: true,
        };
        let (model, _) = ImageClassifier::from_pretrained(self.dir, self.config, &head, device)?;
        Ok(Box::new(Pictures::<<B as AutodiffBackend>::InnerBackend> {
            model,
            device: device.clone(),
        }))
    }
}

impl Classifier {
    /// Loads a run directory, a model directory, a PEFT adapter directory, or a hub name.
    ///
    /// # Errors
    /// When something is missing or does not fit; the message names it.
    pub fn open(path: &Path, device: Device, observer: &dyn Observer) -> Result<Self, Error> {
        let dir = find(path, observer)?;
        if images::is_model(&dir) {
            return Self::open_pictures(&dir, device);
        }
        let located = locate(path, observer)?;
        let (encoder, note) = data::encoder(
            &located.tokenizer,
            located.max_length,
            located.config.max_position_embeddings,
            located.config.vocab_size,
        )?;
        // A default length above the model's own is nothing to report.
        drop(note);
        let model = on_device(device, Open(&located))?;
        Ok(Self {
            model: Model::Texts {
                model,
                encoder: Box::new(encoder),
            },
            labels: LabelMap::from_names(located.labels)?,
            nameless: false,
            batch_size: BATCH,
        })
    }

    /// Loads an image model. A head without names has its classes numbered from 0.
    fn open_pictures(dir: &Path, device: Device) -> Result<Self, Error> {
        let config = read_image_config(dir)?;
        if config.classes == 0 {
            return Err(Error::ModelDir {
                path: dir.to_owned(),
                reason: "there is no classification head".into(),
                hint: "this is a base model; tune it first: rekindle finetune --set task=image-classification".into(),
            });
        }
        let nameless = config.labels.is_empty();
        let names = match nameless {
            true => (0..config.classes).map(|i| i.to_string()).collect(),
            false => config.labels.clone(),
        };
        let model = on_device(
            device,
            OpenPictures {
                dir,
                config: &config,
                names: &names,
            },
        )?;
        Ok(Self {
            model: Model::Pictures {
                model,
                preprocess: images::preprocess(&config, &ImagesConfig::default()),
            },
            labels: LabelMap::from_names(names)?,
            nameless,
            batch_size: BATCH,
        })
    }

    /// Whether it classifies pictures rather than texts.
    #[must_use]
    pub fn takes_pictures(&self) -> bool {
        matches!(self.model, Model::Pictures { .. })
    }

    /// Predicts the labels of pictures, by their files.
    ///
    /// # Errors
    /// When a file is no picture, and when the model is for texts.
    pub fn predict_pictures(&self, paths: &[PathBuf]) -> Result<Vec<Prediction>, Error> {
        let set = ImageSet::of_files(paths)?;
        let ids = vec![0; set.len()];
        let logits = self.picture_logits(set, ids, OnBad::Error)?.0;
        Ok(self.predictions(&logits))
    }

    /// Logits of pictures, and which of them could be read.
    fn picture_logits(
        &self,
        set: ImageSet,
        ids: Vec<u32>,
        on_bad: OnBad,
    ) -> Result<(Logits, Vec<usize>), Error> {
        let Model::Pictures { model, preprocess } = &self.model else {
            return Err(Error::Setting {
                reason: "this model classifies texts, not pictures".into(),
                hint: "name a model that was tuned with task = \"image-classification\"".into(),
            });
        };
        let (n, size) = (set.len(), self.batch_size / 2);
        let loader = ImageLoader::new(
            set,
            ids,
            preprocess.clone(),
            Augment::default(),
            on_bad,
            0,
            0,
        );
        let batches = prefetch(2, 0, n.div_ceil(size), move |i| {
            loader.eval_batch(&(i * size..n.min((i + 1) * size)).collect::<Vec<_>>())
        })?;
        let (mut values, mut seen) = (Vec::new(), Vec::new());
        for batch in batches {
            let batch = batch??;
            values.extend(model.logits(&batch)?);
            seen.extend(batch.indices);
        }
        Ok((Logits::new(values, self.labels.len()), seen))
    }

    /// Evaluates an image model on a folder or table.
    fn evaluate_pictures(&self, path: &Path, config: &RunConfig) -> Result<Evaluated, Error> {
        let options = data::read_options(config, &rekindle_hub::Columns::default(), None);
        let read = read_images(path, &options)?;
        // A model that does not name its classes has them in the order of their names, as image folders do.
        let labels = match self.nameless && read.set.classes().len() == self.labels.len() {
            true => LabelMap::from_names(read.set.classes().to_vec())?,
            false => self.labels.clone(),
        };
        let ids = read.set.labels(&labels)?;
        let set = read.set.clone();
        let (logits, seen) = self.picture_logits(read.set, ids.clone(), options.on_bad_example)?;
        let ids: Vec<u32> = seen.iter().map(|&i| ids[i]).collect();
        Ok(Evaluated {
            report: evaluation::score(&logits, &ids)?.report(),
            calibration: evaluation::calibration(&logits, &ids),
            mistakes: images::mistakes(
                &logits,
                &ids,
                labels.names(),
                config.report.mistakes,
                |row| set.path(seen[row]),
            ),
            labels: labels.names().to_vec(),
            notes: read.notes,
        })
    }

    /// Label names by id.
    #[must_use]
    pub fn labels(&self) -> &[String] {
        self.labels.names()
    }

    /// Predicts the labels of texts.
    ///
    /// # Errors
    /// When a text cannot be encoded.
    pub fn predict<S: AsRef<str>>(&self, texts: &[S]) -> Result<Vec<Prediction>, Error> {
        let (model, encoder) = self.texts()?;
        let items = texts
            .iter()
            .map(|text| encoder.encode(text.as_ref(), None))
            .collect::<Result<_, _>>()?;
        let set = EncodedSet {
            items,
            labels: Vec::new(),
        };
        Ok(self.predictions(&model.logits(&set, self.batch_size)?))
    }

    /// Predicts the labels of a file's examples, by the columns that the configuration's `[data]` names. Returns the
    /// examples too, in the same order.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn predict_file(
        &self,
        path: &Path,
        config: &RunConfig,
        observer: &dyn Observer,
    ) -> Result<(Vec<Example>, Vec<Prediction>), Error> {
        let (examples, _) = data::read_unlabelled(path, config, observer)?;
        let (model, encoder) = self.texts()?;
        let set = encoder.encode_examples(&examples, None)?;
        let predictions = self.predictions(&model.logits(&set, self.batch_size)?);
        Ok((examples, predictions))
    }

    /// Evaluates on a labelled file, by the columns that the configuration's `[data]` names.
    ///
    /// # Errors
    /// When the file cannot be read, or holds a label that the model does not know.
    pub fn evaluate(
        &self,
        path: &Path,
        config: &RunConfig,
        observer: &dyn Observer,
    ) -> Result<Evaluated, Error> {
        if self.takes_pictures() {
            return self.evaluate_pictures(path, config);
        }
        let (model, encoder) = self.texts()?;
        let (examples, notes) = data::read_labelled(path, config, observer)?;
        let set = encoder.encode_examples(&examples, Some(&self.labels))?;
        let logits = model.logits(&set, config.eval.batch_size)?;
        let report = evaluation::score(&logits, &set.labels)?.report();
        let mistakes = evaluation::worst(
            &logits,
            &set.labels,
            &examples,
            self.labels.names(),
            config.report.mistakes,
        );
        Ok(Evaluated {
            calibration: evaluation::calibration(&logits, &set.labels),
            report,
            mistakes,
            labels: self.labels.names().to_vec(),
            notes,
        })
    }

    /// The parts of a text classifier.
    fn texts(&self) -> Result<(&dyn Forward, &TextEncoder), Error> {
        match &self.model {
            Model::Texts { model, encoder } => Ok((model.as_ref(), encoder)),
            Model::Pictures { .. } => Err(Error::Setting {
                reason: "this model classifies pictures, not texts".into(),
                hint: "name files or folders of pictures".into(),
            }),
        }
    }

    fn predictions(&self, logits: &Logits) -> Vec<Prediction> {
        (0..logits.len())
            .map(|index| {
                let row = logits.row(index);
                let probabilities = probabilities(row);
                let best = argmax(row);
                Prediction {
                    label: self.labels.names()[best].clone(),
                    probability: probabilities[best],
                    probabilities: self
                        .labels
                        .names()
                        .iter()
                        .cloned()
                        .zip(probabilities)
                        .collect(),
                }
            })
            .collect()
    }
}
