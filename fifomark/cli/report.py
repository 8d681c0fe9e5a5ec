"""`fifomark report`."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from fifomark.cli.options import DEFAULT_SPOOL, JsonOption, SpoolOption
from fifomark.cli.output import json_line
from fifomark.core.errors import UsageError
from fifomark.core.report import Report, decode
from fifomark.core.states import FINAL
from fifomark.core.submission import Submission
from fifomark.core.text import shown
from fifomark.daemon.look import open_ledger
from fifomark.ledger.ledger import Ledger
from fifomark.reports import tables
from fifomark.reports.feedback import Shown, StudentReport, feedback
from fifomark.reports.leaderboard import pseudonym
from fifomark.spool.layout import Layout
from fifomark.spool.secret import pseudonym_key


def report(
    which: Annotated[
        str, typer.Argument(metavar="ID|NAME", help="A submission's id, or the name it was dropped under (the newest of that name).")
    ],
    student: Annotated[bool, typer.Option("--student", help="Show only what the rubric's [feedback] lets its submitter see.")] = False,
    spool: SpoolOption = DEFAULT_SPOOL,
    json: JsonOption = False,
) -> None:
    layout = Layout(spool)
    submission = _find(layout, which)
    if submission.state not in FINAL:
        raise UsageError(
            f"{shown(which)}: is {submission.state}; its report is written when it has ended (fifomark status shows where it stands)"
        )
    try:
        body = Path(layout.report(submission)).read_bytes()
    except FileNotFoundError as e:
        raise UsageError(f"{shown(which)}: was {submission.state} and has no report") from e
    if student:
        seen = _for_student(layout, submission, decode(body))
        json_line(seen) if json else print(tables.student(seen))
    elif json:
        sys.stdout.buffer.write(body)
    else:
        print(tables.report(decode(body)))


def _for_student(layout: Layout, submission: Submission, seen: Report) -> StudentReport:
    """By the rubric as it stands now; ConfigError where it is gone: then nobody says what may be shown."""
    from fifomark.daemon.attempts import used
    from fifomark.marking.rubric import load_rubric

    rules = load_rubric(layout.rubric(submission.rubric))
    what = Shown(rules.feedback.metrics, rules.feedback.digits, rules.feedback.criteria)
    hidden = rules.leaderboard.names == "pseudonym"
    alias = pseudonym(pseudonym_key(layout.pseudonyms), submission.rubric, seen.submission.owner) if hidden else None
    with Ledger(layout.ledger, read_only=True) as ledger:
        return feedback(seen, what, used(ledger, submission, rules.attempts), alias)


def _find(layout: Layout, which: str) -> Submission:
    ledger = open_ledger(layout)
    if ledger is None:
        raise UsageError(f"{shown(which)}: nothing was submitted to {layout.root} yet")
    with ledger:
        if which.isdecimal() and len(which) <= 18 and (submission := ledger.find(int(which))):
            return submission
        name = os.path.basename(which)
        found = ledger.named(name) or ledger.named_without_extension(name)
    if len({submission.name for submission in found}) > 1:
        names = ", ".join(sorted({shown(submission.name) for submission in found}))
        raise UsageError(f"{shown(which)}: several names fit; say which: {names}")
    if len(found) > 1:
        print(f"{len(found)} submissions have this name; this is the newest, {found[0].id:08d}", file=sys.stderr)
    if found:
        return found[0]
    raise UsageError(f"{shown(which)}: no submission has this id or name (fifomark status lists them)")
