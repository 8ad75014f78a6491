//! MobileNetV3 (Howard et al. 2019) by timm's names, large and small, of any width, and TensorFlow's with its padding
//! (`tf_mobilenetv3_*`, also the minimal ones): inverted residuals with squeeze-and-excitation and hard swish. What the convolution
//! behind the pool puts out is what the head reads.

use super::{KEPT_BY_CONVOLUTIONS, MapSizes, config::Arguments};
use crate::{ModelError, config::Reader, pretrained::Found};
use burn::{
    module::Module,
    tensor::{Tensor, activation, backend::Backend},
};
use rekindle_base::rng;
use rekindle_nn::{
    adapter_slots,
    layers::{BatchNorm, Conv2d, Padding},
    ops::{Pass, Rectify, TuneBackend},
};

/// Strides of the stages' first blocks, and how many stages from the first on are rectified and not swished.
const LARGE: ([usize; 7], [usize; 7], usize) = ([1, 2, 2, 2, 1, 2, 1], [1, 2, 3, 4, 2, 3, 1], 3);
const SMALL: ([usize; 6], [usize; 6], usize) = ([2, 2, 2, 1, 2, 1], [1, 2, 3, 2, 3, 1], 2);

/// What timm's configuration may set that the tensors show, or that says nothing of what is computed.
const ARGUMENTS: [&str; 5] = [
    "drop_path_rate",
    "drop_rate",
    "global_pool",
    "in_chans",
    "num_classes",
];

/// The sizes of a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MobileSizes {
    /// Channels that come in.
    pub inputs: usize,
    /// Channels of the depthwise convolution.
    pub wide: usize,
    /// Channels that go out.
    pub outputs: usize,
    /// Side of the depthwise kernel; 0 where the block is one convolution of 1 x 1.
    pub kernel: usize,
    /// Whether channels are made wide first.
    pub expands: bool,
    /// Channels that the excitation is squeezed to, where there is one.
    pub squeezed: Option<usize>,
}

/// The sizes of a MobileNetV3.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MobileNetConfig {
    /// timm's name.
    pub name: String,
    /// Channels of the stem.
    pub stem: usize,
    /// The blocks of each stage: seven stages of a large one, six of a small one.
    pub stages: Vec<Vec<MobileSizes>>,
    /// Width of the features.
    pub features: usize,
    /// Whether padding and ε are TensorFlow's.
    pub of_tensorflow: bool,
}

impl MobileNetConfig {
    /// The sizes of a checkpoint: of its tensors, and of `config.json` whether it is TensorFlow's.
    ///
    /// # Errors
    /// What is missing or odd.
    pub(super) fn infer(found: &Found) -> Result<Self, ModelError> {
        let reader = Reader {
            raw: &found.raw,
            path: &found.path,
        };
        let error = |reason: &str| {
            let hint = "take a mobilenetv3_* or tf_mobilenetv3_* of timm";
            Err(reader.error(format!("{reason}\nhint: {hint}")))
        };
        let size = |name: &str, axis: usize| found.dimension(&format!("{name}.weight"), axis);
        let mut stages: Vec<Vec<MobileSizes>> = Vec::new();
        loop {
            let block = |at: usize| {
                let name = |part: &str| format!("blocks.{}.{at}.{part}", stages.len());
                if let Some(outputs) = size(&name("conv"), 0) {
                    let inputs = size(&name("conv"), 1)?;
                    return Some(MobileSizes {
                        inputs,
                        wide: inputs,
                        outputs,
                        kernel: 0,
                        expands: false,
                        squeezed: None,
                    });
                }
                let expands = size(&name("conv_pwl"), 0).is_some();
                let last = if expands { "conv_pwl" } else { "conv_pw" };
                Some(MobileSizes {
                    inputs: size(&name("conv_pw"), 1)?,
                    wide: size(&name("conv_dw"), 0)?,
                    outputs: size(&name(last), 0)?,
                    kernel: size(&name("conv_dw"), 2)?,
                    expands,
                    squeezed: size(&name("se.conv_reduce"), 0),
                })
            };
            let blocks: Vec<MobileSizes> = (0..).map_while(block).collect();
            if blocks.is_empty() {
                break;
            }
            stages.push(blocks);
        }
        let depths: Vec<usize> = stages.iter().map(Vec::len).collect();
        if depths != LARGE.1 && depths != SMALL.1 {
            return error("the blocks are those of no MobileNetV3");
        }
        let arguments = match Arguments::of(&found.raw, &ARGUMENTS) {
            Ok(arguments) => arguments,
            Err(reason) => return error(&reason),
        };
        if arguments.pooling().is_some_and(|pooling| pooling != "avg") {
            return error("global_pool is not `avg`");
        }
        let (Some(stem), Some(features)) = (size("conv_stem", 0), size("conv_head", 0)) else {
            return error("no tensor `conv_stem.weight` or `conv_head.weight`");
        };
        let last = (stages.last()).map_or(0, |blocks| blocks[0].outputs);
        let minimal = stages
            .iter()
            .flatten()
            .all(|block| block.squeezed.is_none());
        let usual = match (depths.len(), last, minimal) {
            (7, _, true) => "tf_mobilenetv3_large_minimal_100",
            (_, _, true) => "tf_mobilenetv3_small_minimal_100",
            (7, 720, _) => "mobilenetv3_large_075",
            (7, ..) => "mobilenetv3_large_100",
            (_, 288, _) => "mobilenetv3_small_050",
            (_, 432, _) => "mobilenetv3_small_075",
            _ => "mobilenetv3_small_100",
        };
        let name = reader.text("architecture");
        let name = name.filter(|name| name.contains("mobilenetv3_"));
        let name = name.unwrap_or(usual).to_owned();
        Ok(Self {
            of_tensorflow: name.starts_with("tf_"),
            name,
            stem,
            stages,
            features,
        })
    }

