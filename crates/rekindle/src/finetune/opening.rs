//! Finds and reads everything that a run is made of.

use super::{Opened, timed};
use crate::{
    Error, Observer, RunConfig,
    backend::{chosen, described, free_memory},
    config::{self, DataSource, Device, Method},
    fingerprint::Fingerprint,
    gguf, inputs,
    located::{end_of_run, find_on_hub},
    plan::Sizes,
    recipe::Recipe,
    tasks,
    tuning::{self, Tuned},
};
use rekindle_base::shell_word;
use rekindle_hub::{Hub, Resolved, Source};
use rekindle_models::{Model, Pretrained};
use rekindle_nn::{TuneAutodiff, ops::Precision, params};
use rekindle_train::Collective;
use std::{path::Path, time::Instant};

/// Finds and reads everything, and loads the model.
pub(crate) fn open<B: TuneAutodiff>(
    config: &RunConfig,
    observer: &dyn Observer,
    processes: &Collective,
    device: &B::Device,
) -> Result<(Opened<B>, Model<B>), Error> {
    let precision = precision::<B>(config, device)?;
    let hub = Hub::from_env();
    let mut timings = Vec::new();
    // Before anything is loaded.
    let free = free_memory(config.device);
    let clock = Instant::now();
    let base = find_model(&config.model.name, &hub, observer)?;
    let pretrained = inputs::with_added_tokens(config, Pretrained::open(&base.dir)?)?;
    let pretrained = with_picture_size(config, pretrained)?;
    let pretrained = match config.model.quantized {
        true => {
            let mut whole = config.peft.modules_to_save.clone();
            if !config.model.add_tokens.is_empty() {
                whole.extend(pretrained.vocabulary());
            }
            pretrained.keeping_blocks(whole)
        }
        false => pretrained,
    };
    timed(&mut timings, observer, "find model", clock);

    let clock = Instant::now();
    observer.detail(&match config.data_source() {
        DataSource::Dataset(name) => format!("examples of the dataset {name}"),
        DataSource::Files { train, .. } => format!("examples of {}", train.display()),
    });
    let prepared = inputs::prepare(config, &pretrained, &hub, observer)?;
    timed(&mut timings, observer, "read and encode data", clock);

    let clock = Instant::now();
    let encoder = prepared.encoder.clone();
    let objective = tasks::train::<B>(config, encoder, prepared.train.targets());
    if objective.compares_texts() && !processes.is_alone() {
        return Err(Error::Setting {
            reason: "the texts of a batch are compared with each other, and several processes would each see a part of it".into(),
            hint: "start one process; embedding.mini_batch_size keeps large batches small".into(),
        });
    }
    let examples = prepared.train.len();
    let tuned = tuning::load::<B>(
        config,
        &base,
        &pretrained,
        objective.as_ref(),
        examples,
        device,
    )?;
    timed(&mut timings, observer, "load model", clock);

    let mut fingerprint = Fingerprint::new();
    let sets = [
        Some(&prepared.train),
        prepared.validation.as_ref(),
        prepared.test.as_ref(),
    ];
    for set in sets.into_iter().flatten() {
        set.add_to(&mut fingerprint);
    }
    fingerprint.add_model(&pretrained)?;
    let Tuned {
        model,
        loaded,
        head,
        adapter,
        method,
    } = tuned;
    let (parameters, trainable) = params::count(&model);
    let packed = loaded.packed;
    let (units, frozen) = (model.units(), model.frozen_units());
    let asked = config.train.gradient_checkpointing;
    // A packed map to the vocabulary is unpacked for each step.
    let output = model.output_weight();
    let sizes = Sizes {
        parameters,
        trainable,
        packed,
        unpacked: match output.filter(|output| output.parameter().is_none()) {
            Some(output) => output.dims().iter().product(),
            None => 0,
        },
    };
    let memory = (prepared.footprint).memory(sizes, frozen, asked, free);
    let saves = memory.gradient_checkpointing;
    let recipe = Recipe::new(
        config, &prepared, objective, &model, precision, saves, processes, device,
    );
    let opened = Opened {
        memory,
        fingerprint,
        recipe,
        prepared,
        pretrained,
        base,
        loaded,
        head,
        adapter,
        method,
        units,
        parameters: (parameters + packed, trainable),
        timings,
    };
    Ok((opened, model))
}

