//! Answers in words: a language model read from left to right, several conversations at once, with its keys and values kept.

use crate::{
    Error, Observer,
    config::Device,
    loaded::{Loaded, load},
    located::locate,
    task::Kind,
};
use burn::tensor::{Int, Tensor};
use rekindle_base::rng;
use rekindle_data::chat::{
    ChatEncoder, ChatKind, ChatOptions, ChatRole, ConstrainedAnswer, Constrainer, Constraint,
    Conversation, EncodeOptions, Message, TextStream, read_conversations,
};
use rekindle_models::{KvCache, Model, TextInput};
use rekindle_nn::{Sequences, TuneBackend, host};
use serde_json::Value;
use std::{cell::OnceCell, collections::HashSet, path::Path};

/// How the next token is chosen. The default takes the most probable one.
#[derive(Debug, Clone, PartialEq)]
pub struct Sampling {
    /// At most so many new tokens.
    pub max_new_tokens: usize,
    /// What logits are divided by; 0 takes the most probable token.
    pub temperature: f64,
    /// Only so many of the most probable tokens; 0 for all.
    pub top_k: usize,
    /// Only the most probable tokens that together reach this probability, in (0, 1].
    pub top_p: f64,
    /// Only tokens with at least this share of the most probable one's probability, in [0, 1].
    pub min_p: f64,
    /// What logits of tokens that were there are divided by (multiplied where negative); 1 for no penalty.
    pub repetition_penalty: f64,
    /// Seed of the choices.
    pub seed: u64,
    /// Texts that end an answer; they are not part of it.
    pub stop: Vec<String>,
    /// What every answer has to be. An answer that reaches the most tokens before it is whole is not that yet.
    pub constraint: Option<Constraint>,
}

impl Default for Sampling {
    fn default() -> Self {
        Self {
            max_new_tokens: 256,
            temperature: 0.0,
            top_k: 0,
            top_p: 1.0,
            min_p: 0.0,
            repetition_penalty: 1.0,
            seed: 42,
            stop: Vec::new(),
            constraint: None,
        }
    }
}

impl Sampling {
    /// The next token after `seen`, by its logits `[V]`, which are minus infinity for tokens that may not follow; `key` is the
    /// answer's stream of random numbers.
    fn choose(&self, logits: &mut [f32], seen: &[u32], key: u64) -> u32 {
        if self.repetition_penalty != 1.0 {
            let penalty = self.repetition_penalty as f32;
            for &token in seen.iter().collect::<HashSet<_>>() {
                if let Some(logit) = logits.get_mut(token as usize) {
                    *logit = if *logit > 0.0 {
                        *logit / penalty
                    } else {
                        *logit * penalty
                    };
                }
            }
        }
        if self.temperature <= 0.0 {
            return crate::evaluation::argmax(logits) as u32;
        }
        let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let of_largest = |logit: f32| (f64::from(logit - largest) / self.temperature).exp();
        let mut kept: Vec<(u32, f64)> = (0..)
            .zip(logits.iter())
            .filter(|(_, logit)| **logit != f32::NEG_INFINITY)
            .map(|(token, logit)| (token, of_largest(*logit)))
            .collect();
        if self.top_k > 0 && self.top_k < kept.len() {
            likeliest_first(&mut kept, self.top_k);
            kept.truncate(self.top_k);
        }
        if self.top_p < 1.0 {
            let n = nucleus(&mut kept, self.top_p);
            kept.truncate(n);
        }
        kept.retain(|(_, p)| *p >= self.min_p);
        let sum: f64 = kept.iter().map(|(_, p)| p).sum();
        let mut left = sum * rng::uniform(key, seen.len() as u64);
        for (token, p) in &kept {
            left -= p;
            if left < 0.0 {
                return *token;
            }
        }
        kept.last().map_or(0, |(token, _)| *token)
    }
}

