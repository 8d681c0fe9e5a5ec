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

    print(f"serving {spool}; drop files into {spool / 'incoming'}; stop with Ctrl-C or SIGTERM", file=sys.stderr)
    run(spool, "serve", _log)
    print("stopped; what was in hand waits where it was", file=sys.stderr)


def _log(daemon: Daemon) -> None:
    """One line for each submission that has ended."""
    for row in daemon.settled:
        print(ended(row), file=sys.stderr, flush=True)
