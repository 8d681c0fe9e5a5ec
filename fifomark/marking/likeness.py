"""How near two fingerprints are. No torch is imported here: the worker makes fingerprints, the daemon compares them.

Measured on models trained on the example's digits (docs/grading.md): copies with noise of 1e-3 are at most 0.003 apart, and models that
others trained at least 0.021; copies are alike by 0.997 and more, models trained from the same start by 0.988 at most.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

NEAR = 0.01
"""Sketches that are no further apart are of the same weights with noise."""

ALIKE = 0.995
"""So much like each other, number by number, are the same weights with more noise or trained a little further."""

FEATURES = 11
SHADOWS = 16
ROW = 1 + FEATURES + SHADOWS
"""float32 for each matrix of a sketch: the number of the matrix's shape, and what is known of it."""

Floats = NDArray[np.float64]


def compared(one: bytes, others: Sequence[bytes]) -> tuple[Floats, Floats]:
    """(distances, likenesses) of a sketch and each of `others`, of models with the same shapes."""
    a, b = _rows(one), _stacked(one, others)
    return _distances(a[:, : 1 + FEATURES], b[:, :, : 1 + FEATURES]), _likenesses(a[:, 1 + FEATURES :], b[:, :, 1 + FEATURES :])


def _likenesses(a: Floats, b: Floats) -> Floats:
    """How much alike they are, number by number: estimates of the cosine between their weights, 1 for the same and about 0 for two
    trainings. Hidden units that changed places are not seen through."""
    a, b = a.ravel(), b.reshape(len(b), -1)
    sizes = np.sqrt((a @ a) * (b * b).sum(axis=1))
    alike: Floats = np.divide(b @ a, sizes, out=np.zeros(len(b)), where=sizes > 0)
    return alike


def _distances(a: Floats, b: Floats) -> Floats:
    """How far apart they are: the mean over their matrices of how much the features differ. Matrices of one shape are matched with those
    that are nearest, in whatever order each file has them."""
    if not len(a):
        return np.full(len(b), np.inf)
    shapes = a[:, 0]  # numbered in the order in which the matrices stand: the same for all that have the same shapes
    alone = (shapes[:, None] == shapes).sum(axis=1) == 1
    apart = _differences(a[alone, 1:], b[:, alone, 1:]).sum(axis=1)
    for shape in set(shapes[~alone].tolist()):
        apart += _matched(a[shapes == shape, 1:], b[:, shapes == shape, 1:])
    return np.where((b[:, :, 0] == shapes).all(axis=1), apart / len(a), np.inf)


def _matched(a: Floats, b: Floats) -> Floats:
    """The sum of the distances of each row of `a` (n, features) to a row of its own of each of `b` (others, n, features), nearest first."""
    table = _differences(a[None, :, None, :], b[:, None, :, :])
    others, n = np.arange(len(b)), len(a)
    total = np.zeros(len(b))
    for _ in range(n):
        row, column = np.divmod(table.reshape(len(b), -1).argmin(axis=1), n)
        total += table[others, row, column]
        table[others, row, :], table[others, :, column] = np.inf, np.inf
    return total


def _differences(x: Floats, y: Floats) -> Floats:
    """The root mean square of how much features (…, FEATURES) differ, each by its own size."""
    largest = np.maximum(np.maximum(np.abs(x), np.abs(y)), 1e-30)
    difference: Floats = np.sqrt((((x - y) / largest) ** 2).mean(axis=-1))
    return difference


def _rows(sketch: bytes) -> Floats:
    return np.frombuffer(sketch, "<f4").reshape(-1, ROW).astype(np.float64)


def _stacked(one: bytes, others: Sequence[bytes]) -> Floats:
    """(others, matrices, ROW). One that has not as many matrices is of other shapes: as far away as can be, and like nothing."""
    if set(map(len, others)) - {len(one)}:
        strange = np.zeros((len(one) // (4 * ROW), ROW), "<f4")
        strange[:, 0] = -1
        others = [other if len(other) == len(one) else strange.tobytes() for other in others]
    return _rows(b"".join(others)).reshape(len(others), -1, ROW)
