//! Cross-entropy straight from hidden states: the logits `[R, V]` exist only by chunks of rows and of the vocabulary, under a
//! running sum of exponentials (as in Milakov and Gimelshein 2018). In training the same pass sums what the gradient of the
//! hidden states needs (as FlashAttention does, with the vocabulary for keys and values), so that the backward pass multiplies
//! nothing for it. The mean is the caller's, who knows over what.

use super::{TuneBackend, primitive, tensor};
use burn::tensor::{
    Int, Tensor,
    ops::{FloatTensor, IntTensor},
};

/// Rows and words of a chunk of logits.
const ROWS: usize = 256;
const WORDS: usize = 8192;

/// What a pass over the vocabulary gives.
#[derive(Debug)]
pub struct NextToken<B: TuneBackend> {
    /// `-log softmax(logits)[target]`, `[R]`
    pub losses: FloatTensor<B>,
    /// log of the sum of the exponentials of the logits, `[R]`
    pub log_sums: FloatTensor<B>,
    /// Gradient of each row's loss with respect to its hidden state, `[R, D]`, where it was asked for.
    pub slopes: Option<FloatTensor<B>>,
}

/// Logits under a cap: `c tanh(x / c)`; as they are without one.
pub fn capped<B: TuneBackend>(logits: Tensor<B, 2>, softcap: Option<f64>) -> Tensor<B, 2> {
    match softcap {
        None => logits,
        Some(cap) => (logits / cap).tanh() * cap,
    }
}

/// `values` times the derivative of the cap at these capped logits.
fn through_cap<B: TuneBackend>(
    values: Tensor<B, 2>,
    logits: Tensor<B, 2>,
    softcap: Option<f64>,
) -> Tensor<B, 2> {
    match softcap {
        None => values,
        Some(cap) => {
            let t = logits / cap;
            values * ((t.clone() * t).neg() + 1.0)
        }
    }
}

/// Consecutive ranges of at most `size` that make up `0..len`.
fn chunks(len: usize, size: usize) -> impl Iterator<Item = std::ops::Range<usize>> {
    (0..len)
        .step_by(size)
        .map(move |first| first..len.min(first + size))
}

/// The operands as tensors.
struct Head<B: TuneBackend> {
    hidden: Tensor<B, 2>,
    weight: Tensor<B, 2>,
    targets: Tensor<B, 1, Int>,
    softcap: Option<f64>,
}

/// Some rows: their hidden states `[r, D]`, targets `[r]`, the weights of these `[r, D]` and their logits `[r, 1]`.
struct Rows<B: TuneBackend> {
    hidden: Tensor<B, 2>,
    targets: Tensor<B, 1, Int>,
    own: Tensor<B, 2>,
    target: Tensor<B, 2>,
}

impl<B: TuneBackend> Head<B> {
    fn new(
        hidden: FloatTensor<B>,
        weight: FloatTensor<B>,
        targets: IntTensor<B>,
        softcap: Option<f64>,
    ) -> Self {
        Self {
            hidden: tensor(hidden),
            weight: tensor(weight),
            targets: Tensor::from_primitive(targets),
            softcap,
        }
    }

    fn rows(&self, rows: std::ops::Range<usize>) -> Rows<B> {
        let hidden = self.hidden.clone().narrow(0, rows.start, rows.len());
        let targets = self.targets.clone().narrow(0, rows.start, rows.len());
        let own = self.weight.clone().select(0, targets.clone());
        let target = capped((hidden.clone() * own.clone()).sum_dim(1), self.softcap);
        Rows {
            hidden,
            targets,
            own,
            target,
        }
    }

    /// Weights of some words, and the rows' logits of these.
    fn logits(
        &self,
        hidden: &Tensor<B, 2>,
        words: std::ops::Range<usize>,
    ) -> (Tensor<B, 2>, Tensor<B, 2>) {
        let weight = self.weight.clone().narrow(0, words.start, words.len());
        let logits = hidden.clone().matmul(weight.clone().transpose());
        (weight, capped(logits, self.softcap))
    }
}

/// The running maximum and sum of exponentials of some rows, `[r, 1]` each, and the weights by these exponentials `[r, D]`.
struct Running<B: TuneBackend> {
    max: Tensor<B, 2>,
    sum: Tensor<B, 2>,
    mean: Option<Tensor<B, 2>>,
}

impl<B: TuneBackend> Running<B> {
    fn of(
        logits: Tensor<B, 2>,
        weight: Tensor<B, 2>,
        softcap: Option<f64>,
        slopes: bool,
        max: Tensor<B, 2>,
    ) -> Self {
        let e = (logits.clone() - max.clone()).exp();
        Self {
            max,
            sum: e.clone().sum_dim(1),
            mean: slopes.then(|| through_cap(e, logits, softcap).matmul(weight)),
        }
    }

    fn after(self, earlier: Option<Self>) -> Self {
        let Some(earlier) = earlier else { return self };
        let factor = (earlier.max - self.max.clone()).exp();
        Self {
            max: self.max,
            sum: self.sum + earlier.sum * factor.clone(),
            mean: self
                .mean
                .zip(earlier.mean)
                .map(|(mean, earlier)| mean + earlier * factor),
        }
    }
}

