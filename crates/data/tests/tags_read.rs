//! Files of words with tags and of texts with spans: every shape, every mistake with its line and remedy, and no panic on any
//! bytes.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::Path;

use rekindle_data::tokens::{Scheme, TagLabels, Tagged, TaggedOptions, read_tagged, slice};
use rekindle_data::{Column, DataError, OnBad};

fn strict() -> TaggedOptions {
    TaggedOptions {
        require_tags: true,
        ..TaggedOptions::default()
    }
}

fn read_as(name: &str, bytes: &[u8], options: &TaggedOptions) -> Result<Tagged, DataError> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(name);
    fs::write(&path, bytes).unwrap();
    read_tagged(&path, options)
}

/// Each text with its spans in brackets: `[PER Ada King] sleeps`.
fn shown(read: &Tagged) -> Vec<String> {
    let text = |row: &rekindle_data::tokens::TaggedText| {
        let (mut shown, mut at) = (String::new(), 0);
        for span in row.spans.iter().flatten() {
            shown.push_str(slice(&row.text, at..span.start));
            let inside = slice(&row.text, span.start..span.end);
            shown.push_str(&format!("[{} {inside}]", span.label));
            at = span.end;
        }
        shown + slice(&row.text, at..usize::MAX)
    };
    read.rows.iter().map(text).collect()
}

fn message(name: &str, text: &str, options: &TaggedOptions) -> String {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(name);
    fs::write(&path, text).unwrap();
    match read_tagged(&path, options) {
        Ok(read) => format!("no error: {:?}", shown(&read)),
        Err(error) => error
            .to_string()
            .replace(&path.display().to_string(), "FILE"),
    }
}

#[test]
fn columns_are_read_whatever_stands_between_and_around_them() {
    let expect = ["[PER Ada King] sleeps", "in [LOC Paris]"];
    let utf16: Vec<u8> = "Ada\tB-PER\r\nKing\tI-PER\r\nsleeps\tO\r\n\r\nin\tO\r\nParis\tB-LOC\r\n"
        .encode_utf16()
        .flat_map(u16::to_le_bytes)
        .collect();
    for (name, text) in [
        (
            "a.conll",
            "Ada B-PER\nKing I-PER\nsleeps O\n\nin O\nParis B-LOC\n",
        ),
        (
            "a.txt",
            "Ada\tB-PER\r\nKing\tI-PER\r\nsleeps\tO\r\n\r\n\r\nin\tO\r\nParis\tB-LOC",
        ),
        (
            "a.tsv",
            "\u{feff}word\tpos\tner\nAda\tNNP\tB-PER\nKing\tNNP\tI-PER\nsleeps\tVBZ\tO\n \t\nin\tIN\tO\nParis\tNNP\tB-LOC\n\n\n",
        ),
        (
            "a.bio",
            "-DOCSTART- -X- O O\n\nAda NNP I-NP B-PER\nKing NNP I-NP I-PER\nsleeps V I-VP O\n\n-DOCSTART- -X- O O\nin IN I-PP O\nParis NNP I-NP B-LOC\n",
        ),
        (
            "a",
            "# a comment with many words\nAda B-PER\nKing I-PER\n# another\nsleeps O\n\n# id 2\nin O\nParis B-LOC\n",
        ),
        (
            "a.conllu",
            "# global.columns = ID FORM NER\n# text = x\n1\tAda\tB-PER\n2\tKing\tI-PER\n3-4\tnone\t_\n3\tsleeps\tO\n3.1\tnone\tO\n\n1\tin\tO\n2\tParis\tB-LOC\n",
        ),
        (
            "a.old",
            "Ada B-PER\rKing I-PER\rsleeps O\r\rin O\rParis B-LOC\r",
        ),
    ] {
        let read = read_as(name, text.as_bytes(), &strict()).unwrap();
        assert_eq!(shown(&read), expect, "{name}");
        assert!(read.has_words && read.scheme == Scheme::Bio, "{name}");
    }
    let with_mark: Vec<u8> = [0xFF, 0xFE].into_iter().chain(utf16).collect();
    assert_eq!(
        shown(&read_as("a.txt", &with_mark, &strict()).unwrap()),
        expect
    );
    // Places are the lines of the first words, and words are not what white space of Unicode says.
    let read = read_as(
        "a.tsv",
        "a b\tO\n\nc\u{a0}d\tB-X\n#x\tB-X\n# x y\n".as_bytes(),
        &strict(),
    )
    .unwrap();
    assert_eq!(shown(&read), ["a b", "[X c\u{a0}d] [X #x]"]);
    assert_eq!((read.rows[0].words.len(), read.rows[1].place.line), (1, 3));
}

