//! LoRA (Hu et al. 2021): adapters into the slots of layers, and merged out of them.

use crate::{LoraConfig, PeftError, TargetModules, freeze::no_match};
use burn::{module::Module, tensor::backend::Backend};
use rekindle_base::rng;
use rekindle_nn::{
    TuneBackend,
    layers::{AdapterOf, AdapterSlots},
    params::{self, NameMap},
};

/// The layers (published paths) that a configuration means, by PEFT's rules.
///
/// # Errors
/// When a pattern matches no layer: with the nearest name.
pub fn targets(layers: &[String], config: &LoraConfig) -> Result<Vec<String>, PeftError> {
    let saved = |path: &str| {
        config
            .modules_to_save
            .iter()
            .any(|module| is_under(module, path))
    };
    let matching: Vec<&String> = match &config.target_modules {
        TargetModules::AllLinear => layers.iter().filter(|path| !saved(path)).collect(),
        TargetModules::Suffixes(suffixes) => {
            for suffix in suffixes {
                if !layers.iter().any(|path| is_suffix(suffix, path)) {
                    return Err(no_match("target_modules", suffix, "layer", layers));
                }
            }
            layers
                .iter()
                .filter(|path| suffixes.iter().any(|suffix| is_suffix(suffix, path)))
                .collect()
        }
        TargetModules::Regex(pattern) => {
            let regex =
                regex::Regex::new(&format!("^(?:{pattern})$")).map_err(|e| PeftError::Regex {
                    pattern: pattern.clone(),
                    // The parser draws the pattern on several lines; its last one says what is wrong.
                    reason: match e.to_string().lines().last() {
                        Some(line) => line.trim_start_matches("error: ").to_owned(),
                        None => "it cannot be read".to_owned(),
                    },
                })?;
            layers.iter().filter(|path| regex.is_match(path)).collect()
        }
    };
    let described = match &config.target_modules {
        TargetModules::AllLinear => "all-linear".to_owned(),
        TargetModules::Suffixes(suffixes) => suffixes.join(", "),
        TargetModules::Regex(pattern) => pattern.clone(),
    };
    if matching.is_empty() {
        return Err(no_match("target_modules", &described, "layer", layers));
    }
    let Some(indices) = &config.layers_to_transform else {
        return Ok(matching.into_iter().cloned().collect());
    };
    for index in indices {
        if !matching
            .iter()
            .any(|path| layer_index(path) == Some(*index))
        {
            let mut there: Vec<usize> = matching
                .iter()
                .filter_map(|path| layer_index(path))
                .collect();
            there.dedup();
            return Err(PeftError::NoMatch {
                key: "layers_to_transform",
                pattern: index.to_string(),
                what: "layer",
                nearest: None,
                examples: there.iter().map(ToString::to_string).collect(),
            });
        }
    }
    Ok(matching
        .into_iter()
        .filter(|path| layer_index(path).is_some_and(|i| indices.contains(&i)))
        .cloned()
        .collect())
}

/// Whether a path is the module of this suffix, or lies below it.
fn is_under(module: &str, path: &str) -> bool {
    let ends = path.match_indices('.').map(|(i, _)| i).chain([path.len()]);
    ends.into_iter().any(|end| is_suffix(module, &path[..end]))
}

fn is_suffix(suffix: &str, path: &str) -> bool {
    path == suffix
        || path
            .strip_suffix(suffix)
            .is_some_and(|rest| rest.ends_with('.'))
}

/// The last segment of a path, but not its last two names, that is a number: PEFT's `.*\.[^.]*\.(\d+)\.`.
fn layer_index(path: &str) -> Option<usize> {
    let segments: Vec<&str> = path.split('.').collect();
    (2..segments.len().saturating_sub(1))
        .rev()
        .find_map(|i| segments[i].parse().ok())
}

