//! What is called best is best, is there, and is what is saved.

use crate::support::*;
use rekindle_train::{
    BestModel, Checkpoint, Choose, EarlyStopping, Every, RunDir, Stopped, TrainConfig, restore_best,
};
use std::{fs, path::PathBuf};

const NAN: f64 = f64::NAN;

/// Regression: a NaN was best for ever, and no checkpoint after it could be read.
#[test]
fn a_figure_that_is_no_number_is_never_best() {
    for bad in [NAN, f64::INFINITY, f64::NEG_INFINITY] {
        for higher_is_better in [true, false] {
            let figures = [bad, 0.5, bad].map(|v| vec![("accuracy", v), ("loss", 1.0)]);
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
        ([(0.5, NAN), (0.5, 0.8), (0.5, 0.9)], 8),
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

/// Where the examples are too few to choose by, the last model with a figure is kept, and none is called the best.
#[test]
fn the_last_is_kept_where_there_is_too_little_to_choose_by() {
    for (figures, expected) in [([0.9, 0.5, 0.4], 12), ([0.9, 0.5, NAN], 8)] {
        let script = figures.map(|value| vec![("accuracy", value), ("loss", 1.0)]);
        let mut config = config();
        config.choose = Choose::Last;
        let (_folder, run) = fresh();
        rewind(0);
        let job = Points::scripted(script.to_vec());
        let (ended, events) = go(&run, None, &job, &config, None);
        assert_eq!(best(&ended.unwrap().state).unwrap().0, expected);
        assert!(
            events
                .iter()
                .all(|event| !matches!(event, rekindle_train::Event::Evaluated { best: true, .. }))
        );
    }
}

/// Regression: a run that had stopped early went on training when it was resumed.
#[test]
fn a_run_that_stopped_early_stays_stopped() {
    let figures = [0.5, 0.4, 0.6].map(|v| vec![("accuracy", v), ("loss", 1.0)]);
    let config = TrainConfig {
        early_stopping: Some(EarlyStopping {
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

/// Evaluations that say these accuracies at steps 4, 8 and 12; where one is `None`, its checkpoint cannot be written.
fn disk_full(figures: [(f64, bool); 3], checkpoints: PathBuf) -> Points {
    Points::telling(move |n| {
        let (accuracy, writable) = figures[n];
        if !writable {
            // A file where the folder must go; a folder without rights would not stop root.
            fs::create_dir_all(&checkpoints).unwrap();
            let step = 4 * (n + 1);
            fs::write(checkpoints.join(format!(".writing-{step:08}")), "").unwrap();
        }
        vec![("accuracy", accuracy), ("loss", 1.0)]
    })
}

/// Regression: a best checkpoint that could not be written was claimed all the same, and the last model saved.
#[test]
fn a_best_checkpoint_that_was_not_written_is_not_claimed() {
    // Accuracy and whether the disk has room, at steps 4, 8 and 12; then the best step and the lost one.
    let cases = [
        ([(0.9, false), (0.5, true), (0.4, true)], 8, Some(4)),
        ([(0.5, true), (0.9, false), (0.4, true)], 4, Some(8)),
        ([(0.9, false), (0.8, false), (0.7, false)], 12, Some(4)),
        ([(0.5, true), (0.6, false), (0.9, true)], 12, None),
        ([(0.5, true), (0.6, true), (0.9, false)], 12, None),
        ([(0.5, false), (0.6, true), (0.9, false)], 12, None),
    ];
    for (figures, expected, lost) in cases {
        let (_folder, run) = fresh();
        rewind(0);
        let job = disk_full(figures, run.checkpoints());
        let (ended, events) = go(&run, None, &job, &config(), None);
        let outcome = ended.unwrap();
        assert_eq!(outcome.best.step(), expected, "{figures:?}");
        assert_eq!(best(&outcome.state).unwrap().0, expected, "{figures:?}");
        assert_eq!(
            outcome.state.lost.map(|best| best.step),
            lost,
            "{figures:?}"
        );
        match &outcome.best {
            BestModel::Last { step } => assert_eq!(*step, 12),
            BestModel::Checkpoint { step, path } => assert_eq!(*path, step_dir(&run, *step)),
        }
        let unwritten = figures.iter().filter(|(_, writable)| !writable).count();
        let said = warnings(&events);
        let counted = said
            .iter()
            .filter(|w| w.contains("was not written"))
            .count();
        assert_eq!(counted, unwritten, "{said:?}");
        if let Some(lost) = lost {
            let told = format!("step {lost} was the best");
            assert!(said.iter().any(|w| w.contains(&told)), "{said:?}");
        }
        // What is said to be on disk is.
        if let Some(link) = linked(&run) {
            Checkpoint::read(&run.path().join(link)).unwrap();
        }
    }
}

/// A best checkpoint that is gone or damaged when the run is resumed or ends is not claimed either.
#[test]
fn a_best_checkpoint_that_is_gone_is_not_claimed() {
    let harms: [fn(&RunDir); 2] = [
        |run| fs::remove_dir_all(step_dir(run, 4)).unwrap(),
        |run| fs::write(step_dir(run, 4).join("trainable.safetensors"), "changed").unwrap(),
    ];
    for harm in harms {
        let figures = [0.9, 0.5, 0.4].map(|v| vec![("accuracy", v), ("loss", 1.0)]);
        let job = Points::scripted(figures.to_vec());
        let (_folder, run) = fresh();
        rewind(0);
        go(&run, None, &job, &config(), Some(8)).0.unwrap();
        harm(&run);
        let checkpoint = Checkpoint::latest(&run).unwrap();
        let (ended, events) = go(&run, Some(&checkpoint), &job, &config(), None);
        let outcome = ended.unwrap();
        assert_eq!(outcome.best, BestModel::Last { step: 12 });
        assert_eq!(best(&outcome.state).unwrap().0, 12);
        assert_eq!(outcome.state.lost.unwrap().step, 4);
        assert!(
            warnings(&events)[0].contains("step 4 was the best"),
            "{events:?}"
        );
    }

    // Harmed during the last evaluation.
    let (_folder, run) = fresh();
    rewind(0);
    let path = step_dir(&run, 4);
    let job = Points::telling(move |n| {
        if n == 2 {
            fs::write(path.join("trainable.safetensors"), "changed").unwrap();
        }
        vec![("accuracy", [0.9, 0.5, 0.4][n]), ("loss", 1.0)]
    });
    let outcome = go(&run, None, &job, &config(), None).0.unwrap();
    assert_eq!(outcome.best, BestModel::Last { step: 12 });
    assert_eq!(
        (best(&outcome.state), outcome.state.lost.unwrap().step),
        (None, 4)
    );
    assert_eq!(linked(&run), None);
}

/// The checkpoint called best holds the model that was evaluated as the best.
#[test]
fn the_best_model_is_the_one_that_was_evaluated() {
    for average_decay in [None, Some(0.8)] {
        let config = TrainConfig {
            evaluate: Every::Steps(1),
            average_decay,
            ..config()
        };
        let job = Points::new(5);
        let (_folder, run) = fresh();
        let (ended, events) = go(&run, None, &job, &config, None);
        let outcome = ended.unwrap();
        let BestModel::Checkpoint { path, step } = &outcome.best else {
            panic!("the last step is the best: another seed")
        };
        let names = rekindle_nn::params::NameMap::default();
        let model = restore_best(start(), path, names, &Default::default()).unwrap();
        let found = rekindle_train::Job::<Tuning>::evaluate(&job, &valid(&model)).unwrap();
        let expected = events.iter().find_map(|event| match event {
            rekindle_train::Event::Evaluated {
                step: s,
                evaluation,
                ..
            } if s == step => Some(evaluation),
            _ => None,
        });
        assert_eq!(Some(&found), expected);
    }
}
