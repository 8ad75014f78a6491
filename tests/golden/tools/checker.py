"""What check_full.py and check_peft.py share: reading texts and predictions, comparing, and reporting.

A line of TEXTS.jsonl is either {"text": ...} (optionally "text_pair") or a line as `rekindle predict` writes it,
{"text", "label", "probabilities": {label: p}}; only lines with probabilities are compared.
"""

import argparse
import json
import os
import sys
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"

import torch
import transformers

# Probabilities of two float32 implementations of the same six to twelve layers agree to about 1e-6.
TOLERANCE = 1e-4


def parser(description: str) -> argparse.ArgumentParser:
    result = argparse.ArgumentParser(description=description)
    result.add_argument("--max-length", type=int, default=128, help="tokens kept of a text or pair (default 128)")
    result.add_argument("--tolerance", type=float, default=TOLERANCE, help=f"largest difference of a probability (default {TOLERANCE})")
    return result


def read_texts(path: Path) -> list[dict]:
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    if not rows:
        sys.exit(f"{path}: no lines")
    return rows


def labels_in(rows: list[dict]) -> list[str] | None:
    """The labels as the first prediction orders them."""
    return next((list(row["probabilities"]) for row in rows if "probabilities" in row), None)


def check(model, tokenizer, rows: list[dict], labels: list[str], options) -> int:
    """Prints {text, label, logits} a line; returns the exit status."""
    torch.set_num_threads(2)
    transformers.utils.logging.set_verbosity_error()
    model.eval()
    compared, worst, worst_row, wrong = 0, 0.0, None, 0
    for row in rows:
        pair = row.get("text_pair")
        inputs = tokenizer([row["text"]], None if pair is None else [pair], truncation=True, max_length=options.max_length, return_tensors="pt")
        with torch.no_grad():
            logits = model(**inputs).logits[0].float()
        label = labels[int(logits.argmax())]
        print(json.dumps({"text": row["text"], "label": label, "logits": logits.tolist()}, ensure_ascii=False))
        if "probabilities" not in row:
            continue
        if set(row["probabilities"]) != set(labels):
            sys.exit(f"labels differ: the model has {labels}, the predictions have {list(row['probabilities'])}")
        compared += 1
        wrong += row.get("label", label) != label
        probabilities = logits.softmax(-1).tolist()
        difference = max(abs(p - row["probabilities"][name]) for name, p in zip(labels, probabilities))
        # Written so that a NaN counts as the worst.
        if worst_row is None or not difference <= worst:
            worst, worst_row = difference, row["text"]
    if not compared:
        print("nothing compared: no line has `probabilities`", file=sys.stderr)
        return 0
    print(f"compared {compared}: largest difference {worst:.2e} at {worst_row[:60]!r}, {wrong} labels differ", file=sys.stderr)
    return 0 if worst <= options.tolerance and wrong == 0 else 1
