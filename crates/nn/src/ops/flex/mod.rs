//! Kernels for the CPU backend, one file an operation. Each works on contiguous f32 and hands anything else to the
//! default body. Work is cut into pieces of a fixed size and summed in a fixed order, so the number of threads changes
//! no bit.
#![allow(unsafe_code)]
// An `Err` of these kernels hands the operands back to the default body; it is no error on its way up.
#![allow(clippy::result_large_err)]

mod adamw;
mod attention;
mod batch_norm;
mod conv2d;
mod cross_entropy;
mod depthwise;
mod dropout;
mod embedding;
mod gated;
mod gelu;
mod grouped;
#[cfg(test)]
mod laws;
mod layer_norm;
mod linear;
mod math;
mod max_pool;
mod next_token;
#[cfg_attr(not(target_arch = "x86_64"), path = "pairs/absent.rs")]
mod pairs;
mod relative;
mod rms_norm;
mod rotary;
mod rows;
mod tile;
mod util;

use super::{
    AdamW, AttentionConfig, AttentionGrads, BatchNormConfig, BatchNormGrads, CrossEntropy,
    Distances, Dropout, Gate, GeluKind, Grouped, LayerNormGrads, NextToken, Precision, Relative,
    RelativeAttentionGrads, RmsNormGrads, Sequences, TuneBackend, Window,
};
use burn::backend::{Flex, flex::FlexTensor};
use burn::tensor::ops::FloatTensorOps;

/// The sets of instructions of this machine's CPU that the kernels use.
#[must_use]
pub fn cpu_kernels() -> Vec<&'static str> {
    tile::vectors().into_iter().chain(pairs::used()).collect()
}

impl TuneBackend for Flex {
    fn tune_is_fast(precision: Precision, _: &Self::Device) -> bool {
        pairs::is_fast(precision)
    }

    fn tune_close_by<R: Send>(run: impl FnOnce() -> R + Send) -> R {
        // On one of the pool's threads, which shares its work without handing all of it over.
        rayon::scope(|_| run())
    }

    fn tune_linear(
        x: FlexTensor,
        weight: FlexTensor,
        bias: Option<FlexTensor>,
        precision: Precision,
    ) -> FlexTensor {
        linear::forward(&x, &weight, bias.as_ref(), precision)
            .unwrap_or_else(|| super::linear::forward::<Self>(x, weight, bias, precision))
    }

    fn tune_linear_add(
        sum: FlexTensor,
        x: FlexTensor,
        weight: FlexTensor,
        scale: f64,
    ) -> FlexTensor {
        linear::add(sum, &x, &weight, scale)
            .unwrap_or_else(|sum| super::linear::add::<Self>(sum, x, weight, scale))
    }

    fn tune_grouped_values(weight: Grouped<Self>) -> FlexTensor {
        grouped::values(&weight).unwrap_or_else(|| super::grouped::values::<Self>(weight))
    }

    fn tune_grouped_linear(
        x: FlexTensor,
        weight: Grouped<Self>,
        bias: Option<FlexTensor>,
        precision: Precision,
    ) -> FlexTensor {
        grouped::forward(&x, &weight, bias.as_ref(), precision)
            .unwrap_or_else(|| super::grouped::linear::<Self>(x, weight, bias, precision))
    }

    fn tune_linear_backward_x(
        grad: FlexTensor,
        weight: FlexTensor,
        precision: Precision,
    ) -> FlexTensor {
        linear::backward_x(&grad, &weight, precision)
            .unwrap_or_else(|| super::linear::backward_x::<Self>(grad, weight, precision))
    }

    fn tune_linear_backward_weight(
        grad: FlexTensor,
        x: FlexTensor,
        precision: Precision,
    ) -> FlexTensor {
        linear::backward_weight(&grad, &x, precision)
            .unwrap_or_else(|| super::linear::backward_weight::<Self>(grad, x, precision))
    }

    fn tune_linear_backward_bias(grad: FlexTensor) -> FlexTensor {
        linear::backward_bias(&grad).unwrap_or_else(|| super::linear::backward_bias::<Self>(grad))
    }

