//! Conversations and texts to be continued, as packed tokens of which some are learned.

use super::{Draw, HostBatch, HostInput, Inputs, Prepared, ShownExample, TokenCounts, cut};
use crate::{
    Error, Observer, RunConfig,
    answers::Answering,
    config::{self, EvalEvery},
    evaluation,
    examples::{Splits, left_out, on_bad, read_splits},
    fingerprint::Fingerprint,
    plan::Footprint,
};
use rekindle_data::{
    DataError, TargetEncoder, Targets,
    chat::{
        ChatBatch, ChatEncoder, ChatKind, Conversation, EncodeOptions, EncodedChats, LossOn,
        Message,
    },
};
use rekindle_hub::Hub;
use rekindle_models::{Pretrained, TextLimits};
use std::{path::Path, sync::Arc};

/// Batches made ahead of the loop.
const AHEAD: usize = 8;

/// A set of conversations with their tokens.
pub(crate) struct Chats {
    rows: Vec<Conversation>,
    set: EncodedChats,
    /// How many tokens of each sequence are learned.
    targets: Targets,
}

impl Chats {
    /// Encodes conversations; a long text becomes several sequences.
    pub(crate) fn encode(rows: Vec<Conversation>, encoder: &ChatEncoder) -> Result<Self, Error> {
        let set = encoder.encode(&rows)?;
        let learned = |counts: &[bool]| counts.iter().skip(1).filter(|&&counts| counts).count();
        let counts = set.items.iter().map(|item| learned(&item.counts) as u32);
        let targets = Targets::Next(counts.collect());
        Ok(Self { rows, set, targets })
    }

    /// The rows as files have them.
    pub(crate) fn rows(&self) -> &[Conversation] {
        &self.rows
    }

    /// The same as tokens.
    pub(crate) fn encoded(&self) -> &EncodedChats {
        &self.set
    }

    fn row(&self, example: usize) -> &Conversation {
        &self.rows[self.set.sources[example]]
    }
}

impl Inputs for Chats {
    fn len(&self) -> usize {
        self.set.len()
    }

    fn lengths(&self) -> Option<Vec<u32>> {
        Some(self.set.lengths())
    }

    fn targets(&self) -> &Targets {
        &self.targets
    }

    fn batch(&self, examples: &[usize], _: Option<Draw>) -> Result<HostBatch, DataError> {
        let mut batch = ChatBatch::pack(&self.set, examples).share_beginning();
        Ok(HostBatch {
            examples: std::mem::take(&mut batch.indices),
            targets: self.targets.subset(examples),
            mixed: None,
            aside: None,
            input: Some(HostInput::Chats(batch)),
        })
    }

    fn ahead(&self) -> usize {
        AHEAD
    }

    fn place(&self, example: usize) -> String {
        self.row(example).place.to_string()
    }

    fn line(&self, example: usize) -> Option<u64> {
        Some(self.row(example).place.line)
    }

    fn cut(&self) -> usize {
        self.set.cut()
    }

    fn show(&self, example: usize) -> ShownExample {
        let row = self.row(example);
        ShownExample {
            text: match &row.kind {
                ChatKind::Text(whole) => whole.trim_end().to_owned(),
                _ => spoken(&row.messages),
            },
            text_pair: None,
            picture: None,
        }
    }

    fn left_out(&self) -> Vec<String> {
        left_out("conversations", &self.set.skipped)
    }

    fn add_to(&self, fingerprint: &mut Fingerprint) {
        for item in &self.set.items {
            fingerprint.add_numbers(&item.ids);
            let counts: Vec<u32> = item
                .counts
                .iter()
                .map(|&counts| u32::from(counts))
                .collect();
            fingerprint.add_numbers(&counts);
        }
    }
}

/// The model with room for the tokens that the run adds.
///
/// # Errors
/// When the tokenizer cannot be read, has all of them, or has one of them as a word of its vocabulary.
pub(crate) fn with_added_tokens(
    config: &RunConfig,
    pretrained: Pretrained,
) -> Result<Pretrained, Error> {
    let tokens = &config.model.add_tokens;
    if tokens.is_empty() {
        return Ok(pretrained);
    }
    let before = ChatEncoder::from_dir(pretrained.dir(), EncodeOptions::default())?;
    for token in tokens {
        if let Some(id) = before.id(token).filter(|_| !before.is_added(token)) {
            return Err(Error::Setting {
                reason: format!(
                    "model.add_tokens names {token:?}, which is one token of the model's vocabulary already (number {id})"
                ),
                hint: "leave it out".into(),
            });
        }
    }
    if tokens.iter().all(|token| before.id(token).is_some()) {
        return Err(Error::Setting {
            reason: "the model's tokenizer has all the tokens of model.add_tokens already".into(),
            hint: "leave the setting out: they are never cut into pieces as it is".into(),
        });
    }
    let options = EncodeOptions {
        add_tokens: tokens.clone(),
        ..EncodeOptions::default()
    };
    let rows = ChatEncoder::from_dir(pretrained.dir(), options)?.rows();
    Ok(pretrained.with_vocabulary(rows))
}

