//! Preference tuning: of two answers to one prompt the chosen one becomes likelier (DPO, ORPO), or an answer that was judged
//! becomes likelier or less likely (KTO). A language model gives of each answer the sum of its tokens' losses, which is minus
//! its log-probability log p.
//!
//! | loss | of an example | paper |
//! |---|---|---|
//! | DPO | −log σ(β (r₊ − r₋)), r the log p less that of the model before training | Rafailov et al. 2023 |
//! | ORPO | mean loss of the tokens of chosen answer and prompt − β log σ(o₊ − o₋), o the log odds of a mean token | Hong et al. 2024 |
//! | KTO | w (1 − σ(± β (r − z))), z the mean r of answers to other prompts, at least 0, without a gradient | Ethayarajh et al. 2024 |
//!
//! They are those of TRL 1.16, with these differences. The smoothing of labels is that of conservative DPO (Mitchell 2023), which
//! TRL no longer has. `preference.sft_weight` adds each chosen answer's own mean token loss, where TRL's is a mean over the tokens
//! of the batch: so DPO's gradient does not depend on how a window is cut into batches. What ORPO's mean of tokens and KTO's z are
//! taken over is the batch, as in TRL, so there it does. Evaluation takes them over the whole set. In the reward accuracy an answer that
//! is level with the other counts half, with every loss; TRL counts it as wrong.

#[cfg(test)]
mod tests;

use super::{Loss, Objective, Prediction, Wrong, shortest};
use crate::{
    RunConfig,
    config::{PreferenceConfig, PreferenceLoss},
    evaluation::Logits,
    figures::{Figures, Scalar, Shown, Tile, Watched},
    guess::Guess,
    report::text::{figure, percent},
};
use burn::tensor::{Tensor, activation, backend::Backend};
use rekindle_data::{Part, TargetEncoder, TargetRow, Targets};
use rekindle_nn::TuneBackend;
use serde_json::{Map, Value, json};

/// The least mean token loss that log odds are taken of: below, a probability is 1 in f32.
const LEAST_LOSS: f64 = 1e-7;

pub(super) struct Preference {
    encoder: TargetEncoder,
    settings: PreferenceConfig,
}

/// What an evaluation makes of an answer.
#[derive(Debug, Clone, Copy)]
struct Answer {
    wanted: bool,
    /// log p; with ORPO of a mean token.
    logp: f64,
    reward: f64,
}

/// What an evaluation makes of an example.
struct Example {
    /// One answer, or the chosen and the rejected one.
    answers: Vec<Answer>,
    loss: f64,
    /// By how much the right answer is ahead; below 0 it is behind.
    margin: f64,
}

impl Preference {
    pub(super) fn train(config: &RunConfig) -> Self {
        Self {
            encoder: TargetEncoder::Next,
            settings: config.preference.clone(),
        }
    }

    fn is_kto(&self) -> bool {
        self.settings.loss == PreferenceLoss::Kto
    }

    /// z of KTO: the mean log-ratio of answers to other prompts, at least 0.
    fn divergence(&self, outputs: &Logits, targets: &Targets) -> f64 {
        if !self.is_kto() {
            return 0.0;
        }
        let ratios = (0..outputs.len()).map(|row| match parts(targets, row) {
            [_, other] => logp(outputs, row, 1) - f64::from(other.reference),
            _ => 0.0,
        });
        (ratios.sum::<f64>() / outputs.len().max(1) as f64).max(0.0)
    }

