//! The training operations. [`TuneBackend`] adds them to Burn's `Backend`: each has a default body made of Burn's own
//! tensor operations (so any backend works with an empty impl), a hand-written backward pass on `Autodiff<B, C>`
//! (`autodiff.rs`), and where it pays a kernel for Flex (`flex/`) and for GPUs (`cube/`). The functions of this module are what layers call.
//!
//! Nothing here keeps state: dropout's mask is a function of its key, attention's probabilities are computed again in
//! the backward pass, and no gradient is computed that nobody asked for.

mod adamw;
mod attention;
mod autodiff;
mod batch_norm;
mod conv2d;
mod cross_entropy;
#[cfg(feature = "cube")]
mod cube;
mod dropout;
mod embedding;
#[cfg(feature = "cpu")]
mod flex;
mod gated;
mod gelu;
mod grouped;
mod layer_norm;
mod linear;
mod next_token;
mod relative;
mod rms_norm;
mod rotary;
mod sequences;

pub use adamw::{AdamW, AdamWOperand, AdamWResult};
pub use attention::{AttentionConfig, AttentionGrads};
pub use batch_norm::{BatchNormConfig, BatchNormGrads, Rectify};
pub use conv2d::Window;
pub use cross_entropy::CrossEntropy;
#[cfg(feature = "cube")]
pub use cube::use_gpu_kernels;
pub use dropout::{Dropout, Pass};
#[cfg(feature = "cpu")]
pub use flex::cpu_kernels;
pub use gated::Gate;
pub use gelu::GeluKind;
pub use grouped::{Grouped, Groups};
pub use layer_norm::LayerNormGrads;
pub use linear::{LowRankGrads, Precision};
pub use next_token::{NextToken, capped};
pub use relative::{Distances, Relative, RelativeAttentionGrads};
pub use rms_norm::RmsNormGrads;
pub use sequences::Sequences;

/// The default bodies: what a backend's own kernel falls back on, and is held and timed against.
pub mod default {
    pub use super::adamw::{clip, step as adamw_step, steps as adamw_steps};
    pub use super::attention::{backward as attention_backward, forward as attention};
    pub use super::batch_norm::{backward as batch_norm_backward, forward as batch_norm, moments};
    pub use super::conv2d::{
        backward_weight as conv2d_backward_weight, backward_x as conv2d_backward_x,
        forward as conv2d, max_pool, max_pool_backward,
    };
    pub use super::cross_entropy::{backward as cross_entropy_backward, forward as cross_entropy};
    pub use super::dropout::apply as dropout_rows;
    pub use super::embedding::{add as embedding_add, backward as embedding_rows_backward};
    pub use super::gated::{backward as gated_backward, forward as gated};
    pub use super::gelu::{backward as gelu_backward, forward as gelu};
    pub use super::grouped::{linear as grouped_linear, values as grouped_values};
    pub use super::layer_norm::{backward as layer_norm_backward, forward as layer_norm};
    pub use super::linear::{
        add as linear_add, backward_bias as linear_backward_bias,
        backward_both as linear_backward_both, backward_weight as linear_backward_weight,
        backward_x as linear_backward_x, forward as linear, low_rank, low_rank_backward,
    };
    pub use super::next_token::{
        backward_weight as next_token_backward_weight, best as next_token_best,
        forward as next_token,
    };
    pub use super::relative::{
        backward as relative_attention_backward, forward as relative_attention,
    };
    pub use super::rms_norm::{backward as rms_norm_backward, forward as rms_norm};
    pub use super::rotary::{apply as rotary, back as rotary_back};

    use super::TuneBackend;
    use burn::tensor::ops::FloatTensor;

    /// The default body of [`TuneBackend::tune_square_sums`].
    pub fn square_sums<B: TuneBackend>(tensors: Vec<FloatTensor<B>>) -> FloatTensor<B> {
        let sums = tensors.into_iter().map(B::tune_square_sum).collect();
        B::float_cat(sums, 0)
    }
}

use burn::tensor::{
    Int, Tensor, TensorPrimitive,
    backend::{AutodiffBackend, Backend},
    ops::{FloatTensor, IntTensor},
};

/// A backend with the fused training operations. Shapes by the crate's legend; every tensor is contiguous f32 unless a
/// backend says otherwise. `needs` flags name the gradients somebody asked for; the others are `None`.
pub trait TuneBackend: Backend {
    /// Whether products of this precision are fast on this device.
    fn tune_is_fast(precision: Precision, _device: &Self::Device) -> bool {
        precision == Precision::F32
    }

    /// Runs many small operations where they need not wake a thread each.
    fn tune_close_by<R: Send>(run: impl FnOnce() -> R + Send) -> R {
        run()
    }

