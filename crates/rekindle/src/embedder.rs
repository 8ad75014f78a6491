//! Vectors of texts: by a run that learned them, by any encoder's directory as sentence-transformers or transformers saved it, or by
//! a hub name. How the vectors of tokens become one is what the directory says, the mean where it says nothing.

use crate::{
    Error, Observer, Predictor, Query, RunConfig,
    config::{Device, Override},
    located::locate_to_embed,
    sentence::SentenceFiles,
    task::Kind,
    tasks::normalized,
};
use rekindle_base::{HostTensor, write_atomically};
use rekindle_data::UsualColumns;
use rekindle_weights::ToWrite;
use std::{ffi::OsStr, path::Path};

/// A model that gives each text a vector, on a device.
pub struct Embedder {
    predictor: Predictor,
    files: SentenceFiles,
}

impl Embedder {
    /// Loads a run directory, a model directory, a PEFT adapter directory, or a hub name.
    ///
    /// # Errors
    /// When something is missing or does not fit, and for what is no encoder of texts; the message names it.
    pub fn open(path: &Path, device: Device, observer: &dyn Observer) -> Result<Self, Error> {
        let (mut located, files) = locate_to_embed(path, observer)?;
        if matches!(located.task.kind(), Kind::Extraction | Kind::Choice) {
            return Err(Error::Setting {
                reason: format!(
                    "this model was tuned for {}: it gives no vectors of texts",
                    located.task
                ),
                hint: "embed with the model that it was tuned from, or tune one for text-embedding"
                    .into(),
            });
        }
        // Texts are embedded one by one, whatever they were trained beside.
        located.kept.columns = UsualColumns {
            text: located.kept.columns.text.take(),
            ..UsualColumns::default()
        };
        Ok(Self {
            predictor: Predictor::of(located, path, device)?,
            files,
        })
    }

    /// As [`Predictor::configure`]: settings of how texts are read and cut.
    ///
    /// # Errors
    /// As there.
    pub fn configure(&mut self, overrides: &[Override]) -> Result<RunConfig, Error> {
        self.predictor.configure(overrides)
    }

    /// As [`Predictor::read_queries`]: the texts of a file, by its column of texts.
    ///
    /// # Errors
    /// As there.
    pub fn read_queries(
        &self,
        path: &Path,
        config: &RunConfig,
        observer: &dyn Observer,
    ) -> Result<Vec<Query>, Error> {
        let mut queries = self.predictor.read_queries(path, config, observer)?;
        for query in &mut queries {
            query.text_pair = None;
        }
        Ok(queries)
    }

    /// The vectors of texts, `[N][D]`.
    ///
    /// # Errors
    /// When a text cannot be encoded.
    pub fn embed<S: AsRef<str>>(&self, texts: &[S]) -> Result<Vec<Vec<f32>>, Error> {
        let queries: Vec<Query> = texts
            .iter()
            .map(|text| Query::new(None, text.as_ref()))
            .collect();
        self.vectors(&queries.iter().collect::<Vec<_>>())
    }

    /// The vectors of queries, in order, or why there is none.
    ///
    /// # Errors
    /// When the model fails.
    pub fn embed_queries(&self, queries: &[Query]) -> Result<Vec<Result<Vec<f32>, String>>, Error> {
        let good: Vec<&Query> = queries
            .iter()
            .filter(|query| query.problem.is_none())
            .collect();
        let mut vectors = self.vectors(&good)?.into_iter();
        let missing = || Err("the model gave no vector".to_owned());
        let vector = |query: &Query| match &query.problem {
            Some(problem) => Err(problem.clone()),
            None => vectors.next().map_or_else(missing, Ok),
        };
        Ok(queries.iter().map(vector).collect())
    }

    fn vectors(&self, queries: &[&Query]) -> Result<Vec<Vec<f32>>, Error> {
        let prompt = self.files.prompt();
        let prompted: Vec<Query> = queries
            .iter()
            .map(|query| Query::new(query.line, format!("{prompt}{}", query.text)))
            .collect();
        let vectors = self
            .predictor
            .embeddings(&prompted.iter().collect::<Vec<_>>())?;
        Ok(match self.files.normalizes {
            true => vectors.iter().map(|vector| normalized(vector)).collect(),
            false => vectors,
        })
    }
}

/// Writes vectors `[N][D]` as one array: of NumPy where the file ends in `.npy`, else as the tensor `embeddings` of a safetensors file.
///
/// # Errors
/// When the file cannot be written.
pub fn write_vectors(path: &Path, vectors: &[Vec<f32>]) -> Result<(), Error> {
    let (rows, width) = (vectors.len(), vectors.first().map_or(0, Vec::len));
    let is_npy = |ending: &OsStr| ending.eq_ignore_ascii_case("npy");
    if path.extension().is_some_and(is_npy) {
        let bytes = npy(rows, width, vectors);
        return write_atomically(path, &bytes).map_err(Error::io(path));
    }
    let tensor = HostTensor {
        shape: vec![rows, width],
        values: vectors.concat(),
    };
    Ok(rekindle_weights::write(
        path,
        [("embeddings", ToWrite::from(&tensor))],
        &[],
    )?)
}

/// NumPy's format, version 1.0: a header of a multiple of 64 bytes, then the values row by row.
fn npy(rows: usize, width: usize, vectors: &[Vec<f32>]) -> Vec<u8> {
    const BEFORE: usize = 10;
    let mut header =
        format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({rows}, {width}), }}");
    let length = (BEFORE + header.len() + 1).next_multiple_of(64) - BEFORE;
    header += &" ".repeat(length - header.len() - 1);
    header.push('\n');
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend((length as u16).to_le_bytes());
    bytes.extend(header.as_bytes());
    bytes.extend(
        vectors
            .iter()
            .flatten()
            .flat_map(|value| value.to_le_bytes()),
    );
    bytes
}

#[cfg(test)]
mod tests {
    use super::npy;

    #[test]
    fn the_header_of_an_array_is_numpys() {
        let bytes = npy(2, 1, &[vec![1.0], vec![-2.0]]);
        assert_eq!(bytes.len(), 128 + 8);
        assert_eq!(&bytes[..10], b"\x93NUMPY\x01\x00\x76\x00");
        let header = String::from_utf8_lossy(&bytes[10..128]).into_owned();
        assert!(header.starts_with("{'descr': '<f4', 'fortran_order': False, 'shape': (2, 1), }"));
        assert!(header.ends_with(" \n"));
        assert_eq!(
            bytes[128..],
            [1.0f32.to_le_bytes(), (-2.0f32).to_le_bytes()].concat()
        );
    }
}
