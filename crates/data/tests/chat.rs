//! Conversations: token ids and counted tokens against transformers' (`golden/chat/cases.json`, made by
//! `golden/chat/make.py`), reading, bad input, packing and streaming.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rekindle_base::rng;
use rekindle_data::chat::{
    ChatBatch, ChatEncoder, ChatKind, ChatOptions, ChatRole, Conversation, EncodeOptions,
    EncodedChat, LossOn, Message, PromptColumns, TemplateSource, read_conversations,
};
use rekindle_data::{DataError, OnBad, Place};
use serde_json::{Value, json};
use tempfile::TempDir;

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/chat")
}

fn json_of(name: &str) -> Value {
    serde_json::from_str(&fs::read_to_string(golden().join(name)).unwrap()).unwrap()
}

fn numbers(value: &Value) -> Vec<u32> {
    let numbers = value.as_array().unwrap().iter();
    numbers
        .map(|number| number.as_u64().unwrap() as u32)
        .collect()
}

/// A model directory with one of the two tokenizers, a configuration, and perhaps a template.
fn model(tokenizer: &str, config: &Value, template: Option<&str>) -> TempDir {
    let dir = TempDir::new().unwrap();
    let from = golden().join(format!("{tokenizer}.json"));
    fs::copy(from, dir.path().join("tokenizer.json")).unwrap();
    fs::write(dir.path().join("tokenizer_config.json"), config.to_string()).unwrap();
    if let Some(template) = template {
        fs::write(dir.path().join("chat_template.jinja"), template).unwrap();
    }
    dir
}

/// The model directory of a golden template.
fn golden_model(name: &str, edit: impl Fn(&str) -> String) -> TempDir {
    let rest = json_of(&format!("{name}.json"));
    let template = fs::read_to_string(golden().join(format!("{name}.jinja"))).unwrap();
    let tokenizer = rest["tokenizer"].as_str().unwrap();
    model(tokenizer, &rest["config"], Some(&edit(&template)))
}

/// The template without its generation tags, which drops the same white space.
fn without_tags(template: &str) -> String {
    let mut template = template.to_owned();
    for (tag, instead) in [("endgeneration", "endif"), ("generation", "if true")] {
        for (open, close) in [
            ("{%- ", "%}"),
            ("{%- ", " -%}"),
            ("{%- ", " %}"),
            ("{% ", " %}"),
        ] {
            template = template.replace(
                &format!("{open}{tag}{close}"),
                &format!("{open}{instead}{close}"),
            );
        }
        template = template.replace(&format!("{{% {tag} +%}}"), &format!("{{% {instead} +%}}"));
    }
    assert!(!template.contains("generation -%") && !template.contains("{% generation"));
    template
}

fn encoder(dir: &TempDir, options: EncodeOptions) -> ChatEncoder {
    ChatEncoder::from_dir(dir.path(), options).unwrap()
}

fn place() -> Place {
    Place {
        path: Path::new("chats.jsonl").into(),
        line: 7,
    }
}

fn messages_of(value: &Value) -> Vec<Message> {
    let turns = value.as_array().unwrap().iter();
    turns
        .map(|turn| {
            let mut extra = turn.as_object().unwrap().clone();
            let role = extra.remove("role").unwrap();
            let roles = [
                ChatRole::System,
                ChatRole::User,
                ChatRole::Assistant,
                ChatRole::Tool,
            ];
            Message {
                role: roles
                    .into_iter()
                    .find(|known| known.name() == role)
                    .unwrap(),
                content: extra.remove("content").unwrap().as_str().map(str::to_owned),
                extra,
            }
        })
        .collect()
}

fn conversation(messages: Vec<Message>) -> Conversation {
    Conversation {
        messages,
        tools: None,
        place: place(),
        kind: ChatKind::Chat,
    }
}

/// User and assistant by turns.
fn turns(contents: &[&str]) -> Conversation {
    let roles = [ChatRole::User, ChatRole::Assistant].into_iter().cycle();
    conversation(
        roles
            .zip(contents)
            .map(|(role, content)| Message::new(role, *content))
            .collect(),
    )
}

fn text(content: &str) -> Conversation {
    Conversation {
        messages: Vec::new(),
        kind: ChatKind::Text(content.to_owned()),
        ..turns(&[])
    }
}

fn one(encoder: &ChatEncoder, row: Conversation) -> EncodedChat {
    let mut set = encoder.encode(&[row]).unwrap();
    assert_eq!(set.len(), 1);
    set.items.remove(0)
}

/// The text of the tokens that count.
fn learned(encoder: &ChatEncoder, item: &EncodedChat) -> String {
    let ids = item.ids.iter().zip(&item.counts);
    let ids: Vec<u32> = ids
        .filter(|(_, counts)| **counts)
        .map(|(&id, _)| id)
        .collect();
    encoder.decode(&ids, false).unwrap()
}

fn digits(counts: &[bool]) -> String {
    counts
        .iter()
        .map(|&counts| if counts { '1' } else { '0' })
        .collect()
}

