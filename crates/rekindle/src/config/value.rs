//! The types a setting may have: how each is read from TOML, written to it and described in a message.

use std::path::PathBuf;

use serde::{Serialize, Serializer};
use toml::Value;

use crate::task::{Kind, Task};

/// `value` as TOML, small and large numbers with an exponent.
pub(super) fn toml_text(value: &Value) -> String {
    match value {
        Value::Float(number) if number.is_finite() => format!("{number:?}"),
        value => value.to_string(),
    }
}

/// The numbers a setting accepts.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Range {
    low: f64,
    low_included: bool,
    high: f64,
    high_included: bool,
}

impl Range {
    pub(super) const ANY: Self = Self {
        low: f64::NEG_INFINITY,
        low_included: true,
        high: f64::INFINITY,
        high_included: false,
    };

    /// From 0 up to, not including, 1.
    pub(super) const FRACTION: Self = Self {
        high: 1.0,
        ..Self::at_least(0)
    };

    /// From 0 to 1.
    pub(super) const PROBABILITY: Self = Self::at_least(0).at_most(1);

    pub(super) const fn at_least(low: u32) -> Self {
        Self {
            low: low as f64,
            ..Self::ANY
        }
    }

    pub(super) const fn above(low: u32) -> Self {
        Self {
            low: low as f64,
            low_included: false,
            ..Self::ANY
        }
    }

    pub(super) const fn at_most(self, high: u32) -> Self {
        Self {
            high: high as f64,
            high_included: true,
            ..self
        }
    }

    fn holds(&self, number: f64) -> bool {
        let high_enough = number > self.low || self.low_included && number == self.low;
        high_enough && (number < self.high || self.high_included && number == self.high)
    }

    /// `noun` with the limits behind it: "a number above 0".
    fn describe(&self, noun: &str) -> String {
        let mut text = noun.to_owned();
        if self.low.is_finite() {
            let relation = if self.low_included {
                "of at least"
            } else {
                "above"
            };
            text += &format!(" {relation} {}", self.low);
        }
        if self.high.is_finite() {
            let relation = if self.high_included {
                "at most"
            } else {
                "below"
            };
            text += &format!(" and {relation} {}", self.high);
        }
        text
    }
}

/// A type that a setting can have.
pub(super) trait Setting: Sized {
    /// What a message says after "expected".
    fn expected(range: &Range) -> String;

    /// The setting, or `None` where `value` is not what [`expected`](Self::expected) says.
    fn read(value: &Value, range: &Range) -> Option<Self>;

    /// The TOML value that [`read`](Self::read) turns into `self`; `None` for a setting that is unset.
    fn write(&self) -> Option<Value>;

    /// The names to choose from, for near misses; empty for a type that is no choice.
    fn names() -> &'static [&'static str] {
        &[]
    }
}

impl<T: Setting> Setting for Option<T> {
    fn expected(range: &Range) -> String {
        T::expected(range)
    }

    fn read(value: &Value, range: &Range) -> Option<Self> {
        T::read(value, range).map(Some)
    }

    fn write(&self) -> Option<Value> {
        self.as_ref().and_then(T::write)
    }

    fn names() -> &'static [&'static str] {
        T::names()
    }
}

impl Setting for bool {
    fn expected(_: &Range) -> String {
        "true or false".to_owned()
    }

    fn read(value: &Value, _: &Range) -> Option<Self> {
        value.as_bool()
    }

    fn write(&self) -> Option<Value> {
        Some(Value::Boolean(*self))
    }
}

impl Setting for f64 {
    fn expected(range: &Range) -> String {
        range.describe("a number")
    }

    fn read(value: &Value, range: &Range) -> Option<Self> {
        let number = match value {
            Value::Integer(number) => *number as f64,
            Value::Float(number) => *number,
            _ => return None,
        };
        (number.is_finite() && range.holds(number)).then_some(number)
    }

