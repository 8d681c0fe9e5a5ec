"""95 % intervals of metrics."""

from __future__ import annotations

from collections.abc import Callable
from math import sqrt
from typing import NamedTuple

import torch
from torch import Tensor

RESAMPLES = 500
_Z95 = 1.959963984540054  # two-sided 95 % of a normal distribution


def wilson95(right: int, n: int) -> tuple[float, float]:
    """Wilson's 95 % interval of the proportion right / n (E. B. Wilson, JASA 22, 1927)."""
    share = right / n
    middle = share + _Z95**2 / (2 * n)
    half = _Z95 * sqrt(share * (1 - share) / n + (_Z95 / (2 * n)) ** 2)
    return max(0.0, (middle - half) / (1 + _Z95**2 / n)), min(1.0, (middle + half) / (1 + _Z95**2 / n))


class Bootstrap(NamedTuple):
    """`interval` is None where some of the draws, `without`, have no number: the others would be a choice among them."""

    interval: tuple[float, float] | None
    without: int


def bootstrap95(measure: Callable[[Tensor], float | None], n: int, seed: int) -> Bootstrap:
    """The percentile bootstrap (B. Efron, Annals of Statistics 7, 1979): `measure` gives the metric of the examples at the indices that it
    is given, n of n drawn with replacement, RESAMPLES times."""
    draws = torch.Generator().manual_seed(seed)
    values = [measure(torch.randint(n, (n,), generator=draws)) for _ in range(RESAMPLES)]
    numbers = torch.tensor([value for value in values if value is not None], dtype=torch.float64)
    if len(numbers) < RESAMPLES:
        return Bootstrap(None, RESAMPLES - len(numbers))
    low, high = numbers.quantile(torch.tensor([0.025, 0.975], dtype=torch.float64)).tolist()
    return Bootstrap((low, high), 0)
