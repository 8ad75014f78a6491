//! Datasets: cards in folders, files beside them, and the three kinds of sources.

use std::fs;
use std::path::Path;

use rekindle_hub::{HubError, NoProgress, Source};

use crate::server::{Server, sha256};
use crate::{hub, nobody, tree};

const TRAIN: &[u8] = b"text\tlabel\nhello\tgreet\n";
const TEST: &[u8] = b"text\tlabel\nbye\tpart\n";

/// A card with `more` behind it, as `datasets/mini/card.toml`.
fn write_card(dir: &Path, more: &str) {
    let folder = dir.join("datasets/mini");
    fs::create_dir_all(&folder).unwrap();
    let head = "name = 'mini'\ndescription = 'two rows'\nlicence = 'CC0-1.0'\n[files]\ntrain = 'train.tsv'\ntest = 'test.tsv'\n";
    fs::write(
        folder.join("card.toml"),
        format!("{head}[columns]\ntext = 'text'\nlabel = 'label'\n{more}"),
    )
    .unwrap();
}

fn hashes() -> String {
    format!(
        "[sha256]\ntrain = '{}'\ntest = '{}'\n",
        sha256(TRAIN),
        sha256(TEST)
    )
}

fn server() -> Server {
    let server = Server::start(Default::default());
    server.behaviour.lock().unwrap().files = [("train.tsv", TRAIN), ("data/test.tsv", TEST)]
        .map(|(name, bytes)| (name.into(), bytes.into()))
        .into();
    server
}

#[test]
fn files_beside_the_card_are_found_by_name_folder_and_path() {
    let dir = tempfile::tempdir().unwrap();
    write_card(dir.path(), &hashes());
    let folder = dir.path().join("datasets/mini");
    fs::write(folder.join("train.tsv"), TRAIN).unwrap();
    let hub = hub(dir.path(), &nobody());
    let message = hub.dataset("mini", &NoProgress).unwrap_err().to_string();
    assert!(
        message.contains("files that are not there")
            && message.contains("test.tsv")
            && !message.contains("train.tsv"),
        "{message}"
    );

    fs::write(folder.join("test.tsv"), TEST).unwrap();
    for name in [
        "mini",
        folder.to_str().unwrap(),
        folder.join("card.toml").to_str().unwrap(),
    ] {
        let found = hub.dataset(name, &NoProgress).unwrap();
        assert_eq!(
            (found.name.as_str(), &found.source),
            ("mini", &Source::Path)
        );
        assert_eq!(found.files["test"], folder.join("test.tsv"));
        assert_eq!(found.card.columns.label.as_deref(), Some("label"));
    }

    fs::write(folder.join("test.tsv"), "changed").unwrap();
    let message = hub.dataset("mini", &NoProgress).unwrap_err().to_string();
    assert!(
        message.contains("test.tsv is ") && message.contains(&sha256(TEST)),
        "{message}"
    );
}

#[test]
fn unknown_names_get_near_misses() {
    let dir = tempfile::tempdir().unwrap();
    write_card(dir.path(), "");
    fs::copy(
        dir.path().join("datasets/mini/card.toml"),
        dir.path().join("datasets/flat.toml"),
    )
    .unwrap();
    let hub = hub(dir.path(), &nobody());
    let names = [
        "flat",
        "helpdesk-entities",
        "icons",
        "intents",
        "mini",
        "sentiment-intensity",
        "smart-home",
        "smart-home-slots",
        "threat-reports",
    ];
    assert_eq!(hub.dataset_names(), names);
    let message = hub.dataset("minj", &NoProgress).unwrap_err().to_string();
    assert!(
        message.contains("did you mean `mini`?")
            && message.contains("known datasets: flat, helpdesk-entities, icons, intents, mini, "),
        "{message}"
    );
    assert!(matches!(
        hub.dataset("no/card.toml", &NoProgress),
        Err(HubError::PathNotFound { .. })
    ));
    assert!(matches!(
        hub.dataset("../mini", &NoProgress),
        Err(HubError::Unknown { .. })
    ));
}

