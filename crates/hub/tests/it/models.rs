//! Models: paths, the cache, and the hub's protocol.

use std::fs;
use std::path::Path;
use std::thread;
use std::time::Instant;

use rekindle_hub::{Hub, HubError, NoProgress, Source};

use crate::server::{Behaviour, COMMIT, Server, git_sha1, model_files, sha256};
use crate::{Recorder, hub, nobody, tree};

const NAME: &str = "org/tiny-bert";
const FOLDER: &str = "models--org--tiny-bert";

fn fetch(dir: &Path, server: &Server) -> Result<rekindle_hub::Resolved, HubError> {
    hub(dir, &server.url).model(NAME, &NoProgress)
}

/// Every file that fine-tuning needs arrived as the server has it.
fn assert_complete(dir: &Path) {
    for (name, bytes) in model_files()
        .iter()
        .filter(|(name, _)| !name.starts_with("onnx") && *name != "README.md")
    {
        assert_eq!(&fs::read(dir.join(name)).unwrap(), bytes, "{name}");
    }
}

#[test]
fn a_directory_is_taken_as_it_is_and_an_incomplete_one_says_what_is_missing() {
    let dir = tempfile::tempdir().unwrap();
    let hub = hub(dir.path(), &nobody()).offline(true);
    let name = dir.path().to_str().unwrap();
    let message = hub.model(name, &NoProgress).unwrap_err().to_string();
    assert!(
        message.contains("missing config.json, weights (model.safetensors"),
        "{message}"
    );
    fs::write(dir.path().join("config.json"), "{}").unwrap();
    fs::write(dir.path().join("model.safetensors"), "").unwrap();
    let found = hub.model(name, &NoProgress).unwrap();
    assert_eq!(
        (found.dir.as_path(), found.source, found.revision),
        (dir.path(), Source::Path, None)
    );
    let file = dir.path().join("config.json");
    assert!(matches!(
        hub.model(file.to_str().unwrap(), &NoProgress),
        Err(HubError::NotADirectory { .. })
    ));
    assert!(matches!(
        hub.model("./no/such/place", &NoProgress),
        Err(HubError::PathNotFound { .. })
    ));
    fs::remove_file(&file).unwrap();
    fs::write(dir.path().join("adapter_config.json"), "{}").unwrap();
    let message = hub.model(name, &NoProgress).unwrap_err().to_string();
    assert!(message.contains("PEFT adapter"), "{message}");
}

#[test]
fn a_word_that_nobody_knows_gets_near_misses_and_no_request() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::with_model();
    let message = hub(dir.path(), &server.url)
        .model("minilmm", &NoProgress)
        .unwrap_err()
        .to_string();
    assert!(
        message.contains("did you mean `minilm`?") && message.contains("org/name"),
        "{message}"
    );
    assert!(server.requests().is_empty());
}

