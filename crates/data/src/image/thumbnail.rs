//! Small pictures for a report.

use std::io::Cursor;
use std::path::Path;

use image::codecs::jpeg::JpegEncoder;
use image::{ExtendedColorType, ImageEncoder};

use super::decode::read_picture;
use super::transforms::{Interpolation, resize_part};
use crate::DataError;

/// A picture as a JPEG file whose longer side is at most `side` pixels.
///
/// # Errors
/// As [`read_picture`](super::read_picture).
pub fn thumbnail(path: &Path, side: usize) -> Result<Vec<u8>, DataError> {
    const QUALITY: u8 = 80;
    let picture = read_picture(path)?;
    let longer = picture.width.max(picture.height).max(1);
    let scaled = |length: usize| (length * side.min(longer) / longer).max(1);
    let (width, height) = (scaled(picture.width), scaled(picture.height));
    let whole = [0, 0, picture.width, picture.height];
    let small = resize_part(&picture, whole, width, height, Interpolation::Bilinear);
    let mut bytes = Vec::new();
    JpegEncoder::new_with_quality(Cursor::new(&mut bytes), QUALITY)
        .write_image(
            &small.pixels,
            width as u32,
            height as u32,
            ExtendedColorType::Rgb8,
        )
        .map_err(|error| DataError::Picture {
            path: path.to_owned(),
            reason: format!("no thumbnail can be made of it: {error}"),
        })?;
    Ok(bytes)
}
