//! What `--version` says.

use std::sync::LazyLock;

/// The version with the commit that the program was built of, as far as that is known.
pub fn short() -> &'static str {
    static SHORT: LazyLock<String> = LazyLock::new(make_short);
    &SHORT
}

/// The same, then what was built in and which instructions of this machine's CPU are used.
pub fn long() -> &'static str {
    static LONG: LazyLock<String> = LazyLock::new(make_long);
    &LONG
}

fn make_short() -> String {
    let version = env!("CARGO_PKG_VERSION");
    match (
        option_env!("REKINDLE_COMMIT"),
        option_env!("REKINDLE_COMMIT_DATE"),
    ) {
        (Some(commit), Some(date)) => format!("{version} (commit {commit}, {date})"),
        (Some(commit), None) => format!("{version} (commit {commit})"),
        _ => version.to_owned(),
    }
}

fn make_long() -> String {
    let row = |name: &str, value: String| format!("\n{name:<12}{value}");
    let kernels = match rekindle::cpu_kernels() {
        kernels if kernels.is_empty() => "none of its own".to_owned(),
        kernels => kernels.join(", "),
    };
    [
        short().to_owned(),
        row("backends", rekindle::compiled_devices().join(", ")),
        row("CPU", format!("{}, {kernels}", std::env::consts::ARCH)),
        row("system", std::env::consts::OS.to_owned()),
    ]
    .concat()
}
