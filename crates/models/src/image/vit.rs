//! Vision transformers (Dosovitskiy et al. 2021) by timm's names (`vit_*`, `deit_*`, `deit3_*`), with what DeiT III and DINOv2
//! added: layer scale, registers, positions of the patches alone; and by the names of transformers' ViT, which has
//! queries, keys and values as three maps. On packed tokens, as the encoders for texts: N pictures are N sequences.
//!
//! Between its units a picture is a map of one column, `[N, L, 1, D]`: L tokens, first the class token and the registers.

use super::{MapSizes, config::Arguments};
use crate::{
    ModelError,
    config::Reader,
    encoder::{first_tokens, within},
    input::Asked,
    pretrained::{Family, Found},
};
use burn::{
    module::{Module, Param},
    tensor::{Tensor, backend::Backend},
};
use rekindle_base::rng;
use rekindle_nn::{
    Sequences, adapter_slots, init,
    layers::{Conv2d, LayerNorm, Linear, Padding},
    ops::{self, AttentionConfig, GeluKind, Pass, TuneBackend},
    params::NameMap,
};
use serde_json::{Map, Value, json};

/// Standard deviation of new weights.
const STD: f64 = 0.02;

/// ε of timm's layer norms, but for CLIP's.
const USUAL_EPSILON: f64 = 1e-6;

/// Where a vision transformer normalises what it ends with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LastNorm {
    /// Nowhere.
    Absent,
    /// Every token.
    Tokens,
    /// What the head reads.
    Pooled,
}

/// The sizes of a vision transformer.
#[derive(Debug, Clone, PartialEq)]
pub struct VitConfig {
    /// timm's name.
    pub name: String,
    /// Side of a patch in pixels.
    pub patch: usize,
    /// Side of a picture in patches.
    pub grid: usize,
    /// D
    pub width: usize,
    /// Number of blocks.
    pub depth: usize,
    /// H
    pub heads: usize,
    /// Width between a block's two linear maps.
    pub mlp: usize,
    /// Whether queries, keys and values come of one linear map (timm) or of three (transformers).
    pub joined: bool,
    /// Whether that has a bias.
    pub qkv_bias: bool,
    /// Whether a class token stands before the patches.
    pub class_token: bool,
    /// Registers behind the class token.
    pub registers: usize,
    /// Whether class token and registers have positions too.
    pub prefix_positions: bool,
    /// Whether tokens are normalised before the first block, and patches have no bias (CLIP).
    pub norm_before: bool,
    /// Whether each branch is scaled by channel.
    pub layer_scale: bool,
    /// Whether the head reads the mean of the patches, and not the class token.
    pub reads_mean: bool,
    /// Where the last norm stands.
    pub norm: LastNorm,
    /// ε of layer norms.
    pub epsilon: f64,
}

/// Field paths to transformers' names of modules.
pub(super) const TRANSFORMERS: NameMap = NameMap(&[
    ("head.out", "classifier"),
    ("backbone.cls_token", "vit.embeddings.cls_token"),
    ("backbone.pos_embed", "vit.embeddings.position_embeddings"),
    (
        "backbone.patch_embed.proj",
        "vit.embeddings.patch_embeddings.projection",
    ),
    (
        "backbone.blocks.*.attn.query",
        "vit.layers.*.attention.q_proj",
    ),
    (
        "backbone.blocks.*.attn.key",
        "vit.layers.*.attention.k_proj",
    ),
    (
        "backbone.blocks.*.attn.value",
        "vit.layers.*.attention.v_proj",
    ),
    (
        "backbone.blocks.*.attn.proj",
        "vit.layers.*.attention.o_proj",
    ),
    ("backbone.blocks.*.norm1", "vit.layers.*.layernorm_before"),
    ("backbone.blocks.*.norm2", "vit.layers.*.layernorm_after"),
    ("backbone.blocks.*.mlp", "vit.layers.*.mlp"),
    ("backbone.norm", "vit.layernorm"),
]);

