//! A module's float parameters by dotted path, whatever their rank: visit them, change them, freeze them, name them as a
//! checkpoint does. Works on any Burn module.

use burn::{
    module::{Module, ModuleMapper, ModuleVisitor, Param, ParamId},
    tensor::{Shape, Tensor, TensorPrimitive, backend::Backend, ops::FloatTensor},
};

/// How a model's checkpoints name its parameters: pairs of (prefix of a field path, prefix of a published name), each of whole
/// segments with at most one `*` for an index, for example `("backbone.layers.*.query",
/// "bert.encoder.layer.*.attention.self.query")`. The first pair that matches counts; what none matches stays as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct NameMap(pub &'static [(&'static str, &'static str)]);

impl NameMap {
    /// A field path as the checkpoint names it.
    #[must_use]
    pub fn published(&self, path: &str) -> String {
        let mut pairs = self.0.iter();
        pairs
            .find_map(|(field, published)| rewrite(path, field, published))
            .unwrap_or_else(|| path.to_owned())
    }

    /// A checkpoint's name as a field path.
    #[must_use]
    pub fn field(&self, name: &str) -> String {
        let mut pairs = self.0.iter();
        pairs
            .find_map(|(field, published)| rewrite(name, published, field))
            .unwrap_or_else(|| name.to_owned())
    }
}

/// `path` with its prefix `from` replaced by `to`; `None` where it does not begin so. An empty prefix matches everything.
fn rewrite(path: &str, from: &str, to: &str) -> Option<String> {
    let segments = |pattern| str::split(pattern, '.').filter(|segment| !segment.is_empty());
    let (mut rest, mut index) = (path, "");
    for segment in segments(from) {
        let (head, tail) = rest.split_once('.').unwrap_or((rest, ""));
        if segment == "*" && head.parse::<usize>().is_ok() {
            index = head;
        } else if segment != head {
            return None;
        }
        rest = tail;
    }
    let parts: Vec<&str> = segments(to)
        .map(|segment| if segment == "*" { index } else { segment })
        .chain((!rest.is_empty()).then_some(rest))
        .collect();
    Some(parts.join("."))
}

/// One float parameter on a visit.
pub struct ParamRef<'a, B: Backend> {
    /// Dotted path of fields.
    pub path: &'a str,
    /// Burn's identity of the parameter.
    pub id: ParamId,
    /// Shape, without touching the values.
    pub shape: Shape,
    /// Whether training changes it.
    pub trainable: bool,
    /// The value.
    pub value: FloatTensor<B>,
}

