//! How much is printed, and whether in colour and with progress bars: the options that every verb takes. They are set once,
//! before a verb runs.

use clap::{
    Args, ColorChoice, ValueEnum,
    builder::styling::{AnsiColor, Styles},
};
use std::{
    borrow::Cow,
    env,
    ffi::OsString,
    io::{self, IsTerminal},
    sync::OnceLock,
};

/// Where these options stand in help.
const HEADING: &str = "Global options";

/// The options that every verb takes, before or after it.
#[derive(Args, Clone, Debug, Default)]
pub struct GlobalArgs {
    /// Print errors and the result only
    #[arg(long, short, global = true, conflicts_with = "verbose", help_heading = HEADING)]
    quiet: bool,
    /// Print more: what was found where, which files were read, how long each phase took
    #[arg(long, short, global = true, help_heading = HEADING)]
    verbose: bool,
    /// Use colours; "auto" does on a terminal, as NO_COLOR and CLICOLOR_FORCE say
    #[arg(long, global = true, value_enum, default_value_t, value_name = "WHEN", help_heading = HEADING)]
    color: When,
    /// Show no progress: neither bars nor lines of steps
    #[arg(long, global = true, help_heading = HEADING)]
    no_progress: bool,
}

impl GlobalArgs {
    /// The same for a process whose every word another one says.
    pub fn silenced(self) -> Self {
        Self {
            quiet: true,
            verbose: false,
            ..self
        }
    }
}

/// When colours are used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum When {
    #[default]
    Auto,
    Always,
    Never,
}

/// How much is printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verbosity {
    /// Errors and the result.
    Quiet,
    #[default]
    Usual,
    Verbose,
}

/// How progress is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    Bars,
    /// A line now and then, where there is no terminal to draw on.
    Lines,
    Hidden,
}

/// What holds for this process.
#[derive(Debug)]
pub struct Terminal {
    pub verbosity: Verbosity,
    pub progress: Progress,
    /// Whether standard output is in colour.
    pub colours_out: bool,
    /// Whether standard error is in colour.
    pub colours_err: bool,
}

static TERMINAL: OnceLock<Terminal> = OnceLock::new();

/// Sets what holds for this process; the first call counts.
pub fn set(arguments: &GlobalArgs) {
    TERMINAL.get_or_init(|| Terminal::of(arguments));
}

/// What holds for this process: what was set, else what goes without any option.
pub fn get() -> &'static Terminal {
    TERMINAL.get_or_init(|| Terminal::of(&GlobalArgs::default()))
}

impl Terminal {
    fn of(arguments: &GlobalArgs) -> Self {
        let verbosity = match (arguments.quiet, arguments.verbose) {
            (true, _) => Verbosity::Quiet,
            (false, true) => Verbosity::Verbose,
            (false, false) => Verbosity::Usual,
        };
        let hidden = arguments.no_progress || verbosity == Verbosity::Quiet;
        Self {
            verbosity,
            progress: match (hidden, io::stderr().is_terminal()) {
                (true, _) => Progress::Hidden,
                (false, true) => Progress::Bars,
                (false, false) => Progress::Lines,
            },
            colours_out: colours(arguments.color, io::stdout().is_terminal()),
            colours_err: colours(arguments.color, io::stderr().is_terminal()),
        }
    }
}

/// Whether to use colours: as asked, else as the variables say that programs have agreed on, else on a terminal.
fn colours(when: When, is_terminal: bool) -> bool {
    let variable = |name: &str| env::var(name).ok().filter(|value| !value.is_empty());
    match when {
        When::Always => true,
        When::Never => false,
        When::Auto if variable("NO_COLOR").is_some() => false,
        When::Auto if variable("CLICOLOR_FORCE").is_some_and(|value| value != "0") => true,
        When::Auto => {
            is_terminal
                && variable("CLICOLOR").is_none_or(|value| value != "0")
                && variable("TERM").is_none_or(|value| value != "dumb")
        }
    }
}

/// Characters that a line of standard output has room for; in a pipe or a file any number, for what reads it wants everything.
pub fn width() -> usize {
    let width = terminal_size::terminal_size_of(io::stdout());
    width.map_or(usize::MAX, |(width, _)| width.0.into())
}

/// What the arguments say of colours, before they are read as a whole: help and mistakes in them have colours too.
pub fn asked_colours(arguments: impl Iterator<Item = OsString>) -> ColorChoice {
    let arguments: Vec<String> = arguments
        .map(|argument| argument.to_string_lossy().into_owned())
        .take_while(|argument| argument != "--")
        .collect();
    let mut named = arguments.iter().enumerate().filter_map(|(i, argument)| {
        match argument.strip_prefix("--color")? {
            "" => arguments.get(i + 1).map(String::as_str),
            rest => rest.strip_prefix('='),
        }
    });
    match named.next_back() {
        Some("always") => ColorChoice::Always,
        Some("never") => ColorChoice::Never,
        _ => ColorChoice::Auto,
    }
}

/// The colours of help and of mistakes in the arguments: cargo's.
pub const STYLES: Styles = Styles::styled()
    .header(AnsiColor::BrightGreen.on_default().bold())
    .usage(AnsiColor::BrightGreen.on_default().bold())
    .literal(AnsiColor::BrightCyan.on_default().bold())
    .placeholder(AnsiColor::Cyan.on_default())
    .error(AnsiColor::BrightRed.on_default().bold())
    .valid(AnsiColor::BrightCyan.on_default().bold())
    .invalid(AnsiColor::BrightYellow.on_default().bold());

/// The beginnings of lines that have a colour, with that colour.
const MARKS: [(&str, &str); 3] = [
    ("error:", "\x1b[1;91m"),
    ("warning:", "\x1b[1;93m"),
    ("hint:", "\x1b[1;96m"),
];

/// Text with the words "error:", "warning:" and "hint:" in colour where a line begins with them.
pub fn painted(text: &str, colours: bool) -> Cow<'_, str> {
    if !colours || !MARKS.iter().any(|(word, _)| text.contains(word)) {
        return Cow::Borrowed(text);
    }
    let mut out = String::new();
    for line in text.split_inclusive('\n') {
        let words = line.trim_start();
        let space = &line[..line.len() - words.len()];
        let mark = MARKS.iter().find(|(word, _)| words.starts_with(word));
        match mark {
            Some((word, colour)) => {
                out += &format!("{space}{colour}{word}\x1b[0m{}", &words[word.len()..]);
            }
            None => out += line,
        }
    }
    Cow::Owned(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_at_the_beginning_of_a_line_are_coloured() {
        let text = "error: no file\n     hint: name one\nthe hint: stays\n";
        assert_eq!(
            painted(text, true),
            "\x1b[1;91merror:\x1b[0m no file\n     \x1b[1;96mhint:\x1b[0m name one\nthe hint: stays\n"
        );
        assert_eq!(painted(text, false), text);
        assert_eq!(painted("warning: x", true), "\x1b[1;93mwarning:\x1b[0m x");
    }

    #[test]
    fn colours_are_known_before_the_arguments_are_read() {
        let asked = |line: &str| asked_colours(line.split(' ').map(OsString::from));
        assert_eq!(asked("rekindle --help"), ColorChoice::Auto);
        assert_eq!(asked("rekindle look --color always"), ColorChoice::Always);
        assert_eq!(asked("rekindle --color=never look"), ColorChoice::Never);
        assert_eq!(
            asked("rekindle predict m -- --color always"),
            ColorChoice::Auto
        );
        assert_eq!(asked("rekindle --color"), ColorChoice::Auto);
    }
}
