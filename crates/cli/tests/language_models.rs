//! A language model from a file of prompts to answers: on a tiny Llama whose tokens are words.
#![allow(clippy::unwrap_used)]

#[path = "language_models/constrained.rs"]
mod constrained;
#[path = "language_models/for_programs.rs"]
mod for_programs;
#[path = "language_models/init_and_look.rs"]
mod init_and_look;
#[path = "language_models/new_tokens.rs"]
mod new_tokens;
#[path = "language_models/preferences.rs"]
mod preferences;
#[path = "language_models/refusals.rs"]
mod refusals;
#[path = "language_models/saved_settings.rs"]
mod saved_settings;
mod support;

use serde_json::{Value, json};
use std::{fs, path::Path};
use support::Dir;

/// A vocabulary of 37 words, as many as the tiny model has embeddings.
const WORDS: [&str; 37] = [
    "[UNK]",
    "<|im_start|>",
    "<|im_end|>",
    "user",
    "assistant",
    "system",
    "\n",
    "lamp",
    "on",
    "off",
    "door",
    "open",
    "shut",
    "please",
    "turn",
    "the",
    "now",
    "red",
    "blue",
    "green",
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "ten",
    "hall",
    "bath",
    "bed",
    "room",
    "yes",
    "no",
    "ok",
];

/// A ChatML template, as many models have it.
const TEMPLATE: &str = "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>' + '\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}";

/// A directory with the model `llm` and the file `chats.jsonl`.
fn dir() -> Dir {
    let dir = Dir::new();
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/tiny_decoders");
    fs::create_dir(dir.path("llm")).unwrap();
    for file in ["config.json", "model.safetensors"] {
        fs::copy(
            golden.join("llama/model").join(file),
            dir.path("llm").join(file),
        )
        .unwrap();
    }
    let special = |id: usize| {
        json!({"id": id, "content": WORDS[id], "single_word": false, "lstrip": false, "rstrip": false,
            "normalized": false, "special": true})
    };
    let vocabulary: serde_json::Map<String, Value> = WORDS
        .iter()
        .enumerate()
        .map(|(id, word)| ((*word).to_owned(), id.into()))
        .collect();
    let tokenizer = json!({
        "version": "1.0", "truncation": null, "padding": null,
        "added_tokens": [special(0), special(1), special(2)],
        "normalizer": null,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
            {"type": "Split", "pattern": {"String": " "}, "behavior": "Removed", "invert": false},
            {"type": "Split", "pattern": {"String": "\n"}, "behavior": "Isolated", "invert": false},
        ]},
        "post_processor": null, "decoder": null,
        "model": {"type": "WordLevel", "vocab": vocabulary, "unk_token": "[UNK]"},
    });
    fs::write(dir.path("llm/tokenizer.json"), tokenizer.to_string()).unwrap();
    let settings = json!({"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "<|im_end|>",
        "unk_token": "[UNK]", "chat_template": TEMPLATE});
    fs::write(dir.path("llm/tokenizer_config.json"), settings.to_string()).unwrap();
    let rooms = ["hall", "bath", "bed"];
    let rows = (0..48).map(|i| {
        let (room, on) = (rooms[i % 3], if i % 2 == 0 { "on" } else { "off" });
        let polite = if i % 5 == 0 { "please " } else { "" };
        let prompt = format!("{polite}turn {on} the {room} lamp");
        json!({"prompt": prompt, "completion": format!("{room} {on}")}).to_string() + "\n"
    });
    fs::write(dir.path("chats.jsonl"), rows.collect::<String>()).unwrap();
    dir
}

const TUNE: &str = "finetune --task text-generation --model llm --train chats.jsonl --set data.validation_fraction=0.25 --set train.learning_rate=1e-2";

fn results(dir: &Dir, run: &str) -> Value {
    serde_json::from_str(&fs::read_to_string(dir.path(run).join("results.json")).unwrap()).unwrap()
}

