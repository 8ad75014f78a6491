//! The workspace keeps its own rules: who may import whom, what is pinned, where `unsafe` may stand, and how a file
//! opens. The reasons are in ARCHITECTURE.md.

use std::path::{Path, PathBuf};

use cargo_metadata::{DependencyKind, Metadata, MetadataCommand, Package};

/// Each package and the workspace's crates that it may import. An arrow the other way is a design fault, not a detail.
const IMPORTS: [(&str, &[&str]); 16] = [
    (
        "rekindle-benches",
        &[
            "rekindle-base",
            "rekindle-hub",
            "rekindle-models",
            "rekindle-nn",
            "rekindle-peft",
            "rekindle-train",
        ],
    ),
    ("rekindle-cli", &["rekindle", "rekindle-mpi"]),
    ("rekindle-mpi", &["rekindle-train"]),
    (
        "rekindle",
        &[
            "rekindle-base",
            "rekindle-data",
            "rekindle-hub",
            "rekindle-metrics",
            "rekindle-models",
            "rekindle-nn",
            "rekindle-peft",
            "rekindle-train",
            "rekindle-weights",
        ],
    ),
    (
        "rekindle-models",
        &["rekindle-base", "rekindle-nn", "rekindle-weights"],
    ),
    (
        "rekindle-peft",
        &["rekindle-base", "rekindle-nn", "rekindle-weights"],
    ),
    (
        "rekindle-train",
        &[
            "rekindle-base",
            "rekindle-metrics",
            "rekindle-nn",
            "rekindle-weights",
        ],
    ),
    ("rekindle-data", &["rekindle-base"]),
    ("rekindle-hub", &["rekindle-base"]),
    ("rekindle-metrics", &["rekindle-base"]),
    ("rekindle-weights", &["rekindle-base"]),
    ("rekindle-nn", &["rekindle-base"]),
    ("rekindle-base", &[]),
    ("rekindle-tests", &[]),
    ("rekindle-tools", &["rekindle-hub"]),
    ("xtask", &[]),
];

/// Crates from outside that only some packages may name, because of what the others promise not to know.
const ONLY_IN: [(&str, &[&str]); 16] = [
    // A tensor library.
    (
        "burn",
        &[
            "rekindle",
            "rekindle-benches",
            "rekindle-models",
            "rekindle-nn",
            "rekindle-peft",
            "rekindle-train",
        ],
    ),
    ("burn-flex", &["rekindle-nn"]),
    ("tokenizers", &["rekindle-data"]),
    ("parquet", &["rekindle-data"]),
    ("safetensors", &["rekindle-weights"]),
    // A network.
    ("ureq", &["rekindle-hub"]),
    // Other processes.
    ("mpi", &["rekindle-mpi"]),
    // A terminal.
    ("clap", &["rekindle-cli"]),
    ("clap_complete", &["rekindle-cli"]),
    ("clap_mangen", &["rekindle-cli"]),
    ("indicatif", &["rekindle-cli"]),
    ("ctrlc", &["rekindle-cli"]),
    // Errors without a type: libraries have an enum each.
    (
        "anyhow",
        &[
            "rekindle-benches",
            "rekindle-cli",
            "rekindle-tools",
            "xtask",
        ],
    ),
    // Fonts, and pictures that are drawn and not read.
    ("ttf-parser", &["rekindle-tools"]),
    ("png", &["rekindle-tools"]),
    // The allocator is the program's choice, not a library's.
    ("mimalloc", &["rekindle-benches", "rekindle-cli"]),
];

/// Crates that open connections; with `ureq` in the hub there is no need of another, and offline must mean offline.
const NO_SECOND_NETWORK: [&str; 7] = [
    "reqwest",
    "hyper",
    "curl",
    "tokio",
    "hf-hub",
    "attohttpc",
    "isahc",
];

/// All that `xtask` may depend on: it must build in seconds on a clean clone.
const XTASK: [&str; 3] = ["anyhow", "serde_json", "strsim"];

/// Where `unsafe` may stand: the kernels for the CPU backend and for GPUs, the memory map of a tensor file, a setting of the allocator, and
/// how a signal is taken.
const UNSAFE_IN: [&str; 6] = [
    "crates/cli/src/memory.rs",
    "crates/cli/src/signals.rs",
    "crates/nn/src/ops/cube/",
    "crates/nn/src/ops/flex/",
    "crates/nn/src/ops/flex.rs",
    "crates/weights/src/safetensors.rs",
];

