//! Answers held to JSON schemas and other forms: random tokens that may follow give what was asked for; what cannot be followed
//! is an error with its place.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::Path;

use rekindle_base::rng;
use rekindle_data::DataError;
use rekindle_data::chat::{ChatEncoder, ConstrainedAnswer, Constrainer, Constraint, EncodeOptions};
use serde_json::{Value, json};
use tempfile::TempDir;

/// The golden tokenizers: one of bytes, one of pieces.
const TOKENIZERS: [&str; 2] = ["bytes", "pieces"];

/// Whether a text is what was asked for.
type Whole<'a> = &'a dyn Fn(&str) -> bool;

/// Tokens of a random answer at most.
const MOST: usize = 400;

fn encoder(name: &str) -> ChatEncoder {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/chat");
    let tokenizer = fs::read_to_string(golden.join(format!("{name}.json"))).unwrap();
    encoder_of(&serde_json::from_str(&tokenizer).unwrap())
}

fn encoder_of(tokenizer: &Value) -> ChatEncoder {
    let dir = TempDir::new().unwrap();
    fs::write(dir.path().join("tokenizer.json"), tokenizer.to_string()).unwrap();
    let config = r#"{"eos_token": "<|im_end|>"}"#;
    fs::write(dir.path().join("tokenizer_config.json"), config).unwrap();
    ChatEncoder::from_dir(dir.path(), EncodeOptions::default()).unwrap()
}

/// Schemas that random answers can satisfy in a few hundred tokens.
fn schemas() -> Vec<Value> {
    vec![
        json!({"type": "object", "properties": {
                "item": {"enum": ["roll", "loaf", "Br\u{f6}tchen", "\u{30d1}\u{30f3}", "say \"hi\"\n"]},
                "count": {"type": "integer", "minimum": 1, "maximum": 12},
                "to": {"type": "object", "properties": {
                    "street": {"type": "string", "minLength": 1, "maxLength": 8},
                    "floor": {"anyOf": [{"type": "null"}, {"type": "integer", "minimum": -2, "maximum": 40}]}},
                    "required": ["street", "floor"], "additionalProperties": false}},
            "required": ["item", "count", "to"], "additionalProperties": false}),
        json!({"type": "array", "minItems": 2, "maxItems": 4, "items": {
            "type": "object", "properties": {
                "price": {"type": "number", "minimum": 0.5, "maximum": 99.5},
                "fresh": {"type": "boolean"},
                "\u{e9}tat \u{1f642}": {"const": {"a": [1, null]}}},
            "required": ["price", "\u{e9}tat \u{1f642}"], "additionalProperties": false}}),
        json!({"type": "integer", "exclusiveMinimum": 99, "multipleOf": 5, "maximum": 100000}),
        json!({"type": "string", "maxLength": 6}),
        json!({"$ref": "#/$defs/tree", "$defs": {"tree": {
            "type": "object", "properties": {
                "name": {"type": "string", "maxLength": 3},
                "left": {"anyOf": [{"$ref": "#/$defs/tree"}, {"type": "null"}]}},
            "required": ["name", "left"], "additionalProperties": false}}}),
        json!({"enum": [true, 7, null, "on"]}),
    ]
}

/// Whether a value satisfies a schema of the keywords that these tests use.
fn satisfies(value: &Value, schema: &Value, root: &Value) -> bool {
    let number = |key: &str| schema[key].as_f64();
    let count = |key: &str| schema[key].as_u64().map(|n| n as usize);
    if let Some(target) = schema["$ref"].as_str() {
        return satisfies(value, root.pointer(&target[1..]).unwrap(), root);
    }
    let kind = match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(n) if n.as_f64().is_some_and(|n| n.fract() == 0.0) => "integer",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    let typed = schema["type"].as_str();
    if typed.is_some_and(|t| t != kind && (t, kind) != ("number", "integer")) {
        return false;
    }
    if let Value::Array(of) = &schema["enum"] {
        return of.contains(value);
    }
    if let Some(constant) = schema.get("const") {
        return value == constant;
    }
    if let Value::Array(of) = &schema["anyOf"] {
        return of.iter().any(|schema| satisfies(value, schema, root));
    }
    match value {
        Value::Number(n) => {
            let n = n.as_f64().unwrap();
            number("minimum").is_none_or(|least| n >= least)
                && number("maximum").is_none_or(|most| n <= most)
                && number("exclusiveMinimum").is_none_or(|least| n > least)
                && number("multipleOf").is_none_or(|of| n % of == 0.0)
        }
        Value::String(text) => {
            let length = text.chars().count();
            length >= count("minLength").unwrap_or(0)
                && length <= count("maxLength").unwrap_or(usize::MAX)
        }
        Value::Array(items) => {
            let each = items
                .iter()
                .all(|item| satisfies(item, &schema["items"], root));
            each && items.len() >= count("minItems").unwrap_or(0)
                && items.len() <= count("maxItems").unwrap_or(usize::MAX)
        }
        Value::Object(fields) => {
            let required = schema["required"].as_array().into_iter().flatten();
            let mut required = required.map(|name| name.as_str().unwrap());
            let closed = schema["additionalProperties"] == false;
            let fits = |(name, value): (&String, &Value)| match schema["properties"].get(name) {
                Some(schema) => satisfies(value, schema, root),
                None => !closed,
            };
            required.all(|name| fields.contains_key(name)) && fields.iter().all(fits)
        }
        _ => true,
    }
}

