//! Decoders of every family: logits, gradients and training steps, full and LoRA, as transformers and PEFT have them; several
//! texts in one row, and one read token by token, give what each gives alone.
#![allow(clippy::unwrap_used)]

use burn::module::AutodiffModule;
use burn::tensor::Tensor;
use burn::tensor::backend::Backend;
use rekindle_data::chat::ChatBatch;
use rekindle_models::{HeadSpec, KvCache, Model, NextTokens, Pretrained, Problem, TextInput};
use rekindle_nn::{Pass, Sequences, TuneAutodiff, params};
use rekindle_train::{Gradients, Optimizer, OptimizerConfig};
use rekindle_weights::WeightFiles;
use serde_json::Value;

use crate::support::{
    Cpu, Tuning, assert_close, golden, gradient, ids, json, norm, numbers, read, relative, state,
    trainable, values,
};

/// Absolute, on logits of magnitude 1 to 10 that the fixtures have in float64.
const FORWARD: f32 = 5e-5;
/// Relative (see `support::relative`); a wrong backward pass is wrong in the first digit.
const GRADIENT: f32 = 1e-3;
/// Absolute, on losses of 20 steps.
const LOSS: f64 = 1e-3;

/// The head of a language model, whose own weights must be there.
fn head() -> HeadSpec {
    HeadSpec {
        outputs: 0,
        labels: Vec::new(),
        problem: Problem::NextToken,
        reads: None,
        seed: 1,
        require: true,
    }
}

pub fn model<B: Backend>(family: &str, device: &B::Device) -> Model<B> {
    let dir = golden("tiny_decoders").join(family).join("model");
    let pretrained = Pretrained::open(&dir).unwrap();
    assert!(pretrained.config().is_decoder(), "{family}");
    let (model, report) = Model::from_pretrained(&pretrained, &head(), device).unwrap();
    assert!(report.initialised.is_empty(), "{family}: {report:?}");
    model
}

pub fn fixture() -> (Value, Vec<Vec<u32>>, usize) {
    let fixture = json("tiny_decoders/expected.json");
    let texts = fixture["texts"]
        .as_array()
        .unwrap()
        .iter()
        .map(ids)
        .collect();
    let first = fixture["first_counted"].as_u64().unwrap() as usize;
    (fixture, texts, first)
}

/// Texts in one row, with their next tokens from `first` on.
pub fn packed<B: Backend>(texts: &[Vec<u32>], first: usize, device: &B::Device) -> TextInput<B> {
    let sequences = Sequences::from_lengths(&texts.iter().map(Vec::len).collect::<Vec<_>>());
    let tokens: Vec<i32> = texts.iter().flatten().map(|&id| id as i32).collect();
    let (mut rows, mut targets, mut counts) = (Vec::new(), Vec::new(), Vec::new());
    for (text, range) in texts.iter().zip(sequences.ranges()) {
        for (i, &id) in text.iter().enumerate().skip(first) {
            rows.push((range.start + i - 1) as i32);
            targets.push(id as i32);
        }
        counts.push(text.len() - first);
    }
    let next = NextTokens::new(&rows, &targets, Sequences::from_lengths(&counts), device);
    TextInput::new(tokens, vec![0; sequences.tokens()], sequences, device).with_next(next)
}

pub fn families() -> Vec<String> {
    let (fixture, ..) = fixture();
    fixture["families"]
        .as_object()
        .unwrap()
        .keys()
        .cloned()
        .collect()
}

#[test]
fn logits_of_packed_texts() {
    let device = Default::default();
    let (_, texts, first) = fixture();
    for family in families() {
        let model = model::<Cpu>(&family, &device);
        let decoder = model.backbone().decoder().unwrap();
        let input = packed::<Cpu>(&texts, first, &device);
        let path = golden("tiny_decoders")
            .join(&family)
            .join("expected.safetensors");
        let expected = read(&WeightFiles::open(&path).unwrap(), "logits").values;
        let states = decoder.forward(&input, Pass::evaluation());
        let found = values(model.vocabulary_logits(states));
        let largest = assert_close(&family, &found, &expected, FORWARD);
        println!("{family}: logits within {largest:.1e}");
    }
}

