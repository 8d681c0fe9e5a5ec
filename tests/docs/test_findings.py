"""docs/findings.md against the catalogue: what the page says of a code is what the program says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from fifomark.core.catalogue import RULES

PAGE = (Path(__file__).parents[2] / "docs/findings.md").read_text()
PARTS = ("What it means", "How it arises honestly", "How it is abused", "What to do")
ENTRY = re.compile(r"^### (?P<code>FM\d{3}): (?P<title>.+)\n\nUsual level: (?P<level>\w+)\n\n(?P<body>(?:(?!^#).*\n?)*)", re.MULTILINE)
ENTRIES = {entry["code"]: entry for entry in ENTRY.finditer(PAGE)}


def parts(code: str) -> dict[str, str]:
    """The text of each part of an entry, on one line."""
    split = re.split(r"^\*\*(.+)\.\*\* ", ENTRIES[code]["body"], flags=re.MULTILINE)
    return {name: " ".join(text.split()) for name, text in zip(split[1::2], split[2::2], strict=True)}


def test_there_is_one_entry_for_each_code_in_the_order_of_the_catalogue() -> None:
    assert [entry["code"] for entry in ENTRY.finditer(PAGE)] == list(RULES)
    assert re.findall(r"^###+ .*", PAGE, re.MULTILINE) == [f"### {code}: {rule.title}" for code, rule in RULES.items()]


@pytest.mark.parametrize("code", RULES)
def test_an_entry_says_what_the_catalogue_says_and_has_its_four_parts(code: str) -> None:
    rule, said = RULES[code], parts(code)
    assert (ENTRIES[code]["title"], ENTRIES[code]["level"]) == (rule.title, rule.level)
    assert tuple(said) == PARTS
    assert all(re.fullmatch(r".{8,}\.", text) for text in said.values()), said
    assert said["What to do"].startswith(rule.advice)


def test_every_level_is_explained() -> None:
    assert re.findall(r"^\| (\w+) \|.*\| (\w+)", PAGE, re.MULTILINE)[1:] == [
        ("note", "clean"),
        ("warning", "flagged"),
        ("invalid", "invalid"),
        ("unsafe", "unsafe"),
    ]
