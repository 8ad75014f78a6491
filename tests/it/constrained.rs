//! Answers held to JSON, by models of random weights: whatever they would say, what they say is of the form asked for.
#![allow(clippy::unwrap_used)]

use std::cell::RefCell;
use std::fs;
use std::path::Path;

use rekindle::{Constraint, Generator, NoProgress, Prompt, Sampling, Silent, config::Device};
use rekindle_data::chat::Constrainer;
use rekindle_hub::Hub;
use rekindle_tests::{Need, need};
use serde_json::{Map, Value, json};
use std::time::{Duration, Instant};
use tempfile::TempDir;

use crate::support::golden;

/// A mask over 49,152 tokens takes less in the median: some tenths of a millisecond on an idle machine.
const MASK: Duration = Duration::from_millis(5);

/// Tokens of the tiny models: three special ones, then bytes as GPT-2 writes them. `Ã` and `©` together are an `é`.
const TOKENS: [&str; 37] = [
    "<unk>",
    "<|im_start|>",
    "<|im_end|>",
    "{",
    "}",
    "[",
    "]",
    "\"",
    ":",
    ",",
    "\":",
    "-",
    ".",
    "0",
    "1",
    "2",
    "3",
    "7",
    "9",
    "a",
    "b",
    "e",
    "f",
    "l",
    "n",
    "r",
    "s",
    "t",
    "u",
    "\\",
    "Ġ",
    "Ċ",
    "Ã",
    "©",
    "true",
    "null",
    "fal",
];

