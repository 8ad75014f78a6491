//! Every operation's kernel on the CPU against its default body, at the sizes of MiniLM (32 texts of 128 tokens), of SmolLM2
//! (1,024 tokens), of DeBERTa-v3 (8 texts of 128 tokens) and of ResNet-18 and EfficientNet-Lite0 (16 pictures of 224 x 224).
//!
//!     cargo bench -p rekindle-benches --bench ops -- [FILTER]

use burn::{
    backend::Flex,
    tensor::{
        Int, Tensor, TensorData,
        ops::{FloatTensor, IntTensor},
    },
};
use criterion::{Criterion, criterion_group, criterion_main};
use rekindle_base::rng;
use rekindle_nn::{
    Sequences, TuneBackend,
    ops::{
        AdamW, AttentionConfig, BatchNormConfig, CrossEntropy, Distances, Dropout, Gate, GeluKind,
        Precision, Rectify, Relative, Window, default,
    },
};
use std::hint::black_box;

type Float = FloatTensor<Flex>;

/// Values in [-1, 1) by a key.
fn random<const D: usize>(key: u64, shape: [usize; D]) -> Float {
    let count = shape.iter().product::<usize>() as u64;
    let values: Vec<f32> = (0..count)
        .map(|i| (2.0 * rng::uniform(key, i) - 1.0) as f32)
        .collect();
    let data = TensorData::new(values, shape);
    Tensor::<Flex, D>::from_data(data, &Default::default())
        .into_primitive()
        .tensor()
}

fn zeros(shape: [usize; 2]) -> Float {
    Tensor::<Flex, 2>::zeros(shape, &Default::default())
        .into_primitive()
        .tensor()
}

fn classes(count: usize, of: usize) -> IntTensor<Flex> {
    let values: Vec<i64> = (0..count).map(|i| (i * i % of) as i64).collect();
    Tensor::<Flex, 1, Int>::from_data(TensorData::new(values, [count]), &Default::default())
        .into_primitive()
}

/// Times both sides of an operation.
fn pair<A, B>(
    c: &mut Criterion,
    name: &str,
    mut kernel: impl FnMut() -> A,
    mut default: impl FnMut() -> B,
) {
    let mut group = c.benchmark_group(name);
    group.sample_size(10);
    group.bench_function("kernel", |b| b.iter(|| black_box(kernel())));
    group.bench_function("default", |b| b.iter(|| black_box(default())));
    group.finish();
}

