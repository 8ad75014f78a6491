//! Multi-head attention (Vaswani et al. 2017) over packed sequences of different lengths, dropout on the probabilities
//! after the softmax as PyTorch has it. The default body pads to the longest sequence, attends and unpads; the
//! probabilities are not kept but computed again in the backward pass.

use super::{Dropout, Sequences, TuneBackend, primitive, tensor};
use burn::tensor::{Bool, Int, Tensor, TensorData, ops::FloatTensor};
use rekindle_base::rng::{Row, drop_threshold};
use std::ops::Range;

/// Settings of one attention call.
#[derive(Debug, Clone, Copy)]
pub struct AttentionConfig {
    /// H, heads of the queries; divides their width.
    pub heads: usize,
    /// Heads of the keys and values; divides `heads`. Each serves `heads / kv_heads` heads of the queries that lie side by side.
    pub kv_heads: usize,
    /// Whether a token sees only itself and what stands before it in its sequence; where a sequence has fewer queries than
    /// keys, the queries are its last tokens.
    pub causal: bool,
    /// A token sees only keys that stand less than so many places from it: itself and `window - 1` before it, and as many behind it
    /// where `causal` does not hide them. Where a sequence has fewer queries than keys, the queries are its last tokens.
    pub window: Option<usize>,
    /// Factor of the scores; `1/√K` where there is none.
    pub scale: Option<f64>,
    /// Dropout on the probabilities. Row `t * heads + h` for query t, column = position of the key in its sequence.
    pub dropout: Option<Dropout>,
}

impl AttentionConfig {
    /// Every token sees all of its sequence, and every head has keys and values of its own.
    #[must_use]
    pub fn new(heads: usize) -> Self {
        Self {
            heads,
            kv_heads: heads,
            causal: false,
            window: None,
            scale: None,
            dropout: None,
        }
    }

    /// Which of a sequence's `keys` its query number `query` of `queries` sees. Under a causal mask, and in a window, the last query
    /// stands at the last key: where there are fewer queries than keys, they are the last ones.
    pub(crate) fn visible(&self, query: usize, queries: usize, keys: usize) -> Range<usize> {
        // One behind the query's own place, counted from `queries` places before the first key.
        let own = query + 1 + keys;
        let before = |hidden: usize| own.saturating_sub(queries.saturating_add(hidden));
        match (self.causal, self.window) {
            (false, None) => 0..keys,
            (true, None) => 0..before(0),
            (true, Some(window)) => before(window)..before(0),
            (false, Some(window)) => {
                let end = own.saturating_add(window - 1).saturating_sub(queries);
                before(window)..end.min(keys)
            }
        }
    }

    /// The factor of the scores for heads of this width.
    pub(crate) fn factor(&self, head_width: usize) -> f64 {
        self.scale
            .unwrap_or_else(|| 1.0 / (head_width as f64).sqrt())
    }
}

/// Gradients of q `[Tq, D]`, and of k and v, `[Tk, kv_heads * K]`.
#[derive(Debug)]
pub struct AttentionGrads<B: TuneBackend> {
    /// of the queries
    pub q: FloatTensor<B>,
    /// of the keys
    pub k: FloatTensor<B>,
    /// of the values
    pub v: FloatTensor<B>,
}

/// Index tensors from packed rows to rows padded to the longest sequence, and back.
pub(super) struct Padding<B: TuneBackend> {
    longest: usize,
    /// `[B * L]`: the token at each padded place; padding repeats token 0 and is masked.
    gather: Tensor<B, 1, Int>,
    /// `[T]`: the padded place of each token.
    scatter: Tensor<B, 1, Int>,
}

impl<B: TuneBackend> Padding<B> {
    fn new(sequences: &Sequences, device: &B::Device) -> Self {
        let (count, longest) = (sequences.count(), sequences.longest());
        let mut gather = vec![0i32; count * longest];
        let mut scatter = Vec::with_capacity(sequences.tokens());
        for (s, range) in sequences.ranges().enumerate() {
            for (i, token) in range.enumerate() {
                gather[s * longest + i] = token as i32;
                scatter.push((s * longest + i) as i32);
            }
        }
        Self {
            longest,
            gather: Tensor::from_data(TensorData::new(gather, [count * longest]), device),
            scatter: Tensor::from_data(TensorData::new(scatter, [sequences.tokens()]), device),
        }
    }

