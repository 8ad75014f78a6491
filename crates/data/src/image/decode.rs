//! A file of any usual kind to RGB, as Pillow's `convert("RGB")` has it.

use std::fs;
use std::io::Cursor;
use std::path::Path;

use image::{DynamicImage, ImageDecoder, ImageError, ImageFormat, ImageReader, Limits};

use crate::DataError;

/// Most memory one picture may take, decoded: a file of a few kB can claim gigapixels.
const MOST_BYTES: u64 = 1 << 30;

/// A picture in RGB, 8 bits a channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Picture {
    /// Columns.
    pub width: usize,
    /// Rows.
    pub height: usize,
    /// `[height, width, 3]`
    pub pixels: Vec<u8>,
}

impl Picture {
    /// One colour.
    #[must_use]
    pub fn filled(width: usize, height: usize, colour: [u8; 3]) -> Self {
        Self {
            width,
            height,
            pixels: colour.repeat(width * height),
        }
    }

    /// A pixel.
    #[must_use]
    pub fn at(&self, x: usize, y: usize) -> [u8; 3] {
        let from = (y * self.width + x) * 3;
        [
            self.pixels[from],
            self.pixels[from + 1],
            self.pixels[from + 2],
        ]
    }

    /// The part of `width x height` at (left, top), black beyond the edges.
    #[must_use]
    pub fn crop(&self, left: isize, top: isize, width: usize, height: usize) -> Self {
        let mut part = Self::filled(width, height, [0; 3]);
        let first = (-left).clamp(0, width as isize) as usize;
        let last = (self.width as isize - left).clamp(first as isize, width as isize) as usize;
        for row in 0..height {
            let from = top + row as isize;
            if (0..self.height as isize).contains(&from) && last > first {
                let from = (from as usize * self.width + (left + first as isize) as usize) * 3;
                let to = (row * width + first) * 3;
                let count = (last - first) * 3;
                part.pixels[to..to + count].copy_from_slice(&self.pixels[from..from + count]);
            }
        }
        part
    }

    /// Left and right exchanged.
    #[must_use]
    pub fn mirrored(mut self) -> Self {
        for row in self.pixels.chunks_exact_mut(self.width.max(1) * 3) {
            row.as_chunks_mut::<3>().0.reverse();
        }
        self
    }

    /// Top and bottom exchanged.
    #[must_use]
    pub fn upside_down(&self) -> Self {
        let rows = self.pixels.chunks_exact(self.width.max(1) * 3);
        Self {
            pixels: rows.rev().flatten().copied().collect(),
            ..*self
        }
    }
}

/// Reads a JPEG, PNG, WebP, GIF (its first frame) or BMP file; its content says which, not its name. Turned as EXIF says;
/// transparency is dropped, 16 bits become the upper 8.
///
/// # Errors
/// [`DataError::Io`], or [`DataError::Picture`] for what is no picture, cut off, or too large.
pub fn read_picture(path: &Path) -> Result<Picture, DataError> {
    let bytes = read(path)?;
    let broken = |error: ImageError| broken(path, &error);
    let mut reader = reader(path, &bytes)?;
    let mut limits = Limits::default();
    limits.max_alloc = Some(MOST_BYTES);
    reader.limits(limits);
    let mut decoder = reader.into_decoder().map_err(broken)?;
    let (width, height) = decoder.dimensions();
    if u64::from(width) * u64::from(height) * 3 > MOST_BYTES {
        return Err(DataError::Picture {
            path: path.to_owned(),
            reason: format!("{width} x {height} pixels are more than fit into 1 GiB"),
        });
    }
    // A file may lack orientation, or have a broken note of it; neither spoils the picture.
    let orientation = decoder.orientation().ok();
    let mut picture = DynamicImage::from_decoder(decoder).map_err(broken)?;
    if let Some(orientation) = orientation {
        picture.apply_orientation(orientation);
    }
    Ok(rgb(picture))
}

