//! Token classification: logits of words, entity F1, and whole runs through the public interface whose 20 losses, gradient norms
//! and final logits are those of transformers.
#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};
use std::sync::Mutex;

use rekindle::config::Device;
use rekindle::{Observer, Plan, Prediction, Predictor, RunConfig, Silent, Task};
use rekindle_data::TextEncoder;
use rekindle_data::tokens::{
    TagLabels, TagOptions, TaggedOptions, TaggedText, TokenSet, read_tagged,
};
use rekindle_models::{Asked, HeadSpec, Model, Pretrained, Problem, TextInput};
use rekindle_nn::{Pass, Sequences};
use serde_json::{Value, json};

use crate::support::{
    Cpu, FORWARD, LOGITS_AFTER, WholeRun, assert_close, batch_order, golden, ids,
    json as fixture_file, numbers, whole_run,
};

const MODELS: [&str; 7] = [
    "bert",
    "distilbert",
    "roberta",
    "electra",
    "modernbert",
    "mpnet",
    "deberta",
];

/// Keeps what the plan says of the inputs.
#[derive(Default)]
struct Planned(Mutex<String>);

impl Observer for Planned {
    fn plan(&self, plan: &Plan) {
        *self.0.lock().unwrap() = plan.inputs.clone();
    }
}

fn fixture(model: &str, file: &str) -> Value {
    fixture_file(&format!("tiny_tokens/{model}/{file}"))
}

fn model_dir(model: &str) -> PathBuf {
    golden("tiny_tokens").join(model).join("model")
}

/// The sentences of a fixture in this order, as a file of words and tags.
fn write_sentences(path: &Path, cases: &Value, order: impl IntoIterator<Item = usize>) {
    let row = |index: usize| {
        let (tokens, tags) = (&cases[index]["tokens"], &cases[index]["tags"]);
        json!({ "tokens": tokens, "tags": tags }).to_string()
    };
    let rows: Vec<String> = order.into_iter().map(row).collect();
    std::fs::write(path, rows.join("\n")).unwrap();
}

/// The sentences of a fixture, encoded by a model's tokenizer; and what they were read from.
fn encoded(dir: &Path, cases: &Value, labels: &TagLabels) -> (TokenSet, Vec<TaggedText>) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("cases.jsonl");
    write_sentences(&path, cases, 0..cases.as_array().unwrap().len());
    let read = read_tagged(&path, &TaggedOptions::default()).unwrap();
    assert!(read.has_words);
    let encoder = TextEncoder::for_words(dir, None).unwrap();
    let set = encoder.encode_tagged(&read.rows, Some(labels), TagOptions::default());
    (set.unwrap(), read.rows)
}

/// Logits of the words of all sentences, one after the other, and those of the same tokens where all tokens were asked for.
fn logits(dir: &Path, cases: &Value) -> [Vec<f32>; 2] {
    let pretrained = Pretrained::open(dir).unwrap();
    let config = pretrained.config();
    assert_eq!(config.problem, Some(Problem::Tokens));
    let labels = TagLabels::from_names(config.labels.clone()).unwrap();
    let (set, _) = encoded(dir, cases, &labels);
    let head = HeadSpec {
        outputs: config.outputs,
        labels: config.labels.clone(),
        problem: Problem::Tokens,
        reads: None,
        seed: 0,
        require: true,
    };
    let device = Default::default();
    let (model, _) = Model::<Cpu>::from_pretrained(&pretrained, &head, &device).unwrap();
    let all: Vec<usize> = (0..set.windows.len()).collect();
    let batch = set.pack(&all);
    let input = TextInput::new(
        batch.text.ids.clone(),
        batch.text.type_ids.clone(),
        Sequences::new(batch.text.offsets.clone()),
        &device,
    );
    let asked = Asked::new(
        &batch.asked,
        Sequences::new(batch.asked_offsets.clone()),
        &device,
    );
    let of_words = model.forward(input.clone().with_asked(asked).into(), Pass::evaluation());
    let of_all = model.forward(input.into(), Pass::evaluation());
    let of_words = rekindle_nn::host::values(of_words).unwrap();
    let of_all = rekindle_nn::host::values(of_all).unwrap();
    let width = config.outputs;
    assert_eq!(of_all.len(), batch.text.ids.len() * width);
    let chosen = batch.asked.iter();
    let chosen = chosen.flat_map(|&token| of_all[token as usize * width..][..width].to_vec());
    [of_words, chosen.collect()]
}

#[test]
fn logits_of_words_and_token_ids() {
    for name in MODELS {
        let expected = fixture(name, "expected.json");
        let cases = &expected["cases"];
        let right: Vec<f32> = cases
            .as_array()
            .unwrap()
            .iter()
            .flat_map(|case| numbers(&case["logits"]))
            .collect();
        let [of_words, of_all] = logits(&model_dir(name), cases);
        let largest = assert_close(name, &of_words, &right, FORWARD);
        println!("{name}: logits within {largest:.1e}");
        assert_close(name, &of_all, &of_words, FORWARD);

        let labels = expected["labels"].as_array().unwrap().iter();
        let labels: Vec<String> = labels
            .map(|label| label.as_str().unwrap().to_owned())
            .collect();
        let (set, _) = encoded(
            &model_dir(name),
            cases,
            &TagLabels::from_names(labels).unwrap(),
        );
        for (case, item) in cases.as_array().unwrap().iter().zip(&set.set.items) {
            assert_eq!(
                item.ids,
                ids(&case["input_ids"]),
                "{name}: {}",
                case["tokens"]
            );
        }
    }
}

