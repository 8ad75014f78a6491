//! Texts that belong together. Each distinct text is encoded once; an example is a list of the numbers of such texts. Of labelled
//! texts an example is one text: in training another of its label is drawn beside it, by (seed, epoch, example).

use super::{
    Draw, HostBatch, HostInput, Inputs, Prepared, ShownExample, TokenCounts, cut, encoder,
    text_limits, without_decoders,
};
use crate::{
    Error, Observer, RunConfig,
    config::EmbeddingLoss,
    examples::{Splits, read_splits},
    fingerprint::Fingerprint,
    plan::Footprint,
};
use rekindle_base::{counted, rng};
use rekindle_data::{
    DataError, EncodedSet, Example, Place, Related, TargetEncoder, Targets, TextBatch, TextEncoder,
    related::{RelatedTexts, Relation},
};
use rekindle_hub::Hub;
use rekindle_models::Pretrained;
use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
};

/// Batches made ahead of the loop.
const AHEAD: usize = 8;
/// A stream of random numbers of its own.
const PARTNERS: u64 = 100;

/// A set of texts that belong together.
pub(crate) struct Relations {
    /// Each distinct text, where it stands first.
    texts: Vec<Example>,
    set: EncodedSet,
    targets: Targets,
    places: Vec<Place>,
    /// The texts of each class, of labelled texts.
    classes: Vec<Vec<u32>>,
    seed: u64,
}

impl Relations {
    /// Encodes rows. Scores are divided by `scale`.
    pub(crate) fn encode(
        rows: &[RelatedTexts],
        encoder: &TextEncoder,
        scale: f64,
        seed: u64,
    ) -> Result<Self, Error> {
        let (mut texts, mut numbers) = (Vec::new(), HashMap::new());
        let mut names: BTreeMap<&str, u32> = BTreeMap::new();
        for row in rows {
            if let Relation::Label(label) = &row.relation {
                names.insert(label, 0);
            }
        }
        names.values_mut().zip(0..).for_each(|(id, i)| *id = i);
        let mut related = Vec::with_capacity(rows.len());
        for row in rows {
            let numbers = row.texts.iter().map(|text| {
                *numbers.entry(text.as_str()).or_insert_with(|| {
                    texts.push(Example {
                        text: text.clone(),
                        text_pair: None,
                        label: None,
                        place: row.place.clone(),
                    });
                    texts.len() as u32 - 1
                })
            });
            related.push(Related {
                texts: numbers.collect(),
                class: match &row.relation {
                    Relation::Label(label) => names.get(label.as_str()).copied(),
                    _ => None,
                },
                score: match row.relation {
                    Relation::Score(score) => Some((score / scale) as f32),
                    _ => None,
                },
            });
        }
        let set = encoder.encode_examples(&texts, None)?;
        let places = rows.iter().map(|row| row.place.clone()).collect();
        Ok(Self::new(texts, set, related, places, seed))
    }

    fn new(
        texts: Vec<Example>,
        set: EncodedSet,
        rows: Vec<Related>,
        places: Vec<Place>,
        seed: u64,
    ) -> Self {
        let mut classes: Vec<Vec<u32>> = Vec::new();
        for row in &rows {
            if let (Some(class), [text]) = (row.class, row.texts.as_slice()) {
                let class = class as usize;
                classes.resize(classes.len().max(class + 1), Vec::new());
                classes[class].push(*text);
            }
        }
        Self {
            texts,
            set,
            targets: Targets::Related(rows),
            places,
            classes,
            seed,
        }
    }

    /// Each distinct text.
    pub(crate) fn texts(&self) -> &[Example] {
        &self.texts
    }

    /// The tokens of the distinct texts.
    pub(crate) fn encoded(&self) -> &EncodedSet {
        &self.set
    }

    /// The numbers of a row's texts.
    pub(crate) fn texts_of(&self, row: usize) -> &[u32] {
        &self.rows_of()[row].texts
    }

    fn rows_of(&self) -> &[Related] {
        match &self.targets {
            Targets::Related(rows) => rows,
            _ => &[],
        }
    }

