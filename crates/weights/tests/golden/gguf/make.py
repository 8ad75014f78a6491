"""Makes the GGUF files that the tests of crates/weights/src/gguf/tests.rs read, and what they hold according to the reference packages.

    python3 crates/weights/tests/golden/gguf/make.py

Made with Python 3.11, gguf 0.19.0, torch 2.15.0, transformers 5.24.0, tokenizers 0.23.3, numpy 2.4.6; seed 20 below.

types.gguf         one tensor of each element type: random values quantized by gguf, random bytes where gguf cannot quantize;
                   types.safetensors is gguf's dequantization, packed.safetensors the values before Q8_0 and Q4_0
llama.gguf, ...    tiny random models, written as llama.cpp's convert_hf_to_gguf.py does (q and k permuted, Conv1D transposed,
                   Gemma's norms plus one); <name>.safetensors is the model as transformers has it, <name>.tokenizer.json the
                   tokenizer as tokenizers saves it
"""

import json
from pathlib import Path

import gguf
import numpy as np
import torch
from gguf import GGMLQuantizationType as Q
from gguf.quants import dequantize, quantize
from safetensors.torch import save_file
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers import Gemma3ForCausalLM, Gemma3TextConfig, GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM
from transformers.convert_slow_tokenizer import bytes_to_unicode
from transformers.tokenization_utils_base import generate_merges

HERE = Path(__file__).parent
SEED = 20
torch.set_num_threads(1)
random = np.random.default_rng(SEED)


def types():
    """One tensor of 3 rows of 256 values for each type."""
    writer = gguf.GGUFWriter(HERE / "types.gguf", "llama")
    writer.add_custom_alignment(64)
    expected, packed = {}, {}
    halves = {Q.Q2_K: [80, 82], Q.Q3_K: [108], Q.Q4_K: [0, 2], Q.Q5_K: [0, 2], Q.Q6_K: [208]}
    for kind in [Q.F32, Q.F16, Q.BF16, Q.Q4_0, Q.Q4_1, Q.Q5_0, Q.Q5_1, Q.Q8_0, *halves]:
        name = kind.name.lower() + ".weight"
        if kind in halves:
            size = gguf.GGML_QUANT_SIZES[kind][1]
            data = random.integers(0, 256, (3, size), dtype=np.uint8)
            for at in halves[kind]:
                data[:, at:at + 2] = random.normal(0, 0.05, (3, 1)).astype(np.float16).view(np.uint8)
        else:
            values = random.normal(0, 1, (3, 256)).astype(np.float32)
            values[1, :32] = 0
            values[2, 5] = -9.5
            data = quantize(values, kind)
            if kind in (Q.Q8_0, Q.Q4_0):
                packed[name] = torch.from_numpy(values)
        writer.add_tensor(name, data, raw_dtype=kind)
        expected[name] = torch.from_numpy(np.array(dequantize(data, kind), dtype=np.float32).reshape(3, 256))
    finish(writer)
    save_file(expected, HERE / "types.safetensors")
    save_file(packed, HERE / "packed.safetensors")


def finish(writer):
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def byte_level(specials, merges, digits):
    """A byte-level BPE; its tokens, merges, and how tokenizers saves it."""
    tokens = [*specials, *bytes_to_unicode().values(), *("".join(m) for m in merges)]
    tokenizer = Tokenizer(models.BPE({t: i for i, t in enumerate(tokens)}, merges))
    split = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), split]) if digits else split
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(t, normalized=False, special=True) for t in specials])
    return tokens, tokenizer


