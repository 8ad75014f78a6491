//! The same training steps on a GPU as on the CPU, of every family of models. On request only, `cargo xtask test --backend wgpu` or
//! `cuda`: wgpu needs an adapter, for example Mesa's software Vulkan, and compiles shaders; cuda needs an NVIDIA GPU.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use burn::backend::Autodiff;
use burn::tensor::Tensor;
use rekindle_models::Model;
use rekindle_nn::{Pass, TuneAutodiff, ops, params};
use rekindle_peft::{LoraConfig, TargetModules};
use rekindle_tests::{Need, need};
use rekindle_train::{Gradients, Optimizer, OptimizerConfig, TrainConfig};

use crate::support::{
    Texts, Tuning, golden, gradient, json, loss_sum, norm, packed, relative, run, set,
    tiny_classifier, train_config, trainable, values,
};
use crate::{decoders, families, vision};

/// Relative (see `support::relative`): shaders sum in another order and have their own `exp`, `tanh` and `erf`.
const ACROSS_BACKENDS: f32 = 1e-3;
/// Root mean square of a gradient that is 0 but for rounding, as of the biases of keys, which the softmax cancels.
const NO_GRADIENT: f32 = 1e-6;

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

pub use backend::Gpu;

/// A loss, and gradients by name.
type Step = (f32, BTreeMap<String, Vec<f32>>);

/// Whether these tests are asked for: then one at a time, since some count what is launched.
pub fn turn() -> Option<MutexGuard<'static, ()>> {
    static TURN: Mutex<()> = Mutex::new(());
    need(backend::NEED, rekindle_tests::asked_for(backend::ASKED_FOR))?;
    // Before a device is first used.
    crate::gpu_cost::log();
    Some(TURN.lock().unwrap_or_else(PoisonError::into_inner))
}

/// The losses and gradients of two steps with AdamW, dropout on where the model has any: the masks are a function of the step on
/// every backend.
fn two_steps<B: TuneAutodiff>(
    model: Model<B>,
    loss: impl Fn(&Model<B>, Pass) -> Tensor<B, 1>,
) -> Vec<Step> {
    let mut optimizer = Optimizer::<B>::new(OptimizerConfig::default());
    let mut model = model;
    let (names, trained) = (model.names(), trainable(&model));
    (0..2)
        .map(|step| {
            let loss = loss(&model, Pass::training(1, step));
            let mut grads = Gradients::<B>::default();
            grads.backward(&loss, &model, names);
            let by_name = (trained.iter())
                .filter_map(|name| gradient(&grads, name).map(|values| (name.clone(), values)))
                .collect();
            model = optimizer.step(model.clone(), grads, 1e-3, 0.5, &|_| 1.0, names);
            (values(loss)[0], by_name)
        })
        .collect()
}

/// How much of a model trains.
#[derive(Clone, Copy, Debug)]
enum Method {
    Full,
    /// Fresh adapters on every linear layer.
    Lora,
}

fn prepared<B: TuneAutodiff>(model: Model<B>, method: Method) -> Model<B> {
    match method {
        Method::Full => params::set_trainable(model, &mut |_| true),
        Method::Lora => {
            let config = LoraConfig {
                target_modules: TargetModules::AllLinear,
                ..LoraConfig::default()
            };
            let names = model.names();
            rekindle_peft::inject(model, &config, names, 1, &B::Device::default())
                .unwrap()
                .0
        }
    }
}

/// Two steps of a tiny encoder of a fixture.
fn encoder_steps<B: TuneAutodiff>(folder: &str, method: Method) -> Vec<Step> {
    let device = B::Device::default();
    let texts = set(&json(&format!("{folder}/expected.json"))["cases"]);
    let model = match folder {
        "tiny_bert" => tiny_classifier::<B>(&device),
        _ => families::whole(&golden(folder).join("model"), &device),
    };
    let (input, labels) = (packed(&texts, &device), families::class_ids(&texts));
    two_steps(prepared(model.with_dropout(0.1), method), |model, pass| {
        loss_sum(model, &input, &labels, pass) / labels.len() as f64
    })
}

/// Two steps of the tiny BERT with an adapter that does something.
fn adapter_steps<B: TuneAutodiff>() -> Vec<Step> {
    let device = B::Device::default();
    let texts = set(&json("tiny_bert/expected.json")["cases"]);
    let base = tiny_classifier::<B>(&device).with_dropout(0.1);
    let (adapter, all) = (golden("tiny_bert/adapter"), base.names());
    let (model, _): (_, LoraConfig) =
        rekindle_peft::load(base, &adapter, &["classifier"], all, &device).unwrap();
    let (input, labels) = (packed(&texts, &device), families::class_ids(&texts));
    two_steps(model, |model, pass| {
        loss_sum(model, &input, &labels, pass) / labels.len() as f64
    })
}

/// Two steps of a tiny decoder.
fn decoder_steps<B: TuneAutodiff>(family: &str, method: Method) -> Vec<Step> {
    let device = B::Device::default();
    let (_, texts, first) = decoders::fixture();
    let model = decoders::model::<B>(family, &device).with_dropout(0.1);
    let input = decoders::packed::<B>(&texts, first, &device);
    two_steps(prepared(model, method), |model, pass| {
        decoders::loss(model, &input, pass)
    })
}

