//! Conversations: files to turns, turns to token ids with the tokens that count as targets, and back to text.
//!
//! | step | where |
//! |---|---|
//! | JSONL, JSON, CSV, Parquet, plain text -> [`Conversation`]s with their place in the file | [`read_conversations`] |
//! | answers that were compared or judged -> [`Preference`]s | [`read_preferences`] |
//! | turns -> text, by the model's own Jinja template | [`ChatTemplate`] |
//! | text -> token ids, and whether each counts | [`ChatEncoder`] |
//! | encoded conversations -> one packed row of tokens | [`ChatBatch`] |
//! | token ids, one at a time -> text that never holds half a character | [`TextStream`] |
//! | a JSON schema and an answer so far -> the tokens that may follow | [`Constraint`], [`Constrainer`] |
//!
//! Training, prediction and chat render through the same [`ChatEncoder`], so a model is asked as it was taught.

mod added;
mod batch;
mod constraint;
mod encode;
mod preferences;
mod read;
mod spans;
mod stream;
mod template;

use std::fmt;
use std::path::PathBuf;

use serde_json::{Map, Value};

use crate::{Examples, Place};
use std::borrow::Cow;

pub use added::write_added_tokens;
pub use batch::ChatBatch;
pub use constraint::{ConstrainedAnswer, Constrainer, Constraint};
pub use encode::{ChatEncoder, EncodeOptions, EncodedChat, EncodedChats, LossOn};
pub use preferences::{Preference, Preferences, read_preferences};
pub(crate) use read::Reader;
pub use read::{ChatOptions, Conversations, PromptColumns, read_conversations};
pub use stream::TextStream;
pub use template::{ChatTemplate, TemplateSource};

/// Who speaks in a turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ChatRole {
    /// Sets the scene, before the first turn.
    System,
    /// OpenAI's newer name of the system role; templates know it by this name.
    Developer,
    /// Asks.
    User,
    /// Answers: the model.
    Assistant,
    /// Reports what a tool that the assistant called gave back.
    Tool,
}

impl ChatRole {
    /// The name in files and templates.
    pub fn name(self) -> &'static str {
        match self {
            Self::System => "system",
            Self::Developer => "developer",
            Self::User => "user",
            Self::Assistant => "assistant",
            Self::Tool => "tool",
        }
    }
}

impl fmt::Display for ChatRole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// One turn.
#[derive(Debug, Clone, PartialEq)]
pub struct Message {
    /// Who speaks.
    pub role: ChatRole,
    /// What is said; `None` where the file has null or nothing, as beside a tool call.
    pub content: Option<String>,
    /// Everything else that the file says of the turn, for the template: `tool_calls`, `name`, `reasoning_content`.
    pub extra: Map<String, Value>,
}

impl Message {
    /// A turn of plain text.
    pub fn new(role: ChatRole, content: impl Into<String>) -> Self {
        Self {
            role,
            content: Some(content.into()),
            extra: Map::new(),
        }
    }
}

/// What a row is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ChatKind {
    /// Turns. Every assistant's turn can count.
    Chat,
    /// A prompt of that many messages and its completion. Turns of the prompt never count.
    Completion {
        /// Number of messages that are the prompt.
        prompt: usize,
    },
    /// A text to continue, of which every token counts. There are no messages.
    Text(String),
}

/// One row of a file of conversations.
#[derive(Debug, Clone, PartialEq)]
pub struct Conversation {
    /// The turns; none for a [`ChatKind::Text`].
    pub messages: Vec<Message>,
    /// JSON schemas of the tools that the assistant may call: an array.
    pub tools: Option<Value>,
    /// Where the row starts. Line 0 stands for a whole file.
    pub place: Place,
    /// What the row is.
    pub kind: ChatKind,
}

impl Conversation {
    /// A text to continue, which stands in no file.
    pub fn text(text: &str) -> Self {
        Self {
            messages: Vec::new(),
            tools: None,
            place: Place {
                path: std::path::Path::new("").into(),
                line: 1,
            },
            kind: ChatKind::Text(text.to_owned()),
        }
    }
}

/// Rows without labels, each with its place.
macro_rules! unlabelled {
    ($row:ty, $place:expr) => {
        impl Examples for Vec<$row> {
            fn count(&self) -> usize {
                self.len()
            }

            fn class(&self, _index: usize) -> Option<Cow<'_, str>> {
                None
            }

            fn labels(&self, _index: usize) -> &[String] {
                &[]
            }

            fn source(&self) -> PathBuf {
                let place: fn(&$row) -> &Place = $place;
                self.first()
                    .map_or_else(PathBuf::new, |row| place(row).path.to_path_buf())
            }

            fn into_parts(self, to: &[u8]) -> [Self; 3] {
                $crate::split::deal(self, to)
            }
        }
    };
}

pub(crate) use unlabelled;

unlabelled!(Conversation, |row| &row.place);
unlabelled!(Preference, |row| row.place());