/// Ids, counted tokens and prompts of every golden conversation: with the template's own marks, and found by comparing
/// renderings where the same template has none.
#[test]
fn conversations_equal_those_of_transformers() {
    let cases = json_of("cases.json");
    let cases = cases.as_array().unwrap();
    assert!(cases.len() >= 50);
    let mut wrong = Vec::new();
    let mut joined = 0;
    for case in cases {
        let name = case["template"].as_str().unwrap();
        for marked in [true, false] {
            let dir = golden_model(name, |template| match marked {
                true => template.to_owned(),
                false => without_tags(template),
            });
            let encoder = encoder(&dir, EncodeOptions::default());
            assert_eq!(encoder.template().has_generation(), marked);
            let messages = messages_of(&case["messages"]);
            let row = Conversation {
                tools: Some(case["tools"].clone()).filter(|tools| !tools.is_null()),
                ..conversation(messages.clone())
            };
            let prompt = encoder
                .prompt(&messages[..messages.len() - 1], row.tools.as_ref())
                .unwrap();
            let found = encoder.encode(&[row]).map(|mut set| set.items.remove(0));
            let found = match found {
                Ok(found) => found,
                Err(error) => {
                    wrong.push(format!("{name}, marked {marked}: {error}"));
                    continue;
                }
            };
            if found.ids != numbers(&case["ids"]) || prompt != numbers(&case["prompt"]) {
                wrong.push(format!("{name}, marked {marked}: ids of {}", case["text"]));
                continue;
            }
            let (expected, mut counts) = (case["mask"].as_str().unwrap(), found.counts.clone());
            if !marked {
                // Where no mark says more, a token that begins in the prompt does not count: it is not the one that
                // follows the prompt when the model answers.
                let pieces = encoder.marked(&found);
                for at in 1..counts.len() {
                    let first = expected[at - 1..].starts_with("01");
                    if first && !counts[at] && pieces[at].0 == "\n\n" {
                        counts[at] = true;
                        joined += 1;
                    }
                }
            }
            if digits(&counts) != expected {
                wrong.push(format!(
                    "{name}, marked {marked}: {}\n  expected {expected}\n  found    {}\n  {:?}",
                    case["text"],
                    digits(&found.counts),
                    learned(&encoder, &found),
                ));
            }
        }
    }

    assert!(wrong.is_empty(), "{}:\n{}", wrong.len(), wrong.join("\n"));
    assert_eq!(joined, 5);
}

#[test]
fn hard_texts_have_the_ids_of_transformers() {
    let texts = fs::read_to_string(golden().join("../hard.json")).unwrap();
    let texts: Value = serde_json::from_str(&texts).unwrap();
    let texts = texts["texts"].as_array().unwrap();
    assert_eq!(texts.len(), 200);
    for (kind, expected) in json_of("hard.json").as_object().unwrap() {
        let dir = model(kind, &json!({"eos_token": "</s>"}), None);
        let encoder = encoder(&dir, EncodeOptions::default());
        let expected = expected.as_array().unwrap();
        for (text, ids) in texts.iter().zip(expected) {
            let text = text.as_str().unwrap();
            let mut ids = numbers(ids);
            // A text that begins with the beginning-of-text token gets no second one.
            if kind == "pieces" && text.starts_with("<s>") {
                assert_eq!(ids.remove(0), ids[0]);
            }
            assert_eq!(encoder.text_prompt(text).unwrap(), ids, "{kind}: {text}");
        }
    }
}

/// transformers and TRL take the end of a turn out of the loss where it is the padding token too.
#[test]
fn the_end_of_a_turn_counts_though_it_pads() {
    let dir = golden_model("chatml", without_tags);
    let encoder = encoder(&dir, EncodeOptions::default());
    let item = one(&encoder, turns(&["Hi", "Hello", "How?", "So"]));
    assert_eq!(learned(&encoder, &item), "Hello<|im_end|>So<|im_end|>");
    assert_eq!(encoder.end_of_turn(), Some("<|im_end|>"));
    let end = *encoder.stop_ids().first().unwrap();
    assert_eq!(encoder.token(end).unwrap(), "<|im_end|>");
}

#[test]
fn the_end_of_a_turn_counts_though_the_mark_leaves_it_out() {
    let dir = golden_model("chatml", |template| {
        template.replace(
            "{{ message['content'] + '<|im_end|>' }}{% endgeneration %}",
            "{{ message['content'] }}{% endgeneration %}{{ '<|im_end|>' }}",
        )
    });
    let encoder = encoder(&dir, EncodeOptions::default());
    assert!(encoder.template().has_generation());
    let item = one(&encoder, turns(&["Hi", "Hello"]));
    assert_eq!(learned(&encoder, &item), "Hello<|im_end|>");
}

#[test]
fn loss_is_on_what_was_asked_for() {
    for marked in [true, false] {
        let dir = golden_model("chatml", |template| match marked {
            true => template.to_owned(),
            false => without_tags(template),
        });
        let row = turns(&["Hi", "Hello", "How?", "So"]);
        for (loss_on, expect) in [
            (LossOn::Assistant, "Hello<|im_end|>So<|im_end|>"),
            (LossOn::Last, "So<|im_end|>"),
        ] {
            let options = EncodeOptions {
                loss_on,
                ..EncodeOptions::default()
            };
            let encoder = encoder(&dir, options);
            let item = one(&encoder, row.clone());
            assert_eq!(learned(&encoder, &item), expect);
        }
        let options = EncodeOptions {
            loss_on: LossOn::All,
            ..EncodeOptions::default()
        };
        let item = one(&encoder(&dir, options), row.clone());
        assert!(!item.counts[0] && item.counts[1..].iter().all(|&counts| counts));
        // Turns of a prompt never count.
        let completion = Conversation {
            kind: ChatKind::Completion { prompt: 3 },
            ..row
        };
        let encoder = encoder(&dir, EncodeOptions::default());
        let item = one(&encoder, completion);
        assert_eq!(learned(&encoder, &item), "So<|im_end|>");
    }
}

#[test]
fn a_model_without_a_template_says_what_it_gets() {
    let dir = model("bytes", &json!({"eos_token": "<|endoftext|>"}), None);
    let chatml = encoder(&dir, EncodeOptions::default());
    assert_eq!(*chatml.template().source(), TemplateSource::ChatMl);
    let item = one(&chatml, turns(&["Hi", "Hello"]));
    assert_eq!(
        chatml.decode(&item.ids, false).unwrap(),
        "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\nHello<|im_end|>\n"
    );
    assert_eq!(learned(&chatml, &item), "Hello<|im_end|>");
    let stops: Vec<String> = chatml
        .stop_ids()
        .iter()
        .filter_map(|&id| chatml.token(id))
        .collect();
    assert_eq!(stops, ["<|endoftext|>", "<|im_end|>"]);

    let dir = plain_model();
    let plain = encoder(&dir, EncodeOptions::default());
    assert_eq!(*plain.template().source(), TemplateSource::Plain);
    let said = plain.template().source().to_string();
    assert!(said.contains("no chat template"), "{said}");
    let item = one(&plain, turns(&["Hi", "Hello"]));
    // One beginning-of-text token.
    assert_eq!(plain.decode(&item.ids, false).unwrap(), "<s> Hi\nHello</s>");
    assert_eq!(learned(&plain, &item), "Hello</s>");
    let prompt = plain.prompt(&turns(&["Hi"]).messages, None).unwrap();
    assert!(item.ids.starts_with(&prompt));
}

