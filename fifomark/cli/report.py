"""`fifomark report`."""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from fifomark.cli.options import DEFAULT_SPOOL, JsonOption, SpoolOption
from fifomark.core.errors import UsageError
from fifomark.core.report import decode
from fifomark.core.states import FINAL
from fifomark.core.submission import Submission
from fifomark.daemon.look import open_ledger
from fifomark.reports import tables
from fifomark.spool.layout import Layout


def report(
    which: Annotated[
        str, typer.Argument(metavar="ID|NAME", help="A submission's id, or the name it was dropped under (the newest of that name).")
    ],
    spool: SpoolOption = DEFAULT_SPOOL,
    json: JsonOption = False,
) -> None:
    layout = Layout(spool)
    submission = _find(layout, which)
    if submission.state not in FINAL:
        raise UsageError(f"{which}: is {submission.state}; its report is written when it has ended (fifomark status shows where it stands)")
    try:
        body = Path(layout.report(submission)).read_bytes()
    except FileNotFoundError as e:
        raise UsageError(f"{which}: was {submission.state} and has no report") from e
    if json:
        sys.stdout.buffer.write(body)
    else:
        print(tables.report(decode(body)))


def _find(layout: Layout, which: str) -> Submission:
    ledger = open_ledger(layout)
    if ledger is None:
        raise UsageError(f"{which}: nothing was submitted to {layout.root} yet")
    with contextlib.closing(ledger):
        named = ledger.named(os.path.basename(which))
        if named:
            return named[0]
        if which.isdecimal():
            return ledger.get(int(which))
    raise UsageError(f"{which}: no submission has this id or name (fifomark status lists them)")
