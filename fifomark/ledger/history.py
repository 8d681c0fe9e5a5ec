"""Every move that a submission ever made, in the order in which they were committed."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from typing import NamedTuple

from fifomark.core.states import State


class Move(NamedTuple):
    """One submission's move to `state` at `at` (seconds since the epoch). The rest is as it stands now."""

    number: int
    submission: int
    at: float
    state: State
    attempt: int
    note: str | None
    name: str
    owner: str
    rubric: str
    stands: State
    verdict: str | None
    family: str | None
    points: float | None
    points_possible: float | None
    reason: str | None
    message: str | None


class History:
    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db

    def last(self) -> int:
        """The number of the last move; 0 where there was none."""
        return int(self._db.execute("SELECT coalesce(max(rowid), 0) FROM events").fetchone()[0])

    def after(self, number: int) -> Iterator[Move]:
        """The moves since the one with this number, oldest first. Nothing may be written while they are gone through."""
        rows = self._db.execute(
            "SELECT e.rowid, e.submission, e.at, e.state, e.attempt, e.note, s.name, s.owner, s.rubric, s.state, s.verdict, s.family, "
            "s.points, s.points_possible, s.reason, s.message FROM events e JOIN submissions s ON s.id = e.submission WHERE e.rowid > ? "
            "ORDER BY e.rowid",
            (number,),
        )
        for row in rows:
            move = Move(*row)
            yield move._replace(state=State(move.state), stands=State(move.stands), name=os.fsdecode(row[6]))
