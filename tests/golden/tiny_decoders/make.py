"""Tiny decoders of every family with seeded weights: logits, gradients and 20 training losses, in float64, as transformers and
PEFT have them.

    python tests/golden/tiny_decoders/make.py [FAMILY ...]

With names, only these families are made anew. Made with torch 2.15.0, transformers 5.24.0, peft 0.21.2; seed 0. Two texts; of each, the tokens
from the third on count. `logits` are of the real tokens, one text after the other.
"""

import json
import shutil
import sys
from pathlib import Path

import peft
import torch
import transformers
from safetensors.torch import save_file

HERE = Path(__file__).parent
TEXTS = [[3, 17, 5, 9, 30, 22, 4, 4, 11, 36, 2, 8], [7, 1, 28, 13, 6]]
FIRST_COUNTED = 2
BASE = dict(
    vocab_size=37,
    hidden_size=16,
    intermediate_size=24,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    max_position_embeddings=64,
    initializer_range=0.3,
    pad_token_id=0,
    bos_token_id=1,
    eos_token_id=2,
    attn_implementation="eager",
)
LLAMA3 = dict(
    rope_type="llama3",
    rope_theta=100.0,
    factor=4.0,
    low_freq_factor=1.0,
    high_freq_factor=4.0,
    original_max_position_embeddings=16,
)
# Both kinds of layer; nothing that follows from something else: the scale of the scores is not the head's width.
GEMMA3 = dict(
    head_dim=6,
    query_pre_attn_scalar=10,
    sliding_window=4,
    layer_types=["sliding_attention", "full_attention"],
    rope_parameters=dict(
        full_attention=dict(rope_type="linear", factor=2.0, rope_theta=1000.0),
        sliding_attention=dict(rope_type="default", rope_theta=10.0),
    ),
    final_logit_softcapping=5.0,
)
FAMILIES = {
    "llama": lambda: transformers.LlamaConfig(**BASE, tie_word_embeddings=True),
    "llama3": lambda: transformers.LlamaConfig(
        **BASE, head_dim=6, attention_bias=True, mlp_bias=True, rope_parameters=LLAMA3, tie_word_embeddings=False
    ),
    "mistral": lambda: transformers.MistralConfig(**BASE, sliding_window=4),
    "qwen2": lambda: transformers.Qwen2Config(**BASE, tie_word_embeddings=True),
    "qwen3": lambda: transformers.Qwen3Config(**BASE, head_dim=6, tie_word_embeddings=True),
    "smollm3": lambda: transformers.SmolLM3Config(**BASE, no_rope_layers=[1, 0], tie_word_embeddings=True),
    "gemma3": lambda: transformers.Gemma3TextConfig(**BASE, **GEMMA3),
    "phi3": lambda: transformers.Phi3Config(**BASE, sliding_window=None),
    "gpt2": lambda: transformers.GPT2Config(
        vocab_size=37,
        n_embd=16,
        n_layer=2,
        n_head=4,
        n_positions=64,
        initializer_range=0.3,
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        bos_token_id=1,
        eos_token_id=2,
        attn_implementation="eager",
    ),
}


def run(model):
    """Logits of each text by itself, and the mean loss of the tokens that count. No padding: eager attention makes NaN of it."""
    logits = [model(input_ids=torch.tensor([text])).logits[0] for text in TEXTS]
    sums = [
        torch.nn.functional.cross_entropy(
            rows[FIRST_COUNTED - 1 : -1], torch.tensor(text[FIRST_COUNTED:]), reduction="sum"
        )
        for rows, text in zip(logits, TEXTS)
    ]
    return torch.cat(logits), sum(sums) / sum(len(text) - FIRST_COUNTED for text in TEXTS)


def shake(model):
    """Norms and biases that are not ones and zeros."""
    generator = torch.Generator().manual_seed(0)
    for name, parameter in model.named_parameters():
        if parameter.ndim == 1:
            parameter.data += 0.2 * torch.randn(parameter.shape, generator=generator)


def losses(model):
    parameters = [p for p in model.parameters() if p.requires_grad]
    # As the Trainer has it: norms and biases do not decay.
    groups = [
        dict(params=[p for p in parameters if p.ndim > 1], weight_decay=0.01),
        dict(params=[p for p in parameters if p.ndim == 1], weight_decay=0.0),
    ]
    optimizer = torch.optim.AdamW([g for g in groups if g["params"]], lr=2e-3)
    found = []
    for _ in range(20):
        _, loss = run(model)
        found.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
    return found


def main():
    torch.set_num_threads(1)
    asked = sys.argv[1:] or list(FAMILIES)
    expected = dict(texts=TEXTS, first_counted=FIRST_COUNTED, families={})
    if sys.argv[1:]:
        expected["families"] = json.loads((HERE / "expected.json").read_text())["families"]
    for name, config in FAMILIES.items():
        if name not in asked:
            continue
        folder = HERE / name
        shutil.rmtree(folder, ignore_errors=True)
        torch.manual_seed(0)
        model = transformers.AutoModelForCausalLM.from_config(config(), attn_implementation="eager")
        shake(model)
        model.save_pretrained(folder / "model")
        for extra in ["generation_config.json"]:
            (folder / "model" / extra).unlink(missing_ok=True)
        model = model.double().eval()
        logits, loss = run(model)
        loss.backward()
        tensors = {f"grad.{n}": p.grad for n, p in model.named_parameters()}
        save_file({"logits": logits.detach(), **tensors}, folder / "expected.safetensors")
        full = losses(model)

        torch.manual_seed(1)
        model = transformers.AutoModelForCausalLM.from_pretrained(folder / "model", attn_implementation="eager")
        lora = peft.LoraConfig(task_type="CAUSAL_LM", r=2, lora_alpha=4, target_modules="all-linear", lora_dropout=0.0)
        tuned = peft.get_peft_model(model, lora)
        for n, p in tuned.named_parameters():
            if "lora_B" in n:
                p.data = 0.1 * torch.randn(p.shape)
        tuned.save_pretrained(folder / "adapter")
        (folder / "adapter" / "README.md").unlink(missing_ok=True)
        settings = folder / "adapter" / "adapter_config.json"
        stored = json.loads(settings.read_text())
        stored["base_model_name_or_path"] = None
        settings.write_text(json.dumps(stored, indent=1) + "\n")
        tuned = tuned.double().eval()
        expected["families"][name] = dict(loss=loss.item(), full=full, lora=losses(tuned))
    (HERE / "expected.json").write_text(json.dumps(expected, indent=1) + "\n")


if __name__ == "__main__":
    main()
