//! `cargo xtask bench`: the same jobs here and in PyTorch, in turn, pair by pair, and a page of the ratios.
//!
//! Step jobs are two processes that wait for a line and do one round; whole runs are two processes from start to exit.

use std::ffi::OsString;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use serde_json::{Map, Value};

use crate::proc::{build, root, shown};

mod language;

/// What the command line asks for.
#[derive(Debug, PartialEq)]
pub struct Bench {
    /// The Python with torch, transformers, peft, torchvision, timm and sentence-transformers.
    pub python: PathBuf,
    /// Where sst2/, agnews/, hymenoptera/, sentiment-intensity/ and smart-home/ lie; jobs whose data is not there are left
    /// out.
    pub data: Option<PathBuf>,
    pub pairs: usize,
    /// Jobs whose names begin so; all where there is none.
    pub only: Vec<String>,
}

/// What is timed.
#[derive(Clone, Copy)]
struct Job {
    name: &'static str,
    what: &'static str,
    /// The ratio aimed at.
    aim: f64,
}

const fn job(name: &'static str, what: &'static str, aim: f64) -> Job {
    Job { name, what, aim }
}

/// Rounds of one step.
const STEPS: [Job; 15] = [
    job(
        "minilm-forward",
        "MiniLM, 32 x 128 tokens, all real: forward",
        1.1,
    ),
    job("minilm-full", "the same: full training step", 1.15),
    job("minilm-lora", "the same: LoRA training step", 1.25),
    job(
        "minilm-forward-real",
        "MiniLM, 32 texts of 8 to 128 tokens: forward",
        1.1,
    ),
    job("minilm-full-real", "the same: full training step", 1.15),
    job("minilm-lora-real", "the same: LoRA training step", 1.25),
    job(
        "minilm-forward-bf16",
        "MiniLM, 32 x 128, in bf16 against autocast: forward",
        1.1,
    ),
    job("minilm-full-bf16", "the same: full training step", 1.3),
    job("minilm-lora-bf16", "the same: LoRA training step", 1.25),
    job(
        "resnet18-forward",
        "ResNet-18, 16 x 224 x 224: forward",
        0.8,
    ),
    job("resnet18-step", "the same: training step", 0.8),
    job(
        "lite0-forward",
        "EfficientNet-Lite0, 16 x 224 x 224: forward",
        0.8,
    ),
    job("lite0-step", "the same: training step", 0.8),
    job("vits-forward", "ViT-S, 16 x 224 x 224: forward", 1.0),
    job("vits-step", "the same: training step", 1.0),
];

/// Whole runs.
const RUNS: [Job; 12] = [
    job(
        "run-sst2-padded",
        "sst2, 8,000 rows, LoRA, against the Trainer's own padding",
        4.0,
    ),
    job(
        "run-sst2-grouped",
        "the same against its grouping by length",
        1.6,
    ),
    job(
        "run-agnews-padded",
        "AG News, 9,000 rows, LoRA, against the Trainer's own padding",
        2.0,
    ),
    job(
        "run-agnews-grouped",
        "the same against its grouping by length",
        1.5,
    ),
    job(
        "run-head",
        "ants and bees, EfficientNet-Lite0, head only, 3 epochs",
        2.0,
    ),
    job(
        "run-sentiment",
        "sentiment intensity, 5,000 rows, regression, LoRA, against the Trainer's own padding",
        1.5,
    ),
    job(
        "run-multilabel",
        "smart-home commands, 3,350 rows, 67 labels, multi-label, LoRA, against the Trainer's own padding",
        1.5,
    ),
    job(
        "run-tokens",
        "helpdesk-entities, 800 messages, token classification, LoRA on all linear layers, 5 epochs",
        1.3,
    ),
    job(
        "run-questions",
        "smart-home slots asked for as questions, question answering, LoRA on all linear layers, 1 epoch",
        1.3,
    ),
    job(
        "run-pairs",
        "smart-home commands beside meanings, 3,350 pairs that belong together or not, LoRA, against the Trainer's own padding",
        1.3,
    ),
    job(
        "run-choices",
        "smart-home commands, 1,000 of them with 4 meanings to choose from, multiple choice, LoRA on all linear layers, 1 epoch",
        1.3,
    ),
    job(
        "run-embeddings",
        "smart-home commands and their meanings, 3,350 pairs, sentence embeddings against sentence-transformers, LoRA on all linear \
         layers, 1 epoch",
        1.3,
    ),
];

/// All steps.
fn steps() -> impl Iterator<Item = Job> {
    STEPS.into_iter().chain(language::STEPS)
}

/// All whole runs.
fn runs() -> impl Iterator<Item = Job> {
    RUNS.into_iter().chain([language::RUN])
}

/// Where a job's text comes from, and what is learned of it.
struct TextRun {
    task: &'static str,
    train: PathBuf,
    validation: PathBuf,
    text: &'static str,
    target: &'static str,
    /// The column of the text it is read with.
    pair: Option<&'static str>,
    /// Training rows at most.
    rows: usize,
    epochs: usize,
}

/// One side of a pair.
#[derive(Default, Clone)]
struct Side {
    seconds: Vec<f64>,
    /// Bytes, the most of all rounds.
    peak: f64,
    first_step: Vec<f64>,
    /// The figure on the validation set, as [`figure`] names it.
    figure: Option<f64>,
    /// Of a later epoch.
    epoch: Vec<f64>,
}

