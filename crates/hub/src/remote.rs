//! The hub's HTTP protocol: list a revision, ask for a file's hash and size, fetch it with `Range` so that a broken
//! transfer goes on where it stopped.
//!
//! Redirects are followed here and not by the client, because the token may go to the endpoint alone: the hub sends
//! large files from another host.

mod upload;

use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::Path;
use std::time::Duration;

use serde::Deserialize;
use ureq::http::{HeaderMap, Response, Uri, header};
use ureq::tls::{PemItem, RootCerts, TlsConfig};
use ureq::{Agent, Body, Timeout};

use crate::cache::RepoKind;
use crate::disk;
use crate::error::HubError;
use crate::progress::Progress;

/// Tries of one request before giving up, the first one included.
const TRIES: u32 = 4;
/// A transfer that broke off after at least this many new bytes gets its tries back, so that a long download on a bad line ends.
const WORTHWHILE: u64 = 1 << 20;
const MAX_REDIRECTS: usize = 10;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Longest silence of a server, before and within an answer.
const SILENCE_TIMEOUT: Duration = Duration::from_secs(30);
/// Longest listing accepted, in bytes.
const MAX_LISTING: u64 = 64 << 20;

/// A client of one endpoint.
pub(crate) struct Remote {
    agent: Agent,
    endpoint: String,
    token: Option<String>,
    backoff: Duration,
}

/// What a revision holds.
#[derive(Debug)]
pub(crate) struct Listing {
    pub(crate) commit: String,
    pub(crate) files: Vec<String>,
}

/// What the hub says of a file before it is fetched.
#[derive(Debug)]
pub(crate) struct FileMeta {
    /// sha256 (64 digits) of a large file, git hash (40 digits) of a small one.
    pub(crate) etag: String,
    pub(crate) size: u64,
}

/// A failed request, and whether asking again may help.
struct Failure {
    error: Box<HubError>,
    again: bool,
}

/// What is fetched, and where to.
struct Transfer<'a> {
    url: &'a str,
    /// Its name for messages and for `progress`.
    what: &'a str,
    path: &'a Path,
    size: Option<u64>,
    progress: &'a dyn Progress,
}

impl From<HubError> for Failure {
    fn from(error: HubError) -> Self {
        Self {
            error: Box::new(error),
            again: false,
        }
    }
}

impl Remote {
    pub(crate) fn new(endpoint: &str, token: Option<String>, backoff: Duration) -> Self {
        let mut config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .user_agent(concat!("rekindle/", env!("CARGO_PKG_VERSION")))
            .timeout_connect(Some(CONNECT_TIMEOUT))
            .timeout_recv_response(Some(SILENCE_TIMEOUT))
            .timeout_per_read(Some(SILENCE_TIMEOUT));
        if let Some(roots) = extra_roots() {
            config = config.tls_config(TlsConfig::builder().root_certs(roots).build());
        }
        Self {
            agent: config.build().new_agent(),
            endpoint: endpoint.trim_end_matches('/').to_string(),
            token,
            backoff,
        }
    }

    pub(crate) fn file_url(&self, kind: RepoKind, id: &str, commit: &str, file: &str) -> String {
        format!(
            "{}/{}{id}/resolve/{commit}/{}",
            self.endpoint,
            kind.url_prefix(),
            escape(file, true)
        )
    }

    /// The commit and the files of a revision.
    pub(crate) fn listing(
        &self,
        kind: RepoKind,
        id: &str,
        revision: &str,
    ) -> Result<Listing, HubError> {
        #[derive(Deserialize)]
        struct Reply {
            sha: String,
            #[serde(default)]
            siblings: Vec<Sibling>,
        }
        #[derive(Deserialize)]
        struct Sibling {
            rfilename: String,
        }
        let url = format!(
            "{}/api/{}/{id}/revision/{}",
            self.endpoint,
            kind.plural(),
            escape(revision, false)
        );
        let protocol = |detail: String| HubError::Protocol {
            url: url.clone(),
            detail,
        };
        let text = self.page(&url)?;
        let reply: Reply = serde_json::from_str(&text)
            .map_err(|error| protocol(format!("the listing is not the expected JSON ({error})")))?;
        if !disk::is_hex(&reply.sha, 40) {
            return Err(protocol(format!(
                "the commit is {:?}, expected 40 hexadecimal digits",
                reply.sha
            )));
        }
        let files = reply
            .siblings
            .into_iter()
            .map(|sibling| sibling.rfilename)
            .filter(|file| disk::is_safe_relative(file))
            .collect();
        Ok(Listing {
            commit: reply.sha,
            files,
        })
    }

