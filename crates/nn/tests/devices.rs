//! Every operation of a GPU, forward and backward, against the CPU: products at the inner dimensions and numbers of tokens that
//! models have and tiles do not, in all three layouts, and everything else around the pieces of its kernel. Memory is filled
//! with NaN first, so that what a kernel reads beside its operands or does not write shows.
//!
//! On request, since it needs an adapter (Mesa's software Vulkan will do) or an NVIDIA GPU: `cargo xtask test --backend wgpu`, or
//! `cuda`.
#![cfg(all(feature = "cpu", any(feature = "wgpu", feature = "cuda")))]
#![allow(clippy::unwrap_used)]
#![recursion_limit = "256"]

use burn::backend::{Autodiff, Flex};
use burn::tensor::{Int, Tensor, TensorData, TensorPrimitive, backend::Backend};
use rekindle_base::rng;
use rekindle_nn::ops::{
    self, AdamW, AdamWOperand, AttentionConfig, BatchNormConfig, CrossEntropy, Dropout, Gate,
    GeluKind, Grouped, Groups, Precision, Rectify, Window,
};
use rekindle_nn::{Sequences, TuneAutodiff, TuneBackend};
use rekindle_tests::{Need, asked_for, need};

type Cpu = Autodiff<Flex>;

/// Error against the CPU's f32, of the root mean square of the whole tensor: other orders of summation, and a device's own
/// `exp`, `tanh` and `erf`.
const TOLERANCE: f64 = 2e-5;
/// Error of f32 products against f64, of the root mean square: a sum of k terms rounds about √k times. TF32 would be near 3e-4.
const PRODUCT: f64 = 1.5e-5;
/// Error of bf16 products against f64 with the factors rounded: only the sums round.
const ROUNDED: f64 = 5e-5;

/// An operation on flat inputs.
trait Case {
    fn name(&self) -> String;
    /// Lengths of the inputs.
    fn inputs(&self) -> Vec<usize>;
    fn run<B: TuneAutodiff>(&self, x: &[Tensor<B, 1>], device: &B::Device) -> Tensor<B, 1>;
}

fn values(key: u64, len: usize) -> Vec<f32> {
    (0..len as u64)
        .map(|i| (2.0 * rng::uniform(key, i) - 1.0) as f32)
        .collect()
}

fn flat<B: Backend>(values: Vec<f32>, device: &B::Device) -> Tensor<B, 1> {
    let len = values.len();
    Tensor::from_data(TensorData::new(values, [len]), device)
}

fn ints<B: Backend>(values: impl Iterator<Item = usize>, device: &B::Device) -> Tensor<B, 1, Int> {
    let values: Vec<i32> = values.map(|x| x as i32).collect();
    let len = values.len();
    Tensor::from_data(TensorData::new(values, [len]), device)
}

fn host<B: Backend, const D: usize>(tensor: Tensor<B, D>) -> Vec<f32> {
    tensor.into_data().convert::<f32>().to_vec().unwrap()
}

/// Fills freed memory with NaN: pools hand it out again.
fn poison<B: Backend>(device: &B::Device) {
    let held: Vec<Tensor<B, 1>> = (4..20)
        .flat_map(|power| [1usize << power, 3 << power])
        .map(|len| Tensor::full([len], f32::NAN, device))
        .collect();
    drop(held);
}

/// Output and gradients of a case.
fn results<B: TuneAutodiff>(case: &impl Case, device: &B::Device) -> Vec<Vec<f32>> {
    let leaves: Vec<Tensor<B, 1>> = (case.inputs().into_iter().enumerate())
        .map(|(i, len)| flat::<B>(values(i as u64 + 1, len), device).require_grad())
        .collect();
    let output = case.run::<B>(&leaves, device);
    let weights = flat::<B>(values(0xC0, output.dims()[0]), device);
    let mut grads = (output.clone() * weights).sum().backward();
    let mut found = vec![host(output)];
    found.extend(
        leaves
            .iter()
            .map(|leaf| leaf.grad_remove(&mut grads).map_or_else(Vec::new, host)),
    );
    found
}

/// What a suite found: cases, failures, and the largest error.
#[derive(Default)]
struct Suite {
    cases: usize,
    failures: Vec<String>,
    largest: (f64, String),
}

