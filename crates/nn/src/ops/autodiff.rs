//! The operations on `Autodiff<B, C>`: each a node with a hand-written backward pass that calls the inner backend's
//! `*_backward`. A gradient nobody asked for is not computed, and what only it needs is not kept.

use super::{
    AttentionConfig, AttentionGrads, BatchNormConfig, BatchNormGrads, CrossEntropy, Distances,
    Dropout, Gate, GeluKind, Grouped, NextToken, Precision, Relative, RelativeAttentionGrads,
    RmsNormGrads, Sequences, TuneBackend, Window,
};
use burn::backend::autodiff::{
    Autodiff, NodeId,
    checkpoint::{base::Checkpointer, strategy::CheckpointStrategy},
    grads::Gradients,
    ops::{Backward, Ops, OpsKind},
};
use burn::tensor::{
    TensorMetadata,
    backend::AutodiffBackend,
    ops::{FloatTensor, IntTensor},
};

/// Builds the node of an operation: state only where something is tracked.
macro_rules! node {
    ($op:expr, $c:ty, $parents:expr, $state:expr, $output:expr) => {
        match $op.prepare::<$c>($parents).compute_bound().stateful() {
            OpsKind::Tracked(prep) => {
                let state = $state;
                prep.finish(state, $output)
            }
            OpsKind::UnTracked(prep) => prep.finish($output),
        }
    };
}

#[derive(Debug)]
struct Linear(Precision);

/// x where the weight is tracked, the weight where x is.
#[derive(Debug, Clone)]
struct LinearState<P> {
    x: Option<P>,
    weight: Option<P>,
}

impl<B: TuneBackend, const N: usize> Backward<B, N> for Linear {
    type State = LinearState<FloatTensor<B>>;

    fn backward(self, ops: Ops<Self::State, N>, grads: &mut Gradients, _: &mut Checkpointer) {
        let grad = grads.consume::<B>(&ops.node);
        let parent = |i: usize| ops.parents.get(i).and_then(Option::as_ref);
        if let (Some(node), Some(weight)) = (parent(0), ops.state.weight) {
            let x = B::tune_linear_backward_x(grad.clone(), weight, self.0);
            grads.register::<B>(node.id, x);
        }
        let nodes = [parent(1), parent(2)].map(|node| node.map(|node| node.id));
        weight_and_bias::<B>(grad, ops.state.x, nodes, self.0, grads);
    }
}

/// Registers the gradients of a linear map's weight, which is tracked where there is an x, and of its bias.
fn weight_and_bias<B: TuneBackend>(
    grad: FloatTensor<B>,
    x: Option<FloatTensor<B>>,
    [weight, bias]: [Option<NodeId>; 2],
    precision: Precision,
    grads: &mut Gradients,
) {
    match (weight.zip(x), bias) {
        (Some((weight, x)), Some(bias)) => {
            let (for_weight, for_bias) = B::tune_linear_backward_both(grad, x, precision);
            grads.register::<B>(weight, for_weight);
            grads.register::<B>(bias, for_bias);
        }
        (Some((weight, x)), None) => {
            let for_weight = B::tune_linear_backward_weight(grad, x, precision);
            grads.register::<B>(weight, for_weight);
        }
        (None, Some(bias)) => grads.register::<B>(bias, B::tune_linear_backward_bias(grad)),
        (None, None) => {}
    }
}

/// The factor of what is added.
#[derive(Debug)]
struct LowRank(f64);

/// x, the narrow product, A and B.
#[derive(Debug, Clone)]
struct LowRankState<P> {
    x: P,
    low: P,
    a: P,
    b: P,
}

/// The parents are the sum, x, A and B.
impl<B: TuneBackend> Backward<B, 4> for LowRank {
    type State = LowRankState<FloatTensor<B>>;

    fn backward(self, ops: Ops<Self::State, 4>, grads: &mut Gradients, _: &mut Checkpointer) {
        let grad = grads.consume::<B>(&ops.node);
        let ([sum, node_x, node_a, node_b], state) = (ops.parents, ops.state);
        let needs = (node_x.is_some(), node_a.is_some() || node_b.is_some());
        if needs != (false, false) {
            let LowRankState { x, low, a, b } = state;
            let found = B::tune_low_rank_backward(grad.clone(), x, low, a, b, self.0, needs);
            let (a, b) = found.factors.unzip();
            for (node, grad) in [node_x, node_a, node_b].into_iter().zip([found.x, a, b]) {
                if let (Some(node), Some(grad)) = (node, grad) {
                    grads.register::<B>(node.id, grad);
                }
            }
        }
        if let Some(node) = sum {
            grads.register::<B>(node.id, grad);
        }
    }
}

