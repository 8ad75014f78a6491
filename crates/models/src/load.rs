//! From a model directory to parameters, accounting for every tensor both ways.

use crate::ModelError;
use burn::{module::Module, tensor::backend::Backend};
use rekindle_base::HostTensor;
use rekindle_nn::{
    host::from_host,
    params::{self, Mapped, NameMap},
};
use rekindle_weights::WeightFiles;
use serde::Serialize;
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

/// A model directory's `config.json` as it stands.
///
/// # Errors
/// When the file is missing, or is no JSON object.
pub fn read_config(dir: &Path) -> Result<serde_json::Map<String, serde_json::Value>, ModelError> {
    let path = dir.join("config.json");
    let text = std::fs::read_to_string(&path).map_err(|source| ModelError::Io {
        path: path.clone(),
        source,
    })?;
    match serde_json::from_str(&text) {
        Ok(serde_json::Value::Object(map)) => Ok(map),
        Ok(_) => Err(ModelError::Config {
            path,
            reason: "expected a JSON object".into(),
        }),
        Err(e) => Err(ModelError::Config {
            path,
            reason: format!("not valid JSON: {e}"),
        }),
    }
}

/// The weights of a model directory, opened but not yet read.
pub struct Checkpoint {
    files: WeightFiles,
    path: PathBuf,
}

/// What a model says of a checkpoint's tensor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rule {
    /// It is the parameter of this published name.
    Load(String),
    /// It is known and not needed, for this reason.
    Ignore(&'static str),
}

/// How a model reads its checkpoints.
pub struct Weights<'a> {
    /// Fields to published names.
    pub names: NameMap,
    /// What each tensor of the checkpoint is.
    pub rule: &'a dyn Fn(&str) -> Rule,
    /// The reason why a parameter (by published name) may be newly initialised, or `None` if it must be there.
    pub may_initialise: &'a dyn Fn(&str) -> Option<String>,
    /// Whether a tensor of another shape than the parameter is passed over (a head for other labels), with the reason.
    pub may_replace: &'a dyn Fn(&str) -> Option<String>,
}

/// What became of every tensor and every parameter.
#[derive(Debug, Clone, Default, Serialize)]
pub struct LoadReport {
    /// Parameters loaded, by published name.
    pub loaded: Vec<String>,
    /// Parameters newly initialised, with the reason.
    pub initialised: Vec<(String, String)>,
    /// Tensors of the checkpoint not used, with the reason.
    pub ignored: Vec<(String, String)>,
}

impl LoadReport {
    /// One line for a person: how many loaded, which are new.
    #[must_use]
    pub fn summary(&self) -> String {
        let mut text = format!("{} tensors loaded", self.loaded.len());
        if !self.initialised.is_empty() {
            let names: Vec<&str> = self
                .initialised
                .iter()
                .map(|(name, _)| name.as_str())
                .collect();
            text.push_str(&format!("; newly initialised: {}", names.join(", ")));
        }
        if !self.ignored.is_empty() {
            const NAMED: usize = 3;
            let names: Vec<&str> = self.ignored.iter().map(|(name, _)| name.as_str()).collect();
            let more = match names.len().saturating_sub(NAMED) {
                0 => String::new(),
                more => format!(" and {more} more"),
            };
            let named = names[..names.len().min(NAMED)].join(", ");
            text.push_str(&format!("; not needed: {named}{more}"));
        }
        text
    }
}

impl Checkpoint {
    /// Finds and opens the weights of a model directory, see [`WeightFiles::find`].
    ///
    /// # Errors
    /// When there are none, or the file is broken.
    pub fn open(dir: &Path) -> Result<Self, ModelError> {
        let files = WeightFiles::find(dir)?;
        let path = files.path().to_owned();
        Ok(Self { files, path })
    }

    /// The tensors.
    #[must_use]
    pub fn files(&self) -> &WeightFiles {
        &self.files
    }

    /// Fills a module's parameters. Parameters that are newly initialised keep the values the module came with.
    ///
    /// # Errors
    /// On a missing or unexpected tensor, a wrong shape, a type we cannot use, values that are not finite.
    pub fn load_into<B: Backend, M: Module<B>>(
        &self,
        module: M,
        weights: &Weights<'_>,
        device: &B::Device,
    ) -> Result<(M, LoadReport), ModelError> {
        let mut report = LoadReport::default();
        let mut wanted = BTreeMap::new();
        for tensor in self.files.names() {
            match (weights.rule)(tensor) {
                Rule::Load(name) => drop(wanted.insert(name, tensor.to_owned())),
                Rule::Ignore(reason) => report.ignored.push((tensor.to_owned(), reason.to_owned())),
            }
        }
        for (entry, what) in self.files.ignored() {
            let reason = format!("not a tensor but {what}");
            report.ignored.push((entry.clone(), reason));
        }

        let mut missing = Vec::new();
        let mut fail = None;
        let mut values: BTreeMap<String, HostTensor> = BTreeMap::new();
        params::visit(&module, &mut |param| {
            if fail.is_some() {
                return;
            }
            let name = weights.names.published(param.path);
            match self.find(
                &name,
                param.shape.as_slice(),
                wanted.remove(&name),
                weights,
                &mut report,
            ) {
                Ok(Found::Value(value)) => drop(values.insert(name, value)),
                Ok(Found::New) => {}
                Ok(Found::Missing) => missing.push(name),
                Err(error) => fail = Some(error),
            }
        });
        if let Some(error) = fail {
            return Err(error);
        }
        if !missing.is_empty() {
            return Err(ModelError::Missing {
                path: self.path.clone(),
                names: missing,
            });
        }
        if !wanted.is_empty() {
            return Err(ModelError::Unexpected {
                path: self.path.clone(),
                names: wanted.into_values().collect(),
            });
        }
        let module = params::map(module, &mut |param| {
            let value = match values.remove(&weights.names.published(param.path)) {
                Some(host) => from_host::<B>(host, device),
                None => param.value,
            };
            Mapped {
                value,
                trainable: param.trainable,
            }
        });
        Ok((module, report))
    }

    /// What the checkpoint holds for one parameter.
    fn find(
        &self,
        name: &str,
        expected: &[usize],
        tensor: Option<String>,
        weights: &Weights<'_>,
        report: &mut LoadReport,
    ) -> Result<Found, ModelError> {
        let Some(tensor) = tensor else {
            return Ok(match (weights.may_initialise)(name) {
                Some(reason) => {
                    report.initialised.push((name.to_owned(), reason));
                    Found::New
                }
                None => Found::Missing,
            });
        };
        if let Some(reason) = (weights.may_replace)(name) {
            report.initialised.push((name.to_owned(), reason));
            return Ok(Found::New);
        }
        let path = || self.files.file_of(&tensor).unwrap_or(&self.path).to_owned();
        let Some(value) = self.files.read(&tensor)? else {
            return Ok(Found::Missing);
        };
        if value.shape != expected {
            return Err(ModelError::Shape {
                path: path(),
                tensor: tensor.clone(),
                expected: expected.to_vec(),
                found: value.shape,
            });
        }
        report.loaded.push(name.to_owned());
        Ok(Found::Value(value))
    }
}

enum Found {
    Value(HostTensor),
    New,
    Missing,
}
