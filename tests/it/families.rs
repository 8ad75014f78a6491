//! DistilBERT, RoBERTa, XLM-RoBERTa, ELECTRA, ModernBERT, ALBERT, MPNet and DeBERTa: states, logits, gradients, training steps, token ids and every way of storing a
//! checkpoint, as transformers has them; and BERT checkpoints that were saved from other heads.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use burn::tensor::backend::Backend;
use rekindle::config::Device;
use rekindle::{Prediction, Predictor, RunConfig, Silent};
use rekindle_data::{EncodedSet, Targets, TextEncoder};
use rekindle_models::{HeadSpec, LoadReport, Model, ModelError, Pretrained, Problem, Reads};
use rekindle_nn::{Pass, params};
use rekindle_train::{OptimizerConfig, Schedule, TrainConfig, Warmup};
use rekindle_weights::WeightFiles;
use serde_json::Value;

use crate::support::{
    Cpu, Texts, Tuning, assert_close, assert_same_bits, class_targets, golden, gradient, gradients,
    head, hidden_states, ids, json, labels, logits_alone, norm, numbers, packed, read, relative,
    run, run_difference, set, state, tiny, train_config, trainable, values,
};

/// Fixture folders, and the family that each must be taken for.
pub const FAMILIES: [(&str, &str); 8] = [
    ("tiny_distilbert", "distilbert"),
    ("tiny_roberta", "roberta"),
    ("tiny_xlm_roberta", "xlm-roberta"),
    ("tiny_electra", "electra"),
    ("tiny_modernbert", "modernbert"),
    ("tiny_albert", "albert"),
    ("tiny_mpnet", "mpnet"),
    ("tiny_deberta", "deberta-v2"),
];

/// Absolute, on states and logits of magnitude 1 to 3, which the fixtures have in float64: f32 rounds them by about 1e-6.
/// A position that is off by one, another epsilon or activation differs by 1e-3 or more.
const FORWARD: f32 = 1e-5;

/// Relative (see `support::relative`); a wrong backward pass is wrong in the first digit.
const GRADIENT: f32 = 1e-4;

/// Absolute, for key biases and the unused rows of embeddings, whose true gradient is 0.
const ZERO_GRADIENT: f32 = 1e-6;

/// Absolute, on losses of 20 steps. Leaving out weight decay or clipping moves them by more than 1e-2.
const LOSS: f64 = 1e-4;

/// Relative, on gradient norms of 20 steps.
const GRAD_NORM: f64 = 1e-4;

/// Relative: the schedules are the same formula in f64.
const LEARNING_RATE: f64 = 1e-12;

/// Absolute, on logits after 20 steps at a rate of 2e-3.
const LOGITS_AFTER: f32 = 1e-4;

/// A model with a head for `outputs` labels.
fn open<B: Backend>(
    dir: &Path,
    outputs: usize,
    require: bool,
    device: &B::Device,
) -> Result<(Model<B>, LoadReport), ModelError> {
    let pretrained = Pretrained::open(dir)?;
    let labels = match pretrained.config().labels.len() == outputs {
        true => pretrained.config().labels.clone(),
        false => labels(outputs),
    };
    let head = HeadSpec {
        outputs,
        labels,
        problem: Problem::SingleLabel,
        reads: None,
        seed: 42,
        require,
    };
    Model::from_pretrained(&pretrained, &head, device)
}

/// The fixture's model with its own head, of which nothing is new and nothing left over.
pub fn whole<B: Backend>(dir: &Path, device: &B::Device) -> Model<B> {
    let (model, report) = open(dir, 3, true, device).unwrap();
    assert!(report.initialised.is_empty(), "{dir:?}: {report:?}");
    model
}

fn variants(folder: &str) -> BTreeMap<String, PathBuf> {
    let expected = json(&format!("{folder}/expected.json"));
    let names = expected["variants"].as_object().unwrap().keys();
    names
        .map(|name| (name.clone(), golden(folder).join("variants").join(name)))
        .collect()
}

fn strings(value: &Value) -> Vec<String> {
    let list = value.as_array().unwrap().iter();
    list.map(|item| item.as_str().unwrap().to_owned()).collect()
}