/// A model that transformers saved says by its class what it is for, and gets the figure of seqeval.
#[test]
fn entity_f1_is_that_of_seqeval() {
    let folder = tempfile::tempdir().unwrap();
    // Without our own file beside it, a model reads the text as it stands: where a piece is a space alone, as in SentencePiece's
    // models, that is not what seqeval's words were.
    for name in MODELS.into_iter().filter(|&name| name != "deberta") {
        let expected = fixture(name, "expected.json");
        let path = folder.path().join(format!("{name}.jsonl"));
        write_sentences(
            &path,
            &expected["cases"],
            0..expected["cases"].as_array().unwrap().len(),
        );
        let mut predictor = Predictor::open(&model_dir(name), Device::Cpu, &Silent).unwrap();
        assert_eq!(predictor.task(), Task::TokenClassification);
        let config = predictor.configure(&[]).unwrap();
        let evaluated = predictor
            .evaluate_each(&path, None, &config, &Silent)
            .unwrap();
        let found = evaluated.figures.get("entity_f1").unwrap();
        let right = expected["entity_f1"].as_f64().unwrap();
        assert!(
            (found - right).abs() < 1e-9,
            "{name}: {found} is not {right}"
        );
        assert!(right > 0.0, "a figure that tells something");
        assert_eq!(
            evaluated.predictions.len(),
            expected["cases"].as_array().unwrap().len()
        );
    }
}

#[test]
fn whole_runs_have_the_losses_of_transformers() {
    let folder = tempfile::tempdir().unwrap();
    for name in MODELS {
        let (expected, training) = (
            fixture(name, "expected.json"),
            fixture(name, "training.json"),
        );
        let cases = &expected["cases"];
        let dir = folder.path().join(name);
        std::fs::create_dir(&dir).unwrap();
        write_sentences(&dir.join("train.jsonl"), cases, batch_order(&training));
        write_sentences(
            &dir.join("validation.jsonl"),
            cases,
            0..cases.as_array().unwrap().len(),
        );
        let (finished, apart) = whole_run(&WholeRun {
            task: "token-classification",
            model: &model_dir(name),
            dir: &dir,
            extension: "jsonl",
            training: &training,
            data: "max_length = 30\n",
            train: "",
        });
        apart.hold_for_a_head(name);

        // What was saved is a model of the same problem, with the same answers.
        let [found, _] = logits(&finished.final_dir, cases);
        let right = numbers(&training["logits_after"]);
        let largest = assert_close(name, &found, &right, LOGITS_AFTER);
        println!("{name}: logits after 20 steps within {largest:.1e}");
    }
}

/// Long texts are read in windows: every word has one answer, whatever the windows are, and training sees every word.
#[test]
fn windows_lose_no_word() {
    let folder = tempfile::tempdir().unwrap();
    let expected = fixture("bert", "expected.json");
    // All sentences as one text of many windows.
    let all = |key: &str| -> Vec<Value> {
        let cases = expected["cases"].as_array().unwrap().iter();
        cases
            .flat_map(|case| case[key].as_array().unwrap().clone())
            .collect()
    };
    let (tokens, tags) = (all("tokens"), all("tags"));
    let row = json!({ "tokens": tokens, "tags": tags });
    let path = folder.path().join("long.jsonl");
    std::fs::write(&path, format!("{row}\n{row}\n")).unwrap();
    let run_file = format!(
        "task = \"token-classification\"\noutput_dir = {:?}\n[model]\nname = {:?}\n\
         [data]\ntrain = {path:?}\nvalidation = {path:?}\nmax_length = 16\n[train]\nepochs = 1\n",
        folder.path().join("run"),
        model_dir("bert"),
    );
    std::fs::write(folder.path().join("run.toml"), run_file).unwrap();
    let config = RunConfig::load(Some(&folder.path().join("run.toml")), &[]).unwrap();
    let planned = Planned::default();
    rekindle::plan(&config, &planned).unwrap();
    let inputs = planned.0.into_inner().unwrap();
    assert!(inputs.contains("2 texts in "), "{inputs}");
    let finished = rekindle::finetune(&config, &Silent).unwrap();
    let scalar = |name: &str| finished.figures.get(name).unwrap();
    assert_eq!(finished.figures.n, 2);
    assert!(scalar("loss").is_finite() && scalar("token_accuracy") > 0.0);

    let predictor = Predictor::open(&finished.final_dir, Device::Cpu, &Silent).unwrap();
    let text: Vec<&str> = tokens.iter().map(|word| word.as_str().unwrap()).collect();
    let text = text.join(" ");
    let answers = predictor.predict(&[text.as_str(), "the card", ""]).unwrap();
    for (answer, asked) in answers.iter().zip([text.as_str(), "the card", ""]) {
        let Prediction::Spans { text, spans } = answer else {
            panic!("{answer:?}");
        };
        assert_eq!(text, asked);
        let characters: Vec<char> = text.chars().collect();
        for pair in spans.windows(2) {
            assert!(pair[0].end <= pair[1].start, "{spans:?}");
        }
        for span in spans {
            let stands: String = characters[span.start..span.end].iter().collect();
            assert_eq!(stands, span.text);
        }
    }
}
