"""`fifomark status`: reads the ledger and the lock; never torch, never the daemon."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from fifomark.cli.exits import Exit
from fifomark.cli.options import DEFAULT_SPOOL, JsonOption, SpoolOption
from fifomark.cli.output import json_line
from fifomark.core.errors import UsageError
from fifomark.daemon.look import look
from fifomark.reports import tables


def status(
    spool: SpoolOption = DEFAULT_SPOOL,
    watch: Annotated[bool, typer.Option("--watch", help="Show it again every second, until Ctrl-C.")] = False,
    prometheus: Annotated[bool, typer.Option("--prometheus", help="Print metrics in the text format of Prometheus.")] = False,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="With --prometheus: write them there, whole or not at all.")
    ] = None,
    json: JsonOption = False,
) -> int:
    if watch + prometheus + json > 1:
        raise UsageError("--watch, --prometheus and --json: say one of them")
    if output is not None and not prometheus:
        raise UsageError("--output is for --prometheus; print anything else to a file with >")
    if watch:
        from fifomark.cli.watching import watch as show

        return show(spool)
    if prometheus:
        _metrics(spool, output)
    elif json:
        json_line(look(spool))
    else:
        print(tables.status(look(spool)))
    return Exit.FINE


def _metrics(spool: Path, output: Path | None) -> None:
    from fifomark.daemon.measuring import measure
    from fifomark.reports.prometheus import render
    from fifomark.spool.moves import publishing, write_all

    text = render(measure(spool))
    if output is None:
        sys.stdout.write(text)
        return
    with publishing(str(output.absolute())) as fd:
        write_all(fd, text.encode())
