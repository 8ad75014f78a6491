//! Laws of the training operations on the CPU backend: every forward pass equals a plain f64 implementation of its
//! formula, every gradient equals that implementation's central finite differences, dropout draws one mask in both
//! directions, and the number of threads changes no bit.
#![cfg(feature = "cpu")]
#![allow(clippy::unwrap_used)]

use burn::backend::{Autodiff, Flex};
use burn::tensor::{Int, Tensor, TensorData, TensorPrimitive, backend::Backend};
use rekindle_base::rng::{self, Row, drop_threshold};
use rekindle_nn::ops::{
    self, AdamW, AttentionConfig, BatchNormConfig, CrossEntropy, Distances, Dropout, Gate,
    GeluKind, Precision, Rectify, Relative, Window,
};
use rekindle_nn::{Pass, Sequences, TuneAutodiff, TuneBackend};

type Ad = Autodiff<Flex>;

/// Sizes that are no multiple of a vector, a register tile or a chunk.
const ODD: [usize; 4] = [1, 3, 17, 129];
/// Allowed error of a forward value and of a gradient, relative to `1 + |value|`: f32 rounding over sums of a few
/// hundred terms. The finite differences themselves are good to 1e-8.
const TOLERANCE: f64 = 4e-5;
/// Step of the central difference in f64.
const STEP: f64 = 1e-5;
/// Elements of each input whose gradient is checked.
const SAMPLES: usize = 48;

/// `len` values in [-scale, scale) that f32 holds exactly.
fn values(key: u64, len: usize, scale: f64) -> Vec<f64> {
    (0..len as u64)
        .map(|i| f64::from(((2.0 * rng::uniform(key, i) - 1.0) * scale) as f32))
        .collect()
}

fn flat<B: Backend>(values: &[f64]) -> Tensor<B, 1> {
    let values: Vec<f32> = values.iter().map(|&x| x as f32).collect();
    let len = values.len();
    Tensor::from_data(TensorData::new(values, [len]), &Default::default())
}

fn ints<B: Backend>(values: &[usize]) -> Tensor<B, 1, Int> {
    let values: Vec<i32> = values.iter().map(|&x| x as i32).collect();
    let len = values.len();
    Tensor::from_data(TensorData::new(values, [len]), &Default::default())
}

fn host<B: Backend, const D: usize>(tensor: Tensor<B, D>) -> Vec<f32> {
    tensor.into_data().convert::<f32>().to_vec().unwrap()
}

fn close(what: &str, found: f64, expected: f64) {
    assert!(
        (found - expected).abs() <= TOLERANCE * (1.0 + expected.abs()),
        "{what}: expected {expected}, found {found}"
    );
}

/// Holds `op` and its gradients with respect to every input against `reference`. Inputs and output are flat.
fn check(
    name: &str,
    inputs: &[Vec<f64>],
    op: impl Fn(&[Tensor<Ad, 1>]) -> Tensor<Ad, 1>,
    reference: impl Fn(&[Vec<f64>]) -> Vec<f64>,
) {
    let leaves: Vec<Tensor<Ad, 1>> = inputs
        .iter()
        .map(|x| flat::<Ad>(x).require_grad())
        .collect();
    let output = op(&leaves);
    let expected = reference(inputs);
    let found = host(output.clone());
    assert_eq!(found.len(), expected.len(), "{name}: length of the output");
    for (i, (&found, &expected)) in found.iter().zip(&expected).enumerate() {
        close(&format!("{name}, output {i}"), f64::from(found), expected);
    }

    let weights = values(0x10C0, expected.len(), 1.0);
    let mut grads = (output * flat(&weights)).sum().backward();
    let loss = |inputs: &[Vec<f64>]| -> f64 {
        reference(inputs)
            .iter()
            .zip(&weights)
            .map(|(y, w)| y * w)
            .sum()
    };
    for (n, leaf) in leaves.iter().enumerate() {
        let grad = host(
            leaf.grad_remove(&mut grads)
                .unwrap_or_else(|| panic!("{name}: input {n} has no gradient")),
        );
        assert_eq!(
            grad.len(),
            inputs[n].len(),
            "{name}: length of gradient {n}"
        );
        let mut moved = inputs.to_vec();
        for i in (0..grad.len()).step_by(grad.len().div_ceil(SAMPLES).max(1)) {
            let mut at = |x: f64| {
                moved[n][i] = x;
                loss(&moved)
            };
            let slope = (at(inputs[n][i] + STEP) - at(inputs[n][i] - STEP)) / (2.0 * STEP);
            moved[n][i] = inputs[n][i];
            close(
                &format!("{name}, gradient {n} at {i}"),
                f64::from(grad[i]),
                slope,
            );
        }
    }
}

/// erf by its Taylor series, or by Lentz's continued fraction of erfc where |x| is large.
fn erf(x: f64) -> f64 {
    if x.abs() < 3.0 {
        let (mut term, mut sum, mut n) = (x, x, 0.0);
        while term.abs() > 1e-17 {
            n += 1.0;
            term *= -x * x / n;
            sum += term / (2.0 * n + 1.0);
        }
        return sum * 2.0 / std::f64::consts::PI.sqrt();
    }
    let z = x.abs();
    let fraction = (1..60)
        .rev()
        .fold(z, |tail, n| z + f64::from(n) / 2.0 / tail);
    x.signum() * (1.0 - (-z * z).exp() / (fraction * std::f64::consts::PI.sqrt()))
}

fn gelu(x: f64, kind: GeluKind) -> f64 {
    match kind {
        GeluKind::Exact => 0.5 * x * (1.0 + erf(x / 2f64.sqrt())),
        GeluKind::Tanh => {
            0.5 * x
                * (1.0 + ((2.0 / std::f64::consts::PI).sqrt() * (x + 0.044_715 * x * x * x)).tanh())
        }
    }
}

#[test]
fn linear() {
    for (tokens, inner, outer) in [
        (1, 1, 1),
        (3, 17, 1),
        (17, 3, 129),
        (129, 129, 17),
        (1, 129, 3),
        (129, 1, 3),
    ] {
        let inputs = [
            values(1, tokens * inner, 1.0),
            values(2, outer * inner, 0.5),
            values(3, outer, 1.0),
        ];
        let activations = [None, Some(GeluKind::Exact), Some(GeluKind::Tanh)];
        for (bias, kind) in [false, true]
            .into_iter()
            .flat_map(|b| activations.map(|k| (b, k)))
        {
            let inputs = &inputs[..if bias { 3 } else { 2 }];
            check(
                &format!("linear {tokens}x{inner}x{outer}, bias {bias}, of gelu {kind:?}"),
                inputs,
                |t| {
                    let (x, w) = (
                        t[0].clone().reshape([tokens, inner]),
                        t[1].clone().reshape([outer, inner]),
                    );
                    let bias = t.get(2).cloned();
                    let y = match kind {
                        None => ops::linear(x, w, bias, Precision::F32),
                        Some(kind) => ops::gelu_linear(x, w, bias, kind, Precision::F32),
                    };
                    y.reshape([-1])
                },
                |t| {
                    let active = |x: f64| kind.map_or(x, |kind| gelu(x, kind));
                    let entry = |row: usize, o: usize| -> f64 {
                        let dot: f64 = (0..inner)
                            .map(|i| active(t[0][row * inner + i]) * t[1][o * inner + i])
                            .sum();
                        dot + t.get(2).map_or(0.0, |b| b[o])
                    };
                    (0..tokens * outer)
                        .map(|n| entry(n / outer, n % outer))
                        .collect()
                },
            );
        }
    }
}

