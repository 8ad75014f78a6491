//! Goldens of the image models: weights and input come from a formula (see golden/vision_models/make.py), so that even
//! ResNet-152 needs no file of weights.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;

use burn::tensor::{Int, Tensor, TensorData, backend::Backend};
use rekindle_base::{HostTensor, rng};
use rekindle_models::image::{Architecture, LiteConfig, Pictures, ResNetConfig};
use rekindle_models::{Model, ModelConfig, Pretrained};
use rekindle_nn::host::to_host;
use rekindle_nn::params::{self, Mapped, ParamRef};
use rekindle_nn::{Pass, TuneBackend, ops};
use rekindle_tests::shared;
use rekindle_train::{Gradients, Optimizer, OptimizerConfig};
use serde_json::Value;

use crate::support::{
    Cpu, Tuning, assert_close, difference, efficientnet, gradient, head, json, labels, norm,
    numbers, relative, values,
};

pub(crate) fn formula(name: &str, count: usize) -> Vec<f32> {
    let hash = name.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |h, b| {
        (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3)
    });
    (0..count as u64)
        .map(|i| {
            let step = (i + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
            let z = rng::mix64(hash.wrapping_add(step));
            (z >> 40) as f32 / 8_388_608.0 - 1.0
        })
        .collect()
}

/// A tensor's values by its name; `last` ends the names of norms that end a residual branch.
fn weights(name: &str, shape: &[usize], last: Option<&str>) -> HostTensor {
    let mut values = formula(name, shape.iter().product());
    let affine = |values: &mut Vec<f32>, level: f32, scale: f32| {
        values.iter_mut().for_each(|v| *v = level + scale * *v);
    };
    let part = name.rsplit('.').next().unwrap();
    if shape.len() >= 2 {
        let fan_in: usize = shape[1..].iter().product();
        let scale = (3.0 / fan_in as f64).sqrt() as f32;
        values.iter_mut().for_each(|v| *v *= scale);
    } else if part == "weight" {
        let in_block = name.contains("layer") || name.contains("blocks");
        let ends = last.is_some_and(|last| in_block && name.ends_with(&format!("{last}.weight")));
        affine(&mut values, if ends { 0.4 } else { 1.0 }, 0.2);
    } else if part == "running_var" {
        affine(&mut values, 1.0, 0.5);
    } else {
        affine(&mut values, 0.0, 0.1);
    }
    HostTensor {
        shape: shape.to_vec(),
        values,
    }
}

/// `[N, H, W, 3]` of an input that the formula gives as `[N, 3, H, W]`.
pub(crate) fn input<B: Backend>(batch: usize, height: usize, width: usize) -> Tensor<B, 4> {
    let values = formula("input", batch * 3 * height * width);
    let x = TensorData::new(values, [batch, 3, height, width]);
    let x = Tensor::<B, 4>::from_data(x, &Default::default()).permute([0, 2, 3, 1]);
    x.reshape([batch * height * width, 3])
        .reshape([batch, height, width, 3])
}

fn architecture(name: &str) -> (Architecture, &'static str) {
    let wide = |inner: bool| {
        let base = vec![64, 128, 256, 512];
        match inner {
            true => (base.iter().map(|w| w * 4).collect(), base),
            false => (base, Vec::new()),
        }
    };
    let resnet = |depths: [usize; 4], bottleneck: bool| {
        let (widths, inner) = wide(bottleneck);
        Architecture::ResNet(ResNetConfig {
            stem: 64,
            stem_window: (7, 2, true),
            depths: depths.to_vec(),
            widths,
            inner,
            plain_shortcuts: false,
        })
    };
    match name {
        "resnet18" => (resnet([2, 2, 2, 2], false), "bn2"),
        "resnet34" => (resnet([3, 4, 6, 3], false), "bn2"),
        "resnet50" => (resnet([3, 4, 6, 3], true), "bn3"),
        "resnet101" => (resnet([3, 4, 23, 3], true), "bn3"),
        "resnet152" => (resnet([3, 8, 36, 3], true), "bn3"),
        name => match name.strip_prefix("cifar_resnet") {
            Some(layers) => {
                let config = ResNetConfig {
                    stem: 16,
                    stem_window: (3, 1, false),
                    depths: vec![(layers.parse::<usize>().unwrap() - 2) / 6; 3],
                    widths: vec![16, 32, 64],
                    inner: Vec::new(),
                    plain_shortcuts: true,
                };
                (Architecture::ResNet(config), "bn2")
            }
            None => {
                let variant = name.strip_prefix("tf_efficientnet_lite").unwrap();
                let config = LiteConfig(variant.parse().unwrap());
                (Architecture::EfficientNetLite(config), "bn3")
            }
        },
    }
}

