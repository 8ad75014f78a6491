//! What goldens and laws share: fixtures, the places of real models, comparisons, and text classification as a small job for
//! the real training loop.
#![allow(clippy::unwrap_used)]

use std::cell::Cell;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use burn::backend::{Autodiff, Flex};
use burn::module::AutodiffModule;
use burn::tensor::backend::Backend;
use burn::tensor::{Int, Tensor, TensorData, TensorPrimitive};
use rekindle_base::HostTensor;
use rekindle_data::{Encoded, EncodedSet, Sampler, Targets, TextBatch, TextEncoder};
use rekindle_hub::{Hub, NoProgress};
use rekindle_models::{
    Activations, HeadSpec, LoadReport, Model, Pretrained, Problem, Reads, TextInput,
};
use rekindle_nn::host::{self, from_host, to_host};
use rekindle_nn::params::{self, NameMap, ParamRef};
use rekindle_nn::{Pass, Sequences, TuneAutodiff, TuneBackend, ops};
use rekindle_tests::{Need, need};
use rekindle_train::{
    BatchStream, BestMetric, Checkpoint, Choose, Evaluation, Event, Every, Gradients, Job,
    OptimizerConfig, Outcome, RunDir, Schedule, Shards, TrainConfig, TrainError, Warmup, train,
};
use rekindle_weights::WeightFiles;
use serde_json::Value;

/// How a small run ends.
pub type Ended<B> = Result<Outcome<B, Model<B>>, TrainError>;
/// The CPU backend, to evaluate.
pub type Cpu = Flex;
/// The CPU backend, to train.
pub type Tuning = Autodiff<Flex>;

/// Keeps what happens in a run.
#[derive(Default)]
pub struct Events(pub Mutex<Vec<Event>>);

impl rekindle::Observer for Events {
    fn event(&self, event: &Event) {
        self.0.lock().unwrap().push(event.clone());
    }
}

/// A fixture's path below `tests/golden`, or below `REKINDLE_TEST_GOLDEN` where the program was carried to another machine.
pub fn golden(path: &str) -> PathBuf {
    let folder = std::env::var_os("REKINDLE_TEST_GOLDEN");
    let folder = folder.map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("golden"),
        PathBuf::from,
    );
    folder.join(path)
}

/// A JSON fixture.
pub fn json(path: &str) -> Value {
    let path = golden(path);
    let text = std::fs::read_to_string(&path)
        .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// A tensor of a fixture that must have it.
pub fn read(files: &WeightFiles, name: &str) -> HostTensor {
    files
        .read(name)
        .unwrap()
        .unwrap_or_else(|| panic!("the fixture has no tensor `{name}`"))
}

/// All numbers of nested JSON lists, in order.
pub fn numbers(value: &Value) -> Vec<f32> {
    match value {
        Value::Array(list) => list.iter().flat_map(numbers).collect(),
        other => vec![
            other
                .as_f64()
                .unwrap_or_else(|| panic!("{other} is no number")) as f32,
        ],
    }
}

/// A list of whole numbers.
pub fn ids(value: &Value) -> Vec<u32> {
    let list = value.as_array().unwrap().iter();
    list.map(|id| id.as_u64().unwrap() as u32).collect()
}

/// A case's token ids and types as transformers made them.
pub fn encoded(case: &Value) -> Encoded {
    let input = ids(&case["input_ids"]);
    Encoded {
        // A model without segment types has none.
        type_ids: match &case["token_type_ids"] {
            Value::Null => vec![0; input.len()],
            types => ids(types),
        },
        ids: input,
        truncated: false,
    }
}

/// A set of the cases of a fixture that holds ids; labelled if the cases are.
pub fn set(cases: &Value) -> EncodedSet {
    EncodedSet {
        items: cases.as_array().unwrap().iter().map(encoded).collect(),
        targets: class_targets(labels_of(cases)),
    }
}

/// A set of the cases of a fixture, encoded here; labelled if the cases are.
pub fn encode_cases(dir: &Path, max_length: usize, cases: &Value) -> EncodedSet {
    let texts = cases
        .as_array()
        .unwrap()
        .iter()
        .map(|case| (case["text"].as_str().unwrap(), case["text_pair"].as_str()));
    encode(dir, max_length, texts, labels_of(cases))
}

/// Classes as targets; none of a set without labels.
pub fn class_targets(ids: Vec<u32>) -> Targets {
    match ids.is_empty() {
        true => Targets::None,
        false => Targets::Class(ids),
    }
}

fn labels_of(cases: &Value) -> Vec<u32> {
    let labels = cases.as_array().unwrap().iter();
    labels
        .filter_map(|case| case["label"].as_u64())
        .map(|label| label as u32)
        .collect()
}

/// Texts and pairs as a set, cut at `max_length`.
pub fn encode<'a>(
    dir: &Path,
    max_length: usize,
    texts: impl IntoIterator<Item = (&'a str, Option<&'a str>)>,
    labels: Vec<u32>,
) -> EncodedSet {
    let encoder = TextEncoder::from_dir(dir, Some(max_length)).unwrap();
    EncodedSet {
        items: texts
            .into_iter()
            .map(|(text, pair)| encoder.encode(text, pair).unwrap())
            .collect(),
        targets: class_targets(labels),
    }
}

