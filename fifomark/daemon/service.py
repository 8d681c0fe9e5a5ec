"""`serve` and `drain`: the loop around `tick`, its signals, and everything that must be open while it turns."""

from __future__ import annotations

import contextlib
import functools
import os
import platform
import signal
import sqlite3
import time
from collections.abc import Callable, Iterator
from multiprocessing.connection import wait
from types import FrameType
from typing import Literal, NamedTuple

import fifomark
from fifomark.core.clock import utc
from fifomark.core.errors import InternalError, SpoolError
from fifomark.core.status import DaemonStatus, SlotStatus
from fifomark.daemon.daemon import Daemon
from fifomark.daemon.fsck import known_to_a_ledger
from fifomark.daemon.lookout import PATIENCE, Lookout
from fifomark.daemon.rubrics import load_rubrics
from fifomark.ledger.ledger import Ledger
from fifomark.spool.layout import Layout
from fifomark.spool.lock import Holder, announce, held
from fifomark.spool.mounts import over_network
from fifomark.spool.spool import Spool
from fifomark.spool.watch import Watcher, new_watcher
from fifomark.workers.local import LocalPool
from fifomark.workers.main import serve_marking, serve_sanitizing
from fifomark.workers.slots import Slot, find_slots, pinned

_BUSY_SECONDS = 0.5  # how often overdue workers are looked for; what ends wakes the loop at once


class Ending(NamedTuple):
    """How a run ended: whether nothing was left to do, the names of files that were still being written, the signal that stopped it.

    `paused` says why nothing was started, if so.
    """

    idle: bool
    unsettled: tuple[str, ...]
    signal: int | None
    paused: str | None


OnTurn = Callable[[Daemon], None]


def run(root: str | os.PathLike[str], mode: Literal["serve", "drain"], on_turn: OnTurn = lambda _: None) -> Ending:
    """Serve the spool until a signal comes, or drain it until nothing waits.

    UsageError before anything is touched where settings or rubrics are wrong or another daemon holds the spool; InternalError where
    no slot is left that could go on.
    """
    spool = Spool(root)
    rubrics = load_rubrics(spool)
    check_place(spool.layout)
    slots = pinned(spool_slots(spool))
    with held(spool.layout), Ledger(spool.layout.ledger) as ledger:
        posts = [Slot(name=f"sanitizer:{i}", device="cpu", visible="") for i in range(spool.settings.sanitizers)]
        daemon = Daemon(
            spool,
            ledger,
            rubrics,
            sanitizers=LocalPool(functools.partial(serve_sanitizing, spool.settings.sandbox, spool.settings.isolation), posts),
            slots=LocalPool(serve_marking, slots),
        )
        loop = Loop(daemon, mode, on_turn)
        with _releasing(daemon):
            loop.run()
        return Ending(daemon.idle, tuple(sorted(name for _, name in daemon.unsettled)), loop.stopped_by, daemon.paused)


def check_place(layout: Layout) -> None:
    """SpoolError where the ledger would not be safe, or is gone: with a new one, ids would be given out again."""
    if over_network(layout.ledger):
        raise SpoolError(
            f"{layout.ledger}: lies on a network file system, where SQLite may lose it; put it on a disk of this machine: "
            f"ln -s /var/lib/fifomark/ledger.sqlite3 {layout.ledger}"
        )
    if (not layout.ledger.exists() or layout.ledger.stat().st_size == 0) and (known := known_to_a_ledger(layout)):
        raise SpoolError(f"{layout.ledger}: is gone or empty, though it knew {known}; make a new one with: fifomark fsck --rebuild")


@contextlib.contextmanager
def _releasing(daemon: Daemon) -> Iterator[None]:
    """At the end what is in hand is put back. Where that fails after something else did, that is told; recovery puts it back."""
    try:
        yield
    except BaseException:
        with contextlib.suppress(OSError, sqlite3.Error):
            daemon.release(time.time())
        raise
    daemon.release(time.time())