    fn write(&self) -> Option<Value> {
        Some(Value::Float(*self))
    }
}

impl Setting for u64 {
    fn expected(range: &Range) -> String {
        range.describe("a whole number")
    }

    fn read(value: &Value, range: &Range) -> Option<Self> {
        let number = value.as_integer()?;
        range
            .holds(number as f64)
            .then(|| Self::try_from(number).ok())
            .flatten()
    }

    /// A number beyond TOML's integers is written as text, so that validating it names it.
    fn write(&self) -> Option<Value> {
        Some(match i64::try_from(*self) {
            Ok(number) => Value::Integer(number),
            Err(_) => Value::String(self.to_string()),
        })
    }
}

impl Setting for usize {
    fn expected(range: &Range) -> String {
        u64::expected(range)
    }

    fn read(value: &Value, range: &Range) -> Option<Self> {
        u64::read(value, range).and_then(|number| Self::try_from(number).ok())
    }

    fn write(&self) -> Option<Value> {
        (*self as u64).write()
    }
}

impl Setting for String {
    fn expected(_: &Range) -> String {
        "a text in quotes, not empty".to_owned()
    }

    fn read(value: &Value, _: &Range) -> Option<Self> {
        value
            .as_str()
            .filter(|text| !text.is_empty())
            .map(str::to_owned)
    }

    fn write(&self) -> Option<Value> {
        Some(Value::String(self.clone()))
    }
}

/// TOML is UTF-8, and so are the paths in it: of others, bytes that are not are written as U+FFFD.
impl Setting for PathBuf {
    fn expected(_: &Range) -> String {
        "a path in quotes".to_owned()
    }

    fn read(value: &Value, range: &Range) -> Option<Self> {
        String::read(value, range).map(Self::from)
    }

    fn write(&self) -> Option<Value> {
        Some(Value::String(self.to_string_lossy().into_owned()))
    }
}

/// The separator of a delimited file.
impl Setting for char {
    fn expected(_: &Range) -> String {
        r#"one ASCII character in quotes, such as "," or "\t""#.to_owned()
    }

    fn read(value: &Value, _: &Range) -> Option<Self> {
        let mut characters = value.as_str()?.chars();
        let one = characters.next()?;
        (characters.next().is_none() && one.is_ascii() && !matches!(one, '"' | '\n' | '\r'))
            .then_some(one)
    }

    fn write(&self) -> Option<Value> {
        Some(Value::String(self.to_string()))
    }
}

impl Setting for Vec<String> {
    fn expected(_: &Range) -> String {
        "a list of texts, none of them empty".to_owned()
    }

    fn read(value: &Value, range: &Range) -> Option<Self> {
        let items = value.as_array()?.iter();
        items.map(|item| String::read(item, range)).collect()
    }

    fn write(&self) -> Option<Value> {
        Some(Value::Array(
            self.iter().cloned().map(Value::String).collect(),
        ))
    }
}

impl Setting for Vec<usize> {
    fn expected(range: &Range) -> String {
        range.describe("a list of one or more whole numbers, each")
    }

    fn read(value: &Value, range: &Range) -> Option<Self> {
        let items = value.as_array().filter(|items| !items.is_empty())?.iter();
        items.map(|item| usize::read(item, range)).collect()
    }

    fn write(&self) -> Option<Value> {
        self.iter()
            .map(Setting::write)
            .collect::<Option<_>>()
            .map(Value::Array)
    }
}

/// A column of a data file, by its name or its place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Column {
    /// The name in the file's header, or the field's name in JSONL and Parquet.
    Name(String),
    /// The place from the left, the first being 0.
    Index(usize),
}

impl Setting for Column {
    fn expected(_: &Range) -> String {
        "a column's name in quotes, or its place, the first being 0".to_owned()
    }

    fn read(value: &Value, range: &Range) -> Option<Self> {
        String::read(value, range)
            .map(Self::Name)
            .or_else(|| usize::read(value, &Range::at_least(0)).map(Self::Index))
    }

