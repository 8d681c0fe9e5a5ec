"""What the daemon knows of an engine: it starts tickets on slots, and learns of outcomes. Neither side says how."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from typing import NamedTuple, Protocol

from fifomark.core.outcome import MarkTicket, Outcome, SanitizeTicket
from fifomark.workers.slots import Slot


class Ended(NamedTuple):
    """A ticket's end. `submission` is the ticket's."""

    submission: int
    slot: Slot
    outcome: Outcome


class Bounds(NamedTuple):
    """What a ticket may cost: until when (seconds since the epoch), and how much resident memory its worker may have (None: no bound)."""

    deadline: float
    memory_bytes: int | None = None


class SlotState(NamedTuple):
    slot: Slot
    state: str  # "free", "starting", "busy", "out of service"
    submission: int | None
    why: str | None


class Pool(Protocol):
    def free(self) -> list[Slot]:
        """The slots that can take a ticket now."""

    def start(self, ticket: SanitizeTicket | MarkTicket, slot: Slot, bounds: Bounds) -> None:
        """Run `ticket` on a free slot; beyond its bounds it is killed, and Failed with limit-exceeded."""

    def collect(self, now: float) -> list[Ended]:
        """What has ended since the last call, overdue work included. Never blocks."""

    def slots(self) -> list[SlotState]: ...

    def waitables(self) -> Sequence[Connection | int]:
        """What to wait on with multiprocessing.connection.wait until something may have ended."""

    def close(self) -> None:
        """End every worker; work in hand is dropped."""


Judge = Callable[[SanitizeTicket | MarkTicket], Outcome]
