//! A real language model: its greedy answers are transformers', one question at a time and several at once.
#![allow(clippy::unwrap_used)]

use std::path::Path;

use rekindle::{Generator, NoProgress, Prompt, Sampling, Silent, config::Device};
use rekindle_hub::Hub;
use rekindle_tests::{Need, need};

use crate::support::json;

/// Of 20 answers. On another kind of CPU, sums in another order may decide between two tokens that are as good.
const EQUAL: usize = 18;

#[test]
#[ignore = "needs SmolLM2: cargo xtask run fetch smollm2"]
fn greedy_answers() {
    let found = Hub::from_env().offline(true).model("smollm2", &NoProgress);
    if need(Need::SmolLm2, found).is_none() {
        return;
    }
    let generator = Generator::open(Path::new("smollm2"), Device::Cpu, &Silent).unwrap();
    let fixture = json("smollm2/answers.json");
    let cases = fixture.as_array().unwrap();
    let text = |case: &serde_json::Value, key: &str| case[key].as_str().unwrap().to_owned();
    let prompts: Vec<Prompt> = cases
        .iter()
        .map(|case| Prompt::question(&text(case, "question")))
        .collect();
    let sampling = Sampling {
        max_new_tokens: 64,
        ..Sampling::default()
    };
    let together = generator
        .generate(&prompts, &sampling, &mut |_, _| {})
        .unwrap();
    let alone: Vec<_> = prompts[..4]
        .iter()
        .map(|prompt| {
            generator
                .generate(std::slice::from_ref(prompt), &sampling, &mut |_, _| {})
                .unwrap()
                .remove(0)
        })
        .collect();
    let equal = |answers: &[rekindle::Answer]| {
        let pairs = answers.iter().zip(cases);
        pairs
            .filter(|(found, case)| found.text == text(case, "answer"))
            .count()
    };
    println!(
        "{} of {} answers are transformers'",
        equal(&together),
        cases.len()
    );
    assert!(equal(&together) >= EQUAL, "{together:#?}");
    assert!(equal(&alone) >= 3, "{alone:#?}");
}
