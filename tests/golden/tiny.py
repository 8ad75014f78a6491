"""What the golden scripts of tiny seeded models share: random weights, cases of token ids, and a reference in float64.

Imported by the `make.py` of the tiny families other than tiny_bert, and of tiny_bert_variants, tiny_tasks and tiny_tokens; not a case itself.
"""

import json
import shutil
from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import AutoTokenizer, PreTrainedModel

from common import linear_schedule, versions, write_json

LABELS = {0: "complaint", 1: "praise", 2: "question"}
TAGS = {0: "O", 1: "B-place", 2: "I-place", 3: "B-time", 4: "I-time"}
# (text, text_pair) for the tokenizers; the second is longer than the models' positions.
TEXTS = [("I lost my card!", None), ("How do I change the password of my account? " * 3, None), ("Thanks, great day.", "Please help."), ("", None),
         ("  two  spaces, a tab\tand a line\nbreak ", None), ("Caf\u00e9 \u4e2d\u00df \U0001f600 n\u0303", None), ("a <mask> [MASK] </s> [SEP] b", None),
         ("It's 0.5% of -3,000", ""), ("refundable cancelled moneyback", "HELLO")]
# Tokens of the sixteen cases; the longest fills every position of the tiny models.
LENGTHS = [3, 30, 17, 5, 24, 9, 12, 4, 28, 7, 20, 6, 15, 10, 13, 8]
LONGEST = max(LENGTHS)
BATCH = 4
STEPS = 20
BETAS, EPSILON = (0.9, 0.999), 1e-8
# Classification: exaggerated on purpose, so that weight decay and clipping move 20 losses visibly.
TRAINING = {"learning_rate": 2e-3, "weight_decay": 0.5, "max_grad_norm": 0.5, "warmup_steps": 3, "steps": STEPS}


def randomise(model: torch.nn.Module, seed: int) -> None:
    """Every parameter, biases and LayerNorm too, so that no two tensors can be swapped unseen."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            centre = 1.0 if name.lower().endswith("norm.weight") else 0.0
            parameter.copy_(centre + torch.normal(0.0, 0.2, parameter.shape, generator=generator))


def label_names(names: dict[int, str]) -> dict:
    return {"id2label": names, "label2id": {name: index for index, name in names.items()}}


def draw_cases(vocabulary: int, first: int, last: int, first_word: int, seed: int) -> list[dict]:
    """Token ids between the model's first and last special token."""
    generator = torch.Generator().manual_seed(seed)
    cases = []
    for length in LENGTHS:
        ids = torch.randint(first_word, vocabulary, (length,), generator=generator).tolist()
        ids[0], ids[-1] = first, last
        cases.append({"input_ids": ids, "token_type_ids": [0] * length})
    return cases


def draw_types(cases: list[dict], seed: int) -> None:
    """Makes pairs of some cases: from somewhere on, their tokens are of type 1."""
    generator = torch.Generator().manual_seed(seed)
    for case in cases[::2]:
        length = len(case["input_ids"])
        first = int(torch.randint(1, length + 1, (1,), generator=generator))
        case["token_type_ids"] = [0] * first + [1] * (length - first)


def draw_batches(count: int, seed: int) -> list[list[int]]:
    """The cases of every step: shuffled epochs in batches of four; the last batch of all is cut to three."""
    generator = torch.Generator().manual_seed(seed)
    batches = []
    while len(batches) < STEPS:
        order = torch.randperm(count, generator=generator).tolist()
        batches += [order[start:start + BATCH] for start in range(0, count, BATCH)]
    return [*batches[:STEPS - 1], batches[STEPS - 1][:BATCH - 1]]


def reference(model_class: type[PreTrainedModel], directory: Path, **options) -> PreTrainedModel:
    """A saved model in float64 with the plainest attention, without dropout."""
    return model_class.from_pretrained(directory, dtype=torch.float32, attn_implementation="eager", **options).double().eval()