    fn write(&self) -> Option<Value> {
        match self {
            Self::Name(name) => name.write(),
            Self::Index(index) => index.write(),
        }
    }
}

/// One column, or several.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Columns(pub Vec<Column>);

impl Setting for Columns {
    fn expected(range: &Range) -> String {
        format!("{}, or a list of such", Column::expected(range))
    }

    fn read(value: &Value, range: &Range) -> Option<Self> {
        match value.as_array() {
            None => Column::read(value, range).map(|column| Self(vec![column])),
            Some(items) if items.is_empty() => None,
            Some(items) => {
                let columns = items.iter().map(|item| Column::read(item, range));
                columns.collect::<Option<_>>().map(Self)
            }
        }
    }

    fn write(&self) -> Option<Value> {
        match &self.0[..] {
            [only] => only.write(),
            several => {
                let columns = several.iter().map(Setting::write);
                columns.collect::<Option<_>>().map(Value::Array)
            }
        }
    }
}

/// The layers that get an adapter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum TargetModules {
    /// Those that suit the model: an encoder's query and value, whatever they are called; else every linear layer.
    #[serde(serialize_with = "auto")]
    Auto,
    /// Layers whose path ends in one of these names.
    Suffixes(Vec<String>),
    /// Layers whose whole path matches this regular expression; the texts `all-linear` and `auto` are
    /// [`AllLinear`](Self::AllLinear) and [`Auto`](Self::Auto).
    Regex(String),
    /// Every linear layer but the classification head.
    #[serde(serialize_with = "all_linear")]
    AllLinear,
}

const ALL_LINEAR: &str = "all-linear";
const AUTO: &str = "auto";

fn auto<S: Serializer>(serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(AUTO)
}

fn all_linear<S: Serializer>(serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(ALL_LINEAR)
}

impl Setting for TargetModules {
    fn expected(_: &Range) -> String {
        format!(
            "a list of one or more layer names, a regular expression, \"{ALL_LINEAR}\" or \"{AUTO}\""
        )
    }

    /// A text of plain names with commas is no regular expression that anyone means: it is refused.
    fn read(value: &Value, range: &Range) -> Option<Self> {
        if let Some(text) = String::read(value, range) {
            let plain = |c: char| c.is_alphanumeric() || matches!(c, '_' | '.' | ',' | ' ');
            return match text.as_str() {
                ALL_LINEAR => Some(Self::AllLinear),
                AUTO => Some(Self::Auto),
                _ if text.contains(',') && text.chars().all(plain) => None,
                _ => Some(Self::Regex(text)),
            };
        }
        Vec::<String>::read(value, range)
            .filter(|suffixes| !suffixes.is_empty())
            .map(Self::Suffixes)
    }

    fn write(&self) -> Option<Value> {
        match self {
            Self::Suffixes(suffixes) => suffixes.write(),
            Self::Regex(text) => text.write(),
            Self::AllLinear => Some(Value::String(ALL_LINEAR.to_owned())),
            Self::Auto => Some(Value::String(AUTO.to_owned())),
        }
    }
}

/// What the run computes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Device {
    /// An NVIDIA card where there is one, else another graphics card, else the processor, as far as compiled in.
    Auto,
    /// The processor.
    Cpu,
    /// The graphics adapter of this number, the first being 0; without one, that which the driver prefers.
    Wgpu(Option<usize>),
    /// The NVIDIA card of this number, the first being 0.
    Cuda(usize),
}

impl Device {
    /// The device of a name such as `cuda:1`.
    pub(crate) fn named(name: &str) -> Option<Self> {
        match name {
            "auto" => return Some(Self::Auto),
            "cpu" => return Some(Self::Cpu),
            "wgpu" => return Some(Self::Wgpu(None)),
            "cuda" => return Some(Self::Cuda(0)),
            _ => {}
        }
        let (backend, index) = name.split_once(':')?;
        let index = index.parse().ok()?;
        match backend {
            "wgpu" => Some(Self::Wgpu(Some(index))),
            "cuda" => Some(Self::Cuda(index)),
            _ => None,
        }
    }
}

