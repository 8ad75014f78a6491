//! What a model says of tokens, back to words and to spans of the text.

use std::ops::Range;

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
    /// What is said of each of the `words` words of the text that `windows` are of: `outputs` are those chosen for the tokens that
    /// the windows ask for, in this order.
    ///
    /// A word's first sub-word speaks for it (transformers' aggregation `first`), in the window where it has most context.
    ///
    /// # Panics
    /// Where there are no such windows.
    pub fn said(&self, windows: Range<usize>, words: usize, outputs: &[WordTag]) -> Vec<Said> {
        let mut tags = vec![None; words];
        let of_windows = &self.windows[windows];
        let asked = of_windows.iter().flat_map(|window| {
            let asked = window.asked();
            asked.into_iter().map(|token| window.words[token])
        });
        for (word, output) in asked.zip(outputs) {
            if let Some(tag) = word.and_then(|word| tags.get_mut(word as usize)) {
                *tag = Some(*output);
            }
        }
        let covered = of_windows.first();
        let covered = covered.map_or(&[][..], |window| self.covered(window.example));
        with_covered(&tags, covered)
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
