//! Event files of TensorBoard: records of TFRecord, each an `Event` of `tensorflow/core/util/event.proto` with one scalar,
//! written by hand. A run's file is made anew from `metrics.jsonl` whenever the run starts or resumes, so that no step is in
//! it twice.

use crate::{Error, figures::Figures, finetune::clear};
use rekindle_train::{Event, read_metrics};
use std::{
    fs::File,
    io::Write,
    path::Path,
    time::{SystemTime, UNIX_EPOCH},
};

/// The folder in a run directory.
pub(crate) const FOLDER: &str = "tensorboard";

/// An event file that grows.
pub(crate) struct EventFile(File);

impl EventFile {
    /// Makes the file of a run, in place of those that are there, with what `metrics.jsonl` tells so far.
    ///
    /// # Errors
    /// When the folder cannot be written, or the metrics cannot be read.
    pub(crate) fn make(run: &Path, metrics: &Path) -> Result<Self, Error> {
        let folder = run.join(FOLDER);
        clear(&folder)?;
        std::fs::create_dir_all(&folder).map_err(Error::io(&folder))?;
        let seconds = now() as u64;
        let path = folder.join(format!("events.out.tfevents.{seconds}.rekindle"));
        let file = File::create(&path).map_err(Error::io(&path))?;
        let mut file = Self(file);
        // Its readers ask for this version in the first record.
        let version = text(3, "brain.Event:2");
        let first = [double(1, now()), version].concat();
        (file.0.write_all(&record(&first))).map_err(Error::io(&path))?;
        let events = read_metrics(metrics)?;
        events.iter().for_each(|event| file.event(event));
        Ok(file)
    }

    /// Adds what an event tells: the figures of a step, or of an evaluation.
    pub(crate) fn event(&mut self, event: &Event) {
        match event {
            Event::Step {
                step,
                loss,
                learning_rate,
                grad_norm,
                ..
            } => {
                self.scalar(*step, "train/loss", *loss);
                self.scalar(*step, "train/learning_rate", *learning_rate);
                self.scalar(*step, "train/grad_norm", *grad_norm);
            }
            Event::Evaluated {
                step, evaluation, ..
            } => {
                for (key, &value) in &evaluation.metrics {
                    self.scalar(*step, &format!("validation/{key}"), value);
                }
            }
            _ => {}
        }
    }

    /// Adds the final figures of the model of this step.
    pub(crate) fn figures(&mut self, step: u64, figures: &Figures) {
        for scalar in &figures.scalars {
            self.scalar(step, &format!("final/{}", scalar.key), scalar.value);
        }
    }

    fn scalar(&mut self, step: u64, tag: &str, value: f64) {
        // A full disk must not end a run that can still train.
        let _ = self.0.write_all(&record(&scalar(now(), step, tag, value)));
    }
}

/// Seconds since 1970.
fn now() -> f64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0.0, |since| since.as_secs_f64())
}

/// An `Event` with a `Summary` of one `Value`.
fn scalar(time: f64, step: u64, tag: &str, value: f64) -> Vec<u8> {
    let simple_value = [vec![(2 << 3) | 5], (value as f32).to_le_bytes().to_vec()].concat();
    let value = [text(1, tag), simple_value].concat();
    let summary = bytes(1, &value);
    let step = [vec![2 << 3], varint(step)].concat();
    [double(1, time), step, bytes(5, &summary)].concat()
}

/// A field of eight bytes.
fn double(field: u8, value: f64) -> Vec<u8> {
    [vec![(field << 3) | 1], value.to_le_bytes().to_vec()].concat()
}

fn text(field: u8, text: &str) -> Vec<u8> {
    bytes(field, text.as_bytes())
}

/// A field with its length.
fn bytes(field: u8, bytes: &[u8]) -> Vec<u8> {
    let length = varint(bytes.len() as u64);
    [vec![(field << 3) | 2], length, bytes.to_vec()].concat()
}

