//! The losses against TRL's own, values and gradients (`tests/golden/tiny_preference`), and their laws.
#![allow(clippy::unwrap_used)]

use super::*;
use crate::{
    evaluation::score_with,
    inputs::{
        Draw, Inputs,
        preferences::{Preferences, exchanged},
    },
    recipe::by_example,
};
use burn::{
    backend::{Autodiff, Flex},
    module::AutodiffModule,
};
use rekindle_data::chat::{Conversation, EncodedChat, EncodedChats};
use rekindle_models::{HeadSpec, Model, Pretrained, Problem};
use rekindle_nn::{
    Pass, host,
    params::{self, ParamRef},
};
use rekindle_train::Gradients;
use rekindle_weights::WeightFiles;
use serde_json::Value;
use std::{
    f64::consts::LN_2,
    path::{Path, PathBuf},
    sync::Arc,
};

type Tuning = Autodiff<Flex>;
/// What a case sets.
type Change<'a> = &'a dyn Fn(&mut PreferenceConfig);

/// Absolute, on losses and figures of magnitude 1 to 20 that TRL computes in part in f32.
const LOSS: f64 = 1e-4;
/// Of a gradient's norm.
const GRADIENT: f64 = 1e-4;
/// Absolute, on sums of the same numbers in another order.
const SAME: f64 = 1e-6;

/// Prompt, chosen answer, rejected answer.
type Pair = (Vec<u32>, Vec<u32>, Vec<u32>);

fn golden(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../tests/golden")
        .join(path)
}

fn fixture() -> (Value, Vec<Pair>) {
    let text = std::fs::read_to_string(golden("tiny_preference/expected.json")).unwrap();
    let fixture: Value = serde_json::from_str(&text).unwrap();
    let pairs = serde_json::from_value(fixture["pairs"].clone()).unwrap();
    (fixture, pairs)
}

/// The tiny Llama as it is, or with an adapter that changes it.
fn model(adapted: bool) -> Model<Tuning> {
    let device = Default::default();
    let pretrained = Pretrained::open(&golden("tiny_decoders/llama/model")).unwrap();
    let head = HeadSpec {
        outputs: 0,
        labels: Vec::new(),
        problem: Problem::NextToken,
        reads: None,
        seed: 1,
        require: true,
    };
    let (model, _) = Model::from_pretrained(&pretrained, &head, &device).unwrap();
    let names = model.names();
    match adapted {
        false => params::set_trainable(model, &mut |_| true),
        true => {
            let adapter = golden("tiny_decoders/llama/adapter");
            rekindle_peft::load(model, &adapter, &[], names, &device)
                .unwrap()
                .0
        }
    }
}

/// Pairs as a set, with what the unchanged model makes of them.
fn set(pairs: &[Pair], loss: PreferenceLoss) -> Arc<dyn Inputs> {
    let n = pairs.len();
    let item = |prompt: &[u32], answer: &[u32]| EncodedChat {
        ids: [prompt, answer].concat(),
        counts: [vec![false; prompt.len()], vec![true; answer.len()]].concat(),
        cut: false,
    };
    let chosen = pairs.iter().map(|(prompt, chosen, _)| item(prompt, chosen));
    let rejected = pairs
        .iter()
        .map(|(prompt, _, rejected)| item(prompt, rejected));
    let mut encoded = EncodedChats {
        items: chosen.chain(rejected).collect(),
        sources: (0..2 * n).collect(),
        skipped: Vec::new(),
    };
    let examples = match loss {
        PreferenceLoss::Kto => exchanged(&mut encoded, 2 * n, None, false),
        _ => (0..n).map(|i| [i, n + i]).collect(),
    };
    let rows = vec![Conversation::text(""); 2 * n];
    let wanted = (0..2 * n).map(|i| i < n).collect();
    let set: Arc<dyn Inputs> = Arc::new(Preferences::new(rows, encoded, examples, wanted, loss));
    if !set.wants_reference() {
        return set;
    }
    let outputs = score_with(&model(false).valid(), &set, 3, &Default::default()).unwrap();
    set.with_reference(&outputs.logits).unwrap()
}

fn objective(loss: PreferenceLoss, change: impl Fn(&mut PreferenceConfig)) -> Preference {
    let (fixture, _) = fixture();
    let mut settings = PreferenceConfig {
        loss,
        beta: fixture["beta"].as_f64().unwrap(),
        ..Default::default()
    };
    change(&mut settings);
    Preference {
        encoder: TargetEncoder::Next,
        settings,
    }
}

/// The losses of some examples, as a training step has them.
fn losses(
    objective: &Preference,
    model: &Model<Tuning>,
    set: &Arc<dyn Inputs>,
    examples: &[usize],
) -> Tensor<Tuning, 1> {
    let device = Default::default();
    let draw = Draw {
        view: 0,
        epoch: 0,
        batch: 0,
    };
    let batch = set.batch(examples, Some(draw)).unwrap();
    let input = batch.input.as_ref().unwrap().to_device(&device);
    let outputs = model.forward(input, Pass::training(1, 0));
    let outputs = by_example(outputs, model, &batch, Pass::evaluation(), &device);
    objective.losses(outputs, &batch.targets)
}