/// What the reference calls a parameter.
fn published(name: &str, path: &str) -> String {
    match (name.starts_with("cifar"), path.strip_prefix("fc.")) {
        (true, Some(rest)) => format!("linear.{rest}"),
        _ => path.to_owned(),
    }
}

pub(crate) fn model<B: Backend>(name: &str, classes: usize) -> Model<B> {
    let (architecture, last) = architecture(name);
    assert_eq!(architecture.name(), name);
    let device = Default::default();
    let config = ModelConfig::of_pictures(architecture, read_pictures());
    let model = Model::<B>::random(&config, &head(labels(classes), None, false), &device);
    let names = model.names();
    params::map(model, &mut |param: ParamRef<'_, B>| {
        let name = published(name, &names.published(param.path));
        let host = weights(&name, param.shape.as_slice(), Some(last));
        Mapped {
            value: rekindle_nn::host::from_host::<B>(host, &device),
            trainable: true,
        }
    })
}

fn size(case: &Value, key: &str) -> usize {
    usize::try_from(case[key].as_u64().unwrap()).unwrap()
}

#[test]
fn logits_are_those_of_torchvision_and_timm() {
    for case in json("vision_models/expected.json")["logits"]
        .as_array()
        .unwrap()
    {
        let name = case["model"].as_str().unwrap();
        let [batch, height, width] = ["batch", "height", "width"].map(|key| size(case, key));
        let net = model::<Cpu>(name, 10);
        let logits = net.forward(input(batch, height, width).into(), Pass::evaluation());
        let what = format!("{name} at {height} x {width}");
        assert_close(&what, &values(logits), &numbers(&case["logits"]), 1e-4);
    }
}

fn loss<B: TuneBackend>(net: &Model<B>, case: &Value, pass: Pass) -> Tensor<B, 1> {
    let [batch, height, width, classes] =
        ["batch", "height", "width", "classes"].map(|key| size(case, key));
    let logits = net.forward(input(batch, height, width).into(), pass);
    let targets: Vec<i32> = (0..batch).map(|i| (i % classes) as i32).collect();
    let targets =
        Tensor::<B, 1, Int>::from_data(TensorData::from(targets.as_slice()), &Default::default());
    ops::cross_entropy(logits, targets, &ops::CrossEntropy::default()).sum() / batch as f64
}

/// Norm and samples of a gradient against the reference's, relative to the size of the gradient.
fn same_gradients(
    what: &str,
    grads: &Gradients<Tuning>,
    expected: &Value,
    name: &str,
    tolerance: f32,
) {
    // Where a norm follows at once, a scale of the weight cancels, and small gradients are differences of large ones.
    let expected = expected.as_object().unwrap();
    let total: f32 = expected
        .values()
        .map(|v| numbers(&v[0])[0].powi(2))
        .sum::<f32>()
        .sqrt();
    let mut worst = 0f32;
    for (key, figures) in expected {
        let figures = numbers(figures);
        let path = match key.strip_prefix("linear.") {
            Some(rest) if name.starts_with("cifar") => format!("fc.{rest}"),
            _ => key.clone(),
        };
        let found = gradient(grads, &path).unwrap_or_else(|| panic!("{what}: no {key}"));
        let samples = figures.len() - 1;
        let picked: Vec<f32> = (0..samples)
            .map(|i| found[i * found.len() / samples])
            .collect();
        let scale = figures[0].max(1e-3 * total);
        worst = worst.max((norm(&found) - figures[0]).abs() / scale);
        let off = (norm(&found) - figures[0]).abs() / scale;
        assert!(off < tolerance, "{what}, norm of {key}: {off:.1e}");
        let rms = scale / (found.len() as f32).sqrt();
        let off = relative(&picked, &figures[1..], rms);
        worst = worst.max(off);
        assert!(off < tolerance, "{what}, {key}: {off:.1e}");
    }
    println!("{what}: gradients within {worst:.1e}");
}