#[test]
fn each_is_taken_for_its_family() {
    for (folder, family) in FAMILIES {
        let pretrained = Pretrained::open(&golden(folder).join("model")).unwrap();
        let config = pretrained.config();
        assert_eq!(config.family, family);
        assert_eq!(config.outputs, 3, "{family}");
        assert_eq!(
            config.labels,
            ["complaint", "praise", "question"],
            "{family}"
        );
        let text = config.text.as_ref().unwrap();
        assert_eq!(text.positions, 30, "{family}: usable positions");
        assert_eq!(
            (text.hidden_size, text.intermediate_size),
            (32, 37),
            "{family}"
        );
    }
}

#[test]
fn states_and_logits_of_packed_texts() {
    let device = Default::default();
    for (folder, family) in FAMILIES {
        let fixture = json(&format!("{folder}/expected.json"));
        let cases = set(&fixture["cases"]);
        let model = whole::<Cpu>(&golden(folder).join("model"), &device);
        let input = packed(&cases, &device);
        let expected = WeightFiles::open(&golden(folder).join("states.safetensors")).unwrap();
        let states = hidden_states(&model, &input);
        assert_eq!(
            states.len(),
            expected
                .names()
                .filter(|name| name.starts_with("hidden"))
                .count()
        );
        let mut largest: f32 = 0.0;
        for (n, state) in states.into_iter().enumerate() {
            let expected = read(&expected, &format!("hidden_states.{n}")).values;
            let what = format!("{family}, hidden state {n}");
            largest = largest.max(assert_close(&what, &values(state), &expected, FORWARD));
        }
        let expected = logits_of(&fixture["cases"]);
        let found = values(model.forward(input.into(), Pass::evaluation()));
        largest = largest.max(assert_close(family, &found, &expected, FORWARD));
        // A text alone gives what it gives among others.
        let alone = logits_alone(&model, &cases, &device);
        largest = largest.max(assert_close(family, &alone, &expected, FORWARD));
        println!("{family}: states and logits within {largest:.1e}");
    }
}

fn logits_of(cases: &Value) -> Vec<f32> {
    let cases = cases.as_array().unwrap().iter();
    cases.flat_map(|case| numbers(&case["logits"])).collect()
}

#[test]
fn gradients_of_every_parameter() {
    let device = Default::default();
    for (folder, family) in FAMILIES {
        let fixture = json(&format!("{folder}/expected.json"));
        let cases = set(&fixture["cases"]);
        let expected = WeightFiles::open(&golden(folder).join("gradients.safetensors")).unwrap();
        let model = whole::<Tuning>(&golden(folder).join("model"), &device);
        let input = packed(&cases, &device);
        let (grads, loss) = gradients(&model, &input, &class_ids(&cases), Pass::evaluation());
        assert_close("loss", &[loss], &numbers(&fixture["loss"]), FORWARD);

        let parameters = state(&model);
        assert!(
            expected.names().eq(parameters.keys()),
            "{family}: the parameters have transformers' names"
        );
        let mut largest = (0.0, String::new());
        for name in expected.names() {
            let expected = read(&expected, name).values;
            let found = gradient(&grads, name)
                .unwrap_or_else(|| panic!("{family}: `{name}` has no gradient"));
            let rms = norm(&expected) / (expected.len() as f32).sqrt();
            // Softmax cancels the biases of keys.
            if rms < ZERO_GRADIENT {
                assert_close(name, &found, &expected, ZERO_GRADIENT);
                let of_keys = ["key.bias", "k_lin.bias", "attn.k.bias"];
                assert!(of_keys.iter().any(|end| name.ends_with(end)), "{name}");
                continue;
            }
            let apart = relative(&found, &expected, rms);
            assert!(
                apart <= GRADIENT,
                "{family}, `{name}`: a value differs by {apart:e} of itself, allowed {GRADIENT:e}"
            );
            if apart > largest.0 {
                largest = (apart, name.to_owned());
            }
        }
        println!(
            "{family}: gradients within {:.1e} of themselves (`{}`)",
            largest.0, largest.1
        );
    }
}

/// The cases of all steps one after the other: batches of four, the last one of three.
fn in_steps(cases: &EncodedSet, steps: &Value) -> EncodedSet {
    let batches = steps.as_array().unwrap().iter();
    let order: Vec<usize> = batches
        .flat_map(|step| ids(&step["batch"]))
        .map(|index| index as usize)
        .collect();
    let classes = class_ids(cases);
    EncodedSet {
        items: order.iter().map(|&i| cases.items[i].clone()).collect(),
        targets: class_targets(order.iter().map(|&i| classes[i]).collect()),
    }
}

/// The class of each case.
pub fn class_ids(cases: &EncodedSet) -> Vec<u32> {
    match &cases.targets {
        Targets::Class(ids) => ids.clone(),
        other => panic!("the fixture's targets are {other:?}"),
    }
}

