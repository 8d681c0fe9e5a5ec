"""CSV: a first line of names, then a line for each example."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Literal

import numpy as np

from fifomark.marking.data.source import Array, BadData, Values

_CHUNK = 8192  # lines that are held as Python's own strings, ten times as large as numbers


class CsvTable:
    """A column is whole numbers, or numbers, or, where a value of it is neither, text."""

    noun: Literal["column"] = "column"

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lines: Array = np.zeros(0, np.int64)  # on which each example stands
        self.names = next(self._rows(), (0, []))[1]
        if len(self.names) == 1 and (mark := next((mark for mark in ";\t" if mark in self.names[0]), None)):
            raise BadData("data.path", f"has {mark!r} between its columns", "put commas there")
        for name in self.names:
            if self.names.count(name) > 1:
                raise BadData("data.path", f"has two columns {name!r}", "give each a name of its own, in the first line")

    def read(self, names: Sequence[str]) -> dict[str, Values]:
        columns = self._read(names, text=())
        if late := [name for name in names if name not in columns]:
            columns |= self._read(late, text=late)  # from the file again: 01 is a name, and would be back as 1
        return dict(columns)

    def at(self, name: str, row: int) -> str:
        return f"line {self._lines[row]}, column {name!r}"

    def _read(self, names: Sequence[str], text: Sequence[str]) -> dict[str, Array]:
        """The columns, `text` as it stands; without those that began with numbers and turned out to be text."""
        chunks: dict[str, list[Array]] = {name: [] for name in names}
        lines: list[Array] = []
        rows = self._rows()
        next(rows, None)
        while some := list(islice(rows, _CHUNK)):
            lines.append(np.array([line for line, _ in some]))
            columns = dict(zip(self.names, zip(*(row for _, row in some), strict=True), strict=True))
            for name, parts in list(chunks.items()):
                as_text = name in text or (parts and parts[0].dtype.kind == "U")
                column = None if as_text else _numbers(columns[name])
                if column is not None:
                    parts.append(column)
                elif as_text or not parts:
                    parts.append(np.array(columns[name]))
                else:
                    del chunks[name]
        self._lines = np.concatenate(lines) if lines else self._lines
        return {name: np.concatenate(parts) if parts else np.zeros(0) for name, parts in chunks.items()}

    def _rows(self) -> Iterator[tuple[int, list[str]]]:
        """Each row that is not empty, with the line it ends on; all as long as the first."""
        try:
            with self._path.open(newline="", encoding="utf-8-sig") as file:  # spreadsheets begin UTF-8 with a mark
                reader = csv.reader(file, strict=True)
                wanted = 0
                for row in reader:
                    wanted = wanted or len(row)
                    if row and len(row) != wanted:
                        raise BadData("data.path", f"line {reader.line_num} has {len(row)} columns, the first line has {wanted}")
                    if row:
                        yield reader.line_num, row
        except (OSError, UnicodeDecodeError, csv.Error) as e:
            raise BadData("data.path", f"cannot be read: {e}", "write it as CSV, in UTF-8") from e


def _numbers(texts: Sequence[str]) -> Array | None:
    for dtype in (np.int64, np.float64):
        try:
            return np.array(texts, dtype)
        except (ValueError, OverflowError):
            continue
    return None
