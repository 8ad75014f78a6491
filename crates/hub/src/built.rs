//! Datasets that a tool of the repository makes (`[built]` in a card): where they lie, and whether they are complete.
//!
//! The hub makes none of them. It keeps them in its cache, in a folder whose name holds the digest of the card, with the
//! list of files that the digest is of.

use std::fs;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::cards::{Built, DatasetCard};
use crate::disk;
use crate::error::HubError;
use crate::{Hub, package};

impl Hub {
    /// Where what the card's tool makes belongs; `None` for a card without `[built]`.
    pub fn built_place(&self, card: &DatasetCard) -> Option<PathBuf> {
        Some(self.place_of(card, card.built.as_ref()?))
    }

    /// Move a finished folder to its place. `list` has a line `sha256  path` for each file, sorted by path, as `sha256sum`
    /// writes them.
    ///
    /// # Errors
    /// [`HubError::Checksum`] where the list is not the one that the card gives the digest of, [`HubError::MissingFiles`]
    /// where the folder lacks a file of the list or the card has no `[built]`, [`HubError::Io`].
    pub fn install_built(
        &self,
        card: &DatasetCard,
        folder: &Path,
        list: &str,
    ) -> Result<PathBuf, HubError> {
        let missing = |missing: Vec<PathBuf>| HubError::MissingFiles {
            name: card.name.clone(),
            missing,
        };
        let built = card.built.as_ref().ok_or_else(|| missing(Vec::new()))?;
        let found = disk::hex(Sha256::digest(list));
        if !found.eq_ignore_ascii_case(&built.sha256) {
            return Err(HubError::Checksum {
                file: format!("the files of dataset `{}`", card.name),
                expected: built.sha256.clone(),
                found,
                hint: "what the dataset is made of has changed; update sha256 of [built] in the card if that is meant",
            });
        }
        let absent: Vec<PathBuf> = listed(list)
            .map(|path| folder.join(path))
            .filter(|path| !path.is_file())
            .collect();
        if !absent.is_empty() {
            return Err(missing(absent));
        }
        disk::write_atomically(&folder.join(package::MARKER), list)?;
        let place = self.place_of(card, built);
        let _lock = disk::lock(&place.with_extension("lock"))?;
        if place.exists() {
            fs::remove_dir_all(&place).map_err(HubError::io("replace", &place))?;
        }
        disk::rename(folder, &place)?;
        Ok(place)
    }

    /// The folder, where a tool left it and no file has gone since.
    pub(crate) fn complete_built(&self, card: &DatasetCard, built: &Built) -> Option<PathBuf> {
        let place = self.place_of(card, built);
        let list = fs::read_to_string(place.join(package::MARKER)).ok()?;
        let digest = disk::hex(Sha256::digest(&list));
        (digest.eq_ignore_ascii_case(&built.sha256)
            && listed(&list).all(|path| place.join(path).is_file()))
        .then_some(place)
    }

    fn place_of(&self, card: &DatasetCard, built: &Built) -> PathBuf {
        let digest = built.sha256.to_ascii_lowercase();
        self.cache
            .join("images")
            .join(format!("{}-{}", card.name, &digest[..12]))
    }
}

fn listed(list: &str) -> impl Iterator<Item = &str> {
    list.lines()
        .filter_map(|line| Some(line.split_once("  ")?.1))
}
