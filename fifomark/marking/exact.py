"""The arithmetic of points, in the numbers that were written.

A float is the nearest one to what stands in a rubric or a report, and 8.1 / 9 of floats is less than 0.9. Fractions of the decimals lose
nothing; a float is made of them again only where they are shown.
"""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction
from math import floor, gcd


def written(number: float) -> Fraction:
    """The decimal that `number` is written as: 0.1 is one tenth."""
    return Fraction(repr(number))


def total(numbers: Iterable[float]) -> Fraction:
    return sum(map(written, numbers), Fraction(0))


def rounded(points: Fraction, step: float) -> Fraction:
    """To the nearest multiple of `step`, half up."""
    size = written(step)
    return floor(points / size + Fraction(1, 2)) * size


def common_step(points: Fraction, step: float) -> Fraction:
    """The largest step that divides both `points` and `step`."""
    size = written(step)
    return Fraction(gcd(points.numerator * size.denominator, size.numerator * points.denominator), points.denominator * size.denominator)
