//! Texts whose words have labels.

use super::{
    From, Looked, LookedAt, LookedToken, copies,
    findings::{Row, normalised},
    first_lines, part_words,
    parts::{Parts, parts, refused},
    parts_words, tokens_words, windows_words,
};
use crate::{
    Error, data_summary,
    inputs::{self, Inputs, Tagged, Unit, WordReader, tags},
    report::DataSummary,
    spread::Spread,
};
use rekindle_base::counted;
use rekindle_data::{
    Place, TargetEncoder, TargetKind,
    tokens::{IGNORED, TaggedText, slice},
};

pub(super) fn look(from: &From<'_>) -> Result<Looked, Error> {
    let limits = inputs::text_limits(from.pretrained, from.config)?;
    let Parts {
        sets,
        encoder,
        by_words,
        mut notes,
        refused: mut findings,
    } = parts::<Vec<TaggedText>>(from)?;
    let (dir, data) = (from.pretrained.dir(), &from.config.data);
    let (reader, note) = WordReader::new(dir, data, by_words, limits)?;
    notes.extend(note);
    let mut known = encoder;
    // Where a run would refuse the labels, the texts can be looked at all the same.
    let nothing = TargetEncoder::from_names(TargetKind::Tags, vec!["O".to_owned()])?;
    let encode = |sets: &[(&'static str, Vec<TaggedText>)], known: Option<&TargetEncoder>| {
        let labels = tags(known.unwrap_or(&nothing))?;
        let encode = |(part, set): &(&'static str, Vec<TaggedText>)| {
            let learned = known.is_some();
            let set = Tagged::encode(set.clone(), &reader, labels, learned, Unit::Text)?;
            Ok((*part, set))
        };
        sets.iter().map(encode).collect::<Result<Vec<_>, Error>>()
    };
    let sets = match encode(&sets, known.as_ref()) {
        Err(error) if known.is_some() => {
            findings.push(refused(&error));
            known = None;
            encode(&sets, None)?
        }
        other => other?,
    };
    let inputs: Vec<(&str, &dyn Inputs)> = sets
        .iter()
        .map(|(part, set)| (*part, set as &dyn Inputs))
        .collect();
    let data = DataSummary {
        max_length: reader.encoder().max_length().unwrap_or(0) as u64,
        ..data_summary::of_sets(&inputs, known.as_ref().unwrap_or(&nothing), "text")
    };
    let mut rows: Vec<Row> = Vec::new();
    for (part, set) in &sets {
        rows.extend(set.texts().iter().map(|text| row(part, text)));
    }
    let (of_copies, of_near, _) = copies(&rows, ("text", "texts"));
    findings.extend(of_copies);
    notes.extend(of_near);

    let lengths: Vec<u32> = inputs
        .iter()
        .flat_map(|(_, set)| set.lengths().unwrap_or_default())
        .collect();
    let length = Spread::whole("length", "tokens", &lengths);
    let windows: usize = sets
        .iter()
        .map(|(_, set)| set.encoded().windows.len())
        .sum();
    let spans: usize = sets.iter().map(|(_, set)| set.encoded().spans).sum();
    let summary = format!(
        "{}, {}, {}, {}{}",
        counted(lengths.len(), "text", "texts"),
        tokens_words(&lengths, length.as_ref()),
        counted(spans, "span", "spans"),
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

/// The spans of a text, as they are compared and shown.
fn spans_of(text: &TaggedText) -> Option<String> {
    let spans = text.spans.as_ref()?.iter();
    let named = spans.map(|span| {
        let stands = slice(&text.text, span.start..span.end);
        format!("{}: {stands}", span.label)
    });
    Some(named.collect::<Vec<_>>().join("; "))
}

fn row(part: &'static str, text: &TaggedText) -> Row {
    Row {
        part,
        text: normalised(&text.text),
        context: 0,
        label: spans_of(text),
        place: text.place.to_string(),
    }
}

fn shown(sets: &[(&'static str, Tagged)], reader: &WordReader, rows: usize) -> Vec<LookedAt> {
    let places: Vec<Vec<&Place>> = sets
        .iter()
        .map(|(_, set)| set.texts().iter().map(|text| &text.place).collect())
        .collect();
    let shown = first_lines(&places, rows).into_iter().map(|(part, index)| {
        let (name, set) = &sets[part];
        let (text, tokens) = (&set.texts()[index], set.encoded());
        let windows = tokens.windows_of(index);
        let spans = spans_of(text).filter(|spans| !spans.is_empty());
        let mut looked = Vec::new();
        for window in windows.clone() {
            let ids = tokens.set.items[window].ids.iter();
            let labels = tokens.windows[window].labels.iter();
            looked.extend(
                ids.zip(labels)
                    .map(|(&id, &label)| LookedToken::new(reader.encoder(), id, label != IGNORED)),
            );
        }
        LookedAt {
            place: text.place.to_string(),
            size: format!(
                "{} tokens{}{}{}",
                looked.len(),
                windows_words(windows.len()),
                spans.map_or_else(String::new, |spans| format!(", {spans}")),
                part_words(name)
            ),
            tokens: looked,
        }
    });
    shown.collect()
}
