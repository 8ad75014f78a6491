//! The model of a run: loaded, with a head for the task, with adapters, and with what trains set.

use crate::{
    Error, RunConfig, config,
    config::Method,
    gguf,
    sentence::SentenceFiles,
    task::{Kind, Modality},
    tasks::Objective,
};
use rekindle_hub::{Resolved, Source};
use rekindle_models::{Backbone, HeadSpec, LoadReport, Model, Pretrained, Reads};
use rekindle_nn::{
    TuneAutodiff,
    layers::AdapterSlots,
    params::{self, ParamRef},
};
use rekindle_peft::{LoraConfig, PeftError, TargetModules, Trainable};
use std::collections::BTreeSet;

/// A model that is ready to train.
pub(crate) struct Tuned<B: TuneAutodiff> {
    pub model: Model<B>,
    pub loaded: LoadReport,
    /// Its head, as it was asked for.
    pub head: HeadSpec,
    /// The adapter and its layers; `None` where the model's own parameters change.
    pub adapter: Option<(LoraConfig, Vec<String>)>,
    /// The method with its settings, in a line.
    pub method: String,
}

/// Loads the model and decides what trains.
///
/// # Errors
/// A model that cannot be loaded, or settings that do not fit it.
pub(crate) fn load<B: TuneAutodiff>(
    config: &RunConfig,
    base: &Resolved,
    pretrained: &Pretrained,
    objective: &dyn Objective,
    examples: usize,
    device: &B::Device,
) -> Result<Tuned<B>, Error> {
    let head = HeadSpec {
        outputs: objective.encoder().outputs(),
        labels: objective.encoder().names().to_vec(),
        problem: config.task.kind().problem(),
        reads: match config.model.pooling {
            config::Pooling::Auto if objective.compares_texts() => {
                Some(SentenceFiles::read(pretrained.dir())?.reads)
            }
            config::Pooling::Auto => None,
            config::Pooling::Cls => Some(Reads::First),
            config::Pooling::Mean => Some(Reads::Mean),
        },
        seed: config.seed,
        require: false,
    };
    let (mut model, loaded) = Model::<B>::from_pretrained(pretrained, &head, device)?;
    let adapts_pictures =
        config.task.modality() == Modality::Images && config.peft.method == Method::Lora;
    let of_pictures = match adapts_pictures {
        true => adaptable_layers(&mut model),
        false => Vec::new(),
    };
    let model = match config.model.dropout {
        Some(rate) => model.with_dropout(rate),
        None => model,
    };
    // What is new must train, whatever the method.
    let mut whole = new_modules(&model, &loaded);
    // Rows of new tokens, which may be among those that a rounded vocabulary had to spare.
    let vocabulary = match config.model.add_tokens.is_empty() {
        true => Vec::new(),
        false => pretrained.vocabulary(),
    };
    whole.extend_from_slice(&vocabulary);
    let peft = &config.peft;
    let rule = match peft.method {
        Method::Full | Method::Setfit => Trainable::All,
        Method::Head => Trainable::Head,
        Method::Bitfit => Trainable::Biases,
        Method::Lora => Trainable::AsIs,
    };
    let names = model.names();
    let every_linear = config.adapts_every_linear_layer(examples, head.outputs);
    let (model, adapter) = match peft.method {
        Method::Lora => {
            let targets = match target_modules(&peft.target_modules, &model, every_linear) {
                // PEFT knows the word for models of transformers alone.
                TargetModules::AllLinear if adapts_pictures => TargetModules::Suffixes(of_pictures),
                targets => targets,
            };
            let mut lora = lora(config, base, targets, &whole);
            let is_saved = |module| rekindle_peft::is_saved(&format!("{module}.weight"), &lora);
            lora.ensure_weight_tying =
                pretrained.config().is_tied() && pretrained.vocabulary().into_iter().any(is_saved);
            let (model, layers) = rekindle_peft::inject(model, &lora, names, config.seed, device)?;
            (model, Some((lora, layers)))
        }
        _ => (model, None),
    };
    let set =
        rekindle_peft::set_trainable(model, rule, &whole, &peft.freeze, &peft.unfreeze, names);
    let model = set.map_err(|error| match (error, peft.method) {
        (PeftError::NothingTrains, Method::Head | Method::Bitfit)
            if pretrained.config().is_decoder() =>
        {
            nothing_of_a_language_model(peft.method)
        }
        (error, _) => error.into(),
    })?;
    if let Some((lora, _)) = &adapter {
        check_saved(&model, lora)?;
    }
    let model = match peft.train_last {
        None => model,
        Some(last) if last > model.blocks() => {
            return Err(Error::Setting {
                reason: format!(
                    "peft.train_last = {last}, but the model has {} {}",
                    model.blocks(),
                    block(&model)
                ),
                hint: "name fewer, or leave it out to train everything".into(),
            });
        }
        Some(last) => {
            let units = model.last_units(last);
            only_last(model, units, &vocabulary)
        }
    };
    let frozen_norms = config.freezes_batch_norms(examples) && has_batch_norms(&model);
    let model = match frozen_norms {
        true => without_batch_norms(model),
        false => model,
    };
    let model = match peft.method {
        Method::Setfit => without_head(model)?,
        _ => model,
    };
    let method = described(config, &model, adapter.as_ref(), frozen_norms);
    Ok(Tuned {
        model,
        loaded,
        head,
        adapter,
        method,
    })
}

