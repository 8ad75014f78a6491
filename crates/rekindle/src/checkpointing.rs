//! Gradient checkpointing (Chen et al. 2016): of a forward pass only what each unit of the model puts out is kept, and the backward
//! pass computes a unit again before it goes through it. Each unit is a graph of its own, so that at any time one unit's
//! activations are in memory; that costs a second forward pass. Dropout is a function of the pass, so both see the same.

use burn::{
    module::AutodiffModule,
    tensor::{Tensor, backend::AutodiffBackend},
};
use rekindle_models::{Activations, Input, Model};
use rekindle_nn::{Pass, TuneAutodiff};
use rekindle_train::Gradients;

/// Adds to `grads` the gradients of `loss` of what the model's head reads, and returns its value `[1]`.
///
/// # Panics
/// If units of the model put out pictures: their norms' moments would move twice.
pub(crate) fn backward_by_unit<B: TuneAutodiff>(
    model: &Model<B>,
    input: Input<<B as AutodiffBackend>::InnerBackend>,
    pass: Pass,
    loss: impl FnOnce(Activations<B>) -> Tensor<B, 1>,
    grads: &mut Gradients<B>,
) -> Tensor<<B as AutodiffBackend>::InnerBackend, 1> {
    let (trains, last) = (model.training_units(), model.units() - 1);
    let frozen = trains.iter().take_while(|&&trains| !trains).count();
    let names = model.names();
    let plain = model.valid();
    // What goes into each unit that trains, or lies above one that does.
    let first = frozen.min(last);
    let mut inputs = vec![plain.begin(input, first, pass)];
    for unit in first..last {
        let x = inputs[unit - first].clone();
        let pass = match trains[unit] {
            true => pass.training_block(),
            false => pass,
        };
        inputs.push(plain.run(x, unit..unit + 1, pass));
    }
    drop(plain);

    let (mut loss, mut value, mut slope) = (Some(loss), None, None);
    for (unit, x) in (first..last + 1).zip(inputs).rev() {
        let x = Activations::<B>::from_inner(x);
        let x = if unit > first { x.tracked() } else { x };
        let y = model.run(x.clone(), unit..unit + 1, pass);
        let sum = match (loss.take(), slope.take().zip(y.rows())) {
            (Some(loss), _) => {
                let sum = loss(y);
                value = Some(sum.clone().inner());
                sum
            }
            // Its gradient in y is what came from above.
            (None, Some((slope, y))) => (y.clone() * Tensor::from_inner(slope)).sum(),
            (None, None) => break,
        };
        let mut tape = sum.backward();
        grads.add(&mut tape, model, names);
        slope = x.rows().and_then(|x| x.grad_remove(&mut tape));
    }
    // The last unit always goes first.
    value.unwrap_or_else(|| Tensor::zeros([1], &Default::default()))
}
