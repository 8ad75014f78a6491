//! Conversations to token ids with the tokens that count, as `tokenizer.apply_chat_template` of transformers makes them;
//! and token ids back to text.

use std::path::{Path, PathBuf};

use rayon::prelude::*;
use serde_json::Value;
use tokenizers::{AddedToken, Encoding, PostProcessorWrapper, Tokenizer, TruncationDirection};

use super::added;
use super::spans::{Problem, Rendered, Renderer};
use super::template::{CLOSE, ChatTemplate, Failed, OPEN, TemplateSource};
use super::{ChatKind, ChatRole, Conversation, Message, TextStream};
use crate::guard::guarded;
use crate::text::files;
use crate::{BadReason, DataError, OnBad, Place, Skipped};

/// Which tokens of a conversation are learned. Of a text all are, whatever this says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LossOn {
    /// Those of all turns of the assistant; of a completion but not its prompt.
    #[default]
    Assistant,
    /// Those of the assistant's last turn.
    Last,
    /// All but the first, which nothing predicts.
    All,
}

/// How to encode conversations.
#[derive(Debug, Clone, Default)]
pub struct EncodeOptions {
    /// Cut conversations to so many tokens, at the side that the tokenizer's files name as `truncation_side` (by default the right); cut texts into windows of so many. Default: the tokenizer's
    /// `model_max_length`, and no cutting if there is none.
    pub max_length: Option<usize>,
    /// Which tokens are learned.
    pub loss_on: LossOn,
    /// Tokens of the window before that a window of a text begins with. They are context: every token of a text counts
    /// in one window only. One at least is taken.
    pub overlap: usize,
    /// What to do with a conversation that cannot be rendered, or that has no token left that counts.
    pub on_bad_example: OnBad,
    /// Tokens to add to those of the directory, where it lacks them. They are never cut, and texts of answers hold them.
    pub add_tokens: Vec<String>,
    /// What a template that asks is told of the time, in seconds after 1970, as UTC. Default: the time at which it is read.
    pub now: Option<u64>,
}

/// A conversation, or a window of a text, as token ids.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EncodedChat {
    /// Token ids.
    pub ids: Vec<u32>,
    /// Whether the token is a target, predicted from those before it; as long as `ids`. The first never is.
    pub counts: Vec<bool>,
    /// Whether tokens were lost to the maximum length.
    pub cut: bool,
}

/// A set of encoded conversations.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct EncodedChats {
    /// The sequences, in the order of the set; a long text gives several.
    pub items: Vec<EncodedChat>,
    /// For each sequence, the index of the conversation that it comes from.
    pub sources: Vec<usize>,
    /// The conversations that were left out; empty unless [`OnBad::Skip`].
    pub skipped: Vec<Skipped>,
}

impl EncodedChats {
    /// Number of sequences.
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// Length of each sequence, in tokens.
    pub fn lengths(&self) -> Vec<u32> {
        self.items
            .iter()
            .map(|item| item.ids.len() as u32)
            .collect()
    }

    /// Number of tokens that count, in all.
    pub fn counted(&self) -> usize {
        let counts = self.items.iter().flat_map(|item| &item.counts);
        counts.filter(|&&counts| counts).count()
    }

    /// How many sequences lost tokens to the maximum length.
    pub fn cut(&self) -> usize {
        self.items.iter().filter(|item| item.cut).count()
    }
}

/// A model's tokenizer and chat template, for training and for generation alike.
#[derive(Debug, Clone)]
pub struct ChatEncoder {
    dir: PathBuf,
    /// Without its post-processor: templates write special tokens themselves, and offsets stay those of whole tokens.
    pub(super) tokenizer: Tokenizer,
    /// The file with the vocabulary, for messages.
    pub(super) path: PathBuf,
    template: ChatTemplate,
    /// What the post-processor puts before a text: the beginning-of-text token, if the model has one.
    prefix: Vec<u32>,
    end_of_text: Option<(String, u32)>,
    end_of_turn: Option<String>,
    /// What the template writes between the prompt for an answer and the answer.
    lead: String,
    /// Texts of added tokens, the longest first.
    added: Vec<String>,
    stop_ids: Vec<u32>,
    max_length: Option<usize>,
    model_max_length: Option<usize>,
    cuts_left: bool,
    options: EncodeOptions,
}

