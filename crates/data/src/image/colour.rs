//! Changes of colour and shape, pixel by pixel as Pillow makes them, and the sets of them that RandAugment and
//! TrivialAugment draw from.

use super::decode::Picture;
use super::transforms::Draw;

/// Pillow's grey of a pixel (ITU-R 601-2, 16 bits of fraction).
fn grey([r, g, b]: [u8; 3]) -> u8 {
    ((u32::from(r) * 19595 + u32::from(g) * 38470 + u32::from(b) * 7471 + 0x8000) >> 16) as u8
}

/// Pillow's blend of two values, which cuts off fractions.
fn blend(from: u8, to: u8, factor: f32) -> u8 {
    let (from, to) = (f32::from(from), f32::from(to));
    (from + factor * (to - from)).clamp(0.0, 255.0) as u8
}

fn map(mut picture: Picture, f: impl Fn([u8; 3]) -> [u8; 3]) -> Picture {
    for pixel in picture.pixels.as_chunks_mut::<3>().0 {
        *pixel = f(*pixel);
    }
    picture
}

/// `adjust_brightness`.
#[must_use]
pub fn brightness(picture: Picture, factor: f32) -> Picture {
    map(picture, |pixel| pixel.map(|v| blend(0, v, factor)))
}

/// `adjust_contrast`: around the mean grey.
#[must_use]
pub fn contrast(picture: Picture, factor: f32) -> Picture {
    let pixels = picture.pixels.as_chunks::<3>().0;
    let sum: u64 = pixels.iter().map(|&pixel| u64::from(grey(pixel))).sum();
    let mean = (sum as f64 / pixels.len().max(1) as f64 + 0.5) as u8;
    map(picture, |pixel| pixel.map(|v| blend(mean, v, factor)))
}

/// `adjust_saturation`.
#[must_use]
pub fn saturation(picture: Picture, factor: f32) -> Picture {
    map(picture, |pixel| {
        let grey = grey(pixel);
        pixel.map(|v| blend(grey, v, factor))
    })
}

/// `adjust_hue` by a share of the circle, in [-0.5, 0.5].
#[must_use]
pub fn hue(picture: Picture, shift: f64) -> Picture {
    let shift = (shift * 255.0) as i32 as u8;
    map(picture, |pixel| {
        let [h, s, v] = to_hsv(pixel);
        from_hsv([h.wrapping_add(shift), s, v])
    })
}

fn to_hsv([r, g, b]: [u8; 3]) -> [u8; 3] {
    let (most, least) = (r.max(g).max(b), r.min(g).min(b));
    if most == least {
        return [0, 0, most];
    }
    let span = f32::from(most - least);
    let part = |v: u8| f64::from(f32::from(most - v) / span);
    let h = if r == most {
        part(b) - part(g)
    } else if g == most {
        2.0 + part(r) - part(b)
    } else {
        4.0 + part(g) - part(r)
    };
    // Pillow keeps single precision between the steps, which the cut to whole numbers shows.
    let h = ((f64::from(h as f32) / 6.0 + 1.0) % 1.0) as f32;
    let s = span / f32::from(most);
    [
        (f64::from(h) * 255.0) as u8,
        (f64::from(s) * 255.0) as u8,
        most,
    ]
}

fn from_hsv([h, s, v]: [u8; 3]) -> [u8; 3] {
    if s == 0 {
        return [v; 3];
    }
    let (sixth, s) = (f64::from(h) * 6.0 / 255.0, f64::from(f32::from(s) / 255.0));
    let (whole, part) = (sixth.floor(), f64::from((sixth - sixth.floor()) as f32));
    let value = |share: f64| (f64::from(v) * share).round() as u8;
    let (p, q, t) = (
        value(1.0 - s),
        value(1.0 - s * part),
        value(1.0 - s * (1.0 - part)),
    );
    match whole as u8 % 6 {
        0 => [v, t, p],
        1 => [q, v, p],
        2 => [p, v, t],
        3 => [p, q, v],
        4 => [t, p, v],
        _ => [v, p, q],
    }
}

/// `ColorJitter`: the four changes in random order.
pub(super) fn jitter(mut picture: Picture, most: [f64; 4], draw: &mut Draw) -> Picture {
    let mut order = [0, 1, 2, 3];
    for i in (1..4).rev() {
        order.swap(i, draw.below(i + 1));
    }
    let factors: [f64; 4] = std::array::from_fn(|i| match i {
        3 => draw.between(-most[3], most[3]),
        i => draw.between((1.0 - most[i]).max(0.0), 1.0 + most[i]),
    });
    for change in order {
        if most[change] > 0.0 {
            let factor = factors[change];
            picture = match change {
                0 => brightness(picture, factor as f32),
                1 => contrast(picture, factor as f32),
                2 => saturation(picture, factor as f32),
                _ => hue(picture, factor),
            };
        }
    }
    picture
}

