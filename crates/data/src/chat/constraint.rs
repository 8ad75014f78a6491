//! Answers held to a form: which tokens may follow those that are there, by a JSON schema, a regular expression or a grammar.
//!
//! The crate llguidance decides, on bytes. What is ours: the bytes of each token ([`Constrainer::new`]), the tokens that end an
//! answer, and messages. llguidance's limits on what a grammar may cost stay as they are.

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::Arc;

use llguidance::api::{StopReason, TopLevelGrammar};
use llguidance::earley::SlicedBiasComputer;
use llguidance::toktrie::{ApproximateTokEnv, InferenceCapabilities, TokEnv, TokRxInfo, TokTrie};
use llguidance::{ParserFactory, TokenParser};
use serde_json::{Value, json};
use tokenizers::Tokenizer;

use super::ChatEncoder;
use crate::DataError;
use crate::guard::guarded;
use crate::tables::{no_such_file, read_text};

/// White space between the parts of a JSON text: a space, or none. A small model that may write more of it sometimes writes
/// nothing else.
const WHITE_SPACE: &str = r"\x20";

/// The longest token that is written, in bytes. llguidance takes those below 1,024; longer ones are rows of spaces.
const LONGEST_TOKEN: usize = 1000;

/// What every answer has to be. That it can be followed is known once it is made.
#[derive(Debug, Clone, PartialEq)]
pub struct Constraint {
    form: Form,
    /// What messages call it.
    name: String,
    warnings: Vec<String>,
}

#[derive(Debug, Clone, PartialEq)]
enum Form {
    Schema(Value),
    Regex(String),
    Lark(String),
}

impl Constraint {
    /// Any JSON object.
    ///
    /// # Errors
    /// As [`json_schema`](Self::json_schema), which cannot happen.
    pub fn json() -> Result<Self, DataError> {
        Self::schema(json!({"type": "object"}), "JSON".into())
    }

    /// JSON that a JSON Schema describes. Its key `x-guidance` holds settings of llguidance, such as `{"lenient": true}`, which
    /// leaves out keywords that cannot be followed.
    ///
    /// # Errors
    /// [`DataError::Constraint`] for what is no schema, has keywords that cannot be followed, costs too much, or that nothing
    /// satisfies.
    pub fn json_schema(schema: Value) -> Result<Self, DataError> {
        Self::schema(schema, "the JSON schema".into())
    }

    /// As [`json_schema`](Self::json_schema), from a file.
    ///
    /// # Errors
    /// Those, and [`DataError::NoSuchFile`], [`DataError::IsDirectory`], [`DataError::Io`].
    pub fn json_schema_file(path: &Path) -> Result<Self, DataError> {
        let name = path.display().to_string();
        let bytes = read(path)?;
        let schema = serde_json::from_slice(&bytes);
        let schema = schema.map_err(|error| DataError::Constraint {
            name: name.clone(),
            place: None,
            message: format!("not valid JSON: {error}"),
            hint: "expected a JSON schema, such as {\"type\": \"object\", \"properties\": {\"name\": {\"type\": \"string\"}}}",
        })?;
        Self::schema(schema, name)
    }

    /// Text that a regular expression matches as a whole, in the syntax of the crate regex, without anchors.
    ///
    /// # Errors
    /// [`DataError::Constraint`].
    pub fn regex(pattern: &str) -> Result<Self, DataError> {
        Self::checked(
            Form::Regex(pattern.to_owned()),
            "the regular expression".into(),
        )
    }

    /// Text of a grammar, in llguidance's variant of Lark's syntax.
    ///
    /// # Errors
    /// [`DataError::Constraint`].
    pub fn grammar(grammar: &str) -> Result<Self, DataError> {
        Self::checked(Form::Lark(grammar.to_owned()), "the grammar".into())
    }

