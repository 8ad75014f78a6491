"""A tiny ModernBERT: states, logits, gradients, 20 training steps, and the ways its checkpoints are stored.

Width 32, 3 layers of which the second sees a window of 8 tokens (4 on each side), 4 heads, intermediate 37 (74 with the gate), 30
positions, a byte-level tokenizer that saw a handful of sentences, 3 labels; random weights. The variant `old_config` holds the whole
classifier, `mean`, `local_last` and `biased` hold others; the rest keep its embeddings and first layer, so that their last hidden state is
`hidden_states.1` behind the last norm:

    old_config            config.json with the keys of transformers 4: `global_attn_every_n_layers`, `global_rope_theta`, `local_rope_theta`
    base                  ModernBertModel: no `model.` in the names
    masked_lm             ModernBertForMaskedLM, whose `head` is the classifier's too
    token_classification  ModernBertForTokenClassification with five tags
    question_answering    ModernBertForQuestionAnswering
    mean                  the head reads the mean of all tokens; other activations
    local_last            2 layers: the last one has the window
    biased                1 layer, with biases wherever the configuration can have them

Command:  python3 tests/golden/tiny_modernbert/make.py
Versions: Python 3.11, torch 2.15.0, transformers 5.24.0, peft 0.21.2, tokenizers 0.23.3, safetensors 0.8.0
Seed:     80 (weights), 81 (token ids), 82 (order of batches), 83 (heads of the variants), 84 (adapter)
Writes:   model/, variants/<name>/, adapter/ (PEFT: r 4, alpha 8, Wqkv), expected.json (token ids, labels, logits, with the adapter too;
          what transformers initialises and ignores of each variant, and the logits of those that are whole), states.safetensors (hidden
          states, the cases laid end to end), gradients.safetensors (of the mean loss of all cases), training.json. Everything expected is
          computed in float64.
"""

import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))
import tiny
from common import fix_numerics

import json

import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import (ModernBertConfig, ModernBertForMaskedLM, ModernBertForQuestionAnswering, ModernBertForSequenceClassification,
                          ModernBertForTokenClassification, ModernBertModel, PreTrainedTokenizerFast)

# Text to learn the merges of; every printable ASCII character has a token anyway.
TEXTS = ["The parcel has not arrived and nobody answers the phone", "Lovely service, thank you so much!", "Which size do I need for a child of six?",
         "It's broken again, please send someone.", "Can I pay in two parts?", "We waited an hour   and left", "na\u00efve \u4e2d \u00e9 \u00df \u00f1 \U0001f600",
         "please refund the card that I lost, I want the money back", "help me change the password of the account, thanks, what a great day",
         "cancelled two refundable spaces, moneyback 0.5 % of -3,000 in a cafe",
         "not now , never ! no , nothing . nice , not naive ! now . no help !"]
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]


def make_tokenizer() -> PreTrainedTokenizerFast:
    """As ModernBERT's: bytes behind NFC, runs of spaces as tokens of their own, a mask that takes the space before it."""
    learned = Tokenizer(models.BPE())
    learned.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    ascii_characters = [chr(code) for code in range(33, 127)]
    learned.train_from_iterator(TEXTS, trainers.BpeTrainer(vocab_size=260, initial_alphabet=ascii_characters, show_progress=False))
    tokens = sorted(learned.get_vocab(), key=learned.get_vocab().get)
    vocabulary = {token: index for index, token in enumerate([*SPECIAL, *tokens])}
    merges = [tuple(pair) for pair in json.loads(learned.to_str())["model"]["merges"]]
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=merges))
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(token, normalized=False) for token in SPECIAL])
    tokenizer.add_tokens([AddedToken(" " * count, normalized=True) for count in (2, 3)])
    tokenizer.add_special_tokens([AddedToken("[MASK]", lstrip=True, normalized=False)])
    ends = [(token, tokenizer.token_to_id(token)) for token in ("[CLS]", "[SEP]")]
    tokenizer.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B [SEP]", special_tokens=ends)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]",
                                   mask_token="[MASK]", model_max_length=tiny.LONGEST, model_input_names=["input_ids", "attention_mask"])


def configuration(tokenizer: PreTrainedTokenizerFast, **others) -> ModernBertConfig:
    first, last = tokenizer.cls_token_id, tokenizer.sep_token_id
    settings = {"num_hidden_layers": 3, "global_attn_every_n_layers": 2, "classifier_pooling": "cls", **others}
    return ModernBertConfig(vocab_size=len(tokenizer), hidden_size=32, intermediate_size=37, num_attention_heads=4, local_attention=8,
                            max_position_embeddings=tiny.LONGEST, pad_token_id=tokenizer.pad_token_id, bos_token_id=first, cls_token_id=first,
                            eos_token_id=last, sep_token_id=last, **settings, **tiny.label_names(tiny.LABELS))


def write_variants(whole: ModernBertForSequenceClassification, tokenizer: PreTrainedTokenizerFast) -> None:
    variants = HERE / "variants"
    tiny.save(whole, variants / "old_config")
    path = variants / "old_config" / "config.json"
    config = json.loads(path.read_text())
    rope = config.pop("rope_parameters")
    assert [kind == "full_attention" for kind in config.pop("layer_types")] == [True, False, True]
    path.write_text(json.dumps({**config, "global_attn_every_n_layers": 2, "global_rope_theta": rope["full_attention"]["rope_theta"],
                                "local_rope_theta": rope["sliding_attention"]["rope_theta"]}, indent=2, sort_keys=True) + "\n")
    tiny.save(tiny.first_layer(ModernBertModel, whole, 83), variants / "base")
    tiny.save(tiny.first_layer(ModernBertForMaskedLM, whole, 83), variants / "masked_lm")
    tiny.save(tiny.first_layer(ModernBertForTokenClassification, whole, 83, tiny.TAGS), variants / "token_classification")
    tiny.save(tiny.first_layer(ModernBertForQuestionAnswering, whole, 83), variants / "question_answering")
    for name, settings in {
        "mean": {"classifier_pooling": "mean", "hidden_activation": "silu", "classifier_activation": "relu"},
        "local_last": {"num_hidden_layers": 2},
        "biased": {"norm_bias": True, "attention_bias": True, "mlp_bias": True, "classifier_bias": True, "num_hidden_layers": 1},
    }.items():
        model = ModernBertForSequenceClassification(configuration(tokenizer, **settings))
        tiny.randomise(model, seed=83)
        tiny.save(model, variants / name)


def main() -> None:
    fix_numerics()
    tiny.clean(HERE, "model", "variants", "adapter")
    tokenizer = make_tokenizer()
    # Other bases of the angles than the defaults, so that neither is taken for granted.
    whole = ModernBertForSequenceClassification(configuration(tokenizer, global_rope_theta=900.0, local_rope_theta=70.0))
    tiny.randomise(whole, seed=80)
    tiny.save(whole, HERE / "model")
    tokenizer.save_pretrained(HERE / "model")
    write_variants(whole, tokenizer)

    cases = tiny.draw_cases(len(tokenizer) - 3, tokenizer.cls_token_id, tokenizer.sep_token_id, 4, seed=81)
    labels = torch.tensor([index % 3 for index in range(len(cases))])
    tiny.write_family(HERE, ModernBertForSequenceClassification, cases, labels, whole_variants=["old_config"], batch_seed=82, adapter_seed=84,
                      adapter_targets=["Wqkv"], other_variants=["mean", "local_last", "biased"], last_norm="final_norm")


if __name__ == "__main__":
    main()
