//! The parts of a saved model: found and looked into, but not loaded.

use crate::{
    Error, Observer, RunConfig,
    config::{Device, Override},
    finetune::find_model,
    fingerprint::weights_digest,
    gguf,
    model_card::BaseName,
    saved::{KeptSettings, Saved, SavedModel},
    sentence::SentenceFiles,
    task::{Kind, Modality, Task},
};
use rekindle_base::{near::near_misses, shell_word};
use rekindle_data::model_max_length;
use rekindle_hub::{Hub, HubError, Resolved};
use rekindle_models::{HeadSpec, Model, ModelConfig, Pretrained, Problem, Reads};
use rekindle_nn::TuneBackend;
use rekindle_weights::WeightFiles;
use std::path::{Path, PathBuf};

/// Texts are cut here where nothing says how long they may be.
const DEFAULT_LENGTH: usize = 512;
/// Conversations, here: as runs cut them.
const CHAT_LENGTH: usize = 1024;

/// A saved model.
pub(crate) struct Located {
    /// The model's directory; of an adapter, its base model's.
    pub pretrained: Pretrained,
    /// The adapter's directory, if it is one.
    pub adapter: Option<PathBuf>,
    /// Of an adapter, what its base is called.
    pub base: Option<BaseName>,
    /// Where tokenizer files lie.
    pub tokenizer: PathBuf,
    pub task: Task,
    /// Names of what it answers.
    pub labels: Vec<String>,
    /// Whether they are numbers for want of names.
    pub nameless: bool,
    pub max_length: usize,
    /// What else was kept of how it was evaluated.
    pub kept: KeptSettings,
    /// Least probability of each label that is given; empty where nothing says.
    pub thresholds: Vec<f64>,
    /// What the head reads, where we saved the model.
    pub reads: Option<Reads>,
}

/// The directory of a saved model (or its file of weights): of a run, what it ended with.
fn find(path: &Path, observer: &dyn Observer) -> Result<PathBuf, Error> {
    let hub = Hub::from_env();
    if path.is_file() {
        return gguf::unpacked(&hub, path);
    }
    if !path.is_dir() {
        return Ok(find_model(&path.to_string_lossy(), &hub, observer)?.dir);
    }
    match path.join("config.toml").is_file() || path.join("final").is_dir() {
        true => end_of_run(path),
        false => gguf::unpacked(&hub, path),
    }
}

/// What a run ended with.
///
/// # Errors
/// Where it is not finished.
pub(crate) fn end_of_run(run: &Path) -> Result<PathBuf, Error> {
    let last = run.join("final");
    match last.is_dir() {
        true => Ok(last),
        false => Err(Error::ModelDir {
            path: run.to_owned(),
            reason: "the run is not finished: it has no final/ yet".into(),
            hint: format!("continue it: rekindle finetune --resume {}", run.display()),
        }),
    }
}

/// Ends of names of files that hold models.
const FILE_ENDINGS: [&str; 7] = ["gguf", "safetensors", "bin", "pt", "pth", "ckpt", "onnx"];

/// A model by its name. What can only be a path is not asked of the hub, nor what begins in a folder that holds a like name
/// (`runs/tikets`): an error names what there is instead. `runs/tikets@main` is always the hub's.
///
/// # Errors
/// As [`Hub::model`].
pub(crate) fn find_on_hub(
    name: &str,
    hub: &Hub,
    observer: &dyn Observer,
) -> Result<Resolved, Error> {
    let path = Path::new(name);
    let ending = path.extension().and_then(|ending| ending.to_str());
    let ending = ending.map(str::to_lowercase).unwrap_or_default();
    let is_file = FILE_ENDINGS.contains(&ending.as_str());
    let parent = path.parent().filter(|parent| *parent != Path::new(""));
    let is_missing = !path.exists();
    let begins_here = is_missing && parent.is_some_and(Path::is_dir) && !name.contains('@');
    if is_missing && is_file || begins_here && !Missing::at(path).near.is_empty() {
        return Err(Missing::at(path).error(is_file, None));
    }
    match hub.model(name, observer.downloads()) {
        Ok(found) => Ok(found),
        Err(HubError::PathNotFound { .. }) => Err(Missing::at(path).error(is_file, None)),
        Err(error) if begins_here => Err(Missing::at(path).error(is_file, Some(&error))),
        Err(error) => Err(error.into()),
    }
}