#[test]
fn the_column_of_the_tags_can_be_named() {
    let text = "word\tner\tpos\nAda\tB-PER\tNNP\nsleeps\tO\tVBZ\n";
    for tags in ["ner", "1"] {
        let options = TaggedOptions {
            tags: Some(Column::from(tags)),
            ..strict()
        };
        // By number there is no header, but the known names of one.
        let text = if tags == "1" {
            text.replace("pos", "tag")
        } else {
            text.to_owned()
        };
        let read = read_as("a.tsv", text.as_bytes(), &options).unwrap();
        assert_eq!(shown(&read), ["[PER Ada] sleeps"], "{tags}");
    }
    let options = TaggedOptions {
        tags: Some(Column::from("nre")),
        ..strict()
    };
    let text = "# global.columns = FORM NER\nAda\tB-PER\n";
    assert_eq!(
        message("a.tsv", text, &options),
        "FILE: no column `nre` for the label; expected one of `FORM` and `NER`\nhint: did you mean `NER`?"
    );
    let options = TaggedOptions {
        tags: Some(Column::Index(2)),
        ..strict()
    };
    assert!(
        message("a.tsv", "Ada\tB-PER\n", &options)
            .starts_with("FILE: no column `2` for the label; expected one of `0` and `1`\nhint: ")
    );
}

#[test]
fn every_scheme_is_told_and_becomes_spans() {
    let expect = "[x a b][x c] d [y e]".replace("][", "] [");
    for (scheme, tags) in [
        (Scheme::Bio, "B-x I-x B-x O B-y"),
        (Scheme::Iob1, "I-x I-x B-x O I-y"),
        (Scheme::Iobes, "B-x E-x S-x O S-y"),
        (Scheme::Bilou, "B-x L-x U-x O U-y"),
    ] {
        let rows: Vec<String> = "a b c d e"
            .split(' ')
            .zip(tags.split(' '))
            .map(|(word, tag)| format!("{word} {tag}"))
            .collect();
        let read = read_as("a", rows.join("\n").as_bytes(), &strict()).unwrap();
        assert_eq!((read.scheme, shown(&read)), (scheme, vec![expect.clone()]));
        let labels = TagLabels::fit(&read).unwrap();
        assert_eq!(labels.names(), ["B-x", "B-y", "I-x", "I-y", "O"]);
    }
    let read = read_as("a", b"a x\nb x\nc O\n", &strict()).unwrap();
    assert_eq!(
        (read.scheme, shown(&read)),
        (Scheme::Plain, vec!["[x a b] c".to_owned()])
    );
    let read = read_as("a", b"a NN\nb NN\nc VB\n", &strict()).unwrap();
    assert_eq!(shown(&read), ["[NN a] [NN b] [VB c]"]);
    assert_eq!(TagLabels::fit(&read).unwrap().names(), ["NN", "VB"]);
    let read = read_as("a", b"a O\nb I-x\nc B-y\nd I-y\n", &strict()).unwrap();
    assert_eq!(read.notes.len(), 1);
    assert!(
        read.notes[0]
            .ends_with("1 spans begin with I- where BIO has B-: read as if they began with B-")
    );
}