/// A model with a beginning-of-text token and neither a template nor ChatML's tokens.
fn plain_model() -> TempDir {
    let dir = model(
        "pieces",
        &json!({"bos_token": "<s>", "eos_token": "</s>"}),
        None,
    );
    let path = dir.path().join("tokenizer.json");
    let tokenizer = fs::read_to_string(&path).unwrap();
    fs::write(&path, tokenizer.replace("<|im_start|>", "<|im_st|>")).unwrap();
    dir
}

#[test]
fn without_a_token_to_end_with_the_directory_is_named() {
    let dir = plain_model();
    fs::write(dir.path().join("tokenizer_config.json"), "{}").unwrap();
    let found = encoder(&dir, EncodeOptions::default());
    let error = found.encode(&[turns(&["Hi", "Hello"])]).unwrap_err();
    assert!(matches!(error, DataError::NoEndToken { .. }), "{error}");
    // Its configuration can name the token by its id.
    fs::write(
        dir.path().join("generation_config.json"),
        r#"{"eos_token_id": [2, 3]}"#,
    )
    .unwrap();
    let found = encoder(&dir, EncodeOptions::default());
    let item = one(&found, turns(&["Hi", "Hello"]));
    assert_eq!((item.ids.last(), found.stop_ids()), (Some(&2), &[2, 3][..]));
}

#[test]
fn templates_can_be_named_in_the_configuration() {
    let template = "{% for m in messages %}{{ m.content }}|{% endfor %}";
    let config = json!({
        "eos_token": {"content": "</s>", "special": true},
        "chat_template": [
            {"name": "default", "template": template},
            {"name": "tool_use", "template": format!("{{{{ tools[0].name }}}}:{template}")},
        ],
    });
    let encoder = encoder(&model("bytes", &config, None), EncodeOptions::default());
    let messages = turns(&["a", "b"]).messages;
    let of = |tools: Option<Value>| {
        let ids = encoder.prompt(&messages, tools.as_ref()).unwrap();
        encoder.decode(&ids, false).unwrap()
    };
    assert_eq!(of(None), "a|b|");
    assert_eq!(of(Some(json!([{"name": "f"}]))), "f:a|b|");
}

#[test]
fn a_long_conversation_is_cut_and_says_so() {
    let dir = golden_model("chatml", str::to_owned);
    let whole = one(
        &encoder(&dir, EncodeOptions::default()),
        turns(&["Hi", "Hello"]),
    );
    let cut_to = |max_length: usize, on_bad_example: OnBad| {
        let options = EncodeOptions {
            max_length: Some(max_length),
            on_bad_example,
            ..EncodeOptions::default()
        };
        encoder(&dir, options)
    };
    let first = whole.counts.iter().position(|&counts| counts).unwrap();
    let cut = one(&cut_to(first + 1, OnBad::Error), turns(&["Hi", "Hello"]));
    assert!(cut.cut && !whole.cut);
    assert_eq!(
        (&cut.ids[..], cut.counts[first]),
        (&whole.ids[..=first], true)
    );

    let rows = [turns(&["Hi", "Hello"]), turns(&["Hi", "Hello", "a", "b"])];
    let error = cut_to(first, OnBad::Error)
        .encode(&rows[..1])
        .unwrap_err()
        .to_string();
    assert_eq!(
        error,
        format!(
            "chats.jsonl:7: none of its {} tokens counts once it is cut to max_length = {first}\n\
             hint: raise max_length, or shorten the turns before the first answer; or leave such rows out: --set data.on_bad_example=skip",
            whole.ids.len()
        )
    );
    let error = cut_to(first, OnBad::Skip).encode(&rows).unwrap_err();
    assert!(
        matches!(error, DataError::AllBad { skipped: 2, .. }),
        "{error}"
    );
    let rows = [
        turns(&["Hi there, you all", "Hello"]),
        turns(&["Hi", "Hello"]),
    ];
    let set = cut_to(first + 1, OnBad::Skip).encode(&rows).unwrap();
    assert_eq!((set.len(), set.skipped.len(), set.sources), (1, 1, vec![1]));
    let error = ChatEncoder::from_dir(
        dir.path(),
        EncodeOptions {
            max_length: Some(1),
            ..EncodeOptions::default()
        },
    );
    assert!(matches!(error, Err(DataError::Window { .. })));
}

/// As transformers' `apply_chat_template(truncation=True)` does where the tokenizer's files say so.
#[test]
fn a_conversation_is_cut_at_the_side_that_the_tokenizer_names() {
    let template = fs::read_to_string(golden().join("chatml.jinja")).unwrap();
    let mut config = json_of("chatml.json")["config"].clone();
    let options = |max_length| EncodeOptions {
        max_length,
        ..EncodeOptions::default()
    };
    let row = || turns(&["a long question", "the answer"]);
    let whole = one(
        &encoder(&model("bytes", &config, Some(&template)), options(None)),
        row(),
    );
    config["truncation_side"] = "left".into();
    let dir = model("bytes", &config, Some(&template));
    for length in [4, whole.ids.len() - 1] {
        let cut = one(&encoder(&dir, options(Some(length))), row());
        assert_eq!(cut.ids, whole.ids[whole.ids.len() - length..]);
        assert_eq!(
            cut.counts[1..],
            whole.counts[whole.ids.len() - length + 1..]
        );
        assert!(!cut.counts[0] && cut.cut);
    }
}