/// transformers' names of modules to those in its files, which are those of its versions before 5.
pub(super) const IN_FILES: NameMap = NameMap(&[
    (
        "vit.layers.*.attention.q_proj",
        "vit.encoder.layer.*.attention.attention.query",
    ),
    (
        "vit.layers.*.attention.k_proj",
        "vit.encoder.layer.*.attention.attention.key",
    ),
    (
        "vit.layers.*.attention.v_proj",
        "vit.encoder.layer.*.attention.attention.value",
    ),
    (
        "vit.layers.*.attention.o_proj",
        "vit.encoder.layer.*.attention.output.dense",
    ),
    (
        "vit.layers.*.mlp.fc1",
        "vit.encoder.layer.*.intermediate.dense",
    ),
    ("vit.layers.*.mlp.fc2", "vit.encoder.layer.*.output.dense"),
    ("vit.layers.*", "vit.encoder.layer.*"),
]);

/// transformers' name of a module's tensor, as files of any version have it, with a head or without.
pub(super) fn from_files(name: &str) -> String {
    let base = [
        "embeddings.",
        "encoder.",
        "layers.",
        "layernorm.",
        "pooler.",
    ];
    match base.iter().any(|part| name.starts_with(part)) {
        true => IN_FILES.field(&format!("vit.{name}")),
        false => IN_FILES.field(name),
    }
}

/// What timm's configuration may set that says how wide and deep the network is, or nothing of what it computes.
const ARGUMENTS: [&str; 28] = [
    "attn_drop_rate",
    "class_token",
    "depth",
    "drop_path_rate",
    "drop_rate",
    "dynamic_img_pad",
    "dynamic_img_size",
    "embed_dim",
    "fc_norm",
    "final_norm",
    "fix_init",
    "global_pool",
    "img_size",
    "in_chans",
    "init_values",
    "mlp_ratio",
    "no_embed_class",
    "num_classes",
    "num_heads",
    "patch_drop_rate",
    "patch_size",
    "pos_drop_rate",
    "pre_norm",
    "proj_drop_rate",
    "qkv_bias",
    "reg_tokens",
    "strict_img_size",
    "weight_init",
];

/// Parts of timm's models that are not read, by a tensor of theirs.
const UNREAD: [(&str, &str); 6] = [
    (
        "dist_token",
        "it is distilled: a second token with a head of its own (deit_*_distilled_*)",
    ),
    ("register_tokens", "it has registers by DINOv2's own names"),
    (
        "attn_pool.q.weight",
        "its head reads by an attention of its own (SigLIP)",
    ),
    ("blocks.0.mlp.w12.weight", "its blocks are gated (SwiGLU)"),
    ("blocks.0.mlp.fc1_g.weight", "its blocks are gated (SwiGLU)"),
    (
        "blocks.0.attn.q_norm.weight",
        "it normalises queries and keys",
    ),
];

