//! The recipe of every run: a backbone's activations, through a head, against a target. It is the loop's job, whatever the
//! task and the model. What is frozen at the beginning of the model is computed once, where nothing before it is random.

use crate::{
    Error, RunConfig,
    answers::Answering,
    balance,
    checkpointing::backward_by_unit,
    config::Method,
    evaluation::{Scored, embed_with, score},
    feature_cache::{AS_EVALUATED, FeatureCache},
    figures::Figures,
    generation::{Answer, Reading, Session},
    grad_cache::{backward_in_parts, pooled},
    inputs::{Draw, HostBatch, Inputs, Prepared},
    logistic,
    report::Mistake,
    tasks::{Loss, Objective},
    tuning::only_last,
};
use burn::{
    module::AutodiffModule,
    tensor::{
        Tensor, TensorData,
        backend::{AutodiffBackend, Backend},
    },
};
use rekindle_data::{Sampler, TargetKind, prefetch};
use rekindle_models::{Activations, Input, Model};
use rekindle_nn::{
    Pass, TuneAutodiff, TuneBackend, host,
    ops::Precision,
    params::{self, NameMap, ParamRef},
};
use rekindle_train::{BatchStream, Collective, Evaluation, Gradients, Job, Shards, TrainError};
use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

type Inner<B> = <B as AutodiffBackend>::InnerBackend;

/// A run as the loop sees it.
pub(crate) struct Recipe<B: TuneAutodiff> {
    config: RunConfig,
    sets: Sets,
    objective: Box<dyn Loss<B>>,
    names: NameMap,
    /// Whether the backward pass computes each unit of the model again.
    gradient_checkpointing: bool,
    /// Of the encoder's products in training.
    precision: Precision,
    /// Field paths of what trains in the end.
    trains: BTreeSet<String>,
    /// Their published names.
    trains_by_name: BTreeSet<String>,
    frozen: RefCell<Frozen<B>>,
    cache: Cache,
    /// Validation logits of the model that was evaluated last.
    last: RefCell<Option<Scored>>,
    /// The figures of the final set by the model before tuning, where they are compared with.
    base: Option<Figures>,
    /// What a language model is asked.
    answering: Option<Arc<Answering>>,
    /// Its answers at the newest evaluation.
    sampled: RefCell<Vec<Answer>>,
    /// Side of the pictures, in pixels.
    picture_size: usize,
    /// Factor of each parameter's learning rate, by published name, where it is not 1.
    rates: BTreeMap<String, f64>,
    /// Those that share the run.
    processes: Collective,
    device: B::Device,
}

/// The sets of a run.
struct Sets {
    train: Arc<dyn Inputs>,
    validation: Option<Arc<dyn Inputs>>,
    test: Option<Arc<dyn Inputs>>,
    noun: &'static str,
}

/// The frozen beginning of the model.
struct Frozen<B: TuneAutodiff> {
    /// So many units.
    units: usize,
    model: Option<Model<Inner<B>>>,
}

/// What the frozen beginning puts out, for training and for validation examples, and what it cost.
struct Cache {
    keeps_training: bool,
    keeps_validation: bool,
    training: Arc<Mutex<FeatureCache>>,
    validation: Arc<Mutex<FeatureCache>>,
    /// Examples that went through the frozen beginning, and the seconds they took.
    cost: Mutex<(u64, f64)>,
}

/// What a finished model is worth.
pub(crate) struct FinalEvaluation {
    /// The set that the figures are of: "test", "validation" or "train".
    pub split: &'static str,
    pub figures: Figures,
    pub mistakes: Vec<Mistake>,
    /// Where there are no mistakes: the right answers that it was least sure of.
    pub doubtful: Vec<Mistake>,
}

/// Examples that are evaluated where there are none but those that were trained on.
const MOST_TRAINED_ON: usize = 128;

/// Right answers that are shown where there are no mistakes.
const MOST_DOUBTFUL: usize = 12;

/// How an epoch is cut into batches.
pub(crate) fn sampler(config: &RunConfig, of_unequal_lengths: bool) -> Sampler {
    Sampler {
        seed: config.seed,
        shuffle: config.train.shuffle,
        group_by_length: of_unequal_lengths && config.train.group_by_length,
        batch_size: config.train.batch_size,
        drop_last: false,
    }
}

