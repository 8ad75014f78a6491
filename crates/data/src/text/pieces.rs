//! Texts with the places of their tokens, cut into windows:
//! `tokenizer(..., return_offsets_mapping=True, return_overflowing_tokens=True, stride=...)`.

use tokenizers::{Encoding, InputSequence};

use super::Encoded;
use super::encoder::{Failed, TextEncoder};
use crate::DataError;

/// A window of a text, or of a pair: then the first text stands in every window and the second is cut.
pub(crate) struct Pieces {
    pub encoded: Encoded,
    /// For each token its number in the text that is cut; none for special tokens and those of the other text.
    pub index: Vec<Option<u32>>,
    /// For each token its characters.
    pub offsets: Vec<(usize, usize)>,
}

impl TextEncoder {
    /// All tokens of a text, or of its words, without special ones, with places in characters.
    pub(crate) fn whole<'s>(
        &self,
        input: impl Into<InputSequence<'s>>,
    ) -> Result<Encoding, Failed> {
        let input: InputSequence<'s> = input.into();
        Ok(self.tokenizer.encode_char_offsets(input, false)?)
    }

    /// Checks that windows of a text alone, or of a pair with an empty first text, have room for more than they share.
    pub(crate) fn check_overlap(&self, overlap: usize, pair: bool) -> Result<(), DataError> {
        let added = self.added[usize::from(pair)];
        match self.max_length() {
            Some(max_length) if max_length < overlap + added + 1 => Err(DataError::Overlap {
                max_length,
                overlap,
                least: overlap + added + 1,
            }),
            _ => Ok(()),
        }
    }

    /// The room for tokens of the second text beside `first` tokens of the first; none where nothing is cut.
    pub(crate) fn room_beside(&self, first: usize) -> Option<usize> {
        let max_length = self.max_length()?;
        Some(max_length.saturating_sub(first + self.added[1]))
    }

    /// The windows of a text, or of a pair, of which each shares `overlap` tokens with the one before. Without overlap there is
    /// one window, and what does not fit is lost. There must be room for more than the overlap.
    pub(crate) fn windows(
        &self,
        mut first: Encoding,
        mut second: Option<Encoding>,
        overlap: Option<usize>,
    ) -> Result<Vec<Pieces>, Failed> {
        let room = match &second {
            None => self
                .max_length()
                .map(|max_length| max_length - self.added[0]),
            Some(_) => self.room_beside(first.len()),
        };
        let mut parts = {
            let cut = second.as_mut().unwrap_or(&mut first);
            // The words' numbers travel with the tokens: those of tokens take their place.
            for (word, index) in cut.get_word_ids_mut().iter_mut().zip(0..) {
                *word = Some(index);
            }
            if let (Some(room), Some(truncation)) = (room, &self.truncation) {
                cut.truncate(room, overlap.unwrap_or(0), truncation.direction);
            }
            cut.take_overflowing()
        };
        let is_cut = !parts.is_empty();
        if overlap.is_none() {
            parts.clear();
        }
        let pieces = |first: Encoding, second: Option<Encoding>| {
            let whole = self.processed(first, second)?;
            Ok(Pieces {
                encoded: self.encoded(&whole, is_cut && overlap.is_none()),
                index: whole.get_word_ids().to_vec(),
                offsets: whole.get_offsets().to_vec(),
            })
        };
        match second {
            None => [first]
                .into_iter()
                .chain(parts)
                .map(|part| pieces(part, None))
                .collect(),
            Some(second) => {
                // Tokens of the first text have no number.
                first.get_word_ids_mut().fill(None);
                let parts = [second].into_iter().chain(parts);
                parts
                    .map(|part| pieces(first.clone(), Some(part)))
                    .collect()
            }
        }
    }
}
