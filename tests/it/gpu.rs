//! The same training steps on a GPU as on the CPU. On request only: wgpu needs an adapter, for example Mesa's software
//! Vulkan, and compiles shaders; cuda needs an NVIDIA GPU.
//!
//! `REKINDLE_TEST_WGPU=1 cargo test -p rekindle-tests --features wgpu gpu_matches_cpu -- --ignored --nocapture`
//! `REKINDLE_TEST_CUDA=1 cargo test -p rekindle-tests --features cuda gpu_matches_cpu -- --ignored --nocapture`
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;

use burn::backend::Autodiff;
use burn::tensor::Tensor;
use rekindle_nn::{Pass, TuneAutodiff, ops, params};
use rekindle_peft::{LoraConfig, TargetModules};
use rekindle_tests::{Need, need};
use rekindle_train::{Gradients, Optimizer, OptimizerConfig};

use crate::decoders::{fixture, loss as next_token_loss, model as decoder, packed as next_tokens};
use crate::support::{
    Tuning, golden, gradient, gradients, json, norm, packed, relative, set, tiny_classifier,
    trainable, values,
};

/// Relative (see `support::relative`): shaders sum in another order and have their own `exp`, `tanh` and `erf`.
const ACROSS_BACKENDS: f32 = 1e-3;

#[cfg(feature = "wgpu")]
mod backend {
    pub type Gpu = super::Autodiff<burn::backend::Wgpu<f32, i32, u32>>;
    pub const NEED: super::Need = super::Need::Wgpu;
    pub const ASKED_FOR: &str = "REKINDLE_TEST_WGPU";
}

#[cfg(all(feature = "cuda", not(feature = "wgpu")))]
mod backend {
    pub type Gpu = super::Autodiff<burn::backend::Cuda<f32, i32>>;
    pub const NEED: super::Need = super::Need::Cuda;
    pub const ASKED_FOR: &str = "REKINDLE_TEST_CUDA";
}

use backend::Gpu;

/// A loss, and gradients by name.
type Step = (f32, BTreeMap<String, Vec<f32>>);

/// The losses and gradients of two LoRA steps of the tiny BERT with an adapter that does something, dropout on: the masks
/// are a function of the step on every backend.
fn two_steps<B: TuneAutodiff>() -> Vec<Step> {
    let device = B::Device::default();
    let texts = set(&json("tiny_bert/expected.json")["cases"]);
    let base = tiny_classifier::<B>(&device).with_dropout(0.1);
    let adapter = golden("tiny_bert/adapter");
    let all = base.names();
    let (mut model, _): (_, LoraConfig) =
        rekindle_peft::load(base, &adapter, &["classifier"], all, &device).unwrap();
    let mut optimizer = Optimizer::<B>::new(OptimizerConfig::default());
    let names = trainable(&model);
    (0..2)
        .map(|step| {
            let input = packed(&texts, &device);
            let (grads, loss) = gradients(
                &model,
                &input,
                texts.targets.class_ids(),
                Pass::training(1, step),
            );
            let by_name = names
                .iter()
                .map(|name| (name.clone(), gradient(&grads, name).unwrap()))
                .collect();
            model = optimizer.step(model.clone(), grads, 1e-3, 1.0, &|_| 1.0, all);
            (loss, by_name)
        })
        .collect()
}

/// Two steps of the tiny Llama with dropout, all of it or by LoRA on every linear layer.
fn decoder_steps<B: TuneAutodiff>(lora: bool) -> Vec<Step> {
    let device = B::Device::default();
    let (_, texts, first) = fixture();
    let model = decoder::<B>("llama", &device).with_dropout(0.1);
    let all = model.names();
    let mut model = match lora {
        true => {
            let config = LoraConfig {
                target_modules: TargetModules::AllLinear,
                ..LoraConfig::default()
            };
            rekindle_peft::inject(model, &config, all, 1, &device)
                .unwrap()
                .0
        }
        false => params::set_trainable(model, &mut |_| true),
    };
    let mut optimizer = Optimizer::<B>::new(OptimizerConfig::default());
    let names = trainable(&model);
    (0..2)
        .map(|step| {
            let input = next_tokens::<B>(&texts, first, &device);
            let loss = next_token_loss(&model, &input, Pass::training(1, step));
            let mut grads = Gradients::<B>::default();
            grads.backward(&loss, &model, all);
            let by_name = (names.iter())
                .map(|name| (name.clone(), gradient(&grads, name).unwrap()))
                .collect();
            model = optimizer.step(model.clone(), grads, 1e-3, 0.5, &|_| 1.0, all);
            (values(loss)[0], by_name)
        })
        .collect()
}