impl VitConfig {
    /// The sizes of a checkpoint: of its tensors, and of `config.json` what these do not show.
    ///
    /// # Errors
    /// What is missing or not read.
    pub(super) fn infer(found: &Found, family: &Family) -> Result<Self, ModelError> {
        let reader = Reader {
            raw: &found.raw,
            path: &found.path,
        };
        let shape = |field: &str| {
            let name = family.names.published(&format!("backbone.{field}"));
            found.shapes.get(&name).map(Vec::as_slice)
        };
        let error = |reason: String| {
            let hint = "take a plain vit_*, deit_*, deit3_* or vit_*_dinov2 of timm, or a ViT of transformers";
            Err(reader.error(format!("{reason}\nhint: {hint}")))
        };
        let part = UNREAD
            .iter()
            .find(|(tensor, _)| found.shapes.contains_key(*tensor));
        if let Some((tensor, what)) = part {
            return error(format!(
                "this vision transformer is not read: {what} (tensor `{tensor}`)"
            ));
        }
        let arguments = match Arguments::of(&found.raw, &ARGUMENTS) {
            Ok(arguments) => arguments,
            Err(reason) => return error(reason),
        };
        let &[width, 3, patch, _] = shape("patch_embed.proj.weight").unwrap_or_default() else {
            return error("patches are not made by a convolution of three channels".into());
        };
        let depth = (0..)
            .take_while(|i| shape(&format!("blocks.{i}.norm1.weight")).is_some())
            .count();
        let Some(&[mlp, _]) = shape("blocks.0.mlp.fc1.weight") else {
            return error("the first block has no `mlp.fc1`".into());
        };
        let class_token = shape("cls_token").is_some();
        let registers = shape("reg_token").and_then(|shape| shape.get(1).or(shape.first()));
        let registers = registers.copied().unwrap_or(0);
        let prefix = usize::from(class_token) + registers;
        let Some(&[1, rows, _]) = shape("pos_embed") else {
            return error("it has no table of positions".into());
        };
        let Some(prefix_positions) = prefix_has_positions(rows, prefix) else {
            return error(format!(
                "its table of {rows} positions is that of no square picture"
            ));
        };
        let grid = (rows - if prefix_positions { prefix } else { 0 }).isqrt();
        let raw_name = reader.text("architecture").unwrap_or_default().to_owned();
        for odd in ["quickgelu", "_rms", "_relpos"] {
            if raw_name.contains(odd) {
                return error(format!("`architecture` is `{raw_name}`, which is not read"));
            }
        }
        if let Some(act) = reader.text("hidden_act").filter(|act| *act != "gelu") {
            return error(format!("hidden_act is `{act}`, expected gelu"));
        }
        let heads = match arguments
            .get("num_heads")
            .or(found.raw.get("num_attention_heads"))
        {
            None => usual_heads(width),
            Some(value) => value.as_u64().and_then(|heads| usize::try_from(heads).ok()),
        };
        let Some(heads) = heads.filter(|heads| *heads > 0 && width.is_multiple_of(*heads)) else {
            return error(format!(
                "the number of heads of width {width} is not known: config.json has no fitting `num_heads` in `model_args`"
            ));
        };
        let norm = match (shape("norm.weight"), shape("fc_norm.weight")) {
            (_, Some(_)) => LastNorm::Pooled,
            (Some(_), None) => LastNorm::Tokens,
            (None, None) => LastNorm::Absent,
        };
        let reads_mean = match arguments.pooling() {
            Some("avg") => true,
            Some("token") if class_token => false,
            None => !class_token || norm == LastNorm::Pooled,
            Some(other) => {
                return error(format!("global_pool is `{other}`, expected token or avg"));
            }
        };
        let usual_epsilon = match raw_name.contains("_clip_") {
            true => 1e-5,
            false => USUAL_EPSILON,
        };
        let norm_before = shape("norm_pre.weight").is_some();
        let joined = shape("blocks.0.attn.qkv.weight").is_some();
        let queries = if joined { "qkv" } else { "query" };
        Ok(Self {
            name: match raw_name.starts_with("vit_") || raw_name.starts_with("deit") {
                true => raw_name,
                false => name_of(width, depth, patch).to_owned(),
            },
            patch,
            grid,
            width,
            depth,
            heads,
            mlp,
            joined,
            qkv_bias: shape(&format!("blocks.0.attn.{queries}.bias")).is_some(),
            class_token,
            registers,
            prefix_positions,
            norm_before,
            layer_scale: shape("blocks.0.ls1.gamma").is_some(),
            reads_mean,
            norm,
            epsilon: reader.number("layer_norm_eps", usual_epsilon)?,
        })
    }

    /// Tokens that stand before the patches.
    fn prefix(&self) -> usize {
        usize::from(self.class_token) + self.registers
    }

    /// Rows of the table of positions that are of no patch.
    pub(crate) fn prefix_rows(&self) -> usize {
        if self.prefix_positions {
            self.prefix()
        } else {
            0
        }
    }

    /// L
    fn tokens(&self, side: usize) -> usize {
        self.prefix() + (side / self.patch).pow(2)
    }

    /// Rows and columns of the map after so many units, for square pictures of this side.
    pub(crate) fn map_after(&self, units: usize, side: usize) -> [usize; 2] {
        // The embeddings are the first unit.
        let first_alone = units == 1 + self.depth && !self.reads_mean;
        match units {
            0 => [side; 2],
            units if units <= 1 + self.depth && !first_alone => [self.tokens(side), 1],
            _ => [1, 1],
        }
    }

