//! The pickle machine: the opcodes that `torch.save` emits, over a closed list of globals. It computes a [`Value`] that
//! borrows from the file; a global off the list stops it, and a call on the list only fills one of our own structs.
//!
//! Implements the parts of Python's `Lib/pickle.py` (protocols 2 to 5) that `torch/_weights_only_unpickler.py` also
//! keeps, without sets, classes' `__new__` and recursive tuples. Compound values live in one arena, so that no nesting
//! in a file becomes a recursion here.

use crate::Dtype;
use std::collections::HashMap;

/// Opcodes run in one file; the state of a model of 100,000 tensors takes about 4 million.
const MAX_STEPS: usize = 1 << 23;
/// Values on the stack at once.
const MAX_STACK: usize = 1 << 20;
/// Tensors, and references to storages, in one file.
const MAX_TENSORS: usize = 1 << 18;
/// Dimensions of a tensor, as in PyTorch.
const MAX_DIMS: usize = 64;
/// Bytes of a tensor's or storage's name.
pub(super) const MAX_NAME: usize = 1024;

/// Why a pickle cannot be read; offsets are in bytes from the start of the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Fault {
    Malformed { offset: usize, reason: String },
    Refused { offset: usize, global: String },
}

/// Element types: ours, PyTorch's name (`torch.float32`), the class of its storage where there is one.
const DTYPES: [(Dtype, &str, &str); 22] = [
    (Dtype::F64, "float64", "DoubleStorage"),
    (Dtype::F32, "float32", "FloatStorage"),
    (Dtype::F16, "float16", "HalfStorage"),
    (Dtype::BF16, "bfloat16", "BFloat16Storage"),
    (Dtype::I64, "int64", "LongStorage"),
    (Dtype::I32, "int32", "IntStorage"),
    (Dtype::I16, "int16", "ShortStorage"),
    (Dtype::I8, "int8", "CharStorage"),
    (Dtype::U8, "uint8", "ByteStorage"),
    (Dtype::Bool, "bool", "BoolStorage"),
    (
        Dtype::Other {
            name: "C64",
            size: 8,
        },
        "complex64",
        "ComplexFloatStorage",
    ),
    (
        Dtype::Other {
            name: "C128",
            size: 16,
        },
        "complex128",
        "ComplexDoubleStorage",
    ),
    (
        Dtype::Other {
            name: "C32",
            size: 4,
        },
        "complex32",
        "",
    ),
    (
        Dtype::Other {
            name: "U16",
            size: 2,
        },
        "uint16",
        "",
    ),
    (
        Dtype::Other {
            name: "U32",
            size: 4,
        },
        "uint32",
        "",
    ),
    (
        Dtype::Other {
            name: "U64",
            size: 8,
        },
        "uint64",
        "",
    ),
    (
        Dtype::Other {
            name: "F8_E4M3",
            size: 1,
        },
        "float8_e4m3fn",
        "",
    ),
    (
        Dtype::Other {
            name: "F8_E4M3FNUZ",
            size: 1,
        },
        "float8_e4m3fnuz",
        "",
    ),
    (
        Dtype::Other {
            name: "F8_E5M2",
            size: 1,
        },
        "float8_e5m2",
        "",
    ),
    (
        Dtype::Other {
            name: "F8_E5M2FNUZ",
            size: 1,
        },
        "float8_e5m2fnuz",
        "",
    ),
    (
        Dtype::Other {
            name: "F8_E8M0",
            size: 1,
        },
        "float8_e8m0fnu",
        "",
    ),
    (
        Dtype::Other {
            name: "F4",
            size: 1,
        },
        "float4_e2m1fn_x2",
        "",
    ),
];

