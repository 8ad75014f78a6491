//! Files of conversations. Every row says by its keys what it is, see [`read_conversations`].

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::{Map, Value};

use super::{ChatKind, ChatRole, Conversation, Message};
use crate::tables::{each_object, kind_of, no_such_file, read_text, utf8};
use crate::{BadReason, DataError, OnBad, Place, Skipped};
use rekindle_base::near::near_misses;

/// Keys that make a row a conversation, for messages.
const KEYS: [&str; 8] = [
    "messages",
    "conversations",
    "prompt",
    "completion",
    "instruction",
    "input",
    "output",
    "text",
];
/// Roles in `messages`, and who they are.
const ROLES: [(&str, ChatRole); 5] = [
    ("system", ChatRole::System),
    ("developer", ChatRole::Developer),
    ("user", ChatRole::User),
    ("assistant", ChatRole::Assistant),
    ("tool", ChatRole::Tool),
];
/// The same of ShareGPT's `from`.
const SHAREGPT_ROLES: [(&str, ChatRole); 7] = [
    ("human", ChatRole::User),
    ("gpt", ChatRole::Assistant),
    ("system", ChatRole::System),
    ("tool", ChatRole::Tool),
    ("user", ChatRole::User),
    ("assistant", ChatRole::Assistant),
    ("function_response", ChatRole::Tool),
];
/// Names of plain text files.
const TEXT_ENDINGS: [&str; 2] = ["txt", "md"];

/// Two columns of other names to read as prompt and completion.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PromptColumns {
    /// Column of what is asked: text, or a list of messages.
    pub prompt: String,
    /// Column of the answer: text, or a list of messages.
    pub completion: String,
}

/// How to read conversations. The default takes every row for what its keys say and stops at the first bad one.
#[derive(Debug, Clone, Default)]
pub struct ChatOptions {
    /// Read these two columns, whatever else a row holds.
    pub columns: Option<PromptColumns>,
    /// Read these two columns of rows that have both.
    pub usual: Option<PromptColumns>,
    /// What to do with bad rows.
    pub on_bad_example: OnBad,
    /// Rows are questions: they need not hold an answer, and a `prompt` or an `instruction` alone will do.
    pub prompts: bool,
}

/// What [`read_conversations`] found.
#[derive(Debug, Clone, PartialEq)]
pub struct Conversations {
    /// The good rows, in file order.
    pub rows: Vec<Conversation>,
    /// The bad rows; empty unless [`OnBad::Skip`].
    pub skipped: Vec<Skipped>,
}

/// Reads conversations, prompts with completions, or texts.
///
/// A row of JSONL, of a JSON array, of CSV, TSV or Parquet is what the first of these keys makes it:
///
/// | keys | what it is |
/// |---|---|
/// | `messages` | a list of `{"role", "content", ...}`; content is text or a list of `{"type": "text", "text"}` |
/// | `conversations` | the same, or ShareGPT's `{"from": "human" or "gpt", "value"}`; `system` may stand beside it |
/// | `prompt`, `completion` | texts, or lists of messages; turns of the prompt do not count |
/// | `instruction`, `output`, perhaps `input` | Alpaca's: the input stands two line ends below the instruction |
/// | `text` | a text of which every token counts |
///
/// `tools` beside them is an array of JSON schemas, or the text of one. A `.txt` or `.md` file is one text; a folder is
/// one text for each such file in it and below, by name. CSV, TSV and Parquet give texts only, not lists of messages.
///
/// # Errors
/// [`DataError::NoSuchFile`], [`DataError::UnknownFormat`] and the like for the file, [`DataError::NoTexts`] for a folder
/// without texts, [`DataError::BadExample`] with the place of a bad row, [`DataError::AllBad`] where no row is good.
///
/// ```
/// use rekindle_data::chat::{ChatOptions, read_conversations};
///
/// # let dir = tempfile::tempdir()?;
/// # let path = dir.path().join("chats.jsonl");
/// std::fs::write(&path, r#"{"prompt": "Close the blinds", "completion": "{\"blinds\": \"closed\"}"}"#)?;
/// let read = read_conversations(&path, &ChatOptions::default())?;
/// assert_eq!(read.rows[0].messages.len(), 2);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn read_conversations(path: &Path, options: &ChatOptions) -> Result<Conversations, DataError> {
    let mut reader = Reader::new(options.on_bad_example);
    let metadata = metadata(path)?;
    if metadata.is_dir() {
        let mut files = Vec::new();
        text_files(path, &mut files)?;
        files.sort();
        if files.is_empty() {
            return Err(DataError::NoTexts {
                path: path.to_owned(),
            });
        }
        for file in files {
            reader.text_file(&file)?;
        }
    } else if is_text_file(path) {
        reader.text_file(path)?;
    } else {
        reader.table(path, |row, place| conversation(row, options, place))?;
    }
    let (rows, skipped) = reader.finish(path)?;
    Ok(Conversations { rows, skipped })
}

