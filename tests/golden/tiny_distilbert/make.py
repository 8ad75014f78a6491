"""A tiny DistilBERT: states, logits, gradients, 20 training steps, and the ways its checkpoints are stored.

Width 32, 2 layers, 4 heads, intermediate 37, 30 learned positions, 120 tokens (those of tiny_bert), 3 labels; random weights.
The variants `gamma_beta` and `wrapped` hold the whole classifier; the others keep its embeddings and first layer, so that
their last hidden state is `hidden_states.1`:

    gamma_beta            the embeddings' LayerNorm with .gamma and .beta, and a `position_ids` buffer to ignore
    wrapped               pytorch_model.bin of a DistributedDataParallel: every name begins with `module.`
    base                  DistilBertModel: no `distilbert.` in the names
    masked_lm             DistilBertForMaskedLM
    masked_lm_old         the same in pytorch_model.bin, with the tied `vocab_projector.weight`
    token_classification  DistilBertForTokenClassification with five tags
    question_answering    DistilBertForQuestionAnswering

Command:  python3 tests/golden/tiny_distilbert/make.py
Versions: Python 3.11, torch 2.15.0, transformers 5.24.0, safetensors 0.8.0
Seed:     10 (weights), 11 (token ids), 12 (order of batches), 13 (heads of the variants)
Writes:   model/, variants/<name>/, expected.json (token ids, labels, logits; what transformers initialises and ignores of each
          variant), states.safetensors (hidden states, the cases laid end to end), gradients.safetensors (of the mean loss of
          all cases), training.json. Everything expected is computed in float64.
"""

import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))
import tiny
from common import fix_numerics, versions, write_json

import torch
from safetensors.torch import save_file
from transformers import (AutoTokenizer, DistilBertConfig, DistilBertForMaskedLM, DistilBertForQuestionAnswering,
                          DistilBertForSequenceClassification, DistilBertForTokenClassification, DistilBertModel)

TINY_BERT = HERE.parent / "tiny_bert" / "model"


def write_variants(whole: DistilBertForSequenceClassification) -> None:
    variants = HERE / "variants"
    (variants / "gamma_beta").mkdir(parents=True)
    whole.config.save_pretrained(variants / "gamma_beta")
    state = tiny.old_names(whole.state_dict())
    state["distilbert.embeddings.position_ids"] = torch.arange(tiny.LONGEST)[None]
    save_file(state, variants / "gamma_beta" / "model.safetensors", {"format": "pt"})
    tiny.save_pickle(whole, variants / "wrapped", {f"module.{name}": tensor for name, tensor in whole.state_dict().items()})
    tiny.save(tiny.first_layer(DistilBertModel, whole, 13), variants / "base")
    masked_lm = tiny.first_layer(DistilBertForMaskedLM, whole, 13)
    tiny.save(masked_lm, variants / "masked_lm")
    tiny.save_pickle(masked_lm, variants / "masked_lm_old", masked_lm.state_dict())
    tiny.save(tiny.first_layer(DistilBertForTokenClassification, whole, 13, tiny.TAGS), variants / "token_classification")
    tiny.save(tiny.first_layer(DistilBertForQuestionAnswering, whole, 13), variants / "question_answering")


def main() -> None:
    fix_numerics()
    tiny.clean(HERE, "model", "variants")
    tokenizer = AutoTokenizer.from_pretrained(TINY_BERT)
    config = DistilBertConfig(vocab_size=len(tokenizer), dim=32, n_layers=2, n_heads=4, hidden_dim=37, max_position_embeddings=tiny.LONGEST,
                              sinusoidal_pos_embds=False, **tiny.label_names(tiny.LABELS))
    whole = DistilBertForSequenceClassification(config)
    tiny.randomise(whole, seed=10)
    tiny.save(whole, HERE / "model")
    tokenizer.model_max_length = tiny.LONGEST
    tokenizer.save_pretrained(HERE / "model")
    write_variants(whole)

    cases = tiny.draw_cases(len(tokenizer), tokenizer.cls_token_id, tokenizer.sep_token_id, 5, seed=11)
    labels = torch.tensor([index % 3 for index in range(len(cases))])
    tiny.write_family(HERE, DistilBertForSequenceClassification, cases, labels, whole_variants=["gamma_beta"], batch_seed=12)


if __name__ == "__main__":
    main()
