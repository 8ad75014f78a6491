//! Vision transformers, ConvNeXt and MobileNetV3 against timm and transformers: weights and input come from a formula (see
//! golden/tiny_pictures/make.py), so that they need no files of weights.
#![allow(clippy::unwrap_used)]

use std::path::Path;

use burn::tensor::{Int, Tensor, TensorData, backend::Backend};
use rekindle::{
    Predictor, RunConfig, Silent,
    config::{Device, Override},
};
use rekindle_base::HostTensor;
use rekindle_models::{LoadReport, Model, ModelConfig, Pretrained};
use rekindle_nn::{
    Pass, TuneBackend, ops,
    params::{self, Mapped, ParamRef},
};
use rekindle_peft::{LoraConfig, TargetModules, Trainable};
use rekindle_train::{Gradients, Optimizer, OptimizerConfig};
use rekindle_weights::WeightFiles;
use serde_json::{Map, Value};

use crate::support::{
    Cpu, Tuning, assert_close, golden, gradient, head, json, labels, norm, numbers, relative,
    values,
};
use crate::vision::formula;

/// Absolute, on logits of magnitude 0.1 to 3, which the fixture has in float64.
const LOGITS: f32 = 1e-4;

/// Relative to the size of a gradient, or of a thousandth of all of them where it is smaller.
const GRADIENT: f32 = 1e-3;

/// Absolute, on losses of 20 steps and on logits behind them.
const LOSS: f32 = 1e-3;

const CLASSES: usize = 5;

/// A tensor's values by its name in files.
fn weights(name: &str, shape: &[usize]) -> HostTensor {
    let mut values = formula(name, shape.iter().product());
    let affine = |values: &mut Vec<f32>, level: f64, scale: f64| {
        let map = |v: &mut f32| *v = (level + scale * f64::from(*v)) as f32;
        values.iter_mut().for_each(map);
    };
    match (name.rsplit('.').next().unwrap(), shape) {
        (_, [1, _, _]) => affine(&mut values, 0.0, 0.5),
        (_, [_, rest @ ..]) if !rest.is_empty() => {
            let fan_in: usize = rest.iter().product();
            affine(&mut values, 0.0, (3.0 / fan_in as f64).sqrt());
        }
        ("weight", _) => affine(&mut values, 1.0, 0.2),
        ("running_var", _) => affine(&mut values, 1.0, 0.5),
        ("gamma", _) => affine(&mut values, 0.5, 0.2),
        _ => affine(&mut values, 0.0, 0.1),
    }
    HostTensor {
        shape: shape.to_vec(),
        values,
    }
}

/// Pictures `[N, S, S, 3]` that the formula gives as `[N, 3, S, S]`.
fn pictures<B: Backend>(name: &str, batch: usize, side: usize) -> Tensor<B, 4> {
    let values = formula(name, batch * 3 * side * side);
    let x = TensorData::new(values, [batch, 3, side, side]);
    let x = Tensor::<B, 4>::from_data(x, &Default::default()).permute([0, 2, 3, 1]);
    x.reshape([batch * side * side, 3])
        .reshape([batch, side, side, 3])
}

fn fixture() -> Value {
    json("tiny_pictures/expected.json")
}

fn case(name: &str) -> Value {
    let fixture = fixture();
    let mut cases = fixture["cases"].as_array().unwrap().iter();
    let case = cases.find(|case| case["name"] == name).unwrap();
    case.clone()
}

/// Writes a case's directory; a tensor goes by the name that `stored` gives it, its values by `valued`.
fn write(
    dir: &Path,
    case: &Value,
    stored: impl Fn(&str) -> String,
    valued: impl Fn(&str) -> String,
) {
    let tensors = case["tensors"].as_object().unwrap().iter();
    let state: Vec<(String, HostTensor)> = tensors
        .map(|(name, shape)| {
            let shape: Vec<usize> = numbers(shape).iter().map(|&n| n as usize).collect();
            (stored(name), weights(&valued(name), &shape))
        })
        .collect();
    let state = state
        .iter()
        .map(|(name, tensor)| (name.as_str(), tensor.into()));
    rekindle_weights::write(&dir.join("model.safetensors"), state, &[]).unwrap();
    std::fs::write(dir.join("config.json"), case["config"].to_string()).unwrap();
}

