"""`fifomark init`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fifomark.cli.options import DEFAULT_SPOOL


def init(
    spool: Annotated[Path, typer.Argument(metavar="[SPOOL]", envvar="FIFOMARK_SPOOL", help="The folder to make.")] = DEFAULT_SPOOL,
) -> None:
    from fifomark.daemon.new import make_spool

    made = make_spool(spool)
    print(f"{spool}: " + ("a spool with the example rubric 'digits'" if made else "is a spool already; what was missing has been added"))
    print(f"drop .pt files into {spool / 'incoming'}, then run: fifomark drain --spool {spool}")
