"""Makes `tags.json` and `questions.json` beside this file: what transformers' tokenizers make of our sentences and questions, with labels and
answers by the rules of transformers' example scripts.

    python make.py        # transformers 5.24.0, tokenizers 0.23.3, seqeval 1.2.2, numpy 2.4.6; seed 17

Ids, words and offsets come from `AutoTokenizer`, with the toy tokenizers of the folder above; entities from seqeval. Nothing of the example
scripts is run: what they add to a tokenizer's output is written out again here. `aligned` restates `tokenize_and_align_labels` of
`token-classification/run_ner.py`, `windows_of` the features of `question-answering/run_qa.py`, and `answers_of` the postprocessing of
`question-answering/utils_qa.py`.

`tags.json`: sentences of words with BIO tags; for each tokenizer, sentence, max_length and label_all_tokens ids and labels; the ids of the
windows with `return_overflowing_tokens`; and rows of tags of mixed schemes with the entities that seqeval reads in them.
`questions.json`: questions with long contexts; for each tokenizer the windows' ids, offsets (null outside of the context), start and end;
and for logits of a formula, `logit`, the n best answers with and without the right to have none.
"""

import json
import random
from pathlib import Path

import numpy as np
import tokenizers
import transformers
from seqeval.metrics.sequence_labeling import get_entities
from transformers import AutoTokenizer

HERE = Path(__file__).resolve().parent
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
NOTHING = ["\u200b", "\x01", "\u00ad", "\ufeff"]
PROSE = [
    "The quick brown fox jumps over the lazy dog near the old mill in Paris.", "Please cancel order 12345 and refund the money, all 3.50 of it!",
    "Café owners (most of them) couldn't hear the music; they left.", "A gripping, unsentimental film that never lets go of its subject.",
    "日本語の文 and 한국어 문장 stand beside naïve Ångström units.", "Emoji 😀 and flags 🇫🇷 are tokens too -- or so 'they' say.",
    "What is the weather in Paris today? Cold: −3° at dawn.", "U.S. rules e.g. state that 1,000 items cost $5m each.",
]


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


def aligned(tokenizer, rows, max_length, label_all):
    """Ids and labels of each row: a word's first token has its label, the others -100, or with `label_all` what goes on with it."""
    made = tokenizer([row["tokens"] for row in rows], is_split_into_words=True, truncation=True, max_length=max_length)
    for sentence, row in enumerate(rows):
        labels, before = [], None
        for word in made.word_ids(batch_index=sentence):
            if word is None:
                labels.append(-100)
            elif word != before:
                labels.append(LABELS.index(row["tags"][word]))
            elif label_all:
                tag = row["tags"][word]
                labels.append(LABELS.index("I" + tag[1:] if tag[0] == "B" else tag))
            else:
                labels.append(-100)
            before = word
        yield sentence, made["input_ids"][sentence], labels


def tag_cases(rows):
    cases, windows = [], []
    for name in TOKENIZERS:
        kwargs = {"add_prefix_space": True} if "roberta-class" in name else {}
        tokenizer = AutoTokenizer.from_pretrained(HERE.parent / name, **kwargs)
        for max_length in [512, SHORT]:
            for label_all in [False, True]:
                for sentence, ids, labels in aligned(tokenizer, rows, max_length, label_all):
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


def windows_of(tokenizer, rows):
    """The windows of all questions: the first answer's tokens where a window holds all of it, the first token where it does not."""
    made = tokenizer([row["question"].lstrip() for row in rows], [row["context"] for row in rows], truncation="only_second",
                     max_length=WINDOW, stride=STRIDE, return_overflowing_tokens=True, return_offsets_mapping=True)
    windows = []
    for i, (ids, offsets) in enumerate(zip(made["input_ids"], made["offset_mapping"])):
        row, parts = made["overflow_to_sample_mapping"][i], made.sequence_ids(i)
        none = ids.index(tokenizer.cls_token_id)
        start = end = none
        answers = rows[row]["answers"]
        if answers["text"]:
            first = answers["answer_start"][0]
            last = first + len(answers["text"][0])
            inside = [at for at, part in enumerate(parts) if part == 1]
            if offsets[inside[0]][0] <= first and offsets[inside[-1]][1] >= last:
                # The last token that begins no later than the answer, the first that ends no sooner.
                start, end = inside[0], inside[-1]
                while start < len(offsets) and offsets[start][0] <= first:
                    start += 1
                while offsets[end][1] >= last:
                    end -= 1
                start, end = start - 1, end + 1
        offsets = [offset if part == 1 else None for offset, part in zip(offsets, parts)]
        windows.append({"question": row, "ids": ids, "offsets": offsets, "start": start, "end": end})
    return windows


def answers_of(context, windows, logits, may_have_none, best=20, longest=30):
    """The best answers of a question: of each window the `best` starts and ends by each other, `longest` tokens at most; where it may have none,
    the first token's score, the least of the windows'. The answer, the odds that there is none, and the list."""
    none, found = None, []
    for window, (starts, ends) in zip(windows, logits):
        score = starts[0] + ends[0]
        if none is None or none["score"] > score:
            none = {"offsets": (0, 0), "score": score, "start_logit": starts[0], "end_logit": ends[0]}
        offsets = window["offsets"]
        for start in np.argsort(starts)[::-1][:best].tolist():
            for end in np.argsort(ends)[::-1][:best].tolist():
                if offsets[start] is None or offsets[end] is None or not 0 <= end - start < longest:
                    continue
                found.append({"offsets": (offsets[start][0], offsets[end][1]), "score": starts[start] + ends[end],
                              "start_logit": starts[start], "end_logit": ends[end]})
    if may_have_none:
        found.append(none)
    listed = sorted(found, key=lambda answer: answer["score"], reverse=True)[:best]
    if may_have_none and not any(answer["offsets"] == (0, 0) for answer in listed):
        listed.append(none)
    for answer in listed:
        answer["text"] = context[slice(*answer["offsets"])]
    if not listed or (len(listed) == 1 and listed[0]["text"] == ""):
        listed.insert(0, {"text": "empty", "start_logit": 0.0, "end_logit": 0.0, "score": 0.0})
    shares = np.exp(np.array([answer["score"] for answer in listed]) - max(answer["score"] for answer in listed))
    for answer, share in zip(listed, shares / shares.sum()):
        answer["probability"] = float(share)
    if not may_have_none:
        return listed[0]["text"], None, listed
    some = next(answer for answer in listed if answer["text"] != "")
    odds = none["score"] - some["start_logit"] - some["end_logit"]
    return "" if odds > 0 else some["text"], float(odds), listed


def question_cases(rows):
    found = {}
    for name in TOKENIZERS:
        windows = windows_of(AutoTokenizer.from_pretrained(HERE.parent / name), rows)
        logits = [
            [np.array([logit(i, t, end, window["question"]) for t in range(len(window["ids"]))]) for end in (0, 1)]
            for i, window in enumerate(windows)
        ]
        answers = {}
        for kind in ["some", "none"]:
            answers[kind] = []
            for number, row in enumerate(rows):
                own = [i for i, window in enumerate(windows) if window["question"] == number]
                answer, odds, listed = answers_of(row["context"], [windows[i] for i in own], [logits[i] for i in own], kind == "none")
                best = [[b["text"], round(float(b["start_logit"]), 6), round(float(b["end_logit"]), 6), round(b["probability"], 7)] for b in listed]
                answers[kind].append({"answer": answer, "null": odds, "best": best})
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
