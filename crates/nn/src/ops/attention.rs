//! Multi-head attention (Vaswani et al. 2017) over packed sequences of different lengths, dropout on the probabilities
//! after the softmax as PyTorch has it. The default body pads to the longest sequence, attends and unpads; the
//! probabilities are not kept but computed again in the backward pass.

use super::{Dropout, Sequences, TuneBackend, primitive, tensor};
use crate::rng::{Row, drop_threshold};
use burn::tensor::{Bool, Int, Tensor, TensorData, backend::Backend, ops::FloatTensor};

/// Settings of one attention call.
#[derive(Debug, Clone, Copy)]
pub struct AttentionConfig {
    /// H; divides D.
    pub heads: usize,
    /// Whether a token sees only itself and what stands before it in its sequence.
    pub causal: bool,
    /// Dropout on the probabilities. Row `t * heads + h`, column = position of the key in its sequence.
    pub dropout: Option<Dropout>,
}

/// Gradients of q, k and v, `[T, D]` each.
#[derive(Debug)]
pub struct AttentionGrads<B: TuneBackend> {
    /// of the queries
    pub q: FloatTensor<B>,
    /// of the keys
    pub k: FloatTensor<B>,
    /// of the values
    pub v: FloatTensor<B>,
}

/// The padded view of a packed batch: index tensors to go there and back, and the masks.
struct Padded<B: TuneBackend> {
    sequences: usize,
    longest: usize,
    heads: usize,
    /// `[B * L]`: the token at each padded place; padding repeats token 0 and is masked.
    gather: Tensor<B, 1, Int>,
    /// `[T]`: the padded place of each token.
    scatter: Tensor<B, 1, Int>,
    /// `[B, H, L, L]`: true where a query must not look.
    hidden: Tensor<B, 4, Bool>,
    /// `[B, H, L, L]`: 0 or 1/(1-p).
    keep: Option<Tensor<B, 4>>,
}

impl<B: TuneBackend> Padded<B> {
    fn new(sequences: &Sequences, config: AttentionConfig, device: &B::Device) -> Self {
        let (count, longest, heads) = (sequences.count(), sequences.longest(), config.heads);
        let mut gather = vec![0i32; count * longest];
        let mut scatter = Vec::with_capacity(sequences.tokens());
        let mut hidden = vec![true; count * longest * longest];
        for (s, range) in sequences.ranges().enumerate() {
            for (i, token) in range.clone().enumerate() {
                gather[s * longest + i] = token as i32;
                scatter.push((s * longest + i) as i32);
                let seen = if config.causal { i + 1 } else { range.len() };
                hidden[(s * longest + i) * longest..][..seen].fill(false);
            }
        }
        let hidden: Tensor<B, 3, Bool> =
            Tensor::from_data(TensorData::new(hidden, [count, longest, longest]), device);
        let keep = config.dropout.map(|dropout| {
            let (threshold, scale) = (
                drop_threshold(dropout.rate),
                (1.0 / (1.0 - dropout.rate)) as f32,
            );
            let mut keep = vec![0f32; count * heads * longest * longest];
            for (s, range) in sequences.ranges().enumerate() {
                for h in 0..heads {
                    for (i, token) in range.clone().enumerate() {
                        let row = Row::new(dropout.key, (token * heads + h) as u64);
                        let out =
                            &mut keep[((s * heads + h) * longest + i) * longest..][..range.len()];
                        for (j, out) in out.iter_mut().enumerate() {
                            *out = if row.bits(j as u32) < threshold {
                                0.0
                            } else {
                                scale
                            };
                        }
                    }
                }
            }
            Tensor::from_data(
                TensorData::new(keep, [count, heads, longest, longest]),
                device,
            )
        });
        Self {
            sequences: count,
            longest,
            heads,
            gather: Tensor::from_data(TensorData::new(gather, [count * longest]), device),
            scatter: Tensor::from_data(TensorData::new(scatter, [sequences.tokens()]), device),
            hidden: hidden
                .unsqueeze_dim::<4>(1)
                .expand([count, heads, longest, longest]),
            keep,
        }
    }

    /// `[T, D]` -> `[B, H, L, K]`.
    fn pad(&self, x: Tensor<B, 2>) -> Tensor<B, 4> {
        let width = x.dims()[1];
        x.select(0, self.gather.clone())
            .reshape([self.sequences, self.longest, self.heads, width / self.heads])
            .swap_dims(1, 2)
    }