def spool_slots(spool: Spool) -> tuple[Slot, ...]:
    """Those that its settings ask for; ConfigError where they cannot be had."""
    settings = spool.settings
    memory = None if settings.cpu_memory_mib is None else settings.cpu_memory_mib << 20
    return find_slots(settings.slots, file=spool.layout.settings, cpu_memory_bytes=memory)


class Loop:
    """Turns the daemon; ends on a signal, in mode "drain" also when nothing waits."""

    def __init__(self, daemon: Daemon, mode: Literal["serve", "drain"], on_turn: OnTurn) -> None:
        self._daemon, self._mode, self._on_turn = daemon, mode, on_turn
        self._settings = daemon.spool.settings
        self._started_at = time.time()
        self.stopped_by: int | None = None  # the signal
        self._progressed = self._started_at
        self._announced: tuple[SlotStatus, ...] | None = None

    def run(self) -> None:
        with new_watcher(self._daemon.spool.layout, self._settings.watch) as watcher, self._signals() as signalled:
            lookout = Lookout(watcher, self._settings, time.time())
            self._daemon.recover(time.time())
            while self.stopped_by is None:
                happened = self._turn(lookout)
                if self._mode == "drain" and self._drained():
                    return
                if why := self._daemon.stuck or (self._daemon.blocked if self._mode == "drain" else None):
                    raise InternalError(f"no slot is left to go on with: {why}")
                if not happened:  # what did may have made something ready: a clean file for a free slot
                    self._wait(watcher, lookout, signalled)

    def _turn(self, lookout: Lookout) -> bool:
        now = time.time()
        happened = self._daemon.tick(now, lookout.due(now, bool(self._daemon.unsettled)))
        if happened:
            self._progressed = now
        lookout.took(self._daemon.sweep_seconds)
        self._announce()
        self._on_turn(self._daemon)
        return happened

    def _wait(self, watcher: Watcher, lookout: Lookout, signalled: int) -> None:
        busy = any(state.submission is not None for state in (*self._daemon.sanitizers.slots(), *self._daemon.slots.slots()))
        patience = 0.0 if self._daemon.admitting else lookout.pause(time.time(), bool(self._daemon.unsettled))
        pause = min(_BUSY_SECONDS, patience) if busy else patience
        wait([watcher.fileno(), signalled, *self._daemon.sanitizers.waitables(), *self._daemon.slots.waitables()], timeout=pause)

    def _drained(self) -> bool:
        settling = self._daemon.unsettled and time.time() - self._progressed < PATIENCE + self._settings.settle_seconds
        return self._daemon.idle and not settling

    def _announce(self) -> None:
        """Keep the card beside the lock true, for `status`."""
        slots = tuple(SlotStatus(name=s.slot.name, state=s.state, submission=s.submission, why=s.why) for s in self._daemon.slots.slots())
        if slots != self._announced:
            status = DaemonStatus(
                pid=os.getpid(), host=platform.node(), mode=self._mode, started_at=utc(self._started_at), version=fifomark.__version__
            )
            announce(self._daemon.spool.layout, Holder(daemon=status, slots=slots))
            self._announced = slots

    @contextlib.contextmanager
    def _signals(self) -> Iterator[int]:
        """SIGINT, SIGTERM and, unless it is ignored (nohup), SIGHUP set a flag and wake the loop; gives the descriptor that wakes."""
        wake, alarm = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        stops = [signal.SIGINT, signal.SIGTERM, *([signal.SIGHUP] if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN else [])]
        before = {number: signal.signal(number, self._on_stop) for number in stops}
        old_alarm = signal.set_wakeup_fd(alarm)
        try:
            yield wake
        finally:
            signal.set_wakeup_fd(old_alarm)
            for number, handler in before.items():
                signal.signal(number, handler)
            os.close(wake)
            os.close(alarm)

    def _on_stop(self, number: int, frame: FrameType | None) -> None:
        self.stopped_by = number