fn as_is(name: &str) -> String {
    name.to_owned()
}

fn opened(case: &Value) -> (tempfile::TempDir, Pretrained) {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), case, as_is, as_is);
    let pretrained = Pretrained::open(folder.path()).unwrap();
    (folder, pretrained)
}

fn loaded<B: Backend>(pretrained: &Pretrained) -> (Model<B>, LoadReport) {
    let head = head(labels(CLASSES), None, true);
    let (model, report) =
        Model::<B>::from_pretrained(pretrained, &head, &Default::default()).unwrap();
    assert!(report.initialised.is_empty(), "{report:?}");
    (model, report)
}

fn logits<B: TuneBackend>(model: &Model<B>, side: usize) -> Vec<f32> {
    values(model.forward(pictures("input", 2, side).into(), Pass::evaluation()))
}

fn loss<B: TuneBackend>(model: &Model<B>, x: Tensor<B, 4>, pass: Pass) -> Tensor<B, 1> {
    let [batch, ..] = x.dims();
    let targets: Vec<i32> = (0..batch).map(|i| (i % CLASSES) as i32).collect();
    let targets =
        Tensor::<B, 1, Int>::from_data(TensorData::from(targets.as_slice()), &Default::default());
    let logits = model.forward(x.into(), pass);
    ops::cross_entropy(logits, targets, &ops::CrossEntropy::default()).sum() / batch as f64
}

fn side(case: &Value) -> usize {
    usize::try_from(case["side"].as_u64().unwrap()).unwrap()
}

/// Logits, loss and gradients of every parameter.
fn same_figures(
    what: &str,
    case: &Value,
    pretrained: &Pretrained,
    of_file: impl Fn(&str) -> String,
) {
    let (net, _) = loaded::<Tuning>(pretrained);
    let found = logits(&net, side(case));
    let apart = assert_close(what, &found, &numbers(&case["logits"]), LOGITS);
    let value = loss(&net, pictures("input", 2, side(case)), Pass::evaluation());
    assert_close(
        what,
        &values(value.clone()),
        &numbers(&case["loss"]),
        LOGITS,
    );
    let mut grads = Gradients::default();
    grads.backward(&value, &net, net.names());
    let expected = case["gradients"].as_object().unwrap();
    let total: f32 = expected
        .values()
        .map(|v| numbers(&v[0])[0].powi(2))
        .sum::<f32>()
        .sqrt();
    let mut worst = (0f32, String::new());
    for (name, figures) in expected {
        let figures = numbers(figures);
        let found = gradient(&grads, &of_file(name)).unwrap_or_else(|| panic!("{what}: no {name}"));
        let samples = figures.len() - 1;
        let picked: Vec<f32> = (0..samples)
            .map(|i| found[i * found.len() / samples])
            .collect();
        let scale = figures[0].max(1e-3 * total);
        let rms = scale / (found.len() as f32).sqrt();
        let off =
            ((norm(&found) - figures[0]).abs() / scale).max(relative(&picked, &figures[1..], rms));
        assert!(off < GRADIENT, "{what}, {name}: {off:.1e}");
        if off > worst.0 {
            worst = (off, name.clone());
        }
    }
    println!(
        "{what}: logits within {apart:.1e}, gradients within {:.1e} ({})",
        worst.0, worst.1
    );
}

#[test]
fn logits_and_gradients_are_those_of_timm() {
    for case in fixture()["cases"].as_array().unwrap() {
        let name = case["name"].as_str().unwrap();
        let (_folder, pretrained) = opened(case);
        let config = pretrained.config();
        assert_eq!(config.outputs, CLASSES, "{name}");
        let architecture = case["config"]["architecture"].as_str().unwrap();
        assert_eq!(config.architecture(), architecture);
        same_figures(name, case, &pretrained, as_is);
    }
}

