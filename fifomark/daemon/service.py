"""`serve` and `drain`: the loop around `tick`, and everything that must be open while it turns."""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import signal
import sqlite3
import time
from collections.abc import Callable, Iterator
from multiprocessing.connection import wait
from typing import Literal, NamedTuple

from fifomark.core.errors import InternalError, SpoolError, UsageError
from fifomark.core.policy import Isolation
from fifomark.core.states import State
from fifomark.core.text import shown
from fifomark.daemon.announcing import Announcing
from fifomark.daemon.daemon import Daemon
from fifomark.daemon.fsck import known_to_a_ledger
from fifomark.daemon.logs import log_as, logging_to_stderr
from fifomark.daemon.lookout import PATIENCE, Lookout
from fifomark.daemon.notify import Notifier
from fifomark.daemon.prune import Keeper
from fifomark.daemon.reloading import Pools, Reloading
from fifomark.daemon.rubrics import load_rubrics
from fifomark.daemon.signals import Signals
from fifomark.daemon.telling import Telling
from fifomark.ledger.ledger import Ledger
from fifomark.settings import LogFormat, Settings
from fifomark.spool.layout import Layout
from fifomark.spool.lock import held
from fifomark.spool.mounts import over_network
from fifomark.spool.spool import Spool
from fifomark.spool.watch import Watcher, new_watcher
from fifomark.workers.local import LocalPool
from fifomark.workers.main import MARKING, serve_marking, serve_sanitizing
from fifomark.workers.slots import Slot, find_slots, pinned

_log = logging.getLogger(__name__)
_NAP_SECONDS = 0.02  # between two turns while every slot has enough to do: a turn costs nearly the same for one that ended as for ten


class Ending(NamedTuple):
    """How a run ended: whether nothing was left to do, the names of files that were still being written, the signal that stopped it.

    `paused` says why nothing was started, if so; `held` counts what waits for its operator.
    """

    idle: bool
    unsettled: tuple[str, ...]
    signal: int | None
    paused: str | None
    held: int


Mode = Literal["serve", "drain"]
OnTurn = Callable[[Daemon], None]


def run(
    root: str | os.PathLike[str],
    mode: Mode,
    on_turn: OnTurn = lambda _: None,
    *,
    log_format: LogFormat | None = None,
    log_level: int = logging.WARNING,
) -> Ending:
    """Serve the spool until a signal comes, or drain it until nothing waits. `log_format` stands above that of the settings.

    UsageError before anything is touched where settings or rubrics are wrong or another daemon holds the spool; InternalError where
    no slot is left that could go on.
    """
    spool = Spool(root)
    rubrics = load_rubrics(spool)
    check_place(spool.layout)
    sanitizers, slots = _pools(spool)
    with contextlib.ExitStack() as stack:
        stack.enter_context(held(spool.layout))
        ledger = stack.enter_context(Ledger(spool.layout.ledger))
        handler = stack.enter_context(logging_to_stderr(log_format or spool.settings.log_format, log_level))
        notifier = stack.enter_context(contextlib.closing(Notifier()))
        signals = stack.enter_context(Signals())
        daemon = Daemon(spool, ledger, rubrics, sanitizers, slots, lenient=mode == "serve")
        loop = Loop(daemon, mode, on_turn, signals, notifier)
        if log_format is None:
            loop.on_reload = lambda settings: log_as(handler, settings.log_format)
        with _releasing(daemon):
            loop.run()
        loop.tell()
        unsettled = tuple(sorted(name for _, name in daemon.admitting.unsettled))
        return Ending(daemon.idle, unsettled, signals.stopped_by, daemon.paused, held=ledger.counts()[State.HELD])


def _pools(spool: Spool) -> Pools:
    """As the settings ask for; no worker is started yet."""
    settings = spool.settings
    posts = [Slot(name=f"sanitizer:{i}", device="cpu", visible="") for i in range(settings.sanitizers)]
    sanitizing = functools.partial(serve_sanitizing, settings.sandbox, settings.isolation)
    slots = pinned(spool_slots(spool))
    alone = settings.isolation is Isolation.SUBMISSION
    sanitizers = LocalPool(sanitizing, posts, keep_output=True, one_by_one=alone)
    return sanitizers, LocalPool(serve_marking, slots, preload=MARKING, keep_output=True, one_by_one=True)


def spool_slots(spool: Spool) -> tuple[Slot, ...]:
    """Those that its settings ask for; ConfigError where they cannot be had."""
    settings = spool.settings
    memory = None if settings.cpu_memory_mib is None else settings.cpu_memory_mib << 20
    return find_slots(settings.slots, file=spool.layout.settings, cpu_memory_bytes=memory)


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


