//! The run directory: who may write in it, and where its files lie.

use crate::TrainError;
use std::{
    fs::{File, OpenOptions, TryLockError},
    path::{Path, PathBuf},
};

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

    /// Holds an existing run directory, to resume it.
    ///
    /// # Errors
    /// When it is no run directory, or another process holds it.
    pub fn open(path: &Path) -> Result<Self, TrainError> {
        if !path.join("config.toml").is_file() {
            return Err(TrainError::Checkpoint {
                path: path.to_owned(),
                reason: "not a run directory: it holds no config.toml".into(),
                hint: "name the directory that `rekindle finetune` printed, runs/<name>",
            });
        }
        Self::hold(path)
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
