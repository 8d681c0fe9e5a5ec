"""The page of the families lists what may be declared as the code has it."""

from __future__ import annotations

import re
from pathlib import Path

from fifomark.families import registry
from fifomark.families.family import REQUIRED, Fact

PAGE = Path(__file__).parents[2] / "docs" / "families.md"
ROW = re.compile(r"^\| (\w+) \| `(\w+)` \| (.+) \| (.+) \| (.+) \|$", re.MULTILINE)


def written(value: object) -> str:
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


def facts() -> dict[tuple[str, str], Fact]:
    return {(name, key): fact for name, family in registry.FAMILIES.items() for key, fact in family.facts.items()}


def test_every_fact_is_listed_with_its_values_and_what_holds_without_it() -> None:
    rows = {(family, key): rest for family, key, *rest in ROW.findall(PAGE.read_text())}
    assert list(rows) == list(facts())
    for place, fact in facts().items():
        values, default, meaning = rows[place]
        assert not fact.allowed or values == ", ".join(map(written, fact.allowed)), place
        assert default == ("required" if fact.default is REQUIRED else written(fact.default)), place
        assert meaning == fact.meaning
