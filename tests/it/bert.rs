//! MiniLM's hidden states, logits and gradients equal those of transformers, and packing changes nothing.
#![allow(clippy::unwrap_used)]

use rekindle_base::HostTensor;
use rekindle_models::{Model, Reads, TextInput};
use rekindle_nn::{Pass, Sequences, TuneBackend};
use rekindle_weights::WeightFiles;
use serde_json::Value;

use crate::support::{
    Cpu, Tuning, assert_close, classifier, encode_cases, encoded, golden, gradient, gradients,
    hidden_states, input, json, labels, minilm, norm, numbers, packed, pooled, read, relative, set,
    tensor, values,
};

/// Absolute, on states of magnitude 1 to 10: six layers of f32 rounding differ from PyTorch's by a few 1e-6.
/// A wrong epsilon, activation or scale differs by 1e-3 or more.
const FORWARD: f32 = 1e-4;

/// Absolute, on logits of at most 0.04, the fixture's head being that narrow.
const LOGITS: f32 = 1e-5;

/// Relative (see `support::relative`). PyTorch's own f32 gradients are within 2.6e-6 of f64 in norm; single elements
/// cancel more. A wrong backward pass is wrong in the first digit.
const GRADIENT: f32 = 1e-4;

/// Absolute, for key biases: the softmax cancels them, so that their gradient is 0 and what is computed is rounding.
const ZERO_GRADIENT: f32 = 1e-6;

/// Absolute: alone or packed, a token's sums have the same terms, but kernels may add them in another order.
const PACKING: f32 = 1e-5;

/// Runs the packed batch and compares every state; returns the largest difference.
fn check_forward<B: TuneBackend>(
    (model, of_mean): (&Model<B>, &Model<B>),
    input: &TextInput<B>,
    expected: &WeightFiles,
) -> f32 {
    let close = |name: &str, found: Vec<f32>| {
        let tolerance = if name == "logits" { LOGITS } else { FORWARD };
        let largest = assert_close(name, &found, &read(expected, name).values, tolerance);
        println!("minilm_forward: {name} within {largest:.1e}");
        largest
    };
    let states = hidden_states(model, input);
    assert_eq!(states.len(), 7, "embeddings and six layers");
    let mut largest: f32 = 0.0;
    for (n, state) in states.iter().enumerate() {
        largest = largest.max(close(&format!("hidden_states.{n}"), values(state.clone())));
    }
    let pass = Pass::evaluation();
    let first = model.features(pooled(model, input, pass), pass);
    largest = largest.max(close("pooler_output", values(first)));
    let mean = of_mean.features(pooled(of_mean, input, pass), pass);
    largest = largest.max(close("mean_pooled", values(mean)));
    let logits = values(model.forward(input.clone().into(), pass));
    largest.max(close("logits", logits))
}

#[test]
#[ignore = "needs MiniLM: cargo xtask run fetch minilm"]
fn minilm_forward_is_that_of_transformers() {
    let Some(dir) = minilm() else { return };
    let device = Default::default();
    let (cases, expected) = (
        json("minilm_forward/cases.json"),
        WeightFiles::open(&golden("minilm_forward/forward.safetensors")).unwrap(),
    );
    let (model, _) = classifier::<Cpu>(&dir, labels(3), Some(Reads::First), &device);
    let model = model.with_output(
        tensor(read(&expected, "classifier.weight"), &device),
        tensor(read(&expected, "classifier.bias"), &device),
    );

    // All sentences in one row, at the offsets of the fixture.
    let items: Vec<_> = cases["cases"]
        .as_array()
        .unwrap()
        .iter()
        .map(encoded)
        .collect();
    let row = |of: &dyn Fn(usize) -> Vec<u32>| -> Vec<i32> {
        (0..items.len()).flat_map(of).map(|id| id as i32).collect()
    };
    let offsets: Vec<usize> = numbers(&cases["offsets"])
        .into_iter()
        .map(|offset| offset as usize)
        .collect();
    let batch = TextInput::new(
        row(&|i| items[i].ids.clone()),
        row(&|i| items[i].type_ids.clone()),
        Sequences::new(offsets),
        &device,
    );
    let (of_mean, _) = classifier::<Cpu>(&dir, labels(3), Some(Reads::Mean), &device);
    let largest = check_forward((&model, &of_mean), &batch, &expected);
    println!("minilm_forward: all within {largest:.1e}");

    // Padding changes nothing, since there is none: a sentence alone gives what it gives among others.
    let set = set(&cases["cases"]);
    let together = hidden_states(&model, &packed(&set, &device))[6].clone();
    let width = together.dims()[1];
    let together = values(together);
    let logits = values(model.forward(packed(&set, &device).into(), Pass::evaluation()));
    let mut largest: f32 = 0.0;
    for (i, range) in batch.sequences.ranges().enumerate() {
        let alone = input(&set, &[i], &device);
        let state = values(hidden_states(&model, &alone)[6].clone());
        let what = format!("sentence {i} alone");
        largest = largest.max(assert_close(
            &what,
            &state,
            &together[range.start * width..range.end * width],
            PACKING,
        ));
        let alone = values(model.forward(alone.into(), Pass::evaluation()));
        largest = largest.max(assert_close(&what, &alone, &logits[i * 3..][..3], PACKING));
    }
    println!("packed and alone: within {largest:.1e}");
}

