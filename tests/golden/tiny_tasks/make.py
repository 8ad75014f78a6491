"""Regression and multi-label classification on tiny models: logits and 20 training steps.

    regression             tiny_bert, one number: MSELoss of [N] and [N]
    regression_three       tiny_bert, three numbers of different ranges: MSELoss of [N, 3] and [N, 3]
    multi_label            tiny_bert, five labels, 0 or 1 each: BCEWithLogitsLoss of [N, 5] and [N, 5]
    distilbert_multi_label tiny_distilbert, the same

The losses are transformers' own. Both loss functions take the mean over all N x C elements of a batch (not a sum over the
outputs of an example). The last step's batch holds three cases instead of four, and its mean is over its own elements.

The cases are texts, so that whole runs can read them: a training file with the cases of all batches one after the other, in
batches of four and not shuffled, gives the 20 steps.

Command:  python3 tests/golden/tiny_tasks/make.py (after tiny_bert/make.py and tiny_distilbert/make.py)
Versions: Python 3.11, torch 2.15.0, transformers 5.24.0, safetensors 0.8.0
Seed:     50 (heads), 51 (texts), 52 (order of batches), 53 (targets)
Writes:   <task>/model/ (a complete model directory with its `problem_type`), <task>/expected.json (texts, token ids, targets,
          logits), <task>/training.json (20 steps, each with its cases, loss and the gradient's norm before clipping; the logits
          after them). Everything expected is computed in float64.
"""

import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))
import tiny
from common import fix_numerics, versions, write_json

import torch
from transformers import AutoTokenizer, BertForSequenceClassification, DistilBertForSequenceClassification

TOPICS = {0: "billing", 1: "delivery", 2: "praise", 3: "refund", 4: "urgent"}
TRAINING = {"learning_rate": 2e-3, "weight_decay": 0.01, "max_grad_norm": 1.0, "warmup_steps": 3, "steps": tiny.STEPS}
MEAN = "over all elements of a batch: examples times outputs"


def write_cases(tokenizer) -> list[dict]:
    """Texts of words and pieces of the vocabulary."""
    generator = torch.Generator().manual_seed(51)
    cases = []
    for length in tiny.LENGTHS:
        text = tokenizer.decode(torch.randint(5, len(tokenizer), (length - 2,), generator=generator))
        encoded = tokenizer([text], truncation=True, max_length=tiny.LONGEST)
        ids = encoded["input_ids"][0]
        cases.append({"text": text, "input_ids": ids, "token_type_ids": [0] * len(ids)})
    assert len({case["text"] for case in cases}) == len(cases)
    return cases


def numbers(centres: list[float], spreads: list[float]) -> torch.Tensor:
    """Targets [N, C] of two decimals."""
    generator = torch.Generator().manual_seed(53)
    drawn = torch.normal(0.0, 1.0, (len(tiny.LENGTHS), len(centres)), generator=generator)
    return (drawn * torch.tensor(spreads) + torch.tensor(centres)).double().round(decimals=2)


def topics() -> torch.Tensor:
    """Targets [N, 5]: the first case has no label, the second every one."""
    generator = torch.Generator().manual_seed(53)
    drawn = (torch.rand((len(tiny.LENGTHS), len(TOPICS)), generator=generator) < 0.35).double()
    drawn[0], drawn[1] = 0.0, 1.0
    return drawn


def write_task(name: str, family: str, problem: str, names: dict[int, str], targets: torch.Tensor) -> None:
    classifier = {"tiny_bert": BertForSequenceClassification, "tiny_distilbert": DistilBertForSequenceClassification}[family]
    base, folder = HERE.parent / family / "model", HERE / name
    tiny.clean(HERE, name)
    # A new head: the base's has another number of outputs.
    model = classifier.from_pretrained(base, ignore_mismatched_sizes=True, problem_type=problem, **tiny.label_names(names))
    tiny.randomise(model.classifier, seed=50)
    tiny.save(model, folder / "model")
    tokenizer = AutoTokenizer.from_pretrained(base)
    tokenizer.save_pretrained(folder / "model")

    model = tiny.reference(classifier, folder / "model")
    cases = write_cases(tokenizer)
    batches = tiny.draw_batches(len(cases), seed=52)
    labels = targets[:, 0] if targets.shape[1] == 1 else targets
    before = tiny.logits(model, cases)
    rows = [{**case, "targets": [tiny.digits(value) for value in row.tolist()], "logits": found}
            for case, row, found in zip(cases, targets, before)]
    write_json(folder / "expected.json", {"versions": versions(), "problem_type": problem, "mean": MEAN, "max_length": tiny.LONGEST,
                                          "cases": rows}, rows="cases")
    tiny.write_training(folder / "training.json", name, TRAINING, tiny.train(model, cases, labels, batches, TRAINING))


def main() -> None:
    fix_numerics()
    write_task("regression", "tiny_bert", "regression", {0: "score"}, numbers([0.5], [2.0]))
    write_task("regression_three", "tiny_bert", "regression", {0: "price", 1: "share", 2: "score"}, numbers([4.0, 0.5, 0.0], [3.0, 0.3, 2.0]))
    write_task("multi_label", "tiny_bert", "multi_label_classification", TOPICS, topics())
    write_task("distilbert_multi_label", "tiny_distilbert", "multi_label_classification", TOPICS, topics())


if __name__ == "__main__":
    main()