    /// An example as a step takes it: a labelled text with another of its label.
    fn drawn(&self, example: usize, epoch: u64) -> Related {
        let row = &self.rows_of()[example];
        let (Some(class), [text]) = (row.class, row.texts.as_slice()) else {
            return row.clone();
        };
        let others = &self.classes[class as usize];
        let own = others.iter().position(|other| other == text).unwrap_or(0);
        // Any of the others; a text that is alone stands beside itself.
        let bits = rng::hash(self.seed, PARTNERS, epoch, example as u64);
        let step = rng::below(bits, others.len().saturating_sub(1).max(1) as u64) as usize;
        let partner = others[(own + 1 + step) % others.len()];
        Related {
            texts: vec![*text, partner],
            ..row.clone()
        }
    }

    /// What the texts of the set are, in words.
    fn words(&self) -> String {
        let rows = self.rows_of();
        let negatives: usize = rows
            .iter()
            .map(|row| row.texts.len().saturating_sub(2))
            .sum();
        match rows.first() {
            Some(Related { class: Some(_), .. }) => format!(
                "{} of labelled texts",
                counted(self.classes.len(), "label", "labels")
            ),
            Some(Related { score: Some(_), .. }) => "pairs with a score".into(),
            _ if negatives > 0 => format!(
                "pairs with {}",
                counted(negatives, "hard negative", "hard negatives")
            ),
            _ => "pairs".into(),
        }
    }
}

impl Inputs for Relations {
    fn len(&self) -> usize {
        self.rows_of().len()
    }

    fn lengths(&self) -> Option<Vec<u32>> {
        let of_text = self.set.lengths();
        let rows = self.rows_of().iter();
        let length = |row: &Related| {
            let sum: u32 = row.texts.iter().map(|&text| of_text[text as usize]).sum();
            // The other text is another one each time.
            if row.texts.len() == 1 { 2 * sum } else { sum }
        };
        Some(rows.map(length).collect())
    }

    fn targets(&self) -> &Targets {
        &self.targets
    }

    fn rows(&self, example: usize) -> usize {
        self.rows_of()[example].texts.len()
    }

    fn batch(&self, examples: &[usize], draw: Option<Draw>) -> Result<HostBatch, DataError> {
        let rows = examples.iter().map(|&example| match draw {
            Some(draw) => self.drawn(example, draw.epoch),
            None => self.rows_of()[example].clone(),
        });
        let rows: Vec<Related> = rows.collect();
        let texts = rows.iter().flat_map(|row| &row.texts);
        let texts: Vec<usize> = texts.map(|&text| text as usize).collect();
        let mut batch = TextBatch::pack(&self.set, &texts);
        batch.targets = Targets::None;
        Ok(HostBatch {
            examples: examples.to_vec(),
            targets: Targets::Related(rows),
            mixed: None,
            aside: None,
            input: Some(HostInput::Text(batch)),
        })
    }

    fn ahead(&self) -> usize {
        AHEAD
    }

    fn place(&self, example: usize) -> String {
        self.places[example].to_string()
    }

    fn line(&self, example: usize) -> Option<u64> {
        Some(self.places[example].line)
    }

    fn cut(&self) -> usize {
        self.set.truncated()
    }

    fn show(&self, example: usize) -> ShownExample {
        let text = |&number: &u32| self.texts[number as usize].text.clone();
        let texts: Vec<String> = self.rows_of()[example].texts.iter().map(text).collect();
        let (first, others) = texts.split_first().map_or(("", &[][..]), |(a, b)| (a, b));
        ShownExample {
            text: first.to_owned(),
            text_pair: (!others.is_empty()).then(|| others.join("\n")),
            picture: None,
        }
    }

    fn add_to(&self, fingerprint: &mut Fingerprint) {
        for item in &self.set.items {
            fingerprint.add_numbers(&item.ids);
        }
        fingerprint.add_targets(&self.targets);
    }
}

/// The largest score where one is above 1: they are divided by it.
pub(crate) fn scale_of(rows: &[RelatedTexts]) -> f64 {
    let score = |row: &RelatedTexts| match row.relation {
        Relation::Score(score) => Some(score.abs()),
        _ => None,
    };
    let most = rows.iter().filter_map(score).fold(0.0, f64::max);
    if most > 1.0 { most } else { 1.0 }
}

