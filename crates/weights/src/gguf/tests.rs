//! GGUF files against the reference packages' goldens, round trips, and files that are broken.

#![allow(clippy::unwrap_used)]

use super::*;
use crate::WeightFiles;
use rekindle_base::{HostTensor, rng};
use serde_json::{Value as Json, json};
use std::fs;

/// Mutated files in the fuzz test.
const MUTATIONS: u64 = 2_000;

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden/gguf")
        .join(name)
}

/// The message of a file of these bytes that is not opened.
fn refused(bytes: &[u8]) -> String {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.gguf");
    fs::write(&path, bytes).unwrap();
    GgufFile::open(&path).map(|_| ()).unwrap_err().to_string()
}

fn side_file(files: &[(String, String)], name: &str) -> Json {
    let (_, text) = files.iter().find(|(file, _)| file == name).unwrap();
    serde_json::from_str(text).unwrap()
}

#[test]
fn every_type_is_dequantized_as_the_gguf_package_does() {
    let files = WeightFiles::open(&golden("types.gguf")).unwrap();
    let expected = WeightFiles::open(&golden("types.safetensors")).unwrap();
    let names: Vec<&str> = expected.names().collect();
    assert_eq!(names.len(), GgmlType::ALL.len());
    for name in names {
        assert_eq!(files.read(name).unwrap(), expected.read(name).unwrap());
        assert!(files.dtype(name).unwrap().is_float());
    }
    let packed = files.stored("q6_k.weight").unwrap();
    assert_eq!(packed.dtype, Dtype::Packed(GgmlType::Q6K));
    assert_eq!(packed.shape, [3, 256]);
    assert_eq!(packed.bytes.len(), 3 * 210);
    assert!(matches!(packed.bytes, Cow::Borrowed(_)));
    assert_eq!(packed.dtype.to_string(), "Q6_K");
}

/// One form for all block types: what it makes of a code is what a reader of the file makes of it, bit for bit.
#[test]
fn blocks_in_groups_have_the_same_values() {
    let files = WeightFiles::open(&golden("types.gguf")).unwrap();
    let mut packed = 0;
    for name in files.names() {
        let stored = files.stored(name).unwrap();
        let Some(grouped) = stored.grouped().unwrap() else {
            assert!(!matches!(stored.dtype, Dtype::Packed(_)), "{name}");
            continue;
        };
        packed += 1;
        assert_eq!(grouped.shape, stored.shape);
        let mut codes = Vec::new();
        for bytes in grouped
            .codes
            .chunks(grouped.group * grouped.bits as usize / 8)
        {
            match grouped.bits {
                4 => {
                    codes.extend(bytes.iter().map(|b| b & 15));
                    codes.extend(bytes.iter().map(|b| b >> 4));
                }
                _ => codes.extend(bytes),
            }
        }
        let groups = grouped.scales.iter().zip(&grouped.offsets);
        let values: Vec<u32> = (codes.chunks(grouped.group).zip(groups))
            .flat_map(|(codes, (scale, offset))| {
                codes
                    .iter()
                    .map(move |&q| (scale * f32::from(q) + offset).to_bits())
            })
            .collect();
        let expected: Vec<u32> = stored
            .to_f32()
            .unwrap()
            .into_iter()
            .map(f32::to_bits)
            .collect();
        assert_eq!(values, expected, "{name}");
    }
    assert_eq!(packed, GgmlType::ALL.len() - 3);
}

#[test]
fn values_are_packed_as_the_gguf_package_does() {
    let files = WeightFiles::open(&golden("types.gguf")).unwrap();
    let values = WeightFiles::open(&golden("packed.safetensors")).unwrap();
    for (name, kind) in [
        ("q8_0.weight", GgmlType::Q8_0),
        ("q4_0.weight", GgmlType::Q4_0),
    ] {
        let bytes = kind.quantize(&values.read(name).unwrap().unwrap().values);
        assert_eq!(bytes.unwrap(), *files.stored(name).unwrap().bytes);
    }
    assert_eq!(GgmlType::F16.quantize(&[1e5]), None);
    assert_eq!(GgmlType::Q8_0.quantize(&[1e9; 32]), None);
    assert_eq!(GgmlType::Q8_0.quantize(&[1.0; 31]), None);
}