/// The head's modules, and others that were newly initialised.
fn new_modules<B: TuneAutodiff>(model: &Model<B>, loaded: &LoadReport) -> Vec<String> {
    let mut whole = model.head_modules();
    for (name, _) in &loaded.initialised {
        let module = name
            .rsplit_once('.')
            .map_or(name.as_str(), |(module, _)| module);
        let covered = |known: &String| {
            module == known
                || module
                    .strip_prefix(known.as_str())
                    .is_some_and(|r| r.starts_with('.'))
        };
        if !whole.iter().any(covered) {
            whole.push(module.to_owned());
        }
    }
    whole
}

/// The layers of a model for pictures that can have adapters, but for its head, by the ends of their names that tell them from others.
fn adaptable_layers<B: TuneAutodiff>(model: &mut Model<B>) -> Vec<String> {
    let names = model.names();
    let mut paths = Vec::new();
    model.visit_slots("", &mut |path, _| paths.push(names.published(path)));
    let mut ends: Vec<String> = Vec::new();
    for path in paths.iter().filter(|path| !model.is_head(path)) {
        // Behind the number of the block; a number at the end is part of a name.
        let parts: Vec<&str> = path.split('.').collect();
        let before = &parts[..parts.len() - 1];
        let number = before
            .iter()
            .rposition(|part| part.parse::<usize>().is_ok());
        let end = parts[number.map_or(0, |at| at + 1)..].join(".");
        if !ends.contains(&end) {
            ends.push(end);
        }
    }
    ends
}

/// Query and value layers by the names that families give them, where ModernBERT has one for keys too: those that get adapters unless the
/// user says otherwise.
const QUERY_AND_VALUE: [&str; 9] = [
    "query",
    "value",
    "q_lin",
    "v_lin",
    "query_proj",
    "value_proj",
    "q",
    "v",
    "Wqkv",
];

/// The layers that get an adapter, as PEFT names them.
fn target_modules<B: TuneAutodiff>(
    asked: &config::TargetModules,
    model: &Model<B>,
    every_linear: bool,
) -> TargetModules {
    match asked {
        config::TargetModules::Suffixes(suffixes) => TargetModules::Suffixes(suffixes.clone()),
        config::TargetModules::Regex(pattern) => TargetModules::Regex(pattern.clone()),
        config::TargetModules::AllLinear => TargetModules::AllLinear,
        config::TargetModules::Auto if every_linear => TargetModules::AllLinear,
        config::TargetModules::Auto => {
            let mut there = Vec::new();
            params::visit(model, &mut |param: ParamRef<'_, B>| {
                let path = model.names().published(param.path);
                let ends = |name: &&str| path.ends_with(&format!(".{name}.weight"));
                if let Some(name) = QUERY_AND_VALUE.iter().copied().find(ends)
                    && !there.iter().any(|known| known == name)
                {
                    there.push(name.to_owned());
                }
            });
            match there.is_empty() {
                true => TargetModules::AllLinear,
                false => TargetModules::Suffixes(there),
            }
        }
    }
}

