//! Image classification: from the configuration to the job that the loop trains. What is frozen at the beginning of the
//! model is computed once, where nothing before it is random.

use crate::{
    Error, Observer, RunConfig, balance,
    config::{self, Augmentation, DataSource, Method, OnBadExample},
    data::read_options,
    evaluation::{self, Logits},
    features::{AS_EVALUATED, Features},
    report::Mistake,
    saved::Saved,
    task::{Facts, Fingerprint, Judged, Task},
    text::boxed,
};
use burn::{
    module::AutodiffModule,
    tensor::{
        Int, Tensor, TensorData,
        backend::{AutodiffBackend, Backend},
    },
};
use rekindle_data::{
    Fractions, LabelMap, OnBad, Sampler,
    image::{
        Augment, ImageBatch, ImageLoader, ImageRead, ImageSet, Interpolation, Mix, Preprocess,
        ResizedCrop, image_parts, read_images, thumbnail,
    },
    prefetch,
};
use rekindle_hub::{DatasetKind, Hub, Resolved, Source};
use rekindle_models::image::{ImageClassifier, ImageConfig, ImageHead, NAMES, read_image_config};
use rekindle_nn::{
    Pass, TuneAutodiff, TuneBackend,
    host::{self, ReadError},
    ops::{self, CrossEntropy},
    params::{self, NameMap, ParamRef},
};
use rekindle_peft::Trainable;
use rekindle_train::{BatchStream, Evaluation, Job, TrainError};
use std::{
    cell::RefCell,
    collections::BTreeSet,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

/// Batches made ahead of the loop: a batch of pictures is large.
const AHEAD: usize = 3;
/// Longest side of a mistake's picture in the report, in pixels.
const THUMBNAIL: usize = 160;

/// A run on pictures.
pub(crate) struct ImageClassification<B: TuneAutodiff> {
    config: RunConfig,
    train: Arc<ImageLoader>,
    validation: Option<Arc<ImageLoader>>,
    test: Option<Arc<ImageLoader>>,
    labels: LabelMap,
    model: ImageConfig,
    sampler: Sampler,
    cross_entropy: CrossEntropy,
    /// What trains in the end, by path.
    free: BTreeSet<String>,
    /// Units of the trunk.
    units: usize,
    frozen: RefCell<Frozen<B>>,
    /// Validation logits of the model that was evaluated last, and the pictures they are of.
    last: RefCell<Option<(Logits, Vec<usize>)>>,
    kept: Kept,
    device: B::Device,
    facts: Facts,
}

/// The frozen beginning of the model.
struct Frozen<B: TuneAutodiff> {
    /// So many units.
    units: usize,
    model: Option<ImageClassifier<B::InnerBackend>>,
}

/// Output of the frozen beginning, for training and for validation, and what it cost.
struct Kept {
    /// Whether training pictures come again as they were.
    train: bool,
    for_train: Arc<Mutex<Features>>,
    for_validation: Arc<Mutex<Features>>,
    /// Pictures that went through the frozen beginning, and the seconds they took.
    cost: Mutex<(u64, f64)>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The three sets with their names and remarks.
struct Sets {
    name: String,
    train: ImageSet,
    validation: Option<ImageSet>,
    test: Option<ImageSet>,
    notes: Vec<String>,
}

/// Finds the folders or tables, and reads them.
fn read_sets(config: &RunConfig, hub: &Hub, observer: &dyn Observer) -> Result<Sets, Error> {
    let (name, columns, train, validation, test) = match config.data_source() {
        DataSource::Files {
            train,
            validation,
            test,
        } => {
            let parts = image_parts(train);
            let name = train
                .file_name()
                .map(|n| n.to_string_lossy().into_owned())
                .unwrap_or_default();
            (
                name,
                rekindle_hub::Columns::default(),
                parts.train,
                validation.map(Path::to_owned).or(parts.validation),
                test.map(Path::to_owned).or(parts.test),
            )
        }
        DataSource::Dataset(name) => {
            let found = hub.dataset(name, observer.downloads())?;
            if found.card.kind != DatasetKind::Images {
                return Err(Error::Setting {
                    reason: format!(
                        "the dataset `{name}` holds texts, the task is \"image-classification\""
                    ),
                    hint: "set task = \"text-classification\", or data.dataset = \"icons\"".into(),
                });
            }
            let part = |part: &str| found.files.get(part).cloned();
            let Some(train) = part("train") else {
                return Err(Error::Setting {
                    reason: format!("the dataset card of `{name}` names no `train` folder"),
                    hint: "add one to its [files]".into(),
                });
            };
            let others = (part("validation"), part("test"));
            let columns = found.card.columns.clone();
            (name.to_owned(), columns, train, others.0, others.1)
        }
    };
    let mut notes = Vec::new();
    let mut read = |path: &Path, limit: Option<usize>| -> Result<ImageSet, Error> {
        let options = read_options(config, &columns, limit);
        let ImageRead { set, notes: of, .. } = read_images(path, &options)?;
        of.iter().for_each(|note| observer.note(note));
        notes.extend(of);
        Ok(set)
    };
    let data = &config.data;
    let train = read(&train, data.train_limit)?;
    let validation = validation
        .map(|path| read(&path, data.validation_limit))
        .transpose()?;
    let test = test.map(|path| read(&path, data.test_limit)).transpose()?;
    let given = |set: &Option<ImageSet>, fraction: f64| if set.is_some() { 0.0 } else { fraction };
    let fractions = Fractions {
        validation: given(&validation, data.validation_fraction),
        test: given(&test, data.test_fraction),
    };
    let some = |set: ImageSet| (!set.is_empty()).then_some(set);
    let (train, validation, test) = if fractions.validation + fractions.test > 0.0 {
        let [train, v, t] = train.split(fractions, data.stratify, config.seed)?;
        (train, validation.or(some(v)), test.or(some(t)))
    } else {
        (train, validation, test)
    };
    Ok(Sets {
        name,
        train,
        validation,
        test,
        notes,
    })
}

/// Finds a model's directory, or takes a file of weights as it is.
pub(crate) fn find_model(
    name: &str,
    hub: &Hub,
    observer: &dyn Observer,
) -> Result<Resolved, Error> {
    let path = Path::new(name);
    if path.is_file() {
        return Ok(Resolved {
            dir: path.to_owned(),
            source: Source::Path,
            name: name.to_owned(),
            revision: None,
        });
    }
    Ok(hub.model(name, observer.downloads())?)
}

/// Whether a directory (or a file of weights) holds an image model rather than a text model.
pub(crate) fn is_model(dir: &Path) -> bool {
    if dir.is_file() {
        return true;
    }
    match rekindle_models::read_config(dir) {
        Ok(config) => {
            config.contains_key("architecture")
                || config.get("model_type").and_then(|kind| kind.as_str()) == Some("resnet")
        }
        // Weights alone: what they are, they show themselves.
        Err(_) => !dir.join("adapter_config.json").is_file() && read_image_config(dir).is_ok(),
    }
}

/// How pictures become the model's input: as the model's files say, but for what the run says.
pub(crate) fn preprocess(model: &ImageConfig, images: &config::ImagesConfig) -> Preprocess {
    let pictures = &model.pictures;
    let (size, crop) = (
        images.size.unwrap_or(pictures.size),
        images.crop_pct.unwrap_or(pictures.crop),
    );
    Preprocess {
        resize: (size as f64 / crop).floor() as usize,
        crop: size,
        interpolation: match pictures.interpolation.as_str() {
            "nearest" => Interpolation::Nearest,
            "bicubic" => Interpolation::Bicubic,
            _ => Interpolation::Bilinear,
        },
        mean: pictures.mean.map(|v| v as f32),
        std: pictures.std.map(|v| v as f32),
    }
}

fn augment(config: &RunConfig) -> Augment {
    let images = &config.images;
    let off = match images.augment {
        Augmentation::None => true,
        Augmentation::Standard => false,
        Augmentation::Auto => config.peft.method == Method::Head && images.views.is_none(),
    };
    if off {
        return Augment::default();
    }
    let jitter = images.color_jitter;
    Augment {
        resized_crop: (images.random_crop < 1.0 && images.padded_crop.is_none()).then(|| {
            ResizedCrop {
                scale: (images.random_crop, 1.0),
                ..ResizedCrop::default()
            }
        }),
        padded_crop: images.padded_crop,
        horizontal_flip: images.horizontal_flip,
        vertical_flip: images.vertical_flip,
        colour_jitter: (jitter > 0.0).then_some([jitter, jitter, jitter, 0.0]),
        rand_augment: (images.rand_augment > 0).then_some((2, images.rand_augment)),
        trivial_augment: images.trivial_augment,
        erasing: images.random_erasing,
    }
}

/// Reads the data and loads the model.
///
/// # Errors
/// Any mistake in data or model.
pub(crate) fn open<B: TuneAutodiff>(
    config: &RunConfig,
    observer: &dyn Observer,
    device: &B::Device,
) -> Result<(ImageClassification<B>, ImageClassifier<B>), Error> {
    let hub = Hub::from_env();
    let mut timings = Vec::new();
    let clock = Instant::now();
    let base = find_model(&config.model.name, &hub, observer)?;
    timings.push(("find model".to_owned(), clock.elapsed().as_secs_f64()));

    let clock = Instant::now();
    let sets = read_sets(config, &hub, observer)?;
    let mut model_config = read_image_config(&base.dir)?;
    let labels = labels(&sets.train, &model_config.labels)?;
    if sets.validation.is_none() && config.eval.every != config::EvalEvery::Never {
        return Err(Error::Setting {
            reason: "there are no validation pictures to evaluate on".into(),
            hint:
                "set data.validation, data.validation_fraction above 0, or eval.every = \"never\""
                    .into(),
        });
    }
    let preprocess = preprocess(&model_config, &config.images);
    let augment = augment(config);
    let on_bad = match config.data.on_bad_example {
        OnBadExample::Error => OnBad::Error,
        OnBadExample::Skip => OnBad::Skip,
    };
    let budget = config.images.cache_mb << 20;
    let loader = |set: ImageSet, augment: Augment, budget: usize| -> Result<_, Error> {
        let ids = set.labels(&labels)?;
        let preprocess = preprocess.clone();
        Ok(Arc::new(ImageLoader::new(
            set,
            ids,
            preprocess,
            augment,
            on_bad,
            config.seed,
            budget,
        )))
    };
    let examples = [
        sets.train.len(),
        sets.validation.as_ref().map_or(0, ImageSet::len),
        sets.test.as_ref().map_or(0, ImageSet::len),
    ];
    let mut fingerprint = Fingerprint::of(config);
    let train = loader(sets.train, augment.clone(), budget / 4 * 3)?;
    for (index, label) in train.labels().iter().enumerate() {
        fingerprint.add(train.set().name(index).as_bytes());
        fingerprint.add(&label.to_le_bytes());
    }
    let part = |set: Option<ImageSet>, budget: usize| {
        set.map(|set| loader(set, Augment::default(), budget))
            .transpose()
    };
    let (validation, test) = (part(sets.validation, budget / 4)?, part(sets.test, 0)?);
    timings.push(("read data".to_owned(), clock.elapsed().as_secs_f64()));

    let clock = Instant::now();
    let (model, loaded, method) = build::<B>(config, &base, &model_config, &labels, device)?;
    timings.push(("load model".to_owned(), clock.elapsed().as_secs_f64()));
    fingerprint.add_weights(&base.dir)?;

    let mut free = BTreeSet::new();
    params::visit(&model, &mut |param: ParamRef<'_, B>| {
        if param.trainable {
            free.insert(param.path.to_owned());
        }
    });
    let frozen = model.frozen_units();
    let kept_budget = config.train.cache_features_mb << 20;
    let fixed = augment.is_none() || config.images.views.is_some();
    let mixed = config.images.mixup + config.images.cutmix > 0.0;
    let dir = config.output_dir.clone().unwrap_or_default();
    let keeper = |name: &str, share: usize| {
        let path: PathBuf = dir.join(name);
        Arc::new(Mutex::new(Features::new(kept_budget / share, &path)))
    };
    let kept = Kept {
        train: config.train.cache_features && fixed && !mixed,
        for_train: keeper(".features", 2),
        for_validation: keeper(".features-validation", 2),
        cost: Mutex::default(),
    };
    let units = model.units();
    let trained = (units - frozen) as f64 / units as f64;
    let size = preprocess.crop;
    // Values of one picture that the backward pass reads, measured on the architectures here: about 130 for each pixel.
    let activations = 130.0 * (size * size) as f64 * config.train.batch_size as f64;
    let (parameters, trainable) = params::count(&model);
    let memory = 80.0 * 1e6
        + 4.0 * (parameters + 3 * trainable) as f64
        + 4.0 * activations * trained.max(0.3)
        + (budget as f64).min((examples[0] + examples[1]) as f64 * 400e3);
    let cross_entropy = balance::cross_entropy(config, train.labels(), labels.len());
    model_config.labels = labels.names().to_vec();
    model_config.classes = labels.len();
    model_config.pictures.size = size;
    model_config.pictures.crop = config.images.crop_pct.unwrap_or(model_config.pictures.crop);
    let facts = Facts {
        base,
        loaded: loaded.summary(),
        method,
        adapted_layers: Vec::new(),
        writes: "final/ (a model for timm)",
        dataset: sets.name,
        labels: labels.names().to_vec(),
        examples,
        inputs: format!("{size} x {size} pixels each"),
        memory: memory as u64,
        notes: sets.notes,
        timings,
        fingerprint: fingerprint.text(),
    };
    let job = ImageClassification {
        sampler: Sampler {
            seed: config.seed,
            shuffle: config.train.shuffle,
            group_by_length: false,
            batch_size: config.train.batch_size,
            drop_last: false,
        },
        config: config.clone(),
        train,
        validation,
        test,
        labels,
        model: model_config,
        cross_entropy,
        free,
        units,
        frozen: RefCell::new(Frozen {
            units: 0,
            model: None,
        }),
        last: RefCell::default(),
        kept,
        device: device.clone(),
        facts,
    };
    Ok((job, model))
}

/// The classes of the training pictures; those of a model that has the same names keep its order.
fn labels(train: &ImageSet, of_model: &[String]) -> Result<LabelMap, Error> {
    let (mut sorted, mut names) = (of_model.to_vec(), train.classes().to_vec());
    sorted.sort();
    names.sort();
    Ok(if sorted == names {
        LabelMap::from_names(of_model.to_vec())?
    } else {
        LabelMap::from_names(train.classes().to_vec())?
    })
}

/// Loads the model and decides what trains.
fn build<B: TuneAutodiff>(
    config: &RunConfig,
    base: &Resolved,
    model: &ImageConfig,
    labels: &LabelMap,
    device: &B::Device,
) -> Result<(ImageClassifier<B>, rekindle_models::LoadReport, String), Error> {
    let head = ImageHead {
        labels: labels.names().to_vec(),
        seed: config.seed,
        require: false,
    };
    let (model, loaded) = ImageClassifier::<B>::from_pretrained(&base.dir, model, &head, device)?;
    let peft = &config.peft;
    let (rule, mut method) = match peft.method {
        Method::Full => (Trainable::All, "everything".to_owned()),
        Method::Head => (Trainable::Head, "the head only".to_owned()),
        Method::Bitfit => (Trainable::Biases, "biases and the head".to_owned()),
        Method::Lora => {
            return Err(Error::Setting {
                reason: "peft.method = \"lora\" is for text: image models here have no linear layers to adapt".into(),
                hint: "set peft.method = \"full\", or \"head\"; or train the last stages with peft.train_last".into(),
            });
        }
    };
    let heads = [model.head_name().to_owned()];
    let units = model.units();
    let model =
        rekindle_peft::set_trainable(model, rule, &heads, &peft.freeze, &peft.unfreeze, NAMES)?;
    let model = match peft.train_last {
        None => model,
        Some(last) if last > units => {
            return Err(Error::Setting {
                reason: format!("peft.train_last = {last}, but the model has {units} stages"),
                hint: "name fewer, or leave it out to train everything".into(),
            });
        }
        Some(last) => {
            method = format!("the last {last} of {units} stages and the head");
            among_last(model, last)
        }
    };
    if let Some(every) = peft.unfreeze_every {
        method.push_str(&format!(
            "; freed from the head on, one more stage every {every} epochs"
        ));
    }
    if let Some(decay) = config.train.layer_decay {
        method.push_str(&format!("; each stage's rate {decay} of the next one's"));
    }
    Ok((model, loaded, method))
}

/// Of what trains, leaves the head and the last so many units.
fn among_last<B: TuneAutodiff>(model: ImageClassifier<B>, last: usize) -> ImageClassifier<B> {
    let first = model.units().saturating_sub(last);
    params::map(model, &mut |param: ParamRef<'_, B>| {
        let late = ImageClassifier::<B>::unit_of(param.path).is_none_or(|unit| unit >= first);
        params::Mapped {
            value: param.value,
            trainable: param.trainable && late,
        }
    })
}

