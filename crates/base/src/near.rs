//! "Did you mean": names that look like the one that was not found, and lists of names for messages.

/// At most three of `names` that a typing slip away from `wanted` could have meant, nearest first.
#[must_use]
pub fn near_misses<'a>(wanted: &str, names: impl IntoIterator<Item = &'a str>) -> Vec<String> {
    let wanted = wanted.trim().to_lowercase();
    let mut scored: Vec<(usize, &str)> = names
        .into_iter()
        .map(|name| {
            (
                strsim::damerau_levenshtein(&wanted, &name.trim().to_lowercase()),
                name,
            )
        })
        .filter(|&(distance, name)| {
            distance <= (wanted.chars().count().max(name.chars().count()) / 3).max(1)
        })
        .collect();
    scored.sort();
    scored
        .into_iter()
        .take(3)
        .map(|(_, name)| name.to_owned())
        .collect()
}

/// `` `a`, `b` and `c` ``; at most `limit` names, then how many more there are.
#[must_use]
pub fn quoted_list(names: &[String], limit: usize) -> String {
    let quoted: Vec<String> = names
        .iter()
        .take(limit)
        .map(|name| format!("`{name}`"))
        .collect();
    if names.len() > limit {
        return format!("{} and {} more", quoted.join(", "), names.len() - limit);
    }
    match quoted.as_slice() {
        [] => "none".to_owned(),
        [one] => one.clone(),
        [first @ .., last] => format!("{} and {last}", first.join(", ")),
    }
}

/// A hint line: near misses, or where there are none other advice.
#[must_use]
pub fn did_you_mean_or(near: &[String], advice: &str) -> String {
    match near.is_empty() {
        true => format!("\nhint: {advice}"),
        false => did_you_mean(near),
    }
}

/// A hint line for near misses, empty when there are none.
#[must_use]
pub fn did_you_mean(near: &[String]) -> String {
    if near.is_empty() {
        return String::new();
    }
    let quoted: Vec<String> = near.iter().map(|name| format!("`{name}`")).collect();
    format!("\nhint: did you mean {}?", quoted.join(" or "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_are_near_and_strangers_are_not() {
        let names = ["text", "label", "idx"];
        for (wanted, expect) in [
            ("lable", vec!["label"]),
            ("Text", vec!["text"]),
            ("txt", vec!["text"]),
            ("sentiment", vec![]),
        ] {
            assert_eq!(near_misses(wanted, names), expect, "{wanted}");
        }
    }

    #[test]
    fn long_lists_are_cut() {
        let names: Vec<String> = ["a", "b", "c"].map(String::from).to_vec();
        assert_eq!(quoted_list(&names, 9), "`a`, `b` and `c`");
        assert_eq!(quoted_list(&names, 2), "`a`, `b` and 1 more");
        assert_eq!(quoted_list(&names[..1], 2), "`a`");
    }
}
