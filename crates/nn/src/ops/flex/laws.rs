//! Every kernel equals its default body, on sizes around its pieces, and on views that it must hand to the default.

#![allow(clippy::unwrap_used)]

use crate::ops::{
    self, AdamW, AttentionConfig, BatchNormConfig, CrossEntropy, Distances, Dropout, Gate,
    GeluKind, Precision, Rectify, Relative, Sequences, TuneBackend, Window, primitive, tensor,
};
use burn::backend::{Flex, flex::FlexTensor};
use burn::tensor::{Int, Tensor, TensorData};
use rekindle_base::rng;

/// Rounding of f32 in another order of summation, relative to `1 + |value|`.
const TOLERANCE: f32 = 2e-5;

fn random(key: u64, shape: [usize; 2]) -> FlexTensor {
    let values: Vec<f32> = (0..(shape[0] * shape[1]) as u64)
        .map(|i| (2.0 * rng::uniform(key, i) - 1.0) as f32)
        .collect();
    primitive(Tensor::<Flex, 2>::from_data(
        TensorData::new(values, shape),
        &Default::default(),
    ))
}

/// In steps of 2^-12: what is next to a tie in bf16, Burn's cast rounds the wrong way (its digits beyond f32's 21st are lost).
fn in_steps(x: FlexTensor) -> FlexTensor {
    primitive((tensor::<Flex, 2>(x) * 4096.0).round() / 4096.0)
}

fn vector(key: u64, len: usize) -> FlexTensor {
    // `reshape` reads a 0 as the dimension that stands there.
    primitive(tensor::<Flex, 2>(random(key, [1, len])).squeeze_dim::<1>(0))
}

fn classes(len: usize, count: usize) -> FlexTensor {
    let values: Vec<i64> = (0..len).map(|i| ((i * i) % count) as i64).collect();
    Tensor::<Flex, 1, Int>::from_data(TensorData::new(values, [len]), &Default::default())
        .into_primitive()
}

fn same(what: &str, kernel: FlexTensor, default: FlexTensor) {
    let [kernel, default] = [kernel, default].map(|x| x.into_data());
    assert_eq!(kernel.shape, default.shape, "{what}");
    for (i, (a, b)) in kernel.iter::<f32>().zip(default.iter::<f32>()).enumerate() {
        assert!(
            (a - b).abs() <= TOLERANCE * (1.0 + b.abs()),
            "{what}, element {i}: kernel {a}, default {b}"
        );
    }
}

const SHAPES: [[usize; 2]; 6] = [[0, 3], [1, 1], [3, 17], [129, 65], [130, 300], [70, 1]];

