//! A run from configuration to tuned model: prepare, plan, train, evaluate, save, report.

use crate::{
    Error, Observer, Plan, RunConfig,
    backend::{OnBackend, on_device},
    config::{self, Method},
    data::{self, TextSplits},
    evaluation,
    job::TextClassification,
    observer::Watched,
    plan::estimate_memory,
    report::{self, EvalPoint, Report, TrainPoint},
    saved::{self, Saved},
};
use burn::{module::AutodiffModule, tensor::backend::BackendTypes};
use rekindle_data::{EncodedSet, Example, LabelMap, Sampler};
use rekindle_hub::{Hub, Resolved, Source};
use rekindle_metrics::ClassificationReport;
use rekindle_models::{
    LoadReport,
    bert::{BertClassifier, BertConfig, Head, NAMES, Pooling},
};
use rekindle_nn::{TuneAutodiff, params, tensors::write_atomically};
use rekindle_peft::{LoraConfig, TargetModules, Trainable};
use rekindle_train::{
    BestMetric, Checkpoint, EarlyStopping, Event, Every, Metrics, OptimizerConfig, RunDir,
    Schedule, Sink, Stopped, TrainConfig, Warmup, read_metrics, truncate_metrics,
};
use std::{
    collections::BTreeSet,
    fs::{File, OpenOptions},
    io::{Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
    sync::Arc,
    time::Instant,
};

/// The classification head's module.
const HEAD: &str = "classifier";

/// A finished run.
#[derive(Debug, Clone)]
pub struct FinishedRun {
    /// The run directory.
    pub dir: PathBuf,
    /// The tuned model: an HF model directory, or a PEFT adapter directory.
    pub final_dir: PathBuf,
    /// The report's page.
    pub report_html: PathBuf,
    /// The figures of the best checkpoint on `split`.
    pub report: ClassificationReport,
    /// `test`, or `validation` where there is no test set, or `train` where there is neither.
    pub split: String,
    /// The step of the best checkpoint.
    pub best_step: Option<u64>,
    /// Steps done.
    pub steps: u64,
    /// Whether it ended early for want of improvement.
    pub stopped_early: bool,
    /// Seconds in all.
    pub seconds: f64,
    /// Peak memory of the process in bytes, where the system tells.
    pub peak_memory: Option<u64>,
}

/// Fine-tunes by a configuration, in a new run directory.
///
/// # Errors
/// Any mistake in configuration, data or model, each with its place; [`Error::Interrupted`] after an orderly stop.
pub fn finetune(config: &RunConfig, observer: &dyn Observer) -> Result<FinishedRun, Error> {
    config.validate()?;
    let config = anchored(config.resolved());
    let dir = config.output_dir();
    on_device(
        config.device,
        Run {
            config: &config,
            dir: &dir,
            resume: false,
            dry: false,
            observer,
        },
    )?
    .ok_or_else(|| Error::Internal("a run without a result".into()))
}

/// What [`finetune`] would do; nothing is written.
///
/// # Errors
/// As [`finetune`].
pub fn plan(config: &RunConfig, observer: &dyn Observer) -> Result<(), Error> {
    config.validate()?;
    let config = anchored(config.resolved());
    let dir = config.output_dir();
    on_device(
        config.device,
        Run {
            config: &config,
            dir: &dir,
            resume: false,
            dry: true,
            observer,
        },
    )
    .map(drop)
}

/// Continues a run from its newest checkpoint, as if it had never stopped.
///
/// # Errors
/// As [`finetune`]; and when there is no checkpoint, or data or model are not what they were.
pub fn resume(dir: &Path, observer: &dyn Observer) -> Result<FinishedRun, Error> {
    let path = dir.join("config.toml");
    if !path.is_file() {
        return Err(Error::ModelDir {
            path: dir.to_owned(),
            reason: "not a run directory: it holds no config.toml".into(),
            hint: "name the directory that `rekindle finetune` printed, runs/<name>".into(),
        });
    }
    let config = RunConfig::load(Some(&path), &[])?;
    on_device(
        config.device,
        Run {
            config: &config,
            dir,
            resume: true,
            dry: false,
            observer,
        },
    )?
    .ok_or_else(|| Error::Internal("a run without a result".into()))
}

/// Paths made absolute, so that the run can be resumed from any directory.
fn anchored(mut config: RunConfig) -> RunConfig {
    let absolute = |path: &Path| std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    for path in [
        &mut config.data.train,
        &mut config.data.validation,
        &mut config.data.test,
    ]
    .into_iter()
    .flatten()
    {
        *path = absolute(path);
    }
    if Path::new(&config.model.name).is_dir() {
        config.model.name = absolute(Path::new(&config.model.name))
            .to_string_lossy()
            .into_owned();
    }
    if let Some(dataset) = &mut config.data.dataset
        && Path::new(dataset.as_str()).is_file()
    {
        *dataset = absolute(Path::new(dataset.as_str()))
            .to_string_lossy()
            .into_owned();
    }
    config
}

struct Run<'a> {
    config: &'a RunConfig,
    dir: &'a Path,
    resume: bool,
    dry: bool,
    observer: &'a dyn Observer,
}

