"""Does transformers (and PEFT, for an adapter) give the losses that Rekindle gave?

    python3 tests/golden/tools/check_language_model.py RUN/final ROWS.jsonl LOSS [BASE]

LOSS is the mean loss a token that `rekindle evaluate RUN ROWS.jsonl --json` printed; ROWS are prompts with completions. BASE is the
base model of an adapter, whose table of embeddings is resized to the adapter's tokenizer, as AutoPeftModelForCausalLM does it.
Made with torch 2.15.0, transformers 5.24.0, peft 0.21.2.
"""

import json
import sys

import peft
import torch
import transformers


def main():
    final, rows, loss, *base = sys.argv[1:]
    tokenizer = transformers.AutoTokenizer.from_pretrained(final)
    if base:
        model = transformers.AutoModelForCausalLM.from_pretrained(base[0])
        model.resize_token_embeddings(len(tokenizer))
        model = peft.PeftModel.from_pretrained(model, final)
        auto = peft.AutoPeftModelForCausalLM.from_pretrained(final)
    else:
        model = auto = transformers.AutoModelForCausalLM.from_pretrained(final)
    total, tokens, apart = 0.0, 0, 0.0
    for line in open(rows):
        row = json.loads(line)
        turns = [dict(role="user", content=row["prompt"]), dict(role="assistant", content=row["completion"])]
        prompt = tokenizer.apply_chat_template(turns[:1], tokenize=False, add_generation_prompt=True)
        whole = tokenizer.apply_chat_template(turns, tokenize=False).rstrip()
        prompt = tokenizer(prompt, add_special_tokens=False)["input_ids"]
        ids = tokenizer(whole, add_special_tokens=False)["input_ids"]
        assert ids[: len(prompt)] == prompt
        ids = torch.tensor([ids])
        with torch.no_grad():
            logits = model(ids).logits[0]
            apart = max(apart, (auto(ids).logits[0] - logits).abs().max().item())
        answer = slice(len(prompt), None)
        losses = torch.nn.functional.cross_entropy(logits[:-1][len(prompt) - 1 :], ids[0, answer], reduction="sum")
        total, tokens = total + losses.item(), tokens + ids.shape[1] - len(prompt)
    found = total / tokens
    print(f"loss {found:.7f}, Rekindle's {float(loss):.7f}; {tokens} tokens; loaded by itself: logits within {apart:.1e}")
    assert abs(found - float(loss)) < 1e-4 and apart < 1e-4


if __name__ == "__main__":
    main()
