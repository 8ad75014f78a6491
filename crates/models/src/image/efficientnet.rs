//! EfficientNet-Lite 0 to 4 (Tan and Le 2019; the Lite variants without squeeze-and-excitation and with ReLU6), with
//! TensorFlow's padding. Fields have timm's names.

use super::{MapSizes, Shapes};
use burn::{
    module::Module,
    tensor::{Tensor, backend::Backend},
};
use rekindle_base::rng;
use rekindle_nn::{
    adapter_slots,
    layers::{BatchNorm, Conv2d, Padding},
    ops::{Pass, Rectify, TuneBackend},
};

/// Added to the variance by every norm.
const EPSILON: f64 = 1e-3;
/// Channels of the stem, and of the features.
const STEM: usize = 32;
pub(crate) const FEATURES: usize = 1280;
/// Lite 0's stages: kernel, stride, expansion, channels, blocks.
const STAGES: [(usize, usize, usize, usize, usize); 7] = [
    (3, 1, 1, 16, 1),
    (3, 2, 6, 24, 2),
    (5, 2, 6, 40, 2),
    (3, 2, 6, 80, 3),
    (5, 1, 6, 112, 3),
    (5, 2, 6, 192, 4),
    (3, 1, 6, 320, 1),
];
/// What the variants multiply width and depth by.
const SCALES: [(f64, f64); 5] = [(1.0, 1.0), (1.0, 1.1), (1.1, 1.2), (1.2, 1.4), (1.4, 1.8)];

/// A variant, 0 to 4.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LiteConfig(pub usize);

impl LiteConfig {
    /// Blocks in each stage; the first and the last do not grow.
    fn depths(self) -> [usize; 7] {
        let depth = SCALES[self.0].1;
        std::array::from_fn(|i| match i {
            0 | 6 => STAGES[i].4,
            _ => (STAGES[i].4 as f64 * depth).ceil() as usize,
        })
    }

    /// Channels a stage puts out: a multiple of 8 near the scaled number, not more than a tenth below.
    fn width(self, stage: usize) -> usize {
        let scaled = STAGES[stage].3 as f64 * SCALES[self.0].0;
        let near = (((scaled + 4.0) / 8.0).floor() as usize * 8).max(8);
        if (near as f64) < 0.9 * scaled {
            near + 8
        } else {
            near
        }
    }

    /// The variant of a checkpoint, told from its tensors by timm's names or, its blocks in one row, by the original's.
    ///
    /// # Errors
    /// What is missing or odd.
    pub fn infer(shapes: &Shapes) -> Result<Self, String> {
        let fits = |config: &Self| {
            let depths = config.depths();
            let block = |stage: usize, index: usize| format!("blocks.{stage}.{index}.");
            let blocks = shapes
                .keys()
                .filter(|name| name.ends_with(".conv_dw.weight"))
                .count();
            blocks == depths.iter().sum::<usize>()
                && (1..7).all(|stage| {
                    let name = block(stage, depths[stage] - 1) + "conv_pwl.weight";
                    shapes.get(&name).and_then(|s| s.first()) == Some(&config.width(stage))
                })
        };
        (0..SCALES.len())
            .map(Self)
            .find(fits)
            .ok_or_else(|| "the sizes are those of no EfficientNet-Lite 0 to 4".into())
    }

    /// The sizes of feature maps, for square pictures of this side.
    pub(crate) fn map_sizes(self, side: usize) -> MapSizes {
        let map = |units: usize, channels: usize| {
            let side = side_after(units, side);
            side * side * channels
        };
        let mut units = vec![map(1, STEM)];
        // A convolution's output and its norm's.
        let mut at_once = 2 * units[0];
        let mut inputs = STEM;
        for (stage, &(_, _, expansion, ..)) in STAGES.iter().enumerate() {
            let width = self.width(stage);
            let mut values = 0;
            for block in 0..self.depths()[stage] {
                let (before, after) = (1 + stage + usize::from(block > 0), 2 + stage);
                let wide = inputs * expansion;
                let expanded = if expansion == 1 { 0 } else { map(before, wide) };
                values += expanded + map(after, wide) + map(after, width);
                at_once = at_once.max(2 * expanded);
                inputs = width;
            }
            units.push(values);
        }
        units.push(map(units.len(), FEATURES));
        MapSizes {
            units,
            kept: super::KEPT_BY_CONVOLUTIONS,
            at_once,
        }
    }

