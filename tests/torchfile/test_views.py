"""A tensor's place in its storage."""

from __future__ import annotations

import pytest

from fifomark.torchfile.dtypes import DTYPES
from fifomark.torchfile.views import View


@pytest.mark.parametrize(
    ("shape", "stride", "contiguous", "overlaps"),
    [
        ((2, 3), (3, 1), True, False),
        ((3, 2), (1, 3), False, False),
        ((1, 3), (999, 1), True, False),
        ((2, 3), (4, 1), False, False),
        ((2, 3), (0, 1), False, True),
        ((2, 3), (2, 1), False, True),
        ((0, 3), (0, 0), True, False),
        ((), (), True, False),
    ],
)
def test_contiguous_and_overlapping_views_are_told_apart(
    shape: tuple[int, ...], stride: tuple[int, ...], contiguous: bool, overlaps: bool
) -> None:
    one = View(0, DTYPES["int32"], shape, stride, 0)
    assert (one.contiguous, one.overlaps) == (contiguous, overlaps)
