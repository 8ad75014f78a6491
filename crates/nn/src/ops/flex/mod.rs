//! Kernels for the CPU backend, one file an operation. Each works on contiguous f32 and hands anything else to the
//! default body. Work is cut into pieces of a fixed size and summed in a fixed order, so the number of threads changes
//! no bit.
#![allow(unsafe_code)]
// An `Err` of these kernels hands the operands back to the default body; it is no error on its way up.
#![allow(clippy::result_large_err)]

mod adamw;
mod attention;
mod cross_entropy;
mod dropout;
mod embedding;
mod gelu;
#[cfg(test)]
mod laws;
mod layer_norm;
mod linear;
mod math;
#[cfg(test)]
mod times;
mod util;

use super::{
    AdamW, AttentionConfig, AttentionGrads, Dropout, GeluKind, LayerNormGrads, Sequences,
    TuneBackend,
};
use burn::backend::{Flex, flex::FlexTensor};
use burn::tensor::ops::FloatTensorOps;

impl TuneBackend for Flex {
    fn tune_linear(x: FlexTensor, weight: FlexTensor, bias: Option<FlexTensor>) -> FlexTensor {
        linear::forward(&x, &weight, bias.as_ref())
            .unwrap_or_else(|| super::linear::forward::<Self>(x, weight, bias))
    }

    fn tune_linear_backward_x(grad: FlexTensor, weight: FlexTensor) -> FlexTensor {
        linear::backward_x(&grad, &weight).unwrap_or_else(|| Self::float_matmul(grad, weight))
    }

    fn tune_linear_backward_weight(grad: FlexTensor, x: FlexTensor) -> FlexTensor {
        linear::backward_weight(&grad, &x)
            .unwrap_or_else(|| Self::float_matmul(Self::float_transpose(grad), x))
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
        gamma: FlexTensor,
        beta: FlexTensor,
        epsilon: f64,
    ) -> FlexTensor {
        layer_norm::forward(&x, &gamma, &beta, epsilon)
            .unwrap_or_else(|| super::layer_norm::forward::<Self>(x, gamma, beta, epsilon))
    }

    fn tune_layer_norm_backward(
        x: FlexTensor,
        gamma: FlexTensor,
        grad: FlexTensor,
        epsilon: f64,
        needs: (bool, bool),
    ) -> LayerNormGrads<Self> {
        layer_norm::backward(&x, &gamma, &grad, epsilon, needs)
            .unwrap_or_else(|| super::layer_norm::backward::<Self>(x, gamma, grad, epsilon, needs))
    }

    fn tune_attention(
        q: FlexTensor,
        k: FlexTensor,
        v: FlexTensor,
        sequences: &Sequences,
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
        sequences: &Sequences,
        config: AttentionConfig,
    ) -> AttentionGrads<Self> {
        attention::backward([&q, &k, &v, &grad], sequences, config)
            .unwrap_or_else(|| super::attention::backward::<Self>(q, k, v, grad, sequences, config))
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
        label_smoothing: f64,
    ) -> FlexTensor {
        cross_entropy::forward(&logits, &targets, label_smoothing).unwrap_or_else(|| {
            super::cross_entropy::forward::<Self>(logits, targets, label_smoothing)
        })
    }

    fn tune_cross_entropy_backward(
        logits: FlexTensor,
        targets: FlexTensor,
        grad: FlexTensor,
        label_smoothing: f64,
    ) -> FlexTensor {
        cross_entropy::backward(&logits, &targets, &grad, label_smoothing).unwrap_or_else(|| {
            super::cross_entropy::backward::<Self>(logits, targets, grad, label_smoothing)
        })
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
