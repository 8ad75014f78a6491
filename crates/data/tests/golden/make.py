"""Makes the toy tokenizers beside this file and, with transformers, the ids they must give.

    python make.py        # transformers 5.24.0, tokenizers 0.23.3, sentencepiece 0.2.3, pyarrow 26.0.1; seed 13

Every directory `<name>/` is a model directory as `AutoTokenizer.from_pretrained` reads it; `cases.json` lists, for
each directory, text, pair and max_length the ids and token types of
`tokenizer(text, pair, truncation=True, max_length=max_length)`, and the length before truncation. `hard.json` lists
200 texts that are hard to tokenize, and for each directory their ids without truncation. `labels.parquet` is a table
with texts, classes and lists, for the test of damaged files.
"""

import json
import random
import shutil
import tempfile
from pathlib import Path

import pyarrow
import pyarrow.parquet
import sentencepiece

import tokenizers
import transformers
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
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
# The directories of which every length is tried.
FIRST = {"bert", "bert-cased-config", "bert-vocab-only", "bert-vocab-cased", "bert-left", "roberta"}
PAIRS = [
    ("the quick brown fox", "jumps over the lazy dog"),
    ("the quick brown fox jumps over the lazy dog and refund the money", "music"),
    ("music", "the quick brown fox jumps over the lazy dog and refund the money"),
    ("what is the weather in paris today what is the weather", "cancel my order 12345 and refund the money please"),
    ("a", "b"),
    ("Café", "日本語 😀"),
]


# What the toy SentencePiece models normalise, as code points: full-width letters, ligatures, fractions, accents.
RULES = {
    "ﬁ": "fi", "ﬂ": "fl", "½": "1/2", "①": "1", "㎏": "kg", "Ⅷ": "VIII", "…": "...", "\u00a0": " ", "\u3000": " ",
    "\u200b": " ", "\t": " ", "\n": " ", "\r": " ", "e\u0301": "é", "a\u0308": "ä", "™": "TM", "\ufeff": "", "\x01": "",
} | {chr(0xFF21 + i): chr(65 + i) for i in range(26)} | {chr(0xFF41 + i): chr(97 + i) for i in range(26)}
MORE = [
    "die schnelle braune Katze springt über den faulen Hund",
    "où est la bibliothèque, s'il vous plaît ?",
    "быстрая лиса и ленивая собака",
    "η γρήγορη αλεπού και ο σκύλος",
    "素早い茶色の狐と怠け者の犬",
    "الثعلب السريع والكلب الكسول",
    "빠른 여우와 게으른 개",
    "numbers like 3.14, 2,718 and 1/2 are numbers; emails like me@there.org are not",
]