    /// `x [T, I]`, `weight [O, I]` (PyTorch's layout), `bias [O]` -> `[T, O]`.
    fn tune_linear(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: Option<FloatTensor<Self>>,
        precision: Precision,
    ) -> FloatTensor<Self> {
        linear::forward::<Self>(x, weight, bias, precision)
    }
    /// `sum [T, O]` plus `scale` times the product of `x [T, I]` and `weight [O, I]`: a low-rank side path, added where it
    /// belongs.
    fn tune_linear_add(
        sum: FloatTensor<Self>,
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        scale: f64,
    ) -> FloatTensor<Self> {
        linear::add::<Self>(sum, x, weight, scale)
    }
    /// A low-rank side path: `sum [T, O]` plus `scale (x Aᵀ) Bᵀ` of `x [T, I]`, `a [r, I]` and `b [O, r]`; and the narrow `x Aᵀ
    /// [T, r]`, which the backward pass wants.
    fn tune_low_rank(
        sum: FloatTensor<Self>,
        x: FloatTensor<Self>,
        a: FloatTensor<Self>,
        b: FloatTensor<Self>,
        scale: f64,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        linear::low_rank::<Self>(sum, x, a, b, scale)
    }
    /// Gradients of [`TuneBackend::tune_low_rank`], whose narrow product is `low`; `needs` = (x, a and b). That of the sum is
    /// `grad [T, O]`.
    fn tune_low_rank_backward(
        grad: FloatTensor<Self>,
        x: FloatTensor<Self>,
        low: FloatTensor<Self>,
        a: FloatTensor<Self>,
        b: FloatTensor<Self>,
        scale: f64,
        needs: (bool, bool),
    ) -> LowRankGrads<Self> {
        linear::low_rank_backward::<Self>(grad, x, low, a, b, scale, needs)
    }
    /// The values `[O, I]` of a weight in groups.
    fn tune_grouped_values(weight: Grouped<Self>) -> FloatTensor<Self> {
        grouped::values::<Self>(weight)
    }
    /// [`tune_linear`](Self::tune_linear) by a weight in groups, which has no gradient.
    fn tune_grouped_linear(
        x: FloatTensor<Self>,
        weight: Grouped<Self>,
        bias: Option<FloatTensor<Self>>,
        precision: Precision,
    ) -> FloatTensor<Self> {
        grouped::linear::<Self>(x, weight, bias, precision)
    }
    /// `grad [T, O]`, `weight [O, I]` -> gradient of x `[T, I]`.
    fn tune_linear_backward_x(
        grad: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        precision: Precision,
    ) -> FloatTensor<Self> {
        linear::backward_x::<Self>(grad, weight, precision)
    }
    /// `grad [T, O]`, `x [T, I]` -> gradient of the weight `[O, I]`.
    fn tune_linear_backward_weight(
        grad: FloatTensor<Self>,
        x: FloatTensor<Self>,
        precision: Precision,
    ) -> FloatTensor<Self> {
        linear::backward_weight::<Self>(grad, x, precision)
    }
    /// Both gradients of weight and bias at once, for `grad [T, O]` and `x [T, I]`: `[O, I]` and `[O]`.
    fn tune_linear_backward_both(
        grad: FloatTensor<Self>,
        x: FloatTensor<Self>,
        precision: Precision,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        linear::backward_both::<Self>(grad, x, precision)
    }
    /// `grad [T, O]` -> gradient of the bias `[O]`.
    fn tune_linear_backward_bias(grad: FloatTensor<Self>) -> FloatTensor<Self> {
        linear::backward_bias::<Self>(grad)
    }

    /// GELU of any shape.
    fn tune_gelu(x: FloatTensor<Self>, kind: GeluKind) -> FloatTensor<Self> {
        gelu::forward::<Self>(x, kind)
    }
    /// Gradient of [`TuneBackend::tune_gelu`] at `x`, times `grad`.
    fn tune_gelu_backward(
        x: FloatTensor<Self>,
        grad: FloatTensor<Self>,
        kind: GeluKind,
    ) -> FloatTensor<Self> {
        gelu::backward::<Self>(x, grad, kind)
    }

    /// The linear map of GELU of `x [T, I]`. Differentiated, it keeps x alone and computes the activation twice.
    fn tune_gelu_linear(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: Option<FloatTensor<Self>>,
        kind: GeluKind,
        precision: Precision,
    ) -> FloatTensor<Self> {
        Self::tune_linear(Self::tune_gelu(x, kind), weight, bias, precision)
    }

