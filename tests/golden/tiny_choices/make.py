"""Multiple choice on tiny models: one logit a choice, 20 training steps.

    bert        tiny_bert as BertForMultipleChoice
    distilbert  tiny_distilbert as DistilBertForMultipleChoice
    roberta     tiny_roberta as RobertaForMultipleChoice
    electra, albert, modernbert, mpnet and deberta likewise

Each choice is a pair of texts, as transformers' example run_swag.py has it: the context, and the question with the choice behind it. Questions have two
to four choices. Each choice goes through the model alone, so that there is no padding; the loss of a question is cross-entropy over the logits of its
choices, which is transformers' own (checked here for all but ModernBERT, of which padding gives NaN in float64). The loss of a batch is the mean of its
questions' losses. Dropout is off. The last step's batch holds three questions instead of four.

The training file with the questions of all batches one after the other, in batches of four and not shuffled, gives the 20 steps.

Command:  python3 tests/golden/tiny_choices/make.py (after the tiny families)
Versions: Python 3.11, torch 2.15.0, transformers 5.24.0, safetensors 0.8.0
Seed:     80 (heads), 81 (questions), 82 (order of batches)
Writes:   <name>/model/ (a complete model directory), <name>/expected.json (questions, token ids and logit of each choice), <name>/training.json (20
          steps, each with its questions, loss and the gradient's norm before clipping; the logits after them). Everything expected is computed in
          float64.
"""

import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))
import tiny
from common import fix_numerics, linear_schedule, versions, write_json

import torch
from torch.nn.functional import cross_entropy
from transformers import (AlbertForMultipleChoice, AutoTokenizer, BertForMultipleChoice, DebertaV2ForMultipleChoice, DistilBertForMultipleChoice,
                          ElectraForMultipleChoice, ModernBertForMultipleChoice, MPNetForMultipleChoice, RobertaForMultipleChoice)

WORDS = ["refund", "the", "card", "I", "lost", "it", "money", "back", "please", "help", "password", "account", "change", "great", "day", "thanks", "cafe",
         "0.5", "%", "two", "spaces"]
COUNTS = [4, 2, 3, 4, 4, 2, 3, 2, 4, 3, 4, 2, 3, 4, 2, 3]
TRAINING = {"learning_rate": 2e-3, "weight_decay": 0.01, "max_grad_norm": 1.0, "warmup_steps": 3, "steps": tiny.STEPS}
MODELS = {
    "bert": ("tiny_bert", BertForMultipleChoice),
    "distilbert": ("tiny_distilbert", DistilBertForMultipleChoice),
    "roberta": ("tiny_roberta", RobertaForMultipleChoice),
    "electra": ("tiny_electra", ElectraForMultipleChoice),
    "albert": ("tiny_albert", AlbertForMultipleChoice),
    "modernbert": ("tiny_modernbert", ModernBertForMultipleChoice),
    "mpnet": ("tiny_mpnet", MPNetForMultipleChoice),
    "deberta": ("tiny_deberta", DebertaV2ForMultipleChoice),
}


def draw_questions() -> list[dict]:
    generator = torch.Generator().manual_seed(81)
    draw = lambda most: int(torch.randint(0, most, (1,), generator=generator))
    words = lambda most: " ".join(WORDS[draw(len(WORDS))] for _ in range(1 + draw(most)))
    rows = []
    for number, count in enumerate(COUNTS):
        row = {"question": words(2), "choices": [words(3) for _ in range(count)], "answer": draw(count)}
        # Some questions stand alone.
        rows.append(row if number % 4 == 3 else {"context": words(4), **row})
    return rows


def encode(tokenizer, row: dict) -> list[dict]:
    cases = []
    for choice in row["choices"]:
        pair = (row["context"], f"{row['question']} {choice}") if "context" in row else (row["question"], choice)
        made = tokenizer(*pair)
        cases.append({"input_ids": made["input_ids"], "token_type_ids": made.get("token_type_ids") or [0] * len(made["input_ids"])})
    return cases