def hard():
    """200 texts of our own: hand-made ones first, then mixtures drawn from a seed."""
    texts = SINGLES + [
        "", "  ", "\n", "\t\t", "\u200b", "\u00ad", "\ufeff", "\x00", "\x7f", "\u2028line\u2029paragraph", "a", "ab", "é", "e\u0301",
        "\u0301", "\u0301\u0301\u0301 only marks", "a" + "\u0308" * 20, "Z\u0351\u036b\u0343algo", "ﬁﬂ ½①㎏Ⅷ…™", "ＦＵＬＬ　ｗｉｄｔｈ",
        "😀", "👩\u200d👩\u200d👧\u200d👦", "🇫🇷🇩🇪", "👍🏽👍", "❤️", "a😀b", "x" * 300, "ab" * 150, "=" * 120, "!?" * 40, "." * 64,
        "1234567890" * 8, "0x1F 1e-5 -0 +7", "3,14 3.14 3 .14", "<s>", "</s>", "<s> hi </s>", "<mask>", "a<mask>b", "a <mask> b",
        "<pad><unk>", "<brand>", "my<brand>name", "<ctl>", "[CLS]", "[MASK]x", "Ġ", "Ġhello", "▁", "▁hello", "hello▁world", "##ing",
        "CamelCaseAndUPPER", "snake_case_name", "path/to/file.txt", "https://a.b/c?d=e&f=g#h", "user@example.org", "#tag @name $5 5%",
        "can't won't I'll they're we've I'd it's", "CAN'T WON'T", "'s't're", "don’t “quote” ‘quote’ «quote»", "en–dash em—dash",
        "tab\tnew\nline\r\nreturn", "trailing   ", "   leading", "a  b   c    d", "中文", "日本語テスト", "한국어 시험", "ไทยไม่มีช่องว่าง",
        "हिन्दी परीक्षण", "தமிழ்", "עִבְרִית", "العَرَبِيَّة", "ελληνικά ΆΈ", "Русский ЁЖ", "İI ıi ß ẞ ŉ ǆ", "Ångström Ångström", "𝒜𝓁𝓅𝒽𝒶", "𐍈𐌰",
        "\U0001F9FF\U000E0041", "\ud7ff\ue000\uf8ff", "\ufffd\ufffe", "a\u0000b\u0001c", "\u202eright\u202c", "the the the the", "tHe QuIcK",
    ]
    rng = random.Random(13)
    alphabets = [
        "abcdefghijklmnopqrstuvwxyz ", "ABCDEF abc ", "0123456789.,- ", "éèüñçøåß ", "абвгдежз ", "αβγδε ", "中文字日本語 ", "한국어말 ",
        "ابتثج ", "😀🎉👍🏽\u200d❤️ ", "!?.,;:'\"()[]{}<>/\\|@#$%^&*~`_+=- ", "\t\n\r\u00a0\u200b\u3000 ", "\u0301\u0308\u0323ae ", "ﬁ½①㎏™… ",
        "\x00\x01\x02\x1f\x7f\x85a ",
    ]
    words = " ".join(CORPUS + MORE).split()
    while len(texts) < 200:
        text = ""
        for _ in range(rng.randint(1, 6)):
            if rng.random() < 0.4:
                text += rng.choice(words) + rng.choice(["", " ", "  "])
            else:
                alphabet = rng.choice(alphabets)
                text += "".join(rng.choice(alphabet) for _ in range(rng.randint(1, 12)))
        texts.append(text)
    assert len(texts) == 200
    return texts


