//! Sets of pictures: what is found, what is refused and how, what it costs; batches and what is random in them.
#![allow(clippy::unwrap_used)]

use rekindle_data::image::{
    Augment, Draw, ImageLoader, ImageSet, Interpolation, Mix, Picture, Preprocess, ResizedCrop,
    image_parts, read_images, read_picture, thumbnail,
};
use rekindle_data::{
    Fractions, LabelMap, Limit, OnBad, ReadOptions, Split, TargetEncoder, TargetKind, Targets,
    split,
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
    let parts = image_parts(folder.path());
    assert_eq!(parts.train, folder.path().join("train"));
    assert_eq!(parts.validation, Some(folder.path().join("val")));
    assert_eq!(parts.test, None);
    assert_eq!(image_parts(&parts.train).train, parts.train);
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
    assert_eq!(read.columns[0].name, "tags");
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
        "data.on_bad_example = \"skip\"",
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
fn a_file_that_breaks_off_behind_its_header_is_named_when_it_is_read() {
    let folder = two_classes();
    let jpeg = fs::read(golden("progressive.jpg")).unwrap();
    let broken = folder.path().join("b/broken.png");
    fs::write(&broken, &fs::read(golden("rgb.png")).unwrap()[..900]).unwrap();
    fs::write(folder.path().join("a/short.jpg"), &jpeg[..jpeg.len() / 2]).unwrap();
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
    assert!(refused(one.path()).contains("expected at least two classes"));
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