/// Label names as transformers makes them up.
pub fn labels(count: usize) -> Vec<String> {
    (0..count).map(|i| format!("LABEL_{i}")).collect()
}

/// The directory of all-MiniLM-L6-v2: `REKINDLE_TEST_MINILM`, or where the hub keeps it. `None` as `rekindle_tests::need`.
pub fn minilm() -> Option<PathBuf> {
    model(Need::MiniLm, "REKINDLE_TEST_MINILM")
}

/// The directory of EfficientNet-Lite0: `REKINDLE_TEST_EFFICIENTNET`, or where the hub keeps it. `None` as
/// `rekindle_tests::need`.
pub fn efficientnet() -> Option<PathBuf> {
    model(Need::EfficientNetLite0, "REKINDLE_TEST_EFFICIENTNET")
}

/// A model by its name in the hub, which is also that of the need.
fn model(model: Need, variable: &str) -> Option<PathBuf> {
    if let Some(dir) = std::env::var_os(variable) {
        return Some(dir.into());
    }
    let hub = Hub::from_env().offline(true);
    need(model, hub.model(model.name(), &NoProgress)).map(|found| found.dir)
}

/// The tiny BERT's directory.
pub fn tiny() -> PathBuf {
    golden("tiny_bert/model")
}

/// A head of classes with these labels.
pub fn head(labels: Vec<String>, reads: Option<Reads>, require: bool) -> HeadSpec {
    HeadSpec {
        outputs: labels.len(),
        labels,
        problem: Problem::SingleLabel,
        reads,
        seed: 42,
        require,
    }
}

/// The label names of a model directory.
pub fn own_labels(dir: &Path) -> Vec<String> {
    Pretrained::open(dir).unwrap().config().labels.clone()
}

/// A classifier for these labels, from a model directory; its head is new if the directory has none for them.
pub fn classifier<B: Backend>(
    dir: &Path,
    labels: Vec<String>,
    reads: Option<Reads>,
    device: &B::Device,
) -> (Model<B>, LoadReport) {
    let pretrained = Pretrained::open(dir).unwrap();
    Model::from_pretrained(&pretrained, &head(labels, reads, false), device).unwrap()
}

/// Hidden states `[T, D]` after the embeddings and after each layer.
pub fn hidden_states<B: TuneBackend>(model: &Model<B>, input: &TextInput<B>) -> Vec<Tensor<B, 2>> {
    model.backbone().encoder().unwrap().hidden_states(input)
}

/// What the head reads, `[B, D]`.
pub fn pooled<B: TuneBackend>(model: &Model<B>, input: &TextInput<B>, pass: Pass) -> Tensor<B, 2> {
    match model.begin(input.clone().into(), model.units(), pass) {
        Activations::Pooled(x) => x,
        _ => panic!("all units were asked for"),
    }
}

/// The tiny BERT with its own head.
pub fn tiny_classifier<B: Backend>(device: &B::Device) -> Model<B> {
    let (model, report) = classifier(&tiny(), own_labels(&tiny()), None, device);
    assert!(
        report.initialised.is_empty(),
        "the tiny BERT has a head: {report:?}"
    );
    model
}

/// The names of the tiny BERT's parameters, which are those of every BERT.
pub fn tiny_names() -> NameMap {
    tiny_classifier::<Cpu>(&Default::default()).names()
}