/// 20 steps with a decay of 0.5 and clipping at 0.5, which both show.
#[test]
fn training_steps() {
    let device = Default::default();
    for (folder, family) in FAMILIES {
        let fixture = json(&format!("{folder}/training.json"));
        let cases = set(&json(&format!("{folder}/expected.json"))["cases"]);
        let number = |key: &str| fixture[key].as_f64().unwrap();
        let config = TrainConfig {
            schedule: Schedule::Linear,
            warmup: Warmup::Steps(number("warmup_steps") as u64),
            optimizer: OptimizerConfig {
                weight_decay: number("weight_decay"),
                ..OptimizerConfig::default()
            },
            max_grad_norm: number("max_grad_norm"),
            ..train_config(number("learning_rate"))
        };
        let model = whole::<Tuning>(&golden(folder).join("model"), &device).with_dropout(0.0);
        let (_, trained) = params::count(&model);
        assert_eq!(trained as f64, number("trained_parameters"), "{family}");
        let job = Texts::<Tuning>::in_order(in_steps(&cases, &fixture["steps"]), 4);
        let (model, steps) = run(&job, model, &config);
        let apart = run_difference(&steps, &fixture["steps"]);
        println!("{family}: {apart}");
        assert!(apart.loss <= LOSS, "{family}: {apart:?}");
        assert!(apart.learning_rate <= LEARNING_RATE, "{family}: {apart:?}");
        assert!(apart.grad_norm <= GRAD_NORM, "{family}: {apart:?}");
        let found = logits_alone(&model, &cases, &device);
        let expected = numbers(&fixture["logits_after"]);
        let largest = assert_close(family, &found, &expected, LOGITS_AFTER);
        println!("{family}: logits after 20 steps within {largest:.1e}");
    }
}

/// Published names of a report, sorted; `position_ids` are left out, as transformers drops them in silence.
fn names<T>(entries: &[(String, T)]) -> Vec<String> {
    let names = entries.iter().map(|(name, _)| {
        name.replace("LayerNorm.gamma", "LayerNorm.weight")
            .replace("LayerNorm.beta", "LayerNorm.bias")
    });
    let mut names: Vec<_> = names
        .filter(|name| !name.ends_with("position_ids"))
        .collect();
    names.sort();
    names
}

/// Reads a variant as a classifier of `outputs` labels and compares what is new and what is ignored with what transformers
/// says; the output of its one layer, or of all, must be `states`.
fn check_variant(
    name: &str,
    dir: &Path,
    outputs: usize,
    expected: &Value,
    cases: &EncodedSet,
    states: &[f32],
) -> Model<Cpu> {
    let device = Default::default();
    let (model, report) = open::<Cpu>(dir, outputs, false, &device).unwrap();
    assert_eq!(
        names(&report.initialised),
        strings(&expected["initialised"]),
        "{name}: new"
    );
    assert_eq!(
        names(&report.ignored),
        strings(&expected["ignored"]),
        "{name}: ignored"
    );
    let found = hidden_states(&model, &packed(cases, &device))
        .pop()
        .unwrap();
    let largest = assert_close(name, &values(found), states, FORWARD);
    println!("{name}: the backbone's output within {largest:.1e}");
    model
}

#[test]
fn checkpoints_of_other_heads_and_versions() {
    let device = Default::default();
    for (folder, _) in FAMILIES {
        let fixture = json(&format!("{folder}/expected.json"));
        let cases = set(&fixture["cases"]);
        let states = WeightFiles::open(&golden(folder).join("states.safetensors")).unwrap();
        for (name, dir) in variants(folder) {
            let expected = &fixture["variants"][&name];
            let complete = strings(&expected["initialised"]).is_empty();
            let layers = states.names().filter(|name| name.starts_with("hidden"));
            let last = format!("hidden_states.{}", layers.count() - 1);
            // Where a norm stands behind the last layer, the first layer's output is another if it is the last.
            let alone = states.names().find(|name| *name == "first_layer_alone");
            let layer = match complete {
                true => &last,
                false => alone.unwrap_or("hidden_states.1"),
            };
            let states = read(&states, layer).values;
            let what = format!("{folder}, {name}");
            let model = check_variant(&what, &dir, 3, expected, &cases, &states);
            // Where the head must be there, its absence is an error that names it.
            match open::<Cpu>(&dir, 3, true, &device) {
                Ok(_) => assert!(complete, "{what}: a head was required and made"),
                Err(ModelError::Missing { names, .. }) => {
                    let mut names = names;
                    names.sort();
                    assert_eq!(names, strings(&expected["initialised"]), "{what}");
                }
                Err(other) => panic!("{what}: {other}"),
            }
            if complete {
                let expected = logits_of(&fixture["cases"]);
                let found = logits_alone(&model, &cases, &device);
                assert_close(&what, &found, &expected, FORWARD);
            }
        }
    }
}

