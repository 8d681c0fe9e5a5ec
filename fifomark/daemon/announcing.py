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


class Announcing:
    def __init__(self, daemon: Daemon, mode: str, notifier: Notifier) -> None:
        self._daemon, self._notifier = daemon, notifier
        self._self = DaemonStatus(
            pid=os.getpid(), host=platform.node(), mode=mode, started_at=utc(time.time()), version=fifomark.__version__
        )
        self._said: Holder | None = None

    def announce(self, *notices: str | None) -> None:
        """Keep the card and the status line true; `notices` are what an operator should know besides what the daemon itself notices."""
        daemon = self._daemon
        slots = tuple(SlotStatus(name=s.slot.name, state=s.state, submission=s.submission, why=s.why) for s in daemon.slots.slots())
        told = tuple(filter(None, (*notices, *daemon.notices)))
        card = Holder(daemon=self._self, slots=slots, notices=told, broken=dict(daemon.broken))
        if card != self._said:
            for notice in set(told) - set(self._said.notices if self._said else ()):
                _log.warning("%s", notice)
            try:
                announce(daemon.spool.layout, card)
            except OSError as e:  # a full disk, for one: not what the marking depends on
                _log.warning("`fifomark status` is not told how the slots are: %s", e)
            self._said = card
        self._notifier.status(self._status(told))

    def _status(self, notices: tuple[str, ...]) -> str:
        counts = self._daemon.ledger.counts()
        ended = sum(counts[state] for state in FINAL)
        line = f"{counts[State.QUEUED]} waiting, {self._daemon.in_hand} in hand, {ended} ended"
        return "; ".join((line, *notices))
