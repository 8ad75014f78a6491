//! From files of weights to a module's parameters, accounting for every tensor and every parameter. Shapes are compared
//! before anything is made; then one tensor at a time is read, moved to the device and let go.

use crate::{ModelError, image::vit::resampled};
use burn::{module::Module, tensor::backend::Backend};
use rekindle_base::HostTensor;
use rekindle_nn::{
    host::from_host,
    layers::Grouped,
    ops::Groups,
    params::{self, NameMap},
};
use rekindle_weights::{GroupedTensor, WeightError, WeightFiles};
use serde::Serialize;
use std::collections::{BTreeMap, btree_map::Entry};

/// What a model says of a checkpoint's tensor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Rule {
    /// It is the parameter of this published name.
    Load(String),
    /// It is known and not needed, for this reason.
    Ignore(String),
}

/// How a parameter is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Layout {
    /// As it is.
    Same,
    /// A matrix the other way round.
    Transposed,
    /// A matrix as a convolution of 1 x 1.
    Pointwise,
    /// A table of positions `[1, prefix + g g, D]`, which may be of another grid.
    Positions {
        /// Rows before the grid's.
        prefix: usize,
    },
}

/// How a model reads a checkpoint.
pub(crate) struct Rules<'a> {
    /// Fields to published names.
    pub names: NameMap,
    /// What each tensor of the checkpoint is.
    pub rule: &'a dyn Fn(&str) -> Rule,
    /// The reason why a parameter (by published name) may be newly initialised, or `None` if it must be there.
    pub may_initialise: &'a dyn Fn(&str) -> Option<String>,
    /// Whether a tensor is passed over although the parameter is there (a head for other labels), with the reason.
    pub may_replace: &'a dyn Fn(&str) -> Option<String>,
    /// How a parameter (by published name) is stored.
    pub layout: &'a dyn Fn(&str) -> Layout,
    /// Weights that are in their place already, by published name, with their number of values.
    pub placed: Vec<(String, usize)>,
    /// Whether a parameter (by published name) may have more rows than its tensor: the new ones are the mean of the others.
    pub grows: &'a dyn Fn(&str) -> bool,
}

/// What became of every tensor and every parameter.
#[derive(Debug, Clone, Default, Serialize)]
pub struct LoadReport {
    /// Parameters loaded, by published name.
    pub loaded: Vec<String>,
    /// Parameters newly initialised, with the reason.
    pub initialised: Vec<(String, String)>,
    /// Parameters loaded that got rows behind those of the checkpoint, and how many.
    pub grown: Vec<(String, usize)>,
    /// Tables of positions that were resized, by published name: sides of their grids in the checkpoint and in the model.
    pub resized: Vec<(String, usize, usize)>,
    /// Tensors of the checkpoint not used, with the reason.
    pub ignored: Vec<(String, String)>,
    /// Values of weights that stay packed in their quantized blocks.
    pub packed: usize,
}

impl LoadReport {
    /// One line for a person: how many loaded, which modules are new, what was passed over and why.
    #[must_use]
    pub fn summary(&self) -> String {
        let mut text = format!("{} tensors loaded", self.loaded.len());
        let mut modules: Vec<&str> = Vec::new();
        for (name, _) in &self.initialised {
            let module = name
                .rsplit_once('.')
                .map_or(name.as_str(), |(module, _)| module);
            if modules.last() != Some(&module) {
                modules.push(module);
            }
        }
        if !modules.is_empty() {
            let modules = modules.join(", ");
            text.push_str(&format!("; new: {modules} (to be trained)"));
        }
        for (name, rows) in &self.grown {
            text.push_str(&format!("; new: {rows} rows of {name}"));
        }
        for (name, from, to) in &self.resized {
            text.push_str(&format!(
                "; {name} resized from {from} x {from} to {to} x {to} patches"
            ));
        }
        let mut by_reason: Vec<(&str, &str, usize)> = Vec::new();
        for (name, reason) in &self.ignored {
            match by_reason.iter_mut().find(|(_, known, _)| known == reason) {
                Some((_, _, more)) => *more += 1,
                None => by_reason.push((name, reason, 0)),
            }
        }
        for (name, reason, more) in by_reason {
            let more = match more {
                0 => String::new(),
                more => format!(" and {more} more"),
            };
            text.push_str(&format!("; unused: {name}{more} ({reason})"));
        }
        text
    }
}

/// A checkpoint's tensors, sorted.
pub(crate) struct Sorted {
    /// Parameters, by published name, with the tensor of each.
    pub wanted: BTreeMap<String, String>,
    /// Tensors that are not needed, with the reason.
    pub ignored: Vec<(String, String)>,
}

