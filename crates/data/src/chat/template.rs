//! Chat templates: the Jinja of `chat_template.jinja` or `tokenizer_config.json`, as transformers renders it
//! (`render_jinja_template` and `_cached_compile_jinja_template` in `utils/chat_template_utils.py`).
//!
//! A template comes from the internet and is not trusted. It has no loader, so it can include and import nothing; it
//! runs on a budget of steps, a limit of output and one of recursion. `strftime_now` tells the time at which the
//! template was read, or another one that is asked for, in UTC, so that a run renders every epoch alike.
//!
//! `{% generation %}` blocks become call blocks around [`OPEN`] and [`CLOSE`], two characters that Unicode keeps out of
//! texts; where those stand in the output is what the assistant says.

use std::fmt;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Kwargs, Serde, Value, ValueKind};
use minijinja::{Environment, Error, ErrorKind, State};
use serde_json::{Map, Value as Json};
use tokenizers::Tokenizer;

use super::Message;
use crate::DataError;
use crate::guard::guarded;
use crate::text::files;

/// Steps of one rendering; 64 bytes of text made or written are one step. A conversation of 1,000 turns takes some
/// 200,000 with the longest templates in use. Bounds memory too: 256 MB.
const FUEL: u64 = 4_000_000;
/// Bytes that a conversation may become.
const OUTPUT: usize = 64 << 20;
/// Bytes of a template. The longest in use have 20 thousand.
const TEMPLATE: usize = 1 << 20;
/// Depth of calls; a macro's call counts four. Small enough for the stack of a worker thread.
const RECURSION: usize = 200;
/// Depth of a value written as JSON.
const JSON_DEPTH: usize = 64;

/// Marks where something of interest begins in a rendering: a character that Unicode keeps for internal use.
pub(super) const OPEN: char = '\u{FDD0}';
/// Marks where it ends.
pub(super) const CLOSE: char = '\u{FDD1}';

/// What a base model with ChatML's tokens gets that has no template.
const CHATML: &str = "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + \
                      '<|im_end|>' + '\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}\
                      {% endif %}";
/// Tokens that make ChatML possible.
const CHATML_TOKENS: [&str; 2] = ["<|im_start|>", "<|im_end|>"];

/// Where a model's template came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TemplateSource {
    /// The model's own, from this file.
    File(PathBuf),
    /// The model has none, but ChatML's tokens: that.
    ChatMl,
    /// The model has none: a turn is its text and a line end, the assistant's its text and the end-of-text token.
    Plain,
}

impl fmt::Display for TemplateSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "chat template of {}", path.display()),
            Self::ChatMl => {
                f.write_str("ChatML, because the model has its tokens and no chat template")
            }
            Self::Plain => f.write_str(
                "prompt, line end, completion and end-of-text token, because the model has no chat template",
            ),
        }
    }
}

/// Why a conversation was not rendered.
#[derive(Debug)]
pub(super) enum Failed {
    /// The template raised an exception, with this message.
    Refuses(String),
    /// The template cannot do what it does with this conversation.
    Fails {
        line: Option<usize>,
        message: String,
    },
    /// The template does too much.
    Limit(String),
}

/// A model's chat template.
#[derive(Debug, Clone)]
pub struct ChatTemplate {
    source: TemplateSource,
    /// The file for messages: of the template, or the directory.
    path: PathBuf,
    /// With the template `chat`, and perhaps `tool_use`; none for [`TemplateSource::Plain`].
    environment: Option<Environment<'static>>,
    /// `bos_token`, `eos_token` and the like: variables of the template.
    special: Map<String, Json>,
    has_generation: bool,
    /// The Jinja of `chat`.
    text: Option<String>,
}

/// The file's own message of an exception.
#[derive(Debug)]
struct Exception(String);

