//! A worker of `cargo xtask bench`: sets up one job, prints `ready`, and for every line on standard input does it once and
//! prints the seconds it took; at the end of the input, its peak memory in bytes. `pytorch.py` beside this crate speaks the
//! same protocol, so that the two can be timed in turn.
//!
//!     rekindle-bench JOB [DEVICE [MODEL]]
//!
//! JOB is `minilm-{forward,full,lora}[-real][-bf16]`, `resnet18-{forward,step}` or `lite0-{forward,step}`. DEVICE is cpu (the
//! default), wgpu or cuda, where they are compiled in. MODEL is a directory that takes MiniLM's place.

/// The program's own allocator, so that what is timed is what runs.
#[allow(dead_code)]
#[path = "../../crates/cli/src/memory.rs"]
mod memory;

use anyhow::{Context, Result, bail};
use burn::{
    backend::{Autodiff, Flex},
    module::{AutodiffModule, Module},
    tensor::{
        Int, Tensor, TensorData,
        backend::{AutodiffBackend, Backend},
    },
};
use rekindle_base::rng;
use rekindle_hub::{Hub, NoProgress};
use rekindle_models::{
    HeadSpec, Model, ModelConfig, Pretrained, Problem, Reads, TextInput,
    image::{Architecture, LiteConfig, Pictures, ResNetConfig},
};
use rekindle_nn::{
    Pass, Sequences, TuneAutodiff,
    ops::{self, CrossEntropy, Precision},
    params::{NameMap, set_trainable},
};
use rekindle_peft::LoraConfig;
use rekindle_train::{Gradients, Optimizer, OptimizerConfig};
use std::{
    io::{BufRead, Write},
    path::PathBuf,
    time::Instant,
};

type Inner<B> = <B as AutodiffBackend>::InnerBackend;

/// One round of a job, forever.
type Round = Box<dyn FnMut()>;

fn main() -> Result<()> {
    memory::keep_pages();
    let mut args = std::env::args().skip(1);
    let job = args.next().context("expected the name of a job")?;
    let device = args.next().unwrap_or_else(|| "cpu".into());
    let model = args.next().map(PathBuf::from);
    let mut round = match device.as_str() {
        "cpu" => job_on::<Autodiff<Flex>>(&job, model)?,
        #[cfg(feature = "wgpu")]
        "wgpu" => job_on::<Autodiff<burn::backend::Wgpu<f32, i32, u32>>>(&job, model)?,
        #[cfg(feature = "cuda")]
        "cuda" => job_on::<Autodiff<burn::backend::Cuda<f32, i32>>>(&job, model)?,
        other => bail!("{other} is not compiled in"),
    };
    // The first round allocates, the second is warm.
    round();
    round();
    println!("ready");
    for line in std::io::stdin().lock().lines() {
        line?;
        let start = Instant::now();
        round();
        println!("{}", start.elapsed().as_secs_f64());
        std::io::stdout().flush()?;
    }
    println!("{}", peak_bytes().unwrap_or(0));
    Ok(())
}

/// A job on the first device of a backend.
fn job_on<B: TuneAutodiff>(job: &str, model: Option<PathBuf>) -> Result<Round>
where
    B::Device: Default,
{
    let device = B::Device::default();
    match job.split_once('-') {
        Some(("minilm", what)) => minilm::<B>(what, model, device),
        Some((net @ ("resnet18" | "lite0"), what)) => pictures::<B>(net, what, device),
        _ => bail!("no such job: {job}"),
    }
}

fn peak_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    let kilobytes: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kilobytes * 1024)
}

/// Lengths of a batch of 32: all of 128 tokens, or many short ones and few long.
fn lengths(real: bool) -> Vec<usize> {
    (0..32)
        .map(|i: usize| match real {
            false => 128,
            true => 8 + 120 * i.pow(3) / 31usize.pow(3),
        })
        .collect()
}

fn text<B: Backend>(lengths: &[usize], device: &B::Device) -> TextInput<B> {
    let tokens: usize = lengths.iter().sum();
    let ids = (0..tokens as u64)
        .map(|i| 1000 + (rng::uniform(2, i) * 28_000.0) as i32)
        .collect();
    let sequences = Sequences::from_lengths(lengths);
    TextInput::new(ids, vec![0; tokens], sequences, device)
}

/// A new head of so many classes.
fn head(outputs: usize) -> HeadSpec {
    HeadSpec {
        outputs,
        labels: (0..outputs).map(|i| i.to_string()).collect(),
        problem: Problem::SingleLabel,
        reads: Some(Reads::First),
        seed: 1,
        require: false,
    }
}