#[test]
fn models_have_the_names_and_layouts_of_transformers() {
    for model in ["llama", "gpt2", "gemma3"] {
        let files = WeightFiles::open(&golden(&format!("{model}.gguf"))).unwrap();
        let expected = WeightFiles::open(&golden(&format!("{model}.safetensors"))).unwrap();
        assert_eq!(
            files.names().collect::<Vec<_>>(),
            expected.names().collect::<Vec<_>>()
        );
        for name in expected.names() {
            assert_eq!(files.shape(name), expected.shape(name), "{name}");
            assert_eq!(
                files.read(name).unwrap(),
                expected.read(name).unwrap(),
                "{model}: {name}"
            );
        }
        assert_eq!(files.gguf().unwrap().architecture(), model);
        assert!(files.read("no such tensor").unwrap().is_none());
    }
    // Packed blocks stay packed where whole rows changed places.
    let llama = WeightFiles::open(&golden("llama.gguf")).unwrap();
    let query = llama
        .stored("model.layers.1.self_attn.q_proj.weight")
        .unwrap();
    assert_eq!(query.dtype, Dtype::Packed(GgmlType::Q8_0));
}

#[test]
fn the_one_gguf_file_of_a_directory_is_found() {
    let folder = tempfile::tempdir().unwrap();
    fs::copy(golden("gpt2.gguf"), folder.path().join("model.gguf")).unwrap();
    fs::write(folder.path().join("README.md"), "").unwrap();
    let files = WeightFiles::find(folder.path()).unwrap();
    assert_eq!(files.path(), folder.path().join("model.gguf"));
    assert_eq!(files.file_of("transformer.wte.weight"), Some(files.path()));
    assert_eq!(files.file_of("blk.0"), None);
    fs::copy(golden("gpt2.gguf"), folder.path().join("other.gguf")).unwrap();
    let message = WeightFiles::find(folder.path())
        .map(|_| ())
        .unwrap_err()
        .to_string();
    assert!(
        message.contains("README.md, model.gguf, other.gguf"),
        "{message}"
    );
}

#[test]
fn the_tokenizer_is_the_one_that_python_saves() {
    for model in ["llama", "gpt2", "gemma3"] {
        let file = GgufFile::open(&golden(&format!("{model}.gguf"))).unwrap();
        let files = side_files(&file).unwrap();
        let mut found = side_file(&files, "tokenizer.json");
        let path = golden(&format!("{model}.tokenizer.json"));
        let mut expected: Json = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
        assert_eq!(
            found["model"]["merges"], expected["model"]["merges"],
            "{model}"
        );
        // A prefix or suffix that is not there is "" or null.
        for json in [&mut found, &mut expected] {
            for affix in ["continuing_subword_prefix", "end_of_word_suffix"] {
                json["model"][affix] = Json::Null;
            }
        }
        assert_eq!(found, expected, "{model}");
    }
}

#[test]
fn settings_come_from_the_metadata_and_the_tensors() {
    let file = GgufFile::open(&golden("llama.gguf")).unwrap();
    let files = side_files(&file).unwrap();
    let config = side_file(&files, "config.json");
    let expected = json!({
        "model_type": "llama", "architectures": ["LlamaForCausalLM"], "hidden_size": 32, "intermediate_size": 48,
        "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "hidden_act": "silu",
        "max_position_embeddings": 128, "rms_norm_eps": 1e-5, "rope_theta": 100000.0, "head_dim": 8,
        "attention_bias": false, "mlp_bias": false, "vocab_size": 264, "tie_word_embeddings": true,
        "bos_token_id": 1, "eos_token_id": [0, 1],
    });
    assert_eq!(config, expected);
    let tokenizer = side_file(&files, "tokenizer_config.json");
    assert_eq!(tokenizer["bos_token"], "<|turn|>");
    assert_eq!(tokenizer["add_bos_token"], false);
    assert!(
        tokenizer["chat_template"]
            .as_str()
            .unwrap()
            .contains("<|turn|>")
    );
    let generation = side_file(&files, "generation_config.json");
    assert_eq!(generation["eos_token_id"], json!([0, 1]));

    let gpt2 = side_files(&GgufFile::open(&golden("gpt2.gguf")).unwrap()).unwrap();
    let config = side_file(&gpt2, "config.json");
    assert_eq!(config["n_inner"], 12);
    assert_eq!(config["layer_norm_epsilon"], 1e-5);
    let gemma = side_files(&GgufFile::open(&golden("gemma3.gguf")).unwrap()).unwrap();
    let config = side_file(&gemma, "config.json");
    assert_eq!(config["model_type"], "gemma3_text");
    assert_eq!(config["head_dim"], 6);
    assert_eq!(config["sliding_window"], 16);
    assert_eq!(config["query_pre_attn_scalar"], 6);
    assert_eq!(config["hidden_activation"], "gelu_pytorch_tanh");
    assert_eq!(config["hidden_act"], Json::Null);
}