    /// `[T, D]` -> `[B, H, L, K]`.
    pub(super) fn pad(&self, x: Tensor<B, 2>, heads: usize) -> Tensor<B, 4> {
        let (count, width) = (self.gather.dims()[0] / self.longest, x.dims()[1]);
        x.select(0, self.gather.clone())
            .reshape([count, self.longest, heads, width / heads])
            .swap_dims(1, 2)
    }

    /// `[B, H, L, K]` -> `[T, D]`, dropping the padding.
    pub(super) fn unpad(&self, x: Tensor<B, 4>) -> FloatTensor<B> {
        let [count, heads, longest, head_width] = x.dims();
        let rows = x
            .swap_dims(1, 2)
            .reshape([count * longest, heads * head_width]);
        primitive(rows.select(0, self.scatter.clone()))
    }
}

/// The padded view of a packed batch, and its masks.
pub(super) struct Padded<B: TuneBackend> {
    pub queries: Padding<B>,
    pub keys: Padding<B>,
    heads: usize,
    kv_heads: usize,
    pub scale: f64,
    /// `[B, H, Lq, Lk]`: true where a query must not look.
    hidden: Tensor<B, 4, Bool>,
    /// `[B, 1, Lq, 1]`: 1 where a query stands that sees something.
    pub real: Tensor<B, 4>,
    /// `[B, H, Lq, Lk]`: 0 or 1/(1-p).
    pub keep: Option<Tensor<B, 4>>,
}

