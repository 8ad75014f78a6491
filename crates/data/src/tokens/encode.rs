//! Labelled texts to windows of tokens with labels, as `tokenize_and_align_labels` of transformers'
//! `examples/pytorch/token-classification/run_ner.py`.
//!
//! Differences: a long text can be read in windows, of which each word is labelled in one; a word's label goes to one token even
//! where tokens without a word stand between its parts; and a text need not be divided into words first.

use std::collections::HashSet;
use std::ops::Range;

use rayon::prelude::*;

use super::decode::{WordTag, tagged_spans};
use super::{Span, TagLabels, TaggedText};
use crate::text::{CHUNK, Failed, Pieces};
use crate::{DataError, Encoded, EncodedSet, TextBatch, TextEncoder};

/// The label of a token that is not learned, as in PyTorch.
pub const IGNORED: i32 = -100;

/// How to encode labelled texts. The default is that of `run_ner.py`: one window a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TagOptions {
    /// Cut texts that are longer than the encoder's maximum length into windows that share so many tokens. Without it what does
    /// not fit is lost.
    pub overlap: Option<usize>,
    /// Label all sub-words of a word, not the first alone.
    pub label_all_tokens: bool,
}

/// What is known of the tokens of a window.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenWindow {
    /// Index of its text.
    pub example: usize,
    /// For each token the output that it should have, or [`IGNORED`].
    pub labels: Vec<i32>,
    /// For each token the word that it speaks for: the first sub-word of each word, in one window only.
    pub words: Vec<Option<u32>>,
}

/// A set of labelled texts as windows of tokens.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct TokenSet {
    /// The tokens of the windows, those of one text side by side; without targets.
    pub set: EncodedSet,
    /// What is known of them, as long.
    pub windows: Vec<TokenWindow>,
    /// Spans of all texts.
    pub spans: usize,
    /// Spans that do not begin and end with whole words or sub-words: they are learned as the nearest that do.
    pub inexact: usize,
    /// The first window of each text, and behind the last.
    first: Vec<usize>,
    /// Words without a token of their own, and the word whose token covers them, for each text.
    covered: Vec<Vec<(u32, u32)>>,
}

/// Windows packed into one row of T tokens.
#[derive(Debug, Clone, PartialEq)]
pub struct TokenBatch {
    /// The tokens; without targets.
    pub text: TextBatch,
    /// For each token the output that it should have, or [`IGNORED`], `[T]`.
    pub labels: Vec<i32>,
    /// The tokens that are asked for, `[Q]`, each below T: see [`TokenWindow::asked`].
    pub asked: Vec<i32>,
    /// How many of them each window has, added up, `[B + 1]`.
    pub asked_offsets: Vec<usize>,
}

impl TokenWindow {
    /// The tokens that a head must read: those that speak for a word. Where none does, the first, of which nothing is learned: so
    /// that no batch asks for nothing.
    pub fn asked(&self) -> Vec<usize> {
        let speaks = self.words.iter().enumerate();
        let asked: Vec<usize> = speaks
            .filter_map(|(token, word)| word.map(|_| token))
            .collect();
        match asked.is_empty() {
            true => vec![0],
            false => asked,
        }
    }
}

impl TokenSet {
    /// Number of texts.
    pub fn examples(&self) -> usize {
        self.covered.len()
    }

    /// The windows of a text.
    ///
    /// # Panics
    /// Where there is no such text.
    pub fn windows_of(&self, example: usize) -> Range<usize> {
        self.first[example]..self.first[example + 1]
    }

    /// Words of a text that another word's token covers, with that word.
    pub(super) fn covered(&self, example: usize) -> &[(u32, u32)] {
        &self.covered[example]
    }

    /// Packs the windows `indices` of the set, in that order.
    ///
    /// # Panics
    /// Where an index is outside of the set.
    pub fn pack(&self, indices: &[usize]) -> TokenBatch {
        let text = TextBatch::pack(&self.set, indices);
        let (mut labels, mut asked, mut asked_offsets) = (Vec::new(), Vec::new(), vec![0]);
        for (&index, &start) in indices.iter().zip(&text.offsets) {
            let window = &self.windows[index];
            labels.extend_from_slice(&window.labels);
            // As many tokens as fit in memory are fewer than 2^31.
            asked.extend(
                window
                    .asked()
                    .into_iter()
                    .map(|token| (start + token) as i32),
            );
            asked_offsets.push(asked.len());
        }
        TokenBatch {
            text,
            labels,
            asked,
            asked_offsets,
        }
    }
}

