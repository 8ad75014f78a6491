//! The families for channels-last pictures `[N, H, W, 3]`: residual networks, EfficientNet-Lite, MobileNetV3, ConvNeXt and vision
//! transformers, by the tensor names of torchvision, timm, Hugging Face's `resnet` and `vit` layouts, and the checkpoints of older
//! repositories.

mod config;
pub(crate) mod convnext;
pub(crate) mod efficientnet;
pub(crate) mod mobilenet;
pub(crate) mod resnet;
pub(crate) mod vit;

pub(crate) use config::PREPROCESSOR;
pub use config::{Architecture, MapSizes, Pictures};
pub use convnext::{ConvNext, ConvNextConfig};
pub use efficientnet::{EfficientNet, LiteConfig};
pub use mobilenet::{MobileNet, MobileNetConfig, MobileSizes};
pub use resnet::{ResNet, ResNetConfig};
pub use vit::{LastNorm, Vit, VitConfig};

use crate::{
    Modality, ModelConfig, ModelError,
    load::Rule,
    pretrained::{Family, Found},
};
use rekindle_nn::params::NameMap;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// The shapes of a checkpoint's tensors, by the names that this crate gives them.
pub(crate) type Shapes = BTreeMap<String, Vec<usize>>;

pub(crate) static RESNET: Family = Family {
    name: "resnet",
    class: "",
    modality: Modality::Images,
    names: NameMap(&[("head.out", "fc"), ("backbone", "")]),
    head: "head",
    head_modules: &["fc"],
    transposed: &[],
    in_files: None,
    token_names: None,
    span_names: None,
    choice_names: None,
    pooler: None,
    claims: |found| published(found).any(|name| name == "conv1.weight"),
    rule,
    read,
};

pub(crate) static EFFICIENTNET_LITE: Family = Family {
    name: "efficientnet-lite",
    class: "",
    modality: Modality::Images,
    names: NameMap(&[("head.out", "classifier"), ("backbone", "")]),
    head: "head",
    head_modules: &["classifier"],
    transposed: &[],
    in_files: None,
    token_names: None,
    span_names: None,
    choice_names: None,
    pooler: None,
    claims: |found| published(found).any(|name| name == "conv_stem.weight"),
    rule,
    read,
};

/// Vision transformers as timm has them.
pub(crate) static VIT: Family = Family {
    name: "vit",
    class: "",
    modality: Modality::Images,
    names: NameMap(&[("head.out", "head"), ("backbone", "")]),
    head: "head",
    head_modules: &["head"],
    transposed: &[],
    in_files: None,
    token_names: None,
    span_names: None,
    choice_names: None,
    pooler: None,
    claims: |found| {
        let has = |name: &str| found.shapes.contains_key(name);
        has("patch_embed.proj.weight") && has("blocks.0.norm1.weight")
    },
    rule: |_, name| match name {
        "mask_token" => {
            Rule::Ignore("of pretraining: it stood for patches that were hidden".into())
        }
        name => Rule::Load(name.to_owned()),
    },
    read: read_vit,
};

/// Vision transformers as transformers has them.
pub(crate) static VIT_OF_TRANSFORMERS: Family = Family {
    name: "vit",
    class: "ViT",
    modality: Modality::Images,
    names: vit::TRANSFORMERS,
    head: "classifier",
    head_modules: &["classifier"],
    transposed: &[],
    in_files: Some(vit::IN_FILES),
    token_names: None,
    span_names: None,
    choice_names: None,
    pooler: None,
    claims: |found| {
        let model_type = found.raw.get("model_type").and_then(Value::as_str);
        let patches = "embeddings.patch_embeddings.projection.weight";
        let has = |name: &str| found.shapes.contains_key(name);
        model_type.is_none_or(|name| name == "vit")
            && (has(&format!("vit.{patches}")) || has(patches))
    },
    rule: |_, name| match vit::from_files(name) {
        name if name.starts_with("vit.pooler.") => {
            Rule::Ignore("the pooler, which no classifier reads".into())
        }
        name if name == "vit.embeddings.mask_token" || name.starts_with("decoder.") => {
            Rule::Ignore("of pretraining: it made hidden patches".into())
        }
        name => Rule::Load(name),
    },
    read: read_vit,
};

