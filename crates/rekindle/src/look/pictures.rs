//! Pictures: sizes, odd ones, files that stand more than once, and pictures that look the same.

use super::{
    Finding, From, Looked, LookedAt, duplicates,
    findings::{Row, TRAIN, named, percent, together},
    first, part_words,
    parts::{Parts, parts},
    parts_words,
};
use crate::{
    Error, data_summary,
    examples::on_bad,
    inputs::{self, Inputs, Pictures},
    spread::Spread,
};
use rekindle_base::{counted, thousands};
use rekindle_data::{
    Examples, TargetEncoder, Targets,
    image::{ImageSet, PictureFacts, SmallPicture},
};
use std::collections::HashMap;

/// Pictures that are decoded, to be held against each other.
const MOST_DECODED: usize = 2_000;
/// Pixels that are decoded for that, in all.
const MOST_PIXELS: usize = 500_000_000;
/// A picture whose longer side is more than so many times its shorter one is odd.
const FAR_FROM_SQUARE: f64 = 3.0;

pub(super) fn look(from: &From<'_>) -> Result<Looked, Error> {
    let model = from.pretrained.config();
    let pictures = model.pictures.as_ref().ok_or_else(|| Error::ModelDir {
        path: from.pretrained.dir().to_owned(),
        reason: format!(
            "this is a model for texts ({}), not for pictures",
            model.family
        ),
        hint: "name a model for pictures, or set another task".into(),
    })?;
    let preprocess = inputs::preprocess(pictures, &from.config.images);
    let Parts {
        sets,
        encoder,
        mut notes,
        refused: mut findings,
    } = parts::<ImageSet>(from)
        .map_err(|error| inputs::holds_texts(from.config).unwrap_or(error))?;

    let facts: Vec<Vec<PictureFacts>> = sets
        .iter()
        .map(|(_, set)| Ok(set.facts()?))
        .collect::<Result<_, Error>>()?;
    let all: Vec<(usize, usize)> = (0..sets.len())
        .flat_map(|set| (0..sets[set].1.len()).map(move |index| (set, index)))
        .collect();
    let flat: Vec<&PictureFacts> = facts.iter().flatten().collect();
    let contents = contents(&sets, &all, &flat)?;
    let row = |(&(set, index), content): (&(usize, usize), String)| Row {
        part: sets[set].0,
        text: content,
        context: 0,
        label: label(&sets[set].1, index),
        place: sets[set].1.path(index).display().to_string(),
    };
    let rows: Vec<Row> = all.iter().zip(contents).map(row).collect();
    let groups = duplicates::groups(&rows);
    findings.extend(duplicates::findings(
        &rows,
        &groups,
        ("picture", "pictures"),
        false,
    ));
    let decoded = chosen(&flat);
    let small = small_pictures(&sets, &all, &decoded);
    findings.extend(look_alikes(&rows, &decoded, &small));
    findings.extend(odd(&rows, &flat, preprocess.crop));
    if decoded.len() < rows.len() {
        notes.push(format!(
            "{} of {} pictures were decoded and held against each other, for time: more may look the same",
            thousands(decoded.len() as u64),
            thousands(rows.len() as u64)
        ));
    }

    let keys: Vec<Vec<Option<String>>> = sets
        .iter()
        .map(|(_, set)| {
            let of_file = set.source() == sets[0].1.source();
            (0..set.len())
                .map(|index| of_file.then(|| set.name(index).to_owned()))
                .collect()
        })
        .collect();
    let examples = first(&keys, from.rows).into_iter().map(|(set, index)| {
        let facts = &facts[set][index];
        let label = label(&sets[set].1, index);
        LookedAt {
            place: sets[set].1.path(index).display().to_string(),
            size: format!(
                "{} x {} pixels{}{}",
                facts.width,
                facts.height,
                label
                    .map(|label| format!(", label {label}"))
                    .unwrap_or_default(),
                part_words(sets[set].0)
            ),
            tokens: Vec::new(),
        }
    });
    let examples = examples.collect();

    let shorter: Vec<u32> = flat
        .iter()
        .map(|facts| facts.width.min(facts.height) as u32)
        .collect();
    let longer: Vec<u32> = flat
        .iter()
        .map(|facts| facts.width.max(facts.height) as u32)
        .collect();
    let summary = format!(
        "{}; the model sees the middle {1} x {1} pixels of each, its shorter side made {2}{3}",
        counted(rows.len(), "picture", "pictures"),
        preprocess.crop,
        preprocess.resize,
        parts_words(sets.iter().map(|(part, set)| (*part, set.len())))
    );
    let targets = encoder.unwrap_or(TargetEncoder::Next);
    let mut inputs: Vec<(&'static str, Pictures)> = Vec::new();
    for (part, set) in sets {
        let of_set = match &targets {
            TargetEncoder::Next => Targets::None,
            encoder => set.targets(encoder)?,
        };
        inputs.push((
            part,
            Pictures::to_evaluate(set, of_set, &preprocess, on_bad(from.config)),
        ));
    }
    let inputs: Vec<(&str, &dyn Inputs)> = inputs
        .iter()
        .map(|(part, set)| (*part, set as &dyn Inputs))
        .collect();
    let data = data_summary::of_sets(&inputs, &targets, "picture");
    let mut spreads: Vec<Spread> = Spread::whole("shorter side", "pixels", &shorter)
        .into_iter()
        .collect();
    spreads.extend(Spread::whole("longer side", "pixels", &longer));
    for (column, number) in data.numbers.iter().enumerate() {
        let values = inputs
            .iter()
            .flat_map(|(_, set)| data_summary::column_of(set.targets(), column));
        spreads.extend(Spread::real(&number.name, &values.collect::<Vec<_>>()));
    }
    Ok(Looked {
        examples,
        summary,
        data,
        spreads,
        cut: None,
        findings,
        notes,
    })
}

fn label(set: &ImageSet, index: usize) -> Option<String> {
    match (set.class(index), set.labels(index)) {
        (Some(class), _) => Some(class.into_owned()),
        (None, []) => None,
        (None, names) => {
            let mut names = names.to_vec();
            names.sort();
            Some(names.join(", "))
        }
    }
}

/// What stands for the content of each picture: the length of its file, and a hash where another one is as long.
fn contents(
    sets: &[(&'static str, ImageSet)],
    all: &[(usize, usize)],
    facts: &[&PictureFacts],
) -> Result<Vec<String>, Error> {
    let mut of_length: HashMap<u64, usize> = HashMap::new();
    for facts in facts {
        *of_length.entry(facts.bytes).or_default() += 1;
    }
    let mut contents: Vec<String> = facts.iter().map(|facts| facts.bytes.to_string()).collect();
    for (wanted, (_, set)) in sets.iter().enumerate() {
        let is_read = |&at: &usize| all[at].0 == wanted && of_length[&facts[at].bytes] > 1;
        let read: Vec<usize> = (0..all.len()).filter(is_read).collect();
        let indices: Vec<usize> = read.iter().map(|&at| all[at].1).collect();
        for (at, content) in read.into_iter().zip(set.contents(&indices)?) {
            contents[at] = format!("{} {content:016x}", facts[at].bytes);
        }
    }
    Ok(contents)
}

/// The pictures that are decoded: evenly drawn, as far as their pixels go.
fn chosen(facts: &[&PictureFacts]) -> Vec<usize> {
    let count = facts.len().min(MOST_DECODED);
    let mut pixels = 0_usize;
    (0..count)
        .map(|at| at * facts.len() / count)
        .take_while(|&index| {
            let size = facts[index].width.saturating_mul(facts[index].height);
            pixels = pixels.saturating_add(size);
            pixels <= MOST_PIXELS
        })
        .collect()
}

/// Small pictures of the chosen ones, in their order.
fn small_pictures(
    sets: &[(&'static str, ImageSet)],
    all: &[(usize, usize)],
    chosen: &[usize],
) -> Vec<Option<SmallPicture>> {
    let of = |wanted: usize| {
        let places = chosen.iter().map(|&index| all[index]);
        let of_set = places.filter(|(set, _)| *set == wanted);
        let of_set: Vec<usize> = of_set.map(|(_, index)| index).collect();
        sets[wanted].1.small(&of_set)
    };
    (0..sets.len()).flat_map(of).collect()
}

/// Pairs that look the same, but are not the same file: across parts, across labels, and others.
fn look_alikes(rows: &[Row], chosen: &[usize], small: &[Option<SmallPicture>]) -> Vec<Finding> {
    let (mut across, mut labels, mut others) = (Vec::new(), Vec::new(), Vec::new());
    for (at, one) in small.iter().enumerate() {
        let Some(one) = one else { continue };
        for (other_at, other) in small.iter().enumerate().skip(at + 1) {
            let (row, like) = (&rows[chosen[at]], &rows[chosen[other_at]]);
            if row.text == like.text || !other.as_ref().is_some_and(|other| one.is_like(other)) {
                continue;
            }
            if row.label != like.label {
                labels.push([row, like]);
            } else if (row.part == TRAIN) != (like.part == TRAIN) {
                across.push([like, row]);
            } else {
                others.push([row, like]);
            }
        }
    }
    let finding = |kind, warning, pairs: &[[&Row; 2]], said: &str, hint| {
        let (found, more) = named(pairs, |pair| together(pair, String::new()));
        (!pairs.is_empty()).then(|| Finding {
            kind,
            warning,
            said: format!(
                "{} the same {said}",
                counted(
                    pairs.len(),
                    "pair of pictures looks",
                    "pairs of pictures look"
                )
            ),
            count: pairs.len() as u64,
            found,
            more,
            hint,
        })
    };
    [
        finding(
            "near_contradictions",
            true,
            &labels,
            "but have different labels",
            "decide which label is right, and drop the other picture",
        ),
        finding(
            "near_leak",
            true,
            &across,
            "in training and in another part",
            "keep one of the two: what a model has learned by heart says nothing of new pictures",
        ),
        finding(
            "near_duplicates",
            false,
            &others,
            "within a part, with the same label",
            "drop one of the two where it is the same picture resized or saved again",
        ),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// Pictures far from a square, smaller than what the model sees, or without colours among others that have them.
fn odd(rows: &[Row], facts: &[&PictureFacts], crop: usize) -> Vec<Finding> {
    let sides = |facts: &PictureFacts| {
        let (width, height) = (facts.width, facts.height);
        (width.min(height).max(1), width.max(height))
    };
    let finding = |kind, is: &dyn Fn(&PictureFacts) -> bool, said: String, hint| {
        let all: Vec<usize> = (0..rows.len()).filter(|&index| is(facts[index])).collect();
        let words = counted(all.len(), "picture", "pictures");
        let share = percent(all.len() as u64, rows.len() as u64);
        // Where all are so, none need be named.
        let odd: &[usize] = if all.len() < rows.len() { &all } else { &[] };
        let (found, more) = named(odd, |&index| {
            let size = format!("{} x {}", facts[index].width, facts[index].height);
            together(&[&rows[index]], size)
        });
        (!all.is_empty()).then(|| Finding {
            kind,
            warning: false,
            said: format!(
                "{words} ({share}) {} {said}",
                if all.len() == 1 { "is" } else { "are" }
            ),
            count: all.len() as u64,
            found,
            more,
            hint,
        })
    };
    let grey = facts.iter().filter(|facts| facts.grey).count();
    let mixed = grey > 0 && grey < facts.len();
    [
        finding(
            "far_from_square",
            &|facts| {
                let (shorter, longer) = sides(facts);
                longer as f64 > FAR_FROM_SQUARE * shorter as f64
            },
            format!("more than {FAR_FROM_SQUARE:.0} times as long as wide: the model sees the middle alone"),
            "crop them to what they are about",
        ),
        finding(
            "small",
            &|facts| sides(facts).0 < crop,
            format!("smaller than the {crop} x {crop} pixels that the model sees: they are enlarged"),
            "larger pictures show more; where there are none, a smaller images.size is faster",
        ),
        finding(
            "grey",
            &|facts| facts.grey && mixed,
            "without colours, unlike the others".into(),
            "see that they are not of one label alone: a model may learn that instead",
        ),
    ]
    .into_iter()
    .flatten()
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(width: usize, height: usize, grey: bool) -> PictureFacts {
        PictureFacts {
            width,
            height,
            grey,
            bytes: 0,
        }
    }

    #[test]
    fn odd_pictures_are_named() {
        let of = [
            facts(30, 100, false),
            facts(8, 8, true),
            facts(40, 40, false),
            facts(120, 40, false),
        ];
        let rows: Vec<Row> = (0..of.len())
            .map(|i| Row {
                part: TRAIN,
                text: i.to_string(),
                context: 0,
                label: None,
                place: format!("{i}.png"),
            })
            .collect();
        let found = odd(&rows, &of.iter().collect::<Vec<_>>(), 16);
        let kinds: Vec<_> = found
            .iter()
            .map(|f| (f.kind, f.found[0].rows[0].place.as_str(), f.count))
            .collect();
        assert_eq!(
            kinds,
            [
                ("far_from_square", "0.png", 1),
                ("small", "1.png", 1),
                ("grey", "1.png", 1)
            ]
        );
        assert!(odd(&rows[1..2], &[&of[1]], 8).is_empty());
    }

    #[test]
    fn what_is_decoded_is_bounded() {
        let small = facts(10, 10, false);
        let many: Vec<&PictureFacts> = vec![&small; 5_000];
        let drawn = chosen(&many);
        assert_eq!((drawn.len(), drawn[1], drawn[1_999]), (2_000, 2, 4_997));
        let huge = facts(20_000, 20_000, false);
        assert_eq!(chosen(&[&huge, &huge, &small]), [0]);
        assert_eq!(chosen(&[&small, &small]), [0, 1]);
    }
}
