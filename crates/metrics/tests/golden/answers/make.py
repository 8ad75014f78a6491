"""Writes cases.json beside this script: ROUGE-L and BLEU of answers in words.

    python crates/metrics/tests/golden/answers/make.py

Made with rouge-score 0.1.2 and sacrebleu 2.6.0; seed 20.
"""

import json
import random
from pathlib import Path

from rouge_score.rouge_scorer import RougeScorer
from sacrebleu.metrics import BLEU

random.seed(20)

HARD = [
    ("the lamp in the hall is on", "the lamp in the hall is on"),
    ("The lamp, in the HALL: is on!", "the lamp in the hall is on"),
    ("the hall lamp is on", "the lamp in the hall is on"),
    ("", "the lamp is on"),
    ("the lamp is on", ""),
    ("...", "the lamp is on"),
    ("no word of it", "lamp"),
    ('{"intent": "turn_on", "area": "hall", "level": 0.5}', '{"intent":"turn_on","area":"kitchen","level":0.5}'),
    ("It costs 1,000.50 euros, not 2.5.", "It costs 1,000.50 euros, not 2.5, ok."),
    ("1990-1995 and state-of-the-art, x-1", "1990-1995 and state of the art, x - 1"),
    ("a &quot;quoted&quot; &amp; &lt;tagged&gt; word", 'a "quoted" & <tagged> word'),
    ("one line-\nbroken\nin two", "one linebroken in two"),
    ("Äpfel und Öl für 3,50 €", "Äpfel und Öl für 3,50 €."),
    ("日本語のテキスト。", "日本語のテキスト。"),
    ("ends.. with ,, dots...", "ends . with , dots ."),
    ("a a a a a a a", "a a a"),
    ("a\tb  c\u00a0d", "a b c d"),
    ("<skipped>gone", "gone"),
    ("don't stop; (really) [now] {ok} ~`^|\\", "don't stop ; ( really ) [ now ] { ok } ~ ` ^ | \\"),
    ("$5 at 50% off @ home #1 *", "$ 5 at 50 % off @ home # 1 *"),
]
WORDS = "the a lamp door hall on off red blue , . 3.5 10-12 it's (yes) no! ok? A/B".split()


def noisy(text):
    words = [w for w in text.split() if random.random() > 0.15]
    for _ in range(random.randint(0, 3)):
        words.insert(random.randint(0, len(words)), random.choice(WORDS))
    return " ".join(words)


texts = [" ".join(random.choices(WORDS, k=random.randint(1, 40))) for _ in range(60)]
random_pairs = [(noisy(text), text) for text in texts]
corpora = {
    "hard": HARD,
    "random": random_pairs,
    "short answers": [(a[: len(a) // 2], r) for a, r in random_pairs],
    "no bigram": [("lamp on", "on lamp"), ("red door it hall", "hall it door red")],
    "one word each": [("on", "on"), ("off", "on")],
    "nothing right": [("red", "blue"), ("door hall", "lamp")],
    "nothing said": [("", "blue"), ("", "lamp on")],
    **{f"alone {i}": [pair] for i, pair in enumerate(HARD)},
}
rouge = RougeScorer(["rougeL"])
bleu = BLEU(effective_order=True)
cases = []
for name, pairs in corpora.items():
    answers, references = [list(side) for side in zip(*pairs)]
    cases.append(
        {
            "name": name,
            "answers": answers,
            "references": references,
            "rouge_l": [rouge.score(r, a)["rougeL"].fmeasure for a, r in pairs],
            "bleu": bleu.corpus_score(answers, [references]).score,
        }
    )
path = Path(__file__).parent / "cases.json"
path.write_text(json.dumps(cases, ensure_ascii=False, indent=0) + "\n")