#[test]
fn from_prompts_to_answers() {
    for (method, weights) in [
        ("lora", "adapter_model.safetensors"),
        ("full", "model.safetensors"),
    ] {
        let dir = dir();
        dir.ok(&format!(
            "{TUNE} --epochs 20 -o run --method {method} --set train.batch_size=8"
        ));
        assert!(dir.path("run/final").join(weights).is_file(), "{method}");
        let figures = results(&dir, "run");
        let accuracy = figures["figures"]["token_accuracy"].as_f64().unwrap();
        assert!(accuracy > 0.9, "{method}: token accuracy {accuracy}");
        let said = dir.ok("generate run --file chats.jsonl --max-new-tokens 8");
        let right = said.lines().filter(|line| {
            let row: Value = serde_json::from_str(line).unwrap();
            let answer = row["answer"].as_str().unwrap();
            answer
                .split_whitespace()
                .eq(row["reference"].as_str().unwrap().split_whitespace())
        });
        let (right, all) = (right.count(), said.lines().count());
        assert_eq!(all, 48);
        assert!(
            right > 40,
            "{method}: {right} of {all} answers are right\n{said}"
        );
        let report: Value =
            serde_json::from_str(&dir.ok("evaluate run chats.jsonl --json")).unwrap();
        assert_eq!(report["n"], 48);
        // Sampling is a function of its seed.
        let sample =
            "generate run --file chats.jsonl --brief --temperature 3 --max-new-tokens 6 --seed";
        assert_eq!(
            dir.ok(&format!("{sample} 5")),
            dir.ok(&format!("{sample} 5 --batch-size 7"))
        );
        assert_ne!(
            dir.ok(&format!("{sample} 5")),
            dir.ok(&format!("{sample} 6"))
        );
        if method == "lora" {
            dir.ok("merge run --to merged");
            let questions = "--file chats.jsonl --max-new-tokens 8";
            assert_eq!(
                dir.ok(&format!("generate run {questions}")),
                dir.ok(&format!("generate merged {questions}"))
            );
        }
    }
}

/// The losses of a run's steps.
fn losses(dir: &Dir, run: &str) -> Vec<f64> {
    let text = fs::read_to_string(dir.path(run).join("metrics.jsonl")).unwrap();
    let events = text
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap());
    let steps = events.filter(|event| event["kind"] == "step");
    steps.map(|event| event["loss"].as_f64().unwrap()).collect()
}

/// What the base model and the tuned one answer, in every place where it is kept.
#[test]
fn a_run_is_judged_by_what_it_answers() {
    let dir = dir();
    let common = "--epochs 12 --set train.batch_size=8 --set eval.max_new_tokens=6";
    dir.ok(&format!(
        "{TUNE} {common} -o run --set eval.samples=2 --set eval.answers=all"
    ));
    let found = results(&dir, "run");
    let (tuned, base) = (&found["figures"], &found["base"]);
    let of = |figures: &Value, key: &str| figures[key].as_f64().unwrap();
    assert!(of(tuned, "exact_match") > 0.8, "{found}");
    assert!(of(base, "exact_match") < 0.2, "{found}");
    assert!(of(tuned, "rouge_l") > of(base, "rouge_l"), "{found}");
    assert!(tuned.get("json_valid").is_none(), "{found}");

    let text = fs::read_to_string(dir.path("run/answers.jsonl")).unwrap();
    let lines: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let count = |set: &str, step: Option<u64>| {
        let of_set = lines.iter().filter(|line| line["set"] == set);
        of_set
            .filter(|line| step.is_none_or(|step| line["step"] == step))
            .count()
    };
    // Two prompts before training and after each epoch; the twelve of the validation set before and at the end.
    assert_eq!(
        (count("sample", Some(0)), count("sample", None)),
        (2, 2 * 13)
    );
    assert_eq!((count("last", Some(0)), count("last", None)), (12, 24));
    let report = fs::read_to_string(dir.path("run/report.html")).unwrap();
    for part in ["Fixed prompts", "base model", "exact match"] {
        assert!(report.contains(part), "{part}");
    }

    // The same figures from outside, on the same conversations.
    let asked = lines
        .iter()
        .filter(|line| line["set"] == "last" && line["step"] == 0);
    let rows = asked.map(|line| {
        json!({"prompt": line["prompt"], "completion": line["reference"]}).to_string() + "\n"
    });
    fs::write(dir.path("asked.jsonl"), rows.collect::<String>()).unwrap();
    let evaluate = "asked.jsonl --json --set eval.max_new_tokens=6";
    let again: Value = serde_json::from_str(&dir.ok(&format!("evaluate run {evaluate}"))).unwrap();
    let key = "exact_match";
    assert!((of(&again, key) - of(tuned, key)).abs() < 1e-9, "{again}");
    let of_base: Value =
        serde_json::from_str(&dir.ok(&format!("evaluate llm {evaluate}"))).unwrap();
    assert!(
        (of(&of_base, key) - of(base, key)).abs() < 1e-9,
        "{of_base}"
    );

    // Answering changes nothing of what is learned.
    dir.ok(&format!(
        "{TUNE} {common} -o quiet --set eval.samples=0 --set eval.answers=0"
    ));
    let weights =
        |run: &str| fs::read(dir.path(run).join("final/adapter_model.safetensors")).unwrap();
    assert!(weights("run") == weights("quiet"));
    assert!(!dir.path("quiet/answers.jsonl").exists());
}