/// The examples `indices` of a set as one packed batch.
pub fn input<B: Backend>(set: &EncodedSet, indices: &[usize], device: &B::Device) -> TextInput<B> {
    let batch = TextBatch::pack(set, indices);
    TextInput::new(
        batch.ids,
        batch.type_ids,
        Sequences::new(batch.offsets),
        device,
    )
}

/// A whole set as one packed batch.
pub fn packed<B: Backend>(set: &EncodedSet, device: &B::Device) -> TextInput<B> {
    input(set, &(0..set.len()).collect::<Vec<_>>(), device)
}

/// A tensor's values, row-major.
pub fn values<B: Backend, const D: usize>(tensor: Tensor<B, D>) -> Vec<f32> {
    host::values(tensor).unwrap()
}

/// A host tensor on a device.
pub fn tensor<B: Backend, const D: usize>(host: HostTensor, device: &B::Device) -> Tensor<B, D> {
    Tensor::from_primitive(TensorPrimitive::Float(from_host::<B>(host, device)))
}

/// Logits of a set's examples, each one alone, without dropout.
pub fn logits_alone<B: TuneBackend>(
    model: &Model<B>,
    set: &EncodedSet,
    device: &B::Device,
) -> Vec<f32> {
    (0..set.len())
        .flat_map(|i| values(model.forward(input(set, &[i], device).into(), Pass::evaluation())))
        .collect()
}

/// All parameters by published name.
pub fn state<B: Backend>(model: &Model<B>) -> BTreeMap<String, HostTensor> {
    let mut all = BTreeMap::new();
    params::visit(model, &mut |param: ParamRef<'_, B>| {
        let name = model.names().published(param.path);
        assert!(
            all.insert(name, to_host::<B>(param.value).unwrap())
                .is_none(),
            "two parameters at {}",
            param.path
        );
    });
    all
}

/// The published names of the parameters that train.
pub fn trainable<B: Backend>(model: &Model<B>) -> Vec<String> {
    let mut names = Vec::new();
    params::visit(model, &mut |param: ParamRef<'_, B>| {
        if param.trainable {
            names.push(model.names().published(param.path));
        }
    });
    names
}

/// Panics unless two states have the same names, shapes and bits.
pub fn assert_same_bits(
    what: &str,
    found: &BTreeMap<String, HostTensor>,
    expected: &BTreeMap<String, HostTensor>,
) {
    assert!(
        found.keys().eq(expected.keys()),
        "{what}: the parameters differ"
    );
    for (name, expected) in expected {
        let found = &found[name];
        assert_eq!(found.shape, expected.shape, "{what}: the shape of `{name}`");
        let differ = found
            .values
            .iter()
            .zip(&expected.values)
            .position(|(a, b)| a.to_bits() != b.to_bits());
        if let Some(i) = differ {
            panic!(
                "{what}: `{name}` is {} at flat index {i}, expected {}",
                found.values[i], expected.values[i]
            );
        }
    }
}

/// The largest absolute difference; infinite if a value is not a number.
pub fn difference(found: &[f32], expected: &[f32]) -> f32 {
    assert_eq!(found.len(), expected.len(), "as many values");
    found
        .iter()
        .zip(expected)
        .map(|(a, b)| (a - b).abs())
        .map(|d| if d.is_nan() { f32::INFINITY } else { d })
        .fold(0.0, f32::max)
}

/// Panics if values are farther apart than `tolerance`; returns how far they are.
pub fn assert_close(what: &str, found: &[f32], expected: &[f32], tolerance: f32) -> f32 {
    let largest = difference(found, expected);
    assert!(
        largest <= tolerance,
        "{what}: the largest difference is {largest:e}, allowed {tolerance:e}"
    );
    largest
}

/// Logits `[R, columns]` less the mean of each column over the rows of each example, so many of them each: a softmax over these rows does not
/// see the head's bias, so that only rounding moves it.
pub fn centred(mut logits: Vec<f32>, columns: usize, lengths: &[usize]) -> Vec<f32> {
    let mut left = logits.as_mut_slice();
    for length in lengths {
        let (example, rest) = left.split_at_mut(columns * length);
        for column in 0..columns {
            let own = || example.iter().skip(column).step_by(columns);
            let mean = own().sum::<f32>() / *length as f32;
            for logit in example.iter_mut().skip(column).step_by(columns) {
                *logit -= mean;
            }
        }
        left = rest;
    }
    logits
}