    /// The text of an address that is no large file: a listing of the hub or of a package index.
    pub(crate) fn page(&self, url: &str) -> Result<String, HubError> {
        self.with_retries(|| {
            let (mut response, _) = self.send("GET", url, None)?;
            let body = response
                .body_mut()
                .with_config()
                .limit(MAX_LISTING)
                .read_to_string();
            body.map_err(|error| transport(url, error))
        })
    }

    /// Hash and size of a file of the hub.
    pub(crate) fn file_meta(&self, url: &str, commit: &str) -> Result<FileMeta, HubError> {
        let protocol = |detail: String| HubError::Protocol {
            url: url.to_string(),
            detail,
        };
        let (response, first) = self.with_retries(|| self.send("HEAD", url, None))?;
        // A large file's own hash stands in the answer that redirects to its host, so the first answer goes before the last.
        let get = |name: &str| {
            [&first, response.headers()]
                .into_iter()
                .find_map(|headers| text(headers, name))
        };
        if let Some(found) = get("x-repo-commit").filter(|found| found != commit) {
            return Err(protocol(format!(
                "the file is of commit {found}, expected {commit}"
            )));
        }
        let etag = get("x-linked-etag").or_else(|| text(response.headers(), "etag"));
        let etag = etag.map(|etag| etag.trim_start_matches("W/").trim_matches('"').to_string());
        let etag = etag.filter(|etag| {
            (1..=128).contains(&etag.len())
                && etag
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
        });
        let size = get("x-linked-size")
            .or_else(|| text(response.headers(), "content-length"))
            .and_then(|size| size.parse().ok());
        match (etag, size) {
            (Some(etag), Some(size)) => Ok(FileMeta { etag, size }),
            (None, _) => Err(protocol("no usable ETag".into())),
            (_, None) => Err(protocol("no Content-Length".into())),
        }
    }

    /// Length of what an address holds, where its server says.
    pub(crate) fn content_length(&self, url: &str) -> Result<Option<u64>, HubError> {
        let (response, _) = self.with_retries(|| self.send("HEAD", url, None))?;
        Ok(text(response.headers(), "content-length").and_then(|size| size.parse().ok()))
    }

    /// Fetch `url` into `path`, going on after what is there already; flushed to disk on return. Without a `size` the file
    /// is fetched anew. `what` is its name for `progress` and messages. Returns whether bytes of an earlier try were kept.
    pub(crate) fn download(
        &self,
        url: &str,
        what: &str,
        path: &Path,
        size: Option<u64>,
        progress: &dyn Progress,
    ) -> Result<bool, HubError> {
        let mut file = File::options()
            .create(true)
            .append(true)
            .open(path)
            .map_err(HubError::io("open", path))?;
        let length = |file: &File| {
            file.metadata()
                .map(|meta| meta.len())
                .map_err(HubError::io("read", path))
        };
        let mut resumed = false;
        let mut best = 0;
        let mut failures = 0;
        loop {
            let mut have = length(&file)?;
            if size.is_none_or(|size| have > size) {
                file.set_len(0).map_err(HubError::io("write", path))?;
                have = 0;
            }
            resumed |= have > 0;
            progress.start(what, size);
            progress.advance(what, have);
            let failure = match self.append(
                &Transfer {
                    url,
                    what,
                    path,
                    size,
                    progress,
                },
                &mut file,
                have,
            ) {
                Ok(()) => {
                    file.sync_all().map_err(HubError::io("flush", path))?;
                    progress.finish(what);
                    return Ok(resumed);
                }
                Err(failure) => failure,
            };
            let have = length(&file)?;
            if have >= best + WORTHWHILE {
                best = have;
                failures = 0;
            }
            failures += 1;
            if !failure.again || failures >= TRIES {
                return Err(*failure.error);
            }
            self.wait(failures);
        }
    }

