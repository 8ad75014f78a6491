"""Loads a fine-tuned model directory with transformers and checks Rekindle's predictions against it.

Command:  python3 tests/golden/tools/check_full.py RUN/final TEXTS.jsonl [--max-length 128] [--tolerance 1e-4]
Versions: Python 3.11, torch 2.15.0, transformers 5.23.0
Prints {text, label, logits} a line; exits with 1 when a probability or label in TEXTS.jsonl differs.
"""

from pathlib import Path

from checker import check, parser, read_texts
from transformers import AutoModelForSequenceClassification, AutoTokenizer


def main() -> int:
    arguments = parser(__doc__.splitlines()[0])
    arguments.add_argument("directory", type=Path)
    arguments.add_argument("texts", type=Path)
    options = arguments.parse_args()
    model, loading = AutoModelForSequenceClassification.from_pretrained(options.directory, local_files_only=True, output_loading_info=True)
    problems = {kind: sorted(map(str, names)) for kind, names in loading.items() if names}
    if problems:
        raise SystemExit(f"{options.directory}: transformers does not account for every tensor: {problems}")
    tokenizer = AutoTokenizer.from_pretrained(options.directory, local_files_only=True)
    labels = [model.config.id2label[index] for index in range(model.config.num_labels)]
    return check(model, tokenizer, read_texts(options.texts), labels, options)


if __name__ == "__main__":
    raise SystemExit(main())
