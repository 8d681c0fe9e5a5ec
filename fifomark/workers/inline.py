"""A pool without processes: the judge runs where it is called. For tests of the daemon."""

from __future__ import annotations

from collections.abc import Sequence
from multiprocessing.connection import Connection

from fifomark.core.outcome import Ticket
from fifomark.workers.pool import Bounds, Ended, Judge, SlotState
from fifomark.workers.slots import Slot


class InlinePool:
    """Tickets end at the first `collect` after their start, in the order of their start."""

    def __init__(self, judge: Judge, slots: Sequence[Slot]) -> None:
        self._judge = judge
        self._slots = list(slots)
        self._running: list[tuple[Ticket, Slot]] = []
        self.started: list[int] = []

    def free(self) -> list[Slot]:
        busy = [slot for _, slot in self._running]
        return [slot for slot in self._slots if slot not in busy]

    def start(self, tickets: Sequence[Ticket], slot: Slot, bounds: Bounds, now: float) -> None:
        assert slot in self.free()
        self.started += [ticket.submission for ticket in tickets]
        self._running += [(ticket, slot) for ticket in tickets]

    def collect(self, now: float) -> list[Ended]:
        ended = [Ended(ticket.submission, slot, self._judge(ticket)) for ticket, slot in self._running]
        self._running.clear()
        return ended

    def ahead(self, now: float) -> list[tuple[Slot, int]]:
        return []

    def warm(self) -> list[Slot]:
        return []

    def expect(self) -> None:
        pass

    def take_back(self, now: float, *, everything: bool = False) -> list[int]:
        return []

    def slots(self) -> list[SlotState]:
        busy = {slot: ticket.submission for ticket, slot in reversed(self._running)}
        return [SlotState(slot, "busy" if slot in busy else "free", busy.get(slot), None) for slot in self._slots]

    def waitables(self) -> Sequence[Connection | int]:
        return []

    def close(self) -> None:
        self._running.clear()
