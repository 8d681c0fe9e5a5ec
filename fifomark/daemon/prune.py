"""Taking away what is no longer to be kept of submissions that have ended: by age, by number, by bytes. Never of any other."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from fifomark.core.keeping import Pruned
from fifomark.core.record import Record
from fifomark.core.submission import Submission
from fifomark.ledger.ledger import Ledger
from fifomark.settings import Retention
from fifomark.spool.spool import Spool

_log = logging.getLogger(__name__)
_EVERY = 3600.0  # seconds from one look at what may go to the next
_AT_ONCE = 100  # submissions whose files go in one turn of the daemon, so that nobody waits for it


class Doomed(NamedTuple):
    """A submission of which everything up to `stage` is to go, and how many bytes that is."""

    id: int
    stage: Pruned
    bytes: int


class Pruning(Record):
    """What came of it, or would. `kept_bytes` is what the spool still keeps of submissions that have ended."""

    submissions: int
    freed_bytes: int
    kept_bytes: int


def plan(spool: Spool, ledger: Ledger, rules: Retention, now: float) -> list[Doomed]:
    """What `rules` no longer keep at `now`, first what ended first."""
    most = Pruned.REPORT if rules.reports else Pruned.FILES
    doomed: dict[int, Doomed] = {}
    if rules.older_than_days is not None:
        _doom(doomed, spool, ledger, ledger.retention.ended_before(now - rules.older_than_days * 86400, most), most)
    if rules.keep is not None:
        _doom(doomed, spool, ledger, ledger.retention.beyond(rules.keep, most), most)
    if rules.max_bytes is not None:
        left: float = spool.kept_bytes() - sum(one.bytes for one in doomed.values()) - rules.max_bytes
        for stage in (stage for stage in Pruned if Pruned.NOTHING < stage <= most):  # the clean files of all outlive what was submitted
            if left > 0:
                left = _doom(doomed, spool, ledger, ledger.retention.ended_before(now + 1e9, stage), stage, left)
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


def prune(spool: Spool, ledger: Ledger, doomed: Sequence[Doomed], now: float) -> Iterator[Submission]:
    """Take away what is `doomed`, some at a time; gives each submission once its files are gone. For who holds the spool.

    As every move: the ledger says first what is to be, then the files go, then it says that they are gone.
    """
    for start in range(0, len(doomed), _AT_ONCE):
        with ledger.batch():
            for one in doomed[start : start + _AT_ONCE]:
                ledger.retention.prune(one.id, one.stage, now)
            marked = [ledger.get(one.id) for one in doomed[start : start + _AT_ONCE]]
        for submission in marked:
            spool.place(submission)
        spool.sync()
        with ledger.batch():
            for submission in marked:
                ledger.in_place(submission.id)
        yield from marked


class Keeper:
    """Keeps a spool's [retention] while its daemon runs, some submissions in each turn."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._rules = Retention()
        self._due = 0.0
        self._doomed: list[Doomed] = []

    def turn(self, spool: Spool, now: float) -> bool:
        """What is due at `now`; new rules hold at once. A file that cannot be removed is told, and tried again the next time. Returns
        whether there is more to do."""
        rules = spool.settings.retention
        if rules != self._rules or now >= self._due or now < self._due - 2 * _EVERY:  # the last: the clock was set back
            self._rules, self._due = rules, now + _EVERY
            self._doomed = plan(spool, self._ledger, rules, now)
        if not self._doomed:
            return False
        turn, self._doomed = self._doomed[:_AT_ONCE], self._doomed[_AT_ONCE:]
        try:
            done = sum(1 for _ in prune(spool, self._ledger, turn, now))
        except OSError as e:
            self._doomed = []
            _log.error("what is no longer kept cannot be removed: %s", e)
        else:
            _log.info("pruned %d submissions, %d bytes", done, sum(one.bytes for one in turn))
        return bool(self._doomed)
