//! Turns a GGUF file into a Hugging Face model directory, and back.
//!
//! ```sh
//! cargo run -p rekindle-weights --example gguf -- unpack model.gguf DIRECTORY
//! cargo run -p rekindle-weights --example gguf -- pack DIRECTORY model.gguf Q8_0
//! ```
//!
//! `tests/golden/gguf/check.py` uses it to hold both ways against Python's packages.

use rekindle_base::HostTensor;
use rekindle_weights::{GgmlType, WeightError, WeightFiles, side_files, write, write_gguf};
use std::{error::Error, fs, path::Path, time::Instant};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let start = Instant::now();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["unpack", file, directory] => unpack(Path::new(file), Path::new(directory))?,
        ["pack", directory, file, kind] => pack(Path::new(directory), Path::new(file), kind)?,
        _ => return Err("expected unpack FILE DIRECTORY, or pack DIRECTORY FILE TYPE".into()),
    }
    println!("{:.2} s in all", start.elapsed().as_secs_f64());
    Ok(())
}

fn unpack(file: &Path, directory: &Path) -> Result<(), Box<dyn Error>> {
    let files = WeightFiles::open(file)?;
    let gguf = files.gguf().ok_or("not a .gguf file")?;
    fs::create_dir_all(directory)?;
    for (name, text) in side_files(gguf)? {
        fs::write(directory.join(name), text)?;
    }
    let start = Instant::now();
    let mut tensors: Vec<(&str, HostTensor)> = Vec::new();
    for name in files.names() {
        tensors.extend(files.read(name)?.map(|tensor| (name, tensor)));
    }
    println!(
        "{} tensors read in {:.2} s",
        tensors.len(),
        start.elapsed().as_secs_f64()
    );
    let tensors = tensors.iter().map(|(name, tensor)| (*name, tensor.into()));
    write(&directory.join("model.safetensors"), tensors, &[])?;
    Ok(())
}

fn pack(directory: &Path, file: &Path, kind: &str) -> Result<(), Box<dyn Error>> {
    let kind = GgmlType::ALL
        .into_iter()
        .find(|known| known.to_string() == kind);
    let mut texts = Vec::new();
    for name in [
        "config.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "generation_config.json",
        "chat_template.jinja",
    ] {
        if let Ok(text) = fs::read_to_string(directory.join(name)) {
            texts.push((name.to_owned(), text));
        }
    }
    let weights = WeightFiles::find(directory)?;
    let shape = |name: &str| weights.shape(name).unwrap_or_default().to_vec();
    let tensors: Vec<_> = weights
        .names()
        .map(|name| (name.to_owned(), shape(name)))
        .collect();
    let read = |name: &str| -> Result<HostTensor, WeightError> {
        let none = HostTensor {
            shape: Vec::new(),
            values: Vec::new(),
        };
        Ok(weights.read(name)?.unwrap_or(none))
    };
    write_gguf(file, &texts, &tensors, kind.ok_or("unknown type")?, read)?;
    Ok(())
}
