//! `cargo xtask test`: the checks of a contribution, one after the other, with their times; the first failure ends it.

use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::args::{Backend, Test, Which};
use crate::goldens;
use crate::proc::{cargo, root, shown};

/// Every step, in order.
pub const STEPS: [&str; 8] = [
    "fmt",
    "clippy",
    "test",
    "doc",
    "deny",
    "mpi",
    "check-wgpu",
    "check-cuda",
];
/// What `--quick` keeps.
const QUICK: [&str; 3] = ["fmt", "clippy", "test"];
/// How the names of all tests of a GPU begin, and that of the step that runs them.
const GPU_TESTS: &str = "gpu_";
const GPU_STEP: [(&str, Backend); 2] = [
    ("backend-wgpu", Backend::Wgpu),
    ("backend-cuda", Backend::Cuda),
];

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

/// Begins the line by which a test says that it could not run; `tests/src/lib.rs` writes it.
const SKIPPED: &str = "skipped: ";

/// Runs the chosen checks. The last line counts tests, `N passed, N failed, N skipped`, if any were run.
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
    if let Some(counts) = counts {
        println!("{counts}");
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
        Which::Backend(_) => false,
    };
    if let Which::Backend(backend) = which {
        let steps = GPU_STEP.iter().filter(|(_, of)| of == backend);
        return steps.map(|(name, _)| (*name).to_owned()).collect();
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
            let hint = format!("mend the tests named under `failures:` above, {again}");
            tests(&hint, counts)
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
        "mpi" => mpi(counts),
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
        _ => {
            let backend = GPU_STEP.iter().find(|(name, _)| *name == step);
            gpu(
                backend.map_or(Backend::Wgpu, |(_, backend)| *backend),
                counts,
            )
        }
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

/// The suite of a backend that needs an adapter, which a machine that runs the other checks need not have: every operation, a step of
/// every family, what a step costs.
fn gpu(backend: Backend, counts: &mut Option<Counts>) -> Result<Outcome> {
    let name = backend.device().unwrap_or_default();
    let mut command = cargo_with(&format!(
        "test --package rekindle-tests --package rekindle-nn --features rekindle-tests/{name},rekindle-nn/{name} --tests --no-fail-fast",
    ));
    command
        .args([GPU_TESTS, "--", "--ignored", "--show-output"])
        .env(format!("REKINDLE_TEST_{}", name.to_uppercase()), "1");
    if std::env::var_os("XDG_RUNTIME_DIR").is_none_or(|dir| !PathBuf::from(dir).is_dir()) {
        // Mesa's drivers expect a folder there.
        command.env("XDG_RUNTIME_DIR", std::env::temp_dir());
    }
    let hint = match backend {
        Backend::Cuda => {
            "it needs an NVIDIA GPU, its driver and the CUDA toolkit's headers (docs/gpu.md)"
        }
        _ => {
            "it needs a Vulkan driver; a software one will do (Debian and Ubuntu: apt-get install mesa-vulkan-drivers)"
        }
    };
    let (success, found) = run_tests(&mut command)?;
    let outcome = match found.passed {
        0 if success => Outcome::Failed(format!(
            "no test whose name has {GPU_TESTS} was run; look for them in tests/it"
        )),
        _ => found.outcome(success, hint),
    };
    *counts = Some(found);
    Ok(outcome)
}

/// Several processes, where there is an MPI to build with and to start them. The packages are those of the step `test`, so that
/// little is built anew.
fn mpi(counts: &mut Option<Counts>) -> Result<Outcome> {
    let there = |program: &str| {
        let asked = Command::new(program)
            .arg("--version")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        asked.is_ok_and(|status| status.success())
    };
    let packages = "apt-get install libopenmpi-dev openmpi-bin libclang-dev";
    if !(there("mpirun") && there("mpicc")) {
        return Ok(Outcome::Skipped(format!("there is no MPI: {packages}")));
    }
    let mut command = cargo_with(
        "test --workspace --features rekindle-cli/mpi --test processes -- --show-output",
    );
    // Processes wait for each other: one test at a time.
    command
        .arg("--test-threads=1")
        .env("REKINDLE_REQUIRE", "mpi");
    let (success, found) = run_tests(&mut command)?;
    let hint = format!("mend the tests above; a build that fails may lack a package: {packages}");
    let outcome = found.outcome(success, &hint);
    match counts {
        Some(counts) => counts.add(found),
        None => *counts = Some(found),
    }
    Ok(outcome)
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

/// Runs the tests that need nothing, then those that are ignored because of what they need.
fn tests(hint: &str, counts: &mut Option<Counts>) -> Result<Outcome> {
    let mut plain = cargo_with("test --workspace --no-fail-fast -- --show-output");
    let (success, mut found) = run_tests(&mut plain)?;
    if found.programs == 0 {
        // The build failed, and would again.
        let outcome = found.outcome(success, hint);
        *counts = Some(found);
        return Ok(outcome);
    }
    println!("\n    The tests that were ignored because of what they need:");
    // Without the documentation's examples, of which `ignore` says that they are not to be run.
    let mut ignored =
        cargo_with("test --workspace --no-fail-fast --tests -- --ignored --show-output");
    let (ignored_success, more) = run_tests(&mut ignored)?;
    found.add(more);
    let outcome = found.outcome(success && ignored_success, hint);
    *counts = Some(found);
    Ok(outcome)
}

/// Runs a `cargo test ... -- --show-output`, showing what the test programs say but for the output of tests that passed,
/// and counting it. Also whether cargo ended well.
fn run_tests(command: &mut Command) -> Result<(bool, Counts)> {
    println!("    {}", shown(command));
    let mut child = command
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot start cargo test")?;
    let output = child
        .stdout
        .take()
        .context("the output of cargo test is not piped")?;
    let mut reader = Reader::default();
    let mut shown = std::io::stdout().lock();
    // Bytes, not lines of text: a test may print anything.
    for line in BufReader::new(output).split(b'\n') {
        let line = line.context("cannot read the output of cargo test")?;
        if reader.read(&String::from_utf8_lossy(&line)) {
            shown.write_all(&line)?;
            shown.write_all(b"\n")?;
        }
    }
    let success = child
        .wait()
        .context("cannot wait for cargo test")?
        .success();
    let mut counts = reader.counts;
    if !success && counts.failed == 0 {
        // The build failed, or a test program died before it could count.
        counts.failed = 1;
    }
    writeln!(shown, "    {counts}")?;
    for test in &counts.skipped {
        writeln!(shown, "    skipped {test}")?;
    }
    Ok((success, counts))
}

/// What the test programs said.
#[derive(Debug, Default, PartialEq)]
struct Counts {
    /// Programs that ran to their end.
    programs: u64,
    /// Tests that ran and passed.
    passed: u64,
    failed: u64,
    /// Tests that could not run, each with its reason.
    skipped: Vec<String>,
}

impl Counts {
    /// Adds what other programs said.
    fn add(&mut self, more: Self) {
        self.programs += more.programs;
        self.passed += more.passed;
        self.failed += more.failed;
        self.skipped.extend(more.skipped);
    }

    fn outcome(&self, success: bool, hint: &str) -> Outcome {
        match self.skipped.len() {
            _ if !success => Outcome::Failed(hint.to_owned()),
            0 => Outcome::Passed,
            1 => Outcome::Incomplete("1 test skipped, named above".to_owned()),
            skipped => Outcome::Incomplete(format!("{skipped} tests skipped, named above")),
        }
    }
}

impl std::fmt::Display for Counts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (passed, failed, skipped) = (self.passed, self.failed, self.skipped.len());
        write!(f, "{passed} passed, {failed} failed, {skipped} skipped")
    }
}

