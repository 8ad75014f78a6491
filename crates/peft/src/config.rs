//! `adapter_config.json` of a LoRA adapter, as PEFT reads and writes it.

use crate::PeftError;
use serde_json::{Value, json};

/// Which layers get an adapter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TargetModules {
    /// A layer whose path is one of these or ends in `.` and one of these.
    Suffixes(Vec<String>),
    /// A layer whose whole path matches.
    Regex(String),
    /// Every linear layer but those in `modules_to_save` (the head).
    AllLinear,
}

/// As people read it: `all-linear`, names with commas between them, or the expression.
impl std::fmt::Display for TargetModules {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::AllLinear => f.write_str("all-linear"),
            Self::Suffixes(names) => f.write_str(&names.join(", ")),
            Self::Regex(pattern) => f.write_str(pattern),
        }
    }
}

/// A LoRA adapter's settings, by PEFT's names.
#[derive(Debug, Clone, PartialEq)]
pub struct LoraConfig {
    /// Rank, at least 1.
    pub r: usize,
    /// The side path's scale is `lora_alpha / r`.
    pub lora_alpha: f64,
    /// Dropout on the side path's input, in [0, 1).
    pub lora_dropout: f64,
    /// Scale by `lora_alpha / sqrt r` instead (rank-stabilised LoRA).
    pub use_rslora: bool,
    /// Which layers.
    pub target_modules: TargetModules,
    /// Only layers of these indices (the last number in a layer's path).
    pub layers_to_transform: Option<Vec<usize>>,
    /// Modules trained and saved whole, by suffix.
    pub modules_to_save: Vec<String>,
    /// Whether the embeddings are among `modules_to_save` and the map to the vocabulary is the same table: PEFT stores it twice
    /// and ties the two again.
    pub ensure_weight_tying: bool,
    /// The base model, for Python to find it.
    pub base_model_name_or_path: Option<String>,
    /// PEFT's task type, for example `SEQ_CLS`.
    pub task_type: Option<String>,
}

impl Default for LoraConfig {
    fn default() -> Self {
        Self {
            r: 8,
            lora_alpha: 16.0,
            lora_dropout: 0.0,
            use_rslora: false,
            target_modules: TargetModules::Suffixes(vec!["query".into(), "value".into()]),
            layers_to_transform: None,
            modules_to_save: Vec::new(),
            ensure_weight_tying: false,
            base_model_name_or_path: None,
            task_type: None,
        }
    }
}

impl LoraConfig {
    /// The side path's scale.
    #[must_use]
    pub fn scale(&self) -> f64 {
        let r = self.r as f64;
        self.lora_alpha / if self.use_rslora { r.sqrt() } else { r }
    }

    /// Checks ranges.
    ///
    /// # Errors
    /// Names the setting outside its range.
    pub fn validate(&self) -> Result<(), PeftError> {
        let setting = |key, found: String, expected| {
            Err(PeftError::Setting {
                key,
                found,
                expected,
            })
        };
        if self.r == 0 {
            return setting("r", "0".into(), "a rank of at least 1");
        }
        if !(self.lora_alpha > 0.0 && self.lora_alpha.is_finite()) {
            return setting(
                "lora_alpha",
                self.lora_alpha.to_string(),
                "a number above 0",
            );
        }
        if !(0.0..1.0).contains(&self.lora_dropout) {
            return setting(
                "lora_dropout",
                self.lora_dropout.to_string(),
                "a rate of at least 0 and below 1",
            );
        }
        Ok(())
    }

