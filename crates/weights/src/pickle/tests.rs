//! Files that torch wrote (`tests/golden/pickle/make.py`), the same files damaged, and pickles that no torch would write.

#![allow(clippy::unwrap_used)]

use super::*;
use rekindle_base::HostTensor;

/// A tensor as f32.
fn read(open: &PickleFile, name: &str) -> Result<Option<HostTensor>, WeightError> {
    let Some(stored) = open.stored(name) else {
        return Ok(None);
    };
    Ok(Some(HostTensor {
        shape: stored.shape.to_vec(),
        values: stored.to_f32()?,
    }))
}
use serde_json::Value as Json;
use std::fs;

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/pickle")
}

fn expected(kind: &str) -> serde_json::Map<String, Json> {
    let json: Json =
        serde_json::from_str(&fs::read_to_string(golden().join("expected.json")).unwrap()).unwrap();
    json[kind].as_object().unwrap().clone()
}

/// Reads everything in a file; the message of the first error.
fn read_all(bytes: &[u8]) -> Result<(), String> {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), bytes).unwrap();
    let open = PickleFile::open(file.path()).map_err(|e| e.to_string())?;
    for name in open.names() {
        let tensor = read(&open, name).map_err(|e| e.to_string())?.unwrap();
        assert_eq!(tensor.shape.iter().product::<usize>(), tensor.values.len());
    }
    Ok(())
}

/// A stream file around one pickle, without storages.
fn stream_of(program: &[u8]) -> Vec<u8> {
    let head = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02M\xe9\x03.\x80\x02}X\x0d\0\0\0little_endian\x88s.";
    [head.as_slice(), b"\x80\x02", program, b".\x80\x02]."].concat()
}

#[test]
fn files_of_torch_hold_what_torch_says() {
    for (file, tensors) in expected("tensors") {
        let open = PickleFile::open(&golden().join(&file)).unwrap();
        let tensors = tensors.as_object().unwrap();
        let mut names: Vec<&str> = tensors.keys().map(String::as_str).collect();
        names.sort_unstable();
        assert_eq!(open.names().collect::<Vec<_>>(), names, "{file}");
        for (name, expected) in tensors {
            let values: Vec<f32> = expected["values"]
                .as_array()
                .unwrap()
                .iter()
                .map(|v| v.as_f64().unwrap() as f32)
                .collect();
            let shape: Vec<usize> = serde_json::from_value(expected["shape"].clone()).unwrap();
            assert_eq!(
                open.dtype(name).map(|dtype| dtype.to_string()).as_deref(),
                expected["dtype"].as_str(),
                "{file}: {name}"
            );
            assert_eq!(open.shape(name), Some(shape.as_slice()), "{file}: {name}");
            assert_eq!(
                read(&open, name).unwrap(),
                Some(HostTensor { shape, values }),
                "{file}: {name}"
            );
        }
        assert_eq!(read(&open, "no such tensor").unwrap(), None);
    }
}

#[test]
fn what_is_no_tensor_is_told() {
    for (file, names) in expected("ignored") {
        let open = PickleFile::open(&golden().join(&file)).unwrap();
        let mut ignored: Vec<&str> = open
            .ignored()
            .iter()
            .map(|(name, _)| name.as_str())
            .collect();
        ignored.sort_unstable();
        assert_eq!(serde_json::to_value(ignored).unwrap(), names, "{file}");
    }
    let open = PickleFile::open(&golden().join("training.pt")).unwrap();
    let what = |name: &str| {
        open.ignored()
            .iter()
            .find(|(n, _)| n == name)
            .map(|(_, what)| what.as_str())
    };
    for (name, words) in [
        ("best_prec1", "the number 91.75"),
        ("epoch", "the number 3"),
        ("seed", "the number 1267650600228229401496703205376"),
        ("long", "a long number"),
        ("arch", "a string"),
        ("accuracy", "a NumPy number"),
        ("history", "a NumPy array"),
        ("nothing", "an empty dictionary"),
        ("size", "a tuple of 2"),
        ("device", "a device"),
        ("dtype", "a type"),
        ("done", "False"),
        ("note", "None"),
        ("raw", "bytes"),
        ("optimizer.param_groups", "a list of 1"),
    ] {
        assert_eq!(what(name), Some(words), "{name}");
    }
}

#[test]
fn refusals_name_what_was_found() {
    for (file, message) in expected("errors") {
        let error = PickleFile::open(&golden().join(&file))
            .unwrap_err()
            .to_string();
        assert!(error.contains(message.as_str().unwrap()), "{file}: {error}");
        assert!(
            error.contains(&file) && error.contains("\nhint: "),
            "{error}"
        );
    }
    for (file, tensors) in expected("read_errors") {
        let open = PickleFile::open(&golden().join(&file)).unwrap();
        for (name, message) in tensors.as_object().unwrap() {
            let error = read(&open, name).unwrap_err().to_string();
            assert!(error.contains(message.as_str().unwrap()), "{name}: {error}");
        }
    }
}