#[test]
fn imports_go_downward_only() {
    let metadata = metadata();
    for package in metadata.workspace_packages() {
        let allowed = IMPORTS
            .iter()
            .find(|(name, _)| package.name == *name)
            .map(|(_, allowed)| *allowed);
        let Some(allowed) = allowed else {
            panic!(
                "the package `{}` is not in the import table\nhint: say in IMPORTS what it may know",
                package.name
            );
        };
        for (dependency, _) in dependencies(package).filter(|(_, local)| *local) {
            assert!(
                allowed.contains(&dependency),
                "{} depends on {dependency}, which the import table does not allow",
                package.name
            );
        }
    }
    for (name, _) in IMPORTS {
        let known = metadata
            .workspace_packages()
            .iter()
            .any(|package| package.name == name);
        assert!(
            known,
            "the import table names `{name}`, which is no package of the workspace"
        );
    }
}

#[test]
fn what_a_crate_must_not_know_it_does_not_depend_on() {
    for package in metadata().workspace_packages() {
        let name = package.name.as_str();
        for (dependency, _) in dependencies(package) {
            if let Some((_, users)) = ONLY_IN.iter().find(|(only, _)| *only == dependency) {
                assert!(
                    users.contains(&name),
                    "{name} depends on {dependency}; only {} may",
                    users.join(", ")
                );
            }
            assert!(
                !NO_SECOND_NETWORK.contains(&dependency),
                "{name} depends on {dependency}; downloads go through hub"
            );
            let in_xtask = name == "xtask" && !XTASK.contains(&dependency);
            assert!(
                !in_xtask,
                "xtask depends on {dependency}; it stays at {}",
                XTASK.join(", ")
            );
        }
    }
}

/// A patch release of Burn may change numerics, and its parts only fit together at one version.
#[test]
fn burn_is_pinned() {
    let mut pinned = 0;
    for package in metadata().workspace_packages() {
        for dependency in package
            .dependencies
            .iter()
            .filter(|dependency| is_burn(&dependency.name))
        {
            let requirement = dependency.req.to_string();
            assert!(
                requirement.starts_with('='),
                "{} requires {} {requirement}; pin it with `=`",
                package.name,
                dependency.name
            );
            assert!(
                !dependency.uses_default_features,
                "{} takes {} with default features; they turn fusion on for GPU backends",
                package.name, dependency.name
            );
            pinned += 1;
        }
    }
    assert!(
        pinned > 0,
        "no package requires Burn: this test looks at nothing"
    );
}

/// Burn 0.21's autotuning takes products that read past their operands (cubek 0.2.0: two stages at a time, given an odd number), and
/// with fusion rows that are wrong (tracel-ai/burn 5122). Neither is compiled in: then that choice is out of reach.
#[test]
fn burn_neither_tunes_nor_fuses() {
    let wrong = |feature: &str| {
        ["autotune", "fusion", "default"]
            .iter()
            .any(|name| feature == *name || feature.ends_with(&format!("/{name}")))
    };
    let mut seen = 0;
    for package in metadata().workspace_packages() {
        for dependency in &package.dependencies {
            let name = dependency.name.as_str();
            if !is_burn(name) && !name.starts_with("cube") {
                continue;
            }
            seen += 1;
            assert!(
                !dependency.uses_default_features,
                "{}: {name} with its default features",
                package.name
            );
            let found = dependency.features.iter().find(|feature| wrong(feature));
            assert_eq!(found, None, "{}: a feature of {name}", package.name);
        }
        let parts = package.features.values().flatten();
        let of_burn = |part: &&String| is_burn(part.split(['/', '?']).next().unwrap_or_default());
        let found = parts.filter(of_burn).find(|part| wrong(part));
        assert_eq!(found, None, "{}: a feature", package.name);
    }
    assert!(seen > 5, "the dependencies are read");
}

