//! Image classifiers on channels-last pictures `[N, H, W, 3]`: residual networks and EfficientNet-Lite, by the tensor names
//! of torchvision, timm, Hugging Face's `resnet` layout, and the checkpoints of older repositories.
//!
//! A trunk is a row of units (the stem, the stages, and where there is one the last convolution), so that a frozen
//! beginning can be computed once and its output kept.

mod config;
mod efficientnet;
mod resnet;

pub use config::{Architecture, ImageConfig, Pictures};
pub use efficientnet::{EfficientNet, LiteConfig};
pub use resnet::{ResNet, ResNetConfig};

use crate::{Checkpoint, LoadReport, ModelError, Rule, Weights};
use burn::{
    module::Module,
    tensor::{Tensor, backend::Backend},
};
use efficientnet::FEATURES as EFFICIENTNET_FEATURES;
use rekindle_base::write_atomically;
use rekindle_nn::{
    layers::{AdapterSlots, Linear},
    ops::{self, Pass, TuneBackend},
    params::{self, NameMap},
};
use rekindle_weights as weights;
use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

/// Fields are named as torchvision and timm name them.
pub const NAMES: NameMap = NameMap(&[]);

/// The shapes of a checkpoint's tensors, by the names that this crate gives them.
pub(crate) type Shapes = BTreeMap<String, Vec<usize>>;

/// An image model with a classification head.
#[derive(Module, Debug)]
#[allow(clippy::large_enum_variant)] // there is one of it, and it is moved once
pub enum ImageClassifier<B: Backend> {
    /// See [`ResNet`].
    ResNet(ResNet<B>),
    /// See [`EfficientNet`].
    EfficientNet(EfficientNet<B>),
}

impl<B: Backend> AdapterSlots<B> for ImageClassifier<B> {
    fn visit_linears(&mut self, path: &str, visit: &mut dyn FnMut(&str, &mut Linear<B>)) {
        match self {
            Self::ResNet(net) => net.visit_linears(path, visit),
            Self::EfficientNet(net) => net.visit_linears(path, visit),
        }
    }
}

/// How to set up the head.
#[derive(Debug, Clone)]
pub struct ImageHead {
    /// Label names by id; their number is C.
    pub labels: Vec<String>,
    /// Seed of new parameters.
    pub seed: u64,
    /// Whether the checkpoint's own head must be there (evaluation, prediction) rather than may be.
    pub require: bool,
}

/// A new head: small, so that it starts near even odds.
fn head<B: Backend>(key: u64, features: usize, classes: usize, device: &B::Device) -> Linear<B> {
    Linear::normal(key, features, classes, 0.01, device)
}

/// What the tensors of a checkpoint are, by our names.
struct Layout {
    /// Ours, by the checkpoint's.
    names: BTreeMap<String, String>,
    shapes: Shapes,
}

impl Layout {
    fn of(checkpoint: &Checkpoint) -> Self {
        let files = checkpoint.files();
        let bare = |name: &str| -> String {
            let mut name = name;
            for prefix in ["state_dict.", "model.", "module."] {
                name = name.strip_prefix(prefix).unwrap_or(name);
            }
            name.to_owned()
        };
        let indices: BTreeSet<String> = files
            .names()
            .filter_map(|name| {
                Some(
                    bare(name)
                        .strip_prefix("_blocks.")?
                        .split('.')
                        .next()?
                        .to_owned(),
                )
            })
            .collect();
        let mut layout = Self {
            names: BTreeMap::new(),
            shapes: Shapes::new(),
        };
        for name in files.names() {
            let ours = bare(name);
            let ours = resnet::from_hugging_face(&ours)
                .or_else(|| efficientnet::from_original(&ours, indices.len()))
                .or_else(|| Some(format!("fc.{}", ours.strip_prefix("linear.")?)))
                .unwrap_or(ours);
            if let Some(shape) = files.shape(name) {
                layout.shapes.insert(ours.clone(), shape.to_vec());
            }
            layout.names.insert(name.to_owned(), ours);
        }
        layout
    }

    fn classes(&self) -> usize {
        ["fc.weight", "classifier.weight"]
            .iter()
            .find_map(|name| self.shapes.get(*name)?.first().copied())
            .unwrap_or(0)
    }
}

fn layout(dir: &Path, checkpoint: &Checkpoint) -> Result<(Layout, Architecture), ModelError> {
    let layout = Layout::of(checkpoint);
    let architecture =
        Architecture::infer(&layout.shapes).map_err(|reason| ModelError::Config {
            path: dir.to_owned(),
            reason: format!("the weights are of no image model known here: {reason}\nhint: expected a ResNet (torchvision, timm, transformers or CIFAR) or an EfficientNet-Lite"),
        })?;
    Ok((layout, architecture))
}

/// What a model directory (or a file of weights) holds.
///
/// # Errors
/// When there are no weights, or they are of no architecture known here.
pub fn read_image_config(dir: &Path) -> Result<ImageConfig, ModelError> {
    let checkpoint = Checkpoint::open(dir)?;
    let (layout, architecture) = layout(dir, &checkpoint)?;
    let folder = if dir.is_file() {
        dir.parent().unwrap_or(dir)
    } else {
        dir
    };
    ImageConfig::read(folder, architecture, layout.classes())
}

