//! The command line of `cargo xtask`, parsed by hand: everything after a verb of `rekindle` is that verb's own and must
//! pass through untouched, also where it is not UTF-8.

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

use anyhow::{Result, bail};

use crate::bench::Bench;
use crate::checks::STEPS;
use crate::device_check::{self, DeviceCheck};

const TASKS: [&str; 8] = [
    "finetune",
    "run",
    "dataset",
    "test",
    "bench",
    "device-check",
    "goldens",
    "help",
];
const BACKENDS: [&str; 3] = ["cpu", "wgpu", "cuda"];
const TEST_OPTIONS: [&str; 6] = [
    "--quick",
    "--only",
    "--backend",
    "--goldens",
    "--python",
    "--help",
];
/// The verbs of `rekindle` that compute, and so take `--device`.
const VERBS_WITH_DEVICE: [&str; 4] = ["finetune", "evaluate", "predict", "merge"];

/// What the command line asks for.
#[derive(Debug, PartialEq)]
pub enum Task {
    Help,
    Run(Run),
    Test(Test),
    Goldens {
        python: PathBuf,
    },
    Bench(Bench),
    DeviceCheck(DeviceCheck),
    /// Make a dataset with the crate `tools/`.
    Dataset {
        name: String,
    },
}

/// A verb of `rekindle` to build for and hand over to.
#[derive(Debug, PartialEq)]
pub struct Run {
    pub backend: Backend,
    /// The arguments of `rekindle`: the verb first.
    pub args: Vec<OsString>,
}

/// What is compiled into the CLI. The CPU always is, so that `--device cpu` stays at hand.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Backend {
    Cpu,
    Wgpu,
    Cuda,
}

impl Backend {
    /// The features of `rekindle-cli`.
    pub fn features(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Wgpu => "cpu,wgpu",
            Self::Cuda => "cpu,cuda",
        }
    }

    /// Its name for `--device`, where that is not the default.
    pub fn device(self) -> Option<&'static str> {
        match self {
            Self::Cpu => None,
            Self::Wgpu => Some("wgpu"),
            Self::Cuda => Some("cuda"),
        }
    }

    pub fn parse(name: &OsStr) -> Result<Self> {
        match name.to_str() {
            Some("cpu") => Ok(Self::Cpu),
            Some("wgpu") => Ok(Self::Wgpu),
            Some("cuda") => Ok(Self::Cuda),
            _ => bail!(
                "--backend: expected one of {}, found `{}`",
                BACKENDS.join(", "),
                name.display()
            ),
        }
    }
}

/// Which checks to run.
#[derive(Debug, PartialEq)]
pub struct Test {
    pub which: Which,
    /// Make the golden fixtures anew before the checks, with this Python.
    pub goldens: Option<PathBuf>,
}

#[derive(Debug, PartialEq)]
pub enum Which {
    All,
    Quick,
    Only(Vec<String>),
    /// The suite of this backend, which is not the CPU.
    Backend(Backend),
}

/// Parses what follows `cargo xtask`.
pub fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Task> {
    let mut args = args.into_iter();
    let Some(task) = args.next() else {
        return Ok(Task::Help);
    };
    match task.to_str() {
        Some("help" | "--help" | "-h") => Ok(Task::Help),
        Some("finetune") => parse_run([task].into_iter().chain(args)),
        Some("run") => parse_run(args),
        Some("test") => parse_test(args),
        Some("goldens") => parse_goldens(args),
        Some("bench") => parse_bench(args),
        Some("device-check") => {
            Ok(device_check::parse(args, value)?.map_or(Task::Help, Task::DeviceCheck))
        }
        Some("dataset") => parse_dataset(args),
        _ => bail!(
            "{}",
            unknown(
                "task",
                &task,
                &TASKS,
                "`cargo xtask help` lists the tasks; `cargo xtask run VERB` runs any verb of `rekindle`"
            )
        ),
    }
}