    /// What became of one example, `divergence` being z.
    fn example(&self, outputs: &Logits, targets: &Targets, row: usize, divergence: f64) -> Example {
        let settings = &self.settings;
        let parts = parts(targets, row);
        let mean = |i: usize| logp(outputs, row, i) / f64::from(parts[i].tokens.max(1));
        let ratio = |i: usize| logp(outputs, row, i) - f64::from(parts[i].reference);
        let answer = |i: usize| {
            let (logp, reward) = match settings.loss {
                PreferenceLoss::Orpo => (mean(i), mean(i)),
                _ => (logp(outputs, row, i), ratio(i)),
            };
            Answer {
                wanted: parts[i].wanted,
                logp,
                reward: settings.beta * reward,
            }
        };
        match settings.loss {
            PreferenceLoss::Dpo => {
                let answers = vec![answer(0), answer(1)];
                let margin = answers[0].reward - answers[1].reward;
                let smoothing = settings.label_smoothing;
                let loss = -(1.0 - smoothing) * log_sigmoid(margin)
                    - smoothing * log_sigmoid(-margin)
                    - settings.sft_weight * mean(0);
                Example {
                    answers,
                    loss,
                    margin,
                }
            }
            PreferenceLoss::Orpo => {
                let answers = vec![answer(1), answer(2)];
                let odds = log_odds(-mean(1)) - log_odds(-mean(2));
                let tokens = f64::from(parts[0].tokens + parts[1].tokens);
                let learned = -(logp(outputs, row, 0) + logp(outputs, row, 1)) / tokens.max(1.0);
                Example {
                    loss: learned - settings.beta * log_sigmoid(odds),
                    margin: answers[0].reward - answers[1].reward,
                    answers,
                }
            }
            PreferenceLoss::Kto => {
                let answer = answer(0);
                let (sign, weight) = match answer.wanted {
                    true => (1.0, settings.desirable_weight),
                    false => (-1.0, settings.undesirable_weight),
                };
                let margin = sign * (answer.reward - settings.beta * divergence);
                Example {
                    answers: vec![answer],
                    loss: weight * (1.0 - sigmoid(margin)),
                    margin,
                }
            }
        }
    }

    /// The mean loss over examples; of ORPO the learned part is a mean over all tokens, as in a batch.
    fn mean_loss(&self, examples: &[Example], outputs: &Logits, targets: &Targets) -> f64 {
        let n = examples.len().max(1) as f64;
        if self.settings.loss != PreferenceLoss::Orpo {
            return examples.iter().map(|example| example.loss).sum::<f64>() / n;
        }
        let (mut learned, mut tokens) = (0.0, 0.0);
        for row in 0..outputs.len() {
            learned -= logp(outputs, row, 0) + logp(outputs, row, 1);
            let parts = parts(targets, row);
            tokens += f64::from(parts[0].tokens + parts[1].tokens);
        }
        let odds = examples.iter().map(|example| log_sigmoid(odds(example)));
        learned / tokens.max(1.0) - self.settings.beta * odds.sum::<f64>() / n
    }
}

/// Log odds of the chosen answer's mean token, less those of the rejected one's.
fn odds(example: &Example) -> f64 {
    match example.answers[..] {
        [chosen, rejected] => log_odds(-chosen.logp) - log_odds(-rejected.logp),
        _ => f64::NAN,
    }
}

fn parts(targets: &Targets, row: usize) -> &[Part] {
    match targets.row(row) {
        TargetRow::Parts(parts) => parts,
        _ => &[],
    }
}

/// log p of a part: outputs hold of each part the sum of its losses and its right tokens.
fn logp(outputs: &Logits, row: usize, part: usize) -> f64 {
    -f64::from(outputs.row(row)[2 * part])
}

fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

fn log_sigmoid(x: f64) -> f64 {
    x.min(0.0) - (-x.abs()).exp().ln_1p()
}

/// log (p / (1 − p)) of a probability p by its loss −log p.
fn log_odds(loss: f64) -> f64 {
    let loss = loss.max(LEAST_LOSS);
    -loss - (-(-loss).exp_m1()).ln()
}

/// How often a wanted answer has a higher reward than one that is not wanted, of all such pairs, equal ones by half; NaN where
/// there are none.
fn ranked(answers: &[Answer]) -> f64 {
    let mut rewards: Vec<(f64, bool)> = answers.iter().map(|a| (a.reward, a.wanted)).collect();
    rewards.sort_by(|a, b| a.0.total_cmp(&b.0));
    let (mut below, mut ahead, mut wanted) = (0.0, 0.0, 0.0);
    for same in rewards.chunk_by(|a, b| a.0 == b.0) {
        let good = same.iter().filter(|(_, wanted)| *wanted).count() as f64;
        let bad = same.len() as f64 - good;
        ahead += good * (below + 0.5 * bad);
        below += bad;
        wanted += good;
    }
    ahead / (wanted * below)
}

/// How often a margin is above 0, one of 0 by half.
fn ahead(margins: impl Iterator<Item = f64>) -> f64 {
    mean(margins.map(|margin| match margin {
        0.0 => 0.5,
        margin => f64::from(u8::from(margin > 0.0)),
    }))
}

fn mean(values: impl Iterator<Item = f64>) -> f64 {
    let (sum, n) = values.fold((0.0, 0.0), |(sum, n), value| (sum + value, n + 1.0));
    sum / n
}

impl Objective for Preference {
    fn encoder(&self) -> &TargetEncoder {
        &self.encoder
    }