/// A text before it joins its set.
struct EncodedText {
    windows: Vec<(Encoded, Vec<i32>, Vec<Option<u32>>)>,
    covered: Vec<(u32, u32)>,
    spans: usize,
    inexact: usize,
}

/// The tokens of a whole text.
struct Aligned {
    /// The word of each token.
    words: Vec<Option<u32>>,
    /// Whether the token speaks for its word.
    speaks: Vec<bool>,
    covered: Vec<(u32, u32)>,
}

impl TextEncoder {
    /// Encodes labelled texts in parallel, in their order; without `labels` their tokens alone.
    ///
    /// An encoder [`for_words`](Self::for_words) takes each word of a text alone, another takes the text as it stands: a token
    /// then belongs to the word in which its first character stands.
    ///
    /// # Errors
    /// [`DataError::UnknownLabel`] for a span that the model has no outputs for, [`DataError::Unlabelled`] for a text without
    /// spans where there are labels to learn, [`DataError::Overlap`], [`DataError::Tokenize`].
    pub fn encode_tagged(
        &self,
        texts: &[TaggedText],
        labels: Option<&TagLabels>,
        options: TagOptions,
    ) -> Result<TokenSet, DataError> {
        self.check_overlap(options.overlap.unwrap_or(0), false)?;
        let encoded = texts
            .par_iter()
            .with_min_len(CHUNK)
            .map(|text| self.guarded(Some(&text.place), || self.encode_one(text, labels, options)))
            .collect::<Result<Vec<_>, _>>()?;
        let mut set = TokenSet::default();
        for (example, text) in encoded.into_iter().enumerate() {
            set.first.push(set.windows.len());
            for (encoded, labels, words) in text.windows {
                set.set.items.push(encoded);
                set.windows.push(TokenWindow {
                    example,
                    labels,
                    words,
                });
            }
            set.covered.push(text.covered);
            set.spans += text.spans;
            set.inexact += text.inexact;
        }
        set.first.push(set.windows.len());
        Ok(set)
    }

    fn encode_one(
        &self,
        text: &TaggedText,
        labels: Option<&TagLabels>,
        options: TagOptions,
    ) -> Result<EncodedText, Failed> {
        let characters = super::Characters::new(&text.text);
        let (encoding, aligned) = if self.by_words {
            let words = text.words.iter();
            let words: Vec<&str> = words.map(|word| characters.slice(word.clone())).collect();
            let encoding = self.whole(words)?;
            let aligned = Aligned::of(encoding.get_word_ids().to_vec());
            (encoding, aligned)
        } else {
            let encoding = self.whole(text.text.as_str())?;
            let aligned = Aligned::by_offsets(text, encoding.get_offsets());
            (encoding, aligned)
        };
        let of_words = labels
            .map(|labels| match &text.spans {
                Some(_) => labels.of_words(text),
                None => Err(DataError::Unlabelled {
                    place: text.place.clone(),
                }),
            })
            .transpose()
            .map_err(Failed::Data)?;
        let of_tokens: Vec<i32> = (0..aligned.words.len())
            .map(|token| {
                let word = aligned.words[token].map(|word| word as usize);
                let label = word.and_then(|word| *of_words.as_ref()?.get(word)?);
                match (label, labels) {
                    (Some(label), _) if aligned.speaks[token] => label as i32,
                    (Some(label), Some(labels)) if options.label_all_tokens => {
                        labels.going_on(label) as i32
                    }
                    _ => IGNORED,
                }
            })
            .collect();
        let spans = text.spans.as_deref().unwrap_or_default();
        let inexact = match (labels, of_words) {
            (Some(labels), Some(of_words)) => aligned.inexact(text, spans, labels, &of_words),
            _ => 0,
        };

        let pieces = self.windows(encoding, None, options.overlap)?;
        let owners = owners(&pieces, aligned.words.len());
        let windows = pieces.into_iter().enumerate().map(|(window, pieces)| {
            let owned = pieces.index.iter().map(|index| {
                let token = (*index)? as usize;
                (owners[token] == Some(window)).then_some(token)
            });
            let owned: Vec<Option<usize>> = owned.collect();
            let labels = owned
                .iter()
                .map(|token| token.map_or(IGNORED, |token| of_tokens[token]));
            let words = owned.iter().map(|token| {
                let token = (*token)?;
                aligned.words[token].filter(|_| aligned.speaks[token])
            });
            (pieces.encoded, labels.collect(), words.collect())
        });
        Ok(EncodedText {
            windows: windows.collect(),
            covered: aligned.covered,
            spans: spans.len(),
            inexact,
        })
    }
}