#[test]
fn versions_and_lints_come_from_the_workspace() {
    let metadata = metadata();
    for package in metadata.workspace_packages() {
        let manifest = package.manifest_path.as_std_path();
        let text = read(manifest);
        let table: toml::Table = text
            .parse()
            .unwrap_or_else(|error| panic!("{}: {error}", manifest.display()));
        let faults = not_inherited(&table);
        assert!(
            faults.is_empty(),
            "{}: write `.workspace = true` for {}",
            manifest.display(),
            faults.join(", ")
        );
    }
}

#[test]
fn sources_keep_the_rules() {
    let root = root();
    let files: Vec<PathBuf> = ["crates", "xtask", "tests", "benches", "tools"]
        .iter()
        .flat_map(|folder| rust_files(&root.join(folder)))
        .collect();
    assert!(
        files.len() > 20,
        "only {} source files found under {}",
        files.len(),
        root.display()
    );
    let mut faults = String::new();
    for file in files {
        let path = file
            .strip_prefix(&root)
            .unwrap_or(&file)
            .to_string_lossy()
            .replace('\\', "/");
        for (line, fault) in source_faults(&path, &read(&file)) {
            faults += &format!("{path}:{line}: {fault}\n");
        }
    }
    assert!(faults.is_empty(), "\n{faults}");
}

/// The rules above can be broken, and then they are seen to be.
#[test]
fn broken_rules_are_seen() {
    let elsewhere = "crates/data/src/lib.rs";
    let cases: [(&str, String, &[usize]); 12] = [
        (elsewhere, "//! Purpose.\nfn f() {}\n".into(), &[]),
        (elsewhere, "use a::b;\n//! Purpose.\n".into(), &[1]),
        (elsewhere, String::new(), &[1]),
        (elsewhere, format!("//! P.\nfn f() {{ {} }}\n", concat!("to", "do!()")), &[2]),
        (elsewhere, format!("//! P.\n\n// {} later\n", concat!("FIX", "ME")), &[3]),
        (elsewhere, concat!("//! P.\nlet x = un", "safe { y };\n").into(), &[2]),
        ("crates/nn/src/ops/flex/gemm.rs", concat!("//! P.\nlet x = un", "safe { y };\n").into(), &[]),
        ("crates/nn/src/ops/gelu.rs", concat!("//! P.\nun", "safe fn f() {}\n").into(), &[2]),
        (elsewhere, concat!("//! P.\n#[un", "safe(no_mangle)]\n").into(), &[2]),
        (elsewhere, concat!("//! P.\nprintln!(\"skip", "ped: it is not here\");\n").into(), &[2]),
        (elsewhere, concat!("//! P.\n#[test]\n#[ig", "nore]\nfn f() {}\n").into(), &[3]),
        (elsewhere, "//! No unsafe code.\n#![deny(unsafe_code)]\nlet s = \"an unsafe entry\"; // unsafe {\n".into(), &[]),
    ];
    for (path, text, lines) in cases {
        let found: Vec<usize> = source_faults(path, &text)
            .into_iter()
            .map(|(line, _)| line)
            .collect();
        assert_eq!(found, lines, "{path}: {text}");
    }

    let manifest = |text: &str| not_inherited(&text.parse().expect("TOML"));
    let package = "[package]\nversion.workspace = true\nedition.workspace = true\nrust-version.workspace = true\n\
                   license.workspace = true\npublish.workspace = true\n[lints]\nworkspace = true\n";
    assert_eq!(manifest(package), Vec::<String>::new());
    assert_eq!(
        manifest(&package.replace("edition.workspace = true", "edition = \"2024\"")),
        ["package.edition"]
    );
    assert_eq!(
        manifest(&package.replace("[lints]\nworkspace = true\n", "")),
        ["lints"]
    );
    assert_eq!(
        manifest(&format!("{package}[dependencies]\ncsv = \"1\"\n")),
        ["dependencies.csv"]
    );
    let for_a_platform =
        format!("{package}[target.'cfg(unix)'.dev-dependencies]\nlibc = {{ version = \"1\" }}\n");
    assert_eq!(
        manifest(&for_a_platform),
        ["target.cfg(unix).dev-dependencies.libc"]
    );
}

