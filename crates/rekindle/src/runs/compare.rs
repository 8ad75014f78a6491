//! Runs beside each other: what was set otherwise, what came of it, and how their evaluations went.

use super::{curves, read_json, read_settings, summary};
use crate::{
    Error,
    finetune::RESULTS,
    report::{self, text},
};
use rekindle_train::{Event, read_metrics};
use serde::Serialize;
use serde_json::{Map, Value};
use std::{collections::BTreeMap, fmt, path::Path};

/// A figure of a run, with its 95 % interval where that is known.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Figure {
    /// The value.
    pub value: f64,
    /// Its interval: from, to.
    pub interval: Option<(f64, f64)>,
}

impl fmt::Display for Figure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.4}", self.value)?;
        match self.interval {
            Some((low, high)) => write!(f, " ({low:.4} to {high:.4})"),
            None => Ok(()),
        }
    }
}

/// Runs beside each other. Everywhere, one value a run, in their order; `None` where it has none.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Comparison {
    /// Their names.
    pub runs: Vec<String>,
    /// The settings that differ, as TOML, by their names with sections.
    pub settings: Vec<(String, Vec<Option<String>>)>,
    /// The final figures.
    pub figures: Vec<(String, Vec<Option<Figure>>)>,
    /// The sets that these are of, with their sizes.
    pub sets: Vec<Option<String>>,
    /// The figure that the curves are of.
    pub watched: String,
    /// The validation figures: steps and values.
    pub curves: Vec<Vec<(f64, f64)>>,
    /// What to know before comparing.
    pub notes: Vec<String>,
}

/// Sets runs beside each other.
///
/// # Errors
/// For a directory that is no run, or whose run file cannot be read.
pub fn compare(dirs: &[impl AsRef<Path>]) -> Result<Comparison, Error> {
    let mut settings = Vec::new();
    for dir in dirs.iter().map(AsRef::as_ref) {
        let read = read_settings(&dir.join("config.toml"));
        let table = read.map_err(|reason| Error::ModelDir {
            path: dir.to_owned(),
            reason: format!("not a run that can be compared: {reason}"),
            hint: "name directories that `rekindle finetune` wrote; `rekindle runs` lists them"
                .into(),
        })?;
        let mut flat = BTreeMap::new();
        flatten("", &toml::Value::Table(table), &mut flat);
        settings.push(flat);
    }
    let results = dirs.iter().map(AsRef::as_ref);
    let results: Vec<Map<String, Value>> = results
        .map(|dir| read_json(&dir.join(RESULTS)).unwrap_or_default())
        .collect();
    let watched = watched(&settings);
    let curves = dirs.iter().map(|dir| curve(dir.as_ref(), &watched));
    let names = dirs.iter().map(|dir| summary(dir.as_ref()).name);
    let sets: Vec<Option<String>> = results.iter().map(set).collect();
    let mut notes = Vec::new();
    let known: Vec<&String> = sets.iter().flatten().collect();
    if known.windows(2).any(|pair| pair[0] != pair[1]) {
        notes.push(
            "the figures are of different sets, so that a difference may be one of the sets".into(),
        );
    }
    Ok(Comparison {
        runs: names.collect(),
        figures: figures(&results),
        settings: differing(&settings),
        sets,
        curves: curves.collect(),
        watched,
        notes,
    })
}

impl Comparison {
    /// What the run of this index is called in the chart.
    #[must_use]
    pub fn letter(run: usize) -> String {
        curves::letter(run).to_string()
    }

    /// The curves over each other, in characters.
    #[must_use]
    pub fn chart(&self) -> String {
        curves::draw(&self.curves, |step| format!("step {step}"))
    }

    /// Everything as one HTML page.
    #[must_use]
    pub fn html(&self) -> String {
        report::comparison(self)
    }
}

