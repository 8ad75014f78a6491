//! Pictures to batches: decoded and transformed by all threads, kept decoded as far as a memory budget goes, and mixed.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};

use rayon::prelude::*;

use super::decode::Picture;
use super::set::ImageSet;
use super::transforms::{Augment, Draw, Preprocess, resize_shorter};
use crate::{DataError, OnBad, Targets};
use rekindle_base::rng::{self, Stream};

/// A batch of pictures.
#[derive(Debug, Clone, PartialEq)]
pub struct ImageBatch {
    /// `[N, S, S, 3]`, normalised.
    pub pixels: Vec<f32>,
    /// S, in pixels.
    pub size: usize,
    /// Targets of the N pictures.
    pub targets: Targets,
    /// What was mixed in.
    pub mixed: Option<Mixed>,
    /// Index of each picture in its set, `[N]`.
    pub indices: Vec<usize>,
}

/// The other half of mixed pictures.
#[derive(Debug, Clone, PartialEq)]
pub struct Mixed {
    /// Targets of what was mixed in, of N pictures.
    pub targets: Targets,
    /// Share of a picture's own target, in [0, 1].
    pub share: f64,
}

/// Mixing of training pictures; 0 for none. With both, each batch is mixed one way or the other.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Mix {
    /// Mixup (Zhang et al. 2018): α of Beta(α, α).
    pub mixup: f64,
    /// CutMix (Yun et al. 2019): α of Beta(α, α).
    pub cutmix: f64,
}

impl ImageBatch {
    /// Number of pictures, N.
    #[must_use]
    pub fn len(&self) -> usize {
        self.indices.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.indices.is_empty()
    }

    /// Mixes each picture with its mirror image in the batch: a pure function of (seed, epoch, batch).
    pub fn mix(&mut self, mix: Mix, seed: u64, epoch: u64, batch: u64) {
        let draw = |index: u64| {
            let bits = rng::hash(seed, Stream::Mix as u64, epoch, batch * 1024 + index);
            ((bits >> 11) as f64 + 0.5) / (1u64 << 53) as f64
        };
        let cut = match (mix.mixup > 0.0, mix.cutmix > 0.0) {
            (false, false) => return,
            (true, true) => draw(0) < 0.5,
            (_, cutmix) => cutmix,
        };
        let alpha = if cut { mix.cutmix } else { mix.mixup };
        let mut share = beta(alpha, &mut (8..).map(draw));
        let (n, size) = (self.len(), self.size);
        let one = size * size * 3;
        if cut {
            let side = size as f64 * (1.0 - share).sqrt();
            let around = |centre: f64| {
                let centre = (centre * size as f64).floor();
                let low = (centre - side / 2.0).clamp(0.0, size as f64) as usize;
                (low, (centre + side / 2.0).clamp(0.0, size as f64) as usize)
            };
            let ((left, right), (top, bottom)) = (around(draw(1)), around(draw(2)));
            let original = self.pixels.clone();
            for i in 0..n {
                for row in top..bottom {
                    let part = (row * size + left) * 3..(row * size + right) * 3;
                    let from = &original[(n - 1 - i) * one..][part.clone()];
                    self.pixels[i * one..][part].copy_from_slice(from);
                }
            }
            share = 1.0 - ((right - left) * (bottom - top)) as f64 / (size * size) as f64;
        } else {
            let original = self.pixels.clone();
            for i in 0..n {
                let other = &original[(n - 1 - i) * one..][..one];
                for (x, &y) in self.pixels[i * one..][..one].iter_mut().zip(other) {
                    *x = (share as f32) * *x + (1.0 - share) as f32 * y;
                }
            }
        }
        self.mixed = Some(Mixed {
            targets: self.targets.subset(&(0..n).rev().collect::<Vec<_>>()),
            share,
        });
    }
}

/// A number of Beta(α, α) by Jöhnk's method, which suits the small α of mixing; for large α it falls back to 1/2 after
/// many tries.
fn beta(alpha: f64, uniforms: &mut impl Iterator<Item = f64>) -> f64 {
    const TRIES: usize = 500;
    for _ in 0..TRIES {
        let (Some(u), Some(v)) = (uniforms.next(), uniforms.next()) else {
            break;
        };
        let (x, y) = (u.powf(1.0 / alpha), v.powf(1.0 / alpha));
        if x + y <= 1.0 && x + y > 0.0 {
            return x / (x + y);
        }
    }
    0.5
}

/// Decoded pictures within a budget. What fits first stays: an epoch that comes again reads the same.
#[derive(Debug)]
struct Kept {
    pictures: Vec<OnceLock<Picture>>,
    budget: usize,
    used: AtomicUsize,
}

impl Kept {
    fn new(pictures: usize, budget: usize) -> Self {
        let slots = if budget == 0 { 0 } else { pictures };
        Self {
            pictures: (0..slots).map(|_| OnceLock::new()).collect(),
            budget,
            used: AtomicUsize::new(0),
        }
    }

    fn get(&self, index: usize) -> Option<&Picture> {
        self.pictures.get(index)?.get()
    }

