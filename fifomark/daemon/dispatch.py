"""Which submission goes to which slot: the earliest that is ready to the first slot that can run it (docs/slots.md).

Nothing here knows of processes or of files, so that the very rule can be tried with slots and clocks that are made up.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Literal, NamedTuple

from fifomark.core.outcome import Lost, Marked
from fifomark.core.policy import Limits
from fifomark.marking.schema import Rubric
from fifomark.workers.pool import Bounds, Ended
from fifomark.workers.slots import Slot

_TORCH_BYTES = 256 << 20  # what a worker takes before it has a model
_REMEMBERED = 1000  # submissions that were lost
_MOST_AHEAD = 16  # submissions that may lie ready before a worker
_AHEAD_SECONDS = 0.1  # that they may take together
_MOST_WAITING = 128  # sanitized submissions a slot that may wait for it
_WAITING_SECONDS = 1.0  # that they may take together: longer than a batch of files is with a sanitizer
_COPIES = 2  # of the weights: as they lie in the clean file, and in the model


class Need(NamedTuple):
    """What a submission needs of the slot that it is marked on."""

    memory_bytes: int
    device: Literal["auto", "cpu", "cuda"] = "auto"


def need(rubric: Rubric, clean_bytes: int) -> Need:
    """What the rubric lets it have; where that says nothing, what its weights take at the very least, by the size of the clean file."""
    said = rubric.limits.memory_mib
    return Need(said << 20 if said is not None else _COPIES * clean_bytes + _TORCH_BYTES, rubric.run.device)


def bounds(rubric: Rubric, limits: Limits, slot: Slot) -> Bounds:
    """What marking may cost there: what the rubric says, or else the settings; no more memory than a slot of the CPU has."""
    own = rubric.limits
    memory = own.memory_mib << 20 if own.memory_mib is not None else limits.mark_memory_bytes
    if slot.device == "cpu" and slot.memory_bytes is not None:
        memory = min(memory, slot.memory_bytes)
    return Bounds(own.wall_seconds or limits.mark_seconds, memory, own.cpu_seconds or limits.mark_cpu_seconds)


def fits(wanted: Need, slot: Slot) -> bool:
    """Whether a slot can run what has this need. What wants the CPU runs beside a GPU as well, whatever memory that has."""
    if slot.device == "cuda" and wanted.device == "cpu":
        return True
    if wanted.device == "cuda" and slot.device != "cuda":
        return False
    return slot.memory_bytes is None or wanted.memory_bytes <= slot.memory_bytes


class Dispatch:
    """Remembers where submissions were lost: as long as another slot in service can run them, they are not tried there again. And how long
    those of a rubric took: where that is next to nothing, some may lie ready before a worker, so that it need not wait for our next turn.
    """

    def __init__(self) -> None:
        self._lost: dict[int, set[str]] = {}
        self._seconds: dict[str, float] = {}  # that one of a rubric (by its hash) takes

    def learn(self, ended: Iterable[Ended]) -> None:
        for submission, slot, outcome, *_ in ended:
            if isinstance(outcome, Marked):
                seen = outcome.evaluation
                self._seconds[seen.rubric_sha256] = max(seen.cost.total_seconds, 0.7 * self._seconds.get(seen.rubric_sha256, 0.0))
            if isinstance(outcome, Lost):
                self._lost.setdefault(submission, set()).add(slot.name)
            else:
                self._lost.pop(submission, None)
        while len(self._lost) > _REMEMBERED:
            del self._lost[next(iter(self._lost))]

    def choose(self, waiting: Iterable[tuple[int, Need]], free: Sequence[Slot], serving: Sequence[Slot]) -> Iterator[tuple[int, Slot]]:
        """(id, slot) of all that can start now. `waiting` are ids in line, read no further than there are `free` slots; `serving` are all
        slots that are not out of service.

        Each takes the first slot that will do, before the next is looked at. So no slot stays free that one of them can run on, and none is
        passed over for a slot that it could have: who needs a large one has the next that is free, however many small ones come after it.
        """
        left = list(free)
        for id, wanted in waiting if left else ():
            able = [slot for slot in left if self.may(id, wanted, slot, serving)]
            if able:
                slot = min(able, key=lambda slot: slot.device == "cuda" and wanted.device == "cpu")  # that one last
                left.remove(slot)
                yield id, slot
            if not left:
                return

    def most_ahead(self, rubric_sha256: str) -> int:
        """How many of a rubric may lie ready before a worker; none before it is known how long they take."""
        return min(_MOST_AHEAD, self._marked_in(_AHEAD_SECONDS, rubric_sha256))

    def most_waiting(self, rubric_sha256: str) -> int:
        """How many of a rubric may wait for each slot that marks nothing else."""
        return min(_MOST_WAITING, self._marked_in(_WAITING_SECONDS, rubric_sha256))

    def _marked_in(self, seconds: float, rubric_sha256: str) -> int:
        each = self._seconds.get(rubric_sha256)
        return 0 if each is None else int(seconds / max(each, 1e-9))

    def may(self, id: int, wanted: Need, slot: Slot, serving: Sequence[Slot]) -> bool:
        """Whether a submission may start on a slot, were it free."""
        lost = self._lost.get(id, set())
        return fits(wanted, slot) and (slot.name not in lost or not any(fits(wanted, o) and o.name not in lost for o in serving))