    /// Layer norm of `x [T, D]`, plus `residual [T, D]`, with `gamma`, `beta [D]`, biased variance.
    fn tune_layer_norm(
        x: FloatTensor<Self>,
        residual: Option<FloatTensor<Self>>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        epsilon: f64,
    ) -> FloatTensor<Self> {
        layer_norm::forward::<Self>(x, residual, gamma, beta, epsilon)
    }
    /// Gradients of [`TuneBackend::tune_layer_norm`]; `needs` = (x or the residual, whose gradient is the same; gamma and beta).
    fn tune_layer_norm_backward(
        x: FloatTensor<Self>,
        residual: Option<FloatTensor<Self>>,
        gamma: FloatTensor<Self>,
        grad: FloatTensor<Self>,
        epsilon: f64,
        needs: (bool, bool),
    ) -> LayerNormGrads<Self> {
        layer_norm::backward::<Self>(x, residual, gamma, grad, epsilon, needs)
    }

    /// RMS norm of `x [T, D]` with `gamma [D]`.
    fn tune_rms_norm(
        x: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        epsilon: f64,
    ) -> FloatTensor<Self> {
        rms_norm::forward::<Self>(x, gamma, epsilon)
    }
    /// Gradients of [`TuneBackend::tune_rms_norm`]; `needs` = (x, gamma).
    fn tune_rms_norm_backward(
        x: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        grad: FloatTensor<Self>,
        epsilon: f64,
        needs: (bool, bool),
    ) -> RmsNormGrads<Self> {
        rms_norm::backward::<Self>(x, gamma, grad, epsilon, needs)
    }

    /// Rotary positions: `x [T, H * K]` turned by the angles whose `cos` and `sin [T, R/2]` these are, R at most K. The tables
    /// have no gradient.
    fn tune_rotary(
        x: FloatTensor<Self>,
        cos: FloatTensor<Self>,
        sin: FloatTensor<Self>,
        heads: usize,
    ) -> FloatTensor<Self> {
        rotary::apply::<Self>(x, cos, sin, heads)
    }
    /// The same turned back: the gradient of [`TuneBackend::tune_rotary`].
    fn tune_rotary_back(
        x: FloatTensor<Self>,
        cos: FloatTensor<Self>,
        sin: FloatTensor<Self>,
        heads: usize,
    ) -> FloatTensor<Self> {
        rotary::back::<Self>(x, cos, sin, heads)
    }

    /// The activation of `gate [T, I]` times `up [T, I]`.
    fn tune_gated(gate: FloatTensor<Self>, up: FloatTensor<Self>, kind: Gate) -> FloatTensor<Self> {
        gated::forward::<Self>(gate, up, kind)
    }
    /// Gradients of [`TuneBackend::tune_gated`] with respect to the gate and to `up`.
    fn tune_gated_backward(
        gate: FloatTensor<Self>,
        up: FloatTensor<Self>,
        grad: FloatTensor<Self>,
        kind: Gate,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        gated::backward::<Self>(gate, up, grad, kind)
    }

    /// Multi-head attention over packed sequences: q `[Tq, D]`, k, v `[Tk, kv_heads * K]` -> `[Tq, D]`; `sequences` = where the queries
    /// and where the keys of each lie. No query sees another sequence; one that sees no key gets zeros.
    fn tune_attention(
        q: FloatTensor<Self>,
        k: FloatTensor<Self>,
        v: FloatTensor<Self>,
        sequences: (&Sequences, &Sequences),
        config: AttentionConfig,
    ) -> FloatTensor<Self> {
        attention::forward::<Self>(q, k, v, sequences, config)
    }
    /// Gradients of [`TuneBackend::tune_attention`] with respect to q, k and v, all three computed together.
    fn tune_attention_backward(
        q: FloatTensor<Self>,
        k: FloatTensor<Self>,
        v: FloatTensor<Self>,
        grad: FloatTensor<Self>,
        sequences: (&Sequences, &Sequences),
        config: AttentionConfig,
    ) -> AttentionGrads<Self> {
        attention::backward::<Self>(q, k, v, grad, sequences, config)
    }
    /// Attention with relative positions, q `[Tq, D]`, k and v `[Tk, D]` -> `[Tq, D]`: as [`TuneBackend::tune_attention`] where every
    /// token sees all of its sequence, and distances add to the scores.
    fn tune_relative_attention(
        qkv: [FloatTensor<Self>; 3],
        relative: Relative<FloatTensor<Self>>,
        distances: &Distances,
        sequences: (&Sequences, &Sequences),
        config: AttentionConfig,
    ) -> FloatTensor<Self> {
        relative::forward::<Self>(qkv, relative, distances, sequences, config)
    }
    /// Gradients of [`TuneBackend::tune_relative_attention`] with respect to q, k and v, for these and `grad [Tq, D]`; with
    /// respect to the tables where `needs`.
    fn tune_relative_attention_backward(
        qkv_grad: [FloatTensor<Self>; 4],
        relative: Relative<FloatTensor<Self>>,
        distances: &Distances,
        sequences: (&Sequences, &Sequences),
        config: AttentionConfig,
        needs: bool,
    ) -> RelativeAttentionGrads<Self> {
        relative::backward::<Self>(qkv_grad, relative, distances, sequences, config, needs)
    }

