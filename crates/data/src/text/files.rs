//! A model directory's tokenizer files, read as transformers 5 reads them (`TokenizersBackend` in
//! `tokenization_utils_tokenizers.py`, and the classes in `models/{bert,mpnet,roberta,xlm_roberta,deberta_v2}/tokenization_*.py`).
//!
//! What we take over from there:
//! - truncation and padding stored in `tokenizer.json` do not count, but the truncation's side does, unless
//!   `tokenizer_config.json` has `truncation_side`;
//! - BERT's tokenizers and MPNet's take only the vocabulary from `tokenizer.json`: lower-casing, accents and the spacing of Chinese
//!   characters are those of `tokenizer_config.json` (or their defaults), the rest is the class's;
//! - RoBERTa's and XLM-RoBERTa's take their pre-tokenizer and post-processor from the class, RoBERTa's with
//!   `add_prefix_space` of `tokenizer_config.json`;
//! - DeBERTa-v2's takes all but the vocabulary from the class: the map of its SentencePiece model does not count;
//! - token types are given where `model_input_names` of `tokenizer_config.json` has them; without it BERT's and DeBERTa's
//!   classes give them, others (a generic `PreTrainedTokenizerFast` too) do not;
//! - tokens that `tokenizer_config.json` (or the older files beside it) adds are not split, also where `tokenizer.json` lacks them;
//! - without `tokenizer.json`, BERT's and MPNet's tokenizers are made from `vocab.txt`, RoBERTa's from `vocab.json` and `merges.txt`,
//!   XLM-RoBERTa's from `sentencepiece.bpe.model`, DeBERTa-v2's from `spm.model`.
//!
//! The `tokenizers` crate panics on some damaged files, and takes minutes over others; see [`build`].

use std::path::{Path, PathBuf};
use std::{collections::HashSet, fs};

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::{Map, Value, json};
use tokenizers::normalizers::{BertNormalizer, Precompiled};
use tokenizers::{
    AddedToken, ModelWrapper, NormalizedString, Normalizer, NormalizerWrapper,
    PostProcessorWrapper, PreTokenizerWrapper, Tokenizer, TruncationDirection,
};

use super::sentencepiece::{self, PieceType};
use crate::DataError;
use crate::guard::guarded;

/// Model types and tokenizer classes (less `Tokenizer`, `TokenizerFast`) that are BERT's tokenizer.
const BERT_MODEL_TYPES: &[&str] = &[
    "bert",
    "distilbert",
    "electra",
    "mobilebert",
    "squeezebert",
    "convbert",
    "megatron-bert",
    "nomic_bert",
    "retribert",
];
const BERT_CLASSES: &[&str] = &[
    "Bert",
    "DistilBert",
    "Electra",
    "MobileBert",
    "SqueezeBert",
    "ConvBert",
    "Retribert",
    "LayoutLM",
];
/// The same of RoBERTa's tokenizer.
const ROBERTA_MODEL_TYPES: &[&str] = &["roberta", "roberta-prelayernorm", "longformer"];
const ROBERTA_CLASSES: &[&str] = &["Roberta", "Longformer"];
/// The same of XLM-RoBERTa's tokenizer.
const XLM_ROBERTA_MODEL_TYPES: &[&str] = &["xlm-roberta"];
const XLM_ROBERTA_CLASSES: &[&str] = &["XLMRoberta"];
/// The same of MPNet's tokenizer.
const MPNET_MODEL_TYPES: &[&str] = &["mpnet"];
const MPNET_CLASSES: &[&str] = &["MPNet"];
/// The same of DeBERTa-v2's tokenizer.
const DEBERTA_MODEL_TYPES: &[&str] = &["deberta-v2"];
const DEBERTA_CLASSES: &[&str] = &["DebertaV2"];

/// transformers' mark for "no limit" is 1e30; anything above this is none.
const LARGE: f64 = 1e20;
/// A tokenizer file may be so large, in bytes. The largest in use are a few tens of megabytes.
const FILE: u64 = 256 << 20;
/// How many times longer a normaliser may make a text. Unicode's own compatibility forms stay below 20.
const GROWTH: usize = 64;

/// Which tokenizer of transformers a directory's is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Class {
    Bert,
    Roberta,
    XlmRoberta,
    Mpnet,
    DebertaV2,
    /// Whatever `tokenizer.json` says.
    Other,
}

pub(crate) struct TokenizerFiles {
    pub tokenizer: Tokenizer,
    /// The file with the vocabulary, for messages.
    pub path: PathBuf,
    pub model_max_length: Option<usize>,
    pub truncation_side: TruncationDirection,
    /// Whether models are given token types; elsewhere every token is of type 0.
    pub gives_types: bool,
}

/// What is known of a directory besides its vocabulary.
struct Settings {
    /// `tokenizer_config.json`.
    config: Map<String, Value>,
    /// `special_tokens_map.json`.
    special: Map<String, Value>,
    /// `added_tokens.json`, of older tokenizers.
    added: Map<String, Value>,
    class: Class,
    /// Rows of the model's table of tokens, where a `config.json` says so.
    rows: Option<usize>,
}