    fn is_large(&self) -> bool {
        self.stages.len() == LARGE.0.len()
    }

    fn stride(&self, stage: usize) -> usize {
        match self.is_large() {
            true => LARGE.0[stage],
            false => SMALL.0[stage],
        }
    }

    /// Whether what is behind a norm of this stage (`None`: of the stem and the head) is swished, and not rectified.
    fn swishes(&self, stage: Option<usize>) -> bool {
        let rectified = if self.is_large() { LARGE.2 } else { SMALL.2 };
        let mut blocks = self.stages.iter().flatten();
        // The minimal ones have neither excitations nor swishes.
        blocks.any(|block| block.squeezed.is_some()) && stage.is_none_or(|stage| stage >= rectified)
    }

    /// Side of the feature maps after so many units, for square pictures of this side.
    pub(crate) fn side_after(&self, units: usize, side: usize) -> usize {
        if units > 1 + self.stages.len() {
            return 1;
        }
        let stages = (0..units.saturating_sub(1)).filter(|&stage| self.stride(stage) == 2);
        super::halved(side, usize::from(units > 0) + stages.count())
    }

    /// The sizes of feature maps, for square pictures of this side.
    pub(crate) fn map_sizes(&self, side: usize) -> MapSizes {
        let map = |units: usize, channels: usize| self.side_after(units, side).pow(2) * channels;
        let mut units = vec![map(1, self.stem)];
        let mut at_once = 2 * units[0];
        for (stage, blocks) in self.stages.iter().enumerate() {
            let mut values = 0;
            for (at, block) in blocks.iter().enumerate() {
                let (before, after) = (1 + stage + usize::from(at > 0), 2 + stage);
                let expanded = if block.expands {
                    map(before, block.wide)
                } else {
                    0
                };
                let depthwise = if block.kernel > 0 {
                    map(after, block.wide)
                } else {
                    0
                };
                values += expanded + depthwise + map(after, block.outputs);
                at_once = at_once.max(3 * expanded.max(depthwise));
            }
            units.push(values);
        }
        units.push(self.features);
        MapSizes {
            units,
            kept: KEPT_BY_CONVOLUTIONS,
            at_once,
        }
    }
}

/// A factor for each channel of the mean over the picture.
#[derive(Module, Debug)]
pub struct SqueezeExcite<B: Backend> {
    conv_reduce: Conv2d<B>,
    conv_expand: Conv2d<B>,
}

