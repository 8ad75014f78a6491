//! A GGUF file as a model directory: what it says of its configuration, tokenizer and template is written beside a link to it in
//! the program's cache, so that nothing else need know of it.

use crate::Error;
use rekindle_base::{rng, write_atomically};
use rekindle_hub::Hub;
use rekindle_weights::{GgufFile, side_files};
use std::{
    fs,
    path::{Path, PathBuf},
    time::UNIX_EPOCH,
};

/// The link's name.
pub(crate) const WEIGHTS: &str = "model.gguf";
/// Of what [`side_files`] makes: a directory that an earlier one made is not used.
const VERSION: u32 = 1;
/// Written last: without it a directory is not whole.
const LAST: &str = "config.json";

/// The directory of a model: `path` itself, or if it is (or holds nothing but) a GGUF file, a directory made of that.
///
/// # Errors
/// When the file is broken, or the cache cannot be written.
pub(crate) fn unpacked(hub: &Hub, path: &Path) -> Result<PathBuf, Error> {
    let Some(file) = find(path) else {
        return Ok(path.to_owned());
    };
    let file = fs::canonicalize(&file).map_err(Error::io(&file))?;
    let about = fs::metadata(&file).map_err(Error::io(&file))?;
    let changed = about.modified().ok();
    let changed = changed.and_then(|time| time.duration_since(UNIX_EPOCH).ok());
    let identity = format!("{VERSION} {} {} {changed:?}", file.display(), about.len());
    let stem = file.file_stem().unwrap_or_default().to_string_lossy();
    let name = format!("{stem}-{:016x}", rng::named(0, &identity));
    let dir = hub.cache_dir().join("gguf").join(name);
    if is_unpacked(&dir) {
        return Ok(dir);
    }
    let files = side_files(&GgufFile::open(&file)?)?;
    fs::create_dir_all(&dir).map_err(Error::io(&dir))?;
    let link = dir.join(WEIGHTS);
    if !link.is_file() {
        // A link that leads nowhere is in the way.
        let _ = fs::remove_file(&link);
        linked(&file, &link).map_err(Error::io(&link))?;
    }
    let (last, others): (Vec<_>, Vec<_>) = files.into_iter().partition(|(name, _)| name == LAST);
    for (name, text) in others.into_iter().chain(last) {
        let path = dir.join(name);
        write_atomically(&path, text.as_bytes()).map_err(Error::io(path))?;
    }
    Ok(dir)
}

/// Whether a directory is one that [`unpacked`] made.
pub(crate) fn is_unpacked(dir: &Path) -> bool {
    dir.join(WEIGHTS).is_file() && dir.join(LAST).is_file()
}

/// The file that a directory which [`unpacked`] made was made of.
pub(crate) fn file_of(dir: &Path) -> PathBuf {
    let link = dir.join(WEIGHTS);
    link.canonicalize().unwrap_or(link)
}

/// Keys of the metadata under which converters write the repository that a file was made of. `general.base_model` is another's: the
/// model that this one was tuned from.
const REPOSITORIES: [&str; 5] = [
    "general.source.huggingface.repository",
    "general.source.repo_url",
    "general.repo_url",
    "general.source.url",
    "general.url",
];

/// The name on the hub of the model in a directory which [`unpacked`] made, where its file tells.
pub(crate) fn hub_name(dir: &Path) -> Option<String> {
    let file = GgufFile::open(&dir.join(WEIGHTS)).ok()?;
    let said = REPOSITORIES.iter().find_map(|key| file.text(key))?;
    named_by(said)
}

/// `owner/name`, of which `said` is the address or the name itself.
fn named_by(said: &str) -> Option<String> {
    const HUB: [&str; 2] = ["https://huggingface.co/", "https://hf.co/"];
    let path = HUB.iter().find_map(|hub| said.strip_prefix(hub));
    let path = path.unwrap_or(said).trim_end_matches('/');
    let is_part = |part: &&str| {
        let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        !part.is_empty() && part.chars().all(fits)
    };
    match path.split('/').collect::<Vec<_>>()[..] {
        [owner, name] if is_part(&owner) && is_part(&name) => Some(path.to_owned()),
        _ => None,
    }
}

#[cfg(unix)]
fn linked(file: &Path, link: &Path) -> std::io::Result<()> {
    std::os::unix::fs::symlink(file, link)
}

#[cfg(not(unix))]
fn linked(file: &Path, link: &Path) -> std::io::Result<()> {
    fs::hard_link(file, link).or_else(|_| fs::copy(file, link).map(|_| ()))
}

/// Whether a file has the name of a GGUF file.
pub(crate) fn is_named(path: &Path) -> bool {
    let extension = path.extension();
    extension.is_some_and(|extension| extension.eq_ignore_ascii_case("gguf"))
}

/// The GGUF file that a path is, or that a directory without a model of its own holds.
fn find(path: &Path) -> Option<PathBuf> {
    if path.is_file() {
        return is_named(path).then(|| path.to_owned());
    }
    // Beside a model or an adapter, it is what was exported.
    let others = ["config.json", "adapter_config.json", "tokenizer.json"];
    if others.iter().any(|name| path.join(name).is_file()) {
        return None;
    }
    let entries = fs::read_dir(path).ok()?.flatten().map(|entry| entry.path());
    let mut found = entries.filter(|path| is_named(path));
    found.next().filter(|_| found.next().is_none())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repository_is_told_by_its_address_or_its_name() {
        for (said, name) in [
            (
                "https://huggingface.co/owner/a-model.v1",
                Some("owner/a-model.v1"),
            ),
            ("https://hf.co/owner/model/", Some("owner/model")),
            ("owner/model", Some("owner/model")),
            ("https://example.org/owner/model", None),
            ("/home/somebody/model", None),
            ("model", None),
            ("https://huggingface.co/owner/model/tree/main", None),
        ] {
            assert_eq!(named_by(said).as_deref(), name, "{said}");
        }
    }
}
