"""Does sentence-transformers load what Rekindle wrote, and give the same vectors?

    rekindle embed RUN/final --file texts.txt --output vectors.jsonl
    python3 tests/golden/tools/check_sentence.py RUN/final vectors.jsonl

For a whole model, and for the directory of an adapter, whose base it then finds by adapter_config.json. An adapter is also put into its base by PEFT.
"""

import json
import sys
from pathlib import Path

import torch
from sentence_transformers import SentenceTransformer

TOLERANCE = 1e-5


def main() -> None:
    folder, vectors = Path(sys.argv[1]), Path(sys.argv[2])
    rows = [json.loads(line) for line in vectors.read_text(encoding="utf-8").splitlines()]
    expected = torch.tensor([row["embedding"] for row in rows])
    model = SentenceTransformer(str(folder), device="cpu")
    found = torch.tensor(model.encode([row["text"] for row in rows], batch_size=1))
    largest = (found - expected).abs().max().item()
    print(f"{folder}: {model.__class__.__name__}, {found.shape[0]} texts of {found.shape[1]} numbers, largest difference {largest:.1e}")
    assert largest <= TOLERANCE, largest
    if (folder / "adapter_config.json").is_file():
        from peft import PeftModel
        from transformers import AutoModel, AutoTokenizer

        name = json.loads((folder / "adapter_config.json").read_text())["base_model_name_or_path"]
        base = AutoModel.from_pretrained(name)
        peft, tokenizer = PeftModel.from_pretrained(base, folder).eval(), AutoTokenizer.from_pretrained(folder)
        with torch.no_grad():
            pooled = [peft(**tokenizer(row["text"], return_tensors="pt")).last_hidden_state[0].mean(0) for row in rows]
        cosines = torch.nn.functional.cosine_similarity(torch.stack(pooled), expected)
        print(f"PEFT: cosines with the mean of the tokens from {cosines.min().item():.6f}")
        assert cosines.min() > 1 - TOLERANCE


if __name__ == "__main__":
    main()