pub(crate) fn load(dir: &Path) -> Result<TokenizerFiles, DataError> {
    load_with(dir, false)
}

/// The same for words that are encoded alone: `AutoTokenizer.from_pretrained(dir, add_prefix_space=True)`. Unlike there, a
/// pre-tokenizer of bytes has the prefix space whatever the tokenizer's class.
pub(crate) fn load_for_words(dir: &Path) -> Result<TokenizerFiles, DataError> {
    let mut files = load_with(dir, true)?;
    if let Some(pre_tokenizer) = files.tokenizer.get_pre_tokenizer().cloned() {
        let pre_tokenizer = with_prefix_space(pre_tokenizer);
        files.tokenizer.with_pre_tokenizer(Some(pre_tokenizer));
    }
    Ok(files)
}

/// A pre-tokenizer that takes each text as if a space stood before it, if it is one of bytes.
fn with_prefix_space(pre_tokenizer: PreTokenizerWrapper) -> PreTokenizerWrapper {
    match pre_tokenizer {
        PreTokenizerWrapper::ByteLevel(bytes) => {
            PreTokenizerWrapper::ByteLevel(bytes.add_prefix_space(true))
        }
        other => other,
    }
}

fn load_with(dir: &Path, prefix_space: bool) -> Result<TokenizerFiles, DataError> {
    let mut config = object(&dir.join("tokenizer_config.json"))?.unwrap_or_default();
    if prefix_space {
        config.insert("add_prefix_space".to_owned(), true.into());
    }
    let model = object(&dir.join("config.json"))?.unwrap_or_default();
    let settings = Settings {
        special: object(&dir.join("special_tokens_map.json"))?.unwrap_or_default(),
        added: object(&dir.join("added_tokens.json"))?.unwrap_or_default(),
        class: class(&model, &config),
        rows: model
            .get("vocab_size")
            .and_then(Value::as_u64)
            .map(|rows| rows as usize),
        config,
    };
    let gives_types = settings.gives_types();
    let (path, mut tokenizer) = build(dir, &settings)?;
    let failed = |error: tokenizers::Error| DataError::Tokenizer {
        path: path.clone(),
        message: error.to_string(),
    };

    let config = &settings.config;
    let truncation_side = match config.get("truncation_side").and_then(Value::as_str) {
        Some("left") => TruncationDirection::Left,
        Some(_) => TruncationDirection::Right,
        None => tokenizer
            .get_truncation()
            .map_or(TruncationDirection::Right, |stored| stored.direction),
    };
    tokenizer.with_truncation(None).map_err(failed)?;
    tokenizer.with_padding(None);
    tokenizer.set_encode_special_tokens(settings.flag("split_special_tokens") == Some(true));
    if let Some(normalizer) = tokenizer.get_normalizer() {
        guarded(|| check_growth(normalizer))
            .and_then(|checked| checked)
            .map_err(|message| DataError::Tokenizer {
                path: path.clone(),
                message,
            })?;
    }

    Ok(TokenizerFiles {
        tokenizer,
        path,
        model_max_length: longest(config),
        truncation_side,
        gives_types,
    })
}

/// The tokens at which the tokenizer of a model directory cuts a text, special ones included; `None` for no limit.
///
/// # Errors
/// When `tokenizer_config.json` cannot be read.
pub fn model_max_length(dir: &Path) -> Result<Option<usize>, DataError> {
    let config = object(&dir.join("tokenizer_config.json"))?;
    Ok(config.and_then(|config| longest(&config)))
}

/// `model_max_length`, which older files call `max_len`.
fn longest(config: &Map<String, Value>) -> Option<usize> {
    let length = config.get("model_max_length").or(config.get("max_len"));
    length
        .and_then(Value::as_f64)
        .filter(|length| (1.0..LARGE).contains(length))
        .map(|length| length as usize)
}

/// Makes the tokenizer from the first file that there is. A panic on a damaged file is an error that names it.
fn build(dir: &Path, settings: &Settings) -> Result<(PathBuf, Tokenizer), DataError> {
    let (tokenizer_json, vocab_txt) = (dir.join("tokenizer.json"), dir.join("vocab.txt"));
    let (vocab_json, pieces) = (dir.join("vocab.json"), dir.join("sentencepiece.bpe.model"));
    let (merges_txt, spm) = (dir.join("merges.txt"), dir.join("spm.model"));
    let (path, made) = if let Some(json) = read(&tokenizer_json)? {
        (tokenizer_json, guarded(|| from_json(&json, settings)))
    } else if let Some(vocab) = read(&vocab_txt)? {
        let made = guarded(|| from_vocab(&vocab, settings));
        (vocab_txt, made)
    } else if settings.class == Class::Roberta && vocab_json.exists() && merges_txt.exists() {
        let vocab = object(&vocab_json)?.unwrap_or_default();
        let merges = read(&merges_txt)?.unwrap_or_default();
        // The merges name tokens of the vocabulary: a mistake shows there.
        let made = guarded(|| from_merges(vocab, &merges, settings));
        (merges_txt, made)
    } else if settings.class == Class::XlmRoberta && pieces.exists() {
        let bytes = bytes(&pieces)?.unwrap_or_default();
        let made = guarded(|| from_pieces(&bytes, settings));
        (pieces, made)
    } else if settings.class == Class::DebertaV2 && spm.exists() {
        let bytes = bytes(&spm)?.unwrap_or_default();
        let made = guarded(|| from_spm(&bytes, settings));
        (spm, made)
    } else {
        return Err(DataError::NoTokenizer {
            dir: dir.to_owned(),
        });
    };
    match made {
        Ok(Ok(tokenizer)) => Ok((path, tokenizer)),
        Ok(Err(message)) => Err(DataError::Tokenizer { path, message }),
        Err(panic) => Err(DataError::Tokenizer {
            path,
            message: format!("its parts do not fit together ({panic})"),
        }),
    }
}

