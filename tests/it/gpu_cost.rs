//! What a training step costs a GPU beside the same step by the default bodies: kernels launched, tensors read back, time. On
//! request only, as `gpu.rs`.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use burn::tensor::backend::{AutodiffBackend, Backend};
use rekindle_base::{HostTensor, rng};
use rekindle_data::{Encoded, EncodedSet};
use rekindle_models::{Model, Pretrained, Reads};
use rekindle_nn::{host, ops, params};
use rekindle_peft::LoraConfig;
use rekindle_train::{Job, Optimizer, OptimizerConfig, Shards, TrainConfig};
use rekindle_weights::{ToWrite, WeightFiles, write};
use serde_json::{Value, json};

use crate::gpu::{Gpu, turn};
use crate::support::{Texts, class_targets, golden, head, labels, train_config};
use crate::{decoders, vision};

type Inner = <Gpu as AutodiffBackend>::InnerBackend;
type Device = <Gpu as burn::tensor::backend::BackendTypes>::Device;

/// Kernels of a LoRA step and of a full step of MiniLM's shape at most, where the device binds enough arrays at a time: as many as
/// there are now. Fewer is progress: lower the number.
const LORA_LAUNCHES: usize = 266;
const FULL_LAUNCHES: usize = 287;
/// Times as many by the default bodies at least.
const FEWER: usize = 4;
/// How often a step is timed, in turn with that of the default bodies, and how many times faster it must be: on software Vulkan 2.6
/// and 2.8 times were measured.
const ROUNDS: usize = 5;
const FASTER: f64 = 2.0;

/// Where the runtime writes the name of every kernel that it launches. It reads how to when a device is first used, from a file in
/// the current folder.
pub fn log() -> &'static Path {
    static LOG: OnceLock<PathBuf> = OnceLock::new();
    LOG.get_or_init(|| {
        let folder = tempfile::tempdir().unwrap().keep();
        let log = folder.join("launches");
        let config = format!(
            "[profiling]\nlogger = {{ level = \"minimal\", file = {:?}, append = true }}\n",
            log.display().to_string()
        );
        std::fs::write(folder.join("cubecl.toml"), config).unwrap();
        std::env::set_current_dir(&folder).unwrap();
        log
    })
}

/// The names of the kernels that `work` launches, with their numbers.
fn launches(device: &Device, work: impl FnOnce()) -> BTreeMap<String, usize> {
    // The names are written by a thread of their own, after the device has done the work.
    let settled = || {
        Inner::sync(device).unwrap();
        let len = || std::fs::metadata(log()).map_or(0, |file| file.len());
        let mut before = None;
        while before != Some(len()) {
            before = Some(len());
            std::thread::sleep(Duration::from_millis(200));
        }
        len() as usize
    };
    let start = settled();
    work();
    settled();
    let text = std::fs::read_to_string(log()).unwrap();
    let mut counts = BTreeMap::new();
    for line in text[start..].lines() {
        let name = line.strip_prefix("Executing ").unwrap();
        *counts.entry(name.to_owned()).or_default() += 1;
    }
    counts
}

/// All but the sums of products whose inner dimension is shared between cubes, which is for the device to decide.
fn without_shares(counts: &BTreeMap<String, usize>) -> usize {
    let shares = |name: &str| name.starts_with("ColumnKernel") || name.starts_with("BiasKernel");
    let rest = counts.iter().filter(|(name, _)| !shares(name));
    rest.map(|(_, count)| count).sum()
}

fn total(counts: &BTreeMap<String, usize>) -> usize {
    counts.values().sum()
}

fn show(what: &str, counts: &BTreeMap<String, usize>) {
    println!("{what}: {} launches", total(counts));
    let mut sorted: Vec<_> = counts.iter().collect();
    sorted.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
    for (name, count) in sorted {
        println!("    {count:>5}  {name}");
    }
}

