//! Kernels for Burn's CubeCL backends: one source that compiles for CUDA and for WGPU (WGSL, SPIR-V or Metal). `tests/devices.rs` holds
//! each against the CPU; the default body takes what a kernel does not (another type than f32, wide heads).
//! Every sum has one order: a step gives the same bits each time on one device.

#![allow(unsafe_code)] // launches without bounds checks; each says why its kernel stays within its arrays

mod attention;
mod conv;
mod elementwise;
mod embedding;
mod launch;
mod losses;
mod low_rank;
mod norms;
mod optimizer;
mod pictures;
mod products;
mod random;
mod sums;
mod vectors;

use super::{
    AdamWOperand, AdamWResult, AttentionConfig, AttentionGrads, BatchNormConfig, BatchNormGrads,
    CrossEntropy, Dropout, Gate, GeluKind, LayerNormGrads, LowRankGrads, NextToken, Precision,
    RmsNormGrads, Sequences, TuneBackend, Window, default,
};
use burn::tensor::{
    TensorMetadata,
    backend::DeviceOps,
    ops::{FloatTensor, FloatTensorOps},
};
use burn_cubecl::{BoolElement, CubeBackend, CubeRuntime, tensor::CubeTensor};
use cubecl::server::ComputeServer;
pub use launch::use_gpu_kernels;
use launch::{is_f32, is_i32};
use products::Product;