/// The factor of each parameter's learning rate that is not 1, by published name.
fn rates<B: TuneAutodiff>(config: &RunConfig, model: &Model<B>) -> BTreeMap<String, f64> {
    let train = &config.train;
    let names = model.names();
    let mut rates = BTreeMap::new();
    params::visit(model, &mut |param: ParamRef<'_, B>| {
        let name = names.published(param.path);
        let factor = match (model.is_head(&name), model.unit_of(&name)) {
            (true, _) => config
                .head_learning_rate()
                .map(|rate| rate / config.learning_rate()),
            (false, Some(unit)) => train
                .layer_decay
                .map(|decay| decay.powi((model.units() - unit) as i32)),
            (false, None) => None,
        };
        if let Some(factor) = factor {
            rates.insert(name, factor);
        }
    });
    rates
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Logits `[N, C]`, of words `[R, C]`, of what the first `units` units put out.
fn finished<T: TuneBackend>(
    model: &Model<T>,
    x: Activations<T>,
    units: usize,
    pass: Pass,
) -> Result<Tensor<T, 2>, Error> {
    match model.finish(x, units, pass) {
        x @ (Activations::Pooled(_) | Activations::Next(..)) => Ok(model.head(x, pass)),
        _ => Err(Error::Internal("a backbone that pools nothing".into())),
    }
}

/// A model's outputs `[N P, C]` for a batch whose N examples have P parts each, as one row an example; of words, and of texts that are compared, as they are. Behind them what the
/// model says of what the batch only looks at.
pub(crate) fn by_example<B: TuneAutodiff>(
    outputs: Tensor<B, 2>,
    model: &Model<B>,
    batch: &HostBatch,
    pass: Pass,
    device: &B::Device,
) -> Tensor<B, 2> {
    // Words, tokens and texts stand one by one.
    if batch.targets.kind().is_some_and(TargetKind::has_rows) {
        return outputs;
    }
    let (examples, [rows, columns]) = (batch.len(), outputs.dims());
    let outputs = outputs.reshape([examples, rows * columns / examples]);
    let Some(aside) = &batch.aside else {
        return outputs;
    };
    let seen = model.valid().forward(aside.to_device(device), pass);
    // Of each token the loss, not whether it would have been chosen.
    let seen = Tensor::from_inner(seen.narrow(1, 0, 1));
    let seen = seen.reshape([examples, rows / examples]);
    Tensor::cat(vec![outputs, seen], 1)
}

/// An error of the recipe as the loop reports it.
fn boxed<E: std::error::Error + Send + Sync + 'static>(error: E) -> TrainError {
    TrainError::Job(Box::new(error))
}

