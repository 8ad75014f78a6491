//! A glyph of a font as a grey picture: outline -> polygons -> exact areas.
//!
//! Only additions, multiplications, divisions and comparisons of `f64` are used, in a fixed order, so that every machine
//! draws the same bytes and a card can give a digest of them. No hinting, no metrics: the outline is scaled so that its longer side
//! fills the picture but for a margin, and centred.

use ttf_parser::{Face, OutlineBuilder};

/// Margin on each side, as a share of the picture's side.
const MARGIN: f64 = 1.0 / 16.0;
/// Straight pieces of a curve; at 128 pixels an icon's arc is off by less than a hundredth of a pixel.
const PIECES: u32 = 16;
/// Rows sampled for each row of pixels; along a row areas are exact.
const SUBROWS: u32 = 8;

type Point = (f64, f64);

/// A square picture, black on white.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Picture {
    /// Pixels of a side.
    pub(crate) side: u32,
    /// Row by row from the top, one byte a pixel.
    pub(crate) grey: Vec<u8>,
}

impl Picture {
    /// As a PGM file, the form in which a card's digest sees it: a PNG's bytes depend on who compressed it.
    pub(crate) fn pgm(&self) -> Vec<u8> {
        let mut file = format!("P5 {0} {0} 255\n", self.side).into_bytes();
        file.extend_from_slice(&self.grey);
        file
    }

    /// As a PNG file.
    pub(crate) fn png(&self) -> Result<Vec<u8>, png::EncodingError> {
        let mut file = Vec::new();
        let mut encoder = png::Encoder::new(&mut file, self.side, self.side);
        encoder.set_color(png::ColorType::Grayscale);
        encoder.set_depth(png::BitDepth::Eight);
        encoder.write_header()?.write_image_data(&self.grey)?;
        Ok(file)
    }
}

/// Draw a character, or say why not.
pub(crate) fn draw(font: &[u8], character: char, side: u32) -> Result<Picture, String> {
    let face = Face::parse(font, 0).map_err(|error| error.to_string())?;
    let name = || format!("U+{:04X}", u32::from(character));
    let glyph = face
        .glyph_index(character)
        .ok_or_else(|| format!("the font has no {}", name()))?;
    let mut outline = Outline::default();
    face.outline_glyph(glyph, &mut outline);
    outline.close();
    let points = || outline.contours.iter().flatten();
    let least = |part: fn(&Point) -> f64| points().map(part).fold(f64::INFINITY, f64::min);
    let most = |part: fn(&Point) -> f64| points().map(part).fold(f64::NEG_INFINITY, f64::max);
    let (left, right) = (least(|point| point.0), most(|point| point.0));
    let (bottom, top) = (least(|point| point.1), most(|point| point.1));
    let extent = (right - left).max(top - bottom);
    // Also false for the infinities of a glyph without points.
    if !(extent > 0.0 && extent.is_finite()) {
        return Err(format!("{} of the font is empty", name()));
    }
    let pixels = f64::from(side);
    let scale = pixels * (1.0 - 2.0 * MARGIN) / extent;
    let (middle_x, middle_y) = ((left + right) / 2.0, (bottom + top) / 2.0);
    // Fonts count y upwards, pictures downwards.
    let place = |&(x, y): &Point| {
        (
            pixels / 2.0 + (x - middle_x) * scale,
            pixels / 2.0 - (y - middle_y) * scale,
        )
    };
    let contours: Vec<Vec<Point>> = outline
        .contours
        .iter()
        .map(|contour| contour.iter().map(place).collect())
        .collect();
    Ok(fill(&contours, side))
}

/// Fill closed polygons by the rule of the winding number.
fn fill(contours: &[Vec<Point>], side: u32) -> Picture {
    let width = side as usize;
    let mut grey = Vec::with_capacity(width * width);
    let mut row = vec![0.0; width];
    let mut crossings: Vec<(f64, i32)> = Vec::new();
    for y in 0..side {
        row.fill(0.0);
        for subrow in 0..SUBROWS {
            let at = f64::from(y) + (f64::from(subrow) + 0.5) / f64::from(SUBROWS);
            crossings.clear();
            for contour in contours {
                let next = contour.iter().cycle().skip(1);
                for (&(x0, y0), &(x1, y1)) in contour.iter().zip(next) {
                    if (y0 <= at) != (y1 <= at) {
                        let x = x0 + (x1 - x0) * ((at - y0) / (y1 - y0));
                        crossings.push((x, if y1 > y0 { 1 } else { -1 }));
                    }
                }
            }
            crossings.sort_by(|a, b| a.0.total_cmp(&b.0));
            let mut winding = 0;
            for pair in crossings.windows(2) {
                winding += pair[0].1;
                if winding != 0 {
                    cover(&mut row, pair[0].0, pair[1].0);
                }
            }
        }
        let ink = |covered: &f64| (covered / f64::from(SUBROWS)).clamp(0.0, 1.0);
        grey.extend(
            row.iter()
                .map(|covered| (255.0 * (1.0 - ink(covered)) + 0.5) as u8),
        );
    }
    Picture { side, grey }
}