    /// The sizes of what linear maps put out, for square pictures of this side.
    pub(crate) fn map_sizes(&self, side: usize) -> MapSizes {
        /// A block keeps its input, two norms' outputs and a sum beside what its maps put out.
        const KEPT: f64 = 1.4;
        let tokens = self.tokens(side);
        let block = tokens * (5 * self.width + self.mlp);
        let mut units = vec![tokens * self.width];
        units.extend(std::iter::repeat_n(block, self.depth));
        units.push(self.width);
        MapSizes {
            units,
            at_once: tokens * (4 * self.width + 2 * self.mlp),
            kept: KEPT,
        }
    }

    /// timm's arguments for a network of these sizes and pictures of this side.
    fn arguments(&self, side: usize) -> Map<String, Value> {
        let arguments = json!({
            "img_size": side,
            "patch_size": self.patch,
            "embed_dim": self.width,
            "depth": self.depth,
            "num_heads": self.heads,
            "mlp_ratio": self.mlp as f64 / self.width as f64,
            "qkv_bias": self.qkv_bias,
            "init_values": self.layer_scale.then_some(1e-5),
            "class_token": self.class_token,
            "reg_tokens": self.registers,
            "no_embed_class": !self.prefix_positions,
            "pre_norm": self.norm_before,
            "final_norm": self.norm != LastNorm::Absent,
            "fc_norm": self.norm == LastNorm::Pooled,
            "global_pool": self.pooling(),
        });
        match arguments {
            Value::Object(arguments) => arguments,
            _ => Map::new(),
        }
    }

    /// Adds to timm's `config.json` what tells this network from others of its name, for pictures of this side.
    pub(crate) fn add_to(&self, json: &mut Value, side: usize) {
        json["global_pool"] = self.pooling().into();
        json["pretrained_cfg"]["fixed_input_size"] = true.into();
        json["model_args"] = self.arguments(side).into();
        // timm has no word for it: other tools would take the usual one.
        if self.epsilon != USUAL_EPSILON {
            json["layer_norm_eps"] = self.epsilon.into();
        }
    }

    /// Adds its sizes to transformers' `config.json`, which a file of weights alone has none of.
    pub(crate) fn add_to_transformers(&self, json: &mut Map<String, Value>) {
        for (key, value) in [
            ("hidden_size", json!(self.width)),
            ("num_hidden_layers", json!(self.depth)),
            ("num_attention_heads", json!(self.heads)),
            ("intermediate_size", json!(self.mlp)),
            ("patch_size", json!(self.patch)),
            ("qkv_bias", json!(self.qkv_bias)),
            ("layer_norm_eps", json!(self.epsilon)),
        ] {
            json.insert(key.into(), value);
        }
    }

    /// timm's word for what the head reads.
    fn pooling(&self) -> &'static str {
        if self.reads_mean { "avg" } else { "token" }
    }
}

/// Whether a table of so many positions has some for the tokens before the patches; `None` where it is of no square.
fn prefix_has_positions(rows: usize, prefix: usize) -> Option<bool> {
    let is_square = |rows: usize| rows > 0 && rows.isqrt().pow(2) == rows;
    if rows > prefix && is_square(rows - prefix) {
        Some(true)
    } else {
        is_square(rows).then_some(false)
    }
}

/// The heads of published networks of this width.
fn usual_heads(width: usize) -> Option<usize> {
    match width {
        1152 | 1280 | 1408 | 1664 => Some(16),
        _ => width.is_multiple_of(64).then_some(width / 64),
    }
}

/// timm's name of a network of about these sizes; the exact ones are told by [`VitConfig::arguments`].
fn name_of(width: usize, depth: usize, patch: usize) -> &'static str {
    match (width, depth, patch) {
        (192, 12, 16) => "vit_tiny_patch16_224",
        (384, 12, 16) => "vit_small_patch16_224",
        (384, 12, 32) => "vit_small_patch32_224",
        (768, 12, 32) => "vit_base_patch32_224",
        (768, 12, 8) => "vit_base_patch8_224",
        (1024, 24, 16) => "vit_large_patch16_224",
        (1024, 24, 32) => "vit_large_patch32_224",
        (1280, 32, 14) => "vit_huge_patch14_224",
        _ => "vit_base_patch16_224",
    }
}

