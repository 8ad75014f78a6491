//! Laws of models, adapters and the training loop, on a tiny BERT: what must hold whatever the values are.
#![allow(clippy::unwrap_used)]

use std::fs;

use burn::tensor::backend::Backend;
use rekindle_data::{EncodedSet, Sampler};
use rekindle_models::{Model, Pretrained};
use rekindle_nn::{Pass, ops::Precision};
use rekindle_peft::{LoraConfig, TargetModules, Trainable};
use rekindle_train::{
    Between, Checkpoint, Event, Every, OptimizerConfig, RunDir, Schedule, Stopped, TrainConfig,
    Warmup,
};

use crate::support::{
    Cpu, Texts, Tuning, assert_close, assert_same_bits, class_targets, classifier, golden,
    gradient, gradients, head, json, logits_alone, norm, packed, pooled, run, run_in, set, state,
    steps, tiny_classifier, tiny_names, train_config, trainable, values,
};

/// Absolute, on logits: `x W + s (x A) B` and `x (W + s A B)` round differently.
const MERGE: f32 = 1e-5;

/// Absolute, on a gradient or parameter that is summed over micro-batches or over one batch.
const ACCUMULATION: f32 = 1e-5;

/// The tiny BERT's six sentences, repeated to `count` examples.
fn examples(count: usize) -> EncodedSet {
    let six = set(&json("tiny_bert/expected.json")["cases"]);
    EncodedSet {
        items: six.items.iter().cycle().take(count).cloned().collect(),
        targets: class_targets(
            six.targets
                .class_ids()
                .iter()
                .cycle()
                .take(count)
                .copied()
                .collect(),
        ),
    }
}

/// LoRA on every linear layer, with dropout on the side path, and a head that trains.
fn lora() -> LoraConfig {
    LoraConfig {
        r: 4,
        lora_alpha: 8.0,
        lora_dropout: 0.2,
        target_modules: TargetModules::AllLinear,
        modules_to_save: vec!["classifier".into()],
        ..LoraConfig::default()
    }
}

fn with_lora<B: Backend>(device: &B::Device) -> Model<B> {
    let base = tiny_classifier(device);
    let names = base.names();
    rekindle_peft::inject(base, &lora(), names, 5, device)
        .unwrap()
        .0
}

fn with_peft_adapter<B: Backend>(device: &B::Device) -> (Model<B>, LoraConfig) {
    rekindle_peft::load(
        tiny_classifier(device),
        &golden("tiny_bert/adapter"),
        &["classifier"],
        tiny_names(),
        device,
    )
    .unwrap()
}

/// Freezes what these patterns match; everything else trains.
fn frozen<B: Backend>(model: Model<B>, patterns: &[&str]) -> Model<B> {
    let patterns: Vec<String> = patterns.iter().map(|&pattern| pattern.into()).collect();
    rekindle_peft::set_trainable(model, Trainable::All, &[], &patterns, &[], tiny_names()).unwrap()
}

#[test]
fn lora_at_its_start_is_the_base() {
    let device = Default::default();
    let texts = examples(6);
    let base = logits_alone(&tiny_classifier::<Cpu>(&device), &texts, &device);
    let adapted = logits_alone(&with_lora::<Cpu>(&device), &texts, &device);
    assert_eq!(adapted, base, "B is zero, so that nothing is added");
}

#[test]
fn merged_equals_unmerged() {
    let device = Default::default();
    let texts = examples(6);
    let (model, _) = with_peft_adapter::<Cpu>(&device);
    let unmerged = logits_alone(&model, &texts, &device);
    let base = logits_alone(&tiny_classifier::<Cpu>(&device), &texts, &device);
    assert_ne!(unmerged, base, "the adapter does something");
    let merged = rekindle_peft::merge(model);
    assert!(
        state(&merged).keys().all(|name| !name.contains("lora")),
        "the slots are empty"
    );
    let largest = assert_close(
        "merged",
        &logits_alone(&merged, &texts, &device),
        &unmerged,
        MERGE,
    );
    println!("merged and unmerged: within {largest:.1e}");
}

#[test]
fn a_saved_model_is_loaded_as_it_was() {
    let device = Default::default();
    let folder = tempfile::tempdir().unwrap();
    let (dir, again) = (folder.path().join("a"), folder.path().join("b"));
    let model = tiny_classifier::<Cpu>(&device);
    let of_tiny = Pretrained::open(&crate::support::tiny()).unwrap();
    let head = head(of_tiny.config().labels.clone(), None, false);
    model
        .save_pretrained(&dir, of_tiny.config(), &head)
        .unwrap();

    let saved = Pretrained::open(&dir).unwrap();
    let config = saved.config();
    let (loaded, report) = classifier::<Cpu>(&dir, config.labels.clone(), None, &device);
    assert!(
        report.initialised.is_empty() && report.ignored.is_empty(),
        "{report:?}"
    );
    assert_same_bits("loaded", &state(&loaded), &state(&model));
    loaded.save_pretrained(&again, config, &head).unwrap();
    for file in ["config.json", "model.safetensors"] {
        assert_eq!(
            fs::read(dir.join(file)).unwrap(),
            fs::read(again.join(file)).unwrap(),
            "{file}"
        );
    }
}