fn text(c: &mut Criterion) {
    let (tokens, width, inner, vocabulary) = (4096, 384, 1536, 30_522);
    let (x, g) = (random(1, [tokens, width]), random(2, [tokens, width]));
    let (wide_x, wide_g) = (random(3, [tokens, inner]), random(4, [tokens, inner]));
    let (w, b) = (random(5, [inner, width]), random(6, [inner]));
    for precision in [Precision::F32, Precision::Bf16] {
        let (x, w, g) = (|| x.clone(), || w.clone(), || wide_g.clone());
        pair(
            c,
            &format!("linear 384 to 1536, {precision:?}"),
            || Flex::tune_linear(x(), w(), Some(b.clone()), precision),
            || default::linear::<Flex>(x(), w(), Some(b.clone()), precision),
        );
        pair(
            c,
            &format!("linear backward x, {precision:?}"),
            || Flex::tune_linear_backward_x(g(), w(), precision),
            || default::linear_backward_x::<Flex>(g(), w(), precision),
        );
        pair(
            c,
            &format!("linear backward weight, {precision:?}"),
            || Flex::tune_linear_backward_weight(g(), x(), precision),
            || default::linear_backward_weight::<Flex>(g(), x(), precision),
        );
    }
    pair(
        c,
        "linear backward bias",
        || Flex::tune_linear_backward_bias(wide_g.clone()),
        || default::linear_backward_bias::<Flex>(wide_g.clone()),
    );
    let (low, up) = (random(15, [tokens, 8]), random(16, [width, 8]));
    pair(
        c,
        "linear add, rank 8",
        || Flex::tune_linear_add(x.clone(), low.clone(), up.clone(), 2.0),
        || default::linear_add::<Flex>(x.clone(), low.clone(), up.clone(), 2.0),
    );
    for kind in [GeluKind::Exact, GeluKind::Tanh] {
        pair(
            c,
            &format!("gelu {kind:?}"),
            || Flex::tune_gelu(wide_x.clone(), kind),
            || default::gelu::<Flex>(wide_x.clone(), kind),
        );
        pair(
            c,
            &format!("gelu {kind:?} backward"),
            || Flex::tune_gelu_backward(wide_x.clone(), wide_g.clone(), kind),
            || default::gelu_backward::<Flex>(wide_x.clone(), wide_g.clone(), kind),
        );
    }
    let (gamma, beta) = (random(7, [width]), random(8, [width]));
    let sum = || (x.clone(), Some(g.clone()), gamma.clone());
    pair(
        c,
        "layer norm of a sum",
        || {
            let (x, r, gamma) = sum();
            Flex::tune_layer_norm(x, r, gamma, beta.clone(), 1e-12)
        },
        || {
            let (x, r, gamma) = sum();
            default::layer_norm::<Flex>(x, r, gamma, beta.clone(), 1e-12)
        },
    );
    pair(
        c,
        "layer norm of a sum backward",
        || {
            let (x, r, gamma) = sum();
            Flex::tune_layer_norm_backward(x, r, gamma, g.clone(), 1e-12, (true, true))
        },
        || {
            let (x, r, gamma) = sum();
            default::layer_norm_backward::<Flex>(x, r, gamma, g.clone(), 1e-12, (true, true))
        },
    );
    let sequences = Sequences::from_lengths(&[128; 32]);
    for dropout in [None, Some(Dropout { key: 1, rate: 0.1 })] {
        let config = AttentionConfig {
            dropout,
            ..AttentionConfig::new(12)
        };
        let name = match dropout {
            None => "attention",
            Some(_) => "attention with dropout",
        };
        let (inputs, all) = (
            || (x.clone(), g.clone(), x.clone()),
            (&sequences, &sequences),
        );
        pair(
            c,
            name,
            || {
                let (q, k, v) = inputs();
                Flex::tune_attention(q, k, v, all, config)
            },
            || {
                let (q, k, v) = inputs();
                default::attention::<Flex>(q, k, v, all, config)
            },
        );
        pair(
            c,
            &format!("{name} backward"),
            || {
                let (q, k, v) = inputs();
                Flex::tune_attention_backward(q, k, v, g.clone(), all, config)
            },
            || {
                let (q, k, v) = inputs();
                default::attention_backward::<Flex>(q, k, v, g.clone(), all, config)
            },
        );
    }
    let rows = classes(tokens, vocabulary);
    pair(
        c,
        "embedding backward",
        || Flex::tune_embedding_rows_backward(vocabulary, rows.clone(), g.clone()),
        || default::embedding_rows_backward::<Flex>(vocabulary, rows.clone(), g.clone()),
    );
    let table = random(17, [vocabulary, width]);
    pair(
        c,
        "embedding add",
        || Flex::tune_embedding_add(x.clone(), table.clone(), rows.clone()),
        || default::embedding_add::<Flex>(x.clone(), table.clone(), rows.clone()),
    );
    let dropout = Dropout { key: 1, rate: 0.1 };
    pair(
        c,
        "dropout",
        || Flex::tune_dropout_rows(x.clone(), dropout),
        || default::dropout_rows::<Flex>(x.clone(), dropout),
    );
    let (logits, targets, g) = (
        random(9, [512, vocabulary]),
        classes(512, vocabulary),
        random(10, [512]),
    );
    let plain = CrossEntropy::default();
    pair(
        c,
        "cross-entropy 512 x 30522",
        || Flex::tune_cross_entropy(logits.clone(), targets.clone(), &plain),
        || default::cross_entropy::<Flex>(logits.clone(), targets.clone(), &plain),
    );
    pair(
        c,
        "cross-entropy 512 x 30522 backward",
        || Flex::tune_cross_entropy_backward(logits.clone(), targets.clone(), g.clone(), &plain),
        || {
            default::cross_entropy_backward::<Flex>(
                logits.clone(),
                targets.clone(),
                g.clone(),
                &plain,
            )
        },
    );
    let settings = AdamW {
        learning_rate: 1e-4,
        beta1: 0.9,
        beta2: 0.999,
        epsilon: 1e-8,
        weight_decay: 0.01,
        step: 10,
        grad_scale: 1.0,
    };
    let shape = [vocabulary, width];
    let grad = random(11, shape);
    let zeros = || zeros(shape);
    let (mut ours, mut theirs) = (
        Some((random(12, shape), (zeros(), zeros()))),
        Some((random(12, shape), (zeros(), zeros()))),
    );
    pair(
        c,
        "adamw 30522 x 384",
        || {
            if let Some((p, moments)) = ours.take() {
                let (p, m, v) = Flex::tune_adamw_step(p, grad.clone(), moments, settings);
                ours = Some((p, (m, v)));
            }
        },
        || {
            if let Some((p, moments)) = theirs.take() {
                let (p, m, v) = default::adamw_step::<Flex>(p, grad.clone(), moments, settings);
                theirs = Some((p, (m, v)));
            }
        },
    );
}

