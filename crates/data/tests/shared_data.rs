//! The real sets of `../shared/data`, where they are: SST-2 (header) and AG News (no header, stray quotes).
#![allow(clippy::unwrap_used)]

use rekindle_data::{
    Column, Input, LabelMap, ReadOptions, TargetEncoder, TargetHint, TargetKind, read_examples,
};

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
        let path = folder.join(file);
        let outcome = read_examples(&path, &options).unwrap();
        assert_eq!(outcome.examples.len(), rows, "{file}");
        assert_eq!(outcome.examples[0].place.line, first_line, "{file}");
        assert_eq!(
            outcome.examples[rows - 1].place.line,
            rows as u64 + first_line - 1,
            "{file}"
        );
        let columns = &outcome.columns.labels;
        outcome
            .hint
            .check(TargetKind::Class, &path, columns, Input::Text)
            .unwrap();
        assert_eq!(
            LabelMap::from_examples(&outcome.examples).unwrap().names(),
            labels,
            "{file}"
        );
    }
}

/// Ratings by many people: 1,417 different values in 10,605 rows, so that most come again.
#[test]
#[ignore = "needs ../shared/data"]
fn ratings_are_numbers_and_are_refused_as_classes() {
    let Some(path) = rekindle_tests::shared("data/sentiment-intensity/movies.tsv") else {
        return;
    };
    let mut options = ReadOptions {
        require_label: true,
        target: TargetKind::Real,
        ..ReadOptions::default()
    };
    let read = read_examples(&path, &options).unwrap();
    assert_eq!(
        (read.examples.len(), read.label_names.as_slice()),
        (10_605, &["score".to_owned()][..])
    );
    assert!(matches!(read.hint, TargetHint::Number { min, max, .. } if min > -4.0 && max < 4.0));
    let encoder = TargetEncoder::fit(TargetKind::Real, &read).unwrap();
    assert_eq!(encoder.encode_all(&read.examples).unwrap().len(), 10_605);

    options.target = TargetKind::Class;
    options.labels = vec![Column::from("score")];
    let read = read_examples(&path, &options).unwrap();
    let refused = read
        .hint
        .check(TargetKind::Class, &path, &read.columns.labels, Input::Text);
    let message = refused.unwrap_err().to_string();
    assert!(
        message.contains("score looks like a number to predict"),
        "{message}"
    );
    assert!(
        message.ends_with("hint: --task text-regression"),
        "{message}"
    );
}
