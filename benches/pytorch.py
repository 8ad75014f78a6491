"""The jobs of `rekindle-bench` in PyTorch, for `cargo xtask bench`.

    python pytorch.py JOB [MODEL_DIR]      a step job: prints `ready`, then for every line on standard input does one round
                                           and prints its seconds; at the end of the input, the peak memory in bytes
    python pytorch.py text TASK METHOD BATCHES TRAIN VALIDATION TEXT TARGET ROWS EPOCHS MODEL_DIR OUT
                                           a whole run with transformers' Trainer (and PEFT where METHOD is lora):
                                           EPOCHS over the first ROWS rows, an evaluation, the model saved. TASK is
                                           text-classification, text-regression or text-multi-label; BATCHES is padded
                                           (the Trainer's way) or grouped (by length). TRAIN and VALIDATION are TSV, or
                                           JSONL; TEXT and TARGET are columns, of a pair TEXT is two with a comma between
    python pytorch.py tokens TRAIN VALIDATION TEST EPOCHS SEED MODEL_DIR OUT
                                           a whole run of token classification with LoRA on all linear layers, as `rekindle
                                           finetune` does by itself: an evaluation after each epoch, the best model saved, its
                                           entity F1 of VALIDATION and of TEST. The files are JSONL of `text` and `spans`
    python pytorch.py questions TRAIN TEST EPOCHS MODEL_DIR OUT
                                           the same of extractive question answering: the exact match and F1 of TEST. The files
                                           are JSONL of `question`, `context` and `answers`, short enough for a window
    python pytorch.py choices TRAIN TEST ROWS EPOCHS MODEL_DIR OUT
                                           the same of multiple choice, over the first ROWS rows: the accuracy of TEST. The files
                                           are JSONL of `question`, `choices` and `answer`, all with as many choices
    python pytorch.py embeddings TRAIN TEST EPOCHS MODEL_DIR OUT
                                           a whole run of sentence-transformers with LoRA on all linear layers: the accuracy at 1
                                           of a search in the documents of TEST before and after. The files are JSONL of `query`
                                           and `document`
    python pytorch.py unpack PACKAGE OUT   SmolLM2 out of its GGUF file as a directory of safetensors
    python pytorch.py language METHOD MODEL_DIR OUT TRAIN TEST
                                           a whole run of a language model on prompts and completions (JSONL): an epoch in
                                           batches of 16, the perplexity of TEST, the model saved
    python pytorch.py language METHOD MODEL_DIR OUT ROUNDS BATCH LENGTH
                                           so many steps of BATCH texts of LENGTH tokens, all of them learned; the JSON has
                                           the median time of a step after the first
    python pytorch.py head DATA WEIGHTS OUT
                                           epochs of a new head on a frozen EfficientNet-Lite0 (its directory is WEIGHTS)
                                           over a folder of pictures with train and val

Whole runs print `first step` when their first step is done, and at the end a line of JSON.

Needs torch, transformers, peft, torchvision, timm, sentence-transformers. Two threads, or as many as REKINDLE_BENCH_THREADS says.
"""

import os
import resource
import sys
import time

import torch

THREADS = int(os.environ.get("REKINDLE_BENCH_THREADS", "2"))
torch.set_num_threads(THREADS)
torch.manual_seed(1)


def lengths(real):
    if not real:
        return [128] * 32
    return [8 + 120 * i**3 // 31**3 for i in range(32)]


def minilm(what, model_dir):
    from transformers import BertForSequenceClassification

    autocast = what.endswith("-bf16")
    what = what.removesuffix("-bf16")
    real = what.endswith("-real")
    what = what.removesuffix("-real")
    model = BertForSequenceClassification.from_pretrained(
        model_dir,
        num_labels=2,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        classifier_dropout=0.0,
    )
    lens = lengths(real)
    ids = torch.randint(1000, 29000, (32, max(lens)))
    mask = torch.zeros_like(ids)
    for row, n in enumerate(lens):
        mask[row, :n] = 1
    inputs = dict(input_ids=ids) if not real else dict(input_ids=ids, attention_mask=mask)
    if what == "forward":
        model.eval()

        def forward():
            with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=autocast):
                model(**inputs)

        return forward
    if what == "lora":
        from peft import LoraConfig, get_peft_model

        config = LoraConfig(
            task_type="SEQ_CLS", r=8, lora_alpha=16, target_modules=["query", "value"]
        )
        model = get_peft_model(model, config)
    labels = torch.arange(32) % 2
    return steps(model, lambda: model(**inputs).logits, labels, autocast)


