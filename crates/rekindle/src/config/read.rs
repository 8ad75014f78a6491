//! From a run file and overrides to a [`RunConfig`], gathering every mistake on the way.

use std::collections::{HashMap, HashSet};
use std::io::Read;
use std::ops::Range;
use std::path::Path;

use toml::Value;
use toml::de::{DeTable, DeValue};

use super::FEW_SHOT_BATCH;
use super::checks::{CHECKS, EXCLUSIVE, IDLE};
use super::error::{ConfigErrors, ConfigMistake, ConfigProblem, Place};
use super::schema::{Key, RunConfig, SECTIONS, keys};
use super::value::{Method, toml_text};
use crate::task::Task;

/// A setting from the command line.
#[derive(Debug, Clone, PartialEq)]
pub struct Override {
    key: String,
    value: Option<String>,
    origin: String,
}

impl Override {
    /// `KEY=VALUE`, as the option `--set` takes it. The section may be left out where one setting alone has the name, and the
    /// name may be that of an option, such as `lr`. The value is TOML; what is not TOML is taken as a text, so a
    /// text needs no quotes. An argument that is no `KEY=VALUE` is reported when the configuration is loaded.
    pub fn set(argument: &str) -> Self {
        let (key, value) = match argument.split_once('=') {
            Some((key, value)) if !key.trim().is_empty() => (key, Some(value.trim().to_owned())),
            _ => (argument, None),
        };
        Self {
            key: with_section(key.trim()),
            value,
            origin: "--set".to_owned(),
        }
    }

    /// The setting that it is of.
    pub(crate) fn key(&self) -> &str {
        &self.key
    }

    /// A flag or argument that stands for `key`; messages call it `origin`, such as `--device`.
    pub fn flag(origin: &str, key: &str, value: &str) -> Self {
        Self {
            key: key.to_owned(),
            value: Some(value.to_owned()),
            origin: origin.to_owned(),
        }
    }
}

/// Options of the command line that are called otherwise than their setting, or stand for one of several of the name.
const OPTIONS: [(&str, &str); 5] = [
    ("lr", "train.learning_rate"),
    ("batch_size", "train.batch_size"),
    ("model", "model.name"),
    ("output", "output_dir"),
    // Of a run or of a model: it stays unknown.
    ("name", "name"),
];

/// A key with its section, where it was left out and can be told; else the key as it is.
fn with_section(key: &str) -> String {
    let name = key.replace('-', "_");
    if let Some((_, path)) = OPTIONS.iter().find(|(option, _)| *option == name) {
        return (*path).to_owned();
    }
    // A section's name is no setting's: `train=3` tells nothing.
    let is_section = section_names().any(|section| section == name);
    let mut called = keys().filter(|known| known.name == name && !is_section);
    match (called.next(), called.next()) {
        (Some(only), None) if !key.contains('.') => only.path(),
        _ => key.to_owned(),
    }
}

