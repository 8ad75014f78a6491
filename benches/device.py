"""Times training steps on a GPU, ours beside PyTorch's, with weights drawn here: nothing is fetched.

    python benches/device.py BENCH [DEVICE] [ROUNDS] [--small] [JOB ...]

BENCH is `rekindle-bench` built with the device's feature, DEVICE is cuda (the default) or wgpu. PyTorch (with CUDA), transformers,
PEFT and torchvision must be there. A line of JSON for each job whose title begins with one of JOB (all); times in milliseconds,
medians of ROUNDS steps (20), each waited for. A step is forward, backward, clipping and AdamW. PyTorch runs it in f32, in f32
with TF32 products, in bf16 autocast, and for BERTs compiled (torch.compile) in f32; we in f32 and with products in TF32 and bf16. An answer is 64
tokens after a prompt of 128. `--small` times one small job, without CUDA too: a rehearsal.
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

THERE = "cuda" if torch.cuda.is_available() else "cpu"

# The layers that our LoRA takes by default in a decoder.
SLOTS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
BERTS = {
    "minilm": dict(num_hidden_layers=6, hidden_size=384, num_attention_heads=12, intermediate_size=1536),
    "bert-base": dict(num_hidden_layers=12, hidden_size=768, num_attention_heads=12, intermediate_size=3072),
}


SMOLLM2 = dict(
    vocab_size=49152,
    hidden_size=576,
    intermediate_size=1536,
    num_hidden_layers=30,
    num_attention_heads=9,
    num_key_value_heads=3,
    max_position_embeddings=8192,
    rope_theta=100000.0,
    rms_norm_eps=1e-5,
    tie_word_embeddings=True,
    eos_token_id=None,
    bos_token_id=None,
    pad_token_id=None,
)


def synchronize():
    if THERE == "cuda":
        torch.cuda.synchronize()


def smollm2(folder):
    torch.manual_seed(0)
    model = transformers.LlamaForCausalLM(transformers.LlamaConfig(**SMOLLM2))
    if not (folder / "smollm2").exists():
        model.save_pretrained(folder / "smollm2")
    return model


def bert(name, folder):
    torch.manual_seed(0)
    config = transformers.BertConfig(**BERTS[name], num_labels=2, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    model = transformers.BertForSequenceClassification(config)
    if not (folder / name).exists():
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


def theirs(model, batch, classes, rounds, autocast, compiled=False):
    model = model.to(THERE).train()
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=5e-5, fused=THERE == "cuda")
    if compiled:
        model.compile()
    times = []
    for _ in range(rounds + 5):
        synchronize()
        start = time.perf_counter()
        with torch.autocast(THERE, torch.bfloat16, enabled=autocast):
            output = model(**batch) if isinstance(batch, dict) else model(batch)
            logits = output.logits if hasattr(output, "logits") else output
            if classes is None:
                loss = output.loss
            else:
                loss = torch.nn.functional.cross_entropy(logits.float(), classes)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        loss.item()
        times.append((time.perf_counter() - start) * 1e3)
    return statistics.median(times[5:])


def answers(model, ids, rounds, autocast):
    model = model.to(THERE).eval()
    times = []
    for _ in range(max(3, rounds // 4)):
        synchronize()
        start = time.perf_counter()
        with torch.no_grad(), torch.autocast(THERE, torch.bfloat16, enabled=autocast):
            model.generate(
                ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=64, min_new_tokens=64
            )
        synchronize()
        times.append((time.perf_counter() - start) * 1e3)
    return statistics.median(times[1:])


def lora(model):
    import peft

    if isinstance(model, transformers.LlamaForCausalLM):
        config = peft.LoraConfig(task_type="CAUSAL_LM", r=8, lora_alpha=16, target_modules=SLOTS)
    else:
        config = peft.LoraConfig(task_type="SEQ_CLS", r=8, lora_alpha=16, target_modules=["query", "value"])
    return peft.get_peft_model(model, config)


def jobs(folder, small):
    if small:
        ids = torch.randint(1000, 29000, (4, 32), device=THERE)
        text = dict(input_ids=ids, attention_mask=torch.ones_like(ids))
        yield "minilm lora, 4 x 32", "minilm-lora-small", folder / "minilm", lambda: lora(bert("minilm", folder)), text, 4
        return
    ids = torch.randint(1000, 29000, (32, 128), device=THERE)
    text = dict(input_ids=ids, attention_mask=torch.ones_like(ids))
    for name in BERTS:
        for what in ["lora", "full"]:

            def make(name=name, what=what):
                model = bert(name, folder)
                return model if what == "full" else lora(model)

            yield f"{name} {what}, 32 x 128", f"minilm-{what}", folder / name, make, text, 32
    chats = torch.randint(0, 49152, (4, 256), device=THERE)
    for what in ["lora", "full"]:

        def decoder(what=what):
            return lora(smollm2(folder)) if what == "lora" else smollm2(folder)

        chat = dict(input_ids=chats, labels=chats)
        yield f"smollm2 {what}, 4 x 256", f"smollm2-{what}", folder / "smollm2", decoder, chat, None
    prompt = torch.randint(0, 49152, (1, 128), device=THERE)
    yield "smollm2 answer, 128 + 64", "smollm2-generate", folder / "smollm2", lambda: smollm2(folder), prompt, "answer"
    pictures = torch.rand(16, 3, 224, 224, device=THERE)

    def resnet():
        import torchvision

        return torchvision.models.resnet18(num_classes=10)

    yield "resnet18 step, 16 x 224", "resnet18-step", None, resnet, pictures, 16


def driver_version():
    try:
        asked = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
        return subprocess.run(asked, capture_output=True, text=True, check=True).stdout.splitlines()[0].strip()
    except (OSError, subprocess.CalledProcessError, IndexError):
        return None


def main():
    small = "--small" in sys.argv
    args = [arg for arg in sys.argv[1:] if arg != "--small"]
    binary, device = args[0], (args[1:] or ["cuda"])[0]
    rounds = int((args[2:] or ["20"])[0])
    asked = args[3:]
    card = torch.cuda.get_device_name() if THERE == "cuda" else f"{device}, no CUDA"
    head = dict(card=card, torch=torch.__version__, transformers=transformers.__version__)
    if driver := driver_version():
        head["driver"] = driver
    print(json.dumps(head), flush=True)
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        for title, job, model, make, batch, count in jobs(folder, small):
            if asked and not any(title.startswith(prefix) for prefix in asked):
                continue
            make()
            row = dict(job=title)
            precisions = ["", "-tf32", "-bf16"] if model and count != "answer" else [""]
            for precision in precisions:
                key = "ours" + precision
                try:
                    row[key], row[key + "_ready_s"] = ours(binary, job + precision, device, model, rounds)
                except (RuntimeError, ValueError) as error:
                    row[key] = str(error)
            print(json.dumps(row), flush=True)
            for precision in ["f32", "tf32", "bf16"]:
                torch.backends.cuda.matmul.allow_tf32 = precision == "tf32"
                torch.backends.cudnn.allow_tf32 = precision == "tf32"
                if count == "answer":
                    row[precision] = answers(make(), batch, rounds, precision == "bf16")
                    continue
                classes = None if count is None else (torch.arange(count, device=THERE) % 2).long()
                row[precision] = theirs(make(), batch, classes, rounds, precision == "bf16")
            if THERE == "cuda" and title.startswith("minilm") and count != "answer":
                torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
                try:
                    row["compiled"] = theirs(make(), batch, classes, rounds, False, compiled=True)
                except Exception as error:  # torch.compile needs a compiler, which this machine may lack
                    row["compiled_error"] = str(error).splitlines()[0]
            print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