fn sum(losses: Tensor<Tuning, 1>) -> f64 {
    let values = host::values(losses.inner()).unwrap();
    values.into_iter().map(f64::from).sum()
}

fn figures(objective: &Preference, model: &Model<Tuning>, set: &Arc<dyn Inputs>) -> Figures {
    let scored = score_with(&model.clone().valid(), set, 3, &Default::default()).unwrap();
    objective.figures(&scored.logits, &scored.targets(set.as_ref()))
}

#[test]
fn losses_gradients_and_figures_are_those_of_trl() {
    let (fixture, pairs) = fixture();
    let number = |key: &str| fixture[key].as_f64().unwrap();
    let gradients = WeightFiles::open(&golden("tiny_preference/gradients.safetensors")).unwrap();
    let nothing: Change<'_> = &|_| {};
    let cases: [(&str, PreferenceLoss, usize, Change<'_>); 5] = [
        ("dpo", PreferenceLoss::Dpo, 4, nothing),
        ("dpo_smoothed", PreferenceLoss::Dpo, 4, &|settings| {
            settings.label_smoothing = number("label_smoothing");
        }),
        ("dpo_sft", PreferenceLoss::Dpo, 1, &|settings| {
            settings.sft_weight = number("sft_weight");
        }),
        ("orpo", PreferenceLoss::Orpo, 4, nothing),
        ("kto", PreferenceLoss::Kto, 4, &|settings| {
            settings.desirable_weight = number("desirable_weight");
            settings.undesirable_weight = number("undesirable_weight");
        }),
    ];
    for (case, loss, n, change) in cases {
        let objective = objective(loss, change);
        let set = set(&pairs[..n], loss);
        let all: Vec<usize> = (0..set.len()).collect();
        for (method, adapted) in [("full", false), ("lora", true)] {
            let (what, expected) = (format!("{case}, {method}"), &fixture["cases"][case][method]);
            let model = model(adapted);
            let loss = losses(&objective, &model, &set, &all).sum() / all.len() as f32;
            let found = sum(loss.clone());
            let apart = (found - expected["loss"].as_f64().unwrap()).abs();
            assert!(apart < LOSS, "{what}: loss {found}, {apart:e} apart");

            let mut grads = Gradients::<Tuning>::default();
            grads.backward(&loss, &model, model.names());
            let (mut largest, mut compared) = (0f64, 0);
            params::visit(&model, &mut |param: ParamRef<'_, Tuning>| {
                let name = model.names().published(param.path);
                let stored = name
                    .replace(".adapter.lora_a", ".lora_A.weight")
                    .replace(".adapter.lora_b", ".lora_B.weight");
                let stored = gradients
                    .read(&format!("{case}.{method}.{stored}"))
                    .unwrap();
                let Some(stored) = stored.filter(|_| param.trainable) else {
                    return;
                };
                let found = grads.get(&name).unwrap().clone();
                let found = host::to_host::<Flex>(found).unwrap().values;
                let norm = |values: &mut dyn Iterator<Item = f32>| {
                    values.map(|v| f64::from(v).powi(2)).sum::<f64>().sqrt()
                };
                let apart = norm(&mut found.iter().zip(&stored.values).map(|(a, b)| a - b));
                let apart = apart / norm(&mut stored.values.iter().copied());
                assert!(
                    apart < GRADIENT,
                    "{what}: gradient of {name}, {apart:e} apart"
                );
                (largest, compared) = (largest.max(apart), compared + 1);
            });
            assert!(compared >= 12, "{what}: {compared} gradients");

            let figures = figures(&objective, &model, &set);
            for (theirs, ours) in [
                ("rewards/chosen", "reward_chosen"),
                ("rewards/rejected", "reward_rejected"),
                ("rewards/margins", "reward_margin"),
                ("rewards/accuracies", "reward_accuracy"),
                ("logps/chosen", "logp_chosen"),
                ("logps/rejected", "logp_rejected"),
                ("log_odds_chosen", "log_odds"),
                ("kl", "divergence"),
            ] {
                let Some(theirs) = expected["figures"][theirs].as_f64() else {
                    continue;
                };
                let found = figures.get(ours).unwrap();
                // The whole model is as it was, so that all pairs are level: TRL counts them as wrong, we by half.
                let is_level =
                    ours == "reward_accuracy" && figures.get("reward_margin") == Some(0.0);
                let theirs = if is_level { theirs + 0.5 } else { theirs };
                assert!(
                    (found - theirs).abs() < LOSS,
                    "{what}: {ours} {found}, not {theirs}"
                );
            }
            let evaluated = figures.get("loss").unwrap();
            assert!(
                (evaluated - found).abs() < LOSS,
                "{what}: evaluated as {evaluated}"
            );
            println!("{what}: loss within {apart:.1e}, gradients within {largest:.1e}");
        }
    }
}