/// Settings by their whole names.
fn flatten(path: &str, value: &toml::Value, flat: &mut BTreeMap<String, String>) {
    match value {
        toml::Value::Table(table) => {
            for (name, value) in table {
                let path = match path {
                    "" => name.clone(),
                    section => format!("{section}.{name}"),
                };
                flatten(&path, value, flat);
            }
        }
        value => drop(flat.insert(path.to_owned(), value.to_string())),
    }
}

/// The settings that are not the same everywhere; where a run is written to says nothing.
fn differing(runs: &[BTreeMap<String, String>]) -> Vec<(String, Vec<Option<String>>)> {
    let mut names: Vec<&String> = runs.iter().flat_map(BTreeMap::keys).collect();
    names.sort();
    names.dedup();
    let rows = names.into_iter().map(|name| {
        let values = runs.iter().map(|run| run.get(name).cloned());
        (name.clone(), values.collect::<Vec<_>>())
    });
    rows.filter(|(name, values)| {
        name != "output_dir" && values.windows(2).any(|pair| pair[0] != pair[1])
    })
    .collect()
}

/// The final figures, in the order in which the runs have them.
fn figures(results: &[Map<String, Value>]) -> Vec<(String, Vec<Option<Figure>>)> {
    let of = |run: &Map<String, Value>, key: &str| {
        let value = run.get("figures")?.get(key)?.as_f64()?;
        let interval = run.get("intervals").and_then(|known| known.get(key));
        let interval = interval.and_then(|pair| Some((pair[0].as_f64()?, pair[1].as_f64()?)));
        Some(Figure { value, interval })
    };
    let mut names: Vec<&String> = Vec::new();
    for run in results {
        let figures = run.get("figures").and_then(Value::as_object);
        for name in figures.into_iter().flat_map(Map::keys) {
            if !names.contains(&name) {
                names.push(name);
            }
        }
    }
    let row = |name: &String| {
        let values = results.iter().map(|run| of(run, name));
        (name.clone(), values.collect())
    };
    names.into_iter().map(row).collect()
}

/// The final set of a run and its size.
fn set(results: &Map<String, Value>) -> Option<String> {
    let split = results.get("split")?.as_str()?;
    let examples = results.get("examples")?.as_u64()?;
    Some(format!("{split}, {} examples", text::count(examples)))
}

/// The figure by which all runs choose their best checkpoint, else the loss, which every evaluation has.
fn watched(runs: &[BTreeMap<String, String>]) -> String {
    let mut metrics = runs.iter().map(|run| run.get("eval.metric"));
    let first = metrics.next().flatten();
    let same = metrics.all(|metric| metric == first);
    match first.filter(|_| same) {
        Some(metric) => metric.trim_matches('"').to_owned(),
        None => "loss".to_owned(),
    }
}

/// The validation figures of a run by step; empty where they cannot be read.
fn curve(dir: &Path, key: &str) -> Vec<(f64, f64)> {
    let events = read_metrics(&dir.join("metrics.jsonl")).unwrap_or_default();
    let points = events.iter().filter_map(|event| match event {
        Event::Evaluated {
            step, evaluation, ..
        } => Some((*step as f64, evaluation.get(key)?)),
        _ => None,
    });
    points.filter(|(_, value)| value.is_finite()).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn what_differs_is_found() {
        let run = |text: &str| {
            let mut flat = BTreeMap::new();
            flatten("", &toml::Value::Table(text.parse().unwrap()), &mut flat);
            flat
        };
        let runs = [
            run("seed = 1\noutput_dir = \"a\"\n[train]\nepochs = 1.0\nbatch_size = 8"),
            run("seed = 1\noutput_dir = \"b\"\n[train]\nbatch_size = 16"),
        ];
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(
            differing(&runs),
            [
                ("train.batch_size".to_owned(), vec![some("8"), some("16")]),
                ("train.epochs".to_owned(), vec![some("1.0"), None]),
            ]
        );
        assert_eq!(watched(&runs), "loss");
    }
}