impl Suite {
    fn compare(&mut self, what: &str, found: &[f32], expected: &[f64], tolerance: f64) {
        self.cases += 1;
        if found.len() != expected.len() {
            let line = format!(
                "{what}: {} values, expected {}",
                found.len(),
                expected.len()
            );
            self.failures.push(line);
            return;
        }
        let mean = expected.iter().map(|x| x * x).sum::<f64>() / expected.len().max(1) as f64;
        let scale = mean.sqrt().max(1e-6);
        // A NaN is larger than all.
        let error = (found.iter().zip(expected))
            .map(|(&a, &b)| (f64::from(a) - b).abs() / scale)
            .fold(0.0f64, |a, b| if b > a || b.is_nan() { b } else { a });
        let part = error / tolerance;
        if part > self.largest.0 || part.is_nan() {
            self.largest = (part, what.into());
        }
        if !(error <= tolerance) {
            self.failures
                .push(format!("{what}: error {error:.1e} over {tolerance:.1e}"));
        }
    }

    fn hold<G: TuneAutodiff>(&mut self, case: &impl Case, device: &G::Device) {
        poison::<G::InnerBackend>(device);
        let found = results::<G>(case, device);
        let expected = results::<Cpu>(case, &Default::default());
        for (i, (found, expected)) in found.iter().zip(expected).enumerate() {
            let part = match i {
                0 => "output".to_owned(),
                i => format!("gradient {i}"),
            };
            let expected: Vec<f64> = expected.into_iter().map(f64::from).collect();
            let what = format!("{}, {part}", case.name());
            self.compare(&what, found, &expected, TOLERANCE);
        }
    }

    fn finish(self, name: &str) {
        println!(
            "{name}: {} comparisons, the worst at {:.2} of its tolerance ({})",
            self.cases, self.largest.0, self.largest.1
        );
        assert!(
            self.failures.is_empty(),
            "{} of {} failed:\n{}",
            self.failures.len(),
            self.cases,
            self.failures.join("\n")
        );
    }
}

/// A case from its fields, name, inputs and body.
macro_rules! case {
    ($case:ident { $($field:ident: $type:ty),* }, $inputs:expr, |$x:ident, $device:ident, $b:ident| $body:expr) => {
        #[derive(Debug)]
        struct $case { $($field: $type),* }
        impl Case for $case {
            fn name(&self) -> String {
                format!("{self:?}")
            }
            #[allow(unused_variables)]
            fn inputs(&self) -> Vec<usize> {
                let Self { $($field),* } = self;
                $inputs.to_vec()
            }
            #[allow(unused_variables)]
            fn run<$b: TuneAutodiff>(&self, $x: &[Tensor<$b, 1>], $device: &$b::Device) -> Tensor<$b, 1> {
                let Self { $($field),* } = self;
                let $x = |i: usize| $x[i].clone();
                $body
            }
        }
    };
}

