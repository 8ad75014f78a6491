//! Residual networks (He et al. 2016): torchvision's ResNet-18 to 152, with the stride on the 3 x 3 convolution of a
//! bottleneck ("v1.5"), and the small ones for CIFAR with their shortcuts without weights ("option A").

use super::{MapSizes, Shapes};
use burn::{
    module::Module,
    tensor::{Tensor, backend::Backend},
};
use rekindle_base::rng;
use rekindle_nn::{
    adapter_slots,
    layers::{AdapterSlots, BatchNorm, Conv2d, Padding, Slot, join},
    ops::{self, Pass, Rectify, TuneBackend, Window},
};

/// Added to the variance by every norm.
const EPSILON: f64 = 1e-5;

/// The sizes of a residual network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResNetConfig {
    /// Channels of the stem.
    pub stem: usize,
    /// Kernel and stride of the stem's convolution, and whether a max pool follows: (7, 2, true), or (3, 1, false).
    pub stem_window: (usize, usize, bool),
    /// Blocks in each stage.
    pub depths: Vec<usize>,
    /// Channels that each stage puts out.
    pub widths: Vec<usize>,
    /// Channels inside of each stage's bottlenecks; empty where blocks are of two 3 x 3 convolutions.
    pub inner: Vec<usize>,
    /// Whether shortcuts that change the shape drop pixels and add zero channels instead of having weights.
    pub plain_shortcuts: bool,
}

impl ResNetConfig {
    /// The architecture of a checkpoint, told from its tensors by torchvision's names.
    ///
    /// # Errors
    /// What is missing or odd.
    pub fn infer(shapes: &Shapes) -> Result<Self, String> {
        let shape = |name: &str| {
            shapes
                .get(name)
                .map(Vec::as_slice)
                .ok_or_else(|| format!("no tensor `{name}`"))
        };
        let &[stem, 3, kernel, _] = shape("conv1.weight")? else {
            return Err("`conv1.weight` is no convolution of three channels".into());
        };
        let bottleneck = shapes.contains_key("layer1.0.conv3.weight");
        let last = if bottleneck { "conv3" } else { "conv2" };
        let (mut depths, mut widths, mut inner) = (Vec::new(), Vec::new(), Vec::new());
        for stage in 1..=4 {
            let of = |block: usize, conv: &str| {
                shapes.get(&format!("layer{stage}.{block}.{conv}.weight"))
            };
            let depth = (0..)
                .take_while(|&block| of(block, "conv1").is_some())
                .count();
            if depth == 0 {
                break;
            }
            let channels = |conv: &str| {
                of(0, conv)
                    .and_then(|shape| shape.first().copied())
                    .ok_or_else(|| format!("no tensor `layer{stage}.0.{conv}.weight`"))
            };
            depths.push(depth);
            widths.push(channels(last)?);
            if bottleneck {
                inner.push(channels("conv1")?);
            }
        }
        if depths.is_empty() {
            return Err("no tensor `layer1.0.conv1.weight`".into());
        }
        let small = kernel == 3;
        Ok(Self {
            stem,
            stem_window: if small {
                (3, 1, false)
            } else {
                (kernel, 2, true)
            },
            plain_shortcuts: small && !shapes.contains_key("layer2.0.downsample.0.weight"),
            depths,
            widths,
            inner,
        })
    }

    /// The published name, where the sizes are those of one: "resnet18", "cifar_resnet20".
    #[must_use]
    pub fn name(&self) -> String {
        let convolutions = if self.inner.is_empty() { 2 } else { 3 };
        let layers = 2 + convolutions * self.depths.iter().sum::<usize>();
        match self.stem_window.0 {
            3 => format!("cifar_resnet{layers}"),
            _ => format!("resnet{layers}"),
        }
    }

    /// Side of the feature maps after so many units, for square pictures of this side.
    pub(crate) fn side_after(&self, units: usize, side: usize) -> usize {
        let stem = match self.stem_window {
            _ if units == 0 => 0,
            (_, stride, pools) => usize::from(stride == 2) + usize::from(pools),
        };
        super::halved(side, stem + units.saturating_sub(2))
    }