/// What a pickle computes. Copied freely: compound values are places in the machine's arena.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Value<'a> {
    None,
    Bool(bool),
    Int(i128),
    Float(f64),
    Str(&'a str),
    Bytes(&'a [u8]),
    Tuple(usize),
    List(usize),
    Dict(usize),
    Tensor(usize),
    Storage(usize),
    Global(Global),
    /// Something that no tensor needs, in words.
    Opaque(&'static str),
}

/// The globals that a file may name.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Global {
    OrderedDict,
    /// `_rebuild_tensor`, `_v2`
    RebuildTensor,
    /// With the element type as an argument, for types that have no storage class.
    RebuildTensorV3,
    RebuildParameter,
    Size,
    /// A storage class; `None` is bytes without a type.
    Storage(Option<Dtype>),
    Dtype(Dtype),
    /// A constructor of something that no tensor needs.
    Opaque(&'static str),
}

impl Global {
    fn find(module: &str, name: &str) -> Option<Self> {
        Some(match (module, name) {
            ("collections", "OrderedDict") => Self::OrderedDict,
            ("torch._utils", "_rebuild_tensor" | "_rebuild_tensor_v2") => Self::RebuildTensor,
            ("torch._utils", "_rebuild_tensor_v3") => Self::RebuildTensorV3,
            ("torch._utils", "_rebuild_parameter" | "_rebuild_parameter_with_state") => {
                Self::RebuildParameter
            }
            ("torch", "Size") => Self::Size,
            ("torch", "device") => Self::Opaque("a device"),
            ("torch" | "torch.storage", "UntypedStorage" | "TypedStorage") => Self::Storage(None),
            ("torch", _) => {
                let known =
                    |&&(_, dtype, storage): &&(Dtype, &str, &str)| name == dtype || name == storage;
                let &(dtype, of_dtype, _) = DTYPES.iter().find(known)?;
                if name == of_dtype {
                    Self::Dtype(dtype)
                } else {
                    Self::Storage(Some(dtype))
                }
            }
            ("numpy.core.multiarray" | "numpy._core.multiarray", "scalar") => {
                Self::Opaque("a NumPy number")
            }
            ("numpy.core.multiarray" | "numpy._core.multiarray", "_reconstruct")
            | ("numpy", "ndarray") => Self::Opaque("a NumPy array"),
            ("numpy", "dtype") => Self::Opaque("a NumPy type"),
            // Python 3 writes bytes so in protocol 2.
            ("_codecs", "encode") => Self::Opaque("bytes"),
            _ => return None,
        })
    }
}

/// A place among the file's raw bytes.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Storage {
    pub(super) key: String,
    /// `None` is bytes without a type.
    pub(super) dtype: Option<Dtype>,
    /// Elements (bytes where there is no type).
    pub(super) len: usize,
    /// Where the file speaks of it.
    pub(super) offset: usize,
}

/// A tensor as a view of a storage. Its largest index is inside the length that the storage claims.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct View {
    pub(super) storage: usize,
    pub(super) dtype: Dtype,
    pub(super) shape: Vec<usize>,
    /// Elements from one index of a dimension to the next.
    pub(super) stride: Vec<usize>,
    /// The first element.
    pub(super) start: usize,
    /// Elements.
    pub(super) count: usize,
}

impl View {
    /// Whether the elements lie one after the other, in order.
    pub(super) fn is_contiguous(&self) -> bool {
        let mut expected = 1;
        self.shape
            .iter()
            .zip(&self.stride)
            .rev()
            .all(|(&length, &stride)| {
                let fits = length == 1 || stride == expected;
                expected *= length;
                fits
            })
    }

    /// The smallest storage length that holds every element; `None` when no address space does.
    fn reach(&self) -> Option<usize> {
        if self.count == 0 {
            return Some(0);
        }
        let last = self.shape.iter().zip(&self.stride).try_fold(
            self.start,
            |last, (&length, &stride)| {
                stride
                    .checked_mul(length - 1)
                    .and_then(|step| last.checked_add(step))
            },
        )?;
        last.checked_add(1)
    }
}

