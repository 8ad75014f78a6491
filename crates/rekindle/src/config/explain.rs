//! The settings in words, for who looks one up.

use super::{
    read::near_path,
    schema::{Key, RunConfig, SECTIONS},
    value::toml_text,
    write::{joined, reference},
};
use crate::{Error, task::Task};
use serde::Serialize;
use toml::Value;

/// Everything that is known of a setting.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Description {
    /// Its name with its section: `train.epochs`.
    pub path: String,
    /// The section; empty for the settings above all sections.
    pub section: &'static str,
    /// What the section is for.
    pub section_docs: String,
    /// The name within the section.
    pub name: &'static str,
    /// What it does.
    pub docs: String,
    /// Its type and range, in words.
    pub accepts: String,
    /// The default as TOML; `None` where it is unset.
    pub default: Option<String>,
    /// The defaults of tasks that have another one.
    pub defaults: Vec<(&'static str, String)>,
    /// A value to show, of a setting without a default.
    pub example: Option<&'static str>,
    /// What other tools call it.
    pub other_names: &'static [&'static str],
    /// The tasks that it says something to.
    pub tasks: Vec<&'static str>,
}

impl Description {
    fn of(key: &'static Key, section_docs: &[&str]) -> Self {
        let other = |(task, value): (Task, Option<Value>)| {
            let value = value.map_or_else(|| "unset".to_owned(), |value| toml_text(&value));
            (task.name(), value)
        };
        Self {
            path: key.path(),
            section: key.section,
            section_docs: joined(section_docs),
            name: key.name,
            docs: joined(key.docs),
            accepts: key.expected(),
            defaults: key.defaults_by_task().map(other).collect(),
            default: key
                .write(&RunConfig::default())
                .map(|value| toml_text(&value)),
            example: key.example,
            other_names: key.aka,
            tasks: Task::ALL
                .iter()
                .copied()
                .filter(|&task| key.applies.to(task))
                .map(Task::name)
                .collect(),
        }
    }

    /// What it does, in a sentence; and in a second one what happens where it is not set.
    #[must_use]
    pub fn brief(&self) -> String {
        let mut sentences = self.docs.split(". ").map(|one| one.trim_end_matches('.'));
        let first = sentences.next().unwrap_or_default();
        let unset = sentences.find(|one| self.default.is_none() && one.starts_with("Unset"));
        let brief = [Some(first), unset].into_iter().flatten();
        brief.collect::<Vec<_>>().join(". ")
    }
}

/// All settings, in the order of the run file.
#[must_use]
pub fn descriptions() -> Vec<Description> {
    let of_section = SECTIONS.iter();
    let all = of_section.flat_map(|section| {
        let keys = section.keys.iter();
        keys.map(|key| Description::of(key, section.docs))
    });
    all.collect()
}

/// One setting, by its name with its section, or without it where one setting alone has that name.
///
/// # Errors
/// When there is none of that name; the message names those that are like it.
pub fn describe(path: &str) -> Result<Description, Error> {
    let all = descriptions();
    let named = |one: &&Description| one.name == path || one.other_names.contains(&path);
    let alone = match all.iter().filter(named).count() {
        1 => all.iter().find(named),
        _ => None,
    };
    let found = all.iter().find(|one| one.path == path).or(alone);
    found.cloned().ok_or_else(|| Error::Setting {
        reason: format!("there is no setting `{path}`"),
        hint: near_path(path),
    })
}

/// The page `docs/settings.md`.
#[must_use]
pub fn settings_page() -> String {
    format!(
        "# Settings\n\n\
         Every setting of a run, as `rekindle config --markdown` prints them; `rekindle config train.epochs` explains one, \
         with its defaults for each task and the names that other tools have for it. They stand in a run file under their \
         section, or go on the command line as `--set section.key=value`.\n\n{}",
        reference()
    )
}

/// What a run file sets, section by section, as it stands there.
///
/// # Errors
/// When the text is not TOML.
pub fn decided(run_file: &str) -> Result<serde_json::Value, Error> {
    toml::from_str(run_file).map_err(|error| Error::Internal(error.to_string()))
}