    /// Rows of `table [V, D]` by `indices [T]` -> `[T, D]`.
    fn tune_embedding_rows(
        table: FloatTensor<Self>,
        indices: IntTensor<Self>,
    ) -> FloatTensor<Self> {
        Self::float_select(table, 0, indices)
    }
    /// `sum [T, D]` plus rows of `table [V, D]` by `indices [T]`.
    fn tune_embedding_add(
        sum: FloatTensor<Self>,
        table: FloatTensor<Self>,
        indices: IntTensor<Self>,
    ) -> FloatTensor<Self> {
        embedding::add::<Self>(sum, table, indices)
    }
    /// Gradient of the table `[V, D]` for `grad [T, D]`.
    fn tune_embedding_rows_backward(
        vocabulary: usize,
        indices: IntTensor<Self>,
        grad: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        embedding::backward::<Self>(vocabulary, indices, grad)
    }

    /// Inverted dropout of `x [T, D]` (or `[T]`), its mask a function of the key, row and column.
    fn tune_dropout_rows(x: FloatTensor<Self>, dropout: Dropout) -> FloatTensor<Self> {
        dropout::apply::<Self>(x, dropout)
    }

    /// Per-example cross-entropy `[B]` of `logits [B, C]` against `targets [B]`.
    fn tune_cross_entropy(
        logits: FloatTensor<Self>,
        targets: IntTensor<Self>,
        settings: &CrossEntropy,
    ) -> FloatTensor<Self> {
        cross_entropy::forward::<Self>(logits, targets, settings)
    }
    /// Gradient of [`TuneBackend::tune_cross_entropy`] with respect to the logits, for `grad [B]`.
    fn tune_cross_entropy_backward(
        logits: FloatTensor<Self>,
        targets: IntTensor<Self>,
        grad: FloatTensor<Self>,
        settings: &CrossEntropy,
    ) -> FloatTensor<Self> {
        cross_entropy::backward::<Self>(logits, targets, grad, settings)
    }

    /// Losses `[R]` of next tokens: [`NextToken::losses`] alone, differentiable.
    fn tune_next_token_losses(
        hidden: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        targets: IntTensor<Self>,
        softcap: Option<f64>,
    ) -> FloatTensor<Self> {
        Self::tune_next_token(hidden, weight, targets, softcap, false).losses
    }
    /// Cross-entropy of `targets [R]`, each below V, the logits being the products of `hidden [R, D]` and `weight [V, D]`, under
    /// `c tanh(x/c)` where there is a softcap c; with `slopes`, the gradient of each loss by its hidden state too.
    fn tune_next_token(
        hidden: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        targets: IntTensor<Self>,
        softcap: Option<f64>,
        slopes: bool,
    ) -> NextToken<Self> {
        next_token::forward::<Self>(hidden, weight, targets, softcap, slopes)
    }
    /// Gradient of the weight `[V, D]` of [`TuneBackend::tune_next_token`], for its `log_sums [R]` and `grad [R]` of its losses.
    fn tune_next_token_backward_weight(
        hidden: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        targets: IntTensor<Self>,
        log_sums: FloatTensor<Self>,
        grad: FloatTensor<Self>,
        softcap: Option<f64>,
    ) -> FloatTensor<Self> {
        next_token::backward_weight::<Self>(hidden, weight, targets, log_sums, grad, softcap)
    }
    /// Losses `[R]` as of [`TuneBackend::tune_next_token`], and the word with the largest logit `[R]`, the first of equals.
    /// Never differentiated.
    fn tune_next_token_best(
        hidden: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        targets: IntTensor<Self>,
        softcap: Option<f64>,
    ) -> (FloatTensor<Self>, IntTensor<Self>) {
        next_token::best::<Self>(hidden, weight, targets, softcap)
    }

    /// Convolution of `x [N, H, W, C]` with `weight [O, C/groups, kh, kw]` (PyTorch's layout) -> `[N, H', W', O]`.
    fn tune_conv2d(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        window: Window,
        groups: usize,
    ) -> FloatTensor<Self> {
        conv2d::forward::<Self>(x, weight, window, groups)
    }
    /// Gradient of x, of dimensions `size`, for `grad [N, H', W', O]`.
    fn tune_conv2d_backward_x(
        size: [usize; 4],
        weight: FloatTensor<Self>,
        grad: FloatTensor<Self>,
        window: Window,
        groups: usize,
    ) -> FloatTensor<Self> {
        conv2d::backward_x::<Self>(size, weight, grad, window, groups)
    }
    /// Gradient of the weight, for `grad [N, H', W', O]`.
    fn tune_conv2d_backward_weight(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        grad: FloatTensor<Self>,
        window: Window,
        groups: usize,
    ) -> FloatTensor<Self> {
        conv2d::backward_weight::<Self>(x, weight, grad, window, groups)
    }