/// Width and height by the file's header alone, before EXIF turns it.
///
/// # Errors
/// As [`read_picture`], as far as the header shows it.
pub fn picture_size(path: &Path) -> Result<(usize, usize), DataError> {
    let file = fs::File::open(path).map_err(|source| DataError::Io {
        path: path.to_owned(),
        source,
    })?;
    let reader = ImageReader::new(std::io::BufReader::new(file))
        .with_guessed_format()
        .map_err(|source| DataError::Io {
            path: path.to_owned(),
            source,
        })?;
    if !reader.format().is_some_and(is_read) {
        // Read whole, for a message that says what it is.
        return self::reader(path, &read(path)?).map(|_| (0, 0));
    }
    let (width, height) = reader
        .into_dimensions()
        .map_err(|error| broken(path, &error))?;
    Ok((width as usize, height as usize))
}

fn read(path: &Path) -> Result<Vec<u8>, DataError> {
    fs::read(path).map_err(|source| DataError::Io {
        path: path.to_owned(),
        source,
    })
}

/// Whether pictures of a format are read here.
fn is_read(format: ImageFormat) -> bool {
    use ImageFormat::{Bmp, Gif, Jpeg, Png, WebP};
    matches!(format, Bmp | Gif | Jpeg | Png | WebP)
}

fn reader<'a>(path: &Path, bytes: &'a [u8]) -> Result<ImageReader<Cursor<&'a [u8]>>, DataError> {
    let reader = ImageReader::new(Cursor::new(bytes))
        .with_guessed_format()
        .map_err(|source| DataError::Io {
            path: path.to_owned(),
            source,
        })?;
    if reader.format().is_some_and(is_read) {
        return Ok(reader);
    }
    let other = reader.format();
    let found = match bytes {
        _ if other.is_some() => other.map_or_else(String::new, |f| format!("{f:?}").to_uppercase()),
        [] => "an empty file".to_owned(),
        bytes if bytes.starts_with(b"<") => {
            "markup, probably a web page that was saved instead".to_owned()
        }
        bytes if bytes.get(4..12) == Some(b"ftypavif") => "AVIF".to_owned(),
        bytes if bytes.get(4..8) == Some(b"ftyp") => "HEIF or another film format".to_owned(),
        bytes => format!(
            "bytes that begin with {:02x?}",
            &bytes[..bytes.len().min(4)]
        ),
    };
    Err(DataError::Picture {
        path: path.to_owned(),
        reason: format!("expected JPEG, PNG, WebP, GIF or BMP, found {found}"),
    })
}

fn broken(path: &Path, error: &ImageError) -> DataError {
    DataError::Picture {
        path: path.to_owned(),
        reason: format!("not a whole picture: {error}"),
    }
}

fn rgb(picture: DynamicImage) -> Picture {
    let (width, height) = (picture.width() as usize, picture.height() as usize);
    let high = |values: Vec<u16>, channels: usize| -> Vec<u8> {
        values
            .chunks_exact(channels)
            .flat_map(|pixel| match pixel {
                [r, g, b, ..] => [r, g, b].map(|v| (v >> 8) as u8),
                _ => [(pixel[0] >> 8) as u8; 3],
            })
            .collect()
    };
    let low = |values: Vec<u8>, channels: usize| -> Vec<u8> {
        values
            .chunks_exact(channels)
            .flat_map(|pixel| match pixel {
                [r, g, b, ..] => [*r, *g, *b],
                _ => [pixel[0]; 3],
            })
            .collect()
    };
    let pixels = match picture {
        DynamicImage::ImageRgb8(image) => image.into_raw(),
        DynamicImage::ImageLuma8(image) => low(image.into_raw(), 1),
        DynamicImage::ImageLumaA8(image) => low(image.into_raw(), 2),
        DynamicImage::ImageRgba8(image) => low(image.into_raw(), 4),
        DynamicImage::ImageLuma16(image) => high(image.into_raw(), 1),
        DynamicImage::ImageLumaA16(image) => high(image.into_raw(), 2),
        DynamicImage::ImageRgb16(image) => high(image.into_raw(), 3),
        DynamicImage::ImageRgba16(image) => high(image.into_raw(), 4),
        other => other.to_rgb8().into_raw(),
    };
    Picture {
        width,
        height,
        pixels,
    }
}
