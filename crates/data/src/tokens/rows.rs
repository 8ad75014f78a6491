//! Rows of JSON: words with tags, or a text with spans, in the shapes of annotation tools.

use serde_json::{Map, Value};

use super::read::{Found, Sentence, TaggedOptions};
use super::{Characters, Span, TagReason, TaggedText};
use crate::tables::kind_of;
use crate::{BadReason, Column, Place};

/// Keys of words, of their tags, of texts, of spans, of the names of tags; the first that a row has counts.
const WORDS: [&str; 2] = ["tokens", "words"];
const TAGS: [&str; 5] = ["tags", "ner_tags", "labels", "label", "ner"];
const TEXTS: [&str; 3] = ["text", "sentence", "content"];
const SPANS: [&str; 5] = ["spans", "entities", "label", "labels", "annotations"];
const NAMES: [&str; 3] = ["names", "tag_names", "label_names"];
/// Keys inside a span.
const STARTS: [&str; 3] = ["start", "start_offset", "begin"];
const ENDS: [&str; 3] = ["end", "end_offset", "stop"];
const LABELS: [&str; 6] = ["label", "labels", "type", "entity", "entity_group", "tag"];

/// Reads rows, and keeps what one row says for those behind it.
pub(super) struct JsonRows<'a> {
    options: &'a TaggedOptions,
    names: Vec<String>,
    /// Rows that an annotator did not accept.
    pub rejected: usize,
    /// Spans that lost white space.
    pub trimmed: usize,
}

impl<'a> JsonRows<'a> {
    pub fn new(options: &'a TaggedOptions) -> Self {
        Self {
            options,
            names: options.names.clone(),
            rejected: 0,
            trimmed: 0,
        }
    }

    /// What a row holds; none where it only names tags, or was rejected.
    pub fn row(
        &mut self,
        mut row: Map<String, Value>,
        place: &Place,
    ) -> Result<Option<Found>, BadReason> {
        // A table has all columns in every row: null is none.
        row.retain(|_, value| !value.is_null());
        if let Some(key) = first(&row, &NAMES)
            && let Some(names) = strings(&row[key])
        {
            self.names = names;
            if first(&row, &WORDS).or(first(&row, &TEXTS)).is_none() {
                return Ok(None);
            }
        }
        if matches!(
            row.get("answer").and_then(Value::as_str),
            Some("reject" | "ignore")
        ) {
            self.rejected += 1;
            return Ok(None);
        }
        let is_words = |key: &&str| {
            let words = row[*key].as_array();
            words.is_some_and(|words| words.iter().all(Value::is_string))
        };
        let (words, text) = match &self.options.text {
            Some(Column::Name(name)) => {
                let key = Some(name.as_str()).filter(|key| row.contains_key(*key));
                let words = key.filter(is_words);
                (words, key.filter(|_| words.is_none()))
            }
            // Prodigy's tokens are objects, beside a text.
            _ => (first(&row, &WORDS).filter(is_words), first(&row, &TEXTS)),
        };
        match (words, text) {
            (Some(words), None) => self.words(&row, words, place).map(Some),
            (Some(words), Some(_))
                if self.tags_key(&row).is_some_and(|key| are_tags(&row[key])) =>
            {
                self.words(&row, words, place).map(Some)
            }
            (_, Some(text)) => self.text(&row, text, place).map(Some),
            (None, None) => match first(&row, &WORDS).filter(|_| self.options.text.is_none()) {
                Some(key) => Err(BadReason::WrongType {
                    column: key.to_owned(),
                    expected: "a list of words",
                    found: kind_of(&row[key]).to_owned(),
                }),
                None => Err(TagReason::NoText {
                    found: keys(&row),
                    wanted: self.options.text.as_ref().map(ToString::to_string),
                }
                .into()),
            },
        }
    }

    /// The key of the tags: the one asked for, a usual one, or the only one that ends with `_tags`.
    fn tags_key<'r>(&'r self, row: &'r Map<String, Value>) -> Option<&'r str> {
        if let Some(Column::Name(name)) = &self.options.tags {
            return row.contains_key(name).then_some(name);
        }
        first(row, &TAGS).or_else(|| {
            let mut others = row.keys().filter(|key| key.ends_with("_tags"));
            others
                .next()
                .filter(|_| others.next().is_none())
                .map(String::as_str)
        })
    }

