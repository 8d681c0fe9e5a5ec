"""From values to what a model gets: of the rubric's shape, filled up, scaled, and finite."""

from __future__ import annotations

from math import prod
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fifomark.marking.data.source import Array, BadData, Found, Values, first_true, numbers
from fifomark.marking.schema import Argument

Prepared = NDArray[np.float32] | NDArray[np.int64]


class Raw(NamedTuple):
    """An argument of the rubric's shape (n, *shape), not yet scaled; `lengths` (n,) are those of sequences in the data."""

    values: Array
    lengths: NDArray[np.int64] | None = None


def shaped(here: Found, wanted: Argument, key: str) -> Raw:
    """`key` is where the rubric says it: "input", or "input.more[0]"."""
    values = _of_kind(here, wanted, key)
    if wanted.dtype == "int64" and len(wanted.shape) == 1 and (isinstance(values, list) or (wanted.pad is not None and values.ndim == 2)):
        return tokens(here, wanted, key, wanted.shape[0])
    if isinstance(values, list):
        hint = "sequences that are filled up are whole numbers: dtype = 'int64', and a shape of one length"
        raise BadData(f"{key}.shape", f"is {list(wanted.shape)} where the examples of {here.title} differ in length", hint)
    example = values.shape[1:]
    if len(here.names) > 1 and prod(wanted.shape) != len(here.names):
        problem = f"is {list(wanted.shape)} where there are {len(here.names)} inputs, from {here.names[0]!r} to {here.names[-1]!r}"
        raise BadData(f"{key}.shape", problem)
    if len(here.names) == 1 and _long_axes(example) != _long_axes(wanted.shape):
        raise BadData(f"{key}.shape", f"is {list(wanted.shape)} where an example is {example} in {here.title}")
    return Raw(values.reshape(len(values), *wanted.shape))


def tokens(here: Found, wanted: Argument, key: str, width: int) -> Raw:
    """Sequences of whole numbers, filled up to `width`."""
    values = _of_kind(here, wanted, key)
    if isinstance(values, np.ndarray) and values.ndim != 2:
        raise BadData(f"{key}.shape", f"is {list(wanted.shape)} where an example of {here.title} is {values.shape[1:]}")
    lengths = np.array([len(row) for row in values], np.int64) if isinstance(values, list) else np.full(len(values), values.shape[1])
    for n, some in enumerate(values if isinstance(values, list) else [values]):
        if some.size and some.dtype.kind == "i" and some.min() < 0:
            at = first_true(some < 0)
            spot = here.spot((n, *at) if isinstance(values, list) else at)
            raise BadData("data.input", f"{spot} is {some[at]}, and no token has a number below 0", "number the tokens from 0")
    row = int(lengths.argmax())
    if lengths[row] > width:
        hint = "make the shape longer, or cut the data"
        raise BadData(f"{key}.shape", f"has room for {width} where {here.spot((row,))} has {lengths[row]}", hint)
    if wanted.pad is None and lengths.min() < wanted.shape[0]:
        problem = f"is missing, and {here.spot((int(lengths.argmin()),))} has {lengths.min()} of {wanted.shape[0]}"
        raise BadData(f"{key}.pad", problem, "say what shorter examples are filled up with: pad = 0")
    return Raw(filled(values, width, wanted.pad or 0), lengths)


def filled(values: Values, width: int, filler: int) -> NDArray[np.int64]:
    """(n, width), `filler` behind each."""
    out = np.full((len(values), width), filler, np.int64)
    if isinstance(values, np.ndarray):
        out[:, : values.shape[1]] = values
    else:
        for row, value in zip(out, values, strict=True):
            row[: len(value)] = value
    return out


def prepared(values: Array, wanted: Argument, key: str) -> Prepared:
    """As the model gets it: a copy, and nothing else of that size."""
    if wanted.dtype == "int64":
        return values.astype(np.int64)
    mean, std = (_along_first(numbers, wanted.shape) for numbers in (wanted.mean, wanted.std))
    with np.errstate(over="ignore"):  # it is Inf then, and said to be
        inputs: NDArray[np.float32] = values.astype(np.float32)
        inputs *= np.float32(wanted.scale)
        inputs -= mean
        inputs /= std
    if not _finite(inputs):
        raise BadData(key, "scale, mean and std make Inf or NaN of the data")
    return inputs


def _of_kind(here: Found, wanted: Argument, key: str) -> Values:
    values = numbers(here, "data.input")
    rows = values if isinstance(values, list) else [values]
    for row, array in enumerate(rows):
        if wanted.dtype == "int64" and array.size and array.dtype.kind not in "biu":
            raise BadData(f"{key}.dtype", f"is int64 where {here.title} holds {array.dtype}")
        if array.dtype.kind == "f" and not _finite(array):
            at = first_true(~np.isfinite(array))
            spot = here.spot((row, *at) if isinstance(values, list) else at)
            raise BadData("data.input", f"holds NaN or Inf: {spot} is {array[at]}", "leave the example out, or fill it")
    return values


def _finite(array: Array) -> bool:
    """In one pass and without a copy: NaN comes through min and max, and Inf is one of them."""
    return not array.size or bool(np.isfinite(array.min()) and np.isfinite(array.max()))


def _long_axes(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Without axes of length 1: images are stored as (8, 8) as often as (1, 8, 8)."""
    return tuple(length for length in shape if length != 1)


def _along_first(numbers: float | tuple[float, ...], shape: tuple[int, ...]) -> NDArray[np.float32]:
    return np.array(numbers, np.float32).reshape(-1, *(1,) * (len(shape) - 1))
