"""Makes the toy tokenizers beside this file and, with transformers, the ids they must give.

    python make.py        # transformers 5.23.0, tokenizers 0.23.3

Every directory `<name>/` is a model directory as `AutoTokenizer.from_pretrained` reads it; `cases.json` lists, for
each directory, text, pair and max_length the ids and token types of
`tokenizer(text, pair, truncation=True, max_length=max_length)`, and the length before truncation.
"""

import json
import shutil
from pathlib import Path

import tokenizers
import transformers
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import AutoTokenizer

HERE = Path(__file__).resolve().parent

CORPUS = [
    "the quick brown fox jumps over the lazy dog",
    "Play some music, please! I can't hear it.",
    "what is the weather in Paris today?",
    "cancel my order 12345 and refund the money",
    "a gripping, unsentimental film that never lets go",
]
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]

SINGLES = [
    "the quick brown fox",
    "The QUICK brown Fox jumps over the lazy dog and what is the weather in paris today",
    "Café déjà-vu ÜBER naïve Ångström",
    "e\u0301 is not \u00e9",
    "\u4e2d\u6587 mixed 日本語 한국어 text",
    "emoji 😀👩‍👩‍👧 and 🇫🇷 flags",
    "control\x00\x01\x07\ttab\nnewline\r\u200bzero\u00a0nbsp\ufeffbom\ufffd",
    "[CLS] literal [SEP] special [MASK] tokens [PAD]",
    "can't won't it's -- e.g. 3.14 1,000 $5 #tag @user http://a.b/c?d=e",
    "supercalifragilisticexpialidocious" * 4,
    "x" * 99 + " " + "y" * 101,
    "مرحبا بالعالم שלום Привет Ελλάδα",
    "  leading and   inner   spaces  ",
    "ﬁne ligatures ½ ① ㎏ Ⅷ",
    "İstanbul ıssız ẞ straße",
    " ",
    ".",
]
PAIRS = [
    ("the quick brown fox", "jumps over the lazy dog"),
    ("the quick brown fox jumps over the lazy dog and refund the money", "music"),
    ("music", "the quick brown fox jumps over the lazy dog and refund the money"),
    ("what is the weather in paris today what is the weather", "cancel my order 12345 and refund the money please"),
    ("a", "b"),
    ("Café", "日本語 😀"),
]


def wordpiece_vocab():
    letters = [chr(c) for c in range(ord("!"), ord("~") + 1)]
    words = sorted({w.strip(",.!?").lower() for line in CORPUS for w in line.split()} | {"The", "Fox", "cafe", "café"})
    rest = ["##" + c for c in "abcdefghijklmnopqrstuvwxyzABCDEFGHIJ0123456789"] + ["##ing", "##ck", "中", "日", "é", "##é"]
    return SPECIAL + letters + [w for w in words if w not in letters] + rest


def write(folder, name, value):
    text = value if isinstance(value, str) else json.dumps(value, indent=1, ensure_ascii=False)
    (folder / name).write_text(text, encoding="utf-8")


def wordpiece(lowercase):
    vocab = {token: i for i, token in enumerate(wordpiece_vocab())}
    toy = Tokenizer(models.WordPiece(vocab, unk_token="[UNK]"))
    toy.normalizer = normalizers.BertNormalizer(lowercase=lowercase)
    toy.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    toy.post_processor = processors.BertProcessing(("[SEP]", vocab["[SEP]"]), ("[CLS]", vocab["[CLS]"]))
    toy.decoder = decoders.WordPiece()
    toy.add_special_tokens(SPECIAL)
    return toy


def folders():
    for name in ["bert", "bert-cased-config", "bert-vocab-only", "bert-vocab-cased", "bert-left", "roberta"]:
        shutil.rmtree(HERE / name, ignore_errors=True)
        (HERE / name).mkdir()
    bert_class = {"tokenizer_class": "BertTokenizer"}

    # Padding and truncation stored in the file must not count; the file says cased, the class's default is uncased.
    toy = wordpiece(lowercase=False)
    toy.enable_truncation(7)
    toy.enable_padding(length=20)
    toy.save(str(HERE / "bert" / "tokenizer.json"))
    write(HERE / "bert", "tokenizer_config.json", bert_class | {"model_max_length": 12})

    # The configuration wins over the file.
    wordpiece(lowercase=True).save(str(HERE / "bert-cased-config" / "tokenizer.json"))
    write(
        HERE / "bert-cased-config",
        "tokenizer_config.json",
        bert_class | {"do_lower_case": False, "tokenize_chinese_chars": False, "model_max_length": 10**30},
    )

    vocab = "\n".join(wordpiece_vocab()) + "\n"
    write(HERE / "bert-vocab-only", "vocab.txt", vocab)
    write(HERE / "bert-vocab-only", "config.json", {"model_type": "bert"})
    write(HERE / "bert-vocab-cased", "vocab.txt", vocab)
    write(HERE / "bert-vocab-cased", "tokenizer_config.json", bert_class | {"do_lower_case": False, "strip_accents": True})

    toy = wordpiece(lowercase=True)
    toy.enable_truncation(9, direction="left")
    toy.save(str(HERE / "bert-left" / "tokenizer.json"))
    write(HERE / "bert-left", "tokenizer_config.json", {"tokenizer_class": "PreTrainedTokenizerFast"})

    toy = Tokenizer(models.BPE())
    toy.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    toy.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=330,
        special_tokens=["<s>", "<pad>", "</s>", "<unk>", "<mask>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    toy.train_from_iterator(CORPUS, trainer)
    toy.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0), add_prefix_space=False)
    toy.save(str(HERE / "roberta" / "tokenizer.json"))
    write(
        HERE / "roberta",
        "tokenizer_config.json",
        {"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": "<s>", "eos_token": "</s>", "model_max_length": 512},
    )


def main():
    folders()
    cases = []
    for folder in sorted(path for path in HERE.iterdir() if path.is_dir()):
        tokenizer = AutoTokenizer.from_pretrained(folder)
        inputs = [(text, None) for text in SINGLES] + PAIRS
        for text, pair in inputs:
            for max_length in [None, 5, 6, 7, 8, 11, 16, 64]:
                encoded = tokenizer([text], None if pair is None else [pair], truncation=True, max_length=max_length,
                                    return_token_type_ids=True)
                full = tokenizer([text], None if pair is None else [pair], verbose=False)
                cases.append({
                    "tokenizer": folder.name, "text": text, "pair": pair, "max_length": max_length,
                    "ids": encoded["input_ids"][0], "type_ids": encoded["token_type_ids"][0],
                    "full": len(full["input_ids"][0]),
                })
    versions = f"transformers {transformers.__version__}, tokenizers {tokenizers.__version__}"
    lines = ",\n".join(json.dumps(case, ensure_ascii=True) for case in cases)
    (HERE / "cases.json").write_text(f'{{"made_with": "{versions}", "cases": [\n{lines}\n]}}\n')
    print(len(cases), "cases,", versions)


main()
