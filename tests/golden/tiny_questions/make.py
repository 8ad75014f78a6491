"""Extractive question answering on tiny models: two logits a token, the best answers, 20 training steps.

    bert        tiny_bert as BertForQuestionAnswering
    distilbert  tiny_distilbert as DistilBertForQuestionAnswering
    roberta     tiny_roberta as RobertaForQuestionAnswering
    electra, albert, modernbert, mpnet and deberta likewise

A question and its context are encoded together; of every fourth question the context has no answer, and both positions are the first token, as
transformers' example run_qa.py does. Every window goes through the model alone, so that there is no padding: transformers' own loss takes the
logits of padding into its softmax, which depends on how batches are padded. The loss of a batch is the mean of its windows' losses. Dropout is off.
The last step's batch holds three questions instead of four.

The training file with the questions of all batches one after the other, in batches of four and not shuffled, gives the 20 steps.

Command:  python3 tests/golden/tiny_questions/make.py (after the tiny families)
Versions: Python 3.11, torch 2.15.0, transformers 5.24.0, safetensors 0.8.0
Seed:     70 (heads), 71 (questions), 72 (order of batches)
Writes:   <name>/model/ (a complete model directory), <name>/expected.json (questions, token ids, logits of each token, the answer of the best pair of
          tokens within the context, of at most 30), <name>/training.json (20 steps, each with its questions, loss and the gradient's norm before
          clipping; the logits after them). Everything expected is computed in float64.
"""

import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))
import tiny
from common import fix_numerics, linear_schedule, versions, write_json

import torch
from transformers import (AlbertForQuestionAnswering, AutoTokenizer, BertForQuestionAnswering, DebertaV2ForQuestionAnswering,
                          DistilBertForQuestionAnswering, ElectraForQuestionAnswering, ModernBertForQuestionAnswering, MPNetForQuestionAnswering,
                          RobertaForQuestionAnswering)

WORDS = ["refund", "the", "card", "I", "lost", "it", "money", "back", "please", "help", "password", "account", "change", "great", "day", "thanks", "cafe",
         "0.5", "%", "two", "spaces"]
LENGTHS = [4, 3, 5, 2, 4, 5, 3, 5, 2, 4, 5, 3, 4, 3, 5, 3]
LONGEST = 30
TRAINING = {"learning_rate": 2e-3, "weight_decay": 0.01, "max_grad_norm": 1.0, "warmup_steps": 3, "steps": tiny.STEPS}
MODELS = {
    "bert": ("tiny_bert", BertForQuestionAnswering),
    "distilbert": ("tiny_distilbert", DistilBertForQuestionAnswering),
    "roberta": ("tiny_roberta", RobertaForQuestionAnswering),
    "electra": ("tiny_electra", ElectraForQuestionAnswering),
    "albert": ("tiny_albert", AlbertForQuestionAnswering),
    "modernbert": ("tiny_modernbert", ModernBertForQuestionAnswering),
    "mpnet": ("tiny_mpnet", MPNetForQuestionAnswering),
    "deberta": ("tiny_deberta", DebertaV2ForQuestionAnswering),
}


def draw_questions() -> list[dict]:
    generator = torch.Generator().manual_seed(71)
    draw = lambda most: int(torch.randint(0, most, (1,), generator=generator))
    rows = []
    for number, length in enumerate(LENGTHS):
        words = [WORDS[draw(len(WORDS))] for _ in range(length)]
        context, question = " ".join(words), " ".join(WORDS[draw(len(WORDS))] for _ in range(1 + draw(2)))
        first = draw(length)
        last = min(length - 1, first + draw(3))
        start = len(" ".join(words[:first])) + (first > 0)
        text = " ".join(words[first : last + 1])
        assert context[start : start + len(text)] == text
        answers = {"text": [], "answer_start": []} if number % 4 == 3 else {"text": [text], "answer_start": [start]}
        rows.append({"question": question, "context": context, "answers": answers})
    return rows


