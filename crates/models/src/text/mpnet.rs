//! MPNet (Song et al. 2020) as transformers' `MPNetForSequenceClassification`, `MPNetForTokenClassification`, `MPNetForQuestionAnswering`
//! and `MPNetForMultipleChoice`: BERT's encoder with RoBERTa's positions and heads, without segment types, and a bias for the distance of two tokens in every layer's attention.

use super::{BERT_KEYS, EachDropout, HEAD_STREAM, Layout, bert_encoder, differs, finish};
use crate::{
    EncoderConfig, Modality, ModelConfig, ModelError,
    config::Reader,
    encoder::{BIAS_BUCKETS, RelativePositions},
    heads::{Dense, HeadConfig},
    pretrained::{Family, Found},
};
use rekindle_nn::params::NameMap;

/// The names of the encoder, then those of a head.
macro_rules! names {
    ($($head:expr),*) => {
        NameMap(&[
            ("backbone.embeddings.word", "mpnet.embeddings.word_embeddings"),
            ("backbone.embeddings.position", "mpnet.embeddings.position_embeddings"),
            ("backbone.embeddings.norm", "mpnet.embeddings.LayerNorm"),
            ("backbone.relative.table", "mpnet.encoder.relative_attention_bias"),
            ("backbone.layers.*.query", "mpnet.encoder.layer.*.attention.attn.q"),
            ("backbone.layers.*.key", "mpnet.encoder.layer.*.attention.attn.k"),
            ("backbone.layers.*.value", "mpnet.encoder.layer.*.attention.attn.v"),
            ("backbone.layers.*.attention_output", "mpnet.encoder.layer.*.attention.attn.o"),
            ("backbone.layers.*.attention_norm", "mpnet.encoder.layer.*.attention.LayerNorm"),
            ("backbone.layers.*.intermediate", "mpnet.encoder.layer.*.intermediate.dense"),
            ("backbone.layers.*.output", "mpnet.encoder.layer.*.output.dense"),
            ("backbone.layers.*.output_norm", "mpnet.encoder.layer.*.output.LayerNorm"),
            $($head),*
        ])
    };
}

const NAMES: NameMap = names!(
    ("head.dense", "classifier.dense"),
    ("head.out", "classifier.out_proj")
);

const TOKEN_NAMES: NameMap = names!(("head.out", "classifier"));

const SPAN_NAMES: NameMap = names!(("head.out", "qa_outputs"));

const CHOICE_NAMES: NameMap = names!(
    ("head.dense", "mpnet.pooler.dense"),
    ("head.out", "classifier")
);

const LAYOUT: Layout = Layout {
    root: "mpnet.",
    head: &["classifier.dense.", "classifier.out_proj."],
    others: &[
        ("lm_head.", "the pretraining head"),
        ("classifier.weight", "a head for tokens or choices"),
        ("classifier.bias", "a head for tokens or choices"),
        ("qa_outputs.", "a head for questions and answers"),
    ],
};

/// The row of the first token's position: those before it are the padding's, whatever `pad_token_id` says.
const FIRST_POSITION: usize = 2;

pub(crate) static FAMILY: Family = Family {
    name: "mpnet",
    class: "MPNet",
    modality: Modality::Text,
    names: NAMES,
    head: "classifier",
    head_modules: &["classifier"],
    transposed: &[],
    in_files: None,
    token_names: Some(TOKEN_NAMES),
    span_names: Some(SPAN_NAMES),
    choice_names: Some(CHOICE_NAMES),
    pooler: Some("mpnet.pooler"),
    claims: |_| false,
    rule: |found, name| LAYOUT.rule(found, name),
    read,
};

fn read(found: &Found, family: &'static Family) -> Result<ModelConfig, ModelError> {
    let reader = Reader {
        raw: &found.raw,
        path: &found.path,
    };
    const ROWS: &str = "relative_attention_num_buckets";
    let rows = reader.size(ROWS, Some(BIAS_BUCKETS))?;
    if rows < BIAS_BUCKETS {
        return Err(reader.error(format!(
            "`{ROWS}` is {rows}, expected at least {BIAS_BUCKETS}: MPNet puts distances into {BIAS_BUCKETS} buckets"
        )));
    }
    let table = format!(
        "{}.weight",
        family.names.published("backbone.relative.table")
    );
    if let Some(expected) = found.dimension(&table, 0).filter(|&there| there != rows) {
        return Err(differs(found, (ROWS, rows), expected, &table));
    }
    let encoder = EncoderConfig {
        first_position: FIRST_POSITION,
        type_vocab_size: 0,
        relative: Some(RelativePositions::Bias { rows }),
        ..bert_encoder(&reader)?
    };
    let head = HeadConfig {
        width: encoder.hidden_size,
        dense: Dense::DroppedTanh,
        dropout: encoder.hidden_dropout,
        std: encoder.initializer_range,
        stream: HEAD_STREAM,
    };
    let each = EachDropout {
        tokens: head.dropout,
        spans: 0.0,
    };
    let choice_head = HeadConfig {
        dense: Dense::Tanh,
        ..head
    };
    Ok(ModelConfig {
        choice_head: Some(choice_head),
        ..finish(found, family, encoder, &BERT_KEYS, (head, each))?
    })
}