/// The largest difference of a gradient's values, each relative to its own magnitude or, where that is smaller, to the
/// root mean square `rms` of the whole gradient: an element near zero is a difference of large terms, and its rounding
/// is theirs.
pub fn relative(found: &[f32], expected: &[f32], rms: f32) -> f32 {
    assert_eq!(found.len(), expected.len(), "as many values");
    found
        .iter()
        .zip(expected)
        .map(|(a, b)| (a - b).abs() / b.abs().max(rms).max(f32::MIN_POSITIVE))
        .map(|d| if d.is_nan() { f32::INFINITY } else { d })
        .fold(0.0, f32::max)
}

/// The 2-norm, summed in f64.
pub fn norm(values: &[f32]) -> f32 {
    values
        .iter()
        .map(|&v| f64::from(v).powi(2))
        .sum::<f64>()
        .sqrt() as f32
}

/// Gradients of the mean loss over a batch, and that loss.
pub fn gradients<B: TuneAutodiff>(
    model: &Model<B>,
    input: &TextInput<B>,
    labels: &[u32],
    pass: Pass,
) -> (Gradients<B>, f32) {
    let loss = loss_sum(model, input, labels, pass) / labels.len() as f64;
    let mut grads = Gradients::default();
    grads.backward(&loss, model, model.names());
    (grads, values(loss)[0])
}

/// The sum of a batch's losses `[1]`.
pub fn loss_sum<B: TuneBackend>(
    model: &Model<B>,
    input: &TextInput<B>,
    labels: &[u32],
    pass: Pass,
) -> Tensor<B, 1> {
    let logits = model.forward(input.clone().into(), pass);
    let labels: Vec<i32> = labels.iter().map(|&label| label as i32).collect();
    let labels: Tensor<B, 1, Int> =
        Tensor::from_data(TensorData::from(labels.as_slice()), &logits.device());
    ops::cross_entropy(logits, labels, &ops::CrossEntropy::default()).sum()
}

/// A gradient's values by published name.
pub fn gradient<B: TuneAutodiff>(grads: &Gradients<B>, name: &str) -> Option<Vec<f32>> {
    grads
        .get(name)
        .map(|grad| to_host::<B::InnerBackend>(grad.clone()).unwrap().values)
}

/// Text classification for the training loop: a set, cut into batches by a sampler, evaluated on itself.
pub struct Texts<B: TuneAutodiff> {
    pub set: EncodedSet,
    pub sampler: Sampler,
    /// The example whose loss is not a number.
    pub nan_at: Option<usize>,
    pub device: B::Device,
    /// The names of the model that is trained, once a run has begun.
    pub names: Cell<NameMap>,
}

impl<B: TuneAutodiff> Texts<B> {
    /// Batches in the order of the set.
    pub fn in_order(set: EncodedSet, batch_size: usize) -> Self {
        let sampler = Sampler {
            seed: 0,
            shuffle: false,
            group_by_length: false,
            batch_size,
            drop_last: false,
        };
        Self {
            set,
            sampler,
            nan_at: None,
            device: Default::default(),
            names: Cell::default(),
        }
    }
}

impl<B: TuneAutodiff> Job<B> for Texts<B> {
    type Model = Model<B>;
    type Batch = TextBatch;

    fn names(&self) -> NameMap {
        self.names.get()
    }

    fn batches(&self, _: u64) -> usize {
        self.sampler.batches(self.set.len())
    }

    fn stream(
        &self,
        epoch: u64,
        start: usize,
        shards: &Shards,
    ) -> Result<BatchStream<'_, TextBatch>, TrainError> {
        let order = self.sampler.epoch(&self.set.lengths(), epoch);
        let shards = shards.clone();
        let cut = move |batch: Vec<usize>| {
            let own: Vec<_> = shards.own().map(|own| shards.cut(&batch, own)).collect();
            own
        };
        Ok(Box::new(
            order
                .into_iter()
                .skip(start)
                .flat_map(cut)
                .map(|indices| Ok(TextBatch::pack(&self.set, &indices))),
        ))
    }

    fn count(&self, batch: &TextBatch) -> usize {
        batch.len()
    }

    fn describe(&self, batch: &TextBatch) -> String {
        format!("examples {:?}", batch.indices)
    }

    fn loss(
        &self,
        model: &Model<B>,
        batch: &TextBatch,
        pass: Pass,
    ) -> Result<Tensor<B, 1>, TrainError> {
        let input = input(&self.set, &batch.indices, &self.device);
        let loss = loss_sum(model, &input, batch.targets.class_ids(), pass);
        Ok(match self.nan_at {
            Some(index) if batch.indices.contains(&index) => loss * f64::NAN,
            _ => loss,
        })
    }

    fn evaluate(
        &self,
        model: &<Model<B> as AutodiffModule<B>>::InnerModule,
    ) -> Result<Evaluation, TrainError> {
        let input = packed::<B::InnerBackend>(&self.set, &self.device);
        let loss = loss_sum(
            model,
            &input,
            self.set.targets.class_ids(),
            Pass::evaluation(),
        );
        let loss = f64::from(values(loss)[0]) / self.set.len() as f64;
        Ok(Evaluation {
            metrics: BTreeMap::from([("loss".to_owned(), loss)]),
        })
    }
}

