//! One set into train, validation and test, and a part of a set for a limit; for texts and pictures alike.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::PathBuf;

use crate::example::file_of;
use crate::{DataError, Example, RawTarget};
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
pub struct Split<S> {
    /// What is trained on.
    pub train: S,
    /// What decides between checkpoints; empty for a fraction of 0.
    pub validation: S,
    /// What is looked at once; empty for a fraction of 0.
    pub test: S,
}

/// How many examples of a set are kept, and which.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limit {
    /// At most so many.
    pub examples: usize,
    /// Draw them, by class where the examples have classes; otherwise the first in file order.
    pub stratify: bool,
    /// Seed of the draw.
    pub seed: u64,
}

impl Limit {
    /// The first examples in file order.
    pub fn first(examples: usize) -> Self {
        Self {
            examples,
            stratify: false,
            seed: 0,
        }
    }
}

/// A set that can be cut into parts: texts, or pictures.
pub trait Examples: Sized {
    /// Number of examples.
    fn count(&self) -> usize;

    /// The name of an example's class; `None` where it is unlabelled or its target is no class.
    fn class(&self, index: usize) -> Option<Cow<'_, str>>;

    /// The names of an example's labels; empty where it has none or its target is no set of labels.
    fn labels(&self, index: usize) -> &[String];

    /// Where the set was read from, for messages.
    fn source(&self) -> PathBuf;

    /// The parts of the set: example `i` goes to part `to[i]`, in its order; `to` is as long as the set.
    fn into_parts(self, to: &[u8]) -> [Self; 3];

    /// The examples that a limit keeps, in file order.
    fn limited(self, limit: Option<&Limit>) -> Self {
        match limit {
            Some(limit) if limit.examples < self.count() => {
                let mut to = vec![1; self.count()];
                for index in self::limit(self.count(), |index| self.class(index), limit) {
                    to[index] = 0;
                }
                let [kept, ..] = self.into_parts(&to);
                kept
            }
            _ => self,
        }
    }

    /// Where each example goes when the set is split: 0 is trained on, 1 validated on, 2 tested on.
    ///
    /// # Errors
    /// As [`split()`].
    fn parts(&self, fractions: Fractions, stratify: bool, seed: u64) -> Result<Vec<u8>, DataError> {
        parts(self, fractions, stratify, seed)
    }

    /// Splits the set, see [`split()`].
    ///
    /// # Errors
    /// As [`split()`].
    fn split(
        self,
        fractions: Fractions,
        stratify: bool,
        seed: u64,
    ) -> Result<Split<Self>, DataError> {
        let to = self.parts(fractions, stratify, seed)?;
        let [train, validation, test] = self.into_parts(&to);
        Ok(Split {
            train,
            validation,
            test,
        })
    }
}

/// [`Examples::into_parts`] of rows.
pub(crate) fn deal<T>(rows: Vec<T>, to: &[u8]) -> [Vec<T>; 3] {
    let mut parts = [Vec::new(), Vec::new(), Vec::new()];
    for (row, &to) in rows.into_iter().zip(to) {
        parts[usize::from(to)].push(row);
    }
    parts
}

impl Examples for Vec<Example> {
    fn count(&self) -> usize {
        self.len()
    }

    fn class(&self, index: usize) -> Option<Cow<'_, str>> {
        self[index].label.as_ref().and_then(RawTarget::class)
    }

    fn labels(&self, index: usize) -> &[String] {
        self[index].label.as_ref().map_or(&[], RawTarget::labels)
    }

    fn source(&self) -> PathBuf {
        file_of(self)
    }

    fn into_parts(self, to: &[u8]) -> [Self; 3] {
        deal(self, to)
    }
}

/// Splits a set: a pure function of the examples' order, their classes and `seed`.
///
/// Sizes are `round(n * fraction)`. With `stratify`, each class is shared out by largest remainder, so no
/// class is off its share by more than one example, and every class keeps at least one example for training (which
/// can make a part smaller where classes are tiny). Of sets of labels, each label keeps its share as nearly as the sets
/// allow. Where targets are numbers the split is random.
///
/// # Errors
/// [`DataError::BadFractions`], or [`DataError::EmptySplit`] where a part that was asked for would be empty.
pub fn split<S: Examples>(
    set: S,
    fractions: Fractions,
    stratify: bool,
    seed: u64,
) -> Result<Split<S>, DataError> {
    set.split(fractions, stratify, seed)
}

