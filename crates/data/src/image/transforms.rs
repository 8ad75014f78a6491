//! Transforms equal to torchvision's on Pillow images. What is random is drawn first ([`Draw`]), then applied, so that the
//! same parameters give the same pixels here and there.

use fast_image_resize::{
    FilterType, PixelType, ResizeAlg, ResizeOptions, Resizer,
    images::{Image, ImageRef},
};
use serde::{Deserialize, Serialize};

use super::colour;
use super::decode::Picture;
use rekindle_base::rng::{self, Stream};

/// How pixels between pixels are found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Interpolation {
    /// The nearest.
    Nearest,
    /// Triangle filter.
    Bilinear,
    /// Cubic with a = -0.5.
    Bicubic,
}

/// How a picture becomes a model's input, nothing random: resize the shorter side, cut out the middle, normalise.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Preprocess {
    /// Shorter side after resizing.
    pub resize: usize,
    /// Side of the square that is cut out.
    pub crop: usize,
    /// Between pixels.
    pub interpolation: Interpolation,
    /// Mean by channel, of values in [0, 1].
    pub mean: [f32; 3],
    /// Standard deviation by channel.
    pub std: [f32; 3],
}

/// What is done at random to training pictures. The default does nothing.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Augment {
    /// Cut out a random part of this share of the area and ratio of sides (width to height), resized to the input's size;
    /// otherwise the middle, as in evaluation.
    pub resized_crop: Option<ResizedCrop>,
    /// Zeros put around the picture before a crop of its own size at a random place, for small pictures.
    pub padded_crop: Option<usize>,
    /// Probability of exchanging left and right.
    pub horizontal_flip: f64,
    /// Probability of exchanging top and bottom.
    pub vertical_flip: f64,
    /// Most relative change of brightness, contrast, saturation, and of the hue as a share of the circle (at most 0.5).
    pub colour_jitter: Option<[f64; 4]>,
    /// RandAugment (Cubuk et al. 2020): number of operations, and magnitude of 31.
    pub rand_augment: Option<(usize, usize)>,
    /// TrivialAugment wide (Müller and Hutter 2021).
    pub trivial_augment: bool,
    /// Probability of random erasing (Zhong et al. 2020), with torchvision's other defaults.
    pub erasing: f64,
}

/// Settings of a random resized crop.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct ResizedCrop {
    /// Least and greatest share of the area.
    pub scale: (f64, f64),
    /// Least and greatest width to height.
    pub ratio: (f64, f64),
}

impl Default for ResizedCrop {
    fn default() -> Self {
        Self {
            scale: (0.08, 1.0),
            ratio: (3.0 / 4.0, 4.0 / 3.0),
        }
    }
}

/// A rectangle of a picture: left, top, width, height.
pub type Rectangle = [usize; 4];

/// The random numbers of one picture: a pure function of (seed, epoch or view, picture, how many were taken).
#[derive(Debug, Clone)]
pub struct Draw {
    seed: u64,
    view: u64,
    picture: u64,
    taken: u64,
}

impl Draw {
    /// The numbers of a picture in an epoch (or in one of its fixed views).
    #[must_use]
    pub fn new(seed: u64, view: u64, picture: usize) -> Self {
        Self {
            seed,
            view,
            picture: picture as u64,
            taken: 0,
        }
    }