#[test]
fn low_rank() {
    for (tokens, inner, rank, outer) in [
        (1, 1, 1, 1),
        (3, 17, 8, 129),
        (129, 8, 17, 3),
        (17, 3, 2, 1),
    ] {
        check(
            &format!("low rank {tokens}x{inner}x{rank}x{outer}"),
            &[
                values(1, tokens * outer, 1.0),
                values(2, tokens * inner, 1.0),
                values(3, rank * inner, 1.0),
                values(4, outer * rank, 1.0),
            ],
            |t| {
                let [sum, x, a, b] = [
                    (tokens, outer),
                    (tokens, inner),
                    (rank, inner),
                    (outer, rank),
                ]
                .map({
                    let mut inputs = t.iter();
                    move |(rows, columns)| inputs.next().unwrap().clone().reshape([rows, columns])
                });
                ops::low_rank(sum, x, a, b, 0.75).reshape([-1])
            },
            |t| {
                // The rows of a factor with a row of values.
                let times = |row: &[f64], factor: &[f64]| -> Vec<f64> {
                    let rows = factor.chunks_exact(row.len());
                    rows.map(|f| f.iter().zip(row).map(|(f, x)| f * x).sum())
                        .collect()
                };
                let rows = t[1].chunks_exact(inner).zip(t[0].chunks_exact(outer));
                rows.flat_map(|(x, sum)| {
                    let side = times(&times(x, &t[2]), &t[3]);
                    let sums = sum.iter().zip(side);
                    sums.map(|(sum, side)| sum + 0.75 * side)
                        .collect::<Vec<_>>()
                })
                .collect()
            },
        );
    }
}

#[test]
fn square_sum() {
    for len in ODD.into_iter().chain([40_000]) {
        let x = values(1, len, 2.0);
        let found = Flex::tune_square_sum(flat::<Flex>(&x).into_primitive().tensor());
        let found = host(Tensor::<Flex, 1>::from_primitive(TensorPrimitive::Float(
            found,
        )))[0];
        close(
            "square sum",
            f64::from(found),
            x.iter().map(|x| x * x).sum(),
        );
    }
}

#[test]
fn gelu_of_both_kinds() {
    for kind in [GeluKind::Exact, GeluKind::Tanh] {
        for len in ODD {
            check(
                &format!("{kind:?} gelu of {len}"),
                &[values(4, len, 6.0)],
                |t| ops::gelu(t[0].clone(), kind),
                |t| t[0].iter().map(|&x| gelu(x, kind)).collect(),
            );
        }
    }
}

#[test]
fn layer_norm() {
    for (tokens, width) in [(1, 3), (3, 1), (17, 17), (129, 3), (3, 129), (129, 129)] {
        // One value has no variance: only epsilon keeps that gradient finite.
        let epsilon = 1e-2;
        let normed = |x: &[f64], gamma: &[f64], beta: &[f64]| -> Vec<f64> {
            let mean = x.iter().sum::<f64>() / width as f64;
            let variance = x.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / width as f64;
            let inverse = 1.0 / (variance + epsilon).sqrt();
            (0..width)
                .map(|i| (x[i] - mean) * inverse * gamma[i] + beta[i])
                .collect()
        };
        let affine = [values(6, width, 1.0), values(7, width, 1.0)];
        let [x, residual] = [5, 8].map(|key| values(key, tokens * width, 2.0));
        let rows = [tokens, width];
        let [gamma, beta] = affine.clone();
        check(
            &format!("layer norm {tokens}x{width}"),
            &[x.clone(), gamma, beta],
            |t| {
                let [x, gamma, beta] = [0, 1, 2].map(|i| t[i].clone());
                ops::layer_norm(x.reshape(rows), None, gamma, beta, epsilon).reshape([-1])
            },
            |t| {
                let rows = t[0].chunks(width);
                rows.flat_map(|x| normed(x, &t[1], &t[2])).collect()
            },
        );
        let [gamma, beta] = affine;
        check(
            &format!("layer norm {tokens}x{width} of a sum"),
            &[x, residual, gamma, beta],
            |t| {
                let [x, r, gamma, beta] = [0, 1, 2, 3].map(|i| t[i].clone());
                let r = Some(r.reshape(rows));
                ops::layer_norm(x.reshape(rows), r, gamma, beta, epsilon).reshape([-1])
            },
            |t| {
                let sum: Vec<f64> = t[0].iter().zip(&t[1]).map(|(x, r)| x + r).collect();
                let rows = sum.chunks(width);
                rows.flat_map(|x| normed(x, &t[2], &t[3])).collect()
            },
        );
    }
}

fn attention_reference(
    t: &[Vec<f64>],
    head_width: usize,
    (queries, keys): (&Sequences, &Sequences),
    config: AttentionConfig,
) -> Vec<f64> {
    let AttentionConfig {
        heads, kv_heads, ..
    } = config;
    let mut output = vec![0.0; queries.tokens() * heads * head_width];
    for (range, keys) in queries.ranges().zip(keys.ranges()) {
        for token in range.clone() {
            for h in 0..heads {
                let at = |token: usize, i: usize| (token * heads + h) * head_width + i;
                let at_key =
                    |key: usize, i: usize| (key * kv_heads + h * kv_heads / heads) * head_width + i;
                // The last query stands at the last key, the one before it at the one before that.
                let own = keys.end as i64 - (range.end - token) as i64;
                let sees = |key: usize| {
                    let behind = key as i64 - own;
                    let window = config.window.map_or(i64::MAX, |window| window as i64);
                    !(config.causal && behind > 0) && behind.abs() < window
                };
                let seen: Vec<usize> = keys.clone().filter(|&key| sees(key)).collect();
                let scale = config
                    .scale
                    .unwrap_or_else(|| 1.0 / (head_width as f64).sqrt());
                let score = |key: usize| -> f64 {
                    (0..head_width)
                        .map(|i| t[0][at(token, i)] * t[1][at_key(key, i)])
                        .sum::<f64>()
                        * scale
                };
                let exponentials: Vec<f64> = seen.iter().map(|&key| score(key).exp()).collect();
                let sum: f64 = exponentials.iter().sum();
                for (&key, e) in seen.iter().zip(&exponentials) {
                    let keep = config.dropout.map_or(1.0, |d| {
                        let row = Row::new(d.key, (token * heads + h) as u64);
                        let dropped = row.bits((key - keys.start) as u32) < drop_threshold(d.rate);
                        if dropped { 0.0 } else { 1.0 / (1.0 - d.rate) }
                    });
                    for i in 0..head_width {
                        output[at(token, i)] += keep * e / sum * t[2][at_key(key, i)];
                    }
                }
            }
        }
    }
    output
}

/// Holds attention against its reference, queries and keys of these lengths, heads of `head_width`.
fn check_attention_of(lengths: [&[usize]; 2], head_width: usize, config: AttentionConfig) {
    let [queries, keys] = lengths.map(Sequences::from_lengths);
    let key_shape = [keys.tokens(), config.kv_heads * head_width];
    let shapes = [
        [queries.tokens(), config.heads * head_width],
        key_shape,
        key_shape,
    ];
    let inputs: Vec<_> = (8..)
        .zip(shapes)
        .map(|(key, [tokens, width])| values(key, tokens * width, 1.5))
        .collect();
    check(
        &format!("attention {lengths:?}, heads of {head_width}, {config:?}"),
        &inputs,
        |t| {
            let [q, k, v] = [0, 1, 2].map(|i| t[i].clone().reshape(shapes[i]));
            ops::attention(q, k, v, (&queries, &keys), config).reshape([-1])
        },
        |t| attention_reference(t, head_width, (&queries, &keys), config),
    );
}