/// MiniLM, or the model of another directory, with two classes, without dropout.
fn minilm<B: TuneAutodiff>(what: &str, model: Option<PathBuf>, device: B::Device) -> Result<Round> {
    let (what, precision) = match what.strip_suffix("-bf16") {
        Some(what) => (what, Precision::Bf16),
        None => (what, Precision::F32),
    };
    let (what, real) = match what.strip_suffix("-real") {
        Some(what) => (what, true),
        None => (what, false),
    };
    let dir = match model {
        Some(dir) => dir,
        None => Hub::from_env().model("minilm", &NoProgress)?.dir,
    };
    let pretrained = Pretrained::open(&dir)?;
    let (model, _) = Model::<B>::from_pretrained(&pretrained, &head(2), &device)?;
    let names = model.names();
    let model = model.with_dropout(0.0);
    let lengths = lengths(real);
    if what == "forward" {
        let (model, input) = (model.valid(), text::<Inner<B>>(&lengths, &device));
        return Ok(Box::new(move || {
            let pass = Pass::evaluation().with_precision(precision);
            read(model.forward(input.clone().into(), pass));
        }));
    }
    let model = match what {
        "full" => set_trainable(model, &mut |_| true),
        "lora" => {
            let config = LoraConfig {
                modules_to_save: vec!["classifier".into()],
                ..LoraConfig::default()
            };
            rekindle_peft::inject(model, &config, names, 1, &device)?.0
        }
        _ => bail!("no such job: minilm-{what}"),
    };
    let input = text::<B>(&lengths, &device);
    Ok(steps(
        model,
        names,
        classes(32, 2, &device),
        move |model, pass| model.forward(input.clone().into(), pass.with_precision(precision)),
    ))
}

/// An image model with ten classes, on 16 pictures of 224 x 224.
fn pictures<B: TuneAutodiff>(net: &str, what: &str, device: B::Device) -> Result<Round> {
    let architecture = match net {
        "lite0" => Architecture::EfficientNetLite(LiteConfig(0)),
        _ => Architecture::ResNet(ResNetConfig {
            stem: 64,
            stem_window: (7, 2, true),
            depths: vec![2; 4],
            widths: vec![64, 128, 256, 512],
            inner: Vec::new(),
            plain_shortcuts: false,
        }),
    };
    let pictures = Pictures {
        size: 224,
        crop: 0.875,
        interpolation: "bilinear".into(),
        mean: [0.5; 3],
        std: [0.5; 3],
    };
    let config = ModelConfig::of_pictures(architecture, pictures);
    let model = Model::<B>::random(&config, &head(10), &device);
    let names = model.names();
    let values: Vec<f32> = (0..16 * 224 * 224 * 3)
        .map(|i| (2.0 * rng::uniform(3, i) - 1.0) as f32)
        .collect();
    let pixels = TensorData::new(values, [16, 224, 224, 3]);
    match what {
        "forward" => {
            let (model, x) = (
                model.valid(),
                Tensor::<Inner<B>, 4>::from_data(pixels, &device),
            );
            Ok(Box::new(move || {
                read(model.forward(x.clone().into(), Pass::evaluation()));
            }))
        }
        "step" => {
            let x = Tensor::<B, 4>::from_data(pixels, &device);
            let model = set_trainable(model, &mut |_| true);
            Ok(steps(
                model,
                names,
                classes(16, 10, &device),
                move |model, pass| model.forward(x.clone().into(), pass),
            ))
        }
        _ => bail!("no such job: {net}-{what}"),
    }
}

fn classes<B: Backend>(count: i32, of: i32, device: &B::Device) -> Tensor<B, 1, Int> {
    let classes: Vec<i32> = (0..count).map(|i| i % of).collect();
    Tensor::from_data(classes.as_slice(), device)
}

/// Whole training steps, as the loop does them.
fn steps<B: TuneAutodiff, M: Module<B> + 'static>(
    model: M,
    names: NameMap,
    classes: Tensor<B, 1, Int>,
    forward: impl Fn(&M, Pass) -> Tensor<B, 2> + 'static,
) -> Round {
    let mut optimizer = Optimizer::<B>::new(OptimizerConfig::default());
    let (mut model, mut step) = (Some(model), 0);
    Box::new(move || {
        let Some(before) = model.take() else { return };
        let logits = forward(&before, Pass::training(1, step));
        let loss: Tensor<B, 1> =
            ops::cross_entropy(logits, classes.clone(), &CrossEntropy::default()).mean();
        let mut grads = Gradients::<B>::default();
        grads.backward(&loss, &before, names);
        read(loss);
        let clip = (1.0 / grads.norm().expect("the device gives its values back")).min(1.0);
        model = Some(optimizer.step(before, grads, 5e-5, clip, &|_| 1.0, names));
        step += 1;
    })
}

/// Waits for the values, and looks that they are numbers.
fn read<B: Backend, const D: usize>(tensor: Tensor<B, D>) {
    let sum: f32 = tensor.into_data().iter::<f32>().sum();
    assert!(sum.is_finite(), "the job computes no numbers");
}