/// Patches to tokens.
#[derive(Module, Debug)]
pub struct PatchEmbed<B: Backend> {
    proj: Conv2d<B>,
}

/// A factor by channel.
#[derive(Module, Debug)]
pub struct LayerScale<B: Backend> {
    gamma: Param<Tensor<B, 1>>,
}

/// Queries, keys and values by one map or by three, and the map behind them.
#[derive(Module, Debug)]
pub struct VitAttention<B: Backend> {
    qkv: Option<Linear<B>>,
    query: Option<Linear<B>>,
    key: Option<Linear<B>>,
    value: Option<Linear<B>>,
    proj: Linear<B>,
    heads: usize,
}

/// Two linear maps with GELU between them.
#[derive(Module, Debug)]
pub struct Mlp<B: Backend> {
    pub(super) fc1: Linear<B>,
    pub(super) fc2: Linear<B>,
}

/// Attention and linear maps, each behind a norm and with a way around it.
#[derive(Module, Debug)]
pub struct VitBlock<B: Backend> {
    norm1: LayerNorm<B>,
    attn: VitAttention<B>,
    ls1: Option<LayerScale<B>>,
    norm2: LayerNorm<B>,
    mlp: Mlp<B>,
    ls2: Option<LayerScale<B>>,
}

/// A vision transformer without a head.
#[derive(Module, Debug)]
pub struct Vit<B: Backend> {
    patch_embed: PatchEmbed<B>,
    cls_token: Option<Param<Tensor<B, 3>>>,
    reg_token: Option<Param<Tensor<B, 3>>>,
    pos_embed: Param<Tensor<B, 3>>,
    norm_pre: Option<LayerNorm<B>>,
    blocks: Vec<VitBlock<B>>,
    norm: Option<LayerNorm<B>>,
    fc_norm: Option<LayerNorm<B>>,
    grid: usize,
    prefix_positions: bool,
    reads_mean: bool,
}

adapter_slots!(VitAttention {
    qkv,
    query,
    key,
    value,
    proj
});
adapter_slots!(Mlp { fc1, fc2 });
adapter_slots!(VitBlock { attn, mlp });
adapter_slots!(Vit { blocks });

impl<B: Backend> Mlp<B> {
    /// New parameters; `name` begins the names of their streams.
    pub(super) fn init(
        seed: u64,
        name: &str,
        width: usize,
        inner: usize,
        device: &B::Device,
    ) -> Self {
        let key = |part: &str| rng::named(seed, &format!("{name}.{part}"));
        Self {
            fc1: Linear::normal(key("fc1"), width, inner, STD, device),
            fc2: Linear::normal(key("fc2"), inner, width, STD, device),
        }
    }
}

