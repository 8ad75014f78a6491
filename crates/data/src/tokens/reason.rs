//! What is wrong with a row of words and tags, or of text and spans.

use thiserror::Error;

use rekindle_base::near::quoted_list;

use crate::error::LISTED;

/// Why a labelled text cannot be used. `at` says where in the row: a key of JSON with the number of its element, counted
/// from 0, or a column counted from 1.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum TagReason {
    /// A line of columns with another number of them.
    #[error("expected {expected} columns as in the first line, found {found}")]
    Columns {
        /// Columns of the first line.
        expected: usize,
        /// Columns of this line.
        found: usize,
    },
    /// A first line that is no row of words and tags.
    #[error(
        "expected 2 to 10 columns with tabs or spaces between, the word and its tag, found {found}"
    )]
    NotColumns {
        /// Columns of the line.
        found: usize,
    },
    /// No word or no tag where one should be.
    #[error("the {what} in {at} is empty")]
    Empty {
        /// `word`, `tag` or `label`.
        what: &'static str,
        /// Where.
        at: String,
    },
    /// A sentence without words.
    #[error("there are no words in `{key}`")]
    NoWords {
        /// The key.
        key: String,
    },
    /// Words and tags that do not belong together.
    #[error("`{words_key}` has {words} words, `{tags_key}` has {tags} tags")]
    Counts {
        /// Key of the words.
        words_key: String,
        /// How many.
        words: usize,
        /// Key of the tags.
        tags_key: String,
        /// How many.
        tags: usize,
    },
    /// A tag without `B-` or the like in a file of such tags.
    #[error("the tag `{tag}` in {at} has no prefix, though the file's tags are {scheme}")]
    NoPrefix {
        /// The tag.
        tag: String,
        /// Where.
        at: String,
        /// The scheme of the others.
        scheme: String,
    },
    /// A number of a tag that is not known.
    #[error("the tag {tag} in {at} is a number, and {}", if *names == 0 { "the file does not say what numbers mean".to_owned() } else { format!("there are {names} names, from 0") })]
    NoName {
        /// The number.
        tag: i64,
        /// Where.
        at: String,
        /// How many names there are.
        names: usize,
    },
    /// None of the keys that make a row a text.
    #[error(
        "no text: found the keys {}, expected {}",
        quoted_list(found, LISTED),
        wanted.as_ref().map_or_else(|| "`text`, or `tokens` with their tags".to_owned(), |key| format!("`{key}`"))
    )]
    NoText {
        /// The keys of the row.
        found: Vec<String>,
        /// The key that was named.
        wanted: Option<String>,
    },
    /// A text without labels in a file to learn from.
    #[error(
        "no labels: found the keys {}, expected one of {}",
        quoted_list(found, LISTED),
        quoted_list(expected, LISTED)
    )]
    NoLabels {
        /// The keys of the row.
        found: Vec<String>,
        /// The keys that are read.
        expected: Vec<String>,
    },
    /// Something else where a span should be.
    #[error(
        "expected [start, end, \"label\"] or {{\"start\", \"end\", \"label\"}} in {at}, found {found}"
    )]
    NotASpan {
        /// Where.
        at: String,
        /// What stands there.
        found: String,
    },
    /// A span that ends behind the text, or begins behind its end.
    #[error(
        "the span {start} to {end} in {at} is not inside the text, which has {characters} characters"
    )]
    Outside {
        /// Where.
        at: String,
        /// Its start.
        start: i64,
        /// Its end.
        end: i64,
        /// Characters of the text.
        characters: usize,
    },
    /// A span without a character that is not white space.
    #[error("the span {start} to {end} in {at} holds no text")]
    EmptySpan {
        /// Where.
        at: String,
        /// Its start.
        start: i64,
        /// Its end.
        end: i64,
    },
    /// A span that says what it holds, and holds something else.
    #[error("the span in {at} should hold `{said}`, but `{stands}` stands there")]
    OtherText {
        /// Where.
        at: String,
        /// What the row says.
        said: String,
        /// What the text has at that place.
        stands: String,
    },
    /// Two spans that share characters.
    #[error("the spans {first} and {second} overlap")]
    Overlap {
        /// One, with its label.
        first: String,
        /// The other.
        second: String,
    },
}

impl TagReason {
    /// What the user can do about it.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Columns { .. } => {
                "write one word and its tag on each line, with the same columns everywhere, and an empty line between sentences"
            }
            Self::NotColumns { .. } => {
                "write one word and its tag on each line; or JSON lines of `tokens` and `tags`, or of `text` and `spans`"
            }
            Self::Empty { .. } | Self::NoWords { .. } => "fill in or remove the row",
            Self::Counts { .. } => "give every word one tag, O where it belongs to nothing",
            Self::NoPrefix { .. } => {
                "write B- before the first word of a span and I- before the others"
            }
            Self::NoName { .. } => {
                "name the tags in order, in every row or in a first row of its own: {\"names\": [\"O\", \"B-PER\", \"I-PER\"]}"
            }
            Self::NoText { .. } => "rename the keys",
            Self::NoLabels { .. } => {
                "label or remove the row; an empty list says that there is nothing in the text"
            }
            Self::NotASpan { .. } => "write spans as annotation tools export them",
            Self::Outside { .. } | Self::OtherText { .. } => {
                "count characters (Unicode code points, not bytes) from 0; the end is the character behind the last"
            }
            Self::EmptySpan { .. } => {
                "the end is the character behind the last; remove spans of nothing"
            }
            Self::Overlap { .. } => "keep one of them: a word has one label",
        }
    }
}
