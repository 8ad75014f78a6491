//! The promise: killed at any instant and resumed, a run ends with the bits of one that was never stopped.

use crate::support::*;
use rekindle_train::{
    BestModel, Between, Checkpoint, EarlyStopping, Event, Every, Metrics, RunDir, Sink,
    TrainConfig, TrainError, read_metrics, restore_best, train, truncate_metrics,
};
use std::{cell::Cell, fs, io::Write};

const SEEDS: u64 = 150;

/// Settings and job of a seed: every way to evaluate, accumulate, keep, average, unfreeze and stop early.
fn setup(seed: u64) -> (Points, TrainConfig) {
    let pick = |place, n| draw(seed, place, n);
    let job = Points {
        unfreeze: pick(0, 2) == 0,
        ..Points::new(seed)
    };
    let config = TrainConfig {
        max_steps: None,
        epochs: 2.0 + pick(1, 3) as f64 / 2.0,
        gradient_accumulation_steps: 1 + pick(2, 2) as usize,
        learning_rate: 0.3,
        seed,
        evaluate: match pick(3, 3) {
            0 => Every::Epoch,
            n => Every::Steps(n),
        },
        checkpoint_every: (pick(4, 2) == 0).then_some(Between::Steps(3)),
        keep: 1 + pick(5, 3) as usize,
        early_stopping: (pick(6, 3) == 0).then_some(EarlyStopping {
            patience: 3,
            min_delta: 0.0,
        }),
        average_decay: (pick(7, 3) == 0).then_some(0.8),
        ..config()
    };
    (job, config)
}

/// Everything that must not depend on being killed.
#[derive(Debug, PartialEq)]
struct End {
    model: std::collections::BTreeMap<String, Vec<u32>>,
    best_model: std::collections::BTreeMap<String, Vec<u32>>,
    best: u64,
    linked: Option<std::path::PathBuf>,
    state: rekindle_train::TrainState,
    stopped: rekindle_train::Stopped,
    metrics: Vec<String>,
}

/// One life of a process: from the newest checkpoint, or the start, to the end or its death.
fn live(
    run: &RunDir,
    job: &Points,
    config: &TrainConfig,
    stop_after: Option<u64>,
) -> Result<End, TrainError> {
    let checkpoint = Checkpoint::find(run)?;
    let from = checkpoint.as_ref().map_or(0, |c| c.state.step);
    truncate_metrics(&run.metrics(), from)?;
    let mut metrics = Metrics::open(&run.metrics(), 2)?;
    let done = Cell::new(from);
    let stop = || {
        done.set(done.get() + 1);
        Some(done.get()) == stop_after
    };
    let device = Default::default();
    let sink: &mut dyn Sink = &mut metrics;
    let outcome = train(
        job,
        start(),
        config,
        run,
        checkpoint.as_ref(),
        sink,
        &stop,
        &device,
    )?;
    let best_model = match (&outcome.best, &outcome.average) {
        (BestModel::Checkpoint { path, .. }, _) => {
            let names = rekindle_nn::params::NameMap::default();
            valid(&restore_best(start(), path, names, &device)?)
        }
        (_, Some(average)) => average.model(&outcome.model, Default::default()),
        _ => valid(&outcome.model),
    };
    Ok(End {
        model: bits(&outcome.model),
        best_model: bits(&best_model),
        best: outcome.best.step(),
        linked: linked(run),
        state: outcome.state,
        stopped: outcome.stopped,
        metrics: figures(run),
    })
}

/// The lines of `metrics.jsonl` but for seconds and for where the run was resumed.
fn figures(run: &RunDir) -> Vec<String> {
    let events = read_metrics(&run.metrics()).unwrap();
    let without_seconds = events.into_iter().filter_map(|mut event| {
        match &mut event {
            Event::Step { seconds, .. } | Event::Evaluated { seconds, .. } => *seconds = 0.0,
            Event::Resumed { .. } => return None,
            _ => {}
        }
        Some(serde_json::to_string(&event).unwrap())
    });
    without_seconds.collect()
}

