//! The first examples of a file as a model will see them: tokens, which of them count, what is cut; of pictures their sizes.

use crate::{
    Error, Observer, RunConfig,
    config::Task,
    examples::{Read, left_out, read_train},
    finetune::find_model,
    inputs::{self, chat_encoder},
    task::{Kind, Modality},
};
use rekindle_base::{shell_word, thousands};
use rekindle_data::{
    Example,
    chat::{Conversation, EncodedChats, Preference},
    image::{ImageSet, picture_size},
};
use rekindle_hub::Hub;
use rekindle_models::Pretrained;
use std::path::Path;

/// The beginning of a file as a model sees it.
#[derive(Debug, Clone, PartialEq)]
pub struct Looked {
    /// The first examples.
    pub examples: Vec<LookedAt>,
    /// The whole file in a line: lengths, what counts, what is cut.
    pub summary: String,
    /// What was left out or guessed, and what the model does not have, a line each.
    pub notes: Vec<String>,
}

/// An example as a model sees it.
#[derive(Debug, Clone, PartialEq)]
pub struct LookedAt {
    /// Where it stands, such as `chats.jsonl:3`.
    pub place: String,
    /// Its size, in words.
    pub size: String,
    /// Its tokens as text, and whether each is learned; none of a picture.
    pub tokens: Vec<(String, bool)>,
}

/// The task of a run that names none, on this model: what its architecture is for.
///
/// # Errors
/// When there is no such model.
pub fn task_of_model(name: &str, observer: &dyn Observer) -> Result<Task, Error> {
    check_is_no_run(name)?;
    let base = find_model(name, &Hub::from_env(), observer)?;
    let pretrained = Pretrained::open(&base.dir)?;
    let config = pretrained.config();
    Ok(match config.modality {
        Modality::Images => Task::ImageClassification,
        Modality::Text if config.is_decoder() => Task::TextGeneration,
        Modality::Text => Task::TextClassification,
    })
}

/// Refuses a run directory in the place of a model: its run file says everything.
fn check_is_no_run(name: &str) -> Result<(), Error> {
    let run_file = Path::new(name).join("config.toml");
    match run_file.is_file() {
        false => Ok(()),
        true => Err(Error::ModelDir {
            path: name.into(),
            reason: "a run directory, expected a model".into(),
            hint: format!(
                "look at what the run learns with: rekindle look --config {}",
                shell_word(name)
            ),
        }),
    }
}

/// Reads the training examples of a configuration and encodes them as a run would; shows the first `rows`.
///
/// # Errors
/// As a run: any mistake in configuration or data, or data that the model cannot take.
pub fn look(config: &RunConfig, rows: usize, observer: &dyn Observer) -> Result<Looked, Error> {
    config.validate()?;
    let hub = Hub::from_env();
    check_is_no_run(&config.model.name)?;
    let base = find_model(&config.model.name, &hub, observer)?;
    let pretrained = inputs::with_added_tokens(config, Pretrained::open(&base.dir)?)?;
    match (config.task.modality(), config.task.kind()) {
        (Modality::Images, _) => pictures(config, &pretrained, rows, &hub, observer),
        (_, Kind::Generation) => conversations(config, &pretrained, rows, &hub, observer),
        (_, Kind::Preference) => preferences(config, &pretrained, rows, &hub, observer),
        _ => texts(config, &pretrained, rows, &hub, observer),
    }
}

fn conversations(
    config: &RunConfig,
    pretrained: &Pretrained,
    rows: usize,
    hub: &Hub,
    observer: &dyn Observer,
) -> Result<Looked, Error> {
    let limits = inputs::decoder_limits(pretrained)?;
    let (encoder, mut notes) = chat_encoder(config, pretrained, limits)?;
    let Read {
        set,
        notes: of_file,
        ..
    } = read_train::<Vec<Conversation>>(config, hub, observer)?;
    notes.extend(of_file);
    let encoded = encoder.encode(&set)?;
    notes.extend(left_out("conversations", &encoded.skipped));
    notes.push(encoder.template().source().to_string());
    let examples = encoded.items.iter().zip(&encoded.sources).take(rows);
    let examples = examples.map(|(item, &source)| {
        let learned = item.counts.iter().filter(|&&counts| counts).count();
        let cut = if item.cut { ", cut" } else { "" };
        LookedAt {
            place: set[source].place.to_string(),
            size: format!("{} tokens, {learned} learned{cut}", item.ids.len()),
            tokens: encoder.marked(item),
        }
    });
    Ok(Looked {
        examples: examples.collect(),
        summary: summary_of_chats(set.len(), &encoded),
        notes,
    })
}