/// A finished job.
struct Row {
    job: Job,
    ours: Side,
    theirs: Side,
}

impl Row {
    fn ratio(&self) -> f64 {
        let pairs = self.theirs.seconds.iter().zip(&self.ours.seconds);
        median(
            &pairs
                .map(|(theirs, ours)| theirs / ours)
                .collect::<Vec<_>>(),
        )
    }
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    match sorted.len() {
        0 => f64::NAN,
        n if n % 2 == 1 => sorted[n / 2],
        n => (sorted[n / 2 - 1] + sorted[n / 2]) / 2.0,
    }
}

/// What is known: by machine, its packages and a row a job.
type Known = Map<String, Value>;

/// Runs the jobs and writes `docs/benchmarks.md`, with what earlier calls found of the others and other machines of all.
pub fn run(bench: &Bench) -> Result<()> {
    let program = build(&["rekindle-cli", "rekindle-benches"], &[])?;
    let (Some(bin), root) = (program.parent(), root()) else {
        bail!("{} lies in no folder", program.display());
    };
    // Beside the programs: what the runs write.
    let scratch = bin.join("bench");
    let model = model_dir(bin, "minilm")?;
    let wanted = |name: &str| {
        bench.only.is_empty() || bench.only.iter().any(|o| name.starts_with(o.as_str()))
    };

    fs::create_dir_all(&scratch)?;
    let kept = root.join("benches/rows.json");
    let text = fs::read_to_string(&kept).with_context(|| kept.display().to_string())?;
    let mut known: Known =
        serde_json::from_str(&text).with_context(|| kept.display().to_string())?;
    let (machine, packages) = (machine(), packages(&bench.python)?);
    let path = root.join("docs/benchmarks.md");
    for job in steps().chain(runs()) {
        let name = job.name;
        if !wanted(name) {
            continue;
        }
        println!("==> {name}");
        let whole = runs().any(|run| run.name == name);
        let of_language = language::STEPS.into_iter().chain([language::RUN]);
        let sides = if of_language.into_iter().any(|job| job.name == name) {
            language::run(bench, bin, &scratch, name)?
        } else if whole {
            run_job(bench, bin, &scratch, &model, name)?
        } else {
            Some(step_job(bench, bin, &model, name)?)
        };
        let Some((ours, theirs)) = sides else {
            println!("    left out: its data is not there (--data DIR names the folder)");
            continue;
        };
        let row = Row { job, ours, theirs };
        println!("    {}", line(&row));
        let text = if whole {
            run_line(&row)
        } else {
            step_line(&row)
        };
        let of_machine = known
            .entry(machine.clone())
            .or_insert_with(|| Map::new().into());
        of_machine["packages"] = packages.clone().into();
        of_machine[name] = text.into();
        // After every job, so that a run that is stopped keeps what it has.
        fs::write(&kept, serde_json::to_string_pretty(&known)? + "\n")?;
        fs::write(&path, page(&known)).with_context(|| path.display().to_string())?;
    }
    fs::write(&path, page(&known)).with_context(|| path.display().to_string())?;
    println!("wrote {}", path.display());
    Ok(())
}

/// Takes up rows of a GPU and writes the page.
pub fn take(card: &str, rows: Map<String, Value>) -> Result<()> {
    let kept = root().join("benches/rows.json");
    let text = fs::read_to_string(&kept).with_context(|| kept.display().to_string())?;
    let mut known: Known =
        serde_json::from_str(&text).with_context(|| kept.display().to_string())?;
    let of_card = known
        .entry(card.to_owned())
        .or_insert_with(|| Map::new().into());
    for (key, row) in rows {
        of_card[key] = row;
    }
    fs::write(&kept, serde_json::to_string_pretty(&known)? + "\n")?;
    let path = root().join("docs/benchmarks.md");
    fs::write(&path, page(&known)).with_context(|| path.display().to_string())?;
    println!("wrote {} and {}", kept.display(), path.display());
    Ok(())
}

/// A model's directory, fetched if need be.
fn model_dir(bin: &Path, name: &str) -> Result<PathBuf> {
    let output = Command::new(bin.join("rekindle"))
        .args(["fetch", name])
        .output()?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let found = said
        .split_whitespace()
        .map(Path::new)
        .find(|path| path.is_absolute() && path.is_dir());
    found.map(Path::to_owned).ok_or_else(|| {
        anyhow!(
            "{name} cannot be had: {said}{}",
            String::from_utf8_lossy(&output.stderr)
        )
    })
}

/// A process that does a round for every line.
struct Worker {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Worker {
    fn start(mut command: Command) -> Result<Self> {
        let mut child = spawned(command.stdin(Stdio::piped()))?;
        let (Some(input), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
            bail!("a process without pipes");
        };
        let mut worker = Self {
            child,
            input,
            output: BufReader::new(output),
        };
        while worker.line().with_context(|| shown(&command))? != "ready" {}
        Ok(worker)
    }

    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        if self.output.read_line(&mut line)? == 0 {
            bail!("the process ended early");
        }
        Ok(line.trim().to_owned())
    }

    fn round(&mut self) -> Result<f64> {
        // A moment in which the other side's idle threads go to sleep.
        sleep(Duration::from_millis(300));
        writeln!(self.input)?;
        self.input.flush()?;
        Ok(self.line()?.parse()?)
    }

