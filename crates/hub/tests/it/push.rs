//! Pushing a folder, against a server that speaks the hub's protocol for writing.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::{fs, thread};

use rekindle_hub::{Hub, HubError, NoProgress, Push, Pushed, sha256_of_bytes};
use serde_json::{Value, json};

use crate::{Recorder, hub};

const TOKEN: &str = "hf_test";
const REPO: &str = "me/model";
/// Bytes of a part of a large file.
const CHUNK: usize = 1000;

/// A repository, and what was asked of it.
#[derive(Default)]
struct Repository {
    exists: bool,
    visibility: String,
    large: BTreeMap<String, Vec<u8>>,
    parts: BTreeMap<usize, Vec<u8>>,
    files: BTreeMap<String, Vec<u8>>,
    summaries: Vec<String>,
    verified: usize,
    puts: usize,
    /// Answer 503 to that many requests first.
    failing: usize,
    /// Take large files in parts.
    in_parts: bool,
    /// The token may only read.
    read_only: bool,
}

struct Server {
    url: String,
    repository: Arc<Mutex<Repository>>,
}

impl Server {
    fn start(repository: Repository) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let repository = Arc::new(Mutex::new(repository));
        let (shared, base) = (repository.clone(), url.clone());
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (shared, base) = (shared.clone(), base.clone());
                thread::spawn(move || serve(&stream, &base, &shared));
            }
        });
        Self { url, repository }
    }

    fn push(&self, dir: &Path) -> Result<Pushed, HubError> {
        let work = tempfile::tempdir().unwrap();
        let hub = hub(work.path(), &self.url).token(Some(TOKEN.to_owned()));
        hub.push(&what(dir), &NoProgress)
    }
}

fn what(dir: &Path) -> Push<'_> {
    Push {
        dir,
        repo: REPO,
        revision: "main",
        private: true,
        message: "a commit",
    }
}

fn serve(stream: &TcpStream, base: &str, repository: &Mutex<Repository>) {
    let mut reader = BufReader::new(stream);
    let mut writer = stream;
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).unwrap_or(0) == 0 {
            return;
        }
        let (mut length, mut authorization) = (None, None);
        loop {
            let mut header = String::new();
            reader.read_line(&mut header).unwrap();
            let Some((name, value)) = header.trim().split_once(": ") else {
                break;
            };
            match name.to_ascii_lowercase().as_str() {
                "content-length" => length = value.parse::<usize>().ok(),
                "authorization" => authorization = Some(value.to_owned()),
                _ => {}
            }
        }
        // Storage takes no bodies of unknown length.
        let mut body = vec![0; length.expect("a body without its length")];
        reader.read_exact(&mut body).unwrap();
        let mut words = line.split_whitespace();
        let (method, path) = (words.next().unwrap(), words.next().unwrap());
        let mut repository = repository.lock().unwrap();
        let (status, headers, answer) = match repository.failing {
            0 => answer(method, path, authorization, &body, base, &mut repository),
            _ => {
                repository.failing -= 1;
                (503, String::new(), Value::Null)
            }
        };
        let text = answer.to_string();
        let reply = format!(
            "HTTP/1.1 {status} X\r\n{headers}Content-Length: {}\r\n\r\n{text}",
            text.len()
        );
        writer.write_all(reply.as_bytes()).unwrap();
    }
}

