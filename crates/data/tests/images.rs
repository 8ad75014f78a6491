//! Sets of pictures: what is found, what is refused and how, what it costs; batches and what is random in them.
#![allow(clippy::unwrap_used)]

use rekindle_data::image::{
    Augment, Draw, ImageLoader, ImageSet, Interpolation, Mix, Picture, Preprocess, ResizedCrop,
    image_parts, read_images, read_picture, thumbnail,
};
use rekindle_data::{
    Fractions, Input, LabelMap, Limit, OnBad, ReadOptions, Split, TargetEncoder, TargetKind,
    Targets, read_examples, split,
};
use std::fs;
use std::path::{Path, PathBuf};

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../tests/golden/transforms/pictures")
        .join(name)
}

fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (to, from) in files {
        let path = folder.path().join(to);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::copy(golden(from), path).unwrap();
    }
    folder
}

fn two_classes() -> tempfile::TempDir {
    folder(&[
        ("a/1.png", "rgb.png"),
        ("a/2.jpg", "baseline.jpg"),
        ("a/deep/3.webp", "lossy.webp"),
        ("b/1.png", "grey.png"),
        ("b/2.gif", "still.gif"),
        ("b/.hidden.png", "rgb.png"),
    ])
}

fn skipping() -> ReadOptions {
    ReadOptions {
        on_bad_example: OnBad::Skip,
        ..ReadOptions::default()
    }
}

fn refused(path: &Path) -> String {
    let error = read_images(path, &ReadOptions::default()).unwrap_err();
    error.to_string()
}

fn preprocess() -> Preprocess {
    Preprocess {
        resize: 28,
        crop: 24,
        interpolation: Interpolation::Bilinear,
        mean: [0.5; 3],
        std: [0.25; 3],
    }
}

fn loader(set: &ImageSet, augment: Augment, on_bad: OnBad, budget: usize) -> ImageLoader {
    let labels = LabelMap::from_names(set.classes().to_vec()).unwrap();
    let targets = set.targets(&labels.into()).unwrap();
    ImageLoader::new(
        set.clone(),
        targets,
        preprocess(),
        augment,
        on_bad,
        7,
        budget,
    )
}

fn everything() -> Augment {
    Augment {
        resized_crop: Some(ResizedCrop::default()),
        horizontal_flip: 0.5,
        vertical_flip: 0.5,
        colour_jitter: Some([0.4, 0.4, 0.4, 0.1]),
        rand_augment: Some((2, 9)),
        trivial_augment: true,
        erasing: 0.5,
        ..Augment::default()
    }
}

#[test]
fn a_folder_is_a_class() {
    let folder = two_classes();
    fs::write(folder.path().join("a/notes.txt"), "not a picture").unwrap();
    let read = read_images(folder.path(), &ReadOptions::default()).unwrap();
    assert_eq!(read.set.classes(), ["a", "b"]);
    let names: Vec<&str> = (0..read.set.len()).map(|i| read.set.name(i)).collect();
    assert_eq!(
        names,
        ["a/1.png", "a/2.jpg", "a/deep/3.webp", "b/1.png", "b/2.gif"]
    );
    assert!(read.notes[0].contains("1 files"), "{:?}", read.notes);
    let labels = LabelMap::from_names(vec!["b".into(), "a".into()]).unwrap();
    assert_eq!(
        read.set.targets(&labels.into()).unwrap(),
        Targets::Class(vec![1, 1, 1, 0, 0])
    );

    let fractions = Fractions {
        validation: 0.4,
        test: 0.0,
    };
    let Split {
        train,
        validation,
        test,
    } = split(read.set.clone(), fractions, true, 1).unwrap();
    assert_eq!((train.len(), validation.len(), test.len()), (3, 2, 0));
    assert_eq!(
        validation.counts().into_values().collect::<Vec<_>>(),
        [1, 1]
    );
}

#[test]
fn parts_are_found_by_their_usual_names() {
    let folder = folder(&[("train/a/1.png", "rgb.png"), ("val/a/1.png", "rgb.png")]);
    let parts = image_parts(folder.path()).unwrap();
    assert_eq!(parts.train, folder.path().join("train"));
    assert_eq!(parts.validation, Some(folder.path().join("val")));
    assert_eq!(parts.test, None);
    assert_eq!(image_parts(&parts.train).unwrap().train, parts.train);
}

