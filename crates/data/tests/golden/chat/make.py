"""Makes two toy tokenizers and chat templates beside this file and, with transformers, what they must give.

    python make.py        # transformers 5.24.0, tokenizers 0.23.3, jinja2 3.1.6, pyarrow 26.0.1; nothing is random

`bytes.json` and `pieces.json` are tokenizers: byte-level BPE as GPT-2's, and BPE on pieces with byte fallback and a
beginning-of-text token, as Llama 2's. Each `<template>.jinja` is in the style of a family; all are written here, with
`{% generation %}` around what the assistant says and the token that ends its turn, but not what follows. `<template>.json`
is the rest of the model directory: which tokenizer, and `tokenizer_config.json`.

`cases.json` lists for each template conversations with `ids`, the token ids of `apply_chat_template`, `mask`, its
assistant mask (one digit a token), and `prompt`, the ids of the turns before the last with `add_generation_prompt=True`.
The templates without their `{% generation %}` tags must give the same: that is checked here for ids, and in the test
for the masks.

`hard.json` lists for each tokenizer the ids of the 200 texts of `../hard.json`; `chats.parquet` is a table of one
conversation.
"""

import json
import re
import shutil
import tempfile
from pathlib import Path

import pyarrow
import pyarrow.parquet
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import AutoTokenizer

HERE = Path(__file__).resolve().parent

CORPUS = [
    "You are a helpful assistant. Answer briefly and say so if you do not know.",
    "What is the capital of the country? The capital is a city in the north.",
    "Turn off the lights in the kitchen, please. {\"light\": \"kitchen\", \"state\": \"off\"}",
    "user assistant system tool model name arguments function parameters type object string number",
    "def add(a, b):\n    return a + b\n\n\nprint(add(1, 2))\n",
    "The user wants a sum. 2 + 2 = 4, so the answer is 4.",
]
SPECIAL = [
    "<unk>", "<s>", "</s>", "<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|begin_of_text|>", "<|start_header_id|>",
    "<|end_header_id|>", "<|eot_id|>", "<start_of_turn>", "<end_of_turn>", "<|user|>", "<|assistant|>", "<|system|>",
    "<|end|>",
]  # fmt: skip

TEMPLATES = {}

TEMPLATES["chatml"] = (
    "bytes",
    {"eos_token": "<|im_end|>", "pad_token": "<|im_end|>"},
    """
{% for message in messages %}
    {{- '<|im_start|>' + message['role'] + '\\n' }}
    {%- if message['role'] == 'assistant' %}
        {%- generation %}{{ message['content'] + '<|im_end|>' }}{% endgeneration %}
    {%- else %}
        {{- message['content'] + '<|im_end|>' }}
    {%- endif %}
    {{- '\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}
""",
)

TEMPLATES["chatml-system"] = (
    "bytes",
    {"bos_token": "<|im_start|>", "eos_token": "<|im_end|>"},
    """
{%- if messages and messages[0]['role'] != 'system' -%}
    {{ '<|im_start|>system\\nYou are a helpful assistant.<|im_end|>\\n' }}
{%- endif -%}
{%- for m in messages -%}
    {%- if m.role == 'assistant' -%}
        {{ '<|im_start|>assistant\\n' }}{%- generation -%}{{ m.content }}{{ '<|im_end|>' }}{%- endgeneration -%}{{ '\\n' }}
    {%- else -%}
        {{ '<|im_start|>' ~ m.role ~ '\\n' ~ m.content ~ '<|im_end|>' ~ '\\n' }}
    {%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{ '<|im_start|>assistant\\n' }}{%- endif -%}
""",
)

TEMPLATES["header"] = (
    "bytes",
    {"bos_token": "<|begin_of_text|>", "eos_token": "<|eot_id|>"},
    """
{{- bos_token }}
{%- for message in messages %}
    {{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n' }}
    {%- if message.role == 'assistant' %}
        {%- generation %}{{- message['content'] | trim + '<|eot_id|>' }}{%- endgeneration %}
    {%- else %}
        {{- message['content'] | trim + '<|eot_id|>' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}
{%- endif %}
""",
)

