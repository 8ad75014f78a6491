//! Laws of the settings, and every message a person can meet, as it is printed.

#![allow(clippy::unwrap_used)]

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use toml::Value;

use super::schema::SECTIONS;
use super::value::toml_text;
use super::*;
use crate::task::{Kind, Modality};

fn parse(text: &str, sets: &[&str]) -> Result<RunConfig, ConfigErrors> {
    let overrides: Vec<_> = sets.iter().map(|set| Override::set(set)).collect();
    RunConfig::parse(text, Path::new("run.toml"), &overrides)
}

/// A configuration in which no setting that may differ from its default has it.
fn nothing_default() -> RunConfig {
    RunConfig {
        task: Task::ImageClassification,
        seed: 7,
        device: Device::Cuda(1),
        output_dir: Some(PathBuf::from("out put/\"run\"")),
        model: ModelConfig {
            name: "C:\\models\\mini".to_owned(),
            pooling: Pooling::Mean,
            dropout: Some(0.25),
            quantized: false,
            add_tokens: vec!["<|call|>".to_owned()],
        },
        data: DataConfig {
            max_unpacked: Some(5_000_000),
            dataset: None,
            train: Some(PathBuf::from("train.txt")),
            validation: Some(PathBuf::from("dev.txt")),
            test: Some(PathBuf::from("test.txt")),
            text: Some(Column::Index(0)),
            text_pair: Some(Column::Index(1)),
            label: Some(Columns(vec![Column::Index(2), Column::Index(3)])),
            choices: Some(Columns(vec![
                Column::Name("yes".to_owned()),
                Column::Name("no".to_owned()),
            ])),
            label_separator: Some('|'),
            format: Some(FileFormat::Tsv),
            header: Some(false),
            delimiter: Some('\t'),
            quoting: Some(true),
            validation_fraction: 0.2,
            test_fraction: 0.3,
            stratify: false,
            train_limit: Some(10),
            validation_limit: Some(11),
            test_limit: Some(12),
            max_length: 64,
            loss_on: LossOn::Last,
            overlap: Some(16),
            max_answer_length: 12,
            date: Some(Date::today()),
            on_bad_example: OnBadExample::Skip,
        },
        images: ImagesConfig {
            max_bytes: Some(6_000_000),
            size: Some(96),
            crop_pct: Some(0.9),
            augment: Augmentation::Standard,
            views: Some(3),
            random_crop: 0.5,
            padded_crop: Some(4),
            horizontal_flip: 0.25,
            vertical_flip: 0.125,
            color_jitter: 0.2,
            rand_augment: 9,
            trivial_augment: true,
            random_erasing: 0.3,
            mixup: 0.1,
            cutmix: 1.0,
            batch_norm: BatchNorms::Frozen,
            cache_mb: 0,
        },
        preference: PreferenceConfig {
            loss: PreferenceLoss::Kto,
            beta: 0.2,
            label_smoothing: 0.0,
            sft_weight: 0.0,
            desirable_weight: 1.5,
            undesirable_weight: 0.5,
        },
        embedding: EmbeddingConfig {
            loss: EmbeddingLoss::Cosine,
            scale: 10.0,
            mini_batch_size: 16,
            matryoshka_dims: Some(vec![64, 32]),
        },
        peft: PeftConfig {
            method: Method::Bitfit,
            r: 4,
            lora_alpha: 0.1 + 0.2,
            lora_dropout: 0.1,
            use_rslora: true,
            target_modules: TargetModules::Regex(r".*\.(query|value)".to_owned()),
            layers_to_transform: Some(vec![0, 5]),
            modules_to_save: vec!["pooler".to_owned()],
            train_last: Some(2),
            label_texts: Some(false),
            unfreeze_every: Some(1),
            freeze: vec!["embeddings.*".to_owned(), "é'\n\u{1f600}".to_owned()],
            unfreeze: vec!["embeddings.LayerNorm.*".to_owned()],
        },
        train: TrainConfig {
            epochs: Some(0.5),
            max_steps: Some(100),
            batch_size: 8,
            gradient_accumulation_steps: 2,
            shards: Some(4),
            learning_rate: Some(2e-5),
            head_learning_rate: Some(1e-2),
            layer_decay: Some(0.7),
            weight_decay: 0.0,
            beta1: 0.8,
            beta2: 0.98,
            epsilon: 1e-6,
            max_grad_norm: 0.0,
            schedule: Schedule::Cosine,
            warmup_ratio: None,
            warmup_steps: Some(0),
            label_smoothing: 0.1,
            class_weights: true,
            weighted_sampling: true,
            standardize_targets: false,
            precision: Precision::Bf16,
            gradient_checkpointing: Some(true),
            ema_decay: Some(0.99),
            cache_features: false,
            cache_features_mb: 16,
            shuffle: false,
            group_by_length: false,
            log_every_steps: 1,
        },
        eval: EvalConfig {
            every: EvalEvery::Steps(50),
            batch_size: 12,
            metric: Some(Metric::Loss),
            choose: ModelChoice::Last,
            early_stopping_patience: Some(3),
            early_stopping_min_delta: 1e-3,
            answers: AnswerCount::All,
            baseline: false,
            samples: 0,
            max_new_tokens: Some(9),
        },
        checkpoint: CheckpointConfig {
            every_steps: Some(25),
            keep: 1,
        },
        report: ReportConfig {
            mistakes: 0,
            tensorboard: true,
        },
    }
}

/// What KTO has no use for.
fn of_dpo() -> RunConfig {
    RunConfig {
        preference: PreferenceConfig {
            label_smoothing: 0.1,
            sft_weight: 0.5,
            ..Default::default()
        },
        ..of_task(Task::TextPreference)
    }
}

/// Weights that stay packed are for adapters.
fn of_packed() -> RunConfig {
    let mut packed = of_task(Task::TextGeneration);
    packed.peft.method = Method::Lora;
    packed.model.quantized = true;
    packed
}

fn configurations() -> Vec<RunConfig> {
    let mut all_linear = RunConfig::default().resolved();
    all_linear.peft.target_modules = TargetModules::AllLinear;
    all_linear.data.text = Some(Column::Name("the text".to_owned()));
    vec![RunConfig::default(), all_linear, of_dpo(), of_packed()]
        .into_iter()
        .chain(Task::ALL.iter().copied().map(of_task))
        .collect()
}

