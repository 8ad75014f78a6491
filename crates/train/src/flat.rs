//! All that training changes as one vector of numbers on the host, in an order that is the same in every process: parameters
//! that train now or will, then buffers. Processes own slices of it.

use crate::{Gradients, TrainError};
use burn::{
    module::{AutodiffModule, Module},
    tensor::ops::FloatTensor,
};
use rekindle_base::HostTensor;
use rekindle_nn::{
    TuneAutodiff,
    host::{all_to_host, from_host},
    params::{self, Mapped, NameMap, ParamRef},
};
use std::{collections::BTreeMap, ops::Range};

/// Tensors read or stepped at once: more would need more room for copies and save little.
pub(crate) const AT_ONCE: usize = 16;

/// Slices begin at multiples of this, and squares are summed in blocks of it, so that a norm has the same bits however many
/// slices there are.
const BLOCK: usize = 1024;

/// A parameter or buffer in the vector.
#[derive(Debug)]
pub(crate) struct Entry {
    /// Its published name.
    pub name: String,
    pub shape: Vec<usize>,
    /// Where it lies.
    pub range: Range<usize>,
}

impl Entry {
    /// Whether it is a bias or of a norm, which have no weight decay.
    pub(crate) fn is_vector(&self) -> bool {
        self.shape.len() < 2
    }
}

/// What lies where in the vector.
pub(crate) struct Layout {
    /// Parameters first.
    pub entries: Vec<Entry>,
    index: BTreeMap<String, usize>,
    /// How many of the entries are parameters.
    pub parameters: usize,
    names: NameMap,
}