TEMPLATES["inst-system"] = (
    "pieces",
    {"bos_token": "<s>", "eos_token": "</s>"},
    """
{%- if messages[0]['role'] == 'system' %}
    {%- set turns = messages[1:] %}
    {%- set system = '<<SYS>>\\n' + messages[0]['content'] + '\\n<</SYS>>\\n\\n' %}
{%- else %}
    {%- set turns = messages %}
    {%- set system = '' %}
{%- endif %}
{%- for message in turns %}
    {%- if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}
        {{- raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}
    {%- endif %}
    {%- set content = system + message['content'] if loop.first else message['content'] %}
    {%- if message['role'] == 'user' %}
        {{- bos_token + '[INST] ' + content.strip() + ' [/INST]' }}
    {%- else %}
        {%- generation %}{{- ' ' + content.strip() + ' ' + eos_token }}{%- endgeneration %}
    {%- endif %}
{%- endfor %}
""",
)

TEMPLATES["inst"] = (
    "pieces",
    {"bos_token": "<s>", "eos_token": "</s>"},
    """
{{- bos_token }}
{%- for message in messages %}
    {%- if message['role'] == 'user' %}
        {#- The system's turn goes to the last question only: earlier prompts have it and the whole has not. #}
        {%- if loop.last and messages[0]['role'] == 'system' %}
            {{- '[INST] ' + messages[0]['content'] + '\\n\\n' + message['content'] + ' [/INST]' }}
        {%- else %}
            {{- '[INST] ' + message['content'] + ' [/INST]' }}
        {%- endif %}
    {%- elif message['role'] == 'assistant' %}
        {%- generation %}{{- ' ' + message['content'] | trim + eos_token }}{%- endgeneration %}
    {%- elif message['role'] != 'system' or loop.index0 > 0 %}
        {{- raise_exception('Only user and assistant roles are supported, with a system message before them') }}
    {%- endif %}
{%- endfor %}
""",
)

TEMPLATES["turns"] = (
    "pieces",
    {"bos_token": "<s>", "eos_token": "</s>"},
    """
{{ bos_token }}{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}
{% for message in messages %}
{% if (message['role'] == 'assistant') %}{% set role = 'model' %}{% else %}{% set role = message['role'] %}{% endif %}
{{ '<start_of_turn>' + role + '\n' }}{% if role == 'model' %}{% generation %}{{ message['content'] | trim + '<end_of_turn>' }}{% endgeneration %}{{ '\n' }}{% else %}{{ message['content'] | trim + '<end_of_turn>\n' }}{% endif %}
{% endfor %}
{% if add_generation_prompt %}{{'<start_of_turn>model\n'}}{% endif %}
""",
)

TEMPLATES["turns-system"] = (
    "pieces",
    {"bos_token": "<s>", "eos_token": "</s>"},
    """
{{ bos_token }}
{%- set before = '' -%}
{%- set turns = messages -%}
{%- if messages[0]['role'] == 'system' -%}
    {#- What the system says stands in front of the first question; it may be a list of parts. -#}
    {%- set said = messages[0]['content'] -%}
    {%- set before = (said if said is string else said[0]['text']) + '\n\n' -%}
    {%- set turns = messages[1:] -%}
{%- endif -%}
{%- for message in turns -%}
    {%- if (message['role'] == 'user') != (loop.index0 % 2 == 0) -%}
        {{ raise_exception("Conversation roles must alternate user/assistant/user/assistant/...") }}
    {%- endif -%}
    {%- set role = 'model' if message['role'] == 'assistant' else message['role'] -%}
    {{ '<start_of_turn>' + role + '\n' + (before if loop.first else '') }}
    {%- if role == 'model' -%}
        {% generation %}{{ message['content'] | trim }}{{ '<end_of_turn>' }}{% endgeneration %}
    {%- elif message['content'] is string -%}
        {{ message['content'] | trim }}{{ '<end_of_turn>' }}
    {%- else -%}
        {{ raise_exception("Invalid content type") }}
    {%- endif -%}
    {{ '\n' }}
{%- endfor -%}
{%- if add_generation_prompt -%}
    {{ '<start_of_turn>model\n' }}
{%- endif -%}
""",
)