/// Keys of other tools that have no counterpart here.
const ELSEWHERE: &[(&[&str], &str)] = &[
    (
        &["optim", "optimizer", "opt"],
        "the optimizer is AdamW; leave it out",
    ),
    (
        &[
            "num_labels",
            "num_classes",
            "label_list",
            "labels",
            "id2label",
        ],
        "the labels are those of the training examples; leave it out",
    ),
    (
        &[
            "num_workers",
            "workers",
            "dataloader_num_workers",
            "preprocessing_num_workers",
        ],
        "all cores are used; leave it out",
    ),
    (
        &["push_to_hub", "hub_model_id", "hub_token"],
        "leave it out; `rekindle push RUN OWNER/NAME` does that",
    ),
    (
        &["wandb", "wandb_project", "wandb_mode"],
        "there is no Weights & Biases; leave it out: report.tensorboard writes event files, and metrics.jsonl has every figure",
    ),
    (
        &["resume_from_checkpoint", "auto_resume_from_checkpoints"],
        "leave it out; `rekindle finetune --resume RUN` does that",
    ),
    (
        &[
            "packing",
            "sample_packing",
            "eval_sample_packing",
            "pad_to_sequence_len",
            "pad_to_max_length",
            "padding",
        ],
        "texts lie side by side without padding; leave it out",
    ),
    (
        &["truncation", "truncate"],
        "texts are always cut to data.max_length; leave it out",
    ),
    (
        &["deepspeed", "fsdp", "fsdp_config", "ddp"],
        "there is no DeepSpeed and no FSDP; leave it out",
    ),
    (
        &[
            "torch_compile",
            "flash_attention",
            "sdp_attention",
            "xformers_attention",
        ],
        "kernels are chosen by the machine; leave it out",
    ),
    (
        &["chat_template"],
        "the model's own template is used: chat_template.jinja in its directory; leave it out",
    ),
    (&["drop_path"], "there is no stochastic depth; leave it out"),
    (
        &["task_type", "problem_type"],
        "the setting `task` says that, and the examples tell it; leave it out",
    ),
    (
        &["bias"],
        "adapters have no biases; peft.method = \"bitfit\" trains the model's; leave it out",
    ),
    (
        &["dataset_prepared_path", "preprocessing", "strict"],
        "there is no such setting; leave it out",
    ),
];

/// Where a mistake stands in the report: those of the file by place, then the overrides in their order.
fn rank(place: &Place) -> (u8, usize, usize) {
    match place {
        Place::File { .. } => (0, 0, 0),
        Place::Line { line, column, .. } => (1, *line, *column),
        Place::Override(_) | Place::Program => (2, 0, 0),
    }
}

pub(super) fn load(path: Option<&Path>, overrides: &[Override]) -> Result<RunConfig, ConfigErrors> {
    let mut reader = Reader::for_task(task("", overrides));
    if let Some(path) = path {
        match run_file(path) {
            Ok(bytes) => {
                reader = Reader::for_task(task(&String::from_utf8_lossy(&bytes), overrides));
                reader.bytes(&bytes, path);
            }
            Err(error) => {
                let place = Place::File {
                    path: path.to_owned(),
                };
                let reason = error.to_string();
                let hint = "check the path of the run file; `rekindle init` writes one".to_owned();
                reader.mistake(place, ConfigProblem::Unreadable { reason }, Some(hint));
                reader.incomplete = true;
            }
        }
    }
    reader.overrides(overrides);
    reader.finish()
}

/// The bytes of a run file. What is longer than anybody writes is another file, given by mistake.
fn run_file(path: &Path) -> std::io::Result<Vec<u8>> {
    const MOST: u64 = 1 << 20;
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path)?;
    file.take(MOST + 1).read_to_end(&mut bytes)?;
    match bytes.len() as u64 > MOST {
        false => Ok(bytes),
        true => Err(std::io::Error::other(
            "it is longer than 1 MiB, which no run file is",
        )),
    }
}

/// The task that a run file and overrides name, as far as that can be read: defaults depend on it.
fn task(text: &str, overrides: &[Override]) -> Task {
    let of_file = text
        .parse::<toml::Table>()
        .ok()
        .and_then(|table| table.get("task")?.as_str().map(str::to_owned));
    let name = overrides
        .iter()
        .rev()
        .find_map(|over| over.value.clone().filter(|_| over.key == "task"))
        .or(of_file);
    name.and_then(|name| Task::named(name.trim_matches('"')))
        .unwrap_or(RunConfig::default().task)
}

pub(super) fn parse(
    text: &str,
    path: &Path,
    overrides: &[Override],
) -> Result<RunConfig, ConfigErrors> {
    let mut reader = Reader::for_task(task(text, overrides));
    reader.file(text, path);
    reader.overrides(overrides);
    reader.finish()
}

pub(super) fn validate(config: &RunConfig) -> Result<(), ConfigErrors> {
    let mut reader = Reader::for_task(config.task);
    for key in keys() {
        if let Some(value) = key.write(config) {
            reader.value(key, &value, Place::Program);
        }
    }
    reader.finish().map(|_| ())
}

