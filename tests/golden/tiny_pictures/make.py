"""Small vision transformers, ConvNeXts, MobileNetV3s and a ResNet with weights from a formula: logits, gradients, positions resized to
another picture size, and 20 training steps in full and with LoRA.

Both sides compute the weights: element i of tensor `n` is the value of ../vision_models/make.py, times sqrt(3 / fan_in) for
matrices and convolutions, times 0.5 for tokens and positions (whose first dimension is 1); weights of norms are
1 + 0.2 value, running variances 1 + 0.5 value, layer scales 0.5 + 0.2 value, all else 0.1 value. LoRA's A is value * sqrt(3 / in), its B starts at 0. A
tensor of transformers goes by its name in files. Input: value, of the name `input`, in the order [N, 3, H, W]; of step s of the
name `step s`.

    python3 tests/golden/tiny_pictures/make.py

Writes expected.json and adapter/. Versions are in expected.json; everything is float64 on the CPU.
"""

import json
import pathlib
import shutil
import sys
import tempfile

import numpy as np
import peft
import timm
import torch
import torch.nn.functional as F
import transformers
from timm.layers import resample_abs_pos_embed
from timm.models import save_for_hf

HERE = pathlib.Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "vision_models"))

from make import numbers, some, values  # noqa: E402

CLASSES, BATCH, STEPS = 5, 2, 20


def tensor(name, shape):
    v = values(name, int(np.prod(shape))).astype(np.float64)
    part = name.rsplit(".", 1)[-1]
    if len(shape) == 3 and shape[0] == 1:
        v = v * 0.5
    elif len(shape) >= 2:
        v = v * np.sqrt(3 / np.prod(shape[1:]))
    elif part == "weight":
        v = 1 + 0.2 * v
    elif part == "running_var":
        v = 1 + 0.5 * v
    elif part == "gamma":
        v = 0.5 + 0.2 * v
    else:
        v = 0.1 * v
    return torch.from_numpy(v.astype(np.float32).reshape(shape)).double()


def fill(model, rename=lambda name: name):
    state = {
        k: v if k.endswith("num_batches_tracked") else tensor(rename(k), tuple(v.shape)) for k, v in model.state_dict().items()
    }
    model = model.double().eval()
    model.load_state_dict(state)
    return model


def images(name, batch, side):
    return torch.from_numpy(values(name, batch * 3 * side * side).reshape(batch, 3, side, side)).double()


def shapes(model):
    return {k: list(v.shape) for k, v in model.state_dict().items() if not k.endswith("num_batches_tracked")}


def timm_config(model):
    with tempfile.TemporaryDirectory() as folder:
        save_for_hf(model, folder)
        return json.loads((pathlib.Path(folder) / "config.json").read_text())


def figures(forward, model, side):
    labels = torch.arange(BATCH) % CLASSES
    logits = forward(images("input", BATCH, side))
    loss = F.cross_entropy(logits, labels)
    loss.backward()
    return {
        "side": side,
        "logits": numbers(logits.detach()),
        "loss": float(loss),
        "gradients": {k: [float(p.grad.norm())] + some(p.grad, 4) for k, p in model.named_parameters()},
    }


TINY = {"embed_dim": 32, "depth": 2, "num_heads": 2}
SMALL = {"patch_size": 8, "img_size": 32}
STAGES = {"depths": (1, 1, 2, 1), "dims": (8, 16, 24, 32)}
CASES = [
    ("vit", "vit_tiny_patch16_224", {**TINY, **SMALL}, 32),
    ("deit", "deit_tiny_patch16_224", {**TINY, **SMALL}, 32),
    ("deit3", "deit3_small_patch16_224", {**TINY, **SMALL}, 32),
    ("dinov2", "vit_small_patch14_dinov2", {**TINY, "patch_size": 7, "img_size": 28}, 28),
    ("dinov2_registers", "vit_small_patch14_reg4_dinov2", {**TINY, "patch_size": 7, "img_size": 28}, 28),
    ("clip", "vit_base_patch32_clip_224", {**TINY, **SMALL}, 32),
    ("mean", "vit_base_patch16_gap_224", {**TINY, **SMALL}, 32),
    ("mean_pooled", "vit_tiny_patch16_224", {**TINY, **SMALL, "global_pool": "avg"}, 32),
    ("convnext", "convnext_tiny", STAGES, 64),
    ("convnext_of_convolutions", "convnext_atto", STAGES, 64),
    ("mobilenet_large", "mobilenetv3_large_100", {}, 64),
    ("mobilenet_small", "mobilenetv3_small_100", {}, 64),
    ("mobilenet_small_narrow", "mobilenetv3_small_050", {}, 64),
    ("mobilenet_of_tensorflow", "tf_mobilenetv3_small_100", {}, 65),
    ("mobilenet_minimal", "tf_mobilenetv3_large_minimal_100", {}, 64),
    ("resnet", "resnet18", {}, 64),
]


def build(architecture, arguments):
    return timm.create_model(architecture, num_classes=CLASSES, **arguments)


