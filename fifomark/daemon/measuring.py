"""Measuring a spool from outside: ledger, lock and disk are read, nothing is changed, no daemon is asked."""

from __future__ import annotations

import contextlib
import os
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence

import fifomark
from fifomark.core.measured import Measured, Stage
from fifomark.core.states import State
from fifomark.core.submission import Submission
from fifomark.core.text import shown
from fifomark.daemon.look import open_ledger
from fifomark.ledger.durations import Duration
from fifomark.settings import load_settings
from fifomark.spool.layout import Layout
from fifomark.spool.lock import holder
from fifomark.spool.space import kept_free

_WAITING = (State.QUEUED, State.SANITIZING, State.SANITIZED)
_STAGES = (*_WAITING, State.EVALUATING)


def measure(root: str | os.PathLike[str], now: float | None = None) -> Measured:
    """The spool at `root` as it is `now`; SpoolError where there is none."""
    now = time.time() if now is None else now
    layout = Layout(root)
    ledger = open_ledger(layout)
    counts: Mapping[State, int] = dict.fromkeys(State, 0)
    durations: list[Duration] = []
    running: list[Submission] = []
    oldest, paused = None, False
    if ledger is not None:
        with contextlib.closing(ledger):
            counts, durations, oldest = ledger.counts(), ledger.durations.all(), ledger.durations.oldest_waiting()
            running, paused = ledger.in_state((State.EVALUATING,), -1), ledger.steering.paused is not None
    card, disk = holder(layout), os.statvfs(layout.root)
    free = disk.f_bavail * disk.f_frsize
    return Measured(
        spool=shown(str(layout.root), 4096),
        started_at=card.daemon.started_at.timestamp() if card else None,
        version=card.daemon.version if card else fifomark.__version__,
        states={str(state): count for state, count in counts.items()},
        slots={slot.name: slot.state for slot in card.slots} if card else {},
        waiting=sum(counts[state] for state in _WAITING),
        oldest_seconds=max(now - oldest, 0.0) if oldest is not None else 0.0,
        stages=_stages(durations),
        busy_seconds=_busy(durations, running if card else (), now),
        disk_free_bytes=free,
        disk_size_bytes=disk.f_blocks * disk.f_frsize,
        short_of_space=free < kept_free(disk, load_settings(layout.root).min_free_bytes),
        paused=paused,
        broken_rubrics=len(card.broken) if card else 0,
    )


def _stages(durations: Sequence[Duration]) -> tuple[Stage, ...]:
    """One for each state that takes time, also where nothing has been through it yet."""
    of = {state: [d for d in durations if d.state is state] for state in _STAGES}
    return tuple(Stage(state=str(state), times=sum(d.times for d in ds), seconds=sum(d.seconds for d in ds)) for state, ds in of.items())


def _busy(durations: Sequence[Duration], running: Sequence[Submission], now: float) -> dict[str, float]:
    busy: defaultdict[str, float] = defaultdict(float)
    for duration in durations:
        if duration.slot:
            busy[duration.slot] += duration.seconds
    for submission in running:
        busy[submission.slot or ""] += max(now - submission.updated_at, 0.0)
    return dict(busy)
