//! Texts to token ids, as transformers' fast tokenizers make them:
//! `AutoTokenizer.from_pretrained(dir)(text, text_pair, truncation=True, max_length=N)`.

use std::path::{Path, PathBuf};

use rayon::prelude::*;
use serde_json::Value;
use tokenizers::{
    Encoding, PostProcessor, PostProcessorWrapper, Tokenizer, TruncationDirection,
    TruncationParams, TruncationStrategy, truncate_encodings,
};

use crate::guard::guarded;
use crate::text::files;
use crate::{DataError, Example, Place, TargetEncoder, Targets};

/// Texts that one task of the thread pool encodes: enough to make its overhead vanish, few enough to share out
/// evenly.
pub(crate) const CHUNK: usize = 64;

/// A text as token ids.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Encoded {
    /// Token ids, special tokens included.
    pub ids: Vec<u32>,
    /// Token type (segment) ids, as long as `ids`.
    pub type_ids: Vec<u32>,
    /// Whether the text was too long and lost tokens.
    pub truncated: bool,
}

/// A set of encoded examples.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct EncodedSet {
    /// The examples, in the order of the set.
    pub items: Vec<Encoded>,
    /// Their targets; none for an unlabelled set.
    pub targets: Targets,
}

impl EncodedSet {
    /// Number of examples.
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// Length of each example, in tokens.
    pub fn lengths(&self) -> Vec<u32> {
        self.items
            .iter()
            .map(|item| item.ids.len() as u32)
            .collect()
    }

    /// How many examples lost tokens to `max_length`.
    pub fn truncated(&self) -> usize {
        self.items.iter().filter(|item| item.truncated).count()
    }
}

/// A model's tokenizer with a maximum length.
#[derive(Debug, Clone)]
pub struct TextEncoder {
    dir: PathBuf,
    /// Without its post-processor, which would shift offsets twice.
    pub(super) tokenizer: Tokenizer,
    processor: Option<PostProcessorWrapper>,
    pub(super) truncation: Option<TruncationParams>,
    model_max_length: Option<usize>,
    /// The file with the vocabulary, for messages.
    path: PathBuf,
    /// Special tokens added to a text, and to a pair.
    pub(crate) added: [usize; 2],
    /// Whether the model is given token types.
    has_types: bool,
    /// Whether texts that are divided into words are encoded word by word.
    pub(crate) by_words: bool,
}

impl TextEncoder {
    /// Reads the tokenizer of a model directory: `tokenizer.json`, else `vocab.txt` (BERT), `vocab.json` with
    /// `merges.txt` (RoBERTa) or `sentencepiece.bpe.model` (XLM-RoBERTa) or `spm.model` (DeBERTa-v2); and `tokenizer_config.json`.
    ///
    /// `max_length` is in tokens, special tokens included; `None` takes the tokenizer's own `model_max_length`, and
    /// does not truncate if there is none.
    ///
    /// # Errors
    /// [`DataError::NoTokenizer`], [`DataError::Tokenizer`], or [`DataError::MaxLength`] for a length that leaves no
    /// room for text.
    pub fn from_dir(dir: &Path, max_length: Option<usize>) -> Result<Self, DataError> {
        Self::of_files(dir, files::load(dir)?, max_length)
    }

    /// The same for texts that are divided into words, each of which is encoded alone: `is_split_into_words=True`. Tokenizers
    /// of bytes (RoBERTa's) take every word as if a space stood before it: `add_prefix_space=True`, which the copy of the
    /// files beside a model that is tuned so must say too.
    ///
    /// # Errors
    /// As [`from_dir`](Self::from_dir).
    pub fn for_words(dir: &Path, max_length: Option<usize>) -> Result<Self, DataError> {
        let encoder = Self::of_files(dir, files::load_for_words(dir)?, max_length)?;
        Ok(Self {
            by_words: true,
            ..encoder
        })
    }