/// The default body of [`TuneBackend::tune_next_token`].
pub fn forward<B: TuneBackend>(
    hidden: FloatTensor<B>,
    weight: FloatTensor<B>,
    targets: IntTensor<B>,
    softcap: Option<f64>,
    slopes: bool,
) -> NextToken<B> {
    let head = Head::<B>::new(hidden, weight, targets, softcap);
    let ([rows, _], [words, _]) = (head.hidden.dims(), head.weight.dims());
    let (mut losses, mut log_sums, mut found) = (Vec::new(), Vec::new(), Vec::new());
    for range in chunks(rows, ROWS) {
        let rows = head.rows(range);
        let mut running: Option<Running<B>> = None;
        for words in chunks(words, WORDS) {
            let (weight, logits) = head.logits(&rows.hidden, words);
            let top = logits.clone().max_dim(1);
            let max = match &running {
                None => top,
                Some(running) => running.max.clone().max_pair(top),
            };
            let chunk = Running::of(logits, weight, softcap, slopes, max);
            running = Some(chunk.after(running));
        }
        let Some(Running { max, sum, mean }) = running else {
            break;
        };
        let log_sum = max + sum.clone().log();
        losses.push((log_sum.clone() - rows.target.clone()).squeeze_dim::<1>(1));
        log_sums.push(log_sum.squeeze_dim::<1>(1));
        if let Some(mean) = mean {
            found.push(mean / sum - through_cap(rows.own, rows.target, softcap));
        }
    }
    if losses.is_empty() {
        let none = || primitive(Tensor::<B, 1>::zeros([0], &head.hidden.device()));
        return NextToken {
            losses: none(),
            log_sums: none(),
            slopes: slopes.then(|| primitive(head.hidden.zeros_like())),
        };
    }
    NextToken {
        losses: primitive(Tensor::cat(losses, 0)),
        log_sums: primitive(Tensor::cat(log_sums, 0)),
        slopes: slopes.then(|| primitive(Tensor::cat(found, 0))),
    }
}

/// The default body of [`TuneBackend::tune_next_token_backward_weight`].
pub fn backward_weight<B: TuneBackend>(
    hidden: FloatTensor<B>,
    weight: FloatTensor<B>,
    targets: IntTensor<B>,
    log_sums: FloatTensor<B>,
    grad: FloatTensor<B>,
    softcap: Option<f64>,
) -> FloatTensor<B> {
    let head = Head::<B>::new(hidden, weight, targets, softcap);
    let ([rows, _], [words, _]) = (head.hidden.dims(), head.weight.dims());
    if rows == 0 {
        return primitive(head.weight.zeros_like());
    }
    let [log_sums, grad] = [log_sums, grad].map(|x| tensor::<B, 1>(x).unsqueeze_dim::<2>(1));
    let mut sums = Vec::new();
    for words in chunks(words, WORDS) {
        let mut sum: Option<Tensor<B, 2>> = None;
        for range in chunks(rows, ROWS) {
            let hidden = head.hidden.clone().narrow(0, range.start, range.len());
            let [log_sums, grad] =
                [&log_sums, &grad].map(|x| x.clone().narrow(0, range.start, range.len()));
            let (_, logits) = head.logits(&hidden, words.clone());
            let p = (logits.clone() - log_sums).exp() * grad;
            let part = through_cap(p, logits, softcap).transpose().matmul(hidden);
            sum = Some(match sum {
                None => part,
                Some(sum) => sum + part,
            });
        }
        sums.extend(sum);
    }
    let mut sums = primitive(Tensor::cat(sums, 0));
    for range in chunks(rows, ROWS) {
        let grad = grad.clone().narrow(0, range.start, range.len());
        let rows = head.rows(range);
        let own = through_cap(rows.hidden * grad.neg(), rows.target, softcap);
        sums = B::float_select_add(sums, 0, rows.targets.into_primitive(), primitive(own));
    }
    sums
}

/// The default body of [`TuneBackend::tune_next_token_best`].
pub fn best<B: TuneBackend>(
    hidden: FloatTensor<B>,
    weight: FloatTensor<B>,
    targets: IntTensor<B>,
    softcap: Option<f64>,
) -> (FloatTensor<B>, IntTensor<B>) {
    let head = Head::<B>::new(hidden, weight, targets, softcap);
    let ([rows, _], [words, _]) = (head.hidden.dims(), head.weight.dims());
    let (mut losses, mut found) = (Vec::new(), Vec::new());
    for range in chunks(rows, ROWS) {
        let rows = head.rows(range);
        let mut running: Option<(Running<B>, Tensor<B, 2, Int>)> = None;
        for words in chunks(words, WORDS) {
            let first = words.start as i64;
            let (weight, logits) = head.logits(&rows.hidden, words);
            let (top, place) = logits.clone().max_dim_with_indices(1);
            let place = place + first;
            let of = |max| Running::of(logits, weight, softcap, false, max);
            running = Some(match running {
                None => (of(top), place),
                Some((earlier, best)) => {
                    let higher = top.clone().greater(earlier.max.clone());
                    let chunk = of(earlier.max.clone().max_pair(top));
                    (chunk.after(Some(earlier)), best.mask_where(higher, place))
                }
            });
        }
        let Some((Running { max, sum, .. }, best)) = running else {
            break;
        };
        losses.push((max + sum.log() - rows.target).squeeze_dim::<1>(1));
        found.push(best.squeeze_dim::<1>(1));
    }
    if losses.is_empty() {
        let device = head.hidden.device();
        let none: Tensor<B, 1, Int> = Tensor::zeros([0], &device);
        let losses: Tensor<B, 1> = Tensor::zeros([0], &device);
        return (primitive(losses), none.into_primitive());
    }
    (
        primitive(Tensor::cat(losses, 0)),
        Tensor::cat(found, 0).into_primitive(),
    )
}
