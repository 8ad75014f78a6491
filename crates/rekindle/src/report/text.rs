//! From user data to HTML text: escaping, and numbers as people read them.

use std::fmt::Write;

/// Escapes text for an element's content or a quoted attribute.
///
/// Control characters appear as their symbols (`␇`), and characters that could reorder the text around them
/// (bidirectional embeddings, overrides and isolates) as their code points, so that what is read is what was there.
/// Tabs and line feeds stay.
pub fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + text.len() / 8);
    for character in text.chars() {
        match character {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            '\t' | '\n' => out.push(character),
            // The control pictures block mirrors the C0 controls; DEL has its own.
            '\0'..='\u{1f}' => out.extend(char::from_u32(0x2400 + u32::from(character))),
            '\u{7f}' => out.push('\u{2421}'),
            '\u{80}'..='\u{9f}'
            | '\u{200e}'
            | '\u{200f}'
            | '\u{2028}'..='\u{202e}'
            | '\u{2066}'..='\u{2069}'
            | '\u{feff}'
            | '\u{fff9}'..='\u{fffb}' => {
                let _ = write!(out, "⟨U+{:04X}⟩", u32::from(character));
            }
            _ => out.push(character),
        }
    }
    out
}

/// The start of `text`, at most `limit` characters and cut between words where one ends near; `None` when all fits.
pub fn cut(text: &str, limit: usize) -> Option<&str> {
    let end = text.char_indices().nth(limit)?.0;
    let head = &text[..end];
    match head.rfind(char::is_whitespace) {
        Some(space) if space * 4 >= end * 3 => Some(head[..space].trim_end()),
        _ => Some(head),
    }
}

/// An integer with thousands separated: `12,345`.
pub fn count(value: u64) -> String {
    let digits = value.to_string();
    let mut out = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// A large count in few characters, to three figures: `1.2k`, `34k`, `5.6M`.
pub fn short_count(value: u64) -> String {
    let scaled = |unit: f64, name: &str| {
        let value = value as f64 / unit;
        if value < 9.95 {
            format!("{value:.1}{name}")
        } else {
            format!("{value:.0}{name}")
        }
    };
    match value {
        0..1_000 => value.to_string(),
        1_000..999_500 => scaled(1e3, "k"),
        999_500..999_500_000 => scaled(1e6, "M"),
        _ => scaled(1e9, "B"),
    }
}

/// A share in `0..=1` as a percentage with one decimal; no line breaks before the sign.
pub fn percent(share: f64) -> String {
    if share.is_finite() {
        format!("{:.1}\u{a0}%", share * 100.0)
    } else {
        "n/a".to_owned()
    }
}

/// A figure to four significant digits; scientific where that is shorter.
pub fn figure(value: f64) -> String {
    if !value.is_finite() {
        return "not finite".to_owned();
    }
    let magnitude = value.abs();
    if magnitude == 0.0 {
        "0".to_owned()
    } else if !(1e-3..1e6).contains(&magnitude) {
        scientific(value, 3)
    } else {
        let decimals = (3 - magnitude.log10().floor() as i32).clamp(0, 6) as usize;
        format!("{value:.decimals$}")
    }
}

/// `value` with at most `decimals` decimals and none that are zero: `3`, `2.5`.
pub fn trimmed(value: f64, decimals: usize) -> String {
    let text = format!("{value:.decimals$}");
    match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => text,
    }
}

/// `value` as `3e-4`, with at most `decimals` decimals and none that are zero; 0 as `0`.
pub fn scientific(value: f64, decimals: usize) -> String {
    if value == 0.0 {
        return "0".to_owned();
    }
    let text = format!("{value:.decimals$e}");
    match text.split_once('e') {
        Some((mantissa, exponent)) if mantissa.contains('.') => {
            format!(
                "{}e{exponent}",
                mantissa.trim_end_matches('0').trim_end_matches('.')
            )
        }
        _ => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_escapes_the_escaping() {
        for (raw, expected) in [
            ("plain", "plain"),
            (
                "<b a=\"1\" c='2'>&",
                "&lt;b a=&quot;1&quot; c=&#39;2&#39;&gt;&amp;",
            ),
            ("a\0b\u{7}\u{1b}\r\u{7f}", "a␀b␇␛␍␡"),
            ("tab\tline\n", "tab\tline\n"),
            (
                "\u{202e}evil\u{2069}\u{feff}",
                "⟨U+202E⟩evil⟨U+2069⟩⟨U+FEFF⟩",
            ),
            ("\u{85}\u{2028}", "⟨U+0085⟩⟨U+2028⟩"),
            ("👩\u{200d}🚒 שלום", "👩\u{200d}🚒 שלום"),
        ] {
            assert_eq!(escape(raw), expected, "{raw:?}");
        }
    }

    #[test]
    fn long_text_is_cut_between_words_and_never_inside_a_character() {
        assert_eq!(cut("short", 5), None);
        assert_eq!(cut("one two three", 9), Some("one two"));
        assert_eq!(cut("one twothree", 9), Some("one twoth"));
        assert_eq!(cut("ééééé", 3), Some("ééé"));
    }

    #[test]
    fn numbers_read_well() {
        assert_eq!(
            [0, 999, 1000, 1_234_567].map(count),
            ["0", "999", "1,000", "1,234,567"]
        );
        assert_eq!(
            [7, 1234, 34_567, 999_499, 22_713_216].map(short_count),
            ["7", "1.2k", "35k", "999k", "23M"]
        );
        assert_eq!(
            [0.0, 0.25, 1.0, 0.0003, 12.3456, 123_456.0, f64::NAN].map(figure),
            [
                "0",
                "0.2500",
                "1.000",
                "3e-4",
                "12.35",
                "123456",
                "not finite"
            ]
        );
        assert_eq!(
            [0.0, 3e-4, 1.25e-5].map(|value| scientific(value, 2)),
            ["0", "3e-4", "1.25e-5"]
        );
        assert_eq!([0.9534, f64::NAN].map(percent), ["95.3\u{a0}%", "n/a"]);
    }
}
