//! The learning-rate finder (Smith 2017): the rate rises from step to step, and the loss tells which rates teach.

use crate::{
    Error, Observer, RunConfig,
    backend::{OnBackend, on_device},
    finetune::{open, train_config},
    runs::curves::draw,
    trial::Trial,
};
use burn::tensor::backend::BackendTypes;
use rekindle_base::write_atomically;
use rekindle_nn::TuneAutodiff;
use rekindle_train::{Collective, Event};
use serde::Serialize;
use std::{path::Path, time::Instant};

/// The first rate and the last one.
const RATES: (f64, f64) = (1e-7, 1.0);
/// Weight of the past in the smoothed loss.
const SMOOTHING: f64 = 0.9;
/// The loss has gone astray where it is so many times its least.
const ASTRAY: f64 = 3.0;
/// The loss has fallen where it is lower by such a share.
const FALL: f64 = 0.02;
/// The rate with the least loss is that of a model about to go astray, so many times what trains well.
const BELOW: f64 = 10.0;
/// Steps without which no curve can be told from noise.
const FEWEST: usize = 20;

/// A rate and the smoothed loss at it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct RatePoint {
    /// The learning rate.
    pub rate: f64,
    /// The smoothed training loss, in the unit of the task's loss.
    pub loss: f64,
}

/// What a learning-rate finder saw.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Rates {
    /// One point a step, the rate rising.
    pub points: Vec<RatePoint>,
    /// The rate to begin with; `None` where the loss never fell.
    pub suggested: Option<f64>,
    /// From this rate on the loss was astray.
    pub astray: Option<f64>,
    /// The rate that the run would take.
    pub configured: f64,
}

/// Tries learning rates on a run's own examples, in at most so many steps. Nothing is written.
///
/// # Errors
/// As [`finetune`](crate::finetune()); [`Error::Setting`] for too few steps.
pub fn find_rate(
    config: &RunConfig,
    steps: usize,
    observer: &dyn Observer,
) -> Result<Rates, Error> {
    if steps < FEWEST {
        return Err(Error::Setting {
            reason: format!(
                "{steps} steps are too few to tell rates apart, expected {FEWEST} or more"
            ),
            hint: "100 are usual".into(),
        });
    }
    config.validate()?;
    let config = &config.resolved();
    let finder = Finder {
        config,
        steps,
        observer,
    };
    on_device(config.device, finder)
}

struct Finder<'a> {
    config: &'a RunConfig,
    steps: usize,
    observer: &'a dyn Observer,
}

impl OnBackend for Finder<'_> {
    type Output = Rates;

    fn run<B: TuneAutodiff>(self, device: &<B as BackendTypes>::Device) -> Result<Rates, Error> {
        let (opened, model) = open::<B>(self.config, self.observer, &Collective::alone(), device)?;
        let config = train_config(self.config, &opened.prepared, "");
        let mut trial = Trial::new(&opened.recipe, &config, model);
        let mut curve = Curve::default();
        let (first, last) = RATES;
        let total_steps = self.steps as u64;
        self.observer.event(&Event::Started {
            step: 0,
            total_steps,
        });
        for (i, window) in trial.windows().take(self.steps).enumerate() {
            if self.observer.stop() {
                break;
            }
            let rate = first * (last / first).powf(i as f64 / (self.steps - 1) as f64);
            let (window, clock) = (window?, Instant::now());
            let stepped;
            (trial, stepped) = trial.step(&window, rate)?;
            self.observer.event(&Event::Step {
                step: i as u64 + 1,
                epoch: 0.0,
                loss: stepped.loss,
                learning_rate: rate,
                grad_norm: stepped.grad_norm,
                examples: stepped.examples,
                seconds: clock.elapsed().as_secs_f64(),
            });
            // The loss is that of the model before this step: of the rates before it.
            if !curve.add(rate, stepped.loss) || stepped.fault().is_some() {
                break;
            }
        }
        Ok(curve.found(self.config.learning_rate()))
    }
}

/// The smoothed curve, as it grows.
#[derive(Default)]
struct Curve {
    points: Vec<RatePoint>,
    smoothed: f64,
    least: Option<f64>,
    astray: Option<f64>,
}

impl Curve {
    /// Adds a step; whether the loss is still worth following.
    fn add(&mut self, rate: f64, loss: f64) -> bool {
        if !loss.is_finite() {
            self.astray = Some(rate);
            return false;
        }
        let n = self.points.len() as i32 + 1;
        self.smoothed = SMOOTHING * self.smoothed + (1.0 - SMOOTHING) * loss;
        let smoothed = self.smoothed / (1.0 - SMOOTHING.powi(n));
        self.points.push(RatePoint {
            rate,
            loss: smoothed,
        });
        let least = self.least.map_or(smoothed, |least| least.min(smoothed));
        self.least = Some(least);
        let start = self.points[0].loss;
        // Of a loss near 0 a multiple is nothing.
        if smoothed > least * ASTRAY && smoothed > start && n > FEWEST as i32 / 2 {
            self.astray = Some(rate);
        }
        self.astray.is_none()
    }

    fn found(self, configured: f64) -> Rates {
        let start = self.points.first().map_or(0.0, |point| point.loss);
        let least = self.points.iter().min_by(|a, b| a.loss.total_cmp(&b.loss));
        let fell = least.filter(|least| start - least.loss > FALL * start.abs());
        Rates {
            suggested: fell.map(|least| two_digits(least.rate / BELOW)),
            points: self.points,
            astray: self.astray,
            configured,
        }
    }
}

/// A rate as people write it.
fn two_digits(rate: f64) -> f64 {
    format!("{rate:.1e}").parse().unwrap_or(rate)
}

