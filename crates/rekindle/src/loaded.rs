//! A saved model on a device of any backend: the one place where what predicts and what writes gets its model.

use crate::{
    Error,
    backend::{OnBackend, on_device},
    config::Device,
    evaluation::{Scored, embed_with, score_with},
    generation::{Reading, Session},
    inputs::Inputs,
    located::Located,
};
use burn::tensor::backend::{AutodiffBackend, BackendTypes};
use rekindle_models::Model;
use rekindle_nn::{TuneAutodiff, TuneBackend};
use std::sync::Arc;

/// A model of any backend.
pub(crate) trait Loaded {
    /// Outputs for every example of a set.
    fn score(&self, set: &Arc<dyn Inputs>, batch_size: usize) -> Result<Scored, Error>;
    /// What the backbone's pooling gives for every text of a set.
    fn embed(&self, set: &Arc<dyn Inputs>, batch_size: usize) -> Result<Scored, Error>;
    /// Begins to read so many sequences, of a language model.
    fn begin(&self, sequences: usize) -> Box<dyn Session + '_>;
}

struct OnDevice<B: TuneBackend> {
    model: Model<B>,
    device: B::Device,
}

impl<B: TuneBackend> Loaded for OnDevice<B> {
    fn score(&self, set: &Arc<dyn Inputs>, batch_size: usize) -> Result<Scored, Error> {
        score_with(&self.model, set, batch_size, &self.device)
    }

    fn embed(&self, set: &Arc<dyn Inputs>, batch_size: usize) -> Result<Scored, Error> {
        embed_with(&self.model, set, batch_size, &self.device)
    }

    fn begin(&self, sequences: usize) -> Box<dyn Session + '_> {
        Box::new(Reading::new(&self.model, &self.device, sequences))
    }
}

struct Load<'a>(&'a Located);

impl OnBackend for Load<'_> {
    type Output = Box<dyn Loaded>;

    fn run<B: TuneAutodiff>(
        self,
        device: &<B as BackendTypes>::Device,
    ) -> Result<Self::Output, Error> {
        let model = self
            .0
            .load::<<B as AutodiffBackend>::InnerBackend>(device)?;
        let device = device.clone();
        Ok(Box::new(OnDevice { model, device }))
    }
}

/// Loads a saved model, its adapter put in.
///
/// # Errors
/// When the device is not there, or the model does not fit.
pub(crate) fn load(located: &Located, device: Device) -> Result<Box<dyn Loaded>, Error> {
    on_device(device, Load(located))
}
