//! What a task brings to a run: the job that the loop trains, and all of the run that depends on the kind of examples.

use crate::{Error, RunConfig, report::Mistake};
use burn::module::AutodiffModule;
use rekindle_hub::Resolved;
use rekindle_metrics::{CalibrationReport, ClassificationReport};
use rekindle_nn::TuneAutodiff;
use rekindle_train::Job;
use std::{
    collections::BTreeSet,
    fs::File,
    io::{Read, Seek, SeekFrom},
    path::Path,
};

/// A job with what a run needs beyond training.
pub(crate) trait Task<B: TuneAutodiff>: Job<B> {
    /// What is known of the run before its first step.
    fn facts(&self) -> &Facts;
    /// What is worth saying after training.
    fn remarks(&self) -> Vec<String> {
        Vec::new()
    }
    /// The final figures of a model, and its worst mistakes. `evaluated`: the model is the one that [`Job::evaluate`] saw
    /// last, so that its validation logits need not be computed again.
    fn judge(&self, model: &Evaluated<B, Self>, evaluated: bool) -> Result<Judged, Error>;
    /// Writes the model as Python loads it, and what we need to load it back.
    fn save(&self, model: &Evaluated<B, Self>, dir: &Path) -> Result<(), Error>;
}

/// A task's model on the backend without gradients.
pub(crate) type Evaluated<B, T> = <<T as Job<B>>::Model as AutodiffModule<B>>::InnerModule;

/// What the plan and the report say of a run.
pub(crate) struct Facts {
    pub base: Resolved,
    /// What became of every tensor, in a line.
    pub loaded: String,
    /// The method with its settings, in a line.
    pub method: String,
    pub adapted_layers: Vec<String>,
    /// What `final/` will be.
    pub writes: &'static str,
    pub dataset: String,
    pub labels: Vec<String>,
    /// Examples to train on, validate on, test on.
    pub examples: [usize; 3],
    /// The examples' size, in words.
    pub inputs: String,
    /// Peak memory, estimated, in bytes.
    pub memory: u64,
    pub notes: Vec<String>,
    /// Phases so far, in seconds.
    pub timings: Vec<(String, f64)>,
    /// See [`rekindle_train::TrainState::fingerprint`].
    pub fingerprint: String,
}

/// What a finished model is worth.
pub(crate) struct Judged {
    /// The split that the figures are of.
    pub split: &'static str,
    pub report: ClassificationReport,
    pub mistakes: Vec<Mistake>,
    pub calibration: CalibrationReport,
}

/// A digest (FNV-1a) of what a resumed run must find unchanged: the configuration but for where it writes, the training
/// examples, and the base model.
pub(crate) struct Fingerprint(u64);

impl Fingerprint {
    pub(crate) fn of(config: &RunConfig) -> Self {
        let mut settings = config.clone();
        settings.output_dir = None;
        let mut digest = Self(0xcbf2_9ce4_8422_2325);
        digest.add(settings.to_toml().as_bytes());
        digest
    }

    pub(crate) fn add(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }

    /// Adds the base model's weights, by a sample.
    pub(crate) fn add_weights(&mut self, dir: &Path) -> Result<(), Error> {
        self.add(&sample_of_weights(dir)?);
        Ok(())
    }

    pub(crate) fn text(&self) -> String {
        format!("{:016x}", self.0)
    }
}

/// The length and the middle of each file of weights: enough to tell two models of one shape apart without reading all.
fn sample_of_weights(dir: &Path) -> Result<Vec<u8>, Error> {
    const SAMPLE: u64 = 1 << 16;
    let weights = rekindle_models::Checkpoint::open(dir)?;
    let files = weights.files();
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
