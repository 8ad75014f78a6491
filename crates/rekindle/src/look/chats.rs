//! Conversations, prompts with completions, and texts to continue; and what they share with preferences: the encoder, what is
//! shown of a sequence, prompts as they are compared.

use super::{
    Cut, Finding, From, Looked, LookedAt, LookedToken, copies,
    cut::WHOLE,
    findings::{Row, beginning, named, normalised, together},
    first, part_words,
    parts::{Parts, parts},
    parts_words, tokens_words,
};
use crate::{
    Error, data_summary,
    examples::left_out,
    inputs::{self, Chats, Inputs, chat_encoder, saved_encoder, spoken},
    report::DataSummary,
    spread::Spread,
};
use rekindle_base::{counted, rng, thousands};
use rekindle_data::{
    TargetEncoder,
    chat::{ChatEncoder, ChatKind, ChatRole, Conversation, EncodedChat, Message},
};
use rekindle_models::TextLimits;
use std::collections::BTreeSet;

pub(super) fn look(from: &From<'_>) -> Result<Looked, Error> {
    let limits = inputs::decoder_limits(from.pretrained)?;
    let (encoder, mut notes) = chat_encoder(from.config, from.pretrained, limits)?;
    let Parts {
        sets,
        notes: of_file,
        refused: mut findings,
        ..
    } = parts::<Vec<Conversation>>(from)?;
    notes.extend(of_file);
    let encode = |(part, rows)| Ok((part, Chats::encode(rows, &encoder)?));
    let sets: Vec<(&'static str, Chats)> =
        sets.into_iter().map(encode).collect::<Result<_, Error>>()?;
    for (_, set) in &sets {
        notes.extend(left_out("conversations", &set.encoded().skipped));
    }
    notes.push(encoder.template().source().to_string());

    let rows: Vec<Row> = sets
        .iter()
        .flat_map(|(part, set)| set.rows().iter().map(|row| prompt_row(part, row)))
        .collect();
    let nouns = match sets.iter().flat_map(|(_, set)| set.rows()).all(is_text) {
        true => ("text", "texts"),
        false => ("prompt", "prompts"),
    };
    let (of_copies, of_near, groups) = copies(&rows, nouns);
    findings.extend(of_copies);
    notes.extend(of_near);
    let answers: Vec<String> = sets
        .iter()
        .flat_map(|(_, set)| set.rows().iter().map(answer))
        .collect();
    findings.extend(other_answers(&rows, &answers, &groups));

    let cut = cut(from, limits, &encoder, &sets)?;
    let lengths = lengths(&sets);
    let length = Spread::whole("length", "tokens", &lengths);
    let of_rows: usize = sets.iter().map(|(_, set)| set.rows().len()).sum();
    let windows = match lengths.len() == of_rows {
        true => String::new(),
        false => format!(" in {} sequences", thousands(lengths.len() as u64)),
    };
    let learned: usize = sets.iter().map(|(_, set)| set.encoded().counted()).sum();
    let summary = format!(
        "{}{windows}, {}, {} of them learned, {} cut{}",
        counted(of_rows, "row", "rows"),
        tokens_words(&lengths, length.as_ref()),
        thousands(learned as u64),
        counted(cut.examples as usize, "row", "rows"),
        parts_words(sets.iter().map(|(part, set)| (*part, set.rows().len())))
    );
    let turns = sets.iter().flat_map(|(_, set)| set.rows());
    let turns: Vec<u32> = turns
        .filter(|row| !is_text(row))
        .map(|row| row.messages.len() as u32)
        .collect();
    let name = |set: usize, row: usize| {
        (
            sets[set].1.rows()[row].place.to_string(),
            part_words(sets[set].0),
        )
    };
    Ok(Looked {
        examples: shown(&sets, &encoder, "learned", from.rows, name),
        summary,
        data: data(&sets, &encoder, "conversation"),
        spreads: length
            .into_iter()
            .chain(Spread::whole("turns", "messages", &turns))
            .collect(),
        cut: Some(cut),
        findings,
        notes,
    })
}

fn is_text(row: &Conversation) -> bool {
    matches!(row.kind, ChatKind::Text(_))
}

/// Sizes of the parts, as a report has them.
pub(super) fn data(
    sets: &[(&'static str, Chats)],
    encoder: &ChatEncoder,
    noun: &str,
) -> DataSummary {
    let inputs: Vec<(&str, &dyn Inputs)> = sets
        .iter()
        .map(|(part, set)| (*part, set as &dyn Inputs))
        .collect();
    DataSummary {
        max_length: encoder.max_length().unwrap_or(0) as u64,
        ..data_summary::of_sets(&inputs, &TargetEncoder::Next, noun)
    }
}

/// Lengths of all sequences.
pub(super) fn lengths(sets: &[(&'static str, Chats)]) -> Vec<u32> {
    sets.iter()
        .flat_map(|(_, set)| set.encoded().lengths())
        .collect()
}

/// What is cut: rows that are too long are encoded once more, whole.
pub(super) fn cut(
    from: &From<'_>,
    limits: &TextLimits,
    encoder: &ChatEncoder,
    sets: &[(&'static str, Chats)],
) -> Result<Cut, Error> {
    let mut long: Vec<Conversation> = Vec::new();
    for (_, set) in sets {
        let encoded = set.encoded();
        let cut = encoded.items.iter().zip(&encoded.sources);
        let cut: BTreeSet<usize> = cut
            .filter(|(item, _)| item.cut)
            .map(|(_, &row)| row)
            .collect();
        long.extend(cut.into_iter().map(|row| set.rows()[row].clone()));
    }
    let whole = match long.is_empty() {
        true => Vec::new(),
        false => {
            let mut config = from.config.clone();
            config.data.max_length = WHOLE;
            let limits = TextLimits {
                positions: WHOLE,
                ..limits.clone()
            };
            saved_encoder(&config, from.pretrained.dir(), &limits)?
                .encode(&long)?
                .lengths()
        }
    };
    let max_length = encoder.max_length().unwrap_or(limits.positions);
    Ok(Cut::new(
        max_length,
        limits.positions,
        &lengths(sets),
        &whole,
    ))
}

/// The sequences of the first rows of the training file. `counts` says what counting means, `name` gives the place of a row of a
/// set, and what is added to its size.
pub(super) fn shown(
    sets: &[(&'static str, Chats)],
    encoder: &ChatEncoder,
    counts: &str,
    rows: usize,
    name: impl Fn(usize, usize) -> (String, String),
) -> Vec<LookedAt> {
    let file = sets[0].1.rows().first().map(|row| &row.place.path);
    let mut lines = BTreeSet::new();
    let mut keys: Vec<Vec<Option<(u64, usize)>>> = Vec::new();
    for (_, set) in sets {
        let key = |(item, &row): (usize, &usize)| {
            let place = &set.rows()[row].place;
            (Some(&place.path) == file).then_some((place.line, item))
        };
        let of_set: Vec<_> = set.encoded().sources.iter().enumerate().map(key).collect();
        lines.extend(of_set.iter().flatten().map(|(line, _)| *line));
        keys.push(of_set);
    }
    // A row may have several sequences: the answers of a pair, the windows of a long text.
    let last = lines.into_iter().take(rows).next_back();
    let is_text = sets.iter().flat_map(|(_, set)| set.rows()).all(is_text);
    let most = if is_text { rows } else { usize::MAX };
    for key in keys.iter_mut().flatten() {
        *key = key.filter(|(line, _)| last.is_some_and(|last| *line <= last));
    }
    let shown = first(&keys, most).into_iter().map(|(part, index)| {
        let set = &sets[part].1;
        let item: &EncodedChat = &set.encoded().items[index];
        let counted = item.counts.iter().filter(|&&counts| counts).count();
        let (place, more) = name(part, set.encoded().sources[index]);
        LookedAt {
            place,
            size: format!(
                "{} tokens, {counted} {counts}{}{more}",
                item.ids.len(),
                if item.cut { ", cut" } else { "" }
            ),
            tokens: encoder
                .marked(item)
                .into_iter()
                .map(|(text, learned)| LookedToken { text, learned })
                .collect(),
        }
    });
    shown.collect()
}

/// A row by its prompt: all turns before the last answer, but for what the system says, which is its context. Of a text the whole.
pub(super) fn prompt_row(part: &'static str, row: &Conversation) -> Row {
    let system = |turn: &&Message| matches!(turn.role, ChatRole::System | ChatRole::Developer);
    let (context, text) = match &row.kind {
        ChatKind::Text(whole) => (0, normalised(whole)),
        _ => {
            let turns = before_answer(row);
            let context: Vec<Message> = turns.iter().filter(system).cloned().collect();
            let said: Vec<Message> = turns.iter().filter(|turn| !system(turn)).cloned().collect();
            let context = rng::named(0, &normalised(&spoken(&context)));
            (context, normalised(&words(&said)))
        }
    };
    Row {
        part,
        text,
        context,
        label: None,
        place: row.place.to_string(),
    }
}

/// What turns say, one after the other; of a single turn without who speaks.
fn words(turns: &[Message]) -> String {
    let extra = |turn: &Message| match turn.extra.is_empty() {
        true => String::new(),
        false => format!(" {}", serde_json::Value::Object(turn.extra.clone())),
    };
    let text = |turn: &Message| format!("{}{}", turn.content.as_deref().unwrap_or(""), extra(turn));
    match turns {
        [only] => text(only),
        _ => turns
            .iter()
            .map(|turn| format!("{}: {}", turn.role, text(turn)))
            .collect::<Vec<_>>()
            .join("\n"),
    }
}

/// The turns before the last one of the assistant.
fn before_answer(row: &Conversation) -> &[Message] {
    let last = row
        .messages
        .iter()
        .rposition(|turn| turn.role == ChatRole::Assistant);
    &row.messages[..last.unwrap_or(row.messages.len())]
}

/// The last answer and what follows, as it is compared.
pub(super) fn answer(row: &Conversation) -> String {
    normalised(&words(&row.messages[before_answer(row).len()..]))
}

/// Prompts that have several answers.
fn other_answers(rows: &[Row], answers: &[String], groups: &[Vec<usize>]) -> Option<Finding> {
    let several = |group: &&Vec<usize>| {
        let answers: BTreeSet<&str> = group.iter().map(|&row| answers[row].as_str()).collect();
        answers.len() > 1
    };
    let several: Vec<&Vec<usize>> = groups.iter().filter(several).collect();
    let (found, more) = named(&several, |group| {
        let of: Vec<&Row> = group.iter().map(|&row| &rows[row]).collect();
        let said = |&row: &usize| format!("{:?}", beginning(&answers[row]));
        let said: BTreeSet<String> = group.iter().map(said).collect();
        let said: Vec<String> = said.into_iter().take(2).collect();
        together(
            &of,
            format!("{}: {}", beginning(&of[0].text), said.join(" and ")),
        )
    });
    (!several.is_empty()).then(|| Finding {
        kind: "several_answers",
        warning: false,
        said: format!(
            "{} more than once with different answers",
            counted(several.len(), "prompt stands", "prompts stand")
        ),
        count: several.len() as u64,
        found,
        more,
        hint: "a model learns to give each of them now and then; keep the best one where one is right",
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::look::duplicates::groups;

    fn row(system: &str, asked: &str, answered: &str) -> Conversation {
        Conversation {
            messages: vec![
                Message::new(ChatRole::System, system),
                Message::new(ChatRole::User, asked),
                Message::new(ChatRole::Assistant, answered),
            ],
            kind: ChatKind::Chat,
            ..Conversation::text("")
        }
    }

    #[test]
    fn prompts_are_compared_without_the_system() {
        let of = [
            row("be kind", "Lamp  on", "ok"),
            row("be kind", "lamp on", "done"),
            row("be brief", "lamp on", "ok"),
            row("be kind", "door", "ok"),
        ];
        let rows: Vec<Row> = of.iter().map(|row| prompt_row("train", row)).collect();
        assert_eq!(rows[0].text, "lamp on");
        let answers: Vec<String> = of.iter().map(answer).collect();
        let groups = groups(&rows);
        assert_eq!(groups, [vec![0, 1]]);
        let found = other_answers(&rows, &answers, &groups).unwrap();
        assert_eq!(found.count, 1);
        assert!(
            found.found[0].remark.contains("\"done\" and \"ok\""),
            "{found:?}"
        );
        assert!(other_answers(&rows, &vec!["ok".into(); 4], &groups).is_none());
    }
}
