"""`fifomark submit`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from fifomark.cli.options import DEFAULT_SPOOL, JsonOption, SpoolOption
from fifomark.cli.output import json_line
from fifomark.core.errors import UsageError
from fifomark.core.inspection import MAX_PATH
from fifomark.core.text import shown
from fifomark.spool.intake import is_passed_over
from fifomark.spool.spool import Spool, drop


def submit(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="The files to drop.")],
    rubric: Annotated[str, typer.Option(help="The rubric to be marked against; without it, the spool's default one.")] = "",
    spool: SpoolOption = DEFAULT_SPOOL,
    json: JsonOption = False,
) -> None:
    target = Spool(spool)
    if rubric and rubric not in target.rubrics():
        raise UsageError(f"--rubric {rubric}: no such rubric; rubrics here: {', '.join(target.rubrics())}")
    for file in files:
        name = shown(os.fspath(file), MAX_PATH)
        if not file.is_file():
            raise UsageError(f"{name}: no such file")
        if is_passed_over(file.name):
            raise UsageError(f"{name}: a file of this name is taken for an unfinished upload and never looked at; give it another name")
    for file in files:
        try:
            dropped = shown(drop(target.layout, os.fspath(file), rubric), MAX_PATH)
        except FileExistsError as e:
            raise UsageError(
                f"{shown(file.name)}: a file of that name is waiting already; give yours another name, or delete that one"
            ) from e
        if json:
            json_line({"file": shown(os.fspath(file), MAX_PATH), "incoming": dropped})
        else:
            print(f"submitted {dropped}")
