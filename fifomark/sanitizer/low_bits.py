"""Whether the lowest bytes of consecutive weights look like something that was written there: a text, or a program.

Training leaves the low bits of a float random and independent of its neighbour's. What replaces them keeps its own patterns: letters, or
groups of bytes that repeat. The statistic is a flag, no proof, and what is encrypted or compressed looks as random as weights do.
Method: bytes of the lowest position, as in Wang, Liu, Cui: EvilModel (2021), looked at by the tests of n-gram repetition.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

WINDOW = 1 << 15  # values at the start of each piece that are looked at
_FEWEST = 1024  # values that say something
_PRINTABLE = np.zeros(256, bool)
_PRINTABLE[[9, 10, 13, *range(32, 127)]] = True
_TEXT = 0.95  # share of printable bytes: random ones come to 0.38
_REPEATS = 24  # groups of four bytes that repeat: random ones hardly ever do
_SHARE = 0.02  # of all groups


class Pattern(NamedTuple):
    """Of `size` low bytes: the share of printable ones, and how many groups of four occur again, where `expected` would by chance."""

    size: int
    printable: float
    repeats: int
    expected: float


class LowBits:
    """Fed with pieces of float32 or float64 values; `pattern` is the strongest that was seen, None where all looks random."""

    def __init__(self) -> None:
        self.pattern: Pattern | None = None

    def feed(self, values: npt.NDArray[Any]) -> None:
        if self.pattern is not None or values.size < _FEWEST:
            return
        window = values[:WINDOW]
        if _striking(_low_bytes(window)) and (own := _own(window)).size >= max(_FEWEST, window.size // 2):
            self.pattern = _striking(_low_bytes(own))


def _low_bytes(values: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    return values.view(np.uint8)[:: values.dtype.itemsize]


def _own(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """The values whose magnitude occurs once. Tables of few values, mirrored filters, masks and rows that repeat have patterns honestly."""
    _, index, counts = np.unique(np.abs(values), return_index=True, return_counts=True)
    own: npt.NDArray[Any] = values[np.sort(index[counts == 1])]
    steps = np.diff(own)
    # A ramp (positions, frequencies) has one as well.
    return own[:0] if (steps > 0).mean() > 0.95 or (steps < 0).mean() > 0.95 else own


def _striking(low: npt.NDArray[np.uint8]) -> Pattern | None:
    count = low.size
    seen = np.bincount(low, minlength=256)
    if seen.max() > 0.9 * count:
        return None  # fewer bits than the type has: weights that were half or bfloat16 before
    groups = np.sort(np.ascontiguousarray(low[: count & ~3]).view(np.uint32))
    repeats = int(np.count_nonzero(groups[1:] == groups[:-1]))
    # Independent bytes as unevenly spread as these would repeat so often (granular numbers have many zero bits, honestly).
    expected = groups.size**2 / 2 * float(((seen / count) ** 2).sum()) ** 4
    printable = float(seen[_PRINTABLE].sum() / count)
    if printable > _TEXT or repeats > max(_REPEATS, _SHARE * groups.size, 4 * expected):
        return Pattern(count, printable, repeats, expected)
    return None
