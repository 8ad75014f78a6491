//! Characters of a text, and its division into words.

use std::ops::Range;

use unicode_normalization::char::is_combining_mark;

/// A text that is addressed by characters.
pub(crate) struct Characters<'a> {
    text: &'a str,
    /// The byte of each character, and the length behind them; none where every character is one byte.
    bytes: Option<Vec<usize>>,
}

impl<'a> Characters<'a> {
    pub(crate) fn new(text: &'a str) -> Self {
        let bytes = (!text.is_ascii()).then(|| {
            let starts = text.char_indices().map(|(at, _)| at);
            starts.chain([text.len()]).collect()
        });
        Self { text, bytes }
    }

    /// Number of characters.
    pub(crate) fn len(&self) -> usize {
        self.bytes
            .as_ref()
            .map_or(self.text.len(), |bytes| bytes.len() - 1)
    }

    fn byte(&self, at: usize) -> usize {
        let at = at.min(self.len());
        self.bytes.as_ref().map_or(at, |bytes| bytes[at])
    }

    /// The characters of a range, as far as they are there.
    pub(crate) fn slice(&self, range: Range<usize>) -> &'a str {
        let start = self.byte(range.start);
        &self.text[start..self.byte(range.end).max(start)]
    }

    /// The number of the character that begins at a byte.
    pub(crate) fn number(&self, byte: usize) -> usize {
        match &self.bytes {
            None => byte,
            Some(bytes) => bytes.partition_point(|&start| start < byte),
        }
    }

    /// A range without the white space at its ends; empty where there is nothing else.
    pub(crate) fn trimmed(&self, range: Range<usize>) -> Range<usize> {
        let text = self.slice(range.clone());
        let before = text.len() - text.trim_start().len();
        let start = range.start + text[..before].chars().count();
        start..start + text.trim().chars().count()
    }
}

/// The characters of a range, as far as the text has them.
///
/// ```
/// assert_eq!(rekindle_data::tokens::slice("Zoë naps", 2..5), "ë n");
/// ```
pub fn slice(text: &str, range: Range<usize>) -> &str {
    Characters::new(text).slice(range)
}

/// What kind of character one is, for the division into words.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Space,
    Letter,
    Digit,
    /// A word of its own.
    Alone,
    /// Goes with whatever stands before it.
    Mark,
}

/// The words of a text as ranges of characters.
///
/// A word is a run of letters, a run of digits, or one character of any other kind, so that labels may end before a comma, at
/// a bracket or between `5` and `km`. Where a script writes without spaces (Chinese, Japanese, Thai, Lao, Khmer, Burmese,
/// Tibetan) or hangs endings on names (Korean), every letter is a word. Marks go with the character that they stand on.
///
/// ```
/// use rekindle_data::tokens::words_in;
///
/// assert_eq!(words_in("(5km away)"), [0..1, 1..2, 2..4, 5..9, 9..10]);
/// ```
pub fn words_in(text: &str) -> Vec<Range<usize>> {
    let mut words: Vec<Range<usize>> = Vec::new();
    let mut last = Kind::Space;
    for (at, character) in text.chars().enumerate() {
        let kind = match kind(character) {
            Kind::Mark if last == Kind::Space => Kind::Alone,
            kind => kind,
        };
        let goes_on =
            kind == Kind::Mark || (kind == last && matches!(kind, Kind::Letter | Kind::Digit));
        match words.last_mut() {
            Some(word) if goes_on => word.end = at + 1,
            _ if kind != Kind::Space => words.push(at..at + 1),
            _ => {}
        }
        if kind != Kind::Mark {
            last = kind;
        }
    }
    words
}

fn kind(character: char) -> Kind {
    match character {
        _ if character.is_whitespace() => Kind::Space,
        _ if is_combining_mark(character) => Kind::Mark,
        '\u{0E00}'..='\u{109F}'
        | '\u{1780}'..='\u{17FF}'
        | '\u{3040}'..='\u{30FF}'
        | '\u{31F0}'..='\u{31FF}'
        | '\u{3400}'..='\u{9FFF}'
        | '\u{AC00}'..='\u{D7A3}'
        | '\u{F900}'..='\u{FAFF}'
        | '\u{FF66}'..='\u{FF9D}'
        | '\u{20000}'..='\u{3FFFF}' => Kind::Alone,
        _ if character.is_alphabetic() => Kind::Letter,
        _ if character.is_numeric() => Kind::Digit,
        _ => Kind::Alone,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_end_where_labels_may() {
        for (text, expect) in [
            ("", vec![]),
            (" \t\n", vec![]),
            ("Zoë's re-run", vec!["Zoë", "'", "s", "re", "-", "run"]),
            (
                "cost: $5m, 3pm",
                vec!["cost", ":", "$", "5", "m", ",", "3", "pm"],
            ),
            (
                "e\u{301}te\u{301} \u{301}x",
                vec!["e\u{301}te\u{301}", "\u{301}", "x"],
            ),
            ("東京は", vec!["東", "京", "は"]),
            ("서울에 a", vec!["서", "울", "에", "a"]),
            ("a😀b", vec!["a", "😀", "b"]),
        ] {
            let words: Vec<&str> = words_in(text)
                .into_iter()
                .map(|word| slice(text, word))
                .collect();
            assert_eq!(words, expect, "{text}");
        }
    }

    #[test]
    fn characters_are_found_and_never_panic() {
        let text = "aé日 b";
        let characters = Characters::new(text);
        assert_eq!(characters.len(), 5);
        assert_eq!(characters.slice(1..3), "é日");
        assert_eq!(characters.slice(3..99), " b");
        let (start, end) = (9, 2);
        assert_eq!(characters.slice(start..end), "");
        assert_eq!(characters.trimmed(2..4), 2..3);
        assert_eq!(characters.trimmed(3..5), 4..5);
        assert_eq!(characters.trimmed(3..4).len(), 0);
        assert_eq!(characters.number(text.find('b').unwrap_or(0)), 4);
    }
}