/// Calls `visit` on every float parameter, in order of definition.
pub fn visit<B: Backend, M: Module<B>>(module: &M, visit: &mut dyn FnMut(ParamRef<'_, B>)) {
    module.visit(&mut Walk {
        path: Vec::new(),
        then: visit,
    });
}

/// What a map makes of a parameter.
pub struct Mapped<B: Backend> {
    /// The new value, of the old shape.
    pub value: FloatTensor<B>,
    /// Whether training changes it from now on.
    pub trainable: bool,
}

/// Replaces every float parameter by what `map` makes of it. Ids stay; buffers never train, whatever `map` says.
pub fn map<B: Backend, M: Module<B>>(
    module: M,
    map: &mut dyn FnMut(ParamRef<'_, B>) -> Mapped<B>,
) -> M {
    module.map(&mut Walk {
        path: Vec::new(),
        then: map,
    })
}

/// Whether the parameter at a path is a buffer: loaded, saved and restored as parameters are, but never trained by
/// gradients. Batch norm's running moments are.
#[must_use]
pub fn is_buffer(path: &str) -> bool {
    let name = path.rsplit_once('.').map_or(path, |(_, name)| name);
    matches!(name, "running_mean" | "running_var")
}

/// Sets which parameters train, by path; buffers never do. A parameter that is not made yet stays so.
pub fn set_trainable<B: Backend, M: Module<B>>(
    module: M,
    trainable: &mut dyn FnMut(&str) -> bool,
) -> M {
    module.map(&mut Walk {
        path: Vec::new(),
        then: Trainable(trainable),
    })
}

/// The dotted paths and shapes of every float parameter, in order of definition. What is not made yet stays so: a shape
/// can be held against a file's before anything of that size exists.
pub fn shapes<B: Backend, M: Module<B>>(module: &M) -> Vec<(String, Shape)> {
    let mut walk = Walk {
        path: Vec::new(),
        then: Shapes(Vec::new()),
    };
    module.visit(&mut walk);
    walk.then.0
}

/// Replaces every float parameter, by path, for which `source` has a value of its shape, without making the old value
/// first; makes the others. Whether a parameter trains stays as it was.
pub fn load<B: Backend, M: Module<B>>(
    module: M,
    source: &mut dyn FnMut(&str) -> Option<FloatTensor<B>>,
) -> M {
    module.map(&mut Walk {
        path: Vec::new(),
        then: Load(source),
    })
}

/// Number of values in all parameters (buffers are none), and in those that train.
pub fn count<B: Backend, M: Module<B>>(module: &M) -> (usize, usize) {
    let (mut all, mut trainable) = (0, 0);
    visit(module, &mut |param: ParamRef<'_, B>| {
        if !is_buffer(param.path) {
            all += param.shape.num_elements();
        }
        if param.trainable {
            trainable += param.shape.num_elements();
        }
    });
    (all, trainable)
}

/// Whether anything in the module trains. A block where nothing does runs as in evaluation: frozen is frozen.
pub fn any_trainable<B: Backend, M: Module<B>>(module: &M) -> bool {
    struct Any(bool);
    impl<B: Backend> ModuleVisitor<B> for Any {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<B, D>>) {
            self.0 |= param.is_require_grad();
        }
    }
    let mut any = Any(false);
    module.visit(&mut any);
    any.0
}

/// The walk over a module with its stack of names.
struct Walk<F> {
    path: Vec<String>,
    then: F,
}

impl<F> Walk<F> {
    // The name of an enum's variant is no part of a path.
    fn enter(&mut self, name: &str, container: &str) {
        if !container.starts_with("Enum:") {
            self.path.push(name.to_owned());
        }
    }

    fn exit(&mut self, container: &str) {
        if !container.starts_with("Enum:") {
            self.path.pop();
        }
    }
}

struct Shapes(Vec<(String, Shape)>);

impl<B: Backend> ModuleVisitor<B> for Walk<Shapes> {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.enter(name, container);
    }

    fn exit_module(&mut self, _: &str, container: &str) {
        self.exit(container);
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<B, D>>) {
        self.then.0.push((self.path.join("."), param.lazy_shape()));
    }
}

struct Trainable<'a>(&'a mut dyn FnMut(&str) -> bool);

impl<B: Backend> ModuleMapper<B> for Walk<Trainable<'_>> {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.enter(name, container);
    }

    fn exit_module(&mut self, _: &str, container: &str) {
        self.exit(container);
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<B, D>>) -> Param<Tensor<B, D>> {
        let path = self.path.join(".");
        let trainable = (self.then.0)(&path) && !is_buffer(&path);
        // A tracked result of an operation is no leaf; only a change of state may make one.
        if param.is_initialized() && param.is_require_grad() == trainable {
            param
        } else {
            param.set_require_grad(trainable)
        }
    }
}

struct Load<'a, B: Backend>(&'a mut dyn FnMut(&str) -> Option<FloatTensor<B>>);

impl<B: Backend> ModuleMapper<B> for Walk<Load<'_, B>> {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.enter(name, container);
    }

    fn exit_module(&mut self, _: &str, container: &str) {
        self.exit(container);
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<B, D>>) -> Param<Tensor<B, D>> {
        match (self.then.0)(&self.path.join(".")) {
            Some(value) => {
                let id = param.id;
                let value = Tensor::from_primitive(TensorPrimitive::Float(value));
                param.transform_for_load(value, id)
            }
            None => {
                param.val();
                param
            }
        }
    }
}