impl<B: Backend> Vit<B> {
    /// With random weights.
    pub fn init(config: &VitConfig, seed: u64, device: &B::Device) -> Self {
        let width = config.width;
        let norm = || LayerNorm::new(width, config.epsilon, device);
        let token = |rows: usize| {
            init::lazy([1, rows, width], device, |shape, device| {
                Tensor::zeros(shape, device)
            })
        };
        let scale = || {
            config.layer_scale.then(|| LayerScale {
                gamma: init::lazy([width], device, |shape, device| {
                    Tensor::full(shape, 1e-5, device)
                }),
            })
        };
        let block = |i: usize| {
            let linear = |part: &str, outputs: usize| {
                let key = rng::named(seed, &format!("blocks.{i}.attn.{part}"));
                Linear::normal(key, width, outputs, STD, device)
            };
            let of_queries = |part: &str, outputs: usize| {
                let mut linear = linear(part, outputs);
                if !config.qkv_bias {
                    linear.bias = None;
                }
                linear
            };
            let apart = |part: &str| (!config.joined).then(|| of_queries(part, width));
            VitBlock {
                norm1: norm(),
                attn: VitAttention {
                    qkv: config.joined.then(|| of_queries("qkv", 3 * width)),
                    query: apart("query"),
                    key: apart("key"),
                    value: apart("value"),
                    proj: linear("proj", width),
                    heads: config.heads,
                },
                ls1: scale(),
                norm2: norm(),
                mlp: Mlp::init(seed, &format!("blocks.{i}.mlp"), width, config.mlp, device),
                ls2: scale(),
            }
        };
        let key = rng::named(seed, "patch_embed.proj");
        let (patch, padding) = (config.patch, Padding::Explicit(0));
        let proj = Conv2d::init(key, (3, width), patch, patch, padding, 1, device);
        let positions = config.prefix_rows() + config.grid * config.grid;
        let key = rng::named(seed, "pos_embed");
        Self {
            patch_embed: PatchEmbed {
                proj: match config.norm_before {
                    true => proj,
                    false => proj.with_bias(device),
                },
            },
            cls_token: config.class_token.then(|| token(1)),
            reg_token: (config.registers > 0).then(|| token(config.registers)),
            pos_embed: init::lazy([1, positions, width], device, move |shape, device| {
                init::normal(key, shape, STD, device)
            }),
            norm_pre: config.norm_before.then(norm),
            blocks: (0..config.depth).map(block).collect(),
            norm: (config.norm == LastNorm::Tokens).then(norm),
            fc_norm: (config.norm == LastNorm::Pooled).then(norm),
            grid: config.grid,
            prefix_positions: config.prefix_positions,
            reads_mean: config.reads_mean,
        }
    }

    /// The embeddings, the blocks, and what the head reads of them.
    pub(crate) fn units(&self) -> usize {
        2 + self.blocks.len()
    }

    /// The unit of a parameter, by its path; `None` where the path is none.
    pub(crate) fn unit_of(&self, path: &str) -> Option<usize> {
        let mut parts = path.split('.');
        match parts.next()? {
            "blocks" => Some(1 + parts.next()?.parse::<usize>().ok()?),
            "norm" | "fc_norm" => Some(1 + self.blocks.len()),
            _ => Some(0),
        }
    }

    /// Number of blocks.
    pub(crate) fn blocks(&self) -> usize {
        self.blocks.len()
    }
}

/// `y [T, D]`, scaled by channel where there is a scale.
fn scaled<B: Backend>(y: Tensor<B, 2>, scale: Option<&LayerScale<B>>) -> Tensor<B, 2> {
    match scale {
        Some(scale) => y * scale.gamma.val().unsqueeze::<2>(),
        None => y,
    }
}

impl<B: TuneBackend> Mlp<B> {
    /// `x [T, D]` -> `[T, D]`
    pub(super) fn forward(&self, x: Tensor<B, 2>, kind: GeluKind, pass: Pass) -> Tensor<B, 2> {
        let wide = self.fc1.forward(x, pass);
        self.fc2.forward_gelu(wide, kind, pass)
    }
}

impl<B: TuneBackend> VitAttention<B> {
    /// Of normed tokens `x [T, D]`, as keys and values, and of those of them that ask, the first of each picture or all.
    fn forward(
        &self,
        x: Tensor<B, 2>,
        asked: Option<&Asked<B>>,
        sequences: &Sequences,
        pass: Pass,
    ) -> Tensor<B, 2> {
        let of_asked = |x: Tensor<B, 2>| match asked {
            None => x,
            Some(asked) => ops::embedding_rows(x, asked.tokens.clone()),
        };
        let (q, k, v) = match (&self.qkv, &self.query, &self.key, &self.value) {
            (Some(qkv), ..) => {
                let [q, k, v] = qkv.forward_parts(x, pass);
                (of_asked(q), k, v)
            }
            (None, Some(query), Some(key), Some(value)) => (
                query.forward(of_asked(x.clone()), pass),
                key.forward(x.clone(), pass),
                value.forward(x, pass),
            ),
            _ => unreachable!("a block has one map or three"),
        };
        let queries = asked.map_or(sequences, |asked| &asked.sequences);
        let config = AttentionConfig::new(self.heads);
        let context = ops::attention(q, k, v, (queries, sequences), config);
        self.proj.forward(context, pass)
    }
}