def encode(tokenizer, row: dict) -> dict:
    made = tokenizer(row["question"], row["context"], return_offsets_mapping=True)
    parts, offsets = made.sequence_ids(), made["offset_mapping"]
    inside = [at for at, part in enumerate(parts) if part == 1]
    start = end = 0
    if row["answers"]["text"]:
        begin = row["answers"]["answer_start"][0]
        behind = begin + len(row["answers"]["text"][0])
        start = [at for at in inside if offsets[at][0] <= begin][-1]
        end = [at for at in inside if offsets[at][1] >= behind][0]
    types = made.get("token_type_ids") or [0] * len(parts)
    return {"input_ids": made["input_ids"], "token_type_ids": types, "targets": [start, end], "inside": inside, "offsets": offsets}


def run(model, case: dict, **labels):
    return model(**tiny.inputs(model, [case]), **labels)


def logits(model, cases: list[dict]) -> list[list[list[float]]]:
    with torch.no_grad():
        outputs = [run(model, case) for case in cases]
    pairs = [torch.stack([output.start_logits[0], output.end_logits[0]], dim=1).tolist() for output in outputs]
    return [[[tiny.digits(value) for value in row] for row in rows] for rows in pairs]


def best(row: dict, case: dict, found: list[list[float]]) -> str:
    pairs = [(found[a][0] + found[b][1], a, b) for a in case["inside"] for b in case["inside"] if a <= b < a + LONGEST]
    _, first, last = max(pairs)
    return row["context"][case["offsets"][first][0] : case["offsets"][last][1]]


def train(model, cases: list[dict], batches: list[list[int]]) -> dict:
    parameters = list(model.parameters())
    groups = [{"params": [p for p in parameters if p.dim() > 1], "weight_decay": TRAINING["weight_decay"]},
              {"params": [p for p in parameters if p.dim() == 1], "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=TRAINING["learning_rate"], betas=tiny.BETAS, eps=tiny.EPSILON)
    schedule = linear_schedule(optimizer, TRAINING["warmup_steps"], TRAINING["steps"])
    steps = []
    for step, batch in enumerate(batches):
        losses = []
        for index in batch:
            start, end = cases[index]["targets"]
            labels = {"start_positions": torch.tensor([start]), "end_positions": torch.tensor([end])}
            losses.append(run(model, cases[index], **labels).loss)
        loss = torch.stack(losses).mean()
        loss.backward()
        before = torch.nn.utils.clip_grad_norm_(parameters, TRAINING["max_grad_norm"])
        rate = schedule.get_last_lr()[0]
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        steps.append({"step": step + 1, "batch": batch, "loss": tiny.digits(loss.item()), "learning_rate": rate,
                      "gradient_norm": tiny.digits(before.item())})
    return {"trained_parameters": sum(p.numel() for p in parameters), "logits_after": logits(model, cases), "steps": steps}


def write_model(name: str) -> None:
    family, answering = MODELS[name]
    base, folder = HERE.parent / family / "model", HERE / name
    tiny.clean(HERE, name)
    # The base's own labels are those of another head.
    model = answering.from_pretrained(base, num_labels=2, ignore_mismatched_sizes=True)
    tiny.randomise(getattr(model, "qa_outputs", None) or model.classifier, seed=70)
    tiny.save(model, folder / "model")
    tokenizer = AutoTokenizer.from_pretrained(base)
    tokenizer.save_pretrained(folder / "model")

    model = tiny.reference(answering, folder / "model")
    rows = draw_questions()
    cases = [encode(tokenizer, row) for row in rows]
    found = logits(model, cases)
    written = [{**row, "input_ids": case["input_ids"], "logits": tokens, "best": best(row, case, tokens)} for row, case, tokens in zip(rows, cases, found)]
    write_json(folder / "expected.json", {"versions": versions(), "cases": written}, rows="cases")
    batches = tiny.draw_batches(len(cases), seed=72)
    tiny.write_training(folder / "training.json", name, TRAINING, train(model, cases, batches))


def main() -> None:
    fix_numerics()
    for name in MODELS:
        write_model(name)


if __name__ == "__main__":
    main()