impl std::fmt::Display for Device {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Cpu => f.write_str("cpu"),
            Self::Wgpu(None) => f.write_str("wgpu"),
            Self::Wgpu(Some(index)) => write!(f, "wgpu:{index}"),
            Self::Cuda(index) => write!(f, "cuda:{index}"),
        }
    }
}

impl Serialize for Device {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl Setting for Device {
    fn expected(_: &Range) -> String {
        r#""auto", "cpu", "wgpu", "wgpu:N", "cuda" or "cuda:N""#.to_owned()
    }

    fn read(value: &Value, _: &Range) -> Option<Self> {
        Self::named(value.as_str()?)
    }

    fn write(&self) -> Option<Value> {
        Some(Value::String(self.to_string()))
    }

    fn names() -> &'static [&'static str] {
        &["wgpu", "cuda", "cpu", "auto"]
    }
}

/// When the model is evaluated on the validation examples.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EvalEvery {
    /// After each pass over the training data, and about twenty times where there are more.
    Auto,
    /// After each pass over the training data.
    Epoch,
    /// After each so many optimizer steps, and at the end.
    Steps(usize),
    /// Not during training.
    Never,
}

impl Serialize for EvalEvery {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.write().serialize(serializer)
    }
}

impl Setting for EvalEvery {
    fn expected(_: &Range) -> String {
        r#""auto", "epoch", "never", or a whole number of at least 1 (optimizer steps)"#.to_owned()
    }

    fn read(value: &Value, _: &Range) -> Option<Self> {
        match value.as_str() {
            Some("auto") => Some(Self::Auto),
            Some("epoch") => Some(Self::Epoch),
            Some("never") => Some(Self::Never),
            Some(_) => None,
            None => usize::read(value, &Range::at_least(1)).map(Self::Steps),
        }
    }

    fn write(&self) -> Option<Value> {
        match self {
            Self::Auto => Some(Value::String("auto".to_owned())),
            Self::Epoch => Some(Value::String("epoch".to_owned())),
            Self::Never => Some(Value::String("never".to_owned())),
            Self::Steps(steps) => steps.write(),
        }
    }

    fn names() -> &'static [&'static str] {
        &["auto", "epoch", "never"]
    }
}

/// A day.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Date {
    year: u16,
    month: u8,
    day: u8,
}

impl Date {
    /// Today, as UTC has it.
    #[must_use]
    pub fn today() -> Self {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        Self::of(since.map_or(0, |since| since.as_secs()))
    }

    /// The day of a time in seconds after 1970, as UTC has it.
    #[must_use]
    pub fn of(seconds: u64) -> Self {
        let today = seconds / 86_400;
        let mut date = Self {
            year: 1970,
            month: 1,
            day: 1,
        };
        while date.next_month().days() <= today {
            date = date.next_month();
        }
        date.day += (today - date.days()) as u8;
        date
    }

    /// The first day of the next month.
    fn next_month(self) -> Self {
        let (year, month) = match self.month {
            12 => (self.year + 1, 1),
            month => (self.year, month + 1),
        };
        Self {
            year,
            month,
            day: 1,
        }
    }

    /// Days after 1 January 1970, as the Gregorian calendar counts them: a year that begins in March has its leap day at the end.
    fn days(self) -> u64 {
        let (month, day) = (u64::from(self.month), u64::from(self.day));
        let year = u64::from(self.year) - u64::from(month < 3);
        let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
        365 * year + year / 4 - year / 100 + year / 400 + of_year - 719_468
    }

    /// Its noon in seconds after 1970, as UTC has it.
    #[must_use]
    pub fn noon(self) -> u64 {
        self.days() * 86_400 + 43_200
    }
}