#[test]
fn bert_checkpoints_of_other_heads() {
    let device = Default::default();
    let fixture = json("tiny_bert_variants/expected.json");
    let of_tiny = json("tiny_bert/expected.json");
    let cases = set(&of_tiny["cases"]);
    let states: Vec<f32> = of_tiny["cases"]
        .as_array()
        .unwrap()
        .iter()
        .flat_map(|case| numbers(&case["hidden_states"][1]))
        .collect();
    for (name, dir) in variants("tiny_bert_variants") {
        let expected = &fixture["variants"][&name];
        let model = check_variant(&name, &dir, 3, expected, &cases, &states);
        // As in transformers, a pooler that is missing is made and trained.
        assert_eq!(model.reads(), Reads::First, "{name}");
        let trained = open::<Tuning>(&dir, 3, false, &device).unwrap().0;
        let trained = trainable(&trained);
        assert!(
            trained
                .iter()
                .any(|name| name == "bert.pooler.dense.weight"),
            "{name}"
        );
    }
}

/// BERT and DistilBERT call the head of a token classifier as they call a sequence classifier's. Its five rows are not
/// a sequence classifier of five labels.
#[test]
fn a_token_classifier_is_no_sequence_classifier_of_as_many_labels() {
    let device = Default::default();
    for folder in [
        "tiny_bert_variants",
        "tiny_distilbert",
        "tiny_roberta",
        "tiny_electra",
        "tiny_modernbert",
        "tiny_albert",
        "tiny_mpnet",
        "tiny_deberta",
    ] {
        let dir = golden(folder).join("variants/token_classification");
        let pretrained = Pretrained::open(&dir).unwrap();
        let problem = pretrained.config().problem;
        assert_eq!(problem, Some(Problem::Tokens), "{folder}");
        let (_, report) = open::<Cpu>(&dir, 5, false, &device).unwrap();
        let new = names(&report.initialised);
        let head = match folder {
            "tiny_roberta" | "tiny_electra" | "tiny_mpnet" => "classifier.out_proj.weight",
            _ => "classifier.weight",
        };
        assert!(
            new.iter().any(|name| name == head),
            "{folder}: new are {new:?}"
        );
    }
}

/// Frozen layers and gradient checkpointing stop behind any unit and go on from there.
#[test]
fn units_one_by_one_are_the_whole() {
    let device = Default::default();
    for (folder, family) in FAMILIES {
        let cases = set(&json(&format!("{folder}/expected.json"))["cases"]);
        let model = whole::<Cpu>(&golden(folder).join("model"), &device);
        let (input, pass) = (packed(&cases, &device), Pass::evaluation());
        let expected = values(model.forward(input.clone().into(), pass));
        for units in 0..=model.units() {
            let x = model.begin(input.clone().into(), units, pass);
            let x = model.finish(x, units, pass);
            assert_eq!(values(model.head(x, pass)), expected, "{family}, {units}");
        }
        let mut parameters = vec![0; model.units()];
        for name in state(&model).keys() {
            if let Some(unit) = model.unit_of(name) {
                parameters[unit] += 1;
            }
        }
        assert!(
            parameters.iter().all(|count| *count > 0),
            "{family}: {parameters:?}"
        );
    }
}

/// Settings that a family's `model` does not have.
#[test]
fn classifiers_with_other_settings() {
    let device = Default::default();
    for (folder, name) in [
        ("tiny_modernbert", "mean"),
        ("tiny_modernbert", "local_last"),
        ("tiny_modernbert", "biased"),
        ("tiny_albert", "groups"),
    ] {
        let fixture = json(&format!("{folder}/expected.json"));
        let cases = set(&fixture["cases"]);
        let dir = golden(folder).join("variants").join(name);
        let model = whole::<Cpu>(&dir, &device);
        let expected = numbers(&fixture["other_logits"][name]);
        let found = values(model.forward(packed(&cases, &device).into(), Pass::evaluation()));
        let largest = assert_close(name, &found, &expected, FORWARD);
        println!("{folder}, {name}: logits within {largest:.1e}");

        // Saved again, transformers finds its own key for what the head reads.
        let saved = tempfile::tempdir().unwrap();
        let pretrained = Pretrained::open(&dir).unwrap();
        let labels = pretrained.config().labels.clone();
        let head = head(labels, None, true);
        model
            .save_pretrained(saved.path(), pretrained.config(), &head)
            .unwrap();
        let read = |dir: &Path, key: &str| {
            let config = rekindle_models::read_config(dir).unwrap();
            config.get(key).cloned()
        };
        let key = "classifier_pooling";
        assert_eq!(read(saved.path(), key), read(&dir, key), "{name}");
        assert_eq!(read(saved.path(), "rekindle_pooling"), None, "{name}");
    }
}