/// SmolLM2's sizes: width 576, 9 heads over 3 of keys, 1,536 gated values, vocabulary 49,152.
fn decoder(c: &mut Criterion) {
    let (tokens, width, key_width, gated, vocabulary) = (1024, 576, 192, 1536, 49_152);
    let (x, g, gamma) = (
        random(1, [tokens, width]),
        random(2, [tokens, width]),
        random(3, [width]),
    );
    pair(
        c,
        "RMS norm",
        || Flex::tune_rms_norm(x.clone(), gamma.clone(), 1e-5),
        || default::rms_norm::<Flex>(x.clone(), gamma.clone(), 1e-5),
    );
    let inputs = || (x.clone(), gamma.clone(), g.clone());
    pair(
        c,
        "RMS norm backward",
        || {
            let (x, gamma, g) = inputs();
            Flex::tune_rms_norm_backward(x, gamma, g, 1e-5, (true, true))
        },
        || {
            let (x, gamma, g) = inputs();
            default::rms_norm_backward::<Flex>(x, gamma, g, 1e-5, (true, true))
        },
    );
    let (cos, sin) = (random(4, [tokens, 32]), random(5, [tokens, 32]));
    pair(
        c,
        "rotary",
        || Flex::tune_rotary(x.clone(), cos.clone(), sin.clone(), 9),
        || default::rotary::<Flex>(x.clone(), cos.clone(), sin.clone(), 9),
    );
    let wide = [6, 7, 8].map(|key| random(key, [tokens, gated]));
    pair(
        c,
        "gate Silu",
        || Flex::tune_gated(wide[0].clone(), wide[1].clone(), Gate::Silu),
        || default::gated::<Flex>(wide[0].clone(), wide[1].clone(), Gate::Silu),
    );
    let inputs = || (wide[0].clone(), wide[1].clone(), wide[2].clone());
    pair(
        c,
        "gate Silu backward",
        || {
            let (gate, up, g) = inputs();
            Flex::tune_gated_backward(gate, up, g, Gate::Silu)
        },
        || {
            let (gate, up, g) = inputs();
            default::gated_backward::<Flex>(gate, up, g, Gate::Silu)
        },
    );
    let config = AttentionConfig {
        kv_heads: 3,
        causal: true,
        ..AttentionConfig::new(9)
    };
    for (name, queries, keys) in [
        ("4 x 256", vec![256; 4], vec![256; 4]),
        ("2048", vec![2048], vec![2048]),
        ("1 to 2048", vec![1], vec![2048]),
    ] {
        let [queries, keys] = [queries, keys].map(|lengths| Sequences::from_lengths(&lengths));
        let [q, g] = [1, 2].map(|key| random(key, [queries.tokens(), width]));
        let [k, v] = [3, 4].map(|key| random(key, [keys.tokens(), key_width]));
        let inputs = || (q.clone(), k.clone(), v.clone());
        let all = (&queries, &keys);
        pair(
            c,
            &format!("causal attention {name}"),
            || {
                let (q, k, v) = inputs();
                Flex::tune_attention(q, k, v, all, config)
            },
            || {
                let (q, k, v) = inputs();
                default::attention::<Flex>(q, k, v, all, config)
            },
        );
        if queries.tokens() == 1 {
            continue;
        }
        pair(
            c,
            &format!("causal attention {name} backward"),
            || {
                let (q, k, v) = inputs();
                Flex::tune_attention_backward(q, k, v, g.clone(), all, config)
            },
            || {
                let (q, k, v) = inputs();
                default::attention_backward::<Flex>(q, k, v, g.clone(), all, config)
            },
        );
    }
    let (head, targets) = (random(9, [vocabulary, width]), classes(tokens, vocabulary));
    let inputs = || (x.clone(), head.clone(), targets.clone());
    for slopes in [false, true] {
        let name = match slopes {
            false => "next-token losses",
            true => "next-token losses and slopes",
        };
        pair(
            c,
            name,
            || {
                let (x, head, targets) = inputs();
                Flex::tune_next_token(x, head, targets, None, slopes)
            },
            || {
                let (x, head, targets) = inputs();
                default::next_token::<Flex>(x, head, targets, None, slopes)
            },
        );
    }
    let (a, b, t) = inputs();
    let log_sums = Flex::tune_next_token(a, b, t, None, false).log_sums;
    let grad = random(10, [tokens]);
    let more = || (log_sums.clone(), grad.clone());
    pair(
        c,
        "next-token backward weight",
        || {
            let ((x, head, targets), (log_sums, grad)) = (inputs(), more());
            Flex::tune_next_token_backward_weight(x, head, targets, log_sums, grad, None)
        },
        || {
            let ((x, head, targets), (log_sums, grad)) = (inputs(), more());
            default::next_token_backward_weight::<Flex>(x, head, targets, log_sums, grad, None)
        },
    );
    let token = random(11, [1, width]);
    pair(
        c,
        "linear 576 to 49152 of one row",
        || Flex::tune_linear(token.clone(), head.clone(), None, Precision::F32),
        || default::linear::<Flex>(token.clone(), head.clone(), None, Precision::F32),
    );
}

