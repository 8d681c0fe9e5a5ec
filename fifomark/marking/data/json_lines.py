"""JSON Lines: an object on each line, its values numbers, text, or lists of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np

from fifomark.marking.data.source import Array, BadData, Values, nearest, together


class JsonLines:
    noun: Literal["column"] = "column"

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lines: Array = np.zeros(0, np.int64)
        self.names = tuple(next(self._objects(), (0, {}))[1])

    def read(self, names: Sequence[str]) -> dict[str, Values]:
        columns: dict[str, list[Any]] = {name: [] for name in names}
        lines = []
        for line, row in self._objects():
            lines.append(line)
            for name, column in columns.items():
                if name not in row:
                    raise BadData("data.path", f"line {line} has no {name!r}", nearest(name, row))
                column.append(_value(row[name], f"line {line}, column {name!r}"))
        self._lines = np.array(lines, np.int64)
        return {name: self._column(name, column) for name, column in columns.items()}

    def at(self, name: str, row: int) -> str:
        return f"line {self._lines[row]}, column {name!r}"

    def _column(self, name: str, column: list[Any]) -> Values:
        kinds = [type(value) if isinstance(value, (str, np.ndarray)) else float for value in column]
        for row, kind in enumerate(kinds):
            if kind is not kinds[0]:
                words = {str: "text", float: "a number", np.ndarray: "a list"}
                raise BadData("data.path", f"{self.at(name, row)} is {words[kind]}, {self.at(name, 0)} is {words[kinds[0]]}")
        if column and isinstance(column[0], np.ndarray):
            return together(column, partial(self.at, name))
        return np.array(column)

    def _objects(self) -> Iterator[tuple[int, dict[str, Any]]]:
        try:
            with self._path.open("rb") as file:
                for number, line in enumerate(file, 1):
                    if not line.strip():
                        continue
                    try:
                        row = msgspec.json.decode(line, type=dict[str, Any])
                    except (msgspec.DecodeError, UnicodeDecodeError) as e:
                        raise BadData("data.path", f"line {number} is no JSON object: {e}") from e
                    yield number, row
        except OSError as e:
            raise BadData("data.path", f"cannot be read: {e}") from e


def _value(value: Any, at: str) -> Any:
    """A list as an array: a fifth of the memory."""
    if isinstance(value, list):
        try:
            array = np.array(value)
        except ValueError as e:
            raise BadData("data.path", f"{at} holds lists of different length") from e
        if array.dtype.kind in "biufU":
            return array
    elif isinstance(value, (str, int, float)):
        return value
    raise BadData("data.path", f"{at} is neither number nor text nor a list of them", "null and objects are no data")
