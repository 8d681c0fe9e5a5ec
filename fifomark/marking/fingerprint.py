"""What tells one model's weights from another's, though hidden units were swapped or a little noise was added.
The worker makes fingerprints; the daemon compares them (marking.likeness).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from math import isfinite, sqrt

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fifomark.core.outcome import MAX_SKETCH, Fingerprint
from fifomark.marking.likeness import ROW, SHADOWS, Floats

_CHUNK = 1 << 20  # numbers that are looked at at once
_MATRICES = MAX_SKETCH // (4 * ROW)  # the largest ones are sketched
_MIXERS = (0x9E3779B97F4A7C15, 0xD1342543DE82EF95)  # odd, with about as many ones as zeros


def fingerprint(weights: Mapping[str, Tensor]) -> Fingerprint:
    """`exact` is of all that the tensors are. The rest is of the numbers alone, whatever the tensors are called and in which order they
    stand; whole numbers, such as counters, aside."""
    tensors = [tensor.detach() for tensor in weights.values() if tensor.is_floating_point() and tensor.numel()]
    shapes = sorted(tuple(tensor.shape) for tensor in tensors)
    multisets = sorted(f"{tuple(tensor.shape)} {sum:032x}" for tensor, sum in zip(tensors, _multisets(tensors), strict=True))
    matrices = [tensor.reshape(len(tensor), -1) for tensor in tensors if tensor.ndim >= 2]
    matrices = sorted((m for m in matrices if min(m.shape) > 1), key=lambda m: (-m.numel(), tuple(m.shape)))[:_MATRICES]
    sketch, size = _sketch(matrices)
    return Fingerprint(exact=_exact(weights), permuted=_sha256(multisets), shapes=_sha256(map(str, shapes)), size=size, sketch=sketch)


def _sketch(matrices: list[Tensor]) -> tuple[bytes, float]:
    """A row of float32 for each matrix, and the root mean square of all.

    Nothing of a single matrix: a linear model that is trained to the end is the same for everyone. Nor of numbers beyond all measure.
    """
    if len(matrices) < 2:
        return b"", 0.0
    numbers = {shape: i for i, shape in enumerate(dict.fromkeys(tuple(matrix.shape) for matrix in matrices))}
    with np.errstate(all="ignore"):
        rows = np.array([[numbers[tuple(matrix.shape)], *_features(matrix), *_shadows(matrix)] for matrix in matrices])
        sketch = rows.astype("<f4")
        counts = np.array([matrix.numel() for matrix in matrices])
        size = float(np.sqrt((counts * rows[:, 2] ** 2).sum() / counts.sum()))
    return (sketch.tobytes(), size) if np.isfinite(sketch).all() and isfinite(size) else (b"", 0.0)


def _features(matrix: Tensor) -> list[float]:
    """Sizes that do not change when rows or columns change places, and hardly with a little noise; two trainings differ by percents.

    Sums of rows and of columns tell most: they differ by chance from one training to the next, and add noise up as little as it can be.
    """
    rows, columns = matrix.shape
    of_rows, squares_of_rows = np.empty(rows), np.empty(rows)
    of_columns, squares_of_columns = np.zeros(columns), np.zeros(columns)
    total, fourth = 0.0, 0.0
    step = max(1, _CHUNK // columns)
    for at in range(0, rows, step):
        part: Floats = matrix[at : at + step].float().cpu().numpy().astype(np.float64)
        squares = part * part
        of_rows[at : at + step], squares_of_rows[at : at + step] = part.sum(axis=1), squares.sum(axis=1)
        of_columns += part.sum(axis=0)
        squares_of_columns += squares.sum(axis=0)
        total += float(np.abs(part).sum())
        fourth += float((squares * squares).sum())
    count = rows * columns
    return [
        total / count,
        sqrt(squares_of_rows.sum() / count),
        (fourth / count) ** 0.25,
        *_sizes(of_rows / sqrt(columns)),
        *_sizes(of_columns / sqrt(rows)),
        _spread(np.sqrt(squares_of_rows / columns)),
        _spread(np.sqrt(squares_of_columns / rows)),
    ]


def _shadows(matrix: Tensor) -> Floats:
    """Sums of all numbers, each with other signs, by the size of the matrix: as much as two matrices have in common, these have."""
    rows, columns = matrix.shape
    sums, squares = np.zeros(SHADOWS), 0.0
    of_rows, of_columns = _signs(rows, 1), _signs(columns, 2)
    step = max(1, _CHUNK // columns)
    for at in range(0, rows, step):
        part: Floats = matrix[at : at + step].float().cpu().numpy().astype(np.float64)
        sums += ((of_rows[:, at : at + step] @ part) * of_columns).sum(axis=1)
        squares += float((part * part).sum())
    return sums / np.sqrt(squares) if squares else sums


@lru_cache(maxsize=64)
def _signs(count: int, seed: int) -> Floats:
    """(SHADOWS, count) of 1 and −1, the same in every process and version."""
    numbers = np.arange(SHADOWS * count, dtype=np.uint64) + np.uint64(seed << 48)
    bits = (_mixed(_mixed(numbers)) & np.uint64(1)).astype(np.float64)
    return (bits * 2 - 1).reshape(SHADOWS, count)


def _sizes(values: Floats) -> tuple[float, float, float]:
    squares, count = values * values, len(values)
    return float(np.abs(values).sum()) / count, sqrt(squares.sum() / count), float((squares * squares).sum() / count) ** 0.25


def _spread(values: Floats) -> float:
    """The standard deviation."""
    off = values - values.sum() / len(values)
    return sqrt((off * off).sum() / len(off))


def _exact(weights: Mapping[str, Tensor]) -> str:
    """One line a tensor, in the order of their names: [name, dtype, shape, SHA-256 of its bytes in row-major order]. In which order they
    stand, how they were laid out and whether they were tied makes no difference."""
    rows = ([name, str(tensor.dtype), list(tensor.shape), _bytes_sha256(tensor)] for name, tensor in weights.items())
    return _sha256(map(json.dumps, sorted(rows)))


def _bytes_sha256(tensor: Tensor) -> str:
    flat, sha256 = tensor.detach().reshape(-1), hashlib.sha256()
    for at in range(0, len(flat), _CHUNK):
        sha256.update(flat[at : at + _CHUNK].cpu().view(torch.uint8).numpy().data)
    return sha256.hexdigest()


def _multisets(tensors: Sequence[Tensor]) -> list[int]:
    """For each the same for the same numbers in any order, whatever their signs: a sum of hashes. Half, double and float of one number are
    equal."""
    sums = np.zeros((len(_MIXERS), len(tensors)), np.uint64)
    for part in _parts(tensors):
        bits = np.abs(np.concatenate([numbers for _, numbers in part])).view(np.uint32).astype(np.uint64)
        starts = np.cumsum([0, *(len(numbers) for _, numbers in part[:-1])])
        with np.errstate(over="ignore"):
            hashes = _mixed(bits + np.array(_MIXERS, np.uint64)[:, None])
            sums[:, [of for of, _ in part]] += np.add.reduceat(hashes, starts, axis=1)
    return [int(high) << 64 | int(low) for high, low in sums.T]


def _parts(tensors: Sequence[Tensor]) -> Iterator[list[tuple[int, NDArray[np.float32]]]]:
    """The numbers of all, each with which tensor they are of: many small tensors, or a piece of a large one, in about _CHUNK at once."""
    part: list[tuple[int, NDArray[np.float32]]] = []
    count = 0
    for i, tensor in enumerate(tensors):
        flat = tensor.reshape(-1)
        for at in range(0, len(flat), _CHUNK):
            numbers = flat[at : at + _CHUNK].float().cpu().numpy()
            if part and count + len(numbers) > _CHUNK:
                yield part
                part, count = [], 0
            part.append((i, numbers))
            count += len(numbers)
    if part:
        yield part


def _mixed(x: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The finishing steps of splitmix64: each bit of a number moves half of the bits."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def _sha256(lines: Iterable[str]) -> str:
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()
