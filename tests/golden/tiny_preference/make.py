"""Losses and gradients of preference tuning, as TRL's own trainers compute them, in float64: of the tiny Llama of
`tiny_decoders`, full as it is before its first step, and with its adapter (whose B is not zero) against the adapter switched off.

    python tests/golden/tiny_preference/make.py

Made with torch 2.15.0, transformers 5.24.0, peft 0.21.2, trl 1.16.0. Nothing is random. The trainers are made without their
constructors, which want a tokenizer and a dataset; the batches are made by their collators.

`dpo_smoothed` is conservative DPO, which this TRL has no longer: (1 - e) times the loss of the pairs, plus e times that of the
pairs the other way round. `dpo_sft` takes one pair: over more, TRL's mean of the tokens is the batch's and ours each pair's.
"""

import collections
import json
from pathlib import Path
from types import SimpleNamespace

import peft
import torch
import transformers
from safetensors.torch import save_file
from trl import DPOTrainer, KTOTrainer
from trl.experimental.orpo import ORPOTrainer
from trl.trainer import dpo_trainer, kto_trainer

HERE = Path(__file__).parent
LLAMA = HERE.parent / "tiny_decoders" / "llama"
BETA, SMOOTHING, SFT, WEIGHTS = 0.7, 0.2, 0.3, (1.0, 1.5)
# Prompt, chosen answer, rejected answer.
PAIRS = [
    ([3, 17, 5, 9], [30, 22, 4, 2], [4, 11, 36, 8, 2]),
    ([7, 1, 28], [13, 6, 2], [19, 33, 2]),
    ([12, 12, 31, 25, 10, 9], [14, 2], [27, 18, 35, 21, 20, 2]),
    ([5, 9, 23], [26, 32, 29, 16, 2], [15, 2]),
]
ACCELERATOR = SimpleNamespace(
    device=torch.device("cpu"),
    gather=lambda x: x,
    gather_for_metrics=lambda x: x,
    unwrap_model=lambda x: x,
    autocast=torch.enable_grad,
)


def bare(cls, **settings):
    """A trainer that was never constructed."""
    trainer = cls.__new__(cls)
    trainer.model = SimpleNamespace(training=True)
    trainer.accelerator = ACCELERATOR
    trainer.beta = BETA
    trainer.aux_loss_enabled = False
    trainer._metrics = {"train": collections.defaultdict(list)}
    trainer._total_train_tokens = 0
    trainer._tp_size = 1
    for name, value in settings.items():
        setattr(trainer, name, value)
    return trainer


def model(tuned):
    base = transformers.AutoModelForCausalLM.from_pretrained(LLAMA / "model", attn_implementation="sdpa").double().eval()
    dpo_trainer.add_fused_lm_head(base, outputs=("log_probs", "entropy", "mean_logits", "is_top1"))
    if not tuned:
        return base
    tuned = peft.PeftModel.from_pretrained(base, LLAMA / "adapter", is_trainable=True, autocast_adapter_dtype=False)
    return tuned.double().eval()


def reference(inputs, mask="completion_mask", ids="input_ids"):
    labels = inputs[ids].masked_fill(inputs[mask] == 0, -100)
    with torch.no_grad():
        attention = inputs[ids.replace("input_ids", "attention_mask")]
        outputs = model(False)(inputs[ids], attention_mask=attention, labels=labels, fused_lm_head=True, use_cache=False)
    return outputs.log_probs.sum(1)


def dpo(tuned, pairs, loss_types=("sigmoid",), weights=(1.0,)):
    trainer = bare(
        DPOTrainer,
        ld_alpha=None,
        precompute_ref_logps=True,
        f_divergence_type="reverse_kl",
        loss_types=list(loss_types),
        loss_weights=list(weights),
        label_smoothing=0.0,
        use_weighting=False,
    )
    collate = dpo_trainer.DataCollatorForPreference(pad_token_id=0)
    inputs = collate([dict(prompt_ids=p, chosen_ids=c, rejected_ids=r) for p, c, r in pairs])
    inputs["ref_chosen_logps"], inputs["ref_rejected_logps"] = reference(inputs).chunk(2)
    return trainer._compute_loss(tuned, inputs, False), trainer._metrics["train"]