/// Pictures `[N, S, S, 3]` on a device.
fn pixels<B: Backend>(batch: &ImageBatch, device: &B::Device) -> Tensor<B, 4> {
    let shape = [batch.len(), batch.size, batch.size, 3];
    Tensor::from_data(TensorData::new(batch.pixels.clone(), shape), device)
}

/// What the frozen beginning puts out: feature maps, or pooled features where it is the whole trunk.
enum Output<B: Backend> {
    Maps(Tensor<B, 4>),
    Pooled(Tensor<B, 2>),
}

impl<B: TuneAutodiff> ImageClassification<B> {
    /// The view of an epoch.
    fn view(&self, epoch: u64) -> u64 {
        match self.config.images.views {
            Some(views) => epoch % views as u64,
            None if self.kept.train => 0,
            None => epoch,
        }
    }

    /// Whether the frozen beginning's output of validation pictures is kept.
    fn keeps_validation(&self) -> bool {
        self.config.train.cache_features && self.frozen.borrow().units > 0
    }

    /// The output of the frozen beginning for a batch, kept or computed.
    fn beginning(
        &self,
        batch: &ImageBatch,
        model: &ImageClassifier<B::InnerBackend>,
        kept: Option<(&Mutex<Features>, u64)>,
    ) -> Result<Output<B::InnerBackend>, Error> {
        let frozen = self.frozen.borrow().units;
        let n = batch.indices.len();
        let as_output = |rows: Vec<f32>| -> Output<B::InnerBackend> {
            let width = rows.len() / n.max(1);
            if frozen == self.units {
                let data = TensorData::new(rows, [n, width]);
                return Output::Pooled(Tensor::from_data(data, &self.device));
            }
            let [side, channels] = self.map_size(frozen, width);
            let data = TensorData::new(rows, [n, side, side, channels]);
            Output::Maps(Tensor::from_data(data, &self.device))
        };
        if let Some((features, view)) = kept
            && let Some(rows) = lock(features).get(view, &batch.indices)?
        {
            return Ok(as_output(rows));
        }
        let clock = Instant::now();
        let maps = model.trunk(
            pixels::<B::InnerBackend>(batch, &self.device),
            0..frozen,
            Pass::evaluation(),
        );
        let output = if frozen == self.units {
            Output::Pooled(model.pool(maps))
        } else {
            Output::Maps(maps)
        };
        if let Some((features, view)) = kept {
            let rows = match &output {
                Output::Maps(maps) => host::values(maps.clone())?,
                Output::Pooled(pooled) => host::values(pooled.clone())?,
            };
            let mut cost = lock(&self.kept.cost);
            cost.0 += n as u64;
            cost.1 += clock.elapsed().as_secs_f64();
            lock(features).put(view, &batch.indices, &rows)?;
        }
        Ok(output)
    }

