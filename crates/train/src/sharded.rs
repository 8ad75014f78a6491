//! A step of which several processes have a part each, after "ZeRO: Memory Optimizations Toward Training Trillion Parameter
//! Models" (Rajbhandari et al. 2020), stage 1: gradients are added up slice by slice, each process steps the optimizer on its
//! slice, and all get the new parameters.
//!
//! A run on one process whose batches have shards goes this way too, so that its bits are those of several.

use crate::{
    Collective, Gradients, Job, Optimizer, Stepped, Traffic, TrainConfig, TrainError,
    flat::{AT_ONCE, Layout},
    optimizer::{Moments, factor_of},
    shards::{Node, Shards},
    step::{alone, clipping, joined},
};
use burn::tensor::ops::FloatTensor;
use rekindle_base::HostTensor;
use rekindle_nn::{
    Pass, TuneAutodiff, TuneBackend,
    host::{all_to_host, from_host, to_host, values},
    ops::AdamWOperand,
};
use std::{collections::BTreeMap, ops::Range};

type Inner<B> = <B as burn::tensor::backend::AutodiffBackend>::InnerBackend;

/// The optimizer of a process: its slice of the parameters and of their moments.
pub(crate) struct Sharded<B: TuneAutodiff> {
    collective: Collective,
    shards: Shards,
    layout: Layout,
    /// All values, as the last step left them.
    flat: Vec<f32>,
    /// This process's part of it.
    slice: Range<usize>,
    /// What of each parameter lies in the slice.
    pieces: Vec<Piece<B>>,
    /// Without moments, which are in the pieces.
    optimizer: Optimizer<B>,
    /// Whether a parameter ever had a gradient.
    known: Vec<bool>,
    /// What the steps cost.
    traffic: Traffic,
    device: B::Device,
}

/// Where in the run a step is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place {
    /// What the loss is a mean over, in all shards of the window.
    pub examples: u64,
    pub learning_rate: f64,
    /// The number of the window's first micro-batch in the run.
    pub first_pass: u64,
}

/// A part of a parameter, as vectors on the device.
struct Piece<B: TuneAutodiff> {
    /// Which parameter's.
    entry: usize,
    /// Where it lies among all values.
    range: Range<usize>,
    value: Option<FloatTensor<Inner<B>>>,
    moments: Option<Moments<B>>,
}

/// A model on its way through the shards of a window.
struct Window<'a, B: TuneAutodiff, J: Job<B>> {
    job: &'a J,
    model: Option<J::Model>,
    /// Of each micro-batch the own shards, in order.
    batches: &'a [J::Batch],
    seed: u64,
    first_pass: u64,
    /// What the loss is a mean over, in all shards.
    examples: u64,
    losses: Vec<f64>,
    present: Vec<bool>,
    failed: Option<TrainError>,
    _backend: std::marker::PhantomData<B>,
}

impl<B: TuneAutodiff> Sharded<B> {
    /// Takes over from an optimizer, which may have been at work. `model` is as it is before the next step.
    pub(crate) fn new<J: Job<B>>(
        job: &J,
        model: &J::Model,
        shards: Shards,
        optimizer: Optimizer<B>,
        device: &B::Device,
    ) -> Result<Self, TrainError> {
        let collective = job.collective();
        let layout = Layout::new(model, &|name| job.will_train(name), job.names());
        let flat = layout.values(model)?;
        let slice = layout.slice(collective.rank(), collective.world());
        let part = |range: Range<usize>, values: &[f32]| {
            let length = range.len();
            let host = HostTensor {
                shape: vec![length],
                values: values[range].to_vec(),
            };
            from_host::<Inner<B>>(host, device)
        };
        let known = layout.entries[..layout.parameters].iter();
        let known: Vec<bool> = known
            .map(|entry| optimizer.moments(&entry.name).is_some())
            .collect();
        let mut pieces = Vec::new();
        for (at, entry) in layout.entries[..layout.parameters].iter().enumerate() {
            let range = entry.range.start.max(slice.start)..entry.range.end.min(slice.end);
            if range.is_empty() {
                continue;
            }
            let within = range.start - entry.range.start..range.end - entry.range.start;
            let moments = match optimizer.moments(&entry.name) {
                None => None,
                Some((m, v)) => {
                    let m = to_host::<Inner<B>>(m.clone())?.values;
                    let v = to_host::<Inner<B>>(v.clone())?.values;
                    Some((part(within.clone(), &m), part(within, &v)))
                }
            };
            pieces.push(Piece {
                entry: at,
                value: Some(part(range.clone(), &flat)),
                range,
                moments,
            });
        }
        Ok(Self {
            collective,
            shards,
            layout,
            flat,
            slice,
            pieces,
            optimizer: optimizer.without_moments(),
            known,
            traffic: Traffic::default(),
            device: device.clone(),
        })
    }