impl std::fmt::Display for Date {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:04}-{:02}-{:02}", self.year, self.month, self.day)
    }
}

impl Serialize for Date {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.write().serialize(serializer)
    }
}

impl Setting for Date {
    fn expected(_: &Range) -> String {
        "a day in quotes, such as \"2026-11-26\"".to_owned()
    }

    fn read(value: &Value, _: &Range) -> Option<Self> {
        let mut parts = value.as_str()?.splitn(3, '-');
        let mut number = |digits: usize| {
            let part = parts.next().filter(|part| part.len() == digits)?;
            part.parse::<u16>().ok()
        };
        let (year, month, day) = (number(4)?, number(2)? as u8, number(2)? as u8);
        let first = Self {
            year,
            month,
            day: 1,
        };
        let exists = (1970..9999).contains(&year)
            && (1..=12).contains(&month)
            && (1..=31).contains(&day)
            && first.days() + u64::from(day) <= first.next_month().days();
        exists.then_some(Self { day, ..first })
    }

    fn write(&self) -> Option<Value> {
        Some(Value::String(self.to_string()))
    }
}

/// How many of a set's conversations are answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AnswerCount {
    /// At most so many, drawn by the seed.
    Some(usize),
    /// Every one.
    All,
}

impl Serialize for AnswerCount {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.write().serialize(serializer)
    }
}

impl Setting for AnswerCount {
    fn expected(_: &Range) -> String {
        r#""all", or a whole number of at least 0"#.to_owned()
    }

    fn read(value: &Value, _: &Range) -> Option<Self> {
        match value.as_str() {
            Some("all") => Some(Self::All),
            Some(_) => None,
            None => usize::read(value, &Range::at_least(0)).map(Self::Some),
        }
    }

    fn write(&self) -> Option<Value> {
        match self {
            Self::All => Some(Value::String("all".to_owned())),
            Self::Some(count) => count.write(),
        }
    }

    fn names() -> &'static [&'static str] {
        &["all"]
    }
}

/// Defines an enum whose variants are chosen by name.
macro_rules! choices {
    ($(
        $(#[doc = $doc:literal])*
        $choice:ident { $( $(#[doc = $variant_doc:literal])* $variant:ident = $name:literal, )* }
    )*) => {$(
        $(#[doc = $doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum $choice {
            $( $(#[doc = $variant_doc])* $variant, )*
        }

        impl $choice {
            /// The name as it stands in a run file.
            pub const fn name(self) -> &'static str {
                match self {
                    $( Self::$variant => $name, )*
                }
            }
        }

        impl std::fmt::Display for $choice {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.name())
            }
        }

        impl Serialize for $choice {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.name())
            }
        }

        impl Setting for $choice {
            fn expected(_: &Range) -> String {
                match Self::names() {
                    [only] => format!("\"{only}\", the only choice"),
                    names => format!("one of \"{}\"", names.join("\", \"")),
                }
            }

            fn read(value: &Value, _: &Range) -> Option<Self> {
                match value.as_str()? {
                    $( $name => Some(Self::$variant), )*
                    _ => None,
                }
            }

            fn write(&self) -> Option<Value> {
                Some(Value::String(self.name().to_owned()))
            }

            fn names() -> &'static [&'static str] {
                &[$( $name, )*]
            }
        }
    )*};
}

impl Serialize for Task {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

impl Setting for Task {
    fn expected(_: &Range) -> String {
        format!("one of \"{}\"", Self::NAMES.join("\", \""))
    }

    fn read(value: &Value, _: &Range) -> Option<Self> {
        Self::named(value.as_str()?)
    }

    fn write(&self) -> Option<Value> {
        Some(Value::String(self.name().to_owned()))
    }

    fn names() -> &'static [&'static str] {
        Self::NAMES
    }
}