/// Regresses a limit that left pictures of the first class alone.
#[test]
fn a_limit_is_drawn_by_class() {
    let folder = two_classes();
    let limited = |stratify| {
        let options = ReadOptions {
            limit: Some(Limit {
                examples: 2,
                stratify,
                seed: 3,
            }),
            ..ReadOptions::default()
        };
        read_images(folder.path(), &options).unwrap()
    };
    let read = limited(true);
    assert_eq!(read.set.counts().into_values().collect::<Vec<_>>(), [1, 1]);
    assert_eq!(read.hint.counts().into_values().sum::<usize>(), 5);
    assert_eq!(
        limited(false).set.counts().into_keys().collect::<Vec<_>>(),
        ["a"]
    );
}

#[test]
fn a_table_can_give_sets_of_labels_and_a_folder_cannot() {
    let folder = two_classes();
    let table = folder.path().join("list.csv");
    fs::write(
        &table,
        "path,tags\na/1.png,red|big\nb/1.png,\na/2.jpg,big\n",
    )
    .unwrap();
    let options = ReadOptions {
        target: TargetKind::Classes,
        require_label: true,
        ..ReadOptions::default()
    };
    let read = read_images(&table, &options).unwrap();
    assert_eq!(read.label_names, ["big", "red"]);
    assert_eq!(read.columns.unwrap().labels[0].name, "tags");
    let encoder = read
        .set
        .encoder(TargetKind::Classes, &read.label_names)
        .unwrap();
    let targets = read.set.targets(&encoder).unwrap();
    assert_eq!(targets.to_f32(), [1.0, 1.0, 0.0, 0.0, 1.0, 0.0]);
    let batch = ImageLoader::new(
        read.set.clone(),
        targets,
        preprocess(),
        Augment::default(),
        OnBad::Error,
        0,
        0,
    )
    .eval_batch(&[2, 0])
    .unwrap();
    assert_eq!(batch.targets.to_f32(), [1.0, 0.0, 1.0, 1.0]);

    let other = TargetEncoder::from_names(TargetKind::Classes, vec!["big".into()]).unwrap();
    let error = read.set.targets(&other).unwrap_err().to_string();
    assert!(error.contains("list.csv:2: unknown label `red`"), "{error}");
    let error = read_images(folder.path(), &options)
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("folders give each picture one class; expected sets of labels"),
        "{error}"
    );
}

#[test]
fn a_table_names_paths_and_labels() {
    let folder = two_classes();
    let table = folder.path().join("list.csv");
    fs::write(&table, "path,label\na/1.png,x\nb/1.png,y\na/2.jpg,x\n").unwrap();
    let read = read_images(&table, &ReadOptions::default()).unwrap();
    assert_eq!(read.set.classes(), ["x", "y"]);
    assert!(read.set.path(1).ends_with("b/1.png"));
    fs::write(&table, "path,label\na/1.png,x\nb/none.png,y\n").unwrap();
    assert!(
        refused(&table).contains("b/none.png"),
        "{}",
        refused(&table)
    );
}

#[test]
fn what_is_no_picture_is_named_with_the_remedy_or_left_out() {
    let folder = two_classes();
    let jpeg = fs::read(golden("baseline.jpg")).unwrap();
    fs::write(folder.path().join("a/cut.png"), &jpeg[..1]).unwrap();
    fs::write(folder.path().join("a/empty.jpg"), "").unwrap();
    fs::write(folder.path().join("b/page.jpg"), "<html>404</html>").unwrap();
    fs::write(folder.path().join("b/scan.tiff"), b"II*\0more").unwrap();
    fs::copy(
        golden("still.gif"),
        folder.path().join("b/imageNotFound.gif"),
    )
    .unwrap();
    let message = refused(folder.path());
    for part in [
        "5 of 10 pictures cannot be used",
        "a/cut.png: expected JPEG, PNG, WebP, GIF or BMP, found bytes",
        "a/empty.jpg: expected JPEG, PNG, WebP, GIF or BMP, found an empty file",
        "b/page.jpg: expected JPEG, PNG, WebP, GIF or BMP, found markup",
        "b/scan.tiff: expected JPEG, PNG, WebP, GIF or BMP, found TIFF",
        "b/imageNotFound.gif: by its name it stands for a picture that could not be had",
        "--set data.on_bad_example=skip",
    ] {
        assert!(message.contains(part), "{part}: {message}");
    }
    let read = read_images(folder.path(), &skipping()).unwrap();
    assert_eq!((read.set.len(), read.skipped.len()), (5, 5));
    assert!(
        read.notes[0].contains("imageNotFound.gif"),
        "{:?}",
        read.notes
    );
}