/// Nothing default but what the task has no use for.
fn of_task(task: Task) -> RunConfig {
    let (default, mut config) = (RunConfig::default(), nothing_default());
    config.task = task;
    if task.kind() != Kind::MultiLabel {
        config.data.label_separator = default.data.label_separator;
    }
    if task.kind() != Kind::Generation {
        config.data.loss_on = default.data.loss_on;
        config.eval.answers = default.eval.answers;
        config.eval.baseline = default.eval.baseline;
        config.eval.samples = default.eval.samples;
        config.eval.max_new_tokens = default.eval.max_new_tokens;
    }
    if !matches!(
        task.kind(),
        Kind::Generation | Kind::Tags | Kind::Extraction
    ) {
        config.data.overlap = default.data.overlap;
    }
    if task.kind() != Kind::Extraction {
        config.data.max_answer_length = default.data.max_answer_length;
    }
    if task.kind() != Kind::Choice {
        config.data.choices = default.data.choices;
    }
    if matches!(task.kind(), Kind::Tags | Kind::Extraction) {
        config.model.pooling = default.model.pooling;
    }
    if task.kind() == Kind::Tags {
        config.data.text_pair = default.data.text_pair.clone();
    }
    if task.kind().problem() == rekindle_models::Problem::NextToken {
        config.model.pooling = default.model.pooling;
        config.data.text_pair = default.data.text_pair;
    }
    if task.kind() == Kind::Generation {
        // Two names, or none.
        (config.data.text, config.data.label) = (None, None);
    }
    if task.kind() == Kind::Preference {
        config.data.text = None;
        config.data.text_pair = None;
        config.data.label = None;
    } else {
        config.preference = default.preference;
    }
    if task.kind() == Kind::Embedding {
        // Batches are compared whole.
        config.train.shards = None;
    } else {
        config.embedding = default.embedding;
    }
    if task.kind().problem() != rekindle_models::Problem::NextToken {
        config.model.add_tokens = default.model.add_tokens;
        config.data.date = default.data.date;
    }
    if task.kind() != Kind::Regression {
        config.train.standardize_targets = default.train.standardize_targets;
    }
    if task.kind() != Kind::Classification {
        config.train.label_smoothing = default.train.label_smoothing;
        config.train.class_weights = default.train.class_weights;
        config.train.weighted_sampling = default.train.weighted_sampling;
    }
    match task.modality() {
        Modality::Text => {
            config.images = default.images;
            config.peft.unfreeze_every = None;
            config.train.layer_decay = None;
            // bf16 is for the CPU.
            config.device = default.device;
        }
        Modality::Images => {
            config.train.gradient_checkpointing = None;
            config.model.pooling = default.model.pooling;
            config.peft.label_texts = None;
            config.data.text_pair = None;
            config.data.max_length = default.data.max_length;
            config.train.group_by_length = default.train.group_by_length;
            config.train.precision = default.train.precision;
        }
    }
    config
}

#[test]
fn writing_then_reading_is_identity() {
    for config in configurations() {
        config.validate().unwrap();
        assert_eq!(parse(&config.to_toml(), &[]).unwrap(), config);
        assert_eq!(parse(&commented(&config, &[]), &[]).unwrap(), config);
        // What serde writes reads the same, so other formats of it hold the same.
        let serde = toml::to_string(&config).unwrap();
        assert_eq!(parse(&serde, &[]).unwrap(), config);
    }
}

#[test]
fn the_round_trip_covers_every_setting() {
    let default = RunConfig::default();
    let tasks: Vec<RunConfig> = (Task::ALL.iter().copied().map(of_task))
        .chain([of_dpo(), of_packed()])
        .collect();
    let same: Vec<_> = keys()
        .filter(|key| tasks.iter().all(|t| key.write(t) == key.write(&default)))
        .map(Key::path)
        .collect();
    // `data.train` excludes the one, `train.warmup_steps` the other.
    assert_eq!(same, ["data.dataset", "train.warmup_ratio"]);
}

#[test]
fn the_table_is_sound() {
    let default = RunConfig::default();
    let mut paths = HashSet::new();
    for key in keys() {
        let path = key.path();
        assert!(paths.insert(path.clone()), "{path} twice");
        assert!(!key.docs.is_empty(), "{path} has no documentation");
        let shown = key.write(&default).map(|value| toml_text(&value));
        let shown = shown.or(key.example.map(str::to_owned)).unwrap();
        let value: Value = shown.parse().unwrap();
        let mut config = RunConfig::default();
        assert!(key.read(&mut config, &value), "{path} refuses {shown}");
        assert!(key.write(&config).is_some(), "{path} loses its value");
    }
    for section in SECTIONS {
        let mut names: Vec<_> = section.keys.iter().map(|key| key.name).collect();
        names.extend(section.keys.iter().flat_map(|key| key.aka));
        let distinct: HashSet<_> = names.iter().collect();
        assert_eq!(distinct.len(), names.len(), "twice in [{}]", section.name);
    }
}

#[test]
fn every_setting_stands_in_the_commented_file_and_the_reference() {
    let (file, reference) = (commented(&RunConfig::default(), &[]), reference());
    for key in keys() {
        let line = format!("\n#{} = ", key.name);
        assert!(file.contains(&line), "{} in the file", key.path());
        let row = format!("\n| `{}` |", key.name);
        assert!(reference.contains(&row), "{} in the reference", key.path());
    }
    assert!(file.lines().all(|line| line.chars().count() <= 100));
}

#[test]
fn the_commented_file_sets_what_differs_and_shows_notes() {
    let mut config = RunConfig::default();
    config.data.text = Some(Column::Name("body".to_owned()));
    config.train.epochs = Some(5.0);
    let notes = [
        ("", "tickets.csv: 120 rows\n2 labels"),
        ("data.text", "the longest column"),
    ];
    let text = commented(&config, &notes);
    assert!(text.starts_with("# tickets.csv: 120 rows\n# 2 labels\n\n"));
    assert!(text.contains("# the longest column\ntext = \"body\"\n"));
    let set: Vec<_> = text
        .lines()
        .filter(|line| line.contains(" = ") && !line.starts_with('#'))
        .collect();
    assert_eq!(set, ["text = \"body\"", "epochs = 5.0"]);
}

