"""A tiny BERT with a toy tokenizer, so that every test of models, adapters and training runs without MiniLM.

Hidden 32, 2 layers, 4 heads, intermediate 64, 64 positions, 3 labels. Every parameter is random, biases and LayerNorm
too, so that no two tensors can be swapped unseen. The variants hold the same weights the way other checkpoints do:

    gamma_beta   LayerNorm.gamma and .beta, and an `embeddings.position_ids` buffer to ignore
    no_prefix    saved from BertModel: no `bert.`, no classifier
    no_pooler    the same without a pooler
    sharded      shards with model.safetensors.index.json
    f16, bf16    half precision (expected logits are of the rounded weights, computed in float32)
    pickle       pytorch_model.bin, as torch.save writes it

Command:  python3 tests/golden/tiny_bert/make.py
Versions: Python 3.11, torch 2.15.0, transformers 5.23.0, peft 0.21.2, safetensors 0.8.0
Seed:     0 (weights), 1 (adapter)
Writes:   model/ (a complete model directory), variants/<name>/ (config.json and weights), adapter/ (PEFT: r 4, alpha 8),
          expected.json (ids, hidden states, pooler output, logits of the model, of each variant and with the adapter),
          gradients.safetensors (of every parameter, full fine-tuning), training.json (20 steps, full and LoRA)
"""

import shutil
import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))
from common import fix_numerics, linear_schedule, versions, write_json

import json

import torch
from peft import LoraConfig, TaskType, get_peft_model
from safetensors.torch import save_file
from transformers import (AutoTokenizer, BertConfig, BertForSequenceClassification, BertModel, BertTokenizerFast)

WORDS = ("the a an is was are to of and in on it i you my not no very too how what why can do please card order "
         "refund cancel lost late early good bad great broken money back help want where number phone account "
         "password change open close hello thanks day week").split()
PIECES = ["##" + piece for piece in "s ed ing er ly un e t n r a o i l d u c m h y g p b k f v w".split()]
PUNCTUATION = list(".,!?'-\"$%0123456789") + ["\u4e2d", "\u00df"]
VOCABULARY = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *PUNCTUATION, *WORDS, *[c for c in "bcdefhlnoprstuw"], *PIECES]
LABELS = {0: "complaint", 1: "praise", 2: "question"}
CASES = [
    # (text, text_pair, label)
    ("I lost my card!", None, 0),
    ("Thanks, great day.", None, 1),
    ("How do I change the password?", "Please help.", 2),
    ("", None, 1),
    ("My order was 2 weeks late, it is broken and I want my money back: can you cancel the refund - "
     "and where is the number of the account? It's not good, not good, very very bad. " * 2, None, 0),
    ("C\u00e1n \u4e2d \u00df zebra [MASK] opened", None, 2),
]
MAX_LENGTH = 64
# Exaggerated on purpose: at the usual settings neither weight decay nor clipping moves 20 losses visibly.
TRAINING = {"learning_rate": 2e-3, "weight_decay": 0.5, "max_grad_norm": 0.5, "warmup_steps": 3, "steps": 20}