#[test]
fn a_template_is_told_the_time_that_was_asked_for() {
    let template =
        "{{ strftime_now('%d %b %Y') }} {% for m in messages %}{{ m.content }}</s>{% endfor %}";
    let dir = model("bytes", &json!({"eos_token": "</s>"}), Some(template));
    let at = |now| {
        encoder(
            &dir,
            EncodeOptions {
                now,
                ..EncodeOptions::default()
            },
        )
    };
    let first = at(Some(951_782_400));
    assert!(first.template().tells_the_time());
    let ids = first
        .prompt(&[Message::new(ChatRole::User, "x")], None)
        .unwrap();
    assert_eq!(first.decode(&ids, false).unwrap(), "29 Feb 2000 x</s>");
    let later = at(None)
        .prompt(&[Message::new(ChatRole::User, "x")], None)
        .unwrap();
    assert_ne!(ids, later);
}

#[test]
fn every_token_of_a_text_but_the_first_counts_once() {
    let dir = model(
        "pieces",
        &json!({"bos_token": "<s>", "eos_token": "</s>"}),
        None,
    );
    let content = "Turn off the lights in the kitchen, please.\n".repeat(7);
    let whole = one(&encoder(&dir, EncodeOptions::default()), text(&content));
    assert_eq!(whole.counts.iter().filter(|&&counts| !counts).count(), 1);
    assert_eq!((whole.ids[0], whole.ids.last()), (1, Some(&2)));
    for (max_length, overlap) in [(2, 0), (16, 0), (17, 5), (64, 62), (10_000, 3)] {
        let options = EncodeOptions {
            max_length: Some(max_length),
            overlap,
            ..EncodeOptions::default()
        };
        let set = encoder(&dir, options).encode(&[text(&content)]).unwrap();
        let mut learned = vec![whole.ids[0]];
        for item in &set.items {
            assert!(item.ids.len() <= max_length && !item.counts[0] && !item.cut);
            let counted = item.ids.iter().zip(&item.counts);
            learned.extend(counted.filter(|(_, counts)| **counts).map(|(id, _)| id));
            let context = item.counts.iter().take_while(|&&counts| !counts).count();
            assert!(context == 1 || context == overlap);
        }
        assert_eq!(
            learned, whole.ids,
            "max_length {max_length}, overlap {overlap}"
        );
        assert!(set.sources.iter().all(|&source| source == 0));
    }
}

#[test]
fn a_packed_batch_holds_each_sequence_and_its_targets() {
    let dir = golden_model("chatml", str::to_owned);
    let encoder = encoder(&dir, EncodeOptions::default());
    let rows = [
        turns(&["Hi", "Hello", "How?", "So"]),
        turns(&["a", "b"]),
        turns(&["What?", "That"]),
    ];
    let set = encoder.encode(&rows).unwrap();
    for indices in [vec![], vec![1], vec![2, 0, 1, 2]] {
        let batch = ChatBatch::pack(&set, &indices);
        assert_eq!(
            (batch.len(), batch.tokens()),
            (indices.len(), batch.ids.len())
        );
        assert_eq!(batch.row_offsets[batch.len()], batch.counted());
        for (b, &index) in indices.iter().enumerate() {
            let item = &set.items[index];
            let tokens = batch.offsets[b]..batch.offsets[b + 1];
            let ids: Vec<u32> = batch.ids[tokens.clone()]
                .iter()
                .map(|&id| id as u32)
                .collect();
            assert_eq!(ids, item.ids);
            let mut counts = vec![false; ids.len()];
            for r in batch.row_offsets[b]..batch.row_offsets[b + 1] {
                let next = batch.rows[r] as usize + 1;
                assert!(tokens.contains(&(next - 1)) && tokens.contains(&next));
                assert_eq!(batch.targets[r], batch.ids[next]);
                counts[next - tokens.start] = true;
            }
            assert_eq!(counts, item.counts);
            let positions = &batch.positions[tokens];
            assert!(positions.iter().copied().eq(0..ids.len() as i32));
        }
    }
}

/// What all sequences begin with is kept once, as far as none of it counts; the targets stay what they were.
#[test]
fn a_beginning_that_all_share_is_kept_once() {
    let begin = [7; 12];
    let sequence = |end: &[u32]| [&begin[..], end].concat();
    let batch = |sequences: &[Vec<u32>], first: usize| {
        let mut batch = ChatBatch::default();
        for ids in sequences {
            let counts: Vec<bool> = (0..ids.len()).map(|at| at >= first).collect();
            batch.push(ids, &[&counts]);
        }
        batch
    };
    let sequences = [sequence(&[1, 2, 3]), sequence(&[1, 4]), sequence(&[5])];
    let plain = batch(&sequences, 12);
    let shared = plain.clone().share_beginning();
    // The twelfth token predicts one that counts.
    assert_eq!((shared.shared, shared.len()), (11, 4));
    assert_eq!(shared.offsets, [0, 11, 15, 18, 20]);
    assert_eq!(shared.ids[..14], [7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 1, 2]);
    assert_eq!(shared.positions[11..], [11, 12, 13, 14, 11, 12, 13, 11, 12]);
    assert_eq!(
        (&shared.targets, &shared.row_offsets),
        (&plain.targets, &plain.row_offsets)
    );
    for (row, target) in shared.rows.iter().zip(&shared.targets) {
        assert_eq!(shared.ids[*row as usize + 1], *target);
    }
    // All of one sequence counts; one sequence alone; a beginning of four.
    for plain in [
        batch(&sequences, 1),
        batch(&sequences[..1], 12),
        batch(&sequences.clone().map(|ids| ids[8..].to_vec()), 4),
        ChatBatch::default(),
    ] {
        assert_eq!(plain.clone().share_beginning(), plain);
    }
}

