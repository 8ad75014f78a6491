//! A tiny BERT that lies in the repository: every way of storing its weights, its states, gradients, training steps and a
//! PEFT adapter, as transformers and PEFT have them.
#![allow(clippy::unwrap_used)]

use std::path::PathBuf;

use rekindle_base::HostTensor;
use rekindle_models::{Model, ModelError, Pretrained, Reads};
use rekindle_nn::{Pass, params};
use rekindle_peft::LoraConfig;
use rekindle_train::{OptimizerConfig, Schedule, TrainConfig, Warmup};
use rekindle_weights::WeightFiles;

use crate::support::{
    Cpu, Texts, Tuning, assert_close, classifier, golden, gradient, gradients, head, hidden_states,
    input, json, logits_alone, norm, numbers, own_labels, packed, pooled, read, relative, run,
    run_difference, set, state, tiny, tiny_classifier, train_config, values,
};

/// Absolute, on states and logits of magnitude 1 to 5: rounding of f32 differs by about 1e-6.
const FORWARD: f32 = 1e-4;

/// Relative (see `support::relative`); a wrong backward pass is wrong in the first digit.
const GRADIENT: f32 = 1e-4;

/// Absolute, for key biases, whose true gradient is 0.
const ZERO_GRADIENT: f32 = 1e-5;

/// Absolute, on losses of 20 steps. Leaving out weight decay or clipping moves them by more than 1e-2.
const LOSS: f64 = 1e-4;

/// Relative, on gradient norms of 20 steps.
const GRAD_NORM: f64 = 1e-4;

/// Relative: the schedules are the same formula in f64.
const LEARNING_RATE: f64 = 1e-12;

/// Absolute, on logits after 20 steps at a rate of 2e-3: Adam divides a gradient by its own size, so that the rounding
/// of a gradient near 0 (key biases) is a full step.
const LOGITS_AFTER: f32 = 1e-4;

fn variant(name: &str) -> PathBuf {
    golden("tiny_bert/variants").join(name)
}

#[test]
fn hidden_states_and_logits() {
    let device = Default::default();
    let fixture = json("tiny_bert/expected.json");
    let cases = set(&fixture["cases"]);
    let model = tiny_classifier::<Cpu>(&device);
    let own = || own_labels(&tiny());
    let (of_mean, _) = classifier::<Cpu>(&tiny(), own(), Some(Reads::Mean), &device);
    let mut largest: f32 = 0.0;
    for (i, case) in fixture["cases"].as_array().unwrap().iter().enumerate() {
        let input = input(&cases, &[i], &device);
        let mut close = |what: &str, found: Vec<f32>, expected: &serde_json::Value| {
            let what = format!("case {i}, {what}");
            largest = largest.max(assert_close(&what, &found, &numbers(expected), FORWARD));
        };
        let states = hidden_states(&model, &input);
        for (n, expected) in case["hidden_states"].as_array().unwrap().iter().enumerate() {
            close("a hidden state", values(states[n].clone()), expected);
        }
        for (model, key) in [(&model, "pooler_output"), (&of_mean, "mean_pooled")] {
            let pass = Pass::evaluation();
            let features = model.features(pooled(model, &input, pass), pass);
            close(key, values(features), &case[key]);
        }
        let logits = model.forward(input.into(), Pass::evaluation());
        close("logits", values(logits), &case["logits"]);
    }
    println!("tiny_bert: states and logits within {largest:.1e}");
}

#[test]
fn variants_that_hold_the_whole_model_predict_the_same() {
    let device = Default::default();
    let fixture = json("tiny_bert/expected.json");
    let cases = set(&fixture["cases"]);
    let variants = fixture["variant_logits"].as_object().unwrap();
    assert_eq!(variants.len(), 5);
    for (name, expected) in variants {
        let names = own_labels(&variant(name));
        let (model, report) = classifier::<Cpu>(&variant(name), names, None, &device);
        assert!(report.initialised.is_empty(), "{name}: {report:?}");
        assert_eq!(
            report.ignored.len(),
            usize::from(name == "gamma_beta"),
            "{name}: {report:?}"
        );
        let found = logits_alone(&model, &cases, &device);
        // Also for f16 and bf16: the expected logits are of the rounded weights, computed in f32.
        let largest = assert_close(name, &found, &numbers(expected), FORWARD);
        println!("tiny_bert, variant {name}: logits within {largest:.1e}");
    }
}

#[test]
fn variants_without_a_head_get_a_new_one_and_say_so() {
    let device = Default::default();
    let whole = state(&tiny_classifier::<Cpu>(&device));
    for (name, reads, new) in [
        (
            "no_prefix",
            Reads::First,
            vec!["classifier.weight", "classifier.bias"],
        ),
        (
            "no_pooler",
            Reads::Mean,
            vec!["classifier.weight", "classifier.bias"],
        ),
    ] {
        let names = own_labels(&tiny());
        let (model, report) = classifier::<Cpu>(&variant(name), names.clone(), None, &device);
        assert_eq!(model.reads(), reads, "{name}");
        let initialised: Vec<&str> = report
            .initialised
            .iter()
            .map(|(name, _)| name.as_str())
            .collect();
        assert_eq!(initialised, new, "{name}");
        for (parameter, found) in state(&model) {
            if !parameter.starts_with("classifier.") {
                assert_eq!(found, whole[&parameter], "{name}: `{parameter}`");
            }
        }

        // Where the head must be there, its absence is an error that names it.
        let pretrained = Pretrained::open(&variant(name)).unwrap();
        let error = Model::<Cpu>::from_pretrained(&pretrained, &head(names, None, true), &device)
            .unwrap_err();
        match error {
            ModelError::Missing { names, .. } => assert_eq!(names, new, "{name}"),
            other => panic!("{name}: {other}"),
        }
    }
}

