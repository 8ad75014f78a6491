//! Preferences as packed answers: of each example two sequences that never see each other. The model gives the sum of the
//! token losses of each part of them, which is minus its log-probability, and the loss compares these sums.
//!
//! | loss | sequences | parts |
//! |---|---|---|
//! | DPO | the chosen answer, the rejected one | the two answers |
//! | ORPO | the same | what surrounds the chosen answer (its prompt), the two answers |
//! | KTO | an answer, another example's answer to the same prompt | the two answers |

use super::{
    Draw, HostBatch, HostInput, Inputs, Prepared, ShownExample, TokenCounts,
    chats::{decoder_limits, encoder, spoken},
    cut,
};
use crate::{
    Error, Observer, RunConfig,
    config::PreferenceLoss,
    evaluation::{self, Logits},
    examples::{Splits, left_out, on_bad, read_splits},
    fingerprint::Fingerprint,
    plan::Footprint,
};
use rekindle_data::{
    BadReason, DataError, OnBad, Part, Place, Skipped, TargetEncoder, Targets,
    chat::{ChatBatch, ChatEncoder, ChatKind, Conversation, EncodedChat, EncodedChats, Preference},
};
use rekindle_hub::Hub;
use rekindle_models::Pretrained;
use std::sync::Arc;

/// Batches made ahead of the loop.
const AHEAD: usize = 8;

/// A set of answers with their tokens, and what they are compared with.
pub(crate) struct Preferences {
    answers: Arc<Answers>,
    targets: Targets,
}

struct Answers {
    rows: Vec<Conversation>,
    set: EncodedChats,
    /// The two sequences of each example.
    examples: Vec<[usize; 2]>,
    /// Whether such answers are wanted, by row.
    wanted: Vec<bool>,
    loss: PreferenceLoss,
}

/// Which tokens of a sequence are not those of its answer.
fn around(item: &EncodedChat) -> Vec<bool> {
    item.counts.iter().map(|&counts| !counts).collect()
}

/// How many tokens are predicted.
fn predicted(marks: &[bool]) -> u32 {
    marks.iter().skip(1).filter(|&&marked| marked).count() as u32
}

impl Preferences {
    /// Encodes preferences. `block`: KTO exchanges the answers of so many examples that follow one another.
    pub(crate) fn encode(
        rows: Vec<Preference>,
        encoder: &ChatEncoder,
        loss: PreferenceLoss,
        block: usize,
        on_bad: OnBad,
    ) -> Result<Self, Error> {
        let mut skipped = Vec::new();
        let mut leave_out =
            |place: Place, reason: BadReason| skipped.push(Skipped { place, reason });
        let (mut firsts, mut seconds, mut wanted) = (Vec::new(), Vec::new(), Vec::new());
        for row in rows {
            match row {
                Preference::Pair { chosen, rejected } => {
                    firsts.push(chosen);
                    seconds.push(rejected);
                    wanted.push(true);
                }
                Preference::Judged { answer, wanted: is } if loss == PreferenceLoss::Kto => {
                    firsts.push(answer);
                    wanted.push(is);
                }
                Preference::Judged { answer, .. } => {
                    leave_out(answer.place, BadReason::NotAPair);
                }
            }
        }
        let pairs = firsts.len();
        wanted.extend(seconds.iter().map(|_| false));
        let rows = [firsts, seconds].concat();
        let mut set = encoder.encode(&rows)?;
        let mut items = vec![None; rows.len()];
        for (item, &row) in set.sources.iter().enumerate() {
            items[row] = Some(item);
        }
        let mut examples = Vec::new();
        if loss == PreferenceLoss::Kto {
            examples = exchanged(&mut set, block, encoder.max_length(), encoder.cuts_left());
        } else {
            for row in 0..pairs {
                // Of what was left out the encoder has said why.
                let (Some(chosen), Some(rejected)) = (items[row], items[pairs + row]) else {
                    continue;
                };
                let (one, other) = (&set.items[chosen], &set.items[rejected]);
                if one.ids == other.ids {
                    let max_length = encoder.max_length().filter(|_| one.cut);
                    let reason = BadReason::SameAnswers { max_length };
                    leave_out(rows[row].place.clone(), reason);
                } else {
                    examples.push([chosen, rejected]);
                }
            }
        }
        if on_bad == OnBad::Error
            && let Some(error) = DataError::of_bad_rows(skipped.clone())
        {
            return Err(error.into());
        }
        set.skipped.append(&mut skipped);
        if let (true, Some(first)) = (examples.is_empty(), set.skipped.first()) {
            return Err(Error::Data(DataError::AllBad {
                path: first.place.path.to_path_buf(),
                skipped: set.skipped.len(),
                line: first.place.line,
                reason: first.reason.clone(),
            }));
        }
        Ok(Self::new(rows, set, examples, wanted, loss))
    }

