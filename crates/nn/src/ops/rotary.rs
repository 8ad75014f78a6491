//! Rotary positions (Su et al. 2021) as Llama has them: value i of a head is paired with value `i + R/2`, not with its
//! neighbour. With tables narrower than half a head, only the first R values of each head turn.

use super::{TuneBackend, primitive, tensor};
use burn::tensor::{Tensor, ops::FloatTensor};

/// The default body of [`TuneBackend::tune_rotary`].
pub fn apply<B: TuneBackend>(
    x: FloatTensor<B>,
    cos: FloatTensor<B>,
    sin: FloatTensor<B>,
    heads: usize,
) -> FloatTensor<B> {
    let x: Tensor<B, 2> = tensor(x);
    let [tokens, width] = x.dims();
    let head_width = width / heads;
    let [cos, sin] = [cos, sin].map(|table| tensor::<B, 2>(table).unsqueeze_dim::<3>(1));
    let half = cos.dims()[2];
    let x = x.reshape([tokens, heads, head_width]);
    let first = x.clone().narrow(2, 0, half);
    let second = x.clone().narrow(2, half, half);
    let mut parts = vec![
        first.clone() * cos.clone() - second.clone() * sin.clone(),
        second * cos + first * sin,
    ];
    if head_width > 2 * half {
        parts.push(x.narrow(2, 2 * half, head_width - 2 * half));
    }
    primitive(Tensor::cat(parts, 2).reshape([tokens, width]))
}

/// The default body of [`TuneBackend::tune_rotary_back`]: a rotation's transpose turns by the negative angles.
pub fn back<B: TuneBackend>(
    x: FloatTensor<B>,
    cos: FloatTensor<B>,
    sin: FloatTensor<B>,
    heads: usize,
) -> FloatTensor<B> {
    B::tune_rotary(x, cos, B::float_neg(sin), heads)
}
