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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use burn::backend::{Autodiff, Flex};
    use rekindle_data::TextBatch;
    use rekindle_models::{HeadSpec, Pretrained, Problem, Reads};
    use rekindle_nn::{
        host,
        params::{self, ParamRef},
    };
    use std::{collections::BTreeMap, path::Path};

    type Tuning = Autodiff<Flex>;

    /// Of the largest number of a gradient: sums of the same numbers in another order.
    const SAME: f32 = 1e-5;

    /// The tiny BERT, with dropout.
    fn model() -> Model<Tuning> {
        let dir = "../../tests/golden/tiny_embeddings/bert/model";
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join(dir);
        let head = HeadSpec {
            outputs: 0,
            labels: Vec::new(),
            problem: Problem::Embedding,
            reads: Some(Reads::Mean),
            seed: 1,
            require: true,
        };
        let pretrained = Pretrained::open(&dir).unwrap();
        let (model, _) = Model::from_pretrained(&pretrained, &head, &Default::default()).unwrap();
        params::set_trainable(model, &mut |_| true).with_dropout(0.2)
    }

    /// Seven texts of 2 to 8 tokens.
    fn batch() -> HostInput {
        let mut batch = TextBatch {
            offsets: vec![0],
            ..TextBatch::default()
        };
        for text in 0..7 {
            let length = 2 + (text * 5) % 7;
            batch
                .ids
                .extend((0..length).map(|i| (7 * text + 3 * i) as i32 % 100));
            batch.positions.extend(0..length as i32);
            batch.offsets.push(batch.ids.len());
            batch.indices.push(text);
        }
        batch.type_ids = vec![0; batch.ids.len()];
        HostInput::Text(batch)
    }

    /// Every text against every other.
    fn loss(x: Tensor<Tuning, 2>) -> Tensor<Tuning, 1> {
        let lengths = (x.clone() * x.clone()).sum_dim(1).sqrt();
        let x = x / lengths;
        (x.clone().matmul(x.transpose()) * 3.0).exp().sum().log()
    }

    fn values(grads: &Gradients<Tuning>, model: &Model<Tuning>) -> BTreeMap<String, Vec<f32>> {
        let mut all = BTreeMap::new();
        params::visit(model, &mut |param: ParamRef<'_, Tuning>| {
            let name = model.names().published(param.path);
            if let Some(grad) = grads.get(&name) {
                all.insert(name, host::to_host::<Flex>(grad.clone()).unwrap().values);
            }
        });
        all
    }

    #[test]
    fn parts_have_the_gradient_of_the_whole() {
        let (model, device) = (model(), Default::default());
        let pass = Pass::training(3, 1);
        for most in [3, 7] {
            let parts = batch().parts(most);
            // One graph of all parts, each with its own dropout.
            let embeddings = parts.iter().enumerate().map(|(i, part)| {
                let input = part.to_device::<Tuning>(&device);
                pooled(model.begin(input, model.units(), pass.child(i as u64)))
            });
            let whole = loss(Tensor::cat(embeddings.collect(), 0));
            let mut expected = Gradients::default();
            expected.backward(&whole, &model, model.names());
            let expected = values(&expected, &model);
            assert!(expected.len() > 30, "{:?}", expected.keys());
            for saves in [false, true] {
                let mut grads = Gradients::default();
                let value =
                    backward_in_parts(&model, &parts, pass, saves, loss, &mut grads, &device);
                let value = host::values(value).unwrap()[0];
                let right = host::values(whole.clone().inner()).unwrap()[0];
                assert!((value - right).abs() < 1e-5, "{value} is not {right}");
                let found = values(&grads, &model);
                for (name, right) in &expected {
                    let most = right.iter().fold(1e-6f32, |most, v| most.max(v.abs()));
                    let apart = right.iter().zip(&found[name]).map(|(a, b)| (a - b).abs());
                    let apart = apart.fold(0.0, f32::max) / most;
                    // Key biases have no gradient but rounding.
                    assert!(apart < SAME || most < 1e-5, "{name}: {apart:e} of {most:e}");
                }
            }
        }
    }
}