    fn described_as(&self) -> &'static str {
        "learns"
    }

    fn watched(&self) -> Vec<Watched> {
        vec![
            Watched::new("loss", "loss", false),
            Watched::new("reward_accuracy", "reward accuracy", true),
            Watched::new("logp_chosen", "log p chosen", false),
            Watched::new("logp_rejected", "log p rejected", false),
        ]
    }

    fn figures(&self, outputs: &Logits, targets: &Targets) -> Figures {
        let divergence = self.divergence(outputs, targets);
        let rows = 0..outputs.len();
        let examples: Vec<Example> = rows
            .map(|row| self.example(outputs, targets, row, divergence))
            .collect();
        let answers: Vec<Answer> = examples.iter().flat_map(|e| e.answers.clone()).collect();
        let of = |wanted: bool, value: fn(&Answer) -> f64| {
            let some = answers.iter().filter(|answer| answer.wanted == wanted);
            mean(some.map(value))
        };
        let [chosen, rejected] = [true, false].map(|wanted| of(wanted, |answer| answer.reward));
        let [logp_chosen, logp_rejected] =
            [true, false].map(|wanted| of(wanted, |answer| answer.logp));
        let accuracy = match self.is_kto() {
            true => ranked(&answers),
            false => ahead(examples.iter().map(|example| example.margin)),
        };
        let loss = self.mean_loss(&examples, outputs, targets);
        let mut scalars = vec![
            Scalar::new("loss", "loss", loss, Shown::Always),
            Scalar::new(
                "reward_accuracy",
                "reward accuracy",
                accuracy,
                Shown::Always,
            ),
            Scalar::new("reward_margin", "margin", chosen - rejected, Shown::InFull),
            Scalar::new("reward_chosen", "reward chosen", chosen, Shown::Behind),
            Scalar::new(
                "reward_rejected",
                "reward rejected",
                rejected,
                Shown::Behind,
            ),
            Scalar::new("logp_chosen", "log p chosen", logp_chosen, Shown::Always),
            Scalar::new(
                "logp_rejected",
                "log p rejected",
                logp_rejected,
                Shown::Always,
            ),
        ];
        match self.settings.loss {
            PreferenceLoss::Dpo => {}
            PreferenceLoss::Orpo => {
                let odds = mean(examples.iter().map(odds));
                scalars.push(Scalar::new("log_odds", "log odds", odds, Shown::InFull));
            }
            PreferenceLoss::Kto => {
                let name = "divergence";
                scalars.push(Scalar::new(name, name, divergence, Shown::Behind));
            }
        }
        let nonfinite = examples.iter().filter(|e| !e.loss.is_finite()).count();
        let n = outputs.len() as u64;
        let warnings = (nonfinite > 0)
            .then(|| format!("The loss was not finite in {nonfinite} of {n} examples."));
        let each = match self.settings.loss {
            PreferenceLoss::Orpo => "log-probability of a mean token",
            _ => "log-probability of a whole answer, on average",
        };
        Figures {
            n,
            headline: "reward_accuracy".into(),
            scalars,
            tiles: vec![
                Tile::new(
                    "reward accuracy",
                    percent(accuracy),
                    "the chosen answer gained more than the rejected one".into(),
                ),
                Tile::new("margin", figure(chosen - rejected), "of the rewards".into()),
                Tile::new("log p chosen", figure(logp_chosen), each.into()),
                Tile::new("log p rejected", figure(logp_rejected), each.into()),
                Tile::new(
                    "loss",
                    figure(loss),
                    self.settings.loss.name().to_uppercase(),
                ),
            ],
            warnings: warnings.into_iter().collect(),
            guess: Guess::of_pairs(accuracy, n),
            sections: Vec::new(),
        }
    }

    fn worst(&self, outputs: &Logits, targets: &Targets, most: usize) -> Vec<Wrong> {
        let divergence = self.divergence(outputs, targets);
        let rows = 0..outputs.len();
        let mut wrong: Vec<(usize, Example)> = rows
            .map(|row| (row, self.example(outputs, targets, row, divergence)))
            .filter(|(_, example)| example.margin < 0.0)
            .collect();
        wrong.sort_by(|a, b| a.1.margin.total_cmp(&b.1.margin));
        wrong.truncate(most);
        let words = |answer: &Answer| {
            let name = match (self.is_kto(), answer.wanted) {
                (true, true) => "wanted",
                (true, false) => "not wanted",
                (false, true) => "chosen",
                (false, false) => "rejected",
            };
            format!(
                "{name}, reward {:.3}, log p {:.2}",
                answer.reward, answer.logp
            )
        };
        let described = wrong.into_iter().map(|(row, example)| Wrong {
            row,
            right: example.answers.first().map_or_else(String::new, words),
            said: match &example.answers[..] {
                [_, rejected] => words(rejected),
                _ => format!("margin {:.3}", example.margin),
            },
            probability: None,
            loss: example.loss,
            top: Vec::new(),
        });
        described.collect()
    }

    fn scored(&self, outputs: &Logits, targets: &Targets, row: usize) -> Map<String, Value> {
        let divergence = self.divergence(outputs, targets);
        let example = self.example(outputs, targets, row, divergence);
        let mut line = Map::new();
        for answer in &example.answers {
            let name = match (self.is_kto(), answer.wanted) {
                (true, true) => "wanted",
                (true, false) => "not_wanted",
                (false, true) => "chosen",
                (false, false) => "rejected",
            };
            let about = json!({"logp": shortest(answer.logp), "reward": shortest(answer.reward)});
            line.insert(name.into(), about);
        }
        line.insert("margin".into(), json!(shortest(example.margin)));
        line.insert("loss".into(), json!(shortest(example.loss)));
        line.insert("correct".into(), json!(example.margin > 0.0));
        line
    }

    fn answer(&self, outputs: &[f32]) -> Prediction {
        Prediction::Numbers {
            values: vec![("loss".into(), f64::from(outputs[0]))],
        }
    }
}

