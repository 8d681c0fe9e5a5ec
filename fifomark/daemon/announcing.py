"""What the daemon says of itself while it runs: the card beside the lock, which `status` reads, and systemd's status line."""

from __future__ import annotations

import logging
import os
import platform
import time

import fifomark
from fifomark.core.clock import utc
from fifomark.core.states import FINAL, State
from fifomark.core.status import DaemonStatus, SlotStatus
from fifomark.daemon.daemon import Daemon
from fifomark.daemon.notify import Notifier
from fifomark.spool.lock import Holder, announce

_log = logging.getLogger(__name__)
_EVERY_SECONDS = 0.2  # who looks at slots sees no more of them than that; each card is a file


class Announcing:
    def __init__(self, daemon: Daemon, mode: str, notifier: Notifier) -> None:
        self._daemon, self._notifier = daemon, notifier
        self._self = DaemonStatus(
            pid=os.getpid(), host=platform.node(), mode=mode, started_at=utc(time.time()), version=fifomark.__version__
        )
        self._said: Holder | None = None
        self._told: tuple[str, ...] = ()
        self._looked_at = float("-inf")
        self._late = False  # whether there may be news that is not told yet

    def patience(self, now: float) -> float:
        """Seconds until `announce` has to be called again at the latest."""
        return max(0.0, self._looked_at + _EVERY_SECONDS - now) if self._late else float("inf")

    def announce(self, now: float, *notices: str | None) -> None:
        """Log what is new of the `notices`, of which an operator should know, and of those of the daemon itself; keep the card and the
        status line true, but for a moment."""
        told = tuple(filter(None, (*notices, *self._daemon.notices)))
        for notice in set(told) - set(self._told):
            _log.warning("%s", notice)
        self._told = told
        self._late = 0 <= now - self._looked_at < _EVERY_SECONDS
        if not self._late:
            self._looked_at = now
            self._write(told)
            self._notifier.status(self._status(told))

    def _write(self, notices: tuple[str, ...]) -> None:
        daemon = self._daemon
        slots = tuple(SlotStatus(name=s.slot.name, state=s.state, submission=s.submission, why=s.why) for s in daemon.slots.slots())
        card = Holder(daemon=self._self, slots=slots, notices=notices, broken=dict(daemon.broken))
        if card != self._said:
            try:
                announce(daemon.spool.layout, card)
            except OSError as e:  # a full disk, for one: not what the marking depends on
                _log.warning("`fifomark status` is not told how the slots are: %s", e)
            self._said = card

    def _status(self, notices: tuple[str, ...]) -> str:
        counts = self._daemon.ledger.counts()
        ended = sum(counts[state] for state in FINAL)
        line = f"{counts[State.QUEUED]} waiting, {self._daemon.in_hand} in hand, {ended} ended"
        return "; ".join((line, *notices))