#[test]
fn row_kernels_equal_their_default_bodies() {
    for shape in SHAPES {
        let [tokens, width] = shape;
        let (x, g) = (random(1, shape), random(2, shape));
        let (gamma, beta) = (vector(3, width), vector(4, width));
        for kind in [GeluKind::Exact, GeluKind::Tanh] {
            let default = ops::gelu::forward::<Flex>(x.clone(), kind);
            same("gelu", Flex::tune_gelu(x.clone(), kind), default.clone());
            same(
                "gelu in place",
                Flex::tune_gelu(random(1, shape), kind),
                default,
            );
            let default = ops::gelu::backward::<Flex>(x.clone(), g.clone(), kind);
            same(
                "gelu backward",
                Flex::tune_gelu_backward(x.clone(), g.clone(), kind),
                default.clone(),
            );
            same(
                "gelu backward in place",
                Flex::tune_gelu_backward(x.clone(), random(2, shape), kind),
                default,
            );
        }
        let dropout = Dropout { key: 6, rate: 0.3 };
        let default = ops::dropout::apply::<Flex>(x.clone(), dropout);
        same(
            "dropout",
            Flex::tune_dropout_rows(x.clone(), dropout),
            default.clone(),
        );
        same(
            "dropout in place",
            Flex::tune_dropout_rows(random(1, shape), dropout),
            default,
        );
        same(
            "dropout of a vector",
            Flex::tune_dropout_rows(gamma.clone(), dropout),
            ops::dropout::apply::<Flex>(gamma.clone(), dropout),
        );
        let settings = AdamW {
            learning_rate: 1e-2,
            beta1: 0.9,
            beta2: 0.999,
            epsilon: 1e-8,
            weight_decay: 0.1,
            step: 2,
            grad_scale: 0.5,
        };
        let v = Flex::tune_dropout_rows(gamma.clone(), Dropout { key: 1, rate: 1e-9 });
        let v = primitive(tensor::<Flex, 1>(v).abs());
        let state = || {
            (
                beta.clone(),
                vector(5, width),
                (vector(7, width), v.clone()),
                settings,
            )
        };
        let (a, b, c, d) = state();
        let kernel = Flex::tune_adamw_step(a, b, c, d);
        let (a, b, c, d) = state();
        let default = ops::adamw::step::<Flex>(a, b, c, d);
        same("adamw parameter", kernel.0, default.0);
        same("adamw m", kernel.1, default.1);
        same("adamw v", kernel.2, default.2);
        if tokens == 0 {
            continue;
        }
        for residual in [None, Some(random(9, shape))] {
            let call = || (x.clone(), residual.clone(), gamma.clone());
            let (a, r, c) = call();
            let default = ops::layer_norm::forward::<Flex>(a, r, c, beta.clone(), 1e-2);
            let (a, r, c) = call();
            same(
                "layer norm",
                Flex::tune_layer_norm(a, r, c, beta.clone(), 1e-2),
                default,
            );
            for needs in [(true, true), (true, false), (false, true)] {
                let (a, r, c) = call();
                let kernel = Flex::tune_layer_norm_backward(a, r, c, g.clone(), 1e-2, needs);
                let (a, r, c) = call();
                let default = ops::layer_norm::backward::<Flex>(a, r, c, g.clone(), 1e-2, needs);
                assert_eq!((kernel.x.is_some(), kernel.affine.is_some()), needs);
                if let (Some(kernel), Some(default)) = (kernel.x, default.x) {
                    same("layer norm x", kernel, default);
                }
                if let (Some(kernel), Some(default)) = (kernel.affine, default.affine) {
                    same("layer norm gamma", kernel.0, default.0);
                    same("layer norm beta", kernel.1, default.1);
                }
            }
        }
        for settings in [
            CrossEntropy::default(),
            CrossEntropy::smoothed(0.2),
            CrossEntropy {
                label_smoothing: 0.1,
                weights: Some((0..width).map(|c| 0.5 + c as f32 / 7.0).collect()),
                ignored: Some(1),
            },
        ] {
            let settings = &settings;
            let targets = classes(tokens, width);
            same(
                "cross-entropy",
                Flex::tune_cross_entropy(x.clone(), targets.clone(), settings),
                ops::cross_entropy::forward::<Flex>(x.clone(), targets.clone(), settings),
            );
            let g = vector(8, tokens);
            same(
                "cross-entropy backward",
                Flex::tune_cross_entropy_backward(x.clone(), targets.clone(), g.clone(), settings),
                ops::cross_entropy::backward::<Flex>(x.clone(), targets, g, settings),
            );
        }
    }
}