/// Brings the `n` likeliest tokens to the front, in order. Of equal ones the first token comes first, so that a choice depends on
/// nothing else.
fn likeliest_first(tokens: &mut [(u32, f64)], n: usize) {
    let order = |a: &(u32, f64), b: &(u32, f64)| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0));
    if n < tokens.len() {
        tokens.select_nth_unstable_by(n, order);
    }
    let n = n.min(tokens.len());
    tokens[..n].sort_unstable_by(order);
}

/// Brings the likeliest tokens that together reach a share of the sum to the front, in order; how many they are. The
/// vocabulary is sorted only as far as needed.
fn nucleus(tokens: &mut [(u32, f64)], share: f64) -> usize {
    const FIRST: usize = 64;
    let wanted = share * tokens.iter().map(|(_, p)| p).sum::<f64>();
    let (mut sorted, mut reached) = (0, 0.0);
    while sorted < tokens.len() {
        let more = sorted.max(FIRST);
        likeliest_first(&mut tokens[sorted..], more);
        let end = (sorted + more).min(tokens.len());
        for (i, (_, p)) in tokens.iter().enumerate().take(end).skip(sorted) {
            reached += p;
            if reached >= wanted {
                return i + 1;
            }
        }
        sorted = end;
    }
    tokens.len()
}

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// What was said.
    pub text: String,
    /// Its tokens, the one that ended it included.
    pub tokens: Vec<u32>,
    /// Whether it ended by itself rather than at the most tokens. With a constraint: whether it is whole.
    pub finished: bool,
}

/// A language model with its tokenizer, on a device.
pub struct Generator {
    model: Box<dyn Loaded>,
    encoder: ChatEncoder,
    /// The longest sequence.
    positions: usize,
    /// Made when a constraint is first asked for.
    constrainer: OnceCell<Constrainer>,
}

/// Sequences that are being read.
pub(crate) trait Session {
    /// Reads new tokens of each sequence; logits `[V]` of what follows each.
    fn read(&mut self, new: &[Vec<u32>]) -> Result<Vec<Vec<f32>>, Error>;
    /// Keeps these sequences and forgets the others.
    fn keep(&mut self, sequences: &[usize]);
}

/// Sequences that a model reads on its device.
pub(crate) struct Reading<'a, B: TuneBackend> {
    model: &'a Model<B>,
    device: &'a B::Device,
    cache: KvCache<B>,
}

impl<'a, B: TuneBackend> Reading<'a, B> {
    pub(crate) fn new(model: &'a Model<B>, device: &'a B::Device, sequences: usize) -> Self {
        Self {
            model,
            device,
            cache: KvCache::new(sequences),
        }
    }
}

impl<B: TuneBackend> Session for Reading<'_, B> {
    fn read(&mut self, new: &[Vec<u32>]) -> Result<Vec<Vec<f32>>, Error> {
        let (model, device) = (self.model, self.device);
        let decoder = model.backbone().decoder();
        let decoder = decoder.ok_or_else(|| Error::Internal("no language model".into()))?;
        let lengths: Vec<usize> = new.iter().map(Vec::len).collect();
        let ids: Vec<i32> = new.iter().flatten().map(|&id| id as i32).collect();
        let types = vec![0; ids.len()];
        let sequences = Sequences::from_lengths(&lengths);
        let lasts: Vec<i32> = sequences.ranges().map(|r| r.end as i32 - 1).collect();
        let input = TextInput::<B>::new(ids, types, sequences, device);
        let lasts: Tensor<B, 1, Int> = Tensor::from_data(lasts.as_slice(), device);
        let cache = &mut self.cache;
        let logits = B::tune_close_by(|| {
            let states = decoder.extend(&input, cache);
            model.vocabulary_logits(states.select(0, lasts))
        });
        let width = logits.dims()[1];
        let values = host::values(logits)?;
        Ok(values.chunks(width).map(<[f32]>::to_vec).collect())
    }

    fn keep(&mut self, sequences: &[usize]) {
        self.cache.keep(sequences);
    }
}

