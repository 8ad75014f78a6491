//! ConvNeXt (Liu et al. 2022) by timm's names: depthwise convolutions of 7 x 7 and linear maps behind layer norms. A norm over
//! the channels of a channels-last picture is one of rows. The smallest ones (`convnext_atto` to `convnext_nano`) call their
//! linear maps convolutions of 1 x 1: they are the same here, and lie in files as those.

use super::{MapSizes, config::Arguments, vit::Mlp};
use crate::{ModelError, config::Reader, encoder::within, pretrained::Found};
use burn::{
    module::{Module, Param},
    tensor::{Tensor, backend::Backend},
};
use rekindle_base::rng;
use rekindle_nn::{
    init,
    layers::{AdapterSlots, Conv2d, LayerNorm, Padding, Slot, join},
    ops::{GeluKind, Pass, TuneBackend},
};
use serde_json::{Value, json};

/// What a new layer scale begins at.
const SCALE: f64 = 1e-6;

/// The sizes of a ConvNeXt.
#[derive(Debug, Clone, PartialEq)]
pub struct ConvNextConfig {
    /// timm's name.
    pub name: String,
    /// Side of the stem's patches.
    pub patch: usize,
    /// Blocks in each stage.
    pub depths: Vec<usize>,
    /// Channels of each stage.
    pub widths: Vec<usize>,
    /// Sides of each stage's depthwise kernels.
    pub kernels: Vec<usize>,
    /// Whether each block's branch is scaled by channel.
    pub layer_scale: bool,
    /// Whether timm calls the linear maps convolutions.
    pub of_convolutions: bool,
    /// ε of layer norms.
    pub epsilon: f64,
}

/// What timm's configuration may set that the tensors show, or that says nothing of what is computed.
const ARGUMENTS: [&str; 13] = [
    "conv_mlp",
    "depths",
    "dims",
    "drop_path_rate",
    "drop_rate",
    "global_pool",
    "head_init_scale",
    "in_chans",
    "kernel_sizes",
    "ls_init_value",
    "norm_eps",
    "num_classes",
    "patch_size",
];

/// Parts of timm's models that are not read, by a tensor of theirs.
const UNREAD: [(&str, &str); 4] = [
    (
        "stages.0.blocks.0.mlp.grn.weight",
        "it is a ConvNeXt V2, which normalises responses over the picture",
    ),
    ("head.pre_logits.fc.weight", "its head has a hidden layer"),
    ("norm_pre.weight", "it normalises before it pools"),
    ("stem.1.weight", "its stem's windows overlap"),
];

impl ConvNextConfig {
    /// The sizes of a checkpoint: of its tensors, and of `config.json` what these do not show.
    ///
    /// # Errors
    /// What is missing or not read.
    pub(super) fn infer(found: &Found) -> Result<Self, ModelError> {
        let reader = Reader {
            raw: &found.raw,
            path: &found.path,
        };
        let shape = |name: &str| found.shapes.get(name).map(Vec::as_slice);
        let error = |reason: String| {
            let hint = "take a plain convnext_* of timm, from convnext_atto to convnext_xxlarge";
            Err(reader.error(format!("{reason}\nhint: {hint}")))
        };
        let is_there = |tensor: &str| match tensor {
            // Of a patch stem this is a norm.
            "stem.1.weight" => shape(tensor).is_some_and(|shape| shape.len() == 4),
            _ => shape(tensor).is_some(),
        };
        if let Some((tensor, what)) = UNREAD.iter().find(|(tensor, _)| is_there(tensor)) {
            return error(format!(
                "this ConvNeXt is not read: {what} (tensor `{tensor}`)"
            ));
        }
        let arguments = match Arguments::of(&found.raw, &ARGUMENTS) {
            Ok(arguments) => arguments,
            Err(reason) => return error(reason),
        };
        let &[_, 3, patch, _] = shape("stem.0.weight").unwrap_or_default() else {
            return error("`stem.0.weight` is no convolution of three channels".into());
        };
        let block = |stage: usize, block: usize, part: &str| {
            shape(&format!("stages.{stage}.blocks.{block}.{part}"))
        };
        let (mut depths, mut widths, mut kernels) = (Vec::new(), Vec::new(), Vec::new());
        while let Some(&[width, 1, kernel, _]) = block(depths.len(), 0, "conv_dw.weight") {
            let stage = depths.len();
            let depth = (0..).take_while(|&at| block(stage, at, "conv_dw.weight").is_some());
            depths.push(depth.count());
            widths.push(width);
            kernels.push(kernel);
        }
        let Some(wide) = block(0, 0, "mlp.fc1.weight") else {
            return error("the first block has no `mlp.fc1`".into());
        };
        if let Some(other) = arguments.pooling().filter(|pooling| *pooling != "avg") {
            return error(format!("global_pool is `{other}`, expected avg"));
        }
        let name = reader.text("architecture").unwrap_or_default();
        let usual = match name {
            "convnext_xxlarge" => 1e-5,
            _ => 1e-6,
        };
        let epsilon = arguments.get("norm_eps").and_then(Value::as_f64);
        let of_convolutions = wide.len() == 4;
        Ok(Self {
            name: match name.starts_with("convnext_") {
                true => name.to_owned(),
                false => name_of(&widths, &depths, of_convolutions).to_owned(),
            },
            patch,
            depths,
            widths,
            kernels,
            layer_scale: block(0, 0, "gamma").is_some(),
            of_convolutions,
            epsilon: epsilon.unwrap_or(usual),
        })
    }

