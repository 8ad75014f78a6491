//! Model directories that are damaged or odd, and the laws of a backbone's units, on the tiny BERT of `tests/golden` and small
//! residual networks.
#![cfg(feature = "cpu")]
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::{Path, PathBuf};

use burn::backend::Flex;
use burn::tensor::{Tensor, TensorData};
use rekindle_base::HostTensor;
use rekindle_models::image::{Architecture, LiteConfig, Pictures, ResNetConfig};
use rekindle_models::{
    Activations, HeadSpec, Input, Modality, Model, ModelConfig, ModelError, Pretrained, Problem,
    Reads, TextInput,
};
use rekindle_nn::{Pass, Sequences, host, params};
use rekindle_weights::WeightFiles;
use serde_json::{Value, json};
use tempfile::TempDir;

fn golden(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../tests/golden")
        .join(path)
}

fn config_of(dir: &Path) -> Value {
    serde_json::from_str(&fs::read_to_string(dir.join("config.json")).unwrap()).unwrap()
}

/// A copy of the tiny BERT whose `config.json` has these keys changed.
fn tiny_with(changes: &[(&str, Value)]) -> TempDir {
    changed("tiny_bert/model", changes)
}

/// The same of any tiny model.
fn changed(model: &str, changes: &[(&str, Value)]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let from = golden(model);
    let mut config = config_of(&from);
    for (key, value) in changes {
        config[*key] = value.clone();
    }
    fs::write(folder.path().join("config.json"), config.to_string()).unwrap();
    let weights = "model.safetensors";
    fs::copy(from.join(weights), folder.path().join(weights)).unwrap();
    folder
}

/// The tiny BERT with its tensors changed.
fn tiny_of(change: impl FnOnce(&mut Vec<(String, HostTensor)>)) -> TempDir {
    let folder = tiny_with(&[]);
    let files = WeightFiles::find(folder.path()).unwrap();
    let mut tensors: Vec<(String, HostTensor)> = files
        .names()
        .map(|name| (name.to_owned(), files.read(name).unwrap().unwrap()))
        .collect();
    change(&mut tensors);
    let path = folder.path().join("model.safetensors");
    write(&path, &tensors);
    folder
}

fn write(path: &Path, tensors: &[(String, HostTensor)]) {
    let tensors = tensors
        .iter()
        .map(|(name, tensor)| (name.as_str(), tensor.into()));
    rekindle_weights::write(path, tensors, &[]).unwrap();
}

fn error_of(dir: &Path) -> String {
    match Pretrained::open(dir) {
        Ok(_) => panic!("opened"),
        Err(error) => error.to_string(),
    }
}

fn head(outputs: usize, require: bool) -> HeadSpec {
    HeadSpec {
        outputs,
        labels: ["complaint", "praise", "question", "other"][..outputs]
            .iter()
            .map(|label| (*label).to_owned())
            .collect(),
        problem: Problem::SingleLabel,
        reads: None,
        seed: 1,
        require,
    }
}

#[test]
fn what_a_family_adds_to_its_config_is_held_against_the_weights_and_its_own_rules() {
    let huge = 1_000_000_000_000_u64;
    for (model, key, value, named) in [
        ("tiny_electra", "embedding_size", json!(huge), "have 24"),
        ("tiny_electra", "embedding_size", json!(32), "have 24"),
        ("tiny_electra", "hidden_size", json!(64), "have 32"),
        ("tiny_modernbert", "hidden_size", json!(64), "have 32"),
        (
            "tiny_modernbert",
            "intermediate_size",
            json!(huge),
            "have 74",
        ),
        (
            "tiny_modernbert",
            "num_hidden_layers",
            json!(huge),
            "expected at most",
        ),
        (
            "tiny_modernbert",
            "num_hidden_layers",
            json!(2),
            "names 3 layers",
        ),
        (
            "tiny_modernbert",
            "num_attention_heads",
            json!(32),
            "expected an even number",
        ),
        (
            "tiny_modernbert",
            "classifier_pooling",
            json!("max"),
            "expected cls or mean",
        ),
        ("tiny_albert", "num_hidden_groups", json!(3), "have 1"),
        (
            "tiny_albert",
            "num_hidden_groups",
            json!(2),
            "expected a multiple",
        ),
        (
            "tiny_albert",
            "num_hidden_layers",
            json!(huge),
            "expected at most",
        ),
        ("tiny_albert", "inner_group_num", json!(2), "expected 1"),
    ] {
        let folder = changed(&format!("{model}/model"), &[(key, value.clone())]);
        let message = error_of(folder.path());
        assert!(
            message.contains(named),
            "{model}, {key} = {value}: {message}"
        );
    }
}