/// A checkpoint of MiniLM's shape, with few words: the tiny BERT's tensors, as wide and as often.
fn minilm_shape() -> Pretrained {
    const WORDS: usize = 1000;
    let folder = tempfile::tempdir().unwrap().keep();
    let tiny = WeightFiles::find(&golden("tiny_bert/model")).unwrap();
    let mut config: Value = crate::support::json("tiny_bert/model/config.json");
    for (key, value) in [
        ("vocab_size", json!(WORDS)),
        ("hidden_size", json!(384)),
        ("intermediate_size", json!(1536)),
        ("num_attention_heads", json!(12)),
        ("num_hidden_layers", json!(6)),
    ] {
        config[key] = value;
    }
    std::fs::write(folder.join("config.json"), config.to_string()).unwrap();
    let mut tensors = Vec::new();
    for name in tiny.names() {
        let wide = |&size: &usize| match size {
            120 => WORDS,
            32 => 384,
            64 if name.contains("position") => 64,
            64 => 1536,
            other => other,
        };
        let shape: Vec<usize> = tiny.shape(name).unwrap().iter().map(wide).collect();
        // Layer 0 stands for all of them.
        let copies = match name.contains(".layer.") {
            true if name.contains(".layer.0.") => 6,
            true => 0,
            false => 1,
        };
        for layer in 0..copies {
            let name = name.replace(".layer.0.", &format!(".layer.{layer}."));
            let key = rng::named(1, &name);
            let count = shape.iter().product::<usize>() as u64;
            let norm = name.contains("LayerNorm.weight");
            let values = (0..count)
                .map(|i| match norm {
                    true => 1.0,
                    false => (0.1 * (rng::uniform(key, i) - 0.5)) as f32,
                })
                .collect();
            let shape = shape.clone();
            tensors.push((name, HostTensor { shape, values }));
        }
    }
    let tensors = tensors
        .iter()
        .map(|(name, tensor)| (name, ToWrite::from(tensor)));
    write(&folder.join("model.safetensors"), tensors, &[]).unwrap();
    Pretrained::open(&folder).unwrap()
}

/// MiniLM's shape with two classes, on the GPU.
fn minilm(lora: bool, device: &Device) -> Model<Gpu> {
    let head = head(labels(2), Some(Reads::First), false);
    let (model, _) = Model::from_pretrained(&minilm_shape(), &head, device).unwrap();
    let model = model.with_dropout(0.0);
    let names = model.names();
    match lora {
        true => {
            let config = LoraConfig {
                modules_to_save: vec!["classifier".into()],
                ..LoraConfig::default()
            };
            rekindle_peft::inject(model, &config, names, 1, device)
                .unwrap()
                .0
        }
        false => params::set_trainable(model, &mut |_| true),
    }
}

/// Four texts of 32 tokens.
fn texts() -> EncodedSet {
    let text = |text: u64| Encoded {
        ids: (0..32).map(|i| (text * 32 + i) as u32 % 1000).collect(),
        type_ids: vec![0; 32],
        truncated: false,
    };
    EncodedSet {
        items: (0..4).map(text).collect(),
        targets: class_targets(vec![0, 1, 1, 0]),
    }
}

/// The loop's own step, again and again.
struct Steps {
    job: Texts<Gpu>,
    config: TrainConfig,
    optimizer: Optimizer<Gpu>,
    model: Option<Model<Gpu>>,
}

impl Steps {
    fn new(lora: bool, device: &Device) -> Self {
        let (model, job) = (minilm(lora, device), Texts::in_order(texts(), 4));
        job.names.set(model.names());
        Self {
            job,
            config: TrainConfig {
                max_grad_norm: 1.0,
                ..train_config(1e-3)
            },
            optimizer: Optimizer::new(OptimizerConfig::default()),
            model: Some(model),
        }
    }

    fn one(&mut self) -> f64 {
        let window: Vec<_> = (self.job.stream(0, 0, &Shards::whole()).unwrap())
            .map(Result::unwrap)
            .collect();
        let model = self.model.take().unwrap();
        let (optimizer, config) = (&mut self.optimizer, &self.config);
        let (model, stepped) =
            rekindle_train::step(&self.job, model, &window, config, optimizer, 1e-3, 0).unwrap();
        assert_eq!(stepped.fault(), None);
        self.model = Some(model);
        stepped.loss
    }
}

