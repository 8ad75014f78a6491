//! A module's float parameters by dotted path, whatever their rank: visit them, change them, freeze them, name them as a
//! checkpoint does. Works on any Burn module.

use crate::host::{self, ReadError};
use burn::{
    module::{Module, ModuleMapper, ModuleVisitor, Param, ParamId},
    tensor::{Shape, Tensor, TensorPrimitive, backend::Backend, ops::FloatTensor},
};
use rekindle_base::HostTensor;

/// How a model's checkpoints name what Rust fields cannot: pairs of (field, segment), for example `("layer_norm",
/// "LayerNorm")`. Applied segment by segment, so it is its own inverse's mirror image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct NameMap(pub &'static [(&'static str, &'static str)]);

impl NameMap {
    /// A field path as the checkpoint names it.
    #[must_use]
    pub fn published(&self, path: &str) -> String {
        self.translate(path, |pair, segment| (pair.0 == segment).then_some(pair.1))
    }

    /// A checkpoint's name as a field path.
    #[must_use]
    pub fn field(&self, name: &str) -> String {
        self.translate(name, |pair, segment| (pair.1 == segment).then_some(pair.0))
    }

    fn translate<'a>(
        &'a self,
        path: &'a str,
        with: impl Fn(&(&'static str, &'static str), &str) -> Option<&'static str>,
    ) -> String {
        let segments: Vec<&str> = path
            .split('.')
            .map(|segment| {
                self.0
                    .iter()
                    .find_map(|pair| with(pair, segment))
                    .unwrap_or(segment)
            })
            .collect();
        segments.join(".")
    }
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

/// Every float parameter on the host, by published name, in order of definition.
///
/// # Errors
/// When the device does not give one back.
pub fn state<B: Backend, M: Module<B>>(
    module: &M,
    names: NameMap,
) -> Result<Vec<(String, HostTensor)>, ReadError> {
    let mut state = Ok(Vec::new());
    visit(module, &mut |param: ParamRef<'_, B>| {
        if let Ok(read) = &mut state {
            match host::to_host::<B>(param.value) {
                Ok(tensor) => read.push((names.published(param.path), tensor)),
                Err(error) => state = Err(error),
            }
        }
    });
    state
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

/// Sets which parameters train, by path; buffers never do.
pub fn set_trainable<B: Backend, M: Module<B>>(
    module: M,
    trainable: &mut dyn FnMut(&str) -> bool,
) -> M {
    map(module, &mut |param| {
        let trainable = trainable(param.path);
        Mapped {
            value: param.value,
            trainable,
        }
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

/// Whether a container is an enum, whose variant's name is no part of a path.
fn is_enum(container: &str) -> bool {
    container.starts_with("Enum:")
}

impl<B: Backend> ModuleVisitor<B> for Walk<&mut dyn FnMut(ParamRef<'_, B>)> {
    fn enter_module(&mut self, name: &str, container: &str) {
        if !is_enum(container) {
            self.path.push(name.to_owned());
        }
    }

    fn exit_module(&mut self, _: &str, container: &str) {
        if !is_enum(container) {
            self.path.pop();
        }
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
        if !is_enum(container) {
            self.path.push(name.to_owned());
        }
    }

    fn exit_module(&mut self, _: &str, container: &str) {
        if !is_enum(container) {
            self.path.pop();
        }
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

#[cfg(test)]
mod tests {
    use super::NameMap;

    #[test]
    fn names_map_both_ways() {
        let names = NameMap(&[("layer_norm", "LayerNorm"), ("self_attention", "self")]);
        let field = "bert.encoder.layer.0.attention.self_attention.query.weight";
        let published = "bert.encoder.layer.0.attention.self.query.weight";
        assert_eq!(names.published(field), published);
        assert_eq!(names.field(published), field);
    }
}
