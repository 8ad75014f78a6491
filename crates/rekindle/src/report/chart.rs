//! Line charts as inline SVG that stretches with the page, with axis labels in HTML so that they keep their size.
//!
//! The SVG's user space is 1000 by 1000 whatever the size on screen; strokes do not scale. Reading values needs no
//! script: narrow columns over the plot show their figures when hovered.

use std::fmt::Write;

use super::text::{count, escape, scientific, short_count};

/// Points that are drawn of a longer series; a report stays small and a screen shows no more.
const DRAWN_POINTS: usize = 600;
/// Dots that are drawn of a longer series.
const DRAWN_DOTS: usize = 120;
/// Columns that show a figure on hover.
const HOVER_COLUMNS: usize = 80;
/// Values above this multiple of the 98th percentile are spikes that must not flatten the curve.
const SPIKE: f64 = 4.0;
/// Of fewer values no percentile tells a spike from the course of a short run.
const FEWEST: usize = 51;

/// A chart over optimizer steps.
pub struct Chart<'a> {
    pub title: &'a str,
    pub unit: &'a str,
    /// Height class: `tall` or `small`.
    pub size: &'a str,
    pub lines: Vec<Line>,
    pub dots: Vec<Dots>,
    pub marks: Vec<Mark>,
    pub format: fn(f64) -> String,
    /// The value axis starts at 0 whatever the values.
    pub from_zero: bool,
    /// The axis shows no value above this.
    pub ceiling: Option<f64>,
    /// A sentence below; may be empty.
    pub note: String,
}

/// A curve; points that are not finite break it.
pub struct Line {
    pub name: String,
    pub class: &'static str,
    pub points: Vec<(f64, f64)>,
    /// Computed from another line, which alone decides the axis and the remarks.
    pub derived: bool,
}

impl Line {
    /// A curve; one without a name is not in the legend.
    pub fn new(name: &str, class: &'static str, points: Vec<(f64, f64)>) -> Self {
        Self {
            name: name.to_owned(),
            class,
            points,
            derived: false,
        }
    }
}

/// Separate values, drawn as dots.
pub struct Dots {
    pub name: String,
    pub class: &'static str,
    pub points: Vec<(f64, f64)>,
}

/// A vertical mark at a step.
pub struct Mark {
    pub x: f64,
    pub label: String,
    pub class: &'static str,
}

impl Mark {
    /// A mark; its label may be empty.
    pub fn new(x: f64, label: &str, class: &'static str) -> Self {
        Self {
            x,
            label: label.to_owned(),
            class,
        }
    }
}

/// A linear axis whose ends are ticks.
#[derive(Debug, Clone, PartialEq)]
pub struct Axis {
    pub low: f64,
    pub high: f64,
    pub ticks: Vec<f64>,
}

impl Axis {
    /// An axis over `low..=high` with about `target` ticks at multiples of 1, 2 or 5 times a power of ten. With
    /// `snap` the axis is widened to whole ticks, without it the ticks are those inside.
    pub fn nice(low: f64, high: f64, target: usize, snap: bool) -> Self {
        let (low, high) = match high > low {
            true => (low, high),
            false if low == 0.0 => (0.0, 1.0),
            false => (low - low.abs() * 0.5, low + low.abs() * 0.5),
        };
        let raw = (high - low) / target.max(1) as f64;
        let power = 10_f64.powf(raw.log10().floor());
        let step = match raw / power {
            r if r <= 1.0 => power,
            r if r <= 2.0 => 2.0 * power,
            r if r <= 5.0 => 5.0 * power,
            _ => 10.0 * power,
        };
        // A hair of tolerance, so that 0.3 / 0.1 counts as 3.
        let (first, last) = match snap {
            true => ((low / step + 1e-9).floor(), (high / step - 1e-9).ceil()),
            false => ((low / step - 1e-9).ceil(), (high / step + 1e-9).floor()),
        };
        let ticks: Vec<f64> = (first as i64..=last as i64)
            .map(|k| k as f64 * step)
            .collect();
        match snap {
            true => Self {
                low: first * step,
                high: last * step,
                ticks,
            },
            false => Self { low, high, ticks },
        }
    }

    /// Where `value` lies, 0 at the low end and 1 at the high end.
    pub fn place(&self, value: f64) -> f64 {
        (value - self.low) / (self.high - self.low)
    }
}

