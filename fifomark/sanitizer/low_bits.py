"""Whether the lowest bytes of consecutive weights look like something that was written there: a text, or a program.

Training leaves the low bits of a float random and independent of its neighbour's. What replaces them keeps its own patterns: letters, or
groups of bytes that repeat. The statistic is a flag, no proof, and what is encrypted or compressed looks as random as weights do.
Method: bytes of the lowest position, as in Wang, Liu, Cui: EvilModel (2021), looked at by the tests of n-gram repetition.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

WINDOW = 1 << 15  # values at the start of a tensor that are looked at
LATER = 1 << 13  # and at the start of each further piece of it
_FEWEST = 1024  # values that say something
_PRINTABLE = bytes([9, 10, 13, *range(32, 127)])
_TEXT = 0.95  # share of printable bytes: random ones come to 0.38
_REPEATS = 32  # pairs of groups of four bytes that are alike: random bytes hardly ever give one, tables of sines a few
_MORE = 4  # times as many as by chance


class Pattern(NamedTuple):
    """Of `size` low bytes: the share of printable ones, and how many pairs of groups of four are alike, `expected` by chance."""

    size: int
    printable: float
    pairs: int
    expected: float


class LowBits:
    """Fed with pieces of float32 or float64 values; `pattern` is the first striking one, None where all looks random."""

    def __init__(self) -> None:
        self.pattern: Pattern | None = None
        self._window = WINDOW

    def feed(self, values: npt.NDArray[Any]) -> None:
        if self.pattern is not None or values.size < _FEWEST:
            return
        window, self._window = values[: self._window], LATER
        if _striking(_low_bytes(window)):
            self.pattern = next((p for own in _own(window) if own.size >= _FEWEST and (p := _striking(_low_bytes(own)))), None)


def _low_bytes(values: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    return values.view(np.uint8)[:: values.dtype.itemsize]


def _own(values: npt.NDArray[Any]) -> Iterator[npt.NDArray[Any]]:
    """Choices of the values that have no patterns of their own.

    First those whose magnitude occurs once: tables of few values, mirrored filters, masks and rows that repeat have patterns honestly, and
    so have ramps (positions, frequencies). Then one of each magnitude: their bytes are in no order any more, but a text is still one.
    """
    magnitudes, index, counts = np.unique(np.abs(values), return_index=True, return_counts=True)
    once = values[np.sort(index[counts == 1])]
    rising = np.count_nonzero(np.diff(once) > 0)
    if once.size >= values.size // 8 and 0.05 * once.size < rising < 0.95 * once.size:
        yield once
    if _printable(_low_bytes(magnitudes)) > _TEXT:
        yield magnitudes


def _printable(low: npt.NDArray[np.uint8]) -> float:
    return 1 - len(low.tobytes().translate(None, _PRINTABLE)) / low.size


def _may_be_text(low: npt.NDArray[np.uint8]) -> bool:
    """Far quicker than counting what is printable, all of which lies in this range."""
    return int(np.count_nonzero(low - np.uint8(_PRINTABLE[0]) <= _PRINTABLE[-1] - _PRINTABLE[0])) > _TEXT * low.size


def _striking(low: npt.NDArray[np.uint8]) -> Pattern | None:
    low = np.ascontiguousarray(low)
    groups = low[: low.size & ~3].view(np.uint32).copy()
    groups.sort()
    repeats = int(np.count_nonzero(groups[1:] == groups[:-1]))
    if repeats * (repeats + 1) // 2 <= _REPEATS and not _may_be_text(low):
        return None  # the usual case, at once: however they are grouped, so few repeats are no more pairs than that
    printable = _printable(low)
    if printable <= _TEXT and repeats * (repeats + 1) // 2 <= _REPEATS:
        return None
    seen = np.bincount(low, minlength=256)
    if seen.max() > 0.9 * low.size:
        return None  # fewer bits than the type has: weights that were half or bfloat16 before
    starts = np.flatnonzero(groups[1:] != groups[:-1]) + 1  # of runs of groups that are alike
    counts = np.diff(starts, prepend=0, append=groups.size)
    pairs = int((counts * (counts - 1)).sum()) // 2
    # Of independent bytes as unevenly spread as these; granular numbers have many zero bits, honestly.
    expected = groups.size**2 / 2 * float(((seen / low.size) ** 2).sum()) ** 4
    if printable > _TEXT or pairs > max(_REPEATS, _MORE * expected):
        return Pattern(low.size, printable, pairs, expected)
    return None
