"""How many attempts an owner has used."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection
from typing import NamedTuple

_IN_HAND = "('sanitizing', 'sanitized', 'evaluating')"


class Span(NamedTuple):
    """Seconds since the epoch, from `start` to just before `end`."""

    start: float
    end: float


ALWAYS = Span(float("-inf"), float("inf"))


class Attempts:
    """Counts over the ledger's submissions. Each is read from an index that holds no other owner's, whatever the ledger's size."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db

    def used(self, rubric: str, owner: str, endings: Collection[str], *, apart_from: int = 0, received: Span = ALWAYS) -> int:
        """The owner's submissions under `rubric` that ended in one of `endings`; `apart_from` is the id of one not to count."""
        marks = ", ".join("?" * len(endings))
        (count,) = self._db.execute(
            f"SELECT count(*) FROM submissions WHERE rubric = ? AND owner = ? AND ending IS NOT NULL AND ending IN ({marks}) "
            "AND received_at >= ? AND received_at < ? AND id <> ?",
            (rubric, owner, *endings, *received, apart_from),
        ).fetchone()
        return int(count)

    def in_hand(self, rubric: str, owner: str, *, received: Span = ALWAYS) -> int:
        """The owner's submissions under `rubric` of which it is not yet known how they end."""
        (count,) = self._db.execute(
            f"SELECT count(*) FROM submissions WHERE state IN {_IN_HAND} AND rubric = ? AND owner = ? "
            "AND received_at >= ? AND received_at < ?",
            (rubric, owner, *received),
        ).fetchone()
        return int(count)