/// Everything that is known before a model is on a device.
struct Prepared {
    base: Resolved,
    bert: BertConfig,
    splits: TextSplits,
    labels: LabelMap,
    train: Arc<EncodedSet>,
    validation: EncodedSet,
    test: EncodedSet,
    max_length: usize,
    notes: Vec<String>,
    timings: Vec<(String, f64)>,
}

impl OnBackend for Run<'_> {
    type Output = Option<FinishedRun>;

    fn run<B: TuneAutodiff>(
        self,
        device: &<B as BackendTypes>::Device,
    ) -> Result<Self::Output, Error> {
        let started = Instant::now();
        let Self {
            config,
            dir,
            observer,
            ..
        } = self;
        // What is wrong with the run directory is said before anything is read.
        let held = match (self.dry, self.resume) {
            (true, _) => {
                if let Err(error) = RunDir::check_vacant(dir) {
                    observer.note(&format!("the run itself would be refused: {error}"));
                }
                None
            }
            (false, true) => {
                let run = RunDir::open(dir)?;
                let checkpoint = Checkpoint::latest(&run)?;
                Some((run, checkpoint))
            }
            (false, false) => {
                RunDir::check_vacant(dir)?;
                None
            }
        };
        let mut prepared = prepare(config, observer)?;
        let clock = Instant::now();
        let (model, loaded, method) = build::<B>(config, &prepared, device)?;
        prepared
            .timings
            .push(("load model".into(), clock.elapsed().as_secs_f64()));
        let sampler = Sampler {
            seed: config.seed,
            shuffle: config.train.shuffle,
            group_by_length: config.train.group_by_length,
            batch_size: config.train.batch_size,
            drop_last: false,
        };
        let train_config = train_config(config, &prepared)?;
        let plan = make_plan::<B>(
            config,
            dir,
            &prepared,
            &model,
            &loaded,
            &method,
            &sampler,
            &train_config,
        );
        observer.plan(&plan);
        if self.dry {
            return Ok(None);
        }

        let (run, checkpoint) = match held {
            Some((run, checkpoint)) => (run, Some(checkpoint)),
            None => (RunDir::create(dir)?, None),
        };
        if let Some(checkpoint) = &checkpoint {
            checkpoint.belongs_to(&train_config)?;
            truncate_metrics(&run.metrics(), checkpoint.state.step)?;
            observer.note(&format!(
                "resuming after step {} of {}",
                checkpoint.state.step, checkpoint.state.total_steps
            ));
        } else {
            write_text(&run.config(), &config.to_toml())?;
            let json =
                serde_json::to_string_pretty(&plan).map_err(|e| Error::Internal(e.to_string()))?;
            write_text(&dir.join("plan.json"), &json)?;
        }

        let clock = Instant::now();
        let job = TextClassification::<B> {
            train: Arc::clone(&prepared.train),
            validation: &prepared.validation,
            examples: &prepared.splits.train,
            sampler,
            eval_batch_size: config.eval.batch_size,
            label_smoothing: config.train.label_smoothing,
            device,
        };
        let mut sinks = Sinks {
            metrics: Metrics::open(&run.metrics(), config.train.log_every_steps as u64)?,
            log: Log::open(&dir.join("log.txt"), config.train.log_every_steps as u64)?,
            observer: Watched(observer),
        };
        sinks.log.line(&format!("{plan}"));
        let stop = || observer.stop();
        let outcome = rekindle_train::train(
            &job,
            model,
            &train_config,
            &run,
            checkpoint.as_ref(),
            &mut sinks,
            &stop,
            device,
        )?;
        if outcome.stopped == Stopped::Interrupted {
            return Err(Error::Interrupted {
                dir: dir.to_owned(),
                step: outcome.state.step,
            });
        }
        prepared.timings.push((
            "train, with evaluations".into(),
            clock.elapsed().as_secs_f64(),
        ));

        let clock = Instant::now();
        let best_step = outcome.state.best.map(|(step, _)| step);
        let mut model = outcome.model;
        if let Some(step) = best_step.filter(|&step| step != outcome.state.step) {
            let path = run.checkpoints().join(format!("step-{step:08}"));
            // A best checkpoint that could not be written was warned about; the last step's model is then what there is.
            if path.is_dir() {
                model = rekindle_train::restore(model, &path, NAMES, device)?;
            }
        }
        let model = model.valid();
        let (split, set, examples) = prepared.judged_on();
        observer.note(&format!("evaluating on {split}: {} examples", set.len()));
        let logits =
            evaluation::logits::<B::InnerBackend>(&model, set, config.eval.batch_size, device);
        let figures = evaluation::score(&logits, &set.labels)?.report();
        let mistakes = evaluation::worst(
            &logits,
            &set.labels,
            examples,
            prepared.labels.names(),
            config.report.mistakes,
        );
        prepared.timings.push((
            format!("evaluate on {split}"),
            clock.elapsed().as_secs_f64(),
        ));

        let clock = Instant::now();
        let final_dir = run.final_dir();
        // Aside first: a full disk must not leave half a model under the name of a whole one.
        let aside = dir.join(".final");
        let saved = clear(&aside)
            .and_then(|()| save_final::<B>(&model, config, &prepared, &method, &aside))
            .and_then(|()| clear(&final_dir))
            .and_then(|()| std::fs::rename(&aside, &final_dir).map_err(Error::io(&final_dir)));
        if let Err(error) = saved {
            let _ = clear(&aside);
            return Err(error);
        }
        prepared
            .timings
            .push(("save model".into(), clock.elapsed().as_secs_f64()));

        let seconds = started.elapsed().as_secs_f64();
        let peak_memory = peak_memory();
        let (split, figures) = (split.to_owned(), figures);
        let page = make_report(
            config,
            &plan,
            &prepared,
            &run,
            &figures,
            &split,
            mistakes,
            best_step,
            seconds,
            peak_memory,
        )?;
        let report_html = dir.join("report.html");
        write_text(&report_html, &report::render(&page))?;
        Ok(Some(FinishedRun {
            dir: dir.to_owned(),
            final_dir,
            report_html,
            report: figures,
            split,
            best_step,
            steps: outcome.state.step,
            stopped_early: outcome.stopped == Stopped::Early,
            seconds,
            peak_memory,
        }))
    }
}