    /// The file's content.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let targets = match &self.target_modules {
            TargetModules::Suffixes(list) => json!(list),
            TargetModules::Regex(pattern) => json!(pattern),
            TargetModules::AllLinear => json!("all-linear"),
        };
        // Whole numbers as PEFT writes them.
        let alpha = if self.lora_alpha.fract() == 0.0 {
            json!(self.lora_alpha as i64)
        } else {
            json!(self.lora_alpha)
        };
        // Keys sorted, as PEFT writes them.
        json!({
            "alpha_pattern": {},
            "base_model_name_or_path": self.base_model_name_or_path,
            "bias": "none",
            "ensure_weight_tying": self.ensure_weight_tying,
            "exclude_modules": null,
            "fan_in_fan_out": false,
            "inference_mode": true,
            "init_lora_weights": true,
            "layers_pattern": null,
            "layers_to_transform": self.layers_to_transform,
            "lora_alpha": alpha,
            "lora_dropout": self.lora_dropout,
            "modules_to_save": if self.modules_to_save.is_empty() { Value::Null } else { json!(self.modules_to_save) },
            "peft_type": "LORA",
            "r": self.r,
            "rank_pattern": {},
            "revision": null,
            "target_modules": targets,
            "task_type": self.task_type,
            "use_dora": false,
            "use_rslora": self.use_rslora,
        })
    }

    /// Reads the file's content; keys that change the computation and are not supported here are errors, by name.
    ///
    /// # Errors
    /// The reason, for [`PeftError::Config`].
    pub fn from_json(json: &Value) -> Result<Self, String> {
        let peft_type = json["peft_type"].as_str().unwrap_or("(none)");
        if !peft_type.eq_ignore_ascii_case("lora") {
            return Err(format!("peft_type is `{peft_type}`, expected `LORA`"));
        }
        // `fan_in_fan_out` says how the base stores its weights; A and B are the same either way.
        for (key, plain) in [
            ("use_dora", json!(false)),
            ("bias", json!("none")),
            ("rank_pattern", json!({})),
            ("alpha_pattern", json!({})),
        ] {
            let found = &json[key];
            if !found.is_null() && *found != plain {
                return Err(format!(
                    "`{key}` is {found}; this reader knows {plain} only"
                ));
            }
        }
        check_rest(json)?;
        let strings = |value: &Value| -> Option<Vec<String>> {
            value
                .as_array()?
                .iter()
                .map(|v| v.as_str().map(str::to_owned))
                .collect()
        };
        let target_modules = match &json["target_modules"] {
            Value::String(all) if all == "all-linear" => TargetModules::AllLinear,
            Value::String(pattern) => TargetModules::Regex(pattern.clone()),
            list => TargetModules::Suffixes(strings(list).ok_or_else(|| {
                format!("`target_modules` is {list}, expected a list of names or a pattern")
            })?),
        };
        let r = json["r"]
            .as_u64()
            .ok_or_else(|| format!("`r` is {}, expected a positive integer", json["r"]))?
            as usize;
        let layers_to_transform = match &json["layers_to_transform"] {
            Value::Null => None,
            Value::Number(one) if one.is_u64() => one.as_u64().map(|i| vec![i as usize]),
            list => Some(
                list.as_array()
                    .and_then(|l| l.iter().map(|v| v.as_u64().map(|i| i as usize)).collect())
                    .ok_or_else(|| {
                        format!("`layers_to_transform` is {list}, expected a list of layer numbers")
                    })?,
            ),
        };
        let config = Self {
            r,
            lora_alpha: number(json, "lora_alpha", 8.0)?,
            lora_dropout: number(json, "lora_dropout", 0.0)?,
            use_rslora: flag(json, "use_rslora")?,
            target_modules,
            layers_to_transform,
            modules_to_save: match &json["modules_to_save"] {
                Value::Null => Vec::new(),
                list => strings(list).ok_or_else(|| {
                    format!("`modules_to_save` is {list}, expected a list of names")
                })?,
            },
            ensure_weight_tying: flag(json, "ensure_weight_tying")?,
            base_model_name_or_path: json["base_model_name_or_path"].as_str().map(str::to_owned),
            task_type: json["task_type"].as_str().map(str::to_owned),
        };
        config.validate().map_err(|e| e.to_string())?;
        Ok(config)
    }
}

