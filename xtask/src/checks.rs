//! `cargo xtask test`: the checks of a contribution, one after the other, with their times; the first failure ends it.

use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::args::{Test, Which};
use crate::goldens;
use crate::proc::{cargo, root, shown};

/// Every step, in order.
pub const STEPS: [&str; 7] = [
    "fmt",
    "clippy",
    "test",
    "doc",
    "deny",
    "check-wgpu",
    "check-cuda",
];
/// What `--quick` keeps.
const QUICK: [&str; 3] = ["fmt", "clippy", "test"];
/// The test that trains on wgpu and on the CPU and compares.
const WGPU_TEST: &str = "wgpu_matches_cpu";

/// How a step ended.
enum Outcome {
    Passed,
    /// Done, but part of it could not be run, and why.
    Incomplete(String),
    Skipped(String),
    /// What to do about it.
    Failed(String),
}

/// A step's name, how it ended and how long it took.
struct Report {
    step: String,
    outcome: Outcome,
    time: Duration,
}

/// Runs the chosen checks. The last line counts tests, `N passed, N failed`, if any were run.
pub fn run(test: &Test) -> Result<ExitCode> {
    if let Some(python) = &test.goldens {
        goldens::run(python)?;
    }
    let mut counts = None;
    let mut reports: Vec<Report> = Vec::new();
    let plan = plan(&test.which);
    let steps = plan.len();
    for step in plan {
        println!("\n==> {step}");
        let start = Instant::now();
        let outcome = run_step(&step, &mut counts)?;
        let report = Report {
            step,
            outcome,
            time: start.elapsed(),
        };
        println!("{}", line(&report));
        let failed = matches!(report.outcome, Outcome::Failed(_));
        reports.push(report);
        if failed {
            break;
        }
    }
    println!("\nSummary");
    reports
        .iter()
        .for_each(|report| println!("{}", line(report)));
    let failed = reports.iter().find_map(|report| match &report.outcome {
        Outcome::Failed(hint) => Some((&report.step, hint)),
        _ => None,
    });
    if let Some((step, hint)) = failed {
        let left = steps - reports.len();
        let left = if left > 0 {
            format!("; steps not run: {left}")
        } else {
            String::new()
        };
        println!("\n{step} failed{left}\nhint: {hint}");
    }
    if let Some(Counts { passed, failed, .. }) = counts {
        println!("{passed} passed, {failed} failed");
    }
    Ok(if failed.is_some() {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}

/// The steps to run, in the order of [`STEPS`].
fn plan(which: &Which) -> Vec<String> {
    let chosen = |step: &&str| match which {
        Which::All => true,
        Which::Quick => QUICK.contains(step),
        Which::Only(steps) => steps.iter().any(|name| name == step),
        Which::Wgpu => false,
    };
    if *which == Which::Wgpu {
        return vec![WGPU_TEST.to_owned()];
    }
    STEPS
        .iter()
        .filter(|step| chosen(step))
        .map(|step| (*step).to_owned())
        .collect()
}

fn run_step(step: &str, counts: &mut Option<Counts>) -> Result<Outcome> {
    let again = format!("then `cargo xtask test --only {step}`");
    match step {
        "fmt" => simple(cargo_with("fmt --all --check"), "run `cargo fmt --all`"),
        "clippy" => simple(
            cargo_with("clippy --workspace --all-targets -- -D warnings"),
            &format!("mend the warnings above, {again}"),
        ),
        "test" => {
            let mut command = cargo_with("test --workspace --no-fail-fast");
            let hint = format!("mend the tests named under `failures:` above, {again}");
            test(&mut command, &hint, counts)
        }
        "doc" => {
            let mut command = cargo_with("doc --workspace --no-deps");
            command.env("RUSTDOCFLAGS", "-D warnings");
            simple(
                command,
                &format!("mend the documentation's warnings above, {again}"),
            )
        }
        "deny" => deny(),
        "check-wgpu" => simple(
            cargo_with(
                "check --package rekindle-cli --package rekindle-tests --tests --no-default-features --features cpu,wgpu",
            ),
            &format!("the code must compile with wgpu compiled in; mend the errors above, {again}"),
        ),
        "check-cuda" => simple(
            cargo_with("check --package rekindle-cli --no-default-features --features cuda"),
            &format!("the code must compile with cuda alone; mend the errors above, {again}"),
        ),
        _ => wgpu(counts),
    }
}

fn cargo_with(args: &str) -> Command {
    let mut command = cargo();
    command.args(args.split(' ')).current_dir(root());
    command
}

/// A command that passes if it exits with 0.
fn simple(mut command: Command, hint: &str) -> Result<Outcome> {
    println!("    {}", shown(&command));
    let status = command
        .status()
        .with_context(|| format!("cannot start `{}`", shown(&command)))?;
    Ok(if status.success() {
        Outcome::Passed
    } else {
        Outcome::Failed(hint.to_owned())
    })
}

/// Tests on wgpu what needs an adapter, which a machine that runs the other checks need not have.
fn wgpu(counts: &mut Option<Counts>) -> Result<Outcome> {
    let mut command = cargo_with("test --package rekindle-tests --features wgpu");
    command.arg(WGPU_TEST).env("REKINDLE_TEST_WGPU", "1");
    if std::env::var_os("XDG_RUNTIME_DIR").is_none_or(|dir| !PathBuf::from(dir).is_dir()) {
        // Mesa's drivers expect a folder there.
        command.env("XDG_RUNTIME_DIR", std::env::temp_dir());
    }
    let hint = "it needs a Vulkan driver; a software one will do (Debian and Ubuntu: apt-get install mesa-vulkan-drivers)";
    let outcome = test(&mut command, hint, counts)?;
    let ran = counts.as_ref().is_some_and(|counts| counts.passed > 0);
    Ok(match outcome {
        Outcome::Passed if !ran => Outcome::Failed(format!(
            "no test named {WGPU_TEST} was run; look for it in tests/it"
        )),
        outcome => outcome,
    })
}

/// Licences, bans and sources from what is on this machine; advisories if their database can be had.
fn deny() -> Result<Outcome> {
    let installed = cargo_with("deny --version")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    if !installed.is_ok_and(|status| status.success()) {
        return Ok(Outcome::Skipped(
            "cargo-deny is not installed: cargo install --locked cargo-deny".into(),
        ));
    }
    let hint =
        "see `cargo deny list` for who brings a crate in; what is allowed stands in deny.toml";
    match simple(
        cargo_with("deny --all-features check licenses bans sources"),
        hint,
    )? {
        Outcome::Passed => {}
        outcome => return Ok(outcome),
    }
    let mut fetch = cargo_with("deny fetch db");
    println!("    {}", shown(&fetch));
    if !fetch.status().is_ok_and(|status| status.success()) {
        return Ok(Outcome::Incomplete(
            "advisories skipped: their database cannot be had".into(),
        ));
    }
    let advisories = cargo_with("deny --all-features check --disable-fetch advisories");
    simple(
        advisories,
        "update the crate (`cargo update --package NAME`), or give a reason to ignore it in deny.toml",
    )
}

/// Runs `cargo test`, showing and counting what the test programs say.
fn test(command: &mut Command, hint: &str, counts: &mut Option<Counts>) -> Result<Outcome> {
    println!("    {}", shown(command));
    let mut child = command
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot start cargo test")?;
    let output = child
        .stdout
        .take()
        .context("the output of cargo test is not piped")?;
    let mut total = Counts::default();
    let mut shown = std::io::stdout().lock();
    // Bytes, not lines of text: a test may print anything.
    for line in BufReader::new(output).split(b'\n') {
        let line = line.context("cannot read the output of cargo test")?;
        shown.write_all(&line)?;
        shown.write_all(b"\n")?;
        total.add(&String::from_utf8_lossy(&line));
    }
    let success = child
        .wait()
        .context("cannot wait for cargo test")?
        .success();
    if !success && total.failed == 0 {
        // The build failed, or a test program died before it could count.
        total.failed = 1;
    }
    writeln!(
        shown,
        "    {} tests passed, {} failed, {} ignored",
        total.passed, total.failed, total.ignored
    )?;
    *counts = Some(total);
    Ok(if success {
        Outcome::Passed
    } else {
        Outcome::Failed(hint.to_owned())
    })
}

/// Sums over the `test result:` lines of all test programs.
#[derive(Debug, Default, PartialEq)]
struct Counts {
    passed: u64,
    failed: u64,
    ignored: u64,
}

impl Counts {
    /// Adds what a line such as `test result: ok. 5 passed; 0 failed; 1 ignored; 0 measured; ...` says.
    fn add(&mut self, line: &str) {
        let Some((_, figures)) = line
            .strip_prefix("test result: ")
            .and_then(|rest| rest.split_once(". "))
        else {
            return;
        };
        for figure in figures.split("; ") {
            match figure
                .split_once(' ')
                .map(|(number, name)| (number.parse::<u64>(), name))
            {
                Some((Ok(number), "passed")) => self.passed += number,
                Some((Ok(number), "failed")) => self.failed += number,
                Some((Ok(number), "ignored")) => self.ignored += number,
                _ => {}
            }
        }
    }
}

fn line(report: &Report) -> String {
    let Report {
        step,
        outcome,
        time,
    } = report;
    let (word, why) = match outcome {
        Outcome::Passed => ("ok", ""),
        Outcome::Incomplete(why) => ("ok", why.as_str()),
        Outcome::Skipped(why) => ("skipped", why.as_str()),
        Outcome::Failed(_) => ("FAILED", ""),
    };
    format!("    {step:<16} {word:<7} {:>12}  {why}", seconds(*time))
        .trim_end()
        .to_owned()
}

/// A time for people: `8.4 s`, `3 min 05 s`.
pub fn seconds(time: Duration) -> String {
    if time < Duration::from_secs(60) {
        return format!("{:.1} s", time.as_secs_f64());
    }
    format!("{} min {:02} s", time.as_secs() / 60, time.as_secs() % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_run_in_order_whatever_was_asked_first() {
        let cases = [
            (Which::All, STEPS.to_vec()),
            (Which::Quick, vec!["fmt", "clippy", "test"]),
            (
                Which::Only(vec!["deny".into(), "fmt".into()]),
                vec!["fmt", "deny"],
            ),
            (Which::Wgpu, vec![WGPU_TEST]),
        ];
        for (which, steps) in cases {
            assert_eq!(plan(&which), steps, "{which:?}");
        }
    }

    #[test]
    fn results_of_all_test_programs_are_summed() {
        let output = "running 6 tests\ntest a ... ok\n\
            test result: ok. 5 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.01s\n\
            test result: FAILED. 10 passed; 2 failed; 0 ignored; 0 measured; 3 filtered out; finished in 1.25s\n\
            a line of a test: 7 passed; 7 failed\n";
        let mut counts = Counts::default();
        output.lines().for_each(|line| counts.add(line));
        assert_eq!(
            counts,
            Counts {
                passed: 15,
                failed: 2,
                ignored: 1
            }
        );
    }

    #[test]
    fn times_are_for_people() {
        let cases = [
            (0.04, "0.0 s"),
            (8.44, "8.4 s"),
            (59.9, "59.9 s"),
            (60.0, "1 min 00 s"),
            (185.7, "3 min 05 s"),
        ];
        for (time, text) in cases {
            assert_eq!(seconds(Duration::from_secs_f64(time)), text);
        }
    }

    #[test]
    fn a_line_says_what_was_left_out() {
        let outcome = Outcome::Skipped("not installed".into());
        let report = Report {
            step: "deny".into(),
            outcome,
            time: Duration::ZERO,
        };
        assert_eq!(
            line(&report),
            "    deny             skipped        0.0 s  not installed"
        );
    }
}
