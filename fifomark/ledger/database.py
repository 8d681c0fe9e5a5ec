"""Opening an SQLite file, and the one way to write to it."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from fifomark.core.errors import UsageError

_REBUILD = "it is damaged: a new one is made from the folders by fifomark fsck --rebuild"
_NEXT_STEPS = {
    sqlite3.SQLITE_BUSY: "another process writes to it: end that one, and start again",
    sqlite3.SQLITE_LOCKED: "another process writes to it: end that one, and start again",
    sqlite3.SQLITE_FULL: "make room, and start again: nothing is lost",
    sqlite3.SQLITE_CORRUPT: _REBUILD,
    sqlite3.SQLITE_NOTADB: _REBUILD,
}


def next_step(error: sqlite3.Error) -> str:
    """What the operator of a spool may do about an error of its ledger."""
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR)
    return _NEXT_STEPS.get(code & 0xFF, "see to its disk, and start again: nothing is lost")


def opened(
    location: str,
    prepare: Callable[[sqlite3.Connection], None],
    what: str,
    refusal: type[UsageError],
    *,
    uri: bool = False,
    timeout: float = 10.0,
    advice: Callable[[sqlite3.Error], str] | None = None,
    path: str | None = None,
) -> sqlite3.Connection:
    """The database at `location`, once `prepare` has run on it; closed again where that raises.

    `refusal` where SQLite cannot open or use it as `what` it is meant for. `timeout` is how many seconds to wait for another writer,
    `advice` what to do about an error, `path` what to call it there.
    """
    db = None
    try:
        # Several threads may share a queue; sqlite3 itself serialises them.
        db = sqlite3.connect(location, isolation_level=None, timeout=timeout, uri=uri, check_same_thread=False)
        prepare(db)
    except BaseException as e:
        if db is not None:
            db.close()
        if isinstance(e, sqlite3.Error):
            raise refusal(f"{path or location}: cannot be used as {what}: {e}" + (f"; {advice(e)}" if advice else "")) from e
        raise
    return db


def make_last(path: str) -> None:
    """fsync the database at `path`, where there is one. Whoever wrote to it last may have been killed between a commit and its fsync: we
    would see that commit, act on it, and a power cut could still undo it. To be called before the database is opened: closing a file drops
    every lock that this process holds on it."""
    path = os.path.realpath(path)  # where it is a link, its journal lies beside what it leads to
    for file in (path, f"{path}-wal", os.path.dirname(path)):
        if os.path.exists(file):
            fd = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
            try:
                os.fsync(fd)
            finally:
                os.close(fd)


@contextmanager
def transaction(db: sqlite3.Connection) -> Iterator[None]:
    """Everything inside is committed at once, or nothing of it."""
    db.execute("BEGIN IMMEDIATE")  # a writer waits for its turn at the beginning, not in the middle
    try:
        yield
        db.execute("COMMIT")
    except BaseException:
        # On a full or broken disk SQLite may have rolled back by itself, or cannot: closing the database does it then.
        with suppress(sqlite3.Error):
            db.execute("ROLLBACK")
        raise
