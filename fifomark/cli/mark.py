"""`fifomark mark`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import msgspec
import typer

from fifomark.cli.exits import Exit
from fifomark.cli.options import ExtensionsOption, JsonOption
from fifomark.cli.output import json_line
from fifomark.cli.progress import pulsing
from fifomark.core.errors import UsageError
from fifomark.core.policy import Policy
from fifomark.core.report import Report
from fifomark.core.states import State
from fifomark.core.text import shown
from fifomark.sanitizer.opening import is_missing


def mark(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", readable=False, help="The models to mark.")],
    rubric: Annotated[Path, typer.Option(metavar="R", help="The rubric: its folder, or its rubric.toml.")],
    slot: Annotated[
        str | None, typer.Option(metavar="SLOT", help="Where to run: cpu, cpu:2 (two threads), cuda:0. The first found.")
    ] = None,
    extension: ExtensionsOption = [".pt"],  # noqa: B006 (typer makes it anew)
    json: JsonOption = False,
) -> int:
    from fifomark.daemon.single import Marker
    from fifomark.reports import tables

    for file in files:
        if is_missing(file):
            raise UsageError(f"{shown(str(file))}: no such file")
    worst = Exit.FINE
    with Marker(rubric, policy=Policy(extensions=tuple(extension)), slot=slot) as marker:
        for file in files:
            with pulsing(f"marking {file.name}"):
                report = marker.mark(file)
            json_line(msgspec.to_builtins(report)) if json else print(tables.report(report))
            worst = max(worst, _answer(report))
    return worst


def _answer(report: Report) -> Exit:
    if report.state is State.FAILED and report.reason.code == "internal-error":
        return Exit.INTERNAL
    return Exit.FINE if report.grade is not None and report.grade.passed else Exit.NO