/// As [`check_attention_of`], with a causal mask and without.
fn check_attention(lengths: [&[usize]; 2], (heads, head_width): (usize, usize), rate: f64) {
    for causal in [false, true] {
        let config = AttentionConfig {
            causal,
            dropout: (rate > 0.0).then_some(Dropout { key: 99, rate }),
            ..AttentionConfig::new(heads)
        };
        check_attention_of(lengths, head_width, config);
    }
}

#[test]
fn attention_over_packed_sequences() {
    let lengths: [&[usize]; 5] = [&[1], &[3, 1, 17], &[0, 5, 0, 1, 0], &[17, 0, 3], &[129]];
    for lengths in lengths {
        for heads in [(1, 1), (1, 17), (3, 5), (4, 8)] {
            for rate in [0.0, 0.2] {
                check_attention([lengths; 2], heads, rate);
            }
        }
    }
}

#[test]
fn attention_of_some_queries_to_other_keys() {
    for (queries, keys) in [
        (&[1, 1, 1][..], &[3, 1, 17][..]),
        (&[2, 0, 3], &[5, 4, 3]),
        (&[4, 3], &[2, 0]),
        (&[0, 2], &[3, 1]),
        (&[2], &[129]),
    ] {
        for rate in [0.0, 0.2] {
            check_attention([queries, keys], (3, 5), rate);
        }
    }
}

#[test]
fn attention_longer_than_a_block_of_queries() {
    check_attention([&[2, 300]; 2], (1, 3), 0.1);
    check_attention([&[140, 3], &[150, 3]], (1, 3), 0.1);
}

#[test]
fn attention_of_grouped_heads_in_a_window() {
    for (queries, keys) in [
        (&[3, 1, 17, 0][..], &[3, 1, 17, 2][..]),
        (&[1, 1], &[129, 3]),
        (&[4, 9], &[2, 30]),
        (&[150, 2], &[150, 2]),
        (&[70], &[140]),
    ] {
        for (heads, kv_heads, causal) in [
            (3, 1, true),
            (6, 2, true),
            (2, 2, true),
            (2, 2, false),
            (6, 2, false),
        ] {
            for window in [None, Some(1), Some(5), Some(64), Some(100)] {
                for rate in [0.0, 0.2] {
                    let config = AttentionConfig {
                        kv_heads,
                        causal,
                        window,
                        scale: Some(0.3),
                        dropout: (rate > 0.0).then_some(Dropout { key: 98, rate }),
                        ..AttentionConfig::new(heads)
                    };
                    check_attention_of([queries, keys], 3, config);
                }
            }
        }
    }
    let config = AttentionConfig {
        kv_heads: 2,
        ..AttentionConfig::new(4)
    };
    check_attention_of([&[3, 1, 17, 0]; 2], 5, config);
    check_attention_of([&[1, 2], &[129, 7]], 5, config);
}

#[test]
fn a_long_sequence_of_grouped_heads() {
    // Its heads are differentiated side by side.
    let config = AttentionConfig {
        kv_heads: 1,
        causal: true,
        window: Some(40),
        ..AttentionConfig::new(2)
    };
    check_attention_of([&[1030, 5]; 2], 2, config);
    let both_sides = AttentionConfig {
        causal: false,
        ..config
    };
    check_attention_of([&[1030, 5]; 2], 2, both_sides);
}

/// A number a distance, or two vectors.
#[derive(Debug, Clone, Copy)]
enum Kind {
    Bias,
    Vectors,
}

/// Distances beyond two are in buckets of three, both ways, in a table of which the first rows are not in use.
fn bucket(distance: i64) -> usize {
    let far = (distance.abs() - 2).max(0) / 3 + distance.abs().min(2);
    (distance.signum() * far.min(5) + 9) as usize
}

fn relative_reference(
    t: &[Vec<f64>],
    kind: Kind,
    (queries, keys): (&Sequences, &Sequences),
    places: &[usize],
    (distances, head_width): (&Distances, usize),
    config: AttentionConfig,
) -> Vec<f64> {
    let heads = config.heads;
    let mut output = vec![0.0; queries.tokens() * heads * head_width];
    for (range, keys) in queries.ranges().zip(keys.ranges()) {
        for token in range {
            for h in 0..heads {
                let at = |row: usize, i: usize| (row * heads + h) * head_width + i;
                let scale = config
                    .scale
                    .unwrap_or_else(|| 1.0 / (head_width as f64).sqrt());
                let dot = |(a, x): (usize, usize), (b, y): (usize, usize)| -> f64 {
                    let of = |i| t[a][at(x, i)] * t[b][at(y, i)];
                    (0..head_width).map(of).sum()
                };
                let score = |key: usize| -> f64 {
                    let distance = places[token] as i64 - (key - keys.start) as i64;
                    let row = bucket(distance) - distances.span().start;
                    let product = dot((0, token), (1, key));
                    match kind {
                        Kind::Bias => product * scale + t[3][row * heads + h],
                        Kind::Vectors => {
                            let met = dot((0, token), (3, row)) + dot((1, key), (4, row));
                            (product + met) * scale
                        }
                    }
                };
                let exponentials: Vec<f64> = keys.clone().map(|key| score(key).exp()).collect();
                let sum: f64 = exponentials.iter().sum();
                for (key, e) in keys.clone().zip(&exponentials) {
                    let keep = config.dropout.map_or(1.0, |d| {
                        let row = Row::new(d.key, (token * heads + h) as u64);
                        let dropped = row.bits((key - keys.start) as u32) < drop_threshold(d.rate);
                        if dropped { 0.0 } else { 1.0 / (1.0 - d.rate) }
                    });
                    for i in 0..head_width {
                        output[at(token, i)] += keep * e / sum * t[2][at(key, i)];
                    }
                }
            }
        }
    }
    output
}

/// Holds attention with relative positions against its reference. Queries stand at `places`, or each at its own token.
fn check_relative(
    lengths: [&[usize]; 2],
    places: Option<&[usize]>,
    kind: Kind,
    head_width: usize,
    config: AttentionConfig,
) {
    let [queries, keys] = lengths.map(Sequences::from_lengths);
    let distances = Distances::new(keys.longest(), bucket);
    let (distances, places) = match places {
        None => {
            let own = queries.ranges().flat_map(|range| 0..range.len()).collect();
            (distances, own)
        }
        Some(places) => (distances.with_places(places), places.to_vec()),
    };
    let (width, rows) = (config.heads * head_width, distances.span().len());
    let [q, k] = [&queries, &keys].map(|sequences| [sequences.tokens(), width]);
    let shapes = match kind {
        Kind::Bias => vec![q, k, k, [rows, config.heads]],
        Kind::Vectors => vec![q, k, k, [rows, width], [rows, width]],
    };
    let inputs: Vec<_> = (80..)
        .zip(&shapes)
        .map(|(key, [rows, width])| values(key, rows * width, 1.2))
        .collect();
    check(
        &format!("relative attention {lengths:?}, {kind:?} of heads of {head_width}, {config:?}"),
        &inputs,
        |t| {
            let of = |i: usize| t[i].clone().reshape(shapes[i]);
            let relative = match kind {
                Kind::Bias => Relative::Bias(of(3)),
                Kind::Vectors => Relative::Vectors {
                    keys: of(3),
                    queries: of(4),
                },
            };
            let (qkv, both) = ([0, 1, 2].map(of), (&queries, &keys));
            ops::relative_attention(qkv, relative, &distances, both, config).reshape([-1])
        },
        |t| {
            let both = (&queries, &keys);
            relative_reference(t, kind, both, &places, (&distances, head_width), config)
        },
    );
}

