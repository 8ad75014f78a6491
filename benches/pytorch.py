"""The jobs of `rekindle-bench` in PyTorch, for `cargo xtask bench`.

    python pytorch.py JOB [MODEL_DIR]      a step job: prints `ready`, then for every line on standard input does one round
                                           and prints its seconds; at the end of the input, the peak memory in bytes
    python pytorch.py text METHOD BATCHES TRAIN VALIDATION TEXT LABEL ROWS MODEL_DIR OUT
                                           a whole run with transformers' Trainer (and PEFT where METHOD is lora): one
                                           epoch over the first ROWS rows, an evaluation, the model saved. BATCHES is
                                           padded (the Trainer's way) or grouped (by length)
    python pytorch.py head DATA WEIGHTS OUT
                                           epochs of a new head on a frozen EfficientNet-Lite0 (its directory is WEIGHTS)
                                           over a folder of pictures with train and val

Whole runs print `first step` when their first step is done, and at the end a line of JSON.

Needs torch, transformers, peft, torchvision, timm. Two threads, or as many as REKINDLE_BENCH_THREADS says.
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


def run_text(method, batches, train, validation, text, label, rows, model_dir, out):
    import csv
    import json

    from transformers import (
        AutoTokenizer,
        BertForSequenceClassification,
        Trainer,
        TrainerCallback,
        TrainingArguments,
    )

    def column(name):
        return int(name) if name.isdigit() else None

    def read(path, limit):
        with open(path, newline="", encoding="utf-8") as file:
            lines = list(csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
        at = [column(text), column(label)]
        if None in at:
            at = [lines[0].index(text), lines[0].index(label)]
            lines = lines[1:]
        lines = lines[:limit]
        return [row[at[0]] for row in lines], [row[at[1]] for row in lines]

    texts, labels = read(train, int(rows))
    names = sorted(set(labels))
    tokenizer = AutoTokenizer.from_pretrained(model_dir)

    def encoded(texts, labels):
        tokens = tokenizer(texts, truncation=True, max_length=128)
        return [
            dict(
                input_ids=tokens["input_ids"][i],
                attention_mask=tokens["attention_mask"][i],
                length=len(tokens["input_ids"][i]),
                labels=names.index(labels[i]),
            )
            for i in range(len(labels))
        ]

    model = BertForSequenceClassification.from_pretrained(model_dir, num_labels=len(names))
    rate = 5e-5
    if method == "lora":
        from peft import LoraConfig, get_peft_model

        config = LoraConfig(
            task_type="SEQ_CLS", r=8, lora_alpha=16, target_modules=["query", "value"]
        )
        model = get_peft_model(model, config)
        rate = 1e-3

    class First(TrainerCallback):
        def on_step_end(self, args, state, control, **kwargs):
            if state.global_step == 1:
                print("first step", flush=True)

    sampling = {"train_sampling_strategy": "group_by_length"} if batches == "grouped" else {}
    arguments = TrainingArguments(
        output_dir=out,
        num_train_epochs=1,
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
    trainer = Trainer(
        model=model,
        args=arguments,
        train_dataset=encoded(texts, labels),
        eval_dataset=encoded(*read(validation, None)),
        processing_class=tokenizer,
        compute_metrics=lambda p: {"accuracy": float((p[0].argmax(-1) == p[1]).mean())},
        callbacks=[First()],
    )
    trainer.train()
    accuracy = trainer.evaluate()["eval_accuracy"]
    trainer.save_model(out)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps({"accuracy": accuracy, "peak": peak}), flush=True)


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
    if name == "head":
        return run_head(*sys.argv[2:])
    family, what = name.split("-", 1)
    if family == "minilm":
        serve(minilm(what, sys.argv[2]))
    else:
        serve(pictures(family, what))


if __name__ == "__main__":
    main()
