//! `final/README.md`: the card that the Hugging Face hub shows of a model, its facts in a YAML header, and for people the
//! figures, the data, the settings, and how the model is loaded.

use crate::{
    Figures, Plan, RunConfig,
    config::Method,
    figures::Shown,
    provenance::Provenance,
    report::text::{count, figure, scientific},
    task::{Kind, Modality, Task},
};
use rekindle_base::{shell_word, thousands};
use rekindle_models::ModelConfig;
use std::{fmt::Write, path::Path};

mod base;
mod program;
pub(crate) mod whole;

pub(crate) use base::BaseName;

/// The file's name.
pub(crate) const FILE: &str = "README.md";

/// What a card tells.
pub(crate) struct Card<'a> {
    pub config: &'a RunConfig,
    pub plan: &'a Plan,
    pub provenance: &'a Provenance,
    pub base: BaseName,
    pub loading: Loading<'a>,
    pub figures: &'a Figures,
    /// The set that they are of.
    pub split: &'a str,
    pub steps: u64,
    pub best_step: Option<u64>,
}

/// What it takes to load a model.
pub(crate) struct Loading<'a> {
    pub task: Task,
    /// Of an adapter, its base.
    pub base_of_adapter: Option<&'a BaseName>,
    /// Outputs of the head.
    pub labels: usize,
    /// Whether examples are pairs of texts.
    pub pairs: bool,
    /// Whether the head reads the mean of all tokens, which transformers' classes do not.
    pub mean_pooling: bool,
    /// Whether the folder holds a chat template.
    pub chat_template: bool,
    /// Whether the tokenizer got tokens.
    pub added_tokens: bool,
    pub max_length: usize,
    pub pictures: Option<PicturesLoading>,
}

/// What it takes to load a model for pictures.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PicturesLoading {
    /// Whether it is one of transformers, and not of timm.
    pub of_transformers: bool,
    /// Side of the pictures, and share of the middle that is cut out.
    pub size: usize,
    pub crop: f64,
    /// Whether the network is made for pictures of that side.
    pub of_size: bool,
}

impl PicturesLoading {
    /// Of a model for pictures.
    pub(crate) fn of(config: &ModelConfig) -> Option<Self> {
        let pictures = config.pictures.as_ref()?;
        Some(Self {
            of_transformers: config.is_of_transformers(),
            size: pictures.size,
            crop: pictures.crop,
            of_size: config.patch().is_some(),
        })
    }
}

/// Whether a model's folder holds a chat template.
pub(crate) fn has_chat_template(folder: &Path) -> bool {
    let tokenizer = std::fs::read_to_string(folder.join("tokenizer_config.json"));
    folder.join("chat_template.jinja").is_file()
        || tokenizer.is_ok_and(|text| text.contains("\"chat_template\""))
}

/// The hub's names of our figures, where it has one.
const METRICS: [(&str, &str); 17] = [
    ("accuracy", "accuracy"),
    ("macro_f1", "f1"),
    ("micro_f1", "f1"),
    ("weighted_f1", "f1"),
    ("mcc", "matthews_correlation"),
    ("map", "mean_average_precision"),
    ("exact", "exact_match"),
    ("mse", "mse"),
    ("mae", "mae"),
    ("pearson", "pearsonr"),
    ("spearman", "spearmanr"),
    ("r2", "r_squared"),
    ("perplexity", "perplexity"),
    ("rouge_l", "rouge"),
    ("bleu", "bleu"),
    ("exact_match", "exact_match"),
    ("field_f1", "f1"),
];

