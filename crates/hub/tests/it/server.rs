//! A small hub for tests: it lists, answers HEAD and GET, knows `Range`, redirects, and fails on demand.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

use sha1::Sha1;
use sha2::{Digest, Sha256};

pub const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

pub fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// git's name of a content, which the hub gives for small files.
pub fn git_sha1(bytes: &[u8]) -> String {
    Sha1::new()
        .chain_update(format!("blob {}\0", bytes.len()))
        .chain_update(bytes)
        .finalize()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// One request as it came in.
#[derive(Debug, Clone)]
pub struct Request {
    pub method: String,
    pub path: String,
    pub authorization: Option<String>,
    pub range: Option<u64>,
}

/// What the server does; tests change it while it runs.
#[derive(Default)]
pub struct Behaviour {
    pub files: BTreeMap<String, Vec<u8>>,
    /// Answer this status to that many requests first.
    pub fail: Option<(u16, usize)>,
    /// Close the connection of the next GETs of a file after so many bytes of the body.
    pub cut: Vec<usize>,
    /// Ignore `Range`.
    pub no_range: bool,
    /// Send a file's content from this host instead.
    pub cdn: Option<String>,
    /// Claim this sha256 for every large file.
    pub false_sha256: Option<String>,
    /// Claim this hash for every small file.
    pub false_git_sha1: Option<String>,
    /// Demand this token.
    pub token: Option<String>,
}

pub struct Server {
    pub url: String,
    pub behaviour: Arc<Mutex<Behaviour>>,
    requests: Arc<Mutex<Vec<Request>>>,
}

impl Server {
    pub fn start(behaviour: Behaviour) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let behaviour = Arc::new(Mutex::new(behaviour));
        let requests = Arc::new(Mutex::new(Vec::new()));
        let (shared, log) = (behaviour.clone(), requests.clone());
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (shared, log) = (shared.clone(), log.clone());
                thread::spawn(move || serve(stream, &shared, &log));
            }
        });
        Self {
            url,
            behaviour,
            requests,
        }
    }

    /// A complete little model under any repository id. Weights and tokenizer are large files, which carry a sha256.
    pub fn with_model() -> Self {
        Self::start(Behaviour {
            files: model_files(),
            ..Behaviour::default()
        })
    }

    pub fn requests(&self) -> Vec<Request> {
        self.requests.lock().unwrap().clone()
    }

    /// GETs of files, i.e. not of listings.
    pub fn downloads(&self) -> usize {
        self.requests()
            .iter()
            .filter(|request| request.method == "GET" && !request.path.starts_with("/api/"))
            .count()
    }
}

pub fn model_files() -> BTreeMap<String, Vec<u8>> {
    let weights: Vec<u8> = (0..300_000u32)
        .map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8)
        .collect();
    [
        ("config.json", b"{\"model_type\": \"bert\"}".to_vec()),
        ("tokenizer.json", b"{}".to_vec()),
        (
            "1_Pooling/config.json",
            b"{\"pooling_mode_mean_tokens\": true}".to_vec(),
        ),
        ("model.safetensors", weights),
        ("README.md", b"# not needed".to_vec()),
        ("onnx/model.onnx", b"not needed".to_vec()),
    ]
    .map(|(name, bytes)| (name.to_string(), bytes))
    .into()
}

fn serve(stream: TcpStream, behaviour: &Mutex<Behaviour>, log: &Mutex<Vec<Request>>) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut stream = stream;
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).unwrap_or(0) == 0 {
            return;
        }
        let mut words = line.split_whitespace();
        let (method, path) = (
            words.next().unwrap().to_string(),
            words.next().unwrap().to_string(),
        );
        let mut request = Request {
            method,
            path,
            authorization: None,
            range: None,
        };
        loop {
            let mut header = String::new();
            reader.read_line(&mut header).unwrap();
            let Some((name, value)) = header.trim().split_once(": ") else {
                break;
            };
            match name.to_ascii_lowercase().as_str() {
                "authorization" => request.authorization = Some(value.to_string()),
                "range" => {
                    request.range = value
                        .trim_start_matches("bytes=")
                        .trim_end_matches('-')
                        .parse()
                        .ok()
                }
                _ => {}
            }
        }
        log.lock().unwrap().push(request.clone());
        let (head, body, cut) = answer(&request, &mut behaviour.lock().unwrap());
        let body: &[u8] = if request.method == "HEAD" { &[] } else { &body };
        let sent = cut.unwrap_or(body.len()).min(body.len());
        let ok = stream
            .write_all(head.as_bytes())
            .and_then(|()| stream.write_all(&body[..sent]))
            .is_ok();
        if !ok || sent < body.len() {
            let _ = stream.shutdown(std::net::Shutdown::Both);
            return;
        }
    }
}

