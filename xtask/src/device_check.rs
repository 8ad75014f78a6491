//! `cargo xtask device-check`: a GPU's suite, and our steps beside PyTorch's, from programs that are built here and can be carried to
//! the machine that has the GPU.
//!
//! `--pack DIR` builds them and lays them into DIR with a script; `--take FILE` reads what the script wrote into
//! `benches/rows.json` and docs/benchmarks.md. Without either, all three at once.

use std::ffi::OsString;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use serde_json::{Map, Value};

use crate::args::Backend;
use crate::bench;
use crate::proc::{cargo, root, shown};

/// What the command line asks for.
#[derive(Debug, PartialEq)]
pub struct DeviceCheck {
    pub backend: Backend,
    /// Cargo's profile of what is built.
    pub profile: String,
    pub what: What,
}

/// Which part.
#[derive(Debug, PartialEq)]
pub enum What {
    /// Build, run here, and take up the results.
    All { python: PathBuf },
    /// Build into this folder.
    Pack(PathBuf),
    /// Take up the results of this file.
    Take(PathBuf),
}

/// What the script is called, and what it writes.
const SCRIPT: &str = "check.sh";
const RESULTS: &str = "results.jsonl";
/// Fixtures that the suite reads.
const FIXTURES: [&str; 12] = [
    "tiny_bert",
    "tiny_distilbert",
    "tiny_roberta",
    "tiny_xlm_roberta",
    "tiny_electra",
    "tiny_modernbert",
    "tiny_albert",
    "tiny_mpnet",
    "tiny_deberta",
    "tiny_decoders",
    "vision_models",
    "tiny_tasks",
];

pub fn run(check: &DeviceCheck) -> Result<()> {
    match &check.what {
        What::Pack(dir) => {
            pack(check.backend, &check.profile, dir)?;
            println!(
                "packed into {}: carry it to the machine with the GPU, run ./{SCRIPT} there, and take its {RESULTS} up with `cargo xtask device-check --take FILE`",
                dir.display()
            );
            Ok(())
        }
        What::Take(file) => take(file),
        What::All { python } => {
            let dir = root().join("target/device-check");
            pack(check.backend, &check.profile, &dir)?;
            let mut script = Command::new(dir.join(SCRIPT));
            script.arg(python);
            println!("    {}", shown(&script));
            if !script
                .status()
                .context("cannot start the script")?
                .success()
            {
                bail!("the check failed; what failed stands above");
            }
            take(&dir.join(RESULTS))
        }
    }
}

/// Builds the programs and lays them into `dir` with what they read.
fn pack(backend: Backend, profile: &str, dir: &Path) -> Result<()> {
    let name = backend.device().unwrap_or_default();
    fs::create_dir_all(dir).with_context(|| dir.display().to_string())?;
    let mut size = 0;
    for (name, program) in build(name, profile)? {
        let to = dir.join(name);
        size += fs::copy(&program, &to).with_context(|| program.display().to_string())?;
    }
    println!("    programs: {:.0} MB", size as f64 / 1e6);
    let golden = root().join("tests/golden");
    for fixture in FIXTURES {
        copy_folder(&golden.join(fixture), &dir.join("golden").join(fixture))?;
    }
    fs::copy(root().join("benches/device.py"), dir.join("device.py"))?;
    let script = dir.join(SCRIPT);
    fs::write(
        &script,
        include_str!("device_check.sh").replace("BACKEND", name),
    )?;
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        fs::set_permissions(&script, fs::Permissions::from_mode(0o755))?;
    }
    Ok(())
}

