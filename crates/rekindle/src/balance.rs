//! Labels that are rare: weights for their losses, and draws that see all labels equally often.

use rekindle_base::rng::{self, Stream};

/// The weight of each label's loss, `n / (labels * its count)`: the mean over the examples is 1.
pub(crate) fn class_weights(labels: &[u32], classes: usize) -> Vec<f32> {
    let mut counts = vec![0usize; classes];
    labels.iter().for_each(|&label| counts[label as usize] += 1);
    let present = counts.iter().filter(|&&count| count > 0).count();
    counts
        .iter()
        .map(|&count| match count {
            0 => 0.0,
            count => labels.len() as f32 / (present * count) as f32,
        })
        .collect()
}

/// As many examples as there are, drawn with replacement so that every label comes equally often: a pure function of
/// (seed, epoch).
pub(crate) fn drawn(labels: &[u32], classes: usize, seed: u64, epoch: u64) -> Vec<usize> {
    let mut members = vec![Vec::new(); classes];
    for (index, &label) in labels.iter().enumerate() {
        members[label as usize].push(index);
    }
    members.retain(|members| !members.is_empty());
    let draw = |index: usize, n: usize| {
        let bits = rng::hash(seed, Stream::Weighted as u64, epoch, index as u64);
        rng::below(bits, n as u64) as usize
    };
    (0..labels.len())
        .map(|i| {
            let members = &members[draw(2 * i, members.len())];
            members[draw(2 * i + 1, members.len())]
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rare_labels_weigh_more_and_come_as_often() {
        let labels: Vec<u32> = (0..900).map(|i| u32::from(i % 9 == 0)).collect();
        let weights = class_weights(&labels, 2);
        let mean = labels.iter().map(|&l| weights[l as usize]).sum::<f32>() / 900.0;
        assert!((mean - 1.0).abs() < 1e-5, "{mean}");
        assert!((weights[1] / weights[0] - 8.0).abs() < 1e-4);
        let order = drawn(&labels, 2, 3, 0);
        assert_eq!(order.len(), 900);
        let rare = order.iter().filter(|&&i| labels[i] == 1).count();
        assert!((380..520).contains(&rare), "{rare}");
        assert_ne!(order, drawn(&labels, 2, 3, 1));
        assert_eq!(order, drawn(&labels, 2, 3, 0));
    }
}
