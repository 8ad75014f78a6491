"""Makes `tags.json` and `questions.json` beside this file: what transformers' own example scripts make of our sentences and questions.

    python make.py EXAMPLES    # transformers 5.24.0, tokenizers 0.23.3, seqeval 1.2.2, numpy 2.4.6; seed 17

EXAMPLES is the folder `examples/pytorch` of a checkout of transformers. The functions that encode and answer are taken out of its
`token-classification/run_ner.py`, `question-answering/run_qa.py` and `question-answering/utils_qa.py` and run as they are, with the toy
tokenizers of the folder above.

`tags.json`: sentences of words with BIO tags; for each tokenizer, sentence, max_length and label_all_tokens ids and labels; the ids of the
windows with `return_overflowing_tokens`; and rows of tags of mixed schemes with the entities that seqeval reads in them.
`questions.json`: questions with long contexts; for each tokenizer the windows' ids, offsets (null outside of the context), start and end;
and for logits of a formula, `logit`, the n best answers with and without the right to have none.
"""

import ast
import importlib.util
import json
import random
import sys
import tempfile
import textwrap
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import tokenizers
import transformers
from seqeval.metrics.sequence_labeling import get_entities
from transformers import AutoTokenizer

HERE = Path(__file__).resolve().parent
EXAMPLES = Path(sys.argv[1])
TOKENIZERS = ["bert", "roberta-class", "xlm-roberta"]
LABELS = ["B-LOC", "B-ORG", "B-PER", "I-LOC", "I-ORG", "I-PER", "O"]
# The lengths at which sentences and questions are cut.
SHORT, OVERLAP = 16, 4
WINDOW, STRIDE = 80, 16

WORDS = [
    "the", "fox", "jumps", "Paris", "weather", "UPPER", "CamelCase", "naïve", "Ångström", "e\u0301te\u0301", "日本語", "中文字", "한국어", "Привет",
    "שלום", "مرحبا", "ไทย", "😀", "👩\u200d👧", "🇫🇷", "can't", "re-run", "3.14", "$5m", "#tag", "@user", "http://a.b/c?d=e", "x" * 40, "...", "(", ")",
    ",", ".", "--", "'", "\"", "a", "I", "ﬁne", "½", "straße", "İstanbul", "don’t", "[MASK]", "[CLS]", "<s>", "<brand>", "##ing", "Ġ", "▁x",
    "\u0301", "e.g.", "U.S.", "O'Brien", "1,000", "12345", "music", "refund", "money", "quick",
]
# Words of which some tokenizers make nothing.
NOTHING = ["\u200b", "\x01", "\u00ad", "\ufeff", "\u00a0"]
PROSE = [
    "The quick brown fox jumps over the lazy dog near the old mill in Paris.", "Please cancel order 12345 and refund the money, all 3.50 of it!",
    "Café owners (most of them) couldn't hear the music; they left.", "A gripping, unsentimental film that never lets go of its subject.",
    "日本語の文 and 한국어 문장 stand beside naïve Ångström units.", "Emoji 😀 and flags 🇫🇷 are tokens too -- or so 'they' say.",
    "What is the weather in Paris today? Cold: −3° at dawn.", "U.S. rules e.g. state that 1,000 items cost $5m each.",
]


def function(script, name, names):
    """A function of a script, wherever it is defined there, with `names` for what surrounds it."""
    source = (EXAMPLES / script).read_text()
    node = next(node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.FunctionDef) and node.name == name)
    exec(textwrap.dedent("\n".join(source.split("\n")[node.lineno - 1 : node.end_lineno])), names)
    return names[name]