    /// The sizes of feature maps, for square pictures of this side.
    pub(crate) fn map_sizes(&self, side: usize) -> MapSizes {
        let stem_side = super::halved(side, usize::from(self.stem_window.1 == 2));
        let stem = stem_side * stem_side * self.stem;
        let mut units = vec![stem];
        // A convolution's output and its norm's.
        let mut at_once = 2 * stem;
        let (mut before, mut inputs) = (self.side_after(1, side), self.stem);
        for (stage, (&depth, &width)) in self.depths.iter().zip(&self.widths).enumerate() {
            let after = self.side_after(2 + stage, side);
            let out = after * after * width;
            // In a bottleneck the 3 x 3 convolution has the stride.
            let block = |first: bool| match self.inner.get(stage) {
                None => 2 * out,
                Some(inner) => {
                    let reduced = if first { before } else { after };
                    reduced * reduced * inner + after * after * inner + out
                }
            };
            let changes = stage > 0 || inputs != width;
            let shortcut = if changes && !self.plain_shortcuts {
                out
            } else {
                0
            };
            units.push(block(true) + shortcut + (depth - 1) * block(false));
            // A block's input, what its last convolution puts out, and the shortcut's.
            at_once = at_once.max(3 * out);
            (before, inputs) = (after, width);
        }
        MapSizes {
            units,
            kept: super::KEPT_BY_CONVOLUTIONS,
            at_once,
        }
    }

    /// Width of the features.
    #[must_use]
    pub fn features(&self) -> usize {
        self.widths.last().copied().unwrap_or(self.stem)
    }
}

/// Two or three convolutions, and the way around them.
#[derive(Module, Debug)]
pub struct Block<B: Backend> {
    conv1: Conv2d<B>,
    bn1: BatchNorm<B>,
    conv2: Conv2d<B>,
    bn2: BatchNorm<B>,
    conv3: Option<Conv2d<B>>,
    bn3: Option<BatchNorm<B>>,
    downsample: Option<(Conv2d<B>, BatchNorm<B>)>,
    /// Stride and zero channels on each side of a shortcut without weights.
    plain: Option<(usize, usize)>,
}

/// A residual network without a head.
#[derive(Module, Debug)]
pub struct ResNet<B: Backend> {
    conv1: Conv2d<B>,
    bn1: BatchNorm<B>,
    layer1: Vec<Block<B>>,
    layer2: Vec<Block<B>>,
    layer3: Vec<Block<B>>,
    layer4: Vec<Block<B>>,
    pools: bool,
}

impl<B: Backend> AdapterSlots<B> for Block<B> {
    fn visit_slots(&mut self, path: &str, visit: &mut dyn FnMut(&str, Slot<'_, B>)) {
        self.conv1.visit_slots(&join(path, "conv1"), visit);
        self.conv2.visit_slots(&join(path, "conv2"), visit);
        self.conv3.visit_slots(&join(path, "conv3"), visit);
        if let Some((conv, _)) = &mut self.downsample {
            conv.visit_slots(&join(path, "downsample.0"), visit);
        }
    }
}

adapter_slots!(ResNet {
    conv1,
    layer1,
    layer2,
    layer3,
    layer4
});

impl<B: Backend> ResNet<B> {
    /// With random weights, as torchvision initialises them.
    pub fn init(config: &ResNetConfig, seed: u64, device: &B::Device) -> Self {
        let conv = |name: &str, channels, kernel, stride| {
            let padding = Padding::Explicit(kernel / 2);
            let key = rng::named(seed, name);
            Conv2d::init(key, channels, kernel, stride, padding, 1, device)
        };
        let norm = |channels| BatchNorm::new(channels, EPSILON, device);
        let stage = |stage: usize| -> Vec<Block<B>> {
            let Some(&depth) = config.depths.get(stage) else {
                return Vec::new();
            };
            let width = config.widths[stage];
            let before = match stage {
                0 => config.stem,
                _ => config.widths[stage - 1],
            };
            let block = |index: usize| {
                let (inputs, stride) = match index {
                    0 => (before, if stage == 0 { 1 } else { 2 }),
                    _ => (width, 1),
                };
                let name = |part: &str| format!("layer{}.{index}.{part}", stage + 1);
                let inner = config.inner.get(stage).copied();
                let middle = inner.unwrap_or(width);
                let changes = inputs != width || stride != 1;
                Block {
                    conv1: match inner {
                        Some(inner) => conv(&name("conv1"), (inputs, inner), 1, 1),
                        None => conv(&name("conv1"), (inputs, width), 3, stride),
                    },
                    bn1: norm(middle),
                    conv2: match inner {
                        Some(inner) => conv(&name("conv2"), (inner, inner), 3, stride),
                        None => conv(&name("conv2"), (width, width), 3, 1),
                    },
                    bn2: norm(middle),
                    conv3: inner.map(|inner| conv(&name("conv3"), (inner, width), 1, 1)),
                    bn3: inner.map(|_| norm(width)),
                    downsample: (changes && !config.plain_shortcuts).then(|| {
                        let around = conv(&name("downsample.0"), (inputs, width), 1, stride);
                        (around, norm(width))
                    }),
                    plain: (changes && config.plain_shortcuts)
                        .then(|| (stride, (width - inputs) / 2)),
                }
            };
            (0..depth).map(block).collect()
        };
        let (kernel, stride, pools) = config.stem_window;
        Self {
            conv1: conv("conv1", (3, config.stem), kernel, stride),
            bn1: norm(config.stem),
            layer1: stage(0),
            layer2: stage(1),
            layer3: stage(2),
            layer4: stage(3),
            pools,
        }
    }

