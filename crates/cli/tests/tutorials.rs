//! The pages of docs/tutorials, followed as a reader would: their files are made and their commands run, in order.
//!
//! What a page says is taken from its fenced blocks:
//!
//! | a block that begins with | is |
//! |---|---|
//! | ```` ```csv title=tickets.csv ```` | the file of that name, as it stands |
//! | ```` ```text pictures ```` | a picture at each path, a line each; `{01..12}` counts |
//! | ```` ```sh run ```` | commands, a line each, for a shell |
//!
//! Under the names of the real models, `minilm`, `efficientnet-lite0` and `smollm2`, lie directories of tiny ones: the program takes
//! a directory before a name. Tuning stops after a few steps. Only what a page shows is there besides.
#![cfg(unix)] // the pages are written for its shell
#![allow(clippy::unwrap_used)]

mod support;

use rekindle::{RunConfig, config::Override};
use serde_json::{Map, Value, json};
use std::{
    collections::BTreeSet,
    env,
    ffi::OsStr,
    fs, iter,
    path::{Path, PathBuf},
};
use support::Dir;

/// The steps of a run. Enough for every part of one: warmup, decay, an evaluation, a checkpoint.
const STEPS: usize = 4;

/// What the reader of a page learns to do: a command of each line must be there.
const VERBS: [&[&str]; 3] = [
    &["finetune"],
    &["evaluate"],
    &["predict", "generate", "embed"],
];

/// A page stays short.
const MOST_LINES: usize = 120;

/// A test for each page, and the list of them.
macro_rules! pages {
    ($($test:ident: $page:literal,)*) => {
        const PAGES: &[&str] = &[$($page),*];

        $(
            #[test]
            fn $test() {
                follow($page);
            }
        )*
    };
}

pages! {
    text_classification: "text-classification.md",
    pairs: "pairs.md",
    embeddings: "embeddings.md",
    several_labels: "several-labels.md",
    marked_texts: "marked-texts.md",
    questions: "questions.md",
    multiple_choice: "multiple-choice.md",
    numbers: "numbers.md",
    pictures: "pictures.md",
    language_models: "language-models.md",
    preferences: "preferences.md",
}

#[test]
fn every_page_is_short_and_listed() {
    let list = fs::read_to_string(folder().join("README.md")).unwrap();
    let names = fs::read_dir(folder())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut found: Vec<String> = names.filter(|name| name != "README.md").collect();
    let mut known = PAGES.to_vec();
    found.sort();
    known.sort_unstable();
    assert_eq!(
        found, known,
        "a page without its test, or a test without its page"
    );
    for name in found {
        assert!(
            list.contains(&format!("]({name})")),
            "README.md does not lead to {name}"
        );
        let lines = fs::read_to_string(folder().join(&name))
            .unwrap()
            .lines()
            .count();
        assert!(lines < MOST_LINES, "{name} has {lines} lines");
    }
}

/// Settings are renamed more easily than the pages that name them.
#[test]
fn every_setting_that_a_page_names_is_there() {
    const SECTIONS: [&str; 10] = [
        "model",
        "data",
        "images",
        "preference",
        "embedding",
        "peft",
        "train",
        "eval",
        "checkpoint",
        "report",
    ];
    /// Of files.
    const ENDINGS: [&str; 10] = [
        "conll",
        "csv",
        "gguf",
        "html",
        "json",
        "jsonl",
        "py",
        "safetensors",
        "toml",
        "txt",
    ];
    let named = |word: &str| {
        let (section, name) = word.split_once('.')?;
        let is_setting =
            SECTIONS.contains(&section) && !name.is_empty() && !ENDINGS.contains(&name);
        is_setting.then(|| word.to_owned())
    };
    let mut settings = BTreeSet::new();
    let docs = folder().join("..");
    let pages = PAGES.iter().map(|page| folder().join(page));
    let others = ["coming-from.md", "troubleshooting.md", "language-models.md"];
    for page in pages.chain(others.map(|page| docs.join(page))) {
        let text = fs::read_to_string(page).unwrap();
        let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '_' | '.')));
        settings.extend(words.filter_map(|word| named(word.trim_end_matches('.'))));
    }
    settings.remove("train.num_train_epochs"); // shown as a mistake
    settings.remove("model.pretrained_cfg"); // Python
    assert!(settings.len() > 50, "the pages name {settings:?} only");
    for setting in &settings {
        let said = RunConfig::load(None, &[Override::set(&format!("{setting}="))]);
        let said = said.map_or_else(|errors| errors.to_string(), |_| String::new());
        assert!(!said.contains("unknown"), "{said}");
    }
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/tutorials")
}