    fn tune_gelu(x: FlexTensor, kind: GeluKind) -> FlexTensor {
        gelu::forward(x, kind).unwrap_or_else(|x| super::gelu::forward::<Self>(x, kind))
    }

    fn tune_gelu_backward(x: FlexTensor, grad: FlexTensor, kind: GeluKind) -> FlexTensor {
        gelu::backward(x, grad, kind)
            .unwrap_or_else(|(grad, x)| super::gelu::backward::<Self>(x, grad, kind))
    }

    fn tune_layer_norm(
        x: FlexTensor,
        residual: Option<FlexTensor>,
        gamma: FlexTensor,
        beta: FlexTensor,
        epsilon: f64,
    ) -> FlexTensor {
        layer_norm::forward(&x, residual.as_ref(), &gamma, &beta, epsilon).unwrap_or_else(|| {
            super::layer_norm::forward::<Self>(x, residual, gamma, beta, epsilon)
        })
    }

    fn tune_layer_norm_backward(
        x: FlexTensor,
        residual: Option<FlexTensor>,
        gamma: FlexTensor,
        grad: FlexTensor,
        epsilon: f64,
        needs: (bool, bool),
    ) -> LayerNormGrads<Self> {
        layer_norm::backward(&x, residual.as_ref(), &gamma, &grad, epsilon, needs).unwrap_or_else(
            || super::layer_norm::backward::<Self>(x, residual, gamma, grad, epsilon, needs),
        )
    }

    fn tune_rms_norm(x: FlexTensor, gamma: FlexTensor, epsilon: f64) -> FlexTensor {
        rms_norm::forward(&x, &gamma, epsilon)
            .unwrap_or_else(|| super::rms_norm::forward::<Self>(x, gamma, epsilon))
    }

    fn tune_rms_norm_backward(
        x: FlexTensor,
        gamma: FlexTensor,
        grad: FlexTensor,
        epsilon: f64,
        needs: (bool, bool),
    ) -> RmsNormGrads<Self> {
        rms_norm::backward(&x, &gamma, &grad, epsilon, needs)
            .unwrap_or_else(|| super::rms_norm::backward::<Self>(x, gamma, grad, epsilon, needs))
    }

    fn tune_rotary(x: FlexTensor, cos: FlexTensor, sin: FlexTensor, heads: usize) -> FlexTensor {
        rotary::apply(x, &cos, &sin, heads)
            .unwrap_or_else(|x| super::rotary::apply::<Self>(x, cos, sin, heads))
    }

    fn tune_gated(gate: FlexTensor, up: FlexTensor, kind: Gate) -> FlexTensor {
        gated::forward(gate, up, kind)
            .unwrap_or_else(|(gate, up)| super::gated::forward::<Self>(gate, up, kind))
    }

    fn tune_gated_backward(
        gate: FlexTensor,
        up: FlexTensor,
        grad: FlexTensor,
        kind: Gate,
    ) -> (FlexTensor, FlexTensor) {
        gated::backward(&gate, &up, grad, kind)
            .unwrap_or_else(|grad| super::gated::backward::<Self>(gate, up, grad, kind))
    }

    fn tune_attention(
        q: FlexTensor,
        k: FlexTensor,
        v: FlexTensor,
        sequences: (&Sequences, &Sequences),
        config: AttentionConfig,
    ) -> FlexTensor {
        attention::forward([&q, &k, &v], sequences, config)
            .unwrap_or_else(|| super::attention::forward::<Self>(q, k, v, sequences, config))
    }

    fn tune_attention_backward(
        q: FlexTensor,
        k: FlexTensor,
        v: FlexTensor,
        grad: FlexTensor,
        sequences: (&Sequences, &Sequences),
        config: AttentionConfig,
    ) -> AttentionGrads<Self> {
        attention::backward([&q, &k, &v, &grad], sequences, config)
            .unwrap_or_else(|| super::attention::backward::<Self>(q, k, v, grad, sequences, config))
    }

