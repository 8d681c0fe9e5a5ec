"""`fifomark fsck`."""

from __future__ import annotations

import sys
import time
from typing import Annotated

import typer

from fifomark.cli.exits import Exit
from fifomark.cli.options import DEFAULT_SPOOL, JsonOption, SpoolOption
from fifomark.cli.output import json_line
from fifomark.cli.progress import pulsing
from fifomark.core.text import shown
from fifomark.daemon.fsck import Problem, check
from fifomark.daemon.look import open_ledger
from fifomark.spool.layout import Layout
from fifomark.spool.lock import holder

_TWICE = 1.0  # seconds between two looks at a spool that a daemon is working on


def fsck(
    repair: Annotated[bool, typer.Option("--repair", help="Mend what can be mended; nothing is deleted.")] = False,
    rebuild: Annotated[bool, typer.Option("--rebuild", help="Make a new ledger from the folders, where the old one is broken.")] = False,
    spool: SpoolOption = DEFAULT_SPOOL,
    json: JsonOption = False,
) -> int:
    if rebuild:
        _rebuild(spool)
    if repair:
        return _repair(spool, json)
    layout = Layout(spool)
    with pulsing("comparing the ledger with the folders"):
        problems = _problems(layout)
        if holder(layout) is not None and problems:  # what its daemon was just moving is no problem
            time.sleep(_TWICE)
            problems = [problem for problem in _problems(layout) if problem in problems]
    for problem in problems:
        json_line(problem) if json else print(_line(problem))
    print(
        f"{len(problems)} problem{'s' if len(problems) > 1 else ''}; mend them with: fifomark fsck --repair"
        if problems
        else "ledger and folders agree",
        file=sys.stderr,
    )
    return Exit.NO if problems else Exit.FINE


def _problems(layout: Layout) -> list[Problem]:
    ledger = open_ledger(layout)
    if ledger is None:
        return []
    with ledger:
        return list(check(layout, ledger))


def _repair(root: SpoolOption, json: bool) -> int:
    from fifomark.daemon.repair import repair
    from fifomark.ledger.ledger import Ledger
    from fifomark.spool.lock import held
    from fifomark.spool.spool import Spool

    spool = Spool(root)
    left = mended = 0
    with held(spool.layout), Ledger(spool.layout.ledger) as ledger:
        for problem, remedy in repair(spool, ledger, time.time()):
            mended, left = mended + (remedy is not None), left + (remedy is None)
            if json:
                json_line({"problem": problem, "remedy": remedy})
            else:
                print(f"{_line(problem)}: {remedy or 'cannot be mended'}")
    print(f"{mended} mended, {left} left" if mended or left else "ledger and folders agree", file=sys.stderr)
    return Exit.NO if left else Exit.FINE


def _rebuild(root: SpoolOption) -> None:
    from fifomark.daemon.rebuild import rebuild
    from fifomark.spool.lock import held
    from fifomark.spool.spool import Spool

    spool = Spool(root)
    with held(spool.layout):
        for line in rebuild(spool, time.time()):
            print(line, file=sys.stderr)


def _line(problem: Problem) -> str:
    where = [f"{problem.id:08d}"] if problem.id is not None else []
    return ": ".join([*where, *([shown(problem.path)] if problem.path else []), problem.message])