/// Does what a page says.
fn follow(page: &str) {
    let text = fs::read_to_string(folder().join(page)).unwrap();
    let dir = with_models();
    let mut commands = Vec::new();
    for block in blocks(&text) {
        let place = format!("docs/tutorials/{page}:{}", block.line);
        if let Some(name) = block.words().find_map(|word| word.strip_prefix("title=")) {
            dir.write(name, &block.text);
        } else if block.words().any(|word| word == "pictures") {
            for path in block.text.lines().flat_map(counted) {
                draw(&dir.path(&path));
            }
        } else if block.words().any(|word| word == "run") {
            for command in block.text.lines() {
                run(&dir, command, &place);
                commands.push(command.to_owned());
            }
        } else {
            let left_out = block
                .text
                .lines()
                .find(|line| line.starts_with("rekindle "));
            assert!(
                left_out.is_none(),
                "{place}: not marked as `run`: {left_out:?}"
            );
        }
    }
    for verbs in VERBS {
        let is_there = |verb: &&str| {
            commands
                .iter()
                .any(|c| c.contains(&format!("rekindle {verb} ")))
        };
        assert!(
            verbs.iter().any(is_there),
            "{page}: no command for {verbs:?}"
        );
    }
}

/// Runs a command, which must succeed.
fn run(dir: &Dir, command: &str, place: &str) {
    // A shell says what the last command of a pipe said.
    let last = command.rsplit(" | ").next().unwrap_or_default();
    assert!(
        last.starts_with("rekindle "),
        "{place}: a command whose end would not be seen: {command}"
    );
    let program = Path::new(env!("CARGO_BIN_EXE_rekindle"))
        .parent()
        .unwrap()
        .to_owned();
    let others = env::var_os("PATH").unwrap_or_default();
    let path = env::join_paths(iter::once(program).chain(env::split_paths(&others))).unwrap();
    let limited = format!("rekindle finetune --set train.max_steps={STEPS}");
    let output = dir
        .command("sh")
        .arg("-c")
        .arg(command.replacen("rekindle finetune", &limited, 1))
        .env("PATH", path)
        .output()
        .unwrap();
    let said = dir.plain(&output.stderr) + &dir.plain(&output.stdout);
    assert!(output.status.success(), "{place}: {command}\n{said}");
}

/// A fenced block.
struct Block<'a> {
    /// The line on which it opens, the first being 1.
    line: usize,
    /// What stands behind the fence.
    info: &'a str,
    text: String,
}

impl Block<'_> {
    fn words(&self) -> impl Iterator<Item = &str> {
        self.info.split_whitespace()
    }
}

fn blocks(page: &str) -> Vec<Block<'_>> {
    let mut blocks = Vec::new();
    let mut lines = page.lines().zip(1..);
    while let Some((line, at)) = lines.next() {
        let Some(info) = line.strip_prefix("```") else {
            continue;
        };
        let mut text = String::new();
        loop {
            match lines.next() {
                Some(("```", _)) => break,
                Some((line, _)) => text.extend([line, "\n"]),
                None => panic!("line {at}: the block is never closed"),
            }
        }
        blocks.push(Block {
            line: at,
            info,
            text,
        });
    }
    blocks
}

