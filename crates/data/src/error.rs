//! Everything that can go wrong between a file and a batch.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;

use thiserror::Error;

use crate::bad_rows;
use crate::choices::ChoiceReason;
use crate::example::Place;
use crate::questions::QuestionReason;
use crate::tables::{Role, Skipped, is_label_name};
use crate::targets::TargetKind;
use crate::tokens::TagReason;
use rekindle_base::{
    counted,
    near::{did_you_mean_or, quoted_list},
    shell_word,
};

/// How many names a message lists before it says "and N more".
pub(crate) const LISTED: usize = 20;

/// What is wrong with one row. See [`BadReason::hint`] for advice.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum BadReason {
    /// Another number of fields than the first row has.
    #[error("expected {expected} fields as in the first row, found {found}")]
    Ragged {
        /// Fields of the first row.
        expected: usize,
        /// Fields of this row.
        found: usize,
    },
    /// A byte that is not UTF-8.
    #[error("byte {byte:#04x} at byte column {column} is not UTF-8")]
    Utf8 {
        /// 1-based byte column in the line.
        column: u64,
        /// The offending byte.
        byte: u8,
    },
    /// A quoted field that the end of the file cuts off.
    #[error("the quoted field that opens at byte column {column} is never closed")]
    UnclosedQuote {
        /// 1-based byte column of the opening quote.
        column: u64,
    },
    /// Something other than a delimiter after a closing quote.
    #[error(
        "expected a delimiter after the quoted field that ends at line {line}, byte column {column}, found more text"
    )]
    TextAfterQuote {
        /// 1-based line of the closing quote.
        line: u64,
        /// 1-based byte column of the closing quote.
        column: u64,
    },
    /// A blank text.
    #[error("the text in column `{column}` is empty")]
    EmptyText {
        /// Name of the column.
        column: String,
    },
    /// A blank or null label in a set that needs labels.
    #[error("the label in column `{column}` is missing")]
    MissingLabel {
        /// Name of the column.
        column: String,
    },
    /// A JSON object without the field, or with null in it.
    #[error("the field `{column}` is missing")]
    MissingField {
        /// Name of the field.
        column: String,
    },
    /// A value of the wrong kind.
    #[error("expected {expected} in `{column}`, found {found}")]
    WrongType {
        /// Name of the column.
        column: String,
        /// What can stand there.
        expected: &'static str,
        /// What stands there.
        found: String,
    },
    /// Something else where a number is learned.
    #[error("expected a number in `{column}`, found {found}")]
    NotANumber {
        /// Name of the column.
        column: String,
        /// What stands there.
        found: String,
    },
    /// A comma where a number has its point.
    #[error("`{found}` in `{column}` has a decimal comma")]
    DecimalComma {
        /// Name of the column.
        column: String,
        /// What stands there.
        found: String,
    },
    /// NaN, infinity, or a number beyond the range of f32.
    #[error("expected a finite number in `{column}`, found {found}")]
    NotFinite {
        /// Name of the column.
        column: String,
        /// What stands there.
        found: String,
    },
    /// Something else in a column that says whether a label is there.
    #[error("expected 0 or 1 in `{column}`, found `{found}`")]
    NotBinary {
        /// Name of the column.
        column: String,
        /// What stands there.
        found: String,
    },
    /// More labels than a row can have.
    #[error("{found} labels in `{column}`, expected at most {most}")]
    TooManyLabels {
        /// Name of the column.
        column: String,
        /// How many there are.
        found: usize,
        /// How many are allowed.
        most: usize,
    },
    /// Text in brackets that is no list.
    #[error("cannot read the list in `{column}`: {found}")]
    NotAList {
        /// Name of the column.
        column: String,
        /// What stands there.
        found: String,
    },
    /// A line that is no JSON.
    #[error("not valid JSON at byte column {column}: {message}")]
    Json {
        /// 1-based byte column in the line.
        column: u64,
        /// The parser's message.
        message: String,
    },
    /// JSON, but not an object.
    #[error("expected a JSON object, found {found}")]
    NotAnObject {
        /// What stands there.
        found: &'static str,
    },
    /// A JSON array that the end of the file cuts off.
    #[error("the JSON array is never closed")]
    UnclosedArray,
    /// Something behind a JSON array.
    #[error("the JSON array has ended, and more follows")]
    BehindArray,
    /// A text file of nothing but white space.
    #[error("the text is empty")]
    EmptyDocument,
    /// None of the keys that make a row a conversation.
    #[error(
        "no conversation: found the keys {}, expected {}",
        quoted_list(found, LISTED),
        quoted_list(expected, LISTED)
    )]
    NoConversation {
        /// The keys of the row.
        found: Vec<String>,
        /// The keys that are read.
        expected: Vec<String>,
        /// A key of the row, and the one that is read and looks like it.
        near: Option<Box<(String, String)>>,
    },
    /// A list of no turns.
    #[error("the list in `{column}` has no messages")]
    EmptyConversation {
        /// Name of the column.
        column: String,
    },
    /// A role that is not known.
    #[error(
        "unknown role `{found}` in `{at}`, expected one of {}",
        quoted_list(expected, LISTED)
    )]
    UnknownRole {
        /// Where in the row.
        at: Box<str>,
        /// The role found.
        found: Box<str>,
        /// The roles that are known there.
        expected: Vec<String>,
        /// One of them that was probably meant.
        near: Option<Box<str>>,
    },
    /// Nothing to learn.
    #[error(
        "no turn of the assistant: expected at least one to learn from, found {}",
        quoted_list(roles, LISTED)
    )]
    NoAssistantTurn {
        /// The roles of the turns.
        roles: Vec<String>,
    },
    /// A picture or a sound in a turn, or something that is no content at all.
    #[error("expected text in `{at}`, found {found}")]
    ContentNotText {
        /// Where in the row.
        at: String,
        /// What stands there.
        found: String,
    },
    /// The template raised an exception.
    #[error("the chat template refuses the conversation: {message}")]
    TemplateRefuses {
        /// What the template says.
        message: String,
    },
    /// The template does something that cannot be done with this conversation.
    #[error("the chat template fails{} on the conversation: {message}", line.map_or_else(String::new, |line| format!(" at its line {line}")))]
    TemplateFails {
        /// 1-based line of the template.
        line: Option<usize>,
        /// What is wrong.
        message: String,
    },
    /// A turn that the template rewrites so much that its tokens are not found.
    #[error(
        "cannot tell which tokens of the rendered conversation are the assistant's turn {turn}"
    )]
    TurnNotFound {
        /// Index of the message, from 0.
        turn: usize,
    },
    /// A conversation that teaches nothing.
    #[error("none of its {tokens} tokens counts{}", max_length.map_or_else(String::new, |max_length| format!(" once it is cut to max_length = {max_length}")))]
    NoCountedToken {
        /// Length of the conversation before it was cut, in tokens.
        tokens: usize,
        /// Where it was cut, if it was.
        max_length: Option<usize>,
    },
    /// A pair of answers that says nothing.
    #[error("the chosen and the rejected answer are the same{}", max_length.map_or_else(String::new, |max_length| format!(" once they are cut to max_length = {max_length}")))]
    SameAnswers {
        /// Where they were cut, if they were.
        max_length: Option<usize>,
    },
    /// Two whole conversations that are about different things.
    #[error("no prompt: `chosen` and `rejected` begin with different turns")]
    NoCommonPrompt,
    /// One answer that repeats its prompt beside one that does not.
    #[error("`{with}` begins with the turns of `prompt`, `{without}` does not")]
    PromptOnOneSide {
        /// The answer that holds the prompt.
        with: &'static str,
        /// The other.
        without: &'static str,
    },
    /// One answer where two are compared.
    #[error("expected a pair of answers, `chosen` and `rejected`, found one answer with a label")]
    NotAPair,
    /// Words, tags or spans that are not as they should be.
    #[error(transparent)]
    Tags(Box<TagReason>),
    /// A question, its context or its answers.
    #[error(transparent)]
    Question(Box<QuestionReason>),
    /// A question, its choices or its answer.
    #[error(transparent)]
    Choice(Box<ChoiceReason>),
}