def smoothed(tuned):
    straight, metrics = dpo(tuned, PAIRS)
    turned, _ = dpo(tuned, [(p, r, c) for p, c, r in PAIRS])
    return (1 - SMOOTHING) * straight + SMOOTHING * turned, metrics


def orpo(tuned):
    trainer = bare(ORPOTrainer, is_encoder_decoder=False, padding_value=0, label_pad_token_id=-100)
    batch = {}
    for side, at in [("chosen", 1), ("rejected", 2)]:
        rows = [(pair[0], pair[at]) for pair in PAIRS]
        longest = max(len(p) + len(a) for p, a in rows)
        pad = lambda row, value: torch.tensor(row + [value] * (longest - len(row)))
        batch[f"{side}_input_ids"] = torch.stack([pad(p + a, 0) for p, a in rows])
        batch[f"{side}_attention_mask"] = torch.stack([pad([1] * len(p + a), 0) for p, a in rows])
        batch[f"{side}_labels"] = torch.stack([pad([-100] * len(p) + a, -100) for p, a in rows])
    loss, metrics = trainer.get_batch_loss_metrics(tuned, batch)
    return loss, {key: [value] for key, value in metrics.items()}


def kto(tuned):
    trainer = bare(
        KTOTrainer,
        calculate_KL=True,
        precompute_ref_logps=True,
        loss_type="kto",
        desirable_weight=WEIGHTS[0],
        undesirable_weight=WEIGHTS[1],
    )
    # All chosen answers, then all rejected ones: the order in which TRL takes pairs apart.
    rows = [(p, c, True) for p, c, _ in PAIRS] + [(p, r, False) for p, _, r in PAIRS]
    answers = [answer for _, answer, _ in rows]
    others = [answers[-1]] + answers[:-1]
    collate = kto_trainer.DataCollatorForUnpairedPreference(pad_token_id=0)
    examples = [
        dict(prompt_ids=p, completion_ids=a, KL_completion_ids=o, label=label) for (p, a, label), o in zip(rows, others)
    ]
    inputs = collate(examples)
    inputs["ref_logps"] = reference(inputs)
    inputs["ref_KL_logps"] = reference(inputs, "KL_completion_mask", "KL_input_ids")
    return trainer._compute_loss(tuned, inputs, False), trainer._metrics["train"]


CASES = {
    "dpo": lambda tuned: dpo(tuned, PAIRS),
    "dpo_smoothed": smoothed,
    "dpo_sft": lambda tuned: dpo(tuned, PAIRS[:1], ("sigmoid", "sft"), (1.0, SFT)),
    "orpo": orpo,
    "kto": kto,
}


def main():
    torch.set_num_threads(1)
    expected = dict(
        beta=BETA,
        label_smoothing=SMOOTHING,
        sft_weight=SFT,
        desirable_weight=WEIGHTS[0],
        undesirable_weight=WEIGHTS[1],
        pairs=PAIRS,
        cases={},
    )
    gradients = {}
    for name, case in CASES.items():
        expected["cases"][name] = {}
        for method in ["full", "lora"]:
            tuned = model(method == "lora")
            loss, metrics = case(tuned)
            assert torch.isfinite(loss)
            loss.backward()
            kept = ["rewards/chosen", "rewards/rejected", "rewards/accuracies", "rewards/margins"]
            kept += ["logps/chosen", "logps/rejected", "log_odds_chosen", "kl"]
            figures = {key: metrics[key][0] for key in kept if metrics.get(key)}
            expected["cases"][name][method] = dict(loss=loss.item(), figures=figures)
            for parameter, value in tuned.named_parameters():
                if value.grad is not None and ("lora" in parameter or "layers.1" in parameter or "norm" in parameter):
                    parameter = parameter.removeprefix("base_model.model.").replace(".default", "")
                    gradients[f"{name}.{method}.{parameter}"] = value.grad.float().contiguous()
    (HERE / "expected.json").write_text(json.dumps(expected, indent=1) + "\n")
    save_file(gradients, HERE / "gradients.safetensors")


if __name__ == "__main__":
    main()