/// Turns as people read them, a line each.
pub(crate) fn spoken(turns: &[Message]) -> String {
    let lines = turns.iter().map(|turn| {
        let content = turn.content.as_deref().unwrap_or("");
        format!("{}: {content}", turn.role)
    });
    lines.collect::<Vec<_>>().join("\n").trim_end().to_owned()
}

/// The tokenizer and template of a model directory, as a run encodes with them.
pub(crate) fn encoder(
    config: &RunConfig,
    pretrained: &Pretrained,
    limits: &TextLimits,
) -> Result<(ChatEncoder, Vec<String>), Error> {
    let (asked, positions) = (config.data.max_length, limits.positions);
    let length = asked.min(positions);
    let encoder = saved_encoder(config, pretrained.dir(), limits)?;
    let mut notes = Vec::new();
    if length < asked {
        notes.push(format!("data.max_length is {asked}, but the model has {positions} positions: examples are cut to {length} tokens"));
    }
    if let Some(date) = config
        .data
        .date
        .filter(|_| encoder.template().tells_the_time())
    {
        notes.push(format!("the chat template writes the date into conversations: this run keeps {date} (data.date), also where it is resumed on another day"));
    }
    Ok((encoder, notes))
}

/// The tokenizer and template in a directory, by the settings of a run or of a saved model.
pub(crate) fn saved_encoder(
    config: &RunConfig,
    dir: &Path,
    limits: &TextLimits,
) -> Result<ChatEncoder, Error> {
    let data = &config.data;
    let options = EncodeOptions {
        max_length: Some(data.max_length.min(limits.positions)),
        loss_on: match data.loss_on {
            config::LossOn::Assistant => LossOn::Assistant,
            config::LossOn::Last => LossOn::Last,
            config::LossOn::All => LossOn::All,
        },
        overlap: data.overlap.unwrap_or(0),
        now: data.date.map(config::Date::noon),
        on_bad_example: on_bad(config),
        add_tokens: config.model.add_tokens.clone(),
    };
    let encoder = ChatEncoder::from_dir(dir, options)?;
    encoder.check_vocab(limits.vocab_size)?;
    Ok(encoder)
}

/// The sizes of a language model.
pub(crate) fn decoder_limits(pretrained: &Pretrained) -> Result<&TextLimits, Error> {
    let model = pretrained.config();
    let limits = model.text.as_ref().filter(|_| model.is_decoder());
    limits.ok_or_else(|| Error::ModelDir {
        path: pretrained.dir().to_owned(),
        reason: format!(
            "{} is no language model: it does not write",
            model.architecture()
        ),
        hint: "name one, such as smollm2; or, to learn labels of the texts, --task text-classification with --label COLUMN".into(),
    })
}

/// Reads and encodes the conversations of a run.
pub(super) fn prepare(
    config: &RunConfig,
    pretrained: &Pretrained,
    hub: &Hub,
    observer: &dyn Observer,
) -> Result<Prepared, Error> {
    let limits = decoder_limits(pretrained)?;
    let splits: Splits<Vec<Conversation>> = read_splits(config, hub, observer)?;
    let mut notes = splits.notes;
    let (encoder, mut of_encoder) = encoder(config, pretrained, limits)?;
    notes.append(&mut of_encoder);
    let last = splits.test.as_ref().or(splits.validation.as_ref());
    let samples = match config.eval.every {
        EvalEvery::Never => &[][..],
        _ => splits.validation.as_deref().unwrap_or_default(),
    };
    let last = last.unwrap_or(&splits.train);
    let answering = Answering::new(config, &encoder, limits.positions, last, samples);
    notes.extend(answering.iter().flat_map(Answering::notes));
    let train = Chats::encode(splits.train, &encoder)?;
    let part = |rows: Option<Vec<Conversation>>| -> Result<Option<Arc<dyn Inputs>>, Error> {
        let chats = rows.map(|rows| Chats::encode(rows, &encoder)).transpose()?;
        Ok(chats.map(|chats| Arc::new(chats) as Arc<dyn Inputs>))
    };
    let (validation, test) = (part(splits.validation)?, part(splits.test)?);

    let tokens = TokenCounts::of(&train, config)?;
    let max_length = encoder.max_length().unwrap_or(config.data.max_length);
    let cut = cut(train.set.cut(), max_length);
    let each = |tokens: usize| tokens as f64 / train.len().max(1) as f64;
    Ok(Prepared {
        name: splits.name,
        columns: splits.used,
        files: splits.files,
        sizes: format!(
            "{:.1} tokens each, {:.1} of them learned{cut}",
            each(tokens.all),
            each(train.set.counted())
        ),
        noun: "conversation",
        footprint: Footprint::of_decoder(
            limits,
            tokens.largest_batch,
            evaluation::tokens_at_once(config.eval.batch_size, tokens.longest),
        ),
        train: Arc::new(train),
        validation,
        test,
        encoder: TargetEncoder::Next,
        repeats: true,
        by_words: false,
        notes,
        max_length,
        picture_size: None,
        answering: answering.map(Arc::new),
    })
}
