//! What a model says of tokens, back to words and to spans of the text.

use super::scheme::{self, Part};
use super::{Span, TagLabels, TaggedText, TokenSet};

/// The output that was chosen for a word.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct WordTag {
    /// Its id.
    pub label: u32,
    /// Its probability.
    pub score: f32,
}

/// What is known of a word: what its own token says, or that the token of the word before covers it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Said {
    /// No token was read for the word.
    Nothing,
    /// The output of its token.
    Tag(WordTag),
    /// It is a part of the token of an earlier word, and belongs to whatever that one does.
    Covered,
}

/// A span that a model found.
#[derive(Debug, Clone, PartialEq)]
pub struct FoundSpan {
    /// Where it stands, and what it is.
    pub span: Span,
    /// The mean of its words' probabilities.
    pub score: f32,
}

impl TokenSet {
    /// What is said of each word of a text: `of` gives the output chosen for a token of a window, both by their number.
    ///
    /// A word's first sub-word speaks for it (transformers' aggregation `first`), in the window where it has most context.
    ///
    /// # Panics
    /// Where there is no such text.
    pub fn word_tags(
        &self,
        example: usize,
        words: usize,
        mut of: impl FnMut(usize, usize) -> WordTag,
    ) -> Vec<Said> {
        let mut tags = vec![None; words];
        for window in self.windows_of(example) {
            for (token, word) in self.windows[window].words.iter().enumerate() {
                if let Some(tag) = word.and_then(|word| tags.get_mut(word as usize)) {
                    *tag = Some(of(window, token));
                }
            }
        }
        with_covered(&tags, self.covered(example))
    }
}

/// What is said of words, of their own tokens and of those that cover them.
pub(super) fn with_covered(tags: &[Option<WordTag>], covered: &[(u32, u32)]) -> Vec<Said> {
    let mut said: Vec<Said> = tags
        .iter()
        .map(|tag| tag.map_or(Said::Nothing, Said::Tag))
        .collect();
    for &(word, by) in covered {
        if said.get(by as usize).is_some_and(|by| *by != Said::Nothing) {
            said[word as usize] = Said::Covered;
        }
    }
    said
}

/// The spans of a text that its words' outputs tell, in order: by the lenient rule of seqeval, by which an `I-x` that follows
/// nothing begins a span.
pub fn tagged_spans(text: &TaggedText, labels: &TagLabels, words: &[Said]) -> Vec<FoundSpan> {
    // The words with an output; one that is covered makes the one before longer.
    let mut rows: Vec<(usize, usize, f32)> = Vec::new();
    let mut tags: Vec<scheme::Tag<'_>> = Vec::new();
    for (range, said) in text.words.iter().zip(words) {
        match said {
            Said::Covered => {
                if let Some(row) = rows.last_mut() {
                    row.1 = range.end;
                }
            }
            Said::Tag(tag) => {
                rows.push((range.start, range.end, tag.score));
                tags.push(labels.part(tag.label));
            }
            Said::Nothing => {
                rows.push((range.start, range.end, 0.0));
                tags.push((Part::Outside, scheme::NAMELESS));
            }
        }
    }
    let spans = scheme::entities(&tags).into_iter();
    spans
        .map(|(range, label)| {
            let of = range.len() as f32;
            let rows = &rows[range];
            FoundSpan {
                span: Span {
                    start: rows[0].0,
                    end: rows[rows.len() - 1].1,
                    label: label.to_owned(),
                },
                score: rows.iter().map(|(_, _, score)| score).sum::<f32>() / of,
            }
        })
        .collect()
}
