//! What a GPU must compute as the CPU does before it gets a job: a linear layer, a LoRA step and attention, forward and backward. A
//! driver that is broken or too old for the kernels shows here, in a moment, and not as a model that learned nothing.

use crate::{Sequences, TuneAutodiff, host, ops};
use burn::{
    backend::{Autodiff, Flex},
    tensor::{Tensor, TensorData, backend::Backend},
};
use rekindle_base::rng;

/// Largest difference, of the root mean square of each result: two orders above other orders of summation, and below the
/// rounding of factors to TF32 or bf16.
const TOLERANCE: f64 = 2e-4;

/// Tokens, width, rank and heads: no multiples of a tile.
const TOKENS: usize = 45;
const WIDTH: usize = 24;
const RANK: usize = 8;
const HEADS: usize = 3;

/// What a device gave: a name and values each.
type Results = Vec<(&'static str, Vec<f32>)>;

/// Whether a device computes as the CPU does.
///
/// # Errors
/// What it computes wrongly, and why it must not be used.
pub fn self_test<B: TuneAutodiff>(device: &B::Device) -> Result<(), String> {
    let expected = results::<Autodiff<Flex>>(&Default::default())?;
    verdict(&results::<B>(device)?, &expected)
}

/// The first result that is not as expected.
fn verdict(found: &Results, expected: &Results) -> Result<(), String> {
    for ((what, found), (_, expected)) in found.iter().zip(expected) {
        let squares = expected.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>();
        let scale = (squares / expected.len() as f64).sqrt();
        let apart = found.iter().zip(expected).map(|(&a, &b)| {
            let apart = (f64::from(a) - f64::from(b)).abs() / scale;
            if apart.is_nan() { f64::INFINITY } else { apart }
        });
        let largest = apart.fold(0.0, f64::max);
        if found.len() != expected.len() || largest > TOLERANCE {
            return Err(format!(
                "its {what} differs from the CPU's by {largest:.1e} of itself, allowed {TOLERANCE:.0e}"
            ));
        }
    }
    Ok(())
}

/// Output and gradients of the three.
fn results<B: TuneAutodiff>(device: &B::Device) -> Result<Results, String> {
    let matrix = |key: u64, rows: usize, columns: usize| {
        let values: Vec<f32> = (0..(rows * columns) as u64)
            .map(|i| (2.0 * rng::uniform(key, i) - 1.0) as f32)
            .collect();
        Tensor::<B, 2>::from_data(TensorData::new(values, [rows, columns]), device)
    };
    let leaf = |key, rows, columns| matrix(key, rows, columns).require_grad();
    let (x, weight) = (leaf(1, TOKENS, WIDTH), leaf(2, WIDTH, WIDTH));
    let (a, b) = (leaf(3, RANK, WIDTH), leaf(4, WIDTH, RANK));
    let [k, v] = [5, 6].map(|key| leaf(key, TOKENS, WIDTH));
    let bias = matrix(7, 1, WIDTH).reshape([WIDTH]);
    let linear = ops::linear(x.clone(), weight.clone(), Some(bias), ops::Precision::F32);
    let adapted = ops::low_rank(linear.clone(), x.clone(), a.clone(), b.clone(), 0.5);
    let sequences = Sequences::from_lengths(&[TOKENS - 9, 9]);
    let config = ops::AttentionConfig::new(HEADS);
    let (both, keys) = ((&sequences, &sequences), k.clone());
    let attended = ops::attention(adapted.clone(), keys, v.clone(), both, config);
    let weights = matrix(8, TOKENS, WIDTH);
    let mut grads = (attended.clone() * weights).sum().backward();
    let mut results = Vec::new();
    for (what, tensor) in [
        ("linear layer", linear),
        ("low-rank path", adapted),
        ("attention", attended),
    ] {
        results.push((what, read(tensor)?));
    }
    for (what, leaf) in [
        ("gradient of an input", x),
        ("gradient of a weight", weight),
        ("gradient of an adapter", a),
        ("gradient of an adapter", b),
        ("gradient of keys", k),
        ("gradient of values", v),
    ] {
        let grad = leaf.grad_remove(&mut grads);
        results.push((what, read(grad.ok_or("it gives no gradient")?)?));
    }
    Ok(results)
}

fn read<B: Backend>(tensor: Tensor<B, 2>) -> Result<Vec<f32>, String> {
    host::values(tensor).map_err(|error| error.reason)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_is_computed_wrongly_is_named() {
        let expected = results::<Autodiff<Flex>>(&Default::default()).unwrap();
        assert_eq!(verdict(&expected, &expected), Ok(()));
        for (place, wrong) in [(0, 0.01), (2, f32::NAN), (5, f32::INFINITY)] {
            let mut found = expected.clone();
            found[place].1[7] += wrong;
            let reason = verdict(&found, &expected).unwrap_err();
            assert!(reason.contains(expected[place].0), "{reason}");
        }
        let mut short = expected.clone();
        short[1].1.pop();
        assert!(verdict(&short, &expected).is_err());
    }
}