#[test]
fn linear_and_embedding_equal_their_default_bodies() {
    for [tokens, inner, outer] in [
        [1, 1, 1],
        [3, 17, 1],
        [129, 65, 33],
        [200, 130, 257],
        [1, 129, 2],
        // More than a task of few rows, and as many rows as it takes.
        [1, 300, 250],
        [8, 1051, 70],
        [9, 1051, 70],
        [0, 3, 5],
        [40, 1, 70],
        // More than a kernel takes up at a time.
        [40, 1051, 70],
        [1051, 40, 13],
    ] {
        let (x, w, b, g) = (
            random(1, [tokens, inner]),
            random(2, [outer, inner]),
            vector(3, outer),
            random(4, [tokens, outer]),
        );
        for precision in [Precision::F32, Precision::Bf16] {
            let [x, w, g] = [&x, &w, &g].map(|x| in_steps(x.clone()));
            let (x, w, g) = (|| x.clone(), || w.clone(), || g.clone());
            for b in [None, Some(b.clone())] {
                let default = ops::linear::forward::<Flex>(x(), w(), b.clone(), precision);
                same("linear", Flex::tune_linear(x(), w(), b, precision), default);
            }
            same(
                "linear x",
                Flex::tune_linear_backward_x(g(), w(), precision),
                ops::linear::backward_x::<Flex>(g(), w(), precision),
            );
            same(
                "linear weight",
                Flex::tune_linear_backward_weight(g(), x(), precision),
                ops::linear::backward_weight::<Flex>(g(), x(), precision),
            );
        }
        let (xt, wt, gt) = (x.transpose(0, 1), w.transpose(0, 1), g.transpose(0, 1));
        let matmul = |a: &FlexTensor, b: &FlexTensor| {
            primitive(tensor::<Flex, 2>(a.clone()).matmul(tensor::<Flex, 2>(b.clone())))
        };
        let default = ops::linear::backward_bias::<Flex>(g.clone());
        same(
            "linear bias",
            Flex::tune_linear_backward_bias(g.clone()),
            default,
        );
        for (low, up) in [(7, 8), (9, 10)] {
            let (low, up) = (random(low, [tokens, 3]), random(up, [outer, 3]));
            let call = || (g.clone(), low.clone(), up.clone());
            let (a, b, c) = call();
            let default = ops::linear::add::<Flex>(a, b, c, 0.5);
            let (a, b, c) = call();
            same("linear add", Flex::tune_linear_add(a, b, c, 0.5), default);
        }
        same(
            "square sum",
            Flex::tune_square_sum(g.clone()),
            primitive(tensor::<Flex, 2>(g.clone()).powi_scalar(2).sum()),
        );
        // Views with strides are not for the kernels.
        same(
            "linear of a view",
            Flex::tune_linear(gt.clone(), xt.clone(), None, Precision::F32),
            matmul(&gt, &x),
        );
        same(
            "linear x of a view",
            Flex::tune_linear_backward_x(wt.clone(), gt.clone(), Precision::F32),
            matmul(&wt, &gt),
        );
        let kind = GeluKind::Exact;
        same(
            "gelu of a view",
            Flex::tune_gelu(xt.clone(), kind),
            ops::gelu::forward::<Flex>(xt, kind),
        );

        let rows = classes(tokens, 40);
        let default = ops::embedding::backward::<Flex>(40, rows.clone(), g.clone());
        same(
            "embedding",
            Flex::tune_embedding_rows_backward(40, rows.clone(), g.clone()),
            default,
        );
        let table = random(11, [40, outer]);
        for (sum, rows) in [
            (g.clone(), rows.clone()),
            (random(12, [tokens, outer]), rows),
        ] {
            let default = ops::embedding::add::<Flex>(sum.clone(), table.clone(), rows.clone());
            same(
                "embedding add",
                Flex::tune_embedding_add(sum, table.clone(), rows),
                default,
            );
        }
    }
}

fn attention_equals(
    (queries, keys): (&[usize], &[usize]),
    head_width: usize,
    config: AttentionConfig,
) {
    let [queries, keys] = [queries, keys].map(Sequences::from_lengths);
    let sequences = (&queries, &keys);
    let [q, g] = [1, 4].map(|key| random(key, [queries.tokens(), config.heads * head_width]));
    let [k, v] = [2, 3].map(|key| random(key, [keys.tokens(), config.kv_heads * head_width]));
    let call = || (q.clone(), k.clone(), v.clone());
    let (a, b, c) = call();
    let kernel = Flex::tune_attention(a, b, c, sequences, config);
    let (a, b, c) = call();
    same(
        "attention",
        kernel,
        ops::attention::forward::<Flex>(a, b, c, sequences, config),
    );
    let (a, b, c) = call();
    let kernel = Flex::tune_attention_backward(a, b, c, g.clone(), sequences, config);
    let (a, b, c) = call();
    let default = ops::attention::backward::<Flex>(a, b, c, g, sequences, config);
    same("attention q", kernel.q, default.q);
    same("attention k", kernel.k, default.k);
    same("attention v", kernel.v, default.v);
}