    /// Side and channels of the maps after so many units, of which one picture has `width` values.
    fn map_size(&self, units: usize, width: usize) -> [usize; 2] {
        let side = self.model.architecture.side_after(units, self.train_size());
        [side, width / (side * side).max(1)]
    }

    fn train_size(&self) -> usize {
        self.model.pictures.size
    }

    /// Logits of a set, in its order, on the backend without gradients. Pictures that could not be read have none.
    fn logits(
        &self,
        model: &ImageClassifier<B::InnerBackend>,
        loader: &Arc<ImageLoader>,
        kept: Option<&Arc<Mutex<Features>>>,
    ) -> Result<(Logits, Vec<usize>), Error> {
        let classes = self.labels.len();
        let n = loader.set().len();
        let size = self.config.eval.batch_size;
        let (source, features) = (Arc::clone(loader), kept.map(Arc::clone));
        let picture_size = self.train_size();
        let make = move |i: usize| {
            let indices: Vec<usize> = (i * size..n.min((i + 1) * size)).collect();
            if features
                .as_ref()
                .is_some_and(|f| lock(f).holds(AS_EVALUATED, &indices))
            {
                return Ok(without_pixels(&source, indices, picture_size));
            }
            source.eval_batch(&indices)
        };
        let mut values = Vec::with_capacity(n * classes);
        let mut seen = Vec::with_capacity(n);
        let frozen = self.frozen.borrow().units;
        for batch in prefetch(AHEAD, 0, n.div_ceil(size), make)? {
            let batch = batch??;
            if batch.indices.is_empty() {
                continue;
            }
            let kept = kept.map(|features| (&**features, AS_EVALUATED));
            let x = self.beginning(&batch, model, kept)?;
            let pooled = match x {
                Output::Pooled(pooled) => pooled,
                Output::Maps(maps) => {
                    model.pool(model.trunk(maps, frozen..self.units, Pass::evaluation()))
                }
            };
            values.extend(host::values(model.head(pooled, 0.0, Pass::evaluation()))?);
            seen.extend(batch.indices);
        }
        Ok((Logits::new(values, classes), seen))
    }