    fn offer(&self, index: usize, picture: &Picture) {
        let Some(slot) = self.pictures.get(index) else {
            return;
        };
        let size = picture.pixels.len();
        let reserve = |used: usize| (used + size <= self.budget).then_some(used + size);
        let reserved = self
            .used
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, reserve);
        if reserved.is_ok() && slot.set(picture.clone()).is_err() {
            // Another thread was first.
            self.used.fetch_sub(size, Ordering::Relaxed);
        }
    }
}

/// Makes batches of a set.
#[derive(Debug)]
pub struct ImageLoader {
    set: ImageSet,
    targets: Targets,
    preprocess: Preprocess,
    augment: Augment,
    on_bad: OnBad,
    seed: u64,
    kept: Kept,
    broken: Mutex<BTreeMap<PathBuf, String>>,
}

impl ImageLoader {
    /// A loader of a set with its targets, if it has any. Decoded pictures are kept in up to `budget` bytes.
    ///
    /// # Panics
    /// If the targets are not as many as the pictures.
    #[must_use]
    pub fn new(
        set: ImageSet,
        targets: Targets,
        preprocess: Preprocess,
        augment: Augment,
        on_bad: OnBad,
        seed: u64,
        budget: usize,
    ) -> Self {
        let is_unlabelled = targets == Targets::None;
        assert!(
            is_unlabelled || set.len() == targets.len(),
            "a target for each picture"
        );
        let kept = Kept::new(set.len(), budget);
        Self {
            set,
            targets,
            preprocess,
            augment,
            on_bad,
            seed,
            kept,
            broken: Mutex::default(),
        }
    }

    /// The pictures.
    #[must_use]
    pub fn set(&self) -> &ImageSet {
        &self.set
    }

    /// Targets of all pictures.
    #[must_use]
    pub fn targets(&self) -> &Targets {
        &self.targets
    }

    /// Bytes of decoded pictures that are kept.
    #[must_use]
    pub fn kept(&self) -> usize {
        self.kept.used.load(Ordering::Relaxed)
    }

    /// Files that broke while they were read, with reasons: only where bad examples are skipped.
    #[must_use]
    pub fn broken(&self) -> BTreeMap<PathBuf, String> {
        self.broken
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Pictures as in evaluation, in this order.
    ///
    /// # Errors
    /// A file that cannot be read, unless such are skipped; they are then missing from the batch.
    pub fn eval_batch(&self, indices: &[usize]) -> Result<ImageBatch, DataError> {
        self.batch(indices, None)
    }

    /// Pictures as in training: `view` (an epoch, or the number of a fixed view) chooses what is random.
    ///
    /// # Errors
    /// As [`eval_batch`](Self::eval_batch).
    pub fn train_batch(&self, indices: &[usize], view: u64) -> Result<ImageBatch, DataError> {
        self.batch(indices, Some(view))
    }

    fn batch(&self, indices: &[usize], view: Option<u64>) -> Result<ImageBatch, DataError> {
        let size = self.preprocess.crop;
        let one = size * size * 3;
        let mut pixels = vec![0f32; indices.len() * one];
        let results: Vec<Result<(), DataError>> = pixels
            .par_chunks_mut(one.max(1))
            .zip(indices.par_iter())
            .map(|(to, &index)| self.one(index, view, to))
            .collect();
        let mut good = Vec::with_capacity(indices.len());
        for (place, result) in results.into_iter().enumerate() {
            match result {
                Ok(()) => good.push(place),
                Err(error) if self.on_bad == OnBad::Error => return Err(error),
                Err(error) => {
                    let path = self.set.path(indices[place]);
                    self.broken
                        .lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .insert(path, error.to_string());
                }
            }
        }
        if good.len() < indices.len() {
            for (to, &from) in good.iter().enumerate() {
                pixels.copy_within(from * one..(from + 1) * one, to * one);
            }
            pixels.truncate(good.len() * one);
        }
        let indices: Vec<usize> = good.iter().map(|&place| indices[place]).collect();
        Ok(ImageBatch {
            pixels,
            size,
            targets: self.targets.subset(&indices),
            mixed: None,
            indices,
        })
    }

    fn one(&self, index: usize, view: Option<u64>, to: &mut [f32]) -> Result<(), DataError> {
        if let Some(picture) = self.kept.get(index) {
            self.transform(picture, index, view, to);
            return Ok(());
        }
        self.set.read_with(index, |mut picture| {
            if self.augment.resized_crop.is_none() {
                // Every pipeline but a random resized crop begins so.
                let (resize, between) = (self.preprocess.resize, self.preprocess.interpolation);
                picture = resize_shorter(&picture, resize, between);
            }
            self.kept.offer(index, &picture);
            self.transform(&picture, index, view, to);
        })
    }

    fn transform(&self, picture: &Picture, index: usize, view: Option<u64>, to: &mut [f32]) {
        match view.filter(|_| !self.augment.is_none()) {
            None => self
                .preprocess
                .normalise(&self.preprocess.square(picture), to),
            Some(view) => {
                let mut draw = Draw::new(self.seed, view, index);
                let square = self.augment.square(picture, &self.preprocess, &mut draw);
                self.preprocess.normalise(&square, to);
                self.augment.erase(to, self.preprocess.crop, &mut draw);
            }
        }
    }
}