#[test]
fn overrides_go_over_the_file_and_need_no_quotes() {
    let config = parse(
        "[train]\nepochs = 1\n[model]\nname = \"a\"\n",
        &[
            "train.epochs=2",
            "train.epochs = 4",
            "model.name=1234",
            "data.text=3",
            "data.label='3'",
            "data.delimiter=;",
            "peft.target_modules=[\"query\", \"key\"]",
            "peft.modules_to_save=[]",
            "eval.every=20",
            "output_dir=runs/a=b",
            "device=cuda",
        ],
    )
    .unwrap();
    assert_eq!(config.train.epochs, Some(4.0));
    assert_eq!(config.model.name, "1234");
    assert_eq!(config.data.text, Some(Column::Index(3)));
    let label = Columns(vec![Column::Name("3".to_owned())]);
    assert_eq!(config.data.label, Some(label));
    assert_eq!(config.data.delimiter, Some(';'));
    let expected = TargetModules::Suffixes(vec!["query".to_owned(), "key".to_owned()]);
    assert_eq!(config.peft.target_modules, expected);
    assert_eq!(config.eval.every, EvalEvery::Steps(20));
    assert_eq!(config.output_dir, Some(PathBuf::from("runs/a=b")));
    assert_eq!(config.device, Device::Cuda(0));
}

#[test]
fn an_override_displaces_what_it_excludes_in_the_file() {
    let file = "[data]\ntrain = \"a.csv\"\nvalidation = \"b.csv\"\n[train]\nwarmup_ratio = 0.1\n";
    let config = parse(file, &["data.dataset=intents", "train.warmup_steps=5"]).unwrap();
    assert_eq!(config.data_source(), DataSource::Dataset("intents"));
    assert_eq!(
        (config.data.validation, config.train.warmup_ratio),
        (None, None)
    );

    let config = parse("[data]\ndataset = \"intents\"\n", &["data.train=c.csv"]).unwrap();
    let files = DataSource::Files {
        train: Path::new("c.csv"),
        validation: None,
        test: None,
    };
    assert_eq!(config.data_source(), files);
    assert!(parse("", &["data.dataset=intents", "data.train=c.csv"]).is_err());
}

#[test]
fn a_flag_is_called_by_its_own_name() {
    let flag = Override::flag("--device", "device", "gpu");
    let errors = RunConfig::load(None, &[flag]).unwrap_err();
    let expected = r#"1 mistake in the configuration:
  1. --device: `device`: expected "auto", "cpu", "wgpu", "wgpu:N", "cuda" or "cuda:N", found "gpu"
     hint: did you mean "wgpu"?"#;
    assert_eq!(errors.to_string(), expected);
}

#[test]
fn a_configuration_from_code_is_checked_too() {
    let mut config = RunConfig {
        seed: u64::MAX,
        ..Default::default()
    };
    config.train.epochs = Some(f64::NAN);
    config.train.warmup_steps = Some(3);
    config.train.warmup_ratio = Some(0.1);
    let expected = r#"3 mistakes in the configuration:
  1. RunConfig: `seed`: expected a whole number of at least 0, found "18446744073709551615"
  2. RunConfig: `train.epochs`: expected a number above 0, found nan
  3. RunConfig: `train.warmup_steps` and `train.warmup_ratio` exclude each other
     hint: keep one of the two"#;
    assert_eq!(config.validate().unwrap_err().to_string(), expected);
}

#[test]
fn files_that_cannot_be_read_are_named() {
    let directory = tempfile::tempdir().unwrap();
    let missing = directory.path().join("missing.toml");
    let errors = RunConfig::load(Some(&missing), &[Override::set("train.lr=1")]).unwrap_err();
    assert_eq!(errors.mistakes.len(), 2, "{errors}");
    assert_eq!(errors.mistakes[0].place, Place::File { path: missing });
    let problem = &errors.mistakes[0].problem;
    assert!(matches!(problem, ConfigProblem::Unreadable { .. }));

    let latin = directory.path().join("latin.toml");
    std::fs::write(&latin, b"seed = 1\noutput_dir = \"caf\xe9\"\n").unwrap();
    let errors = RunConfig::load(Some(&latin), &[]).unwrap_err();
    let expected = format!(
        "1 mistake in the configuration:\n  1. {}:2:18: not valid TOML: expected UTF-8, \
         found `output_dir = \"caf\u{fffd}\"`\n     hint: save the file as UTF-8",
        latin.display()
    );
    assert_eq!(errors.to_string(), expected);
}

#[test]
fn a_run_file_of_fifty_megabytes_is_none() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("run.toml");
    std::fs::write(&path, "seed = 1\n".repeat(200_000)).unwrap();
    let errors = RunConfig::load(Some(&path), &[]).unwrap_err().to_string();
    assert!(errors.contains("longer than 1 MiB"), "{errors}");
}

#[test]
fn what_is_unset_follows_from_the_rest() {
    let mut config = RunConfig::default();
    for (method, rate) in [
        (Method::Lora, 1e-3),
        (Method::Full, 5e-5),
        (Method::Head, 5e-3),
        (Method::Bitfit, 1e-3),
    ] {
        config.peft.method = method;
        assert_eq!(config.learning_rate(), rate);
    }
    config.peft.method = Method::Lora;
    assert_eq!(config.head_learning_rate(), Some(1e-2));
    config.train.learning_rate = Some(1e-3);
    assert_eq!(config.head_learning_rate(), None);
    config.train.learning_rate = None;
    config.train.warmup_steps = Some(3);
    assert_eq!(config.resolved().train.warmup_ratio, None);
    config.resolved().validate().unwrap();
}

#[test]
fn the_output_directory_is_named_after_model_and_data() {
    for (model, dataset, train, expected) in [
        ("minilm", None, None, "runs/minilm-intents"),
        ("org/Big Model", Some("sst2"), None, "runs/Big-Model-sst2"),
        ("a/b/", Some("sets/mine/card.toml"), None, "runs/b-mine"),
        ("a", Some("sets/mine.toml"), None, "runs/a-mine"),
        ("a", None, Some("tickets.csv"), "runs/a-tickets"),
        ("a", None, Some("data/tickets/train.tsv"), "runs/a-tickets"),
        ("a", None, Some("train.tsv"), "runs/a-train"),
    ] {
        let mut config = RunConfig::default();
        config.model.name = model.to_owned();
        config.data.dataset = dataset.map(str::to_owned);
        config.data.train = train.map(PathBuf::from);
        assert_eq!(config.output_dir(), Path::new(expected));
    }
    let config = RunConfig {
        output_dir: Some(PathBuf::from("here")),
        ..Default::default()
    };
    assert_eq!(config.output_dir(), Path::new("here"));
}

