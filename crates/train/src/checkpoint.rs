//! Checkpoints: what a run needs to go on as if it had never stopped. Written aside, fsynced, renamed: complete or absent.
//!
//! `checkpoints/step-00000400/`: `trainable.safetensors` (what training changed), `optimizer.safetensors` (its moments),
//! `average.safetensors` (where an average of the weights is kept), `state.json`. Frozen parameters are not repeated: they are the base model's.

use crate::{Average, Optimizer, RunDir, TrainConfig, TrainError};
use burn::{module::Module, tensor::backend::Backend};
use rekindle_base::{HostTensor, write_atomically};
use rekindle_nn::{
    TuneAutodiff,
    host::{ReadError, from_host, to_host},
    params::{self, Mapped, NameMap, ParamRef},
};
use rekindle_weights::{self as weights, WeightFiles};
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    fs::{self, File},
    path::{Path, PathBuf},
};

/// Where a run stands; with the trainable parameters and the optimizer's moments, all there is to it.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct TrainState {
    /// Optimizer steps done.
    pub step: u64,
    /// Forward passes done, which number the dropout masks.
    pub passes: u64,
    /// The current epoch, from 0.
    pub epoch: u64,
    /// Micro-batches of it done.
    pub batch: usize,
    /// Steps in all, as planned at the start.
    pub total_steps: u64,
    /// The best evaluation so far: its step and value.
    pub best: Option<(u64, f64)>,
    /// Evaluations since the best one.
    pub without_improvement: u32,
    /// The step of the newest evaluation.
    pub evaluated_at: Option<u64>,
    /// What must be the same for the run to go on: a digest of configuration, data and model.
    pub fingerprint: String,
}

/// A checkpoint on disk.
#[derive(Debug, Clone)]
pub struct Checkpoint {
    /// Its directory.
    pub path: PathBuf,
    /// Where the run stood.
    pub state: TrainState,
}

impl Checkpoint {
    /// The newest complete checkpoint of a run.
    ///
    /// # Errors
    /// When there is none, or the folder cannot be read.
    pub fn latest(run: &RunDir) -> Result<Self, TrainError> {
        let folder = run.checkpoints();
        steps(&folder)?
            .into_iter()
            .rev()
            .find_map(|path| Self::read(&path).ok())
            .ok_or_else(|| TrainError::Checkpoint {
                path: folder,
                reason: "the run has no complete checkpoint to resume from".into(),
                hint: "start it again in a new directory",
            })
    }

    /// Reads a checkpoint's state.
    ///
    /// # Errors
    /// When it is incomplete.
    pub fn read(path: &Path) -> Result<Self, TrainError> {
        let file = path.join("state.json");
        let text = fs::read_to_string(&file).map_err(TrainError::io(&file))?;
        let state = serde_json::from_str(&text).map_err(|e| TrainError::Checkpoint {
            path: file,
            reason: format!("not a checkpoint's state: {e}"),
            hint: "delete this checkpoint's folder; the run then resumes from the one before",
        })?;
        Ok(Self {
            path: path.to_owned(),
            state,
        })
    }

    /// Checks that the run still is what it was started as.
    ///
    /// # Errors
    /// When configuration, data or base model have changed since.
    pub fn belongs_to(&self, config: &TrainConfig) -> Result<(), TrainError> {
        if self.state.fingerprint == config.fingerprint {
            return Ok(());
        }
        Err(TrainError::Checkpoint {
            path: self.path.clone(),
            reason: "configuration, data or base model are not what this run was started with"
                .into(),
            hint: "restore them, or start a new run",
        })
    }