impl<R, BT> TuneBackend for CubeBackend<R, f32, i32, BT>
where
    R: CubeRuntime,
    R::Server: ComputeServer,
    R::Device: DeviceOps,
    BT: BoolElement,
{
    fn tune_is_fast(precision: Precision, device: &Self::Device) -> bool {
        precision == Precision::F32 || products::in_matrix_units(precision, &R::client(device))
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

    fn tune_low_rank(
        sum: CubeTensor<R>,
        x: CubeTensor<R>,
        a: CubeTensor<R>,
        b: CubeTensor<R>,
        scale: f64,
    ) -> (CubeTensor<R>, CubeTensor<R>) {
        match narrows(&[&sum, &x, &a, &b], &a) {
            true => low_rank::forward(sum, x, a, b, scale),
            false => default::low_rank::<Self>(sum, x, a, b, scale),
        }
    }

    fn tune_low_rank_backward(
        grad: CubeTensor<R>,
        x: CubeTensor<R>,
        low: CubeTensor<R>,
        a: CubeTensor<R>,
        b: CubeTensor<R>,
        scale: f64,
        needs: (bool, bool),
    ) -> LowRankGrads<Self> {
        match narrows(&[&grad, &x, &low, &a, &b], &a) {
            true => low_rank::backward(grad, x, low, a, b, scale, needs),
            false => default::low_rank_backward::<Self>(grad, x, low, a, b, scale, needs),
        }
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

    fn tune_linear_backward_both(
        grad: CubeTensor<R>,
        x: CubeTensor<R>,
        precision: Precision,
    ) -> (CubeTensor<R>, CubeTensor<R>) {
        // The product in matrix units is not ours.
        let ours = !products::in_matrix_units(precision, &grad.client);
        match ours && covers(&[&grad, &x]) {
            true => Product::of_transposed(grad, x).with_sums(precision),
            false => default::linear_backward_both::<Self>(grad, x, precision),
        }
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
            true => elementwise::rotary(x, cos, sin, heads, 1.0),
            false => default::rotary::<Self>(x, cos, sin, heads),
        }
    }

    fn tune_rotary_back(
        x: CubeTensor<R>,
        cos: CubeTensor<R>,
        sin: CubeTensor<R>,
        heads: usize,
    ) -> CubeTensor<R> {
        match is_f32(&[&x, &cos, &sin]) {
            true => elementwise::rotary(x, cos, sin, heads, -1.0),
            false => default::rotary_back::<Self>(x, cos, sin, heads),
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

    fn tune_conv2d(
        x: CubeTensor<R>,
        weight: CubeTensor<R>,
        window: Window,
        groups: usize,
    ) -> CubeTensor<R> {
        match covers(&[&x, &weight]) {
            true => conv::forward(x, weight, window, groups),
            false => default::conv2d::<Self>(x, weight, window, groups),
        }
    }

    fn tune_conv2d_backward_x(
        size: [usize; 4],
        weight: CubeTensor<R>,
        grad: CubeTensor<R>,
        window: Window,
        groups: usize,
    ) -> CubeTensor<R> {
        match covers(&[&weight, &grad]) {
            true => conv::backward_x(size, weight, grad, window, groups),
            false => default::conv2d_backward_x::<Self>(size, weight, grad, window, groups),
        }
    }

    fn tune_conv2d_backward_weight(
        x: CubeTensor<R>,
        weight: CubeTensor<R>,
        grad: CubeTensor<R>,
        window: Window,
        groups: usize,
    ) -> CubeTensor<R> {
        match covers(&[&x, &weight, &grad]) {
            true => conv::backward_weight(x, weight, grad, window, groups),
            false => default::conv2d_backward_weight::<Self>(x, weight, grad, window, groups),
        }
    }

    fn tune_max_pool(x: CubeTensor<R>, window: Window) -> CubeTensor<R> {
        match covers(&[&x]) {
            true => pictures::max_pool(x, window),
            false => default::max_pool::<Self>(x, window),
        }
    }

    fn tune_max_pool_backward(
        x: CubeTensor<R>,
        grad: CubeTensor<R>,
        window: Window,
    ) -> CubeTensor<R> {
        match covers(&[&x, &grad]) {
            true => pictures::max_pool_backward(x, grad, window),
            false => default::max_pool_backward::<Self>(x, grad, window),
        }
    }

    fn tune_moments(x: CubeTensor<R>) -> CubeTensor<R> {
        match covers(&[&x]) {
            true => pictures::moments(x),
            false => default::moments::<Self>(x),
        }
    }

    fn tune_batch_norm(
        x: CubeTensor<R>,
        residual: Option<CubeTensor<R>>,
        gamma: CubeTensor<R>,
        beta: CubeTensor<R>,
        moments: CubeTensor<R>,
        config: BatchNormConfig,
    ) -> CubeTensor<R> {
        match covers(&[&x, &gamma, &beta, &moments]) {
            true => pictures::batch_norm(x, residual, gamma, beta, moments, config),
            false => default::batch_norm::<Self>(x, residual, gamma, beta, moments, config),
        }
    }

    fn tune_batch_norm_backward(
        x: CubeTensor<R>,
        y: CubeTensor<R>,
        gamma: CubeTensor<R>,
        moments: CubeTensor<R>,
        grad: CubeTensor<R>,
        config: BatchNormConfig,
        needs: (bool, bool, bool),
    ) -> BatchNormGrads<Self> {
        match covers(&[&x, &y, &gamma, &moments, &grad]) {
            true => pictures::batch_norm_backward(x, y, gamma, moments, grad, config, needs),
            false => {
                default::batch_norm_backward::<Self>(x, y, gamma, moments, grad, config, needs)
            }
        }
    }

    fn tune_square_sums(tensors: Vec<CubeTensor<R>>) -> FloatTensor<Self> {
        match is_f32(&tensors.iter().collect::<Vec<_>>()) {
            true => optimizer::squares(tensors),
            false => default::square_sums::<Self>(tensors),
        }
    }

    fn tune_clip(losses: CubeTensor<R>, squares: CubeTensor<R>, max_norm: f64) -> CubeTensor<R> {
        match is_f32(&[&losses, &squares]) {
            true => optimizer::clip(losses, squares, max_norm),
            false => default::clip::<Self>(losses, squares, max_norm),
        }
    }

    fn tune_adamw_steps(
        operands: Vec<AdamWOperand<Self>>,
        factor: CubeTensor<R>,
    ) -> Vec<AdamWResult<Self>> {
        let fits =
            |o: &AdamWOperand<Self>| is_f32(&[&o.parameter, &o.grad, &o.moments.0, &o.moments.1]);
        match is_f32(&[&factor]) && operands.iter().all(fits) {
            true => optimizer::adamw(operands, factor),
            false => default::adamw_steps::<Self>(operands, factor),
        }
    }
}

/// Whether the kernels of a low-rank path take this call, whose narrow factor is `a [r, I]`.
fn narrows<R: CubeRuntime>(tensors: &[&CubeTensor<R>], a: &CubeTensor<R>) -> bool {
    covers(tensors) && a.meta.shape()[0] <= low_rank::LARGEST
}

/// Whether the kernels of pictures take this call.
fn covers<R: CubeRuntime>(tensors: &[&CubeTensor<R>]) -> bool {
    is_f32(tensors) && tensors.iter().all(|x| x.meta.num_elements() > 0)
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