#[derive(Debug)]
struct GroupedLinear(Precision);

/// By a weight that has no gradient: its values are made again.
impl<B: TuneBackend, const N: usize> Backward<B, N> for GroupedLinear {
    type State = Grouped<B>;

    fn backward(self, ops: Ops<Self::State, N>, grads: &mut Gradients, _: &mut Checkpointer) {
        let grad = grads.consume::<B>(&ops.node);
        let parent = |i: usize| ops.parents.get(i).and_then(Option::as_ref);
        if let Some(node) = parent(0) {
            let weight = B::tune_grouped_values(ops.state);
            let x = B::tune_linear_backward_x(grad.clone(), weight, self.0);
            grads.register::<B>(node.id, x);
        }
        if let Some(node) = parent(1) {
            grads.register::<B>(node.id, B::tune_linear_backward_bias(grad));
        }
    }
}

/// A weight in groups on the backend below.
fn grouped_below<B: TuneBackend, C: CheckpointStrategy>(
    weight: Grouped<Autodiff<B, C>>,
) -> Grouped<B> {
    Grouped {
        codes: weight.codes,
        scales: weight.scales.primitive,
        offsets: weight.offsets.primitive,
        groups: weight.groups,
    }
}

#[derive(Debug)]
struct Gelu(GeluKind);

impl<B: TuneBackend> Backward<B, 1> for Gelu {
    type State = FloatTensor<B>;

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let grad = grads.consume::<B>(&ops.node);
        if let [Some(node)] = ops.parents {
            grads.register::<B>(node.id, B::tune_gelu_backward(ops.state, grad, self.0));
        }
    }
}

/// The activation is computed again rather than kept: it is wide, and cheap against the product.
#[derive(Debug)]
struct GeluLinear(GeluKind, Precision);

/// x; the weight where x is tracked.
impl<B: TuneBackend, const N: usize> Backward<B, N> for GeluLinear {
    type State = (FloatTensor<B>, Option<FloatTensor<B>>);

    fn backward(self, ops: Ops<Self::State, N>, grads: &mut Gradients, _: &mut Checkpointer) {
        let grad = grads.consume::<B>(&ops.node);
        let Self(kind, precision) = self;
        let parent = |i: usize| ops.parents.get(i).and_then(Option::as_ref);
        let (x, weight) = ops.state;
        let active = parent(1).map(|_| B::tune_gelu(x.clone(), kind));
        let nodes = [parent(1), parent(2)].map(|node| node.map(|node| node.id));
        weight_and_bias::<B>(grad.clone(), active, nodes, precision, grads);
        if let (Some(node), Some(weight)) = (parent(0), weight) {
            let active = B::tune_linear_backward_x(grad, weight, precision);
            grads.register::<B>(node.id, B::tune_gelu_backward(x, active, kind));
        }
    }
}

#[derive(Debug)]
struct LayerNorm(f64);

/// With the residual and without: 4 parents or 3, gamma and beta last.
impl<B: TuneBackend, const N: usize> Backward<B, N> for LayerNorm {
    /// x, residual, gamma
    type State = (FloatTensor<B>, Option<FloatTensor<B>>, FloatTensor<B>);

    fn backward(self, ops: Ops<Self::State, N>, grads: &mut Gradients, _: &mut Checkpointer) {
        let grad = grads.consume::<B>(&ops.node);
        let (x, residual, gamma) = ops.state;
        let (rows, affine) = ops.parents.split_at(N - 2);
        let needs = (
            rows.iter().any(Option::is_some),
            affine.iter().any(Option::is_some),
        );
        let found = B::tune_layer_norm_backward(x, residual, gamma, grad, self.0, needs);
        if let Some(x) = found.x {
            for node in rows.iter().flatten() {
                grads.register::<B>(node.id, x.clone());
            }
        }
        if let Some((gamma, beta)) = found.affine {
            for (node, grad) in affine.iter().zip([gamma, beta]) {
                if let Some(node) = node {
                    grads.register::<B>(node.id, grad);
                }
            }
        }
    }
}

#[derive(Debug)]
struct RmsNorm(f64);

