//! The place of [`super::pairs`] on other CPUs: there is no such kernel.

use super::super::Precision;
use super::util::Factor;

pub(super) fn is_fast(precision: Precision) -> bool {
    precision == Precision::F32
}

pub(super) fn product(
    _: (Factor<'_>, Factor<'_>),
    _: [usize; 3],
    _: Option<&[f32]>,
    _: Precision,
) -> Option<Vec<f32>> {
    None
}
