//! Commands as a shell takes them, so that what a message shows can be copied.

/// A word of a command, quoted for a POSIX shell where it must be.
#[must_use]
pub fn shell_word(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-./=:,+@%".contains(c);
    match !word.is_empty() && word.chars().all(plain) {
        true => word.to_owned(),
        false => format!("'{}'", word.replace('\'', "'\\''")),
    }
}

/// A command from its words.
#[must_use]
pub fn shell_words(words: impl IntoIterator<Item = String>) -> String {
    let words: Vec<String> = words.into_iter().map(|word| shell_word(&word)).collect();
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_quoted_where_a_shell_would_change_them() {
        for (word, expected) in [
            ("runs/minilm-tickets", "runs/minilm-tickets"),
            ("train.epochs=3", "train.epochs=3"),
            ("my file.csv", "'my file.csv'"),
            ("data.label=[\"tone\"]", "'data.label=[\"tone\"]'"),
            ("it's", "'it'\\''s'"),
            ("", "''"),
            ("$HOME", "'$HOME'"),
            ("~", "'~'"),
        ] {
            assert_eq!(shell_word(word), expected);
        }
        let words = ["rekindle", "--train", "my file.csv"].map(str::to_owned);
        assert_eq!(shell_words(words), "rekindle --train 'my file.csv'");
    }
}
