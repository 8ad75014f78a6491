//! Settings that do not go together, each rule once.

use super::schema::RunConfig;
use super::value::{
    BatchNorms, Column, Device, EvalEvery, FileFormat, Method, Metric, Precision, PreferenceLoss,
};
use crate::task::{Kind, Modality, Task};

/// Settings that exclude each other, a side each. One from the command line displaces the other side's from the file.
pub(super) const EXCLUSIVE: &[[&[&str]; 2]] = &[
    [
        &["data.dataset"],
        &["data.train", "data.validation", "data.test"],
    ],
    [&["train.warmup_steps"], &["train.warmup_ratio"]],
];

/// A rule over several settings.
pub(super) struct Check {
    /// The settings it looks at, the one to change first. It is left out where one of them has no valid value.
    pub(super) keys: &'static [&'static str],
    /// What does not go together, and what to do about it.
    pub(super) find: fn(&RunConfig) -> Option<(String, &'static str)>,
}

/// Settings that say nothing beside another one. That is no mistake in a run file, which may keep them; who gives one with a
/// command expects something of it.
pub(super) struct Idle {
    pub(super) keys: &'static [&'static str],
    /// What makes them say nothing, and what to do about it.
    pub(super) find: fn(&RunConfig) -> Option<(String, &'static str)>,
}

/// All of them.
pub(super) const IDLE: &[Idle] = &[
    Idle {
        keys: &[
            "peft.r",
            "peft.lora_alpha",
            "peft.lora_dropout",
            "peft.use_rslora",
            "peft.target_modules",
            "peft.layers_to_transform",
        ],
        find: |config| {
            let method = config.peft.method;
            (method != Method::Lora).then(|| {
                (
                    format!(
                        "with the method \"{}\" there are no adapters",
                        method.name()
                    ),
                    "leave it out, or take --method lora",
                )
            })
        },
    },
    Idle {
        keys: &["peft.label_texts"],
        find: |config| {
            (config.peft.method != Method::Setfit).then(|| {
                (
                    "only \"setfit\" makes texts of labels' names".to_owned(),
                    "leave it out, or take --method setfit",
                )
            })
        },
    },
    Idle {
        keys: &["data.validation_fraction"],
        find: |config| {
            let both = config.data.validation.is_some() && config.data.validation_fraction > 0.0;
            both.then(|| {
                (
                    "the validation examples are those of `data.validation`".to_owned(),
                    "leave one of the two out",
                )
            })
        },
    },
    Idle {
        keys: &["data.test_fraction"],
        find: |config| {
            let both = config.data.test.is_some() && config.data.test_fraction > 0.0;
            both.then(|| {
                (
                    "the test examples are those of `data.test`".to_owned(),
                    "leave one of the two out",
                )
            })
        },
    },
];