type Tensors = Vec<(String, HostTensor)>;
type Texts = Vec<(String, String)>;

/// Every tensor of a file, and its side files.
fn contents(path: &Path) -> (Tensors, Texts) {
    let files = WeightFiles::open(path).unwrap();
    let read = |name: &str| (name.to_owned(), files.read(name).unwrap().unwrap());
    let tensors = files.names().map(read).collect();
    (tensors, side_files(files.gguf().unwrap()).unwrap())
}

/// Writes tensors with side files, and reads what was written.
fn written(
    path: &Path,
    tensors: &[(String, HostTensor)],
    files: &[(String, String)],
    kind: GgmlType,
) -> Result<(), WeightError> {
    let shapes: Vec<_> = tensors
        .iter()
        .map(|(name, tensor)| (name.clone(), tensor.shape.clone()))
        .collect();
    write_gguf(path, files, &shapes, kind, |wanted| {
        let found = tensors.iter().find(|(name, _)| name == wanted);
        Ok(found.unwrap().1.clone())
    })
}

#[test]
fn what_is_written_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("copy.gguf");
    for model in ["llama", "gpt2", "gemma3"] {
        let (tensors, files) = contents(&golden(&format!("{model}.gguf")));
        written(&path, &tensors, &files, GgmlType::F32).unwrap();
        let (again, files_again) = contents(&path);
        // Gemma's norms lose bits where 1 is added and taken away, but none of `1 + w`, which is what its layers take.
        for ((name, a), (name_again, b)) in tensors.iter().zip(&again) {
            assert_eq!((name, &a.shape), (name_again, &b.shape));
            let shifted = model == "gemma3" && name.contains("norm");
            let taken = |w: &f32| if shifted { 1.0 + w } else { *w };
            let same = |(a, b): (&f32, &f32)| taken(a).to_bits() == taken(b).to_bits();
            assert!(a.values.iter().zip(&b.values).all(same), "{model}: {name}");
        }
        assert_eq!(tensors.len(), again.len());
        for ((name, a), (_, b)) in files.iter().zip(&files_again) {
            let parse = |text: &str| serde_json::from_str::<Json>(text).unwrap();
            assert_eq!(parse(a), parse(b), "{model}: {name}");
        }
    }
}

/// SentencePiece's space before a text, which Gemma does not have, and Llama 2 does.
#[test]
fn a_space_before_the_text_survives() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("copy.gguf");
    let (tensors, mut files) = contents(&golden("gemma3.gguf"));
    let mut tokenizer = side_file(&files, "tokenizer.json");
    let replace = tokenizer["normalizer"].take();
    tokenizer["normalizer"] = json!({"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": "\u{2581}"}, replace]});
    let decoders = tokenizer["decoder"]["decoders"].as_array_mut().unwrap();
    decoders.push(json!({"type": "Strip", "content": " ", "start": 1, "stop": 0}));
    files[1].1 = tokenizer.to_string();
    written(&path, &tensors, &files, GgmlType::F32).unwrap();
    let (_, again) = contents(&path);
    assert_eq!(side_file(&again, "tokenizer.json"), tokenizer);
}

/// What llama.cpp has by the architecture alone is written only where the model has it so.
#[test]
fn settings_that_the_file_cannot_say_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("copy.gguf");
    let (tensors, files) = contents(&golden("llama.gguf"));
    let with = |changes: Json| {
        let mut files = files.clone();
        let mut config = side_file(&files, "config.json");
        for (key, value) in changes.as_object().unwrap() {
            config[key] = value.clone();
        }
        files[0].1 = config.to_string();
        written(&path, &tensors, &files, GgmlType::F32)
    };
    for (changes, key) in [
        (json!({"hidden_act": "gelu"}), "hidden_act"),
        (
            json!({"model_type": "qwen2", "use_sliding_window": true}),
            "use_sliding_window",
        ),
        (
            json!({"model_type": "smollm3", "no_rope_layers": [1, 0]}),
            "no_rope_layers",
        ),
        (
            json!({"model_type": "smollm3", "no_rope_layer_interval": 2}),
            "no_rope_layer_interval",
        ),
    ] {
        let message = with(changes).unwrap_err().to_string();
        assert!(message.contains(&format!("`{key}`")), "{message}");
        assert!(!path.exists());
    }
    with(json!({"model_type": "smollm3"})).unwrap();
    let config = side_file(&contents(&path).1, "config.json");
    assert_eq!(config["no_rope_layers"], json!([1, 1]));
}