    /// The largest value of each window: `x [N, H, W, C]` -> `[N, H', W', C]`.
    fn tune_max_pool(x: FloatTensor<Self>, window: Window) -> FloatTensor<Self> {
        conv2d::max_pool::<Self>(x, window)
    }
    /// Gradient of x: each output's goes to the first of its window's largest values.
    fn tune_max_pool_backward(
        x: FloatTensor<Self>,
        grad: FloatTensor<Self>,
        window: Window,
    ) -> FloatTensor<Self> {
        conv2d::max_pool_backward::<Self>(x, grad, window)
    }

    /// Mean and biased variance of the columns of `x [R, C]` -> `[2, C]`. Never differentiated: see
    /// [`BatchNormConfig::of_batch`].
    fn tune_moments(x: FloatTensor<Self>) -> FloatTensor<Self> {
        batch_norm::moments::<Self>(x)
    }
    /// Batch norm of `x [R, C]` with `gamma`, `beta [C]` and `moments [2, C]`, plus `residual [R, C]`, rectified.
    fn tune_batch_norm(
        x: FloatTensor<Self>,
        residual: Option<FloatTensor<Self>>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        moments: FloatTensor<Self>,
        config: BatchNormConfig,
    ) -> FloatTensor<Self> {
        batch_norm::forward::<Self>(x, residual, gamma, beta, moments, config)
    }
    /// Gradients of [`TuneBackend::tune_batch_norm`], whose output is `y`; `needs` = (x, residual, gamma and beta).
    fn tune_batch_norm_backward(
        x: FloatTensor<Self>,
        y: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        moments: FloatTensor<Self>,
        grad: FloatTensor<Self>,
        config: BatchNormConfig,
        needs: (bool, bool, bool),
    ) -> BatchNormGrads<Self> {
        batch_norm::backward::<Self>(x, y, gamma, moments, grad, config, needs)
    }

    /// The sum of all squares, `[1]`.
    fn tune_square_sum(x: FloatTensor<Self>) -> FloatTensor<Self> {
        Self::float_sum(Self::float_mul(x.clone(), x))
    }

    /// The sum of all squares of each of at least one tensor, `[n]`.
    fn tune_square_sums(tensors: Vec<FloatTensor<Self>>) -> FloatTensor<Self> {
        default::square_sums::<Self>(tensors)
    }

    /// One AdamW step; returns the new (parameter, first moment, second moment), same shapes.
    fn tune_adamw_step(
        parameter: FloatTensor<Self>,
        grad: FloatTensor<Self>,
        moments: (FloatTensor<Self>, FloatTensor<Self>),
        settings: AdamW,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        adamw::step::<Self>(parameter, grad, moments, settings)
    }

    /// The factor `[1]` that clips gradients, whose sums of squares are `squares [n]`, to a global norm of `max_norm`: at most 1, and 1
    /// where `max_norm` is 0; NaN where one of `losses [k]` or the norm is not finite.
    fn tune_clip(
        losses: FloatTensor<Self>,
        squares: FloatTensor<Self>,
        max_norm: f64,
    ) -> FloatTensor<Self> {
        adamw::clip::<Self>(losses, squares, max_norm)
    }

    /// One AdamW step of each parameter, by its gradient times `factor [1]`. A factor that is not finite leaves all as it is.
    fn tune_adamw_steps(
        operands: Vec<AdamWOperand<Self>>,
        factor: FloatTensor<Self>,
    ) -> Vec<AdamWResult<Self>> {
        adamw::steps::<Self>(operands, factor)
    }
}

/// An autodiff backend whose inner backend has the operations too: what training code asks for.
pub trait TuneAutodiff: TuneBackend + AutodiffBackend<InnerBackend: TuneBackend> {}
impl<T: TuneBackend + AutodiffBackend<InnerBackend: TuneBackend>> TuneAutodiff for T {}

/// A float primitive as a tensor of rank `D`, and back: default bodies read better on tensors.
pub(crate) fn tensor<B: Backend, const D: usize>(primitive: FloatTensor<B>) -> Tensor<B, D> {
    Tensor::from_primitive(TensorPrimitive::Float(primitive))
}

pub(crate) fn primitive<B: Backend, const D: usize>(tensor: Tensor<B, D>) -> FloatTensor<B> {
    tensor.into_primitive().tensor()
}

/// Linear map `x [T, I]` by `weight [O, I]` and `bias [O]` -> `[T, O]`.
pub fn linear<B: TuneBackend>(
    x: Tensor<B, 2>,
    weight: Tensor<B, 2>,
    bias: Option<Tensor<B, 1>>,
    precision: Precision,
) -> Tensor<B, 2> {
    tensor(B::tune_linear(
        primitive(x),
        primitive(weight),
        bias.map(primitive),
        precision,
    ))
}