#[derive(Default)]
struct Reader {
    config: RunConfig,
    mistakes: Vec<ConfigMistake>,
    /// Where each setting was given, the latest.
    given: HashMap<String, Place>,
    /// Settings with a mistake, which no contradiction is looked for in.
    broken: HashSet<String>,
    /// Whether part of the file could not be read, so that a setting may seem unset that is not.
    incomplete: bool,
}

impl Reader {
    fn for_task(task: Task) -> Self {
        Self {
            config: RunConfig::for_task(task),
            ..Self::default()
        }
    }

    fn mistake(&mut self, place: Place, problem: ConfigProblem, hint: Option<String>) {
        self.mistakes.push(ConfigMistake {
            place,
            problem,
            hint,
        });
    }

    fn bytes(&mut self, bytes: &[u8], path: &Path) {
        let error = match std::str::from_utf8(bytes) {
            Ok(text) => return self.file(text, path),
            Err(error) => error,
        };
        let (text, offset) = (String::from_utf8_lossy(bytes), error.valid_up_to());
        let problem = ConfigProblem::Syntax {
            reason: "expected UTF-8".to_owned(),
            found: line_at(&text, offset),
        };
        let hint = "save the file as UTF-8".to_owned();
        self.mistake(place_of(&text, offset, path), problem, Some(hint));
        self.incomplete = true;
    }

    fn file(&mut self, text: &str, path: &Path) {
        let (document, errors) = DeTable::parse_recoverable(text);
        if errors.is_empty() {
            return self.document(document.get_ref(), text, path);
        }
        let mut lines = HashSet::new();
        for error in &errors {
            let offset = error.span().map_or(text.len(), |span| span.start);
            let place = place_of(text, offset, path);
            if let Place::Line { line, .. } = &place {
                lines.insert(*line);
            }
            let problem = ConfigProblem::Syntax {
                reason: error.message().to_owned(),
                found: line_at(text, offset),
            };
            self.mistake(place, problem, None);
        }
        self.incomplete = true;
        // What the parser recovers is a guess, and mistakes found in a guess mislead. Without the broken lines the
        // rest is certain, if it can be read at all.
        let rest = without(text, &lines);
        if let Ok(document) = DeTable::parse(&rest) {
            self.document(document.get_ref(), &rest, path);
        }
    }

    fn document(&mut self, document: &DeTable<'_>, text: &str, path: &Path) {
        let place = |span: Range<usize>| place_of(text, span.start, path);
        for (name, value) in document {
            let section = SECTIONS
                .iter()
                .find(|section| !section.name.is_empty() && section.name == name.get_ref());
            match (section, value.get_ref()) {
                (Some(section), DeValue::Table(table)) => {
                    for (name, value) in table {
                        self.entry(section.name, name.get_ref(), place(name.span()), |_| {
                            (to_value(value.get_ref()), place(value.span()))
                        });
                    }
                }
                (Some(section), other) => self.mistake(
                    place(value.span()),
                    ConfigProblem::NotASection {
                        section: section.name.to_owned(),
                        found: show(&to_value(other)),
                    },
                    Some(format!(
                        "write a line `[{}]` and its keys below",
                        section.name
                    )),
                ),
                (None, DeValue::Table(_)) if keys().all(|key| key.path() != **name.get_ref()) => {
                    let hint = match nearest(name.get_ref(), section_names()) {
                        Some(near) => format!("did you mean [{near}]?"),
                        None => sections_are(),
                    };
                    let problem = ConfigProblem::UnknownSection {
                        section: name.get_ref().to_string(),
                    };
                    self.mistake(place(name.span()), problem, Some(hint));
                }
                (None, _) => self.entry("", name.get_ref(), place(name.span()), |_| {
                    (to_value(value.get_ref()), place(value.span()))
                }),
            }
        }
    }