/// Emoji of four bytes each in tokens of their own never come out in parts, and nothing is lost.
#[test]
fn streamed_text_is_the_text() {
    let content = "naïve 中文 😀👩‍👩‍👧 — and\n\n  spaces";
    for kind in ["bytes", "pieces"] {
        let dir = model(kind, &json!({"eos_token": "</s>"}), None);
        let encoder = encoder(&dir, EncodeOptions::default());
        let mut ids = encoder.text_prompt(content).unwrap();
        ids.push(2);
        for skip_special in [true, false] {
            let mut stream = encoder.stream(skip_special);
            let mut joined = String::new();
            let mut waited = false;
            for &id in &ids {
                let new = stream.push(id).unwrap();
                assert!(!new.contains('\u{FFFD}'), "{new}");
                waited |= new.is_empty();
                joined.push_str(&new);
            }
            joined.push_str(&stream.finish().unwrap());
            assert!(waited);
            assert_eq!(joined, encoder.decode(&ids, skip_special).unwrap());
            assert_eq!(joined.contains("</s>"), !skip_special);
        }
        // A character that never ends comes out as broken at the end.
        let emoji = encoder.text_prompt("😀").unwrap();
        let mut stream = encoder.stream(true);
        for &id in &emoji[..emoji.len() - 1] {
            assert_eq!(stream.push(id).unwrap(), "");
        }
        assert!(stream.finish().unwrap().contains('\u{FFFD}'));
    }
}

#[test]
fn marked_pieces_show_what_counts() {
    let dir = golden_model("chatml", str::to_owned);
    let encoder = encoder(&dir, EncodeOptions::default());
    let item = one(&encoder, turns(&["Hi", "the answer"]));
    let pieces = encoder.marked(&item);
    let all: String = pieces.iter().map(|(piece, _)| piece.as_str()).collect();
    assert_eq!(all, encoder.decode(&item.ids, false).unwrap());
    let counted = pieces.iter().filter(|(_, counts)| *counts);
    let counted: String = counted.map(|(piece, _)| piece.as_str()).collect();
    assert_eq!(counted, "the answer<|im_end|>");
}

#[test]
fn a_vocabulary_larger_than_the_model_is_refused() {
    let dir = model("bytes", &json!({"eos_token": "</s>"}), None);
    let encoder = encoder(&dir, EncodeOptions::default());
    let size = encoder.vocab_size();
    assert!(encoder.check_vocab(size).is_ok());
    let error = encoder.check_vocab(size - 1).unwrap_err();
    assert!(matches!(error, DataError::WrongTokenizer { id, .. } if id as usize == size - 1));
}

/// Templates that loop, fill the memory, nest without end or want files: each ends soon, with an error that says so.
#[test]
fn templates_are_not_trusted() {
    let refused = |template: &str| {
        let dir = model("bytes", &json!({"eos_token": "</s>"}), Some(template));
        let encoder = match ChatEncoder::from_dir(dir.path(), EncodeOptions::default()) {
            Ok(encoder) => encoder,
            Err(error) => return error.to_string(),
        };
        encoder
            .encode(&[turns(&["Hi", "Hello"])])
            .unwrap_err()
            .to_string()
    };
    let loops = "{% for a in range(90000) %}{% for b in range(90000) %}{% endfor %}{% endfor %}";
    let doubles = "{% set ns = namespace(x='ab') %}{% for i in range(99) %}{% set ns.x = ns.x ~ ns.x %}{% endfor %}";
    let nested = "{% set ns = namespace(x=[1]) %}{% for i in range(60) %}{% set ns.x = [ns.x, ns.x] %}{% endfor %}{{ ns.x | tojson }}";
    for (template, expect) in [
        (loops.to_owned(), "it takes more than 4000000 steps"),
        (loops.replace("90000", "10**12"), "too many elements"),
        (
            format!("{doubles}{{{{ ns.x }}}}"),
            "it takes more than 4000000 steps",
        ),
        (nested.to_owned(), "it takes more than 4000000 steps"),
        (
            "{% for i in range(9000) %}{{ 'x' * 9000 }}{% endfor %}".to_owned(),
            "it writes more than 67108864 bytes",
        ),
        (
            "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}".to_owned(),
            "recursion limit",
        ),
        (
            "{% include '/etc/passwd' %}".to_owned(),
            "unknown statement include",
        ),
        (
            "{% import 'os' as os %}".to_owned(),
            "unknown statement import",
        ),
        ("{% extends 'x' %}".to_owned(), "unknown statement extends"),
        ("{{ messages.__class__.__mro__ }}".to_owned(), "undefined"),
        ("{{ open('/etc/passwd') }}".to_owned(), "unknown function"),
        (
            format!("{{{{ {}1{} }}}}", "(".repeat(9000), ")".repeat(9000)),
            "recursion",
        ),
        (
            "{% if %}".to_owned(),
            "line 1 of the template: not a usable chat template",
        ),
        (
            "a\n{{ raise_exception('no, ' ~ messages[0].content) }}".to_owned(),
            "chats.jsonl:7: the chat template refuses the conversation: no, Hi\nhint: ",
        ),
        (
            "a\n{{ 1 + messages }}".to_owned(),
            "chats.jsonl:7: the chat template fails at its line 2",
        ),
    ] {
        let found = refused(&template);
        let short = &template[..template.len().min(60)];
        assert!(found.contains(expect), "{short}: {found}");
        assert!(found.contains("\nhint: "), "{found}");
    }
}