    fn of_files(
        dir: &Path,
        mut files: files::TokenizerFiles,
        max_length: Option<usize>,
    ) -> Result<Self, DataError> {
        let processor = files.tokenizer.get_post_processor().cloned();
        files
            .tokenizer
            .with_post_processor(None::<PostProcessorWrapper>);
        let added = [false, true].map(|pair| {
            processor
                .as_ref()
                .map_or(0, |processor| processor.added_tokens(pair))
        });
        let max_length = max_length.or(files.model_max_length);
        if let Some(max_length) = max_length {
            check_room(max_length, added[0], false)?;
        }
        let truncation = max_length.map(|max_length| TruncationParams {
            max_length,
            strategy: TruncationStrategy::LongestFirst,
            stride: 0,
            direction: files.truncation_side,
        });
        let encoder = Self {
            dir: dir.to_owned(),
            tokenizer: files.tokenizer,
            processor,
            truncation,
            model_max_length: files.model_max_length,
            path: files.path,
            added,
            has_types: files.gives_types,
            by_words: false,
        };
        // A post-processor that does not fit its own vocabulary shows on nothing at all.
        encoder.special_tokens()?;
        Ok(encoder)
    }

    /// What the post-processor makes of an empty text and an empty pair: the tokens that it adds.
    fn special_tokens(&self) -> Result<Vec<Encoding>, DataError> {
        let failed = |message: String| DataError::Tokenizer {
            path: self.path.clone(),
            message: format!("its post-processor fails: {message}"),
        };
        [false, true]
            .into_iter()
            .map(|is_pair| {
                let second = is_pair.then(Encoding::default);
                guarded(|| self.processed(Encoding::default(), second))
                    .map_err(failed)?
                    .map_err(|error| failed(error.to_string()))
            })
            .collect()
    }

    /// A text or a pair with the special tokens.
    pub(super) fn processed(
        &self,
        first: Encoding,
        second: Option<Encoding>,
    ) -> Result<Encoding, tokenizers::Error> {
        match &self.processor {
            Some(processor) => processor.process(first, second, true),
            None => self.tokenizer.post_process(first, second, true),
        }
    }

    /// The length at which texts are cut, in tokens, special tokens included.
    pub fn max_length(&self) -> Option<usize> {
        self.truncation
            .as_ref()
            .map(|truncation| truncation.max_length)
    }

    /// The longest input the tokenizer's files allow, if they say.
    pub fn model_max_length(&self) -> Option<usize> {
        self.model_max_length
    }

    /// Number of tokens, added ones included.
    pub fn vocab_size(&self) -> usize {
        self.tokenizer.get_vocab_size(true)
    }

    /// The token of an id, for messages.
    pub fn token(&self, id: u32) -> Option<String> {
        self.tokenizer.id_to_token(id)
    }

    /// Checks that every token and token type has an embedding in a model of `vocab_size` tokens (a larger model is
    /// fine: many are rounded up) and `type_vocab_size` types. A model of one type, or of none, gets type 0 for every
    /// token from now on, as RoBERTa and DistilBERT do in transformers.
    ///
    /// # Errors
    /// [`DataError::WrongTokenizer`] names the highest token beyond, or one that the post-processor adds;
    /// [`DataError::WrongTokenType`] a type.
    pub fn check_model(
        &mut self,
        vocab_size: usize,
        type_vocab_size: usize,
    ) -> Result<(), DataError> {
        let wrong = |path: &Path, token: &str, id: u32| DataError::WrongTokenizer {
            dir: path.to_owned(),
            token: token.to_owned(),
            id,
            vocab_size,
        };
        let vocab = self.tokenizer.get_vocab(true).into_iter();
        match vocab.max_by_key(|(_, id)| *id) {
            Some((token, id)) if id as usize >= vocab_size => {
                return Err(wrong(&self.dir, &token, id));
            }
            _ => {}
        }
        let special = self.special_tokens()?;
        for encoding in &special {
            for (&id, token) in encoding.get_ids().iter().zip(encoding.get_tokens()) {
                if id as usize >= vocab_size {
                    return Err(wrong(&self.path, token, id));
                }
            }
        }
        self.has_types &= type_vocab_size > 1;
        if !self.has_types {
            return Ok(());
        }
        let mut types: Vec<u32> = special
            .iter()
            .flat_map(|encoding| encoding.get_type_ids().to_vec())
            .collect();
        // Types of the texts themselves stand in a template alone.
        if let Some(processor) = &self.processor {
            let json = serde_json::to_value(processor).unwrap_or_default();
            types_of(&json, &mut types);
        }
        match types.into_iter().max() {
            Some(type_id) if type_id as usize >= type_vocab_size => {
                Err(DataError::WrongTokenType {
                    path: self.path.clone(),
                    type_id,
                    type_vocab_size,
                })
            }
            _ => Ok(()),
        }
    }

