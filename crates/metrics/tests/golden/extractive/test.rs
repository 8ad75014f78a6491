//! Extracted answers against the definitions of SQuAD's official scripts.

use crate::{cases, check_all};
use rekindle_metrics::{ExtractiveAnswers, SquadVersion};
use serde_json::Value;

#[test]
fn extracted_answers_score_as_in_squad() {
    let mut seen = [0, 0];
    for (i, case) in cases(include_str!("cases.json")).iter().enumerate() {
        let version = match case["version"].as_u64() {
            Some(1) => SquadVersion::V1,
            _ => SquadVersion::V2,
        };
        seen[version as usize] += 1;
        let questions: Vec<(String, Vec<String>, Option<f64>)> =
            serde_json::from_value(case["questions"].clone()).unwrap();
        let mut answers = ExtractiveAnswers::new(version);
        for (answer, right, no_answer) in &questions {
            answers.update(answer, right, *no_answer);
        }
        let report = match case["threshold"].as_f64() {
            Some(threshold) => answers.report_at(threshold),
            None => answers.report(),
        };
        let found = serde_json::to_value(report).unwrap();
        assert_eq!(found["n"], questions.len());
        let place = format!("case {i}: {}", case["questions"]);
        for name in ["exact_match", "f1"] {
            check_all(
                &place,
                &found,
                &Value::from_iter([(name, case[name].clone())]),
            );
        }
        if version == SquadVersion::V1 {
            assert!(found["best"].is_null(), "{place}");
            continue;
        }
        for part in ["has_answer", "no_answer", "best"] {
            match &case[part] {
                Value::Null => assert!(found[part].is_null(), "{place}: {part}"),
                expected => check_all(&format!("{place}: {part}"), &found[part], expected),
            }
        }
    }
    // 26 hard answers alone, and 50 random sets of questions.
    assert_eq!(seen, [76, 76]);
}
