//! Pictures, decoded and transformed.

use super::{
    Draw, HostBatch, HostInput, Inputs, Prepared, ShownExample, text::text_file_for_pictures,
};
use crate::{
    Error, Modality, Observer, RunConfig,
    config::{Augmentation, DataSource, ImagesConfig, Method},
    examples::{Splits, in_order_of, on_bad, read_splits},
    fingerprint::Fingerprint,
    init::fitting_task,
    plan::{Footprint, PicturesInMemory},
};
use rekindle_data::{
    DataError, OnBad, Targets,
    image::{
        Augment, ImageBatch, ImageLoader, ImageSet, Interpolation, Mix, Preprocess, ResizedCrop,
        thumbnail,
    },
};
use rekindle_hub::Hub;
use rekindle_models::{Pretrained, image::Pictures as ModelPictures};
use serde_json::{Map, Value};
use std::{collections::BTreeMap, path::PathBuf, sync::Arc};

/// Batches made ahead of the loop: a batch of pictures is large.
const AHEAD: usize = 3;
/// Longest side of a picture in the report, in pixels.
const THUMBNAIL: usize = 160;

/// A set of pictures.
pub(crate) struct Pictures {
    loader: ImageLoader,
    mix: Mix,
    seed: u64,
}

impl Pictures {
    /// Pictures as they are evaluated, nothing kept in memory.
    pub(crate) fn to_evaluate(
        set: ImageSet,
        targets: Targets,
        preprocess: &Preprocess,
        on_bad: OnBad,
    ) -> Self {
        let augment = Augment::default();
        let loader = ImageLoader::new(set, targets, preprocess.clone(), augment, on_bad, 0, 0);
        Self {
            loader,
            mix: Mix::default(),
            seed: 0,
        }
    }

    /// Files that could not be read so far, with reasons.
    pub(crate) fn broken(&self) -> BTreeMap<PathBuf, String> {
        self.loader.broken()
    }

    pub(crate) fn path(&self, example: usize) -> PathBuf {
        self.loader.set().path(example)
    }
}

impl Inputs for Pictures {
    fn len(&self) -> usize {
        self.loader.set().len()
    }

    fn lengths(&self) -> Option<Vec<u32>> {
        None
    }

    fn targets(&self) -> &Targets {
        self.loader.targets()
    }

    fn batch(&self, examples: &[usize], draw: Option<Draw>) -> Result<HostBatch, DataError> {
        let mut batch: ImageBatch = match draw {
            None => self.loader.eval_batch(examples)?,
            Some(draw) => {
                let mut batch = self.loader.train_batch(examples, draw.view)?;
                batch.mix(self.mix, self.seed, draw.epoch, draw.batch);
                batch
            }
        };
        Ok(HostBatch {
            examples: batch.indices.clone(),
            targets: std::mem::take(&mut batch.targets),
            mixed: batch.mixed.take(),
            aside: None,
            input: Some(HostInput::Images(batch)),
        })
    }

    fn ahead(&self) -> usize {
        AHEAD
    }

    fn place(&self, example: usize) -> String {
        self.loader.set().name(example).to_owned()
    }

    fn full_place(&self, example: usize) -> String {
        self.path(example).display().to_string()
    }

    fn show(&self, example: usize) -> ShownExample {
        let path = self.path(example);
        let name = path.file_name();
        ShownExample {
            text: name.map_or_else(String::new, |name| name.to_string_lossy().into_owned()),
            text_pair: None,
            // A picture that the model saw can be shown; if it has vanished meanwhile, its name must do.
            picture: thumbnail(&path, THUMBNAIL).ok(),
        }
    }

    fn described(&self, example: usize) -> Map<String, Value> {
        let file = self.full_place(example);
        std::iter::once(("file".into(), file.into())).collect()
    }

    fn left_out(&self) -> Vec<String> {
        let line = |(path, reason): (PathBuf, String)| {
            let reason = reason.lines().next().unwrap_or_default().to_owned();
            format!("left out while reading: {} ({reason})", path.display())
        };
        self.broken().into_iter().map(line).collect()
    }