#[test]
fn attention_with_relative_positions() {
    for kind in [Kind::Bias, Kind::Vectors] {
        for (rate, scale) in [(0.0, None), (0.2, Some(0.3))] {
            for heads in [1, 3] {
                let config = AttentionConfig {
                    scale,
                    dropout: (rate > 0.0).then_some(Dropout { key: 97, rate }),
                    ..AttentionConfig::new(heads)
                };
                for lengths in [&[1][..], &[3, 1, 17], &[0, 5, 0, 1, 0], &[2, 6, 3, 1, 4, 9]] {
                    check_relative([lengths; 2], None, kind, 5, config);
                }
                // Longer than a block of queries, and than one of keys.
                check_relative([&[2, 150]; 2], None, kind, 3, config);
                // Some tokens ask, in any order; in the second sequence none.
                let lengths = [&[1, 0, 2, 1][..], &[3, 4, 140, 1]];
                check_relative(lengths, Some(&[2, 139, 5, 0]), kind, 4, config);
            }
        }
    }
}

#[test]
fn tables_of_distances_get_a_gradient_only_where_they_are_tracked() {
    let leaf = |key, rows| flat::<Ad>(&values(key, rows * 4, 1.0)).reshape([rows, 4]);
    let distances = Distances::new(3, bucket);
    let rows = distances.span().len();
    let [q, k, v] = [(1, 3), (2, 3), (3, 3)].map(|(key, rows)| leaf(key, rows).require_grad());
    let (keys, queries) = (leaf(4, rows), leaf(5, rows).require_grad());
    let relative = Relative::Vectors {
        keys: keys.clone(),
        queries: queries.clone(),
    };
    let three = Sequences::from_lengths(&[3]);
    let (qkv, config) = ([&q, &k, &v].map(Tensor::clone), AttentionConfig::new(2));
    let output = ops::relative_attention(qkv, relative, &distances, (&three, &three), config);
    let grads = output.sum().backward();
    assert!(keys.grad(&grads).is_none() && queries.grad(&grads).is_some());
    let frozen = Relative::Vectors {
        keys,
        queries: queries.detach(),
    };
    let qkv = [&q, &k, &v].map(Tensor::clone);
    let output = ops::relative_attention(qkv, frozen, &distances, (&three, &three), config);
    let again = output.sum().backward();
    for leaf in [q, k, v] {
        let [a, b] = [&grads, &again].map(|grads| host(leaf.grad(grads).unwrap()));
        assert_eq!(a, b);
    }
}

/// The operations between which the tokens of a sequence meet, and the gradients of q, k and v.
fn attended(rows: std::ops::Range<usize>, lengths: &[usize]) -> Vec<Vec<f32>> {
    let shapes = [24, 8, 8];
    let leaves: Vec<Tensor<Ad, 2>> = (70..)
        .zip(shapes)
        .map(|(key, width)| {
            flat::<Ad>(&values(key, 400 * width, 1.0))
                .reshape([400, width])
                .slice([rows.clone()])
                .require_grad()
        })
        .collect();
    let config = AttentionConfig {
        kv_heads: 1,
        causal: true,
        window: Some(90),
        ..AttentionConfig::new(3)
    };
    let sequences = Sequences::from_lengths(lengths);
    let [q, k, v] = [0, 1, 2].map(|i| leaves[i].clone());
    let output = ops::attention(q, k, v, (&sequences, &sequences), config);
    let weights = flat::<Ad>(&values(73, 400 * 24, 1.0)).reshape([400, 24]);
    let grads = (output.clone() * weights.slice([rows])).sum().backward();
    let mut all = vec![host(output)];
    all.extend(leaves.iter().map(|leaf| host(leaf.grad(&grads).unwrap())));
    all
}

#[test]
fn a_packed_sequence_is_that_sequence_alone() {
    let packed = attended(0..400, &[130, 270]);
    let (first, second) = (attended(0..130, &[130]), attended(130..400, &[270]));
    for (i, packed) in packed.iter().enumerate() {
        let alone: Vec<f32> = first[i].iter().chain(&second[i]).copied().collect();
        assert_eq!(
            packed, &alone,
            "output and gradients of q, k, v: number {i}"
        );
    }
}

#[test]
fn rms_norm() {
    for (tokens, width) in [(1, 3), (3, 1), (17, 17), (129, 3), (3, 129), (129, 129)] {
        let epsilon = 1e-2;
        check(
            &format!("RMS norm {tokens}x{width}"),
            &[values(50, tokens * width, 2.0), values(51, width, 1.0)],
            |t| {
                let x = t[0].clone().reshape([tokens, width]);
                ops::rms_norm(x, t[1].clone(), epsilon).reshape([-1])
            },
            |t| {
                let row = |x: &[f64]| -> Vec<f64> {
                    let square = x.iter().map(|x| x * x).sum::<f64>() / width as f64;
                    let inverse = 1.0 / (square + epsilon).sqrt();
                    x.iter().zip(&t[1]).map(|(x, g)| x * inverse * g).collect()
                };
                t[0].chunks(width).flat_map(row).collect()
            },
        );
    }
}

#[test]
fn rotary() {
    for (tokens, heads, head_width, half) in [
        (1, 1, 2, 1),
        (3, 2, 10, 5),
        (17, 3, 6, 2),
        (129, 1, 34, 17),
        (70, 2, 7, 3),
    ] {
        let (width, angles) = (heads * head_width, values(52, tokens * half, 3.0));
        let table = |f: fn(f64) -> f64| -> Vec<f64> {
            angles.iter().map(|&a| f64::from(f(a) as f32)).collect()
        };
        let (cos, sin) = (table(f64::cos), table(f64::sin));
        check(
            &format!("rotary {tokens} tokens, {heads} heads of {head_width}, {half} pairs"),
            &[values(53, tokens * width, 2.0)],
            |t| {
                let [cos, sin] = [&cos, &sin].map(|x| flat(x).reshape([tokens, half]));
                let x = t[0].clone().reshape([tokens, width]);
                ops::rotary(x, cos, sin, heads).reshape([-1])
            },
            |t| {
                let mut output = t[0].clone();
                for (n, head) in output.chunks_mut(head_width).enumerate() {
                    for i in 0..half {
                        let (c, s) = (cos[n / heads * half + i], sin[n / heads * half + i]);
                        let (a, b) = (head[i], head[half + i]);
                        (head[i], head[half + i]) = (a * c - b * s, a * s + b * c);
                    }
                }
                output
            },
        );
    }
}

#[test]
fn gated_linear_units() {
    for gate in [
        Gate::Silu,
        Gate::Gelu(GeluKind::Exact),
        Gate::Gelu(GeluKind::Tanh),
    ] {
        for len in ODD {
            check(
                &format!("{gate:?} gate of {len}"),
                &[values(54, len, 5.0), values(55, len, 2.0)],
                |t| {
                    let [gates, up] = [0, 1].map(|i| t[i].clone().reshape([1, len]));
                    ops::gated(gates, up, gate).reshape([-1])
                },
                |t| {
                    let active = |x: f64| match gate {
                        Gate::Silu => x / (1.0 + (-x).exp()),
                        Gate::Gelu(kind) => gelu(x, kind),
                    };
                    let pairs = t[0].iter().zip(&t[1]);
                    pairs.map(|(&x, up)| active(x) * up).collect()
                },
            );
        }
    }
}