#[test]
fn a_saved_adapter_is_loaded_as_it_was() {
    let device = Default::default();
    let folder = tempfile::tempdir().unwrap();
    let trained = Texts::<Tuning>::in_order(examples(6), 3);
    let fresh = |config: &LoraConfig| {
        let base = tiny_classifier::<Tuning>(&device);
        rekindle_peft::inject(base, config, tiny_names(), 5, &device)
            .unwrap()
            .0
    };
    for config in [
        lora(),
        LoraConfig {
            use_rslora: true,
            layers_to_transform: Some(vec![1]),
            ..LoraConfig::default()
        },
    ] {
        // A step of training, so that no tensor is at its start.
        let (model, _) = run(&trained, fresh(&config), &train_config(1e-2));
        let dir = folder
            .path()
            .join(if config.use_rslora { "b" } else { "a" });
        rekindle_peft::save(&model, &config, tiny_names(), &dir).unwrap();
        let base = tiny_classifier::<Tuning>(&device);
        let (loaded, found) =
            rekindle_peft::load(base, &dir, &["classifier"], tiny_names(), &device).unwrap();
        assert_eq!(found, config);
        assert_same_bits("loaded", &state(&loaded), &state(&model));
        assert_eq!(trainable(&loaded), trainable(&model));
        assert_eq!(
            logits_alone(&loaded, &trained.set, &device),
            logits_alone(&model, &trained.set, &device),
            "scale and sites too"
        );
    }
}

/// Dropout everywhere, shuffled batches of like length, windows of 2 micro-batches of which an epoch's last has 1, and
/// evaluations: whatever a checkpoint could forget.
fn eventful(set: EncodedSet) -> (Texts<Tuning>, TrainConfig) {
    let sampler = Sampler {
        seed: 9,
        shuffle: true,
        group_by_length: true,
        batch_size: 3,
        drop_last: false,
    };
    let job = Texts {
        sampler,
        ..Texts::in_order(set, 3)
    };
    let config = TrainConfig {
        epochs: 2.5,
        gradient_accumulation_steps: 2,
        schedule: Schedule::Cosine,
        warmup: Warmup::Ratio(0.2),
        optimizer: OptimizerConfig {
            weight_decay: 0.1,
            ..OptimizerConfig::default()
        },
        max_grad_norm: 1.0,
        evaluate: Every::Epoch,
        keep: 2,
        ..train_config(1e-2)
    };
    (job, config)
}

#[test]
fn resumed_equals_uninterrupted_to_the_bit() {
    let device = Default::default();
    // 13 examples: 5 micro-batches (3, 3, 3, 3, 1), 3 steps an epoch.
    let (job, config) = eventful(examples(13));
    let full = || tiny_classifier::<Tuning>(&device).with_dropout(0.1);
    let lora = || with_lora::<Tuning>(&device).with_dropout(0.1);
    let starts: [(&str, &dyn Fn() -> Model<Tuning>); 2] = [("full", &full), ("lora", &lora)];
    for (name, start) in starts {
        let folder = tempfile::tempdir().unwrap();
        let whole = RunDir::create(&folder.path().join("whole")).unwrap();
        let (outcome, events) = run_in(&whole, None, &job, start(), &config, None);
        let (expected, expected_steps) = (outcome.unwrap(), steps(&events));
        assert_eq!(expected_steps.len(), 8, "2.5 epochs of 3 steps");
        assert_eq!(expected.state.passes, 14, "a mask for every micro-batch");
        for epoch in expected_steps.chunks_exact(3) {
            let seen: usize = epoch.iter().map(|step| step.examples).sum();
            assert_eq!(seen, 13, "every example once an epoch");
        }
        let moved = state(&start())
            .iter()
            .zip(state(&expected.model).iter())
            .filter(|(before, after)| before != after)
            .count();
        assert_eq!(
            moved,
            trainable(&expected.model).len(),
            "{name}: everything trained"
        );

        for stop_after in 1..8 {
            let what = format!("{name}, stopped after step {stop_after}");
            let cut = RunDir::create(&folder.path().join(format!("cut-{stop_after}"))).unwrap();
            let (outcome, events) = run_in(&cut, None, &job, start(), &config, Some(stop_after));
            assert_eq!(outcome.unwrap().stopped, Stopped::Interrupted, "{what}");
            let mut found = steps(&events);

            let checkpoint = Checkpoint::latest(&cut).unwrap();
            assert_eq!(checkpoint.state.step, stop_after);
            let (outcome, events) = run_in(&cut, Some(&checkpoint), &job, start(), &config, None);
            let outcome = outcome.unwrap();
            found.extend(steps(&events));
            assert_eq!(found, expected_steps, "{what}: losses, rates and norms");
            assert_eq!(outcome.state, expected.state, "{what}: where it ended");
            assert_same_bits(&what, &state(&outcome.model), &state(&expected.model));
        }
    }
}