/// One epoch of single micro-batches at a constant rate, no clipping, no decay, nothing evaluated.
pub fn train_config(learning_rate: f64) -> TrainConfig {
    TrainConfig {
        epochs: 1.0,
        max_steps: None,
        gradient_accumulation_steps: 1,
        shards: None,
        learning_rate,
        schedule: Schedule::Constant,
        warmup: Warmup::Steps(0),
        optimizer: OptimizerConfig {
            weight_decay: 0.0,
            ..OptimizerConfig::default()
        },
        max_grad_norm: 0.0,
        seed: 3,
        evaluate: Every::Never,
        checkpoint_every: None,
        keep: 1,
        best: BestMetric {
            name: "loss".into(),
            higher_is_better: false,
        },
        choose: Choose::Best,
        early_stopping: None,
        average_decay: None,
        fingerprint: "test".into(),
    }
}

/// Runs the loop in a run directory, from a checkpoint if there is one, and keeps its events.
pub fn run_in<B: TuneAutodiff>(
    run: &RunDir,
    resume: Option<&Checkpoint>,
    job: &Texts<B>,
    model: Model<B>,
    config: &TrainConfig,
    stop_after: Option<u64>,
) -> (Ended<B>, Vec<Event>) {
    job.names.set(model.names());
    let mut events: Vec<Event> = Vec::new();
    let done = Cell::new(resume.map_or(0, |checkpoint| checkpoint.state.step));
    let stop = || {
        done.set(done.get() + 1);
        Some(done.get()) == stop_after
    };
    let outcome = train(
        job,
        model,
        config,
        run,
        resume,
        &mut events,
        &stop,
        &job.device,
    );
    (outcome, events)
}

/// Runs the loop from its start to its end in a directory of its own.
pub fn run<B: TuneAutodiff>(
    job: &Texts<B>,
    model: Model<B>,
    config: &TrainConfig,
) -> (Model<B>, Vec<Step>) {
    let folder = tempfile::tempdir().unwrap();
    let dir = RunDir::create(&folder.path().join("run")).unwrap();
    let (outcome, events) = run_in(&dir, None, job, model, config, None);
    (outcome.unwrap().model, steps(&events))
}

/// The figures of one step that must repeat.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Step {
    pub step: u64,
    pub loss: f64,
    pub learning_rate: f64,
    pub grad_norm: f64,
    pub examples: usize,
}

/// The steps among events.
pub fn steps(events: &[Event]) -> Vec<Step> {
    events
        .iter()
        .filter_map(|event| match *event {
            Event::Step {
                step,
                loss,
                learning_rate,
                grad_norm,
                examples,
                ..
            } => Some(Step {
                step,
                loss,
                learning_rate,
                grad_norm,
                examples,
            }),
            _ => None,
        })
        .collect()
}

/// The largest differences of a run to a golden one.
#[derive(Debug, Default)]
pub struct RunDifference {
    pub loss: f64,
    /// Relative.
    pub learning_rate: f64,
    /// Relative.
    pub grad_norm: f64,
}

impl std::fmt::Display for RunDifference {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "losses within {:.1e}, learning rates within {:.1e} and gradient norms within {:.1e} of themselves",
            self.loss, self.learning_rate, self.grad_norm
        )
    }
}

