"""Making ledger and folders agree again, without deleting anything: what has no place goes to lost+found/."""

from __future__ import annotations

import os
from collections.abc import Iterator

from msgspec.structs import replace

from fifomark.core.errors import SpoolError
from fifomark.core.outcome import Reason
from fifomark.core.report import encode
from fifomark.core.states import FINAL, State
from fifomark.core.submission import Submission
from fifomark.daemon.fsck import Problem, check, needed
from fifomark.daemon.placing import place
from fifomark.daemon.settling import settle
from fifomark.ledger.ledger import Ledger
from fifomark.reports.compose import compose
from fifomark.spool.moves import rename
from fifomark.spool.spool import Spool


def repair(spool: Spool, ledger: Ledger, now: float) -> Iterator[tuple[Problem, str | None]]:
    """Each problem, and what was done about it; None where nothing can be."""
    place(spool, ledger, [submission for submission in ledger.unfinished() if submission.moving], now)
    for problem in list(check(spool.layout, ledger)):
        if problem.kind == "stray" and not os.path.lexists(os.path.join(spool.layout.root, problem.path or "")):
            continue  # it was somebody's missing file, and lies in its place now
        yield problem, _mend(spool, ledger, problem, now)
    spool.sync()


def _mend(spool: Spool, ledger: Ledger, problem: Problem, now: float) -> str | None:
    if problem.kind == "ledger":
        return "counted again" if ledger.upkeep.recount() else None
    if problem.kind == "stray":
        assert problem.path is not None
        return f"moved to {set_aside(spool, problem.path)}"
    assert problem.id is not None
    submission = ledger.get(problem.id)
    if problem.kind == "report":
        spool.publish([(submission, _told_again(ledger, submission, now))])
        spool.place(submission)
        return "written again from what the ledger knows of it"
    return _find(spool, ledger, submission, now)


def _find(spool: Spool, ledger: Ledger, submission: Submission, now: float) -> str | None:
    """Look where the file of a submission was before; where it is lost, let the submission end."""
    if submission.state in (State.QUEUED, State.HELD):
        with ledger.batch():
            ledger.move(submission.id, State.WITHDRAWN, now, note="its file was gone")
        return "withdrawn"
    at_work = State.SANITIZED if submission.state is State.EVALUATING else submission.state
    spool.place(replace(submission, state=at_work))
    if all(any(map(os.path.lexists, places)) for places in needed(spool.layout, submission)):
        return "found where it was before, and moved"
    if submission.state in FINAL:
        return None
    reason = Reason(code="internal-error", message="its file was lost; retry it, or submit it again", blame="operator")
    with ledger.batch():
        ended = settle(ledger, submission, State.FAILED, reason, now, inspection=None)
    place(spool, ledger, [ended], now)
    return "ended as failed"


def _told_again(ledger: Ledger, submission: Submission, now: float) -> bytes:
    """A report of a submission that has ended, without what only its own report knew."""
    message = f"{submission.message or submission.state} (the report was lost; this one is made from the ledger)"
    reason = Reason(code=submission.reason or "unknown", message=message, blame=None)
    report = compose(submission, submission.state, reason, timeline=ledger.timeline(submission.id)[:-1], now=submission.updated_at)
    return encode(replace(report, verdict=submission.verdict))


def set_aside(spool: Spool, path: str) -> str:
    """Move what lies at `path` of the spool to lost+found/, under a name that is free; returns where it is now."""
    folder = spool.layout.folder("lost+found")
    os.makedirs(folder, mode=0o700, exist_ok=True)
    for number in range(10_000):
        target = os.path.join("lost+found", os.path.basename(path) + (f".{number}" if number else ""))
        try:
            rename(os.path.join(spool.layout.root, path), os.path.join(spool.layout.root, target))
        except FileExistsError:
            continue
        return target
    raise SpoolError(f"{folder}: holds too many files named {os.path.basename(path)}; look through them first")
