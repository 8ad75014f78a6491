//! The registry of families, and a model directory looked into but not loaded.

use crate::{
    Modality, ModelConfig, ModelError, Problem,
    config::read_json,
    image,
    load::{Rule, sort_tensors},
    text::{
        albert, bert, deberta, distilbert, electra, gemma, gpt2, llama, modernbert, mpnet, roberta,
    },
};
use rekindle_nn::params::NameMap;
use rekindle_weights::WeightFiles;
use serde_json::{Map, Value};
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

/// Every family, in the order in which they are asked whether a directory is theirs.
static FAMILIES: &[&Family] = &[
    &bert::FAMILY,
    &distilbert::FAMILY,
    &roberta::ROBERTA,
    &roberta::XLM_ROBERTA,
    &electra::FAMILY,
    &modernbert::FAMILY,
    &albert::FAMILY,
    &mpnet::FAMILY,
    &deberta::FAMILY,
    &gpt2::GPT2,
    &llama::LLAMA,
    &llama::MISTRAL,
    &llama::QWEN2,
    &llama::QWEN3,
    &llama::SMOLLM3,
    &llama::PHI3,
    &gemma::GEMMA3,
    &image::VIT,
    &image::VIT_OF_TRANSFORMERS,
    &image::CONVNEXT,
    &image::MOBILENET,
    &image::EFFICIENTNET_LITE,
    &image::RESNET,
];

/// Relatives of families that are not read: by `model_type`, what they are, and what to take instead.
static RELATIVES: [(&str, &str, &str); 4] = [
    (
        "deit",
        "DeiT of transformers, which has a token for distillation",
        "take a deit_* of timm that is not distilled, such as timm/deit_small_patch16_224.fb_in1k",
    ),
    (
        "dinov2",
        "DINOv2 by transformers' names",
        "take the same weights of timm, such as timm/vit_small_patch14_dinov2.lvd142m",
    ),
    (
        "gemma2",
        "Gemma 2, which caps the scores of its attention; no kernel here does that",
        "take a text model of Gemma 3 (model_type gemma3_text), such as its 270M or 1B",
    ),
    (
        "gemma3",
        "Gemma 3 with its tower for pictures (Gemma3ForConditionalGeneration)",
        "take a text model of Gemma 3 (Gemma3ForCausalLM, model_type gemma3_text), such as its 270M or 1B; or this model's GGUF file, which holds its text model alone",
    ),
];

/// What the registry knows of a family.
#[derive(Debug)]
pub(crate) struct Family {
    /// For messages; of texts also transformers' `model_type`.
    pub name: &'static str,
    /// What transformers' classes are called before `For` or `Model`; empty for timm's.
    pub class: &'static str,
    pub modality: Modality,
    /// Field paths to published names.
    pub names: NameMap,
    /// What a person calls its head.
    pub head: &'static str,
    /// Published names of what is new with a new head.
    pub head_modules: &'static [&'static str],
    /// Ends of the published names of weights that are stored `[in, out]`.
    pub transposed: &'static [&'static str],
    /// Published names to those in files, where these are others: transformers names modules of some families anew, and files
    /// as ever.
    pub in_files: Option<NameMap>,
    /// Field paths to published names where the head is one for tokens; `None` where there is no such class.
    pub token_names: Option<NameMap>,
    /// Field paths to published names where the head is one for answers; `None` where there is no such class.
    pub span_names: Option<NameMap>,
    /// The same where the head is one for choices; `None` where that has the names of one for whole examples.
    pub choice_names: Option<NameMap>,
    /// Published name of the pooler, where a head may read one.
    pub pooler: Option<&'static str>,
    /// Whether these tensors are its own, where no `model_type` says so.
    pub claims: fn(&Found) -> bool,
    /// What a tensor is, by its bare name (see [`bare`]).
    pub rule: fn(&Found, &str) -> Rule,
    /// The configuration, its sizes held against the weights.
    pub read: fn(&Found, &'static Family) -> Result<ModelConfig, ModelError>,
}

/// A directory's `config.json` and its tensors' names and shapes.
pub(crate) struct Found {
    /// `config.json`, which need not be there for pictures.
    pub path: PathBuf,
    pub raw: Map<String, Value>,
    /// Shapes by published name; by bare name before the family is known.
    pub shapes: BTreeMap<String, Vec<usize>>,
    /// Whether there is a pooler, loaded or not: transformers saves one with an encoder, sentence-transformers need not.
    pub has_pooler: bool,
}

impl Family {
    /// Field paths to published names, with a head for this problem.
    pub fn names_for(&self, problem: Problem) -> NameMap {
        let own = match problem {
            Problem::Embedding => return self.bare_names(),
            Problem::Tokens => self.token_names,
            Problem::Span => self.span_names,
            Problem::Choice => self.choice_names,
            _ => None,
        };
        own.unwrap_or(self.names)
    }

