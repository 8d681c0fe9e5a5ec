"""Parquet, through pyarrow: columns of numbers, text, or lists of them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np

from fifomark.marking.data.source import EXTRA, Array, BadData, Values, together


class Parquet:
    noun: Literal["column"] = "column"

    def __init__(self, path: Path) -> None:
        try:
            import pyarrow as pa
            import pyarrow.parquet
        except ImportError as e:
            raise BadData("data.format", "needs the library pyarrow, which is not installed", EXTRA) from e
        self._path, self._pa = path, pa
        try:
            self.names = tuple(pyarrow.parquet.read_schema(path).names)
        except (OSError, pa.ArrowException) as e:
            raise BadData("data.path", f"cannot be read as Parquet: {e}") from e

    def read(self, names: Sequence[str]) -> dict[str, Values]:
        try:
            # No threads: they would outlive the reading, in a process that forks. As a file, so that no folder name becomes a column.
            with self._pa.parquet.ParquetFile(self._path) as file:
                table = file.read(columns=list(names), use_threads=False)
            return {name: self._column(name, table.column(name).combine_chunks()) for name in names}
        except (OSError, KeyError, self._pa.ArrowException) as e:
            raise BadData("data.path", f"cannot be read as Parquet: {e}") from e

    def at(self, name: str, row: int) -> str:
        return f"row {row} (from 0), column {name!r}"

    def _column(self, name: str, column: Any) -> Values:
        types = self._pa.types
        if not len(column):
            return np.zeros(0)
        if isinstance(column, self._pa.ChunkedArray):  # combine_chunks, where they are more than fit into one
            column = self._pa.concat_arrays(column.chunks)
        if types.is_dictionary(column.type):
            column = column.dictionary_decode()
        if column.null_count:
            row = int(np.argmax(column.is_null().to_numpy(zero_copy_only=False)))
            raise BadData("data.path", f"{self.at(name, row)} is empty", "leave the row out, or fill it")
        if types.is_list(column.type) or types.is_large_list(column.type) or types.is_fixed_size_list(column.type):
            return self._lists(name, column)
        if types.is_string(column.type) or types.is_large_string(column.type):
            return np.array(column.to_pylist(), np.str_)
        if not (types.is_integer(column.type) or types.is_floating(column.type) or types.is_boolean(column.type)):
            raise BadData("data.path", f"column {name!r} holds {column.type}: neither numbers nor text nor lists of them")
        array: Array = column.to_numpy(zero_copy_only=False)
        return array

    def _lists(self, name: str, column: Any) -> Values:
        """Rows are cut from the flat array of all values; lists of lists are rare, and go by way of Python."""
        if self._pa.types.is_nested(column.type.value_type):
            return together([np.array(row) for row in column.to_pylist()], partial(self.at, name))
        flat, lengths = column.flatten(), column.value_lengths().to_numpy(zero_copy_only=False)
        ends = np.cumsum(lengths)
        if flat.null_count:
            value = int(np.argmax(flat.is_null().to_numpy(zero_copy_only=False)))
            row = int(np.searchsorted(ends, value, side="right"))
            raise BadData("data.path", f"{self.at(name, row)} holds an empty value")
        values = self._column(name, flat)
        assert isinstance(values, np.ndarray)
        if (lengths == lengths[0]).all():
            return values.reshape(len(lengths), lengths[0])
        return together(np.split(values, ends[:-1]), partial(self.at, name))