#[test]
fn other_files_are_told_apart() {
    let tar = [vec![b'x'; 257], b"ustar".to_vec()].concat();
    for (bytes, message) in [
        (b"".as_slice(), "an empty file"),
        (
            b"version https://git-lfs.github.com/spec/v1\n",
            "a pointer of Git LFS",
        ),
        (b"\x02\0\0\0\0\0\0\0{}", "safetensors"),
        (b"hello", "other bytes"),
        (&tar, "a tar archive"),
        (b"\x80\x02}.", "expected torch.save's magic number"),
    ] {
        let error = read_all(bytes).unwrap_err();
        assert!(error.contains(message), "{error}");
    }
}

#[test]
fn a_file_cut_anywhere_is_an_error_with_its_place() {
    for file in expected("tensors").keys() {
        let bytes = fs::read(golden().join(file)).unwrap();
        for length in (1..bytes.len()).filter(|n| n % 64 < 2 || bytes.len() - n < 64) {
            let error = read_all(&bytes[..length]).unwrap_err();
            let place = format!("of {length}: ");
            assert!(
                length < 4
                    || error.contains("damaged PyTorch checkpoint at byte")
                        && error.contains(&place),
                "{file}: {error}"
            );
        }
    }
}

#[test]
fn a_damaged_byte_never_panics() {
    for file in expected("tensors").keys() {
        let whole = fs::read(golden().join(file)).unwrap();
        let mut bytes = whole.clone();
        for i in 0..bytes.len() {
            for flip in [1, 0x80, 0xff] {
                bytes[i] = whole[i] ^ flip;
                // Most are errors; a flipped value of a tensor is just another value.
                let Ok((tensors, _)) = parse(&bytes) else {
                    continue;
                };
                for Tensor { view, bytes: range } in tensors.values() {
                    let storage = &bytes[range.clone()];
                    let bytes = gather(storage, view).len();
                    let count: usize = view.shape.iter().product();
                    assert_eq!(bytes, count * view.dtype.size());
                }
            }
            bytes[i] = whole[i];
        }
    }
}

/// A storage `("storage", FloatStorage, "0", "cpu", len)`, then a tensor over it, in a dictionary as `w`.
fn tensor_of(len: &[u8], start: &[u8], shape: &[u8], stride: &[u8]) -> Vec<u8> {
    let storage = [
        b"(U\x07storagectorch\nFloatStorage\nU\x010U\x03cpu".as_slice(),
        len,
        b"tQ",
    ]
    .concat();
    [
        b"}U\x01wctorch._utils\n_rebuild_tensor\n(",
        storage.as_slice(),
        start,
        shape,
        stride,
        b"tRs",
    ]
    .concat()
}

#[test]
fn lies_and_nonsense_are_errors() {
    let huge = b"\x8a\x08\xff\xff\xff\xff\xff\xff\xff\x7f".as_slice();
    let huge_tuple = [huge, huge, b"\x86"].concat();
    let two = b"K\x02K\x02\x86".as_slice();
    let nested = |levels: usize, key: &[u8]| -> Vec<u8> {
        // Each dictionary holds the one before it twice.
        let level = |i: usize| {
            let (last, next) = ([b'h', i as u8], [b'q', i as u8 + 1]);
            [
                b"}".as_slice(),
                &next,
                b"(",
                key,
                b"a",
                &last,
                key,
                b"b",
                &last,
                b"u0",
            ]
            .concat()
        };
        let body: Vec<u8> = (0..levels).flat_map(level).collect();
        [b"}q\x000".as_slice(), &body, &[b'h', levels as u8]].concat()
    };
    for (program, message) in [
        (tensor_of(huge, b"K\0", two, two), "more than there can be"),
        (tensor_of(b"K\x04", b"K\0", two, two), "in a storage of 4"),
        (
            tensor_of(b"K\x04", b"K\x01", b"K\x04\x85", b"K\x01\x85"),
            "in a storage of 4",
        ),
        (tensor_of(b"K\x04", huge, two, two), "in a storage of 4"),
        (
            tensor_of(b"K\x04", b"K\0", &huge_tuple, two),
            "more than there can be",
        ),
        (
            tensor_of(b"K\x04", b"K\0", two, &huge_tuple),
            "in a storage of 4",
        ),
        (
            tensor_of(b"K\x04", b"K\0", b"J\xff\xff\xff\xff\x85", b"K\x01\x85"),
            "-1 as a size",
        ),
        (
            tensor_of(b"K\x04", b"K\0", two, b"K\x01\x85"),
            "2 dimensions and 1 strides",
        ),
        (
            tensor_of(b"K\x04", b"K\0", two, b"U\x01x"),
            "a string as a shape",
        ),
        (tensor_of(b"N", b"K\0", two, two), "None as a size"),
        (
            tensor_of(b"K\x04", b"K\0", b"K\x04\x85", b"K\x01\x85"),
            "the storage `0` is not in the file",
        ),
        (
            b"}U\x01wctorch._utils\n_rebuild_tensor\n)Rs".to_vec(),
            "called with 0 arguments",
        ),
        (b"}q\0U\x01kh\0s".to_vec(), "nested deeper"),
        (nested(20, b"U\x01"), "nested deeper"),
        (
            [b"}".as_slice(), &b"U\x01k}".repeat(100), &b"s".repeat(100)].concat(),
            "nested deeper",
        ),
        (b"}(u(0".to_vec(), "an opcode without its operands"),
        (b"}u".to_vec(), "a group that was never begun"),
        (b"}(K\x01u".to_vec(), "a key without a value"),
        (b"}K\x01a".to_vec(), "expected a list"),
        (b"h\x07".to_vec(), "value 7, never stored"),
        (b"]b".to_vec(), "an opcode without its operands"),
        (b"]Nb".to_vec(), "attributes for a value that has none"),
        (b"U\x01x)R".to_vec(), "a call of a string"),
        (
            b"U\x01xQ".to_vec(),
            "a reference to something else than a storage",
        ),
        (
            b"X\xff\xff\xff\xffabc".to_vec(),
            "expected 4294967295 more bytes",
        ),
        (
            b"\x8d\xff\xff\xff\xff\xff\xff\xff\xffabc".to_vec(),
            "more bytes",
        ),
        (
            b"cos\nsystem\nU\x04echo\x85R".to_vec(),
            "this file would run `os.system`",
        ),
        (
            b"cbuiltins\neval\n".to_vec(),
            "this file would run `builtins.eval`",
        ),
        (
            b"ctorch\nload\n".to_vec(),
            "this file would run `torch.load`",
        ),
        (b"cos\nsystem".to_vec(), "the name of a global"),
        (b"K\x01K\x02\x93".to_vec(), "a global without a name"),
        (
            b"i".to_vec(),
            "opcode 0x69, which torch.save does not write",
        ),
        (b"\x80\x06".to_vec(), "pickle protocol 6"),
        (b"]".repeat(1 << 21), "larger than that of any model"),
        (b"N0".repeat(1 << 23), "larger than that of any model"),
    ] {
        let error = read_all(&stream_of(&program)).unwrap_err();
        let shown = String::from_utf8_lossy(&program[..program.len().min(80)]);
        assert!(
            error.contains(message),
            "{shown:?}: expected `{message}`, found `{error}`"
        );
    }
}