/// `a{01..12}.png` is twelve paths.
fn counted(line: &str) -> Vec<String> {
    let Some((before, rest)) = line.split_once('{') else {
        return vec![line.to_owned()];
    };
    let (range, behind) = rest.split_once('}').unwrap();
    let (first, last) = range.split_once("..").unwrap();
    let bound = |text: &str| text.parse::<usize>().unwrap();
    let width = first.len();
    (bound(first)..=bound(last))
        .map(|i| format!("{before}{i:0width$}{behind}"))
        .collect()
}

/// A small picture with a grain of its own; those of a folder have one tint.
fn draw(path: &Path) {
    let folder = path.parent().unwrap();
    let hash = |name: Option<&OsStr>| {
        let bytes = name.unwrap().as_encoded_bytes().iter();
        bytes.fold(7u32, |hash, byte| {
            hash.wrapping_mul(31).wrapping_add(u32::from(*byte))
        })
    };
    let (class, own) = (hash(folder.file_name()), hash(path.file_stem()) % 101);
    let tint = [0u32, 8, 16].map(|shift| ((class >> shift) % 180) as u8);
    let picture = image::RgbImage::from_fn(28, 24, |x, y| {
        image::Rgb(tint.map(|channel| channel + ((x * 7 + y * 13 + own * 29) % 60) as u8))
    });
    fs::create_dir_all(folder).unwrap();
    picture.save(path).unwrap();
}

/// A folder that holds tiny models under the names of those of the pages, and nothing else.
fn with_models() -> Dir {
    let dir = Dir::new();
    dir.pictures();
    dir.remove("pictures");
    dir.remove("train.csv");
    fs::rename(dir.path("model"), dir.path("minilm")).unwrap();
    fs::rename(dir.path("resnet"), dir.path("efficientnet-lite0")).unwrap();
    language_model(&dir);
    dir
}

/// `smollm2/`: the tiny Llama of the goldens, its tokens being letters, so that it can read whatever a page says.
fn language_model(dir: &Dir) {
    const MARKS: [&str; 3] = ["[UNK]", "<|im_start|>", "<|im_end|>"];
    const LETTERS: &str = "\n abcdefghijklmnopqrstuvwxyz.,?'-0";
    const TEMPLATE: &str = "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>' + '\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}";
    let golden =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/tiny_decoders/llama/model");
    for name in ["config.json", "model.safetensors"] {
        dir.write(
            &format!("smollm2/{name}"),
            fs::read(golden.join(name)).unwrap(),
        );
    }
    // Letters take more places than words.
    dir.json("smollm2/config.json", |config| {
        drop(config.insert("max_position_embeddings".into(), 1024.into()));
    });
    let letters = LETTERS.chars().map(String::from);
    let tokens: Vec<String> = MARKS
        .iter()
        .map(|mark| (*mark).to_owned())
        .chain(letters)
        .collect();
    let vocabulary: Map<String, Value> = tokens
        .iter()
        .cloned()
        .zip((0u64..).map(Value::from))
        .collect();
    let mark = |id: usize| {
        json!({"id": id, "content": MARKS[id], "single_word": false, "lstrip": false, "rstrip": false,
            "normalized": false, "special": true})
    };
    let tokenizer = json!({
        "version": "1.0", "truncation": null, "padding": null,
        "added_tokens": [mark(0), mark(1), mark(2)],
        "normalizer": {"type": "Lowercase"},
        "pre_tokenizer": {"type": "Split", "pattern": {"Regex": "[\\s\\S]"}, "behavior": "Isolated", "invert": false},
        "post_processor": null, "decoder": {"type": "Fuse"},
        "model": {"type": "WordLevel", "vocab": vocabulary, "unk_token": "[UNK]"},
    });
    dir.write("smollm2/tokenizer.json", tokenizer.to_string());
    let settings = json!({"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "<|im_end|>",
        "unk_token": "[UNK]", "chat_template": TEMPLATE});
    dir.write("smollm2/tokenizer_config.json", settings.to_string());
}
