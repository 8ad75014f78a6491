//! Child processes: which cargo, from where, and how a command line is shown.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

/// The workspace's root directory.
pub fn root() -> PathBuf {
    let xtask = std::env::var_os("CARGO_MANIFEST_DIR")
        .map_or_else(|| env!("CARGO_MANIFEST_DIR").into(), PathBuf::from);
    xtask.parent().map(Path::to_owned).unwrap_or(xtask)
}

/// The cargo that runs this task, so that a toolchain chosen with `cargo +NAME` stays chosen.
pub fn cargo() -> Command {
    Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
}

/// Builds packages in release, the CLI among them, and returns where the program `rekindle` is.
pub fn build(packages: &[&str], more: &[&str]) -> Result<PathBuf> {
    build_program("rekindle", packages, more)
}

/// Builds packages in release, cargo's progress shown as always, and returns where cargo says it put a program of theirs:
/// right with any `CARGO_TARGET_DIR`, `build.target-dir` or `build.target`.
pub fn build_program(name: &str, packages: &[&str], more: &[&str]) -> Result<PathBuf> {
    let mut build = cargo();
    build
        .args(["build", "--release"])
        .args(packages.iter().flat_map(|name| ["--package", name]))
        .args(more)
        .arg("--message-format=json-render-diagnostics")
        .arg("--manifest-path")
        .arg(root().join("Cargo.toml"))
        .stdout(Stdio::piped());
    let mut child = build.spawn().context("cannot start cargo")?;
    let messages = child.stdout.take().context("cargo's output is not piped")?;
    let mut program = None;
    for line in BufReader::new(messages).lines() {
        program = executable(&line.context("cannot read what cargo says")?, name).or(program);
    }
    if !child.wait().context("cannot wait for cargo")?.success() {
        bail!("building `{name}` failed; the compiler's messages are above");
    }
    program.with_context(|| {
        format!(
            "cargo built {} but named no program `{name}`",
            packages.join(", ")
        )
    })
}

/// The path of the program, if this message of cargo's is about it.
fn executable(message: &str, name: &str) -> Option<PathBuf> {
    let message: serde_json::Value = serde_json::from_str(message).ok()?;
    let target = &message["target"];
    let ours = message["reason"] == "compiler-artifact"
        && target["name"] == name
        && target["kind"][0] == "bin";
    ours.then(|| message["executable"].as_str().map(PathBuf::from))?
}

/// The command as one would type it, with its environment variables before it.
pub fn shown(command: &Command) -> String {
    let variables = command.get_envs().filter_map(|(name, value)| {
        let value = value?.to_string_lossy();
        Some(format!("{}={}", name.to_string_lossy(), quoted(&value)))
    });
    let program = Path::new(command.get_program())
        .file_stem()
        .unwrap_or_default();
    let program = std::iter::once(program.to_string_lossy().into_owned());
    let args = command.get_args().map(|arg| quoted(&arg.to_string_lossy()));
    variables
        .chain(program)
        .chain(args)
        .collect::<Vec<_>>()
        .join(" ")
}

fn quoted(word: &str) -> String {
    if word.is_empty() || word.contains(char::is_whitespace) {
        format!("\"{word}\"")
    } else {
        word.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_shown_as_typed() {
        let mut command = Command::new("/opt/bin/cargo");
        command
            .args(["doc", "--no-deps"])
            .env("RUSTDOCFLAGS", "-D warnings")
            .env_remove("UNSET");
        assert_eq!(
            shown(&command),
            "RUSTDOCFLAGS=\"-D warnings\" cargo doc --no-deps"
        );
    }

    #[test]
    fn the_root_holds_the_workspace() {
        assert!(root().join("Cargo.lock").is_file());
    }

    #[test]
    fn the_program_is_the_one_cargo_names() {
        let artifact = r#"{"reason":"compiler-artifact","target":{"kind":["bin"],"name":"rekindle"},"executable":"/t/rekindle"}"#;
        let library = r#"{"reason":"compiler-artifact","target":{"kind":["lib"],"name":"rekindle"},"executable":null}"#;
        assert_eq!(executable(artifact, "rekindle"), Some("/t/rekindle".into()));
        assert_eq!(executable(artifact, "rekindle-tools"), None);
        for other in [
            library,
            r#"{"reason":"build-finished","success":true}"#,
            "not JSON",
            "",
        ] {
            assert_eq!(executable(other, "rekindle"), None, "{other}");
        }
    }
}
