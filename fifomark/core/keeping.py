"""How much of a submission that has ended is still kept."""

from __future__ import annotations

from enum import IntEnum


class Pruned(IntEnum):
    """What has been taken away, each with what stands before it. The ledger keeps its row for ever."""

    NOTHING = 0
    SUBMITTED = 1  # what was submitted, and what was said while it was worked on
    FILES = 2  # the clean file
    REPORT = 3
