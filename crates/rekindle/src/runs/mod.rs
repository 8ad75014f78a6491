//! What became of runs, as their directories tell: one each in a list, several beside each other. Nothing here is an error of the
//! whole: a directory that cannot be read is told of as itself.

mod compare;
pub(crate) mod curves;

use crate::{
    Error,
    finetune::{LOG, RESULTS, is_finished},
    log,
};
use rekindle_train::{Event, RunDir, TrainState, read_metrics};
use serde::Serialize;
use serde_json::{Map, Value, json};
use std::{
    fmt,
    fs::File,
    path::{Path, PathBuf},
    time::UNIX_EPOCH,
};

pub use compare::{Comparison, Figure, compare};

/// A run in a list.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RunSummary {
    /// The directory's name.
    pub name: String,
    /// The directory.
    pub dir: PathBuf,
    /// What became of it.
    pub state: RunState,
    /// What is learned.
    pub task: Option<String>,
    /// The model.
    pub model: Option<String>,
    /// The dataset.
    pub data: Option<String>,
    /// The method.
    pub method: Option<String>,
    /// When it began, in seconds after 1970.
    pub began: Option<u64>,
    /// The name of the figure that sums it up.
    pub headline: Option<String>,
    /// That figure, of the final set.
    pub figure: Option<f64>,
    /// The final set.
    pub split: Option<String>,
    /// Seconds that it took.
    pub seconds: Option<f64>,
}

/// What became of a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "is", rename_all = "snake_case")]
pub enum RunState {
    /// Everything that a run leaves is there.
    Finished,
    /// Another process holds it.
    Running {
        /// Steps done.
        step: u64,
        /// Steps in all, where known.
        steps: Option<u64>,
    },
    /// It can be resumed.
    Stopped {
        /// The step of its newest checkpoint; 0 before the first.
        step: u64,
        /// Steps in all, where known.
        steps: Option<u64>,
    },
    /// It ended with an error, and can be resumed.
    Failed {
        /// The error.
        reason: String,
    },
    /// A run whose files cannot be read.
    Damaged {
        /// What is wrong.
        reason: String,
    },
    /// No run.
    Foreign,
}

impl fmt::Display for RunState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let of =
            |steps: &Option<u64>| steps.map_or_else(String::new, |steps| format!(" of {steps}"));
        match self {
            Self::Finished => f.write_str("finished"),
            Self::Running { step, steps } => write!(f, "running, step {step}{}", of(steps)),
            Self::Stopped { step: 0, .. } => f.write_str("stopped before its first checkpoint"),
            Self::Stopped { step, steps } => write!(f, "stopped at step {step}{}", of(steps)),
            Self::Failed { reason } => write!(f, "failed: {reason}"),
            Self::Damaged { reason } => write!(f, "damaged: {reason}"),
            Self::Foreign => f.write_str("not a run"),
        }
    }
}

/// The runs in a directory, the newest last; or the one that the directory is.
///
/// # Errors
/// When the directory cannot be read.
pub fn runs(dir: &Path) -> Result<Vec<RunSummary>, Error> {
    if dir.join("config.toml").is_file() {
        return Ok(vec![summary(dir)]);
    }
    let mut runs = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(Error::io(dir))? {
        let path = entry.map_err(Error::io(dir))?.path();
        if path.is_dir() {
            runs.push(summary(&path));
        }
    }
    runs.sort_by(|a, b| (a.began, &a.name).cmp(&(b.began, &b.name)));
    Ok(runs)
}

/// One run, whatever its directory holds.
#[must_use]
pub fn summary(dir: &Path) -> RunSummary {
    let config = dir.join("config.toml");
    let settings = read_settings(&config).unwrap_or_default();
    let plan = read_json(&dir.join("plan.json")).unwrap_or_default();
    let results = read_json(&dir.join(RESULTS)).unwrap_or_default();
    let words = |object: &Map<String, Value>, key: &str| {
        let text = object.get(key).and_then(Value::as_str);
        text.map(str::to_owned)
    };
    let headline = words(&results, "headline");
    let figures = results.get("figures");
    let figure = headline
        .as_ref()
        .and_then(|key| figures?.get(key)?.as_f64());
    let task = settings.get("task").and_then(toml::Value::as_str);
    let name = dir.canonicalize().unwrap_or_else(|_| dir.to_owned());
    let name = name.file_name().unwrap_or(dir.as_os_str());
    RunSummary {
        name: name.to_string_lossy().into_owned(),
        dir: dir.to_owned(),
        state: state_of(dir),
        task: task.map(str::to_owned),
        model: words(&plan, "model"),
        data: words(&plan, "dataset"),
        method: words(&plan, "method"),
        began: modified(&config),
        headline,
        figure,
        split: words(&results, "split"),
        seconds: results.get("seconds").and_then(Value::as_f64),
    }
}

