//! The page as a whole: what it must show, and what user data must not be able to do to it.
#![allow(clippy::unwrap_used)]

use rekindle_metrics::{Answers, Classification};

use super::*;

/// A run over `classes` classes whose predictions are wrong for every seventh example.
fn report(classes: u32, steps: u64) -> Report {
    let target: Vec<u32> = (0..classes * 14).map(|i| i % classes).collect();
    let predicted: Vec<u32> = target
        .iter()
        .enumerate()
        .map(|(i, &t)| if i % 7 == 0 { (t + 1) % classes } else { t })
        .collect();
    let mut metrics = Classification::new(classes as usize);
    metrics
        .update(&predicted, &target, 12.0, target.len() as u64)
        .unwrap();
    Report {
        title: "first-run".into(),
        task: "text classification".into(),
        model: "minilm".into(),
        method: "LoRA r 8".into(),
        dataset: "intents".into(),
        command: "rekindle finetune".into(),
        seconds: 192.0,
        warnings: vec![],
        notes: vec![],
        train: (1..=steps)
            .map(|step| TrainPoint {
                step,
                epoch: step as f64 / 50.0,
                loss: 2.0 / step as f64,
                learning_rate: 1e-3,
                grad_norm: Some(1.0),
                examples_per_second: 100.0,
            })
            .collect(),
        evaluations: (1..=steps / 50)
            .map(|epoch| EvalPoint {
                step: epoch * 50,
                epoch: epoch as f64,
                split: "validation".into(),
                figures: [("loss", 0.5), ("accuracy", 0.9), ("macro_f1", 0.88)]
                    .map(|(key, value)| (key.to_owned(), value))
                    .into(),
            })
            .collect(),
        best_step: Some(100),
        resumed_at: vec![],
        watched: vec![
            Watched::new("loss", "loss", false),
            Watched::new("accuracy", "accuracy", true),
            Watched::new("macro_f1", "macro F1", true),
        ],
        final_split: "test".into(),
        figures: figures(&metrics, classes),
        mistakes: vec![mistake("where is my refund")],
        samples: vec![],
        worst_answers: vec![],
        config_toml: "[train]\nlearning_rate = 3e-4\n".into(),
        timings: vec![("training".into(), 150.0), ("evaluation".into(), 3.0)],
        parameters: (22_713_216, 147_456),
        environment: vec![("device".into(), "cpu".into())],
    }
}

fn figures(metrics: &Classification, classes: u32) -> Figures {
    let report = metrics.report();
    Figures {
        n: report.n,
        headline: "accuracy".into(),
        scalars: vec![],
        tiles: vec![
            Tile::new("accuracy", percent(report.accuracy), "95 % interval".into()),
            Tile::new("best epoch", "3".into(), String::new()),
        ],
        warnings: vec![],
        guess: None,
        sections: vec![Section::Classes {
            report,
            labels: (0..classes).map(|class| format!("label_{class}")).collect(),
        }],
    }
}

/// Class names, to change them.
fn labels(report: &mut Report) -> &mut Vec<String> {
    match &mut report.figures.sections[0] {
        Section::Classes { labels, .. } => labels,
        other => panic!("{other:?}"),
    }
}

fn mistake(text: &str) -> Mistake {
    Mistake {
        text: text.into(),
        text_pair: None,
        place: "test.csv:17".into(),
        label: "refund".into(),
        predicted: "order_status".into(),
        probability: Some(0.93),
        loss: 3.1,
        picture: None,
    }
}

fn assert_contains(html: &str, parts: &[&str]) {
    for part in parts {
        assert!(html.contains(part), "the page lacks {part:?}");
    }
}

