//! A worker of `cargo xtask bench`: sets up one job, prints `ready`, and for every line on standard input does it once and
//! prints the seconds it took; at the end of the input, its peak memory in bytes. `pytorch.py` beside this crate speaks the
//! same protocol, so that the two can be timed in turn.
//!
//!     rekindle-bench JOB [DEVICE [MODEL]]
//!
//! JOB is `minilm-{forward,full,lora}[-real|-small][-bf16]`, `smollm2-{full,lora}[-bf16]`, `smollm2-generate`,
//! each training step also with `-losses` (which prints the losses of ten, with dropout),
//! `resnet18-{forward,step}`, `lite0-{forward,step}`, `vits-{forward,step}` or `products` (which prints times of matrix products). DEVICE is cpu (the
//! default), wgpu or cuda, where they are compiled in. MODEL is a directory that takes MiniLM's or SmolLM2's place.

/// The program's own allocator, so that what is timed is what runs.
#[path = "../../crates/cli/src/memory.rs"]
mod memory;

use anyhow::{Context, Result, bail};
use burn::{
    backend::{Autodiff, Flex},
    module::{AutodiffModule, Module},
    tensor::{
        Int, Tensor, TensorData, TensorPrimitive,
        backend::{AutodiffBackend, Backend},
        ops::FloatTensor,
    },
};
use rekindle_base::rng;
use rekindle_hub::{Hub, NoProgress};
use rekindle_models::{
    HeadSpec, KvCache, Model, ModelConfig, NextTokens, Pretrained, Problem, Reads, TextInput,
    image::{Architecture, LastNorm, LiteConfig, Pictures, ResNetConfig, VitConfig},
};
use rekindle_nn::{
    Pass, Sequences, TuneAutodiff, TuneBackend,
    ops::{self, CrossEntropy, Precision},
    params::{NameMap, set_trainable},
};
use rekindle_peft::{LoraConfig, TargetModules};
use rekindle_train::{Gradients, Optimizer, OptimizerConfig};
use std::{
    io::{BufRead, Write},
    path::PathBuf,
    time::Instant,
};

/// The end of a job that prints the losses of its first steps, with dropout, for comparing devices.
const LOSSES: &str = "-losses";
const STEPS: usize = 10;

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
    if job.ends_with(LOSSES) {
        (0..STEPS).for_each(|_| round());
        return Ok(());
    }
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
        Some(("smollm2", what)) => language::<B>(what, model, device),
        None if job == "products" => products::<Inner<B>>(device),
        Some((net @ ("resnet18" | "lite0" | "vits"), what)) => pictures::<B>(net, what, device),
        _ => bail!("no such job: {job}"),
    }
}

fn peak_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    let kilobytes: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kilobytes * 1024)
}

/// The texts of a job.
#[derive(Clone, Copy)]
enum Texts {
    /// 32 of 128 tokens.
    Full,
    /// 32, many of them short and few long.
    Real,
    /// 4 of 32 tokens.
    Small,
}

impl Texts {
    fn lengths(self) -> Vec<usize> {
        match self {
            Self::Full => vec![128; 32],
            Self::Real => (0..32usize)
                .map(|i| 8 + 120 * i.pow(3) / 31usize.pow(3))
                .collect(),
            Self::Small => vec![32; 4],
        }
    }
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

/// What a job of a text model says behind its method.
struct Suffixes<'a> {
    what: &'a str,
    precision: Precision,
    /// With dropout, and each step's loss printed.
    losses: bool,
}

impl<'a> Suffixes<'a> {
    fn of(what: &'a str) -> Self {
        let (what, losses) = match what.strip_suffix(LOSSES) {
            Some(what) => (what, true),
            None => (what, false),
        };
        let rounded = [("-bf16", Precision::Bf16), ("-tf32", Precision::Tf32)];
        let (what, precision) = rounded
            .into_iter()
            .find_map(|(suffix, precision)| Some((what.strip_suffix(suffix)?, precision)))
            .unwrap_or((what, Precision::F32));
        Self {
            what,
            precision,
            losses,
        }
    }

    /// The rate of dropout everywhere.
    fn dropout(&self) -> f64 {
        if self.losses { 0.1 } else { 0.0 }
    }
}

/// MiniLM, or the model of another directory, with two classes, without dropout.
fn minilm<B: TuneAutodiff>(what: &str, model: Option<PathBuf>, device: B::Device) -> Result<Round> {
    let suffixes = Suffixes::of(what);
    let Suffixes {
        what, precision, ..
    } = suffixes;
    let kinds = [("-real", Texts::Real), ("-small", Texts::Small)];
    let (what, texts) = (kinds.into_iter())
        .find_map(|(suffix, texts)| Some((what.strip_suffix(suffix)?, texts)))
        .unwrap_or((what, Texts::Full));
    let dir = match model {
        Some(dir) => dir,
        None => Hub::from_env().model("minilm", &NoProgress)?.dir,
    };
    let pretrained = Pretrained::open(&dir)?;
    let (model, _) = Model::<B>::from_pretrained(&pretrained, &head(2), &device)?;
    let names = model.names();
    let model = model.with_dropout(suffixes.dropout());
    let lengths = texts.lengths();
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
    let (input, classes) = (
        text::<B>(&lengths, &device),
        classes(lengths.len() as i32, 2, &device),
    );
    Ok(steps(model, names, suffixes.losses, move |model, pass| {
        let logits = model.forward(input.clone().into(), pass.with_precision(precision));
        mean_loss(logits, &classes)
    }))
}

