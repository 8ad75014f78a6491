//! The repository's own datasets, made with the pip and the index of this machine. Only on request, as they need a network:
//! `REKINDLE_TEST_PIP=1`.

use std::fs;
use std::path::Path;

use rekindle_hub::{Hub, NoProgress};
use rekindle_tests::{Need, need};

#[test]
#[ignore = "needs pip and a package index: REKINDLE_TEST_PIP=1 cargo xtask test"]
fn icons_are_made_to_the_cards_digest() {
    if need(Need::Python, rekindle_tests::asked_for("REKINDLE_TEST_PIP")).is_none() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let datasets = Path::new(env!("CARGO_MANIFEST_DIR")).join("../datasets");
    let hub = Hub::from_env()
        .cache(dir.path())
        .dataset_dirs(vec![datasets]);
    let made = rekindle_tools::make(&hub, "icons", &NoProgress).unwrap();
    for (split, dir) in &made {
        assert_eq!(fs::read_dir(dir).unwrap().count(), 22, "{split}");
    }
    let found = hub.offline(true).dataset("icons", &NoProgress).unwrap();
    assert_eq!(found.files, made);
}
