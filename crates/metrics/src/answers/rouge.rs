//! ROUGE-L (Lin, "ROUGE: a package for automatic evaluation of summaries", 2004) as Google's `rouge_score` computes it, without
//! its stemmer.

/// F measure of the longest common subsequence of words of an answer and the right one, in [0, 1].
///
/// Words are runs of the letters a to z and of digits, without regard to case; an answer or a reference without any gives 0.
#[must_use]
pub fn rouge_l(answer: &str, reference: &str) -> f64 {
    let (answer, reference) = (answer.to_lowercase(), reference.to_lowercase());
    let (answer, reference) = (words(&answer), words(&reference));
    if answer.is_empty() || reference.is_empty() {
        return 0.0;
    }
    let common = longest_common_subsequence(&answer, &reference) as f64;
    if common == 0.0 {
        return 0.0;
    }
    let precision = common / answer.len() as f64;
    let recall = common / reference.len() as f64;
    2.0 * precision * recall / (precision + recall)
}

fn words(lowercase: &str) -> Vec<&str> {
    lowercase
        .split(|c: char| !c.is_ascii_alphanumeric())
        .filter(|word| !word.is_empty())
        .collect()
}

/// By a row of the usual table at a time.
fn longest_common_subsequence(a: &[&str], b: &[&str]) -> usize {
    let mut row = vec![0; b.len() + 1];
    for word in a {
        let mut diagonal = 0;
        for (j, other) in b.iter().enumerate() {
            let above = row[j + 1];
            row[j + 1] = match word == other {
                true => diagonal + 1,
                false => above.max(row[j]),
            };
            diagonal = above;
        }
    }
    row[b.len()]
}