/// Texts of a step of a language model, and tokens of each.
const CHATS: usize = 4;
const CHAT: usize = 256;
/// Tokens of a prompt, and of its answer.
const PROMPT: usize = 128;
const ANSWER: usize = 64;

/// SmolLM2, or the model of another directory: steps in which every token but the first counts, or answers of 64 tokens to a
/// prompt of 128, the likeliest token each time.
fn language<B: TuneAutodiff>(
    what: &str,
    model: Option<PathBuf>,
    device: B::Device,
) -> Result<Round> {
    let suffixes = Suffixes::of(what);
    let Suffixes {
        what, precision, ..
    } = suffixes;
    let dir = match model {
        Some(dir) => dir,
        None => Hub::from_env().model("smollm2", &NoProgress)?.dir,
    };
    let head = HeadSpec {
        problem: Problem::NextToken,
        reads: None,
        ..head(0)
    };
    let pretrained = Pretrained::open(&dir)?;
    let (model, _) = Model::<B>::from_pretrained(&pretrained, &head, &device)?;
    let (names, words) = (
        model.names(),
        model.output_weight().map_or(0, |weight| weight.dims()[0]),
    );
    let word = move |i: u64| (rng::uniform(2, i) * words as f64) as i32;
    if what == "generate" {
        let model = model.valid();
        return Ok(Box::new(move || answer(&model, word, &device)));
    }
    let model = model.with_dropout(suffixes.dropout());
    let model = match what {
        "full" => set_trainable(model, &mut |_| true),
        "lora" => {
            let slots = [
                "q_proj",
                "k_proj",
                "v_proj",
                "o_proj",
                "gate_proj",
                "up_proj",
                "down_proj",
            ];
            let config = LoraConfig {
                target_modules: TargetModules::Suffixes(slots.map(String::from).to_vec()),
                ..LoraConfig::default()
            };
            rekindle_peft::inject(model, &config, names, 1, &device)?.0
        }
        _ => bail!("no such job: smollm2-{what}"),
    };
    let sequences = Sequences::from_lengths(&[CHAT; CHATS]);
    let ids: Vec<i32> = (0..sequences.tokens() as u64).map(word).collect();
    let rows: Vec<i32> = (sequences.ranges())
        .flat_map(|range| range.start as i32..range.end as i32 - 1)
        .collect();
    let targets: Vec<i32> = rows.iter().map(|&row| ids[row as usize + 1]).collect();
    let counted = Sequences::from_lengths(&[CHAT - 1; CHATS]);
    let next = NextTokens::new(&rows, &targets, counted, &device);
    let types = vec![0; ids.len()];
    let input = TextInput::<B>::new(ids, types, sequences, &device).with_next(next);
    Ok(steps(model, names, suffixes.losses, move |model, pass| {
        let losses = model.forward(input.clone().into(), pass.with_precision(precision));
        losses.sum() / rows.len() as f32
    }))
}

/// One answer; each token is read before the next is computed, as sampling needs it.
fn answer<B: TuneBackend>(model: &Model<B>, word: impl Fn(u64) -> i32, device: &B::Device) {
    let Some(decoder) = model.backbone().decoder() else {
        return;
    };
    let mut cache = KvCache::<B>::new(1);
    let mut new: Vec<i32> = (0..PROMPT as u64).map(word).collect();
    for _ in 0..ANSWER {
        let count = new.len();
        let sequences = Sequences::from_lengths(&[count]);
        let input = TextInput::<B>::new(new, vec![0; count], sequences, device);
        let states = decoder.extend(&input, &mut cache);
        let logits = model.vocabulary_logits(states.narrow(0, count - 1, 1));
        let logits: Vec<f32> = logits.into_data().iter::<f32>().collect();
        let best = (0..logits.len()).max_by(|&a, &b| logits[a].total_cmp(&logits[b]));
        new = vec![best.unwrap_or(0) as i32];
    }
}