#[test]
fn gradients_of_every_parameter() {
    let device = Default::default();
    let fixture = json("tiny_bert/expected.json");
    let cases = set(&fixture["cases"]);
    let expected = WeightFiles::open(&golden("tiny_bert/gradients.safetensors")).unwrap();
    let model = tiny_classifier::<Tuning>(&device);
    let (grads, loss) = gradients(
        &model,
        &packed(&cases, &device),
        cases.targets.class_ids(),
        Pass::evaluation(),
    );
    let expected_loss = json("tiny_bert/training.json")["loss"].as_f64().unwrap() as f32;
    assert_close("loss", &[loss], &[expected_loss], FORWARD);

    let (mut largest, mut largest_zero) = ((0.0, String::new()), 0f32);
    let parameters = state(&model);
    assert!(
        expected.names().eq(parameters.keys()),
        "a gradient a parameter"
    );
    for name in expected.names() {
        let expected = read(&expected, name).values;
        let found = gradient(&grads, name).unwrap_or_else(|| panic!("`{name}` has no gradient"));
        if name.ends_with("key.bias") {
            largest_zero = largest_zero.max(assert_close(name, &found, &expected, ZERO_GRADIENT));
            continue;
        }
        let rms = norm(&expected) / (expected.len() as f32).sqrt();
        let apart = relative(&found, &expected, rms);
        assert!(
            apart <= GRADIENT,
            "`{name}`: a value differs by {apart:e} of itself, allowed {GRADIENT:e}"
        );
        if apart > largest.0 {
            largest = (apart, name.to_owned());
        }
    }
    println!(
        "tiny_bert: gradients within {:.1e} of themselves (`{}`), key biases within {largest_zero:.1e}",
        largest.0, largest.1
    );
}

/// 20 steps over one batch with a decay of 0.5 and clipping at 0.5, which both show.
#[test]
fn training_steps_full_and_lora() {
    let device = Default::default();
    let fixture = json("tiny_bert/training.json");
    let cases = set(&json("tiny_bert/expected.json")["cases"]);
    let number = |key: &str| fixture[key].as_f64().unwrap();
    let config = TrainConfig {
        epochs: number("steps"),
        schedule: Schedule::Linear,
        warmup: Warmup::Steps(number("warmup_steps") as u64),
        optimizer: OptimizerConfig {
            weight_decay: number("weight_decay"),
            ..OptimizerConfig::default()
        },
        max_grad_norm: number("max_grad_norm"),
        ..train_config(number("learning_rate"))
    };
    let start = || tiny_classifier::<Tuning>(&device).with_dropout(0.0);

    let lora = LoraConfig {
        r: number_of(&fixture["lora"]["r"]),
        lora_alpha: fixture["lora"]["lora_alpha"].as_f64().unwrap(),
        modules_to_save: vec!["classifier".into()],
        ..LoraConfig::default()
    };
    let model_names = start().names();
    let (adapted, _) = rekindle_peft::inject(start(), &lora, model_names, 0, &device).unwrap();
    // PEFT drew its own A; B is zero in both.
    let initial = &fixture["lora"]["lora_A"];
    let mut replaced = 0;
    let adapted = params::map(adapted, &mut |param| {
        let name = model_names
            .published(param.path)
            .replace(".adapter.lora_a", ".lora_A.weight");
        let value = match initial.get(format!("base_model.model.{name}")) {
            Some(given) => {
                replaced += 1;
                let host = HostTensor {
                    shape: param.shape.as_slice().to_vec(),
                    values: numbers(given),
                };
                rekindle_nn::host::from_host::<Tuning>(host, &device)
            }
            None => param.value,
        };
        params::Mapped {
            value,
            trainable: param.trainable,
        }
    });
    assert_eq!(replaced, initial.as_object().unwrap().len());

    let job = Texts::<Tuning>::in_order(cases, 8);
    for (name, model) in [("full", start()), ("lora", adapted)] {
        let expected = &fixture[name];
        let (_, trained) = params::count(&model);
        assert_eq!(
            trained,
            number_of(&expected["trained_parameters"]),
            "{name}: values that train"
        );
        let (model, steps) = run(&job, model, &config);
        let apart = run_difference(&steps, &expected["steps"]);
        println!("tiny_bert, {name}: {apart}");
        assert!(apart.loss <= LOSS, "{name}: {apart:?}");
        assert!(apart.learning_rate <= LEARNING_RATE, "{name}: {apart:?}");
        assert!(apart.grad_norm <= GRAD_NORM, "{name}: {apart:?}");
        let found = logits_alone(&model, &job.set, &device);
        let largest = assert_close(
            name,
            &found,
            &numbers(&expected["logits_after"]),
            LOGITS_AFTER,
        );
        println!("tiny_bert, {name}: logits after 20 steps within {largest:.1e}");
    }
}

fn number_of(value: &serde_json::Value) -> usize {
    value.as_u64().unwrap() as usize
}

#[test]
fn a_peft_adapter_predicts_the_same_here() {
    let device = Default::default();
    let fixture = json("tiny_bert/expected.json");
    let cases = set(&fixture["cases"]);
    let base = tiny_classifier::<Cpu>(&device);
    let names = base.names();
    let (model, config) = rekindle_peft::load(
        base,
        &golden("tiny_bert/adapter"),
        &["classifier", "score"],
        names,
        &device,
    )
    .unwrap();
    assert_eq!((config.r, config.lora_alpha), (4, 8.0));
    let found = logits_alone(&model, &cases, &device);
    let largest = assert_close(
        "adapter",
        &found,
        &numbers(&fixture["adapter_logits"]),
        FORWARD,
    );
    println!("tiny_bert, adapter: logits within {largest:.1e}");
}