def sentences(rng):
    """50 sentences: every word is in one; spans of one to four words."""
    words = WORDS * 3 + NOTHING
    rng.shuffle(words)
    rows = []
    while len(rows) < 50:
        length = 1 if len(rows) == 0 else rng.randint(2, 9)
        row = [words.pop() if words else rng.choice(WORDS) for _ in range(length)]
        tags = []
        while len(tags) < length:
            kind = rng.choice(["LOC", "ORG", "PER"])
            span = min(rng.randint(1, 4), length - len(tags))
            tags += ["O"] * span if rng.random() < 0.5 else [f"B-{kind}"] + [f"I-{kind}"] * (span - 1)
        rows.append({"tokens": row, "tags": tags})
    # One that is long, and the words that make nothing at its ends.
    row = NOTHING[:2] + [rng.choice(WORDS) for _ in range(60)] + NOTHING[2:4]
    rows.append({"tokens": row, "tags": [["B-LOC", "I-LOC", "O"][i % 3] for i in range(len(row))]})
    return rows


def tag_cases(rows):
    cases, windows = [], []
    for name in TOKENIZERS:
        kwargs = {"add_prefix_space": True} if "roberta-class" in name else {}
        tokenizer = AutoTokenizer.from_pretrained(HERE.parent / name, **kwargs)
        for max_length in [512, SHORT]:
            for label_all in [False, True]:
                names = {
                    "tokenizer": tokenizer, "text_column_name": "tokens", "label_column_name": "tags", "padding": False,
                    "data_args": SimpleNamespace(max_seq_length=max_length, label_all_tokens=label_all),
                    "label_to_id": {label: i for i, label in enumerate(LABELS)},
                    "b_to_i_label": [LABELS.index("I" + label[1:]) if label[0] == "B" else i for i, label in enumerate(LABELS)],
                }
                align = function("token-classification/run_ner.py", "tokenize_and_align_labels", names)
                made = align({key: [row[key] for row in rows] for key in ["tokens", "tags"]})
                for sentence, (ids, labels) in enumerate(zip(made["input_ids"], made["labels"])):
                    cases.append({"tokenizer": name, "sentence": sentence, "max_length": max_length, "all": label_all, "ids": ids, "labels": labels})
        cut = tokenizer([row["tokens"] for row in rows], is_split_into_words=True, truncation=True, max_length=SHORT, stride=OVERLAP,
                        return_overflowing_tokens=True)
        for sentence in range(len(rows)):
            ids = [ids for ids, of in zip(cut["input_ids"], cut["overflow_to_sample_mapping"]) if of == sentence]
            windows.append({"tokenizer": name, "sentence": sentence, "ids": ids})
    return cases, windows


def schemes(rng):
    rows = []
    for _ in range(150):
        tags = [rng.choice(["O", "B-a", "I-a", "B-b", "I-b", "E-a", "S-a", "E-b", "S-b", "I-c-d", "B-c-d"]) for _ in range(rng.randint(1, 14))]
        rows.append({"tags": tags, "entities": [[label, start, end + 1] for label, start, end in get_entities(tags)]})
    return rows


def questions(rng):
    rows = []
    for number in range(20):
        context = " ".join(rng.choice(PROSE) for _ in range(rng.randint(2, 9))) if number else PROSE[0]
        if number % 7 == 3:
            context = "  " + context.replace(" ", "  ", 3) + "\n"
        answers = {"text": [], "answer_start": []}
        if number % 5 != 4:
            for _ in range(rng.randint(1, 2)):
                words = context.split()
                first = len(words) - 1 if number % 6 == 1 else rng.randrange(len(words))
                start = 0
                for word in words[:first]:
                    start = context.index(word, start) + len(word)
                start = context.index(words[first], start)
                end = start
                for word in words[first : first + rng.randint(1, 5)]:
                    end = context.index(word, end) + len(word)
                # Some answers begin inside a word, some are the last character of the context.
                start, end = (start + 1, end) if number % 4 == 2 and end - start > 3 else (start, end)
                start = len(context.rstrip()) - 1 if number % 6 == 1 else start
                end = max(start + 1, end)
                answers["text"].append(context[start:end])
                answers["answer_start"].append(start)
        question = rng.choice(["What jumps over the lazy dog?", "  Where is the money?", "日本語?", "\tWho left, and why can't they hear?", "Ω 😀 ?"])
        rows.append({"id": f"q{number}", "question": question, "context": context, "answers": answers})
    return rows


