//! Texts to token ids, as transformers' fast tokenizers make them:
//! `AutoTokenizer.from_pretrained(dir)(text, text_pair, truncation=True, max_length=N)`.

use std::path::{Path, PathBuf};

use rayon::prelude::*;
use tokenizers::{Encoding, Tokenizer, TruncationParams, TruncationStrategy, truncate_encodings};

use crate::text::files;
use crate::{DataError, Example, LabelMap, Place};

/// Texts that one task of the thread pool encodes: enough to make its overhead vanish, few enough to share out
/// evenly.
const CHUNK: usize = 64;

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
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct EncodedSet {
    /// The examples, in the order of the set.
    pub items: Vec<Encoded>,
    /// Their class ids; empty for an unlabelled set.
    pub labels: Vec<u32>,
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
    tokenizer: Tokenizer,
    truncation: Option<TruncationParams>,
    model_max_length: Option<usize>,
    /// Special tokens added to a text, and to a pair.
    added: [usize; 2],
}

impl TextEncoder {
    /// Reads the tokenizer of a model directory: `tokenizer.json`, else `vocab.txt`, and `tokenizer_config.json`.
    ///
    /// `max_length` is in tokens, special tokens included; `None` takes the tokenizer's own `model_max_length`, and
    /// does not truncate if there is none.
    ///
    /// # Errors
    /// [`DataError::NoTokenizer`], [`DataError::Tokenizer`], or [`DataError::MaxLength`] for a length that leaves no
    /// room for text.
    pub fn from_dir(dir: &Path, max_length: Option<usize>) -> Result<Self, DataError> {
        let files = files::load(dir)?;
        let added = [false, true].map(|pair| {
            use tokenizers::PostProcessor;
            files
                .tokenizer
                .get_post_processor()
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
        Ok(Self {
            dir: dir.to_owned(),
            tokenizer: files.tokenizer,
            truncation,
            model_max_length: files.model_max_length,
            added,
        })
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

    /// Checks that every id has an embedding in a model of `vocab_size` (a larger model is fine: many are rounded
    /// up).
    ///
    /// # Errors
    /// [`DataError::WrongTokenizer`] names the highest token beyond.
    pub fn check_vocab(&self, vocab_size: usize) -> Result<(), DataError> {
        match self
            .tokenizer
            .get_vocab(true)
            .into_iter()
            .max_by_key(|(_, id)| *id)
        {
            Some((token, id)) if id as usize >= vocab_size => Err(DataError::WrongTokenizer {
                dir: self.dir.clone(),
                token,
                id,
                vocab_size,
            }),
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

    /// Encodes examples in parallel, in their order; with `labels`, their class ids too.
    ///
    /// # Errors
    /// As [`encode`](Self::encode) and [`LabelMap::encode_all`].
    pub fn encode_examples(
        &self,
        examples: &[Example],
        labels: Option<&LabelMap>,
    ) -> Result<EncodedSet, DataError> {
        let labels = labels
            .map(|labels| labels.encode_all(examples))
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
        Ok(EncodedSet { items, labels })
    }

    fn encode_at(
        &self,
        text: &str,
        text_pair: Option<&str>,
        place: Option<&Place>,
    ) -> Result<Encoded, DataError> {
        let failed = |error: tokenizers::Error| DataError::Tokenize {
            place: place.cloned(),
            message: error.to_string(),
        };
        let added = self.added[usize::from(text_pair.is_some())];
        let mut first = self.tokenizer.encode_fast(text, false).map_err(failed)?;
        let mut second = text_pair
            .map(|text| self.tokenizer.encode_fast(text, false))
            .transpose()
            .map_err(failed)?;
        if let Some(second) = &mut second {
            second.set_type_ids(vec![1; second.len()]);
        }

        let mut truncated = false;
        if let Some(truncation) = &self.truncation {
            check_room(truncation.max_length, added, text_pair.is_some())?;
            let room = truncation.max_length - added;
            if first.len() + second.as_ref().map_or(0, Encoding::len) > room {
                truncated = true;
                let truncation = TruncationParams {
                    max_length: room,
                    ..*truncation
                };
                (first, second) = truncate_encodings(first, second, &truncation).map_err(failed)?;
                // The tokenizer would combine every cut-off piece of one text with every piece of the other.
                first.take_overflowing();
                second.as_mut().map(Encoding::take_overflowing);
            }
        }
        let encoding = self
            .tokenizer
            .post_process(first, second, true)
            .map_err(failed)?;
        Ok(Encoded {
            ids: encoding.get_ids().to_vec(),
            type_ids: encoding.get_type_ids().to_vec(),
            truncated,
        })
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