/// Which of `n` examples a limit keeps, in ascending order: a pure function of their order, their classes, and the
/// limit.
///
/// With `stratify`, each class gets its share of the limit by largest remainder, but at least one example as far as
/// the limit goes, largest classes first. Which of its examples are drawn depends on the seed; a larger limit keeps
/// what a smaller one kept, but for rounding.
pub fn limit<'a>(
    n: usize,
    class: impl Fn(usize) -> Option<Cow<'a, str>>,
    limit: &Limit,
) -> Vec<usize> {
    if limit.examples >= n || !limit.stratify {
        return (0..n.min(limit.examples)).collect();
    }
    let mut classes: BTreeMap<Option<Cow<'a, str>>, Vec<usize>> = BTreeMap::new();
    for index in 0..n {
        classes.entry(class(index)).or_default().push(index);
    }
    let mut classes: Vec<Vec<usize>> = classes.into_values().collect();
    for (number, members) in classes.iter_mut().enumerate() {
        rng::shuffle(members, limit.seed, Stream::Limit as u64, number as u64);
    }
    let sizes: Vec<usize> = classes.iter().map(Vec::len).collect();
    let mut kept = Vec::with_capacity(limit.examples);
    for (members, share) in classes.iter().zip(limit_shares(limit.examples, &sizes)) {
        kept.extend(&members[..share]);
    }
    kept.sort_unstable();
    kept
}

/// How many of each class make up `wanted`, which is below the sum of `sizes`.
fn limit_shares(wanted: usize, sizes: &[usize]) -> Vec<usize> {
    let n: usize = sizes.iter().sum();
    let fraction = wanted as f64 / n as f64;
    let quota = |class: usize| sizes[class] as f64 * fraction;
    let mut shares = vec![0; sizes.len()];
    let mut left = wanted;
    // One each, then the whole part of the quota, then one more for the largest remainders.
    let mut by_size: Vec<usize> = (0..sizes.len()).collect();
    by_size.sort_by_key(|&class| std::cmp::Reverse(sizes[class]));
    for class in by_size.into_iter().take(wanted) {
        shares[class] = 1;
        left -= 1;
    }
    let mut by_remainder: Vec<usize> = (0..sizes.len()).collect();
    by_remainder.sort_by(|&a, &b| quota(b).fract().total_cmp(&quota(a).fract()));
    for &class in &by_remainder {
        let more = (quota(class) as usize)
            .saturating_sub(shares[class])
            .min(left);
        shares[class] += more;
        left -= more;
    }
    for class in by_remainder.into_iter().cycle() {
        if left == 0 {
            break;
        }
        if shares[class] < sizes[class] {
            shares[class] += 1;
            left -= 1;
        }
    }
    shares
}

/// The number of a part: what is trained on, validated on, tested on.
const TRAIN: u8 = 0;
const VALIDATION: u8 = 1;
const TEST: u8 = 2;

/// Where each example goes.
fn parts<S: Examples>(
    set: &S,
    fractions: Fractions,
    stratify: bool,
    seed: u64,
) -> Result<Vec<u8>, DataError> {
    let Fractions { validation, test } = fractions;
    let share = |fraction: f64| (0.0..1.0).contains(&fraction);
    if !share(validation) || !share(test) || validation + test >= 1.0 {
        return Err(DataError::BadFractions { validation, test });
    }
    let n = set.count();
    let labelled = stratify && (0..n).any(|index| !set.labels(index).is_empty());
    let to = match labelled {
        true => by_labels(set, fractions, seed),
        false => by_class(set, fractions, stratify, seed),
    };
    for (part, name, fraction) in [
        (TEST, "test", test),
        (VALIDATION, "validation", validation),
        (TRAIN, "train", 1.0 - validation - test),
    ] {
        if fraction > 0.0 && !to.contains(&part) {
            return Err(DataError::EmptySplit {
                path: set.source(),
                part: name,
                examples: n,
                fraction,
            });
        }
    }
    Ok(to)
}