/// A path that leads nowhere.
struct Missing<'a> {
    path: &'a Path,
    /// The nearest folder that is there; empty for the current one.
    folder: PathBuf,
    /// What it holds.
    holds: Vec<String>,
    /// What of that is called nearly so.
    near: Vec<String>,
}

impl<'a> Missing<'a> {
    fn at(path: &'a Path) -> Self {
        // Of a path of which several parts are missing, the first of these is the one to correct.
        let (here, current) = (Path::new(""), Path::new("."));
        let parts = path
            .ancestors()
            .map(|part| (part, part.parent().unwrap_or(here)));
        let mut parts = parts.filter(|(_, folder)| *folder == here || folder.is_dir());
        let (part, folder) = parts.next().unwrap_or((path, here));
        let read = if folder == here { current } else { folder };
        let entries = std::fs::read_dir(read).into_iter().flatten();
        let mut holds: Vec<String> = entries
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
            .collect();
        holds.sort();
        let wanted = part.file_name().unwrap_or_default().to_string_lossy();
        Self {
            path,
            folder: folder.to_owned(),
            near: near_misses(&wanted, holds.iter().map(String::as_str)),
            holds,
        }
    }

    /// The error, with what the hub said where it was asked.
    fn error(&self, is_file: bool, hub: Option<&HubError>) -> Error {
        let name = self.path.to_string_lossy();
        let shown = |near: &String| format!("`{}`", self.folder.join(near).display());
        let near: Vec<String> = self.near.iter().map(shown).collect();
        let folder = match self.folder.as_os_str().is_empty() {
            true => "this folder".to_owned(),
            false => self.folder.display().to_string(),
        };
        let may_be_on_hub = !is_file
            && hub.is_none()
            && name.matches('/').count() == 1
            && !name.starts_with(['.', '/', '~']);
        Error::ModelDir {
            path: self.path.to_owned(),
            reason: match (is_file, hub) {
                (true, _) => "no such file".to_owned(),
                (false, None) => "no such model directory".to_owned(),
                (false, Some(error)) => {
                    let said = error.to_string();
                    let said = said.split("\nhint: ").next().unwrap_or_default();
                    format!("no such directory; and as a model of the hub: {said}")
                }
            },
            hint: match (near.is_empty(), may_be_on_hub) {
                (true, _) => format!("{folder} holds {}", listed(&self.holds)),
                (false, false) => format!("did you mean {}?", near.join(" or ")),
                (false, true) => format!(
                    "did you mean {}? A model of the hub is `{name}@main`",
                    near.join(" or ")
                ),
            },
        }
    }
}

/// The content of a folder in words.
fn listed(names: &[String]) -> String {
    match names.is_empty() {
        true => "nothing".to_owned(),
        false => shortened(names),
    }
}

/// The settings that a saved model brings, `overrides` over them.
///
/// # Errors
/// Every mistake of the overrides.
pub(crate) fn own_settings(
    task: Task,
    max_length: usize,
    kept: &KeptSettings,
    overrides: &[Override],
) -> Result<RunConfig, Error> {
    let mut all = vec![Override::flag("the model", "task", task.name())];
    all.extend(kept.overrides(task, max_length));
    all.extend_from_slice(overrides);
    Ok(RunConfig::load(None, &all)?)
}

/// Finds what belongs to a saved model.
pub(crate) fn locate(path: &Path, observer: &dyn Observer) -> Result<Located, Error> {
    let (dir, saved) = found(path, observer)?;
    let embeds = embeds(saved.as_ref());
    match dir.join("adapter_config.json").is_file() {
        true => locate_adapter(dir, saved, embeds, observer),
        false => locate_model(dir, saved, embeds),
    }
}