impl<B: TuneAutodiff> Recipe<B> {
    #[allow(clippy::too_many_arguments)] // a recipe is made once, of all that a run has
    pub(crate) fn new(
        config: &RunConfig,
        prepared: &Prepared,
        objective: Box<dyn Loss<B>>,
        model: &Model<B>,
        precision: Precision,
        gradient_checkpointing: bool,
        processes: &Collective,
        device: &B::Device,
    ) -> Self {
        let names = model.names();
        let mut trains = BTreeSet::new();
        params::visit(model, &mut |param: ParamRef<'_, B>| {
            if param.trainable {
                trains.insert(param.path.to_owned());
            }
        });
        let dir = config.output_dir.clone().unwrap_or_default();
        // Their examples have rows of different numbers.
        let has_rows = prepared.encoder.kind().has_rows();
        let cache = |name: &str| {
            let budget = (config.train.cache_features_mb << 20) / 2;
            // Each process keeps what it computes.
            let name = match processes.rank() {
                0 => name.to_owned(),
                rank => format!("{name}-{rank}"),
            };
            Arc::new(Mutex::new(FeatureCache::new(budget, &dir.join(name))))
        };
        Self {
            config: config.clone(),
            sets: Sets {
                train: Arc::clone(&prepared.train),
                validation: prepared.validation.clone(),
                test: prepared.test.clone(),
                noun: prepared.noun,
            },
            objective,
            names,
            gradient_checkpointing,
            precision,
            trains_by_name: trains.iter().map(|path| names.published(path)).collect(),
            trains,
            frozen: RefCell::new(Frozen {
                units: 0,
                model: None,
            }),
            cache: Cache {
                keeps_training: config.train.cache_features && prepared.repeats,
                keeps_validation: config.train.cache_features && !has_rows,
                training: cache(".features"),
                validation: cache(".features-validation"),
                cost: Mutex::default(),
            },
            last: RefCell::default(),
            base: None,
            answering: prepared.answering.clone(),
            sampled: RefCell::default(),
            picture_size: prepared.picture_size.map_or(0, |(size, _)| size),
            rates: rates(config, model),
            processes: processes.clone(),
            device: device.clone(),
        }
    }

    pub(crate) fn objective(&self) -> &dyn Loss<B> {
        self.objective.as_ref()
    }

    /// What a language model is asked.
    pub(crate) fn answering(&self) -> Option<&Answering> {
        self.answering.as_deref()
    }

    /// Takes what was answered at the newest evaluation.
    pub(crate) fn take_sampled(&self) -> Vec<Answer> {
        self.sampled.take()
    }

    /// Opens sessions in which a model reads, on the run's device.
    pub(crate) fn sessions<'a>(
        &'a self,
        model: &'a Model<Inner<B>>,
    ) -> impl Fn(usize) -> Box<dyn Session + 'a> {
        |sequences| Box::new(Reading::new(model, &self.device, sequences))
    }

    /// The random view of an epoch.
    fn view(&self, epoch: u64) -> u64 {
        match self.config.images.views {
            Some(views) => epoch % views as u64,
            None if self.cache.keeps_training => 0,
            None => epoch,
        }
    }

    /// The order of an epoch's examples, in batches.
    fn order(&self, epoch: u64) -> Vec<Vec<usize>> {
        let set = &self.sets.train;
        let lengths = set.lengths();
        let sampler = sampler(&self.config, lengths.is_some());
        let n = set.len();
        if !self.config.train.weighted_sampling {
            return sampler.epoch(&lengths.unwrap_or_else(|| vec![1; n]), epoch);
        }
        let classes = self.objective.encoder().outputs();
        let ids = self.sets.train.targets().class_ids();
        let drawn = balance::drawn(ids, classes, self.config.seed, epoch);
        match lengths {
            None => drawn
                .chunks(sampler.batch_size.max(1))
                .map(<[usize]>::to_vec)
                .collect(),
            Some(lengths) => {
                let lengths: Vec<u32> = drawn.iter().map(|&i| lengths[i]).collect();
                let batches = sampler.epoch(&lengths, epoch).into_iter();
                let examples = |batch: Vec<usize>| batch.into_iter().map(|at| drawn[at]).collect();
                batches.map(examples).collect()
            }
        }
    }

    /// What the frozen beginning puts out for a batch, from the cache or computed.
    fn begin(
        &self,
        set: &Arc<dyn Inputs>,
        batch: &HostBatch,
        draw: Option<Draw>,
        model: &Model<Inner<B>>,
        cached: Option<&Mutex<FeatureCache>>,
        pass: Pass,
    ) -> Result<Activations<Inner<B>>, Error> {
        let view = draw.map_or(AS_EVALUATED, |draw| draw.view);
        let units = self.frozen.borrow().units;
        let n = batch.len();
        // A cache file that cannot be read or written costs time, no more.
        if let Some(cache) = cached
            && let Ok(Some(rows)) = lock(cache).get(view, &batch.examples)
        {
            return Ok(self.restored(model, units, rows, n));
        }
        let clock = Instant::now();
        let input = match &batch.input {
            Some(_) => self.input(batch)?,
            None => self.input(&set.batch(&batch.examples, draw)?)?,
        };
        let output = model.begin(input, units, pass);
        if let Some(cache) = cached {
            let rows = match &output {
                Activations::Map(maps) => host::values(maps.clone())?,
                Activations::Pooled(pooled) => host::values(pooled.clone())?,
                _ => return Ok(output),
            };
            let mut cost = lock(&self.cache.cost);
            cost.0 += n as u64;
            cost.1 += clock.elapsed().as_secs_f64();
            let _ = lock(cache).put(view, &batch.examples, &rows);
        }
        Ok(output)
    }

    /// A batch's input on the device.
    fn input<T: Backend<Device = B::Device>>(&self, batch: &HostBatch) -> Result<Input<T>, Error> {
        match &batch.input {
            Some(input) => Ok(input.to_device(&self.device)),
            None => Err(Error::Internal("a batch without its input".into())),
        }
    }

    /// What the loss reads: outputs of the head, or what is pooled.
    fn learned(&self, model: &Model<B>, input: Input<B>, pass: Pass) -> Tensor<B, 2> {
        match self.objective.compares_texts() {
            true => pooled(model.begin(input, model.units(), pass)),
            false => model.forward(input, pass),
        }
    }

    /// Of few-shot classification: the model with a logistic regression on the embeddings of the training texts as its head.
    pub(crate) fn with_fitted_head(
        &self,
        model: &Model<Inner<B>>,
    ) -> Result<Option<Model<Inner<B>>>, Error> {
        if self.config.peft.method != Method::Setfit {
            return Ok(None);
        }
        let (set, width) = (&self.sets.train, model.width());
        let scored = embed_with(model, set, self.config.eval.batch_size, &self.device)?;
        let rows = (0..scored.logits.len()).map(|row| scored.logits.row(row));
        // The penalty is one for vectors of length 1, and so says the same to every model.
        let squares = rows.clone().flatten().map(|&x| f64::from(x).powi(2));
        let length = (squares.sum::<f64>() / scored.logits.len().max(1) as f64).sqrt();
        let shorter = 1.0 / length.max(f64::MIN_POSITIVE) as f32;
        let rows: Vec<Vec<f32>> = rows
            .map(|row| row.iter().map(|x| x * shorter).collect())
            .collect();
        let rows: Vec<&[f32]> = rows.iter().map(Vec::as_slice).collect();
        let targets = scored.targets(set.as_ref());
        let outputs = model.outputs();
        let found = logistic::fit(&rows, targets.class_ids(), outputs);
        let weight: Vec<f32> = found.weight.iter().map(|weight| weight * shorter).collect();
        let weight = TensorData::new(weight, [outputs, width]);
        let weight = Tensor::from_data(weight, &self.device);
        let bias = Tensor::from_data(found.bias.as_slice(), &self.device);
        Ok(Some(model.clone().with_output(weight, bias)))
    }

    /// Whether figures are compared with those of the model before tuning.
    pub(crate) fn compares_with_base(&self) -> bool {
        self.objective.compares_with_base()
    }

    /// Takes the figures of the final set by the model as it is before training.
    pub(crate) fn take_base(&mut self, model: &Model<Inner<B>>) -> Result<(), Error> {
        let (_, set) = self.final_set();
        let scored = self.score(model, set, None)?;
        let targets = scored.targets(set.as_ref());
        self.base = Some(self.objective.figures(&scored.logits, &targets));
        Ok(())
    }

    /// The sum of the losses of a batch's outputs.
    fn summed(&self, logits: Tensor<B, 2>, model: &Model<B>, batch: &HostBatch) -> Tensor<B, 1> {
        let once = Pass::evaluation().with_precision(self.precision);
        let logits = by_example(logits, model, batch, once, &self.device);
        let losses = |targets| self.objective.losses(logits.clone(), targets).sum();
        match &batch.mixed {
            None => losses(&batch.targets),
            Some(mixed) => {
                losses(&batch.targets) * mixed.share + losses(&mixed.targets) * (1.0 - mixed.share)
            }
        }
    }

    /// Kept rows as the activations they were.
    fn restored(
        &self,
        model: &Model<Inner<B>>,
        units: usize,
        rows: Vec<f32>,
        n: usize,
    ) -> Activations<Inner<B>> {
        let width = rows.len() / n.max(1);
        if units == model.units() {
            let data = TensorData::new(rows, [n, width]);
            return Activations::Pooled(Tensor::from_data(data, &self.device));
        }
        let [height, across] = model.map_after(units, self.picture_size);
        let channels = width / (height * across).max(1);
        let data = TensorData::new(rows, [n, height, across, channels]);
        Activations::Map(Tensor::from_data(data, &self.device))
    }

    /// Logits of a set. `cached`: where what the frozen beginning puts out is kept.
    fn score(
        &self,
        model: &Model<Inner<B>>,
        set: &Arc<dyn Inputs>,
        cached: Option<&Arc<Mutex<FeatureCache>>>,
    ) -> Result<Scored, Error> {
        // What was trained on tells little, and is not worth as much time as the training.
        let trained_on = Arc::ptr_eq(set, &self.sets.train);
        let most = trained_on.then_some(MOST_TRAINED_ON);
        let units = self.frozen.borrow().units;
        let cached = cached.filter(|_| units > 0);
        let held = cached.map(Arc::clone);
        let needed = move |examples: &[usize]| {
            held.as_ref()
                .is_none_or(|cache| !lock(cache).holds(AS_EVALUATED, examples))
        };
        let batch_size = self.config.eval.batch_size;
        let outputs = model.outputs();
        let processes = &self.processes;
        score(processes, set, batch_size, outputs, most, needed, |batch| {
            let pass = Pass::evaluation();
            if units == 0 {
                return Ok(model.forward(self.input(batch)?, pass));
            }
            let cached = cached.map(|cache| cache.as_ref());
            let x = self.begin(set, batch, None, model, cached, pass)?;
            finished(model, x, units, pass)
        })
    }

    /// Whether what the frozen beginning makes of a training example is kept.
    pub(crate) fn keeps_features(&self) -> bool {
        self.cache.keeps_training && self.frozen.borrow().units > 0
    }

    /// Whether what the frozen beginning makes of a validation example is kept.
    pub(crate) fn keeps_evaluated(&self) -> bool {
        self.cache.keeps_validation && self.frozen.borrow().units > 0
    }

    /// Evaluates so many examples of a set, evenly spread; how many these were.
    pub(crate) fn try_evaluation(
        &self,
        model: &Model<Inner<B>>,
        set: &Arc<dyn Inputs>,
        most: usize,
    ) -> Result<usize, Error> {
        let (batch_size, outputs) = (self.config.eval.batch_size, model.outputs());
        let scored = score(
            &Collective::alone(),
            set,
            batch_size,
            outputs,
            Some(most),
            |_| true,
            |batch| Ok(model.forward(self.input(batch)?, Pass::evaluation())),
        )?;
        Ok(scored.examples.len())
    }

    /// How many examples the loss compares with what the model before training says of them.
    pub(crate) fn compared(&self) -> usize {
        let Sets {
            train,
            validation,
            test,
            ..
        } = &self.sets;
        let sets = [Some(train), validation.as_ref(), test.as_ref()].into_iter();
        let compared = sets.flatten().filter(|set| set.wants_reference());
        compared.map(|set| set.len()).sum()
    }

    /// Asks the model as it is before training about every example, where the loss compares with that. Training
    /// examples are asked in the precision of training, so that a model that did not change differs by nothing.
    pub(crate) fn take_reference(&mut self, model: &Model<Inner<B>>) -> Result<(), Error> {
        let training = Pass::evaluation().with_precision(self.precision);
        let sets = [
            (Some(Arc::clone(&self.sets.train)), training),
            (self.sets.validation.clone(), Pass::evaluation()),
            (self.sets.test.clone(), Pass::evaluation()),
        ];
        let [train, validation, test] = sets.map(|(set, pass)| {
            let Some(set) = set.filter(|set| set.wants_reference()) else {
                return Ok(None);
            };
            let (batch_size, outputs) = (self.config.eval.batch_size, model.outputs());
            let scored = score(
                &self.processes,
                &set,
                batch_size,
                outputs,
                None,
                |_| true,
                |batch| Ok(model.forward(self.input(batch)?, pass)),
            )?;
            Ok::<_, Error>(set.with_reference(&scored.logits))
        });
        if let Some(train) = train? {
            self.sets.train = train;
        }
        self.sets.validation = validation?.or(self.sets.validation.take());
        self.sets.test = test?.or(self.sets.test.take());
        Ok(())
    }

    /// The set that the final figures are of.
    fn final_set(&self) -> (&'static str, &Arc<dyn Inputs>) {
        match (&self.sets.test, &self.sets.validation) {
            (Some(test), _) => ("test", test),
            (None, Some(validation)) => ("validation", validation),
            (None, None) => ("train", &self.sets.train),
        }
    }

    /// The final figures of a model, and its worst mistakes. `evaluated`: the model is the one that [`Job::evaluate`] saw
    /// last, so that its validation logits need not be computed again.
    pub(crate) fn evaluate_finally(
        &mut self,
        model: &Model<Inner<B>>,
        evaluated: bool,
    ) -> Result<FinalEvaluation, Error> {
        let known = self.last.take().filter(|_| evaluated);
        let (split, _) = self.final_set();
        let fits = self.objective.fitted().is_some();
        let of_validation = match self.sets.validation.clone() {
            Some(set) if fits || split == "validation" => {
                let keeps = self.cache.keeps_validation;
                let cached = keeps.then(|| Arc::clone(&self.cache.validation));
                let scored = match known {
                    Some(scored) => scored,
                    None => self.score(model, &set, cached.as_ref())?,
                };
                if fits {
                    let targets = scored.targets(set.as_ref());
                    self.objective.fit(&scored.logits, &targets);
                }
                Some(scored)
            }
            _ => None,
        };
        let (split, set) = self.final_set();
        let scored = match of_validation.filter(|_| split == "validation") {
            Some(scored) => scored,
            None => self.score(model, set, None)?,
        };
        let targets = scored.targets(set.as_ref());
        let objective: &dyn Objective = self.objective.as_ref();
        let most = self.config.report.mistakes;
        let mistakes = scored.mistakes(set.as_ref(), objective, &targets, most);
        let doubtful = match mistakes.is_empty() {
            true => objective.doubtful(&scored.logits, &targets, most.min(MOST_DOUBTFUL)),
            false => Vec::new(),
        };
        let mut figures = objective.figures(&scored.logits, &targets);
        if let Some(base) = &self.base {
            figures.compare(base);
        }
        Ok(FinalEvaluation {
            split,
            figures,
            doubtful: scored.shown(set.as_ref(), doubtful),
            mistakes,
        })
    }

    /// What is worth saying after training. All processes ask for it, since each left out what it could not read.
    pub(crate) fn remarks(&self, units: usize) -> Result<Vec<String>, Error> {
        let sets = [
            Some(&self.sets.train),
            self.sets.validation.as_ref(),
            self.sets.test.as_ref(),
        ];
        let left_out = sets.into_iter().flatten().flat_map(|set| set.left_out());
        let left_out: Vec<String> = left_out.collect();
        let left_out = self.processes.gather(left_out.join("\n").into_bytes())?;
        let mut remarks: Vec<String> = Vec::new();
        for lines in &left_out {
            let lines = String::from_utf8_lossy(lines);
            let new = lines
                .lines()
                .filter(|line| !remarks.iter().any(|r| r == line));
            let new: Vec<String> = new.map(str::to_owned).collect();
            remarks.extend(new);
        }
        let trained_on = self.sets.train.len();
        if self.final_set().0 == "train" && trained_on > MOST_TRAINED_ON {
            remarks.push(format!(
                "there are no validation or test examples: the figures are of {MOST_TRAINED_ON} of the {trained_on} training examples"
            ));
        }
        remarks.extend(self.objective.fitted().map(|fitted| match self.final_set().0 {
            "validation" => format!(
                "{fitted} chosen on the validation examples, whose figures are shown: those that depend on it are better than on new examples; set data.test, or data.test_fraction, for examples that nothing was chosen on"
            ),
            "test" if self.sets.validation.is_none() => format!("there are no validation examples, so that {fitted} left as usual"),
            "test" => format!("{fitted} chosen on the validation examples; the figures are of the test examples"),
            _ => format!("there are no validation examples, so that {fitted} left as usual, and the figures are of the training examples"),
        }));
        let (computed, seconds) = *lock(&self.cache.cost);
        let (mut rows, mut bytes, mut hits) = (0, 0u64, 0);
        for cache in [&self.cache.training, &self.cache.validation] {
            let cache = lock(cache);
            let (n, memory, file) = cache.size();
            (rows, bytes, hits) = (rows + n, bytes + memory as u64 + file, hits + cache.hits);
        }
        if hits > 0 {
            let each = seconds / computed.max(1) as f64;
            remarks.push(format!(
                "the frozen part ({} of {units} stages) was computed once for {rows} {}s and kept in {:.1} MB; that saved {hits} passes, about {:.0} s",
                self.frozen.borrow().units,
                self.sets.noun,
                bytes as f64 / 1e6,
                each * hits as f64
            ));
        }
        Ok(remarks)
    }
}