    /// As [`grammar`](Self::grammar), from a file.
    ///
    /// # Errors
    /// Those, and [`DataError::NoSuchFile`], [`DataError::IsDirectory`], [`DataError::Io`].
    pub fn grammar_file(path: &Path) -> Result<Self, DataError> {
        let name = path.display().to_string();
        let bytes = read(path)?;
        match std::str::from_utf8(&bytes) {
            Ok(grammar) => Self::checked(Form::Lark(grammar.to_owned()), name),
            Err(error) => Err(DataError::Constraint {
                name,
                place: None,
                message: format!("byte {} is not UTF-8", error.valid_up_to()),
                hint: "save the file as UTF-8",
            }),
        }
    }

    /// What of it is not followed, a line each: only with settings that allow that.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    fn schema(mut schema: Value, name: String) -> Result<Self, DataError> {
        if schema == Value::Bool(true) {
            schema = json!({});
        }
        if let Value::Object(object) = &mut schema {
            let settings = object.entry("x-guidance").or_insert_with(|| json!({}));
            if let Value::Object(settings) = settings
                && !settings.contains_key("whitespace_flexible")
                && !settings.contains_key("whitespace_pattern")
            {
                settings.insert("whitespace_pattern".into(), WHITE_SPACE.into());
            }
        }
        Self::checked(Form::Schema(schema), name)
    }

    /// Tries it on a vocabulary of all bytes.
    fn checked(form: Form, name: String) -> Result<Self, DataError> {
        let mut constraint = Self {
            form,
            name,
            warnings: Vec::new(),
        };
        let mut words: Vec<Vec<u8>> = (0..=u8::MAX).map(|byte| vec![byte]).collect();
        words.push(Vec::new());
        let failed = |message| constraint.bad(message);
        let bytes = Constrainer::of_words(words, &[256], &[]).map_err(failed)?;
        let mut answer = bytes.begin_or(&constraint, NOTHING)?;
        constraint.warnings = answer.parser.grammar_warnings();
        Ok(constraint)
    }

    /// What is wrong with it, by llguidance's message.
    fn bad(&self, message: String) -> DataError {
        let place = match &self.form {
            Form::Schema(schema) => place_of(schema, &message),
            _ => None,
        };
        let hint = match &self.form {
            _ if message.contains("nsatisfiable") || message == NOTHING => {
                "look for limits that exclude each other, or a required property that cannot be there"
            }
            _ if message == DEAD_END => "take a model whose tokenizer has a token for every byte",
            Form::Schema(_) if message.contains("oneOf") => {
                "write anyOf; or add \"x-guidance\": {\"coerce_one_of\": true} to the schema, which takes oneOf for anyOf"
            }
            Form::Schema(_)
                if message.contains("Unimplemented") || message.contains("Unknown format") =>
            {
                "leave it out; or add \"x-guidance\": {\"lenient\": true} to the schema, which ignores what cannot be followed"
            }
            Form::Schema(_) => {
                "correct the schema; one that costs too much needs fewer or smaller limits"
            }
            Form::Regex(_) => {
                "correct the expression; look-around and back references are not supported"
            }
            Form::Lark(_) => "correct the grammar; its first rule is `start: ...`",
        };
        DataError::Constraint {
            name: self.name.clone(),
            place,
            message,
            hint,
        }
    }
}

/// The message where not even a first token may stand.
const NOTHING: &str = "no text satisfies it";

/// The message where a vocabulary lacks what the form asks for.
const DEAD_END: &str = "no token of the vocabulary can follow";

/// A file's bytes.
fn read(path: &Path) -> Result<Vec<u8>, DataError> {
    if path.is_dir() {
        return Err(DataError::IsDirectory {
            path: path.to_owned(),
            holds: String::new(),
            hint: "name the file inside it".into(),
        });
    }
    match path.exists() {
        true => read_text(path),
        false => Err(no_such_file(path)),
    }
}