/// Regression: such sizes were allocated, and the process was killed.
#[test]
fn a_size_that_the_weights_do_not_have_is_refused_by_name() {
    for (key, expected) in [
        ("vocab_size", 120),
        ("hidden_size", 32),
        ("num_hidden_layers", 2),
        ("intermediate_size", 64),
        ("max_position_embeddings", 64),
        ("type_vocab_size", 2),
    ] {
        for value in [1_000_000_000_000_u64, 1] {
            let folder = tiny_with(&[(key, value.into())]);
            let message = error_of(folder.path());
            let named = format!("`{key}` is {value}, but the weights have {expected}");
            assert!(message.contains(&named), "{message}");
            assert!(message.contains("\nhint: "), "{message}");
        }
        // Valid JSON, but no whole number.
        let folder = tiny_with(&[(key, json!(1e12))]);
        let message = error_of(folder.path());
        assert!(message.contains("expected a positive integer"), "{message}");
    }
    let folder = tiny_with(&[("num_attention_heads", 1_000_000_000_000_u64.into())]);
    let message = error_of(folder.path());
    let named = "hidden_size 32 is not a multiple of num_attention_heads 1000000000000";
    assert!(message.contains(named), "{message}");
}

/// What is near a family but not of it says what it is and what to take instead.
#[test]
fn relatives_of_gemma_are_refused_with_a_remedy() {
    for (model_type, what) in [
        ("gemma2", "caps the scores of its attention"),
        ("gemma3", "tower for pictures"),
    ] {
        let message = error_of(tiny_with(&[("model_type", model_type.into())]).path());
        assert!(message.contains(what), "{message}");
        let remedy = message.split_once("\nhint: ").unwrap().1;
        assert!(remedy.contains("gemma3_text"), "{message}");
    }
    let folder = tempfile::tempdir().unwrap();
    let from = golden("tiny_decoders/gemma3/model");
    let mut config = config_of(&from);
    config["use_bidirectional_attention"] = true.into();
    fs::write(folder.path().join("config.json"), config.to_string()).unwrap();
    let weights = "model.safetensors";
    fs::copy(from.join(weights), folder.path().join(weights)).unwrap();
    let message = error_of(folder.path());
    assert!(message.contains("cannot write\nhint: "), "{message}");
}

/// Regression: whichever tensor came last was taken.
#[test]
fn two_tensors_for_one_parameter_are_an_error_that_names_both() {
    for (one, two) in [
        ("bert.pooler.dense.weight", "pooler.dense.weight"),
        ("classifier.bias", "module.classifier.bias"),
        (
            "bert.embeddings.LayerNorm.weight",
            "bert.embeddings.LayerNorm.gamma",
        ),
    ] {
        let folder = tiny_of(|tensors| {
            let tensor = tensors.iter().find(|(name, _)| name == one).unwrap();
            let again = (two.to_owned(), tensor.1.clone());
            tensors.push(again);
        });
        match Pretrained::open(folder.path()) {
            Err(ModelError::Twice {
                parameter, tensors, ..
            }) => {
                assert_eq!(parameter, one);
                let mut found = tensors.clone();
                found.sort();
                let mut expected = [one, two];
                expected.sort_unstable();
                assert_eq!(found, expected);
            }
            Err(other) => panic!("{one} and {two}: {other}"),
            Ok(_) => panic!("{one} and {two}: opened"),
        }
    }
    let folder = tempfile::tempdir().unwrap();
    let conv = HostTensor {
        shape: vec![4, 3, 3, 3],
        values: vec![0.1; 108],
    };
    let tensors = ["conv1.weight", "model.conv1.weight"].map(|name| (name.into(), conv.clone()));
    write(&folder.path().join("model.safetensors"), &tensors);
    let message = error_of(folder.path());
    let named = "the tensors `conv1.weight` and `model.conv1.weight` are both the parameter";
    assert!(message.contains(named), "{message}");
}

/// A quantised weight must not be read as if its integers were the weights.
#[test]
fn a_parameter_that_is_stored_as_integers_is_refused() {
    let folder = tiny_with(&[]);
    let path = folder.path().join("model.safetensors");
    let mut bytes = fs::read(&path).unwrap();
    let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let header = String::from_utf8(bytes[8..8 + length].to_vec()).unwrap();
    let changed = header.replace(
        r#""classifier.bias":{"dtype":"F32""#,
        r#""classifier.bias":{"dtype":"I32""#,
    );
    assert_ne!(header, changed);
    bytes[8..8 + length].copy_from_slice(changed.as_bytes());
    fs::write(&path, bytes).unwrap();
    let pretrained = Pretrained::open(folder.path()).unwrap();
    let message = load(&pretrained, &head(3, true)).unwrap_err().to_string();
    let named = "tensor `classifier.bias` has type I32, expected F32, F16, BF16 or F64";
    assert!(message.contains(named), "{message}");
}