/// transformers calls modules otherwise than tensors in files, and older versions call them as the files do.
#[test]
fn transformers_vit_is_read_by_either_generation_of_names() {
    let case = &fixture()["hugging_face"];
    let in_files = case["in_files"].as_object().unwrap();
    let old = |name: &str| in_files[name].as_str().unwrap().to_owned();
    for (what, renamed) in [("files", true), ("modules", false)] {
        let folder = tempfile::tempdir().unwrap();
        let stored = |name: &str| if renamed { old(name) } else { name.to_owned() };
        write(folder.path(), case, stored, old);
        let pretrained = Pretrained::open(folder.path()).unwrap();
        assert_eq!(
            pretrained.config().architecture(),
            "ViTForImageClassification"
        );
        same_figures(what, case, &pretrained, as_is);

        // It is saved as transformers saves it.
        let saved = tempfile::tempdir().unwrap();
        let (net, _) = loaded::<Cpu>(&pretrained);
        let head = head(labels(CLASSES), None, true);
        net.save_pretrained(saved.path(), pretrained.config(), &head)
            .unwrap();
        keep(saved.path(), &format!("hugging_face_{what}"));
        let files = WeightFiles::find(saved.path()).unwrap();
        let mut expected: Vec<String> = in_files.keys().map(|name| old(name)).collect();
        expected.sort();
        let mut names: Vec<&str> = files.names().collect();
        names.sort_unstable();
        assert_eq!(names, expected);
        let again = Pretrained::open(saved.path()).unwrap();
        assert_eq!(again.config().pictures, pretrained.config().pictures);
        let (again, _) = loaded::<Cpu>(&again);
        assert_eq!(logits(&again, 32), logits(&net, 32));
    }
}

/// Leaves a copy of a directory in `REKINDLE_TEST_KEEP`, where that is set, for golden/tools/check_pictures.py.
fn keep(dir: &Path, name: &str) {
    let Some(kept) = std::env::var_os("REKINDLE_TEST_KEEP") else {
        return;
    };
    let to = Path::new(&kept).join(name);
    std::fs::create_dir_all(&to).unwrap();
    for file in std::fs::read_dir(dir).unwrap() {
        let file = file.unwrap();
        std::fs::copy(file.path(), to.join(file.file_name())).unwrap();
    }
}

/// What timm needs to build the network of a saved directory: see `keep` for a check by timm itself.
#[test]
fn a_saved_model_has_timm_s_tensors_and_is_loaded_as_it_was() {
    for case in fixture()["cases"].as_array().unwrap() {
        let name = case["name"].as_str().unwrap();
        let (_folder, pretrained) = opened(case);
        let (net, _) = loaded::<Cpu>(&pretrained);
        let saved = tempfile::tempdir().unwrap();
        let of_classes = head(labels(CLASSES), None, true);
        net.save_pretrained(saved.path(), pretrained.config(), &of_classes)
            .unwrap();
        keep(saved.path(), name);
        let files = WeightFiles::find(saved.path()).unwrap();
        let tensors = case["tensors"].as_object().unwrap();
        assert_eq!(files.names().count(), tensors.len(), "{name}");
        for (tensor, shape) in tensors {
            let shape: Vec<usize> = numbers(shape).iter().map(|&n| n as usize).collect();
            assert_eq!(
                files.shape(tensor),
                Some(shape.as_slice()),
                "{name}, {tensor}"
            );
        }
        let again = Pretrained::open(saved.path()).unwrap();
        assert_eq!(again.config().pictures, pretrained.config().pictures);
        assert_eq!(again.config().labels, labels(CLASSES));
        let (again, report) = loaded::<Cpu>(&again);
        assert!(report.ignored.is_empty(), "{name}: {report:?}");
        assert_eq!(
            logits(&again, side(case)),
            logits(&net, side(case)),
            "{name}"
        );
    }
}