/// What a manifest says for itself that it should take from the workspace.
fn not_inherited(manifest: &toml::Table) -> Vec<String> {
    let inherits = |value: Option<&toml::Value>| {
        value.and_then(|value| value.get("workspace")?.as_bool()) == Some(true)
    };
    let package = manifest.get("package");
    let mut faults = Vec::new();
    for key in ["version", "edition", "rust-version", "license", "publish"] {
        if !inherits(package.and_then(|package| package.get(key))) {
            faults.push(format!("package.{key}"));
        }
    }
    if !inherits(manifest.get("lints")) {
        faults.push("lints".to_owned());
    }
    let targets = manifest
        .get("target")
        .and_then(toml::Value::as_table)
        .into_iter()
        .flatten();
    let targets = targets
        .filter_map(|(target, table)| Some((format!("target.{target}."), table.as_table()?)));
    for (prefix, table) in targets.chain([(String::new(), manifest)]) {
        for kind in ["dependencies", "dev-dependencies", "build-dependencies"] {
            for (name, value) in table
                .get(kind)
                .and_then(toml::Value::as_table)
                .into_iter()
                .flatten()
            {
                if !inherits(Some(value)) {
                    faults.push(format!("{prefix}{kind}.{name}"));
                }
            }
        }
    }
    faults
}

/// The lines of a source file that break a rule, and which.
fn source_faults(path: &str, text: &str) -> Vec<(usize, String)> {
    // Put together here, so that this file does not hold what it forbids.
    let unfinished = [
        concat!("to", "do!"),
        concat!("un", "implemented!"),
        concat!("FIX", "ME"),
    ];
    let mut faults = Vec::new();
    if !text.starts_with("//!") {
        faults.push((
            1,
            "a source file opens with `//!` and its purpose".to_owned(),
        ));
    }
    let uncounted = [concat!("println!(\"skip", "ped"), concat!("#[ig", "nore]")];
    let may_be_unsafe = UNSAFE_IN.iter().any(|place| path.starts_with(place));
    for (line, number) in text.lines().zip(1..) {
        if let Some(word) = unfinished.iter().find(|word| line.contains(**word)) {
            faults.push((number, format!("`{word}`: finish it, or leave it out")));
        }
        if uncounted.iter().any(|words| line.contains(words)) {
            let rule = "a test that may not run is `#[ignore = \"needs ...\"]` and asks with `rekindle_tests::need`";
            faults.push((number, rule.to_owned()));
        }
        if !may_be_unsafe && has_unsafe(line) {
            faults.push((
                number,
                format!("unsafe code; it may stand only in {}", UNSAFE_IN.join(", ")),
            ));
        }
    }
    faults
}

/// Whether the keyword opens a block, an item or an attribute on this line.
fn has_unsafe(line: &str) -> bool {
    let code = line.split("//").next().unwrap_or_default();
    code.match_indices("unsafe").any(|(at, word)| {
        let before = code[..at].chars().next_back();
        let after = code[at + word.len()..].trim_start();
        let whole = before.is_none_or(|c| !c.is_alphanumeric() && c != '_');
        whole
            && ["{", "fn ", "impl ", "impl<", "trait ", "extern ", "("]
                .iter()
                .any(|next| after.starts_with(next))
    })
}

fn is_burn(name: &str) -> bool {
    name == "burn" || name.starts_with("burn-")
}

/// The names of what a package is built from, and whether each is of this workspace. What only its tests use is left out.
fn dependencies(package: &Package) -> impl Iterator<Item = (&str, bool)> {
    let built = package
        .dependencies
        .iter()
        .filter(|dependency| dependency.kind != DependencyKind::Development);
    built.map(|dependency| (dependency.name.as_str(), dependency.path.is_some()))
}

/// What the manifests declare; nothing is resolved, so nothing has to be downloaded.
fn metadata() -> Metadata {
    let mut command = MetadataCommand::new();
    command.manifest_path(root().join("Cargo.toml")).no_deps();
    command
        .exec()
        .unwrap_or_else(|error| panic!("cargo metadata: {error}"))
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .map(Path::to_owned)
        .expect("tests/ lies in the workspace")
}

fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let Ok(entries) = folder.read_dir() else {
        return files;
    };
    let mut paths: Vec<PathBuf> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .collect();
    paths.sort();
    for path in paths {
        if path.is_dir() && path.file_name().is_some_and(|name| name != "target") {
            files.extend(rust_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}
