"""How far the largest value of a layer lies from what is usual in it."""

from __future__ import annotations

from math import sqrt
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

OUTLIER = 1000.0  # times the usual magnitude of its tensor
SAMPLE = 8192  # values, evenly spaced, by which the usual magnitude is told


class Sample:
    """SAMPLE to twice as many values of a tensor of `numel` elements, or all of them. Too many to be kept of each tensor of a file."""

    def __init__(self, numel: int) -> None:
        self._step = max(1, numel // SAMPLE)
        self._values: list[npt.NDArray[Any]] = []

    def feed(self, values: npt.NDArray[Any], at: int) -> None:
        """`values`, all finite, are those from the flat index `at` on."""
        self._values.append(values[-at % self._step :: self._step].copy())

    def outlier(self, peak: float, count: int, squares: float | None) -> float:
        """How many times larger than the root mean square of the rest `peak` is; the rest is without its largest thousandth.

        `squares` is the sum of the squares of all `count` values, None where that is beyond what a float can hold. What is no outlier for
        sure is 0.
        """
        if count < 8:
            return 0.0
        without = max(1, count // 1000)
        if squares is not None and peak * peak * (count - without) <= OUTLIER * OUTLIER * (squares - without * peak * peak):
            return 0.0  # whichever values are left out, none of them is larger than the largest
        usual = self._usual()
        return peak / usual if usual else 0.0

    def _usual(self) -> float:
        values = np.concatenate(self._values) if self._values else np.zeros(0)
        if values.size < 2:
            return 0.0  # what is not finite hides the rest, and refuses the file
        magnitudes = np.sort(np.abs(values.astype(np.float64)))
        rest = magnitudes[: magnitudes.size - max(1, magnitudes.size // 1000)]
        largest = float(rest[-1])
        return largest * sqrt(float(np.mean((rest / largest) ** 2))) if largest else 0.0