/// A depthwise separable block, an inverted residual, or the last convolution of 1 x 1.
#[derive(Module, Debug)]
pub struct MobileNetBlock<B: Backend> {
    conv: Option<Conv2d<B>>,
    conv_pw: Option<Conv2d<B>>,
    bn1: BatchNorm<B>,
    conv_dw: Option<Conv2d<B>>,
    bn2: Option<BatchNorm<B>>,
    se: Option<SqueezeExcite<B>>,
    conv_pwl: Option<Conv2d<B>>,
    bn3: Option<BatchNorm<B>>,
    residual: bool,
    swishes: bool,
}

/// A MobileNetV3 without a head.
#[derive(Module, Debug)]
pub struct MobileNet<B: Backend> {
    conv_stem: Conv2d<B>,
    bn1: BatchNorm<B>,
    blocks: Vec<Vec<MobileNetBlock<B>>>,
    conv_head: Conv2d<B>,
    swishes: bool,
}

adapter_slots!(SqueezeExcite {
    conv_reduce,
    conv_expand
});
adapter_slots!(MobileNetBlock {
    conv,
    conv_pw,
    conv_dw,
    se,
    conv_pwl
});
adapter_slots!(MobileNet {
    conv_stem,
    blocks,
    conv_head
});

impl<B: Backend> MobileNet<B> {
    /// With random weights.
    pub fn init(config: &MobileNetConfig, seed: u64, device: &B::Device) -> Self {
        let padding = |kernel: usize| match config.of_tensorflow {
            true => Padding::Same,
            false => Padding::Explicit(kernel / 2),
        };
        let conv = |name: &str, channels, kernel, stride, groups| {
            let (key, padding) = (rng::named(seed, name), padding(kernel));
            Conv2d::init(key, channels, kernel, stride, padding, groups, device)
        };
        let point = |name: &str, channels| {
            let (key, padding) = (rng::named(seed, name), Padding::Explicit(0));
            Conv2d::init(key, channels, 1, 1, padding, 1, device)
        };
        let epsilon = if config.of_tensorflow { 1e-3 } else { 1e-5 };
        let norm = |channels| BatchNorm::new(channels, epsilon, device);
        let block = |stage: usize, at: usize, sizes: &MobileSizes| {
            let name = |part: &str| format!("blocks.{stage}.{at}.{part}");
            let &MobileSizes {
                inputs,
                wide,
                outputs,
                kernel,
                expands,
                squeezed,
            } = sizes;
            let stride = if at == 0 { config.stride(stage) } else { 1 };
            let is_last = kernel == 0;
            let pointwise = if expands { wide } else { outputs };
            let separable = (!is_last).then_some(());
            MobileNetBlock {
                conv: is_last.then(|| point(&name("conv"), (inputs, outputs))),
                conv_pw: separable.map(|()| point(&name("conv_pw"), (inputs, pointwise))),
                bn1: norm(if is_last { outputs } else { wide }),
                conv_dw: separable
                    .map(|()| conv(&name("conv_dw"), (wide, wide), kernel, stride, wide)),
                bn2: separable.map(|()| norm(if expands { wide } else { outputs })),
                se: squeezed.map(|squeezed| SqueezeExcite {
                    conv_reduce: point(&name("se.conv_reduce"), (wide, squeezed)).with_bias(device),
                    conv_expand: point(&name("se.conv_expand"), (squeezed, wide)).with_bias(device),
                }),
                conv_pwl: expands.then(|| point(&name("conv_pwl"), (wide, outputs))),
                bn3: expands.then(|| norm(outputs)),
                residual: !is_last && stride == 1 && inputs == outputs,
                swishes: config.swishes(Some(stage)),
            }
        };
        let stages = config.stages.iter().enumerate();
        let last = config.stages.last().map_or(0, |blocks| blocks[0].outputs);
        Self {
            conv_stem: conv("conv_stem", (3, config.stem), 3, 2, 1),
            bn1: norm(config.stem),
            blocks: stages
                .map(|(stage, blocks)| {
                    let blocks = blocks.iter().enumerate();
                    blocks.map(|(at, sizes)| block(stage, at, sizes)).collect()
                })
                .collect(),
            conv_head: point("conv_head", (last, config.features)).with_bias(device),
            swishes: config.swishes(None),
        }
    }