    /// The peak memory.
    fn end(mut self) -> Result<f64> {
        drop(self.input);
        let mut line = String::new();
        self.output.read_line(&mut line)?;
        self.child.wait()?;
        Ok(line.trim().parse()?)
    }
}

/// Starts a side, to be heard, with the threads that both have.
fn spawned(command: &mut Command) -> Result<Child> {
    command
        .env("RAYON_NUM_THREADS", threads())
        .env("REKINDLE_BENCH_THREADS", threads())
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| shown(command))
}

/// Two, or REKINDLE_BENCH_THREADS.
fn threads() -> String {
    std::env::var("REKINDLE_BENCH_THREADS").unwrap_or_else(|_| "2".into())
}

fn script() -> PathBuf {
    root().join("benches/pytorch.py")
}

fn step_job(bench: &Bench, bin: &Path, model: &Path, name: &str) -> Result<(Side, Side)> {
    let mut command = Command::new(bin.join("rekindle-bench"));
    command.arg(name);
    let mut ours = Worker::start(command)?;
    let mut command = Command::new(&bench.python);
    command
        .arg(script())
        .arg(name)
        .arg(model)
        .stderr(Stdio::null());
    let mut theirs = Worker::start(command)?;
    let (mut a, mut b) = (Side::default(), Side::default());
    for _ in 0..bench.pairs {
        a.seconds.push(ours.round()?);
        b.seconds.push(theirs.round()?);
    }
    (a.peak, b.peak) = (ours.end()?, theirs.end()?);
    Ok((a, b))
}

/// The figure of a whole run: its key in the evaluations of both sides, and its name where that is not the accuracy.
fn figure(name: &str) -> (&'static str, &'static str) {
    match name {
        "run-sentiment" => ("pearson", "Pearson r "),
        "run-multilabel" => ("micro_f1", "micro F1 "),
        "run-commands" => ("perplexity", "perplexity "),
        "run-tokens" => ("entity_f1", "entity F1 "),
        "run-questions" => ("exact_match", "exact match "),
        "run-embeddings" => ("accuracy_at_1", "accuracy at 1 "),
        _ => ("accuracy", ""),
    }
}

/// The text of a whole run. `None` where its data is not there.
fn text_run(bench: &Bench, scratch: &Path, name: &str) -> Result<Option<TextRun>> {
    let sources: &[&str] = match name {
        "run-sst2-padded" | "run-sst2-grouped" => &["sst2/train.tsv", "sst2/validation.tsv"],
        "run-agnews-padded" | "run-agnews-grouped" => &["agnews/train.tsv"],
        "run-sentiment" => &[
            "sentiment-intensity/movies.tsv",
            "sentiment-intensity/products.tsv",
            "sentiment-intensity/tweets.tsv",
        ],
        "run-multilabel" | "run-pairs" => &["smart-home/train.jsonl", "smart-home/test.jsonl"],
        _ => bail!("{name} has no text"),
    };
    let data = bench.data.as_deref();
    let sources: Option<Vec<PathBuf>> = sources
        .iter()
        .map(|file| Some(data?.join(file)).filter(|path| path.is_file()))
        .collect();
    let Some(sources) = sources else {
        return Ok(None);
    };
    let texts: Vec<String> = sources
        .iter()
        .map(|path| fs::read_to_string(path).with_context(|| path.display().to_string()))
        .collect::<Result<_>>()?;
    // What training and validation read: files as they come, or what is made of them.
    let made = |kind: &str, parts: [String; 2]| -> Result<[PathBuf; 2]> {
        let paths =
            ["train", "validation"].map(|part| scratch.join(format!("{name}-{part}.{kind}")));
        for (path, part) in paths.iter().zip(parts) {
            fs::write(path, part).with_context(|| path.display().to_string())?;
        }
        Ok(paths)
    };
    let (task, files, [text, target], rows, epochs) = match name {
        // No test set comes with it: every tenth row is held out.
        "run-agnews-padded" | "run-agnews-grouped" => {
            let files = made("tsv", held_out(texts[0].lines(), 10, ""))?;
            ("text-classification", files, ["0", "1"], 10_000, 1)
        }
        // Nor with this: every fifth of three files, each with a header.
        "run-sentiment" => {
            let rows = texts.iter().flat_map(|text| text.lines().skip(1));
            let files = made("tsv", held_out(rows, 5, "id\tscore\ttext\n"))?;
            ("text-regression", files, ["text", "score"], 5_000, 1)
        }
        "run-multilabel" => {
            let files = made("jsonl", [commands(&texts[0])?, commands(&texts[1])?])?;
            ("text-multi-label", files, ["text", "labels"], 10_000, 1)
        }
        "run-pairs" => {
            let pairs = |text: &str| meant(text, Meant::Pair);
            let files = made("jsonl", [pairs(&texts[0])?, pairs(&texts[1])?])?;
            ("text-classification", files, ["text", "label"], 10_000, 1)
        }
        _ => {
            let files = [sources[0].clone(), sources[1].clone()];
            ("text-classification", files, ["sentence", "label"], 8000, 1)
        }
    };
    let [train, validation] = files;
    Ok(Some(TextRun {
        task,
        train,
        validation,
        text,
        target,
        pair: (name == "run-pairs").then_some("meaning"),
        rows,
        epochs,
    }))
}