case!(
    Gelu {
        len: usize,
        kind: GeluKind
    },
    [*len],
    |x, device, B| ops::gelu(x(0) * 4.0, *kind)
);
case!(
    Gated {
        size: [usize; 2],
        kind: Gate
    },
    [size[0] * size[1]; 2],
    |x, device, B| {
        let [gate, up] = [x(0), x(1)].map(|x| x.reshape(*size));
        ops::gated(gate * 3.0, up, *kind).reshape([-1])
    }
);
case!(
    LayerNorm {
        size: [usize; 2],
        residual: bool
    },
    [size[0] * size[1], size[0] * size[1], size[1], size[1]],
    |x, device, B| {
        let residual = residual.then(|| x(1).reshape(*size));
        ops::layer_norm(x(0).reshape(*size) + 0.5, residual, x(2), x(3), 1e-5).reshape([-1])
    }
);
case!(
    RmsNorm { size: [usize; 2] },
    [size[0] * size[1], size[1]],
    |x, device, B| ops::rms_norm(x(0).reshape(*size), x(1), 1e-5).reshape([-1])
);
case!(
    Rotary {
        tokens: usize,
        heads: usize,
        width: usize,
        half: usize
    },
    [tokens * heads * width],
    |x, device, B| {
        let table = |key| flat::<B>(values(key, tokens * half), device).reshape([*tokens, *half]);
        let y = ops::rotary(
            x(0).reshape([*tokens, heads * width]),
            table(7),
            table(8),
            *heads,
        );
        y.reshape([-1])
    }
);
case!(
    DropoutRows {
        size: [usize; 2],
        rate: f64
    },
    [size[0] * size[1]],
    |x, device, B| {
        let dropout = Dropout {
            key: 0x1234_5678_9ABC_DEF0,
            rate: *rate,
        };
        let x = x(0).reshape(*size).into_primitive().tensor();
        let y: Tensor<B, 2> =
            Tensor::from_primitive(TensorPrimitive::Float(B::tune_dropout_rows(x, dropout)));
        y.reshape([-1])
    }
);
case!(
    Linear {
        tokens: usize,
        inner: usize,
        outer: usize
    },
    [tokens * inner, outer * inner, *outer],
    |x, device, B| {
        let (input, weight) = (
            x(0).reshape([*tokens, *inner]),
            x(1).reshape([*outer, *inner]),
        );
        ops::linear(input, weight, Some(x(2)), Precision::F32).reshape([-1])
    }
);
case!(
    LowRank {
        tokens: usize,
        inner: usize,
        rank: usize,
        outer: usize
    },
    [tokens * outer, tokens * inner, rank * inner, outer * rank],
    |x, device, B| {
        let y = ops::low_rank(
            x(0).reshape([*tokens, *outer]),
            x(1).reshape([*tokens, *inner]),
            x(2).reshape([*rank, *inner]),
            x(3).reshape([*outer, *rank]),
            2.0,
        );
        y.reshape([-1])
    }
);
case!(
    Convolution {
        image: [usize; 4],
        outputs: usize,
        groups: usize,
        window: Window
    },
    [
        image.iter().product::<usize>(),
        outputs * image[3] / groups * window.kernel[0] * window.kernel[1]
    ],
    |x, device, B| {
        let [rows, columns] = window.kernel;
        let weight = x(1).reshape([*outputs, image[3] / groups, rows, columns]);
        ops::conv2d(x(0).reshape(*image), weight, *window, *groups).reshape([-1])
    }
);
case!(
    MaxPool {
        image: [usize; 4],
        window: Window
    },
    [image.iter().product::<usize>()],
    |x, device, B| ops::max_pool(x(0).reshape(*image), *window).reshape([-1])
);
case!(
    BatchNorm {
        size: [usize; 2],
        residual: bool,
        of_batch: bool,
        rectify: Rectify
    },
    [size[0] * size[1], size[0] * size[1], size[1], size[1]],
    |x, device, B| {
        let rows = x(0).reshape(*size) * 3.0 + 0.5;
        let moments = match of_batch {
            true => ops::moments(rows.clone()),
            false => {
                let fixed = flat::<B>(values(9, 2 * size[1]), device);
                (fixed + 1.5).reshape([2, size[1]])
            }
        };
        let config = BatchNormConfig {
            epsilon: 1e-5,
            of_batch: *of_batch,
            rectify: *rectify,
        };
        let residual = residual.then(|| x(1).reshape(*size));
        ops::batch_norm(rows, residual, (x(2) + 1.0, x(3)), moments, config).reshape([-1])
    }
);
case!(
    GroupedLinear {
        tokens: usize,
        groups: Groups
    },
    [tokens * groups.columns, groups.rows],
    |x, device, B| {
        let codes = (0..groups.rows * groups.words()).map(|i| (i * 0x0765_4321) & 0x7FFF_FFFF);
        let table = |key| {
            let count = groups.rows * groups.count();
            let table = flat::<B>(values(key, count), device);
            table.reshape([groups.rows, groups.count()])
        };
        let weight = Grouped::<B> {
            codes: ints::<B>(codes, device)
                .reshape([groups.rows, groups.words()])
                .into_primitive(),
            scales: (table(5) * 0.01).into_primitive().tensor(),
            offsets: table(6).into_primitive().tensor(),
            groups: *groups,
        };
        let input = x(0).reshape([*tokens, groups.columns]);
        ops::grouped_linear(input, weight, Some(x(1)), Precision::F32).reshape([-1])
    }
);
case!(
    GeluLinear {
        tokens: usize,
        inner: usize,
        outer: usize
    },
    [tokens * inner, outer * inner, *outer],
    |x, device, B| {
        let (input, weight) = (
            x(0).reshape([*tokens, *inner]),
            x(1).reshape([*outer, *inner]),
        );
        let y = ops::gelu_linear(input, weight, Some(x(2)), GeluKind::Exact, Precision::F32);
        y.reshape([-1])
    }
);
case!(
    EmbeddingAdd {
        vocabulary: usize,
        tokens: usize,
        width: usize
    },
    [tokens * width, vocabulary * width],
    |x, device, B| {
        let of = |i: usize| (i * i * 7 + i / 5) % vocabulary;
        let indices = ints::<B>((0..*tokens).map(of), device);
        let table = x(1).reshape([*vocabulary, *width]);
        let sum =
            ops::embedding_rows(table.clone(), indices.clone()) * x(0).reshape([*tokens, *width]);
        ops::embedding_add(sum, table, indices).reshape([-1])
    }
);
case!(
    Classes { examples: usize, classes: usize, smoothing: f64, ignored: Option<i64> },
    [examples * classes],
    |x, device, B| {
        let settings = CrossEntropy {
            label_smoothing: *smoothing,
            ignored: *ignored,
            ..CrossEntropy::default()
        };
        let targets = ints::<B>((0..*examples).map(|i| (i * 5) % classes), device);
        ops::cross_entropy(x(0).reshape([*examples, *classes]) * 5.0, targets, &settings)
    }
);
case!(
    NextToken { rows: usize, width: usize, words: usize, softcap: Option<f64> },
    [rows * width, words * width],
    |x, device, B| {
        let targets = ints::<B>((0..*rows).map(|i| (i * 31) % words), device);
        let (hidden, weight) = (x(0).reshape([*rows, *width]), x(1).reshape([*words, *width]));
        ops::next_token_losses(hidden, weight, targets, *softcap)
    }
);
case!(
    Attention { lengths: Vec<usize>, keys: Option<Vec<usize>>, width: usize, config: AttentionConfig },
    {
        let keys: usize = keys.as_ref().unwrap_or(lengths).iter().sum();
        let [q, kv] = [lengths.iter().sum::<usize>() * config.heads, keys * config.kv_heads].map(|n| n * width);
        [q, kv, kv]
    },
    |x, device, B| {
        let queries = Sequences::from_lengths(lengths);
        let keys = Sequences::from_lengths(keys.as_ref().unwrap_or(lengths));
        let q = x(0).reshape([queries.tokens(), config.heads * width]) * 2.0;
        let [k, v] = [1, 2].map(|i| x(i).reshape([keys.tokens(), config.kv_heads * width]));
        ops::attention(q, k * 2.0, v, (&queries, &keys), *config).reshape([-1])
    }
);