impl Card<'_> {
    /// The whole file.
    pub(crate) fn text(&self) -> String {
        let name = self.name();
        let tuned = match self.loading.base_of_adapter {
            Some(_) => "An adapter for",
            None => "Tuned from",
        };
        format!(
            "---\n{}---\n\n# {}\n\n{tuned} {} for the task {}, by {} with [Rekindle]({}) {}.\n\n{}{}{}{}",
            self.header(&name),
            plain(&name),
            self.base.words,
            code(self.config.task.name()),
            plain(&self.plan.method),
            env!("CARGO_PKG_REPOSITORY"),
            env!("CARGO_PKG_VERSION"),
            self.figures_table(),
            self.data(),
            self.training(),
            self.loading
                .section(&format!(" The run was called {}.", code(&name))),
        )
    }

    /// The run's name.
    fn name(&self) -> String {
        let name = self.plan.output_dir.file_name();
        name.map_or_else(
            || "model".to_owned(),
            |name| name.to_string_lossy().into_owned(),
        )
    }

    /// The facts that the hub reads.
    fn header(&self, name: &str) -> String {
        let mut out = format!("library_name: {}\n", self.loading.library());
        let mut line = |key: &str, value: &str| {
            let _ = writeln!(out, "{key}: {value}");
        };
        line("pipeline_tag", self.loading.pipeline());
        // What is no name of the hub must not look like one.
        if let Some(hub) = &self.base.hub {
            line("base_model", &quoted(hub));
            let relation = match self.loading.base_of_adapter {
                Some(_) => "adapter",
                None => "finetune",
            };
            line("base_model_relation", relation);
        }
        out += "tags:\n";
        let method = match self.config.peft.method {
            Method::Lora => "lora",
            Method::Full => "full-fine-tuning",
            Method::Head => "linear-probe",
            Method::Bitfit => "bitfit",
            Method::Setfit => "setfit",
        };
        let task = self.config.task.name();
        let mut tags = vec!["rekindle", method];
        tags.extend(Some(task).filter(|task| *task != self.loading.pipeline()));
        tags.iter().for_each(|tag| {
            let _ = writeln!(out, "- {tag}");
        });
        let metrics = self.metrics();
        if metrics.is_empty() {
            return out;
        }
        let mut kinds: Vec<&str> = metrics.iter().map(|(kind, ..)| *kind).collect();
        kinds.sort_unstable();
        kinds.dedup();
        out += "metrics:\n";
        kinds.iter().for_each(|kind| {
            let _ = writeln!(out, "- {kind}");
        });
        // Writing to a string does not fail.
        let _ = write!(
            out,
            "model-index:\n- name: {}\n  results:\n  - task:\n      type: {}\n    dataset:\n      name: {}\n      type: {}\n      split: {}\n    metrics:\n",
            quoted(name),
            self.loading.pipeline(),
            quoted(&self.plan.dataset),
            quoted(&self.plan.dataset),
            quoted(self.split),
        );
        for (kind, name, value) in metrics {
            let value = decimal(value);
            let _ = writeln!(
                out,
                "    - type: {kind}\n      name: {}\n      value: {value}",
                quoted(&name)
            );
        }
        out
    }

    /// The figures that the hub has a name for: that name, ours, and the value.
    fn metrics(&self) -> Vec<(&'static str, String, f64)> {
        let known = METRICS.iter().filter_map(|(key, kind)| {
            let scalars = self.figures.scalars.iter();
            let scalar = scalars.clone().find(|scalar| scalar.key == *key)?;
            let finite = scalar.value.is_finite();
            finite.then(|| (*kind, scalar.name.clone(), scalar.value))
        });
        known.collect()
    }

    fn figures_table(&self) -> String {
        let mut out = format!(
            "## Figures\n\nOf the {} examples of the {} set{}.\n\n| figure | value |\n|---|---|\n",
            count(self.figures.n),
            self.split,
            match self.best_step {
                Some(step) => format!(", by the model of step {}", count(step)),
                None => String::new(),
            }
        );
        let scalars = self.figures.scalars.iter();
        for scalar in scalars.filter(|scalar| scalar.shown != Shown::InSection) {
            let _ = writeln!(out, "| {} | {} |", scalar.name, figure(scalar.value));
        }
        if let Some(guess) = &self.figures.guess {
            let _ = writeln!(
                out,
                "\nTo compare with: {} {} is what {} gives.",
                guess.figure,
                figure(guess.value),
                with_code(&guess.how)
            );
        }
        for warning in self.figures.all_warnings() {
            let _ = writeln!(out, "\n> {}", plain(&warning));
        }
        out + "\n"
    }

    fn data(&self) -> String {
        let [train, validation, test] = self.plan.examples.map(|n| thousands(n as u64));
        let mut out = format!(
            "## Data\n\n{}: {train} examples to train on, {validation} to validate on, {test} to test on; {}.\n",
            code(&self.plan.dataset),
            self.plan.inputs
        );
        if !self.plan.labels.is_empty() {
            const NAMED: usize = 40;
            let named = self.plan.labels.iter().take(NAMED);
            let named: Vec<String> = named.map(|label| code(label)).collect();
            let more = match self.plan.labels.len().saturating_sub(NAMED) {
                0 => String::new(),
                more => format!(" and {more} more, in `rekindle.json`"),
            };
            let _ = writeln!(out, "\nIt answers: {}{more}.", named.join(", "));
        }
        let hashed = |file: &&crate::provenance::DataFile| file.sha256.is_some();
        let files: Vec<_> = self.provenance.data.iter().filter(hashed).collect();
        if !files.is_empty() {
            out += "\n| set | file | sha256 |\n|---|---|---|\n";
        }
        for file in files {
            let name = file.path.file_name().unwrap_or_default().to_string_lossy();
            let hash = file.sha256.as_deref().unwrap_or_default();
            let _ = writeln!(out, "| {} | {} | `{hash}` |", file.split, code(&name));
        }
        out + "\n"
    }

    fn training(&self) -> String {
        let (train, plan) = (&self.config.train, self.plan);
        let machine = &self.provenance.machine;
        let mut rows = vec![
            (
                "base model",
                format!("{}, {}", self.base.words, self.provenance.model.short()),
            ),
            ("method", plain(&plan.method)),
            (
                "parameters trained",
                format!(
                    "{} of {}",
                    thousands(plan.trainable as u64),
                    thousands(plan.parameters as u64)
                ),
            ),
            (
                "steps",
                format!(
                    "{} of {} examples",
                    count(self.steps),
                    plan.examples_per_step
                ),
            ),
            (
                "learning rate",
                format!(
                    "{}, {} steps of warmup",
                    plan.learning_rate, plan.warmup_steps
                ),
            ),
            ("weight decay", scientific(train.weight_decay, 2)),
            ("precision", machine.precision.clone()),
            ("seed", self.config.seed.to_string()),
        ];
        if train.label_smoothing > 0.0 {
            rows.push(("label smoothing", train.label_smoothing.to_string()));
        }
        if self.config.task.modality() == Modality::Text {
            rows.push((
                "longest input",
                format!("{} tokens", self.loading.max_length),
            ));
        }
        let device = match &machine.cpu {
            Some(cpu) if self.config.device == crate::config::Device::Cpu => plain(cpu),
            _ => machine.device.clone(),
        };
        rows.push(("computed by", device));
        let mut out = "## Training\n\n| setting | value |\n|---|---|\n".to_owned();
        for (name, value) in rows {
            let _ = writeln!(out, "| {name} | {value} |");
        }
        out + "\n"
    }
}

