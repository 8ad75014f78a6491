//! Files that are complete or absent: hashing, flushing, locking.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Component, Path};

use sha1::Sha1;
use sha2::{Digest, Sha256};

use crate::error::HubError;

/// Lower-case hexadecimal of a finished digest.
pub(crate) fn hex(digest: impl AsRef<[u8]>) -> String {
    digest
        .as_ref()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// Whether `text` is `digits` hexadecimal digits, as a commit (40) or a sha256 (64) is.
pub(crate) fn is_hex(text: &str, digits: usize) -> bool {
    text.len() == digits && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// sha256 of a file, as lower-case hexadecimal.
pub(crate) fn sha256(path: &Path) -> Result<String, HubError> {
    hash(path, Sha256::new())
}

/// The name that git gives a file's content, as lower-case hexadecimal: the hub's hash of small files.
pub(crate) fn git_sha1(path: &Path) -> Result<String, HubError> {
    let size = fs::metadata(path)
        .map_err(HubError::io("read", path))?
        .len();
    hash(path, Sha1::new().chain_update(format!("blob {size}\0")))
}

/// A hash that the hub may give, by its length: sha256, or git's name of the content. `None` for another mark.
pub(crate) fn hash_like(path: &Path, like: &str) -> Result<Option<String>, HubError> {
    match (is_hex(like, 64), is_hex(like, 40)) {
        (true, _) => sha256(path).map(Some),
        (_, true) => git_sha1(path).map(Some),
        _ => Ok(None),
    }
}

fn hash(path: &Path, mut hasher: impl Digest) -> Result<String, HubError> {
    let mut file = File::open(path).map_err(HubError::io("read", path))?;
    let mut buffer = vec![0; 1 << 20];
    loop {
        let read = match file.read(&mut buffer) {
            Ok(0) => return Ok(hex(hasher.finalize())),
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(HubError::io("read", path)(error)),
        };
        hasher.update(&buffer[..read]);
    }
}

pub(crate) fn create_dir_all(path: &Path) -> Result<(), HubError> {
    fs::create_dir_all(path).map_err(HubError::io("create", path))
}

/// Flush a directory, so that a rename into it survives a power cut.
pub(crate) fn sync_dir(path: &Path) -> Result<(), HubError> {
    // Only Unix opens directories; elsewhere the rename itself is all there is.
    if cfg!(unix) {
        File::open(path)
            .and_then(|dir| dir.sync_all())
            .map_err(HubError::io("flush", path))?;
    }
    Ok(())
}

/// Move a finished, flushed file or directory to its name.
pub(crate) fn rename(from: &Path, to: &Path) -> Result<(), HubError> {
    fs::rename(from, to).map_err(HubError::io("write", to))?;
    to.parent().map_or(Ok(()), sync_dir)
}

/// Write a small file so that a reader sees the old text or the new one.
pub(crate) fn write_atomically(path: &Path, text: &str) -> Result<(), HubError> {
    let dir = path.parent().unwrap_or(Path::new("."));
    create_dir_all(dir)?;
    let mut file = tempfile::NamedTempFile::new_in(dir).map_err(HubError::io("write", path))?;
    io::Write::write_all(&mut file, text.as_bytes()).map_err(HubError::io("write", path))?;
    file.as_file()
        .sync_all()
        .map_err(HubError::io("flush", path))?;
    file.persist(path)
        .map_err(|error| HubError::io("write", path)(error.error))?;
    sync_dir(dir)
}

/// Wait for the lock named by `path`; it is held until the file is dropped. On Unix it is `flock`, as Python's `filelock` uses.
pub(crate) fn lock(path: &Path) -> Result<File, HubError> {
    if let Some(dir) = path.parent() {
        create_dir_all(dir)?;
    }
    let file = File::options()
        .create(true)
        .append(true)
        .open(path)
        .map_err(HubError::io("open", path))?;
    file.lock().map_err(HubError::io("lock", path))?;
    Ok(file)
}

/// Whether a path taken from a server, a card or an archive stays inside the folder it is joined to.
pub fn is_safe_relative(path: &str) -> bool {
    !path.is_empty()
        && !path.contains(['\\', '\0', ':'])
        && Path::new(path)
            .components()
            .all(|part| matches!(part, Component::Normal(_)))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    /// As `printf 'hello\\n' | git hash-object --stdin` and `sha256sum` say.
    #[test]
    fn hashes_are_gits_and_sha256() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("hello");
        fs::write(&path, "hello\n").unwrap();
        let git = "ce013625030ba8dba906f756967f9e9ca394464a";
        assert_eq!(hash_like(&path, git).unwrap().unwrap(), git);
        let sha256 = "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03";
        assert_eq!(hash_like(&path, sha256).unwrap().unwrap(), sha256);
        assert_eq!(hash_like(&path, "a mark of the server").unwrap(), None);
    }

    #[test]
    fn relative_paths_that_leave_their_folder_are_unsafe() {
        for safe in ["config.json", "1_Pooling/config.json", "a..b"] {
            assert!(is_safe_relative(safe), "{safe}");
        }
        for bad in [
            "",
            "../x",
            "a/../../x",
            "/etc/passwd",
            "a\\..\\x",
            "C:x",
            "./x",
            "a\0b",
        ] {
            assert!(!is_safe_relative(bad), "{bad:?}");
        }
    }

    #[test]
    fn sha256_is_the_standard_one() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("abc");
        write_atomically(&path, "abc").unwrap();
        assert_eq!(
            sha256(&path).unwrap(),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
    }
}