fn answer(
    method: &str,
    path: &str,
    authorization: Option<String>,
    body: &[u8],
    base: &str,
    repository: &mut Repository,
) -> (u16, String, Value) {
    let ok = |value: Value| (200, String::new(), value);
    let json_body = || -> Value { serde_json::from_slice(body).unwrap() };
    if method == "PUT" {
        assert_eq!(authorization, None, "the token went to the storage");
        repository.puts += 1;
        return match path.split_once("/part/") {
            Some((_, number)) => {
                let number = number.parse().unwrap();
                repository.parts.insert(number, body.to_vec());
                (200, format!("ETag: \"part-{number}\"\r\n"), Value::Null)
            }
            None => {
                let oid = path.rsplit('/').next().unwrap().to_owned();
                repository.large.insert(oid, body.to_vec());
                ok(Value::Null)
            }
        };
    }
    if authorization != Some(format!("Bearer {TOKEN}")) {
        return (401, String::new(), Value::Null);
    }
    if repository.read_only {
        return (403, String::new(), Value::Null);
    }
    match path {
        "/api/repos/create" => {
            let asked = json_body();
            assert_eq!(
                (&asked["organization"], &asked["name"]),
                (&json!("me"), &json!("model"))
            );
            if repository.exists {
                return (409, String::new(), Value::Null);
            }
            repository.exists = true;
            repository.visibility = asked["visibility"].as_str().unwrap().to_owned();
            ok(json!({ "url": format!("{base}/{REPO}") }))
        }
        "/api/models/me/model/preupload/main" => {
            let asked = json_body();
            let files = asked["files"].as_array().unwrap().iter().map(|file| {
                let path = file["path"].as_str().unwrap();
                let mode = match path.ends_with(".safetensors") {
                    true => "lfs",
                    false => "regular",
                };
                assert!(file["sample"].is_string() && file["size"].is_u64());
                json!({ "path": path, "uploadMode": mode, "shouldIgnore": path == "ignored.txt" })
            });
            ok(json!({ "files": files.collect::<Vec<_>>() }))
        }
        "/me/model.git/info/lfs/objects/batch" => {
            let asked = json_body();
            let (oid, size) = (&asked["objects"][0]["oid"], &asked["objects"][0]["size"]);
            let oid = oid.as_str().unwrap();
            let mut object = json!({ "oid": oid, "size": size });
            let verify = json!({ "href": format!("{base}/verify") });
            if repository.in_parts {
                let parts = (size.as_u64().unwrap() as usize).div_ceil(CHUNK);
                let mut header = json!({ "chunk_size": CHUNK.to_string() });
                for part in 1..=parts {
                    // Numbers as the hub writes them; texts would be in another order.
                    header[format!("{part:05}")] = format!("{base}/part/{part}").into();
                }
                object["actions"] = json!({
                    "upload": { "href": format!("{base}/complete"), "header": header },
                });
            } else if !repository.large.contains_key(oid) {
                let upload = json!({ "href": format!("{base}/storage/{oid}") });
                object["actions"] = json!({ "upload": upload, "verify": verify });
            }
            ok(json!({ "transfer": "basic", "objects": [object] }))
        }
        "/complete" => {
            let asked = json_body();
            for (at, part) in asked["parts"].as_array().unwrap().iter().enumerate() {
                assert_eq!(part["partNumber"], at + 1);
                assert_eq!(part["etag"], format!("\"part-{}\"", at + 1));
            }
            let whole = repository.parts.values().flatten().copied().collect();
            let oid = asked["oid"].as_str().unwrap().to_owned();
            repository.large.insert(oid, whole);
            ok(Value::Null)
        }
        "/verify" => {
            let asked = json_body();
            let held = &repository.large[asked["oid"].as_str().unwrap()];
            assert_eq!(asked["size"], held.len());
            repository.verified += 1;
            ok(Value::Null)
        }
        "/api/models/me/model/commit/main" => {
            for line in std::str::from_utf8(body).unwrap().lines() {
                let line: Value = serde_json::from_str(line).unwrap();
                let value = &line["value"];
                let path = || value["path"].as_str().unwrap().to_owned();
                match line["key"].as_str().unwrap() {
                    "header" => {
                        let summary = value["summary"].as_str().unwrap();
                        repository.summaries.push(summary.to_owned());
                    }
                    "file" => {
                        assert_eq!(value["encoding"], "base64");
                        let content = decoded(value["content"].as_str().unwrap());
                        repository.files.insert(path(), content);
                    }
                    "lfsFile" => {
                        let held = repository.large[value["oid"].as_str().unwrap()].clone();
                        assert_eq!(value["size"], held.len());
                        repository.files.insert(path(), held);
                    }
                    other => panic!("{other}"),
                }
            }
            ok(
                json!({ "commitOid": "abc123", "commitUrl": format!("{base}/{REPO}/commit/abc123") }),
            )
        }
        other => panic!("{method} {other}"),
    }
}

/// Base64, by hand: the crate under test must not be its own judge.
fn decoded(text: &str) -> Vec<u8> {
    const DIGITS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let digit = |byte| DIGITS.iter().position(|&digit| digit == byte).unwrap() as u32;
    let mut out = Vec::new();
    let digits: Vec<u8> = text.bytes().filter(|&byte| byte != b'=').collect();
    for group in digits.chunks(4) {
        let bits = group.iter().fold(0, |bits, &byte| bits << 6 | digit(byte));
        let bits = bits << (6 * (4 - group.len()));
        out.extend(&bits.to_be_bytes()[1..group.len()]);
    }
    out
}