    /// What the steps so far cost in communication.
    pub(crate) fn traffic(&self) -> Traffic {
        self.traffic
    }

    /// One optimizer step on a window of which this process has its shards.
    pub(crate) fn step<J: Job<B>>(
        &mut self,
        job: &J,
        model: J::Model,
        batches: &[J::Batch],
        config: &TrainConfig,
        at: Place,
    ) -> Result<(J::Model, Stepped), TrainError> {
        let before = self.collective.traffic();
        let mut window = Window::<B, J> {
            job,
            model: Some(model),
            batches,
            seed: config.seed,
            first_pass: at.first_pass,
            examples: at.examples,
            losses: Vec::new(),
            present: vec![false; self.layout.parameters],
            failed: None,
            _backend: std::marker::PhantomData,
        };
        let nodes = self.shards.nodes();
        let mut sums: Vec<Vec<f32>> = Vec::new();
        for &node in &nodes {
            let sum = self.shards.sum(node, &mut |node| {
                (node.width == 1).then(|| self.shard(&mut window, node.first))
            });
            sums.extend(sum);
        }
        let Window {
            model,
            losses,
            mut present,
            failed,
            ..
        } = window;
        let model = match (failed, model) {
            (Some(error), _) => Err(error),
            (None, model) => model.ok_or(TrainError::Lost {
                reason: "the model of the step is gone".into(),
            }),
        };
        let model = self.collective.agree(model)?;
        let mut stepped = Stepped {
            loss: self.agree_on(&losses, &mut present)?,
            grad_norm: 0.0,
            examples: at.examples as usize,
        };
        if stepped.fault().is_some() {
            return Ok((model, stepped));
        }
        let sum = self.own_slice(&nodes, sums)?;
        stepped.grad_norm = self.norm(&sum)?;
        if stepped.fault().is_some() {
            return Ok((model, stepped));
        }
        let clip = clipping(config, stepped.grad_norm);
        let rate = |name: &str| job.rate(name);
        self.update(&sum, &present, at.learning_rate, clip, &rate)?;
        let world = self.collective.world();
        let layout = &self.layout;
        self.collective
            .share(&mut self.flat, |rank| layout.slice(rank, world))?;
        let changed = |at: usize| present.get(at).copied().unwrap_or(true);
        let model = layout.write(model, &self.flat, &changed, &self.device);
        self.traffic += self.collective.traffic().since(before);
        Ok((model, stepped))
    }

    /// The gradients of one shard, over all micro-batches of the window, and how it moves the buffers.
    fn shard<J: Job<B>>(&self, window: &mut Window<'_, B, J>, shard: usize) -> Vec<f32> {
        match self.try_shard(window, shard) {
            Ok(sum) => sum,
            Err(error) => {
                window.failed.get_or_insert(error);
                vec![0.0; self.layout.len()]
            }
        }
    }