/// Whole runs whose two command lines differ in more than their files: what each is told. `None` where the data is not there.
fn of_task(bench: &Bench, scratch: &Path, name: &str) -> Result<Option<[Vec<OsString>; 2]>> {
    let arguments = |words: &str| words.split(' ').map(OsString::from).collect::<Vec<_>>();
    let named = |mut all: Vec<OsString>, flag: &str, path: &Path| {
        all.extend([flag.into(), path.into()]);
        all
    };
    if name == "run-tokens" {
        let [train, validation, test] = ["train", "validation", "test"]
            .map(|part| root().join(format!("datasets/helpdesk-entities/{part}.jsonl")));
        let mut here = arguments("--task token-classification --model minilm --epochs 5");
        for (flag, path) in [
            ("--train", &train),
            ("--validation", &validation),
            ("--test", &test),
        ] {
            here = named(here, flag, path);
        }
        let mut there = arguments("tokens");
        there.extend([train, validation, test].map(OsString::from));
        there.extend(arguments("5 1"));
        return Ok(Some([here, there]));
    }
    let Some(data) = bench.data.as_ref().map(|data| data.join("smart-home")) else {
        return Ok(None);
    };
    if !data.is_dir() {
        return Ok(None);
    }
    let mut made = Vec::new();
    for part in ["train", "test"] {
        let source = data.join(format!("{part}.jsonl"));
        let text = fs::read_to_string(&source).with_context(|| source.display().to_string())?;
        let path = scratch.join(format!("{name}-{part}.jsonl"));
        let rows = match name {
            "run-questions" => questions(&text)?,
            "run-choices" => meant(&text, Meant::Choices)?,
            _ => meant(&text, Meant::Search)?,
        };
        fs::write(&path, rows).with_context(|| path.display().to_string())?;
        made.push(path);
    }
    let (here, told) = match name {
        "run-questions" => (
            "--task question-answering --model minilm --epochs 1 --batch-size 32 --set data.max_length=128",
            "questions",
        ),
        "run-choices" => (
            "--task multiple-choice --model minilm --epochs 1 --batch-size 16 --set data.train_limit=1000",
            "choices",
        ),
        _ => (
            "--task text-embedding --model minilm --epochs 1 --batch-size 64",
            "embeddings",
        ),
    };
    let here = arguments(here);
    let here = named(named(here, "--train", &made[0]), "--validation", &made[1]);
    let mut there = arguments(told);
    there.extend(made.into_iter().map(OsString::from));
    if name == "run-choices" {
        there.push("1000".into());
    }
    there.push("1".into());
    Ok(Some([here, there]))
}

/// Spoken commands, each with what it means: its intent and its slots.
fn spoken(lines: &str) -> Result<Vec<(String, Map<String, Value>)>> {
    let command = |line: &str| {
        let row: Value = serde_json::from_str(line)?;
        let said = row["text"].as_str().unwrap_or_default().to_owned();
        let meant = serde_json::from_str(row["json"].as_str().unwrap_or("{}"))?;
        Ok((said, meant))
    };
    lines.lines().map(command).collect()
}

/// The value of a slot as it is said.
fn worded(value: &Value) -> String {
    match value {
        Value::String(said) => said.clone(),
        other => other.to_string(),
    }
}

/// What is made of spoken commands and their meanings.
#[derive(Clone, Copy)]
enum Meant {
    /// `{"text", "meaning", "label"}`: every second command beside another's meaning.
    Pair,
    /// `{"question", "choices", "answer"}`: its meaning among three others'.
    Choices,
    /// `{"query", "document"}`.
    Search,
}

/// Spoken commands with what each means in words: the intent, then every slot and its value.
fn meant(lines: &str, what: Meant) -> Result<String> {
    let mut rows = Vec::new();
    for (said, meant) in spoken(lines)? {
        let words = meant
            .iter()
            .map(|(slot, value)| format!("{slot} {}", worded(value)));
        rows.push((said, words.collect::<Vec<_>>().join(", ")));
    }
    let mut out = String::new();
    for (i, (said, meaning)) in rows.iter().enumerate() {
        // Of the rows behind it, some way apart: rows nearby are often of one template.
        let mut others = (1..rows.len())
            .map(|n| &rows[(i + 61 * n) % rows.len()].1)
            .filter(|other| *other != meaning);
        let row = match what {
            Meant::Pair if i % 2 == 1 => {
                let other = others.next().context("all commands mean the same")?;
                serde_json::json!({"text": said, "meaning": other, "label": "other"})
            }
            Meant::Pair => serde_json::json!({"text": said, "meaning": meaning, "label": "same"}),
            Meant::Choices => {
                let mut choices: Vec<&String> = Vec::new();
                for other in others {
                    if choices.len() == 3 {
                        break;
                    }
                    if !choices.contains(&other) {
                        choices.push(other);
                    }
                }
                let place = i % 4;
                choices.insert(place, meaning);
                serde_json::json!({"question": said, "choices": choices, "answer": place})
            }
            Meant::Search => serde_json::json!({"query": said, "document": meaning}),
        };
        out += &row.to_string();
        out.push('\n');
    }
    Ok(out)
}

