"""The eight sentences of the forward and gradient cases: varied lengths, one pair; 3 labels."""

SENTENCES = [
    # (text, text_pair, label)
    ("Yes.", None, 2),
    ("My card was declined at the petrol station this morning.", None, 0),
    ("A man is playing a guitar.", "Someone on the stage makes music.", 1),
    ("Caf\u00e9 Z\u00fcrich serves na\u00efve \u4eba\u58eb \u2615\ufe0f until 23:30!", None, 2),
    ("Although the committee had promised, twice and in writing, that the repairs would be finished before the winter, "
     "the bridge stayed closed and nobody could say who was going to pay for it.", None, 1),
    ("How do I change the e-mail address on my account?", None, 0),
    ("[MASK] antidisestablishmentarianism", None, 0),
    ("The quick brown fox jumps over the lazy dog while 42 engineers debug a race condition in the scheduler.", None, 2),
]


def encode(tokenizer, max_length=128):
    """Encodings without padding, one a sentence."""
    return [tokenizer([text], None if pair is None else [pair], truncation=True, max_length=max_length)
            for text, pair, _ in SENTENCES]
