//! Gradient caching (Gao et al. 2021, "Scaling Deep Contrastive Learning Batch Size under Memory Limited Setup"): a loss that
//! compares all texts of a large batch, in the memory of a small one. The texts go through the model in parts, first without
//! their graphs; the loss of all embeddings gives its gradient in each of them; then each part goes through again, with its graph,
//! and hands its part of that gradient on. Dropout is a function of the pass and the part, so both times it is the same.

use crate::{checkpointing::backward_by_unit, inputs::HostInput};
use burn::tensor::{Tensor, backend::AutodiffBackend};
use rekindle_models::{Activations, Model};
use rekindle_nn::{Pass, TuneAutodiff, TuneBackend};
use rekindle_train::Gradients;

/// What the backbone's pooling gives, `[B, D]`.
///
/// # Panics
/// Of what no encoder puts out.
pub(crate) fn pooled<B: TuneBackend>(x: Activations<B>) -> Tensor<B, 2> {
    match x {
        Activations::Pooled(x) => x,
        _ => unreachable!("an encoder pools"),
    }
}

/// Adds to `grads` the gradients of `loss` of the embeddings `[R, D]` of the texts of all parts, and returns its value `[1]`. `saves`: each
/// part keeps what the units of the model put out, and nothing else.
pub(crate) fn backward_in_parts<B: TuneAutodiff>(
    model: &Model<B>,
    parts: &[HostInput],
    pass: Pass,
    saves: bool,
    loss: impl FnOnce(Tensor<B, 2>) -> Tensor<B, 1>,
    grads: &mut Gradients<B>,
    device: &B::Device,
) -> Tensor<<B as AutodiffBackend>::InnerBackend, 1> {
    let names = model.names();
    let embed = |i: usize| {
        let input = parts[i].to_device::<B>(device);
        pooled(model.begin(input, model.units(), pass.child(i as u64)))
    };
    // The graph of a part is gone with the end of its turn.
    let embeddings = (0..parts.len()).map(|i| embed(i).inner()).collect();
    let all = Tensor::<B, 2>::from_inner(Tensor::cat(embeddings, 0)).require_grad();
    let loss = loss(all.clone());
    let mut tape = loss.backward();
    let Some(slope) = all.grad_remove(&mut tape) else {
        return loss.inner();
    };
    let (mut own, mut first) = (Gradients::default(), 0);
    for (i, part) in parts.iter().enumerate() {
        let rows = part.texts();
        let slope = Tensor::from_inner(slope.clone().narrow(0, first, rows));
        first += rows;
        if saves {
            let (input, pass) = (part.to_device(device), pass.child(i as u64));
            let along = |x| (pooled(x) * slope).sum();
            let mut of_part = Gradients::default();
            backward_by_unit(model, input, pass, along, &mut of_part);
            own.merge(of_part);
        } else {
            own.backward(&(embed(i) * slope).sum(), model, names);
        }
    }
    grads.merge(own);
    loss.inner()
}
