"""A spool in numbers, as its ledger, its lock and its disk have them at one moment."""

from __future__ import annotations

from fifomark.core.record import Record


class Stage(Record):
    """How often submissions went through a state, and how many seconds they stayed in it altogether."""

    state: str
    times: int
    seconds: float


class Measured(Record):
    """`started_at` and `slots` (name, state) are None and empty where no daemon runs; `busy_seconds` is by slot, what runs included.

    `oldest_seconds` is the age of what has waited longest (0: nothing waits); times are seconds since the epoch.
    """

    spool: str
    started_at: float | None
    version: str
    states: dict[str, int]
    slots: dict[str, str]
    waiting: int
    oldest_seconds: float
    stages: tuple[Stage, ...]
    busy_seconds: dict[str, float]
    disk_free_bytes: int
    disk_size_bytes: int
    short_of_space: bool
    paused: bool
    broken_rubrics: int
