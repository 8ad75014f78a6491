//! A digest of what a resumed run must find unchanged: the configuration but for where it writes, the examples of all sets, and
//! the base model with its tokenizer.

use crate::{Error, RunConfig};
use rekindle_data::Targets;
use rekindle_models::Pretrained;
use std::{
    collections::BTreeSet,
    fs::File,
    io::{Read, Seek, SeekFrom},
    path::Path,
};

/// The digest (FNV-1a) of examples and model as it grows.
pub(crate) struct Fingerprint(u64);

impl Fingerprint {
    pub(crate) fn new() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }

    pub(crate) fn add(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }

    pub(crate) fn add_numbers(&mut self, numbers: &[u32]) {
        numbers.iter().for_each(|n| self.add(&n.to_le_bytes()));
    }

    pub(crate) fn add_targets(&mut self, targets: &Targets) {
        let values = targets.to_f32();
        values.iter().for_each(|v| self.add(&v.to_le_bytes()));
    }

    /// Adds the base model: its settings, its tokenizer and chat template, and its weights by a sample.
    pub(crate) fn add_model(&mut self, model: &Pretrained) -> Result<(), Error> {
        for name in [
            "tokenizer.json",
            "tokenizer_config.json",
            "chat_template.jinja",
        ] {
            let path = model.dir().join(name);
            if path.is_file() {
                self.add(&std::fs::read(&path).map_err(Error::io(&path))?);
            }
        }
        let settings = serde_json::Value::Object(model.config().raw().clone());
        self.add(settings.to_string().as_bytes());
        self.add(&sample_of_weights(model)?);
        Ok(())
    }

    /// The whole digest, of a run with this configuration.
    pub(crate) fn of(&self, config: &RunConfig) -> String {
        let mut settings = config.clone();
        settings.output_dir = None;
        let mut whole = Self(self.0);
        whole.add(settings.to_toml().as_bytes());
        format!("{:016x}", whole.0)
    }
}

/// A digest of a model's weights, by a sample.
pub(crate) fn weights_digest(model: &Pretrained) -> Result<String, Error> {
    let mut digest = Fingerprint::new();
    digest.add(&sample_of_weights(model)?);
    Ok(format!("{:016x}", digest.0))
}

/// The length and the middle of each file of weights: enough to tell two models of one shape apart without reading all.
fn sample_of_weights(model: &Pretrained) -> Result<Vec<u8>, Error> {
    const SAMPLE: u64 = 1 << 16;
    let files = model.files();
    let paths: BTreeSet<&Path> = files
        .names()
        .filter_map(|name| files.file_of(name))
        .collect();
    let mut sample = Vec::new();
    for path in paths {
        let mut file = File::open(path).map_err(Error::io(path))?;
        let length = file.metadata().map_err(Error::io(path))?.len();
        sample.extend(length.to_le_bytes());
        file.seek(SeekFrom::Start(length.saturating_sub(SAMPLE) / 2))
            .map_err(Error::io(path))?;
        file.take(SAMPLE)
            .read_to_end(&mut sample)
            .map_err(Error::io(path))?;
    }
    Ok(sample)
}