def sentencepiece_model(path, **options):
    with tempfile.TemporaryDirectory() as scratch:
        rules = Path(scratch) / "rules.tsv"
        points = lambda text: " ".join(f"{ord(c):X}" for c in text)
        rules.write_text("".join(f"{points(old)}\t{points(new)}\n" for old, new in sorted(RULES.items())))
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter((CORPUS + MORE) * 4), model_prefix=f"{scratch}/toy", vocab_size=260, model_type="unigram", hard_vocab_limit=False,
            normalization_rule_tsv=str(rules), minloglevel=2, **{"user_defined_symbols": ["<brand>"], "control_symbols": ["<ctl>"], **options},
        )
        shutil.copy(f"{scratch}/toy.model", path)


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
    for name in [
        "bert", "bert-cased-config", "bert-vocab-only", "bert-vocab-cased", "bert-left", "distilbert", "roberta", "roberta-class",
        "roberta-merges", "roberta-prefix", "xlm-roberta", "xlm-roberta-pieces", "electra", "modernbert", "albert",
        "mpnet", "mpnet-vocab", "deberta-v2", "deberta-v2-pieces", "deberta-v2-lowercase",
    ]:
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
    write(HERE / "bert-vocab-cased", "tokenizer_config.json", bert_class | {"do_lower_case": False, "strip_accents": True,
                        "model_input_names": ["input_ids", "attention_mask"]})

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

    # DistilBERT's type alone says whose tokenizer it is.
    wordpiece(lowercase=True).save(str(HERE / "distilbert" / "tokenizer.json"))
    write(HERE / "distilbert", "config.json", {"model_type": "distilbert"})

    # RoBERTa's class sets its own pre-tokenizer and post-processor, whatever the file has.
    toy.post_processor = processors.RobertaProcessing(("<s>", 0), ("</s>", 2), add_prefix_space=True)
    toy.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    toy.save(str(HERE / "roberta-class" / "tokenizer.json"))
    write(HERE / "roberta-class", "config.json", {"model_type": "roberta"})
    state = json.loads(toy.to_str())["model"]
    for name, settings in [
        ("roberta-merges", {"tokenizer_class": "RobertaTokenizer", "mask_token": {"content": "<mask>", "lstrip": True}}),
        ("roberta-prefix", {"tokenizer_class": "RobertaTokenizerFast", "add_prefix_space": True}),
    ]:
        write(HERE / name, "vocab.json", json.dumps(state["vocab"], ensure_ascii=False))
        write(HERE / name, "merges.txt", "#version: 0.2\n" + "".join(f"{a} {b}\n" for a, b in state["merges"]))
        if "mask_token" in settings:
            settings["mask_token"] |= {"__type": "AddedToken", "rstrip": False, "normalized": True, "single_word": False}
        write(HERE / name, "tokenizer_config.json", settings)

    sentencepiece_model(HERE / "xlm-roberta-pieces" / "sentencepiece.bpe.model")
    write(HERE / "xlm-roberta-pieces", "tokenizer_config.json", {"tokenizer_class": "XLMRobertaTokenizer"})
    AutoTokenizer.from_pretrained(HERE / "xlm-roberta-pieces").save_pretrained(HERE / "xlm-roberta")

    # ELECTRA's type alone says whose tokenizer it is, as DistilBERT's does, but it gives token types.
    wordpiece(lowercase=False).save(str(HERE / "electra" / "tokenizer.json"))
    write(HERE / "electra", "config.json", {"model_type": "electra"})

    # As ModernBERT's: bytes behind NFC, runs of spaces as tokens of their own, a mask that takes the space before it.
    toy = Tokenizer(models.BPE(vocab=state["vocab"], merges=[tuple(pair) for pair in state["merges"]]))
    toy.normalizer = normalizers.NFC()
    toy.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    toy.decoder = decoders.ByteLevel()
    toy.add_tokens([AddedToken(" " * count, normalized=True) for count in range(24, 1, -1)])
    toy.add_special_tokens([AddedToken(token, lstrip=token == "[MASK]", normalized=False) for token in ["[UNK]", "[CLS]", "[SEP]", "[PAD]", "[MASK]"]])
    ends = [(token, toy.token_to_id(token)) for token in ("[CLS]", "[SEP]")]
    toy.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B [SEP]", special_tokens=ends)
    toy.save(str(HERE / "modernbert" / "tokenizer.json"))
    write(HERE / "modernbert", "config.json", {"model_type": "modernbert"})
    write(HERE / "modernbert", "tokenizer_config.json", {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": 8192, "cls_token": "[CLS]",
          "sep_token": "[SEP]", "pad_token": "[PAD]", "unk_token": "[UNK]", "mask_token": "[MASK]", "model_input_names": ["input_ids", "attention_mask"]})

    with tempfile.TemporaryDirectory() as scratch:
        sentencepiece_model(Path(scratch) / "spiece.model", pad_id=0, unk_id=1, bos_id=-1, eos_id=-1, user_defined_symbols=[],
                            control_symbols=["[CLS]", "[SEP]", "[MASK]"])
        write(Path(scratch), "config.json", {"model_type": "albert"})
        AutoTokenizer.from_pretrained(scratch).save_pretrained(HERE / "albert")

    # BERT's word pieces behind fairseq's special tokens, and the mask at the end.
    words = [word for word in wordpiece_vocab() if word not in SPECIAL]
    vocab = ["<s>", "<pad>", "</s>", "<unk>", "[PAD]", "[UNK]", *words, "<mask>"]
    write(HERE / "mpnet-vocab", "vocab.txt", "\n".join(vocab) + "\n")
    write(HERE / "mpnet-vocab", "config.json", {"model_type": "mpnet"})
    AutoTokenizer.from_pretrained(HERE / "mpnet-vocab").save_pretrained(HERE / "mpnet")

    # As the v3 models have them: special tokens first, but for the mask, which comes behind all.
    special = {"pad_id": 0, "bos_id": 1, "eos_id": 2, "unk_id": 3, "pad_piece": "[PAD]", "bos_piece": "[CLS]", "eos_piece": "[SEP]", "unk_piece": "[UNK]"}
    sentencepiece_model(HERE / "deberta-v2-pieces" / "spm.model", **special)
    write(HERE / "deberta-v2-pieces", "config.json", {"model_type": "deberta-v2"})
    write(HERE / "deberta-v2-pieces", "tokenizer_config.json", {"do_lower_case": False, "vocab_type": "spm"})
    AutoTokenizer.from_pretrained(HERE / "deberta-v2-pieces").save_pretrained(HERE / "deberta-v2")
    shutil.copy(HERE / "deberta-v2-pieces" / "spm.model", HERE / "deberta-v2-lowercase" / "spm.model")
    write(
        HERE / "deberta-v2-lowercase",
        "tokenizer_config.json",
        {"tokenizer_class": "DebertaV2Tokenizer", "do_lower_case": True, "split_by_punct": True, "unk_token": "[UNK]"},
    )