def cases():
    out = []
    for name, architecture, arguments, side in CASES:
        model = fill(build(architecture, arguments))
        case = {"name": name, "config": timm_config(model), "tensors": shapes(model), **figures(model, model, side)}
        print(name, "logits up to", max(abs(v) for v in case["logits"]))
        out.append(case)
    return out


def hugging_face():
    """transformers' ViT: names of its files, which are those of versions before 5, and of its modules."""
    config = transformers.ViTConfig(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=48, image_size=32, patch_size=8,
        num_labels=CLASSES,
    )
    model = transformers.ViTForImageClassification(config)
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        from safetensors.torch import load_file

        saved = load_file(pathlib.Path(folder) / "model.safetensors")
        modules = dict(model.named_parameters())
        renamed = {}
        for name, value in saved.items():
            same = [k for k, v in modules.items() if v.shape == value.shape and torch.equal(v, value) and k not in renamed]
            # Norms and biases of one shape are equal at first: by the number and the end of the name.
            renamed[pick(name, same)] = name
        config_json = json.loads((pathlib.Path(folder) / "config.json").read_text())
    model = fill(model, lambda name: renamed[name])
    case = {"config": config_json, "tensors": shapes(model), "in_files": renamed}
    return {**case, **figures(lambda x: model(x).logits, model, 32)}


def pick(name, modules):
    new = name.replace("vit.encoder.layer.", "vit.layers.").replace("attention.output.dense", "attention.o_proj")
    new = new.replace("intermediate.dense", "mlp.fc1").replace("output.dense", "mlp.fc2")
    for part, letter in (("query", "q"), ("key", "k"), ("value", "v")):
        new = new.replace(f"attention.attention.{part}", f"attention.{letter}_proj")
    assert new in modules, (name, new, modules)
    return new


def resized():
    """Positions of a vision transformer for pictures of other sizes, and its logits with them."""
    tables = []
    table = tensor("table", (1, 1 + 5 * 5, 3))
    for side in (2, 3, 6, 9):
        out = resample_abs_pos_embed(table, (side, side), num_prefix_tokens=1)
        tables.append({"side": side, "values": numbers(out)})
    model = fill(build("vit_tiny_patch16_224", {**TINY, **SMALL}))
    model.set_input_size(img_size=48)
    with torch.no_grad():
        logits = model(images("input", BATCH, 48))
    return {"tables": tables, "side": 48, "logits": numbers(logits)}


def training(model):
    decayed = [p for p in model.parameters() if p.requires_grad and p.dim() >= 2]
    rest = [p for p in model.parameters() if p.requires_grad and p.dim() < 2]
    groups = [{"params": decayed, "weight_decay": 0.05}, {"params": rest, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=2e-3)
    labels = torch.arange(4) % CLASSES
    losses = []
    for step in range(STEPS):
        loss = F.cross_entropy(model(images(f"step {step}", 4, 32)), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss))
    with torch.no_grad():
        after = numbers(model(images("input", BATCH, 32)))
    print("losses from", losses[0], "to", losses[-1])
    return {"losses": losses, "logits_after": after}


LAYERS = {
    "vit": ["attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2"],
    "convnext": ["mlp.fc1", "mlp.fc2"],
    "convnext_of_convolutions": ["mlp.fc1", "mlp.fc2"],
    "mobilenet_small": ["conv_stem", "conv_pw", "se.conv_reduce", "se.conv_expand", "conv_pwl", "conv", "conv_head"],
    "resnet": ["conv1", "conv2", "downsample.0"],
}


def adapted(name, head):
    _, architecture, arguments, _ = next(case for case in CASES if case[0] == name)
    config = peft.LoraConfig(r=2, lora_alpha=4, target_modules=LAYERS[name], modules_to_save=[head])
    model = peft.get_peft_model(fill(build(architecture, arguments)), config).double()
    with torch.no_grad():
        for path, value in model.named_parameters():
            if ".lora_A." in path:
                path = path.removeprefix("base_model.model.").replace(".default", "")
                value.copy_(tensor(path, tuple(value.shape)))
    return model


def main():
    torch.set_num_threads(1)
    vit = next(case for case in CASES if case[0] == "vit")
    lora = adapted("vit", "head")
    with_lora = training(lora)
    if (HERE / "adapter").exists():
        shutil.rmtree(HERE / "adapter")
    lora.float().save_pretrained(HERE / "adapter")
    (HERE / "adapter" / "README.md").unlink()
    expected = {
        "versions": {"torch": torch.__version__, "timm": timm.__version__, "transformers": transformers.__version__, "peft": peft.__version__},
        "cases": cases(),
        "hugging_face": hugging_face(),
        "resized": resized(),
        "training": {
            "full": training(fill(build(vit[1], vit[2]))),
            "lora": with_lora,
            "lora_convnext": training(adapted("convnext", "head.fc")),
            "lora_convnext_of_convolutions": training(adapted("convnext_of_convolutions", "head.fc")),
            "lora_mobilenet_small": training(adapted("mobilenet_small", "classifier")),
            "lora_resnet": training(adapted("resnet", "fc")),
        },
    }
    (HERE / "expected.json").write_text(json.dumps(expected) + "\n")


main()
