"""The tiny BERT's embeddings and first layer, saved from the models that other work leaves behind.

Their last hidden state is `hidden_states` 1 of tiny_bert/expected.json; their own heads are random:

    pretraining           BertForPreTraining: pooler, `cls.predictions` and `cls.seq_relationship`
    pretraining_old       the same in pytorch_model.bin: LayerNorm.gamma and .beta, `position_ids` and the tied `cls.predictions.decoder`
    masked_lm             BertForMaskedLM: no pooler
    token_classification  BertForTokenClassification with five tags: no pooler, and a `classifier` of tokens
    question_answering    BertForQuestionAnswering: no pooler

Command:  python3 tests/golden/tiny_bert_variants/make.py (after tiny_bert/make.py)
Versions: Python 3.11, torch 2.15.0, transformers 5.24.0, safetensors 0.8.0
Seed:     40 (heads)
Writes:   variants/<name>/, expected.json (what transformers initialises and ignores of each as BertForSequenceClassification)
"""

import json
import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))
import tiny
from common import fix_numerics, versions, write_json

import torch
from transformers import (BertForMaskedLM, BertForPreTraining, BertForQuestionAnswering, BertForSequenceClassification,
                          BertForTokenClassification)

TINY_BERT = HERE.parent / "tiny_bert"


def main() -> None:
    fix_numerics()
    tiny.clean(HERE, "variants")
    variants = HERE / "variants"
    whole = BertForSequenceClassification.from_pretrained(TINY_BERT / "model")
    pretraining = tiny.first_layer(BertForPreTraining, whole, 40)
    tiny.save(pretraining, variants / "pretraining")
    old = {**tiny.old_names(pretraining.state_dict()), "bert.embeddings.position_ids": torch.arange(whole.config.max_position_embeddings)[None]}
    tiny.save_pickle(pretraining, variants / "pretraining_old", old)
    tiny.save(tiny.first_layer(BertForMaskedLM, whole, 40), variants / "masked_lm")
    tiny.save(tiny.first_layer(BertForTokenClassification, whole, 40, tiny.TAGS), variants / "token_classification")
    tiny.save(tiny.first_layer(BertForQuestionAnswering, whole, 40), variants / "question_answering")

    cases = json.loads((TINY_BERT / "expected.json").read_text())["cases"]
    state = tiny.hidden_states(tiny.reference(BertForSequenceClassification, TINY_BERT / "model"), cases)[1]
    stored = torch.tensor([row for case in cases for row in case["hidden_states"][1]], dtype=torch.float64)
    torch.testing.assert_close(stored, state, atol=1e-5, rtol=0)
    expected = {directory.name: tiny.read_as_classifier(BertForSequenceClassification, directory, cases, state)
                for directory in sorted(variants.iterdir())}
    write_json(HERE / "expected.json", {"versions": versions(), "variants": expected})


if __name__ == "__main__":
    main()
