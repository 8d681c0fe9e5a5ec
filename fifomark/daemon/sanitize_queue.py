"""What was claimed and waits for a sanitizer: who is handed what, and in which order."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator

from fifomark.core.policy import Isolation
from fifomark.daemon.rubrics import Rubrics
from fifomark.daemon.tickets import sanitize_ticket
from fifomark.ledger.ledger import Ledger
from fifomark.sanitizer.batch import MAX_FILES
from fifomark.spool.spool import Spool
from fifomark.workers.pool import Bounds, Pool
from fifomark.workers.slots import Slot

AHEAD = 8  # that may lie ready before one, where they do not
SMALL = 1 << 20  # bytes of one that may


class SanitizeQueue:
    """Ids in line. It is in memory only: after a crash the ledger says what was in hand."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._ids: list[int] = []
        self._once_more: list[int] = []

    def adopt(self, spool: Spool, rubrics: Rubrics, sanitizers: Pool) -> None:
        """Go on with these."""
        self._spool, self._rubrics, self._sanitizers = spool, rubrics, sanitizers
        self._settings = spool.settings

    def __iter__(self) -> Iterator[int]:
        yield from self._ids

    def __len__(self) -> int:
        return len(self._ids)

    @property
    def together(self) -> bool:
        """Whether the files of a batch share a child, and an end."""
        return self._settings.isolation is Isolation.BATCH

    @property
    def most(self) -> int:
        """How many are handed over at once."""
        return MAX_FILES if self.together else 1

    @property
    def ahead(self) -> int:
        """How many may wait to be sanitized, or for a slot, whatever the slots take: while torch is imported, the other cores have time."""
        return 2 * MAX_FILES if self.together else 1

    def room(self, now: float) -> int:
        """How many could be handed over now."""
        return sum(room for _, room, _ in self._rooms(now))

    def add(self, ids: Iterable[int]) -> None:
        self._ids += ids

    def drop(self, ids: Collection[int]) -> None:
        self._ids = [id for id in self._ids if id not in ids]

    def put_first(self, ids: Iterable[int]) -> None:
        """In this order before all others."""
        self._ids[:0] = ids

    def again(self, id: int) -> None:
        """To be put first with all others that are said before `line_up`, in the order in which they are said."""
        self._once_more.append(id)

    def line_up(self) -> None:
        self.put_first(self._once_more)
        self._once_more = []

    def start(self, now: float) -> None:
        """Hand over what is next; the try is committed before the work starts."""
        for slot, room, alone in self._rooms(now):
            with self._ledger.batch():
                taken = [self._ledger.try_again(id) for id in self._take(room, alone)]
            if taken:
                limit = Bounds(self._settings.limits.sanitize_seconds * (len(taken) if self.together else 1))
                known = (self._rubrics.get(submission.rubric) for submission in taken)  # None: the spool has it not
                rubrics = (found[0] if found else None for found in known)
                tickets = [sanitize_ticket(self._spool, *one) for one in zip(taken, rubrics, strict=True)]
                self._sanitizers.start(tickets, slot, limit, now)

    def _rooms(self, now: float) -> list[tuple[Slot, int, bool]]:
        """(sanitizer, how many it may be handed, whether it has nothing else in hand)."""
        warm = self._sanitizers.warm()
        free = [(slot, self.most + (AHEAD if slot in warm else 0), True) for slot in self._sanitizers.free()]
        return free + [(slot, AHEAD - ready, False) for slot, ready in self._sanitizers.ahead(now) if ready < AHEAD]

    def _take(self, room: int, alone: bool) -> list[int]:
        """The first ids, taken off the line. What was tried before goes alone: it may have taken others down with it. And so does what is
        large, unless all are dealt with together: it would keep waiting what lies ready behind it."""
        taken: list[int] = []
        while self._ids and len(taken) < room:
            first = self._ledger.get(self._ids[0])
            apart = first.tries > 0 or (not self.together and first.identity.size > SMALL)
            if apart and (taken or not alone):
                break
            taken.append(self._ids.pop(0))
            if apart:
                break
        return taken