    /// Width of the features.
    #[must_use]
    pub fn features(&self) -> usize {
        self.widths.last().copied().unwrap_or_default()
    }

    /// Side of the feature maps after so many units, for square pictures of this side.
    pub(crate) fn side_after(&self, units: usize, side: usize) -> usize {
        match units {
            0 => side,
            units if units > 1 + self.depths.len() => 1,
            units => (side / self.patch) >> units.saturating_sub(2),
        }
    }

    /// The sizes of what convolutions and linear maps put out, for square pictures of this side.
    pub(crate) fn map_sizes(&self, side: usize) -> MapSizes {
        /// A block keeps its input and its norm's output beside what its maps put out.
        const KEPT: f64 = 1.4;
        let map = |units: usize, width: usize| self.side_after(units, side).pow(2) * width;
        let mut units = vec![map(1, self.widths[0])];
        let mut at_once = 2 * units[0];
        for (stage, (&depth, &width)) in self.depths.iter().zip(&self.widths).enumerate() {
            let block = map(2 + stage, width);
            units.push(depth * 6 * block + if stage > 0 { block } else { 0 });
            // What goes around, and the wide map before and after GELU.
            at_once = at_once.max(10 * block);
        }
        units.push(self.features());
        MapSizes {
            units,
            kept: KEPT,
            at_once,
        }
    }

    /// Adds to timm's `config.json` what tells this network from others of its name.
    pub(crate) fn add_to(&self, json: &mut Value) {
        json["model_args"] = json!({
            "patch_size": self.patch,
            "depths": self.depths,
            "dims": self.widths,
            "kernel_sizes": self.kernels,
            "conv_mlp": self.of_convolutions,
            "ls_init_value": self.layer_scale.then_some(SCALE),
            "norm_eps": self.epsilon,
        });
    }
}

/// timm's name of a network of about these sizes; the exact ones are told by its arguments.
fn name_of(widths: &[usize], depths: &[usize], of_convolutions: bool) -> &'static str {
    let deep = depths.get(2).is_some_and(|&depth| depth > 9);
    match (widths.first(), of_convolutions, deep) {
        (Some(..=40), true, _) => "convnext_atto",
        (Some(..=48), true, _) => "convnext_femto",
        (Some(..=64), true, _) => "convnext_pico",
        (_, true, _) => "convnext_nano",
        (Some(..=96), false, true) => "convnext_small",
        (Some(..=128), false, true) => "convnext_base",
        (Some(..=192), false, true) => "convnext_large",
        (Some(..=256), false, true) => "convnext_xlarge",
        _ => "convnext_tiny",
    }
}

/// A depthwise convolution, a norm and two linear maps, with a way around them.
#[derive(Module, Debug)]
pub struct ConvNextBlock<B: Backend> {
    conv_dw: Conv2d<B>,
    norm: LayerNorm<B>,
    mlp: Mlp<B>,
    gamma: Option<Param<Tensor<B, 1>>>,
}

/// Blocks of one width, behind a norm and a convolution that halves the map.
#[derive(Module, Debug)]
pub struct ConvNextStage<B: Backend> {
    downsample: Option<(LayerNorm<B>, Conv2d<B>)>,
    blocks: Vec<ConvNextBlock<B>>,
}

/// A ConvNeXt without a head.
#[derive(Module, Debug)]
pub struct ConvNext<B: Backend> {
    stem: (Conv2d<B>, LayerNorm<B>),
    stages: Vec<ConvNextStage<B>>,
    norm: LayerNorm<B>,
    of_convolutions: bool,
}

impl<B: Backend> AdapterSlots<B> for ConvNext<B> {
    fn visit_slots(&mut self, path: &str, visit: &mut dyn FnMut(&str, Slot<'_, B>)) {
        let of_convolutions = self.of_convolutions;
        let mut visit = |path: &str, slot: Slot<'_, B>| match slot {
            Slot::Linear(map) if of_convolutions => visit(path, Slot::Pointwise(map)),
            slot => visit(path, slot),
        };
        for (stage, blocks) in self.stages.iter_mut().enumerate() {
            for (block, layer) in blocks.blocks.iter_mut().enumerate() {
                let path = join(path, &format!("stages.{stage}.blocks.{block}.mlp"));
                layer.mlp.visit_slots(&path, &mut visit);
            }
        }
    }
}

