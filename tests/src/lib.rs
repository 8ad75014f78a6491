//! What a test needs that a machine may lack, and the one way in which a test says that it could not run.
//!
//! Such a test is `#[ignore = "needs ..."]`, so that plain `cargo test` reports it as ignored. `cargo xtask test` asks for
//! the ignored tests too; one whose need is not met calls [`need`] and returns, and is counted as skipped, never as passed.
//! The variable `REKINDLE_REQUIRE`, a list such as `minilm,efficientnet-lite0`, makes a need that is not met a failure.

use std::fmt::Display;
use std::path::{Path, PathBuf};

/// Begins the line by which `cargo xtask test` knows a test that could not run.
const SKIPPED: &str = "skipped: ";

/// Something that a test needs and a machine may lack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// all-MiniLM-L6-v2 in the cache.
    MiniLm,
    /// EfficientNet-Lite0 in the cache.
    EfficientNetLite0,
    /// SmolLM2-135M-Instruct in the cache.
    SmolLm2,
    /// Files of the directory `shared` beside the repository.
    Shared,
    /// Python with pip and a package index.
    Python,
    /// Python with the libraries that read what we write.
    Libraries,
    /// A graphics adapter, which may be a software one.
    Wgpu,
    /// An NVIDIA GPU with its driver.
    Cuda,
    /// MPI, which starts several processes.
    Mpi,
    /// Network namespaces, which play several machines.
    Namespaces,
    /// Instructions that only some CPUs have.
    Cpu,
}

impl Need {
    const ALL: [Self; 11] = [
        Self::MiniLm,
        Self::EfficientNetLite0,
        Self::SmolLm2,
        Self::Shared,
        Self::Python,
        Self::Libraries,
        Self::Wgpu,
        Self::Cuda,
        Self::Mpi,
        Self::Namespaces,
        Self::Cpu,
    ];

    /// The name in `REKINDLE_REQUIRE`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::MiniLm => "minilm",
            Self::EfficientNetLite0 => "efficientnet-lite0",
            Self::SmolLm2 => "smollm2",
            Self::Shared => "shared",
            Self::Python => "python",
            Self::Libraries => "libraries",
            Self::Wgpu => "wgpu",
            Self::Cuda => "cuda",
            Self::Mpi => "mpi",
            Self::Namespaces => "namespaces",
            Self::Cpu => "cpu",
        }
    }

    /// How to meet the need.
    fn remedy(self) -> &'static str {
        match self {
            Self::MiniLm => "cargo xtask run fetch minilm",
            Self::EfficientNetLite0 => "cargo xtask run fetch efficientnet-lite0",
            Self::SmolLm2 => "cargo xtask run fetch smollm2",
            Self::Shared => "put the directory `shared` beside the repository",
            Self::Python => "set REKINDLE_TEST_PIP=1 where pip reaches a package index",
            Self::Libraries => {
                "set REKINDLE_TEST_PYTHON to a Python that has huggingface_hub, peft, pillow, tensorboard, timm, torch and transformers"
            }
            Self::Wgpu => "set REKINDLE_TEST_WGPU=1 where there is a Vulkan driver",
            Self::Cuda => "set REKINDLE_TEST_CUDA=1 where there is an NVIDIA GPU",
            Self::Mpi => "apt-get install libopenmpi-dev openmpi-bin libclang-dev",
            Self::Namespaces => {
                "run as root, with the package iproute2, where `ip netns add` is allowed"
            }
            Self::Cpu => "run on another CPU",
        }
    }
}

/// What was found, or `None` after a line that marks the calling test as skipped; the test then returns.
///
/// # Panics
/// If nothing was found and `REKINDLE_REQUIRE` names the need, or if it names something unknown.
pub fn need<T, E: Display>(need: Need, found: Result<T, E>) -> Option<T> {
    let required = std::env::var("REKINDLE_REQUIRE").unwrap_or_default();
    match outcome(need, found, &required) {
        Ok(found) => Some(found),
        Err(line) => {
            println!("{line}");
            None
        }
    }
}

/// A path below the directory `shared` beside the repository, or `None` as [`need`].
///
/// # Panics
/// As [`need`].
pub fn shared(path: &str) -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../shared")
        .join(path);
    let missing = format!("{} is not there", path.display());
    need(Need::Shared, path.exists().then_some(path).ok_or(missing))
}

/// A variable by which one asks for tests that are run only on request: whether it is 1.
///
/// # Errors
/// Says that it is not set.
pub fn asked_for(variable: &str) -> Result<(), String> {
    match std::env::var_os(variable) {
        Some(value) if value == "1" => Ok(()),
        _ => Err(format!("{variable} is not 1")),
    }
}

/// What was found, or the line that says why not.
fn outcome<T, E: Display>(need: Need, found: Result<T, E>, required: &str) -> Result<T, String> {
    let required: Vec<&str> = required
        .split(',')
        .map(str::trim)
        .filter(|name| !name.is_empty())
        .collect();
    for name in &required {
        assert!(
            Need::ALL.iter().any(|need| need.name() == *name),
            "REKINDLE_REQUIRE names `{name}`\nhint: it may name {}",
            Need::ALL.map(Need::name).join(", ")
        );
    }
    found.map_err(|reason| {
        let (name, remedy) = (need.name(), need.remedy());
        assert!(
            !required.contains(&name),
            "REKINDLE_REQUIRE names {name}, which is missing: {reason}\nhint: {remedy}"
        );
        // One line, whatever the error.
        let reason = reason.to_string().replace('\n', "; ");
        format!("{SKIPPED}needs {name} ({remedy}): {reason}")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const MISSING: Result<(), &str> = Err("not in the cache\nhint: fetch it");

    #[test]
    fn what_is_missing_is_one_line() {
        assert_eq!(
            outcome(Need::MiniLm, MISSING, "python, wgpu,"),
            Err("skipped: needs minilm (cargo xtask run fetch minilm): not in the cache; hint: fetch it".to_owned())
        );
        assert_eq!(outcome(Need::MiniLm, Ok::<_, &str>(3), ""), Ok(3));
        assert_eq!(outcome(Need::MiniLm, Ok::<_, &str>(3), "minilm"), Ok(3));
    }

    #[test]
    #[should_panic(expected = "REKINDLE_REQUIRE names minilm, which is missing: not in the cache")]
    fn what_is_required_and_missing_fails() {
        let _ = outcome(Need::MiniLm, MISSING, "efficientnet-lite0, minilm");
    }

    #[test]
    #[should_panic(expected = "REKINDLE_REQUIRE names `mini-lm`\nhint: it may name minilm,")]
    fn an_unknown_requirement_fails() {
        let _ = outcome(Need::Wgpu, Ok::<_, &str>(()), "mini-lm");
    }
}
