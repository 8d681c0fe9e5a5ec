"""Both judges in the daemon's own process, so that every step of theirs is one of its steps."""

from __future__ import annotations

import os
from collections.abc import Sequence
from multiprocessing.connection import Connection

from fuzzing.oracle import Direct

from fifomark.core.outcome import MarkTicket, Outcome, Sanitized, SanitizeTicket
from fifomark.workers.inline import InlinePool
from fifomark.workers.main import unsanitized
from fifomark.workers.slots import Slot
from torturing.judges import mark


def judge(ticket: SanitizeTicket | MarkTicket) -> Outcome:
    """Both judges in this process. The clean file is the real one, written and published as the sanitizer does it."""
    if isinstance(ticket, MarkTicket):
        return mark(ticket)
    try:
        return Sanitized(inspection=Direct().inspect(ticket.path, clean_to=ticket.clean_path, policy=ticket.policy))
    except OSError as e:
        return unsanitized(e, ticket)


class EagerPool(InlinePool):
    """An InlinePool for the real loop: it wakes it at once. What a LocalPool is given besides the slots is not heeded."""

    def __init__(self, serve: object, slots: Sequence[Slot], **how: bool) -> None:
        super().__init__(judge, slots)
        self._awake = os.eventfd(1)

    def waitables(self) -> Sequence[Connection | int]:
        return [self._awake] if self._running else []