impl<B: TuneBackend> VitBlock<B> {
    /// `x [N, L, 1, D]` -> the same; or of the first token alone, `[N, 1, 1, D]`, where nobody reads the others.
    fn forward(&self, x: Tensor<B, 4>, first_alone: bool, pass: Pass) -> Tensor<B, 4> {
        let pass = within(self, pass);
        let [n, length, _, width] = x.dims();
        let x = x.reshape([n * length, width]);
        let sequences = Sequences::from_lengths(&vec![length; n]);
        let asked = first_alone.then(|| first_tokens(&sequences, &x.device()));
        let normed = self.norm1.forward(x.clone());
        let x = match &asked {
            None => x,
            Some(asked) => ops::embedding_rows(x, asked.tokens.clone()),
        };
        let y = (self.attn).forward(normed, asked.as_ref(), &sequences, pass);
        let x = x + scaled(y, self.ls1.as_ref());
        let y = self.norm2.forward(x.clone());
        let y = self.mlp.forward(y, GeluKind::Exact, pass);
        let x = x + scaled(y, self.ls2.as_ref());
        let [rows, _] = x.dims();
        x.reshape([n, rows / n.max(1), 1, width])
    }
}

impl<B: TuneBackend> Vit<B> {
    pub(crate) fn unit(&self, unit: usize, x: Tensor<B, 4>, pass: Pass) -> Tensor<B, 4> {
        match unit {
            0 => self.embed(x, pass),
            unit if unit <= self.blocks.len() => {
                let last = unit == self.blocks.len();
                self.blocks[unit - 1].forward(x, last && !self.reads_mean, pass)
            }
            _ => self.pool(x),
        }
    }

    /// Pictures `[N, H, W, 3]` -> tokens `[N, L, 1, D]`.
    fn embed(&self, x: Tensor<B, 4>, pass: Pass) -> Tensor<B, 4> {
        let x = self.patch_embed.proj.forward(x, pass);
        let [n, rows, columns, width] = x.dims();
        assert_eq!(
            [rows, columns],
            [self.grid; 2],
            "pictures have as many patches as there are positions"
        );
        let prefix = [&self.cls_token, &self.reg_token].into_iter().flatten();
        let mut parts: Vec<Tensor<B, 3>> = prefix
            .map(|token| {
                let token = token.val();
                let [_, rows, _] = token.dims();
                token.expand([n, rows, width])
            })
            .collect();
        let x = x.reshape([n, rows * columns, width]);
        let x = match self.prefix_positions {
            true => {
                parts.push(x);
                Tensor::cat(parts, 1) + self.pos_embed.val()
            }
            false => {
                parts.push(x + self.pos_embed.val());
                Tensor::cat(parts, 1)
            }
        };
        let [_, length, _] = x.dims();
        let x = match &self.norm_pre {
            None => x,
            Some(norm) => {
                let rows = norm.forward(x.reshape([n * length, width]));
                rows.reshape([n, length, width])
            }
        };
        x.reshape([n, length, 1, width])
    }

    /// Tokens -> what the head reads, `[N, 1, 1, D]`.
    fn pool(&self, x: Tensor<B, 4>) -> Tensor<B, 4> {
        let [n, length, _, width] = x.dims();
        let mut x = x.reshape([n * length, width]);
        if let Some(norm) = &self.norm {
            x = norm.forward(x);
        }
        if self.reads_mean {
            let patches = self.grid * self.grid;
            let first = length - patches;
            let x_by_picture = x.reshape([n, length, width]).narrow(1, first, patches);
            x = x_by_picture.mean_dim(1).squeeze_dim::<2>(1);
        }
        if let Some(norm) = &self.fc_norm {
            x = norm.forward(x);
        }
        x.reshape([n, 1, 1, width])
    }
}