impl<B: TuneBackend> Backward<B, 2> for RmsNorm {
    /// x, gamma
    type State = (FloatTensor<B>, FloatTensor<B>);

    fn backward(self, ops: Ops<Self::State, 2>, grads: &mut Gradients, _: &mut Checkpointer) {
        let grad = grads.consume::<B>(&ops.node);
        let (x, gamma) = ops.state;
        let needs = (ops.parents[0].is_some(), ops.parents[1].is_some());
        let RmsNormGrads { x, gamma } = B::tune_rms_norm_backward(x, gamma, grad, self.0, needs);
        for (node, grad) in ops.parents.into_iter().zip([x, gamma]) {
            if let (Some(node), Some(grad)) = (node, grad) {
                grads.register::<B>(node.id, grad);
            }
        }
    }
}

/// The number of heads.
#[derive(Debug)]
struct Rotary(usize);

impl<B: TuneBackend> Backward<B, 1> for Rotary {
    /// cos, sin
    type State = (FloatTensor<B>, FloatTensor<B>);

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let grad = grads.consume::<B>(&ops.node);
        if let [Some(node)] = ops.parents {
            // A rotation's transpose turns back.
            let (cos, sin) = ops.state;
            let back = B::tune_rotary_back(grad, cos, sin, self.0);
            grads.register::<B>(node.id, back);
        }
    }
}

#[derive(Debug)]
struct Gated(Gate);

impl<B: TuneBackend> Backward<B, 2> for Gated {
    /// gate, up
    type State = (FloatTensor<B>, FloatTensor<B>);

    fn backward(self, ops: Ops<Self::State, 2>, grads: &mut Gradients, _: &mut Checkpointer) {
        let grad = grads.consume::<B>(&ops.node);
        let (gate, up) = ops.state;
        let (gate, up) = B::tune_gated_backward(gate, up, grad, self.0);
        for (node, grad) in ops.parents.into_iter().zip([gate, up]) {
            if let Some(node) = node {
                grads.register::<B>(node.id, grad);
            }
        }
    }
}

/// The softcap.
#[derive(Debug)]
struct NextTokenLosses(Option<f64>);

/// What the gradient of the weight needs.
#[derive(Debug, Clone)]
struct NextTokenWeight<P, I> {
    hidden: P,
    weight: P,
    targets: I,
    log_sums: P,
}

impl<B: TuneBackend> Backward<B, 2> for NextTokenLosses {
    /// The slopes where the hidden states are tracked; the rest where the weight is.
    type State = (
        Option<FloatTensor<B>>,
        Option<NextTokenWeight<FloatTensor<B>, IntTensor<B>>>,
    );

    fn backward(self, ops: Ops<Self::State, 2>, grads: &mut Gradients, _: &mut Checkpointer) {
        let grad = grads.consume::<B>(&ops.node);
        let ([hidden, weight], (slopes, state)) = (ops.parents, ops.state);
        if let (Some(node), Some(slopes)) = (hidden, slopes) {
            let rows = grad.shape()[0];
            let by_row = B::float_reshape(grad.clone(), [rows, 1].into());
            grads.register::<B>(node.id, B::float_mul(slopes, by_row));
        }
        if let (Some(node), Some(state)) = (weight, state) {
            let NextTokenWeight {
                hidden,
                weight,
                targets,
                log_sums,
            } = state;
            let weight =
                B::tune_next_token_backward_weight(hidden, weight, targets, log_sums, grad, self.0);
            grads.register::<B>(node.id, weight);
        }
    }
}

#[derive(Debug)]
struct Attention(Sequences, Sequences, AttentionConfig);

impl<B: TuneBackend> Backward<B, 3> for Attention {
    type State = (FloatTensor<B>, FloatTensor<B>, FloatTensor<B>);

    fn backward(self, ops: Ops<Self::State, 3>, grads: &mut Gradients, _: &mut Checkpointer) {
        let grad = grads.consume::<B>(&ops.node);
        let (q, k, v) = ops.state;
        let AttentionGrads { q, k, v } =
            B::tune_attention_backward(q, k, v, grad, (&self.0, &self.1), self.2);
        for (node, grad) in ops.parents.into_iter().zip([q, k, v]) {
            if let Some(node) = node {
                grads.register::<B>(node.id, grad);
            }
        }
    }
}

#[derive(Debug)]
struct RelativeAttention {
    distances: Distances,
    queries: Sequences,
    keys: Sequences,
    config: AttentionConfig,
}

