"""A tiny XLM-RoBERTa: RoBERTa's modules and names under another `model_type`, with a SentencePiece (Unigram) tokenizer.

Width 32, 2 layers, 4 heads, intermediate 37, 32 positions of which the first two are never used (positions start at the
padding index 1 plus 1), one token type, 3 labels; random weights. The variants keep the embeddings and the first layer, so
that their last hidden state is `hidden_states.1`:

    base       XLMRobertaModel with its pooler, which no classifier reads: no `roberta.` in the names
    masked_lm  XLMRobertaForMaskedLM

Command:  python3 tests/golden/tiny_xlm_roberta/make.py
Versions: Python 3.11, torch 2.15.0, transformers 5.24.0, safetensors 0.8.0
Seed:     30 (weights), 31 (token ids), 32 (order of batches), 33 (heads of the variants)
Writes:   model/, variants/<name>/, expected.json (token ids, labels, logits; what transformers initialises and ignores of each
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
from transformers import (XLMRobertaConfig, XLMRobertaForMaskedLM, XLMRobertaForSequenceClassification, XLMRobertaModel,
                          XLMRobertaTokenizer)

WORDS = ("the a an is was to of and in it i my not no how what why can do please card order refund cancel lost late good bad great "
         "broken money back help want where number account password change thanks day").split()
CHARACTERS = "abcdefghijklmnopqrstuvwxyzIMTHWP.,!?'-0123456789\u00e9\u4e2d\u00df"


def make_tokenizer() -> XLMRobertaTokenizer:
    # Log probabilities of a made-up kind: words are likelier than their letters.
    pieces = [(f"\u2581{word}", -3.0 - 0.05 * index) for index, word in enumerate(WORDS)]
    pieces += [("\u2581", -4.0)] + [(character, -7.0 - 0.05 * index) for index, character in enumerate(CHARACTERS)]
    specials = [("<s>", 0.0), ("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0)]
    return XLMRobertaTokenizer(vocab=[*specials, *pieces, ("<mask>", 0.0)], model_max_length=tiny.LONGEST)


def main() -> None:
    fix_numerics()
    tiny.clean(HERE, "model", "variants")
    tokenizer = make_tokenizer()
    config = XLMRobertaConfig(vocab_size=len(tokenizer), hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=37,
                              max_position_embeddings=tiny.LONGEST + 2, type_vocab_size=1, layer_norm_eps=1e-5, **tiny.label_names(tiny.LABELS))
    whole = XLMRobertaForSequenceClassification(config)
    tiny.randomise(whole, seed=30)
    tiny.save(whole, HERE / "model")
    tokenizer.save_pretrained(HERE / "model")
    tiny.save(tiny.first_layer(XLMRobertaModel, whole, 33), HERE / "variants" / "base")
    tiny.save(tiny.first_layer(XLMRobertaForMaskedLM, whole, 33), HERE / "variants" / "masked_lm")

    # The last token is <mask>.
    cases = tiny.draw_cases(len(tokenizer) - 1, tokenizer.cls_token_id, tokenizer.sep_token_id, 4, seed=31)
    labels = torch.tensor([index % 3 for index in range(len(cases))])
    tiny.write_family(HERE, XLMRobertaForSequenceClassification, cases, labels, whole_variants=[], batch_seed=32)


if __name__ == "__main__":
    main()
