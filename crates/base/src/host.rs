//! A tensor on the host: what is saved, compared and moved to a device.

/// A float tensor on the host, as f32.
#[derive(Debug, Clone, PartialEq)]
pub struct HostTensor {
    /// Dimensions.
    pub shape: Vec<usize>,
    /// Row-major values.
    pub values: Vec<f32>,
}

impl HostTensor {
    /// The first value that is NaN or infinite.
    #[must_use]
    pub fn first_not_finite(&self) -> Option<(usize, f32)> {
        first_not_finite(&self.values)
    }
}

/// The first value that is NaN or infinite, with its index.
#[must_use]
pub fn first_not_finite(values: &[f32]) -> Option<(usize, f32)> {
    // A value that is not finite times 0 is NaN, and so is the sum then; the search runs only in that case.
    let sum: f32 = values.iter().map(|v| v * 0.0).sum();
    if sum == 0.0 {
        return None;
    }
    let mut values = values.iter().copied().enumerate();
    values.find(|(_, v)| !v.is_finite())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_value_that_is_not_finite_is_found() {
        let tensor = |values: &[f32]| HostTensor {
            shape: vec![values.len()],
            values: values.to_vec(),
        };
        assert_eq!(tensor(&[1.0, -2.0]).first_not_finite(), None);
        let found = tensor(&[1.0, f32::INFINITY, f32::NAN]).first_not_finite();
        assert_eq!(found, Some((1, f32::INFINITY)));
    }
}