/// Read token by token, with keys and values kept, two texts at once and of different lengths.
#[test]
fn kept_keys_and_values() {
    let device = Default::default();
    let (_, texts, first) = fixture();
    for family in families() {
        let model = model::<Cpu>(&family, &device);
        let decoder = model.backbone().decoder().unwrap();
        let whole =
            values(decoder.forward(&packed::<Cpu>(&texts, first, &device), Pass::evaluation()));
        let width = whole.len() / texts.iter().map(Vec::len).sum::<usize>();
        let mut cache = KvCache::<Cpu>::new(texts.len());
        let mut at = vec![0; texts.len()];
        let mut found = vec![Vec::new(); texts.len()];
        // Three tokens of each, then one at a time, until the shorter text ends.
        for step in [3usize, 1, 1] {
            let new: Vec<Vec<u32>> = (texts.iter().zip(&at))
                .map(|(text, &at)| text[at..at + step].to_vec())
                .collect();
            let states = values(decoder.extend(&packed::<Cpu>(&new, step, &device), &mut cache));
            for (i, rows) in states.chunks(step * width).enumerate() {
                found[i].extend_from_slice(rows);
                at[i] += step;
            }
        }
        let mut start = 0;
        for (text, found) in texts.iter().zip(&found) {
            assert_close(&family, found, &whole[start..start + found.len()], 1e-5);
            start += text.len() * width;
        }
        // The longer text alone goes on.
        cache.keep(&[0]);
        let rest = vec![texts[0][at[0]..].to_vec()];
        let states = values(decoder.extend(&packed::<Cpu>(&rest, 1, &device), &mut cache));
        assert_close(
            &family,
            &states,
            &whole[at[0] * width..texts[0].len() * width],
            1e-5,
        );
    }
}

pub fn loss<B: TuneAutodiff>(model: &Model<B>, input: &TextInput<B>, pass: Pass) -> Tensor<B, 1> {
    let counted = input.next.as_ref().unwrap().sequences.tokens();
    model.forward(input.clone().into(), pass).sum() / counted as f32
}

#[test]
fn gradients_of_every_parameter() {
    let device = Default::default();
    let (fixture, texts, first) = fixture();
    for family in families() {
        let model = model::<Tuning>(&family, &device).with_dropout(0.0);
        let model = params::set_trainable(model, &mut |_| true);
        let input = packed::<Tuning>(&texts, first, &device);
        let loss = loss(&model, &input, Pass::training(1, 0));
        let mut grads = Gradients::<Tuning>::default();
        grads.backward(&loss, &model, model.names());
        let expected_loss = fixture["families"][&family]["loss"].as_f64().unwrap();
        assert!(
            (f64::from(values(loss)[0]) - expected_loss).abs() < 1e-5,
            "{family}"
        );
        let dir = golden("tiny_decoders").join(&family);
        let files = WeightFiles::open(&dir.join("expected.safetensors")).unwrap();
        let stored = WeightFiles::find(&dir.join("model")).unwrap();
        let mut largest: f32 = 0.0;
        for name in trainable(&model) {
            let found = gradient(&grads, &name).unwrap();
            let mut expected = read(&files, &format!("grad.{name}"));
            if family == "gpt2" && name.contains(".c_") && name.ends_with("weight") {
                let [rows, columns] = expected.shape[..] else {
                    panic!()
                };
                expected.values = (0..rows * columns)
                    .map(|i| expected.values[(i % rows) * columns + i / rows])
                    .collect();
            }
            assert!(
                stored.shape(&name).is_some() || name == "lm_head.weight",
                "{name}"
            );
            let rms = norm(&expected.values) / (expected.values.len() as f32).sqrt();
            let apart = relative(&found, &expected.values, rms);
            assert!(apart < GRADIENT, "{family}, {name}: {apart:e}");
            largest = largest.max(apart);
        }
        println!("{family}: gradients within {largest:.1e} of themselves");
    }
}

