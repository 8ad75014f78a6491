//! Files inside wheels (zip) and source archives (`tar.gz`), read into memory by their exact names.
//!
//! Nothing is unpacked to disk, so no entry's name can lead out of a folder; what an archive may unpack to is bounded.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::Path;

use flate2::read::MultiGzDecoder;
use zip::ZipArchive;

use crate::disk;
use crate::error::HubError;

/// The most bytes that an archive may unpack to.
const MAX_UNPACKED: u64 = 256 << 20;

/// Open a wheel. One with an unsafe entry is refused whole, whichever entry is asked for.
pub(crate) fn open_wheel(path: &Path) -> Result<ZipArchive<BufReader<File>>, HubError> {
    let file = File::open(path).map_err(HubError::io("read", path))?;
    let archive =
        ZipArchive::new(BufReader::new(file)).map_err(|error| bad(path, error.to_string()))?;
    for name in archive.file_names() {
        let name = name.map_err(|error| bad(path, error.to_string()))?;
        check_entry(path, &name)?;
    }
    Ok(archive)
}

/// The contents of files of a wheel, in the order asked for.
pub(crate) fn wheel(path: &Path, wanted: &[&str]) -> Result<Vec<Vec<u8>>, HubError> {
    let mut archive = open_wheel(path)?;
    let mut left = MAX_UNPACKED;
    let mut read = |name: &&str| {
        let entry = archive.by_name(name).map_err(|error| error.to_string())?;
        let mut bytes = Vec::new();
        let mut entry = Bounded { inner: entry, left };
        entry
            .read_to_end(&mut bytes)
            .map_err(|error| error.to_string())?;
        left = entry.left;
        Ok(bytes)
    };
    wanted
        .iter()
        .map(|name| read(name).map_err(|detail: String| bad(path, format!("{name}: {detail}"))))
        .collect()
}

/// The contents of files of a `tar.gz`, in the order asked for. `path` is for messages, as the archive may lie in another one.
pub(crate) fn tar_gz(
    path: &Path,
    archive: impl Read,
    wanted: &[&str],
) -> Result<Vec<Vec<u8>>, HubError> {
    let damaged = |error: io::Error| bad(path, error.to_string());
    let mut archive = tar::Archive::new(Bounded {
        inner: MultiGzDecoder::new(archive),
        left: MAX_UNPACKED,
    });
    let mut found = BTreeMap::new();
    for entry in archive.entries().map_err(damaged)? {
        let mut entry = entry.map_err(damaged)?;
        let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        check_entry(path, &name)?;
        if entry.header().entry_type().is_file() && wanted.contains(&name.as_str()) {
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes).map_err(damaged)?;
            found.insert(name, bytes);
        }
    }
    wanted
        .iter()
        .map(|name| {
            found
                .remove(*name)
                .ok_or_else(|| bad(path, format!("{name}: not in the archive")))
        })
        .collect()
}

fn bad(path: &Path, detail: String) -> HubError {
    HubError::Archive {
        path: path.to_path_buf(),
        detail,
    }
}

/// Only names of the card are read, so a bad entry could do no harm; but an archive that has one is not to be trusted.
fn check_entry(path: &Path, name: &str) -> Result<(), HubError> {
    match disk::is_safe_relative(name.trim_end_matches('/')) {
        true => Ok(()),
        false => Err(HubError::UnsafeEntry {
            path: path.to_path_buf(),
            entry: name.to_string(),
        }),
    }
}

/// Fails, rather than ends, once more bytes have come than are left.
struct Bounded<R> {
    inner: R,
    left: u64,
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.left = self.left.checked_sub(read as u64).ok_or_else(|| {
            io::Error::other(format!("unpacks to more than {} MiB", MAX_UNPACKED >> 20))
        })?;
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::io::Write;

    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::*;

    /// A `tar.gz` of these entries; the names go in as they are.
    fn tar_of(entries: &[(&str, &[u8])]) -> Vec<u8> {
        let mut tar = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::default()));
        for (name, bytes) in entries {
            let mut header = tar::Header::new_gnu();
            header.as_gnu_mut().unwrap().name[..name.len()].copy_from_slice(name.as_bytes());
            header.set_size(bytes.len() as u64);
            header.set_cksum();
            tar.append(&header, *bytes).unwrap();
        }
        tar.into_inner().unwrap().finish().unwrap()
    }

    #[test]
    fn files_come_in_the_order_asked_for() {
        let archive = tar_of(&[("d/a", b"one"), ("d/b", b"two"), ("d/c", b"three")]);
        let files = tar_gz(Path::new("x.tar.gz"), &archive[..], &["d/c", "d/a"]).unwrap();
        assert_eq!(files, [b"three".to_vec(), b"one".to_vec()]);
    }

    #[test]
    fn bad_archives_are_refused() {
        let good = tar_of(&[("a", b"one")]);
        let cases = [
            (
                tar_of(&[("a", b"x"), ("../b", b"y")]),
                "unsafe entry `../b`",
            ),
            (
                tar_of(&[("/etc/b", b"y"), ("a", b"x")]),
                "unsafe entry `/etc/b`",
            ),
            (tar_of(&[("b", b"y")]), "a: not in the archive"),
            (b"no gzip".to_vec(), "cannot use the package file x.tar.gz"),
            (
                good[..good.len() / 2].to_vec(),
                "cannot use the package file x.tar.gz",
            ),
        ];
        for (archive, expect) in cases {
            let message = tar_gz(Path::new("x.tar.gz"), &archive[..], &["a"])
                .unwrap_err()
                .to_string();
            assert!(message.contains(expect), "{expect}: {message}");
        }
    }

    #[test]
    fn a_link_is_no_file() {
        let mut tar = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::default()));
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Symlink);
        header.set_size(0);
        tar.append_link(&mut header, "a", "/etc/passwd").unwrap();
        let archive = tar.into_inner().unwrap().finish().unwrap();
        let message = tar_gz(Path::new("x"), &archive[..], &["a"])
            .unwrap_err()
            .to_string();
        assert!(message.contains("a: not in the archive"), "{message}");
    }

    #[test]
    fn what_unpacks_to_too_much_is_refused() {
        let zeros = vec![0; 1 << 20];
        let mut gz = GzEncoder::new(Vec::new(), Compression::fast());
        let mut header = tar::Header::new_gnu();
        header.set_path("a").unwrap();
        header.set_size(MAX_UNPACKED + (1 << 20));
        header.set_cksum();
        gz.write_all(header.as_bytes()).unwrap();
        for _ in 0..=(MAX_UNPACKED >> 20) {
            gz.write_all(&zeros).unwrap();
        }
        let archive = gz.finish().unwrap();
        assert!(archive.len() < 4 << 20);
        let message = tar_gz(Path::new("x"), &archive[..], &["a"])
            .unwrap_err()
            .to_string();
        assert!(message.contains("more than 256 MiB"), "{message}");
    }
}
