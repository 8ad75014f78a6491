"""Writes classification.json and wilson.json beside this script.

    python crates/metrics/tests/golden/make.py

Made with scikit-learn 1.9.1, numpy and SciPy as it requires them; seed 20.
"""

import json
import warnings
from pathlib import Path

import numpy as np
from scipy.stats import binomtest
from sklearn.metrics import (
    accuracy_score,
    balanced_accuracy_score,
    confusion_matrix,
    matthews_corrcoef,
    precision_recall_fscore_support,
)

warnings.filterwarnings("ignore")
rng = np.random.default_rng(20)
here = Path(__file__).parent


def noisy(classes, n, error, weights=None):
    """Targets drawn from `classes`, predictions equal but for a share `error` drawn afresh."""
    target = rng.choice(classes, size=n, p=weights)
    predicted = np.where(rng.random(n) < error, rng.integers(0, classes, n), target)
    return classes, target, predicted


def skewed(classes):
    weights = 1.0 / np.arange(1, classes + 1) ** 2
    return weights / weights.sum()


cases = {
    "single right": (2, [1], [1]),
    "single wrong": (2, [0], [1]),
    "single of many classes": (7, [3], [3]),
    "one class only": (1, [0, 0, 0], [0, 0, 0]),
    "binary": noisy(2, 50, 0.3),
    "binary all right": (2, [0, 1, 1, 0, 1], [0, 1, 1, 0, 1]),
    "binary all wrong": (2, [0, 1, 1, 0, 1], [1, 0, 0, 1, 0]),
    "binary one class predicted": (2, [0, 1, 1, 0, 1], [1, 1, 1, 1, 1]),
    "binary one class present": (2, [1, 1, 1, 1], [1, 0, 1, 1]),
    "binary skewed": noisy(2, 1000, 0.2, [0.98, 0.02]),
    "three": noisy(3, 60, 0.4),
    "three at random": noisy(3, 300, 1.0),
    "three shifted": (3, [0, 1, 2, 0, 1, 2], [1, 2, 0, 1, 2, 0]),
    "class absent from targets": (4, [0, 1, 1, 3, 0], [0, 2, 1, 3, 3]),
    "class absent from predictions": (4, [0, 1, 2, 3, 2], [0, 1, 1, 3, 0]),
    "class absent from both": (5, [0, 1, 1, 3, 0], [0, 1, 3, 3, 0]),
    "first and last absent": (6, [1, 2, 3, 4, 4], [1, 2, 2, 4, 3]),
    "targets and predictions disjoint": (4, [0, 0, 1, 1], [2, 3, 2, 3]),
    "one class predicted only": (5, rng.integers(0, 5, 40), np.full(40, 2)),
    "ten": noisy(10, 500, 0.25),
    "ten skewed": noisy(10, 800, 0.35, skewed(10)),
    "hundred, few examples": noisy(100, 150, 0.2),
}


def figures(classes, target, predicted):
    labels = list(range(classes))
    out = {
        "accuracy": accuracy_score(target, predicted),
        "balanced_accuracy": balanced_accuracy_score(target, predicted),
        "mcc": matthews_corrcoef(target, predicted),
        "confusion": confusion_matrix(target, predicted, labels=labels).tolist(),
    }
    for average in ("macro", "micro", "weighted"):
        scores = precision_recall_fscore_support(target, predicted, labels=labels, average=average, zero_division=0)
        for name, score in zip(("precision", "recall", "f1"), scores):
            out[f"{average}_{name}"] = float(score)
    scores = precision_recall_fscore_support(target, predicted, labels=labels, zero_division=0)
    out["per_class"] = [
        {"precision": float(p), "recall": float(r), "f1": float(f), "support": int(s)} for p, r, f, s in zip(*scores)
    ]
    return {k: float(v) if np.isscalar(v) else v for k, v in out.items()}


golden = []
for name, (classes, target, predicted) in cases.items():
    target, predicted = [int(t) for t in target], [int(p) for p in predicted]
    golden.append(
        {
            "name": name,
            "classes": classes,
            "target": target,
            "predicted": predicted,
            "expected": figures(classes, target, predicted),
        }
    )
lines = ",\n".join(json.dumps(case) for case in golden)
(here / "classification.json").write_text(f"[\n{lines}\n]\n")

wilson = []
for successes, trials in [(0, 1), (1, 1), (1, 2), (0, 10), (10, 10), (7, 10), (95, 100), (999, 1000), (861, 872), (1, 100000)]:
    low, high = binomtest(successes, trials).proportion_ci(0.95, method="wilson")
    wilson.append({"successes": successes, "trials": trials, "low": float(low), "high": float(high)})
lines = ",\n".join(json.dumps(case) for case in wilson)
(here / "wilson.json").write_text(f"[\n{lines}\n]\n")