/// Why a conversation was not encoded.
enum Bad {
    /// Something is wrong with it.
    Row(BadReason),
    /// Something is wrong with the model's files.
    Model(DataError),
}

impl ChatEncoder {
    /// Reads tokenizer and chat template of a model directory, see [`ChatTemplate::from_dir`].
    ///
    /// # Errors
    /// [`DataError::NoTokenizer`], [`DataError::Tokenizer`], [`DataError::Template`]; [`DataError::TemplateLimit`] for a
    /// template that does not come to an end even on two short turns; [`DataError::Window`].
    pub fn from_dir(dir: &Path, options: EncodeOptions) -> Result<Self, DataError> {
        let files = files::load(dir)?;
        let mut tokenizer = files.tokenizer;
        let template = ChatTemplate::new(dir, &tokenizer, options.now)?;
        let failed = |message: String| DataError::Tokenizer {
            path: files.path.clone(),
            message,
        };
        let generation = files::object(&dir.join("generation_config.json"))?.unwrap_or_default();
        let config = files::object(&dir.join("config.json"))?.unwrap_or_default();
        let mut stop_ids = ids_of(generation.get("eos_token_id"));
        let named = template.special("eos_token").map(str::to_owned);
        let named = named.or_else(|| {
            let ids = [&stop_ids[..], &ids_of(config.get("eos_token_id"))].concat();
            tokenizer.id_to_token(*ids.first()?)
        });
        let end_of_text = named.and_then(|token| {
            let id = tokenizer.token_to_id(&token)?;
            Some((token, id))
        });

        // transformers never cuts a special token that the configuration names, whatever tokenizer.json says.
        added::add(&mut tokenizer, &options.add_tokens).map_err(failed)?;
        let known = tokenizer.get_added_tokens_decoder();
        let special = template.special_texts();
        let special = special.chain(end_of_text.iter().map(|(token, _)| token.as_str()));
        let uncut: Vec<AddedToken> = special
            .filter(|token| tokenizer.token_to_id(token).is_some())
            .filter(|token| known.values().all(|added| added.content != *token))
            .map(|token| AddedToken::from(token.to_owned(), true))
            .collect();
        if !uncut.is_empty() {
            tokenizer
                .add_special_tokens(uncut)
                .map_err(|error| failed(error.to_string()))?;
        }
        let mut added: Vec<String> = tokenizer
            .get_added_tokens_decoder()
            .into_values()
            .map(|token| token.content)
            .filter(|token| !token.trim().is_empty())
            .collect();
        added.sort_by(|a, b| b.len().cmp(&a.len()).then(a.cmp(b)));

        let prefix = guarded(|| prefix(&tokenizer))
            .map_err(failed)?
            .map_err(|error| failed(format!("its post-processor fails: {error}")))?;
        tokenizer.with_post_processor(None::<PostProcessorWrapper>);

        let Surroundings { lead, end_of_turn } = match template.source() {
            TemplateSource::Plain => Surroundings::default(),
            _ => surroundings(&template, &added)?,
        };
        let ends = end_of_turn
            .iter()
            .filter_map(|token| tokenizer.token_to_id(token));
        for id in end_of_text.iter().map(|(_, id)| *id).chain(ends) {
            if !stop_ids.contains(&id) {
                stop_ids.push(id);
            }
        }
        let max_length = options.max_length.or(files.model_max_length);
        check_window(max_length, &options)?;
        Ok(Self {
            dir: dir.to_owned(),
            tokenizer,
            path: files.path,
            template,
            prefix,
            end_of_text,
            end_of_turn,
            lead,
            added,
            stop_ids,
            max_length,
            model_max_length: files.model_max_length,
            cuts_left: matches!(files.truncation_side, TruncationDirection::Left),
            options,
        })
    }