/// Rows as they are read, and those left out.
pub(super) struct Reader<T> {
    on_bad_example: OnBad,
    rows: Vec<T>,
    skipped: Vec<Skipped>,
}

impl<T> Reader<T> {
    pub(super) fn new(on_bad_example: OnBad) -> Self {
        Self {
            on_bad_example,
            rows: Vec::new(),
            skipped: Vec::new(),
        }
    }

    fn add(&mut self, place: Place, made: Result<T, BadReason>) {
        match made {
            Ok(row) => self.rows.push(row),
            Err(reason) => self.skipped.push(Skipped { place, reason }),
        }
    }

    /// Every row of a table or of a file of JSON.
    pub(super) fn table(
        &mut self,
        path: &Path,
        make: impl Fn(Map<String, Value>, Place) -> Result<T, BadReason>,
    ) -> Result<(), DataError> {
        let shared: Arc<Path> = path.into();
        each_object(path, |line, row| {
            let place = Place {
                path: Arc::clone(&shared),
                line,
            };
            let made = row.and_then(|row| make(row, place.clone()));
            self.add(place, made);
            Ok(())
        })
    }

    /// The good rows, of which there must be one, and those left out.
    pub(super) fn finish(mut self, path: &Path) -> Result<(Vec<T>, Vec<Skipped>), DataError> {
        if self.on_bad_example == OnBad::Error
            && let Some(error) = DataError::of_bad_rows(std::mem::take(&mut self.skipped))
        {
            return Err(error);
        }
        if !self.rows.is_empty() {
            return Ok((self.rows, self.skipped));
        }
        let path = path.to_owned();
        let skipped = self.skipped.len();
        Err(match self.skipped.into_iter().next() {
            Some(Skipped { place, reason }) => DataError::AllBad {
                path,
                skipped,
                line: place.line,
                reason,
            },
            None => DataError::NoRows { path },
        })
    }
}

impl Reader<Conversation> {
    /// One text. A mistake has its line, the text has none.
    fn text_file(&mut self, path: &Path) -> Result<(), DataError> {
        let bytes = read_text(path)?;
        let place = |line| Place {
            path: path.into(),
            line,
        };
        let text = match utf8(&bytes, 1) {
            Err((line, reason)) => {
                self.add(place(line), Err(reason));
                return Ok(());
            }
            Ok(text) => text,
        };
        if text.trim().is_empty() {
            self.add(place(0), Err(BadReason::EmptyDocument));
            return Ok(());
        }
        let row = Conversation {
            messages: Vec::new(),
            tools: None,
            place: place(0),
            kind: ChatKind::Text(text.to_owned()),
        };
        self.add(place(0), Ok(row));
        Ok(())
    }
}

/// What the file system says of a file or folder, which must be there.
pub(super) fn metadata(path: &Path) -> Result<fs::Metadata, DataError> {
    match fs::metadata(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Err(no_such_file(path)),
        other => other.map_err(|source| io(path, source)),
    }
}

