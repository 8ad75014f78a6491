//! Files that are complete or absent.

use std::{
    fs::File,
    io::{self, BufWriter, Write},
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

/// Files that are being written, under the names that they have until they are whole.
static UNFINISHED: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());

/// Such a file, on the list for as long as this lives.
#[derive(Debug)]
struct Unfinished(PathBuf);

impl Unfinished {
    fn new(path: &Path) -> Self {
        let mut all = UNFINISHED.lock().unwrap_or_else(PoisonError::into_inner);
        all.push(path.to_owned());
        Self(path.to_owned())
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        let mut all = UNFINISHED.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|path| *path != self.0);
    }
}

/// Removes the files that are being written: for a program that ends in the middle of it, on Ctrl-C.
pub fn discard_unfinished() {
    let all = UNFINISHED.lock().unwrap_or_else(PoisonError::into_inner);
    for path in all.iter() {
        // It may be whole by now, under its own name.
        let _ = std::fs::remove_file(path);
    }
}

/// A file that is written bit by bit: it has another name until it is finished, and is gone if it never is. What a kill left of
/// an earlier try is removed.
#[derive(Debug)]
pub struct Aside {
    file: tempfile::NamedTempFile,
    path: PathBuf,
    _unfinished: Unfinished,
}

/// How the name of a file ends that is written aside.
const ASIDE: &str = ".unfinished";

impl Aside {
    /// Begins a file. A link stays one, and who may read the file that is there may read the new one.
    ///
    /// # Errors
    /// The system's, with nothing left behind.
    pub fn create(path: &Path) -> io::Result<Self> {
        let path = path.canonicalize().unwrap_or_else(|_| path.to_owned());
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let prefix = format!(".{name}.");
        let folder = folder_of(&path);
        sweep(folder, &prefix);
        let mut builder = tempfile::Builder::new();
        let made = builder.prefix(&prefix).suffix(ASIDE).tempfile_in(folder);
        let file = made.map_err(|error| folder.metadata().err().unwrap_or(error))?;
        // Held for as long as it is written, so that nobody sweeps it away. Not every file system has locks.
        let _ = file.as_file().try_lock();
        let permissions = path.metadata().map(|found| found.permissions());
        match permissions {
            // Where they cannot be the same, they are as of any new file.
            Ok(permissions) => drop(file.as_file().set_permissions(permissions)),
            Err(_) => make_readable(file.as_file())?,
        }
        Ok(Self {
            _unfinished: Unfinished::new(file.path()),
            file,
            path,
        })
    }

    /// The file, to write to.
    ///
    /// # Errors
    /// The system's.
    pub fn writer(&self) -> io::Result<File> {
        self.file.as_file().try_clone()
    }

    /// Gives the file its name.
    ///
    /// # Errors
    /// The system's, with nothing left behind.
    pub fn finish(self) -> io::Result<()> {
        self.file.as_file().sync_all()?;
        self.file.persist(&self.path).map_err(|e| e.error)?;
        Ok(())
    }
}

/// Removes what killed processes left of files that they wrote aside: what nobody holds.
fn sweep(folder: &Path, prefix: &str) {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    for entry in entries {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        let is_one = name.starts_with(prefix) && name.ends_with(ASIDE);
        if is_one && File::open(entry.path()).is_ok_and(|file| file.try_lock().is_ok()) {
            // Where it cannot be removed, it is in nobody's way.
            let _ = std::fs::remove_file(entry.path());
        }
    }
}

/// The folder that a file lies in; `.` for a bare name.
#[must_use]
pub fn folder_of(path: &Path) -> &Path {
    path.parent()
        .filter(|folder| !folder.as_os_str().is_empty())
        .unwrap_or(Path::new("."))
}

/// A temporary file is private; what we publish is readable like any other.
fn make_readable(file: &File) -> io::Result<()> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        file.set_permissions(std::fs::Permissions::from_mode(0o644))?;
    }
    Ok(())
}

/// Writes a file whole or not at all: aside, fsynced, renamed.
///
/// # Errors
/// The system's, with nothing left behind.
pub fn write_atomically(path: &Path, bytes: &[u8]) -> io::Result<()> {
    write_atomically_with(path, |file| file.write_all(bytes))
}

/// Writes a file whole or not at all, piece by piece: for one that is too large to be made in memory first. A link leads to the
/// file that is written; a device or a pipe is written to as it is, and stays.
///
/// # Errors
/// The system's or those of `write`, with nothing left behind.
pub fn write_atomically_with(
    path: &Path,
    write: impl FnOnce(&mut BufWriter<&mut File>) -> io::Result<()>,
) -> io::Result<()> {
    let target = path.canonicalize();
    let path = target.as_deref().unwrap_or(path);
    if path
        .metadata()
        .is_ok_and(|there| !there.is_file() && !there.is_dir())
    {
        let mut file = File::options().write(true).open(path)?;
        let mut buffer = BufWriter::new(&mut file);
        write(&mut buffer)?;
        return buffer.flush();
    }
    let folder = folder_of(path);
    let made = tempfile::NamedTempFile::new_in(folder);
    // A folder that is not there is told of as itself, not by the name of a file in it.
    let mut file = made.map_err(|error| folder.metadata().err().unwrap_or(error))?;
    let _unfinished = Unfinished::new(file.path());
    let mut buffer = BufWriter::new(file.as_file_mut());
    write(&mut buffer)?;
    buffer.flush()?;
    drop(buffer);
    make_readable(file.as_file())?;
    file.as_file().sync_all()?;
    file.persist(path).map_err(|e| e.error)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_file_is_replaced_and_nothing_is_left_behind() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.json");
        write_atomically(&path, b"one").unwrap();
        write_atomically(&path, b"two").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"two");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
        let missing = folder.path().join("no such folder/a.json");
        assert!(write_atomically(&missing, b"x").is_err());
        let failed = write_atomically_with(&path, |file| {
            file.write_all(b"three")?;
            Err(io::Error::other("stop"))
        });
        assert_eq!(failed.unwrap_err().to_string(), "stop");
        assert_eq!(std::fs::read(&path).unwrap(), b"two");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[cfg(unix)]
    #[test]
    fn links_and_devices_stay_what_they_are() {
        let folder = tempfile::tempdir().unwrap();
        let (file, link) = (folder.path().join("a"), folder.path().join("b"));
        std::fs::write(&file, "one").unwrap();
        std::os::unix::fs::symlink(&file, &link).unwrap();
        write_atomically(&link, b"two").unwrap();
        assert!(link.is_symlink());
        assert_eq!(std::fs::read(&file).unwrap(), b"two");
        let null = folder.path().join("null");
        std::os::unix::fs::symlink("/dev/null", &null).unwrap();
        write_atomically(&null, b"gone").unwrap();
        assert!(!null.metadata().unwrap().is_file());
    }

    #[test]
    fn what_a_kill_left_is_swept_and_what_is_being_written_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.jsonl");
        let left = folder.path().join(".a.jsonl.1234.unfinished");
        let of_another = folder.path().join(".b.jsonl.1234.unfinished");
        std::fs::write(&left, "half").unwrap();
        std::fs::write(&of_another, "half").unwrap();
        let first = Aside::create(&path).unwrap();
        assert!(!left.exists() && of_another.exists());
        let second = Aside::create(&path).unwrap();
        for (aside, text) in [(&first, "one"), (&second, "two")] {
            aside.writer().unwrap().write_all(text.as_bytes()).unwrap();
        }
        assert!(!path.exists());
        first.finish().unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"one");
        drop(second);
        assert_eq!(std::fs::read(&path).unwrap(), b"one");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 2);
    }
}