#[test]
fn a_file_with_damage_inside_is_named_when_it_is_read() {
    let folder = two_classes();
    let broken = folder.path().join("b/broken.png");
    let mut png = fs::read(golden("rgb.png")).unwrap();
    png[600..900].fill(0x5A);
    fs::write(&broken, png).unwrap();
    let set = read_images(folder.path(), &ReadOptions::default())
        .unwrap()
        .set;
    let all: Vec<usize> = (0..set.len()).collect();
    let strict = loader(&set, Augment::default(), OnBad::Error, 0);
    let message = strict.eval_batch(&all).unwrap_err().to_string();
    assert!(message.contains("not a whole picture"), "{message}");
    let lenient = loader(&set, Augment::default(), OnBad::Skip, 0);
    let batch = lenient.eval_batch(&all).unwrap();
    assert!(lenient.broken().contains_key(&broken));
    assert_eq!(batch.len() + lenient.broken().len(), all.len());
    assert_eq!(batch.pixels.len(), batch.len() * 24 * 24 * 3);
}

#[test]
fn folders_that_cannot_be_learned_from() {
    let empty = tempfile::tempdir().unwrap();
    assert!(refused(empty.path()).contains("expected one folder for each class, found none"));
    let loose = folder(&[("1.png", "rgb.png")]);
    assert!(refused(loose.path()).contains("found none but 1 pictures"));
    let one = folder(&[("a/1.png", "rgb.png")]);
    fs::create_dir(one.path().join("b")).unwrap();
    assert!(refused(one.path()).contains("the class has no pictures"));
    assert!(refused(Path::new("no/such/folder")).contains("no such file"));
}

#[test]
fn a_hundred_thousand_paths_cost_megabytes() {
    // One picture under many names: hard links cost the disk nothing.
    let folder = tempfile::tempdir().unwrap();
    let (files, classes) = (100_000, 10);
    for class in 0..classes {
        let dir = folder.path().join(format!("class-{class}"));
        fs::create_dir(&dir).unwrap();
        let first = dir.join("picture-000000.png");
        fs::copy(golden("one_pixel.png"), &first).unwrap();
        for i in 1..files / classes {
            fs::hard_link(&first, dir.join(format!("picture-{i:06}.png"))).unwrap();
        }
    }
    let before = resident();
    let set = read_images(folder.path(), &ReadOptions::default())
        .unwrap()
        .set;
    let grown = resident().saturating_sub(before);
    assert_eq!(set.len(), files);
    // 25 bytes of path, 8 of its end, 4 of its class; the rest is the allocator's and the lists that were read.
    println!("{files} pictures: {:.1} MB", grown as f64 / 1e6);
    assert!(grown < 60_000_000, "{grown} bytes for {files} pictures");
    let loader = loader(&set, Augment::default(), OnBad::Error, 0);
    assert_eq!(
        loader.eval_batch(&[99_999]).unwrap().targets,
        Targets::Class(vec![9])
    );
}

/// Bytes of memory in use; 0 where the system does not tell.
fn resident() -> usize {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmRSS:"));
    line.and_then(|line| line.split_whitespace().nth(1)?.parse::<usize>().ok())
        .map_or(0, |kib| kib * 1024)
}

#[test]
fn decoded_pictures_are_kept_within_the_budget_and_change_nothing() {
    let folder = two_classes();
    let set = read_images(folder.path(), &ReadOptions::default())
        .unwrap()
        .set;
    let all: Vec<usize> = (0..set.len()).collect();
    let plain = loader(&set, everything(), OnBad::Error, 0);
    let expected = plain.train_batch(&all, 3).unwrap();
    for budget in [0, 9_000, 1 << 20] {
        let keeping = loader(&set, everything(), OnBad::Error, budget);
        for _ in 0..2 {
            assert_eq!(keeping.train_batch(&all, 3).unwrap(), expected);
        }
        assert!(keeping.kept() <= budget, "{} of {budget}", keeping.kept());
        assert_eq!(keeping.kept() > 0, budget > 0);
    }
}

