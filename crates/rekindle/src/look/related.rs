//! Texts that belong together.

use super::{
    From, Looked, LookedAt, LookedToken, copies,
    findings::{Row, SECOND, TRAIN, normalised},
    first_lines, part_words,
    parts::{Parts, parts, refused},
    parts_words,
    texts::cut,
    tokens_words,
};
use crate::{
    Error, data_summary,
    inputs::{
        self, Inputs,
        related::{Relations, check_comparable, check_learnable, scale_of},
    },
    report::DataSummary,
    spread::Spread,
};
use rekindle_base::{counted, thousands};
use rekindle_data::{
    EncodedSet, Place, TargetEncoder, TextEncoder,
    related::{RelatedTexts, Relation},
};

/// A part: its rows, and their texts as tokens.
type Part = (&'static str, Vec<RelatedTexts>, Relations);

pub(super) fn look(from: &From<'_>) -> Result<Looked, Error> {
    let limits = inputs::text_limits(from.pretrained, from.config)?;
    let (encoder, note) =
        inputs::encoder(from.pretrained.dir(), from.config.data.max_length, limits)?;
    let Parts {
        sets,
        mut notes,
        refused: mut findings,
        ..
    } = parts::<Vec<RelatedTexts>>(from)?;
    notes.extend(note);
    let learned = sets.iter().find(|(part, _)| *part == TRAIN);
    let refusal = learned.map(|(_, rows)| check_learnable(rows, from.config));
    let others = sets.iter().filter(|(part, _)| *part != TRAIN);
    let others = others.map(|(part, rows)| check_comparable(rows, part));
    let all = refusal.into_iter().chain(others);
    findings.extend(all.filter_map(Result::err).map(|error| refused(&error)));
    let scale = sets.first().map_or(1.0, |(_, rows)| scale_of(rows));
    let encode = |(part, rows): (&'static str, Vec<RelatedTexts>)| {
        let set = Relations::encode(&rows, &encoder, scale, from.config.seed)?;
        Ok((part, rows, set))
    };
    let sets: Vec<Part> = sets.into_iter().map(encode).collect::<Result<_, Error>>()?;
    let inputs: Vec<(&str, &dyn Inputs)> = sets
        .iter()
        .map(|(part, _, set)| (*part, set as &dyn Inputs))
        .collect();
    let data = DataSummary {
        max_length: encoder.max_length().unwrap_or(0) as u64,
        ..data_summary::of_sets(&inputs, &TargetEncoder::Related, "row")
    };
    let rows = |(part, rows, _): &Part| -> Vec<Row> {
        rows.iter().map(|related| row(part, related)).collect()
    };
    let rows: Vec<Row> = sets.iter().flat_map(rows).collect();
    let (of_copies, of_near, _) = copies(&rows, ("row", "rows"));
    findings.extend(of_copies);
    notes.extend(of_near);

    let texts = |(_, _, set): &Part| set.encoded().lengths();
    let lengths: Vec<u32> = sets.iter().flat_map(texts).collect();
    let texts = sets.iter().map(|(_, _, set)| (set.texts(), set.encoded()));
    let cut = cut(from, &encoder, texts, &lengths, limits.positions)?;
    let length = Spread::whole("length", "tokens", &lengths);
    let summary = format!(
        "{}, {} different texts, {}, {} cut{}",
        counted(rows.len(), "row", "rows"),
        thousands(lengths.len() as u64),
        tokens_words(&lengths, length.as_ref()),
        counted(cut.examples as usize, "text", "texts"),
        parts_words(sets.iter().map(|(part, rows, _)| (*part, rows.len())))
    );
    Ok(Looked {
        examples: shown(&sets, &encoder, from.rows),
        summary,
        data,
        spreads: length.into_iter().collect(),
        cut: Some(cut),
        findings,
        notes,
    })
}

/// What the texts of a row have to do with each other, where the row says it.
fn relation(row: &RelatedTexts) -> Option<String> {
    match &row.relation {
        Relation::Positive => None,
        Relation::Score(score) => Some(score.to_string()),
        Relation::Label(label) => Some(label.clone()),
    }
}

/// Rows are the same where all their texts are.
fn row(part: &'static str, related: &RelatedTexts) -> Row {
    let texts: Vec<String> = related.texts.iter().map(|text| normalised(text)).collect();
    Row {
        part,
        text: texts.join(&SECOND.to_string()),
        context: 0,
        label: relation(related),
        place: related.place.to_string(),
    }
}

/// The first rows, each text's tokens behind those of the one before.
fn shown(sets: &[Part], encoder: &TextEncoder, most: usize) -> Vec<LookedAt> {
    let places: Vec<Vec<&Place>> = sets
        .iter()
        .map(|(_, rows, _)| rows.iter().map(|row| &row.place).collect())
        .collect();
    let first = first_lines(&places, most).into_iter();
    let shown = first.map(|(part, index)| {
        let (name, rows, set) = &sets[part];
        let of_set: &EncodedSet = set.encoded();
        let items = set.texts_of(index).iter();
        let items: Vec<_> = items.map(|&text| &of_set.items[text as usize]).collect();
        let sizes: Vec<String> = items
            .iter()
            .map(|item| match item.truncated {
                true => format!("{} (cut)", item.ids.len()),
                false => item.ids.len().to_string(),
            })
            .collect();
        let word = match rows[index].relation {
            Relation::Label(_) => "label",
            _ => "score",
        };
        LookedAt {
            place: rows[index].place.to_string(),
            size: format!(
                "{} tokens{}{}",
                sizes.join(" + "),
                relation(&rows[index]).map_or_else(String::new, |of| format!(", {word} {of}")),
                part_words(name)
            ),
            tokens: items
                .iter()
                .flat_map(|item| &item.ids)
                .map(|&id| LookedToken::new(encoder, id, false))
                .collect(),
        }
    });
    shown.collect()
}
