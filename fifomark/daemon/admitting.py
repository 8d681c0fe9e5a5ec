"""What comes in: looking at incoming/, and letting the ledger know of what is new there."""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Collection, Iterable

from fifomark.core.submission import Arrival, Key, Listing, Look, Submission
from fifomark.core.text import shown
from fifomark.daemon.rubrics import Rubrics
from fifomark.ledger.ledger import Ledger
from fifomark.spool.spool import Spool

MAX_ADMITTED = 5000  # submissions that one turn admits: half a second's work


class Admitting:
    """`rubrics` are the daemon's own, which it keeps up to date: they say which subfolders are looked into, and whose a file is."""

    def __init__(self, spool: Spool, ledger: Ledger, rubrics: Rubrics) -> None:
        self._spool, self._ledger, self._rubrics = spool, ledger, rubrics
        self._arriving: dict[Key, Arrival] = {}  # settled, in order, and not yet admitted
        self.sweep_seconds = 0.0  # what it has cost to look at everything, the last time or up to now

    def adopt(self, spool: Spool, rubrics: Rubrics) -> None:
        """Go on with this spool and these rubrics; what has settled stays to be admitted."""
        self._spool, self._rubrics = spool, rubrics

    @property
    def has_more(self) -> bool:
        """Whether the next turn has more to see or to admit."""
        return self.sweeping or bool(self._arriving)

    @property
    def unsettled(self) -> Collection[Key]:
        """What is still being written."""
        return self._spool.unsettled

    @property
    def sweeping(self) -> bool:
        """Whether a look at everything was begun and is not at its end."""
        return self._spool.sweeping

    def look(self, now: float, look: Look) -> Listing:
        before = self.sweep_seconds if self.sweeping else 0.0
        began = time.perf_counter()
        listing = self._spool.look(now, look, self._rubrics, itertools.chain(self._ledger.admission.waiting(), self._arriving))
        if look.seconds:
            self.sweep_seconds = before + time.perf_counter() - began
        return listing

    def confirm(self, waiting: Submission, now: float) -> bool:
        """Look once more at what is next, and say whether it is what was admitted, and nobody writes it: its event may not have come yet,
        or the look at everything not to its place.

        Where it is not what was admitted, the ledger is told what has become of it, and may say that another is next.
        """
        key = (waiting.folder, waiting.name)
        listing = self._spool.look_again(now, key, self._rubrics)
        arriving = self._arriving.pop(key, None)
        if listing.gone or listing.unsettled:
            self._drop(listing, now)
            return False
        arrival = listing.arrivals[0] if listing.arrivals else arriving
        if arrival is None or arrival.identity == waiting.identity:
            return True
        self._let_in([arrival], now)
        return False

    def admit(self, listing: Listing | None, now: float) -> int:
        """Act on what was seen; of what came in, admit so much at a time that everything else goes on. Returns how many came or went."""
        gone = 0
        if listing is not None:
            gone = self._drop(listing, now)
            self._put_in_order(listing.arrivals)
        return gone + self._let_in([self._arriving.pop(key) for key in list(itertools.islice(self._arriving, MAX_ADMITTED))], now)

    def _drop(self, listing: Listing, now: float) -> int:
        """Forget what is gone or written to again; how many were withdrawn by that."""
        for key in listing.gone | listing.unsettled:
            self._arriving.pop(key, None)
        self._ledger.admission.unsettle(listing.unsettled)
        return self._ledger.admission.withdraw_gone(listing.gone, now)

    def _put_in_order(self, arrivals: tuple[Arrival, ...]) -> None:
        if arrivals:
            both = [*self._arriving.values(), *arrivals]
            in_order = sorted(both, key=lambda arrival: (arrival.identity.mtime_ns, os.fsencode(arrival.name)))
            self._arriving = {(arrival.folder, arrival.name): arrival for arrival in in_order}

    def _let_in(self, arrivals: Iterable[Arrival], now: float) -> int:
        order = self._spool.settings.order
        return self._ledger.admission.admit(arrivals, now, order=order, rubric_of=self._rubric_name, owner_of=self._owner)

    def _rubric_name(self, arrival: Arrival) -> str:
        return arrival.folder or self._spool.settings.default_rubric

    def _owner(self, arrival: Arrival) -> str:
        known = self._rubrics.get(self._rubric_name(arrival))
        return shown(known[0].owner_of(arrival.name) if known else arrival.name)
