//! Token ids to text, one at a time. A character of several bytes can be spread over several tokens; it comes out whole.

use super::ChatEncoder;
use crate::DataError;

/// Tokens that can be waiting for the rest of a character: one has at most four bytes.
const WAITING: usize = 4;

/// Text of a growing list of tokens, see [`ChatEncoder::stream`].
///
/// What [`push`](Self::push) and [`finish`](Self::finish) return, joined, is the text of all tokens.
#[derive(Debug, Clone)]
pub struct TextStream<'a> {
    encoder: &'a ChatEncoder,
    skip_special: bool,
    /// The last tokens whose text is out, which decide on spaces, and those that wait.
    ids: Vec<u32>,
    /// How many of `ids` are out.
    out: usize,
}

impl<'a> TextStream<'a> {
    pub(super) fn new(encoder: &'a ChatEncoder, skip_special: bool) -> Self {
        Self {
            encoder,
            skip_special,
            ids: Vec::new(),
            out: 0,
        }
    }

    /// Adds a token. Returns the text that is complete now; none while a character is.
    ///
    /// # Errors
    /// As [`ChatEncoder::decode`].
    pub fn push(&mut self, id: u32) -> Result<String, DataError> {
        self.ids.push(id);
        let new = self.new_text()?;
        // Bytes that never become a character come out as such.
        if new.ends_with('\u{FFFD}') && self.ids.len() - self.out < WAITING {
            return Ok(String::new());
        }
        self.ids.drain(..self.out);
        self.out = self.ids.len();
        Ok(new)
    }

    /// The text that still waits: bytes of a character that never came.
    ///
    /// # Errors
    /// As [`ChatEncoder::decode`].
    pub fn finish(self) -> Result<String, DataError> {
        self.new_text()
    }

    /// The text of the tokens that wait, behind those that are out.
    fn new_text(&self) -> Result<String, DataError> {
        let before = self
            .encoder
            .decode(&self.ids[..self.out], self.skip_special)?;
        let all = self.encoder.decode(&self.ids, self.skip_special)?;
        // Broken bytes that are out already may look otherwise once more follow.
        let same = before.chars().zip(all.chars()).take_while(|(a, b)| a == b);
        Ok(all.chars().skip(same.count()).collect())
    }
}
