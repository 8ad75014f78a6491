//! What a run directory may look like after a kill or a fault, and what is made of it.

use crate::support::*;
use rekindle_base::HostTensor;
use rekindle_train::{
    Between, Checkpoint, Event, Every, Metrics, RunDir, Sink, TrainConfig, read_metrics,
    truncate_metrics,
};
use rekindle_weights::WeightFiles;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::{collections::BTreeMap, fs, path::Path, sync::mpsc, time::Duration};

/// Fails where `f` does not end.
fn ends<T: Send + 'static>(what: &str, f: impl FnOnce() -> T + Send + 'static) -> T {
    let (send, receive) = mpsc::channel();
    std::thread::spawn(move || drop(send.send(f())));
    receive
        .recv_timeout(Duration::from_secs(10))
        .unwrap_or_else(|_| panic!("{what}: no end"))
}

/// Regression: the loop span for ever.
#[test]
fn a_job_without_batches_is_refused() {
    for (batch_size, short_by, parts) in [
        (0, 0, ["no batches", "epoch 0"]),
        (3, 2, ["5 micro-batches", "after 3"]),
        (3, 5, ["5 micro-batches", "after 0"]),
    ] {
        let message = ends("train", move || {
            let job = Points {
                batch_size,
                short_by,
                ..Points::new(1)
            };
            let (_folder, run) = fresh();
            message(go(&run, None, &job, &config(), None).0)
        });
        for part in parts {
            assert!(message.contains(part), "{part} in: {message}");
        }
    }
}

/// A run killed before its configuration was written can be started again.
#[test]
fn a_directory_without_a_configuration_can_be_started() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("run");
    fs::create_dir(&path).unwrap();
    fs::write(path.join(".lock"), "").unwrap();
    fs::write(path.join(".tmpAbCdEf"), "half a file").unwrap();
    drop(RunDir::create(&path).unwrap());
    drop(RunDir::create(&path).unwrap());
}

/// Regression: the link `best` stayed as a kill had left it; half-written folders stayed too.
#[test]
fn resuming_repairs_the_link_and_clears_away() {
    let figures = [0.5, 0.4, 0.3].map(|v| vec![("accuracy", v), ("loss", 1.0)]);
    let job = Points::scripted(figures.to_vec());
    for stale in [
        None,
        Some("checkpoints/step-00000008"),
        Some("checkpoints/gone"),
    ] {
        let (_folder, run) = fresh();
        rewind(0);
        go(&run, None, &job, &config(), Some(8)).0.unwrap();
        let expected = linked(&run).unwrap();
        assert!(expected.ends_with("step-00000004"));
        fs::remove_file(run.best()).unwrap();
        #[cfg(unix)]
        if let Some(target) = stale {
            std::os::unix::fs::symlink(target, run.best()).unwrap();
        }
        let left = run.checkpoints().join(".writing-00000099");
        fs::create_dir(&left).unwrap();
        let checkpoint = Checkpoint::latest(&run).unwrap();
        // Stopped at once, before another checkpoint is the best.
        go(&run, Some(&checkpoint), &job, &config(), Some(9))
            .0
            .unwrap();
        assert_eq!(linked(&run), Some(expected), "{stale:?}");
        assert!(!left.exists());
    }
}

/// A long epoch must not be lost: where time is what counts, a step that took it is saved.
#[test]
fn checkpoints_are_written_as_time_goes() {
    // The last one is that of the interrupt.
    for (time, first) in [(Duration::ZERO, 1), (Duration::from_secs(3600), 3)] {
        let config = TrainConfig {
            keep: 9,
            evaluate: Every::Never,
            checkpoint_every: Some(Between::Time(time)),
            ..config()
        };
        let (_folder, run) = fresh();
        let job = Points::new(1);
        go(&run, None, &job, &config, Some(3)).0.unwrap();
        assert_eq!(on_disk(&run).first(), Some(&first), "{time:?}");
    }
}