/// The parents are q, k, v and the tables.
impl<B: TuneBackend, const N: usize> Backward<B, N> for RelativeAttention {
    type State = ([FloatTensor<B>; 3], Relative<FloatTensor<B>>);

    fn backward(self, ops: Ops<Self::State, N>, grads: &mut Gradients, _: &mut Checkpointer) {
        let grad = grads.consume::<B>(&ops.node);
        let ([q, k, v], relative) = ops.state;
        let needs = ops.parents[3..].iter().any(Option::is_some);
        let RelativeAttentionGrads {
            attention: AttentionGrads { q, k, v },
            relative,
        } = B::tune_relative_attention_backward(
            [q, k, v, grad],
            relative,
            &self.distances,
            (&self.queries, &self.keys),
            self.config,
            needs,
        );
        let tables = relative.into_iter().flatten();
        for (node, grad) in ops
            .parents
            .into_iter()
            .zip([q, k, v].into_iter().chain(tables))
        {
            if let Some(node) = node {
                grads.register::<B>(node.id, grad);
            }
        }
    }
}

#[derive(Debug)]
struct EmbeddingRows(usize);

impl<B: TuneBackend> Backward<B, 1> for EmbeddingRows {
    type State = IntTensor<B>;

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let grad = grads.consume::<B>(&ops.node);
        if let [Some(node)] = ops.parents {
            grads.register::<B>(
                node.id,
                B::tune_embedding_rows_backward(self.0, ops.state, grad),
            );
        }
    }
}

#[derive(Debug)]
struct EmbeddingAdd(usize);

impl<B: TuneBackend> Backward<B, 2> for EmbeddingAdd {
    type State = IntTensor<B>;

    fn backward(self, ops: Ops<Self::State, 2>, grads: &mut Gradients, _: &mut Checkpointer) {
        let grad = grads.consume::<B>(&ops.node);
        let [sum, table] = ops.parents;
        if let Some(node) = table {
            let rows = B::tune_embedding_rows_backward(self.0, ops.state, grad.clone());
            grads.register::<B>(node.id, rows);
        }
        if let Some(node) = sum {
            grads.register::<B>(node.id, grad);
        }
    }
}

#[derive(Debug)]
struct DropoutRows(Dropout);

impl<B: TuneBackend> Backward<B, 1> for DropoutRows {
    type State = ();

    fn backward(self, ops: Ops<(), 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let grad = grads.consume::<B>(&ops.node);
        if let [Some(node)] = ops.parents {
            // The same mask again: dropout is linear in x.
            grads.register::<B>(node.id, B::tune_dropout_rows(grad, self.0));
        }
    }
}

impl<B: TuneBackend> Backward<B, 1> for CrossEntropy {
    type State = (FloatTensor<B>, IntTensor<B>);

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let grad = grads.consume::<B>(&ops.node);
        if let [Some(node)] = ops.parents {
            let (logits, targets) = ops.state;
            grads.register::<B>(
                node.id,
                B::tune_cross_entropy_backward(logits, targets, grad, &self),
            );
        }
    }
}

#[derive(Debug)]
struct Conv2d(Window, usize, [usize; 4]);

impl<B: TuneBackend> Backward<B, 2> for Conv2d {
    /// x where the weight is tracked; the weight.
    type State = (Option<FloatTensor<B>>, FloatTensor<B>);

    fn backward(self, ops: Ops<Self::State, 2>, grads: &mut Gradients, _: &mut Checkpointer) {
        let grad = grads.consume::<B>(&ops.node);
        let Self(window, groups, size) = self;
        let ([node_x, node_weight], (x, weight)) = (ops.parents, ops.state);
        if let (Some(node), Some(x)) = (node_weight, x) {
            let (weight, grad) = (weight.clone(), grad.clone());
            grads.register::<B>(
                node.id,
                B::tune_conv2d_backward_weight(x, weight, grad, window, groups),
            );
        }
        if let Some(node) = node_x {
            grads.register::<B>(
                node.id,
                B::tune_conv2d_backward_x(size, weight, grad, window, groups),
            );
        }
    }
}

#[derive(Debug)]
struct MaxPool(Window);

impl<B: TuneBackend> Backward<B, 1> for MaxPool {
    type State = FloatTensor<B>;

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let grad = grads.consume::<B>(&ops.node);
        if let [Some(node)] = ops.parents {
            grads.register::<B>(node.id, B::tune_max_pool_backward(ops.state, grad, self.0));
        }
    }
}