impl Layout {
    /// The vector of a model: what trains, what `will_train`, and buffers.
    pub(crate) fn new<B: TuneAutodiff, M: Module<B>>(
        model: &M,
        will_train: &dyn Fn(&str) -> bool,
        names: NameMap,
    ) -> Self {
        let (mut found, mut buffers) = (Vec::new(), Vec::new());
        params::visit(model, &mut |param: ParamRef<'_, B>| {
            let name = names.published(param.path);
            let shape = param.shape.as_slice().to_vec();
            if params::is_buffer(param.path) {
                buffers.push((name, shape));
            } else if param.trainable || will_train(&name) {
                found.push((name, shape));
            }
        });
        let parameters = found.len();
        let mut end = 0;
        let entries = found.into_iter().chain(buffers).map(|(name, shape)| {
            let start = end;
            end += shape.iter().product::<usize>();
            Entry {
                name,
                shape,
                range: start..end,
            }
        });
        let entries: Vec<Entry> = entries.collect();
        let named = entries.iter().enumerate();
        Self {
            index: named.map(|(i, entry)| (entry.name.clone(), i)).collect(),
            entries,
            parameters,
            names,
        }
    }

    /// The length of the vector.
    pub(crate) fn len(&self) -> usize {
        self.entries.last().map_or(0, |entry| entry.range.end)
    }

    /// The slice of a process.
    pub(crate) fn slice(&self, rank: usize, world: usize) -> Range<usize> {
        let blocks = self.len().div_ceil(BLOCK);
        let start = |rank: usize| (rank * blocks / world * BLOCK).min(self.len());
        start(rank)..start(rank + 1)
    }

    /// The values of parameters, where they lie among all.
    pub(crate) fn of_parameters(&self) -> Range<usize> {
        0..self.entries[..self.parameters]
            .last()
            .map_or(0, |entry| entry.range.end)
    }

    pub(crate) fn buffers(&self) -> &[Entry] {
        &self.entries[self.parameters..]
    }

    /// All values as the model has them.
    pub(crate) fn values<B: TuneAutodiff, M: Module<B>>(
        &self,
        model: &M,
    ) -> Result<Vec<f32>, TrainError> {
        let mut flat = vec![0f32; self.len()];
        self.read(model, &mut flat, 0)?;
        Ok(flat)
    }

    /// The values of the buffers alone, in their places of a vector that is otherwise left as it is.
    pub(crate) fn read_buffers<B: TuneAutodiff, M: Module<B>>(
        &self,
        model: &M,
        flat: &mut [f32],
    ) -> Result<(), TrainError> {
        self.read(model, flat, self.parameters)
    }

    /// Reads the entries from number `from` on.
    fn read<B: TuneAutodiff, M: Module<B>>(
        &self,
        model: &M,
        flat: &mut [f32],
        from: usize,
    ) -> Result<(), TrainError> {
        let mut found = Vec::new();
        params::visit(model, &mut |param: ParamRef<'_, B>| {
            let at = self.index.get(&self.names.published(param.path));
            if let Some(&at) = at.filter(|&&at| at >= from) {
                found.push((at, B::inner(param.value)));
            }
        });
        self.copy::<B>(found, flat)
    }

    /// Copies tensors to the places of their entries.
    fn copy<B: TuneAutodiff>(
        &self,
        tensors: Vec<(usize, FloatTensor<B::InnerBackend>)>,
        flat: &mut [f32],
    ) -> Result<(), TrainError> {
        let mut left = tensors.into_iter();
        loop {
            let (places, tensors): (Vec<_>, Vec<_>) = left.by_ref().take(AT_ONCE).unzip();
            if places.is_empty() {
                return Ok(());
            }
            for (at, host) in places
                .into_iter()
                .zip(all_to_host::<B::InnerBackend>(tensors)?)
            {
                flat[self.entries[at].range.clone()].copy_from_slice(&host.values);
            }
        }
    }

    /// The model with the vector's values of the entries that `changed` names.
    pub(crate) fn write<B: TuneAutodiff, M: AutodiffModule<B>>(
        &self,
        model: M,
        flat: &[f32],
        changed: &dyn Fn(usize) -> bool,
        device: &B::Device,
    ) -> M {
        params::map(model, &mut |param| {
            let at = self.index.get(&self.names.published(param.path));
            let value = match at.filter(|&&at| changed(at)) {
                None => param.value,
                Some(&at) => {
                    let entry = &self.entries[at];
                    let host = HostTensor {
                        shape: entry.shape.clone(),
                        values: flat[entry.range.clone()].to_vec(),
                    };
                    B::from_inner(from_host::<B::InnerBackend>(host, device))
                }
            };
            Mapped {
                value,
                trainable: param.trainable,
            }
        })
    }

    /// Gradients as a vector, and notes in `present` which parameters have one.
    pub(crate) fn gradients<B: TuneAutodiff>(
        &self,
        grads: &Gradients<B>,
        present: &mut [bool],
    ) -> Result<Vec<f32>, TrainError> {
        let mut flat = vec![0f32; self.len()];
        let parameters = self.entries[..self.parameters].iter().enumerate();
        let found: Vec<_> = parameters
            .filter_map(|(at, entry)| Some((at, grads.get(&entry.name)?.clone())))
            .collect();
        for (at, _) in &found {
            present[*at] = true;
        }
        self.copy::<B>(found, &mut flat)?;
        Ok(flat)
    }

    /// The sums of the squares of a slice's gradients, one a block.
    pub(crate) fn square_sums(&self, slice: Range<usize>, gradients: &[f32]) -> Vec<f64> {
        // Behind them lie the buffers, whose changes are no gradients.
        let end = self.of_parameters().end.clamp(slice.start, slice.end);
        gradients[..end - slice.start]
            .chunks(BLOCK)
            .map(square_sum)
            .collect()
    }
}

/// The sum of the squares of a block, always in the same order, by several sums at a time.
fn square_sum(block: &[f32]) -> f64 {
    let mut sums = [0f64; 8];
    for eight in block.chunks(8) {
        for (sum, &value) in sums.iter_mut().zip(eight) {
            *sum += f64::from(value) * f64::from(value);
        }
    }
    sums.iter().sum()
}