impl Prepared {
    /// The split that the final figures are of.
    fn judged_on(&self) -> (&'static str, &EncodedSet, &[Example]) {
        if !self.test.is_empty() {
            ("test", &self.test, &self.splits.test)
        } else if !self.validation.is_empty() {
            ("validation", &self.validation, &self.splits.validation)
        } else {
            ("train", &self.train, &self.splits.train)
        }
    }
}

/// Finds the model, reads and encodes the data.
fn prepare(config: &RunConfig, observer: &dyn Observer) -> Result<Prepared, Error> {
    let hub = Hub::from_env();
    let clock = Instant::now();
    let base = hub.model(&config.model.name, observer.downloads())?;
    let bert = BertConfig::read(&base.dir)?;
    let mut timings = vec![("find model".to_owned(), clock.elapsed().as_secs_f64())];
    let clock = Instant::now();
    let splits = data::read_splits(config, &hub, observer)?;
    let mut notes = splits.notes.clone();
    let labels = data::labels(&splits.train, &bert.labels)?;
    let (encoder, note) = data::encoder(
        &base.dir,
        config.data.max_length,
        bert.max_position_embeddings,
        bert.vocab_size,
    )?;
    notes.extend(note);
    let encode = |examples: &[Example]| encoder.encode_examples(examples, Some(&labels));
    let (train, validation, test) = (
        encode(&splits.train)?,
        encode(&splits.validation)?,
        encode(&splits.test)?,
    );
    if validation.is_empty() && config.eval.every != config::EvalEvery::Never {
        return Err(Error::Setting {
            reason: "there are no validation examples to evaluate on".into(),
            hint:
                "set data.validation, data.validation_fraction above 0, or eval.every = \"never\""
                    .into(),
        });
    }
    if config.model.pooling == config::Pooling::Mean {
        notes.push("pooling = \"mean\": transformers' BertForSequenceClassification reads [CLS], so it will not give the same logits".into());
    }
    timings.push(("read and encode data".into(), clock.elapsed().as_secs_f64()));
    let max_length = encoder.max_length().unwrap_or(config.data.max_length);
    Ok(Prepared {
        base,
        bert,
        splits,
        labels,
        train: Arc::new(train),
        validation,
        test,
        max_length,
        notes,
        timings,
    })
}

