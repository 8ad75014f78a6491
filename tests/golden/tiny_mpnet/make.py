"""A tiny MPNet: states, logits, gradients, 20 training steps, and the ways its checkpoints are stored.

Width 32, 2 layers, 4 heads, intermediate 37, 32 positions of which the first two are never used, a bias for each of 32 buckets of
distances, of which texts of 30 tokens meet those beyond single distances too, BERT's word pieces between RoBERTa's special tokens, 3
labels; random weights. The variants keep the embeddings and the first layer, so that their last hidden state is `hidden_states.1`:

    base                  MPNetModel with its pooler, which no MPNet classifier reads: no `mpnet.` in the names
    no_pooler             the same without a pooler
    masked_lm             MPNetForMaskedLM
    masked_lm_old         the same in pytorch_model.bin, with a pooler, `position_ids` and the tied `lm_head.decoder`
    token_classification  MPNetForTokenClassification with five tags
    question_answering    MPNetForQuestionAnswering

Command:  python3 tests/golden/tiny_mpnet/make.py
Versions: Python 3.11, torch 2.15.0, transformers 5.24.0, tokenizers 0.23.3, safetensors 0.8.0, peft 0.21.2
Seed:     120 (weights), 121 (token ids), 122 (order of batches), 123 (heads of the variants), 124 (adapter)
Writes:   model/, variants/<name>/, adapter/ and adapter.json (PEFT: r 4, alpha 8, on attention), expected.json (token ids, labels, logits; what transformers initialises and ignores of each
          variant), states.safetensors (hidden states, the cases laid end to end), gradients.safetensors (of the mean loss of
          all cases), training.json. Everything expected is computed in float64.
"""

import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))
import tiny
from common import fix_numerics

import torch
from transformers import (MPNetConfig, MPNetForMaskedLM, MPNetForQuestionAnswering, MPNetForSequenceClassification,
                          MPNetForTokenClassification, MPNetModel, MPNetTokenizer)

WORDS = ("the a an is was to of and in it i my not no how what why can do please card order refund cancel lost late good bad great "
         "broken money back help want where number account password change thanks day").split()
ENDINGS = ["##ed", "##ing", "##able", "##er", "##ly"]


def make_tokenizer() -> MPNetTokenizer:
    letters = [chr(code) for code in range(33, 127) if not chr(code).isupper()]
    pieces = [f"##{letter}" for letter in letters if letter.isalnum()]
    words = [word for word in WORDS if word not in letters]
    vocabulary = ["<s>", "<pad>", "</s>", "<unk>", "[UNK]", *letters, "\u4e2d", *words, *pieces, *ENDINGS, "<mask>"]
    return MPNetTokenizer(vocab={token: index for index, token in enumerate(vocabulary)}, model_max_length=tiny.LONGEST)


def write_variants(whole: MPNetForSequenceClassification) -> None:
    variants = HERE / "variants"
    with_pooler = tiny.first_layer(MPNetModel, whole, 123)
    tiny.save(with_pooler, variants / "base")
    tiny.save(tiny.first_layer(MPNetModel, whole, 123, add_pooling_layer=False), variants / "no_pooler")
    masked_lm = tiny.first_layer(MPNetForMaskedLM, whole, 123)
    tiny.save(masked_lm, variants / "masked_lm")
    pooler = {f"mpnet.{name}": tensor for name, tensor in with_pooler.state_dict().items() if name.startswith("pooler.")}
    positions = {"mpnet.embeddings.position_ids": torch.arange(tiny.LONGEST + 2)[None]}
    tiny.save_pickle(masked_lm, variants / "masked_lm_old", {**masked_lm.state_dict(), **pooler, **positions})
    tiny.save(tiny.first_layer(MPNetForTokenClassification, whole, 123, tiny.TAGS), variants / "token_classification")
    tiny.save(tiny.first_layer(MPNetForQuestionAnswering, whole, 123), variants / "question_answering")


def main() -> None:
    fix_numerics()
    tiny.clean(HERE, "model", "variants", "adapter")
    tokenizer = make_tokenizer()
    config = MPNetConfig(vocab_size=len(tokenizer), hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=37,
                         max_position_embeddings=tiny.LONGEST + 2, layer_norm_eps=1e-5, **tiny.label_names(tiny.LABELS))
    whole = MPNetForSequenceClassification(config)
    tiny.randomise(whole, seed=120)
    tiny.save(whole, HERE / "model")
    tokenizer.save_pretrained(HERE / "model")
    write_variants(whole)

    # The last token is <mask>.
    cases = tiny.draw_cases(len(tokenizer) - 1, tokenizer.cls_token_id, tokenizer.sep_token_id, 5, seed=121)
    labels = torch.tensor([index % 3 for index in range(len(cases))])
    tiny.write_family(HERE, MPNetForSequenceClassification, cases, labels, whole_variants=[], batch_seed=122)
    tiny.write_adapter(HERE, MPNetForSequenceClassification, cases, ["q", "k", "v", "o"], ["classifier"], seed=124)


if __name__ == "__main__":
    main()