def inputs(model: PreTrainedModel, cases: list[dict]) -> dict:
    """The cases as one padded batch."""
    longest = max(len(case["input_ids"]) for case in cases)

    def padded(key, fill):
        return torch.tensor([case[key] + [fill] * (longest - len(case[key])) for case in cases])

    mask = torch.tensor([[1] * len(case["input_ids"]) + [0] * (longest - len(case["input_ids"])) for case in cases])
    batch = {"input_ids": padded("input_ids", model.config.pad_token_id), "attention_mask": mask}
    if getattr(model.config, "type_vocab_size", 1) > 1:
        batch["token_type_ids"] = padded("token_type_ids", 0)
    return batch


def logits(model: PreTrainedModel, cases: list[dict]) -> list[list[float]]:
    """Of each case, alone and without padding."""
    with torch.no_grad():
        return [[digits(value) for value in model(**inputs(model, [case])).logits[0].tolist()] for case in cases]


def hidden_states(model: PreTrainedModel, cases: list[dict]) -> list[torch.Tensor]:
    """The embeddings' and every layer's output [T, D], the cases laid end to end."""
    with torch.no_grad():
        rows = [model.base_model(**inputs(model, [case]), output_hidden_states=True).hidden_states for case in cases]
    return [torch.cat([states[layer][0] for states in rows]) for layer in range(len(rows[0]))]


def batch_loss(model: PreTrainedModel, cases: list[dict], targets: torch.Tensor) -> torch.Tensor:
    """transformers' own loss of the cases as one batch. Of a ModernBERT it is the mean of each case's own: in float64 its padding gives
    NaN where it sees no token within its window."""
    if model.config.model_type != "modernbert":
        return model(**inputs(model, cases), labels=targets).loss
    return torch.stack([model(**inputs(model, [case]), labels=target[None]).loss for case, target in zip(cases, targets)]).mean()


def gradients(model: PreTrainedModel, cases: list[dict], targets: torch.Tensor) -> tuple[float, dict[str, torch.Tensor]]:
    """The loss of the cases as one batch, and its gradient for every parameter."""
    model.zero_grad()
    loss = batch_loss(model, cases, targets)
    loss.backward()
    return loss.item(), {name: parameter.grad.clone() for name, parameter in model.named_parameters()}


def norm(grads: dict[str, torch.Tensor]) -> float:
    return torch.sqrt(sum(grad.square().sum() for grad in grads.values())).item()


def digits(value: float) -> float:
    return float(f"{value:.10g}")


