"""Writes cases.json beside this script: precision, recall and F1 of entities from sequences of tags.

    python crates/metrics/tests/golden/entities/make.py

Made with seqeval 1.2.2 and numpy 2.4.6; seed 20. 50 cases in each of seven modes: seqeval's default one, which takes any
sequence, and its strict one with six schemes. A case is a list of sequences, each the tags that are right and those
predicted; `spans` of the default mode are seqeval's own (label, first tag, last tag), of both sides.
"""

import json
import random
import warnings
from pathlib import Path

import numpy as np
from seqeval import scheme
from seqeval.metrics import sequence_labeling, v1

warnings.filterwarnings("ignore")
random.seed(20)

SCHEMES = {"IOB1": "IOB", "IOB2": "IOB", "IOE1": "IOE", "IOE2": "IOE", "IOBES": "IOBES", "BILOU": "BILOU"}
# How an entity of 1, 2, 3 or more words is written where every entity follows the scheme.
WRITTEN = {
    "IOB1": lambda n: "I" * n,
    "IOB2": lambda n: "B" + "I" * (n - 1),
    "IOE1": lambda n: "I" * n,
    "IOE2": lambda n: "I" * (n - 1) + "E",
    "IOBES": lambda n: "S" if n == 1 else "B" + "I" * (n - 2) + "E",
    "BILOU": lambda n: "U" if n == 1 else "B" + "I" * (n - 2) + "L",
}
LABELS = ["per", "loc", "org-x", "b"]


def legal(name, length, labels):
    """A sequence that follows the scheme."""
    tags = []
    while len(tags) < length:
        if random.random() < 0.4:
            tags.append("O")
        else:
            n, label = random.randint(1, min(3, length - len(tags))), random.choice(labels)
            tags += [f"{prefix}-{label}" for prefix in WRITTEN[name](n)]
    return tags


def spoilt(tags, prefixes, labels, share):
    """The same with some tags replaced by any others, such as an inside without a beginning."""

    def other():
        prefix = random.choice(prefixes)
        # A tag without a label is an entity of the label `_`.
        return prefix if prefix == "O" or random.random() < 0.05 else f"{prefix}-{random.choice(labels)}"

    return [other() if random.random() < share else tag for tag in tags]


def sequences(name, prefixes, kind):
    labels = random.sample(LABELS, random.randint(1, 3))
    out = []
    for _ in range(random.randint(1, 3)):
        length = random.randint(1, 9)
        target = legal(name, length, labels)
        if kind == "no entities":
            target, predicted = ["O"] * length, ["O"] * length
        elif kind == "none expected":
            predicted, target = target, ["O"] * length
        elif kind == "none predicted":
            predicted = ["O"] * length
        elif kind == "all right":
            predicted = list(target)
        elif kind == "unseen label":
            predicted = spoilt(target, prefixes, ["new"], 0.4)
        elif kind == "noise":
            target, predicted = (spoilt(target, prefixes, LABELS, 1.0) for _ in "12")
        else:
            predicted = spoilt(target, prefixes, labels, random.random() * 0.6)
        out.append((target, predicted))
    if kind == "an empty sequence":
        out.insert(0, ([], []))
    return out


KINDS = ["no entities", "none expected", "none predicted", "all right", "an empty sequence"]
KINDS += ["unseen label"] * 5 + ["noise"] * 15 + ["spoilt"] * 25


def short(value):
    return float(f"{value:.12g}") if np.isfinite(value) else None


def figures(target, predicted, strict):
    if strict:
        score = lambda average: v1.precision_recall_fscore_support(
            target, predicted, average=average, scheme=strict, zero_division=0
        )
        both = [scheme.Entities(side, strict).unique_tags for side in (target, predicted)]
    else:
        score = lambda average: sequence_labeling.precision_recall_fscore_support(
            target, predicted, average=average, zero_division=0
        )
        both = [{label for label, _, _ in sequence_labeling.get_entities(side)} for side in (target, predicted)]
    out = {average: [short(float(x)) for x in score(average)[:3]] for average in ("micro", "macro", "weighted")}
    rows = zip(sorted(both[0] | both[1]), *score(None))
    out["per_label"] = [[name, short(p), short(r), short(f), int(s)] for name, p, r, f, s in rows]
    return out


cases = []
for mode in ["default", *SCHEMES]:
    for i, kind in enumerate(KINDS):
        # The default mode takes the prefixes of any of the schemes but BILOU.
        name = mode if mode in SCHEMES else ["IOB1", "IOB2", "IOE1", "IOE2", "IOBES"][i % 5]
        pairs = sequences(name, SCHEMES[name], kind)
        target, predicted = [list(side) for side in zip(*pairs)]
        case = {
            "mode": mode,
            "sequences": [[" ".join(t), " ".join(p)] for t, p in pairs],
            "expected": figures(target, predicted, getattr(scheme, mode, None)),
        }
        if mode == "default":
            spans = sequence_labeling.get_entities
            case["spans"] = [[spans(t), spans(p)] for t, p in pairs]
        cases.append(case)
lines = ",\n".join(json.dumps(case, separators=(",", ":")) for case in cases)
(Path(__file__).parent / "cases.json").write_text(f"[\n{lines}\n]\n")
