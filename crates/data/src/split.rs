//! One set into train, validation and test.

use std::collections::BTreeMap;
use std::path::Path;

use crate::example::file_of;
use crate::{DataError, Example};
use rekindle_base::rng::{self, Stream};

/// The shares of validation and test, each in `[0, 1)`; train gets the rest, which must not be nothing.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Fractions {
    /// Share of the validation part.
    pub validation: f64,
    /// Share of the test part.
    pub test: f64,
}

/// The three parts, each in file order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Split {
    /// What is trained on.
    pub train: Vec<Example>,
    /// What decides between checkpoints; empty for a fraction of 0.
    pub validation: Vec<Example>,
    /// What is looked at once; empty for a fraction of 0.
    pub test: Vec<Example>,
}

/// Splits a set: a pure function of the examples' order, their labels and `seed`.
///
/// Sizes are `round(n * fraction)`. With `stratify`, each class is shared out by largest remainder, so no
/// class is off its share by more than one example, and every class keeps at least one example for training (which
/// can make a part smaller where classes are tiny).
///
/// # Errors
/// [`DataError::BadFractions`], or [`DataError::EmptySplit`] where a part that was asked for would be empty.
pub fn split(
    examples: Vec<Example>,
    fractions: Fractions,
    stratify: bool,
    seed: u64,
) -> Result<Split, DataError> {
    let label = |index: usize| examples[index].label.as_ref().map(|label| label.as_str());
    let path = file_of(&examples);
    let to = parts(examples.len(), label, &path, fractions, stratify, seed)?;
    let mut parts = [Vec::new(), Vec::new(), Vec::new()];
    for (example, to) in examples.into_iter().zip(to) {
        parts[usize::from(to)].push(example);
    }
    let [train, validation, test] = parts;
    Ok(Split {
        train,
        validation,
        test,
    })
}

/// Where each of `n` examples goes: 0 train, 1 validation, 2 test.
pub(crate) fn parts<'a>(
    n: usize,
    label: impl Fn(usize) -> Option<&'a str>,
    path: &Path,
    fractions: Fractions,
    stratify: bool,
    seed: u64,
) -> Result<Vec<u8>, DataError> {
    let Fractions { validation, test } = fractions;
    let share = |fraction: f64| (0.0..1.0).contains(&fraction);
    if !share(validation) || !share(test) || validation + test >= 1.0 {
        return Err(DataError::BadFractions { validation, test });
    }

    let mut classes: BTreeMap<Option<&str>, Vec<usize>> = BTreeMap::new();
    for index in 0..n {
        let label = if stratify { label(index) } else { None };
        classes.entry(label).or_default().push(index);
    }
    let mut classes: Vec<Vec<usize>> = classes.into_values().collect();
    for (class, members) in classes.iter_mut().enumerate() {
        rng::shuffle(members, seed, Stream::Split as u64, class as u64);
    }

    let sizes: Vec<usize> = classes.iter().map(Vec::len).collect();
    let mut take = |part: &'static str, fraction: f64| -> Result<Vec<usize>, DataError> {
        let wanted = (n as f64 * fraction).round() as usize;
        let left: Vec<usize> = classes.iter().map(Vec::len).collect();
        let mut taken = Vec::with_capacity(wanted);
        for (members, share) in classes
            .iter_mut()
            .zip(shares(wanted, fraction, &sizes, &left))
        {
            taken.extend(members.split_off(members.len() - share));
        }
        if taken.is_empty() && fraction > 0.0 {
            return Err(DataError::EmptySplit {
                path: path.to_owned(),
                part,
                examples: n,
                fraction,
            });
        }
        Ok(taken)
    };
    let test = take("test", test)?;
    let validation = take("validation", validation)?;
    if test.len() + validation.len() == n {
        return Err(DataError::EmptySplit {
            path: path.to_owned(),
            part: "train",
            examples: n,
            fraction: 1.0 - fractions.validation - fractions.test,
        });
    }

    let mut to = vec![0u8; n];
    test.iter().for_each(|&index| to[index] = 2);
    validation.iter().for_each(|&index| to[index] = 1);
    Ok(to)
}

