"""How a submission ends that takes more than it may: with the finding that tells its submitter what to do."""

from __future__ import annotations

from typing import Literal

from fifomark.core.catalogue import find
from fifomark.core.outcome import Failed, Lost, Reason

Overrun = Literal["FM601", "FM602"]  # time, memory
LIMIT_EXCEEDED = "limit-exceeded"


def overrun(code: Overrun, message: str) -> Failed:
    """`message` says what it took too much of."""
    reason = Reason(code=LIMIT_EXCEEDED, message=message, blame="submitter")
    return Failed(reason=reason, findings=(find(code, "model", message),))


def too_long(seconds: float | None) -> str:
    """`seconds` of wall clock are what it may take, where that is known."""
    return "it took longer than it may" if seconds is None else f"it took longer than the {seconds:,g} seconds that it may"


def lost(outcome: Lost, *, marking: bool) -> Failed:
    """What it comes to that a worker died, where it is not tried again.

    Where memory runs out the system ends the largest worker: a model for which that happened at each of its tries is too large.
    """
    if outcome.memory and marking:
        return overrun("FM602", "memory ran out, and the system ended the worker that marked it")
    return Failed(reason=Reason(code="internal-error", message=f"the worker was lost: {outcome.how}", blame="operator"))