/// Fixture folders with an adapter that PEFT made.
const WITH_ADAPTER: [&str; 3] = ["tiny_electra", "tiny_modernbert", "tiny_albert"];

#[test]
fn adapters_of_peft_predict_the_same_here() {
    let device = Default::default();
    for folder in WITH_ADAPTER {
        let fixture = json(&format!("{folder}/expected.json"));
        let cases = set(&fixture["cases"]);
        let base = whole::<Cpu>(&golden(folder).join("model"), &device);
        let (names, dir) = (base.names(), golden(folder).join("adapter"));
        let heads = ["classifier", "score"];
        let (model, _) = rekindle_peft::load(base, &dir, &heads, names, &device).unwrap();
        let expected = numbers(&fixture["adapter_logits"]);
        let found = logits_alone(&model, &cases, &device);
        let largest = assert_close(folder, &found, &expected, FORWARD);
        let merged = rekindle_peft::merge(model);
        let found = logits_alone(&merged, &cases, &device);
        assert_close(folder, &found, &expected, FORWARD);
        println!("{folder}: logits with PEFT's adapter within {largest:.1e}");
    }
}

/// Those of attention's layers, which DeBERTa uses twice, and of a head that is saved with them.
#[test]
fn a_peft_adapter_predicts_the_same_here_and_merged() {
    let device = Default::default();
    for folder in ["tiny_mpnet", "tiny_deberta"] {
        let cases = set(&json(&format!("{folder}/expected.json"))["cases"]);
        let expected = numbers(&json(&format!("{folder}/adapter.json"))["logits"]);
        let base = whole::<Cpu>(&golden(folder).join("model"), &device);
        let names = base.names();
        let dir = golden(folder).join("adapter");
        let (model, config) =
            rekindle_peft::load(base, &dir, &["classifier", "score"], names, &device).unwrap();
        let found = logits_alone(&model, &cases, &device);
        let largest = assert_close(folder, &found, &expected, FORWARD);
        println!("{folder}, adapter: logits within {largest:.1e}");
        // Written again, it is the same adapter.
        let again = tempfile::tempdir().unwrap();
        rekindle_peft::save(&model, &config, names, again.path()).unwrap();
        let [ours, theirs] = [again.path(), dir.as_path()].map(|dir| {
            let files = WeightFiles::open(&dir.join("adapter_model.safetensors")).unwrap();
            let tensors = files
                .names()
                .map(|name| (name.to_owned(), read(&files, name)));
            tensors.collect::<BTreeMap<_, _>>()
        });
        assert_same_bits(folder, &ours, &theirs);
        let merged = rekindle_peft::merge(model);
        let found = logits_alone(&merged, &cases, &device);
        assert_close(folder, &found, &expected, FORWARD);
    }
}

