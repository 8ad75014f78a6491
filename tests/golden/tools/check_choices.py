"""Loads a model for multiple choice, or an adapter on its base, with transformers and PEFT and checks Rekindle's predictions against it.

Command:  python3 tests/golden/tools/check_choices.py RUN/final PREDICTIONS.jsonl [BASE] [--max-length 256] [--tolerance 1e-4]
Versions: Python 3.11, torch 2.15.0, transformers 5.24.0, peft 0.21.2
PREDICTIONS.jsonl is what `rekindle predict RUN --file ROWS` writes; exits with 1 when a probability or a chosen index differs.
"""

import sys
from pathlib import Path

from checker import parser, read_texts
import torch
from peft import PeftModel
from safetensors import safe_open
from transformers import AutoModelForMultipleChoice, AutoTokenizer


def load(options):
    if options.base is None:
        model, loading = AutoModelForMultipleChoice.from_pretrained(options.directory, local_files_only=True, output_loading_info=True)
        problems = {kind: sorted(map(str, names)) for kind, names in loading.items() if names}
        if problems:
            raise SystemExit(f"{options.directory}: transformers does not account for every tensor: {problems}")
        return model
    base = AutoModelForMultipleChoice.from_pretrained(options.base, ignore_mismatched_sizes=True, local_files_only=True)
    model = PeftModel.from_pretrained(base, options.directory)
    with safe_open(options.directory / "adapter_model.safetensors", "pt") as file:
        used = {name.replace(".default", "").replace("modules_to_save.", "") for name in model.state_dict()}
        unused = sorted(set(file.keys()) - used)
    if unused:
        raise SystemExit(f"{options.directory}: PEFT does not use these tensors: {unused}")
    return model


def main() -> int:
    arguments = parser(__doc__.splitlines()[0])
    arguments.set_defaults(max_length=256)
    arguments.add_argument("directory", type=Path)
    arguments.add_argument("predictions", type=Path)
    arguments.add_argument("base", type=Path, nargs="?")
    options = arguments.parse_args()
    model, rows = load(options).eval(), read_texts(options.predictions)
    tokenizer = AutoTokenizer.from_pretrained(options.directory, local_files_only=True)
    worst, wrong = 0.0, 0
    for row in rows:
        choices = [choice["choice"] for choice in row["choices"]]
        context = row.get("context")
        first = row["question"] if context is None else context
        second = choices if context is None else [f"{row['question']} {choice}" for choice in choices]
        inputs = tokenizer([first] * len(choices), second, truncation=True, max_length=options.max_length, padding=True, return_tensors="pt")
        with torch.inference_mode():
            logits = model(**{name: values[None] for name, values in inputs.items()}).logits[0]
        wrong += int(logits.argmax()) != row["index"]
        pairs = zip(logits.softmax(-1).tolist(), row["choices"])
        difference = max(abs(p - choice["probability"]) for p, choice in pairs)
        # Written so that a NaN counts as the worst.
        worst = worst if difference <= worst else difference
    print(f"{type(model).__name__}: compared {len(rows)}: largest difference {worst:.2e}, {wrong} choices differ", file=sys.stderr)
    return 0 if worst <= options.tolerance and wrong == 0 else 1


if __name__ == "__main__":
    raise SystemExit(main())