    /// The same tokenizer and template with other options; the time that the template is told stays.
    ///
    /// # Errors
    /// [`DataError::Window`].
    pub fn with_options(self, options: EncodeOptions) -> Result<Self, DataError> {
        let max_length = options.max_length.or(self.model_max_length);
        check_window(max_length, &options)?;
        Ok(Self {
            max_length,
            options,
            ..self
        })
    }

    /// The chat template.
    pub fn template(&self) -> &ChatTemplate {
        &self.template
    }

    /// The length at which conversations and texts are cut, in tokens.
    pub fn max_length(&self) -> Option<usize> {
        self.max_length
    }

    /// The longest input that the tokenizer's files allow, if they say.
    pub fn model_max_length(&self) -> Option<usize> {
        self.model_max_length
    }

    /// Tokens at which an answer ends: those of `generation_config.json`, the end-of-text token, and the one with which
    /// the template ends a turn.
    pub fn stop_ids(&self) -> &[u32] {
        &self.stop_ids
    }

    /// The token with which the template ends an assistant's turn, if it ends it with one.
    pub fn end_of_turn(&self) -> Option<&str> {
        self.end_of_turn.as_deref()
    }

    /// The token of an id, for messages.
    pub fn token(&self, id: u32) -> Option<String> {
        self.tokenizer.id_to_token(id)
    }

    /// Whether conversations and texts are cut at their beginning rather than at their end.
    pub fn cuts_left(&self) -> bool {
        self.cuts_left
    }

    /// Whether a token is among those that are never cut, beside the vocabulary's own.
    pub fn is_added(&self, token: &str) -> bool {
        self.added.iter().any(|added| added == token)
    }

    /// The id of a token, if it is one.
    pub fn id(&self, token: &str) -> Option<u32> {
        self.tokenizer.token_to_id(token)
    }

    /// Number of tokens, added ones included.
    pub fn vocab_size(&self) -> usize {
        self.tokenizer.get_vocab_size(true)
    }

    /// How many rows a table of embeddings must have at least: one more than the highest id.
    pub fn rows(&self) -> usize {
        let vocab = self.tokenizer.get_vocab(true);
        let prefix = self.prefix.iter().copied();
        let highest = vocab.into_values().chain(prefix).max();
        highest.map_or(0, |id| id as usize + 1)
    }

    /// Checks that every token has an embedding in a model of `vocab_size` tokens. A larger model is fine: many are
    /// rounded up.
    ///
    /// # Errors
    /// [`DataError::WrongTokenizer`] names the highest token beyond.
    pub fn check_vocab(&self, vocab_size: usize) -> Result<(), DataError> {
        let vocab = self.tokenizer.get_vocab(true).into_iter();
        let special = self
            .prefix
            .iter()
            .filter_map(|&id| Some((self.token(id)?, id)));
        match vocab.chain(special).max_by_key(|(_, id)| *id) {
            Some((token, id)) if id as usize >= vocab_size => Err(DataError::WrongTokenizer {
                dir: self.dir.clone(),
                token,
                id,
                vocab_size,
            }),
            _ => Ok(()),
        }
    }

    /// Encodes conversations in parallel, in their order.
    ///
    /// # Errors
    /// [`DataError::BadExample`] with the place of a conversation that the template refuses or fails on, in which the
    /// assistant's turns are not found, or of which no token counts; [`DataError::AllBad`] where all are skipped;
    /// [`DataError::TemplateLimit`], [`DataError::NoEndToken`] and [`DataError::Tokenize`], skipping or not.
    pub fn encode(&self, rows: &[Conversation]) -> Result<EncodedChats, DataError> {
        let encoded: Vec<_> = rows.par_iter().map(|row| self.encode_row(row)).collect();
        let mut set = EncodedChats::default();
        for (index, (row, encoded)) in rows.iter().zip(encoded).enumerate() {
            let place = row.place.clone();
            match encoded {
                Ok(items) => {
                    set.sources.extend(items.iter().map(|_| index));
                    set.items.extend(items);
                }
                Err(Bad::Model(error)) => return Err(error),
                Err(Bad::Row(reason)) => set.skipped.push(Skipped { place, reason }),
            }
        }
        if self.options.on_bad_example == OnBad::Error
            && let Some(error) = DataError::of_bad_rows(std::mem::take(&mut set.skipped))
        {
            return Err(error);
        }
        match set.skipped.first() {
            Some(first) if set.items.is_empty() => Err(DataError::AllBad {
                path: first.place.path.to_path_buf(),
                skipped: set.skipped.len(),
                line: first.place.line,
                reason: first.reason.clone(),
            }),
            _ => Ok(set),
        }
    }