/// Logits in f64: `hidden [R, D]` by `weight [V, D]`, capped.
fn logits(hidden: &[f64], weight: &[f64], width: usize, cap: Option<f64>) -> Vec<Vec<f64>> {
    let row = |h: &[f64]| -> Vec<f64> {
        let products = weight
            .chunks(width)
            .map(|w| h.iter().zip(w).map(|(h, w)| h * w).sum::<f64>());
        products
            .map(|x| cap.map_or(x, |cap| cap * (x / cap).tanh()))
            .collect()
    };
    hidden.chunks(width).map(row).collect()
}

/// Losses and best words of some logits.
fn next_token_reference(logits: &[Vec<f64>], targets: &[usize]) -> (Vec<f64>, Vec<usize>) {
    let losses = logits.iter().zip(targets).map(|(row, &target)| {
        let max = row.iter().copied().fold(f64::MIN, f64::max);
        max + row.iter().map(|x| (x - max).exp()).sum::<f64>().ln() - row[target]
    });
    let best = logits.iter().map(|row| {
        let max = row.iter().copied().fold(f64::MIN, f64::max);
        row.iter().position(|&x| x == max).unwrap()
    });
    (losses.collect(), best.collect())
}

#[test]
fn next_token_losses() {
    for (rows, width, words) in [(1, 1, 1), (3, 17, 5), (17, 3, 129), (129, 17, 33)] {
        for cap in [None, Some(2.0)] {
            let targets: Vec<usize> = (0..rows).map(|i| (i * 7 + 1) % words).collect();
            let inputs = [
                values(56, rows * width, 2.0),
                values(57, words * width, 1.0),
            ];
            let shape = |t: &[Tensor<Ad, 1>]| {
                let hidden = t[0].clone().reshape([rows, width]);
                (hidden, t[1].clone().reshape([words, width]))
            };
            check(
                &format!("next token {rows}x{width}x{words}, cap {cap:?}"),
                &inputs,
                |t| {
                    let (hidden, weight) = shape(t);
                    ops::next_token_losses(hidden, weight, ints(&targets), cap)
                },
                |t| next_token_reference(&logits(&t[0], &t[1], width, cap), &targets).0,
            );
            let leaves: Vec<_> = inputs.iter().map(|x| flat::<Ad>(x)).collect();
            let (hidden, weight) = shape(&leaves);
            let (losses, best) = ops::next_token_best(hidden, weight, ints(&targets), cap);
            let reference =
                next_token_reference(&logits(&inputs[0], &inputs[1], width, cap), &targets);
            for (found, expected) in host(losses).into_iter().zip(reference.0) {
                close("loss beside the best word", found.into(), expected);
            }
            let best: Vec<usize> = best.into_data().iter::<i64>().map(|i| i as usize).collect();
            assert_eq!(best, reference.1);
        }
    }
}

#[test]
fn next_token_losses_need_no_gradient_of_the_weight() {
    let leaf = |key, rows: usize| flat::<Ad>(&values(key, rows * 6, 1.0)).reshape([rows, 6]);
    for (hidden_asks, weight_asks) in [(true, false), (false, true)] {
        let hidden = leaf(58, 5).set_require_grad(hidden_asks);
        let weight = leaf(59, 9).set_require_grad(weight_asks);
        let losses =
            ops::next_token_losses(hidden.clone(), weight.clone(), ints(&[0, 8, 3, 3, 1]), None);
        let grads = losses.sum().backward();
        assert_eq!(hidden.grad(&grads).is_some(), hidden_asks);
        assert_eq!(weight.grad(&grads).is_some(), weight_asks);
    }
}

#[test]
fn embedding_rows() {
    for (vocabulary, width) in [(1, 1), (3, 17), (129, 3), (17, 129)] {
        for tokens in ODD {
            // Some rows are used often, some never.
            let indices: Vec<usize> = (0..tokens).map(|t| (t * t) % vocabulary).collect();
            check(
                &format!("embedding {vocabulary}x{width} of {tokens}"),
                &[values(12, vocabulary * width, 1.0)],
                |t| {
                    ops::embedding_rows(t[0].clone().reshape([vocabulary, width]), ints(&indices))
                        .reshape([-1])
                },
                |t| {
                    indices
                        .iter()
                        .flat_map(|&i| t[0][i * width..][..width].to_vec())
                        .collect()
                },
            );
            check(
                &format!("embedding {vocabulary}x{width} added to {tokens}"),
                &[
                    values(12, vocabulary * width, 1.0),
                    values(13, tokens * width, 1.0),
                ],
                |t| {
                    let table = t[0].clone().reshape([vocabulary, width]);
                    let sum = t[1].clone().reshape([tokens, width]);
                    ops::embedding_add(sum, table, ints(&indices)).reshape([-1])
                },
                |t| {
                    let row = |&i: &usize| t[0][i * width..][..width].iter();
                    let rows = indices.iter().flat_map(row);
                    rows.zip(&t[1]).map(|(a, b)| a + b).collect()
                },
            );
        }
    }
}

#[test]
fn cross_entropy() {
    for classes in [1, 2, 3, 17, 129] {
        for examples in ODD {
            let weights: Vec<f32> = (0..classes).map(|c| 0.25 + c as f32 / 8.0).collect();
            for (smoothing, weighted, ignored) in [
                (0.0, false, None),
                (0.1, false, None),
                (0.0, true, Some(-100)),
                (0.1, true, Some(0)),
            ] {
                let targets: Vec<usize> = (0..examples).map(|i| (i * 7) % classes).collect();
                let settings = CrossEntropy {
                    label_smoothing: smoothing,
                    weights: weighted.then(|| weights.clone().into()),
                    ignored,
                };
                check(
                    &format!("cross-entropy {examples}x{classes}, {settings:?}"),
                    &[values(13, examples * classes, 4.0)],
                    |t| {
                        let logits = t[0].clone().reshape([examples, classes]);
                        ops::cross_entropy(logits, ints(&targets), &settings)
                    },
                    |t| {
                        let weight = |c: usize| if weighted { f64::from(weights[c]) } else { 1.0 };
                        let row = |(x, &target): (&[f64], &usize)| {
                            if ignored == Some(target as i64) {
                                return 0.0;
                            }
                            let log_sum = x.iter().map(|x| x.exp()).sum::<f64>().ln();
                            let all: f64 = (0..classes).map(|c| weight(c) * (log_sum - x[c])).sum();
                            (1.0 - smoothing) * weight(target) * (log_sum - x[target])
                                + smoothing * all / classes as f64
                        };
                        t[0].chunks(classes).zip(&targets).map(row).collect()
                    },
                );
            }
        }
    }
}

/// Convolution in f64, `x [N, H, W, C]`, `weight [O, C/groups, kh, kw]`.
fn convolution(
    x: &[f64],
    [n, height, width, channels]: [usize; 4],
    weight: &[f64],
    outputs: usize,
    window: Window,
    groups: usize,
) -> Vec<f64> {
    let [rows, columns] = window.output([height, width]);
    let ([kh, kw], depth) = (window.kernel, channels / groups);
    let mut output = Vec::new();
    for (image, y, column, o) in (0..n * rows * columns * outputs).map(|i| {
        let (i, o) = (i / outputs, i % outputs);
        (i / (rows * columns), i / columns % rows, i % columns, o)
    }) {
        let first = o / (outputs / groups) * depth;
        let mut sum = 0.0;
        for (c, k, l) in (0..depth * kh * kw).map(|i| (i / (kh * kw), i / kw % kh, i % kw)) {
            let row = (y * window.stride[0] + k).checked_sub(window.padding[0]);
            let at = (column * window.stride[1] + l).checked_sub(window.padding[2]);
            if let (Some(row), Some(at)) = (row, at)
                && row < height
                && at < width
            {
                let pixel = (image * height + row) * width + at;
                sum +=
                    x[pixel * channels + first + c] * weight[((o * depth + c) * kh + k) * kw + l];
            }
        }
        output.push(sum);
    }
    output
}