#[test]
fn each_kind_of_source_fetches_once_and_then_serves_offline() {
    let server = server();
    let url = format!(
        "[[source]]\nkind = 'url'\n[source.files]\ntrain = '{0}/train.tsv'\ntest = '{0}/data/test.tsv'\n",
        server.url
    );
    let on_hub =
        "[[source]]\nkind = 'hub'\nrepo = 'org/mini'\n[source.files]\ntest = 'data/test.tsv'\n"
            .to_string();
    let mut cases = vec![
        (url, "rekindle/files"),
        (on_hub, "hf/datasets--org--mini/snapshots"),
    ];
    if cfg!(unix) {
        let package =
            "[[source]]\nkind = 'package'\nname = 'tiny'\nversion = '1.0'\npath = 'tiny/data'\n";
        cases.push((package.to_string(), "rekindle/packages/tiny-1.0"));
    }
    for (source, place) in cases {
        let dir = tempfile::tempdir().unwrap();
        write_card(dir.path(), &format!("{}{source}", hashes()));
        let hub = hub(dir.path(), &server.url);
        #[cfg(unix)]
        let hub = {
            crate::packages::wheel(
                dir.path(),
                [("tiny/data/train.tsv", TRAIN), ("tiny/data/test.tsv", TEST)],
            );
            hub.python(crate::packages::fake_pip())
        };
        let before = server.requests().len();
        let message = hub
            .clone()
            .offline(true)
            .dataset("mini", &NoProgress)
            .unwrap_err()
            .to_string();
        assert!(
            message.contains("offline mode") && message.contains("rekindle fetch mini"),
            "{message}"
        );
        assert_eq!(server.requests().len(), before);

        let found = hub.dataset("mini", &NoProgress).unwrap();
        assert_eq!(fs::read(&found.files["train"]).unwrap(), TRAIN, "{source}");
        assert_eq!(fs::read(&found.files["test"]).unwrap(), TEST, "{source}");
        assert!(
            found
                .files
                .values()
                .all(|file| file.starts_with(dir.path().join(place)) && file.is_absolute()),
            "{:?}",
            found.files
        );

        let before = server.requests().len();
        let again = hub.offline(true).dataset("mini", &NoProgress).unwrap();
        assert_eq!(
            (again.files, server.requests().len()),
            (found.files, before)
        );
    }
    assert!(
        server
            .requests()
            .iter()
            .any(|request| request.path == "/api/datasets/org/mini/revision/main")
    );
    assert!(
        server
            .requests()
            .iter()
            .any(|request| request.path.starts_with("/datasets/org/mini/resolve/"))
    );
}

#[test]
fn a_source_that_fails_gives_way_to_the_next_and_wrong_files_are_refused() {
    let server = server();
    let dir = tempfile::tempdir().unwrap();
    let first = format!(
        "[[source]]\nkind = 'url'\n[source.files]\ntrain = '{0}/gone'\ntest = '{0}/gone'\n",
        nobody()
    );
    let second =
        "[[source]]\nkind = 'hub'\nrepo = 'org/mini'\n[source.files]\ntest = 'data/test.tsv'\n";
    write_card(dir.path(), &format!("{}{first}{second}", hashes()));
    let found = hub(dir.path(), &server.url)
        .dataset("mini", &NoProgress)
        .unwrap();
    assert!(matches!(found.source, Source::Hub { .. }));

    let dir = tempfile::tempdir().unwrap();
    let swapped = format!(
        "[[source]]\nkind = 'url'\n[source.files]\ntrain = '{0}/data/test.tsv'\ntest = '{0}/train.tsv'\n",
        server.url
    );
    write_card(dir.path(), &format!("{}{swapped}", hashes()));
    let message = hub(dir.path(), &server.url)
        .dataset("mini", &NoProgress)
        .unwrap_err()
        .to_string();
    assert!(
        message.contains("cannot get dataset `mini`") && message.contains(&sha256(TRAIN)),
        "{message}"
    );
    assert!(
        tree(&dir.path().join("rekindle"))
            .iter()
            .all(|file| !file.ends_with(".tsv"))
    );
}
