//! The model that another was tuned from, as a card tells of it: by its name on the hub, or as a file or folder of somebody's
//! machine, of which only the name is told.

use super::code;
use crate::gguf;
use rekindle_hub::{Resolved, Source};
use std::path::Path;

/// A base model's names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct BaseName {
    /// For people, in Markdown.
    pub words: String,
    /// On the hub.
    pub hub: Option<String>,
    /// What Python loads it by, where that is the same on every machine, and the commit. Else adapter_config.json says where it lay.
    pub python: Option<(String, Option<String>)>,
    /// The file of weights in its directory, where they are GGUF.
    pub gguf: Option<&'static str>,
}

impl BaseName {
    /// Of a base that was found as `base`.
    pub(crate) fn of(base: &Resolved) -> Self {
        let is_gguf = gguf::is_unpacked(&base.dir);
        let known = match base.source {
            Source::Path if is_gguf => gguf::hub_name(&base.dir),
            Source::Path => None,
            _ => Some(base.name.clone()),
        };
        let is_commit = matches!(base.source, Source::Hub { .. } | Source::HfCache { .. });
        let revision = base.revision.clone().filter(|_| is_commit);
        let python = match base.source {
            Source::Path => None,
            // The repository may hold other weights than the file.
            _ if is_gguf => None,
            _ => Some((base.name.clone(), revision)),
        };
        let file = |path: &Path| {
            let name = path.file_name().unwrap_or_default();
            code(&name.to_string_lossy())
        };
        let words = match (&known, &base.source) {
            (Some(hub), Source::Path) => {
                format!(
                    "{} (the GGUF file {})",
                    code(hub),
                    file(&gguf::file_of(&base.dir))
                )
            }
            (Some(hub), _) => code(hub),
            (None, _) if is_gguf => {
                format!("a local GGUF file {}", file(&gguf::file_of(&base.dir)))
            }
            (None, _) => format!("a local model {}", file(Path::new(&base.name))),
        };
        Self {
            words,
            hub: known,
            python,
            gguf: is_gguf.then_some(gguf::WEIGHTS),
        }
    }
}