/// A file with more metadata, as (key, type, value); one more key fills up to where the data begin.
fn with_keys(original: &[u8], keys: &[(&str, u32, Vec<u8>)]) -> Vec<u8> {
    let string = |text: &str| [&(text.len() as u64).to_le_bytes(), text.as_bytes()].concat();
    let mut added = Vec::new();
    for (key, kind, value) in keys {
        added.extend(string(key));
        added.extend(kind.to_le_bytes());
        added.extend(value);
    }
    added.extend(string("filling"));
    added.extend(STRING.to_le_bytes());
    let filling = (added.len() + 8).next_multiple_of(32) - added.len() - 8;
    added.extend(string(&"-".repeat(filling)));
    let count = u64::from_le_bytes(original[16..24].try_into().unwrap());
    let count = count + keys.len() as u64 + 1;
    [
        &original[..16],
        &count.to_le_bytes(),
        &added,
        &original[24..],
    ]
    .concat()
}

/// Which layers of Gemma 3 have a window, and the base of their positions: what a file says, or llama.cpp's own.
#[test]
fn gemma_layers_are_of_two_kinds() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("copy.gguf");
    let original = fs::read(golden("gemma3.gguf")).unwrap();
    let config = |keys: &[(&str, u32, Vec<u8>)]| {
        fs::write(&path, with_keys(&original, keys)).unwrap();
        side_files(&GgufFile::open(&path).unwrap()).map(|files| side_file(&files, "config.json"))
    };
    let plain = config(&[]).unwrap();
    assert_eq!(plain["sliding_window_pattern"], 6);
    assert_eq!(plain["rope_local_base_freq"], 10_000.0);
    assert_eq!(plain["layer_types"], Json::Null);
    let pattern = "gemma3.attention.sliding_window_pattern";
    let said = config(&[
        (pattern, 4, 3u32.to_le_bytes().into()),
        ("gemma3.rope.freq_base_swa", 6, 2e4f32.to_le_bytes().into()),
    ])
    .unwrap();
    assert_eq!(said["sliding_window_pattern"], 3);
    assert_eq!(said["rope_local_base_freq"], 20_000.0);
    let flags = |flags: &[u8]| {
        let kind = 7u32.to_le_bytes();
        let count = (flags.len() as u64).to_le_bytes();
        (pattern, ARRAY, [&kind[..], &count, flags].concat())
    };
    for (flag, kind) in [(0, "full_attention"), (1, "sliding_attention")] {
        let said = config(&[flags(&[flag])]).unwrap();
        assert_eq!(said["layer_types"], json!([kind]));
        assert_eq!(said["sliding_window_pattern"], Json::Null);
    }
    let message = config(&[flags(&[0, 1])]).unwrap_err().to_string();
    assert!(message.contains("is for 2 layers, of 1"), "{message}");

    // What cannot be said of it is refused; that no layer has a window can.
    let (tensors, files) = contents(&golden("gemma3.gguf"));
    let with = |key: &str, value: Json| {
        let mut files = files.clone();
        let mut config = side_file(&files, "config.json");
        config[key] = value;
        files[0].1 = config.to_string();
        written(&path, &tensors, &files, GgmlType::F32)
    };
    let local = |base: f64| json!({"sliding_attention": {"rope_theta": base}});
    for (key, value, named) in [
        ("query_pre_attn_scalar", json!(8), "query_pre_attn_scalar"),
        ("rope_local_base_freq", json!(5e4), "rope_local_base_freq"),
        (
            "rope_parameters",
            local(5e4),
            "rope_parameters.sliding_attention.rope_theta",
        ),
        (
            "use_bidirectional_attention",
            json!(true),
            "use_bidirectional_attention",
        ),
        ("hidden_activation", json!("silu"), "hidden_activation"),
    ] {
        let message = with(key, value).unwrap_err().to_string();
        assert!(message.contains(&format!("`{named}`")), "{message}");
    }
    for (key, value) in [
        ("layer_types", json!(["full_attention"])),
        ("sliding_window_pattern", json!(1)),
    ] {
        with(key, value).unwrap();
        let config = side_file(&contents(&path).1, "config.json");
        assert_eq!(config["sliding_window_pattern"], 1);
        assert_eq!(config["sliding_window"], Json::Null);
    }
    with("rope_parameters", local(1e4)).unwrap();
}