fn pictures(c: &mut Criterion) {
    // Channels in and out, side, window, groups.
    for (name, channels, outputs, side, window, groups) in [
        ("3x3, 64 channels", 64, 64, 56, Window::square(3, 1, 1), 1),
        ("3x3, 512 channels", 512, 512, 7, Window::square(3, 1, 1), 1),
        (
            "3x3 by 2, 64 to 128 channels",
            64,
            128,
            56,
            Window::square(3, 2, 1),
            1,
        ),
        (
            "1x1, 96 to 24 channels",
            96,
            24,
            56,
            Window::square(1, 1, 0),
            1,
        ),
        (
            "7x7 by 2, 3 to 64 channels",
            3,
            64,
            224,
            Window::square(7, 2, 3),
            1,
        ),
        (
            "depthwise 3x3, 144 channels",
            144,
            144,
            56,
            Window::square(3, 1, 1),
            144,
        ),
    ] {
        let size = [16, side, side, channels];
        let [height, width] = window.output([side, side]);
        let [kh, kw] = window.kernel;
        let x = random(1, size);
        let w = random(2, [outputs, channels / groups, kh, kw]);
        let g = random(3, [16, height, width, outputs]);
        pair(
            c,
            &format!("convolution {name}"),
            || Flex::tune_conv2d(x.clone(), w.clone(), window, groups),
            || default::conv2d::<Flex>(x.clone(), w.clone(), window, groups),
        );
        pair(
            c,
            &format!("convolution {name} backward x"),
            || Flex::tune_conv2d_backward_x(size, w.clone(), g.clone(), window, groups),
            || default::conv2d_backward_x::<Flex>(size, w.clone(), g.clone(), window, groups),
        );
        pair(
            c,
            &format!("convolution {name} backward weight"),
            || Flex::tune_conv2d_backward_weight(x.clone(), w.clone(), g.clone(), window, groups),
            || {
                default::conv2d_backward_weight::<Flex>(
                    x.clone(),
                    w.clone(),
                    g.clone(),
                    window,
                    groups,
                )
            },
        );
    }
    let window = Window::square(3, 2, 1);
    let (x, g) = (random(1, [16, 112, 112, 64]), random(2, [16, 56, 56, 64]));
    pair(
        c,
        "max pool",
        || Flex::tune_max_pool(x.clone(), window),
        || default::max_pool::<Flex>(x.clone(), window),
    );
    pair(
        c,
        "max pool backward",
        || Flex::tune_max_pool_backward(x.clone(), g.clone(), window),
        || default::max_pool_backward::<Flex>(x.clone(), g.clone(), window),
    );
    let rows = [16 * 56 * 56, 64];
    let (x, r, g) = (random(1, rows), random(2, rows), random(3, rows));
    let (gamma, beta) = (random(4, [64]), random(5, [64]));
    let config = BatchNormConfig {
        epsilon: 1e-5,
        of_batch: true,
        rectify: Rectify::Relu,
    };
    let moments = Flex::tune_moments(x.clone());
    pair(
        c,
        "batch norm moments",
        || Flex::tune_moments(x.clone()),
        || default::moments::<Flex>(x.clone()),
    );
    let affine = || (gamma.clone(), beta.clone());
    let forward = || {
        let (gamma, beta) = affine();
        Flex::tune_batch_norm(
            x.clone(),
            Some(r.clone()),
            gamma,
            beta,
            moments.clone(),
            config,
        )
    };
    let y = forward();
    pair(c, "batch norm", forward, || {
        let (gamma, beta) = affine();
        default::batch_norm::<Flex>(
            x.clone(),
            Some(r.clone()),
            gamma,
            beta,
            moments.clone(),
            config,
        )
    });
    let needs = (true, true, true);
    let inputs = || {
        (
            x.clone(),
            y.clone(),
            gamma.clone(),
            moments.clone(),
            g.clone(),
        )
    };
    pair(
        c,
        "batch norm backward",
        || {
            let (x, y, gamma, moments, g) = inputs();
            Flex::tune_batch_norm_backward(x, y, gamma, moments, g, config, needs)
        },
        || {
            let (x, y, gamma, moments, g) = inputs();
            default::batch_norm_backward::<Flex>(x, y, gamma, moments, g, config, needs)
        },
    );
}