fn load(
    pretrained: &Pretrained,
    head: &HeadSpec,
) -> Result<(Model<Flex>, Vec<String>), ModelError> {
    let (model, report) = Model::from_pretrained(pretrained, head, &Default::default())?;
    let new = report.initialised.into_iter().map(|(name, _)| name);
    Ok((model, new.collect()))
}

#[test]
fn problem_types_are_read_saved_and_refused() {
    let device = Default::default();
    for problem in [
        Problem::SingleLabel,
        Problem::MultiLabel,
        Problem::Regression,
    ] {
        let folder = tiny_with(&[("problem_type", problem.name().into())]);
        let pretrained = Pretrained::open(folder.path()).unwrap();
        let config = pretrained.config();
        assert_eq!(config.problem, Some(problem));
        assert_eq!(config.architectures, ["BertForSequenceClassification"]);
        assert_eq!((config.modality, config.outputs), (Modality::Text, 3));
        // A head for another problem is not the checkpoint's.
        let (_, new) = load(&pretrained, &head(3, false)).unwrap();
        assert_eq!(new.is_empty(), problem == Problem::SingleLabel, "{new:?}");

        let of_problem = HeadSpec {
            problem,
            ..head(3, false)
        };
        let (model, new) = load(&pretrained, &of_problem).unwrap();
        assert!(new.is_empty(), "{new:?}");
        let saved = tempfile::tempdir().unwrap();
        model
            .save_pretrained(saved.path(), config, &of_problem)
            .unwrap();
        let again = Pretrained::open(saved.path()).unwrap();
        assert_eq!(again.config().problem, Some(problem));
    }
    let folder = tiny_with(&[("problem_type", "ranking".into())]);
    let message = error_of(folder.path());
    let named = r#"`problem_type` is "ranking", expected single_label_classification"#;
    assert!(message.contains(named), "{message}");

    // One number has no name; transformers wants one.
    let pretrained = Pretrained::open(&golden("tiny_bert/model")).unwrap();
    let number = HeadSpec {
        outputs: 1,
        labels: Vec::new(),
        problem: Problem::Regression,
        ..head(1, false)
    };
    let model = Model::<Flex>::random(pretrained.config(), &number, &device);
    let saved = tempfile::tempdir().unwrap();
    model
        .save_pretrained(saved.path(), pretrained.config(), &number)
        .unwrap();
    assert_eq!(config_of(saved.path())["id2label"], json!({"0": "LABEL_0"}));
}

#[test]
fn what_a_head_reads_without_being_told() {
    let without_pooler = |architectures: &[&str]| {
        let folder = tiny_of(|tensors| tensors.retain(|(name, _)| !name.contains("pooler")));
        let mut config = config_of(folder.path());
        config["architectures"] = json!(architectures);
        fs::write(folder.path().join("config.json"), config.to_string()).unwrap();
        folder
    };
    // A model of transformers that was tuned for something else has a new pooler, which the report names.
    let folder = without_pooler(&["BertForMaskedLM"]);
    let pretrained = Pretrained::open(folder.path()).unwrap();
    assert_eq!(pretrained.config().reads(), Reads::First);
    let (_, new) = load(&pretrained, &head(3, false)).unwrap();
    let pooler = ["bert.pooler.dense.weight", "bert.pooler.dense.bias"];
    assert_eq!(new, pooler);
    // An encoder by itself is read by its mean.
    let folder = without_pooler(&["BertModel"]);
    let pretrained = Pretrained::open(folder.path()).unwrap();
    assert_eq!(pretrained.config().reads(), Reads::Mean);
    assert!(load(&pretrained, &head(3, false)).unwrap().1.is_empty());
    // Our own key wins.
    let folder = tiny_with(&[("rekindle_pooling", "mean".into())]);
    let pretrained = Pretrained::open(folder.path()).unwrap();
    assert_eq!(pretrained.config().reads(), Reads::Mean);
}

