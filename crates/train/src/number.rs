//! Numbers in JSON, which knows neither NaN nor infinity: NaN is `null`, infinities are strings. Finite numbers keep their bits.
//! Use as `#[serde(with = "crate::number")]`.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::collections::BTreeMap;

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Number {
    Finite(f64),
    NaN(()),
    Infinite(Infinite),
}

#[derive(Serialize, Deserialize)]
enum Infinite {
    #[serde(rename = "inf")]
    Positive,
    #[serde(rename = "-inf")]
    Negative,
}

impl From<f64> for Number {
    fn from(value: f64) -> Self {
        match value {
            f64::INFINITY => Self::Infinite(Infinite::Positive),
            f64::NEG_INFINITY => Self::Infinite(Infinite::Negative),
            _ if value.is_nan() => Self::NaN(()),
            _ => Self::Finite(value),
        }
    }
}

impl From<Number> for f64 {
    fn from(number: Number) -> Self {
        match number {
            Number::Finite(value) => value,
            Number::NaN(()) => f64::NAN,
            Number::Infinite(Infinite::Positive) => f64::INFINITY,
            Number::Infinite(Infinite::Negative) => f64::NEG_INFINITY,
        }
    }
}

pub fn serialize<S: Serializer>(value: &f64, serializer: S) -> Result<S::Ok, S::Error> {
    Number::from(*value).serialize(serializer)
}

pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    Number::deserialize(deserializer).map(f64::from)
}

/// The same for numbers by name.
pub mod by_name {
    use super::*;

    pub fn serialize<S: Serializer>(
        values: &BTreeMap<String, f64>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_map(
            values
                .iter()
                .map(|(name, &value)| (name, Number::from(value))),
        )
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<BTreeMap<String, f64>, D::Error> {
        let values = BTreeMap::<String, Number>::deserialize(deserializer)?;
        Ok(values
            .into_iter()
            .map(|(name, number)| (name, number.into()))
            .collect())
    }
}