def pictures(net, what):
    """Both memory layouts; the faster one counts."""
    import timm
    import torchvision

    def build(layout):
        torch.manual_seed(1)
        if net == "resnet18":
            model = torchvision.models.resnet18(num_classes=10)
        elif net == "vits":
            model = timm.create_model("vit_small_patch16_224", num_classes=10)
        else:
            model = timm.create_model("tf_efficientnet_lite0", num_classes=10)
        model = model.to(memory_format=layout)
        x = (torch.rand(16, 3, 224, 224) * 2 - 1).to(memory_format=layout)
        if what == "forward":
            model.eval()

            def forward():
                with torch.no_grad():
                    model(x)

            return forward
        model.train()
        return steps(model, lambda: model(x), torch.arange(16) % 10, False)

    best = None
    for layout in (torch.channels_last, torch.contiguous_format):
        job = build(layout)
        job()
        start = time.perf_counter()
        job()
        job()
        seconds = time.perf_counter() - start
        if best is None or seconds < best[0]:
            best = (seconds, job)
    return best[1]


def steps(model, logits, labels, autocast):
    model.train()
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=5e-5, weight_decay=0.01, fused=True)

    def step():
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            loss = torch.nn.functional.cross_entropy(logits().float(), labels)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        loss.item()

    return step


