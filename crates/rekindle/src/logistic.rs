//! Logistic regression on the host, as scikit-learn's `LogisticRegression` with its defaults: softmax, an L2 penalty of C = 1 on the
//! weights and none on the biases, by L-BFGS. Of two classes scikit-learn's model has one vector; here these are two, whose
//! difference it is.

/// Weight `[C, D]` and bias `[C]`, row by row.
pub(crate) struct Logistic {
    pub weight: Vec<f32>,
    pub bias: Vec<f32>,
}

/// Steps at most.
const STEPS: usize = 1000;
/// The slope, of a mean over examples, at which it is done: scikit-learn's `tol`, made smaller so that the last digits agree.
const DONE: f64 = 1e-6;
/// Steps that are remembered.
const MEMORY: usize = 10;

/// The examples.
struct Problem<'a> {
    /// `[N][D]`
    rows: &'a [&'a [f32]],
    /// Below C.
    classes: &'a [u32],
    width: usize,
    outputs: usize,
    /// Of half the sum of the squares of all weights.
    penalty: f64,
}

/// The most probable weights for rows `[N][D]` of these classes, each below `outputs`, which is C.
pub(crate) fn fit(rows: &[&[f32]], classes: &[u32], outputs: usize) -> Logistic {
    let width = rows.first().map_or(0, |row| row.len());
    let problem = Problem {
        rows,
        classes,
        width,
        outputs,
        // Of two vectors, each half of scikit-learn's one, the squares add up to half of its.
        penalty: if outputs == 2 { 2.0 } else { 1.0 },
    };
    let found = problem.solve();
    let (weight, bias) = found.split_at(outputs * width);
    let narrow = |values: &[f64]| values.iter().map(|&value| value as f32).collect();
    Logistic {
        weight: narrow(weight),
        bias: narrow(bias),
    }
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

impl Problem<'_> {
    /// Weights `[C D]`, then biases `[C]`.
    fn solve(&self) -> Vec<f64> {
        let mut x = vec![0.0; self.outputs * (self.width + 1)];
        let (mut value, mut slope) = self.evaluate(&x);
        let (mut moves, mut changes): (Vec<Vec<f64>>, Vec<Vec<f64>>) = (Vec::new(), Vec::new());
        for _ in 0..STEPS {
            let steepest = slope.iter().fold(0.0, |most: f64, s| most.max(s.abs()));
            if steepest <= DONE * self.rows.len() as f64 {
                break;
            }
            let direction = downhill(&slope, &moves, &changes);
            let descent = dot(&direction, &slope);
            // Halved until it is enough of a descent (Armijo).
            let (mut step, mut next) = (1.0, None);
            for _ in 0..40 {
                let to: Vec<f64> = x
                    .iter()
                    .zip(&direction)
                    .map(|(x, d)| x + step * d)
                    .collect();
                let (at, there) = self.evaluate(&to);
                if at <= value + 1e-4 * step * descent {
                    next = Some((to, at, there));
                    break;
                }
                step *= 0.5;
            }
            let Some((to, at, there)) = next else { break };
            let moved: Vec<f64> = to.iter().zip(&x).map(|(a, b)| a - b).collect();
            let change: Vec<f64> = there.iter().zip(&slope).map(|(a, b)| a - b).collect();
            if dot(&moved, &change) > 1e-12 * dot(&change, &change) {
                moves.push(moved);
                changes.push(change);
                if moves.len() > MEMORY {
                    moves.remove(0);
                    changes.remove(0);
                }
            }
            (x, value, slope) = (to, at, there);
        }
        x
    }

    /// The sum of all losses with the penalty, and its slope.
    fn evaluate(&self, x: &[f64]) -> (f64, Vec<f64>) {
        let (weight, bias) = x.split_at(self.outputs * self.width);
        let mut value = 0.5 * self.penalty * dot(weight, weight);
        let mut slope: Vec<f64> = weight.iter().map(|w| self.penalty * w).collect();
        slope.resize(x.len(), 0.0);
        let mut logits = vec![0.0; self.outputs];
        for (row, &class) in self.rows.iter().zip(self.classes) {
            for (c, logit) in logits.iter_mut().enumerate() {
                let weights = &weight[c * self.width..][..self.width];
                let products = weights.iter().zip(*row).map(|(w, &v)| w * f64::from(v));
                *logit = bias[c] + products.sum::<f64>();
            }
            let most = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let sum: f64 = logits.iter().map(|logit| (logit - most).exp()).sum();
            value += sum.ln() + most - logits[class as usize];
            for (c, logit) in logits.iter().enumerate() {
                let right = f64::from(u8::from(c == class as usize));
                let error = (logit - most).exp() / sum - right;
                slope[self.outputs * self.width + c] += error;
                let slopes = &mut slope[c * self.width..][..self.width];
                for (s, &v) in slopes.iter_mut().zip(*row) {
                    *s += error * f64::from(v);
                }
            }
        }
        (value, slope)
    }
}