/// How the model is tuned.
enum Tuning {
    /// With this adapter, on these layers.
    Lora(LoraConfig, Vec<String>),
    /// By changing its own parameters.
    Own,
}

/// Loads the model and decides what trains.
fn build<B: TuneAutodiff>(
    config: &RunConfig,
    prepared: &Prepared,
    device: &B::Device,
) -> Result<(BertClassifier<B>, LoadReport, Tuning), Error> {
    let head = Head {
        labels: prepared.labels.names().to_vec(),
        pooling: match config.model.pooling {
            config::Pooling::Auto => None,
            config::Pooling::Cls => Some(Pooling::Cls),
            config::Pooling::Mean => Some(Pooling::Mean),
        },
        seed: config.seed,
        require: false,
    };
    let (model, loaded) =
        BertClassifier::<B>::from_pretrained(&prepared.base.dir, &prepared.bert, &head, device)?;
    let model = match config.model.dropout {
        Some(rate) => model.with_dropout(rate),
        None => model,
    };
    // What is new must train, whatever the method.
    let mut whole = vec![HEAD.to_owned()];
    if loaded
        .initialised
        .iter()
        .any(|(name, _)| name.contains("pooler"))
    {
        whole.push("bert.pooler".into());
    }
    let peft = &config.peft;
    let (model, rule, tuning) = match peft.method {
        Method::Full => (model, Trainable::All, Tuning::Own),
        Method::Head => (model, Trainable::Head, Tuning::Own),
        Method::Bitfit => (model, Trainable::Biases, Tuning::Own),
        Method::Lora => {
            for module in &peft.modules_to_save {
                if !whole.contains(module) {
                    whole.push(module.clone());
                }
            }
            let lora = LoraConfig {
                r: peft.r,
                lora_alpha: peft.lora_alpha,
                lora_dropout: peft.lora_dropout,
                use_rslora: peft.use_rslora,
                target_modules: match &peft.target_modules {
                    config::TargetModules::Suffixes(suffixes) => {
                        TargetModules::Suffixes(suffixes.clone())
                    }
                    config::TargetModules::Regex(pattern) => TargetModules::Regex(pattern.clone()),
                    config::TargetModules::AllLinear => TargetModules::AllLinear,
                },
                layers_to_transform: peft.layers_to_transform.clone(),
                modules_to_save: whole.clone(),
                base_model_name_or_path: Some(python_name(&prepared.base)),
                task_type: Some("SEQ_CLS".into()),
            };
            let (model, layers) = rekindle_peft::inject(model, &lora, NAMES, config.seed, device)?;
            (model, Trainable::AsIs, Tuning::Lora(lora, layers))
        }
    };
    let model =
        rekindle_peft::set_trainable(model, rule, &whole, &peft.freeze, &peft.unfreeze, NAMES)?;
    if let Tuning::Lora(lora, _) = &tuning {
        let mut lost = Vec::new();
        params::visit(&model, &mut |param| {
            let path = NAMES.published(param.path);
            if param.trainable && !rekindle_peft::is_saved(&path, lora) {
                lost.push(path);
            }
        });
        if let Some(first) = lost.first() {
            return Err(Error::Setting {
                reason: format!("peft.unfreeze trains `{first}` ({} parameters in all), which an adapter's file cannot hold", lost.len()),
                hint: "name its module in peft.modules_to_save, or use peft.method = \"full\" with peft.freeze".into(),
            });
        }
    }
    Ok((model, loaded, tuning))
}