def read_table(path, text, target, limit):
    """Texts and targets as written, of TSV (columns by name, or by place where there is no header) or JSONL."""
    import csv
    import json

    with open(path, newline="", encoding="utf-8") as file:
        if path.endswith(".jsonl"):
            rows = [json.loads(line) for line in file if line.strip()][:limit]
            texts = [tuple(row[name] for name in text.split(",")) for row in rows]
            return [text[0] if len(text) == 1 else text for text in texts], [row[target] for row in rows]
        lines = list(csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    if text.isdigit():
        at = [int(text), int(target)]
    else:
        at = [lines[0].index(text), lines[0].index(target)]
        lines = lines[1:]
    lines = lines[:limit]
    return [row[at[0]] for row in lines], [row[at[1]] for row in lines]


def micro_f1(logits, targets):
    """At a threshold of 0.5."""
    found, targets = logits > 0, targets > 0.5
    return 2 * float((found & targets).sum()) / max(float(found.sum() + targets.sum()), 1.0)


def pearson(outputs, targets):
    import numpy

    return float(numpy.corrcoef(outputs[:, 0], targets)[0, 1])


class Task:
    """What differs between tasks: outputs, `problem_type`, targets as numbers, and the figure."""

    def __init__(self, name, targets):
        if name == "text-classification":
            names = sorted(set(targets))
            self.outputs, self.problem = len(names), "single_label_classification"
            self.encode = names.index
            self.figure = ("accuracy", lambda p: float((p[0].argmax(-1) == p[1]).mean()))
        elif name == "text-regression":
            self.outputs, self.problem = 1, "regression"
            self.encode = float
            self.figure = ("pearson", lambda p: pearson(p[0], p[1]))
        elif name == "text-multi-label":
            names = sorted({label for labels in targets for label in labels})
            self.outputs, self.problem = len(names), "multi_label_classification"
            self.encode = lambda labels: [float(name in labels) for name in names]
            self.figure = ("micro_f1", lambda p: micro_f1(p[0], p[1]))
        else:
            raise SystemExit(f"no task {name}")


def first_step():
    """What tells when a trainer's first step is done."""
    from transformers import TrainerCallback

    class First(TrainerCallback):
        def on_step_end(self, args, state, control, **kwargs):
            if state.global_step == 1:
                print("first step", flush=True)

    return First()


def run_text(
    task, method, batches, train, validation, text, target, rows, epochs, model_dir, out
):
    import json

    from transformers import (
        AutoTokenizer,
        BertForSequenceClassification,
        Trainer,
        TrainingArguments,
    )

    texts, targets = read_table(train, text, target, int(rows))
    task = Task(task, targets)
    tokenizer = AutoTokenizer.from_pretrained(model_dir)

    def encoded(texts, targets):
        # One list, or of pairs the left ones and the right ones.
        sides = [texts] if isinstance(texts[0], str) else [list(side) for side in zip(*texts)]
        tokens = tokenizer(*sides, truncation=True, max_length=128)
        return [
            dict(
                input_ids=tokens["input_ids"][i],
                attention_mask=tokens["attention_mask"][i],
                token_type_ids=tokens["token_type_ids"][i],
                length=len(tokens["input_ids"][i]),
                labels=task.encode(targets[i]),
            )
            for i in range(len(targets))
        ]

    model = BertForSequenceClassification.from_pretrained(
        model_dir, num_labels=task.outputs, problem_type=task.problem
    )
    rate = 5e-5
    if method == "lora":
        from peft import LoraConfig, get_peft_model

        config = LoraConfig(
            task_type="SEQ_CLS", r=8, lora_alpha=16, target_modules=["query", "value"]
        )
        model = get_peft_model(model, config)
        rate = 1e-3

    sampling = {"train_sampling_strategy": "group_by_length"} if batches == "grouped" else {}
    arguments = TrainingArguments(
        output_dir=out,
        num_train_epochs=int(epochs),
        per_device_train_batch_size=32,
        per_device_eval_batch_size=32,
        learning_rate=rate,
        weight_decay=0.01,
        warmup_steps=0.06,
        lr_scheduler_type="linear",
        use_cpu=True,
        report_to=[],
        save_strategy="no",
        disable_tqdm=True,
        logging_strategy="no",
        **sampling,
    )
    figure, compute = task.figure
    trainer = Trainer(
        model=model,
        args=arguments,
        train_dataset=encoded(texts, targets),
        eval_dataset=encoded(*read_table(validation, text, target, None)),
        processing_class=tokenizer,
        compute_metrics=lambda p: {figure: compute(p)},
        callbacks=[first_step()],
    )
    trainer.train()
    value = trainer.evaluate()[f"eval_{figure}"]
    trainer.save_model(out)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps({figure: value, "peak": peak}), flush=True)


def rows_of(path):
    import json

    with open(path, encoding="utf-8") as file:
        return [json.loads(line) for line in file if line.strip()]


# All of MiniLM's.
LINEAR = ["query", "key", "value", "dense"]


