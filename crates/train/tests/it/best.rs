//! What is called best is best, is there, and is what is saved.

use crate::support::*;
use rekindle_train::{Checkpoint, Every, Stopped, TrainConfig};

const NAN: f64 = f64::NAN;

/// Regression: a NaN was best for ever, and no checkpoint after it could be read.
#[test]
fn a_figure_that_is_no_number_is_never_best() {
    for bad in [NAN, f64::INFINITY, f64::NEG_INFINITY] {
        for higher_is_better in [true, false] {
            let figures = [bad, 0.5, bad].map(|v| vec![("accuracy", v), ("loss", NAN)]);
            let job = Points::scripted(figures.to_vec());
            let mut config = config();
            config.best.higher_is_better = higher_is_better;
            let (_folder, run) = fresh();
            rewind(0);
            let (ended, _) = go(&run, None, &job, &config, None);
            let state = ended.unwrap().state;
            assert_eq!(best(&state), Some((8, 0.5f64.to_bits())), "{bad}");
            let read = Checkpoint::latest(&run).unwrap().state;
            assert_eq!(read, state, "{bad}");
        }
    }
    // Nothing but NaN: no checkpoint is best, and all can be read.
    let job = Points::scripted(vec![vec![("accuracy", NAN)]]);
    let (_folder, run) = fresh();
    let state = go(&run, None, &job, &config(), None).0.unwrap().state;
    assert_eq!(best(&state), None);
    assert_eq!(Checkpoint::latest(&run).unwrap().state, state);
    assert_eq!(linked(&run), None);
}

/// Regression: an unknown figure was NaN.
#[test]
fn a_figure_that_the_evaluation_lacks_is_refused() {
    let mut config = config();
    config.best.name = "acuracy".into();
    let (_folder, run) = fresh();
    let message = message(go(&run, None, &Points::new(1), &config, None).0);
    for part in ["`acuracy`", "`accuracy`", "`loss`", "hint: "] {
        assert!(message.contains(part), "{part} in: {message}");
    }
}

/// Regression: of tied checkpoints the earliest was kept, often the worst.
#[test]
fn ties_go_to_the_lower_loss_and_then_to_the_later_step() {
    for (figures, expected) in [
        // Accuracy and loss at steps 4, 8 and 12.
        ([(0.5, 0.9), (0.5, 0.7), (0.5, 0.8)], 8),
        ([(0.5, 0.9), (0.5, 0.9), (0.5, 0.9)], 12),
        ([(0.5, 0.9), (0.5, 0.8), (0.4, 0.1)], 8),
        ([(0.5, 0.7), (0.5, 0.8), (0.5, 0.9)], 4),
        ([(0.5, NAN), (0.5, 0.8), (0.5, NAN)], 8),
    ] {
        let script = figures.map(|(a, l)| vec![("accuracy", a), ("loss", l)]);
        let (_folder, run) = fresh();
        rewind(0);
        let (ended, _) = go(
            &run,
            None,
            &Points::scripted(script.to_vec()),
            &config(),
            None,
        );
        let state = ended.unwrap().state;
        assert_eq!(best(&state).unwrap().0, expected, "{figures:?}");
        assert!(
            linked(&run)
                .unwrap()
                .ends_with(format!("step-{expected:08}"))
        );
    }
}

/// Regression: a run that had stopped early went on training when it was resumed.
#[test]
fn a_run_that_stopped_early_stays_stopped() {
    let figures = [0.5, 0.4, 0.6].map(|v| vec![("accuracy", v), ("loss", 1.0)]);
    let config = TrainConfig {
        early_stopping: Some(rekindle_train::EarlyStopping {
            patience: 1,
            min_delta: 0.0,
        }),
        evaluate: Every::Steps(2),
        ..config()
    };
    let job = Points::scripted(figures.to_vec());
    let (_folder, run) = fresh();
    rewind(0);
    let first = go(&run, None, &job, &config, None).0.unwrap();
    assert_eq!((first.stopped, first.state.step), (Stopped::Early, 4));
    let checkpoint = Checkpoint::latest(&run).unwrap();
    let again = go(&run, Some(&checkpoint), &job, &config, None).0.unwrap();
    assert_eq!((again.stopped, again.state.step), (Stopped::Early, 4));
    assert_eq!(bits(&again.model), bits(&first.model));
}