fn io(path: &Path, source: std::io::Error) -> DataError {
    DataError::Io {
        path: path.to_owned(),
        source,
    }
}

fn is_text_file(path: &Path) -> bool {
    path.extension()
        .and_then(|ending| ending.to_str())
        .is_some_and(|ending| TEXT_ENDINGS.contains(&ending.to_lowercase().as_str()))
}

/// The text files of a folder and of those below it. Links to folders are not followed: they could lead in a circle.
fn text_files(dir: &Path, files: &mut Vec<PathBuf>) -> Result<(), DataError> {
    for entry in fs::read_dir(dir).map_err(|source| io(dir, source))? {
        let entry = entry.map_err(|source| io(dir, source))?;
        let path = entry.path();
        let kind = entry.file_type().map_err(|source| io(&path, source))?;
        if kind.is_dir() {
            text_files(&path, files)?;
        } else if is_text_file(&path) {
            files.push(path);
        }
    }
    Ok(())
}

/// A row as what its keys say.
fn conversation(
    mut row: Map<String, Value>,
    options: &ChatOptions,
    place: Place,
) -> Result<Conversation, BadReason> {
    // A table has all columns in every row: null is none.
    row.retain(|_, value| !value.is_null());
    let tools = tools(&mut row)?;
    let usual = options.usual.as_ref();
    let usual = usual.filter(|columns| {
        [&columns.prompt, &columns.completion]
            .into_iter()
            .all(|column| row.contains_key(column))
    });
    let (messages, kind) = if let Some(columns) = options.columns.as_ref().or(usual) {
        let (prompt, completion) = (columns.prompt.as_str(), columns.completion.as_str());
        for column in [prompt, completion] {
            if !row.contains_key(column) {
                return Err(missing(&row, &[prompt, completion]));
            }
        }
        pair(&mut row, prompt, completion)?
    } else if let Some(turns) = row.remove("messages") {
        (chat(turns, "messages")?, ChatKind::Chat)
    } else if let Some(turns) = row.remove("conversations") {
        let mut messages = chat(turns, "conversations")?;
        if let Some(system) = row.remove("system") {
            let system = text(system, "system")?;
            if !system.trim().is_empty() {
                messages.insert(0, Message::new(ChatRole::System, system));
            }
        }
        (messages, ChatKind::Chat)
    } else if row.contains_key("prompt") && row.contains_key("completion") {
        pair(&mut row, "prompt", "completion")?
    } else if row.contains_key("instruction") && (options.prompts || row.contains_key("output")) {
        let mut prompt = text(row.remove("instruction").unwrap_or_default(), "instruction")?;
        let input = row.remove("input").map(|input| text(input, "input"));
        let input = input.transpose()?.unwrap_or_default();
        if !input.trim().is_empty() {
            prompt = format!("{prompt}\n\n{input}");
        }
        let mut messages = vec![Message::new(
            ChatRole::User,
            not_blank(prompt, "instruction")?,
        )];
        if let Some(output) = row.remove("output") {
            let output = not_blank(text(output, "output")?, "output")?;
            messages.push(Message::new(ChatRole::Assistant, output));
        }
        (messages, ChatKind::Completion { prompt: 1 })
    } else if options.prompts && row.contains_key("prompt") {
        (side(&mut row, "prompt", ChatRole::User)?, ChatKind::Chat)
    } else if let Some(content) = row.remove("text") {
        let content = not_blank(text(content, "text")?, "text")?;
        (Vec::new(), ChatKind::Text(content))
    } else {
        return Err(missing(&row, &KEYS));
    };
    let prompt = match &kind {
        ChatKind::Completion { prompt } => *prompt,
        _ => 0,
    };
    if !matches!(kind, ChatKind::Text(_)) && !options.prompts {
        answered(&messages, prompt)?;
    }
    Ok(Conversation {
        messages,
        tools,
        place,
        kind,
    })
}