def tuned(model, head, task_type, collator, sets, epochs, seed, out, scored=None, batch=32):
    """The Trainer with LoRA, the head at ten times the adapters' rate, an evaluation an epoch where there is a figure."""
    from peft import LoraConfig, get_peft_model
    from transformers import Trainer, TrainingArguments, get_linear_schedule_with_warmup

    config = LoraConfig(task_type=task_type, r=8, lora_alpha=16, target_modules=LINEAR, modules_to_save=[head])
    model = get_peft_model(model, config)
    groups = {True: [], False: []}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            groups[head in name].append(parameter)
    optimizer = torch.optim.AdamW(
        [{"params": groups[True], "lr": 1e-2}, {"params": groups[False], "lr": 1e-3}], weight_decay=0.01
    )
    steps = -(-len(sets[0]) // batch) * epochs
    schedule = get_linear_schedule_with_warmup(optimizer, int(steps * 0.06), steps)

    each = {} if scored is None else dict(eval_strategy="epoch", load_best_model_at_end=True, metric_for_best_model="figure")
    arguments = TrainingArguments(
        output_dir=out,
        num_train_epochs=epochs,
        per_device_train_batch_size=batch,
        per_device_eval_batch_size=batch,
        use_cpu=True,
        seed=seed,
        report_to=[],
        save_strategy="no" if scored is None else "epoch",
        save_total_limit=2,
        disable_tqdm=True,
        logging_strategy="no",
        label_names=["labels"] if scored else ["start_positions", "end_positions"],
        **each,
    )
    trainer = Trainer(
        model=model,
        args=arguments,
        train_dataset=sets[0],
        eval_dataset=sets[1],
        data_collator=collator,
        compute_metrics=scored,
        optimizers=(optimizer, schedule),
        callbacks=[first_step()],
    )
    trainer.train()
    trainer.save_model(out)
    return trainer


def run_tokens(train, validation, test, epochs, seed, model_dir, out):
    import json
    import re

    from transformers import AutoTokenizer, BertForTokenClassification, DataCollatorForTokenClassification, set_seed

    set_seed(int(seed))
    parts = [rows_of(path) for path in (train, validation, test)]
    kinds = sorted({span["label"] for row in parts[0] for span in row["spans"]})
    names = sorted([f"{part}-{kind}" for kind in kinds for part in "BI"]) + ["O"]
    tokenizer = AutoTokenizer.from_pretrained(model_dir)

    def encoded(row):
        words = [match.span() for match in re.finditer(r"[^\W\d_]+|\d+|[^\w\s]|_", row["text"])]
        tags = ["O"] * len(words)
        for span in row["spans"]:
            inside = [i for i, (start, end) in enumerate(words) if start < span["end"] and end > span["start"]]
            for place, word in enumerate(inside):
                tags[word] = ("I-" if place else "B-") + span["label"]
        made = tokenizer([row["text"][a:b] for a, b in words], is_split_into_words=True, truncation=True, max_length=128)
        before, labels = None, []
        for word in made.word_ids():
            labels.append(-100 if word is None or word == before else names.index(tags[word]))
            before = word
        return {**made, "labels": labels}

    def spans(tags):
        found, start = set(), None
        for at, tag in enumerate([*tags, "O"]):
            goes_on = tag.startswith("I-") and start is not None and tag[2:] == start[1]
            if start is not None and not goes_on:
                found.add((start[0], at, start[1]))
                start = None
            if tag != "O" and not goes_on:
                start = (at, tag[2:])
        return found

    def scored(p):
        right = said = expected = 0
        for logits, labels in zip(p[0].argmax(-1), p[1]):
            kept = labels != -100
            a = spans([names[i] for i in logits[kept]])
            b = spans([names[i] for i in labels[kept]])
            right, said, expected = right + len(a & b), said + len(a), expected + len(b)
        return {"figure": 2 * right / max(said + expected, 1)}

    model = BertForTokenClassification.from_pretrained(model_dir, num_labels=len(names))
    sets = [[encoded(row) for row in rows] for rows in parts]
    collator = DataCollatorForTokenClassification(tokenizer)
    trainer = tuned(model, "classifier", "TOKEN_CLS", collator, sets, int(epochs), int(seed), out, scored)
    said = trainer.predict(sets[2])
    value = scored((said.predictions, said.label_ids))["figure"]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    best = trainer.state.best_metric
    print(json.dumps({"entity_f1": best, "test_f1": value, "peak": peak}), flush=True)


def run_questions(train, test, epochs, model_dir, out):
    import json
    import re
    import string
    from collections import Counter

    from transformers import AutoTokenizer, BertForQuestionAnswering, DataCollatorWithPadding

    tokenizer = AutoTokenizer.from_pretrained(model_dir)
    parts = [rows_of(path) for path in (train, test)]

    def encoded(row):
        made = tokenizer(row["question"], row["context"], return_offsets_mapping=True)
        offsets, inside = made.pop("offset_mapping"), [i for i, part in enumerate(made.sequence_ids()) if part == 1]
        start = row["answers"]["answer_start"][0]
        end = start + len(row["answers"]["text"][0])
        first = [i for i in inside if offsets[i][0] <= start][-1]
        last = [i for i in inside if offsets[i][1] >= end][0]
        return {**made, "start_positions": first, "end_positions": last}, offsets, inside

    made = [[encoded(row) for row in rows] for rows in parts]
    sets = [[item[0] for item in part] for part in made]
    model = BertForQuestionAnswering.from_pretrained(model_dir, num_labels=2)
    collator = DataCollatorWithPadding(tokenizer)
    trainer = tuned(model, "qa_outputs", "QUESTION_ANS", collator, sets, int(epochs), 1, out)

    def normalised(text):
        text = "".join(c for c in text.lower() if c not in string.punctuation)
        return re.sub(r"\b(a|an|the)\b", " ", text).split()

    starts, ends = trainer.predict(sets[1]).predictions
    exact = f1 = 0.0
    for row, (_, offsets, inside), start, end in zip(parts[1], made[1], starts, ends):
        _, a, b = max((start[a] + end[b], a, b) for a in inside for b in inside if a <= b < a + 30)
        said, right = normalised(row["context"][offsets[a][0] : offsets[b][1]]), normalised(row["answers"]["text"][0])
        same = sum((Counter(said) & Counter(right)).values())
        exact += said == right
        f1 += 2 * same / max(len(said) + len(right), 1)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    n = len(parts[1])
    print(json.dumps({"exact_match": exact / n, "answer_f1": f1 / n, "peak": peak}), flush=True)


def run_choices(train, test, rows, epochs, model_dir, out):
    import json

    from transformers import AutoTokenizer, BertForMultipleChoice, DataCollatorForMultipleChoice

    tokenizer = AutoTokenizer.from_pretrained(model_dir)

    def encoded(row):
        made = tokenizer([row["question"]] * len(row["choices"]), row["choices"], truncation=True, max_length=128)
        return {**made, "labels": row["answer"]}

    model = BertForMultipleChoice.from_pretrained(model_dir)
    sets = [[encoded(row) for row in part] for part in (rows_of(train)[: int(rows)], rows_of(test))]
    collator = DataCollatorForMultipleChoice(tokenizer)
    scored = lambda p: {"figure": float((p[0].argmax(-1) == p[1]).mean())}
    # PEFT knows no type of its own for this task.
    trainer = tuned(model, "classifier", None, collator, sets, int(epochs), 1, out, scored, batch=16)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps({"accuracy": trainer.state.best_metric, "peak": peak}), flush=True)


