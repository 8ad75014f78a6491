//! What a run directory may look like after a kill or a fault, and what is made of it.

use crate::support::*;
use rekindle_train::{Checkpoint, RunDir, TrainConfig};
use std::{fs, sync::mpsc, time::Duration};

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

/// Regression: with a broken newer checkpoint beside it, the one just written counted as old and was deleted.
#[test]
fn what_was_just_written_is_kept_beside_a_broken_newer_one() {
    let config = TrainConfig {
        keep: 1,
        checkpoint_every: Some(2),
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