/// `adjust_sharpness`: against Pillow's smoothing filter.
#[must_use]
pub fn sharpness(picture: &Picture, factor: f32) -> Picture {
    let (width, height) = (picture.width, picture.height);
    let mut result = picture.clone();
    for y in 0..height {
        for x in 0..width {
            let from = (y * width + x) * 3;
            for c in 0..3 {
                // The edge stays as it is.
                let smooth = if x == 0 || y == 0 || x + 1 == width || y + 1 == height {
                    picture.pixels[from + c]
                } else {
                    let mut sum = 4.0 * f32::from(picture.pixels[from + c]);
                    for dy in 0..3 {
                        for dx in 0..3 {
                            let at = ((y + dy - 1) * width + x + dx - 1) * 3 + c;
                            sum += f32::from(picture.pixels[at]);
                        }
                    }
                    (sum / 13.0 + 0.5) as u8
                };
                result.pixels[from + c] = blend(smooth, picture.pixels[from + c], factor);
            }
        }
    }
    result
}

/// `posterize`: keeps the upper bits of each value.
#[must_use]
pub fn posterize(picture: Picture, bits: u32) -> Picture {
    let mask = !(0xffu32 >> bits.min(8)) as u8;
    map(picture, |pixel| pixel.map(|v| v & mask))
}

/// `solarize`: values from the threshold on are turned over.
#[must_use]
pub fn solarize(picture: Picture, threshold: f64) -> Picture {
    map(picture, |pixel| {
        pixel.map(|v| if f64::from(v) < threshold { v } else { 255 - v })
    })
}

/// How often each value occurs in a channel.
fn histogram(picture: &Picture, channel: usize) -> [usize; 256] {
    let mut counts = [0; 256];
    for pixel in picture.pixels.as_chunks::<3>().0 {
        counts[usize::from(pixel[channel])] += 1;
    }
    counts
}

fn by_table(picture: Picture, tables: [[u8; 256]; 3]) -> Picture {
    map(picture, |pixel| {
        std::array::from_fn(|c| tables[c][usize::from(pixel[c])])
    })
}

const UNCHANGED: fn(usize) -> u8 = |i| i as u8;

/// `autocontrast`: each channel stretched to the full range.
#[must_use]
pub fn autocontrast(picture: Picture) -> Picture {
    let tables = [0, 1, 2].map(|channel| {
        let counts = histogram(&picture, channel);
        let low = counts.iter().position(|&n| n > 0).unwrap_or(0);
        let high = counts.iter().rposition(|&n| n > 0).unwrap_or(0);
        if high <= low {
            return std::array::from_fn(UNCHANGED);
        }
        let scale = 255.0 / (high - low) as f64;
        let offset = -(low as f64) * scale;
        std::array::from_fn(|i| (i as f64 * scale + offset).clamp(0.0, 255.0) as u8)
    });
    by_table(picture, tables)
}

/// `equalize`: each channel's values spread evenly.
#[must_use]
pub fn equalize(picture: Picture) -> Picture {
    let tables = [0, 1, 2].map(|channel| {
        let counts = histogram(&picture, channel);
        let used: Vec<usize> = counts.iter().copied().filter(|&n| n > 0).collect();
        let sum: usize = used.iter().sum();
        let step = (sum - used.last().copied().unwrap_or(0)) / 255;
        if used.len() <= 1 || step == 0 {
            return std::array::from_fn(UNCHANGED);
        }
        let mut n = step / 2;
        std::array::from_fn(|i| {
            let value = (n / step).min(255) as u8;
            n += counts[i];
            value
        })
    });
    by_table(picture, tables)
}

/// Pillow's `transform(AFFINE, NEAREST)` with its 16 bits of fraction: the output's (x, y) is the input's
/// (a x + b y + c, d x + e y + f), black beyond the edges.
#[must_use]
pub fn affine(picture: &Picture, [a, b, c, d, e, f]: [f64; 6]) -> Picture {
    let fixed = |value: f64| (value * 65536.0 + 0.5).floor() as i64;
    let (width, height) = (picture.width, picture.height);
    let mut result = Picture::filled(width, height, [0; 3]);
    let (mut row_u, mut row_v) = (fixed(c + a * 0.5 + b * 0.5), fixed(f + d * 0.5 + e * 0.5));
    for y in 0..height {
        let (mut u, mut v) = (row_u, row_v);
        for x in 0..width {
            let at = (u >> 16, v >> 16);
            if (0..width as i64).contains(&at.0) && (0..height as i64).contains(&at.1) {
                let pixel = picture.at(at.0 as usize, at.1 as usize);
                result.pixels[(y * width + x) * 3..][..3].copy_from_slice(&pixel);
            }
            (u, v) = (u + fixed(a), v + fixed(d));
        }
        (row_u, row_v) = (row_u + fixed(b), row_v + fixed(e));
    }
    result
}