def run_embeddings(train, test, epochs, model_dir, out):
    import json

    from datasets import Dataset
    from peft import LoraConfig, get_peft_model
    from sentence_transformers import (
        SentenceTransformer,
        SentenceTransformerTrainer,
        SentenceTransformerTrainingArguments,
    )
    from sentence_transformers.evaluation import InformationRetrievalEvaluator
    from sentence_transformers.losses import MultipleNegativesRankingLoss
    from sentence_transformers.sentence_transformer.modules import Normalize, Pooling, Transformer

    encoder = Transformer(model_dir, max_seq_length=128)
    pooling = Pooling(encoder.model.config.hidden_size, pooling_mode="mean")
    # Its own `add_adapter` wants a PEFT that is not out yet.
    config = LoraConfig(task_type="FEATURE_EXTRACTION", r=8, lora_alpha=16, target_modules=LINEAR)
    encoder.model = get_peft_model(encoder.model, config)
    model = SentenceTransformer(modules=[encoder, pooling, Normalize()], device="cpu")
    rows = [rows_of(path) for path in (train, test)]
    columns = [{name: [row[name] for row in part] for name in ("query", "document")} for part in rows]
    texts = sorted({row["document"] for row in rows[1]})
    place = {text: str(i) for i, text in enumerate(texts)}
    queries = {str(i): row["query"] for i, row in enumerate(rows[1])}
    relevant = {str(i): {place[row["document"]]} for i, row in enumerate(rows[1])}
    corpus = {place[text]: text for text in texts}
    evaluator = InformationRetrievalEvaluator(queries, corpus, relevant, batch_size=64)
    evaluator(model)

    arguments = SentenceTransformerTrainingArguments(
        output_dir=out,
        num_train_epochs=int(epochs),
        per_device_train_batch_size=64,
        learning_rate=1e-3,
        weight_decay=0.01,
        warmup_steps=0.06,
        use_cpu=True,
        report_to=[],
        save_strategy="no",
        disable_tqdm=True,
        logging_strategy="no",
    )
    loss = MultipleNegativesRankingLoss(model)
    trainer = SentenceTransformerTrainer(
        model=model, args=arguments, train_dataset=Dataset.from_dict(columns[0]), loss=loss, callbacks=[first_step()]
    )
    trainer.train()
    found = evaluator(model)
    model.save_pretrained(out)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps({"accuracy_at_1": found["cosine_accuracy@1"], "peak": peak}), flush=True)