#[test]
fn words_and_tags_of_json() {
    let expect = ["[PER Ada King] sleeps"];
    for (name, text) in [
        (
            "a.jsonl",
            r#"{"tokens": ["Ada", "King", "sleeps"], "tags": ["B-PER", "I-PER", "O"]}"#,
        ),
        (
            "a.json",
            "[\n{\"words\": [\"Ada\", \"King\", \"sleeps\"],\n \"labels\": [\"B-PER\", \"I-PER\", \"O\"], \"id\": 1}]",
        ),
        (
            "a",
            r#"{"id": "0", "tokens": ["Ada", "King", "sleeps"], "pos_tags": [1, 1, 2], "ner_tags": [1, 2, 0], "names": ["O", "B-PER", "I-PER"]}"#,
        ),
        (
            "a.jsonl",
            "{\"names\": [\"O\", \"B-PER\", \"I-PER\"]}\n{\"tokens\": [\"Ada\", \"King\", \"sleeps\"], \"tags\": [1, 2.0, 0], \"text\": \"x\"}",
        ),
        (
            "a.jsonl",
            r#"{"tokens": ["Ada", "King", "sleeps"], "chunk_tags": ["B-PER", "I-PER", "O"]}"#,
        ),
    ] {
        let read = read_as(name, text.as_bytes(), &strict()).unwrap();
        assert_eq!(shown(&read), expect, "{text}");
        assert!(read.has_words);
    }
    let options = TaggedOptions {
        names: vec!["O".into(), "PER".into()],
        ..strict()
    };
    let read = read_as(
        "a.jsonl",
        br#"{"tokens": ["Ada", "naps"], "ner_tags": [1, 0]}"#,
        &options,
    )
    .unwrap();
    assert_eq!(
        (shown(&read), read.scheme),
        (vec!["[PER Ada] naps".to_owned()], Scheme::Plain)
    );
    // Without labels, where none are needed.
    let read = read_as(
        "a.jsonl",
        br#"{"tokens": ["Ada", "naps"]}"#,
        &TaggedOptions::default(),
    )
    .unwrap();
    assert_eq!(
        (read.rows[0].spans.as_ref(), read.rows[0].text.as_str()),
        (None, "Ada naps")
    );
    let read = read_as("a.txt", b"Ada\nnaps\n", &TaggedOptions::default()).unwrap();
    assert_eq!(
        (read.rows[0].spans.as_ref(), read.rows[0].words.len()),
        (None, 2)
    );
}

#[test]
fn texts_and_spans_of_every_tool() {
    let expect = ["Zoë [PER Ada] in [LOC Paris]!"];
    let text = r#""text": "Zoë Ada in Paris!""#;
    for rest in [
        r#""label": [[4, 7, "PER"], [11, 16, "LOC"]]"#,
        r#""labels": [[11, 16, "LOC"], [4, 7, "PER"], [4, 7, "PER"]]"#,
        r#""entities": [[4, 7, "PER"], [11, 16, "LOC"]]"#,
        r#""annotations": {"entities": [[4, 7, "PER"], [11, 16, "LOC"]]}"#,
        r#""entities": [{"id": 3, "label": "PER", "start_offset": 4, "end_offset": 7}, {"id": 4, "label": "LOC", "start_offset": 11, "end_offset": 16}], "relations": []"#,
        r#""tokens": [{"text": "Zoë", "start": 0, "end": 3, "id": 0}], "spans": [{"start": 4, "end": 7, "label": "PER", "token_start": 1}, {"start": 11, "end": 16, "label": "LOC", "text": "Paris"}], "answer": "accept""#,
        r#""label": [{"start": 4, "end": 7, "text": "Ada", "labels": ["PER"]}, {"value": {"start": 11, "end": 16, "labels": ["LOC"]}}]"#,
    ] {
        let read = read_as(
            "a.jsonl",
            format!("{{{text}, {rest}}}").as_bytes(),
            &strict(),
        )
        .unwrap();
        assert_eq!(shown(&read), expect, "{rest}");
        assert_eq!((read.has_words, read.scheme), (false, Scheme::Spans));
        assert_eq!(read.notes, Vec::<String>::new());
    }
    let rows = "{\"text\": \" Ada  naps\", \"spans\": [[0, 5, \"PER\"]]}\n{\"text\": \"x\", \"spans\": [[0, 1, \"X\"]], \"answer\": \"reject\"}\n{\"text\": \"y\", \"spans\": []}";
    let read = read_as("a.jsonl", rows.as_bytes(), &strict()).unwrap();
    assert_eq!(shown(&read), [" [PER Ada]  naps", "y"]);
    assert_eq!(read.notes.len(), 2);
    assert!(read.notes[0].ends_with("1 spans had white space at their ends: it is left out"));
    assert!(
        read.notes[1]
            .ends_with("1 rows were rejected or ignored by their annotator (`answer`): left out")
    );
}