/// Times of the linear layers' products of MiniLM, BERT-base and SmolLM2, a line of JSON each: milliseconds, forward, for x
/// and for the weight.
fn products<B: TuneBackend>(device: B::Device) -> Result<Round> {
    const REPEATS: usize = 20;
    let tensor = |key: u64, size: [usize; 2]| {
        let count = (size[0] * size[1]) as u64;
        let values: Vec<f32> = (0..count)
            .map(|i| rng::uniform(key, i) as f32 - 0.5)
            .collect();
        let tensor: Tensor<B, 2> = Tensor::from_data(TensorData::new(values, size), &device);
        tensor.into_primitive().tensor()
    };
    let read = |x: FloatTensor<B>| {
        read(Tensor::<B, 2>::from_primitive(TensorPrimitive::Float(x)).narrow(0, 0, 1))
    };
    let mut precisions = vec![Precision::F32, Precision::Tf32, Precision::Bf16];
    precisions.retain(|&precision| B::tune_is_fast(precision, &device));
    for [t, i, o] in [
        [4096, 384, 384],
        [4096, 384, 1536],
        [4096, 1536, 384],
        [4096, 384, 8],
        [4096, 768, 768],
        [4096, 768, 3072],
        [4096, 3072, 768],
        [1024, 576, 576],
        [1024, 576, 192],
        [1024, 576, 1536],
        [1024, 1536, 576],
        [1020, 576, 49152],
        [1, 576, 1536],
        [1, 576, 49152],
    ] {
        let (x, w, g) = (tensor(1, [t, i]), tensor(2, [o, i]), tensor(3, [t, o]));
        for &precision in &precisions {
            let times = [0, 1, 2].map(|which| {
                let call = || match which {
                    0 => B::tune_linear(x.clone(), w.clone(), None, precision),
                    1 => B::tune_linear_backward_x(g.clone(), w.clone(), precision),
                    _ => B::tune_linear_backward_weight(g.clone(), x.clone(), precision),
                };
                read(call());
                let start = Instant::now();
                let results: Vec<_> = (0..REPEATS).map(|_| call()).collect();
                results.into_iter().next_back().map(&read);
                start.elapsed().as_secs_f64() * 1e3 / REPEATS as f64
            });
            println!(
                "{{\"product\": [{t}, {i}, {o}], \"precision\": \"{precision:?}\", \"ms\": {times:?}}}"
            );
        }
    }
    Ok(Box::new(|| {}))
}

/// An image model with ten classes, on 16 pictures of 224 x 224.
fn pictures<B: TuneAutodiff>(net: &str, what: &str, device: B::Device) -> Result<Round> {
    let architecture = match net {
        "lite0" => Architecture::EfficientNetLite(LiteConfig(0)),
        "vits" => Architecture::Vit(VitConfig {
            name: "vit_small_patch16_224".into(),
            patch: 16,
            grid: 14,
            width: 384,
            depth: 12,
            heads: 6,
            mlp: 1536,
            joined: true,
            qkv_bias: true,
            class_token: true,
            registers: 0,
            prefix_positions: true,
            norm_before: false,
            layer_scale: false,
            reads_mean: false,
            norm: LastNorm::Tokens,
            epsilon: 1e-6,
        }),
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
            let (model, classes) = (
                set_trainable(model, &mut |_| true),
                classes(16, 10, &device),
            );
            Ok(steps(model, names, false, move |model, pass| {
                mean_loss(model.forward(x.clone().into(), pass), &classes)
            }))
        }
        _ => bail!("no such job: {net}-{what}"),
    }
}

fn classes<B: Backend>(count: i32, of: i32, device: &B::Device) -> Tensor<B, 1, Int> {
    let classes: Vec<i32> = (0..count).map(|i| i % of).collect();
    Tensor::from_data(classes.as_slice(), device)
}

fn mean_loss<B: TuneAutodiff>(logits: Tensor<B, 2>, classes: &Tensor<B, 1, Int>) -> Tensor<B, 1> {
    ops::cross_entropy(logits, classes.clone(), &CrossEntropy::default()).mean()
}

/// Whole training steps, as the loop does them; where they are `told`, each prints its loss.
fn steps<B: TuneAutodiff, M: Module<B> + 'static>(
    model: M,
    names: NameMap,
    told: bool,
    loss: impl Fn(&M, Pass) -> Tensor<B, 1> + 'static,
) -> Round {
    let mut optimizer = Optimizer::<B>::new(OptimizerConfig::default());
    let (mut model, mut step) = (Some(model), 0);
    Box::new(move || {
        let Some(before) = model.take() else { return };
        let loss = loss(&before, Pass::training(1, step));
        let mut grads = Gradients::<B>::default();
        grads.backward(&loss, &before, names);
        let loss = read(loss);
        if told {
            println!("{loss}");
        }
        let clip = (1.0 / grads.norm().expect("the device gives its values back")).min(1.0);
        model = Some(optimizer.step(before, grads, 5e-5, clip, &|_| 1.0, names));
        step += 1;
    })
}

/// Waits for the values, looks that they are numbers, and gives their sum.
fn read<B: Backend, const D: usize>(tensor: Tensor<B, D>) -> f32 {
    let sum: f32 = tensor.into_data().iter::<f32>().sum();
    assert!(sum.is_finite(), "the job computes no numbers");
    sum
}
