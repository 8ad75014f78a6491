"""Writes cases.json beside this script: exact match and F1 of extracted answers as SQuAD 1.1 and 2.0 define them.

    python crates/metrics/tests/golden/extractive/make.py [--check squad_metrics.py]

Made with torchmetrics 1.9.0 and numpy 2.4.6; seed 20. The figures come from the definitions of the official scripts
(evaluate-v1.1.py, evaluate-v2.0.py), written anew below. Each run compares single answers with torchmetrics' functions;
`--check` compares all figures of 2.0 with those of transformers' copy of the official script, the file
src/transformers/data/metrics/squad_metrics.py of version 4.57.1, as was done for the fixture here.
"""

import argparse
import json
import random
import re
import string
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import numpy as np
from torchmetrics.functional.text.squad import _compute_exact_match_score, _compute_f1_score

random.seed(20)


def normalize(text):
    text = "".join(c for c in text.lower() if c not in string.punctuation)
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", text).split())


def exact(answer, right):
    return int(normalize(answer) == normalize(right))


def f1(answer, right, version):
    answer, right = normalize(answer).split(), normalize(right).split()
    if version == 2 and not (answer and right):
        return float(answer == right)
    same = sum((Counter(answer) & Counter(right)).values())
    if same == 0:
        return 0.0
    precision, recall = same / len(answer), same / len(right)
    return 2 * precision * recall / (precision + recall)


def best(score, questions, version):
    right = questions[1]
    if version == 2:
        right = [r for r in right if normalize(r)] or [""]
    return max(score(questions[0], r) for r in right)


def scores(questions, version):
    return (
        [best(exact, q, version) for q in questions],
        [best(lambda a, r: f1(a, r, version), q, version) for q in questions],
    )


def best_threshold(questions, raw):
    """Answers from the surest on, as long as they are worth it; the figure counts within ties too."""
    now = top = sum(not right for _, right, _ in questions)
    threshold = 0.0
    for i in sorted(range(len(questions)), key=lambda i: questions[i][2]):
        answer, right, no_answer = questions[i]
        now += raw[i] if right else -bool(answer)
        if now > top:
            top, threshold = now, no_answer
    return top / len(questions), threshold


def figures_v1(questions):
    e, f = scores(questions, 1)
    return {"exact_match": np.mean(e), "f1": np.mean(f)}


def figures_v2(questions, threshold):
    raw = scores(questions, 2)
    e, f = (
        [float(not right) if n > threshold else s for s, (_, right, n) in zip(side, questions)] for side in raw
    )
    out = {"exact_match": np.mean(e), "f1": np.mean(f)}
    for name, wanted in (("has_answer", True), ("no_answer", False)):
        chosen = [i for i, (_, right, _) in enumerate(questions) if bool(right) == wanted]
        if chosen:
            of = lambda side: np.mean([side[i] for i in chosen])
            out[name] = {"n": len(chosen), "exact_match": of(e), "f1": of(f)}
        else:
            out[name] = None
    (exact_match, at), (f1_, f1_at) = (best_threshold(questions, side) for side in raw)
    out["best"] = {
        "exact_match": exact_match,
        "exact_match_threshold": at,
        "f1": f1_,
        "f1_threshold": f1_at,
    }
    return out


HARD = [
    ("The lamp", ["lamp"]),
    ("a lamp, the door", ["Lamp door!"]),
    ("lamp", ["a lamp in the hall", "the hall", "LAMP"]),
    ("the", ["the"]),
    ("the", ["a"]),
    ("", ["lamp"]),
    ("...", ["!"]),
    ("«lamp»", ["lamp"]),
    ("lamp’s", ["lamp's"]),
    ("lamp–door", ["lamp-door"]),
    ("state-of-the-art", ["state of the art"]),
    ("3,000.5 $", ["30005"]),
    ("a\u0301b", ["b"]),
    ("a\u0903", ["\u0903"]),
    ("x\u001cy", ["x y"]),
    ("x\u00a0y\u2003z", ["x y z"]),
    ("x\u200by", ["xy"]),
    ("ΟΔΟΣ", ["οδος", "οδός"]),
    ("İ", ["i", "i\u0307"]),
    ("die Lampe", ["Lampe"]),
    ("Straße", ["STRASSE"]),
    ("the_lamp an_d", ["lamp d"]),
    ("the²", ["²"]),
    ("lamp lamp lamp", ["lamp", "lamp lamp hall"]),
    ("日本語 the", ["日本語"]),
    ("theatre an ant a", ["theatre ant"]),
]
WORDS = "the a an lamp Door hall, on! red-blue (old) 1990 it's".split()