    fn score(
        &self,
        model: &ImageClassifier<B::InnerBackend>,
        loader: &Arc<ImageLoader>,
        keep: bool,
    ) -> Result<(Logits, Vec<usize>), Error> {
        let kept = (keep && self.keeps_validation()).then_some(&self.kept.for_validation);
        self.logits(model, loader, kept)
    }

    /// The per-example losses `[N]` against these classes.
    fn losses(&self, logits: Tensor<B, 2>, labels: &[i32]) -> Tensor<B, 1> {
        let targets: Tensor<B, 1, Int> = Tensor::from_data(TensorData::from(labels), &self.device);
        ops::cross_entropy(logits, targets, &self.cross_entropy)
    }
}

/// The classes of these pictures.
fn labels_of(loader: &ImageLoader, pictures: &[usize]) -> Vec<u32> {
    pictures.iter().map(|&i| loader.labels()[i]).collect()
}

/// A batch whose pictures are not needed: what comes of them is kept.
fn without_pixels(loader: &ImageLoader, indices: Vec<usize>, size: usize) -> ImageBatch {
    ImageBatch {
        pixels: Vec::new(),
        size,
        labels: indices.iter().map(|&i| loader.labels()[i] as i32).collect(),
        mixed: None,
        indices,
    }
}

/// A batch with the view that its pictures were drawn in.
pub(crate) struct Viewed {
    batch: ImageBatch,
    view: u64,
}

