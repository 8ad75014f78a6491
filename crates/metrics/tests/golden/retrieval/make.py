"""Writes retrieval.json, similarity.json and pairs.json beside this script: what sentence-transformers' evaluators find
in given similarities.

    python crates/metrics/tests/golden/retrieval/make.py

Made with sentence-transformers 6.2.0, scikit-learn 1.9.1, SciPy 1.17.1, torch 2.15.0 and numpy 2.4.6; seed 20. The
embeddings are such that their dot products are the similarities, in float64. Rounded similarities make ties.
"""

import json
import random
import warnings
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from sentence_transformers.sentence_transformer.evaluation import (
    BinaryClassificationEvaluator,
    EmbeddingSimilarityEvaluator,
    InformationRetrievalEvaluator,
)

warnings.filterwarnings("ignore")
random.seed(20)
rng = np.random.default_rng(20)
here = Path(__file__).parent
K = [1, 3, 10, 100]
NAMES = ["accuracy", "precision", "recall", "mrr", "ndcg", "map"]


class Given:
    """Stands for a model: texts are indices into given embeddings."""

    similarity_fn_name = "dot"
    model_card_data = SimpleNamespace(set_evaluation_metrics=lambda *_: None)

    def __init__(self, **embeddings):
        self.embeddings = embeddings

    def encode(self, texts, **_):
        return [self.of(text) for text in texts]

    def encode_query(self, texts, **_):
        return torch.tensor(np.stack(self.encode(texts)))

    encode_document = encode_query

    def of(self, text):
        kind, index = text.split()
        return np.asarray(self.embeddings[kind][int(index)], dtype=np.float64)


def short(value):
    if isinstance(value, dict):
        return {name: short(v) for name, v in value.items()}
    if isinstance(value, (list, tuple, np.ndarray)):
        return [short(v) for v in value]
    if isinstance(value, (bool, int, np.integer)):
        return int(value)
    return float(f"{value:.12g}") if np.isfinite(value) else None


def write(name, cases):
    lines = ",\n".join(json.dumps(short(case)) for case in cases)
    (here / name).write_text(f"[\n{lines}\n]\n")


def retrieval(similarities, relevant):
    queries, documents = similarities.shape
    evaluator = InformationRetrievalEvaluator(
        queries={f"q{i}": f"query {i}" for i in range(queries)},
        # The names sort as the documents stand.
        corpus={f"d{i:03}": f"document {i}" for i in range(documents)},
        relevant_docs={f"q{i}": {f"d{j:03}" for j in r} for i, r in enumerate(relevant)},
        corpus_chunk_size=random.choice([1, 4, 1000]),
        mrr_at_k=K,
        ndcg_at_k=K,
        accuracy_at_k=K,
        precision_recall_at_k=K,
        map_at_k=K,
        score_functions={"dot": lambda q, d: q @ d.T},
    )
    model = Given(query=similarities, document=np.eye(documents))
    found = evaluator.compute_all_metrics(model)["dot"]
    return [[k, *(found[f"{name}@k"][k] for name in NAMES)] for k in K]


cases = []
for i in range(50):
    queries, documents = int(rng.integers(1, 6)), 1 if i == 0 else int(rng.integers(1, 25))
    similarities = np.round(rng.random((queries, documents)) * 2 - 1, int(rng.integers(0, 3)))
    if i == 1:
        similarities = np.zeros_like(similarities)
    # Some queries have no relevant document; some relevant documents are not in the corpus.
    relevant = [sorted(random.sample(range(documents + 2), min(documents, random.choice([0, 1, 1, 2, 5])))) for _ in range(queries)]
    relevant[0] = relevant[0] or [0]
    cases.append({"similarities": similarities, "relevant": relevant, "expected": retrieval(similarities, relevant)})
write("retrieval.json", cases)


def pair_model(similarities):
    n = len(similarities)
    model = Given(left=[[s] for s in similarities], right=[[1.0]] * n)
    return model, [f"left {i}" for i in range(n)], [f"right {i}" for i in range(n)]


cases = []
for i in range(50):
    n = 2 if i < 3 else int(rng.integers(3, 30))
    scores = np.round(rng.random(n) * 5, int(rng.integers(0, 2)))
    similarities = np.round(scores / 5 * rng.choice([1, -1, 0.2]) + rng.normal(0, 0.3, n), int(rng.integers(1, 4)))
    model, left, right = pair_model(similarities)
    evaluator = EmbeddingSimilarityEvaluator(left, right, [float(s) for s in scores], similarity_fn_names=["dot"])
    found = evaluator(model)
    expected = {name: float(found[f"{name}_dot"]) for name in ("pearson", "spearman")}
    cases.append({"similarities": similarities, "scores": scores, "expected": expected})
write("similarity.json", cases)


cases = []
for i in range(50):
    n = 1 if i < 4 else int(rng.integers(2, 40))
    labels = (rng.random(n) < (i % 2 if i < 6 else rng.random())).astype(int)
    similarities = np.round(rng.random(n) * 0.7 + 0.3 * labels * (-1 if i % 7 == 0 else 1), int(rng.integers(1, 4)))
    if i in (6, 7):
        similarities[:] = 0.5
    model, left, right = pair_model(similarities)
    evaluator = BinaryClassificationEvaluator(left, right, labels.tolist(), similarity_fn_names=["dot"])
    found = evaluator.compute_metrics(model)["dot"]
    if not labels.any():
        # There the evaluator gives 0; so do we, except for what has no value.
        found["f1_threshold"] = found["ap"] = np.nan
    cases.append({"similarities": similarities, "labels": labels, "expected": {n: float(v) for n, v in found.items()}})
write("pairs.json", cases)