/// A product in f64 of factors given by row and column, `[m, k]` and `[k, n]`.
fn product(
    [m, n, k]: [usize; 3],
    a: impl Fn(usize, usize) -> f32,
    b: impl Fn(usize, usize) -> f32,
) -> Vec<f64> {
    let mut out = vec![0.0f64; m * n];
    for (i, row) in out.chunks_mut(n).enumerate() {
        for inner in 0..k {
            let left = f64::from(a(i, inner));
            for (j, value) in row.iter_mut().enumerate() {
                *value += left * f64::from(b(inner, j));
            }
        }
    }
    out
}

/// To nearest even with 8 bits of mantissa.
fn bf16(x: f32) -> f32 {
    let bits = x.to_bits();
    f32::from_bits((bits + 0x7FFF + ((bits >> 16) & 1)) & 0xFFFF_0000)
}

/// Products of `[t, k]` and the gradients' layouts, on the inner backend: NT forward, NN for x, TN for the weight.
fn products<B: TuneBackend>(
    suite: &mut Suite,
    t: usize,
    k: usize,
    o: usize,
    device: &B::Device,
    precision: Precision,
) {
    let round = |x: f32| match precision {
        Precision::F32 => x,
        Precision::Bf16 => bf16(x),
    };
    let tolerance = match precision {
        Precision::F32 => PRODUCT,
        Precision::Bf16 => ROUNDED,
    };
    let (x, w, g, bias) = (
        values(1, t * k),
        values(2, o * k),
        values(3, t * o),
        values(4, o),
    );
    poison::<B>(device);
    let tensor = |x: &[f32], size: [usize; 2]| flat::<B>(x.to_vec(), device).reshape(size);
    let primitive = |x: Tensor<B, 2>| x.into_primitive().tensor();
    let found = |x| host(Tensor::<B, 2>::from_primitive(TensorPrimitive::Float(x)));
    let what = |layout: &str| format!("{precision:?} {layout} of t = {t}, k = {k}, o = {o}");

    let bias_tensor = flat::<B>(bias.clone(), device).into_primitive().tensor();
    let y = B::tune_linear(
        primitive(tensor(&x, [t, k])),
        primitive(tensor(&w, [o, k])),
        Some(bias_tensor),
        precision,
    );
    let mut expected = product(
        [t, o, k],
        |i, j| round(x[i * k + j]),
        |i, j| round(w[j * k + i]),
    );
    for (i, value) in expected.iter_mut().enumerate() {
        *value += f64::from(bias[i % o]);
    }
    suite.compare(&what("NT"), &found(y), &expected, tolerance);

    let dx = B::tune_linear_backward_x(
        primitive(tensor(&g, [t, o])),
        primitive(tensor(&w, [o, k])),
        precision,
    );
    let expected = product(
        [t, k, o],
        |i, j| round(g[i * o + j]),
        |i, j| round(w[i * k + j]),
    );
    suite.compare(&what("NN"), &found(dx), &expected, tolerance);

    let dw = B::tune_linear_backward_weight(
        primitive(tensor(&g, [t, o])),
        primitive(tensor(&x, [t, k])),
        precision,
    );
    let expected = product(
        [o, k, t],
        |i, j| round(g[j * o + i]),
        |i, j| round(x[i * k + j]),
    );
    suite.compare(&what("TN"), &found(dw), &expected, tolerance);
    let db = B::tune_linear_backward_bias(primitive(tensor(&g, [t, o])));
    let db = host(Tensor::<B, 1>::from_primitive(TensorPrimitive::Float(db)));
    let expected: Vec<f64> = (0..o)
        .map(|c| (0..t).map(|r| f64::from(g[r * o + c])).sum())
        .collect();
    suite.compare(&what("bias"), &db, &expected, tolerance);
}

