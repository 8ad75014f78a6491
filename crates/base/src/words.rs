//! Numbers with their nouns, for messages.

/// An integer with thousands separated: `12,345`.
#[must_use]
pub fn thousands(value: u64) -> String {
    let digits = value.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// A count with its noun: `1 row`, `2,000 rows`.
#[must_use]
pub fn counted(count: usize, one: &str, many: &str) -> String {
    let noun = if count == 1 { one } else { many };
    format!("{} {noun}", thousands(count as u64))
}

/// Things that a message names; of more it gives the number.
pub const NAMED: usize = 10;

/// Names one after the other, at most [`NAMED`] of them: `a, b and 5 more`.
#[must_use]
pub fn first_of(names: &[String]) -> String {
    let (named, others) = names.split_at(names.len().min(NAMED));
    match others.len() {
        0 => named.join(", "),
        more => format!("{} and {} more", named.join(", "), thousands(more as u64)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_their_noun() {
        for (count, expected) in [(0, "0 rows"), (1, "1 row"), (12_345, "12,345 rows")] {
            assert_eq!(counted(count, "row", "rows"), expected);
        }
        assert_eq!(thousands(1_000_000), "1,000,000");
    }

    #[test]
    fn a_long_list_is_cut() {
        let names = |n: usize| (0..n).map(|i| i.to_string()).collect::<Vec<_>>();
        assert_eq!(first_of(&names(NAMED)), "0, 1, 2, 3, 4, 5, 6, 7, 8, 9");
        assert!(first_of(&names(2010)).ends_with("9 and 2,000 more"));
        assert_eq!(first_of(&[]), "");
    }
}