impl fmt::Display for Exception {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Exception {}

impl ChatTemplate {
    /// Reads the template of a model directory: `chat_template.jinja`, else `chat_template` in
    /// `tokenizer_config.json`, which is a template or a list of named ones (`default`, and `tool_use` for conversations
    /// with tools). A model without one gets ChatML if its tokenizer has `<|im_start|>` and `<|im_end|>`, else plain
    /// text; [`source`](Self::source) says which.
    ///
    /// # Errors
    /// [`DataError::Template`] for a template that is none; [`DataError::NoTokenizer`] and [`DataError::Tokenizer`].
    pub fn from_dir(dir: &Path) -> Result<Self, DataError> {
        Self::new(dir, &files::load(dir)?.tokenizer, None)
    }

    /// `now`: what the template is told of the time, in seconds after 1970; by default the time it is.
    pub(super) fn new(
        dir: &Path,
        tokenizer: &Tokenizer,
        now: Option<u64>,
    ) -> Result<Self, DataError> {
        let config_path = dir.join("tokenizer_config.json");
        let config = files::object(&config_path)?.unwrap_or_default();
        let map = files::object(&dir.join("special_tokens_map.json"))?.unwrap_or_default();
        let special = special_tokens(&config, &map);
        let own = dir.join("chat_template.jinja");
        let mut named = Vec::new();
        let path = if let Some(template) = files::read(&own)? {
            named.push(("chat", template));
            let tool_use = dir.join("additional_chat_templates/tool_use.jinja");
            named.extend(files::read(&tool_use)?.map(|template| ("tool_use", template)));
            own
        } else if let Some(template) = config.get("chat_template").filter(|value| !value.is_null())
        {
            named = named_templates(template).map_err(|message| DataError::Template {
                path: config_path.clone(),
                line: None,
                message,
            })?;
            config_path
        } else {
            dir.to_owned()
        };
        let has_chatml = CHATML_TOKENS
            .iter()
            .all(|token| tokenizer.token_to_id(token).is_some());
        let source = match (named.is_empty(), has_chatml) {
            (false, _) => TemplateSource::File(path.clone()),
            (true, true) => {
                named.push(("chat", CHATML.to_owned()));
                TemplateSource::ChatMl
            }
            (true, false) => TemplateSource::Plain,
        };
        let mut has_generation = false;
        let text = named.first().map(|(_, template)| template.clone());
        let environment = match source {
            TemplateSource::Plain => None,
            _ => {
                let unusable = |line: Option<usize>, message: String| DataError::Template {
                    path: path.clone(),
                    line,
                    message,
                };
                let wrong = |error: Error| unusable(error.line(), without_place(&error));
                let now = now.unwrap_or_else(seconds_now);
                let mut environment = environment(now).map_err(wrong)?;
                for (name, template) in named {
                    let (template, marked) = with_call_blocks(&template);
                    has_generation |= marked;
                    if template.len() > TEMPLATE {
                        let found = template.len();
                        let message = format!("it has {found} bytes, expected at most {TEMPLATE}");
                        return Err(unusable(None, message));
                    }
                    guarded(|| environment.add_template_owned(name, template))
                        .map_err(|panic| unusable(None, panic))?
                        .map_err(wrong)?;
                }
                Some(environment)
            }
        };
        Ok(Self {
            source,
            path,
            environment,
            special,
            has_generation,
            text,
        })
    }

    /// Where the template came from, or what stands in for it.
    pub fn source(&self) -> &TemplateSource {
        &self.source
    }

    /// Whether the template marks what the assistant says with `{% generation %}`.
    pub fn has_generation(&self) -> bool {
        self.has_generation
    }

    /// The Jinja, or ChatML's that stands in for it; `None` for [`TemplateSource::Plain`].
    pub fn text(&self) -> Option<&str> {
        self.text.as_deref()
    }

    /// Whether the template writes the date or the time into conversations.
    pub fn tells_the_time(&self) -> bool {
        let names_it = |text: &String| text.contains("strftime_now");
        self.text.as_ref().is_some_and(names_it)
    }