/// Templates fuzzed: pieces of Jinja in any order, and the golden templates with pieces changed. Each is used or refused with an
/// error that says so, soon.
#[test]
fn mutated_templates_never_panic_nor_hang() {
    const ROUNDS: u64 = 1_500;
    const LONGEST: Duration = Duration::from_secs(20);
    const PIECES: [&str; 40] = [
        "{% for m in messages %}",
        "{% endfor %}",
        "{% if loop.first %}",
        "{% elif m %}",
        "{% else %}",
        "{% endif %}",
        "{{ m['content'] }}",
        "{{ m.role }}",
        "{{ messages[0] }}",
        "{{ messages | tojson }}",
        "{% set x = messages %}",
        "{% set ns = namespace(x=1) %}",
        "{% set ns.x = ns.x * 99 %}",
        "{{ ns.x }}",
        "{% macro f(a) %}",
        "{% endmacro %}",
        "{{ f(1) }}",
        "{% generation %}",
        "{% endgeneration %}",
        "{{ raise_exception('no') }}",
        "{{ strftime_now('%d %Q') }}",
        "{{ range(99999) | list }}",
        "{{ 'ab' * 99999 }}",
        "{{ m.content.split('a')[-1] }}",
        "{{ m.content | trim | upper }}",
        "{#",
        "#}",
        "{%-",
        "-%}",
        "{{",
        "}}",
        "{% for i in range(999999) %}",
        "{{ bos_token ~ eos_token }}",
        "{{ 1 / 0 }}",
        "{{ x[-1:0:-1] }}",
        "{% call f() %}",
        "{% endcall %}",
        "{{ none.x.y }}",
        "{% break %}",
        "<|im_end|>\n",
    ];
    let names = [
        "chatml",
        "end",
        "header",
        "inst-system",
        "roles",
        "thinking",
        "turns",
    ];
    let originals =
        names.map(|name| fs::read_to_string(golden().join(format!("{name}.jinja"))).unwrap());
    let rows = [
        turns(&["Hi", "Hello", "More?", "No."]),
        turns(&["{{ x }} {% if %}", "\u{FDD0}\u{FDD1}</s>"]),
    ];
    let dir = model(
        "bytes",
        &json!({"bos_token": "<s>", "eos_token": "</s>"}),
        None,
    );
    let (mut used, mut refused) = (0, 0);
    for round in 0..ROUNDS {
        let draw =
            |index: u64, n: usize| rng::below(rng::hash(20, 101, round, index), n as u64) as usize;
        let piece = |index: u64| PIECES[draw(index, PIECES.len())];
        let template = match round % 3 {
            0 => (0..1 + draw(1, 12) as u64)
                .map(|i| piece(10 + i))
                .collect::<String>(),
            _ => {
                let mut text: Vec<char> = originals[draw(1, originals.len())].chars().collect();
                for change in 0..1 + draw(2, 3) as u64 {
                    let at = draw(10 * change + 10, text.len());
                    let end = (at + 1 + draw(10 * change + 11, 12)).min(text.len());
                    let other = match draw(10 * change + 12, 4) {
                        0 => String::new(),
                        1 => text[at..end].iter().rev().collect(),
                        2 => text[at..end].iter().cycle().take(40).collect(),
                        _ => piece(10 * change + 13).to_owned(),
                    };
                    text.splice(at..end, other.chars());
                }
                text.into_iter().collect()
            }
        };
        fs::write(dir.path().join("chat_template.jinja"), &template).unwrap();
        let clock = Instant::now();
        let outcome =
            ChatEncoder::from_dir(dir.path(), EncodeOptions::default()).and_then(|encoder| {
                encoder.prompt(&rows[0].messages[..1], None)?;
                if let Err(error) = encoder.encode(&rows[1..]) {
                    assert!(
                        error.to_string().contains("hint: "),
                        "{template:?}: {error}"
                    );
                }
                encoder.encode(&rows[..1])
            });
        match outcome {
            Ok(set) => {
                assert!(
                    set.items
                        .iter()
                        .all(|item| item.ids.len() == item.counts.len())
                );
                used += 1;
            }
            Err(error) => {
                assert!(
                    error.to_string().contains("hint: "),
                    "{template:?}: {error}"
                );
                refused += 1;
            }
        }
        assert!(
            clock.elapsed() < LONGEST,
            "{template:?} took {:?}",
            clock.elapsed()
        );
    }
    assert!(used > 50 && refused > 100, "{used} used, {refused} refused");
    assert!(peak_memory().is_none_or(|bytes| bytes < 2 << 30));
}

/// The most memory that this process has had, in bytes, where the system tells.
fn peak_memory() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    let kib: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kib * 1024)
}

#[test]
fn two_questions_in_a_row_are_refused_where_the_template_forbids_them() {
    let dir = golden_model("inst-system", without_tags);
    let encoder = encoder(&dir, EncodeOptions::default());
    let row = conversation(vec![
        Message::new(ChatRole::User, "a"),
        Message::new(ChatRole::User, "b"),
        Message::new(ChatRole::Assistant, "c"),
    ]);
    let error = encoder
        .encode(std::slice::from_ref(&row))
        .unwrap_err()
        .to_string();
    assert_eq!(
        error,
        "chats.jsonl:7: the chat template refuses the conversation: \
         Conversation roles must alternate user/assistant/user/assistant/...\n\
         hint: change the turns as the template asks: most want user and assistant by turns; \
         or leave such rows out: --set data.on_bad_example=skip"
    );
    let error = encoder.prompt(&row.messages[..2], None).unwrap_err();
    assert!(matches!(error, DataError::Prompt { .. }), "{error}");
}

/// Gemma's templates: the model's role has another name, its turn ends at a token that does not end a text, and what the system
/// says is refused by the older one and stands in the first question in the newer.
#[test]
fn turns_of_a_model_end_at_their_own_token() {
    for name in ["turns", "turns-system"] {
        let dir = golden_model(name, without_tags);
        let encoder = encoder(&dir, EncodeOptions::default());
        assert_eq!(encoder.end_of_turn(), Some("<end_of_turn>"), "{name}");
        let ends = ["</s>", "<end_of_turn>"].map(|token| encoder.id(token).unwrap());
        assert_eq!(encoder.stop_ids(), ends, "{name}");
        let item = one(&encoder, turns(&["Hi", " Hello\n", "Bye", "so long"]));
        let expected = "Hello<end_of_turn>so long<end_of_turn>";
        assert_eq!(learned(&encoder, &item), expected, "{name}");

        let mut row = turns(&["Hi", "Hello"]);
        let system = Message::new(ChatRole::System, "Answer briefly.");
        row.messages.insert(0, system);
        if name == "turns" {
            let error = encoder.encode(&[row]).unwrap_err().to_string();
            assert!(error.contains("System role not supported"), "{error}");
            continue;
        }
        let item = one(&encoder, row);
        assert_eq!(learned(&encoder, &item), "Hello<end_of_turn>");
        let whole = encoder.decode(&item.ids, false).unwrap();
        let first = "user\nAnswer briefly.\n\nHi<end_of_turn>";
        assert!(whole.contains(first), "{whole}");
    }
}