/// How many of each class make up `wanted`: the whole part of its quota, and one more for the largest remainders. The
/// last example of a class is never taken.
fn shares(wanted: usize, fraction: f64, sizes: &[usize], left: &[usize]) -> Vec<usize> {
    let quota = |class: usize| sizes[class] as f64 * fraction;
    let spare = |class: usize| left[class].saturating_sub(1);
    let mut shares: Vec<usize> = (0..sizes.len())
        .map(|class| (quota(class) as usize).min(spare(class)))
        .collect();
    let mut by_remainder: Vec<usize> = (0..sizes.len()).collect();
    by_remainder.sort_by(|&a, &b| quota(b).fract().total_cmp(&quota(a).fract()));
    let mut missing = wanted.saturating_sub(shares.iter().sum());
    for class in by_remainder {
        if missing > 0 && shares[class] < spare(class) {
            shares[class] += 1;
            missing -= 1;
        }
    }
    shares
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::{Place, RawLabel};

    fn set(sizes: &[usize]) -> Vec<Example> {
        let path: std::sync::Arc<Path> = Path::new("all.csv").into();
        let mut examples = Vec::new();
        for (class, &size) in sizes.iter().enumerate() {
            for _ in 0..size {
                let line = examples.len() as u64 + 2;
                examples.push(Example {
                    text: format!("text {line}"),
                    text_pair: None,
                    label: Some(RawLabel::from(format!("c{class}").as_str())),
                    place: Place {
                        path: path.clone(),
                        line,
                    },
                });
            }
        }
        examples
    }

    fn count(examples: &[Example], class: usize) -> usize {
        let label = format!("c{class}");
        examples
            .iter()
            .filter(|example| example.label.as_ref().is_some_and(|l| l.as_str() == label))
            .count()
    }

    #[test]
    fn parts_are_disjoint_complete_and_of_the_size_asked_for() {
        for stratify in [false, true] {
            for sizes in [vec![100], vec![50, 50], vec![97, 2, 1], vec![13, 29, 58, 3]] {
                let examples = set(&sizes);
                let n = examples.len();
                let fractions = Fractions {
                    validation: 0.2,
                    test: 0.1,
                };
                let parts = split(examples.clone(), fractions, stratify, 7).unwrap();
                assert_eq!(
                    parts.validation.len(),
                    (n as f64 * 0.2).round() as usize,
                    "{sizes:?}"
                );
                assert_eq!(
                    parts.test.len(),
                    (n as f64 * 0.1).round() as usize,
                    "{sizes:?}"
                );
                let mut all = [parts.train, parts.validation, parts.test].concat();
                all.sort_by_key(|example| example.place.line);
                assert_eq!(all, examples);
            }
        }
    }

    #[test]
    fn stratification_keeps_the_shares_and_a_training_example_of_each_class() {
        let sizes = [97, 40, 11, 2, 1, 1];
        let parts = split(
            set(&sizes),
            Fractions {
                validation: 0.25,
                test: 0.25,
            },
            true,
            3,
        )
        .unwrap();
        for (class, &size) in sizes.iter().enumerate() {
            for part in [&parts.validation, &parts.test] {
                let off = count(part, class) as f64 - size as f64 * 0.25;
                assert!(off.abs() < 1.0, "class {class}: {off}");
            }
            assert!(count(&parts.train, class) > 0, "class {class}");
        }
    }

    #[test]
    fn the_split_is_a_function_of_the_seed() {
        let fractions = Fractions {
            validation: 0.2,
            test: 0.0,
        };
        let one = split(set(&[40, 40]), fractions, true, 1).unwrap();
        assert_eq!(one, split(set(&[40, 40]), fractions, true, 1).unwrap());
        assert_ne!(one, split(set(&[40, 40]), fractions, true, 2).unwrap());
        assert!(one.test.is_empty());
        let lines: Vec<u64> = one
            .validation
            .iter()
            .map(|example| example.place.line)
            .collect();
        assert!(lines.is_sorted(), "{lines:?}");
    }

    #[test]
    fn impossible_splits_are_errors() {
        for (sizes, validation, test, expect) in [
            (
                vec![10],
                0.5,
                0.5,
                "cannot split off validation = 0.5 and test = 0.5: expected fractions of at least 0 with a sum below 1\nhint: make one smaller",
            ),
            (
                vec![10],
                -0.1,
                0.0,
                "cannot split off validation = -0.1 and test = 0: expected fractions of at least 0 with a sum below 1\nhint: make one smaller",
            ),
            (
                vec![10],
                f64::NAN,
                0.0,
                "cannot split off validation = NaN and test = 0: expected fractions of at least 0 with a sum below 1\nhint: make one smaller",
            ),
            (
                vec![4],
                0.1,
                0.0,
                "all.csv: the validation part would be empty: 4 examples are too few for a fraction of 0.1\nhint: a larger fraction, or a file of its own for validation",
            ),
            (
                vec![1, 1],
                0.0,
                0.4,
                "all.csv: the test part would be empty: 2 examples are too few for a fraction of 0.4\nhint: a larger fraction, or a file of its own for test",
            ),
        ] {
            let error = split(set(&sizes), Fractions { validation, test }, true, 0).unwrap_err();
            assert_eq!(error.to_string(), expect);
        }
    }
}