    fn tune_relative_attention(
        qkv: [FlexTensor; 3],
        relative: Relative<FlexTensor>,
        distances: &Distances,
        sequences: (&Sequences, &Sequences),
        config: AttentionConfig,
    ) -> FlexTensor {
        relative::forward(
            qkv.each_ref(),
            relative.as_ref(),
            distances,
            sequences,
            config,
        )
        .unwrap_or_else(|| {
            super::relative::forward::<Self>(qkv, relative, distances, sequences, config)
        })
    }

    fn tune_relative_attention_backward(
        qkv_grad: [FlexTensor; 4],
        relative: Relative<FlexTensor>,
        distances: &Distances,
        sequences: (&Sequences, &Sequences),
        config: AttentionConfig,
        needs: bool,
    ) -> RelativeAttentionGrads<Self> {
        let (inputs, tables) = (qkv_grad.each_ref(), relative.as_ref());
        relative::backward(inputs, tables, distances, sequences, config, needs).unwrap_or_else(
            || {
                super::relative::backward::<Self>(
                    qkv_grad, relative, distances, sequences, config, needs,
                )
            },
        )
    }

    fn tune_embedding_add(sum: FlexTensor, table: FlexTensor, indices: FlexTensor) -> FlexTensor {
        embedding::add(sum, &table, &indices)
            .unwrap_or_else(|sum| super::embedding::add::<Self>(sum, table, indices))
    }

    fn tune_embedding_rows_backward(
        vocabulary: usize,
        indices: FlexTensor,
        grad: FlexTensor,
    ) -> FlexTensor {
        embedding::backward(vocabulary, &indices, &grad)
            .unwrap_or_else(|| super::embedding::backward::<Self>(vocabulary, indices, grad))
    }

    fn tune_dropout_rows(x: FlexTensor, dropout: Dropout) -> FlexTensor {
        dropout::apply(x, dropout).unwrap_or_else(|x| super::dropout::apply::<Self>(x, dropout))
    }

    fn tune_cross_entropy(
        logits: FlexTensor,
        targets: FlexTensor,
        settings: &CrossEntropy,
    ) -> FlexTensor {
        cross_entropy::forward(&logits, &targets, settings)
            .unwrap_or_else(|| super::cross_entropy::forward::<Self>(logits, targets, settings))
    }

    fn tune_cross_entropy_backward(
        logits: FlexTensor,
        targets: FlexTensor,
        grad: FlexTensor,
        settings: &CrossEntropy,
    ) -> FlexTensor {
        cross_entropy::backward(&logits, &targets, &grad, settings).unwrap_or_else(|| {
            super::cross_entropy::backward::<Self>(logits, targets, grad, settings)
        })
    }

    fn tune_next_token(
        hidden: FlexTensor,
        weight: FlexTensor,
        targets: FlexTensor,
        softcap: Option<f64>,
        slopes: bool,
    ) -> NextToken<Self> {
        next_token::forward(&hidden, &weight, &targets, softcap, slopes).unwrap_or_else(|| {
            super::next_token::forward::<Self>(hidden, weight, targets, softcap, slopes)
        })
    }

    fn tune_next_token_backward_weight(
        hidden: FlexTensor,
        weight: FlexTensor,
        targets: FlexTensor,
        log_sums: FlexTensor,
        grad: FlexTensor,
        softcap: Option<f64>,
    ) -> FlexTensor {
        next_token::backward_weight(&hidden, &weight, &targets, &log_sums, &grad, softcap)
            .unwrap_or_else(|| {
                super::next_token::backward_weight::<Self>(
                    hidden, weight, targets, log_sums, grad, softcap,
                )
            })
    }

    fn tune_next_token_best(
        hidden: FlexTensor,
        weight: FlexTensor,
        targets: FlexTensor,
        softcap: Option<f64>,
    ) -> (FlexTensor, FlexTensor) {
        next_token::best(&hidden, &weight, &targets, softcap)
            .unwrap_or_else(|| super::next_token::best::<Self>(hidden, weight, targets, softcap))
    }

