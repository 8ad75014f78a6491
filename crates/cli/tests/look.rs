//! `rekindle look`: what it says of examples before a run.
#![allow(clippy::unwrap_used)]

mod support;

use serde_json::Value;
use std::fs;
use support::Dir;

/// Asks of a text in many words, so that its copies and near copies are known.
const LONG: &str = "please send the brown table with the round legs to the new address before the end of the month";

/// Rows for training in which things are wrong, and rows for a test of which two stand in training.
fn faulty() -> Dir {
    let dir = Dir::new();
    let things = [
        "table", "chair", "shelf", "mirror", "carpet", "lamp", "sofa",
    ];
    let mut train = String::from("text,label\n");
    for thing in things {
        train += &format!("I want my money back for the {thing},refund\n");
        train += &format!("when does the parcel with the {thing} arrive,delivery\n");
    }
    train += "I want my money back for the stool,delivery\n";
    train += "Where is my parcel,delivery\nwhere is  my parcel ,delivery\n";
    train += "is anybody there,other\nIs anybody there,refund\n";
    train += &format!("{LONG},delivery\n");
    dir.write("faulty.csv", train);
    let near = LONG.replace("of the month", "of May");
    dir.write(
        "test.csv",
        format!("text,label\nWHERE IS MY PARCEL,delivery\n{near},delivery\nsomething new,refund\n"),
    );
    dir
}

const LOOK: &str = "look faulty.csv --model model --set data.test=test.csv --set data.validation_fraction=0 --set eval.every=never --rows 0";

#[test]
fn faults_of_texts_are_told() {
    let dir = faulty();
    let said = dir.ok(LOOK);
    insta::assert_snapshot!("look_texts", said);
    assert!(!said.contains('\x1b'), "{said}");
}

#[test]
fn json_has_all_of_it() {
    let dir = faulty();
    let said: Value = serde_json::from_str(&dir.ok(&format!("{LOOK} --json"))).unwrap();
    assert_eq!(said["examples"], Value::Array(Vec::new()));
    assert_eq!(said["data"]["splits"][1]["name"], "test");
    assert_eq!(said["spreads"][0]["name"], "length");
    assert_eq!(said["cut"]["max_length"], 64);
    let kinds: Vec<&str> = said["findings"]
        .as_array()
        .unwrap()
        .iter()
        .map(|f| f["kind"].as_str().unwrap())
        .collect();
    for kind in [
        "contradictions",
        "leak",
        "near_leak",
        "duplicates",
        "rare_labels",
        "doubtful_labels",
    ] {
        assert!(kinds.contains(&kind), "{kind}: {kinds:?}");
    }
    let leak = said["findings"]
        .as_array()
        .unwrap()
        .iter()
        .find(|f| f["kind"] == "leak")
        .unwrap();
    assert_eq!(
        (&leak["count"], &leak["warning"]),
        (&1.into(), &true.into())
    );
    assert_eq!(leak["found"][0]["rows"][0]["part"], "test");
}

#[test]
fn what_a_run_would_refuse_is_looked_at_all_the_same() {
    let dir = Dir::new();
    dir.write(
        "torn.csv",
        "text,label\none of them,yes\nno label here\nanother,no\n",
    );
    let said = dir.ok("look torn.csv --model model");
    assert!(
        said.contains("warning: a run stops at these examples as they are: "),
        "{said}"
    );
    assert!(said.contains("torn.csv:3"), "{said}");
    assert!(said.contains("torn.csv:2  ("), "{said}");
    dir.write("plain.csv", "text\nno labels at all\nnone here\n");
    let said = dir.ok("look plain.csv --model model --task text-classification");
    assert!(said.contains("no column looks like the label"), "{said}");
    assert!(said.contains("2 rows"), "{said}");
}