#[test]
fn a_download_has_the_layout_of_pythons_cache() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::with_model();
    let progress = Recorder::default();
    let hub = hub(dir.path(), &server.url);
    let found = hub.model(NAME, &progress).unwrap();
    assert_complete(&found.dir);
    assert_eq!(
        found.source,
        Source::Hub {
            endpoint: server.url.clone(),
            commit: COMMIT.to_string()
        }
    );
    let root = dir.path().join("hf").join(FOLDER);
    assert_eq!(found.dir, root.join("snapshots").join(COMMIT));
    assert_eq!(fs::read_to_string(root.join("refs/main")).unwrap(), COMMIT);

    let files = model_files();
    let name_of = |name: &str| {
        let sha256 = sha256(&files[name]);
        if name.ends_with("config.json") {
            git_sha1(&files[name])
        } else {
            sha256
        }
    };
    let wanted = [
        "1_Pooling/config.json",
        "config.json",
        "model.safetensors",
        "tokenizer.json",
    ];
    let mut expect: Vec<String> = wanted
        .iter()
        .map(|name| format!("blobs/{}", name_of(name)))
        .collect();
    expect.extend(
        wanted
            .iter()
            .map(|name| format!("snapshots/{COMMIT}/{name}")),
    );
    expect.push("refs/main".to_string());
    expect.sort();
    assert_eq!(tree(&root), expect);
    #[cfg(unix)]
    {
        let link = |name: &str| {
            fs::read_link(found.dir.join(name))
                .unwrap()
                .to_str()
                .unwrap()
                .to_string()
        };
        assert_eq!(
            link("model.safetensors"),
            format!("../../blobs/{}", name_of("model.safetensors"))
        );
        assert_eq!(
            link("1_Pooling/config.json"),
            format!("../../../blobs/{}", name_of("1_Pooling/config.json"))
        );
    }
    assert_eq!(
        progress.bytes.lock().unwrap()["model.safetensors"],
        files["model.safetensors"].len() as u64
    );
    assert_eq!(progress.finished.lock().unwrap().len(), wanted.len());

    // The second time the cache has it: by name, by revision and by commit, without a request.
    let before = server.requests().len();
    for name in [
        NAME.to_string(),
        format!("{NAME}@main"),
        format!("{NAME}@{COMMIT}"),
    ] {
        let again = hub.clone().offline(true).model(&name, &NoProgress).unwrap();
        assert_eq!(
            (again.dir, again.source),
            (
                found.dir.clone(),
                Source::HfCache {
                    commit: COMMIT.to_string()
                }
            )
        );
    }
    assert_eq!(server.requests().len(), before);
}

#[test]
fn a_local_model_resolves_within_5_ms() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::with_model();
    fetch(dir.path(), &server).unwrap();
    let hub = hub(dir.path(), &server.url);
    // The best of some, as the machine may be busy.
    let best = (0..20).map(|_| {
        let start = Instant::now();
        hub.model(NAME, &NoProgress).unwrap();
        start.elapsed()
    });
    assert!(best.min().unwrap().as_millis() < 5);
}

#[test]
fn a_cut_download_goes_on_where_it_stopped() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::with_model();
    server
        .behaviour
        .lock()
        .unwrap()
        .files
        .remove("tokenizer.json");
    server.behaviour.lock().unwrap().cut = vec![100_000, 50_000];
    let found = fetch(dir.path(), &server).unwrap();
    let bytes = &model_files()["model.safetensors"];
    assert_eq!(
        &fs::read(found.dir.join("model.safetensors")).unwrap(),
        bytes
    );
    let ranges: Vec<_> = server
        .requests()
        .iter()
        .filter(|r| r.method == "GET" && r.path.ends_with("safetensors"))
        .map(|r| r.range)
        .collect();
    assert_eq!(ranges, [None, Some(100_000), Some(150_000)]);
}

#[test]
fn a_download_given_up_leaves_no_snapshot_and_the_next_run_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::with_model();
    server
        .behaviour
        .lock()
        .unwrap()
        .files
        .remove("tokenizer.json");
    server.behaviour.lock().unwrap().cut = vec![30_000, 10_000, 0, 0];
    let message = fetch(dir.path(), &server).unwrap_err().to_string();
    assert!(
        message.contains("broke off at 40000 of 300000 bytes")
            && message.contains("run the same command again"),
        "{message}"
    );
    assert!(
        tree(&dir.path().join("hf").join(FOLDER))
            .iter()
            .all(|file| !file.starts_with("snapshots") && !file.starts_with("refs"))
    );
    let before = server.requests().len();
    assert_eq!(
        fs::read(
            fetch(dir.path(), &server)
                .unwrap()
                .dir
                .join("model.safetensors")
        )
        .unwrap(),
        model_files()["model.safetensors"]
    );
    let ranges: Vec<_> = server.requests()[before..]
        .iter()
        .filter_map(|request| request.range)
        .collect();
    assert_eq!(ranges, [40_000]);
}