def scores(model, cases: list[dict]) -> torch.Tensor:
    """The logits of a question's choices, each choice alone."""
    def of(case):
        return model(**{name: value[None] for name, value in tiny.inputs(model, [case]).items()}).logits[0, 0]
    return torch.stack([of(case) for case in cases])


def loss_of(model, row: dict, cases: list[dict]) -> torch.Tensor:
    return cross_entropy(scores(model, cases)[None], torch.tensor([row["answer"]]))


def check_loss(model, row: dict, cases: list[dict]) -> None:
    """transformers' own loss of the question, padded, is the same."""
    if model.config.model_type == "modernbert":
        return
    with torch.no_grad():
        padded = {name: value[None] for name, value in tiny.inputs(model, cases).items()}
        theirs = model(**padded, labels=torch.tensor([row["answer"]])).loss
        assert torch.allclose(theirs, loss_of(model, row, cases), rtol=1e-9), (theirs, row)


def logits(model, questions: list[list[dict]]) -> list[list[float]]:
    with torch.no_grad():
        return [[tiny.digits(value) for value in scores(model, cases).tolist()] for cases in questions]


def train(model, rows: list[dict], questions: list[list[dict]], batches: list[list[int]]) -> dict:
    parameters = list(model.parameters())
    groups = [{"params": [p for p in parameters if p.dim() > 1], "weight_decay": TRAINING["weight_decay"]},
              {"params": [p for p in parameters if p.dim() == 1], "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=TRAINING["learning_rate"], betas=tiny.BETAS, eps=tiny.EPSILON)
    schedule = linear_schedule(optimizer, TRAINING["warmup_steps"], TRAINING["steps"])
    steps = []
    for step, batch in enumerate(batches):
        loss = torch.stack([loss_of(model, rows[index], questions[index]) for index in batch]).mean()
        loss.backward()
        before = torch.nn.utils.clip_grad_norm_(parameters, TRAINING["max_grad_norm"])
        rate = schedule.get_last_lr()[0]
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        steps.append({"step": step + 1, "batch": batch, "loss": tiny.digits(loss.item()), "learning_rate": rate,
                      "gradient_norm": tiny.digits(before.item())})
    return {"trained_parameters": sum(p.numel() for p in parameters), "logits_after": logits(model, questions), "steps": steps}


def write_model(name: str) -> None:
    family, choosing = MODELS[name]
    base, folder = HERE.parent / family / "model", HERE / name
    tiny.clean(HERE, name)
    model = choosing.from_pretrained(base, ignore_mismatched_sizes=True)
    # What is new, and what may be: poolers and maps before the classifier, too.
    for number, module in enumerate(["classifier", "pre_classifier", "sequence_summary", "pooler"]):
        own = getattr(model, module, None) or getattr(model.base_model, module, None)
        if own is not None:
            tiny.randomise(own, seed=80 + 100 * number)
    tiny.save(model, folder / "model")
    tokenizer = AutoTokenizer.from_pretrained(base)
    tokenizer.save_pretrained(folder / "model")

    model = tiny.reference(choosing, folder / "model")
    rows = draw_questions()
    questions = [encode(tokenizer, row) for row in rows]
    for row, cases in zip(rows, questions):
        check_loss(model, row, cases)
    found = logits(model, questions)
    written = [{**row, "input_ids": [case["input_ids"] for case in cases], "logits": values}
               for row, cases, values in zip(rows, questions, found)]
    write_json(folder / "expected.json", {"versions": versions(), "cases": written}, rows="cases")
    batches = tiny.draw_batches(len(rows), seed=82)
    tiny.write_training(folder / "training.json", name, TRAINING, train(model, rows, questions, batches))


def main() -> None:
    fix_numerics()
    for name in MODELS:
        write_model(name)


if __name__ == "__main__":
    main()