    /// From encoded answers: the two sequences of each example, and by row whether such answers are wanted.
    pub(crate) fn new(
        rows: Vec<Conversation>,
        set: EncodedChats,
        examples: Vec<[usize; 2]>,
        wanted: Vec<bool>,
        loss: PreferenceLoss,
    ) -> Self {
        let mut parts = Vec::new();
        for &[first, second] in &examples {
            let mut add = |item: usize, marks: &[bool]| {
                parts.push(Part {
                    tokens: predicted(marks),
                    wanted: wanted[set.sources[item]],
                    reference: 0.0,
                });
            };
            if loss == PreferenceLoss::Orpo {
                add(first, &around(&set.items[first]));
            }
            add(first, &set.items[first].counts);
            add(second, &set.items[second].counts);
        }
        let width = parts.len().checked_div(examples.len()).unwrap_or(0);
        Self {
            answers: Arc::new(Answers {
                rows,
                set,
                examples,
                wanted,
                loss,
            }),
            targets: Targets::Parts { width, rows: parts },
        }
    }

    fn row(&self, sequence: usize) -> &Conversation {
        &self.answers.rows[self.answers.set.sources[sequence]]
    }
}

/// Adds to every answer one that was given to another prompt: of each block of examples, the answers moved on by one, as TRL
/// does it. A last block of one example gets the answer before it, where TRL compares it with itself. What is longer than
/// `max_length` is cut at its end, or if it `cuts_left` at its beginning. The two sequences of each example.
pub(crate) fn exchanged(
    set: &mut EncodedChats,
    block: usize,
    max_length: Option<usize>,
    cuts_left: bool,
) -> Vec<[usize; 2]> {
    let answers = set.len();
    let block = block.max(1);
    let answer_at = |item: &EncodedChat| {
        let first = item.counts.iter().position(|&counts| counts);
        first.unwrap_or(item.ids.len())
    };
    for own in 0..answers {
        let start = own - own % block;
        let last = (start + block).min(answers) - 1;
        let other = match own == start && last > start {
            true => last,
            false => own.saturating_sub(1),
        };
        let (prompt, answer) = (&set.items[own], &set.items[other]);
        let (end, start) = (answer_at(prompt), answer_at(answer));
        let mut ids = [&prompt.ids[..end], &answer.ids[start..]].concat();
        let mut counts = [&prompt.counts[..end], &answer.counts[start..]].concat();
        let whole = ids.len();
        let length = max_length.unwrap_or(whole);
        if cuts_left {
            let before = whole.saturating_sub(length);
            ids.drain(..before);
            counts.drain(..before);
            // Nothing predicts the first token.
            counts.iter_mut().take(1).for_each(|first| *first = false);
        } else {
            ids.truncate(length);
            counts.truncate(length);
        }
        set.items.push(EncodedChat {
            ids,
            counts,
            cut: whole > length,
        });
        set.sources.push(set.sources[own]);
    }
    (0..answers).map(|own| [own, answers + own]).collect()
}

impl Inputs for Preferences {
    fn len(&self) -> usize {
        self.answers.examples.len()
    }

    fn lengths(&self) -> Option<Vec<u32>> {
        let lengths = self.answers.set.lengths();
        let examples = self.answers.examples.iter();
        Some(examples.map(|&[a, b]| lengths[a] + lengths[b]).collect())
    }

    fn targets(&self) -> &Targets {
        &self.targets
    }

    fn rows(&self, _: usize) -> usize {
        self.targets.width()
    }

    fn batch(&self, examples: &[usize], draw: Option<Draw>) -> Result<HostBatch, DataError> {
        let Answers {
            set,
            loss,
            examples: sequences,
            ..
        } = self.answers.as_ref();
        let (mut batch, mut aside) = (ChatBatch::default(), ChatBatch::default());
        for &example in examples {
            let [first, second] = sequences[example].map(|item| &set.items[item]);
            match loss {
                PreferenceLoss::Orpo => {
                    batch.push(&first.ids, &[&around(first), &first.counts]);
                }
                _ => batch.push(&first.ids, &[&first.counts]),
            }
            let second_in = match (loss, draw) {
                (PreferenceLoss::Kto, Some(_)) => &mut aside,
                _ => &mut batch,
            };
            second_in.push(&second.ids, &[&second.counts]);
        }
        Ok(HostBatch {
            examples: examples.to_vec(),
            targets: self.targets.subset(examples),
            mixed: None,
            aside: (!aside.is_empty()).then(|| HostInput::Chats(aside.share_beginning())),
            input: Some(HostInput::Chats(batch.share_beginning())),
        })
    }