/// A tick's label, with the decimals that tell it from its neighbours.
pub fn tick_label(value: f64, ticks: &[f64]) -> String {
    let step = match ticks {
        [first, second, ..] => second - first,
        _ => value.abs(),
    };
    let largest = ticks.iter().fold(0.0_f64, |a, b| a.max(b.abs()));
    if value == 0.0 || step == 0.0 {
        "0".to_owned()
    } else if largest < 0.01 {
        scientific(value, 2)
    } else if largest >= 1e5 {
        let sign = if value < 0.0 { "-" } else { "" };
        format!("{sign}{}", short_count(value.abs().round() as u64))
    } else if step >= 1.0 {
        let sign = if value < 0.0 { "-" } else { "" };
        format!("{sign}{}", count(value.abs().round() as u64))
    } else {
        let decimals = (-step.log10().floor()).clamp(0.0, 9.0) as usize;
        format!("{value:.decimals$}")
    }
}

impl Chart<'_> {
    /// The chart as a `<figure>`; a sentence in its place when it holds no finite value.
    pub fn html(&self) -> String {
        let title = escape(self.title);
        let unit = escape(self.unit);
        let finite = |points: &[(f64, f64)]| -> Vec<(f64, f64)> {
            points
                .iter()
                .copied()
                .filter(|(x, y)| x.is_finite() && y.is_finite())
                .collect()
        };
        let mut values: Vec<f64> = Vec::new();
        let mut steps: Vec<f64> = Vec::new();
        let measured = self.lines.iter().filter(|line| !line.derived);
        let measured = measured.map(|line| &line.points);
        for points in measured.chain(self.dots.iter().map(|d| &d.points)) {
            values.extend(finite(points).iter().map(|p| p.1));
            steps.extend(points.iter().map(|p| p.0).filter(|x| x.is_finite()));
        }
        if values.is_empty() {
            return format!(
                "<figure class=\"chart {}\"><figcaption><b>{title}</b></figcaption>\
                 <p class=\"empty\">Nothing was recorded.</p></figure>",
                self.size
            );
        }
        values.sort_by(f64::total_cmp);
        let (lowest, highest) = (values[0], values[values.len() - 1]);
        let spike = spike_limit(&values);
        // Room above what is usual; the spikes themselves run off the top.
        let top = if highest > spike {
            spike / SPIKE * 1.5
        } else {
            highest
        };
        let bottom = if lowest > 0.0 && (self.from_zero || lowest < 0.5 * top) {
            0.0
        } else {
            lowest
        };
        let mut y = Axis::nice(bottom, top, 5, true);
        if let Some(ceiling) = self
            .ceiling
            .filter(|&ceiling| highest <= ceiling && ceiling < y.high)
        {
            y.high = ceiling;
            y.ticks.retain(|&tick| tick <= ceiling);
        }
        let first = steps.iter().copied().fold(f64::INFINITY, f64::min);
        let last = steps.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        // Steps count from 0; a single one still needs a width.
        let start = if first < 0.3 * last { 0.0 } else { first };
        let x = match last > start {
            true => Axis {
                low: start,
                high: last,
                ticks: Axis::nice(start, last, 6, false).ticks,
            },
            false => Axis {
                low: start - 1.0,
                high: start + 1.0,
                ticks: vec![start],
            },
        };
        let x = Axis {
            ticks: x
                .ticks
                .into_iter()
                .filter(|tick| tick.fract() == 0.0)
                .collect(),
            ..x
        };

        let mut svg = String::new();
        let mut labels = String::new();
        for &tick in &y.ticks {
            let at = 1.0 - y.place(tick);
            let class = if at > 0.9999 { "axis" } else { "grid" };
            let _ = write!(
                svg,
                "<path class=\"{class}\" d=\"M0 {0:.1}H1000\"/>",
                at * 1000.0
            );
            let _ = write!(
                labels,
                "<span class=\"y\" style=\"top:{:.2}%\">{}</span>",
                at * 100.0,
                tick_label(tick, &y.ticks)
            );
        }
        for &tick in &x.ticks {
            let _ = write!(
                labels,
                "<span class=\"x\" style=\"left:{:.2}%\">{}</span>",
                x.place(tick) * 100.0,
                tick_label(tick, &x.ticks)
            );
        }
        for mark in &self.marks {
            let at = x.place(mark.x);
            if !(0.0..=1.0).contains(&at) {
                continue;
            }
            let _ = write!(
                svg,
                "<path class=\"mark {}\" d=\"M{:.1} 0V1000\"/>",
                mark.class,
                at * 1000.0
            );
            if !mark.label.is_empty() {
                let side = if at > 0.5 { " left" } else { "" };
                let _ = write!(
                    labels,
                    "<span class=\"note {}{side}\" style=\"left:{:.2}%\">{}</span>",
                    mark.class,
                    at * 100.0,
                    escape(&mark.label)
                );
            }
        }
        for line in &self.lines {
            let path = path(&thin(&line.points, DRAWN_POINTS), &x, &y);
            let _ = write!(svg, "<path class=\"line {}\" d=\"{path}\"/>", line.class);
        }

        let mut over = String::new();
        // The last line is the one meant for reading.
        if let Some(line) = self.lines.last() {
            over.push_str(&self.hover(line, &x));
        }
        for dots in &self.dots {
            let name = match dots.name.is_empty() {
                true => String::new(),
                false => format!("{}, ", escape(&dots.name)),
            };
            for (step, value) in finite(&thin(&dots.points, DRAWN_DOTS)) {
                let at = x.place(step);
                let _ = write!(
                    over,
                    "<i class=\"dot {}{}\" style=\"left:{:.2}%;top:{:.2}%\" data-t=\"{name}step {}: {}\"></i>",
                    dots.class,
                    if at > 0.6 { " left" } else { "" },
                    at * 100.0,
                    (1.0 - y.place(value)).clamp(0.0, 1.0) * 100.0,
                    count(step as u64),
                    (self.format)(value)
                );
            }
        }

        let legend: String = self
            .lines
            .iter()
            .map(|line| (line.class, "key", &line.name))
            .chain(
                self.dots
                    .iter()
                    .map(|dots| (dots.class, "key round", &dots.name)),
            )
            .filter(|(_, _, name)| !name.is_empty())
            .map(|(class, shape, name)| {
                format!(
                    "<span class=\"entry\"><i class=\"{shape} {class}\"></i>{}</span>",
                    escape(name)
                )
            })
            .collect();
        let mut remarks = Vec::new();
        let above = values.iter().filter(|&&value| value > y.high).count();
        if above > 0 {
            remarks.push(format!(
                "{} above the axis, the largest {}",
                plural(above, "value lies", "values lie"),
                (self.format)(highest)
            ));
        }
        let lost = self
            .lines
            .iter()
            .filter(|line| !line.derived)
            .map(|line| not_finite(&line.points))
            .sum::<usize>()
            + self
                .dots
                .iter()
                .map(|d| not_finite(&d.points))
                .sum::<usize>();
        if lost > 0 {
            remarks.push(format!(
                "{} not finite and not drawn",
                plural(lost, "value is", "values are")
            ));
        }
        let mut remark = match remarks.is_empty() {
            true => String::new(),
            false => format!("<p class=\"remark\">{}.</p>", remarks.join("; ")),
        };
        if !self.note.is_empty() {
            let _ = write!(remark, "<p class=\"remark\">{}</p>", escape(&self.note));
        }
        format!(
            "<figure class=\"chart {size}\"><figcaption><b>{title}</b> <span class=\"unit\">{unit}</span>\
             <span class=\"legend\">{legend}</span></figcaption>\
             <div class=\"plot\" role=\"img\" aria-label=\"{title} over optimizer steps, from {low} to {high}\">\
             <svg viewBox=\"0 0 1000 1000\" preserveAspectRatio=\"none\" aria-hidden=\"true\">{svg}</svg>{labels}{over}</div>\
             <p class=\"xlabel\">optimizer step</p>{remark}</figure>",
            size = self.size,
            low = (self.format)(lowest),
            high = (self.format)(highest),
        )
    }

    fn hover(&self, line: &Line, x: &Axis) -> String {
        let points: Vec<_> = line
            .points
            .iter()
            .filter(|(x, y)| x.is_finite() && y.is_finite())
            .collect();
        let columns = points.len().min(HOVER_COLUMNS);
        let mut out = String::new();
        for column in 0..columns {
            let (step, value) = points[(2 * column + 1) * points.len() / (2 * columns)];
            let half = 50.0 / columns as f64;
            let at = x.place(*step) * 100.0;
            // What stands out of the plot makes a narrow page scroll sideways.
            let (from, to) = ((at - half).max(0.0), (at + half).min(100.0));
            let width = to - from;
            let _ = write!(
                out,
                "<i class=\"hover{}\" style=\"left:{from:.2}%;width:{width:.2}%;--at:{:.0}%\" data-t=\"step {}: {}\"></i>",
                if x.place(*step) > 0.6 { " left" } else { "" },
                (at - from) / width.max(f64::EPSILON) * 100.0,
                count(*step as u64),
                (self.format)(*value)
            );
        }
        out
    }
}

