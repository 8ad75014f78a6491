//! Which part of a rendered conversation is an assistant's turn.
//!
//! Where the template marks it with `{% generation %}`, that is it. Else a turn begins where the rendering of the turns
//! before it, with the prompt for an answer, ends: at the text the model starts from when it answers. It ends where the
//! rendering of the turns up to it ends. A template that rewrites earlier turns, or writes something behind the last,
//! makes one of the two no beginning of the whole; then the turn's own text is looked for, by rendering once more with
//! marks around it that must change nothing else.
//!
//! The token that ends the turn is part of it; what the template writes behind that is not.

use std::ops::Range;

use super::template::{CLOSE, ChatTemplate, Failed, OPEN, TemplateSource};
use super::{ChatKind, ChatRole, Conversation, Message};

/// A rendered conversation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Rendered {
    pub text: String,
    /// Byte ranges of the assistant's turns that can count, in order.
    pub turns: Vec<Range<usize>>,
    /// Whether a token counts that only reaches into a turn: for the marks of the template's author, as transformers
    /// has it. Else a token counts that begins in one.
    pub by_overlap: bool,
}

/// Why a conversation was not rendered.
#[derive(Debug)]
pub(super) enum Problem {
    Template(Failed),
    /// The turn with this index was not found.
    NotFound(usize),
    /// There is neither a template nor a token to end a turn with.
    NoEnd,
}

impl From<Failed> for Problem {
    fn from(failed: Failed) -> Self {
        Self::Template(failed)
    }
}

/// What renders conversations, and finds the turns in them.
pub(super) struct Renderer<'a> {
    pub template: &'a ChatTemplate,
    /// Texts of the tokens that are never cut, the longest first.
    pub added: &'a [String],
    /// The one that ends an assistant's turn.
    pub end_of_turn: Option<&'a str>,
    /// What stands between the prompt for an answer and the answer, such as a space.
    pub lead: &'a str,
    /// The one that ends a text.
    pub end_of_text: Option<&'a str>,
}

