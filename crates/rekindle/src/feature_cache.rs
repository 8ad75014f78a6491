//! What a frozen part of a model makes of each example, computed once: in memory within a budget, the rest in a file.

use crate::Error;
use std::{
    collections::HashMap,
    fs::{File, OpenOptions},
    io::{Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
};

/// The view that stands for a picture as it is evaluated.
pub(crate) const AS_EVALUATED: u64 = u64::MAX;

/// Rows of one width, by (view, example).
pub(crate) struct FeatureCache {
    width: usize,
    budget: usize,
    rows: HashMap<(u64, usize), Row>,
    used: usize,
    path: PathBuf,
    file: Option<File>,
    length: u64,
    /// Rows that were read instead of computed.
    pub hits: u64,
}

enum Row {
    Memory(Vec<f32>),
    /// Where it begins in the file.
    File(u64),
}

impl FeatureCache {
    /// An empty cache with `budget` bytes of memory; what exceeds them goes to a file at `path`.
    pub(crate) fn new(budget: usize, path: &Path) -> Self {
        Self {
            width: 0,
            budget,
            rows: HashMap::new(),
            used: 0,
            path: path.to_owned(),
            file: None,
            length: 0,
            hits: 0,
        }
    }

    /// Forgets everything: the frozen part has changed.
    pub(crate) fn clear(&mut self) {
        self.rows.clear();
        self.used = 0;
        self.length = 0;
        self.width = 0;
    }

    /// Whether all of these examples are there.
    pub(crate) fn holds(&self, view: u64, examples: &[usize]) -> bool {
        !examples.is_empty() && examples.iter().all(|&i| self.rows.contains_key(&(view, i)))
    }

    /// Rows that are kept, and bytes in memory and in the file.
    pub(crate) fn size(&self) -> (usize, usize, u64) {
        (self.rows.len(), self.used, self.length)
    }

    /// Keeps the rows of these examples.
    pub(crate) fn put(&mut self, view: u64, examples: &[usize], rows: &[f32]) -> Result<(), Error> {
        if examples.is_empty() {
            return Ok(());
        }
        self.width = rows.len() / examples.len();
        for (&example, row) in examples.iter().zip(rows.chunks_exact(self.width.max(1))) {
            let bytes = size_of_val(row);
            let row = if self.used + bytes <= self.budget {
                self.used += bytes;
                Row::Memory(row.to_vec())
            } else {
                let place = self.length;
                self.append(row)?;
                Row::File(place)
            };
            self.rows.insert((view, example), row);
        }
        Ok(())
    }

    /// The rows of these examples, one after the other; `None` where one is missing.
    pub(crate) fn get(&mut self, view: u64, examples: &[usize]) -> Result<Option<Vec<f32>>, Error> {
        if !self.holds(view, examples) {
            return Ok(None);
        }
        let mut all = Vec::with_capacity(examples.len() * self.width);
        for &example in examples {
            match self.rows.get(&(view, example)) {
                Some(Row::Memory(row)) => all.extend_from_slice(row),
                Some(&Row::File(place)) => {
                    let io = Error::io(&self.path);
                    let Some(file) = &mut self.file else {
                        return Ok(None);
                    };
                    let mut bytes = vec![0u8; self.width * 4];
                    file.seek(SeekFrom::Start(place))
                        .and_then(|_| file.read_exact(&mut bytes))
                        .map_err(io)?;
                    all.extend(
                        bytes
                            .as_chunks::<4>()
                            .0
                            .iter()
                            .map(|value| f32::from_le_bytes(*value)),
                    );
                }
                None => return Ok(None),
            }
        }
        self.hits += examples.len() as u64;
        Ok(Some(all))
    }

    fn append(&mut self, row: &[f32]) -> Result<(), Error> {
        let io = |source| Error::io(&self.path)(source);
        if self.file.is_none() {
            let file = OpenOptions::new()
                .create(true)
                .truncate(true)
                .read(true)
                .write(true)
                .open(&self.path)
                .map_err(io)?;
            self.file = Some(file);
        }
        if let Some(file) = &mut self.file {
            let bytes: Vec<u8> = row.iter().flat_map(|value| value.to_le_bytes()).collect();
            file.seek(SeekFrom::Start(self.length))
                .and_then(|_| file.write_all(&bytes))
                .map_err(Error::io(&self.path))?;
            self.length += bytes.len() as u64;
        }
        Ok(())
    }
}

impl Drop for FeatureCache {
    fn drop(&mut self) {
        if self.file.take().is_some() {
            // A leftover is overwritten by the next run.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn rows_come_back_from_memory_and_from_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("features");
        // Room for two rows of three values.
        let mut features = FeatureCache::new(24, &path);
        assert!(features.get(0, &[1]).unwrap().is_none());
        let rows: Vec<f32> = (0..12).map(|i| i as f32).collect();
        features.put(0, &[7, 8, 9, 10], &rows).unwrap();
        assert_eq!(features.size(), (4, 24, 24));
        assert!(path.is_file());
        let found = features.get(0, &[10, 7, 9]).unwrap().unwrap();
        assert_eq!(found, [9.0, 10.0, 11.0, 0.0, 1.0, 2.0, 6.0, 7.0, 8.0]);
        assert!(features.get(1, &[7]).unwrap().is_none());
        assert!(features.get(0, &[7, 11]).unwrap().is_none());
        features.put(1, &[7], &[5.0; 3]).unwrap();
        assert_eq!(features.get(1, &[7]).unwrap().unwrap(), [5.0; 3]);
        features.clear();
        assert!(!features.holds(0, &[7]));
        drop(features);
        assert!(!path.exists());
    }
}
