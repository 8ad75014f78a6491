//! Numbers with their nouns or units, for messages.

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

/// A duration in seconds in the unit a person would use: `12 ms`, `3.4 s`, `2 min 05 s`, `1 h 30 min`.
#[must_use]
pub fn duration(seconds: f64) -> String {
    if !seconds.is_finite() || seconds < 0.0 {
        return "n/a".to_owned();
    }
    let whole = seconds.round() as u64;
    match seconds {
        s if s < 0.9995 => format!("{:.0} ms", s * 1e3),
        s if s < 59.95 => format!("{s:.1} s"),
        _ if whole < 3600 => format!("{} min {:02} s", whole / 60, whole % 60),
        _ => format!("{} h {:02} min", whole / 3600, whole % 3600 / 60),
    }
}

/// A number of bytes in the unit that is read most easily, to two digits or whole: `999 B`, `1.2 MB`, `91 MB`, `3.4 GB`.
#[must_use]
pub fn bytes(count: u64) -> String {
    let scaled = |unit: f64, name: &str| {
        let value = count as f64 / unit;
        match value < 9.95 {
            true => format!("{value:.1} {name}"),
            false => format!("{value:.0} {name}"),
        }
    };
    match count {
        0..1_000 => format!("{count} B"),
        1_000..999_500 => scaled(1e3, "kB"),
        999_500..999_500_000 => scaled(1e6, "MB"),
        _ => scaled(1e9, "GB"),
    }
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
    fn durations_have_the_unit_a_person_would_use() {
        for (seconds, expected) in [
            (0.0304, "30 ms"),
            (0.9999, "1.0 s"),
            (12.34, "12.3 s"),
            (59.96, "1 min 00 s"),
            (150.4, "2 min 30 s"),
            (9_000.0, "2 h 30 min"),
            (f64::NAN, "n/a"),
        ] {
            assert_eq!(duration(seconds), expected);
        }
    }

    #[test]
    fn bytes_have_their_unit() {
        for (count, expected) in [
            (999, "999 B"),
            (1_234, "1.2 kB"),
            (999_499, "999 kB"),
            (999_501, "1.0 MB"),
            (90_868_376, "91 MB"),
            (3_400_000_000, "3.4 GB"),
            (139_000_000_000, "139 GB"),
        ] {
            assert_eq!(bytes(count), expected);
        }
    }

    #[test]
    fn a_long_list_is_cut() {
        let names = |n: usize| (0..n).map(|i| i.to_string()).collect::<Vec<_>>();
        assert_eq!(first_of(&names(NAMED)), "0, 1, 2, 3, 4, 5, 6, 7, 8, 9");
        assert!(first_of(&names(2010)).ends_with("9 and 2,000 more"));
        assert_eq!(first_of(&[]), "");
    }
}