/// Both answers of a pair, or the one that was judged, each with its prompt.
fn preferences(
    config: &RunConfig,
    pretrained: &Pretrained,
    rows: usize,
    hub: &Hub,
    observer: &dyn Observer,
) -> Result<Looked, Error> {
    let limits = inputs::decoder_limits(pretrained)?;
    let (encoder, mut notes) = chat_encoder(config, pretrained, limits)?;
    let Read {
        set,
        notes: of_file,
        ..
    } = read_train::<Vec<Preference>>(config, hub, observer)?;
    notes.extend(of_file);
    let read = set.len();
    let answers = set
        .into_iter()
        .enumerate()
        .flat_map(|(row, preference)| match preference {
            Preference::Pair { chosen, rejected } => {
                vec![(row, "chosen", chosen), (row, "rejected", rejected)]
            }
            Preference::Judged { answer, wanted } => {
                let name = if wanted { "wanted" } else { "not wanted" };
                vec![(row, name, answer)]
            }
        });
    let (names, answers): (Vec<(usize, &str)>, Vec<Conversation>) = answers
        .map(|(row, name, answer)| ((row, name), answer))
        .unzip();
    let encoded = encoder.encode(&answers)?;
    notes.extend(left_out("answers", &encoded.skipped));
    notes.push(encoder.template().source().to_string());
    let shown = encoded.items.iter().zip(&encoded.sources);
    let shown = shown.take_while(|&(_, &source)| names[source].0 < rows);
    let examples = shown.map(|(item, &source)| {
        let compared = item.counts.iter().filter(|&&counts| counts).count();
        let cut = if item.cut { ", cut" } else { "" };
        LookedAt {
            place: format!("{} {}", answers[source].place, names[source].1),
            size: format!("{} tokens, {compared} compared{cut}", item.ids.len()),
            tokens: encoder.marked(item),
        }
    });
    let lengths = encoded.lengths();
    Ok(Looked {
        examples: examples.collect(),
        summary: format!(
            "{} rows with {} answers, {} tokens ({}), {} of them compared, {} answers cut",
            thousands(read as u64),
            thousands(answers.len() as u64),
            thousands(lengths.iter().map(|&length| u64::from(length)).sum()),
            spread(&lengths),
            thousands(encoded.counted() as u64),
            thousands(encoded.cut() as u64),
        ),
        notes,
    })
}

fn summary_of_chats(rows: usize, encoded: &EncodedChats) -> String {
    let lengths = encoded.lengths();
    let all: u64 = lengths.iter().map(|&length| u64::from(length)).sum();
    let windows = match encoded.len() == rows {
        true => String::new(),
        false => format!(" in {} sequences", thousands(encoded.len() as u64)),
    };
    format!(
        "{} rows{windows}, {} tokens ({}), {} of them learned, {} rows cut",
        thousands(rows as u64),
        thousands(all),
        spread(&lengths),
        thousands(encoded.counted() as u64),
        thousands(encoded.cut() as u64),
    )
}

/// The shortest, the middle and the longest length.
fn spread(lengths: &[u32]) -> String {
    let mut sorted = lengths.to_vec();
    sorted.sort_unstable();
    let at = |share: usize| {
        let last = sorted.len().saturating_sub(1);
        sorted.get(last * share / 2).copied().unwrap_or(0)
    };
    format!("{} to {}, half of them up to {}", at(0), at(2), at(1))
}

fn texts(
    config: &RunConfig,
    pretrained: &Pretrained,
    rows: usize,
    hub: &Hub,
    observer: &dyn Observer,
) -> Result<Looked, Error> {
    let limits = inputs::text_limits(pretrained)?;
    let (encoder, note) = inputs::encoder(pretrained.dir(), config.data.max_length, limits)?;
    let Read { set, notes, .. } = read_train::<Vec<Example>>(config, hub, observer)?;
    let encoded = encoder.encode_examples(&set, None)?;
    let examples = encoded.items.iter().zip(&set).take(rows);
    let examples = examples.map(|(item, example)| {
        let cut = if item.truncated { ", cut" } else { "" };
        let label = example
            .label
            .as_ref()
            .map(|label| format!(", label {label}"));
        let token = |&id: &u32| encoder.token(id).unwrap_or_else(|| format!("[{id}]"));
        LookedAt {
            place: example.place.to_string(),
            size: format!(
                "{} tokens{cut}{}",
                item.ids.len(),
                label.unwrap_or_default()
            ),
            tokens: item.ids.iter().map(|id| (token(id), false)).collect(),
        }
    });
    let lengths = encoded.lengths();
    Ok(Looked {
        examples: examples.collect(),
        summary: format!(
            "{} rows, {} tokens ({}), {} rows cut",
            thousands(set.len() as u64),
            thousands(lengths.iter().map(|&length| u64::from(length)).sum()),
            spread(&lengths),
            thousands(encoded.truncated() as u64)
        ),
        notes: notes.into_iter().chain(note).collect(),
    })
}

fn pictures(
    config: &RunConfig,
    pretrained: &Pretrained,
    rows: usize,
    hub: &Hub,
    observer: &dyn Observer,
) -> Result<Looked, Error> {
    let model = pretrained.config();
    let pictures = model.pictures.as_ref().ok_or_else(|| Error::ModelDir {
        path: pretrained.dir().to_owned(),
        reason: format!(
            "this is a model for texts ({}), not for pictures",
            model.family
        ),
        hint: "name a model for pictures, or set another task".into(),
    })?;
    let preprocess = inputs::preprocess(pictures, &config.images);
    let Read { set, notes, .. } = read_train::<ImageSet>(config, hub, observer)?;
    let mut examples = Vec::new();
    for index in 0..set.len().min(rows) {
        let path = set.path(index);
        let (width, height) = picture_size(&path)?;
        examples.push(LookedAt {
            place: path.display().to_string(),
            size: format!("{width} x {height} pixels"),
            tokens: Vec::new(),
        });
    }
    Ok(Looked {
        examples,
        summary: format!(
            "{} pictures; the model sees the middle {1} x {1} pixels of each, its shorter side made {2}",
            thousands(set.len() as u64),
            preprocess.crop,
            preprocess.resize
        ),
        notes,
    })
}