fn all_products<B: TuneBackend>(device: &B::Device, large: bool) {
    let mut suite = Suite::default();
    for precision in [Precision::F32, Precision::Bf16] {
        for k in [1, 8, 16, 24, 32, 40, 96, 104, 160, 416] {
            for t in [32, 96, 104] {
                products::<B>(&mut suite, t, k, 48, device, precision);
            }
        }
        for [t, k, o] in [
            [1, 1, 1],
            [7, 3, 5],
            [65, 129, 2],
            [3, 600, 130],
            [1100, 20, 9],
        ] {
            products::<B>(&mut suite, t, k, o, device, precision);
        }
        if large {
            for [t, k, o] in [
                [4096, 384, 1536],
                [1000, 576, 576],
                [2111, 768, 8],
                [777, 33, 2049],
            ] {
                products::<B>(&mut suite, t, k, o, device, precision);
            }
        }
    }
    suite.finish("products");
}

fn all_operations<G: TuneAutodiff>(device: &G::Device) {
    let mut suite = Suite::default();
    for len in [1, 255, 4097] {
        for kind in [GeluKind::Exact, GeluKind::Tanh] {
            suite.hold::<G>(&Gelu { len, kind }, device);
        }
    }
    for size in [[1, 1], [3, 17], [96, 104], [40, 416]] {
        for kind in [
            Gate::Silu,
            Gate::Gelu(GeluKind::Exact),
            Gate::Gelu(GeluKind::Tanh),
        ] {
            suite.hold::<G>(&Gated { size, kind }, device);
        }
        for residual in [false, true] {
            // A row of one value has no variance, and rounding decides its gradient.
            if size[1] > 1 {
                suite.hold::<G>(&LayerNorm { size, residual }, device);
            }
        }
        if size[1] > 1 {
            suite.hold::<G>(&RmsNorm { size }, device);
        }
        suite.hold::<G>(&DropoutRows { size, rate: 0.3 }, device);
    }
    suite.hold::<G>(
        &LayerNorm {
            size: [150, 600],
            residual: true,
        },
        device,
    );
    suite.hold::<G>(&RmsNorm { size: [150, 600] }, device);
    for (tokens, heads, width, half) in [(1, 1, 2, 1), (33, 3, 16, 8), (96, 2, 40, 12)] {
        suite.hold::<G>(
            &Rotary {
                tokens,
                heads,
                width,
                half,
            },
            device,
        );
    }
    for (tokens, inner, outer) in [
        (5, 1, 3),
        (96, 8, 40),
        (33, 16, 104),
        (65, 48, 24),
        (700, 40, 130),
    ] {
        suite.hold::<G>(
            &Linear {
                tokens,
                inner,
                outer,
            },
            device,
        );
        suite.hold::<G>(
            &GeluLinear {
                tokens,
                inner,
                outer,
            },
            device,
        );
    }
    for (tokens, inner, rank, outer) in [
        (1, 1, 1, 1),
        (5, 3, 2, 7),
        (33, 40, 8, 104),
        (96, 416, 16, 24),
        (104, 24, 13, 96),
        (70, 33, 32, 5),
        (40, 96, 40, 33),
    ] {
        suite.hold::<G>(
            &LowRank {
                tokens,
                inner,
                rank,
                outer,
            },
            device,
        );
    }
    for (size, bits) in [(8, 8), (32, 8), (32, 4)] {
        let groups = Groups {
            rows: 9,
            columns: 96,
            size,
            bits,
        };
        suite.hold::<G>(&GroupedLinear { tokens: 5, groups }, device);
    }
    pictures::<G>(&mut suite, device);
    for (vocabulary, tokens, width) in [(1, 9, 3), (2, 300, 24), (37, 150, 40), (1000, 96, 130)] {
        suite.hold::<G>(
            &EmbeddingAdd {
                vocabulary,
                tokens,
                width,
            },
            device,
        );
    }
    for (examples, classes, smoothing, ignored) in [
        (3, 2, 0.0, None),
        (32, 2, 0.1, None),
        (33, 10, 0.2, Some(5)),
        (9, 1030, 0.1, None),
    ] {
        suite.hold::<G>(
            &Classes {
                examples,
                classes,
                smoothing,
                ignored,
            },
            device,
        );
    }
    for (rows, width, words, softcap) in [
        (1, 8, 3, None),
        (33, 24, 257, Some(3.0)),
        (96, 40, 1030, None),
    ] {
        suite.hold::<G>(
            &NextToken {
                rows,
                width,
                words,
                softcap,
            },
            device,
        );
    }
    let (heads, dropout) = (
        4,
        Some(Dropout {
            key: 0xFEDC_BA98_7654_3210,
            rate: 0.2,
        }),
    );
    let plain = AttentionConfig::new(heads);
    let grouped = AttentionConfig {
        kv_heads: 2,
        causal: true,
        ..plain
    };
    let uneven = vec![1, 70, 0, 33, 64];
    for config in [
        plain,
        AttentionConfig { dropout, ..plain },
        AttentionConfig {
            scale: Some(0.3),
            ..grouped
        },
        AttentionConfig {
            kv_heads: 1,
            window: Some(5),
            ..grouped
        },
        AttentionConfig {
            dropout,
            window: Some(40),
            ..grouped
        },
        AttentionConfig {
            window: Some(9),
            ..plain
        },
        AttentionConfig {
            dropout,
            window: Some(40),
            ..plain
        },
    ] {
        for width in [8, 20, 48] {
            let lengths = uneven.clone();
            suite.hold::<G>(
                &Attention {
                    lengths,
                    keys: None,
                    width,
                    config,
                },
                device,
            );
        }
        // Fewer queries than keys, and more: those see nothing under a causal mask.
        let lengths = vec![3, 1, 9];
        let keys = Some(vec![20, 1, 5]);
        suite.hold::<G>(
            &Attention {
                lengths,
                keys,
                width: 12,
                config,
            },
            device,
        );
    }
    let wide = AttentionConfig::new(2);
    suite.hold::<G>(
        &Attention {
            lengths: vec![40, 3],
            keys: None,
            width: 72,
            config: wide,
        },
        device,
    );
    optimizer::<G::InnerBackend>(&mut suite, device);
    likeliest::<G::InnerBackend>(&mut suite, device);
    suite.finish("operations");
}