    /// The token ids from which the model answers: the turns, and the beginning of the assistant's.
    ///
    /// # Errors
    /// [`DataError::Prompt`] where the template refuses the turns or fails on them; [`DataError::TemplateLimit`],
    /// [`DataError::NoEndToken`], [`DataError::Tokenize`].
    pub fn prompt(
        &self,
        messages: &[Message],
        tools: Option<&Value>,
    ) -> Result<Vec<u32>, DataError> {
        let bad = |bad: Bad| match bad {
            Bad::Row(reason) => DataError::Prompt { reason },
            Bad::Model(error) => error,
        };
        let text = self
            .renderer()
            .prompt(messages, tools)
            .map_err(|problem| bad(self.bad(problem, None)))?;
        let encoding = self.tokens(&text, None).map_err(bad)?;
        let mut ids = match self.template.source() {
            TemplateSource::Plain => self.missing_prefix(encoding.get_ids()).to_vec(),
            _ => Vec::new(),
        };
        ids.extend(encoding.get_ids());
        Ok(ids)
    }

    /// The token ids of a text to continue: as in training on texts, without the end-of-text token.
    ///
    /// # Errors
    /// [`DataError::Tokenize`].
    pub fn text_prompt(&self, text: &str) -> Result<Vec<u32>, DataError> {
        let encoding = self.tokens(text, None).map_err(|bad| match bad {
            Bad::Row(reason) => DataError::Prompt { reason },
            Bad::Model(error) => error,
        })?;
        let ids = encoding.get_ids();
        Ok([self.missing_prefix(ids), ids].concat())
    }

    /// The text of token ids; without special tokens if `skip_special`.
    ///
    /// # Errors
    /// [`DataError::Detokenize`].
    pub fn decode(&self, ids: &[u32], skip_special: bool) -> Result<String, DataError> {
        let failed = |message: String| DataError::Detokenize {
            path: self.path.clone(),
            message,
        };
        guarded(|| self.tokenizer.decode(ids, skip_special))
            .map_err(failed)?
            .map_err(|error| failed(error.to_string()))
    }