/// Checks that the assistant speaks behind the first `prompt` turns.
pub(super) fn answered(messages: &[Message], prompt: usize) -> Result<(), BadReason> {
    let answers = |message: &Message| message.role == ChatRole::Assistant;
    match messages[prompt..].iter().any(answers) {
        true => Ok(()),
        false => Err(BadReason::NoAssistantTurn {
            roles: messages
                .iter()
                .map(|message| message.role.name().to_owned())
                .collect(),
        }),
    }
}

/// The reason for a row without the keys that are read: what it has instead, and which of that was probably meant.
pub(super) fn missing(row: &Map<String, Value>, expected: &[&str]) -> BadReason {
    let found: Vec<String> = row.keys().cloned().collect();
    let near = found
        .iter()
        .filter(|key| !expected.contains(&key.as_str()))
        .find_map(|key| {
            let near = near_misses(key, expected.iter().copied())
                .into_iter()
                .next()?;
            Some(Box::new((key.clone(), near)))
        });
    BadReason::NoConversation {
        found,
        expected: expected.iter().map(|key| (*key).to_owned()).collect(),
        near,
    }
}

/// JSON schemas of tools: an array, or the text of one, as datasets with one type a column write it.
pub(super) fn tools(row: &mut Map<String, Value>) -> Result<Option<Value>, BadReason> {
    let wrong = |found: &Value| BadReason::WrongType {
        column: "tools".to_owned(),
        expected: "an array of JSON schemas",
        found: kind_of(found).to_owned(),
    };
    let tools = match row.remove("tools") {
        None => return Ok(None),
        Some(Value::String(text)) if text.trim().is_empty() => return Ok(None),
        Some(Value::String(text)) => {
            serde_json::from_str(&text).map_err(|_| wrong(&Value::String(text)))?
        }
        Some(other) => other,
    };
    match &tools {
        Value::Array(list) if list.is_empty() => Ok(None),
        Value::Array(_) => Ok(Some(tools)),
        other => Err(wrong(other)),
    }
}

/// A prompt and its completion, each a text or a list of messages.
fn pair(
    row: &mut Map<String, Value>,
    prompt: &str,
    completion: &str,
) -> Result<(Vec<Message>, ChatKind), BadReason> {
    let mut messages = side(row, prompt, ChatRole::User)?;
    let kind = ChatKind::Completion {
        prompt: messages.len(),
    };
    messages.extend(side(row, completion, ChatRole::Assistant)?);
    Ok((messages, kind))
}

/// A column that is a list of messages, or the text of one.
pub(super) fn side(
    row: &mut Map<String, Value>,
    column: &str,
    role: ChatRole,
) -> Result<Vec<Message>, BadReason> {
    match row.remove(column).unwrap_or_default() {
        turns @ Value::Array(_) => chat(turns, column),
        other => {
            let text = not_blank(text(other, column)?, column)?;
            Ok(vec![Message::new(role, text)])
        }
    }
}

pub(super) fn text(value: Value, column: &str) -> Result<String, BadReason> {
    match value {
        Value::String(text) => Ok(text),
        // A table's column of numbers, and labels as answers.
        Value::Number(number) => Ok(number.to_string()),
        other => Err(BadReason::WrongType {
            column: column.to_owned(),
            expected: "text",
            found: kind_of(&other).to_owned(),
        }),
    }
}

fn not_blank(text: String, column: &str) -> Result<String, BadReason> {
    match text.trim().is_empty() {
        true => Err(BadReason::EmptyText {
            column: column.to_owned(),
        }),
        false => Ok(text),
    }
}

