//! The hub's protocol for writing: create a repository, ask how each file is to be sent, send large ones by git-lfs, and
//! make one commit of all. It follows `huggingface_hub`: `_commit_api.py` and `lfs.py`.

use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use base64::{Engine, engine::general_purpose::STANDARD};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use ureq::http::{Response, header};
use ureq::{Body, RequestBuilder, typestate::WithBody};

use super::{Failure, MAX_LISTING, Remote, escape, refused, same_origin, text, transport};
use crate::disk;
use crate::error::HubError;
use crate::progress::Progress;

/// Files asked about at a time.
const AT_ONCE: usize = 256;
/// Bytes of a file by which the hub tells text from data.
const SAMPLE: u64 = 512;
const LFS: &str = "application/vnd.git-lfs+json";
const JSON: &str = "application/json";

/// A file to be sent.
struct Sent {
    /// Its path in the repository.
    name: String,
    path: PathBuf,
    size: u64,
    large: bool,
}

/// What is sent.
enum Payload<'a> {
    Bytes(&'a [u8]),
    File(&'a File),
}

#[derive(Deserialize)]
struct Modes {
    files: Vec<Mode>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Mode {
    path: String,
    upload_mode: String,
    #[serde(default)]
    should_ignore: bool,
}

#[derive(Deserialize)]
struct Batch {
    objects: Vec<Object>,
}

/// What the hub says of a large file.
#[derive(Deserialize)]
struct Object {
    oid: String,
    /// None where it has the file already.
    actions: Option<Actions>,
    error: Option<Value>,
}

#[derive(Deserialize)]
struct Actions {
    upload: Action,
    verify: Option<Action>,
}

#[derive(Deserialize)]
struct Action {
    href: String,
    #[serde(default)]
    header: Map<String, Value>,
}

/// What a commit became.
#[derive(Deserialize)]
pub(crate) struct Commit {
    #[serde(rename = "commitOid")]
    pub(crate) id: String,
}

impl Remote {
    /// Makes the repository of a model; one that is there stays as it is.
    pub(crate) fn create(&self, id: &str, private: bool) -> Result<(), HubError> {
        let url = format!("{}/api/repos/create", self.endpoint);
        let (organization, name) = id.split_once('/').unwrap_or(("", id));
        let visibility = if private { "private" } else { "public" };
        let body = json!({
            "name": name,
            "organization": organization,
            "type": "model",
            "visibility": visibility,
        });
        match self.with_retries(|| self.post(&url, JSON, body.to_string().as_bytes())) {
            Err(HubError::Status { status: 409, .. }) => Ok(()),
            other => other.map(drop),
        }
    }

    /// Sends the files of a folder and makes one commit of them.
    pub(crate) fn commit(
        &self,
        id: &str,
        revision: &str,
        message: &str,
        files: &[(String, PathBuf)],
        progress: &dyn Progress,
    ) -> Result<(Commit, u64), HubError> {
        let revision = escape(revision, false);
        let mut all = Vec::new();
        for part in files.chunks(AT_ONCE) {
            all.extend(self.modes(id, &revision, part)?);
        }
        let (mut lines, mut sent) = (Vec::new(), 0);
        let header = json!({ "summary": message, "description": "" });
        lines.push(json!({ "key": "header", "value": header }).to_string());
        let (large, small): (Vec<Sent>, Vec<Sent>) = all.into_iter().partition(|file| file.large);
        for file in large {
            let sha256 = disk::sha256(&file.path)?;
            sent += self.send_large(id, &revision, &file, &sha256, progress)?;
            let value =
                json!({ "path": file.name, "algo": "sha256", "oid": sha256, "size": file.size });
            lines.push(json!({ "key": "lfsFile", "value": value }).to_string());
        }
        for file in small {
            let content = fs::read(&file.path).map_err(HubError::io("read", &file.path))?;
            sent += content.len() as u64;
            let content = STANDARD.encode(content);
            let value = json!({ "content": content, "path": file.name, "encoding": "base64" });
            lines.push(json!({ "key": "file", "value": value }).to_string());
        }
        let url = format!("{}/api/models/{id}/commit/{revision}", self.endpoint);
        let body = lines.join("\n") + "\n";
        // Not sent again: an answer that was lost may have been a commit.
        let answer = self.post(&url, "application/x-ndjson", body.as_bytes());
        let commit = answer.map_err(|failure| *failure.error)?;
        Ok((parsed(&url, &commit)?, sent))
    }

    /// How files are to be sent; those that the repository ignores are left out.
    fn modes(
        &self,
        id: &str,
        revision: &str,
        files: &[(String, PathBuf)],
    ) -> Result<Vec<Sent>, HubError> {
        let mut asked = Vec::new();
        let mut sizes = Vec::new();
        for (name, path) in files {
            let (sample, size) = sample(path)?;
            sizes.push(size);
            asked.push(json!({ "path": name, "sample": STANDARD.encode(sample), "size": size }));
        }
        let url = format!("{}/api/models/{id}/preupload/{revision}", self.endpoint);
        let body = json!({ "files": asked }).to_string();
        let answer = self.with_retries(|| self.post(&url, JSON, body.as_bytes()))?;
        let modes: Modes = parsed(&url, &answer)?;
        let mut found = Vec::new();
        for ((name, path), size) in files.iter().zip(sizes) {
            let mode = modes.files.iter().find(|mode| mode.path == *name);
            let mode = mode.ok_or_else(|| HubError::Protocol {
                url: url.clone(),
                detail: format!("nothing about `{name}`"),
            })?;
            if !mode.should_ignore {
                found.push(Sent {
                    name: name.clone(),
                    path: path.clone(),
                    size,
                    // An empty file is no large one, whatever its name.
                    large: mode.upload_mode == "lfs" && size > 0,
                });
            }
        }
        Ok(found)
    }

    /// Sends a file to the storage of large files, if it is not there. Returns how many bytes were sent.
    fn send_large(
        &self,
        id: &str,
        revision: &str,
        file: &Sent,
        sha256: &str,
        progress: &dyn Progress,
    ) -> Result<u64, HubError> {
        let url = format!("{}/{id}.git/info/lfs/objects/batch", self.endpoint);
        let body = json!({
            "operation": "upload",
            "transfers": ["basic", "multipart"],
            "objects": [{ "oid": sha256, "size": file.size }],
            "hash_algo": "sha256",
            "ref": { "name": revision },
        });
        let body = body.to_string();
        let answer = self.with_retries(|| self.post(&url, LFS, body.as_bytes()))?;
        let batch: Batch = parsed(&url, &answer)?;
        let protocol = |detail: String| HubError::Protocol {
            url: url.clone(),
            detail,
        };
        let object = batch
            .objects
            .into_iter()
            .find(|object| object.oid == sha256);
        let object = object.ok_or_else(|| protocol(format!("nothing about `{}`", file.name)))?;
        if let Some(error) = object.error {
            return Err(protocol(format!("`{}`: {error}", file.name)));
        }
        let Some(Actions { upload, verify }) = object.actions else {
            return Ok(0);
        };
        progress.start(&file.name, Some(file.size));
        match upload.header.get("chunk_size").map(number) {
            None => {
                self.with_retries(|| self.put_file(&upload.href, &file.path))?;
                progress.advance(&file.name, file.size);
            }
            Some(Some(chunk)) if chunk > 0 => {
                self.send_parts(&upload, file, sha256, chunk, progress)?;
            }
            Some(_) => {
                return Err(protocol(
                    "a chunk_size that is no number above 0".to_owned(),
                ));
            }
        }
        progress.finish(&file.name);
        if let Some(verify) = verify {
            let body = json!({ "oid": sha256, "size": file.size }).to_string();
            self.with_retries(|| self.post(&verify.href, LFS, body.as_bytes()))?;
        }
        Ok(file.size)
    }

    /// Sends a file in parts, each to an address of its own, and says at the end which they were.
    fn send_parts(
        &self,
        upload: &Action,
        file: &Sent,
        sha256: &str,
        chunk: u64,
        progress: &dyn Progress,
    ) -> Result<(), HubError> {
        let numbered = upload.header.iter().filter_map(|(key, value)| {
            let number: u64 = key.parse().ok()?;
            Some((number, value.as_str()?))
        });
        let mut parts: Vec<(u64, &str)> = numbered.collect();
        parts.sort_unstable();
        let protocol = |detail: String| HubError::Protocol {
            url: upload.href.clone(),
            detail,
        };
        if parts.len() as u64 != file.size.div_ceil(chunk) {
            let detail = format!("{} parts of {chunk} for {} bytes", parts.len(), file.size);
            return Err(protocol(detail));
        }
        let io = |error| HubError::io("read", &file.path)(error);
        let mut source = File::open(&file.path).map_err(io)?;
        let mut done = Vec::new();
        for (at, (_, address)) in parts.into_iter().enumerate() {
            let mut bytes = Vec::new();
            source
                .seek(SeekFrom::Start(at as u64 * chunk))
                .map_err(io)?;
            (&source).take(chunk).read_to_end(&mut bytes).map_err(io)?;
            let answer = self.with_retries(|| self.put(address, Payload::Bytes(&bytes)))?;
            let etag = text(answer.headers(), "etag");
            let etag = etag.ok_or_else(|| protocol("a part without an ETag".to_owned()))?;
            done.push(json!({ "partNumber": at + 1, "etag": etag }));
            progress.advance(&file.name, bytes.len() as u64);
        }
        let body = json!({ "oid": sha256, "parts": done }).to_string();
        self.with_retries(|| self.post(&upload.href, LFS, body.as_bytes()))
            .map(drop)
    }

    fn put_file(&self, url: &str, path: &Path) -> Result<Response<Body>, Failure> {
        let file = File::open(path).map_err(HubError::io("read", path))?;
        self.put(url, Payload::File(&file))
    }

    /// Puts bytes where the hub says, which is another host: without the token.
    fn put(&self, url: &str, payload: Payload<'_>) -> Result<Response<Body>, Failure> {
        self.deliver(self.agent.put(url), url, payload)
    }

    /// Posts to the hub, with the token, and returns what it says.
    fn post(&self, url: &str, kind: &str, body: &[u8]) -> Result<String, Failure> {
        let accept = if kind == LFS { LFS } else { JSON };
        let mut request = self.agent.post(url).header(header::CONTENT_TYPE, kind);
        request = request.header(header::ACCEPT, accept);
        let token = self.token.as_ref();
        if let Some(token) = token.filter(|_| same_origin(url, &self.endpoint)) {
            request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
        }
        let mut answer = self.deliver(request, url, Payload::Bytes(body))?;
        let text = answer.body_mut().with_config().limit(MAX_LISTING);
        text.read_to_string().map_err(|error| transport(url, error))
    }

    fn deliver(
        &self,
        request: RequestBuilder<WithBody>,
        url: &str,
        payload: Payload<'_>,
    ) -> Result<Response<Body>, Failure> {
        if self.endpoint.starts_with("https:") && !url.starts_with("https:") {
            let detail = "an address without https for what is sent".to_owned();
            let url = url.to_owned();
            return Err(HubError::Protocol { url, detail }.into());
        }
        let answer = match payload {
            Payload::Bytes(bytes) => request.send(bytes),
            Payload::File(file) => request.send(file),
        };
        let answer = answer.map_err(|error| transport(url, error))?;
        match answer.status().is_success() {
            true => Ok(answer),
            false => {
                let token_sent = self.token.is_some() && same_origin(url, &self.endpoint);
                Err(refused(url, answer.status().as_u16(), token_sent))
            }
        }
    }
}

/// A number, or one in quotes.
fn number(value: &Value) -> Option<u64> {
    value.as_u64().or_else(|| value.as_str()?.parse().ok())
}

/// The beginning of a file, and its size.
fn sample(path: &Path) -> Result<(Vec<u8>, u64), HubError> {
    let io = |error| HubError::io("read", path)(error);
    let file = File::open(path).map_err(io)?;
    let size = file.metadata().map_err(io)?.len();
    let mut bytes = Vec::new();
    file.take(SAMPLE).read_to_end(&mut bytes).map_err(io)?;
    Ok((bytes, size))
}

fn parsed<'a, T: Deserialize<'a>>(url: &str, text: &'a str) -> Result<T, HubError> {
    serde_json::from_str(text).map_err(|error| HubError::Protocol {
        url: url.to_owned(),
        detail: error.to_string(),
    })
}