/// `3 values lie`, `1 value lies`.
fn plural(count: usize, one: &str, many: &str) -> String {
    format!(
        "{} {}",
        super::text::count(count as u64),
        if count == 1 { one } else { many }
    )
}

fn not_finite(points: &[(f64, f64)]) -> usize {
    points.iter().filter(|(_, y)| !y.is_finite()).count()
}

/// An SVG path through the points, broken where one is not finite.
fn path(points: &[(f64, f64)], x: &Axis, y: &Axis) -> String {
    let mut out = String::new();
    let mut pen_down = false;
    for (index, &(step, value)) in points.iter().enumerate() {
        if !step.is_finite() || !value.is_finite() {
            pen_down = false;
            continue;
        }
        let (px, py) = (x.place(step) * 1000.0, (1.0 - y.place(value)) * 1000.0);
        let _ = write!(out, "{}{px:.1} {py:.1}", if pen_down { 'L' } else { 'M' });
        // A point between two gaps would be invisible as a move alone.
        let alone = !pen_down
            && points
                .get(index + 1)
                .is_none_or(|(_, next)| !next.is_finite());
        if alone {
            out.push_str("h0.1");
        }
        pen_down = true;
    }
    out
}

/// At most `limit` points: of every bucket the lowest and the highest, in order, so that spikes stay.
/// A bucket with nothing finite keeps its gap.
fn thin(points: &[(f64, f64)], limit: usize) -> Vec<(f64, f64)> {
    if points.len() <= limit {
        return points.to_vec();
    }
    let buckets = limit / 2;
    let mut out = Vec::with_capacity(limit);
    for bucket in 0..buckets {
        let range = bucket * points.len() / buckets..(bucket + 1) * points.len() / buckets;
        let finite = || range.clone().filter(|&index| points[index].1.is_finite());
        let by_value = |a: &usize, b: &usize| points[*a].1.total_cmp(&points[*b].1);
        match (finite().min_by(by_value), finite().max_by(by_value)) {
            (Some(low), Some(high)) => {
                out.push(points[low.min(high)]);
                if low != high {
                    out.push(points[low.max(high)]);
                }
            }
            _ => out.push((points[range.start].0, f64::NAN)),
        }
    }
    out
}