    fn overrides(&mut self, overrides: &[Override]) {
        for Override { key, value, origin } in overrides {
            let place = Place::Override(origin.clone());
            let Some(text) = value else {
                let problem = ConfigProblem::NotKeyValue { found: key.clone() };
                let hint = "such as --set train.epochs=3".to_owned();
                self.mistake(place, problem, Some(hint));
                continue;
            };
            let (section, name) = key.split_once('.').unwrap_or(("", key));
            self.entry(section, name, place.clone(), |accepts| {
                // A text needs no quotes on a command line, so TOML of another type may be meant as one.
                let bare = Value::String(text.clone());
                let value = match DeValue::parse(text) {
                    Ok(value) => to_value(value.get_ref()),
                    Err(_) => bare.clone(),
                };
                let meant_as_text = !accepts(&value) && accepts(&bare);
                (if meant_as_text { bare } else { value }, place)
            });
            self.displace(key);
        }
    }

    /// Takes back what the file says and `path`, given on the command line, excludes.
    fn displace(&mut self, path: &str) {
        for [one, other] in EXCLUSIVE {
            let excluded = match (one.contains(&path), other.contains(&path)) {
                (true, _) => other,
                (_, true) => one,
                _ => continue,
            };
            for key in keys().filter(|key| excluded.contains(&key.path().as_str())) {
                if matches!(self.given.get(&key.path()), Some(Place::Line { .. })) {
                    self.given.remove(&key.path());
                    key.reset(&mut self.config);
                }
            }
        }
    }

    /// One `name = value`; `value` is asked for only where the name is known, and told what the setting accepts.
    fn entry(
        &mut self,
        section: &str,
        name: &str,
        place: Place,
        value: impl FnOnce(&dyn Fn(&Value) -> bool) -> (Value, Place),
    ) {
        match keys().find(|key| key.section == section && key.name == name) {
            Some(key) => {
                let accepts = |value: &Value| key.read(&mut RunConfig::default(), value);
                let (value, place) = value(&accepts);
                self.value(key, &value, place);
            }
            None => {
                let key = match section {
                    "" => name.to_owned(),
                    section => format!("{section}.{name}"),
                };
                let hint = near_key(section, name);
                self.mistake(place, ConfigProblem::UnknownKey { key }, Some(hint));
            }
        }
    }

    fn value(&mut self, key: &'static Key, value: &Value, place: Place) {
        let path = key.path();
        self.given.insert(path.clone(), place.clone());
        if key.read(&mut self.config, value) {
            return;
        }
        self.broken.insert(path.clone());
        let problem = ConfigProblem::WrongValue {
            key: path,
            expected: key.expected(),
            found: show(value),
        };
        let hint = advice(key, value);
        self.mistake(place, problem, hint);
    }

    /// Settings that say nothing to the task, where they differ from its defaults.
    fn without_effect(&mut self) {
        if self.incomplete || self.broken.contains("task") {
            return;
        }
        let task = self.config.task;
        let default = RunConfig::for_task(task);
        for key in keys().filter(|key| !key.applies.to(task)) {
            let path = key.path();
            if self.broken.contains(&path) || key.write(&self.config) == key.write(&default) {
                continue;
            }
            let place = self.given.get(&path).or_else(|| self.given.get("task"));
            let place = place.cloned().unwrap_or(Place::Program);
            let statement = format!("`{path}` is for {}", key.applies.words());
            let hint = format!("leave it out for task = \"{task}\"");
            let keys = vec![path, "task".to_owned()];
            let problem = ConfigProblem::Contradiction { keys, statement };
            self.mistake(place, problem, Some(hint));
        }
    }

    /// Settings of the command that say nothing beside others.
    fn idle(&mut self) {
        for idle in IDLE {
            let Some((statement, hint)) = (idle.find)(&self.config) else {
                continue;
            };
            for key in idle.keys {
                if let Some(place @ Place::Override(_)) = self.given.get(*key) {
                    let problem = ConfigProblem::Contradiction {
                        keys: vec![(*key).to_owned()],
                        statement: format!("`{key}` says nothing here: {statement}"),
                    };
                    self.mistake(place.clone(), problem, Some(hint.to_owned()));
                }
            }
        }
    }