/// Every element that is opened is closed, in order.
fn assert_balanced(html: &str) {
    let mut open: Vec<&str> = Vec::new();
    for piece in html.split('<').skip(1) {
        let tag = piece.split('>').next().unwrap();
        if tag.starts_with('!')
            || ["meta", "wbr"].iter().any(|void| tag.starts_with(void))
            || tag.ends_with('/')
        {
            continue;
        }
        match tag.strip_prefix('/') {
            Some(name) => assert_eq!(open.pop(), Some(name), "before {piece:.60}"),
            None => open.push(tag.split(' ').next().unwrap()),
        }
    }
    assert!(open.is_empty(), "left open: {open:?}");
}

#[test]
fn the_page_shows_every_part() {
    let html = render(&report(3, 200));
    assert_balanced(&html);
    assert_contains(
        &html,
        &[
            "<h1>first-run</h1>",
            "test accuracy</dt><dd>85.7\u{a0}%</dd>",
            "95 % interval",
            "3 min 12 s",
            "200 steps, 4 epochs",
            "best, step 100",
            "<b>Loss</b>",
            "<b>Accuracy</b>",
            "<b>Learning rate</b>",
            "<b>Gradient norm</b>",
            "<b>Throughput</b>",
            "smoothed",
            "validation, step 50: 0.5000",
            "macro average",
            "Most confused",
            "where is my refund",
            "test.csv:17",
            "learning_rate = 3e-4",
            "best epoch",
        ],
    );
    assert_eq!(html.matches("class=\"mark epoch\"").count(), 3);
}

#[test]
fn user_data_cannot_leave_its_place() {
    const ATTACK: &str =
        "\"'><script>alert(1)</script><img src=x onerror=alert(1)></style></title>\u{202e}\0&amp;";
    let mut report = report(3, 120);
    let attack = || ATTACK.to_owned();
    report.title = attack();
    (report.task, report.model, report.method, report.dataset) =
        (attack(), attack(), attack(), attack());
    (report.command, report.final_split, report.config_toml) = (attack(), attack(), attack());
    report.figures.tiles = vec![Tile::new(&attack(), attack(), attack())];
    report.figures.warnings = vec![attack()];
    report
        .watched
        .iter_mut()
        .for_each(|figure| figure.name = attack());
    report.environment = vec![(attack(), attack())];
    report.timings = vec![(attack(), 1.0)];
    report.warnings = vec![attack()];
    report.notes = vec![attack()];
    *labels(&mut report) = vec![attack(); 3];
    report
        .evaluations
        .iter_mut()
        .for_each(|point| point.split = attack());
    let long = ATTACK.repeat(40);
    report.mistakes = vec![Mistake {
        text_pair: Some(long),
        place: attack(),
        label: attack(),
        predicted: attack(),
        ..mistake(ATTACK)
    }];
    let mut answers = Answers::new();
    answers.update("{}", &serde_json::json!({ATTACK: 1}).to_string());
    let figures = answers.report();
    report.figures.add_answers(figures.clone(), Some(figures));
    report.samples = vec![answered(ATTACK)];
    report.worst_answers = vec![answered(&ATTACK.repeat(40))];
    let html = render(&report);
    assert_balanced(&html);
    assert!(html.contains("alert(1)&lt;/script&gt;"));
    for forbidden in ["<script", "<img", "\u{202e}", "\0", "onerror=alert(1)>"] {
        assert!(!html.contains(forbidden), "{forbidden:?} got through");
    }
    assert_eq!(html.matches("</style>").count(), 1);
    assert_eq!(html.matches("</title>").count(), 1);
}

fn answered(text: &str) -> Answered {
    Answered {
        place: format!("{text}.jsonl:3"),
        prompt: text.into(),
        reference: text.into(),
        said: [0, 1200]
            .map(|step| Said {
                step,
                text: if step == 0 {
                    String::new()
                } else {
                    text.into()
                },
            })
            .to_vec(),
    }
}