/// An answer in the making.
struct Open<'a> {
    /// Which prompt it answers.
    prompt: usize,
    /// The stream of its random choices: a function of seed and prompt, whatever else is answered at the same time.
    key: u64,
    /// Prompt and answer so far.
    tokens: Vec<u32>,
    /// Tokens of the prompt.
    asked: usize,
    text: String,
    stream: TextStream<'a>,
    /// Which tokens may follow, if not all.
    constrained: Option<ConstrainedAnswer>,
}

/// What is to be answered or continued.
#[derive(Debug, Clone, PartialEq)]
pub enum Prompt {
    /// Turns, of which the assistant's is next; and the JSON schemas of tools.
    Turns(Vec<Message>, Option<Value>),
    /// A text that goes on.
    Text(String),
}

/// The rows of a file of conversations, prompts or texts.
///
/// # Errors
/// When it cannot be read, with the place of a bad row.
pub fn read_prompts(path: &Path) -> Result<Vec<Conversation>, Error> {
    let options = ChatOptions {
        prompts: true,
        ..ChatOptions::default()
    };
    Ok(read_conversations(path, &options)?.rows)
}

impl Prompt {
    /// A question without anything before it.
    #[must_use]
    pub fn question(text: &str) -> Self {
        Self::Turns(vec![Message::new(ChatRole::User, text)], None)
    }

    /// What a row of a file asks, and the answer that it gives to that, if any: the assistant's last turn.
    #[must_use]
    pub fn of(row: &Conversation) -> (Self, Option<String>) {
        if let ChatKind::Text(text) = &row.kind {
            return (Self::Text(text.clone()), None);
        }
        let mut turns = row.messages.clone();
        let answered = turns
            .last()
            .is_some_and(|turn| turn.role == ChatRole::Assistant);
        let answer = turns.pop_if(|_| answered).and_then(|turn| turn.content);
        (Self::Turns(turns, row.tools.clone()), answer)
    }
}

impl Generator {
    /// Loads a run directory, a model directory, an adapter directory or a hub name.
    ///
    /// # Errors
    /// When something is missing or does not fit, or the model is no language model.
    pub fn open(path: &Path, device: Device, observer: &dyn Observer) -> Result<Self, Error> {
        let located = locate(path, observer)?.keeping_blocks(device);
        if located.task.kind() != Kind::Generation {
            return Err(Error::Setting {
                reason: format!(
                    "this model was tuned for the task \"{}\", not to write",
                    located.task
                ),
                hint: "ask it with rekindle predict, or name a language model".into(),
            });
        }
        let limits = located.pretrained.config().text.as_ref();
        let positions = limits.map_or(usize::MAX, |limits| limits.positions);
        let vocabulary = limits.map_or(usize::MAX, |limits| limits.vocab_size);
        let encoder = ChatEncoder::from_dir(&located.tokenizer, EncodeOptions::default())?;
        encoder.check_vocab(vocabulary)?;
        Ok(Self {
            model: load(&located, device)?,
            encoder,
            positions,
            constrainer: OnceCell::new(),
        })
    }

    /// The tokenizer and template.
    #[must_use]
    pub fn encoder(&self) -> &ChatEncoder {
        &self.encoder
    }

    /// Answers or continues prompts, all at once. `said` hears of each piece of each answer as soon as it is whole characters.
    ///
    /// # Errors
    /// When a prompt cannot be rendered or encoded, or is longer than the model reads; when a constraint stands beside stop texts,
    /// cannot be followed by this tokenizer, or costs too much.
    pub fn generate(
        &self,
        prompts: &[Prompt],
        sampling: &Sampling,
        said: &mut dyn FnMut(usize, &str),
    ) -> Result<Vec<Answer>, Error> {
        let tokens = prompts.iter().map(|prompt| self.tokens(prompt));
        let tokens = tokens.collect::<Result<Vec<_>, _>>()?;
        self.continue_tokens(tokens, sampling, said)
    }