#[test]
#[ignore = "needs a GPU or a software Vulkan driver: cargo xtask test --backend wgpu"]
fn gpu_launches_a_quarter_of_the_default_bodies() {
    let Some(_turn) = turn() else { return };
    let device = Device::default();
    for (what, lora, most) in [
        ("MiniLM's shape, LoRA", true, LORA_LAUNCHES),
        ("MiniLM's shape, full", false, FULL_LAUNCHES),
    ] {
        let mut steps = Steps::new(lora, &device);
        let loss = steps.one();
        let reads = host::reads();
        let own = launches(&device, || assert!(steps.one().is_finite()));
        assert_eq!(
            host::reads() - reads,
            1,
            "{what}: one read, at the end of a step"
        );
        ops::use_gpu_kernels(false);
        let mut steps = Steps::new(lora, &device);
        let default_loss = steps.one();
        let default = launches(&device, || assert!(steps.one().is_finite()));
        ops::use_gpu_kernels(true);
        show(what, &own);
        show("    by default bodies", &default);
        assert!(
            (loss / default_loss - 1.0).abs() < 1e-4,
            "{loss}, {default_loss}"
        );
        let found = without_shares(&own);
        assert!(found <= most, "{what}: {found} launches, allowed {most}");
        assert!(
            FEWER * total(&own) <= total(&default),
            "{what}: {} launches, by default bodies {}",
            total(&own),
            total(&default)
        );
        // Burn's own products may take a wrong strategy, and round f32 to TF32 on CUDA: none is reached.
        assert_eq!(products_of_burn(&own), Vec::<String>::new(), "{what}");
        assert!(
            !products_of_burn(&default).is_empty(),
            "{what}: the names are those of today"
        );
    }
}

/// Kernels of products that are not ours.
fn products_of_burn(counts: &BTreeMap<String, usize>) -> Vec<String> {
    let theirs = |name: &&String| {
        let name = name.to_lowercase();
        ["matmul", "conv", "gemm", "gemv", "vecmat"]
            .iter()
            .any(|part| name.contains(part))
    };
    counts.keys().filter(theirs).cloned().collect()
}

/// Pictures and language models reach no product of Burn's either.
#[test]
#[ignore = "needs a GPU or a software Vulkan driver: cargo xtask test --backend wgpu"]
fn gpu_takes_its_own_products_in_every_family() {
    use rekindle_nn::Pass;
    let Some(_turn) = turn() else { return };
    let device = Device::default();
    for name in ["cifar_resnet8", "resnet50", "tf_efficientnet_lite0"] {
        let model = vision::model::<Gpu>(name, 10);
        let counts = launches(&device, || {
            let logits = model.forward(vision::input(1, 33, 33).into(), Pass::training(1, 0));
            drop(logits.sum().backward());
        });
        show(name, &counts);
        assert_eq!(products_of_burn(&counts), Vec::<String>::new(), "{name}");
    }
    let (_, texts, first) = decoders::fixture();
    for family in decoders::families() {
        let model = params::set_trainable(decoders::model::<Gpu>(&family, &device), &mut |_| true);
        let input = decoders::packed::<Gpu>(&texts, first, &device);
        let counts = launches(&device, || {
            let loss = decoders::loss(&model, &input, Pass::training(1, 0));
            drop(loss.backward());
        });
        assert_eq!(products_of_burn(&counts), Vec::<String>::new(), "{family}");
    }
}

#[test]
#[ignore = "needs a GPU or a software Vulkan driver: cargo xtask test --backend wgpu"]
fn gpu_steps_are_faster_than_by_default_bodies() {
    let Some(_turn) = turn() else { return };
    let device = Device::default();
    let mut slow = Vec::new();
    for (what, lora) in [("LoRA", true), ("full", false)] {
        let mut own = Steps::new(lora, &device);
        own.one();
        ops::use_gpu_kernels(false);
        let mut default = Steps::new(lora, &device);
        default.one();
        let mut times = [Vec::new(), Vec::new()];
        for _ in 0..ROUNDS {
            for (kernels, steps) in [(true, &mut own), (false, &mut default)] {
                ops::use_gpu_kernels(kernels);
                let start = Instant::now();
                steps.one();
                times[usize::from(!kernels)].push(start.elapsed().as_secs_f64());
            }
        }
        ops::use_gpu_kernels(true);
        let [own, default] = times.map(|mut times| {
            times.sort_by(f64::total_cmp);
            times[ROUNDS / 2]
        });
        println!("MiniLM's shape, {what}, 4 x 32: {own:.3} s, by default bodies {default:.3} s");
        if default < FASTER * own {
            slow.push(format!(
                "{what}: {own:.3} s, by default bodies {default:.3} s"
            ));
        }
    }
    assert_eq!(slow, Vec::<String>::new());
}
