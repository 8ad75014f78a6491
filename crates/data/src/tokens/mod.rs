//! Token classification: texts in which spans have labels, and the labels of their tokens.
//!
//! | step | here |
//! |---|---|
//! | a file -> [`TaggedText`]s | [`read_tagged`]: columns of words and tags, JSON of words and tags, JSON of texts and spans |
//! | spans -> what a model puts out | [`TagLabels`] |
//! | texts -> windows of tokens with labels | [`TextEncoder::encode_tagged`](crate::TextEncoder::encode_tagged) -> [`TokenSet`] |
//! | what a model puts out -> spans | [`TokenSet::said`], [`tagged_spans`] |
//!
//! Places in a text are characters (Unicode code points) counted from 0, as in Python, doccano, spaCy and prodigy.

mod columns;
mod decode;
mod encode;
mod labels;
mod read;
mod reason;
mod rows;
mod scheme;
mod words;

use std::borrow::Cow;
use std::ops::Range;
use std::path::PathBuf;

use crate::chat::unlabelled;
use crate::{Examples, Place};

pub use decode::{FoundSpan, Said, WordTag, tagged_spans};
pub use encode::{IGNORED, TagOptions, TokenBatch, TokenSet, TokenWindow};
pub use labels::TagLabels;
pub use read::{Tagged, TaggedOptions, read_tagged};
pub use reason::TagReason;
pub use scheme::Scheme;
pub(crate) use words::Characters;
pub use words::{slice, words_in};

// What is labelled in them is no label of theirs.
unlabelled!(TaggedText, |row| &row.place);

/// A range of characters with a label. Never empty; no white space at its ends.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Span {
    /// The first character, counted from 0.
    pub start: usize,
    /// The character behind the last.
    pub end: usize,
    /// What the range is, without `B-` or the like.
    pub label: String,
}

/// A text with its words and what is labelled in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaggedText {
    /// The text; of a file of words, these with a space between.
    pub text: String,
    /// The words as ranges of characters, in order, none in another: the file's own, or those of [`words_in`].
    pub words: Vec<Range<usize>>,
    /// The spans in order, none in another; `None` where the file does not say.
    pub spans: Option<Vec<Span>>,
    /// Where the text starts in its file.
    pub place: Place,
}

impl TaggedText {
    /// A text to be labelled, divided into words by [`words_in`].
    pub fn of_text(text: String, place: Place) -> Self {
        Self {
            words: words_in(&text),
            text,
            spans: None,
            place,
        }
    }

    /// A text to be labelled, divided into these words.
    pub fn of_words_in(text: String, words: Vec<Range<usize>>, place: Place) -> Self {
        Self {
            text,
            words,
            spans: None,
            place,
        }
    }

    /// Words with a space between.
    fn of_words(words: &[String], place: Place) -> Self {
        let mut at = 0;
        let ranges = words.iter().map(|word| {
            let start = at;
            at += word.chars().count() + 1;
            start..at - 1
        });
        Self {
            words: ranges.collect(),
            text: words.join(" "),
            spans: None,
            place,
        }
    }
}