    /// As [`generate`](Self::generate), from prompts of tokens.
    ///
    /// # Errors
    /// A prompt of no token, or of as many as the model reads; those of constraints.
    pub fn continue_tokens(
        &self,
        prompts: Vec<Vec<u32>>,
        sampling: &Sampling,
        said: &mut dyn FnMut(usize, &str),
    ) -> Result<Vec<Answer>, Error> {
        for (i, tokens) in prompts.iter().enumerate() {
            self.check_length(tokens, &format!("prompt {}", i + 1))?;
        }
        let writer = self.writer(sampling)?;
        let mut session = self.model.begin(prompts.len());
        writer.write(session.as_mut(), prompts, 0, said)
    }

    /// Begins a conversation that keeps what it has read between its turns.
    #[must_use]
    pub fn talk(&self) -> Talk<'_> {
        Talk {
            generator: self,
            session: self.model.begin(1),
            read: Vec::new(),
        }
    }

    /// Whether a prompt can be answered: its template takes it, it has a token, and leaves room for an answer. Messages call it
    /// by `name`, such as `questions.jsonl:7`.
    ///
    /// # Errors
    /// Where it cannot.
    pub fn check(&self, prompt: &Prompt, name: &str) -> Result<(), Error> {
        self.check_length(&self.tokens(prompt)?, name)
    }

    fn check_length(&self, tokens: &[u32], name: &str) -> Result<(), Error> {
        if !tokens.is_empty() && tokens.len() < self.positions {
            return Ok(());
        }
        Err(Error::Setting {
            reason: format!(
                "{name} has {} tokens; the model reads 1 to {}, its answer included",
                tokens.len(),
                self.positions
            ),
            hint: match tokens.is_empty() {
                true => "write the beginning of a text for the model to continue".into(),
                false => "shorten it".into(),
            },
        })
    }

    fn writer<'a>(&'a self, sampling: &'a Sampling) -> Result<Writer<'a>, Error> {
        Ok(Writer {
            encoder: &self.encoder,
            positions: self.positions,
            sampling,
            constrained: self.constrained(sampling)?,
        })
    }

    /// The beginning of an answer that has to be something.
    fn constrained(&self, sampling: &Sampling) -> Result<Option<ConstrainedAnswer>, Error> {
        let Some(constraint) = &sampling.constraint else {
            return Ok(None);
        };
        if sampling.stop.iter().any(|stop| !stop.is_empty()) {
            return Err(Error::Setting {
                reason:
                    "a text that ends answers would cut one that has to be JSON or of another form"
                        .into(),
                hint: "leave one of the two out: such an answer ends when it is whole".into(),
            });
        }
        let constrainer = match self.constrainer.get() {
            Some(constrainer) => constrainer,
            None => {
                let made = Constrainer::new(&self.encoder)?;
                self.constrainer.get_or_init(|| made)
            }
        };
        Ok(Some(constrainer.begin(constraint)?))
    }

    fn tokens(&self, prompt: &Prompt) -> Result<Vec<u32>, Error> {
        Ok(match prompt {
            Prompt::Turns(turns, tools) => self.encoder.prompt(turns, tools.as_ref())?,
            Prompt::Text(text) => self.encoder.text_prompt(text)?,
        })
    }
}

/// A conversation whose keys and values are kept from turn to turn.
pub struct Talk<'a> {
    generator: &'a Generator,
    session: Box<dyn Session + 'a>,
    /// What the session has read.
    read: Vec<u32>,
}