/// The tokenizer of a `tokenizer.json`, with what the class overrides.
fn from_json(json: &str, settings: &Settings) -> Result<Tokenizer, String> {
    check_merges(json)?;
    let mut tokenizer = Tokenizer::from_bytes(json).map_err(text)?;
    match (
        settings.class,
        tokenizer.get_model(),
        tokenizer.get_normalizer(),
    ) {
        (Class::Bert, ModelWrapper::WordPiece(_), _) => settings.make_bert(&mut tokenizer)?,
        (Class::Roberta, ModelWrapper::BPE(_), _) => settings.make_roberta(&mut tokenizer)?,
        (Class::XlmRoberta, ModelWrapper::Unigram(_), normalizer) => {
            let charsmap = normalizer.and_then(precompiled).cloned();
            settings.make_xlm_roberta(&mut tokenizer, charsmap)?;
        }
        (Class::Mpnet, ModelWrapper::WordPiece(_), _) => settings.make_mpnet(&mut tokenizer)?,
        (Class::DebertaV2, ModelWrapper::Unigram(_), _) => settings.make_deberta(&mut tokenizer)?,
        _ => {}
    }
    settings.add_missing(&mut tokenizer)?;
    Ok(tokenizer)
}

/// The map of a SentencePiece normaliser, the first if there are several.
fn precompiled(normalizer: &NormalizerWrapper) -> Option<&Precompiled> {
    match normalizer {
        NormalizerWrapper::Precompiled(charsmap) => Some(charsmap),
        NormalizerWrapper::Sequence(steps) => steps.as_ref().iter().find_map(precompiled),
        _ => None,
    }
}

/// The tokenizer that RoBERTa's class makes of its two files.
fn from_merges(
    vocab: Map<String, Value>,
    merges: &str,
    settings: &Settings,
) -> Result<Tokenizer, String> {
    let mut pairs = Vec::new();
    for (line, number) in merges.lines().zip(1..) {
        if line.trim().is_empty() || line.starts_with("#version") {
            continue;
        }
        let (first, second) = line
            .split_once(' ')
            .filter(|(_, second)| !second.contains(' '))
            .ok_or_else(|| format!("line {number}: expected two tokens with a space between"))?;
        pairs.push([first, second]);
    }
    let mut tokenizer = of_model(json!({
        "type": "BPE",
        "continuing_subword_prefix": "",
        "end_of_word_suffix": "",
        "vocab": vocab,
        "merges": pairs,
    }))?;
    tokenizer.with_decoder(Some(tokenizers::decoders::byte_level::ByteLevel::default()));
    settings.add_tokens(&mut tokenizer, &ROBERTA_SPECIAL, Vec::new())?;
    settings.make_roberta(&mut tokenizer)?;
    Ok(tokenizer)
}

/// The tokenizer that XLM-RoBERTa's class makes of a SentencePiece model: fairseq's four special tokens instead of the
/// model's first three, so that every piece's id is one more than there, and the mask behind all.
fn from_pieces(bytes: &[u8], settings: &Settings) -> Result<Tokenizer, String> {
    let model = sentencepiece::parse(bytes)?;
    if !model.is_unigram {
        return Err("expected a Unigram model, found another kind".to_owned());
    }
    let special = |role: &str, default: &str| settings.token(role, default);
    let first = [
        special("bos_token", "<s>"),
        special("pad_token", "<pad>"),
        special("eos_token", "</s>"),
        special("unk_token", "<unk>"),
    ];
    let pieces = model.pieces.iter().skip(3);
    let vocab: Vec<(String, f64)> = first
        .into_iter()
        .map(|token| (token, 0.0))
        .chain(pieces.map(|piece| (piece.text.clone(), f64::from(piece.score))))
        .chain([(special("mask_token", "<mask>"), 0.0)])
        .collect();
    let mut tokenizer = of_model(json!({
        "type": "Unigram", "unk_id": 3, "byte_fallback": false, "vocab": vocab,
    }))?;
    settings.add_tokens(&mut tokenizer, &ROBERTA_SPECIAL, symbols(&model))?;
    let charsmap = match model.charsmap.is_empty() {
        true => None,
        false => Some(Precompiled::from(&model.charsmap).map_err(|error| error.to_string())?),
    };
    settings.make_xlm_roberta(&mut tokenizer, charsmap)?;
    Ok(tokenizer)
}