/// All rules.
pub(super) const CHECKS: &[Check] = &[
    Check {
        keys: &["data.dataset", "data.train", "data.validation", "data.test"],
        find: |config| {
            let data = &config.data;
            data.dataset.as_ref()?;
            let file = [
                ("train", &data.train),
                ("validation", &data.validation),
                ("test", &data.test),
            ]
            .into_iter()
            .find_map(|(name, file)| file.as_ref().map(|_| name))?;
            Some((
                format!("`data.dataset` and `data.{file}` exclude each other"),
                "a dataset brings its own files: keep either `dataset`, or `train`, `validation` and `test`",
            ))
        },
    },
    Check {
        keys: &["data.validation", "data.test", "data.train", "data.dataset"],
        find: |config| {
            let data = &config.data;
            let alone = data.train.is_none() && data.dataset.is_none();
            let file = if data.validation.is_some() {
                "validation"
            } else {
                data.test.as_ref()?;
                "test"
            };
            alone.then(|| {
                (
                    format!("`data.{file}` is set without `data.train`"),
                    "set `data.train` to the file of training examples",
                )
            })
        },
    },
    Check {
        keys: &["data.text", "data.label", "task"],
        find: |config| {
            let data = &config.data;
            let given = [data.text.is_some(), data.label.is_some()];
            let names = [
                data.text
                    .as_ref()
                    .is_none_or(|text| matches!(text, Column::Name(_))),
                (data.label.as_ref())
                    .is_none_or(|label| matches!(label.0.as_slice(), [Column::Name(_)])),
            ];
            let wrong = config.task.kind() == Kind::Generation
                && (given[0] != given[1] || !names[0] || !names[1]);
            wrong.then(|| {
                (
                    "`data.text` and `data.label` do not name the columns of prompt and answer".to_owned(),
                    "name both columns (--text question --label answer), or neither where the keys are usual ones",
                )
            })
        },
    },
    Check {
        keys: &["data.test_fraction", "data.validation_fraction"],
        find: |config| {
            let (validation, test) = (config.data.validation_fraction, config.data.test_fraction);
            (validation + test >= 1.0).then(|| {
                (
                    format!(
                        "`data.validation_fraction` = {validation} and `data.test_fraction` = {test} leave nothing to \
                         train on"
                    ),
                    "together they must be below 1",
                )
            })
        },
    },
    Check {
        keys: &["data.train", "data.dataset", "task"],
        find: |config| {
            let nothing = config.data.train.is_none() && config.data.dataset.is_none();
            (nothing && config.task.kind() == Kind::Preference).then(|| {
                (
                    "`data.train` is unset: there are no preferences to learn of unless you name them".to_owned(),
                    "set it to a file of rows with `prompt`, `chosen` and `rejected`",
                )
            })
        },
    },
    Check {
        keys: &["data.text", "data.text_pair", "data.label", "task"],
        find: |config| {
            let data = &config.data;
            let key = [
                ("text", data.text.is_some()),
                ("text_pair", data.text_pair.is_some()),
                ("label", data.label.is_some()),
            ]
            .into_iter()
            .find_map(|(key, set)| set.then_some(key))?;
            (config.task.kind() == Kind::Preference).then(|| {
                (
                    format!("`data.{key}` says nothing to preferences"),
                    "leave it out, and call the columns `prompt`, `chosen` and `rejected`",
                )
            })
        },
    },
    Check {
        keys: &[
            "preference.label_smoothing",
            "preference.sft_weight",
            "preference.desirable_weight",
            "preference.undesirable_weight",
            "preference.loss",
        ],
        find: |config| {
            let preference = &config.preference;
            let (dpo, kto) = (PreferenceLoss::Dpo, PreferenceLoss::Kto);
            let (key, of) = [
                ("label_smoothing", preference.label_smoothing != 0.0, dpo),
                ("sft_weight", preference.sft_weight != 0.0, dpo),
                ("desirable_weight", preference.desirable_weight != 1.0, kto),
                (
                    "undesirable_weight",
                    preference.undesirable_weight != 1.0,
                    kto,
                ),
            ]
            .into_iter()
            .find_map(|(key, set, of)| (set && of != preference.loss).then_some((key, of)))?;
            Some((
                format!(
                    "`preference.{key}` says nothing to `preference.loss` = \"{}\": it is for \"{of}\"",
                    preference.loss
                ),
                "leave it out, or change the loss",
            ))
        },
    },
    Check {
        keys: &["preference.label_smoothing"],
        find: |config| {
            let share = config.preference.label_smoothing;
            (share >= 0.5).then(|| {
                (
                    format!("`preference.label_smoothing` = {share} takes most pairs to be the wrong way round"),
                    "set it below 0.5",
                )
            })
        },
    },
    Check {
        keys: &["train.batch_size", "train.shards"],
        find: |config| {
            let (batch, shards) = (config.train.batch_size, config.train.shards?);
            (batch < shards).then(|| {
                (
                    format!("`train.shards` = {shards} cuts batches of `train.batch_size` = {batch} into parts of less than one example"),
                    "raise `train.batch_size`, or lower `train.shards`",
                )
            })
        },
    },
    Check {
        keys: &[
            "train.batch_size",
            "train.shards",
            "preference.loss",
            "task",
        ],
        find: |config| {
            let shards = config.train.shards?;
            let kto = config.task.kind() == Kind::Preference
                && config.preference.loss == PreferenceLoss::Kto;
            (kto && config.train.batch_size < 2 * shards).then(|| {
                (
                    format!(
                        "`train.batch_size` = {} in `train.shards` = {shards} parts, but `preference.loss` = \"kto\" compares with the answers to other prompts of the part",
                        config.train.batch_size
                    ),
                    "raise `train.batch_size` to twice `train.shards` or more",
                )
            })
        },
    },
    Check {
        keys: &["train.batch_size", "preference.loss", "task"],
        find: |config| {
            let kto = config.task.kind() == Kind::Preference
                && config.preference.loss == PreferenceLoss::Kto;
            (kto && config.train.batch_size < 2).then(|| {
                (
                    "`train.batch_size` = 1, but `preference.loss` = \"kto\" compares with the answers to other prompts of the batch"
                        .to_owned(),
                    "set it to 2 or more; `train.gradient_accumulation_steps` does not help here",
                )
            })
        },
    },
    Check {
        keys: &["images.batch_norm", "peft.method"],
        find: |config| {
            let peft = &config.peft;
            let frozen = matches!(peft.method, Method::Lora | Method::Head)
                && peft.unfreeze.is_empty()
                && peft.modules_to_save.is_empty()
                && peft.unfreeze_every.is_none();
            (frozen && config.images.batch_norm == BatchNorms::Train).then(|| {
                (
                    format!(
                        "`images.batch_norm` = \"train\" says nothing to `peft.method` = \"{}\": batch norms stay as they are",
                        peft.method
                    ),
                    "leave it out, or set `peft.method` to \"full\"",
                )
            })
        },
    },
    Check {
        keys: &["data.text_pair", "data.text"],
        find: |config| {
            let same = config.data.text_pair.is_some() && config.data.text_pair == config.data.text;
            same.then(|| {
                (
                    "`data.text_pair` is the same column as `data.text`".to_owned(),
                    "leave `text_pair` out where an example has one text",
                )
            })
        },
    },
    Check {
        keys: &["data.label", "data.text", "data.text_pair"],
        find: |config| {
            let data = &config.data;
            data.label.as_ref()?;
            let text = [("text", &data.text), ("text_pair", &data.text_pair)]
                .into_iter()
                .find_map(|(name, column)| {
                    let labels = data.label.as_ref().map(|labels| &labels.0)?;
                    column.as_ref().filter(|column| labels.contains(column))?;
                    Some(name)
                })?;
            Some((
                format!("`data.label` is the same column as `data.{text}`"),
                "name the column that holds the label",
            ))
        },
    },
    Check {
        keys: &["data.header", "data.text", "data.text_pair", "data.label"],
        find: |config| {
            let data = &config.data;
            let named = |column: &&Column| matches!(column, Column::Name(_));
            let labels = data.label.as_ref();
            let label = labels
                .and_then(|labels| labels.0.iter().find(named))
                .cloned();
            let columns = [
                ("text", &data.text),
                ("text_pair", &data.text_pair),
                ("label", &label),
            ];
            let named = columns.into_iter().find_map(|(key, column)| match column {
                Some(Column::Name(name)) => Some((key, name)),
                _ => None,
            });
            let (key, name) = named.filter(|_| data.header == Some(false))?;
            Some((
                format!(
                    "`data.{key}` = \"{name}\" names a column, but `data.header` = false says that columns have no \
                     names"
                ),
                "give the column's place (the first is 0), or leave `header` out",
            ))
        },
    },
    Check {
        keys: &[
            "data.header",
            "data.delimiter",
            "data.quoting",
            "data.format",
        ],
        find: |config| {
            let data = &config.data;
            let format = data.format?;
            if matches!(format, FileFormat::Csv | FileFormat::Tsv) {
                return None;
            }
            let key = [
                ("header", data.header.is_some()),
                ("delimiter", data.delimiter.is_some()),
                ("quoting", data.quoting.is_some()),
            ]
            .into_iter()
            .find_map(|(key, set)| set.then_some(key))?;
            Some((
                format!("`data.{key}` says nothing about files of the format \"{format}\""),
                "`header`, `delimiter` and `quoting` are for \"csv\" and \"tsv\": leave them out",
            ))
        },
    },
    Check {
        keys: &["peft.unfreeze", "peft.freeze"],
        find: |config| {
            let mut patterns = config.peft.unfreeze.iter();
            let pattern = patterns.find(|pattern| config.peft.freeze.contains(pattern))?;
            Some((
                format!("\"{pattern}\" stands in both `peft.freeze` and `peft.unfreeze`"),
                "keep it in one of the two",
            ))
        },
    },
    Check {
        keys: &["model.add_tokens"],
        find: |config| {
            let tokens = &config.model.add_tokens;
            if let Some(blank) = tokens.iter().find(|token| token.trim().is_empty()) {
                return Some((
                    format!("`model.add_tokens` holds {blank:?}, which is blank"),
                    "leave it out, or write the token, such as \"<|call|>\"",
                ));
            }
            let twice = |(at, token): &(usize, &String)| tokens[..*at].contains(token);
            let (_, token) = tokens.iter().enumerate().find(twice)?;
            Some((
                format!("`model.add_tokens` names {token:?} twice"),
                "name each token once",
            ))
        },
    },
    Check {
        keys: &["model.quantized", "peft.method"],
        find: |config| {
            let wrong = config.model.quantized && config.peft.method != Method::Lora;
            wrong.then(|| {
                (
                    format!(
                        "`model.quantized` = true leaves the model's weights as they are, and `peft.method` = \"{}\" trains them",
                        config.peft.method.name()
                    ),
                    "set `peft.method` to \"lora\", or leave `model.quantized` out",
                )
            })
        },
    },
    Check {
        keys: &["train.precision", "device", "task"],
        find: |config| {
            let precision = config.train.precision;
            let on_cpu = crate::backend::chosen(config.device) == Device::Cpu;
            let limit = match precision {
                Precision::F32 => None,
                _ if config.task.modality() != Modality::Text => Some("is for text"),
                Precision::Tf32 if on_cpu => Some("is for NVIDIA GPUs"),
                _ => None,
            };
            limit.map(|limit| {
                (
                    format!("`train.precision` = \"{precision}\" {limit}"),
                    "set it to \"f32\", or leave it out",
                )
            })
        },
    },
    Check {
        keys: &["eval.metric", "task"],
        find: |config| {
            let metric = config.eval.metric?;
            let known = Metric::of(config.task.kind());
            (!known.contains(&metric)).then(|| {
                let names: Vec<_> = known.iter().map(|metric| metric.name()).collect();
                (
                    format!(
                        "`eval.metric` = \"{metric}\" is no figure of `task` = \"{}\", which has \"{}\"",
                        config.task,
                        names.join("\", \"")
                    ),
                    "name one of them, or leave it out",
                )
            })
        },
    },
    Check {
        keys: &["train.warmup_steps", "train.warmup_ratio"],
        find: |config| {
            let both = config.train.warmup_steps.is_some() && config.train.warmup_ratio.is_some();
            both.then(|| {
                (
                    "`train.warmup_steps` and `train.warmup_ratio` exclude each other".to_owned(),
                    "keep one of the two",
                )
            })
        },
    },
    Check {
        keys: &["train.warmup_steps", "train.max_steps"],
        find: |config| {
            let (warmup, steps) = (config.train.warmup_steps?, config.train.max_steps?);
            (warmup >= steps).then(|| {
                (
                    format!("`train.warmup_steps` = {warmup} lasts the whole run of `train.max_steps` = {steps}"),
                    "make the warmup shorter than the run",
                )
            })
        },
    },
    Check {
        keys: &["eval.early_stopping_patience", "eval.every"],
        find: |config| {
            config.eval.early_stopping_patience?;
            (config.eval.every == EvalEvery::Never).then(|| {
                (
                    "`eval.early_stopping_patience` is set, but `eval.every` = \"never\" leaves nothing to judge by"
                        .to_owned(),
                    "set `eval.every` to \"epoch\" or to a number of steps",
                )
            })
        },
    },
    Check {
        keys: &[
            "data.validation_fraction",
            "data.train",
            "data.validation",
            "eval.every",
        ],
        find: |config| {
            let data = &config.data;
            let nothing = data.train.is_some()
                && data.validation.is_none()
                && data.validation_fraction == 0.0;
            (nothing && config.eval.every != EvalEvery::Never).then(|| {
                (
                    "no validation examples: `data.validation` is unset and `data.validation_fraction` = 0".to_owned(),
                    "set one of the two, or `eval.every` = \"never\"",
                )
            })
        },
    },
    Check {
        keys: &["train.shards", "task", "peft.method"],
        find: |config| {
            let compares =
                config.task.kind() == Kind::Embedding || config.peft.method == Method::Setfit;
            (compares && config.train.shards.is_some()).then(|| {
                (
                    "`train.shards` cuts batches, whose texts are compared with each other here".to_owned(),
                    "leave it out: embeddings are learned by one process; `embedding.mini_batch_size` keeps large batches small",
                )
            })
        },
    },
    Check {
        keys: &["peft.method", "task"],
        find: |config| match (config.peft.method, config.task) {
            (Method::Setfit, task) if task != Task::TextClassification => Some((
                format!("`peft.method` = \"setfit\" is for classes of texts, not for \"{task}\""),
                "use \"lora\" or \"full\"",
            )),
            (Method::Head, task) if task.kind() == Kind::Embedding => Some((
                "`peft.method` = \"head\" leaves nothing to train: embeddings have no head"
                    .to_owned(),
                "use \"lora\" (the default) or \"full\"",
            )),
            _ => None,
        },
    },
    Check {
        keys: &[
            "train.label_smoothing",
            "train.class_weights",
            "train.weighted_sampling",
            "train.head_learning_rate",
            "peft.method",
        ],
        find: |config| {
            let train = &config.train;
            let key = [
                ("label_smoothing", train.label_smoothing != 0.0),
                ("class_weights", train.class_weights),
                ("weighted_sampling", train.weighted_sampling),
                ("head_learning_rate", train.head_learning_rate.is_some()),
            ]
            .into_iter()
            .find_map(|(key, set)| set.then_some(key))?;
            (config.peft.method == Method::Setfit).then(|| {
                (
                    format!("`train.{key}` says nothing to `peft.method` = \"setfit\", which trains on pairs of texts"),
                    "leave it out",
                )
            })
        },
    },
];
