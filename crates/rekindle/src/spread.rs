//! How values spread: quartiles and a histogram. The one place where a histogram is counted.

use serde::Serialize;

/// Most bars of a histogram that is printed, where their width is a round number.
const BARS: f64 = 12.0;

/// How the values of one kind spread over a set.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Spread {
    /// What was measured: `length`, or the name of a number that is learned.
    pub name: String,
    /// What it is counted in; empty for plain numbers.
    pub unit: String,
    /// How many values there are.
    pub count: u64,
    /// The least value, the quartiles between, and the greatest.
    pub quartiles: [f64; 5],
    /// Where the first bar begins.
    pub from: f64,
    /// How wide a bar is; a value on an edge is counted in the upper one.
    pub width: f64,
    /// Values in each bar.
    pub bars: Vec<u64>,
    /// Whether the values are whole numbers.
    pub whole: bool,
}

impl Spread {
    /// Of whole numbers; `None` of nothing.
    pub(crate) fn whole(name: &str, unit: &str, values: &[u32]) -> Option<Self> {
        let values = values.iter().map(|&value| f64::from(value)).collect();
        Self::new(name, unit, values, true)
    }

    /// Of numbers, of which those that are not finite are left out; `None` of nothing.
    pub(crate) fn real(name: &str, values: &[f64]) -> Option<Self> {
        let finite = values.iter().copied().filter(|value| value.is_finite());
        Self::new(name, "", finite.collect(), false)
    }

    fn new(name: &str, unit: &str, mut values: Vec<f64>, whole: bool) -> Option<Self> {
        values.sort_unstable_by(f64::total_cmp);
        let (&least, &most) = (values.first()?, values.last()?);
        let mut width = round_up((most - least) / BARS);
        if whole {
            width = width.max(1.0);
        }
        let from = (least / width).floor() * width;
        let count = ((most - from) / width).floor() as usize + 1;
        Some(Self {
            name: name.to_owned(),
            unit: unit.to_owned(),
            count: values.len() as u64,
            quartiles: [0, 1, 2, 3, 4].map(|i| values[(values.len() - 1) * i / 4]),
            from,
            width,
            bars: bars(values.into_iter(), from, width, count),
            whole,
        })
    }
}

/// How many values lie in each of `count` bars, the first of which begins at `from`. What lies beyond is counted in the
/// bar at that end.
pub(crate) fn bars(
    values: impl Iterator<Item = f64>,
    from: f64,
    width: f64,
    count: usize,
) -> Vec<u64> {
    let mut bars = vec![0; count.max(1)];
    let last = bars.len() - 1;
    for value in values {
        // A negative number is 0 as an integer.
        bars[(((value - from) / width) as usize).min(last)] += 1;
    }
    bars
}

/// The least of 1, 2, 5, 10, 20, 50 and so on (also of 0.1, 0.2, 0.5) that is not below a number; 1 where all values are alike.
fn round_up(least: f64) -> f64 {
    if least <= 0.0 || !least.is_finite() {
        return 1.0;
    }
    let power = 10f64.powi(least.log10().floor() as i32);
    let steps = [1.0, 2.0, 5.0, 10.0].map(|step| step * power);
    let fits = steps.into_iter().find(|&step| step >= least * (1.0 - 1e-9));
    fits.unwrap_or(10.0 * power)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn bars_have_round_widths_and_count_every_value_once() {
        for (least, expected) in [
            (0.0, 1.0),
            (0.013, 0.02),
            (1.0, 1.0),
            (3.0, 5.0),
            (70.0, 100.0),
        ] {
            assert!((round_up(least) - expected).abs() < 1e-12, "{least}");
        }
        let values: Vec<u32> = (3..=100).collect();
        let spread = Spread::whole("length", "tokens", &values).unwrap();
        assert_eq!((spread.from, spread.width), (0.0, 10.0));
        assert_eq!(spread.bars.iter().sum::<u64>(), 98);
        assert_eq!((spread.bars[0], spread.bars[1]), (7, 10));
        assert_eq!(spread.quartiles, [3.0, 27.0, 51.0, 75.0, 100.0]);
        let alike = Spread::whole("length", "tokens", &[4, 4]).unwrap();
        assert_eq!((alike.from, alike.bars), (4.0, vec![2]));
        assert!(Spread::whole("length", "tokens", &[]).is_none());
    }

    #[test]
    fn numbers_that_are_none_are_left_out() {
        let spread = Spread::real("stars", &[-1.5, f64::NAN, 0.0, 4.5]).unwrap();
        assert_eq!((spread.count, spread.from, spread.width), (3, -1.5, 0.5));
        assert_eq!(spread.bars.len(), 13);
        assert_eq!((spread.bars[0], spread.bars[3], spread.bars[12]), (1, 1, 1));
        assert!(Spread::real("stars", &[f64::NAN]).is_none());
    }
}