/// Where in a schema stands what a message is about, as a JSON pointer.
fn place_of(schema: &Value, message: &str) -> Option<String> {
    let quoted = |text: &str| text.split('"').nth(1).map(str::to_owned);
    let (key, value) = if let Some((_, keys)) = message.split_once("Unimplemented keys: ") {
        (quoted(keys)?, None)
    } else if let Some((_, format)) = message.split_once("Unknown format: ") {
        ("format".to_owned(), format.lines().next())
    } else if message.contains("oneOf constraints are not supported") {
        ("oneOf".to_owned(), None)
    } else {
        return None;
    };
    let mut found = Vec::new();
    pointers_to(schema, &key, value, "", true, &mut found);
    match key == "oneOf" && found.len() > 1 {
        // One of them can be followed and another not.
        true => None,
        false => found.into_iter().next(),
    }
}

/// Adds pointers to all places of a keyword below `at`, of some value if one is given. Where `keywords` is false, the keys of
/// `schema` are names.
fn pointers_to(
    schema: &Value,
    key: &str,
    value: Option<&str>,
    at: &str,
    keywords: bool,
    found: &mut Vec<String>,
) {
    const NAMES: [&str; 4] = ["properties", "patternProperties", "$defs", "definitions"];
    const DATA: [&str; 4] = ["enum", "const", "default", "examples"];
    match schema {
        Value::Object(object) => {
            for (name, below) in object {
                let step = name.replace('~', "~0").replace('/', "~1");
                let at = format!("{at}/{step}");
                if keywords && name == key && value.is_none_or(|value| below == value) {
                    found.push(at.clone());
                }
                if !(keywords && DATA.contains(&name.as_str())) {
                    let names = keywords && NAMES.contains(&name.as_str());
                    pointers_to(below, key, value, &at, !names, found);
                }
            }
        }
        Value::Array(items) => {
            for (i, item) in items.iter().enumerate() {
                pointers_to(item, key, value, &format!("{at}/{i}"), true, found);
            }
        }
        _ => {}
    }
}

/// Holds the answers of one tokenizer to constraints. Making it reads the whole vocabulary: once a model is enough.
pub struct Constrainer {
    factory: ParserFactory,
    /// Number of tokens, those without text included.
    rows: usize,
}

impl Constrainer {
    /// Reads a tokenizer's vocabulary.
    ///
    /// # Errors
    /// [`DataError::TokenBytes`] for a tokenizer whose tokens are not plain pieces of text: neither bytes, as in GPT-2 and
    /// Llama 3, nor pieces in which a mark stands for a space, as in Llama 2.
    pub fn new(encoder: &ChatEncoder) -> Result<Self, DataError> {
        let failed = |message| DataError::TokenBytes {
            path: encoder.path.clone(),
            message,
        };
        let words = token_bytes(&encoder.tokenizer, encoder.rows(), encoder.stop_ids());
        let slices = SlicedBiasComputer::general_slices();
        Self::of_words(words.map_err(failed)?, encoder.stop_ids(), &slices).map_err(failed)
    }

    /// Of tokens as bytes. `slices` are expressions for sets of tokens that are often allowed together.
    fn of_words(mut words: Vec<Vec<u8>>, stops: &[u32], slices: &[String]) -> Result<Self, String> {
        let rows = words.len();
        let known = stops.iter().copied().filter(|&id| (id as usize) < rows);
        let mut stops: Vec<u32> = known.collect();
        if stops.is_empty() {
            // One that no model has.
            stops.push(rows as u32);
            words.push(Vec::new());
        }
        let factory = guarded(|| {
            let info = TokRxInfo::new(words.len() as u32, stops[0]);
            let trie = TokTrie::from(&info, &words).with_eos_tokens(&stops);
            let env: TokEnv = Arc::new(ApproximateTokEnv::new(trie));
            ParserFactory::new(&env, InferenceCapabilities::default(), slices)
        });
        let mut factory = factory?.map_err(|error| format!("{error:#}"))?;
        factory.quiet();
        Ok(Self { factory, rows })
    }

    /// The beginning of an answer, to be cloned for each.
    ///
    /// # Errors
    /// [`DataError::Constraint`] where no token of the vocabulary can begin it.
    pub fn begin(&self, constraint: &Constraint) -> Result<ConstrainedAnswer, DataError> {
        self.begin_or(constraint, DEAD_END)
    }

