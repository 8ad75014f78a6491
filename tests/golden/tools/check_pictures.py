"""Whether timm, transformers and PEFT load what the tests of tests/it/pictures.rs left in a folder, and compute what the fixture has.

    REKINDLE_TEST_KEEP=/tmp/kept cargo test -p rekindle-tests pictures
    python3 tests/golden/tools/check_pictures.py /tmp/kept
"""

import json
import pathlib
import sys

import numpy as np
import peft
import timm
import torch
import transformers

GOLDEN = pathlib.Path(__file__).parent.parent
sys.path.insert(0, str(GOLDEN / "vision_models"))

from make import values  # noqa: E402

TOLERANCE = 1e-4


def pictures(side, batch=2):
    return torch.from_numpy(values("input", batch * 3 * side * side).reshape(batch, 3, side, side))


def compare(what, logits, expected, tolerance=TOLERANCE):
    apart = float(np.abs(np.array(logits.flatten().tolist()) - np.array(expected)).max())
    print(f"{what}: logits within {apart:.1e}")
    assert apart < tolerance, what


@torch.no_grad()
def main(kept):
    expected = json.loads((GOLDEN / "tiny_pictures" / "expected.json").read_text())
    for case in expected["cases"]:
        model = timm.create_model(f"local-dir:{kept / case['name']}", pretrained=True).eval()
        compare(case["name"], model(pictures(case["side"])), case["logits"])
    for generation in ("files", "modules"):
        model = transformers.AutoModelForImageClassification.from_pretrained(kept / f"hugging_face_{generation}").eval()
        case = expected["hugging_face"]
        compare(f"transformers, from names of {generation}", model(pictures(case["side"])).logits, case["logits"])
        processor = transformers.AutoImageProcessor.from_pretrained(kept / f"hugging_face_{generation}")
        assert processor.size["height"] == 32, processor
    case = expected["resized"]
    model = timm.create_model(f"local-dir:{kept / 'resized'}", pretrained=True).eval()
    compare("positions resized", model(pictures(case["side"])), case["logits"])
    runs = ("lora", "lora_convnext", "lora_convnext_of_convolutions", "lora_mobilenet_small", "lora_resnet")
    for run in runs:
        name = run.removeprefix("lora_") if run != "lora" else "vit"
        base = timm.create_model(f"local-dir:{kept / name}", pretrained=True)
        model = peft.PeftModel.from_pretrained(base, kept / f"adapter_{name}").eval()
        # Behind 20 steps of training in f32.
        compare(f"adapter of {name}", model(pictures(32)), expected["training"][run]["logits_after"], 1e-3)


main(pathlib.Path(sys.argv[1]))
