//! Whether a picture's file goes to its end, by its structure alone: nothing is decoded, and little is read.
//!
//! Decoders fill what is missing of a JPEG with grey and say nothing, so a cut-off file would be learned from.
//!
//! | format | whole if |
//! |---|---|
//! | JPEG | an end marker stands behind the first scan's header |
//! | PNG | its chunks lead to `IEND` |
//! | WebP | the file is as long as its header says |
//! | GIF | the first frame's blocks end |
//! | BMP | the rows fit behind the header, where they are not packed |

use std::io::{self, Read, Seek, SeekFrom};

use image::ImageFormat;

/// Whether the file is whole, as far as its structure shows; true for other formats.
///
/// # Errors
/// Those of reading; the end of the file is none, for it is the answer.
pub(super) fn is_whole(file: &mut (impl Read + Seek), format: ImageFormat) -> io::Result<bool> {
    let length = file.seek(SeekFrom::End(0))?;
    file.rewind()?;
    let found = match format {
        ImageFormat::Jpeg => jpeg(file, length),
        ImageFormat::Png => png(file),
        ImageFormat::WebP => webp(file, length),
        ImageFormat::Gif => gif(file),
        ImageFormat::Bmp => bmp(file, length),
        _ => Ok(true),
    };
    match found {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        other => other,
    }
}

fn bytes<const N: usize>(file: &mut impl Read) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    file.read_exact(&mut bytes)?;
    Ok(bytes)
}

fn skip(file: &mut impl Seek, count: u64) -> io::Result<()> {
    let count = i64::try_from(count).unwrap_or(i64::MAX);
    file.seek(SeekFrom::Current(count)).map(drop)
}

fn jpeg(file: &mut (impl Read + Seek), length: u64) -> io::Result<bool> {
    const START_OF_SCAN: u8 = 0xDA;
    const TAIL: u64 = 1 << 16;
    skip(file, 2)?;
    // Segments before the first scan say how long they are; thumbnails with end markers of their own lie in them.
    loop {
        let [mark, mut kind] = bytes(file)?;
        if mark != 0xFF {
            // The decoder tells what is wrong.
            return Ok(true);
        }
        while kind == 0xFF {
            [kind] = bytes(file)?;
        }
        if matches!(kind, 0x01 | 0xD0..=0xD8) {
            continue;
        }
        let size = u16::from_be_bytes(bytes(file)?);
        skip(file, u64::from(size.max(2)) - 2)?;
        if kind == START_OF_SCAN {
            break;
        }
    }
    let scan = file.stream_position()?;
    let mut from = scan.max(length.saturating_sub(TAIL));
    loop {
        file.seek(SeekFrom::Start(from))?;
        let mut rest = Vec::new();
        file.read_to_end(&mut rest)?;
        if rest.windows(2).any(|pair| pair == [0xFF, 0xD9]) {
            return Ok(true);
        }
        if from == scan {
            return Ok(false);
        }
        // Something long was put behind the picture.
        from = scan;
    }
}

fn png(file: &mut (impl Read + Seek)) -> io::Result<bool> {
    skip(file, 8)?;
    loop {
        let size = u32::from_be_bytes(bytes(file)?);
        let name: [u8; 4] = bytes(file)?;
        skip(file, u64::from(size))?;
        let _checksum: [u8; 4] = bytes(file)?;
        if &name == b"IEND" {
            return Ok(true);
        }
    }
}

fn webp(file: &mut (impl Read + Seek), length: u64) -> io::Result<bool> {
    skip(file, 4)?;
    let size = u32::from_le_bytes(bytes(file)?);
    // An odd size has a byte behind it, which many writers leave out.
    Ok(length >= u64::from(size) + 8 - u64::from(size % 2))
}

fn gif(file: &mut (impl Read + Seek)) -> io::Result<bool> {
    let table = |flags: u8| match flags & 0x80 {
        0 => 0,
        _ => 3u64 << ((flags & 7) + 1),
    };
    skip(file, 10)?;
    let [flags, _, _] = bytes(file)?;
    skip(file, table(flags))?;
    loop {
        let [kind] = bytes(file)?;
        match kind {
            // An extension: its kind, then blocks.
            0x21 => skip(file, 1)?,
            0x2C => {
                let [.., flags]: [u8; 9] = bytes(file)?;
                skip(file, table(flags) + 1)?;
            }
            // The end without a frame, or no block at all: the decoder tells.
            _ => return Ok(true),
        }
        loop {
            let [size] = bytes(file)?;
            if size == 0 {
                break;
            }
            skip(file, u64::from(size) - 1)?;
            let [_last] = bytes(file)?;
        }
        if kind == 0x2C {
            return Ok(true);
        }
    }
}

fn bmp(file: &mut (impl Read + Seek), length: u64) -> io::Result<bool> {
    skip(file, 10)?;
    let pixels = u32::from_le_bytes(bytes(file)?);
    let header = u32::from_le_bytes(bytes(file)?);
    if header < 40 {
        return Ok(true);
    }
    let width = i32::from_le_bytes(bytes(file)?).unsigned_abs();
    let height = i32::from_le_bytes(bytes(file)?).unsigned_abs();
    let [_, _, depth, _]: [u8; 4] = bytes(file)?;
    let packing = u32::from_le_bytes(bytes(file)?);
    let row = (u64::from(width) * u64::from(depth)).div_ceil(32) * 4;
    let is_packed = !matches!(packing, 0 | 3);
    Ok(is_packed || length >= u64::from(pixels) + row.saturating_mul(u64::from(height)))
}