def sentencepiece(words):
    """SentencePiece's kind of BPE: control tokens, bytes, characters, words; with scores by position."""
    tokens = ["<unk>", "<s>", "</s>", *(f"<0x{b:02X}>" for b in range(256)), *words]
    types = [2, 3, 3, *([6] * 256), *([1] * len(words))]
    scores = [0.0] * 259 + [-float(i) for i in range(len(words))]
    vocab = {t: i for i, t in enumerate(tokens)}
    merges = generate_merges(vocab, {t: -i for i, t in enumerate(tokens)})
    tokenizer = Tokenizer(models.BPE(vocab, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    tokenizer.normalizer = normalizers.Replace(" ", "\u2581")
    tokenizer.decoder = decoders.Sequence([decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse()])
    tokenizer.add_special_tokens([AddedToken(t, normalized=False, special=True) for t in tokens[:3]])
    return tokens, types, scores, tokenizer


def with_bos(tokenizer, token, id):
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{token} $A", pair=f"{token} $A {token}:1 $B:1", special_tokens=[(token, id)])


def write_tensors(writer, model, arch, layers, change, kind_of):
    """All tensors under GGUF's names; what is expected back is Hugging Face's tensor after rounding to its type."""
    names = gguf.get_tensor_name_map(arch, layers)
    expected = {}
    for hf, value in model.state_dict().items():
        if hf == "lm_head.weight" and model.config.tie_word_embeddings:
            continue
        value = value.float().numpy()
        name = names.get_name(hf, try_suffixes=(".weight", ".bias"))
        there, back = change(hf)
        kind = kind_of(name) if value.ndim > 1 else Q.F32
        data = quantize(np.ascontiguousarray(there(value)), kind)
        writer.add_tensor(name, data, raw_dtype=kind)
        expected[hf] = torch.from_numpy(np.array(back(dequantize(data, kind).reshape(there(value).shape)), dtype=np.float32, order="C"))
    return expected


def same(x):
    return x


def llama():
    specials = ["<|end|>", "<|turn|>"]
    tokens, tokenizer = byte_level(specials, [("\u0120", "t"), ("h", "e"), ("\u0120t", "he")], digits=True)
    torch.manual_seed(SEED)
    config = LlamaConfig(vocab_size=len(tokens) + 3, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
                         num_key_value_heads=2, max_position_embeddings=128, rms_norm_eps=1e-5, tie_word_embeddings=True)
    model = LlamaForCausalLM(config)
    writer = gguf.GGUFWriter(HERE / "llama.gguf", "llama")
    writer.add_context_length(128)
    writer.add_embedding_length(32)
    writer.add_block_count(2)
    writer.add_feed_forward_length(48)
    writer.add_head_count(4)
    writer.add_head_count_kv(2)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(100000.0)
    writer.add_rope_dimension_count(8)
    padded = [*tokens, *(f"[PAD{i}]" for i in range(len(tokens), len(tokens) + 3))]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(padded)
    writer.add_token_types([3, 3] + [1] * (len(tokens) - 2) + [5] * 3)
    writer.add_token_merges(["\u0120 t", "h e", "\u0120t he"])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(0)
    writer.add_eot_token_id(1)
    writer.add_add_bos_token(False)
    writer.add_chat_template("{% for message in messages %}<|turn|>{{ message['content'] }}{% endfor %}")

    def change(hf):
        heads = 4 if "q_proj" in hf else 2 if "k_proj" in hf else 0
        if not heads:
            return same, same
        return (lambda x: x.reshape(heads, 2, 4, 32).swapaxes(1, 2).reshape(x.shape),
                lambda x: x.reshape(heads, 4, 2, 32).swapaxes(1, 2).reshape(x.shape))

    kinds = {"attn_q.weight": Q.Q8_0, "attn_k.weight": Q.Q4_1, "attn_v.weight": Q.Q4_0, "ffn_down.weight": Q.F32, "ffn_up.weight": Q.BF16}
    expected = write_tensors(writer, model, gguf.MODEL_ARCH.LLAMA, 2, change, lambda name: kinds.get(name.split(".", 2)[-1], Q.F16))
    finish(writer)
    save_file(expected, HERE / "llama.safetensors")
    tokenizer.save(str(HERE / "llama.tokenizer.json"))


def gpt2():
    tokens, tokenizer = byte_level(["<|endoftext|>"], [("a", "b")], digits=False)
    torch.manual_seed(SEED)
    config = GPT2Config(vocab_size=len(tokens), n_embd=8, n_inner=12, n_layer=1, n_head=2, n_positions=16)
    model = GPT2LMHeadModel(config)
    for value in model.parameters():
        torch.nn.init.normal_(value)
    writer = gguf.GGUFWriter(HERE / "gpt2.gguf", "gpt2")
    writer.add_context_length(16)
    writer.add_embedding_length(8)
    writer.add_block_count(1)
    writer.add_feed_forward_length(12)
    writer.add_head_count(2)
    writer.add_layer_norm_eps(1e-5)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(tokens)
    writer.add_token_types([3] + [1] * (len(tokens) - 1))
    writer.add_token_merges(["a b"])
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(0)
    conv = ("c_attn.weight", "c_proj.weight", "c_fc.weight")
    expected = write_tensors(writer, model, gguf.MODEL_ARCH.GPT2, 1, lambda hf: ((np.transpose,) * 2 if hf.endswith(conv) else (same, same)),
                             lambda name: Q.F16)
    finish(writer)
    save_file(expected, HERE / "gpt2.safetensors")
    tokenizer.save(str(HERE / "gpt2.tokenizer.json"))


def gemma3():
    tokens, types, scores, tokenizer = sentencepiece(["a", "b", "\u2581", "ab", "\u2581a", "\u2581ab", "\u2581\u2581"])
    with_bos(tokenizer, "<s>", 1)
    stored = ["  " if t == "\u2581\u2581" else t for t in tokens]
    torch.manual_seed(SEED)
    config = Gemma3TextConfig(vocab_size=len(tokens), hidden_size=8, intermediate_size=12, num_hidden_layers=1, num_attention_heads=2,
                              num_key_value_heads=1, head_dim=6, max_position_embeddings=64, sliding_window=16)
    model = Gemma3ForCausalLM(config)
    for value in model.parameters():
        torch.nn.init.normal_(value)
    writer = gguf.GGUFWriter(HERE / "gemma3.gguf", "gemma3")
    writer.add_context_length(64)
    writer.add_embedding_length(8)
    writer.add_block_count(1)
    writer.add_feed_forward_length(12)
    writer.add_head_count(2)
    writer.add_head_count_kv(1)
    writer.add_key_length(6)
    writer.add_value_length(6)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_rope_freq_base(1000000.0)
    writer.add_sliding_window(16)
    writer.add_tokenizer_model("llama")
    writer.add_tokenizer_pre("default")
    writer.add_token_list(stored)
    writer.add_token_scores(scores)
    # A run of spaces is a user-defined token in Gemma's vocabulary, and in tokenizer.json one like all others.
    writer.add_token_types([4 if t == "  " else kind for t, kind in zip(stored, types)])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)
    writer.add_add_bos_token(True)
    writer.add_add_space_prefix(False)
    shift = (lambda x: x + np.float32(1)), (lambda x: x - np.float32(1))
    expected = write_tensors(writer, model, gguf.MODEL_ARCH.GEMMA3, 1, lambda hf: shift if "norm" in hf else (same, same), lambda name: Q.F32)
    finish(writer)
    save_file(expected, HERE / "gemma3.safetensors")
    tokenizer.save(str(HERE / "gemma3.tokenizer.json"))


types()
llama()
gpt2()
gemma3()
for file in HERE.glob("*.tokenizer.json"):
    file.write_text(json.dumps(json.loads(file.read_text()), ensure_ascii=False) + "\n")