impl<B: TuneAutodiff> Job<B> for Recipe<B> {
    type Model = Model<B>;
    type Batch = (HostBatch, Draw);

    fn names(&self) -> NameMap {
        self.names
    }

    fn collective(&self) -> Collective {
        self.processes.clone()
    }

    fn batches(&self, _: u64) -> usize {
        sampler(&self.config, false).batches(self.sets.train.len())
    }

    fn stream(
        &self,
        epoch: u64,
        start: usize,
        shards: &Shards,
    ) -> Result<BatchStream<'_, (HostBatch, Draw)>, TrainError> {
        let order = self.order(epoch);
        let (shards, own) = (shards.clone(), shards.own().len());
        let (start, batches) = (start * own, order.len() * own);
        let view = self.view(epoch);
        let set = Arc::clone(&self.sets.train);
        let cache = self
            .keeps_features()
            .then(|| Arc::clone(&self.cache.training));
        let ahead = set.ahead() * own.max(1);
        let make = move |i: usize| {
            // Of each batch the own shards, one after the other.
            let (at, shard) = (i / own, shards.own().start + i % own);
            let examples = &shards.cut(&order[at], shard);
            let batch = shards.draw(at as u64, shard);
            let draw = Draw { view, epoch, batch };
            let held = cache
                .as_ref()
                .is_some_and(|c| lock(c).holds(view, examples));
            let batch = match held || examples.is_empty() {
                true => HostBatch::without_input(set.as_ref(), examples),
                false => set.batch(examples, Some(draw))?,
            };
            Ok((batch, draw))
        };
        let batches = prefetch(ahead, start, batches, make).map_err(boxed)?;
        Ok(Box::new(batches.map(|batch| match batch {
            Ok(Ok(batch)) => Ok(batch),
            Ok(Err(error)) | Err(error) => Err(boxed::<rekindle_data::DataError>(error)),
        })))
    }

    fn rate(&self, name: &str) -> f64 {
        self.rates.get(name).copied().unwrap_or(1.0)
    }

    fn at_epoch(&self, model: Model<B>, epoch: u64) -> Model<B> {
        let model = match self.config.peft.unfreeze_every {
            None => model,
            Some(every) => {
                let all = params::set_trainable(model, &mut |path| self.trains.contains(path));
                let units = match usize::try_from(epoch).unwrap_or(usize::MAX) / every {
                    0 => 0,
                    blocks => all.last_units(blocks),
                };
                only_last(all, units, &[])
            }
        };
        let units = model.cuttable_units();
        let mut frozen = self.frozen.borrow_mut();
        if frozen.model.is_none() || frozen.units != units {
            lock(&self.cache.training).clear();
            lock(&self.cache.validation).clear();
            *frozen = Frozen {
                units,
                model: (units > 0).then(|| model.valid()),
            };
        }
        model
    }

    fn will_train(&self, name: &str) -> bool {
        self.trains_by_name.contains(name)
    }

    fn count(&self, (batch, _): &(HostBatch, Draw)) -> usize {
        batch.weight()
    }

    fn describe(&self, (batch, _): &(HostBatch, Draw)) -> String {
        const NAMED: usize = 4;
        let named = batch.examples.iter().take(NAMED);
        let places: Vec<String> = named.map(|&i| self.sets.train.place(i)).collect();
        let places = places.join(", ");
        match batch.len().saturating_sub(NAMED) {
            0 => places,
            more => format!("{places} and {more} more"),
        }
    }

    fn loss(
        &self,
        model: &Model<B>,
        (batch, draw): &(HostBatch, Draw),
        pass: Pass,
    ) -> Result<Tensor<B, 1>, TrainError> {
        if batch.examples.is_empty() {
            // Every example of it was broken and is skipped: a loss of nothing, with gradients of zero.
            let weight = model.output_weight();
            return match weight {
                Some(weight) => Ok(weight.val().sum() * 0.0),
                None => Ok(Tensor::zeros([1], &self.device)),
            };
        }
        let (units, beginning) = {
            let frozen = self.frozen.borrow();
            (frozen.units, frozen.model.clone())
        };
        let pass = pass.with_precision(self.precision);
        let logits = match beginning {
            None => self.learned(model, self.input(batch).map_err(boxed)?, pass),
            Some(frozen) => {
                let keeps = self.cache.keeps_training;
                let cached = keeps.then_some(self.cache.training.as_ref());
                let once = Pass::evaluation().with_precision(self.precision);
                let set = &self.sets.train;
                let x = self
                    .begin(set, batch, Some(*draw), &frozen, cached, once)
                    .map_err(boxed)?;
                finished(model, Activations::from_inner(x), units, pass).map_err(boxed)?
            }
        };
        Ok(self.summed(logits, model, batch))
    }

    fn backward(
        &self,
        model: &Model<B>,
        batch: &(HostBatch, Draw),
        pass: Pass,
        count: usize,
        grads: &mut Gradients<B>,
    ) -> Result<Tensor<Inner<B>, 1>, TrainError> {
        let examples = &batch.0;
        let at_once = self.config.embedding.mini_batch_size;
        if let Some(input) = &examples.input
            && self.objective.compares_texts()
            && input.texts() > at_once
        {
            let loss = |embeddings| self.summed(embeddings, model, examples) / count as f64;
            let pass = pass.with_precision(self.precision);
            let (parts, saves) = (input.parts(at_once), self.gradient_checkpointing);
            let device = &self.device;
            return Ok(backward_in_parts(
                model, &parts, pass, saves, loss, grads, device,
            ));
        }
        // What a frozen beginning puts out is kept, and has no graph to save.
        let kept = self.frozen.borrow().units > 0;
        if !self.gradient_checkpointing || kept || examples.examples.is_empty() {
            let loss = self.loss(model, batch, pass)? / count as f64;
            grads.backward(&loss, model, self.names);
            return Ok(loss.inner());
        }
        let pass = pass.with_precision(self.precision);
        let loss = |x| {
            let outputs = match self.objective.compares_texts() {
                true => pooled(x),
                false => model.head(x, pass),
            };
            self.summed(outputs, model, examples) / count as f64
        };
        let input = self.input(examples).map_err(boxed)?;
        // A parameter of two units gets one sum, to which the other micro-batches are added as ever.
        let mut own = Gradients::default();
        let value = backward_by_unit(model, input, pass, loss, &mut own);
        grads.merge(own);
        Ok(value)
    }

    fn evaluate(&self, model: &Model<Inner<B>>) -> Result<Evaluation, TrainError> {
        let Some(validation) = &self.sets.validation else {
            return Ok(Evaluation::default());
        };
        let fitted = self.with_fitted_head(model).map_err(boxed)?;
        let model = fitted.as_ref().unwrap_or(model);
        let keeps = self.cache.keeps_validation;
        let cached = keeps.then_some(&self.cache.validation);
        let scored = self.score(model, validation, cached).map_err(boxed)?;
        let targets = scored.targets(validation.as_ref());
        let figures = self.objective.figures(&scored.logits, &targets);
        *self.last.borrow_mut() = Some(scored);
        // Answers are shown, and decide nothing: the process that writes them asks for them.
        if let Some(answering) = self.answering().filter(|_| self.processes.leads()) {
            let begin = self.sessions(model);
            let answers = answering.answer(&begin, &answering.samples, &|| false);
            *self.sampled.borrow_mut() = answers.map_err(boxed)?.unwrap_or_default();
        }
        let scalars = figures.scalars.into_iter();
        Ok(Evaluation {
            metrics: scalars.map(|scalar| (scalar.key, scalar.value)).collect(),
        })
    }
}