#[test]
fn attention_equals_its_default_body() {
    for lengths in [
        (&[1][..], &[1][..]),
        (&[0, 17, 1, 0, 129], &[0, 17, 1, 0, 129]),
        (&[260, 128], &[260, 128]),
        (&[], &[]),
        (&[1, 1, 1, 0, 4, 140], &[129, 0, 3, 5, 2, 150]),
    ] {
        for dropout in [None, Some(Dropout { key: 4, rate: 0.1 })] {
            for (heads, head_width) in [(1, 1), (3, 17), (2, 32)] {
                for causal in [false, true] {
                    let config = AttentionConfig {
                        causal,
                        dropout,
                        ..AttentionConfig::new(heads)
                    };
                    attention_equals(lengths, head_width, config);
                }
            }
            for window in [None, Some(1), Some(70)] {
                for causal in [false, true] {
                    let config = AttentionConfig {
                        kv_heads: 2,
                        causal,
                        window,
                        scale: Some(0.4),
                        dropout,
                        ..AttentionConfig::new(6)
                    };
                    attention_equals(lengths, 10, config);
                }
            }
        }
    }
    // Heads side by side.
    let config = AttentionConfig {
        kv_heads: 2,
        causal: true,
        ..AttentionConfig::new(4)
    };
    attention_equals((&[1100, 3], &[1100, 3]), 9, config);
}

/// Logarithmic from 20 on, as DeBERTa's.
fn bucket(distance: i64) -> usize {
    let near = distance.abs().min(20);
    let far = ((distance.abs() - near + 1) as f64).ln() * 4.0;
    (50 + distance.signum() * (near + far as i64)) as usize
}

#[test]
fn attention_with_relative_positions_equals_its_default_body() {
    let random_places: Vec<usize> = (0..150).map(|i| (i * 53) % 260).collect();
    for (queries, keys, places) in [
        (&[1][..], &[1][..], None),
        (&[0, 17, 1, 0, 129], &[0, 17, 1, 0, 129], None),
        (&[260, 128], &[260, 128], None),
        (&[], &[], None),
        (&[0, 150], &[3, 260], Some(random_places)),
        (&[1, 1, 1], &[129, 7, 1], Some(vec![128, 0, 0])),
    ] {
        let [queries, keys] = [queries, keys].map(Sequences::from_lengths);
        let distances = Distances::new(keys.longest(), bucket);
        let distances = match places {
            None => distances,
            Some(places) => distances.with_places(places),
        };
        let (both, rows) = ((&queries, &keys), distances.span().len());
        for dropout in [None, Some(Dropout { key: 4, rate: 0.1 })] {
            for (heads, head_width) in [(1, 1), (3, 17), (2, 32)] {
                let config = AttentionConfig {
                    scale: Some(0.4),
                    dropout,
                    ..AttentionConfig::new(heads)
                };
                let width = heads * head_width;
                let [q, g] = [1, 4].map(|key| random(key, [queries.tokens(), width]));
                let [k, v] = [2, 3].map(|key| random(key, [keys.tokens(), width]));
                let vectors = Relative::Vectors {
                    keys: random(5, [rows, width]),
                    queries: random(6, [rows, width]),
                };
                for tables in [Relative::Bias(random(7, [rows, heads])), vectors] {
                    let qkv = || [&q, &k, &v].map(Clone::clone);
                    same(
                        "relative attention",
                        Flex::tune_relative_attention(
                            qkv(),
                            tables.clone(),
                            &distances,
                            both,
                            config,
                        ),
                        ops::relative::forward::<Flex>(
                            qkv(),
                            tables.clone(),
                            &distances,
                            both,
                            config,
                        ),
                    );
                    let call = || [&q, &k, &v, &g].map(Clone::clone);
                    let kernel = Flex::tune_relative_attention_backward(
                        call(),
                        tables.clone(),
                        &distances,
                        both,
                        config,
                        true,
                    );
                    let default = ops::relative::backward::<Flex>(
                        call(),
                        tables.clone(),
                        &distances,
                        both,
                        config,
                        true,
                    );
                    let (a, b) = (kernel.attention, default.attention);
                    same("relative attention q", a.q, b.q);
                    same("relative attention k", a.k, b.k);
                    same("relative attention v", a.v, b.v);
                    let (a, b) = (kernel.relative.unwrap(), default.relative.unwrap());
                    for (a, b) in a.into_iter().zip(b) {
                        same("relative attention tables", a, b);
                    }
                }
            }
        }
    }
}

