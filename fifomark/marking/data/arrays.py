"""Files of named arrays: .npz of numpy (objects, which are pickles, are never read) and .safetensors."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal
from zipfile import BadZipFile, is_zipfile

import numpy as np

from fifomark.marking.data.source import EXTRA, BadData, Values


class Npz:
    noun: Literal["array"] = "array"

    def __init__(self, path: Path) -> None:
        if not is_zipfile(path):
            raise BadData("data.path", "is no .npz", "write it with numpy.savez_compressed")
        self._path = path
        with self._opened() as arrays:
            self.names = tuple(arrays)

    def read(self, names: Sequence[str]) -> dict[str, Values]:
        with self._opened() as arrays:
            return {name: arrays[name] for name in names}

    def at(self, name: str, row: int) -> str:
        return f"{name}[{row}]"

    @contextmanager
    def _opened(self) -> Iterator[Any]:
        try:
            with np.load(self._path, allow_pickle=False) as arrays:
                yield arrays
        except (OSError, ValueError, EOFError, BadZipFile, zlib.error) as e:
            raise BadData("data.path", f"cannot be read: {e}", "write it with numpy.savez_compressed, no objects") from e


class Safetensors:
    noun: Literal["array"] = "array"

    def __init__(self, path: Path) -> None:
        self._path = path
        with self._opened() as file:
            self.names = tuple(file.keys())

    def read(self, names: Sequence[str]) -> dict[str, Values]:
        with self._opened() as file:
            return {name: file.get_tensor(name) for name in names}

    def at(self, name: str, row: int) -> str:
        return f"{name}[{row}]"

    @contextmanager
    def _opened(self) -> Iterator[Any]:
        try:
            from safetensors import SafetensorError, safe_open
        except ImportError as e:
            raise BadData("data.format", "needs the library safetensors, which is not installed", EXTRA) from e
        try:
            with safe_open(self._path, framework="np") as file:
                yield file
        except (OSError, TypeError, AttributeError, SafetensorError) as e:  # TypeError and its like: a dtype that numpy does not have
            raise BadData("data.path", f"cannot be read: {e}", "write it with safetensors.numpy.save_file") from e
