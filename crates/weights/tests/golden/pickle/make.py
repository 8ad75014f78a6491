"""Makes the PyTorch checkpoints that the tests of crates/weights/src/pickle.rs read, and expected.json with what they hold.

    python3 crates/weights/tests/golden/pickle/make.py

Made with Python 3.11, torch 2.15.0, numpy 2.4.6; no randomness, but the streams name storages by their address.
evil*.pt name os.system: do not load them in Python with weights_only=False.
"""

import json
import os
import warnings
from collections import OrderedDict
from pathlib import Path

import numpy
import torch

HERE = Path(__file__).parent
LEGACY = {"_use_new_zipfile_serialization": False}
NAMES = {
    torch.float64: "F64", torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16", torch.int64: "I64",
    torch.int32: "I32", torch.int16: "I16", torch.int8: "I8", torch.uint8: "U8", torch.bool: "BOOL",
}
expected = {"tensors": {}, "ignored": {}, "errors": {}, "read_errors": {}}


def flat(value, name=""):
    """Dotted names of all entries."""
    if isinstance(value, dict) and value:
        for key, entry in value.items():
            yield from flat(entry, f"{name}.{key}" if name else str(key))
    else:
        yield name, value


def save(file, value, **options):
    """Saves, and notes what torch says is in it."""
    torch.save(value, HERE / file, **options)
    entries = [(name, v.detach()) for name, v in flat(value) if isinstance(v, torch.Tensor)]
    expected["tensors"][file] = {
        name: {"dtype": NAMES[v.dtype], "shape": list(v.shape), "values": v.to(torch.float64).flatten().tolist()}
        for name, v in entries
    }
    expected["ignored"][file] = sorted(name for name, v in flat(value) if not isinstance(v, torch.Tensor))


def ramp(*shape):
    return torch.arange(torch.Size(shape).numel(), dtype=torch.float32).reshape(shape) / 4 - 1


every_type = OrderedDict((f"a.{str(t)[6:]}", (ramp(2, 3) * 4).abs().to(t) if t == torch.uint8 else (ramp(2, 3) * 4).to(t)) for t in NAMES)
every_type["a.pi"] = torch.tensor(3.14159265358979, dtype=torch.float64)
every_type["a.num_batches_tracked"] = torch.tensor(1 << 24)
every_type["a.empty"] = torch.zeros(0, 3)
save("zip.pt", every_type)
save("stream.pt", every_type, **LEGACY)
save("protocol4.pt", every_type, pickle_protocol=4)
save("protocol5_stream.pt", every_type, pickle_protocol=5, **LEGACY)

whole = ramp(4, 6)
views = {
    "whole": whole, "transposed": whole.t(), "rows": whole[1:3], "column": whole[:, 2], "steps": whole[::2, 1::3],
    "permuted": ramp(2, 3, 4).permute(2, 0, 1), "expanded": ramp(3, 1).expand(3, 4), "scalar": whole[2, 3],
    "again": whole, "none": whole[:0], "ones": whole[1:2, 1:4:2],
    "channels_last": ramp(2, 3, 2, 2).to(memory_format=torch.channels_last),
}
save("views.pt", views)
save("views_stream.pt", views, **LEGACY)

tagged = torch.nn.Parameter(ramp(3))
tagged.tag = "kept out of weight decay"
save("parameters.pt", {"weight": torch.nn.Parameter(ramp(2, 2)), "frozen": torch.nn.Parameter(ramp(2), requires_grad=False), "tagged": tagged})

network = torch.nn.DataParallel(torch.nn.Sequential(torch.nn.Conv2d(1, 2, 3), torch.nn.BatchNorm2d(2)))
with torch.no_grad():
    for parameter in network.parameters():
        parameter.copy_(ramp(*parameter.shape))
optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9)
sum(p.sum() for p in network.parameters()).backward()
optimizer.step()
training = {
    "epoch": 3, "arch": "resnet20", "best_prec1": 91.75, "accuracy": numpy.float64(0.5), "history": numpy.ones(2),
    "seed": 1 << 100, "long": 1 << 2000, "state_dict": network.state_dict(), "optimizer": optimizer.state_dict(), "nothing": {},
    "size": torch.Size([1, 2]), "device": torch.device("cpu"), "dtype": torch.float16, "done": False, "note": None, "raw": b"\xff\x00",
}
save("training.pt", training)
save("training_stream.pt", training, **LEGACY)


class Evil:
    def __reduce__(self):
        return os.system, ("echo this ran",)


def error(file, value, message, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.save(value, HERE / file, **options)
    expected["errors"][file] = message


system = f"{os.system.__module__}.system"
error("evil.pt", {"weight": ramp(2), "evil": Evil()}, f"this file would run `{system}`")
error("evil_stream.pt", {"weight": ramp(2), "evil": Evil()}, f"this file would run `{system}`", **LEGACY)
error("evil_protocol4.pt", {"weight": ramp(2), "evil": Evil()}, f"this file would run `{system}`", pickle_protocol=4)
error("network.pt", torch.nn.Linear(1, 1), "this file would run `torch.nn.modules.linear.Linear`")
error("tensor.pt", ramp(2), "expected a dictionary of tensors, found a tensor")
error("list.pt", [ramp(2)], "expected a dictionary of tensors, found a list of 1")
error("numbers.pt", {"epoch": 3}, "found a dictionary without a tensor")
error("twice.pt", {"a.b": ramp(2), "a": {"b": ramp(2)}}, "two tensors named `a.b`")
error("sparse.pt", {"weight": ramp(2, 2).to_sparse()}, "this file would run `torch._utils._rebuild_sparse_tensor`")

unread = {
    "float8": ramp(2).to(torch.float8_e4m3fn), "complex": ramp(2).to(torch.complex64), "uint16": torch.ones(2, dtype=torch.uint16),
    "large": torch.tensor([1, -(1 << 24) - 1]), "nan": torch.tensor([0.0, float("nan")]), "huge": torch.tensor([1e300], dtype=torch.float64),
}
torch.save(unread, HERE / "unread.pt")
expected["read_errors"]["unread.pt"] = {
    "float8": "tensor `float8` has type F8_E4M3", "complex": "tensor `complex` has type C64", "uint16": "tensor `uint16` has type U16",
    "large": "tensor `large` holds -16777217 at flat index 1", "nan": "tensor `nan` holds NaN at flat index 1",
    "huge": "tensor `huge` holds inf at flat index 0",
}
(HERE / "expected.json").write_text(json.dumps(expected, separators=(",", ":")) + "\n")
