"""Reads source.txt, checks it, and writes train.jsonl, validation.jsonl and test.jsonl.

source.txt has one text a line with its entities marked inline, `my [Lumo 2]{product} flickers`, in groups of
ten under `## situation`. A group goes to one part as a whole, by its place in the file.

    python3 make_splits.py               # checks and writes; a mistake is printed with its line, nothing is written
    python3 make_splits.py --unmarked    # strings that are an entity in one place and not, or another, elsewhere
    python3 make_splits.py --baseline    # entity F1 on test of the most frequent tag of each word in train
    python3 make_splits.py --sample 100 7   # 100 texts drawn with seed 7, to be read

Standard library only.
"""

import hashlib
import json
import random
import re
import sys
from collections import Counter, defaultdict
from pathlib import Path

HERE = Path(__file__).resolve().parent
LABELS = ["product", "order_number", "date", "amount", "device", "version", "os_or_app", "person"]
GROUPS, GROUP = 120, 10
# Of each 15 groups these, counted from 1, are validation and test; the others are train.
CYCLE = 15
VALIDATION, TEST = {6, 7}, {2, 13, 15}
MIN_WORDS, MAX_WORDS = 3, 60
SHINGLE, MAX_SHARING = 6, 2
MAX_SIMILARITY = 0.6
MARK = re.compile(r"\[([^\[\]{}]*)\]\{([^\[\]{}]*)\}")
WORD = re.compile(r"\w+|[^\w\s]")


class Row:
    """A text, its spans as (start, end, label) in code points, its line in source.txt, its group and its part."""

    def __init__(self, text, spans, line, group):
        self.text, self.spans, self.line, self.group = text, spans, line, group
        place = (group - 1) % CYCLE + 1
        self.part = "validation" if place in VALIDATION else "test" if place in TEST else "train"


def parse(line, number, mistakes):
    """The text without marks, and the spans."""
    text, spans, last = "", [], 0
    for mark in MARK.finditer(line):
        text += line[last : mark.start()]
        inner, label = mark.groups()
        if label not in LABELS:
            mistakes.append(f"line {number}: label `{label}`, expected one of {', '.join(LABELS)}")
        if not inner or inner != inner.strip():
            mistakes.append(f"line {number}: the span `{inner}` is empty or has a blank at its edge")
        spans.append((len(text), len(text) + len(inner), label))
        text += inner
        last = mark.end()
    text += line[last:]
    if re.search(r"[\[\]{}\t]|  |^ | $", text):
        mistakes.append(f"line {number}: a stray bracket, a tab, or a blank too many: {text}")
    for start, end, _ in spans:
        before, after = text[start - 1 : start], text[end : end + 1]
        if before.isalnum() and text[start].isalnum() or after.isalnum() and text[end - 1].isalnum():
            mistakes.append(f"line {number}: the span `{text[start:end]}` cuts a word")
    return text, spans


def read(mistakes):
    """The rows of source.txt in its order."""
    rows, sizes, group = [], Counter(), 0
    for number, line in enumerate((HERE / "source.txt").read_text(encoding="utf-8").splitlines(), 1):
        if line.startswith("## "):
            group += 1
        elif line:
            text, spans = parse(line, number, mistakes)
            rows.append(Row(text, spans, number, group))
            sizes[group] += 1
    mistakes += [f"group {g} has {n} texts, expected {GROUP}" for g, n in sizes.items() if n != GROUP]
    if group != GROUPS:
        mistakes.append(f"{group} groups, expected {GROUPS}")
    return rows