#[test]
fn what_is_random_is_a_function_of_seed_view_and_picture() {
    let folder = two_classes();
    let set = read_images(folder.path(), &ReadOptions::default())
        .unwrap()
        .set;
    let loader = loader(&set, everything(), OnBad::Error, 0);
    let one = |view: u64, order: &[usize]| loader.train_batch(order, view).unwrap();
    let (a, b) = (one(0, &[0, 1, 2]), one(0, &[2, 0, 1]));
    let size = 24 * 24 * 3;
    assert_eq!(a.pixels[..size], b.pixels[size..2 * size]);
    assert_ne!(a.pixels, one(1, &[0, 1, 2]).pixels);
    assert_eq!(
        loader.eval_batch(&[0]).unwrap(),
        loader.eval_batch(&[0]).unwrap()
    );
}

#[test]
fn crops_are_spread_as_torchvision_s() {
    let crop = ResizedCrop::default();
    let (mut area, mut square) = (0.0, 0.0);
    let n = 20_000;
    for i in 0..n {
        let [left, top, width, height] = Draw::new(5, 0, i).resized_crop(500, 400, &crop);
        assert!(left + width <= 500 && top + height <= 400);
        area += (width * height) as f64 / 200_000.0;
        square += f64::from(u8::from(width > height));
    }
    // From 200,000 draws of torchvision's own `get_params` at 500 x 400: mean area 0.454, wider than high 0.573.
    assert!(
        (area / n as f64 - 0.454).abs() < 0.01,
        "{}",
        area / n as f64
    );
    assert!(
        (square / n as f64 - 0.573).abs() < 0.02,
        "{}",
        square / n as f64
    );
    // A panorama has no such part: its middle is taken.
    let [_, top, _, height] = Draw::new(5, 0, 0).resized_crop(9, 1, &crop);
    assert_eq!((top, height), (0, 1));
}

#[test]
fn mixing_keeps_shares() {
    let folder = two_classes();
    let set = read_images(folder.path(), &ReadOptions::default())
        .unwrap()
        .set;
    let loader = loader(&set, Augment::default(), OnBad::Error, 0);
    let plain = loader.eval_batch(&[0, 3, 4]).unwrap();
    let mixed = |mix: Mix, batch: u64| {
        let mut copy = plain.clone();
        copy.mix(mix, 1, 0, batch);
        copy
    };
    assert_eq!(mixed(Mix::default(), 0), plain);
    let up = Mix {
        mixup: 0.2,
        cutmix: 0.0,
    };
    let mut mean = 0.0;
    for batch in 0..2000 {
        let copy = mixed(up, batch);
        let share = copy.mixed.as_ref().unwrap().share;
        assert!((0.0..=1.0).contains(&share));
        mean += share / 2000.0;
        if batch == 0 {
            let one = 24 * 24 * 3;
            let expected =
                share as f32 * plain.pixels[7] + (1.0 - share) as f32 * plain.pixels[2 * one + 7];
            assert!((copy.pixels[7] - expected).abs() < 1e-6);
            assert_eq!(copy.mixed.unwrap().targets, Targets::Class(vec![1, 1, 0]));
        }
    }
    assert!((mean - 0.5).abs() < 0.03, "{mean}");
    let cut = Mix {
        mixup: 0.0,
        cutmix: 1.0,
    };
    for batch in 0..50 {
        let copy = mixed(cut, batch);
        let share = copy.mixed.unwrap().share;
        let one = 24 * 24 * 3;
        let same = (0..one)
            .filter(|&i| copy.pixels[i] == plain.pixels[i])
            .count();
        // Pixels of the other picture may be equal by chance, not different.
        assert!(same as f64 / one as f64 >= share - 1e-9);
    }
}

#[test]
fn thumbnails_are_small_jpegs() {
    let bytes = thumbnail(&golden("strip.png"), 50).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("small");
    fs::write(&path, bytes).unwrap();
    let Picture { width, height, .. } = read_picture(&path).unwrap();
    assert_eq!((width, height), (50, 2));
}

fn parts_of(names: &[&str]) -> Result<[Option<String>; 3], String> {
    let files: Vec<(&str, &str)> = names.iter().map(|&name| (name, "rgb.png")).collect();
    let folder = folder(&files);
    let below = |path: &Path| {
        let below = path.strip_prefix(folder.path()).unwrap();
        below.display().to_string()
    };
    match image_parts(folder.path()) {
        Ok(parts) => {
            Ok([Some(parts.train), parts.validation, parts.test].map(|path| Some(below(&path?))))
        }
        Err(error) => Err(error
            .to_string()
            .replace(&format!("{}/", folder.path().display()), "")),
    }
}

