//! Adapter directories in PEFT's format: `adapter_config.json` and `adapter_model.safetensors`.

use crate::{LoraConfig, PeftError, inject, lora::is_saved};
use burn::{module::Module, tensor::backend::Backend};
use rekindle_base::{HostTensor, write_atomically};
use rekindle_nn::{
    host::{from_host, to_host},
    layers::AdapterSlots,
    params::{self, Mapped, NameMap, ParamRef},
};
use rekindle_weights::{self as weights, WeightFiles};
use std::{collections::BTreeMap, path::Path};

const PREFIX: &str = "base_model.model.";
const SUBSTITUTES: [(&str, &str); 2] = [
    (".adapter.lora_a", ".lora_A.weight"),
    (".adapter.lora_b", ".lora_B.weight"),
];

/// A parameter's name in the adapter's file.
fn on_disk(published: &str) -> String {
    let mut name = format!("{PREFIX}{published}");
    for (ours, theirs) in SUBSTITUTES {
        if let Some(stem) = name.strip_suffix(ours) {
            name = format!("{stem}{theirs}");
        }
    }
    name
}

/// Writes the adapter that [`inject`] put in, after training.
///
/// # Errors
/// When a file cannot be written.
pub fn save<B: Backend, M: Module<B>>(
    model: &M,
    config: &LoraConfig,
    names: NameMap,
    dir: &Path,
) -> Result<(), PeftError> {
    let io = |source| PeftError::Io {
        path: dir.to_owned(),
        source,
    };
    std::fs::create_dir_all(dir).map_err(io)?;
    let mut state = Vec::new();
    params::visit(model, &mut |param: ParamRef<'_, B>| {
        let published = names.published(param.path);
        if is_saved(&published, config) {
            state.push(to_host::<B>(param.value).map(|tensor| (on_disk(&published), tensor)));
        }
    });
    let state = state.into_iter().collect::<Result<Vec<_>, _>>()?;
    weights::write(
        &dir.join("adapter_model.safetensors"),
        state.iter().map(|(n, t)| (n.as_str(), t)),
        &[],
    )?;
    let text = format!("{:#}\n", config.to_json());
    write_atomically(&dir.join("adapter_config.json"), text.as_bytes()).map_err(io)
}

/// Reads an adapter directory's configuration.
///
/// # Errors
/// When it is missing or not a LoRA configuration.
pub fn read_config(dir: &Path) -> Result<LoraConfig, PeftError> {
    let path = dir.join("adapter_config.json");
    let text = std::fs::read_to_string(&path).map_err(|source| PeftError::Io {
        path: path.clone(),
        source,
    })?;
    let json = serde_json::from_str(&text).map_err(|e| PeftError::Config {
        path: path.clone(),
        reason: format!("not valid JSON: {e}"),
    })?;
    LoraConfig::from_json(&json).map_err(|reason| PeftError::Config { path, reason })
}

/// Puts a saved adapter into a model: PEFT's own, or one that [`save`] wrote. `heads` are modules that the file may hold
/// whole although the configuration does not name them (PEFT saves `classifier` or `score` of a SEQ_CLS model by itself).
///
/// # Errors
/// On a missing or left-over tensor, or a wrong shape.
pub fn load<B: Backend, M: Module<B> + AdapterSlots<B>>(
    model: M,
    dir: &Path,
    heads: &[&str],
    names: NameMap,
    device: &B::Device,
) -> Result<(M, LoraConfig), PeftError> {
    let mut config = read_config(dir)?;
    let path = dir.join("adapter_model.safetensors");
    let files = WeightFiles::open(&path)?;
    // PEFT lists `score` for every SEQ_CLS model, whichever head it has; what counts is what the file holds.
    config.modules_to_save.retain(|module| {
        files
            .names()
            .any(|name| name.contains(&format!(".{module}.")))
    });
    for head in heads {
        if files
            .names()
            .any(|n| n.starts_with(&format!("{PREFIX}{head}.")))
            && !config.modules_to_save.iter().any(|m| m == head)
        {
            config.modules_to_save.push((*head).to_owned());
        }
    }
    let mismatch = |reason: String| PeftError::Mismatch {
        path: path.clone(),
        reason,
    };
    let (model, _) = inject(model, &config, names, 0, device)?;
    let mut values: BTreeMap<String, HostTensor> = BTreeMap::new();
    let mut fail: Option<PeftError> = None;
    params::visit(&model, &mut |param: ParamRef<'_, B>| {
        let published = names.published(param.path);
        if fail.is_some() || !is_saved(&published, &config) {
            return;
        }
        let name = on_disk(&published);
        match files.read(&name) {
            Ok(Some(value)) if value.shape == param.shape.as_slice() => {
                drop(values.insert(name, value))
            }
            Ok(Some(value)) => {
                let expected = param.shape.as_slice();
                fail = Some(mismatch(format!(
                    "tensor `{name}` has shape {:?}, expected {expected:?}",
                    value.shape
                )));
            }
            Ok(None) => fail = Some(mismatch(format!("tensor `{name}` is missing"))),
            Err(error) => fail = Some(error.into()),
        }
    });
    if let Some(error) = fail {
        return Err(error);
    }
    if let Some(name) = files.names().find(|name| !values.contains_key(*name)) {
        return Err(mismatch(format!(
            "tensor `{name}` has no place in this model"
        )));
    }
    let model = params::map(model, &mut |param| {
        let value = match values.remove(&on_disk(&names.published(param.path))) {
            Some(host) => from_host::<B>(host, device),
            None => param.value,
        };
        Mapped {
            value,
            trainable: param.trainable,
        }
    });
    Ok((model, config))
}