impl From<TagReason> for BadReason {
    fn from(reason: TagReason) -> Self {
        Self::Tags(Box::new(reason))
    }
}

impl From<ChoiceReason> for BadReason {
    fn from(reason: ChoiceReason) -> Self {
        Self::Choice(Box::new(reason))
    }
}

impl From<QuestionReason> for BadReason {
    fn from(reason: QuestionReason) -> Self {
        Self::Question(Box::new(reason))
    }
}

impl BadReason {
    /// Whether it is the label that is wrong, and not the text or the row.
    pub(crate) fn is_of_label(&self) -> bool {
        matches!(
            self,
            Self::MissingLabel { .. }
                | Self::NotANumber { .. }
                | Self::DecimalComma { .. }
                | Self::NotFinite { .. }
                | Self::NotBinary { .. }
                | Self::NotAList { .. }
        )
    }

    /// What the user can do about it.
    pub fn hint(&self) -> Cow<'static, str> {
        let advice = match self {
            Self::Tags(reason) => reason.hint(),
            Self::Question(reason) => return reason.hint(),
            Self::Choice(reason) => return reason.hint(),
            Self::NoConversation {
                near: Some(near), ..
            } => {
                let (found, near) = near.as_ref();
                return format!("did you mean `{near}` where the row has `{found}`?").into();
            }
            Self::UnknownRole {
                near: Some(near), ..
            } => return format!("did you mean `{near}`?").into(),
            Self::Ragged { .. } => {
                "put a field that holds the delimiter in quotes, or name the delimiter"
            }
            Self::Utf8 { .. } => {
                "save the file as UTF-8, for example with `iconv -f latin1 -t utf-8`; Japanese files are often shift_jis, Chinese ones gb18030, Russian ones windows-1251"
            }
            Self::UnclosedQuote { .. } | Self::TextAfterQuote { .. } => {
                "double a quote inside a quoted field (\"\"), or --set data.quoting=false if quotes are ordinary characters"
            }
            Self::EmptyText { .. } => "fill in or remove the row",
            Self::MissingLabel { .. } => "label or remove the row",
            Self::MissingField { .. } => "every line needs the same fields",
            Self::WrongType { .. } => "check that the column is the right one",
            Self::NotANumber { .. } => {
                "write the number alone, or check that the column is the right one"
            }
            Self::DecimalComma { .. } => "write a point, as in 1.5",
            Self::NotFinite { .. } => "remove the row, or write a number of at most 3.4e38",
            Self::NotBinary { .. } => {
                "write 1 where the label is there and 0 where it is not; or name one column of lists"
            }
            Self::TooManyLabels { .. } => {
                "check what separates the labels: --set data.label_separator"
            }
            Self::NotAList { .. } => "write a list as JSON does, [\"a\", \"b\"]",
            Self::Json { message, .. } if message.starts_with("EOF") => {
                "write one JSON object on each line; where that is so, the file was cut off"
            }
            Self::Json { .. } | Self::NotAnObject { .. } => "write one JSON object on each line",
            Self::UnclosedArray => "the file was probably cut off on its way; copy it again",
            Self::BehindArray => {
                "a file holds one array, or one object on each line: join the parts (jq -c '.[]' FILE > rows.jsonl)"
            }
            Self::EmptyDocument => "remove the file, or write something into it",
            Self::NoConversation { expected, .. }
                if ["rejected", "label"]
                    .iter()
                    .any(|key| expected.iter().any(|k| k == key)) =>
            {
                "add what is missing, or rename the keys"
            }
            Self::NoConversation { .. } => {
                "rename the keys, or name the columns of prompt and completion"
            }
            Self::EmptyConversation { .. } => "fill in or remove the row",
            Self::UnknownRole { .. } => "rename the role",
            Self::NoAssistantTurn { .. } => "add the answer, or remove the row",
            Self::ContentNotText { .. } => "only text can be learned; remove pictures and sounds",
            Self::TemplateRefuses { .. } => {
                "change the turns as the template asks: most want user and assistant by turns"
            }
            Self::TemplateFails { .. } => {
                "give the turns what the template asks for, or another chat_template.jinja"
            }
            Self::TurnNotFound { .. } => {
                "mark what the assistant says with {% generation %} in the chat template, or let all tokens count"
            }
            Self::NoCountedToken {
                max_length: Some(_),
                ..
            } => "raise max_length, or shorten the turns before the first answer",
            Self::NoCountedToken { .. } => "add an answer, or remove the row",
            Self::SameAnswers {
                max_length: Some(_),
            } => "raise max_length, or remove the row",
            Self::SameAnswers { .. } => "remove the row",
            Self::NoCommonPrompt => "add a `prompt`, or begin both with the same turns",
            Self::PromptOnOneSide { .. } => {
                "write both answers without the prompt, or both with it"
            }
            Self::NotAPair => {
                "only KTO learns of single answers: set preference.loss = \"kto\", or write the other answer too"
            }
        };
        advice.into()
    }
}