impl Talk<'_> {
    /// Answers a prompt. Where it begins with all that was read and said before, only the rest is read; a template that
    /// renders earlier turns in another way makes it all be read again.
    ///
    /// # Errors
    /// As [`Generator::generate`].
    pub fn answer(
        &mut self,
        prompt: &Prompt,
        sampling: &Sampling,
        said: &mut dyn FnMut(&str),
    ) -> Result<Answer, Error> {
        let generator = self.generator;
        let tokens = generator.tokens(prompt)?;
        generator.check_length(&tokens, "the conversation")?;
        let writer = generator.writer(sampling)?;
        // The last token is always read: the answer follows from it.
        if !tokens.starts_with(&self.read) || tokens.len() == self.read.len() {
            self.session = generator.model.begin(1);
            self.read.clear();
        }
        let known = std::mem::take(&mut self.read).len();
        let session = self.session.as_mut();
        let answers = writer.write(session, vec![tokens.clone()], known, &mut |_, piece| {
            said(piece)
        });
        let answer = match answers {
            Ok(mut answers) => answers.pop(),
            Err(error) => {
                self.session = generator.model.begin(1);
                return Err(error);
            }
        };
        let answer = answer.ok_or_else(|| Error::Internal("a prompt without an answer".into()))?;
        match answer.tokens.split_last() {
            Some((_, before)) => self.read = [&tokens[..], before].concat(),
            None => self.read = tokens[..known].to_vec(),
        }
        Ok(answer)
    }

    /// How many tokens the next prompt need not have read again, if it begins with them.
    #[must_use]
    pub fn tokens_read(&self) -> usize {
        self.read.len()
    }
}

/// What writes answers: the tokenizer, the longest sequence, how tokens are chosen, and which may be.
pub(crate) struct Writer<'a> {
    pub encoder: &'a ChatEncoder,
    pub positions: usize,
    pub sampling: &'a Sampling,
    /// The beginning of an answer under the constraint of `sampling`.
    pub constrained: Option<ConstrainedAnswer>,
}

impl Writer<'_> {
    /// Answers prompts of tokens, all at once, in a session of as many sequences, which has read the first `known` tokens of each.
    /// A prompt must be longer than that, and shorter than the longest sequence.
    pub(crate) fn write(
        &self,
        session: &mut dyn Session,
        prompts: Vec<Vec<u32>>,
        known: usize,
        said: &mut dyn FnMut(usize, &str),
    ) -> Result<Vec<Answer>, Error> {
        let sampling = self.sampling;
        let stops: HashSet<u32> = self.encoder.stop_ids().iter().copied().collect();
        let mut answers: Vec<Option<Answer>> = prompts.iter().map(|_| None).collect();
        let mut open: Vec<Open<'_>> = Vec::new();
        for (prompt, tokens) in prompts.into_iter().enumerate() {
            let words = tokens.iter().map(|&token| u64::from(token));
            open.push(Open {
                prompt,
                key: words.fold(sampling.seed, rng::child),
                asked: tokens.len(),
                tokens,
                text: String::new(),
                stream: self.encoder.stream(true),
                constrained: self.constrained.clone(),
            });
        }
        if sampling.max_new_tokens == 0 {
            open.clear();
        }
        let unread = open.iter().map(|answer| answer.tokens[known..].to_vec());
        let mut new: Vec<Vec<u32>> = unread.collect();
        while !open.is_empty() {
            let mut logits = session.read(&new)?;
            let mut going = Vec::new();
            new.clear();
            for (i, (answer, logits)) in open.iter_mut().zip(&mut logits).enumerate() {
                if let Some(constrained) = &mut answer.constrained {
                    constrained.mask(logits)?;
                }
                let token = sampling.choose(logits, &answer.tokens, answer.key);
                let ended = answer.take(token, &stops, sampling, said)?;
                let full = answer.tokens.len() - answer.asked >= sampling.max_new_tokens
                    || answer.tokens.len() >= self.positions;
                if ended || full {
                    answers[answer.prompt] = Some(Answer {
                        text: std::mem::take(&mut answer.text),
                        tokens: answer.tokens[answer.asked..].to_vec(),
                        finished: ended,
                    });
                } else {
                    going.push(i);
                    new.push(vec![token]);
                }
            }
            if going.len() < open.len() {
                // A conversation that ends here may go on later.
                if !going.is_empty() {
                    session.keep(&going);
                }
                let mut i = 0;
                open.retain(|_| {
                    i += 1;
                    going.contains(&(i - 1))
                });
            }
        }
        let nothing = || Answer {
            text: String::new(),
            tokens: Vec::new(),
            finished: false,
        };
        Ok(answers
            .into_iter()
            .map(|answer| answer.unwrap_or_else(nothing))
            .collect())
    }
}