/// Spoken commands, each slot whose words stand there once asked for: `{"question", "context", "answers"}` a line.
fn questions(lines: &str) -> Result<String> {
    let mut out = String::new();
    for (text, meant) in spoken(lines)? {
        for (slot, value) in &meant {
            let said = worded(value);
            let mut places = text.match_indices(&said);
            let (Some((byte, _)), None) = (places.next(), places.next()) else {
                continue;
            };
            let start = text[..byte].chars().count();
            let question = format!("What is the {}?", slot.replace('_', " "));
            let answers = serde_json::json!({"text": [said], "answer_start": [start]});
            out += &serde_json::json!({"question": question, "context": text, "answers": answers})
                .to_string();
            out.push('\n');
        }
    }
    Ok(out)
}

/// Lines in two parts, the second of every `nth`; each after `header`.
fn held_out<'a>(lines: impl Iterator<Item = &'a str>, nth: usize, header: &str) -> [String; 2] {
    let mut parts = [header.to_owned(), header.to_owned()];
    for (i, line) in lines.enumerate() {
        let part = &mut parts[usize::from(i % nth == nth - 1)];
        part.push_str(line);
        part.push('\n');
    }
    parts
}

/// Spoken commands with the names of the intent and of the slots that each fills: `{"text", "labels": [..]}` a line.
fn commands(lines: &str) -> Result<String> {
    let mut out = String::new();
    for (text, meant) in spoken(lines)? {
        let labels: Vec<&str> = meant
            .iter()
            .filter_map(|(key, value)| match key.as_str() {
                "intent" => value.as_str(),
                slot => Some(slot),
            })
            .collect();
        out += &serde_json::json!({"text": text, "labels": labels}).to_string();
        out.push('\n');
    }
    Ok(out)
}

fn run_job(
    bench: &Bench,
    bin: &Path,
    scratch: &Path,
    model: &Path,
    name: &str,
) -> Result<Option<(Side, Side)>> {
    let out = scratch.join("run");
    let (mut ours, mut theirs) = (Side::default(), Side::default());
    for _ in 0..bench.pairs {
        let (mut here, mut there) = (
            Command::new(bin.join("rekindle")),
            Command::new(&bench.python),
        );
        there.arg(script());
        here.arg("finetune").arg("--output").arg(&out);
        if name == "run-head" {
            let Some(folder) = bench
                .data
                .as_ref()
                .map(|d| d.join("hymenoptera"))
                .filter(|d| d.is_dir())
            else {
                return Ok(None);
            };
            here.args(["--config", "configs/images-head.toml", "--epochs", "3"]);
            here.args(["--set", "images.size=224", "--train"])
                .arg(&folder);
            there
                .arg("head")
                .arg(&folder)
                .arg(model_dir(bin, "efficientnet-lite0")?)
                .arg(scratch.join("head.pt"));
        } else if matches!(
            name,
            "run-tokens" | "run-questions" | "run-choices" | "run-embeddings"
        ) {
            let Some([ours, theirs]) = of_task(bench, scratch, name)? else {
                return Ok(None);
            };
            here.args(ours);
            there.args(theirs).arg(model).arg(scratch.join("peft"));
        } else {
            let Some(run) = text_run(bench, scratch, name)? else {
                return Ok(None);
            };
            let (rows, epochs) = (run.rows.to_string(), run.epochs.to_string());
            here.args(["--config", "configs/sst2-lora.toml", "--epochs", &epochs]);
            here.args(["--text", run.text, "--label", run.target]);
            here.arg("--train").arg(&run.train);
            here.arg("--validation").arg(&run.validation);
            here.args(["--set", &format!("data.train_limit={rows}")]);
            here.args(["--set", &format!("task={}", run.task)]);
            if run.task == "text-regression" {
                // The Trainer learns the numbers as they are.
                here.args(["--set", "train.standardize_targets=false"]);
            }
            if run.task == "text-multi-label" {
                // The Trainer has one learning rate, which is the run file's.
                here.args(["--set", "train.head_learning_rate=1e-3"]);
            }
            if run.text == "0" {
                here.args(["--set", "data.header=false"]);
            }
            let batches = match name.rsplit('-').next() {
                Some("grouped") => "grouped",
                _ => "padded",
            };
            there.args(["text", run.task, "lora", batches]);
            there.arg(&run.train).arg(&run.validation);
            let mut text = run.text.to_owned();
            if let Some(pair) = run.pair {
                here.args(["--text-pair", pair]);
                text = format!("{text},{pair}");
            }
            there.args([&text, run.target, &rows, &epochs]);
            there.arg(model).arg(scratch.join("peft"));
        }
        let _ = fs::remove_dir_all(&out);
        whole(here, &mut ours, heard)?;
        let events = events(&out.join("metrics.jsonl"))?;
        ours.figure = best_figure(&events, figure(name).0);
        if name == "run-head" {
            ours.epoch.push(later_epoch(&events));
        }
        whole(there, &mut theirs, |line, side| {
            heard(line, side);
            let Ok(Value::Object(said)) = serde_json::from_str(line) else {
                return;
            };
            side.figure = said.get(figure(name).0).and_then(Value::as_f64);
            let epochs = said.get("epochs").and_then(Value::as_array);
            side.epoch.extend(epochs.and_then(|e| e.last()?.as_f64()));
        })?;
    }
    Ok(Some((ours, theirs)))
}

/// Takes the peak memory from a line that a process prints: ours for people, the Python script's as JSON.
fn heard(line: &str, side: &mut Side) {
    let here = line.split_once(" MB at the peak").and_then(|(before, _)| {
        let megabytes = before.rsplit(' ').next()?.parse::<f64>().ok()?;
        Some(megabytes * 1e6)
    });
    let there = || {
        serde_json::from_str::<Value>(line)
            .ok()?
            .get("peak")?
            .as_f64()
    };
    side.peak = side.peak.max(here.or_else(there).unwrap_or(0.0));
}

