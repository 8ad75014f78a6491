//! What a directory of an image model says of it: `config.json` as timm or transformers writes it, else what the weights
//! themselves show.

use super::{
    CONVNEXT, ConvNextConfig, EFFICIENTNET_LITE, LiteConfig, MOBILENET, MobileNetConfig, RESNET,
    ResNetConfig, Shapes, VIT, VIT_OF_TRANSFORMERS, VitConfig,
    efficientnet::FEATURES as EFFICIENTNET_FEATURES,
};
use crate::{
    HeadSpec, Modality, ModelConfig, ModelError, Problem,
    config::{Reader, Sizes, read_json},
    heads::{Dense, HeadConfig},
    pretrained::Found,
};
use serde_json::{Map, Value, json};

/// Standard deviation of a new head's weights: small, so that it starts near even odds.
const HEAD_STD: f64 = 0.01;

/// ImageNet's mean and standard deviation by channel, of values in [0, 1].
const IMAGENET: ([f64; 3], [f64; 3]) = ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]);

/// What most of timm's vision transformers expect: values in [-1, 1].
const CENTRED: ([f64; 3], [f64; 3]) = ([0.5; 3], [0.5; 3]);

/// How pictures become the input of a model of transformers.
pub(crate) const PREPROCESSOR: &str = "preprocessor_config.json";

/// What timm's `config.json` says of how a model was made.
pub(super) struct Arguments<'a> {
    raw: &'a Map<String, Value>,
    given: Option<&'a Map<String, Value>>,
}

impl<'a> Arguments<'a> {
    /// # Errors
    /// In words, where `model_args` has a key that is not `known`.
    pub(super) fn of(raw: &'a Map<String, Value>, known: &[&str]) -> Result<Self, String> {
        let given = raw.get("model_args").and_then(Value::as_object);
        let mut keys = given.into_iter().flatten().map(|(key, _)| key.as_str());
        match keys.find(|key| !known.contains(key)) {
            None => Ok(Self { raw, given }),
            Some(key) => Err(format!(
                "`model_args` sets `{key}`, which this reader does not know"
            )),
        }
    }

    pub(super) fn get(&self, key: &str) -> Option<&'a Value> {
        self.given?.get(key)
    }

    /// How a picture's features become one vector, where it is said.
    pub(super) fn pooling(&self) -> Option<&'a str> {
        const KEY: &str = "global_pool";
        let of_weights = self.raw.get("pretrained_cfg");
        let found = self
            .get(KEY)
            .or(self.raw.get(KEY))
            .or(of_weights.and_then(|of| of.get(KEY)));
        found.and_then(Value::as_str)
    }
}

/// A family with its sizes.
#[derive(Debug, Clone, PartialEq)]
pub enum Architecture {
    /// See [`ResNetConfig`].
    ResNet(ResNetConfig),
    /// See [`LiteConfig`].
    EfficientNetLite(LiteConfig),
    /// See [`VitConfig`].
    Vit(VitConfig),
    /// See [`ConvNextConfig`].
    ConvNext(ConvNextConfig),
    /// See [`MobileNetConfig`].
    MobileNet(MobileNetConfig),
}

impl Architecture {
    /// timm's name, where it has one.
    #[must_use]
    pub fn name(&self) -> String {
        match self {
            Self::ResNet(config) => config.name(),
            Self::EfficientNetLite(config) => config.name(),
            Self::Vit(config) => config.name.clone(),
            Self::ConvNext(config) => config.name.clone(),
            Self::MobileNet(config) => config.name.clone(),
        }
    }

    /// Width of the features.
    #[must_use]
    pub fn features(&self) -> usize {
        match self {
            Self::ResNet(config) => config.features(),
            Self::EfficientNetLite(_) => EFFICIENTNET_FEATURES,
            Self::Vit(config) => config.width,
            Self::ConvNext(config) => config.features(),
            Self::MobileNet(config) => config.features,
        }
    }

