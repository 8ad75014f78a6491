"""A tiny RoBERTa: states, logits, gradients, 20 training steps, and the ways its checkpoints are stored.

Width 32, 2 layers, 4 heads, intermediate 37, 32 positions of which the first two are never used (positions start at the
padding index 1 plus 1), one token type, a byte-level tokenizer of fewer than 200 tokens, 3 labels; random weights.
The variant `gamma_beta` holds the whole classifier; the others keep its embeddings and first layer, so that their last
hidden state is `hidden_states.1`:

    gamma_beta            LayerNorm.gamma and .beta, and a `position_ids` buffer to ignore
    base                  RobertaModel with its pooler, which no RoBERTa classifier reads: no `roberta.` in the names
    no_pooler             the same without a pooler
    masked_lm             RobertaForMaskedLM
    masked_lm_old         the same in pytorch_model.bin, with a pooler, `position_ids` and the tied `lm_head.decoder`
    token_classification  RobertaForTokenClassification with five tags
    question_answering    RobertaForQuestionAnswering

Command:  python3 tests/golden/tiny_roberta/make.py
Versions: Python 3.11, torch 2.15.0, transformers 5.24.0, tokenizers 0.23.3, safetensors 0.8.0
Seed:     20 (weights), 21 (token ids), 22 (order of batches), 23 (heads of the variants)
Writes:   model/, variants/<name>/, expected.json (token ids, labels, logits; what transformers initialises and ignores of each
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
from safetensors.torch import save_file
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import (RobertaConfig, RobertaForMaskedLM, RobertaForQuestionAnswering, RobertaForSequenceClassification,
                          RobertaForTokenClassification, RobertaModel, RobertaTokenizer)

# Text to learn the merges of; every printable ASCII character has a token anyway.
TEXTS = ["I lost my card and want my money back", "Thanks, what a great day!", "How do I change the password of my account?",
         "The order was late, it is broken and I want a refund.", "Where is the number of the account? It's not good.",
         "Please help: can you cancel the order and refund the money?", "caf\u00e9 \u4e2d \u00df"]


def make_tokenizer() -> RobertaTokenizer:
    learned = Tokenizer(models.BPE())
    learned.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    ascii_characters = [chr(code) for code in range(33, 127)]
    learned.train_from_iterator(TEXTS, trainers.BpeTrainer(vocab_size=180, initial_alphabet=ascii_characters, show_progress=False))
    tokens = sorted(learned.get_vocab(), key=learned.get_vocab().get)
    vocabulary = ["<s>", "<pad>", "</s>", "<unk>", *tokens, "<mask>"]
    merges = [tuple(pair) for pair in json.loads(learned.to_str())["model"]["merges"]]
    return RobertaTokenizer(vocab={token: index for index, token in enumerate(vocabulary)}, merges=merges, model_max_length=tiny.LONGEST)


def write_variants(whole: RobertaForSequenceClassification) -> None:
    variants = HERE / "variants"
    (variants / "gamma_beta").mkdir(parents=True)
    whole.config.save_pretrained(variants / "gamma_beta")
    positions = {"roberta.embeddings.position_ids": torch.arange(tiny.LONGEST + 2)[None]}
    save_file({**tiny.old_names(whole.state_dict()), **positions}, variants / "gamma_beta" / "model.safetensors", {"format": "pt"})
    with_pooler = tiny.first_layer(RobertaModel, whole, 23)
    tiny.save(with_pooler, variants / "base")
    tiny.save(tiny.first_layer(RobertaModel, whole, 23, add_pooling_layer=False), variants / "no_pooler")
    masked_lm = tiny.first_layer(RobertaForMaskedLM, whole, 23)
    tiny.save(masked_lm, variants / "masked_lm")
    pooler = {f"roberta.{name}": tensor for name, tensor in with_pooler.state_dict().items() if name.startswith("pooler.")}
    tiny.save_pickle(masked_lm, variants / "masked_lm_old", {**masked_lm.state_dict(), **pooler, **positions})
    tiny.save(tiny.first_layer(RobertaForTokenClassification, whole, 23, tiny.TAGS), variants / "token_classification")
    tiny.save(tiny.first_layer(RobertaForQuestionAnswering, whole, 23), variants / "question_answering")


def main() -> None:
    fix_numerics()
    tiny.clean(HERE, "model", "variants")
    tokenizer = make_tokenizer()
    config = RobertaConfig(vocab_size=len(tokenizer), hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=37,
                           max_position_embeddings=tiny.LONGEST + 2, type_vocab_size=1, layer_norm_eps=1e-5, **tiny.label_names(tiny.LABELS))
    whole = RobertaForSequenceClassification(config)
    tiny.randomise(whole, seed=20)
    tiny.save(whole, HERE / "model")
    tokenizer.save_pretrained(HERE / "model")
    write_variants(whole)

    # The last token is <mask>.
    cases = tiny.draw_cases(len(tokenizer) - 1, tokenizer.cls_token_id, tokenizer.sep_token_id, 4, seed=21)
    labels = torch.tensor([index % 3 for index in range(len(cases))])
    tiny.write_family(HERE, RobertaForSequenceClassification, cases, labels, whole_variants=["gamma_beta"], batch_seed=22)


if __name__ == "__main__":
    main()
