//! Texts and pairs of texts with classes, sets of labels, or numbers.

use super::{
    Cut, Finding, From, Looked, LookedAt, LookedToken, copies,
    cut::WHOLE,
    findings::{Row, SECOND, beginning, named, normalised, together},
    first_lines, part_words,
    parts::{Parts, parts, refused},
    parts_words, suspicious, tokens_words,
};
use crate::{
    Error, data_summary,
    inputs::{self, Inputs, Texts},
    report::DataSummary,
    spread::Spread,
};
use rekindle_base::{counted, first_of, thousands};
use rekindle_data::{
    EncodedSet, Example, Place, TargetEncoder, TargetKind, TargetRow, TextEncoder,
};

pub(super) fn look(from: &From<'_>) -> Result<Looked, Error> {
    let limits = inputs::text_limits(from.pretrained, from.config)?;
    let (encoder, note) =
        inputs::encoder(from.pretrained.dir(), from.config.data.max_length, limits)?;
    let Parts {
        sets,
        encoder: mut targets,
        mut notes,
        refused: mut findings,
        ..
    } = parts::<Vec<Example>>(from)?;
    notes.extend(note);
    // Labels of another part that training does not have.
    if let Some(known) = &targets
        && let Some(error) = sets.iter().find_map(|(_, set)| known.encode_all(set).err())
    {
        findings.push(refused(&error));
        targets = None;
    }
    let encode = |(part, set)| Ok((part, Texts::encode(set, &encoder, targets.as_ref())?));
    let sets: Vec<(&'static str, Texts)> =
        sets.into_iter().map(encode).collect::<Result<_, Error>>()?;
    let targets = targets.unwrap_or(TargetEncoder::Next);
    let inputs: Vec<(&str, &dyn Inputs)> = sets
        .iter()
        .map(|(part, set)| (*part, set as &dyn Inputs))
        .collect();
    let data = DataSummary {
        max_length: encoder.max_length().unwrap_or(0) as u64,
        ..data_summary::of_sets(&inputs, &targets, "text")
    };

    let mut rows: Vec<Row> = Vec::new();
    for (part, set) in &sets {
        let names = targets.names();
        let of_set = set.examples().iter().enumerate();
        rows.extend(of_set.map(|(index, example)| row(part, example, label(set, index, names))));
    }
    let (of_copies, of_near, groups) = copies(&rows, ("text", "texts"));
    findings.extend(of_copies);
    notes.extend(of_near);
    if targets.kind() == TargetKind::Class {
        findings.extend(rare(&data));
        let (found, of_labels) = doubtful(&rows, &groups);
        findings.extend(found);
        notes.extend(of_labels);
    }

    let lengths: Vec<u32> = sets
        .iter()
        .flat_map(|(_, set)| set.encoded().lengths())
        .collect();
    let texts = sets.iter().map(|(_, set)| (set.examples(), set.encoded()));
    let cut = cut(from, &encoder, texts, &lengths, limits.positions)?;
    let length = Spread::whole("length", "tokens", &lengths);
    let summary = format!(
        "{}, {}, {} cut{}",
        counted(lengths.len(), "row", "rows"),
        tokens_words(&lengths, length.as_ref()),
        counted(cut.examples as usize, "row", "rows"),
        parts_words(sets.iter().map(|(part, set)| (*part, set.len())))
    );
    let mut spreads: Vec<Spread> = length.into_iter().collect();
    for (column, number) in data.numbers.iter().enumerate() {
        let values = inputs
            .iter()
            .flat_map(|(_, set)| data_summary::column_of(set.targets(), column));
        spreads.extend(Spread::real(&number.name, &values.collect::<Vec<_>>()));
    }
    Ok(Looked {
        examples: shown(&sets, &encoder, from.rows),
        summary,
        data,
        spreads,
        cut: Some(cut),
        findings,
        notes,
    })
}

fn row(part: &'static str, example: &Example, label: Option<String>) -> Row {
    let mut text = normalised(&example.text);
    if let Some(pair) = &example.text_pair {
        text.push(SECOND);
        text += &normalised(pair);
    }
    Row {
        part,
        text,
        context: 0,
        label,
        place: example.place.to_string(),
    }
}

/// A label as it is compared: the class, or the set of labels, that it is read as.
fn label(set: &Texts, index: usize, names: &[String]) -> Option<String> {
    let written = set.examples()[index].label.as_ref()?;
    let targets = set.targets();
    if targets.is_empty() {
        return Some(written.to_string());
    }
    Some(match targets.row(index) {
        TargetRow::Class(class) => names[class as usize].clone(),
        TargetRow::Classes(truth) => {
            let given = names.iter().zip(truth).filter(|(_, given)| **given);
            given
                .map(|(name, _)| name.as_str())
                .collect::<Vec<_>>()
                .join(", ")
        }
        _ => written.to_string(),
    })
}

fn shown(sets: &[(&'static str, Texts)], encoder: &TextEncoder, rows: usize) -> Vec<LookedAt> {
    let places: Vec<Vec<&Place>> = sets
        .iter()
        .map(|(_, set)| {
            set.examples()
                .iter()
                .map(|example| &example.place)
                .collect()
        })
        .collect();
    let token = |&id: &u32| LookedToken::new(encoder, id, false);
    let shown = first_lines(&places, rows).into_iter().map(|(part, index)| {
        let (name, set) = &sets[part];
        let (example, item) = (&set.examples()[index], &set.encoded().items[index]);
        let label = example.label.as_ref();
        LookedAt {
            place: example.place.to_string(),
            size: format!(
                "{} tokens{}{}{}",
                item.ids.len(),
                if item.truncated { ", cut" } else { "" },
                label
                    .map(|label| format!(", label {label}"))
                    .unwrap_or_default(),
                part_words(name)
            ),
            tokens: item.ids.iter().map(token).collect(),
        }
    });
    shown.collect()
}

/// Bytes of a text that are encoded together to see how long it is: a tokenizer takes hundreds of bytes for each.
const PIECE: usize = 1 << 18;

/// The lengths of texts in tokens, whatever they are cut to, in any order. Of those longer than a piece the tokens of the pieces
/// are counted; a word that one ends in may count twice.
fn whole_lengths(encoder: &TextEncoder, texts: Vec<Example>) -> Result<Vec<u32>, Error> {
    let bytes =
        |example: &Example| example.text.len() + example.text_pair.as_ref().map_or(0, String::len);
    let (long, short): (Vec<Example>, Vec<Example>) = texts
        .into_iter()
        .partition(|example| bytes(example) > PIECE);
    let mut lengths = encoder.encode_examples(&short, None)?.lengths();
    for example in long {
        let second = example.text_pair.as_deref();
        let mut length = encoder.encode("", second.map(|_| ""))?.ids.len();
        let added = encoder.encode("", None)?.ids.len();
        for text in std::iter::once(example.text.as_str()).chain(second) {
            for piece in pieces(text) {
                length += encoder.encode(piece, None)?.ids.len() - added;
            }
        }
        lengths.push(length as u32);
    }
    Ok(lengths)
}

/// A text in pieces, which end at a space if there is one near.
fn pieces(mut text: &str) -> Vec<&str> {
    const NEAR: usize = 256;
    let mut pieces = Vec::new();
    while text.len() > PIECE {
        let end = text.floor_char_boundary(PIECE);
        let near = text.floor_char_boundary(end - NEAR);
        let space = text[near..end].rfind(char::is_whitespace);
        let (piece, rest) = text.split_at(space.map_or(end, |at| near + at));
        pieces.push(piece);
        text = rest;
    }
    pieces.push(text);
    pieces
}

/// What is cut: the whole length of texts that are too long is counted once more.
pub(super) fn cut<'a>(
    from: &From<'_>,
    encoder: &TextEncoder,
    sets: impl Iterator<Item = (&'a [Example], &'a EncodedSet)>,
    lengths: &[u32],
    positions: usize,
) -> Result<Cut, Error> {
    let all = sets.flat_map(|(texts, set)| texts.iter().zip(&set.items));
    let long = all.filter(|(_, item)| item.truncated);
    let long: Vec<Example> = long.map(|(text, _)| text.clone()).collect();
    let whole = match long.is_empty() {
        true => Vec::new(),
        false => whole_lengths(
            &TextEncoder::from_dir(from.pretrained.dir(), Some(WHOLE))?,
            long,
        )?,
    };
    let max_length = encoder.max_length().unwrap_or(positions);
    Ok(Cut::new(max_length, positions, lengths, &whole))
}

/// Classes of which training has one example, or none.
fn rare(data: &DataSummary) -> Option<Finding> {
    let few = |count: Option<&u64>| count.is_none_or(|&count| count < 2);
    let names: Vec<String> = data
        .labels
        .iter()
        .filter(|label| few(label.counts.first()))
        .map(|label| format!("{:?}", label.name))
        .collect();
    (!names.is_empty()).then(|| Finding {
        kind: "rare_labels",
        warning: true,
        said: format!(
            "{} only one example for training or none: {}",
            counted(names.len(), "label has", "labels have"),
            first_of(&names)
        ),
        count: names.len() as u64,
        found: Vec::new(),
        more: 0,
        hint: "add examples, or give such labels one name that they share: nothing is learned from one example",
    })
}

/// Texts whose neighbours have another label.
fn doubtful(rows: &[Row], groups: &[Vec<usize>]) -> (Option<Finding>, Option<String>) {
    let mut labels = suspicious::labels(rows, groups);
    // Labels that differ in case alone are told of elsewhere, all at once.
    labels.found.retain(|one| {
        let own = rows[one.row].label.as_deref().unwrap_or_default();
        own.to_lowercase() != one.label.to_lowercase()
    });
    let (found, more) = named(&labels.found, |one| {
        let own = rows[one.row].label.as_deref().unwrap_or_default();
        let mut all = vec![&rows[one.row]];
        all.extend(one.neighbours.iter().take(2).map(|&row| &rows[row]));
        let remark = format!(
            "{own:?}, but {} of the {} nearest texts are {:?}: {}",
            one.neighbours.len(),
            one.of,
            one.label,
            beginning(&rows[one.row].text)
        );
        let mut found = together(&all, remark);
        found.more = (one.neighbours.len() - (all.len() - 1)) as u64;
        found
    });
    let finding = (!labels.found.is_empty()).then(|| Finding {
        kind: "doubtful_labels",
        warning: false,
        said: format!(
            "{} for training {} a label that texts with the same rare words do not have",
            counted(labels.found.len(), "text", "texts"),
            if labels.found.len() == 1 {
                "has"
            } else {
                "have"
            }
        ),
        count: labels.found.len() as u64,
        found,
        more,
        hint: "read them: some are labelled wrongly, others differ in the one word that matters",
    });
    let note = (labels.asked < labels.of).then(|| {
        format!(
            "labels of {} of {} different training texts were held against their neighbours, for time",
            thousands(labels.asked as u64),
            thousands(labels.of as u64)
        )
    });
    (finding, note)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::look::TRAIN;
    use crate::report::LabelCounts;

    #[test]
    fn labels_of_one_example_are_named() {
        let label = |name: &str, counts: &[u64]| LabelCounts {
            name: name.into(),
            counts: counts.to_vec(),
        };
        let mut data = data_summary::of_sets(&[], &TargetEncoder::Next, "text");
        assert!(rare(&data).is_none());
        data.labels = vec![
            label("on", &[9, 1]),
            label("off", &[1, 0]),
            label("dim", &[0, 1]),
        ];
        let found = rare(&data).unwrap();
        assert_eq!(found.count, 2);
        assert!(found.said.contains("\"off\", \"dim\""), "{}", found.said);
        data.labels.truncate(1);
        assert!(rare(&data).is_none());
    }

    #[test]
    fn the_second_text_of_a_pair_counts() {
        let example = |text: &str, pair: &str| Example {
            text: text.into(),
            text_pair: Some(pair.into()),
            label: None,
            place: Place {
                path: std::path::Path::new("a.csv").into(),
                line: 1,
            },
        };
        let rows = [("a b", "c"), ("a", "b c"), ("A  B", " c")]
            .map(|(one, two)| row(TRAIN, &example(one, two), None));
        assert_ne!(rows[0].text, rows[1].text);
        assert_eq!(rows[0].text, rows[2].text);
    }
}