#[test]
fn norms_gates_and_rotations_equal_their_default_bodies() {
    for shape in SHAPES {
        let [tokens, width] = shape;
        let (x, g) = (random(1, shape), random(2, shape));
        let gamma = vector(3, width);
        if tokens > 0 {
            let call = || (x.clone(), gamma.clone());
            let (a, b) = call();
            let default = ops::rms_norm::forward::<Flex>(a, b, 1e-2);
            let (a, b) = call();
            same("RMS norm", Flex::tune_rms_norm(a, b, 1e-2), default);
            for needs in [(true, true), (true, false), (false, true)] {
                let (a, b) = call();
                let kernel = Flex::tune_rms_norm_backward(a, b, g.clone(), 1e-2, needs);
                let (a, b) = call();
                let default = ops::rms_norm::backward::<Flex>(a, b, g.clone(), 1e-2, needs);
                assert_eq!((kernel.x.is_some(), kernel.gamma.is_some()), needs);
                if let (Some(kernel), Some(default)) = (kernel.x, default.x) {
                    same("RMS norm x", kernel, default);
                }
                if let (Some(kernel), Some(default)) = (kernel.gamma, default.gamma) {
                    same("RMS norm gamma", kernel, default);
                }
            }
        }
        let up = random(5, shape);
        for kind in [
            Gate::Silu,
            Gate::Gelu(GeluKind::Exact),
            Gate::Gelu(GeluKind::Tanh),
        ] {
            let default = ops::gated::forward::<Flex>(x.clone(), up.clone(), kind);
            let kernel = Flex::tune_gated(x.clone(), up.clone(), kind);
            same("gate", kernel, default.clone());
            let kernel = Flex::tune_gated(random(1, shape), up.clone(), kind);
            same("gate in place", kernel, default);
            let default = ops::gated::backward::<Flex>(x.clone(), up.clone(), g.clone(), kind);
            for grad in [g.clone(), random(2, shape)] {
                let kernel = Flex::tune_gated_backward(x.clone(), up.clone(), grad, kind);
                same("gate backward", kernel.0, default.0.clone());
                same("up backward", kernel.1, default.1.clone());
            }
        }
    }
    for (tokens, heads, head_width, half) in
        [(0, 1, 4, 2), (1, 1, 2, 1), (129, 3, 10, 5), (70, 2, 9, 3)]
    {
        let [cos, sin] = [6, 7].map(|key| random(key, [tokens, half]));
        let x = || random(8, [tokens, heads * head_width]);
        let tables = || (cos.clone(), sin.clone());
        let (c, s) = tables();
        let default = ops::rotary::apply::<Flex>(x(), c, s, heads);
        let (c, s) = tables();
        same(
            "rotary",
            Flex::tune_rotary(x(), c, s, heads),
            default.clone(),
        );
        let shared = x();
        let (c, s) = tables();
        let kernel = Flex::tune_rotary(shared.clone(), c, s, heads);
        same("rotary of what others hold", kernel, default);
        same("what others hold", shared, x());
    }
}