/// Compares the steps of a run with a fixture's.
pub fn run_difference(steps: &[Step], expected: &Value) -> RunDifference {
    let expected = expected.as_array().unwrap();
    assert_eq!(steps.len(), expected.len(), "as many steps");
    let mut largest = RunDifference::default();
    for (found, expected) in steps.iter().zip(expected) {
        let number = |key: &str| expected[key].as_f64().unwrap();
        assert_eq!(found.step, expected["step"].as_u64().unwrap());
        let relative = |found: f64, expected: f64| match expected == 0.0 {
            true => found.abs(),
            false => ((found - expected) / expected).abs(),
        };
        largest.loss = largest.loss.max((found.loss - number("loss")).abs());
        largest.learning_rate = largest
            .learning_rate
            .max(relative(found.learning_rate, number("learning_rate")));
        largest.grad_norm = largest
            .grad_norm
            .max(relative(found.grad_norm, number("gradient_norm")));
    }
    largest
}

/// The rows of a fixture's batches, one after the other.
pub fn batch_order(training: &Value) -> Vec<usize> {
    let steps = training["steps"].as_array().unwrap().iter();
    let rows = steps.flat_map(|step| ids(&step["batch"]));
    rows.map(|index| index as usize).collect()
}

/// A run through the public interface, of all parameters, by the settings of a fixture of transformers. In `dir` lie `train` and
/// `validation`, in the order in which they are learned.
pub struct WholeRun<'a> {
    pub task: &'a str,
    pub model: &'a Path,
    pub dir: &'a Path,
    pub extension: &'a str,
    /// The fixture: its settings and steps.
    pub training: &'a Value,
    /// More lines of `[data]`.
    pub data: &'a str,
    /// More lines of `[train]`.
    pub train: &'a str,
}

/// What a run made, and how far its steps are from the fixture's.
pub fn whole_run(run: &WholeRun) -> (rekindle::FinishedRun, RunDifference) {
    let number = |key: &str| run.training[key].as_f64().unwrap();
    let file = |part: &str| run.dir.join(format!("{part}.{}", run.extension));
    let run_file = format!(
        "task = {:?}\noutput_dir = {:?}\n\
         [model]\nname = {:?}\ndropout = 0\n\
         [data]\ntrain = {:?}\nvalidation = {:?}\n{}\
         [peft]\nmethod = \"full\"\n\
         [train]\nepochs = 1\nbatch_size = 4\nshuffle = false\ngroup_by_length = false\nlog_every_steps = 1\n\
         learning_rate = {}\nhead_learning_rate = {}\nweight_decay = {}\nmax_grad_norm = {}\nwarmup_steps = {}\n{}",
        run.task,
        run.dir.join("run"),
        run.model,
        file("train"),
        file("validation"),
        run.data,
        number("learning_rate"),
        number("learning_rate"),
        number("weight_decay"),
        number("max_grad_norm"),
        number("warmup_steps"),
        run.train,
    );
    let path = run.dir.join("run.toml");
    std::fs::write(&path, run_file).unwrap();
    let config = rekindle::RunConfig::load(Some(&path), &[]).unwrap();
    let events = Events::default();
    let finished = rekindle::finetune(&config, &events).unwrap();
    let apart = run_difference(
        &steps(&events.0.into_inner().unwrap()),
        &run.training["steps"],
    );
    (finished, apart)
}

/// Families of encoders whose heads have fixtures of transformers.
pub const ENCODERS: [&str; 8] = [
    "bert",
    "distilbert",
    "roberta",
    "electra",
    "albert",
    "modernbert",
    "mpnet",
    "deberta",
];

impl RunDifference {
    /// Tells how far a run of a head is from the fixture's, and holds the bounds of all heads.
    pub fn hold_for_a_head(&self, name: &str) {
        println!("{name}: {self}");
        assert!(self.loss <= LOSS, "{name}: {self:?}");
        assert!(self.learning_rate <= LEARNING_RATE, "{name}: {self:?}");
        assert!(self.grad_norm <= GRAD_NORM, "{name}: {self:?}");
    }
}

/// Of a head: absolute, on logits that the fixtures have in float64.
pub const FORWARD: f32 = 1e-5;

/// Absolute, on losses of 20 steps. A mean over texts instead of words, or choices instead of questions, moves them by more than
/// 1e-1, a softmax over a padded window by more than 1e-2.
const LOSS: f64 = 1e-4;

/// Relative, on gradient norms.
const GRAD_NORM: f64 = 1e-3;

/// Relative: the schedules are the same formula in f64.
const LEARNING_RATE: f64 = 1e-12;

/// Absolute, on logits after 20 steps at a rate of 2e-3.
pub const LOGITS_AFTER: f32 = 1e-3;