    /// The file for messages: of the template, else the model's directory.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The text of a special token, such as `eos_token`.
    pub(super) fn special(&self, role: &str) -> Option<&str> {
        self.special.get(role).and_then(Json::as_str)
    }

    /// The texts of all special tokens.
    pub(super) fn special_texts(&self) -> impl Iterator<Item = &str> {
        self.special.values().filter_map(Json::as_str)
    }

    /// Renders turns. The output holds [`OPEN`] and [`CLOSE`] around `{% generation %}` blocks.
    ///
    /// Not for [`TemplateSource::Plain`], which has no Jinja.
    pub(super) fn render(
        &self,
        messages: &[Message],
        tools: Option<&Json>,
        add_generation_prompt: bool,
    ) -> Result<String, Failed> {
        let broken = |message: &str| Failed::Fails {
            line: None,
            message: message.to_owned(),
        };
        let environment = self
            .environment
            .as_ref()
            .ok_or_else(|| broken("there is no template"))?;
        let template = tools
            .and_then(|_| environment.get_template("tool_use").ok())
            .map_or_else(|| environment.get_template("chat"), Ok)
            .map_err(|error| broken(&error.to_string()))?;
        let mut context = self.special.clone();
        let messages = messages.iter().map(variables).collect();
        context.insert("messages".to_owned(), Json::Array(messages));
        context.insert("tools".to_owned(), tools.cloned().unwrap_or_default());
        context.insert("documents".to_owned(), Json::Null);
        let prompt = Json::Bool(add_generation_prompt);
        context.insert("add_generation_prompt".to_owned(), prompt);
        let context = Value::from(Serde(&context));
        let mut output = Limited(Vec::new());
        guarded(|| {
            template
                .render_captured_to(context, &mut output)
                .map(|_| ())
        })
        .map_err(|panic| broken(&panic))?
        .map_err(failed)?;
        String::from_utf8(output.0).map_err(|error| broken(&error.to_string()))
    }
}

/// A turn as the template sees it. transformers drops nulls, and gives reasoning under all its names.
fn variables(message: &Message) -> Json {
    let mut fields = Map::new();
    fields.insert("role".to_owned(), message.role.name().into());
    if let Some(content) = &message.content {
        fields.insert("content".to_owned(), content.as_str().into());
    }
    let extra = message.extra.iter().filter(|(_, value)| !value.is_null());
    fields.extend(extra.map(|(name, value)| (name.clone(), value.clone())));
    let reasoning = ["reasoning_content", "thinking", "reasoning"]
        .iter()
        .find_map(|name| fields.get(*name).cloned());
    if let Some(reasoning) = reasoning {
        fields
            .entry("thinking")
            .or_insert_with(|| reasoning.clone());
        fields.insert("reasoning_content".to_owned(), reasoning);
    }
    Json::Object(fields)
}

/// The special tokens of a configuration by role, as text.
fn special_tokens(config: &Map<String, Json>, map: &Map<String, Json>) -> Map<String, Json> {
    let content = |token: &Json| {
        let text = token.as_str().or_else(|| token.get("content")?.as_str())?;
        Some(Json::from(text))
    };
    let mut tokens = Map::new();
    for source in [map, config] {
        for (role, token) in source.iter().filter(|(role, _)| role.ends_with("_token")) {
            tokens.extend(content(token).map(|token| (role.clone(), token)));
        }
    }
    let named = ["extra_special_tokens", "model_specific_special_tokens"];
    for extra in named
        .iter()
        .filter_map(|name| config.get(*name)?.as_object())
    {
        for (role, token) in extra {
            tokens.extend(content(token).map(|token| (role.clone(), token)));
        }
    }
    tokens
}

/// The templates of a `chat_template` entry: `chat`, and `tool_use` if it is among them.
fn named_templates(entry: &Json) -> Result<Vec<(&'static str, String)>, String> {
    if let Some(template) = entry.as_str() {
        return Ok(vec![("chat", template.to_owned())]);
    }
    let entries = entry
        .as_array()
        .ok_or("expected a text or a list of named templates in chat_template")?;
    let find = |wanted: &str| {
        entries
            .iter()
            .find(|entry| entry["name"] == wanted)
            .and_then(|entry| entry["template"].as_str())
            .map(str::to_owned)
    };
    let default = find("default").ok_or_else(|| {
        let names: Vec<String> = entries
            .iter()
            .filter_map(|entry| entry["name"].as_str().map(str::to_owned))
            .collect();
        format!(
            "expected one named `default` among its templates, found {}",
            rekindle_base::near::quoted_list(&names, 20)
        )
    })?;
    let mut named = vec![("chat", default)];
    named.extend(find("tool_use").map(|template| ("tool_use", template)));
    Ok(named)
}

/// The template with call blocks in place of its `{% generation %}` blocks, and whether it has any.
fn with_call_blocks(template: &str) -> (String, bool) {
    let mut out = String::with_capacity(template.len());
    let mut marked = false;
    let mut rest = template;
    while let Some(at) = rest.find("{%") {
        let (before, tag) = rest.split_at(at + 2);
        out.push_str(before);
        rest = tag;
        let Some(end) = tag.find("%}") else { break };
        let is_mark = |c: char| c == '-' || c == '+' || c.is_whitespace();
        let name = tag[..end].trim_matches(is_mark);
        let replacement = match name {
            "generation" => "call __generation()",
            "endgeneration" => "endcall",
            _ => continue,
        };
        marked = true;
        out.push_str(&tag[..end].replace(name, replacement));
        rest = &tag[end..];
    }
    out.push_str(rest);
    (out, marked)
}

/// Seconds after 1970.
fn seconds_now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs())
}