/// Sorts the tensors of a checkpoint into parameters and what is not needed.
///
/// # Errors
/// When two tensors are one parameter.
pub(crate) fn sort_tensors(
    files: &WeightFiles,
    rule: &dyn Fn(&str) -> Rule,
) -> Result<Sorted, ModelError> {
    let mut wanted = BTreeMap::new();
    let mut ignored = Vec::new();
    for tensor in files.names() {
        match rule(tensor) {
            Rule::Ignore(reason) => ignored.push((tensor.to_owned(), reason)),
            Rule::Load(name) => match wanted.entry(name) {
                Entry::Vacant(place) => drop(place.insert(tensor.to_owned())),
                Entry::Occupied(place) => {
                    return Err(ModelError::Twice {
                        path: files.path().to_owned(),
                        parameter: place.key().clone(),
                        tensors: [place.get().clone(), tensor.to_owned()],
                    });
                }
            },
        }
    }
    for (entry, what) in files.ignored() {
        ignored.push((entry.clone(), format!("not a tensor but {what}")));
    }
    Ok(Sorted { wanted, ignored })
}

/// Quantized blocks on a device.
pub(crate) fn grouped<B: Backend>(found: GroupedTensor, device: &B::Device) -> Grouped<B> {
    let groups = Groups {
        rows: found.shape[0],
        columns: found.shape[1],
        size: found.group,
        bits: found.bits,
    };
    let words = found.codes.as_chunks::<4>().0.iter();
    let codes = words.map(|word| i32::from_le_bytes(*word)).collect();
    Grouped::new(codes, found.scales, found.offsets, groups, device)
}

/// Fills a module's parameters. Those that are newly initialised are drawn as a new module would draw them.
///
/// # Errors
/// On a missing or unexpected tensor, two for one parameter, a wrong shape, a type we cannot use, values that are not finite.
pub(crate) fn load<B: Backend, M: Module<B>>(
    module: M,
    files: &WeightFiles,
    rules: &Rules<'_>,
    device: &B::Device,
) -> Result<(M, LoadReport), ModelError> {
    let Sorted {
        mut wanted,
        ignored,
    } = sort_tensors(files, rules.rule)?;
    let mut report = LoadReport {
        ignored,
        ..LoadReport::default()
    };
    for (name, values) in &rules.placed {
        wanted.remove(name);
        report.loaded.push(name.clone());
        report.packed += values;
    }
    let mut missing = Vec::new();
    let mut found: BTreeMap<String, (String, Layout)> = BTreeMap::new();
    for (path, shape) in params::shapes(&module) {
        let name = rules.names.published(&path);
        let Some(tensor) = wanted.remove(&name) else {
            match (rules.may_initialise)(&name) {
                Some(reason) => report.initialised.push((name, reason)),
                None => missing.push(name),
            }
            continue;
        };
        if let Some(reason) = (rules.may_replace)(&name) {
            report.ignored.push((tensor, reason.clone()));
            report.initialised.push((name, reason));
            continue;
        }
        let mut expected = shape.to_vec();
        let layout = (rules.layout)(&name);
        match layout {
            Layout::Same => {}
            Layout::Transposed => expected.reverse(),
            Layout::Pointwise => expected.extend([1, 1]),
            Layout::Positions { prefix } => {
                let there = files.shape(&tensor).unwrap_or_default();
                if let Some([from, to]) = grids(there, &expected, prefix) {
                    report.resized.push((name.clone(), from, to));
                    expected[1] = there[1];
                }
            }
        }
        if let (Some(&[rows, width]), [more, same]) = (files.shape(&tensor), &mut expected[..])
            && rows > 0
            && rows < *more
            && width == *same
            && (rules.grows)(&name)
        {
            report.grown.push((name.clone(), *more - rows));
            *more = rows;
        }
        check(files, &tensor, &expected)?;
        report.loaded.push(name);
        found.insert(path, (tensor, layout));
    }
    if !missing.is_empty() {
        return Err(ModelError::Missing {
            path: files.path().to_owned(),
            names: missing,
        });
    }
    if !wanted.is_empty() {
        return Err(ModelError::Unexpected {
            path: files.path().to_owned(),
            names: wanted.into_values().collect(),
        });
    }
    let mut fail = None;
    let module = params::load(module, &mut |path| {
        let (tensor, layout) = found.get(path).filter(|_| fail.is_none())?;
        match files.read(tensor) {
            Ok(host) if *layout == Layout::Transposed => {
                Some(from_host::<B>(transpose(&host?), device))
            }
            Ok(host) => {
                let mut host = host?;
                let name = rules.names.published(path);
                if let Some((_, rows)) = report.grown.iter().find(|(grown, _)| *grown == name) {
                    grow(&mut host, *rows);
                }
                if *layout == Layout::Pointwise {
                    host.shape.truncate(2);
                }
                if let Layout::Positions { prefix } = *layout
                    && let Some(&(_, from, to)) = report.resized.iter().find(|(n, ..)| *n == name)
                {
                    let width = host.shape[2];
                    host.values = resampled(&host.values, width, prefix, [from, to]);
                    host.shape[1] = prefix + to * to;
                }
                Some(from_host::<B>(host, device))
            }
            Err(error) => {
                fail = Some(error);
                None
            }
        }
    });
    match fail {
        Some(error) => Err(error.into()),
        None => Ok((module, report)),
    }
}