/// Finds what belongs to a model of which embeddings are wanted, whatever it was tuned for; and how these are made of tokens. An adapter
/// of another task keeps its head, by which its tensors are called.
///
/// # Errors
/// As [`locate`], and for what is no encoder of texts.
pub(crate) fn locate_to_embed(
    path: &Path,
    observer: &dyn Observer,
) -> Result<(Located, SentenceFiles), Error> {
    let (dir, saved) = found(path, observer)?;
    let own = saved.as_ref().map(|saved| saved.max_length);
    let mut located = match dir.join("adapter_config.json").is_file() {
        true => {
            let embeds = saved.is_none() || embeds(saved.as_ref());
            locate_adapter(dir.clone(), saved, embeds, observer)?
        }
        false => locate_model(dir.clone(), saved, true)?,
    };
    let config = located.pretrained.config();
    if config.is_decoder() || config.text.is_none() {
        return Err(Error::ModelDir {
            path: dir,
            reason: format!("{} gives texts no vectors", config.architecture()),
            hint: "name an encoder of texts, such as minilm".into(),
        });
    }
    let files = match SentenceFiles::are_in(&dir) {
        true => SentenceFiles::read(&dir)?,
        false => SentenceFiles::read(located.pretrained.dir())?,
    };
    let reads = *located.reads.get_or_insert(files.reads);
    if reads == Reads::Each {
        located.reads = Some(files.reads);
    }
    if let (None, Some(length)) = (own, files.max_length) {
        located.max_length = length;
    }
    Ok((located, files))
}

/// A saved model's directory, and what we saved of it.
fn found(path: &Path, observer: &dyn Observer) -> Result<(PathBuf, Option<Saved>), Error> {
    let dir = find(path, observer)?;
    let saved = match dir.is_dir() {
        true => Saved::read(&dir)?,
        false => None,
    };
    Ok((dir, saved))
}

/// Whether a model was saved as one of embeddings.
fn embeds(saved: Option<&Saved>) -> bool {
    saved.is_some_and(|saved| saved.task == Task::TextEmbedding.name())
}

fn locate_adapter(
    dir: PathBuf,
    saved: Option<Saved>,
    embeds: bool,
    observer: &dyn Observer,
) -> Result<Located, Error> {
    let adapter = rekindle_peft::read_config(&dir)?;
    let weights = dir.join("adapter_model.safetensors");
    if !weights.is_file() {
        return Err(Error::ModelDir {
            path: dir,
            reason: "the adapter's tensors are missing: expected adapter_model.safetensors".into(),
            hint: "copy the whole adapter directory; a .bin file becomes safetensors by PEFT's save_pretrained".into(),
        });
    }
    let name = saved
        .as_ref()
        .and_then(|s| s.base_model.clone())
        .or(adapter.base_model_name_or_path)
        .ok_or_else(|| Error::ModelDir {
            path: dir.clone(),
            reason: "the adapter does not say which base model it is for".into(),
            hint: "write base_model_name_or_path into its adapter_config.json".into(),
        })?;
    let found = find_model(&name, &Hub::from_env(), observer);
    let found =
        found.map_err(
            |error| match Path::new(&name).is_absolute() || name.starts_with('.') {
                false => error,
                true => without_base(&dir, &name, saved.is_some()),
            },
        )?;
    let base_name = BaseName::of(&found);
    let base = found.dir;
    let mut pretrained = Pretrained::open(&base)?;
    if let Some(tuned_on) = saved.as_ref().and_then(|saved| saved.base_weights.as_ref())
        && *tuned_on != weights_digest(&pretrained)?
    {
        observer.note(&format!(
            "warning: the weights of {name} are not those that the adapter in {} was tuned on: its answers are others too",
            dir.display()
        ));
    }
    if let Some(rows) = rekindle_peft::stored_vocabulary(&dir)? {
        pretrained = pretrained.with_vocabulary(rows);
    }
    if let Some((side, crop)) = saved.as_ref().and_then(|saved| saved.kept.pictures) {
        pretrained = pretrained.with_picture_size(side, Some(crop));
    }
    let config = pretrained.config();
    let labels = match &saved {
        _ if embeds => Vec::new(),
        Some(saved) => saved.labels.clone(),
        None if config.is_decoder() => Vec::new(),
        None => {
            let files = WeightFiles::open(&weights)?;
            let tensor = format!("base_model.model.{}.weight", config.output_module());
            match files.shape(&tensor).and_then(|shape| shape.first()) {
                Some(&outputs) => {
                    let named = config.labels.len();
                    if named > 0 && named != outputs {
                        observer.note(&format!(
                            "warning: {}/config.json names {named} labels, the adapter's head has {outputs} outputs: they are called LABEL_0 to LABEL_{}",
                            base.display(),
                            outputs - 1
                        ));
                    }
                    labels_of(config, outputs)
                }
                None if config.outputs > 0 => labels_of(config, config.outputs),
                None => return Err(no_head(&dir, &tensor)),
            }
        }
    };
    let tokenizer = match has_tokenizer(&dir) {
        true => dir.clone(),
        false => base,
    };
    let max_length = max_length(saved.as_ref(), config, &tokenizer)?;
    Ok(Located {
        task: match embeds {
            true => Task::TextEmbedding,
            false => task_of(&dir, saved.as_ref(), config, labels.len())?,
        },
        thresholds: thresholds(&dir, saved.as_ref(), labels.len())?,
        tokenizer,
        labels,
        nameless: false,
        max_length,
        kept: saved
            .as_ref()
            .map(|saved| saved.kept.clone())
            .unwrap_or_default(),
        reads: reads(saved.as_ref()),
        adapter: Some(dir),
        base: Some(base_name),
        pretrained,
    })
}