/// What a template finds when it runs, `now` seconds after 1970.
fn environment(now: u64) -> Result<Environment<'static>, Error> {
    let mut environment = Environment::new();
    let syntax = SyntaxConfig::builder()
        .trim_blocks(true)
        .lstrip_blocks(true)
        .build()?;
    environment.set_syntax(syntax);
    environment.set_fuel(Some(FUEL));
    environment.set_recursion_limit(RECURSION);
    environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
    environment.add_filter("tojson", tojson);
    environment.add_function("raise_exception", |message: &str| -> Result<Value, Error> {
        Err(Error::new(ErrorKind::InvalidOperation, message.to_owned())
            .with_source(Exception(message.to_owned())))
    });
    environment.add_function("strftime_now", move |format: &str| {
        strftime(format, now).map_err(|message| Error::new(ErrorKind::InvalidOperation, message))
    });
    environment.add_function("__generation", generation);
    Ok(environment)
}

/// The body of a `{% generation %}` block between marks.
fn generation(state: &mut State, arguments: Kwargs) -> Result<String, Error> {
    let caller: Value = arguments.get("caller")?;
    let body = caller.call(state, &[])?;
    Ok(format!("{OPEN}{body}{CLOSE}"))
}

/// Output up to a limit.
struct Limited(Vec<u8>);