fn lora(
    config: &RunConfig,
    base: &Resolved,
    target_modules: TargetModules,
    whole: &[String],
) -> LoraConfig {
    let peft = &config.peft;
    let mut saved = whole.to_vec();
    for module in &peft.modules_to_save {
        if !saved.contains(module) {
            saved.push(module.clone());
        }
    }
    LoraConfig {
        r: peft.r,
        lora_alpha: peft.lora_alpha,
        lora_dropout: peft.lora_dropout,
        use_rslora: peft.use_rslora,
        target_modules,
        layers_to_transform: peft.layers_to_transform.clone(),
        modules_to_save: saved,
        ensure_weight_tying: false,
        base_model_name_or_path: Some(python_name(base)),
        task_type: match (config.task.kind(), config.task.modality()) {
            (Kind::Generation | Kind::Preference, _) => Some("CAUSAL_LM".into()),
            (Kind::Tags, _) => Some("TOKEN_CLS".into()),
            (Kind::Extraction, _) => Some("QUESTION_ANS".into()),
            (Kind::Embedding, _) => Some("FEATURE_EXTRACTION".into()),
            // PEFT has no word for them.
            (Kind::Choice, _) | (_, Modality::Images) => None,
            (_, Modality::Text) => Some("SEQ_CLS".into()),
        },
    }
}

/// What Python can load the base model by: its id or directory. A GGUF file's is the directory where it is unpacked, because
/// the repository of that name, if there is one, holds other weights.
fn python_name(base: &Resolved) -> String {
    match &base.source {
        Source::Path => base.dir.display().to_string(),
        _ if gguf::is_unpacked(&base.dir) => base.dir.display().to_string(),
        _ => base.name.clone(),
    }
}

/// Checks that everything that trains is saved with the adapter.
fn check_saved<B: TuneAutodiff>(model: &Model<B>, lora: &LoraConfig) -> Result<(), Error> {
    let names = model.names();
    let mut lost = Vec::new();
    params::visit(model, &mut |param: ParamRef<'_, B>| {
        let path = names.published(param.path);
        if param.trainable && !rekindle_peft::is_saved(&path, lora) {
            lost.push(path);
        }
    });
    match lost.first() {
        None => Ok(()),
        Some(first) => Err(Error::Setting {
            reason: format!("peft.unfreeze trains `{first}` ({} parameters in all), which an adapter's file cannot hold", lost.len()),
            hint: "name its module in peft.modules_to_save, or use peft.method = \"full\" with peft.freeze".into(),
        }),
    }
}

/// What the parts of a model are called that `peft.train_last` counts.
fn block<B: TuneAutodiff>(model: &Model<B>) -> &'static str {
    match model.backbone() {
        Backbone::Encoder(_) | Backbone::Decoder(_) => "layers",
        Backbone::Vit(_) => "blocks",
        _ => "stages",
    }
}

/// Why nothing trains by a method that looks for a head or for biases.
fn nothing_of_a_language_model(method: Method) -> Error {
    let lacks = match method {
        Method::Head => "has no head of its own: its embeddings tell the next token",
        _ => "has no biases",
    };
    Error::Setting {
        reason: format!(
            "peft.method = \"{method}\" leaves nothing to train: this language model {lacks}"
        ),
        hint: "use \"lora\" (the default) or \"full\"; peft.train_last = 1 with \"full\" trains the last layer alone".into(),
    }
}

/// Of what trains, leaves the head, the last so many units, and the modules `keep`.
pub(crate) fn only_last<B: TuneAutodiff>(
    model: Model<B>,
    last: usize,
    keep: &[String],
) -> Model<B> {
    let first = model.units().saturating_sub(last);
    let names = model.names();
    let early: Vec<String> = {
        let mut early = Vec::new();
        params::visit(&model, &mut |param: ParamRef<'_, B>| {
            let name = names.published(param.path);
            let module = name.rsplit_once('.').map_or("", |(module, _)| module);
            let kept = keep.iter().any(|keep| keep == module);
            if !kept && model.unit_of(&name).is_some_and(|unit| unit < first) {
                early.push(param.path.to_owned());
            }
        });
        early
    };
    params::map(model, &mut |param: ParamRef<'_, B>| params::Mapped {
        trainable: param.trainable && !early.iter().any(|path| path == param.path),
        value: param.value,
    })
}

