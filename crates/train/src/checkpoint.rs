//! Checkpoints: what a run needs to go on as if it had never stopped. Written aside, fsynced, renamed: complete or absent.
//!
//! `checkpoints/step-00000400/`: `trainable.safetensors` (what training changed), `optimizer.safetensors` (its moments),
//! `average.safetensors` (where an average of the weights is kept), `state.json`, and `SHA256SUMS` over all of them, which is
//! checked before anything is believed. Frozen parameters are not repeated: they are the base model's.

use crate::{
    Average, Optimizer, RunDir, TrainConfig, TrainError, TrainState,
    checksums::{self, broken},
    run_dir::{DELETING, WRITING},
};
use burn::{
    module::Module,
    tensor::{TensorMetadata, backend::Backend, ops::FloatTensor},
};
use rekindle_base::{HostTensor, write_atomically};
use rekindle_nn::{
    TuneAutodiff,
    host::{from_host, to_host},
    params::{self, Mapped, NameMap, ParamRef},
};
use rekindle_weights::{self as weights, ToWrite, WeightFiles};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File},
    io::ErrorKind,
    path::{Path, PathBuf},
};

/// Where a run stands.
pub(crate) const STATE: &str = "state.json";
/// The parameters that training changed.
pub(crate) const TRAINABLE: &str = "trainable.safetensors";
/// The optimizer's moments.
pub(crate) const OPTIMIZER: &str = "optimizer.safetensors";
/// The averaged weights.
pub(crate) const AVERAGE: &str = "average.safetensors";

/// Tensors by name, as a file of a checkpoint holds them: read one at a time, when they are written.
pub(crate) type Tensors<'a> = Vec<(String, ToWrite<'a>)>;

/// A tensor that is copied from its device when it is written.
pub(crate) fn to_write<'a, B: Backend + 'a>(tensor: FloatTensor<B>) -> ToWrite<'a> {
    let shape = tensor.shape().as_slice().to_vec();
    ToWrite::new(shape, move || to_host::<B>(tensor.clone()))
}

/// A checkpoint on disk, every byte of which has been checked.
#[derive(Debug, Clone)]
pub struct Checkpoint {
    /// Its directory.
    pub path: PathBuf,
    /// Where the run stood.
    pub state: TrainState,
    /// What is wrong with the newer checkpoints that [`Checkpoint::latest`] passed over, newest first.
    pub passed_over: Vec<String>,
}

impl Checkpoint {
    /// The newest complete checkpoint of a run; newer ones that are broken are passed over, which it says.
    ///
    /// # Errors
    /// When there is none, or the folder cannot be read.
    pub fn latest(run: &RunDir) -> Result<Self, TrainError> {
        Self::find(run)?.ok_or_else(|| TrainError::Checkpoint {
            path: run.checkpoints(),
            reason: "the run has no checkpoint".into(),
            hint: "start it again from its first step, or in a new directory",
        })
    }

    /// As [`Checkpoint::latest`]; `None` for a run that was stopped before its first checkpoint.
    ///
    /// # Errors
    /// When all checkpoints are broken, or the folder cannot be read.
    pub fn find(run: &RunDir) -> Result<Option<Self>, TrainError> {
        let mut errors = Vec::new();
        for path in steps(&run.checkpoints())?.into_iter().rev() {
            match Self::read(&path) {
                Ok(mut checkpoint) => {
                    checkpoint.passed_over = errors.iter().map(TrainError::to_string).collect();
                    return Ok(Some(checkpoint));
                }
                Err(error) => errors.push(error),
            }
        }
        match errors.into_iter().next() {
            Some(newest) => Err(newest),
            None => Ok(None),
        }
    }

    /// Reads a checkpoint's state, and checks every byte of its files.
    ///
    /// # Errors
    /// When a file is missing or not what was written; the message names it.
    pub fn read(path: &Path) -> Result<Self, TrainError> {
        checksums::check(path, &[STATE, TRAINABLE, OPTIMIZER], &[AVERAGE])?;
        let file = path.join(STATE);
        let text = fs::read(&file).map_err(TrainError::io(&file))?;
        let state: TrainState = serde_json::from_slice(&text)
            .map_err(|e| broken(&file, format!("not a checkpoint's state: {e}")))?;
        // The path may be the link `best`.
        let folder = fs::canonicalize(path).map_err(TrainError::io(path))?;
        if folder.file_name() != Some(folder_name(state.step).as_ref()) {
            let reason = format!("the state is that of step {}", state.step);
            return Err(broken(&file, reason));
        }
        Ok(Self {
            path: path.to_owned(),
            state,
            passed_over: Vec::new(),
        })
    }