#[test]
fn types_are_chosen_by_tensor() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("copy.gguf");
    let (tensors, files) = contents(&golden("llama.gguf"));
    written(&path, &tensors, &files, GgmlType::Q4_0).unwrap();
    let copy = WeightFiles::open(&path).unwrap();
    for (name, dtype) in [
        ("model.embed_tokens.weight", Dtype::Packed(GgmlType::Q8_0)),
        (
            "model.layers.0.self_attn.q_proj.weight",
            Dtype::Packed(GgmlType::Q4_0),
        ),
        // 48 values in a row are no multiple of 32.
        ("model.layers.0.mlp.down_proj.weight", Dtype::F16),
        ("model.norm.weight", Dtype::F32),
    ] {
        assert_eq!(copy.dtype(name), Some(dtype), "{name}");
    }
    let name = "model.layers.0.self_attn.q_proj.weight";
    let (_, original) = tensors.iter().find(|(n, _)| n == name).unwrap();
    let copied = copy.read(name).unwrap().unwrap();
    let largest = original.values.iter().fold(0f32, |m, v| m.max(v.abs()));
    let error = original.values.iter().zip(&copied.values);
    let error = error.fold(0f32, |m, (a, b)| m.max((a - b).abs()));
    // Half a step of a sixteenth of the range; a value at the other end than the extreme may be off by a whole one.
    assert!(error <= largest / 8.0 * 1.01, "{error} of {largest}");
}

#[test]
fn rope_scaling_survives() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("copy.gguf");
    let (tensors, files) = contents(&golden("llama.gguf"));
    let scalings = [
        json!({"rope_type": "llama3", "factor": 32.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
               "original_max_position_embeddings": 8192}),
        // Other settings than those of Llama 3's own versions.
        json!({"rope_type": "llama3", "factor": 2.3, "low_freq_factor": 1.1, "high_freq_factor": 3.0,
               "original_max_position_embeddings": 64}),
        json!({"rope_type": "linear", "factor": 2.5}),
        json!({"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32}),
    ];
    for scaling in scalings {
        let mut changed = files.clone();
        let mut config = side_file(&files, "config.json");
        config["rope_scaling"] = scaling.clone();
        changed[0].1 = config.to_string();
        written(&path, &tensors, &changed, GgmlType::F16).unwrap();
        let (again, side) = contents(&path);
        assert_eq!(side_file(&side, "config.json")["rope_scaling"], scaling);
        // Its table is no weight.
        assert_eq!(again.len(), tensors.len());
    }
    let ignored = |path: &Path| WeightFiles::open(path).unwrap().ignored().count();
    assert_eq!(ignored(&path), 0);
}

#[test]
fn what_cannot_be_written_leaves_the_target_as_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("copy.gguf");
    let (tensors, files) = contents(&golden("llama.gguf"));
    fs::write(&path, "before").unwrap();
    let check = |tensors: &[(String, HostTensor)], files: &[(String, String)], expect: &str| {
        let message = written(&path, tensors, files, GgmlType::F16)
            .unwrap_err()
            .to_string();
        assert!(message.contains(expect), "{message}");
        assert!(message.contains("hint: "), "{message}");
        assert_eq!(fs::read(&path).unwrap(), b"before");
    };
    let with = |name: &str, change: &dyn Fn(&mut Json)| {
        let mut changed = files.clone();
        let file = changed.iter_mut().find(|(n, _)| n == name).unwrap();
        let mut json: Json = serde_json::from_str(&file.1).unwrap();
        change(&mut json);
        file.1 = json.to_string();
        changed
    };
    check(&tensors, &files[1..], "config.json is missing");
    let other = with("config.json", &|config| {
        config["model_type"] = json!("bert")
    });
    check(&tensors, &other, "model_type \"bert\" cannot be written");
    let split = with("tokenizer.json", &|json| {
        json["pre_tokenizer"] = json!({"type": "Whitespace"});
    });
    check(
        &tensors,
        &split,
        "splits text in a way that GGUF has no name for",
    );
    let far = with("tokenizer.json", &|json| {
        json["model"]["vocab"]["far"] = json!(9999)
    });
    check(&tensors, &far, "token \"far\" the id Some(9999)");
    let dynamic = with("config.json", &|json| {
        json["rope_scaling"] = json!({"rope_type": "dynamic", "factor": 2.0});
    });
    check(&tensors, &dynamic, "rope scaling \"dynamic\"");
    let mut broken = tensors.clone();
    broken[0].1.values[3] = f32::NAN;
    check(&broken, &files, "holds NaN at flat index 3");
    broken[0].1.values[3] = 1e6;
    check(&broken, &files, "too large for F16");
    broken[0].0 = "model.extra.weight".into();
    check(&broken, &files, "tensor `model.extra.weight` has no name");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
}