/// What a kill, a full disk or a careless hand may leave.
fn harm(run: &RunDir, key: u64) {
    let Some(newest) = (run.checkpoints().exists())
        .then(|| on_disk(run).pop())
        .flatten()
    else {
        return;
    };
    let newest = step_dir(run, newest);
    match draw(key, 0, 6) {
        // The newest is lost, or half of it, or a bit.
        0 => fs::remove_dir_all(&newest).unwrap(),
        1 => drop(fs::remove_file(newest.join("state.json"))),
        2 => {
            let path = newest.join("optimizer.safetensors");
            let mut bytes = fs::read(&path).unwrap();
            let at = draw(key, 1, bytes.len() as u64) as usize;
            bytes[at] ^= 1;
            fs::write(&path, bytes).unwrap();
        }
        3 => copy(&newest, &run.checkpoints().join(".writing-00000003")),
        4 => drop(fs::remove_file(run.best())),
        _ => {
            let mut file = fs::OpenOptions::new()
                .append(true)
                .open(run.metrics())
                .unwrap();
            file.write_all(b"{\"kind\":\"step\",\"st").unwrap();
        }
    }
    // A run whose every checkpoint is broken is refused; whoever reads the message deletes them.
    if Checkpoint::find(run).is_err() {
        fs::remove_dir_all(run.checkpoints()).unwrap();
    }
}

#[test]
fn a_run_killed_at_random_ends_with_the_bits_of_one_that_never_stopped() {
    let (mut kills, mut stops, mut ties, mut earlier) = (0, 0, 0, 0);
    for seed in 0..SEEDS {
        let (job, config) = setup(seed);
        let (_folder, whole) = fresh();
        let expected = live(&whole, &job, &config, None).unwrap();
        ties += accuracies(&whole)
            .windows(2)
            .filter(|pair| pair[0] == pair[1])
            .count();
        earlier += usize::from(expected.best != expected.state.step);

        let (_folder, run) = fresh();
        let mut life = 0;
        let end = loop {
            life += 1;
            assert!(life < 60, "seed {seed}: no end");
            let key = rekindle_base::rng::child(seed, life);
            // Killed in a micro-batch or an evaluation, or asked to stop, or left in peace.
            job.fuel.set(match draw(key, 2, 3) {
                0 | 1 if life < 40 => draw(key, 3, 18),
                _ => u64::MAX,
            });
            let stop_after = (draw(key, 4, 3) == 0).then(|| 1 + draw(key, 5, 12));
            let ended = live(&run, &job, &config, stop_after);
            job.fuel.set(u64::MAX);
            match ended {
                Ok(end) if end.stopped != rekindle_train::Stopped::Interrupted => break end,
                Ok(_) => stops += 1,
                Err(TrainError::Job(_)) => kills += 1,
                Err(error) => panic!("seed {seed}: {error}"),
            }
            harm(&run, key);
        };
        assert_eq!(end, expected, "seed {seed}, {life} lives");

        // Killed after its end: nothing is trained any more, and the same model is found.
        assert_eq!(
            live(&run, &job, &config, None).unwrap(),
            expected,
            "seed {seed}"
        );
    }
    println!(
        "{SEEDS} runs: {kills} kills, {stops} stops, {ties} ties, best before the end in {earlier}"
    );
    assert!(kills > 100 && stops > 50, "{kills} kills, {stops} stops");
    assert!(ties > 200 && earlier > 30, "{ties} ties, {earlier} earlier");
}

fn accuracies(run: &RunDir) -> Vec<f64> {
    let events = read_metrics(&run.metrics()).unwrap();
    let accuracies = events.iter().filter_map(|event| match event {
        Event::Evaluated { evaluation, .. } => evaluation.get("accuracy"),
        _ => None,
    });
    accuracies.collect()
}
