"""Exit codes: what a script may rely on."""

from __future__ import annotations

from enum import IntEnum


class Exit(IntEnum):
    FINE = 0
    NO = 1  # the answer is no: a file is unsafe or invalid
    USAGE = 2  # what was asked for is wrong
    INTERNAL = 3  # a bug of ours or a broken machine


def stopped_by(number: int) -> int:
    """What a shell says of a program that was ended by the signal with this number: 130 for Ctrl-C."""
    return 128 + number