/// The events that a run wrote down.
fn events(metrics: &Path) -> Result<Vec<Value>> {
    let text = fs::read_to_string(metrics).with_context(|| metrics.display().to_string())?;
    let events = text.lines().map(serde_json::from_str);
    events
        .collect::<Result<_, _>>()
        .with_context(|| metrics.display().to_string())
}

/// A figure of the best evaluation: that of the model that was kept.
fn best_figure(events: &[Value], key: &str) -> Option<f64> {
    let mut evaluations = events.iter().filter(|e| e["kind"] == "evaluated");
    let best = evaluations.rfind(|e| e["best"] == true)?;
    best["evaluation"]["metrics"][key].as_f64()
}

/// Seconds of the last epoch: its steps, as far as they were written down at their common pace, and its evaluation.
fn later_epoch(events: &[Value]) -> f64 {
    let of = |kind: &str| events.iter().rev().find(|e| e["kind"] == kind);
    let seconds = |event: Option<&Value>| {
        event
            .and_then(|e| e["seconds"].as_f64())
            .unwrap_or(f64::NAN)
    };
    let steps = of("step").and_then(|e| Some(e["step"].as_f64()? / e["epoch"].as_f64()?));
    seconds(of("step")) * steps.unwrap_or(f64::NAN) + seconds(of("evaluated"))
}

/// Runs a process to its end; `hear` gets what it prints.
fn whole(
    mut command: Command,
    side: &mut Side,
    mut hear: impl FnMut(&str, &mut Side),
) -> Result<()> {
    let start = Instant::now();
    let mut child = spawned(command.current_dir(root()).stderr(Stdio::piped()))?;
    let (Some(output), Some(errors)) = (child.stdout.take(), child.stderr.take()) else {
        bail!("a process without pipes");
    };
    // Progress comes on standard error, results on standard output.
    let watch = std::thread::spawn(move || {
        let (mut first, mut said) = (None, String::new());
        for line in BufReader::new(errors).lines().map_while(Result::ok) {
            if line.starts_with("step 1/") {
                first.get_or_insert(start.elapsed().as_secs_f64());
            }
            said = line;
        }
        (first, said)
    });
    let mut first = None;
    for line in BufReader::new(output).lines().map_while(Result::ok) {
        if line == "first step" {
            first.get_or_insert(start.elapsed().as_secs_f64());
        }
        hear(&line, side);
    }
    let ended = child.wait()?;
    side.seconds.push(start.elapsed().as_secs_f64());
    let (progress, said) = watch
        .join()
        .map_err(|_| anyhow!("the watching thread fell"))?;
    side.first_step.extend(first.or(progress));
    if !ended.success() {
        bail!("`{}` failed: {said}", shown(&command));
    }
    Ok(())
}

fn line(row: &Row) -> String {
    format!(
        "ours {:.3} s, PyTorch {:.3} s, ratio {:.2} (aim {}), memory {:.0} and {:.0} MB",
        median(&row.ours.seconds),
        median(&row.theirs.seconds),
        row.ratio(),
        row.job.aim,
        row.ours.peak / 1e6,
        row.theirs.peak / 1e6,
    )
}

fn step_line(row: &Row) -> String {
    format!(
        "| {} | {:.3} s | {:.3} s | {:.2} | {} | {:.0} MB | {:.2} | {} |",
        row.job.what,
        median(&row.ours.seconds),
        median(&row.theirs.seconds),
        row.ratio(),
        row.job.aim,
        row.ours.peak / 1e6,
        row.ours.peak / row.theirs.peak,
        row.ours.seconds.len(),
    )
}

fn run_line(row: &Row) -> String {
    let figure_of = |side: &Side| {
        side.figure
            .map_or_else(|| "?".into(), |value| format!("{value:.4}"))
    };
    let mut line = format!(
        "| {} | {:.1} s | {:.1} s | {:.2} | {} | {}{}, {} | {:.1} s, {:.1} s | {:.0} MB | {:.2} | {} |",
        row.job.what,
        median(&row.ours.seconds),
        median(&row.theirs.seconds),
        row.ratio(),
        row.job.aim,
        figure(row.job.name).1,
        figure_of(&row.ours),
        figure_of(&row.theirs),
        median(&row.ours.first_step),
        median(&row.theirs.first_step),
        row.ours.peak / 1e6,
        row.ours.peak / row.theirs.peak,
        row.ours.seconds.len(),
    );
    if !row.ours.epoch.is_empty() {
        let (ours, theirs) = (median(&row.ours.epoch), median(&row.theirs.epoch));
        let ratio = theirs / ours;
        line += &format!(
            "\n| an epoch of it after the first: the frozen part is computed once | {ours:.4} s | {theirs:.2} s | {ratio:.0} | 20 | | | | | {} |",
            row.ours.epoch.len()
        );
    }
    line
}

