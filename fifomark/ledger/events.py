"""The history of every submission: one row for each state that it came to."""

from __future__ import annotations

import sqlite3

from fifomark.core.states import State


def record(db: sqlite3.Connection, id: int, now: float, state: State, note: str | None) -> None:
    db.execute(
        "INSERT INTO events (submission, at, state, attempt, note) SELECT id, ?, ?, attempt, ? FROM submissions WHERE id = ?",
        (now, state, note, id),
    )
