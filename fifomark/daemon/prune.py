"""Taking away what is no longer to be kept of submissions that have ended: by age, by number, by bytes. Never of any other."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from itertools import islice
from typing import NamedTuple

from fifomark.core.keeping import Pruned
from fifomark.daemon.placing import place
from fifomark.ledger.ledger import Ledger
from fifomark.settings import Retention
from fifomark.spool.spool import Spool

_log = logging.getLogger(__name__)
_EVERY = 3600.0  # seconds from one look at what may go to the next
_AT_ONCE = 100  # submissions whose files go in one turn of the daemon, so that nobody waits for it
_LOOK_AHEAD = 1000  # submissions, for the same reason


class Doomed(NamedTuple):
    """A submission of which everything up to `stage` is to go, and how many bytes that is."""

    id: int
    stage: Pruned
    bytes: int


def plan(spool: Spool, ledger: Ledger, rules: Retention, now: float, most: int | None = None) -> list[Doomed]:
    """What `rules` no longer keep at `now`, first what ended first; of what goes by age or number, no more than `most` by each."""
    stage = Pruned.REPORT if rules.reports else Pruned.FILES
    doomed: dict[int, Doomed] = {}
    if rules.older_than_days is not None:
        old = ledger.retention.ended_before(now - rules.older_than_days * 86400, stage)
        _doom(doomed, spool, ledger, islice(old, most), stage)
    if rules.keep is not None:
        _doom(doomed, spool, ledger, islice(ledger.retention.beyond(rules.keep, stage), most), stage)
    if rules.max_bytes is not None:
        left: float = spool.kept_bytes() - sum(one.bytes for one in doomed.values()) - rules.max_bytes
        for next_stage in range(Pruned.SUBMITTED, stage + 1):  # the clean files of all outlive what was submitted
            if left > 0:
                everything = ledger.retention.ended_before(float("inf"), Pruned(next_stage))
                left = _doom(doomed, spool, ledger, everything, Pruned(next_stage), left)
    return list(doomed.values())


def _doom(doomed: dict[int, Doomed], spool: Spool, ledger: Ledger, ids: Iterable[int], stage: Pruned, until: float = float("inf")) -> float:
    """Add those with these ids, until they are more than `until` bytes together; returns how many bytes are left to find."""
    for id in ids:
        if until <= 0:
            break
        before = doomed.get(id, Doomed(id, Pruned.NOTHING, 0))
        if before.stage < stage:
            size = spool.bytes_of(ledger.get(id), stage)
            doomed[id] = Doomed(id, stage, size)
            until -= size - before.bytes
    return until


class Keeper:
    """Keeps a spool's [retention] while its daemon runs, some submissions in each turn."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._rules = Retention()
        self._due = 0.0
        self._doomed: list[Doomed] = []

    def turn(self, spool: Spool, now: float) -> bool:
        """Do what is due at `now`; new rules hold at once. Returns whether there is more to do."""
        rules = spool.settings.retention
        if rules != self._rules or now >= self._due or now < self._due - 2 * _EVERY:  # the last: the clock was set back
            self._rules, self._due = rules, now + _EVERY
            self._doomed = plan(spool, self._ledger, rules, now, _LOOK_AHEAD)
            if len(self._doomed) >= _LOOK_AHEAD:
                self._due = now  # there is more
        if not self._doomed:
            return False
        turn, self._doomed = self._doomed[:_AT_ONCE], self._doomed[_AT_ONCE:]
        with self._ledger.batch():
            gone = [one for one in turn if self._ledger.retention.prune(one.id, one.stage, now)]  # some may wait for another attempt by now
        place(spool, self._ledger, [self._ledger.get(one.id) for one in gone], now)
        _log.info("pruned %d submissions, %d bytes", len(gone), sum(one.bytes for one in gone))
        return bool(self._doomed)