/// What image models have, around the pieces of the kernels: windows that end outside of the image, strides that leave some of it
/// out, groups of one channel and of more.
fn pictures<G: TuneAutodiff>(suite: &mut Suite, device: &G::Device) {
    let uneven = Window {
        kernel: [3, 2],
        stride: [2, 1],
        padding: [0, 1, 2, 0],
    };
    for (image, outputs, groups, window) in [
        ([1, 1, 1, 1], 1, 1, Window::square(1, 1, 0)),
        ([2, 7, 5, 3], 17, 1, Window::square(3, 1, 1)),
        ([2, 9, 9, 3], 8, 1, Window::square(7, 2, 3)),
        ([3, 8, 8, 40], 24, 1, Window::square(1, 1, 0)),
        ([3, 7, 8, 5], 9, 1, Window::square(1, 2, 0)),
        ([2, 6, 7, 12], 10, 1, uneven),
        ([2, 11, 6, 12], 12, 12, Window::square(3, 1, 1)),
        ([2, 9, 9, 6], 6, 6, Window::same(5, 2, [9, 9])),
        ([1, 6, 6, 6], 12, 6, uneven),
        ([2, 5, 5, 8], 6, 2, Window::square(3, 2, 1)),
    ] {
        let case = Convolution {
            image,
            outputs,
            groups,
            window,
        };
        suite.hold::<G>(&case, device);
    }
    for (image, window) in [
        ([1, 1, 1, 1], Window::square(1, 1, 0)),
        ([2, 7, 9, 5], Window::square(3, 2, 1)),
        ([2, 6, 6, 3], Window::square(2, 2, 0)),
        ([1, 5, 8, 4], uneven),
    ] {
        suite.hold::<G>(&MaxPool { image, window }, device);
    }
    // Of two rows alone the normalised values are 1 and -1, and rounding decides their gradient.
    for size in [[5, 1], [3, 17], [150, 40], [1100, 3]] {
        for rectify in [Rectify::None, Rectify::Relu, Rectify::Relu6] {
            for (residual, of_batch) in [(false, true), (true, true), (true, false)] {
                let case = BatchNorm {
                    size,
                    residual,
                    of_batch,
                    rectify,
                };
                suite.hold::<G>(&case, device);
            }
        }
    }
}

