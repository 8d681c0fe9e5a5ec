"""How long submissions stayed in each state, all that ever were."""

from __future__ import annotations

import sqlite3
from typing import NamedTuple

from fifomark.core.states import State


class Duration(NamedTuple):
    """`slot` is where it was evaluated, "" for every other state."""

    state: State
    slot: str
    times: int
    seconds: float


class Durations:
    """Written by the ledger's own trigger, with each move."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db

    def all(self) -> list[Duration]:
        rows = self._db.execute("SELECT state, slot, times, seconds FROM durations ORDER BY state, slot")
        return [Duration(State(state), slot, times, seconds) for state, slot, times, seconds in rows]

    def oldest_waiting(self) -> float | None:
        """When the one was received that has waited longest for its slot (seconds since the epoch)."""
        (found,) = self._db.execute(
            "SELECT min(received_at) FROM submissions WHERE state IN ('queued', 'sanitizing', 'sanitized')"
        ).fetchone()
        return None if found is None else float(found)
