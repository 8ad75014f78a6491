"""Sentence embeddings on tiny models: vectors of sentences, and 20 training steps of two losses.

    bert        tiny_bert's encoder, mean of the tokens, normalised
    distilbert  tiny_distilbert's encoder, first token, as it is

Both are directories that sentence-transformers saved. Losses are its own: MultipleNegativesRankingLoss (scale 20) on pairs with one hard
negative, CosineSimilarityLoss on pairs with a score, and the first inside MatryoshkaLoss. Dropout is off. Texts are drawn from a few words, all of a
batch being different. The last step's batch holds three rows instead of four.

The training file with the rows of all batches one after the other, in batches of four and not shuffled, gives the 20 steps.

Command:  python3 tests/golden/tiny_embeddings/make.py (after tiny_bert and tiny_distilbert)
Versions: Python 3.11, torch 2.15.0, transformers 5.24.0, sentence-transformers 6.2.0
Seed:     70 (texts and scores)
Writes:   <name>/model/ (a complete model directory), <name>/expected.json (sentences and their vectors before training), <name>/<loss>.json (20 steps,
          each with its loss and the gradient's norm before clipping; the rows; the vectors of the sentences after them). Everything expected is
          computed in float64.
"""

import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))
import tiny
from common import fix_numerics, linear_schedule, versions, write_json

import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Transformer
from sentence_transformers.base.modules.normalize import Normalize
from sentence_transformers.sentence_transformer import losses
from sentence_transformers.sentence_transformer.modules import Pooling

WORDS = ["refund", "the", "card", "I", "lost", "it", "money", "back", "please", "help", "password", "account", "change", "great", "day", "thanks", "cafe",
         "cancelled", "two", "spaces", "moneyback", "refundable"]
MODELS = {"bert": ("tiny_bert", "mean", True), "distilbert": ("tiny_distilbert", "cls", False)}
LOSSES = ["mnrl", "cosine", "matryoshka"]
DIMS = [32, 8]
TRAINING = {"learning_rate": 2e-3, "weight_decay": 0.01, "max_grad_norm": 1.0, "warmup_steps": 3, "steps": tiny.STEPS}


def draw_texts(count: int, generator: torch.Generator) -> list[str]:
    """So many texts, no two alike."""
    texts: list[str] = []
    while len(texts) < count:
        length = int(torch.randint(1, 9, (1,), generator=generator))
        text = " ".join(WORDS[int(i)] for i in torch.randint(0, len(WORDS), (length,), generator=generator))
        texts += [] if text in texts else [text]
    return texts


def draw_rows() -> list[list[dict]]:
    generator = torch.Generator().manual_seed(70)
    batches = []
    for step in range(tiny.STEPS):
        size = tiny.BATCH - 1 if step == tiny.STEPS - 1 else tiny.BATCH
        texts = draw_texts(3 * size, generator)
        scores = torch.randint(0, 5, (size,), generator=generator).tolist()
        batches.append([{"texts": texts[3 * i:3 * i + 3], "score": scores[i] / 4} for i in range(size)])
    return batches


def train(model: SentenceTransformer, name: str, batches: list[list[dict]]) -> list[dict]:
    objective = {"mnrl": lambda: losses.MultipleNegativesRankingLoss(model), "cosine": lambda: losses.CosineSimilarityLoss(model),
                 "matryoshka": lambda: losses.MatryoshkaLoss(model, losses.MultipleNegativesRankingLoss(model), DIMS)}[name]()
    parameters = list(model.parameters())
    groups = [{"params": [p for p in parameters if p.dim() > 1], "weight_decay": TRAINING["weight_decay"]},
              {"params": [p for p in parameters if p.dim() == 1], "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=TRAINING["learning_rate"], betas=tiny.BETAS, eps=tiny.EPSILON)
    schedule = linear_schedule(optimizer, TRAINING["warmup_steps"], TRAINING["steps"])
    steps = []
    for step, rows in enumerate(batches):
        columns = range(2 if name == "cosine" else 3)
        features = [model.preprocess([row["texts"][column] for row in rows]) for column in columns]
        scores = torch.tensor([row["score"] for row in rows], dtype=torch.float64)
        loss = objective(features, scores)
        loss.backward()
        before = torch.nn.utils.clip_grad_norm_(parameters, TRAINING["max_grad_norm"])
        rate = schedule.get_last_lr()[0]
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        steps.append({"step": step + 1, "loss": tiny.digits(loss.item()), "learning_rate": rate, "gradient_norm": tiny.digits(before.item())})
    return steps


def vectors(model: SentenceTransformer, sentences: list[str]) -> list[list[float]]:
    """Each alone, without padding."""
    return [[tiny.digits(value) for value in model.encode([text])[0].tolist()] for text in sentences]


def write_model(name: str, batches: list[list[dict]]) -> None:
    family, pooling, normalizes = MODELS[name]
    folder = HERE / name
    tiny.clean(HERE, name)
    base = Transformer(str(HERE.parent / family / "model"), max_seq_length=30)
    modules = [base, Pooling(base.get_embedding_dimension(), pooling_mode=pooling)] + ([Normalize()] if normalizes else [])
    SentenceTransformer(modules=modules, device="cpu").save(str(folder / "model"), create_model_card=False)

    reference = lambda: SentenceTransformer(str(folder / "model"), device="cpu", model_kwargs={"attn_implementation": "eager"}).double().eval()
    sentences = [text for row in batches[0] for text in row["texts"]]
    write_json(folder / "expected.json", {"versions": versions(), "vectors": [{"text": text, "vector": vector} for text, vector
                                                                            in zip(sentences, vectors(reference(), sentences))]}, rows="vectors")
    for loss in LOSSES:
        model = reference()
        steps = train(model, loss, batches)
        rows = [row for batch in batches for row in batch]
        after = vectors(model, sentences)
        write_json(folder / f"{loss}.json", {"versions": versions(), **TRAINING, "dims": DIMS, "sentences": sentences, "vectors_after": after,
                                             "rows": rows, "steps": steps}, rows="rows")
        print(name, loss, " ".join(f"{step['loss']:.4f}" for step in steps))


def main() -> None:
    fix_numerics()
    batches = draw_rows()
    for name in MODELS:
        write_model(name, batches)


if __name__ == "__main__":
    main()