#[derive(Debug)]
struct BatchNorm(BatchNormConfig);

/// x, y, gamma and the moments.
#[derive(Debug, Clone)]
struct BatchNormState<P> {
    x: P,
    y: P,
    gamma: P,
    moments: P,
}

/// The parents are x, gamma, beta and, where there is one, the residual.
impl<B: TuneBackend, const N: usize> Backward<B, N> for BatchNorm {
    type State = BatchNormState<FloatTensor<B>>;

    fn backward(self, ops: Ops<Self::State, N>, grads: &mut Gradients, _: &mut Checkpointer) {
        let grad = grads.consume::<B>(&ops.node);
        let parent = |i: usize| ops.parents.get(i).and_then(Option::as_ref);
        let needs = (
            parent(0).is_some(),
            parent(3).is_some(),
            parent(1).is_some() || parent(2).is_some(),
        );
        let BatchNormState {
            x,
            y,
            gamma,
            moments,
        } = ops.state;
        let BatchNormGrads {
            x,
            residual,
            affine,
        } = B::tune_batch_norm_backward(x, y, gamma, moments, grad, self.0, needs);
        let (gamma, beta) = affine.unzip();
        for (i, grad) in [x, gamma, beta, residual].into_iter().enumerate() {
            if let (Some(node), Some(grad)) = (parent(i), grad) {
                grads.register::<B>(node.id, grad);
            }
        }
    }
}

impl<B: TuneBackend, C: CheckpointStrategy> TuneBackend for Autodiff<B, C> {
    fn tune_is_fast(precision: Precision, device: &Self::Device) -> bool {
        B::tune_is_fast(precision, device)
    }

    fn tune_linear(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: Option<FloatTensor<Self>>,
        precision: Precision,
    ) -> FloatTensor<Self> {
        let (track_x, track_weight) = (x.is_tracked(), weight.is_tracked());
        let state = LinearState {
            x: track_weight.then(|| x.primitive.clone()),
            weight: track_x.then(|| weight.primitive.clone()),
        };
        let output = B::tune_linear(
            x.primitive,
            weight.primitive,
            bias.as_ref().map(|b| b.primitive.clone()),
            precision,
        );
        let op = Linear(precision);
        match bias {
            Some(bias) => node!(op, C, [x.node, weight.node, bias.node], state, output),
            None => node!(op, C, [x.node, weight.node], state, output),
        }
    }

    fn tune_grouped_values(weight: Grouped<Self>) -> FloatTensor<Self> {
        let values = B::tune_grouped_values(grouped_below(weight));
        <Self as AutodiffBackend>::from_inner(values)
    }

    fn tune_grouped_linear(
        x: FloatTensor<Self>,
        weight: Grouped<Self>,
        bias: Option<FloatTensor<Self>>,
        precision: Precision,
    ) -> FloatTensor<Self> {
        let weight = grouped_below(weight);
        let below = bias.as_ref().map(|b| b.primitive.clone());
        let output = B::tune_grouped_linear(x.primitive, weight.clone(), below, precision);
        let op = GroupedLinear(precision);
        match bias {
            Some(bias) => node!(op, C, [x.node, bias.node], weight, output),
            None => node!(op, C, [x.node], weight, output),
        }
    }

    fn tune_low_rank(
        sum: FloatTensor<Self>,
        x: FloatTensor<Self>,
        a: FloatTensor<Self>,
        b: FloatTensor<Self>,
        scale: f64,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        let [x_below, a_below, b_below] = [&x, &a, &b].map(|t| t.primitive.clone());
        let (output, low) = B::tune_low_rank(
            sum.primitive,
            x_below.clone(),
            a_below.clone(),
            b_below.clone(),
            scale,
        );
        let state = LowRankState {
            x: x_below,
            low: low.clone(),
            a: a_below,
            b: b_below,
        };
        let parents = [sum.node, x.node, a.node, b.node];
        let output = node!(LowRank(scale), C, parents, state, output);
        (output, <Self as AutodiffBackend>::from_inner(low))
    }

    fn tune_gelu(x: FloatTensor<Self>, kind: GeluKind) -> FloatTensor<Self> {
        let output = B::tune_gelu(x.primitive.clone(), kind);
        node!(Gelu(kind), C, [x.node], x.primitive, output)
    }