/// A header by hand: metadata as (key, type, value), tensors as (name, dims, type, offset), then so many zeros.
fn header(
    keys: &[(&str, u32, Vec<u8>)],
    tensors: &[(&str, &[u64], u32, u64)],
    data: usize,
) -> Vec<u8> {
    let string = |text: &str| [&(text.len() as u64).to_le_bytes(), text.as_bytes()].concat();
    let mut bytes = b"GGUF\x03\0\0\0".to_vec();
    bytes.extend((tensors.len() as u64).to_le_bytes());
    bytes.extend((keys.len() as u64 + 1).to_le_bytes());
    bytes.extend(string("general.architecture"));
    bytes.extend(8u32.to_le_bytes());
    bytes.extend(string("qwen2"));
    for (key, kind, value) in keys {
        bytes.extend(string(key));
        bytes.extend(kind.to_le_bytes());
        bytes.extend(value);
    }
    for (name, dims, kind, offset) in tensors {
        bytes.extend(string(name));
        bytes.extend((dims.len() as u32).to_le_bytes());
        bytes.extend(dims.iter().flat_map(|d| d.to_le_bytes()));
        bytes.extend(kind.to_le_bytes());
        bytes.extend(offset.to_le_bytes());
    }
    bytes.resize(bytes.len().next_multiple_of(32) + data, 0);
    bytes
}