/// Takes `--backend` out of the arguments (up to a `--`) and leaves the rest as it is.
fn parse_run(args: impl IntoIterator<Item = OsString>) -> Result<Task> {
    let mut args = args.into_iter();
    let mut backend = Backend::Cpu;
    let mut rest: Vec<OsString> = Vec::new();
    while let Some(arg) = args.next() {
        if arg == "--" {
            rest.push(arg);
            rest.extend(args);
            break;
        } else if arg == "--backend" {
            backend = Backend::parse(&value("--backend", args.next())?)?;
        } else if let Some(name) = arg.to_str().and_then(|arg| arg.strip_prefix("--backend=")) {
            backend = Backend::parse(OsStr::new(name))?;
        } else {
            rest.push(arg);
        }
    }
    match rest.first() {
        None => bail!(
            "`cargo xtask run` expects a verb of `rekindle`\nhint: `cargo xtask run --help` shows them"
        ),
        Some(verb) => {
            let takes_device = VERBS_WITH_DEVICE.iter().any(|name| verb == name);
            if let Some(device) = backend.device()
                && takes_device
                && !names_device(&rest)
            {
                // Straight after the verb, where no `--` of the user's can hide it.
                rest.splice(1..1, ["--device".into(), device.into()]);
            }
        }
    }
    Ok(Task::Run(Run {
        backend,
        args: rest,
    }))
}

/// Whether the arguments settle the device themselves: by name, by a setting, or by a run to resume, which has its own.
fn names_device(args: &[OsString]) -> bool {
    const SETTLED: [&str; 3] = ["--device", "--resume", "--set=device"];
    let is = |arg: &str, name: &str| {
        arg.strip_prefix(name)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('='))
    };
    let mut own = args
        .iter()
        .take_while(|arg| *arg != "--")
        .filter_map(|arg| arg.to_str());
    own.any(|arg| arg.starts_with("device=") || SETTLED.iter().any(|name| is(arg, name)))
}

fn parse_bench(args: impl IntoIterator<Item = OsString>) -> Result<Task> {
    const OPTIONS: [&str; 5] = ["--python", "--data", "--pairs", "--only", "--help"];
    let variable = |name: &str| std::env::var_os(name).map(PathBuf::from);
    let mut bench = Bench {
        python: variable("REKINDLE_BENCH_PYTHON").unwrap_or_else(|| "python3".into()),
        data: variable("REKINDLE_BENCH_DATA"),
        pairs: 5,
        only: Vec::new(),
    };
    let mut args = args.into_iter();
    while let Some(arg) = args.next() {
        match arg.to_str() {
            Some("--python") => bench.python = value("--python", args.next())?.into(),
            Some("--data") => bench.data = Some(value("--data", args.next())?.into()),
            Some("--only") => {
                let job = value("--only", args.next())?;
                bench.only.push(job.to_string_lossy().into_owned());
            }
            Some("--pairs") => {
                let count = value("--pairs", args.next())?;
                bench.pairs = match count.to_str().and_then(|count| count.parse().ok()) {
                    Some(pairs) if pairs > 0 => pairs,
                    _ => bail!(
                        "--pairs: expected a number above 0, found `{}`",
                        count.display()
                    ),
                };
            }
            Some("--help" | "-h") => return Ok(Task::Help),
            _ => bail!(
                "{}",
                unknown(
                    "option",
                    &arg,
                    &OPTIONS,
                    "`cargo xtask help` shows the options of `cargo xtask bench`"
                )
            ),
        }
    }
    Ok(Task::Bench(bench))
}