/// Of DeBERTa-v2's settings, those that the v3 models do not have.
#[test]
fn settings_of_relative_positions_that_are_not_computed_are_refused_by_name() {
    for (key, value) in [
        ("relative_attention", json!(false)),
        ("relative_attention", Value::Null),
        ("share_att_key", json!(false)),
        ("share_att_key", Value::Null),
        ("position_biased_input", json!(true)),
        ("position_biased_input", Value::Null),
        ("pos_att_type", json!(["c2p"])),
        ("pos_att_type", json!("p2c")),
        ("pos_att_type", Value::Null),
        ("conv_kernel_size", json!(3)),
        ("embedding_size", json!(16)),
        ("pooler_hidden_size", json!(16)),
        ("attention_head_size", json!(16)),
        ("pooler_dropout", json!(0.1)),
        ("position_buckets", json!(2)),
        ("position_buckets", json!(64)),
        ("position_buckets", json!("many")),
        ("position_buckets", json!(16)),
        ("max_relative_positions", json!(5)),
        ("type_vocab_size", json!(-1)),
        ("hidden_act", json!("mish")),
        ("pooler_hidden_act", json!("tanh")),
    ] {
        let folder = changed("tiny_deberta/model", &[(key, value.clone())]);
        let message = error_of(folder.path());
        // Too few positions for the buckets are told by the name of the buckets.
        let named = match key {
            "max_relative_positions" => "position_buckets",
            other => other,
        };
        assert!(message.contains(named), "{key} {value}: {message}");
    }
    // As older files have it, and as they leave it out.
    for changes in [
        vec![("pos_att_type", json!("c2p|p2c"))],
        vec![("pos_att_type", json!("P2C | C2P"))],
        vec![
            ("conv_kernel_size", json!(0)),
            ("type_vocab_size", Value::Null),
        ],
        vec![("max_relative_positions", json!(30))],
    ] {
        let folder = changed("tiny_deberta/model", &changes);
        Pretrained::open(folder.path()).unwrap();
    }
    for (rows, says) in [
        (31, "expected at least 32"),
        (33, "but the weights have 32"),
    ] {
        let change = [("relative_attention_num_buckets", json!(rows))];
        let message = error_of(changed("tiny_mpnet/model", &change).path());
        assert!(message.contains(change[0].0), "{message}");
        assert!(message.contains(says), "{message}");
    }
}

/// Whoever saved the encoder alone, the head's pooler is for the first token.
#[test]
fn deberta_reads_the_first_token() {
    for name in ["base", "pretrained_old"] {
        let dir = golden("tiny_deberta/variants").join(name);
        let pretrained = Pretrained::open(&dir).unwrap();
        assert_eq!(pretrained.config().reads(), Reads::First, "{name}");
        assert_eq!(pretrained.config().family, "deberta-v2");
        let text = pretrained.config().text.as_ref().unwrap();
        assert_eq!((text.positions, text.type_vocab_size), (30, 0), "{name}");
    }
}

#[test]
fn an_unknown_model_type_is_named_with_those_that_are_known() {
    let folder = tiny_with(&[("model_type", "mamba".into())]);
    let message = error_of(folder.path());
    assert!(message.contains("model_type is `mamba`"), "{message}");
    assert!(
        message.contains(
            "bert, distilbert, roberta, xlm-roberta, electra, modernbert, albert, mpnet, deberta-v2"
        ),
        "{message}"
    );
}

