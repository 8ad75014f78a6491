//! A classifier of points in the plane that trains in milliseconds, as a job with everything a checkpoint could forget.

use burn::{
    backend::{Autodiff, Flex},
    module::{AutodiffModule, Module, Param},
    tensor::{Int, Tensor, TensorData, backend::Backend},
};
use rekindle_base::{
    HostTensor,
    rng::{normal, shuffle, uniform},
};
use rekindle_nn::{
    Pass,
    host::{to_host, values},
    ops,
    params::{self, NameMap, ParamRef},
};
use rekindle_train::{
    BatchStream, BestMetric, Checkpoint, Choose, Evaluation, Event, Every, Job, OptimizerConfig,
    Outcome, RunDir, Schedule, Shards, TrainConfig, TrainError, TrainState, Warmup, train,
};
use std::{
    cell::Cell,
    collections::BTreeMap,
    path::{Path, PathBuf},
};

pub type Tuning = Autodiff<Flex>;
pub type Ended = Result<Outcome<Tuning, Classifier<Tuning>>, TrainError>;

/// Points `[N, 2]` to logits `[N, 3]`; `late` joins the training after the first epoch.
#[derive(Module, Debug)]
pub struct Classifier<B: Backend> {
    pub weight: Param<Tensor<B, 2>>,
    pub bias: Param<Tensor<B, 1>>,
    pub late: Param<Tensor<B, 1>>,
}

/// The model that every run starts from.
pub fn start() -> Classifier<Tuning> {
    let device = Default::default();
    Classifier {
        weight: Param::from_tensor(Tensor::from_data(
            [[0.3, -0.2, 0.1], [0.05, 0.2, -0.4]],
            &device,
        )),
        bias: Param::from_tensor(Tensor::from_data([0.0, 0.1, -0.1], &device)),
        late: Param::from_tensor(Tensor::from_data([0.0, 0.0, 0.0], &device)),
    }
}

/// Thirteen noisy points in batches of three; the validation set is so small that many evaluations tie.
pub struct Points {
    pub seed: u64,
    pub batch_size: usize,
    /// Micro-batches and evaluations until the process dies.
    pub fuel: Cell<u64>,
    /// Whether `late` waits for the second epoch.
    pub unfreeze: bool,
    /// What evaluations say, in order, in place of the model's own figures.
    pub script: Option<Script>,
    /// Micro-batches that the stream holds back.
    pub short_by: usize,
}

