//! The run directory: who may write in it, and where its files lie.

use crate::TrainError;
use std::{
    fs::{File, OpenOptions, TryLockError},
    io::ErrorKind,
    path::{Path, PathBuf},
};

/// How the name of a checkpoint's folder begins while it is written.
pub(crate) const WRITING: &str = ".writing-";
/// How the name of a checkpoint's folder begins while it is deleted.
pub(crate) const DELETING: &str = ".deleting-";

/// A run directory held by this process.
#[derive(Debug)]
pub struct RunDir {
    path: PathBuf,
    _lock: File,
}

impl RunDir {
    /// Makes a new run directory and holds it.
    ///
    /// # Errors
    /// When it holds a run already, another process holds it, or it cannot be written.
    pub fn create(path: &Path) -> Result<Self, TrainError> {
        let dir = Self::hold(path)?;
        Self::check_vacant(path)?;
        Ok(dir)
    }

    /// Whether a new run can be made at this path, as far as can be told without writing.
    ///
    /// # Errors
    /// When it holds a run already, or a file stands in the way.
    pub fn check_vacant(path: &Path) -> Result<(), TrainError> {
        if let Some(file) = path.ancestors().find(|path| path.is_file()) {
            return Err(TrainError::FileInTheWay {
                path: file.to_owned(),
            });
        }
        if path.join("config.toml").exists() || path.join("checkpoints").exists() {
            return Err(TrainError::Exists {
                path: path.to_owned(),
            });
        }
        Ok(())
    }

    /// Holds an existing run directory, to resume it, and removes the half-written files that a kill left in it.
    ///
    /// # Errors
    /// When it is no run directory, another process holds it, or what a kill left cannot be removed.
    pub fn open(path: &Path) -> Result<Self, TrainError> {
        if !path.join("config.toml").is_file() {
            return Err(TrainError::Checkpoint {
                path: path.to_owned(),
                reason: "not a run directory: it holds no config.toml".into(),
                hint: "name the directory that `rekindle finetune` printed, runs/<name>",
            });
        }
        let dir = Self::hold(path)?;
        // Half-written files of `write_atomically`.
        remove_all(path, &[".tmp"])?;
        dir.clear_checkpoints()?;
        Ok(dir)
    }

    /// Removes folders of checkpoints that a kill left half-written or half-deleted.
    pub(crate) fn clear_checkpoints(&self) -> Result<(), TrainError> {
        remove_all(&self.checkpoints(), &[WRITING, DELETING])
    }

    fn hold(path: &Path) -> Result<Self, TrainError> {
        std::fs::create_dir_all(path).map_err(TrainError::io(path))?;
        let lock_path = path.join(".lock");
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&lock_path)
            .map_err(TrainError::io(&lock_path))?;
        match lock.try_lock() {
            Ok(()) => Ok(Self {
                path: path.to_owned(),
                _lock: lock,
            }),
            Err(TryLockError::WouldBlock) => Err(TrainError::InUse {
                path: path.to_owned(),
            }),
            Err(TryLockError::Error(source)) => Err(TrainError::Io {
                path: lock_path,
                source,
            }),
        }
    }

    /// The directory.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// `config.toml`, resolved.
    #[must_use]
    pub fn config(&self) -> PathBuf {
        self.path.join("config.toml")
    }

    /// `metrics.jsonl`.
    #[must_use]
    pub fn metrics(&self) -> PathBuf {
        self.path.join("metrics.jsonl")
    }

    /// `checkpoints/`.
    #[must_use]
    pub fn checkpoints(&self) -> PathBuf {
        self.path.join("checkpoints")
    }

    /// `best`, a link to a checkpoint.
    #[must_use]
    pub fn best(&self) -> PathBuf {
        self.path.join("best")
    }

    /// `final/`.
    #[must_use]
    pub fn final_dir(&self) -> PathBuf {
        self.path.join("final")
    }
}

/// Removes what lies in a folder under names that begin so; a folder that is not there holds nothing.
fn remove_all(folder: &Path, beginnings: &[&str]) -> Result<(), TrainError> {
    let entries = match std::fs::read_dir(folder) {
        Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            return Ok(());
        }
        other => other.map_err(TrainError::io(folder))?,
    };
    for entry in entries {
        let path = entry.map_err(TrainError::io(folder))?.path();
        let name = path.file_name().and_then(|name| name.to_str());
        if name.is_some_and(|name| beginnings.iter().any(|b| name.starts_with(b))) {
            match path.is_dir() {
                true => std::fs::remove_dir_all(&path),
                false => std::fs::remove_file(&path),
            }
            .map_err(TrainError::io(&path))?;
        }
    }
    Ok(())
}
