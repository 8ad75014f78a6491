//! Where a package index keeps a source archive.
//!
//! pip downloads wheels for us, but not source archives: to learn their metadata it runs code of the package, also for
//! `pip download --no-deps`. So pip only says which index it uses, and the index's page of the package (PEP 503) is read here.

use std::path::Path;
use std::process::{Command, Stdio};

use crate::cards::PackageFile;
use crate::error::HubError;
use crate::remote::{self, Remote};

/// The address of a package's file in the index that pip uses. `empty` is an empty directory, `place` for messages.
pub(crate) fn address(
    python: &str,
    empty: &Path,
    remote: &Remote,
    package: &PackageFile,
    place: &Path,
) -> Result<String, HubError> {
    let index = index_url(python, empty)?;
    let page = format!(
        "{}/{}/",
        index.trim_end_matches('/'),
        normalised(&package.name)
    );
    let html = remote.page(&page)?;
    link_to(&html, &page, &package.file).ok_or_else(|| HubError::NotInIndex {
        page,
        file: package.file.clone(),
        place: place.to_path_buf(),
    })
}

/// The index of pip's settings (environment first, then files), else the default that pip's help names.
fn index_url(python: &str, empty: &Path) -> Result<String, HubError> {
    let settings = pip(python, empty, &["config", "list"])?;
    let set = [":env:", "download", "global"]
        .iter()
        .find_map(|section| {
            let start = format!("{section}.index-url=");
            settings.lines().find_map(|line| line.strip_prefix(&start))
        })
        .map(|value| value.trim().trim_matches(['\'', '"']).to_string());
    let url = match set {
        Some(url) => Some(url),
        None => default_index(&pip(python, empty, &["download", "--help"])?),
    };
    url.filter(|url| url.starts_with("https://") || url.starts_with("http://"))
        .ok_or_else(|| HubError::IndexUnknown {
            python: python.to_string(),
            detail: "neither `pip config list` nor `pip download --help` names an address".into(),
        })
}

/// The default in the help of `--index-url`, which may be broken over lines.
fn default_index(help: &str) -> Option<String> {
    let (_, option) = help.split_once("--index-url")?;
    let (_, default) = option.split_once("(default")?;
    let (url, _) = default.split_once(')')?;
    Some(url.trim().to_string())
}

fn pip(python: &str, empty: &Path, args: &[&str]) -> Result<String, HubError> {
    let output = Command::new(python)
        .args(["-m", "pip"])
        .args(args)
        // `-m` looks into the working directory first; an empty one holds no false pip.
        .current_dir(empty)
        .stdin(Stdio::null())
        .output()
        .map_err(|error| HubError::Python {
            python: python.to_string(),
            detail: error.to_string(),
        })?;
    if !output.status.success() {
        let text = String::from_utf8_lossy(&output.stderr);
        return Err(HubError::IndexUnknown {
            python: python.to_string(),
            detail: format!("`pip {}` failed: {}", args.join(" "), text.trim()),
        });
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// A package's name in addresses: PEP 503.
fn normalised(name: &str) -> String {
    let words = name.split(['-', '_', '.']).filter(|word| !word.is_empty());
    words.collect::<Vec<_>>().join("-").to_ascii_lowercase()
}

/// The address of the link whose last part is `file`; the page gives a hash behind `#`, but the card's is the one that counts.
fn link_to(html: &str, page: &str, file: &str) -> Option<String> {
    html.split("href=").skip(1).find_map(|rest| {
        let quote = rest.chars().next().filter(|c| ['"', '\''].contains(c))?;
        let link = rest[1..].split(quote).next()?;
        let link = link.split('#').next()?.replace("&amp;", "&");
        let name = link.split('?').next()?.rsplit('/').next()?;
        (name == file).then(|| remote::join(page, &link))?
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn links_are_found_by_the_file_they_name() {
        let html = "<a href=\"https://files.example/p/A-1.0-py3-none-any.whl#sha256=aa\">x</a>\n\
            <a data-requires-python=\"&gt;=3\" href='../../files/A-1.0.tar.gz?x=1&amp;y=2#sha256=bb'>A-1.0.tar.gz</a>\n\
            <a href=A-1.0.zip>unquoted</a>";
        let page = "https://index.example/simple/a/";
        for (file, expect) in [
            (
                "A-1.0-py3-none-any.whl",
                Some("https://files.example/p/A-1.0-py3-none-any.whl"),
            ),
            (
                "A-1.0.tar.gz",
                Some("https://index.example/files/A-1.0.tar.gz?x=1&y=2"),
            ),
            ("1.0.tar.gz", None),
            ("A-1.0.zip", None),
        ] {
            assert_eq!(link_to(html, page, file).as_deref(), expect, "{file}");
        }
    }

    #[test]
    fn names_are_normalised_as_indexes_do() {
        for (name, expect) in [
            ("vaderSentiment", "vadersentiment"),
            ("A_b..C-d", "a-b-c-d"),
        ] {
            assert_eq!(normalised(name), expect);
        }
    }

    #[test]
    fn the_help_names_the_default() {
        let help = "  -i, --index-url <url>   Base URL of the Python Package Index (default\n              \
            https://index.example/simple). This should point to";
        assert_eq!(
            default_index(help).as_deref(),
            Some("https://index.example/simple")
        );
        assert_eq!(default_index("--index-url <url>"), None);
    }
}
