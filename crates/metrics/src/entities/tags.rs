//! The ways to write entities as one tag a word, and how seqeval 1.2 reads them: `seqeval.metrics.sequence_labeling.get_entities`
//! and `seqeval.scheme`.

use super::EntitySpan;
use crate::MetricsError;

/// How tags are read. A tag is a prefix and a label, `B-person`, or `O` outside of any entity; a prefix alone stands for
/// the label `_`.
///
/// The schemes read strictly: what is not written by their rules, such as an inside without a beginning where one is
/// needed, is no entity. [`TagScheme::Lenient`] makes an entity of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TagScheme {
    /// As seqeval does by default, and much as the script conlleval of CoNLL-2000: prefixes B, I, E, S and O, any
    /// sequence of them. An entity begins at B or S, behind O, E or S, and where the label changes.
    ///
    /// One difference: other prefixes, which seqeval reads with a warning and mostly wrongly, are errors here. So BILOU
    /// is read by its own scheme alone.
    Lenient,
    /// Inside, outside; a beginning (B) only between two entities of one label that touch.
    Iob1,
    /// BIO: every entity begins with B.
    Iob2,
    /// Inside, outside; an end (E) only between two entities of one label that touch.
    ///
    /// seqeval reads parts of this scheme wrongly, as its own source says; so do we, to give the same figures: an E
    /// behind O begins no entity.
    Ioe1,
    /// Every entity ends with E.
    Ioe2,
    /// B, any I, then E; S alone for a single word.
    Iobes,
    /// The same in other letters: B, any I, then L; U alone for a single word.
    Bilou,
}

/// The entities that tags say, by their start.
///
/// ```
/// use rekindle_metrics::{TagScheme, entity_spans};
///
/// let tags = ["B-person", "I-person", "O", "I-place"];
/// assert_eq!(entity_spans(&tags, TagScheme::Iob2)?.len(), 1);
/// assert_eq!(entity_spans(&tags, TagScheme::Lenient)?[1].label, "place");
/// # Ok::<(), rekindle_metrics::MetricsError>(())
/// ```
///
/// # Errors
/// A tag that the scheme does not have.
pub fn entity_spans<S: AsRef<str>>(
    tags: &[S],
    scheme: TagScheme,
) -> Result<Vec<EntitySpan<'_>>, MetricsError> {
    let tags = tags
        .iter()
        .enumerate()
        .map(|(index, tag)| Tag::read(tag.as_ref(), index, scheme))
        .collect::<Result<Vec<_>, _>>()?;
    Ok(match scheme.rules() {
        Some(rules) => strict(&tags, rules),
        None => lenient(&tags),
    })
}

#[derive(Debug, Clone, Copy)]
struct Tag<'a> {
    prefix: char,
    label: &'a str,
}

/// What stands before the first tag and behind the last.
const OUTSIDE: Tag<'_> = Tag {
    prefix: 'O',
    label: "_",
};

impl<'a> Tag<'a> {
    fn read(tag: &'a str, index: usize, scheme: TagScheme) -> Result<Self, MetricsError> {
        let known =
            |prefix: &char| prefix.is_ascii_uppercase() && scheme.prefixes().contains(*prefix);
        let Some(prefix) = tag.chars().next().filter(known) else {
            return Err(MetricsError::UnknownTag {
                scheme: scheme.name(),
                expected: scheme.prefixes(),
                index,
                found: tag.to_owned(),
            });
        };
        // All prefixes are ASCII.
        let rest = &tag[1..];
        let label = match scheme {
            TagScheme::Lenient => rest.split_once('-').map_or(rest, |(_, label)| label),
            _ => rest.trim_matches('-'),
        };
        let label = if label.is_empty() { "_" } else { label };
        Ok(Self { prefix, label })
    }
}

fn lenient<'a>(tags: &[Tag<'a>]) -> Vec<EntitySpan<'a>> {
    let mut spans = Vec::new();
    let mut start = 0;
    let mut before = OUTSIDE;
    for (i, &tag) in tags.iter().chain([&OUTSIDE]).enumerate() {
        let new_label = before.label != tag.label;
        let ends = match (before.prefix, tag.prefix) {
            ('E' | 'S', _) | ('B' | 'I', 'B' | 'S' | 'O') => true,
            (prefix, _) => prefix != 'O' && new_label,
        };
        if ends {
            spans.push(EntitySpan {
                start,
                end: i,
                label: before.label,
            });
        }
        let starts = match (before.prefix, tag.prefix) {
            (_, 'B' | 'S') | ('E' | 'S' | 'O', 'E' | 'I') => true,
            (_, prefix) => prefix != 'O' && new_label,
        };
        if starts {
            start = i;
        }
        before = tag;
    }
    spans
}

fn strict<'a>(tags: &[Tag<'a>], rules: &Rules) -> Vec<EntitySpan<'a>> {
    let at = |i: usize| tags.get(i).copied().unwrap_or(OUTSIDE);
    let mut spans = Vec::new();
    let mut before = OUTSIDE;
    let mut i = 0;
    while i < tags.len() {
        let start = i;
        i += 1;
        if holds(rules.start, before, at(start)) {
            // Outside is never inside, so this ends at the last tag.
            while holds(rules.inside, at(i - 1), at(i)) {
                i += 1;
            }
            if holds(rules.end, at(i - 1), at(i)) {
                spans.push(EntitySpan {
                    start,
                    end: i,
                    label: at(start).label,
                });
            }
        }
        before = at(i - 1);
    }
    spans
}

