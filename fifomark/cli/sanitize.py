"""`fifomark sanitize`."""

from __future__ import annotations

import os
import sys
from contextlib import closing
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from fifomark.cli.exits import Exit
from fifomark.cli.options import ExtensionsOption, JsonOption
from fifomark.cli.output import json_line
from fifomark.core.errors import UsageError
from fifomark.core.inspection import MAX_PATH
from fifomark.core.policy import Policy
from fifomark.core.text import shown
from fifomark.sanitizer.opening import is_missing


class Format(StrEnum):
    PT = "pt"
    SAFETENSORS = "safetensors"


def sanitize(
    file: Annotated[Path, typer.Argument(metavar="FILE", readable=False, help="The file to take the weights from.")],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="OUT", readable=False, help="Where to write the clean file.")],
    disarm: Annotated[bool, typer.Option("--disarm", help="Drop what could run and keep the weights, instead of refusing.")] = False,
    format: Annotated[
        Format | None, typer.Option(help="Of the clean file; without it, OUT's ending says: .safetensors, or else .pt.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace OUT where it exists.")] = False,
    extension: ExtensionsOption = [".pt"],  # noqa: B006 (typer makes it anew)
    json: JsonOption = False,
) -> int:
    from fifomark.cli.inspect import as_object
    from fifomark.sanitizer.sanitizer import Sanitizer

    target = shown(os.fspath(output), MAX_PATH)
    if is_missing(file):
        raise UsageError(f"{shown(os.fspath(file), MAX_PATH)}: no such file")
    if output.is_dir():  # so is "", which stands for the working folder
        raise UsageError(f"{target}: is a folder; give the clean file a name, as in {os.path.join(target, 'clean.pt')}")
    if os.path.lexists(output) and not force:
        raise UsageError(f"{target}: exists already; choose another name, or replace it with --force")
    if os.path.lexists(output) and not (output.is_file() and not output.is_symlink()):
        raise UsageError(f"{target}: is there and is no regular file; it is not replaced")
    if not output.absolute().parent.is_dir():
        raise UsageError(f"{target}: its folder does not exist")
    sanitizer = Sanitizer(policy=Policy(extensions=tuple(extension), on_unsafe="disarm" if disarm else "reject"))
    sanitizer.launch()
    from fifomark.reports import tables  # while the writer starts

    with closing(sanitizer):  # it need not be ready to be asked
        form = format or (Format.SAFETENSORS if output.suffix == ".safetensors" else Format.PT)
        seen = sanitizer.inspect(file, clean_to=os.fspath(output), format=form.value)
    if json:
        json_line(as_object(seen))
    else:
        print(tables.inspection(seen))
    if seen.clean is None:
        print(f"{target} was not written", file=sys.stderr)
        return Exit.NO
    print(f"wrote {target} ({seen.clean.size:,} bytes)", file=sys.stderr)
    return Exit.FINE
