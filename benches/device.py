"""Times training steps on a GPU, ours beside PyTorch's, with weights drawn here: nothing is fetched.

    python benches/device.py BENCH [DEVICE] [ROUNDS]

BENCH is `rekindle-bench` built with the device's feature, DEVICE is cuda (the default) or wgpu. PyTorch (with CUDA), transformers
and torchvision must be there. A line of JSON for each job; times in milliseconds, medians of ROUNDS steps (20), each waited for.
A step is forward, backward, clipping and AdamW. PyTorch runs it in f32, in f32 with TF32 products, and in bf16 autocast.
"""

import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
import transformers

BERTS = {
    "minilm": dict(num_hidden_layers=6, hidden_size=384, num_attention_heads=12, intermediate_size=1536),
    "bert-base": dict(num_hidden_layers=12, hidden_size=768, num_attention_heads=12, intermediate_size=3072),
}


def bert(name, folder):
    torch.manual_seed(0)
    config = transformers.BertConfig(**BERTS[name], num_labels=2, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    model = transformers.BertForSequenceClassification(config)
    model.save_pretrained(folder / name)
    return model


def ours(binary, job, device, model, rounds):
    command = [binary, job, device] + ([str(model)] if model else [])
    worker = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    start = time.perf_counter()
    if worker.stdout.readline().strip() != "ready":
        raise RuntimeError(f"{job} ended with {worker.wait()}")
    ready = time.perf_counter() - start
    times = []
    for _ in range(rounds + 5):
        worker.stdin.write("go\n")
        worker.stdin.flush()
        times.append(float(worker.stdout.readline()) * 1e3)
    worker.stdin.close()
    worker.wait()
    return statistics.median(times[5:]), ready


def theirs(model, batch, classes, rounds, autocast):
    model = model.cuda().train()
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=5e-5, fused=True)
    times = []
    for _ in range(rounds + 5):
        torch.cuda.synchronize()
        start = time.perf_counter()
        with torch.autocast("cuda", torch.bfloat16, enabled=autocast):
            output = model(**batch) if isinstance(batch, dict) else model(batch)
            logits = output.logits if hasattr(output, "logits") else output
            loss = torch.nn.functional.cross_entropy(logits.float(), classes)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        loss.item()
        times.append((time.perf_counter() - start) * 1e3)
    return statistics.median(times[5:])


def lora(model):
    import peft

    config = peft.LoraConfig(task_type="SEQ_CLS", r=8, lora_alpha=16, target_modules=["query", "value"])
    return peft.get_peft_model(model, config)


def jobs(folder):
    ids = torch.randint(1000, 29000, (32, 128), device="cuda")
    text = dict(input_ids=ids, attention_mask=torch.ones_like(ids))
    for name in BERTS:
        for what in ["lora", "full"]:

            def make(name=name, what=what):
                model = bert(name, folder)
                if what == "full":
                    return model
                try:
                    return lora(model)
                except ImportError:
                    return None

            yield f"{name} {what}, 32 x 128", f"minilm-{what}", folder / name, make, text, 32
    pictures = torch.rand(16, 3, 224, 224, device="cuda")

    def resnet():
        import torchvision

        return torchvision.models.resnet18(num_classes=10)

    yield "resnet18 step, 16 x 224", "resnet18-step", None, resnet, pictures, 16


def main():
    binary, device = sys.argv[1], (sys.argv[2:] or ["cuda"])[0]
    rounds = int((sys.argv[3:] or ["20"])[0])
    print(json.dumps(dict(card=torch.cuda.get_device_name(), torch=torch.__version__, transformers=transformers.__version__)))
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        for name in BERTS:
            bert(name, folder)
        for title, job, model, make, batch, count in jobs(folder):
            row = dict(job=title)
            try:
                row["ours"], row["until_ready_s"] = ours(binary, job, device, model, rounds)
            except (RuntimeError, ValueError) as error:
                row["ours"] = str(error)
            classes = (torch.arange(count, device="cuda") % 2).long()
            for precision in ["f32", "tf32", "bf16"]:
                torch.backends.cuda.matmul.allow_tf32 = precision == "tf32"
                torch.backends.cudnn.allow_tf32 = precision == "tf32"
                net = make()
                if net is not None:
                    row[precision] = theirs(net, batch, classes, rounds, precision == "bf16")
            print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
