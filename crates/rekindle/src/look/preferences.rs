//! Preferences: both answers of a pair, or the one that was judged, each with its prompt.

use super::{
    Finding, From, Looked, chats, copies,
    findings::{Row, SECOND, beginning, named, together},
    part_words,
    parts::{Parts, parts},
    parts_words, tokens_words,
};
use crate::{
    Error,
    examples::left_out,
    inputs::{self, Chats, chat_encoder},
    spread::Spread,
};
use rekindle_base::{counted, thousands};
use rekindle_data::chat::{Conversation, Preference};
use std::collections::HashMap;

/// Answers of a part: for each the row of its preference, and what it is.
type Names = Vec<(usize, &'static str)>;

pub(super) fn look(from: &From<'_>) -> Result<Looked, Error> {
    let limits = inputs::decoder_limits(from.pretrained)?;
    let (encoder, mut notes) = chat_encoder(from.config, from.pretrained, limits)?;
    let Parts {
        sets: read,
        notes: of_file,
        refused: mut findings,
        ..
    } = parts::<Vec<Preference>>(from)?;
    notes.extend(of_file);
    let sizes: Vec<(&'static str, usize)> =
        read.iter().map(|(part, set)| (*part, set.len())).collect();
    let rows: Vec<Row> = read
        .iter()
        .flat_map(|(part, set)| set.iter().map(|one| row(part, one)))
        .collect();
    let all_read: Vec<&Preference> = read.iter().flat_map(|(_, set)| set).collect();
    findings.extend(reversed(&rows, &all_read));
    let judged = all_read
        .iter()
        .all(|one| matches!(one, Preference::Judged { .. }));
    let nouns = if judged {
        ("answer", "answers")
    } else {
        ("prompt", "prompts")
    };
    let (of_copies, of_near, _) = copies(&rows, nouns);
    findings.extend(of_copies);
    notes.extend(of_near);

    let (mut sets, mut names): (Vec<(&'static str, Chats)>, Vec<Names>) = Default::default();
    for (part, set) in read {
        let (of_set, answers): (Names, Vec<Conversation>) =
            set.into_iter().enumerate().flat_map(answers).unzip();
        sets.push((part, Chats::encode(answers, &encoder)?));
        names.push(of_set);
    }
    for (_, set) in &sets {
        notes.extend(left_out("answers", &set.encoded().skipped));
    }
    notes.push(encoder.template().source().to_string());

    let cut = chats::cut(from, limits, &encoder, &sets)?;
    let lengths = chats::lengths(&sets);
    let length = Spread::whole("length", "tokens", &lengths);
    let of_answers: usize = names.iter().map(Vec::len).sum();
    let compared: usize = sets.iter().map(|(_, set)| set.encoded().counted()).sum();
    let summary = format!(
        "{} with {}, {}, {} of them compared, {} cut{}",
        counted(rows.len(), "row", "rows"),
        counted(of_answers, "answer", "answers"),
        tokens_words(&lengths, length.as_ref()),
        thousands(compared as u64),
        counted(cut.examples as usize, "answer", "answers"),
        parts_words(sizes.into_iter())
    );
    let turns = sets.iter().flat_map(|(_, set)| set.rows());
    let turns: Vec<u32> = turns.map(|row| row.messages.len() as u32).collect();
    let name = |set: usize, row: usize| {
        let (part, of_set) = &sets[set];
        let place = format!("{} {}", of_set.rows()[row].place, names[set][row].1);
        (place, part_words(part))
    };
    Ok(Looked {
        examples: chats::shown(&sets, &encoder, "compared", from.rows, name),
        summary,
        data: chats::data(&sets, &encoder, "answer"),
        spreads: length
            .into_iter()
            .chain(Spread::whole("turns", "messages", &turns))
            .collect(),
        cut: Some(cut),
        findings,
        notes,
    })
}

/// The answers of a preference, named.
fn answers((row, one): (usize, Preference)) -> Vec<((usize, &'static str), Conversation)> {
    match one {
        Preference::Pair { chosen, rejected } => {
            vec![((row, "chosen"), chosen), ((row, "rejected"), rejected)]
        }
        Preference::Judged { answer, wanted } => {
            vec![((row, judgement(wanted)), answer)]
        }
    }
}

fn judgement(wanted: bool) -> &'static str {
    if wanted { "wanted" } else { "not wanted" }
}

/// A pair by its prompt; an answer that was judged by prompt and answer, its judgement as the label.
fn row(part: &'static str, one: &Preference) -> Row {
    match one {
        Preference::Pair { chosen, .. } => chats::prompt_row(part, chosen),
        Preference::Judged { answer, wanted } => {
            let prompt = chats::prompt_row(part, answer);
            Row {
                text: format!("{}{SECOND}{}", prompt.text, chats::answer(answer)),
                label: Some(judgement(*wanted).to_owned()),
                ..prompt
            }
        }
    }
}

/// Pairs of which another one says the opposite.
fn reversed(rows: &[Row], read: &[&Preference]) -> Option<Finding> {
    let mut said: HashMap<(u64, &str, String, String), usize> = HashMap::new();
    let mut opposites: Vec<[&Row; 2]> = Vec::new();
    for (index, (row, one)) in rows.iter().zip(read).enumerate() {
        let Preference::Pair { chosen, rejected } = one else {
            continue;
        };
        let (better, worse) = (chats::answer(chosen), chats::answer(rejected));
        let opposite = (
            row.context,
            row.text.as_str(),
            worse.clone(),
            better.clone(),
        );
        if let Some(&other) = said.get(&opposite) {
            opposites.push([&rows[other], row]);
        }
        said.entry((row.context, &row.text, better, worse))
            .or_insert(index);
    }
    let (found, more) = named(&opposites, |pair| together(pair, beginning(&pair[1].text)));
    (!opposites.is_empty()).then(|| Finding {
        kind: "contradictions",
        warning: true,
        said: format!(
            "{} the opposite of another one with the same answers",
            counted(opposites.len(), "row says", "rows say")
        ),
        count: opposites.len() as u64,
        found,
        more,
        hint: "drop one of the two: together they teach nothing",
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use rekindle_data::chat::{ChatKind, ChatRole, Message};

    fn said(asked: &str, answered: &str) -> Conversation {
        Conversation {
            messages: vec![
                Message::new(ChatRole::User, asked),
                Message::new(ChatRole::Assistant, answered),
            ],
            kind: ChatKind::Completion { prompt: 1 },
            ..Conversation::text("")
        }
    }

    #[test]
    fn pairs_that_say_the_opposite_are_found() {
        let pair = |asked: &str, chosen: &str, rejected: &str| Preference::Pair {
            chosen: said(asked, chosen),
            rejected: said(asked, rejected),
        };
        let read = [
            pair("lamp", "on", "off"),
            pair("door", "on", "off"),
            pair("Lamp ", "OFF", "on"),
        ];
        let rows: Vec<Row> = read.iter().map(|one| row("train", one)).collect();
        let found = reversed(&rows, &read.iter().collect::<Vec<_>>()).unwrap();
        assert_eq!((found.count, found.found.len()), (1, 1));
        assert!(reversed(&rows[..2], &read[..2].iter().collect::<Vec<_>>()).is_none());
    }

    #[test]
    fn an_answer_that_is_wanted_and_not_is_a_contradiction() {
        let judged = |wanted| Preference::Judged {
            answer: said("lamp", "on"),
            wanted,
        };
        let rows: Vec<Row> = [true, false]
            .iter()
            .map(|&wanted| row("train", &judged(wanted)))
            .collect();
        let (found, notes, _) = copies(&rows, ("answer", "answers"));
        assert_eq!((found[0].kind, found[0].count), ("contradictions", 1));
        assert!(notes.is_empty());
    }
}
