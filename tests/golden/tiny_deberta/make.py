"""A tiny DeBERTa-v3: states, logits, gradients, 20 training steps, and the ways its checkpoints are stored.

Width 32, 2 layers, 4 heads, intermediate 37, 30 positions, the settings of the v3 models with 8 buckets of distances on either side, which
are logarithmic from the fifth on: texts of 30 tokens meet them all. A SentencePiece (Unigram) tokenizer, 3 labels; random weights. The
variants keep the embeddings and the first layer, so that their last hidden state is `hidden_states.1`:

    base                  DebertaV2Model: no `deberta.` in the names
    masked_lm             DebertaV2ForMaskedLM
    pretrained_old        as the v3 models were published: pytorch_model.bin of another program with the heads `lm_predictions` and
                          `mask_predictions` and a `position_ids`, in config.json `p2c|c2p` and no architectures
    token_classification  DebertaV2ForTokenClassification with five tags
    question_answering    DebertaV2ForQuestionAnswering

Command:  python3 tests/golden/tiny_deberta/make.py
Versions: Python 3.11, torch 2.15.0, transformers 5.24.0, safetensors 0.8.0, peft 0.21.2
Seed:     130 (weights), 131 (token ids), 132 (order of batches), 133 (heads of the variants), 134 (adapter)
Writes:   model/, variants/<name>/, adapter/ and adapter.json (PEFT: r 4, alpha 8, on attention), expected.json (token ids, labels, logits; what transformers initialises and ignores of each
          variant), states.safetensors (hidden states, the cases laid end to end), gradients.safetensors (of the mean loss of
          all cases), training.json. Everything expected is computed in float64.
"""

import json
import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))
import tiny
from common import fix_numerics

import torch
from transformers import (DebertaV2Config, DebertaV2ForMaskedLM, DebertaV2ForQuestionAnswering, DebertaV2ForSequenceClassification,
                          DebertaV2ForTokenClassification, DebertaV2Model, DebertaV2Tokenizer)

WORDS = ("the a an is was to of and in it i my not no how what why can do please card order refund cancel lost late good bad great "
         "broken money back help want where number account password change thanks day").split()
CHARACTERS = "abcdefghijklmnopqrstuvwxyzIMTHWP.,!?'-0123456789\u00e9\u4e2d\u00df"
# What the v3 models have in their config.json.
V3 = {"relative_attention": True, "position_buckets": 8, "norm_rel_ebd": "layer_norm", "share_att_key": True, "pos_att_type": ["p2c", "c2p"],
      "position_biased_input": False, "max_relative_positions": -1, "type_vocab_size": 0, "layer_norm_eps": 1e-7, "pooler_dropout": 0,
      "pooler_hidden_act": "gelu"}


def make_tokenizer() -> DebertaV2Tokenizer:
    # Log probabilities of a made-up kind: words are likelier than their letters.
    pieces = [(f"\u2581{word}", -3.0 - 0.05 * index) for index, word in enumerate(WORDS)]
    pieces += [("\u2581", -4.0)] + [(character, -7.0 - 0.05 * index) for index, character in enumerate(CHARACTERS)]
    specials = [("[PAD]", 0.0), ("[CLS]", 0.0), ("[SEP]", 0.0), ("[UNK]", 0.0)]
    return DebertaV2Tokenizer(vocab=[*specials, *pieces, ("[MASK]", 0.0)], model_max_length=tiny.LONGEST)


def write_variants(whole: DebertaV2ForSequenceClassification) -> None:
    variants = HERE / "variants"
    tiny.save(tiny.first_layer(DebertaV2Model, whole, 133), variants / "base")
    masked_lm = tiny.first_layer(DebertaV2ForMaskedLM, whole, 133)
    tiny.save(masked_lm, variants / "masked_lm")
    backbone = {name: tensor for name, tensor in masked_lm.state_dict().items() if name.startswith("deberta.")}
    width, words = whole.config.hidden_size, whole.config.vocab_size
    heads = {f"{head}.{name}": torch.zeros(shape) for head, shapes in {
        "lm_predictions.lm_head": {"bias": words, "dense.weight": (width, width), "dense.bias": width, "LayerNorm.weight": width, "LayerNorm.bias": width},
        "mask_predictions": {"dense.weight": (width, width), "dense.bias": width, "LayerNorm.weight": width, "LayerNorm.bias": width,
                             "classifier.weight": (1, width), "classifier.bias": 1},
    }.items() for name, shape in shapes.items()}
    positions = {"deberta.embeddings.position_ids": torch.arange(tiny.LONGEST)[None]}
    tiny.save_pickle(masked_lm, variants / "pretrained_old", {**backbone, **heads, **positions})
    path = variants / "pretrained_old" / "config.json"
    config = json.loads(path.read_text())
    config["pos_att_type"] = "p2c|c2p"
    del config["architectures"]
    path.write_text(json.dumps(config, indent=2) + "\n")
    tiny.save(tiny.first_layer(DebertaV2ForTokenClassification, whole, 133, tiny.TAGS), variants / "token_classification")
    tiny.save(tiny.first_layer(DebertaV2ForQuestionAnswering, whole, 133), variants / "question_answering")


def main() -> None:
    fix_numerics()
    tiny.clean(HERE, "model", "variants", "adapter")
    tokenizer = make_tokenizer()
    config = DebertaV2Config(vocab_size=len(tokenizer), hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=37,
                             max_position_embeddings=tiny.LONGEST, **V3, **tiny.label_names(tiny.LABELS))
    whole = DebertaV2ForSequenceClassification(config)
    tiny.randomise(whole, seed=130)
    tiny.save(whole, HERE / "model")
    tokenizer.save_pretrained(HERE / "model")
    write_variants(whole)

    # The last token is [MASK].
    cases = tiny.draw_cases(len(tokenizer) - 1, tokenizer.cls_token_id, tokenizer.sep_token_id, 4, seed=131)
    labels = torch.tensor([index % 3 for index in range(len(cases))])
    tiny.write_family(HERE, DebertaV2ForSequenceClassification, cases, labels, whole_variants=[], batch_seed=132)
    tiny.write_adapter(HERE, DebertaV2ForSequenceClassification, cases, ["query_proj", "key_proj", "value_proj", "attention.output.dense"], ["pooler", "classifier"], seed=134)


if __name__ == "__main__":
    main()