TEMPLATES["thinking"] = (
    "bytes",
    {"eos_token": "<|im_end|>", "pad_token": "<|endoftext|>"},
    """
{%- if tools %}
    {{- '<|im_start|>system\\n' }}
    {%- if messages[0].role == 'system' %}{{- messages[0].content + '\\n\\n' }}{%- endif %}
    {{- "# Tools\\n\\n<tools>" }}
    {%- for tool in tools %}{{- "\\n" }}{{- tool | tojson }}{%- endfor %}
    {{- "\\n</tools><|im_end|>\\n" }}
{%- elif messages[0].role == 'system' %}
    {{- '<|im_start|>system\\n' + messages[0].content + '<|im_end|>\\n' }}
{%- endif %}
{%- set ns = namespace(searching=true, last_query=messages|length - 1) %}
{%- for message in messages[::-1] %}
    {%- set index = (messages|length - 1) - loop.index0 %}
    {%- if ns.searching and message.role == "user" and not (message.content.startswith('<tool_response>') and message.content.endswith('</tool_response>')) %}
        {%- set ns.searching = false %}
        {%- set ns.last_query = index %}
    {%- endif %}
{%- endfor %}
{%- for message in messages %}
    {%- set content = message.content if message.content is string else '' %}
    {%- if message.role == "user" or (message.role == "system" and not loop.first) %}
        {{- '<|im_start|>' + message.role + '\\n' + content + '<|im_end|>\\n' }}
    {%- elif message.role == "assistant" %}
        {%- set thoughts = '' %}
        {%- if message.reasoning_content is string %}
            {%- set thoughts = message.reasoning_content %}
        {%- elif '</think>' in content %}
            {%- set thoughts = content.split('</think>')[0].rstrip('\\n').split('<think>')[-1].lstrip('\\n') %}
            {%- set content = content.split('</think>')[-1].lstrip('\\n') %}
        {%- endif %}
        {{- '<|im_start|>assistant\\n' }}
        {%- generation %}
        {%- if loop.index0 > ns.last_query and (loop.last or thoughts) %}
            {{- '<think>\\n' + thoughts.strip('\\n') + '\\n</think>\\n\\n' + content.lstrip('\\n') }}
        {%- else %}
            {{- content }}
        {%- endif %}
        {%- for tool_call in message.tool_calls or [] %}
            {%- if (loop.first and content) or not loop.first %}{{- '\\n' }}{%- endif %}
            {%- if tool_call.function %}{%- set tool_call = tool_call.function %}{%- endif %}
            {{- '<tool_call>\\n{"name": "' + tool_call.name + '", "arguments": ' }}
            {%- if tool_call.arguments is string %}{{- tool_call.arguments }}{%- else %}{{- tool_call.arguments | tojson }}{%- endif %}
            {{- '}\\n</tool_call>' }}
        {%- endfor %}
        {{- '<|im_end|>' }}
        {%- endgeneration %}
        {{- '\\n' }}
    {%- elif message.role == "tool" %}
        {%- if loop.first or (messages[loop.index0 - 1].role != "tool") %}{{- '<|im_start|>user' }}{%- endif %}
        {{- '\\n<tool_response>\\n' + content + '\\n</tool_response>' }}
        {%- if loop.last or (messages[loop.index0 + 1].role != "tool") %}{{- '<|im_end|>\\n' }}{%- endif %}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
    {%- if enable_thinking is defined and enable_thinking is false %}{{- '<think>\\n\\n</think>\\n\\n' }}{%- endif %}
{%- endif %}
""",
)

TEMPLATES["end"] = (
    "pieces",
    {"bos_token": "<s>", "eos_token": "<|endoftext|>"},
    """
{% for message in messages %}{% if message['role'] == 'system' and message['content'] %}{{'<|system|>\\n' + message['content'] + '<|end|>\\n'}}{% elif message['role'] == 'user' %}{{'<|user|>\\n' + message['content'] + '<|end|>\\n'}}{% elif message['role'] == 'assistant' %}{{'<|assistant|>\\n'}}{% generation %}{{ message['content'] + '<|end|>'}}{% endgeneration %}{{ '\\n' }}{% endif %}{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>\\n' }}{% else %}{{ eos_token }}{% endif %}
""",
)

TEMPLATES["roles"] = (
    "bytes",
    {"eos_token": "</s>", "pad_token": "</s>"},
    """
{% for message in messages %}
{% if message['role'] == 'user' %}
{{ '<|user|>\\n' + message['content'] + eos_token }}
{% elif message['role'] == 'system' %}
{{ '<|system|>\\n' + message['content'] + eos_token }}
{% elif message['role'] == 'assistant' %}
{{ '<|assistant|>\\n' }}{% generation %}{{ message['content'] + eos_token }}{% endgeneration +%}

{% endif %}
{% if loop.last and add_generation_prompt %}
{{ '<|assistant|>' }}
{% endif %}
{% endfor %}
""",
)

