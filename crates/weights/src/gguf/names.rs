//! The names and layouts of tensors: GGUF's and Hugging Face's, both ways, for each architecture. The differences are those
//! that llama.cpp's `convert_hf_to_gguf.py` makes.

/// A family of models, as `general.architecture` names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Architecture {
    /// Llama 1 to 3, and Mistral.
    Llama,
    SmolLm3,
    Qwen2,
    Qwen3,
    Gemma2,
    Gemma3,
    Phi3,
    Gpt2,
}

/// How a tensor in GGUF differs from the one in a Hugging Face checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Layout {
    /// Not at all.
    Same,
    /// The rows of each head interleave the two halves that rotate together; of all heads.
    RopeQueries,
    /// The same, of the key heads.
    RopeKeys,
    /// Transposed: GPT-2's `Conv1D` is `[in, out]`.
    Transposed,
    /// One larger: Gemma's norms multiply by `1 + weight`.
    PlusOne,
}

/// Tensors outside the blocks: GGUF's name, Hugging Face's.
const OUTSIDE: &[(&str, &str)] = &[
    ("token_embd", "model.embed_tokens"),
    ("output_norm", "model.norm"),
    ("output", "lm_head"),
];
const OUTSIDE_GPT2: &[(&str, &str)] = &[
    ("token_embd", "transformer.wte"),
    ("position_embd", "transformer.wpe"),
    ("output_norm", "transformer.ln_f"),
    ("output", "lm_head"),
];
const ATTENTION: [(&str, &str); 9] = [
    ("attn_norm", "input_layernorm"),
    ("attn_q", "self_attn.q_proj"),
    ("attn_k", "self_attn.k_proj"),
    ("attn_v", "self_attn.v_proj"),
    ("attn_output", "self_attn.o_proj"),
    ("attn_q_norm", "self_attn.q_norm"),
    ("attn_k_norm", "self_attn.k_norm"),
    ("ffn_gate", "mlp.gate_proj"),
    ("ffn_down", "mlp.down_proj"),
];
const LLAMA: &[(&str, &str)] = &[
    ("ffn_norm", "post_attention_layernorm"),
    ("ffn_up", "mlp.up_proj"),
];
const GEMMA: &[(&str, &str)] = &[
    ("post_attention_norm", "post_attention_layernorm"),
    ("ffn_norm", "pre_feedforward_layernorm"),
    ("post_ffw_norm", "post_feedforward_layernorm"),
    ("ffn_up", "mlp.up_proj"),
];
const PHI3: &[(&str, &str)] = &[
    ("ffn_norm", "post_attention_layernorm"),
    ("attn_qkv", "self_attn.qkv_proj"),
    ("ffn_up", "mlp.gate_up_proj"),
];
const GPT2: &[(&str, &str)] = &[
    ("attn_norm", "ln_1"),
    ("attn_qkv", "attn.c_attn"),
    ("attn_output", "attn.c_proj"),
    ("ffn_norm", "ln_2"),
    ("ffn_up", "mlp.c_fc"),
    ("ffn_down", "mlp.c_proj"),
];

impl Architecture {
    /// All of them.
    const ALL: [Self; 8] = [
        Self::Llama,
        Self::SmolLm3,
        Self::Qwen2,
        Self::Qwen3,
        Self::Gemma2,
        Self::Gemma3,
        Self::Phi3,
        Self::Gpt2,
    ];