    /// Decodes tokens as they come, never half a character.
    pub fn stream(&self, skip_special: bool) -> TextStream<'_> {
        TextStream::new(self, skip_special)
    }

    /// The pieces of an encoded conversation, and whether each counts. A piece is what its token alone says; a part of a
    /// character is shown as the vocabulary has it.
    pub fn marked(&self, item: &EncodedChat) -> Vec<(String, bool)> {
        let piece = |id: u32| {
            let token = self.token(id).unwrap_or_else(|| format!("[{id}]"));
            // SentencePiece's mark of a space at a word's start is lost when a word is decoded alone.
            if token.starts_with('\u{2581}') {
                return token.replace('\u{2581}', " ");
            }
            match self.decode(&[id], false) {
                Ok(text) if !text.is_empty() && !text.contains('\u{FFFD}') => text,
                _ => token,
            }
        };
        item.ids
            .iter()
            .zip(&item.counts)
            .map(|(&id, &counts)| (piece(id), counts))
            .collect()
    }

    fn renderer(&self) -> Renderer<'_> {
        Renderer {
            template: &self.template,
            added: &self.added,
            end_of_turn: self.end_of_turn.as_deref(),
            lead: &self.lead,
            end_of_text: self.end_of_text.as_ref().map(|(token, _)| token.as_str()),
        }
    }

    fn encode_row(&self, row: &Conversation) -> Result<Vec<EncodedChat>, Bad> {
        if let ChatKind::Text(text) = &row.kind {
            return self.encode_text(text, &row.place);
        }
        let only_last = self.options.loss_on == LossOn::Last;
        let rendered = self
            .renderer()
            .conversation(row, only_last)
            .map_err(|problem| self.bad(problem, Some(&row.place)))?;
        let encoding = self.tokens(&rendered.text, Some(&row.place))?;
        let mut ids = match self.template.source() {
            TemplateSource::Plain => self.missing_prefix(encoding.get_ids()).to_vec(),
            _ => Vec::new(),
        };
        let mut counts = vec![false; ids.len()];
        ids.extend(encoding.get_ids());
        counts.extend(match self.options.loss_on {
            LossOn::All => vec![true; encoding.len()],
            _ => counted(&rendered, encoding.get_offsets()),
        });
        let tokens = ids.len();
        let max_length = self.max_length.filter(|&max_length| max_length < tokens);
        match max_length {
            Some(max_length) if self.cuts_left => {
                ids.drain(..tokens - max_length);
                counts.drain(..tokens - max_length);
            }
            Some(max_length) => {
                ids.truncate(max_length);
                counts.truncate(max_length);
            }
            None => {}
        }
        counts.iter_mut().take(1).for_each(|first| *first = false);
        if !counts.contains(&true) {
            return Err(Bad::Row(BadReason::NoCountedToken { tokens, max_length }));
        }
        Ok(vec![EncodedChat {
            ids,
            counts,
            cut: max_length.is_some(),
        }])
    }

    /// A text in windows. Every token but the first counts, in one window.
    fn encode_text(&self, text: &str, place: &Place) -> Result<Vec<EncodedChat>, Bad> {
        let encoding = self.tokens(text, Some(place))?;
        let mut ids = [self.missing_prefix(encoding.get_ids()), encoding.get_ids()].concat();
        if let Some((_, end)) = self.end_of_text
            && ids.last() != Some(&end)
        {
            ids.push(end);
        }
        let tokens = ids.len();
        if tokens < 2 {
            let max_length = None;
            return Err(Bad::Row(BadReason::NoCountedToken { tokens, max_length }));
        }
        let length = self.max_length.unwrap_or(tokens).min(tokens);
        let context = self.options.overlap.max(1);
        let mut windows = Vec::new();
        // Tokens that counted already, or that nothing predicts.
        let mut done = 1;
        while done < tokens {
            let start = match done {
                1 => 0,
                _ => done - context,
            };
            let end = (start + length).min(tokens);
            windows.push(EncodedChat {
                ids: ids[start..end].to_vec(),
                counts: (start..end).map(|at| at >= done).collect(),
                cut: false,
            });
            done = end;
        }
        Ok(windows)
    }

    /// The prefix of the tokenizer, unless the text has it: a beginning-of-text token is never there twice.
    fn missing_prefix(&self, ids: &[u32]) -> &[u32] {
        match ids.starts_with(&self.prefix) {
            true => &[],
            false => &self.prefix,
        }
    }

    fn tokens(&self, text: &str, place: Option<&Place>) -> Result<Encoding, Bad> {
        let failed = |message: String| {
            Bad::Model(DataError::Tokenize {
                path: self.path.clone(),
                place: place.cloned(),
                message,
            })
        };
        guarded(|| self.tokenizer.encode(text, false))
            .map_err(failed)?
            .map_err(|error| failed(error.to_string()))
    }

    fn bad(&self, problem: Problem, place: Option<&Place>) -> Bad {
        match problem {
            Problem::Template(Failed::Refuses(message)) => {
                Bad::Row(BadReason::TemplateRefuses { message })
            }
            Problem::Template(Failed::Fails { line, message }) => {
                Bad::Row(BadReason::TemplateFails { line, message })
            }
            Problem::Template(Failed::Limit(message)) => Bad::Model(DataError::TemplateLimit {
                path: self.template.path().to_owned(),
                place: place.cloned(),
                message,
            }),
            Problem::NotFound(turn) => Bad::Row(BadReason::TurnNotFound { turn }),
            Problem::NoEnd => Bad::Model(DataError::NoEndToken {
                dir: self.dir.clone(),
            }),
        }
    }
}