/// Without `config.json` the sizes are told from the tensors; heads of width 16 are of no published network.
#[test]
fn what_the_tensors_do_not_show_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), &case("vit"), as_is, as_is);
    std::fs::remove_file(folder.path().join("config.json")).unwrap();
    let error = Pretrained::open(folder.path()).err().unwrap().to_string();
    assert!(
        error.contains("the number of heads of width 32 is not known"),
        "{error}"
    );

    let mut distilled = case("deit");
    distilled["tensors"]["dist_token"] = vec![1, 1, 32].into();
    write(folder.path(), &distilled, as_is, as_is);
    let error = Pretrained::open(folder.path()).err().unwrap().to_string();
    assert!(error.contains("it is distilled"), "{error}");

    for family in ["vit", "convnext", "mobilenet_small"] {
        for (key, value, expected) in [
            ("act_layer", "silu", "`model_args` sets `act_layer`"),
            ("global_pool", "max", "global_pool is "),
        ] {
            let mut odd = case(family);
            odd["config"]["model_args"][key] = value.into();
            write(folder.path(), &odd, as_is, as_is);
            let error = Pretrained::open(folder.path()).err().unwrap().to_string();
            assert!(error.contains(expected), "{family}: {error}");
        }
    }
}

#[test]
fn positions_are_resized_as_timm_resizes_them() {
    let expected = &fixture()["resized"];
    let (_folder, pretrained) = opened(&case("vit"));
    let pretrained = pretrained.with_picture_size(side(expected), None);
    let (net, report) = loaded::<Cpu>(&pretrained);
    assert_eq!(report.resized, [("pos_embed".to_owned(), 4, 6)]);
    let found = logits(&net, side(expected));
    assert_close(
        "logits at 48 x 48",
        &found,
        &numbers(&expected["logits"]),
        LOGITS,
    );
    // Saved, they are those of the new size.
    let saved = tempfile::tempdir().unwrap();
    let of_classes = head(labels(CLASSES), None, true);
    net.save_pretrained(saved.path(), pretrained.config(), &of_classes)
        .unwrap();
    keep(saved.path(), "resized");
    let again = Pretrained::open(saved.path()).unwrap();
    assert_eq!(again.config().pictures.as_ref().unwrap().size, 48);
    let (again, report) = loaded::<Cpu>(&again);
    assert!(report.resized.is_empty());
    assert_eq!(logits(&again, 48), found);

    // Grids of any size, from 5 x 5 and three values each.
    let table = weights("table", &[1, 26, 3]);
    for case in expected["tables"].as_array().unwrap() {
        let found = resized_by_loading(&table, side(case));
        let what = format!("positions of {0} x {0} patches", side(case));
        assert_close(&what, &found, &numbers(&case["values"]), 1e-6);
    }
}

/// A table of positions as a model of so many patches a side loads it.
fn resized_by_loading(table: &HostTensor, patches: usize) -> Vec<f32> {
    let mut tiny = case("vit");
    let arguments = &mut tiny["config"]["model_args"];
    (arguments["embed_dim"], arguments["num_heads"]) = (3.into(), 1.into());
    let shapes = tiny["tensors"].as_object_mut().unwrap();
    for shape in shapes.values_mut() {
        // 32 channels become three: of all widths here, the heads' 3 x 32 and the inner 4 x 32 among them.
        let narrow = |n: f32| if n >= 32.0 { n / 32.0 * 3.0 } else { n };
        let narrowed: Vec<usize> = numbers(shape).iter().map(|&n| narrow(n) as usize).collect();
        *shape = narrowed.into();
    }
    shapes.insert("pos_embed".into(), table.shape.clone().into());
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), &tiny, as_is, |name| {
        if name == "pos_embed" {
            "table".into()
        } else {
            name.to_owned()
        }
    });
    let pretrained = Pretrained::open(folder.path()).unwrap();
    let pretrained = pretrained.with_picture_size(8 * patches, None);
    let (net, _) = loaded::<Cpu>(&pretrained);
    let mut found = Vec::new();
    params::visit(&net, &mut |param: ParamRef<'_, Cpu>| {
        if param.path == "backbone.pos_embed" {
            found = rekindle_nn::host::to_host::<Cpu>(param.value)
                .unwrap()
                .values;
        }
    });
    found
}