/// A template that writes a turn backwards: its tokens are nowhere to be found.
#[test]
fn a_turn_that_is_not_found_is_an_error() {
    let template =
        "{{ messages | length }}{% for m in messages %}{{ m.content[::-1] }}{% endfor %}";
    let dir = model("bytes", &json!({"eos_token": "</s>"}), Some(template));
    let encoder = encoder(&dir, EncodeOptions::default());
    let error = encoder
        .encode(&[turns(&["Hi", "Hello"])])
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("the assistant's turn 1\nhint: mark"),
        "{error}"
    );
}

fn read_one(name: &str, content: &str, options: &ChatOptions) -> Result<Vec<Conversation>, String> {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join(name);
    fs::write(&path, content).unwrap();
    let folder = format!("{}/", dir.path().display());
    read_conversations(&path, options)
        .map(|read| read.rows)
        .map_err(|error| error.to_string().replace(&folder, ""))
}

fn said(row: &Conversation) -> Vec<(&str, &str)> {
    let messages = row.messages.iter();
    messages
        .map(|message| {
            (
                message.role.name(),
                message.content.as_deref().unwrap_or("none"),
            )
        })
        .collect()
}

#[test]
fn every_shape_is_read() {
    let user_assistant = vec![("user", "Hi"), ("assistant", "Hello")];
    let chat = ChatKind::Chat;
    let completion = ChatKind::Completion { prompt: 1 };
    for (row, expect, kind) in [
        (
            json!({"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]}),
            user_assistant.clone(),
            chat.clone(),
        ),
        (
            json!({"messages": [
                {"role": "user", "content": [{"type": "text", "text": "H"}, {"type": "text", "text": "i"}]},
                {"role": "assistant", "content": "Hello", "weight": null},
            ], "text": "other"}),
            user_assistant.clone(),
            chat.clone(),
        ),
        (
            json!({"conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello"}], "system": "S", "id": 1}),
            vec![("system", "S"), ("user", "Hi"), ("assistant", "Hello")],
            chat.clone(),
        ),
        (
            json!({"prompt": "Hi", "completion": "Hello"}),
            user_assistant.clone(),
            completion.clone(),
        ),
        (
            json!({"prompt": [{"role": "system", "content": "S"}, {"role": "user", "content": "Hi"}],
                   "completion": [{"role": "assistant", "content": "Hello"}]}),
            vec![("system", "S"), ("user", "Hi"), ("assistant", "Hello")],
            ChatKind::Completion { prompt: 2 },
        ),
        (
            json!({"instruction": "Add", "input": "1 2", "output": 3}),
            vec![("user", "Add\n\n1 2"), ("assistant", "3")],
            completion.clone(),
        ),
        (
            json!({"instruction": "Hi", "input": "", "output": "Hello"}),
            user_assistant.clone(),
            completion.clone(),
        ),
        (
            json!({"text": "Hi, Hello"}),
            vec![],
            ChatKind::Text("Hi, Hello".to_owned()),
        ),
    ] {
        for (name, content) in [
            ("rows.jsonl", format!("\n{row}\n")),
            ("rows.json", format!("[\n{row}\n]\n")),
        ] {
            let rows = read_one(name, &content, &ChatOptions::default()).unwrap();
            assert_eq!((rows.len(), said(&rows[0])), (1, expect.clone()), "{row}");
            assert_eq!((&rows[0].kind, rows[0].place.line), (&kind, 2));
        }
    }
    let rows = read_one(
        "t.csv",
        "prompt,completion,n\nHi,Hello,1\n\"a\nb\",c,2\n",
        &ChatOptions::default(),
    );
    let rows = rows.unwrap();
    assert_eq!(
        (said(&rows[0]), said(&rows[1])),
        (
            user_assistant.clone(),
            vec![("user", "a\nb"), ("assistant", "c")]
        )
    );
    assert_eq!(rows[1].place.line, 3);
    let options = ChatOptions {
        columns: Some(PromptColumns {
            prompt: "question".to_owned(),
            completion: "answer".to_owned(),
        }),
        ..ChatOptions::default()
    };
    let row = r#"{"messages": [], "question": "Hi", "answer": "Hello"}"#;
    assert_eq!(
        said(&read_one("q.jsonl", row, &options).unwrap()[0]),
        user_assistant
    );
}

#[test]
fn nested_columns_of_parquet_are_read() {
    let path = golden().join("chats.parquet");
    let rows = read_conversations(&path, &ChatOptions::default())
        .unwrap()
        .rows;
    assert_eq!(said(&rows[0]), [("user", "Hi"), ("assistant", "Hello")]);
    let names = rows[0]
        .messages
        .iter()
        .map(|message| message.extra.get("name"));
    assert!(names.eq([Some(&json!("n")), None]));
}

#[test]
fn tool_calls_and_tools_travel_as_data() {
    let row = json!({
        "messages": [
            {"role": "user", "content": "Rain?"},
            {"role": "assistant", "content": null, "tool_calls": [{"function": {"name": "f"}}]},
            {"role": "tool", "content": "no", "name": "f"},
        ],
        "tools": "[{\"name\": \"f\"}]",
    });
    let rows = read_one("a.jsonl", &row.to_string(), &ChatOptions::default()).unwrap();
    assert_eq!(rows[0].tools, Some(json!([{"name": "f"}])));
    assert_eq!(rows[0].messages[1].content, None);
    assert_eq!(
        rows[0].messages[1].extra["tool_calls"][0]["function"]["name"],
        "f"
    );
    assert_eq!(rows[0].messages[2].extra["name"], "f");
}