/// The smallest and largest score, of rows with scores.
fn range_of(rows: &[RelatedTexts]) -> Option<(f64, f64)> {
    let mut scores = rows.iter().filter_map(|row| match row.relation {
        Relation::Score(score) => Some(score),
        _ => None,
    });
    let first = scores.next()?;
    let wider = |(least, most): (f64, f64), score: f64| (least.min(score), most.max(score));
    Some(scores.fold((first, first), wider))
}

/// How many rows have each label.
fn label_counts(rows: &[RelatedTexts]) -> HashMap<&str, usize> {
    let mut counts = HashMap::new();
    for row in rows {
        if let Relation::Label(label) = &row.relation {
            *counts.entry(label.as_str()).or_default() += 1;
        }
    }
    counts
}

/// Checks that the loss can tell texts of these rows apart.
pub(crate) fn check_learnable(rows: &[RelatedTexts], config: &RunConfig) -> Result<(), Error> {
    let range = range_of(rows);
    let refused = |reason: String, hint: &str| {
        let hint = hint.into();
        Err(Error::Setting { reason, hint })
    };
    let has_negatives = rows.iter().any(|row| row.texts.len() > 2);
    let by_score = match (config.embedding.loss, range) {
        (EmbeddingLoss::Cosine, None) => {
            return refused(
                "embedding.loss = \"cosine\" learns how alike two texts are, and the training file has no scores: every pair would be drawn together, and nothing held apart".into(),
                "leave it out, or name the column of scores with --label",
            );
        }
        (EmbeddingLoss::Mnrl, Some((least, most))) if least < most => {
            return refused(
                format!(
                    "embedding.loss = \"mnrl\" takes the texts of every pair to belong together, and the training file has scores from {least} to {most}"
                ),
                "leave it out: pairs with scores are learned by their cosine; or keep only the pairs that belong together, without the scores",
            );
        }
        (EmbeddingLoss::Auto, Some(_)) | (EmbeddingLoss::Cosine, Some(_)) => true,
        _ => false,
    };
    if let Some((least, most)) = range
        && by_score
        && least == most
        && rows.len() > 1
    {
        return refused(
            format!("every training pair has the score {least}, from which nothing can be learned"),
            "name the right column of scores with --label; pairs that all belong together need none",
        );
    }
    if by_score || has_negatives {
        return Ok(());
    }
    if label_counts(rows).len() == 1 {
        return refused(
            "all training texts have the same label, so that there is nothing to hold apart".into(),
            "name the right label column with --label, or add texts with other labels",
        );
    }
    match config.train.batch_size {
        1 => refused(
            "train.batch_size = 1 leaves no other text to tell the right one from".into(),
            "make batches larger; embedding.mini_batch_size keeps their memory small",
        ),
        _ => Ok(()),
    }
}

/// Checks that some labelled texts of a set can find another, and others not.
pub(crate) fn check_comparable(rows: &[RelatedTexts], part: &str) -> Result<(), Error> {
    let counts = label_counts(rows);
    if counts.len() == 1 {
        return Err(Error::Setting {
            reason: format!(
                "every {part} text has the same label, so that whatever is found is right and nothing can be measured"
            ),
            hint: "give texts of several labels, or name the right columns: --label, or of pairs --text and --text-pair"
                .into(),
        });
    }
    match counts.is_empty() || counts.values().any(|&count| count > 1) {
        true => Ok(()),
        false => Err(Error::Setting {
            reason: format!(
                "every {part} text has a label of its own, so that no two belong together and nothing can be measured"
            ),
            hint: "give more texts of the same labels, or name the right label column with --label"
                .into(),
        }),
    }
}

/// What cannot be measured on a set, in words.
fn undefined(rows: &[RelatedTexts], part: &str) -> Option<String> {
    let (least, most) = range_of(rows)?;
    (least == most).then(|| {
        format!("every {part} pair has the score {least}: Spearman and Pearson are not defined")
    })
}

