"""`fifomark drain`."""

from __future__ import annotations

import logging
from typing import Annotated

import typer

from fifomark.cli.exits import Exit, stopped_by
from fifomark.cli.options import DEFAULT_SPOOL, SpoolOption
from fifomark.cli.progress import queue_bar
from fifomark.cli.serve import LogFormatOption
from fifomark.cli.streams import say
from fifomark.core.errors import SpoolHeld


def drain(
    spool: SpoolOption = DEFAULT_SPOOL,
    if_free: Annotated[
        bool,
        typer.Option(
            "--if-free", help="Leave with 0 and without a word where another holds the spool, or a file is still written: for cron."
        ),
    ] = False,
    log_format: LogFormatOption = None,
) -> int:
    """Says what goes wrong; every move of a submission as well where a form for the log is asked for."""
    from fifomark.daemon.service import run

    level = logging.WARNING if log_format is None else logging.INFO
    try:
        with queue_bar() as on_turn:
            ending = run(spool, "drain", on_turn, log_format=log_format, log_level=level)
    except SpoolHeld:
        if if_free:
            return Exit.FINE
        raise
    if ending.paused and not if_free:
        say(f"paused {ending.paused}: nothing new was started; go on with: fifomark resume")
    if ending.held and not if_free:
        say(f"{ending.held} held: fifomark status says why, fifomark release ID lets one go on")
    for name in () if if_free else ending.unsettled:
        say(f"left for the next time: {name!r} is still being written")
    if not ending.idle and ending.signal is not None:
        say("stopped before everything was marked; what is left waits for the next drain")
        return stopped_by(ending.signal)
    return Exit.FINE