    /// Writes a checkpoint, points `best` to it if it is the best, and deletes old ones but the newest `keep` and the best.
    #[allow(clippy::too_many_arguments)] // each is one part of what is kept
    pub(crate) fn write<B: TuneAutodiff, M: Module<B>>(
        run: &RunDir,
        state: &TrainState,
        model: &M,
        optimizer: &Optimizer<B>,
        average: Option<&Average<B>>,
        will_train: &dyn Fn(&str) -> bool,
        names: NameMap,
        keep: usize,
    ) -> Result<Self, TrainError> {
        let folder = run.checkpoints();
        fs::create_dir_all(&folder).map_err(TrainError::io(&folder))?;
        let path = folder.join(format!("step-{:08}", state.step));
        let aside = folder.join(format!(".writing-{:08}", state.step));
        if aside.exists() {
            fs::remove_dir_all(&aside).map_err(TrainError::io(&aside))?;
        }
        let written = fs::create_dir_all(&aside)
            .map_err(TrainError::io(&aside))
            .and_then(|()| {
                let write = |name: &str, tensors: Vec<(String, HostTensor)>| {
                    weights::write(
                        &aside.join(name),
                        tensors.iter().map(|(n, t)| (n.as_str(), t)),
                        &[],
                    )
                };
                write(
                    "trainable.safetensors",
                    trainable(model, will_train, names)?,
                )?;
                if let Some(average) = average {
                    write(AVERAGE, average.state()?)?;
                }
                write("optimizer.safetensors", optimizer.state()?)?;
                let json = serde_json::to_string_pretty(state)
                    .map_err(|e| TrainError::io(&aside)(e.into()))?;
                write_atomically(&aside.join("state.json"), json.as_bytes())
                    .map_err(TrainError::io(&aside))?;
                if path.exists() {
                    fs::remove_dir_all(&path).map_err(TrainError::io(&path))?;
                }
                sync(&aside);
                fs::rename(&aside, &path).map_err(TrainError::io(&path))
            });
        if let Err(error) = written {
            // Give back the room that the half-written checkpoint takes.
            let _ = fs::remove_dir_all(&aside);
            return Err(error);
        }
        sync(&folder);
        if state.best.is_some_and(|(step, _)| step == state.step) {
            link_best(run, &path)?;
        }
        prune(&folder, keep, state.best.map(|(step, _)| step))?;
        Ok(Self {
            path,
            state: state.clone(),
        })
    }

    /// Puts the checkpoint's parameters and moments into a model and an optimizer.
    ///
    /// # Errors
    /// When they do not fit.
    pub fn load<B: TuneAutodiff, M: Module<B>>(
        &self,
        model: M,
        optimizer: &mut Optimizer<B>,
        names: NameMap,
        device: &B::Device,
    ) -> Result<M, TrainError> {
        let model = restore(model, &self.path, names, device)?;
        let state = read_all(&self.path.join("optimizer.safetensors"))?;
        optimizer.load_state(self.state.step, state, device);
        Ok(model)
    }

    /// The average of the weights that the checkpoint keeps.
    pub(crate) fn average<B: TuneAutodiff>(
        &self,
        decay: f64,
        device: &B::Device,
    ) -> Result<Average<B>, TrainError> {
        let values = read_all(&self.path.join(AVERAGE))?;
        Ok(Average::from_state(decay, values, device))
    }
}

/// The parameters that train or will, and the buffers, by published name.
fn trainable<B: Backend, M: Module<B>>(
    model: &M,
    will_train: &dyn Fn(&str) -> bool,
    names: NameMap,
) -> Result<Vec<(String, HostTensor)>, ReadError> {
    let mut tensors = Vec::new();
    params::visit(model, &mut |param: ParamRef<'_, B>| {
        let name = names.published(param.path);
        if param.trainable || params::is_buffer(param.path) || will_train(&name) {
            tensors.push(to_host::<B>(param.value).map(|tensor| (name, tensor)));
        }
    });
    tensors.into_iter().collect()
}

/// The file of averaged weights.
const AVERAGE: &str = "average.safetensors";

/// Puts a checkpoint's model into one with the same trainable parameters: the average of the weights where one was kept,
/// else the weights themselves.
///
/// # Errors
/// As [`restore`].
pub fn restore_best<B: Backend, M: Module<B>>(
    model: M,
    checkpoint: &Path,
    names: NameMap,
    device: &B::Device,
) -> Result<M, TrainError> {
    let model = restore(model, checkpoint, names, device)?;
    let path = checkpoint.join(AVERAGE);
    if !path.is_file() {
        return Ok(model);
    }
    let mut average = read_all(&path)?;
    Ok(params::map(model, &mut |param| {
        let value = match average.remove(&names.published(param.path)) {
            Some(host) => from_host::<B>(host, device),
            None => param.value,
        };
        Mapped {
            value,
            trainable: param.trainable,
        }
    }))
}

