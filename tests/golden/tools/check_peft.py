"""Loads a LoRA adapter directory with PEFT on its base and checks Rekindle's predictions against it.

Command:  python3 tests/golden/tools/check_peft.py RUN/final BASE TEXTS.jsonl [--labels a,b,c] [--max-length 128] [--tolerance 1e-4]
Versions: Python 3.11, torch 2.15.0, transformers 5.23.0, peft 0.21.2
The labels' order comes from --labels, else from config.json in the adapter directory, else from the first prediction.
Prints {text, label, logits} a line; exits with 1 when a probability or label in TEXTS.jsonl differs.
"""

import json
import sys
from pathlib import Path

from checker import check, labels_in, parser, read_texts
from peft import PeftModel
from safetensors import safe_open
from transformers import AutoModelForSequenceClassification, AutoTokenizer


def label_order(options, rows: list[dict], count: int) -> list[str]:
    config = options.adapter / "config.json"
    if options.labels:
        labels = options.labels.split(",")
    elif config.is_file():
        id2label = json.loads(config.read_text())["id2label"]
        labels = [id2label[str(index)] for index in range(len(id2label))]
    else:
        labels = labels_in(rows) or [f"LABEL_{index}" for index in range(count)]
    if len(labels) != count:
        sys.exit(f"the adapter's classifier has {count} outputs, but there are {len(labels)} labels: {labels}")
    return labels


def main() -> int:
    arguments = parser(__doc__.splitlines()[0])
    arguments.add_argument("adapter", type=Path)
    arguments.add_argument("base", type=Path)
    arguments.add_argument("texts", type=Path)
    arguments.add_argument("--labels", help="comma-separated, in the order of the classifier's outputs")
    options = arguments.parse_args()
    with safe_open(options.adapter / "adapter_model.safetensors", "pt") as file:
        names = list(file.keys())
        head = next((name for name in names if name.endswith(("classifier.weight", "classifier.out_proj.weight", "score.weight"))), None)
        if head is None:
            sys.exit(f"{options.adapter}: no classifier among the adapter's tensors; expected base_model.model.classifier.weight")
        count = file.get_slice(head).get_shape()[0]
    rows = read_texts(options.texts)
    base = AutoModelForSequenceClassification.from_pretrained(options.base, num_labels=count, ignore_mismatched_sizes=True, local_files_only=True)
    model = PeftModel.from_pretrained(base, options.adapter)
    used = {name.replace(".default", "").replace("modules_to_save.", "") for name in model.state_dict()}
    unused = sorted(set(names) - used)
    if unused:
        sys.exit(f"{options.adapter}: PEFT does not use these tensors: {unused}")
    has_tokenizer = (options.adapter / "tokenizer_config.json").is_file()
    tokenizer = AutoTokenizer.from_pretrained(options.adapter if has_tokenizer else options.base, local_files_only=True)
    return check(model, tokenizer, rows, label_order(options, rows, count), options)


if __name__ == "__main__":
    raise SystemExit(main())
