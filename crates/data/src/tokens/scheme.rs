//! Tags of words to spans of words: every scheme is read by the rule of seqeval's default mode (`get_entities` in
//! `seqeval/metrics/sequence_labeling.py`), which is lenient: an `I-x` that follows nothing begins a span.
//!
//! Differences: `L-` is read as `E-`, `U-` and `W-` as `S-`, `M-` as `I-`.

use std::collections::BTreeSet;
use std::fmt;
use std::ops::Range;

/// How a file writes which words belong together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheme {
    /// BIO, also called IOB2: `B-x` begins every span, `I-x` goes on.
    Bio,
    /// IOB1: `I-x` for every word, `B-x` only where a span follows another of the same label.
    Iob1,
    /// IOBES, also called BIOES or BMES: `E-x` ends a span, `S-x` is one of one word.
    Iobes,
    /// BILOU: `L-x` ends a span, `U-x` is one of one word.
    Bilou,
    /// `I-x` for every word: spans of the same label side by side are one.
    Io,
    /// The bare label for every word, `O` elsewhere; read like IO.
    Plain,
    /// A class for every word and no `O`, as parts of speech: each word is a span of its own.
    PerWord,
    /// No tags: ranges of characters.
    Spans,
}

impl fmt::Display for Scheme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Bio => "BIO",
            Self::Iob1 => "IOB1",
            Self::Iobes => "IOBES",
            Self::Bilou => "BILOU",
            Self::Io => "IO",
            Self::Plain => "labels without B- and I-",
            Self::PerWord => "a label for every word",
            Self::Spans => "spans of characters",
        })
    }
}

/// Which part of a span a word is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    Outside,
    Begin,
    Inside,
    End,
    Single,
}

/// The tag of a word that belongs to nothing.
pub(super) const OUTSIDE: &str = "O";
/// The label of tags that have none: a lone `B` or `I`.
pub(super) const NAMELESS: &str = "_";

/// A tag's part and label.
pub(super) type Tag<'a> = (Part, &'a str);

/// A tag with a prefix, or `O`.
pub(super) fn parse(tag: &str) -> Option<Tag<'_>> {
    if tag == OUTSIDE {
        return Some((Part::Outside, NAMELESS));
    }
    let (prefix, label) = match tag.split_once('-') {
        Some((prefix, label)) if !label.is_empty() => (prefix, label),
        Some(_) => return None,
        None => (tag, NAMELESS),
    };
    let part = match prefix {
        "B" => Part::Begin,
        "I" | "M" => Part::Inside,
        "E" | "L" => Part::End,
        "S" | "U" | "W" => Part::Single,
        _ => return None,
    };
    Some((part, label))
}

/// The spans of a row of tags: words and label.
pub(super) fn entities<'a>(tags: &[Tag<'a>]) -> Vec<(Range<usize>, &'a str)> {
    use Part::{Begin, End, Inside, Outside, Single};
    let mut found = Vec::new();
    let mut start = 0;
    let (mut before, mut label_before) = (Outside, "");
    for (at, &(part, label)) in tags.iter().chain([&(Outside, NAMELESS)]).enumerate() {
        let other = label != label_before;
        let ends = match before {
            Outside => false,
            End | Single => true,
            Begin | Inside => matches!(part, Begin | Single | Outside) || other,
        };
        let starts = match part {
            Outside => false,
            Begin | Single => true,
            Inside | End => matches!(before, Outside | End | Single) || other,
        };
        if ends {
            found.push((start..at, label_before));
        }
        if starts {
            start = at;
        }
        (before, label_before) = (part, label);
    }
    found
}

/// What the tags of a file look like.
#[derive(Debug, Default)]
pub(super) struct Detector {
    /// Tags with and without prefix, and `O`.
    prefixed: usize,
    bare: usize,
    outside: usize,
    /// Which prefixes there are.
    seen: BTreeSet<u8>,
    /// `I-x` that goes on with nothing, and `B-x` behind a span of the same label.
    strays: usize,
    begins_behind: usize,
    begins: usize,
}

impl Detector {
    /// Looks at the tags of a sentence.
    pub(super) fn look(&mut self, tags: &[String]) {
        let mut before: Tag<'_> = (Part::Outside, "");
        for tag in tags {
            let Some(parsed @ (part, label)) = parse(tag) else {
                self.bare += 1;
                before = (Part::Outside, "");
                continue;
            };
            if part == Part::Outside {
                self.outside += 1;
            } else {
                self.prefixed += 1;
                // A prefix is one ASCII letter.
                self.seen.insert(tag.as_bytes()[0]);
                let follows = before.0 != Part::Outside && before.1 == label;
                self.strays += usize::from(part == Part::Inside && !follows);
                self.begins += usize::from(part == Part::Begin);
                self.begins_behind += usize::from(part == Part::Begin && follows);
            }
            before = parsed;
        }
    }