#[test]
fn gradients_statistics_and_a_step_are_those_of_pytorch() {
    for case in json("vision_models/expected.json")["steps"]
        .as_array()
        .unwrap()
    {
        let name = case["model"].as_str().unwrap();
        let classes = size(case, "classes");

        let net = model::<Tuning>(name, classes);
        let value = loss(&net, case, Pass::evaluation());
        let found = values(value.clone());
        let what = format!("{name} in evaluation");
        assert_close(&what, &found, &numbers(&case["eval"]["loss"]), 1e-4);
        let mut grads = Gradients::default();
        grads.backward(&value, &net, net.names());
        same_gradients(&what, &grads, &case["eval"]["gradients"], name, 1e-3);

        let Some(expected) = case.get("train") else {
            continue;
        };
        let net = model::<Tuning>(name, classes);
        let value = loss(&net, case, Pass::training(0, 0));
        let what = format!("{name} in training");
        assert_close(
            &what,
            &values(value.clone()),
            &numbers(&expected["loss"]),
            1e-4,
        );
        let mut grads = Gradients::default();
        grads.backward(&value, &net, net.names());
        // Among EfficientNet's many units some lie within rounding of their kink, and norms over 16 values a channel make
        // that count: PyTorch's own float32 differs from float64 by up to 0.17 of a gradient's root mean square here.
        let tolerance = if name.starts_with("tf_") { 5e-2 } else { 1e-3 };
        same_gradients(&what, &grads, &expected["gradients"], name, tolerance);
        let mut running = BTreeMap::new();
        params::visit(&net, &mut |param: ParamRef<'_, Tuning>| {
            if params::is_buffer(param.path) {
                let values = to_host::<Tuning>(param.value).unwrap().values;
                running.insert(net.names().published(param.path), values);
            }
        });
        let statistics = expected["running"].as_object().unwrap();
        assert_eq!(running.len(), statistics.len());
        for (key, figures) in statistics {
            let (found, figures) = (&running[key], numbers(figures));
            let samples = figures.len() - 1;
            let picked: Vec<f32> = (0..samples)
                .map(|i| found[i * found.len() / samples])
                .collect();
            assert!(difference(&picked, &figures[1..]) < 1e-4, "{what}, {key}");
            let off = (norm(found) - figures[0]).abs() / figures[0];
            assert!(off < 1e-4, "{what}, norm of {key}: {off:.1e}");
        }

        let mut optimizer = Optimizer::<Tuning>::new(OptimizerConfig::default());
        let names = net.names();
        let net = optimizer.step(net, grads, 1e-3, 1.0, &|_| 1.0, names);
        let second = values(loss(&net, case, Pass::training(0, 0)));
        // One step of AdamW moves every weight by about the rate, whatever the gradient's size: signs of tiny ones decide.
        let tolerance = if name.starts_with("tf_") { 3e-2 } else { 5e-3 };
        assert_close(
            &what,
            &second,
            &numbers(&expected["second_loss"]),
            tolerance,
        );
    }
}

#[test]
fn frozen_norms_neither_move_nor_normalise_by_the_batch() {
    let case = &json("vision_models/expected.json")["steps"][0];
    let net = model::<Tuning>("resnet18", size(case, "classes"));
    let net = params::set_trainable(net, &mut |path| path.starts_with("head."));
    let trained = values(loss(&net, case, Pass::training(0, 0)));
    let evaluated = values(loss(&net, case, Pass::evaluation()));
    assert_eq!(trained, evaluated);
    assert_eq!(net.frozen_units(), net.units());
    params::visit(&net, &mut |param: ParamRef<'_, Tuning>| {
        if params::is_buffer(param.path) {
            let name = net.names().published(param.path);
            let expected = weights(&name, param.shape.as_slice(), None).values;
            let found = to_host::<Tuning>(param.value).unwrap().values;
            assert_eq!(found, expected, "{}", param.path);
        }
    });
}