/// Where each example goes where those of the same text stay together: a text that was learned from tells nothing of new ones. Where
/// there are too few texts for that, the examples are split as they are.
pub(crate) fn parts_by_text<'a, S: Examples>(
    set: &S,
    text: impl Fn(usize) -> &'a str,
    fractions: Fractions,
    stratify: bool,
    seed: u64,
) -> Result<Vec<u8>, DataError> {
    let n = set.count();
    let mut numbers: HashMap<&str, usize> = HashMap::new();
    let mut texts: Vec<Vec<usize>> = Vec::new();
    for row in 0..n {
        let next = texts.len();
        let text = *numbers.entry(text(row)).or_insert(next);
        if text == next {
            texts.push(Vec::new());
        }
        texts[text].push(row);
    }
    rng::shuffle(&mut texts, seed, Stream::Split as u64, 0);
    let mut to = vec![TRAIN; n];
    let mut left = texts.into_iter();
    for (part, fraction) in [(TEST, fractions.test), (VALIDATION, fractions.validation)] {
        let (wanted, mut taken) = (size(n, fraction), 0);
        while taken < wanted
            && let Some(rows) = left.next()
        {
            taken += rows.len();
            rows.into_iter().for_each(|row| to[row] = part);
        }
    }
    let wanted = [1.0, fractions.validation, fractions.test];
    let is_whole = (0..3).all(|part| wanted[part as usize] == 0.0 || to.contains(&part));
    // Which parts there must be is checked there; and one text is more than its share if it has most questions.
    let of_train = to.iter().filter(|&&part| part == TRAIN).count();
    if !is_whole || 2 * of_train < n {
        return parts(set, fractions, stratify, seed);
    }
    Ok(to)
}

/// How many of `n` examples a fraction is.
fn size(n: usize, fraction: f64) -> usize {
    (n as f64 * fraction).round() as usize
}

/// Random parts, or with `stratify` each class by its share.
fn by_class<S: Examples>(set: &S, fractions: Fractions, stratify: bool, seed: u64) -> Vec<u8> {
    let n = set.count();
    let mut classes: BTreeMap<Option<Cow<'_, str>>, Vec<usize>> = BTreeMap::new();
    for index in 0..n {
        let class = if stratify { set.class(index) } else { None };
        classes.entry(class).or_default().push(index);
    }
    let mut classes: Vec<Vec<usize>> = classes.into_values().collect();
    for (class, members) in classes.iter_mut().enumerate() {
        rng::shuffle(members, seed, Stream::Split as u64, class as u64);
    }
    let sizes: Vec<usize> = classes.iter().map(Vec::len).collect();
    let mut to = vec![TRAIN; n];
    for (part, fraction) in [(TEST, fractions.test), (VALIDATION, fractions.validation)] {
        let left: Vec<usize> = classes.iter().map(Vec::len).collect();
        let shares = shares(size(n, fraction), fraction, &sizes, &left);
        for (members, share) in classes.iter_mut().zip(shares) {
            for index in members.split_off(members.len() - share) {
                to[index] = part;
            }
        }
    }
    to
}