def table():
    rows = {
        "text": ["a good film", "a bad film", "not a film", "a film of two halves"],
        "label": ["pos", "neg", "neg", "pos"],
        "tags": [["long"], [], ["short", "loud"], ["long", "loud"]],
    }
    pyarrow.parquet.write_table(pyarrow.table(rows), HERE / "labels.parquet", compression="zstd")


def main():
    table()
    folders()
    cases = []
    texts = hard()
    ids = {}
    # `chat` and `tokens` are other scripts'.
    for folder in sorted(path for path in HERE.iterdir() if path.is_dir() and path.name not in ("chat", "tokens")):
        tokenizer = AutoTokenizer.from_pretrained(folder)
        inputs = [(text, None) for text in SINGLES] + PAIRS
        for text, pair in inputs:
            for max_length in [None, 5, 6, 7, 8, 11, 16, 64] if folder.name in FIRST else [None, 5, 9]:
                encoded = tokenizer([text], None if pair is None else [pair], truncation=True, max_length=max_length)
                ids_of_case = encoded["input_ids"][0]
                # A tokenizer that gives no token types leaves them all 0.
                types = encoded.get("token_type_ids", [[0] * len(ids_of_case)])[0]
                full = tokenizer([text], None if pair is None else [pair], verbose=False)
                cases.append({
                    "tokenizer": folder.name, "text": text, "pair": pair, "max_length": max_length,
                    "ids": ids_of_case, "type_ids": types,
                    "full": len(full["input_ids"][0]),
                })
        ids[folder.name] = tokenizer(texts)["input_ids"]
    versions = f"transformers {transformers.__version__}, tokenizers {tokenizers.__version__}"
    lines = ",\n".join(json.dumps(case, ensure_ascii=True) for case in cases)
    (HERE / "cases.json").write_text(f'{{"made_with": "{versions}", "cases": [\n{lines}\n]}}\n')
    lines = ",\n".join(f'"{name}": {json.dumps(lists, separators=(",", ":"))}' for name, lists in ids.items())
    texts = ",\n".join(json.dumps(text) for text in texts)
    (HERE / "hard.json").write_text(f'{{"made_with": "{versions}", "texts": [\n{texts}\n], "ids": {{\n{lines}\n}}}}\n')
    print(len(cases), "cases,", versions)


main()