    /// `stuck` is the message where no token can begin it.
    fn begin_or(
        &self,
        constraint: &Constraint,
        stuck: &str,
    ) -> Result<ConstrainedAnswer, DataError> {
        let grammar = match &constraint.form {
            Form::Schema(schema) => TopLevelGrammar::from_json_schema(schema.clone()),
            Form::Regex(pattern) => TopLevelGrammar::from_regex(pattern),
            Form::Lark(grammar) => TopLevelGrammar::from_lark(grammar.clone()),
        };
        let parser = guarded(|| self.factory.create_parser(grammar));
        let parser = parser.and_then(|parser| parser.map_err(|error| format!("{error:#}")));
        let mut parser = parser.map_err(|message| constraint.bad(plain(&message)))?;
        parser.start_without_prompt();
        // A clone, which may come to its end by this.
        let mut first = parser.clone();
        let mask = guarded(|| first.compute_mask());
        match mask.and_then(|mask| mask.map_err(|error| format!("{error:#}"))) {
            Ok(_) => Ok(ConstrainedAnswer {
                parser,
                name: constraint.name.as_str().into(),
                rows: self.rows,
            }),
            Err(_) if first.stop_reason() == StopReason::NoExtensionBias => {
                Err(constraint.bad(stuck.into()))
            }
            Err(message) => Err(constraint.bad(plain(&message))),
        }
    }
}

/// The message of an error of llguidance, which turns its panics into errors with a backtrace.
fn plain(message: &str) -> String {
    let text = message.split("<backtrace>").next().unwrap_or_default();
    match text.trim().strip_prefix("panic: ") {
        Some(panic) => format!("llguidance fails on it: {panic}"),
        None => text.trim().to_owned(),
    }
}

/// An answer so far, and which tokens may follow.
#[derive(Clone)]
pub struct ConstrainedAnswer {
    parser: TokenParser,
    name: Arc<str>,
    rows: usize,
}

impl ConstrainedAnswer {
    /// Makes the logits `[V]` of tokens that may not follow minus infinity. Tokens that end an answer may follow where it is whole.
    ///
    /// # Errors
    /// [`DataError::ConstraintStopped`] where following it costs too much, or no token may follow.
    pub fn mask(&mut self, logits: &mut [f32]) -> Result<(), DataError> {
        let mask = guarded(|| self.parser.compute_mask());
        let mask = mask.and_then(|mask| mask.map_err(|error| format!("{error:#}")));
        let mask = mask.map_err(|message| match self.parser.stop_reason() {
            StopReason::NoExtensionBias => self.stopped(DEAD_END.into()),
            _ => self.stopped(message),
        })?;
        mask.iter_unset_entries(|id| {
            if let Some(logit) = logits.get_mut(id) {
                *logit = f32::NEG_INFINITY;
            }
        });
        let beyond = self.rows.min(logits.len());
        logits[beyond..].fill(f32::NEG_INFINITY);
        match logits.iter().any(|&logit| logit != f32::NEG_INFINITY) {
            true => Ok(()),
            false => Err(self.stopped(DEAD_END.into())),
        }
    }

    /// Adds a token that does not end the answer; whether the answer is whole and nothing may follow.
    ///
    /// # Errors
    /// [`DataError::ConstraintStopped`] where the token may not follow, or following it costs too much.
    pub fn push(&mut self, token: u32) -> Result<bool, DataError> {
        let parser = &mut self.parser;
        let ended = guarded(|| {
            let back = parser.consume_token(token);
            let back = back.map_err(|error| format!("{error:#}"))?;
            let ended = parser.check_stop();
            Ok((back, ended.map_err(|error| format!("{error:#}"))?))
        });
        match ended.flatten() {
            Ok((0, ended)) => Ok(ended),
            Ok(_) => Err(self.stopped("the grammar takes back what was said".into())),
            Err(message) => Err(self.stopped(message)),
        }
    }