def run_head(data, weights, out):
    """The usual way: every epoch computes everything."""
    import json

    import timm
    import torchvision
    from torchvision import transforms as T

    model = timm.create_model("tf_efficientnet_lite0")
    state = torch.load(os.path.join(weights, "pytorch_model.bin"), weights_only=True)
    # The same tensors in the same order, under other names.
    counted = lambda names: [n for n in names if not n.endswith("num_batches_tracked")]
    own, found = counted(model.state_dict()), counted(state)
    model.load_state_dict({a: state[b] for a, b in zip(own, found, strict=True)}, strict=False)
    model.reset_classifier(2)
    model.eval()
    head = model.get_classifier()
    for p in model.parameters():
        p.requires_grad = False
    for p in head.parameters():
        p.requires_grad = True
    model = model.to(memory_format=torch.channels_last)
    transform = T.Compose(
        [
            T.Resize(256, interpolation=T.InterpolationMode.BICUBIC),
            T.CenterCrop(224),
            T.ToTensor(),
            T.Normalize([0.5] * 3, [0.5] * 3),
        ]
    )
    usable = lambda path: not path.endswith("imageNotFound.gif")
    sets = [
        torchvision.datasets.ImageFolder(os.path.join(data, part), transform, is_valid_file=usable)
        for part in ("train", "val")
    ]
    train = torch.utils.data.DataLoader(sets[0], 16, shuffle=True)
    validation = torch.utils.data.DataLoader(sets[1], 16)
    optimizer = torch.optim.AdamW(head.parameters(), lr=5e-3, fused=True)
    seconds = []
    for epoch in range(3):
        start = time.perf_counter()
        for i, (x, y) in enumerate(train):
            x = x.to(memory_format=torch.channels_last)
            loss = torch.nn.functional.cross_entropy(model(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            if epoch == 0 and i == 0:
                print("first step", flush=True)
        right = 0
        with torch.no_grad():
            for x, y in validation:
                x = x.to(memory_format=torch.channels_last)
                right += int((model(x).argmax(1) == y).sum())
        seconds.append(time.perf_counter() - start)
    torch.save(model.state_dict(), out)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps({"accuracy": right / len(sets[1]), "peak": peak, "epochs": seconds}), flush=True)


def unpack(package, out):
    """What transformers makes of the GGUF file, with the rule for digits that it leaves out of the tokenizer."""
    import glob

    from safetensors.torch import save_file
    from tokenizers.pre_tokenizers import ByteLevel, Digits, Sequence
    from transformers import AutoModelForCausalLM, AutoTokenizer

    name = os.path.basename(glob.glob(os.path.join(package, "*.gguf"))[0])
    model = AutoModelForCausalLM.from_pretrained(package, gguf_file=name, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(package, gguf_file=name)
    digits = [Digits(individual_digits=True), ByteLevel(add_prefix_space=False)]
    tokenizer.backend_tokenizer.pre_tokenizer = Sequence(digits)
    os.makedirs(out, exist_ok=True)
    tokenizer.save_pretrained(out)
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    model.config.save_pretrained(out)
    state = {k: v.contiguous() for k, v in model.state_dict().items() if k != "lm_head.weight"}
    save_file(state, os.path.join(out, "model.safetensors"), metadata={"format": "pt"})


def run_language(method, model_dir, out, *rest):
    import json
    import math
    import random
    import statistics

    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(model_dir, dtype=torch.float32)
    rate = 5e-5
    if method == "lora":
        from peft import LoraConfig, get_peft_model

        config = LoraConfig(
            task_type="CAUSAL_LM", r=8, lora_alpha=16, target_modules="all-linear"
        )
        model, rate = get_peft_model(model, config), 1e-3
    model.train()
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=rate, weight_decay=0.01, fused=True)
    whole = len(rest) == 2
    if whole:
        tokenizer = AutoTokenizer.from_pretrained(model_dir)

        def encoded(path):
            rows = []
            for line in open(path, encoding="utf-8"):
                row = json.loads(line)
                chat = [{"role": "user", "content": row["prompt"]}]
                asked = tokenizer.apply_chat_template(
                    chat, tokenize=False, add_generation_prompt=True
                )
                asked = tokenizer(asked, add_special_tokens=False)["input_ids"]
                said = row["completion"] + "<|im_end|>\n"
                said = tokenizer(said, add_special_tokens=False)["input_ids"]
                rows.append((asked + said, [-100] * len(asked) + said))
            return rows

        def padded(rows):
            width = max(len(ids) for ids, _ in rows)
            fill = lambda of, value: torch.tensor([x + [value] * (width - len(x)) for x in of])
            ids, labels = zip(*rows)
            mask = fill([[1] * len(x) for x in ids], 0)
            return dict(input_ids=fill(ids, 0), attention_mask=mask, labels=fill(labels, -100))

        def by_length(rows, seed):
            """Batches of 16 of like lengths, in random order."""
            generator = random.Random(seed)
            generator.shuffle(rows)
            chunks = [sorted(rows[i : i + 128], key=lambda r: len(r[0])) for i in range(0, len(rows), 128)]
            batches = [chunk[i : i + 16] for chunk in chunks for i in range(0, len(chunk), 16)]
            generator.shuffle(batches)
            return [padded(batch) for batch in batches]

        batches, test = by_length(encoded(rest[0]), 1), by_length(encoded(rest[1]), 1)
    else:
        rounds, batch, length = map(int, rest)
        ids = torch.randint(100, 40_000, (batch, length))
        batches = [dict(input_ids=ids, labels=ids)] * rounds
    warmup = max(1, round(0.06 * len(batches)))
    decay = lambda s: min(s / warmup, (len(batches) - s) / max(1, len(batches) - warmup))
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, decay)
    seconds = []
    for batch in batches:
        start = time.perf_counter()
        model(**batch).loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad(set_to_none=True)
        seconds.append(time.perf_counter() - start)
        if len(seconds) == 1:
            print("first step", flush=True)
    said = {"step": statistics.median(seconds[1:])}
    if whole:
        model.eval()
        total = counted = 0
        with torch.no_grad():
            for batch in test:
                n = int((batch["labels"][:, 1:] != -100).sum())
                total, counted = total + float(model(**batch).loss) * n, counted + n
        said["perplexity"] = math.exp(total / counted)
        model.save_pretrained(out)
    said["peak"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps(said), flush=True)


def serve(job):
    job()
    job()
    print("ready", flush=True)
    for _ in sys.stdin:
        start = time.perf_counter()
        job()
        print(time.perf_counter() - start, flush=True)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024, flush=True)


def main():
    name = sys.argv[1]
    if name == "text":
        return run_text(*sys.argv[2:])
    if name == "tokens":
        return run_tokens(*sys.argv[2:])
    if name == "questions":
        return run_questions(*sys.argv[2:])
    if name == "choices":
        return run_choices(*sys.argv[2:])
    if name == "embeddings":
        return run_embeddings(*sys.argv[2:])
    if name == "head":
        return run_head(*sys.argv[2:])
    if name == "unpack":
        return unpack(*sys.argv[2:])
    if name == "language":
        return run_language(*sys.argv[2:])
    family, what = name.split("-", 1)
    if family == "minilm":
        serve(minilm(what, sys.argv[2]))
    else:
        serve(pictures(family, what))


if __name__ == "__main__":
    main()
