//! Datasets that the crate `tools/` makes: on request, and before a verb of `rekindle` that is told to use one.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context, Result, bail};

use crate::proc::{build_program, root};

/// Beside the card of a dataset that a tool makes.
const BUILD: &str = "build.toml";

/// Makes a dataset, unless it is there, and prints its directories.
pub fn run(name: &str) -> Result<ExitCode> {
    let made = made_by_tools(&root());
    if !made.iter().any(|known| known == name) {
        bail!(
            "no tool makes a dataset `{name}`; expected one of {}\nhint: `cargo xtask run fetch --dataset {name}` fetches other datasets",
            made.join(", ")
        );
    }
    make(name, Stdio::inherit())?;
    Ok(ExitCode::SUCCESS)
}

/// Makes what the arguments of `rekindle`, or a run file among them, name.
pub fn make_named_in(args: &[OsString]) -> Result<()> {
    for name in made_by_tools(&root()) {
        if is_named(&name, args) {
            // Standard output is the verb's.
            make(&name, Stdio::null())?;
        }
    }
    Ok(())
}

fn make(name: &str, stdout: Stdio) -> Result<()> {
    let program = build_program("rekindle-tools", &["rekindle-tools"], &[])?;
    let status = Command::new(&program)
        .arg("dataset")
        .arg(folder(&root()).join(name))
        .stdout(stdout)
        .status()
        .with_context(|| format!("cannot start {}", program.display()))?;
    if !status.success() {
        bail!("the dataset `{name}` could not be made; the reason is above");
    }
    Ok(())
}

fn folder(root: &Path) -> PathBuf {
    root.join("datasets")
}

/// Names of the folders in `datasets/` that have a `build.toml`, sorted.
fn made_by_tools(root: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder(root)).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries
        .filter(|entry| entry.path().join(BUILD).is_file())
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect();
    names.sort();
    names
}

/// Whether an argument is the name or sets something to it, or names a run file with `dataset = "NAME"`.
fn is_named(name: &str, args: &[OsString]) -> bool {
    args.iter().filter_map(|arg| arg.to_str()).any(|arg| {
        let value = arg.rsplit_once('=').map_or(arg, |(_, value)| value);
        if value.trim_matches(['"', '\'']) == name {
            return true;
        }
        let is_run_file = Path::new(value).extension().is_some_and(|it| it == "toml");
        is_run_file
            && fs::read_to_string(value).is_ok_and(|text| text.lines().any(|line| sets(line, name)))
    })
}

/// Whether a line of a run file is `dataset = "NAME"`.
fn sets(line: &str, name: &str) -> bool {
    let Some((key, value)) = line.split_once('=') else {
        return false;
    };
    let value = value.split('#').next().unwrap_or_default().trim();
    key.trim().ends_with("dataset") && value.trim_matches(['"', '\'']) == name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tools_datasets_are_those_with_a_build_file() {
        assert_eq!(made_by_tools(&root()), ["icons"]);
    }

    #[test]
    fn a_dataset_is_named_by_an_argument_or_a_run_file() {
        let config = |file: &str| root().join("configs").join(file).display().to_string();
        let cases = [
            (vec!["finetune", "--dataset", "icons"], true),
            (vec!["finetune", "--dataset=icons"], true),
            (vec!["finetune", "--set", "data.dataset=\"icons\""], true),
            (vec!["finetune", "--config", "no-such-file.toml"], false),
            (vec!["finetune", "--name", "icons-2"], false),
            (vec!["finetune"], false),
        ];
        for (args, expect) in cases {
            let args: Vec<OsString> = args.into_iter().map(OsString::from).collect();
            assert_eq!(is_named("icons", &args), expect, "{args:?}");
        }
        for (file, expect) in [("vision.toml", true), ("intents-lora.toml", false)] {
            for args in [
                vec!["--config".to_owned(), config(file)],
                vec![format!("--config={}", config(file))],
            ] {
                let args: Vec<OsString> = args.into_iter().map(OsString::from).collect();
                assert_eq!(is_named("icons", &args), expect, "{args:?}");
            }
        }
    }

    #[test]
    fn a_line_of_a_run_file_is_read_with_its_comment() {
        for (line, expect) in [
            ("dataset = \"icons\"  # drawn", true),
            ("data.dataset = 'icons'", true),
            ("# dataset icons", false),
            ("name = \"icons\"", false),
            ("dataset = \"icons2\"", false),
        ] {
            assert_eq!(sets(line, "icons"), expect, "{line}");
        }
    }
}