/// Regression: with a broken newer checkpoint beside it, the one just written counted as old and was deleted.
#[test]
fn what_was_just_written_is_kept_beside_a_broken_newer_one() {
    let config = TrainConfig {
        keep: 1,
        checkpoint_every: Some(Between::Steps(2)),
        ..config()
    };
    let (_folder, run) = fresh();
    let job = Points::new(1);
    go(&run, None, &job, &config, Some(6)).0.unwrap();
    let newer = step_dir(&run, 99);
    fs::create_dir(&newer).unwrap();
    fs::write(newer.join("trainable.safetensors"), "half").unwrap();
    let checkpoint = Checkpoint::latest(&run).unwrap();
    assert_eq!(checkpoint.state.step, 6);
    go(&run, Some(&checkpoint), &job, &config, Some(7))
        .0
        .unwrap();
    assert_eq!(Checkpoint::latest(&run).unwrap().state.step, 7);
}

/// A run of 8 steps with checkpoints at 4 and 8, of which 8 is the best.
fn eight(job: &Points, config: &TrainConfig) -> (tempfile::TempDir, RunDir) {
    let (folder, run) = fresh();
    go(&run, None, job, config, Some(8)).0.unwrap();
    assert_eq!(on_disk(&run), [4, 8]);
    (folder, run)
}

const FILES: [&str; 5] = [
    "trainable.safetensors",
    "average.safetensors",
    "optimizer.safetensors",
    "state.json",
    "SHA256SUMS",
];

fn with_average() -> TrainConfig {
    TrainConfig {
        average_decay: Some(0.9),
        ..config()
    }
}

/// Regression: a flipped bit gave a silently different model.
#[test]
fn every_flipped_bit_is_refused_by_the_name_of_its_file() {
    let (_folder, run) = eight(&Points::new(1), &with_average());
    let newest = step_dir(&run, 8);
    Checkpoint::read(&newest).unwrap();
    for name in FILES {
        let path = newest.join(name);
        let whole = fs::read(&path).unwrap();
        for at in 0..whole.len() {
            let mut bytes = whole.clone();
            bytes[at] ^= 1 << (at % 8);
            fs::write(&path, &bytes).unwrap();
            let message = message(Checkpoint::read(&newest));
            assert!(message.contains("step-00000008"), "{message}");
            assert!(
                message.contains("hint: delete this checkpoint's folder"),
                "{message}"
            );
            // A flip in the list of checksums accuses the list, or the file whose line it is in.
            assert!(
                message.contains(name)
                    || (name == "SHA256SUMS" && FILES.iter().any(|f| message.contains(f))),
                "{name}, byte {at}: {message}"
            );
        }
        fs::write(&path, &whole[..whole.len() - 1]).unwrap();
        assert!(Checkpoint::read(&newest).is_err(), "{name}, a byte shorter");
        fs::remove_file(&path).unwrap();
        let message = message(Checkpoint::read(&newest));
        assert!(
            message.contains(name) && message.contains("missing"),
            "{message}"
        );
        fs::write(&path, &whole).unwrap();
    }
    // The one before is taken, and what was passed over is told.
    fs::write(newest.join("trainable.safetensors"), "changed").unwrap();
    let latest = Checkpoint::latest(&run).unwrap();
    assert_eq!(latest.state.step, 4);
    assert_eq!(latest.passed_over.len(), 1);
    assert!(
        latest.passed_over[0].contains("step-00000008/trainable.safetensors"),
        "{:?}",
        latest.passed_over
    );
    // With nothing whole left, the newest says what is wrong with it; with nothing at all, there is nothing to resume.
    fs::remove_file(step_dir(&run, 4).join("SHA256SUMS")).unwrap();
    let message = message(Checkpoint::find(&run));
    assert!(
        message.contains("step-00000008/trainable.safetensors"),
        "{message}"
    );
    fs::remove_dir_all(run.checkpoints()).unwrap();
    assert!(Checkpoint::find(&run).unwrap().is_none());
}