/// Random tokens that may follow, until the answer ends; `None` where that takes too long. Where it may end, `whole` must
/// hold of its text. Tokens that close something are drawn more often than others.
fn random_answer(
    encoder: &ChatEncoder,
    mut answer: ConstrainedAnswer,
    key: u64,
    whole: Whole<'_>,
) -> Option<String> {
    let rows = encoder.rows();
    let stop = encoder.stop_ids()[0] as usize;
    let (mut ids, mut text) = (Vec::new(), String::new());
    let mut stream = encoder.stream(true);
    for step in 0..MOST {
        // More logits than tokens: models' vocabularies are rounded up.
        let mut logits = vec![0.0; rows + 5];
        answer.mask(&mut logits).unwrap();
        assert!(logits[rows..].iter().all(|l| *l == f32::NEG_INFINITY));
        let may_end = logits[stop] == 0.0;
        assert!(!may_end || whole(&text), "may end after {text:?}");
        let allowed: Vec<u32> = (0..rows as u32)
            .filter(|&id| logits[id as usize] == 0.0)
            .collect();
        let closing: Vec<u32> = allowed
            .iter()
            .copied()
            .filter(|&id| {
                id as usize == stop || encoder.token(id).unwrap().contains(['"', '}', ']'])
            })
            .collect();
        let among = match !closing.is_empty() && rng::uniform(key, 2 * step as u64) < 0.3 {
            true => closing,
            false => allowed,
        };
        let at = rng::below(rng::hash(key, 1, 0, step as u64), among.len() as u64);
        let id = among[at as usize];
        if id as usize == stop {
            return Some(text);
        }
        ids.push(id);
        text += &stream.push(id).unwrap();
        if answer.push(id).unwrap() {
            assert!(whole(&text), "ends with {text:?}");
            assert_eq!(encoder.decode(&ids, true).unwrap(), text);
            return Some(text);
        }
    }
    None
}

#[test]
fn random_tokens_satisfy_the_schema() {
    for tokenizer in TOKENIZERS {
        let encoder = encoder(tokenizer);
        let constrainer = Constrainer::new(&encoder).unwrap();
        for (n, schema) in schemas().into_iter().enumerate() {
            let constraint = Constraint::json_schema(schema.clone()).unwrap();
            assert!(constraint.warnings().is_empty());
            let begin = constrainer.begin(&constraint).unwrap();
            let whole = |text: &str| {
                let value = serde_json::from_str(text);
                value.is_ok_and(|value| satisfies(&value, &schema, &schema))
            };
            let mut finished = 0;
            for seed in 0..24 {
                let key = rng::hash(seed, n as u64, 0, 0);
                finished +=
                    usize::from(random_answer(&encoder, begin.clone(), key, &whole).is_some());
            }
            assert!(
                finished >= 12,
                "{tokenizer}, schema {n}: {finished} of 24 ended"
            );
        }
    }
}