/// Loss and gradients of a step of an image model with these classes, on a batch of two.
fn picture_step<B: TuneAutodiff>(name: &str, side: usize, pass: Pass) -> Step {
    let model = crate::vision::model::<B>(name, 10);
    let logits = model.forward(crate::vision::input(2, side, side).into(), pass);
    let classes = Tensor::from_data([3i32, 7].as_slice(), &B::Device::default());
    let loss = ops::cross_entropy(logits, classes, &ops::CrossEntropy::default()).sum();
    let mut grads = Gradients::<B>::default();
    grads.backward(&loss, &model, model.names());
    let by_name = trainable(&model)
        .into_iter()
        .filter_map(|name| gradient(&grads, &name).map(|values| (name, values)))
        .collect();
    (values(loss)[0], by_name)
}

fn is_asked_for() -> bool {
    need(backend::NEED, rekindle_tests::asked_for(backend::ASKED_FOR)).is_some()
}

fn assert_same(what: &str, (loss, grads): &Step, (expected_loss, expected): &Step) {
    let apart = (loss / expected_loss - 1.0).abs();
    println!("{what}: the loss is within {apart:.1e} of itself");
    assert!(
        apart <= ACROSS_BACKENDS,
        "{what}: loss {loss}, on the CPU {expected_loss}"
    );
    assert!(!expected.is_empty() && grads.len() == expected.len());
    let mut largest: f32 = 0.0;
    for (name, expected) in expected {
        let rms = norm(expected) / (expected.len() as f32).sqrt();
        let apart = relative(&grads[name], expected, rms);
        assert!(
            apart <= ACROSS_BACKENDS,
            "{what}: the gradient of `{name}` differs by {apart:e} of itself"
        );
        largest = largest.max(apart);
    }
    println!(
        "{what}: {} gradients within {largest:.1e} of themselves",
        expected.len()
    );
}

#[test]
#[ignore = "needs a GPU or a software Vulkan driver: cargo xtask test --wgpu"]
fn gpu_matches_cpu() {
    if !is_asked_for() {
        return;
    }
    let expected = two_steps::<Tuning>();
    let found = two_steps::<Gpu>();
    for (i, (found, expected)) in found.iter().zip(&expected).enumerate() {
        assert_same(&format!("step {}", i + 1), found, expected);
    }
}

#[test]
#[ignore = "needs a GPU or a software Vulkan driver: cargo xtask test --wgpu"]
fn gpu_matches_cpu_on_a_decoder() {
    if !is_asked_for() {
        return;
    }
    for lora in [true, false] {
        let expected = decoder_steps::<Tuning>(lora);
        let found = decoder_steps::<Gpu>(lora);
        for (i, (found, expected)) in found.iter().zip(&expected).enumerate() {
            let method = if lora { "LoRA" } else { "full" };
            assert_same(&format!("{method}, step {}", i + 1), found, expected);
        }
    }
}

/// The default bodies of convolution, pooling and batch norm. EfficientNet in evaluation: where ReLU6 bends, the rounding of
/// a batch's statistics decides which side a value is on.
#[test]
#[ignore = "needs a GPU or a software Vulkan driver: cargo xtask test --wgpu"]
fn gpu_matches_cpu_on_pictures() {
    if !is_asked_for() {
        return;
    }
    for (name, side, pass) in [
        ("cifar_resnet8", 32, Pass::training(1, 0)),
        ("resnet18", 33, Pass::evaluation()),
        ("tf_efficientnet_lite0", 33, Pass::evaluation()),
    ] {
        let found = picture_step::<Gpu>(name, side, pass);
        assert_same(name, &found, &picture_step::<Tuning>(name, side, pass));
    }
}
