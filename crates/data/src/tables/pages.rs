//! How large the pages of a Parquet column become, by the pages' own headers.
//!
//! A file's summary says so too, but the reader allocates what each page's header asks for, and the summary of a file that
//! was made to do harm need not agree. The headers are Thrift structures in the compact protocol; of each only the second
//! field (bytes once it is unpacked) and the third (bytes in the file) count.

use std::io::{self, BufReader, Read, Seek, SeekFrom};

/// Bytes of the pages in `length` bytes from `start` on, once they are unpacked.
///
/// # Errors
/// Those of reading, and of bytes that are no page headers.
pub(super) fn unpacked_size(file: impl Read + Seek, start: u64, length: u64) -> io::Result<u64> {
    let mut file = BufReader::new(file);
    file.seek(SeekFrom::Start(start))?;
    let end = start.saturating_add(length);
    let mut total = 0u64;
    while file.stream_position()? < end {
        let (unpacked, packed) = page(&mut file)?;
        total = total.saturating_add(unpacked);
        file.seek_relative(i64::try_from(packed).map_err(|_| invalid())?)?;
    }
    Ok(total)
}

fn invalid() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "no page header")
}

/// The sizes in a page's header: unpacked, and in the file.
fn page(file: &mut BufReader<impl Read + Seek>) -> io::Result<(u64, u64)> {
    const INTEGER: u8 = 5;
    let (mut sizes, mut id) = ([None; 2], 0i64);
    while let Some(kind) = field(file, &mut id)? {
        match (id, kind) {
            (2 | 3, INTEGER) => {
                let size = u64::try_from(signed(file)?).map_err(|_| invalid())?;
                sizes[if id == 2 { 0 } else { 1 }] = Some(size);
            }
            _ => skip(file, kind, 0)?,
        }
    }
    match sizes {
        [Some(unpacked), Some(packed)] => Ok((unpacked, packed)),
        _ => Err(invalid()),
    }
}

/// The kind of the next field, and its number in `id`; none at the end of the structure.
fn field(file: &mut impl Read, id: &mut i64) -> io::Result<Option<u8>> {
    let byte = byte(file)?;
    if byte == 0 {
        return Ok(None);
    }
    *id = match byte >> 4 {
        0 => signed(file)?,
        step => *id + i64::from(step),
    };
    Ok(Some(byte & 15))
}

fn byte(file: &mut impl Read) -> io::Result<u8> {
    let mut byte = [0];
    file.read_exact(&mut byte)?;
    Ok(byte[0])
}

fn unsigned(file: &mut impl Read) -> io::Result<u64> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let byte = byte(file)?;
        value |= u64::from(byte & 127) << shift;
        if byte < 128 {
            return Ok(value);
        }
    }
    Err(invalid())
}

/// A number whose sign stands in its lowest bit.
fn signed(file: &mut impl Read) -> io::Result<i64> {
    let value = unsigned(file)?;
    Ok((value >> 1) as i64 ^ -((value & 1) as i64))
}

/// Passes over a value of a kind.
fn skip(file: &mut BufReader<impl Read + Seek>, kind: u8, depth: usize) -> io::Result<()> {
    const DEEPEST: usize = 8;
    if depth > DEEPEST {
        return Err(invalid());
    }
    match kind {
        // Booleans stand in the kind itself.
        1 | 2 => Ok(()),
        3 => byte(file).map(drop),
        4..=6 => unsigned(file).map(drop),
        7 => file.seek_relative(8),
        8 => {
            let length = unsigned(file)?;
            file.seek_relative(i64::try_from(length).map_err(|_| invalid())?)
        }
        9 | 10 => {
            let head = byte(file)?;
            let count = match head >> 4 {
                15 => unsigned(file)?,
                count => u64::from(count),
            };
            // Elements that take no bytes cannot be counted on to end.
            let element = head & 15;
            match element {
                1 | 2 => file.seek_relative(i64::try_from(count).map_err(|_| invalid())?),
                _ => (0..count).try_for_each(|_| skip(file, element, depth + 1)),
            }
        }
        12 => {
            let mut id = 0;
            while let Some(kind) = field(file, &mut id)? {
                skip(file, kind, depth + 1)?;
            }
            Ok(())
        }
        _ => Err(invalid()),
    }
}