/// Losses of next tokens with the likeliest ones; two words tie.
fn likeliest<B: TuneBackend>(suite: &mut Suite, device: &B::Device) {
    fn run<B: TuneBackend>(cap: Option<f64>, device: &B::Device) -> [Vec<f32>; 2] {
        let (rows, width, words) = (70, 24, 611);
        let mut weight = values(2, words * width);
        weight.copy_within(0..width, 300 * width);
        let hidden = flat::<B>(values(1, rows * width), device).reshape([rows, width]);
        let weight = flat::<B>(weight, device).reshape([words, width]);
        let targets = ints::<B>((0..rows).map(|i| i * 8), device);
        let (losses, best) = ops::next_token_best(hidden, weight, targets, cap);
        [host(losses), host(best.float())]
    }
    for cap in [None, Some(2.0)] {
        let (found, expected) = (run::<B>(cap, device), run::<Flex>(cap, &Default::default()));
        for (found, expected) in found.iter().zip(expected) {
            let expected: Vec<f64> = expected.into_iter().map(f64::from).collect();
            suite.compare(
                &format!("likeliest words, cap {cap:?}"),
                found,
                &expected,
                TOLERANCE,
            );
        }
    }
}

/// AdamW over three steps, the sums of squares and the factor of clipping.
fn optimizer<B: TuneBackend>(suite: &mut Suite, device: &B::Device) {
    fn run<B: TuneBackend>(len: usize, device: &B::Device) -> Vec<Vec<f32>> {
        let primitive = |x: Vec<f32>| flat::<B>(x, device).into_primitive().tensor();
        let lengths: Vec<usize> = (0..35).map(|i| len * (i % 3) + i + 1).collect();
        let zeros = |len: usize| primitive(vec![0.0; len]);
        let mut held: Vec<_> = (lengths.iter().enumerate())
            .map(|(i, &len)| (primitive(values(i as u64, len)), zeros(len), zeros(len)))
            .collect();
        for step in 1..4 {
            let settings = AdamW {
                learning_rate: 1e-2,
                beta1: 0.9,
                beta2: 0.999,
                epsilon: 1e-8,
                weight_decay: 0.1,
                step,
                grad_scale: 1.0,
            };
            // More than a launch takes, of all lengths, each with its own settings. The third step is not finite.
            let factor = primitive(vec![if step < 3 { 0.5 } else { f32::NAN }]);
            held = B::tune_adamw_steps(
                held.into_iter()
                    .enumerate()
                    .map(|(i, (parameter, m, v))| AdamWOperand {
                        grad: primitive(values(40 * step + i as u64, lengths[i])),
                        parameter,
                        moments: (m, v),
                        settings: AdamW {
                            learning_rate: settings.learning_rate * (1.0 + i as f64),
                            ..settings
                        },
                    })
                    .collect(),
                factor,
            );
        }
        let grads = (lengths.iter().enumerate())
            .map(|(i, &len)| primitive(values(i as u64, len)))
            .collect();
        let held = held.into_iter().flat_map(|(p, m, v)| [p, m, v]);
        let square = B::tune_square_sum(primitive(values(1, len)));
        let squares = B::tune_square_sums(grads);
        let clips = [0.0, 1e-2, 1e9]
            .map(|max_norm| B::tune_clip(primitive(vec![1.0, 2.0]), squares.clone(), max_norm));
        held.chain([squares, square])
            .chain(clips)
            .map(|x| host(Tensor::<B, 1>::from_primitive(TensorPrimitive::Float(x))))
            .collect()
    }
    // One loss or one gradient that is not finite stops the step.
    for (loss, square) in [(f32::NAN, 1.0), (f32::INFINITY, 1.0), (1.0, f32::INFINITY)] {
        let primitive = |x: Vec<f32>| flat::<B>(x, device).into_primitive().tensor();
        let clip = B::tune_clip(
            primitive(vec![0.5, loss]),
            primitive(vec![1.0, square]),
            1.0,
        );
        let clip = host(Tensor::<B, 1>::from_primitive(TensorPrimitive::Float(clip)));
        suite.cases += 1;
        if !clip[0].is_nan() {
            suite
                .failures
                .push(format!("clipping of {loss} and {square}: {clip:?}"));
        }
    }
    for len in [1, 300, 5000] {
        poison::<B>(device);
        let (found, expected) = (run::<B>(len, device), run::<Flex>(len, &Default::default()));
        for (found, expected) in found.iter().zip(expected) {
            let expected: Vec<f64> = expected.into_iter().map(f64::from).collect();
            suite.compare(&format!("optimizer of {len}"), found, &expected, TOLERANCE);
        }
    }
}

