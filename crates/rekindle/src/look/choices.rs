//! Questions with choices.

use super::{
    From, Looked, LookedAt, LookedToken, copies,
    findings::{Row, normalised},
    first_lines, part_words,
    parts::{Parts, parts},
    parts_words, tokens_words,
};
use crate::{
    Error, data_summary,
    inputs::{self, Choices, Inputs},
    report::DataSummary,
    spread::Spread,
};
use rekindle_base::counted;
use rekindle_data::{Place, TargetEncoder, TextEncoder, choices::ChoiceQuestion};

pub(super) fn look(from: &From<'_>) -> Result<Looked, Error> {
    let limits = inputs::text_limits(from.pretrained, from.config)?;
    let Parts {
        sets,
        mut notes,
        refused: mut findings,
        ..
    } = parts::<Vec<ChoiceQuestion>>(from)?;
    let (dir, longest) = (from.pretrained.dir(), from.config.data.max_length);
    let (encoder, note) = inputs::encoder(dir, longest, limits)?;
    notes.extend(note);
    let encode = |(part, questions): (&'static str, Vec<ChoiceQuestion>)| {
        Ok((part, Choices::encode(questions, &encoder)?))
    };
    let sets = sets.into_iter().map(encode);
    let sets = sets.collect::<Result<Vec<_>, Error>>()?;
    notes.extend(sets.iter().filter_map(|(_, set)| set.alike()));
    let inputs: Vec<(&str, &dyn Inputs)> = sets
        .iter()
        .map(|(part, set)| (*part, set as &dyn Inputs))
        .collect();
    let data = DataSummary {
        max_length: encoder.max_length().unwrap_or(0) as u64,
        ..data_summary::of_sets(&inputs, &TargetEncoder::Choice, "question")
    };
    let questions = sets
        .iter()
        .flat_map(|(part, set)| set.posed().questions().map(|question| row(part, question)));
    let rows: Vec<Row> = questions.collect();
    let (of_copies, of_near, _) = copies(&rows, ("question", "questions"));
    findings.extend(of_copies);
    notes.extend(of_near);

    let lengths: Vec<u32> = sets
        .iter()
        .flat_map(|(_, set)| set.set().set.lengths())
        .collect();
    let length = Spread::whole("length", "tokens", &lengths);
    let cut: usize = sets.iter().map(|(_, set)| set.cut()).sum();
    let summary = format!(
        "{}, {}, {}{}{}",
        counted(rows.len(), "question", "questions"),
        counted(lengths.len(), "choice", "choices"),
        tokens_words(&lengths, length.as_ref()),
        match cut {
            0 => String::new(),
            cut => format!(", {} cut", counted(cut, "question", "questions")),
        },
        parts_words(sets.iter().map(|(part, set)| (*part, set.len())))
    );
    Ok(Looked {
        examples: shown(&sets, &encoder, from.rows),
        summary,
        data,
        spreads: length.into_iter().collect(),
        cut: None,
        findings,
        notes,
    })
}

/// A question is the same where its text and its choices are.
fn row(part: &'static str, question: &ChoiceQuestion) -> Row {
    let texts = [&question.question].into_iter().chain(&question.context);
    let texts: Vec<&str> = texts.chain(&question.choices).map(String::as_str).collect();
    Row {
        part,
        text: normalised(&texts.join(" ")),
        context: 0,
        label: question.right().map(str::to_owned),
        place: question.place.to_string(),
    }
}

/// The first questions, the right choice of each marked as what is learned.
fn shown(sets: &[(&'static str, Choices)], encoder: &TextEncoder, rows: usize) -> Vec<LookedAt> {
    let places: Vec<Vec<&Place>> = sets
        .iter()
        .map(|(_, set)| set.posed().questions().map(|q| &q.place).collect())
        .collect();
    let shown = first_lines(&places, rows)
        .into_iter()
        .map(|(part, example)| {
            let (name, set) = &sets[part];
            let question = set.posed().question(example);
            let mut looked = Vec::new();
            for (choice, item) in set.set().choices_of(example).enumerate() {
                let learned = question.answer == Some(choice);
                let ids = set.set().set.items[item].ids.iter();
                looked.extend(ids.map(|&id| LookedToken::new(encoder, id, learned)));
            }
            let right = question.right();
            LookedAt {
                place: question.place.to_string(),
                size: format!(
                    "{} tokens of {} choices{}{}",
                    looked.len(),
                    question.choices.len(),
                    right.map_or_else(String::new, |right| format!(", {right}")),
                    part_words(name)
                ),
                tokens: looked,
            }
        });
    shown.collect()
}