/// Runs pickles that stand one after the other in `bytes`.
pub(super) struct Machine<'a> {
    bytes: &'a [u8],
    /// Where the next opcode is.
    pub(super) position: usize,
    /// Where the current opcode is.
    current: usize,
    /// What `bytes` starts at in the file.
    base: usize,
    steps: usize,
    stack: Vec<Value<'a>>,
    marks: Vec<usize>,
    memo: HashMap<usize, Value<'a>>,
    lists: Vec<Vec<Value<'a>>>,
    dicts: Vec<Vec<(Value<'a>, Value<'a>)>>,
    pub(super) views: Vec<View>,
    pub(super) storages: Vec<Storage>,
}

type Step<T> = Result<T, Fault>;

impl<'a> Machine<'a> {
    /// A machine over `bytes`, which stand at `base` in their file.
    pub(super) fn new(bytes: &'a [u8], base: usize) -> Self {
        Self {
            bytes,
            position: 0,
            current: 0,
            base,
            steps: 0,
            stack: Vec::new(),
            marks: Vec::new(),
            memo: HashMap::new(),
            lists: Vec::new(),
            dicts: Vec::new(),
            views: Vec::new(),
            storages: Vec::new(),
        }
    }

    /// The items of a list or tuple.
    pub(super) fn items(&self, value: Value<'a>) -> Option<&[Value<'a>]> {
        match value {
            Value::List(i) | Value::Tuple(i) => self.lists.get(i).map(Vec::as_slice),
            _ => None,
        }
    }

    /// The entries of a dictionary, in order.
    pub(super) fn entries(&self, value: Value<'a>) -> Option<&[(Value<'a>, Value<'a>)]> {
        match value {
            Value::Dict(i) => self.dicts.get(i).map(Vec::as_slice),
            _ => None,
        }
    }

    /// A value in a few words.
    pub(super) fn describe(&self, value: Value<'a>) -> String {
        let text = match value {
            Value::None => "None",
            Value::Bool(true) => "True",
            Value::Bool(false) => "False",
            Value::Int(i) => return format!("the number {i}"),
            Value::Float(x) => return format!("the number {x}"),
            Value::Str(_) => "a string",
            Value::Bytes(_) => "bytes",
            Value::Tuple(_) | Value::List(_) => {
                let kind = if matches!(value, Value::List(_)) {
                    "list"
                } else {
                    "tuple"
                };
                return format!(
                    "a {kind} of {}",
                    self.items(value).unwrap_or_default().len()
                );
            }
            Value::Dict(i) if self.dicts[i].is_empty() => "an empty dictionary",
            Value::Dict(_) => "a dictionary",
            Value::Tensor(_) => "a tensor",
            Value::Storage(_) => "a storage without a tensor",
            Value::Global(Global::Dtype(_)) => "a type",
            Value::Global(Global::Opaque(what)) | Value::Opaque(what) => what,
            Value::Global(_) => "a class",
        };
        text.to_owned()
    }

    /// A fault at the current opcode.
    pub(super) fn malformed(&self, reason: impl Into<String>) -> Fault {
        Fault::Malformed {
            offset: self.base + self.current,
            reason: reason.into(),
        }
    }