/// The CPU by name, and which of its instructions our kernels and PyTorch's choose by.
fn machine() -> String {
    let said = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let field = |name: &str| {
        let line = said.lines().find(|line| line.starts_with(name))?;
        Some(line.split_once(':')?.1.trim().to_owned())
    };
    let name = field("model name").unwrap_or_else(|| std::env::consts::ARCH.into());
    let flags = field("flags").unwrap_or_default();
    let has = |flag: &str| flags.split_whitespace().any(|f| f == flag);
    let best = [
        ("amx_bf16", ", AMX"),
        ("avx512_bf16", ", AVX-512 BF16"),
        ("avx512f", ", AVX-512"),
        ("avx2", ", AVX2"),
    ];
    let best = best.into_iter().find(|(flag, _)| has(flag));
    let number = |name: &str| field(name).and_then(|value| value.parse().ok());
    let generation = match (field("vendor_id").as_deref(), number("cpu family")) {
        (Some("AuthenticAMD"), Some(family)) => zen(family, has("avx512_bf16")),
        _ => "",
    };
    name + generation + best.map_or("", |(_, what)| what)
}

/// AMD's generation by the family of the CPU: a virtual machine may call each of them "AMD EPYC".
fn zen(family: u32, has_bf16: bool) -> &'static str {
    match (family, has_bf16) {
        (23, _) => " (Zen 1 or 2)",
        (25, false) => " (Zen 3)",
        (25, true) => " (Zen 4)",
        (26, _) => " (Zen 5)",
        _ => "",
    }
}