/// The model for pictures of the size that the run asks for, if it does.
fn with_picture_size(config: &RunConfig, pretrained: Pretrained) -> Result<Pretrained, Error> {
    let Some(size) = config.images.size else {
        return Ok(pretrained);
    };
    match pretrained.config().patch() {
        Some(patch) if size < patch => Err(Error::Setting {
            reason: format!(
                "images.size = {size}, but the model cuts pictures into patches of {patch} pixels"
            ),
            hint: format!("set it to a multiple of {patch}, or leave it out"),
        }),
        // timm resizes positions by itself; transformers has no place for them beside an adapter.
        Some(_)
            if config.peft.method == Method::Lora
                && pretrained.config().is_of_transformers()
                && pretrained.config().pictures.as_ref().map(|own| own.size) != Some(size) =>
        {
            Err(Error::Setting {
                reason: format!(
                    "images.size = {size} resizes the positions of this ViT of transformers, which an adapter's file cannot hold"
                ),
                hint: "leave images.size out, use peft.method = \"full\", or take the model by timm's name".into(),
            })
        }
        _ => Ok(pretrained.with_picture_size(size, None)),
    }
}

/// Finds a model's directory, or takes a file of weights as it is; a GGUF file is unpacked.
pub(crate) fn find_model(
    name: &str,
    hub: &Hub,
    observer: &dyn Observer,
) -> Result<Resolved, Error> {
    let path = Path::new(name);
    if path.is_file() {
        return Ok(Resolved {
            dir: gguf::unpacked(hub, path)?,
            source: Source::Path,
            name: name.to_owned(),
            revision: None,
        });
    }
    check_trainable(path)?;
    let of_run = match path.join("config.toml").is_file() {
        true => Some(end_of_run(path)?.to_string_lossy().into_owned()),
        false => None,
    };
    let mut found = find_on_hub(of_run.as_deref().unwrap_or(name), hub, observer)?;
    if of_run.is_some() {
        found.name = name.to_owned();
    }
    found.dir = gguf::unpacked(hub, &found.dir)?;
    observer.detail(&format!(
        "model {name}: {} ({})",
        found.dir.display(),
        found.source
    ));
    Ok(found)
}

/// Refuses an adapter, and a run that ended with one: what is tuned further is a whole model.
fn check_trainable(path: &Path) -> Result<(), Error> {
    let is_adapter = |dir: &Path| {
        dir.join("adapter_config.json").is_file() && !dir.join("config.json").is_file()
    };
    let reason = match path {
        run if run.join("config.toml").is_file() && is_adapter(&run.join("final")) => {
            "the run ended with an adapter, and what is tuned further is a whole model"
        }
        dir if is_adapter(dir) => "it is an adapter, and what is tuned further is a whole model",
        _ => return Ok(()),
    };
    let merged = path.file_name().map_or_else(
        || "merged".to_owned(),
        |name| format!("{}-merged", name.to_string_lossy()),
    );
    Err(Error::ModelDir {
        path: path.to_owned(),
        reason: reason.into(),
        hint: format!(
            "merge it first: rekindle merge {} --to {merged}; then name it: --model {merged}",
            shell_word(&path.to_string_lossy()),
            merged = shell_word(&merged)
        ),
    })
}

/// The precision asked for.
///
/// # Errors
/// When it is not fast on this machine.
fn precision<B: TuneAutodiff>(config: &RunConfig, device: &B::Device) -> Result<Precision, Error> {
    let precision = match config.train.precision {
        config::Precision::F32 => Precision::F32,
        config::Precision::Tf32 => Precision::Tf32,
        config::Precision::Bf16 => Precision::Bf16,
    };
    if B::tune_is_fast(precision, device) {
        return Ok(precision);
    }
    let lacking = match chosen(config.device) {
        Device::Cpu => {
            "this CPU has no instructions that are fast at it (AMX, or AMD's avx512_bf16)".into()
        }
        device => format!("{} has no matrix units for it", described(device)),
    };
    Err(Error::Setting {
        reason: format!(
            "train.precision = \"{}\", but {lacking}",
            config.train.precision
        ),
        hint: "set it to \"f32\", or leave it out".into(),
    })
}