/// One operation of RandAugment and TrivialAugment, with its magnitude.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Operation {
    /// Nothing.
    Identity,
    /// By a share of the height.
    ShearX(f64),
    /// By a share of the width.
    ShearY(f64),
    /// In pixels.
    TranslateX(f64),
    /// In pixels.
    TranslateY(f64),
    /// In degrees, against the clock.
    Rotate(f64),
    /// Relative change.
    Brightness(f64),
    /// Relative change.
    Colour(f64),
    /// Relative change.
    Contrast(f64),
    /// Relative change.
    Sharpness(f64),
    /// Bits kept.
    Posterize(u32),
    /// Threshold.
    Solarize(f64),
    /// Full range.
    AutoContrast,
    /// Even spread.
    Equalize,
}

impl Operation {
    /// One of torchvision's RandAugment, at `magnitude` of 31 for pictures of this side.
    pub fn rand_augment(draw: &mut Draw, magnitude: usize, side: usize) -> Self {
        let share = magnitude.min(30) as f64 / 30.0;
        let which = draw.below(14);
        let sign = if draw.uniform() < 0.5 { -1.0 } else { 1.0 };
        let translate = 150.0 / 331.0 * side as f64;
        Self::of(which, share, sign, [0.3, translate, 30.0, 0.9], 4.0)
    }

    /// One of torchvision's TrivialAugmentWide, at a magnitude of its own.
    pub fn trivial_augment(draw: &mut Draw) -> Self {
        let which = draw.below(14);
        let share = draw.below(31) as f64 / 30.0;
        let sign = if draw.uniform() < 0.5 { -1.0 } else { 1.0 };
        Self::of(which, share, sign, [0.99, 32.0, 135.0, 0.99], 6.0)
    }

    fn of(
        which: usize,
        share: f64,
        sign: f64,
        [shear, translate, rotate, colour]: [f64; 4],
        bits: f64,
    ) -> Self {
        let scaled = |most: f64| sign * share * most;
        match which {
            0 => Self::Identity,
            1 => Self::ShearX(scaled(shear)),
            2 => Self::ShearY(scaled(shear)),
            3 => Self::TranslateX(scaled(translate).trunc()),
            4 => Self::TranslateY(scaled(translate).trunc()),
            5 => Self::Rotate(scaled(rotate)),
            6 => Self::Brightness(scaled(colour)),
            7 => Self::Colour(scaled(colour)),
            8 => Self::Contrast(scaled(colour)),
            9 => Self::Sharpness(scaled(colour)),
            10 => Self::Posterize((8.0 - (bits * share).round_ties_even()) as u32),
            11 => Self::Solarize(255.0 * (1.0 - share)),
            12 => Self::AutoContrast,
            _ => Self::Equalize,
        }
    }

    /// Applies it.
    #[must_use]
    pub fn apply(self, picture: &Picture) -> Picture {
        let own = || picture.clone();
        match self {
            Self::Identity => own(),
            // torchvision shears around the upper left corner, by the inverse map.
            Self::ShearX(by) => affine(picture, [1.0, by, 0.0, 0.0, 1.0, 0.0]),
            Self::ShearY(by) => affine(picture, [1.0, 0.0, 0.0, by, 1.0, 0.0]),
            Self::TranslateX(by) => affine(picture, [1.0, 0.0, -by, 0.0, 1.0, 0.0]),
            Self::TranslateY(by) => affine(picture, [1.0, 0.0, 0.0, 0.0, 1.0, -by]),
            Self::Rotate(degrees) => {
                let (sin, cos) = (-degrees).to_radians().sin_cos();
                let (x, y) = (picture.width as f64 / 2.0, picture.height as f64 / 2.0);
                let map = [
                    cos,
                    sin,
                    x - cos * x - sin * y,
                    -sin,
                    cos,
                    y + sin * x - cos * y,
                ];
                affine(picture, map)
            }
            Self::Brightness(by) => brightness(own(), (1.0 + by) as f32),
            Self::Colour(by) => saturation(own(), (1.0 + by) as f32),
            Self::Contrast(by) => contrast(own(), (1.0 + by) as f32),
            Self::Sharpness(by) => sharpness(picture, (1.0 + by) as f32),
            Self::Posterize(bits) => posterize(own(), bits),
            Self::Solarize(threshold) => solarize(own(), threshold),
            Self::AutoContrast => autocontrast(own()),
            Self::Equalize => equalize(own()),
        }
    }
}
