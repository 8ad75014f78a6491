//! Several processes over MPI: however many share a run, its model has the same bits. They are the real binary, started by
//! `mpirun` on this machine.
#![allow(clippy::unwrap_used)]

mod support;

use rekindle_tests::{Need, need};
use serde_json::Value;
use std::{
    collections::BTreeMap,
    fs,
    process::{Command, Output, Stdio},
    time::{Duration, Instant},
};
use support::Dir;

/// Whether processes can be started; `false` after saying that the test is skipped.
fn mpi() -> bool {
    let found = Command::new("mpirun").arg("--version").output();
    need(Need::Mpi, found.map_err(|e| format!("mpirun: {e}"))).is_some()
}

/// `mpirun` of so many processes, set up to run here.
fn mpirun(dir: &Dir, processes: usize, arguments: &str) -> Command {
    let mut command = dir.command("mpirun");
    command
        .args(["--oversubscribe", "-n", &processes.to_string()])
        .arg(env!("CARGO_BIN_EXE_rekindle"))
        .args(arguments.split_whitespace())
        // Tests may run in a container's only account.
        .env("OMPI_ALLOW_RUN_AS_ROOT", "1")
        .env("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1")
        .env("RAYON_NUM_THREADS", "1");
    command
}

fn run(dir: &Dir, processes: usize, arguments: &str) -> Output {
    mpirun(dir, processes, arguments).output().unwrap()
}

/// Runs by so many processes, which must succeed, and returns what they said.
fn ok(dir: &Dir, processes: usize, arguments: &str) -> String {
    let output = run(dir, processes, arguments);
    let said = dir.plain(&output.stderr) + &dir.plain(&output.stdout);
    assert!(
        output.status.success(),
        "{processes} processes: {arguments}\n{said}"
    );
    said
}