    /// Reads the checkpoint of a step, whatever its state says of the run.
    pub(crate) fn of_step(run: &RunDir, step: u64) -> Result<Self, TrainError> {
        Self::read(&path_of(run, step))
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

    /// The checkpoint of a run that is to be longer, or shorter, than it `was`: everything but the number of steps is the same.
    /// A run that had ended early for want of improvement gets its patience back.
    ///
    /// # Errors
    /// When it is not of the run that was, or has that many steps behind it already; `batches` as for the state.
    pub fn with_length(
        mut self,
        was: &TrainConfig,
        now: &TrainConfig,
        batches: impl Fn(u64) -> usize,
    ) -> Result<Self, TrainError> {
        self.belongs_to(was)?;
        self.check_state(was, &batches)?;
        let (done, total) = (self.state.step, now.total_steps(batches(0)));
        if total <= done {
            return Err(TrainError::Checkpoint {
                path: self.path,
                reason: format!("{done} steps are done, expected fewer than the {total} asked for"),
                hint: "ask for more epochs, or more steps (train.max_steps), than the run has behind it",
            });
        }
        self.state.total_steps = total;
        self.state.fingerprint = now.fingerprint.clone();
        let patience = was.early_stopping.map(|early| early.patience.max(1));
        if patience.is_some_and(|patience| self.state.without_improvement >= patience) {
            self.state.without_improvement = 0;
        }
        Ok(self)
    }

    /// Checks that the state is one that the run can be in; `batches` is the number of micro-batches in an epoch.
    pub(crate) fn check_state(
        &self,
        config: &TrainConfig,
        batches: impl Fn(u64) -> usize,
    ) -> Result<(), TrainError> {
        self.state
            .check(config, batches)
            .map_err(|reason| broken(&self.path.join(STATE), reason))
    }

    /// Writes a checkpoint: the state, and files of tensors.
    pub(crate) fn write(
        run: &RunDir,
        state: &TrainState,
        files: Vec<(&str, Tensors<'_>)>,
    ) -> Result<PathBuf, TrainError> {
        let folder = run.checkpoints();
        fs::create_dir_all(&folder).map_err(TrainError::io(&folder))?;
        let path = folder.join(folder_name(state.step));
        let aside = folder.join(format!("{WRITING}{:08}", state.step));
        if aside.exists() {
            fs::remove_dir_all(&aside).map_err(TrainError::io(&aside))?;
        }
        let written = write_into(&aside, state, files)
            .and_then(|()| delete(&path))
            .and_then(|()| fs::rename(&aside, &path).map_err(TrainError::io(&path)));
        if let Err(error) = written {
            // Give back the room that the half-written checkpoint takes.
            let _ = fs::remove_dir_all(&aside);
            return Err(error);
        }
        sync(&folder);
        Ok(path)
    }

    /// Puts the checkpoint's parameters into a model with the same trainable ones.
    ///
    /// # Errors
    /// As [`restore`].
    pub(crate) fn model<B: Backend, M: Module<B>>(
        &self,
        model: M,
        names: NameMap,
        device: &B::Device,
    ) -> Result<M, TrainError> {
        restore(model, &self.path, names, device)
    }

    /// Puts the checkpoint's moments into an optimizer. `model` is the one restored, with the parameters trainable that
    /// the last step trained.
    ///
    /// # Errors
    /// On moments that are missing, have no parameter, or another shape.
    pub(crate) fn moments<B: TuneAutodiff, M: Module<B>>(
        &self,
        optimizer: &mut Optimizer<B>,
        model: &M,
        names: NameMap,
        device: &B::Device,
    ) -> Result<(), TrainError> {
        let path = self.path.join(OPTIMIZER);
        let tensors = read_all(&path)?;
        optimizer
            .load_state(self.state.step, tensors, model, names, device)
            .map_err(|reason| mismatch(&path, reason))
    }

    /// The average of the weights that the checkpoint keeps; `model` as for [`Checkpoint::moments`].
    pub(crate) fn average<B: TuneAutodiff, M: Module<B>>(
        &self,
        decay: f64,
        model: &M,
        names: NameMap,
        device: &B::Device,
    ) -> Result<Average<B>, TrainError> {
        let path = self.path.join(AVERAGE);
        let values = read_all(&path)?;
        Average::from_state(decay, values, model, names, device)
            .map_err(|reason| mismatch(&path, reason))
    }
}

/// All files of a checkpoint; the checksums last.
fn write_into(
    folder: &Path,
    state: &TrainState,
    files: Vec<(&str, Tensors<'_>)>,
) -> Result<(), TrainError> {
    fs::create_dir_all(folder).map_err(TrainError::io(folder))?;
    let mut names = vec![STATE];
    for (name, tensors) in files {
        weights::write(&folder.join(name), tensors, &[])?;
        names.push(name);
    }
    let path = folder.join(STATE);
    let json = serde_json::to_string_pretty(state).map_err(|e| TrainError::io(&path)(e.into()))?;
    write_atomically(&path, json.as_bytes()).map_err(TrainError::io(&path))?;
    checksums::write(folder, &names)?;
    sync(folder);
    Ok(())
}

/// After a checkpoint of `step` was written: `best` links to the best one, and old ones are deleted but the newest `keep`
/// and what each of them calls best, so that losing the newest loses nothing else.
pub(crate) fn tidy(
    run: &RunDir,
    step: u64,
    best: Option<u64>,
    keep: usize,
) -> Result<(), TrainError> {
    link_best(run, best)?;
    let folder = run.checkpoints();
    // Of later steps are only broken ones that the run has passed over; they say nothing about what is old.
    let newest = folder.join(folder_name(step));
    let mut old = steps(&folder)?;
    old.retain(|path| *path <= newest);
    let kept = old.split_off(old.len().saturating_sub(keep.max(1)));
    let wanted: BTreeSet<PathBuf> = kept
        .iter()
        .filter_map(|path| best_of(path))
        .chain(best)
        .map(|step| folder.join(folder_name(step)))
        .collect();
    old.iter()
        .filter(|path| !wanted.contains(*path))
        .try_for_each(|path| delete(path))
}

/// The step that a checkpoint calls best.
fn best_of(path: &Path) -> Option<u64> {
    let state: TrainState = serde_json::from_slice(&fs::read(path.join(STATE)).ok()?).ok()?;
    Some(state.best?.step)
}

/// Deletes a checkpoint, if it is there: renamed first, so that a kill leaves no half of it under its name.
fn delete(path: &Path) -> Result<(), TrainError> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let aside = path.with_file_name(format!("{DELETING}{name}"));
    if path.exists() {
        fs::rename(path, &aside).map_err(TrainError::io(path))?;
        fs::remove_dir_all(&aside).map_err(TrainError::io(&aside))?;
    }
    Ok(())
}

/// Where the checkpoint of a step lies.
pub(crate) fn path_of(run: &RunDir, step: u64) -> PathBuf {
    run.checkpoints().join(folder_name(step))
}

/// The name of a step's folder.
fn folder_name(step: u64) -> String {
    format!("step-{step:08}")
}

/// Tensors that do not fit the model.
fn mismatch(path: &Path, reason: String) -> TrainError {
    TrainError::Checkpoint {
        path: path.to_owned(),
        reason,
        hint: "the checkpoint belongs to a run with another model or method; resume with that run's own config.toml",
    }
}

/// The parameters that train or will, and the buffers, by published name.
pub(crate) fn trainable<B: Backend, M: Module<B>>(
    model: &M,
    will_train: &dyn Fn(&str) -> bool,
    names: NameMap,
) -> Tensors<'static> {
    let mut tensors = Vec::new();
    params::visit(model, &mut |param: ParamRef<'_, B>| {
        let name = names.published(param.path);
        if param.trainable || params::is_buffer(param.path) || will_train(&name) {
            tensors.push((name, to_write::<B>(param.value)));
        }
    });
    tensors
}

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
    let model = params::map(model, &mut |param| {
        let value = match average.remove(&names.published(param.path)) {
            Some(host) => from_host::<B>(host, device),
            None => param.value,
        };
        Mapped {
            value,
            trainable: param.trainable,
        }
    });
    match average.keys().next() {
        Some(name) => Err(mismatch(
            &path,
            format!("tensor `{name}` has no place in the model"),
        )),
        None => Ok(model),
    }
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
    let path = checkpoint.join(TRAINABLE);
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
        Some(reason) => Err(mismatch(&path, reason)),
        None => Ok(model),
    }
}