#[test]
fn a_broken_header_says_what_is_wrong() {
    let check = |bytes: &[u8], expect: &str| {
        let message = refused(bytes);
        assert!(
            message.contains(expect),
            "expected {expect}, found {message}"
        );
        assert!(message.contains("model.gguf: "), "{message}");
        assert!(message.contains("hint: "), "{message}");
    };
    let good = header(&[], &[("a", &[4], 0, 0)], 16);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.gguf");
    fs::write(&path, &good).unwrap();
    assert_eq!(GgufFile::open(&path).unwrap().shape("a"), Some(&[4][..]));

    check(b"", "not GGUF: the file has 0 bytes");
    check(b"<!DOCTYPE html>", "begins with \"<!DO\"");
    let patched = |at: usize, with: &[u8]| {
        let mut bytes = good.clone();
        bytes[at..at + with.len()].copy_from_slice(with);
        bytes
    };
    check(
        &patched(4, &[1, 0, 0, 0]),
        "GGUF version 1, expected 2 or 3",
    );
    check(&patched(4, &[0, 0, 0, 3]), "big-endian");
    check(
        &patched(8, &[0xff; 8]),
        "18446744073709551615 tensors at byte 8",
    );
    check(
        &patched(16, &[0, 0, 0, 0, 1]),
        "4294967296 metadata keys at byte 16",
    );
    check(&patched(24, &[0xff; 8]), "bytes of a string at byte 24");
    check(
        &good[..good.len() - 1],
        "takes 16 bytes from byte 0 of the data, which are 15 bytes long",
    );
    check(&good[..40], "the file has");

    let tensors = |all: &[(&str, &[u64], u32, u64)]| header(&[], all, 128);
    check(
        &tensors(&[("a", &[4], 23, 0)]),
        "tensor `a` has type IQ4_XS, expected one of F32",
    );
    check(
        &tensors(&[("a", &[4], 77, 0)]),
        "tensor `a` has type number 77",
    );
    check(
        &tensors(&[("a", &[33], 2, 0)]),
        "tensor `a` of type Q4_0 has rows of 33, expected a multiple of 32",
    );
    check(&tensors(&[("a", &[], 0, 0)]), "tensor `a` has 0 dimensions");
    check(
        &tensors(&[("a", &[4, 0], 0, 0)]),
        "tensor `a` has dimensions [4, 0]",
    );
    check(
        &tensors(&[("a", &[1 << 40, 1 << 40], 0, 0)]),
        "which the file of",
    );
    check(&tensors(&[("a", &[u64::MAX], 0, 0)]), "which the file of");
    check(
        &tensors(&[("a", &[4], 0, 8)]),
        "begins at byte 8 of the data, expected a multiple of 32",
    );
    check(
        &tensors(&[("a", &[4], 0, u64::MAX - 31)]),
        "takes 16 bytes from byte",
    );
    check(
        &tensors(&[("a", &[16], 0, 0), ("b", &[4], 0, 32)]),
        "tensors `a` and `b` overlap",
    );
    check(
        &tensors(&[("a", &[4], 0, 0), ("a", &[4], 0, 32)]),
        "tensor `a` occurs twice",
    );
    check(
        &tensors(&[
            ("output_norm.weight", &[4], 0, 0),
            ("model.norm.weight", &[4], 0, 32),
        ]),
        "are both `model.norm.weight`",
    );

    let keys = |key: &str, kind: u32, value: &[u8]| header(&[(key, kind, value.to_vec())], &[], 0);
    check(
        &keys("general.architecture", 7, &[1]),
        "`general.architecture` occurs twice",
    );
    check(
        &keys("k", 9, &[9, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0]),
        "key `k`: an array of arrays",
    );
    check(&keys("k", 99, &[0]), "key `k`: type of value 99");
    check(
        &keys("k", 8, &[1, 0, 0, 0, 0, 0, 0, 0, 0xff]),
        "is not UTF-8",
    );
    let many = [&4u32.to_le_bytes()[..], &(u64::MAX / 2).to_le_bytes()].concat();
    check(&keys("k", 9, &many), "values of an array");
    check(
        &keys("general.alignment", 4, &[3, 0, 0, 0]),
        "no power of two",
    );
    check(
        &keys("split.count", 2, &[2, 0]),
        "one part of a model that was split",
    );
}

/// A file that only this process sees.
fn in_memory(bytes: &[u8]) -> Result<GgufFile, WeightError> {
    let mut map = memmap2::MmapMut::map_anon(bytes.len()).unwrap();
    map.copy_from_slice(bytes);
    let path = Path::new("model.gguf");
    GgufFile::parse(path, map.make_read_only().unwrap()).map_err(|fault| fault.at(path))
}

/// Files with a few bytes changed, or cut: whatever they say, an error or values, and never a panic.
#[test]
fn mutated_files_never_panic() {
    let original = fs::read(golden("gemma3.gguf")).unwrap();
    let header = original.len() - 4096;
    let (mut refused, mut read) = (0, 0);
    for round in 0..MUTATIONS {
        let draw = |index: u64| rng::hash(20, 100, round, index);
        let mut bytes = original.clone();
        for change in 0..=rng::below(draw(0), 3) {
            let at = rng::below(draw(4 * change + 1), header as u64 - 8) as usize;
            let value = draw(4 * change + 2);
            match rng::below(draw(4 * change + 3), 4) {
                0 => bytes[at] = value as u8,
                1 => bytes[at] ^= 1 << (value % 8),
                2 => bytes[at..at + 8].copy_from_slice(&(1u64 << (value % 64)).to_le_bytes()),
                _ => bytes.truncate(at + 8 + (value % 4096) as usize),
            }
            bytes.resize(bytes.len().max(header), 0);
        }
        let result = in_memory(&bytes).and_then(|file| {
            for name in file.names() {
                file.stored(name).unwrap().to_f32()?;
            }
            side_files(&file).map(|_| ())
        });
        match result {
            Ok(()) => read += 1,
            Err(error) => {
                let message = error.to_string();
                assert!(message.contains("model.gguf"), "{message}");
                assert!(message.contains("hint: "), "{message}");
                refused += 1;
            }
        }
    }
    assert!(
        refused > 200 && read > 200,
        "{refused} refused, {read} read"
    );
    for length in (1..original.len()).step_by(13) {
        assert!(in_memory(&original[..length]).is_err(), "{length} bytes");
    }
}