impl<B: Backend> ConvNext<B> {
    /// With random weights.
    pub fn init(config: &ConvNextConfig, seed: u64, device: &B::Device) -> Self {
        let norm = |width: usize| LayerNorm::new(width, config.epsilon, device);
        let conv = |name: &str, channels, kernel, stride, padding, groups| {
            let (key, padding) = (rng::named(seed, name), Padding::Explicit(padding));
            Conv2d::init(key, channels, kernel, stride, padding, groups, device).with_bias(device)
        };
        let stage = |stage: usize| {
            let (width, kernel) = (config.widths[stage], config.kernels[stage]);
            let block = |block: usize| {
                let name = |part: &str| format!("stages.{stage}.blocks.{block}.{part}");
                let channels = (width, width);
                ConvNextBlock {
                    conv_dw: conv(&name("conv_dw"), channels, kernel, 1, kernel / 2, width),
                    norm: norm(width),
                    mlp: Mlp::init(seed, &name("mlp"), width, 4 * width, device),
                    gamma: config.layer_scale.then(|| {
                        init::lazy([width], device, |shape, device| {
                            Tensor::full(shape, SCALE, device)
                        })
                    }),
                }
            };
            let before = stage.checked_sub(1).map(|before| config.widths[before]);
            ConvNextStage {
                downsample: before.map(|before| {
                    let name = format!("stages.{stage}.downsample.1");
                    (norm(before), conv(&name, (before, width), 2, 2, 0, 1))
                }),
                blocks: (0..config.depths[stage]).map(block).collect(),
            }
        };
        let (width, patch) = (config.widths[0], config.patch);
        Self {
            stem: (conv("stem.0", (3, width), patch, patch, 0, 1), norm(width)),
            stages: (0..config.depths.len()).map(stage).collect(),
            norm: norm(config.features()),
            of_convolutions: config.of_convolutions,
        }
    }

    /// The stem, the stages, and the norm of what the head reads.
    pub(crate) fn units(&self) -> usize {
        2 + self.stages.len()
    }

    /// The unit of a parameter, by its path; `None` where the path is none.
    pub(crate) fn unit_of(&self, path: &str) -> Option<usize> {
        let mut parts = path.split('.');
        match parts.next()? {
            "stages" => Some(1 + parts.next()?.parse::<usize>().ok()?),
            "norm" => Some(1 + self.stages.len()),
            _ => Some(0),
        }
    }
}

/// A norm over the channels of each pixel.
fn normed<B: TuneBackend>(norm: &LayerNorm<B>, x: Tensor<B, 4>) -> Tensor<B, 4> {
    let shape @ [n, height, width, channels] = x.dims();
    let rows = x.reshape([n * height * width, channels]);
    norm.forward(rows).reshape(shape)
}

impl<B: TuneBackend> ConvNextBlock<B> {
    /// `x [N, H, W, C]` -> the same shape
    fn forward(&self, x: Tensor<B, 4>, pass: Pass) -> Tensor<B, 4> {
        let pass = within(self, pass);
        let shape @ [n, height, width, channels] = x.dims();
        let y = self.conv_dw.forward(x.clone(), pass);
        let y = self.norm.forward(y.reshape([n * height * width, channels]));
        let y = self.mlp.forward(y, GeluKind::Exact, pass);
        let y = match &self.gamma {
            None => y,
            Some(gamma) => y * gamma.val().unsqueeze::<2>(),
        };
        x + y.reshape(shape)
    }
}

impl<B: TuneBackend> ConvNext<B> {
    pub(crate) fn unit(&self, unit: usize, x: Tensor<B, 4>, pass: Pass) -> Tensor<B, 4> {
        match unit {
            0 => normed(&self.stem.1, self.stem.0.forward(x, pass)),
            unit if unit <= self.stages.len() => {
                let stage = &self.stages[unit - 1];
                let x = match &stage.downsample {
                    None => x,
                    Some((norm, conv)) => conv.forward(normed(norm, x), pass),
                };
                (stage.blocks.iter()).fold(x, |x, block| block.forward(x, pass))
            }
            _ => {
                let [n, height, width, channels] = x.dims();
                let x = x.reshape([n, height * width, channels]).mean_dim(1);
                let x = self.norm.forward(x.squeeze_dim::<2>(1));
                x.reshape([n, 1, 1, channels])
            }
        }
    }
}