impl<B: Backend> ModuleVisitor<B> for Walk<&mut dyn FnMut(ParamRef<'_, B>)> {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.enter(name, container);
    }

    fn exit_module(&mut self, _: &str, container: &str) {
        self.exit(container);
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<B, D>>) {
        let tensor = param.val();
        (self.then)(ParamRef {
            path: &self.path.join("."),
            id: param.id,
            shape: tensor.shape(),
            trainable: tensor.is_require_grad(),
            value: tensor.into_primitive().tensor(),
        });
    }
}

impl<B: Backend> ModuleMapper<B> for Walk<&mut dyn FnMut(ParamRef<'_, B>) -> Mapped<B>> {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.enter(name, container);
    }

    fn exit_module(&mut self, _: &str, container: &str) {
        self.exit(container);
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<B, D>>) -> Param<Tensor<B, D>> {
        let (id, tensor, mapper) = param.consume();
        let path = self.path.join(".");
        let Mapped { value, trainable } = (self.then)(ParamRef {
            path: &path,
            id,
            shape: tensor.shape(),
            trainable: tensor.is_require_grad(),
            value: tensor.into_primitive().tensor(),
        });
        let trainable = trainable && !is_buffer(&path);
        let tensor = Tensor::<B, D>::from_primitive(TensorPrimitive::Float(value));
        // A tracked result of an operation is no leaf; only a change of state may make one.
        let tensor = if tensor.is_require_grad() == trainable {
            tensor
        } else {
            tensor.set_require_grad(trainable)
        };
        Param::from_mapped_value(id, tensor, mapper)
    }
}

#[cfg(all(test, feature = "cpu"))]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::layers::Linear;
    use burn::backend::{Autodiff, Flex};
    use burn::tensor::TensorData;

    #[test]
    fn names_map_both_ways() {
        let names = NameMap(&[
            ("head.out", "classifier"),
            (
                "backbone.layers.*.query",
                "bert.encoder.layer.*.attention.self.query",
            ),
            ("backbone.norm", "bert.LayerNorm"),
            ("backbone", ""),
        ]);
        for (field, published) in [
            (
                "backbone.layers.10.query.weight",
                "bert.encoder.layer.10.attention.self.query.weight",
            ),
            ("head.out.bias", "classifier.bias"),
            ("head.out", "classifier"),
            ("backbone.norm.weight", "bert.LayerNorm.weight"),
            // Whole segments only.
            ("backbone.normal.weight", "normal.weight"),
            ("backbone.layers.x.query", "layers.x.query"),
        ] {
            assert_eq!(names.published(field), published);
            assert_eq!(names.field(published), field);
        }
        assert_eq!(NameMap(&[("a", "b")]).published("c.a"), "c.a");
    }

    /// A size that no memory holds shows in the shape and is never made.
    #[test]
    fn what_is_loaded_is_never_made_before() {
        type B = Autodiff<Flex>;
        let device = Default::default();
        let huge = Linear::<B>::normal(1, 1 << 40, 1 << 40, 0.1, &device);
        let of = shapes(&huge);
        assert_eq!(of[0].0, "weight");
        assert_eq!(of[0].1.as_slice(), [1 << 40, 1 << 40]);
        let huge = set_trainable(huge, &mut |path| path == "bias");
        let loaded = load(huge, &mut |path| {
            let shape = if path == "weight" {
                vec![2, 3]
            } else {
                vec![2]
            };
            let values = vec![0.5f32; shape.iter().product()];
            Some(
                <B as burn::tensor::ops::FloatTensorOps<B>>::float_from_data(
                    TensorData::new(values, shape),
                    &device,
                ),
            )
        });
        assert_eq!(loaded.dims(), (3, 2));
        assert!(!loaded.weight.parameter().unwrap().is_require_grad());
        assert!(loaded.bias.unwrap().is_require_grad());
    }

    /// What is not loaded is what it would have been in a new module.
    #[test]
    fn what_is_not_loaded_is_drawn() {
        let device = Default::default();
        let new = || Linear::<Flex>::normal(1, 4, 2, 0.1, &device);
        let loaded = load(new(), &mut |_| None);
        assert!(loaded.weight.parameter().unwrap().is_initialized());
        let values =
            |linear: &Linear<Flex>| linear.weight.val().into_data().to_vec::<f32>().unwrap();
        assert_eq!(values(&loaded), values(&new()));
    }
}