/// All checkpoints of a folder, oldest first.
fn steps(folder: &Path) -> Result<Vec<PathBuf>, TrainError> {
    let entries = match fs::read_dir(folder) {
        Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            return Ok(Vec::new());
        }
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

/// `best -> checkpoints/step-...`, replaced in one rename; no link where no checkpoint is the best.
pub(crate) fn link_best(run: &RunDir, best: Option<u64>) -> Result<(), TrainError> {
    let link = run.best();
    let Some(step) = best else {
        return match fs::remove_file(&link) {
            Err(e) if e.kind() != ErrorKind::NotFound => Err(TrainError::io(&link)(e)),
            _ => Ok(()),
        };
    };
    let target = Path::new("checkpoints").join(folder_name(step));
    #[cfg(unix)]
    {
        if fs::read_link(&link).is_ok_and(|now| now == target) {
            return Ok(());
        }
        let aside = run.path().join(".best");
        let _ = fs::remove_file(&aside);
        std::os::unix::fs::symlink(&target, &aside).map_err(TrainError::io(&aside))?;
        fs::rename(&aside, &link).map_err(TrainError::io(&link))
    }
    #[cfg(not(unix))]
    {
        // Where links need rights, a file that names the checkpoint.
        write_atomically(&link, target.to_string_lossy().as_bytes()).map_err(TrainError::io(&link))
    }
}

/// Flushes a folder's entries to disk where the system can.
fn sync(folder: &Path) {
    if let Ok(folder) = File::open(folder) {
        let _ = folder.sync_all();
    }
}