#[test]
fn a_server_without_ranges_and_a_stale_start_still_give_the_right_file() {
    let sha256 = sha256(&model_files()["model.safetensors"]);
    for (no_range, stale) in [
        (true, 1000),
        (false, 1000),
        (false, 300_000),
        (false, 400_000),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let server = Server::with_model();
        server.behaviour.lock().unwrap().no_range = no_range;
        let blobs = dir.path().join("hf").join(FOLDER).join("blobs");
        fs::create_dir_all(&blobs).unwrap();
        // Bytes of another file: the hash finds out, and the whole is fetched anew.
        fs::write(blobs.join(format!("{sha256}.incomplete")), vec![7; stale]).unwrap();
        let found = fetch(dir.path(), &server).unwrap();
        assert_complete(&found.dir);
    }
}

#[test]
fn the_token_goes_to_the_endpoint_and_not_to_its_file_host() {
    let dir = tempfile::tempdir().unwrap();
    let cdn = Server::with_model();
    let server = Server::start(Behaviour {
        files: model_files(),
        cdn: Some(cdn.url.clone()),
        token: Some("secret".into()),
        ..Behaviour::default()
    });
    let hub = hub(dir.path(), &server.url).token(Some("secret".into()));
    assert!(!format!("{hub:?}").contains("secret"));
    assert_complete(&hub.model(NAME, &NoProgress).unwrap().dir);
    assert!(
        cdn.downloads() >= 2
            && cdn
                .requests()
                .iter()
                .all(|request| request.authorization.is_none())
    );
    assert!(
        server
            .requests()
            .iter()
            .all(|request| request.authorization.as_deref() == Some("Bearer secret"))
    );
}

#[test]
fn refusals_name_the_remedy() {
    let token = |token: &str| Some(token.to_string());
    type Token = Option<String>;
    type Status = Option<(u16, usize)>;
    let cases: [(Status, Token, Token, &[&str]); 5] = [
        (
            None,
            token("right"),
            None,
            &["answered 401", "no token was sent", "HF_TOKEN"],
        ),
        (
            None,
            token("right"),
            token("wrong"),
            &["answered 401", "the token in HF_TOKEN does not open it"],
        ),
        (
            Some((403, 9)),
            None,
            token("x"),
            &["answered 403", "accept the model's terms"],
        ),
        (
            Some((404, 9)),
            None,
            None,
            &["answered 404", "check the spelling"],
        ),
        (
            Some((503, 99)),
            None,
            None,
            &["answered 503", "try again later"],
        ),
    ];
    for (fail, demanded, sent, expect) in cases {
        let dir = tempfile::tempdir().unwrap();
        let server = Server::start(Behaviour {
            files: model_files(),
            fail,
            token: demanded,
            ..Behaviour::default()
        });
        let error = hub(dir.path(), &server.url)
            .token(sent)
            .model(NAME, &NoProgress)
            .unwrap_err();
        assert!(matches!(error, HubError::Unavailable { .. }));
        let message = error.to_string();
        assert!(
            expect.iter().all(|part| message.contains(part)),
            "{message}"
        );
        assert!(
            message.contains(&server.url) && message.contains("pass their directory"),
            "{message}"
        );
        let tries = if fail.is_some_and(|(status, _)| status == 503) {
            4
        } else {
            1
        };
        assert_eq!(server.requests().len(), tries, "{message}");
    }
}

#[test]
fn a_server_in_trouble_is_asked_again() {
    for status in [500, 503, 429] {
        let dir = tempfile::tempdir().unwrap();
        let server = Server::with_model();
        server.behaviour.lock().unwrap().fail = Some((status, 3));
        assert_complete(&fetch(dir.path(), &server).unwrap().dir);
    }
}

#[test]
fn a_misspelt_repository_of_a_card_gets_the_right_name() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::with_model();
    server.behaviour.lock().unwrap().fail = Some((404, 9));
    let message = hub(dir.path(), &server.url)
        .model("sentence-transformers/all-MiniLM-L6-v3", &NoProgress)
        .unwrap_err()
        .to_string();
    assert!(
        message.contains("did you mean `sentence-transformers/all-MiniLM-L6-v2`?"),
        "{message}"
    );
}

