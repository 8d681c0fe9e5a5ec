"""What msgspec says of a value, in the words of whoever wrote the file: "expected a whole number, found text 'abc'"."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import date, time

_EXPECTED = re.compile(r"Expected `(?P<types>[^`]*)`(?P<bounds>.*?)(?:, got .*)?$", re.DOTALL)
_WORDS = {
    "int": "a whole number",
    "float": "a number",
    "str": "text",
    "bool": "true or false",
    "array": "a list",
    "object": "a table",
    "datetime": "a date with a time",
}
_BOUNDS = (
    (re.compile(r" of length >= 1$"), " that is not empty"),
    (re.compile(r" of length >= (?P<n>\S+)$"), " of {n} or more"),
    (re.compile(r" of length <= (?P<n>\S+)$"), " of at most {n}"),
    (re.compile(r" of length (?P<n>\d+)$"), " of {n}"),
    (re.compile(r" >= (?P<n>\S+)$"), " of at least {n}"),
    (re.compile(r" > (?P<n>\S+)$"), " above {n}"),
    (re.compile(r" <= (?P<n>\S+)$"), " of at most {n}"),
    (re.compile(r" < (?P<n>\S+)$"), " below {n}"),
    (re.compile(r" with a timezone component$"), " and its zone"),
)


def problem(error: str, value: object) -> str:
    """What is wrong with `value`, of which msgspec says `error` (without the place)."""
    if error.startswith(("Invalid enum value", "Invalid value")):
        return f"{_brief(value)} is not allowed"
    if error.startswith("Invalid RFC3339"):
        return f"expected a date with a time, found {found(value)}"
    if (match := _EXPECTED.match(error)) is None:
        return f"{error[:1].lower()}{error[1:]}, found {found(value)}"
    types = [name for name in match["types"].split(" | ") if name != "null"]  # TOML has no null: who wants none leaves the key out
    return f"expected {' or '.join(_WORDS.get(name, name) for name in types)}{_bounds(match['bounds'])}, found {found(value)}"


def found(value: object) -> str:
    """A value of TOML with its kind: text 'abc', a list [1, 2], 3."""
    match value:
        case bool():
            return str(value).lower()
        case date() | time():
            return str(value)
        case str():
            return f"text {_brief(value)}"
        case list():
            return f"a list {_brief(value)}"
        case Mapping():
            return f"a table {_brief(value)}"
    return _brief(value)


def _brief(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:79] + "…"


def _bounds(said: str) -> str:
    for pattern, words in _BOUNDS:
        if match := pattern.match(said):
            return words.format(n=match.groupdict().get("n", "").removesuffix(".0"))
    return said