    fn tune_gelu_linear(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: Option<FloatTensor<Self>>,
        kind: GeluKind,
        precision: Precision,
    ) -> FloatTensor<Self> {
        let kept = x.is_tracked().then(|| weight.primitive.clone());
        let output = B::tune_gelu_linear(
            x.primitive.clone(),
            weight.primitive,
            bias.as_ref().map(|b| b.primitive.clone()),
            kind,
            precision,
        );
        let (op, state) = (GeluLinear(kind, precision), (x.primitive, kept));
        match bias {
            Some(bias) => node!(op, C, [x.node, weight.node, bias.node], state, output),
            None => node!(op, C, [x.node, weight.node], state, output),
        }
    }

    fn tune_layer_norm(
        x: FloatTensor<Self>,
        residual: Option<FloatTensor<Self>>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        epsilon: f64,
    ) -> FloatTensor<Self> {
        let output = B::tune_layer_norm(
            x.primitive.clone(),
            residual.as_ref().map(|r| r.primitive.clone()),
            gamma.primitive.clone(),
            beta.primitive,
            epsilon,
        );
        let op = LayerNorm(epsilon);
        match residual {
            None => node!(
                op,
                C,
                [x.node, gamma.node, beta.node],
                (x.primitive, None, gamma.primitive),
                output
            ),
            Some(residual) => node!(
                op,
                C,
                [x.node, residual.node, gamma.node, beta.node],
                (x.primitive, Some(residual.primitive), gamma.primitive),
                output
            ),
        }
    }

    fn tune_rms_norm(
        x: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        epsilon: f64,
    ) -> FloatTensor<Self> {
        let output = B::tune_rms_norm(x.primitive.clone(), gamma.primitive.clone(), epsilon);
        let state = (x.primitive, gamma.primitive);
        node!(RmsNorm(epsilon), C, [x.node, gamma.node], state, output)
    }

    fn tune_rotary(
        x: FloatTensor<Self>,
        cos: FloatTensor<Self>,
        sin: FloatTensor<Self>,
        heads: usize,
    ) -> FloatTensor<Self> {
        let state = (cos.primitive, sin.primitive);
        let output = B::tune_rotary(x.primitive, state.0.clone(), state.1.clone(), heads);
        node!(Rotary(heads), C, [x.node], state, output)
    }

    fn tune_gated(gate: FloatTensor<Self>, up: FloatTensor<Self>, kind: Gate) -> FloatTensor<Self> {
        let state = (gate.primitive, up.primitive);
        let output = B::tune_gated(state.0.clone(), state.1.clone(), kind);
        node!(Gated(kind), C, [gate.node, up.node], state, output)
    }

    fn tune_next_token_losses(
        hidden: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        targets: IntTensor<Self>,
        softcap: Option<f64>,
    ) -> FloatTensor<Self> {
        let NextToken {
            losses,
            log_sums,
            slopes,
        } = B::tune_next_token(
            hidden.primitive.clone(),
            weight.primitive.clone(),
            targets.clone(),
            softcap,
            hidden.is_tracked(),
        );
        let state = weight.is_tracked().then(|| NextTokenWeight {
            hidden: hidden.primitive,
            weight: weight.primitive,
            targets,
            log_sums,
        });
        let parents = [hidden.node, weight.node];
        node!(
            NextTokenLosses(softcap),
            C,
            parents,
            (slopes, state),
            losses
        )
    }

    fn tune_next_token_best(
        hidden: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        targets: IntTensor<Self>,
        softcap: Option<f64>,
    ) -> (FloatTensor<Self>, IntTensor<Self>) {
        let (losses, best) =
            B::tune_next_token_best(hidden.primitive, weight.primitive, targets, softcap);
        (<Self as AutodiffBackend>::from_inner(losses), best)
    }

    fn tune_attention(
        q: FloatTensor<Self>,
        k: FloatTensor<Self>,
        v: FloatTensor<Self>,
        sequences: (&Sequences, &Sequences),
        config: AttentionConfig,
    ) -> FloatTensor<Self> {
        let output = B::tune_attention(
            q.primitive.clone(),
            k.primitive.clone(),
            v.primitive.clone(),
            sequences,
            config,
        );
        let op = Attention(sequences.0.clone(), sequences.1.clone(), config);
        node!(
            op,
            C,
            [q.node, k.node, v.node],
            (q.primitive, k.primitive, v.primitive),
            output
        )
    }

