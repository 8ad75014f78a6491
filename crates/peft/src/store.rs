//! Adapter directories in PEFT's format: `adapter_config.json` and `adapter_model.safetensors`.

use crate::{LoraConfig, PeftError, inject, lora::is_saved};
use burn::{module::Module, tensor::backend::Backend};
use rekindle_base::{HostTensor, write_atomically};
use rekindle_nn::{
    host::{from_host, to_host},
    layers::{AdapterSlots, Slot},
    params::{self, NameMap, ParamRef},
};
use rekindle_weights::{self as weights, ToWrite, WeightFiles};
use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

const PREFIX: &str = "base_model.model.";
const SUBSTITUTES: [(&str, &str); 2] = [
    (".adapter.lora_a", ".lora_A.weight"),
    (".adapter.lora_b", ".lora_B.weight"),
];

/// The map to the vocabulary, where it is the table of embeddings and stored with it.
const TIED_HEAD: &str = "base_model.model.lm_head.weight";

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

/// Whether a tensor of an adapter's file is a table of embeddings, as the families for language models call it.
fn is_table(name: &str) -> bool {
    [".embed_tokens.weight", ".wte.weight"]
        .iter()
        .any(|end| name.ends_with(end))
}

/// Rows of the table of embeddings that an adapter directory holds, which may be more than the base model has: tokens were
/// added. `None` where it holds none.
///
/// # Errors
/// When the file of tensors cannot be read.
pub fn stored_vocabulary(dir: &Path) -> Result<Option<usize>, PeftError> {
    let files = WeightFiles::open(&dir.join("adapter_model.safetensors"))?;
    let table = files.names().find(|name| is_table(name));
    Ok(table.and_then(|name| files.shape(name)?.first().copied()))
}

/// The layers, by published path, that files hold as convolutions of 1 x 1, and so their adapters.
fn pointwise<B: Backend, M: AdapterSlots<B>>(model: &mut M, names: NameMap) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    model.visit_slots("", &mut |path, slot| {
        if let Slot::Pointwise(_) = slot {
            found.insert(names.published(path));
        }
    });
    found
}

/// The shape in files of a parameter of this published path.
fn shape_on_disk(published: &str, shape: &[usize], pointwise: &BTreeSet<String>) -> Vec<usize> {
    let layer = published.split_once(".adapter.lora_");
    let mut shape = shape.to_vec();
    if layer.is_some_and(|(layer, _)| pointwise.contains(layer)) {
        shape.extend([1, 1]);
    }
    shape
}

