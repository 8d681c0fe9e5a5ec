"""Reading our own TOML files into records, with messages that name the file, the key, what was found and what was meant."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from types import UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import msgspec

from fifomark.core.errors import ConfigError
from fifomark.core.nearest import nearest
from fifomark.core.wording import problem

T = TypeVar("T")
_AT = re.compile(r"^(?P<what>.*?)(?: - at `(?P<path>[^`]*)`)?$", re.DOTALL)
_UNKNOWN = re.compile(r"Object contains unknown field `(?P<key>.*)`$", re.DOTALL)
_MISSING = re.compile(r"Object missing required field `(?P<key>.*)`$")


def read_toml(path: Path, type_: type[T]) -> T:
    """The file at `path` as a `type_`; ConfigError says what is wrong and where, also when it is missing or no TOML."""
    try:
        if not path.is_file() and path.exists():
            raise ConfigError(path, "", "is no regular file")
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as e:
        raise ConfigError(path, "", f"cannot be read: {e.strerror}") from e
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as e:
        raise ConfigError(path, "", f"is not TOML: {e}") from e
    return convert(table, type_, path)


def convert(table: object, type_: type[T], file: object) -> T:
    """`table` (from TOML) as a `type_`, strictly."""
    try:
        return msgspec.convert(table, type_, strict=True)
    except msgspec.ValidationError as e:
        raise _explained(str(e), table, type_, file) from e


def _explained(error: str, table: object, type_: type[Any], file: object) -> ConfigError:
    match = _AT.match(error)
    assert match is not None
    what, path = match["what"], (match["path"] or "$")
    steps = [step for step in re.split(r"\.|(?=\[)", path.removeprefix("$")) if step]
    key = ".".join(steps).replace(".[", "[")
    if unknown := _UNKNOWN.match(what):
        known = _fields_at(type_, steps)
        near = nearest(unknown["key"], known)
        hint = f"did you mean {near!r}?" if near else f"known here: {', '.join(sorted(known))}"
        return ConfigError(file, ".".join(filter(None, [key, unknown["key"]])), "unknown key", hint)
    if missing := _MISSING.match(what):
        return ConfigError(file, ".".join(filter(None, [key, missing["key"]])), "is missing")
    found = _value_at(table, steps)
    allowed = _choices_at(type_, steps)
    near = nearest(str(found), allowed)
    hint = (f"did you mean {near!r}? " if near else "") + (f"allowed: {', '.join(allowed)}" if allowed else "")
    if "timezone component" in what:
        hint = "say in which zone: 2026-12-01T23:59:00Z, or +01:00 in place of Z"
    return ConfigError(file, key, problem(what, found), hint.strip())


def _value_at(table: object, steps: list[str]) -> object:
    for step in steps:
        if isinstance(table, Mapping):
            table = table.get(step, "nothing")
        elif isinstance(table, list) and step.startswith("["):
            index = step.strip("[]")
            if not index.isdecimal():
                return table  # msgspec says `[...]` for "one of these": show them all
            table = table[int(index)]
    return table


def _branches(type_: object) -> list[object]:
    """`X | None` and the like, taken apart; a plain type is its own only branch."""
    return [branch for part in get_args(type_) for branch in _branches(part)] if get_origin(type_) in (Union, UnionType) else [type_]


def _types_at(type_: object, steps: list[str]) -> list[object]:
    reached = _branches(type_)
    for step in steps:
        ahead: list[object] = []
        for candidate in reached:
            if step.startswith("["):
                ahead += (
                    [b for arg in get_args(candidate)[-1:] or () for b in _branches(arg)]
                    if get_origin(candidate) is dict
                    else [b for arg in get_args(candidate)[:1] for b in _branches(arg)]
                )
            elif isinstance(candidate, type) and issubclass(candidate, msgspec.Struct):
                by_key = dict(zip(candidate.__struct_encode_fields__, candidate.__struct_fields__, strict=True))
                if step in by_key:
                    ahead += _branches(get_type_hints(candidate)[by_key[step]])
                elif step == candidate.__struct_config__.tag_field:
                    ahead.append(Literal[candidate.__struct_config__.tag])
        reached = ahead
    return reached


def _fields_at(type_: object, steps: list[str]) -> list[str]:
    return [
        field
        for candidate in _types_at(type_, steps)
        if isinstance(candidate, type) and issubclass(candidate, msgspec.Struct)
        for field in candidate.__struct_encode_fields__
    ]


def _choices_at(type_: object, steps: list[str]) -> list[str]:
    """The values of the Literals and enums that may stand at `steps`."""
    choices: list[str] = []
    for candidate in _types_at(type_, steps):
        if isinstance(candidate, type) and hasattr(candidate, "__members__"):
            choices += [str(member.value) for member in candidate.__members__.values()]
        elif str(get_origin(candidate)) == "typing.Literal":
            choices += [str(value) for value in get_args(candidate)]
    return choices