    fn stopped(&self, message: String) -> DataError {
        DataError::ConstraintStopped {
            name: self.name.to_string(),
            message,
        }
    }
}

/// How a tokenizer's decoder makes text of tokens.
enum Pieces {
    /// A character a byte, as in GPT-2.
    Bytes(HashMap<char, u8>),
    /// Text, in which marks stand for other texts; with `bytes`, `<0x0A>` is a byte.
    Text {
        marks: Vec<(String, String)>,
        bytes: bool,
    },
}

impl Pieces {
    fn of(tokenizer: &Tokenizer) -> Result<Self, String> {
        let decoder = tokenizer.get_decoder().ok_or("it has no decoder")?;
        let decoder = serde_json::to_value(decoder).map_err(|error| error.to_string())?;
        let steps = match &decoder["decoders"] {
            Value::Array(steps) => &steps[..],
            _ => std::slice::from_ref(&decoder),
        };
        let (mut marks, mut bytes) = (Vec::new(), false);
        for step in steps {
            let name = step["type"].as_str().unwrap_or_default();
            let mark = |from: &Value, to: &str| Some((from.as_str()?.to_owned(), to.to_owned()));
            match name {
                "ByteLevel" => return Ok(Self::Bytes(byte_level())),
                "ByteFallback" => bytes = true,
                "Metaspace" => marks.extend(mark(&step["replacement"], " ")),
                "Replace" => {
                    let to = step["content"].as_str().unwrap_or_default();
                    let mark = mark(&step["pattern"]["String"], to);
                    marks.push(mark.ok_or("its decoder replaces by a pattern")?);
                }
                // They join, and take away a space that the answer begins with.
                "Fuse" | "Strip" => {}
                _ => return Err(format!("its decoder is of the kind `{name}`")),
            }
        }
        match marks.is_empty() && !bytes {
            true => Err("its decoder only joins tokens".into()),
            false => Ok(Self::Text { marks, bytes }),
        }
    }

    fn bytes(&self, token: &str) -> Vec<u8> {
        match self {
            Self::Bytes(table) => {
                let bytes = token.chars().map(|c| table.get(&c).copied());
                // As the decoder does with an added token of other characters.
                bytes
                    .collect::<Option<_>>()
                    .unwrap_or_else(|| token.as_bytes().to_vec())
            }
            Self::Text { marks, bytes } => {
                let hex = token.strip_prefix("<0x").and_then(|t| t.strip_suffix('>'));
                let hex = hex.filter(|hex| *bytes && hex.len() == 2);
                if let Some(byte) = hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
                    return vec![byte];
                }
                let replaced = marks
                    .iter()
                    .fold(token.to_owned(), |text, (from, to)| text.replace(from, to));
                replaced.into_bytes()
            }
        }
    }
}

/// GPT-2's characters for bytes: printable ones stand for themselves, others for what lies behind U+0100.
fn byte_level() -> HashMap<char, u8> {
    let printable = |byte: &u8| matches!(byte, b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF);
    let own = (0..=u8::MAX).filter(printable);
    let others = (0..=u8::MAX).filter(|byte| !printable(byte));
    own.map(|byte| (char::from(byte), byte))
        .chain(('\u{100}'..).zip(others))
        .collect()
}