/// The values `[O, I]` of a weight in groups.
pub fn grouped_values<B: TuneBackend>(weight: Grouped<B>) -> Tensor<B, 2> {
    tensor(B::tune_grouped_values(weight))
}

/// Linear map `x [T, I]` by a weight `[O, I]` in groups and `bias [O]` -> `[T, O]`.
pub fn grouped_linear<B: TuneBackend>(
    x: Tensor<B, 2>,
    weight: Grouped<B>,
    bias: Option<Tensor<B, 1>>,
    precision: Precision,
) -> Tensor<B, 2> {
    tensor(B::tune_grouped_linear(
        primitive(x),
        weight,
        bias.map(primitive),
        precision,
    ))
}

/// `sum [T, O]` plus `scale (x Aᵀ) Bᵀ` of `x [T, I]`, `a [r, I]` and `b [O, r]`: a low-rank side path.
pub fn low_rank<B: TuneBackend>(
    sum: Tensor<B, 2>,
    x: Tensor<B, 2>,
    a: Tensor<B, 2>,
    b: Tensor<B, 2>,
    scale: f64,
) -> Tensor<B, 2> {
    let [sum, x, a, b] = [sum, x, a, b].map(primitive);
    tensor(B::tune_low_rank(sum, x, a, b, scale).0)
}

/// GELU, elementwise.
pub fn gelu<B: TuneBackend, const D: usize>(x: Tensor<B, D>, kind: GeluKind) -> Tensor<B, D> {
    tensor(B::tune_gelu(primitive(x), kind))
}

/// The linear map of GELU of `x [T, I]` by `weight [O, I]` and `bias [O]` -> `[T, O]`: less memory in training than one after
/// the other.
pub fn gelu_linear<B: TuneBackend>(
    x: Tensor<B, 2>,
    weight: Tensor<B, 2>,
    bias: Option<Tensor<B, 1>>,
    kind: GeluKind,
    precision: Precision,
) -> Tensor<B, 2> {
    tensor(B::tune_gelu_linear(
        primitive(x),
        primitive(weight),
        bias.map(primitive),
        kind,
        precision,
    ))
}

/// Layer norm over the last dimension of `x [T, D]`, plus `residual [T, D]`.
pub fn layer_norm<B: TuneBackend>(
    x: Tensor<B, 2>,
    residual: Option<Tensor<B, 2>>,
    gamma: Tensor<B, 1>,
    beta: Tensor<B, 1>,
    epsilon: f64,
) -> Tensor<B, 2> {
    tensor(B::tune_layer_norm(
        primitive(x),
        residual.map(primitive),
        primitive(gamma),
        primitive(beta),
        epsilon,
    ))
}

/// RMS norm over the last dimension of `x [T, D]`. A norm of each head is one of `[T * H, K]`.
pub fn rms_norm<B: TuneBackend>(
    x: Tensor<B, 2>,
    gamma: Tensor<B, 1>,
    epsilon: f64,
) -> Tensor<B, 2> {
    tensor(B::tune_rms_norm(primitive(x), primitive(gamma), epsilon))
}

/// Rotary positions in Llama's layout: `x [T, H * K]` turned by the angles whose `cos` and `sin [T, R/2]` these are. The first
/// R values of each head turn, value i with value `i + R/2`; R is K, or less where a model turns only a part. The tables have
/// no gradient.
///
/// # Panics
/// If the heads do not divide the width, or the tables are not of one shape, with a row a token and at most K/2 columns.
pub fn rotary<B: TuneBackend>(
    x: Tensor<B, 2>,
    cos: Tensor<B, 2>,
    sin: Tensor<B, 2>,
    heads: usize,
) -> Tensor<B, 2> {
    let ([tokens, width], [rows, half]) = (x.dims(), cos.dims());
    assert_eq!(
        width % heads,
        0,
        "{heads} heads do not divide width {width}"
    );
    assert_eq!(cos.dims(), sin.dims(), "cos and sin are of one shape");
    assert!(
        rows == tokens && 2 * half <= width / heads,
        "tables [{rows}, {half}] do not fit {tokens} tokens of heads of width {}",
        width / heads
    );
    tensor(B::tune_rotary(
        primitive(x),
        primitive(cos),
        primitive(sin),
        heads,
    ))
}

/// The activation of `gate [T, I]` times `up [T, I]`: SwiGLU or GEGLU. Differentiated, it keeps the two and nothing else.
pub fn gated<B: TuneBackend>(gate: Tensor<B, 2>, up: Tensor<B, 2>, kind: Gate) -> Tensor<B, 2> {
    tensor(B::tune_gated(primitive(gate), primitive(up), kind))
}