#[test]
fn a_repeated_element_is_not_repeated_without_end() {
    // One element as 2^16 x 2^16, in a file of a few hundred bytes.
    let square = b"J\0\0\x01\0J\0\0\x01\0\x86";
    let program = tensor_of(b"K\x01", b"K\0", square, b"K\0K\0\x86");
    let mut bytes = stream_of(&program);
    let list = bytes.len() - 1;
    bytes.splice(list.., b"U\x010a.".iter().copied());
    bytes.extend(1_u64.to_le_bytes());
    bytes.extend(1_f32.to_le_bytes());
    let error = read_all(&bytes).unwrap_err();
    assert!(error.contains("that repeats 1 elements"), "{error}");
}

#[test]
fn lists_of_pairs_make_dictionaries() {
    // As Python 2 wrote them.
    let error = read_all(&stream_of(
        b"ccollections\nOrderedDict\n]]U\x01kaK\x05aa\x85R",
    ))
    .unwrap_err();
    assert!(error.contains("a dictionary without a tensor"), "{error}");
    let error = read_all(&stream_of(b"ccollections\nOrderedDict\n]K\x05a\x85R")).unwrap_err();
    assert!(error.contains("something else than pairs"), "{error}");
}

#[test]
fn a_directory_of_transformers() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../tests/golden/tiny_bert/variants/pickle/pytorch_model.bin");
    let open = PickleFile::open(&path).unwrap();
    let reference = crate::safetensors::Safetensors::open(
        &path.with_file_name("../../model/model.safetensors"),
    )
    .unwrap();
    assert!(open.names().count() > 30);
    for name in open.names().filter(|name| reference.shape(name).is_some()) {
        assert_eq!(
            read(&open, name).unwrap().map(|t| t.values),
            reference.stored(name).map(|t| t.to_f32().unwrap()),
            "{name}"
        );
    }
    assert!(reference.names().all(|name| open.shape(name).is_some()));
}

#[test]
#[ignore = "needs ../shared/weights"]
fn residual_networks_of_cifar() {
    let Some(folder) = rekindle_tests::shared("weights/cifar-resnet") else {
        return;
    };
    for (file, tensors) in [("resnet20-12fca82f.th", 97), ("resnet32-d509ac18.th", 157)] {
        let open = PickleFile::open(&folder.join(file)).unwrap();
        assert_eq!(open.names().count(), tensors);
        assert!(
            open.names()
                .all(|name| name.starts_with("state_dict.module."))
        );
        assert_eq!(
            read(&open, "state_dict.module.linear.weight")
                .unwrap()
                .unwrap()
                .shape,
            [10, 64]
        );
        assert_eq!(
            open.ignored()
                .iter()
                .map(|(name, _)| name.as_str())
                .collect::<Vec<_>>(),
            ["best_prec1"]
        );
    }
}
