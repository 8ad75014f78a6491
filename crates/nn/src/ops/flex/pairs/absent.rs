//! The place of [`super::pairs`] on other CPUs: there is no such kernel.

use super::super::Precision;
use super::rows::{Packed, Target, View};
use super::util::Factor;

pub(super) fn is_fast(precision: Precision) -> bool {
    precision == Precision::F32
}

pub(super) fn used() -> Vec<&'static str> {
    Vec::new()
}

pub(super) fn product(
    _: (Factor<'_>, Factor<'_>),
    _: [usize; 3],
    _: Option<&[f32]>,
    _: Precision,
) -> Option<Vec<f32>> {
    None
}

/// # Safety
/// None is needed.
pub(super) unsafe fn multiply(_: &View<'_>, _: &Packed, _: &Target) -> bool {
    false
}

pub(super) fn sum_rows(_: &View<'_>, _: &[f32], _: usize) -> Option<Vec<f32>> {
    None
}