/// Builds the programs in one go and returns where they are.
fn build(feature: &str, profile: &str) -> Result<Vec<(&'static str, PathBuf)>> {
    const PACKAGES: [&str; 3] = ["rekindle-benches", "rekindle-tests", "rekindle-nn"];
    const PROGRAMS: [&str; 3] = ["rekindle-bench", "devices", "it"];
    let features = PACKAGES.map(|package| format!("{package}/{feature}"));
    let mut build = cargo();
    build
        .args(["build", "--profile", profile])
        .args(PACKAGES.iter().flat_map(|name| ["--package", name]))
        .args(["--features", &features.join(",")])
        .args([
            "--bin",
            PROGRAMS[0],
            "--test",
            PROGRAMS[1],
            "--test",
            PROGRAMS[2],
        ])
        .arg("--message-format=json-render-diagnostics")
        .arg("--manifest-path")
        .arg(root().join("Cargo.toml"))
        .stdout(Stdio::piped());
    println!("    {}", shown(&build));
    let mut child = build.spawn().context("cannot start cargo")?;
    let messages = child.stdout.take().context("cargo's output is not piped")?;
    let mut found = Vec::new();
    for line in BufReader::new(messages).lines() {
        let message: Value = serde_json::from_str(&line?).unwrap_or_default();
        let name = PROGRAMS
            .into_iter()
            .find(|name| message["target"]["name"] == *name);
        if let (Some(name), Some(path)) = (name, message["executable"].as_str()) {
            found.push((name, PathBuf::from(path)));
        }
    }
    if !child.wait()?.success() {
        bail!("the build failed; the compiler's messages are above");
    }
    for name in PROGRAMS {
        if !found.iter().any(|(of, _)| *of == name) {
            bail!("cargo named no program `{name}`");
        }
    }
    Ok(found)
}

fn copy_folder(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from).with_context(|| from.display().to_string())? {
        let entry = entry?;
        let to = to.join(entry.file_name());
        match entry.file_type()?.is_dir() {
            true => copy_folder(&entry.path(), &to)?,
            false => drop(fs::copy(entry.path(), to)?),
        }
    }
    Ok(())
}

/// Reads the lines that `device.py` wrote, a card and a job each, into the rows and the page.
fn take(file: &Path) -> Result<()> {
    let text = fs::read_to_string(file).with_context(|| file.display().to_string())?;
    let (card, rows) = rows(&text).with_context(|| file.display().to_string())?;
    bench::take(&card, rows)
}

/// The card's heading with its packages, and a line of the table for each job.
fn rows(text: &str) -> Result<(String, Map<String, Value>)> {
    let mut lines = Vec::new();
    for line in text.lines().filter(|line| !line.trim().is_empty()) {
        lines.push(serde_json::from_str::<Value>(line).with_context(|| line.to_owned())?);
    }
    let word = |value: &Value, key: &str| value[key].as_str().map(str::to_owned);
    let Some(head) = lines.iter().find(|line| line["card"].is_string()) else {
        bail!("expected a line with the card's name first, found none");
    };
    let card = word(head, "card").unwrap_or_default();
    let mut rows = Map::new();
    let packages = [("torch", "PyTorch"), ("transformers", "transformers")]
        .into_iter()
        .filter_map(|(key, name)| Some(format!("{name} {}", word(head, key)?)));
    let mut packages: Vec<String> = packages.collect();
    packages.extend(word(head, "driver").map(|driver| format!("driver {driver}")));
    rows.insert("packages".into(), packages.join(", ").into());
    for line in &lines {
        let Some(job) = word(line, "job") else {
            continue;
        };
        let time = |key: &str| match line[key].as_f64() {
            Some(milliseconds) => format!("{milliseconds:.1} ms"),
            None => String::new(),
        };
        let (ours, theirs) = (line["ours"].as_f64(), line["f32"].as_f64());
        let ratio = ours.zip(theirs).map(|(ours, theirs)| theirs / ours);
        let row = format!(
            "| {job} | {} | {} | {} | {} | {} | {} | {} | {} |",
            time("ours"),
            time("ours-tf32"),
            time("ours-bf16"),
            time("f32"),
            time("tf32"),
            time("bf16"),
            time("compiled"),
            ratio.map_or_else(String::new, |ratio| format!("{ratio:.2}")),
        );
        rows.insert(format!("device: {job}"), row.into());
    }
    Ok((card, rows))
}

