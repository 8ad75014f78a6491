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
}