impl<B: TuneAutodiff> Job<B> for ImageClassification<B> {
    type Model = ImageClassifier<B>;
    type Batch = Viewed;

    fn names(&self) -> NameMap {
        NAMES
    }

    fn batches(&self, _: u64) -> usize {
        self.sampler.batches(self.train.set().len())
    }

    fn stream(&self, epoch: u64, start: usize) -> Result<BatchStream<'_, Viewed>, TrainError> {
        let n = self.train.set().len();
        let mut order = self.sampler.epoch(&vec![1; n], epoch);
        let seed = self.config.seed;
        if self.config.train.weighted_sampling {
            let drawn = balance::drawn(self.train.labels(), self.labels.len(), seed, epoch);
            order = drawn
                .chunks(self.sampler.batch_size)
                .map(<[usize]>::to_vec)
                .collect();
        }
        let view = self.view(epoch);
        let loader = Arc::clone(&self.train);
        let features = self.kept.train.then(|| Arc::clone(&self.kept.for_train));
        let mix = Mix {
            mixup: self.config.images.mixup,
            cutmix: self.config.images.cutmix,
        };
        let size = self.train_size();
        let make = move |i: usize| {
            let indices = &order[i];
            if features
                .as_ref()
                .is_some_and(|f| lock(f).holds(view, indices))
            {
                return Ok(without_pixels(&loader, indices.clone(), size));
            }
            let mut batch = loader.train_batch(indices, view)?;
            batch.mix(mix, seed, epoch, i as u64);
            Ok(batch)
        };
        let batches = prefetch(AHEAD, start, self.batches(epoch), make).map_err(boxed)?;
        Ok(Box::new(batches.map(move |batch| match batch {
            Ok(Ok(batch)) => Ok(Viewed { batch, view }),
            Ok(Err(error)) | Err(error) => Err(boxed::<rekindle_data::DataError>(error)),
        })))
    }

    fn rate(&self, name: &str) -> f64 {
        let train = &self.config.train;
        match ImageClassifier::<B>::unit_of(name) {
            None => train
                .head_learning_rate
                .map_or(1.0, |rate| rate / self.config.learning_rate()),
            Some(unit) => train
                .layer_decay
                .map_or(1.0, |decay| decay.powi((self.units - unit) as i32)),
        }
    }

    fn at_epoch(&self, model: ImageClassifier<B>, epoch: u64) -> ImageClassifier<B> {
        let model = match self.config.peft.unfreeze_every {
            None => model,
            Some(every) => {
                let all = params::set_trainable(model, &mut |path| self.free.contains(path));
                among_last(all, usize::try_from(epoch).unwrap_or(usize::MAX) / every)
            }
        };
        let units = model.frozen_units();
        let mut frozen = self.frozen.borrow_mut();
        if frozen.model.is_none() || frozen.units != units {
            lock(&self.kept.for_train).clear();
            lock(&self.kept.for_validation).clear();
            *frozen = Frozen {
                units,
                model: Some(model.valid()),
            };
        }
        model
    }

    fn will_train(&self, name: &str) -> bool {
        self.free.contains(name)
    }

    fn count(&self, batch: &Viewed) -> usize {
        batch.batch.len()
    }

    fn describe(&self, batch: &Viewed) -> String {
        const NAMED: usize = 4;
        let indices = &batch.batch.indices;
        let names: Vec<&str> = indices
            .iter()
            .take(NAMED)
            .map(|&i| self.train.set().name(i))
            .collect();
        match indices.len().saturating_sub(NAMED) {
            0 => names.join(", "),
            more => format!("{} and {more} more", names.join(", ")),
        }
    }

    fn loss(&self, model: &ImageClassifier<B>, batch: &Viewed, pass: Pass) -> Tensor<B, 1> {
        let (view, batch) = (batch.view, &batch.batch);
        if batch.is_empty() {
            // Every picture of it was broken and is skipped: a loss of nothing, with gradients of zero.
            return model.classifier().weight.val().sum() * 0.0;
        }
        let (frozen, beginning) = {
            let frozen = self.frozen.borrow();
            (frozen.units, frozen.model.clone())
        };
        let x = match beginning.filter(|_| frozen > 0) {
            None => Output::Maps(pixels::<B>(batch, &self.device)),
            Some(part) => {
                let kept = self.kept.train.then_some((&*self.kept.for_train, view));
                let output = match self.beginning(batch, &part, kept) {
                    Ok(output) => output,
                    // A full disk: go on without keeping.
                    Err(_) => match self.beginning(batch, &part, None) {
                        Ok(output) => output,
                        Err(_) => Output::Maps(pixels(batch, &self.device)),
                    },
                };
                match output {
                    Output::Maps(maps) => Output::Maps(from_inner(maps)),
                    Output::Pooled(pooled) => Output::Pooled(from_inner(pooled)),
                }
            }
        };
        let pooled = match x {
            Output::Pooled(pooled) => pooled,
            Output::Maps(maps) => model.pool(model.trunk(maps, frozen..self.units, pass.child(0))),
        };
        let dropout = self.config.model.dropout.unwrap_or(0.0);
        let logits = model.head(pooled, dropout, pass.child(1));
        match &batch.mixed {
            None => self.losses(logits, &batch.labels).sum(),
            Some(mixed) => {
                self.losses(logits.clone(), &batch.labels).sum() * mixed.share
                    + self.losses(logits, &mixed.labels).sum() * (1.0 - mixed.share)
            }
        }
    }

    fn evaluate(&self, model: &ImageClassifier<B::InnerBackend>) -> Result<Evaluation, TrainError> {
        let Some(validation) = &self.validation else {
            return Ok(Evaluation::default());
        };
        let (logits, seen) = self.score(model, validation, true).map_err(boxed)?;
        let figures = evaluation::figures(&logits, &labels_of(validation, &seen));
        *self.last.borrow_mut() = Some((logits, seen));
        figures.map_err(boxed)
    }
}

