//! What the longest length costs: how many examples lose tokens, how many tokens, and which length would cut nothing.

use serde::Serialize;

/// Length at which a set is encoded to see how long its examples are: none reaches it.
pub(super) const WHOLE: usize = 1 << 31;

/// What is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Cut {
    /// Longer examples are cut to this many tokens.
    pub max_length: u64,
    /// Examples that lose tokens.
    pub examples: u64,
    /// Of so many.
    pub of: u64,
    /// Tokens that are lost.
    pub lost: u64,
    /// Tokens before anything is cut.
    pub tokens: u64,
    /// The length of the longest example, which would cut nothing.
    pub enough: u64,
    /// The longest length that the model takes.
    pub model_takes: u64,
}

impl Cut {
    /// By the lengths after cutting, and of what was cut its length before.
    pub(super) fn new(
        max_length: usize,
        model_takes: usize,
        lengths: &[u32],
        whole: &[u32],
    ) -> Self {
        let kept: u64 = lengths.iter().map(|&length| u64::from(length)).sum();
        let lost = whole
            .iter()
            .map(|&length| u64::from(length).saturating_sub(max_length as u64))
            .sum();
        let longest = lengths.iter().chain(whole).copied().max();
        Self {
            max_length: max_length as u64,
            examples: whole.len() as u64,
            of: lengths.len() as u64,
            lost,
            tokens: kept + lost,
            enough: u64::from(longest.unwrap_or(0)),
            model_takes: model_takes as u64,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_lost_is_counted() {
        let cut = Cut::new(8, 512, &[3, 8, 8, 8], &[10, 28]);
        assert_eq!((cut.examples, cut.of, cut.lost), (2, 4, 22));
        assert_eq!((cut.tokens, cut.enough), (49, 28));
        let none = Cut::new(8, 512, &[3, 8], &[]);
        assert_eq!((none.examples, none.lost, none.enough), (0, 0, 8));
    }
}