    /// One try of a download: ask for the rest and append it.
    fn append(&self, transfer: &Transfer, file: &mut File, mut have: u64) -> Result<(), Failure> {
        let &Transfer {
            url,
            what,
            path,
            size,
            progress,
        } = transfer;
        if size == Some(have) {
            return Ok(());
        }
        let restart = |file: &File| {
            progress.start(what, size);
            file.set_len(0).map_err(HubError::io("write", path))
        };
        let (response, _) = match self.send("GET", url, (have > 0).then_some(have)) {
            Err(failure) if matches!(*failure.error, HubError::Status { status: 416, .. }) => {
                restart(file)?;
                return Err(Failure {
                    again: have > 0,
                    ..failure
                });
            }
            other => other?,
        };
        if have > 0 {
            let range = text(response.headers(), "content-range");
            let continues = response.status() == 206
                && range
                    .as_ref()
                    .is_some_and(|range| range.starts_with(&format!("bytes {have}-")));
            if !continues {
                restart(file)?;
                have = 0;
            }
            if response.status() == 206 && !continues {
                let detail = format!("asked for the bytes from {have} on, got {range:?}");
                return Err(Failure {
                    error: Box::new(HubError::Protocol {
                        url: url.into(),
                        detail,
                    }),
                    again: true,
                });
            }
        }
        let mut body = response.into_body().into_reader();
        let mut buffer = vec![0; 1 << 16];
        loop {
            let interrupted = |have, detail| Failure {
                error: Box::new(HubError::Interrupted {
                    file: what.into(),
                    received: have,
                    size: size.unwrap_or(have),
                    detail,
                }),
                again: true,
            };
            match body.read(&mut buffer) {
                Ok(0) if size.is_none_or(|size| size == have) => return Ok(()),
                Ok(0) => return Err(interrupted(have, "the connection was closed".into())),
                Ok(read) => {
                    file.write_all(&buffer[..read])
                        .map_err(HubError::io("write", path))?;
                    have += read as u64;
                    progress.advance(what, read as u64);
                    if let Some(expected) = size.filter(|size| have > *size) {
                        file.set_len(0).map_err(HubError::io("write", path))?;
                        return Err(HubError::Size {
                            file: what.into(),
                            expected,
                            found: have,
                        }
                        .into());
                    }
                }
                Err(error) => return Err(interrupted(have, error.to_string())),
            }
        }
    }

    /// Send a request and follow redirects. Returns the last answer, and the headers of the first.
    ///
    /// A `HEAD` stops at a redirect that carries the file's hash: that is the answer.
    fn send(
        &self,
        method: &str,
        url: &str,
        from: Option<u64>,
    ) -> Result<(Response<Body>, HeaderMap), Failure> {
        let mut url = url.to_string();
        let mut first: Option<HeaderMap> = None;
        for _ in 0..=MAX_REDIRECTS {
            let protocol = |detail: String| {
                Failure::from(HubError::Protocol {
                    url: url.clone(),
                    detail,
                })
            };
            let token = self
                .token
                .as_ref()
                .filter(|_| same_origin(&url, &self.endpoint));
            let mut request = if method == "HEAD" {
                self.agent.head(&url)
            } else {
                self.agent.get(&url)
            };
            // Compressed answers would have other lengths.
            request = request.header(header::ACCEPT_ENCODING, "identity");
            if let Some(token) = token {
                request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
            }
            if let Some(from) = from {
                request = request.header(header::RANGE, format!("bytes={from}-"));
            }
            let response = request.call().map_err(|error| transport(&url, error))?;
            let status = response.status();
            let headers = response.headers().clone();
            let first_headers = first.get_or_insert_with(|| headers.clone()).clone();
            if status.is_success()
                || status.is_redirection()
                    && method == "HEAD"
                    && headers.contains_key("x-linked-etag")
            {
                return Ok((response, first_headers));
            }
            if !status.is_redirection() {
                return Err(refused(&url, status.as_u16(), token.is_some()));
            }
            let location = text(&headers, "location")
                .ok_or_else(|| protocol(format!("status {status} without a Location")))?;
            let next = join(&url, &location)
                .ok_or_else(|| protocol(format!("redirect to {location:?}")))?;
            if url.starts_with("https:") && !next.starts_with("https:") {
                return Err(protocol(format!("redirect from https to {next}")));
            }
            url = next;
        }
        Err(HubError::Protocol {
            url,
            detail: format!("more than {MAX_REDIRECTS} redirects"),
        }
        .into())
    }

    fn with_retries<T>(
        &self,
        mut request: impl FnMut() -> Result<T, Failure>,
    ) -> Result<T, HubError> {
        let mut failures = 0;
        loop {
            match request() {
                Ok(value) => return Ok(value),
                Err(failure) => {
                    failures += 1;
                    if !failure.again || failures >= TRIES {
                        return Err(*failure.error);
                    }
                    self.wait(failures);
                }
            }
        }
    }

    fn wait(&self, failures: u32) {
        std::thread::sleep(self.backoff * 2u32.pow(failures.min(TRIES) - 1));
    }
}

/// A status that is no success.
fn refused(url: &str, status: u16, token_sent: bool) -> Failure {
    let url = url.to_string();
    let error = match status {
        401 | 403 => HubError::Denied {
            url,
            status,
            token_sent,
        },
        _ => HubError::Status { url, status },
    };
    Failure {
        error: Box::new(error),
        again: status >= 500 || status == 429 || status == 408,
    }
}