#[test]
fn answers_in_json_are_judged_by_field_and_examples_go_before_a_prompt() {
    let dir = dir();
    let rows = ["on", "off"].map(|word| {
        json!({"prompt": format!("turn {word} the lamp"), "completion": format!("{{\"a\": \"{word}\"}}")})
            .to_string()
            + "\n"
    });
    fs::write(dir.path("json.jsonl"), rows.concat()).unwrap();
    let said: Value =
        serde_json::from_str(&dir.ok("evaluate llm json.jsonl --json --set eval.max_new_tokens=4"))
            .unwrap();
    assert_eq!(said["json_valid"], 0.0, "{said}");
    assert_eq!(said["answers"]["json"]["fields"][0]["name"], "a", "{said}");

    let plain: Value =
        serde_json::from_str(&dir.ok("evaluate llm chats.jsonl --json --set eval.answers=2"))
            .unwrap();
    let shots = "--shots 2 --shots-from chats.jsonl --set eval.answers=2 --json";
    let few: Value =
        serde_json::from_str(&dir.ok(&format!("evaluate llm chats.jsonl {shots}"))).unwrap();
    // The same tokens count, behind other ones.
    assert_eq!(plain["tokens"], few["tokens"]);
    assert_ne!(plain["loss"], few["loss"]);
    let said = dir.refused("evaluate model train.csv --shots 3 --shots-from chats.jsonl");
    assert!(said.contains("language models"), "{said}");
    for key in ["model.pooling=mean", "data.text_pair=other"] {
        let said = dir.refused(&format!("{TUNE} -o run --set {key}"));
        assert!(
            said.contains("is for texts with labels or numbers"),
            "{said}"
        );
    }
}