    /// Whether it takes images of 32 x 32.
    fn is_small(&self) -> bool {
        matches!(self, Self::ResNet(config) if config.stem_window.0 == 3)
    }

    pub(super) fn infer(shapes: &Shapes) -> Result<Self, String> {
        if shapes.contains_key("conv_stem.weight") {
            LiteConfig::infer(shapes).map(Self::EfficientNetLite)
        } else {
            ResNetConfig::infer(shapes).map(Self::ResNet)
        }
    }
}

/// What the convolutions and linear maps of a backbone put out for one picture, in values.
#[derive(Debug, Clone, PartialEq)]
pub struct MapSizes {
    /// All of each unit together.
    pub units: Vec<usize>,
    /// Values that training keeps for each of them.
    pub kept: f64,
    /// The most that is there at one time when nothing is kept for a backward pass.
    pub at_once: usize,
}

/// How pictures become a model's input.
#[derive(Debug, Clone, PartialEq)]
pub struct Pictures {
    /// Side of the square that the model sees.
    pub size: usize,
    /// That side as a share of the resized picture's shorter side.
    pub crop: f64,
    /// "bilinear", "bicubic" or "nearest".
    pub interpolation: String,
    /// Mean by channel, of values in [0, 1].
    pub mean: [f64; 3],
    /// Standard deviation by channel.
    pub std: [f64; 3],
}

impl Pictures {
    /// Shorter side of the resized picture, of which the middle is cut out.
    #[must_use]
    pub fn resized(&self) -> usize {
        (self.size as f64 / self.crop).floor() as usize
    }
}

/// Sides of pictures that a model may ask for.
const SIDES: std::ops::RangeInclusive<usize> = 1..=4096;

impl ModelConfig {
    /// The sizes of feature maps, for square pictures of this side; `None` for a model for texts.
    #[must_use]
    pub fn map_sizes(&self, side: usize) -> Option<MapSizes> {
        match &self.sizes {
            Sizes::Encoder(_) | Sizes::Decoder(_) => None,
            Sizes::ResNet(config) => Some(config.map_sizes(side)),
            Sizes::EfficientNet(config) => Some(config.map_sizes(side)),
            Sizes::Vit(config) => Some(config.map_sizes(side)),
            Sizes::ConvNext(config) => Some(config.map_sizes(side)),
            Sizes::MobileNet(config) => Some(config.map_sizes(side)),
        }
    }

    /// A model for pictures of this architecture, with no head and no directory.
    #[must_use]
    pub fn of_pictures(architecture: Architecture, pictures: Pictures) -> Self {
        let head = HeadConfig {
            width: architecture.features(),
            dense: Dense::None,
            dropout: 0.0,
            std: HEAD_STD,
            stream: 0,
        };
        let (entry, sizes) = match architecture {
            Architecture::ResNet(config) => (&RESNET, Sizes::ResNet(config)),
            Architecture::EfficientNetLite(config) => {
                (&EFFICIENTNET_LITE, Sizes::EfficientNet(config))
            }
            Architecture::ConvNext(config) => (&CONVNEXT, Sizes::ConvNext(config)),
            Architecture::MobileNet(config) => (&MOBILENET, Sizes::MobileNet(config)),
            Architecture::Vit(config) => match config.joined {
                true => (&VIT, Sizes::Vit(config)),
                false => (&VIT_OF_TRANSFORMERS, Sizes::Vit(config)),
            },
        };
        Self {
            family: entry.name,
            modality: Modality::Images,
            labels: Vec::new(),
            outputs: 0,
            problem: None,
            architectures: Vec::new(),
            mean_pooling: false,
            pictures: Some(pictures),
            text: None,
            entry,
            sizes,
            head,
            has_pooler: false,
            token_head: None,
            span_head: None,
            choice_head: None,
            raw: Map::new(),
        }
    }
}