    /// Published names of what is new with a new head for this problem.
    pub fn head_modules_for(&self, problem: Problem) -> &'static [&'static str] {
        match problem {
            Problem::Tokens => &["classifier"],
            Problem::Span => match self.names_for(problem).published("head.out").as_str() {
                "qa_outputs" => &["qa_outputs"],
                _ => self.head_modules,
            },
            Problem::Choice => match self.names_for(problem).published("head.dense").as_str() {
                "sequence_summary.summary" => &["sequence_summary", "classifier"],
                _ => self.head_modules,
            },
            Problem::Embedding => &[],
            _ => self.head_modules,
        }
    }

    /// What stands before the names of the backbone where it has a head: `bert`.
    fn root(&self) -> &'static str {
        let first = self
            .names
            .0
            .iter()
            .find(|(field, _)| field.starts_with("backbone."));
        first
            .and_then(|(_, published)| published.split_once('.'))
            .map_or("", |(root, _)| root)
    }

    /// A published name as the backbone alone has it.
    pub fn without_root<'a>(&self, name: &'a str) -> &'a str {
        let inner = name.strip_prefix(self.root());
        inner
            .and_then(|inner| inner.strip_prefix('.'))
            .unwrap_or(name)
    }

    /// Field paths to the names of the backbone by itself, as transformers' `...Model` saves it. They are made once for each family
    /// and kept.
    fn bare_names(&self) -> NameMap {
        type Names = &'static [(&'static str, &'static str)];
        static MADE: Mutex<BTreeMap<[&'static str; 2], Names>> = Mutex::new(BTreeMap::new());
        let mut made = MADE.lock().unwrap_or_else(PoisonError::into_inner);
        let names = made.entry([self.name, self.class]).or_insert_with(|| {
            let backbone = self
                .names
                .0
                .iter()
                .filter(|(field, _)| field.starts_with("backbone"));
            let names: Vec<_> = backbone
                .map(|&(field, published)| (field, self.without_root(published)))
                .collect();
            Box::leak(names.into_boxed_slice())
        });
        NameMap(names)
    }

    /// Whether a parameter, by published name, is stored `[in, out]`.
    pub fn is_transposed(&self, name: &str) -> bool {
        self.transposed.iter().any(|end| name.ends_with(end))
    }
}

impl Found {
    /// A dimension of a tensor; `None` where there is no such tensor.
    pub fn dimension(&self, name: &str, axis: usize) -> Option<usize> {
        self.shapes.get(name)?.get(axis).copied()
    }
}

/// A tensor's name without what wraps a model around it: a trainer's dictionary, data parallelism, `torch.compile`, a module
/// of the user's own that holds it.
pub(crate) fn bare(name: &str) -> &str {
    const WRAPPERS: [&str; 8] = [
        "state_dict.",
        "model_state_dict.",
        "_orig_mod.",
        "module.",
        "model.",
        "net.",
        "student.",
        "base_model.",
    ];
    /// What stands below an `encoder` that is a whole model.
    const ENCODER: [&str; 11] = [
        "embeddings.",
        "encoder.",
        "pooler.",
        "classifier.",
        "bert.",
        "roberta.",
        "distilbert.",
        "electra.",
        "albert.",
        "mpnet.",
        "deberta.",
    ];
    let mut name = name;
    while let Some(inner) = WRAPPERS.iter().find_map(|w| name.strip_prefix(w)) {
        name = inner;
    }
    match name.strip_prefix("encoder.") {
        Some(inner) if ENCODER.iter().any(|part| inner.starts_with(part)) => inner,
        _ => name,
    }
}

/// A model directory, or a file of weights, looked into but not loaded.
pub struct Pretrained {
    dir: PathBuf,
    files: WeightFiles,
    config: ModelConfig,
    found: Found,
    /// `None`: blocks are unpacked. Else the modules that are unpacked all the same.
    keeps_blocks: Option<Vec<String>>,
}

impl Pretrained {
    /// The same model, loaded with the quantized blocks of its linear layers and tables as they lie. They are then no
    /// parameters: not trained, not saved, and a fraction of the memory. Those of modules that end in one of the names
    /// `except`, or lie below one, are parameters as always.
    #[must_use]
    pub fn keeping_blocks(mut self, except: Vec<String>) -> Self {
        self.keeps_blocks = Some(except);
        self
    }

    pub(crate) fn keeps_blocks(&self) -> bool {
        self.keeps_blocks.is_some()
    }

    /// Whether the quantized blocks of a weight, by published name, stay as they lie.
    pub(crate) fn keeps_blocks_of(&self, name: &str) -> bool {
        let name = format!(".{name}");
        let below = |module: &String| name.contains(&format!(".{module}."));
        let except = self.keeps_blocks.as_ref();
        except.is_some_and(|except| !except.iter().any(below))
    }

