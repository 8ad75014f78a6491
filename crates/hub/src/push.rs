//! A folder to a repository of the hub: every file of it in one commit.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use crate::Hub;
use crate::error::HubError;
use crate::name::{check_repo_id, check_revision};
use crate::progress::Progress;
use crate::remote::Remote;

/// What is pushed, and where to.
#[derive(Debug, Clone, Copy)]
pub struct Push<'a> {
    /// The folder.
    pub dir: &'a Path,
    /// `org/name`; it is made where it is not there.
    pub repo: &'a str,
    /// The branch.
    pub revision: &'a str,
    /// Whether a repository that is made is for its owners alone.
    pub private: bool,
    /// The commit's first line.
    pub message: &'a str,
}

/// What a push did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pushed {
    /// Where people see it.
    pub url: String,
    /// The commit.
    pub commit: String,
    /// Files in it.
    pub files: usize,
    /// Bytes that were sent: large files that the hub has are not sent again.
    pub sent: u64,
}

impl Hub {
    /// Sends a folder's files to a repository of the hub, in one commit; hidden files stay here. What the repository holds
    /// besides stays there.
    ///
    /// # Errors
    /// [`HubError::NotPushed`] in offline mode, without a token and for an empty folder; [`HubError::Denied`] where the token
    /// may not write; and what a connection may meet with.
    pub fn push(&self, what: &Push<'_>, progress: &dyn Progress) -> Result<Pushed, HubError> {
        let Push { dir, repo, .. } = *what;
        let not_pushed = |reason: &str, hint: &str| HubError::NotPushed {
            path: dir.to_path_buf(),
            reason: reason.to_owned(),
            hint: hint.to_owned(),
        };
        let invalid = |reason| HubError::InvalidName {
            name: repo.to_owned(),
            reason,
        };
        check_repo_id(repo).map_err(invalid)?;
        if !repo.contains('/') {
            return Err(invalid("a repository to push to is named `owner/name`"));
        }
        check_revision(what.revision).map_err(invalid)?;
        if self.offline {
            let hint = "unset HF_HUB_OFFLINE to push";
            return Err(not_pushed("offline mode forbids every request", hint));
        }
        let Some(token) = self.token.clone() else {
            let hint = "set HF_TOKEN to a token that may write, or log in: hf auth login";
            return Err(not_pushed("there is no token", hint));
        };
        let mut files = BTreeMap::new();
        collect(dir, "", &mut files)?;
        if files.is_empty() {
            let hint = "name a folder with a model, such as runs/<name>/final";
            return Err(not_pushed("there are no files in it", hint));
        }
        let files: Vec<(String, PathBuf)> = files.into_iter().collect();
        let remote = Remote::new(&self.endpoint, Some(token), self.backoff);
        let may_not_write = |error| match error {
            HubError::Denied { url, status, .. } => not_pushed(
                &format!("{url} answered {status}"),
                "use a token that may write to the repository, and check the repository's name",
            ),
            other => other,
        };
        remote.create(repo, what.private).map_err(may_not_write)?;
        let (commit, sent) = remote
            .commit(repo, what.revision, what.message, &files, progress)
            .map_err(may_not_write)?;
        Ok(Pushed {
            url: format!("{}/{repo}", self.endpoint.trim_end_matches('/')),
            commit: commit.id,
            files: files.len(),
            sent,
        })
    }
}

/// The files below a folder by their paths in the repository; hidden ones and links to folders are passed over.
fn collect(dir: &Path, below: &str, files: &mut BTreeMap<String, PathBuf>) -> Result<(), HubError> {
    let io = |error| HubError::io("read", dir)(error);
    for entry in fs::read_dir(dir).map_err(io)? {
        let entry = entry.map_err(io)?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.starts_with('.') {
            continue;
        }
        let (name, path) = (format!("{below}{name}"), entry.path());
        if entry.file_type().map_err(io)?.is_dir() {
            collect(&path, &format!("{name}/"), files)?;
        } else if path.is_file() {
            files.insert(name, path);
        }
    }
    Ok(())
}
