//! Golden: pictures of many kinds, decoded and transformed as Pillow and torchvision do it.
#![allow(clippy::unwrap_used)]

use rekindle_data::image::{
    Interpolation, Picture, colour, read_picture,
    transforms::{centre_crop, resize_part, resize_shorter},
};
use std::path::{Path, PathBuf};

/// Files whose decoders round differently than libjpeg-turbo, by their names' parts, with the largest difference allowed:
/// another inverse cosine transform, and another enlargement of chroma that is stored at half the resolution.
const DECODERS: [(&str, u8); 2] = [("subsampled.jpg", 4), (".jpg", 2)];

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/transforms")
}

/// The largest difference of two pictures, and where.
fn difference(found: &Picture, expected: &Picture) -> (u8, usize) {
    assert_eq!(
        (found.width, found.height),
        (expected.width, expected.height)
    );
    found
        .pixels
        .iter()
        .zip(&expected.pixels)
        .map(|(a, b)| a.abs_diff(*b))
        .enumerate()
        .fold(
            (0, 0),
            |most, (i, d)| if d > most.0 { (d, i) } else { most },
        )
}

fn apply(picture: &Picture, op: &str, args: &[f64]) -> Picture {
    let own = || picture.clone();
    let between = |op: &str| match op.ends_with("bicubic") {
        true => Interpolation::Bicubic,
        false => Interpolation::Bilinear,
    };
    let by = args.first().copied().unwrap_or(0.0);
    use colour::Operation;
    match op {
        "bilinear" | "bicubic" => centre_crop(&resize_shorter(picture, 28, between(op)), 24),
        "part_bilinear" | "part_bicubic" => {
            let part = [0, 1, 2, 3].map(|i| args[i] as usize);
            resize_part(picture, part, 24, 24, between(op))
        }
        "nearest" => {
            let whole = [0, 0, picture.width, picture.height];
            resize_part(picture, whole, 24, 24, Interpolation::Nearest)
        }
        "pad_crop" => centre_crop(picture, by as usize),
        "mirrored" => own().mirrored(),
        "upside_down" => own().upside_down(),
        "brightness" => colour::brightness(own(), by as f32),
        "contrast" => colour::contrast(own(), by as f32),
        "saturation" => colour::saturation(own(), by as f32),
        "hue" => colour::hue(own(), by),
        "sharpness" => colour::sharpness(picture, by as f32),
        "posterize" => colour::posterize(own(), by as u32),
        "solarize" => colour::solarize(own(), by),
        "autocontrast" => colour::autocontrast(own()),
        "equalize" => colour::equalize(own()),
        "shear_x" => Operation::ShearX(by).apply(picture),
        "shear_y" => Operation::ShearY(by).apply(picture),
        "translate_x" => Operation::TranslateX(by).apply(picture),
        "translate_y" => Operation::TranslateY(by).apply(picture),
        "rotate" => Operation::Rotate(by).apply(picture),
        other => panic!("no operation {other}"),
    }
}

#[test]
fn pictures_are_those_of_pillow_and_torchvision() {
    let json = std::fs::read_to_string(folder().join("expected.json")).unwrap();
    let expected: serde_json::Value = serde_json::from_str(&json).unwrap();
    let bytes = std::fs::read(folder().join("expected.bin")).unwrap();
    let mut decoded = Picture::filled(0, 0, [0; 3]);
    let mut failures = Vec::new();
    let pieces = expected["pieces"].as_array().unwrap();
    assert!(pieces.len() > 100, "{}", pieces.len());
    for piece in pieces {
        let number = |key: &str| piece[key].as_u64().unwrap() as usize;
        let (width, height, at) = (number("width"), number("height"), number("at"));
        let reference = Picture {
            width,
            height,
            pixels: bytes[at..at + width * height * 3].to_vec(),
        };
        let (name, op) = (
            piece["picture"].as_str().unwrap(),
            piece["op"].as_str().unwrap(),
        );
        let args: Vec<f64> = piece["args"]
            .as_array()
            .unwrap()
            .iter()
            .map(|v| v.as_f64().unwrap())
            .collect();
        let (found, most) = if op == "decode" {
            // What follows starts from Pillow's pixels, so that a decoder's rounding is judged once.
            decoded = reference.clone();
            let most = DECODERS
                .iter()
                .find_map(|(part, most)| name.contains(part).then_some(*most))
                .unwrap_or(1);
            (
                read_picture(&folder().join("pictures").join(name)).unwrap(),
                most,
            )
        } else {
            if decoded.pixels.is_empty() || name == "rgb.png" {
                decoded = read_picture(&folder().join("pictures").join(name)).unwrap();
            }
            (apply(&decoded, op, &args), 1)
        };
        if (found.width, found.height) != (width, height) {
            failures.push(format!(
                "{name} {op} {args:?}: {} x {} instead of {width} x {height}",
                found.width, found.height
            ));
            continue;
        }
        let (worst, place) = difference(&found, &reference);
        if worst > most {
            failures.push(format!(
                "{name} {op} {args:?}: off by {worst} at byte {place} ({width} x {height})"
            ));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}
