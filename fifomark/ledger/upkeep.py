"""For fsck: going through the whole ledger, and putting in what was lost."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterable, Iterator

import msgspec

from fifomark.core.states import State
from fifomark.core.submission import Submission
from fifomark.ledger.database import transaction
from fifomark.ledger.events import record
from fifomark.ledger.rows import COLUMNS, submission_of


class Upkeep:
    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db

    def everyone(self) -> Iterator[Submission]:
        """Every submission there ever was, in order of their ids; a few at a time, so that others may write meanwhile."""
        last = 0
        query = f"SELECT {COLUMNS} FROM submissions WHERE id > ? ORDER BY id LIMIT 1000"
        while rows := self._db.execute(query, (last,)).fetchall():
            yield from map(submission_of, rows)
            last = rows[-1][0]

    def journal_mode(self) -> str:
        return str(self._db.execute("PRAGMA journal_mode").fetchone()[0])

    def complaints(self) -> list[str]:
        """What SQLite, and a count of the rows, have to say against the ledger."""
        said = [str(row[0]) for row in self._db.execute("PRAGMA quick_check") if row[0] != "ok"]
        counted = dict(self._db.execute("SELECT state, count(*) FROM submissions GROUP BY state"))
        return said + [
            f"counts {n} {state}, and there are {counted.get(state, 0)}"
            for state, n in self._db.execute("SELECT state, n FROM tallies")
            if n != counted.get(state, 0)
        ]

    def recount(self) -> bool:
        """Count the rows again; whether that was all that was wrong."""
        with transaction(self._db):
            self._db.execute("DELETE FROM tallies")
            self._db.execute("INSERT INTO tallies SELECT state, count(*) FROM submissions GROUP BY state")
        return not self.complaints()

    def restore(self, submission: Submission, timeline: Iterable[tuple[State, float]]) -> None:
        """Put in a submission as it was, its id and all."""
        values = {**msgspec.structs.asdict(submission), **msgspec.structs.asdict(submission.identity), "name": os.fsencode(submission.name)}
        columns = COLUMNS.split(", ")
        self._db.execute(
            f"INSERT INTO submissions ({COLUMNS}) VALUES ({', '.join('?' * len(columns))})", [values[column] for column in columns]
        )
        for state, at in timeline:
            record(self._db, submission.id, at, state, "restored")