#[test]
fn random_tokens_are_any_object_an_expression_and_a_grammar() {
    let object = |text: &str| matches!(serde_json::from_str(text), Ok(Value::Object(_)));
    let code = |text: &str| {
        let (letters, digits) = text.split_at(text.find('-').unwrap_or(0));
        letters
            .chars()
            .all(|c| ('\u{3b1}'..='\u{3c9}').contains(&c))
            && (2..=3).contains(&letters.chars().count())
            && digits.len() == 5
            && digits[1..].bytes().all(|b| b.is_ascii_digit())
    };
    let sum = |text: &str| {
        !text.is_empty()
            && text
                .split('+')
                .all(|part| ["1", "22", "(333)"].contains(&part))
    };
    let grammar = "start: part (\"+\" part)*\npart: \"1\" | \"22\" | \"(333)\"\n";
    let forms: [(Constraint, Whole<'_>, usize); 3] = [
        (Constraint::json().unwrap(), &object, 8),
        (
            Constraint::regex("[\u{3b1}-\u{3c9}]{2,3}-[0-9]{4}").unwrap(),
            &code,
            24,
        ),
        (Constraint::grammar(grammar).unwrap(), &sum, 20),
    ];
    for tokenizer in TOKENIZERS {
        let encoder = encoder(tokenizer);
        let constrainer = Constrainer::new(&encoder).unwrap();
        for (constraint, whole, least) in &forms {
            let begin = constrainer.begin(constraint).unwrap();
            let ended = (0..24)
                .filter(|&seed| random_answer(&encoder, begin.clone(), 100 + seed, whole).is_some())
                .count();
            assert!(
                ended >= *least,
                "{tokenizer}, {constraint:?}: {ended} of 24 ended"
            );
        }
    }
}

/// White space never goes on for ever: a small model writes nothing else otherwise.
#[test]
fn white_space_is_bounded() {
    let encoder = encoder("bytes");
    let constrainer = Constrainer::new(&encoder).unwrap();
    let mut answer = constrainer.begin(&Constraint::json().unwrap()).unwrap();
    let [open, space] = ["{", "\u{120}"].map(|token| encoder.id(token).unwrap());
    answer.push(open).unwrap();
    let mut spaces = 0;
    loop {
        let mut logits = vec![0.0; encoder.rows()];
        answer.mask(&mut logits).unwrap();
        if logits[space as usize] != 0.0 {
            break;
        }
        answer.push(space).unwrap();
        spaces += 1;
        assert!(spaces <= 1);
    }
    assert_eq!(spaces, 1);
}

#[test]
fn what_cannot_be_followed_is_an_error_with_its_place() {
    let names = (0..70_000).map(|n| {
        (
            format!("n{n}"),
            json!({"type": "array", "items": {"enum": [n]}}),
        )
    });
    let wide = json!({"type": "object", "properties": names.collect::<serde_json::Map<_, _>>()});
    for (schema, parts) in [
        (
            json!({"type": "object", "properties": {"n": {"type": "integer", "if": {}}}}),
            &[
                "the JSON schema at /properties/n/if: ",
                "Unimplemented keys: [\"if\"]",
                "\"lenient\": true",
            ][..],
        ),
        (
            json!({"type": "string", "format": "moon"}),
            &["at /format: ", "Unknown format: moon", "\"lenient\": true"],
        ),
        (
            json!({"type": "object", "properties": {"a": {"oneOf": [{"type": "object"}, {"type": "object"}]}}}),
            &["oneOf", "\"coerce_one_of\": true"],
        ),
        (
            json!({"type": "integer", "minimum": 5, "maximum": 3}),
            &["nsatisfiable", "limits that exclude each other"],
        ),
        (
            json!({"type": "object", "properties": {"a": false}, "required": ["a"]}),
            &["nsatisfiable", "a required property that cannot be there"],
        ),
        (json!(false), &["nsatisfiable"]),
        (json!({"enum": []}), &["nsatisfiable"]),
        (
            json!({"allOf": [{"type": "string", "pattern": "^a+$"}, {"pattern": "^b+$"}]}),
            &["Regex is empty", "limits that exclude"],
        ),
        (
            json!(17),
            &["schema must be an object or boolean", "correct the schema"],
        ),
        (json!({"type": "sting"}), &["Invalid type: sting"]),
        // It cuts what it shows inside a character, and panics.
        (
            json!({"type": "integer", "minimum": "\u{e9}".repeat(80)}),
            &[
                "the JSON schema: llguidance fails on it: ",
                "char boundary",
                "hint: correct the schema",
            ],
        ),
        (json!({"$ref": "#/$defs/none"}), &["none"]),
        (json!({"allOf": [{"$ref": "#"}]}), &["hint: "]),
        (wide, &["schema too large", "fewer or smaller limits"]),
        (json!({"x-guidance": {"wite_space": 1}}), &["wite_space"]),
    ] {
        let Err(error) = Constraint::json_schema(schema.clone()) else {
            panic!("{:.200} is no error", schema.to_string());
        };
        let said = error.to_string();
        println!("{said}\n");
        for part in parts {
            assert!(said.contains(part), "{part}: {said}");
        }
        assert!(said.len() < 2000, "{said}");
    }
    for (made, part) in [
        (Constraint::regex("a(b"), "the regular expression: "),
        (Constraint::regex("(?=a)b"), "look-around"),
        (Constraint::grammar("begin: \"a\""), "the grammar: "),
        (Constraint::grammar("start: nothing"), "nothing"),
    ] {
        let said = made.unwrap_err().to_string();
        println!("{said}\n");
        assert!(
            said.contains(part) && said.contains("hint: "),
            "{part}: {said}"
        );
    }
    let lenient = json!({"type": "string", "format": "moon", "x-guidance": {"lenient": true}});
    let warnings = Constraint::json_schema(lenient).unwrap();
    assert!(
        warnings.warnings()[0].contains("moon"),
        "{:?}",
        warnings.warnings()
    );
}

#[test]
fn files_that_are_no_schema() {
    let dir = TempDir::new().unwrap();
    let path = |name: &str| dir.path().join(name);
    fs::write(
        path("order.json"),
        "{\"type\": \"object\",\n \"properties\": }",
    )
    .unwrap();
    fs::write(path("good.json"), "\u{feff}{\"type\": \"object\"}").unwrap();
    fs::write(path("bad.lark"), b"start: \xff").unwrap();
    let said = Constraint::json_schema_file(&path("order.json"))
        .unwrap_err()
        .to_string();
    assert!(
        said.contains("order.json: not valid JSON") && said.contains("line 2"),
        "{said}"
    );
    let said = Constraint::json_schema_file(&path("oder.json")).unwrap_err();
    assert!(
        matches!(&said, DataError::NoSuchFile { near, .. } if near == &["order.json"]),
        "{said}"
    );
    let said = Constraint::json_schema_file(dir.path()).unwrap_err();
    assert!(matches!(said, DataError::IsDirectory { .. }), "{said}");
    let said = Constraint::grammar_file(&path("bad.lark"))
        .unwrap_err()
        .to_string();
    assert!(said.contains("bad.lark: byte 7 is not UTF-8"), "{said}");
    Constraint::json_schema_file(&path("good.json")).unwrap();
}

#[test]
fn a_tokenizer_must_have_bytes_and_those_that_are_asked_for() {
    let tokenizer = |tokens: &[&str], decoder: Value| {
        let vocabulary: serde_json::Map<String, Value> = tokens
            .iter()
            .enumerate()
            .map(|(id, token)| ((*token).to_owned(), id.into()))
            .collect();
        encoder_of(
            &json!({"version": "1.0", "truncation": null, "padding": null, "added_tokens": [],
            "normalizer": null, "pre_tokenizer": null, "post_processor": null, "decoder": decoder,
            "model": {"type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
                "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false, "vocab": vocabulary, "merges": []}}),
        )
    };
    let bytes = json!({"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true});
    for (decoder, part) in [
        (Value::Null, "it has no decoder"),
        (
            json!({"type": "WordPiece", "prefix": "##", "cleanup": true}),
            "`WordPiece`",
        ),
        (json!({"type": "Fuse"}), "only joins"),
    ] {
        let made = Constrainer::new(&tokenizer(&["a", "<|im_end|>"], decoder));
        let Err(error) = made else {
            panic!("{part} is no error");
        };
        let said = error.to_string();
        assert!(said.contains(part) && said.contains("hint: "), "{said}");
    }
    // No brace to begin with, and none to end with.
    let schema = json!({"type": "object", "properties": {}, "additionalProperties": false});
    let constraint = Constraint::json_schema(schema).unwrap();
    let without = Constrainer::new(&tokenizer(&["a", "<|im_end|>"], bytes.clone())).unwrap();
    let said = without.begin(&constraint).err().unwrap().to_string();
    assert!(
        said.contains("no token of the vocabulary can follow"),
        "{said}"
    );
    let open = Constrainer::new(&tokenizer(&["{", "<|im_end|>"], bytes)).unwrap();
    let mut answer = open.begin(&constraint).unwrap();
    answer.push(0).unwrap();
    let said = answer.mask(&mut [0.0, 0.0]).unwrap_err().to_string();
    assert!(
        said.contains("the JSON schema: an answer cannot go on"),
        "{said}"
    );
    // A token that may not follow.
    let mut answer = open.begin(&constraint).unwrap();
    answer.push(0).unwrap();
    assert!(matches!(
        answer.push(0),
        Err(DataError::ConstraintStopped { .. })
    ));
}