def randomise(parameters: dict[str, torch.nn.Parameter], seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in parameters.items():
            centre = 1.0 if name.endswith("LayerNorm.weight") else 0.0
            parameter.copy_(centre + torch.normal(0.0, 0.2, parameter.shape, generator=generator))


def encode(tokenizer, text, pair, **options):
    return tokenizer([text], None if pair is None else [pair], truncation=True, max_length=MAX_LENGTH, **options)


def run(model, tokenizer):
    """Logits of each case, alone and without padding."""
    model = model.float().eval()
    with torch.no_grad():
        return [model(**encode(tokenizer, text, pair, return_tensors="pt")).logits[0].tolist() for text, pair, _ in CASES]


def padded_batch(tokenizer):
    rows = [{name: ids[0] for name, ids in encode(tokenizer, text, pair).items()} for text, pair, _ in CASES]
    return tokenizer.pad(rows, return_tensors="pt"), torch.tensor([label for _, _, label in CASES])


def train(model, tokenizer):
    """20 steps over the same padded batch, dropout off."""
    batch, labels = padded_batch(tokenizer)
    trained = [(n, p) for n, p in model.named_parameters() if p.requires_grad]
    exempt = {n for n, _ in trained if n.endswith("bias") or "LayerNorm" in n}
    optimizer = torch.optim.AdamW([{"params": [p for n, p in trained if n not in exempt], "weight_decay": TRAINING["weight_decay"]},
                                   {"params": [p for n, p in trained if n in exempt], "weight_decay": 0.0}],
                                  lr=TRAINING["learning_rate"], betas=(0.9, 0.999), eps=1e-8)
    schedule = linear_schedule(optimizer, TRAINING["warmup_steps"], TRAINING["steps"])
    steps = []
    model.eval()
    for step in range(TRAINING["steps"]):
        loss = model(**batch, labels=labels).loss
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_([p for _, p in trained], TRAINING["max_grad_norm"])
        rate = schedule.get_last_lr()[0]
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        steps.append({"step": step + 1, "loss": loss.item(), "learning_rate": rate, "gradient_norm": norm.item()})
    return {"steps": steps, "trained_parameters": sum(p.numel() for _, p in trained), "logits_after": run(model, tokenizer)}


def write_model(model: BertForSequenceClassification) -> None:
    vocabulary = {token: index for index, token in enumerate(VOCABULARY)}
    tokenizer = BertTokenizerFast(vocab=vocabulary, do_lower_case=True, model_max_length=MAX_LENGTH)
    model.save_pretrained(HERE / "model")
    tokenizer.save_pretrained(HERE / "model")
    (HERE / "model" / "vocab.txt").write_text("\n".join(VOCABULARY) + "\n", encoding="utf-8")


def load(name: str = "model") -> BertForSequenceClassification:
    return BertForSequenceClassification.from_pretrained(HERE / name, dtype=torch.float32, attn_implementation="eager").eval()


def write_variants() -> None:
    variants = HERE / "variants"
    state = load().state_dict()

    def place(name):
        (variants / name).mkdir(parents=True)
        shutil.copy(HERE / "model" / "config.json", variants / name)
        return variants / name

    renamed = {name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): tensor
               for name, tensor in state.items()}
    renamed["bert.embeddings.position_ids"] = torch.arange(MAX_LENGTH)[None]
    save_file(renamed, place("gamma_beta") / "model.safetensors", {"format": "pt"})
    torch.save(state, place("pickle") / "pytorch_model.bin")
    load().save_pretrained(variants / "sharded", max_shard_size="60KB")
    load().half().save_pretrained(variants / "f16")
    load().bfloat16().save_pretrained(variants / "bf16")
    BertModel.from_pretrained(HERE / "model").save_pretrained(variants / "no_prefix")
    BertModel.from_pretrained(HERE / "model", add_pooling_layer=False).save_pretrained(variants / "no_pooler")


