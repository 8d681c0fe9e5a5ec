"""What is sanitized and waits for a slot: who starts where, how many may wait, and what can never start."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence

from fifomark.core.errors import ConfigError
from fifomark.core.outcome import Reason
from fifomark.core.submission import Submission
from fifomark.daemon.dispatch import Dispatch, Need, fits, need
from fifomark.daemon.rubrics import Rubrics
from fifomark.ledger.ledger import Ledger
from fifomark.marking.rubric import FILE_NAME
from fifomark.spool.spool import Spool
from fifomark.workers.pool import Ended, Pool
from fifomark.workers.slots import Slot

MAX_WAITING = 4  # sanitized submissions a slot that may wait for it, or what it does in no time: more would only pile up clean files
MAX_AHEAD = 64  # the same, while a slot is free that none of them can run on: the next one may


class SlotQueue:
    """Of one daemon; `rubrics`, and those of them that are `broken`, are the daemon's own, which it keeps up to date."""

    def __init__(self, spool: Spool, ledger: Ledger, rubrics: Rubrics, slots: Pool, broken: Collection[str] = ()) -> None:
        self._broken = broken
        self._spool, self._ledger, self._rubrics, self._slots = spool, ledger, rubrics, slots
        self._dispatch = Dispatch()
        self._unused = False  # whether a slot was left free by the last `begin`

    def learn(self, ended: Iterable[Ended]) -> None:
        self._dispatch.learn(ended)

    def begin(self, now: float) -> list[tuple[Submission, str]]:
        """Give free slots what is earliest in line and can run there; the try is committed before the work starts. Then what is next may
        lie ready before workers that are quick."""
        free = self._slots.free()
        needs = ((submission.id, self._need(submission)) for submission in self._markable())
        serving = [state.slot for state in self._slots.slots() if state.state != "out of service"]
        chosen = list(self._dispatch.choose(needs, free, serving))
        self._unused = len(chosen) < len(free)
        taken = {id for id, _ in chosen}
        warm = self._slots.warm()
        ready = dict(self._slots.ahead(now)) | {slot: 0 for _, slot in chosen if slot in warm}
        # From the front again: who was passed over for a slot that it cannot have, comes first for the others.
        chosen += self._lay_ahead((s for s in self._markable() if s.id not in taken), ready, serving)
        return [(self._ledger.begin(id, slot.name, now), slot.name) for id, slot in chosen]

    def _markable(self) -> Iterator[Submission]:
        return (s for s in self._ledger.ready_for_slots() if s.rubric in self._rubrics and s.rubric not in self._broken)

    def _lay_ahead(self, line: Iterator[Submission], ready: dict[Slot, int], serving: Sequence[Slot]) -> Iterator[tuple[int, Slot]]:
        """(id, slot) of what may lie ready beside the `ready`, always before the worker that has least: in line, up to the first for which
        there is no place. What was tried before goes alone."""
        for submission in line if ready else ():
            wanted, most = self._need(submission), self._most_ahead(submission.rubric)
            places = [s for s, n in ready.items() if n < most and self._dispatch.may(submission.id, wanted, s, serving)]
            if submission.tries or not places:
                return
            slot = min(places, key=lambda slot: ready[slot])
            ready[slot] += 1
            yield submission.id, slot

    def _most_ahead(self, rubric: str) -> int:
        return self._dispatch.most_ahead(self._rubrics[rubric][1])

    def waiting(self) -> list[Submission]:
        """In line, those whose clean file lies where a worker will look for it."""
        return list(self._ledger.ready_for_slots())

    @property
    def room(self) -> int:
        """How many may wait: by the slowest of the rubrics of which some do."""
        waiting = [name for name in self._ledger.rubrics_before_slots() if name in self._rubrics] or self._rubrics
        quick = min((self._dispatch.most_waiting(self._rubrics[name][1]) for name in waiting), default=0)
        return (MAX_AHEAD if self._unused else max(MAX_WAITING, quick)) * len(self._slots.slots())

    def hopeless(self, submission: Submission) -> Reason | None:
        """Why it can never be marked, if so: nothing that waiting would change, unlike a slot that is out of service.

        ConfigError where not the submission but its rubric is at odds with the slots.
        """
        if submission.rubric not in self._rubrics:
            return Reason(code="internal-error", message=f"its rubric {submission.rubric!r} is gone", blame="operator")
        if submission.rubric in self._broken:
            return None
        wanted, slots = self._need(submission), [state.slot for state in self._slots.slots()]
        if any(fits(wanted, slot) for slot in slots):
            return None
        if wanted.device == "cuda" and all(slot.device != "cuda" for slot in slots):
            place = f"{self._spool.layout.rubric(submission.rubric)}/{FILE_NAME}"
            raise ConfigError(place, "run.device", "is cuda, but no slot is a GPU", 'name one in the settings, or say "auto"')
        most = max(slot.memory_bytes or 0 for slot in slots if slot.device == wanted.device or wanted.device == "auto")
        message = f"it needs {wanted.memory_bytes >> 20} MiB of memory, and no slot has more than {most >> 20} (docs/slots.md)"
        return Reason(code="no-slot", message=message, blame="operator")

    @property
    def blocked(self) -> str | None:
        """Why nothing that waits can start though no slot is at work, if so: those that could run it are out of service."""
        states = self._slots.slots()
        if any(state.state not in ("free", "out of service") for state in states) or not self.waiting():
            return None
        return "; ".join(f"{state.slot.name}: {state.why}" for state in states if state.why) or None

    def _need(self, submission: Submission) -> Need:
        return need(self._rubrics[submission.rubric][0], self._spool.clean_bytes(submission))