    /// The stem, the stages, and the convolution behind the pool.
    pub(crate) fn units(&self) -> usize {
        2 + self.blocks.len()
    }

    /// The unit of a parameter, by its path; `None` where the path is none.
    pub(crate) fn unit_of(&self, path: &str) -> Option<usize> {
        let mut parts = path.split('.');
        match parts.next()? {
            "blocks" => Some(1 + parts.next()?.parse::<usize>().ok()?),
            "conv_head" => Some(1 + self.blocks.len()),
            _ => Some(0),
        }
    }
}

/// min(max(x + 3, 0), 6) / 6
fn hard_sigmoid<B: Backend>(x: Tensor<B, 4>) -> Tensor<B, 4> {
    (x + 3.0).clamp(0.0, 6.0) / 6.0
}

fn hard_swish<B: Backend>(x: Tensor<B, 4>) -> Tensor<B, 4> {
    x.clone() * hard_sigmoid(x)
}

/// The norm of x, swished or rectified.
fn active<B: TuneBackend>(
    norm: &BatchNorm<B>,
    x: Tensor<B, 4>,
    swishes: bool,
    pass: Pass,
) -> Tensor<B, 4> {
    match swishes {
        true => hard_swish(norm.forward(x, None, Rectify::None, pass)),
        false => norm.forward(x, None, Rectify::Relu, pass),
    }
}

/// The mean over each picture, `[N, 1, 1, C]`.
fn pooled<B: Backend>(x: Tensor<B, 4>) -> Tensor<B, 4> {
    let [n, height, width, channels] = x.dims();
    let x = x.reshape([n, height * width, channels]).mean_dim(1);
    x.reshape([n, 1, 1, channels])
}

impl<B: TuneBackend> SqueezeExcite<B> {
    /// `x [N, H, W, C]` -> the same shape
    fn forward(&self, x: Tensor<B, 4>, pass: Pass) -> Tensor<B, 4> {
        let squeezed = self.conv_reduce.forward(pooled(x.clone()), pass);
        let expanded = self.conv_expand.forward(activation::relu(squeezed), pass);
        x * hard_sigmoid(expanded)
    }
}

impl<B: TuneBackend> MobileNetBlock<B> {
    /// `x [N, H, W, C]` -> `[N, H', W', C']`
    fn forward(&self, x: Tensor<B, 4>, pass: Pass) -> Tensor<B, 4> {
        let around = self.residual.then(|| x.clone());
        let excited = |x: Tensor<B, 4>| match &self.se {
            None => x,
            Some(se) => se.forward(x, pass),
        };
        match (&self.conv, &self.conv_pw, &self.conv_dw, &self.bn2) {
            (Some(conv), ..) => active(&self.bn1, conv.forward(x, pass), self.swishes, pass),
            (None, Some(conv_pw), Some(conv_dw), Some(bn2)) => match (&self.conv_pwl, &self.bn3) {
                (Some(conv_pwl), Some(bn3)) => {
                    let x = active(&self.bn1, conv_pw.forward(x, pass), self.swishes, pass);
                    let x = excited(active(bn2, conv_dw.forward(x, pass), self.swishes, pass));
                    bn3.forward(conv_pwl.forward(x, pass), around, Rectify::None, pass)
                }
                _ => {
                    let x = active(&self.bn1, conv_dw.forward(x, pass), self.swishes, pass);
                    let x = conv_pw.forward(excited(x), pass);
                    bn2.forward(x, around, Rectify::None, pass)
                }
            },
            _ => unreachable!("a block is one convolution or has a depthwise one"),
        }
    }
}

impl<B: TuneBackend> MobileNet<B> {
    pub(crate) fn unit(&self, unit: usize, x: Tensor<B, 4>, pass: Pass) -> Tensor<B, 4> {
        match unit {
            0 => active(
                &self.bn1,
                self.conv_stem.forward(x, pass),
                self.swishes,
                pass,
            ),
            unit if unit <= self.blocks.len() => self.blocks[unit - 1]
                .iter()
                .fold(x, |x, block| block.forward(x, pass)),
            _ => {
                let x = self.conv_head.forward(pooled(x), pass);
                match self.swishes {
                    true => hard_swish(x),
                    false => activation::relu(x),
                }
            }
        }
    }
}