    /// Encodes one text, or a pair.
    ///
    /// # Errors
    /// [`DataError::MaxLength`] for a pair that `max_length` leaves no room for; [`DataError::Tokenize`].
    pub fn encode(&self, text: &str, text_pair: Option<&str>) -> Result<Encoded, DataError> {
        self.encode_at(text, text_pair, None)
    }

    /// Encodes examples in parallel, in their order; with an encoder for their targets, those too.
    ///
    /// # Errors
    /// As [`encode`](Self::encode) and [`TargetEncoder::encode_all`].
    pub fn encode_examples(
        &self,
        examples: &[Example],
        targets: Option<&TargetEncoder>,
    ) -> Result<EncodedSet, DataError> {
        let targets = targets
            .map(|targets| targets.encode_all(examples))
            .transpose()?
            .unwrap_or_default();
        let items = examples
            .par_iter()
            .with_min_len(CHUNK)
            .map(|example| {
                self.encode_at(
                    &example.text,
                    example.text_pair.as_deref(),
                    Some(&example.place),
                )
            })
            .collect::<Result<Vec<_>, _>>()?;
        Ok(EncodedSet { items, targets })
    }

    pub(crate) fn encode_at(
        &self,
        text: &str,
        text_pair: Option<&str>,
        place: Option<&Place>,
    ) -> Result<Encoded, DataError> {
        self.guarded(place, || self.encode_unguarded(text, text_pair))
    }

    /// What a tokenizer that may panic makes of the text at a place.
    pub(crate) fn guarded<T>(
        &self,
        place: Option<&Place>,
        work: impl FnOnce() -> Result<T, Failed>,
    ) -> Result<T, DataError> {
        let failed = |message: String| DataError::Tokenize {
            path: self.path.clone(),
            place: place.cloned(),
            message,
        };
        guarded(work).map_err(failed)?.map_err(|error| match error {
            Failed::Data(error) => error,
            Failed::Tokenizer(error) => failed(error.to_string()),
        })
    }

    /// The tokens of a text, of a long one only as many as are kept: a tokenizer takes a hundred bytes of memory for each byte
    /// of text.
    ///
    /// More of the text is taken until it makes more tokens than there is room for. Those near the cut may differ from the
    /// whole text's; none of them is kept.
    fn tokens(&self, text: &str) -> Result<Encoding, tokenizers::Error> {
        /// Bytes that are taken first, for each token there is room for, and at least.
        const BYTES: (usize, usize) = (16, 1 << 14);
        /// No more is ever taken of a text of which so little becomes tokens.
        const MOST: usize = 4 << 20;
        /// Tokens near the cut.
        const MARGIN: usize = 32;
        let Some(truncation) = &self.truncation else {
            return self.tokenizer.encode_fast(text, false);
        };
        let room = truncation.max_length;
        let mut bytes = room.saturating_mul(BYTES.0).max(BYTES.1);
        loop {
            let part = end_of(text, bytes, truncation.direction);
            let tokens = self.tokenizer.encode_fast(part, false)?;
            let is_enough = part.len() == text.len() || tokens.len() >= room + MARGIN;
            if is_enough || bytes >= MOST.max(room * BYTES.0) {
                return Ok(tokens);
            }
            bytes = bytes.saturating_mul(4);
        }
    }