impl Loading<'_> {
    pub(super) fn library(&self) -> &'static str {
        let of_transformers = self
            .pictures
            .is_none_or(|pictures| pictures.of_transformers);
        match (self.base_of_adapter, of_transformers) {
            _ if self.task.kind() == Kind::Embedding => "sentence-transformers",
            (Some(_), _) => "peft",
            (None, true) => "transformers",
            (None, false) => "timm",
        }
    }

    pub(super) fn pipeline(&self) -> &'static str {
        match (self.task.kind(), self.task.modality()) {
            (Kind::Generation | Kind::Preference, _) => "text-generation",
            (Kind::Tags, _) => "token-classification",
            (Kind::Extraction, _) => "question-answering",
            (Kind::Choice, _) => "multiple-choice",
            (Kind::Embedding, _) => "sentence-similarity",
            (_, Modality::Text) => "text-classification",
            (_, Modality::Images) => "image-classification",
        }
    }

    /// How to load it, with what else there is to say.
    pub(super) fn section(&self, more: &str) -> String {
        let verb = match (self.task.kind(), self.task.modality()) {
            (Kind::Generation | Kind::Preference, _) => "chat FOLDER".to_owned(),
            (Kind::Extraction, _) => {
                format!("predict FOLDER {} --context FILE", shell_word("a question"))
            }
            (Kind::Choice, _) => format!(
                "predict FOLDER {} --choice {} --choice {}",
                shell_word("a question"),
                shell_word("one answer"),
                shell_word("another answer")
            ),
            (Kind::Embedding, _) => format!("embed FOLDER {}", shell_word("a text")),
            (_, Modality::Text) => format!("predict FOLDER {}", shell_word("a text")),
            (_, Modality::Images) => "predict FOLDER picture.jpg".to_owned(),
        };
        let python = match self.mean_pooling {
            true => "The head reads the mean of all tokens (`model.pooling = \"mean\"`), which the classes of transformers do not: they load the weights, and answer otherwise.\n".to_owned(),
            false => format!("```python\n{}```\n", self.python()),
        };
        format!(
            "## How to load it\n\nIn Python, `folder` being the folder of this file:\n\n{python}\n\
             With Rekindle:\n\n```sh\nrekindle {verb}\n```\n\n`rekindle.json` beside this file keeps what Python's files have no place for.{more}\n"
        )
    }
}