/// The mean over a window is the mean over its examples, also where its micro-batches are of unequal size.
#[test]
fn accumulated_equals_one_batch() {
    let device = Default::default();
    let start = || tiny_classifier::<Tuning>(&device).with_dropout(0.0);
    // 7 examples: as micro-batches of 3, 3 and 1, or as one batch.
    let config = |micro_batches| TrainConfig {
        epochs: 3.0,
        gradient_accumulation_steps: micro_batches,
        max_grad_norm: 1.0,
        ..train_config(1e-3)
    };
    let (whole, expected) = run(&Texts::in_order(examples(7), 7), start(), &config(1));
    let (parts, found) = run(&Texts::in_order(examples(7), 3), start(), &config(3));
    assert_eq!(found.len(), 3);
    for (found, expected) in found.iter().zip(&expected) {
        assert_eq!(found.examples, 7);
        assert!(
            (found.loss - expected.loss).abs() < f64::from(ACCUMULATION),
            "{found:?} {expected:?}"
        );
        assert!(
            (found.grad_norm / expected.grad_norm - 1.0).abs() < f64::from(ACCUMULATION),
            "{found:?} {expected:?}"
        );
    }
    let mut largest: f32 = 0.0;
    for (name, expected) in state(&whole) {
        // The gradient of a key bias is rounding, and Adam makes whole steps of it.
        if !name.ends_with("key.bias") {
            let found = &state(&parts)[&name].values;
            largest = largest.max(assert_close(&name, found, &expected.values, ACCUMULATION));
        }
    }
    println!("accumulated and in one batch: parameters after 3 steps within {largest:.1e}");
}

/// Products in bf16 move loss and gradients by their rounding, and no more: about 2^-8 of the norm.
#[test]
fn bf16_is_close_to_f32() {
    let device = Default::default();
    let examples = examples(6);
    let found = |precision| {
        let pass = Pass::training(1, 0).with_precision(precision);
        let model = tiny_classifier::<Tuning>(&device).with_dropout(0.1);
        let input = packed(&examples, &device);
        gradients(&model, &input, examples.targets.class_ids(), pass)
    };
    let ((exact, loss), (rounded, loss_rounded)) = (found(Precision::F32), found(Precision::Bf16));
    assert!(
        (loss - loss_rounded).abs() < 0.01 * loss.abs(),
        "{loss}, {loss_rounded}"
    );
    assert_ne!(loss, loss_rounded);
    for name in state(&tiny_classifier::<Tuning>(&device)).keys() {
        let (Some(exact), Some(rounded)) = (gradient(&exact, name), gradient(&rounded, name))
        else {
            continue;
        };
        // The gradient of a key's bias is 0 but for rounding.
        if name.ends_with("key.bias") {
            continue;
        }
        let off: Vec<f32> = exact.iter().zip(&rounded).map(|(a, b)| a - b).collect();
        let relative = norm(&off) / norm(&exact);
        assert!(relative < 0.03, "`{name}`: {relative}");
    }
}

#[test]
fn frozen_is_frozen() {
    let device = Default::default();
    let (job, config) = eventful(examples(13));
    const FROZEN: [&str; 3] = ["bert.embeddings", "bert.encoder.layer.0", "bert.pooler"];
    let start = || {
        frozen(
            tiny_classifier::<Tuning>(&device).with_dropout(0.3),
            &FROZEN,
        )
    };
    let is_frozen = |name: &str| {
        FROZEN
            .iter()
            .any(|pattern| name.starts_with(&format!("{pattern}.")))
    };

    // No gradient.
    let (grads, _) = gradients(
        &start(),
        &packed(&job.set, &device),
        job.set.targets.class_ids(),
        Pass::training(1, 0),
    );
    for name in state(&start()).keys() {
        assert_eq!(
            gradient(&grads, name).is_none(),
            is_frozen(name),
            "`{name}`"
        );
    }

    // No change, and what trains is the same, also after resuming.
    let folder = tempfile::tempdir().unwrap();
    let dir = RunDir::create(&folder.path().join("run")).unwrap();
    let (outcome, _) = run_in(&dir, None, &job, start(), &config, Some(2));
    assert_eq!(outcome.unwrap().stopped, Stopped::Interrupted);
    let checkpoint = Checkpoint::latest(&dir).unwrap();
    let (outcome, _) = run_in(&dir, Some(&checkpoint), &job, start(), &config, None);
    let model = outcome.unwrap().model;
    let before = state(&start());
    for (name, after) in state(&model) {
        assert_eq!(after == before[&name], is_frozen(&name), "`{name}`");
    }
    assert_eq!(trainable(&model), trainable(&start()));
    assert!(trainable(&model).iter().all(|name| !is_frozen(name)));

    // No dropout: a frozen encoder computes in training what it computes in evaluation; one that trains does not.
    let input = packed(&job.set, &device);
    let training = |model: &Model<Tuning>| values(pooled(model, &input, Pass::training(1, 0)));
    let evaluation = |model: &Model<Tuning>| values(pooled(model, &input, Pass::evaluation()));
    let encoder_frozen = frozen(
        tiny_classifier::<Tuning>(&device).with_dropout(0.3),
        &["bert"],
    );
    assert_eq!(training(&encoder_frozen), evaluation(&encoder_frozen));
    assert_ne!(training(&model), evaluation(&model));
}