/// Runs through the public interface: the same with gradient checkpointing, where units share a table, as without. Where DeBERTa's
/// table trains, its gradient goes through its norm once a unit instead of once, and only rounding differs.
#[test]
fn runs_by_every_method() {
    let folder = tempfile::tempdir().unwrap();
    let texts = [
        "i want my money back",
        "great day",
        "how do i change the password",
        "broken",
    ];
    let texts =
        texts.map(|text| format!("{text} please, the card was lost and thanks for nothing"));
    let classes = ["complaint", "praise", "question", "complaint"];
    let rows = texts.iter().zip(classes);
    let rows: Vec<String> = rows
        .map(|(text, label)| format!("{text}\t{label}\n"))
        .collect();
    let train = folder.path().join("train.tsv");
    std::fs::write(&train, format!("text\tlabel\n{}", rows.concat().repeat(4))).unwrap();
    for name in ["tiny_mpnet", "tiny_deberta"] {
        for (method, rest, weights) in [
            ("lora", "", "adapter_model.safetensors"),
            ("full", "", "model.safetensors"),
            ("full", "train_last = 1\n", "model.safetensors"),
            ("head", "", "model.safetensors"),
        ] {
            let saved = |checkpointing: bool| {
                let run = format!("{name}-{method}-{}-{checkpointing}", rest.len());
                let run = folder.path().join(run);
                let file = run.with_extension("toml");
                let text = format!(
                    "output_dir = {run:?}\n[model]\nname = {:?}\n[data]\ntrain = {train:?}\n\
                     [peft]\nmethod = \"{method}\"\n{rest}\
                     [train]\nepochs = 1\nbatch_size = 4\nlearning_rate = 0.01\ngradient_checkpointing = {checkpointing}\n",
                    golden(name).join("model")
                );
                std::fs::write(&file, text).unwrap();
                let config = RunConfig::load(Some(&file), &[]).unwrap();
                rekindle::finetune(&config, &Silent).unwrap().final_dir
            };
            let [plain, again] = [false, true].map(saved);
            let bytes = |dir: &Path| std::fs::read(dir.join(weights)).unwrap();
            if name == "tiny_mpnet" || method != "full" {
                assert!(bytes(&plain) == bytes(&again), "{name}, {method} {rest}");
            }
            let probabilities = |dir: &Path| -> Vec<f32> {
                let predictor = Predictor::open(dir, Device::Cpu, &Silent).unwrap();
                let answers = predictor.predict(&texts).unwrap();
                let of = |answer: Prediction| match answer {
                    Prediction::Class { probabilities, .. } => probabilities,
                    other => panic!("{other:?}"),
                };
                let all = answers.into_iter().flat_map(of);
                all.map(|(_, probability)| probability as f32).collect()
            };
            let [plain, again] = [plain, again].map(|dir| probabilities(&dir));
            assert_eq!(plain.len(), 3 * texts.len());
            assert_close(name, &again, &plain, 1e-3);
        }
    }
}

#[test]
fn token_ids() {
    for (folder, family) in FAMILIES {
        let dir = golden(folder).join("model");
        let encoder = TextEncoder::from_dir(&dir, Some(30)).unwrap();
        let fixture = json(&format!("{folder}/expected.json"));
        for case in fixture["texts"].as_array().unwrap() {
            let (text, pair) = (case["text"].as_str().unwrap(), case["text_pair"].as_str());
            let found = encoder.encode(text, pair).unwrap();
            let expected: Vec<u32> = case["input_ids"]
                .as_str()
                .unwrap()
                .split(' ')
                .map(|id| id.parse().unwrap())
                .collect();
            assert_eq!(found.ids, expected, "{family}: {text:?}, {pair:?}");
            let gives_types = ["distilbert", "electra", "deberta-v2"].contains(&family);
            assert!(
                found.type_ids.iter().all(|&id| gives_types || id == 0),
                "{family}: {text:?}"
            );
        }
    }
}

#[test]
fn saved_and_read_again_they_are_the_same_to_the_bit() {
    let device = Default::default();
    let folder = tempfile::tempdir().unwrap();
    let dirs = FAMILIES.map(|(name, _)| golden(name).join("model"));
    for (n, dir) in dirs.iter().chain([&tiny()]).enumerate() {
        let pretrained = Pretrained::open(dir).unwrap();
        let head = HeadSpec {
            outputs: 3,
            labels: pretrained.config().labels.clone(),
            problem: Problem::SingleLabel,
            reads: None,
            seed: 0,
            require: true,
        };
        let (model, _) = Model::<Cpu>::from_pretrained(&pretrained, &head, &device).unwrap();
        let saved = folder.path().join(n.to_string());
        std::fs::create_dir(&saved).unwrap();
        model
            .save_pretrained(&saved, pretrained.config(), &head)
            .unwrap();
        let again = whole::<Cpu>(&saved, &device);
        assert_same_bits(&dir.display().to_string(), &state(&again), &state(&model));
        let config: Value =
            serde_json::from_str(&std::fs::read_to_string(saved.join("config.json")).unwrap())
                .unwrap();
        let original: Value =
            serde_json::from_str(&std::fs::read_to_string(dir.join("config.json")).unwrap())
                .unwrap();
        for key in [
            "model_type",
            "architectures",
            "id2label",
            "pad_token_id",
            "max_position_embeddings",
        ] {
            assert_eq!(config[key], original[key], "{dir:?}: {key}");
        }
    }
}