    /// Opens a directory with weights and a `config.json` (which image models may lack), or a file of weights beside one.
    ///
    /// Every size that `config.json` names is held against the shapes of the weights, before anything of that size is made.
    ///
    /// # Errors
    /// When there are no weights, they are of no family known here, `config.json` does not fit them, or two tensors are one
    /// parameter.
    pub fn open(dir: &Path) -> Result<Self, ModelError> {
        let files = WeightFiles::find(dir)?;
        let folder = match dir.is_file() {
            true => dir.parent().unwrap_or(dir),
            false => dir,
        };
        let path = folder.join("config.json");
        let raw = match path.is_file() {
            true => read_json(&path)?,
            false => Map::new(),
        };
        let shape = |name: &str| files.shape(name).unwrap_or_default().to_vec();
        let mut found = Found {
            path,
            raw,
            shapes: files
                .names()
                .map(|name| (bare(name).to_owned(), shape(name)))
                .collect(),
            has_pooler: files.names().any(|name| {
                name.ends_with("pooler.dense.weight") || name.ends_with("pooler.weight")
            }),
        };
        let family = family(&found)?;
        let sorted = sort_tensors(&files, &|tensor| rule(family, &found, tensor))?;
        let by_bare_name = std::mem::take(&mut found.shapes);
        found.shapes = sorted
            .wanted
            .iter()
            .map(|(name, tensor)| (name.clone(), shape(tensor)))
            .collect();
        let config = (family.read)(&found, family)?;
        found.shapes = by_bare_name;
        Ok(Self {
            dir: dir.to_owned(),
            files,
            config,
            found,
            keeps_blocks: None,
        })
    }

    /// The same for a language model with embeddings of so many tokens: those that the directory lacks will be new, the mean of the
    /// others. Not for fewer than there are.
    #[must_use]
    pub fn with_vocabulary(mut self, tokens: usize) -> Self {
        self.config.grow_vocabulary(tokens);
        self
    }

    /// The same for pictures of this side, that share of the middle cut out of them where it is told: positions of a vision transformer that are for another are resized when they are
    /// loaded.
    #[must_use]
    pub fn with_picture_size(mut self, side: usize, crop: Option<f64>) -> Self {
        self.config.resize_pictures(side, crop);
        self
    }

    /// Published names of the modules whose weight has a row for each token: the embeddings, and the map to the vocabulary
    /// where that is another; none of a model that does not write.
    #[must_use]
    pub fn vocabulary(&self) -> Vec<String> {
        self.config.vocabulary()
    }

    /// What the directory says of its model.
    #[must_use]
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// The directory, or the file of weights.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The weights.
    #[must_use]
    pub fn files(&self) -> &WeightFiles {
        &self.files
    }

    /// What a tensor is.
    pub(crate) fn rule(&self, tensor: &str) -> Rule {
        rule(self.config.entry, &self.found, tensor)
    }
}

/// What a tensor is to a family.
fn rule(family: &Family, found: &Found, tensor: &str) -> Rule {
    match tensor.starts_with("optimizer") {
        true => Rule::Ignore("the optimizer's state".into()),
        false => (family.rule)(found, bare(tensor)),
    }
}

fn family(found: &Found) -> Result<&'static Family, ModelError> {
    let model_type = found.raw.get("model_type").and_then(Value::as_str);
    let of_text = |family: &&&'static Family| family.modality == Modality::Text;
    let named = |family: &&&'static Family| of_text(family) && Some(family.name) == model_type;
    let claims = |family: &&&'static Family| (family.claims)(found);
    let known = FAMILIES.iter().find(named);
    if let Some(family) = known.or_else(|| FAMILIES.iter().find(claims)) {
        return Ok(family);
    }
    if let Some((model_type, what, instead)) = RELATIVES
        .iter()
        .find(|(name, ..)| Some(*name) == model_type)
    {
        return Err(ModelError::Config {
            path: found.path.clone(),
            reason: format!("model_type is `{model_type}`: {what}\nhint: {instead}"),
        });
    }
    let texts: Vec<&str> = FAMILIES.iter().filter(of_text).map(|f| f.name).collect();
    let known = format!(
        "expected {} for texts, or a ResNet (torchvision, timm, transformers or CIFAR), an EfficientNet-Lite, MobileNetV3 or ConvNeXt (timm), or a ViT or DeiT (timm or transformers) for pictures",
        texts.join(", ")
    );
    let reason = match model_type {
        Some(model_type) => format!("model_type is `{model_type}`\nhint: {known}"),
        None => format!(
            "the weights are of no model known here, and no model_type names one\nhint: {known}"
        ),
    };
    Err(ModelError::Config {
        path: found.path.clone(),
        reason,
    })
}

#[cfg(test)]
mod tests {
    use super::bare;

    #[test]
    fn what_training_scripts_wrap_around_a_model_is_taken_off() {
        for wrapper in [
            "",
            "state_dict.module.",
            "model_state_dict.",
            "model._orig_mod.",
            "module.module.",
            "base_model.model.",
            "net.",
            "student.",
        ] {
            for name in [
                "bert.encoder.layer.0.output.dense.bias",
                "encoder.layer.0.x",
                "classifier.weight",
            ] {
                assert_eq!(bare(&format!("{wrapper}{name}")), name);
            }
        }
        assert_eq!(bare("encoder.encoder.layer.0.x"), "encoder.layer.0.x");
        assert_eq!(bare("encoder.embeddings.x"), "embeddings.x");
        assert_eq!(bare("encoder.bert.pooler.x"), "bert.pooler.x");
    }
}