    /// The scheme. Where few tags have no prefix they are mistakes, where most have none it means nothing.
    pub(super) fn scheme(&self) -> Scheme {
        let seen = |letters: &str| letters.bytes().any(|letter| self.seen.contains(&letter));
        if self.bare > self.prefixed {
            return match self.outside {
                0 => Scheme::PerWord,
                _ => Scheme::Plain,
            };
        }
        if seen("LU") {
            Scheme::Bilou
        } else if seen("ESMW") {
            Scheme::Iobes
        } else if self.prefixed == 0 || self.strays == 0 {
            Scheme::Bio
        } else if self.begins == 0 {
            Scheme::Io
        } else if self.begins_behind == self.begins {
            Scheme::Iob1
        } else {
            Scheme::Bio
        }
    }

    /// `I-x` that nothing begins, where the scheme wants a `B-x`.
    pub(super) fn strays(&self) -> usize {
        match self.scheme() {
            Scheme::Bio => self.strays,
            _ => 0,
        }
    }
}

/// The spans of a sentence's tags.
///
/// # Errors
/// The number of a word whose tag has no prefix, where the scheme has one.
pub(super) fn spans_of(
    scheme: Scheme,
    tags: &[String],
) -> Result<Vec<(Range<usize>, &str)>, usize> {
    let parsed: Result<Vec<Tag<'_>>, usize> = tags
        .iter()
        .enumerate()
        .map(|(at, tag)| match scheme {
            Scheme::Plain if tag == OUTSIDE => Ok((Part::Outside, NAMELESS)),
            Scheme::Plain => Ok((Part::Inside, tag.as_str())),
            Scheme::PerWord => Ok((Part::Single, tag.as_str())),
            _ => parse(tag).ok_or(at),
        })
        .collect();
    Ok(entities(&parsed?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tags(tags: &str) -> Vec<String> {
        tags.split(' ').map(str::to_owned).collect()
    }

    #[test]
    fn every_scheme_tells_the_same_spans() {
        // Two x side by side, a y of one word, an x of three.
        let expect = vec![(0..2, "x"), (2..3, "x"), (4..5, "y"), (5..8, "x")];
        for (scheme, row) in [
            (Scheme::Bio, "B-x I-x B-x O B-y B-x I-x I-x"),
            (Scheme::Iob1, "I-x I-x B-x O I-y I-x I-x I-x"),
            (Scheme::Iobes, "B-x E-x S-x O S-y B-x I-x E-x"),
            (Scheme::Iobes, "B-x E-x S-x O S-y B-x M-x E-x"),
            (Scheme::Bilou, "B-x L-x U-x O U-y B-x I-x L-x"),
        ] {
            let row = tags(row);
            let mut detector = Detector::default();
            detector.look(&row);
            assert_eq!(detector.scheme(), scheme, "{row:?}");
            assert_eq!(spans_of(scheme, &row), Ok(expect.clone()), "{row:?}");
        }
        for (scheme, row, expect) in [
            (Scheme::Io, "I-x I-x O I-y", vec![(0..2, "x"), (3..4, "y")]),
            (
                Scheme::Plain,
                "x x O y x",
                vec![(0..2, "x"), (3..4, "y"), (4..5, "x")],
            ),
            (
                Scheme::PerWord,
                "NN NN VB",
                vec![(0..1, "NN"), (1..2, "NN"), (2..3, "VB")],
            ),
            (Scheme::Bio, "B I O B", vec![(0..2, "_"), (3..4, "_")]),
            (
                Scheme::Bio,
                "B-work-of-art I-work-of-art",
                vec![(0..2, "work-of-art")],
            ),
            (Scheme::Bio, "O O", vec![]),
        ] {
            let row = tags(row);
            let mut detector = Detector::default();
            detector.look(&row);
            assert_eq!(detector.scheme(), scheme, "{row:?}");
            assert_eq!(spans_of(scheme, &row), Ok(expect), "{row:?}");
        }
    }

    #[test]
    fn a_tag_without_prefix_among_others_is_a_mistake() {
        let row = tags("B-x I-x O x B-x");
        let mut detector = Detector::default();
        detector.look(&row);
        assert_eq!(detector.scheme(), Scheme::Bio);
        assert_eq!(spans_of(Scheme::Bio, &row), Err(3));
    }
}
