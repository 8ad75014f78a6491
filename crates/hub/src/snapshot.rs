//! Download one revision of a repository into the Hugging Face cache: blobs first, in parallel, then the links to them, so
//! that a snapshot appears only when every file of it is there.

use std::fs;
use std::path::PathBuf;
use std::sync::Mutex;
use std::thread;

use crate::Hub;
use crate::cache::{self, RepoCache, RepoKind};
use crate::cards::ModelCard;
use crate::disk;
use crate::error::HubError;
use crate::progress::Progress;
use crate::remote::Remote;

/// Files that are fetched at the same time.
const THREADS: usize = 4;

/// A file to fetch, with its hash where a card gives one.
#[derive(Debug, Clone)]
pub(crate) struct File {
    pub(crate) path: String,
    pub(crate) sha256: Option<String>,
}

/// Picks files from a listing, or says which ones it lacks.
pub(crate) type Select<'a> = &'a dyn Fn(&[String]) -> Result<Vec<File>, Vec<String>>;

/// The files of a model to fetch: the card's, or those that fine-tuning needs; on failure, what the listing lacks.
pub(crate) fn model_files(
    listing: &[String],
    card: Option<&ModelCard>,
) -> Result<Vec<File>, Vec<String>> {
    match card.and_then(ModelCard::pinned_files) {
        Some(files) => named_files(
            listing,
            files
                .iter()
                .map(|file| (file.path.as_str(), Some(file.sha256.as_str()))),
        ),
        None => Ok(cache::select_model_files(listing)?
            .into_iter()
            .map(|path| File { path, sha256: None })
            .collect()),
    }
}

/// Files named beforehand, all of which must be listed.
pub(crate) fn named_files<'a>(
    listing: &[String],
    named: impl Iterator<Item = (&'a str, Option<&'a str>)>,
) -> Result<Vec<File>, Vec<String>> {
    let (found, missing): (Vec<_>, Vec<_>) =
        named.partition(|(path, _)| listing.iter().any(|listed| listed == path));
    if missing.is_empty() {
        Ok(found
            .into_iter()
            .map(|(path, sha256)| File {
                path: path.to_string(),
                sha256: sha256.map(String::from),
            })
            .collect())
    } else {
        Err(missing
            .into_iter()
            .map(|(path, _)| path.to_string())
            .collect())
    }
}

impl Hub {
    /// Fetch the files that `select` picks from the listing. Returns the snapshot's folder and its commit.
    pub(crate) fn snapshot(
        &self,
        kind: RepoKind,
        id: &str,
        revision: &str,
        select: Select,
        progress: &dyn Progress,
    ) -> Result<(PathBuf, String), HubError> {
        let remote = self.remote();
        let repo = RepoCache::new(&self.hf_cache, kind, id);
        let listing = remote.listing(kind, id, revision)?;
        let commit = listing.commit;
        let files = select(&listing.files).map_err(|missing| HubError::IncompleteRepo {
            repo: id.to_string(),
            revision: revision.to_string(),
            missing,
        })?;
        disk::create_dir_all(&repo.dir.join("blobs"))?;

        let queue = Mutex::new(files.iter());
        let done: Mutex<Result<Vec<(&File, String)>, HubError>> = Mutex::new(Ok(Vec::new()));
        let lock_done = || done.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        thread::scope(|scope| {
            for _ in 0..THREADS.min(files.len()) {
                scope.spawn(|| {
                    while lock_done().is_ok() {
                        let next = queue
                            .lock()
                            .unwrap_or_else(|poisoned| poisoned.into_inner())
                            .next();
                        let Some(file) = next else { break };
                        let url = remote.file_url(kind, id, &commit, &file.path);
                        let result = fetch_blob(&remote, &repo, &url, &commit, file, progress);
                        let mut done = lock_done();
                        match (&mut *done, result) {
                            (Ok(blobs), Ok(etag)) => blobs.push((file, etag)),
                            (Ok(_), Err(error)) => *done = Err(error),
                            // The first failure is the one to report.
                            (Err(_), _) => {}
                        }
                    }
                });
            }
        });
        let mut blobs = done
            .into_inner()
            .unwrap_or_else(|poisoned| poisoned.into_inner())?;
        // config.json last: without it a directory is no model, so readers take a snapshot being linked for absent.
        blobs.sort_by_key(|(file, _)| (file.path == "config.json", &file.path));
        for (file, etag) in blobs {
            repo.link(&commit, &file.path, &etag)?;
        }
        repo.write_ref(revision, &commit)?;
        Ok((repo.snapshot_dir(&commit), commit))
    }
}

/// Make sure that a file's blob is in the cache; returns its name.
fn fetch_blob(
    remote: &Remote,
    repo: &RepoCache,
    url: &str,
    commit: &str,
    file: &File,
    progress: &dyn Progress,
) -> Result<String, HubError> {
    let what = &file.path;
    let meta = remote.file_meta(url, commit)?;
    let mismatch = |expected: &str, found: String| HubError::Checksum {
        file: what.clone(),
        expected: expected.to_string(),
        found,
        hint: "the file on the server is damaged or has changed; try again, or name another endpoint in HF_ENDPOINT",
    };
    // Large files carry their sha256 in the ETag; so a file that is not the card's is refused before it is fetched.
    let etag_sha256 = Some(meta.etag.clone()).filter(|etag| disk::is_hex(etag, 64));
    if let (Some(expected), Some(found)) = (&file.sha256, &etag_sha256)
        && !expected.eq_ignore_ascii_case(found)
    {
        return Err(mismatch(expected, found.clone()));
    }
    let blob = repo.blob(&meta.etag);
    let expected = file.sha256.as_ref().unwrap_or(&meta.etag);
    // What is there is looked at too: a disk can be full or fail, and others write to this cache.
    let is_there = || {
        let is_whole = fs::metadata(&blob).is_ok_and(|found| found.len() == meta.size);
        is_whole
            && disk::hash_like(&blob, expected)
                .is_ok_and(|found| found.is_none_or(|found| found.eq_ignore_ascii_case(expected)))
    };
    if is_there() {
        return Ok(meta.etag);
    }
    let _lock = repo.lock(&meta.etag)?;
    if is_there() {
        return Ok(meta.etag);
    }
    let incomplete = repo.incomplete(&meta.etag);
    loop {
        let resumed = remote.download(url, what, &incomplete, Some(meta.size), progress)?;
        // A server that gives no hash gives another mark.
        let Some(found) = disk::hash_like(&incomplete, expected)? else {
            break;
        };
        if found.eq_ignore_ascii_case(expected) {
            break;
        }
        fs::remove_file(&incomplete).map_err(HubError::io("remove", &incomplete))?;
        // The bytes of an earlier try may have been at fault; the whole file gets one chance.
        if !resumed {
            return Err(mismatch(expected, found));
        }
    }
    disk::rename(&incomplete, &blob)?;
    Ok(meta.etag)
}