/// The direction of L-BFGS's two loops (Nocedal 1980): minus the slope times what is known of the inverse curvature.
fn downhill(slope: &[f64], moves: &[Vec<f64>], changes: &[Vec<f64>]) -> Vec<f64> {
    let mut q: Vec<f64> = slope.iter().map(|s| -s).collect();
    let mut shares = Vec::with_capacity(moves.len());
    for (moved, change) in moves.iter().zip(changes).rev() {
        let share = dot(moved, &q) / dot(moved, change);
        q.iter_mut().zip(change).for_each(|(q, c)| *q -= share * c);
        shares.push(share);
    }
    if let (Some(moved), Some(change)) = (moves.last(), changes.last()) {
        let scale = dot(moved, change) / dot(change, change);
        q.iter_mut().for_each(|q| *q *= scale);
    }
    for ((moved, change), share) in moves.iter().zip(changes).zip(shares.into_iter().rev()) {
        let other = dot(change, &q) / dot(moved, change);
        q.iter_mut()
            .zip(moved)
            .for_each(|(q, m)| *q += (share - other) * m);
    }
    q
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `LogisticRegression(tol=1e-10, max_iter=10000)` of scikit-learn 1.9 on these rows: coefficients and intercepts. Of two classes
    /// the difference of the two vectors is compared.
    #[test]
    fn equals_scikit_learn() {
        const CLOSE: f32 = 2e-5;
        let rows: Vec<Vec<f32>> = (0..9)
            .map(|i| {
                let i = i as f32;
                vec![(i * 1.7).sin() * 2.0, (i * 0.9).cos(), 0.1 * i]
            })
            .collect();
        let rows: Vec<&[f32]> = rows.iter().map(Vec::as_slice).collect();
        let three = fit(&rows, &[0, 1, 2, 0, 1, 2, 0, 1, 2], 3);
        let close = |found: &[f32], right: &[f32]| {
            let far = found.iter().zip(right).any(|(a, b)| (a - b).abs() > CLOSE);
            assert!(
                !far && found.len() == right.len(),
                "{found:?} is not {right:?}"
            );
        };
        close(&three.weight, &THREE);
        close(&three.bias, &THREE_BIAS);
        let two = fit(&rows, &[0, 1, 1, 0, 1, 0, 0, 1, 1], 2);
        let difference: Vec<f32> = (0..3).map(|i| two.weight[3 + i] - two.weight[i]).collect();
        close(&difference, &TWO);
        close(&[two.bias[1] - two.bias[0]], &TWO_BIAS);
    }

    const THREE: [f32; 9] = [
        -0.654604, 0.130339, -0.312377, 0.235425, 0.054449, 0.035586, 0.419179, -0.184788, 0.276791,
    ];
    const THREE_BIAS: [f32; 3] = [-0.008324, 0.091671, -0.083347];
    const TWO: [f32; 3] = [0.435523, 0.073393, 0.184776];
    const TWO_BIAS: [f32; 1] = [0.094056];
}
