"""Holds the rows of smart-home against hassil, the recogniser that the templates are written for.

    pip install hassil==3.10.0
    pip download --no-deps home-assistant-intents==2026.10.27
    python recognise.py home_assistant_intents-2026.10.27-py3-none-any.whl train.jsonl test.jsonl

The areas, floors, names and free words are read from the recipe's source, and are all that hassil may take for such. Prints the
rows in which it does not find our answer (none), and those in which it finds another one too (6, all in train).
"""

import json
import re
import sys
import zipfile
from pathlib import Path

from hassil import Intents, recognize_all
from hassil.intents import TextSlotList

SOURCE = Path(__file__).parents[2] / "crates/hub/src/recipes/smart_home/names.rs"
# Stands for the area that the house knows, which is not in our answers.
HERE = "HERE"


def strings(text):
    return re.findall(r'"([^"]*)"', text)


def lists():
    source = SOURCE.read_text()
    plain = re.findall(r"const (\w+): &\[&str\] = &\[(.*?)\];", source, re.S)
    constants = {name: strings(body) for name, body in plain}

    def table(name):
        body = re.search(rf"const {name}: .*? = &\[(.*?)\n\];", source, re.S).group(1)
        rows = re.findall(r'\(\s*"(\w+)",\s*(?:&\[(.*?)\]|([A-Z_]+)),?\s*\)', body, re.S)
        return {key: strings(body) or constants[constant] for key, body, constant in rows}

    names = [(name, name, {"domain": domain}) for domain, names in table("NAMES").items() for name in names]
    found = {key: TextSlotList.from_strings(words, name=key) for key, words in table("WILDCARDS").items()}
    found["area"] = TextSlotList.from_strings(constants["AREAS"], name="area")
    found["floor"] = TextSlotList.from_strings(constants["FLOORS"], name="floor")
    found["name"] = TextSlotList.from_tuples(names, name="name")
    return found


def plain(value):
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value.strip() if isinstance(value, str) else value


def main(wheel, *files):
    grammar = json.loads(zipfile.ZipFile(wheel).read("home_assistant_intents/data/en.json"))
    intents, slot_lists = Intents.from_dict(grammar), lists()
    for file in files:
        rows = [json.loads(line) for line in Path(file).read_text().splitlines()]
        missed = ambiguous = 0
        for row in rows:
            found = []
            for result in recognize_all(row["prompt"], intents, slot_lists=slot_lists, intent_context={"area": HERE}):
                slots = {name: plain(entity.value) for name, entity in result.entities.items() if entity.value != HERE}
                found.append({"intent": result.intent.name, **slots})
            ours = json.loads(row["completion"])
            if ours not in found:
                missed += 1
                print("not found:", row)
            elif any(other != ours for other in found):
                ambiguous += 1
                print("another reading:", row)
        print(f"{file}: {len(rows)} rows, {missed} not found, {ambiguous} with another reading")


if __name__ == "__main__":
    main(*sys.argv[1:])
