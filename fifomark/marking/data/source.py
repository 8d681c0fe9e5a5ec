"""What every format of data comes to: named values, one for each example, and the words for a place in the file."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Literal, Protocol, TypeGuard

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Values = Array | list[Array]  # (n, …); a list where the examples are of different length
EXTRA = "pip install 'fifomark[data]'"


class BadData(Exception):
    """The data, or what the rubric says of it, is wrong; `load_data` makes a ConfigError of it. `problem` begins with what was found."""

    def __init__(self, key: str, problem: str, hint: str = "") -> None:
        super().__init__(problem)
        self.key, self.problem, self.hint = key, problem, hint


class Source(Protocol):
    """A file, folder or data set that was opened. `noun` is what its parts are called: columns hold one example a row."""

    @property
    def names(self) -> Sequence[str]: ...

    @property
    def noun(self) -> Literal["array", "column"]: ...

    def read(self, names: Sequence[str]) -> dict[str, Values]:
        """All values under these `names`, numbers or text; BadData where the file does not hold them."""
        ...

    def at(self, name: str, row: int) -> str:
        """How a person finds example `row`, once it was read."""
        ...


@dataclass(frozen=True)
class Found:
    """What a source has under one name; or under several, side by side."""

    source: Source
    names: tuple[str, ...]
    values: Values

    def __len__(self) -> int:
        return len(self.values)

    @property
    def title(self) -> str:
        if len(self.names) > 1:
            return f"one of the {len(self.names)} {self.source.noun}s from {self.names[0]!r} to {self.names[-1]!r}"
        return f"{self.source.noun} {self.names[0]!r}"

    def spot(self, index: Sequence[int]) -> str:
        """The place of one value, or of one example."""
        if len(self.names) > 1 and len(index) > 1:
            return self.source.at(self.names[index[1]], index[0])
        return self.source.at(self.names[0], index[0]) + "".join(f"[{i}]" for i in index[1:])


def found(source: Source, names: tuple[str, ...], values: dict[str, Values], key: str) -> Found:
    """The values under `names`, several of them side by side: numbers of one example each. `key` is the rubric's, for messages."""
    for name in names:
        here = values[name]
        if isinstance(here, np.ndarray) and not here.ndim:
            raise BadData(key, f"{source.noun} {name!r} is a single number, expected one or more for each example")
        if not len(here):
            raise BadData(key, f"{source.noun} {name!r} is empty")
        if len(here) != len(values[names[0]]):
            raise BadData(key, f"{name!r} has {len(here)} examples, {names[0]!r} has {len(values[names[0]])}")
    if len(names) == 1:
        return Found(source, names, values[names[0]])
    columns = []
    for name in names:
        column = values[name]
        if not is_flat(column):
            raise BadData(key, f"{source.noun} {name!r} holds more than one number for each example, and cannot stand beside others")
        columns.append(Found(source, (name,), column))
    return Found(source, names, np.column_stack([numbers(column, key) for column in columns]))


def is_flat(values: Values) -> TypeGuard[Array]:
    """One value for each example."""
    return isinstance(values, np.ndarray) and values.ndim == 1


def numbers(here: Found, key: str) -> Values:
    """The values, of which none is text or another thing that is no real number."""
    arrays = [array for array in here.values if array.size] if isinstance(here.values, list) else [here.values]
    for array in arrays:
        if array.dtype.kind == "U":
            index, text = first_text(here)
            hint = "name the inputs in data.input, if this is none" if key == "data.input" else ""
            raise BadData(key, f"{here.spot(index)} is {text!r}, expected a number", hint)
        if array.dtype.kind not in "biuf":
            raise BadData(key, f"{here.title} holds {array.dtype}, expected real numbers")
    return here.values


def first_text(here: Found) -> tuple[tuple[int, ...], str]:
    """The place and text of the first value that is no number; of the first one, where all could be."""
    first: tuple[tuple[int, ...], str] | None = None
    for row, value in enumerate(here.values):
        for index, text in np.ndenumerate(np.asarray(value)):
            if isinstance(text, str):
                first = first or ((row, *index), str(text))
                if not _is_number(text):
                    return (row, *index), str(text)
    assert first is not None
    return first


def first_true(flags: Array) -> tuple[int, ...]:
    """The index of the first one that is true; there must be one."""
    return tuple(int(i) for i in np.argwhere(flags)[0])


def nearest(name: object, known: Iterable[str]) -> str:
    """What may have been meant. A table has hundreds of columns: not all are told."""
    known = list(known)
    if near := difflib.get_close_matches(str(name), known, n=1, cutoff=0.5):
        return f"did you mean {near[0]!r}?"
    more = f" and {len(known) - 12} more" if len(known) > 12 else ""
    return f"known here: {', '.join(islice(known, 12)) or 'nothing'}{more}"


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def together(rows: list[Array], at: Callable[[int], str]) -> Values:
    """Arrays of one example each as one array, or as they are where they differ in length; BadData where they differ in more."""
    if all(row.shape == rows[0].shape for row in rows):
        return np.stack(rows)
    for number, row in enumerate(rows):
        if row.ndim != 1:
            raise BadData("data.path", f"{at(number)} has shape {row.shape}, another has {_other(row, rows)}: only lengths may differ")
    return rows


def _other(row: Array, rows: list[Array]) -> tuple[int, ...]:
    return next(other.shape for other in rows if other.shape != row.shape)