/// Puts fresh adapters into the layers that the configuration means and freezes everything but them and
/// `modules_to_save`. Returns the model and the layers, by published path. A fresh adapter changes nothing yet.
///
/// # Errors
/// A setting outside its range, or a pattern that matches nothing.
pub fn inject<B: Backend, M: Module<B> + AdapterSlots<B>>(
    mut model: M,
    config: &LoraConfig,
    names: NameMap,
    seed: u64,
    device: &B::Device,
) -> Result<(M, Vec<String>), PeftError> {
    config.validate()?;
    let mut layers = Vec::new();
    model.visit_slots("", &mut |path, _| layers.push(names.published(path)));
    let targets = targets(&layers, config)?;
    // A module that is saved whole need not be linear: a table of embeddings, a norm.
    let parameters = params::shapes(&model);
    let parameters = parameters
        .iter()
        .map(|(path, _)| names.published(path))
        .collect::<Vec<_>>();
    for module in &config.modules_to_save {
        if !parameters.iter().any(|path| is_under(module, path)) {
            return Err(no_match("modules_to_save", module, "layer", &layers));
        }
    }
    check_rank(&mut model, &targets, config.r, names)?;
    model.visit_slots("", &mut |path, layer| {
        let path = names.published(path);
        if targets.contains(&path) {
            let of = AdapterOf {
                key: rng::named(seed, &path),
                rank: config.r,
                scale: config.scale(),
                dropout: config.lora_dropout,
            };
            layer.adapt(of, device);
        }
    });
    let model = params::set_trainable(model, &mut |path| is_saved(&names.published(path), config));
    Ok((model, targets))
}

/// Refuses a rank far beyond every layer, before anything of its size is made. A rank somewhat beyond a small layer is
/// wasteful but no mistake: PEFT allows it.
fn check_rank<B: Backend, M: AdapterSlots<B>>(
    model: &mut M,
    targets: &[String],
    r: usize,
    names: NameMap,
) -> Result<(), PeftError> {
    const BEYOND: usize = 8;
    let mut largest = (0, 0);
    model.visit_slots("", &mut |path, layer| {
        let (inputs, outputs) = layer.dims();
        if targets.contains(&names.published(path))
            && inputs.max(outputs) > largest.0.max(largest.1)
        {
            largest = (inputs, outputs);
        }
    });
    let (inputs, outputs) = largest;
    match r <= BEYOND * inputs.max(outputs) {
        true => Ok(()),
        false => Err(PeftError::Rank { r, inputs, outputs }),
    }
}

/// Whether a parameter (by published path) is saved with the adapter: the adapters', and those of modules saved whole.
#[must_use]
pub fn is_saved(path: &str, config: &LoraConfig) -> bool {
    path.contains(".adapter.lora_")
        || path.starts_with("adapter.lora_")
        || config
            .modules_to_save
            .iter()
            .any(|module| is_under(module, path))
}

/// Adds every adapter to its layer's weight and empties the slot. The model computes what it did, up to rounding.
#[must_use]
pub fn merge<B: TuneBackend, M: Module<B> + AdapterSlots<B>>(mut model: M) -> M {
    model.visit_slots("", &mut |_, layer| layer.merge());
    model
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn layers() -> Vec<String> {
        let mut layers = Vec::new();
        for i in 0..3 {
            for name in [
                "attention.self.query",
                "attention.self.key",
                "attention.self.value",
                "output.dense",
            ] {
                layers.push(format!("bert.encoder.layer.{i}.{name}"));
            }
        }
        layers.push("classifier".into());
        layers
    }

    #[test]
    fn targets_by_suffix_regex_and_all() {
        let base = LoraConfig {
            modules_to_save: vec!["classifier".into()],
            ..LoraConfig::default()
        };
        assert_eq!(targets(&layers(), &base).unwrap().len(), 6);
        let regex = LoraConfig {
            target_modules: TargetModules::Regex(r".*\.[02]\..*query".into()),
            ..base.clone()
        };
        assert_eq!(
            targets(&layers(), &regex).unwrap(),
            [
                "bert.encoder.layer.0.attention.self.query",
                "bert.encoder.layer.2.attention.self.query"
            ]
        );
        let all = LoraConfig {
            target_modules: TargetModules::AllLinear,
            ..base.clone()
        };
        assert_eq!(targets(&layers(), &all).unwrap().len(), 12);
        let some = LoraConfig {
            layers_to_transform: Some(vec![1]),
            ..base
        };
        assert_eq!(
            targets(&layers(), &some).unwrap(),
            [
                "bert.encoder.layer.1.attention.self.query",
                "bert.encoder.layer.1.attention.self.value"
            ]
        );
    }

    #[test]
    fn a_pattern_without_a_match_is_an_error_with_the_nearest_name() {
        let config = LoraConfig {
            target_modules: TargetModules::Suffixes(vec!["qeury".into()]),
            ..LoraConfig::default()
        };
        let message = targets(&layers(), &config).unwrap_err().to_string();
        assert!(
            message.contains("`qeury` matches no layer of this model; did you mean `query`?"),
            "{message}"
        );
    }
}