#[test]
fn parts_are_found_in_any_case_and_wherever_they_lie() {
    let all = |train: &str, validation: Option<&str>, test: Option<&str>| {
        Ok([Some(train), validation, test].map(|name| name.map(str::to_owned)))
    };
    for (names, expect) in [
        (
            &["Train/a/1.png", "Test/a/1.png"][..],
            all("Train", None, Some("Test")),
        ),
        (
            &["TRAIN/a/1.png", "VAL/a/1.png"],
            all("TRAIN", Some("VAL"), None),
        ),
        (
            &["training_set/a/1.png", "test_set/a/1.png"],
            all("training_set", None, Some("test_set")),
        ),
        // Archives often hold the folder twice.
        (
            &[
                "seg_train/seg_train/a/1.png",
                "seg_train/seg_train/b/1.png",
                "seg_test/seg_test/a/1.png",
            ],
            all("seg_train/seg_train", None, Some("seg_test/seg_test")),
        ),
        (
            &[
                "images/train/a/1.png",
                "images/valid/a/1.png",
                "labels/x.png",
            ],
            all("images/train", Some("images/valid"), None),
        ),
        (
            &[
                "flowers/data/Training/a/1.png",
                "flowers/data/Testing/a/1.png",
            ],
            all("flowers/data/Training", None, Some("flowers/data/Testing")),
        ),
        (
            &["train.v1/a/1.png", "test.v1/a/1.png"],
            all("train.v1", None, Some("test.v1")),
        ),
        (
            &["trn/a/1.png", "tst/a/1.png"],
            all("trn", None, Some("tst")),
        ),
        (
            &["flowers-train/a/1.png", "flowers-test/a/1.png"],
            all("flowers-train", None, Some("flowers-test")),
        ),
        (
            &["flowersTrain/a/1.png", "flowersVal/a/1.png"],
            all("flowersTrain", Some("flowersVal"), None),
        ),
        (
            &["toy-train/x/1.png", "bullet-train/y/1.png"],
            all("", None, None),
        ),
        // Vehicles have a class of that name, patients one called test.
        (&["bus/1.png", "train/1.png"], all("", None, None)),
        (&["control/1.png", "test/1.png"], all("", None, None)),
        (&["a/1.png", "b/1.png"], all("", None, None)),
    ] {
        assert_eq!(parts_of(names), expect, "{names:?}");
    }
    assert!(
        parts_of(&["train/a/1.png", "Training/a/1.png"])
            .unwrap_err()
            .contains("cannot tell which folder is the training part")
    );
    assert!(
        parts_of(&["val/a/1.png", "test/a/1.png"])
            .unwrap_err()
            .contains("expected a training part, such as `train`, found only")
    );
}

/// Test pictures were trained on, and folders left out, without a word.
#[test]
fn folders_that_may_be_parts_are_told_of() {
    let said = parts_of(&[
        "circle/train/1.png",
        "circle/test/1.png",
        "square/train/1.png",
        "square/test/1.png",
    ]);
    let said = said.unwrap_err();
    assert!(
        said.contains("each class holds the folders `test` and `train`")
            && said.contains("test/circle"),
        "{said}"
    );
    let notes = |names: &[&str]| {
        let files: Vec<(&str, &str)> = names.iter().map(|&name| (name, "rgb.png")).collect();
        image_parts(folder(&files).path()).unwrap().notes.join("\n")
    };
    for (names, words) in [
        (
            &["train/a/1.png", "holdout/a/1.png"][..],
            "left out, beside the training part: `holdout`",
        ),
        (
            &["one/a/1.png", "one/b/1.png", "two/a/1.png", "two/b/1.png"],
            "`one` and `two` are read as classes",
        ),
        (&["train/1.png", "bus/1.png"], "`train` is read as a class"),
    ] {
        let said = notes(names);
        assert!(said.contains(words), "{said}");
    }
    assert_eq!(notes(&["a/1.png", "b/1.png"]), "");
}

