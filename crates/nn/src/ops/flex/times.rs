//! Times of every kernel against its default body at MiniLM's shapes, 32 sequences of 128 tokens: printed, not judged.
//! `cargo test --release -p rekindle-nn --lib -- --ignored --nocapture times`

use super::laws::{classes, random, vector};
use crate::ops::{
    self, AdamW, AttentionConfig, CrossEntropy, Dropout, GeluKind, Sequences, TuneBackend,
    primitive, tensor,
};
use burn::backend::Flex;
use std::hint::black_box;
use std::time::Instant;

/// The median of seven runs after one to warm up, in milliseconds.
fn median<T>(mut run: impl FnMut() -> T) -> f64 {
    black_box(run());
    let mut times: Vec<f64> = (0..7)
        .map(|_| {
            let start = Instant::now();
            black_box(run());
            start.elapsed().as_secs_f64() * 1e3
        })
        .collect();
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

fn row<T, U>(name: &str, kernel: impl FnMut() -> T, default: impl FnMut() -> U) {
    let (kernel, default) = (median(kernel), median(default));
    println!(
        "{name:<28} {kernel:>9.2} {default:>9.2} {:>7.1}",
        default / kernel
    );
}

#[test]
#[ignore = "prints times, checks nothing"]
fn times_at_minilm_shapes() {
    let (tokens, width, inner, vocabulary) = (4096, 384, 1536, 30_522);
    let (x, g, wide_x, wide_g) = (
        random(1, [tokens, width]),
        random(2, [tokens, width]),
        random(3, [tokens, inner]),
        random(4, [tokens, inner]),
    );
    let (w, b) = (random(5, [inner, width]), vector(6, inner));
    let (gamma, beta) = (vector(7, width), vector(8, width));
    println!(
        "{:<28} {:>9} {:>9} {:>7}",
        "operation", "kernel ms", "default", "ratio"
    );
    row(
        "linear 384 -> 1536",
        || Flex::tune_linear(x.clone(), w.clone(), Some(b.clone())),
        || ops::linear::forward::<Flex>(x.clone(), w.clone(), Some(b.clone())),
    );
    row(
        "linear backward x",
        || Flex::tune_linear_backward_x(wide_g.clone(), w.clone()),
        || tensor::<Flex, 2>(wide_g.clone()).matmul(tensor(w.clone())),
    );
    row(
        "linear backward weight",
        || Flex::tune_linear_backward_weight(wide_g.clone(), x.clone()),
        || {
            tensor::<Flex, 2>(wide_g.clone())
                .transpose()
                .matmul(tensor(x.clone()))
        },
    );
    row(
        "linear backward bias",
        || Flex::tune_linear_backward_bias(wide_g.clone()),
        || ops::linear::backward_bias::<Flex>(wide_g.clone()),
    );
    for kind in [GeluKind::Exact, GeluKind::Tanh] {
        row(
            &format!("gelu {kind:?}"),
            || Flex::tune_gelu(wide_x.clone(), kind),
            || ops::gelu::forward::<Flex>(wide_x.clone(), kind),
        );
        row(
            &format!("gelu {kind:?} backward"),
            || Flex::tune_gelu_backward(wide_x.clone(), wide_g.clone(), kind),
            || ops::gelu::backward::<Flex>(wide_x.clone(), wide_g.clone(), kind),
        );
    }
    row(
        "layer norm",
        || {
            Flex::tune_layer_norm(
                x.clone(),
                Some(g.clone()),
                gamma.clone(),
                beta.clone(),
                1e-12,
            )
        },
        || {
            ops::layer_norm::forward::<Flex>(
                x.clone(),
                Some(g.clone()),
                gamma.clone(),
                beta.clone(),
                1e-12,
            )
        },
    );
    let needs = (true, true);
    row(
        "layer norm backward",
        || {
            Flex::tune_layer_norm_backward(
                x.clone(),
                Some(g.clone()),
                gamma.clone(),
                g.clone(),
                1e-12,
                needs,
            )
        },
        || {
            ops::layer_norm::backward::<Flex>(
                x.clone(),
                Some(g.clone()),
                gamma.clone(),
                g.clone(),
                1e-12,
                needs,
            )
        },
    );
    let sequences = Sequences::from_lengths(&[128; 32]);
    for dropout in [None, Some(Dropout { key: 1, rate: 0.1 })] {
        let config = AttentionConfig {
            heads: 12,
            causal: false,
            dropout,
        };
        let name = if dropout.is_some() {
            "attention, dropout"
        } else {
            "attention"
        };
        let inputs = || (x.clone(), g.clone(), x.clone());
        row(
            name,
            || {
                let (q, k, v) = inputs();
                Flex::tune_attention(q, k, v, (&sequences, &sequences), config)
            },
            || {
                let (q, k, v) = inputs();
                ops::attention::forward::<Flex>(q, k, v, (&sequences, &sequences), config)
            },
        );
        row(
            &format!("{name} backward"),
            || {
                let (q, k, v) = inputs();
                Flex::tune_attention_backward(q, k, v, g.clone(), (&sequences, &sequences), config)
            },
            || {
                let (q, k, v) = inputs();
                ops::attention::backward::<Flex>(
                    q,
                    k,
                    v,
                    g.clone(),
                    (&sequences, &sequences),
                    config,
                )
            },
        );
    }
    let indices = classes(tokens, vocabulary);
    row(
        "embedding backward",
        || Flex::tune_embedding_rows_backward(vocabulary, indices.clone(), g.clone()),
        || ops::embedding::backward::<Flex>(vocabulary, indices.clone(), g.clone()),
    );
    let dropout = Dropout { key: 1, rate: 0.1 };
    row(
        "dropout",
        || Flex::tune_dropout_rows(x.clone(), dropout),
        || ops::dropout::apply::<Flex>(x.clone(), dropout),
    );
    let plain = CrossEntropy::default();
    for (rows, count) in [(4096, 2), (512, 30_522)] {
        let (logits, targets, g) = (
            random(9, [rows, count]),
            classes(rows, count),
            vector(10, rows),
        );
        row(
            &format!("cross-entropy {rows} x {count}"),
            || Flex::tune_cross_entropy(logits.clone(), targets.clone(), &plain),
            || ops::cross_entropy::forward::<Flex>(logits.clone(), targets.clone(), &plain),
        );
        row(
            "cross-entropy backward",
            || {
                Flex::tune_cross_entropy_backward(
                    logits.clone(),
                    targets.clone(),
                    g.clone(),
                    &plain,
                )
            },
            || {
                ops::cross_entropy::backward::<Flex>(
                    logits.clone(),
                    targets.clone(),
                    g.clone(),
                    &plain,
                )
            },
        );
    }
    let settings = AdamW {
        learning_rate: 1e-4,
        beta1: 0.9,
        beta2: 0.999,
        epsilon: 1e-8,
        weight_decay: 0.01,
        step: 10,
        grad_scale: 1.0,
    };
    let grad = random(11, [vocabulary, width]);
    let state = || {
        let square = primitive(tensor::<Flex, 2>(grad.clone()).powi_scalar(2));
        (
            random(12, [vocabulary, width]),
            (random(13, [vocabulary, width]), square),
        )
    };
    let (mut kernel, mut default) = (Some(state()), Some(state()));
    row(
        "adamw 30522 x 384",
        || {
            if let Some((p, moments)) = kernel.take() {
                let (p, m, v) = Flex::tune_adamw_step(p, grad.clone(), moments, settings);
                kernel = Some((p, (m, v)));
            }
        },
        || {
            if let Some((p, moments)) = default.take() {
                let (p, m, v) = ops::adamw::step::<Flex>(p, grad.clone(), moments, settings);
                default = Some((p, (m, v)));
            }
        },
    );
}