/// A model with a large file, a small one in a folder, an empty one, and what stays here.
fn folder() -> (tempfile::TempDir, Vec<u8>) {
    let dir = tempfile::tempdir().unwrap();
    let weights: Vec<u8> = (0..4321u32).map(|i| (i * 7 % 251) as u8).collect();
    fs::create_dir(dir.path().join("sub")).unwrap();
    for (name, bytes) in [
        ("model.safetensors", &weights[..]),
        ("sub/config.json", b"{}\n"),
        ("empty.safetensors", b""),
        (".hidden", b"secret"),
        ("ignored.txt", b"by the repository's .gitignore"),
    ] {
        fs::write(dir.path().join(name), bytes).unwrap();
    }
    (dir, weights)
}

fn expected(weights: &[u8]) -> BTreeMap<String, Vec<u8>> {
    [
        ("model.safetensors", weights),
        ("sub/config.json", b"{}\n"),
        ("empty.safetensors", b""),
    ]
    .map(|(name, bytes)| (name.to_owned(), bytes.to_vec()))
    .into()
}

#[test]
fn a_folder_becomes_a_commit_of_a_private_repository() {
    let (dir, weights) = folder();
    let server = Server::start(Repository::default());
    let pushed = server.push(dir.path()).unwrap();
    assert_eq!((pushed.commit.as_str(), pushed.sent), ("abc123", 4321 + 3));
    assert_eq!(pushed.url, format!("{}/{REPO}", server.url));
    {
        let repository = server.repository.lock().unwrap();
        assert_eq!(repository.files, expected(&weights));
        assert_eq!(repository.visibility, "private");
        assert_eq!(repository.summaries, ["a commit"]);
        assert_eq!((repository.puts, repository.verified), (1, 1));
        assert!(repository.large.contains_key(&sha256_of_bytes(&weights)));
    }
    // What the hub has is not sent again, and a repository that is there is used.
    let again = server.push(dir.path()).unwrap();
    assert_eq!(again.sent, 3);
    let repository = server.repository.lock().unwrap();
    assert_eq!((repository.puts, repository.summaries.len()), (1, 2));
}

#[test]
fn a_large_file_goes_in_parts_and_a_busy_hub_is_asked_again() {
    let (dir, weights) = folder();
    let server = Server::start(Repository {
        in_parts: true,
        failing: 2,
        ..Repository::default()
    });
    let work = tempfile::tempdir().unwrap();
    let recorder = Recorder::default();
    let hub = hub(work.path(), &server.url).token(Some(TOKEN.to_owned()));
    hub.push(&what(dir.path()), &recorder).unwrap();
    let repository = server.repository.lock().unwrap();
    assert_eq!(repository.files, expected(&weights));
    let sizes: Vec<usize> = repository.parts.values().map(Vec::len).collect();
    assert_eq!(sizes, [1000, 1000, 1000, 1000, 321]);
    assert_eq!(recorder.bytes.lock().unwrap()["model.safetensors"], 4321);
    assert_eq!(*recorder.finished.lock().unwrap(), ["model.safetensors"]);
}

#[test]
fn what_cannot_be_pushed_is_said_before_anything_is_sent() {
    let (dir, _) = folder();
    let empty = tempfile::tempdir().unwrap();
    let server = Server::start(Repository {
        read_only: true,
        ..Repository::default()
    });
    let hub = || hub(empty.path(), &server.url).token(Some(TOKEN.to_owned()));
    let said = |hub: Hub, what: Push<'_>| hub.push(&what, &NoProgress).unwrap_err().to_string();
    let whole = || what(dir.path());
    for (said, expected) in [
        (said(hub().offline(true), whole()), "offline mode forbids"),
        (said(hub().token(None), whole()), "HF_TOKEN"),
        (said(hub(), what(empty.path())), "no files in it"),
        (
            said(
                hub(),
                Push {
                    repo: "alone",
                    ..whole()
                },
            ),
            "`owner/name`",
        ),
        (
            said(
                hub(),
                Push {
                    repo: "a/../b",
                    ..whole()
                },
            ),
            "a/../b",
        ),
        (said(hub(), whole()), "a token that may write"),
        (
            said(hub().token(Some("wrong".to_owned())), whole()),
            "answered 401",
        ),
    ] {
        assert!(said.contains(expected) && said.contains("hint: "), "{said}");
    }
    let repository = server.repository.lock().unwrap();
    assert!(!repository.exists && repository.puts == 0);
}