fn parse_test(args: impl IntoIterator<Item = OsString>) -> Result<Task> {
    let mut args = args.into_iter();
    let (mut quick, mut backend, mut goldens, mut only, mut python) =
        (false, None, false, Vec::new(), None);
    while let Some(arg) = args.next() {
        match arg.to_str() {
            Some("--quick") => quick = true,
            Some("--backend") => match Backend::parse(&value("--backend", args.next())?)? {
                Backend::Cpu => bail!("--backend cpu: `cargo xtask test` tests the CPU"),
                other => backend = Some(other),
            },
            Some("--goldens") => goldens = true,
            Some("--python") => python = Some(PathBuf::from(value("--python", args.next())?)),
            Some("--only") => {
                let step = value("--only", args.next())?;
                match STEPS.iter().find(|name| step == **name) {
                    Some(name) => only.push((*name).to_owned()),
                    None => {
                        bail!(
                            "{}",
                            unknown(
                                "step",
                                &step,
                                &STEPS,
                                &format!("the steps are {}", STEPS.join(", "))
                            )
                        )
                    }
                }
            }
            Some("--help" | "-h") => return Ok(Task::Help),
            _ => bail!(
                "{}",
                unknown(
                    "option of `test`",
                    &arg,
                    &TEST_OPTIONS,
                    "see `cargo xtask help`"
                )
            ),
        }
    }
    let which = match (quick, backend, only.is_empty()) {
        (false, None, true) => Which::All,
        (true, None, true) => Which::Quick,
        (false, Some(backend), true) => Which::Backend(backend),
        (false, None, false) => Which::Only(only),
        _ => bail!("`cargo xtask test` takes one of --quick, --only and --backend"),
    };
    if python.is_some() && !goldens {
        bail!("--python is the Python for --goldens, which is not given");
    }
    let goldens = goldens.then(|| python.unwrap_or_else(|| "python3".into()));
    Ok(Task::Test(Test { which, goldens }))
}

fn parse_goldens(args: impl IntoIterator<Item = OsString>) -> Result<Task> {
    let mut args = args.into_iter();
    let mut python = PathBuf::from("python3");
    while let Some(arg) = args.next() {
        match arg.to_str() {
            Some("--python") => python = value("--python", args.next())?.into(),
            Some("--help" | "-h") => return Ok(Task::Help),
            _ => bail!(
                "{}",
                unknown(
                    "option of `goldens`",
                    &arg,
                    &["--python", "--help"],
                    "see `cargo xtask help`"
                )
            ),
        }
    }
    Ok(Task::Goldens { python })
}

fn parse_dataset(args: impl IntoIterator<Item = OsString>) -> Result<Task> {
    let args: Vec<OsString> = args.into_iter().collect();
    match &args[..] {
        [flag] if flag == "--help" || flag == "-h" => Ok(Task::Help),
        [name] => Ok(Task::Dataset {
            name: name.to_string_lossy().into_owned(),
        }),
        _ => bail!("`cargo xtask dataset` expects one name, such as icons"),
    }
}

fn value(option: &str, given: Option<OsString>) -> Result<OsString> {
    match given {
        Some(value) => Ok(value),
        None => bail!("{option} expects a value\nhint: see `cargo xtask help`"),
    }
}