/// Parts in which each label of many keeps its share: iterative stratification (Sechidis, Tsoumakas and Vlahavas 2011,
/// "On the stratification of multi-label data"). The label with the fewest examples left is dealt out first, each example
/// to the part that wants most of that label. Other than there, a part never gets more examples than its size.
fn by_labels<S: Examples>(set: &S, fractions: Fractions, seed: u64) -> Vec<u8> {
    let n = set.count();
    let Fractions { validation, test } = fractions;
    let (of_validation, of_test) = (size(n, validation), size(n, test));
    // The fractions' sum is below 1, so both sizes together are at most n.
    let mut room = [n - of_validation - of_test, of_validation, of_test];
    let mut order: Vec<usize> = (0..n).collect();
    rng::shuffle(&mut order, seed, Stream::Split as u64, 0);

    let names: BTreeSet<&str> = (0..n)
        .flat_map(|index| set.labels(index).iter().map(String::as_str))
        .collect();
    let ids: BTreeMap<&str, usize> = names.into_iter().zip(0..).collect();
    // The labels of each example, each once.
    let labels: Vec<BTreeSet<usize>> = (0..n)
        .map(|index| {
            set.labels(index)
                .iter()
                .map(|name| ids[name.as_str()])
                .collect()
        })
        .collect();
    let mut members = vec![Vec::new(); ids.len()];
    for &index in &order {
        labels[index]
            .iter()
            .for_each(|&label| members[label].push(index));
    }
    let mut left: Vec<usize> = members.iter().map(Vec::len).collect();
    let shares = [1.0 - validation - test, validation, test];
    let mut wanted: Vec<[f64; 3]> = left
        .iter()
        .map(|&count| shares.map(|share| count as f64 * share))
        .collect();

    let mut to: Vec<Option<u8>> = vec![None; n];
    let rarest = |left: &[usize]| {
        let there = (0..left.len()).filter(|&label| left[label] > 0);
        there.min_by_key(|&label| left[label])
    };
    while let Some(label) = rarest(&left) {
        for &index in &members[label] {
            if to[index].is_some() {
                continue;
            }
            let part = most_wanting(&wanted[label], &room);
            to[index] = Some(part);
            let part = usize::from(part);
            room[part] -= 1;
            for &label in &labels[index] {
                left[label] -= 1;
                wanted[label][part] -= 1.0;
            }
        }
    }
    for index in order {
        if to[index].is_none() {
            let part = most_wanting(&[0.0; 3], &room);
            room[usize::from(part)] -= 1;
            to[index] = Some(part);
        }
    }
    to.into_iter().map(|part| part.unwrap_or(TRAIN)).collect()
}