fn reply(status: u16, headers: &[(&str, String)], length: usize) -> String {
    let headers: String = headers
        .iter()
        .map(|(name, value)| format!("{name}: {value}\r\n"))
        .collect();
    format!("HTTP/1.1 {status} X\r\n{headers}Content-Length: {length}\r\n\r\n")
}

fn answer(request: &Request, behaviour: &mut Behaviour) -> (String, Vec<u8>, Option<usize>) {
    if let Some((status, left)) = behaviour.fail.as_mut().filter(|(_, left)| *left > 0) {
        *left -= 1;
        return (reply(*status, &[], 0), Vec::new(), None);
    }
    if let Some(token) = &behaviour.token
        && request.authorization.as_deref() != Some(&format!("Bearer {token}"))
    {
        return (reply(401, &[], 0), Vec::new(), None);
    }
    if request.path.starts_with("/api/") {
        let siblings: Vec<_> = behaviour
            .files
            .keys()
            .map(|file| format!("{{\"rfilename\": {file:?}}}"))
            .collect();
        let body = format!(
            "{{\"sha\": {COMMIT:?}, \"siblings\": [{}]}}",
            siblings.join(",")
        );
        return (reply(200, &[], body.len()), body.into_bytes(), None);
    }
    // `/org/name/resolve/<commit>/<file>`, or `/cdn/<file>`, or `/<file>`.
    let name = match request.path.split_once(&format!("/resolve/{COMMIT}/")) {
        Some((_, file)) => file,
        None => request
            .path
            .trim_start_matches("/cdn/")
            .trim_start_matches('/'),
    };
    let Some(bytes) = behaviour.files.get(name) else {
        return (reply(404, &[], 0), Vec::new(), None);
    };
    let sha256 = behaviour
        .false_sha256
        .clone()
        .unwrap_or_else(|| sha256(bytes));
    let large = !name.ends_with("config.json");
    let etag = if large {
        sha256
    } else {
        let claimed = behaviour.false_git_sha1.clone();
        claimed.unwrap_or_else(|| git_sha1(bytes))
    };
    let mut headers = vec![
        ("x-repo-commit", COMMIT.to_string()),
        ("ETag", format!("\"{etag}\"")),
    ];
    if let Some(cdn) = behaviour.cdn.as_ref().filter(|_| large) {
        headers = vec![
            ("x-repo-commit", COMMIT.to_string()),
            ("x-linked-etag", format!("\"{etag}\"")),
            ("x-linked-size", bytes.len().to_string()),
            ("ETag", "\"the-redirects-own\"".to_string()),
            ("Location", format!("{cdn}/cdn/{name}")),
        ];
        return (reply(302, &headers, 0), Vec::new(), None);
    }
    if request.method == "HEAD" {
        return (reply(200, &headers, bytes.len()), Vec::new(), None);
    }
    let from = request.range.filter(|_| !behaviour.no_range).unwrap_or(0) as usize;
    let cut = (large && !behaviour.cut.is_empty()).then(|| behaviour.cut.remove(0));
    if from > 0 {
        headers.push((
            "Content-Range",
            format!("bytes {from}-{}/{}", bytes.len() - 1, bytes.len()),
        ));
    }
    let body = bytes[from..].to_vec();
    (
        reply(if from > 0 { 206 } else { 200 }, &headers, body.len()),
        body,
        cut,
    )
}