choices! {
    /// What is done at random to training pictures.
    Augmentation {
        /// As `standard`; `none` where only the head is trained, so that the rest is computed once.
        Auto = "auto",
        /// Nothing.
        None = "none",
        /// What the settings below say.
        Standard = "standard",
    }

    /// What batch norms do while the network around them trains.
    BatchNorms {
        /// `frozen` where everything is tuned on few examples, else `train`.
        Auto = "auto",
        /// They normalise by the batch, and learn.
        Train = "train",
        /// They stay what they are in the pretrained model.
        Frozen = "frozen",
    }

    /// Which evaluated model is saved.
    ModelChoice {
        /// `last` where the validation examples are too few to tell models apart, else `best`.
        Auto = "auto",
        /// The one that is best by `metric`.
        Best = "best",
        /// The one of the last step.
        Last = "last",
    }

    /// How the token vectors become one vector for the classification head.
    Pooling {
        /// What the model directory says; `cls` where it says nothing.
        Auto = "auto",
        /// The first token's vector, through the pooler.
        Cls = "cls",
        /// The mean over the tokens.
        Mean = "mean",
    }

    /// What matrix products multiply.
    Precision {
        /// 32-bit floating point.
        F32 = "f32",
        /// Factors rounded to TensorFloat-32, sums in f32.
        Tf32 = "tf32",
        /// Factors rounded to bfloat16, sums in f32.
        Bf16 = "bf16",
    }

    /// How a data file is written.
    FileFormat {
        /// Delimited by commas.
        Csv = "csv",
        /// Delimited by tabs.
        Tsv = "tsv",
        /// One JSON object a line.
        Jsonl = "jsonl",
        /// Apache Parquet.
        Parquet = "parquet",
    }

    /// What to do with an example that cannot be used.
    OnBadExample {
        /// Stop and name its place.
        Error = "error",
        /// Leave it out and say how many were left out.
        Skip = "skip",
    }

    /// Which parameters are trained.
    Method {
        /// Low-rank adapters beside frozen weights, and the head.
        Lora = "lora",
        /// All of them.
        Full = "full",
        /// The classification head alone.
        Head = "head",
        /// The biases and the head.
        Bitfit = "bitfit",
        /// All but the head by pairs of texts, then a logistic regression as the head (Tunstall et al. 2022).
        Setfit = "setfit",
    }

    /// How embeddings are learned.
    EmbeddingLoss {
        /// `cosine` where the file says how alike two texts are, else `mnrl`.
        Auto = "auto",
        /// Multiple negatives ranking: of all texts of the batch, the one that belongs to the anchor.
        Mnrl = "mnrl",
        /// The squared error of the cosine.
        Cosine = "cosine",
    }

    /// How the learning rate goes after warmup.
    Schedule {
        /// Straight down to 0 at the last step.
        Linear = "linear",
        /// Half a cosine down to 0 at the last step.
        Cosine = "cosine",
        /// As it is.
        Constant = "constant",
    }

    /// Which tokens of a conversation are learned.
    LossOn {
        /// Every answer of the assistant.
        Assistant = "assistant",
        /// The last answer.
        Last = "last",
        /// Everything.
        All = "all",
    }

    /// How preferences are learned.
    PreferenceLoss {
        /// Direct preference optimisation (Rafailov et al. 2023).
        Dpo = "dpo",
        /// Odds ratio preference optimisation (Hong et al. 2024).
        Orpo = "orpo",
        /// Kahneman-Tversky optimisation (Ethayarajh et al. 2024).
        Kto = "kto",
    }

    /// What decides which checkpoint is the best.
    Metric {
        /// The share of examples whose label is right.
        Accuracy = "accuracy",
        /// F1, the plain mean over the labels.
        MacroF1 = "macro_f1",
        /// F1, the mean over the labels weighted by their examples.
        WeightedF1 = "weighted_f1",
        /// F1 of whole entities: beginning, end and label right.
        EntityF1 = "entity_f1",
        /// F1 of the words of answers that are pieces of a text, as SQuAD counts it.
        AnswerF1 = "answer_f1",
        /// The share of such answers that are exactly right.
        ExactMatch = "exact_match",
        /// Matthews correlation coefficient.
        Mcc = "mcc",
        /// The mean loss; less is better.
        Loss = "loss",
        /// Mean average precision over labels, at any threshold.
        Map = "map",
        /// F1 over all decisions, at a probability of 0.5.
        MicroF1 = "micro_f1",
        /// The share of examples whose labels are all right.
        Exact = "exact",
        /// Mean squared error; less is better.
        Mse = "mse",
        /// Mean absolute error; less is better.
        Mae = "mae",
        /// Pearson's correlation.
        Pearson = "pearson",
        /// Spearman's rank correlation.
        Spearman = "spearman",
        /// The share of the variance that is explained.
        R2 = "r2",
        /// e to the mean loss a token; less is better.
        Perplexity = "perplexity",
        /// The share of tokens that the model would have chosen.
        TokenAccuracy = "token_accuracy",
        /// The share of pairs whose chosen answer has the higher reward.
        RewardAccuracy = "reward_accuracy",
        /// The mean reward of chosen answers less that of rejected ones.
        RewardMargin = "reward_margin",
        /// The mean reward of chosen answers.
        RewardChosen = "reward_chosen",
        /// The mean reward of rejected answers; less is better.
        RewardRejected = "reward_rejected",
        /// The mean log-probability of chosen answers.
        LogpChosen = "logp_chosen",
        /// The mean log-probability of rejected answers; less is better.
        LogpRejected = "logp_rejected",
        /// How high the texts that belong to a text stand among the ten nearest: normalized discounted cumulative gain.
        Ndcg = "ndcg_at_10",
        /// The mean of 1 divided by the place of the first such text, 0 where it is not among the ten nearest.
        Mrr = "mrr_at_10",
        /// The share of texts whose nearest text belongs to them.
        Nearest = "accuracy_at_1",
    }
}