    fn words(
        &self,
        row: &Map<String, Value>,
        words_key: &str,
        place: &Place,
    ) -> Result<Found, BadReason> {
        let words = strings(&row[words_key]).unwrap_or_default();
        if words.is_empty() {
            let key = words_key.to_owned();
            return Err(TagReason::NoWords { key }.into());
        }
        if let Some(at) = words.iter().position(|word| word.trim().is_empty()) {
            let at = format!("`{words_key}[{at}]`");
            return Err(TagReason::Empty { what: "word", at }.into());
        }
        let (tags, tags_in) = match self.tags_key(row) {
            None if self.options.require_tags => return Err(self.no_labels(row, &TAGS)),
            None => (None, String::new()),
            Some(key) => (Some(self.tags(&row[key], key)?), key.to_owned()),
        };
        if let Some(tags) = &tags
            && tags.len() != words.len()
        {
            let reason = TagReason::Counts {
                words_key: words_key.to_owned(),
                words: words.len(),
                tags_key: tags_in,
                tags: tags.len(),
            };
            return Err(reason.into());
        }
        Ok(Found::Words(Sentence {
            words,
            tags,
            lines: Vec::new(),
            tags_in,
            place: place.clone(),
        }))
    }

    /// Tags by name, or by number with the names that are known.
    fn tags(&self, value: &Value, key: &str) -> Result<Vec<String>, BadReason> {
        let wrong = |column: String, found: &Value| BadReason::WrongType {
            column,
            expected: "a list of tags, a name or a number for each word",
            found: kind_of(found).to_owned(),
        };
        let list = value
            .as_array()
            .ok_or_else(|| wrong(key.to_owned(), value))?;
        let tag = |(at, value): (usize, &Value)| {
            let place = || format!("{key}[{at}]");
            match value {
                Value::String(tag) if !tag.trim().is_empty() => Ok(tag.trim().to_owned()),
                Value::String(_) => Err(TagReason::Empty {
                    what: "tag",
                    at: format!("`{}`", place()),
                }
                .into()),
                Value::Number(_) => {
                    let number = whole(value).ok_or_else(|| wrong(place(), value))?;
                    let name = usize::try_from(number)
                        .ok()
                        .and_then(|at| self.names.get(at));
                    name.cloned().ok_or_else(|| {
                        let reason = TagReason::NoName {
                            tag: number,
                            at: format!("`{}`", place()),
                            names: self.names.len(),
                        };
                        reason.into()
                    })
                }
                other => Err(wrong(place(), other)),
            }
        };
        list.iter().enumerate().map(tag).collect()
    }

    fn text(
        &mut self,
        row: &Map<String, Value>,
        text_key: &str,
        place: &Place,
    ) -> Result<Found, BadReason> {
        let Value::String(text) = &row[text_key] else {
            return Err(BadReason::WrongType {
                column: text_key.to_owned(),
                expected: "text",
                found: kind_of(&row[text_key]).to_owned(),
            });
        };
        if text.trim().is_empty() {
            let column = text_key.to_owned();
            return Err(BadReason::EmptyText { column });
        }
        let key = match &self.options.tags {
            Some(Column::Name(name)) => row.contains_key(name).then_some(name.as_str()),
            _ => first(row, &SPANS),
        };
        let mut tagged = TaggedText::of_text(text.clone(), place.clone());
        match key {
            Some(key) => tagged.spans = Some(self.spans(&row[key], key, text)?),
            None if self.options.require_tags => return Err(self.no_labels(row, &SPANS)),
            None => {}
        }
        Ok(Found::Text(tagged))
    }

    fn no_labels(&self, row: &Map<String, Value>, usual: &[&str]) -> BadReason {
        let expected = match &self.options.tags {
            Some(Column::Name(name)) => vec![name.clone()],
            _ => usual.iter().map(|key| (*key).to_owned()).collect(),
        };
        let found = keys(row);
        TagReason::NoLabels { found, expected }.into()
    }

