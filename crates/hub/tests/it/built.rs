//! Datasets that a tool makes: the hub finds them, and says which command makes them.

use std::fs;
use std::path::Path;

use rekindle_hub::{Hub, HubError, NoProgress, Source};

use crate::server::sha256;
use crate::{hub, nobody, tree};

const FILES: [(&str, &str); 2] = [("test/cat/b.png", "two"), ("train/cat/a.png", "one")];

fn list() -> String {
    FILES
        .map(|(path, text)| format!("{}  {path}\n", sha256(text.as_bytes())))
        .concat()
}

fn with_card(dir: &Path) -> Hub {
    let folder = dir.join("datasets/mini");
    fs::create_dir_all(&folder).unwrap();
    let card = format!(
        "name = 'mini'\nkind = 'images'\ndescription = 'two'\nlicence = 'MIT'\n[files]\ntrain = 'train'\ntest = 'test'\n\
         [built]\ncommand = 'make mini'\nsha256 = '{}'\n",
        sha256(list().as_bytes())
    );
    fs::write(folder.join("card.toml"), card).unwrap();
    hub(dir, &nobody())
}

/// What a tool leaves before it hands the folder over.
fn finished(dir: &Path) -> std::path::PathBuf {
    let fresh = dir.join("rekindle/images/.fresh");
    for (path, text) in FILES {
        let path = fresh.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    fresh
}

#[test]
fn a_dataset_is_found_once_its_tool_has_made_it() {
    let dir = tempfile::tempdir().unwrap();
    let hub = with_card(dir.path());
    let error = hub.dataset("mini", &NoProgress).unwrap_err();
    assert!(matches!(error, HubError::NotBuilt { .. }));
    let message = error.to_string();
    for part in [
        "run `make mini`",
        "datasets/mini/train",
        "rekindle/images/mini-",
    ] {
        assert!(message.contains(part), "{part}: {message}");
    }

    let (card, _) = hub.dataset_card("mini").unwrap();
    let place = hub.built_place(&card).unwrap();
    let kept = hub
        .install_built(&card, &finished(dir.path()), &list())
        .unwrap();
    assert_eq!(kept, place);
    let found = hub
        .clone()
        .offline(true)
        .dataset("mini", &NoProgress)
        .unwrap();
    assert_eq!(found.files["train"], place.join("train"));
    assert_eq!(
        found.source,
        Source::Built {
            command: "make mini".into()
        }
    );

    // A file that has gone is noticed, and the folder can be put in place again.
    fs::remove_file(place.join("train/cat/a.png")).unwrap();
    assert!(matches!(
        hub.dataset("mini", &NoProgress),
        Err(HubError::NotBuilt { .. })
    ));
    hub.install_built(&card, &finished(dir.path()), &list())
        .unwrap();
    assert!(hub.dataset("mini", &NoProgress).is_ok());
}

#[test]
fn what_is_not_the_cards_is_not_kept() {
    let dir = tempfile::tempdir().unwrap();
    let hub = with_card(dir.path());
    let (card, _) = hub.dataset_card("mini").unwrap();
    let fresh = finished(dir.path());
    let message = hub
        .install_built(&card, &fresh, &list().replace("a.png", "c.png"))
        .unwrap_err()
        .to_string();
    assert!(message.contains("update sha256 of [built]"), "{message}");
    fs::remove_file(fresh.join("train/cat/a.png")).unwrap();
    let message = hub
        .install_built(&card, &fresh, &list())
        .unwrap_err()
        .to_string();
    assert!(message.contains("train/cat/a.png"), "{message}");
    assert!(!hub.built_place(&card).unwrap().exists());
}

#[test]
fn the_built_in_icons_name_the_command() {
    let dir = tempfile::tempdir().unwrap();
    let message = hub(dir.path(), &nobody())
        .dataset("icons", &NoProgress)
        .unwrap_err()
        .to_string();
    assert!(message.contains("cargo xtask dataset icons"), "{message}");
    assert_eq!(tree(&dir.path().join("rekindle")).len(), 1, "only the card");
}