#[test]
fn next_tokens_equal_their_default_bodies() {
    for [rows, width, words] in [
        [0, 3, 5],
        [1, 1, 1],
        [3, 17, 40],
        // More than a chunk of the default body, and of the kernel.
        [300, 9, 8200],
        [1100, 33, 1100],
    ] {
        let targets = classes(rows, words);
        let (hidden, weight) = (random(1, [rows, width]), random(2, [words, width]));
        for cap in [None, Some(0.7)] {
            let call = || (hidden.clone(), weight.clone(), targets.clone());
            for slopes in [false, true] {
                let (a, b, c) = call();
                let kernel = Flex::tune_next_token(a, b, c, cap, slopes);
                let (a, b, c) = call();
                let default = ops::next_token::forward::<Flex>(a, b, c, cap, slopes);
                same("losses", kernel.losses, default.losses);
                same("log sums", kernel.log_sums, default.log_sums);
                assert_eq!(kernel.slopes.is_some(), slopes);
                if let (Some(kernel), Some(default)) = (kernel.slopes, default.slopes) {
                    same("slopes", kernel, default);
                }
            }
            let (a, b, c) = call();
            let log_sums = Flex::tune_next_token(a, b, c, cap, false).log_sums;
            let grad = vector(3, rows);
            let (a, b, c) = call();
            let kernel =
                Flex::tune_next_token_backward_weight(a, b, c, log_sums.clone(), grad.clone(), cap);
            let (a, b, c) = call();
            let default = ops::next_token::backward_weight::<Flex>(a, b, c, log_sums, grad, cap);
            same("gradient of the weight", kernel, default);
            let (a, b, c) = call();
            let (losses, best) = Flex::tune_next_token_best(a, b, c, cap);
            let (a, b, c) = call();
            let default = ops::next_token::best::<Flex>(a, b, c, cap);
            same("losses beside the best", losses, default.0);
            // Rounding decides between words whose logits are nearly alike.
            let products = tensor::<Flex, 2>(hidden.clone())
                .matmul(tensor::<Flex, 2>(weight.clone()).transpose());
            let products = match cap {
                None => products,
                Some(cap) => (products / cap).tanh() * cap,
            };
            let of = |best: FlexTensor| {
                let best: Tensor<Flex, 1, Int> = Tensor::from_primitive(best);
                primitive(products.clone().gather(1, best.unsqueeze_dim(1)))
            };
            same("largest logits", of(best), of(default.1));
        }
    }
}

fn image(key: u64, shape: [usize; 4]) -> FlexTensor {
    let len = shape.iter().product();
    primitive(tensor::<Flex, 1>(vector(key, len)).reshape(shape))
}

/// Kernel, stride and padding that overlap, leave gaps, reach beyond the image on one side, or cover it at once.
const WINDOWS: [Window; 8] = [
    Window::square(1, 1, 0),
    Window::square(1, 2, 0),
    Window::square(3, 1, 1),
    Window::square(3, 2, 1),
    Window::square(5, 1, 2),
    Window::square(7, 2, 3),
    Window {
        kernel: [3, 5],
        stride: [2, 1],
        padding: [0, 1, 2, 0],
    },
    Window {
        kernel: [1, 3],
        stride: [1, 1],
        padding: [0, 0, 1, 2],
    },
];