/// Add the span's share of each pixel.
fn cover(row: &mut [f64], from: f64, to: f64) {
    let last = row.len() as f64;
    let (from, to) = (from.clamp(0.0, last), to.clamp(0.0, last));
    for (pixel, covered) in row
        .iter_mut()
        .enumerate()
        .take(to.ceil() as usize)
        .skip(from as usize)
    {
        let left = pixel as f64;
        *covered += (to.min(left + 1.0) - from.max(left)).max(0.0);
    }
}

/// Collects an outline as polygons.
#[derive(Default)]
struct Outline {
    contours: Vec<Vec<Point>>,
    open: Vec<Point>,
}

impl Outline {
    /// Pieces of a curve that starts at the last point.
    fn curve(&mut self, at: impl Fn(Point, f64) -> Point) {
        let start = self.open.last().copied().unwrap_or_default();
        for piece in 1..=PIECES {
            self.open
                .push(at(start, f64::from(piece) / f64::from(PIECES)));
        }
    }
}

impl OutlineBuilder for Outline {
    fn move_to(&mut self, x: f32, y: f32) {
        self.close();
        self.open.push((x.into(), y.into()));
    }

    fn line_to(&mut self, x: f32, y: f32) {
        self.open.push((x.into(), y.into()));
    }

    fn quad_to(&mut self, x1: f32, y1: f32, x: f32, y: f32) {
        let mix = |a: f64, b: f32, c: f32, t: f64| {
            let u = 1.0 - t;
            u * u * a + 2.0 * u * t * f64::from(b) + t * t * f64::from(c)
        };
        self.curve(|start, t| (mix(start.0, x1, x, t), mix(start.1, y1, y, t)));
    }

    fn curve_to(&mut self, x1: f32, y1: f32, x2: f32, y2: f32, x: f32, y: f32) {
        let mix = |a: f64, b: f32, c: f32, d: f32, t: f64| {
            let u = 1.0 - t;
            u * u * u * a
                + 3.0 * u * u * t * f64::from(b)
                + 3.0 * u * t * t * f64::from(c)
                + t * t * t * f64::from(d)
        };
        self.curve(|start, t| (mix(start.0, x1, x2, x, t), mix(start.1, y1, y2, y, t)));
    }

    fn close(&mut self) {
        if !self.open.is_empty() {
            self.contours.push(std::mem::take(&mut self.open));
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn square(from: f64, to: f64) -> Vec<Point> {
        vec![(from, from), (to, from), (to, to), (from, to)]
    }

    #[test]
    fn areas_are_exact_and_holes_stay_white() {
        // A frame of half-pixels around a hole, in the opposite direction.
        let mut hole = square(2.0, 3.0);
        hole.reverse();
        let picture = fill(&[square(0.5, 4.5), hole], 5);
        let expect = [
            [191, 128, 128, 128, 191],
            [128, 0, 0, 0, 128],
            [128, 0, 255, 0, 128],
            [128, 0, 0, 0, 128],
            [191, 128, 128, 128, 191],
        ];
        assert_eq!(picture.grey, expect.concat());
        // The same direction twice is no hole.
        let picture = fill(&[square(0.0, 4.0), square(1.0, 3.0)], 4);
        assert_eq!(picture.grey, [0; 16]);
    }

    #[test]
    fn a_disc_of_curves_has_the_area_of_a_disc() {
        let k = 0.552_284_8;
        let mut outline = Outline::default();
        outline.move_to(1.0, 0.0);
        outline.curve_to(1.0, k, k, 1.0, 0.0, 1.0);
        outline.curve_to(-k, 1.0, -1.0, k, -1.0, 0.0);
        outline.curve_to(-1.0, -k, -k, -1.0, 0.0, -1.0);
        outline.curve_to(k, -1.0, 1.0, -k, 1.0, 0.0);
        outline.close();
        let disc: Vec<Point> = outline.contours[0]
            .iter()
            .map(|(x, y)| (32.0 + 30.0 * x, 32.0 + 30.0 * y))
            .collect();
        let ink: f64 = fill(&[disc], 64)
            .grey
            .iter()
            .map(|grey| 1.0 - f64::from(*grey) / 255.0)
            .sum();
        let area = std::f64::consts::PI * 900.0;
        // 64 chords lack 0.16 % of the disc.
        assert!((ink - area).abs() < 0.003 * area, "{ink} {area}");
    }

    #[test]
    fn what_is_no_font_is_refused() {
        assert!(draw(b"no font", 'x', 16).is_err());
    }

    #[test]
    fn the_png_holds_the_pixels() {
        let picture = fill(&[square(0.5, 4.5)], 5);
        let mut reader = png::Decoder::new(std::io::Cursor::new(picture.png().unwrap()))
            .read_info()
            .unwrap();
        let mut pixels = vec![0; 25];
        reader.next_frame(&mut pixels).unwrap();
        assert_eq!(pixels, picture.grey);
    }
}
