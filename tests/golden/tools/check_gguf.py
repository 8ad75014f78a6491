"""Holds a GGUF file that `rekindle export --dtype f32` wrote against llama.cpp, transformers and gguf. By hand, not part of the tests:

    pip install llama-cpp-python==0.3.36 gguf==0.19.0 transformers==5.24.0 torch==2.15.0
    rekindle export RUN --dtype f32 -o out/model.gguf
    rekindle generate out/model.gguf --file test.jsonl --max-new-tokens 64 > answers.jsonl
    python3 tests/golden/tools/check_gguf.py out/model.gguf answers.jsonl

The answers are greedy, to prompts of one question each. llama.cpp keeps f32 keys and values here, as we do; its default is f16.
"""

import json
import sys
from pathlib import Path

import gguf
import llama_cpp
import numpy as np
import torch
from transformers import AutoModelForCausalLM

LOGITS = 1e-3
torch.set_num_threads(1)
file = Path(sys.argv[1])
answers = [json.loads(line) for line in open(sys.argv[2])]

reader = gguf.GGUFReader(file)
print(f"gguf: {len(reader.tensors)} tensors, architecture {reader.fields['general.architecture'].contents()}")

model = llama_cpp.Llama(str(file), n_ctx=2048, logits_all=True, verbose=False, flash_attn=False, type_k=0, type_v=0)
template = model.metadata.get("tokenizer.chat_template")
assert template, "there is no chat template inside"
ids = model.tokenize(" ".join(a["answer"] for a in answers).encode(), special=False)[:256]
model.eval(ids)
ours = np.array(model.scores[: len(ids)])
theirs = AutoModelForCausalLM.from_pretrained(file.parent, gguf_file=file.name, dtype=torch.float32)
with torch.no_grad():
    theirs = theirs(torch.tensor([ids])).logits[0].numpy()
difference = np.abs(ours - theirs).max()
print(f"llama.cpp and transformers on {len(ids)} tokens: largest difference of a logit {difference:.1e}")
assert difference < LOGITS

equal = 0
for asked in answers:
    model.reset()
    said = model.create_chat_completion([{"role": "user", "content": asked["prompt"]}], temperature=0, max_tokens=64)
    said = said["choices"][0]["message"]["content"]
    equal += said == asked["answer"]
    if said != asked["answer"]:
        print(f"{asked['prompt']!r}\n  llama.cpp {said!r}\n  rekindle  {asked['answer']!r}")
print(f"{equal} of {len(answers)} greedy answers are llama.cpp's")