def question(version):
    if random.random() < 0.25:
        answer, right = random.choice(HARD)
    else:
        right = [" ".join(random.choices(WORDS, k=random.randint(1, 4))) for _ in range(random.randint(1, 3))]
        words = [w for w in random.choice(right).split() if random.random() > 0.2]
        answer = " ".join(words + random.choices(WORDS, k=random.choice([0, 0, 0, 1, 2])))
    if version == 2:
        if random.random() < 0.4:
            right = []
        if random.random() < 0.3:
            answer = ""
        # One digit makes ties.
        return answer, right, round(random.random() * 1.2 - (0.2 if random.random() < 0.2 else 0), random.choice([1, 3]))
    return answer, right, None


def short(value):
    if isinstance(value, dict):
        return {name: short(v) for name, v in value.items()}
    return float(f"{value:.12g}") if isinstance(value, float) else value


cases = [{"version": 1, "questions": [(a, r, None)], **figures_v1([(a, r, None)])} for a, r in HARD]
cases += [{"version": 2, "questions": [(a, r, 0.0)], "threshold": 1.0, **figures_v2([(a, r, 0.0)], 1.0)} for a, r in HARD]
for i in range(50):
    questions = [question(1) for _ in range(random.randint(1, 12))]
    cases.append({"version": 1, "questions": questions, **figures_v1(questions)})
for i in range(50):
    questions = [question(2) for _ in range(random.randint(1, 16))]
    if i == 0:
        questions = [(a, [], n) for a, _, n in questions]
    if i == 1:
        questions = [(a, r or ["lamp"], n) for a, r, n in questions]
    threshold = [1.0, 0.0, 0.5, -0.1][i % 4]
    cases.append({"version": 2, "questions": questions, "threshold": threshold, **figures_v2(questions, threshold)})

for case in cases:
    for answer, right, _ in case["questions"]:
        for r in right:
            assert exact(answer, r) == _compute_exact_match_score(answer, r), (answer, r)
            assert abs(f1(answer, r, 2) - float(_compute_f1_score(answer, r))) < 1e-6, (answer, r)

parser = argparse.ArgumentParser()
parser.add_argument("--check", type=Path, help="transformers' copy of the official script")
if path := parser.parse_args().check:
    source = path.read_text()
    official = {"collections": __import__("collections"), "re": re, "string": string}
    official["logger"] = SimpleNamespace(info=print)
    exec(source[source.index("def normalize_answer") : source.index("def get_final_text")], official)
    checked = 0
    for case in (case for case in cases if case["version"] == 2):
        examples = [
            SimpleNamespace(qas_id=i, answers=[{"text": r} for r in right])
            for i, (_, right, _) in enumerate(case["questions"])
        ]
        answers = {i: q[0] for i, q in enumerate(case["questions"])}
        no_answer = {i: q[2] for i, q in enumerate(case["questions"])}
        found = official["squad_evaluate"](examples, answers, no_answer, case["threshold"])
        pairs = [("exact", case["exact_match"]), ("f1", case["f1"])]
        for prefix, name in (("HasAns", "has_answer"), ("NoAns", "no_answer")):
            if case[name]:
                pairs += [(f"{prefix}_exact", case[name]["exact_match"]), (f"{prefix}_f1", case[name]["f1"])]
            else:
                assert f"{prefix}_exact" not in found
        pairs += [("best_exact", case["best"]["exact_match"]), ("best_f1", case["best"]["f1"])]
        for name, ours in pairs:
            assert abs(found[name] - 100 * ours) < 1e-9, (name, found[name], ours, case)
        assert found["best_exact_thresh"] == case["best"]["exact_match_threshold"], case
        assert found["best_f1_thresh"] == case["best"]["f1_threshold"], case
        checked += 1
    print(f"{checked} cases are as in {path.name}")

lines = ",\n".join(json.dumps(short(case)) for case in cases)
(Path(__file__).parent / "cases.json").write_text(f"[\n{lines}\n]\n")