/// 20 steps of AdamW on pictures by the formula; the losses, and the model.
fn trained(mut net: Model<Tuning>) -> (Vec<f32>, Model<Tuning>) {
    const STEPS: usize = 20;
    let names = net.names();
    let mut optimizer = Optimizer::<Tuning>::new(OptimizerConfig {
        weight_decay: 0.05,
        ..OptimizerConfig::default()
    });
    let mut losses = Vec::new();
    for step in 0..STEPS {
        let x = pictures(&format!("step {step}"), 4, 32);
        let value = loss(&net, x, Pass::training(0, step as u64));
        losses.extend(values(value.clone()));
        let mut grads = Gradients::default();
        grads.backward(&value, &net, names);
        net = optimizer.step(net, grads, 2e-3, 1.0, &|_| 1.0, names);
    }
    (losses, net)
}

fn same_training(what: &str, net: Model<Tuning>) -> Model<Tuning> {
    let expected = &fixture()["training"][what];
    let (losses, net) = trained(net);
    let apart = assert_close(what, &losses, &numbers(&expected["losses"]), LOSS);
    let after = assert_close(
        what,
        &logits(&net, 32),
        &numbers(&expected["logits_after"]),
        LOSS,
    );
    println!("{what}: 20 losses within {apart:.1e}, logits behind them within {after:.1e}");
    net
}

#[test]
fn twenty_steps_are_those_of_pytorch() {
    let (_folder, pretrained) = opened(&case("vit"));
    same_training("full", loaded(&pretrained).0);
}

fn lora(layers: &[&str], head: &str) -> LoraConfig {
    let layers = layers.iter().map(|layer| (*layer).to_owned());
    LoraConfig {
        r: 2,
        lora_alpha: 4.0,
        target_modules: TargetModules::Suffixes(layers.collect()),
        modules_to_save: vec![head.into()],
        ..LoraConfig::default()
    }
}

/// With fresh adapters whose A is the formula's.
fn adapted(pretrained: &Pretrained, config: &LoraConfig) -> Model<Tuning> {
    let device = Default::default();
    let (net, _) = loaded::<Tuning>(pretrained);
    let names = net.names();
    let (net, _) = rekindle_peft::inject(net, config, names, 0, &device).unwrap();
    let net = params::map(net, &mut |param: ParamRef<'_, Tuning>| {
        let name = names.published(param.path);
        let value = match name.strip_suffix(".adapter.lora_a") {
            None => param.value,
            Some(layer) => {
                let host = weights(&format!("{layer}.lora_A.weight"), param.shape.as_slice());
                rekindle_nn::host::from_host::<Tuning>(host, &device)
            }
        };
        Mapped {
            value,
            trainable: param.trainable,
        }
    });
    let whole = &config.modules_to_save;
    rekindle_peft::set_trainable(net, Trainable::AsIs, whole, &[], &[], names).unwrap()
}

const OF_MOBILENET: [&str; 7] = [
    "conv_stem",
    "conv_pw",
    "se.conv_reduce",
    "se.conv_expand",
    "conv_pwl",
    "conv",
    "conv_head",
];
const OF_VIT: [&str; 4] = ["attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2"];