/// Parses what follows `cargo xtask device-check`; `None` where help is asked for.
pub fn parse(
    args: impl IntoIterator<Item = OsString>,
    value: impl Fn(&str, Option<OsString>) -> Result<OsString>,
) -> Result<Option<DeviceCheck>> {
    let mut args = args.into_iter();
    let (mut backend, mut pack, mut take, mut python) = (Backend::Cuda, None, None, None);
    let mut profile = "release".to_owned();
    while let Some(arg) = args.next() {
        match arg.to_str() {
            Some("--backend") => match Backend::parse(&value("--backend", args.next())?)? {
                Backend::Cpu => bail!("--backend cpu: `cargo xtask bench` times the CPU"),
                other => backend = other,
            },
            Some("--pack") => pack = Some(PathBuf::from(value("--pack", args.next())?)),
            Some("--take") => take = Some(PathBuf::from(value("--take", args.next())?)),
            Some("--profile") => {
                profile = value("--profile", args.next())?
                    .to_string_lossy()
                    .into_owned();
            }
            Some("--python") => python = Some(PathBuf::from(value("--python", args.next())?)),
            Some("--help" | "-h") => return Ok(None),
            _ => bail!(
                "unknown option of `device-check` `{}`\nhint: see `cargo xtask help`",
                arg.display()
            ),
        }
    }
    let what = match (pack, take, python) {
        (None, None, python) => What::All {
            python: python.unwrap_or_else(|| "python3".into()),
        },
        (Some(dir), None, None) => What::Pack(dir),
        (None, Some(file), None) => What::Take(file),
        _ => bail!("`cargo xtask device-check` takes one of --pack, --take and --python"),
    };
    Ok(Some(DeviceCheck {
        backend,
        profile,
        what,
    }))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn results_become_a_heading_and_rows() {
        let text = r#"{"card": "A card", "torch": "2.9", "transformers": "5.1", "driver": "580.1"}
{"job": "minilm lora, 32 x 128", "ours": 25.51}
{"job": "minilm lora, 32 x 128", "ours": 25.51, "ours-tf32": 20.0, "ours-bf16": 36.9, "f32": 12.0, "tf32": 13.7, "bf16": 16.7}
"#;
        let (card, rows) = rows(text).unwrap();
        assert_eq!(card, "A card");
        assert_eq!(
            rows["packages"],
            "PyTorch 2.9, transformers 5.1, driver 580.1"
        );
        assert_eq!(
            rows["device: minilm lora, 32 x 128"],
            "| minilm lora, 32 x 128 | 25.5 ms | 20.0 ms | 36.9 ms | 12.0 ms | 13.7 ms | 16.7 ms |  | 0.47 |"
        );
        assert!(super::rows("{}").is_err());
    }

    #[test]
    fn one_part_is_asked_for_or_all() {
        let value = |name: &str, value: Option<OsString>| value.with_context(|| name.to_owned());
        let parsed = |line: &str| parse(line.split_whitespace().map(OsString::from), value);
        let check = |line: &str| parsed(line).unwrap().unwrap();
        assert_eq!(
            check("--backend wgpu --pack dir --profile dev"),
            DeviceCheck {
                backend: Backend::Wgpu,
                profile: "dev".into(),
                what: What::Pack("dir".into()),
            }
        );
        assert_eq!(check("--take results").what, What::Take("results".into()));
        let all = check("");
        assert_eq!(
            (all.backend, all.profile.as_str()),
            (Backend::Cuda, "release")
        );
        assert_eq!(parsed("--help").unwrap(), None);
        for wrong in ["--pack a --take b", "--backend cpu", "--python", "--pak"] {
            assert!(parsed(wrong).is_err(), "{wrong}");
        }
    }
}
