//! An adapter merged into its base: a plain model directory, with the largest difference that it makes on real inputs.

use crate::{
    Error, Observer, RunConfig,
    backend::{OnBackend, on_device},
    config::Device,
    evaluation::score_with,
    examples::{on_bad, read_inputs},
    finetune::clear,
    inputs::{
        Chats, Choices, Inputs, QuestionReader, Questions, Tagged, Texts, Unit, WordReader,
        encoder, related, saved_encoder, tags,
    },
    located::{Located, locate},
    model_card::{
        self, Loading, PicturesLoading,
        whole::{self, Made},
    },
    saved::{Saved, pooling_name},
    task::Kind,
};
use burn::tensor::{
    Tensor, TensorData,
    backend::{AutodiffBackend, BackendTypes},
};
use rekindle_base::rng;
use rekindle_data::{
    Example, Place, TargetEncoder, TargetKind, chat::Conversation, choices::ChoiceQuestion,
    questions::Question, related::RelatedTexts, tokens::TaggedText,
};
use rekindle_models::{Model, Problem, Reads};
use rekindle_nn::{Pass, TuneAutodiff, TuneBackend, host};
use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

/// Pictures of noise, for adapters of models for pictures.
const NOISE: usize = 4;

/// What a merge did.
#[derive(Debug, Clone)]
pub struct Merged {
    /// The model directory written.
    pub dir: PathBuf,
    /// The largest difference before and after, of any `measured`.
    pub largest_difference: f32,
    /// What was compared: a logit, or a language model's loss of a whole example.
    pub measured: &'static str,
    /// On how many texts, or pictures.
    pub texts: usize,
    /// What these are called.
    pub noun: &'static str,
    /// Where those came from.
    pub source: String,
}

/// Texts of everyday length, for adapters that come without their data.
const SAMPLES: [&str; 4] = [
    "The package arrived two days late and the box was damaged, but the lamp itself works fine.",
    "how do i change my password",
    "Shares fell sharply on Tuesday after the company lowered its forecast for the second time this year.",
    "An unremarkable film, saved by one very good performance.",
];

/// A question about each sample text.
fn sample_questions() -> Vec<Question> {
    let question = |(line, text): (u64, &&str)| Question {
        id: None,
        question: "what happened?".into(),
        context: (*text).into(),
        answers: None,
        place: Place {
            path: Path::new("").into(),
            line,
        },
    };
    (1..).zip(&SAMPLES).map(question).collect()
}

/// A question with choices about each sample text.
fn sample_choices() -> Vec<ChoiceQuestion> {
    let question = |(line, text): (u64, &&str)| ChoiceQuestion {
        context: Some((*text).into()),
        question: "what happened?".into(),
        choices: vec!["something good".into(), "something bad".into()],
        answer: None,
        place: Place {
            path: Path::new("").into(),
            line,
        },
    };
    (1..).zip(&SAMPLES).map(question).collect()
}

