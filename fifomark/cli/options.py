"""Options that several verbs share."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, TypeVar

import typer

from fifomark.core.errors import UsageError


def _with_its_dot(extensions: list[str]) -> list[str]:
    for extension in extensions:
        if len(extension) < 2 or not extension.startswith("."):
            raise UsageError(f"--extension {extension!r}: is no ending; write it with its dot: --extension .pt")
    return extensions


SpoolOption = Annotated[Path, typer.Option("--spool", envvar="FIFOMARK_SPOOL", help="The spool folder.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]
IdsArgument = Annotated[list[int], typer.Argument(metavar="ID...", min=1, help="Ids of submissions, as status shows them.")]
ExtensionsOption = Annotated[
    list[str],
    typer.Option(
        "--extension",
        metavar=".EXT",
        callback=_with_its_dot,
        help="An ending that a model's name may have; may be given several times.",
    ),
]
DEFAULT_SPOOL = Path("spool")
F = TypeVar("F", bound=StrEnum)


def chosen(format: F, json: bool) -> F:
    """The format to print in; UsageError where `--json` and another one are asked for."""
    kind = type(format)
    if not json:
        return format
    if format not in (kind("table"), kind("json")):
        raise UsageError(f"--json and --format {format}: say one of them")
    return kind("json")
