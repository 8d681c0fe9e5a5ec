"""Reading settings and rubrics again while the daemon runs (SIGHUP). What is wrong is told, and the daemon goes on as it was."""

from __future__ import annotations

import logging
from collections.abc import Callable

from fifomark.core.errors import UsageError
from fifomark.daemon.daemon import Daemon
from fifomark.daemon.rubrics import check_named, reread
from fifomark.settings import Settings
from fifomark.spool.spool import Spool
from fifomark.workers.pool import Pool

_log = logging.getLogger(__name__)
Pools = tuple[Pool, Pool]  # of sanitizers, and of slots


class Reloading:
    """`make_pools` makes the pools that a spool's settings ask for; new ones take over once the old ones have nothing in hand."""

    def __init__(self, daemon: Daemon, make_pools: Callable[[Spool], Pools]) -> None:
        self._daemon, self._make_pools = daemon, make_pools
        self._next: Pools | None = None
        self.problem: str | None = None  # why the settings that are in force are older than those on disk

    def reload(self) -> bool:
        """Whether new settings are in force; rubrics are read again either way."""
        daemon = self._daemon
        try:
            spool = Spool(daemon.spool.layout.root)
            check_named(spool)
            pools = None if _workers(spool.settings) == _workers(daemon.spool.settings) else self._make_pools(spool)
        except (UsageError, OSError) as e:
            self.problem = f"the settings were changed and are wrong; those from before are in force: {e}"
            _log.error("%s", self.problem)
            spool, pools = daemon.spool, None
        else:
            self.problem = None
            self._next = pools or self._next
            _log.info("the settings were read again")
        reread(spool, daemon.rubrics, daemon.broken)
        daemon.adopt(spool, daemon.rubrics, daemon.sanitizers, daemon.slots)
        return self.problem is None

    @property
    def waits(self) -> bool:
        """Whether new pools wait for the old ones to end what they have in hand: nothing else may be started until then."""
        return self._next is not None

    def swap(self) -> None:
        """Let new pools take over, if there are any and the old ones are idle."""
        if self._next is None or self._daemon.in_hand:
            return
        daemon = self._daemon
        daemon.sanitizers.close()
        daemon.slots.close()
        daemon.adopt(daemon.spool, daemon.rubrics, *self._next)
        self._next = None
        _log.info("slots and sanitizers are those of the new settings now")


def _workers(settings: Settings) -> tuple[object, ...]:
    """What workers are made of: they are replaced where it has changed."""
    return settings.slots, settings.cpu_memory_mib, settings.sanitizers, settings.sandbox, settings.isolation