impl<B: Backend> ImageClassifier<B> {
    /// With random weights.
    pub fn init(
        architecture: &Architecture,
        classes: usize,
        seed: u64,
        device: &B::Device,
    ) -> Self {
        match architecture {
            Architecture::ResNet(config) => {
                Self::ResNet(ResNet::init(config, classes, seed, device))
            }
            Architecture::EfficientNetLite(config) => {
                Self::EfficientNet(EfficientNet::init(*config, classes, seed, device))
            }
        }
    }

    /// Loads a model directory or a file of weights. A head for exactly these labels is loaded; another is replaced by a
    /// new one, which the report says.
    ///
    /// # Errors
    /// See [`ModelError`]; every tensor that has no place and every parameter that has no tensor is named.
    pub fn from_pretrained(
        dir: &Path,
        config: &ImageConfig,
        head: &ImageHead,
        device: &B::Device,
    ) -> Result<(Self, LoadReport), ModelError> {
        let checkpoint = Checkpoint::open(dir)?;
        let layout = Layout::of(&checkpoint);
        let module = Self::init(&config.architecture, head.labels.len(), head.seed, device);
        let same_labels = head.require || config.labels == head.labels;
        let is_head = |name: &str| Self::unit_of(name).is_none();
        let weights = Weights {
            names: NAMES,
            rule: &|name| {
                if name.ends_with("num_batches_tracked") {
                    return Rule::Ignore("a count of batches, of no use with a fixed momentum");
                }
                let ours = layout.names.get(name).cloned();
                Rule::Load(ours.unwrap_or_else(|| name.to_owned()))
            },
            may_initialise: &|name| {
                (is_head(name) && !head.require).then(|| "the checkpoint has no head".into())
            },
            may_replace: &|name| {
                (is_head(name) && !same_labels)
                    .then(|| "the checkpoint's head is for other labels".into())
            },
        };
        checkpoint.load_into(module, &weights, device)
    }

    /// Writes `config.json` and `model.safetensors` as timm does.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub fn save_pretrained(&self, dir: &Path, config: &ImageConfig) -> Result<(), ModelError> {
        let io = |path: &Path| {
            let path = path.to_owned();
            move |source| ModelError::Io { path, source }
        };
        std::fs::create_dir_all(dir).map_err(io(dir))?;
        let state = params::state(self, NAMES)?;
        weights::write(
            &dir.join("model.safetensors"),
            state.iter().map(|(name, tensor)| (name.as_str(), tensor)),
            &[],
        )?;
        let path = dir.join("config.json");
        let text = format!("{:#}\n", config.to_json());
        write_atomically(&path, text.as_bytes()).map_err(io(&path))
    }

    /// The head.
    pub fn classifier(&self) -> &Linear<B> {
        match self {
            Self::ResNet(net) => net.classifier(),
            Self::EfficientNet(net) => net.classifier(),
        }
    }

    /// The head's module, by path: "fc" or "classifier".
    pub fn head_name(&self) -> &'static str {
        match self {
            Self::ResNet(_) => "fc",
            Self::EfficientNet(_) => "classifier",
        }
    }

    /// Number of units of the trunk.
    pub fn units(&self) -> usize {
        match self {
            Self::ResNet(net) => net.units(),
            Self::EfficientNet(net) => net.units(),
        }
    }

    /// The unit of a parameter, by its path; `None` for the head.
    pub fn unit_of(path: &str) -> Option<usize> {
        match path.split('.').next() {
            Some("blocks" | "conv_stem" | "conv_head" | "bn2" | "classifier") => {
                efficientnet::unit_of(path)
            }
            _ => resnet::unit_of(path),
        }
    }

    /// How many units at the beginning hold nothing that trains.
    pub fn frozen_units(&self) -> usize {
        let mut frozen = self.units();
        params::visit(self, &mut |param: params::ParamRef<'_, B>| {
            if let (true, Some(unit)) = (param.trainable, Self::unit_of(param.path)) {
                frozen = frozen.min(unit);
            }
        });
        frozen
    }
}

impl<B: TuneBackend> ImageClassifier<B> {
    /// Units `from..to` of the trunk: `[N, H, W, C]` -> `[N, H', W', C']`.
    pub fn trunk(
        &self,
        x: Tensor<B, 4>,
        units: std::ops::Range<usize>,
        pass: Pass,
    ) -> Tensor<B, 4> {
        units.fold(x, |x, unit| match self {
            Self::ResNet(net) => net.unit(unit, x, pass),
            Self::EfficientNet(net) => net.unit(unit, x, pass),
        })
    }

    /// The mean over each picture of the trunk's output: `[N, H, W, C]` -> `[N, C]`.
    pub fn pool(&self, x: Tensor<B, 4>) -> Tensor<B, 2> {
        let [n, height, width, channels] = x.dims();
        x.reshape([n, height * width, channels])
            .mean_dim(1)
            .squeeze_dim::<2>(1)
    }

    /// Logits `[N, C]` of pooled features `[N, F]`, after dropout at this rate.
    pub fn head(&self, features: Tensor<B, 2>, dropout: f64, pass: Pass) -> Tensor<B, 2> {
        let features = ops::dropout(features, dropout, pass.child(0));
        self.classifier().forward(features, pass.child(1))
    }

    /// Logits `[N, C]` of pictures `[N, H, W, 3]`, without dropout.
    pub fn forward(&self, x: Tensor<B, 4>, pass: Pass) -> Tensor<B, 2> {
        let x = self.trunk(x, 0..self.units(), pass);
        self.head(self.pool(x), 0.0, pass)
    }
}
