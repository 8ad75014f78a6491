//! The run directory: who may write in it, and where its files lie.

use crate::TrainError;
use std::{
    fs::{File, OpenOptions, TryLockError},
    io::ErrorKind,
    path::{Path, PathBuf},
};

/// Whoever holds this file holds the run.
const LOCK: &str = ".lock";
/// How the names of files begin that `write_atomically` has not finished.
const HALF_WRITTEN: &str = ".tmp";
/// How the name of a checkpoint's folder begins while it is written.
pub(crate) const WRITING: &str = ".writing-";
/// How the name of a checkpoint's folder begins while it is deleted.
pub(crate) const DELETING: &str = ".deleting-";

/// What a run leaves in its directory, by name; what a kill leaves half-written begins with a dot.
const OURS: [&str; 12] = [
    ".lock",
    "config.toml",
    "config.before.toml",
    "plan.json",
    "metrics.jsonl",
    "answers.jsonl",
    "log.txt",
    "checkpoints",
    "best",
    ".final",
    "results.json",
    "report.html",
];

/// A run directory held by this process, or by the process that leads it.
#[derive(Debug)]
pub struct RunDir {
    path: PathBuf,
    _lock: Option<File>,
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

    /// Makes a new run directory in the place of a run that was never finished, and holds it.
    ///
    /// # Errors
    /// As [`RunDir::check_replaceable`], or when what is there cannot be removed.
    pub fn replace(path: &Path) -> Result<Self, TrainError> {
        let dir = Self::hold(path)?;
        Self::check_replaceable(path)?;
        let entries = std::fs::read_dir(path).map_err(TrainError::io(path))?;
        for entry in entries {
            let entry = entry.map_err(TrainError::io(path))?.path();
            // The lock is held by its file.
            if entry.file_name() != Some(LOCK.as_ref()) {
                remove(&entry)?;
            }
        }
        Ok(dir)
    }

    /// Whether a run can be replaced: it is one of ours, it has no model in `final/`, and nothing else lies beside it.
    ///
    /// # Errors
    /// When one of that is not so.
    pub fn check_replaceable(path: &Path) -> Result<(), TrainError> {
        let refuse = |reason: String, hint| TrainError::NotReplaced {
            path: path.to_owned(),
            reason,
            hint,
        };
        if path.join("final").exists() {
            let hint = "name another directory; or delete this one, if its model is not needed";
            return Err(refuse("it holds a finished run".into(), hint));
        }
        if !path.join("config.toml").is_file() {
            let hint = "name another directory, or look what this is";
            return Err(refuse("it is no run: it holds no config.toml".into(), hint));
        }
        let entries = std::fs::read_dir(path).map_err(TrainError::io(path))?;
        for entry in entries {
            let name = entry.map_err(TrainError::io(path))?.file_name();
            let name = name.to_string_lossy();
            if !OURS.contains(&&*name) && !name.starts_with(HALF_WRITTEN) {
                let hint = "move it away, or name another directory";
                return Err(refuse(
                    format!("it holds `{name}`, which is not of a run"),
                    hint,
                ));
            }
        }
        Ok(())
    }

    /// Whether another process holds the run at this path. Nothing is made.
    #[must_use]
    pub fn is_held(path: &Path) -> bool {
        let lock = File::open(path.join(LOCK));
        lock.is_ok_and(|lock| matches!(lock.try_lock_shared(), Err(TryLockError::WouldBlock)))
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
        remove_all(path, &[HALF_WRITTEN])?;
        dir.clear_checkpoints()?;
        Ok(dir)
    }

    /// A run directory that another process of the run holds: this one only reads in it.
    #[must_use]
    pub fn follow(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
            _lock: None,
        }
    }

    /// Removes folders of checkpoints that a kill left half-written or half-deleted.
    pub(crate) fn clear_checkpoints(&self) -> Result<(), TrainError> {
        remove_all(&self.checkpoints(), &[WRITING, DELETING])
    }

    fn hold(path: &Path) -> Result<Self, TrainError> {
        std::fs::create_dir_all(path).map_err(TrainError::io(path))?;
        let lock_path = path.join(LOCK);
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&lock_path)
            .map_err(TrainError::io(&lock_path))?;
        match lock.try_lock() {
            Ok(()) => Ok(Self {
                path: path.to_owned(),
                _lock: Some(lock),
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
            remove(&path)?;
        }
    }
    Ok(())
}

/// Removes a file, a link, or a folder with all in it.
fn remove(path: &Path) -> Result<(), TrainError> {
    match path.is_dir() && !path.is_symlink() {
        true => std::fs::remove_dir_all(path),
        false => std::fs::remove_file(path),
    }
    .map_err(TrainError::io(path))
}