/// Writes the adapter that [`inject`] put in, after training.
///
/// # Errors
/// When a file cannot be written.
pub fn save<B: Backend, M: Module<B> + AdapterSlots<B>>(
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
    let pointwise = pointwise(&mut model.clone(), names);
    let mut state = Vec::new();
    params::visit(model, &mut |param: ParamRef<'_, B>| {
        let published = names.published(param.path);
        if is_saved(&published, config) {
            let shape = shape_on_disk(&published, param.shape.as_slice(), &pointwise);
            let (value, of_file) = (param.value, shape.clone());
            let tensor = ToWrite::new(shape, move || {
                to_host::<B>(value.clone()).map(|host| HostTensor {
                    shape: of_file.clone(),
                    ..host
                })
            });
            state.push((on_disk(&published), tensor));
        }
    });
    // The embeddings are the one module that is no layer of a block.
    let table = state.iter().find(|(name, _)| is_table(name));
    let again = table.filter(|_| config.ensure_weight_tying);
    let again = again.map(|(_, table)| (TIED_HEAD.to_owned(), table.clone()));
    state.extend(again);
    weights::write(&dir.join("adapter_model.safetensors"), state, &[])?;
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
    check_rank(&files, &config).map_err(mismatch)?;
    let (mut model, _) = inject(model, &config, names, 0, device)?;
    let pointwise = pointwise(&mut model, names);
    let mut wanted = BTreeMap::new();
    for (path, shape) in params::shapes(&model) {
        let published = names.published(&path);
        if !is_saved(&published, &config) {
            continue;
        }
        let name = on_disk(&published);
        let expected = shape_on_disk(&published, shape.as_slice(), &pointwise);
        match files.shape(&name) {
            Some(found) if found == expected => {
                wanted.insert(name, shape.as_slice().to_vec());
            }
            Some(found) => {
                return Err(mismatch(format!(
                    "tensor `{name}` has shape {found:?}, expected {expected:?}"
                )));
            }
            None => return Err(mismatch(format!("tensor `{name}` is missing"))),
        }
    }
    // Where embeddings were resized, PEFT writes them, and a head that is tied to them, under other names too.
    let again = |name: &str| {
        name.contains(".modules_to_save.")
            || name.contains(".original_module.")
            || config.ensure_weight_tying && name == TIED_HEAD
    };
    let mut names_of_file = files.names().filter(|name| !again(name));
    if let Some(name) = names_of_file.find(|name| !wanted.contains_key(*name)) {
        return Err(mismatch(format!(
            "tensor `{name}` has no place in this model"
        )));
    }
    let mut fail = None;
    let model = params::load(model, &mut |path| {
        let name = on_disk(&names.published(path));
        let shape = wanted.get(&name).filter(|_| fail.is_none())?.clone();
        match files.read(&name) {
            Ok(host) => Some(from_host::<B>(HostTensor { shape, ..host? }, device)),
            Err(error) => {
                fail = Some(error);
                None
            }
        }
    });
    match fail {
        Some(error) => Err(error.into()),
        None => Ok((model, config)),
    }
}

/// Holds the configuration's rank against the file's tensors, before anything of that size is made.
fn check_rank(files: &WeightFiles, config: &LoraConfig) -> Result<(), String> {
    for name in files
        .names()
        .filter(|name| name.ends_with(".lora_A.weight"))
    {
        let shape = files.shape(name).unwrap_or_default();
        if shape.first() != Some(&config.r) {
            return Err(format!(
                "`r` is {} in adapter_config.json, but tensor `{name}` has shape {shape:?}",
                config.r
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use burn::backend::Flex;
    use rekindle_nn::layers::Linear;

    /// Regression: a rank of 1e18 made an adapter of that size, and the process was killed.
    #[test]
    fn a_rank_that_is_not_the_file_s_is_refused_by_name() {
        let device = Default::default();
        let folder = tempfile::tempdir().unwrap();
        let config = LoraConfig {
            r: 2,
            target_modules: crate::TargetModules::AllLinear,
            ..LoraConfig::default()
        };
        let layers = || vec![Linear::<Flex>::normal(1, 4, 3, 0.1, &device)];
        let (model, _) = inject(layers(), &config, NameMap::default(), 0, &device).unwrap();
        save(&model, &config, NameMap::default(), folder.path()).unwrap();
        let (loaded, read) =
            load(layers(), folder.path(), &[], NameMap::default(), &device).unwrap();
        assert_eq!(read, config);
        let a = |model: &Vec<Linear<Flex>>| {
            let adapter = model[0].adapter.as_ref().unwrap();
            adapter.lora_a.val().into_data().to_vec::<f32>().unwrap()
        };
        assert_eq!(a(&loaded), a(&model));

        let path = folder.path().join("adapter_config.json");
        let text = std::fs::read_to_string(&path).unwrap();
        let text = text.replace("\"r\": 2", "\"r\": 1000000000000000000");
        std::fs::write(&path, text).unwrap();
        let message = load(layers(), folder.path(), &[], NameMap::default(), &device)
            .map(|_| ())
            .unwrap_err()
            .to_string();
        let expected = "`r` is 1000000000000000000 in adapter_config.json, but tensor \
                        `base_model.model.0.lora_A.weight` has shape [2, 4]";
        assert!(message.contains(expected), "{message}");
    }
}