#[test]
fn answers_stand_beside_those_of_the_base_model() {
    let figures = |answers: [&str; 2]| {
        let mut figures = Answers::new();
        for answer in answers {
            figures.update(answer, r#"{"intent": "on"}"#);
        }
        figures.report()
    };
    let mut report = report(3, 60);
    let (tuned, base) = (
        figures([r#"{"intent": "on"}"#, r#"{"intent": "off"}"#]),
        figures(["Sure!", "No."]),
    );
    report.figures.add_answers(tuned, Some(base));
    report.samples = vec![answered("turn on the lamp")];
    report.worst_answers = (0..7).map(|_| answered("turn off")).collect();
    let html = render(&report);
    assert_balanced(&html);
    assert_contains(
        &html,
        &[
            "<h2>Answers</h2>",
            "base model</th><th class=\"number\">tuned",
            "JSON exactly right</bdi></th><td class=\"number\">0.0\u{a0}%</td><td class=\"number\">50.0\u{a0}%</td>",
            "intent right (2 of 2)",
            "base model 0.0\u{a0}%",
            "<h2>Fixed prompts</h2>",
            "step 1,200",
            "(nothing)",
            "<h2>Worst answers</h2>",
            "2 more",
        ],
    );
    let text = report.figures.text();
    assert_contains(
        &text,
        &[
            "answers to 2 prompts",
            "base   tuned",
            "valid JSON",
            "0.0000  1.0000",
        ],
    );
    assert_eq!(
        report.figures.base_scalars().unwrap()["json_valid"],
        serde_json::json!(0.0)
    );
}

#[test]
fn the_page_loads_nothing() {
    for classes in [2, 17, 60] {
        let html = render(&report(classes, 120)).to_lowercase();
        for forbidden in [
            "http:", "https:", "src=", "href=", "url(", "@import", "<script", "<link", "<iframe",
            "//",
        ] {
            assert!(
                !html.contains(forbidden),
                "{forbidden:?} with {classes} classes"
            );
        }
        assert!(html.contains("default-src 'none'"));
    }
}

#[test]
fn every_number_of_classes_has_its_layout() {
    for (classes, part) in [
        (2, "matrix large"),
        (3, "matrix large"),
        (10, "matrix medium"),
        (30, "matrix tiny"),
        (31, "class=\"map\""),
        (100, "class=\"map\""),
    ] {
        let html = render(&report(classes, 60));
        assert_balanced(&html);
        assert_contains(&html, &[part, "label_<wbr>0"]);
    }
    assert_contains(
        &render(&report(60, 60)),
        &["40 more classes", "60 classes in the order"],
    );
    assert!(!render(&report(2, 60)).contains("Most confused"));
}

#[test]
fn labels_that_are_missing_are_class_ids() {
    let mut report = report(3, 60);
    labels(&mut report).truncate(1);
    assert_contains(&render(&report), &["label_<wbr>0", "class 1", "class 2"]);
}

#[test]
fn an_empty_run_is_a_page() {
    let mut report = report(3, 0);
    report.best_step = None;
    assert_contains(&render(&report), &["No training was recorded"]);
    report.figures = figures(&Classification::new(0), 0);
    report.mistakes.clear();
    report.timings.clear();
    report.environment.clear();
    report.config_toml.clear();
    report.parameters = (0, 0);
    let html = render(&report);
    assert_balanced(&html);
    for absent in [
        "accuracy</dt>",
        "<h2>Classes",
        "<h2>Confusion",
        "<h2>Worst",
        "<h2>Time",
        "<h2>Config",
        "NaN",
        "inf",
    ] {
        assert!(
            !html.split("</style>").nth(1).unwrap().contains(absent),
            "{absent:?}"
        );
    }
}

#[test]
fn values_that_are_not_finite_are_said_and_not_drawn() {
    let mut report = report(3, 100);
    report.train[40].loss = f64::NAN;
    report.train[41].loss = f64::INFINITY;
    report.train[42].learning_rate = f64::NAN;
    report.train[43].grad_norm = Some(f64::INFINITY);
    report.evaluations[0]
        .figures
        .insert("loss".into(), f64::NAN);
    report.figures.warnings = vec!["The loss was not finite in 2 of 42 examples.".into()];
    report.mistakes[0].loss = f64::NEG_INFINITY;
    report.mistakes[0].probability = Some(f64::NAN);
    report.seconds = f64::NAN;
    report.timings[1].1 = f64::NAN;
    let html = render(&report);
    let body = html.split("</style>").nth(1).unwrap();
    assert!(!body.contains("NaN") && !body.contains("inf%") && !body.contains("inf "));
    assert_contains(
        body,
        &[
            "not finite in 2 logged steps, first at step 41",
            "loss was not finite in 2 of 42 examples",
            "3 values are not finite and not drawn",
        ],
    );

    report
        .train
        .iter_mut()
        .for_each(|point| point.loss = f64::NAN);
    report.evaluations.clear();
    assert_contains(
        &render(&report),
        &["Nothing was recorded", "not finite in 100 logged steps"],
    );
}

#[test]
fn long_texts_fold_and_huge_ones_are_cut() {
    let mut report = report(2, 60);
    report.mistakes = vec![
        mistake(&"word ".repeat(200)),
        mistake(&"é".repeat(12_000)),
        mistake(" "),
    ];
    let html = render(&report);
    assert_eq!(html.matches("<details class=\"long\">").count(), 2);
    assert_contains(&html, &["(2,000 more characters)", "(empty text)"]);
}

#[test]
fn a_long_history_stays_small() {
    let html = render(&report(17, 200_000));
    assert!(html.len() < 400_000, "{} bytes", html.len());
}

#[test]
fn a_report_survives_json() {
    let mut report = report(3, 60);
    report.train[3].loss = f64::NAN;
    let json = serde_json::to_string(&report).unwrap();
    let back: Report = serde_json::from_str(&json).unwrap();
    assert_eq!(render(&back), render(&report));
}

#[test]
fn one_spike_does_not_flatten_the_curve() {
    let mut report = report(3, 300);
    report.evaluations.clear();
    report.train.iter_mut().for_each(|point| point.loss = 0.5);
    report.train[150].loss = 900.0;
    let html = render(&report);
    assert_contains(&html, &["1 value lies above the axis, the largest 900.0"]);
    let loss = html.split("<b>Loss</b>").nth(1).unwrap();
    let ticks = loss.split("class=\"x\"").next().unwrap();
    let highest = ticks.rsplit("%\">").next().unwrap();
    assert!(highest.starts_with("0.75<"), "{highest}");
}

#[test]
fn a_short_run_is_shown_whole() {
    let mut report = report(3, 20);
    report.train[0].loss = 40.0;
    report.train[0].examples_per_second = 1.0;
    let html = render(&report);
    assert!(!html.contains("above the axis"), "a value of 20 is cut off");
}

#[test]
fn numbers_are_not_called_wrong_labels() {
    let remark = "A confident mistake is often a wrong label.";
    let mut report = report(3, 60);
    assert_contains(&render(&report), &[remark]);
    report.figures.sections = vec![Section::Numbers {
        report: rekindle_metrics::Regression::new(1).report(),
        names: vec!["score".into()],
    }];
    assert!(!render(&report).contains(remark));
}

#[test]
fn a_label_without_examples_has_no_average_precision() {
    let mut metrics = rekindle_metrics::MultiLabel::new(2);
    metrics.update(&[0.9, 0.1], &[true, false], 0.1).unwrap();
    let mut report = report(3, 60);
    report.figures.sections = vec![Section::Labels {
        report: metrics.report(&[0.5, 0.5]).unwrap(),
        labels: vec!["there".into(), "missing".into()],
    }];
    let html = render(&report);
    assert_balanced(&html);
    assert_contains(
        &html,
        &["absent\">no examples</td>", "<div class=\"scroll\""],
    );
    assert!(!html.contains("not finite"));
    let text = report.figures.text();
    assert!(text.contains("none") && !text.contains("NaN"), "{text}");
}