    fn tune_conv2d(x: FlexTensor, weight: FlexTensor, window: Window, groups: usize) -> FlexTensor {
        let (x, weight) = (x.to_contiguous(), weight.to_contiguous());
        match groups {
            1 => conv2d::forward(&x, &weight, window),
            _ => depthwise::forward(&x, &weight, window),
        }
        .unwrap_or_else(|| super::conv2d::forward::<Self>(x, weight, window, groups))
    }

    fn tune_conv2d_backward_x(
        size: [usize; 4],
        weight: FlexTensor,
        grad: FlexTensor,
        window: Window,
        groups: usize,
    ) -> FlexTensor {
        let grad = grad.to_contiguous();
        match groups {
            1 => conv2d::backward_x(size, &weight, &grad, window),
            _ => depthwise::backward_x(size, &weight, &grad, window),
        }
        .unwrap_or_else(|| super::conv2d::backward_x::<Self>(size, weight, grad, window, groups))
    }

    fn tune_conv2d_backward_weight(
        x: FlexTensor,
        weight: FlexTensor,
        grad: FlexTensor,
        window: Window,
        groups: usize,
    ) -> FlexTensor {
        let (x, grad) = (x.to_contiguous(), grad.to_contiguous());
        match groups {
            1 => conv2d::backward_weight(&x, &weight, &grad, window),
            _ => depthwise::backward_weight(&x, &weight, &grad, window),
        }
        .unwrap_or_else(|| super::conv2d::backward_weight::<Self>(x, weight, grad, window, groups))
    }

    fn tune_max_pool(x: FlexTensor, window: Window) -> FlexTensor {
        max_pool::forward(&x, window).unwrap_or_else(|| super::conv2d::max_pool::<Self>(x, window))
    }

    fn tune_max_pool_backward(x: FlexTensor, grad: FlexTensor, window: Window) -> FlexTensor {
        let grad = grad.to_contiguous();
        max_pool::backward(&x, &grad, window)
            .unwrap_or_else(|| super::conv2d::max_pool_backward::<Self>(x, grad, window))
    }

    fn tune_moments(x: FlexTensor) -> FlexTensor {
        batch_norm::moments(&x).unwrap_or_else(|| super::batch_norm::moments::<Self>(x))
    }

    fn tune_batch_norm(
        x: FlexTensor,
        residual: Option<FlexTensor>,
        gamma: FlexTensor,
        beta: FlexTensor,
        moments: FlexTensor,
        config: BatchNormConfig,
    ) -> FlexTensor {
        batch_norm::forward(&x, residual.as_ref(), &gamma, &beta, &moments, config).unwrap_or_else(
            || super::batch_norm::forward::<Self>(x, residual, gamma, beta, moments, config),
        )
    }

    fn tune_batch_norm_backward(
        x: FlexTensor,
        y: FlexTensor,
        gamma: FlexTensor,
        moments: FlexTensor,
        grad: FlexTensor,
        config: BatchNormConfig,
        needs: (bool, bool, bool),
    ) -> BatchNormGrads<Self> {
        let grad = grad.to_contiguous();
        batch_norm::backward(&x, &y, &gamma, &moments, &grad, config, needs).unwrap_or_else(|| {
            super::batch_norm::backward::<Self>(x, y, gamma, moments, grad, config, needs)
        })
    }

    fn tune_square_sum(x: FlexTensor) -> FlexTensor {
        adamw::square_sum(&x).unwrap_or_else(|| Self::float_sum(Self::float_mul(x.clone(), x)))
    }

    fn tune_adamw_step(
        parameter: FlexTensor,
        grad: FlexTensor,
        (m, v): (FlexTensor, FlexTensor),
        settings: AdamW,
    ) -> (FlexTensor, FlexTensor, FlexTensor) {
        adamw::step([parameter, m, v], &grad, settings)
            .unwrap_or_else(|[p, m, v]| super::adamw::step::<Self>(p, grad, (m, v), settings))
    }
}