    fn encode_unguarded(&self, text: &str, text_pair: Option<&str>) -> Result<Encoded, Failed> {
        let added = self.added[usize::from(text_pair.is_some())];
        let mut first = self.tokens(text)?;
        let mut second = text_pair.map(|text| self.tokens(text)).transpose()?;
        if let Some(second) = &mut second {
            second.set_type_ids(vec![1; second.len()]);
        }

        let mut truncated = false;
        if let Some(truncation) = &self.truncation {
            check_room(truncation.max_length, added, text_pair.is_some()).map_err(Failed::Data)?;
            let room = truncation.max_length - added;
            if first.len() + second.as_ref().map_or(0, Encoding::len) > room {
                truncated = true;
                let truncation = TruncationParams {
                    max_length: room,
                    ..*truncation
                };
                (first, second) = truncate_encodings(first, second, &truncation)?;
                // The tokenizer would combine every cut-off piece of one text with every piece of the other.
                first.take_overflowing();
                second.as_mut().map(Encoding::take_overflowing);
            }
        }
        Ok(self.encoded(&self.processed(first, second)?, truncated))
    }

    /// What a model is given of a text with its special tokens.
    pub(super) fn encoded(&self, encoding: &Encoding, truncated: bool) -> Encoded {
        Encoded {
            ids: encoding.get_ids().to_vec(),
            type_ids: match self.has_types {
                true => encoding.get_type_ids().to_vec(),
                false => vec![0; encoding.len()],
            },
            truncated,
        }
    }
}

/// The start of a text, or its end, of about so many bytes; between words if there is a space near.
fn end_of(text: &str, bytes: usize, side: TruncationDirection) -> &str {
    const NEAR: usize = 256;
    if text.len() <= bytes {
        return text;
    }
    match side {
        TruncationDirection::Right => {
            let start = &text[..text.floor_char_boundary(bytes)];
            let near = start.floor_char_boundary(start.len().saturating_sub(NEAR));
            let space = start[near..].rfind(char::is_whitespace);
            space.map_or(start, |at| &start[..near + at])
        }
        TruncationDirection::Left => {
            let end = &text[text.ceil_char_boundary(text.len() - bytes)..];
            let near = end.ceil_char_boundary(NEAR.min(end.len()));
            let space = end[..near].find(char::is_whitespace);
            space.map_or(end, |at| &end[at..])
        }
    }
}

/// Why a text was not encoded.
pub(crate) enum Failed {
    /// The text or the settings are not as they should be.
    Data(DataError),
    /// The tokenizer says so.
    Tokenizer(tokenizers::Error),
}

impl From<tokenizers::Error> for Failed {
    fn from(error: tokenizers::Error) -> Self {
        Self::Tokenizer(error)
    }
}

/// All token types in a post-processor's description.
fn types_of(json: &Value, types: &mut Vec<u32>) {
    match json {
        Value::Object(fields) => {
            let type_id = fields.get("type_id").and_then(Value::as_u64);
            types.extend(type_id.map(|type_id| u32::try_from(type_id).unwrap_or(u32::MAX)));
            fields.values().for_each(|value| types_of(value, types));
        }
        Value::Array(values) => values.iter().for_each(|value| types_of(value, types)),
        _ => {}
    }
}

fn check_room(max_length: usize, added: usize, pair: bool) -> Result<(), DataError> {
    if max_length <= added {
        Err(DataError::MaxLength {
            max_length,
            added,
            pair,
        })
    } else {
        Ok(())
    }
}