#[test]
fn a_file_with_a_wrong_hash_never_gets_its_name() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::with_model();
    server
        .behaviour
        .lock()
        .unwrap()
        .files
        .remove("tokenizer.json");
    server.behaviour.lock().unwrap().false_sha256 = Some("a".repeat(64));
    let message = fetch(dir.path(), &server).unwrap_err().to_string();
    let real = sha256(&model_files()["model.safetensors"]);
    assert!(
        message.contains(&format!(
            "sha256 of model.safetensors is {real}, expected aaaa"
        )),
        "{message}"
    );
    let left = tree(&dir.path().join("hf").join(FOLDER));
    assert!(
        left.iter()
            .all(|file| !file.contains(&"a".repeat(64)) && !file.starts_with("snapshots")),
        "{left:?}"
    );
}

/// A damaged file of the right length was taken as it was, and a small one in any case.
#[test]
fn files_that_are_there_are_checked_too() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::with_model();
    let found = fetch(dir.path(), &server).unwrap().dir;
    for name in ["config.json", "model.safetensors"] {
        let path = found.join(name).canonicalize().unwrap();
        let good = fs::read(&path).unwrap();
        fs::write(&path, vec![b'x'; good.len()]).unwrap();
        // An incomplete snapshot is asked for again.
        fs::remove_file(found.join("model.safetensors")).unwrap();
        fetch(dir.path(), &server).unwrap();
        assert_eq!(fs::read(&path).unwrap(), good, "{name}");
    }
    let small = |bytes: &[u8]| {
        let mut behaviour = server.behaviour.lock().unwrap();
        behaviour.files.insert("config.json".into(), bytes.to_vec());
        behaviour.false_git_sha1 = Some("b".repeat(40));
    };
    small(b"{}");
    let fresh = tempfile::tempdir().unwrap();
    let message = fetch(fresh.path(), &server).unwrap_err().to_string();
    assert!(
        // There are two of that name, which are fetched at once.
        message.contains("git's sha1 of ") && message.contains("config.json is "),
        "{message}"
    );
}

#[test]
fn a_repository_without_weights_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::with_model();
    server
        .behaviour
        .lock()
        .unwrap()
        .files
        .remove("model.safetensors");
    let message = fetch(dir.path(), &server).unwrap_err().to_string();
    assert!(
        message.contains("repository org/tiny-bert at main has no weights"),
        "{message}"
    );
}

#[test]
fn names_that_a_server_makes_up_stay_in_the_cache() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::with_model();
    server
        .behaviour
        .lock()
        .unwrap()
        .files
        .insert("../../../evil_Pooling/config.json".into(), b"x".to_vec());
    assert_complete(&fetch(dir.path(), &server).unwrap().dir);
    assert!(!tree(dir.path()).iter().any(|file| file.contains("evil")));
}

#[test]
fn offline_makes_no_request_and_says_where_it_looked() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::with_model();
    let hub: Hub = hub(dir.path(), &server.url).offline(true);
    for (name, places) in [
        (NAME, vec![FOLDER]),
        (
            "minilm",
            vec![
                "models--sentence-transformers--all-MiniLM-L6-v2",
                "packages",
            ],
        ),
    ] {
        let message = hub.model(name, &NoProgress).unwrap_err().to_string();
        assert!(
            places.iter().all(|place| message.contains(place)),
            "{message}"
        );
        assert!(
            message.contains(&format!("run `rekindle fetch {name}` while online")),
            "{message}"
        );
    }
    assert!(server.requests().is_empty());
    assert!(tree(dir.path()).is_empty());
}

#[test]
fn two_at_once_download_each_file_once() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::with_model();
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| assert_complete(&fetch(dir.path(), &server).unwrap().dir));
        }
    });
    assert_eq!(server.downloads(), 4, "four files are needed");
}

#[test]
fn a_half_filled_cache_is_completed() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::with_model();
    let found = fetch(dir.path(), &server).unwrap();
    fs::remove_file(found.dir.join("model.safetensors")).unwrap();
    assert_complete(&fetch(dir.path(), &server).unwrap().dir);
    assert_eq!(server.downloads(), 4, "the blob was still there");
}
