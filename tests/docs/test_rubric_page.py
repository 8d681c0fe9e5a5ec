"""docs/rubric.md against the schema: every key with its type and default, every value that is allowed, every metric."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

import msgspec
import pytest

from fifomark.families import registry
from fifomark.marking.metric_names import BUILT_IN, SHARE, TORCHMETRICS, Bounds, bounds
from fifomark.marking.schema import ModelRules, Rubric, TaskType
from fifomark.marking.terms import CHECKS

DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "rubric.md").read_text()
# The text below each heading, by the names in it; before the first heading stands the table of tables.
PARTS = re.split(r"^###? (`.+)$", PAGE, flags=re.MULTILINE)
SECTIONS = {"": PARTS[0]} | {
    name: text for names, text in zip(PARTS[1::2], PARTS[2::2], strict=True) for name in re.findall(r"`(.+?)`", names)
}
ROW = re.compile(r"^\| `(?P<key>\w+)` \| (?P<type>.+?) \| (?P<default>.+?) \| (?P<meaning>.+?) \|$", re.MULTILINE)
WORDS: dict[Any, str] = {
    int: "whole number",
    float: "number",
    bool: "true or false",
    str: "text",
    dict: "table",
    tuple: "list",
    datetime: "date",
}
# Defaults that the page says in words.
IN_WORDS = {
    ("", "metric"): "what is usual for the task",
    ("", "criterion"): "what is usual for the task",
    ("[[metric]]", "higher_is_better"): "what is known of `kind`",
    ("[submission]", "accept"): "all of them",
    ("[attempts]", "counts"): "all of them",
}

Struct = type[msgspec.Struct]


def branches(type_: Any) -> Iterator[Any]:
    """A type taken apart: the parts of unions, what is annotated, and what None leaves."""
    if get_origin(type_) is Annotated:
        yield from branches(get_args(type_)[0])
    elif get_origin(type_) in (Union, UnionType):
        for part in get_args(type_):
            yield from branches(part)
    elif type_ is not type(None):
        yield type_


def inner(type_: Any) -> Iterator[Any]:
    """`type_`, and what it is a list of."""
    for branch in branches(type_):
        yield branch
        if get_origin(branch) is tuple:
            yield from inner(get_args(branch)[0])


def is_struct(type_: Any) -> bool:
    return isinstance(type_, type) and issubclass(type_, msgspec.Struct)


def fields(struct: Struct) -> dict[str, tuple[Any, Any]]:
    """(type, default) by the key that stands in the file. [model.FAMILY] is no key, but a table for each family."""
    hints = get_type_hints(struct, include_extras=True)
    found = {}
    for field in msgspec.structs.fields(struct):
        made = field.default if field.default_factory is msgspec.NODEFAULT else field.default_factory()
        found[field.encode_name] = (hints[field.name], made)
    if struct is ModelRules:
        del found["declared"]
    return found


def tables(struct: Struct = Rubric, path: str = "") -> Iterator[tuple[str, Struct]]:
    """Every record of a rubric, by the heading that it stands under."""
    yield heading(struct, path), struct
    for key, (type_, _) in fields(struct).items():
        for branch in branches(type_):
            here = f"{path}.{key}".lstrip(".")
            if is_struct(branch):
                yield from tables(branch, here)
            elif get_origin(branch) is tuple and is_struct(get_args(branch)[0]):
                yield from tables(get_args(branch)[0], f"[{here}]")


def heading(struct: Struct, path: str) -> str:
    config = struct.__struct_config__
    if config.tag_field:
        return f'scoring = {{ kind = "{config.tag}" }}'
    return f"[{path}]" if path else ""


TABLES = dict(tables())


def written(value: Any) -> str:
    if value is msgspec.NODEFAULT:
        return "required"
    match value:
        case msgspec.Struct():
            return "as below"
        case bool():
            return f"`{str(value).lower()}`"
        case str():
            return f'`"{value}"`'
        case float():
            return f"`{value:g}`"
        case tuple():
            return f"`[{', '.join(written(part).strip('`') for part in value)}]`"
        case None:
            return "none"
    return f"`{value}`"


@pytest.mark.parametrize("name", TABLES)
def test_every_key_is_listed_with_its_type_and_its_default(name: str) -> None:
    rows = {row["key"]: row for row in ROW.finditer(SECTIONS[name])}
    keys = fields(TABLES[name])
    assert set(keys) == set(rows) - ({"more"} if name == "[[input.more]]" else set())
    for key, (type_, default) in keys.items():
        words = {WORDS.get(get_origin(branch) or branch, "table" if is_struct(branch) else "") for branch in branches(type_)}
        assert all(word in rows[key]["type"] for word in words), key
        assert rows[key]["default"] == IN_WORDS.get((name, key), written(default)), key


@pytest.mark.parametrize("name", TABLES)
def test_every_value_that_is_allowed_is_named(name: str) -> None:
    rows = {row["key"]: row for row in ROW.finditer(SECTIONS[name])}
    for key, (type_, _) in fields(TABLES[name]).items():
        literals = [value for part in inner(type_) if get_origin(part) is Literal for value in get_args(part)]
        text = SECTIONS[name] if key == "type" else rows[key]["type"]
        assert re.findall(r'(?<=`)"[^`]*"(?=`)', text) == [f'"{value}"' for value in literals] or (
            key == "type" and all(f'| `"{value}"` |' in text for value in literals)
        ), key


def test_every_way_of_scoring_every_check_and_every_family_is_named() -> None:
    assert {name for name in SECTIONS if name.startswith("scoring")} == {name for name in TABLES if name.startswith("scoring")}
    check = next(row for row in ROW.finditer(SECTIONS["[[criterion]]"]) if row["key"] == "check")
    assert set(re.findall(r'`"(\w+)"`', check["meaning"])) == set(CHECKS)
    families = next(row for row in ROW.finditer(SECTIONS["[model]"]) if row["key"] == "families")
    assert set(re.findall(r"`(\w+)`", families["meaning"])) == set(registry.FAMILIES)


def test_every_metric_is_listed_with_its_task() -> None:
    lists = {
        task: text
        for names, text in re.findall(r"^- ((?:`\"[\w-]+\"`(?:, )?)+): ((?:.|\n(?!- |\n))+)", SECTIONS["[[metric]]"], re.MULTILINE)
        for task in re.findall(r'"([\w-]+)"', names)
    }
    assert set(lists) == set(get_args(TaskType))
    for task, kinds in TORCHMETRICS.items():
        shared = lists[task] if task != "token-classification" else lists[task].partition(";")[0]
        assert set(re.findall(r"`(\w+)`", shared)) == set(kinds), task
    assert all(f"`{kind}`" in SECTIONS["[[metric]]"] for kind in BUILT_IN)


def test_the_bounds_of_metrics_are_those_that_are_known() -> None:
    rows = re.findall(r"^\| (.*`\w+`.*) \| ?(-?\d|) \| ?(-?\d|) \|$", SECTIONS["[[metric]]"], re.MULTILINE)
    said = {kind: Bounds(*(float(end) if end else None for end in ends)) for names, *ends in rows for kind in re.findall(r"`(\w+)`", names)}
    shares = {kind for kinds in TORCHMETRICS.values() for kind in kinds if bounds(kind) == SHARE}
    errors = {kind for kind in TORCHMETRICS["regression"] if bounds(kind) == Bounds(0, None)}
    others = {"BinaryMatthewsCorrCoef", "BinaryCohenKappa", "MultilabelMatthewsCorrCoef"}  # "and those of binary and multilabel tasks"
    assert all(bounds(kind) == within for kind, within in said.items())
    assert {kind for kinds in TORCHMETRICS.values() for kind in kinds} == set(said) | shares | errors | others


def test_every_link_leads_somewhere() -> None:
    for file, anchor in re.findall(r"\]\(([\w./-]+\.\w+)(?:#([\w-]+))?\)", PAGE):
        text = (DOCS / file).read_text()
        anchors = {
            re.sub(r"[^\w\s-]", "", title).strip().lower().replace(" ", "-") for title in re.findall(r"^#+ (.+)$", text, re.MULTILINE)
        }
        assert not anchor or anchor in anchors, (file, anchor)


@pytest.mark.parametrize("page", ["../README.md", "models.md", "data.md", "grading.md"])
def test_the_pages_about_rubrics_name_it(page: str) -> None:
    assert "rubric.md" in (DOCS / page).read_text()
