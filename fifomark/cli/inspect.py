"""`fifomark inspect`."""

from __future__ import annotations

import os
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from fifomark.cli.exits import Exit
from fifomark.core.errors import UsageError
from fifomark.core.inspection import Inspection
from fifomark.reports import tables


class Format(StrEnum):
    TABLE = "table"
    JSON = "json"


def inspect(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="The files to look at.")],
    format: Annotated[Format, typer.Option(help="json: one object a file and line.")] = Format.TABLE,
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
            if format is Format.JSON:
                sys.stdout.buffer.write(line(seen) + b"\n")
            else:
                print(tables.inspection(seen))
    return Exit.NO if refused else Exit.FINE


def line(seen: Inspection) -> bytes:
    """One object of `fifomark.inspection/1`."""
    return msgspec.json.encode({"schema": "fifomark.inspection/1", **msgspec.to_builtins(seen)})