#[test]
#[ignore = "needs MiniLM: cargo xtask run fetch minilm"]
fn minilm_gradients_are_those_of_transformers() {
    let Some(dir) = minilm() else { return };
    let device = Default::default();
    let fixture = json("minilm_gradients/gradients.json");
    let set = encode_cases(&dir, 128, &fixture["cases"]);
    let (model, _) = classifier::<Tuning>(&dir, labels(3), Some(Reads::First), &device);
    let host = |key: &str, shape: &[usize]| HostTensor {
        shape: shape.to_vec(),
        values: numbers(&fixture[key]),
    };
    let model = model.with_output(
        tensor(host("classifier.weight", &[3, 384]), &device),
        tensor(host("classifier.bias", &[3]), &device),
    );
    let (grads, loss) = gradients(
        &model,
        &packed(&set, &device),
        set.targets.class_ids(),
        Pass::evaluation(),
    );
    let expected = fixture["loss"].as_f64().unwrap() as f32;
    assert_close("loss", &[loss], &[expected], LOGITS);

    let number = |row: &Value, key: &str| row[key].as_f64().unwrap() as f32;
    let (mut largest, mut largest_norm, mut largest_zero) = ((0.0, String::new()), 0f32, 0f32);
    let parameters = fixture["parameters"].as_array().unwrap();
    for row in parameters {
        let name = row["name"].as_str().unwrap();
        let found = gradient(&grads, name).unwrap_or_else(|| panic!("`{name}` has no gradient"));
        let shape = numbers(&row["shape"]);
        let size = shape.iter().product::<f32>();
        assert_eq!(found.len(), size as usize, "the size of `{name}`");
        let chosen: Vec<f32> = row["indices"]
            .as_array()
            .unwrap()
            .iter()
            .map(|index| found[index.as_u64().unwrap() as usize])
            .collect();
        let expected = numbers(&row["values"]);
        // Where PyTorch's f32 and f64 have no digit in common, the true gradient is 0.
        if number(row, "l2_error") > 1e-3 {
            largest_zero = largest_zero.max(assert_close(name, &chosen, &expected, ZERO_GRADIENT));
            largest_zero =
                largest_zero.max(assert_close(name, &[norm(&found)], &[0.0], ZERO_GRADIENT));
            continue;
        }
        let expected_norm = number(row, "l2_norm");
        let apart = (norm(&found) / expected_norm - 1.0).abs();
        assert!(
            apart <= GRADIENT,
            "`{name}`: the norm is {}, expected {expected_norm}",
            norm(&found)
        );
        largest_norm = largest_norm.max(apart);
        let apart = relative(&chosen, &expected, expected_norm / size.sqrt());
        assert!(
            apart <= GRADIENT,
            "`{name}`: a value differs by {apart:e} of itself, allowed {GRADIENT:e}"
        );
        if apart > largest.0 {
            largest = (apart, name.to_owned());
        }
    }
    assert_eq!(parameters.len(), 105);
    let all = number(&fixture, "global_l2_norm");
    let apart = (grads.norm().unwrap() as f32 / all - 1.0).abs();
    assert!(
        apart <= GRADIENT,
        "global norm {}, expected {all}",
        grads.norm().unwrap()
    );
    println!(
        "minilm_gradients: loss within {:.1e}, values within {:.1e} of themselves (`{}`), norms within {largest_norm:.1e}, \
         the global norm within {apart:.1e}, key biases within {largest_zero:.1e} of 0",
        (loss - expected).abs(),
        largest.0,
        largest.1
    );
}
