//! The real sets of `../shared/data`, where they are: SST-2 (header) and AG News (no header, stray quotes).
#![allow(clippy::unwrap_used)]

use rekindle_data::{LabelMap, ReadOptions, read_examples};

#[test]
#[ignore = "needs ../shared/data"]
fn real_files_are_read_whole_without_a_word_of_configuration() {
    let Some(folder) = rekindle_tests::shared("data") else {
        return;
    };
    for (file, rows, first_line, labels) in [
        ("sst2/train.tsv", 60_614, 2, &["0", "1"][..]),
        ("sst2/validation.tsv", 6_735, 2, &["0", "1"]),
        (
            "agnews/train.tsv",
            10_001,
            1,
            &["Business", "Sci/Tech", "Sports", "World"],
        ),
    ] {
        let options = ReadOptions {
            require_label: true,
            ..ReadOptions::default()
        };
        let outcome = read_examples(&folder.join(file), &options).unwrap();
        assert_eq!(outcome.examples.len(), rows, "{file}");
        assert_eq!(outcome.examples[0].place.line, first_line, "{file}");
        assert_eq!(
            outcome.examples[rows - 1].place.line,
            rows as u64 + first_line - 1,
            "{file}"
        );
        assert_eq!(
            LabelMap::from_examples(&outcome.examples).unwrap().names(),
            labels,
            "{file}"
        );
    }
}