    fn tune_relative_attention(
        qkv: [FloatTensor<Self>; 3],
        relative: Relative<FloatTensor<Self>>,
        distances: &Distances,
        sequences: (&Sequences, &Sequences),
        config: AttentionConfig,
    ) -> FloatTensor<Self> {
        let below = qkv.each_ref().map(|x| x.primitive.clone());
        let tables = relative.as_ref().map(|table| table.primitive.clone());
        let state = (below.clone(), tables.clone());
        let output = B::tune_relative_attention(below, tables, distances, sequences, config);
        let op = RelativeAttention {
            distances: distances.clone(),
            queries: sequences.0.clone(),
            keys: sequences.1.clone(),
            config,
        };
        let [q, k, v] = qkv.map(|x| x.node);
        match relative.map(|table| table.node) {
            Relative::Bias(bias) => node!(op, C, [q, k, v, bias], state, output),
            Relative::Vectors { keys, queries } => {
                node!(op, C, [q, k, v, keys, queries], state, output)
            }
        }
    }

    fn tune_embedding_rows(
        table: FloatTensor<Self>,
        indices: IntTensor<Self>,
    ) -> FloatTensor<Self> {
        let rows = table.primitive.shape()[0];
        let output = B::tune_embedding_rows(table.primitive, indices.clone());
        node!(EmbeddingRows(rows), C, [table.node], indices, output)
    }

    fn tune_embedding_add(
        sum: FloatTensor<Self>,
        table: FloatTensor<Self>,
        indices: IntTensor<Self>,
    ) -> FloatTensor<Self> {
        let op = EmbeddingAdd(table.primitive.shape()[0]);
        let output = B::tune_embedding_add(sum.primitive, table.primitive, indices.clone());
        node!(op, C, [sum.node, table.node], indices, output)
    }

    fn tune_dropout_rows(x: FloatTensor<Self>, dropout: Dropout) -> FloatTensor<Self> {
        let output = B::tune_dropout_rows(x.primitive, dropout);
        node!(DropoutRows(dropout), C, [x.node], (), output)
    }

    fn tune_cross_entropy(
        logits: FloatTensor<Self>,
        targets: IntTensor<Self>,
        settings: &CrossEntropy,
    ) -> FloatTensor<Self> {
        let output = B::tune_cross_entropy(logits.primitive.clone(), targets.clone(), settings);
        node!(
            settings.clone(),
            C,
            [logits.node],
            (logits.primitive, targets),
            output
        )
    }

    fn tune_conv2d(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        window: Window,
        groups: usize,
    ) -> FloatTensor<Self> {
        let shape = x.primitive.shape();
        let op = Conv2d(window, groups, [shape[0], shape[1], shape[2], shape[3]]);
        let kept = weight.is_tracked().then(|| x.primitive.clone());
        let output = B::tune_conv2d(x.primitive, weight.primitive.clone(), window, groups);
        node!(
            op,
            C,
            [x.node, weight.node],
            (kept, weight.primitive),
            output
        )
    }

    fn tune_max_pool(x: FloatTensor<Self>, window: Window) -> FloatTensor<Self> {
        let output = B::tune_max_pool(x.primitive.clone(), window);
        node!(MaxPool(window), C, [x.node], x.primitive, output)
    }

    fn tune_moments(x: FloatTensor<Self>) -> FloatTensor<Self> {
        <Self as AutodiffBackend>::from_inner(B::tune_moments(x.primitive))
    }

    fn tune_batch_norm(
        x: FloatTensor<Self>,
        residual: Option<FloatTensor<Self>>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        moments: FloatTensor<Self>,
        config: BatchNormConfig,
    ) -> FloatTensor<Self> {
        let output = B::tune_batch_norm(
            x.primitive.clone(),
            residual.as_ref().map(|r| r.primitive.clone()),
            gamma.primitive.clone(),
            beta.primitive,
            moments.primitive.clone(),
            config,
        );
        let state = BatchNormState {
            x: x.primitive,
            y: output.clone(),
            gamma: gamma.primitive,
            moments: moments.primitive,
        };
        let op = BatchNorm(config);
        match residual {
            Some(residual) => {
                let parents = [x.node, gamma.node, beta.node, residual.node];
                node!(op, C, parents, state, output)
            }
            None => node!(op, C, [x.node, gamma.node, beta.node], state, output),
        }
    }
}
