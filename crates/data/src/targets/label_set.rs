//! The labels of a multi-label task and their ids.

use crate::{DataError, LabelMap, Place, RawTarget, RawValue};

/// The labels that an example can have any number of: id to name and name to id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LabelSet {
    map: LabelMap,
}

impl LabelSet {
    /// The labels in the order given, such as a model's `id2label`.
    ///
    /// # Errors
    /// [`DataError::EmptyLabels`] for an empty list, [`DataError::DuplicateLabel`] for a repeated name.
    pub fn from_names(names: Vec<String>) -> Result<Self, DataError> {
        Ok(Self {
            map: LabelMap::from_names(names)?,
        })
    }

    /// The names, in the order of their ids.
    pub fn names(&self) -> &[String] {
        self.map.names()
    }

    /// Which labels a row has, `[L]`. A row's list may name a label twice and may be empty.
    ///
    /// # Errors
    /// [`DataError::UnknownLabel`] with near misses; [`DataError::Unlabelled`] for a target that is no list.
    pub fn encode(&self, target: &RawTarget, place: &Place) -> Result<Vec<bool>, DataError> {
        let [RawValue::List(names)] = target.0.as_slice() else {
            return Err(DataError::Unlabelled {
                place: place.clone(),
            });
        };
        let mut row = vec![false; self.map.len()];
        for name in names {
            row[self.map.encode_name(name, place)? as usize] = true;
        }
        Ok(row)
    }
}