/// A number with a point and without an exponent: YAML reads others as whole numbers, or as text.
fn decimal(value: f64) -> String {
    let text = value.to_string();
    match text.contains('.') {
        true => text,
        false => text + ".0",
    }
}

/// A string as YAML and Python read it: in double quotes, with everything escaped that either refuses.
fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for character in text.chars() {
        match character {
            '"' | '\\' => out.extend(['\\', character]),
            ' '..='~' | '\u{a0}'..='\u{d7ff}' if !is_break(character) => out.push(character),
            other => {
                let mut units = [0; 2];
                match other.encode_utf16(&mut units) {
                    [unit] => {
                        let _ = write!(out, "\\u{unit:04x}");
                    }
                    _ => {
                        let _ = write!(out, "\\U{:08x}", u32::from(other));
                    }
                }
            }
        }
    }
    out.push('"');
    out
}

/// Line ends of Unicode.
fn is_break(character: char) -> bool {
    matches!(character, '\u{2028}' | '\u{2029}')
}

/// Text in Markdown that stands for itself.
fn plain(text: &str) -> String {
    let mut out = String::new();
    for character in text.chars() {
        match character {
            '\\' | '`' | '*' | '_' | '[' | ']' | '|' | '#' => out.extend(['\\', character]),
            '<' => out += "&lt;",
            '&' => out += "&amp;",
            other if other.is_control() => out.push(' '),
            other => out.push(other),
        }
    }
    out
}

/// Text in Markdown that stands for itself, but for what is between its first and its last backtick, which is code.
fn with_code(text: &str) -> String {
    let parts = text.split_once('`');
    let parts = parts.and_then(|(before, rest)| Some((before, rest.rsplit_once('`')?)));
    match parts {
        None => plain(text),
        Some((before, (inner, after))) => plain(before) + &code(inner) + &plain(after),
    }
}

/// Text in Markdown as code, also in a table.
fn code(text: &str) -> String {
    let text: String = text
        .chars()
        .map(|character| match character {
            '`' => '\'',
            '|' => '¦',
            other if other.is_control() => ' ',
            other => other,
        })
        .collect();
    match text.trim().is_empty() {
        true => "(empty)".to_owned(),
        false => format!("`{text}`"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_are_those_of_yaml_and_of_python() {
        for (text, expected) in [
            ("plain", "\"plain\""),
            ("a \"b\" \\c", "\"a \\\"b\\\" \\\\c\""),
            ("é\n\u{7f}\u{85}", "\"é\\u000a\\u007f\\u0085\""),
            ("\u{feff}\u{2028}😀", "\"\\ufeff\\u2028\\U0001f600\""),
        ] {
            assert_eq!(quoted(text), expected);
        }
    }

    #[test]
    fn numbers_are_those_of_yaml() {
        for (value, expected) in [
            (1.0, "1.0"),
            (0.25, "0.25"),
            (1e-7, "0.0000001"),
            (2e5, "200000.0"),
        ] {
            assert_eq!(decimal(value), expected);
        }
    }

    #[test]
    fn names_do_not_become_markdown() {
        assert_eq!(code("a`b|c\nd"), "`a'b¦c d`");
        assert_eq!(code(" "), "(empty)");
        assert_eq!(with_code("saying `a_`b`"), "saying `a_'b`");
        assert_eq!(with_code("at_random"), "at\\_random");
        assert_eq!(plain("<b>*x*_y_|"), "&lt;b>\\*x\\*\\_y\\_\\|");
    }
}