    fn try_shard<J: Job<B>>(
        &self,
        window: &mut Window<'_, B, J>,
        shard: usize,
    ) -> Result<Vec<f32>, TrainError> {
        let own = self.shards.own();
        let (job, mut grads, mut seen) = (window.job, Gradients::<B>::default(), 0);
        let mut losses = Vec::new();
        let buffers = !self.layout.buffers().is_empty();
        if buffers {
            // As they were before the step: every shard moves them from there.
            let first = self.layout.parameters;
            let write = |model| {
                self.layout
                    .write(model, &self.flat, &|at| at >= first, &self.device)
            };
            window.model = window.model.take().map(write);
        }
        let Some(model) = &window.model else {
            return Ok(vec![0.0; self.layout.len()]);
        };
        let parts = window
            .batches
            .iter()
            .skip(shard - own.start)
            .step_by(own.len());
        for (batch, forward) in parts.zip(window.first_pass..) {
            let pass = Pass::training(window.seed, self.shards.draw(forward, shard));
            let count = (window.examples as usize).max(1);
            losses.push(alone(|| {
                job.backward(model, batch, pass, count, &mut grads)
            })?);
            seen += job.count(batch);
        }
        // Read behind all passes, so that a GPU need not stand still between them.
        let losses = joined(losses).map_or(Ok(Vec::new()), values)?;
        window
            .losses
            .push(losses.iter().map(|&loss| f64::from(loss)).sum());
        let mut flat = self.layout.gradients(&grads, &mut window.present)?;
        if buffers {
            self.layout.read_buffers(model, &mut flat)?;
            let weight = (seen as f64 / window.examples.max(1) as f64) as f32;
            let first = self.layout.of_parameters().end;
            for (now, before) in flat[first..].iter_mut().zip(&self.flat[first..]) {
                // What did not move stays as it is to the bit.
                *now = (*now - before) * weight;
            }
        }
        Ok(flat)
    }

    /// The loss over all shards, and which parameters have a gradient in any of them.
    fn agree_on(&self, losses: &[f64], present: &mut [bool]) -> Result<f64, TrainError> {
        let mut own: Vec<u8> = present.iter().map(|&present| present.into()).collect();
        own.extend(losses.iter().flat_map(|loss| loss.to_le_bytes()));
        let mut loss = 0.0;
        for bytes in self.collective.gather(own)? {
            let (with, losses) = bytes.split_at(present.len());
            present
                .iter_mut()
                .zip(with)
                .for_each(|(all, &one)| *all |= one != 0);
            let (losses, _) = losses.as_chunks::<8>();
            loss = losses
                .iter()
                .fold(loss, |sum, &one| sum + f64::from_le_bytes(one));
        }
        Ok(loss)
    }

    /// The sum over all shards in this process's slice: every process hands on what it has added up.
    fn own_slice(&self, nodes: &[Node], sums: Vec<Vec<f32>>) -> Result<Vec<f32>, TrainError> {
        let (rank, world) = (self.collective.rank(), self.collective.world());
        let slice = |rank| self.layout.slice(rank, world);
        let nodes_of = |rank| Shards::of(self.shards.count(), rank, world).nodes();
        let most = (0..world)
            .map(|rank| nodes_of(rank).len())
            .max()
            .unwrap_or(0);
        let sent = |to: usize| {
            let pieces = (0..most).map(|i| sums.get(i).map_or(&[][..], |sum| &sum[slice(to)]));
            pieces.collect()
        };
        let received = |from: usize| {
            let there = nodes_of(from).len();
            let length = |i| if i < there { self.slice.len() } else { 0 };
            (0..most).map(length).collect()
        };
        let pieces = self.collective.exchange(sent, received)?;
        let mut known: BTreeMap<Node, Vec<f32>> = BTreeMap::new();
        for (from, pieces) in pieces.into_iter().enumerate() {
            known.extend(nodes_of(from).into_iter().zip(pieces));
        }
        for (&node, sum) in nodes.iter().zip(sums) {
            let own = match world {
                1 => sum,
                _ => sum[slice(rank)].to_vec(),
            };
            known.insert(node, own);
        }
        let root = self.shards.root();
        let sum = self.shards.sum(root, &mut |node| known.remove(&node));
        Ok(sum.unwrap_or_else(|| vec![0.0; self.slice.len()]))
    }

    /// The 2-norm over all gradients together.
    fn norm(&self, own: &[f32]) -> Result<f64, TrainError> {
        let sums = self.layout.square_sums(self.slice.clone(), own);
        let own = sums.iter().flat_map(|sum| sum.to_le_bytes()).collect();
        let sums = self.collective.gather(own)?;
        let sums = sums.iter().flat_map(|bytes| bytes.as_chunks::<8>().0);
        Ok(sums.map(|&sum| f64::from_le_bytes(sum)).sum::<f64>().sqrt())
    }