impl Write for Limited {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.0.len() + bytes.len() > OUTPUT {
            return Err(io::Error::other("too much output"));
        }
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn failed(error: Error) -> Failed {
    let mut source: Option<&(dyn std::error::Error + 'static)> = Some(&error);
    while let Some(inner) = source {
        if let Some(Exception(message)) = inner.downcast_ref::<Exception>() {
            return Failed::Refuses(message.clone());
        }
        match inner.downcast_ref::<Error>().map(Error::kind) {
            Some(ErrorKind::OutOfFuel) => {
                return Failed::Limit(format!("it takes more than {FUEL} steps"));
            }
            Some(ErrorKind::WriteFailure) => {
                return Failed::Limit(format!("it writes more than {OUTPUT} bytes"));
            }
            _ => {}
        }
        source = inner.source();
    }
    Failed::Fails {
        line: error.line(),
        message: without_place(&error),
    }
}

/// An error's text without the place at its end, which we say ourselves.
fn without_place(error: &Error) -> String {
    match error.detail() {
        Some(detail) => format!("{}: {detail}", error.kind()),
        None => error.kind().to_string(),
    }
}

/// `json.dumps` of Python, as transformers offers it to templates: not escaped for HTML.
fn tojson(
    state: &State,
    value: &Value,
    ensure_ascii: Option<bool>,
    arguments: Kwargs,
) -> Result<String, Error> {
    let indent: Option<Value> = arguments.get("indent")?;
    let indent = match indent.filter(|indent| !indent.is_none()) {
        None => None,
        Some(indent) => match (indent.as_str(), indent.as_usize()) {
            (Some(text), _) => Some(text.to_owned()),
            (None, Some(width)) => Some(" ".repeat(width.min(JSON_DEPTH))),
            (None, None) => {
                return Err(Error::new(
                    ErrorKind::InvalidOperation,
                    "indent must be a number or a text",
                ));
            }
        },
    };
    let separators: Option<Vec<String>> = arguments.get("separators")?;
    let (item, key) = match separators.as_deref() {
        Some([item, key]) => (item.clone(), key.clone()),
        Some(_) => {
            return Err(Error::new(
                ErrorKind::InvalidOperation,
                "separators must be two texts",
            ));
        }
        None if indent.is_some() => (",".to_owned(), ": ".to_owned()),
        None => (", ".to_owned(), ": ".to_owned()),
    };
    let named: Option<bool> = arguments.get("ensure_ascii")?;
    let sort_keys: Option<bool> = arguments.get("sort_keys")?;
    arguments.assert_all_used()?;
    let mut writer = JsonWriter {
        state,
        out: String::new(),
        indent,
        item,
        key,
        ensure_ascii: ensure_ascii.or(named).unwrap_or(false),
        sort_keys: sort_keys.unwrap_or(false),
    };
    writer.value(value, 0)?;
    Ok(writer.out)
}

struct JsonWriter<'a, 't, 'e> {
    state: &'a State<'t, 'e>,
    out: String,
    indent: Option<String>,
    item: String,
    key: String,
    ensure_ascii: bool,
    sort_keys: bool,
}

impl JsonWriter<'_, '_, '_> {
    fn value(&mut self, value: &Value, depth: usize) -> Result<(), Error> {
        // A value may hold another many times: what is written must be paid for, not what is stored.
        let text = value.as_str().map_or(0, str::len);
        self.state.consume_fuel(1 + text as u64 / 16)?;
        if depth > JSON_DEPTH {
            return Err(Error::new(
                ErrorKind::InvalidOperation,
                format!("a value of more than {JSON_DEPTH} levels as JSON"),
            ));
        }
        match value.kind() {
            ValueKind::None => self.out.push_str("null"),
            ValueKind::Bool => {
                let text = if value.is_true() { "true" } else { "false" };
                self.out.push_str(text);
            }
            ValueKind::Number => {
                let text = match (value.is_integer(), f64::try_from(value.clone())) {
                    (false, Ok(number)) => python_float(number),
                    _ => value.to_string(),
                };
                self.out.push_str(&text);
            }
            ValueKind::String => self.string(value.as_str().unwrap_or_default()),
            ValueKind::Seq | ValueKind::Iterable => {
                self.out.push('[');
                let mut count = 0;
                for (index, element) in value.try_iter()?.enumerate() {
                    self.between(index, depth);
                    self.value(&element, depth + 1)?;
                    count += 1;
                }
                self.close(count, depth, ']');
            }
            ValueKind::Map => {
                let mut keys: Vec<Value> = value.try_iter()?.collect();
                if self.sort_keys {
                    keys.sort();
                }
                self.out.push('{');
                for (index, key) in keys.iter().enumerate() {
                    self.between(index, depth);
                    match key.as_str() {
                        Some(key) => self.string(key),
                        None => {
                            self.out.push('"');
                            self.value(key, JSON_DEPTH)?;
                            self.out.push('"');
                        }
                    }
                    self.out.push_str(&self.key);
                    self.value(&value.get_item(key)?, depth + 1)?;
                }
                self.close(keys.len(), depth, '}');
            }
            other => {
                return Err(Error::new(
                    ErrorKind::InvalidOperation,
                    format!("a value that is {other} cannot be written as JSON"),
                ));
            }
        }
        Ok(())
    }