    /// timm's name.
    #[must_use]
    pub fn name(self) -> String {
        format!("tf_efficientnet_lite{}", self.0)
    }
}

/// A depthwise separable block (first stage: depthwise, pointwise) or an inverted residual (pointwise, depthwise,
/// pointwise linear).
#[derive(Module, Debug)]
pub struct MobileBlock<B: Backend> {
    conv_pw: Conv2d<B>,
    bn1: BatchNorm<B>,
    conv_dw: Conv2d<B>,
    bn2: BatchNorm<B>,
    conv_pwl: Option<Conv2d<B>>,
    bn3: Option<BatchNorm<B>>,
    residual: bool,
}

/// An EfficientNet-Lite without a head.
#[derive(Module, Debug)]
pub struct EfficientNet<B: Backend> {
    conv_stem: Conv2d<B>,
    bn1: BatchNorm<B>,
    blocks: Vec<Vec<MobileBlock<B>>>,
    conv_head: Conv2d<B>,
    bn2: BatchNorm<B>,
}

adapter_slots!(MobileBlock {
    conv_pw,
    conv_dw,
    conv_pwl
});
adapter_slots!(EfficientNet {
    conv_stem,
    blocks,
    conv_head
});

impl<B: Backend> EfficientNet<B> {
    /// With random weights.
    pub fn init(config: LiteConfig, seed: u64, device: &B::Device) -> Self {
        let conv = |name: &str, channels, kernel, stride, groups| {
            let key = rng::named(seed, name);
            Conv2d::init(key, channels, kernel, stride, Padding::Same, groups, device)
        };
        let norm = |channels| BatchNorm::new(channels, EPSILON, device);
        let depths = config.depths();
        let mut inputs = STEM;
        let mut blocks = Vec::new();
        for (stage, &(kernel, stride, expansion, ..)) in STAGES.iter().enumerate() {
            let width = config.width(stage);
            let mut row = Vec::new();
            for index in 0..depths[stage] {
                let name = |part: &str| format!("blocks.{stage}.{index}.{part}");
                let stride = if index == 0 { stride } else { 1 };
                let wide = inputs * expansion;
                let depthwise = conv(&name("conv_dw"), (wide, wide), kernel, stride, wide);
                let plain = expansion == 1;
                row.push(MobileBlock {
                    conv_pw: match plain {
                        true => conv(&name("conv_pw"), (inputs, width), 1, 1, 1),
                        false => conv(&name("conv_pw"), (inputs, wide), 1, 1, 1),
                    },
                    bn1: norm(wide),
                    conv_dw: depthwise,
                    bn2: norm(if plain { width } else { wide }),
                    conv_pwl: (!plain).then(|| conv(&name("conv_pwl"), (wide, width), 1, 1, 1)),
                    bn3: (!plain).then(|| norm(width)),
                    residual: stride == 1 && inputs == width,
                });
                inputs = width;
            }
            blocks.push(row);
        }
        Self {
            conv_stem: conv("conv_stem", (3, STEM), 3, 2, 1),
            bn1: norm(STEM),
            blocks,
            conv_head: conv("conv_head", (inputs, FEATURES), 1, 1, 1),
            bn2: norm(FEATURES),
        }
    }

    /// The stem, the stages, and the last convolution.
    pub(crate) fn units(&self) -> usize {
        2 + self.blocks.len()
    }
}