#[cfg(feature = "wgpu")]
mod backend {
    pub type Gpu = burn::backend::Wgpu<f32, i32, u32>;
    pub const NEED: super::Need = super::Need::Wgpu;
    pub const ASKED_FOR: &str = "REKINDLE_TEST_WGPU";
}

#[cfg(all(feature = "cuda", not(feature = "wgpu")))]
mod backend {
    pub type Gpu = burn::backend::Cuda<f32, i32>;
    pub const NEED: super::Need = super::Need::Cuda;
    pub const ASKED_FOR: &str = "REKINDLE_TEST_CUDA";
}

use backend::Gpu;

fn is_asked_for() -> bool {
    need(backend::NEED, asked_for(backend::ASKED_FOR)).is_some()
}

#[test]
#[ignore = "needs a GPU or a software Vulkan driver: cargo xtask test --backend wgpu"]
fn gpu_passes_its_self_test() {
    if is_asked_for() {
        let device = Default::default();
        for what in ["the first time", "again"] {
            let clock = std::time::Instant::now();
            assert_eq!(rekindle_nn::self_test::<Autodiff<Gpu>>(&device), Ok(()));
            println!("self-test {what}: {:.2} s", clock.elapsed().as_secs_f64());
        }
    }
}

#[test]
#[ignore = "needs a GPU or a software Vulkan driver: cargo xtask test --backend wgpu"]
fn gpu_multiplies_as_f64() {
    if is_asked_for() {
        // Large ones only where a GPU computes them.
        all_products::<Gpu>(&Default::default(), cfg!(not(feature = "wgpu")));
    }
}

#[test]
#[ignore = "needs a GPU or a software Vulkan driver: cargo xtask test --backend wgpu"]
fn gpu_matches_cpu_on_operations() {
    if is_asked_for() {
        all_operations::<Autodiff<Gpu>>(&Default::default());
    }
}