/// The error of an adapter whose base is a directory that is not there.
fn without_base(dir: &Path, base: &str, ours: bool) -> Error {
    let (key, file) = match ours {
        true => ("base_model", "rekindle.json"),
        false => ("base_model_name_or_path", "adapter_config.json"),
    };
    Error::ModelDir {
        path: dir.to_owned(),
        reason: format!("its base model is not there: {base}"),
        hint: format!("put it back, or write where it is now into `{key}` of {file}"),
    }
}

fn locate_model(dir: PathBuf, saved: Option<Saved>, embeds: bool) -> Result<Located, Error> {
    let pretrained = Pretrained::open(&dir)?;
    let config = pretrained.config();
    if config.outputs == 0 && !config.is_decoder() && !embeds {
        let tensor = format!("{}.weight", config.output_module());
        return Err(no_head(&dir, &tensor));
    }
    if !embeds {
        check_labels(&dir, config)?;
    }
    let nameless = config.labels.is_empty() && config.modality == Modality::Images;
    let labels = match nameless {
        _ if embeds => Vec::new(),
        true => (0..config.outputs).map(|i| i.to_string()).collect(),
        false => labels_of(config, config.outputs),
    };
    let max_length = max_length(saved.as_ref(), config, &dir)?;
    Ok(Located {
        task: match embeds {
            true => Task::TextEmbedding,
            false => task_of(&dir, saved.as_ref(), config, labels.len())?,
        },
        adapter: None,
        base: None,
        thresholds: match embeds {
            true => Vec::new(),
            false => thresholds(&dir, saved.as_ref(), labels.len())?,
        },
        tokenizer: dir,
        labels,
        nameless,
        max_length,
        kept: saved
            .as_ref()
            .map(|saved| saved.kept.clone())
            .unwrap_or_default(),
        reads: reads(saved.as_ref()),
        pretrained,
    })
}

fn no_head(dir: &Path, tensor: &str) -> Error {
    Error::ModelDir {
        path: dir.to_owned(),
        reason: format!("there is no classification head: tensor `{tensor}` is missing"),
        hint: match dir.join("adapter_config.json").is_file() {
            true => "an adapter alone gives no labels; tune the model that it is for: rekindle finetune DATA --model BASE".into(),
            false => format!(
                "this is a base model; tune it first: rekindle finetune DATA --model {}",
                shell_word(&dir.to_string_lossy())
            ),
        },
    }
}

/// The names of a head's outputs: the configuration's if their number fits, else `LABEL_0` and so on, as transformers
/// names them.
fn labels_of(config: &ModelConfig, outputs: usize) -> Vec<String> {
    match config.labels.len() == outputs {
        true => config.labels.clone(),
        false => (0..outputs).map(|i| format!("LABEL_{i}")).collect(),
    }
}

