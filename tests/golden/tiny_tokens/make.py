"""Token classification on tiny models: logits of words, 20 training steps, and long texts that must be cut.

    bert        tiny_bert as BertForTokenClassification
    distilbert  tiny_distilbert as DistilBertForTokenClassification
    roberta     tiny_roberta as RobertaForTokenClassification, its tokenizer with add_prefix_space=True
    electra     tiny_electra as ElectraForTokenClassification
    modernbert  tiny_modernbert as ModernBertForTokenClassification, its bytes with add_prefix_space
    mpnet       tiny_mpnet as MPNetForTokenClassification
    deberta     tiny_deberta as DebertaV2ForTokenClassification

Sentences are lists of words; the tokenizer takes them with is_split_into_words=True, and a word's tag is the target of its first token, all
others being -100, as transformers' example run_ner.py does. The loss is transformers' own: the mean over the tokens with a target of a
batch. Dropout is off. The last step's batch holds three sentences instead of four.

The training file with the sentences of all batches one after the other, in batches of four and not shuffled, gives the 20 steps.

Command:  python3 tests/golden/tiny_tokens/make.py (after the tiny families)
Versions: Python 3.11, torch 2.15.0, transformers 5.24.0, seqeval 1.2.2, safetensors 0.8.0
Seed:     60 (heads), 61 (words and tags), 62 (order of batches)
Writes:   <name>/model/ (a complete model directory), <name>/expected.json (words, tags, token ids, logits of each word, seqeval's F1 of the model
          before training), <name>/training.json (20 steps, each with its sentences, loss and the gradient's norm before clipping; the logits
          after them). Everything expected is computed in float64.
"""

import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))
import tiny
from common import fix_numerics, linear_schedule, versions, write_json

import torch
from seqeval.metrics import f1_score
from tokenizers import pre_tokenizers
from transformers import (AutoTokenizer, BertForTokenClassification, DebertaV2ForTokenClassification, DistilBertForTokenClassification,
                          ElectraForTokenClassification, ModernBertForTokenClassification, MPNetForTokenClassification, RobertaForTokenClassification)

TAGS = ["B-device", "B-place", "I-device", "I-place", "O"]
WORDS = ["refund", "the", "card", "I", "lost", "it", "money", "back", "please", "help", "password", "account", "change", "great", "day", "thanks", "cafe", "0.5", "%",
         "-3,000", "cancelled", ",", ".", "!", "moneyback", "naïve", "\U0001f600", "refundable", "two", "spaces"]
LENGTHS = [1, 9, 5, 3, 7, 4, 6, 2, 8, 3, 6, 2, 5, 4, 6, 3]
TRAINING = {"learning_rate": 2e-3, "weight_decay": 0.01, "max_grad_norm": 1.0, "warmup_steps": 3, "steps": tiny.STEPS}
MODELS = {
    "bert": ("tiny_bert", BertForTokenClassification),
    "distilbert": ("tiny_distilbert", DistilBertForTokenClassification),
    "roberta": ("tiny_roberta", RobertaForTokenClassification),
    "electra": ("tiny_electra", ElectraForTokenClassification),
    "modernbert": ("tiny_modernbert", ModernBertForTokenClassification),
    "mpnet": ("tiny_mpnet", MPNetForTokenClassification),
    "deberta": ("tiny_deberta", DebertaV2ForTokenClassification),
}


def draw_sentences() -> list[dict]:
    generator = torch.Generator().manual_seed(61)
    draw = lambda most: int(torch.randint(0, most, (1,), generator=generator))
    rows = []
    for length in LENGTHS:
        words, tags = [WORDS[draw(len(WORDS))] for _ in range(length)], []
        while len(tags) < length:
            kind, span = ["device", "place", None, None][draw(4)], 1 + draw(3)
            tags += ["O"] if kind is None else ([f"B-{kind}"] + [f"I-{kind}"] * (span - 1))
        rows.append({"tokens": words, "tags": tags[:length]})
    return rows


def encode(tokenizer, row: dict) -> dict:
    made = tokenizer(row["tokens"], is_split_into_words=True)
    targets, firsts, before = [], [], None
    for at, word in enumerate(made.word_ids()):
        is_first = word is not None and word != before
        targets.append(TAGS.index(row["tags"][word]) if is_first else -100)
        firsts += [at] if is_first else []
        before = word
    assert len(firsts) == len(row["tokens"]) and len(targets) <= tiny.LONGEST, row
    return {"input_ids": made["input_ids"], "token_type_ids": [0] * len(made["input_ids"]), "targets": targets, "firsts": firsts}


def logits(model, cases: list[dict]) -> list[list[list[float]]]:
    """Of each word of each sentence, alone and without padding."""
    with torch.no_grad():
        return [[[tiny.digits(value) for value in row] for row in model(**tiny.inputs(model, [case])).logits[0][case["firsts"]].tolist()]
                for case in cases]


def batch_loss(model, cases: list[dict]) -> torch.Tensor:
    """transformers' own loss of the sentences as one batch; of a ModernBERT the same without padding (see tiny.batch_loss)."""
    if model.config.model_type == "modernbert":
        words = torch.cat([model(**tiny.inputs(model, [case])).logits[0] for case in cases])
        return torch.nn.functional.cross_entropy(words, torch.tensor([target for case in cases for target in case["targets"]]))
    longest = max(len(case["targets"]) for case in cases)
    targets = torch.tensor([case["targets"] + [-100] * (longest - len(case["targets"])) for case in cases])
    return model(**tiny.inputs(model, cases), labels=targets).loss


def train(model, cases: list[dict], batches: list[list[int]]) -> dict:
    parameters = list(model.parameters())
    groups = [{"params": [p for p in parameters if p.dim() > 1], "weight_decay": TRAINING["weight_decay"]},
              {"params": [p for p in parameters if p.dim() == 1], "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=TRAINING["learning_rate"], betas=tiny.BETAS, eps=tiny.EPSILON)
    schedule = linear_schedule(optimizer, TRAINING["warmup_steps"], TRAINING["steps"])
    steps = []
    for step, batch in enumerate(batches):
        loss = batch_loss(model, [cases[index] for index in batch])
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
    family, classifier = MODELS[name]
    base, folder = HERE.parent / family / "model", HERE / name
    tiny.clean(HERE, name)
    model = classifier.from_pretrained(base, ignore_mismatched_sizes=True, **tiny.label_names(dict(enumerate(TAGS))))
    tiny.randomise(model.classifier, seed=60)
    tiny.save(model, folder / "model")
    options = {"add_prefix_space": True} if name == "roberta" else {}
    tokenizer = AutoTokenizer.from_pretrained(base, **options)
    if name == "modernbert":
        tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.save_pretrained(folder / "model")

    model = tiny.reference(classifier, folder / "model")
    rows = draw_sentences()
    cases = [encode(tokenizer, row) for row in rows]
    found = logits(model, cases)
    said = [[TAGS[max(range(len(TAGS)), key=word.__getitem__)] for word in row] for row in found]
    f1 = f1_score([row["tags"] for row in rows], said)
    written = [{**row, "input_ids": case["input_ids"], "logits": words} for row, case, words in zip(rows, cases, found)]
    write_json(folder / "expected.json", {"versions": versions(), "labels": TAGS, "entity_f1": tiny.digits(f1), "cases": written}, rows="cases")
    batches = tiny.draw_batches(len(cases), seed=62)
    tiny.write_training(folder / "training.json", name, TRAINING, train(model, cases, batches))


def main() -> None:
    fix_numerics()
    for name in MODELS:
        write_model(name)


if __name__ == "__main__":
    main()