/// What a resumed run does again is answered again, and stands in the file once.
#[test]
fn a_resumed_run_keeps_its_answers() {
    let dir = dir();
    dir.ok(&format!(
        "{TUNE} --epochs 3 -o run --set train.batch_size=8"
    ));
    let answers = || fs::read_to_string(dir.path("run/answers.jsonl")).unwrap();
    let (first, figures) = (answers(), results(&dir, "run")["figures"].clone());
    let mut steps: Vec<String> = fs::read_dir(dir.path("run/checkpoints"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.starts_with("step-"))
        .collect();
    steps.sort();
    for lost in [None, steps.pop()] {
        if let Some(checkpoint) = lost {
            dir.remove(&format!("run/checkpoints/{checkpoint}"));
        }
        dir.remove("run/results.json");
        dir.remove("run/final");
        dir.ok("finetune --resume run");
        assert_eq!(answers(), first);
        assert_eq!(results(&dir, "run")["figures"], figures);
    }
}

/// A tokenizer that GGUF has a place for: byte-level BPE of 37 tokens, without merges.
fn letters() -> Value {
    let special = ["<unk>", "<|im_start|>", "<|im_end|>"];
    let letters = ('a'..='z').chain("ĠĊ.?!012".chars()).map(String::from);
    let tokens: Vec<String> = special
        .iter()
        .map(|&token| token.to_owned())
        .chain(letters)
        .collect();
    assert_eq!(tokens.len(), 37);
    let added = (0..3).map(|id| {
        json!({"id": id, "content": tokens[id], "single_word": false, "lstrip": false, "rstrip": false,
            "normalized": false, "special": true})
    });
    let vocabulary: serde_json::Map<String, Value> = tokens
        .iter()
        .enumerate()
        .map(|(id, token)| (token.clone(), id.into()))
        .collect();
    json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": added.collect::<Vec<_>>(),
        "normalizer": null,
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true},
        "post_processor": null,
        "decoder": {"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true},
        "model": {"type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false, "vocab": vocabulary, "merges": []},
    })
}

/// A language model has no head for labels: the default task says so before anything is planned.
#[test]
fn labels_need_a_model_with_a_head() {
    let dir = dir();
    dir.write(
        "tickets.csv",
        format!("text,label\n{}", "lamp on,a\nlamp off,b\n".repeat(20)),
    );
    let said = dir.refused("finetune --model llm --train tickets.csv -o run --dry-run");
    assert!(said.contains("--task text-generation"), "{said}");
}