/// The length at which texts are cut: that of tuning; of a model that others tuned, the tokenizer's.
fn max_length(
    saved: Option<&Saved>,
    config: &ModelConfig,
    tokenizer: &Path,
) -> Result<usize, Error> {
    if let Some(saved) = saved {
        return Ok(saved.max_length);
    }
    if config.is_decoder() {
        return Ok(CHAT_LENGTH);
    }
    if config.text.is_none() {
        return Ok(DEFAULT_LENGTH);
    }
    let own = model_max_length(tokenizer)?;
    Ok(own.map_or(DEFAULT_LENGTH, |own| own.min(DEFAULT_LENGTH)))
}

/// Names that are not as many as the outputs belong to another model.
fn check_labels(dir: &Path, config: &ModelConfig) -> Result<(), Error> {
    let (named, outputs) = (config.labels.len(), config.outputs);
    if named == 0 || named == outputs {
        return Ok(());
    }
    Err(Error::ModelDir {
        path: match dir.is_file() {
            true => dir.with_file_name("config.json"),
            false => dir.join("config.json"),
        },
        reason: format!(
            "it names {named} labels ({}), but the head in the weights has {outputs} outputs",
            shortened(&config.labels)
        ),
        hint: "correct its id2label, or remove it to have the outputs called LABEL_0 and so on"
            .into(),
    })
}

/// The first few of many names.
fn shortened(names: &[String]) -> String {
    const SHOWN: usize = 5;
    match names.len() > SHOWN {
        true => format!(
            "{} and {} more",
            names[..SHOWN].join(", "),
            names.len() - SHOWN
        ),
        false => names.join(", "),
    }
}

fn thresholds(dir: &Path, saved: Option<&Saved>, labels: usize) -> Result<Vec<f64>, Error> {
    let Some(saved) = saved else {
        return Ok(Vec::new());
    };
    let thresholds = saved.thresholds.clone();
    let answers = Task::named(&saved.task).is_some_and(|task| task.kind() == Kind::Extraction);
    match thresholds.len() {
        0 => Ok(thresholds),
        // One for all questions, not for each label.
        1 if answers => Ok(thresholds),
        found if found == labels => Ok(thresholds),
        found => Err(Error::ModelDir {
            path: dir.join(crate::saved::FILE),
            reason: format!("it holds {found} thresholds, but the model has {labels} labels"),
            hint: "remove its thresholds to have 0.5 for each label, or tune the model again"
                .into(),
        }),
    }
}

fn reads(saved: Option<&Saved>) -> Option<Reads> {
    saved.map(|saved| match saved.pooling.as_str() {
        "mean" => Reads::Mean,
        "none" => Reads::Each,
        _ => Reads::First,
    })
}

/// What a model was tuned to do: what we saved of it, else what its configuration says, as transformers reads it.
fn task_of(
    dir: &Path,
    saved: Option<&Saved>,
    config: &ModelConfig,
    outputs: usize,
) -> Result<Task, Error> {
    if let Some(saved) = saved {
        return Task::named(&saved.task).ok_or_else(|| Error::ModelDir {
            path: dir.to_owned(),
            reason: format!(
                "it was tuned for the task \"{}\", which this version does not know",
                saved.task
            ),
            hint: format!(
                "use the version of rekindle that saved it, {} or later",
                saved.rekindle
            ),
        });
    }
    let usual = match outputs {
        _ if config.is_decoder() => Problem::NextToken,
        1 => Problem::Regression,
        _ => Problem::SingleLabel,
    };
    let problem = config.problem.unwrap_or(usual);
    if problem == Problem::SingleLabel && outputs == 1 {
        return Err(Error::ModelDir {
            path: dir.to_owned(),
            reason: "its head has one output, whose probability as a class is always 1".into(),
            hint: "a head of two classes has two; where config.json should say otherwise, its problem_type is \"regression\" or \"multi_label_classification\"".into(),
        });
    }
    let kind = Kind::ALL.iter().find(|kind| kind.problem() == problem);
    kind.and_then(|&kind| Task::of(kind, config.modality))
        .ok_or_else(|| Error::ModelDir {
            path: dir.to_owned(),
            reason: format!(
                "its head answers a problem of the type {}, which cannot be predicted with here",
                problem.name()
            ),
            hint: "name a model for single-label classification".into(),
        })
}