/// Whether a window has room for a token beside what it shares with the one before.
fn check_window(max_length: Option<usize>, options: &EncodeOptions) -> Result<(), DataError> {
    match max_length {
        Some(max_length) if max_length < options.overlap.saturating_add(2) => {
            Err(DataError::Window {
                max_length,
                overlap: options.overlap,
            })
        }
        _ => Ok(()),
    }
}

/// For each token of a rendered conversation whether it belongs to a turn that counts.
fn counted(rendered: &Rendered, offsets: &[(usize, usize)]) -> Vec<bool> {
    let mut turns = rendered.turns.iter().peekable();
    offsets
        .iter()
        .map(|&(start, end)| {
            // Turns and tokens both stand in order.
            while turns.next_if(|turn| turn.end <= start).is_some() {}
            turns.peek().is_some_and(|turn| match rendered.by_overlap {
                true => end > turn.start,
                false => start >= turn.start,
            })
        })
        .collect()
}

/// One id or a list of them.
fn ids_of(value: Option<&Value>) -> Vec<u32> {
    let id = |value: &Value| value.as_u64().and_then(|id| u32::try_from(id).ok());
    match value {
        Some(Value::Array(ids)) => ids.iter().filter_map(id).collect(),
        Some(value) => id(value).into_iter().collect(),
        None => Vec::new(),
    }
}

/// What the post-processor puts before a text.
fn prefix(tokenizer: &Tokenizer) -> Result<Vec<u32>, tokenizers::Error> {
    let text = tokenizer.encode("a", false)?;
    let whole = tokenizer.encode("a", true)?;
    let (text, whole) = (text.get_ids(), whole.get_ids());
    let at = whole.windows(text.len().max(1)).position(|ids| ids == text);
    Ok(whole[..at.unwrap_or(0)].to_vec())
}

/// What the template writes around an answer.
#[derive(Default)]
struct Surroundings {
    /// Between the prompt for the answer and the answer.
    lead: String,
    /// The token that ends the turn.
    end_of_turn: Option<String>,
}

/// What the template writes around an answer, by asking it.
fn surroundings(template: &ChatTemplate, added: &[String]) -> Result<Surroundings, DataError> {
    let answer = format!("{OPEN}b{CLOSE}");
    let messages = [
        Message::new(ChatRole::User, "a"),
        Message::new(ChatRole::Assistant, answer.as_str()),
    ];
    let render = |messages, add_generation_prompt| {
        match template.render(messages, None, add_generation_prompt) {
            Ok(rendered) => Ok(Some(rendered)),
            Err(Failed::Limit(message)) => Err(DataError::TemplateLimit {
                path: template.path().to_owned(),
                place: None,
                message,
            }),
            // It wants another conversation than this one.
            Err(_) => Ok(None),
        }
    };
    let prompt = render(&messages[..1], true)?;
    let Some(whole) = render(&messages, false)? else {
        return Ok(Surroundings::default());
    };
    let Some((before, behind)) = whole.rsplit_once(&answer) else {
        return Ok(Surroundings::default());
    };
    // A mark of `{% generation %}` may stand between.
    let before = before.replace(OPEN, "");
    let behind = behind.replace(CLOSE, "");
    let behind = behind.trim_start();
    let mut added = added.iter();
    Ok(Surroundings {
        lead: prompt
            .and_then(|prompt| before.strip_prefix(&prompt))
            .unwrap_or_default()
            .to_owned(),
        end_of_turn: added
            .find(|token| behind.starts_with(token.as_str()))
            .cloned(),
    })
}