    /// What stands before an element.
    fn between(&mut self, index: usize, depth: usize) {
        if index > 0 {
            self.out.push_str(&self.item);
        }
        self.line(depth + 1);
    }

    fn close(&mut self, count: usize, depth: usize, bracket: char) {
        if count > 0 {
            self.line(depth);
        }
        self.out.push(bracket);
    }

    fn line(&mut self, depth: usize) {
        if let Some(indent) = &self.indent {
            self.out.push('\n');
            self.out.push_str(&indent.repeat(depth));
        }
    }

    fn string(&mut self, text: &str) {
        self.out.push('"');
        for character in text.chars() {
            match character {
                '"' => self.out.push_str("\\\""),
                '\\' => self.out.push_str("\\\\"),
                '\n' => self.out.push_str("\\n"),
                '\r' => self.out.push_str("\\r"),
                '\t' => self.out.push_str("\\t"),
                '\u{8}' => self.out.push_str("\\b"),
                '\u{c}' => self.out.push_str("\\f"),
                ' '..='~' => self.out.push(character),
                _ if self.ensure_ascii || character < ' ' => {
                    let mut units = [0; 2];
                    for unit in character.encode_utf16(&mut units) {
                        self.out.push_str(&format!("\\u{unit:04x}"));
                    }
                }
                _ => self.out.push(character),
            }
        }
        self.out.push('"');
    }
}

/// A float as Python writes it in JSON.
fn python_float(number: f64) -> String {
    let size = number.abs();
    if number.is_nan() {
        "NaN".to_owned()
    } else if number.is_infinite() {
        let sign = if number < 0.0 { "-" } else { "" };
        format!("{sign}Infinity")
    } else if size != 0.0 && !(1e-4..1e16).contains(&size) {
        let text = format!("{number:e}");
        match text.split_once('e') {
            Some((mantissa, exponent)) => {
                let (sign, digits) = match exponent.strip_prefix('-') {
                    Some(digits) => ('-', digits),
                    None => ('+', exponent),
                };
                format!("{mantissa}e{sign}{digits:0>2}")
            }
            None => text,
        }
    } else {
        format!("{number:?}")
    }
}

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const DAYS: [&str; 7] = [
    "Thursday",
    "Friday",
    "Saturday",
    "Sunday",
    "Monday",
    "Tuesday",
    "Wednesday",
];