fn from_inner<B: AutodiffBackend, const D: usize>(x: Tensor<B::InnerBackend, D>) -> Tensor<B, D> {
    Tensor::from_inner(x)
}

impl<B: TuneAutodiff> Task<B> for ImageClassification<B> {
    fn facts(&self) -> &Facts {
        &self.facts
    }

    fn remarks(&self) -> Vec<String> {
        let mut remarks = Vec::new();
        for loader in [
            Some(&self.train),
            self.validation.as_ref(),
            self.test.as_ref(),
        ]
        .into_iter()
        .flatten()
        {
            for (path, reason) in loader.broken() {
                let reason = reason.lines().next().unwrap_or_default();
                remarks.push(format!(
                    "left out while reading: {} ({reason})",
                    path.display()
                ));
            }
        }
        let (computed, seconds) = *lock(&self.kept.cost);
        let (mut rows, mut bytes, mut hits) = (0, 0u64, 0);
        for features in [&self.kept.for_train, &self.kept.for_validation] {
            let features = lock(features);
            let (n, memory, file) = features.size();
            (rows, bytes, hits) = (rows + n, bytes + memory as u64 + file, hits + features.hits);
        }
        if hits > 0 {
            let each = seconds / computed.max(1) as f64;
            remarks.push(format!(
                "the frozen part ({} of {} stages) was computed once for {rows} pictures and kept in {:.1} MB; that saved {hits} passes, about {:.0} s",
                self.frozen.borrow().units,
                self.units,
                bytes as f64 / 1e6,
                each * hits as f64
            ));
        }
        remarks
    }

