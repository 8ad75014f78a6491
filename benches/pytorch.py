"""The jobs of `rekindle-bench` in PyTorch, for `cargo xtask bench`.

    python pytorch.py JOB [MODEL_DIR]      a step job: prints `ready`, then for every line on standard input does one round
                                           and prints its seconds; at the end of the input, the peak memory in bytes
    python pytorch.py run JOB ARGS...      a whole run: see `run_text`

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
    family, what = name.split("-", 1)
    if family == "minilm":
        serve(minilm(what, sys.argv[2]))
    else:
        serve(pictures(family, what))


if __name__ == "__main__":
    main()