    fn stages(&self) -> [&[Block<B>]; 4] {
        [&self.layer1, &self.layer2, &self.layer3, &self.layer4]
    }

    /// The stem and the stages that have blocks.
    pub(crate) fn units(&self) -> usize {
        1 + self
            .stages()
            .iter()
            .filter(|stage| !stage.is_empty())
            .count()
    }
}

/// The unit of a parameter, by its path.
pub(crate) fn unit_of(path: &str) -> Option<usize> {
    match path.strip_prefix("layer") {
        Some(rest) => rest.split('.').next()?.parse().ok(),
        None => Some(0),
    }
}

impl<B: TuneBackend> Block<B> {
    /// `x [N, H, W, C]` -> `[N, H', W', C']`
    fn forward(&self, x: Tensor<B, 4>, pass: Pass) -> Tensor<B, 4> {
        let around = match (&self.downsample, self.plain) {
            (Some((conv, norm)), _) => {
                norm.forward(conv.forward(x.clone(), pass), None, Rectify::None, pass)
            }
            (None, Some((stride, zeros))) => plain_shortcut(x.clone(), stride, zeros),
            (None, None) => x.clone(),
        };
        let x = self.conv1.forward(x, pass);
        let x = self.bn1.forward(x, None, Rectify::Relu, pass);
        let x = self.conv2.forward(x, pass);
        match (&self.conv3, &self.bn3) {
            (Some(conv3), Some(bn3)) => {
                let x = self.bn2.forward(x, None, Rectify::Relu, pass);
                bn3.forward(conv3.forward(x, pass), Some(around), Rectify::Relu, pass)
            }
            _ => self.bn2.forward(x, Some(around), Rectify::Relu, pass),
        }
    }
}

/// Every `stride`-th pixel, with zero channels on both sides: "option A".
fn plain_shortcut<B: TuneBackend>(x: Tensor<B, 4>, stride: usize, zeros: usize) -> Tensor<B, 4> {
    let x = ops::max_pool(x, Window::square(1, stride, 0));
    let [n, height, width, _] = x.dims();
    let side = Tensor::zeros([n, height, width, zeros], &x.device());
    Tensor::cat(vec![side.clone(), x, side], 3)
}

impl<B: TuneBackend> ResNet<B> {
    pub(crate) fn unit(&self, unit: usize, x: Tensor<B, 4>, pass: Pass) -> Tensor<B, 4> {
        if unit == 0 {
            let x = self.conv1.forward(x, pass);
            let x = self.bn1.forward(x, None, Rectify::Relu, pass);
            return match self.pools {
                true => ops::max_pool(x, Window::square(3, 2, 1)),
                false => x,
            };
        }
        self.stages()[unit - 1]
            .iter()
            .fold(x, |x, block| block.forward(x, pass))
    }
}

/// torchvision's name of a tensor as Hugging Face's `resnet` layout names it.
pub(crate) fn from_hugging_face(name: &str) -> Option<String> {
    let part = |name: &str| {
        let (part, value) = name.split_once('.')?;
        match part {
            "convolution" => Some((true, value.to_owned())),
            "normalization" => Some((false, value.to_owned())),
            _ => None,
        }
    };
    if let Some(rest) = name.strip_prefix("classifier.1.") {
        return Some(format!("fc.{rest}"));
    }
    if let Some(rest) = name.strip_prefix("resnet.embedder.embedder.") {
        let (conv, value) = part(rest)?;
        return Some(format!("{}.{value}", if conv { "conv1" } else { "bn1" }));
    }
    let rest = name.strip_prefix("resnet.encoder.stages.")?;
    let (stage, rest) = rest.split_once(".layers.")?;
    let (block, rest) = rest.split_once('.')?;
    let root = format!("layer{}.{block}", stage.parse::<usize>().ok()? + 1);
    if let Some(rest) = rest.strip_prefix("shortcut.") {
        let (conv, value) = part(rest)?;
        return Some(format!("{root}.downsample.{}.{value}", u8::from(!conv)));
    }
    let (index, rest) = rest.strip_prefix("layer.")?.split_once('.')?;
    let (conv, value) = part(rest)?;
    let kind = if conv { "conv" } else { "bn" };
    Some(format!(
        "{root}.{kind}{}.{value}",
        index.parse::<usize>().ok()? + 1
    ))
}