/// What a directory says of a model for pictures whose weights are of this architecture.
pub(super) fn read(
    found: &Found,
    architecture: Architecture,
    outputs: usize,
) -> Result<ModelConfig, ModelError> {
    let raw = &found.raw;
    let reader = Reader {
        raw,
        path: &found.path,
    };
    let mut labels = reader.strings("label_names");
    if raw.contains_key("id2label") || raw.contains_key("label2id") {
        labels = reader.labels()?;
    }
    let mut pictures = usual(&architecture);
    let preprocessor = found.path.with_file_name(PREPROCESSOR);
    let of_timm = raw.get("pretrained_cfg").or_else(|| raw.get("default_cfg"));
    if let Some(Value::Object(cfg)) = of_timm {
        if let Some([_, _, size]) = numbers(cfg.get("input_size")) {
            pictures.size = size as usize;
        }
        let crop = cfg.get("crop_pct").and_then(Value::as_f64);
        pictures.crop = crop.unwrap_or(pictures.crop);
        if let Some(name) = cfg.get("interpolation").and_then(Value::as_str) {
            pictures.interpolation = name.to_owned();
        }
        pictures.mean = numbers(cfg.get("mean")).unwrap_or(pictures.mean);
        pictures.std = numbers(cfg.get("std")).unwrap_or(pictures.std);
        pictures.check(&reader)?;
    } else if preprocessor.is_file() {
        let raw = read_json(&preprocessor)?;
        of_transformers(&raw, &mut pictures);
        pictures.check(&Reader {
            raw: &raw,
            path: &preprocessor,
        })?;
    }
    let (size, mut architecture) = (pictures.size, architecture);
    if let Architecture::Vit(config) = &mut architecture {
        config.grid = size / config.patch;
        if config.grid == 0 {
            return Err(reader.error(format!(
                "pictures of {size} pixels hold no patch of {}",
                config.patch
            )));
        }
    }
    Ok(ModelConfig {
        labels,
        outputs,
        problem: reader.problem()?,
        architectures: reader.strings("architectures"),
        raw: raw.clone(),
        ..ModelConfig::of_pictures(architecture, pictures)
    })
}

/// What a model expects of pictures where no file says so.
fn usual(architecture: &Architecture) -> Pictures {
    let (size, crop, interpolation, (mean, std)) = match architecture {
        Architecture::ResNet(_) if architecture.is_small() => (32, 1.0, "bilinear", IMAGENET),
        Architecture::ResNet(_) | Architecture::EfficientNetLite(_) => {
            (224, 0.875, "bilinear", IMAGENET)
        }
        Architecture::ConvNext(_) | Architecture::MobileNet(_) => (224, 0.875, "bicubic", IMAGENET),
        Architecture::Vit(config) if config.joined => {
            (config.grid * config.patch, 0.9, "bicubic", CENTRED)
        }
        Architecture::Vit(config) => (config.grid * config.patch, 1.0, "bilinear", CENTRED),
    };
    Pictures {
        size,
        crop,
        interpolation: interpolation.into(),
        mean,
        std,
    }
}

impl Pictures {
    /// `preprocessor_config.json` of transformers. Its `crop_pct` is ours: transformers takes the whole picture.
    pub(crate) fn to_preprocessor(&self) -> Value {
        let resample = match self.interpolation.as_str() {
            "nearest" => 0,
            "bicubic" => 3,
            _ => 2,
        };
        json!({
            "image_processor_type": "ViTImageProcessor",
            "do_resize": true,
            "size": {"height": self.size, "width": self.size},
            "resample": resample,
            "do_rescale": true,
            "rescale_factor": 1.0 / 255.0,
            "do_normalize": true,
            "image_mean": self.mean,
            "image_std": self.std,
            "crop_pct": self.crop,
        })
    }

