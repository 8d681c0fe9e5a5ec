"""Opening an SQLite file, and the one way to write to it."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from fifomark.core.errors import UsageError


def opened(
    location: str,
    prepare: Callable[[sqlite3.Connection], None],
    what: str,
    refusal: type[UsageError],
    *,
    uri: bool = False,
    timeout: float = 10.0,
) -> sqlite3.Connection:
    """The database at `location`, once `prepare` has run on it; closed again where that raises.

    `refusal` where SQLite cannot open or use it as `what` it is meant for. `timeout` is how many seconds to wait for another writer.
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
            raise refusal(f"{location}: cannot be used as {what}: {e}") from e
        raise
    return db


@contextmanager
def transaction(db: sqlite3.Connection) -> Iterator[None]:
    """Everything inside is committed at once, or nothing of it."""
    db.execute("BEGIN IMMEDIATE")  # a writer waits for its turn at the beginning, not in the middle
    try:
        yield
    except BaseException:
        db.execute("ROLLBACK")
        raise
    db.execute("COMMIT")