/// A transport's error. A host that cannot be found or connected to is not asked again: another source may be at hand.
fn transport(url: &str, error: ureq::Error) -> Failure {
    let again = match &error {
        ureq::Error::Timeout(timeout) => !matches!(timeout, Timeout::Connect | Timeout::Resolve),
        ureq::Error::Io(error) => !matches!(
            error.kind(),
            std::io::ErrorKind::ConnectionRefused | std::io::ErrorKind::NotFound
        ),
        ureq::Error::Protocol(_) => true,
        _ => false,
    };
    Failure {
        error: Box::new(HubError::Unreachable {
            url: url.to_string(),
            detail: error.to_string(),
        }),
        again,
    }
}

/// Certificates of a company's proxy, from the variables that Python's and OpenSSL's tools read.
fn extra_roots() -> Option<RootCerts> {
    let path = ["SSL_CERT_FILE", "REQUESTS_CA_BUNDLE"]
        .iter()
        .find_map(std::env::var_os)?;
    let pem = fs::read(path).ok()?;
    let certificates: Vec<_> = ureq::tls::parse_pem(&pem)
        .filter_map(|item| match item {
            Ok(PemItem::Certificate(certificate)) => Some(certificate),
            _ => None,
        })
        .collect();
    (!certificates.is_empty()).then(|| RootCerts::new_with_certs(&certificates))
}

fn text(headers: &HeaderMap, name: &str) -> Option<String> {
    headers.get(name)?.to_str().ok().map(String::from)
}

/// Percent-encode what an address may not hold as it is.
fn escape(text: &str, keep_slash: bool) -> String {
    let mut escaped = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) || keep_slash && byte == b'/' {
            escaped.push(byte as char);
        } else {
            escaped.push_str(&format!("%{byte:02X}"));
        }
    }
    escaped
}

/// Scheme, host and port are what a token belongs to.
fn same_origin(a: &str, b: &str) -> bool {
    let origin = |url: &str| {
        let uri: Uri = url.parse().ok()?;
        let scheme = uri.scheme_str()?.to_ascii_lowercase();
        let port = uri
            .port_u16()
            .unwrap_or(if scheme == "https" { 443 } else { 80 });
        Some((scheme, uri.host()?.to_ascii_lowercase(), port))
    };
    origin(a).is_some_and(|a| Some(a) == origin(b))
}

/// Resolve a `Location` or a link against the address that gave it.
pub(crate) fn join(base: &str, location: &str) -> Option<String> {
    let uri: Uri = base.parse().ok()?;
    let (scheme, authority) = (uri.scheme_str()?, uri.authority()?);
    let joined = if location.starts_with("http://") || location.starts_with("https://") {
        location.to_string()
    } else if location.contains("://") {
        return None;
    } else if let Some(rest) = location.strip_prefix("//") {
        format!("{scheme}://{rest}")
    } else if location.starts_with('/') {
        format!("{scheme}://{authority}{location}")
    } else {
        let mut folder = uri.path().rsplit_once('/').map_or("", |(folder, _)| folder);
        let mut rest = location.trim_start_matches("./");
        while let Some(above) = rest.strip_prefix("../") {
            rest = above;
            folder = folder.rsplit_once('/').map_or("", |(folder, _)| folder);
        }
        format!("{scheme}://{authority}{folder}/{rest}")
    };
    joined.parse::<Uri>().ok().map(|_| joined)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn locations_resolve_as_browsers_do() {
        let base = "https://h.co:8443/org/name/resolve/main/a.txt?x=1";
        for (location, expect) in [
            ("https://cdn.co/b", Some("https://cdn.co/b")),
            ("//cdn.co/b", Some("https://cdn.co/b")),
            ("/b?y=2", Some("https://h.co:8443/b?y=2")),
            ("b", Some("https://h.co:8443/org/name/resolve/main/b")),
            ("../../b", Some("https://h.co:8443/org/name/b")),
            ("../../../../../b", Some("https://h.co:8443/b")),
            ("./b", Some("https://h.co:8443/org/name/resolve/main/b")),
            ("ftp://cdn.co/b", None),
        ] {
            assert_eq!(join(base, location).as_deref(), expect, "{location}");
        }
    }

    #[test]
    fn a_token_belongs_to_scheme_host_and_port() {
        let home = "https://huggingface.co";
        assert!(same_origin("https://huggingface.co:443/x", home));
        assert!(same_origin("https://HuggingFace.co/x", home));
        for other in [
            "http://huggingface.co/x",
            "https://huggingface.co.evil/x",
            "https://huggingface.co@evil/x",
            "https://huggingface.co:444/x",
            "x",
        ] {
            assert!(!same_origin(other, home), "{other}");
        }
    }

    #[test]
    fn names_are_escaped() {
        assert_eq!(
            escape("1_Pooling/a b+c%.json", true),
            "1_Pooling/a%20b%2Bc%25.json"
        );
        assert_eq!(escape("refs/pr/1", false), "refs%2Fpr%2F1");
    }
}