fn holds(rules: &[Rule], before: Tag<'_>, tag: Tag<'_>) -> bool {
    rules.iter().any(|(first, second, labels)| {
        first.contains(before.prefix)
            && second.contains(tag.prefix)
            && match labels {
                Any => true,
                Same => before.label == tag.label,
                Differ => before.label != tag.label,
            }
    })
}

/// When an entity starts, goes on and ends, by a tag and the one before it.
struct Rules {
    start: &'static [Rule],
    inside: &'static [Rule],
    end: &'static [Rule],
}

/// Prefixes of a tag, prefixes of the next, and what their labels must be.
type Rule = (&'static str, &'static str, Labels);

enum Labels {
    Any,
    Same,
    Differ,
}

use Labels::{Any, Differ, Same};

const ALL: &str = "BIESLUO";

const IOB1: Rules = Rules {
    start: &[("OB", "I", Any), ("I", "I", Differ), ("IB", "B", Same)],
    inside: &[("BI", "I", Same)],
    end: &[
        ("IB", "I", Differ),
        ("IB", "O", Any),
        ("I", "B", Any),
        ("B", "B", Same),
    ],
};

const IOB2: Rules = Rules {
    start: &[(ALL, "B", Any)],
    inside: &[("BI", "I", Same)],
    end: &[("BI", "BO", Any), ("BI", "I", Differ)],
};

const IOE1: Rules = Rules {
    start: &[("OE", "I", Any), ("I", "I", Differ), ("E", "E", Same)],
    inside: &[("I", "IE", Same)],
    end: &[("I", "IE", Differ), ("I", "O", Any), ("E", "IE", Same)],
};

const IOE2: Rules = Rules {
    start: &[("OE", "IE", Any), ("I", "IE", Differ)],
    inside: &[("I", "IE", Same)],
    end: &[("E", ALL, Any)],
};

const IOBES: Rules = Rules {
    start: &[(ALL, "BS", Any)],
    inside: &[("BI", "IE", Same)],
    end: &[("SE", ALL, Any)],
};

const BILOU: Rules = Rules {
    start: &[(ALL, "BU", Any)],
    inside: &[("BI", "IL", Same)],
    end: &[("UL", ALL, Any)],
};

impl TagScheme {
    fn name(self) -> &'static str {
        match self {
            Self::Lenient => "of any sequence",
            Self::Iob1 => "IOB1",
            Self::Iob2 => "IOB2",
            Self::Ioe1 => "IOE1",
            Self::Ioe2 => "IOE2",
            Self::Iobes => "IOBES",
            Self::Bilou => "BILOU",
        }
    }

    /// Letters, separated for people.
    fn prefixes(self) -> &'static str {
        match self {
            Self::Lenient | Self::Iobes => "B, I, E, S, O",
            Self::Iob1 | Self::Iob2 => "B, I, O",
            Self::Ioe1 | Self::Ioe2 => "I, E, O",
            Self::Bilou => "B, I, L, U, O",
        }
    }

    /// None where any sequence is read.
    fn rules(self) -> Option<&'static Rules> {
        match self {
            Self::Lenient => None,
            Self::Iob1 => Some(&IOB1),
            Self::Iob2 => Some(&IOB2),
            Self::Ioe1 => Some(&IOE1),
            Self::Ioe2 => Some(&IOE2),
            Self::Iobes => Some(&IOBES),
            Self::Bilou => Some(&BILOU),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn read(tags: &str, scheme: TagScheme) -> Vec<(usize, usize, String)> {
        let tags: Vec<&str> = tags.split(' ').collect();
        let spans = entity_spans(&tags, scheme).unwrap();
        let found = spans.iter().map(|s| (s.start, s.end, s.label.to_owned()));
        found.collect()
    }

    #[test]
    fn labels_may_hold_dashes_or_be_missing() {
        let label = |tag, scheme| read(tag, scheme)[0].2.clone();
        assert_eq!(label("B-a-b", TagScheme::Iob2), "a-b");
        assert_eq!(label("B-a-b", TagScheme::Lenient), "a-b");
        assert_eq!(label("B", TagScheme::Iob2), "_");
        assert_eq!(label("B-", TagScheme::Lenient), "_");
        // seqeval's two modes disagree on these.
        assert_eq!(label("B--a", TagScheme::Iob2), "a");
        assert_eq!(label("B--a", TagScheme::Lenient), "-a");
    }

    #[test]
    fn what_is_no_prefix_is_refused() {
        // The comma and the space of the message are no prefixes.
        for tag in ["", "U-a", "b-a", ", ", " ", "É-a"] {
            assert!(entity_spans(&[tag], TagScheme::Lenient).is_err(), "{tag:?}");
        }
        assert!(entity_spans(&["U-a"], TagScheme::Bilou).is_ok());
        assert!(entity_spans(&["E-a"], TagScheme::Bilou).is_err());
        assert_eq!(entity_spans::<&str>(&[], TagScheme::Iob1).unwrap(), []);
    }
}