/// Of the parts with room, the one that wants most; of equal ones, that with most room.
fn most_wanting(wanted: &[f64; 3], room: &[usize; 3]) -> u8 {
    let mut best = TRAIN;
    for part in [TRAIN, VALIDATION, TEST] {
        let of = |part: u8| {
            let part = usize::from(part);
            (room[part] > 0, wanted[part], room[part])
        };
        if of(part) > of(best) {
            best = part;
        }
    }
    best
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
    use crate::{Place, RawValue};
    use std::path::Path;

    fn set(sizes: &[usize]) -> Vec<Example> {
        let path: std::sync::Arc<Path> = Path::new("all.csv").into();
        let mut examples = Vec::new();
        for (class, &size) in sizes.iter().enumerate() {
            for _ in 0..size {
                let line = examples.len() as u64 + 2;
                examples.push(Example {
                    text: format!("text {line}"),
                    text_pair: None,
                    label: Some(RawTarget::from(format!("c{class}").as_str())),
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
            .filter(|example| {
                example
                    .label
                    .as_ref()
                    .is_some_and(|found| found.class().as_deref() == Some(label.as_str()))
            })
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
                "all.csv: the validation part would be empty: 4 examples are too few for a fraction of 0.1\nhint: a larger --set data.validation_fraction, or a file of its own: --validation FILE",
            ),
            (
                vec![1, 1],
                0.0,
                0.4,
                "all.csv: the test part would be empty: 2 examples are too few for a fraction of 0.4\nhint: a larger --set data.test_fraction, or a file of its own: --test FILE",
            ),
        ] {
            let error = split(set(&sizes), Fractions { validation, test }, true, 0).unwrap_err();
            assert_eq!(error.to_string(), expect);
        }
    }

    /// Regresses the limit that took the first rows of a file sorted by class.
    #[test]
    fn a_limit_keeps_the_shares_of_the_classes_in_file_order() {
        let drawn = |sizes: &[usize], examples: usize, seed: u64| {
            set(sizes).limited(Some(&Limit {
                examples,
                stratify: true,
                seed,
            }))
        };
        for (sizes, examples, expect) in [
            (vec![50, 50], 20, vec![10, 10]),
            (vec![90, 10], 10, vec![9, 1]),
            (vec![97, 2, 1], 10, vec![8, 1, 1]),
            (vec![5, 5, 5], 2, vec![1, 1, 0]),
            (vec![3, 3, 1], 6, vec![3, 2, 1]),
            (vec![3, 4], 7, vec![3, 4]),
            (vec![3, 4], 9, vec![3, 4]),
            (vec![3, 4], 0, vec![0, 0]),
        ] {
            let kept = drawn(&sizes, examples, 5);
            let found: Vec<usize> = (0..sizes.len()).map(|class| count(&kept, class)).collect();
            assert_eq!(found, expect, "{sizes:?}, {examples}");
            assert!(kept.is_sorted_by_key(|example| example.place.line));
        }
        assert_eq!(drawn(&[40, 40], 20, 1), drawn(&[40, 40], 20, 1));
        assert_ne!(drawn(&[40, 40], 20, 1), drawn(&[40, 40], 20, 2));
        let first = set(&[40, 40]).limited(Some(&Limit::first(20)));
        assert_eq!(first, set(&[20]));
    }

    /// 300 examples: `often` on every second, `seldom` on 30, `rare` on 10, and none at all on a third of the rest.
    fn labelled() -> Vec<Example> {
        let mut examples = set(&[300]);
        for (i, example) in examples.iter_mut().enumerate() {
            let on = [
                (i % 2 == 0, "often"),
                (i % 10 == 4, "seldom"),
                (i % 30 == 7, "rare"),
            ];
            let names = on.into_iter().filter(|(on, _)| *on);
            let names = names.map(|(_, name)| name.to_owned()).collect();
            example.label = Some(RawTarget(vec![RawValue::List(names)]));
        }
        examples
    }

    #[test]
    fn every_label_keeps_its_share() {
        let fractions = Fractions {
            validation: 0.1,
            test: 0.2,
        };
        let with = |examples: &[Example], name: &str| {
            let labels = examples.iter().map(|e| e.label.as_ref().unwrap().labels());
            labels.filter(|l| l.iter().any(|l| l == name)).count()
        };
        // A random split leaves `rare` out of validation for one seed in three.
        for seed in 0..20 {
            let parts = split(labelled(), fractions, true, seed).unwrap();
            assert_eq!(parts, split(labelled(), fractions, true, seed).unwrap());
            let sizes = [&parts.train, &parts.validation, &parts.test].map(Vec::len);
            assert_eq!(sizes, [210, 30, 60]);
            for (name, expected) in [
                ("often", [105, 15, 30]),
                ("seldom", [21, 3, 6]),
                ("rare", [7, 1, 2]),
            ] {
                let found = [&parts.train, &parts.validation, &parts.test].map(|p| with(p, name));
                for (found, expected) in found.into_iter().zip(expected) {
                    assert!(
                        usize::abs_diff(found, expected) <= 1,
                        "{name}, seed {seed}: {found}, {expected}"
                    );
                    assert!(found > 0, "{name}, seed {seed}");
                }
            }
            let other = split(labelled(), fractions, true, seed + 1).unwrap();
            assert_ne!(parts.validation, other.validation);
        }
    }

    #[test]
    fn a_label_of_one_example_is_for_training() {
        let mut examples = labelled();
        let alone = vec!["often".to_owned(), "alone".to_owned()];
        examples[150].label = Some(RawTarget(vec![RawValue::List(alone)]));
        let fractions = Fractions {
            validation: 0.1,
            test: 0.1,
        };
        for seed in 0..10 {
            let parts = split(examples.clone(), fractions, true, seed).unwrap();
            let labels = |e: &Example| e.label.as_ref().unwrap().labels().len();
            assert!(
                parts
                    .train
                    .iter()
                    .any(|e| e.place.line == 152 && labels(e) == 2)
            );
        }
    }

    #[test]
    fn numbers_and_sets_of_labels_are_drawn_at_random() {
        let mut examples = set(&[100]);
        for (i, example) in examples.iter_mut().enumerate() {
            let value = match i % 2 {
                0 => RawValue::Real(i as f64),
                _ => RawValue::List(vec![i.to_string()]),
            };
            example.label = Some(RawTarget(vec![value]));
        }
        let fractions = Fractions {
            validation: 0.2,
            test: 0.0,
        };
        let parts = split(examples.clone(), fractions, true, 1).unwrap();
        assert_eq!((parts.train.len(), parts.validation.len()), (80, 20));
        let limit = Limit {
            examples: 30,
            stratify: true,
            seed: 1,
        };
        let kept = examples.limited(Some(&limit));
        assert_eq!(kept.len(), 30);
        assert!(kept[29].place.line > 40, "not the first rows");
    }
}