/// A list of turns, as OpenAI or as ShareGPT writes them.
fn chat(turns: Value, column: &str) -> Result<Vec<Message>, BadReason> {
    // Tables of one type a column hold the list as text.
    let turns = match turns {
        Value::String(text) => serde_json::from_str(&text).unwrap_or(Value::String(text)),
        other => other,
    };
    let turns = match turns {
        Value::Array(turns) => turns,
        other => {
            return Err(BadReason::WrongType {
                column: column.to_owned(),
                expected: "a list of messages",
                found: kind_of(&other).to_owned(),
            });
        }
    };
    if turns.is_empty() {
        return Err(BadReason::EmptyConversation {
            column: column.to_owned(),
        });
    }
    turns
        .into_iter()
        .enumerate()
        .map(|(index, turn)| message(turn, &format!("{column}[{index}]")))
        .collect()
}

fn message(turn: Value, at: &str) -> Result<Message, BadReason> {
    let mut turn = match turn {
        Value::Object(turn) => turn,
        other => {
            return Err(BadReason::WrongType {
                column: at.to_owned(),
                expected: "an object with role and content",
                found: kind_of(&other).to_owned(),
            });
        }
    };
    turn.retain(|_, value| !value.is_null());
    let sharegpt = !turn.contains_key("role") && turn.contains_key("from");
    let (role_key, content_key, roles): (_, _, &[_]) = match sharegpt {
        true => ("from", "value", &SHAREGPT_ROLES),
        false => ("role", "content", &ROLES),
    };
    let Some(role) = turn.remove(role_key) else {
        return Err(missing(&turn, &["role", "content"]));
    };
    let role = role.as_str().map(str::to_owned).unwrap_or(role.to_string());
    let names = || roles.iter().map(|(name, _)| *name);
    let Some(&(_, role)) = roles.iter().find(|(name, _)| *name == role) else {
        // Well-known names of the assistant that look nothing like it.
        let near = match role.to_lowercase().as_str() {
            "gpt" | "bot" | "model" | "ai" | "chatgpt" => {
                names().find(|name| ["assistant", "gpt"].contains(name))
            }
            "human" => Some("user"),
            _ => None,
        };
        let near = near
            .map(Box::from)
            .or_else(|| Some(near_misses(&role, names()).into_iter().next()?.into()));
        return Err(BadReason::UnknownRole {
            at: format!("{at}.{role_key}").into(),
            found: role.into(),
            expected: names().map(str::to_owned).collect(),
            near,
        });
    };
    let content_at = format!("{at}.{content_key}");
    let content = turn
        .remove(content_key)
        .map(|content| content_text(content, &content_at))
        .transpose()?;
    let says_more = ["tool_calls", "reasoning_content", "thinking", "reasoning"]
        .iter()
        .any(|key| turn.contains_key(*key));
    let is_blank = content.as_ref().is_none_or(|text| text.trim().is_empty());
    if is_blank && !says_more && (content.is_none() || role == ChatRole::Assistant) {
        return match content {
            // The turn has other keys than those that are read.
            None if !turn.is_empty() => Err(missing(&turn, &[content_key])),
            _ => Err(BadReason::EmptyText { column: content_at }),
        };
    }
    Ok(Message {
        role,
        content,
        extra: turn,
    })
}

/// Text, or the joined texts of a list of parts.
fn content_text(content: Value, at: &str) -> Result<String, BadReason> {
    let not_text = |at: String, found: String| BadReason::ContentNotText { at, found };
    let parts = match content {
        Value::String(text) => return Ok(text),
        Value::Array(parts) => parts,
        other => return Err(not_text(at.to_owned(), kind_of(&other).to_owned())),
    };
    let mut joined = String::new();
    for (index, part) in parts.iter().enumerate() {
        let kind = part.get("type").and_then(Value::as_str);
        match (kind, part.get("text").and_then(Value::as_str)) {
            (None | Some("text"), Some(text)) => joined.push_str(text),
            _ => {
                let found = match kind {
                    Some(kind) => format!("a part of the type `{kind}`"),
                    None => kind_of(part).to_owned(),
                };
                return Err(not_text(format!("{at}[{index}]"), found));
            }
        }
    }
    Ok(joined)
}
