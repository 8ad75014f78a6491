//! Builds `rekindle` in release with the chosen backend, and becomes it.

use std::ffi::OsString;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context, Result, bail};

use crate::args::{Backend, Run};
use crate::proc::{cargo, root};

/// Builds, then hands over: arguments, working directory, standard streams, signals and exit status are `rekindle`'s.
pub fn run(run: &Run) -> Result<ExitCode> {
    let program = build(run.backend)?;
    hand_over(&program, &run.args)
}

/// Builds the CLI, cargo's progress shown as always, and returns where cargo says it put the program: right with any
/// `CARGO_TARGET_DIR`, `build.target-dir` or `build.target`.
fn build(backend: Backend) -> Result<PathBuf> {
    let mut build = cargo();
    build
        .args([
            "build",
            "--release",
            "--package",
            "rekindle-cli",
            "--no-default-features",
            "--features",
        ])
        .arg(backend.features())
        .arg("--message-format=json-render-diagnostics")
        .arg("--manifest-path")
        .arg(root().join("Cargo.toml"))
        .stdout(Stdio::piped());
    let mut child = build.spawn().context("cannot start cargo")?;
    let messages = child.stdout.take().context("cargo's output is not piped")?;
    let mut program = None;
    for line in BufReader::new(messages).lines() {
        program = executable(&line.context("cannot read what cargo says")?).or(program);
    }
    if !child.wait().context("cannot wait for cargo")?.success() {
        bail!("building `rekindle` failed; the compiler's messages are above");
    }
    program.context("cargo built the package `rekindle-cli` but named no program `rekindle`")
}

/// The path of the program `rekindle`, if this message of cargo's is about it.
fn executable(message: &str) -> Option<PathBuf> {
    let message: serde_json::Value = serde_json::from_str(message).ok()?;
    let target = &message["target"];
    let ours = message["reason"] == "compiler-artifact"
        && target["name"] == "rekindle"
        && target["kind"][0] == "bin";
    ours.then(|| message["executable"].as_str().map(PathBuf::from))?
}

/// Replaces this process, so that Ctrl-C and every other signal reach `rekindle` itself.
#[cfg(unix)]
fn hand_over(program: &Path, args: &[OsString]) -> Result<ExitCode> {
    use std::os::unix::process::CommandExt;

    let error = Command::new(program).args(args).exec();
    Err(error).with_context(|| format!("cannot start {}", program.display()))
}

/// Runs the program and passes its exit status on. A console sends Ctrl-C to every process in it, the child included.
#[cfg(not(unix))]
fn hand_over(program: &Path, args: &[OsString]) -> Result<ExitCode> {
    let status = Command::new(program).args(args).status();
    let status = status.with_context(|| format!("cannot start {}", program.display()))?;
    Ok(status
        .code()
        .and_then(|code| u8::try_from(code).ok())
        .map_or(ExitCode::FAILURE, ExitCode::from))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_program_is_the_one_cargo_names() {
        let artifact = r#"{"reason":"compiler-artifact","target":{"kind":["bin"],"name":"rekindle"},"executable":"/t/rekindle"}"#;
        let library = r#"{"reason":"compiler-artifact","target":{"kind":["lib"],"name":"rekindle"},"executable":null}"#;
        assert_eq!(executable(artifact), Some("/t/rekindle".into()));
        for other in [
            library,
            r#"{"reason":"build-finished","success":true}"#,
            "not JSON",
            "",
        ] {
            assert_eq!(executable(other), None, "{other}");
        }
    }
}
