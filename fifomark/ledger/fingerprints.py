"""The fingerprints of what was marked, to find weights that two owners handed in."""

from __future__ import annotations

import sqlite3

from fifomark.core.outcome import Fingerprint
from fifomark.core.submission import Submission

NEIGHBOURS = 100  # on each side, among models of the same shapes
_KEPT = 4096  # sketches in memory, of at most MAX_SKETCH bytes


class Fingerprints:
    """One for each submission that was marked. Every question is of another owner's under the same rubric, and is read from an index."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db
        self._sketches: dict[int, bytes] = {}  # of those that were neighbours last: most of them will be again

    def keep(self, submission: Submission, fingerprint: Fingerprint) -> None:
        """Remember it; a new attempt at the same submission takes the place of the old."""
        self._sketches.pop(submission.id, None)
        self._db.execute(
            "INSERT OR REPLACE INTO fingerprints (submission, rubric, owner, exact, permuted, shapes, size, sketch) "
            "VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (
                submission.id,
                submission.rubric,
                submission.owner,
                fingerprint.exact,
                fingerprint.permuted,
                fingerprint.shapes,
                fingerprint.size,
                fingerprint.sketch,
            ),
        )

    def same(self, submission: Submission, fingerprint: Fingerprint) -> int | None:
        """The first submission of another owner with exactly these weights."""
        return self._first("exact", submission, fingerprint.exact)

    def permuted(self, submission: Submission, fingerprint: Fingerprint) -> int | None:
        """The first submission of another owner with these numbers, in whatever order."""
        return self._first("permuted", submission, fingerprint.permuted)

    def _first(self, column: str, submission: Submission, value: str) -> int | None:
        (found,) = self._db.execute(
            f"SELECT min(submission) FROM fingerprints WHERE rubric = ? AND {column} = ? AND owner <> ?",
            (submission.rubric, value, submission.owner),
        ).fetchone()
        return None if found is None else int(found)

    def near(self, submission: Submission, fingerprint: Fingerprint) -> list[tuple[int, bytes]]:
        """Submissions of other owners with the same shapes, and their sketches: those nearest in size, at most 2 × NEIGHBOURS."""
        values = (submission.rubric, fingerprint.shapes, fingerprint.size, submission.owner, NEIGHBOURS)
        found: list[int] = []
        for side, order in (("size >= ?", "ASC"), ("size < ?", "DESC")):
            rows = self._db.execute(
                f"SELECT submission FROM fingerprints WHERE rubric = ? AND shapes = ? AND {side} AND owner <> ? "
                f"ORDER BY size {order} LIMIT ?",
                values,
            )
            found += [id for (id,) in rows.fetchall()]
        if len(self._sketches) > _KEPT:
            self._sketches.clear()
        if unread := [id for id in found if id not in self._sketches]:
            placeholders = ", ".join("?" * len(unread))
            rows = self._db.execute(f"SELECT submission, sketch FROM fingerprints WHERE submission IN ({placeholders})", unread)
            self._sketches.update(rows.fetchall())
        return [(id, self._sketches[id]) for id in found]