/// A model of each architecture answers from its GGUF file as from its directory, and so does one with its adapter merged.
#[test]
fn an_exported_model_answers_alike() {
    let dir = dir();
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/tiny_decoders");
    let ask = |model: &str| {
        dir.ok(&format!(
            "generate {model} turn lamp bath --brief --max-new-tokens 12 --temperature 2 --seed 5"
        ))
    };
    for family in [
        "llama", "mistral", "qwen2", "qwen3", "phi3", "gemma3", "smollm3", "gpt2",
    ] {
        fs::create_dir(dir.path(family)).unwrap();
        for file in ["config.json", "model.safetensors"] {
            fs::copy(
                golden.join(family).join("model").join(file),
                dir.path(family).join(file),
            )
            .unwrap();
        }
        if family == "gemma3" {
            // What llama.cpp has by the architecture alone.
            let path = dir.path("gemma3/config.json");
            let mut config: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
            config["query_pre_attn_scalar"] = config["head_dim"].clone();
            config["layer_types"] = json!(["sliding_attention", "sliding_attention"]);
            config["rope_parameters"]["sliding_attention"]["rope_theta"] = json!(1e4);
            fs::write(&path, config.to_string()).unwrap();
        }
        dir.write(&format!("{family}/tokenizer.json"), letters().to_string());
        let settings = json!({"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "<|im_end|>",
            "chat_template": TEMPLATE});
        dir.write(
            &format!("{family}/tokenizer_config.json"),
            settings.to_string(),
        );
        let export = format!("export {family} --dtype f32 -o out/{family}.gguf --force");
        if family == "smollm3" {
            // Its last layer alone does not rotate.
            let said = dir.refused(&export);
            assert!(said.contains("`no_rope_layers`"), "{said}");
            continue;
        }
        let said = dir.ok(&export);
        assert!(said.contains("answers end at <|im_end|>"), "{said}");
        assert_eq!(ask(family), ask(&format!("out/{family}.gguf")), "{family}");
        let recipe = match family {
            "llama" => "out/Modelfile".to_owned(),
            _ => format!("out/{family}.Modelfile"),
        };
        let recipe = fs::read_to_string(dir.path(&recipe)).unwrap();
        assert!(
            recipe.contains(&format!("FROM ./{family}.gguf\n")),
            "{recipe}"
        );
        assert!(
            recipe.contains("PARAMETER stop \"<|im_end|>\"\n"),
            "{recipe}"
        );
    }

    let tune = TUNE.replace("--model llm", "--model llama");
    dir.ok(&format!("{tune} --epochs 4 -o run --set eval.answers=0"));
    let said = dir.ok("export run --dtype f32");
    assert!(said.contains("run/gguf/run-f32.gguf"), "{said}");
    assert_eq!(ask("run"), ask("run/gguf/run-f32.gguf"));
    assert_ne!(ask("run"), ask("llama"));
    let left: Vec<_> = fs::read_dir(dir.path("run/gguf")).unwrap().collect();
    // The model, its Modelfile and its card.
    assert_eq!(left.len(), 3, "{left:?}");
    let card = fs::read_to_string(dir.path("run/gguf/README.md")).unwrap();
    for words in [
        "library_name: gguf",
        "A GGUF file of type f32, tuned from a local model `llama`",
        "## Figures",
        "llama-cli -m run-f32.gguf",
    ] {
        assert!(card.contains(words), "{words}\n{card}");
    }
    // Words of the adapter, and of what merging compared.
    let said = dir.ok("inspect run");
    assert!(
        said.contains("all-linear") && !said.contains("AllLinear"),
        "{said}"
    );
    assert!(
        !said.lines().any(|line| line.trim_end() == "labels"),
        "{said}"
    );
    let said = dir.ok("merge run --to merged");
    assert!(
        said.contains("largest difference of the loss of an example"),
        "{said}"
    );

    let said = dir.refused("export run --dtype f32");
    assert!(said.contains("exists already"), "{said}");
    dir.ok("export run --dtype f16");
    let recipe = fs::read_to_string(dir.path("run/gguf/run-f16.Modelfile")).unwrap();
    assert!(recipe.contains("FROM ./run-f16.gguf\n"), "{recipe}");
    // The model itself is never replaced, by whatever way its file is named.
    let before = fs::read(dir.path("out/llama.gguf")).unwrap();
    for model in ["out/llama.gguf", "out/../out/llama.gguf"] {
        let said = dir.refused(&format!(
            "export {model} --dtype q8_0 -o out/llama.gguf --force"
        ));
        assert!(said.contains("the model that is exported"), "{said}");
    }
    for file in ["model.safetensors", "config.json"] {
        let said = dir.refused(&format!("export llama -o llama/{file} --force"));
        assert!(said.contains("the model that is exported"), "{said}");
    }
    assert_eq!(fs::read(dir.path("out/llama.gguf")).unwrap(), before);
    // Nor is what is no file, such as a device.
    #[cfg(unix)]
    {
        let pipe = dir.path("pipe");
        std::process::Command::new("mkfifo")
            .arg(&pipe)
            .status()
            .unwrap();
        let said = dir.refused("export llama -o pipe --force");
        assert!(said.contains("no regular file"), "{said}");
        fs::remove_file(pipe).unwrap();
    }
    // What is exported beside an adapter does not take its place.
    let asked = ask("run/final");
    fs::remove_file(dir.path("run/final/tokenizer.json")).unwrap();
    dir.ok("export run --dtype q4_0 -o run/final/small.gguf");
    assert_eq!(ask("run/final"), asked);
    let said = dir.refused("export model");
    assert!(said.contains("only language models"), "{said}");
    // A tokenizer of whole words has no place in GGUF.
    let said = dir.refused("export llm");
    assert!(said.contains("tokenizer.json"), "{said}");
    assert!(!dir.path("llm-gguf/llm-f16.gguf").exists());
}

