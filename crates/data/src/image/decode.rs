//! A file of any usual kind to RGB, as Pillow's `convert("RGB")` has it.

use std::fs;
use std::io::{BufRead, BufReader, Cursor, Read, Seek};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use image::{ColorType, DynamicImage, ImageDecoder, ImageError, ImageFormat, ImageReader, Limits};

use super::whole::is_whole;
use crate::DataError;

/// Most memory one picture may take while it is decoded, where the user does not say: a file of a few kB can claim gigapixels.
pub(super) const MOST_BYTES: u64 = 1 << 30;
/// Most memory a colour profile or note inside a PNG may take once it is unpacked.
const MOST_NOTES: u64 = 16 << 20;
/// Pictures that take more than this are decoded one at a time, whatever the number of threads.
const LARGE: u64 = 128 << 20;

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
    read_within(path, MOST_BYTES)
}

/// A picture that takes at most so many bytes while it is decoded.
///
/// # Errors
/// As [`read_picture`].
pub(super) fn read_within(path: &Path, most: u64) -> Result<Picture, DataError> {
    static ONE_LARGE: Mutex<()> = Mutex::new(());
    let bytes = read(path)?;
    let format = format_of(path, &bytes)?;
    check_whole(path, &mut Cursor::new(&bytes), format)?;
    let mut decoder = decoder(path, Cursor::new(bytes.as_slice()), format, most)?;
    let size = check_size(path, &decoder, most)?;
    let _alone = (size > LARGE).then(|| ONE_LARGE.lock().unwrap_or_else(PoisonError::into_inner));
    // A file may lack orientation, or have a broken note of it; neither spoils the picture.
    let orientation = decoder.orientation().ok();
    let mut picture = DynamicImage::from_decoder(decoder).map_err(|error| broken(path, &error))?;
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
    Ok(picture_header(path)?.0)
}

/// Width and height before EXIF turns it, and whether it has no colours, by the file's header alone.
///
/// # Errors
/// As [`read_picture`], as far as the header shows it.
pub(super) fn picture_header(path: &Path) -> Result<((usize, usize), bool), DataError> {
    let (file, format) = open(path)?;
    let decoder = decoder(path, file, format, MOST_BYTES)?;
    let (width, height) = decoder.dimensions();
    let grey = !decoder.color_type().has_color();
    Ok(((width as usize, height as usize), grey))
}

/// Width and height of a picture whose file is whole and not too large, as far as can be told without decoding it.
///
/// # Errors
/// As [`read_picture`].
pub(super) fn check_picture(path: &Path, most: u64) -> Result<(usize, usize), DataError> {
    let (mut file, format) = open(path)?;
    check_whole(path, &mut file, format)?;
    let decoder = decoder(path, file, format, most)?;
    check_size(path, &decoder, most)?;
    let (width, height) = decoder.dimensions();
    Ok((width as usize, height as usize))
}

fn open(path: &Path) -> Result<(BufReader<fs::File>, ImageFormat), DataError> {
    const LONGEST_MARK: usize = 64;
    let io = |source| DataError::Io {
        path: path.to_owned(),
        source,
    };
    let mut file = BufReader::new(fs::File::open(path).map_err(io)?);
    let mut start = Vec::new();
    (&mut file)
        .take(LONGEST_MARK as u64)
        .read_to_end(&mut start)
        .map_err(io)?;
    file.rewind().map_err(io)?;
    let format = format_of(path, &start)?;
    Ok((file, format))
}

fn check_whole(
    path: &Path,
    file: &mut (impl Read + Seek),
    format: ImageFormat,
) -> Result<(), DataError> {
    let whole = is_whole(file, format).and_then(|whole| file.rewind().map(|()| whole));
    match whole {
        Ok(true) => Ok(()),
        Ok(false) => Err(DataError::Picture {
            path: path.to_owned(),
            reason: "not a whole picture: its end is missing".to_owned(),
        }),
        Err(source) => Err(DataError::Io {
            path: path.to_owned(),
            source,
        }),
    }
}

fn decoder<'a>(
    path: &Path,
    file: impl BufRead + Seek + 'a,
    format: ImageFormat,
    most: u64,
) -> Result<impl ImageDecoder + 'a, DataError> {
    let mut reader = ImageReader::with_format(file, format);
    let mut limits = Limits::default();
    limits.max_alloc = Some(match format {
        // The limit is that of notes alone.
        ImageFormat::Png => MOST_NOTES,
        _ => most,
    });
    reader.limits(limits);
    reader.into_decoder().map_err(|error| broken(path, &error))
}

/// Bytes that the picture takes while it is decoded: as the file has it, and as RGB.
fn check_size(path: &Path, decoder: &impl ImageDecoder, most: u64) -> Result<u64, DataError> {
    let (width, height) = decoder.dimensions();
    let rgb = match decoder.color_type() {
        ColorType::Rgb8 => 0,
        _ => u64::from(width)
            .saturating_mul(u64::from(height))
            .saturating_mul(3),
    };
    let takes = decoder.total_bytes().saturating_add(rgb);
    match takes > most {
        true => Err(DataError::Picture {
            path: path.to_owned(),
            reason: format!(
                "{width} x {height} pixels take {takes} bytes while they are decoded; at most {most} are allowed (images.max_bytes)"
            ),
        }),
        false => Ok(takes),
    }
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

/// The format of a picture by its first bytes.
fn format_of(path: &Path, bytes: &[u8]) -> Result<ImageFormat, DataError> {
    let other = image::guess_format(bytes).ok();
    if let Some(format) = other.filter(|&format| is_read(format)) {
        return Ok(format);
    }
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