/// Writes the checksums anew, as somebody does who edits a checkpoint.
fn sum_up(checkpoint: &Path) {
    let mut lines = Vec::new();
    for name in FILES.iter().filter(|name| **name != "SHA256SUMS") {
        if let Ok(bytes) = fs::read(checkpoint.join(name)) {
            let sum: String = Sha256::digest(&bytes)
                .iter()
                .map(|byte| format!("{byte:02x}"))
                .collect();
            lines.push((name, format!("{sum}  {name}\n")));
        }
    }
    lines.sort();
    let text: String = lines.into_iter().map(|(_, line)| line).collect();
    fs::write(checkpoint.join("SHA256SUMS"), text).unwrap();
}

/// Regression: a renamed moment was dropped, and its parameter went on without.
#[test]
fn a_tensor_that_is_missing_misnamed_or_misshapen_is_refused_by_name() {
    let job = Points {
        unfreeze: true,
        ..Points::new(1)
    };
    type Change = fn(&mut BTreeMap<String, HostTensor>);
    let (optimizer, average) = ("optimizer.safetensors", "average.safetensors");
    let cases: [(&str, &str, Change); 11] = [
        (optimizer, "`weight.m`", |t| {
            rename(t, "weight.m", "weihgt.m")
        }),
        (optimizer, "`weight.v`", |t| {
            rename(t, "weight.v", "weihgt.v")
        }),
        (optimizer, "`bias.m`", |t| {
            t.retain(|name, _| !name.starts_with("bias"))
        }),
        (optimizer, "`late.m`", |t| {
            t.retain(|name, _| !name.starts_with("late"))
        }),
        (optimizer, "`other.m`", |t| {
            drop(t.insert("other.m".into(), t["bias.m"].clone()))
        }),
        (optimizer, "`bias.n`", |t| {
            drop(t.insert("bias.n".into(), t["bias.m"].clone()))
        }),
        (optimizer, "`bias.v`", |t| {
            drop(t.insert("bias.v".into(), t["weight.v"].clone()))
        }),
        (optimizer, "`late.joined`", |t| {
            t.get_mut("late.joined").unwrap().values[1] = 0.5
        }),
        (optimizer, "`late.joined`", |t| {
            t.get_mut("late.joined").unwrap().values[1] = 9.0
        }),
        (average, "`bias`", |t| drop(t.remove("bias"))),
        (average, "`other`", |t| rename(t, "bias", "other")),
    ];
    for (file, name, change) in cases {
        let (_folder, run) = eight(&job, &with_average());
        let newest = step_dir(&run, 8);
        let path = newest.join(file);
        let files = WeightFiles::open(&path).unwrap();
        let mut tensors: BTreeMap<String, HostTensor> = files
            .names()
            .map(|name| (name.to_owned(), files.read(name).unwrap().unwrap()))
            .collect();
        drop(files);
        change(&mut tensors);
        rekindle_weights::write(
            &path,
            tensors.iter().map(|(n, t)| (n.as_str(), t.into())),
            &[],
        )
        .unwrap();
        sum_up(&newest);
        let checkpoint = Checkpoint::latest(&run).unwrap();
        assert_eq!(checkpoint.state.step, 8);
        let message = message(go(&run, Some(&checkpoint), &job, &with_average(), None).0);
        assert!(
            message.contains(name) && message.contains(file),
            "{name} in: {message}"
        );
    }
}

fn rename(tensors: &mut BTreeMap<String, HostTensor>, from: &str, to: &str) {
    let tensor = tensors.remove(from).unwrap();
    tensors.insert(to.into(), tensor);
}