/// The control symbols of a SentencePiece model and those that are never divided.
fn symbols(model: &sentencepiece::Model) -> Vec<AddedToken> {
    let pieces = model.pieces.iter();
    let symbols =
        pieces.filter(|piece| matches!(piece.kind, PieceType::Control | PieceType::UserDefined));
    symbols
        .map(|piece| {
            AddedToken::from(piece.text.clone(), piece.kind == PieceType::Control).normalized(false)
        })
        .collect()
}

/// The tokenizer that DeBERTa-v2's class makes of a SentencePiece model: its pieces with their own ids, and behind them what it
/// lacks of the special tokens.
fn from_spm(bytes: &[u8], settings: &Settings) -> Result<Tokenizer, String> {
    let model = sentencepiece::parse(bytes)?;
    if !model.is_unigram {
        return Err("expected a Unigram model, found another kind".to_owned());
    }
    let unk = settings.token("unk_token", "[UNK]");
    let named = |piece: &sentencepiece::Piece| piece.text == unk && piece.score == 0.0;
    let other = |piece: &sentencepiece::Piece| piece.kind == PieceType::Other;
    let found = model.pieces.iter().position(named);
    let unk_id = found.or_else(|| model.pieces.iter().position(other));
    let pieces = model.pieces.iter();
    let vocab: Vec<(&str, f64)> = pieces
        .map(|piece| (piece.text.as_str(), f64::from(piece.score)))
        .collect();
    let mut tokenizer = of_model(json!({
        "type": "Unigram", "unk_id": unk_id, "byte_fallback": false, "vocab": vocab,
    }))?;
    settings.add_tokens(&mut tokenizer, &DEBERTA_SPECIAL, symbols(&model))?;
    settings.make_deberta(&mut tokenizer)?;
    Ok(tokenizer)
}