    /// Runs the next pickle up to its end.
    pub(super) fn run(&mut self) -> Step<Value<'a>> {
        self.stack.clear();
        self.marks.clear();
        self.memo.clear();
        loop {
            self.current = self.position;
            self.steps += 1;
            let held = self.views.len().max(self.storages.len());
            if self.steps > MAX_STEPS || self.stack.len() > MAX_STACK || held > MAX_TENSORS {
                return Err(self.malformed("the pickle is larger than that of any model"));
            }
            let [opcode] = self.array()?;
            if opcode == b'.' {
                return self.pop();
            }
            self.step(opcode)?;
        }
    }

    fn step(&mut self, opcode: u8) -> Step<()> {
        match opcode {
            // PROTO, FRAME
            0x80 => {
                let [version] = self.array()?;
                if !(2..=5).contains(&version) {
                    return Err(
                        self.malformed(format!("pickle protocol {version}, expected 2 to 5"))
                    );
                }
            }
            0x95 => drop(self.array::<8>()?),
            // MARK, POP
            b'(' => self.marks.push(self.stack.len()),
            b'0' => drop(self.pop()?),
            // NONE, NEWTRUE, NEWFALSE
            b'N' => self.push(Value::None),
            0x88 => self.push(Value::Bool(true)),
            0x89 => self.push(Value::Bool(false)),
            // BININT, BININT1, BININT2, LONG1, BINFLOAT
            b'J' => {
                let value = i32::from_le_bytes(self.array()?);
                self.push(Value::Int(value.into()));
            }
            b'K' => {
                let [value] = self.array()?;
                self.push(Value::Int(value.into()));
            }
            b'M' => {
                let value = u16::from_le_bytes(self.array()?);
                self.push(Value::Int(value.into()));
            }
            0x8a => {
                let length = self.length::<1>()?;
                let bytes = self.take(length)?;
                self.push(long(bytes));
            }
            b'G' => {
                let value = f64::from_be_bytes(self.array()?);
                self.push(Value::Float(value));
            }
            // BINUNICODE, SHORT_BINUNICODE, BINUNICODE8
            b'X' => self.string::<4>()?,
            0x8c => self.string::<1>()?,
            0x8d => self.string::<8>()?,
            // BINSTRING, SHORT_BINSTRING: strings of Python 2
            b'T' => self.old_string::<4>()?,
            b'U' => self.old_string::<1>()?,
            // BINBYTES, SHORT_BINBYTES, BINBYTES8, BYTEARRAY8
            b'B' => self.raw::<4>()?,
            b'C' => self.raw::<1>()?,
            0x8e | 0x96 => self.raw::<8>()?,
            // EMPTY_TUPLE, TUPLE1 to 3, TUPLE
            b')' => self.tuple(Vec::new()),
            0x85..=0x87 => {
                let mut items = (0x85..=opcode)
                    .map(|_| self.pop())
                    .collect::<Step<Vec<_>>>()?;
                items.reverse();
                self.tuple(items);
            }
            b't' => {
                let items = self.pop_mark()?;
                self.tuple(items);
            }
            // EMPTY_LIST, APPEND, APPENDS
            b']' => {
                self.lists.push(Vec::new());
                self.push(Value::List(self.lists.len() - 1));
            }
            b'a' => {
                let item = self.pop()?;
                self.append(vec![item])?;
            }
            b'e' => {
                let items = self.pop_mark()?;
                self.append(items)?;
            }
            // EMPTY_DICT, SETITEM, SETITEMS
            b'}' => {
                let dict = self.dict(Vec::new());
                self.push(dict);
            }
            b's' => {
                let value = self.pop()?;
                let key = self.pop()?;
                self.set_items(&[key, value])?;
            }
            b'u' => {
                let items = self.pop_mark()?;
                self.set_items(&items)?;
            }
            // BINPUT, LONG_BINPUT, MEMOIZE, BINGET, LONG_BINGET
            b'q' => {
                let place = self.length::<1>()?;
                self.put(place)?;
            }
            b'r' => {
                let place = self.length::<4>()?;
                self.put(place)?;
            }
            0x94 => self.put(self.memo.len())?,
            b'h' => {
                let place = self.length::<1>()?;
                self.get(place)?;
            }
            b'j' => {
                let place = self.length::<4>()?;
                self.get(place)?;
            }
            // GLOBAL, STACK_GLOBAL
            b'c' => {
                let module = self.line()?;
                let name = self.line()?;
                self.global(module, name)?;
            }
            0x93 => {
                let name = self.pop()?;
                let module = self.pop()?;
                let (Value::Str(module), Value::Str(name)) = (module, name) else {
                    return Err(self.malformed("a global without a name"));
                };
                self.global(module, name)?;
            }
            // REDUCE, BUILD, BINPERSID
            b'R' => {
                let arguments = self.pop()?;
                let callable = self.pop()?;
                let value = self.call(callable, arguments)?;
                self.push(value);
            }
            b'b' => {
                // Attributes (`_metadata` of a state_dict, a NumPy type's layout) are nothing that a tensor needs.
                self.pop()?;
                if !matches!(
                    self.top()?,
                    Value::Dict(_) | Value::Opaque(_) | Value::Tensor(_)
                ) {
                    return Err(self.malformed("attributes for a value that has none"));
                }
            }
            b'Q' => {
                let id = self.pop()?;
                let storage = self.storage(id)?;
                self.push(storage);
            }
            _ => {
                return Err(self.malformed(format!(
                    "opcode {opcode:#04x}, which torch.save does not write"
                )));
            }
        }
        Ok(())
    }

    fn global(&mut self, module: &str, name: &str) -> Step<()> {
        match Global::find(module, name) {
            Some(global) => {
                self.push(Value::Global(global));
                Ok(())
            }
            None => Err(Fault::Refused {
                offset: self.base + self.current,
                global: format!("{module}.{name}"),
            }),
        }
    }

    /// What a call of one of the known globals gives.
    fn call(&mut self, callable: Value<'a>, arguments: Value<'a>) -> Step<Value<'a>> {
        let (Value::Global(global), Some(arguments)) = (callable, self.items(arguments)) else {
            return Err(self.malformed(format!("a call of {}", self.describe(callable))));
        };
        match (global, arguments) {
            (Global::OrderedDict, []) => Ok(self.dict(Vec::new())),
            // Python 2 lists the pairs.
            (Global::OrderedDict, &[pairs]) => {
                let pair = |pair: &Value<'a>| match self.items(*pair) {
                    Some(&[key, value]) => Ok((key, value)),
                    _ => Err(self.malformed("a dictionary of something else than pairs")),
                };
                let pairs = self
                    .items(pairs)
                    .ok_or_else(|| self.malformed("a dictionary of no list of pairs"))?;
                let pairs = pairs.iter().map(pair).collect::<Step<Vec<_>>>()?;
                // A list can be copied any number of times, each a few bytes of the file.
                self.steps += pairs.len();
                Ok(self.dict(pairs))
            }
            (Global::RebuildTensor, &[storage, start, shape, stride, ..]) => {
                self.tensor(storage, start, shape, stride, None)
            }
            (
                Global::RebuildTensorV3,
                &[
                    storage,
                    start,
                    shape,
                    stride,
                    _requires_grad,
                    _hooks,
                    Value::Global(Global::Dtype(dtype)),
                    ..,
                ],
            ) => self.tensor(storage, start, shape, stride, Some(dtype)),
            (Global::RebuildParameter, &[tensor @ Value::Tensor(_), ..]) => Ok(tensor),
            (Global::Size, &[size @ Value::Tuple(_)]) => Ok(size),
            (Global::Opaque(what), _) => Ok(Value::Opaque(what)),
            _ => Err(self.malformed(format!(
                "{global:?} called with {} arguments of the wrong kind",
                arguments.len()
            ))),
        }
    }

    fn tensor(
        &mut self,
        storage: Value<'a>,
        start: Value<'a>,
        shape: Value<'a>,
        stride: Value<'a>,
        dtype: Option<Dtype>,
    ) -> Step<Value<'a>> {
        let Value::Storage(place) = storage else {
            return Err(self.malformed(format!(
                "a tensor over {}, expected a storage",
                self.describe(storage)
            )));
        };
        let (start, shape, stride) = (
            self.index(start)?,
            self.indices(shape)?,
            self.indices(stride)?,
        );
        if shape.len() != stride.len() || shape.len() > MAX_DIMS {
            return Err(self.malformed(format!(
                "a tensor with {} dimensions and {} strides",
                shape.len(),
                stride.len()
            )));
        }
        let storage = &self.storages[place];
        let Some(dtype) = dtype.or(storage.dtype) else {
            return Err(self.malformed("a tensor without a type"));
        };
        // Zeros count as ones: no product of dimensions that is formed later may overflow.
        let product = shape.iter().try_fold(1_usize, |product, &length| {
            product.checked_mul(length.max(1))
        });
        let Some(product) = product else {
            return Err(self.malformed(format!(
                "a tensor of shape {shape:?}, more than there can be"
            )));
        };
        let count = if shape.contains(&0) { 0 } else { product };
        let view = View {
            storage: place,
            dtype,
            shape,
            stride,
            start,
            count,
        };
        let held = storage.len * storage.dtype.map_or(1, Dtype::size) / dtype.size();
        match view.reach() {
            Some(reach) if reach <= held => {}
            _ => {
                return Err(self.malformed(format!(
                    "a tensor of shape {:?} and strides {:?} from element {start} on, in a storage of {held}",
                    view.shape, view.stride
                )));
            }
        }
        self.views.push(view);
        Ok(Value::Tensor(self.views.len() - 1))
    }

    /// The storage that a persistent id speaks of: `("storage", class, key, device, elements)`, and in the stream format
    /// a sixth item, `None` since PyTorch 0.4.
    fn storage(&mut self, id: Value<'a>) -> Step<Value<'a>> {
        let (class, key, len) = match self.items(id) {
            Some(
                &[
                    Value::Str("storage"),
                    Value::Global(Global::Storage(class)),
                    key,
                    _device,
                    len,
                ],
            )
            | Some(
                &[
                    Value::Str("storage"),
                    Value::Global(Global::Storage(class)),
                    key,
                    _device,
                    len,
                    Value::None,
                ],
            ) => (class, key, len),
            _ => return Err(self.malformed("a reference to something else than a storage")),
        };
        let Some(key) = key_text(key) else {
            return Err(self.malformed(format!("a storage whose name is {}", self.describe(key))));
        };
        let len = self.index(len)?;
        if len.checked_mul(class.map_or(1, Dtype::size)).is_none() {
            return Err(self.malformed(format!(
                "a storage of {len} elements, more than there can be"
            )));
        }
        self.storages.push(Storage {
            key,
            dtype: class,
            len,
            offset: self.base + self.current,
        });
        Ok(Value::Storage(self.storages.len() - 1))
    }

    fn index(&self, value: Value<'a>) -> Step<usize> {
        match value {
            Value::Int(i) => usize::try_from(i)
                .map_err(|_| self.malformed(format!("{i} as a size, stride or offset"))),
            _ => Err(self.malformed(format!(
                "{} as a size, stride or offset",
                self.describe(value)
            ))),
        }
    }

    fn indices(&self, value: Value<'a>) -> Step<Vec<usize>> {
        match self.items(value) {
            Some(items) => items
                .iter()
                .take(MAX_DIMS + 1)
                .map(|&item| self.index(item))
                .collect(),
            None => Err(self.malformed(format!("{} as a shape", self.describe(value)))),
        }
    }

    fn push(&mut self, value: Value<'a>) {
        self.stack.push(value);
    }

    /// The lowest place that an opcode may touch.
    fn floor(&self) -> usize {
        self.marks.last().copied().unwrap_or(0)
    }

    fn pop(&mut self) -> Step<Value<'a>> {
        let top = self.top()?;
        self.stack.pop();
        Ok(top)
    }

    fn top(&self) -> Step<Value<'a>> {
        self.stack[self.floor()..]
            .last()
            .copied()
            .ok_or_else(|| self.malformed("an opcode without its operands"))
    }

    fn pop_mark(&mut self) -> Step<Vec<Value<'a>>> {
        let mark = self
            .marks
            .pop()
            .ok_or_else(|| self.malformed("the end of a group that was never begun"))?;
        Ok(self.stack.split_off(mark))
    }

    fn tuple(&mut self, items: Vec<Value<'a>>) {
        self.lists.push(items);
        self.push(Value::Tuple(self.lists.len() - 1));
    }

    fn dict(&mut self, entries: Vec<(Value<'a>, Value<'a>)>) -> Value<'a> {
        self.dicts.push(entries);
        Value::Dict(self.dicts.len() - 1)
    }

    fn append(&mut self, items: Vec<Value<'a>>) -> Step<()> {
        match self.top()? {
            Value::List(i) => self.lists[i].extend(items),
            other => {
                return Err(self.malformed(format!(
                    "items for {}, expected a list",
                    self.describe(other)
                )));
            }
        }
        Ok(())
    }

    fn set_items(&mut self, items: &[Value<'a>]) -> Step<()> {
        match self.top()? {
            Value::Dict(i) if items.len().is_multiple_of(2) => {
                self.dicts[i].extend(items.chunks_exact(2).map(|pair| (pair[0], pair[1])));
            }
            Value::Dict(_) => return Err(self.malformed("a key without a value")),
            other => {
                return Err(self.malformed(format!(
                    "entries for {}, expected a dictionary",
                    self.describe(other)
                )));
            }
        }
        Ok(())
    }

    fn put(&mut self, place: usize) -> Step<()> {
        let top = self.top()?;
        self.memo.insert(place, top);
        Ok(())
    }

    fn get(&mut self, place: usize) -> Step<()> {
        let value = self
            .memo
            .get(&place)
            .copied()
            .ok_or_else(|| self.malformed(format!("value {place}, never stored")))?;
        self.push(value);
        Ok(())
    }

    pub(super) fn take(&mut self, length: usize) -> Step<&'a [u8]> {
        let rest = &self.bytes[self.position..];
        if length > rest.len() {
            let reason = format!(
                "expected {length} more bytes, found the end after {}",
                rest.len()
            );
            return Err(Fault::Malformed {
                offset: self.base + self.position,
                reason,
            });
        }
        self.position += length;
        Ok(&rest[..length])
    }

    pub(super) fn array<const N: usize>(&mut self) -> Step<[u8; N]> {
        let bytes = self.take(N)?;
        let mut array = [0; N];
        array.copy_from_slice(bytes);
        Ok(array)
    }

    /// A length (or place) of N bytes.
    fn length<const N: usize>(&mut self) -> Step<usize> {
        let mut wide = [0; 8];
        wide[..N].copy_from_slice(&self.array::<N>()?);
        let length = u64::from_le_bytes(wide);
        usize::try_from(length).map_err(|_| self.malformed(format!("a length of {length}")))
    }

    fn string<const N: usize>(&mut self) -> Step<()> {
        let length = self.length::<N>()?;
        let bytes = self.take(length)?;
        let text =
            str::from_utf8(bytes).map_err(|_| self.malformed("a string that is not UTF-8"))?;
        self.push(Value::Str(text));
        Ok(())
    }

    fn old_string<const N: usize>(&mut self) -> Step<()> {
        let length = self.length::<N>()?;
        let bytes = self.take(length)?;
        self.push(str::from_utf8(bytes).map_or(Value::Bytes(bytes), Value::Str));
        Ok(())
    }

    fn raw<const N: usize>(&mut self) -> Step<()> {
        let length = self.length::<N>()?;
        let bytes = self.take(length)?;
        self.push(Value::Bytes(bytes));
        Ok(())
    }

    fn line(&mut self) -> Step<&'a str> {
        let rest = &self.bytes[self.position..];
        let length = rest.iter().position(|&b| b == b'\n');
        let length = length.ok_or_else(|| self.malformed("the name of a global has no end"))?;
        self.position += length + 1;
        str::from_utf8(&rest[..length])
            .map_err(|_| self.malformed("the name of a global is not UTF-8"))
    }
}

/// An integer of any length, little endian, two's complement.
fn long<'a>(bytes: &[u8]) -> Value<'a> {
    let negative = bytes.last().is_some_and(|&b| b >= 0x80);
    let mut wide = [if negative { 0xff } else { 0 }; 16];
    match wide.get_mut(..bytes.len()) {
        Some(low) => {
            low.copy_from_slice(bytes);
            Value::Int(i128::from_le_bytes(wide))
        }
        None => Value::Opaque("a long number"),
    }
}

/// A dictionary's key or a storage's name as text; `None` where it is neither text nor a number, or far too long.
pub(super) fn key_text(value: Value<'_>) -> Option<String> {
    match value {
        Value::Str(text) if text.len() <= MAX_NAME => Some(text.to_owned()),
        Value::Int(i) => Some(i.to_string()),
        _ => None,
    }
}