    /// AdamW on the slice, and the moved buffers in it.
    fn update(
        &mut self,
        sum: &[f32],
        present: &[bool],
        learning_rate: f64,
        clip: f64,
        rate: &dyn Fn(&str) -> f64,
    ) -> Result<(), TrainError> {
        let base = self.optimizer.next_step(learning_rate);
        for (at, _) in present.iter().enumerate().filter(|(_, present)| **present) {
            if !std::mem::replace(&mut self.known[at], true) {
                self.optimizer.note_joined(&self.layout.entries[at].name);
            }
        }
        let factor = factor_of::<B>(clip, &self.device);
        for group in self.pieces.chunks_mut(AT_ONCE) {
            let (mut changing, mut operands) = (Vec::new(), Vec::new());
            for piece in group {
                // What has no gradient keeps its value.
                if !present[piece.entry] {
                    continue;
                }
                let Some(parameter) = piece.value.take() else {
                    continue;
                };
                let entry = &self.layout.entries[piece.entry];
                let within =
                    piece.range.start - self.slice.start..piece.range.end - self.slice.start;
                let vector = |values: Vec<f32>| {
                    let shape = vec![values.len()];
                    from_host::<Inner<B>>(HostTensor { shape, values }, &self.device)
                };
                let name = &entry.name;
                let settings = self
                    .optimizer
                    .settings(base, name, entry.is_vector(), rate(name));
                let moments = piece.moments.take().unwrap_or_else(|| {
                    let zeros = || vector(vec![0.0; within.len()]);
                    (zeros(), zeros())
                });
                operands.push(AdamWOperand {
                    parameter,
                    grad: vector(sum[within].to_vec()),
                    moments,
                    settings,
                });
                changing.push(piece);
            }
            let results = Inner::<B>::tune_adamw_steps(operands, factor.clone());
            let new = results.iter().map(|(value, ..)| value.clone()).collect();
            let new = all_to_host::<Inner<B>>(new)?;
            for ((piece, (value, m, v)), host) in changing.into_iter().zip(results).zip(new) {
                self.flat[piece.range.clone()].copy_from_slice(&host.values);
                (piece.value, piece.moments) = (Some(value), Some((m, v)));
            }
        }
        let first = self.layout.of_parameters().end.max(self.slice.start);
        for at in first..self.slice.end {
            self.flat[at] += sum[at - self.slice.start];
        }
        Ok(())
    }

    /// The optimizer of all slices, in the process that leads; all take part.
    pub(crate) fn gathered(&self) -> Result<Option<Optimizer<B>>, TrainError> {
        let (world, leads) = (self.collective.world(), self.collective.leads());
        let mut whole: [Vec<f32>; 2] = Default::default();
        for (which, all) in whole.iter_mut().enumerate() {
            // The others need no more room than their slices, but places in the vector are the same for all.
            *all = vec![0.0; self.layout.len()];
            for piece in &self.pieces {
                if let Some((m, v)) = &piece.moments {
                    let moment = [m, v][which].clone();
                    let host = to_host::<Inner<B>>(moment)?;
                    all[piece.range.clone()].copy_from_slice(&host.values);
                }
            }
            self.collective
                .collect(all, |rank| self.layout.slice(rank, world))?;
        }
        if !leads {
            return Ok(None);
        }
        let mut optimizer = self.optimizer.without_moments();
        for (entry, _) in self
            .layout
            .entries
            .iter()
            .zip(&self.known)
            .filter(|(_, known)| **known)
        {
            let [m, v] = [0, 1].map(|which| {
                let host = HostTensor {
                    shape: entry.shape.clone(),
                    values: whole[which][entry.range.clone()].to_vec(),
                };
                from_host::<Inner<B>>(host, &self.device)
            });
            optimizer.set_moments(&entry.name, (m, v));
        }
        Ok(Some(optimizer))
    }
}