/// Ids were learned from as texts, and missing pictures were not there, whatever stood below.
#[test]
fn tables_say_where_their_pictures_are() {
    let folder = folder(&[
        ("pictures/01.png", "rgb.png"),
        ("pictures/02.png", "rgb.png"),
    ]);
    let table = folder.path().join("t.csv");
    let said = |rows: &str, input: Input| {
        fs::write(&table, rows).unwrap();
        let options = ReadOptions {
            input,
            ..ReadOptions::default()
        };
        let said = match input {
            Input::Image => read_images(&table, &options).map(drop),
            _ => read_examples(&table, &options).map(drop),
        };
        said.unwrap_err().to_string()
    };
    let ids = said("picture,label\n01,x\n02,y\n", Input::Text);
    assert!(
        ids.contains("`01` stands for") && ids.contains("pictures/01.png"),
        "{ids}"
    );
    let missing = said("path,label\n01.png,x\nhere/03.png,y\n", Input::Image);
    assert!(
        missing.contains("not there, but") && missing.contains("pictures/01.png is"),
        "{missing}"
    );
    assert!(missing.contains("not there: paths count from"), "{missing}");
}

#[cfg(unix)]
#[test]
fn links_neither_lead_in_circles_nor_change_classes() {
    use std::os::unix::fs::symlink;
    let plain = two_classes();
    let of_plain = read_images(plain.path(), &ReadOptions::default())
        .unwrap()
        .set;
    let read = |path: &Path| read_images(path, &ReadOptions::default());

    // To the folder above, to the class beside it, and to itself.
    symlink("..", plain.path().join("a/up")).unwrap();
    symlink("../b", plain.path().join("a/beside")).unwrap();
    symlink(".", plain.path().join("a/deep/self")).unwrap();
    let found = read(plain.path()).unwrap();
    assert_eq!(found.set.counts(), of_plain.counts());
    assert_eq!(
        found
            .notes
            .iter()
            .filter(|note| note.contains("was not followed"))
            .count(),
        3
    );

    // A class that lies elsewhere.
    let elsewhere = folder(&[("b/1.png", "grey.png"), ("b/2.gif", "still.gif")]);
    let linked = folder(&[("a/1.png", "rgb.png")]);
    symlink(elsewhere.path().join("b"), linked.path().join("b")).unwrap();
    symlink(elsewhere.path(), linked.path().join("b/round")).unwrap();
    assert_eq!(read(linked.path()).unwrap().set.counts()["b"], 2);

    symlink("/not/there", linked.path().join("c")).unwrap();
    assert!(refused(linked.path()).contains("a link to /not/there, which is not there"));
    fs::remove_file(linked.path().join("c")).unwrap();
    symlink("/not/there.png", linked.path().join("a/2.png")).unwrap();
    assert!(refused(linked.path()).contains("2.png: a link to a file that is not there"));
}

/// Decoders fill the rest with grey: what is cut off is found before anything is decoded.
#[test]
fn cut_off_pictures_of_every_format_are_found_by_their_structure() {
    for name in ["baseline.jpg", "rgb.png", "lossy.webp", "still.gif"] {
        let whole = fs::read(golden(name)).unwrap();
        let folder = two_classes();
        let path = folder.path().join("a").join(name);
        for share in [0.5, 0.8, 0.95] {
            let kept = (whole.len() as f64 * share) as usize;
            fs::write(&path, &whole[..kept]).unwrap();
            let message = refused(folder.path());
            assert!(
                message.contains("1 of 6 pictures cannot be used"),
                "{name} {share}: {message}"
            );
            assert!(read_picture(&path).is_err(), "{name} {share}");
        }
        // What stands behind the end does no harm.
        let mut longer = whole.clone();
        longer.resize(whole.len() + 100_000, 0);
        fs::write(&path, &longer).unwrap();
        assert_eq!(
            read_images(folder.path(), &ReadOptions::default())
                .unwrap()
                .set
                .len(),
            6,
            "{name}"
        );
    }
}

#[test]
fn a_part_of_one_class_is_read_and_cannot_be_trained_on() {
    let folder = folder(&[("a/1.png", "rgb.png"), ("a/2.png", "grey.png")]);
    let read = read_images(folder.path(), &ReadOptions::default()).unwrap();
    let labels = LabelMap::from_names(vec!["b".into(), "a".into()]).unwrap();
    assert_eq!(
        read.set.targets(&labels.into()).unwrap(),
        Targets::Class(vec![1, 1])
    );
    let error = read.set.encoder(TargetKind::Class, &[]).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("all 2 examples have the label `a`"),
        "{error}"
    );
    fs::write(
        folder.path().join("t.csv"),
        "image,label\na/1.png,x\na/2.png,x\n",
    )
    .unwrap();
    let read = read_images(&folder.path().join("t.csv"), &ReadOptions::default()).unwrap();
    assert_eq!(read.set.classes(), ["x"]);
}