#[test]
fn convolutions_equal_their_default_bodies() {
    for window in WINDOWS {
        for (size, outputs, groups) in [
            ([2, 7, 9, 3], 5, 1),
            ([1, 8, 8, 17], 33, 1),
            ([3, 9, 7, 35], 35, 35),
            ([2, 8, 10, 64], 64, 64),
            ([1, 7, 7, 4], 6, 2),
        ] {
            let [n, height, width, channels] = size;
            let [rows, columns] = window.output([height, width]);
            let [kh, kw] = window.kernel;
            let what = format!("{window:?} of {size:?} to {outputs} in {groups} groups");
            let x = image(1, size);
            let weight = image(2, [outputs, channels / groups, kh, kw]);
            let grad = image(3, [n, rows, columns, outputs]);
            let (a, b) = (x.clone(), weight.clone());
            same(
                &what,
                Flex::tune_conv2d(x.clone(), weight.clone(), window, groups),
                ops::conv2d::forward::<Flex>(a, b, window, groups),
            );
            let (a, b) = (weight.clone(), grad.clone());
            same(
                &format!("x, {what}"),
                Flex::tune_conv2d_backward_x(size, a.clone(), b.clone(), window, groups),
                ops::conv2d::backward_x::<Flex>(size, a, b, window, groups),
            );
            same(
                &format!("weight, {what}"),
                Flex::tune_conv2d_backward_weight(
                    x.clone(),
                    weight.clone(),
                    grad.clone(),
                    window,
                    groups,
                ),
                ops::conv2d::backward_weight::<Flex>(x, weight, grad, window, groups),
            );
        }
    }
}

#[test]
fn long_and_wide_convolutions_equal_their_default_bodies() {
    // More rows than a strip holds; more outputs, and more values a patch, than a product out of parts needs.
    for (size, outputs, window) in [
        ([3, 40, 40, 96], 8, Window::square(3, 1, 1)),
        ([3, 17, 13, 70], 165, Window::square(3, 1, 1)),
        ([3, 17, 13, 70], 165, Window::square(3, 2, 1)),
        ([3, 17, 13, 70], 165, Window::square(1, 1, 0)),
        ([3, 17, 13, 70], 165, Window::square(1, 2, 0)),
        ([3, 17, 13, 70], 165, WINDOWS[6]),
    ] {
        let [n, height, width, channels] = size;
        let [rows, columns] = window.output([height, width]);
        let [kh, kw] = window.kernel;
        let (x, weight) = (image(1, size), image(2, [outputs, channels, kh, kw]));
        let grad = image(3, [n, rows, columns, outputs]);
        let near = |what, kernel: FlexTensor, default: FlexTensor, scale: f64| {
            let scaled = |x| primitive(tensor::<Flex, 4>(x) / scale);
            let what = format!("{what}, {window:?} of {size:?} to {outputs}");
            same(&what, scaled(kernel), scaled(default));
        };
        near(
            "forward",
            Flex::tune_conv2d(x.clone(), weight.clone(), window, 1),
            ops::conv2d::forward::<Flex>(x.clone(), weight.clone(), window, 1),
            10.0,
        );
        near(
            "x",
            Flex::tune_conv2d_backward_x(size, weight.clone(), grad.clone(), window, 1),
            ops::conv2d::backward_x::<Flex>(size, weight.clone(), grad.clone(), window, 1),
            10.0,
        );
        near(
            "weight",
            Flex::tune_conv2d_backward_weight(x.clone(), weight.clone(), grad.clone(), window, 1),
            ops::conv2d::backward_weight::<Flex>(x, weight, grad, window, 1),
            30.0,
        );
    }
}

#[test]
fn pooling_equals_its_default_body() {
    for window in WINDOWS {
        let fits = |pad: usize, kernel: usize| pad < kernel;
        if !(fits(window.padding[0], window.kernel[0]) && fits(window.padding[2], window.kernel[1]))
        {
            continue;
        }
        for size in [[2, 7, 9, 3], [1, 8, 8, 65]] {
            let [rows, columns] = window.output([size[1], size[2]]);
            let (x, grad) = (image(1, size), image(2, [size[0], rows, columns, size[3]]));
            same(
                "max pool",
                Flex::tune_max_pool(x.clone(), window),
                ops::conv2d::max_pool::<Flex>(x.clone(), window),
            );
            same(
                "max pool backward",
                Flex::tune_max_pool_backward(x.clone(), grad.clone(), window),
                ops::conv2d::max_pool_backward::<Flex>(x, grad, window),
            );
        }
    }
}