    fn wants_reference(&self) -> bool {
        self.answers.loss != PreferenceLoss::Orpo
    }

    fn with_reference(&self, outputs: &Logits) -> Option<Arc<dyn Inputs>> {
        let mut targets = self.targets.clone();
        if let Targets::Parts { width, rows } = &mut targets {
            for (at, part) in rows.iter_mut().enumerate() {
                // A sum of losses and a number of tokens for each part.
                part.reference = -outputs.row(at / *width)[2 * (at % *width)];
            }
        }
        Some(Arc::new(Self {
            answers: Arc::clone(&self.answers),
            targets,
        }))
    }

    fn ahead(&self) -> usize {
        AHEAD
    }

    fn place(&self, example: usize) -> String {
        let [first, _] = self.answers.examples[example];
        self.row(first).place.to_string()
    }

    fn cut(&self) -> usize {
        let items = &self.answers.set.items;
        let cut = |example: &&[usize; 2]| example.iter().any(|&item| items[item].cut);
        self.answers.examples.iter().filter(cut).count()
    }

    fn show(&self, example: usize) -> ShownExample {
        let sequences = self.answers.examples[example];
        let [first, second] = sequences.map(|item| self.row(item));
        let of = |row: &Conversation| match row.kind {
            ChatKind::Completion { prompt } => prompt,
            _ => 0,
        };
        let answer = |row: &Conversation| spoken(&row.messages[of(row)..]);
        let is_wanted = self.answers.wanted[self.answers.set.sources[sequences[0]]];
        let answers = match (self.answers.loss, is_wanted) {
            (PreferenceLoss::Kto, true) => format!("wanted: {}", answer(first)),
            (PreferenceLoss::Kto, false) => format!("not wanted: {}", answer(first)),
            _ => format!("chosen: {}\nrejected: {}", answer(first), answer(second)),
        };
        ShownExample {
            text: spoken(&first.messages[..of(first)]),
            text_pair: Some(answers),
            picture: None,
        }
    }

    fn left_out(&self) -> Vec<String> {
        left_out("preferences", &self.answers.set.skipped)
    }

    fn add_to(&self, fingerprint: &mut Fingerprint) {
        for item in &self.answers.set.items {
            fingerprint.add_numbers(&item.ids);
            let counts = item.counts.iter().map(|&counts| u32::from(counts));
            fingerprint.add_numbers(&counts.collect::<Vec<_>>());
        }
        for wanted in &self.answers.wanted {
            fingerprint.add(&[u8::from(*wanted)]);
        }
    }
}

/// Reads and encodes the preferences of a run.
pub(super) fn prepare(
    config: &RunConfig,
    pretrained: &Pretrained,
    hub: &Hub,
    observer: &dyn Observer,
) -> Result<Prepared, Error> {
    let limits = decoder_limits(pretrained)?;
    let splits: Splits<Vec<Preference>> = read_splits(config, hub, observer)?;
    let mut notes = splits.notes;
    let (encoder, of_encoder) = encoder(config, pretrained, limits)?;
    notes.extend(of_encoder);
    let encode = |rows| {
        let (loss, block) = (config.preference.loss, config.train.batch_size);
        Preferences::encode(rows, &encoder, loss, block, on_bad(config))
    };
    let train = encode(splits.train)?;
    let part = |rows: Option<Vec<Preference>>| -> Result<Option<Arc<dyn Inputs>>, Error> {
        let set = rows.map(&encode).transpose()?;
        Ok(set.map(|set| Arc::new(set) as Arc<dyn Inputs>))
    };
    let (validation, test) = (part(splits.validation)?, part(splits.test)?);

    let set = &train.answers.set;
    let tokens = TokenCounts::of(&train, config)?;
    let all = set.lengths().iter().map(|&length| length as usize).sum();
    let max_length = encoder.max_length().unwrap_or(config.data.max_length);
    let cut = cut(set.cut(), max_length);
    let each = |tokens: usize| tokens as f64 / set.len().max(1) as f64;
    Ok(Prepared {
        name: splits.name,
        columns: splits.used,
        files: splits.files,
        sizes: format!(
            "two answers each, {:.1} tokens with their prompt, {:.1} without{cut}",
            each(all),
            each(set.counted())
        ),
        noun: "preference",
        footprint: Footprint::of_decoder(
            limits,
            tokens.largest_batch,
            evaluation::tokens_at_once(config.eval.batch_size, tokens.longest),
        ),
        train: Arc::new(train),
        validation,
        test,
        encoder: TargetEncoder::Next,
        repeats: true,
        by_words: false,
        notes,
        max_length,
        picture_size: None,
        answering: None,
    })
}
