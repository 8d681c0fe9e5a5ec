"""The default engine: one `spawn`ed process for each slot."""

from __future__ import annotations

from collections.abc import Sequence
from multiprocessing.connection import Connection

from fifomark.core.outcome import Lost, Marked, Refused, Sanitized, Ticket
from fifomark.workers.losses import Losses
from fifomark.workers.machine import OomWatch
from fifomark.workers.pool import Bounds, Ended, SlotState
from fifomark.workers.post import LOOK_SECONDS, Heard, Post
from fifomark.workers.process import Serve
from fifomark.workers.slots import Slot
from fifomark.workers.template import Templates

MAX_LOSSES = 3  # submissions in a row that were lost on one slot and on no other, after which it is taken out of service


class LocalPool:
    """`serve` is the worker's side (workers.main); `boot_seconds` is what a worker may take to be ready, on top of its first ticket.

    `one_by_one`: workers take one ticket after another, so that some may lie ready before each. With `keep_output` what a worker says on
    stdout and stderr comes with each end (`Ended.said`), and does not go to ours. `preload` names a module that is imported once for all
    slots of the CPU, whose workers are then forked (workers.template).
    """

    def __init__(
        self,
        serve: Serve,
        slots: Sequence[Slot],
        boot_seconds: float = 120.0,
        *,
        preload: str | None = None,
        keep_output: bool = False,
        one_by_one: bool = False,
    ) -> None:
        self._oom, self._losses, self._looked_at = OomWatch(), Losses(), 0.0
        of_cpu = [slot.environment() for slot in slots if slot.device == "cpu"]
        environment = max(of_cpu, key=of_cpu.count, default=None)  # that of most: those of another one are no forks
        self._templates = Templates(preload, environment, boot_seconds) if preload and environment else None

        def post(slot: Slot) -> Post:
            templates = self._templates if slot.environment() == environment else None
            return Post(slot, serve, boot_seconds, self._oom, templates=templates, keep_output=keep_output, one_by_one=one_by_one)

        self._posts = {slot.name: post(slot) for slot in slots}

    def free(self) -> list[Slot]:
        return [post.slot for post in self._posts.values() if post.state.state == "free"]

    def ahead(self, now: float) -> list[tuple[Slot, int]]:
        ready = ((post.slot, post.ready(now)) for post in self._posts.values())
        return [(slot, count) for slot, count in ready if count is not None]

    def warm(self) -> list[Slot]:
        return [post.slot for post in self._posts.values() if post.is_warm]

    def expect(self) -> None:
        if self._templates is not None:
            self._templates.begin()
        else:
            next(iter(self._posts.values())).expect()

    def start(self, tickets: Sequence[Ticket], slot: Slot, bounds: Bounds, now: float) -> None:
        self._posts[slot.name].start(tickets, bounds, now)

    def collect(self, now: float) -> list[Ended]:
        ended: list[Ended] = []
        if self._templates is not None:
            self._templates.look()
        for post in self._posts.values():
            seen = list(post.look(now))
            self._judge(post, seen)
            ended += [Ended(one.ticket.submission, post.slot, one.outcome, post.said(one.ticket.submission), one.began) for one in seen]
        if not 0 <= now - self._looked_at < LOOK_SECONDS:
            self._oom.look(now)
            self._looked_at = now
        return ended

    def take_back(self, now: float, *, everything: bool = False) -> list[int]:
        return [id for post in self._posts.values() for id in post.take_back(now, everything=everything)]

    def _judge(self, post: Post, seen: Sequence[Heard]) -> None:
        """Take a slot out of service that loses one submission after another, while there are others: alone, it cannot be compared."""
        name = post.slot.name
        if any(isinstance(one.outcome, (Marked, Refused, Sanitized)) for one in seen):
            self._losses.ended_well(name)
        lost = next(((one.ticket, one.outcome) for one in seen if isinstance(one.outcome, Lost) and one.outcome.began), None)
        if lost is None:
            return
        ticket, outcome = lost  # of several in hand it was the first that was worked on
        self._losses.lost(name, ticket.submission)
        others = any(other is not post and other.out_of_service is None for other in self._posts.values())
        if self._losses.against(name) >= MAX_LOSSES and others and post.out_of_service is None:
            post.unfit = f"{MAX_LOSSES} submissions in a row were lost here, and nowhere else: {outcome.how}"

    def slots(self) -> list[SlotState]:
        return [post.state for post in self._posts.values()]

    def waitables(self) -> Sequence[Connection | int]:
        workers = (post.worker for post in self._posts.values() if post.worker is not None)
        of_workers = [waitable for worker in workers for waitable in worker.waitables]
        return [*of_workers, *(self._templates.waitables if self._templates is not None else ())]

    def close(self) -> None:
        for post in self._posts.values():
            post.hang_up()  # all at once: an interpreter that knows torch takes its time to end
        for post in self._posts.values():
            post.close()
        if self._templates is not None:
            self._templates.close()
