"""A tiny ELECTRA: states, logits, gradients, 20 training steps, and the ways its checkpoints are stored.

Embeddings of width 24 projected to 32, 2 layers, 4 heads, intermediate 37, 30 learned positions, two token types, 120 tokens (those of
tiny_bert), 3 labels; random weights. The variant `gamma_beta` holds the whole classifier; the others keep its embeddings and first layer,
so that their last hidden state is `hidden_states.1`:

    gamma_beta            LayerNorm.gamma and .beta, and a `position_ids` buffer to ignore
    base                  ElectraModel: no `electra.` in the names
    discriminator         ElectraForPreTraining, as ELECTRA's checkpoints are published
    generator             ElectraForMaskedLM
    generator_old         the same in pytorch_model.bin, with the tied `generator_lm_head.weight`
    token_classification  ElectraForTokenClassification with five tags
    question_answering    ElectraForQuestionAnswering
    multiple_choice       ElectraForMultipleChoice, whose `classifier.weight` [1, D] is no sequence classifier's

Command:  python3 tests/golden/tiny_electra/make.py (after tiny_bert)
Versions: Python 3.11, torch 2.15.0, transformers 5.24.0, peft 0.21.2, safetensors 0.8.0
Seed:     70 (weights), 71 (token ids and types), 72 (order of batches), 73 (heads of the variants), 74 (adapter)
Writes:   model/, variants/<name>/, adapter/ (PEFT: r 4, alpha 8, its own default layers), expected.json (token ids, labels, logits, with the
          adapter too; what transformers initialises and ignores of each variant), states.safetensors (hidden states, the cases laid end to
          end), gradients.safetensors (of the mean loss of all cases), training.json. Everything expected is computed in float64.
"""

import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))
import tiny
from common import fix_numerics

import torch
from safetensors.torch import save_file
from transformers import (AutoTokenizer, ElectraConfig, ElectraForMaskedLM, ElectraForMultipleChoice, ElectraForPreTraining,
                          ElectraForQuestionAnswering, ElectraForSequenceClassification, ElectraForTokenClassification, ElectraModel)

TINY_BERT = HERE.parent / "tiny_bert" / "model"


def write_variants(whole: ElectraForSequenceClassification) -> None:
    variants = HERE / "variants"
    (variants / "gamma_beta").mkdir(parents=True)
    whole.config.save_pretrained(variants / "gamma_beta")
    positions = {"electra.embeddings.position_ids": torch.arange(tiny.LONGEST)[None]}
    save_file({**tiny.old_names(whole.state_dict()), **positions}, variants / "gamma_beta" / "model.safetensors", {"format": "pt"})
    tiny.save(tiny.first_layer(ElectraModel, whole, 73), variants / "base")
    tiny.save(tiny.first_layer(ElectraForPreTraining, whole, 73), variants / "discriminator")
    generator = tiny.first_layer(ElectraForMaskedLM, whole, 73)
    tiny.save(generator, variants / "generator")
    tiny.save_pickle(generator, variants / "generator_old", generator.state_dict())
    tiny.save(tiny.first_layer(ElectraForTokenClassification, whole, 73, tiny.TAGS), variants / "token_classification")
    tiny.save(tiny.first_layer(ElectraForQuestionAnswering, whole, 73), variants / "question_answering")
    tiny.save(tiny.first_layer(ElectraForMultipleChoice, whole, 73), variants / "multiple_choice")


def main() -> None:
    fix_numerics()
    tiny.clean(HERE, "model", "variants", "adapter")
    tokenizer = AutoTokenizer.from_pretrained(TINY_BERT)
    config = ElectraConfig(vocab_size=len(tokenizer), embedding_size=24, hidden_size=32, num_hidden_layers=2, num_attention_heads=4,
                           intermediate_size=37, max_position_embeddings=tiny.LONGEST, **tiny.label_names(tiny.LABELS))
    whole = ElectraForSequenceClassification(config)
    tiny.randomise(whole, seed=70)
    tiny.save(whole, HERE / "model")
    tokenizer.model_max_length = tiny.LONGEST
    tokenizer.save_pretrained(HERE / "model")
    write_variants(whole)

    cases = tiny.draw_cases(len(tokenizer), tokenizer.cls_token_id, tokenizer.sep_token_id, 5, seed=71)
    tiny.draw_types(cases, seed=71)
    labels = torch.tensor([index % 3 for index in range(len(cases))])
    tiny.write_family(HERE, ElectraForSequenceClassification, cases, labels, whole_variants=["gamma_beta"], batch_seed=72, adapter_seed=74)


if __name__ == "__main__":
    main()
