//! The law of several processes: however many share a run, it ends with the same bits, and so do its checkpoints.

use crate::{support, threads::together};
use burn::{
    module::{AutodiffModule, Module, Param},
    tensor::{Int, Tensor, TensorData, backend::Backend},
};
use rekindle_base::rng::{normal, shuffle};
use rekindle_nn::{
    Pass, TuneBackend,
    host::{to_host, values},
    layers::BatchNorm,
    ops::{self, Rectify},
    params::{self, NameMap, ParamRef},
};
use rekindle_train::{
    BatchStream, Between, Checkpoint, Collective, Evaluation, Event, Every, Job, RunDir, Shards,
    Stopped, TrainConfig, TrainError, train,
};
use std::{cell::Cell, collections::BTreeMap, fs};
use support::{Tuning, config, draw, step_dir};

/// `[N, 16]` through 96 hidden numbers with batch norm to 24 logits: over several of the blocks that slices are made of.
#[derive(Module, Debug)]
struct Wide<B: Backend> {
    first: Param<Tensor<B, 2>>,
    norm: BatchNorm<B>,
    second: Param<Tensor<B, 2>>,
    /// Joins the training after the first epoch.
    late: Param<Tensor<B, 1>>,
}

const INPUTS: usize = 16;
const HIDDEN: usize = 96;
const CLASSES: usize = 24;
/// Examples: batches of 6 leave one of 3 at the end, which is less than four shards.
const TRAIN: usize = 33;

fn start() -> Wide<Tuning> {
    let device = Default::default();
    let weights = |key, rows: usize, columns| {
        let value = |i| (0.2 * normal(key, i as u64)) as f32;
        let values: Vec<f32> = (0..rows * columns).map(value).collect();
        Tensor::from_data(TensorData::new(values, [rows, columns]), &device)
    };
    Wide {
        first: Param::from_tensor(weights(1, INPUTS, HIDDEN)),
        norm: BatchNorm::new(HIDDEN, 1e-5, &device),
        second: Param::from_tensor(weights(2, HIDDEN, CLASSES)),
        late: Param::from_tensor(Tensor::zeros([CLASSES], &device)),
    }
}

/// Points around one centre a class, by several processes.
struct Heaps {
    seed: u64,
    processes: Collective,
    dropout: f64,
    /// Whether the norm normalises by its batch; a shard of a batch is another one than the batch.
    norm_trains: bool,
    /// The micro-batch, counted from the start of this life, at which this process fails.
    fails_at: Option<u64>,
    made: Cell<u64>,
}

impl Heaps {
    fn new(seed: u64, processes: Collective) -> Self {
        Self {
            seed,
            processes,
            dropout: 0.1,
            norm_trains: true,
            fails_at: None,
            made: Cell::new(0),
        }
    }

    fn tensors<B: Backend>(&self, indices: &[usize]) -> (Tensor<B, 2>, Tensor<B, 1, Int>) {
        let device = Default::default();
        let point = |&i: &usize| {
            (0..INPUTS).map(move |j| {
                let centre = normal(77, (i % CLASSES * INPUTS + j) as u64);
                (centre + 0.5 * normal(self.seed, (i * INPUTS + j) as u64)) as f32
            })
        };
        let xs: Vec<f32> = indices.iter().flat_map(point).collect();
        let classes: Vec<i32> = indices.iter().map(|&i| (i % CLASSES) as i32).collect();
        (
            Tensor::from_data(TensorData::new(xs, [indices.len(), INPUTS]), &device),
            Tensor::from_data(TensorData::from(classes.as_slice()), &device),
        )
    }

    fn losses<B: TuneBackend>(
        &self,
        model: &Wide<B>,
        indices: &[usize],
        pass: Pass,
    ) -> Tensor<B, 1> {
        let (xs, classes) = self.tensors(indices);
        let xs = ops::dropout(xs, self.dropout, pass);
        let hidden = xs.matmul(model.first.val());
        let hidden = hidden.reshape([indices.len(), 1, 1, HIDDEN]);
        let hidden = model
            .norm
            .forward(hidden, None, Rectify::Relu, pass.child(1));
        let logits = hidden
            .reshape([indices.len(), HIDDEN])
            .matmul(model.second.val());
        let logits = logits + model.late.val().unsqueeze();
        ops::cross_entropy(logits, classes, &ops::CrossEntropy::default())
    }
}

impl Job<Tuning> for Heaps {
    type Model = Wide<Tuning>;
    type Batch = Vec<usize>;

    fn names(&self) -> NameMap {
        NameMap::default()
    }

    fn batches(&self, _: u64) -> usize {
        TRAIN.div_ceil(6)
    }

