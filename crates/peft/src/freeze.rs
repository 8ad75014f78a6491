//! Which parameters train, by published path: everything, the head, biases (BitFit, Ben Zaken et al. 2021), and patterns
//! that freeze or free more.

use crate::PeftError;
use burn::{module::Module, tensor::backend::Backend};
use rekindle_nn::params::{self, NameMap};

/// What trains, before `freeze` and `unfreeze`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trainable {
    /// Every parameter.
    All,
    /// Nothing but the named modules (the head).
    Head,
    /// Biases and the named modules.
    Biases,
    /// What already trains (after an adapter was put in).
    AsIs,
}

/// Sets what trains: the rule, then `freeze`, then `unfreeze` (globs over published parameter paths, `*` any characters;
/// a pattern also matches what lies below it). `head` names modules that are new and so train in every rule.
///
/// # Errors
/// A pattern that matches no parameter, with the nearest; and when nothing would train.
pub fn set_trainable<B: Backend, M: Module<B>>(
    model: M,
    rule: Trainable,
    head: &[String],
    freeze: &[String],
    unfreeze: &[String],
    names: NameMap,
) -> Result<M, PeftError> {
    let mut paths = Vec::new();
    params::visit(&model, &mut |param: params::ParamRef<'_, B>| {
        paths.push(names.published(param.path))
    });
    for (key, patterns) in [("freeze", freeze), ("unfreeze", unfreeze)] {
        for pattern in patterns {
            if !paths.iter().any(|path| glob_matches(pattern, path)) {
                return Err(no_match(key, pattern, "parameter", &paths));
            }
        }
    }
    let mut any = false;
    let in_head = |path: &str| {
        head.iter()
            .any(|module| path.starts_with(&format!("{module}.")))
    };
    let model = params::map(model, &mut |param| {
        let path = names.published(param.path);
        let by_rule = match rule {
            Trainable::All => true,
            Trainable::Head => in_head(&path),
            Trainable::Biases => path.ends_with("bias") || in_head(&path),
            Trainable::AsIs => param.trainable,
        };
        let frozen = freeze.iter().any(|pattern| glob_matches(pattern, &path));
        let freed = unfreeze.iter().any(|pattern| glob_matches(pattern, &path));
        let trainable = (by_rule && !frozen) || freed;
        any |= trainable;
        params::Mapped {
            value: param.value,
            trainable,
        }
    });
    if any {
        Ok(model)
    } else {
        Err(PeftError::NothingTrains)
    }
}

/// Whether a glob (`*` any characters) matches the whole path, or a module above it.
#[must_use]
pub fn glob_matches(pattern: &str, path: &str) -> bool {
    let ends = path.match_indices('.').map(|(i, _)| i).chain([path.len()]);
    ends.into_iter()
        .any(|end| whole(pattern.as_bytes(), &path.as_bytes()[..end]))
}

fn whole(pattern: &[u8], text: &[u8]) -> bool {
    match pattern.split_first() {
        None => text.is_empty(),
        Some((b'*', rest)) => (0..=text.len()).any(|i| whole(rest, &text[i..])),
        Some((first, rest)) => text
            .split_first()
            .is_some_and(|(t, text)| t == first && whole(rest, text)),
    }
}

/// The error of a pattern without a match, with the nearest name and a few that there are.
pub(crate) fn no_match(
    key: &'static str,
    pattern: &str,
    what: &'static str,
    paths: &[String],
) -> PeftError {
    let mut candidates: Vec<&str> = paths
        .iter()
        .flat_map(|p| {
            let modules = p.match_indices('.').map(|(end, _)| &p[..end]);
            modules.chain([p.as_str(), p.rsplit('.').next().unwrap_or(p)])
        })
        .collect();
    candidates.sort_unstable();
    candidates.dedup();
    let nearest = candidates
        .iter()
        .map(|c| (strsim::normalized_damerau_levenshtein(pattern, c), c))
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .filter(|(score, _)| *score > 0.5)
        .map(|(_, c)| (*c).to_owned());
    let mut examples: Vec<String> = Vec::new();
    for path in paths {
        let last = path.rsplit('.').next().unwrap_or(path).to_owned();
        let example = if what == "layer" { last } else { path.clone() };
        if !examples.contains(&example) && examples.len() < 8 {
            examples.push(example);
        }
    }
    PeftError::NoMatch {
        key,
        pattern: pattern.to_owned(),
        what,
        nearest,
        examples,
    }
}

#[cfg(test)]
mod tests {
    use super::glob_matches;

    #[test]
    fn globs() {
        for (pattern, path, expected) in [
            (
                "bert.encoder.layer.0",
                "bert.encoder.layer.0.output.dense.weight",
                true,
            ),
            (
                "bert.encoder.layer.1",
                "bert.encoder.layer.10.output.dense.weight",
                false,
            ),
            ("*.LayerNorm", "bert.embeddings.LayerNorm.weight", true),
            ("*bias", "a.b.bias", true),
            ("a", "ab", false),
            ("*", "anything.at.all", true),
            ("a.*.c", "a.b.c", true),
        ] {
            assert_eq!(glob_matches(pattern, path), expected, "{pattern} on {path}");
        }
    }
}