class Loop:
    """Turns the daemon; ends on a signal, in mode "drain" also when nothing waits."""

    def __init__(self, daemon: Daemon, mode: Mode, on_turn: OnTurn, signals: Signals, notifier: Notifier) -> None:
        self._daemon, self._mode, self._on_turn = daemon, mode, on_turn
        self._signals, self._notifier = signals, notifier
        self.on_reload: Callable[[Settings], None] = lambda _: None
        self._reloading = Reloading(daemon, _pools)
        self._announcing = Announcing(daemon, mode, notifier)
        self._telling = Telling(daemon.ledger)
        self._keeper = Keeper(daemon.ledger)
        self._progressed = time.time()
        self._busy = False  # whether there is better to do than to look at all of incoming/
        self._give_up_at: float | None = None  # on the monotonic clock: what runs then is put back

    def run(self) -> None:
        spool = self._daemon.spool
        with new_watcher(spool.layout, spool.settings.watch) as watcher:
            self._lookout = Lookout(watcher, spool.settings, time.time())
            unfinished = self._daemon.recover(time.time())
            left = f"; {unfinished} were left by the one before" if unfinished else ""
            _log.info("%s %s, process %d%s", "serving" if self._mode == "serve" else "draining", self._root, os.getpid(), left)
            self._notifier.ready()
            while not self._is_over():
                happened = self._turn()
                if self._mode == "drain" and self._drained():
                    return
                if why := self._daemon.stuck or (self._daemon.blocked if self._mode == "drain" else None):
                    raise InternalError(f"no slot is left to go on with: {why}")
                if self._mode == "drain" and self._daemon.short_of_space and not self._daemon.in_hand:
                    raise InternalError(f"{self._root}: its disk is nearly full (min_free_bytes); make room, with fifomark prune for one")
                supplied = self._daemon.supplied(time.time())
                self._busy = happened or supplied
                if supplied:
                    wait([watcher.fileno(), self._signals.fileno()], timeout=_NAP_SECONDS)
                elif not happened:  # what did may have made something ready: a clean file for a free slot
                    self._wait(watcher)

    def tell(self) -> None:
        """The last words, once everything is put back."""
        self._telling.tell()
        if self._signals.stopped_by is not None:
            _log.info("stopped; what was in hand waits where it was")

    @property
    def _root(self) -> str:
        return shown(str(self._daemon.spool.layout.root), 4096)

    def _is_over(self) -> bool:
        """Act on signals; whether the loop is to end: nothing is in hand any more, or the time for it is up."""
        self._signals.clear()
        if self._signals.take_reload():
            self._reload()
        if self._signals.stopped_by is None:
            return False
        if self._give_up_at is None:
            self._stop()
        return self._signals.at_once or not self._daemon.in_hand or time.monotonic() >= (self._give_up_at or 0.0)

    def _stop(self) -> None:
        """Start nothing any more, and give what runs its time."""
        self._notifier.stopping()
        grace = self._daemon.spool.settings.grace_seconds
        self._give_up_at = time.monotonic() + grace
        assert self._signals.stopped_by is not None
        why = signal.Signals(self._signals.stopped_by).name
        if running := self._daemon.in_hand:
            again = "; Ctrl-C again stops at once" if self._signals.stopped_by == signal.SIGINT else ""
            _log.warning("%s: %d in hand may end within %g seconds%s", why, running, grace, again)
        else:
            _log.info("%s", why)

    def _reload(self) -> None:
        self._notifier.reloading()
        if self._reloading.reload():
            self._lookout.start_again(self._daemon.spool.settings)
            self.on_reload(self._daemon.spool.settings)
        if self._mode == "drain" and self._daemon.broken:  # it would wait for ever
            raise UsageError(next(iter(self._daemon.broken.values())))
        self._notifier.ready()

    def _turn(self) -> bool:
        now = time.time()
        self._reloading.swap()
        self._daemon.closing = self._signals.stopped_by is not None or self._reloading.waits
        admitting = self._daemon.admitting
        look = self._lookout.due(now, bool(admitting.unsettled), sweeping=admitting.sweeping, busy=self._busy)
        happened = self._daemon.tick(now, look)
        if happened:
            self._progressed = now
        self._lookout.took(admitting.sweep_seconds)
        happened |= self._keeper.turn(self._daemon.spool, now)
        self._announcing.announce(now, self._reloading.problem)
        self._telling.tell()
        self._notifier.pet()
        self._on_turn(self._daemon)
        return happened

    def _wait(self, watcher: Watcher) -> None:
        now = time.time()
        pause = 0.0 if self._daemon.admitting.has_more else self._lookout.pause(now, bool(self._daemon.admitting.unsettled))
        pools = (*self._daemon.sanitizers.waitables(), *self._daemon.slots.waitables())
        wait(
            [watcher.fileno(), self._signals.fileno(), *pools],
            timeout=min(pause, self._daemon.patience(now), self._announcing.patience(now), self._notifier.patience),
        )

    def _drained(self) -> bool:
        patience = PATIENCE + self._daemon.spool.settings.settle_seconds
        settling = self._daemon.admitting.unsettled and time.time() - self._progressed < patience
        return self._daemon.idle and not settling