/// Reads and encodes the texts of a run.
pub(super) fn prepare(
    config: &RunConfig,
    pretrained: &Pretrained,
    hub: &Hub,
    observer: &dyn Observer,
) -> Result<Prepared, Error> {
    without_decoders(pretrained)?;
    let limits = text_limits(pretrained, config)?;
    for &dim in config.embedding.matryoshka_dims.iter().flatten() {
        if dim > limits.hidden_size {
            return Err(Error::Setting {
                reason: format!(
                    "embedding.matryoshka_dims holds {dim}, but embeddings of this model have {} numbers",
                    limits.hidden_size
                ),
                hint: "name widths up to that".into(),
            });
        }
    }
    let splits: Splits<Vec<RelatedTexts>> = read_splits(config, hub, observer)?;
    let mut notes = splits.notes;
    let (encoder, note) = encoder(pretrained.dir(), config.data.max_length, limits)?;
    notes.extend(note);
    let scale = scale_of(&splits.train);
    let range = range_of(&splits.train);
    if let Some((least, most)) = range
        && scale != 1.0
    {
        notes.push(format!(
            "scores lie between {least} and {most}: they are divided by {scale}, because a cosine lies between -1 and 1"
        ));
    }
    let mut rows = splits.train;
    let all = rows.len();
    let counts = label_counts(&rows);
    let alone: HashSet<String> = counts
        .into_iter()
        .filter(|(_, count)| *count == 1)
        .map(|(label, _)| label.to_owned())
        .collect();
    rows.retain(|row| !matches!(&row.relation, Relation::Label(label) if alone.contains(label)));
    if rows.len() < all {
        let alone = counted(all - rows.len(), "text is", "texts are");
        notes.push(format!(
            "{alone} left out, the only one of its label each: nothing belongs to it"
        ));
    }
    if rows.is_empty() {
        return Err(Error::Setting {
            reason: "every training text has a label of its own, so that no two belong together"
                .into(),
            hint: "name the right label column with --label, or pairs with --text and --text-pair"
                .into(),
        });
    }
    check_learnable(&rows, config)?;
    for (part, held_out) in [("validation", &splits.validation), ("test", &splits.test)] {
        if let Some(rows) = held_out {
            check_comparable(rows, part)?;
            notes.extend(undefined(rows, part));
        }
    }
    let encode = |rows: &[RelatedTexts]| Relations::encode(rows, &encoder, scale, config.seed);
    let train = encode(&rows)?;
    let part = |rows: Option<Vec<RelatedTexts>>| -> Result<Option<Arc<dyn Inputs>>, Error> {
        let set = rows.map(|rows| encode(&rows)).transpose()?;
        Ok(set.map(|set| Arc::new(set) as Arc<dyn Inputs>))
    };
    let (validation, test) = (part(splits.validation)?, part(splits.test)?);

    let largest = TokenCounts::of(&train, config)?.largest_batch;
    let of_text = train.set.lengths();
    let longest = of_text.iter().copied().max().unwrap_or(0) as usize;
    let all: usize = of_text.iter().map(|&length| length as usize).sum();
    let max_length = encoder.max_length().unwrap_or(config.data.max_length);
    let cut = cut(train.set.truncated(), max_length);
    let at_once = largest.min(longest * config.embedding.mini_batch_size);
    Ok(Prepared {
        name: splits.name,
        columns: splits.used,
        files: splits.files,
        sizes: format!(
            "{}; {}, {:.1} tokens each{cut}",
            train.words(),
            counted(train.texts.len(), "different text", "different texts"),
            all as f64 / train.texts.len().max(1) as f64
        ),
        noun: "row",
        footprint: Footprint::of_texts(limits, at_once, longest),
        train: Arc::new(train),
        validation,
        test,
        encoder: TargetEncoder::Related,
        repeats: false,
        by_words: false,
        notes,
        max_length,
        picture_size: None,
        answering: None,
    })
}

/// Encodes the rows of a file to evaluate on, and says what cannot be measured on them.
pub(crate) fn to_evaluate(
    rows: &[RelatedTexts],
    encoder: &TextEncoder,
) -> Result<(Arc<dyn Inputs>, Option<String>), Error> {
    check_comparable(rows, "evaluation")?;
    let set = Relations::encode(rows, encoder, scale_of(rows), 0)?;
    Ok((Arc::new(set), undefined(rows, "evaluation")))
}