impl<B: TuneBackend> Padded<B> {
    pub(super) fn new(
        (queries, keys): (&Sequences, &Sequences),
        config: AttentionConfig,
        width: usize,
        device: &B::Device,
    ) -> Self {
        let (count, heads) = (queries.count(), config.heads);
        let (longest, across) = (queries.longest(), keys.longest());
        let mut hidden = vec![true; count * longest * across];
        let mut real = vec![0f32; count * longest];
        for (s, (range, keys)) in queries.ranges().zip(keys.ranges()).enumerate() {
            for i in 0..range.len() {
                let seen = config.visible(i, range.len(), keys.len());
                real[s * longest + i] = f32::from(!seen.is_empty());
                hidden[(s * longest + i) * across..][seen].fill(false);
            }
        }
        let hidden: Tensor<B, 3, Bool> =
            Tensor::from_data(TensorData::new(hidden, [count, longest, across]), device);
        let keep = config.dropout.map(|dropout| {
            let (threshold, scale) = (
                drop_threshold(dropout.rate),
                (1.0 / (1.0 - dropout.rate)) as f32,
            );
            let mut keep = vec![0f32; count * heads * longest * across];
            for (s, (range, keys)) in queries.ranges().zip(keys.ranges()).enumerate() {
                for h in 0..heads {
                    for (i, token) in range.clone().enumerate() {
                        let row = Row::new(dropout.key, (token * heads + h) as u64);
                        let out =
                            &mut keep[((s * heads + h) * longest + i) * across..][..keys.len()];
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
                TensorData::new(keep, [count, heads, longest, across]),
                device,
            )
        });
        Self {
            queries: Padding::new(queries, device),
            keys: Padding::new(keys, device),
            heads,
            kv_heads: config.kv_heads,
            scale: config.factor(width / heads),
            hidden: hidden
                .unsqueeze_dim::<4>(1)
                .expand([count, heads, longest, across]),
            real: Tensor::from_data(TensorData::new(real, [count, 1, longest, 1]), device),
            keep,
        }
    }

    /// Queries `[T, D]` of the heads that share keys below one another: `[B, kv_heads, heads / kv_heads * Lq, K]`.
    fn pad_queries(&self, x: Tensor<B, 2>) -> Tensor<B, 4> {
        self.shared(self.queries.pad(x, self.heads))
    }

    fn pad_keys(&self, x: Tensor<B, 2>) -> Tensor<B, 4> {
        self.keys.pad(x, self.kv_heads)
    }

    /// `[B, H, Lq, n]` -> `[B, kv_heads, heads / kv_heads * Lq, n]`.
    fn shared(&self, x: Tensor<B, 4>) -> Tensor<B, 4> {
        let [count, heads, longest, across] = x.dims();
        let rows = heads / self.kv_heads * longest;
        x.reshape([count, self.kv_heads, rows, across])
    }

    /// And back.
    fn apart(&self, x: Tensor<B, 4>) -> Tensor<B, 4> {
        let [count, _, _, across] = x.dims();
        x.reshape([count, self.heads, self.queries.longest, across])
    }

    /// Softmax of the scaled scores; see [`softmax`](Self::softmax).
    fn probabilities(&self, q: &Tensor<B, 4>, k: &Tensor<B, 4>) -> Tensor<B, 4> {
        self.softmax(self.apart(q.clone().matmul(k.clone().transpose())) * self.scale)
    }

    /// Softmax of scores `[B, H, Lq, Lk]` where a query may look; rows of padding are garbage that nobody reads.
    pub(super) fn softmax(&self, scores: Tensor<B, 4>) -> Tensor<B, 4> {
        let scores = scores.mask_fill(self.hidden.clone(), f32::MIN / 2.0);
        let shifted = (scores.clone() - scores.max_dim(3)).exp();
        shifted.clone() / shifted.sum_dim(3)
    }
}

/// Zeros of the shape of `x`.
pub(super) fn nothing<B: TuneBackend>(x: &FloatTensor<B>) -> FloatTensor<B> {
    primitive(tensor::<B, 2>(x.clone()).zeros_like())
}

/// The default body of [`TuneBackend::tune_attention`].
pub fn forward<B: TuneBackend>(
    q: FloatTensor<B>,
    k: FloatTensor<B>,
    v: FloatTensor<B>,
    sequences: (&Sequences, &Sequences),
    config: AttentionConfig,
) -> FloatTensor<B> {
    if sequences.0.tokens() == 0 || sequences.1.tokens() == 0 {
        return nothing::<B>(&q);
    }
    let (q, k, v): (Tensor<B, 2>, Tensor<B, 2>, Tensor<B, 2>) = (tensor(q), tensor(k), tensor(v));
    let padded = Padded::<B>::new(sequences, config, q.dims()[1], &q.device());
    let q = padded.pad_queries(q);
    let [k, v] = [k, v].map(|x| padded.pad_keys(x));
    let mut p = padded.probabilities(&q, &k);
    if let Some(keep) = &padded.keep {
        p = p * keep.clone();
    }
    let output = padded.apart(padded.shared(p).matmul(v));
    padded.queries.unpad(output * padded.real.clone())
}

/// The default body of [`TuneBackend::tune_attention_backward`].
pub fn backward<B: TuneBackend>(
    q: FloatTensor<B>,
    k: FloatTensor<B>,
    v: FloatTensor<B>,
    grad: FloatTensor<B>,
    sequences: (&Sequences, &Sequences),
    config: AttentionConfig,
) -> AttentionGrads<B> {
    if sequences.0.tokens() == 0 || sequences.1.tokens() == 0 {
        let [q, k, v] = [q, k, v].map(|x| nothing::<B>(&x));
        return AttentionGrads { q, k, v };
    }
    let (q, k, v): (Tensor<B, 2>, Tensor<B, 2>, Tensor<B, 2>) = (tensor(q), tensor(k), tensor(v));
    let padded = Padded::<B>::new(sequences, config, q.dims()[1], &q.device());
    let q = padded.pad_queries(q);
    let [k, v] = [k, v].map(|x| padded.pad_keys(x));
    // Padding rows repeat token 0, so their gradient must be cleared, not only unread.
    let grad = padded.queries.pad(tensor(grad), padded.heads) * padded.real.clone();
    let grad = padded.shared(grad);

    let p = padded.probabilities(&q, &k);
    let dropped = match &padded.keep {
        Some(keep) => p.clone() * keep.clone(),
        None => p.clone(),
    };
    let dv = padded.shared(dropped).transpose().matmul(grad.clone());
    let mut dp = padded.apart(grad.matmul(v.transpose()));
    if let Some(keep) = &padded.keep {
        dp = dp * keep.clone();
    }
    let ds = p.clone() * (dp.clone() - (dp * p).sum_dim(3)) * padded.scale;
    let ds = padded.shared(ds);
    let dq = padded.apart(ds.clone().matmul(k));
    let dk = ds.transpose().matmul(q);
    AttentionGrads {
        q: padded.queries.unpad(dq),
        k: padded.keys.unpad(dk),
        v: padded.keys.unpad(dv),
    }
}