    fn collective(&self) -> Collective {
        self.processes.clone()
    }

    fn stream(
        &self,
        epoch: u64,
        start: usize,
        shards: &Shards,
    ) -> Result<BatchStream<'_, Vec<usize>>, TrainError> {
        let mut order: Vec<usize> = (0..TRAIN).collect();
        shuffle(&mut order, self.seed, 1, epoch);
        let cut = |batch: &[usize]| {
            shards
                .own()
                .map(|s| shards.cut(batch, s))
                .collect::<Vec<_>>()
        };
        let own: Vec<Vec<usize>> = order.chunks(6).skip(start).flat_map(cut).collect();
        Ok(Box::new(own.into_iter().map(|batch| {
            let made = self.made.replace(self.made.get() + 1);
            match self.fails_at {
                Some(at) if at == made => Err(TrainError::Job("a broken example".into())),
                _ => Ok(batch),
            }
        })))
    }

    fn at_epoch(&self, model: Self::Model, epoch: u64) -> Self::Model {
        params::set_trainable(model, &mut |path| match path {
            "late" => epoch > 0,
            path => self.norm_trains || !path.starts_with("norm"),
        })
    }

    fn will_train(&self, name: &str) -> bool {
        name == "late"
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
        if batch.is_empty() {
            return Ok(model.late.val().sum() * 0.0);
        }
        Ok(self.losses(model, batch, pass).sum())
    }

    fn evaluate(
        &self,
        model: &<Self::Model as AutodiffModule<Tuning>>::InnerModule,
    ) -> Result<Evaluation, TrainError> {
        let indices: Vec<usize> = (1000..1024).collect();
        let losses = values(self.losses(model, &indices, Pass::evaluation())).unwrap();
        let loss = losses.iter().map(|&v| f64::from(v)).sum::<f64>() / 24.0;
        Ok(Evaluation {
            metrics: BTreeMap::from([("accuracy".to_owned(), -loss), ("loss".to_owned(), loss)]),
        })
    }
}

/// Settings of a seed: every way to accumulate, clip, keep, average and evaluate.
fn settings(seed: u64) -> TrainConfig {
    let pick = |place, n| draw(seed, place, n);
    TrainConfig {
        max_steps: Some(6 + pick(0, 9)),
        gradient_accumulation_steps: 1 + pick(1, 3) as usize,
        shards: Some(4),
        learning_rate: 0.02,
        max_grad_norm: [0.0, 0.5, 100.0][pick(2, 3) as usize],
        seed,
        evaluate: match pick(3, 3) {
            0 => Every::Epoch,
            n => Every::Steps(2 * n),
        },
        checkpoint_every: (pick(4, 2) == 0).then_some(Between::Steps(3)),
        average_decay: (pick(5, 2) == 0).then_some(0.8),
        ..config()
    }
}

/// What a process ends with: the bits of its model, its events without their seconds, and why it stopped.
type End = (BTreeMap<String, Vec<u32>>, Vec<String>, Stopped);

/// Trains by so many processes, on from the newest checkpoint, until all steps are done or one process is asked to stop.
fn live(
    run: &RunDir,
    world: usize,
    config: &TrainConfig,
    job: impl Fn(Collective) -> Heaps + Sync,
    stop_after: Option<(usize, u64)>,
) -> Vec<Result<End, String>> {
    together(world, |processes| {
        let rank = processes.rank();
        let follower;
        let dir = match rank {
            0 => run,
            _ => {
                follower = RunDir::follow(run.path());
                &follower
            }
        };
        let job = job(processes);
        let checkpoint = Checkpoint::find(dir).unwrap();
        let done = Cell::new(checkpoint.as_ref().map_or(0, |c| c.state.step));
        let stop = || {
            done.set(done.get() + 1);
            stop_after == Some((rank, done.get()))
        };
        let mut events: Vec<Event> = Vec::new();
        let resume = checkpoint.as_ref();
        let device = Default::default();
        let ended = train(
            &job,
            start(),
            config,
            dir,
            resume,
            &mut events,
            &stop,
            &device,
        );
        let outcome = ended.map_err(|error| error.to_string())?;
        Ok((bits(&outcome.model), plain(events), outcome.stopped))
    })
}

/// The bits of all parameters and buffers.
fn bits<B: Backend>(model: &Wide<B>) -> BTreeMap<String, Vec<u32>> {
    let mut all = BTreeMap::new();
    params::visit(model, &mut |param: ParamRef<'_, B>| {
        let values = to_host::<B>(param.value).unwrap().values;
        all.insert(
            param.path.to_owned(),
            values.iter().map(|v| v.to_bits()).collect(),
        );
    });
    all
}