fn losses(mut model: Model<Tuning>, texts: &[Vec<u32>], first: usize) -> Vec<f64> {
    let device = Default::default();
    let names = model.names();
    let mut optimizer = Optimizer::<Tuning>::new(OptimizerConfig {
        weight_decay: 0.01,
        ..OptimizerConfig::default()
    });
    (0..20)
        .map(|step| {
            let input = packed::<Tuning>(texts, first, &device);
            let loss = loss(&model, &input, Pass::training(1, step));
            let mut grads = Gradients::<Tuning>::default();
            grads.backward(&loss, &model, names);
            let clip = (1.0 / grads.norm().unwrap()).min(1.0);
            model = optimizer.step(model.clone(), grads, 2e-3, clip, &|_| 1.0, names);
            f64::from(values(loss)[0])
        })
        .collect()
}

#[test]
fn losses_of_twenty_steps() {
    let device = Default::default();
    let (fixture, texts, first) = fixture();
    for family in families() {
        let base = || model::<Tuning>(&family, &device).with_dropout(0.0);
        let full = params::set_trainable(base(), &mut |_| true);
        let adapter = golden("tiny_decoders").join(&family).join("adapter");
        let names = full.names();
        let (lora, _) = rekindle_peft::load(base(), &adapter, &[], names, &device).unwrap();
        for (what, model) in [("full", full), ("lora", lora)] {
            let expected = numbers(&fixture["families"][&family][what]);
            let found = losses(model, &texts, first);
            let pairs = found.iter().zip(&expected);
            let largest = pairs
                .map(|(a, b)| (a - f64::from(*b)).abs())
                .fold(0.0, f64::max);
            assert!(largest < LOSS, "{family}, {what}: {largest:e}");
            println!("{family}, {what}: losses within {largest:.1e}");
        }
    }
}

/// Dropout acts where something trains: nowhere in a frozen model, in the embeddings where one of their tables trains.
#[test]
fn what_is_frozen_drops_nothing() {
    let device = Default::default();
    let (_, texts, first) = fixture();
    let input = packed::<Tuning>(&texts, first, &device);
    let at = |trains: &dyn Fn(&str) -> bool, pass: Pass| {
        let model = model::<Tuning>("gpt2", &device).with_dropout(0.5);
        let model = params::set_trainable(model, &mut |path| trains(path));
        values(loss(&model, &input, pass))[0]
    };
    let (training, evaluation) = (Pass::training(1, 0), Pass::evaluation());
    let evaluated = at(&|_| false, evaluation);
    assert_eq!(at(&|_| false, training), evaluated);
    assert_eq!(
        at(&|path| path.ends_with("norm.bias"), evaluation),
        evaluated
    );
    assert_ne!(at(&|path| path.contains("positions"), training), evaluated);
}

/// A backbone without its head is not taken for one whose head is the embeddings.
#[test]
fn a_missing_head_is_not_the_embeddings() {
    let from = golden("tiny_decoders").join("qwen2/model");
    let folder = tempfile::tempdir().unwrap();
    let weights = folder.path().join("model.safetensors");
    std::fs::copy(from.join("model.safetensors"), &weights).unwrap();
    let files = WeightFiles::open(&weights).unwrap();
    assert!(files.shape("lm_head.weight").is_none());
    let config = std::fs::read_to_string(from.join("config.json")).unwrap();
    let mut config: Value = serde_json::from_str(&config).unwrap();
    for (tied, opens) in [(true, true), (false, false)] {
        config["tie_word_embeddings"] = tied.into();
        std::fs::write(folder.path().join("config.json"), config.to_string()).unwrap();
        let opened = Pretrained::open(folder.path());
        assert_eq!(opened.is_ok(), opens, "tied: {tied}");
        if let Err(error) = opened {
            assert!(error.to_string().contains("`lm_head.weight`"), "{error}");
        }
    }
}