    fn add_to(&self, fingerprint: &mut Fingerprint) {
        let set = self.loader.set();
        (0..set.len()).for_each(|i| fingerprint.add(set.name(i).as_bytes()));
        fingerprint.add_targets(self.targets());
    }
}

/// Reads the pictures of a run.
pub(super) fn prepare(
    config: &RunConfig,
    pretrained: &Pretrained,
    hub: &Hub,
    observer: &dyn Observer,
) -> Result<Prepared, Error> {
    let model = pretrained.config();
    let size = |pictures: &ModelPictures| config.images.size.unwrap_or(pictures.size);
    let maps = (model.pictures.as_ref()).and_then(|pictures| model.map_sizes(size(pictures)));
    let (Some(pictures), Some(maps)) = (&model.pictures, maps) else {
        return Err(Error::ModelDir {
            path: pretrained.dir().to_owned(),
            reason: format!(
                "this is a model for texts ({}), not for pictures",
                model.family
            ),
            hint: "name an image model, or --task text-classification".into(),
        });
    };
    let splits: Splits<ImageSet> =
        read_splits(config, hub, observer).map_err(|error| holds_texts(config).unwrap_or(error))?;
    let encoder = in_order_of(splits.encoder, &model.labels)?;
    let (preprocess, augment) = (preprocess(pictures, &config.images), augment(config));
    let mix = Mix {
        mixup: config.images.mixup,
        cutmix: config.images.cutmix,
    };
    let budget = config.images.cache_mb << 20;
    let load = |set: ImageSet, augment: Augment, budget: usize| -> Result<Pictures, Error> {
        let targets = set.targets(&encoder)?;
        let (on_bad, seed) = (on_bad(config), config.seed);
        let loader = ImageLoader::new(
            set,
            targets,
            preprocess.clone(),
            augment,
            on_bad,
            seed,
            budget,
        );
        Ok(Pictures { loader, mix, seed })
    };
    let fixed = augment.is_none() || config.images.views.is_some();
    let mixed = config.images.mixup + config.images.cutmix > 0.0;
    let train = load(splits.train, augment, budget / 4 * 3)?;
    let part = |set: Option<ImageSet>, budget: usize| -> Result<Option<Arc<dyn Inputs>>, Error> {
        let pictures = set
            .map(|set| load(set, Augment::default(), budget))
            .transpose()?;
        Ok(pictures.map(|pictures| Arc::new(pictures) as Arc<dyn Inputs>))
    };
    let (validation, test) = (part(splits.validation, budget / 4)?, part(splits.test, 0)?);
    let size = preprocess.crop;
    let kept = train.len() + validation.as_ref().map_or(0, |set| set.len());
    Ok(Prepared {
        name: splits.name,
        columns: splits.used,
        files: splits.files,
        sizes: format!("{size} x {size} pixels each"),
        noun: "picture",
        footprint: Footprint::of_pictures(
            &maps,
            &PicturesInMemory {
                side: size,
                batches: [config.train.batch_size, config.eval.batch_size],
                kept,
                budget,
            },
        ),
        train: Arc::new(train),
        validation,
        test,
        encoder,
        repeats: fixed && !mixed,
        by_words: false,
        notes: splits.notes,
        max_length: 0,
        picture_size: Some((size, config.images.crop_pct.unwrap_or(pictures.crop))),
        answering: None,
    })
}

/// The mistake of giving a file of texts to a model for pictures, where that is what reading failed at.
pub(crate) fn holds_texts(config: &RunConfig) -> Option<Error> {
    let DataSource::Files { train, .. } = config.data_source() else {
        return None;
    };
    let is_of_texts = train.is_file()
        && config.data.text.is_none()
        && fitting_task(train, config).is_ok_and(|task| task.modality() == Modality::Text);
    is_of_texts.then(|| text_file_for_pictures(train, &config.model.name))
}

/// How pictures become the model's input: as the model's files say, but for what the run says.
pub(crate) fn preprocess(pictures: &ModelPictures, images: &ImagesConfig) -> Preprocess {
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