/// DeBERTa's distances, and MPNet's bias.
fn relative(c: &mut Criterion) {
    let (heads, width, sequences) = (12, 768, Sequences::from_lengths(&[128; 8]));
    let config = AttentionConfig::new(heads);
    let distances = Distances::new(128, |distance| (distance + 127) as usize);
    let rows = distances.span().len();
    let inputs = [1, 2, 3, 4].map(|key| random(key, [sequences.tokens(), width]));
    let (qkv, all) = (
        || [0, 1, 2].map(|i: usize| inputs[i].clone()),
        (&sequences, &sequences),
    );
    let vectors = Relative::Vectors {
        keys: random(5, [rows, width]),
        queries: random(6, [rows, width]),
    };
    let bias = Relative::Bias(random(7, [rows, heads]));
    for (name, tables) in [
        ("attention to vectors of distances", vectors),
        ("attention with a bias", bias),
    ] {
        pair(
            c,
            name,
            || Flex::tune_relative_attention(qkv(), tables.clone(), &distances, all, config),
            || default::relative_attention::<Flex>(qkv(), tables.clone(), &distances, all, config),
        );
        let (call, tables) = (|| inputs.clone(), || tables.clone());
        pair(
            c,
            &format!("{name} backward"),
            || {
                let (inputs, tables) = (call(), tables());
                Flex::tune_relative_attention_backward(
                    inputs, tables, &distances, all, config, true,
                )
            },
            || {
                let (inputs, tables) = (call(), tables());
                default::relative_attention_backward::<Flex>(
                    inputs, tables, &distances, all, config, true,
                )
            },
        );
    }
}

criterion_group!(ops, text, decoder, relative, pictures);
criterion_main!(ops);