impl<B: TuneBackend> Loss<B> for Preference {
    fn losses(&self, outputs: Tensor<B, 2>, targets: &Targets) -> Tensor<B, 1> {
        let settings = &self.settings;
        let [examples, _] = outputs.dims();
        let sums = |part: usize| outputs.clone().narrow(1, part, 1).reshape([examples]);
        let of_parts = |part: usize, value: &dyn Fn(&Part) -> f32| {
            let values = (0..examples).map(|row| parts(targets, row).get(part).map_or(0.0, value));
            let values: Vec<f32> = values.collect();
            Tensor::<B, 1>::from_data(values.as_slice(), &outputs.device())
        };
        let tokens = |part: usize| of_parts(part, &|part| part.tokens.max(1) as f32);
        let ratio = |part: usize| -sums(part) - of_parts(part, &|part| part.reference);
        match settings.loss {
            PreferenceLoss::Dpo => {
                let margin = (ratio(0) - ratio(1)) * settings.beta;
                let smoothing = settings.label_smoothing;
                let compared = activation::log_sigmoid(margin.clone()) * (smoothing - 1.0)
                    - activation::log_sigmoid(-margin) * smoothing;
                compared + sums(0) / tokens(0) * settings.sft_weight
            }
            PreferenceLoss::Orpo => {
                let odds = |part: usize| log_odds_of(sums(part) / tokens(part));
                let all: f32 = (0..examples)
                    .flat_map(|row| parts(targets, row).iter().take(2))
                    .map(|part| part.tokens as f32)
                    .sum();
                let learned = (sums(0) + sums(1)).sum() / all.max(1.0);
                let compared = activation::log_sigmoid(odds(1) - odds(2)) * settings.beta;
                learned.expand([examples]) - compared
            }
            PreferenceLoss::Kto => {
                // What other prompts' answers gained has no gradient: see `HostBatch::aside`.
                let divergence = ratio(1).mean().clamp_min(0.0).expand([examples]);
                let sign = of_parts(0, &|part| if part.wanted { 1.0 } else { -1.0 });
                let weight = of_parts(0, &|part| match part.wanted {
                    true => settings.desirable_weight as f32,
                    false => settings.undesirable_weight as f32,
                });
                let margin = (ratio(0) - divergence) * sign * settings.beta;
                // 1 − σ(x) is σ(−x).
                activation::sigmoid(-margin) * weight
            }
        }
    }
}

/// [`log_odds`] of mean losses `[N]`: 1 − e⁻ˡ is 2 t / (1 + t) with t = tanh(l / 2), which is exact where l is small.
fn log_odds_of<B: Backend>(loss: Tensor<B, 1>) -> Tensor<B, 1> {
    let loss = loss.clamp_min(LEAST_LOSS);
    let t = (loss.clone() * 0.5).tanh();
    -loss - (t.clone() * 2.0 / (t + 1.0)).log()
}
