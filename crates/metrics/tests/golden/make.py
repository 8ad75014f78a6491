"""Writes classification.json, regression.json, multi_label.json and wilson.json beside this script.

    python crates/metrics/tests/golden/make.py

Made with scikit-learn 1.9.1, numpy 2.4.6 and SciPy 1.17.1; seed 20.
"""

import json
import warnings
from pathlib import Path

import numpy as np
from scipy.stats import binomtest, pearsonr, spearmanr
from sklearn.metrics import (
    accuracy_score,
    average_precision_score,
    balanced_accuracy_score,
    confusion_matrix,
    f1_score,
    hamming_loss,
    matthews_corrcoef,
    mean_absolute_error,
    mean_squared_error,
    precision_recall_fscore_support,
    r2_score,
    root_mean_squared_error,
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
# Few examples over up to six classes, so that most cases lack a class among targets or predictions.
for i in range(50):
    cases[f"random {i}"] = noisy(int(rng.integers(2, 7)), int(rng.integers(1, 61)), rng.random())


def write(name, cases):
    lines = ",\n".join(json.dumps(case) for case in cases)
    (here / name).write_text(f"[\n{lines}\n]\n")


def short(value):
    """JSON knows no NaN: null. Twelve digits are enough for the test and half the bytes."""
    if isinstance(value, dict):
        return {name: short(v) for name, v in value.items()}
    if isinstance(value, (list, tuple, np.ndarray)):
        return [short(v) for v in value]
    if isinstance(value, (bool, int, np.integer)):
        return int(value)
    return float(f"{value:.12g}") if np.isfinite(value) else None


def figures(classes, target, predicted):
    labels = list(range(classes))
    out = {
        "accuracy": accuracy_score(target, predicted),
        "balanced_accuracy": balanced_accuracy_score(target, predicted),
        "mcc": matthews_corrcoef(target, predicted),
        "confusion": confusion_matrix(target, predicted, labels=labels).tolist(),
    }
    for average in ("macro", "micro", "weighted"):
        scores = precision_recall_fscore_support(target, predicted, average=average, zero_division=0)
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
write("classification.json", golden)

wilson = []
for successes, trials in [(0, 1), (1, 1), (1, 2), (0, 10), (10, 10), (7, 10), (95, 100), (999, 1000), (861, 872), (1, 100000)]:
    low, high = binomtest(successes, trials).proportion_ci(0.95, method="wilson")
    wilson.append({"successes": successes, "trials": trials, "low": float(low), "high": float(high)})
write("wilson.json", wilson)


def column(n):
    """Numbers of one of several kinds, with few digits; a constant is a whole number, whose mean is not rounded."""
    kind = rng.choice(["normal", "far from zero", "ties", "constant"], p=[0.45, 0.2, 0.25, 0.1])
    if kind == "constant":
        return np.full(n, float(rng.integers(-2, 3)))
    if kind == "ties":
        return rng.integers(0, 4, n) / 2
    return np.round(rng.normal(1000 if kind == "far from zero" else 0, 2, n), 2)


def predictions(target):
    n = len(target)
    kind = rng.choice(["near", "equal", "unrelated"], p=[0.6, 0.1, 0.3])
    if kind == "equal":
        return target.copy()
    if kind == "unrelated":
        return column(n)
    return np.round(target * rng.choice([1, -1, 0.5]) + rng.normal(0, rng.random() * 2, n), 1)


def regression_figures(target, predicted, mean):
    guess = np.full(len(target), mean)
    return {
        "mse": mean_squared_error(target, predicted),
        "rmse": root_mean_squared_error(target, predicted),
        "mae": mean_absolute_error(target, predicted),
        "r2": r2_score(target, predicted),
        "pearson": pearsonr(predicted, target).statistic,
        "spearman": spearmanr(predicted, target).statistic,
        "target_std": np.std(target),
        "baseline_mse": mean_squared_error(target, guess),
        "baseline_mae": mean_absolute_error(target, guess),
    }


regression = []
for i in range(50):
    n, k = 2 if i < 4 else int(rng.integers(3, 61)), 1 + i % 3
    target = np.stack([column(n) for _ in range(k)], axis=1)
    predicted = np.stack([predictions(target[:, j]) for j in range(k)], axis=1)
    means = np.round(rng.normal(0, 1, k), 2)
    per_target = [regression_figures(target[:, j], predicted[:, j], means[j]) for j in range(k)]
    overall = {
        "mse": mean_squared_error(target, predicted),
        "rmse": root_mean_squared_error(target, predicted),
        "mae": mean_absolute_error(target, predicted),
        "r2": r2_score(target, predicted),
    }
    for name in per_target[0].keys() - overall.keys():
        overall[name] = np.mean([figures[name] for figures in per_target])
    names = sorted(per_target[0])
    case = {
        "training_means": means,
        "target": target,
        "predicted": predicted,
        "overall": {name: overall[name] for name in names},
        "per_target": per_target,
    }
    regression.append(short(case))
write("regression.json", regression)


def best_f1(truth, scores):
    return max(f1_score(truth, scores >= cut, zero_division=0) for cut in np.unique(scores))


def multi_label_figures(truth, scores, thresholds):
    labels = truth.shape[1]
    if labels == 1:
        # scikit-learn takes one column for a binary task. Two equal columns have the same averages.
        truth, scores, thresholds = np.repeat(truth, 2, 1), np.repeat(scores, 2, 1), np.repeat(thresholds, 2)
    predicted = (scores >= thresholds).astype(int)
    positive = truth.any(axis=0)
    ap = [average_precision_score(t, s) if t.any() else np.nan for t, s in zip(truth.T, scores.T)]
    out = {
        "subset_accuracy": accuracy_score(truth, predicted),
        "hamming_loss": hamming_loss(truth, predicted),
        "mean_average_precision": np.nan,
        "micro_average_precision": np.nan,
    }
    if positive.any():
        out["mean_average_precision"] = average_precision_score(truth[:, positive], scores[:, positive], average="macro")
        out["micro_average_precision"] = average_precision_score(truth, scores, average="micro")
    for average in ("micro", "macro", "weighted", "samples"):
        figures = precision_recall_fscore_support(truth, predicted, average=average, zero_division=0)
        for name, figure in zip(("precision", "recall", "f1"), figures):
            out[f"{average}_{name}"] = figure
    figures = precision_recall_fscore_support(truth, predicted, average=None, zero_division=0)
    out["per_label"] = [
        {"precision": p, "recall": r, "f1": f, "support": int(s), "average_precision": a}
        for p, r, f, s, a in list(zip(*figures, ap))[:labels]
    ]
    return out


multi_label = []
for i in range(50):
    n, labels = int(rng.integers(2, 41)), 1 + i % 6
    truth = (rng.random((n, labels)) < rng.choice([0, 0.05, 0.2, 0.5, 1], labels, p=[0.1, 0.2, 0.3, 0.3, 0.1])).astype(int)
    # One digit makes ties, two few of them.
    scores = np.round(np.clip(0.3 * truth + rng.random((n, labels)) * 0.7, 0, 1), int(rng.integers(1, 3)))
    thresholds = np.round(rng.random(labels), 2)
    multi_label.append(
        {
            "thresholds": short(thresholds),
            "scores": short(scores),
            "truth": ["".join(map(str, row)) for row in truth],
            "expected": short(multi_label_figures(truth, scores, thresholds)),
            "best_f1": short([best_f1(t, s) for t, s in zip(truth.T, scores.T)]),
        }
    )
write("multi_label.json", multi_label)