/// Regression: `"batch": 1e18` looped for ever, and other fields were believed too.
#[test]
fn a_state_that_the_run_cannot_be_in_is_refused_by_field() {
    let edits: [(&str, Value); 13] = [
        ("batch", json!(1_000_000_000_000_000_000_u64)),
        ("batch", json!(2)),
        ("epoch", json!(0)),
        ("epoch", json!(u64::MAX)),
        ("passes", json!(7)),
        ("total_steps", json!(13)),
        ("total_steps", json!(u64::MAX)),
        ("evaluated_at", json!(9)),
        ("without_improvement", json!(4_000_000_000_u32)),
        ("best", json!({"step": 9, "value": 0.5, "loss": 0.5})),
        ("best", json!({"step": 0, "value": 0.5, "loss": 0.5})),
        ("best", json!({"step": 4, "value": null, "loss": 0.5})),
        ("fingerprint", json!("another")),
    ];
    for (field, value) in edits {
        let what = format!("{field} = {value}");
        let message = ends(&what, move || {
            let job = Points::new(1);
            let (_folder, run) = eight(&job, &config());
            let newest = step_dir(&run, 8);
            let path = newest.join("state.json");
            let mut state: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
            state[field] = value;
            fs::write(&path, state.to_string()).unwrap();
            sum_up(&newest);
            match Checkpoint::read(&newest) {
                Ok(checkpoint) => message(go(&run, Some(&checkpoint), &job, &config(), None).0),
                Err(error) => error.to_string(),
            }
        });
        let named = match field {
            "fingerprint" => message.contains("not what this run was started with"),
            _ => message.contains(&format!("`{field}")) || message.contains("invalid type"),
        };
        assert!(
            named && message.contains("step-00000008"),
            "{what}: {message}"
        );
    }
}

/// A state of another step under this step's name.
#[test]
fn a_renamed_checkpoint_is_refused() {
    let (_folder, run) = eight(&Points::new(1), &config());
    fs::rename(step_dir(&run, 8), step_dir(&run, 9)).unwrap();
    let message = message(Checkpoint::read(&step_dir(&run, 9)));
    assert!(message.contains("the state is that of step 8"), "{message}");
    assert_eq!(Checkpoint::latest(&run).unwrap().state.step, 4);
}

/// The best of every checkpoint that is kept is kept too, so that losing the newest loses nothing else.
#[test]
fn what_an_older_checkpoint_calls_best_is_kept() {
    let figures = [0.5, 0.4, 0.6].map(|v| vec![("accuracy", v), ("loss", 1.0)]);
    let job = Points::scripted(figures.to_vec());
    let (_folder, run) = fresh();
    rewind(0);
    go(&run, None, &job, &config(), None).0.unwrap();
    assert_eq!(on_disk(&run), [4, 8, 12]);
    let one = TrainConfig {
        keep: 1,
        ..config()
    };
    let (_folder, run) = fresh();
    rewind(0);
    go(&run, None, &job, &one, None).0.unwrap();
    assert_eq!(on_disk(&run), [12]);
}

/// Regression: where a run was resumed was nowhere to be read.
#[test]
fn metrics_say_where_a_run_was_resumed() {
    let job = Points::new(1);
    let (_folder, run) = eight(&job, &config());
    let checkpoint = Checkpoint::latest(&run).unwrap();
    let (_, events) = go(&run, Some(&checkpoint), &job, &config(), None);
    let path = run.metrics();
    let mut metrics = Metrics::open(&path, 100).unwrap();
    events.iter().for_each(|event| metrics.event(event));
    let resumed = |path| {
        let events = read_metrics(path).unwrap();
        let resumed = events.into_iter().filter_map(|event| match event {
            Event::Resumed { step } => Some(step),
            _ => None,
        });
        resumed.collect::<Vec<u64>>()
    };
    assert_eq!(resumed(&path), [8]);
    truncate_metrics(&path, 7).unwrap();
    assert_eq!(resumed(&path), [0; 0]);
}