impl Open<'_> {
    /// Adds a token; whether the answer ends with it.
    fn take(
        &mut self,
        token: u32,
        stops: &HashSet<u32>,
        sampling: &Sampling,
        said: &mut dyn FnMut(usize, &str),
    ) -> Result<bool, Error> {
        self.tokens.push(token);
        if stops.contains(&token) {
            return Ok(true);
        }
        let piece = self.stream.push(token)?;
        // A stop text may begin in what was said already, which is then not taken back.
        self.text.push_str(&piece);
        let found = sampling.stop.iter().filter(|stop| !stop.is_empty());
        let at = found.filter_map(|stop| self.text.find(stop.as_str())).min();
        match at {
            None => said(self.prompt, &piece),
            Some(at) => {
                let before = self.text.len() - piece.len();
                said(self.prompt, self.text.get(before..at).unwrap_or_default());
                self.text.truncate(at);
            }
        }
        let whole = match &mut self.constrained {
            Some(constrained) => constrained.push(token)?,
            None => false,
        };
        Ok(at.is_some() || whole)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// By sorting the whole vocabulary.
    fn by_sorting(sampling: &Sampling, logits: &[f32]) -> Vec<u32> {
        let mut kept: Vec<(u32, f32)> = (0..).zip(logits.iter().copied()).collect();
        kept.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        if sampling.top_k > 0 {
            kept.truncate(sampling.top_k);
        }
        let largest = kept[0].1;
        let p = |l: f32| (f64::from(l - largest) / sampling.temperature).exp();
        let sum: f64 = kept.iter().map(|(_, l)| p(*l)).sum();
        let mut reached = 0.0;
        let mut tokens = Vec::new();
        for (token, l) in kept {
            if reached < sampling.top_p * sum && p(l) >= sampling.min_p {
                tokens.push(token);
            }
            reached += p(l);
        }
        tokens
    }

    #[test]
    fn a_choice_is_among_those_that_sorting_keeps_and_each_of_them_is_chosen() {
        let logits: Vec<f32> = (0..3000)
            .map(|i| 6.0 * rng::normal(3, i % 1500) as f32)
            .collect();
        for (top_k, top_p, min_p) in [
            (5, 1.0, 0.0),
            (0, 0.6, 0.0),
            (0, 0.999, 0.0),
            (0, 1.0, 0.2),
            (40, 0.9, 0.05),
            (9000, 0.5, 0.0),
        ] {
            let sampling = Sampling {
                temperature: 1.5,
                top_k,
                top_p,
                min_p,
                ..Sampling::default()
            };
            let kept: HashSet<u32> = by_sorting(&sampling, &logits).into_iter().collect();
            let chosen: HashSet<u32> = (0..4000)
                .map(|key| sampling.choose(&mut logits.clone(), &[1], rng::child(7, key)))
                .collect();
            assert!(chosen.is_subset(&kept), "{sampling:?}");
            let few = kept.len() <= 12;
            assert!(
                !few || chosen == kept,
                "{sampling:?}: {chosen:?} of {kept:?}"
            );
        }
        let mut all: Vec<(u32, f64)> = (0..3000).map(|i| (i, f64::from(i % 1000))).collect();
        likeliest_first(&mut all, 4);
        assert_eq!(
            all[..4].iter().map(|t| t.0).collect::<Vec<_>>(),
            [999, 1999, 2999, 998]
        );
        assert_eq!(
            nucleus(&mut all, 1.0),
            2997,
            "the three that are 0 add nothing"
        );
    }
}
