//! What a directory of an image model says of it: `config.json` as timm or transformers writes it, else what the weights
//! themselves show.

use super::{EFFICIENTNET_FEATURES, LiteConfig, ResNetConfig, Shapes};
use crate::{ModelError, read_config};
use serde_json::{Map, Value, json};
use std::path::Path;

/// ImageNet's mean and standard deviation by channel, of values in [0, 1].
const IMAGENET: ([f64; 3], [f64; 3]) = ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]);

/// A family with its sizes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Architecture {
    /// See [`ResNetConfig`].
    ResNet(ResNetConfig),
    /// See [`LiteConfig`].
    EfficientNetLite(LiteConfig),
}

impl Architecture {
    /// timm's name, where it has one.
    #[must_use]
    pub fn name(&self) -> String {
        match self {
            Self::ResNet(config) => config.name(),
            Self::EfficientNetLite(config) => config.name(),
        }
    }

    /// Width of the features.
    #[must_use]
    pub fn features(&self) -> usize {
        match self {
            Self::ResNet(config) => config.features(),
            Self::EfficientNetLite(_) => EFFICIENTNET_FEATURES,
        }
    }

    /// Side of the feature maps after so many units of the trunk, for square pictures of this side.
    #[must_use]
    pub fn side_after(&self, units: usize, side: usize) -> usize {
        let half = |side: usize, times: usize| (0..times).fold(side, |side, _| side.div_ceil(2));
        match self {
            Self::ResNet(config) => {
                let stem = match config.stem_window {
                    _ if units == 0 => 0,
                    (_, stride, pools) => usize::from(stride == 2) + usize::from(pools),
                };
                half(side, stem + units.saturating_sub(2))
            }
            Self::EfficientNetLite(_) => half(side, super::efficientnet::halvings(units)),
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

/// An image model.
#[derive(Debug, Clone, PartialEq)]
pub struct ImageConfig {
    /// What it is.
    pub architecture: Architecture,
    /// Classes of the checkpoint's head; 0 where it has none.
    pub classes: usize,
    /// Their names, where the directory says them.
    pub labels: Vec<String>,
    /// What it expects of pictures.
    pub pictures: Pictures,
}

impl ImageConfig {
    pub(super) fn read(
        dir: &Path,
        architecture: Architecture,
        classes: usize,
    ) -> Result<Self, ModelError> {
        let has = |name: &str| dir.join(name).is_file();
        let raw = if has("config.json") {
            read_config(dir)?
        } else {
            Map::new()
        };
        let mut labels: Vec<String> = strings(raw.get("label_names"));
        if let Some(Value::Object(names)) = raw.get("id2label") {
            let mut pairs: Vec<(usize, String)> = names
                .iter()
                .filter_map(|(id, name)| Some((id.parse().ok()?, name.as_str()?.to_owned())))
                .collect();
            pairs.sort();
            labels = pairs.into_iter().map(|(_, name)| name).collect();
        }
        if labels.len() != classes {
            labels.clear();
        }
        let (mean, std) = IMAGENET;
        let mut pictures = Pictures {
            size: if architecture.is_small() { 32 } else { 224 },
            crop: if architecture.is_small() { 1.0 } else { 0.875 },
            interpolation: "bilinear".into(),
            mean,
            std,
        };
        let of_timm = raw.get("pretrained_cfg").or_else(|| raw.get("default_cfg"));
        if let Some(Value::Object(cfg)) = of_timm {
            if let Some([_, _, size]) = numbers(cfg.get("input_size")) {
                pictures.size = size as usize;
            }
            pictures.crop = cfg
                .get("crop_pct")
                .and_then(Value::as_f64)
                .unwrap_or(pictures.crop);
            if let Some(name) = cfg.get("interpolation").and_then(Value::as_str) {
                pictures.interpolation = name.to_owned();
            }
            pictures.mean = numbers(cfg.get("mean")).unwrap_or(pictures.mean);
            pictures.std = numbers(cfg.get("std")).unwrap_or(pictures.std);
        } else if has("preprocessor_config.json") {
            of_transformers(&dir.join("preprocessor_config.json"), &mut pictures)?;
        }
        Ok(Self {
            architecture,
            classes,
            labels,
            pictures,
        })
    }

    /// `config.json` in timm's form.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let pictures = &self.pictures;
        json!({
            "architecture": self.architecture.name(),
            "num_classes": self.labels.len(),
            "num_features": self.architecture.features(),
            "label_names": self.labels,
            "pretrained_cfg": {
                "input_size": [3, pictures.size, pictures.size],
                "interpolation": pictures.interpolation,
                "crop_pct": pictures.crop,
                "mean": pictures.mean,
                "std": pictures.std,
                "num_classes": self.labels.len(),
            },
        })
    }
}

/// What transformers' `preprocessor_config.json` says.
fn of_transformers(path: &Path, pictures: &mut Pictures) -> Result<(), ModelError> {
    let text = std::fs::read_to_string(path).map_err(|source| ModelError::Io {
        path: path.to_owned(),
        source,
    })?;
    let raw: Value = serde_json::from_str(&text).map_err(|e| ModelError::Config {
        path: path.to_owned(),
        reason: format!("not valid JSON: {e}"),
    })?;
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
    Ok(())
}

fn strings(value: Option<&Value>) -> Vec<String> {
    match value {
        Some(Value::Array(values)) => values
            .iter()
            .filter_map(|v| v.as_str().map(str::to_owned))
            .collect(),
        _ => Vec::new(),
    }
}

fn numbers(value: Option<&Value>) -> Option<[f64; 3]> {
    let values: Vec<f64> = value?
        .as_array()?
        .iter()
        .filter_map(Value::as_f64)
        .collect();
    values.try_into().ok()
}