/// A model directory of random weights with room for `positions` tokens.
fn model(family: &str, positions: usize) -> TempDir {
    let dir = TempDir::new().unwrap();
    let at = |file: &str| dir.path().join(file);
    let from = golden("tiny_decoders").join(family).join("model");
    fs::copy(from.join("model.safetensors"), at("model.safetensors")).unwrap();
    let config = fs::read(from.join("config.json")).unwrap();
    let mut config: Map<String, Value> = serde_json::from_slice(&config).unwrap();
    if config.contains_key("max_position_embeddings") {
        config.insert("max_position_embeddings".into(), positions.into());
    }
    fs::write(at("config.json"), Value::Object(config).to_string()).unwrap();
    let added = (0..3).map(|id| {
        json!({"id": id, "content": TOKENS[id], "single_word": false, "lstrip": false, "rstrip": false,
            "normalized": false, "special": true})
    });
    let vocabulary: Map<String, Value> = TOKENS
        .iter()
        .enumerate()
        .map(|(id, token)| ((*token).to_owned(), id.into()))
        .collect();
    let tokenizer = json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": added.collect::<Vec<_>>(),
        "normalizer": null,
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true},
        "post_processor": null,
        "decoder": {"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true},
        "model": {"type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false, "vocab": vocabulary, "merges": []},
    });
    fs::write(at("tokenizer.json"), tokenizer.to_string()).unwrap();
    let template = "{% for m in messages %}{{ '<|im_start|>' + m['content'] + '<|im_end|>' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>' }}{% endif %}";
    let settings = json!({"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "<|im_end|>", "chat_template": template});
    fs::write(at("tokenizer_config.json"), settings.to_string()).unwrap();
    dir
}

fn open(dir: &TempDir) -> Generator {
    Generator::open(dir.path(), Device::Cpu, &Silent).unwrap()
}

fn prompts() -> Vec<Prompt> {
    let texts = ["a", "be 12", "[7]", "null, true", "\u{e9}\u{e9}"];
    texts.map(Prompt::question).into()
}

/// Three fields, of which each is bounded, so that random weights come to an end.
fn order() -> Value {
    json!({"type": "object", "properties": {
            "a": {"type": "integer", "minimum": -2, "maximum": 172},
            "\u{e9}": {"enum": ["la", "a\u{e9}", null]},
            "set": {"type": "array", "minItems": 1, "maxItems": 3, "items": {
                "type": "object", "properties": {"u": {"type": "boolean"}, "t": {"type": "string", "maxLength": 3}},
                "required": ["t"], "additionalProperties": false}}},
        "required": ["a", "\u{e9}", "set"], "additionalProperties": false})
}

fn is_order(text: &str) -> bool {
    let value: Value = serde_json::from_str(text).unwrap();
    let fields = value.as_object().unwrap();
    let item = |item: &Value| {
        let fields = item.as_object().unwrap();
        fields["t"].as_str().unwrap().chars().count() <= 3
            && fields
                .iter()
                .all(|(name, value)| name == "t" || (name == "u" && value.is_boolean()))
    };
    // `-0` is a whole number of JSON, which serde_json reads as a float.
    let a = fields["a"].as_f64().unwrap();
    let items = fields["set"].as_array().unwrap();
    fields.len() == 3
        && (-2.0..=172.0).contains(&a)
        && a.fract() == 0.0
        && [json!("la"), json!("a\u{e9}"), Value::Null].contains(&fields["\u{e9}"])
        && (1..=3).contains(&items.len())
        && items.iter().all(item)
}

fn sampling(constraint: &Constraint, temperature: f64, seed: u64) -> Sampling {
    Sampling {
        temperature,
        seed,
        constraint: Some(constraint.clone()),
        ..Sampling::default()
    }
}

#[test]
fn random_weights_write_what_the_schema_says() {
    let constraint = Constraint::json_schema(order()).unwrap();
    for family in ["llama", "qwen3"] {
        let dir = model(family, 400);
        let generator = open(&dir);
        let prompts = prompts();
        let (mut ended, mut texts) = (0, Vec::new());
        for seed in 0..6 {
            for sampling in [
                sampling(&constraint, 1.0, seed),
                Sampling {
                    top_k: 3,
                    top_p: 0.9,
                    min_p: 0.01,
                    repetition_penalty: 1.3,
                    ..sampling(&constraint, 4.0, seed)
                },
            ] {
                let streamed = RefCell::new(vec![String::new(); prompts.len()]);
                let together = generator
                    .generate(&prompts, &sampling, &mut |i, piece| {
                        streamed.borrow_mut()[i] += piece
                    })
                    .unwrap();
                for (i, answer) in together.iter().enumerate() {
                    assert_eq!(streamed.borrow()[i], answer.text, "{family}, prompt {i}");
                    if answer.finished {
                        assert!(is_order(&answer.text), "{family}: {}", answer.text);
                        ended += 1;
                    }
                    let alone = generator
                        .generate(&prompts[i..=i], &sampling, &mut |_, _| {})
                        .unwrap();
                    assert_eq!(alone[0], *answer, "{family}, prompt {i} beside others");
                    texts.push(answer.text.clone());
                }
            }
        }
        assert!(ended >= 54, "{family}: {ended} of 60 answers ended");
        texts.sort();
        texts.dedup();
        assert!(
            texts.len() > 30,
            "{family}: {} different answers",
            texts.len()
        );
    }
}

/// What may follow decides; among that, the most probable token is taken as without a constraint.
#[test]
fn an_answer_that_is_of_the_form_anyway_stays_the_same() {
    let mut same = 0;
    for family in ["llama", "mistral", "qwen2", "qwen3", "phi3"] {
        let dir = model(family, 200);
        let generator = open(&dir);
        let free = Sampling {
            max_new_tokens: 30,
            ..Sampling::default()
        };
        let anything = Sampling {
            constraint: Some(Constraint::regex("(?s:.*)").unwrap()),
            ..free.clone()
        };
        let say = |sampling: &Sampling| {
            let answers = generator.generate(&prompts(), sampling, &mut |_, _| {});
            answers.unwrap()
        };
        for (free, held) in say(&free).iter().zip(&say(&anything)) {
            // Special tokens inside an answer, and broken characters, are of no form.
            if !free.tokens.iter().any(|&id| id < 2) && !free.text.contains('\u{FFFD}') {
                assert_eq!(free, held, "{family}");
                same += 1;
            }
        }
    }
    println!("{same} of 25 answers compared");
    assert!(same >= 5, "{same} answers are texts");
}

#[test]
fn an_answer_ends_where_it_is_whole() {
    let dir = model("llama", 200);
    let generator = open(&dir);
    let stop = generator.encoder().stop_ids()[0];
    let say = |constraint: Constraint, seed: u64| {
        let sampling = sampling(&constraint, 3.0, seed);
        let answers = generator.generate(&prompts(), &sampling, &mut |_, _| {});
        answers.unwrap()
    };
    for seed in 0..4 {
        // Nothing may follow a brace that closes: the answer ends with it, without another pass.
        for answer in say(
            Constraint::json_schema(json!({"const": {"a": 1}})).unwrap(),
            seed,
        ) {
            assert!(answer.finished);
            let (last, before) = answer.tokens.split_last().unwrap();
            assert_ne!(*last, stop);
            assert!(!before.contains(&stop));
            let value: Value = serde_json::from_str(&answer.text).unwrap();
            assert_eq!(value, json!({"a": 1}));
        }
        // More may follow digits: the model says whether it does, but never before the first.
        for answer in say(Constraint::regex("[127]{2,40}").unwrap(), seed) {
            assert!(answer.text.len() >= 2 && answer.text.bytes().all(|b| b"127".contains(&b)));
            assert_eq!(
                answer.finished && answer.text.len() < 40,
                answer.tokens.contains(&stop)
            );
        }
    }
    // A brace is asked for, and there is no room for it.
    let constraint = Constraint::json().unwrap();
    let short = Sampling {
        max_new_tokens: 1,
        ..sampling(&constraint, 0.0, 1)
    };
    let cut = generator
        .generate(&prompts(), &short, &mut |_, _| {})
        .unwrap();
    assert!(
        cut.iter()
            .all(|answer| !answer.finished && answer.text == "{"),
        "{cut:?}"
    );
    // The longest sequence of the model cuts, too.
    let dir = model("gpt2", 0);
    let generator = open(&dir);
    let long = Constraint::regex("[ab]{2000}").unwrap();
    let cut = generator
        .generate(&prompts()[..2], &sampling(&long, 1.0, 1), &mut |_, _| {})
        .unwrap();
    assert!(
        cut.iter()
            .all(|answer| !answer.finished && answer.text.len() > 20),
        "{cut:?}"
    );
}

#[test]
fn turns_of_a_conversation_are_held_to_it() {
    let dir = model("llama", 600);
    let generator = open(&dir);
    let constraint = Constraint::json_schema(order()).unwrap();
    let sampling = sampling(&constraint, 1.0, 3);
    let mut talk = generator.talk();
    let mut turns = Vec::new();
    for text in ["a", "be", "7"] {
        turns.push(rekindle::Message::new(rekindle::ChatRole::User, text));
        let prompt = Prompt::Turns(turns.clone(), None);
        let answer = talk.answer(&prompt, &sampling, &mut |_| {}).unwrap();
        let anew = generator
            .generate(std::slice::from_ref(&prompt), &sampling, &mut |_, _| {})
            .unwrap();
        assert_eq!(anew[0], answer);
        assert!(answer.finished && is_order(&answer.text), "{}", answer.text);
        turns.push(rekindle::Message::new(
            rekindle::ChatRole::Assistant,
            answer.text,
        ));
    }
    // A text that ends answers would cut JSON.
    let both = Sampling {
        stop: vec!["}".into()],
        ..sampling
    };
    let refused = talk.answer(&Prompt::question("a"), &both, &mut |_| {});
    let said = refused.unwrap_err().to_string();
    assert!(
        said.contains("would cut one") && said.contains("hint: "),
        "{said}"
    );
}

#[test]
#[ignore = "needs SmolLM2: cargo xtask run fetch smollm2"]
fn a_real_model_fills_in_a_schema() {
    let found = Hub::from_env().offline(true).model("smollm2", &NoProgress);
    if need(Need::SmolLm2, found).is_none() {
        return;
    }
    let generator = Generator::open(Path::new("smollm2"), Device::Cpu, &Silent).unwrap();
    let schema = json!({"type": "object", "properties": {
            "capital": {"type": "string", "maxLength": 40},
            "continent": {"enum": ["Africa", "America", "Asia", "Europe", "Oceania"]},
            "islands": {"type": "integer", "minimum": 0, "maximum": 99}},
        "required": ["capital", "continent", "islands"], "additionalProperties": false});
    let constraint = Constraint::json_schema(schema).unwrap();
    let asked = ["France", "Japan", "Kenya"];
    let prompts: Vec<Prompt> = asked
        .iter()
        .map(|country| Prompt::question(&format!("Describe {country} as JSON.")))
        .collect();
    for temperature in [0.0, 1.0] {
        let sampling = sampling(&constraint, temperature, 5);
        let together = generator
            .generate(&prompts, &sampling, &mut |_, _| {})
            .unwrap();
        for (country, answer) in asked.iter().zip(&together) {
            println!("{country}: {}", answer.text);
            assert!(answer.finished, "{}", answer.text);
            let value: Value = serde_json::from_str(&answer.text).unwrap();
            assert_eq!(value.as_object().unwrap().len(), 3);
            assert!(value["capital"].is_string() && value["continent"].is_string());
            assert!((0..=99).contains(&value["islands"].as_i64().unwrap()));
        }
        let alone = generator
            .generate(&prompts[1..2], &sampling, &mut |_, _| {})
            .unwrap();
        assert!(alone[0].finished);
    }
    // What the mask costs beside a pass through the model, which takes 10 ms and more.
    let clock = Instant::now();
    let constrainer = Constrainer::new(generator.encoder()).unwrap();
    let read = clock.elapsed();
    let said = sampling(&constraint, 0.0, 5);
    let said = generator.generate(&prompts, &said, &mut |_, _| {}).unwrap();
    let mut begun = constrainer.begin(&constraint).unwrap();
    let mut times = Vec::new();
    for token in &said[0].tokens {
        let mut logits = vec![0.0; 49_152];
        let clock = Instant::now();
        begun.mask(&mut logits).unwrap();
        begun.push(*token).unwrap();
        times.push(clock.elapsed());
    }
    times.sort();
    let median = times[times.len() / 2];
    println!(
        "vocabulary read in {read:?}; a mask takes {median:?} in the median, {:?} at most",
        times[times.len() - 1]
    );
    assert!(median < MASK, "a mask takes {median:?}");
    // Any object, which the model may well not end.
    let any = Sampling {
        max_new_tokens: 200,
        ..sampling(&Constraint::json().unwrap(), 0.0, 1)
    };
    for answer in generator.generate(&prompts, &any, &mut |_, _| {}).unwrap() {
        println!("{}: {}", answer.finished, answer.text);
        let object = matches!(serde_json::from_str(&answer.text), Ok(Value::Object(_)));
        assert_eq!(answer.finished, object);
    }
}