/// The window in which each token has most context: the most tokens on its poorer side, of equal ones the first.
fn owners(windows: &[Pieces], tokens: usize) -> Vec<Option<usize>> {
    let mut best: Vec<Option<(usize, usize)>> = vec![None; tokens];
    for (window, pieces) in windows.iter().enumerate() {
        let inside: Vec<usize> = pieces
            .index
            .iter()
            .flatten()
            .map(|&at| at as usize)
            .collect();
        for (at, &token) in inside.iter().enumerate() {
            let context = at.min(inside.len() - 1 - at);
            if best[token].is_none_or(|(most, _)| context > most) {
                best[token] = Some((context, window));
            }
        }
    }
    best.into_iter()
        .map(|best| best.map(|(_, window)| window))
        .collect()
}

impl Aligned {
    /// From the word of each token.
    fn of(words: Vec<Option<u32>>) -> Self {
        let mut last = None;
        let speaks = words.iter().map(|&word| {
            let is_new = word.is_some() && word > last;
            last = last.max(word);
            is_new
        });
        Self {
            speaks: speaks.collect(),
            words,
            covered: Vec::new(),
        }
    }

    /// From the characters of each token: white space at its start belongs to no word.
    fn by_offsets(text: &TaggedText, offsets: &[(usize, usize)]) -> Self {
        let is_space: Vec<bool> = text.text.chars().map(char::is_whitespace).collect();
        let words = offsets.iter().map(|&(start, end)| {
            let end = end.min(is_space.len());
            let first = (start..end).find(|&at| !is_space[at])?;
            let word = text.words.partition_point(|word| word.end <= first);
            let found = text.words.get(word).filter(|range| range.start <= first);
            found.map(|_| word as u32)
        });
        let mut aligned = Self::of(words.collect());
        let mut has_token = vec![false; text.words.len()];
        for (word, speaks) in aligned.words.iter().zip(&aligned.speaks) {
            if let Some(word) = word.filter(|_| *speaks) {
                has_token[word as usize] = true;
            }
        }
        for (word, range) in text
            .words
            .iter()
            .enumerate()
            .filter(|(word, _)| !has_token[*word])
        {
            // Tokens stand in the order of their ends.
            let token = offsets.partition_point(|&(_, end)| end <= range.start);
            let by = aligned.words.get(token).copied().flatten();
            let covers = |by: &u32| (*by as usize) < word && offsets[token].0 <= range.start;
            aligned
                .covered
                .extend(by.filter(covers).map(|by| (word as u32, by)));
        }
        aligned
    }

    /// How many spans do not come back from the labels of the tokens.
    fn inexact(
        &self,
        text: &TaggedText,
        spans: &[Span],
        labels: &TagLabels,
        of_words: &[Option<u32>],
    ) -> usize {
        let mut tags = vec![None; text.words.len()];
        for (word, _) in self
            .words
            .iter()
            .zip(&self.speaks)
            .filter(|(_, speaks)| **speaks)
        {
            if let Some(word) = word.map(|word| word as usize) {
                tags[word] = of_words[word].map(|label| WordTag { label, score: 1.0 });
            }
        }
        let back = tagged_spans(
            text,
            labels,
            &super::decode::with_covered(&tags, &self.covered),
        );
        let back: HashSet<Span> = back.into_iter().map(|found| found.span).collect();
        spans.iter().filter(|span| !back.contains(span)).count()
    }
}