#[test]
fn look_shows_what_a_model_sees() {
    let dir = dir();
    let said = dir.ok("look --model llm --data chats.jsonl --rows 1");
    for part in [
        "chats.jsonl:1",
        "[hall][on][<|im_end|>]",
        "48 rows",
        "0 rows cut",
    ] {
        assert!(said.contains(part), "{part}\n{said}");
    }
    let said = dir.ok("look --model model --data train.csv --rows 1");
    assert!(
        said.contains("[CLS]|") && said.contains("label refund"),
        "{said}"
    );
    dir.pictures();
    let said = dir.ok("look --model resnet --data pictures --rows 1");
    assert!(said.contains("24 x 24 pixels"), "{said}");
    let said = dir.refused("look --model llm --data nothing.jsonl");
    assert!(said.contains("nothing.jsonl"), "{said}");
}

/// A run keeps the day on which it began, which a template may write.
#[test]
fn a_run_keeps_its_day() {
    let dir = dir();
    dir.json("llm/tokenizer_config.json", |config| {
        let template = format!(
            "{{{{ '<|im_start|>system\\n' + strftime_now('%d') + '<|im_end|>\\n' }}}}{TEMPLATE}"
        );
        config.insert("chat_template".into(), template.into());
    });
    let common = "--epochs 1 --set eval.answers=0 --set eval.samples=0";
    let said = dir.output(&format!("{TUNE} {common} -o run --dry-run"));
    assert!(said.contains("data.date"), "{said}");
    dir.ok(&format!("{TUNE} {common} -o run"));
    let file = fs::read_to_string(dir.path("run/config.toml")).unwrap();
    assert!(
        file.lines().any(|line| line.starts_with("date = \"20")),
        "{file}"
    );
}

/// A conversation that goes on is answered as one that is read anew.
#[test]
fn a_talk_that_keeps_what_it_read_answers_alike() {
    let dir = dir();
    dir.ok(&format!(
        "{TUNE} --epochs 10 -o run --set train.batch_size=8 --set eval.answers=0"
    ));
    let lines = [
        "turn on the hall lamp",
        "turn off the bed lamp",
        "please turn on the bath lamp",
    ];
    let mut chat = dir.command(env!("CARGO_BIN_EXE_rekindle"));
    chat.args(["chat", "run", "--max-new-tokens", "5"]);
    fs::write(dir.path("lines"), lines.join("\n")).unwrap();
    let output = chat
        .stdin(fs::File::open(dir.path("lines")).unwrap())
        .output()
        .unwrap();
    let said = dir.plain(&output.stdout);
    assert_eq!(
        said.lines().count(),
        3,
        "{said}{}",
        dir.plain(&output.stderr)
    );
    let mut turns: Vec<Value> = Vec::new();
    for (line, answer) in lines.iter().zip(said.lines()) {
        turns.push(json!({"role": "user", "content": line}));
        // A file's conversation ends with an answer, which is not shown to the model.
        turns.push(json!({"role": "assistant", "content": "ok"}));
        let row = json!({"messages": turns}).to_string() + "\n";
        turns.pop();
        fs::write(dir.path("turns.jsonl"), row).unwrap();
        let anew = dir.ok("generate run --file turns.jsonl --brief --max-new-tokens 5");
        assert_eq!(anew.trim_end(), answer.trim_end());
        turns.push(json!({"role": "assistant", "content": answer}));
    }
}

/// The mean is over the tokens that count of the whole window, not a mean of means.
#[test]
fn a_window_of_small_batches_is_one_large_batch() {
    let dir = dir();
    let common = "--epochs 2 --set train.shuffle=false --set train.group_by_length=false --set train.log_every_steps=1";
    dir.ok(&format!(
        "{TUNE} {common} -o large --set train.batch_size=8"
    ));
    dir.ok(&format!(
        "{TUNE} {common} -o small --set train.batch_size=2 --set train.gradient_accumulation_steps=4"
    ));
    let (large, small) = (losses(&dir, "large"), losses(&dir, "small"));
    assert_eq!(large.len(), small.len());
    assert!(large.len() >= 8);
    for (step, (a, b)) in large.iter().zip(&small).enumerate() {
        assert!((a - b).abs() < 1e-5, "step {step}: {a} and {b}");
    }
}