#[test]
fn a_half_written_checkpoint_is_passed_over() {
    let device = Default::default();
    let (job, config) = eventful(examples(13));
    let folder = tempfile::tempdir().unwrap();
    let dir = RunDir::create(&folder.path().join("run")).unwrap();
    let start = || tiny_classifier::<Tuning>(&device).with_dropout(0.1);
    run_in(&dir, None, &job, start(), &config, Some(2))
        .0
        .unwrap();

    // What a killed process leaves: the folder it was writing, and on a file system without order, an empty one.
    for name in [".writing-00000003", "step-00000003"] {
        let path = dir.checkpoints().join(name);
        fs::create_dir(&path).unwrap();
        fs::write(path.join("trainable.safetensors"), b"half").unwrap();
    }
    let checkpoint = Checkpoint::latest(&dir).unwrap();
    assert_eq!(checkpoint.state.step, 2);
    let (outcome, events) = run_in(&dir, Some(&checkpoint), &job, start(), &config, None);
    assert_eq!(outcome.unwrap().stopped, Stopped::Finished);
    let warnings = events
        .iter()
        .filter(|event| matches!(event, Event::Warning { .. }));
    assert_eq!(warnings.count(), 0, "{events:?}");
    assert_eq!(Checkpoint::latest(&dir).unwrap().state.step, 8);
    assert!(!dir.checkpoints().join(".writing-00000003").exists());
}

#[test]
fn a_checkpoint_that_cannot_be_written_is_a_warning() {
    let device = Default::default();
    let (job, config) = eventful(examples(13));
    let folder = tempfile::tempdir().unwrap();
    let dir = RunDir::create(&folder.path().join("run")).unwrap();
    // A file where the folder should be; a folder without rights would not stop root.
    fs::write(dir.checkpoints(), b"").unwrap();
    let (outcome, events) = run_in(&dir, None, &job, tiny_classifier(&device), &config, None);
    assert_eq!(outcome.unwrap().stopped, Stopped::Finished);
    assert_eq!(steps(&events).len(), 8);
    let warnings: Vec<&String> = events
        .iter()
        .filter_map(|event| match event {
            Event::Warning { message } if message.contains("was not written") => Some(message),
            _ => None,
        })
        .collect();
    assert_eq!(warnings.len(), 3, "one an evaluation: {warnings:?}");
    assert!(
        warnings[0].contains("the checkpoint of step 3 was not written"),
        "{warnings:?}"
    );

    // An interrupt would lose the run, and says so.
    let (outcome, _) = run_in(&dir, None, &job, tiny_classifier(&device), &config, Some(1));
    let message = outcome.map(|_| ()).unwrap_err().to_string();
    assert!(message.contains("checkpoints"), "{message}");
}

#[test]
fn a_loss_that_is_no_number_stops_the_run_and_names_the_step() {
    let device = Default::default();
    let job = Texts::<Tuning> {
        nan_at: Some(7),
        ..Texts::in_order(examples(13), 3)
    };
    let config = TrainConfig {
        checkpoint_every: Some(Between::Steps(1)),
        ..train_config(1e-3)
    };
    let folder = tempfile::tempdir().unwrap();
    let dir = RunDir::create(&folder.path().join("run")).unwrap();
    let (outcome, events) = run_in(&dir, None, &job, tiny_classifier(&device), &config, None);
    let message = outcome.map(|_| ()).unwrap_err().to_string();
    for part in [
        "step 3: the loss is NaN",
        "checkpoints up to step 2 are kept",
        "examples [6, 7, 8]",
    ] {
        assert!(message.contains(part), "{part:?} in: {message}");
    }
    assert_eq!(steps(&events).len(), 2);
    assert_eq!(Checkpoint::latest(&dir).unwrap().state.step, 2);
}