/// Seven bits a byte, the lowest first; the highest bit says that more follow.
fn varint(mut value: u64) -> Vec<u8> {
    let mut out = Vec::new();
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
    out
}

/// A record: its length, that length's checksum, the data, and theirs.
fn record(data: &[u8]) -> Vec<u8> {
    let length = (data.len() as u64).to_le_bytes();
    let mut out = length.to_vec();
    out.extend(masked(crc32c(&length)).to_le_bytes());
    out.extend(data);
    out.extend(masked(crc32c(data)).to_le_bytes());
    out
}

/// A checksum as TFRecord stores it, so that data which hold checksums can have one.
fn masked(crc: u32) -> u32 {
    crc.rotate_right(15).wrapping_add(0xa282_ead8)
}

/// CRC-32C (Castagnoli), bit by bit: an event has some 50 bytes.
fn crc32c(data: &[u8]) -> u32 {
    const POLYNOMIAL: u32 = 0x82f6_3b78;
    let step = |crc: u32, &byte: &u8| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| match crc & 1 {
            1 => (crc >> 1) ^ POLYNOMIAL,
            _ => crc >> 1,
        })
    };
    !data.iter().fold(!0, step)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// Values of RFC 3720, B.4.
    #[test]
    fn the_checksum_is_castagnolis() {
        assert_eq!(crc32c(&[0; 32]), 0x8a91_36aa);
        assert_eq!(crc32c(&[0xff; 32]), 0x62a8_ab43);
        let rising: Vec<u8> = (0..32).collect();
        assert_eq!(crc32c(&rising), 0x46dd_794e);
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
    }

    #[test]
    fn a_scalar_has_the_bytes_of_protobuf() {
        let event = scalar(1.5, 300, "train/loss", 0.5);
        let expected = [
            &[0x09][..],
            &1.5f64.to_le_bytes(),
            &[0x10, 0xac, 0x02],
            &[0x2a, 19, 0x0a, 17, 0x0a, 10],
            b"train/loss",
            &[0x15, 0, 0, 0, 0x3f],
        ];
        assert_eq!(event, expected.concat());
        let record = record(&event);
        assert_eq!(record[..8], (event.len() as u64).to_le_bytes());
        assert_eq!(record[12..12 + event.len()], event);
        assert_eq!(record.len(), 8 + 4 + event.len() + 4);
        let checksum = u32::from_le_bytes(record[8..12].try_into().unwrap());
        let unmasked = checksum.wrapping_sub(0xa282_ead8).rotate_left(15);
        assert_eq!(unmasked, crc32c(&record[..8]));
    }

    #[test]
    fn a_file_that_is_made_again_replaces_the_old_one() {
        let run = tempfile::tempdir().unwrap();
        let metrics = run.path().join("metrics.jsonl");
        let step = |step| Event::Step {
            step,
            epoch: 0.5,
            loss: 1.0,
            learning_rate: 1e-3,
            grad_norm: 1.0,
            examples: 4,
            seconds: 0.1,
        };
        let size = |events: &[Event]| {
            let lines: Vec<String> = (events.iter())
                .map(|event| serde_json::to_string(event).unwrap() + "\n")
                .collect();
            std::fs::write(&metrics, lines.concat()).unwrap();
            drop(EventFile::make(run.path(), &metrics).unwrap());
            let mut files = std::fs::read_dir(run.path().join(FOLDER)).unwrap();
            let file = files.next().unwrap().unwrap();
            assert!(files.next().is_none(), "an old file is left");
            let name = file.file_name().into_string().unwrap();
            assert!(name.starts_with("events.out.tfevents."), "{name}");
            file.metadata().unwrap().len()
        };
        let (two, one, none) = (size(&[step(1), step(2)]), size(&[step(1)]), size(&[]));
        assert_eq!(two - one, one - none);
        assert!(none > 0 && one > none);
    }
}