/// A number, or what PEFT takes where the key is missing.
fn number(json: &Value, key: &str, missing: f64) -> Result<f64, String> {
    match json.get(key) {
        None => Ok(missing),
        Some(found) => found
            .as_f64()
            .ok_or_else(|| format!("`{key}` is {found}, expected a number")),
    }
}

/// True or false; false where the key is missing or null.
fn flag(json: &Value, key: &str) -> Result<bool, String> {
    match &json[key] {
        Value::Null => Ok(false),
        found => found
            .as_bool()
            .ok_or_else(|| format!("`{key}` is {found}, expected true or false")),
    }
}

/// Keys that say nothing of what an adapter computes, beside those that are read.
const HARMLESS: [&str; 15] = [
    "arrow_config",
    "auto_mapping",
    "corda_config",
    "eva_config",
    "fan_in_fan_out",
    "inference_mode",
    "layers_pattern",
    "loftq_config",
    "lora_ga_config",
    "megatron_config",
    "megatron_core",
    "peft_version",
    "qalora_group_size",
    "revision",
    "runtime_config",
];

/// Keys that are read.
const READ: [&str; 15] = [
    "alpha_pattern",
    "base_model_name_or_path",
    "bias",
    "ensure_weight_tying",
    "init_lora_weights",
    "layers_to_transform",
    "lora_alpha",
    "lora_dropout",
    "modules_to_save",
    "peft_type",
    "r",
    "rank_pattern",
    "target_modules",
    "task_type",
    "use_rslora",
];

/// Refuses settings that are not known: what they would compute is not known either.
fn check_rest(json: &Value) -> Result<(), String> {
    match &json["init_lora_weights"] {
        Value::Null | Value::Bool(_) => {}
        Value::String(kind)
            if ["default", "eva", "gaussian", "orthogonal"].contains(&kind.as_str()) => {}
        // PiSSA, OLoRA, LoftQ, CorDA and the like take a part out of the base's weights.
        other => {
            return Err(format!(
                "`init_lora_weights` is {other}: the adapter belongs to weights that its base was changed to; PEFT's save_pretrained(..., path_initial_model_for_weight_conversion=...) makes a plain one of it"
            ));
        }
    }
    let unset = |value: &Value| match value {
        Value::Null | Value::Bool(false) => true,
        Value::Array(list) => list.is_empty(),
        Value::Object(map) => map.is_empty(),
        _ => false,
    };
    let keys = json.as_object().into_iter().flatten();
    let unknown = keys.into_iter().find(|(key, value)| {
        let known = HARMLESS.contains(&key.as_str()) || READ.contains(&key.as_str());
        !known && !unset(value)
    });
    match unknown {
        Some((key, value)) => Err(format!(
            "`{key}` is {value}, which this reader does not know"
        )),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn settings_that_change_what_is_computed_are_refused_by_name() {
        let with = |key: &str, value: Value| {
            let mut json = LoraConfig::default().to_json();
            json[key] = value;
            LoraConfig::from_json(&json)
        };
        for (key, value) in [
            ("lora_alpha", json!("32")),
            ("lora_alpha", json!([8])),
            ("lora_alpha", Value::Null),
            ("lora_dropout", json!("0")),
            ("use_rslora", json!("true")),
            ("use_rslora", json!(1)),
            ("modules_to_save", json!("classifier")),
            ("layers_to_transform", json!(1.5)),
            ("init_lora_weights", json!("pissa")),
            ("init_lora_weights", json!("olora")),
            ("lora_bias", json!(true)),
            ("exclude_modules", json!(["key"])),
            ("trainable_token_indices", json!([1])),
            ("made_up_next_year", json!(3)),
        ] {
            let said = with(key, value).unwrap_err();
            assert!(said.contains(&format!("`{key}`")), "{said}");
        }
        for (key, value) in [
            ("init_lora_weights", json!("gaussian")),
            ("lora_bias", json!(false)),
            ("exclude_modules", Value::Null),
            ("peft_version", json!("0.99")),
        ] {
            with(key, value).unwrap();
        }
    }
}
