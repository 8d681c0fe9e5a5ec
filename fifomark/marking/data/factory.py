"""What the Python beside a rubric makes of its data: a Dataset of torch, or anything else of (input, label) that can be walked through.

Nothing here imports torch: a tensor gives its numbers to numpy itself. The function runs in a worker only, never in the daemon.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np

from fifomark import plugins
from fifomark.marking.data.source import Array, Values, together
from fifomark.marking.python import load_callable

KEY = "data.factory"


class Made:
    """The arrays x, x2, … (the arguments of the model) and y (the labels), in the order of the data set."""

    noun: Literal["array"] = "array"

    def __init__(self, path: Path, reference: str, seed: int, place: Path) -> None:
        """`place` is the rubric's file. ConfigError where there is no such function."""
        random.seed(seed)  # what it draws must be the same on every slot; torch was seeded by the bench
        np.random.seed(seed)
        make = load_callable(place.parent, reference, place, KEY, plugins.DATASETS, "it is called with the path of the data")
        try:
            columns = _columns(_items(make.function(str(path.absolute()))))
        except _Unlike as e:
            raise make.wrong(str(e)) from e
        except BaseException as e:  # a data set that is walked through runs more of it
            raise make.failed(e) from e
        self.names = ("x", *(f"x{i}" for i in range(2, len(columns))), "y")
        self._columns = dict(zip(self.names, columns, strict=True))

    def read(self, names: Sequence[str]) -> dict[str, Values]:
        return {name: together(self._columns.pop(name), partial(self.at, name)) for name in names}

    def at(self, name: str, row: int) -> str:
        return f"example {row} (from 0), {'label' if name == 'y' else 'input'}"


class _Unlike(Exception):
    """No data set: what the function gives, and what was expected."""


def _columns(items: Iterator[Any]) -> list[list[Array]]:
    columns: list[list[Array]] = []
    for row, item in enumerate(items):
        parts = _parts(item, row)
        columns = columns or [[] for _ in parts]
        if len(parts) != len(columns):
            raise _Unlike(f"gives a data set whose example {row} (from 0) has {len(parts) - 1} inputs, the first has {len(columns) - 1}")
        for column, part in zip(columns, parts, strict=True):
            column.append(part)
    if not columns:
        raise _Unlike("gives a data set without examples")
    return columns


def _items(made: Any) -> Iterator[Any]:
    """Counted where it has a length: by the old protocol of __getitem__ a Dataset would be walked past its end."""
    if hasattr(made, "__len__") and hasattr(made, "__getitem__"):
        return (made[i] for i in range(len(made)))
    if isinstance(made, Iterable):
        return iter(made)
    raise _Unlike(f"gives {type(made).__name__}, expected a Dataset of (input, label)")


def _parts(item: Any, row: int) -> list[Array]:
    """Of (input, label), ((input, input), label) or (input, input, label)."""
    if not isinstance(item, (tuple, list)) or len(item) < 2:
        raise _Unlike(f"gives a data set whose example {row} (from 0) is {type(item).__name__}, expected (input, label)")
    *inputs, label = item
    if len(inputs) == 1 and isinstance(inputs[0], tuple):
        inputs = list(inputs[0])
    return [np.asarray(part.detach() if hasattr(part, "detach") else part) for part in (*inputs, label)]