    fn judge(
        &self,
        model: &ImageClassifier<B::InnerBackend>,
        evaluated: bool,
    ) -> Result<Judged, Error> {
        let (split, loader) = match (&self.test, &self.validation) {
            (Some(test), _) => ("test", test),
            (None, Some(validation)) => ("validation", validation),
            (None, None) => ("train", &self.train),
        };
        let validation = split == "validation";
        let (logits, seen) = match self.last.take().filter(|_| evaluated && validation) {
            Some(known) => known,
            None => self.score(model, loader, validation)?,
        };
        let labels = labels_of(loader, &seen);
        Ok(Judged {
            split,
            report: evaluation::score(&logits, &labels)?.report(),
            mistakes: mistakes(
                &logits,
                &labels,
                self.labels.names(),
                self.config.report.mistakes,
                |row| loader.set().path(seen[row]),
            ),
            calibration: evaluation::calibration(&logits, &labels),
        })
    }

    fn save(&self, model: &ImageClassifier<B::InnerBackend>, dir: &Path) -> Result<(), Error> {
        model.save_pretrained(dir, &self.model)?;
        Saved {
            rekindle: env!("CARGO_PKG_VERSION").into(),
            task: self.config.task.name().to_owned(),
            labels: self.labels.names().to_vec(),
            max_length: 0,
            pooling: String::new(),
            base_model: None,
        }
        .write(dir)
    }
}

