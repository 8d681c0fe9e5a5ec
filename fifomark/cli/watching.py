"""`fifomark status --watch`: the table again and again, on a screen of its own."""

from __future__ import annotations

import signal
import sys
import time
from pathlib import Path

from fifomark.cli.exits import Exit
from fifomark.cli.stops import Stopped
from fifomark.core.errors import UsageError
from fifomark.daemon.look import look
from fifomark.reports import tables

_EVERY = 1.0  # seconds


def watch(spool: Path) -> int:
    """Until Ctrl-C, which is how one leaves; the terminal is then as it was before."""
    if not sys.stdout.isatty():
        raise UsageError("--watch needs a terminal; for programs there is --json")
    from rich.console import Console
    from rich.live import Live
    from rich.text import Text

    shown = Text(tables.status(look(spool)), no_wrap=True, overflow="ellipsis")  # before the screen is taken: there may be no spool
    try:
        with Live(shown, console=Console(), screen=True, auto_refresh=False) as live:
            while True:
                live.update(Text(_text(spool), no_wrap=True, overflow="ellipsis"), refresh=True)
                time.sleep(_EVERY)
    except Stopped as stopped:
        if stopped.number != signal.SIGINT:
            raise
    return Exit.FINE


def _text(spool: Path) -> str:
    return f"{tables.status(look(spool))}\n\n{time.strftime('%H:%M:%S')}, every second; Ctrl-C ends this"
