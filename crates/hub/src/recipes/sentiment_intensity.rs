//! sentiment-intensity: the ground truth of VADER (Hutto and Gilbert 2014), four tables in an archive within the source archive.
//!
//! A table's row is `id<TAB>mean rating<TAB>text`, lines end with CRLF. Ours is `source<TAB>id<TAB>score<TAB>text`: the fields
//! are unchanged but for the line end.

use std::fs::File;
use std::path::Path;

use super::Made;
use super::split::{Row, split};
use crate::archive;
use crate::error::HubError;

const INNER: &str = "vaderSentiment-3.3.2/additional_resources/hutto_ICWSM_2014.tar.gz";
/// What the texts are, and the table inside the inner archive.
const TABLES: [(&str, &str); 4] = [
    (
        "movies",
        "hutto_ICWSM_2014/movieReviewSnippets_GroundTruth.txt",
    ),
    (
        "products",
        "hutto_ICWSM_2014/amazonReviewSnippets_GroundTruth.txt",
    ),
    ("tweets", "hutto_ICWSM_2014/tweets_GroundTruth.txt"),
    (
        "news",
        "hutto_ICWSM_2014/nytEditorialSnippets_GroundTruth.txt",
    ),
];
const HEADER: &str = "source\tid\tscore\ttext\n";
const SEED: u64 = 0;
const SHARES: [(&str, usize); 2] = [("train", 80), ("test", 20)];
/// Ratings are from -4 to 4.
const EXTREME: f64 = 4.0;

/// `train` and `test`, as tab-separated values.
pub(super) fn make(archive: &Path) -> Result<Made, HubError> {
    let file = File::open(archive).map_err(HubError::io("read", archive))?;
    let inner = archive::tar_gz(archive, file, &[INNER])?.concat();
    let tables = archive::tar_gz(archive, &inner[..], &TABLES.map(|(_, table)| table))?;
    let mut rows = Vec::new();
    for ((source, table), bytes) in TABLES.into_iter().zip(tables) {
        rows.extend(parse(source, &bytes).map_err(|detail| HubError::Archive {
            path: archive.to_path_buf(),
            detail: format!("{table}: {detail}"),
        })?);
    }
    let text = |lines: Vec<String>| format!("{HEADER}{}\n", lines.join("\n"));
    let splits = split(rows, SEED, &SHARES).into_iter();
    Ok(splits.map(|(name, lines)| (name, text(lines))).collect())
}

fn parse(source: &'static str, table: &[u8]) -> Result<Vec<Row>, String> {
    let table = std::str::from_utf8(table).map_err(|error| error.to_string())?;
    let parse_line = |(number, line): (usize, &str)| {
        let [id, score, text] = line.split('\t').collect::<Vec<_>>()[..] else {
            return Err(format!("line {}: expected 3 columns", number + 1));
        };
        let rating = score
            .parse::<f64>()
            .ok()
            .filter(|rating| rating.abs() <= EXTREME);
        if rating.is_none() || text.trim().is_empty() {
            return Err(format!(
                "line {}: expected a rating from -4 to 4 and a text, found {score:?}",
                number + 1
            ));
        }
        Ok(Row {
            stratum: source,
            text: text.to_string(),
            line: format!("{source}\t{id}\t{score}\t{text}"),
        })
    };
    table.lines().enumerate().map(parse_line).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_row_keeps_its_fields() {
        let rows = parse("news", b"1_1\t-0.25\tIt \"rained\".\r\n1_2\t4\tSun!").unwrap();
        let lines: Vec<&str> = rows.iter().map(|row| row.line.as_str()).collect();
        assert_eq!(
            lines,
            ["news\t1_1\t-0.25\tIt \"rained\".", "news\t1_2\t4\tSun!"]
        );
    }

    #[test]
    fn a_bad_row_is_named() {
        for (table, expect) in [
            ("1\t0.5\ta\n2\tb", "line 2: expected 3 columns"),
            ("1\t4.5\ta", "line 1: expected a rating"),
            ("1\tNaN\ta", "line 1: expected a rating"),
            ("1\t1\t \r\n", "line 1: expected a rating"),
        ] {
            let message = parse("news", table.as_bytes()).unwrap_err();
            assert!(message.contains(expect), "{table:?}: {message}");
        }
        assert!(parse("news", b"1\t1\t\xff").is_err());
    }
}