#[test]
fn batch_norm_equals_its_default_body() {
    for shape in [[2, 3], [17, 1], [129, 65], [130, 300]] {
        let channels = shape[1];
        let x = random(1, shape);
        let residual = random(2, shape);
        let (gamma, beta) = (vector(3, channels), vector(4, channels));
        let moments = Flex::tune_moments(x.clone());
        same(
            "moments",
            moments.clone(),
            ops::batch_norm::moments::<Flex>(x.clone()),
        );
        for rectify in [Rectify::None, Rectify::Relu, Rectify::Relu6] {
            for of_batch in [false, true] {
                for residual in [None, Some(residual.clone())] {
                    let config = BatchNormConfig {
                        epsilon: 1e-2,
                        of_batch,
                        rectify,
                    };
                    let call = || {
                        (
                            x.clone(),
                            residual.clone(),
                            gamma.clone(),
                            beta.clone(),
                            moments.clone(),
                        )
                    };
                    let (a, b, c, d, e) = call();
                    let y = Flex::tune_batch_norm(a, b, c, d, e, config);
                    let (a, b, c, d, e) = call();
                    let default = ops::batch_norm::forward::<Flex>(a, b, c, d, e, config);
                    same("batch norm", y.clone(), default);
                    let needs = (true, residual.is_some(), true);
                    let grad = random(5, shape);
                    let (a, _, c, _, e) = call();
                    let kernel = Flex::tune_batch_norm_backward(
                        a,
                        y.clone(),
                        c,
                        e,
                        grad.clone(),
                        config,
                        needs,
                    );
                    let (a, _, c, _, e) = call();
                    let default =
                        ops::batch_norm::backward::<Flex>(a, y, c, e, grad, config, needs);
                    same("x", kernel.x.unwrap(), default.x.unwrap());
                    assert_eq!(kernel.residual.is_some(), residual.is_some());
                    if let (Some(kernel), Some(default)) = (kernel.residual, default.residual) {
                        same("residual", kernel, default);
                    }
                    let (kernel, default) = (kernel.affine.unwrap(), default.affine.unwrap());
                    same("gamma", kernel.0, default.0);
                    same("beta", kernel.1, default.1);
                }
            }
        }
    }
}

/// Weights in groups: values bit for bit as the default body makes them, and products of few and of many rows.
#[test]
fn weights_in_groups_equal_their_default_bodies() {
    for (bits, size) in [(4, 32), (8, 32), (8, 16)] {
        for (rows, columns) in [(1, 32), (7, 96), (300, 256)] {
            let groups = ops::Groups {
                rows,
                columns,
                size,
                bits,
            };
            let codes: Vec<i32> = (0..(rows * groups.words()) as u64)
                .map(|i| (rng::uniform(21, i) * 4294967296.0) as u32 as i32)
                .collect();
            let codes = TensorData::new(codes, [rows, groups.words()]);
            let weight = || ops::Grouped::<Flex> {
                codes: Tensor::<Flex, 2, Int>::from_data(codes.clone(), &Default::default())
                    .into_primitive(),
                scales: random(22, [rows, groups.count()]),
                offsets: random(23, [rows, groups.count()]),
                groups,
            };
            let values = ops::grouped::values::<Flex>(weight()).into_data();
            let kernel = super::grouped::values(&weight()).unwrap().into_data();
            let bits_of =
                |data: TensorData| -> Vec<u32> { data.iter::<f32>().map(f32::to_bits).collect() };
            assert_eq!(bits_of(kernel), bits_of(values));
            let bias = vector(24, rows);
            for tokens in [1, 2, 8, 9, 64, 65] {
                let x = random(25, [tokens, columns]);
                // A product of random signs is small against what it sums.
                let scale = |y| primitive(tensor::<Flex, 2>(y) / (16.0 * columns as f64).sqrt());
                for bias in [None, Some(bias.clone())] {
                    let kernel =
                        super::grouped::forward(&x, &weight(), bias.as_ref(), Precision::F32);
                    let default =
                        ops::grouped::linear::<Flex>(x.clone(), weight(), bias, Precision::F32);
                    same("grouped", scale(kernel.unwrap()), scale(default));
                }
            }
        }
    }
}