/// Multi-head attention over packed sequences; q and the result are `[Tq, D]`, k and v `[Tk, kv_heads * K]`. `sequences` says
/// where the queries and where the keys of each sequence lie: twice the same where every token asks.
///
/// # Panics
/// If the head counts do not fit the widths, a window is 0, or the sequences do not fit q and k (all are
/// checked where models are built).
pub fn attention<B: TuneBackend>(
    q: Tensor<B, 2>,
    k: Tensor<B, 2>,
    v: Tensor<B, 2>,
    sequences: (&Sequences, &Sequences),
    config: AttentionConfig,
) -> Tensor<B, 2> {
    let ([queries, width], [keys, key_width]) = (q.dims(), k.dims());
    let AttentionConfig {
        heads, kv_heads, ..
    } = config;
    assert_eq!(
        (width % heads, heads % kv_heads),
        (0, 0),
        "{heads} heads, {kv_heads} of them of keys, do not divide width {width}",
    );
    assert_eq!(
        (key_width, v.dims()),
        (width / heads * kv_heads, [keys, key_width]),
        "keys and values are of {kv_heads} heads as wide as the queries'"
    );
    assert!(
        config.window.is_none_or(|window| window > 0),
        "a window is of at least one key"
    );
    assert_eq!(
        (sequences.0.tokens(), sequences.1.tokens()),
        (queries, keys),
        "the sequences must cover all queries and keys"
    );
    assert_eq!(
        sequences.0.count(),
        sequences.1.count(),
        "queries and keys are of the same sequences"
    );
    tensor(B::tune_attention(
        primitive(q),
        primitive(k),
        primitive(v),
        sequences,
        config,
    ))
}

/// Attention with relative positions; q and the result are `[Tq, D]`, k and v `[Tk, D]`, the tables as [`Relative`] says, with
/// the rows of [`Distances::span`]. Every token sees all of its sequence.
///
/// # Panics
/// If widths, heads, tables, sequences or distances do not fit together, or the configuration groups heads or hides keys.
pub fn relative_attention<B: TuneBackend>(
    [q, k, v]: [Tensor<B, 2>; 3],
    relative: Relative<Tensor<B, 2>>,
    distances: &Distances,
    sequences: (&Sequences, &Sequences),
    config: AttentionConfig,
) -> Tensor<B, 2> {
    let ([queries, width], [keys, _]) = (q.dims(), k.dims());
    let heads = config.heads;
    assert!(
        heads == config.kv_heads && !config.causal && config.window.is_none(),
        "every head has keys of its own, and no key is hidden"
    );
    assert_eq!(
        width % heads,
        0,
        "{heads} heads do not divide width {width}"
    );
    assert_eq!(
        [k.dims(), v.dims()],
        [[keys, width]; 2],
        "keys and values are as wide as queries"
    );
    let columns = match &relative {
        Relative::Bias(_) => heads,
        Relative::Vectors { .. } => width,
    };
    let rows = distances.span().len();
    for table in relative.as_ref() {
        assert_eq!(
            table.dims(),
            [rows, columns],
            "a table has the rows of the distances"
        );
    }
    assert_eq!(
        (sequences.0.tokens(), sequences.1.tokens()),
        (queries, keys),
        "the sequences must cover all queries and keys"
    );
    assert_eq!(
        sequences.0.count(),
        sequences.1.count(),
        "queries and keys are of the same sequences"
    );
    assert!(
        distances.fit(sequences),
        "every query stands at a token of its sequence, and no sequence is longer than the distances"
    );
    tensor(B::tune_relative_attention(
        [q, k, v].map(primitive),
        relative.map(primitive),
        distances,
        sequences,
        config,
    ))
}

/// Rows of `table [V, D]` by `indices [T]` -> `[T, D]`.
pub fn embedding_rows<B: TuneBackend>(
    table: Tensor<B, 2>,
    indices: Tensor<B, 1, Int>,
) -> Tensor<B, 2> {
    tensor(B::tune_embedding_rows(
        primitive(table),
        indices.into_primitive(),
    ))
}

/// `sum [T, D]` plus rows of `table [V, D]` by `indices [T]`.
pub fn embedding_add<B: TuneBackend>(
    sum: Tensor<B, 2>,
    table: Tensor<B, 2>,
    indices: Tensor<B, 1, Int>,
) -> Tensor<B, 2> {
    tensor(B::tune_embedding_add(
        primitive(sum),
        primitive(table),
        indices.into_primitive(),
    ))
}

/// Inverted dropout, or `x` itself where the pass is an evaluation or the rate is 0.
pub fn dropout<B: TuneBackend>(x: Tensor<B, 2>, rate: f64, pass: Pass) -> Tensor<B, 2> {
    match pass.dropout(rate) {
        Some(dropout) => tensor(B::tune_dropout_rows(primitive(x), dropout)),
        None => x,
    }
}