#[test]
fn hugging_face_s_layout_is_read() {
    for case in json("vision_models/expected.json")["hugging_face"]
        .as_array()
        .unwrap()
    {
        let folder = tempfile::tempdir().unwrap();
        let state: Vec<(String, HostTensor)> = case["tensors"]
            .as_object()
            .unwrap()
            .iter()
            .map(|(name, shape)| {
                let shape: Vec<usize> = numbers(shape).iter().map(|&n| n as usize).collect();
                (name.clone(), weights(name, &shape, None))
            })
            .collect();
        rekindle_weights::write(
            &folder.path().join("model.safetensors"),
            state
                .iter()
                .map(|(name, tensor)| (name.as_str(), tensor.into())),
            &[],
        )
        .unwrap();
        std::fs::write(
            folder.path().join("config.json"),
            case["config"].to_string(),
        )
        .unwrap();
        let pretrained = Pretrained::open(folder.path()).unwrap();
        assert_eq!(pretrained.config().outputs, 5);
        let device = Default::default();
        let head = head(labels(5), None, true);
        let (net, report) = Model::<Cpu>::from_pretrained(&pretrained, &head, &device).unwrap();
        assert!(report.initialised.is_empty(), "{report:?}");
        let logits = net.forward(input(2, 32, 32).into(), Pass::evaluation());
        let kind = case["kind"].as_str().unwrap();
        assert_close(kind, &values(logits), &numbers(&case["logits"]), 1e-4);
    }
}

#[test]
fn a_saved_image_model_is_loaded_as_it_was() {
    let device = Default::default();
    for name in ["resnet50", "tf_efficientnet_lite0", "cifar_resnet20"] {
        let folder = tempfile::tempdir().unwrap();
        let net = model::<Cpu>(name, 3);
        let expected = values(net.forward(input(1, 64, 64).into(), Pass::evaluation()));
        let config = ModelConfig::of_pictures(architecture(name).0, read_pictures());
        let of_three = head(labels(3), None, false);
        net.save_pretrained(folder.path(), &config, &of_three)
            .unwrap();
        let pretrained = Pretrained::open(folder.path()).unwrap();
        let read = pretrained.config();
        assert_eq!(read.architecture(), name);
        assert_eq!((read.outputs, &read.labels), (3, &labels(3)));
        assert_eq!(read.pictures, Some(read_pictures()));
        let (net, report) = Model::<Cpu>::from_pretrained(&pretrained, &of_three, &device).unwrap();
        assert!(
            report.initialised.is_empty() && report.ignored.is_empty(),
            "{report:?}"
        );
        let found = values(net.forward(input(1, 64, 64).into(), Pass::evaluation()));
        assert_eq!(found, expected, "{name}");
        // Other labels: a new head, and nothing else new.
        let of_seven = head(labels(7), None, false);
        let (_, report) = Model::<Cpu>::from_pretrained(&pretrained, &of_seven, &device).unwrap();
        assert_eq!(report.initialised.len(), 2, "{report:?}");
    }
}

fn read_pictures() -> Pictures {
    Pictures {
        size: 96,
        crop: 0.9,
        interpolation: "bicubic".into(),
        mean: [0.1, 0.2, 0.3],
        std: [0.5, 0.25, 0.75],
    }
}

fn loaded(dir: &std::path::Path) -> (Model<Cpu>, ModelConfig) {
    let pretrained = Pretrained::open(dir).unwrap();
    let config = pretrained.config().clone();
    let numbered = (0..config.outputs).map(|i| i.to_string()).collect();
    let device = Default::default();
    let head = head(numbered, None, true);
    let (net, report) = Model::<Cpu>::from_pretrained(&pretrained, &head, &device).unwrap();
    assert!(report.initialised.is_empty(), "{report:?}");
    (net, config)
}

#[test]
#[ignore = "needs EfficientNet-Lite0: cargo xtask run fetch efficientnet-lite0"]
fn the_real_efficientnet_is_that_of_timm() {
    let Some(dir) = efficientnet() else { return };
    let (net, _) = loaded(&dir);
    let logits = values(net.forward(input(1, 224, 224).into(), Pass::evaluation()));
    let expected = &json("vision_models/expected.json")["efficientnet_lite0"];
    assert_eq!(logits.len(), 1000);
    assert_close("logits", &logits[..64], &numbers(&expected["logits"]), 1e-4);
    let off = (norm(&logits) - numbers(&expected["norm"])[0]).abs();
    assert!(off < 1e-3, "{off}");
    let best = (0..1000).max_by(|&a, &b| logits[a].total_cmp(&logits[b]));
    assert_eq!(best, Some(size(expected, "argmax")));
}