#[test]
fn a_model_that_has_not_changed_is_indifferent() {
    let (_, pairs) = fixture();
    let set = set(&pairs, PreferenceLoss::Dpo);
    let objective = objective(PreferenceLoss::Dpo, |_| {});
    let figures = figures(&objective, &model(false), &set);
    assert!((figures.get("loss").unwrap() - LN_2).abs() < SAME);
    assert!(figures.get("reward_margin").unwrap().abs() < SAME);
    let trained = sum(losses(&objective, &model(false), &set, &[0, 1, 2, 3])) / 4.0;
    assert!((trained - LN_2).abs() < SAME, "{trained}");
}

/// Two answers in one row do not see each other, nor other pairs: what a pair's loss is does not depend on its batch.
#[test]
fn pairs_packed_are_pairs_alone() {
    let (_, pairs) = fixture();
    let model = model(true);
    let set = set(&pairs, PreferenceLoss::Dpo);
    let objective = objective(PreferenceLoss::Dpo, |settings| {
        settings.sft_weight = 0.3;
        settings.label_smoothing = 0.1;
    });
    let packed = host::values(losses(&objective, &model, &set, &[0, 1, 2, 3]).inner()).unwrap();
    for (pair, packed) in packed.into_iter().enumerate() {
        let alone = sum(losses(&objective, &model, &set, &[pair]));
        let apart = (alone - f64::from(packed)).abs();
        assert!(
            apart < 4.0 * SAME,
            "pair {pair}: {alone} alone, {packed} packed"
        );
    }
}

#[test]
fn answers_are_exchanged_within_blocks() {
    let item = |prompt: u32, answer: &[u32]| EncodedChat {
        ids: [&[prompt, prompt], answer].concat(),
        counts: [vec![false, false], vec![true; answer.len()]].concat(),
        cut: false,
    };
    let set_of = |n: u32| EncodedChats {
        items: (1..=n).map(|i| item(i, &[10 * i, 10 * i + 1])).collect(),
        sources: (0..n as usize).collect(),
        skipped: Vec::new(),
    };
    let mut set = set_of(5);
    let examples = exchanged(&mut set, 3, Some(3), false);
    assert_eq!(examples, [[0, 5], [1, 6], [2, 7], [3, 8], [4, 9]]);
    let others: Vec<&[u32]> = set.items[5..].iter().map(|item| &item.ids[..]).collect();
    assert_eq!(
        others,
        [[1, 1, 30], [2, 2, 10], [3, 3, 20], [4, 4, 50], [5, 5, 40]]
    );
    assert!(
        set.items[5..]
            .iter()
            .all(|item| item.counts == [false, false, true] && item.cut)
    );

    // A last block of one takes the answer before it; a tokenizer that cuts at the left keeps the end of the answer.
    let mut set = set_of(4);
    exchanged(&mut set, 3, Some(3), true);
    let others: Vec<&[u32]> = set.items[4..].iter().map(|item| &item.ids[..]).collect();
    assert_eq!(others, [[1, 30, 31], [2, 10, 11], [3, 20, 21], [4, 30, 31]]);
    assert_eq!(set.items[7].counts, [false, true, true]);
    let mut set = set_of(4);
    exchanged(&mut set, 3, Some(2), true);
    assert_eq!(set.items[4].counts, [false, true]);
}

/// Before the first step nothing is ahead: every loss takes that as half right.
#[test]
fn ties_count_half() {
    assert_eq!(ahead([0.0, 0.0].into_iter()), 0.5);
    assert_eq!(ahead([1.0, 0.0, -1.0, -2.0].into_iter()), 0.375);
    assert_eq!(ahead([f64::NAN, 1.0].into_iter()), 0.5);
}

#[test]
fn ranks_and_odds() {
    let answer = |reward: f64, wanted: bool| Answer {
        wanted,
        logp: 0.0,
        reward,
    };
    let answers = [
        (0.1, true),
        (0.3, false),
        (0.3, true),
        (0.5, true),
        (-1.0, false),
    ];
    let ranked_of = |answers: &[(f64, bool)]| {
        ranked(
            &answers
                .iter()
                .map(|&(r, w)| answer(r, w))
                .collect::<Vec<_>>(),
        )
    };
    // Of six pairs: 0.1 is above one, 0.3 above one and level with one, 0.5 above both.
    assert!((ranked_of(&answers) - 4.5 / 6.0).abs() < 1e-12);
    assert!(ranked_of(&[(0.1, true)]).is_nan());

    let of: Vec<f64> = vec![0.0, 1e-6, 1e-3, 0.1, 1.0, 5.0, 40.0, 300.0];
    let values: Vec<f32> = of.iter().map(|&loss| loss as f32).collect();
    let found = log_odds_of(Tensor::<Flex, 1>::from_data(
        values.as_slice(),
        &Default::default(),
    ));
    for (found, loss) in host::values(found).unwrap().into_iter().zip(of) {
        let expected = log_odds(loss);
        let apart = (f64::from(found) - expected).abs() / expected.abs().max(1.0);
        assert!(apart < SAME, "loss {loss}: {found}, not {expected}");
    }
    // p = 1/2 has even odds.
    assert!(log_odds(LN_2).abs() < 1e-12);
    assert!((log_sigmoid(0.0) + LN_2).abs() < 1e-12 && log_sigmoid(-800.0) == -800.0);
}