#[test]
fn bad_rows_give_place_key_and_remedy() {
    let user = r#"{"role": "user", "content": "Hi"}"#;
    for (row, expect) in [
        (
            r#"{"mesages": [], "id": 1}"#.to_owned(),
            "a.jsonl:2: no conversation: found the keys `mesages` and `id`, expected `messages`, `conversations`, `prompt`, \
             `completion`, `instruction`, `input`, `output` and `text`\nhint: did you mean `messages` where the row has \
             `mesages`?; or leave such rows out: --set data.on_bad_example=skip",
        ),
        (
            r#"{"prompt": "Hi", "completon": "Hello"}"#.to_owned(),
            "hint: did you mean `completion` where the row has `completon`?",
        ),
        (
            r#"{"a": 1}"#.to_owned(),
            "hint: rename the keys, or name the columns of prompt and completion",
        ),
        (
            format!(r#"{{"messages": [{user}, {{"role": "asistant", "content": "b"}}]}}"#),
            "a.jsonl:2: unknown role `asistant` in `messages[1].role`, expected one of `system`, `developer`, `user`, \
             `assistant` and `tool`\nhint: did you mean `assistant`?",
        ),
        (
            format!(r#"{{"messages": [{user}, {{"role": "gpt", "content": "b"}}]}}"#),
            "hint: did you mean `assistant`?",
        ),
        (
            r#"{"conversations": [{"from": "robot", "value": "b"}]}"#.to_owned(),
            "unknown role `robot` in `conversations[0].from`",
        ),
        (
            r#"{"messages": []}"#.to_owned(),
            "a.jsonl:2: the list in `messages` has no messages\nhint: fill in or remove the row",
        ),
        (
            format!(r#"{{"messages": [{user}]}}"#),
            "a.jsonl:2: no turn of the assistant: expected at least one to learn from, found `user`\nhint: add the answer",
        ),
        (
            r#"{"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]}"#.to_owned(),
            "a.jsonl:2: expected text in `messages[0].content[0]`, found a part of the type `image_url`\nhint: only text",
        ),
        (
            r#"{"messages": [{"role": "user", "content": 5}]}"#.to_owned(),
            "expected text in `messages[0].content`, found a number",
        ),
        (
            format!(r#"{{"messages": [{user}, {{"role": "assistant", "contents": "b"}}]}}"#),
            "hint: did you mean `content` where the row has `contents`?",
        ),
        (
            format!(r#"{{"messages": [{user}, {{"role": "assistant", "content": " "}}]}}"#),
            "the text in column `messages[1].content` is empty",
        ),
        (
            r#"{"messages": "Hi"}"#.to_owned(),
            "expected a list of messages in `messages`, found a string",
        ),
        (
            r#"{"messages": ["Hi"]}"#.to_owned(),
            "expected an object with role and content in `messages[0]`, found a string",
        ),
        (
            format!(r#"{{"messages": [{user}], "tools": "x"}}"#),
            "expected an array of JSON schemas in `tools`, found a string",
        ),
        (
            r#"{"prompt": "Hi", "completion": ""}"#.to_owned(),
            "the text in column `completion` is empty",
        ),
        (r#"{"text": "  "}"#.to_owned(), "the text in column `text` is empty"),
        (r#"{"text": "#.to_owned(), "not valid JSON at byte column 9"),
        ("5".to_owned(), "expected a JSON object, found a number"),
    ] {
        let good = r#"{"text": "good"}"#;
        let content = format!("{good}\n{row}\n");
        let error = read_one("a.jsonl", &content, &ChatOptions::default()).unwrap_err();
        assert!(error.starts_with("a.jsonl:2: ") && error.contains(expect), "{row}:\n{error}");
        let options = ChatOptions {
            on_bad_example: OnBad::Skip,
            ..ChatOptions::default()
        };
        assert_eq!(read_one("a.jsonl", &content, &options).unwrap().len(), 1);
        let error = read_one("a.jsonl", &row, &options).unwrap_err();
        assert!(error.contains("all 1 rows are bad; the first, line 1"), "{error}");
    }
    let error = read_one(
        "a.json",
        "[{\"text\": \"a\"},\n{\"text\":",
        &ChatOptions::default(),
    );
    let error = error.unwrap_err();
    assert!(
        error.starts_with("a.json:2: the JSON array is never closed"),
        "{error}"
    );
}

#[test]
fn folders_give_one_text_a_file() {
    let dir = TempDir::new().unwrap();
    let error = read_conversations(dir.path(), &ChatOptions::default()).unwrap_err();
    assert!(matches!(error, DataError::NoTexts { .. }), "{error}");
    fs::create_dir(dir.path().join("b")).unwrap();
    for (name, content) in [
        ("b/2.md", "two"),
        ("a.TXT", "\u{FEFF}one"),
        ("x.csv", "text\nno\n"),
    ] {
        fs::write(dir.path().join(name), content).unwrap();
    }
    let read = read_conversations(dir.path(), &ChatOptions::default()).unwrap();
    let kinds: Vec<_> = read.rows.iter().map(|row| row.kind.clone()).collect();
    assert_eq!(
        kinds,
        ["one", "two"].map(|text| ChatKind::Text(text.to_owned()))
    );
    fs::write(dir.path().join("c.txt"), b"a\nb\xff").unwrap();
    let error = read_conversations(dir.path(), &ChatOptions::default())
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("c.txt:2: byte 0xff at byte column 2"),
        "{error}"
    );
    fs::write(dir.path().join("c.txt"), " \n").unwrap();
    let error = read_conversations(dir.path(), &ChatOptions::default())
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("c.txt: the text is empty\nhint: "),
        "{error}"
    );
}
