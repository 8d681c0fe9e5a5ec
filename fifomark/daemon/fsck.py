"""Whether ledger and folders agree: every row has its files where its state says, every file has its row."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator

import msgspec

from fifomark.core.keeping import Pruned
from fifomark.core.record import Record
from fifomark.core.report import decode
from fifomark.core.states import FINAL, State
from fifomark.core.submission import Submission
from fifomark.core.text import shown
from fifomark.ledger.ledger import Ledger
from fifomark.spool.layout import Layout

CHECKED = ("sanitizing", "evaluating", "done", "rejected", "failed", "originals")
NUMBERED = re.compile(r"\.?(?P<id>[0-9]{8,18})-(?P<name>.*)", re.DOTALL)


class Problem(Record):
    """`kind` is what is wrong: "ledger", "file" (a row's is missing), "report" (it is missing or none), "stray" (a file has no row).

    `path` is relative to the spool, and as it is on disk; `id` None where no row is meant.
    """

    kind: str
    message: str
    id: int | None = None
    path: str | None = None


def check(layout: Layout, ledger: Ledger) -> Iterator[Problem]:
    """What is wrong. Moves that are under way are not: the next daemon finishes them."""
    for message in ledger.upkeep.complaints():
        yield Problem(kind="ledger", message=message)
    for submission in ledger.upkeep.everyone():
        if not submission.moving:
            yield from _missing(layout, submission)
    for folder in CHECKED:
        yield from _strays(layout, ledger, folder)


def known_to_a_ledger(layout: Layout) -> str | None:
    """The path in the spool of one file that got its id from a ledger; None where there is none."""
    numbered = ((folder, name) for folder in CHECKED for name in os.listdir(layout.folder(folder)) if NUMBERED.fullmatch(name))
    return next((shown(os.path.join(*found)) for found in numbered), None)


def _missing(layout: Layout, submission: Submission) -> Iterator[Problem]:
    for places in needed(layout, submission):
        if not any(map(os.path.lexists, places)):
            message = f"{shown(submission.name)} is {submission.state}, and its file is not there"
            yield Problem(kind="file", message=message, id=submission.id, path=os.path.relpath(places[0], layout.root))
    reported = submission.state in FINAL - {State.WITHDRAWN} and submission.pruned < Pruned.REPORT
    if reported and (why := _wrong_report(layout.report(submission), submission)):
        path = os.path.relpath(layout.report(submission), layout.root)
        yield Problem(
            kind="report", message=f"{shown(submission.name)} is {submission.state}, and its report {why}", id=submission.id, path=path
        )


def needed(layout: Layout, submission: Submission) -> tuple[tuple[str, ...], ...]:
    """The files that a submission has in its state, the report aside; each in one of several places."""
    match submission.state:
        case State.QUEUED | State.HELD:
            return ((layout.incoming(submission),),)
        case State.SANITIZING:
            return ((layout.claimed(submission),),)
        case State.SANITIZED | State.EVALUATING:
            return (layout.clean(submission),), (layout.original(submission),)
        case State.DONE if submission.pruned < Pruned.FILES:
            return ((layout.done(submission),),)
        case _ if submission.pruned:
            return ()
        case State.REJECTED:
            return ((layout.quarantined(submission),),)
        case State.FAILED:
            return ((layout.failed(submission), layout.failed_original(submission), layout.original(submission)),)
        case _:
            return ()


def _wrong_report(path: str, submission: Submission) -> str | None:
    try:
        with open(path, "rb") as file:
            report = decode(file.read())
    except FileNotFoundError:
        return "is not there"
    except (OSError, msgspec.DecodeError) as e:
        return f"cannot be read: {e}"
    return None if (report.id, report.state) == (submission.id, submission.state) else f"says {report.state} of {report.id}"


def _strays(layout: Layout, ledger: Ledger, folder: str) -> Iterator[Problem]:
    with os.scandir(layout.folder(folder)) as listing:
        for entry in listing:
            if entry.name.startswith(".") and entry.name.endswith(".tmp"):
                continue  # half written by who was killed; the next daemon removes it
            numbered = NUMBERED.match(entry.name)
            submission = ledger.find(int(numbered["id"])) if numbered else None
            if submission is None or entry.path not in _allowed(layout, submission):
                whose = "of no submission" if submission is None else f"not of a submission that is {submission.state}"
                path = os.path.join(folder, entry.name)
                yield Problem(kind="stray", message=whose, id=submission.id if submission else None, path=path)


def _allowed(layout: Layout, submission: Submission) -> set[str]:
    """Where something of a submission may lie."""
    earlier = {layout.earlier_report(submission, attempt) for attempt in range(1, submission.attempt)}
    if submission.moving:
        ours = (layout.unpublished(submission), layout.claimed(submission), layout.clean(submission), layout.done(submission))
        reports = (layout.report(msgspec.structs.replace(submission, state=state)) for state in (State.REJECTED, State.FAILED, State.DONE))
        return {*earlier, *ours, *reports, *layout.submitted(submission), layout.failed(submission)}
    places = {place for places in needed(layout, submission) for place in places} | earlier
    if submission.state is State.SANITIZING:
        places.add(layout.unpublished(submission))
    if submission.state in FINAL:
        places |= {layout.report(submission), layout.original(submission)}
    return places