/// What Python can load the base model by.
fn python_name(base: &Resolved) -> String {
    match &base.source {
        Source::Path => base.dir.display().to_string(),
        _ => base.name.clone(),
    }
}

fn train_config(config: &RunConfig, prepared: &Prepared) -> Result<TrainConfig, Error> {
    let train = &config.train;
    Ok(TrainConfig {
        epochs: train.epochs,
        max_steps: train.max_steps.map(|n| n as u64),
        gradient_accumulation_steps: train.gradient_accumulation_steps,
        learning_rate: config.learning_rate(),
        schedule: match train.schedule {
            config::Schedule::Linear => Schedule::Linear,
            config::Schedule::Cosine => Schedule::Cosine,
            config::Schedule::Constant => Schedule::Constant,
        },
        warmup: match train.warmup_steps {
            Some(steps) => Warmup::Steps(steps as u64),
            None => Warmup::Ratio(train.warmup_ratio.unwrap_or(config::DEFAULT_WARMUP_RATIO)),
        },
        optimizer: OptimizerConfig {
            beta1: train.beta1,
            beta2: train.beta2,
            epsilon: train.epsilon,
            weight_decay: train.weight_decay,
        },
        max_grad_norm: train.max_grad_norm,
        seed: config.seed,
        evaluate: match config.eval.every {
            config::EvalEvery::Epoch => Every::Epoch,
            config::EvalEvery::Steps(n) => Every::Steps(n as u64),
            config::EvalEvery::Never => Every::Never,
        },
        checkpoint_every: config.checkpoint.every_steps.map(|n| n as u64),
        keep: config.checkpoint.keep,
        best: BestMetric {
            name: config.eval.metric.name().to_owned(),
            higher_is_better: config.eval.metric.higher_is_better(),
        },
        early_stopping: config
            .eval
            .early_stopping_patience
            .map(|patience| EarlyStopping {
                patience: patience as u32,
                min_delta: config.eval.early_stopping_min_delta,
            }),
        fingerprint: fingerprint(config, prepared)?,
    })
}