/// Merges an adapter (a run directory or an adapter directory) into its base and writes a model directory. The difference
/// is measured on `inputs`, else on the run's own validation or training file, else on a few sample texts.
///
/// # Errors
/// When the directory holds no adapter, or the target exists and is not empty.
pub fn merge(
    path: &Path,
    to: &Path,
    inputs: Option<&Path>,
    device: Device,
    observer: &dyn Observer,
) -> Result<Merged, Error> {
    const MOST: usize = 256;
    let located = locate(path, observer)?;
    if located.adapter.is_none() {
        return Err(Error::ModelDir {
            path: path.to_owned(),
            reason: "there is no adapter to merge: this is a whole model already".into(),
            hint: "use it as it is".into(),
        });
    }
    if to
        .read_dir()
        .is_ok_and(|mut entries| entries.next().is_some())
    {
        return Err(Error::ModelDir {
            path: to.to_owned(),
            reason: "the target directory is not empty".into(),
            hint: "name a new one with --to".into(),
        });
    }
    let Some(limits) = &located.pretrained.config().text else {
        return merge_for_pictures(&located, to, inputs, device);
    };
    let run_file = path.join("config.toml");
    let own = located.settings(&[])?;
    let config = if run_file.is_file() {
        RunConfig::load(Some(&run_file), &[])?
    } else {
        own.clone()
    };
    let own_file = match config.task.kind() {
        // Pairs of answers are no conversations.
        Kind::Preference => None,
        _ => config.data.validation.clone().or(config.data.train.clone()),
    };
    let given = inputs.map(Path::to_owned).or(own_file);
    let (set, source): (Arc<dyn Inputs>, String) = match given {
        given if located.task.kind() == Kind::Generation => {
            let encoder = saved_encoder(&own, &located.tokenizer, limits)?;
            let (mut rows, source) = match given {
                Some(file) => {
                    let read = read_inputs::<Vec<Conversation>>(&file, &config)?;
                    read.notes.iter().for_each(|note| observer.note(note));
                    (read.set, file.display().to_string())
                }
                None => (
                    SAMPLES.map(Conversation::text).to_vec(),
                    "sample texts".into(),
                ),
            };
            rows.truncate(MOST);
            let chats = Chats::encode(rows, &encoder)?;
            chats.left_out().iter().for_each(|note| observer.note(note));
            (Arc::new(chats), source)
        }
        given if located.task.kind() == Kind::Tags => {
            let by_words = located.kept.by_words;
            let (reader, _) = WordReader::new(&located.tokenizer, &own.data, by_words, limits)?;
            let encoder = TargetEncoder::from_names(TargetKind::Tags, located.labels.clone())?;
            let (texts, source) = match given {
                Some(file) => {
                    let read = read_inputs::<Vec<TaggedText>>(&file, &config)?;
                    read.notes.iter().for_each(|note| observer.note(note));
                    (read.set, file.display().to_string())
                }
                None => {
                    let place = |line| Place {
                        path: Path::new("").into(),
                        line,
                    };
                    let text = |(line, text): (u64, &&str)| {
                        TaggedText::of_text((*text).to_owned(), place(line))
                    };
                    let texts = (1..).zip(&SAMPLES).map(text).collect();
                    (texts, "sample texts".into())
                }
            };
            let texts = texts.into_iter().take(MOST).collect();
            let set = Tagged::encode(texts, &reader, tags(&encoder)?, false, Unit::Text)?;
            (Arc::new(set), source)
        }
        given if located.task.kind() == Kind::Extraction => {
            let data = &own.data;
            let (reader, _) = QuestionReader::new(&located.tokenizer, data, on_bad(&own), limits)?;
            let (mut questions, source) = match given {
                Some(file) => {
                    let read = read_inputs::<Vec<Question>>(&file, &config)?;
                    read.notes.iter().for_each(|note| observer.note(note));
                    (read.set, file.display().to_string())
                }
                None => (sample_questions(), "sample texts".into()),
            };
            questions.truncate(MOST);
            (Arc::new(Questions::encode(questions, &reader)?), source)
        }
        given if located.task.kind() == Kind::Choice => {
            let encoder = encoder(&located.tokenizer, located.max_length, limits)?.0;
            let (mut questions, source) = match given {
                Some(file) => {
                    let read = read_inputs::<Vec<ChoiceQuestion>>(&file, &config)?;
                    read.notes.iter().for_each(|note| observer.note(note));
                    (read.set, file.display().to_string())
                }
                None => (sample_choices(), "sample texts".into()),
            };
            questions.truncate(MOST);
            (Arc::new(Choices::encode(questions, &encoder)?), source)
        }
        Some(file) if located.task.kind() == Kind::Embedding => {
            let encoder = encoder(&located.tokenizer, located.max_length, limits)?.0;
            let mut read = read_inputs::<Vec<RelatedTexts>>(&file, &config)?;
            read.notes.iter().for_each(|note| observer.note(note));
            read.set.truncate(MOST);
            (
                related::to_evaluate(&read.set, &encoder)?.0,
                file.display().to_string(),
            )
        }
        Some(file) => {
            let encoder = encoder(&located.tokenizer, located.max_length, limits)?.0;
            let mut read = read_inputs::<Vec<Example>>(&file, &config)?;
            read.notes.iter().for_each(|note| observer.note(note));
            read.set.truncate(MOST);
            let texts = Texts::encode(read.set, &encoder, None)?;
            (Arc::new(texts), file.display().to_string())
        }
        None => {
            let encoder = encoder(&located.tokenizer, located.max_length, limits)?.0;
            (
                Arc::new(Texts::of(&SAMPLES, &encoder)?),
                "sample texts".into(),
            )
        }
    };
    let largest_difference = written(&located, Some(&set), to, device)?;
    Ok(Merged {
        dir: to.to_owned(),
        largest_difference,
        measured: match located.task.kind() {
            Kind::Generation => "the loss of an example",
            Kind::Embedding => "a number of an embedding",
            _ => "a logit",
        },
        texts: set.len(),
        noun: "texts",
        source,
    })
}

/// The same of a model for pictures: noise is as good as any picture to tell whether two models compute the same.
fn merge_for_pictures(
    located: &Located,
    to: &Path,
    inputs: Option<&Path>,
    device: Device,
) -> Result<Merged, Error> {
    if inputs.is_some() {
        return Err(Error::Setting {
            reason: "--inputs is for adapters of models for texts: pictures of noise are compared"
                .into(),
            hint: "leave it out".into(),
        });
    }
    Ok(Merged {
        dir: to.to_owned(),
        largest_difference: written(located, None, to, device)?,
        measured: "a logit",
        texts: NOISE,
        noun: "pictures",
        source: "noise".into(),
    })
}