    /// Uniform in [0, 1).
    pub fn uniform(&mut self) -> f64 {
        // 64 numbers for each picture, more than any pipeline takes.
        let index = self.picture.wrapping_mul(64).wrapping_add(self.taken);
        self.taken += 1;
        let bits = rng::hash(self.seed, Stream::Augment as u64, self.view, index);
        (bits >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Uniform in [low, high).
    pub fn between(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * self.uniform()
    }

    /// A whole number below `n`.
    pub fn below(&mut self, n: usize) -> usize {
        ((self.uniform() * n as f64) as usize).min(n.saturating_sub(1))
    }

    /// torchvision's `RandomResizedCrop.get_params`.
    pub fn resized_crop(&mut self, width: usize, height: usize, crop: &ResizedCrop) -> Rectangle {
        const TRIES: usize = 10;
        let area = (width * height) as f64;
        for _ in 0..TRIES {
            let target = area * self.between(crop.scale.0, crop.scale.1);
            let ratio = self.between(crop.ratio.0.ln(), crop.ratio.1.ln()).exp();
            let w = (target * ratio).sqrt().round_ties_even() as usize;
            let h = (target / ratio).sqrt().round_ties_even() as usize;
            if (1..=width).contains(&w) && (1..=height).contains(&h) {
                let top = self.below(height - h + 1);
                let left = self.below(width - w + 1);
                return [left, top, w, h];
            }
        }
        let ratio = width as f64 / height as f64;
        let (w, h) = if ratio < crop.ratio.0 {
            (
                width,
                (width as f64 / crop.ratio.0).round_ties_even() as usize,
            )
        } else if ratio > crop.ratio.1 {
            (
                (height as f64 * crop.ratio.1).round_ties_even() as usize,
                height,
            )
        } else {
            (width, height)
        };
        [(width - w) / 2, (height - h) / 2, w, h]
    }

    /// torchvision's `RandomErasing.get_params` for scale (0.02, 0.33) and ratio (0.3, 3.3).
    pub fn erased(&mut self, width: usize, height: usize) -> Option<Rectangle> {
        const TRIES: usize = 10;
        let area = (width * height) as f64;
        for _ in 0..TRIES {
            let target = area * self.between(0.02, 0.33);
            let ratio = self.between(0.3f64.ln(), 3.3f64.ln()).exp();
            let h = (target * ratio).sqrt().round_ties_even() as usize;
            let w = (target / ratio).sqrt().round_ties_even() as usize;
            if h < height && w < width {
                let top = self.below(height - h + 1);
                let left = self.below(width - w + 1);
                return Some([left, top, w, h]);
            }
        }
        None
    }
}

/// Resizes a part of a picture, as Pillow does (8 bits between the two passes).
#[must_use]
pub fn resize_part(
    picture: &Picture,
    [left, top, width, height]: Rectangle,
    to_width: usize,
    to_height: usize,
    interpolation: Interpolation,
) -> Picture {
    // torchvision crops first and then resizes: no pixel outside of the part counts.
    let whole = [left, top, width, height] == [0, 0, picture.width, picture.height];
    let part;
    let source = if whole {
        picture
    } else {
        part = picture.crop(left as isize, top as isize, width, height);
        &part
    };
    if (to_width, to_height) == (width, height) {
        return source.clone();
    }
    let filter = match interpolation {
        Interpolation::Nearest => return nearest(source, to_width, to_height),
        Interpolation::Bilinear => FilterType::Bilinear,
        Interpolation::Bicubic => FilterType::CatmullRom,
    };
    // Along rows first and then along columns, with whole numbers between, as Pillow does.
    let wide = if to_width == width {
        None
    } else {
        Some(convolved(source, to_width, height, filter))
    };
    match (wide, to_height == height) {
        (Some(wide), true) => wide,
        (Some(wide), false) => convolved(&wide, to_width, to_height, filter),
        (None, _) => convolved(source, to_width, to_height, filter),
    }
}

fn convolved(source: &Picture, width: usize, height: usize, filter: FilterType) -> Picture {
    let whole = [0.0, 0.0, source.width as f64, source.height as f64];
    convolved_part(source, whole, width, height, filter)
}

/// Left, top, width and height of a part may lie between pixels; what stands around the part counts.
fn convolved_part(
    source: &Picture,
    [left, top, from_width, from_height]: [f64; 4],
    width: usize,
    height: usize,
    filter: FilterType,
) -> Picture {
    let resized = || -> Option<Picture> {
        let from = ImageRef::new(
            u32::try_from(source.width).ok()?,
            u32::try_from(source.height).ok()?,
            &source.pixels,
            PixelType::U8x3,
        )
        .ok()?;
        let mut to = Image::new(
            u32::try_from(width).ok()?,
            u32::try_from(height).ok()?,
            PixelType::U8x3,
        );
        let options = ResizeOptions::new()
            .resize_alg(ResizeAlg::Convolution(filter))
            .crop(left, top, from_width, from_height);
        Resizer::new().resize(&from, &mut to, Some(&options)).ok()?;
        Some(Picture {
            width,
            height,
            pixels: to.into_vec(),
        })
    };
    // The sizes are those of a decoded picture and of a model's input, so this does not fail.
    resized().unwrap_or_else(|| Picture::filled(width, height, [0; 3]))
}

fn nearest(picture: &Picture, width: usize, height: usize) -> Picture {
    let mut to = Picture::filled(width, height, [0; 3]);
    let along = |at: usize, from: usize, to: usize| {
        (((at as f64 + 0.5) * from as f64 / to as f64) as usize).min(from.saturating_sub(1))
    };
    for y in 0..height {
        for x in 0..width {
            let pixel = picture.at(
                along(x, picture.width, width),
                along(y, picture.height, height),
            );
            to.pixels[(y * width + x) * 3..][..3].copy_from_slice(&pixel);
        }
    }
    to
}

/// A picture is resized whole up to twice this ratio of its sides. Of a longer one only the middle is kept: a strip of
/// 60,000 x 1 pixels would become gigabytes.
const LONGEST: usize = 16;

/// The middle of what [`resize_shorter`] would make of a long picture: `LONGEST` times as long as `size`, with the pixels that
/// the whole would have there.
fn resize_middle(picture: &Picture, size: usize, interpolation: Interpolation) -> Picture {
    let is_wide = picture.width > picture.height;
    let (short, long) = match is_wide {
        true => (picture.height.max(1), picture.width),
        false => (picture.width.max(1), picture.height),
    };
    let whole = size * long / short;
    // Even, so that a centre crop rounds as it would of the whole.
    let first = (whole - LONGEST * size) / 2 / 2 * 2;
    let length = whole - 2 * first;
    // The part of the source, and the pixels around it that a filter reads.
    let scale = long as f64 / whole as f64;
    let (from, span) = (first as f64 * scale, length as f64 * scale);
    let margin = 3.0 * scale.max(1.0) + 1.0;
    let start = (from - margin).floor().max(0.0) as usize;
    let end = ((from + span + margin).ceil() as usize).min(long);
    let around = match is_wide {
        true => picture.crop(start as isize, 0, end - start, picture.height),
        false => picture.crop(0, start as isize, picture.width, end - start),
    };
    let from = from - start as f64;
    let filter = match interpolation {
        Interpolation::Nearest => {
            let across = |at: usize| ((at as f64 + 0.5) * short as f64 / size as f64) as usize;
            let along = |at: usize| (from + (at as f64 + 0.5) * scale) as usize;
            let (width, height) = if is_wide {
                (length, size)
            } else {
                (size, length)
            };
            let mut middle = Picture::filled(width, height, [0; 3]);
            for y in 0..height {
                for x in 0..width {
                    let (x_from, y_from) = if is_wide {
                        (along(x), across(y))
                    } else {
                        (across(x), along(y))
                    };
                    let pixel =
                        around.at(x_from.min(around.width - 1), y_from.min(around.height - 1));
                    middle.pixels[(y * width + x) * 3..][..3].copy_from_slice(&pixel);
                }
            }
            return middle;
        }
        Interpolation::Bilinear => FilterType::Bilinear,
        Interpolation::Bicubic => FilterType::CatmullRom,
    };
    let (across, along) = (short as f64, [from, span]);
    match is_wide {
        true => {
            let rows = convolved_part(
                &around,
                [along[0], 0.0, along[1], across],
                length,
                short,
                filter,
            );
            convolved(&rows, length, size, filter)
        }
        false => {
            let rows = convolved(&around, size, around.height, filter);
            convolved_part(
                &rows,
                [0.0, along[0], size as f64, along[1]],
                size,
                length,
                filter,
            )
        }
    }
}

/// torchvision's `Resize(size)`: the shorter side becomes `size`, the longer is cut to a whole number. Of a picture that is
/// more than 32 times as long as wide, only the middle.
#[must_use]
pub fn resize_shorter(picture: &Picture, size: usize, interpolation: Interpolation) -> Picture {
    let (width, height) = (picture.width.max(1), picture.height.max(1));
    let (short, long) = (width.min(height), width.max(height));
    if long / short >= LONGEST * 2 {
        return resize_middle(picture, size, interpolation);
    }
    let longer = size * long / short;
    let (to_width, to_height) = if width <= height {
        (size, longer)
    } else {
        (longer, size)
    };
    let whole = [0, 0, picture.width, picture.height];
    resize_part(picture, whole, to_width, to_height, interpolation)
}

/// torchvision's `CenterCrop(size)`: a smaller picture is surrounded by black first.
#[must_use]
pub fn centre_crop(picture: &Picture, size: usize) -> Picture {
    let along = |length: usize| -> isize {
        if length < size {
            // The padding before is half, rounded down.
            -(((size - length) / 2) as isize)
        } else {
            ((length - size) as f64 / 2.0).round_ties_even() as isize
        }
    };
    picture.crop(along(picture.width), along(picture.height), size, size)
}

impl Preprocess {
    /// The square that the model sees, in evaluation.
    #[must_use]
    pub fn square(&self, picture: &Picture) -> Picture {
        centre_crop(
            &resize_shorter(picture, self.resize, self.interpolation),
            self.crop,
        )
    }

    /// `[size, size, 3]` values, normalised, written to `to`.
    ///
    /// # Panics
    /// If `to` has another length.
    pub fn normalise(&self, picture: &Picture, to: &mut [f32]) {
        assert_eq!(to.len(), picture.pixels.len(), "a square of another size");
        let pixels = picture.pixels.as_chunks::<3>().0;
        for (to, pixel) in to.as_chunks_mut::<3>().0.iter_mut().zip(pixels) {
            for c in 0..3 {
                to[c] = (f32::from(pixel[c]) / 255.0 - self.mean[c]) / self.std[c];
            }
        }
    }
}

impl Augment {
    /// Whether it changes nothing.
    #[must_use]
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }

    /// The square that the model sees, in training.
    #[must_use]
    pub fn square(&self, picture: &Picture, preprocess: &Preprocess, draw: &mut Draw) -> Picture {
        let size = preprocess.crop;
        let mut square = if let Some(crop) = &self.resized_crop {
            let part = draw.resized_crop(picture.width, picture.height, crop);
            resize_part(picture, part, size, size, preprocess.interpolation)
        } else {
            preprocess.square(picture)
        };
        if let Some(padding) = self.padded_crop {
            let (left, top) = (draw.below(2 * padding + 1), draw.below(2 * padding + 1));
            let at = |drawn: usize| drawn as isize - padding as isize;
            square = square.crop(at(left), at(top), size, size);
        }
        if self.horizontal_flip > 0.0 && draw.uniform() < self.horizontal_flip {
            square = square.mirrored();
        }
        if self.vertical_flip > 0.0 && draw.uniform() < self.vertical_flip {
            square = square.upside_down();
        }
        if let Some((operations, magnitude)) = self.rand_augment {
            for _ in 0..operations {
                square = colour::Operation::rand_augment(draw, magnitude, size).apply(&square);
            }
        }
        if self.trivial_augment {
            square = colour::Operation::trivial_augment(draw).apply(&square);
        }
        if let Some(jitter) = self.colour_jitter {
            square = colour::jitter(square, jitter, draw);
        }
        square
    }

    /// Erases a part of a normalised square `[size, size, 3]`.
    pub fn erase(&self, values: &mut [f32], size: usize, draw: &mut Draw) {
        if self.erasing <= 0.0 || draw.uniform() >= self.erasing {
            return;
        }
        if let Some([left, top, width, height]) = draw.erased(size, size) {
            for row in top..top + height {
                values[(row * size + left) * 3..][..width * 3].fill(0.0);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Where a filter's weights begin is rounded once more for a part.
    const ROUNDING: u8 = 1;

    /// The middle of a strip has the pixels that it would have if the whole strip had been resized.
    #[test]
    fn the_middle_of_a_strip_is_that_of_the_whole() {
        for (width, height) in [(997, 7), (7, 997), (640, 3), (2, 333)] {
            let mut strip = Picture::filled(width, height, [0; 3]);
            for (index, value) in strip.pixels.iter_mut().enumerate() {
                *value = (rng::hash(1, 2, 3, index as u64) & 0xFF) as u8;
            }
            for interpolation in [
                Interpolation::Nearest,
                Interpolation::Bilinear,
                Interpolation::Bicubic,
            ] {
                let size = 24;
                let longer = size * width.max(height) / width.min(height);
                let (to_width, to_height) = if width > height {
                    (longer, size)
                } else {
                    (size, longer)
                };
                let whole = resize_part(
                    &strip,
                    [0, 0, width, height],
                    to_width,
                    to_height,
                    interpolation,
                );
                let middle = resize_shorter(&strip, size, interpolation);
                assert!(middle.pixels.len() <= (LONGEST + 1) * size * size * 3);
                let (found, expect) = (centre_crop(&middle, size), centre_crop(&whole, size));
                let furthest = found
                    .pixels
                    .iter()
                    .zip(&expect.pixels)
                    .map(|(a, b)| a.abs_diff(*b))
                    .max();
                assert!(
                    furthest <= Some(ROUNDING),
                    "{width} x {height}, {interpolation:?}: {furthest:?}"
                );
            }
        }
    }

    #[test]
    fn a_long_strip_costs_little() {
        let strip = Picture::filled(60_000, 1, [9, 8, 7]);
        let middle = resize_shorter(&strip, 256, Interpolation::Bicubic);
        assert!(
            middle.pixels.len() < 4 << 20,
            "{} bytes",
            middle.pixels.len()
        );
        assert_eq!(middle.at(0, 0), [9, 8, 7]);
    }
}