/// The wrong predictions with the highest loss, with small pictures.
pub(crate) fn mistakes(
    logits: &Logits,
    labels: &[u32],
    names: &[String],
    most: usize,
    path: impl Fn(usize) -> PathBuf,
) -> Vec<Mistake> {
    evaluation::wrong(logits, labels, most)
        .into_iter()
        .map(|wrong| {
            let path = path(wrong.example);
            Mistake {
                text: path
                    .file_name()
                    .map_or_else(String::new, |name| name.to_string_lossy().into_owned()),
                text_pair: None,
                place: path.display().to_string(),
                label: names[labels[wrong.example] as usize].clone(),
                predicted: names[wrong.predicted].clone(),
                probability: wrong.probability,
                loss: wrong.loss,
                // A picture that can be classified can be shown; if it has vanished meanwhile, its name must do.
                picture: thumbnail(&path, THUMBNAIL).ok(),
            }
        })
        .collect()
}

/// A tuned image classifier on a device, for evaluation and prediction.
pub(crate) struct Pictures<B: TuneBackend> {
    pub model: ImageClassifier<B>,
    pub device: B::Device,
}

impl<B: TuneBackend> Pictures<B> {
    /// Logits of a batch.
    pub(crate) fn logits(&self, batch: &ImageBatch) -> Result<Vec<f32>, ReadError> {
        if batch.is_empty() {
            return Ok(Vec::new());
        }
        let x = pixels::<B>(batch, &self.device);
        host::values(self.model.forward(x, Pass::evaluation()))
    }
}