/// What the n-th evaluation (from 0) says, and does.
pub type Script = Box<dyn Fn(usize) -> Vec<(&'static str, f64)>>;

const TRAIN: usize = 13;
const VALIDATION: usize = 6;

impl Points {
    pub fn new(seed: u64) -> Self {
        Self {
            seed,
            batch_size: 3,
            fuel: Cell::new(u64::MAX),
            unfreeze: false,
            script: None,
            short_by: 0,
        }
    }

    /// With these figures, one evaluation after the other.
    pub fn scripted(figures: Vec<Vec<(&'static str, f64)>>) -> Self {
        Self::telling(move |n| figures[n.min(figures.len() - 1)].clone())
    }

    pub fn telling(script: impl Fn(usize) -> Vec<(&'static str, f64)> + 'static) -> Self {
        Self {
            script: Some(Box::new(script)),
            ..Self::new(0)
        }
    }

    fn burn(&self) -> Result<(), TrainError> {
        match self.fuel.get() {
            0 => Err(TrainError::Job("killed".into())),
            left => {
                self.fuel.set(left - 1);
                Ok(())
            }
        }
    }

    /// The point `i` and its class: three heaps that overlap.
    fn point(&self, i: usize) -> ([f32; 2], i32) {
        let class = i % 3;
        let angle = class as f64 * 2.1;
        let noise = |j| 0.9 * normal(self.seed, (2 * i + j) as u64);
        let xy = [angle.cos() + noise(0), angle.sin() + noise(1)];
        (xy.map(|v| v as f32), class as i32)
    }

    fn tensors<B: Backend>(&self, indices: &[usize]) -> (Tensor<B, 2>, Tensor<B, 1, Int>) {
        let device = Default::default();
        let (xs, classes): (Vec<[f32; 2]>, Vec<i32>) =
            indices.iter().map(|&i| self.point(i)).unzip();
        let xs = TensorData::new(xs.concat(), [indices.len(), 2]);
        (
            Tensor::from_data(xs, &device),
            Tensor::from_data(TensorData::from(classes.as_slice()), &device),
        )
    }
}

fn logits<B: rekindle_nn::TuneBackend>(
    model: &Classifier<B>,
    xs: Tensor<B, 2>,
    pass: Pass,
) -> Tensor<B, 2> {
    let xs = ops::dropout(xs, 0.2, pass);
    let bias = model.bias.val() + model.late.val();
    xs.matmul(model.weight.val()) + bias.unsqueeze()
}

impl Job<Tuning> for Points {
    type Model = Classifier<Tuning>;
    type Batch = Vec<usize>;

    fn names(&self) -> NameMap {
        NameMap::default()
    }

    fn batches(&self, _: u64) -> usize {
        match self.batch_size {
            0 => 0,
            size => TRAIN.div_ceil(size),
        }
    }

    fn stream(
        &self,
        epoch: u64,
        start: usize,
        shards: &Shards,
    ) -> Result<BatchStream<'_, Vec<usize>>, TrainError> {
        let mut order: Vec<usize> = (0..TRAIN).collect();
        shuffle(&mut order, self.seed, 1, epoch);
        let batches: Vec<Vec<usize>> = order
            .chunks(self.batch_size.max(1))
            .map(<[usize]>::to_vec)
            .collect();
        let there = self.batches(epoch).saturating_sub(self.short_by);
        let shards = shards.clone();
        let cut = move |batch: Vec<usize>| {
            let shards = shards.clone();
            shards.own().map(move |shard| shards.cut(&batch, shard))
        };
        Ok(Box::new(
            batches
                .into_iter()
                .take(there)
                .skip(start)
                .flat_map(cut)
                .map(|batch| self.burn().map(|()| batch)),
        ))
    }

    fn at_epoch(&self, model: Self::Model, epoch: u64) -> Self::Model {
        params::set_trainable(model, &mut |path| {
            !(self.unfreeze && path == "late" && epoch == 0)
        })
    }

    fn will_train(&self, name: &str) -> bool {
        self.unfreeze && name == "late"
    }

    fn count(&self, batch: &Vec<usize>) -> usize {
        batch.len()
    }

    fn describe(&self, batch: &Vec<usize>) -> String {
        format!("{batch:?}")
    }

    fn loss(
        &self,
        model: &Self::Model,
        batch: &Vec<usize>,
        pass: Pass,
    ) -> Result<Tensor<Tuning, 1>, TrainError> {
        let (xs, classes) = self.tensors(batch);
        let settings = ops::CrossEntropy::default();
        Ok(ops::cross_entropy(logits(model, xs, pass), classes, &settings).sum())
    }

    fn evaluate(&self, model: &Classifier<Flex>) -> Result<Evaluation, TrainError> {
        self.burn()?;
        if let Some(script) = &self.script {
            // As many evaluations as steps in these runs.
            let n = SEEN.with(|seen| seen.replace(seen.get() + 1));
            let metrics = script(n).into_iter().map(|(k, v)| (k.to_owned(), v));
            return Ok(Evaluation {
                metrics: metrics.collect(),
            });
        }
        let indices: Vec<usize> = (100..100 + VALIDATION).collect();
        let (xs, classes) = self.tensors::<Flex>(&indices);
        let logits = logits(model, xs, Pass::evaluation());
        let rows = values(logits.clone()).unwrap();
        let right = rows
            .chunks(3)
            .zip(&indices)
            .filter(|(row, i)| (0..3).all(|c| row[c] <= row[self.point(**i).1 as usize]))
            .count();
        let settings = ops::CrossEntropy::default();
        let loss = values(ops::cross_entropy(logits, classes, &settings)).unwrap();
        let loss: f64 = loss.iter().map(|&v| f64::from(v)).sum();
        Ok(Evaluation {
            metrics: BTreeMap::from([
                ("accuracy".to_owned(), right as f64 / VALIDATION as f64),
                ("loss".to_owned(), loss / VALIDATION as f64),
            ]),
        })
    }
}

thread_local! {
    /// Evaluations of the scripted job on this thread.
    static SEEN: Cell<usize> = const { Cell::new(0) };
}

/// The next scripted evaluation is the n-th.
pub fn rewind(n: usize) {
    SEEN.with(|seen| seen.set(n));
}

/// Twelve steps, an evaluation after each fourth; accuracy is best.
pub fn config() -> TrainConfig {
    TrainConfig {
        epochs: 1.0,
        max_steps: Some(12),
        gradient_accumulation_steps: 1,
        shards: None,
        learning_rate: 0.1,
        schedule: Schedule::Cosine,
        warmup: Warmup::Steps(2),
        optimizer: OptimizerConfig::default(),
        max_grad_norm: 1.0,
        seed: 3,
        evaluate: Every::Steps(4),
        checkpoint_every: None,
        keep: 2,
        best: BestMetric {
            name: "accuracy".into(),
            higher_is_better: true,
        },
        choose: Choose::Best,
        early_stopping: None,
        average_decay: None,
        fingerprint: "test".into(),
    }
}

/// A run in a fresh directory: in memory where the system has such a place, since these runs write thousands of
/// checkpoints and wait for the disk with each.
pub fn fresh() -> (tempfile::TempDir, RunDir) {
    let folder = tempfile::tempdir_in("/dev/shm")
        .or_else(|_| tempfile::tempdir())
        .unwrap();
    let run = RunDir::create(&folder.path().join("run")).unwrap();
    (folder, run)
}

/// Trains, from a checkpoint if there is one, and stops after so many steps in all, if any.
pub fn go(
    run: &RunDir,
    resume: Option<&Checkpoint>,
    job: &Points,
    config: &TrainConfig,
    stop_after: Option<u64>,
) -> (Ended, Vec<Event>) {
    let mut events: Vec<Event> = Vec::new();
    let done = Cell::new(resume.map_or(0, |checkpoint| checkpoint.state.step));
    let stop = || {
        done.set(done.get() + 1);
        Some(done.get()) == stop_after
    };
    let device = Default::default();
    let ended = train(
        job,
        start(),
        config,
        run,
        resume,
        &mut events,
        &stop,
        &device,
    );
    (ended, events)
}

/// All parameters by name.
pub fn state<B: Backend>(model: &Classifier<B>) -> BTreeMap<String, HostTensor> {
    let mut state = BTreeMap::new();
    params::visit(model, &mut |param: ParamRef<'_, B>| {
        state.insert(param.path.to_owned(), to_host::<B>(param.value).unwrap());
    });
    state
}

/// The bits of all parameters.
pub fn bits<B: Backend>(model: &Classifier<B>) -> BTreeMap<String, Vec<u32>> {
    state(model)
        .into_iter()
        .map(|(name, tensor)| (name, tensor.values.iter().map(|v| v.to_bits()).collect()))
        .collect()
}

pub fn step_dir(run: &RunDir, step: u64) -> PathBuf {
    run.checkpoints().join(format!("step-{step:08}"))
}

/// The steps whose checkpoints are on disk.
pub fn on_disk(run: &RunDir) -> Vec<u64> {
    let mut steps: Vec<u64> = std::fs::read_dir(run.checkpoints())
        .unwrap()
        .filter_map(|entry| {
            let name = entry.unwrap().file_name().into_string().unwrap();
            name.strip_prefix("step-")?.parse().ok()
        })
        .collect();
    steps.sort_unstable();
    steps
}

pub fn warnings(events: &[Event]) -> Vec<String> {
    events
        .iter()
        .filter_map(|event| match event {
            Event::Warning { message } => Some(message.clone()),
            _ => None,
        })
        .collect()
}

pub fn message<T>(result: Result<T, TrainError>) -> String {
    result.map(|_| ()).unwrap_err().to_string()
}

/// The best step and its value's bits.
pub fn best(state: &TrainState) -> Option<(u64, u64)> {
    state.best.map(|best| (best.step, best.value.to_bits()))
}

/// The checkpoint that `best` links to.
pub fn linked(run: &RunDir) -> Option<PathBuf> {
    std::fs::read_link(run.best()).ok()
}

pub fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

/// A number in 0..n from a seed and a place.
pub fn draw(seed: u64, place: u64, n: u64) -> u64 {
    (uniform(seed, place) * n as f64) as u64
}

pub fn valid(model: &Classifier<Tuning>) -> Classifier<Flex> {
    model.valid()
}