def logit(window, token, end, question):
    """A number between -4 and 4, another one for every place; every third question has no answer, as its first tokens say."""
    none = 9 if token == 0 and question % 3 == 0 else 0
    return np.float32((((window * 131 + token * 17 + (end * 401)) * 7919) % 99991) / 99991 * 8 - 4 + none)


def question_cases(rows):
    spec = importlib.util.spec_from_file_location("utils_qa", EXAMPLES / "question-answering/utils_qa.py")
    utils = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(utils)
    found = {}
    for name in TOKENIZERS:
        tokenizer = AutoTokenizer.from_pretrained(HERE.parent / name)
        names = {
            "tokenizer": tokenizer, "question_column_name": "question", "context_column_name": "context", "answer_column_name": "answers",
            "pad_on_right": True, "max_seq_length": WINDOW, "data_args": SimpleNamespace(doc_stride=STRIDE, pad_to_max_length=False),
        }
        columns = lambda: {key: [row[key] for row in rows] for key in rows[0]}
        train = function("question-answering/run_qa.py", "prepare_train_features", names)(columns())
        valid = function("question-answering/run_qa.py", "prepare_validation_features", names)(columns())
        assert train["input_ids"] == valid["input_ids"]
        windows = [
            {"question": int(valid["example_id"][i][1:]), "ids": valid["input_ids"][i], "offsets": valid["offset_mapping"][i],
             "start": train["start_positions"][i], "end": train["end_positions"][i]}
            for i in range(len(valid["input_ids"]))
        ]
        features = [{"example_id": f"q{w['question']}", "offset_mapping": [o and tuple(o) for o in w["offsets"]]} for w in windows]
        logits = [[np.array([logit(i, t, end, w["question"]) for t in range(len(w["ids"]))]) for i, w in enumerate(windows)] for end in (0, 1)]

        class Examples(list):
            def __getitem__(self, key):
                return [row[key] for row in self] if isinstance(key, str) else super().__getitem__(key)

        answers = {}
        for may_have_none in [False, True]:
            with tempfile.TemporaryDirectory() as out:
                best = utils.postprocess_qa_predictions(Examples(rows), features, logits, version_2_with_negative=may_have_none, output_dir=out)
                listed = json.loads((Path(out) / "nbest_predictions.json").read_text())
                odds = json.loads((Path(out) / "null_odds.json").read_text()) if may_have_none else {}
            answers["none" if may_have_none else "some"] = [
                {"answer": best[row["id"]], "null": odds.get(row["id"]),
                 "best": [[b["text"], round(b["start_logit"], 6), round(b["end_logit"], 6), round(b["probability"], 7)] for b in listed[row["id"]]]}
                for row in rows
            ]
        found[name] = {"windows": windows, "answers": answers}
    return found


def lines(name, rows):
    return f'"{name}": [\n' + ",\n".join(json.dumps(row, separators=(",", ":")) for row in rows) + "\n]"


def main():
    versions = f"transformers {transformers.__version__}, tokenizers {tokenizers.__version__}"
    rng = random.Random(17)
    rows = sentences(rng)
    cases, windows = tag_cases(rows)
    parts = [f'"made_with": "{versions}"', f'"labels": {json.dumps(LABELS)}', lines("sentences", rows), lines("cases", cases),
             lines("windows", windows), lines("schemes", schemes(rng))]
    (HERE / "tags.json").write_text("{" + ",\n".join(parts) + "}\n")
    rows = questions(rng)
    found = question_cases(rows)
    parts = [f'"made_with": "{versions}"', lines("questions", rows)]
    for name, made in found.items():
        answers = ",\n".join(lines(kind, made["answers"][kind]) for kind in ["some", "none"])
        parts.append(f'"{name}": {{{lines("windows", made["windows"])},\n{answers}}}')
    (HERE / "questions.json").write_text("{" + ",\n".join(parts) + "}\n")
    print(len(cases), "cases,", {name: len(made["windows"]) for name, made in found.items()}, versions)


main()
