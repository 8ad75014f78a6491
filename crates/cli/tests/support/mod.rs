//! A fresh folder with a tiny BERT and thirty labelled examples in it, and the real binary to run there.
#![allow(clippy::unwrap_used, dead_code)] // each test binary uses its part

use serde_json::{Map, Value};
use std::{
    cell::RefCell,
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};
use tempfile::TempDir;

/// Variables that would let the machine's own settings into a test.
const FOREIGN: [&str; 14] = [
    "HF_HUB_CACHE",
    "HF_TOKEN",
    "HF_ENDPOINT",
    "HF_HUB_OFFLINE",
    "REKINDLE_PYTHON",
    "RUST_BACKTRACE",
    "http_proxy",
    "https_proxy",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "all_proxy",
    "ALL_PROXY",
    "no_proxy",
    "NO_PROXY",
];

/// A temporary folder: `model/` and `train.csv` in it, and no cache and no network around it.
pub struct Dir {
    root: TempDir,
    held: RefCell<Vec<File>>,
}

impl Dir {
    pub fn new() -> Self {
        let dir = Self {
            root: TempDir::new().unwrap(),
            held: RefCell::default(),
        };
        copy(&golden("model"), &dir.path("model"));
        dir.write("train.csv", examples());
        dir
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.root.path().canonicalize().unwrap().join(name)
    }

    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    pub fn remove(&self, name: &str) {
        let path = self.path(name);
        if path.is_dir() {
            fs::remove_dir_all(path).unwrap()
        } else {
            fs::remove_file(path).unwrap()
        }
    }

    /// Cuts a file to its first bytes.
    pub fn cut(&self, name: &str, bytes: usize) {
        let all = fs::read(self.path(name)).unwrap();
        self.write(name, &all[..bytes]);
    }

    /// Changes a JSON file.
    pub fn json(&self, name: &str, change: impl FnOnce(&mut Map<String, Value>)) {
        let mut value: Value = serde_json::from_slice(&fs::read(self.path(name)).unwrap()).unwrap();
        change(value.as_object_mut().unwrap());
        self.write(name, value.to_string());
    }

    /// Changes a file of tensors.
    pub fn tensors(&self, name: &str, change: impl FnOnce(&mut Vec<Tensor>)) {
        let mut tensors = read_tensors(&fs::read(self.path(name)).unwrap());
        change(&mut tensors);
        self.write(name, write_tensors(&tensors));
    }

    /// `pictures/`, two folders of a dozen small PNGs, one reddish and one bluish, and `resnet/`, a tiny ResNet with weights
    /// by formula, as transformers lays it out.
    pub fn pictures(&self) {
        for (class, tint) in [("red", [200u8, 40, 40]), ("blue", [40, 40, 200])] {
            for i in 0..12u32 {
                let picture = image::RgbImage::from_fn(24 + i, 24, |x, y| {
                    let grain = ((x * 7 + y * 13 + i * 29) % 40) as u8;
                    image::Rgb(tint.map(|c| c + grain))
                });
                let path = self.path(&format!("pictures/{class}/{i:02}.png"));
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                picture.save(path).unwrap();
            }
        }
        self.write(
            "resnet/config.json",
            r#"{"model_type": "resnet", "id2label": {"0": "cat", "1": "dog"}}"#,
        );
        self.write(
            "resnet/preprocessor_config.json",
            r#"{"size": {"shortest_edge": 24}, "crop_pct": 1.0, "image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5]}"#,
        );
        self.write("resnet/model.safetensors", write_tensors(&tiny_resnet()));
    }

    /// The golden adapter, made by PEFT for the tiny BERT.
    pub fn adapter(&self) {
        copy(&golden("adapter"), &self.path("adapter"));
        self.json("adapter/adapter_config.json", |c| {
            drop(c.insert("base_model_name_or_path".into(), "model".into()))
        });
    }

    /// Holds a run directory as another process would, for as long as the folder is.
    pub fn hold(&self, run: &str) {
        self.write(&format!("{run}/.lock"), "");
        let lock = File::open(self.path(run).join(".lock")).unwrap();
        lock.lock().unwrap();
        self.held.borrow_mut().push(lock);
    }

