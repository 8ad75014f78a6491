"""The rows that transformers gives distances: MPNet's buckets, and DeBERTa's at the sizes of the v3 models and at odd ones.

Command:  python3 crates/models/tests/golden/make.py
Versions: Python 3.11, torch 2.15.0, transformers 5.24.0
Seed:     none; nothing here is random
Writes:   buckets.json: cases with the rows of the distances -n to n, the query's place minus the key's; of DeBERTa also `span` (half the rows)
          and `farthest` (null where buckets are not logarithmic)
"""

import json
from pathlib import Path

import torch
from transformers.models.deberta_v2.modeling_deberta_v2 import build_relative_position
from transformers.models.mpnet.modeling_mpnet import MPNetEncoder

HERE = Path(__file__).resolve().parent
# Buckets (or none), positions, and the tokens of the text.
DEBERTA = [(256, 512, 512), (256, 512, 700), (8, 30, 30), (32, 128, 100), (12, 50, 60), (None, 40, 50)]


def deberta(buckets: int | None, positions: int, tokens: int) -> dict:
    text = torch.zeros(1, tokens, 1)
    distances = build_relative_position(text, text, bucket_size=buckets or -1, max_position=positions)[0]
    span = buckets or positions
    rows = torch.clamp(distances + span, 0, 2 * span - 1)
    # From the first token to the last, and from the last to the first.
    rows = [*reversed(rows[0].tolist()), *rows[1:, 0].tolist()]
    return {"span": span, "farthest": positions if buckets else None, "rows": rows}


def mpnet(tokens: int) -> dict:
    places = torch.arange(tokens)
    rows = MPNetEncoder.relative_position_bucket(places[None, :] - places[:, None])
    return {"rows": [*reversed(rows[0].tolist()), *rows[1:, 0].tolist()]}


def main() -> None:
    cases = [mpnet(512), *(deberta(*case) for case in DEBERTA)]
    lines = ",\n".join(json.dumps(case) for case in cases)
    (HERE / "buckets.json").write_text(f'{{"cases": [\n{lines}\n]}}\n')


if __name__ == "__main__":
    main()