    /// `general.architecture`, which is also the prefix of its metadata.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Llama => "llama",
            Self::SmolLm3 => "smollm3",
            Self::Qwen2 => "qwen2",
            Self::Qwen3 => "qwen3",
            Self::Gemma2 => "gemma2",
            Self::Gemma3 => "gemma3",
            Self::Phi3 => "phi3",
            Self::Gpt2 => "gpt2",
        }
    }

    /// The architecture of a name.
    pub(super) fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|known| known.name() == name)
    }

    /// The architecture that a `model_type` of `config.json` is written as.
    pub(super) fn from_model_type(model_type: &str) -> Option<Self> {
        match model_type {
            "mistral" => Some(Self::Llama),
            "gemma3_text" => Some(Self::Gemma3),
            "gemma3" => None, // With a picture encoder, which is a file of its own.
            name => Self::from_name(name),
        }
    }

    /// All names, for messages.
    pub(super) fn all_names() -> String {
        Self::ALL.map(Self::name).join(", ")
    }

    /// Whether its heads rotate interleaved pairs, as ggml's first kind of rope does.
    fn has_interleaved_rope(self) -> bool {
        matches!(self, Self::Llama | Self::SmolLm3)
    }

    /// Whether its norms multiply by `1 + weight`.
    pub(super) fn is_gemma(self) -> bool {
        matches!(self, Self::Gemma2 | Self::Gemma3)
    }

    /// 1 over the root of this is the scale of Gemma's scores, which no file says. The largest model of each version has its
    /// width's share of a head there, the others the width of a head (llama.cpp's `llama-model.cpp`).
    pub(super) fn query_scalar(self, layers: u64, hidden: u64, heads: u64, width: u64) -> u64 {
        let largest = match self {
            Self::Gemma2 => 46,
            _ => 62,
        };
        match layers == largest {
            true => hidden.checked_div(heads).unwrap_or(0),
            false => width,
        }
    }

    fn outside(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::Gpt2 => OUTSIDE_GPT2,
            _ => OUTSIDE,
        }
    }

    fn block(self) -> impl Iterator<Item = &'static (&'static str, &'static str)> {
        let (shared, own): (&[_], _) = match self {
            Self::Gpt2 => (&[], GPT2),
            Self::Phi3 => (&ATTENTION, PHI3),
            Self::Gemma2 | Self::Gemma3 => (&ATTENTION, GEMMA),
            _ => (&ATTENTION, LLAMA),
        };
        shared.iter().chain(own)
    }

    /// What Hugging Face's names of blocks begin with.
    fn block_prefix(self) -> &'static str {
        match self {
            Self::Gpt2 => "transformer.h.",
            _ => "model.layers.",
        }
    }

    /// Hugging Face's name of a tensor; `None` for one that this architecture does not have.
    pub(super) fn to_hf(self, name: &str) -> Option<String> {
        let (stem, kind) = name.rsplit_once('.')?;
        if let Some(block) = stem.strip_prefix("blk.") {
            let (number, stem) = block.split_once('.')?;
            let (_, hf) = self.block().find(|(gguf, _)| *gguf == stem)?;
            return Some(format!("{}{number}.{hf}.{kind}", self.block_prefix()));
        }
        let (_, hf) = self.outside().iter().find(|(gguf, _)| *gguf == stem)?;
        Some(format!("{hf}.{kind}"))
    }

    /// GGUF's name of a tensor; `None` for one that this architecture does not have.
    pub(super) fn to_gguf(self, name: &str) -> Option<String> {
        let (stem, kind) = name.rsplit_once('.')?;
        if let Some(block) = stem.strip_prefix(self.block_prefix()) {
            let (number, stem) = block.split_once('.')?;
            let (gguf, _) = self.block().find(|(_, hf)| *hf == stem)?;
            return Some(format!("blk.{number}.{gguf}.{kind}"));
        }
        let (gguf, _) = self.outside().iter().find(|(_, hf)| *hf == stem)?;
        Some(format!("{gguf}.{kind}"))
    }

    /// How a tensor of GGUF's name differs from Hugging Face's.
    pub(super) fn layout(self, name: &str) -> Layout {
        let mut parts = name.rsplit('.');
        let (kind, stem) = (parts.next(), parts.next().unwrap_or_default());
        match (self, stem) {
            (_, "attn_q") if self.has_interleaved_rope() => Layout::RopeQueries,
            (_, "attn_k") if self.has_interleaved_rope() => Layout::RopeKeys,
            (Self::Gpt2, "attn_qkv" | "attn_output" | "ffn_up" | "ffn_down")
                if kind == Some("weight") =>
            {
                Layout::Transposed
            }
            (_, stem) if self.is_gemma() && stem.ends_with("norm") => Layout::PlusOne,
            _ => Layout::Same,
        }
    }
}

/// Rows of `heads` heads, `values` of `width` elements a row, from one order to the other: in GGUF row `2 i + s` of a head is
/// row `s d / 2 + i` in Hugging Face, with head width d. The caller has checked that `2 heads` divides the rows.
pub(super) fn reorder_rope<T: Copy>(
    values: &[T],
    rows: usize,
    heads: usize,
    to_gguf: bool,
) -> Vec<T> {
    let width = values.len() / rows;
    let head = rows / heads;
    let mut out = Vec::with_capacity(values.len());
    for row in 0..rows {
        let (first, within) = (row / head * head, row % head);
        let from = if to_gguf {
            within % 2 * (head / 2) + within / 2
        } else {
            within % (head / 2) * 2 + within / (head / 2)
        };
        out.extend_from_slice(&values[(first + from) * width..][..width]);
    }
    out
}

/// The transpose of a matrix of so many rows, row-major.
pub(super) fn transpose(values: &[f32], rows: usize) -> Vec<f32> {
    let columns = values.len() / rows;
    let mut out = vec![0.0; values.len()];
    for (i, row) in values.chunks_exact(columns).enumerate() {
        for (j, &value) in row.iter().enumerate() {
            out[j * rows + i] = value;
        }
    }
    out
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn names_translate_both_ways() {
        for (architecture, gguf, hf) in [
            (
                Architecture::Llama,
                "token_embd.weight",
                "model.embed_tokens.weight",
            ),
            (
                Architecture::Qwen2,
                "blk.11.attn_q.bias",
                "model.layers.11.self_attn.q_proj.bias",
            ),
            (
                Architecture::Llama,
                "blk.3.ffn_norm.weight",
                "model.layers.3.post_attention_layernorm.weight",
            ),
            (
                Architecture::Gemma2,
                "blk.3.ffn_norm.weight",
                "model.layers.3.pre_feedforward_layernorm.weight",
            ),
            (
                Architecture::Phi3,
                "blk.0.ffn_up.weight",
                "model.layers.0.mlp.gate_up_proj.weight",
            ),
            (
                Architecture::Gpt2,
                "blk.5.attn_qkv.bias",
                "transformer.h.5.attn.c_attn.bias",
            ),
            (Architecture::Gpt2, "output.weight", "lm_head.weight"),
        ] {
            assert_eq!(architecture.to_hf(gguf).as_deref(), Some(hf));
            assert_eq!(architecture.to_gguf(hf).as_deref(), Some(gguf));
        }
        assert_eq!(Architecture::Llama.to_hf("blk.0.attn_qkv.weight"), None);
        assert_eq!(Architecture::Llama.to_hf("rope_freqs.weight"), None);
    }

    #[test]
    fn rope_rows_go_there_and_back() {
        // Two heads of width 4: in GGUF each head holds rows 0 2 1 3 of Hugging Face's.
        let hf: Vec<u8> = (0..8).collect();
        let gguf = reorder_rope(&hf, 8, 2, true);
        assert_eq!(gguf, [0, 2, 1, 3, 4, 6, 5, 7]);
        assert_eq!(reorder_rope(&gguf, 8, 2, false), hf);
        let wide: Vec<u16> = (0..48).collect();
        let there = reorder_rope(&wide, 12, 2, true);
        assert_ne!(there, wide);
        assert_eq!(reorder_rope(&there, 12, 2, false), wide);
    }
}