/// Losses and gradient norms of a run of the tiny BERT in full, clipped; of batches in so many shards, whose gradients are then added
/// on the host.
fn run_in_shards<B: TuneAutodiff>(shards: Option<usize>) -> Vec<(f64, f64)> {
    let texts = set(&json("tiny_bert/expected.json")["cases"]);
    let model = tiny_classifier::<B>(&B::Device::default()).with_dropout(0.0);
    let config = TrainConfig {
        epochs: 2.0,
        shards,
        max_grad_norm: 0.5,
        ..train_config(1e-3)
    };
    let job = Texts::in_order(texts, 4);
    let (_, steps) = run(&job, prepared(model, Method::Full), &config);
    let figures = steps.iter().map(|step| (step.loss, step.grad_norm));
    figures.collect()
}

/// Loss and gradients of a step of an image model with ten classes, on a batch of two.
fn picture_step<B: TuneAutodiff>(name: &str, side: usize, pass: Pass) -> Step {
    let model = vision::model::<B>(name, 10);
    let logits = model.forward(vision::input(2, side, side).into(), pass);
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

fn assert_same(what: &str, found: &[Step], expected: &[Step]) {
    assert_eq!(found.len(), expected.len());
    let (mut apart_loss, mut largest) = (0f32, 0f32);
    for ((loss, grads), (expected_loss, expected)) in found.iter().zip(expected) {
        let apart = (loss / expected_loss - 1.0).abs();
        assert!(
            apart <= ACROSS_BACKENDS,
            "{what}: loss {loss}, on the CPU {expected_loss}"
        );
        apart_loss = apart_loss.max(apart);
        assert!(!expected.is_empty() && grads.len() == expected.len());
        for (name, expected) in expected {
            let rms = norm(expected) / (expected.len() as f32).sqrt();
            let apart = relative(&grads[name], expected, rms.max(NO_GRADIENT));
            // What is rounding alone has no digit in common.
            let tolerance = if rms < NO_GRADIENT {
                1.0
            } else {
                ACROSS_BACKENDS
            };
            assert!(
                apart <= tolerance,
                "{what}: the gradient of `{name}` differs by {apart:e} of itself"
            );
            if rms >= NO_GRADIENT {
                largest = largest.max(apart);
            }
        }
    }
    println!(
        "{what}: losses within {apart_loss:.1e} of themselves, {} gradients within {largest:.1e}",
        expected[0].1.len()
    );
}

#[test]
#[ignore = "needs a GPU or a software Vulkan driver: cargo xtask test --backend wgpu"]
fn gpu_matches_cpu_on_encoders() {
    let Some(_turn) = turn() else { return };
    assert_same(
        "bert, an adapter",
        &adapter_steps::<Gpu>(),
        &adapter_steps::<Tuning>(),
    );
    for folder in families::FAMILIES
        .map(|(folder, _)| folder)
        .into_iter()
        .chain(["tiny_bert"])
    {
        for method in [Method::Full, Method::Lora] {
            let found = encoder_steps::<Gpu>(folder, method);
            let expected = encoder_steps::<Tuning>(folder, method);
            assert_same(&format!("{folder}, {method:?}"), &found, &expected);
        }
    }
}

#[test]
#[ignore = "needs a GPU or a software Vulkan driver: cargo xtask test --backend wgpu"]
fn gpu_matches_cpu_on_decoders() {
    let Some(_turn) = turn() else { return };
    for family in decoders::families() {
        for method in [Method::Full, Method::Lora] {
            let found = decoder_steps::<Gpu>(&family, method);
            let expected = decoder_steps::<Tuning>(&family, method);
            assert_same(&format!("{family}, {method:?}"), &found, &expected);
        }
    }
}

/// What several processes do, done by one: gradients by shard, AdamW on a slice of all parameters, on the GPU as on the CPU and as
/// without shards.
#[test]
#[ignore = "needs a GPU or a software Vulkan driver: cargo xtask test --backend wgpu"]
fn gpu_matches_cpu_in_shards() {
    let Some(_turn) = turn() else { return };
    let expected = run_in_shards::<Tuning>(Some(2));
    assert!(expected.len() > 2);
    for (what, found) in [
        ("in shards", run_in_shards::<Gpu>(Some(2))),
        ("without shards", run_in_shards::<Gpu>(None)),
    ] {
        assert_eq!(found.len(), expected.len());
        for ((loss, norm), (expected_loss, expected_norm)) in found.iter().zip(&expected) {
            for (found, expected) in [(loss, expected_loss), (norm, expected_norm)] {
                let apart = (found / expected - 1.0).abs();
                assert!(
                    apart <= f64::from(ACROSS_BACKENDS),
                    "{what}: {found}, on the CPU in shards {expected}"
                );
            }
        }
    }
}

/// EfficientNet in evaluation: where ReLU6 bends, the rounding of a batch's statistics decides which side a value is on.
#[test]
#[ignore = "needs a GPU or a software Vulkan driver: cargo xtask test --backend wgpu"]
fn gpu_matches_cpu_on_pictures() {
    let Some(_turn) = turn() else { return };
    for (name, side, pass) in [
        ("cifar_resnet8", 32, Pass::training(1, 0)),
        ("resnet18", 33, Pass::evaluation()),
        ("resnet50", 33, Pass::evaluation()),
        ("tf_efficientnet_lite0", 33, Pass::evaluation()),
    ] {
        let found = picture_step::<Gpu>(name, side, pass);
        let expected = picture_step::<Tuning>(name, side, pass);
        assert_same(name, &[found], &[expected]);
    }
}