#[test]
fn a_side_or_crop_that_no_picture_has_is_refused() {
    for (change, named) in [
        (
            json!({"input_size": [3, 1_000_000_000_000_u64, 1_000_000_000_000_u64]}),
            "the side of pictures is 1000000000000, expected 1 to 4096",
        ),
        (json!({"crop_pct": 0.0}), "crop_pct is 0"),
        (json!({"std": [0.5, 0.0, 0.5]}), "standard deviation"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let (model, config) = pictures(small_resnet());
        model
            .save_pretrained(folder.path(), &config, &head(3, false))
            .unwrap();
        let mut json = config_of(folder.path());
        for (key, value) in change.as_object().unwrap() {
            json["pretrained_cfg"][key] = value.clone();
        }
        fs::write(folder.path().join("config.json"), json.to_string()).unwrap();
        let message = error_of(folder.path());
        assert!(message.contains(named), "{message}");
    }
}

fn small_resnet() -> Architecture {
    Architecture::ResNet(ResNetConfig {
        stem: 4,
        stem_window: (3, 1, false),
        depths: vec![1, 1],
        widths: vec![4, 8],
        inner: Vec::new(),
        plain_shortcuts: true,
    })
}

fn pictures(architecture: Architecture) -> (Model<Flex>, ModelConfig) {
    let pictures = Pictures {
        size: 32,
        crop: 1.0,
        interpolation: "bilinear".into(),
        mean: [0.5; 3],
        std: [0.5; 3],
    };
    let config = ModelConfig::of_pictures(architecture, pictures);
    let model = Model::random(&config, &head(3, false), &Default::default());
    (model, config)
}

/// Units done in two parts are the units done at once, wherever the cut is, in evaluation and in training.
#[test]
fn begun_and_finished_is_the_whole() {
    let device = Default::default();
    let pretrained = Pretrained::open(&golden("tiny_bert/model")).unwrap();
    let ids: Vec<i32> = (0..9).map(|i| 5 + 7 * i).collect();
    let sequences = Sequences::from_lengths(&[4, 5]);
    let text = || {
        Input::from(TextInput::new(
            ids.clone(),
            vec![0; 9],
            sequences.clone(),
            &device,
        ))
    };
    let values: Vec<f32> = (0..2 * 32 * 32 * 3)
        .map(|i| (i % 17) as f32 / 8.0 - 1.0)
        .collect();
    let picture = || {
        let data = TensorData::new(values.clone(), [2, 32, 32, 3]);
        Input::from(Tensor::<Flex, 4>::from_data(data, &device))
    };
    let of_text = |reads| {
        let head = HeadSpec {
            reads: Some(reads),
            ..head(3, false)
        };
        load(&pretrained, &head).unwrap().0.with_dropout(0.3)
    };
    type Make<'a> = &'a dyn Fn() -> Input<Flex>;
    let cases: [(Model<Flex>, Make<'_>, usize); 4] = [
        (of_text(Reads::First), &text, 3),
        (of_text(Reads::Mean), &text, 3),
        (pictures(small_resnet()).0, &picture, 3),
        (
            pictures(Architecture::EfficientNetLite(LiteConfig(0))).0,
            &picture,
            9,
        ),
    ];
    for (model, input, units) in cases {
        assert_eq!(model.units(), units);
        // Nothing in a model on a backend without gradients trains, and what is frozen has no dropout.
        for pass in [Pass::evaluation(), Pass::training(3, 4)] {
            let whole = host::values(model.forward(input(), pass)).unwrap();
            for cut in 0..=units {
                let begun = model.begin(input(), cut, pass);
                match (&begun, cut) {
                    (Activations::Text(_), 0) => {}
                    (Activations::Pooled(_), cut) => assert_eq!(cut, units),
                    (Activations::Map(_) | Activations::Tokens(..), cut) => assert!(cut < units),
                    (other, cut) => panic!("after {cut} units: {other:?}"),
                }
                let x = model.finish(begun, cut, pass);
                assert!(matches!(x, Activations::Pooled(_)));
                let parts = host::values(model.head(x, pass)).unwrap();
                assert_eq!(parts, whole, "cut at {cut}");
            }
        }
    }
}

#[test]
fn every_parameter_has_its_unit() {
    let (_, of_bert) = {
        let pretrained = Pretrained::open(&golden("tiny_bert/model")).unwrap();
        (
            pretrained.config().clone(),
            load(&pretrained, &head(3, true)).unwrap().0,
        )
    };
    for (name, unit) in [
        ("bert.embeddings.LayerNorm.weight", Some(0)),
        ("bert.encoder.layer.0.attention.self.query.weight", Some(1)),
        ("bert.encoder.layer.1.output.LayerNorm.bias", Some(2)),
        ("bert.pooler.dense.weight", None),
        ("classifier.bias", None),
    ] {
        assert_eq!(of_bert.unit_of(name), unit, "{name}");
    }
    let of_resnet = pictures(small_resnet()).0;
    let of_lite = pictures(Architecture::EfficientNetLite(LiteConfig(0))).0;
    assert_eq!(of_resnet.head_modules(), ["fc"]);
    assert_eq!(of_lite.head_modules(), ["classifier"]);
    for (model, name, unit) in [
        (&of_resnet, "conv1.weight", Some(0)),
        (&of_resnet, "layer2.0.bn1.running_mean", Some(2)),
        (&of_resnet, "fc.weight", None),
        (&of_lite, "conv_stem.weight", Some(0)),
        (&of_lite, "blocks.6.0.bn1.weight", Some(7)),
        (&of_lite, "conv_head.weight", Some(8)),
        (&of_lite, "classifier.weight", None),
    ] {
        assert_eq!(model.unit_of(name), unit, "{name}");
    }
    for model in [&of_bert, &of_resnet, &of_lite] {
        for (path, _) in params::shapes(model) {
            let name = model.names().published(&path);
            assert_eq!(model.names().field(&name), path, "{name}");
            let below = model.unit_of(&name).is_none_or(|unit| unit < model.units());
            assert!(below, "{name}");
        }
    }
    assert_eq!(of_resnet.map_after(3, 32), [16; 2]);
    assert_eq!(of_lite.map_after(1, 224), [112; 2]);
}