/// Reads the output of test programs run with `--show-output`, line by line.
#[derive(Debug, Default)]
struct Reader {
    counts: Counts,
    /// Within the output of the tests that passed.
    in_outputs: bool,
    /// The test whose output is being read, until it says that it was skipped.
    test: Option<String>,
    /// Skipped tests of this program, which it will count as passed.
    skipped_here: u64,
}

impl Reader {
    /// Counts what a line says; whether to show it.
    fn read(&mut self, line: &str) -> bool {
        if line == "successes:" {
            self.in_outputs = true;
            self.test = None;
        } else if line == "failures:" || line.starts_with("test result: ") {
            self.in_outputs = false;
        }
        if !self.in_outputs {
            self.count(line);
            return true;
        }
        let header = line.strip_prefix("---- ");
        if let Some(name) = header.and_then(|rest| rest.strip_suffix(" stdout ----")) {
            self.test = Some(name.to_owned());
        } else if let Some(reason) = line.strip_prefix(SKIPPED)
            && let Some(test) = self.test.take()
        {
            self.skipped_here += 1;
            self.counts.skipped.push(format!("{test}: {reason}"));
        }
        false
    }

    /// Adds what a line such as `test result: ok. 5 passed; 0 failed; 1 ignored; 0 measured; ...` says.
    fn count(&mut self, line: &str) {
        if line.starts_with("running ") {
            self.skipped_here = 0;
        }
        let Some((_, figures)) = line
            .strip_prefix("test result: ")
            .and_then(|rest| rest.split_once(". "))
        else {
            return;
        };
        self.counts.programs += 1;
        for figure in figures.split("; ") {
            match figure
                .split_once(' ')
                .map(|(number, name)| (number.parse::<u64>(), name))
            {
                Some((Ok(number), "passed")) => {
                    self.counts.passed += number.saturating_sub(self.skipped_here);
                }
                Some((Ok(number), "failed")) => self.counts.failed += number,
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
            (Which::Backend(Backend::Wgpu), vec!["backend-wgpu"]),
            (Which::Backend(Backend::Cuda), vec!["backend-cuda"]),
        ];
        for (which, steps) in cases {
            assert_eq!(plan(&which), steps, "{which:?}");
        }
    }

    /// Two programs as they print with `--show-output`: one passes, of the other a test fails.
    const OUTPUT: &str = "
running 4 tests
test a::golden ... ok
test a::plain ... ok
test a::quiet ... ok
test b::data ... ok

successes:

---- a::golden stdout ----
skipped: needs minilm (cargo xtask run fetch minilm): not in the cache
skipped: and another thing

---- a::plain stdout ----
loss 0.5
skipped 3 rows

---- b::data stdout ----
read 3 rows
skipped: needs shared (put it there): /x is not there


successes:
    a::golden
    a::plain
    a::quiet
    b::data

test result: ok. 4 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.01s

skipped: said by no test
running 13 tests
test result: FAILED. 10 passed; 2 failed; 0 ignored; 0 measured; 3 filtered out; finished in 1.25s
a line of a test: 7 passed; 7 failed
";

    fn read(output: &str) -> (Counts, Vec<&str>) {
        let mut reader = Reader::default();
        let shown = output.lines().filter(|line| reader.read(line)).collect();
        (reader.counts, shown)
    }

    #[test]
    fn skipped_tests_are_not_passed() {
        let (counts, shown) = read(OUTPUT);
        assert_eq!(
            counts,
            Counts {
                programs: 2,
                passed: 12,
                failed: 2,
                skipped: vec![
                    "a::golden: needs minilm (cargo xtask run fetch minilm): not in the cache"
                        .into(),
                    "b::data: needs shared (put it there): /x is not there".into(),
                ],
            }
        );
        assert_eq!(counts.to_string(), "12 passed, 2 failed, 2 skipped");
        assert!(shown.contains(&"test a::golden ... ok"));
        assert!(!shown.iter().any(|line| line.contains("loss 0.5")));
    }

    #[test]
    fn a_test_that_was_skipped_in_part_and_failed_has_failed() {
        let (counts, shown) = read(
            "test a ... FAILED\n\nfailures:\n\n---- a stdout ----\nskipped: needs x\npanicked\n\n\n\
             failures:\n    a\n\n\
             test result: FAILED. 0 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.01s\n",
        );
        assert_eq!(counts.to_string(), "0 passed, 1 failed, 0 skipped");
        assert!(shown.contains(&"panicked"));
    }

    #[test]
    fn what_was_skipped_stands_in_the_summary() {
        let skipped = |count| Counts {
            skipped: vec![String::new(); count],
            ..Counts::default()
        };
        let why = |count| match skipped(count).outcome(true, "hint") {
            Outcome::Incomplete(why) => why,
            _ => String::new(),
        };
        assert_eq!(
            [why(0), why(1), why(2)],
            [
                "",
                "1 test skipped, named above",
                "2 tests skipped, named above"
            ]
        );
        assert!(matches!(
            skipped(1).outcome(false, "hint"),
            Outcome::Failed(hint) if hint == "hint"
        ));
    }

    #[test]
    fn tests_mark_themselves_with_the_same_words() {
        let helper = include_str!("../../tests/src/lib.rs");
        assert!(helper.contains(&format!("const SKIPPED: &str = {SKIPPED:?};")));
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