impl Rates {
    /// The curve in characters.
    #[must_use]
    pub fn chart(&self) -> String {
        let points = self.points.iter();
        let curve = points
            .map(|point| (point.rate.log10(), point.loss))
            .collect();
        draw(&[curve], |exponent| {
            format!("rate {:.0e}", 10f64.powf(exponent))
        })
    }
}

/// Writes the curve as a page of its own: no script, no external resource.
///
/// # Errors
/// When the file cannot be written.
pub fn write_rates_page(rates: &Rates, path: &Path) -> Result<(), Error> {
    write_atomically(path, page(rates).as_bytes()).map_err(Error::io(path))
}

/// Loss over the logarithm of the rate, in a drawing of 1000 x 500.
fn page(rates: &Rates) -> String {
    let (first, last) = (RATES.0.log10(), RATES.1.log10());
    let losses = || rates.points.iter().map(|point| point.loss);
    let (low, high) = (
        losses().fold(f64::INFINITY, f64::min),
        losses().fold(f64::NEG_INFINITY, f64::max),
    );
    let x = |rate: f64| 60.0 + 920.0 * (rate.log10() - first) / (last - first);
    let y = |loss: f64| 440.0 - 410.0 * (loss - low) / (high - low).max(1e-12);
    let points: Vec<String> = (rates.points.iter())
        .map(|point| format!("{:.1},{:.1}", x(point.rate), y(point.loss)))
        .collect();
    let mut marks = String::new();
    for exponent in first.round() as i32..=last.round() as i32 {
        let at = x(10f64.powi(exponent));
        marks += &format!(
            "<line x1=\"{at:.1}\" y1=\"30\" x2=\"{at:.1}\" y2=\"440\" class=\"grid\"/><text x=\"{at:.1}\" y=\"465\">1e{exponent}</text>"
        );
    }
    for (rate, class, word) in [
        (rates.suggested, "good", "suggested"),
        (Some(rates.configured), "configured", "configured"),
    ] {
        let Some(rate) = rate.filter(|rate| (RATES.0..=RATES.1).contains(rate)) else {
            continue;
        };
        let at = x(rate);
        let line = if class == "good" { 20 } else { 490 };
        marks += &format!(
            "<line x1=\"{at:.1}\" y1=\"30\" x2=\"{at:.1}\" y2=\"440\" class=\"{class}\"/><text x=\"{at:.1}\" y=\"{line}\" class=\"{class}\">{word} {rate:e}</text>"
        );
    }
    let suggested = rates.suggested.map_or_else(
        || "none: the loss never fell".to_owned(),
        |rate| format!("{rate:e}"),
    );
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n<meta name=\"viewport\" content=\"width=device-width\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n\
         <title>Learning rates \u{b7} Rekindle</title>\n<style>{STYLE}</style>\n<h1>Loss over the learning rate</h1>\n\
         <p>Suggested: <b>{suggested}</b>; the run would take {:e}. The loss is smoothed, and goes from {low:.4} to {high:.4}.</p>\n\
         <svg viewBox=\"0 0 1000 500\" role=\"img\" aria-label=\"The smoothed loss over the learning rate\">{marks}<polyline points=\"{}\"/></svg>\n</html>\n",
        rates.configured,
        points.join(" ")
    )
}

/// The page's style, for light and dark.
const STYLE: &str = "body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#222;background:#fff}\
    svg{width:100%;height:auto}text{font-size:20px;text-anchor:middle;fill:currentColor}\
    polyline{fill:none;stroke:#2563eb;stroke-width:3}.grid{stroke:#8884}.good{stroke:#15803d;stroke-width:2}\
    text.good{fill:#15803d;stroke:none}.configured{stroke:#888;stroke-dasharray:6 6}text.configured{fill:#777;stroke:none}\
    @media(prefers-color-scheme:dark){body{color:#ddd;background:#16181d}polyline{stroke:#7aa2ff}\
    .good{stroke:#4ade80}text.good{fill:#4ade80}}";

#[cfg(test)]
mod tests {
    use super::*;

    /// Flat, then falling between 1e-4 and 1e-2, then astray.
    #[test]
    fn the_rate_lies_below_that_of_the_least_loss() {
        let mut curve = Curve::default();
        for i in 0..=140 {
            let exponent = -7.0 + f64::from(i) / 20.0;
            let loss = match exponent {
                e if e < -4.0 => 1.0,
                e if e < -2.0 => 1.0 - 0.4 * (e + 4.0),
                e if e < -1.0 => 0.2,
                e => 0.2 + 10.0 * (e + 1.0),
            };
            if !curve.add(10f64.powf(exponent), loss) {
                break;
            }
        }
        let rates = curve.found(1e-3);
        let suggested = rates.suggested.unwrap_or_default();
        assert!((1e-3..2e-2).contains(&suggested), "{suggested}");
        assert!(
            rates.astray.is_some_and(|rate| rate > 0.1),
            "{:?}",
            rates.astray
        );
    }

    #[test]
    fn the_page_marks_both_rates() {
        let point = |rate: f64, loss| RatePoint { rate, loss };
        let rates = Rates {
            points: vec![point(1e-7, 2.0), point(1e-3, 1.0), point(1.0, 3.0)],
            suggested: Some(3e-4),
            astray: None,
            configured: 1e-3,
        };
        let page = page(&rates);
        assert!(page.contains("suggested 3e-4") && page.contains("configured 1e-3"));
        assert!(
            page.contains("points=\"60.0,235.0 585.7,440.0 980.0,30.0\""),
            "{page}"
        );
    }

    #[test]
    fn a_loss_that_never_falls_suggests_nothing() {
        let mut curve = Curve::default();
        for i in 0..40 {
            curve.add(10f64.powi(i / 10 - 4), 0.7);
        }
        assert_eq!(curve.found(1e-3).suggested, None);
    }
}