def write_expected(tokenizer) -> None:
    model, rows = load(), []
    for text, pair, label in CASES:
        inputs = encode(tokenizer, text, pair, return_tensors="pt")
        with torch.no_grad():
            base = model.bert(**inputs, output_hidden_states=True)
            logits = model(**inputs).logits
        rows.append({"text": text, "text_pair": pair, "label": label, "input_ids": inputs["input_ids"][0].tolist(),
                     "token_type_ids": inputs["token_type_ids"][0].tolist(),
                     "hidden_states": [state[0].tolist() for state in base.hidden_states],
                     "pooler_output": base.pooler_output[0].tolist(),
                     "mean_pooled": base.last_hidden_state[0].mean(dim=0).tolist(), "logits": logits[0].tolist()})
    full_precision = run(load(), tokenizer)
    variants = {name: run(load(f"variants/{name}"), tokenizer) for name in ("gamma_beta", "sharded", "pickle", "f16", "bf16")}
    # Equal weights give equal bits only at equal memory alignment, which differs between a .bin and a mapped .safetensors.
    for name in ("gamma_beta", "sharded", "pickle"):
        state = load(f"variants/{name}").state_dict()
        assert all(torch.equal(state[key], tensor) for key, tensor in load().state_dict().items())
        torch.testing.assert_close(torch.tensor(variants[name]), torch.tensor(full_precision), atol=1e-5, rtol=0)
    assert len({str(variants[name]) for name in ("sharded", "f16", "bf16")}) == 3
    for name, pooling in (("no_prefix", True), ("no_pooler", False)):
        bare = BertModel.from_pretrained(HERE / "variants" / name, add_pooling_layer=pooling, attn_implementation="eager").eval()
        with torch.no_grad():
            output = bare(**encode(tokenizer, *CASES[0][:2], return_tensors="pt"))
        torch.testing.assert_close(output.last_hidden_state[0], torch.tensor(rows[0]["hidden_states"][-1]), atol=1e-5, rtol=0)
        assert (output.pooler_output is not None) == pooling
    adapted = load()
    adapted.name_or_path = adapted.config._name_or_path = "tiny-bert"  # or a local directory would be written
    adapted = get_peft_model(adapted, LoraConfig(task_type=TaskType.SEQ_CLS, r=4, lora_alpha=8, target_modules=["query", "value"]))
    trained = {name: parameter for name, parameter in adapted.named_parameters() if parameter.requires_grad}
    randomise(trained, seed=1)  # B too: at zero the adapter would do nothing
    adapted.save_pretrained(HERE / "adapter", safe_serialization=True)
    (HERE / "adapter" / "README.md").unlink()  # an empty model card
    path = HERE / "adapter" / "adapter_config.json"
    config = json.loads(path.read_text())
    config["target_modules"].sort()  # PEFT writes a set, in an order that changes from run to run
    path.write_text(json.dumps(config, indent=2, sort_keys=True))
    with_adapter = run(adapted, tokenizer)
    assert max(abs(a - b) for x, y in zip(with_adapter, full_precision) for a, b in zip(x, y)) > 0.05
    write_json(HERE / "expected.json", {"versions": versions(), "max_length": MAX_LENGTH, "variant_logits": variants,
                                        "adapter_logits": with_adapter, "cases": rows}, rows="cases")


def write_gradients(tokenizer) -> float:
    model = load()
    batch, labels = padded_batch(tokenizer)
    loss = model(**batch, labels=labels).loss
    loss.backward()
    gradients = {name: parameter.grad for name, parameter in model.named_parameters()}
    save_file(gradients, HERE / "gradients.safetensors", {"format": "pt"})
    return loss.item()


def main() -> None:
    fix_numerics()
    for name in ("model", "variants", "adapter"):
        shutil.rmtree(HERE / name, ignore_errors=True)
    assert len(set(VOCABULARY)) == len(VOCABULARY)
    config = BertConfig(vocab_size=len(VOCABULARY), hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64,
                        max_position_embeddings=MAX_LENGTH, id2label=LABELS, label2id={name: index for index, name in LABELS.items()})
    model = BertForSequenceClassification(config)
    randomise(dict(model.named_parameters()), seed=0)
    write_model(model)
    tokenizer = AutoTokenizer.from_pretrained(HERE / "model")
    write_variants()
    write_expected(tokenizer)
    loss = write_gradients(tokenizer)
    full = train(load(), tokenizer)
    lora = load()
    torch.manual_seed(1)
    lora = get_peft_model(lora, LoraConfig(task_type=TaskType.SEQ_CLS, r=4, lora_alpha=8, target_modules=["query", "value"]))
    initial = {name.replace(".default", ""): p.flatten().tolist() for name, p in lora.named_parameters() if "lora_A" in name}
    lora = train(lora, tokenizer)
    write_json(HERE / "training.json", {"versions": versions(), **TRAINING, "betas": [0.9, 0.999], "epsilon": 1e-8, "loss": loss,
                                        "full": full, "lora": {"r": 4, "lora_alpha": 8, "lora_A": initial, **lora}})
    for name, result in (("full", full), ("lora", lora)):
        print(name, result["trained_parameters"], " ".join(f"{s['loss']:.4f}" for s in result["steps"]))


if __name__ == "__main__":
    main()