/// Gradient checkpointing computes the same again: the model that is saved has the same bytes, dropout or not.
#[test]
fn gradient_checkpointing_changes_nothing() {
    let dir = dir();
    for (method, weights) in [
        (
            "lora --set peft.lora_dropout=0.2",
            "adapter_model.safetensors",
        ),
        ("full --set model.dropout=0.1", "model.safetensors"),
        ("full --set peft.train_last=2", "model.safetensors"),
        (
            "full --set train.batch_size=2 --set train.gradient_accumulation_steps=3",
            "model.safetensors",
        ),
    ] {
        let saved = |on: bool| {
            let run = format!("{}-{on}", method.replace([' ', '.'], "-"));
            dir.ok(&format!(
                "{TUNE} --epochs 2 -o {run} --method {method} --set train.gradient_checkpointing={on}"
            ));
            fs::read(dir.path(&run).join("final").join(weights)).unwrap()
        };
        assert!(saved(false) == saved(true), "{method}");
    }
}

/// A file of questions need not hold answers.
#[test]
fn questions_without_answers_are_answered() {
    let dir = dir();
    let rows = [
        json!({"prompt": "lamp on"}),
        json!({"messages": [{"role": "user", "content": "lamp on"}]}),
        json!({"instruction": "lamp", "input": "on"}),
    ];
    let text: String = rows.iter().map(|row| format!("{row}\n")).collect();
    fs::write(dir.path("asked.jsonl"), text).unwrap();
    let said = dir.ok("generate llm --file asked.jsonl --max-new-tokens 3");
    let rows: Vec<Value> = said
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(rows.len(), 3, "{said}");
    assert_eq!(rows[0]["answer"], rows[1]["answer"]);
    assert!(rows.iter().all(|row| row.get("reference").is_none()));
    let refused =
        dir.refused("finetune --task text-generation --model llm --train asked.jsonl -o no");
    assert!(refused.contains("asked.jsonl:1"), "{refused}");
}

/// Answers go through the one writer: a full disk is an error, a closed pipe is not.
#[test]
#[cfg(target_os = "linux")]
fn answers_that_cannot_be_written() {
    use std::process::Stdio;
    let dir = dir();
    let command = || {
        let mut command = dir.command(env!("CARGO_BIN_EXE_rekindle"));
        command.args([
            "generate",
            "llm",
            "--file",
            "chats.jsonl",
            "--max-new-tokens",
            "2",
        ]);
        command.stderr(Stdio::piped());
        command
    };
    let full = fs::File::options().write(true).open("/dev/full").unwrap();
    let output = command().stdout(full).output().unwrap();
    let said = dir.plain(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("cannot write to standard output"), "{said}");
    let mut child = command().stdout(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

#[test]
fn what_does_not_fit_is_refused_with_a_remedy() {
    let dir = dir();
    for (rows, words) in [
        (
            "{\"prompt\": \"turn on\", \"completion\": \"ok\"}\n{\"promt\": \"x\", \"completion\": \"y\"}\n",
            ["bad.jsonl:2", "prompt"],
        ),
        (
            "{\"messages\": [{\"role\": \"robot\", \"content\": \"on\"}]}\n",
            ["bad.jsonl:1", "robot"],
        ),
        (
            "{\"messages\": [{\"role\": \"user\", \"content\": \"on\"}]}\n",
            ["bad.jsonl:1", "assistant"],
        ),
    ] {
        fs::write(dir.path("bad.jsonl"), rows).unwrap();
        let said =
            dir.refused("finetune --task text-generation --model llm --train bad.jsonl -o run");
        for word in words {
            assert!(said.contains(word), "expected {word}\n{said}");
        }
    }
    let said =
        dir.refused("finetune --task text-generation --model model --train chats.jsonl -o run");
    assert!(said.contains("no language model"), "{said}");
    let said = dir.refused("predict llm hello");
    assert!(said.contains("rekindle generate"), "{said}");
    let said = dir.refused("generate model hello");
    assert!(said.contains("hint:"), "{said}");
}