/// What happened in each step and evaluation.
fn plain(events: Vec<Event>) -> Vec<String> {
    let plain = events.into_iter().filter_map(|mut event| {
        match &mut event {
            Event::Step { seconds, .. } | Event::Evaluated { seconds, .. } => *seconds = 0.0,
            _ => return None,
        }
        Some(serde_json::to_string(&event).unwrap())
    });
    plain.collect()
}

/// The bytes of every file of the newest checkpoint.
fn newest(run: &RunDir) -> BTreeMap<String, Vec<u8>> {
    let path = step_dir(run, *support::on_disk(run).last().unwrap());
    let file = |entry: fs::DirEntry| {
        let name = entry.file_name().into_string().unwrap();
        (name, fs::read(entry.path()).unwrap())
    };
    fs::read_dir(path)
        .unwrap()
        .map(|e| file(e.unwrap()))
        .collect()
}

#[test]
fn any_number_of_processes_ends_with_the_same_bits_and_files() {
    let (mut clipped, mut averaged) = (0, 0);
    for seed in 0..12 {
        let config = settings(seed);
        let job = |processes| Heaps::new(seed, processes);
        let run_by = |world| {
            let (folder, run) = support::fresh();
            let mut ends = live(&run, world, &config, job, None);
            let models: Vec<_> = ends
                .iter()
                .map(|end| end.as_ref().unwrap().0.clone())
                .collect();
            assert!(
                models.iter().all(|m| *m == models[0]),
                "seed {seed}: processes differ"
            );
            let files = newest(&run);
            drop(folder);
            (ends.swap_remove(0).unwrap(), files)
        };
        let alone = run_by(1);
        averaged += usize::from(alone.1.contains_key("average.safetensors"));
        clipped += usize::from(config.max_grad_norm == 0.5);
        // More processes than shards too.
        for world in [2, 3, 4, 5] {
            let (end, files) = run_by(world);
            assert_eq!(end, alone.0, "seed {seed}, {world} processes");
            for (name, bytes) in &files {
                assert!(
                    alone.1[name] == *bytes,
                    "seed {seed}, {world} processes: {name}"
                );
            }
        }
    }
    assert!(
        clipped > 1 && averaged > 1,
        "{clipped} clipped, {averaged} averaged"
    );
}

/// One shard, and no clipping, whose norm is summed in another order: then slices are all that differs.
#[test]
fn an_optimizer_in_slices_is_the_whole_optimizer_to_the_bit() {
    let whole = TrainConfig {
        shards: None,
        max_grad_norm: 0.0,
        ..settings(3)
    };
    let sliced = TrainConfig {
        shards: Some(1),
        ..whole.clone()
    };
    let of = |world, config: &TrainConfig| {
        let (_folder, run) = support::fresh();
        // How a shard moves running moments is added to them, which rounds once more.
        let job = |processes| Heaps {
            norm_trains: false,
            ..Heaps::new(5, processes)
        };
        let mut ends = live(&run, world, config, job, None);
        let (model, _, stopped) = ends.swap_remove(0).unwrap();
        (model, stopped, newest(&run))
    };
    let expected = of(1, &whole);
    for world in [1, 2, 4] {
        assert!(of(world, &sliced) == expected, "{world} processes");
    }
}

/// The mean is over the whole batch, also where the last one has fewer examples than shards.
#[test]
fn shards_of_uneven_batches_learn_what_the_whole_batch_does() {
    /// Sums in another order, over twelve steps of AdamW.
    const TOLERANCE: f32 = 1e-6;
    let config = |shards| TrainConfig {
        shards,
        learning_rate: 1e-3,
        max_steps: Some(12),
        max_grad_norm: 0.5,
        ..config()
    };
    let of = |world, shards| {
        let (_folder, run) = support::fresh();
        let job = |processes| Heaps {
            dropout: 0.0,
            norm_trains: false,
            ..Heaps::new(5, processes)
        };
        live(&run, world, &config(shards), job, None)
            .swap_remove(0)
            .unwrap()
            .0
    };
    let whole = of(1, None);
    for (world, shards) in [(1, 3), (4, 4), (2, 6)] {
        let model = of(world, Some(shards));
        for (name, values) in &whole {
            let pairs = values.iter().zip(&model[name]);
            let far = pairs.map(|(&a, &b)| (f32::from_bits(a) - f32::from_bits(b)).abs());
            let far = far.fold(0.0, f32::max);
            assert!(
                far < TOLERANCE,
                "{world} processes, {shards} shards: {name} {far}"
            );
        }
    }
}