/// Sides of the grids of two tables of positions `[1, prefix + g g, D]`, where they are two.
fn grids(there: &[usize], expected: &[usize], prefix: usize) -> Option<[usize; 2]> {
    let (&[1, from, width], &[1, to, same]) = (there, expected) else {
        return None;
    };
    let side = |rows: usize| {
        let patches = rows.checked_sub(prefix)?;
        let side = patches.isqrt();
        (side > 0 && side * side == patches).then_some(side)
    };
    (from != to && width == same).then_some([side(from)?, side(to)?])
}

/// Adds rows to a table, each the mean of those that are there. transformers draws them around that mean by the rows' own
/// covariance, which for a few tokens is nearly the same.
fn grow(table: &mut HostTensor, rows: usize) {
    let &[there, width] = table.shape.as_slice() else {
        return;
    };
    let mut sums = vec![0f64; width];
    for row in table.values.chunks(width.max(1)) {
        for (sum, &value) in sums.iter_mut().zip(row) {
            *sum += f64::from(value);
        }
    }
    let mean: Vec<f32> = sums.iter().map(|sum| (sum / there as f64) as f32).collect();
    for _ in 0..rows {
        table.values.extend(&mean);
    }
    table.shape[0] += rows;
}

/// A matrix the other way round; any other tensor as it is.
pub(crate) fn transpose(tensor: &HostTensor) -> HostTensor {
    let &[rows, columns] = tensor.shape.as_slice() else {
        return tensor.clone();
    };
    let mut values = Vec::with_capacity(tensor.values.len());
    for column in 0..columns {
        values.extend((0..rows).map(|row| tensor.values[row * columns + column]));
    }
    HostTensor {
        shape: vec![columns, rows],
        values,
    }
}

/// Holds a tensor's shape and type against a parameter's.
fn check(files: &WeightFiles, tensor: &str, expected: &[usize]) -> Result<(), ModelError> {
    let path = || files.file_of(tensor).unwrap_or(files.path()).to_owned();
    let found = files.shape(tensor).unwrap_or_default();
    if found != expected {
        return Err(ModelError::Shape {
            path: path(),
            tensor: tensor.to_owned(),
            expected: expected.to_vec(),
            found: found.to_vec(),
        });
    }
    match files.dtype(tensor) {
        Some(dtype) if !dtype.is_float() => Err(ModelError::Weights(WeightError::Type {
            path: path(),
            tensor: tensor.to_owned(),
            dtype: dtype.to_string(),
            expected: "F32, F16, BF16 or F64",
        })),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn new_rows_are_the_mean_of_the_others() {
        let mut table = HostTensor {
            shape: vec![2, 3],
            values: vec![1.0, 2.0, -1.0, 3.0, 2.0, -4.0],
        };
        grow(&mut table, 2);
        assert_eq!(table.shape, [4, 3]);
        assert_eq!(table.values[..6], [1.0, 2.0, -1.0, 3.0, 2.0, -4.0]);
        assert_eq!(table.values[6..], [2.0, 2.0, -2.5, 2.0, 2.0, -2.5]);
    }

    #[test]
    fn a_summary_names_modules_and_reasons_once() {
        let pair = |name: &str, reason: &str| (name.to_owned(), reason.to_owned());
        let mut report = LoadReport {
            loaded: vec!["a".into(), "b".into()],
            ..LoadReport::default()
        };
        assert_eq!(report.summary(), "2 tensors loaded");
        report.initialised = ["dense.weight", "dense.bias", "classifier.weight"]
            .map(|name| pair(name, "a new head"))
            .into();
        report.ignored = vec![
            pair("position_ids", "a buffer"),
            pair("cls.bias", "the pretraining head"),
            pair("cls.weight", "the pretraining head"),
        ];
        assert_eq!(
            report.summary(),
            "2 tensors loaded; new: dense, classifier (to be trained); unused: position_ids (a buffer); unused: cls.bias and 1 more (the pretraining head)"
        );
    }
}