pub(crate) static CONVNEXT: Family = Family {
    name: "convnext",
    class: "",
    modality: Modality::Images,
    names: NameMap(&[
        ("head.out", "head.fc"),
        ("backbone.norm", "head.norm"),
        ("backbone", ""),
    ]),
    head: "head",
    head_modules: &["head.fc"],
    transposed: &[],
    in_files: None,
    token_names: None,
    span_names: None,
    choice_names: None,
    pooler: None,
    claims: |found| {
        let has = |name: &str| found.shapes.contains_key(name);
        has("stem.0.weight") && has("stages.0.blocks.0.conv_dw.weight")
    },
    rule: as_named,
    read: |found, family| {
        let architecture = Architecture::ConvNext(ConvNextConfig::infer(found)?);
        read_with(found, family, architecture)
    },
};

pub(crate) static MOBILENET: Family = Family {
    name: "mobilenetv3",
    class: "",
    modality: Modality::Images,
    names: NameMap(&[("head.out", "classifier"), ("backbone", "")]),
    head: "head",
    head_modules: &["classifier"],
    transposed: &[],
    in_files: None,
    token_names: None,
    span_names: None,
    choice_names: None,
    pooler: None,
    claims: |found| {
        let has = |name: &str| found.shapes.contains_key(name);
        has("conv_stem.weight") && has("conv_head.bias") && has("blocks.0.0.conv_dw.weight")
    },
    rule: as_named,
    read: |found, family| {
        let architecture = Architecture::MobileNet(MobileNetConfig::infer(found)?);
        read_with(found, family, architecture)
    },
};

/// Values that training keeps for each that a convolution with a batch norm puts out. Measured on ResNet-18, ResNet-50 and
/// EfficientNet-Lite0 at batches of 8 to 64, on a CPU.
const KEPT_BY_CONVOLUTIONS: f64 = 2.3;

/// Side of a picture halved so often, rounded up each time.
pub(crate) fn halved(side: usize, times: usize) -> usize {
    (0..times).fold(side, |side, _| side.div_ceil(2))
}

/// The tensors' names as torchvision and timm have them.
fn published(found: &Found) -> impl Iterator<Item = String> {
    let blocks = blocks(found);
    found.shapes.keys().map(move |name| translate(name, blocks))
}

/// The number of blocks of an EfficientNet whose blocks stand in one row.
fn blocks(found: &Found) -> usize {
    const ROOT: &str = "_blocks.";
    let numbers: BTreeSet<&str> = found
        .shapes
        .range(ROOT.to_owned()..)
        .map_while(|(name, _)| name.strip_prefix(ROOT)?.split('.').next())
        .collect();
    numbers.len()
}

/// A tensor's name as torchvision and timm have it.
fn translate(name: &str, blocks: usize) -> String {
    resnet::from_hugging_face(name)
        .or_else(|| efficientnet::from_original(name, blocks))
        .or_else(|| Some(format!("fc.{}", name.strip_prefix("linear.")?)))
        .unwrap_or_else(|| name.to_owned())
}

fn rule(found: &Found, name: &str) -> Rule {
    match as_named(found, name) {
        Rule::Load(name) => Rule::Load(translate(&name, blocks(found))),
        ignored => ignored,
    }
}

/// Of a family whose checkpoints all have timm's names.
fn as_named(_: &Found, name: &str) -> Rule {
    match name.ends_with("num_batches_tracked") {
        true => Rule::Ignore("a count of batches, of no use with a fixed momentum".into()),
        false => Rule::Load(name.to_owned()),
    }
}

fn read(found: &Found, family: &'static Family) -> Result<ModelConfig, ModelError> {
    let architecture = Architecture::infer(&found.shapes).map_err(|reason| ModelError::Config {
        path: found.path.clone(),
        reason: format!("the weights are of no image model known here: {reason}\nhint: expected a ResNet (torchvision, timm, transformers or CIFAR) or an EfficientNet-Lite"),
    })?;
    read_with(found, family, architecture)
}

fn read_vit(found: &Found, family: &'static Family) -> Result<ModelConfig, ModelError> {
    let architecture = Architecture::Vit(VitConfig::infer(found, family)?);
    read_with(found, family, architecture)
}

fn read_with(
    found: &Found,
    family: &Family,
    architecture: Architecture,
) -> Result<ModelConfig, ModelError> {
    let out = format!("{}.weight", family.names.published("head.out"));
    config::read(found, architecture, found.dimension(&out, 0).unwrap_or(0))
}