    /// The spans of a text, in order, without white space at their ends; the same span is kept once.
    fn spans(&mut self, value: &Value, key: &str, text: &str) -> Result<Vec<Span>, BadReason> {
        // spaCy has them in an object.
        let (value, key) = match value.get("entities") {
            Some(inner) => (inner, format!("{key}.entities")),
            None => (value, key.to_owned()),
        };
        let Value::Array(list) = value else {
            return Err(BadReason::WrongType {
                column: key,
                expected: "a list of spans",
                found: kind_of(value).to_owned(),
            });
        };
        let characters = Characters::new(text);
        let mut spans = Vec::with_capacity(list.len());
        for (at, value) in list.iter().enumerate() {
            let at = format!("`{key}[{at}]`");
            let (span, was_trimmed) = span(value, at, &characters)?;
            self.trimmed += usize::from(was_trimmed);
            spans.push(span);
        }
        spans.sort();
        spans.dedup();
        let named = |span: &Span| format!("{} to {} (`{}`)", span.start, span.end, span.label);
        match spans.windows(2).find(|pair| pair[0].end > pair[1].start) {
            Some(pair) => Err(TagReason::Overlap {
                first: named(&pair[0]),
                second: named(&pair[1]),
            }
            .into()),
            None => Ok(spans),
        }
    }
}

/// A span of any shape, and whether it lost white space.
fn span(value: &Value, at: String, characters: &Characters<'_>) -> Result<(Span, bool), BadReason> {
    let not_a_span = |found: &str| {
        let found = found.to_owned();
        let at = at.clone();
        BadReason::from(TagReason::NotASpan { at, found })
    };
    // Label Studio has the span in `value`.
    let value = value
        .get("value")
        .filter(|value| value.is_object())
        .unwrap_or(value);
    let part = |keys: &[&str]| keys.iter().find_map(|key| value.get(key));
    let (start, end, label) = match value {
        Value::Array(parts) => (parts.first(), parts.get(1), parts.get(2)),
        Value::Object(_) => (part(&STARTS), part(&ENDS), part(&LABELS)),
        other => return Err(not_a_span(kind_of(other))),
    };
    let start = start
        .and_then(whole)
        .ok_or_else(|| not_a_span("no whole number as start"))?;
    let end = end
        .and_then(whole)
        .ok_or_else(|| not_a_span("no whole number as end"))?;
    let label = match label {
        Some(Value::Array(labels)) if labels.len() == 1 => labels[0].as_str(),
        Some(label) => label.as_str(),
        None => None,
    };
    let label = label.ok_or_else(|| not_a_span("no text as label"))?.trim();
    if label.is_empty() {
        return Err(TagReason::Empty { what: "label", at }.into());
    }
    let length = characters.len();
    let range = match (usize::try_from(start), usize::try_from(end)) {
        (Ok(start), Ok(end)) if start <= end && end <= length => start..end,
        _ => {
            let reason = TagReason::Outside {
                at,
                start,
                end,
                characters: length,
            };
            return Err(reason.into());
        }
    };
    let trimmed = characters.trimmed(range.clone());
    if trimmed.is_empty() {
        return Err(TagReason::EmptySpan { at, start, end }.into());
    }
    let stands = characters.slice(trimmed.clone());
    match value.get("text").and_then(Value::as_str) {
        Some(said) if said.trim() != stands => Err(TagReason::OtherText {
            at,
            said: said.trim().to_owned(),
            stands: stands.to_owned(),
        }
        .into()),
        _ => Ok((
            Span {
                start: trimmed.start,
                end: trimmed.end,
                label: label.to_owned(),
            },
            trimmed != range,
        )),
    }
}

/// The first of `keys` that a row has.
fn first<'k>(row: &Map<String, Value>, keys: &[&'k str]) -> Option<&'k str> {
    keys.iter().copied().find(|key| row.contains_key(*key))
}

fn keys(row: &Map<String, Value>) -> Vec<String> {
    row.keys().cloned().collect()
}

/// A list of strings.
fn strings(value: &Value) -> Option<Vec<String>> {
    let values = value.as_array()?.iter();
    values
        .map(|value| value.as_str().map(str::to_owned))
        .collect()
}

/// Whether a value can be the tags of words: names or numbers.
fn are_tags(value: &Value) -> bool {
    value.as_array().is_some_and(|values| {
        values
            .iter()
            .all(|value| value.is_string() || value.is_number())
    })
}

/// A whole number, also as a float.
fn whole(value: &Value) -> Option<i64> {
    let real = || {
        value
            .as_f64()
            .filter(|real| real.fract() == 0.0 && real.abs() < 1e15)
    };
    value.as_i64().or_else(|| real().map(|real| real as i64))
}