    /// The program, set up to run here, offline.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        for name in FOREIGN {
            command.env_remove(name);
        }
        command
            .current_dir(self.path(""))
            .env("HF_HUB_OFFLINE", "1")
            .env("HF_HOME", self.path("hf"))
            .env("REKINDLE_CACHE", self.path("cache"))
            .stdin(Stdio::null());
        command
    }

    /// Runs `rekindle` with arguments separated by spaces.
    pub fn rekindle(&self, arguments: &str) -> Output {
        self.command(env!("CARGO_BIN_EXE_rekindle"))
            .args(arguments.split_whitespace())
            .output()
            .unwrap()
    }

    /// Runs `rekindle`, which must succeed, and returns its standard output.
    pub fn ok(&self, arguments: &str) -> String {
        let output = self.rekindle(arguments);
        assert!(
            output.status.success(),
            "rekindle {arguments}\n{}",
            self.plain(&output.stderr)
        );
        self.plain(&output.stdout)
    }

    /// Runs `rekindle`, which must succeed, and returns all that it printed.
    #[allow(dead_code)] // not every test binary asks for it
    pub fn output(&self, arguments: &str) -> String {
        let output = self.rekindle(arguments);
        let said = self.plain(&output.stderr) + &self.plain(&output.stdout);
        assert!(output.status.success(), "rekindle {arguments}\n{said}");
        said
    }

    /// Runs `rekindle`, which must refuse with exit code 1 and a hint, and returns what it said.
    #[allow(dead_code)] // not every test binary asks for it
    pub fn refused(&self, arguments: &str) -> String {
        let output = self.rekindle(arguments);
        let said = self.plain(&output.stderr);
        assert_eq!(
            output.status.code(),
            Some(1),
            "rekindle {arguments}\n{said}"
        );
        assert!(said.contains("hint: "), "rekindle {arguments}\n{said}");
        said
    }

    /// Tunes into `whole` and `cut`; the one that then loses all behind its first checkpoint ends, resumed, with the same bytes.
    pub fn resumes_to_the_same_bytes(&self, tune: &str) {
        for run in ["whole", "cut"] {
            self.ok(&format!("{tune} -o {run}"));
        }
        let mut checkpoints: Vec<_> = fs::read_dir(self.path("cut/checkpoints"))
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .collect();
        checkpoints.sort();
        assert!(checkpoints.len() > 3, "{checkpoints:?}");
        for checkpoint in &checkpoints[1..] {
            fs::remove_dir_all(checkpoint).unwrap();
        }
        fs::remove_dir_all(self.path("cut/final")).unwrap();
        fs::remove_file(self.path("cut/best")).unwrap();
        self.ok("finetune --resume cut");
        let weights =
            |run: &str| fs::read(self.path(run).join("final/adapter_model.safetensors")).unwrap();
        assert!(weights("whole") == weights("cut"), "other weights");
    }

    /// Text with the folder's name taken out.
    pub fn plain(&self, bytes: &[u8]) -> String {
        let path = self.path("");
        let path = path.to_str().unwrap().trim_end_matches('/');
        String::from_utf8_lossy(bytes)
            .replace(path, "[DIR]")
            .replace(self.root.path().to_str().unwrap(), "[DIR]")
    }
}

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../tests/golden/tiny_bert")
        .join(name)
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        fs::write(to.join(entry.file_name()), fs::read(entry.path()).unwrap()).unwrap();
    }
}

/// Ten examples of each of three labels.
pub fn examples() -> String {
    const KINDS: [(&str, &str); 3] = [
        ("refund", "i want my money back for order"),
        ("praise", "thanks very good card"),
        ("question", "how can i open an account"),
    ];
    let rows: Vec<String> = (0..30)
        .map(|i| format!("{} {i},{}\n", KINDS[i % 3].1, KINDS[i % 3].0))
        .collect();
    format!("text,label\n{}", rows.concat())
}

/// A tensor as a safetensors file has it.
pub struct Tensor {
    pub name: String,
    pub dtype: String,
    pub shape: Vec<u64>,
    pub bytes: Vec<u8>,
}