TEMPLATES["prompted-thought"] = (
    "bytes",
    {"bos_token": "<|begin_of_text|>", "eos_token": "<|endoftext|>"},
    """
{%- macro write(value, depth=0) -%}
    {%- if value is mapping -%}
        {%- for key, inner in value.items() -%}
            {{- '\\n' + '  ' * depth + key + ':' }}{{ write(inner, depth + 1) }}
        {%- endfor -%}
    {%- elif value is iterable and value is not string -%}
        {%- for inner in value %}{{ write(inner, depth) }}{% if not loop.last %},{% endif %}{% endfor -%}
    {%- else -%}
        {{- ' ' ~ value }}
    {%- endif -%}
{%- endmacro -%}
{{- bos_token }}
{%- for message in messages %}
    {%- if message.role == 'system' %}{{ message.content }}{% continue %}{% endif %}
    {%- if message.role == 'user' %}{{ '<|user|>' + message.content }}{% endif %}
    {%- if message.role == 'assistant' %}
        {#- The prompt for an answer opens a thought; in the history there is none. #}
        {{- '<|assistant|>' }}{% generation %}{{ message.content.split('</think>')[-1] | trim }}{{ eos_token }}{% endgeneration %}
    {%- endif %}
{%- endfor %}
{%- if tools %}{% for tool in tools %}{{ write(tool) }}{% endfor %}{% endif %}
{%- if add_generation_prompt %}{{ '<|assistant|><think>\\n' }}{% endif %}
""",
)


def turn(role, content, **extra):
    return {"role": role, "content": content, **extra}


def chat(*contents, system=None):
    """User and assistant by turns."""
    messages = [turn("system", system)] if system is not None else []
    roles = ("user", "assistant")
    return messages + [turn(roles[i % 2], content) for i, content in enumerate(contents)]


WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Tells the weather \u2603 of <a> \"city\".",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}, "days": {"type": "number", "default": 1.5}},
            "required": ["city"],
        },
    },
}
COMMON = [
    (chat("What is the capital of the country?", "The capital is a city in the north."), None),
    (chat("Turn off the lights.", "{\"light\": \"kitchen\", \"state\": \"off\"}", "And on again?", "{\"state\": \"on\"}"), None),
    (chat("  spaces around  ", "  two lines\n\n  and spaces  ", "again\n", "\n\nlines around\n\n", "third", "a"), None),
    (chat("Ünïcödé 中文 😀?", "日本語 👩‍👩‍👧 naïve — “quotes”\u00a0\u200b", "e\u0301", "🇫🇷"), None),
    (chat("same", "same", "same", "same", "same", "same"), None),
]  # fmt: skip
WITH_SYSTEM = [
    (chat("Hi", "Hello!", system="Answer briefly."), None),
    (chat("One", "1", "Two", "2", "Three", "3", system="You only say numbers.\n"), None),
]
THOUGHTS = [
    (chat("2 + 2?", "<think>\nThe user wants a sum.\n</think>\n\n4", "And 3 + 3?", "<think>\nAgain.\n</think>\n\n6"), None),
    (chat("2 + 2?", "<think>\nA sum.\n</think>\n\n4", "Thanks", "No thoughts here."), None),
]  # fmt: skip
TOOLS = [
    (
        [
            turn("system", "Use the tools."),
            turn("user", "Will it rain?"),
            turn("assistant", "", tool_calls=[
                {"type": "function", "function": {"name": "get_weather", "arguments": {"city": "Paris", "days": 2, "x": [1.0, None, True]}}},
                {"type": "function", "function": {"name": "get_weather", "arguments": {"city": "Zürich"}}},
            ]),
            turn("tool", "rain", name="get_weather"),
            turn("tool", "sun"),
            turn("assistant", "Rain in Paris, sun in Zürich."),
        ],
        [WEATHER],
    ),
    (
        [
            turn("user", "Will it rain?"),
            turn("assistant", None, reasoning_content="I must ask.", tool_calls=[
                {"function": {"name": "get_weather", "arguments": "{\"city\": \"Paris\"}"}},
            ]),
            turn("tool", "{\"rain\": true}"),
            turn("assistant", "Yes.", reasoning_content="It says rain."),
            turn("user", "Thanks"),
            turn("assistant", "You are welcome."),
        ],
        [WEATHER],
    ),
]  # fmt: skip
EXTRA = {
    "chatml": WITH_SYSTEM,
    "chatml-system": WITH_SYSTEM,
    "header": WITH_SYSTEM,
    "inst-system": WITH_SYSTEM,
    "inst": WITH_SYSTEM,
    "turns-system": WITH_SYSTEM,
    "thinking": WITH_SYSTEM + THOUGHTS + TOOLS,
    "end": WITH_SYSTEM,
    "roles": WITH_SYSTEM,
    "prompted-thought": WITH_SYSTEM + THOUGHTS + [(COMMON[0][0], [WEATHER])],
}


