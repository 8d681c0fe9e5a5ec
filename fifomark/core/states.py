"""Where a submission stands. One enum holds the states, one table the legal moves; nothing else compares strings."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum


class State(StrEnum):
    QUEUED = "queued"
    HELD = "held"
    SANITIZING = "sanitizing"
    SANITIZED = "sanitized"
    EVALUATING = "evaluating"
    DONE = "done"
    REJECTED = "rejected"
    FAILED = "failed"
    WITHDRAWN = "withdrawn"


FINAL = frozenset({State.DONE, State.REJECTED, State.FAILED, State.WITHDRAWN})

# queued → rejected or failed takes back a retry whose file could not come back to incoming/.
# evaluating → sanitized puts work back unharmed when a worker or the daemon stops; what was being sanitized is simply read again.
MOVES: Mapping[State, frozenset[State]] = {
    State.QUEUED: frozenset({State.HELD, State.SANITIZING, State.WITHDRAWN, State.REJECTED, State.FAILED}),
    State.HELD: frozenset({State.QUEUED, State.WITHDRAWN}),
    State.SANITIZING: frozenset({State.SANITIZED, State.REJECTED, State.FAILED, State.WITHDRAWN, State.HELD}),
    State.SANITIZED: frozenset({State.EVALUATING, State.FAILED}),
    State.EVALUATING: frozenset({State.DONE, State.REJECTED, State.FAILED, State.SANITIZED}),
    State.DONE: frozenset(),
    State.REJECTED: frozenset({State.QUEUED}),
    State.FAILED: frozenset({State.QUEUED}),
    State.WITHDRAWN: frozenset(),
}