/// A message for a name that is none of `known`, with the nearest of them where one is near.
fn unknown(what: &str, found: &OsStr, known: &[&str], hint: &str) -> String {
    let found = found.to_string_lossy();
    let near = known
        .iter()
        .map(|name| (strsim::damerau_levenshtein(name, &found), name))
        .filter(|(distance, name)| *distance <= (name.len() / 3).max(1))
        .min();
    let near = near.map_or(String::new(), |(_, name)| {
        format!("; did you mean `{name}`?")
    });
    format!("unknown {what} `{found}`{near}\nhint: {hint}")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn words(line: &str) -> Vec<OsString> {
        line.split_whitespace().map(OsString::from).collect()
    }

    fn task(line: &str) -> Task {
        parse(words(line)).unwrap()
    }

    fn error(line: &str) -> String {
        parse(words(line)).unwrap_err().to_string()
    }

    #[test]
    fn a_verb_keeps_its_arguments_and_loses_the_backend() {
        let cases = [
            ("finetune", Backend::Cpu, "finetune"),
            (
                "finetune --backend cpu --lr 1",
                Backend::Cpu,
                "finetune --lr 1",
            ),
            (
                "finetune --backend wgpu --lr 1",
                Backend::Wgpu,
                "finetune --device wgpu --lr 1",
            ),
            (
                "finetune --lr 1 --backend=cuda",
                Backend::Cuda,
                "finetune --device cuda --lr 1",
            ),
            (
                "finetune --backend cuda --device cuda:1",
                Backend::Cuda,
                "finetune --device cuda:1",
            ),
            (
                "finetune --backend cuda --device=cpu",
                Backend::Cuda,
                "finetune --device=cpu",
            ),
            (
                "finetune --backend cuda --resume=runs/a=b",
                Backend::Cuda,
                "finetune --resume=runs/a=b",
            ),
            (
                "finetune --backend cuda --set device=cuda:1",
                Backend::Cuda,
                "finetune --set device=cuda:1",
            ),
            (
                "finetune --backend cuda --set seed=1",
                Backend::Cuda,
                "finetune --device cuda --set seed=1",
            ),
            ("finetune --help", Backend::Cpu, "finetune --help"),
            (
                "run --backend wgpu predict run -- --backend",
                Backend::Wgpu,
                "predict --device wgpu run -- --backend",
            ),
            (
                "run --backend wgpu predict -- --device",
                Backend::Wgpu,
                "predict --device wgpu -- --device",
            ),
            (
                "run inspect --backend wgpu dir",
                Backend::Wgpu,
                "inspect dir",
            ),
            ("run --help", Backend::Cpu, "--help"),
        ];
        for (line, backend, args) in cases {
            assert_eq!(
                task(line),
                Task::Run(Run {
                    backend,
                    args: words(args)
                }),
                "{line}"
            );
        }
    }

    #[test]
    fn the_checks_are_chosen_by_one_option() {
        let cases = [
            ("test", Which::All),
            ("test --quick", Which::Quick),
            ("test --backend wgpu", Which::Backend(Backend::Wgpu)),
            ("test --backend cuda", Which::Backend(Backend::Cuda)),
            (
                "test --only clippy --only fmt",
                Which::Only(vec!["clippy".into(), "fmt".into()]),
            ),
        ];
        for (line, which) in cases {
            assert_eq!(
                task(line),
                Task::Test(Test {
                    which,
                    goldens: None
                }),
                "{line}"
            );
        }
        let goldens = |python: &str| {
            Task::Test(Test {
                which: Which::Quick,
                goldens: Some(python.into()),
            })
        };
        assert_eq!(task("test --quick --goldens"), goldens("python3"));
        assert_eq!(
            task("test --goldens --python /opt/py --quick"),
            goldens("/opt/py")
        );
        assert_eq!(
            task("dataset icons"),
            Task::Dataset {
                name: "icons".into()
            }
        );
        assert_eq!(
            task("goldens --python /opt/py"),
            Task::Goldens {
                python: "/opt/py".into()
            }
        );
    }

    #[test]
    fn nothing_and_help_show_the_help() {
        for line in [
            "",
            "help",
            "--help",
            "-h",
            "test --help",
            "goldens -h",
            "dataset --help",
        ] {
            assert_eq!(task(line), Task::Help, "{line}");
        }
    }

    #[test]
    fn mistakes_name_what_was_expected() {
        let cases = [
            (
                "finetun",
                "unknown task `finetun`; did you mean `finetune`?\nhint: `cargo xtask help`",
            ),
            ("tset", "did you mean `test`?"),
            (
                "evaluate",
                "unknown task `evaluate`\nhint: `cargo xtask help` lists the tasks; `cargo xtask run VERB`",
            ),
            (
                "test --qiuck",
                "unknown option of `test` `--qiuck`; did you mean `--quick`?",
            ),
            (
                "test --only clipy",
                "unknown step `clipy`; did you mean `clippy`?\nhint: the steps are fmt, clippy",
            ),
            ("test --only", "--only expects a value"),
            ("dataset", "expects one name"),
            ("dataset icons intents", "expects one name"),
            (
                "test --quick --backend wgpu",
                "takes one of --quick, --only and --backend",
            ),
            ("test --backend cpu", "`cargo xtask test` tests the CPU"),
            (
                "test --backend metal",
                "--backend: expected one of cpu, wgpu, cuda, found `metal`",
            ),
            (
                "test --python python3",
                "--python is the Python for --goldens, which is not given",
            ),
            ("finetune --backend", "--backend expects a value"),
            (
                "finetune --backend gpu",
                "--backend: expected one of cpu, wgpu, cuda, found `gpu`",
            ),
            ("run --backend cpu", "expects a verb of `rekindle`"),
            ("goldens make", "unknown option of `goldens` `make`"),
        ];
        for (line, expected) in cases {
            let message = error(line);
            assert!(message.contains(expected), "{line}: {message}");
        }
    }
}