#[test]
fn conv2d() {
    let uneven = Window {
        kernel: [3, 2],
        stride: [2, 1],
        padding: [0, 1, 1, 0],
    };
    for window in [
        Window::square(1, 1, 0),
        Window::square(1, 2, 0),
        Window::square(3, 1, 1),
        Window::square(3, 2, 1),
        Window::same(3, 2, [6, 5]),
        uneven,
    ] {
        for (channels, outputs, groups) in
            [(1, 3, 1), (17, 3, 1), (3, 3, 3), (33, 33, 33), (4, 6, 2)]
        {
            let size = [2, 6, 5, channels];
            let [kh, kw] = window.kernel;
            let weight = [outputs, channels / groups, kh, kw];
            check(
                &format!("{window:?}, {channels} to {outputs} in {groups} groups"),
                &[
                    values(40, size.iter().product(), 1.0),
                    values(41, weight.iter().product(), 1.0),
                ],
                |t| {
                    let (x, w) = (t[0].clone().reshape(size), t[1].clone().reshape(weight));
                    ops::conv2d(x, w, window, groups).reshape([-1])
                },
                |t| convolution(&t[0], size, &t[1], outputs, window, groups),
            );
        }
    }
}

#[test]
fn tensorflow_s_padding_covers_the_image() {
    assert_eq!(Window::same(3, 2, [6, 5]).padding, [0, 1, 1, 1]);
    assert_eq!(Window::same(5, 1, [7, 1]).padding, [2, 2, 2, 2]);
    assert_eq!(Window::same(1, 2, [6, 5]).padding, [0; 4]);
    for (kernel, stride) in [(1, 1), (1, 2), (3, 1), (3, 2), (5, 2)] {
        for size in 1..20 {
            let [rows, _] = Window::same(kernel, stride, [size, 1]).output([size, 1]);
            assert_eq!(rows, size.div_ceil(stride), "{kernel} {stride} {size}");
        }
    }
}

#[test]
fn max_pool() {
    let (size, window) = ([2, 7, 6, 3], Window::square(3, 2, 1));
    check(
        "max pool",
        &[values(42, size.iter().product(), 1.0)],
        |t| ops::max_pool(t[0].clone().reshape(size), window).reshape([-1]),
        |t| {
            let [n, height, width, channels] = size;
            let [rows, columns] = window.output([height, width]);
            let mut output = Vec::new();
            for i in 0..n * rows * columns * channels {
                let (i, c) = (i / channels, i % channels);
                let (image, y, x) = (i / (rows * columns), i / columns % rows, i % columns);
                let mut best = f64::NEG_INFINITY;
                for row in (2 * y).saturating_sub(1)..(2 * y + 2).min(height) {
                    for at in (2 * x).saturating_sub(1)..(2 * x + 2).min(width) {
                        let pixel = (image * height + row) * width + at;
                        best = best.max(t[0][pixel * channels + c]);
                    }
                }
                output.push(best);
            }
            output
        },
    );
}

#[test]
fn batch_norm() {
    for (rows, channels) in [(3, 1), (17, 3), (129, 17)] {
        for (rectify, residual) in [
            (Rectify::None, false),
            (Rectify::Relu, true),
            (Rectify::Relu6, false),
        ] {
            for of_batch in [true, false] {
                let config = BatchNormConfig {
                    epsilon: 1e-2,
                    of_batch,
                    rectify,
                };
                let fixed = [values(46, channels, 0.5), values(47, channels, 0.5)];
                let mut inputs = vec![
                    values(43, rows * channels, 2.0),
                    values(44, channels, 4.0),
                    values(45, channels, 1.0),
                ];
                inputs.extend(residual.then(|| values(48, rows * channels, 1.0)));
                check(
                    &format!("batch norm {rows}x{channels}, {config:?}"),
                    &inputs,
                    |t| {
                        let x = t[0].clone().reshape([rows, channels]);
                        let moments = match of_batch {
                            true => ops::moments(x.clone()),
                            false => {
                                Tensor::cat(vec![flat(&fixed[0]), flat::<Ad>(&fixed[1]) + 1.0], 0)
                                    .reshape([2, channels])
                            }
                        };
                        let residual = t.get(3).map(|r| r.clone().reshape([rows, channels]));
                        let affine = (t[1].clone(), t[2].clone());
                        ops::batch_norm(x, residual, affine, moments, config).reshape([-1])
                    },
                    |t| {
                        let column = |c: usize| t[0].iter().skip(c).step_by(channels);
                        let (low, high) = rectify.range();
                        (0..rows * channels)
                            .map(|i| {
                                let c = i % channels;
                                let (mean, variance) = if of_batch {
                                    let mean = column(c).sum::<f64>() / rows as f64;
                                    let squares = column(c).map(|x| (x - mean).powi(2));
                                    (mean, squares.sum::<f64>() / rows as f64)
                                } else {
                                    (fixed[0][c], f64::from((fixed[1][c] + 1.0) as f32))
                                };
                                let normal = (t[0][i] - mean) / (variance + 1e-2).sqrt();
                                let y = normal * t[1][c] + t[2][c];
                                let y = y + t.get(3).map_or(0.0, |r| r[i]);
                                y.max(f64::from(low)).min(f64::from(high))
                            })
                            .collect()
                    },
                );
            }
        }
    }
}

#[test]
fn dropout_draws_one_mask_in_both_directions() {
    let pass = Pass::training(3, 14).child(2);
    for (rows, columns) in [(1, 1), (3, 17), (129, 129), (17, 1)] {
        for rate in [0.001, 0.1, 0.9] {
            let site = pass.dropout(rate).unwrap();
            check(
                &format!("dropout {rate} of {rows}x{columns}"),
                &[values(14, rows * columns, 2.0)],
                |t| ops::dropout(t[0].clone().reshape([rows, columns]), rate, pass).reshape([-1]),
                |t| {
                    let keep = |n: usize| {
                        let bits =
                            Row::new(site.key, (n / columns) as u64).bits((n % columns) as u32);
                        if bits < drop_threshold(rate) {
                            0.0
                        } else {
                            1.0 / (1.0 - rate)
                        }
                    };
                    t[0].iter().enumerate().map(|(n, x)| x * keep(n)).collect()
                },
            );
        }
    }
}

#[test]
fn dropout_drops_at_its_rate_and_keeps_the_mean() {
    let (rows, columns) = (400, 384);
    let count = (rows * columns) as f64;
    for rate in [0.001, 0.1, 0.5] {
        let ones = Tensor::<Flex, 2>::ones([rows, columns], &Default::default());
        let kept = host(ops::dropout(ones.clone(), rate, Pass::training(1, 2)));
        let dropped = kept.iter().filter(|&&x| x == 0.0).count() as f64;
        // Five standard deviations of a binomial.
        let allowed = 5.0 * (count * rate * (1.0 - rate)).sqrt();
        assert!(
            (dropped - count * rate).abs() < allowed,
            "rate {rate}: dropped {dropped} of {count}"
        );
        assert!(
            kept.iter()
                .all(|&x| x == 0.0 || (f64::from(x) - 1.0 / (1.0 - rate)).abs() < 1e-6)
        );
        assert_eq!(
            host(ops::dropout(ones.clone(), rate, Pass::evaluation())),
            host(ones.clone())
        );
        let other = host(ops::dropout(ones, rate, Pass::training(1, 3)));
        assert_ne!(kept, other, "another step draws another mask");
    }
}