    /// Checks what came out of a file.
    fn check(&self, reader: &Reader<'_>) -> Result<(), ModelError> {
        if !SIDES.contains(&self.size) {
            return Err(reader.error(format!(
                "the side of pictures is {}, expected {} to {}",
                self.size,
                SIDES.start(),
                SIDES.end()
            )));
        }
        if !(self.crop > 0.1 && self.crop <= 1.0) {
            return Err(reader.error(format!(
                "crop_pct is {}, expected a share above 0.1 and of at most 1",
                self.crop
            )));
        }
        if let Some(std) = self.std.iter().find(|std| **std <= 0.0) {
            return Err(reader.error(format!(
                "the standard deviation of a channel is {std}, expected a number above 0"
            )));
        }
        Ok(())
    }

    /// `config.json` in timm's form.
    pub(crate) fn to_json(&self, architecture: &str, features: usize, head: &HeadSpec) -> Value {
        let mut json = json!({
            "architecture": architecture,
            "num_classes": head.outputs,
            "num_features": features,
            "label_names": head.labels,
            "pretrained_cfg": {
                "input_size": [3, self.size, self.size],
                "interpolation": self.interpolation,
                "crop_pct": self.crop,
                "mean": self.mean,
                "std": self.std,
                "num_classes": head.outputs,
            },
        });
        // timm has classifiers alone, and no word for other heads.
        if head.problem != Problem::SingleLabel {
            json["problem_type"] = head.problem.name().into();
        }
        json
    }
}

/// What transformers' `preprocessor_config.json` says.
fn of_transformers(raw: &Map<String, Value>, pictures: &mut Pictures) {
    let size = raw.get("size");
    let side = size
        .and_then(Value::as_u64)
        .or_else(|| size?.get("shortest_edge")?.as_u64())
        .or_else(|| size?.get("height")?.as_u64());
    pictures.size = side.map_or(pictures.size, |side| side as usize);
    pictures.crop = raw
        .get("crop_pct")
        .and_then(Value::as_f64)
        .unwrap_or(pictures.crop);
    pictures.mean = numbers(raw.get("image_mean")).unwrap_or(pictures.mean);
    pictures.std = numbers(raw.get("image_std")).unwrap_or(pictures.std);
    // PIL's numbers.
    pictures.interpolation = match raw.get("resample").and_then(Value::as_u64) {
        Some(0) => "nearest",
        Some(3) => "bicubic",
        _ => "bilinear",
    }
    .into();
}

fn numbers(value: Option<&Value>) -> Option<[f64; 3]> {
    let values: Vec<f64> = value?
        .as_array()?
        .iter()
        .filter_map(Value::as_f64)
        .collect();
    values.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// timm's tables of results give the activations of these models: 2.48, 11.11 and 6.74 million at 224 pixels.
    #[test]
    fn maps_are_as_large_as_timm_counts_them() {
        let resnet = |depths: [usize; 4], widths: [usize; 4], inner: Vec<usize>| {
            Architecture::ResNet(ResNetConfig {
                stem: 64,
                stem_window: (7, 2, true),
                depths: depths.into(),
                widths: widths.into(),
                inner,
                plain_shortcuts: false,
            })
        };
        let sizes = [64, 128, 256, 512];
        for (architecture, millions) in [
            (resnet([2; 4], sizes, Vec::new()), 2.48),
            (
                resnet([3, 4, 6, 3], sizes.map(|n| 4 * n), sizes.into()),
                11.11,
            ),
            (Architecture::EfficientNetLite(LiteConfig(0)), 6.74),
        ] {
            let maps = match &architecture {
                Architecture::ResNet(config) => config.map_sizes(224),
                Architecture::EfficientNetLite(config) => config.map_sizes(224),
                other => panic!("{other:?} is not in timm's table"),
            };
            let all = maps.units.iter().sum::<usize>() as f64 / 1e6;
            assert!(
                (all - millions).abs() < 0.01,
                "{}: {all}",
                architecture.name()
            );
        }
    }
}