/// The classes that a model gives the pictures of a folder, with the folder's own.
fn answers(dir: &std::path::Path, folder: &std::path::Path) -> Vec<(usize, usize, Vec<f32>)> {
    use rekindle_data::image::{Augment, ImageLoader, Interpolation, Preprocess, read_images};
    let (net, config) = loaded(dir);
    let pictures = config.pictures.as_ref().unwrap();
    let options = rekindle_data::ReadOptions {
        on_bad_example: rekindle_data::OnBad::Skip,
        ..Default::default()
    };
    let set = read_images(folder, &options).unwrap().set;
    let labels = rekindle_data::LabelMap::from_names(set.classes().to_vec()).unwrap();
    let targets = set.targets(&labels.into()).unwrap();
    let preprocess = Preprocess {
        resize: pictures.resized(),
        crop: pictures.size,
        interpolation: match pictures.interpolation.as_str() {
            "bicubic" => Interpolation::Bicubic,
            _ => Interpolation::Bilinear,
        },
        mean: pictures.mean.map(|v| v as f32),
        std: pictures.std.map(|v| v as f32),
    };
    let count = set.len();
    let on_bad = rekindle_data::OnBad::Error;
    let loader = ImageLoader::new(set, targets, preprocess, Augment::default(), on_bad, 0, 0);
    let mut answers = Vec::new();
    for first in (0..count).step_by(32) {
        let indices: Vec<usize> = (first..count.min(first + 32)).collect();
        let batch = loader.eval_batch(&indices).unwrap();
        let shape = [batch.len(), batch.size, batch.size, 3];
        let x = TensorData::new(batch.pixels.clone(), shape);
        let x = Tensor::<Cpu, 4>::from_data(x, &Default::default());
        let logits = values(net.forward(x.into(), Pass::evaluation()));
        for (row, &label) in logits.chunks(config.outputs).zip(batch.targets.class_ids()) {
            let best = (0..row.len()).max_by(|&a, &b| row[a].total_cmp(&row[b]));
            answers.push((label as usize, best.unwrap(), row.to_vec()));
        }
    }
    answers
}

#[test]
#[ignore = "needs ../shared/weights and ../shared/data"]
fn cifar_resnets_score_what_they_score_in_pytorch() {
    for (name, expected) in [("resnet20-12fca82f.th", 804), ("resnet32-d509ac18.th", 824)] {
        let weights = shared(&format!("weights/cifar-resnet/{name}"));
        let (Some(weights), Some(test)) = (weights, shared("data/cifar10/test")) else {
            return;
        };
        let answers = answers(&weights, &test);
        let right = answers
            .iter()
            .filter(|(label, best, _)| label == best)
            .count();
        println!("{name}: {right} of {}", answers.len());
        assert!(right.abs_diff(expected) <= 4, "{name}: {right}");
    }
}

#[test]
#[ignore = "needs EfficientNet-Lite0 (cargo xtask run fetch efficientnet-lite0) and ../shared/data"]
fn imagenet_s_head_knows_ants_and_bees() {
    let (Some(dir), Some(val)) = (efficientnet(), shared("data/hymenoptera/val")) else {
        return;
    };
    const ANT_AND_BEE: [usize; 2] = [310, 309];
    let answers = answers(&dir, &val);
    assert_eq!(answers.len(), 153);
    let exact = answers
        .iter()
        .filter(|(label, best, _)| *best == ANT_AND_BEE[*label])
        .count();
    let between = answers
        .iter()
        .filter(|(label, _, logits)| {
            let [ant, bee] = ANT_AND_BEE.map(|class| logits[class]);
            (bee > ant) == (*label == 1)
        })
        .count();
    println!("exactly {exact}, ant against bee {between}, of 153");
    assert!(exact.abs_diff(130) <= 2, "{exact}");
    assert!(between.abs_diff(149) <= 2, "{between}");
}