/// The head of few-shot classification is none that steps train: it is fitted afterwards, on what the model pools.
///
/// # Errors
/// For a head that does not read that directly.
fn without_head<B: TuneAutodiff>(model: Model<B>) -> Result<Model<B>, Error> {
    let names = model.names();
    let mut of_head = BTreeSet::new();
    params::visit(&model, &mut |param: ParamRef<'_, B>| {
        if param.path.starts_with("head.") {
            of_head.insert(names.published(param.path));
        }
    });
    // A weight and a bias.
    if of_head.len() > 2 || model.reads() != Reads::Mean {
        return Err(Error::Setting {
            reason: format!(
                "peft.method = \"setfit\" puts its head on the mean of the tokens, but this model's head is {}",
                of_head.into_iter().collect::<Vec<_>>().join(", ")
            ),
            hint: "name a model of BERT's family that is read by the mean of its tokens, such as minilm".into(),
        });
    }
    Ok(params::map(model, &mut |param: ParamRef<'_, B>| {
        params::Mapped {
            trainable: param.trainable && !param.path.starts_with("head."),
            value: param.value,
        }
    }))
}

/// Whether anything in the model has running moments.
fn has_batch_norms<B: TuneAutodiff>(model: &Model<B>) -> bool {
    let shapes = params::shapes(model);
    shapes.iter().any(|(path, _)| params::is_buffer(path))
}

/// Batch norms stay as they are: what has running moments beside it trains no more.
fn without_batch_norms<B: TuneAutodiff>(model: Model<B>) -> Model<B> {
    let module = |path: &str| path.rsplit_once('.').map(|(module, _)| module.to_owned());
    let mut norms = BTreeSet::new();
    params::visit(&model, &mut |param: ParamRef<'_, B>| {
        if params::is_buffer(param.path) {
            norms.extend(module(param.path));
        }
    });
    params::map(model, &mut |param: ParamRef<'_, B>| params::Mapped {
        trainable: param.trainable && module(param.path).is_none_or(|name| !norms.contains(&name)),
        value: param.value,
    })
}

fn described<B: TuneAutodiff>(
    config: &RunConfig,
    model: &Model<B>,
    adapter: Option<&(LoraConfig, Vec<String>)>,
    frozen_norms: bool,
) -> String {
    let mut method = match (config.peft.method, adapter) {
        (_, Some((lora, layers))) => format!(
            "LoRA r {}, alpha {}{}, dropout {} on {} layers ({}){}",
            lora.r,
            lora.lora_alpha,
            if lora.use_rslora {
                " (rank-stabilised)"
            } else {
                ""
            },
            lora.lora_dropout,
            layers.len(),
            lora.target_modules,
            match lora.modules_to_save.is_empty() {
                true => "",
                false if !config.model.add_tokens.is_empty() => "; the embeddings in full",
                false => "; the head in full",
            }
        ),
        (Method::Head, None) => "head only".to_owned(),
        (Method::Bitfit, None) => "BitFit: biases, and the head in full".to_owned(),
        (Method::Setfit, None) => {
            "SetFit: the encoder by pairs of texts, then a logistic regression as the head"
                .to_owned()
        }
        (_, None) => "full fine-tuning".to_owned(),
    };
    if let Some(last) = config.peft.train_last {
        let (all, block) = (model.blocks(), block(model));
        let embeddings = match adapter.is_none() && !config.model.add_tokens.is_empty() {
            true => ", and the embeddings",
            false => "",
        };
        method = match config.peft.method {
            Method::Full => format!("the last {last} of {all} {block} and the head{embeddings}"),
            Method::Setfit => format!("{method}; the last {last} of {all} {block} train"),
            Method::Head => method,
            Method::Lora | Method::Bitfit => {
                format!("{method}; of that the last {last} of {all} {block} train")
            }
        };
    }
    if frozen_norms {
        method.push_str(", batch norms frozen");
    }
    if let Some(every) = config.peft.unfreeze_every {
        method.push_str(&format!(
            "; unfrozen from the head on, one more stage every {every} epochs"
        ));
    }
    if let Some(decay) = config.train.layer_decay {
        method.push_str(&format!("; each stage's rate {decay} of the next one's"));
    }
    method
}
