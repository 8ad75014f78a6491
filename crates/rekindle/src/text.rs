//! Text classification: from the configuration to the job that the loop trains.

use crate::{
    Error, Observer, RunConfig, balance,
    config::{self, Method},
    data::{self, TextSplits},
    evaluation::{self, Logits, input, logits, score},
    features::{AS_EVALUATED, Features},
    plan::{estimate_memory, grouped},
    saved::{self, Saved},
    task::{Facts, Fingerprint, Judged, Task},
};
use burn::{
    module::AutodiffModule,
    tensor::{Int, Tensor, TensorData},
};
use rekindle_data::{EncodedSet, Example, LabelMap, Sampler, TextBatch, prefetch};
use rekindle_hub::{Hub, Resolved, Source};
use rekindle_models::{
    LoadReport,
    bert::{BertClassifier, BertConfig, Head, NAMES, Pooling},
};
use rekindle_nn::{
    Pass, TuneAutodiff, host,
    ops::{self, CrossEntropy, Precision},
    params::{self, NameMap},
};
use rekindle_peft::{LoraConfig, TargetModules, Trainable};
use rekindle_train::{BatchStream, Evaluation, Job, TrainError};
use std::{
    cell::RefCell,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};

/// The classification head's module.
const HEAD: &str = "classifier";
/// Batches made ahead of the loop.
const AHEAD: usize = 8;

/// A run on texts.
pub(crate) struct TextClassification<B: TuneAutodiff> {
    prepared: Prepared,
    tuning: Tuning,
    config: RunConfig,
    sampler: Sampler,
    cross_entropy: CrossEntropy,
    /// Of the encoder's products in training.
    precision: Precision,
    /// The model, where nothing but its head trains: what the head reads is then computed once for each text.
    frozen: Option<BertClassifier<B::InnerBackend>>,
    /// Validation logits of the model that was evaluated last.
    last: RefCell<Option<Logits>>,
    for_train: Mutex<Features>,
    for_validation: Mutex<Features>,
    device: B::Device,
    facts: Facts,
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

/// Reads the data and loads the model.
///
/// # Errors
/// Any mistake in data or model.
pub(crate) fn open<B: TuneAutodiff>(
    config: &RunConfig,
    observer: &dyn Observer,
    device: &B::Device,
) -> Result<(TextClassification<B>, BertClassifier<B>), Error> {
    let precision = precision::<B>(config)?;
    let mut prepared = prepare(config, observer)?;
    let clock = Instant::now();
    let (model, loaded, tuning) = build::<B>(config, &prepared, device)?;
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
    let facts = facts(config, &prepared, &model, &loaded, &tuning, &sampler)?;
    let mut encoder_trains = false;
    params::visit(&model, &mut |param: params::ParamRef<'_, B>| {
        encoder_trains |= param.trainable && !param.path.starts_with(HEAD);
    });
    let dir = config.output_dir.clone().unwrap_or_default();
    let keeper = |name: &str| {
        let budget = (config.train.cache_features_mb << 20) / 2;
        Mutex::new(Features::new(budget, &dir.join(name)))
    };
    let cross_entropy =
        balance::cross_entropy(config, &prepared.train.labels, prepared.labels.len());
    let job = TextClassification {
        prepared,
        tuning,
        config: config.clone(),
        sampler,
        cross_entropy,
        precision,
        frozen: (config.train.cache_features && !encoder_trains).then(|| model.valid()),
        last: RefCell::default(),
        for_train: keeper(".features"),
        for_validation: keeper(".features-validation"),
        device: device.clone(),
        facts,
    };
    Ok((job, model))
}