/// A digest (FNV-1a) of what a resumed run must find unchanged: the configuration but for where it writes, the encoded
/// training examples, the base model's configuration and a sample of its weights.
fn fingerprint(config: &RunConfig, prepared: &Prepared) -> Result<String, Error> {
    let mut settings = config.clone();
    settings.output_dir = None;
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    let mut add = |bytes: &[u8]| {
        for &byte in bytes {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    };
    add(settings.to_toml().as_bytes());
    for (item, label) in prepared.train.items.iter().zip(&prepared.train.labels) {
        for id in item.ids.iter().chain([label]) {
            add(&id.to_le_bytes());
        }
    }
    add(serde_json::Value::Object(prepared.bert.raw.clone())
        .to_string()
        .as_bytes());
    add(&sample_of_weights(&prepared.base.dir)?);
    Ok(format!("{hash:016x}"))
}

/// The length and the middle of each file of weights: enough to tell two models of one shape apart without reading all.
fn sample_of_weights(dir: &Path) -> Result<Vec<u8>, Error> {
    const SAMPLE: u64 = 1 << 16;
    let weights = rekindle_models::Checkpoint::open(dir)?;
    let files = weights.files();
    let paths: BTreeSet<&Path> = files
        .names()
        .filter_map(|name| files.file_of(name))
        .collect();
    let mut sample = Vec::new();
    for path in paths {
        let mut file = File::open(path).map_err(Error::io(path))?;
        let length = file.metadata().map_err(Error::io(path))?.len();
        sample.extend(length.to_le_bytes());
        file.seek(SeekFrom::Start(length.saturating_sub(SAMPLE) / 2))
            .map_err(Error::io(path))?;
        file.take(SAMPLE)
            .read_to_end(&mut sample)
            .map_err(Error::io(path))?;
    }
    Ok(sample)
}

#[allow(clippy::too_many_arguments)] // a plan is made of everything
fn make_plan<B: TuneAutodiff>(
    config: &RunConfig,
    dir: &Path,
    prepared: &Prepared,
    model: &BertClassifier<B>,
    loaded: &LoadReport,
    tuning: &Tuning,
    sampler: &Sampler,
    train: &TrainConfig,
) -> Plan {
    let (parameters, trainable) = params::count(model);
    let lengths = prepared.train.lengths();
    let batches = sampler.epoch(&lengths, 0);
    let tokens = |batch: &Vec<usize>| batch.iter().map(|&i| lengths[i] as usize).sum::<usize>();
    let largest = batches.iter().map(tokens).max().unwrap_or(0);
    let longest = lengths.iter().copied().max().unwrap_or(0) as usize;
    let steps = train.total_steps(batches.len());
    let (method, adapted_layers, writes) = match tuning {
        Tuning::Lora(lora, layers) => (
            format!(
                "LoRA r {}, alpha {}{}, dropout {} on {} layers; the head in full",
                lora.r,
                lora.lora_alpha,
                if lora.use_rslora {
                    " (rank-stabilised)"
                } else {
                    ""
                },
                lora.lora_dropout,
                layers.len()
            ),
            layers.clone(),
            "final/ (an adapter for PEFT)",
        ),
        Tuning::Own => (
            match config.peft.method {
                Method::Head => "head only".to_owned(),
                Method::Bitfit => "BitFit: biases, and the head in full".to_owned(),
                _ => "full fine-tuning".to_owned(),
            },
            Vec::new(),
            "final/ (a model for transformers)",
        ),
    };
    let writes = [
        "config.toml",
        "plan.json",
        "metrics.jsonl",
        "log.txt",
        "checkpoints/",
        writes,
        "report.html",
    ];
    let epochs = if train.max_steps.is_some() {
        steps as f64 / batches.len().max(1) as f64
    } else {
        train.epochs
    };
    Plan {
        model: match &prepared.base.source {
            Source::Path => config.model.name.clone(),
            _ => prepared.base.name.clone(),
        },
        model_dir: prepared.base.dir.clone(),
        loaded: loaded.summary(),
        method,
        adapted_layers,
        parameters,
        trainable,
        dataset: prepared.splits.name.clone(),
        labels: prepared.labels.names().to_vec(),
        examples: [
            prepared.train.len(),
            prepared.validation.len(),
            prepared.test.len(),
        ],
        train_tokens: lengths.iter().map(|&l| l as usize).sum(),
        truncated: prepared.train.truncated(),
        max_length: prepared.max_length,
        examples_per_step: config.train.batch_size * config.train.gradient_accumulation_steps,
        steps,
        warmup_steps: train.warmup.steps(steps),
        epochs: (epochs * 100.0).round() / 100.0,
        learning_rate: format!(
            "{:e}, {}",
            train.learning_rate,
            config.train.schedule.name()
        ),
        memory: estimate_memory(parameters, trainable, largest, longest, &prepared.bert),
        device: config.device.to_string(),
        output_dir: dir.to_owned(),
        writes: writes.map(str::to_owned).to_vec(),
        notes: prepared.notes.clone(),
    }
}

/// Removes a folder, if it is there.
fn clear(folder: &Path) -> Result<(), Error> {
    match std::fs::remove_dir_all(folder) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(Error::io(folder)(e)),
        _ => Ok(()),
    }
}