#[test]
fn cut_texts_are_counted_with_what_they_lose() {
    let dir = Dir::new();
    let long = "word ".repeat(200);
    dir.write(
        "long.csv",
        format!("text,label\n{long},a\nshort,b\nbrief,a\nlittle,b\n"),
    );
    let said = dir.ok("look long.csv --model model --rows 0 --set data.max_length=16");
    assert!(
        said.contains("cut at 16 tokens (data.max_length): 1 of 4 rows (25.0 %)"),
        "{said}"
    );
}

#[test]
fn pictures_are_looked_at() {
    let dir = Dir::new();
    dir.pictures();
    let copy = |from: &str, to: &str| {
        fs::copy(
            dir.path(&format!("pictures/{from}")),
            dir.path(&format!("pictures/{to}")),
        )
        .unwrap()
    };
    copy("red/00.png", "blue/odd.png");
    copy("red/01.png", "red/again.png");
    image::RgbImage::from_pixel(12, 60, image::Rgb([9, 200, 9]))
        .save(dir.path("pictures/red/tall.png"))
        .unwrap();
    image::GrayImage::from_pixel(30, 30, image::Luma([9]))
        .save(dir.path("pictures/red/grey.png"))
        .unwrap();
    let said = dir.ok("look pictures --model resnet --rows 1");
    for part in [
        "28 pictures; the model sees the middle 24 x 24",
        "24 x 24 pixels, label blue",
        "shorter side in pixels: 12 to 30",
        "1 picture stands more than once with different labels",
        "more than 3 times as long as wide",
        "smaller than the 24 x 24 pixels",
        "without colours, unlike the others",
        "grey.png (red): 30 x 30",
        "(blue)",
    ] {
        assert!(said.contains(part), "{part}\n{said}");
    }
}

#[test]
fn pictures_of_other_parts_are_the_same_only_byte_by_byte() {
    let dir = Dir::new();
    dir.pictures();
    for (part, shade) in [("train", 10), ("test", 90)] {
        for (class, tint) in [("red", [100, 0, 0]), ("blue", [0, 0, 100])] {
            for i in 0..3u8 {
                // All files are of one length.
                let picture =
                    image::RgbImage::from_pixel(30, 30, image::Rgb(tint.map(|c| c + shade + i)));
                let path = dir.path(&format!("parts/{part}/{class}/{i}.bmp"));
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                picture.save(path).unwrap();
            }
        }
    }
    let look = "look parts --model resnet --rows 0 --set data.validation_fraction=0 --set eval.every=never";
    let said = dir.ok(look);
    assert!(said.contains("6 for training, 6 for test"), "{said}");
    assert!(!said.contains("warning"), "{said}");
    fs::copy(
        dir.path("parts/train/red/1.bmp"),
        dir.path("parts/test/red/9.bmp"),
    )
    .unwrap();
    let said = dir.ok(look);
    assert!(
        said.contains("1 picture of test (14.3 %) stands among the training examples too"),
        "{said}"
    );
}

#[test]
fn numbers_have_a_histogram() {
    let dir = Dir::new();
    let rows: String = (0..40)
        .map(|i| format!("text number {i},{}\n", f64::from(i) / 8.0 - 1.0))
        .collect();
    dir.write("numbers.csv", format!("text,stars\n{rows}"));
    let said = dir.ok("look numbers.csv --model model --rows 0");
    assert!(
        said.contains("stars: -1 to 3.875; a quarter up to"),
        "{said}"
    );
    assert!(!said.contains("a run stops"), "{said}");
}

#[test]
fn a_table_of_texts_is_no_pictures() {
    let dir = Dir::new();
    dir.pictures();
    for line in [
        "look train.csv --model resnet",
        "finetune train.csv --model resnet --dry-run",
        "finetune train.csv --model resnet --task image-classification --dry-run",
    ] {
        let said = dir.refused(line);
        assert!(
            said.contains("train.csv is a file of texts, and ")
                && said.contains("resnet is a model for pictures"),
            "{line}\n{said}"
        );
        assert!(
            said.contains("hint: name a model for texts"),
            "{line}\n{said}"
        );
    }
}
