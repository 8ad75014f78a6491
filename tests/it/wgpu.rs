//! The same training steps on wgpu as on the CPU. On request only: it needs an adapter, for example Mesa's software
//! Vulkan, and compiles shaders.
//!
//! `REKINDLE_TEST_WGPU=1 cargo test -p rekindle-tests --features wgpu wgpu_matches_cpu -- --nocapture`
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;

use burn::backend::{Autodiff, Wgpu};
use rekindle_models::bert::NAMES;
use rekindle_nn::{Pass, TuneAutodiff};
use rekindle_peft::LoraConfig;
use rekindle_train::{Optimizer, OptimizerConfig};

use crate::support::{
    Tuning, golden, gradient, gradients, json, norm, packed, relative, set, tiny_classifier,
    trainable,
};

/// Relative (see `support::relative`): shaders sum in another order and have their own `exp`, `tanh` and `erf`.
const ACROSS_BACKENDS: f32 = 1e-3;

/// The losses and gradients of two LoRA steps of the tiny BERT with an adapter that does something, dropout on: the masks
/// are a function of the step on every backend.
fn two_steps<B: TuneAutodiff>() -> Vec<(f32, BTreeMap<String, Vec<f32>>)> {
    let device = B::Device::default();
    let texts = set(&json("tiny_bert/expected.json")["cases"]);
    let base = tiny_classifier::<B>(&device).with_dropout(0.1);
    let adapter = golden("tiny_bert/adapter");
    let (mut model, _): (_, LoraConfig) =
        rekindle_peft::load(base, &adapter, &["classifier"], NAMES, &device).unwrap();
    let mut optimizer = Optimizer::<B>::new(OptimizerConfig::default());
    let names = trainable(&model);
    (0..2)
        .map(|step| {
            let input = packed(&texts, &device);
            let (grads, loss) = gradients(&model, &input, &texts.labels, Pass::training(1, step));
            let by_name = names
                .iter()
                .map(|name| (name.clone(), gradient(&grads, name).unwrap()))
                .collect();
            model = optimizer.step(model.clone(), grads, 1e-3, 1.0, NAMES);
            (loss, by_name)
        })
        .collect()
}

#[test]
fn wgpu_matches_cpu() {
    if std::env::var_os("REKINDLE_TEST_WGPU").is_none_or(|value| value != "1") {
        println!("skipped: set REKINDLE_TEST_WGPU=1 where there is an adapter");
        return;
    }
    let expected = two_steps::<Tuning>();
    let found = two_steps::<Autodiff<Wgpu<f32, i32, u32>>>();
    for (step, ((loss, grads), (expected_loss, expected))) in
        found.iter().zip(&expected).enumerate()
    {
        let apart = (loss / expected_loss - 1.0).abs();
        println!(
            "wgpu, step {}: the loss is within {apart:.1e} of itself",
            step + 1
        );
        assert!(
            apart <= ACROSS_BACKENDS,
            "step {}: loss {loss}, on the CPU {expected_loss}",
            step + 1
        );
        let mut largest: f32 = 0.0;
        for (name, expected) in expected {
            let rms = norm(expected) / (expected.len() as f32).sqrt();
            let apart = relative(&grads[name], expected, rms);
            assert!(
                apart <= ACROSS_BACKENDS,
                "step {}: the gradient of `{name}` differs by {apart:e} of itself",
                step + 1
            );
            largest = largest.max(apart);
        }
        println!(
            "wgpu, step {}: {} gradients within {largest:.1e} of themselves",
            step + 1,
            expected.len()
        );
    }
}
