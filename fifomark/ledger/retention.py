"""Which submissions have ended long enough ago for their files to go."""

from __future__ import annotations

import heapq
import sqlite3
from collections.abc import Iterator

from fifomark.core.keeping import Pruned
from fifomark.core.states import State
from fifomark.ledger.events import record

_ENDED = "state IN ('done', 'rejected', 'failed')"  # what was withdrawn left no files


class Retention:
    """Nothing that is on the move is ever named. Each question is answered from an index that holds what has ended only."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db

    def ended_before(self, moment: float, below: Pruned) -> Iterator[int]:
        """Ids of what ended before `moment` (seconds since the epoch) and of which less than `below` is gone, first what ended first."""
        yield from self._ids("updated_at < ?", below, (moment,))

    def beyond(self, newest: int, below: Pruned) -> Iterator[int]:
        """The same of all but the `newest`, whatever has been taken away of those."""
        last = self._db.execute(
            f"SELECT updated_at, id FROM submissions WHERE {_ENDED} ORDER BY updated_at DESC, id DESC LIMIT 1 OFFSET ?", (newest,)
        ).fetchone()
        if last is not None:
            yield from self._ids("(updated_at, id) <= (?, ?)", below, last)

    def prune(self, id: int, stage: Pruned, now: float) -> bool:
        """Say that no more is kept than `stage` leaves; the files go next. False where the submission has not ended, or is on the move."""
        row = self._db.execute(
            f"UPDATE submissions SET pruned = ?, moving = 1 WHERE id = ? AND moving = 0 AND {_ENDED} RETURNING state", (stage, id)
        ).fetchone()
        if row is not None:
            record(self._db, id, now, State(row[0]), f"pruned: {stage.name.lower()}")
        return row is not None

    def _ids(self, further: str, below: Pruned, values: tuple[object, ...]) -> Iterator[int]:
        """As they are asked for, so that the first of a million cost nothing; nothing may be written meanwhile."""
        query = f"SELECT updated_at, id FROM submissions WHERE {_ENDED} AND pruned < 3 AND pruned = ? AND moving = 0 AND {further}"
        stages = [self._db.execute(f"{query} ORDER BY updated_at, id", (stage, *values)) for stage in Pruned if stage < below]
        for _, id in heapq.merge(*stages):
            yield int(id)