    fn finish(mut self) -> Result<RunConfig, ConfigErrors> {
        if self.config.peft.method == Method::Setfit && !self.given.contains_key("train.batch_size")
        {
            // Most few-shot sets are one batch, of which all pairs are compared.
            self.config.train.batch_size = FEW_SHOT_BATCH;
        }
        self.without_effect();
        for check in CHECKS {
            if self.incomplete || check.keys.iter().any(|key| self.broken.contains(*key)) {
                continue;
            }
            let Some((statement, hint)) = (check.find)(&self.config) else {
                continue;
            };
            // A rule that no default breaks is broken by a key that was given.
            let place = check.keys.iter().find_map(|key| self.given.get(*key));
            let place = place.cloned().unwrap_or(Place::Program);
            let keys = check.keys.iter().map(|key| (*key).to_owned()).collect();
            let problem = ConfigProblem::Contradiction { keys, statement };
            self.mistake(place, problem, Some(hint.to_owned()));
        }
        self.idle();
        if self.mistakes.is_empty() {
            return Ok(self.config);
        }
        self.mistakes.sort_by_key(|mistake| rank(&mistake.place));
        Err(ConfigErrors {
            mistakes: self.mistakes,
        })
    }
}

/// The place of byte `offset` of `text`.
fn place_of(text: &str, offset: usize, path: &Path) -> Place {
    let before = text.get(..offset).unwrap_or(text);
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    Place::Line {
        path: path.to_owned(),
        line: before.matches('\n').count() + 1,
        column: before[line_start..].chars().count() + 1,
    }
}

/// The line that byte `offset` of `text` stands in, for a message.
fn line_at(text: &str, offset: usize) -> String {
    let before = text.get(..offset).unwrap_or(text);
    let line = text.split('\n').nth(before.matches('\n').count());
    shorten(line.unwrap_or_default().trim())
}

/// `text` with the given lines empty, the first being 1; where a line names a section, so are the lines of the section.
fn without(text: &str, lines: &HashSet<usize>) -> String {
    let mut section_lost = false;
    let mut kept = String::new();
    for (index, line) in text.split('\n').enumerate() {
        let broken = lines.contains(&(index + 1));
        if line.trim_start().starts_with('[') {
            section_lost = broken;
        }
        if !broken && !section_lost {
            kept += line;
        }
        kept.push('\n');
    }
    kept
}

/// The value of a parsed one. An integer beyond 64 bits becomes a float, which no whole-number setting accepts.
fn to_value(value: &DeValue<'_>) -> Value {
    match value {
        DeValue::String(text) => Value::String(text.to_string()),
        DeValue::Integer(number) => i64::from_str_radix(number.as_str(), number.radix()).map_or(
            Value::Float(number.as_str().parse().unwrap_or(f64::INFINITY)),
            Value::Integer,
        ),
        DeValue::Float(number) => Value::Float(number.as_str().parse().unwrap_or(f64::NAN)),
        DeValue::Boolean(value) => Value::Boolean(*value),
        DeValue::Datetime(value) => Value::Datetime(*value),
        DeValue::Array(items) => {
            Value::Array(items.iter().map(|item| to_value(item.get_ref())).collect())
        }
        DeValue::Table(table) => Value::Table(
            table
                .iter()
                .map(|(name, value)| (name.get_ref().to_string(), to_value(value.get_ref())))
                .collect(),
        ),
    }
}

/// A value for a message: as TOML, shortened.
fn show(value: &Value) -> String {
    match value {
        Value::Table(_) => "a table".to_owned(),
        value => shorten(&toml_text(value)),
    }
}

fn shorten(text: &str) -> String {
    const LONGEST: usize = 60;
    if text.chars().count() <= LONGEST {
        return text.to_owned();
    }
    text.chars().take(LONGEST).chain("...".chars()).collect()
}