/// Writes `final/`: what Python loads, the tokenizer, and what we need to load it back.
fn save_final<B: TuneAutodiff>(
    model: &BertClassifier<B::InnerBackend>,
    config: &RunConfig,
    prepared: &Prepared,
    tuning: &Tuning,
    dir: &Path,
) -> Result<(), Error> {
    std::fs::create_dir_all(dir).map_err(Error::io(dir))?;
    let mean = model.pooling() == Pooling::Mean;
    match tuning {
        Tuning::Lora(lora, _) => rekindle_peft::save(model, lora, NAMES, dir)?,
        Tuning::Own => {
            let bert = BertConfig {
                labels: prepared.labels.names().to_vec(),
                mean_pooling: mean,
                ..prepared.bert.clone()
            };
            model.save_pretrained(dir, &bert)?;
        }
    }
    saved::copy_tokenizer(&prepared.base.dir, dir)?;
    Saved {
        rekindle: env!("CARGO_PKG_VERSION").into(),
        task: config.task.name().to_owned(),
        labels: prepared.labels.names().to_vec(),
        max_length: prepared.max_length,
        pooling: if mean { "mean" } else { "cls" }.into(),
        base_model: matches!(tuning, Tuning::Lora(..)).then(|| config.model.name.clone()),
    }
    .write(dir)
}