impl Renderer<'_> {
    /// Renders a conversation and finds the assistant's turns, or only the last one.
    pub fn conversation(&self, row: &Conversation, only_last: bool) -> Result<Rendered, Problem> {
        let first = match row.kind {
            ChatKind::Completion { prompt } => prompt,
            _ => 0,
        };
        let is_plain = *self.template.source() == TemplateSource::Plain;
        let mut rendered = match is_plain {
            true => self.plain(&row.messages, first)?,
            false => {
                let whole = self
                    .template
                    .render(&row.messages, row.tools.as_ref(), false)?;
                let (text, turns) = without_marks(&whole);
                match self.template.has_generation() && !turns.is_empty() {
                    true => self.marked(row, first, text, turns)?,
                    false => self.searched(row, first, text, only_last)?,
                }
            }
        };
        if only_last && rendered.turns.len() > 1 {
            rendered.turns.drain(..rendered.turns.len() - 1);
        }
        Ok(rendered)
    }

    /// The text from which the model answers.
    pub fn prompt(
        &self,
        messages: &[Message],
        tools: Option<&serde_json::Value>,
    ) -> Result<String, Problem> {
        if *self.template.source() == TemplateSource::Plain {
            return Ok(self.plain(messages, 0)?.text);
        }
        let whole = self.template.render(messages, tools, true)?;
        Ok(without_marks(&whole).0)
    }

    /// What stands in for a template: text and a line end, or what the assistant says and the end of the text. There is
    /// no line end where the text has white space at its end already: that depends on the prompt alone, so that a
    /// prompt without its answer is the beginning of one with it.
    fn plain(&self, messages: &[Message], first: usize) -> Result<Rendered, Problem> {
        let mut text = String::new();
        let mut turns = Vec::new();
        for (index, message) in messages.iter().enumerate() {
            let start = text.len();
            let content = message.content.as_deref().ok_or_else(|| Failed::Fails {
                line: None,
                message: format!("message {index} has no text, and the model no template for it"),
            })?;
            text.push_str(content);
            if message.role == ChatRole::Assistant {
                text.push_str(self.end_of_text.ok_or(Problem::NoEnd)?);
                if index >= first {
                    turns.push(start..text.len());
                }
            } else if !content.ends_with(char::is_whitespace) {
                text.push('\n');
            }
        }
        Ok(Rendered {
            text,
            turns,
            by_overlap: false,
        })
    }

    /// The turns as the template marks them. The token that ends a turn belongs to it also where the mark leaves it out.
    fn marked(
        &self,
        row: &Conversation,
        first: usize,
        text: String,
        mut turns: Vec<Range<usize>>,
    ) -> Result<Rendered, Problem> {
        let holds_marks = |text: &str| text.contains([OPEN, CLOSE]);
        let holds_marks = row.messages.iter().any(|message| {
            message.content.as_deref().is_some_and(holds_marks)
                || message
                    .extra
                    .values()
                    .any(|value| holds_marks(&value.to_string()))
        });
        if holds_marks {
            return Err(Failed::Fails {
                line: None,
                message: "a turn holds U+FDD0 or U+FDD1, which Unicode keeps out of texts"
                    .to_owned(),
            }
            .into());
        }
        let answers = |messages: &[Message]| {
            let answers = messages.iter();
            answers
                .filter(|message| message.role == ChatRole::Assistant)
                .count()
        };
        let of_prompt = answers(&row.messages[..first]);
        if of_prompt > 0 && turns.len() != answers(&row.messages) {
            return Err(Problem::NotFound(first));
        }
        turns.drain(..of_prompt);
        for turn in &mut turns {
            if let Some(end) = self.end_of_turn
                && text[turn.end..].starts_with(end)
            {
                turn.end += end.len();
            }
        }
        Ok(Rendered {
            text,
            turns,
            by_overlap: true,
        })
    }

    /// The turns as comparing renderings shows them.
    fn searched(
        &self,
        row: &Conversation,
        first: usize,
        text: String,
        only_last: bool,
    ) -> Result<Rendered, Problem> {
        let mut wanted: Vec<usize> = (first..row.messages.len())
            .filter(|&index| row.messages[index].role == ChatRole::Assistant)
            .collect();
        if only_last && wanted.len() > 1 {
            wanted.drain(..wanted.len() - 1);
        }
        let turns = wanted
            .into_iter()
            .map(|index| self.turn(row, index, &text))
            .collect::<Result<_, _>>()?;
        Ok(Rendered {
            text,
            turns,
            by_overlap: false,
        })
    }

    fn turn(&self, row: &Conversation, index: usize, text: &str) -> Result<Range<usize>, Problem> {
        let not_found = Problem::NotFound(index);
        let before = self.beginning(row, index, true)?;
        let before = before.filter(|before| text.starts_with(before));
        let up_to = match index + 1 == row.messages.len() {
            true => Some(text.to_owned()),
            false => self.beginning(row, index + 1, false)?,
        };
        let up_to = up_to.filter(|up_to| text.starts_with(up_to));
        // The turn's own text is looked for only where it must be.
        let content = match before.is_none() || up_to.is_none() {
            true => self.content(row, index, text)?,
            false => None,
        };
        let start = match (&before, &content) {
            (Some(before), _) => before.len(),
            (None, Some(content)) => match text[..content.start].ends_with(self.lead) {
                true => content.start - self.lead.len(),
                false => content.start,
            },
            (None, None) => return Err(not_found),
        };
        let block = up_to.map(|up_to| up_to.len()).filter(|&end| end > start);
        if let Some(end) = block.and_then(|end| self.end_of_block(text, start..end)) {
            return Ok(start..end);
        }
        // There is more in the block than the turn, or there is no block.
        let content = match content {
            None => self.content(row, index, text)?,
            content => content,
        };
        let end = match (block, content) {
            (_, Some(content)) if content.end >= start => self.end_behind(text, content.end),
            (Some(end), _) => end,
            _ => {
                let end = self.end_of_turn.ok_or(Problem::NotFound(index))?;
                start + text[start..].find(end).ok_or(not_found)? + end.len()
            }
        };
        Ok(start..end)
    }

    /// The rendering of the first `count` turns; none where the template will not have them alone.
    fn beginning(
        &self,
        row: &Conversation,
        count: usize,
        add_generation_prompt: bool,
    ) -> Result<Option<String>, Problem> {
        let messages = &row.messages[..count];
        match self
            .template
            .render(messages, row.tools.as_ref(), add_generation_prompt)
        {
            Ok(whole) => Ok(Some(without_marks(&whole).0)),
            Err(Failed::Limit(message)) => Err(Failed::Limit(message).into()),
            Err(_) => Ok(None),
        }
    }

    /// Where a turn's own text stands in the rendering `text`: found by marks around it, or around what follows its
    /// thoughts, that change nothing but themselves.
    fn content(
        &self,
        row: &Conversation,
        index: usize,
        text: &str,
    ) -> Result<Option<Range<usize>>, Problem> {
        let Some(content) = row.messages[index].content.as_deref() else {
            return Ok(None);
        };
        let end = content.trim_end().len();
        let behind_thoughts = content.rfind("</think>").map(|at| at + "</think>".len());
        for from in [Some(0), behind_thoughts].into_iter().flatten() {
            // Templates trim texts: the marks must stand where that does not reach.
            let start = content.len() - content[from..].trim_start().len();
            if start >= end || content.contains([OPEN, CLOSE]) {
                continue;
            }
            let mut messages = row.messages.clone();
            messages[index].content = Some(format!(
                "{}{OPEN}{}{CLOSE}{}",
                &content[..start],
                &content[start..end],
                &content[end..]
            ));
            match self.template.render(&messages, row.tools.as_ref(), false) {
                Ok(whole) => {
                    let (found, ranges) = without_marks(&whole);
                    if let ([range], true) = (ranges.as_slice(), found == text) {
                        return Ok(Some(range.clone()));
                    }
                }
                Err(Failed::Limit(message)) => return Err(Failed::Limit(message).into()),
                Err(_) => {}
            }
        }
        Ok(None)
    }

    /// The end of the turn in a block that holds nothing else: behind the token that ends it, or at the end where there
    /// is none. `None` where something follows that token.
    fn end_of_block(&self, text: &str, block: Range<usize>) -> Option<usize> {
        let inside = &text[block.clone()];
        if let Some(end) = self.end_of_turn
            && let Some(at) = inside.rfind(end)
        {
            let at = at + end.len();
            return self.is_filling(&inside[at..]).then_some(block.start + at);
        }
        let trimmed = inside.trim_end();
        let ends = self
            .added
            .iter()
            .any(|token| trimmed.ends_with(token.as_str()));
        Some(match ends {
            true => block.start + trimmed.len(),
            false => block.end,
        })
    }

    /// The end of a turn whose own text ends at `at`.
    fn end_behind(&self, text: &str, at: usize) -> usize {
        let behind = &text[at..];
        let trimmed = behind.trim_start();
        match self.end_of_turn {
            Some(end) if trimmed.starts_with(end) => at + behind.len() - trimmed.len() + end.len(),
            _ => {
                let mut added = self.added.iter();
                let token = added.find(|token| behind.starts_with(token.as_str()));
                at + token.map_or(0, String::len)
            }
        }
    }

    /// Whether a text is nothing but white space and tokens that are never cut.
    fn is_filling(&self, mut text: &str) -> bool {
        loop {
            text = text.trim_start();
            let mut added = self.added.iter();
            match added.find_map(|token| text.strip_prefix(token.as_str())) {
                Some(rest) => text = rest,
                None => return text.is_empty(),
            }
        }
    }
}

/// The text without marks, and what stood between them, outermost ones only.
fn without_marks(marked: &str) -> (String, Vec<Range<usize>>) {
    let mut text = String::with_capacity(marked.len());
    let mut ranges = Vec::new();
    let mut open = Vec::new();
    for character in marked.chars() {
        match character {
            OPEN => open.push(text.len()),
            CLOSE => {
                if let Some(start) = open.pop()
                    && open.is_empty()
                {
                    ranges.push(start..text.len());
                }
            }
            _ => text.push(character),
        }
    }
    (text, ranges)
}