fn has_tokenizer(dir: &Path) -> bool {
    let files = [
        "tokenizer.json",
        "vocab.txt",
        "vocab.json",
        "sentencepiece.bpe.model",
        "spm.model",
    ];
    files.iter().any(|name| dir.join(name).is_file())
}

impl Located {
    /// The model's own settings, `overrides` over them.
    ///
    /// # Errors
    /// Every mistake of the overrides.
    pub(crate) fn settings(&self, overrides: &[Override]) -> Result<RunConfig, Error> {
        own_settings(self.task, self.max_length, &self.kept, overrides)
    }

    /// The same, with a quantized model's blocks multiplied as they lie where there are kernels for that: for who only reads
    /// the model.
    pub(crate) fn keeping_blocks(mut self, device: Device) -> Self {
        if device == Device::Cpu {
            // What the adapter brings whole must be a parameter. A broken adapter is told of when it is loaded.
            let adapter = self.adapter.as_deref().map(rekindle_peft::read_config);
            let whole = adapter
                .and_then(Result::ok)
                .map(|config| config.modules_to_save);
            self.pretrained = self.pretrained.keeping_blocks(whole.unwrap_or_default());
        }
        self
    }

    /// Whether this is a file of the model: its weights, its adapter, its tokenizer. What was exported beside these is not.
    pub(crate) fn is_made_of(&self, file: &Path) -> bool {
        let Ok(file) = file.canonicalize() else {
            return false;
        };
        let is_file = |path: &Path| path.canonicalize().is_ok_and(|path| path == file);
        let holds = |folder: &Path| {
            let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
            let exported = |path: &Path| gguf::is_named(path) && !gguf::is_unpacked(folder);
            entries
                .map(|entry| entry.path())
                .any(|path| !exported(&path) && is_file(&path))
        };
        let parts = [
            Some(self.pretrained.dir()),
            Some(&self.tokenizer),
            self.adapter.as_deref(),
        ];
        let mut parts = parts.into_iter().flatten();
        parts.any(|part| is_file(part) || holds(part))
    }

    /// Loads the model onto a device, its adapter put in.
    pub(crate) fn load<B: TuneBackend>(&self, device: &B::Device) -> Result<Model<B>, Error> {
        let head = self.head();
        let (model, report) = Model::<B>::from_pretrained(&self.pretrained, &head, device)?;
        let Some(adapter) = &self.adapter else {
            return Ok(model);
        };
        let heads = model.head_modules();
        let heads: Vec<&str> = heads.iter().map(String::as_str).collect();
        let names = model.names();
        let (model, config) = rekindle_peft::load(model, adapter, &heads, names, device)?;
        // What the base lacks, the adapter must have brought.
        if let Some((name, _)) = report
            .initialised
            .iter()
            .find(|(name, _)| !rekindle_peft::is_saved(name, &config))
        {
            return Err(Error::ModelDir {
                path: adapter.clone(),
                reason: format!("neither the base model nor the adapter holds `{name}`"),
                hint: "the adapter was saved without its head; save it with modules_to_save = [\"classifier\"]".into(),
            });
        }
        Ok(model)
    }

    /// Writes this model, its adapter merged, as a model directory with its tokenizer.
    pub(crate) fn write_whole<B: TuneBackend>(
        &self,
        model: &Model<B>,
        to: &Path,
    ) -> Result<(), Error> {
        let what = SavedModel {
            config: self.pretrained.config(),
            dir: &self.tokenizer,
            head: &self.head(),
            adapter: None,
            picture_size: None,
            added_tokens: &[],
            by_words: self.kept.by_words,
            sentence: match self.task.kind() {
                Kind::Embedding => {
                    let from = self.adapter.as_deref().unwrap_or(self.pretrained.dir());
                    Some(SentenceFiles::read(from)?.with(model.reads(), self.max_length))
                }
                _ => None,
            },
        };
        what.write(model, to)
    }

    /// The head as it was saved.
    pub(crate) fn head(&self) -> HeadSpec {
        HeadSpec {
            outputs: self.labels.len(),
            labels: self.labels.clone(),
            problem: self.task.kind().problem(),
            reads: self.reads,
            seed: 0,
            require: self.adapter.is_none(),
        }
    }
}
