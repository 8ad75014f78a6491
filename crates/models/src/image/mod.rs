//! The families for channels-last pictures `[N, H, W, 3]`: residual networks and EfficientNet-Lite, by the tensor names of
//! torchvision, timm, Hugging Face's `resnet` layout, and the checkpoints of older repositories.

mod config;
pub(crate) mod efficientnet;
pub(crate) mod resnet;

pub use config::{Architecture, MapSizes, Pictures};
pub use efficientnet::{EfficientNet, LiteConfig};
pub use resnet::{ResNet, ResNetConfig};

use crate::{
    Modality, ModelConfig, ModelError,
    load::Rule,
    pretrained::{Family, Found},
};
use rekindle_nn::params::NameMap;
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
    token_names: None,
    span_names: None,
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
    token_names: None,
    span_names: None,
    pooler: None,
    claims: |found| published(found).any(|name| name == "conv_stem.weight"),
    rule,
    read,
};

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
    if name.ends_with("num_batches_tracked") {
        let reason = "a count of batches, of no use with a fixed momentum";
        return Rule::Ignore(reason.into());
    }
    Rule::Load(translate(name, blocks(found)))
}

fn read(found: &Found, family: &'static Family) -> Result<ModelConfig, ModelError> {
    let architecture = Architecture::infer(&found.shapes).map_err(|reason| ModelError::Config {
        path: found.path.clone(),
        reason: format!("the weights are of no image model known here: {reason}\nhint: expected a ResNet (torchvision, timm, transformers or CIFAR) or an EfficientNet-Lite"),
    })?;
    let out = format!("{}.weight", family.names.published("head.out"));
    let outputs = found.dimension(&out, 0).unwrap_or(0);
    config::read(found, architecture, outputs)
}