#[allow(clippy::too_many_arguments)] // a report is made of everything
fn make_report(
    config: &RunConfig,
    plan: &Plan,
    prepared: &Prepared,
    run: &RunDir,
    figures: &ClassificationReport,
    split: &str,
    mistakes: Vec<report::Mistake>,
    best_step: Option<u64>,
    seconds: f64,
    peak_memory: Option<u64>,
) -> Result<Report, Error> {
    let mut train = Vec::new();
    let mut evaluations = Vec::new();
    let mut warnings = Vec::new();
    for event in read_metrics(&run.metrics())? {
        match event {
            Event::Step {
                step,
                epoch,
                loss,
                learning_rate,
                grad_norm,
                examples,
                seconds,
            } => train.push(TrainPoint {
                step,
                epoch,
                loss,
                learning_rate,
                grad_norm: Some(grad_norm),
                examples_per_second: examples as f64 / seconds.max(1e-9),
            }),
            Event::Evaluated {
                step,
                epoch,
                evaluation,
                ..
            } => evaluations.push(EvalPoint {
                step,
                epoch,
                split: "validation".into(),
                loss: evaluation.get("loss"),
                accuracy: evaluation.get("accuracy"),
                macro_f1: evaluation.get("macro_f1"),
            }),
            Event::Warning { message } => warnings.push(message),
            _ => {}
        }
    }
    let mut environment = vec![
        ("rekindle".to_owned(), env!("CARGO_PKG_VERSION").to_owned()),
        ("device".into(), config.device.to_string()),
        (
            "threads".into(),
            std::thread::available_parallelism()
                .map_or(1, usize::from)
                .to_string(),
        ),
        (
            "memory, estimated".into(),
            format!("{:.0} MB", plan.memory as f64 / 1e6),
        ),
    ];
    if let Some(bytes) = peak_memory {
        environment.push((
            "memory, peak".into(),
            format!("{:.0} MB", bytes as f64 / 1e6),
        ));
    }
    Ok(Report {
        title: format!("{} on {}", plan.model, plan.dataset),
        task: config.task.name().to_owned(),
        model: plan.model.clone(),
        method: plan.method.clone(),
        dataset: plan.dataset.clone(),
        command: std::env::args().collect::<Vec<_>>().join(" "),
        seconds,
        summary: Vec::new(),
        warnings,
        notes: plan.notes.clone(),
        train,
        evaluations,
        best_step,
        resumed_at: Vec::new(),
        labels: prepared.labels.names().to_vec(),
        final_split: split.to_owned(),
        final_report: figures.clone(),
        mistakes,
        config_toml: config.to_toml(),
        timings: prepared.timings.clone(),
        parameters: (plan.parameters as u64, plan.trainable as u64),
        environment,
    })
}

/// Everything that hears of the loop's events.
struct Sinks<'a> {
    metrics: Metrics,
    log: Log,
    observer: Watched<'a>,
}

impl Sink for Sinks<'_> {
    fn event(&mut self, event: &Event) {
        self.metrics.event(event);
        self.log.event(event);
        self.observer.event(event);
    }
}

/// `log.txt`: what happened, a line each, for people.
struct Log {
    file: File,
    every: u64,
}

impl Log {
    fn open(path: &Path, every: u64) -> Result<Self, Error> {
        let file = OpenOptions::new()
            .create(true)
            .append(true)
            .open(path)
            .map_err(Error::io(path))?;
        Ok(Self {
            file,
            every: every.max(1),
        })
    }

    fn line(&mut self, text: &str) {
        // A full disk must not end a run that can still train.
        let _ = writeln!(self.file, "{}", text.trim_end());
    }
}

impl Sink for Log {
    fn event(&mut self, event: &Event) {
        match event {
            Event::Started { step, total_steps } => {
                self.line(&format!("training: steps {} to {total_steps}", step + 1))
            }
            Event::Step {
                step,
                loss,
                learning_rate,
                grad_norm,
                seconds,
                ..
            } if *step == 1 || step.is_multiple_of(self.every) => {
                self.line(&format!("step {step}: loss {loss:.6}, learning rate {learning_rate:.3e}, gradient norm {grad_norm:.4}, {seconds:.3} s"));
            }
            Event::Evaluated {
                step,
                evaluation,
                best,
                ..
            } => {
                let figures: Vec<String> = evaluation
                    .metrics
                    .iter()
                    .map(|(name, value)| format!("{name} {value:.4}"))
                    .collect();
                self.line(&format!(
                    "step {step}: validation {}{}",
                    figures.join(", "),
                    if *best { " (best)" } else { "" }
                ));
            }
            Event::Checkpointed { step, path } => {
                self.line(&format!("step {step}: wrote {}", path.display()))
            }
            Event::Warning { message } => self.line(&format!("warning: {message}")),
            _ => {}
        }
    }
}

fn write_text(path: &Path, text: &str) -> Result<(), Error> {
    write_atomically(path, text.as_bytes()).map_err(Error::io(path))
}

/// The process's peak resident memory in bytes, on Linux.
fn peak_memory() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    line.split_whitespace()
        .nth(1)?
        .parse::<u64>()
        .ok()
        .map(|kib| kib * 1024)
}
