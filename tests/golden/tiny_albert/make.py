"""A tiny ALBERT: states, logits, gradients, 20 training steps, and the ways its checkpoints are stored.

Embeddings of width 24 projected to 32, one layer that is applied 3 times, 4 heads, intermediate 37, 30 learned positions, two token types, a
SentencePiece (Unigram) tokenizer of fewer than 150 pieces, 3 labels; random weights. The variant `gamma_beta` holds the whole
classifier, `groups` holds another; the rest keep the embeddings and apply the layer once, so that their last hidden state is `hidden_states.1`:

    gamma_beta            LayerNorm.gamma and .beta, and a `position_ids` buffer to ignore
    base                  AlbertModel with its pooler: no `albert.` in the names
    pretraining           AlbertForPreTraining
    masked_lm             AlbertForMaskedLM, without a pooler
    masked_lm_old         the same in pytorch_model.bin, with the tied `predictions.decoder`
    token_classification  AlbertForTokenClassification with five tags
    question_answering    AlbertForQuestionAnswering
    groups                two layers, each applied twice in a row; embeddings as wide as the layers, which are projected all the same

Command:  python3 tests/golden/tiny_albert/make.py
Versions: Python 3.11, torch 2.15.0, transformers 5.24.0, peft 0.21.2, tokenizers 0.23.3, safetensors 0.8.0
Seed:     90 (weights), 91 (token ids and types), 92 (order of batches), 93 (heads of the variants), 94 (adapter)
Writes:   model/, variants/<name>/, adapter/ (PEFT: r 4, alpha 8, query and value), expected.json (token ids, labels, logits, with the adapter
          too; what transformers initialises and ignores of each variant, and the logits of `groups`), states.safetensors (hidden states, the
          cases laid end to end), gradients.safetensors (of the mean loss of all cases), training.json. Everything expected is computed in
          float64.
"""

import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))
import tiny
from common import fix_numerics

import torch
from safetensors.torch import save_file
from transformers import (AlbertConfig, AlbertForMaskedLM, AlbertForPreTraining, AlbertForQuestionAnswering, AlbertForSequenceClassification,
                          AlbertForTokenClassification, AlbertModel, AlbertTokenizer)

WORDS = ("the a an is was to of and in it i my not no how what why can do please card order refund cancel lost late good bad great "
         "broken money back help want where number account password change thanks day").split()
CHARACTERS = "abcdefghijklmnopqrstuvwxyz.,!?'-0123456789\u4e2d\u00df\""


def make_tokenizer() -> AlbertTokenizer:
    # Log probabilities of a made-up kind: words are likelier than their letters.
    pieces = [(f"\u2581{word}", -3.0 - 0.05 * index) for index, word in enumerate(WORDS)]
    pieces += [("\u2581", -4.0)] + [(character, -7.0 - 0.05 * index) for index, character in enumerate(CHARACTERS)]
    specials = [("<pad>", 0.0), ("<unk>", 0.0), ("[CLS]", 0.0), ("[SEP]", 0.0), ("[MASK]", 0.0)]
    return AlbertTokenizer(vocab=[*specials, *pieces], model_max_length=tiny.LONGEST)


def configuration(tokenizer: AlbertTokenizer, **others) -> AlbertConfig:
    settings = {"embedding_size": 24, "num_hidden_layers": 3, "num_hidden_groups": 1, **others}
    return AlbertConfig(vocab_size=len(tokenizer), hidden_size=32, num_attention_heads=4, intermediate_size=37,
                        max_position_embeddings=tiny.LONGEST, **settings, **tiny.label_names(tiny.LABELS))


def write_variants(whole: AlbertForSequenceClassification, tokenizer: AlbertTokenizer) -> None:
    variants = HERE / "variants"
    (variants / "gamma_beta").mkdir(parents=True)
    whole.config.save_pretrained(variants / "gamma_beta")
    positions = {"albert.embeddings.position_ids": torch.arange(tiny.LONGEST)[None]}
    save_file({**tiny.old_names(whole.state_dict()), **positions}, variants / "gamma_beta" / "model.safetensors", {"format": "pt"})
    tiny.save(tiny.first_layer(AlbertModel, whole, 93), variants / "base")
    tiny.save(tiny.first_layer(AlbertForPreTraining, whole, 93), variants / "pretraining")
    masked_lm = tiny.first_layer(AlbertForMaskedLM, whole, 93)
    tiny.save(masked_lm, variants / "masked_lm")
    tiny.save_pickle(masked_lm, variants / "masked_lm_old", masked_lm.state_dict())
    tiny.save(tiny.first_layer(AlbertForTokenClassification, whole, 93, tiny.TAGS), variants / "token_classification")
    tiny.save(tiny.first_layer(AlbertForQuestionAnswering, whole, 93), variants / "question_answering")
    groups = AlbertForSequenceClassification(configuration(tokenizer, embedding_size=32, num_hidden_layers=4, num_hidden_groups=2))
    tiny.randomise(groups, seed=93)
    tiny.save(groups, variants / "groups")


def main() -> None:
    fix_numerics()
    tiny.clean(HERE, "model", "variants", "adapter")
    tokenizer = make_tokenizer()
    whole = AlbertForSequenceClassification(configuration(tokenizer))
    tiny.randomise(whole, seed=90)
    tiny.save(whole, HERE / "model")
    tokenizer.save_pretrained(HERE / "model")
    write_variants(whole, tokenizer)

    cases = tiny.draw_cases(len(tokenizer), tokenizer.cls_token_id, tokenizer.sep_token_id, 5, seed=91)
    tiny.draw_types(cases, seed=91)
    labels = torch.tensor([index % 3 for index in range(len(cases))])
    tiny.write_family(HERE, AlbertForSequenceClassification, cases, labels, whole_variants=["gamma_beta"], batch_seed=92, adapter_seed=94,
                      adapter_targets=["query", "value"], other_variants=["groups"])


if __name__ == "__main__":
    main()