    /// `[B, H, L, K]` -> `[T, D]`, dropping the padding.
    fn unpad(&self, x: Tensor<B, 4>) -> FloatTensor<B> {
        let [_, _, _, head_width] = x.dims();
        let rows = x
            .swap_dims(1, 2)
            .reshape([self.sequences * self.longest, self.heads * head_width]);
        primitive(rows.select(0, self.scatter.clone()))
    }

    /// Softmax of the scaled scores `[B, H, L, L]`; rows of padding are garbage that nobody reads.
    fn probabilities(&self, q: &Tensor<B, 4>, k: &Tensor<B, 4>, scale: f64) -> Tensor<B, 4> {
        let scores = q.clone().matmul(k.clone().transpose()) * scale;
        let scores = scores.mask_fill(self.hidden.clone(), f32::MIN / 2.0);
        let shifted = (scores.clone() - scores.max_dim(3)).exp();
        shifted.clone() / shifted.sum_dim(3)
    }
}

fn scale(width: usize, heads: usize) -> f64 {
    1.0 / ((width / heads) as f64).sqrt()
}

pub(super) fn forward<B: TuneBackend>(
    q: FloatTensor<B>,
    k: FloatTensor<B>,
    v: FloatTensor<B>,
    sequences: &Sequences,
    config: AttentionConfig,
) -> FloatTensor<B> {
    if sequences.tokens() == 0 {
        return q;
    }
    let (q, k, v): (Tensor<B, 2>, Tensor<B, 2>, Tensor<B, 2>) = (tensor(q), tensor(k), tensor(v));
    let padded = Padded::<B>::new(sequences, config, &q.device());
    let scale = scale(q.dims()[1], config.heads);
    let (q, k, v) = (padded.pad(q), padded.pad(k), padded.pad(v));
    let mut p = padded.probabilities(&q, &k, scale);
    if let Some(keep) = &padded.keep {
        p = p * keep.clone();
    }
    padded.unpad(p.matmul(v))
}

pub(super) fn backward<B: TuneBackend>(
    q: FloatTensor<B>,
    k: FloatTensor<B>,
    v: FloatTensor<B>,
    grad: FloatTensor<B>,
    sequences: &Sequences,
    config: AttentionConfig,
) -> AttentionGrads<B> {
    if sequences.tokens() == 0 {
        return AttentionGrads { q, k, v };
    }
    let (q, k, v): (Tensor<B, 2>, Tensor<B, 2>, Tensor<B, 2>) = (tensor(q), tensor(k), tensor(v));
    let device = q.device();
    let padded = Padded::<B>::new(sequences, config, &device);
    let scale = scale(q.dims()[1], config.heads);
    let (q, k, v) = (padded.pad(q), padded.pad(k), padded.pad(v));
    // Padding rows repeat token 0, so their gradient must be cleared, not only unread.
    let real = real_rows::<B>(sequences, &device);
    let grad = padded.pad(tensor(grad)) * real;

    let p = padded.probabilities(&q, &k, scale);
    let dropped = match &padded.keep {
        Some(keep) => p.clone() * keep.clone(),
        None => p.clone(),
    };
    let dv = dropped.transpose().matmul(grad.clone());
    let mut dp = grad.matmul(v.transpose());
    if let Some(keep) = &padded.keep {
        dp = dp * keep.clone();
    }
    let ds = p.clone() * (dp.clone() - (dp * p).sum_dim(3)) * scale;
    let dq = ds.clone().matmul(k);
    let dk = ds.transpose().matmul(q);
    AttentionGrads {
        q: padded.unpad(dq),
        k: padded.unpad(dk),
        v: padded.unpad(dv),
    }
}

/// `[B, 1, L, 1]`: 1 where a token stands.
fn real_rows<B: Backend>(sequences: &Sequences, device: &B::Device) -> Tensor<B, 4> {
    let longest = sequences.longest();
    let mut real = vec![0f32; sequences.count() * longest];
    for (s, range) in sequences.ranges().enumerate() {
        real[s * longest..][..range.len()].fill(1.0);
    }
    Tensor::from_data(
        TensorData::new(real, [sequences.count(), 1, longest, 1]),
        device,
    )
}