/// What is saved is what was loaded, bit by bit, whichever way round a family stores its weights.
#[test]
fn saved_is_what_was_loaded() {
    let device = Default::default();
    for family in families() {
        let dir = golden("tiny_decoders").join(&family).join("model");
        let pretrained = Pretrained::open(&dir).unwrap();
        let model = model::<Tuning>(&family, &device).valid();
        let folder = tempfile::tempdir().unwrap();
        model
            .save_pretrained(folder.path(), pretrained.config(), &head())
            .unwrap();
        let (before, after) = (
            WeightFiles::find(&dir).unwrap(),
            WeightFiles::find(folder.path()).unwrap(),
        );
        let names: Vec<&str> = before.names().collect();
        assert_eq!(names, after.names().collect::<Vec<_>>(), "{family}");
        for name in names {
            assert_eq!(read(&before, name), read(&after, name), "{family}, {name}");
        }
        assert!(!state(&model).is_empty());
    }
}

/// A beginning that all texts share is computed once: the same losses and gradients as of whole texts.
#[test]
fn a_shared_beginning_changes_nothing() {
    const SHARED: usize = 9;
    let device = Default::default();
    let (_, texts, _) = fixture();
    let texts: Vec<Vec<u32>> = (texts.iter().zip(0..))
        .flat_map(|(text, i)| {
            let ends = [&text[..], &text[i + 2..]];
            ends.map(|end| {
                texts[0]
                    .iter()
                    .cycle()
                    .take(SHARED)
                    .chain(end)
                    .copied()
                    .collect()
            })
        })
        .collect();
    let mut batch = ChatBatch::default();
    for (text, first) in texts.iter().zip(SHARED + 1..) {
        let counts: Vec<bool> = (0..text.len())
            .map(|at| at >= first.min(text.len() - 1))
            .collect();
        batch.push(text, &[&counts]);
    }
    let shared = batch.clone().share_beginning();
    assert_eq!(shared.shared, SHARED);
    assert_eq!(shared.tokens(), batch.tokens() - (texts.len() - 1) * SHARED);
    let input = |batch: &ChatBatch| {
        let offsets = |offsets: &[usize]| Sequences::new(offsets.to_vec());
        let (ids, types) = (batch.ids.clone(), vec![0; batch.tokens()]);
        let input = TextInput::<Tuning>::new(ids, types, offsets(&batch.offsets), &device);
        let groups = offsets(&batch.row_offsets);
        let next = NextTokens::new(&batch.rows, &batch.targets, groups, &device);
        match batch.shared {
            0 => input.with_next(next),
            _ => input.with_shared_beginning().with_next(next),
        }
    };
    for family in families() {
        let model = model::<Tuning>(&family, &device);
        let run = |batch: &ChatBatch| {
            let losses = model.forward(input(batch).into(), Pass::training(1, 1));
            let mut grads = Gradients::<Tuning>::default();
            grads.backward(&losses.clone().sum().reshape([1]), &model, model.names());
            (values(losses.inner()), grads)
        };
        let ((a, whole), (b, once)) = (run(&batch), run(&shared));
        assert_close(&family, &b, &a, FORWARD);
        assert!(
            (once.norm().unwrap() - whole.norm().unwrap()).abs() < 1e-5 * whole.norm().unwrap()
        );
        params::visit(&model, &mut |param: params::ParamRef<'_, Tuning>| {
            let name = model.names().published(param.path);
            let [a, b] = [&whole, &once].map(|grads| {
                let grad = grads.get(&name).unwrap().clone();
                rekindle_nn::host::to_host::<Cpu>(grad).unwrap().values
            });
            let largest = a.iter().fold(0f32, |max, x| max.max(x.abs()));
            for (a, b) in a.iter().zip(&b) {
                assert!(
                    (a - b).abs() <= 1e-5 * (1.0 + largest),
                    "{family} {name}: {a} and {b}"
                );
            }
        });
    }
}