/// What became of the run in a directory.
pub(crate) fn state_of(dir: &Path) -> RunState {
    let config = dir.join("config.toml");
    if !config.is_file() {
        return RunState::Foreign;
    }
    if let Err(reason) = read_settings(&config) {
        return RunState::Damaged { reason };
    }
    if RunDir::is_held(dir) {
        let events = read_metrics(&dir.join("metrics.jsonl")).unwrap_or_default();
        let done = events.iter().rev().find_map(|event| match event {
            Event::Step { step, .. } => Some(*step),
            _ => None,
        });
        return RunState::Running {
            step: done.unwrap_or(0),
            steps: planned_steps(dir),
        };
    }
    if is_finished(dir) {
        return match read_json(&dir.join(RESULTS)) {
            Ok(_) => RunState::Finished,
            Err(reason) => RunState::Damaged { reason },
        };
    }
    if let Some(reason) = log::failure(&dir.join(LOG)) {
        return RunState::Failed { reason };
    }
    match newest_checkpoint(dir) {
        Ok(Some(state)) => RunState::Stopped {
            step: state.step,
            steps: Some(state.total_steps),
        },
        Ok(None) => RunState::Stopped {
            step: 0,
            steps: planned_steps(dir),
        },
        Err(reason) => RunState::Damaged { reason },
    }
}

/// The state of the newest checkpoint that can be read; an error where there are some, but none can.
fn newest_checkpoint(dir: &Path) -> Result<Option<TrainState>, String> {
    let entries = std::fs::read_dir(dir.join("checkpoints")).into_iter();
    let entries = entries.flatten().flatten().map(|entry| entry.path());
    let is_step = |path: &PathBuf| {
        let name = path.file_name().and_then(|name| name.to_str());
        name.is_some_and(|name| name.starts_with("step-"))
    };
    let mut steps: Vec<PathBuf> = entries.filter(is_step).collect();
    steps.sort();
    let mut broken = None;
    for path in steps.iter().rev() {
        match read(&path.join("state.json")) {
            Ok(state) => return Ok(Some(state)),
            Err(reason) => broken = broken.or(Some(reason)),
        }
    }
    broken.map_or(Ok(None), Err)
}

fn planned_steps(dir: &Path) -> Option<u64> {
    read_json(&dir.join("plan.json"))
        .ok()?
        .get("steps")?
        .as_u64()
}

/// The results of a finished run, with where its parts lie, for programs.
///
/// # Errors
/// When it has none, or they cannot be read.
pub fn results(dir: &Path) -> Result<Map<String, Value>, Error> {
    let found = read_json(&dir.join(RESULTS)).map_err(|reason| Error::ModelDir {
        path: dir.to_owned(),
        reason: format!("the run has no results that can be read: {reason}"),
        hint: format!("finish it: rekindle finetune --resume {}", dir.display()),
    })?;
    let mut all = Map::new();
    all.insert("dir".into(), json!(dir));
    all.insert("final".into(), json!(dir.join("final")));
    all.insert("report".into(), json!(dir.join("report.html")));
    all.extend(found);
    Ok(all)
}

/// A run file as it stands, whatever settings this version knows.
fn read_settings(path: &Path) -> Result<toml::Table, String> {
    let text = std::fs::read_to_string(path).map_err(|e| format!("{}: {e}", name_of(path)))?;
    text.parse()
        .map_err(|error: toml::de::Error| format!("{}: {}", name_of(path), error.message()))
}

fn read_json(path: &Path) -> Result<Map<String, Value>, String> {
    read(path)
}

fn read<T: serde::de::DeserializeOwned>(path: &Path) -> Result<T, String> {
    let bytes = std::fs::read(path).map_err(|e| format!("{}: {e}", name_of(path)))?;
    serde_json::from_slice(&bytes).map_err(|e| format!("{}: {e}", name_of(path)))
}

fn name_of(path: &Path) -> String {
    let name = path.file_name().unwrap_or(path.as_os_str());
    name.to_string_lossy().into_owned()
}

/// When a file was written, in seconds after 1970.
fn modified(path: &Path) -> Option<u64> {
    let time = File::open(path).ok()?.metadata().ok()?.modified().ok()?;
    Some(time.duration_since(UNIX_EPOCH).ok()?.as_secs())
}