def train(model: PreTrainedModel, cases: list[dict], targets: torch.Tensor, batches: list[list[int]], settings: dict) -> dict:
    """AdamW with decay on matrices only, a linear schedule with warmup, no dropout; one batch a step."""
    parameters = list(model.parameters())
    groups = [{"params": [p for p in parameters if p.dim() > 1], "weight_decay": settings["weight_decay"]},
              {"params": [p for p in parameters if p.dim() == 1], "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=settings["learning_rate"], betas=BETAS, eps=EPSILON)
    schedule = linear_schedule(optimizer, settings["warmup_steps"], settings["steps"])
    optimizer.zero_grad()  # of what was computed before
    steps = []
    for step, batch in enumerate(batches):
        loss = batch_loss(model, [cases[index] for index in batch], targets[batch])
        loss.backward()
        before = torch.nn.utils.clip_grad_norm_(parameters, settings["max_grad_norm"])
        rate = schedule.get_last_lr()[0]
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        steps.append({"step": step + 1, "batch": batch, "loss": digits(loss.item()), "learning_rate": rate, "gradient_norm": digits(before.item())})
    return {"trained_parameters": sum(p.numel() for p in parameters), "logits_after": logits(model, cases), "steps": steps}


def write_training(path: Path, name: str, settings: dict, result: dict) -> None:
    write_json(path, {"versions": versions(), **settings, "betas": BETAS, "epsilon": EPSILON, **result}, rows="steps")
    print(name, result["trained_parameters"], " ".join(f"{step['loss']:.4f}" for step in result["steps"]))


def write_tensors(path: Path, tensors: dict[str, torch.Tensor]) -> None:
    save_file({name: tensor.float().contiguous() for name, tensor in tensors.items()}, path, {"format": "pt"})
    print(f"{path.name}: {path.stat().st_size / 1024:.0f} KiB")


def clean(folder: Path, *names: str) -> None:
    for name in names:
        shutil.rmtree(folder / name, ignore_errors=True)


def save(model: PreTrainedModel, directory: Path) -> None:
    model.save_pretrained(directory)
    (directory / "generation_config.json").unlink(missing_ok=True)


def save_pickle(model: PreTrainedModel, directory: Path, state: dict[str, torch.Tensor]) -> None:
    """As PyTorch-only versions did: config.json and pytorch_model.bin, tied tensors stored under both names."""
    directory.mkdir(parents=True)
    model.config.save_pretrained(directory)
    torch.save(state, directory / "pytorch_model.bin")


def old_names(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): tensor
            for name, tensor in state.items()}


def first_layer(model_class: type[PreTrainedModel], whole: PreTrainedModel, seed: int, names: dict[int, str] | None = None,
                **options) -> PreTrainedModel:
    """A model of another class with the embeddings and the first layer of `whole`; what only it has is random."""
    settings = whole.config.to_dict()
    if settings.get("layer_types"):
        settings["layer_types"] = settings["layer_types"][:1]
    config = type(whole.config)(**{**settings, "num_hidden_layers": 1, "problem_type": None, "architectures": None,
                                   **label_names(names or {0: "LABEL_0", 1: "LABEL_1"})})
    model = model_class(config, **options)
    randomise(model, seed)
    own = model.base_model.state_dict()
    model.base_model.load_state_dict({name: whole.base_model.state_dict().get(name, value) for name, value in own.items()})
    return model


def read_as_classifier(classifier: type[PreTrainedModel], directory: Path, cases: list[dict], state: torch.Tensor) -> dict:
    """What transformers says on loading `directory` as a sequence classifier of three labels; its backbone's output is `state`.

    A `classifier` of tokens has the name of the sequence's, but another number of labels: it is ignored and a new one made.
    """
    model, loading = classifier.from_pretrained(directory, output_loading_info=True, ignore_mismatched_sizes=True, dtype=torch.float32,
                                                attn_implementation="eager", **label_names(LABELS))
    assert not loading["error_msgs"], loading
    torch.testing.assert_close(hidden_states(model.double().eval(), cases)[-1], state, atol=1e-12, rtol=0)
    replaced = {name for name, *_ in loading["mismatched_keys"]}
    return {"initialised": sorted({*loading["missing_keys"], *replaced}), "ignored": sorted({*loading["unexpected_keys"], *replaced})}


def with_adapter(classifier: type[PreTrainedModel], folder: Path, cases: list[dict], seed: int, targets: list[str] | None) -> list[list[float]]:
    """Logits with a random PEFT adapter, which is saved in folder/adapter, on `targets` or the layers that PEFT takes by itself."""
    import peft
    model = classifier.from_pretrained(folder / "model", dtype=torch.float32, attn_implementation="eager")
    model.name_or_path = model.config._name_or_path = folder.name  # or a local directory would be written
    model = peft.get_peft_model(model, peft.LoraConfig(task_type=peft.TaskType.SEQ_CLS, r=4, lora_alpha=8, target_modules=targets)).eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:  # B too: at zero the adapter would do nothing
                parameter.copy_(torch.normal(0.0, 0.2, parameter.shape, generator=generator))
    model.save_pretrained(folder / "adapter", safe_serialization=True)
    (folder / "adapter" / "README.md").unlink()  # an empty model card
    path = folder / "adapter" / "adapter_config.json"
    config = json.loads(path.read_text())
    config["target_modules"].sort()  # PEFT writes a set, in an order that changes from run to run
    path.write_text(json.dumps(config, indent=2, sort_keys=True))
    return logits(model.double(), cases)


def write_family(folder: Path, classifier: type[PreTrainedModel], cases: list[dict], labels: torch.Tensor, whole_variants: list[str],
                 batch_seed: int, adapter_seed: int | None = None, adapter_targets: list[str] | None = None,
                 other_variants: list[str] = [], last_norm: str | None = None) -> None:
    """Everything that is expected of folder/model, folder/variants and, with a seed, folder/adapter.

    `last_norm` names the module of the backbone that stands behind the last layer, if there is one. `other_variants` are classifiers of
    their own, of which the logits are expected."""
    model = reference(classifier, folder / "model")
    states, of_cases = hidden_states(model, cases), logits(model, cases)
    written = {f"hidden_states.{layer}": state for layer, state in enumerate(states)}
    of_first = states[1]
    if last_norm is not None:
        with torch.no_grad():
            of_first = written["first_layer_alone"] = getattr(model.base_model, last_norm)(of_first)
    write_tensors(folder / "states.safetensors", written)
    loss, grads = gradients(model, cases, labels)
    write_tensors(folder / "gradients.safetensors", grads)
    variants = {}
    for directory in sorted((folder / "variants").iterdir()):
        if directory.name == "wrapped":  # transformers does not read these names: it would have to be unwrapped first
            variants[directory.name] = {"initialised": [], "ignored": []}
            continue
        if directory.name in other_variants:
            continue
        whole = directory.name in whole_variants
        variants[directory.name] = read_as_classifier(classifier, directory, cases, states[-1] if whole else of_first)
        if whole:
            torch.testing.assert_close(torch.tensor(logits(reference(classifier, directory), cases)), torch.tensor(of_cases), atol=1e-9, rtol=0)
            assert variants[directory.name]["initialised"] == []
    tokenizer, texts = AutoTokenizer.from_pretrained(folder / "model"), []
    for text, pair in TEXTS:
        ids = tokenizer([text], None if pair is None else [pair], truncation=True, max_length=LONGEST)["input_ids"][0]
        texts.append({"text": text, "text_pair": pair, "input_ids": " ".join(map(str, ids))})
    rows = [{**case, "label": label, "logits": row} for case, label, row in zip(cases, labels.tolist(), of_cases)]
    others = {name: logits(reference(classifier, folder / "variants" / name), cases) for name in other_variants}
    others = {"other_logits": others} if others else {}
    adapted = {} if adapter_seed is None else {"adapter_logits": with_adapter(classifier, folder, cases, adapter_seed, adapter_targets)}
    write_json(folder / "expected.json", {"versions": versions(), "loss": digits(loss), "gradient_norm": digits(norm(grads)), **adapted, **others,
                                          "variants": variants, "texts": texts, "cases": rows}, rows="cases")
    batches = draw_batches(len(cases), batch_seed)
    write_training(folder / "training.json", folder.name, TRAINING, train(model, cases, labels, batches, TRAINING))


def write_adapter(folder: Path, classifier: type[PreTrainedModel], cases: list[dict], targets: list[str], saved: list[str], seed: int) -> None:
    """adapter/, of random numbers as PEFT saves it, and adapter.json with the logits of the cases."""
    from peft import LoraConfig, TaskType, get_peft_model

    base = classifier.from_pretrained(folder / "model", dtype=torch.float32, attn_implementation="eager")
    settings = LoraConfig(task_type=TaskType.SEQ_CLS, r=4, lora_alpha=8, target_modules=targets, modules_to_save=saved)
    adapted = get_peft_model(base, settings).eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        # B too: at zero the adapter would do nothing.
        for parameter in adapted.parameters():
            if parameter.requires_grad:
                parameter.copy_(torch.normal(0.0, 0.2, parameter.shape, generator=generator))
    adapted.save_pretrained(folder / "adapter")
    (folder / "adapter" / "README.md").unlink()  # an empty model card
    path = folder / "adapter" / "adapter_config.json"
    config = json.loads(path.read_text())
    config["base_model_name_or_path"] = "../model"
    config["target_modules"].sort()  # PEFT writes a set, in an order that changes from run to run
    path.write_text(json.dumps(config, indent=2) + "\n")
    write_json(folder / "adapter.json", {"versions": versions(), "logits": logits(adapted.double(), cases)})