/// Two stages of one basic block, 4 and 8 channels wide.
fn tiny_resnet() -> Vec<Tensor> {
    let mut tensors = Vec::new();
    let mut add = |name: String, shape: &[u64], level: f32, scale: f32| {
        let count = shape.iter().product::<u64>();
        let bytes = (0..count).flat_map(|i| {
            (level + scale * (i as f32 * 1.7 + name.len() as f32).sin()).to_le_bytes()
        });
        tensors.push(Tensor {
            dtype: "F32".into(),
            shape: shape.to_vec(),
            bytes: bytes.collect(),
            name,
        });
    };
    let stages = "resnet.encoder.stages";
    for (name, [outputs, inputs, side]) in [
        ("resnet.embedder.embedder".to_owned(), [4, 3, 7]),
        (format!("{stages}.0.layers.0.layer.0"), [4, 4, 3]),
        (format!("{stages}.0.layers.0.layer.1"), [4, 4, 3]),
        (format!("{stages}.1.layers.0.shortcut"), [8, 4, 1]),
        (format!("{stages}.1.layers.0.layer.0"), [8, 4, 3]),
        (format!("{stages}.1.layers.0.layer.1"), [8, 8, 3]),
    ] {
        let shape = [outputs, inputs, side, side];
        let scale = (2.0 / (inputs * side * side) as f32).sqrt();
        add(format!("{name}.convolution.weight"), &shape, 0.0, scale);
        for (part, level) in [
            ("weight", 1.0),
            ("bias", 0.0),
            ("running_mean", 0.0),
            ("running_var", 1.0),
        ] {
            add(
                format!("{name}.normalization.{part}"),
                &[outputs],
                level,
                0.1,
            );
        }
    }
    add("classifier.1.weight".into(), &[2, 8], 0.0, 0.3);
    add("classifier.1.bias".into(), &[2], 0.0, 0.1);
    tensors
}

/// The tensor of this name.
pub fn find<'a>(tensors: &'a mut [Tensor], name: &str) -> &'a mut Tensor {
    tensors.iter_mut().find(|t| t.name == name).unwrap()
}

fn read_tensors(file: &[u8]) -> Vec<Tensor> {
    let header = u64::from_le_bytes(file[..8].try_into().unwrap()) as usize;
    let json: Map<String, Value> = serde_json::from_slice(&file[8..8 + header]).unwrap();
    let data = &file[8 + header..];
    json.iter()
        .filter(|(name, _)| *name != "__metadata__")
        .map(|(name, entry)| {
            let number = |v: &Value| v.as_u64().unwrap();
            let at = |i: usize| number(&entry["data_offsets"][i]) as usize;
            Tensor {
                name: name.clone(),
                dtype: entry["dtype"].as_str().unwrap().to_owned(),
                shape: entry["shape"]
                    .as_array()
                    .unwrap()
                    .iter()
                    .map(number)
                    .collect(),
                bytes: data[at(0)..at(1)].to_vec(),
            }
        })
        .collect()
}

fn write_tensors(tensors: &[Tensor]) -> Vec<u8> {
    let mut json = Map::new();
    let mut data = Vec::new();
    for t in tensors {
        let offsets = [data.len(), data.len() + t.bytes.len()];
        json.insert(
            t.name.clone(),
            serde_json::json!({ "dtype": t.dtype, "shape": t.shape, "data_offsets": offsets }),
        );
        data.extend(&t.bytes);
    }
    let header = Value::Object(json).to_string();
    [
        &(header.len() as u64).to_le_bytes(),
        header.as_bytes(),
        &data,
    ]
    .concat()
}

/// Runs a Python program in a folder of a test, which must succeed, and returns what it printed.
pub type Python = Box<dyn Fn(&Dir, &str, &str) -> String>;

/// The Python that `REKINDLE_TEST_PYTHON` names; `None` after saying that the test is skipped.
pub fn python() -> Option<Python> {
    let named = std::env::var("REKINDLE_TEST_PYTHON");
    let found = named.map_err(|_| "REKINDLE_TEST_PYTHON is not set");
    let python = rekindle_tests::need(rekindle_tests::Need::Libraries, found)?;
    Some(Box::new(move |dir, folder, program| {
        let output = dir
            .command(&python)
            .current_dir(dir.path(folder))
            .args(["-c", program])
            .output()
            .unwrap();
        let said = dir.plain(&output.stderr);
        assert!(output.status.success(), "{program}\n{said}");
        dir.plain(&output.stdout)
    }))
}

/// What the hub's own library reads of the card of a run's model: its header, and each result under `results`.
pub fn card_header(python: &Python, dir: &Dir, run: &str) -> Map<String, Value> {
    const READ: &str = r#"
import json, sys
from huggingface_hub import ModelCard
card = ModelCard.load("README.md")
header = card.data.to_dict()
header["results"] = [{"type": r.metric_type, "value": r.metric_value, "split": r.dataset_split} for r in card.data.eval_results or []]
json.dump(header, sys.stdout)
"#;
    let text = python(dir, &format!("{run}/final"), READ);
    serde_json::from_str(&text).unwrap()
}

/// Runs the Python program that stands on a card, as it stands there, in the folder of the model.
pub fn run_card(python: &Python, dir: &Dir, run: &str) -> String {
    let card = fs::read_to_string(dir.path(run).join("final/README.md")).unwrap();
    let (_, program) = card.split_once("```python\n").unwrap();
    let (program, _) = program.split_once("```").unwrap();
    python(dir, &format!("{run}/final"), program)
}
