//! Tells the program which commit it is built of. Without git or a checkout it does without.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// Digits of a commit that are shown.
const DIGITS: usize = 9;

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    let Some(git) = git_folder() else { return };
    watch(&git.join("HEAD"));
    let Some(commit) = commit(&git) else { return };
    println!("cargo:rustc-env=REKINDLE_COMMIT={}", &commit[..DIGITS]);
    if let Some(date) = date(&commit) {
        println!("cargo:rustc-env=REKINDLE_COMMIT_DATE={date}");
    }
}

/// The folder of this checkout's HEAD: `.git`, or where the file of that name points to.
fn git_folder() -> Option<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let git = root.join(".git");
    match git.is_dir() {
        true => Some(git),
        false => {
            let text = fs::read_to_string(&git).ok()?;
            Some(root.join(text.strip_prefix("gitdir:")?.trim()))
        }
    }
}

/// The commit that HEAD names, itself or by a branch.
fn commit(git: &Path) -> Option<String> {
    let head = fs::read_to_string(git.join("HEAD")).ok()?;
    let commit = match head.trim().strip_prefix("ref: ") {
        None => head.trim().to_owned(),
        Some(branch) => {
            // Branches of a worktree lie with the repository it belongs to.
            let common = fs::read_to_string(git.join("commondir"));
            let common = common.map_or(git.to_owned(), |path| git.join(path.trim()));
            let file = common.join(branch);
            let packed = common.join("packed-refs");
            watch(&file);
            watch(&packed);
            match fs::read_to_string(&file) {
                Ok(commit) => commit.trim().to_owned(),
                Err(_) => fs::read_to_string(&packed)
                    .ok()?
                    .lines()
                    .find_map(|line| line.strip_suffix(branch)?.strip_suffix(' '))?
                    .to_owned(),
            }
        }
    };
    let is_commit = commit.len() > DIGITS && commit.chars().all(|c| c.is_ascii_hexdigit());
    is_commit.then_some(commit)
}

/// The day of the commit; `None` where git is not installed, or does not know it.
fn date(commit: &str) -> Option<String> {
    let git = Command::new("git")
        .args(["show", "--no-patch", "--format=%cs", commit])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .ok()?;
    let date = String::from_utf8(git.stdout).ok()?.trim().to_owned();
    let is_date = date.len() == 10 && date.chars().all(|c| c.is_ascii_digit() || c == '-');
    (git.status.success() && is_date).then_some(date)
}

/// Builds again when this file changes; one that is not there would be taken as changed each time.
fn watch(file: &Path) {
    if file.is_file() {
        println!("cargo:rerun-if-changed={}", file.display());
    }
}
