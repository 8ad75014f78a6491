"""Fine-tunes a text classifier from a TSV with transformers' Trainer (and PEFT), to compare accuracy and times with Rekindle.

Command:  python3 tests/golden/tools/train_reference.py --train train.tsv --validation validation.tsv --method lora [--limit 8000]
          [--learning-rate 1e-3] [--batch-size 32] [--epochs 1] [--group-by-length] [--no-header] [--model DIR]
Versions: Python 3.11, torch 2.15.0, transformers 5.23.0, peft 0.21.2, accelerate 1.15.0
Seed:     --seed, default 0
Defaults: AdamW with weight decay 0.01, linear schedule with 6 % warmup, clipping at 1.0, max length 128, two threads; LoRA r 8,
          alpha 16, dropout 0 on query and value, rate 1e-3; full fine-tuning's rate 5e-5. The first column is the text, the
          second the label; labels are sorted by name.
Prints one JSON object: accuracy, seconds of start-up (imports and loading), training and evaluation, peak memory in MB.
"""

import time

BEGIN = time.perf_counter()

import argparse
import csv
import json
import resource
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
from common import model_argument

import torch
import transformers
from transformers import AutoModelForSequenceClassification, AutoTokenizer, DataCollatorWithPadding, Trainer, TrainingArguments


def read(path: Path, header: bool, limit: int | None) -> list[tuple[str, str]]:
    with open(path, encoding="utf-8", newline="") as file:
        rows = [(row[0], row[1]) for row in csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE)]
    rows = rows[1:] if header else rows
    return rows[:limit]


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    model_argument(parser)
    parser.add_argument("--train", type=Path, required=True)
    parser.add_argument("--validation", type=Path, required=True)
    parser.add_argument("--limit", type=int, help="first rows of the training file")
    parser.add_argument("--validation-limit", type=int)
    parser.add_argument("--method", choices=["lora", "full"], default="lora")
    parser.add_argument("--learning-rate", type=float)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--epochs", type=float, default=1)
    parser.add_argument("--max-length", type=int, default=128)
    parser.add_argument("--group-by-length", action="store_true")
    parser.add_argument("--no-header", action="store_true")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    options.learning_rate = options.learning_rate or {"lora": 1e-3, "full": 5e-5}[options.method]
    return options


def main() -> None:
    options = arguments()
    torch.set_num_threads(options.threads)
    transformers.set_seed(options.seed)
    transformers.utils.logging.set_verbosity_error()
    train_rows = read(options.train, not options.no_header, options.limit)
    validation_rows = read(options.validation, not options.no_header, options.validation_limit)
    labels = sorted({label for _, label in train_rows})

    tokenizer = AutoTokenizer.from_pretrained(options.model)

    def encode(rows):
        encoded = tokenizer([text for text, _ in rows], truncation=True, max_length=options.max_length)
        return [{"input_ids": ids, "attention_mask": mask, "token_type_ids": types, "labels": labels.index(label)} for ids, mask, types, (_, label)
                in zip(encoded["input_ids"], encoded["attention_mask"], encoded["token_type_ids"], rows)]

    train_set, validation_set = encode(train_rows), encode(validation_rows)
    model = AutoModelForSequenceClassification.from_pretrained(options.model, num_labels=len(labels))
    if options.method == "lora":
        from peft import LoraConfig, TaskType, get_peft_model
        model = get_peft_model(model, LoraConfig(task_type=TaskType.SEQ_CLS, r=8, lora_alpha=16, lora_dropout=0.0, target_modules=["query", "value"]))
    steps = -(-len(train_set) // options.batch_size) * options.epochs
    grouping = "group_by_length" if options.group_by_length else "random"
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(
            model=model, train_dataset=train_set, data_collator=DataCollatorWithPadding(tokenizer),
            args=TrainingArguments(
                output_dir=folder, learning_rate=options.learning_rate, num_train_epochs=options.epochs, weight_decay=0.01,
                per_device_train_batch_size=options.batch_size, per_device_eval_batch_size=options.batch_size,
                lr_scheduler_type="linear", warmup_steps=round(0.06 * steps), train_sampling_strategy=grouping, seed=options.seed,
                use_cpu=True, save_strategy="no", logging_strategy="no", report_to="none", disable_tqdm=True))
        ready = time.perf_counter()
        trainer.train()
        trained = time.perf_counter()
        # Evaluation needs no order: with grouping on, batches of near lengths, as a user who cares would arrange them.
        if options.group_by_length:
            validation_set.sort(key=lambda row: len(row["input_ids"]))
        output = trainer.predict(validation_set)
        evaluated = time.perf_counter()
    accuracy = float((output.predictions.argmax(-1) == output.label_ids).mean())
    print(json.dumps({
        "method": options.method, "train_rows": len(train_set), "validation_rows": len(validation_set), "group_by_length": options.group_by_length,
        "learning_rate": options.learning_rate, "seed": options.seed, "accuracy": round(accuracy, 4),
        "start_up_seconds": round(ready - BEGIN, 1), "train_seconds": round(trained - ready, 1), "evaluate_seconds": round(evaluated - trained, 1),
        "peak_memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024}))


if __name__ == "__main__":
    main()
