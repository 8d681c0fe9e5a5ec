"""What an operator changes by hand: what is held, what is tried again, whether anything is started at all."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable

from fifomark.core.states import State
from fifomark.core.submission import Submission

HELD = "held-by-operator"  # the reason of what stays held until the operator lets it go
_PAUSED = "paused"

Move = Callable[[int, State, float, str | None], Submission]


class Steering:
    """`move` is the ledger's own."""

    def __init__(self, db: sqlite3.Connection, move: Move) -> None:
        self._db, self._move = db, move

    def hold(self, id: int, now: float) -> None:
        self._move(id, State.HELD, now, HELD)
        self.keep_held(id, "held by the operator")

    def keep_held(self, id: int, why: str) -> None:
        """What is held stays so until the operator lets it go."""
        self._db.execute("UPDATE submissions SET reason = ?, message = ? WHERE id = ?", (HELD, why, id))

    def release(self, id: int, now: float) -> None:
        """Let it wait again, at its old place."""
        self._move(id, State.QUEUED, now, "released")
        self._db.execute("UPDATE submissions SET reason = NULL, message = NULL WHERE id = ?", (id,))

    def retry(self, id: int, now: float) -> Submission:
        """A new attempt at what was rejected or failed: same id, the end of the queue. Its file has to come back to incoming/."""
        self._db.execute(
            "UPDATE submissions SET attempt = attempt + 1, moving = 1, order_ns = max(?, (SELECT coalesce(max(order_ns), 0) + 1 "
            "FROM submissions WHERE state = 'queued')) WHERE id = ?",
            (int(now * 1e9), id),
        )
        return self._move(id, State.QUEUED, now, "retry")

    def start_over(self, id: int) -> None:
        """The file of a retry lies in incoming/ again: what the last attempt came to is its report's to tell."""
        self._db.execute(
            "UPDATE submissions SET tries = 0, slot = NULL, verdict = NULL, family = NULL, points = NULL, points_possible = NULL, "
            "reason = NULL, message = NULL, inspection = NULL, report = NULL WHERE id = ?",
            (id,),
        )

    def undo_retry(self, id: int, now: float) -> Submission:
        """Its file could not come back: it is again what it was before."""
        (before,) = self._db.execute(
            "SELECT state FROM events WHERE submission = ? AND state IN ('rejected', 'failed') ORDER BY rowid DESC LIMIT 1", (id,)
        ).fetchone()
        self._db.execute("UPDATE submissions SET attempt = attempt - 1, moving = 0 WHERE id = ?", (id,))
        return self._move(id, State(before), now, "the retry was taken back")

    def pause(self, why: str | None) -> None:
        """Start nothing any more; None: go on. It stays so when the daemon is started again."""
        self._db.execute("DELETE FROM flags WHERE name = ?", (_PAUSED,))
        if why is not None:
            self._db.execute("INSERT INTO flags VALUES (?, ?)", (_PAUSED, why))

    @property
    def paused(self) -> str | None:
        """Why nothing is started; None where it is."""
        row = self._db.execute("SELECT value FROM flags WHERE name = ?", (_PAUSED,)).fetchone()
        return None if row is None else str(row[0])
