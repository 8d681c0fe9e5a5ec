"""`fifomark inspect`."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from contextlib import closing
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from fifomark.cli import options
from fifomark.cli.exits import Exit
from fifomark.cli.options import ExtensionsOption, JsonOption
from fifomark.cli.output import json_line
from fifomark.cli.progress import counted
from fifomark.cli.streams import say
from fifomark.core.errors import UsageError
from fifomark.core.findings import Level
from fifomark.core.inspection import MAX_PATH, Inspection
from fifomark.core.policy import Isolation, Policy
from fifomark.core.text import shown
from fifomark.sanitizer.opening import is_missing

if TYPE_CHECKING:
    from fifomark.sanitizer.sanitizer import Job, Sanitizer


class Format(StrEnum):
    TABLE = "table"
    JSON = "json"
    SARIF = "sarif"


class FailOn(StrEnum):
    NOTE = "note"
    WARNING = "warning"
    INVALID = "invalid"
    UNSAFE = "unsafe"
    NEVER = "never"


def inspect(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", readable=False, help="The files to look at.")],
    format: Annotated[
        Format, typer.Option(help="json: one object a file and line; sarif: one SARIF 2.1.0 log of all files, at the end.")
    ] = Format.TABLE,
    fail_on: Annotated[FailOn, typer.Option(help="Exit with 1 where a file has a finding of this level or a higher one.")] = FailOn.INVALID,
    isolation: Annotated[
        Isolation,
        typer.Option(help="submission: a process of its own reads each file; batch: one reads up to 120 small ones, which is faster."),
    ] = Isolation.SUBMISSION,
    extension: ExtensionsOption = [".pt"],  # noqa: B006 (typer makes it anew)
    json: JsonOption = False,
) -> int:
    chosen = options.chosen(format, json)
    for file in files:
        if is_missing(file):
            raise UsageError(f"{shown(str(file), MAX_PATH)}: no such file")
    from fifomark.sanitizer.sanitizer import Job, Sanitizer

    sanitizer = Sanitizer(policy=Policy(extensions=tuple(extension)), isolation=isolation)
    sanitizer.launch()
    from fifomark.reports import tables  # while the writer starts

    answers = _inspected(sanitizer, map(Job, files))
    if chosen is Format.SARIF or not sys.stdout.isatty():  # results that come by on a terminal are progress enough
        answers = counted("inspecting", answers, len(files))
    code = Exit.FINE
    logged: list[tuple[Path, Inspection]] = []
    for file, answer in zip(files, answers, strict=True):
        code = max(code, _code(answer, fail_on))
        if not isinstance(answer, Inspection):
            say(f"{shown(str(file), MAX_PATH)}: {answer}")
        elif chosen is Format.SARIF:
            logged.append((file, answer))
        elif chosen is Format.JSON:
            json_line(as_object(answer))
        else:
            print(tables.inspection(answer))
    if chosen is Format.SARIF:
        from fifomark.reports import sarif

        json_line(sarif.log(logged))
    return code


def _inspected(sanitizer: Sanitizer, jobs: Iterable[Job]) -> Iterator[Inspection | Exception]:
    """In the place of a file that we failed over: why."""
    with closing(sanitizer):  # it need not be ready to be asked
        yield from sanitizer.inspect_all(jobs)


def _code(answer: Inspection | Exception, fail_on: FailOn) -> Exit:
    if not isinstance(answer, Inspection):
        return Exit.INTERNAL
    fails = fail_on is not FailOn.NEVER and any(finding.level.rank >= Level(fail_on).rank for finding in answer.findings)
    return Exit.NO if fails else Exit.FINE


def as_object(seen: Inspection) -> dict[str, object]:
    """What `fifomark.inspection/1` says of a file."""
    return {"schema": "fifomark.inspection/1", **msgspec.to_builtins(seen)}
