"""One daemon a spool: an exclusive flock on control/daemon.lock, and beside it who holds it."""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator

import msgspec

from fifomark.core.errors import SpoolError, SpoolHeld
from fifomark.core.record import Record
from fifomark.core.status import DaemonStatus, SlotStatus
from fifomark.spool.layout import Layout
from fifomark.spool.moves import publishing

_PATIENCE = 0.5  # seconds: `status` looks at the lock for an instant, and must not make a daemon give up


class Holder(Record):
    """Who holds the spool, as it says of itself in control/daemon.json: `notices` are what an operator should know, `broken` the rubrics
    that are wrong, and why."""

    daemon: DaemonStatus
    slots: tuple[SlotStatus, ...]
    notices: tuple[str, ...] = ()
    broken: dict[str, str] = {}


@contextlib.contextmanager
def held(layout: Layout) -> Iterator[None]:
    """Hold the spool; SpoolHeld names the daemon that holds it already."""
    try:
        fd = os.open(layout.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as e:
        raise SpoolError(f"{layout.lock}: cannot be locked: {e.strerror}") from e
    try:
        if not _locked(fd, fcntl.LOCK_EX, _PATIENCE):
            other = _read(layout)
            who = f"{other.daemon.mode}, process {other.daemon.pid} on {other.daemon.host}" if other else "another daemon"
            raise SpoolHeld(f"{layout.root}: held by {who}; stop it first, or wait until it has ended")
        yield
    finally:
        os.close(fd)


def announce(layout: Layout, holder: Holder) -> None:
    """Say who holds the spool and how its slots are."""
    with publishing(_card(layout), durable=False) as fd:
        os.write(fd, msgspec.json.encode(holder))


def holder(layout: Layout) -> Holder | None:
    """Who holds the spool now; None where nobody does."""
    try:
        fd = os.open(layout.lock, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        return None if _locked(fd, fcntl.LOCK_SH, 0.0) else _read(layout)
    finally:
        os.close(fd)


def _locked(fd: int, kind: int, patience: float) -> bool:
    until = time.monotonic() + patience
    while True:
        try:
            fcntl.flock(fd, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= until:
                return False
            time.sleep(0.02)
        else:
            return True


def _read(layout: Layout) -> Holder | None:
    with contextlib.suppress(OSError, msgspec.DecodeError), open(_card(layout), "rb") as card:
        return msgspec.json.decode(card.read(), type=Holder)
    return None


def _card(layout: Layout) -> str:
    return os.path.join(layout.folder("control"), "daemon.json")