#[test]
fn mistakes_have_line_place_and_remedy() {
    let row = |rest: &str| {
        format!("{{\"text\": \"ok\", \"spans\": []}}\n{{\"text\": \"Zoë naps\", {rest}}}")
    };
    for (name, text, expect) in [
        (
            "a",
            "Ada B-PER\nKing NNP I-PER\n".to_owned(),
            "FILE:2: expected 2 columns as in the first line, found 3\nhint: write one word and its tag on each line, with the same columns everywhere, and an empty line between sentences",
        ),
        (
            "a",
            "Ada\nKing\n".to_owned(),
            "FILE:1: expected 2 to 10 columns with tabs or spaces between, the word and its tag, found 1\nhint: write one word",
        ),
        (
            "a",
            "\n\nText of eleven words is not a table of words and tags.\n".to_owned(),
            "FILE:3: expected 2 to 10 columns with tabs or spaces between, the word and its tag, found 12\nhint: ",
        ),
        (
            "a",
            "Ada\t\tB-PER\n\t\tI-PER\n".to_owned(),
            "FILE:2: the word in column 1 is empty\nhint: fill in or remove the row",
        ),
        (
            "a",
            "Ada B-PER\nKing I-PER\n\nnaps O\nParis LOC\nLyon B-LOC\n".to_owned(),
            "FILE:5: the tag `LOC` in column 2 has no prefix, though the file's tags are BIO\nhint: write B- before the first word of a span and I- before the others",
        ),
        (
            "a",
            "Ada B-PER\nK\u{0}ing I-PER\n".replace('\u{0}', "\u{1}") + "x",
            "FILE:3: expected 2 columns as in the first line, found 1\nhint: ",
        ),
        (
            "a.jsonl",
            "{\"tokens\": [\"a\", \"b\"], \"tags\": [\"O\"]}".to_owned(),
            "FILE:1: `tokens` has 2 words, `tags` has 1 tags\nhint: give every word one tag, O where it belongs to nothing",
        ),
        (
            "a.jsonl",
            "{\"tokens\": [\"a\", \"b\", \"c\"], \"tags\": [\"B-x\", \"x\", \"I-x\"]}".to_owned(),
            "FILE:1: the tag `x` in `tags[1]` has no prefix, though the file's tags are BIO\nhint: ",
        ),
        (
            "a.jsonl",
            "{\"tokens\": [\"a\", \"b\"], \"ner_tags\": [0, 1]}".to_owned(),
            "FILE:1: the tag 0 in `ner_tags[0]` is a number, and the file does not say what numbers mean\nhint: name the tags in order, in every row or in a first row of its own: {\"names\": ",
        ),
        (
            "a.jsonl",
            "{\"tokens\": [\"a\", \"b\"], \"ner_tags\": [0, 7], \"names\": [\"O\"]}".to_owned(),
            "FILE:1: the tag 7 in `ner_tags[1]` is a number, and there are 1 names, from 0\nhint: ",
        ),
        (
            "a.jsonl",
            "{\"tokens\": [\"a\", \"\"], \"tags\": [\"O\", \"O\"]}".to_owned(),
            "FILE:1: the word in `tokens[1]` is empty\nhint: ",
        ),
        (
            "a.jsonl",
            "{\"tokens\": [], \"tags\": []}".to_owned(),
            "FILE:1: there are no words in `tokens`\nhint: ",
        ),
        (
            "a.jsonl",
            "{\"tokens\": \"a b\", \"tags\": []}".to_owned(),
            "FILE:1: expected a list of words in `tokens`, found a string\nhint: ",
        ),
        (
            "a.jsonl",
            "{\"tokens\": [\"a\"], \"tags\": \"O\"}".to_owned(),
            "FILE:1: expected a list of tags, a name or a number for each word in `tags`, found a string\nhint: ",
        ),
        (
            "a.jsonl",
            "{\"tokens\": [\"a\"]}".to_owned(),
            "FILE:1: no labels: found the keys `tokens`, expected one of `tags`, `ner_tags`, `labels`, `label` and `ner`\nhint: ",
        ),
        (
            "a.jsonl",
            "{\"body\": \"a\", \"tags\": []}".to_owned(),
            "FILE:1: no text: found the keys `body` and `tags`, expected `text`, or `tokens` with their tags\nhint: ",
        ),
        (
            "a.jsonl",
            "{\"text\": \"a\"}".to_owned(),
            "FILE:1: no labels: found the keys `text`, expected one of `spans`, `entities`, `label`, `labels` and `annotations`\nhint: ",
        ),
        (
            "a.jsonl",
            "{\"text\": \"a\", \"label\": \"good\"}".to_owned(),
            "FILE:1: expected a list of spans in `label`, found a string\nhint: ",
        ),
        (
            "a.jsonl",
            row("\"spans\": [[0, 3, \"PER\"], [4, 9, \"X\"]]"),
            "FILE:2: the span 4 to 9 in `spans[1]` is not inside the text, which has 8 characters\nhint: count characters (Unicode code points, not bytes) from 0; the end is the character behind the last",
        ),
        (
            "a.jsonl",
            row("\"spans\": [[-1, 3, \"PER\"]]"),
            "FILE:2: the span -1 to 3 in `spans[0]` is not inside the text, which has 8 characters\nhint: ",
        ),
        (
            "a.jsonl",
            row("\"spans\": [[3, 4, \"PER\"]]"),
            "FILE:2: the span 3 to 4 in `spans[0]` holds no text\nhint: ",
        ),
        (
            "a.jsonl",
            row("\"spans\": [[0, 3, \"PER\"], [2, 8, \"X\"]]"),
            "FILE:2: the spans 0 to 3 (`PER`) and 2 to 8 (`X`) overlap\nhint: keep one of them: a word has one label",
        ),
        (
            "a.jsonl",
            row("\"spans\": [{\"start\": 1, \"end\": 4, \"label\": \"PER\", \"text\": \"Zoë\"}]"),
            "FILE:2: the span in `spans[0]` should hold `Zoë`, but `oë` stands there\nhint: count characters",
        ),
        (
            "a.jsonl",
            row("\"spans\": [\"PER\"]"),
            "FILE:2: expected [start, end, \"label\"] or {\"start\", \"end\", \"label\"} in `spans[0]`, found a string\nhint: ",
        ),
        (
            "a.jsonl",
            row("\"spans\": [[0, 3]]"),
            "FILE:2: expected [start, end, \"label\"] or {\"start\", \"end\", \"label\"} in `spans[0]`, found no text as label\nhint: ",
        ),
        (
            "a.jsonl",
            row("\"spans\": [[0.5, 3, \"PER\"]]"),
            "FILE:2: expected [start, end, \"label\"] or {\"start\", \"end\", \"label\"} in `spans[0]`, found no whole number as start\nhint: ",
        ),
        (
            "a.jsonl",
            row("\"spans\": [[0, 3, \" \"]]"),
            "FILE:2: the label in `spans[0]` is empty\nhint: ",
        ),
        (
            "a.jsonl",
            row("\"spans\": [[0, 3, \"PER\"]"),
            "FILE:2: not valid JSON at byte column ",
        ),
        (
            "a.jsonl",
            " \n ".to_owned(),
            "FILE: the file is empty\nhint: ",
        ),
        (
            "a",
            "# nothing\n# but comments\n".to_owned(),
            "FILE: there are no rows\nhint: ",
        ),
    ] {
        let found = message(name, &text, &strict());
        assert!(
            found.starts_with(expect),
            "{text}\nexpected {expect}\nfound {found}"
        );
        assert!(found.contains("\nhint: "), "{found}");
    }
    let dir = tempfile::tempdir().unwrap();
    let folder = read_tagged(dir.path(), &strict()).unwrap_err().to_string();
    assert!(
        folder.starts_with("expected a file, found a directory"),
        "{folder}"
    );
    let missing = read_tagged(&dir.path().join("none"), &strict())
        .unwrap_err()
        .to_string();
    assert!(missing.starts_with("no such file: "), "{missing}");
}

