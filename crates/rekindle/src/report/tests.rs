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
        facts: vec![
            ("date".into(), "2026-11-26".into()),
            ("seed".into(), "42".into()),
            ("model revision".into(), "8b3219a92973".into()),
        ],
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
        schedule: vec![],
        lifted_by: vec![],
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
        data: None,
        mistakes: vec![mistake("where is my refund")],
        doubtful: vec![],
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
            calibration: rekindle_metrics::Calibration::new(5).report(),
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
        spans: Vec::new(),
        probability: Some(0.93),
        loss: 3.1,
        top: vec![],
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
    report.facts = vec![("date".into(), attack()), (attack(), attack())];
    report.lifted_by = vec![attack()];
    report.evaluations.iter_mut().for_each(|point| {
        point.figures.insert("loss".into(), -1.0);
    });
    report.data = Some(DataSummary {
        splits: vec![SplitSize {
            name: attack(),
            examples: 3,
            cut: 1,
        }],
        noun: attack(),
        sizes: attack(),
        labels: vec![LabelCounts {
            name: attack(),
            counts: vec![3],
        }],
        numbers: vec![NumberSpread {
            name: attack(),
            spreads: vec![[0.0, 1.0, 2.0]],
        }],
        lengths: None,
        max_length: 9,
        files: vec![(attack(), attack(), attack())],
    });
    report.figures.guess = Some(guess(0.5, 0.9, &attack()));
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
        top: vec![(attack(), 0.5)],
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

/// A guess at accuracy, and what the model found.
fn guess(value: f64, found: f64, how: &str) -> crate::Guess {
    crate::Guess {
        how: how.into(),
        figure: "accuracy".into(),
        value,
        found,
        beaten: found > value,
    }
}

#[test]
fn the_headline_is_held_against_guessing() {
    let page = |found: f64| {
        let mut report = report(3, 60);
        report.figures.guess = Some(guess(0.4, found, "always answering `yes`"));
        render(&report)
    };
    for (found, class, words) in [
        (0.4, "poor", "No better than guessing."),
        (0.55, "some", "Better than guessing."),
        (0.94, "good", "Far better than guessing."),
    ] {
        let html = page(found);
        assert_balanced(&html);
        assert_contains(
            &html,
            &[
                &format!("tile lead {class}\""),
                &format!("verdict-on {class}\""),
                words,
                "always answering `yes` gives 0.4000",
                "Accuracy ",
                "class=\"guess\" style=\"left:40.0%\"",
                &format!("class=\"model\" style=\"left:{:.1}%\"", found * 100.0),
            ],
        );
    }
    assert_contains(&page(0.94), &["90.0\u{a0}% of what was left to gain"]);
    let undefined = page(f64::NAN);
    assert_contains(&undefined, &["not defined, all answers being alike"]);
    let body = undefined.split("</style>").nth(1).unwrap();
    assert!(!body.contains("NaN"));
    assert!(!render(&report(3, 60)).contains("class=\"verdict-on"));
}

#[test]
fn a_run_is_told_from_others() {
    assert_contains(
        &render(&report(3, 60)),
        &[
            "<title>first-run · 2026-11-26 · Rekindle</title>",
            "<dt>seed</dt><dd>42</dd>",
            "<dt>model revision</dt><dd>8b3219a92973</dd>",
        ],
    );
}

#[test]
fn the_learning_rate_is_the_schedules_own() {
    let mut report = report(3, 60);
    // The logged points miss the peak.
    report.train.retain(|point| point.step.is_multiple_of(20));
    report.schedule = (1..=60)
        .map(|step| (step, if step == 7 { 3e-4 } else { 1e-4 }))
        .collect();
    let html = render(&report);
    assert_contains(
        &html,
        &["Learning rate over optimizer steps, from 1e-4 to 3e-4"],
    );
    report.schedule.clear();
    assert_contains(&render(&report), &["from 1e-3 to 1e-3"]);
}

#[test]
fn a_training_loss_above_that_of_validation_is_explained() {
    let words = "measured with label smoothing 0.1 and dropout, the validation loss without";
    let mut report = report(3, 60);
    report.lifted_by = vec!["label smoothing 0.1".into(), "dropout".into()];
    report.evaluations[0].figures.insert("loss".into(), 0.01);
    assert_contains(&render(&report), &[words]);
    // Below it, or without a cause, there is nothing to explain.
    report.evaluations[0].figures.insert("loss".into(), 0.5);
    assert!(!render(&report).contains(words));
    report.evaluations[0].figures.insert("loss".into(), 0.01);
    report.lifted_by.clear();
    assert!(!render(&report).contains("validation loss without"));
}