/// What to write instead of a value that `key` refuses, where that can be told.
fn advice(key: &Key, value: &Value) -> Option<String> {
    /// The floats below are integers exactly.
    const MOST: f64 = 9e15;
    let accepts = |value: &Value| key.read(&mut RunConfig::default(), value);
    if let Some(text) = value.as_str() {
        if let Some(name) = nearest(text, key.names().iter().copied()) {
            return Some(format!("did you mean \"{name}\"?"));
        }
        if let Ok(inner) = DeValue::parse(text)
            && accepts(&to_value(inner.get_ref()))
        {
            return Some(format!("write it without quotes: {text}"));
        }
        let items = text
            .split(',')
            .map(|item| Value::String(item.trim().to_owned()));
        let list = Value::Array(items.collect());
        if accepts(&list) {
            return Some(format!("write a list: {list}"));
        }
    }
    let list = Value::Array(vec![value.clone()]);
    if accepts(&list) {
        return Some(format!("write a list: {list}"));
    }
    match value {
        Value::Array(items) => match items.as_slice() {
            [item] if accepts(item) => Some(format!("write it without brackets: {item}")),
            _ => None,
        },
        Value::Float(number)
            if number.abs() < MOST
                && number.fract() == 0.0
                && accepts(&Value::Integer(*number as i64)) =>
        {
            Some(format!("write it without the point: {number}"))
        }
        Value::Integer(_) | Value::Boolean(_) | Value::Float(_) => {
            let quoted = Value::String(value.to_string());
            accepts(&quoted).then(|| format!("write it in quotes: {quoted}"))
        }
        _ => None,
    }
}

/// The best of `names` within a few typing mistakes of `text`, else the first that contains it.
fn nearest(text: &str, names: impl Iterator<Item = &'static str> + Clone) -> Option<&'static str> {
    let text = text.to_ascii_lowercase().replace('-', "_");
    let length = text.chars().count();
    let tolerated = (length / 3).clamp(1, 3);
    names
        .clone()
        .map(|name| {
            (
                strsim::damerau_levenshtein(&text, &name.replace('-', "_")),
                name,
            )
        })
        .filter(|(distance, name)| *distance <= tolerated && *distance < name.len())
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, name)| name)
        .or_else(|| {
            names
                .filter(|_| length > 1)
                .find(|name| name.contains(&text))
        })
}

fn section_names() -> impl Iterator<Item = &'static str> + Clone {
    let names = SECTIONS.iter().map(|section| section.name);
    names.filter(|name| !name.is_empty())
}

fn sections_are() -> String {
    let names: Vec<_> = section_names().collect();
    format!("the sections are {}", names.join(", "))
}

/// The advice for a setting that does not exist.
pub(super) fn near_path(path: &str) -> String {
    let (section, name) = path.split_once('.').unwrap_or(("", path));
    near_key(section, name)
}

/// The advice for an unknown key: the name it has here, a name like it, or the names there are.
fn near_key(section: &str, name: &str) -> String {
    if let Some((_, note)) = ELSEWHERE.iter().find(|(names, _)| names.contains(&name)) {
        return (*note).to_owned();
    }
    let (here, elsewhere): (Vec<_>, Vec<_>) = keys().partition(|key| key.section == section);
    let called = |keys: &[&'static Key]| -> Vec<String> {
        let called = |key: &&&Key| key.name == name || key.aka.contains(&name);
        keys.iter().filter(called).map(|key| key.path()).collect()
    };
    let like = |keys: &[&'static Key]| -> Vec<String> {
        let near = nearest(name, keys.iter().map(|key| key.name));
        let like = |key: &&&Key| Some(key.name) == near;
        keys.iter().filter(like).map(|key| key.path()).collect()
    };
    let found = [
        called(&here),
        called(&elsewhere),
        like(&here),
        like(&elsewhere),
    ];
    if let Some(paths) = found.iter().find(|paths| !paths.is_empty()) {
        return format!("did you mean `{}`?", paths.join("` or `"));
    }
    let names: Vec<_> = here.iter().map(|key| key.name).collect();
    match section {
        "" => format!(
            "the keys above all sections are {}; `rekindle config` lists all settings",
            names.join(", ")
        ),
        _ if names.is_empty() => sections_are(),
        section => format!("the keys of [{section}] are {}", names.join(", ")),
    }
}