#[test]
fn a_run_resumes_on_another_number_of_processes_with_the_same_bits() {
    for seed in 0..4 {
        let config = TrainConfig {
            max_steps: Some(13),
            ..settings(seed)
        };
        let job = |processes| Heaps::new(seed, processes);
        let (_folder, whole) = support::fresh();
        let expected = live(&whole, 3, &config, job, None).swap_remove(0).unwrap();
        for (first, then) in [(2, 1), (2, 4), (4, 2), (1, 3)] {
            let (_folder, run) = support::fresh();
            // The last process is asked, and all stop after the same step.
            let stopped = live(&run, first, &config, job, Some((first - 1, 5)));
            for end in stopped {
                assert_eq!(end.unwrap().2, Stopped::Interrupted);
            }
            assert_eq!(support::on_disk(&run).last(), Some(&5));
            let resumed = live(&run, then, &config, job, None).swap_remove(0).unwrap();
            assert!(resumed.0 == expected.0, "seed {seed}: {first}, then {then}");
            assert!(
                newest(&run) == newest(&whole),
                "seed {seed}: {first}, then {then}"
            );
        }
    }
}

#[test]
fn a_fault_of_one_process_ends_all_and_is_told_once() {
    let (_folder, run) = support::fresh();
    let job = |processes: Collective| Heaps {
        fails_at: (processes.rank() == 1).then_some(3),
        ..Heaps::new(0, processes)
    };
    let ends = live(&run, 3, &settings(0), job, None);
    let said: Vec<String> = ends.into_iter().map(|end| end.unwrap_err()).collect();
    assert_eq!(said[1], "a broken example");
    for rank in [0, 2] {
        assert!(
            said[rank].starts_with("process 1 of this run failed"),
            "{}",
            said[rank]
        );
    }
}

#[test]
fn a_loss_that_is_no_number_names_the_examples_of_all_processes() {
    let (_folder, run) = support::fresh();
    let config = TrainConfig {
        learning_rate: f64::MAX,
        ..settings(0)
    };
    let ends = live(&run, 2, &config, |processes| Heaps::new(0, processes), None);
    let said: Vec<String> = ends.into_iter().map(|end| end.unwrap_err()).collect();
    assert!(said[0].contains("training stopped"), "{}", said[0]);
    let named = said[0].rsplit("broken examples in ").next().unwrap();
    let named = named.matches(|c: char| c.is_ascii_digit()).count();
    assert!(named >= 6, "{}", said[0]);
    assert!(
        said[1].starts_with("process 0 of this run failed"),
        "{}",
        said[1]
    );
}

#[test]
fn processes_hear_each_other_and_agree_on_errors() {
    for world in 1..6 {
        let heard = together(world, |all| {
            let rank = all.rank();
            let bytes = all.gather(vec![rank as u8; rank]).unwrap();
            assert_eq!(all.of_lead(vec![7 + rank as u8]).unwrap(), [7]);
            assert_eq!(all.any(rank == 3).unwrap(), world > 3);
            assert!(!all.any(false).unwrap());
            let sent = all.traffic().bytes;
            assert_eq!(sent > 0, world > 1);
            (all.numbers(10 + rank as u64).unwrap(), bytes)
        });
        let numbers: Vec<u64> = (10..10 + world as u64).collect();
        let bytes: Vec<Vec<u8>> = (0..world).map(|rank| vec![rank as u8; rank]).collect();
        assert!(heard.iter().all(|h| *h == (numbers.clone(), bytes.clone())));
    }
    let said = together(3, |all| {
        let own = match all.rank() {
            0 => Ok(()),
            rank => Err(TrainError::Job(format!("fault of {rank}").into())),
        };
        all.agree(own).unwrap_err().to_string()
    });
    assert_eq!(said[1], "fault of 1");
    assert_eq!(said[0], said[2]);
    assert!(said[0].starts_with("process 1"), "{}", said[0]);
}

/// A process that only follows leaves the run directory as it is.
#[test]
fn those_that_follow_write_nothing() {
    let (_folder, run) = support::fresh();
    let elsewhere = tempfile::tempdir().unwrap();
    let config = settings(1);
    let ends = together(2, |processes| {
        let follower = RunDir::follow(&elsewhere.path().join("run"));
        let dir = match processes.rank() {
            0 => &run,
            _ => &follower,
        };
        let job = Heaps::new(1, processes);
        let mut events: Vec<Event> = Vec::new();
        let device = Default::default();
        let ended = train(
            &job,
            start(),
            &config,
            dir,
            None,
            &mut events,
            &|| false,
            &device,
        );
        ended.map(|outcome| bits(&outcome.model)).unwrap()
    });
    assert_eq!(ends[0], ends[1]);
    assert!(!elsewhere.path().join("run").exists());
}