#[test]
fn confidence_is_held_against_what_came_true() {
    let mut calibration = rekindle_metrics::Calibration::new(5);
    // 95 % sure and half right; 35 % sure and right.
    for right in [true, false, true, false] {
        calibration.update(&[0.95, 0.05], usize::from(!right));
    }
    calibration.update(&[0.35, 0.33, 0.32], 0);
    let mut report = report(3, 60);
    let Section::Classes {
        calibration: of, ..
    } = &mut report.figures.sections[0]
    else {
        panic!("no classes");
    };
    *of = calibration.report();
    let html = render(&report);
    assert_balanced(&html);
    assert_contains(
        &html,
        &[
            "<h2>Confidence</h2>",
            "surer than it is right: 83.0\u{a0}% sure, 60.0\u{a0}% right",
            "4 examples: 95.0\u{a0}% sure, 50.0\u{a0}% right",
            "1 example: 35.0\u{a0}% sure, 100.0\u{a0}% right",
            "49.0\u{a0}% (ECE)",
            // The bar of the fourteenth bin reaches half of the height.
            "V500h59V1000z",
        ],
    );
    assert!(!render(&self::report(3, 60)).contains("<h2>Confidence"));
}

#[test]
fn the_data_are_summed_up() {
    let mut report = report(3, 60);
    let split = |name: &str, examples, cut| SplitSize {
        name: name.into(),
        examples,
        cut,
    };
    report.data = Some(DataSummary {
        splits: vec![split("train", 1500, 12), split("test", 500, 8)],
        noun: "text".into(),
        sizes: "31.5 tokens each".into(),
        labels: (0..30)
            .map(|label| LabelCounts {
                name: format!("topic_{label}"),
                counts: vec![label * 3, label],
            })
            .collect(),
        numbers: vec![NumberSpread {
            name: "price".into(),
            spreads: vec![[1.0, 2.5, 40.0], [0.5, 2.25, 12.0]],
        }],
        lengths: Some(Lengths {
            width: 4,
            bars: vec![3, 12, 6],
            median: 6,
            longest: 11,
        }),
        max_length: 128,
        files: vec![("train".into(), "tickets.csv".into(), "ab".repeat(32))],
    });
    let html = render(&report);
    assert_balanced(&html);
    assert_contains(
        &html,
        &[
            "<h2>Data</h2>",
            "1,500 train, 500 test texts. 20 (1.0\u{a0}%) lost their end: they are cut to 128 tokens.",
            "topic_<wbr>29</bdi></th><td class=\"wide\"><i class=\"bar quiet\" style=\"width:100.0%\"></i></td><td class=\"number\">87</td><td class=\"number\">29</td>",
            "10 more labels",
            "4 to 7 tokens: 12",
            "height:25.0%",
            "Half have at most 6 tokens, the longest 11.",
            "price</bdi></th><td>test</td><td class=\"number\">0.5000</td>",
            "tickets.csv</bdi> <span class=\"times\">sha256 abababababab</span>",
        ],
    );
    let data = report.data.as_mut().unwrap();
    data.splits.iter_mut().for_each(|split| split.cut = 0);
    assert_contains(&render(&report), &["None is longer than 128 tokens."]);
}

#[test]
fn mistakes_show_what_the_model_considered() {
    let mut report = report(3, 60);
    report.mistakes[0].top = vec![
        ("order_status".into(), 0.93),
        ("refund".into(), 0.05),
        ("greeting".into(), 0.01),
    ];
    let html = render(&report);
    assert_balanced(&html);
    assert_contains(
        &html,
        &[
            "<tr><th scope=\"row\"><bdi>order_<wbr>status</bdi></th><td class=\"wide\"><i class=\"bar\" style=\"width:93.0%\">",
            "<tr class=\"truth\"><th scope=\"row\"><bdi>refund</bdi> ✓</th>",
            "5.0\u{a0}%",
        ],
    );
    assert!(!html.contains("<ol class=\"mistakes grid\">"));
    report.mistakes[0].picture = Some(vec![0xff, 0xd8]);
    assert_contains(
        &render(&report),
        &["<ol class=\"mistakes grid\"><li><img alt=\"\" src=\"data:image/jpeg;base64,/9g=\">"],
    );
}

#[test]
fn without_mistakes_the_least_sure_answers_are_shown() {
    let mut report = report(3, 60);
    report.mistakes.clear();
    report.doubtful = vec![Mistake {
        predicted: "refund".into(),
        spans: Vec::new(),
        probability: Some(0.41),
        ..mistake("money back maybe")
    }];
    let html = render(&report);
    assert_balanced(&html);
    assert_contains(
        &html,
        &[
            "<h2>Least sure</h2>",
            "No mistake on the test split.",
            "money back maybe",
            "<span class=\"truth\"><bdi>refund</bdi> 41.0\u{a0}%</span>",
        ],
    );
    assert!(!html.contains("<h2>Worst mistakes"));
    assert!(!html.contains("right: <bdi>refund"));
    report.doubtful.clear();
    assert_contains(
        &render(&report),
        &["<h2>Worst mistakes", "No mistake on the test"],
    );
}
