"""`fifomark serve`."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from fifomark.cli.options import DEFAULT_SPOOL, SpoolOption
from fifomark.reports.tables import ended

if TYPE_CHECKING:
    from fifomark.daemon.daemon import Daemon


def serve(spool: SpoolOption = DEFAULT_SPOOL) -> None:
    from fifomark.daemon.service import run

    greeting = [f"serving {spool}; drop files into {spool / 'incoming'}; stop with Ctrl-C or SIGTERM"]

    def on_turn(daemon: Daemon) -> None:
        """One line for each submission that has ended, after one that says that the spool is ours."""
        for line in (*greeting, *map(ended, daemon.settled)):
            print(line, file=sys.stderr, flush=True)
        greeting.clear()

    run(spool, "serve", on_turn)
    print("stopped; what was in hand waits where it was", file=sys.stderr)
