//! Sentence templates: text with `(this|that)`, `[optional]`, `(in;any;order)`, `{list}` or `{list:slot}`, and `<rule>`.

/// A template, or a piece of one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Part {
    /// Text as it stands, spaces included.
    Text(String),
    /// One piece after the other.
    All(Vec<Part>),
    /// One of the pieces.
    One(Vec<Part>),
    /// The piece, or nothing.
    Maybe(Box<Part>),
    /// All pieces, in any order.
    AnyOrder(Vec<Part>),
    /// A value of a list, which fills a slot.
    Slot {
        /// The list.
        list: String,
        /// The slot, where a template names none the list's name.
        slot: String,
    },
    /// A template that is known by a name.
    Rule(String),
}

impl Part {
    /// Parse a template. The error says what is wrong and at which character.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let mut parser = Parser { text, at: 0 };
        parser
            .group(None)
            .map_err(|detail| format!("template {text:?}, byte {}: {detail}", parser.at))
    }
}

struct Parser<'a> {
    text: &'a str,
    /// In bytes, at the border of a character.
    at: usize,
}

impl Parser<'_> {
    fn next(&mut self) -> Option<char> {
        let found = self.text[self.at..].chars().next()?;
        self.at += found.len_utf8();
        Some(found)
    }

    /// Everything up to `close`, or to the end of the text.
    fn group(&mut self, close: Option<char>) -> Result<Part, String> {
        let mut items = vec![Vec::new()];
        let mut separator = None;
        loop {
            let found = self.next();
            if found == close {
                break;
            }
            let Some(found) = found else {
                return Err(format!(
                    "expected {:?}, found the end",
                    close.unwrap_or_default()
                ));
            };
            let part = match found {
                '|' | ';' => {
                    if separator.is_some_and(|other| other != found) {
                        return Err("expected one of `|` and `;` in a group, found both".into());
                    }
                    separator = Some(found);
                    items.push(Vec::new());
                    continue;
                }
                '(' => self.group(Some(')'))?,
                '[' => Part::Maybe(Box::new(self.group(Some(']'))?)),
                '{' => {
                    let name = self.name('}')?;
                    let (list, slot) = name.split_once(':').unwrap_or((name, name));
                    Part::Slot {
                        list: list.into(),
                        slot: slot.into(),
                    }
                }
                '<' => Part::Rule(self.name('>')?.into()),
                ')' | ']' | '}' | '>' => return Err(format!("nothing is open for {found:?}")),
                _ => {
                    let last = items.last_mut().and_then(|item| item.last_mut());
                    if let Some(Part::Text(text)) = last {
                        text.push(found);
                        continue;
                    }
                    Part::Text(found.into())
                }
            };
            if let Some(item) = items.last_mut() {
                item.push(part);
            }
        }
        let mut items: Vec<Part> = items.into_iter().map(all).collect();
        Ok(match separator {
            None => items.remove(0),
            Some('|') => Part::One(items),
            Some(_) => Part::AnyOrder(items),
        })
    }

    /// What stands before `close`, which is passed.
    fn name(&mut self, close: char) -> Result<&str, String> {
        let rest = &self.text[self.at..];
        let length = rest
            .find(close)
            .filter(|length| *length > 0)
            .ok_or_else(|| format!("expected a name and {close:?}"))?;
        self.at += length + close.len_utf8();
        Ok(&rest[..length])
    }
}

fn all(mut parts: Vec<Part>) -> Part {
    match parts.len() {
        1 => parts.remove(0),
        _ => Part::All(parts),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn text(text: &str) -> Part {
        Part::Text(text.into())
    }

    #[test]
    fn every_form_is_read() {
        let slot = |list: &str, slot: &str| Part::Slot {
            list: list.into(),
            slot: slot.into(),
        };
        let cases = [
            ("ring", text("ring")),
            ("(a|b c|)", {
                Part::One(vec![text("a"), text("b c"), Part::All(Vec::new())])
            }),
            (
                "bell[s| ]",
                Part::All(vec![
                    text("bell"),
                    Part::Maybe(Box::new(Part::One(vec![text("s"), text(" ")]))),
                ]),
            ),
            (
                "(é;{hours:left})",
                Part::AnyOrder(vec![text("é"), slot("hours", "left")]),
            ),
            (
                "<the> {area}",
                Part::All(vec![
                    Part::Rule("the".into()),
                    text(" "),
                    slot("area", "area"),
                ]),
            ),
        ];
        for (template, expect) in cases {
            assert_eq!(Part::parse(template).unwrap(), expect, "{template}");
        }
    }

    #[test]
    fn a_bad_template_is_named() {
        for (template, expect) in [
            ("ring (a|b", "byte 9: expected ')', found the end"),
            ("ring a]", "byte 7: nothing is open for ']'"),
            ("(a|b;c)", "byte 5: expected one of"),
            ("{area", "byte 1: expected a name and '}'"),
            ("<>", "byte 1: expected a name and '>'"),
        ] {
            let message = Part::parse(template).unwrap_err();
            assert!(message.contains(expect), "{template}: {message}");
        }
    }
}