fn packages(python: &Path) -> Result<String> {
    let mut command = Command::new(python);
    command.args([
        "-c",
        "import torch, transformers, peft, timm, torchvision, sentence_transformers as st; print(f'PyTorch {torch.__version__}, transformers {transformers.__version__}, PEFT {peft.__version__}, timm {timm.__version__}, torchvision {torchvision.__version__}, sentence-transformers {st.__version__}')",
    ]);
    let output = command.output().with_context(|| shown(&command))?;
    if !output.status.success() {
        bail!(
            "{} lacks a package: {}\nhint: name a Python that has torch, transformers, peft, timm, torchvision and sentence-transformers with --python",
            python.display(),
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

fn page(known: &Known) -> String {
    let mut page = format!(
        "# Benchmarks\n\n\
         Written by `cargo xtask bench` from `benches/rows.json`. Every job runs here and in PyTorch in turn, pair by pair, in one call, with \
         {} threads each, in f32 except where bf16 is named.\n\n\
         | column | says |\n|---|---|\n\
         | ours, PyTorch | the median time of a round |\n\
         | ratio | PyTorch's time divided by ours, the median over the pairs; above 1 we are faster |\n\
         | aim | the ratio that this project wants to reach at least |\n\
         | peak memory | of our process; the next column is its share of PyTorch's |\n\
         | pairs | how often both sides were measured |\n\n\
         Steps: no dropout. BERT's last layer computes here only what the head reads, which PyTorch does not do: a seventh of its work. A \
         training step is forward, backward, clipping and AdamW (PyTorch's fused one). Image models run in PyTorch in whichever memory layout \
         is faster. Language models run as whole programs, of which the steps after the first count.\n\n\
         Whole runs: from the start of the process to its end, with the data read and encoded, the model trained for one epoch (where \
         three are named: three), evaluated and saved.\n\n\
         | data | what it is | learned, evaluated on |\n|---|---|---|\n\
         | sst2 | GLUE's SST-2: phrases of film reviews, positive or negative | the first 8,000 of 60,614 phrases; 6,735 others |\n\
         | AG News | news in four classes (Zhang et al. 2015), 10,001 rows of it | nine rows of ten; every tenth |\n\
         | sentiment intensity | 18,513 snippets rated by people: the films, products and tweets of `datasets/sentiment-intensity` (not its news) | the first 5,000 of four rows in five; every fifth |\n\
         | smart-home commands | spoken commands expanded from the sentence templates of Home Assistant (the Python package home-assistant-intents); labels are the intent and the names of the slots | 3,350; 332 of other templates |\n\
         | commands and their meanings | the same commands with their intents and slots in words: beside the right meaning or another's, among three others', or to be found | 3,350, of the choices the first 1,000; 332 of other templates |\n\
         | commands to JSON | the same commands with what each means as JSON, as prompts and completions | the first 640; 332 of other templates |\n\
         | ants and bees | the photographs of PyTorch's transfer learning tutorial (hymenoptera) | 244; 153 |\n\n\
         Micro F1 is at a threshold of 0.5. One epoch at the Trainer's one rate takes neither side above 0.5 for any smart-home label: that row \
         compares times alone.\n",
        threads()
    );
    for (machine, rows) in known {
        let packages = rows["packages"].as_str().unwrap_or_default();
        page += &format!("\n## {machine}\n\n{packages}.\n");
        let mut table = |head: &str, jobs: Vec<Job>| {
            let lines: Vec<&str> = jobs
                .iter()
                .filter_map(|job| rows.get(job.name)?.as_str())
                .collect();
            if !lines.is_empty() {
                page += &format!("\n{head}\n{}\n", lines.join("\n"));
            }
        };
        table(
            "| step | ours | PyTorch | ratio | aim | peak memory | of PyTorch's | pairs |\n|---|---|---|---|---|---|---|---|",
            steps().collect(),
        );
        table(
            "| whole run | ours | PyTorch | ratio | aim | accuracy (or what is named), ours and PyTorch's | start to first step | peak memory | of PyTorch's | pairs |\n\
             |---|---|---|---|---|---|---|---|---|---|",
            runs().collect(),
        );
        let of_device: Vec<&str> = (rows.as_object().into_iter().flatten())
            .filter(|(key, _)| key.starts_with("device: "))
            .filter_map(|(_, row)| row.as_str())
            .collect();
        if !of_device.is_empty() {
            page += &format!(
                "\nOn this GPU, written by `cargo xtask device-check` ([docs/gpu.md](gpu.md)): a step, the median of 10, each waited for.\n\n\
                 | job | ours, f32 | TF32 | bf16 products | PyTorch f32 | TF32 | bf16 autocast | compiled f32 | ratio in f32 |\n|---|---|---|---|---|---|---|---|---|\n{}\n",
                of_device.join("\n")
            );
        }
    }
    page
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn the_median_is_of_the_middle() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[4.0, 1.0]), 2.5);
        assert!(median(&[]).is_nan());
    }

    #[test]
    fn every_nth_line_is_held_out_under_the_same_header() {
        let parts = held_out(["a", "b", "c", "d"].into_iter(), 2, "h\n");
        assert_eq!(parts, ["h\na\nc\n", "h\nb\nd\n"]);
    }

    #[test]
    fn a_command_is_labelled_with_its_intent_and_slots() {
        let line = r#"{"text": "open it", "json": "{\"intent\": \"Open\", \"area\": \"hall\"}"}"#;
        let found: Value = serde_json::from_str(&commands(line).unwrap()).unwrap();
        let labels = serde_json::json!(["Open", "area"]);
        assert_eq!(
            found,
            serde_json::json!({"text": "open it", "labels": labels})
        );
    }

    #[test]
    fn a_meaning_stands_beside_its_command_or_among_others() {
        let line = |text: &str, intent: &str| {
            let json = serde_json::json!({"intent": intent, "area": "hall"}).to_string();
            serde_json::json!({"text": text, "json": json}).to_string()
        };
        let names = ["Open", "Close", "Dim", "Open", "Lock"];
        let lines: Vec<String> = names.iter().map(|name| line("do it", name)).collect();
        let rows = |what| -> Vec<Value> {
            let made = meant(&lines.join("\n"), what).unwrap();
            made.lines()
                .map(|line| serde_json::from_str(line).unwrap())
                .collect()
        };
        let means = |name: &str| format!("intent {name}, area hall");
        for (i, row) in rows(Meant::Pair).iter().enumerate() {
            assert_eq!(row["label"] == "same", i % 2 == 0);
            assert_eq!(row["meaning"] == means(names[i]), i % 2 == 0, "{row}");
        }
        for (i, row) in rows(Meant::Choices).iter().enumerate() {
            let choices: Vec<&str> = (row["choices"].as_array().unwrap().iter())
                .map(|choice| choice.as_str().unwrap())
                .collect();
            let right = row["answer"].as_u64().unwrap() as usize;
            assert_eq!(choices[right], means(names[i]));
            let distinct: std::collections::HashSet<_> = choices.iter().collect();
            assert_eq!((choices.len(), distinct.len()), (4, 4), "{row}");
        }
        assert_eq!(rows(Meant::Search)[2]["document"], means("Dim"));
    }

    #[test]
    fn the_figure_is_that_of_the_last_best_evaluation() {
        let evaluated = |best: bool, r: f64| serde_json::json!({"kind": "evaluated", "best": best, "evaluation": {"metrics": {"pearson": r}}});
        let mut events = vec![
            evaluated(true, 0.1),
            evaluated(true, 0.3),
            evaluated(false, 0.2),
        ];
        events.push(serde_json::json!({"kind": "step", "loss": 1.0}));
        assert_eq!(best_figure(&events, "pearson"), Some(0.3));
        assert_eq!(best_figure(&events, "accuracy"), None);
    }

    #[test]
    fn the_page_in_docs_is_that_of_the_kept_rows() {
        let read = |path: &str| fs::read_to_string(root().join(path)).unwrap();
        let known: Known = serde_json::from_str(&read("benches/rows.json")).unwrap();
        assert!(
            read("docs/benchmarks.md") == page(&known),
            "docs/benchmarks.md is not what the rows and the text of `page` give: `cargo xtask bench --python PATH --only none` writes it anew"
        );
    }

    #[test]
    fn the_same_name_on_two_generations_is_two_machines() {
        assert_eq!(zen(25, true), " (Zen 4)");
        assert_eq!(zen(26, true), " (Zen 5)");
        assert_eq!(zen(6, true), "");
    }

    #[test]
    fn a_page_gives_the_median_of_the_pairs_ratios() {
        let side = |seconds: &[f64], peak: f64| Side {
            seconds: seconds.to_vec(),
            peak,
            ..Side::default()
        };
        let row = Row {
            job: job("minilm-full", "a job", 1.1),
            ours: side(&[1.0, 2.0, 4.0], 1e6),
            theirs: side(&[2.0, 2.0, 2.0], 4e6),
        };
        let rows = serde_json::json!({"packages": "PyTorch 3", "minilm-full": step_line(&row)});
        let page = page(&Map::from_iter([("a machine".to_owned(), rows)]));
        assert!(page.contains("## a machine\n\nPyTorch 3.\n"), "{page}");
        assert!(
            page.contains("| a job | 2.000 s | 2.000 s | 1.00 | 1.1 | 1 MB | 0.25 | 3 |"),
            "{page}"
        );
    }
}
