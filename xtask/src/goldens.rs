//! Makes the golden fixtures anew: runs every `make.py` under `tests/golden` and `crates/*/tests/golden`.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, anyhow, bail};

use crate::checks::seconds;
use crate::proc::root;

/// Runs the scripts in the order of their paths with `python`, stops at the first that fails, and lists what changed.
pub fn run(python: &Path) -> Result<()> {
    let root = root();
    let scripts = scripts(&root)?;
    if scripts.is_empty() {
        bail!("no golden script found under {}", root.display());
    }
    for script in &scripts {
        println!("==> {} {}", python.display(), script.display());
        let start = Instant::now();
        let status = Command::new(python)
            .arg(script)
            .current_dir(&root)
            .status()
            .map_err(|error| {
                let python = python.display();
                anyhow!("cannot start `{python}`: {error}\nhint: name a Python with --python")
            })?;
        if !status.success() {
            bail!(
                "{} failed\nhint: the head of the script names the packages and versions it needs; \
                 --python chooses the Python that has them",
                script.display()
            );
        }
        println!("    done in {}", seconds(start.elapsed()));
    }
    println!(
        "{} scripts done; changed fixtures (git status):",
        scripts.len()
    );
    let mut status = Command::new("git");
    status
        .args(["status", "--short", "--"])
        .args(scripts.iter().filter_map(|script| script.parent()));
    if !status
        .current_dir(&root)
        .status()
        .is_ok_and(|status| status.success())
    {
        println!("    unknown: git could not be asked");
    }
    Ok(())
}

/// Every script, relative to `root`.
fn scripts(root: &Path) -> Result<Vec<PathBuf>> {
    let mut folders = vec![PathBuf::from("tests/golden")];
    folders.extend(
        entries(root, Path::new("crates"))?
            .into_iter()
            .map(|krate| krate.join("tests/golden")),
    );
    let mut scripts = Vec::new();
    for folder in folders.iter().filter(|folder| root.join(folder).is_dir()) {
        for place in entries(root, folder)?.into_iter().chain([folder.clone()]) {
            let script = place.join("make.py");
            if root.join(&script).is_file() {
                scripts.push(script);
            }
        }
    }
    scripts.sort();
    Ok(scripts)
}

fn entries(root: &Path, folder: &Path) -> Result<Vec<PathBuf>> {
    let read = || {
        std::fs::read_dir(root.join(folder))?
            .map(|entry| Ok(folder.join(entry?.file_name())))
            .collect()
    };
    let listed: std::io::Result<Vec<PathBuf>> = read();
    listed.with_context(|| format!("cannot list {}", root.join(folder).display()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn scripts_are_found_in_both_places() {
        let found = scripts(&root()).unwrap();
        for script in [
            "crates/metrics/tests/golden/make.py",
            "tests/golden/minilm_tokens/make.py",
        ] {
            assert!(
                found.contains(&script.into()),
                "{script} is not among {found:?}"
            );
        }
    }
}