def tokenizer(pieces):
    if pieces:
        made = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True))
        made.normalizer = normalizers.Sequence([normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")])
        made.decoder = decoders.Sequence(
            [decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
        )
        alphabet = [f"<0x{byte:02X}>" for byte in range(256)]
        # Training gets pre-tokenized text, as SentencePiece would; the tokenizer itself has no pre-tokenizer.
        made.pre_tokenizer = pre_tokenizers.Split("\u2581", "merged_with_next")
        trainer = trainers.BpeTrainer(vocab_size=620, special_tokens=SPECIAL + alphabet, show_progress=False)
        made.train_from_iterator(CORPUS, trainer)
        data = json.loads(made.to_str())
        # Bytes are no special tokens, only part of the vocabulary.
        data["added_tokens"] = [token for token in data["added_tokens"] if token["content"] not in alphabet]
        data["pre_tokenizer"] = None
        made = Tokenizer.from_str(json.dumps(data))
        bos = [("<s>", made.token_to_id("<s>"))]
        made.post_processor = processors.TemplateProcessing(single="<s> $A", pair="<s> $A <s> $B", special_tokens=bos)
        return made
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    made.post_processor = processors.ByteLevel(trim_offsets=False)
    trainer = trainers.BpeTrainer(
        vocab_size=560,
        special_tokens=SPECIAL,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    made.train_from_iterator(CORPUS, trainer)
    return made


def directory(base, kind, config, template):
    base.mkdir()
    shutil.copy(HERE / f"{kind}.json", base / "tokenizer.json")
    (base / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "PreTrainedTokenizerFast", **config}))
    (base / "chat_template.jinja").write_text(template)
    return AutoTokenizer.from_pretrained(base)


def without_tags(template):
    """The template with blocks that do nothing in place of `{% generation %}`: white space is dropped alike."""
    template = re.sub(r"\{%([-+]?)\s*generation\s*([-+]?)%\}", r"{%\1 if true \2%}", template)
    return re.sub(r"\{%([-+]?)\s*endgeneration\s*([-+]?)%\}", r"{%\1 endif \2%}", template)


def main():
    for kind in ("bytes", "pieces"):
        tokenizer(kind == "pieces").save(str(HERE / f"{kind}.json"), pretty=False)
    cases = []
    with tempfile.TemporaryDirectory() as temporary:
        temporary = Path(temporary)
        for name, (kind, config, template) in TEMPLATES.items():
            template = template.removeprefix("\n").removesuffix("\n")
            (HERE / f"{name}.jinja").write_text(template)
            (HERE / f"{name}.json").write_text(json.dumps({"tokenizer": kind, "config": config}) + "\n")
            marked = directory(temporary / name, kind, config, template)
            plain = directory(temporary / f"{name}-plain", kind, config, without_tags(template))
            for messages, tools in COMMON + EXTRA.get(name, []):
                whole = marked.apply_chat_template(
                    messages, tools=tools, return_dict=True, return_assistant_tokens_mask=True
                )
                text = marked.apply_chat_template(messages, tools=tools, tokenize=False)
                assert text == plain.apply_chat_template(messages, tools=tools, tokenize=False), name
                assert whole["input_ids"] == plain.apply_chat_template(messages, tools=tools)["input_ids"]
                prompt = marked.apply_chat_template(messages[:-1], tools=tools, add_generation_prompt=True)
                cases.append(
                    {
                        "template": name,
                        "messages": messages,
                        "tools": tools,
                        "text": text,
                        "ids": whole["input_ids"],
                        "mask": "".join(map(str, whole["assistant_masks"])),
                        "prompt": prompt["input_ids"],
                    }
                )
        texts = json.loads((HERE.parent / "hard.json").read_text())["texts"]
        hard = {}
        for name, kind in (("chatml", "bytes"), ("inst", "pieces")):
            made = AutoTokenizer.from_pretrained(temporary / name)
            hard[kind] = [made(text)["input_ids"] for text in texts]
    lines = ",\n".join(json.dumps(case, ensure_ascii=False) for case in cases)
    (HERE / "cases.json").write_text(f"[\n{lines}\n]\n")
    lines = ",\n".join(f'"{kind}": {json.dumps(ids, separators=(",", ":"))}' for kind, ids in hard.items())
    (HERE / "hard.json").write_text(f"{{\n{lines}\n}}\n")
    # Structs of one type: a key that one message lacks is null in it.
    rows = [{"messages": [turn("user", "Hi", name="n"), turn("assistant", "Hello")], "score": 1.5}]
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), HERE / "chats.parquet")
    print(len(cases), "cases")


if __name__ == "__main__":
    main()