/// A chunk of a PNG.
fn chunk(name: &[u8; 4], data: &[u8]) -> Vec<u8> {
    let mut checked = name.to_vec();
    checked.extend(data);
    let mut crc = !0u32;
    for byte in &checked {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = (crc >> 1) ^ (0xEDB8_8320 & (crc & 1).wrapping_neg());
        }
    }
    let mut chunk = (data.len() as u32).to_be_bytes().to_vec();
    chunk.extend(checked);
    chunk.extend((!crc).to_be_bytes());
    chunk
}

#[test]
fn a_picture_that_would_fill_the_memory_is_refused_before_it_is_decoded() {
    let folder = two_classes();
    let path = folder.path().join("a/large.png");
    // 18,000 x 18,000 pixels of three times 16 bits.
    let mut png = b"\x89PNG\r\n\x1A\n".to_vec();
    let side = 18_000u32.to_be_bytes();
    png.extend(chunk(
        b"IHDR",
        &[&side[..], &side, &[16, 2, 0, 0, 0]].concat(),
    ));
    png.extend(chunk(b"IDAT", &[0x78, 0x9C, 3, 0, 0, 0, 0, 1]));
    png.extend(chunk(b"IEND", &[]));
    fs::write(&path, png).unwrap();
    let message = refused(folder.path());
    assert!(
        message.contains("18000 x 18000 pixels take 2916000000 bytes while they are decoded; at most 1073741824 are allowed (images.max_bytes)"),
        "{message}"
    );
    assert!(
        read_picture(&path)
            .unwrap_err()
            .to_string()
            .contains("images.max_bytes")
    );
    // A canvas of a GIF that its frame does not fill.
    let mut gif = fs::read(golden("still.gif")).unwrap();
    gif[6..10].copy_from_slice(&[0xFF, 0xFF, 0xFF, 0xFF]);
    fs::remove_file(&path).unwrap();
    fs::write(folder.path().join("a/large.gif"), gif).unwrap();
    assert!(refused(folder.path()).contains("65535 x 65535 pixels"));
    fs::remove_file(folder.path().join("a/large.gif")).unwrap();
    // The bound is the user's.
    let options = ReadOptions {
        max_picture: Some(100),
        ..ReadOptions::default()
    };
    let error = read_images(folder.path(), &options)
        .unwrap_err()
        .to_string();
    assert!(error.contains("5 of 5 pictures cannot be used"), "{error}");
}

/// A file of 34 bytes took 1.8 GB, for its decoder has a picture of its own.
#[test]
fn a_small_webp_is_no_gigapixels() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("small.webp");
    let mut bytes = b"RIFF\x1A\0\0\0WEBPVP8L\x0E\0\0\0\x2F".to_vec();
    let side = 16_383 - 1;
    bytes.extend(u32::to_le_bytes(side | side << 14));
    bytes.resize(34, 0);
    fs::write(&path, bytes).unwrap();
    let message = read_picture(&path).unwrap_err().to_string();
    assert!(
        message.contains("16383 x 16383 pixels take 1878818823 bytes"),
        "{message}"
    );
}

/// A pointer was bytes that begin with [76, 65, 72, 73]; a broken PNG said so in the decoder's own structures.
#[test]
fn what_is_no_picture_is_named_in_words() {
    let folder = tempfile::tempdir().unwrap();
    let said = |name: &str, bytes: &[u8]| {
        let path = folder.path().join(name);
        fs::write(&path, bytes).unwrap();
        read_picture(&path).unwrap_err().to_string()
    };
    let pointer = said(
        "a.png",
        b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n",
    );
    assert!(pointer.contains("found a Git LFS pointer"), "{pointer}");
    let mut png = fs::read(golden("rgb.png")).unwrap();
    let middle = png.len() / 2;
    png[middle..middle + 4].fill(0xAA);
    let broken = said("b.png", &png);
    assert!(!broken.contains(['{', '}']), "{broken}");
}