impl Metric {
    /// Whether more is better.
    #[must_use]
    pub const fn higher_is_better(self) -> bool {
        !matches!(
            self,
            Self::Loss
                | Self::Mse
                | Self::Mae
                | Self::Perplexity
                | Self::RewardRejected
                | Self::LogpRejected
        )
    }

    /// The figures that an evaluation of this kind of task has; the first is the usual one.
    #[must_use]
    pub const fn of(kind: Kind) -> &'static [Self] {
        match kind {
            Kind::Classification => &[
                Self::Accuracy,
                Self::MacroF1,
                Self::WeightedF1,
                Self::Mcc,
                Self::Loss,
            ],
            Kind::Tags => &[
                Self::EntityF1,
                Self::MacroF1,
                Self::TokenAccuracy,
                Self::Loss,
            ],
            Kind::Choice => &[Self::Accuracy, Self::Loss],
            Kind::Extraction => &[Self::AnswerF1, Self::ExactMatch, Self::Loss],
            Kind::Generation => &[Self::Loss, Self::Perplexity, Self::TokenAccuracy],
            Kind::Preference => &[
                Self::Loss,
                Self::RewardAccuracy,
                Self::RewardMargin,
                Self::RewardChosen,
                Self::RewardRejected,
                Self::LogpChosen,
                Self::LogpRejected,
            ],
            Kind::Embedding => &[
                Self::Loss,
                Self::Ndcg,
                Self::Mrr,
                Self::Nearest,
                Self::Spearman,
                Self::Pearson,
            ],
            Kind::MultiLabel => &[
                Self::Map,
                Self::MicroF1,
                Self::MacroF1,
                Self::Exact,
                Self::Loss,
            ],
            Kind::Regression => &[
                Self::Loss,
                Self::Mse,
                Self::Mae,
                Self::Pearson,
                Self::Spearman,
                Self::R2,
            ],
        }
    }
}