def check_texts(rows, mistakes):
    """Lengths, shingles shared by too many, texts too similar."""
    sharing = defaultdict(set)
    grams = []
    for index, row in enumerate(rows):
        words = row.text.split()
        if not MIN_WORDS <= len(words) <= MAX_WORDS:
            mistakes.append(f"line {row.line}: {len(words)} words, expected {MIN_WORDS} to {MAX_WORDS}")
        plain = re.findall(r"[\w']+", row.text.casefold())
        for i in range(len(plain) - SHINGLE + 1):
            sharing[tuple(plain[i : i + SHINGLE])].add(index)
        low = row.text.casefold()
        grams.append({low[i : i + 5] for i in range(max(1, len(low) - 4))})
    partners = defaultdict(set)
    for shared in sharing.values():
        for index in shared:
            partners[index] |= shared - {index}
    for index, others in sorted(partners.items()):
        if len(others) > MAX_SHARING:
            lines = ", ".join(str(rows[o].line) for o in sorted(others))
            mistakes.append(f"line {rows[index].line}: shares {SHINGLE} words in a row with lines {lines}")
    closest = 0.0, None, None
    for i, a in enumerate(grams):
        for j in range(i):
            common = len(a & grams[j])
            similarity = common / (len(a) + len(grams[j]) - common)
            if similarity > MAX_SIMILARITY:
                mistakes.append(f"lines {rows[j].line} and {rows[i].line}: similarity {similarity:.2f}")
            if rows[i].part != rows[j].part and similarity > closest[0]:
                closest = similarity, rows[j].text, rows[i].text
    return closest


def unmarked(rows):
    """(String, tag) -> rows, for strings that are an entity somewhere: where it stands in no entity, tag `unmarked`;
    of a string with two labels or more, where it has each. Bare numbers of up to two digits are left out."""
    labels = defaultdict(lambda: defaultdict(list))
    for row in rows:
        for start, end, label in row.spans:
            string = row.text[start:end].casefold()
            if not re.fullmatch(r"\d{1,2}", string):
                labels[string][label].append(row)
    found = {}
    for string, of in labels.items():
        if len(of) > 1:
            found |= {(string, label): where for label, where in of.items()}
        pattern = re.compile(rf"(?<!\w){re.escape(string)}(?!\w)")
        for row in rows:
            for match in pattern.finditer(row.text.casefold()):
                if not any(start <= match.start() and match.end() <= end for start, end, _ in row.spans):
                    found.setdefault((string, "unmarked"), []).append(row)
    return found


def check_unmarked(rows, mistakes):
    """Holds `unmarked` against unmarked.tsv, where each is looked at: string, tag, how often, why."""
    lines = (HERE / "unmarked.tsv").read_text(encoding="utf-8").splitlines()[1:]
    known = {tuple(line.split("\t")[:2]): int(line.split("\t")[2]) for line in lines}
    found = {key: len(where) for key, where in unmarked(rows).items()}
    for key in sorted(set(known) | set(found)):
        if known.get(key, 0) != found.get(key, 0):
            mistakes.append(f"`{key[0]}` is {key[1]} {found.get(key, 0)} times, unmarked.tsv says {known.get(key, 0)}")


def entities(tags):
    """Spans of strict IOB2 tags, as seqeval's: an I- that continues nothing is no entity."""
    spans, start, label = set(), None, None
    for i, tag in enumerate([*tags, "O"]):
        if label is not None and tag != f"I-{label}":
            spans.add((start, i, label))
            label = None
        if tag.startswith("B-"):
            start, label = i, tag[2:]
    return spans


def tagged(row):
    """The words of a text and their IOB2 tags."""
    words = list(WORD.finditer(row.text))
    tags = ["O"] * len(words)
    for start, end, label in row.spans:
        inside = [i for i, w in enumerate(words) if w.start() < end and start < w.end()]
        for n, i in enumerate(inside):
            tags[i] = ("I-" if n else "B-") + label
    return [w.group() for w in words], tags