#[test]
fn twenty_steps_with_lora_are_those_of_peft() {
    let (_folder, pretrained) = opened(&case("vit"));
    let config = lora(&OF_VIT, "head");
    let net = same_training("lora", adapted(&pretrained, &config));
    let saved = tempfile::tempdir().unwrap();
    rekindle_peft::save(&net, &config, net.names(), saved.path()).unwrap();
    keep(saved.path(), "adapter_vit");
    // A merged model computes the same.
    let before = logits(&net, 32);
    let merged = rekindle_peft::merge(net);
    assert_close("merged", &logits(&merged, 32), &before, 1e-5);

    for (name, layers, head) in [
        ("convnext", &["mlp.fc1", "mlp.fc2"][..], "head.fc"),
        (
            "convnext_of_convolutions",
            &["mlp.fc1", "mlp.fc2"][..],
            "head.fc",
        ),
        ("mobilenet_small", &OF_MOBILENET[..], "classifier"),
        ("resnet", &["conv1", "conv2", "downsample.0"][..], "fc"),
    ] {
        let (_folder, pretrained) = opened(&case(name));
        let config = lora(layers, head);
        let net = same_training(&format!("lora_{name}"), adapted(&pretrained, &config));
        let saved = tempfile::tempdir().unwrap();
        rekindle_peft::save(&net, &config, net.names(), saved.path()).unwrap();
        keep(saved.path(), &format!("adapter_{name}"));
        let expected = logits(&net, 32);
        let (base, names) = (loaded::<Cpu>(&pretrained).0, net.names());
        let again = rekindle_peft::load(base, saved.path(), &[head], names, &Default::default());
        let (again, _) = again.unwrap();
        assert_eq!(logits(&again, 32), expected, "{name}");
        let merged = rekindle_peft::merge(again);
        assert_close("merged", &logits(&merged, 32), &expected, 1e-4);
    }
}

#[test]
fn an_adapter_of_peft_is_read() {
    let (_folder, pretrained) = opened(&case("vit"));
    let (net, _) = loaded::<Cpu>(&pretrained);
    let (names, device) = (net.names(), Default::default());
    let dir = golden("tiny_pictures").join("adapter");
    let (net, _) = rekindle_peft::load(net, &dir, &["head"], names, &device).unwrap();
    let expected = numbers(&fixture()["training"]["lora"]["logits_after"]);
    assert_close("PEFT's adapter", &logits(&net, 32), &expected, LOGITS);
}

/// Frozen units at the bottom put out maps whose sides are known, so that they can be kept.
#[test]
fn maps_between_units_have_the_sides_that_are_told() {
    for name in [
        "vit",
        "mean",
        "dinov2_registers",
        "convnext",
        "mobilenet_small",
        "resnet",
    ] {
        let case = case(name);
        let (_folder, pretrained) = opened(&case);
        let (net, _) = loaded::<Cpu>(&pretrained);
        let expected = logits(&net, side(&case));
        for units in 0..net.units() {
            let input = pictures::<Cpu>("input", 2, side(&case));
            let x = net.begin(input.into(), units, Pass::evaluation());
            let rekindle_models::Activations::Map(map) = &x else {
                panic!("{name}: no map after {units} units");
            };
            let [n, rows, columns, _] = map.dims();
            assert_eq!(n, 2);
            assert_eq!(
                [rows, columns],
                net.map_after(units, side(&case)),
                "{name}, {units}"
            );
            let x = net.finish(x, units, Pass::evaluation());
            assert_eq!(values(net.head(x, Pass::evaluation())), expected, "{name}");
        }
        let blocks = net.blocks();
        assert!(net.last_units(blocks) <= net.units(), "{name}");
        params::visit(&net, &mut |param: ParamRef<'_, Cpu>| {
            let published = net.names().published(param.path);
            let unit = net.unit_of(&published);
            assert_eq!(
                unit.is_none(),
                net.is_head(&published),
                "{name}, {published}"
            );
            assert!(
                unit.is_none_or(|unit| unit < net.units()),
                "{name}, {published}"
            );
        });
    }
}

