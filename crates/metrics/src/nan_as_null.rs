//! Serde for an `f64` that may be NaN or infinite: JSON has no such numbers, so they are written as `null` and read
//! back as NaN. Use as `#[serde(with = "rekindle_metrics::nan_as_null")]`.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Writes a finite number as it is and anything else as `null`.
///
/// # Errors
/// Whatever the serializer reports.
pub fn serialize<S: Serializer>(value: &f64, serializer: S) -> Result<S::Ok, S::Error> {
    value.is_finite().then_some(*value).serialize(serializer)
}

/// Reads a number, or `null` as NaN.
///
/// # Errors
/// Whatever the deserializer reports.
pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    Ok(Option::<f64>::deserialize(deserializer)?.unwrap_or(f64::NAN))
}
