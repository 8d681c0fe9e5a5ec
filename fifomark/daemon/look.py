"""How a spool stands, seen from outside: ledger and lock are read, nothing is changed."""

from __future__ import annotations

import os
from collections.abc import Mapping

from msgspec.structs import replace

from fifomark.core.clock import utc
from fifomark.core.errors import SpoolError
from fifomark.core.states import State
from fifomark.core.status import SCHEMA, Line, Status
from fifomark.core.submission import Submission
from fifomark.core.text import shown
from fifomark.ledger.ledger import Ledger
from fifomark.spool.intake import left_alone
from fifomark.spool.layout import Layout
from fifomark.spool.lock import holder

_WAITING = (State.EVALUATING, State.SANITIZED, State.SANITIZING, State.QUEUED, State.HELD)


def open_ledger(layout: Layout) -> Ledger | None:
    """The spool's ledger for reading; None where nothing was ever admitted, SpoolError where there is no spool."""
    if not layout.settings.exists():
        raise SpoolError(f"{layout.root}: no spool here (fifomark.toml is missing); make one with: fifomark init")
    ledger = Ledger(layout.ledger, read_only=True) if layout.ledger.exists() else None
    if ledger is None or not ledger.is_bare:
        return ledger
    ledger.close()
    return None


def look(root: str | os.PathLike[str], lines: int = 20) -> Status:
    """The status of the spool at `root`, with at most `lines` of the queue and as many of what ended last."""
    layout = Layout(root)
    ledger = open_ledger(layout)
    held_by = holder(layout)
    counts, waiting, recent, paused = dict.fromkeys(State, 0), [], [], None
    if ledger is not None:
        with ledger:
            counts = ledger.counts()
            waiting = ledger.in_state(_WAITING, lines)
            recent = ledger.recent(lines)
            paused = ledger.steering.paused
    return Status(
        schema=SCHEMA,
        spool=shown(str(layout.root), 4096),
        daemon=held_by.daemon if held_by else None,
        states={str(state): count for state, count in counts.items()},
        slots=held_by.slots if held_by else (),
        queue=tuple(_waiting(row, held_by.broken if held_by else {}) for row in waiting),
        recent=tuple(map(_line, recent)),
        uploads=tuple(shown(name) for name in left_alone(layout.folder("incoming"), layout.rubrics())),
        paused=paused,
        notices=held_by.notices if held_by else (),
    )


def _waiting(row: Submission, broken: Mapping[str, str]) -> Line:
    """With the reason why it waits, where it is its rubric's."""
    line = _line(row)
    return replace(line, message=f"waits for its rubric: {broken[row.rubric]}") if row.rubric in broken else line


def _line(row: Submission) -> Line:
    return Line(
        id=row.id,
        name=shown(row.name, 1100),
        owner=row.owner,
        rubric=row.rubric,
        state=row.state,
        attempt=row.attempt,
        verdict=row.verdict,
        family=row.family,
        points=row.points,
        points_possible=row.points_possible,
        reason=row.reason,
        message=row.message,
        updated_at=utc(row.updated_at),
    )
