"""`fifomark inspect`."""

from __future__ import annotations

import os
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from fifomark.cli.exits import Exit
from fifomark.cli.options import JsonOption
from fifomark.cli.output import json_line
from fifomark.core.errors import UsageError
from fifomark.core.inspection import Inspection
from fifomark.reports import tables


class Format(StrEnum):
    TABLE = "table"
    JSON = "json"


def inspect(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="The files to look at.")],
    format: Annotated[Format, typer.Option(help="json: one object a file and line.")] = Format.TABLE,
    json: JsonOption = False,
) -> int:
    from fifomark.sanitizer.sanitizer import Sanitizer

    for file in files:
        if not os.path.lexists(file):
            raise UsageError(f"{file}: no such file")
    refused = False
    with Sanitizer() as sanitizer:
        for file in files:
            seen = sanitizer.inspect(file)
            refused |= seen.verdict.refuses
            if json or format is Format.JSON:
                json_line(as_object(seen))
            else:
                print(tables.inspection(seen))
    return Exit.NO if refused else Exit.FINE


def as_object(seen: Inspection) -> dict[str, object]:
    """What `fifomark.inspection/1` says of a file."""
    return {"schema": "fifomark.inspection/1", **msgspec.to_builtins(seen)}
