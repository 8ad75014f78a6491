//! What can be told of the pictures of a set before anything is learned from them: sizes by their headers, files that are
//! the same, and a small grey picture of each, by which pictures that were resized or saved anew are found.

use std::fs::{self, File};
use std::io::{BufReader, Read};
use std::path::Path;

use rayon::prelude::*;
use rekindle_base::rng::mix64;

use super::ImageSet;
use super::decode::{Picture, picture_header};
use super::transforms::{Interpolation, resize_part};
use crate::DataError;

/// Columns and rows of a small grey picture.
const SMALL: [usize; 2] = [9, 8];

/// One picture by its header, and the length of its file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PictureFacts {
    /// Columns, before EXIF turns it.
    pub width: usize,
    /// Rows, before EXIF turns it.
    pub height: usize,
    /// Whether the file has no colours.
    pub grey: bool,
    /// Bytes of the file.
    pub bytes: u64,
}

/// A picture of 9 x 8 grey pixels, and its difference hash ("dHash"): of each pixel whether it is brighter than the one to its
/// right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SmallPicture {
    grey: Vec<u8>,
    hash: u64,
}

impl SmallPicture {
    fn of(picture: &Picture) -> Self {
        let whole = [0, 0, picture.width, picture.height];
        let small = resize_part(picture, whole, SMALL[0], SMALL[1], Interpolation::Bilinear);
        // The luma of ITU-R 601, as Pillow's `convert("L")`.
        let luma = |pixel: &[u8; 3]| {
            let [r, g, b] = pixel.map(u32::from);
            ((r * 299 + g * 587 + b * 114) / 1000) as u8
        };
        let grey: Vec<u8> = small.pixels.as_chunks::<3>().0.iter().map(luma).collect();
        let mut hash = 0;
        for row in grey.chunks_exact(SMALL[0]) {
            for pair in row.windows(2) {
                hash = hash << 1 | u64::from(pair[0] > pair[1]);
            }
        }
        Self { grey, hash }
    }

    /// Whether two pictures look the same but for their size and how they were saved. Pictures of hardly more than one tone
    /// never do: there is nothing to tell them apart by.
    #[must_use]
    pub fn is_like(&self, other: &Self) -> bool {
        const MOST_BITS: u32 = 4;
        const MOST_APART: u32 = 5;
        const FEWEST_TONES: u8 = 24;
        let tones = |grey: &[u8]| {
            let most = grey.iter().max().copied().unwrap_or(0);
            most - grey.iter().min().copied().unwrap_or(0)
        };
        if (self.hash ^ other.hash).count_ones() > MOST_BITS || tones(&self.grey) < FEWEST_TONES {
            return false;
        }
        let pairs = self.grey.iter().zip(&other.grey);
        let apart: u32 = pairs.map(|(a, b)| u32::from(a.abs_diff(*b))).sum();
        apart <= MOST_APART * self.grey.len() as u32
    }
}

impl ImageSet {
    /// What headers and lengths of files show of all pictures.
    ///
    /// # Errors
    /// As [`read_picture`](super::read_picture), as far as headers show it.
    pub fn facts(&self) -> Result<Vec<PictureFacts>, DataError> {
        let facts = |index| {
            let path = self.path(index);
            let ((width, height), grey) = picture_header(&path)?;
            let bytes = fs::metadata(&path).map_err(io(&path))?.len();
            Ok(PictureFacts {
                width,
                height,
                grey,
                bytes,
            })
        };
        (0..self.len()).into_par_iter().map(facts).collect()
    }

    /// A number for the content of each of these pictures: files with the same bytes share it, and hardly any others do.
    ///
    /// # Errors
    /// [`DataError::Io`].
    ///
    /// # Panics
    /// If there are not so many.
    pub fn contents(&self, indices: &[usize]) -> Result<Vec<u64>, DataError> {
        let contents = indices.par_iter();
        contents.map(|&index| content(&self.path(index))).collect()
    }

    /// Small grey pictures of some pictures; none of what cannot be decoded.
    ///
    /// # Panics
    /// If there are not so many.
    #[must_use]
    pub fn small(&self, indices: &[usize]) -> Vec<Option<SmallPicture>> {
        indices
            .par_iter()
            .map(|&index| {
                self.read(index)
                    .ok()
                    .map(|picture| SmallPicture::of(&picture))
            })
            .collect()
    }
}

fn io(path: &Path) -> impl Fn(std::io::Error) -> DataError {
    let path = path.to_owned();
    move |source| DataError::Io {
        path: path.clone(),
        source,
    }
}

/// A hash of a file's bytes.
fn content(path: &Path) -> Result<u64, DataError> {
    let mut file = BufReader::new(File::open(path).map_err(io(path))?);
    let (mut hash, mut bytes) = (0, [0; 8192]);
    loop {
        let read = file.read(&mut bytes).map_err(io(path))?;
        if read == 0 {
            return Ok(hash);
        }
        for chunk in bytes[..read].chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            hash = mix64(hash ^ u64::from_le_bytes(word)).wrapping_add(chunk.len() as u64);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use image::{DynamicImage, RgbImage};

    /// Stripes of different tones, so that a picture has something to be known by.
    fn striped(side: u32, shift: u32) -> RgbImage {
        RgbImage::from_fn(side, side, |x, y| {
            let tone = ((x * 9 / side + shift) * 37 % 200 + y * 8 / side * 5) as u8;
            image::Rgb([tone, tone / 2, 255 - tone])
        })
    }

    #[test]
    fn files_with_the_same_bytes_have_the_same_content() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        striped(36, 0).save(path("a.png")).unwrap();
        striped(36, 1).save(path("b.png")).unwrap();
        fs::copy(path("a.png"), path("c.png")).unwrap();
        DynamicImage::ImageRgb8(striped(36, 0))
            .into_luma8()
            .save(path("d.png"))
            .unwrap();
        let names = ["a.png", "b.png", "c.png", "d.png"].map(path);
        let set = ImageSet::of_files(&names).unwrap();
        let facts = set.facts().unwrap();
        assert_eq!(facts[0], facts[2]);
        let grey: Vec<bool> = facts.iter().map(|facts| facts.grey).collect();
        assert_eq!(grey, [false, false, false, true]);
        assert_eq!((facts[1].width, facts[1].height), (36, 36));
        let contents = set.contents(&[0, 2, 1, 3]).unwrap();
        assert_eq!(contents[0], contents[1]);
        assert_ne!(contents[0], contents[2]);
        assert_ne!(contents[0], contents[3]);
    }

    #[test]
    fn a_picture_that_was_resized_is_known_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        striped(144, 0).save(path("a.png")).unwrap();
        striped(72, 0).save(path("small.jpg")).unwrap();
        striped(144, 3).save(path("other.png")).unwrap();
        RgbImage::from_pixel(30, 30, image::Rgb([9, 9, 9]))
            .save(path("one.png"))
            .unwrap();
        fs::write(path("broken.png"), b"no picture").unwrap();
        let names = ["a.png", "small.jpg", "other.png", "one.png", "broken.png"].map(path);
        let small = ImageSet::of_files(&names).unwrap().small(&[0, 1, 2, 3, 4]);
        let [a, resized, other, one] = [0, 1, 2, 3].map(|i| small[i].as_ref().unwrap());
        assert!(a.is_like(resized) && resized.is_like(a));
        assert!(!a.is_like(other));
        assert!(!one.is_like(one));
        assert!(small[4].is_none());
    }
}