#[test]
fn the_run_files_of_the_repository_are_valid() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../configs");
    let mut count = 0;
    for entry in std::fs::read_dir(&directory).unwrap() {
        let path = entry.unwrap().path();
        RunConfig::load(Some(&path), &[]).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let command = format!("cargo xtask finetune --config configs/{name}\n");
        assert!(text.contains(&command), "{name} does not give its command");
        assert!(
            text.contains("\n# result: "),
            "{name} does not say its result"
        );
        count += 1;
    }
    assert!(count >= 4);
}

/// A run file, overrides, and what is said about them.
struct Bad {
    file: &'static str,
    sets: &'static [&'static str],
    says: &'static str,
}

#[test]
fn bad_input_is_answered_with_place_and_remedy() {
    for Bad { file, sets, says } in BAD {
        let said = match parse(file, sets) {
            Ok(_) => "nothing".to_owned(),
            Err(errors) => errors.to_string(),
        };
        assert_eq!(said, *says, "\nfor {file:?} and {sets:?}");
    }
}

#[rustfmt::skip]
const BAD: &[Bad] = &[
    Bad { file: "[train]\nlr = 1e-3\n", sets: &[], says: r#"1 mistake in the configuration:
  1. run.toml:2:1: unknown key `train.lr`
     hint: did you mean `train.learning_rate`?"# },
    Bad { file: "[train]\nepohcs = 3\n", sets: &[], says: r#"1 mistake in the configuration:
  1. run.toml:2:1: unknown key `train.epohcs`
     hint: did you mean `train.epochs`?"# },
    Bad { file: "learning_rate = 1e-3\n", sets: &[], says: r#"1 mistake in the configuration:
  1. run.toml:1:1: unknown key `learning_rate`
     hint: did you mean `train.learning_rate`?"# },
    Bad { file: "[model]\nepochs = 3\n", sets: &[], says: r#"1 mistake in the configuration:
  1. run.toml:2:1: unknown key `model.epochs`
     hint: did you mean `train.epochs`?"# },
    Bad { file: "[train]\nbatchsize = 8\nmax_seq_length = 64\n", sets: &[], says: r#"2 mistakes in the configuration:
  1. run.toml:2:1: unknown key `train.batchsize`
     hint: did you mean `train.batch_size`?
  2. run.toml:3:1: unknown key `train.max_seq_length`
     hint: did you mean `data.max_length`?"# },
    Bad { file: "[train]\nfrobnicate = 1\n", sets: &[], says: r#"1 mistake in the configuration:
  1. run.toml:2:1: unknown key `train.frobnicate`
     hint: the keys of [train] are epochs, max_steps, batch_size, gradient_accumulation_steps, shards, learning_rate, head_learning_rate, layer_decay, weight_decay, beta1, beta2, epsilon, max_grad_norm, schedule, warmup_ratio, warmup_steps, label_smoothing, class_weights, standardize_targets, weighted_sampling, precision, gradient_checkpointing, ema_decay, cache_features, cache_features_mb, shuffle, group_by_length, log_every_steps"# },
    Bad { file: "frobnicate = 1\n", sets: &[], says: r#"1 mistake in the configuration:
  1. run.toml:1:1: unknown key `frobnicate`
     hint: the keys above all sections are task, seed, device, output_dir; `rekindle config` lists all settings"# },
    Bad { file: "[trian]\nepochs = 1\n", sets: &[], says: r#"1 mistake in the configuration:
  1. run.toml:1:2: unknown section [trian]
     hint: did you mean [train]?"# },
    Bad { file: "[optimizer]\nlr = 1\n", sets: &[], says: r#"1 mistake in the configuration:
  1. run.toml:1:2: unknown section [optimizer]
     hint: the sections are model, data, images, preference, embedding, peft, train, eval, checkpoint, report"# },
    Bad { file: "train = 3\n", sets: &[], says: r#"1 mistake in the configuration:
  1. run.toml:1:9: `train` is a section: expected its keys, found 3
     hint: write a line `[train]` and its keys below"# },
    Bad { file: "[train]\nfp16 = true\n", sets: &[], says: r#"1 mistake in the configuration:
  1. run.toml:2:1: unknown key `train.fp16`
     hint: did you mean `train.precision`?"# },
    Bad { file: "[train]\nprecision = \"tf32\"\n", sets: &["device=cpu"], says: r#"1 mistake in the configuration:
  1. run.toml:2:13: `train.precision` = "tf32" is for NVIDIA GPUs
     hint: set it to "f32", or leave it out"# },
    Bad { file: "task = \"image-classification\"\n", sets: &["train.precision=bf16"], says: r#"1 mistake in the configuration:
  1. --set: `train.precision` = "bf16" is for text
     hint: set it to "f32", or leave it out"# },
    Bad { file: "[train]\nepochs = \"3\"\n", sets: &[], says: r#"1 mistake in the configuration:
  1. run.toml:2:10: `train.epochs`: expected a number above 0, found "3"
     hint: write it without quotes: 3"# },
    Bad { file: "[train]\nepochs = 0\n", sets: &[], says: r#"1 mistake in the configuration:
  1. run.toml:2:10: `train.epochs`: expected a number above 0, found 0"# },
    Bad { file: "[train]\nepochs = nan\n", sets: &[], says: r#"1 mistake in the configuration:
  1. run.toml:2:10: `train.epochs`: expected a number above 0, found nan"# },
    Bad { file: "[train]\nbatch_size = 32.0\n", sets: &[], says: r#"1 mistake in the configuration:
  1. run.toml:2:14: `train.batch_size`: expected a whole number of at least 1, found 32.0
     hint: write it without the point: 32"# },
    Bad { file: "[train]\nbatch_size = -4\n", sets: &[], says: r#"1 mistake in the configuration:
  1. run.toml:2:14: `train.batch_size`: expected a whole number of at least 1, found -4"# },
    Bad { file: "[train]\nbatch_size = 100000000000000000000\n", sets: &[], says: r#"1 mistake in the configuration:
  1. run.toml:2:14: `train.batch_size`: expected a whole number of at least 1, found 1e20"# },
    Bad { file: "[train]\nshuffle = \"yes\"\n", sets: &[], says: r#"1 mistake in the configuration:
  1. run.toml:2:11: `train.shuffle`: expected true or false, found "yes""# },
    Bad { file: "[train]\nshuffle = 1\n", sets: &[], says: r#"1 mistake in the configuration:
  1. run.toml:2:11: `train.shuffle`: expected true or false, found 1"# },
    Bad { file: "[train]\nschedule = \"cosin\"\n", sets: &[], says: r#"1 mistake in the configuration:
  1. run.toml:2:12: `train.schedule`: expected one of "linear", "cosine", "constant", found "cosin"
     hint: did you mean "cosine"?"# },
    Bad { file: "[train]\nschedule = \"polynomial\"\n", sets: &[], says: r#"1 mistake in the configuration:
  1. run.toml:2:12: `train.schedule`: expected one of "linear", "cosine", "constant", found "polynomial""# },
    Bad { file: "[train]\nbeta1 = 1.0\n", sets: &[], says: r#"1 mistake in the configuration:
  1. run.toml:2:9: `train.beta1`: expected a number of at least 0 and below 1, found 1.0"# },
    Bad { file: "task = \"object-detection\"\n", sets: &[], says: r#"1 mistake in the configuration:
  1. run.toml:1:8: `task`: expected one of "text-classification", "text-regression", "text-multi-label", "token-classification", "question-answering", "multiple-choice", "text-generation", "text-preference", "text-embedding", "image-classification", "image-multi-label", found "object-detection""# },
    Bad { file: "seed = -1\n", sets: &[], says: r#"1 mistake in the configuration:
  1. run.toml:1:8: `seed`: expected a whole number of at least 0, found -1"# },
    Bad { file: "device = \"gpu\"\n", sets: &[], says: r#"1 mistake in the configuration:
  1. run.toml:1:10: `device`: expected "auto", "cpu", "wgpu", "wgpu:N", "cuda" or "cuda:N", found "gpu"
     hint: did you mean "wgpu"?"# },
    Bad { file: "device = \"cuda:x\"\n", sets: &[], says: r#"1 mistake in the configuration:
  1. run.toml:1:10: `device`: expected "auto", "cpu", "wgpu", "wgpu:N", "cuda" or "cuda:N", found "cuda:x"
     hint: did you mean "cuda"?"# },
    Bad { file: "output_dir = 2026-01-01\n", sets: &[], says: r#"1 mistake in the configuration:
  1. run.toml:1:14: `output_dir`: expected a path in quotes, found 2026-01-01"# },
    Bad { file: "[model]\nname = \"\"\n", sets: &[], says: r#"1 mistake in the configuration:
  1. run.toml:2:8: `model.name`: expected a text in quotes, not empty, found """# },
    Bad { file: "[model]\ndropout = 1.5\n", sets: &[], says: r#"1 mistake in the configuration:
  1. run.toml:2:11: `model.dropout`: expected a number of at least 0 and below 1, found 1.5"# },
    Bad { file: "[data]\ndelimiter = \"||\"\n", sets: &[], says: r#"1 mistake in the configuration:
  1. run.toml:2:13: `data.delimiter`: expected one ASCII character in quotes, such as "," or "\t", found "||""# },
    Bad { file: "[data]\ntext = -1\n", sets: &[], says: r#"1 mistake in the configuration:
  1. run.toml:2:8: `data.text`: expected a column's name in quotes, or its place, the first being 0, found -1
     hint: write it in quotes: "-1""# },
    Bad { file: "[data]\ntext = [\"a\"]\n", sets: &[], says: r#"1 mistake in the configuration:
  1. run.toml:2:8: `data.text`: expected a column's name in quotes, or its place, the first being 0, found ["a"]
     hint: write it without brackets: "a""# },
    Bad { file: "[data]\nmax_length = 1\n", sets: &[], says: r#"1 mistake in the configuration:
  1. run.toml:2:14: `data.max_length`: expected a whole number of at least 3, found 1"# },
    Bad { file: "[data]\non_bad_example = \"ignore\"\n", sets: &[], says: r#"1 mistake in the configuration:
  1. run.toml:2:18: `data.on_bad_example`: expected one of "error", "skip", found "ignore""# },
    Bad { file: "[peft]\nr = 0\n", sets: &[], says: r#"1 mistake in the configuration:
  1. run.toml:2:5: `peft.r`: expected a whole number of at least 1, found 0"# },
    Bad { file: "[peft]\ntarget_modules = []\n", sets: &[], says: r#"1 mistake in the configuration:
  1. run.toml:2:18: `peft.target_modules`: expected a list of one or more layer names, a regular expression, "all-linear" or "auto", found []"# },
    Bad { file: "[peft]\ntarget_modules = \"query,value\"\n", sets: &[], says: r#"1 mistake in the configuration:
  1. run.toml:2:18: `peft.target_modules`: expected a list of one or more layer names, a regular expression, "all-linear" or "auto", found "query,value"
     hint: write a list: ["query", "value"]"# },
    Bad { file: "[peft]\ntarget_modules = [\"query\", 3]\n", sets: &[], says: r#"1 mistake in the configuration:
  1. run.toml:2:18: `peft.target_modules`: expected a list of one or more layer names, a regular expression, "all-linear" or "auto", found ["query", 3]"# },
    Bad { file: "[peft]\nfreeze = \"embeddings.*\"\n", sets: &[], says: r#"1 mistake in the configuration:
  1. run.toml:2:10: `peft.freeze`: expected a list of texts, none of them empty, found "embeddings.*"
     hint: write a list: ["embeddings.*"]"# },
    Bad { file: "[peft]\nlayers_to_transform = [1, -2]\n", sets: &[], says: r#"1 mistake in the configuration:
  1. run.toml:2:23: `peft.layers_to_transform`: expected a list of one or more whole numbers, each of at least 0, found [1, -2]"# },
    Bad { file: "[peft]\nlayers_to_transform = 3\n", sets: &[], says: r#"1 mistake in the configuration:
  1. run.toml:2:23: `peft.layers_to_transform`: expected a list of one or more whole numbers, each of at least 0, found 3
     hint: write a list: [3]"# },
    Bad { file: "[peft]\nmethod = \"LoRA\"\n", sets: &[], says: r#"1 mistake in the configuration:
  1. run.toml:2:10: `peft.method`: expected one of "lora", "full", "head", "bitfit", "setfit", found "LoRA"
     hint: did you mean "lora"?"# },
    Bad { file: "[eval]\nevery = 0\n", sets: &[], says: r#"1 mistake in the configuration:
  1. run.toml:2:9: `eval.every`: expected "auto", "epoch", "never", or a whole number of at least 1 (optimizer steps), found 0"# },
    Bad { file: "[eval]\nevery = \"step\"\n", sets: &[], says: r#"1 mistake in the configuration:
  1. run.toml:2:9: `eval.every`: expected "auto", "epoch", "never", or a whole number of at least 1 (optimizer steps), found "step""# },
    Bad { file: "[eval]\nmetric = \"f1\"\n", sets: &[], says: r#"1 mistake in the configuration:
  1. run.toml:2:10: `eval.metric`: expected one of "accuracy", "macro_f1", "weighted_f1", "entity_f1", "answer_f1", "exact_match", "mcc", "loss", "map", "micro_f1", "exact", "mse", "mae", "pearson", "spearman", "r2", "perplexity", "token_accuracy", "reward_accuracy", "reward_margin", "reward_chosen", "reward_rejected", "logp_chosen", "logp_rejected", "ndcg_at_10", "mrr_at_10", "accuracy_at_1", found "f1"
     hint: did you mean "macro_f1"?"# },
    Bad { file: "[train.epochs]\nx = 1\n", sets: &[], says: r#"1 mistake in the configuration:
  1. run.toml:1:1: `train.epochs`: expected a number above 0, found a table"# },
    Bad { file: "[train]\nepochs = 1\nepochs = 2\n", sets: &[], says: r#"1 mistake in the configuration:
  1. run.toml:3:1: not valid TOML: duplicate key, found `epochs = 2`"# },
    Bad { file: "[train]\nepochs = \nbatch_size 3\n", sets: &[], says: r#"2 mistakes in the configuration:
  1. run.toml:2:10: not valid TOML: string values must be quoted, expected literal string, found `epochs =`
  2. run.toml:3:12: not valid TOML: key with no value, expected `=`, found `batch_size 3`"# },
    Bad { file: "[train\nepochs = 3\n", sets: &[], says: r#"1 mistake in the configuration:
  1. run.toml:1:7: not valid TOML: unclosed table, expected `]`, found `[train`"# },
    Bad { file: "[model]\nname = \"minilm\n[train]\nepohcs = 3\n", sets: &[], says: r#"2 mistakes in the configuration:
  1. run.toml:2:15: not valid TOML: invalid basic string, expected `"`, found `name = "minilm`
  2. run.toml:4:1: unknown key `train.epohcs`
     hint: did you mean `train.epochs`?"# },
    Bad { file: "", sets: &["train.lr=1e-3"], says: r#"1 mistake in the configuration:
  1. --set: unknown key `train.lr`
     hint: did you mean `train.learning_rate`?"# },
    Bad { file: "", sets: &["train.epochs"], says: r#"1 mistake in the configuration:
  1. --set: expected KEY=VALUE, found `train.epochs`
     hint: such as --set train.epochs=3"# },
    Bad { file: "", sets: &["label_smoothing=1"], says: r#"1 mistake in the configuration:
  1. --set: unknown key `label_smoothing`
     hint: did you mean `preference.label_smoothing` or `train.label_smoothing`?"# },
    Bad { file: "", sets: &["train.epochs=many"], says: r#"1 mistake in the configuration:
  1. --set: `train.epochs`: expected a number above 0, found "many""# },
    Bad { file: "", sets: &["train=3"], says: r#"1 mistake in the configuration:
  1. --set: unknown key `train`
     hint: did you mean `data.train`?"# },
    Bad { file: "", sets: &["trian.epochs=3"], says: r#"1 mistake in the configuration:
  1. --set: unknown key `trian.epochs`
     hint: did you mean `train.epochs`?"# },
    Bad { file: "", sets: &["foo.bar.baz=3"], says: r#"1 mistake in the configuration:
  1. --set: unknown key `foo.bar.baz`
     hint: the sections are model, data, images, preference, embedding, peft, train, eval, checkpoint, report"# },
    Bad { file: "", sets: &["=3"], says: r#"1 mistake in the configuration:
  1. --set: expected KEY=VALUE, found `=3`
     hint: such as --set train.epochs=3"# },
    Bad { file: "", sets: &["train.epochs="], says: r#"1 mistake in the configuration:
  1. --set: `train.epochs`: expected a number above 0, found """# },
    Bad { file: "", sets: &["peft.target_modules=query,value"], says: r#"1 mistake in the configuration:
  1. --set: `peft.target_modules`: expected a list of one or more layer names, a regular expression, "all-linear" or "auto", found "query,value"
     hint: write a list: ["query", "value"]"# },
    Bad { file: "[data]\ndataset = \"intents\"\ntrain = \"a.csv\"\n", sets: &[], says: r#"1 mistake in the configuration:
  1. run.toml:2:11: `data.dataset` and `data.train` exclude each other
     hint: a dataset brings its own files: keep either `dataset`, or `train`, `validation` and `test`"# },
    Bad { file: "[data]\ntest = \"a.csv\"\n", sets: &[], says: r#"1 mistake in the configuration:
  1. run.toml:2:8: `data.test` is set without `data.train`
     hint: set `data.train` to the file of training examples"# },
    Bad { file: "[data]\nvalidation_fraction = 0.6\ntest_fraction = 0.5\n", sets: &[], says: r#"1 mistake in the configuration:
  1. run.toml:3:17: `data.validation_fraction` = 0.6 and `data.test_fraction` = 0.5 leave nothing to train on
     hint: together they must be below 1"# },
    Bad { file: "[data]\ntext = \"a\"\ntext_pair = \"a\"\n", sets: &[], says: r#"1 mistake in the configuration:
  1. run.toml:3:13: `data.text_pair` is the same column as `data.text`
     hint: leave `text_pair` out where an example has one text"# },
    Bad { file: "[data]\ntext = \"a\"\nlabel = \"a\"\n", sets: &[], says: r#"1 mistake in the configuration:
  1. run.toml:3:9: `data.label` is the same column as `data.text`
     hint: name the column that holds the label"# },
    Bad { file: "[data]\nheader = false\ntext = \"a\"\n", sets: &[], says: r#"1 mistake in the configuration:
  1. run.toml:2:10: `data.text` = "a" names a column, but `data.header` = false says that columns have no names
     hint: give the column's place (the first is 0), or leave `header` out"# },
    Bad { file: "[data]\nformat = \"jsonl\"\ndelimiter = \",\"\n", sets: &[], says: r#"1 mistake in the configuration:
  1. run.toml:3:13: `data.delimiter` says nothing about files of the format "jsonl"
     hint: `header`, `delimiter` and `quoting` are for "csv" and "tsv": leave them out"# },
    Bad { file: "[peft]\nfreeze = [\"a.*\"]\nunfreeze = [\"a.*\"]\n", sets: &[], says: r#"1 mistake in the configuration:
  1. run.toml:3:12: "a.*" stands in both `peft.freeze` and `peft.unfreeze`
     hint: keep it in one of the two"# },
    Bad { file: "[train]\nwarmup_ratio = 0.1\nwarmup_steps = 10\n", sets: &[], says: r#"1 mistake in the configuration:
  1. run.toml:3:16: `train.warmup_steps` and `train.warmup_ratio` exclude each other
     hint: keep one of the two"# },
    Bad { file: "", sets: &["train.warmup_ratio=0.1", "train.warmup_steps=10"], says: r#"1 mistake in the configuration:
  1. --set: `train.warmup_steps` and `train.warmup_ratio` exclude each other
     hint: keep one of the two"# },
    Bad { file: "[train]\nwarmup_steps = 10\nmax_steps = 10\n", sets: &[], says: r#"1 mistake in the configuration:
  1. run.toml:2:16: `train.warmup_steps` = 10 lasts the whole run of `train.max_steps` = 10
     hint: make the warmup shorter than the run"# },
    Bad { file: "[eval]\nevery = \"never\"\nearly_stopping_patience = 2\n", sets: &[], says: r#"1 mistake in the configuration:
  1. run.toml:3:27: `eval.early_stopping_patience` is set, but `eval.every` = "never" leaves nothing to judge by
     hint: set `eval.every` to "epoch" or to a number of steps"# },
    Bad { file: "[data]\ntrain = \"a.csv\"\nvalidation_fraction = 0\n", sets: &[], says: r#"1 mistake in the configuration:
  1. run.toml:3:23: no validation examples: `data.validation` is unset and `data.validation_fraction` = 0
     hint: set one of the two, or `eval.every` = "never""# },
    Bad { file: "[train]\r\nepochs = 3\r\nshufle = true\r\n", sets: &[], says: r#"1 mistake in the configuration:
  1. run.toml:3:1: unknown key `train.shufle`
     hint: did you mean `train.shuffle`?"# },
    Bad { file: "\u{feff}[peft]\nr = \"8\"\n", sets: &[], says: r#"1 mistake in the configuration:
  1. run.toml:2:5: `peft.r`: expected a whole number of at least 1, found "8"
     hint: write it without quotes: 8"# },
    Bad { file: "[train]\nepochs = 1\n[model\nname = 3\n[eval]\nevery = 0\n", sets: &[], says: r#"2 mistakes in the configuration:
  1. run.toml:3:7: not valid TOML: unclosed table, expected `]`, found `[model`
  2. run.toml:6:9: `eval.every`: expected "auto", "epoch", "never", or a whole number of at least 1 (optimizer steps), found 0"# },
    Bad { file: "[checkpoint]\nsteps = 5\nsave_total_limit = 3\n", sets: &[], says: r#"2 mistakes in the configuration:
  1. run.toml:2:1: unknown key `checkpoint.steps`
     hint: did you mean `checkpoint.every_steps`?
  2. run.toml:3:1: unknown key `checkpoint.save_total_limit`
     hint: did you mean `checkpoint.keep`?"# },
    Bad { file: "[evl]\nbatch_size = 4\n", sets: &["evl.batch_size=4"], says: r#"2 mistakes in the configuration:
  1. run.toml:1:2: unknown section [evl]
     hint: did you mean [eval]?
  2. --set: unknown key `evl.batch_size`
     hint: did you mean `train.batch_size` or `eval.batch_size`?"# },
    Bad { file: "[data]\nvalidation = 3\ntrain = \"a.csv\"\nvalidation_fraction = 0.0\n", sets: &[], says: r#"1 mistake in the configuration:
  1. run.toml:2:14: `data.validation`: expected a path in quotes, found 3
     hint: write it in quotes: "3""# },
    Bad { file: "sed = 1\n\n[train]\nlr = 1\nepochs = -1\nwarmup_steps = 3\nwarmup_ratio = 0.1\n\n[peft]\nr = 0\nmethod = \"lorra\"\n", sets: &["device=tpu", "train.epochs"], says: r#"8 mistakes in the configuration:
  1. run.toml:1:1: unknown key `sed`
     hint: did you mean `seed`?
  2. run.toml:4:1: unknown key `train.lr`
     hint: did you mean `train.learning_rate`?
  3. run.toml:5:10: `train.epochs`: expected a number above 0, found -1
  4. run.toml:6:16: `train.warmup_steps` and `train.warmup_ratio` exclude each other
     hint: keep one of the two
  5. run.toml:10:5: `peft.r`: expected a whole number of at least 1, found 0
  6. run.toml:11:10: `peft.method`: expected one of "lora", "full", "head", "bitfit", "setfit", found "lorra"
     hint: did you mean "lora"?
  7. --set: `device`: expected "auto", "cpu", "wgpu", "wgpu:N", "cuda" or "cuda:N", found "tpu"
     hint: did you mean "cpu"?
  8. --set: expected KEY=VALUE, found `train.epochs`
     hint: such as --set train.epochs=3"# },
];

#[test]
fn days_are_those_of_the_calendar() {
    // datetime(y, m, d, 12, tzinfo=timezone.utc).timestamp()
    for (day, expect) in [
        ("1970-01-01", Some(43_200)),
        ("2000-02-29", Some(951_825_600)),
        ("2024-12-31", Some(1_735_646_400)),
        ("2026-03-01", Some(1_772_366_400)),
        ("2026-02-29", None),
        ("2026-13-01", None),
        ("2026-00-10", None),
        ("2026-1-01", None),
        ("26-01-01", None),
        ("2026-01-32", None),
        ("2026-01", None),
    ] {
        let set = format!("data.date={day}");
        let found = parse("task = \"text-generation\"", &[&set]);
        let found = found.ok().and_then(|config| config.data.date);
        assert_eq!(found.map(Date::noon), expect, "{day}");
    }
    let today = Date::today();
    let set = format!("data.date={today}");
    let again = parse("task = \"text-generation\"", &[&set]).unwrap();
    assert_eq!(again.data.date, Some(today));
}

#[test]
fn few_pictures_leave_batch_norms_and_few_validation_examples_choose_nothing() {
    let few = |text: &str, examples: usize| parse(text, &[]).unwrap().freezes_batch_norms(examples);
    let pictures = "task = \"image-classification\"\n";
    assert!(few(pictures, 1999) && !few(pictures, 2000));
    assert!(!few(&format!("{pictures}peft.method = \"head\""), 60));
    assert!(!few(
        &format!("{pictures}images.batch_norm = \"train\""),
        60
    ));
    assert!(few(
        &format!("{pictures}images.batch_norm = \"frozen\""),
        90_000
    ));
    assert!(!few(&format!("{pictures}peft.unfreeze = [\"*\"]"), 60));
    assert!(!few("", 60));

    let best = |text: &str, examples: usize| parse(text, &[]).unwrap().saves_best(examples);
    assert!(!best("", 99) && best("", 100));
    for tells in [
        "eval.metric = \"loss\"",
        "eval.early_stopping_patience = 2",
        "eval.choose = \"best\"",
        "task = \"text-regression\"",
        "task = \"text-generation\"",
    ] {
        assert!(best(tells, 12), "{tells}");
    }
    assert!(!best("eval.choose = \"last\"", 5000));
    // Where nothing is said, a new head learns faster than what it stands on.
    let rates = |text: &str| {
        let config = parse(text, &[]).unwrap();
        (config.learning_rate(), config.head_learning_rate())
    };
    assert_eq!(rates(pictures), (1e-4, Some(1e-2)));
    assert_eq!(
        rates(&format!("{pictures}train.learning_rate = 1e-3")),
        (1e-3, None)
    );
    assert_eq!(
        rates(&format!("{pictures}peft.method = \"head\"")),
        (5e-3, None)
    );
    assert_eq!(rates(""), (1e-3, Some(1e-2)));
}

#[test]
fn many_classes_get_more_steps_and_more_adapters() {
    let config = parse("", &[]).unwrap();
    // 32 examples a step.
    assert_eq!(config.epochs(320, 2), 15.0);
    assert_eq!(config.epochs(320, 28), 28.0);
    assert_eq!(config.epochs(64_000, 28), 3.0);
    assert_eq!(
        parse("peft.method = \"head\"", &[]).unwrap().epochs(320, 2),
        30.0
    );
    let evaluations = [3.0, 20.0, 20.5, 53.0].map(|epochs| config.epochs_an_evaluation(epochs));
    assert_eq!(evaluations, [1, 1, 2, 3]);
    assert!(config.adapts_every_linear_layer(224, 28));
    assert!(!config.adapts_every_linear_layer(223, 28));
    assert!(!config.adapts_every_linear_layer(5000, 10));
    let regression = parse("task = \"text-regression\"", &[]).unwrap();
    assert!(!regression.adapts_every_linear_layer(5000, 30));
    let embedding = parse("task = \"text-embedding\"", &[]).unwrap();
    assert!(embedding.adapts_every_linear_layer(40, 0));
    assert_eq!(embedding.learning_rate(), 1e-3);
}

/// Names of transformers, PEFT, TRL, axolotl, Ludwig and timm, with what an error says of them.
#[test]
fn names_of_other_tools_lead_to_ours() {
    let pairs = [
        ("sequence_len", "`data.max_length`"),
        ("max_seq_length", "`data.max_length`"),
        ("max_sequence_length", "`data.max_length`"),
        ("val_set_size", "`data.validation_fraction`"),
        ("img_size", "`images.size`"),
        ("report_to", "`report.tensorboard`"),
        ("push_to_hub", "rekindle push"),
        ("num_train_epochs", "`train.epochs`"),
        ("per_device_train_batch_size", "`train.batch_size`"),
        ("micro_batch_size", "`train.batch_size`"),
        ("lora_r", "`peft.r`"),
        ("lora_target_linear", "`peft.target_modules`"),
        ("learning_rate_scheduler", "`train.schedule`"),
        ("gradient_clipping", "`train.max_grad_norm`"),
        ("warmup_fraction", "`train.warmup_ratio`"),
        ("save_steps", "`checkpoint.every_steps`"),
        ("checkpoint_hist", "`checkpoint.keep`"),
        ("eval_steps", "`eval.every`"),
        ("validation_metric", "`eval.metric`"),
        ("fp16", "`train.precision`"),
        ("bf16", "`train.precision`"),
        ("dataset_path", "`data.train`"),
        ("datasets", "`data.train`"),
        ("dataset_text_field", "`data.text`"),
        ("output_features", "`data.label`"),
        ("num_classes", "those of the training examples"),
        ("sample_packing", "without padding"),
        ("load_best_model_at_end", "`eval.choose`"),
        ("rl_beta", "`preference.beta`"),
        ("roles_to_train", "`data.loss_on`"),
        ("clip_grad", "`train.max_grad_norm`"),
        ("drop_path", "no stochastic depth"),
        ("run_name", "`output_dir`"),
        ("nothing_like_it", "`rekindle config` lists all settings"),
    ];
    for (name, words) in pairs {
        let hint = read::near_path(name);
        assert!(hint.contains(words), "{name}: {hint}");
    }
}

/// The names of options, and names that one setting alone has, need no section behind `--set`.
#[test]
fn overrides_need_no_section_where_it_is_clear() {
    let set = |text: &str| RunConfig::load(None, &[Override::set(text)]);
    assert_eq!(set("lr=2e-3").unwrap().train.learning_rate, Some(2e-3));
    assert_eq!(set("batch-size=4").unwrap().train.batch_size, 4);
    assert_eq!(set("model=there").unwrap().model.name, "there");
    assert_eq!(set("lora_alpha=4").unwrap().peft.lora_alpha, 4.0);
    assert_eq!(set("seed=7").unwrap().seed, 7);
    // Two have this name, and what a run or a model is called is not clear.
    for unclear in ["label_smoothing=0.1", "name=mine"] {
        let error = set(unclear).unwrap_err().to_string();
        assert!(error.contains("unknown key"), "{error}");
    }
}