/// Side of the feature maps after so many units, for square pictures of this side.
pub(crate) fn side_after(units: usize, side: usize) -> usize {
    let stages = STAGES.iter().take(units.saturating_sub(1));
    let halvings = usize::from(units > 0) + stages.filter(|stage| stage.1 == 2).count();
    super::halved(side, halvings)
}

/// The unit of a parameter, by its path; `None` where the path is none.
pub(crate) fn unit_of(path: &str) -> Option<usize> {
    let mut parts = path.split('.');
    match parts.next()? {
        "blocks" => Some(1 + parts.next()?.parse::<usize>().ok()?),
        "conv_head" | "bn2" => Some(1 + STAGES.len()),
        _ => Some(0),
    }
}

impl<B: TuneBackend> MobileBlock<B> {
    /// `x [N, H, W, C]` -> `[N, H', W', C']`
    fn forward(&self, x: Tensor<B, 4>, pass: Pass) -> Tensor<B, 4> {
        let around = self.residual.then(|| x.clone());
        let relu6 = Rectify::Relu6;
        match (&self.conv_pwl, &self.bn3) {
            (Some(conv_pwl), Some(bn3)) => {
                let x = self
                    .bn1
                    .forward(self.conv_pw.forward(x, pass), None, relu6, pass);
                let x = self
                    .bn2
                    .forward(self.conv_dw.forward(x, pass), None, relu6, pass);
                bn3.forward(conv_pwl.forward(x, pass), around, Rectify::None, pass)
            }
            _ => {
                let x = self
                    .bn1
                    .forward(self.conv_dw.forward(x, pass), None, relu6, pass);
                let x = self.conv_pw.forward(x, pass);
                self.bn2.forward(x, around, Rectify::None, pass)
            }
        }
    }
}

impl<B: TuneBackend> EfficientNet<B> {
    pub(crate) fn unit(&self, unit: usize, x: Tensor<B, 4>, pass: Pass) -> Tensor<B, 4> {
        let relu6 = Rectify::Relu6;
        match unit {
            0 => self
                .bn1
                .forward(self.conv_stem.forward(x, pass), None, relu6, pass),
            unit if unit <= self.blocks.len() => self.blocks[unit - 1]
                .iter()
                .fold(x, |x, block| block.forward(x, pass)),
            _ => self
                .bn2
                .forward(self.conv_head.forward(x, pass), None, relu6, pass),
        }
    }
}

/// timm's name of a tensor of the original PyTorch port, whose blocks stand in one row; `blocks` is their number.
pub(crate) fn from_original(name: &str, blocks: usize) -> Option<String> {
    let (module, value) = name.rsplit_once('.')?;
    let top = match module {
        "_conv_stem" => Some("conv_stem"),
        "_bn0" => Some("bn1"),
        "_conv_head" => Some("conv_head"),
        "_bn1" => Some("bn2"),
        "_fc" => Some("classifier"),
        _ => None,
    };
    if let Some(top) = top {
        return Some(format!("{top}.{value}"));
    }
    let (index, part) = module.strip_prefix("_blocks.")?.split_once('.')?;
    let mut index = index.parse::<usize>().ok()?;
    // The variants of one number of blocks have the same depths.
    let config = (0..SCALES.len())
        .map(LiteConfig)
        .find(|config| config.depths().iter().sum::<usize>() == blocks)?;
    let mut stage = 0;
    for depth in config.depths() {
        if index < depth {
            break;
        }
        index -= depth;
        stage += 1;
    }
    let part = match (stage, part) {
        (0, "_depthwise_conv") => "conv_dw",
        (0, "_bn1") => "bn1",
        (0, "_project_conv") => "conv_pw",
        (0, "_bn2") => "bn2",
        (_, "_expand_conv") => "conv_pw",
        (_, "_bn0") => "bn1",
        (_, "_depthwise_conv") => "conv_dw",
        (_, "_bn1") => "bn2",
        (_, "_project_conv") => "conv_pwl",
        (_, "_bn2") => "bn3",
        _ => return None,
    };
    Some(format!("blocks.{stage}.{index}.{part}.{value}"))
}
