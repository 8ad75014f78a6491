//! From a [`RunConfig`] to a run file, and from the settings to their reference.

use super::schema::{Applies, Key, RunConfig, SECTIONS};
use super::value::toml_text;
use std::collections::BTreeMap;
use toml::Value;

/// The widest comment line, in characters.
const WIDTH: usize = 100;

/// The run file with every setting that has a value; those without one are shown as comments.
pub(super) fn complete(config: &RunConfig) -> String {
    render(config, &[], |_| true)
}

/// A run file to start from: every setting with its documentation, those at their default as comments.
///
/// `notes` are remarks about settings, by their path (`data.text`), shown above them; those by the path `""` open the
/// file.
pub fn commented(config: &RunConfig, notes: &[(&str, &str)]) -> String {
    let default = RunConfig::for_task(config.task);
    let usual = RunConfig::default().task;
    render(config, notes, |key| match key.path().as_str() {
        // The other defaults follow from it.
        "task" => config.task != usual,
        _ => key.write(config) != key.write(&default),
    })
}

/// All settings as Markdown tables, a section each. What is for some tasks only says so.
pub fn reference() -> String {
    let default = RunConfig::default();
    let mut text = String::new();
    for section in SECTIONS {
        let title = match section.name {
            "" => "Above all sections".to_owned(),
            name => format!("`[{name}]`"),
        };
        let docs = joined(section.docs);
        text +=
            &format!("## {title}\n\n{docs}\n\n| key | default | accepts | |\n|---|---|---|---|\n");
        for key in section.keys {
            let shown = |value: Option<Value>| match value {
                Some(value) => format!("`{}`", toml_text(&value)),
                None => "unset".to_owned(),
            };
            let mut value = shown(key.write(&default));
            let mut others: BTreeMap<String, Vec<&str>> = BTreeMap::new();
            for (task, of_task) in key.defaults_by_task() {
                others.entry(shown(of_task)).or_default().push(task.name());
            }
            for (of_tasks, tasks) in others {
                value += &format!("; {of_tasks} for {}", tasks.join(", "));
            }
            let tasks = match key.applies {
                Applies::All => String::new(),
                some => format!(" *For {}.*", some.words()),
            };
            text += &format!(
                "| `{}` | {} | {} | {}{tasks} |\n",
                key.name,
                value.replace('|', "\\|"),
                key.expected().replace('|', "\\|"),
                joined(key.docs).replace('|', "\\|"),
            );
        }
        text.push('\n');
    }
    text.truncate(text.trim_end().len());
    text + "\n"
}

pub(super) fn joined(lines: &[&str]) -> String {
    let lines: Vec<_> = lines.iter().map(|line| line.trim()).collect();
    lines.join(" ")
}

/// Writes the run file; `set` says which settings are more than comments.
fn render(config: &RunConfig, notes: &[(&str, &str)], set: impl Fn(&Key) -> bool) -> String {
    let mut text = String::new();
    let comments = |text: &mut String, path: &str| {
        for (_, note) in notes.iter().filter(|(of, _)| *of == path) {
            for line in note.lines() {
                *text += format!("# {line}").trim_end();
                text.push('\n');
            }
        }
    };
    comments(&mut text, "");
    if !text.is_empty() {
        text.push('\n');
    }
    for section in SECTIONS {
        if !section.name.is_empty() {
            text += &format!("# {}\n[{}]\n\n", joined(section.docs), section.name);
        }
        for key in section.keys {
            wrap(&mut text, &joined(key.docs));
            comments(&mut text, &key.path());
            let value = key.write(config);
            let hash = if value.is_some() && set(key) { "" } else { "#" };
            let shown = value.map_or(key.example.unwrap_or_default().to_owned(), |value| {
                toml_text(&value)
            });
            text += &format!("{hash}{} = {shown}\n\n", key.name);
        }
    }
    text.truncate(text.trim_end().len());
    text + "\n"
}

/// Appends `comment` in lines of at most [`WIDTH`].
fn wrap(text: &mut String, comment: &str) {
    let mut line = "#".to_owned();
    for word in comment.split(' ') {
        if line.chars().count() + 1 + word.chars().count() > WIDTH {
            *text += &line;
            text.push('\n');
            line = "#".to_owned();
        }
        line.push(' ');
        line += word;
    }
    *text += &line;
    text.push('\n');
}