/// Per-example cross-entropy `[B]` of `logits [B, C]` against `targets [B]`.
pub fn cross_entropy<B: TuneBackend>(
    logits: Tensor<B, 2>,
    targets: Tensor<B, 1, Int>,
    settings: &CrossEntropy,
) -> Tensor<B, 1> {
    tensor(B::tune_cross_entropy(
        primitive(logits),
        targets.into_primitive(),
        settings,
    ))
}

/// Losses `[R]` of next tokens straight from hidden states: `-log softmax(hidden weightᵀ)[target]` of `hidden [R, D]`, `weight
/// [V, D]` and `targets [R]`, the logits under `c tanh(x/c)` where there is a softcap c. `[R, V]` exists only in chunks.
/// Differentiated, it computes the gradient of the hidden states with the losses, and that of the weight if it is asked for.
///
/// # Panics
/// If the shapes do not fit; if a target is not below V, as far as the backend checks that.
pub fn next_token_losses<B: TuneBackend>(
    hidden: Tensor<B, 2>,
    weight: Tensor<B, 2>,
    targets: Tensor<B, 1, Int>,
    softcap: Option<f64>,
) -> Tensor<B, 1> {
    fit_next_token(&hidden, &weight, &targets);
    let targets = targets.into_primitive();
    let losses = B::tune_next_token_losses(primitive(hidden), primitive(weight), targets, softcap);
    tensor(losses)
}

/// [`next_token_losses`], and for each row the word with the largest logit `[R]`, the first of equals; without gradients.
///
/// # Panics
/// As [`next_token_losses`].
pub fn next_token_best<B: TuneBackend>(
    hidden: Tensor<B, 2>,
    weight: Tensor<B, 2>,
    targets: Tensor<B, 1, Int>,
    softcap: Option<f64>,
) -> (Tensor<B, 1>, Tensor<B, 1, Int>) {
    fit_next_token(&hidden, &weight, &targets);
    let targets = targets.into_primitive();
    let (losses, best) =
        B::tune_next_token_best(primitive(hidden), primitive(weight), targets, softcap);
    (tensor(losses), Tensor::from_primitive(best))
}

fn fit_next_token<B: Backend>(
    hidden: &Tensor<B, 2>,
    weight: &Tensor<B, 2>,
    targets: &Tensor<B, 1, Int>,
) {
    let ([rows, width], [_, width_of_weight]) = (hidden.dims(), weight.dims());
    assert_eq!(
        (width, rows),
        (width_of_weight, targets.dims()[0]),
        "hidden states are as wide as the weight, with a target each"
    );
}

/// Convolution of `x [N, H, W, C]` with `weight [O, C/groups, kh, kw]` -> `[N, H', W', O]`.
///
/// # Panics
/// If the groups do not divide the channels, or the kernel does not fit into the padded image.
pub fn conv2d<B: TuneBackend>(
    x: Tensor<B, 4>,
    weight: Tensor<B, 4>,
    window: Window,
    groups: usize,
) -> Tensor<B, 4> {
    let ([_, height, width, channels], [outputs, depth, ..]) = (x.dims(), weight.dims());
    assert_eq!(
        (depth * groups, outputs % groups),
        (channels, 0),
        "{groups} groups of {depth} channels do not make the image's {channels}"
    );
    let [rows, columns] = window.output([height, width]);
    assert!(
        rows * columns > 0,
        "the kernel {:?} does not fit into an image of {height} x {width}",
        window.kernel
    );
    tensor(B::tune_conv2d(
        primitive(x),
        primitive(weight),
        window,
        groups,
    ))
}

/// The largest value of each window: `x [N, H, W, C]` -> `[N, H', W', C]`.
pub fn max_pool<B: TuneBackend>(x: Tensor<B, 4>, window: Window) -> Tensor<B, 4> {
    tensor(B::tune_max_pool(primitive(x), window))
}

/// Mean and biased variance of the columns of `x [R, C]`, `[2, C]`, without a gradient.
pub fn moments<B: TuneBackend>(x: Tensor<B, 2>) -> Tensor<B, 2> {
    tensor(B::tune_moments(primitive(x)))
}

/// Batch norm of `x [R, C]` with `gamma`, `beta [C]` and `moments [2, C]`, plus `residual [R, C]`, rectified.
pub fn batch_norm<B: TuneBackend>(
    x: Tensor<B, 2>,
    residual: Option<Tensor<B, 2>>,
    (gamma, beta): (Tensor<B, 1>, Tensor<B, 1>),
    moments: Tensor<B, 2>,
    config: BatchNormConfig,
) -> Tensor<B, 2> {
    tensor(B::tune_batch_norm(
        primitive(x),
        residual.map(primitive),
        primitive(gamma),
        primitive(beta),
        primitive(moments),
        config,
    ))
}
