"""The rows of a FIFOModelQueue: a durable first-in-first-out list of paths that several processes may share.

Not the spool's ledger: every process writes here, so the journal is a rollback journal. (With several writers, SQLite's WAL has lost
data in the versions 3.7.0 to 3.51.2.)
"""

from __future__ import annotations

import os
import sqlite3
from typing import NamedTuple

from fifomark.core.errors import UsageError
from fifomark.ledger.database import opened, transaction

_VERSION = 1
_TABLES = """
CREATE TABLE items (
    id INTEGER PRIMARY KEY AUTOINCREMENT,  -- AUTOINCREMENT: a freed id must not jump the queue
    path BLOB NOT NULL,
    is_path INTEGER NOT NULL,              -- it came as a pathlib.Path, and goes as one
    owner_pid INTEGER,                     -- the process that is working on it; NULL: it waits
    owner_since INTEGER                       -- when that process was started: a pid may be given out again
) STRICT
"""


class Item(NamedTuple):
    id: int
    path: str
    is_path: bool


class Fifo:
    """`location` is a file, or ":memory:"."""

    def __init__(self, location: str) -> None:
        self._location = location
        self._db = opened(location, self._prepare, "a queue", UsageError, timeout=30.0)

    def _prepare(self, db: sqlite3.Connection) -> None:
        with transaction(db):
            (version,) = db.execute("PRAGMA user_version").fetchone()
            if version == 0:
                db.execute(_TABLES)
                db.execute(f"PRAGMA user_version = {_VERSION}")
        if version > _VERSION:
            raise UsageError(f"{self._location}: a queue made by a newer fifomark (version {version}); update fifomark")

    def put(self, path: str, *, is_path: bool) -> None:
        with transaction(self._db):
            self._db.execute("INSERT INTO items (path, is_path) VALUES (?, ?)", (os.fsencode(path), is_path))

    def take(self) -> Item | None:
        """Remove and return the first that waits."""
        with transaction(self._db):
            item = self._first()
            if item is not None:
                self._db.execute("DELETE FROM items WHERE id = ?", (item.id,))
        return item

    def claim(self) -> Item | None:
        """Mark the first that waits as this process's; it is gone only with `finish`, and waits again if this process dies."""
        with transaction(self._db):
            item = self._first()
            if item is not None:
                self._db.execute(
                    "UPDATE items SET owner_pid = ?, owner_since = ? WHERE id = ?", (os.getpid(), _started(os.getpid()), item.id)
                )
        return item

    def finish(self, id: int) -> None:
        with transaction(self._db):
            self._db.execute("DELETE FROM items WHERE id = ?", (id,))

    def release(self, id: int) -> None:
        """Let a claimed one wait again, at its old place."""
        with transaction(self._db):
            self._db.execute("UPDATE items SET owner_pid = NULL, owner_since = NULL WHERE id = ?", (id,))

    def waiting(self) -> list[Item]:
        self._release_orphans()
        rows = self._db.execute("SELECT id, path, is_path FROM items WHERE owner_pid IS NULL ORDER BY id")
        return [Item(id, os.fsdecode(path), bool(is_path)) for id, path, is_path in rows]

    def count(self) -> int:
        self._release_orphans()
        (count,) = self._db.execute("SELECT count(*) FROM items WHERE owner_pid IS NULL").fetchone()
        return int(count)

    def close(self) -> None:
        self._db.close()

    def _first(self) -> Item | None:
        self._release_orphans()
        row = self._db.execute("SELECT id, path, is_path FROM items WHERE owner_pid IS NULL ORDER BY id LIMIT 1").fetchone()
        return None if row is None else Item(row[0], os.fsdecode(row[1]), bool(row[2]))

    def _release_orphans(self) -> None:
        """What a process had claimed that is no more waits again."""
        for pid, since in self._db.execute("SELECT DISTINCT owner_pid, owner_since FROM items WHERE owner_pid IS NOT NULL").fetchall():
            if _started(pid) != since:
                self._db.execute(
                    "UPDATE items SET owner_pid = NULL, owner_since = NULL WHERE owner_pid = ? AND owner_since IS ?", (pid, since)
                )


def _started(pid: int) -> int | None:
    """When the process was started, in clock ticks since boot (proc(5), stat, field 22): no step of the clock changes it."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as stat:
            return int(stat.read().rpartition(b")")[2].split()[19])
    except (FileNotFoundError, ProcessLookupError):
        return None
