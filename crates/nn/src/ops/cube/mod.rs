//! Kernels for Burn's CubeCL backends: one source that compiles for CUDA and for WGPU (WGSL, SPIR-V or Metal). `tests/devices.rs` holds
//! each against the CPU; the default body takes what a kernel does not (another type than f32, wide heads).
//! Every sum has one order: a step gives the same bits each time on one device.

#![allow(unsafe_code)] // launches without bounds checks; each says why its kernel stays within its arrays

mod attention;
mod elementwise;
mod embedding;
mod launch;
mod losses;
mod norms;
mod products;
mod random;
mod sums;

use super::{
    AdamW, AttentionConfig, AttentionGrads, CrossEntropy, Dropout, Gate, GeluKind, LayerNormGrads,
    NextToken, Precision, RmsNormGrads, Sequences, TuneBackend, default,
};
use burn::tensor::{
    TensorMetadata,
    backend::DeviceOps,
    ops::{FloatTensor, FloatTensorOps},
};
use burn_cubecl::{BoolElement, CubeBackend, CubeRuntime, tensor::CubeTensor};
use cubecl::server::ComputeServer;
use launch::{is_f32, is_i32};
use products::Product;

impl<R, BT> TuneBackend for CubeBackend<R, f32, i32, BT>
where
    R: CubeRuntime,
    R::Server: ComputeServer,
    R::Device: DeviceOps,
    BT: BoolElement,
{
    fn tune_is_fast(precision: Precision) -> bool {
        precision == Precision::F32 || products::has_bf16(&R::client(&R::Device::default()))
    }

    fn tune_linear(
        x: CubeTensor<R>,
        weight: CubeTensor<R>,
        bias: Option<CubeTensor<R>>,
        precision: Precision,
    ) -> CubeTensor<R> {
        if !is_f32(&[&x, &weight]) {
            return default::linear::<Self>(x, weight, bias, precision);
        }
        let product = Product::by_transposed(x, weight).with_bias(bias);
        product.compute(precision)
    }

    fn tune_linear_add(
        sum: CubeTensor<R>,
        x: CubeTensor<R>,
        weight: CubeTensor<R>,
        scale: f64,
    ) -> CubeTensor<R> {
        if !is_f32(&[&sum, &x, &weight]) {
            return default::linear_add::<Self>(sum, x, weight, scale);
        }
        if x.meta.shape()[1] <= elementwise::LOW_RANK {
            return elementwise::add_low_rank(sum, x, weight, scale);
        }
        let product = Product::by_transposed(x, weight).times(scale);
        Self::float_add(sum, product.compute(Precision::F32))
    }

    fn tune_linear_backward_x(
        grad: CubeTensor<R>,
        weight: CubeTensor<R>,
        precision: Precision,
    ) -> CubeTensor<R> {
        if !is_f32(&[&grad, &weight]) {
            return default::linear_backward_x::<Self>(grad, weight, precision);
        }
        Product::plain(grad, weight).compute(precision)
    }

    fn tune_linear_backward_weight(
        grad: CubeTensor<R>,
        x: CubeTensor<R>,
        precision: Precision,
    ) -> CubeTensor<R> {
        if !is_f32(&[&grad, &x]) {
            return default::linear_backward_weight::<Self>(grad, x, precision);
        }
        Product::of_transposed(grad, x).compute(precision)
    }

    fn tune_linear_backward_bias(grad: CubeTensor<R>) -> CubeTensor<R> {
        if !is_f32(&[&grad]) {
            return default::linear_backward_bias::<Self>(grad);
        }
        sums::columns(grad)
    }

    fn tune_gelu(x: CubeTensor<R>, kind: GeluKind) -> CubeTensor<R> {
        match is_f32(&[&x]) {
            true => elementwise::gelu(x, kind),
            false => default::gelu::<Self>(x, kind),
        }
    }

    fn tune_gelu_backward(x: CubeTensor<R>, grad: CubeTensor<R>, kind: GeluKind) -> CubeTensor<R> {
        match is_f32(&[&x, &grad]) {
            true => elementwise::gelu_backward(x, grad, kind),
            false => default::gelu_backward::<Self>(x, grad, kind),
        }
    }

    fn tune_layer_norm(
        x: CubeTensor<R>,
        residual: Option<CubeTensor<R>>,
        gamma: CubeTensor<R>,
        beta: CubeTensor<R>,
        epsilon: f64,
    ) -> CubeTensor<R> {
        match is_f32(&[&x, &gamma, &beta]) {
            true => norms::forward(x, residual, gamma, Some(beta), epsilon),
            false => default::layer_norm::<Self>(x, residual, gamma, beta, epsilon),
        }
    }

    fn tune_layer_norm_backward(
        x: CubeTensor<R>,
        residual: Option<CubeTensor<R>>,
        gamma: CubeTensor<R>,
        grad: CubeTensor<R>,
        epsilon: f64,
        needs: (bool, bool),
    ) -> LayerNormGrads<Self> {
        if !is_f32(&[&x, &gamma, &grad]) || x.meta.num_elements() == 0 {
            return default::layer_norm_backward::<Self>(x, residual, gamma, grad, epsilon, needs);
        }
        norms::layer_norm_backward(x, residual, gamma, grad, epsilon, needs)
    }

    fn tune_rms_norm(x: CubeTensor<R>, gamma: CubeTensor<R>, epsilon: f64) -> CubeTensor<R> {
        match is_f32(&[&x, &gamma]) {
            true => norms::forward(x, None, gamma, None, epsilon),
            false => default::rms_norm::<Self>(x, gamma, epsilon),
        }
    }

    fn tune_rms_norm_backward(
        x: CubeTensor<R>,
        gamma: CubeTensor<R>,
        grad: CubeTensor<R>,
        epsilon: f64,
        needs: (bool, bool),
    ) -> RmsNormGrads<Self> {
        if !is_f32(&[&x, &gamma, &grad]) || x.meta.num_elements() == 0 {
            return default::rms_norm_backward::<Self>(x, gamma, grad, epsilon, needs);
        }
        norms::rms_norm_backward(x, gamma, grad, epsilon, needs)
    }

    fn tune_rotary(
        x: CubeTensor<R>,
        cos: CubeTensor<R>,
        sin: CubeTensor<R>,
        heads: usize,
    ) -> CubeTensor<R> {
        match is_f32(&[&x, &cos, &sin]) {
            true => elementwise::rotary(x, cos, sin, heads),
            false => default::rotary::<Self>(x, cos, sin, heads),
        }
    }

    fn tune_gated(gate: CubeTensor<R>, up: CubeTensor<R>, kind: Gate) -> CubeTensor<R> {
        match is_f32(&[&gate, &up]) {
            true => elementwise::gated(gate, up, kind),
            false => default::gated::<Self>(gate, up, kind),
        }
    }

    fn tune_gated_backward(
        gate: CubeTensor<R>,
        up: CubeTensor<R>,
        grad: CubeTensor<R>,
        kind: Gate,
    ) -> (CubeTensor<R>, CubeTensor<R>) {
        match is_f32(&[&gate, &up, &grad]) {
            true => elementwise::gated_backward(gate, up, grad, kind),
            false => default::gated_backward::<Self>(gate, up, grad, kind),
        }
    }

    fn tune_attention(
        q: CubeTensor<R>,
        k: CubeTensor<R>,
        v: CubeTensor<R>,
        sequences: (&Sequences, &Sequences),
        config: AttentionConfig,
    ) -> CubeTensor<R> {
        match attends(&[&q, &k, &v], sequences, config) {
            true => attention::forward(q, k, v, sequences, config),
            false => default::attention::<Self>(q, k, v, sequences, config),
        }
    }

    fn tune_attention_backward(
        q: CubeTensor<R>,
        k: CubeTensor<R>,
        v: CubeTensor<R>,
        grad: CubeTensor<R>,
        sequences: (&Sequences, &Sequences),
        config: AttentionConfig,
    ) -> AttentionGrads<Self> {
        match attends(&[&q, &k, &v, &grad], sequences, config) {
            true => attention::backward(q, k, v, grad, sequences, config),
            false => default::attention_backward::<Self>(q, k, v, grad, sequences, config),
        }
    }

    fn tune_embedding_rows_backward(
        vocabulary: usize,
        indices: CubeTensor<R>,
        grad: CubeTensor<R>,
    ) -> CubeTensor<R> {
        if !is_f32(&[&grad]) || !is_i32(&indices) {
            return default::embedding_rows_backward::<Self>(vocabulary, indices, grad);
        }
        embedding::backward(vocabulary, indices, grad)
    }

    fn tune_dropout_rows(x: CubeTensor<R>, dropout: Dropout) -> CubeTensor<R> {
        match is_f32(&[&x]) {
            true => elementwise::dropout(x, dropout),
            false => default::dropout_rows::<Self>(x, dropout),
        }
    }

    fn tune_cross_entropy(
        logits: CubeTensor<R>,
        targets: CubeTensor<R>,
        settings: &CrossEntropy,
    ) -> CubeTensor<R> {
        match classifies(&logits, &targets, settings) {
            true => losses::cross_entropy(logits, targets, None, settings),
            false => default::cross_entropy::<Self>(logits, targets, settings),
        }
    }

    fn tune_cross_entropy_backward(
        logits: CubeTensor<R>,
        targets: CubeTensor<R>,
        grad: CubeTensor<R>,
        settings: &CrossEntropy,
    ) -> CubeTensor<R> {
        match classifies(&logits, &targets, settings) && is_f32(&[&grad]) {
            true => losses::cross_entropy(logits, targets, Some(grad), settings),
            false => default::cross_entropy_backward::<Self>(logits, targets, grad, settings),
        }
    }

    fn tune_next_token(
        hidden: CubeTensor<R>,
        weight: CubeTensor<R>,
        targets: CubeTensor<R>,
        softcap: Option<f64>,
        slopes: bool,
    ) -> NextToken<Self> {
        if !is_f32(&[&hidden, &weight]) || !is_i32(&targets) || hidden.shape()[0] == 0 {
            return default::next_token::<Self>(hidden, weight, targets, softcap, slopes);
        }
        losses::next_token(hidden, weight, targets, softcap, slopes)
    }

    fn tune_next_token_backward_weight(
        hidden: CubeTensor<R>,
        weight: CubeTensor<R>,
        targets: CubeTensor<R>,
        log_sums: CubeTensor<R>,
        grad: CubeTensor<R>,
        softcap: Option<f64>,
    ) -> CubeTensor<R> {
        let all = (
            hidden.clone(),
            weight.clone(),
            targets.clone(),
            log_sums.clone(),
            grad.clone(),
        );
        if is_f32(&[&hidden, &weight, &log_sums, &grad])
            && is_i32(&targets)
            && let Some(found) =
                losses::next_token_backward_weight(hidden, weight, targets, log_sums, grad, softcap)
        {
            return found;
        }
        let (hidden, weight, targets, log_sums, grad) = all;
        default::next_token_backward_weight::<Self>(
            hidden, weight, targets, log_sums, grad, softcap,
        )
    }

    fn tune_next_token_best(
        hidden: CubeTensor<R>,
        weight: CubeTensor<R>,
        targets: CubeTensor<R>,
        softcap: Option<f64>,
    ) -> (CubeTensor<R>, CubeTensor<R>) {
        if !is_f32(&[&hidden, &weight]) || !is_i32(&targets) || hidden.shape()[0] == 0 {
            return default::next_token_best::<Self>(hidden, weight, targets, softcap);
        }
        losses::next_token_best(hidden, weight, targets, softcap)
    }

    fn tune_square_sums(tensors: Vec<CubeTensor<R>>) -> FloatTensor<Self> {
        match is_f32(&tensors.iter().collect::<Vec<_>>()) {
            true => sums::squares(tensors),
            false => default::square_sums::<Self>(tensors),
        }
    }

    fn tune_adamw_step(
        parameter: CubeTensor<R>,
        grad: CubeTensor<R>,
        moments: (CubeTensor<R>, CubeTensor<R>),
        settings: AdamW,
    ) -> (CubeTensor<R>, CubeTensor<R>, CubeTensor<R>) {
        match is_f32(&[&parameter, &grad, &moments.0, &moments.1]) {
            true => elementwise::adamw(parameter, grad, moments, settings),
            false => default::adamw_step::<Self>(parameter, grad, moments, settings),
        }
    }
}

/// Whether the attention kernels take this call.
fn attends<R: CubeRuntime>(
    tensors: &[&CubeTensor<R>],
    (queries, keys): (&Sequences, &Sequences),
    config: AttentionConfig,
) -> bool {
    let width = tensors[0].shape()[1] / config.heads;
    is_f32(tensors) && width <= attention::WIDEST && queries.tokens() > 0 && keys.tokens() > 0
}

/// Whether the kernel of classes takes this call.
fn classifies<R: CubeRuntime>(
    logits: &CubeTensor<R>,
    targets: &CubeTensor<R>,
    settings: &CrossEntropy,
) -> bool {
    is_f32(&[logits])
        && is_i32(targets)
        && settings.weights.is_none()
        && logits.shape()[1] <= losses::CLASSES
}