/// A table of positions `[1, prefix + g g, D]` for pictures of another number of patches, as timm makes it: the rows of the grid
/// resized by an antialiased cubic filter, those before it as they are.
pub(crate) fn resampled(
    values: &[f32],
    width: usize,
    prefix: usize,
    sides: [usize; 2],
) -> Vec<f32> {
    let [from, to] = sides;
    let weights = cubic_weights(from, to);
    let grid = &values[prefix * width..];
    // Rows are mixed first: `[to, from, D]`.
    let mut half = vec![0f64; to * from * width];
    for (row, weights) in half.chunks_exact_mut((from * width).max(1)).zip(&weights) {
        for &(source, weight) in weights {
            let source = &grid[source * from * width..][..from * width];
            for (sum, &value) in row.iter_mut().zip(source) {
                *sum += weight * f64::from(value);
            }
        }
    }
    let mut table = values[..prefix * width].to_vec();
    for row in half.chunks_exact((from * width).max(1)) {
        for weights in &weights {
            let mut token = vec![0f64; width];
            for &(source, weight) in weights {
                for (sum, value) in token.iter_mut().zip(&row[source * width..]) {
                    *sum += weight * value;
                }
            }
            table.extend(token.iter().map(|&value| value as f32));
        }
    }
    table
}

/// For each place of the new side, places of the old one with their weights: PyTorch's bicubic with antialias.
fn cubic_weights(from: usize, to: usize) -> Vec<Vec<(usize, f64)>> {
    /// Keys's parameter, as Pillow and PyTorch's antialiased filter have it.
    const A: f64 = -0.5;
    let cubic = |x: f64| {
        let x = x.abs();
        if x < 1.0 {
            ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0
        } else if x < 2.0 {
            (((x - 5.0) * x + 8.0) * x - 4.0) * A
        } else {
            0.0
        }
    };
    let scale = from as f64 / to.max(1) as f64;
    let stretch = scale.max(1.0);
    let support = 2.0 * stretch;
    let place = |i: usize| {
        let center = scale * (i as f64 + 0.5);
        let first = (center - support + 0.5).max(0.0) as usize;
        let end = ((center + support + 0.5) as usize).min(from);
        let mut weights: Vec<(usize, f64)> = (first..end)
            .map(|at| (at, cubic((at as f64 - center + 0.5) / stretch)))
            .collect();
        let total: f64 = weights.iter().map(|(_, weight)| weight).sum();
        weights.iter_mut().for_each(|(_, weight)| *weight /= total);
        weights
    };
    (0..to).map(place).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_transformers_files_are_those_of_its_modules() {
        for (file, module) in [
            (
                "vit.encoder.layer.10.attention.attention.query.weight",
                "vit.layers.10.attention.q_proj.weight",
            ),
            (
                "encoder.layer.0.attention.output.dense.bias",
                "vit.layers.0.attention.o_proj.bias",
            ),
            (
                "vit.encoder.layer.3.output.dense.bias",
                "vit.layers.3.mlp.fc2.bias",
            ),
            (
                "vit.encoder.layer.3.layernorm_after.bias",
                "vit.layers.3.layernorm_after.bias",
            ),
            ("layernorm.weight", "vit.layernorm.weight"),
            ("vit.layers.1.mlp.fc1.weight", "vit.layers.1.mlp.fc1.weight"),
            ("classifier.bias", "classifier.bias"),
        ] {
            assert_eq!(from_files(file), module);
            if file.starts_with("vit.encoder") {
                assert_eq!(IN_FILES.published(module), file);
            }
        }
    }

    #[test]
    fn positions_of_a_prefix_are_told_from_their_number() {
        assert_eq!(prefix_has_positions(197, 1), Some(true));
        assert_eq!(prefix_has_positions(196, 1), Some(false));
        assert_eq!(prefix_has_positions(196, 0), Some(true));
        assert_eq!(prefix_has_positions(37 * 37, 5), Some(false));
        assert_eq!(prefix_has_positions(198, 1), None);
    }

    /// A level table stays level, and its prefix what it was.
    #[test]
    fn resizing_keeps_what_is_level() {
        let table: Vec<f32> = [7.0f32; 2].into_iter().chain([0.25; 2 * 16]).collect();
        for to in [2, 3, 4, 7] {
            let found = resampled(&table, 2, 1, [4, to]);
            assert_eq!(found.len(), 2 + 2 * to * to);
            assert_eq!(found[..2], [7.0; 2]);
            assert!(found[2..].iter().all(|v| (v - 0.25).abs() < 1e-6));
        }
    }
}