/// An error of this crate. The text names the place and the remedy (a line that starts with `hint:`).
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum DataError {
    /// There is no such file.
    #[error("no such file: {}{}", path.display(), did_you_mean_or(near, "check the path; a relative one counts from the current folder"))]
    NoSuchFile {
        /// The path asked for.
        path: PathBuf,
        /// Files of the same folder with similar names.
        near: Vec<String>,
    },
    /// A directory where a file was expected.
    #[error("expected a file, found a directory{holds}: {}\nhint: {hint}", path.display())]
    IsDirectory {
        /// The path asked for.
        path: PathBuf,
        /// What is in it, after the word.
        holds: String,
        /// What to name instead.
        hint: String,
    },
    /// The system would not read the file.
    #[error("cannot read {}: {source}\nhint: check that the file may be read", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// No format follows from the file's name.
    #[error("{}: cannot tell the format from the name\nhint: expected .csv, .tsv, .jsonl or .parquet; or set data.format, for a pipe too", path.display())]
    UnknownFormat {
        /// The file.
        path: PathBuf,
    },
    /// A file of zero bytes.
    #[error("{}: the file is empty\nhint: expected a table of examples, one in a row; check how the file was made", path.display())]
    EmptyFile {
        /// The file.
        path: PathBuf,
    },
    /// Nothing but a header.
    #[error("{}: there are no rows below the header\nhint: if the first row is data: --set data.header=false", path.display())]
    HeaderOnly {
        /// The file.
        path: PathBuf,
    },
    /// More columns than a table of examples has.
    #[error("{}: {columns} columns or more, expected at most {most}\nhint: {hint}", path.display())]
    TooManyColumns {
        /// The file.
        path: PathBuf,
        /// Columns, as far as they were counted.
        columns: usize,
        /// Columns that are allowed.
        most: usize,
        /// What to look at.
        hint: &'static str,
    },
    /// A table of no rows.
    #[error("{}: there are no rows\nhint: check how the file was made", path.display())]
    NoRows {
        /// The file.
        path: PathBuf,
    },
    /// UTF-16 or another encoding that is not UTF-8, known by its first bytes.
    #[error("{}: expected UTF-8, found {found}\nhint: save the file as UTF-8", path.display())]
    Encoding {
        /// The file.
        path: PathBuf,
        /// The encoding found.
        found: &'static str,
    },
    /// A file that is something else.
    #[error("{}: expected {expected}, found {found}\nhint: {hint}", path.display())]
    WrongKind {
        /// The file.
        path: PathBuf,
        /// What it should be.
        expected: &'static str,
        /// What it is by its first bytes.
        found: String,
        /// What to do with it.
        hint: String,
    },
    /// More bytes than are read into memory.
    #[error("{}: more than {most} bytes once it is unpacked or read from its pipe\nhint: name a smaller file, or raise data.max_unpacked", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// Bytes that are allowed.
        most: u64,
    },
    /// A delimiter that cannot delimit.
    #[error(
        "byte {delimiter:#04x} cannot be a delimiter\nhint: expected one ASCII character that is no quote and no line end"
    )]
    BadDelimiter {
        /// The byte asked for.
        delimiter: u8,
    },
    /// A row that cannot be used.
    #[error("{place}: {reason}\nhint: {}; or leave such rows out: --set data.on_bad_example=skip", reason.hint())]
    BadExample {
        /// Where the row stands.
        place: Place,
        /// What is wrong with it.
        reason: BadReason,
    },
    /// Several rows that cannot be used.
    #[error(
        "{}\nhint: {}; or leave such rows out: --set data.on_bad_example=skip",
        bad_rows::listed(rows),
        bad_rows::advice(rows)
    )]
    BadExamples {
        /// All of them, in the order of the file.
        rows: Vec<Skipped>,
    },
    /// A first row that cannot be read, so that the columns are unknown: an error even when bad rows are skipped.
    #[error("{place}: cannot tell the columns from the first row: {reason}\nhint: {}", reason.hint())]
    BadFirstRow {
        /// Where the row stands.
        place: Place,
        /// What is wrong with it.
        reason: BadReason,
    },
    /// Every row was skipped.
    #[error("{}: all {skipped} rows are bad; the first, line {line}: {reason}\nhint: {}", path.display(), reason.hint())]
    AllBad {
        /// The file.
        path: PathBuf,
        /// How many rows were skipped.
        skipped: usize,
        /// Line of the first.
        line: u64,
        /// What is wrong with it.
        reason: BadReason,
    },
    /// A column was named that the file does not have.
    #[error("{}: no column `{wanted}` for the {role}; expected one of {}{}", path.display(), quoted_list(found, LISTED), did_you_mean_or(near, "name one of them, or count from 0"))]
    MissingColumn {
        /// The file.
        path: PathBuf,
        /// What the column was for.
        role: Role,
        /// The column asked for.
        wanted: String,
        /// The columns of the file.
        found: Vec<String>,
        /// Columns with similar names.
        near: Vec<String>,
    },
    /// Several columns of one name.
    #[error("{}: {} columns are named `{wanted}`: columns {}, counted from 0\nhint: name the {role} column by its number, for example {role} = {}; or rename one", path.display(), places.len(), quoted_list(places, LISTED), places.first().map_or("0", String::as_str))]
    DuplicateColumn {
        /// The file.
        path: PathBuf,
        /// What the column was for.
        role: Role,
        /// The name.
        wanted: String,
        /// Numbers of the columns that have it, counted from 0.
        places: Vec<String>,
    },
    /// Several columns of one name, in a file whose columns are told by their names.
    #[error("{}: {} columns are named `{name}`: columns {}, counted from 0\nhint: rename or remove all but one", path.display(), places.len(), quoted_list(places, LISTED))]
    RepeatedColumn {
        /// The file.
        path: PathBuf,
        /// The name.
        name: String,
        /// Numbers of the columns that have it, counted from 0.
        places: Vec<String>,
    },
    /// One column was named for two purposes.
    #[error("{}: column `{column}` is named both as the {first} and as the {second}\nhint: name another column for one of them", path.display())]
    SameColumn {
        /// The file.
        path: PathBuf,
        /// The column.
        column: String,
        /// One purpose.
        first: Role,
        /// The other.
        second: Role,
    },
    /// More than one column could be meant.
    #[error("{}: cannot tell which column is the {role}: {}\nhint: name it, for example {} {}{instead}", path.display(), quoted_list(candidates, LISTED), role.flag(), shell_word(likeliest(candidates, *role)))]
    AmbiguousColumn {
        /// The file.
        path: PathBuf,
        /// What the column is for.
        role: Role,
        /// The columns that could be meant.
        candidates: Vec<String>,
        /// What else may be meant than any of them, after the hint.
        instead: &'static str,
    },
    /// No column could be meant.
    #[error("{}: no column looks like the {role} among {}\nhint: {}", path.display(), quoted_list(found, LISTED), hint.clone().unwrap_or_else(|| format!("name it with {}", role.flag())))]
    NoColumn {
        /// The file.
        path: PathBuf,
        /// What the column is for.
        role: Role,
        /// The columns of the file.
        found: Vec<String>,
        /// What the file's rows show of the mistake.
        hint: Option<String>,
    },
    /// The first row could be a header or data.
    #[error("{}: cannot tell whether the first row is a header: {}\nhint: {}", path.display(), quoted_list(first_row, LISTED), hint.as_deref().unwrap_or("say which: --set data.header=true, or false"))]
    HeaderUnclear {
        /// The file.
        path: PathBuf,
        /// The first row.
        first_row: Vec<String>,
        /// What the file's rows show of the mistake.
        hint: Option<String>,
    },
    /// The Parquet reader gave up.
    #[error("{}: not a readable Parquet file: {message}\nhint: {hint}", path.display())]
    Parquet {
        /// The file.
        path: PathBuf,
        /// The reader's message.
        message: String,
        /// What to do about it.
        hint: &'static str,
    },
    /// A Parquet file that would fill any memory.
    #[error("{}: {packed} bytes become more than {unpacked} bytes of text\nhint: the file is damaged, or made to do harm; if it is as it should be, raise data.max_unpacked", path.display())]
    ParquetSize {
        /// The file.
        path: PathBuf,
        /// Bytes of the file or of its column.
        packed: usize,
        /// Bytes that it becomes, as far as it was read.
        unpacked: usize,
    },
    /// A Parquet column that holds neither text nor labels.
    #[error("{}: column `{column}` cannot be the {role}: expected {expected}, found {found}\nhint: name another column, or convert this one", path.display())]
    UnsupportedColumn {
        /// The file.
        path: PathBuf,
        /// The column.
        column: String,
        /// What it was for.
        role: Role,
        /// What can be read.
        expected: &'static str,
        /// What it is.
        found: String,
    },
    /// No example has a label.
    #[error(
        "{}: there are no labels: none of {examples} examples has one\nhint: name the label column", path.display()
    )]
    NoLabels {
        /// The file of the first example.
        path: PathBuf,
        /// How many examples were looked at.
        examples: usize,
    },
    /// An example without a label among labelled ones.
    #[error("{place}: the example has no label\nhint: label or remove the row")]
    Unlabelled {
        /// Where the example stands.
        place: Place,
    },
    /// Paths of pictures where texts were expected.
    #[error("{}: the texts in `{column}` are names of pictures\nhint: {hint}", path.display())]
    TextsArePictures {
        /// The file.
        path: PathBuf,
        /// The column.
        column: String,
        /// The task that fits.
        hint: String,
    },
    /// A label column that the task cannot learn from.
    #[error("{}: {column} {looks}\nhint: {hint}", path.display())]
    UnfitLabels {
        /// The file.
        path: PathBuf,
        /// The label column.
        column: String,
        /// What it looks like, after its name.
        looks: String,
        /// The task that fits, or what else to do.
        hint: String,
    },
    /// A list where one label was expected.
    #[error(
        "{place}: expected one label, found the list {found}\nhint: several labels an example are a multi-label task"
    )]
    ListLabel {
        /// Where the example stands.
        place: Place,
        /// The list.
        found: String,
    },
    /// Several label columns where one was expected.
    #[error("{}: expected one label column, found {}\nhint: name one of them; several columns are for multi-label tasks and regression", path.display(), quoted_list(columns, LISTED))]
    SeveralLabels {
        /// The file.
        path: PathBuf,
        /// The columns.
        columns: Vec<String>,
    },
    /// More or fewer numbers than are learned.
    #[error(
        "{place}: expected the numbers {}, found {found}\nhint: name as many label columns",
        quoted_list(expected, LISTED)
    )]
    TargetWidth {
        /// Where the example stands.
        place: Place,
        /// Names of the numbers.
        expected: Vec<String>,
        /// How many the example has.
        found: usize,
    },
    /// Folders of classes where a picture needs another target than a class.
    #[error("{}: folders give each picture one class; expected {kind}\nhint: give a table with a column of paths and the labels", path.display())]
    FolderTargets {
        /// The folder.
        path: PathBuf,
        /// What is learned.
        kind: TargetKind,
    },
    /// Nothing to tell apart.
    #[error(
        "{}: all {examples} examples have the label `{label}`; expected at least two classes\nhint: check the label column, or a limit that cuts a sorted file short", path.display()
    )]
    OneClass {
        /// The file of the first example.
        path: PathBuf,
        /// The only label.
        label: String,
        /// How many examples have it.
        examples: usize,
    },
    /// A label list of no labels.
    #[error("the list of labels is empty\nhint: name at least two")]
    EmptyLabels,
    /// A label list with an error in it.
    #[error("the list of labels names `{label}` twice\nhint: remove one of the two")]
    DuplicateLabel {
        /// The label.
        label: String,
    },
    /// A label that the model was not trained on.
    #[error(
        "{place}: unknown label `{label}`; expected one of {}{}",
        quoted_list(known, LISTED),
        did_you_mean_or(near, "correct the label, or tune the model on examples of it")
    )]
    UnknownLabel {
        /// Where it stands.
        place: Place,
        /// The label found.
        label: String,
        /// The labels known.
        known: Vec<String>,
        /// Known labels with similar names.
        near: Vec<String>,
    },
    /// Rows with labels that the model was not trained on.
    #[error(
        "{}: {} {} that the model does not know: {}; expected one of {}\nhint: correct the labels, or tune the model on examples of them; or leave such rows out: --set data.on_bad_example=skip",
        first.path.display(),
        counted(*rows, "row", "rows"),
        if *rows == 1 { "has a label" } else { "have labels" },
        unknown_labels(labels, first),
        quoted_list(known, LISTED)
    )]
    UnknownLabels {
        /// The first of them.
        first: Place,
        /// How many there are.
        rows: usize,
        /// The labels found, with how many rows have each.
        labels: BTreeMap<String, usize>,
        /// The labels known.
        known: Vec<String>,
    },
    /// Fractions that cannot split a set.
    #[error(
        "cannot split off validation = {validation} and test = {test}: expected fractions of at least 0 with a sum below 1\nhint: make one smaller"
    )]
    BadFractions {
        /// Fraction for validation.
        validation: f64,
        /// Fraction for test.
        test: f64,
    },
    /// A part of a split would be empty.
    #[error(
        "{}: the {part} part would be empty: {examples} examples are too few for a fraction of {fraction}\nhint: a larger --set data.{part}_fraction, or a file of its own: --{part} FILE",
        path.display()
    )]
    EmptySplit {
        /// The file of the first example.
        path: PathBuf,
        /// `train`, `validation` or `test`.
        part: &'static str,
        /// Examples to split.
        examples: usize,
        /// The fraction asked for.
        fraction: f64,
    },
    /// No tokenizer in the directory.
    #[error("{}: no tokenizer here; expected tokenizer.json, vocab.txt, vocab.json with merges.txt, sentencepiece.bpe.model, or spm.model\nhint: copy the tokenizer files that came with the model there", dir.display())]
    NoTokenizer {
        /// The model directory.
        dir: PathBuf,
    },
    /// A tokenizer file that cannot be read.
    #[error("{}: not a readable tokenizer file: {message}\nhint: the file is damaged or of a kind that is not known; fetch the model again", path.display())]
    Tokenizer {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        message: String,
    },
    /// A maximum length that leaves no room for text.
    #[error("max_length = {max_length} leaves no room for text: the tokenizer adds {added} special tokens{}\nhint: set max_length to {} or more", if *pair { " to a pair" } else { "" }, added + 1)]
    MaxLength {
        /// The length asked for, in tokens.
        max_length: usize,
        /// Special tokens that the tokenizer adds.
        added: usize,
        /// Whether the input is a pair.
        pair: bool,
    },
    /// The tokenizer makes ids that the model has no embedding for.
    #[error(
        "{}: the tokenizer does not fit the model: token `{token}` has id {id}, the model has {vocab_size} embeddings\nhint: use the tokenizer files that came with the model",
        dir.display()
    )]
    WrongTokenizer {
        /// The tokenizer's directory, or its file.
        dir: PathBuf,
        /// A token beyond the model's vocabulary.
        token: String,
        /// Its id.
        id: u32,
        /// The model's vocabulary size.
        vocab_size: usize,
    },
    /// The tokenizer makes token types that the model has no embedding for.
    #[error(
        "{}: the tokenizer does not fit the model: it gives tokens the type {type_id}, the model has {type_vocab_size} types\nhint: use the tokenizer files that came with the model",
        path.display()
    )]
    WrongTokenType {
        /// The tokenizer's file.
        path: PathBuf,
        /// The type beyond.
        type_id: u32,
        /// How many types the model has.
        type_vocab_size: usize,
    },
    /// The tokenizer failed on a text.
    #[error("cannot tokenize {} with {}: {message}\nhint: the tokenizer file is damaged or of a kind that is not known; fetch the model again", place.as_ref().map_or_else(|| "the text".to_owned(), |place| format!("the text at {place}")), path.display())]
    Tokenize {
        /// The tokenizer's file.
        path: PathBuf,
        /// Where the text stands, if it came from a file.
        place: Option<Place>,
        /// The tokenizer's message.
        message: String,
    },
    /// A file that is no picture, or not a whole one.
    #[error("{}: {reason}\nhint: replace or remove the file; a training run leaves it out with --set data.on_bad_example=skip", path.display())]
    Picture {
        /// The file.
        path: PathBuf,
        /// What was expected, what was found.
        reason: String,
    },
    /// Files of a set that are no pictures.
    #[error("{}: {count} of {of} pictures cannot be used:\n  {named}\nhint: replace or remove them; or leave them out: --set data.on_bad_example=skip", path.display())]
    BadPictures {
        /// The folder or table.
        path: PathBuf,
        /// How many.
        count: usize,
        /// Of how many.
        of: usize,
        /// The first of them, with reasons.
        named: String,
    },
    /// A folder without pictures.
    #[error("{}: no pictures here; expected .jpg, .png, .webp, .gif or .bmp files\nhint: check the path", path.display())]
    NoPictures {
        /// The folder.
        path: PathBuf,
    },
    /// A link to nothing.
    #[error("{}: a link to {}, which is not there\nhint: mend or remove the link", path.display(), to.display())]
    DeadLink {
        /// The link.
        path: PathBuf,
        /// Where it leads.
        to: PathBuf,
    },
    /// Two folders that could be one part of a dataset.
    #[error("{}: cannot tell which folder is the {part} part: {}\nhint: rename one, or name the parts with data.train, data.validation and data.test", path.display(), quoted_list(folders, LISTED))]
    TwoParts {
        /// The folder of the dataset.
        path: PathBuf,
        /// Which part.
        part: &'static str,
        /// The folders.
        folders: Vec<String>,
    },
    /// Parts of a dataset without one to train on.
    #[error("{}: expected a training part, such as `train`, found only {}\nhint: name the folder to train on itself", path.display(), quoted_list(folders, LISTED))]
    NoTrainPart {
        /// The folder of the dataset.
        path: PathBuf,
        /// Its folders.
        folders: Vec<String>,
    },
    /// Parts of a dataset inside of its classes.
    #[error("{}: each class holds the folders {}, expected the classes inside of the parts\nhint: turn them round: {}/{class} and so on", path.display(), quoted_list(parts, LISTED), parts.first().map_or("", String::as_str))]
    PartsInClasses {
        /// The folder of the dataset.
        path: PathBuf,
        /// A class.
        class: String,
        /// The parts in it.
        parts: Vec<String>,
    },
    /// A folder of a class without pictures.
    #[error("{}: the class has no pictures; expected .jpg, .png, .webp, .gif or .bmp files\nhint: remove the folder, or put its pictures there", path.display())]
    EmptyClass {
        /// The class's folder.
        path: PathBuf,
    },
    /// A folder without folders.
    #[error("{}: expected one folder for each class, found none{}\nhint: put the pictures of each class into a folder of its name, or give a table of paths and labels", path.display(), if *loose > 0 { format!(" but {loose} pictures") } else { String::new() })]
    NoClasses {
        /// The folder.
        path: PathBuf,
        /// Pictures that lie in it.
        loose: usize,
    },
    /// A folder without texts.
    #[error("{}: no texts here; expected .txt or .md files\nhint: check the path; conversations are read from a single .jsonl, .json, .csv or .parquet file", path.display())]
    NoTexts {
        /// The folder.
        path: PathBuf,
    },
    /// A chat template that cannot be read, or that is no template.
    #[error("{}{}: not a usable chat template: {message}\nhint: fetch the model again, or put a chat_template.jinja of your own beside its tokenizer", path.display(), line.map_or_else(String::new, |line| format!(", line {line} of the template")))]
    Template {
        /// The file.
        path: PathBuf,
        /// 1-based line of the template.
        line: Option<usize>,
        /// What is wrong.
        message: String,
    },
    /// A chat template that does too much: it loops, or fills the memory.
    #[error("{}: the chat template was stopped{}: {message}\nhint: a template that does so much is damaged, or made to do harm; use another chat_template.jinja", path.display(), place.as_ref().map_or_else(String::new, |place| format!(" on the conversation at {place}")))]
    TemplateLimit {
        /// The file.
        path: PathBuf,
        /// The conversation, if it came from a file.
        place: Option<Place>,
        /// Which limit.
        message: String,
    },
    /// A base model without a token that ends a text.
    #[error("{}: the model has neither a chat template nor an end-of-text token\nhint: put a chat_template.jinja beside the tokenizer, or set eos_token in tokenizer_config.json", dir.display())]
    NoEndToken {
        /// The model directory.
        dir: PathBuf,
    },
    /// Turns that cannot be answered.
    #[error("{reason}\nhint: {}", reason.hint())]
    Prompt {
        /// What is wrong with them.
        reason: BadReason,
    },
    /// A window without room for a token to learn.
    #[error("max_length = {max_length} with an overlap of {overlap} leaves no token to learn\nhint: set max_length to {} or more", overlap + 2)]
    Window {
        /// The length asked for, in tokens.
        max_length: usize,
        /// The overlap asked for, in tokens.
        overlap: usize,
    },
    /// Windows that would share more with one another than they hold.
    #[error(
        "max_length = {max_length} leaves nothing new in a window that shares {overlap} tokens with the one before\nhint: set max_length to {least} or more, or a smaller overlap"
    )]
    Overlap {
        /// The length asked for, in tokens.
        max_length: usize,
        /// The overlap asked for, in tokens.
        overlap: usize,
        /// The smallest length that would do.
        least: usize,
    },
    /// Token ids that the tokenizer cannot turn into text.
    #[error("cannot turn token ids into text with {}: {message}\nhint: the tokenizer file is damaged or of a kind that is not known; fetch the model again", path.display())]
    Detokenize {
        /// The tokenizer's file.
        path: PathBuf,
        /// The tokenizer's message.
        message: String,
    },
    /// A JSON schema, a regular expression or a grammar that answers cannot be held to.
    #[error("{name}{}: {message}\nhint: {hint}", place.as_ref().map_or_else(String::new, |place| format!(" at {place}")))]
    Constraint {
        /// What it is, or its file.
        name: String,
        /// Where in a schema, as a JSON pointer.
        place: Option<String>,
        /// What is wrong.
        message: String,
        /// What to do.
        hint: &'static str,
    },
    /// A constraint that could not be followed to the end of an answer.
    #[error(
        "{name}: an answer cannot go on: {message}\nhint: allow less: bounds on lengths and fewer alternatives cost less"
    )]
    ConstraintStopped {
        /// What it is, or its file.
        name: String,
        /// Why not.
        message: String,
    },
    /// A tokenizer whose tokens are not pieces of text that only need to be joined.
    #[error("{}: answers of this tokenizer cannot be held to JSON or another form: {message}\nhint: expected tokens of bytes, as in GPT-2, Llama 3 and Qwen, or pieces of text, as in Llama 2", path.display())]
    TokenBytes {
        /// The tokenizer's file.
        path: PathBuf,
        /// What is not known of it.
        message: String,
    },
    /// The background thread's batch function panicked: a bug, not a mistake of the user.
    #[error("batch {index} could not be made: {message}")]
    BatchPanicked {
        /// Index of the batch in its epoch.
        index: usize,
        /// The panic's message.
        message: String,
    },
    /// The system gave no thread.
    #[error("cannot start the loader thread: {source}")]
    Thread {
        /// The system's error.
        source: io::Error,
    },
}

/// Unknown labels with their numbers of rows, the first ones, and where the first of them stands.
fn unknown_labels(labels: &BTreeMap<String, usize>, first: &Place) -> String {
    let named = labels
        .iter()
        .take(LISTED)
        .map(|(label, rows)| format!("`{label}` ({})", counted(*rows, "row", "rows")));
    let named: Vec<String> = named.collect();
    let more = match labels.len() - named.len() {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    format!(
        "{}{more}, the first in line {}",
        named.join(", "),
        first.line
    )
}

/// The column that a hint names. For a label: one with a label's name, else the first that is no id.
fn likeliest(candidates: &[String], role: Role) -> &str {
    let is_id = |name: &&String| {
        let name = name.trim_end_matches(|c: char| c.is_ascii_digit());
        name.to_lowercase().ends_with("id")
    };
    let named = candidates.iter().find(|name| is_label_name(name));
    let other = candidates.iter().find(|name| !is_id(name));
    let likely = match role {
        Role::Label => named.or(other),
        _ => None,
    };
    likely.or(candidates.first()).map_or("0", String::as_str)
}
