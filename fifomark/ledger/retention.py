"""Which submissions have ended long enough ago for their files to go."""

from __future__ import annotations

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
        yield from self._ids("AND updated_at < ? ORDER BY updated_at, id", below, (moment,))

    def beyond(self, newest: int, below: Pruned) -> Iterator[int]:
        """The same of all but the `newest`, whatever has been taken away of those."""
        last = self._db.execute(
            f"SELECT updated_at, id FROM submissions WHERE {_ENDED} ORDER BY updated_at DESC, id DESC LIMIT 1 OFFSET ?", (newest,)
        ).fetchone()
        if last is not None:
            yield from self._ids("AND (updated_at, id) <= (?, ?) ORDER BY updated_at, id", below, last)

    def prune(self, id: int, stage: Pruned, now: float) -> bool:
        """Say that no more is kept than `stage` leaves; the files go next. False where the submission has not ended, or is on the move."""
        row = self._db.execute(
            f"UPDATE submissions SET pruned = ?, moving = 1 WHERE id = ? AND moving = 0 AND {_ENDED} RETURNING state", (stage, id)
        ).fetchone()
        if row is not None:
            record(self._db, id, now, State(row[0]), f"pruned: {stage.name.lower()}")
        return row is not None

    def _ids(self, tail: str, below: Pruned, values: tuple[object, ...]) -> Iterator[int]:
        """Read at once, so that the ledger may be written to while they are gone through."""
        stages = ", ".join(str(int(stage)) for stage in Pruned if stage < below)
        where = f"{_ENDED} AND pruned < 3 AND pruned IN ({stages}) AND moving = 0"
        for (id,) in self._db.execute(f"SELECT id FROM submissions WHERE {where} {tail}", values).fetchall():
            yield int(id)