/// The configuration that timm reads says what the network is, whatever its name says.
#[test]
fn a_saved_configuration_tells_the_network() {
    let arguments = |name: &str| -> Map<String, Value> {
        let (_folder, pretrained) = opened(&case(name));
        let config: &ModelConfig = pretrained.config();
        let head = head(labels(CLASSES), None, true);
        let json = config.to_json(&head, config.reads());
        json["model_args"].as_object().unwrap().clone()
    };
    let deit3 = arguments("deit3");
    assert_eq!(deit3["no_embed_class"], true);
    assert_eq!(deit3["init_values"], 1e-5);
    assert_eq!(deit3["img_size"], 32);
    let registers = arguments("dinov2_registers");
    assert_eq!(registers["reg_tokens"], 4);
    let mean = arguments("mean_pooled");
    assert_eq!(mean["global_pool"], "avg");
    assert_eq!(mean["fc_norm"], true);
    assert_eq!(arguments("clip")["pre_norm"], true);
    assert_eq!(arguments("convnext_of_convolutions")["conv_mlp"], true);
}

/// Two folders of the fixture's pictures of odd kinds.
fn folders(dir: &Path) -> std::path::PathBuf {
    let from = golden("transforms").join("pictures");
    let all = dir.join("photos");
    for (label, names) in [
        (
            "turned",
            [
                "exif1.jpg",
                "exif3.jpg",
                "exif5.jpg",
                "exif7.jpg",
                "exif8.jpg",
                "baseline.jpg",
            ],
        ),
        (
            "pale",
            [
                "grey.png",
                "grey.jpg",
                "rgb.png",
                "palette.png",
                "strip.png",
                "plain.bmp",
            ],
        ),
    ] {
        std::fs::create_dir_all(all.join(label)).unwrap();
        for name in names {
            std::fs::copy(from.join(name), all.join(label).join(name)).unwrap();
        }
    }
    all
}

/// From a folder of pictures to an adapter, at another picture size than the model's; and the adapter merged.
#[test]
fn a_run_with_lora_ends_with_an_adapter_that_is_used_as_it_was_trained() {
    let folder = tempfile::tempdir().unwrap();
    let photos = folders(folder.path());
    for (name, side) in [("vit", 48), ("convnext", 64)] {
        let model = folder.path().join(name);
        std::fs::create_dir(&model).unwrap();
        write(&model, &case(name), as_is, as_is);
        let run = folder.path().join(format!("run-{name}"));
        let settings = [
            "task=image-classification".to_owned(),
            format!("model.name={}", model.display()),
            format!("data.train={}", photos.display()),
            format!("data.validation={}", photos.display()),
            format!("output_dir={}", run.display()),
            format!("images.size={side}"),
            "peft.method=lora".to_owned(),
            "train.epochs=4".to_owned(),
            "train.batch_size=4".to_owned(),
        ];
        let settings = settings.iter().map(|setting| Override::set(setting));
        let config = RunConfig::load(None, &settings.collect::<Vec<_>>()).unwrap();
        let finished = rekindle::finetune(&config, &Silent).unwrap();
        let adapter = rekindle_peft::read_config(&finished.final_dir).unwrap();
        let layers: &[&str] = if name == "vit" { &OF_VIT } else { &OF_VIT[2..] };
        let mut targets = match adapter.target_modules {
            TargetModules::Suffixes(targets) => targets,
            other => panic!("{other}"),
        };
        let mut layers: Vec<&str> = layers.to_vec();
        targets.sort();
        layers.sort_unstable();
        assert_eq!(targets, layers);
        assert_eq!(adapter.task_type, None);

        let scored = |dir: &Path| -> f64 {
            let mut predictor = Predictor::open(dir, Device::Cpu, &Silent).unwrap();
            let config = predictor.configure(&[]).unwrap();
            let evaluated = predictor.evaluate(&photos, &config, &Silent).unwrap();
            evaluated.figures.get("loss").unwrap()
        };
        let loss = finished.figures.get("loss").unwrap();
        assert!((scored(&finished.final_dir) - loss).abs() < 1e-5, "{name}");
        let merged = folder.path().join(format!("merged-{name}"));
        let made =
            rekindle::merge(&finished.final_dir, &merged, None, Device::Cpu, &Silent).unwrap();
        assert!(made.largest_difference < 1e-4, "{name}: {made:?}");
        assert!((scored(&merged) - loss).abs() < 1e-4, "{name}");
    }
}