def baseline(rows):
    """Most frequent tag of each word, `O` for a new one; then the same with every digit read as 0."""
    for name, key in [("word", str.casefold), ("word, digits as 0", lambda w: re.sub(r"\d", "0", w.casefold()))]:
        counts = defaultdict(Counter)
        for row in rows:
            if row.part == "train":
                for word, tag in zip(*tagged(row)):
                    counts[key(word)][tag] += 1
        right, guessed, true = Counter(), Counter(), Counter()
        for row in rows:
            if row.part == "test":
                words, tags = tagged(row)
                guess = entities([max(sorted(counts[key(w)].items()), key=lambda c: c[1])[0] if key(w) in counts else "O" for w in words])
                gold = entities(tags)
                for counter, spans in [(right, guess & gold), (guessed, guess), (true, gold)]:
                    counter.update(label for _, _, label in spans)
        print(f"most frequent tag of the {name}")
        lines = [(label, right[label], guessed[label], true[label]) for label in LABELS]
        lines.append(("all (micro)", right.total(), guessed.total(), true.total()))
        for label, r, g, t in lines:
            precision, recall = r / max(g, 1), r / max(t, 1)
            f1 = 2 * r / max(g + t, 1)
            print(f"  {label:13} precision {precision:.4f}  recall {recall:.4f}  F1 {f1:.4f}  {t} entities")


def report(rows, closest):
    """Counts by label and part."""
    parts = ["train", "validation", "test"]
    total = {part: Counter(s[2] for r in rows if r.part == part for s in r.spans) for part in parts}
    print("texts         " + "".join(f"{sum(r.part == p for r in rows):12}" for p in parts))
    print("without entity" + "".join(f"{sum(r.part == p and not r.spans for r in rows):12}" for p in parts))
    for label in LABELS:
        print(f"{label:14}" + "".join(f"{total[p][label]:12}" for p in parts))
    print(f"{'all':14}" + "".join(f"{total[p].total():12}" for p in parts))
    seen = {(r.text[s:e].casefold(), l) for r in rows if r.part == "train" for s, e, l in r.spans}
    for label in [None, *LABELS]:
        test = [(r.text[s:e].casefold(), l) for r in rows if r.part == "test" for s, e, l in r.spans if label in (None, l)]
        if test:
            print(f"test entities that train has not, {label or 'all'}: {sum(t not in seen for t in test) / len(test):.2f}")
    lengths = sorted(len(r.text.split()) for r in rows)
    n = len(lengths)
    print(f"words: {lengths[0]} to {lengths[-1]}, median {lengths[n // 2]}, 5% under {lengths[n // 20]}, 5% over {lengths[n * 19 // 20]}")
    print(f"closest texts of two parts: {closest[0]:.2f}\n  {closest[1]}\n  {closest[2]}")


def main():
    mistakes = []
    rows = read(mistakes)
    if "--unmarked" in sys.argv:
        for (string, tag), where in sorted(unmarked(rows).items()):
            for row in where:
                print(f"{string}\t{tag}\t{row.line}\t{row.text}")
        return
    if "--sample" in sys.argv:
        count, seed = (int(a) for a in sys.argv[2:4])
        lines = (HERE / "source.txt").read_text(encoding="utf-8").splitlines()
        for row in random.Random(seed).sample(rows, count):
            print(f"{row.line}: {lines[row.line - 1]}")
        return
    if "--baseline" in sys.argv:
        baseline(rows)
        return
    closest = check_texts(rows, mistakes)
    check_unmarked(rows, mistakes)
    report(rows, closest)
    if mistakes:
        raise SystemExit("\n".join([*mistakes, f"error: {len(mistakes)} mistakes, nothing written"]))
    for part in ["train", "validation", "test"]:
        with (HERE / f"{part}.jsonl").open("w", encoding="utf-8", newline="\n") as file:
            for row in rows:
                if row.part == part:
                    spans = [{"start": s, "end": e, "label": label} for s, e, label in row.spans]
                    file.write(json.dumps({"text": row.text, "spans": spans}, ensure_ascii=False) + "\n")
        print(f"sha256 {part} {hashlib.sha256((HERE / f'{part}.jsonl').read_bytes()).hexdigest()}")


if __name__ == "__main__":
    main()