#[test]
fn what_nobody_asked_for_has_no_gradient() {
    let leaf = |key, len| flat::<Ad>(&values(key, len, 1.0));
    let (x, w, b) = (
        leaf(1, 6).reshape([2, 3]),
        leaf(2, 12).reshape([4, 3]).require_grad(),
        leaf(3, 4),
    );
    let grads = ops::linear(x.clone(), w.clone(), Some(b.clone()), Precision::F32)
        .sum()
        .backward();
    assert!(x.grad(&grads).is_none() && b.grad(&grads).is_none() && w.grad(&grads).is_some());

    let (x, gamma, beta) = (x.require_grad(), leaf(4, 3), leaf(5, 3).require_grad());
    let grads = ops::layer_norm(x.clone(), None, gamma.clone(), beta.clone(), 1e-5)
        .sum()
        .backward();
    assert!(
        x.grad(&grads).is_some() && gamma.grad(&grads).is_none() && beta.grad(&grads).is_some()
    );

    let (q, k, v) = (
        leaf(6, 6).reshape([2, 3]),
        leaf(7, 6).reshape([2, 3]),
        leaf(8, 6).reshape([2, 3]).require_grad(),
    );
    let config = AttentionConfig::new(1);
    let two = Sequences::from_lengths(&[2]);
    let output = ops::attention(q.clone(), k.clone(), v.clone(), (&two, &two), config);
    let grads = output.sum().backward();
    assert!(q.grad(&grads).is_none() && k.grad(&grads).is_none() && v.grad(&grads).is_some());
}

/// One AdamW step on flat tensors.
fn adamw<B: TuneBackend>(
    state: [Tensor<B, 1>; 3],
    grad: Tensor<B, 1>,
    settings: AdamW,
) -> [Tensor<B, 1>; 3] {
    let [p, m, v] = state.map(|x| x.into_primitive().tensor());
    let (p, m, v) = B::tune_adamw_step(p, grad.into_primitive().tensor(), (m, v), settings);
    [p, m, v].map(|x| Tensor::from_primitive(TensorPrimitive::Float(x)))
}

#[test]
fn adamw_follows_the_formula() {
    for len in ODD {
        for (weight_decay, grad_scale) in [(0.0, 1.0), (0.01, 0.25)] {
            let mut expected = [values(15, len, 1.0), vec![0.0; len], vec![0.0; len]];
            let mut found: [Tensor<Flex, 1>; 3] = [0, 1, 2].map(|i| flat(&expected[i]));
            let first = found[0].clone();
            for step in 1..=5 {
                let settings = AdamW {
                    learning_rate: 1e-2,
                    beta1: 0.9,
                    beta2: 0.999,
                    epsilon: 1e-8,
                    weight_decay,
                    step,
                    grad_scale,
                };
                let grad = values(100 + step, len, 1.0);
                found = adamw(found, flat(&grad), settings);
                for i in 0..len {
                    let g = grad[i] * grad_scale;
                    expected[1][i] = 0.9 * expected[1][i] + 0.1 * g;
                    expected[2][i] = 0.999 * expected[2][i] + 0.001 * g * g;
                    let (c1, c2) = (
                        1.0 - 0.9f64.powf(step as f64),
                        1.0 - 0.999f64.powf(step as f64),
                    );
                    let update = (expected[1][i] / c1) / ((expected[2][i] / c2).sqrt() + 1e-8);
                    expected[0][i] = expected[0][i] * (1.0 - 1e-2 * weight_decay) - 1e-2 * update;
                }
            }
            for (found, expected) in found.into_iter().zip(&expected) {
                for (i, (found, &expected)) in host(found).into_iter().zip(expected).enumerate() {
                    close(
                        &format!("adamw of {len}, element {i}"),
                        f64::from(found),
                        expected,
                    );
                }
            }
            // A tensor that somebody else still holds is not written.
            let untouched: Vec<f32> = values(15, len, 1.0).iter().map(|&x| x as f32).collect();
            assert_eq!(host(first), untouched);
        }
    }
}