/// The value above which a value is a spike; infinite where there is no usual size.
fn spike_limit(values: &[f64]) -> f64 {
    let mut sorted: Vec<f64> = values
        .iter()
        .copied()
        .filter(|value| value.is_finite())
        .collect();
    sorted.sort_by(f64::total_cmp);
    match sorted.get(sorted.len().saturating_sub(1) * 98 / 100) {
        Some(&usual) if usual > 0.0 && sorted.len() >= FEWEST => SPIKE * usual,
        _ => f64::INFINITY,
    }
}

/// The series smoothed by two passes of a moving mean over `2 * radius + 1` points. Points that are not finite are
/// left out of the means and stay gaps; spikes are left out too. Near the start the window shrinks, so that the steep first fall is not smeared.
pub fn smooth(points: &[(f64, f64)], radius: usize) -> Vec<(f64, f64)> {
    let values: Vec<f64> = points.iter().map(|point| point.1).collect();
    let spike = spike_limit(&values);
    let pass = |values: &[f64]| -> Vec<f64> {
        let mut sums = vec![(0.0_f64, 0_u64)];
        for &value in values {
            let (sum, n) = sums[sums.len() - 1];
            sums.push(if value.is_finite() && value <= spike {
                (sum + value, n + 1)
            } else {
                (sum, n)
            });
        }
        (0..values.len())
            .map(|i| {
                let low = i - radius.min(i);
                let high = (i + radius.min(i) + 1).min(values.len());
                (sums[high].0 - sums[low].0) / (sums[high].1 - sums[low].1) as f64
            })
            .collect()
    };
    points
        .iter()
        .zip(pass(&pass(&values)))
        .map(|(&(x, y), smoothed)| (x, if y.is_finite() { smoothed } else { f64::NAN }))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_nice() {
        for (low, high, labels) in [
            (0.0, 2.83, vec!["0", "1", "2", "3"]),
            (0.0, 1.0, vec!["0", "0.2", "0.4", "0.6", "0.8", "1.0"]),
            (0.81, 0.97, vec!["0.80", "0.85", "0.90", "0.95", "1.00"]),
            (0.0, 3e-4, vec!["0", "1e-4", "2e-4", "3e-4"]),
            (0.0, 12_000.0, vec!["0", "5,000", "10,000", "15,000"]),
            (0.0, 1e6, vec!["0", "200k", "400k", "600k", "800k", "1.0M"]),
            (
                0.5,
                0.5,
                vec!["0.2", "0.3", "0.4", "0.5", "0.6", "0.7", "0.8"],
            ),
            (0.0, 0.0, vec!["0", "0.2", "0.4", "0.6", "0.8", "1.0"]),
        ] {
            let axis = Axis::nice(low, high, 5, true);
            let found: Vec<String> = axis
                .ticks
                .iter()
                .map(|&tick| tick_label(tick, &axis.ticks))
                .collect();
            assert_eq!(found, labels, "{low}..{high}");
            assert!(axis.low <= low && axis.high >= high);
        }
    }

    /// A page of 400 pixels scrolled sideways.
    #[test]
    fn no_column_stands_out_of_the_plot() {
        let points = vec![(1.0, 3.0), (2.0, 2.0), (3.0, 1.0)];
        let chart = Chart {
            title: "loss",
            unit: "",
            size: "small",
            lines: vec![Line::new("loss", "first", points)],
            dots: Vec::new(),
            marks: Vec::new(),
            format: |value| value.to_string(),
            from_zero: false,
            ceiling: None,
            note: String::new(),
        };
        let page = chart.html();
        let of = |column: &str, name: &str| -> f64 {
            let (_, rest) = column.split_once(&format!("{name}:")).unwrap_or_default();
            let (number, _) = rest.split_once('%').unwrap_or_default();
            number.parse().unwrap_or(f64::NAN)
        };
        let columns: Vec<&str> = page.split("class=\"hover").skip(1).collect();
        assert_eq!(columns.len(), 3);
        for column in columns {
            let (left, width) = (of(column, "left"), of(column, "width"));
            assert!(left >= 0.0 && left + width <= 100.01, "{column}");
        }
    }

    #[test]
    fn smoothing_keeps_lines_and_skips_gaps() {
        let line: Vec<(f64, f64)> = (0..20)
            .map(|i| (f64::from(i), f64::from(i) * 2.0))
            .collect();
        for (smoothed, point) in smooth(&line, 3).iter().zip(&line).take(14) {
            assert!((smoothed.1 - point.1).abs() < 1e-9);
        }
        let mut gap = vec![(0.0, 1.0); 9];
        gap[4].1 = f64::NAN;
        for (index, point) in smooth(&gap, 2).iter().enumerate() {
            assert!(if index == 4 {
                point.1.is_nan()
            } else {
                point.1 == 1.0
            });
        }
        assert!(smooth(&[(0.0, f64::NAN)], 2)[0].1.is_nan());
        assert!(smooth(&[], 2).is_empty());
    }

    #[test]
    fn thinning_keeps_extremes_and_order() {
        let mut points: Vec<(f64, f64)> = (0..50_000).map(|i| (f64::from(i), 1.0)).collect();
        points[31_234].1 = 99.0;
        points[31_300].1 = -5.0;
        let thinned = thin(&points, 600);
        assert!(thinned.len() <= 600);
        assert!(thinned.contains(&(31_234.0, 99.0)) && thinned.contains(&(31_300.0, -5.0)));
        assert!(thinned.windows(2).all(|pair| pair[0].0 < pair[1].0));
    }

    #[test]
    fn a_path_breaks_at_gaps_and_shows_lone_points() {
        let axis = Axis {
            low: 0.0,
            high: 10.0,
            ticks: vec![],
        };
        let points = [(0.0, 10.0), (1.0, f64::NAN), (2.0, 0.0), (3.0, 5.0)];
        assert_eq!(
            path(&points, &axis, &axis),
            "M0.0 0.0h0.1M200.0 1000.0L300.0 500.0"
        );
    }
}