/// A tokenizer that is nothing but a model.
fn of_model(model: Value) -> Result<Tokenizer, String> {
    let json = json!({ "version": "1.0", "added_tokens": [], "model": model });
    Tokenizer::from_bytes(json.to_string()).map_err(text)
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

/// Roles of RoBERTa's special tokens and what they are by default, in the order in which transformers adds them.
const ROBERTA_SPECIAL: [(&str, &str); 7] = [
    ("bos_token", "<s>"),
    ("eos_token", "</s>"),
    ("unk_token", "<unk>"),
    ("sep_token", "</s>"),
    ("pad_token", "<pad>"),
    ("cls_token", "<s>"),
    ("mask_token", "<mask>"),
];

/// The same of DeBERTa-v2's.
const DEBERTA_SPECIAL: [(&str, &str); 7] = [
    ("bos_token", "[CLS]"),
    ("eos_token", "[SEP]"),
    ("unk_token", "[UNK]"),
    ("sep_token", "[SEP]"),
    ("pad_token", "[PAD]"),
    ("cls_token", "[CLS]"),
    ("mask_token", "[MASK]"),
];

impl Settings {
    /// The entry of a special token's role in the configuration.
    fn named(&self, role: &str) -> Option<&Value> {
        self.config.get(role).or_else(|| self.special.get(role))
    }

    /// The special token of a role.
    fn token(&self, role: &str, default: &str) -> String {
        let content = self
            .named(role)
            .and_then(|token| token.as_str().or_else(|| token.get("content")?.as_str()));
        content.unwrap_or(default).to_owned()
    }

    fn gives_types(&self) -> bool {
        if let Some(names) = self
            .config
            .get("model_input_names")
            .and_then(Value::as_array)
        {
            return names.iter().any(|name| name == "token_type_ids");
        }
        match named_class(&self.config) {
            Some("DistilBert") => false,
            Some("Deberta" | "DebertaV2") => true,
            _ => matches!(self.class, Class::Bert | Class::DebertaV2),
        }
    }

    fn flag(&self, name: &str) -> Option<bool> {
        self.config.get(name).and_then(Value::as_bool)
    }

    fn bert_normalizer(&self) -> BertNormalizer {
        let clean_text = true;
        let handle_chinese_chars = self.flag("tokenize_chinese_chars").unwrap_or(true);
        let lowercase = self.flag("do_lower_case").unwrap_or(true);
        BertNormalizer::new(
            clean_text,
            handle_chinese_chars,
            self.flag("strip_accents"),
            lowercase,
        )
    }

    /// The tokens that the configuration adds, or an older file, by their ids.
    fn listed(&self) -> Result<Vec<AddedToken>, String> {
        let mut tokens: Vec<(u64, AddedToken)> = Vec::new();
        let listed = self
            .config
            .get("added_tokens_decoder")
            .and_then(Value::as_object);
        for (id, token) in listed.into_iter().flatten() {
            let id = id
                .parse()
                .map_err(|_| format!("added_tokens_decoder: `{id}` is no id"))?;
            tokens.extend(added(token, false).map(|token| (id, token)));
        }
        let special = self.with_roles().chain(extra_in(&self.config));
        let special: HashSet<String> = special.map(|token| token.content).collect();
        for (token, id) in &self.added {
            let is_special = special.contains(token);
            tokens.push((
                id.as_u64().unwrap_or(u64::MAX),
                AddedToken::from(token.clone(), is_special),
            ));
        }
        tokens.sort_by_key(|(id, _)| *id);
        Ok(tokens.into_iter().map(|(_, token)| token).collect())
    }

    /// The special tokens that the configuration names by their roles.
    fn with_roles(&self) -> impl Iterator<Item = AddedToken> {
        let named = ROBERTA_SPECIAL
            .iter()
            .filter_map(|(role, _)| self.named(role));
        named.filter_map(|token| added(token, true))
    }

    /// Special tokens without a role of their own.
    fn extra(&self) -> Vec<AddedToken> {
        // What stands beside the list of added tokens is not read where there is one.
        let older = match self.config.contains_key("added_tokens_decoder") {
            true => None,
            false => Some(&self.special),
        };
        let files = [Some(&self.config), older].into_iter().flatten();
        files.flat_map(extra_in).collect()
    }

    /// Adds what a tokenizer file lacks of the tokens that the configuration adds, and of the special ones. Those that are not in
    /// the vocabulary come behind it, as long as the model has rows for them.
    fn add_missing(&self, tokenizer: &mut Tokenizer) -> Result<(), String> {
        let known: HashSet<String> = tokenizer
            .get_added_tokens_decoder()
            .into_values()
            .map(|token| token.content)
            .collect();
        let special = self.with_roles().chain(self.extra());
        let listed = self.listed()?.into_iter().map(|token| (token, true));
        let tokens = listed.chain(special.map(|token| (token, false)));
        for (token, is_listed) in tokens {
            let room = || (self.rows).is_some_and(|rows| tokenizer.get_vocab_size(true) < rows);
            let fits = is_listed || tokenizer.token_to_id(&token.content).is_some() || room();
            if fits && !known.contains(&token.content) {
                add(tokenizer, vec![token])?;
            }
        }
        Ok(())
    }

    /// Adds tokens as transformers does: those of the configuration by their ids, then the special ones, then `others`.
    fn add_tokens(
        &self,
        tokenizer: &mut Tokenizer,
        special: &[(&str, &str)],
        others: Vec<AddedToken>,
    ) -> Result<(), String> {
        let mut tokens = self.listed()?;
        let special = special.iter().map(|(role, default)| {
            let named = self.named(role).and_then(|token| added(token, true));
            named.unwrap_or_else(|| AddedToken::from((*default).to_owned(), true))
        });
        for token in special.chain(others).chain(self.extra()) {
            if tokens.iter().all(|other| other.content != token.content) {
                tokens.push(token);
            }
        }
        add(tokenizer, tokens)
    }

    /// What `BertTokenizer` puts around its model.
    fn make_bert(&self, tokenizer: &mut Tokenizer) -> Result<(), String> {
        let (sep, cls) = (
            self.token("sep_token", "[SEP]"),
            self.token("cls_token", "[CLS]"),
        );
        let processor = json!({
            "type": "BertProcessing",
            "sep": [sep, id(tokenizer, &sep)?],
            "cls": [cls, id(tokenizer, &cls)?],
        });
        let normalizer = NormalizerWrapper::BertNormalizer(self.bert_normalizer());
        set(
            tokenizer,
            Some(normalizer),
            json!({ "type": "BertPreTokenizer" }),
            processor,
        )
    }

    /// What `MPNetTokenizer` puts around its model.
    fn make_mpnet(&self, tokenizer: &mut Tokenizer) -> Result<(), String> {
        let (sep, cls) = (
            self.token("sep_token", "</s>"),
            self.token("cls_token", "<s>"),
        );
        let processor = json!({
            "type": "RobertaProcessing",
            "sep": [sep, id(tokenizer, &sep)?],
            "cls": [cls, id(tokenizer, &cls)?],
            "trim_offsets": true,
            "add_prefix_space": false,
        });
        let normalizer = NormalizerWrapper::BertNormalizer(self.bert_normalizer());
        set(
            tokenizer,
            Some(normalizer),
            json!({ "type": "BertPreTokenizer" }),
            processor,
        )
    }

    /// What `DebertaV2Tokenizer` puts around its model.
    fn make_deberta(&self, tokenizer: &mut Tokenizer) -> Result<(), String> {
        let lowercase = self.flag("do_lower_case") == Some(true);
        let mut normalizers = Vec::new();
        normalizers.extend(lowercase.then(|| json!({ "type": "Lowercase" })));
        normalizers.extend([
            json!({ "type": "Replace", "pattern": { "Regex": r"\s{2,}|[\n\r\t]" }, "content": " " }),
            json!({ "type": "NFC" }),
            json!({ "type": "Strip", "strip_left": false, "strip_right": true }),
        ]);
        let normalizer = json!({ "type": "Sequence", "normalizers": normalizers });
        let normalizer: NormalizerWrapper = serde_json::from_value(normalizer).map_err(text)?;
        let scheme = match self.flag("add_prefix_space").unwrap_or(true) {
            true => "always",
            false => "first",
        };
        let by_punctuation = self.flag("split_by_punct") == Some(true);
        let mut steps = Vec::new();
        steps.extend(
            by_punctuation.then(|| json!({ "type": "Punctuation", "behavior": "Isolated" })),
        );
        steps.push(json!({
            "type": "Metaspace", "replacement": "\u{2581}", "prepend_scheme": scheme, "split": true,
        }));
        let (cls, sep) = (
            self.token("cls_token", "[CLS]"),
            self.token("sep_token", "[SEP]"),
        );
        let special =
            |token: &str, of: u32| json!({ "SpecialToken": { "id": token, "type_id": of } });
        let sequence = |name: &str, of: u32| json!({ "Sequence": { "id": name, "type_id": of } });
        let entry = |token: &str| -> Result<Value, String> {
            Ok(json!({ "id": token, "ids": [id(tokenizer, token)?], "tokens": [token] }))
        };
        let processor = json!({
            "type": "TemplateProcessing",
            "single": [special(&cls, 0), sequence("A", 0), special(&sep, 0)],
            "pair": [
                special(&cls, 0), sequence("A", 0), special(&sep, 0), sequence("B", 1), special(&sep, 1),
            ],
            "special_tokens": { &cls: entry(&cls)?, &sep: entry(&sep)? },
        });
        let steps = json!({ "type": "Sequence", "pretokenizers": steps });
        set(tokenizer, Some(normalizer), steps, processor)
    }

    /// What `RobertaTokenizer` puts around its model.
    fn make_roberta(&self, tokenizer: &mut Tokenizer) -> Result<(), String> {
        let add_prefix_space = self.flag("add_prefix_space").unwrap_or(false);
        let trim_offsets = self.flag("trim_offsets").unwrap_or(true);
        let (sep, cls) = (
            self.token("sep_token", "</s>"),
            self.token("cls_token", "<s>"),
        );
        let processor = json!({
            "type": "RobertaProcessing",
            "sep": [sep, id(tokenizer, &sep)?],
            "cls": [cls, id(tokenizer, &cls)?],
            "trim_offsets": trim_offsets,
            "add_prefix_space": add_prefix_space,
        });
        let pre_tokenizer = json!({
            "type": "ByteLevel", "add_prefix_space": add_prefix_space, "trim_offsets": true, "use_regex": true,
        });
        set(tokenizer, None, pre_tokenizer, processor)
    }

    /// What `XLMRobertaTokenizer` puts around its model.
    fn make_xlm_roberta(
        &self,
        tokenizer: &mut Tokenizer,
        charsmap: Option<Precompiled>,
    ) -> Result<(), String> {
        let scheme = match self.flag("add_prefix_space").unwrap_or(true) {
            true => "always",
            false => "never",
        };
        let pre_tokenizer = json!({
            "type": "Sequence",
            "pretokenizers": [
                { "type": "WhitespaceSplit" },
                { "type": "Metaspace", "replacement": "\u{2581}", "prepend_scheme": scheme, "split": true },
            ],
        });
        let (bos, eos) = (
            self.token("bos_token", "<s>"),
            self.token("eos_token", "</s>"),
        );
        let special = |token: &str| json!({ "SpecialToken": { "id": token, "type_id": 0 } });
        let sequence = |name: &str| json!({ "Sequence": { "id": name, "type_id": 0 } });
        let entry = |token: &str| -> Result<Value, String> {
            Ok(json!({ "id": token, "ids": [id(tokenizer, token)?], "tokens": [token] }))
        };
        let processor = json!({
            "type": "TemplateProcessing",
            "single": [special(&bos), sequence("A"), special(&eos)],
            "pair": [
                special(&bos), sequence("A"), special(&eos),
                special(&eos), sequence("B"), special(&eos),
            ],
            "special_tokens": { &bos: entry(&bos)?, &eos: entry(&eos)? },
        });
        let normalizer = charsmap.map(NormalizerWrapper::Precompiled);
        set(tokenizer, normalizer, pre_tokenizer, processor)
    }
}

/// Special tokens without a role of their own, as a file lists them.
fn extra_in(file: &Map<String, Value>) -> Vec<AddedToken> {
    let keys = ["extra_special_tokens", "additional_special_tokens"];
    let lists = keys.into_iter().filter_map(|key| file.get(key));
    let tokens = lists.flat_map(|list| match list {
        Value::Array(list) => list.iter().filter_map(|token| added(token, true)).collect(),
        Value::Object(named) => named
            .values()
            .filter_map(|token| added(token, true))
            .collect(),
        _ => Vec::new(),
    });
    tokens.collect()
}

/// Adds tokens, one after the other.
fn add(tokenizer: &mut Tokenizer, tokens: Vec<AddedToken>) -> Result<(), String> {
    for token in tokens {
        match token.special {
            true => tokenizer.add_special_tokens([token]),
            false => tokenizer.add_tokens([token]),
        }
        .map_err(text)?;
    }
    Ok(())
}

/// Sets what stands around a model.
fn set(
    tokenizer: &mut Tokenizer,
    normalizer: Option<NormalizerWrapper>,
    pre_tokenizer: Value,
    processor: Value,
) -> Result<(), String> {
    tokenizer.with_normalizer(normalizer).map_err(text)?;
    let pre_tokenizer: PreTokenizerWrapper = serde_json::from_value(pre_tokenizer).map_err(text)?;
    let processor: PostProcessorWrapper = serde_json::from_value(processor).map_err(text)?;
    tokenizer
        .with_pre_tokenizer(Some(pre_tokenizer))
        .with_post_processor(Some(processor));
    Ok(())
}

fn id(tokenizer: &Tokenizer, token: &str) -> Result<u32, String> {
    tokenizer
        .token_to_id(token)
        .ok_or_else(|| format!("expected the special token `{token}` in the vocabulary"))
}

/// A token of the configuration: its text, or an object with its properties.
fn added(token: &Value, special: bool) -> Option<AddedToken> {
    if let Some(content) = token.as_str() {
        return Some(AddedToken::from(content.to_owned(), special));
    }
    let flag = |name: &str| token.get(name).and_then(Value::as_bool);
    let special = special || flag("special").unwrap_or(false);
    let content = token.get("content")?.as_str()?.to_owned();
    Some(
        AddedToken::from(content, special)
            .single_word(flag("single_word").unwrap_or(false))
            .lstrip(flag("lstrip").unwrap_or(false))
            .rstrip(flag("rstrip").unwrap_or(false))
            .normalized(flag("normalized").unwrap_or(!special)),
    )
}

/// Refuses merges whose second token lacks the prefix of tokens that continue a word. The `tokenizers` crate cuts that
/// prefix off without looking.
fn check_merges(json: &str) -> Result<(), String> {
    #[derive(Deserialize)]
    struct File<M> {
        #[serde(default = "Option::default")]
        model: Option<M>,
    }
    #[derive(Deserialize)]
    struct Prefix {
        continuing_subword_prefix: Option<String>,
        merges: Option<IgnoredAny>,
    }
    #[derive(Deserialize)]
    struct Merges {
        merges: Vec<Value>,
    }
    // What is no valid file at all, the crate says better.
    let prefix = match serde_json::from_str(json) {
        Ok(File::<Prefix> {
            model:
                Some(Prefix {
                    continuing_subword_prefix: Some(prefix),
                    merges: Some(_),
                }),
        }) if !prefix.is_empty() => prefix,
        _ => return Ok(()),
    };
    let Ok(File::<Merges> { model: Some(model) }) = serde_json::from_str(json) else {
        return Ok(());
    };
    for merge in &model.merges {
        let second = match merge {
            Value::String(merge) => merge.split_once(' ').map(|(_, second)| second),
            merge => merge.get(1).and_then(Value::as_str),
        };
        if second.is_some_and(|second| !second.starts_with(&prefix)) {
            return Err(format!(
                "the second token of the merge {merge} does not start with `{prefix}`, the prefix of tokens that continue a word"
            ));
        }
    }
    Ok(())
}

/// Refuses a normaliser that makes a text many times longer: a few steps of "each character twice" fill any memory.
fn check_growth(normalizer: &NormalizerWrapper) -> Result<(), String> {
    let mut probe: String = (' '..='~').collect();
    probe.push_str(" é ü ß ﬁ … ½ 中文 日本語 한국어 عربي עברית हिन्दी ไทย 😀 e\u{301}\t\n");
    let most = probe.len() * GROWTH;
    let mut text = NormalizedString::from(probe);
    steps(normalizer, &mut |step| {
        step.normalize(&mut text).map_err(self::text)?;
        match text.get().len() > most {
            true => Err(format!(
                "its normaliser makes a text more than {GROWTH} times as long"
            )),
            false => Ok(()),
        }
    })
}

/// Calls `each` with the single steps of a normaliser.
fn steps(
    normalizer: &NormalizerWrapper,
    each: &mut dyn FnMut(&NormalizerWrapper) -> Result<(), String>,
) -> Result<(), String> {
    match normalizer {
        NormalizerWrapper::Sequence(sequence) => sequence
            .as_ref()
            .iter()
            .try_for_each(|step| steps(step, each)),
        step => each(step),
    }
}

/// Which tokenizer class transformers would take for this directory.
fn class(model: &Map<String, Value>, config: &Map<String, Value>) -> Class {
    /// Model types, and names of classes.
    const CLASSES: [(Class, &[&str], &[&str]); 5] = [
        (Class::Bert, BERT_MODEL_TYPES, BERT_CLASSES),
        (Class::Roberta, ROBERTA_MODEL_TYPES, ROBERTA_CLASSES),
        (
            Class::XlmRoberta,
            XLM_ROBERTA_MODEL_TYPES,
            XLM_ROBERTA_CLASSES,
        ),
        (Class::Mpnet, MPNET_MODEL_TYPES, MPNET_CLASSES),
        (Class::DebertaV2, DEBERTA_MODEL_TYPES, DEBERTA_CLASSES),
    ];
    let model_type = model.get("model_type").and_then(Value::as_str);
    let mut classes = CLASSES.into_iter();
    let found = match named_class(config) {
        Some(class) => classes.find(|(_, _, names)| names.contains(&class)),
        None => classes.find(|(_, types, _)| model_type.is_some_and(|name| types.contains(&name))),
    };
    found.map_or(Class::Other, |(class, ..)| class)
}

/// The tokenizer class that a configuration names, less `Tokenizer` and `Fast`.
fn named_class(config: &Map<String, Value>) -> Option<&str> {
    let class = config.get("tokenizer_class")?.as_str()?;
    Some(class.trim_end_matches("Fast").trim_end_matches("Tokenizer"))
}

/// The tokenizer that BERT's class, or MPNet's, makes of a `vocab.txt`.
fn from_vocab(vocab: &str, settings: &Settings) -> Result<Tokenizer, String> {
    let is_mpnet = settings.class == Class::Mpnet;
    let is_known = is_mpnet || settings.class == Class::Bert;
    if let Some(class) = named_class(&settings.config).filter(|_| !is_known) {
        return Err(format!(
            "tokenizer_config.json names the class `{class}`, and a vocab.txt alone is read as BERT's: expected a tokenizer.json, which AutoTokenizer.from_pretrained(...).save_pretrained(...) writes for most"
        ));
    }
    let ids: Map<String, Value> = vocab
        .lines()
        .zip(0u32..)
        .map(|(token, id)| (token.to_owned(), id.into()))
        .collect();
    let token = |role: &str, default: &str| settings.token(role, default);
    let id = |token: &str| -> Result<Value, String> {
        let lines = ids.len();
        ids.get(token)
            .cloned()
            .ok_or_else(|| format!("expected the special token `{token}` among its {lines} lines"))
    };
    let [cls, sep, pad, mask] = match is_mpnet {
        true => ["<s>", "</s>", "<pad>", "<mask>"],
        false => ["[CLS]", "[SEP]", "[PAD]", "[MASK]"],
    };
    let [unk, cls, sep] = [
        token("unk_token", "[UNK]"),
        token("cls_token", cls),
        token("sep_token", sep),
    ];
    let mut added_tokens = Vec::new();
    for special in [&unk, &sep, &cls] {
        added_tokens.push(added_token(special, id(special)?, true));
    }
    // Those that no text needs may be missing.
    for special in [token("pad_token", pad), token("mask_token", mask)] {
        let found = ids.get(&special).cloned();
        // MPNet's mask takes the space before it, unless the configuration describes it.
        let described = settings.named("mask_token").is_some_and(Value::is_object);
        let takes_space = is_mpnet && special == token("mask_token", mask) && !described;
        added_tokens.extend(found.map(|id| {
            let mut added = added_token(&special, id, true);
            added["lstrip"] = takes_space.into();
            added
        }));
    }
    added_tokens.sort_by_key(|token| token["id"].as_u64());
    let json = json!({
        "version": "1.0",
        "added_tokens": added_tokens,
        "decoder": { "type": "WordPiece", "prefix": "##", "cleanup": true },
        "model": {
            "type": "WordPiece",
            "unk_token": unk,
            "continuing_subword_prefix": "##",
            "max_input_chars_per_word": 100,
            "vocab": ids,
        },
    });
    let mut tokenizer = Tokenizer::from_bytes(json.to_string()).map_err(text)?;
    match is_mpnet {
        true => settings.make_mpnet(&mut tokenizer)?,
        false => settings.make_bert(&mut tokenizer)?,
    }
    settings.add_missing(&mut tokenizer)?;
    Ok(tokenizer)
}

fn added_token(content: &str, id: Value, special: bool) -> Value {
    json!({
        "id": id, "content": content, "special": special, "normalized": !special,
        "single_word": false, "lstrip": false, "rstrip": false,
    })
}

/// A JSON object file, if it is there.
pub(crate) fn object(path: &Path) -> Result<Option<Map<String, Value>>, DataError> {
    read(path)?
        .map(|text| {
            serde_json::from_str(&text).map_err(|error| DataError::Tokenizer {
                path: path.to_owned(),
                message: error.to_string(),
            })
        })
        .transpose()
}

/// A text file, if it is there.
pub(crate) fn read(path: &Path) -> Result<Option<String>, DataError> {
    let Some(bytes) = bytes(path)? else {
        return Ok(None);
    };
    String::from_utf8(bytes)
        .map(Some)
        .map_err(|error| DataError::Tokenizer {
            path: path.to_owned(),
            message: format!("byte {} is not UTF-8", error.utf8_error().valid_up_to()),
        })
}

/// A file's bytes, if it is there.
fn bytes(path: &Path) -> Result<Option<Vec<u8>>, DataError> {
    let io = |source| DataError::Io {
        path: path.to_owned(),
        source,
    };
    match fs::metadata(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(io(error)),
        Ok(metadata) if metadata.len() > FILE => {
            return Err(DataError::Tokenizer {
                path: path.to_owned(),
                message: format!("it has {} bytes, expected at most {FILE}", metadata.len()),
            });
        }
        Ok(_) => {}
    }
    fs::read(path).map(Some).map_err(io)
}
