"""Letting the waiting rows agree with incoming/."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from fifomark.core.states import State
from fifomark.core.submission import Arrival, Identity, Key
from fifomark.ledger.events import record
from fifomark.ledger.steering import HELD, Move

Naming = Callable[[Arrival], str]


class _Waiting(NamedTuple):
    id: int
    state: State
    ready: bool
    reason: str | None
    identity: Identity


class Admission:
    """`move` is the ledger's own."""

    def __init__(self, db: sqlite3.Connection, move: Move) -> None:
        self._db, self._move = db, move

    def admit(self, arrivals: Iterable[Arrival], now: float, *, order: str = "mtime", rubric_of: Naming, owner_of: Naming) -> int:
        """Let what has settled wait: new files enter in order of mtime, replaced ones take their new place. Returns how many came in."""
        came = 0
        for arrival in sorted(arrivals, key=lambda arrival: (arrival.identity.mtime_ns, os.fsencode(arrival.name))):
            waiting = self._waiting((arrival.folder, arrival.name))
            if waiting is None:
                self._insert(arrival, now, order, rubric_of(arrival), owner_of(arrival))
                came += 1
            elif (waiting.identity, waiting.ready) != (arrival.identity, True):
                self._replace(waiting, arrival, now, order)
        return came

    def unsettle(self, keys: Iterable[Key]) -> None:
        """What waits under these names is being written again, and is not started until it was admitted anew."""
        for key in keys:
            if (waiting := self._waiting(key)) and waiting.ready:
                self._db.execute("UPDATE submissions SET ready = 0 WHERE id = ?", (waiting.id,))

    def withdraw_gone(self, keys: Iterable[Key], now: float) -> int:
        """What waited under these names has been deleted. Returns how many did."""
        gone = [waiting.id for key in keys if (waiting := self._waiting(key))]
        for id in gone:
            self._move(id, State.WITHDRAWN, now, "its file was deleted from incoming/")
        return len(gone)

    def waiting(self) -> Iterator[Key]:
        """Where everything lies that waits in incoming/."""
        for folder, name in self._db.execute("SELECT folder, name FROM submissions WHERE state IN ('queued', 'held')"):
            yield folder, os.fsdecode(name)

    def waits(self, key: Key) -> bool:
        """Whether something waits under this name."""
        return self._waiting(key) is not None

    def _waiting(self, key: Key) -> _Waiting | None:
        row = self._db.execute(
            "SELECT id, state, ready, reason, device, inode, size, mtime_ns FROM submissions "
            "WHERE folder = ? AND name = ? AND state IN ('queued', 'held')",
            (key[0], os.fsencode(key[1])),
        ).fetchone()
        if row is None:
            return None
        id, state, ready, reason, device, inode, size, mtime_ns = row
        return _Waiting(id, State(state), bool(ready), reason, Identity(device=device, inode=inode, size=size, mtime_ns=mtime_ns))

    def _insert(self, arrival: Arrival, now: float, order: str, rubric: str, owner: str) -> None:
        row = self._db.execute(
            "INSERT INTO submissions "
            "(folder, name, kind, rubric, owner, state, order_ns, device, inode, size, mtime_ns, received_at, updated_at) "
            "VALUES (?, ?, ?, ?, ?, 'queued', ?, ?, ?, ?, ?, ?, ?)",
            (
                arrival.folder,
                os.fsencode(arrival.name),
                arrival.kind,
                rubric,
                owner,
                _order(arrival, now, order),
                *_stored(arrival.identity),
                now,
                now,
            ),
        )
        assert row.lastrowid is not None
        record(self._db, row.lastrowid, now, State.QUEUED, None)

    def _replace(self, waiting: _Waiting, arrival: Arrival, now: float, order: str) -> None:
        """What waits has settled anew: in its old place where it is the file it was, else as one that has just come."""
        if waiting.identity == arrival.identity:
            self._db.execute("UPDATE submissions SET ready = 1 WHERE id = ?", (waiting.id,))
            return
        self._db.execute(
            "UPDATE submissions SET kind = ?, order_ns = ?, device = ?, inode = ?, size = ?, mtime_ns = ?, "
            "received_at = ?, ready = 1, updated_at = ? WHERE id = ?",
            (arrival.kind, _order(arrival, now, order), *_stored(arrival.identity), now, now, waiting.id),
        )
        if waiting.state is State.HELD and waiting.reason != HELD:
            self._move(waiting.id, State.QUEUED, now, "replaced in incoming/")
            self._db.execute("UPDATE submissions SET message = NULL WHERE id = ?", (waiting.id,))
        else:
            record(self._db, waiting.id, now, waiting.state, "replaced in incoming/")


def _order(arrival: Arrival, now: float, order: str) -> int:
    """An mtime in the future counts as the time of admission; by arrival, nothing but the admission counts."""
    admitted = int(now * 1e9)
    return admitted if order == "arrival" else min(arrival.identity.mtime_ns, admitted)


def _stored(identity: Identity) -> tuple[int, int, int, int]:
    return identity.device, identity.inode, identity.size, identity.mtime_ns