/// What each id adds to an answer, in bytes; nothing for special tokens, which are not part of it, and for those that end it.
fn token_bytes(tokenizer: &Tokenizer, rows: usize, stops: &[u32]) -> Result<Vec<Vec<u8>>, String> {
    let pieces = Pieces::of(tokenizer)?;
    let added = tokenizer.get_added_tokens_decoder();
    let special: HashSet<&str> = added
        .values()
        .filter(|token| token.special)
        .map(|token| token.content.as_str())
        .collect();
    let mut words = vec![Vec::new(); rows];
    let vocabulary = tokenizer.get_vocab(false);
    let own = vocabulary.iter().map(|(token, &id)| (token.as_str(), id));
    let added = added
        .iter()
        .map(|(&id, token)| (token.content.as_str(), id));
    for (token, id) in own.chain(added) {
        if let Some(word) = words.get_mut(id as usize) {
            let bytes = pieces.bytes(token);
            let silent = special.contains(token) || stops.contains(&id);
            *word = match silent || bytes.len() > LONGEST_TOKEN {
                true => Vec::new(),
                false => bytes,
            };
        }
    }
    Ok(words)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use rekindle_base::rng;
    use std::fs;

    #[test]
    fn every_byte_has_a_character() {
        let table = byte_level();
        let bytes: HashSet<u8> = table.values().copied().collect();
        assert_eq!((table.len(), bytes.len()), (256, 256));
        for (character, byte) in [
            ('a', b'a'),
            ('\u{120}', b' '),
            ('\u{10A}', b'\n'),
            ('\u{E9}', 0xE9),
        ] {
            assert_eq!(table[&character], byte);
        }
    }

    /// The golden tokenizers: one of bytes, one of pieces.
    fn encoder(name: &str) -> (tempfile::TempDir, ChatEncoder) {
        let dir = tempfile::TempDir::new().unwrap();
        let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/chat");
        fs::copy(
            golden.join(format!("{name}.json")),
            dir.path().join("tokenizer.json"),
        )
        .unwrap();
        fs::write(
            dir.path().join("tokenizer_config.json"),
            r#"{"eos_token": "<|im_end|>"}"#,
        )
        .unwrap();
        let encoder = ChatEncoder::from_dir(dir.path(), Default::default()).unwrap();
        (dir, encoder)
    }

    #[test]
    fn bytes_of_tokens_joined_are_their_text() {
        for name in ["bytes", "pieces"] {
            let (_dir, encoder) = encoder(name);
            let words =
                token_bytes(&encoder.tokenizer, encoder.rows(), encoder.stop_ids()).unwrap();
            let joined = |ids: &[u32]| {
                ids.iter()
                    .flat_map(|&id| words[id as usize].clone())
                    .collect()
            };
            let text =
                "Gr\u{fc}\u{df}e,  \u{65e5}\u{672c} \u{1f642}\t{\"a\": [1, -2.5e3, true]}\n\u{7f}";
            let ids = encoder.text_prompt(text).unwrap();
            let bytes: Vec<u8> = joined(&ids);
            assert_eq!(
                String::from_utf8(bytes).unwrap().trim_start(),
                text,
                "{name}"
            );
            // Any tokens, behind one that keeps a space from being the first.
            let (begin, mut seen) = (encoder.id("a").unwrap(), 0);
            for case in 0..4000 {
                let draw = |i| rng::below(rng::hash(1, case, 0, i), encoder.rows() as u64) as u32;
                let ids = [begin, draw(0), draw(1), draw(2)];
                let Ok(text) = String::from_utf8(joined(&ids)) else {
                    continue;
                };
                assert_eq!(encoder.decode(&ids, true).unwrap(), text, "{name}: {ids:?}");
                seen += 1;
            }
            assert!(seen > 400, "{name}: {seen}");
            // Of those without text all are special.
            let silent = words.iter().filter(|word| word.is_empty()).count();
            assert_eq!(silent, 16, "{name}");
        }
    }

    #[test]
    fn messages_name_the_place_of_a_keyword() {
        let schema = json!({"type": "object", "properties": {
            "if": {"type": "string"},
            "a/b": {"anyOf": [{"const": {"if": 1}}, {"type": "string", "if": {}}]},
            "at": {"format": "date"},
            "to": {"format": "moon", "oneOf": [{"oneOf": []}]},
        }});
        for (message, place) in [
            (
                r#"Unimplemented keys: ["if", "then"]"#,
                Some("/properties/a~1b/anyOf/1/if"),
            ),
            ("Unknown format: moon", Some("/properties/to/format")),
            (r#"Unimplemented keys: ["not"]"#, None),
            ("oneOf constraints are not supported.", None),
            ("schema too large", None),
        ] {
            assert_eq!(place_of(&schema, message).as_deref(), place, "{message}");
        }
    }
}