/// Every operation forward and backward on sizes that are worth several threads, as bits.
fn everything<B: TuneAutodiff>() -> Vec<u32> {
    let mut bits = Vec::new();
    let leaf = |key: u64, rows: usize, columns: usize| {
        flat::<B>(&values(key, rows * columns, 1.0))
            .reshape([rows, columns])
            .require_grad()
    };
    let mut keep = |values: Vec<f32>| bits.extend(values.into_iter().map(f32::to_bits));
    let mut run = |output: Tensor<B, 2>, leaves: Vec<Tensor<B, 2>>| {
        let len = output.shape().num_elements();
        let weights = flat::<B>(&values(77, len, 1.0)).reshape(output.shape());
        keep(host(output.clone()));
        let grads = (output * weights).sum().backward();
        for leaf in leaves {
            keep(host(leaf.grad(&grads).unwrap()));
        }
    };
    let (tokens, width) = (515, 260);
    let (x, w) = (leaf(1, tokens, width), leaf(2, 390, width));
    let b = leaf(3, 1, 390);
    for precision in [Precision::F32, Precision::Bf16] {
        let bias = || Some(b.clone().reshape([390]));
        run(
            ops::linear(x.clone(), w.clone(), bias(), precision),
            vec![x.clone(), w.clone(), b.clone()],
        );
        run(
            ops::gelu_linear(x.clone(), w.clone(), bias(), GeluKind::Exact, precision),
            vec![x.clone(), w.clone(), b.clone()],
        );
    }
    let (sum, down, up) = (leaf(19, tokens, 390), leaf(20, 8, width), leaf(21, 390, 8));
    run(
        ops::low_rank(sum.clone(), x.clone(), down.clone(), up.clone(), 2.0),
        vec![sum, x.clone(), down, up],
    );
    for kind in [GeluKind::Exact, GeluKind::Tanh] {
        run(ops::gelu(x.clone(), kind), vec![x.clone()]);
    }
    let (gamma, beta) = (leaf(4, 1, width), leaf(5, 1, width));
    let output = ops::layer_norm(
        x.clone(),
        Some(x.clone()),
        gamma.clone().reshape([width]),
        beta.clone().reshape([width]),
        1e-5,
    );
    run(output, vec![x.clone(), gamma, beta]);
    run(
        ops::dropout(x.clone(), 0.1, Pass::training(1, 1)),
        vec![x.clone()],
    );
    let (q, k, v) = (
        leaf(6, tokens, width),
        leaf(7, tokens, width),
        leaf(8, tokens, width),
    );
    for causal in [false, true] {
        let config = AttentionConfig {
            causal,
            dropout: Some(Dropout { key: 9, rate: 0.1 }),
            ..AttentionConfig::new(5)
        };
        let sequences = Sequences::from_lengths(&[100, 0, 1, 200, 14, 50, 150]);
        let output = ops::attention(
            q.clone(),
            k.clone(),
            v.clone(),
            (&sequences, &sequences),
            config,
        );
        run(output, vec![q.clone(), k.clone(), v.clone()]);
    }
    for (lengths, causal) in [
        (&[1100, 0, 1, 40][..], true),
        (&[200; 5], true),
        (&[200; 5], false),
    ] {
        let config = AttentionConfig {
            kv_heads: 1,
            causal,
            window: Some(150),
            ..AttentionConfig::new(5)
        };
        let sequences = Sequences::from_lengths(lengths);
        let tokens = sequences.tokens();
        let [q, k, v] = [(23, 40), (24, 8), (25, 8)].map(|(key, width)| leaf(key, tokens, width));
        let all = (&sequences, &sequences);
        let output = ops::attention(q.clone(), k.clone(), v.clone(), all, config);
        run(output, vec![q, k, v]);
    }
    let distances = Distances::new(200, bucket);
    let rows = distances.span().len();
    let tables = [leaf(34, rows, width), leaf(35, rows, width)];
    let relative = Relative::Vectors {
        keys: tables[0].clone(),
        queries: tables[1].clone(),
    };
    let sequences = Sequences::from_lengths(&[100, 0, 1, 200, 14, 50, 150]);
    let qkv = [&q, &k, &v].map(Tensor::clone);
    let (both, config) = ((&sequences, &sequences), AttentionConfig::new(5));
    let output = ops::relative_attention(qkv, relative, &distances, both, config);
    let mut leaves = vec![q.clone(), k.clone(), v.clone()];
    leaves.extend(tables);
    run(output, leaves);
    let gamma = leaf(26, 1, width);
    let output = ops::rms_norm(x.clone(), gamma.clone().reshape([width]), 1e-5);
    run(output, vec![x.clone(), gamma]);
    let [cos, sin] = [27, 28].map(|key| leaf(key, tokens, 26).detach());
    run(ops::rotary(x.clone(), cos, sin, 5), vec![x.clone()]);
    let up = leaf(29, tokens, width);
    let output = ops::gated(x.clone(), up.clone(), Gate::Silu);
    run(output, vec![x.clone(), up]);
    let (hidden, weight) = (leaf(30, 1100, 33), leaf(31, 2100, 33));
    let targets: Vec<usize> = (0..1100).map(|t| (t * t * 31) % 2100).collect();
    let losses = ops::next_token_losses(hidden.clone(), weight.clone(), ints(&targets), Some(3.0));
    run(losses.reshape([1, -1]), vec![hidden, weight]);
    let table = leaf(9, 1000, width);
    let indices: Vec<usize> = (0..tokens).map(|t| (t * t * 31) % 700).collect();
    run(
        ops::embedding_rows(table.clone(), ints(&indices)),
        vec![table.clone()],
    );
    run(
        ops::embedding_add(x.clone(), table.clone(), ints(&indices)),
        vec![x.clone(), table],
    );
    let logits = leaf(10, tokens, 1000);
    run(
        ops::cross_entropy(logits.clone(), ints(&indices), &CrossEntropy::smoothed(0.1))
            .reshape([1, -1]),
        vec![logits],
    );
    let as_rows = |x: Tensor<B, 4>| {
        let [n, h, w, c] = x.dims();
        x.reshape([n * h * w, c])
    };
    let (rows, channels) = (3 * 29 * 31, 35);
    let picture = leaf(14, rows, channels);
    let image = || picture.clone().reshape([3, 29, 31, channels]);
    for (groups, outputs, window) in [
        (1, channels, Window::square(3, 1, 1)),
        (1, channels, Window::square(1, 1, 0)),
        (1, 200, Window::square(3, 2, 1)),
        (1, 200, Window::square(1, 1, 0)),
        (channels, channels, Window::same(5, 2, [29, 31])),
    ] {
        let ([height, width], depth) = (window.kernel, channels / groups);
        let kernel = leaf(15, outputs, depth * height * width);
        let weight = kernel.clone().reshape([outputs, depth, height, width]);
        let output = as_rows(ops::conv2d(image(), weight, window, groups));
        run(output, vec![picture.clone(), kernel]);
    }
    let output = as_rows(ops::max_pool(image(), Window::square(3, 2, 1)));
    run(output, vec![picture.clone()]);
    let residual = leaf(16, rows, channels);
    let (gamma, beta) = (leaf(17, 1, channels), leaf(18, 1, channels));
    let config = BatchNormConfig {
        epsilon: 1e-5,
        of_batch: true,
        rectify: Rectify::Relu,
    };
    let affine = (
        gamma.clone().reshape([channels]),
        beta.clone().reshape([channels]),
    );
    let output = ops::batch_norm(
        picture.clone(),
        Some(residual.clone()),
        affine,
        ops::moments(picture.clone()),
        config,
    );
    run(output, vec![picture, residual, gamma, beta]);
    let settings = AdamW {
        learning_rate: 1e-2,
        beta1: 0.9,
        beta2: 0.999,
        epsilon: 1e-8,
        weight_decay: 0.01,
        step: 3,
        grad_scale: 0.5,
    };
    let flat_values = flat::<B::InnerBackend>(&values(22, 100_001, 1.0));
    let squares = B::InnerBackend::tune_square_sum(flat_values.into_primitive().tensor());
    keep(host(Tensor::<B::InnerBackend, 1>::from_primitive(
        TensorPrimitive::Float(squares),
    )));
    let state = [11, 12, 13].map(|key| flat::<B::InnerBackend>(&values(key, 100_001, 1.0)).abs());
    for x in adamw(state, flat(&values(14, 100_001, 1.0)), settings) {
        keep(host(x));
    }
    bits
}

#[test]
fn the_number_of_threads_changes_no_bit() {
    let with = |threads| {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build()
            .unwrap();
        pool.install(everything::<Ad>)
    };
    let (one, two, three) = (with(1), with(2), with(3));
    assert_eq!(one.len(), two.len());
    assert!(
        one == two && one == three,
        "results depend on the number of threads"
    );
}

/// A weight in groups has the product and the gradient of the weight that has its values.
#[test]
fn grouped_linear() {
    let groups = ops::Groups {
        rows: 24,
        columns: 64,
        size: 32,
        bits: 4,
    };
    let device = Default::default();
    let codes = (0..(groups.rows * groups.words()) as u64).map(|i| rng::uniform(1, i));
    let codes: Vec<i32> = codes.map(|u| (u * 4294967296.0) as u32 as i32).collect();
    let table = |key| {
        let values = values(key, groups.rows * groups.count(), 0.1);
        values.into_iter().map(|v| v as f32).collect::<Vec<f32>>()
    };
    let weight =
        rekindle_nn::layers::Grouped::<Ad>::new(codes, table(2), table(3), groups, &device);
    let weight = rekindle_nn::layers::Weight::Grouped(weight);
    for tokens in [1, 5, 40] {
        let x = || {
            let x = flat::<Ad>(&values(4, tokens * groups.columns, 1.0));
            x.reshape([tokens, groups.columns]).require_grad()
        };
        let slope =
            flat::<Ad>(&values(5, tokens * groups.rows, 1.0)).reshape([tokens, groups.rows]);
        let (a, b) = (x(), x());
        let packed = weight.linear(a.clone(), None, Precision::F32);
        let plain = ops::linear(b.clone(), weight.val(), None, Precision::F32);
        for (found, expected) in host(packed.clone()).into_iter().zip(host(plain.clone())) {
            close("grouped", found.into(), expected.into());
        }
        let [a, b] = [(a, packed), (b, plain)].map(|(x, y)| {
            let grads = (y * slope.clone()).sum().backward();
            host(x.grad(&grads).unwrap())
        });
        assert_eq!(a, b, "gradient for {tokens} tokens");
    }
    let rows = host(weight.rows(ints(&[5, 0, 5])));
    let all = host(weight.val());
    let row = |i: usize| &all[i * groups.columns..][..groups.columns];
    assert_eq!(rows, [row(5), row(0), row(5)].concat());
}