/// The bytes of every file of weights that a run ended with, and of the newest checkpoint.
fn weights(dir: &Dir, run: &str) -> BTreeMap<String, Vec<u8>> {
    let mut steps: Vec<_> = fs::read_dir(dir.path(run).join("checkpoints"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    steps.sort();
    let folders = [dir.path(run).join("final"), steps.pop().unwrap()];
    let files = folders
        .iter()
        .flat_map(|folder| fs::read_dir(folder).unwrap());
    let files = files.map(|entry| entry.unwrap().path());
    files
        .filter(|path| path.extension().is_some_and(|end| end == "safetensors"))
        .map(|path| {
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            (name, fs::read(&path).unwrap())
        })
        .collect()
}

/// What each step and evaluation said, without the seconds.
fn metrics(dir: &Dir, run: &str) -> Vec<Value> {
    let text = fs::read_to_string(dir.path(run).join("metrics.jsonl")).unwrap();
    let event = |line: &str| {
        let mut event: Value = serde_json::from_str(line).unwrap();
        event.as_object_mut().unwrap().remove("seconds");
        event
    };
    text.lines()
        .map(event)
        .filter(|event| event["kind"] != "resumed")
        .collect()
}

/// Batches of 5 of 27 examples leave 2 at the end, which is less than four shards.
const TEXT: &str =
    "finetune --model model --train train.csv --batch-size 5 --set train.shards=4 --epochs 2";
const PICTURES: &str = "finetune --task image-classification --model resnet --train pictures --batch-size 5 --set train.shards=4 --epochs 2 --lr 0.01";

/// The law, and that only one process writes and prints.
#[test]
fn one_two_and_four_processes_end_with_the_same_weights() {
    if !mpi() {
        return;
    }
    let dir = Dir::new();
    dir.pictures();
    let cases = [
        (
            "lora",
            format!("{TEXT} --set train.gradient_accumulation_steps=2"),
        ),
        (
            "full",
            format!("{TEXT} --method full --set train.max_grad_norm=0.1"),
        ),
        ("pictures", PICTURES.to_owned()),
        // Features are kept, by each process those that it computed.
        (
            "head",
            format!("{PICTURES} --method head --set images.augment=none"),
        ),
        (
            "freed",
            format!("{PICTURES} --set peft.unfreeze_every=1 --set train.ema_decay=0.9"),
        ),
    ];
    for (name, arguments) in cases {
        let by = |processes: usize| {
            let run = format!("{name}-{processes}");
            let said = ok(&dir, processes, &format!("{arguments} -o {run}"));
            assert_eq!(said.matches("learning rate").count(), 1, "{said}");
            assert_eq!(said.matches("report  ").count(), 1, "{said}");
            run
        };
        let alone = by(1);
        for processes in [2, 4] {
            let run = by(processes);
            let (expected, found) = (weights(&dir, &alone), weights(&dir, &run));
            assert!(!found.is_empty() && found.keys().eq(expected.keys()));
            for (file, bytes) in found {
                assert!(bytes == expected[&file], "{run}: {file}");
            }
            assert_eq!(metrics(&dir, &run), metrics(&dir, &alone), "{run}");
            let results: Value =
                serde_json::from_slice(&fs::read(dir.path(&run).join("results.json")).unwrap())
                    .unwrap();
            assert_eq!(results["communication"]["processes"], processes);
            assert!(results["communication"]["bytes_per_step"].as_f64().unwrap() > 0.0);
        }
    }
}

/// Two machines played by network namespaces, each with a name and an address of its own; gone when this is.
#[cfg(target_os = "linux")]
struct Machines {
    names: [String; 2],
}

#[cfg(target_os = "linux")]
impl Machines {
    const NETWORK: &str = "10.213.77.0/24";

    /// # Errors
    /// What the system does not let us do.
    fn set_up() -> Result<Self, String> {
        let key = std::process::id() % 10_000;
        let machines = Self {
            names: [0, 1].map(|i| format!("rk{key}n{i}")),
        };
        let [one, other] = &machines.names;
        ip(&format!("netns add {one}"))?;
        ip(&format!("netns add {other}"))?;
        ip(&format!(
            "-n {one} link add wire type veth peer name wire netns {other}"
        ))?;
        for (i, name) in machines.names.iter().enumerate() {
            ip(&format!(
                "-n {name} addr add 10.213.77.{}/24 dev wire",
                i + 1
            ))?;
            ip(&format!("-n {name} link set wire up"))?;
            ip(&format!("-n {name} link set lo up"))?;
        }
        Ok(machines)
    }

    /// A program that starts another on a machine, in the place of ssh: its arguments are the machine's address and a command.
    fn agent(&self) -> String {
        let [one, other] = &self.names;
        let on =
            |name| format!("exec ip netns exec {name} unshare --uts sh -c \"hostname {name}; $*\"");
        format!(
            "#!/bin/sh\nhost=$1; shift\ncase $host in\n10.213.77.1) {};;\n*) {};;\nesac\n",
            on(one),
            on(other)
        )
    }
}

#[cfg(target_os = "linux")]
impl Drop for Machines {
    fn drop(&mut self) {
        for name in &self.names {
            let _ = ip(&format!("netns del {name}"));
        }
    }
}

#[cfg(target_os = "linux")]
fn ip(arguments: &str) -> Result<(), String> {
    let output = Command::new("ip").args(arguments.split(' ')).output();
    let output = output.map_err(|e| format!("ip: {e}"))?;
    match output.status.success() {
        true => Ok(()),
        false => Err(String::from_utf8_lossy(&output.stderr).trim().to_owned()),
    }
}

/// The law between machines: two processes on each of two, which reach each other over a network alone.
#[test]
#[cfg(target_os = "linux")]
fn two_machines_end_with_the_same_weights() {
    use std::os::unix::fs::PermissionsExt;
    if !mpi() {
        return;
    }
    let Some(machines) = need(Need::Namespaces, Machines::set_up()) else {
        return;
    };
    let dir = Dir::new();
    let agent = dir.path("agent");
    fs::write(&agent, machines.agent()).unwrap();
    fs::set_permissions(&agent, fs::Permissions::from_mode(0o755)).unwrap();
    ok(&dir, 1, &format!("{TEXT} -o alone"));
    let network = Machines::NETWORK;
    let arguments = format!(
        "10.213.77.1 mpirun --host 10.213.77.1:2,10.213.77.2:2 --mca plm_rsh_agent {} --mca btl tcp,self --mca btl_tcp_if_include {network} --mca oob_tcp_if_include {network} --bind-to none -n 4 -x HF_HOME -x HF_HUB_OFFLINE -x REKINDLE_CACHE {} {TEXT} -o machines",
        agent.display(),
        env!("CARGO_BIN_EXE_rekindle"),
    );
    let output = dir
        .command(agent.to_str().unwrap())
        .args(arguments.split_whitespace())
        .env("OMPI_ALLOW_RUN_AS_ROOT", "1")
        .env("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1")
        .output()
        .unwrap();
    let said = dir.plain(&output.stderr);
    assert!(output.status.success(), "{said}");
    assert!(said.contains("4 processes share the work"), "{said}");
    assert!(weights(&dir, "machines") == weights(&dir, "alone"));
}

/// The mean is over a whole batch, also where it has fewer examples than shards.
#[test]
fn shards_learn_what_whole_batches_do() {
    if !mpi() {
        return;
    }
    let dir = Dir::new();
    dir.json("model/config.json", |config| {
        config.insert("hidden_dropout_prob".into(), 0.0.into());
        config.insert("attention_probs_dropout_prob".into(), 0.0.into());
    });
    let arguments = "finetune --model model --train train.csv --batch-size 5 --epochs 2";
    dir.ok(&format!("{arguments} -o whole"));
    ok(&dir, 4, &format!("{arguments} -o shards"));
    let losses = |run| {
        let events = metrics(&dir, run);
        let losses: Vec<f64> = events.iter().filter_map(|e| e["loss"].as_f64()).collect();
        losses
    };
    let (whole, shards) = (losses("whole"), losses("shards"));
    assert_eq!(whole.len(), 12);
    for (step, (a, b)) in whole.iter().zip(&shards).enumerate() {
        assert!((a - b).abs() < 1e-6 * a, "step {step}: {a} {b}");
    }
}

/// Stopped by SIGTERM at one process, and resumed by fewer, or more.
#[test]
fn what_two_processes_began_one_and_four_end() {
    if !mpi() {
        return;
    }
    let dir = Dir::new();
    let arguments = format!("{TEXT} --set checkpoint.every_steps=2 --set eval.every=\"never\"");
    ok(&dir, 2, &format!("{arguments} -o whole"));
    for processes in [1, 4] {
        let run = format!("to-{processes}");
        ok(&dir, 2, &format!("{arguments} -o {run}"));
        // As a kill after the fourth step leaves it.
        for gone in ["final", "results.json", "report.html"] {
            dir.remove(&format!("{run}/{gone}"));
        }
        for step in fs::read_dir(dir.path(&run).join("checkpoints")).unwrap() {
            let step = step.unwrap();
            if step.file_name().to_string_lossy().ends_with("12") {
                fs::remove_dir_all(step.path()).unwrap();
            }
        }
        let said = ok(&dir, processes, &format!("finetune --resume {run}"));
        assert!(said.contains("resuming after step 10 of 12"), "{said}");
        assert!(weights(&dir, &run) == weights(&dir, "whole"), "{processes}");
        assert_eq!(metrics(&dir, &run), metrics(&dir, "whole"));
    }
}

/// A run that goes on for minutes if nothing ends it.
const LONG: &str = "finetune --model model --train train.csv --batch-size 5 --epochs 100000 --set checkpoint.every_steps=5 --set eval.every=\"never\" -o long";

/// Starts `LONG` by so many processes, and waits until it has a checkpoint. Also the numbers of the processes.
fn started(dir: &Dir, processes: usize) -> (std::process::Child, Vec<i32>) {
    let child = mpirun(dir, processes, LONG)
        .args(["--quiet"])
        .stderr(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let clock = Instant::now();
    let newest = || newest_step(dir);
    while newest() < 5 {
        assert!(clock.elapsed() < Duration::from_secs(60), "no checkpoint");
        std::thread::sleep(Duration::from_millis(20));
    }
    let ranks = children(child.id() as i32);
    assert_eq!(ranks.len(), processes);
    (child, ranks)
}

/// The step of the newest whole checkpoint.
fn newest_step(dir: &Dir) -> u64 {
    let Ok(entries) = fs::read_dir(dir.path("long/checkpoints")) else {
        return 0;
    };
    let steps = entries.filter_map(|entry| {
        let name = entry.ok()?.file_name().into_string().ok()?;
        name.strip_prefix("step-")?.parse().ok()
    });
    steps.max().unwrap_or(0)
}

/// The processes that a process started, as the system lists them.
fn children(parent: i32) -> Vec<i32> {
    let list = fs::read_to_string(format!("/proc/{parent}/task/{parent}/children"));
    let list = list.unwrap_or_default();
    list.split_whitespace()
        .map(|pid| pid.parse().unwrap())
        .collect()
}

/// Whether a process is there, and not only waited for.
fn is_running(process: i32) -> bool {
    let status = fs::read_to_string(format!("/proc/{process}/stat"));
    status.is_ok_and(|status| !status.contains(") Z "))
}

fn signal(process: i32, signal: i32) {
    let sent = Command::new("kill")
        .args([format!("-{signal}"), process.to_string()])
        .status();
    assert!(sent.unwrap().success());
}

/// A peer that is gone ends all, and the last checkpoint goes on by itself.
#[test]
fn a_killed_process_ends_all_and_leaves_a_checkpoint_to_resume() {
    if !mpi() {
        return;
    }
    for victim in [1, 0] {
        let dir = Dir::new();
        let (mut child, ranks) = started(&dir, 2);
        let clock = Instant::now();
        signal(ranks[victim], 9);
        assert!(!child.wait().unwrap().success());
        while ranks.iter().any(|&rank| is_running(rank)) {
            assert!(clock.elapsed() < Duration::from_secs(30));
            std::thread::sleep(Duration::from_millis(20));
        }
        println!("all ended after {:.1} s", clock.elapsed().as_secs_f64());
        let step = newest_step(&dir);
        assert!(step >= 5 && step.is_multiple_of(5));
        let more = format!("finetune --resume long --set train.max_steps={}", step + 3);
        let said = dir.output(&more);
        assert!(
            said.contains(&format!("resuming after step {step}")),
            "{said}"
        );
    }
}

/// Asked at one process, all end after the same step, which is saved.
#[test]
fn a_signal_to_one_process_stops_all_in_order() {
    if !mpi() {
        return;
    }
    let dir = Dir::new();
    let (child, ranks) = started(&dir, 2);
    signal(ranks[1], 15);
    let output = child.wait_with_output().unwrap();
    let said = dir.plain(&output.stderr);
    assert!(said.contains("stopped after step"), "{said}");
    let step = newest_step(&dir);
    assert!(
        said.contains(&format!("stopped after step {step};")),
        "{said}"
    );
}

/// Mistakes are told once, whichever process meets them.
#[test]
fn mistakes_are_told_once() {
    if !mpi() {
        return;
    }
    let dir = Dir::new();
    let once = |arguments: &str, words: &str| {
        let output = run(&dir, 3, arguments);
        let said = dir.plain(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert_eq!(said.matches("error: ").count(), 1, "{said}");
        assert!(said.contains(words), "{said}");
    };
    once("finetune --model model --train none.csv", "none.csv");
    once(
        "finetune --model model --train train.csv --set train.shards=9 --batch-size 4",
        "train.shards",
    );
    once("finetune --resume nowhere", "nowhere");
    once("finetune --no-such-flag", "--no-such-flag");
    dir.write("taken/config.toml", "");
    once(
        "finetune --model model --train train.csv -o taken",
        "holds a run already",
    );
}
