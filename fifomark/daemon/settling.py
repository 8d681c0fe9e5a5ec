"""How a submission ends: its report and its last state, committed together."""

from __future__ import annotations

from typing import Any

import msgspec

from fifomark.core.inspection import Inspection
from fifomark.core.outcome import Reason
from fifomark.core.report import encode
from fifomark.core.states import State
from fifomark.core.submission import Submission
from fifomark.ledger.ledger import Ledger, Result
from fifomark.reports.compose import compose


def settle(ledger: Ledger, submission: Submission, state: State, reason: Reason, now: float, **parts: Any) -> Submission:
    """End it in the final `state`; its files are to follow. `parts` are those of `compose`; the ledger keeps the inspection."""
    parts.setdefault("inspection", inspection_of(ledger, submission.id))
    report = compose(submission, state, reason, timeline=ledger.timeline(submission.id), now=now, **parts)
    result = Result(
        state=report.state,
        verdict=report.verdict,
        family=report.model.family if report.model else None,
        points=report.grade.points if report.grade else None,
        points_possible=report.grade.points_possible if report.grade else None,
        reason=report.reason.code,
        message=report.reason.message,
    )
    return ledger.settle(report.id, result, encode(report), now)


def inspection_of(ledger: Ledger, id: int) -> Inspection | None:
    body = ledger.inspection(id)
    return None if body is None else msgspec.json.decode(body, type=Inspection)