/// Python's `strftime` in UTC, `seconds` after 1970, for what templates ask for.
fn strftime(format: &str, seconds: u64) -> Result<String, String> {
    let (days, clock) = (seconds / 86_400, seconds % 86_400);
    let (hour, minute, second) = (clock / 3_600, clock / 60 % 60, clock % 60);
    let divides = |by: u64, year: u64| year.is_multiple_of(by);
    let leap = |year| divides(4, year) && (!divides(100, year) || divides(400, year));
    let mut year = 1970;
    let mut day_of_year = days;
    while day_of_year >= 365 + u64::from(leap(year)) {
        day_of_year -= 365 + u64::from(leap(year));
        year += 1;
    }
    let lengths = [
        31,
        28 + u64::from(leap(year)),
        31,
        30,
        31,
        30,
        31,
        31,
        30,
        31,
        30,
        31,
    ];
    let mut month = 0;
    let mut day = day_of_year;
    while day >= lengths[month] {
        day -= lengths[month];
        month += 1;
    }
    let weekday = DAYS[(days % 7) as usize];
    let hour12 = (hour + 11) % 12 + 1;
    let mut out = String::new();
    let mut characters = format.chars();
    while let Some(character) = characters.next() {
        if character != '%' {
            out.push(character);
            continue;
        }
        let directive = characters.next();
        out.push_str(&match directive {
            Some('d') => format!("{:02}", day + 1),
            Some('m') => format!("{:02}", month + 1),
            Some('Y') => year.to_string(),
            Some('y') => format!("{:02}", year % 100),
            Some('j') => format!("{:03}", day_of_year + 1),
            Some('B') => MONTHS[month].to_owned(),
            Some('b') => MONTHS[month][..3].to_owned(),
            Some('A') => weekday.to_owned(),
            Some('a') => weekday[..3].to_owned(),
            Some('H') => format!("{hour:02}"),
            Some('I') => format!("{hour12:02}"),
            Some('M') => format!("{minute:02}"),
            Some('S') => format!("{second:02}"),
            Some('p') => if hour < 12 { "AM" } else { "PM" }.to_owned(),
            Some('F') => format!("{year}-{:02}-{:02}", month + 1, day + 1),
            Some('%') => "%".to_owned(),
            _ => return Err(format!("strftime_now: `{format}` is not understood")),
        });
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn dates_are_pythons() {
        // datetime.fromtimestamp(s, timezone.utc).strftime(...)
        for (seconds, expect) in [
            (0, "01 Jan 1970 Thursday 001 12:00 AM 00"),
            (951_782_400, "29 Feb 2000 Tuesday 060 12:00 AM 00"),
            (1_735_689_599, "31 Dec 2024 Tuesday 366 11:59 PM 59"),
        ] {
            let found = strftime("%d %b %Y %A %j %I:%M %p %S", seconds);
            assert_eq!(found.as_deref(), Ok(expect));
        }
        assert!(strftime("%Q", 0).is_err());
    }

    #[test]
    fn floats_are_pythons() {
        for (number, expect) in [
            (0.1, "0.1"),
            (1.0, "1.0"),
            (-0.0, "-0.0"),
            (1e16, "1e+16"),
            (1.5e-7, "1.5e-07"),
            (123456789012345.0, "123456789012345.0"),
            (1e100, "1e+100"),
        ] {
            assert_eq!(python_float(number), expect);
        }
    }

    #[test]
    fn generation_tags_become_call_blocks() {
        let (template, marked) = with_call_blocks(
            "{%- generation -%}a{% endgeneration %}{% if generation %}{% endif %}",
        );
        assert!(marked);
        assert_eq!(
            template,
            "{%- call __generation() -%}a{% endcall %}{% if generation %}{% endif %}"
        );
        assert!(!with_call_blocks("{{ generation }} {% if x %}").1);
    }

    #[test]
    fn json_is_pythons() {
        let mut environment = environment(0).expect("an environment");
        let value = json!({"b": [1, 2.5, {}], "a": "é\"<\u{1}\n", "c": []});
        for (template, expect) in [
            (
                "{{ v | tojson }}",
                r#"{"b": [1, 2.5, {}], "a": "é\"<\u0001\n", "c": []}"#,
            ),
            (
                "{{ v | tojson(ensure_ascii=true, sort_keys=true, separators=(',', ':')) }}",
                r#"{"a":"\u00e9\"<\u0001\n","b":[1,2.5,{}],"c":[]}"#,
            ),
            (
                "{{ v | tojson(indent=2) }}",
                "{\n  \"b\": [\n    1,\n    2.5,\n    {}\n  ],\n  \"a\": \"é\\\"<\\u0001\\n\",\n  \"c\": []\n}",
            ),
        ] {
            environment
                .add_template_owned("t", template)
                .expect("a template");
            let context = Value::from(Serde(json!({ "v": value })));
            let found = environment.get_template("t").expect("t").render(context);
            assert_eq!(found.expect("renders"), expect);
        }
    }
}