#[test]
fn bad_rows_can_be_left_out() {
    let options = TaggedOptions {
        on_bad_example: OnBad::Skip,
        ..strict()
    };
    let text =
        b"Ada B-PER\n\nx y z\nnaps O\n\nin O\nParis LOC\n\nKing B-PER\nLyon \xFF\n\nBob B-PER\n";
    let read = read_as("a", text, &options).unwrap();
    assert_eq!(shown(&read), ["[PER Ada]", "[PER Bob]"]);
    let lines: Vec<u64> = read.skipped.iter().map(|row| row.place.line).collect();
    assert_eq!(lines, [3, 7, 10]);
    let all = message("a.jsonl", "{\"text\": 3}\n{}", &options);
    assert!(all.starts_with("FILE: all 2 rows are bad; the first, line 1: expected text in `text`, found a number\nhint: "), "{all}");
}

/// Any bytes are rows or an error with a remedy.
#[test]
fn no_bytes_panic() {
    let seeds: [&[u8]; 5] = [
        "1\tAd\u{e9}\tNNP\tB-PER\n2\tKing\tNNP\tI-PER\n\n# c\n1\tnaps\tV\tO\n".as_bytes(),
        b"-DOCSTART- O\n\nAda B-PER\r\nKing L-PER\r\n\r\n#x U-LOC\n",
        r#"{"names": ["O", "B-x"]}
{"tokens": ["Zoë", "b"], "ner_tags": [1, 0]}
{"tokens": ["c"], "tags": ["B-x"]}"#.as_bytes(),
        r#"[{"text": "Zoë 日本 x", "spans": [[0, 3, "PER"], {"start": 4, "end": 6, "label": "LOC", "text": "日本"}]},
 {"text": "y", "entities": {"entities": []}, "answer": "reject"}]"#.as_bytes(),
        r#"{"text": "a b", "label": [{"value": {"start": 0, "end": 1, "labels": ["X"]}}]}"#.as_bytes(),
    ];
    let inserted: [&[u8]; 12] = [
        b"",
        b"\n",
        b"\t",
        b" ",
        b"\"",
        b"]",
        b"}",
        b"-1",
        b"99999999999999999999",
        b"\xFF",
        "\u{301}".as_bytes(),
        b"#",
    ];
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("data");
    let mut tried = 0;
    for (number, seed) in seeds.iter().enumerate() {
        for round in 0..700u64 {
            let random =
                |stream| rekindle_base::rng::hash(11, number as u64, round, stream) as usize;
            let mut bytes = seed.to_vec();
            for change in 0..1 + random(0) as u64 % 3 {
                let at = random(1 + 4 * change) % bytes.len().max(1);
                let until = (at + random(2 + 4 * change) % 4).min(bytes.len());
                let new = inserted[random(3 + 4 * change) % inserted.len()];
                bytes.splice(at..until, new.iter().copied());
            }
            tried += usize::from(no_panic(&path, &bytes));
        }
        for cut in 0..seed.len() {
            no_panic(&path, &seed[..cut]);
        }
    }
    assert!(tried > 300, "hardly anything was read: {tried}");
}

fn no_panic(path: &Path, bytes: &[u8]) -> bool {
    let _ = fs::remove_file(path);
    fs::write(path, bytes).unwrap();
    let mut good = false;
    for on_bad_example in [OnBad::Error, OnBad::Skip] {
        let options = TaggedOptions {
            on_bad_example,
            ..TaggedOptions::default()
        };
        match read_tagged(path, &options) {
            Ok(read) => {
                good = true;
                for row in &read.rows {
                    let length = row.text.chars().count();
                    let spans = row.spans.iter().flatten();
                    assert!(
                        spans
                            .clone()
                            .all(|span| span.start < span.end && span.end <= length)
                    );
                    assert!(
                        spans
                            .clone()
                            .zip(spans.skip(1))
                            .all(|(a, b)| a.end <= b.start)
                    );
                    assert!(
                        row.words
                            .iter()
                            .all(|word| word.start < word.end && word.end <= length)
                    );
                }
            }
            Err(error) => assert!(error.to_string().contains("\nhint: "), "{error}"),
        }
    }
    good
}
