//! Questions about texts.

use super::{
    From, Looked, LookedAt, LookedToken, copies,
    findings::{Row, normalised},
    first_lines, part_words,
    parts::{Parts, parts},
    parts_words, tokens_words, windows_words,
};
use crate::{
    Error, data_summary,
    examples::on_bad,
    inputs::{self, Inputs, QuestionReader, Questions},
    report::DataSummary,
    spread::Spread,
    tasks::in_words,
};
use rekindle_base::counted;
use rekindle_data::{Place, TargetEncoder, questions::Question};

pub(super) fn look(from: &From<'_>) -> Result<Looked, Error> {
    let limits = inputs::text_limits(from.pretrained, from.config)?;
    let Parts {
        sets,
        mut notes,
        refused: mut findings,
        ..
    } = parts::<Vec<Question>>(from)?;
    let (dir, data, on_bad) = (
        from.pretrained.dir(),
        &from.config.data,
        on_bad(from.config),
    );
    let (reader, note) = QuestionReader::new(dir, data, on_bad, limits)?;
    notes.extend(note);
    let encode = |(part, questions): (&'static str, Vec<Question>)| {
        Ok((part, Questions::encode(questions, &reader)?))
    };
    let sets = sets.into_iter().map(encode);
    let sets = sets.collect::<Result<Vec<_>, Error>>()?;
    notes.extend(sets.iter().flat_map(|(_, set)| set.left_out()));
    let inputs: Vec<(&str, &dyn Inputs)> = sets
        .iter()
        .map(|(part, set)| (*part, set as &dyn Inputs))
        .collect();
    let data = DataSummary {
        max_length: reader.encoder().max_length().unwrap_or(0) as u64,
        ..data_summary::of_sets(&inputs, &TargetEncoder::Answer, "question")
    };
    let mut rows: Vec<Row> = Vec::new();
    for (part, set) in &sets {
        let questions = 0..set.len();
        rows.extend(questions.map(|example| row(part, set.asked().question(example))));
    }
    let (of_copies, of_near, _) = copies(&rows, ("question", "questions"));
    findings.extend(of_copies);
    notes.extend(of_near);

    let lengths: Vec<u32> = inputs
        .iter()
        .flat_map(|(_, set)| set.lengths().unwrap_or_default())
        .collect();
    let length = Spread::whole("length", "tokens", &lengths);
    let windows: usize = sets
        .iter()
        .map(|(_, set)| set.asked().set().windows.len())
        .sum();
    let summary = format!(
        "{}, {}, {}{}",
        counted(lengths.len(), "question", "questions"),
        tokens_words(&lengths, length.as_ref()),
        counted(windows, "window", "windows"),
        parts_words(sets.iter().map(|(part, set)| (*part, set.len())))
    );
    Ok(Looked {
        examples: shown(&sets, &reader, from.rows),
        summary,
        data,
        spreads: length.into_iter().collect(),
        cut: None,
        findings,
        notes,
    })
}

/// The answers of a question, as they are compared and shown.
fn answers_of(question: &Question) -> Option<String> {
    let answers = question.answers.as_ref()?.iter();
    Some(in_words(answers.map(|answer| &answer.text)))
}

/// A question is the same where its text is: both are compared.
fn row(part: &'static str, question: &Question) -> Row {
    Row {
        part,
        text: normalised(&format!("{} {}", question.question, question.context)),
        context: 0,
        label: answers_of(question),
        place: question.place.to_string(),
    }
}

fn shown(
    sets: &[(&'static str, Questions)],
    reader: &QuestionReader,
    rows: usize,
) -> Vec<LookedAt> {
    let places: Vec<Vec<&Place>> = sets
        .iter()
        .map(|(_, set)| {
            let place = |example| &set.asked().question(example).place;
            (0..set.len()).map(place).collect()
        })
        .collect();
    let shown = first_lines(&places, rows)
        .into_iter()
        .map(|(part, example)| {
            let (name, set) = &sets[part];
            let asked = set.asked();
            let question = asked.question(example);
            let windows = asked.windows_of(example);
            let mut looked = Vec::new();
            for window in windows.clone() {
                let ids = asked.set().set.items[window].ids.iter();
                let answer = asked.set().windows[window]
                    .answer
                    .filter(|ends| *ends != (0, 0));
                looked.extend((0..).zip(ids).map(|(token, &id)| {
                    let learned = answer.is_some_and(|(start, end)| (start..=end).contains(&token));
                    LookedToken::new(reader.encoder(), id, learned)
                }));
            }
            LookedAt {
                place: question.place.to_string(),
                size: format!(
                    "{} tokens{}{}{}",
                    looked.len(),
                    windows_words(windows.len()),
                    answers_of(question).map_or_else(String::new, |answers| format!(", {answers}")),
                    part_words(name)
                ),
                tokens: looked,
            }
        });
    shown.collect()
}