/// Merges and writes into `to`, which is there only when it is whole; the largest difference on `set`, else on noise.
fn written(
    located: &Located,
    set: Option<&Arc<dyn Inputs>>,
    to: &Path,
    device: Device,
) -> Result<f32, Error> {
    let aside = aside(to);
    clear(&aside)?;
    let merged = on_device(
        device,
        Merge {
            located,
            set,
            to: &aside,
            name: &to.file_name().unwrap_or_default().to_string_lossy(),
        },
    );
    merged
        .and_then(|difference| {
            clear(to)?;
            std::fs::rename(&aside, to).map_err(Error::io(to))?;
            Ok(difference)
        })
        .inspect_err(|_| {
            let _ = clear(&aside);
        })
}

/// Logits of pictures of noise `[4, S, S, 3]`.
fn of_noise<B: TuneBackend>(
    model: &Model<B>,
    side: usize,
    device: &B::Device,
) -> Result<Vec<f32>, Error> {
    let count = (NOISE * side * side * 3) as u64;
    let values: Vec<f32> = (0..count).map(|i| rng::normal(0, i) as f32).collect();
    let noise = TensorData::new(values, [NOISE, side, side, 3]);
    let noise = Tensor::<B, 4>::from_data(noise, device);
    let logits = model.forward(noise.into(), Pass::evaluation());
    Ok(host::values(logits)?)
}

/// Where a directory is made before it takes its name.
fn aside(to: &Path) -> PathBuf {
    let name = to.file_name().unwrap_or_default().to_string_lossy();
    to.with_file_name(format!(".{name}.unfinished"))
}

struct Merge<'a> {
    located: &'a Located,
    /// What is compared; `None` for pictures of noise.
    set: Option<&'a Arc<dyn Inputs>>,
    to: &'a Path,
    /// What the merged model is called.
    name: &'a str,
}

impl OnBackend for Merge<'_> {
    type Output = f32;

    fn run<B: TuneAutodiff>(self, device: &<B as BackendTypes>::Device) -> Result<f32, Error> {
        const BATCH: usize = 32;
        let located = self.located;
        let model = located.load::<<B as AutodiffBackend>::InnerBackend>(device)?;
        let columns = match located.task.kind() {
            // The other column counts tokens.
            Kind::Generation => 1,
            // Those of every word, token or choice.
            Kind::Tags | Kind::Extraction | Kind::Choice => usize::MAX,
            _ => model.outputs(),
        };
        let pictures = located.pretrained.config().pictures.as_ref();
        let side = pictures.map_or(0, |pictures| pictures.size);
        let (model, difference) = match self.set {
            Some(set) => {
                let before = score_with(&model, set, BATCH, device)?;
                let model = rekindle_peft::merge(model);
                let after = score_with(&model, set, BATCH, device)?;
                let difference = before.logits.largest_difference(&after.logits, columns);
                (model, difference)
            }
            None => {
                let before = of_noise(&model, side, device)?;
                let model = rekindle_peft::merge(model);
                let after = of_noise(&model, side, device)?;
                let apart = before.iter().zip(&after).map(|(a, b)| (a - b).abs());
                (model, apart.fold(0.0, f32::max))
            }
        };
        located.write_whole(&model, self.to)?;
        // A whole model's configuration says how large its pictures are.
        let mut kept = located.kept.clone();
        kept.pictures = None;
        let saved = Saved {
            rekindle: env!("CARGO_PKG_VERSION").into(),
            task: located.task.name().to_owned(),
            labels: located.labels.clone(),
            max_length: located.max_length,
            pooling: pooling_name(model.reads()),
            thresholds: located.thresholds.clone(),
            base_model: None,
            base_weights: None,
            kept,
        };
        saved.write(self.to)?;
        let problem = located.task.kind().problem();
        let of_texts = side == 0 && !matches!(problem, Problem::NextToken | Problem::Embedding);
        let of_texts = of_texts && !located.pretrained.config().transformers_reads_means();
        let loading = Loading {
            task: located.task,
            base_of_adapter: None,
            labels: located.labels.len(),
            pairs: located.kept.columns.text_pair.is_some(),
            mean_pooling: of_texts && model.reads() == Reads::Mean,
            chat_template: model_card::has_chat_template(self.to),
            added_tokens: false,
            max_length: located.max_length,
            pictures: PicturesLoading::of(located.pretrained.config()),
        };
        let from = located.adapter.as_deref().unwrap_or(self.to);
        let (base, made) = (located.base.as_ref(), Made::Merged(loading));
        whole::write(self.to, self.name, located.task, base, &made, from)?;
        Ok(difference)
    }
}