/// All tensors of a file.
fn read_all(path: &Path) -> Result<BTreeMap<String, HostTensor>, TrainError> {
    let files = WeightFiles::open(path)?;
    let mut values = BTreeMap::new();
    for name in files.names() {
        if let Some(tensor) = files.read(name)? {
            values.insert(name.to_owned(), tensor);
        }
    }
    Ok(values)
}

/// Puts a checkpoint's trainable parameters into a model with the same ones.
///
/// # Errors
/// On a tensor without a place or of another shape, or a trainable parameter without a tensor.
pub fn restore<B: Backend, M: Module<B>>(
    model: M,
    checkpoint: &Path,
    names: NameMap,
    device: &B::Device,
) -> Result<M, TrainError> {
    let path = checkpoint.join("trainable.safetensors");
    let mismatch = |reason: String| TrainError::Checkpoint {
        path: path.clone(),
        reason,
        hint: "the checkpoint belongs to a run with another model or method; resume with that run's own config.toml",
    };
    let mut values = read_all(&path)?;
    let mut fail = None;
    let model = params::map(model, &mut |param| {
        let name = names.published(param.path);
        let value = match values.remove(&name) {
            Some(host) if host.shape == param.shape.as_slice() => from_host::<B>(host, device),
            Some(host) => {
                fail = Some(format!(
                    "tensor `{name}` has shape {:?}, expected {:?}",
                    host.shape,
                    param.shape.as_slice()
                ));
                param.value
            }
            None => {
                if param.trainable {
                    fail = Some(format!("trainable parameter `{name}` is missing"));
                }
                param.value
            }
        };
        Mapped {
            value,
            trainable: param.trainable,
        }
    });
    if let Some(name) = values.keys().next() {
        fail = Some(format!("tensor `{name}` has no place in the model"));
    }
    match fail {
        Some(reason) => Err(mismatch(reason)),
        None => Ok(model),
    }
}

/// All checkpoints of a folder, oldest first.
fn steps(folder: &Path) -> Result<Vec<PathBuf>, TrainError> {
    let entries = match fs::read_dir(folder) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.map_err(TrainError::io(folder))?,
    };
    let mut paths: Vec<PathBuf> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| {
            path.file_name()
                .and_then(|n| n.to_str())
                .is_some_and(|n| n.starts_with("step-"))
        })
        .collect();
    paths.sort();
    Ok(paths)
}

fn prune(folder: &Path, keep: usize, best: Option<u64>) -> Result<(), TrainError> {
    let all = steps(folder)?;
    let best = best.map(|step| folder.join(format!("step-{step:08}")));
    for old in &all[..all.len().saturating_sub(keep.max(1))] {
        if Some(old) != best.as_ref() {
            fs::remove_dir_all(old).map_err(TrainError::io(old))?;
        }
    }
    Ok(())
}

/// `best -> checkpoints/step-...`, replaced in one rename.
fn link_best(run: &RunDir, checkpoint: &Path) -> Result<(), TrainError> {
    let target = Path::new("checkpoints").join(checkpoint.file_name().unwrap_or_default());
    let link = run.best();
    #[cfg(unix)]
    {
        let aside = run.path().join(".best");
        let _ = fs::remove_file(&aside);
        std::os::unix::fs::symlink(&target, &aside).map_err(TrainError::io(&aside))?;
        fs::rename(&aside, &link).map_err(TrainError::io(&link))
    }
    #[cfg(not(unix))]
    {
        // Where links need rights, a file that names the checkpoint.
        write_atomically(
            &link.with_extension("txt"),
            target.to_string_lossy().as_bytes(),
        )
        .map_err(TrainError::io(&link))
    }
}

/// Flushes a folder's entries to disk where the system can.
fn sync(folder: &Path) {
    if let Ok(folder) = File::open(folder) {
        let _ = folder.sync_all();
    }
}