/// The precision asked for.
///
/// # Errors
/// When it is not fast on this machine.
fn precision<B: TuneAutodiff>(config: &RunConfig) -> Result<Precision, Error> {
    let precision = match config.train.precision {
        config::Precision::F32 => Precision::F32,
        config::Precision::Bf16 => Precision::Bf16,
    };
    match B::tune_is_fast(precision) {
        true => Ok(precision),
        false => Err(Error::Setting {
            reason: format!(
                "train.precision = \"{}\", but this CPU has no instructions that are fast at it (AMX, or AMD's avx512_bf16)",
                config.train.precision
            ),
            hint: "set it to \"f32\", or leave it out".into(),
        }),
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

fn facts<B: TuneAutodiff>(
    config: &RunConfig,
    prepared: &Prepared,
    model: &BertClassifier<B>,
    loaded: &LoadReport,
    tuning: &Tuning,
    sampler: &Sampler,
) -> Result<Facts, Error> {
    let (parameters, trainable) = params::count(model);
    let lengths = prepared.train.lengths();
    let batches = sampler.epoch(&lengths, 0);
    let tokens = |batch: &Vec<usize>| batch.iter().map(|&i| lengths[i] as usize).sum::<usize>();
    let largest = batches.iter().map(tokens).max().unwrap_or(0);
    let longest = lengths.iter().copied().max().unwrap_or(0) as usize;
    let all: usize = lengths.iter().map(|&l| l as usize).sum();
    let mean = all as f64 / prepared.train.len().max(1) as f64;
    let cut = match prepared.train.truncated() {
        0 => String::new(),
        n => format!(", {} cut to {} tokens", grouped(n), prepared.max_length),
    };
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
    let mut fingerprint = Fingerprint::of(config);
    for (item, label) in prepared.train.items.iter().zip(&prepared.train.labels) {
        for id in item.ids.iter().chain([label]) {
            fingerprint.add(&id.to_le_bytes());
        }
    }
    let settings = serde_json::Value::Object(prepared.bert.raw.clone());
    fingerprint.add(settings.to_string().as_bytes());
    fingerprint.add_weights(&prepared.base.dir)?;
    Ok(Facts {
        base: prepared.base.clone(),
        loaded: loaded.summary(),
        method,
        adapted_layers,
        writes,
        dataset: prepared.splits.name.clone(),
        labels: prepared.labels.names().to_vec(),
        examples: [
            prepared.train.len(),
            prepared.validation.len(),
            prepared.test.len(),
        ],
        inputs: format!("{mean:.1} tokens each{cut}"),
        memory: estimate_memory(parameters, trainable, largest, longest, &prepared.bert),
        notes: prepared.notes.clone(),
        timings: prepared.timings.clone(),
        fingerprint: fingerprint.text(),
    })
}

impl<B: TuneAutodiff> Job<B> for TextClassification<B> {
    type Model = BertClassifier<B>;
    type Batch = TextBatch;

    fn names(&self) -> NameMap {
        NAMES
    }

    fn batches(&self, _: u64) -> usize {
        self.sampler.batches(self.prepared.train.len())
    }

    fn stream(&self, epoch: u64, start: usize) -> Result<BatchStream<'_, TextBatch>, TrainError> {
        let set = Arc::clone(&self.prepared.train);
        let lengths = set.lengths();
        let order = if self.config.train.weighted_sampling {
            let classes = self.prepared.labels.len();
            let drawn = balance::drawn(&set.labels, classes, self.config.seed, epoch);
            let lengths: Vec<u32> = drawn.iter().map(|&i| lengths[i]).collect();
            let batches = self.sampler.epoch(&lengths, epoch).into_iter();
            batches
                .map(|batch| batch.into_iter().map(|place| drawn[place]).collect())
                .collect()
        } else {
            self.sampler.epoch(&lengths, epoch)
        };
        let batches = prefetch(AHEAD, start, order.len(), move |i| {
            TextBatch::pack(&set, &order[i])
        })
        .map_err(boxed)?;
        Ok(Box::new(batches.map(|batch| batch.map_err(boxed))))
    }

    fn count(&self, batch: &TextBatch) -> usize {
        batch.len()
    }

    fn describe(&self, batch: &TextBatch) -> String {
        let places: Vec<String> = batch
            .indices
            .iter()
            .take(4)
            .map(|&i| self.prepared.splits.train[i].place.to_string())
            .collect();
        let more = batch.len().saturating_sub(places.len());
        let more = if more > 0 {
            format!(" and {more} more")
        } else {
            String::new()
        };
        format!("{}{more}", places.join(", "))
    }

    fn rate(&self, name: &str) -> f64 {
        let head = self.config.train.head_learning_rate;
        match head.filter(|_| name.starts_with(HEAD)) {
            Some(rate) => rate / self.config.learning_rate(),
            None => 1.0,
        }
    }

    fn loss(&self, model: &BertClassifier<B>, batch: &TextBatch, pass: Pass) -> Tensor<B, 1> {
        let logits = match &self.frozen {
            Some(frozen) => {
                let once = Pass::evaluation().with_precision(self.precision);
                let features = self.features(frozen, batch, once, &self.for_train);
                model.head(Tensor::from_inner(features), pass)
            }
            None => {
                let pass = pass.with_precision(self.precision);
                model.forward(&input::<B>(batch, &self.device), pass)
            }
        };
        let labels: Tensor<B, 1, Int> =
            Tensor::from_data(TensorData::from(batch.labels.as_slice()), &self.device);
        ops::cross_entropy(logits, labels, &self.cross_entropy).sum()
    }

    fn evaluate(&self, model: &BertClassifier<B::InnerBackend>) -> Result<Evaluation, TrainError> {
        let (set, size) = (&self.prepared.validation, self.config.eval.batch_size);
        let logits = match &self.frozen {
            Some(frozen) => evaluation::logits_by(set, size, model.classes(), |batch| {
                let pass = Pass::evaluation();
                let features = self.features(frozen, batch, pass, &self.for_validation);
                model.head(features, pass)
            }),
            None => logits::<B::InnerBackend>(model, set, size, &self.device),
        }
        .map_err(boxed)?;
        let figures = evaluation::figures(&logits, &self.prepared.validation.labels);
        *self.last.borrow_mut() = Some(logits);
        figures.map_err(boxed)
    }
}

impl<B: TuneAutodiff> TextClassification<B> {
    /// What the head reads of a batch, kept or computed.
    fn features(
        &self,
        frozen: &BertClassifier<B::InnerBackend>,
        batch: &TextBatch,
        pass: Pass,
        kept: &Mutex<Features>,
    ) -> Tensor<B::InnerBackend, 2> {
        let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
        // A file that cannot be read or written costs time, no more.
        if let Ok(Some(rows)) = kept.get(AS_EVALUATED, &batch.indices) {
            let shape = [batch.len(), rows.len() / batch.len().max(1)];
            return Tensor::from_data(TensorData::new(rows, shape), &self.device);
        }
        let input = input::<B::InnerBackend>(batch, &self.device);
        let features = frozen.features(&input, pass);
        if let Ok(rows) = host::values(features.clone()) {
            let _ = kept.put(AS_EVALUATED, &batch.indices, &rows);
        }
        features
    }
}

impl<B: TuneAutodiff> Task<B> for TextClassification<B> {
    fn facts(&self) -> &Facts {
        &self.facts
    }

    fn remarks(&self) -> Vec<String> {
        let (mut rows, mut bytes, mut hits) = (0, 0, 0);
        for kept in [&self.for_train, &self.for_validation] {
            let kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
            let (n, memory, file) = kept.size();
            (rows, bytes, hits) = (rows + n, bytes + memory as u64 + file, hits + kept.hits);
        }
        if hits == 0 {
            return Vec::new();
        }
        vec![format!(
            "the frozen encoder was computed once for {rows} texts and kept in {:.1} MB; that saved {hits} passes",
            bytes as f64 / 1e6
        )]
    }

    fn judge(
        &self,
        model: &BertClassifier<B::InnerBackend>,
        evaluated: bool,
    ) -> Result<Judged, Error> {
        let (split, set, examples) = self.prepared.judged_on();
        let known = self
            .last
            .take()
            .filter(|_| evaluated && split == "validation");
        let size = self.config.eval.batch_size;
        let logits = match known {
            Some(known) => known,
            None => logits::<B::InnerBackend>(model, set, size, &self.device)?,
        };
        Ok(Judged {
            split,
            report: score(&logits, &set.labels)?.report(),
            calibration: evaluation::calibration(&logits, &set.labels),
            mistakes: evaluation::worst(
                &logits,
                &set.labels,
                examples,
                self.prepared.labels.names(),
                self.config.report.mistakes,
            ),
        })
    }

    fn save(&self, model: &BertClassifier<B::InnerBackend>, dir: &Path) -> Result<(), Error> {
        std::fs::create_dir_all(dir).map_err(Error::io(dir))?;
        let mean = model.pooling() == Pooling::Mean;
        match &self.tuning {
            Tuning::Lora(lora, _) => rekindle_peft::save(model, lora, NAMES, dir)?,
            Tuning::Own => {
                let bert = BertConfig {
                    labels: self.prepared.labels.names().to_vec(),
                    mean_pooling: mean,
                    ..self.prepared.bert.clone()
                };
                model.save_pretrained(dir, &bert)?;
            }
        }
        saved::copy_tokenizer(&self.prepared.base.dir, dir)?;
        Saved {
            rekindle: env!("CARGO_PKG_VERSION").into(),
            task: self.config.task.name().to_owned(),
            labels: self.prepared.labels.names().to_vec(),
            max_length: self.prepared.max_length,
            pooling: if mean { "mean" } else { "cls" }.into(),
            base_model: matches!(self.tuning, Tuning::Lora(..))
                .then(|| self.config.model.name.clone()),
        }
        .write(dir)
    }
}

pub(crate) fn boxed<E: std::error::Error + Send + Sync + 'static>(error: E) -> TrainError {
    TrainError::Job(Box::new(error))
}
